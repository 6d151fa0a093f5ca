//! `orderfeed enqueue`: queues the orders of files.
//!
//! All orders of all files are judged before the first is queued, by the queue's own rules. Then
//! they are committed slice by slice, so that other producers get their turn in between; what
//! stops it on the way tells how to go on (`--skip`). It talks to the queue's file alone: the
//! daemon need not run.

pub mod source;

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::ErrorCode;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};

use self::source::{Broken, Entry, Source, Spot};
use super::{ConfigPlace, Exit, Failure};
use crate::feed::order::{Action, OrderType, Seq};
use crate::store::queue::rules::Rules;
use crate::store::queue::{NewOrder, Queue};
use crate::store::{self, files};

/// Queue the orders of files: all are checked before the first is queued
///
/// A file holds one order, an array of orders, one order a line (NDJSON), or a whole payload as
/// a receiver gets it, which says the type and action itself. NDJSON may be of any length, a
/// file of another kind has up to 1 GiB.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Files of orders; - is standard input, which is also read if no file is named
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    #[arg(
        long = "type",
        value_name = "TYPE",
        add = super::complete::order_types(),
        help = "The orders' type: purchase_order, transfer_order or work_order; a payload says it itself"
    )]
    order_type: Option<OrderType>,
    /// What happened to the orders, if not submit: create, update, destroy, ...
    #[arg(long)]
    action: Option<Action>,
    /// Check all orders, but queue only those after the first N, counted over all files
    ///
    /// For going on where an earlier call was stopped, which says what N is.
    #[arg(long, value_name = "N", default_value_t = 0)]
    skip: usize,
    /// The queue's file; then no configuration is read, which may hold what producers must not see
    #[arg(long, value_name = "FILE", conflicts_with = "config")]
    queue: Option<PathBuf>,
}

/// Other producers wait while a slice is written, so it has a limit: in orders, and in bytes.
const SLICE_ORDERS: usize = 1_000;
const SLICE_BYTES: usize = 4 << 20;

/// Between two slices the queue is left alone for this part of the time that one took. SQLite has
/// whoever waits look again only now and then, about 60 times in the 5 s that producers are told
/// to wait: with a fifth of all time left to them, they will find it free.
const PAUSE_PART: u32 = 4;

/// The WAL is copied back into the file after so many bytes of orders: no daemon may be running
/// that would, and without end it grows.
const CHECKPOINT_BYTES: usize = 16 << 20;

/// So many refused orders are shown; the others are counted.
const SHOWN_MAX: usize = 20;

pub(super) fn run(args: &Args, place: &ConfigPlace) -> Result<(), Failure> {
    let inputs = inputs(args)?;
    let path = match &args.queue {
        Some(path) => path.clone(),
        None => match place.load() {
            Ok(config) => config.queue.path,
            Err(mut failure) => {
                failure.message.push_str(
                    "\n(enqueue needs no configuration if --queue names the queue's file)",
                );
                return Err(failure);
            }
        },
    };
    let queue = Queue::open(&path)?;
    let spool = files::folder_of(&path);
    let mut sources = Vec::new();
    for path in &inputs {
        let source = Source::open(path, &spool).map_err(|error| {
            let message = format!("nothing was queued: {}: {error}", path.display());
            Failure::new(Exit::Failed, message)
        })?;
        sources.push(source);
    }
    let mut progress = Progress::new();
    let total = judge(args, &sources, &mut progress)?;
    let Some(left) = total.checked_sub(args.skip) else {
        let message = format!(
            "--skip {}: the input holds only {}",
            args.skip,
            orders(total)
        );
        return Err(Failure::new(Exit::Usage, message));
    };
    let mut import = Import::new(queue, args.skip)?;
    progress.begin_queueing(left);
    let imported = import.all(args, &sources, &mut progress);
    progress.clear();
    if let Err(failure) = imported {
        let done = args.skip + import.queued;
        let message = if done == 0 {
            format!("{}\nnothing was queued", failure.message)
        } else {
            format!(
                "{}\n{} of {} are queued; to go on with the others:\n    {}",
                failure.message,
                thousands(done),
                orders(total),
                again(args, place, &inputs, done)
            )
        };
        return Err(Failure::new(failure.exit, message));
    }
    let seqs = match import.seqs {
        Some((first, last)) if first == last => format!(" (seq {first})"),
        Some((first, last)) => format!(" (seq {first} to {last})"),
        None => String::new(),
    };
    writeln!(
        io::stdout(),
        "{} queued{seqs} in {:.1} s",
        orders(import.queued),
        progress.started.elapsed().as_secs_f64()
    )?;
    Ok(())
}

