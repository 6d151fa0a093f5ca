//! `orderfeed adopt-queue`: goes on with a queue that is not the one the ledger knows.

use std::io::Write;

use super::client::Client;
use super::{ConfigPlace, Exit, Failure};
use crate::admin::api;
use crate::clock::{Reading, WallTime};
use crate::store::ledger::Ledger;
use crate::store::ledger::adopt::Adopt;
use crate::store::queue::Queue;

/// Go on with a queue that was replaced or restored, or with a new ledger
///
/// A daemon that stands still because of it goes on at once; without one, the next start does.
/// Orders that were delivered before, and are sent again by this, get new payload ids.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("which").required(true).args(["resend_from", "all_new"]))]
pub(super) struct Args {
    /// Send the orders from this seq on
    #[arg(long, value_name = "SEQ", value_parser = clap::value_parser!(i64).range(1..))]
    resend_from: Option<i64>,
    /// Send all orders in the file
    #[arg(long)]
    all_new: bool,
    /// Print JSON, as the admin socket answers
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args, place: &ConfigPlace) -> Result<(), Failure> {
    let asked = api::AdoptQueue {
        resend_from: args.resend_from,
        all_new: args.all_new,
    };
    let client = Client::new(place)?;
    let runs = client.is_running();
    let adopted: api::Adopted = if runs {
        client.post("/v1/adopt-queue", &asked)?
    } else {
        by_hand(asked, place)?
    };
    let mut out = std::io::stdout().lock();
    if args.json {
        return super::print_json(&mut out, &adopted);
    }
    writeln!(
        out,
        "The ledger {} goes on with the queue {}, {}; its newest order is {}.",
        adopted.ledger,
        adopted.queue,
        match args.resend_from {
            Some(seq) => format!("from order {seq} on"),
            None => "with all orders in it".to_owned(),
        },
        adopted.newest_seq
    )?;
    for webhook in adopted.webhooks {
        let name = webhook.name;
        if let Some(pending) = webhook.pending {
            writeln!(out, "{name}: payload {pending}")?;
        }
        if let Some([first, last]) = webhook.passed {
            writeln!(
                out,
                "{name}: orders {first} to {last} are not sent to it again; this ledger is not up to date, and does not know which of them were sent"
            )?;
        }
    }
    if adopted.parked_forgotten > 0 {
        writeln!(
            out,
            "{} parked orders are no longer parked.",
            adopted.parked_forgotten
        )?;
    }
    if runs {
        writeln!(out, "The daemon sends them.")?;
    } else {
        writeln!(out, "Start the daemon to send them.")?;
    }
    Ok(())
}

/// Without a daemon.
fn by_hand(asked: api::AdoptQueue, place: &ConfigPlace) -> Result<api::Adopted, Failure> {
    let config = place.load()?;
    let mut ledger = Ledger::open(&config.ledger.path, &Reading::take())?;
    let mut queue = Queue::open(&config.queue.path)?;
    queue.look(ledger.clock().now())?;
    if ledger.agree_with(&queue).is_ok() {
        return Err(Failure::new(
            Exit::Failed,
            "queue and ledger belong together; there is nothing to adopt, and nothing was changed",
        ));
    }
    let adopt: Adopt = asked
        .meant()
        .map_err(|error| Failure::new(Exit::Usage, error.message))?;
    adopt
        .check(&queue)
        .map_err(|what| Failure::new(Exit::Failed, what))?;
    let adoption = ledger.adopt(&mut queue, adopt, WallTime::now())?;
    Ok(api::Adopted::new(adoption, &queue, ledger.path()))
}
