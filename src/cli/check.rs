//! `orderfeed check`: whether the configuration is right, and what it would do.

use std::io::{IsTerminal as _, Write};
use std::path::Path;

use super::{ConfigPlace, Exit, Failure};
use crate::admin::api::{Becomes, Planned};
use crate::clock::Reading;
use crate::config::Config;
use crate::daemon::Stores;
use crate::feed::order::OrderType;
use crate::sender::reach;
use crate::store::ledger::Ledger;
use crate::store::queue::Queue;
use crate::store::{self, deep, files};

/// Check the configuration, and say what it would do; nothing is sent
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Also open a connection to each webhook; nothing is sent over it
    #[arg(long)]
    connect: bool,
    /// Also read all of queue and ledger: whether they are sound, and agree; the daemon must be stopped
    #[arg(long)]
    deep: bool,
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
    if args.deep {
        deep(&mut out, &config)?;
    }
    let previews = match Stores::open(&config.queue.path, &config.ledger.path) {
        Ok(stores) => Some(stores.preview(&config)?),
        Err(held @ store::Error::Held { .. }) => {
            writeln!(out, "what waits is not shown: {held}")?;
            None
        }
        Err(error) => return Err(error.into()),
    };
    for preview in previews.into_iter().flatten() {
        describe(&mut out, &Planned::from(preview))?;
    }
    if args.connect {
        connect(&mut out, &config)?;
    }
    Ok(())
}

/// A line for what a configuration means for a webhook.
pub(super) fn describe(out: &mut impl Write, planned: &Planned) -> std::io::Result<()> {
    let waiting: Vec<String> = OrderType::ALL
        .into_iter()
        .filter_map(|order_type| {
            let waiting = planned.waiting.get(order_type.as_str())?;
            let at_least = if waiting.or_more { "at least " } else { "" };
            Some(format!("{at_least}{} {order_type}", waiting.count))
        })
        .collect();
    let waiting = if waiting.is_empty() {
        "nothing waits".to_owned()
    } else {
        format!("{} to be sent", waiting.join(", "))
    };
    let name = &planned.name;
    match planned.becomes {
        Becomes::Sends => write!(out, "{name}: {waiting}"),
        Becomes::Inactive => write!(out, "{name}: inactive; {waiting}"),
        Becomes::Held => {
            let reason = planned.reason.as_deref().unwrap_or_default();
            write!(out, "{name}: held: {reason}; at stake: {waiting}")
        }
        Becomes::Removed => write!(
            out,
            "{name}: not configured any more, keeps its place; {waiting}"
        ),
    }?;
    if planned.pending > 0 {
        write!(out, "; a payload of {} is pending", planned.pending)?;
    }
    if planned.parked > 0 {
        write!(
            out,
            "; {} parked (collected, and no longer selected)",
            planned.parked
        )?;
    }
    if let Some(trouble) = &planned.trouble {
        write!(out, "; {trouble}")?;
    }
    writeln!(out)
}

/// Reads both files from end to end.
fn deep(out: &mut impl Write, config: &Config) -> Result<(), Failure> {
    let mut ledger = Ledger::open(&config.ledger.path, &Reading::take())?;
    let mut problems = Vec::new();
    let mut looked = |problems: &mut Vec<String>, what: &str, found: Vec<String>| {
        if found.is_empty() {
            writeln!(out, "{what}: sound")?;
        }
        problems.extend(
            found
                .into_iter()
                .map(|problem| format!("{what}: {problem}")),
        );
        out.flush()
    };
    let path = |path: &Path| path.display().to_string();
    looked(
        &mut problems,
        &path(&config.ledger.path),
        deep::ledger(&ledger)?,
    )?;
    let mut queue = Queue::open(&config.queue.path)?;
    queue.look(ledger.clock().now())?;
    looked(
        &mut problems,
        &path(&config.queue.path),
        deep::queue(&queue)?,
    )?;
    if problems.is_empty() {
        let mut err = std::io::stderr();
        let is_terminal = err.is_terminal();
        let found = deep::both(&ledger, &queue, |payloads| {
            if is_terminal {
                drop(write!(err, "\r{payloads} payloads\u{1b}[K\r"));
            }
        })?;
        looked(&mut problems, "payloads and their orders", found)?;
    }
    if problems.is_empty() {
        ledger.keep_clock(&Reading::take())?;
        return Ok(());
    }
    Err(Failure::new(
        Exit::Damaged,
        format!(
            "{}\nKeep a copy of both files as they are, and restore a backup: `orderfeed restore FOLDER`",
            problems.join("\n")
        ),
    ))
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
