//! A disk that refuses to sync or to write, and one that is read-only; and no file descriptors left.

use std::process::Command;

use super::{
    Fault, SMALL, all_arrive_in_one_payload_each, ledger_on_a_disk, queue_on_a_disk, said, wal_of,
};
use crate::disk::Disk;
use crate::producers::{available, skip};
use crate::support::{Daemon, Receiver, Site};

/// A sync that succeeds after one that failed proves nothing: the kernel takes what it could not
/// write for written. So all of the WAL is written again, before anything is built on it.
#[test]
fn what_a_sync_of_the_queue_failed_for_is_written_again() {
    let receiver = Receiver::ok();
    let site = Site::new(&receiver.webhook("erp", SMALL));
    let daemon = site.start();
    let wal = wal_of(site.queue());
    // Its first sync fails, and then its writes: what it does about the one meets the other.
    let calls = "fdatasync,pwrite64";
    let Some(fault) = Fault::begin(&daemon, &wal, calls, &format!("{calls}:error=EIO")) else {
        return;
    };
    site.enqueue("purchase_order", 1..=2);
    let line = daemon.wait_for_line("writing it again");
    assert!(receiver.arrived().is_empty());
    drop(fault);
    daemon.wait_for_line("the queue is back, and new orders are noticed");
    all_arrive_in_one_payload_each(&receiver, 1..=2);
    daemon.stop();
    assert_eq!(
        said(&[line], ""),
        [format!(
            "ERROR {}: writing it again after a failed sync: Input/output error (os error 5); new orders are not noticed until this is mended",
            wal.display()
        )]
    );
}

/// The same, where every other sync fails: none is believed before the WAL was written again.
#[test]
fn no_sync_of_the_queue_is_believed_after_one_that_failed() {
    let receiver = Receiver::ok();
    let site = Site::new(&receiver.webhook("erp", SMALL));
    let daemon = site.start();
    let Some(fault) = Fault::begin(
        &daemon,
        &wal_of(site.queue()),
        "fdatasync,pwrite64",
        "fdatasync:error=EIO:when=1+2",
    ) else {
        return;
    };
    for order in (1..=19).step_by(2) {
        site.enqueue("purchase_order", order..=order + 1);
        all_arrive_in_one_payload_each(&receiver, 1..=order + 1);
    }
    assert!(daemon.stop().0.success());
    let calls = fault.end();
    // The daemon's own file; SQLite has another, which it syncs before it copies back.
    let own = calls
        .iter()
        .find_map(|call| call.split_once("fdatasync(")?.1.split_once(')'))
        .map(|(number, _)| format!("({number}"))
        .unwrap();
    let mut failed = 0;
    let mut doubtful = false;
    for call in calls.iter().filter(|call| call.contains(&own)) {
        if call.contains("pwrite64(") {
            doubtful = false;
        } else if call.contains("fdatasync(") {
            assert!(!doubtful, "synced, and not written again: {call}");
            doubtful = call.contains("EIO");
            failed += u32::from(doubtful);
        }
    }
    assert!(failed >= 10, "{failed}");
}

/// What could not be synced is taken back, and written again whole: SQLite begins the transaction
/// anew. Nothing leaves before that succeeds.
#[test]
fn a_ledger_that_cannot_be_synced_is_waited_for() {
    let Some(log) = waits_for_the_ledger("fdatasync:error=EIO:when=1..2") else {
        return;
    };
    assert_eq!(
        said(&log, "ERROR"),
        [
            "ERROR LEDGER: recording: disk I/O error; the disk may be failing: the kernel's log (`dmesg`) says more; nothing is sent until this is mended, and it is tried again every second"
        ]
    );
}

/// As after an error in the file system, which then is read-only; until it is mounted anew.
#[test]
fn a_ledger_that_cannot_be_written_is_waited_for() {
    let Some(log) = waits_for_the_ledger("pwrite64:error=EROFS:when=1..2") else {
        return;
    };
    assert_eq!(
        said(&log, "ERROR"),
        [
            "ERROR LEDGER: recording: disk I/O error; the disk may be failing: the kernel's log (`dmesg`) says more; nothing is sent until this is mended, and it is tried again every second"
        ]
    );
}

/// What the daemon says when its writes to the ledger's WAL fail so, for a while.
fn waits_for_the_ledger(injected: &str) -> Option<Vec<String>> {
    let receiver = Receiver::ok();
    let site = Site::new(&receiver.webhook("erp", SMALL));
    let daemon = site.start();
    site.enqueue("purchase_order", 1..=2);
    all_arrive_in_one_payload_each(&receiver, 1..=2);
    let call = injected.split_once(':').unwrap().0;
    let fault = Fault::begin(&daemon, &wal_of(site.ledger()), call, injected)?;
    site.enqueue("purchase_order", 3..=6);
    daemon.wait_for_line("nothing is sent until this is mended");
    assert_eq!(receiver.arrived().len(), 1);
    all_arrive_in_one_payload_each(&receiver, 1..=6);
    drop(fault);
    let (status, log) = daemon.stop();
    assert!(status.success(), "{log:?}");
    assert_eq!(
        said(&log, "the store is back"),
        ["the store is back, and all goes on"]
    );
    assert_eq!(
        site.ledger_rows("SELECT state, attempts, items FROM payloads"),
        "delivered 1 2\n".repeat(3)
    );
    assert_eq!(site.ledger_rows("PRAGMA integrity_check"), "ok\n");
    let log = log
        .iter()
        .map(|line| line.replace(site.ledger().to_str().unwrap(), "LEDGER"));
    Some(log.collect())
}

