//! What monitors get: metrics, health, alerts, and the log as JSON and in the journal.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::admin::Asked;
use crate::producers::{available, piped, skip};
use crate::support::{Answer, OK, PATIENCE, Receiver, Site};
use insta::assert_snapshot;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// The metrics as they come over the socket.
fn metrics(site: &Site) -> String {
    let answer = Asked(site).raw(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(head.contains("content-type: text/plain; version=0.0.4"));
    body.to_owned()
}

/// The metrics, once they hold all these lines: what came of an attempt is counted when it is recorded.
fn metrics_with(site: &Site, lines: &[&str]) -> String {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let text = metrics(site);
        if lines
            .iter()
            .all(|line| text.lines().any(|told| told == *line))
        {
            return text;
        }
        assert!(Instant::now() < deadline, "no {lines:?} in\n{text}");
    }
}

/// Those samples whose line holds one of these, without numbers that differ from run to run.
fn samples(text: &str, which: &[&str]) -> String {
    let mut found = String::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        if which.iter().any(|part| line.contains(part)) {
            let (name, value) = line.rsplit_once(' ').unwrap();
            let is_time = name.contains("timestamp");
            let value = if is_time { "(a time)" } else { value };
            writeln!(found, "{name} {value}").unwrap();
        }
    }
    found
}

fn sample(text: &str, name: &str) -> f64 {
    let line = text.lines().find(|line| line.starts_with(name));
    let line = line.unwrap_or_else(|| panic!("no {name} in\n{text}"));
    line.rsplit_once(' ').unwrap().1.parse().unwrap()
}

