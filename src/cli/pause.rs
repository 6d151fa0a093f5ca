//! `orderfeed pause`: a webhook sends nothing until it is resumed.

use super::client::{Client, escaped};
use super::{ConfigPlace, Failure, complete};
use crate::admin::api::act::Told;

/// Pause a webhook: its orders wait until `orderfeed resume`, also over restarts
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
    let path = format!("/v1/webhooks/{}/pause", escaped(&args.name));
    let told: Told = Client::new(place)?.post(&path, &serde_json::json!({}))?;
    super::print_told(&told, &told.message, args.json)
}
