//! What a reviewer once broke: each of these lost, delayed or reordered orders, or ended the
//! daemon (contract, sections 2 and 3).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use insta::assert_snapshot;
use rusqlite::Connection;

use crate::disk::Disk;
use crate::producers::skip;
use crate::support::{Answer, Arrived, Daemon, Gate, OK, PATIENCE, Receiver, Site};

/// Waits until something is so that nobody tells of.
fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Queues one order from this site of the producer's.
fn put(conn: &Connection, order_type: &str, number: u64, of_site: &str) {
    conn.prepare_cached("INSERT INTO orders (order_type, body) VALUES (?1, ?2)")
        .unwrap()
        .execute([
            order_type,
            &format!("{{\"TrackingNumber\":{number},\"Site\":\"{of_site}\"}}"),
        ])
        .unwrap();
}

/// The tracking numbers of these requests.
fn numbers(arrived: &[Arrived]) -> BTreeSet<u64> {
    arrived
        .iter()
        .flat_map(|request| request.orders().1)
        .collect()
}

/// Makes queue and ledger disagree, as after a backup that was restored: the queue says that
/// another ledger fed from it.
fn estrange(site: &Site) {
    let changed = site
        .producer()
        .execute("UPDATE queue SET ledger_id = 'another'", [])
        .unwrap();
    assert_eq!(changed, 1);
    let told = site.standstill();
    assert!(told.contains("was fed from by another ledger"), "{told}");
}

/// D25: while orders come and the filter changes, each order belongs to the webhook by the one
/// selection that was in force for its seq, and is sent by that, once.
#[test]
fn d25_reloads_under_load_neither_lose_nor_add_an_order() {
    const RELOADS: u64 = 15;
    const ORDERS_BETWEEN: u64 = 20;
    let receiver = Receiver::ok();
    let narrow = receiver.webhook("erp", "filter = { Site = [\"A\"] }");
    let wide = receiver.webhook("erp", "filter = { Site = [\"A\", \"B\"] }");
    let site = Site::new(&narrow);
    let daemon = site.start();
    let queued = AtomicU64::new(0);
    let enough = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let conn = site.producer();
            while !enough.load(Ordering::Relaxed) {
                let number = 1 + queued.load(Ordering::Relaxed);
                // Two of each, so that every change finds both on both sides.
                let of_site = if number & 2 == 0 { "A" } else { "B" };
                put(&conn, "purchase_order", number, of_site);
                queued.store(number, Ordering::Relaxed);
            }
        });
        for reload in 1..=RELOADS {
            wait_until("orders are queued", || {
                queued.load(Ordering::Relaxed) >= reload * ORDERS_BETWEEN
            });
            site.configure(if reload % 2 == 1 { &wide } else { &narrow });
            daemon.reload();
        }
        enough.store(true, Ordering::Relaxed);
    });
    assert!(daemon.stop().0.success());

    // What the ledger says was in force, from which seq on.
    let selections: BTreeMap<u64, bool> = site
        .ledger_rows("SELECT from_seq, selection FROM selections WHERE webhook_id = 1")
        .lines()
        .map(|line| {
            let (from_seq, selection) = line.split_once(' ').unwrap();
            assert!(selection.contains("\"A\""), "{line}");
            (from_seq.parse().unwrap(), selection.contains("\"B\""))
        })
        .collect();
    assert!(selections.len() > 10, "{selections:?}");
    let belongs = |seq: u64, of_site: &str| {
        let (_, takes_b) = selections.range(..=seq).next_back().unwrap();
        of_site == "A" || *takes_b
    };
    let last = queued.load(Ordering::Relaxed);
    let mut belonging = BTreeSet::new();
    let conn = site.producer();
    let mut statement = conn
        .prepare("SELECT seq, json_extract(body, '$.Site'), json_extract(body, '$.TrackingNumber') FROM orders")
        .unwrap();
    let mut rows = statement.query([]).unwrap();
    while let Some(row) = rows.next().unwrap() {
        let (seq, of_site): (i64, String) = (row.get(0).unwrap(), row.get(1).unwrap());
        let number: i64 = row.get(2).unwrap();
        assert_eq!(seq, number);
        if belongs(seq.unsigned_abs(), &of_site) {
            belonging.insert(seq.unsigned_abs());
        }
    }
    let all = usize::try_from(last).unwrap();
    assert!(
        belonging.len() > all / 2 && belonging.len() < all,
        "{} of {all} belong",
        belonging.len()
    );

    // All that is parked goes with the wider filter; and behind it one more, so that nothing
    // can come after what is looked at.
    site.configure(&wide);
    let daemon = site.start();
    put(&conn, "purchase_order", last + 1, "B");
    belonging.insert(last + 1);
    receiver.wait_until(|arrived| numbers(arrived).is_superset(&belonging));
    daemon.stop();
    let arrived = receiver.payload_ids_by_order();
    let lost_or_added: Vec<_> = belonging
        .symmetric_difference(&arrived.keys().copied().collect())
        .copied()
        .collect();
    assert!(lost_or_added.is_empty(), "{lost_or_added:?}");
    for (number, ids) in &arrived {
        assert_eq!(ids.len(), 1, "order {number} in {ids:?}");
    }
}

