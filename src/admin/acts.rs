//! The calls that change something about payloads, webhooks and orders.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use serde::Deserialize;

use super::api::{Error, act};
use super::caller::{Caller, Rights};
use super::desk::Desk;
use super::routes::{Answer, InPath, Sent};

pub(super) async fn resend(
    State(desk): State<Desk>,
    Sent(asked): Sent<act::Resend>,
) -> Result<Answer, Error> {
    let resends = desk
        .ask(async move |operator| operator.resend(asked).await)
        .await?;
    let ids: Vec<&str> = resends
        .resends
        .iter()
        .filter_map(|resending| resending.payload_id.as_deref())
        .collect();
    let told = match (resends.dry_run, ids.as_slice()) {
        (true, _) => format!("{} payloads would be sent again", resends.resends.len()),
        (false, []) => "nothing is sent again".to_owned(),
        (false, [one]) => format!("payload {one} is sent again"),
        (false, several) => {
            let shown = &several[..several.len().min(IDS_TOLD_MAX)];
            let more = if shown.len() < several.len() {
                ", ..."
            } else {
                ""
            };
            format!(
                "{} payloads are sent again: {}{more}",
                several.len(),
                shown.join(", ")
            )
        }
    };
    Ok(Answer::of(&resends).told(told))
}

/// So many ids are told.
const IDS_TOLD_MAX: usize = 10;

pub(super) async fn discard(
    State(desk): State<Desk>,
    InPath(payload_id): InPath,
    Sent(asked): Sent<act::Discard>,
) -> Result<Answer, Error> {
    let reason = asked.reason.clone();
    let discarded = desk
        .ask(async move |operator| operator.discard(payload_id, asked).await)
        .await?;
    let told = format!("payload {} is discarded: {reason}", discarded.payload_id);
    Ok(Answer::of(&discarded).told(told))
}

/// A call that takes nothing but its path.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Nothing {}

pub(super) async fn pause(
    State(desk): State<Desk>,
    Extension(caller): Extension<Arc<Caller>>,
    InPath(webhook): InPath,
    Sent(Nothing {}): Sent<Nothing>,
) -> Result<Answer, Error> {
    let by = caller.user.clone();
    let told = desk
        .ask(async move |operator| operator.pause(webhook, by).await)
        .await?;
    Ok(Answer::of(&told).told(told.message))
}

pub(super) async fn resume(
    State(desk): State<Desk>,
    InPath(webhook): InPath,
    Sent(Nothing {}): Sent<Nothing>,
) -> Result<Answer, Error> {
    let told = desk
        .ask(async move |operator| operator.resume(webhook).await)
        .await?;
    Ok(Answer::of(&told).told(told.message))
}

pub(super) async fn retry_now(
    State(desk): State<Desk>,
    InPath(webhook): InPath,
    Sent(Nothing {}): Sent<Nothing>,
) -> Result<Answer, Error> {
    let told = desk
        .ask(async move |operator| operator.retry_now(webhook).await)
        .await?;
    Ok(Answer::of(&told).told(told.message))
}

pub(super) async fn test(
    State(desk): State<Desk>,
    InPath(webhook): InPath,
    Sent(asked): Sent<act::Test>,
) -> Result<Answer, Error> {
    let tests = desk
        .ask(async move |operator| operator.test(webhook, asked).await)
        .await?;
    let told = format!(
        "{} tests of {}, {} of them failed",
        tests.tests.len(),
        tests.webhook,
        tests.tests_failed
    );
    Ok(Answer::of(&tests).told(told))
}

pub(super) async fn withdraw(
    State(desk): State<Desk>,
    Extension(rights): Extension<Rights>,
    InPath(tracking_number): InPath,
    Sent(asked): Sent<act::Withdraw>,
) -> Result<Answer, Error> {
    let withdrawn = desk
        .ask(async move |operator| {
            let granted = rights.produces();
            operator.withdraw(tracking_number, asked, granted).await
        })
        .await?;
    let told = format!(
        "{} {} is withdrawn (seq {:?})",
        withdrawn.order_type, withdrawn.tracking_number, withdrawn.seqs
    );
    Ok(Answer::of(&withdrawn).told(told))
}
