//! What is noticed at the start, and how it is said: files that are missing, foreign, older,
//! replaced, or held (contract, section 2; exit codes of section 7).

use std::fs;

use insta::assert_snapshot;
use orderfeed::clock::{Reading, WallTime};
use orderfeed::store::ledger::{self, Ledger};

use crate::support::{Receiver, Site};

#[test]
fn missing_files_are_named() {
    let site = Site::bare("");
    assert_snapshot!(site.told(&["run"]), @"
    orderfeed: ./l/ledger.db does not exist; `orderfeed init` makes the queue and the ledger
    [exit 5]
    ");
    assert_snapshot!(site.told(&["init"]).replace(ROOTS_NOTE, ""), @"
    queue ./q/queue.db made
    ledger ./l/ledger.db made
    [exit 0]
    ");
    assert_snapshot!(site.told(&["init"]).replace(ROOTS_NOTE, ""), @"
    queue ./q/queue.db exists already
    ledger ./l/ledger.db exists already
    [exit 0]
    ");
    assert_snapshot!(site.told(&["check"]), @"
    ./config.toml is valid
    it has no [webhook.NAME]: orders will queue up, and nothing is sent
    [exit 0]
    ");
}

const ROOTS_NOTE: &str =
    "note: this was done as root; the files must belong to the user that the daemon runs as\n";

#[test]
fn files_of_something_else_are_refused() {
    let site = Site::new("");
    let queue = fs::read(site.queue()).unwrap();
    fs::copy(site.ledger(), site.queue()).unwrap();
    assert_snapshot!(site.told(&["run"]), @"
    orderfeed: ./q/queue.db: is a SQLite file of something else, and no queue of orderfeed; check the path in the configuration
    [exit 5]
    ");
    fs::write(site.queue(), "orders, a list\n".repeat(100)).unwrap();
    assert_snapshot!(site.told(&["run"]), @"
    orderfeed: ./q/queue.db: is no SQLite file, and so no queue; restore it, or move it away and run `orderfeed init`
    [exit 5]
    ");
    fs::write(site.queue(), "").unwrap();
    assert_snapshot!(site.told(&["run"]), @"
    orderfeed: ./q/queue.db: is empty (made by user 0), and no queue: somebody opened it before `orderfeed init` made it; remove it and run `orderfeed init`
    [exit 5]
    ");
    fs::write(site.queue(), &queue).unwrap();
    rusqlite::Connection::open(site.queue())
        .unwrap()
        .pragma_update(None, "user_version", 7)
        .unwrap();
    assert_snapshot!(site.told(&["run"]), @"
    orderfeed: ./q/queue.db: is a queue of schema version 7, and this orderfeed knows only version 1; use the orderfeed that made it
    [exit 5]
    ");
}

/// Only one daemon may use a ledger; the other is told which process has it.
#[test]
fn a_second_daemon_is_refused() {
    let site = Site::new("");
    let daemon = site.start();
    let told = site
        .told(&["run"])
        .replace(&daemon.pid().to_string(), "PID");
    assert_snapshot!(told, @"
    orderfeed: ./l/ledger.db is held by process PID; only one process may use a ledger at a time
    [exit 5]
    ");
    let told = site
        .told(&["resume", "erp"])
        .replace(&daemon.pid().to_string(), "PID");
    assert_snapshot!(told, @r#"
    orderfeed: there is no webhook "erp"; there are none
    [exit 1]
    "#);
    let told = site
        .told(&["check"])
        .replace(&daemon.pid().to_string(), "PID");
    assert_snapshot!(told, @"
    ./config.toml is valid
    it has no [webhook.NAME]: orders will queue up, and nothing is sent
    what waits is not shown: ./l/ledger.db is held by process PID; only one process may use a ledger at a time
    [exit 0]
    ");
}

/// A site that delivered orders 1 to 3.
fn delivered(receiver: &Receiver) -> Site {
    let site = Site::new(&receiver.webhook("erp", ""));
    site.enqueue("purchase_order", 1..=3);
    let daemon = site.start();
    daemon.wait_for_line("delivered 3");
    daemon.stop();
    site
}

#[test]
fn another_queue_is_noticed_and_can_be_adopted() {
    let receiver = Receiver::ok();
    let site = delivered(&receiver);
    for suffix in ["", "-wal", "-shm"] {
        let mut path = site.queue().into_os_string();
        path.push(suffix);
        drop(fs::remove_file(path));
    }
    assert!(site.run(&["init"]).0.success());
    site.enqueue("work_order", 11..=12);
    assert_snapshot!(site.standstill(), @"
    the queue ./q/queue.db is not the one that the ledger ./l/ledger.db fed from: it was replaced
        Nothing was sent. Put the right file back; or, to go on with what is there, run `orderfeed adopt-queue --resend-from SEQ` (sends the orders from that seq on) or `orderfeed adopt-queue --all-new` (sends all orders in the file)
        The daemon stands still until then; it answers on the admin socket.
    ");
    assert_snapshot!(site.told(&["adopt-queue"]), @"
    error: the following required arguments were not provided:
      <--resend-from <SEQ>|--all-new>

    Usage: orderfeed adopt-queue <--resend-from <SEQ>|--all-new>

    For more information, try '--help'.
    [exit 2]
    ");
    assert_snapshot!(site.told(&["adopt-queue", "--all-new"]), @"
    The ledger ./l/ledger.db goes on with the queue ./q/queue.db, with all orders in it; its newest order is 2.
    Start the daemon to send them.
    [exit 0]
    ");
    let daemon = site.start();
    assert_eq!(receiver.wait_for(2)[1].summary(), "work_order 11,12");
    daemon.wait_for_line("delivered 2");
    daemon.stop();
    site.start().stop();
    assert_eq!(receiver.arrived().len(), 2);
}

/// A lost ledger never silently resends the queue.
#[test]
fn a_lost_ledger_is_noticed() {
    let receiver = Receiver::ok();
    let site = delivered(&receiver);
    fs::remove_file(site.ledger()).unwrap();
    assert_snapshot!(site.told(&["run"]), @"
    orderfeed: ./l/ledger.db does not exist; `orderfeed init` makes the queue and the ledger
    [exit 5]
    ");
    assert!(site.run(&["init"]).0.success());
    assert_snapshot!(site.standstill(), @"
    the queue ./q/queue.db was fed from by another ledger, not by ./l/ledger.db: the ledger was lost, replaced, or belongs to another queue, and so it can't tell which orders were delivered
        Nothing was sent. Put the right file back; or, to go on with what is there, run `orderfeed adopt-queue --resend-from SEQ` (sends the orders from that seq on) or `orderfeed adopt-queue --all-new` (sends all orders in the file)
        The daemon stands still until then; it answers on the admin socket.
    ");
    assert_snapshot!(site.told(&["adopt-queue", "--resend-from", "5"]), @"
    orderfeed: there is no order 5 in the queue ./q/queue.db, whose newest is 3; say 4 to send none of them again, and all that are queued later
    [exit 1]
    ");
    assert_snapshot!(site.told(&["adopt-queue", "--resend-from", "3"]), @"
    The ledger ./l/ledger.db goes on with the queue ./q/queue.db, from order 3 on; its newest order is 3.
    Start the daemon to send them.
    [exit 0]
    ");
    let _daemon = site.start();
    assert_eq!(receiver.wait_for(2)[1].summary(), "purchase_order 3");
}

/// An order that has the place of one which the older copy lacks is not taken for it.
#[test]
fn orders_queued_after_an_older_copy_was_adopted_are_told_from_those_that_are_lost() {
    let receiver = Receiver::ok();
    let site = Site::new(&receiver.webhook("erp", ""));
    site.enqueue("purchase_order", 1..=1);
    let daemon = site.start();
    daemon.wait_for_line("delivered 1");
    daemon.stop();
    let copy = fs::read(site.queue()).unwrap();
    let daemon = site.start();
    site.enqueue("purchase_order", 2..=2);
    daemon.wait_for_line("delivered 1");
    let no_text = "INSERT INTO orders (order_type, body) VALUES ('purchase_order', CAST('{\"TrackingNumber\":3,\"x\":\"' || x'ff' || '\"}' AS TEXT))";
    site.producer().execute_batch(no_text).unwrap();
    daemon.wait_for_line("is set aside");
    daemon.stop();
    fs::write(site.queue(), copy).unwrap();
    assert!(site.run(&["adopt-queue", "--resend-from", "2"]).0.success());
    // The second version of the first order, and another one.
    site.enqueue("purchase_order", [1, 4]);
    assert_snapshot!(site.told(&["reconcile"]), @"
    3 orders in the queue, number 1 to 3

    WEBHOOK  DELIVERED  WAITING  MISSING  SUM
    erp              1        2        0    3
    [exit 0]
    ");
    let daemon = site.start();
    assert_eq!(receiver.wait_for(3)[2].summary(), "purchase_order 1,4");
    daemon.wait_for_line("delivered 2");
    daemon.stop();
    assert_snapshot!(site.told(&["check", "--deep"]), @"
    ./config.toml is valid
    ./l/ledger.db: sound
    ./q/queue.db: sound
    payloads and their orders: sound
    erp: nothing waits
    [exit 0]
    ");
}

#[test]
fn an_older_copy_of_the_queue_is_noticed() {
    let receiver = Receiver::ok();
    let site = Site::new(&receiver.webhook("erp", ""));
    let copy = fs::read(site.queue()).unwrap();
    site.enqueue("purchase_order", 1..=3);
    let daemon = site.start();
    daemon.wait_for_line("delivered 3");
    daemon.stop();
    fs::write(site.queue(), copy).unwrap();
    assert_snapshot!(site.standstill(), @"
    the queue ./q/queue.db ends at order 0, and the ledger has seen order 3: the queue was restored from an older copy
        Nothing was sent. Put the right file back; or, to go on with what is there, run `orderfeed adopt-queue --resend-from SEQ` (sends the orders from that seq on) or `orderfeed adopt-queue --all-new` (sends all orders in the file)
        The daemon stands still until then; it answers on the admin socket.
    ");
    // Also when other orders took the lost ones' places.
    site.enqueue("work_order", 11..=14);
    assert_snapshot!(site.standstill(), @"
    order 1 is no longer in the queue: the queue ./q/queue.db was replaced or restored from a copy
        Nothing was sent. Put the right file back; or, to go on with what is there, run `orderfeed adopt-queue --resend-from SEQ` (sends the orders from that seq on) or `orderfeed adopt-queue --all-new` (sends all orders in the file)
        The daemon stands still until then; it answers on the admin socket.
    ");
}

#[test]
fn an_older_copy_of_the_ledger_is_noticed() {
    let receiver = Receiver::ok();
    let site = Site::new(&receiver.webhook("erp", ""));
    let copy = fs::read(site.ledger()).unwrap();
    site.enqueue("purchase_order", 1..=3);
    let daemon = site.start();
    daemon.wait_for_line("delivered 3");
    daemon.stop();
    fs::write(site.ledger(), copy).unwrap();
    let told = site.standstill();
    let id = told
        .split_whitespace()
        .find(|word| word.starts_with("pl_"))
        .unwrap_or("none");
    assert_snapshot!(told.replace(id, "pl_…,"), @"
    the ledger ./l/ledger.db does not know payload pl_…, which was made from this queue: it was restored from an older copy, and does not know all that was delivered
        Nothing was sent. Put the right file back; or, to go on with what is there, run `orderfeed adopt-queue --resend-from SEQ` (sends the orders from that seq on) or `orderfeed adopt-queue --all-new` (sends all orders in the file)
        The daemon stands still until then; it answers on the admin socket.
    ");
    assert_eq!(receiver.arrived().len(), 1);
}

/// A webhook that begins "now" has nothing to show for it but the queue's length.
#[test]
fn an_older_copy_is_noticed_where_nothing_was_sent() {
    let receiver = Receiver::ok();
    let site = Site::new(&receiver.webhook("erp", "start = \"now\""));
    site.enqueue("purchase_order", 1..=5);
    let copy = fs::read(site.queue()).unwrap();
    site.enqueue("purchase_order", 6..=10);
    site.start().stop();
    fs::write(site.queue(), copy).unwrap();
    let told = site.standstill();
    assert!(
        told.contains("ends at order 5, and the ledger has seen order 10"),
        "{told}"
    );
}

/// A ledger that is not up to date can't tell what was sent: it begins where it is told to, and
/// says what it leaves out.
#[test]
fn adopting_with_an_older_ledger_says_what_it_leaves_out() {
    let receiver = Receiver::ok();
    let site = Site::new(&receiver.webhook("erp", ""));
    site.start().stop();
    let copy = fs::read(site.ledger()).unwrap();
    site.enqueue("purchase_order", 1..=10);
    let daemon = site.start();
    daemon.wait_for_line("delivered 10");
    daemon.stop();
    fs::write(site.ledger(), copy).unwrap();
    assert_snapshot!(site.told(&["adopt-queue", "--resend-from", "9"]), @"
    The ledger ./l/ledger.db goes on with the queue ./q/queue.db, from order 9 on; its newest order is 10.
    erp: orders 1 to 8 are not sent to it again; this ledger is not up to date, and does not know which of them were sent
    Start the daemon to send them.
    [exit 0]
    ");
    let _daemon = site.start();
    assert_eq!(receiver.wait_for(2)[1].summary(), "purchase_order 9,10");
}

/// D4: where the wall clock was set while the ledger was open, time goes on by what it was set
/// to, and not by what it was before; nothing is due early because of it.
#[test]
fn d4_a_wall_clock_that_was_set_makes_no_time_pass() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.db");
    let reading = |boot: &str, boottime_ms, wall_ms| Reading {
        boot_id: boot.to_owned(),
        boottime_ms,
        wall: WallTime(wall_ms),
    };
    let year_2026 = 1_790_000_000_000;
    // A machine starts with its clock at 1970, and is told the time a minute later.
    ledger::create(&path, "ledger", "queue", &reading("a", 0, 0)).unwrap();
    let mut ledger = Ledger::open(&path, &reading("a", 0, 0)).unwrap();
    ledger.keep_clock(&reading("a", 60_000, year_2026)).unwrap();
    drop(ledger);
    // Ten seconds later it starts again.
    let ledger = Ledger::open(&path, &reading("b", 1_000, year_2026 + 10_000)).unwrap();
    let shown_ms = ledger.clock().now().ms() - Reading::take().boottime_ms + 1_000;
    assert!((69_000..=71_000).contains(&shown_ms), "{shown_ms}");
}