/// D18: a pending payload of which only a part is to be sent again loses none of the others.
#[test]
fn adopting_from_the_middle_of_a_pending_payload_loses_none_of_it() {
    let receiver = Receiver::new(|number, _| match number {
        1 => Answer::Status(500, ""),
        _ => OK,
    });
    let site = Site::new(&receiver.webhook("erp", "retry_gap = \"1h\""));
    site.enqueue("purchase_order", 1..=10);
    let daemon = site.start();
    daemon.wait_for_line("next attempt at");
    daemon.stop();
    estrange(&site);
    let (status, told) = site.run(&["adopt-queue", "--resend-from", "6"]);
    assert!(status.success(), "{told}");
    let _daemon = site.start();
    let arrived =
        receiver.wait_until(|arrived| arrived.len() > 1 && numbers(&arrived[1..]).len() >= 10);
    assert_eq!(numbers(&arrived[1..]), (1..=10).collect());
    assert_eq!(
        arrived.len(),
        2,
        "each once since the adoption: {arrived:#?}"
    );
    assert_ne!(
        arrived[0].header("webhook-id"),
        arrived[1].header("webhook-id"),
        "what is sent anew has a new id"
    );
}

/// D18, D24: `--resend-from` says what is sent again, and not what is left out: a webhook that
/// is behind is still sent all that waits for it.
#[test]
fn adopting_skips_nothing_that_waits_for_a_webhook_behind() {
    let (swift, late) = (Receiver::ok(), Receiver::ok());
    let swift_webhook = swift.webhook("swift", "");
    let site = Site::new(&(swift_webhook.clone() + &late.webhook("late", "active = false")));
    site.enqueue("work_order", 1..=20);
    let copy = fs::read(site.queue()).unwrap();
    site.enqueue("work_order", 21..=21);
    let daemon = site.start();
    daemon.wait_for_line("swift: delivered 21 work_order");
    daemon.stop();
    fs::write(site.queue(), copy).unwrap();
    let (status, told) = site.run(&["adopt-queue", "--resend-from", "19"]);
    assert!(status.success(), "{told}");
    site.configure(&(swift_webhook + &late.webhook("late", "")));
    let _daemon = site.start();
    assert_eq!(numbers(&late.wait_for(1)), (1..=20).collect());
    assert_eq!(swift.wait_for(2)[1].summary(), "work_order 19,20");
}

#[test]
fn adopting_what_belongs_together_is_refused() {
    let receiver = Receiver::ok();
    let site = Site::new(&receiver.webhook("erp", ""));
    site.enqueue("purchase_order", 1..=3);
    let daemon = site.start();
    daemon.wait_for_line("delivered 3");
    daemon.stop();
    for adopt in [&["--all-new"][..], &["--resend-from", "1"]] {
        let told = site.told(&[&["adopt-queue"], adopt].concat());
        assert!(told.contains("nothing was changed"), "{told}");
        assert!(told.ends_with("[exit 1]"), "{told}");
    }
    site.start().stop();
    assert_eq!(receiver.arrived().len(), 1);
}

