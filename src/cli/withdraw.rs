//! `orderfeed withdraw`: an order is taken back, as far as it has not gone.

use std::io::Write;

use clap::builder::NonEmptyStringValueParser;

use super::client::{Client, escaped};
use super::{ConfigPlace, Failure};
use crate::admin::api::act::{Withdraw, Withdrawn};
use crate::feed::order::OrderType;

/// Take an order back from every webhook for which it is not yet in a payload
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The order's tracking number
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    tracking_number: String,
    #[arg(
        long = "type",
        value_name = "TYPE",
        add = super::complete::order_types(),
        help = "Its type, where the number is that of several: purchase_order, transfer_order or work_order"
    )]
    order_type: Option<OrderType>,
    /// Print JSON, as the admin socket answers
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args, place: &ConfigPlace) -> Result<(), Failure> {
    let path = format!("/v1/orders/{}/withdraw", escaped(&args.tracking_number));
    let asked = Withdraw {
        order_type: args.order_type.map(|order_type| order_type.to_string()),
    };
    let withdrawn: Withdrawn = Client::new(place)?.post(&path, &asked)?;
    let mut out = std::io::stdout().lock();
    if args.json {
        return super::print_json(&mut out, &withdrawn);
    }
    let Withdrawn {
        tracking_number,
        order_type,
        ..
    } = &withdrawn;
    writeln!(out, "{order_type} {tracking_number} is withdrawn")?;
    for late in &withdrawn.too_late {
        writeln!(
            out,
            "too late for {}: it is in payload {}, which is {}",
            late.webhook,
            late.payload_id,
            late.state.replace('_', " ")
        )?;
    }
    Ok(())
}
