//! `orderfeed retry-now`: a webhook's next request goes at once.

use super::client::{Client, escaped};
use super::{ConfigPlace, Failure, complete};
use crate::admin::api::act::Told;

/// Let a webhook try again now, not when its retry is due
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
    let path = format!("/v1/webhooks/{}/retry-now", escaped(&args.name));
    let told: Told = Client::new(place)?.post(&path, &serde_json::json!({}))?;
    super::print_told(&told, &told.message, args.json)
}