/// D18: what a producer could still commit is delivered, though the disk is so full that the WAL
/// can't be copied back into the queue; also by a daemon that starts then.
#[test]
fn a_full_disk_under_the_queue_stops_no_delivery() {
    let receiver = Receiver::ok();
    let site = Site::bare(&receiver.webhook("erp", "payload_max_items = 1000"));
    let disk = match Disk::mounted_at(site.queue().parent().unwrap(), 8) {
        Ok(disk) => disk,
        Err(why) => return skip(&format!("no disk to fill: {why}")),
    };
    let (status, told) = site.run(&["init"]);
    assert!(status.success(), "{told}");
    let conn = site.producer();
    conn.pragma_update(None, "wal_autocheckpoint", 0).unwrap();
    let put_long = |numbers: std::ops::RangeInclusive<u64>| {
        let note = "y".repeat(4_000);
        conn.execute_batch("BEGIN IMMEDIATE").unwrap();
        for number in numbers {
            put(&conn, "work_order", number, &note);
        }
        conn.execute_batch("COMMIT").unwrap();
    };
    let all_of = |count: usize| move |arrived: &[Arrived]| numbers(arrived).len() == count;
    let daemon = site.start();
    put_long(1..=300);
    receiver.wait_until(all_of(300));
    // All of the WAL is in the queue, and the next commit begins it anew: there is room in it.
    wait_until("the WAL begins anew", || {
        let busy: i64 = conn
            .query_row("PRAGMA wal_checkpoint(RESTART)", [], |row| row.get(0))
            .unwrap();
        busy == 0
    });
    disk.fill();
    put_long(301..=320);
    receiver.wait_until(all_of(320));
    daemon.wait_for_line("copying the WAL back: database or disk is full");
    put_long(321..=340);
    receiver.wait_until(all_of(340));
    assert!(daemon.stop().0.success());
    put_long(341..=360);
    let _daemon = site.start();
    receiver.wait_until(all_of(360));
}

/// What nobody could read holds up nothing, and nobody has to send more to hear of it.
#[test]
fn a_lone_order_that_cannot_be_delivered_is_set_aside_at_once() {
    let receiver = Receiver::ok();
    let site = Site::new(&receiver.webhook("erp", ""));
    let daemon = site.start();
    site.producer()
        .execute(
            r#"INSERT INTO orders (order_type, body) VALUES ('work_order', '{"TrackingNumber":1,"Note":"\ud800"}')"#,
            [],
        )
        .unwrap();
    daemon.wait_for_line("order 1 can't be delivered and is set aside");
    daemon.stop();
    assert_eq!(
        site.ledger_rows("SELECT seq, order_type FROM set_aside"),
        "1 work_order\n"
    );
    assert!(receiver.arrived().is_empty());
}

/// D2: a changed selection has all orders looked at anew, and which entered first still decides.
#[test]
fn d2_holds_right_after_a_changed_selection() {
    let all = "\"purchase_order\", \"transfer_order\", \"work_order\"";
    for (sequence, orders, expected) in [
        (
            "po_first",
            &["work_order", "transfer_order"][..],
            "work_order 1; transfer_order 2",
        ),
        (
            "fifo",
            &["work_order", "purchase_order", "work_order"],
            "work_order 1; purchase_order 2; work_order 3",
        ),
    ] {
        let receiver = Receiver::ok();
        let webhook = |more: &str| {
            receiver.webhook(
                "erp",
                &format!("sequence = \"{sequence}\"\ntriggers = [{all}{more}"),
            )
        };
        let site = Site::new(&webhook("]\nactive = false"));
        let daemon = site.start();
        daemon.wait_for_line("inactive");
        for (order_type, number) in orders.iter().zip(1..) {
            site.enqueue(order_type, number..=number);
        }
        site.configure(&webhook(", \"*.x\"]"));
        daemon.reload();
        let arrived = receiver.wait_for(orders.len());
        let arrived: Vec<_> = arrived.iter().map(Arrived::summary).collect();
        assert_eq!(arrived.join("; "), expected, "{sequence}");
    }
}

