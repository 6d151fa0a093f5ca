//! `orderfeed status`: what goes on, at a glance, for people and for monitoring.

use std::fmt::Write as _;
use std::io::Write;
use std::time::Duration;

use super::ask::Asked;
use super::table::{View, number, orders, tame};
use super::{ConfigPlace, Exit, Failure};
use crate::admin::api::explain::{Maintenance, QueueStatus, Status, Webhook};
use crate::admin::explain;

/// Show what goes on: what waits, where each webhook stands and why, and what happens next
///
/// Without a daemon it looks into the files.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Print one line for Nagios and its like, and end with their codes: 0 ok, 1 warning, 2 critical, 3 unknown
    #[arg(long)]
    check: bool,
    /// Print JSON, as the admin socket answers
    #[arg(long, conflicts_with = "check")]
    json: bool,
}

pub(super) fn run(args: &Args, place: &ConfigPlace) -> Result<(), Failure> {
    let status = ask(args, place);
    let mut out = std::io::stdout().lock();
    if args.check {
        let (level, line) = match &status {
            Ok(status) => judged(status),
            Err(failure) => {
                let level = if failure.is_outage {
                    Level::Critical
                } else {
                    Level::Unknown
                };
                // A bar would begin the figures.
                let words = tame(&failure.message).replace('|', "/");
                (level, format!("{} - {words}", level.as_str()))
            }
        };
        writeln!(out, "ORDERFEED {line}")?;
        return level.end();
    }
    let status = status?;
    if args.json {
        return super::print_json(&mut out, &status);
    }
    let view = View::stdout(status.now);
    write!(out, "{}", view.paint(&shown(&status, &view)))?;
    Ok(())
}

/// A monitor gives up on its checks after some ten seconds: it is to hear of a daemon that hangs.
const CHECK_PATIENCE: Duration = Duration::from_secs(5);

fn ask(args: &Args, place: &ConfigPlace) -> Result<Status, Failure> {
    match Asked::find(place)? {
        Asked::Daemon(client) if args.check => {
            client.with_patience(CHECK_PATIENCE).get("/v1/status")
        }
        Asked::Daemon(client) => client.get("/v1/status"),
        Asked::Files(mut files) => files.answer(explain::status),
    }
}

fn shown(status: &Status, view: &View) -> String {
    let version = &status.version;
    let mut text = match status.started_at {
        Some(started_at) => format!("orderfeed {version} runs since {}\n", view.time(started_at)),
        None => "No daemon runs: nothing is sent. `orderfeed run` or `systemctl start orderfeed` starts it.\n".to_owned(),
    };
    text.push_str(&waiting(&status.queue, view));
    text.push_str(&chores(&status.maintenance, view));
    if !status.webhooks.is_empty() {
        text.push('\n');
        text.push_str(&webhooks(&status.webhooks, view));
    }
    text
}

fn waiting(queue: &QueueStatus, view: &View) -> String {
    let mut text = String::new();
    for (order_type, waiting) in &queue.waiting {
        let wait = orders(waiting.count, waiting.or_more, order_type);
        let oldest = waiting
            .oldest_at
            .map(|at| format!(", the oldest since {}", view.time(at)));
        let _ = writeln!(text, "waiting:   {wait}{}", oldest.unwrap_or_default());
    }
    if text.is_empty() {
        text.push_str("waiting:   nothing\n");
    }
    let or_more = |name: &str| queue.or_more.iter().any(|cut| cut == name);
    if queue.unclaimed > 0 {
        let count = number(queue.unclaimed, or_more("unclaimed"));
        let _ = writeln!(text, "unclaimed: {count}, which no webhook takes");
    }
    if queue.set_aside > 0 {
        let count = number(queue.set_aside, or_more("set_aside"));
        let _ = write!(
            text,
            "set aside: {count}, which can't be delivered to anyone"
        );
        if let Some(newest) = &queue.set_aside_newest {
            let _ = write!(
                text,
                "; the newest: order {}: {}",
                newest.seq,
                tame(&newest.reason)
            );
        }
        text.push('\n');
    }
    text
}

/// How pruning and the backup went last.
fn chores(maintenance: &Maintenance, view: &View) -> String {
    let mut text = String::new();
    for chore in &maintenance.chores {
        let name = format!("{}:", chore.chore);
        let (begun, done) = (view.time(chore.begun_at), chore.done.as_deref().map(tame));
        let _ = match (&chore.failure, chore.ended_at, chore.success_at) {
            (Some(failure), Some(_), _) => {
                writeln!(text, "{name:<10} FAILED at {begun}: {}", tame(failure))
            }
            (_, Some(_), Some(at)) => writeln!(
                text,
                "{name:<10} {}, at {}",
                done.unwrap_or_default(),
                view.time(at)
            ),
            _ => writeln!(text, "{name:<10} begun at {begun}, and not ended yet"),
        };
    }
    text
}

