//! `orderfeed reload`: the running daemon reads its configuration again.

use std::io::Write;

use super::check;
use super::client::Client;
use super::{ConfigPlace, Failure};
use crate::admin::api;

/// Let the daemon read its configuration again: all of it, or nothing if something is wrong
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Only say what would become of it
    #[arg(long)]
    dry_run: bool,
    /// Print JSON, as the admin socket answers
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args, place: &ConfigPlace) -> Result<(), Failure> {
    let client = Client::new(place)?;
    let asked = api::Reload {
        dry_run: args.dry_run,
    };
    let reloaded: api::Reloaded = client.post("/v1/reload", &asked)?;
    let mut out = std::io::stdout().lock();
    if args.json {
        return super::print_json(&mut out, &reloaded);
    }
    let (file, done) = (
        &reloaded.file,
        if args.dry_run { "valid" } else { "reloaded" },
    );
    writeln!(out, "{file} is {done}")?;
    for note in &reloaded.notes {
        writeln!(out, "note: {note}")?;
    }
    for planned in &reloaded.webhooks {
        check::describe(&mut out, planned)?;
    }
    Ok(())
}
