//! `orderfeed test`: requests without orders, to see whether a webhook takes them.

use std::io::Write;

use super::client::{Client, escaped};
use super::{ConfigPlace, Exit, Failure, complete, local_time};
use crate::admin::api::act::{Test, Tests};

/// Send a webhook one test request a trigger: without orders, and marked as a test
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The webhook's name
    #[arg(add = complete::webhooks())]
    name: String,
    /// Without waiting until the webhook's pace allows it
    #[arg(long)]
    now: bool,
    /// Print JSON, as the admin socket answers
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args, place: &ConfigPlace) -> Result<(), Failure> {
    let path = format!("/v1/webhooks/{}/test", escaped(&args.name));
    let tests: Tests = Client::new(place)?.post(&path, &Test { now: args.now })?;
    let mut out = std::io::stdout().lock();
    if args.json {
        super::print_json(&mut out, &tests)?;
    } else {
        for test in &tests.tests {
            write!(out, "{} {}: {}", test.event, test.payload_id, test.state)?;
            if let Some(status) = test.status {
                write!(out, ", answered {status}")?;
            }
            if let Some(duration_ms) = test.duration_ms {
                write!(out, " after {duration_ms} ms")?;
            }
            if let Some(error) = &test.error {
                write!(out, ": {error}")?;
            }
            if let Some(next_at) = test.next_at {
                write!(
                    out,
                    "; it may go at {}, or at once with --now",
                    local_time(next_at)
                )?;
            }
            writeln!(out)?;
        }
    }
    match tests.tests_failed {
        0 => Ok(()),
        failed => {
            let message = format!(
                "{failed} of {} tests of {} failed",
                tests.tests_run, args.name
            );
            Err(Failure::new(Exit::Failed, message))
        }
    }
}
