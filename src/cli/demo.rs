//! `orderfeed demo`: all of it at work in a temporary folder, within half a minute.
//!
//! A queue, the daemon, a receiver that refuses one request, and a producer that knows nothing
//! but SQL, in one process. The daemon is the real one, with a configuration as it would stand
//! in a file; nothing is mocked. At the end the sums are compared, and if they don't agree the
//! demo fails.

mod orders;
mod receiver;

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder};
use std::io::{self, IsTerminal, Write};
use std::net::Ipv4Addr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use bytes::Bytes;
use rusqlite::Connection;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use self::receiver::Arrival;
use super::{Exit, Failure, init, short};
use crate::clock;
use crate::config::Config;
use crate::daemon::{self, Reins, Stores};
use crate::feed::order::{OrderType, PerType};

/// Show how orders go from a queue to a receiver, in a temporary folder, in ten seconds
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Go on until Ctrl-C, for queueing orders of one's own, and leave the files
    #[arg(long)]
    keep: bool,
}

/// It has failed if it takes longer.
const PATIENCE: Duration = Duration::from_secs(30);

use OrderType::{PurchaseOrder, TransferOrder, WorkOrder};

/// Orders that are committed together: a row of them, repeated.
#[derive(Clone, Copy)]
struct Lot {
    row: &'static [OrderType],
    times: usize,
}

impl Lot {
    /// As many orders of a type as there are in it.
    fn count(self, order_type: OrderType) -> usize {
        self.row
            .iter()
            .filter(|&&other| other == order_type)
            .count()
            * self.times
    }
}

/// What the producer commits first,
const FIRST: Lot = Lot {
    row: &[
        PurchaseOrder,
        TransferOrder,
        PurchaseOrder,
        WorkOrder,
        PurchaseOrder,
    ],
    times: 60,
};

/// and what while the first are under way.
const SECOND: Lot = Lot {
    row: &[TransferOrder, PurchaseOrder, PurchaseOrder],
    times: 30,
};

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let folder = Folder::new(args.keep)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let tasks = tokio::task::LocalSet::new();
    tasks.block_on(&runtime, Box::pin(perform(args.keep, &folder.path)))
}

/// How the performance ends.
enum End {
    /// All orders have arrived.
    Complete,
    /// They should have by now.
    Late,
    /// Somebody wants no more of it.
    Interrupted,
}

async fn perform(keep: bool, folder: &Path) -> Result<(), Failure> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut stage = Stage::set(folder).await?;
    stage.introduce(keep)?;
    stage.commit(FIRST)?;
    stage.head()?;
    let stores = Stores::open(&stage.config.queue.path, &stage.config.ledger.path)?;
    let (stop, stopping) = watch::channel(false);
    let (_reload, reloading) = watch::channel(Arc::clone(&stage.config));
    let reins = Reins {
        stop: stopping,
        reload: reloading,
        inbox: None,
    };
    let mut running = pin!(daemon::run(stores, reins));
    let deadline = stage.started + PATIENCE;
    let end = loop {
        tokio::select! {
            Some(arrival) = stage.arrivals.recv() => stage.arrived(arrival)?,
            ended = &mut running => {
                ended?;
                return Err(Failure::new(Exit::Failed, "the daemon ended by itself"));
            }
            _ = interrupt.recv() => break End::Interrupted,
            _ = terminate.recv() => break End::Interrupted,
            () = sleep_until(deadline), if !stage.is_over => break End::Late,
        }
        if stage.is_complete() && !stage.is_over {
            if !keep {
                break End::Complete;
            }
            stage.reconcile()?;
            stage.invite()?;
        }
    };
    stop.send_replace(true);
    // What is under way comes to its end, and counts.
    running.await?;
    while let Ok(arrival) = stage.arrivals.try_recv() {
        stage.arrived(arrival)?;
    }
    match end {
        End::Interrupted if stage.is_over => stage.leave(),
        End::Interrupted => Err(Failure::new(Exit::Failed, "interrupted")),
        End::Late | End::Complete => {
            stage.reconcile()?;
            recommend()
        }
    }
}

/// Everything that is on the stage, and what has been seen so far.
struct Stage {
    folder: PathBuf,
    text: String,
    config: Arc<Config>,
    producer: Connection,
    arrivals: mpsc::Receiver<Arrival>,
    colour: bool,
    started: Instant,
    committed: PerType<usize>,
    seen: PerType<Seen>,
    requests: usize,
    refused: Option<Refused>,
    /// Whether the second lot of orders was committed.
    hurried: bool,
    /// Whether the sums were compared: what comes now is the reader's own.
    is_over: bool,
}