/// The kernel itself stops writing to a file system in which it found an error.
#[test]
fn a_file_system_that_breaks_under_the_ledger_loses_nothing() {
    let receiver = Receiver::ok();
    let Some((site, disk)) = ledger_on_a_disk(&receiver.webhook("erp", SMALL)) else {
        return;
    };
    let daemon = site.start();
    site.enqueue("purchase_order", 1..=2);
    all_arrive_in_one_payload_each(&receiver, 1..=2);
    daemon.wait_for_line("delivered 2");
    if let Err(why) = disk.damage() {
        return skip(&format!("no file system can be damaged: {why}"));
    }
    site.enqueue("purchase_order", 3..=6);
    let line = daemon.wait_for_line("nothing is sent until this is mended");
    assert!(line.contains("recording: disk I/O error; "), "{line}");
    daemon.kill();
    assert!(site.told(&["check"]).contains("Read-only file system"));
    disk.mend().unwrap();
    let _daemon = site.start();
    all_arrive_in_one_payload_each(&receiver, 1..=6);
}

/// Not a lack of rights, which somebody would have to give: it ends with 1, and systemd starts it again.
#[test]
fn a_read_only_file_system_is_told_at_the_start() {
    type OnADisk = fn(&str) -> Option<(Site, Disk)>;
    let cases: [(OnADisk, &str); 2] = [
        (
            ledger_on_a_disk,
            "orderfeed: ./l/ledger.db.lock: locking the ledger: Read-only file system (os error 30)\n[exit 1]",
        ),
        (
            queue_on_a_disk,
            "orderfeed: ./q/queue.db: opening: Read-only file system (os error 30)\n[exit 1]",
        ),
    ];
    for (on_a_disk, expected) in cases {
        let receiver = Receiver::ok();
        let Some((site, disk)) = on_a_disk(&receiver.webhook("erp", SMALL)) else {
            return;
        };
        site.enqueue("purchase_order", 1..=2);
        disk.remount("ro").unwrap();
        assert_eq!(site.told(&["run"]), expected);
        disk.remount("rw").unwrap();
        let _daemon = site.start();
        all_arrive_in_one_payload_each(&receiver, 1..=2);
    }
}

fn limit_files(daemon: &Daemon, limit: &str) {
    let status = Command::new("prlimit")
        .args([
            "--pid",
            &daemon.pid().to_string(),
            &format!("--nofile={limit}:"),
        ])
        .status();
    assert!(status.unwrap().success());
}

/// A connection that can't be made is a failed attempt like others, in which nothing was sent.
#[test]
fn a_daemon_without_file_descriptors_tries_again() {
    if !available("prlimit", &["--version"]) {
        return;
    }
    let receiver = Receiver::ok();
    let site = Site::new(&receiver.webhook(
        "erp",
        "retry_attempts = \"unlimited\"\nretry_gap = \"50ms\"",
    ));
    let daemon = site.start();
    limit_files(&daemon, "3");
    site.enqueue("purchase_order", 1..=2);
    let line = daemon.wait_for_line("not delivered");
    assert!(line.contains("Too many open files"), "it says why: {line}");
    limit_files(&daemon, "1024");
    all_arrive_in_one_payload_each(&receiver, 1..=2);
    assert!(daemon.stop().0.success());
}

#[test]
fn too_few_file_descriptors_at_the_start_are_told() {
    if !available("prlimit", &["--version"]) {
        return;
    }
    let site = Site::new("");
    let told = |limit: &str| {
        let output = Command::new("prlimit")
            .arg(format!("--nofile={limit}"))
            .arg(env!("CARGO_BIN_EXE_orderfeed"))
            .args(["run", "--config"])
            .arg(site.config())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap()
    };
    // Which of its files it can't open is not the same for all who start it.
    let told_early = told("5");
    let began = format!(
        "orderfeed: {}: opening: unable to open database file",
        site.ledger().display()
    );
    assert!(told_early.starts_with(&began), "{told_early}");
    assert!(
        told_early.ends_with(
            "; no file descriptors are left: raise LimitNOFILE= of the service, or `ulimit -n`\n"
        ),
        "{told_early}"
    );
    assert_eq!(
        told("10"),
        format!(
            "orderfeed: {}-wal: opening it for syncing: Too many open files (os error 24)\n",
            site.queue().display()
        )
    );
}
