//! `orderfeed backup`: copies queue and ledger.

use std::io::Write as _;

use super::client::Client;
use super::{ConfigPlace, Failure};
use crate::admin::api;
use crate::clock::{Reading, WallTime};
use crate::store::backup::{Draft, LEDGER, QUEUE, give_to_owner_of, rotate};
use crate::store::ledger::Ledger;

/// Copy queue and ledger to the folder for backups; deliveries go on meanwhile
///
/// `orderfeed restore FOLDER` goes back to it.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Print JSON, as the admin socket answers
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args, place: &ConfigPlace) -> Result<(), Failure> {
    let client = Client::new(place)?;
    let done: api::BackedUp = if client.is_running() {
        client.post("/v1/backup", &serde_json::json!({}))?
    } else {
        by_hand(place)?
    };
    let mut out = std::io::stdout().lock();
    if args.json {
        return super::print_json(&mut out, &done);
    }
    writeln!(out, "{} ({} bytes)", done.folder, done.bytes)?;
    Ok(())
}

/// Without a daemon.
fn by_hand(place: &ConfigPlace) -> Result<api::BackedUp, Failure> {
    let config = place.load()?;
    let mut ledger = Ledger::open(&config.ledger.path, &Reading::take())?;
    let dir_is_new = !config.maintenance.backup_dir.exists();
    let draft = Draft::begin(&config.maintenance.backup_dir, WallTime::now())?;
    let image = ledger.begin_copy()?;
    draft.copy_ledger(&image)?;
    draft.copy_queue(&config.queue.path)?;
    let backup = draft.finish()?;
    if dir_is_new {
        give_to_owner_of(&config.ledger.path, &config.maintenance.backup_dir)?;
    }
    for name in ["", LEDGER, QUEUE] {
        give_to_owner_of(&config.ledger.path, &backup.folder.join(name))?;
    }
    rotate(
        &config.maintenance.backup_dir,
        config.maintenance.backup_keep,
        &backup.folder,
    )?;
    Ok(backup.into())
}