/// What the receiver took, of an order type.
#[derive(Default)]
struct Seen {
    orders: usize,
    tracking_numbers: BTreeSet<String>,
    payload_ids: BTreeSet<String>,
}

/// The request that was refused.
struct Refused {
    payload_id: String,
    body: Bytes,
    /// Whether the same bytes have come again under the same id.
    came_again: bool,
}

impl Stage {
    async fn set(folder: &Path) -> Result<Self, Failure> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let text = format!(
            r#"[queue]
path = "queue/queue.db"

[ledger]
path = "ledger/ledger.db"

[webhook.erp]
url = "http://{}/orders"
sequence = "po_first"         # purchase orders first, then the oldest
payload_max_items = 25        # orders in one request, at most
payload_interval = "400ms"    # between two requests, at least
retry_gap = "2s"              # after a request that failed
"#,
            listener.local_addr()?
        );
        let file = folder.join("config.toml");
        fs::write(&file, &text)?;
        // Variables of the environment are meant for a daemon, and not for this one.
        let config = Config::read(&file, &text, [], None)?;
        init::make(&config.queue.path, &config.ledger.path)?;
        let producer = Connection::open(&config.queue.path).map_err(|error| by_producer(&error))?;
        producer
            .busy_timeout(Duration::from_secs(5))
            .map_err(|error| by_producer(&error))?;
        // It ends with the runtime.
        let (tell, arrivals) = mpsc::channel(64);
        drop(tokio::spawn(receiver::serve(listener, tell)));
        let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Ok(Self {
            folder: folder.to_owned(),
            text,
            config: Arc::new(config),
            producer,
            arrivals,
            colour: io::stdout().is_terminal() && !no_colour,
            started: Instant::now(),
            committed: PerType::default(),
            seen: PerType::default(),
            requests: 0,
            refused: None,
            hurried: false,
            is_over: false,
        })
    }

    /// As many orders of each type as were committed and have not arrived.
    fn left(&self) -> PerType<usize> {
        PerType::from_fn(|order_type| {
            let arrived = self.seen[order_type].tracking_numbers.len();
            self.committed[order_type].saturating_sub(arrived)
        })
    }

    fn is_complete(&self) -> bool {
        self.hurried && self.left() == PerType::default()
    }

    /// Orders are committed as any program would: SQL on a connection of its own.
    fn commit(&mut self, lot: Lot) -> Result<(), Failure> {
        let mut new = Vec::new();
        for _ in 0..lot.times {
            for &order_type in lot.row {
                self.committed[order_type] += 1;
                let number = self.committed[order_type];
                let body = orders::order(order_type, number).map_err(io::Error::from)?;
                new.push((order_type.as_str(), body));
            }
        }
        let insert = |producer: &mut Connection| {
            let transaction = producer.transaction()?;
            for order in &new {
                transaction.execute(
                    "INSERT INTO orders (order_type, body) VALUES (?1, ?2)",
                    (order.0, &order.1),
                )?;
            }
            transaction.commit()
        };
        insert(&mut self.producer).map_err(|error| by_producer(&error))
    }

    fn arrived(&mut self, arrival: Arrival) -> Result<(), Failure> {
        self.requests += 1;
        let count = arrival.tracking_numbers.len();
        let order_type = arrival.order_type;
        let taken = arrival.answer == StatusCode::OK;
        let mut remark = None;
        if taken {
            let seen = &mut self.seen[order_type];
            seen.orders += count;
            seen.tracking_numbers.extend(arrival.tracking_numbers);
            seen.payload_ids.insert(arrival.payload_id.clone());
        }
        match &mut self.refused {
            Some(refused) if refused.payload_id == arrival.payload_id => {
                refused.came_again = refused.body == arrival.body;
                remark = Some("the same payload again: same id, same bytes; it got through");
            }
            None if !taken => {
                remark = Some("refused on purpose; the daemon keeps it, and tries again in 2 s");
                self.refused = Some(Refused {
                    payload_id: arrival.payload_id.clone(),
                    body: arrival.body,
                    came_again: false,
                });
            }
            _ => {}
        }
        let colour = if taken { GREEN } else { RED };
        let left = if self.is_over {
            String::new()
        } else {
            let left = self.left();
            format!(
                "{:>9}{:>6}{:>6}",
                left[PurchaseOrder], left[TransferOrder], left[WorkOrder]
            )
        };
        let mut out = io::stdout().lock();
        writeln!(
            out,
            "{:>6.1} s {:>4} {}  {}  {}{left}",
            self.started.elapsed().as_secs_f64(),
            count,
            short(order_type),
            self.paint(DIM, &arrival.payload_id),
            self.paint(colour, arrival.answer.as_str()),
        )?;
        if let Some(remark) = remark {
            writeln!(out, "              {}", self.paint(YELLOW, remark))?;
        }
        // Orders come while others are under way: the purchase orders among them go first.
        if order_type != PurchaseOrder && !self.hurried {
            self.hurried = true;
            self.commit(SECOND)?;
            let remark = format!(
                "the producer commits {}: purchase orders go first again",
                in_words(SECOND)
            );
            writeln!(out, "              {}", self.paint(YELLOW, &remark))?;
        }
        Ok(())
    }

    fn introduce(&self, keep: bool) -> io::Result<()> {
        let mut out = io::stdout().lock();
        writeln!(
            out,
            "{}: a queue, the daemon, and a receiver that it delivers to.",
            self.paint(BOLD, "orderfeed demo")
        )?;
        writeln!(
            out,
            "All files are in {}{}\n",
            self.folder.display(),
            if keep { "" } else { " (removed at the end)" }
        )?;
        writeln!(out, "The daemon's configuration, config.toml:\n")?;
        for line in self.text.lines() {
            if line.is_empty() {
                writeln!(out)?;
            } else {
                writeln!(out, "    {}", self.paint(DIM, line))?;
            }
        }
        writeln!(
            out,
            "\nA program of yours, in any language, commits {} purchase orders (PO),\n{} transfer orders (TO) and {} work orders (WO) to the queue, in mixed order:\n",
            FIRST.count(PurchaseOrder),
            FIRST.count(TransferOrder),
            FIRST.count(WorkOrder)
        )
    }

    /// What was committed, and the head of the table of arrivals.
    fn head(&self) -> Result<(), Failure> {
        let (order_type, body): (String, String) = self
            .producer
            .query_row(
                "SELECT order_type, substr(body, 1, 66) FROM orders ORDER BY seq LIMIT 1",
                [],
                |row| Ok((row.get(0)?, row.get(1)?)),
            )
            .map_err(|error| by_producer(&error))?;
        let mut out = io::stdout().lock();
        let statement = [
            "INSERT INTO orders (order_type, body) VALUES".to_owned(),
            format!("  ('{order_type}',"),
            format!("   '{body}..."),
        ];
        for line in statement {
            writeln!(out, "    {}", self.paint(DIM, &line))?;
        }
        writeln!(
            out,
            "\n{:<57}still waiting",
            "The daemon sends them, and the receiver gets:"
        )?;
        writeln!(
            out,
            "    time  orders  payload id                     answer   PO    TO    WO"
        )?;
        Ok(())
    }

    /// Compares the queue with what the receiver took; an error if they don't agree.
    fn reconcile(&mut self) -> Result<(), Failure> {
        self.is_over = true;
        let queued = self.queued().map_err(|error| by_producer(&error))?;
        let mut out = io::stdout().lock();
        writeln!(
            out,
            "\n{}",
            self.paint(
                BOLD,
                "                        queued   delivered   distinct   payloads"
            )
        )?;
        let mut agree = true;
        let mut sum = [0; 4];
        for (order_type, seen) in self.seen.iter() {
            let row = [
                queued[order_type],
                seen.orders,
                seen.tracking_numbers.len(),
                seen.payload_ids.len(),
            ];
            agree &= row[0] == self.committed[order_type] && row[0] == row[1] && row[1] == row[2];
            for (sum, number) in sum.iter_mut().zip(row) {
                *sum += number;
            }
            let name = format!(
                "{} ({})",
                order_type.as_str().replace('_', " ") + "s",
                short(order_type)
            );
            write_row(&mut out, &name, row)?;
        }
        write_row(&mut out, "all", sum)?;
        writeln!(out)?;
        let repeats = self.requests.saturating_sub(sum[3]);
        let came_again = self
            .refused
            .as_ref()
            .is_some_and(|refused| refused.came_again);
        if came_again && repeats == 1 {
            writeln!(
                out,
                "{} requests for {} payloads: the refused one was sent twice, with the same id.",
                self.requests, sum[3]
            )?;
        }
        if agree && came_again && repeats == 1 {
            let verdict = format!("Each of the {} orders was delivered exactly once.", sum[0]);
            writeln!(out, "{}", self.paint(GREEN, &verdict))?;
            return Ok(());
        }
        Err(Failure::new(
            Exit::Failed,
            format!(
                "the sums don't agree: {} orders queued, {} delivered, {} distinct; {} requests for {} payloads, the refused one {}; please report this",
                sum[0],
                sum[1],
                sum[2],
                self.requests,
                sum[3],
                if came_again {
                    "came again"
                } else {
                    "did not come again"
                }
            ),
        ))
    }

    /// What the queue holds.
    fn queued(&self) -> rusqlite::Result<PerType<usize>> {
        let mut queued = PerType::default();
        let mut statement = self
            .producer
            .prepare("SELECT count(*) FROM orders WHERE order_type = ?1")?;
        for order_type in OrderType::ALL {
            let count: u32 = statement.query_row([order_type.as_str()], |row| row.get(0))?;
            queued[order_type] = count as usize;
        }
        Ok(queued)
    }

    /// What the reader may try, while all of it goes on.
    fn invite(&self) -> Result<(), Failure> {
        let me = program();
        let folder = self.folder.display();
        writeln!(
            io::stdout(),
            r#"
It all goes on until Ctrl-C. Queue orders from another terminal, with plain SQL

    sqlite3 {folder}/queue/queue.db "INSERT INTO orders
      (order_type, body) VALUES ('work_order', '{{\"TrackingNumber\": 7}}')"

or from a file or pipe

    export ORDERFEED_CONFIG={folder}/config.toml
    echo '{{"TrackingNumber": 8}}' | {me} enqueue --type purchase_order

and see them arrive here:
"#
        )?;
        Ok(())
    }

    /// What is left.
    fn leave(&self) -> Result<(), Failure> {
        let me = program();
        let folder = self.folder.display();
        writeln!(
            io::stdout(),
            r"
Stopped. The files stay. The receiver is gone, so give config.toml another url, and

    {me} run --config {folder}/config.toml

goes on with the daemon alone. This removes it all:

    rm -r {folder}"
        )?;
        Ok(())
    }

    fn paint(&self, colour: &str, text: &str) -> String {
        if self.colour {
            format!("\x1b[{colour}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

const BOLD: &str = "1";
const DIM: &str = "2";
const RED: &str = "31";
const GREEN: &str = "32";
const YELLOW: &str = "33";

fn write_row(out: &mut impl Write, name: &str, row: [usize; 4]) -> io::Result<()> {
    let [queued, delivered, distinct, payloads] = row;
    writeln!(
        out,
        "  {name:<22}{queued:>6}{delivered:>12}{distinct:>11}{payloads:>11}"
    )
}

/// What the reader may do next.
fn recommend() -> Result<(), Failure> {
    let me = program();
    writeln!(
        io::stdout(),
        r"
To go on with orders of your own:

    {me} demo --keep

For the real thing, write a config.toml (see config.toml.example), and:

    {me} init --config config.toml
    {me} run --config config.toml
"
    )?;
    Ok(())
}

/// `60 PO, 30 TO`
fn in_words(lot: Lot) -> String {
    let counts: Vec<String> = OrderType::ALL
        .into_iter()
        .map(|order_type| (short(order_type), lot.count(order_type)))
        .filter(|&(_, count)| count > 0)
        .map(|(name, count)| format!("{count} {name}"))
        .collect();
    counts.join(", ")
}

/// How this program was called, for commands to copy.
fn program() -> String {
    std::env::args_os().next().map_or_else(
        || "orderfeed".into(),
        |name| name.to_string_lossy().into_owned(),
    )
}

fn by_producer(error: &rusqlite::Error) -> Failure {
    Failure::new(Exit::Failed, format!("the demo's producer: {error}"))
}

/// The folder of the demo, which goes with it.
struct Folder {
    path: PathBuf,
    keep: bool,
}

impl Folder {
    fn new(keep: bool) -> Result<Self, Failure> {
        let name = format!("orderfeed-demo-{:08x}", u32::from_be_bytes(clock::dice()));
        let path = std::env::temp_dir().join(name);
        DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .map_err(|error| {
                let message = format!(
                    "{}: {error}; TMPDIR names another folder for it",
                    path.display()
                );
                Failure::new(Exit::Failed, message)
            })?;
        Ok(Self { path, keep })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.keep {
            // What can't be removed here, the system removes some day.
            drop(fs::remove_dir_all(&self.path));
        }
    }
}