/// A table of webhooks, and below it what is to be said of them.
pub(super) fn webhooks(webhooks: &[Webhook], view: &View) -> String {
    let rows = webhooks.iter().map(|webhook| {
        let or_more = |name: &str| webhook.or_more.iter().any(|cut| cut == name);
        vec![
            webhook.name.clone(),
            webhook.state.clone(),
            view.maybe(webhook.since),
            number(webhook.waiting, or_more("waiting")),
            number(webhook.parked, or_more("parked")),
            number(webhook.failed, or_more("failed")),
            view.maybe(webhook.last_success_at),
        ]
    });
    let header = [
        "WEBHOOK",
        "STATE",
        "SINCE",
        "WAITING",
        "PARKED",
        "FAILED",
        "LAST SUCCESS",
    ];
    let mut text = view.table(&header, &[3, 4, 5], rows.collect());
    text.push('\n');
    for webhook in webhooks {
        let reason = webhook
            .reason
            .as_deref()
            .map_or_else(String::new, |reason| format!("{}; ", tame(reason)));
        let _ = writeln!(
            text,
            "{}: {reason}next: {}",
            webhook.name,
            next(webhook, view)
        );
        if let (Some(error), Some(at)) = (&webhook.last_error, webhook.last_error_at)
            && webhook.last_success_at.is_none_or(|success| at > success)
        {
            let _ = writeln!(text, "    last error: {}, {}", tame(error), view.time(at));
        }
        if webhook.failed > 0 {
            let _ = writeln!(
                text,
                "    failed payloads: `orderfeed payloads --webhook {} --state failed`",
                webhook.name
            );
        }
    }
    text
}

/// What happens next, and when.
pub(super) fn next(webhook: &Webhook, view: &View) -> String {
    match webhook.next_at {
        Some(at) => format!("{}, at {}", webhook.next, view.time(at)),
        None => webhook.next.clone(),
    }
}

/// How monitoring calls it; its codes are not those of other commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Ok,
    Warning,
    Critical,
    Unknown,
}

impl Level {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Warning => "WARNING",
            Self::Critical => "CRITICAL",
            Self::Unknown => "UNKNOWN",
        }
    }

    fn end(self) -> Result<(), Failure> {
        let exit = match self {
            Self::Ok => return Ok(()),
            Self::Warning => Exit::Failed,
            Self::Critical => Exit::Usage,
            Self::Unknown => Exit::Unreachable,
        };
        Err(Failure::new(exit, ""))
    }
}

/// How bad it is, and a line that says why, with figures behind the bar.
fn judged(status: &Status) -> (Level, String) {
    let mut found: Vec<(Level, String)> = Vec::new();
    if status.started_at.is_none() {
        found.push((Level::Critical, "no daemon runs".to_owned()));
    }
    for webhook in &status.webhooks {
        let level = match webhook.state.as_str() {
            "down" | "held" | "deactivated" => Level::Critical,
            "paused" | "retrying" => Level::Warning,
            _ => Level::Ok,
        };
        if level > Level::Ok {
            let reason = webhook.reason.as_deref().map(tame).unwrap_or_default();
            found.push((
                level,
                format!("{} is {}: {reason}", webhook.name, webhook.state),
            ));
        }
        if webhook.failed > 0 {
            found.push((
                Level::Warning,
                format!("failed payloads of {}: {}", webhook.name, webhook.failed),
            ));
        }
    }
    for chore in &status.maintenance.chores {
        if let (Some(failure), Some(_)) = (&chore.failure, chore.ended_at) {
            let what = format!("the last {} failed: {}", chore.chore, tame(failure));
            found.push((Level::Warning, what));
        }
    }
    if status.queue.set_aside > 0 {
        found.push((
            Level::Warning,
            format!(
                "{} orders can't be delivered to anyone",
                status.queue.set_aside
            ),
        ));
    }
    if status.queue.unclaimed > 0 {
        found.push((
            Level::Warning,
            format!("no webhook takes {} orders", status.queue.unclaimed),
        ));
    }
    // The worst comes first; what is equally bad stays in its order.
    found.sort_by_key(|(level, _)| std::cmp::Reverse(*level));
    let level = found.first().map_or(Level::Ok, |(level, _)| *level);
    let words = if found.is_empty() {
        format!("all is well; webhooks: {}", status.webhooks.len())
    } else {
        let words: Vec<String> = found.into_iter().map(|(_, words)| words).collect();
        words.join("; ")
    };
    // A bar would end the words.
    let words = words.replace('|', "/");
    let waiting = status.queue.waiting.values();
    let count: u64 = waiting.clone().map(|waiting| waiting.count).sum();
    let oldest = waiting.filter_map(|waiting| waiting.oldest_at).min();
    let age = oldest.map_or(0, |at| status.now.0.saturating_sub(at.0).max(0) / 1_000);
    let sum = |of: fn(&Webhook) -> u64| status.webhooks.iter().map(of).sum::<u64>();
    let figures = format!(
        "waiting={count} oldest={age}s failed={} parked={} set_aside={} unclaimed={}",
        sum(|webhook| webhook.failed),
        sum(|webhook| webhook.parked),
        status.queue.set_aside,
        status.queue.unclaimed
    );
    (level, format!("{} - {words} | {figures}", level.as_str()))
}