/// The files that are named; standard input if none is, unless somebody sits there.
fn inputs(args: &Args) -> Result<Vec<PathBuf>, Failure> {
    if !args.files.is_empty() {
        return Ok(args.files.clone());
    }
    if io::stdin().is_terminal() {
        let message =
            "name a file of orders, or - for standard input; `orderfeed enqueue --help` tells more";
        return Err(Failure::new(Exit::Usage, message));
    }
    Ok(vec![PathBuf::from("-")])
}

/// Judges every order, and says how many there are. An error names all that are refused, or as
/// many as can be read.
fn judge(args: &Args, sources: &[Source], progress: &mut Progress) -> Result<usize, Failure> {
    let mut rules = Rules::new()?;
    let mut refused = Refused::default();
    let mut total = 0;
    for source in sources {
        let read = source.each(|entry| {
            total += 1;
            progress.checked(total);
            let refusal = match new_order(args, source, entry)? {
                Ok(order) => rules.refusal(&order)?,
                Err(unreadable) => Some(unreadable),
            };
            if let Some(refusal) = refusal {
                refused.add(|| format!("{}: {refusal}", place_of(source, entry.spot)));
            }
            Ok(())
        });
        match read {
            Ok(()) => {}
            Err(Broken::Input(line, message)) => {
                refused.add(|| format!("{}:{line}: {message}", source.name));
            }
            Err(Broken::Io(error)) => return Err(unreadable(source, &error)),
            Err(Broken::Taker(failure)) => return Err(failure),
        }
    }
    progress.clear();
    refused.none_or_failure()?;
    Ok(total)
}

/// The order as it is to be queued, or why it can't be read. A failure if the arguments don't
/// fit.
fn new_order(
    args: &Args,
    source: &Source,
    entry: &Entry<'_>,
) -> Result<Result<NewOrder, String>, Failure> {
    let misfit = |message: String| Err(Failure::new(Exit::Usage, message));
    let name = &source.name;
    let order_type = match (args.order_type, entry.header.order_type) {
        (Some(said), Some(stands)) if said != stands => {
            return misfit(format!(
                "{name}: its DataType says {stands}, and --type says {said}"
            ));
        }
        (None, None) => {
            return misfit(format!(
                "{name}: these orders do not say their type; add --type purchase_order, transfer_order or work_order"
            ));
        }
        (Some(order_type), _) | (None, Some(order_type)) => order_type,
    };
    let action = match (&args.action, &entry.header.action) {
        (Some(said), Some(stands)) if said != stands => {
            return misfit(format!(
                "{name}: its DataType says the action {stands}, and --action says {said}"
            ));
        }
        (said, stands) => said.as_ref().or(stands.as_ref()),
    };
    Ok(entry.text.clone().map(|text| NewOrder {
        order_type,
        action: action.map(|action| action.as_str().to_owned()),
        dedup_key: None,
        body: text.to_owned(),
    }))
}

/// Where an order stands, for people.
fn place_of(source: &Source, spot: Spot) -> String {
    format!("{}:{}: order {}", source.name, spot.line, spot.number)
}

fn unreadable(source: &Source, error: &io::Error) -> Failure {
    Failure::new(Exit::Failed, format!("{}: {error}", source.name))
}

/// Orders that are refused: the first of them, and how many.
#[derive(Debug, Default)]
struct Refused {
    shown: Vec<String>,
    count: usize,
}

impl Refused {
    fn add(&mut self, message: impl FnOnce() -> String) {
        self.count += 1;
        if self.count <= SHOWN_MAX {
            self.shown.push(message());
        }
    }

    fn none_or_failure(self) -> Result<(), Failure> {
        if self.count == 0 {
            return Ok(());
        }
        let others = match self.count - self.shown.len() {
            0 => String::new(),
            others => format!("\nand {} more", thousands(others)),
        };
        let shown = self.shown.join("\n");
        let message = format!("nothing was queued:\n{shown}{others}");
        Err(Failure::new(Exit::Failed, message))
    }
}

