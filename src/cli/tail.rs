//! `orderfeed tail`: what happens, as it happens.

use std::io::{self, Write};

use super::client::Client;
use super::{ConfigPlace, Exit, Failure, local_time};
use crate::admin::api::Event;

/// Show what happens as it happens, until Ctrl-C: orders noticed, payloads, attempts, webhooks
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Print one JSON object a line, as the admin socket sends them
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args, place: &ConfigPlace) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let client = Client::new(place)?;
    let mut stopping = false;
    client.events("/v1/stream", |data| {
        let event = serde_json::from_str(data).ok();
        stopping |= event == Some(Event::Stopping {});
        if args.json {
            writeln!(out, "{data}")?;
        } else if let Some(event) = event {
            writeln!(out, "{}", in_words(&event))?;
        }
        out.flush()?;
        Ok(())
    })?;
    let why = if stopping {
        "the daemon has stopped"
    } else {
        "the daemon is gone"
    };
    let ended = Failure::new(Exit::Unreachable, why);
    Err(ended)
}

/// An event as a line.
fn in_words(event: &Event) -> String {
    match event {
        Event::Orders { at, newest_seq } => {
            format!("{}  orders noticed, up to {newest_seq}", local_time(*at))
        }
        Event::Payload {
            at,
            webhook,
            payload_id,
            state,
            reason,
            items,
            order_type,
            action,
        } => {
            let mut line = format!(
                "{}  {webhook}: {payload_id} {}",
                local_time(*at),
                spaced(state)
            );
            if let (Some(items), Some(order_type), Some(action)) = (items, order_type, action) {
                line += &format!(", {items} {order_type}.{action}");
            }
            if let Some(reason) = reason {
                line += &format!(" ({reason})");
            }
            line
        }
        Event::Attempt {
            at,
            webhook,
            payload_id,
            number,
            duration_ms,
            phase,
            outcome,
            status,
            error,
        } => {
            let mut line = format!(
                "{}  {webhook}: {payload_id} attempt {number}: {outcome}",
                local_time(*at)
            );
            if let Some(status) = status {
                line += &format!(", answered {status}");
            } else if let Some(phase) = phase {
                line += &format!(", while {phase}");
            }
            if let Some(duration_ms) = duration_ms {
                line += &format!(", after {duration_ms} ms");
            }
            if let Some(error) = error {
                line += &format!(": {error}");
            }
            line
        }
        Event::Webhook { at, webhook, state } => format!("{}  {webhook}: {state}", local_time(*at)),
        Event::Missed { count } => format!("... {count} events were missed"),
        Event::Stopping {} => "the daemon stops".to_owned(),
    }
}

fn spaced(state: &str) -> String {
    state.replace('_', " ")
}
