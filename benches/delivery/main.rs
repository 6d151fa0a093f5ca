//! How fast orderfeed delivers, beside the least that any sender must do, on this machine and in
//! the same run: `cargo bench --bench delivery`. Prints a table; `--json FILE` writes the figures.
//!
//! It measures the real binary, from outside: by when requests reach a receiver, and by what the
//! kernel says of the process. Whatever else the machine does is in the figures; the limit runs
//! in turns with orderfeed, so that both suffer alike.

#![expect(clippy::print_stdout, reason = "a benchmark prints what it measured")]
#![expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_possible_wrap,
    reason = "figures are small, and rounded for people"
)]

mod history;
mod limit;
mod order;
mod receiver;
mod site;

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use receiver::{Receiver, Request, rate};
use rusqlite::Connection;
use serde_json::{Value, json};
use site::{Pristine, insert};

/// How fast orderfeed delivers, beside the bare limit
#[derive(Debug, Parser)]
struct Args {
    /// Only these: throughput, latency, idle, backlog, webhooks, explain
    sections: Vec<String>,
    /// Writes the figures to this file, too
    #[arg(long)]
    json: Option<PathBuf>,
    /// Each throughput is measured so often, in turns with the limit
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of doing nothing
    #[arg(long, default_value_t = 60)]
    idle: u64,
    /// Orders of the large backlog
    #[arg(long, default_value_t = 5_000_000)]
    backlog: u64,
    /// Orders that wait while questions are answered, and attempts that were made before
    #[arg(long, default_value_t = 5_000_000)]
    explained: u64,
    /// See above
    #[arg(long, default_value_t = 1_000_000)]
    attempts: u64,
    /// What cargo passes; means nothing here
    #[arg(long, hide = true)]
    bench: bool,
}