/// The queueing of orders that are known to be good, slice by slice.
struct Import {
    queue: Queue,
    /// Orders yet to be left out.
    skip: usize,
    slice: Vec<NewOrder>,
    /// Where the orders of the slice stand.
    spots: Vec<(usize, Spot)>,
    slice_bytes: usize,
    /// Bytes queued since the WAL was copied back.
    uncopied_bytes: usize,
    /// Orders that are committed.
    queued: usize,
    /// The first and the last of them.
    seqs: Option<(Seq, Seq)>,
    runtime: Runtime,
    signals: [Signal; 2],
}

impl Import {
    fn new(queue: Queue, skip: usize) -> Result<Self, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let signals = {
            let _entered = runtime.enter();
            [
                signal(SignalKind::interrupt())?,
                signal(SignalKind::terminate())?,
            ]
        };
        Ok(Self {
            queue,
            skip,
            slice: Vec::new(),
            spots: Vec::new(),
            slice_bytes: 0,
            uncopied_bytes: 0,
            queued: 0,
            seqs: None,
            runtime,
            signals,
        })
    }

    fn all(
        &mut self,
        args: &Args,
        sources: &[Source],
        progress: &mut Progress,
    ) -> Result<(), Failure> {
        for (index, source) in sources.iter().enumerate() {
            let read = source.each(|entry| {
                if self.skip > 0 {
                    self.skip -= 1;
                    return Ok(());
                }
                let order = new_order(args, source, entry)?
                    .map_err(|unreadable| Failure::new(Exit::Failed, unreadable))?;
                self.slice_bytes += order.body.len();
                self.slice.push(order);
                self.spots.push((index, entry.spot));
                if self.slice.len() == SLICE_ORDERS || self.slice_bytes >= SLICE_BYTES {
                    refuse_changed(source)?;
                    let begun = Instant::now();
                    self.commit(sources, progress)?;
                    self.pause(begun.elapsed() / PAUSE_PART)?;
                }
                Ok(())
            });
            // What was read of a file that changed may be half an order: that it changed is the
            // better reason, and nothing more of it is queued.
            refuse_changed(source)?;
            match read {
                Ok(()) => {}
                Err(Broken::Taker(failure)) => return Err(failure),
                Err(Broken::Io(error)) => return Err(unreadable(source, &error)),
                Err(Broken::Input(line, message)) => {
                    let message = format!("{}:{line}: {message}", source.name);
                    return Err(Failure::new(Exit::Failed, message));
                }
            }
        }
        if !self.slice.is_empty() {
            self.commit(sources, progress)?;
        }
        Ok(())
    }

    /// Commits the slice.
    fn commit(&mut self, sources: &[Source], progress: &mut Progress) -> Result<(), Failure> {
        let last = match self.queue.enqueue(&self.slice) {
            Ok(last) => last,
            Err((index, error)) => {
                let place = self
                    .spots
                    .get(index)
                    .map(|&(source, spot)| place_of(&sources[source], spot));
                return Err(refusal(error, place));
            }
        };
        let count = self.slice.len();
        let first = Seq(last.0 + 1 - i64::try_from(count).unwrap_or(i64::MAX));
        self.seqs = Some((self.seqs.map_or(first, |(first, _)| first), last));
        self.queued += count;
        self.uncopied_bytes += self.slice_bytes;
        self.slice.clear();
        self.spots.clear();
        self.slice_bytes = 0;
        progress.queued(self.queued);
        if self.uncopied_bytes >= CHECKPOINT_BYTES {
            self.uncopied_bytes = 0;
            self.queue.checkpoint()?;
        }
        Ok(())
    }

    /// Leaves the queue to others for a moment. An error if somebody wants this to end.
    fn pause(&mut self, pause: Duration) -> Result<(), Failure> {
        let [interrupt, terminate] = &mut self.signals;
        let interrupted = self.runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => true,
                _ = terminate.recv() => true,
                () = tokio::time::sleep(pause) => false,
            }
        });
        if interrupted {
            return Err(Failure::new(Exit::Failed, "interrupted"));
        }
        Ok(())
    }
}

