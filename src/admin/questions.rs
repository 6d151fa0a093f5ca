//! The calls that only ask: where things stand, and what became of payloads and orders.

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use serde::Deserialize;
use tokio::sync::Mutex;

use super::api::Error;
use super::desk::Desk;
use super::explain::{self, Ground, LedgerAlone, PAGE_PAYLOADS_MAX, Wanted, reconcile};
use super::routes::{Answer, InPath};
use crate::clock::WallTime;
use crate::feed::order::{OrderType, Seq};
use crate::feed::payload::{PayloadId, PayloadState};

pub(super) async fn status(State(desk): State<Desk>) -> Result<Answer, Error> {
    let ground = Ground::of(&desk).await?;
    let mut queue = ground.queue()?;
    let status = explain::status(&desk, &ground, &mut queue).await?;
    Ok(Answer::of(&status))
}

pub(super) async fn webhooks(State(desk): State<Desk>) -> Result<Answer, Error> {
    let ground = Ground::of(&desk).await?;
    let mut queue = ground.queue()?;
    let webhooks = explain::webhooks(&desk, &ground, &mut queue).await?;
    Ok(Answer::of(&webhooks))
}

pub(super) async fn webhook(
    State(desk): State<Desk>,
    InPath(name): InPath,
) -> Result<Answer, Error> {
    let ground = Ground::of(&desk).await?;
    let mut queue = ground.queue()?;
    let webhook = explain::webhook(&desk, &ground, &mut queue, &name).await?;
    Ok(Answer::of(&webhook))
}

/// What stands behind the `?` of `GET /v1/payloads`, as it came.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PayloadsQuery {
    webhook: Option<String>,
    state: Option<String>,
    #[serde(rename = "type")]
    order_type: Option<String>,
    tracking_number: Option<String>,
    since: Option<String>,
    until: Option<String>,
    limit: Option<String>,
    after: Option<String>,
}

impl PayloadsQuery {
    fn understood(self) -> Result<Wanted, Error> {
        let state = self.state.map(|text| parsed("state", &text, state_of));
        let order_type = self.order_type.map(|text| {
            parsed("type", &text, |text| {
                text.parse::<OrderType>().map_err(|error| error.to_string())
            })
        });
        let limit = self.limit.map(|text| {
            let allowed = format!("must be a number from 1 to {PAGE_PAYLOADS_MAX}");
            parsed("limit", &text, |text| match text.parse() {
                Ok(limit @ 1..=PAGE_PAYLOADS_MAX) => Ok(limit),
                Ok(_) | Err(_) => Err(allowed.clone()),
            })
        });
        let after = self
            .after
            .map(|text| parsed("after", &text, str::parse::<PayloadId>));
        Ok(Wanted {
            webhook: self.webhook,
            state: state.transpose()?,
            order_type: order_type.transpose()?,
            tracking_number: self.tracking_number,
            since: time("since", self.since)?,
            until: time("until", self.until)?,
            limit: limit.transpose()?,
            after: after.transpose()?,
        })
    }
}

fn state_of(text: &str) -> Result<PayloadState, String> {
    let known = PayloadState::ALL.into_iter();
    let words: Vec<_> = known.clone().map(PayloadState::as_str).collect();
    known
        .clone()
        .find(|state| state.as_str() == text)
        .ok_or_else(|| format!("must be one of {}", words.join(", ")))
}

fn time(name: &str, text: Option<String>) -> Result<Option<WallTime>, Error> {
    text.map(|text| parsed(name, &text, str::parse)).transpose()
}

fn parsed<T>(
    name: &str,
    text: &str,
    parse: impl FnOnce(&str) -> Result<T, String>,
) -> Result<T, Error> {
    parse(text).map_err(|allowed| Error::invalid(format!("{name}: {allowed}; found {text:?}")))
}

/// What stands behind the `?`, if it is what the call takes.
pub(super) type Asked<T> = Result<Query<T>, QueryRejection>;

