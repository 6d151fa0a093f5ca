//! Files that others hold, exchange or remove while the daemon has them open.

use std::fs;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::Duration;

use rusqlite::Connection;
use rustix::process::Signal;

use super::{SMALL, all_arrive_in_one_payload_each, said, wal_of};
use crate::producers::sqlite326_run;
use crate::support::{Receiver, Site};

/// A producer that holds its transaction delays its own orders, and no delivery of what was
/// committed; nor a start, nor a stop.
#[test]
fn a_locked_queue_delays_only_what_is_not_committed() {
    for lock in ["BEGIN IMMEDIATE", "BEGIN EXCLUSIVE"] {
        let receiver = Receiver::ok();
        let site = Site::new(
            &receiver.webhook("erp", "payload_interval = \"50ms\"\npayload_max_items = 2"),
        );
        let daemon = site.start();
        site.enqueue("purchase_order", 1..=6);
        let producer = site.producer();
        producer.execute_batch(lock).unwrap();
        producer
            .execute(
                r#"INSERT INTO orders (order_type, body) VALUES ('purchase_order', '{"TrackingNumber":7}')"#,
                [],
            )
            .unwrap();
        all_arrive_in_one_payload_each(&receiver, 1..=6);
        let (status, log) = daemon.stop();
        assert!(status.success());
        assert_eq!(said(&log, "ERROR"), [""; 0], "{lock}");
        let _daemon = site.start();
        producer.execute_batch("COMMIT").unwrap();
        all_arrive_in_one_payload_each(&receiver, 1..=7);
    }
}

/// Somebody who reads in one transaction for hours keeps the WAL from beginning anew: it grows, and
/// that is told once; deliveries go on.
#[test]
fn a_reader_that_does_not_end_is_told_of() {
    let receiver = Receiver::ok();
    let site = Site::new(&receiver.webhook("erp", ""));
    site.enqueue("purchase_order", [1]);
    let daemon = site.start();
    receiver.wait_for(1);
    let reader = site.producer();
    reader.execute_batch("BEGIN").unwrap();
    let seen: i64 = reader
        .query_row("SELECT count(*) FROM orders", [], |row| row.get(0))
        .unwrap();
    assert_eq!(seen, 1);
    let mut producer = site.producer();
    producer
        .pragma_update(None, "wal_autocheckpoint", 0)
        .unwrap();
    let note = "y".repeat(1 << 20);
    let transaction = producer.transaction().unwrap();
    for order in 2..=40 {
        transaction
            .execute(
                "INSERT INTO orders (order_type, body) VALUES ('work_order', ?1)",
                [format!(
                    "{{\"TrackingNumber\":{order},\"Note\":\"{note}\"}}"
                )],
            )
            .unwrap();
    }
    transaction.commit().unwrap();
    let line = daemon.wait_for_line("-wal has grown to ");
    all_arrive_in_one_payload_each(&receiver, 1..=40);
    assert_eq!(
        said(&[line], ""),
        [format!(
            "WARN {} has grown to 39 MiB, and grows on: a program reads the queue in a transaction that it does not end, or commits without a pause; deliveries go on, but find it (`fuser` names who has the file open)",
            wal_of(site.queue()).display()
        )]
    );
    assert!(daemon.stop().0.success());
}

/// At the end the queue is told how far the ledger came, also if a producer is just writing: else an older
/// copy of the ledger would be taken for this one, and send what was delivered.
#[test]
fn a_producer_that_writes_during_the_stop_keeps_no_mark_from_the_queue() {
    let receiver = Receiver::ok();
    let site = Site::new(&receiver.webhook("erp", ""));
    let copy = fs::read(site.ledger()).unwrap();
    let daemon = site.start();
    site.enqueue("purchase_order", 1..=3);
    daemon.wait_for_line("delivered 3");
    let producer = site.producer();
    producer.execute_batch("BEGIN IMMEDIATE").unwrap();
    daemon.signal(Signal::TERM);
    daemon.wait_for_line("stopping: ");
    sleep(Duration::from_millis(300));
    producer.execute_batch("COMMIT").unwrap();
    assert!(daemon.wait().0.success());
    fs::write(site.ledger(), copy).unwrap();
    let told = site.told(&["check"]);
    assert!(
        told.contains("it was restored from an older copy"),
        "{told}"
    );
}

/// Without its name nobody who comes later would see what is in it.
#[test]
fn a_wal_removed_under_the_daemon_ends_it_and_loses_nothing() {
    let receiver = Receiver::ok();
    let site =
        Site::new(&receiver.webhook("erp", "payload_interval = \"1h\"\npayload_max_items = 2"));
    let daemon = site.start();
    site.enqueue("purchase_order", 1..=6);
    receiver.wait_for(1);
    fs::remove_file(wal_of(site.queue())).unwrap();
    daemon.wait_for_line("orderfeed: ");
    let (status, log) = daemon.wait();
    assert_eq!(status.code(), Some(5));
    assert_eq!(
        log.last().unwrap(),
        &format!(
            "orderfeed: {}: was replaced or removed while the daemon had it open; put the old file back, or start again and follow what is said then",
            wal_of(site.queue()).display()
        )
    );
    site.configure(&receiver.webhook("erp", SMALL));
    let _daemon = site.start();
    all_arrive_in_one_payload_each(&receiver, 1..=6);
}