/// An error if the file is not what was judged any more.
fn refuse_changed(source: &Source) -> Result<(), Failure> {
    match source.has_changed() {
        Ok(false) => Ok(()),
        Ok(true) => {
            let message = format!("{} was changed while it was read", source.name);
            Err(Failure::new(Exit::Failed, message))
        }
        Err(error) => Err(unreadable(source, &error)),
    }
}

/// Why the queue did not take a slice, of which it refused one order or all.
fn refusal(error: store::Error, place: Option<String>) -> Failure {
    let store::Error::Sqlite { path, source, .. } = &error else {
        return error.into();
    };
    match (source.sqlite_error_code(), place) {
        (Some(ErrorCode::ConstraintViolation), Some(place)) => {
            Failure::new(Exit::Failed, format!("{place}: {source}"))
        }
        (Some(ErrorCode::DatabaseBusy), _) => Failure::new(
            Exit::Failed,
            format!(
                "{}: another producer has held it for {} s, and holds it still",
                path.display(),
                Queue::PATIENCE.as_secs()
            ),
        ),
        _ => error.into(),
    }
}

/// The command that goes on after the first `done` orders.
fn again(args: &Args, place: &ConfigPlace, inputs: &[PathBuf], done: usize) -> String {
    let mut words = vec!["orderfeed".to_owned()];
    if let Some(config) = &place.0 {
        words.extend(["--config".to_owned(), quoted(config)]);
    }
    words.push("enqueue".to_owned());
    if let Some(queue) = &args.queue {
        words.extend(["--queue".to_owned(), quoted(queue)]);
    }
    if let Some(order_type) = args.order_type {
        words.push(format!("--type {order_type}"));
    }
    if let Some(action) = &args.action {
        words.push(format!("--action {action}"));
    }
    words.push(format!("--skip {done}"));
    words.extend(inputs.iter().map(|input| quoted(input)));
    if inputs.iter().any(|input| input == Path::new("-")) {
        words.push("   (with the same standard input)".to_owned());
    }
    words.join(" ")
}

/// A path as the shell takes it.
fn quoted(path: &Path) -> String {
    let word = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./+,:@%=".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

/// How far it came, on one line of the terminal that is written again and again; nowhere else.
///
/// That a line can't be written is no reason to stop half-way, so it is not told.
struct Progress {
    shows: bool,
    started: Instant,
    /// When the queueing began.
    queueing: Instant,
    /// How many orders are to be queued.
    total: usize,
    shown: Instant,
}

/// The line is written this often at most.
const SHOW_GAP: Duration = Duration::from_millis(200);

impl Progress {
    fn new() -> Self {
        let now = Instant::now();
        Self {
            shows: io::stderr().is_terminal(),
            started: now,
            queueing: now,
            total: 0,
            shown: now,
        }
    }

    fn begin_queueing(&mut self, total: usize) {
        self.total = total;
        self.queueing = Instant::now();
    }

    fn checked(&mut self, count: usize) {
        if self.shows && self.is_due() {
            show(&format!("{} checked", orders(count)));
        }
    }

    fn queued(&mut self, count: usize) {
        if self.shows && self.is_due() {
            let ms = self.queueing.elapsed().as_millis().max(1);
            let a_second = usize::try_from(count as u128 * 1_000 / ms).unwrap_or(usize::MAX);
            show(&format!(
                "{} of {} queued ({}/s)",
                thousands(count),
                orders(self.total),
                thousands(a_second)
            ));
        }
    }

    fn is_due(&mut self) -> bool {
        let due = self.shown.elapsed() >= SHOW_GAP;
        if due {
            self.shown = Instant::now();
        }
        due
    }

    fn clear(&self) {
        if self.shows {
            show("");
        }
    }
}

fn show(line: &str) {
    let mut out = io::stderr();
    drop(write!(out, "\r\x1b[K{line}").and_then(|()| out.flush()));
}

/// `1 order`, `1,000 orders`
fn orders(count: usize) -> String {
    match count {
        1 => "1 order".to_owned(),
        _ => format!("{} orders", thousands(count)),
    }
}

/// `1,000,000`
fn thousands(count: usize) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