fn asked<T>(query: Asked<T>) -> Result<T, Error> {
    match query {
        Ok(Query(query)) => Ok(query),
        Err(rejection) => Err(Error::invalid(format!(
            "what stands behind the ? is not what this call takes: {}",
            rejection.body_text()
        ))),
    }
}

pub(super) async fn payloads(
    State(desk): State<Desk>,
    query: Asked<PayloadsQuery>,
) -> Result<Answer, Error> {
    let wanted = asked(query)?.understood()?;
    let payloads = if wanted.tracking_number.is_some() {
        let ground = Ground::of(&desk).await?;
        let mut queue = ground.queue()?;
        explain::payloads(&desk, &ground, &mut queue, &wanted).await?
    } else {
        let ledger = LedgerAlone(&desk);
        let ground = Ground::of_ledger(&ledger).await?;
        let mut queue = ground.queue()?;
        explain::payloads(&ledger, &ground, &mut queue, &wanted).await?
    };
    Ok(Answer::of(&payloads))
}

fn id(text: &str) -> Result<PayloadId, Error> {
    parsed("payload_id", text, str::parse)
}

pub(super) async fn payload(
    State(desk): State<Desk>,
    InPath(payload_id): InPath,
) -> Result<Answer, Error> {
    let ledger = LedgerAlone(&desk);
    let ground = Ground::of_ledger(&ledger).await?;
    let payload = explain::payload(&ledger, &ground, id(&payload_id)?).await?;
    Ok(Answer::of(&payload))
}

pub(super) async fn attempts(
    State(desk): State<Desk>,
    InPath(payload_id): InPath,
) -> Result<Answer, Error> {
    let ledger = LedgerAlone(&desk);
    let ground = Ground::of_ledger(&ledger).await?;
    let attempts = explain::attempts(&ledger, &ground, id(&payload_id)?).await?;
    Ok(Answer::of(&attempts))
}

pub(super) async fn body(
    State(desk): State<Desk>,
    InPath(payload_id): InPath,
) -> Result<Answer, Error> {
    let ground = Ground::of(&desk).await?;
    let mut queue = ground.queue()?;
    let body = explain::body(&desk, &mut queue, id(&payload_id)?).await?;
    Ok(Answer::of_bytes(body.to_vec()))
}

pub(super) async fn orders(
    State(desk): State<Desk>,
    InPath(tracking_number): InPath,
) -> Result<Answer, Error> {
    let ground = Ground::of(&desk).await?;
    let mut queue = ground.queue()?;
    let orders = explain::orders(&desk, &ground, &mut queue, &tracking_number).await?;
    Ok(Answer::of(&orders))
}

/// What stands behind the `?` of `GET /v1/reconcile`: which orders; all of them if it is left out.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReconcileQuery {
    since: Option<String>,
    after: Option<i64>,
    up_to: Option<i64>,
}

/// One window at a time is gone over, whoever asks: each takes a good part of a second.
pub(super) type Turn = Arc<Mutex<()>>;

/// A window of the queue; `next` says where the one after it begins.
pub(super) async fn reconcile(
    State(desk): State<Desk>,
    axum::Extension(turn): axum::Extension<Turn>,
    query: Asked<ReconcileQuery>,
) -> Result<Answer, Error> {
    let query = asked(query)?;
    let since = time("since", query.since)?.map(|since| since.to_string());
    let ground = Ground::of(&desk).await?;
    let _turn = turn.lock().await;
    let mut queue = ground.queue()?;
    let mut range = reconcile::range(&queue, since.as_deref())?;
    range.after = query
        .after
        .map_or(range.after, |after| range.after.max(Seq(after)));
    range.up_to = query
        .up_to
        .map_or(range.up_to, |up_to| range.up_to.min(Seq(up_to)));
    let window = reconcile::next_window(&desk, &mut queue, range).await?;
    Ok(Answer::of(&window))
}
