//! `orderfeed trace`: one order's whole story.

use std::fmt::Write as _;
use std::io::Write;

use clap::builder::NonEmptyStringValueParser;

use super::ask::{Asked, encoded};
use super::table::{View, orders, tame};
use super::{ConfigPlace, Failure};
use crate::admin::api::explain::{Attempt, OrderStory, Orders, StoryPayload};
use crate::admin::explain;
use crate::clock::WallTime;

/// Tell an order's whole story: what became of it for each webhook, or why it has not gone yet
///
/// Without a daemon it looks into the files.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The order's TrackingNumber
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    tracking_number: String,
    /// Print JSON, as the admin socket answers
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args, place: &ConfigPlace) -> Result<(), Failure> {
    let number = &args.tracking_number;
    let found: Orders = match Asked::find(place)? {
        Asked::Daemon(client) => client.get(&format!("/v1/orders/{}", encoded(number)))?,
        Asked::Files(mut files) => files.answer(async |ledger, ground, queue| {
            explain::orders(ledger, ground, queue, number).await
        })?,
    };
    let mut out = std::io::stdout().lock();
    if args.json {
        return super::print_json(&mut out, &found);
    }
    let view = View::stdout(WallTime::now());
    write!(out, "{}", view.paint(&shown(&found, &view)))?;
    Ok(())
}

fn shown(found: &Orders, view: &View) -> String {
    let mut text = String::new();
    if found.more {
        let _ = writeln!(
            text,
            "Only the newest {} orders with this tracking number are shown.\n",
            found.orders.len()
        );
    }
    for (index, order) in found.orders.iter().enumerate() {
        if index > 0 {
            text.push('\n');
        }
        order_story(&mut text, &found.tracking_number, order, view);
    }
    text
}

fn order_story(text: &mut String, tracking_number: &str, order: &OrderStory, view: &View) {
    let time = |text: &str| text.parse().map_or_else(|_| tame(text), |at| view.time(at));
    let _ = writeln!(
        text,
        "Order {}: {}.{}, number {} in the queue, queued {}",
        tame(tracking_number),
        order.order_type,
        tame(&order.action),
        order.seq,
        time(&order.queued_at)
    );
    if let Some(reason) = &order.set_aside {
        let _ = writeln!(text, "  can't be delivered to anyone: {}", tame(reason));
    }
    if let Some(at) = &order.withdrawn_at {
        let _ = writeln!(text, "  its producer took it back {}", time(at));
    }
    for webhook in &order.webhooks {
        let at = webhook.next_at.map(|at| format!(", at {}", view.time(at)));
        let _ = writeln!(
            text,
            "  {}: {}: {}{}",
            webhook.webhook,
            webhook.state,
            tame(&webhook.reason),
            at.unwrap_or_default()
        );
        for payload in &webhook.payloads {
            payload_story(text, payload, view);
        }
    }
}

fn payload_story(text: &mut String, story: &StoryPayload, view: &View) {
    let payload = &story.payload;
    let resend = payload
        .resend_of
        .as_ref()
        .map(|id| format!(", a resend of {id}"));
    let part = payload
        .part_of
        .as_ref()
        .map(|id| format!(", a part of {id}"));
    let _ = writeln!(
        text,
        "    {} with {}, composed {}{}{}: {}",
        payload.payload_id,
        orders(payload.items, false, &payload.order_type),
        view.time(payload.created_at),
        resend.unwrap_or_default(),
        part.unwrap_or_default(),
        payload.state
    );
    for attempt in &story.requests {
        let _ = writeln!(text, "      {}", attempt_in_words(attempt, view));
    }
}

/// An attempt on a line.
pub(super) fn attempt_in_words(attempt: &Attempt, view: &View) -> String {
    let mut text = format!(
        "attempt {} at {}: ",
        attempt.number,
        view.time(attempt.started_at)
    );
    text.push_str(match attempt.outcome.as_str() {
        "unknown" => "unknown whether it arrived",
        "interrupted" => "interrupted: unknown whether it arrived",
        "in_flight" => "under way",
        outcome => outcome,
    });
    if let Some(status) = attempt.status {
        let _ = write!(text, ", answered {status}");
    } else if let Some(phase) = &attempt.phase {
        let _ = write!(text, ", came as far as {phase}");
    }
    if let Some(ms) = attempt.duration_ms {
        let _ = write!(text, ", after {ms} ms");
    }
    if let Some(error) = &attempt.error {
        let _ = write!(text, ": {}", tame(error));
    }
    if let Some(answer) = attempt.answer.as_ref().filter(|answer| !answer.is_empty()) {
        let answer = tame(answer.trim_end());
        let end = answer.floor_char_boundary(ANSWER_BYTES_MAX);
        let cut = if end < answer.len() { "…" } else { "" };
        let _ = write!(text, ": {}{cut}", &answer[..end]);
    }
    text
}

/// Of an answer so much is shown; `--json` shows all that was kept.
const ANSWER_BYTES_MAX: usize = 300;
