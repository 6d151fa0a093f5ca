//! `orderfeed adopt-queue`: goes on with a queue that is not the one the ledger knows.

use std::io::Write;

use super::{ConfigPlace, Exit, Failure};
use crate::clock::{Reading, WallTime};
use crate::feed::order::Seq;
use crate::store::ledger::Ledger;
use crate::store::ledger::adopt::Adopt;
use crate::store::queue::Queue;

/// Go on with a queue that was replaced or restored, or with a new ledger
///
/// The daemon must be stopped. Orders that were delivered before, and are sent again by this,
/// get new payload ids.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub(super) struct Args {
    /// Send the orders from this seq on
    #[arg(long, value_name = "SEQ", value_parser = clap::value_parser!(i64).range(1..))]
    resend_from: Option<i64>,
    /// Send all orders in the file
    #[arg(long)]
    all_new: bool,
}

pub(super) fn run(args: &Args, place: &ConfigPlace) -> Result<(), Failure> {
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
    let adopt = args
        .resend_from
        .map_or(Adopt::AllNew, |seq| Adopt::ResendFrom(Seq(seq)));
    let adoption = ledger.adopt(&mut queue, adopt, WallTime::now())?;
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "The ledger {} goes on with the queue {}, {}; its newest order is {}.",
        config.ledger.path.display(),
        config.queue.path.display(),
        match adopt {
            Adopt::ResendFrom(seq) => format!("from order {seq} on"),
            Adopt::AllNew => "with all orders in it".to_owned(),
        },
        queue.newest_noticed()
    )?;
    for webhook in adoption.webhooks {
        let name = webhook.name;
        if let Some(pending) = webhook.pending {
            writeln!(out, "{name}: payload {pending}")?;
        }
        if let Some((first, last)) = webhook.passed {
            writeln!(
                out,
                "{name}: orders {first} to {last} are not sent to it again; this ledger is not up to date, and does not know which of them were sent"
            )?;
        }
    }
    if adoption.parked_forgotten > 0 {
        writeln!(
            out,
            "{} parked orders are no longer parked.",
            adoption.parked_forgotten
        )?;
    }
    writeln!(out, "Start the daemon to send them.")?;
    Ok(())
}
