//! `orderfeed webhooks`: what can be done to webhooks beside configuring them.

use std::io::Write;

use super::{ConfigPlace, Exit, Failure};
use crate::clock::Reading;
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
    /// Drop the orders that a webhook collected and no longer selects; it will never send them
    ///
    /// The daemon must be stopped.
    DropParked {
        /// The webhook's name
        name: String,
    },
}

pub(super) fn run(args: &Args, place: &ConfigPlace) -> Result<(), Failure> {
    let Command::DropParked { name } = &args.command;
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
            let names = if names.is_empty() {
                "none yet".to_owned()
            } else {
                names.join(", ")
            };
            Err(Failure::new(
                Exit::Failed,
                format!("the ledger knows no webhook {name:?}; it knows: {names}"),
            ))
        }
    }
}
