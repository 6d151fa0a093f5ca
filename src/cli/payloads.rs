//! `orderfeed payloads`: which payloads there are.

use std::fmt::Write as _;
use std::io::Write;

use super::ask::{Asked, encoded};
use super::table::{View, moment, number, tame};
use super::{ConfigPlace, Exit, Failure};
use crate::admin::api::explain::{Payload, Payloads};
use crate::admin::explain::{self, PAGE_PAYLOADS_MAX, Wanted};
use crate::clock::WallTime;
use crate::feed::order::OrderType;
use crate::feed::payload::{PayloadId, PayloadState};

/// List payloads, newest first
///
/// Without a daemon it looks into the files. Times are how long ago ("2h"), local
/// ("2026-01-31 14:05"), or UTC ("2026-01-31T13:05:00Z").
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Only this webhook's
    #[arg(long, value_name = "NAME", add = super::complete::webhooks())]
    webhook: Option<String>,
    /// Only those in this state: pending, `in_flight`, delivered, failed, discarded
    #[arg(long, value_parser = state, add = super::complete::states())]
    state: Option<PayloadState>,
    /// Only of this order type
    #[arg(long = "type", value_name = "ORDER_TYPE", value_parser = order_type, add = super::complete::order_types())]
    order_type: Option<OrderType>,
    /// Only those with an order of this tracking number
    #[arg(long, value_name = "N")]
    tracking_number: Option<String>,
    /// Only those composed since
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only those composed before
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// So many at most
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=PAGE_PAYLOADS_MAX as i64))]
    limit: u16,
    /// Only those older than this one, as the last line says
    #[arg(long, value_name = "PAYLOAD_ID")]
    after: Option<PayloadId>,
    /// Print JSON, as the admin socket answers
    #[arg(long)]
    json: bool,
}

fn state(text: &str) -> Result<PayloadState, String> {
    let known = PayloadState::ALL
        .into_iter()
        .find(|state| state.as_str() == text);
    let words = PayloadState::ALL.map(PayloadState::as_str).join(", ");
    known.ok_or_else(|| format!("must be one of {words}"))
}

fn order_type(text: &str) -> Result<OrderType, String> {
    text.parse()
        .map_err(|_| "must be purchase_order, transfer_order or work_order".to_owned())
}

pub(super) fn run(args: &Args, place: &ConfigPlace) -> Result<(), Failure> {
    let now = WallTime::now();
    let time = |text: &Option<String>| {
        let time = text.as_ref().map(|text| moment(text, now)).transpose();
        time.map_err(|message| Failure::new(Exit::Usage, message))
    };
    let mut wanted = Wanted {
        webhook: args.webhook.clone(),
        state: args.state,
        order_type: args.order_type,
        tracking_number: args.tracking_number.clone(),
        since: time(&args.since)?,
        until: time(&args.until)?,
        limit: Some(args.limit.into()),
        after: args.after,
    };
    let mut asked = Asked::find(place)?;
    let mut found = Payloads {
        payloads: Vec::new(),
        next: None,
    };
    // A page may be shorter than what there is: what one call looks at is bounded.
    loop {
        let page: Payloads = match &mut asked {
            Asked::Daemon(client) => client.get(&format!("/v1/payloads?{}", query(&wanted)))?,
            Asked::Files(files) => files.answer(async |ledger, ground, queue| {
                explain::payloads(ledger, ground, queue, &wanted).await
            })?,
        };
        found.payloads.extend(page.payloads);
        found.next = page.next;
        let left = usize::from(args.limit).saturating_sub(found.payloads.len());
        wanted.after = found.next.as_ref().and_then(|id| id.parse().ok());
        wanted.limit = Some(left);
        if left == 0 || wanted.after.is_none() {
            break;
        }
    }
    let mut out = std::io::stdout().lock();
    if args.json {
        return super::print_json(&mut out, &found);
    }
    let view = View::stdout(now);
    write!(out, "{}", view.paint(&shown(&found, &view)))?;
    Ok(())
}

fn query(wanted: &Wanted) -> String {
    let pairs = [
        ("webhook", wanted.webhook.clone()),
        ("state", wanted.state.map(|state| state.as_str().to_owned())),
        (
            "type",
            wanted.order_type.map(|order_type| order_type.to_string()),
        ),
        ("tracking_number", wanted.tracking_number.clone()),
        ("since", wanted.since.map(|time| time.to_string())),
        ("until", wanted.until.map(|time| time.to_string())),
        ("limit", wanted.limit.map(|limit| limit.to_string())),
        ("after", wanted.after.map(|id| id.to_string())),
    ];
    let given = pairs
        .into_iter()
        .filter_map(|(name, value)| Some(format!("{name}={}", encoded(&value?))));
    given.collect::<Vec<_>>().join("&")
}

fn shown(found: &Payloads, view: &View) -> String {
    if found.payloads.is_empty() {
        return "There are no such payloads.\n".to_owned();
    }
    let row = |payload: &Payload| {
        vec![
            payload.payload_id.clone(),
            payload.webhook.clone(),
            format!("{}.{}", payload.order_type, payload.action),
            number(payload.items, false),
            payload.state.clone(),
            payload.attempts.to_string(),
            view.time(payload.created_at),
            payload.next_at.map_or_else(
                || payload.reason.as_deref().map(tame).unwrap_or_default(),
                |at| {
                    format!(
                        "{}; again {}",
                        payload.reason.as_deref().map(tame).unwrap_or_default(),
                        view.time(at)
                    )
                },
            ),
        ]
    };
    let header = [
        "PAYLOAD", "WEBHOOK", "EVENT", "ORDERS", "STATE", "ATTEMPTS", "COMPOSED", "WHY",
    ];
    let mut text = view.table(&header, &[3, 5], found.payloads.iter().map(row).collect());
    if let Some(next) = &found.next {
        let _ = writeln!(text, "\nThere may be more: --after {next}");
    }
    text
}
