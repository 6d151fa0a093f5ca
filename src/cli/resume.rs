//! `orderfeed resume`: a webhook that was paused, deactivated or held goes on.

use super::client::{Client, escaped};
use super::{ConfigPlace, Exit, Failure, complete};
use crate::admin::api::act::Told;
use crate::clock::{Reading, WallTime};
use crate::store::ledger::{Commit, Ledger};

/// Let a webhook go on that was paused, deactivated or held
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The webhook's name
    #[arg(add = complete::webhooks())]
    name: String,
    /// Print JSON, as the admin socket answers
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args, place: &ConfigPlace) -> Result<(), Failure> {
    let client = Client::new(place)?;
    let told = if client.is_running() {
        let path = format!("/v1/webhooks/{}/resume", escaped(&args.name));
        client.post(&path, &serde_json::json!({}))?
    } else {
        by_hand(args, place)?
    };
    super::print_told(&told, &told.message, args.json)
}

/// Without a daemon.
fn by_hand(args: &Args, place: &ConfigPlace) -> Result<Told, Failure> {
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
    Ok(Told {
        webhook: args.name.clone(),
        done: true,
        message: format!(
            "{} goes on when the daemon starts; it was {}: {}",
            args.name,
            lane.standing.state().as_str(),
            trouble.reason
        ),
    })
}