/// What is measured: its name, and how.
type Section = (&'static str, fn(&Args) -> Value);

fn main() {
    let args = Args::parse();
    let sections: [Section; 6] = [
        ("throughput", throughput),
        ("latency", latency),
        ("idle", idle),
        ("backlog", backlog),
        ("webhooks", webhooks),
        ("explain", explain),
    ];
    if let Some(unknown) = args
        .sections
        .iter()
        .find(|wanted| sections.iter().all(|(name, _)| name != wanted))
    {
        let names = sections.map(|(name, _)| name).join(", ");
        panic!("{unknown:?} is not measured; there are {names}");
    }
    let mut figures = serde_json::Map::new();
    for (name, measure) in sections {
        if args.sections.is_empty() || args.sections.iter().any(|wanted| wanted == name) {
            figures.insert(name.to_owned(), measure(&args));
        }
    }
    if let Some(path) = args.json {
        let text = serde_json::to_string_pretty(&figures).expect("plain figures");
        std::fs::write(path, text + "\n").expect("a file that can be written");
    }
}

/// Payloads a second to one fast receiver, by `payload_max_items`, beside the limit's.
fn throughput(args: &Args) -> Value {
    /// Orders a payload, and payloads a measurement: about a second each.
    const SIZES: [(usize, usize); 4] = [(1, 2_000), (10, 2_000), (100, 800), (1_000, 100)];
    println!(
        "\nThroughput to one receiver that answers at once, orders of 1.2 KB, medians of {}:",
        args.rounds
    );
    println!("  items a payload   orderfeed/s     limit/s   of the limit (least to most)");
    let pristine = Pristine::new(100_000);
    let mut figures = Vec::new();
    for (items, payloads) in SIZES {
        let mut pairs: Vec<(f64, f64)> = Vec::new();
        // The first round warms up the disk and the caches.
        for round in 0..=args.rounds {
            let pair = (
                delivered_rate(&pristine, items, payloads),
                limit_rate(&pristine, items, payloads),
            );
            if round > 0 {
                pairs.push(pair);
            }
        }
        let orderfeed = median(pairs.iter().map(|pair| pair.0));
        let limit = median(pairs.iter().map(|pair| pair.1));
        let ratios = || pairs.iter().map(|pair| pair.0 / pair.1);
        let (least, most) = (
            ratios().fold(f64::MAX, f64::min),
            ratios().fold(0.0, f64::max),
        );
        let ratio = orderfeed / limit;
        println!(
            "  {items:>15}   {orderfeed:>11.0} {limit:>11.0}   {ratio:>5.2} ({least:.2} to {most:.2})"
        );
        figures.push(json!({
            "items": items, "payloads": payloads,
            "orderfeed_payloads_per_s": orderfeed, "limit_payloads_per_s": limit,
            "ratio": ratio, "ratio_min": least, "ratio_max": most,
        }));
    }
    Value::Array(figures)
}

fn delivered_rate(pristine: &Pristine, items: usize, payloads: usize) -> f64 {
    let receiver = Receiver::new(Some(Duration::ZERO));
    let site = pristine.site();
    let _daemon = site.start(&webhook("erp", &receiver, &max(items)));
    rate(&receiver.wait_for(payloads)[..payloads])
}

fn limit_rate(pristine: &Pristine, items: usize, payloads: usize) -> f64 {
    let receiver = Receiver::new(Some(Duration::ZERO));
    let site = pristine.site();
    limit::deliver(
        &site.queue(),
        &site.limits_ledger(),
        &receiver.url(),
        items as i64,
        payloads as i64,
    );
    rate(&receiver.wait_for(payloads))
}

/// From a producer's commit to the first bytes of the request, for orders that come one by one.
fn latency(_args: &Args) -> Value {
    const ORDERS: u64 = 1_000;
    let receiver = Receiver::new(Some(Duration::ZERO));
    let site = Pristine::new(0).into_site();
    let _daemon = site.start(&webhook("erp", &receiver, &max(1)));
    let producer = Connection::open(site.queue()).expect("the queue");
    producer
        .execute_batch("PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 0")
        .expect("what producers are told to set");
    let mut spans: Vec<Duration> = Vec::new();
    for number in 0..=ORDERS {
        insert(&producer, number);
        let committed = Instant::now();
        let arrived = receiver.wait_for(spans.len() + 1)[spans.len()].arrived;
        spans.push(arrived.saturating_duration_since(committed));
        // At every phase of whatever has a period.
        thread::sleep(Duration::from_micros(15_000 + number * 7_919 % 20_000));
    }
    // The first waits for the daemon to start.
    spans.remove(0);
    spans.sort_unstable();
    let at = |share: f64| spans[(share * (spans.len() - 1) as f64) as usize].as_secs_f64() * 1e3;
    let (p50, p99, worst) = (at(0.5), at(0.99), at(1.0));
    println!(
        "\nFrom commit to request, {ORDERS} orders one by one: p50 {p50:.2} ms, p99 {p99:.2} ms, at most {worst:.2} ms"
    );
    json!({ "orders": ORDERS, "p50_ms": p50, "p99_ms": p99, "max_ms": worst })
}

/// What three webhooks cost that have nothing to do.
fn idle(args: &Args) -> Value {
    let receiver = Receiver::new(Some(Duration::ZERO));
    let site = Pristine::new(1).into_site();
    let three: String = ["erp", "gateway", "archive"]
        .map(|name| webhook(name, &receiver, ""))
        .concat();
    let daemon = site.start(&three);
    receiver.wait_for(3);
    thread::sleep(Duration::from_secs(2));
    let before = daemon.cpu();
    thread::sleep(Duration::from_secs(args.idle));
    let cpu_ms = daemon.cpu().saturating_sub(before).as_secs_f64() * 1e3 / args.idle as f64;
    let memory_mib = mib(daemon.memory_peak());
    println!(
        "\nIdle with three webhooks for {} s: {cpu_ms:.2} ms of CPU a second, {memory_mib:.0} MiB at most",
        args.idle
    );
    json!({ "seconds": args.idle, "cpu_ms_per_s": cpu_ms, "memory_peak_mib": memory_mib })
}

/// Whether a payload costs more when much waits behind it.
fn backlog(args: &Args) -> Value {
    // Of 1,000 orders so many are left at the end that reading ahead meets as much to read as in a
    // large backlog.
    const ITEMS: usize = 20;
    const PAYLOADS: usize = 30;
    const ROUNDS: usize = 31;
    println!("\nBacklog, payloads of {ITEMS} orders:");
    let small = Pristine::new(1_000);
    let large = Pristine::new(args.backlog);
    let large = large.into_site();
    let mut figures = Vec::new();
    let mut costs = [Vec::new(), Vec::new()];
    let mut memory = [0, 0];
    // A backlog that is soon used up is measured less often.
    let rounds = args.backlog as usize / (2 * ITEMS * PAYLOADS);
    for _round in 0..rounds.clamp(1, ROUNDS) {
        let sites = [&small.site(), &large];
        for (index, site) in sites.into_iter().enumerate() {
            // Each delivers the same number of payloads, from a start of its own.
            let receiver = Receiver::new(Some(Duration::ZERO));
            let daemon = site.start(&webhook("erp", &receiver, &max(ITEMS)));
            let requests = receiver.wait_for(PAYLOADS);
            costs[index].push(1e3 / rate(&requests[..PAYLOADS]));
            memory[index] = memory[index].max(daemon.memory_peak());
        }
    }
    for (index, orders) in [1_000, args.backlog].into_iter().enumerate() {
        let cost_ms = median(costs[index].iter().copied());
        let memory_mib = mib(memory[index]);
        println!(
            "  {orders:>9} orders wait: {cost_ms:.2} ms a payload, {memory_mib:.0} MiB at most"
        );
        figures.push(
            json!({ "orders": orders, "ms_per_payload": cost_ms, "memory_peak_mib": memory_mib }),
        );
    }
    Value::Array(figures)
}

/// Eight webhooks beside one, to receivers that take 50 ms; and beside one that hangs.
fn webhooks(_args: &Args) -> Value {
    const DELAY: Duration = Duration::from_millis(50);
    const PAYLOADS: usize = 60;
    let run = |webhooks: usize, with_one_that_hangs: bool| {
        let receivers: Vec<Receiver> = (0..webhooks).map(|_| Receiver::new(Some(DELAY))).collect();
        let hanging = with_one_that_hangs.then(|| Receiver::new(None));
        let mut configuration = String::new();
        for (number, receiver) in receivers.iter().enumerate() {
            configuration += &webhook(&format!("w{number}"), receiver, &max(10));
        }
        if let Some(hanging) = &hanging {
            configuration += &webhook("hanging", hanging, &max(10));
        }
        let site = Pristine::new(10 * PAYLOADS as u64).into_site();
        let _daemon = site.start(&configuration);
        let all: Vec<Vec<Request>> = receivers
            .iter()
            .map(|receiver| receiver.wait_for(PAYLOADS))
            .collect();
        let first = all
            .iter()
            .filter_map(|requests| requests.first())
            .map(|request| request.arrived)
            .min();
        let last = all
            .iter()
            .filter_map(|requests| requests.last())
            .map(|request| request.answered)
            .max();
        let (Some(first), Some(last)) = (first, last) else {
            return 0.0;
        };
        (webhooks * PAYLOADS) as f64 / (last - first).as_secs_f64()
    };
    let (one, eight, beside) = (run(1, false), run(8, false), run(8, true));
    println!(
        "\nReceivers that take 50 ms: one webhook {one:.1} payloads/s, eight {eight:.1} ({:.1} times), eight beside one that hangs {beside:.1}",
        eight / one
    );
    json!({ "one_payloads_per_s": one, "eight_payloads_per_s": eight, "ratio": eight / one, "eight_beside_a_hanging_one_payloads_per_s": beside })
}

/// How long an operator waits for an answer: eight webhooks, many attempts behind, many orders before
/// them; over the socket, and without a daemon.
fn explain(args: &Args) -> Value {
    const ROUNDS: usize = 11;
    let names: Vec<String> = (0..history::WEBHOOKS)
        .map(|number| format!("w{number}"))
        .collect();
    let done = history::payloads_of(history::WEBHOOKS - 1, args.attempts);
    let site = Pristine::new(done + args.explained).into_site();
    history::record(&site, &names, args.attempts);
    // Two of them read orders to know which are theirs; all are busy with a request.
    let receiver = Receiver::new(None);
    let configuration: Vec<String> = names
        .iter()
        .enumerate()
        .map(|(number, name)| {
            let more = match number {
                0 => "filter = { Site = [\"HAM-2\"] }",
                1 => "triggers = [\"*.submit\"]",
                _ => "",
            };
            webhook(name, &receiver, &format!("timeout = \"1h\"\n{more}"))
        })
        .collect();
    let daemon = site.start(&configuration.concat());
    // A daemon that starts has the ledger before it answers.
    while !site.socket().exists() {
        thread::sleep(Duration::from_millis(100));
    }
    // Until each of them is busy: the receiver never answers.
    loop {
        let (_, status) = site.time(&["webhooks", "list", "--json"]);
        if status.matches("\"sending\"").count() == names.len() {
            break;
        }
        thread::sleep(Duration::from_millis(100));
    }
    let waiting = (done + args.explained / 2).to_string();
    let delivered = (done / 2).to_string();
    let (_, page) = site.time(&["payloads", "--limit", "1", "--state", "failed", "--json"]);
    let page: Value = serde_json::from_str(&page).expect("JSON");
    let failed = page["payloads"][0]["payload_id"]
        .as_str()
        .expect("one")
        .to_owned();
    let commands: Vec<Vec<&str>> = vec![
        vec!["status"],
        vec!["webhooks", "list"],
        vec!["webhooks", "show", "w0"],
        vec!["trace", &waiting],
        vec!["trace", &delivered],
        vec!["payloads"],
        vec!["payloads", "--state", "failed"],
        vec!["payloads", "--webhook", "w3", "--state", "delivered"],
        vec!["payloads", "--until", "30m"],
        vec!["payloads", "--tracking-number", &delivered],
        vec!["show", &failed],
        vec!["show", "--body", &failed],
    ];
    println!(
        "\nAnswers with {} webhooks, {} attempts behind and {} orders before them, of {ROUNDS}:",
        names.len(),
        args.attempts,
        args.explained
    );
    println!(
        "  {:<46} {:>9} {:>9}   {:>9} {:>9}",
        "", "socket", "at most", "files", "at most"
    );
    let measure = || -> Vec<(f64, f64)> {
        let spans = |command: &Vec<&str>| {
            let took = (0..ROUNDS).map(|_| site.time(command).0.as_secs_f64() * 1e3);
            let took: Vec<f64> = took.collect();
            (
                median(took.iter().copied()),
                took.iter().copied().fold(0.0, f64::max),
            )
        };
        commands.iter().map(spans).collect()
    };
    let by_socket = measure();
    let (reconciled, _) = site.time(&["reconcile"]);
    drop(daemon);
    let by_files = measure();
    let mut figures = Vec::new();
    for ((command, socket), files) in commands.iter().zip(by_socket).zip(by_files) {
        let command = command.join(" ");
        println!(
            "  {command:<46} {:>6.1} ms {:>6.1} ms   {:>6.1} ms {:>6.1} ms",
            socket.0, socket.1, files.0, files.1
        );
        figures.push(json!({
            "command": command, "socket_ms": socket.0, "socket_max_ms": socket.1,
            "files_ms": files.0, "files_max_ms": files.1,
        }));
    }
    let reconcile_s = reconciled.as_secs_f64();
    println!("  reconcile, over the socket: {reconcile_s:.1} s");
    json!({
        "webhooks": names.len(), "attempts": args.attempts, "orders": args.explained,
        "commands": figures, "reconcile_s": reconcile_s,
    })
}

fn webhook(name: &str, receiver: &Receiver, more: &str) -> String {
    format!("[webhook.{name}]\nurl = \"{}\"\n{more}\n", receiver.url())
}

fn max(items: usize) -> String {
    format!("payload_max_items = {items}\npayload_max_bytes = \"16MiB\"")
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