#[test]
fn metrics_tell_where_all_stands() {
    let erp = Receiver::new(|_, _| OK);
    let mes = Receiver::new(|_, _| Answer::Status(500, ""));
    let webhooks = erp.webhook("erp", "") + &mes.webhook("mes", "retry_gap = \"1h\"\n");
    let site = Site::new(&webhooks);
    let daemon = site.start();
    let begun = metrics(&site);
    assert_snapshot!(samples(&begun, &["_total{", "duration_seconds_count{"]), @r#"
    orderfeed_attempt_duration_seconds_count{webhook="erp"} 0
    orderfeed_attempt_duration_seconds_count{webhook="mes"} 0
    orderfeed_attempts_total{outcome="delivered",webhook="erp"} 0
    orderfeed_attempts_total{outcome="delivered",webhook="mes"} 0
    orderfeed_attempts_total{outcome="failed",webhook="erp"} 0
    orderfeed_attempts_total{outcome="failed",webhook="mes"} 0
    orderfeed_attempts_total{outcome="interrupted",webhook="erp"} 0
    orderfeed_attempts_total{outcome="interrupted",webhook="mes"} 0
    orderfeed_attempts_total{outcome="unknown",webhook="erp"} 0
    orderfeed_attempts_total{outcome="unknown",webhook="mes"} 0
    orderfeed_composed_orders_total{type="purchase_order",webhook="erp"} 0
    orderfeed_composed_orders_total{type="purchase_order",webhook="mes"} 0
    orderfeed_composed_orders_total{type="transfer_order",webhook="erp"} 0
    orderfeed_composed_orders_total{type="transfer_order",webhook="mes"} 0
    orderfeed_composed_orders_total{type="work_order",webhook="erp"} 0
    orderfeed_composed_orders_total{type="work_order",webhook="mes"} 0
    orderfeed_delivery_duration_seconds_count{webhook="erp"} 0
    orderfeed_delivery_duration_seconds_count{webhook="mes"} 0
    orderfeed_payloads_total{outcome="delivered",webhook="erp"} 0
    orderfeed_payloads_total{outcome="delivered",webhook="mes"} 0
    orderfeed_payloads_total{outcome="failed",webhook="erp"} 0
    orderfeed_payloads_total{outcome="failed",webhook="mes"} 0
    "#);

    site.enqueue("purchase_order", 1..=3);
    daemon.wait_for_line("mes: 3 purchase_orders not delivered");
    site.enqueue("work_order", 4..=5);
    let stands = [
        r#"orderfeed_attempts_total{outcome="failed",webhook="mes"} 1"#,
        r#"orderfeed_payloads_total{outcome="delivered",webhook="erp"} 2"#,
        r#"orderfeed_webhook_state{state="idle",webhook="erp"} 1"#,
        r#"orderfeed_webhook_state{state="retrying",webhook="mes"} 1"#,
        // What stands there was asked for before what was counted.
        r#"orderfeed_webhook_waiting_orders{type="work_order",webhook="erp"} 0"#,
        r#"orderfeed_webhook_waiting_orders{type="work_order",webhook="mes"} 2"#,
    ];
    let text = metrics_with(&site, &stands);
    assert_snapshot!(
        samples(&text, &["_total{outcome=\"delivered", "_total{outcome=\"failed", "_orders", "_payload", "duration_seconds_count{"]),
        @r#"
    orderfeed_attempt_duration_seconds_count{webhook="erp"} 2
    orderfeed_attempt_duration_seconds_count{webhook="mes"} 1
    orderfeed_attempts_total{outcome="delivered",webhook="erp"} 2
    orderfeed_attempts_total{outcome="delivered",webhook="mes"} 0
    orderfeed_attempts_total{outcome="failed",webhook="erp"} 0
    orderfeed_attempts_total{outcome="failed",webhook="mes"} 1
    orderfeed_composed_orders_total{type="purchase_order",webhook="erp"} 3
    orderfeed_composed_orders_total{type="purchase_order",webhook="mes"} 3
    orderfeed_composed_orders_total{type="transfer_order",webhook="erp"} 0
    orderfeed_composed_orders_total{type="transfer_order",webhook="mes"} 0
    orderfeed_composed_orders_total{type="work_order",webhook="erp"} 2
    orderfeed_composed_orders_total{type="work_order",webhook="mes"} 0
    orderfeed_delivery_duration_seconds_count{webhook="erp"} 2
    orderfeed_delivery_duration_seconds_count{webhook="mes"} 0
    orderfeed_payloads_total{outcome="delivered",webhook="erp"} 2
    orderfeed_payloads_total{outcome="delivered",webhook="mes"} 0
    orderfeed_payloads_total{outcome="failed",webhook="erp"} 0
    orderfeed_payloads_total{outcome="failed",webhook="mes"} 0
    orderfeed_queue_set_aside_orders 0
    orderfeed_queue_unclaimed_orders 0
    orderfeed_queue_waiting_orders{type="purchase_order"} 0
    orderfeed_queue_waiting_orders{type="transfer_order"} 0
    orderfeed_queue_waiting_orders{type="work_order"} 2
    orderfeed_webhook_failed_payloads{webhook="erp"} 0
    orderfeed_webhook_failed_payloads{webhook="mes"} 0
    orderfeed_webhook_parked_orders{webhook="erp"} 0
    orderfeed_webhook_parked_orders{webhook="mes"} 0
    orderfeed_webhook_pending_payload_timestamp_seconds{webhook="mes"} (a time)
    orderfeed_webhook_waiting_orders{type="purchase_order",webhook="erp"} 0
    orderfeed_webhook_waiting_orders{type="purchase_order",webhook="mes"} 0
    orderfeed_webhook_waiting_orders{type="transfer_order",webhook="erp"} 0
    orderfeed_webhook_waiting_orders{type="transfer_order",webhook="mes"} 0
    orderfeed_webhook_waiting_orders{type="work_order",webhook="erp"} 0
    orderfeed_webhook_waiting_orders{type="work_order",webhook="mes"} 2
    "#
    );
    let states = text.lines();
    let states = states.filter(|line| line.starts_with("orderfeed_webhook_state{"));
    assert_eq!(
        states
            .filter(|line| line.ends_with(" 1"))
            .collect::<Vec<_>>(),
        stands[2..4]
    );
    assert!((sample(&text, "orderfeed_healthy ") - 1.0).abs() < f64::EPSILON);
    for (name, least) in [
        (
            "orderfeed_webhook_last_success_timestamp_seconds{webhook=\"erp\"}",
            1.7e9,
        ),
        (
            "orderfeed_webhook_oldest_waiting_timestamp_seconds{type=\"work_order\",webhook=\"mes\"}",
            1.7e9,
        ),
        (
            "orderfeed_webhook_pending_payload_timestamp_seconds{webhook=\"mes\"}",
            1.7e9,
        ),
        ("orderfeed_process_start_time_seconds", 1.7e9),
        ("orderfeed_process_resident_memory_bytes", 1e6),
        ("orderfeed_file_size_bytes{file=\"queue\"}", 4096.0),
        ("orderfeed_file_size_bytes{file=\"ledger_wal\"}", 4096.0),
        ("orderfeed_disk_available_bytes{file=\"queue\"}", 1.0),
    ] {
        assert!(sample(&text, name) >= least, "{name}");
    }
    if available("promtool", &["--version"]) {
        let checked = piped(Command::new("promtool").args(["check", "metrics"]), &text);
        assert_eq!(checked, (true, String::new()));
    }
}

#[test]
fn counters_begin_anew_and_what_stands_in_the_ledger_stays() {
    let erp = Receiver::new(|_, _| Answer::Status(400, ""));
    let site = Site::new(&erp.webhook("erp", "retry_attempts = 0\n"));
    site.enqueue("purchase_order", [1]);
    let which = ["_total{outcome=\"failed", "failed_payloads"];
    let daemon = site.start();
    let failed = r#"orderfeed_webhook_failed_payloads{webhook="erp"} 1"#;
    assert_snapshot!(samples(&metrics_with(&site, &[failed]), &which), @r#"
    orderfeed_attempts_total{outcome="failed",webhook="erp"} 1
    orderfeed_payloads_total{outcome="failed",webhook="erp"} 1
    orderfeed_webhook_failed_payloads{webhook="erp"} 1
    "#);
    daemon.stop();
    let _daemon = site.start();
    assert_snapshot!(samples(&metrics(&site), &which), @r#"
    orderfeed_attempts_total{outcome="failed",webhook="erp"} 0
    orderfeed_payloads_total{outcome="failed",webhook="erp"} 0
    orderfeed_webhook_failed_payloads{webhook="erp"} 1
    "#);
}

#[test]
fn a_failed_backup_is_told() {
    let site = Site::new("[maintenance]\nbackup_dir = \"config.toml\"\n");
    let _daemon = site.start();
    assert!(!site.run(&["backup"]).0.success());
    assert_snapshot!(samples(&metrics(&site), &["chore"]), @r#"
    orderfeed_chore_failed{chore="backup"} 1
    orderfeed_chore_failed{chore="prune"} 0
    "#);
}

#[test]
fn metrics_are_told_while_queue_and_ledger_do_not_belong_together() {
    let site = Site::new("");
    crate::admin::replace_queue(&site);
    let daemon = site.spawn(&[]);
    daemon.wait_for_line("stands still");
    let text = metrics(&site);
    assert_snapshot!(samples(&text, &["healthy", "build_info", "webhook", "queue"]), @r#"
    orderfeed_build_info{version="0.1.0"} 1
    orderfeed_healthy 0
    "#);
}

#[test]
fn the_script_for_node_exporter_writes_whole_files_and_takes_old_ones_away() {
    if !available("curl", &["--version"]) {
        return;
    }
    let site = Site::new("");
    let file = site.file("orderfeed.prom");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib/orderfeed-metrics");
    let run = || {
        let mut command = Command::new(&script);
        command.arg(site.file("admin.sock")).arg(&file);
        command.stderr(Stdio::null()).status().unwrap()
    };
    let daemon = site.start();
    assert!(run().success());
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains("orderfeed_build_info"), "{text}");
    // Its own of these names would be taken for ours, and refuse all.
    assert!(!text.contains("\nprocess_"), "{text}");
    daemon.stop();
    assert!(!run().success());
    let left: Vec<PathBuf> = fs::read_dir(site.folder())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_string_lossy().contains(".prom"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn the_alerts_do_what_they_say_and_watch_what_there_is() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib");
    let rules = fs::read_to_string(folder.join("orderfeed.rules.yml")).unwrap();
    let erp = Receiver::new(|_, _| Answer::Status(500, ""));
    let site = Site::new(&erp.webhook("erp", "retry_gap = \"1h\"\n"));
    let daemon = site.start();
    site.enqueue("purchase_order", [1]);
    daemon.wait_for_line("next attempt");
    site.enqueue("purchase_order", [2]);
    let word = |c: char| !(c.is_ascii_alphanumeric() || c == '_');
    let there = loop {
        let there = metrics(&site);
        if there.contains("oldest_waiting") {
            break there;
        }
    };
    let exprs = rules
        .lines()
        .filter(|line| !line.contains("summary") && !line.trim_start().starts_with('#'));
    let mut seen = 0;
    for name in exprs
        .flat_map(|line| line.split(word))
        .filter(|name| name.starts_with("orderfeed_"))
    {
        assert!(
            there.contains(&format!("\n{name}")),
            "nothing is told of {name}"
        );
        seen += 1;
    }
    assert!(seen > 12, "{seen}");
    if available("promtool", &["--version"]) {
        for args in [
            ["check", "rules", "orderfeed.rules.yml"],
            ["test", "rules", "orderfeed.rules.test.yml"],
        ] {
            let checked = piped(Command::new("promtool").args(args).current_dir(&folder), "");
            assert!(checked.0, "{}", checked.1);
        }
    }
}

#[test]
fn json_has_numbers_as_numbers() {
    let erp = Receiver::new(|_, _| OK);
    let site = Site::new(&erp.webhook("erp", ""));
    let daemon = site.start_with(&[("ORDERFEED_LOG__FORMAT", "json")]);
    site.enqueue("purchase_order", 1..=2);
    let line: Value = serde_json::from_str(&daemon.wait_for_line("delivered 2")).unwrap();
    assert_eq!(
        (&line["level"], &line["webhook"], &line["items"]),
        (&"INFO".into(), &"erp".into(), &2.into())
    );
    assert!(line["duration_ms"].is_u64(), "{line}");
    assert!(line["payload_id"].as_str().unwrap().starts_with("pl_"));
}

/// The fields of an entry as the journal gets it: `NAME=value`, or the name, the value's length and the value.
fn fields(entry: &[u8]) -> BTreeMap<String, String> {
    let mut fields = BTreeMap::new();
    let mut rest = entry;
    while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
        let line = String::from_utf8_lossy(&rest[..end]).into_owned();
        rest = &rest[end + 1..];
        if let Some((name, value)) = line.split_once('=') {
            fields.insert(name.to_owned(), value.to_owned());
        } else {
            let length = u64::from_le_bytes(rest[..8].try_into().unwrap());
            let length = usize::try_from(length).unwrap();
            let value = String::from_utf8_lossy(&rest[8..8 + length]).into_owned();
            rest = &rest[8 + length + 1..];
            fields.insert(line, value);
        }
    }
    fields
}

/// Waits for an entry whose message holds this text.
fn wait_for_entry(journal: &UnixDatagram, text: &str) -> BTreeMap<String, String> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let length = journal.recv(&mut buffer).unwrap();
        let entry = String::from_utf8_lossy(&buffer[..length]).into_owned();
        assert!(
            !entry.contains("s3cr3t") && !entry.contains("Lines"),
            "{entry}"
        );
        let fields = fields(&buffer[..length]);
        if fields
            .get("MESSAGE")
            .is_some_and(|message| message.contains(text))
        {
            return fields;
        }
    }
}

fn journal_in(folder: &Path) -> UnixDatagram {
    let journal = UnixDatagram::bind(folder.join("socket")).unwrap();
    journal.set_read_timeout(Some(PATIENCE)).unwrap();
    journal
}

#[test]
fn the_journal_gets_fields_and_priorities_and_may_go_away() {
    if !rustix::process::geteuid().is_root() || !available("unshare", &["--mount", "true"]) {
        skip("only root can give a process another /run, with unshare of util-linux");
        return;
    }
    let erp = Receiver::new(|number, _| match number {
        1 => Answer::Status(500, "s3cr3t"),
        _ => OK,
    });
    let more = "retry_gap = \"1s\"\nauthorization = \"Bearer s3cr3t\"\n";
    let site = Site::new(&erp.webhook("erp", more));
    let folder = site.file("journal");
    fs::create_dir(&folder).unwrap();
    let journal = journal_in(&folder);
    let script = "mount -t tmpfs none /run && mkdir -p /run/systemd/journal && mount --bind \"$1\" /run/systemd/journal &&
        JOURNAL_STREAM=$(stat -L -c %d:%i /proc/self/fd/2) exec \"$2\" run";
    let program = site.command(&["run"]);
    let mut daemon = Command::new("unshare")
        .args(["--mount", "sh", "-c", script, "sh"])
        .arg(&folder)
        .arg(program.get_program())
        .env("ORDERFEED_CONFIG", site.config())
        .current_dir(site.folder())
        .stdin(Stdio::null())
        .stderr(fs::File::create(site.file("stderr")).unwrap())
        .spawn()
        .unwrap();
    wait_for_entry(&journal, " runs");
    let producer = site.producer();
    let insert = |number: u64| {
        let body = format!("{{\"TrackingNumber\":{number},\"Lines\":[]}}");
        producer
            .execute(
                "INSERT INTO orders (order_type, body) VALUES ('work_order', ?1)",
                [body],
            )
            .unwrap();
    };
    insert(1);
    let failed = wait_for_entry(&journal, "not delivered");
    let delivered = wait_for_entry(&journal, "delivered 1");
    let told = |entry: &BTreeMap<String, String>| {
        let names = [
            "PRIORITY",
            "SYSLOG_IDENTIFIER",
            "ORDERFEED_WEBHOOK",
            "ORDERFEED_ITEMS",
        ];
        names.map(|name| entry[name].clone()).join(" ")
    };
    assert_eq!(told(&failed), "4 orderfeed erp 1");
    assert_eq!(told(&delivered), "6 orderfeed erp 1");
    assert!(delivered["ORDERFEED_PAYLOAD_ID"].starts_with("pl_"));
    assert!(delivered["ORDERFEED_DURATION_MS"].parse::<u64>().is_ok());

    // Without a journal all goes on, and when it is back it is told again.
    drop(journal);
    fs::remove_file(folder.join("socket")).unwrap();
    insert(2);
    erp.wait_for(3);
    let journal = journal_in(&folder);
    insert(3);
    wait_for_entry(&journal, "delivered 1");
    kill_process(Pid::from_child(&daemon), Signal::TERM).unwrap();
    wait_for_entry(&journal, "stopped");
    assert!(daemon.wait().unwrap().success());
    assert_eq!(fs::read_to_string(site.file("stderr")).unwrap(), "");
}

/// `journalctl -p warning` is to show why it does not start.
#[test]
fn the_journal_is_told_that_it_does_not_start() {
    let site = Site::bare("[webhook.erp]\nurl = 1\nactive = 2\n");
    let script = "JOURNAL_STREAM=$(stat -L -c %d:%i /proc/self/fd/2) exec \"$1\" run";
    let program = site.command(&["run"]);
    let output = Command::new("sh")
        .args(["-c", script, "sh"])
        .arg(program.get_program())
        .env("ORDERFEED_CONFIG", site.config())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.starts_with("<3>orderfeed: "), "{told}");
    assert!(
        told.lines().count() > 1 && told.lines().all(|line| line.starts_with("<3>")),
        "{told}"
    );
}
