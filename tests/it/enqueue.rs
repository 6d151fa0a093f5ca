//! `orderfeed enqueue`: what it takes, what it refuses, and how it goes on.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use rustix::process::{Pid, Signal, kill_process};

use crate::support::{PATIENCE, Site};

/// What the queue holds, a line an order.
fn queued(site: &Site) -> String {
    let queue = site.producer();
    let mut orders = queue
        .prepare("SELECT seq || ' ' || order_type || ' ' || action || ' ' || body FROM orders ORDER BY seq")
        .unwrap();
    let lines = orders.query_map([], |row| row.get::<_, String>(0)).unwrap();
    lines.map(Result::unwrap).collect::<Vec<_>>().join("\n")
}

/// What the command says, without how long it took.
fn told(site: &Site, args: &[&str]) -> String {
    untimed(&site.told(args))
}

fn untimed(text: &str) -> String {
    match text.split_once(" in ") {
        Some((before, after)) if after.contains(" s\n") => {
            format!("{before}\n{}", after.split_once('\n').unwrap().1)
        }
        _ => text.to_owned(),
    }
}

/// Gives the command a file, and returns what it says and what the queue holds then.
fn check(text: impl AsRef<[u8]>, args: &str, expected: &str) {
    let site = Site::new("");
    fs::write(site.config().with_file_name("orders"), text).unwrap();
    let args: Vec<&str> = ["enqueue", "orders"]
        .into_iter()
        .chain(args.split_whitespace())
        .collect();
    let told = told(&site, &args);
    assert_eq!(format!("{told}\n{}", queued(&site)).trim_end(), expected);
}

#[test]
fn one_order() {
    check(
        r#"{"TrackingNumber": 1, "Price": 12345678901234567890.10}"#,
        "--type purchase_order",
        r#"1 order queued (seq 1)
[exit 0]
1 purchase_order submit {"TrackingNumber": 1, "Price": 12345678901234567890.10}"#,
    );
    check(
        "\u{feff}\r\n{\r\n  \"TrackingNumber\": \"W-1\"\r\n}\r\n",
        "--type work_order --action update",
        "1 order queued (seq 1)\n[exit 0]\n1 work_order update {\r\n  \"TrackingNumber\": \"W-1\"\r\n}",
    );
}

#[test]
fn an_array_of_orders() {
    check(
        "\n[\n  {\"TrackingNumber\":1},\n  {\"TrackingNumber\":\"\\u0041\",\"a\":{\"b\":[1.50]}}\n]\n",
        "--type transfer_order",
        r#"2 orders queued (seq 1 to 2)
[exit 0]
1 transfer_order submit {"TrackingNumber":1}
2 transfer_order submit {"TrackingNumber":"\u0041","a":{"b":[1.50]}}"#,
    );
    check("[]", "--type transfer_order", "0 orders queued\n[exit 0]");
}

#[test]
fn one_order_a_line() {
    check(
        "\n{\"TrackingNumber\":1}\r\n \n {\"TrackingNumber\":2} \n{\"TrackingNumber\":\"für\"}",
        "--type work_order",
        r#"3 orders queued (seq 1 to 3)
[exit 0]
1 work_order submit {"TrackingNumber":1}
2 work_order submit {"TrackingNumber":2}
3 work_order submit {"TrackingNumber":"für"}"#,
    );
    check("", "", "0 orders queued\n[exit 0]");
}

