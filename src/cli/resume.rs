//! `orderfeed resume`: a webhook that was paused, deactivated or held goes on.

use super::client::{Client, escaped};
use super::{ConfigPlace, Exit, Failure, complete};
use crate::admin::api::act::Told;
use crate::clock::{Reading, WallTime};
use crate::feed;
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
    let errand = ledger.heard(webhook_id)?.errand;
    let was = match (&lane.paused, lane.standing.trouble()) {
        (Some(paused), _) => paused.reason.clone(),
        (None, Some(trouble)) => {
            format!("{}: {}", lane.standing.state().as_str(), trouble.reason)
        }
        (None, None) if errand.is_some_and(|errand| errand.due.is_none()) => {
            "waiting with a resend that was interrupted three times".to_owned()
        }
        (None, None) => {
            return Err(Failure::new(
                Exit::Failed,
                format!(
                    "{} is neither paused, deactivated, held nor down",
                    args.name
                ),
            ));
        }
    };
    let now = WallTime::now();
    ledger.record(&[Commit::new(webhook_id, lane.resumed(), now)])?;
    // Its resends are freed when it heeds this.
    ledger.tell(webhook_id, &feed::errand::Told::Resume, now)?;
    Ok(Told {
        webhook: args.name.clone(),
        done: true,
        message: format!("{} goes on when the daemon starts; it was {was}", args.name),
    })
}
