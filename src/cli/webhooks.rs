//! `orderfeed webhooks`: what can be done to webhooks beside configuring them.

use std::io::Write;

use super::ask::{Asked, encoded};
use super::table::{View, number, tame};
use super::{ConfigPlace, Exit, Failure, status};
use crate::admin::api::Error;
use crate::admin::api::explain::{Webhook, Webhooks};
use crate::admin::explain;
use crate::clock::{Reading, WallTime};
use crate::store::ledger::{Ledger, WebhookId};
use crate::store::queue::Queue;

/// What can be done to webhooks beside configuring them
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List the webhooks: where each stands and why, and what happens next
    ///
    /// Without a daemon it looks into the files.
    List {
        /// Print JSON, as the admin socket answers
        #[arg(long)]
        json: bool,
    },
    /// Show one webhook
    ///
    /// Without a daemon it looks into the files.
    Show {
        /// The webhook's name
        #[arg(add = super::complete::webhooks())]
        name: String,
        /// Print JSON, as the admin socket answers
        #[arg(long)]
        json: bool,
    },
    /// Drop the orders that a webhook collected and no longer selects; it will never send them
    ///
    /// The daemon must be stopped.
    DropParked {
        /// The webhook's name
        #[arg(add = super::complete::webhooks())]
        name: String,
    },
}

pub(super) fn run(args: &Args, place: &ConfigPlace) -> Result<(), Failure> {
    match &args.command {
        Command::List { json } => list(*json, place),
        Command::Show { name, json } => show(name, *json, place),
        Command::DropParked { name } => drop_parked(name, place),
    }
}

fn list(json: bool, place: &ConfigPlace) -> Result<(), Failure> {
    let found: Webhooks = match Asked::find(place)? {
        Asked::Daemon(client) => client.get("/v1/webhooks")?,
        Asked::Files(mut files) => files.answer(explain::webhooks)?,
    };
    let mut out = std::io::stdout().lock();
    if json {
        return super::print_json(&mut out, &found);
    }
    let view = View::stdout(WallTime::now());
    let text = if found.webhooks.is_empty() {
        "No webhook is configured.\n".to_owned()
    } else {
        status::webhooks(&found.webhooks, &view)
    };
    write!(out, "{}", view.paint(&text))?;
    Ok(())
}

fn show(name: &str, json: bool, place: &ConfigPlace) -> Result<(), Failure> {
    let webhook: Webhook = match Asked::find(place)? {
        Asked::Daemon(client) => client.get(&format!("/v1/webhooks/{}", encoded(name)))?,
        Asked::Files(mut files) => files.answer(async |ledger, ground, queue| {
            explain::webhook(ledger, ground, queue, name).await
        })?,
    };
    let mut out = std::io::stdout().lock();
    if json {
        return super::print_json(&mut out, &webhook);
    }
    let view = View::stdout(WallTime::now());
    write!(out, "{}", view.paint(&shown(&webhook, &view)))?;
    Ok(())
}

/// One webhook, a line a thing.
fn shown(webhook: &Webhook, view: &View) -> String {
    let or_more = |name: &str| webhook.or_more.iter().any(|cut| cut == name);
    let reason = webhook
        .reason
        .as_deref()
        .map(|reason| format!(": {}", tame(reason)));
    let filter: Vec<String> = webhook
        .filter
        .iter()
        .map(|(field, values)| format!("{field} is one of: {}", values.join(", ")))
        .collect();
    let error = webhook.last_error.as_deref().zip(webhook.last_error_at);
    let lines = [
        ("webhook", webhook.name.clone()),
        (
            "url",
            webhook
                .url
                .clone()
                .unwrap_or_else(|| "- (not configured any more)".to_owned()),
        ),
        ("triggers", webhook.triggers.join(", ")),
        (
            "filter",
            if filter.is_empty() {
                "-".to_owned()
            } else {
                filter.join("; ")
            },
        ),
        (
            "state",
            format!("{}{}", webhook.state, reason.unwrap_or_default()),
        ),
        ("since", view.maybe(webhook.since)),
        ("next", status::next(webhook, view)),
        ("waiting", number(webhook.waiting, or_more("waiting"))),
        ("parked", number(webhook.parked, or_more("parked"))),
        ("failed", number(webhook.failed, or_more("failed"))),
        ("last success", view.maybe(webhook.last_success_at)),
        (
            "last error",
            error.map_or_else(
                || "-".to_owned(),
                |(what, at)| format!("{}, {}", tame(what), view.time(at)),
            ),
        ),
    ];
    let lines = lines.map(|(name, value)| format!("{:<13} {value}\n", format!("{name}:")));
    lines.concat()
}

fn drop_parked(name: &str, place: &ConfigPlace) -> Result<(), Failure> {
    let config = place.load()?;
    let mut ledger = Ledger::open(&config.ledger.path, &Reading::take())?;
    let mut queue = Queue::open(&config.queue.path)?;
    queue.look(ledger.clock().now())?;
    ledger.agree_with(&queue)?;
    let webhook_id = find(&ledger, name)?;
    let selections = ledger.selections(webhook_id)?;
    let lane = ledger.lane(webhook_id)?;
    let mut dropped = 0;
    for (order_type, place) in lane.places.iter() {
        if !selections.covers(order_type) {
            dropped += queue
                .survey(order_type, place.cursor, &selections, u64::MAX)?
                .parked;
        }
    }
    dropped += ledger.drop_parked(webhook_id, queue.newest_noticed())?;
    writeln!(std::io::stdout(), "{name}: {dropped} parked orders dropped")?;
    Ok(())
}

/// The webhook of this name, or which there are.
pub(super) fn find(ledger: &Ledger, name: &str) -> Result<WebhookId, Failure> {
    let webhooks = ledger.webhooks()?;
    match webhooks.iter().find(|webhook| webhook.1 == name) {
        Some((webhook_id, _)) => Ok(*webhook_id),
        None => {
            let names: Vec<_> = webhooks.into_iter().map(|webhook| webhook.1).collect();
            let error = Error::no_webhook(name, &names);
            Err(Failure::new(Exit::Failed, error.message))
        }
    }
}
