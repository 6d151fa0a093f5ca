//! `orderfeed reconcile`: every order of the queue, accounted for.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use super::ask::{Asked, encoded};
use super::table::{View, moment, number};
use super::{ConfigPlace, Exit, Failure};
use crate::admin::api::explain::{ReconciledWindow, Reconciliation};
use crate::admin::explain::reconcile::{self, Range};
use crate::clock::WallTime;
use crate::feed::order::Seq;

/// Account for every order of the queue, for each webhook; one that is missing is an error
///
/// Without a daemon it looks into the files; none can start meanwhile.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Only orders that were queued since: how long ago ("2h"), local ("2026-01-31 14:05"), or UTC
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Progress is told this often.
const PROGRESS_GAP: Duration = Duration::from_secs(1);

pub(super) fn run(args: &Args, place: &ConfigPlace) -> Result<(), Failure> {
    let now = WallTime::now();
    let since = args
        .since
        .as_ref()
        .map(|text| moment(text, now))
        .transpose();
    let since = since.map_err(|message| Failure::new(Exit::Usage, message))?;
    let mut asked = Asked::find(place)?;
    let mut sum = reconcile::nothing();
    let mut first = None;
    let mut next: Option<(i64, i64)> = None;
    let mut told = Instant::now();
    let is_terminal = std::io::stderr().is_terminal();
    let mut is_progress_shown = false;
    loop {
        let window = window(&mut asked, since, next)?;
        let (after, up_to) = (
            *first.get_or_insert(window.after),
            next.map_or(window.up_to, |next| next.1),
        );
        reconcile::add(&mut sum, window.found);
        if window.done_up_to >= up_to {
            break;
        }
        next = Some((window.done_up_to, up_to));
        if told.elapsed() >= PROGRESS_GAP {
            told = Instant::now();
            let (done, of) = (window.done_up_to.abs_diff(after), up_to.abs_diff(after));
            let line = format!("{} of {} orders", number(done, false), number(of, false));
            let mut err = std::io::stderr().lock();
            if is_terminal {
                write!(err, "\r{line}\u{1b}[K")?;
                err.flush()?;
                is_progress_shown = true;
            } else {
                writeln!(err, "{line}")?;
            }
        }
    }
    if is_progress_shown {
        write!(std::io::stderr(), "\r\u{1b}[K")?;
    }
    let mut out = std::io::stdout().lock();
    if args.json {
        super::print_json(&mut out, &sum)?;
    } else {
        let view = View::stdout(now);
        write!(out, "{}", view.paint(&shown(&sum, &view)))?;
    }
    out.flush()?;
    if sum.agrees {
        return Ok(());
    }
    Err(Failure::new(
        Exit::Failed,
        "the sums do not agree: orders are missing that no webhook has in a payload or in any other place; keep a copy of both files, `orderfeed trace` the orders named above, and queue them again",
    ))
}

fn window(
    asked: &mut Asked,
    since: Option<WallTime>,
    next: Option<(i64, i64)>,
) -> Result<ReconciledWindow, Failure> {
    match asked {
        Asked::Daemon(client) => {
            let since = since.map(|since| format!("since={}", encoded(&since.to_string())));
            let next = next.map(|(after, up_to)| format!("after={after}&up_to={up_to}"));
            let query: Vec<String> = since.into_iter().chain(next).collect();
            client.get(&format!("/v1/reconcile?{}", query.join("&")))
        }
        Asked::Files(files) => files.answer(async |ledger, _, queue| {
            let range = match next {
                Some((after, up_to)) => Range {
                    after: Seq(after),
                    up_to: Seq(up_to),
                },
                None => reconcile::range(queue, since.map(|since| since.to_string()).as_deref())?,
            };
            reconcile::next_window(ledger, queue, range).await
        }),
    }
}

/// The columns, in the order of an order's life.
const FATES: [&str; 12] = [
    "delivered",
    "in_flight",
    "pending",
    "waiting",
    "failed",
    "split",
    "discarded",
    "parked",
    "filtered",
    "withdrawn",
    "set_aside",
    "dropped",
];

fn shown(sum: &Reconciliation, view: &View) -> String {
    let mut text = match (sum.first_seq, sum.last_seq) {
        (Some(first), Some(last)) => format!(
            "{} orders in the queue, number {first} to {last}\n\n",
            number(sum.orders, false)
        ),
        _ => return "There are no orders to account for.\n".to_owned(),
    };
    let is_met = |fate: &&str| {
        sum.webhooks
            .iter()
            .any(|account| account.orders.contains_key(*fate))
    };
    let mut fates: Vec<&str> = FATES.into_iter().filter(is_met).collect();
    fates.push("missing");
    let upper: Vec<String> = fates
        .iter()
        .map(|fate| fate.replace('_', " ").to_uppercase())
        .collect();
    let header: Vec<&str> = std::iter::once("WEBHOOK")
        .chain(upper.iter().map(String::as_str))
        .chain(["SUM"])
        .collect();
    let rows = sum.webhooks.iter().map(|account| {
        let count = |fate: &&str| number(account.orders.get(*fate).copied().unwrap_or(0), false);
        let total = number(account.orders.values().sum(), false);
        std::iter::once(account.webhook.clone())
            .chain(fates.iter().map(count))
            .chain([total])
            .collect()
    });
    let numbers: Vec<usize> = (1..header.len()).collect();
    text.push_str(&view.table(&header, &numbers, rows.collect()));
    for account in sum
        .webhooks
        .iter()
        .filter(|account| !account.missing.is_empty())
    {
        let seqs: Vec<String> = account.missing.iter().map(i64::to_string).collect();
        let _ = writeln!(text, "\n{}: missing: {}", account.webhook, seqs.join(", "));
    }
    text
}