#[test]
fn a_payload_says_its_type() {
    let data = r#""Data":[{"TrackingNumber":1},{"TrackingNumber":2}]"#;
    check(
        format!(r#"{{"DataType":"purchase_order",{data}}}"#),
        "--type purchase_order",
        r#"2 orders queued (seq 1 to 2)
[exit 0]
1 purchase_order submit {"TrackingNumber":1}
2 purchase_order submit {"TrackingNumber":2}"#,
    );
    check(
        format!("{{{data},\n\"DataType\":\"work_order.FULFILLED\"}}"),
        "",
        r#"2 orders queued (seq 1 to 2)
[exit 0]
1 work_order FULFILLED {"TrackingNumber":1}
2 work_order FULFILLED {"TrackingNumber":2}"#,
    );
}

#[test]
fn what_is_wrong_with_the_arguments_is_told_before_anything() {
    let payload = r#"{"DataType":"purchase_order.update","Data":[{"TrackingNumber":1}]}"#;
    for (text, args, expected) in [
        (
            r#"{"TrackingNumber":1}"#,
            "",
            "orderfeed: orders: these orders do not say their type; add --type purchase_order, transfer_order or work_order\n[exit 2]",
        ),
        (
            payload,
            "--type work_order",
            "orderfeed: orders: its DataType says purchase_order, and --type says work_order\n[exit 2]",
        ),
        (
            payload,
            "--action submit",
            "orderfeed: orders: its DataType says the action update, and --action says submit\n[exit 2]",
        ),
        (
            payload,
            "--skip 2",
            "orderfeed: --skip 2: the input holds only 1 order\n[exit 2]",
        ),
        (
            payload,
            "none",
            "orderfeed: nothing was queued: none: No such file or directory (os error 2)\n[exit 1]",
        ),
        (
            payload,
            "q",
            "orderfeed: nothing was queued: q: is a directory\n[exit 1]",
        ),
        (
            payload,
            "--queue q/none.db",
            "orderfeed: q/none.db does not exist; `orderfeed init` makes the queue and the ledger\n[exit 5]",
        ),
    ] {
        check(text, args, expected);
    }
    let site = Site::new("");
    let told = site.told(&["enqueue", "--type", "order"]);
    assert!(
        told.contains("order_type: must be purchase_order, transfer_order or work_order"),
        "{told}"
    );
    assert!(told.ends_with("[exit 2]"), "{told}");
}

#[test]
fn every_bad_order_is_named_and_none_is_queued() {
    check(
        br#"{"TrackingNumber":1}
{"TrackingNumber":2,}

{"Number":3}
{"TrackingNumber":4.5}
{"TrackingNumber":5,"TrackingNumber":5}
{"Track\u0069ngNumber":6}
{"TrackingNumber":7,"a":"\ud800"}
{"TrackingNumber":"\ud83d\ude00"}
[9]
10;PO
"#
        .iter()
        .chain(b"{\"TrackingNumber\":11,\"a\":\"\xff\"}\n{\"TrackingNumber\":12")
        .copied()
        .collect::<Vec<u8>>(),
        "--type purchase_order",
        r#"orderfeed: nothing was queued:
orders:2: order 2: body: must be valid JSON: trailing comma at line 1 column 21
orders:4: order 3: TrackingNumber: must be a member of the order itself, spelled without escapes
orders:5: order 4: TrackingNumber: must be a 64-bit integer, or a string of 1 to 200 characters without control characters
orders:6: order 5: TrackingNumber: must stand in the order only once
orders:7: order 6: TrackingNumber: must be a member of the order itself, spelled without escapes
orders:8: order 7: body: half of a surrogate pair at byte 26, which is no character
orders:9: order 8: TrackingNumber: must hold characters beyond U+FFFF as they are, not as \u escapes
orders:10: order 9: body: must be one JSON object: {"TrackingNumber": ...}
orders:11: order 10: body: must be one JSON object
orders:12: order 11: body: not UTF-8 text (byte 27)
orders:13: order 12: body: must be valid JSON: EOF while parsing an object at line 1 column 20
[exit 1]"#,
    );
}

#[test]
fn what_the_queue_would_refuse_for_its_size_or_depth_is_refused_before() {
    let deep = format!(
        "{{\"TrackingNumber\":1,\"a\":{}{}}}",
        "[".repeat(1_001),
        "]".repeat(1_001)
    );
    check(
        deep,
        "--type purchase_order",
        "orderfeed: nothing was queued:\norders:1: order 1: body: must be valid JSON\n[exit 1]",
    );
    let size = |bytes: usize| {
        let empty = r#"{"TrackingNumber":1,"a":""}"#;
        format!(
            "{{\"TrackingNumber\":1,\"a\":\"{}\"}}\n",
            "x".repeat(bytes - empty.len())
        )
    };
    check(
        size((16 << 20) + 1),
        "--type purchase_order",
        "orderfeed: nothing was queued:\norders:1: order 1: body: must be at most 16 MiB (16777216 bytes)\n[exit 1]",
    );
    check(
        format!("{}{}", size(100), size(17 << 20)),
        "--type purchase_order",
        "orderfeed: nothing was queued:\norders:2: order 2: body: must be at most 16 MiB (16777216 bytes)\n[exit 1]",
    );
    let site = Site::new("");
    fs::write(site.config().with_file_name("orders"), size(16 << 20)).unwrap();
    assert_eq!(
        told(&site, &["enqueue", "--type", "work_order", "orders"]),
        "1 order queued (seq 1)\n[exit 0]"
    );
}

#[test]
fn a_file_that_is_no_json_is_named_with_its_line() {
    for (text, expected) in [
        (
            "[\n{\"TrackingNumber\":1},\n{\"TrackingNumber\":2}\n{\"TrackingNumber\":3}\n]",
            "orders:4: not JSON: expected `,` or `]` (column 1)",
        ),
        (
            "{\n\"TrackingNumber\":1\n}\n{\n\"TrackingNumber\":2\n}",
            "orders:4: not JSON: trailing characters (column 1); several orders stand in one array, or each on one line (NDJSON)",
        ),
        (
            "{\"DataType\":\"order\",\n\"Data\":[]}",
            "orders:1: DataType: must be purchase_order, transfer_order or work_order, or one of them, a dot and an action",
        ),
        (
            "{\"DataType\":\"work_order\"}",
            "orders:1: a payload has Data beside its DataType",
        ),
        (
            "{\"Data\":[]}",
            "orders:1: a payload has a DataType beside its Data",
        ),
        (
            "{\"DataType\":\"work_order\",\n\"Data\":{}}",
            "orders:2: Data: must be an array of orders",
        ),
        (
            "[\n{\"TrackingNumber\":1},\n\n 2, {\"TrackingNumber\":3}, {\"TrackingNumber\":null}]",
            "orders:4: order 2: body: must be one JSON object: {\"TrackingNumber\": ...}\norders:4: order 4: TrackingNumber: must be a 64-bit integer, or a string of 1 to 200 characters without control characters",
        ),
    ] {
        check(
            text,
            "--type work_order",
            &format!("orderfeed: nothing was queued:\n{expected}\n[exit 1]"),
        );
    }
}

#[test]
fn the_first_twenty_are_shown_and_the_others_counted() {
    let site = Site::new("");
    let folder = site.config();
    fs::write(folder.with_file_name("a"), "{}\n".repeat(1_500)).unwrap();
    fs::write(folder.with_file_name("b"), "[1,2").unwrap();
    let told = site.told(&["enqueue", "--type", "work_order", "a", "b"]);
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(lines.len(), 1 + 20 + 2, "{told}");
    assert!(lines[20].starts_with("a:20: order 20: "), "{told}");
    assert_eq!(lines[21], "and 1,481 more");
    assert_eq!(queued(&site), "");
}

#[test]
fn several_files_and_a_pipe() {
    let site = Site::new("");
    fs::write(
        site.config().with_file_name("a"),
        "{\"TrackingNumber\":1}\n{\"TrackingNumber\":2}",
    )
    .unwrap();
    fs::write(
        site.config().with_file_name("b"),
        r#"{"DataType":"work_order","Data":[{"TrackingNumber":3}]}"#,
    )
    .unwrap();
    let piped = |args: &[&str], text: &str| {
        let mut child = site
            .command(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(text.as_bytes()).unwrap();
        drop(stdin);
        untimed(&String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap())
    };
    let order = "{\"TrackingNumber\":4}\n";
    assert_eq!(
        piped(
            &[
                "enqueue",
                "--type",
                "work_order",
                "a",
                "-",
                "b",
                "--skip",
                "1"
            ],
            order
        ),
        "3 orders queued (seq 1 to 3)\n"
    );
    assert_eq!(
        piped(&["enqueue", "--type", "work_order"], order),
        "1 order queued (seq 4)\n"
    );
    assert_eq!(
        queued(&site),
        r#"1 work_order submit {"TrackingNumber":2}
2 work_order submit {"TrackingNumber":4}
3 work_order submit {"TrackingNumber":3}
4 work_order submit {"TrackingNumber":4}"#
    );
    // The copy of standard input is gone.
    let folder = site.queue().parent().unwrap().to_owned();
    let others = fs::read_dir(folder).unwrap().filter(|entry| {
        let name = entry.as_ref().unwrap().file_name();
        !name.to_string_lossy().starts_with("queue.db")
    });
    assert_eq!(others.count(), 0);
}

/// Orders 1 to `count`, one a line.
fn lines(count: usize) -> String {
    let lines: Vec<String> = (1..=count)
        .map(|number| format!("{{\"TrackingNumber\":{number}}}\n"))
        .collect();
    lines.concat()
}

#[test]
fn what_stops_half_way_says_how_to_go_on() {
    let site = Site::new("");
    fs::write(site.config().with_file_name("my orders"), lines(3_000)).unwrap();
    let refuse = "CREATE TRIGGER refuse BEFORE INSERT ON orders WHEN NEW.body LIKE '%:2345}'
                  BEGIN SELECT RAISE(ABORT, 'dedup_key: this order is in the queue already; nothing is left to do'); END";
    site.producer().execute_batch(refuse).unwrap();
    assert_eq!(
        site.told(&["enqueue", "--type", "work_order", "my orders"]),
        "orderfeed: my orders:2345: order 2345: dedup_key: this order is in the queue already; nothing is left to do
2,000 of 3,000 orders are queued; to go on with the others:
    orderfeed enqueue --type work_order --skip 2000 'my orders'
[exit 1]"
    );
    site.producer()
        .execute_batch("DROP TRIGGER refuse")
        .unwrap();
    assert_eq!(
        told(
            &site,
            &[
                "enqueue",
                "--type",
                "work_order",
                "--skip",
                "2000",
                "my orders"
            ]
        ),
        "1,000 orders queued (seq 2001 to 3000)\n[exit 0]"
    );
    assert_eq!(distinct(&site), 3_000);
}

#[test]
fn a_full_disk_leaves_whole_slices() {
    let site = Site::new("");
    fs::write(site.config().with_file_name("orders"), lines(20_000)).unwrap();
    // No file of this process may grow beyond 1,000 KiB.
    let script = "trap '' XFSZ; ulimit -f 1000; exec \"$0\" enqueue --type work_order orders";
    let output = Command::new("bash")
        .args(["-c", script, env!("CARGO_BIN_EXE_orderfeed")])
        .env("ORDERFEED_CONFIG", site.config())
        .current_dir(site.config().parent().unwrap())
        .output()
        .unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{told}");
    let count = count(&site.producer());
    assert!(
        count > 0 && count < 20_000 && count.is_multiple_of(1_000),
        "{count}"
    );
    let next = format!("--skip {count} orders");
    assert!(told.contains(&next), "{told}");
    let args = [
        "enqueue",
        "--type",
        "work_order",
        "--skip",
        &count.to_string(),
        "orders",
    ];
    let (status, text) = site.run(&args);
    assert!(status.success(), "{text}");
    assert_eq!(distinct(&site), 20_000);
}

#[test]
fn other_producers_get_their_turn() {
    let site = Site::new("");
    let producer = site.producer();
    // As long as producers are told to wait.
    producer.busy_timeout(Duration::from_secs(5)).unwrap();
    let told = half_way(&site, |_| {
        let insert = "INSERT INTO orders (order_type, body) VALUES ('purchase_order', '{\"TrackingNumber\":1}')";
        producer.execute(insert, []).unwrap();
    });
    let (own, last): (u32, u32) = producer
        .query_row(
            "SELECT (SELECT seq FROM orders WHERE order_type = 'purchase_order'), max(seq) FROM orders",
            [],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .unwrap();
    assert!(own < last, "seq {own} of {last}");
    assert_eq!(
        untimed(&told),
        "20,000 orders queued (seq 1 to 20001)\n[exit 0]"
    );
}

#[test]
fn a_file_that_changes_meanwhile_stops_it() {
    let site = Site::new("");
    let told = half_way(&site, |_| {
        let mut orders = OpenOptions::new()
            .append(true)
            .open(site.config().with_file_name("orders"))
            .unwrap();
        orders.write_all(b"{\"Track").unwrap();
    });
    assert_stopped(&site, &told, "orders was changed while it was read");
}

#[test]
fn a_signal_stops_it_between_two_slices() {
    let site = Site::new("");
    let told = half_way(&site, |import| {
        kill_process(Pid::from_child(import), Signal::TERM).unwrap();
    });
    assert_stopped(&site, &told, "interrupted");
}

/// Queues 20,000 orders, and does something when the first are in the queue; what is told then.
fn half_way(site: &Site, act: impl FnOnce(&Child)) -> String {
    fs::write(site.config().with_file_name("orders"), lines(20_000)).unwrap();
    let import = site
        .command(&["enqueue", "--type", "work_order", "orders"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let queue = site.producer();
    let deadline = Instant::now() + PATIENCE;
    while count(&queue) == 0 && Instant::now() < deadline {
        thread::yield_now();
    }
    act(&import);
    let output = import.wait_with_output().unwrap();
    let told = [output.stdout, output.stderr].concat();
    format!(
        "{}[exit {}]",
        String::from_utf8(told).unwrap(),
        output.status.code().unwrap_or(-1)
    )
}

/// It says why it stopped, and goes on where it says.
fn assert_stopped(site: &Site, told: &str, why: &str) {
    let queued = count(&site.producer());
    assert!(
        queued > 0 && queued < 20_000 && queued.is_multiple_of(1_000),
        "{queued}"
    );
    let thousands = queued / 1_000;
    assert_eq!(
        told,
        format!(
            "orderfeed: {why}\n{thousands},000 of 20,000 orders are queued; to go on with the others:\n    orderfeed enqueue --type work_order --skip {queued} orders\n[exit 1]"
        )
    );
}

fn count(queue: &Connection) -> u32 {
    queue
        .query_row("SELECT count(*) FROM orders", [], |row| row.get(0))
        .unwrap()
}

/// How many different tracking numbers the queue holds.
fn distinct(site: &Site) -> u32 {
    site.producer()
        .query_row(
            "SELECT count(DISTINCT tracking_number) FROM tracking_numbers",
            [],
            |row| row.get(0),
        )
        .unwrap()
}

#[test]
fn the_wal_does_not_grow_without_end() {
    let site = Site::new("");
    let order = format!(
        "{{\"TrackingNumber\":1,\"a\":\"{}\"}}\n",
        "x".repeat(1 << 20)
    );
    fs::write(site.config().with_file_name("orders"), order.repeat(64)).unwrap();
    // Who has the queue open keeps the WAL where it is.
    let producer = site.producer();
    producer
        .execute_batch("SELECT count(*) FROM orders")
        .unwrap();
    let (status, text) = site.run(&["enqueue", "--type", "work_order", "orders"]);
    assert!(status.success(), "{text}");
    let wal = fs::metadata(site.queue().with_file_name("queue.db-wal")).unwrap();
    assert!(wal.len() < 32 << 20, "{}", wal.len());
}
