//! `orderfeed show`: one payload, its attempts, or its very bytes.

use std::fmt::Write as _;
use std::io::Write;

use serde::Serialize;

use super::ask::Asked;
use super::table::{View, orders, tame};
use super::trace::attempt_in_words;
use super::{ConfigPlace, Failure};
use crate::admin::api::explain::{Attempt, Attempts, Payload};
use crate::admin::explain;
use crate::clock::WallTime;
use crate::feed::payload::PayloadId;

/// Show a payload with each of its attempts, or the bytes that it is made of
///
/// Without a daemon it looks into the files.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The payload's id: `pl_` and 26 characters
    #[arg(add = super::complete::payloads())]
    payload_id: PayloadId,
    /// Print the body, byte for byte as it is sent (before it is compressed), and nothing else
    #[arg(long)]
    body: bool,
    /// Print JSON, as the admin socket answers
    #[arg(long, conflicts_with = "body")]
    json: bool,
}

/// With `--json`: both of the socket's answers.
#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    payload: Payload,
    /// Each request; `attempts` is their number.
    requests: Vec<Attempt>,
}

pub(super) fn run(args: &Args, place: &ConfigPlace) -> Result<(), Failure> {
    let id = args.payload_id;
    let mut asked = Asked::find(place)?;
    let mut out = std::io::stdout().lock();
    if args.body {
        let body = match &mut asked {
            Asked::Daemon(client) => client.get_bytes(&format!("/v1/payloads/{id}/body"))?,
            Asked::Files(files) => {
                files.answer(async |ledger, _, queue| explain::body(ledger, queue, id).await)?
            }
        };
        out.write_all(&body)?;
        out.flush()?;
        return Ok(());
    }
    let payload: Payload = match &mut asked {
        Asked::Daemon(client) => client.get(&format!("/v1/payloads/{id}"))?,
        Asked::Files(files) => {
            files.answer(async |ledger, ground, _| explain::payload(ledger, ground, id).await)?
        }
    };
    let attempts: Attempts = match &mut asked {
        Asked::Daemon(client) => client.get(&format!("/v1/payloads/{id}/attempts"))?,
        Asked::Files(files) => {
            files.answer(async |ledger, ground, _| explain::attempts(ledger, ground, id).await)?
        }
    };
    let found = Shown {
        payload,
        requests: attempts.attempts,
    };
    if args.json {
        return super::print_json(&mut out, &found);
    }
    let view = View::stdout(WallTime::now());
    write!(out, "{}", view.paint(&shown(&found, &view)))?;
    Ok(())
}

fn shown(found: &Shown, view: &View) -> String {
    let payload = &found.payload;
    let mut text = format!(
        "{}: {} ({}.{}) for {}\n",
        payload.payload_id,
        orders(payload.items, false, &payload.order_type),
        payload.order_type,
        tame(&payload.action),
        payload.webhook
    );
    let reason = payload
        .reason
        .as_deref()
        .map(|reason| format!(": {}", tame(reason)));
    let _ = writeln!(
        text,
        "  state:    {}{}",
        payload.state,
        reason.unwrap_or_default()
    );
    let _ = writeln!(text, "  composed: {}", view.time(payload.created_at));
    if let Some(at) = payload.settled_at {
        let _ = writeln!(text, "  settled:  {}", view.time(at));
    }
    if let Some(at) = payload.next_at {
        let _ = writeln!(text, "  again:    {}", view.time(at));
    }
    if let Some(id) = &payload.resend_of {
        let _ = writeln!(text, "  resends:  {id}");
    }
    if let Some(id) = &payload.part_of {
        let _ = writeln!(text, "  part of:  {id}");
    }
    for attempt in &found.requests {
        let _ = writeln!(text, "  {}", attempt_in_words(attempt, view));
    }
    text
}
