//! `orderfeed resend`: payloads, or orders of them, are sent again (D20 to D23).

use std::io::Write;
use std::time::{Duration, SystemTime};

use super::client::Client;
use super::{ConfigPlace, Failure, complete, local_time};
use crate::admin::api::act::{Resend, Resending, Resends};
use crate::clock::WallTime;
use crate::feed::order::OrderType;
use crate::feed::payload::PayloadId;

/// Send a payload again, an order of it, the latest payload of an order, or all that failed
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("which").required(true).multiple(true).args(["payload_id", "tracking_number", "failed"]))]
pub(super) struct Args {
    /// This payload; with --tracking-number, only that order of it
    #[arg(add = complete::payloads(), conflicts_with = "failed")]
    payload_id: Option<PayloadId>,
    /// The latest payload that carried this order
    #[arg(long, value_name = "N", conflicts_with = "failed")]
    tracking_number: Option<String>,
    /// All payloads that failed
    #[arg(long)]
    failed: bool,
    /// Of those, the ones that failed since: 2h (ago), or 2026-01-31T23:59:59Z
    #[arg(long, value_name = "TIME", requires = "failed", value_parser = time)]
    since: Option<WallTime>,
    /// Of those, the ones that failed before: 2h (ago), or 2026-01-31T23:59:59Z
    #[arg(long, value_name = "TIME", requires = "failed", value_parser = time)]
    until: Option<WallTime>,
    /// Only to this webhook
    #[arg(long, value_name = "NAME", add = complete::webhooks(), conflicts_with = "payload_id")]
    webhook: Option<String>,
    #[arg(
        long = "type",
        value_name = "TYPE",
        add = complete::order_types(),
        conflicts_with = "payload_id",
        help = "Only orders of this type: purchase_order, transfer_order or work_order"
    )]
    order_type: Option<OrderType>,
    /// Under a new id, and made anew: for when it was made wrongly, or the receiver drops repeated ids
    #[arg(long)]
    as_new: bool,
    /// Also orders of which a later version was delivered since, which they would overwrite
    #[arg(long, conflicts_with = "skip_superseded")]
    force: bool,
    /// Without the orders of which a later version was delivered since
    #[arg(long)]
    skip_superseded: bool,
    /// Only show what would go where
    #[arg(long)]
    dry_run: bool,
    /// Print JSON, as the admin socket answers
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args, place: &ConfigPlace) -> Result<(), Failure> {
    let asked = Resend {
        payload_id: args.payload_id.map(|id| id.to_string()),
        tracking_number: args.tracking_number.clone(),
        order_type: args.order_type.map(|order_type| order_type.to_string()),
        webhook: args.webhook.clone(),
        state: args.failed.then(|| "failed".to_owned()),
        since: args.since,
        until: args.until,
        as_new: args.as_new,
        force: args.force,
        skip_superseded: args.skip_superseded,
        dry_run: args.dry_run,
    };
    let resends: Resends = Client::new(place)?.post("/v1/resend", &asked)?;
    let mut out = std::io::stdout().lock();
    if args.json {
        return super::print_json(&mut out, &resends);
    }
    for resending in &resends.resends {
        writeln!(out, "{}", in_words(resending, resends.dry_run))?;
    }
    for superseded in &resends.superseded {
        writeln!(
            out,
            "{}: order {} of {} is left out: a later version was delivered in {}",
            superseded.webhook,
            superseded.tracking_number,
            superseded.payload_id,
            superseded.by_payload_id
        )?;
    }
    for payload_id in &resends.under_way {
        writeln!(
            out,
            "{payload_id} is left out: it is on its way already, whole or in part"
        )?;
    }
    for gone in &resends.gone {
        writeln!(
            out,
            "{} is left out: {}; `orderfeed discard` settles it",
            gone.payload_id, gone.reason
        )?;
    }
    if resends.resends.is_empty() {
        writeln!(out, "nothing is sent again")?;
    }
    Ok(())
}

fn in_words(resending: &Resending, dry_run: bool) -> String {
    let goes = if dry_run { "would go" } else { "goes" };
    let what = match (&resending.payload_id, &resending.resend_of) {
        (Some(id), None) => id.clone(),
        (Some(id), Some(of)) => format!("{id}, made from {of},"),
        (None, Some(of)) => format!("a new payload, made from {of},"),
        (None, None) => "a new payload".to_owned(),
    };
    let Resending {
        webhook,
        url,
        items,
        order_type,
        action,
        ..
    } = resending;
    let mut line =
        format!("{webhook}: {what} {goes} to {url} again: {items} {order_type}.{action}");
    if resending.waits_already {
        line += "; it was to be sent again already";
    }
    if let Some(next_at) = resending.next_at {
        line += &format!("; at {}", local_time(next_at));
    }
    line
}

/// A time, or how long ago it was.
fn time(text: &str) -> Result<WallTime, String> {
    if let Ok(ago) = humantime::parse_duration(text) {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let then = now.unwrap_or_default().saturating_sub(ago);
        let ms = then.max(Duration::ZERO).as_millis();
        return Ok(WallTime(i64::try_from(ms).unwrap_or(i64::MAX)));
    }
    text.parse()
        .map_err(|_no_time| "write 2h (ago), or a time such as 2026-01-31T23:59:59Z".to_owned())
}
