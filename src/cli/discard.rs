//! `orderfeed discard`: a payload is given up.

use super::client::Client;
use super::{ConfigPlace, Failure, complete};
use crate::admin::api::act::{Discard, Discarded};
use crate::feed::payload::PayloadId;

/// Give a payload up: it is not sent any more, and what waits behind it goes on
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The payload, neither in flight nor delivered
    #[arg(add = complete::payloads())]
    payload_id: PayloadId,
    /// Why; it is shown with the payload
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Print JSON, as the admin socket answers
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args, place: &ConfigPlace) -> Result<(), Failure> {
    let path = format!("/v1/payloads/{}/discard", args.payload_id);
    let asked = Discard {
        reason: args.reason.clone(),
    };
    let discarded: Discarded = Client::new(place)?.post(&path, &asked)?;
    super::print_told(&discarded, &discarded.message, args.json)
}
