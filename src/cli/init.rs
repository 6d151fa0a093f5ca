//! `orderfeed init`: makes the queue and the ledger.

use std::io::Write;
use std::path::Path;

use super::{ConfigPlace, Exit, Failure};
use crate::clock::{self, Reading};
use crate::store::ledger::{self, Ledger};
use crate::store::queue::{self, Queue};
use crate::store::{self};

/// Make the queue and the ledger where the configuration says; what exists is left as it is
#[derive(Debug, clap::Args)]
pub(super) struct Args {}

pub(super) fn run(_args: &Args, place: &ConfigPlace) -> Result<(), Failure> {
    let config = place.load()?;
    let mut out = std::io::stdout().lock();
    for (what, made, path) in make(&config.queue.path, &config.ledger.path)? {
        let made = if made { "made" } else { "exists already" };
        writeln!(out, "{what} {} {made}", path.display())?;
    }
    if rustix::process::geteuid().is_root() {
        writeln!(
            std::io::stderr(),
            "note: this was done as root; the files must belong to the user that the daemon runs as"
        )?;
    }
    Ok(())
}

/// Makes what is missing, and introduces a new queue and a new ledger to each other. A new
/// ledger beside a queue that another one fed from is made, and refused at the start: it can't
/// tell which orders were delivered.
pub(super) fn make<'a>(
    queue: &'a Path,
    ledger: &'a Path,
) -> Result<[(&'static str, bool, &'a Path); 2], Failure> {
    let made = |created: Result<(), store::Error>| match created {
        Ok(()) => Ok(true),
        Err(store::Error::Exists(_)) => Ok(false),
        Err(error) => Err(error),
    };
    let queue_made = made(queue::create(queue, &id()))?;
    let mut open = Queue::open(queue)?;
    let identity = open.identity()?;
    let ledger_made = made(ledger::create(
        ledger,
        &id(),
        &identity.queue_id,
        &Reading::take(),
    ))?;
    if identity.ledger_id.is_none() {
        let ledger = Ledger::open(ledger, &Reading::take())?;
        if ledger.queue_id() == identity.queue_id
            && !open.mark(ledger.ledger_id(), None, Queue::PATIENCE)?
        {
            return Err(Failure::new(
                Exit::Failed,
                format!(
                    "a producer holds {}; run `orderfeed init` again when it is done",
                    queue.display()
                ),
            ));
        }
    }
    Ok([
        ("queue", queue_made, queue),
        ("ledger", ledger_made, ledger),
    ])
}

/// 128 random bits, in hexadecimal.
fn id() -> String {
    format!("{:032x}", u128::from_be_bytes(clock::dice()))
}