#[test]
fn a_queue_removed_under_the_daemon_ends_it() {
    let receiver = Receiver::ok();
    let site = Site::new(&receiver.webhook("erp", ""));
    let daemon = site.start();
    fs::remove_file(site.queue()).unwrap();
    daemon.wait_for_line("orderfeed: ");
    let (status, log) = daemon.wait();
    assert_eq!(status.code(), Some(5));
    assert_eq!(
        said(&log, "stopping: "),
        [format!(
            "ERROR {}: was replaced or removed while the daemon had it open; put the old file back, or start again and follow what is said then; stopping: no further request is started, those in flight may finish",
            site.queue().display()
        )]
    );
}

/// An older copy that is moved over either: nothing is sent by it, then or at the next start; and
/// the WAL of the one before is not taken for its own.
#[test]
fn an_older_copy_put_in_place_under_the_daemon_ends_it() {
    for (which, expected) in [
        (
            Site::ledger as fn(&Site) -> PathBuf,
            "it was restored from an older copy",
        ),
        (Site::queue, "the queue was restored from an older copy"),
    ] {
        let receiver = Receiver::ok();
        let site = Site::new(&receiver.webhook("erp", ""));
        let copy = which(&site).with_file_name("copy.db");
        fs::copy(which(&site), &copy).unwrap();
        let daemon = site.start();
        site.enqueue("purchase_order", 1..=3);
        daemon.wait_for_line("delivered 3");
        fs::rename(&copy, which(&site)).unwrap();
        if expected.starts_with("it ") {
            site.enqueue("purchase_order", 4..=6);
        }
        daemon.wait_for_line("orderfeed: ");
        let (status, log) = daemon.wait();
        assert_eq!(status.code(), Some(5));
        assert!(
            log.last().unwrap().contains("was replaced or removed"),
            "{log:?}"
        );
        let told = site.told(&["check"]);
        assert!(told.contains(expected), "{told}");
        assert!(told.ends_with("[exit 5]"), "{told}");
        assert_eq!(receiver.arrived().len(), 1);
    }
}

/// Two daemons would send everything twice, from the first order on.
#[test]
fn a_second_daemon_with_a_ledger_of_its_own_is_refused() {
    let receiver = Receiver::ok();
    let site = Site::new(&receiver.webhook("erp", ""));
    let _daemon = site.start();
    let second = |args: &[&str]| {
        let output = site
            .command(args)
            .env("ORDERFEED_LEDGER__PATH", "second/ledger.db")
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), told)
    };
    assert_eq!(second(&["init"]).0, Some(0));
    let (status, told) = second(&["check"]);
    assert_eq!(status, Some(5), "{told}");
    assert!(told.contains("was fed from by another ledger"), "{told}");
}

/// Producers who do not know the recipe, with a SQLite that copies the WAL back by itself, and has
/// the race that later ones mended: the daemon's copying comes before theirs.
#[test]
fn old_producers_that_copy_the_wal_back_lose_nothing() {
    const PRODUCERS: u64 = 3;
    const ORDERS: u64 = 1_500;
    let receiver = Receiver::ok();
    let site = Site::new(&receiver.webhook("erp", "payload_max_items = 50"));
    let daemon = site.start();
    let note = "y".repeat(3_000);
    let put = |order: u64| {
        format!(
            r#"INSERT INTO orders (order_type, body) VALUES ('work_order', '{{"TrackingNumber":{order},"Note":"{note}"}}')"#
        )
    };
    std::thread::scope(|scope| {
        for producer in 0..PRODUCERS {
            let statements: Vec<String> = ["PRAGMA busy_timeout=60000".to_owned()]
                .into_iter()
                .chain((1..=ORDERS).map(|order| put(producer * ORDERS + order)))
                .collect();
            let queue = site.queue();
            scope.spawn(move || {
                if let Some(answers) = sqlite326_run(&queue, &statements) {
                    assert!(answers.iter().all(|answer| answer == "ok"), "{answers:?}");
                }
            });
        }
    });
    let queued: u64 = site
        .producer()
        .query_row("SELECT count(*) FROM orders", [], |row| {
            row.get::<_, i64>(0)
        })
        .unwrap()
        .unsigned_abs();
    if queued == 0 {
        return;
    }
    assert_eq!(queued, PRODUCERS * ORDERS);
    all_arrive_in_one_payload_each(&receiver, 1..=queued);
    let (status, log) = daemon.stop();
    assert!(status.success(), "{log:?}");
    let conn = Connection::open(site.queue()).unwrap();
    let integrity: String = conn
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .unwrap();
    assert_eq!(integrity, "ok");
}
