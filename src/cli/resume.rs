//! `orderfeed resume`: a webhook that was deactivated or held goes on.

use std::io::Write;

use super::{ConfigPlace, Exit, Failure};
use crate::clock::{Reading, WallTime};
use crate::store::ledger::{Commit, Ledger};

/// Let a webhook go on that was deactivated or held
///
/// The daemon must be stopped.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The webhook's name
    name: String,
}

pub(super) fn run(args: &Args, place: &ConfigPlace) -> Result<(), Failure> {
    let config = place.load()?;
    let mut ledger = Ledger::open(&config.ledger.path, &Reading::take())?;
    let webhook_id = super::webhooks::find(&ledger, &args.name)?;
    let lane = ledger.lane(webhook_id)?;
    let Some(trouble) = lane.standing.trouble() else {
        return Err(Failure::new(
            Exit::Failed,
            format!("{} is neither deactivated nor held", args.name),
        ));
    };
    ledger.record(&[Commit::new(webhook_id, lane.resumed(), WallTime::now())])?;
    writeln!(
        std::io::stdout(),
        "{} goes on when the daemon starts; it was {}: {}",
        args.name,
        lane.standing.state().as_str(),
        trouble.reason
    )?;
    Ok(())
}
