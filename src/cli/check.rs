//! `orderfeed check`: whether the configuration is right, and what it would do.

use std::io::Write;

use super::{ConfigPlace, Exit, Failure};
use crate::config::Config;
use crate::daemon::{Preview, PreviewStanding, Stores};
use crate::feed::order::OrderType;
use crate::sender::reach;
use crate::store::{self, files};

/// Check the configuration, and say what it would do; nothing is sent
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Also open a connection to each webhook; nothing is sent over it
    #[arg(long)]
    connect: bool,
}

pub(super) fn run(args: &Args, place: &ConfigPlace) -> Result<(), Failure> {
    let config = place.load()?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{} is valid", config.file.display())?;
    if config.webhooks.is_empty() {
        writeln!(
            out,
            "it has no [webhook.NAME]: orders will queue up, and nothing is sent"
        )?;
    }
    for obstacle in files::obstacles_for_producers(&config.queue.path) {
        writeln!(out, "note: {obstacle}")?;
    }
    let previews = match Stores::open(&config.queue.path, &config.ledger.path) {
        Ok(stores) => Some(stores.preview(&config)?),
        Err(held @ store::Error::Held { .. }) => {
            writeln!(out, "what waits is not shown: {held}")?;
            None
        }
        Err(error) => return Err(error.into()),
    };
    for preview in previews.iter().flatten() {
        describe(&mut out, preview)?;
    }
    if args.connect {
        connect(&mut out, &config)?;
    }
    Ok(())
}

fn describe(out: &mut impl Write, preview: &Preview) -> std::io::Result<()> {
    let waiting: Vec<String> = OrderType::ALL
        .into_iter()
        .map(|order_type| (order_type, preview.waiting[order_type]))
        .filter(|(_, survey)| survey.waiting > 0)
        .map(|(order_type, survey)| {
            let at_least = if survey.complete { "" } else { "at least " };
            format!("{at_least}{} {order_type}", survey.waiting)
        })
        .collect();
    let waiting = if waiting.is_empty() {
        "nothing waits".to_owned()
    } else {
        format!("{} to be sent", waiting.join(", "))
    };
    let name = &preview.name;
    match &preview.standing {
        PreviewStanding::Sends => write!(out, "{name}: {waiting}"),
        PreviewStanding::Inactive => write!(out, "{name}: inactive; {waiting}"),
        PreviewStanding::NoStart(reason) => {
            write!(out, "{name}: held: {reason}; at stake: {waiting}")
        }
        PreviewStanding::Removed => write!(
            out,
            "{name}: not configured any more, keeps its place; {waiting}"
        ),
    }?;
    if preview.pending > 0 {
        write!(out, "; a payload of {} is pending", preview.pending)?;
    }
    if preview.parked > 0 {
        write!(
            out,
            "; {} parked (collected, and no longer selected)",
            preview.parked
        )?;
    }
    if let Some(trouble) = &preview.trouble {
        write!(out, "; {trouble}")?;
    }
    writeln!(out)
}

/// Reaches each webhook, one after another.
fn connect(out: &mut impl Write, config: &Config) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let mut unreached = 0;
    for webhook in &config.webhooks {
        match runtime.block_on(reach::reach(&webhook.endpoint)) {
            Ok(what) => writeln!(out, "{}: reached: {what}", webhook.name)?,
            Err(error) => {
                unreached += 1;
                writeln!(out, "{}: not reached: {error}", webhook.name)?;
            }
        }
    }
    if unreached == 0 {
        return Ok(());
    }
    let message = format!(
        "{unreached} of {} webhooks can't be reached",
        config.webhooks.len()
    );
    Err(Failure::new(Exit::Failed, message))
}