/// D26: what a filter does not pass is passed over once, and not again at each start.
#[test]
fn a_filter_that_passes_little_gets_ahead() {
    let receiver = Receiver::ok();
    let site = Site::new(&receiver.webhook("erp", "filter = { Site = [\"A\"] }"));
    let mut conn = site.producer();
    let transaction = conn.transaction().unwrap();
    for number in 1..=3_000 {
        put(&transaction, "work_order", number, "B");
    }
    put(&transaction, "purchase_order", 3_001, "A");
    transaction.commit().unwrap();
    let daemon = site.start();
    assert_eq!(receiver.wait_for(1)[0].summary(), "purchase_order 3001");
    put(&conn, "work_order", 3_002, "A");
    assert_eq!(receiver.wait_for(2)[1].summary(), "work_order 3002");
    // And none of the type that is sent next.
    let mut conn = site.producer();
    let transaction = conn.transaction().unwrap();
    for number in 3_003..=6_000 {
        put(&transaction, "transfer_order", number, "B");
    }
    put(&transaction, "purchase_order", 6_001, "A");
    transaction.commit().unwrap();
    assert_eq!(receiver.wait_for(3)[2].summary(), "purchase_order 6001");
    daemon.stop();
    let cursors = site
        .ledger_rows("SELECT work_order_cursor, transfer_order_cursor FROM webhooks")
        .split_whitespace()
        .map(|cursor| cursor.parse::<u64>().unwrap())
        .collect::<Vec<_>>();
    assert!(cursors[0] >= 3_002 && cursors[1] >= 5_700, "{cursors:?}");
}

/// A tool that switched the queue to another journal mode is not the end of deliveries.
#[test]
fn a_queue_in_another_journal_mode_is_switched_back() {
    let receiver = Receiver::ok();
    let site = Site::new(&receiver.webhook("erp", ""));
    // A connection of its own each time: one that stays open knows its own mode, not the file's.
    let mode = |statement: &str| {
        site.producer()
            .query_row(statement, [], |row| row.get::<_, String>(0))
            .unwrap()
    };
    assert_eq!(mode("PRAGMA journal_mode=DELETE"), "delete");
    site.enqueue("purchase_order", 1..=1);
    let _daemon = site.start();
    receiver.wait_for(1);
    assert_eq!(mode("PRAGMA journal_mode"), "wal");
    site.enqueue("purchase_order", 2..=2);
    assert_eq!(receiver.wait_for(2)[1].summary(), "purchase_order 2");
}

/// The daemon's exit code, once it has said that this file is no longer what it opened.
fn ends_naming(daemon: Daemon, path: &Path) -> Option<i32> {
    daemon.wait_for_line(&format!(
        "{}: was replaced or removed while the daemon had it open",
        path.display()
    ));
    daemon.wait().0.code()
}

/// D18, D19: orders would go into a file that nobody reads, so the daemon ends; and what was in
/// flight is recorded as what came of it.
#[test]
fn a_queue_replaced_under_the_daemon_ends_it_after_the_request_in_flight() {
    let gate = Arc::new(Gate::default());
    let held = Arc::clone(&gate);
    let receiver = Receiver::new(move |_, _| Answer::Gated(Arc::clone(&held), 200));
    let site = Site::new(&receiver.webhook("erp", ""));
    let other = Site::new("");
    site.enqueue("purchase_order", 1..=1);
    let daemon = site.start();
    receiver.wait_for(1);
    fs::rename(other.queue(), site.queue()).unwrap();
    daemon.wait_for_line("stopping: no further request is started");
    gate.open();
    assert_eq!(ends_naming(daemon, &site.queue()), Some(5));
    assert_snapshot!(
        site.ledger_rows("SELECT state, attempts, outcome, status FROM payloads JOIN attempts USING (payload_id)"),
        @"delivered 1 delivered 200"
    );
}

/// What is written into a file without a name is gone at the next start: nothing is sent by it.
#[test]
fn a_ledger_removed_under_the_daemon_ends_it_at_the_next_commit() {
    let receiver = Receiver::ok();
    let site = Site::new(&receiver.webhook("erp", ""));
    let daemon = site.start();
    fs::remove_file(site.ledger()).unwrap();
    site.enqueue("purchase_order", 1..=1);
    assert_eq!(ends_naming(daemon, &site.ledger()), Some(5));
    assert!(receiver.arrived().is_empty());
}
