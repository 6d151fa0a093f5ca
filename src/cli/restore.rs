//! `orderfeed restore`: goes back to a copy of queue and ledger.

use std::io::{BufRead as _, IsTerminal as _, Write};
use std::path::PathBuf;

use super::{ConfigPlace, Exit, Failure, local_time};
use crate::clock::WallTime;
use crate::store::ledger;
use crate::store::restore::{self, Plan};

/// Go back to a backup; says first which orders are sent again and which are missing, and asks
///
/// The daemon must be stopped, and so must programs that have the queue open: they would go on writing
/// into the file that is replaced. That one and the ledger are kept beside the new ones.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The backup's folder
    folder: PathBuf,
    /// Do it without asking
    #[arg(long)]
    yes: bool,
}

pub(super) fn run(args: &Args, place: &ConfigPlace) -> Result<(), Failure> {
    let config = place.load()?;
    let (queue, ledger) = (&config.queue.path, &config.ledger.path);
    // No daemon has the ledger, and none can start meanwhile.
    let _lock = ledger::lock(ledger)?;
    let plan = restore::plan(&args.folder, queue, ledger)?;
    let mut out = std::io::stdout().lock();
    describe(&mut out, &plan)?;
    if !args.yes {
        if !std::io::stdin().is_terminal() {
            return Err(Failure::new(
                Exit::Failed,
                "nothing was changed; say --yes to restore without being asked",
            ));
        }
        write!(out, "Restore this backup? [y/N] ")?;
        out.flush()?;
        let mut answer = String::new();
        std::io::stdin().lock().read_line(&mut answer)?;
        if !matches!(answer.trim(), "y" | "Y" | "yes") {
            return Err(Failure::new(Exit::Failed, "nothing was changed"));
        }
    }
    let kept = restore::carry_out(&args.folder, queue, ledger, WallTime::now())?;
    writeln!(out, "Restored.")?;
    for path in kept {
        writeln!(out, "What was there before is kept as {}", path.display())?;
    }
    writeln!(
        out,
        "Restart the programs that write orders, then start the daemon; it sends what waits by this backup."
    )?;
    Ok(())
}

fn describe(out: &mut impl Write, plan: &Plan) -> std::io::Result<()> {
    writeln!(
        out,
        "The backup was made at {}.",
        local_time(plan.copied_at)
    )?;
    for again in &plan.again {
        writeln!(
            out,
            "{}: {} orders in {} payloads were sent since, or may have been, and are sent again",
            again.webhook, again.orders, again.payloads
        )?;
    }
    if let Some((count, first, last)) = plan.missing {
        writeln!(
            out,
            "{count} orders were queued since ({first} to {last}) and are missing afterwards: their producers have to queue again what was not delivered"
        )?;
    }
    if plan.withdrawn > 0 {
        writeln!(
            out,
            "{} orders were withdrawn since, and are no longer",
            plan.withdrawn
        )?;
    }
    for unknown in &plan.unknown {
        writeln!(out, "{unknown}")?;
    }
    if plan.again.is_empty() && plan.missing.is_none() && plan.unknown.is_empty() {
        writeln!(out, "Nothing was sent or queued since.")?;
    }
    Ok(())
}
