//! Pruning, backups, going back to one, and whether the files are sound.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{Answer, Arrived, Daemon, OK, PATIENCE, Receiver, Site};

/// Prunes each second what is done with for a second.
const EAGER: &str =
    "[maintenance]\nretention = \"1s\"\nprune_at = \"* * * * * *\"\nbackup_dir = \"backups\"\n";

/// The seqs that the queue holds.
fn seqs(site: &Site) -> Vec<i64> {
    let queue = site.producer();
    let mut statement = queue
        .prepare("SELECT seq FROM orders ORDER BY seq")
        .unwrap();
    let rows = statement.query_map([], |row| row.get(0)).unwrap();
    rows.collect::<Result<_, _>>().unwrap()
}

fn wait_for_seqs(site: &Site, expected: &[i64]) {
    let deadline = Instant::now() + PATIENCE;
    while seqs(site) != expected {
        assert!(
            Instant::now() < deadline,
            "the queue holds {:?}",
            seqs(site)
        );
        thread::sleep(Duration::from_millis(20));
    }
}

/// Waits until pruning has ended so many times.
fn wait_for_prunes(daemon: &Daemon, times: usize) {
    let deadline = Instant::now() + PATIENCE;
    let ended = || {
        daemon
            .log()
            .iter()
            .filter(|line| line.contains("pruned: "))
            .count()
    };
    while ended() < times {
        assert!(Instant::now() < deadline, "nothing is pruned");
        thread::sleep(Duration::from_millis(20));
    }
}

fn backup(site: &Site) -> PathBuf {
    let (status, output) = site.run(&["backup"]);
    assert!(status.success(), "{output}");
    let (folder, _) = output.split_once(" (").unwrap();
    site.folder().join(folder.trim_start_matches("./"))
}

fn restore(site: &Site, folder: &std::path::Path, more: &[&str]) -> String {
    let folder = folder.to_str().unwrap();
    site.told(&[&["restore", folder], more].concat())
}

/// Delivers orders one by one, so that each is a payload.
fn one_by_one(receiver: &Receiver) -> String {
    receiver.webhook("erp", "payload_max_items = 1\nretry_attempts = 0\n")
}

#[test]
fn what_is_delivered_and_old_goes_and_the_last_payload_stays() {
    let receiver = Receiver::ok();
    let site = Site::new(&format!("{EAGER}{}", one_by_one(&receiver)));
    let daemon = site.start();
    site.enqueue("purchase_order", 1..=20);
    receiver.wait_for(20);
    wait_for_seqs(&site, &[20]);
    // The ledger follows.
    let deadline = Instant::now() + PATIENCE;
    while site
        .run(&["payloads", "--json"])
        .1
        .matches("\"payload_id\"")
        .count()
        > 1
    {
        assert!(Instant::now() < deadline, "payloads are left");
    }
    daemon.stop();
    assert_eq!(
        site.ledger_rows("SELECT count(*), (SELECT count(*) FROM attempts), (SELECT count(*) FROM other_attempts) FROM payloads"),
        "1 1 0\n"
    );
    let queue = site.producer();
    let numbers: i64 = queue
        .query_row("SELECT count(*) FROM tracking_numbers", [], |row| {
            row.get(0)
        })
        .unwrap();
    assert_eq!(numbers, 1);
    // The next ones go on behind, and nothing is taken for another queue.
    let daemon = site.start();
    site.enqueue("purchase_order", [21]);
    assert_eq!(receiver.wait_for(21)[20].summary(), "purchase_order 21");
    wait_for_seqs(&site, &[21]);
    daemon.stop();
}

#[test]
fn d11_what_failed_keeps_itself_and_all_after_it() {
    let receiver = Receiver::new(|_, request| match request.orders().1[..] {
        [3] => Answer::Status(422, ""),
        _ => OK,
    });
    let site = Site::new(&format!("{EAGER}{}", one_by_one(&receiver)));
    let daemon = site.start();
    site.enqueue("purchase_order", 1..=10);
    receiver.wait_for(10);
    wait_for_seqs(&site, &[3, 4, 5, 6, 7, 8, 9, 10]);
    let deadline = Instant::now() + PATIENCE;
    let told = loop {
        let told = site.told(&["status"]);
        if told.contains("keeps") {
            break told;
        }
        assert!(Instant::now() < deadline, "{told}");
    };
    let line = told.lines().find(|line| line.contains("keeps")).unwrap();
    assert!(
        line.contains("erp's failed payload pl_") && line.contains("keeps 8 older orders"),
        "{line}"
    );
    let id = line
        .split("payload ")
        .nth(1)
        .unwrap()
        .split(' ')
        .next()
        .unwrap();
    assert!(
        site.run(&["discard", id, "--reason", "seen to"])
            .0
            .success()
    );
    wait_for_seqs(&site, &[10]);
    daemon.stop();
}

#[test]
fn d24_what_waits_is_kept_however_old() {
    let receiver = Receiver::ok();
    let webhooks = format!(
        "{}{}",
        one_by_one(&receiver),
        receiver.webhook("idle", "active = false\ntriggers = [\"work_order\"]\n")
    );
    let site = Site::new(&format!("{EAGER}{webhooks}"));
    let daemon = site.start();
    site.enqueue("purchase_order", 1..=3);
    site.enqueue("work_order", [4]);
    site.enqueue("purchase_order", 5..=6);
    receiver.wait_for(6);
    wait_for_seqs(&site, &[4, 5, 6]);
    let daemon = {
        daemon.stop();
        site.start()
    };
    site.configure(&format!(
        "{EAGER}{}",
        webhooks.replace("active = false", "")
    ));
    daemon.reload();
    assert_eq!(receiver.wait_for(7)[6].summary(), "work_order 4");
    daemon.stop();
}

/// At each point of a run the daemon dies, and goes on the next time, with nothing lost.
#[test]
fn a_run_that_is_cut_off_is_finished_the_next_time() {
    for point in [
        "prune_begun",
        "prune_marked",
        "prune_slice",
        "prune_deleted",
        "prune_forgot",
    ] {
        let receiver = Receiver::new(|_, request| match request.orders().1[..] {
            [600] => Answer::Status(422, ""),
            _ => OK,
        });
        let site = Site::new(&format!(
            "{EAGER}{}",
            receiver.webhook("erp", "payload_max_items = 1\nretry_attempts = 0\n")
        ));
        let daemon = site.spawn(&[("FAILPOINT", point)]);
        site.enqueue("purchase_order", 1..=605);
        daemon.wait();
        let daemon = site.start();
        receiver.wait_until(|arrived| arrived.iter().any(|arrived| arrived.orders().1 == [605]));
        wait_for_seqs(&site, &[600, 601, 602, 603, 604, 605]);
        daemon.stop();
        let told = site.told(&["check", "--deep"]);
        assert!(told.ends_with("[exit 0]"), "{point}: {told}");
        let told = site.told(&["reconcile"]);
        assert!(told.ends_with("[exit 0]"), "{point}: {told}");
    }
}

#[test]
fn a_backup_is_whole_while_orders_come_and_go() {
    let receiver = Receiver::ok();
    let site = Site::new(&format!(
        "{EAGER}backup_keep = 2\n{}",
        one_by_one(&receiver)
    ));
    let daemon = site.start();
    let mut last = PathBuf::new();
    for round in 0..4 {
        site.enqueue("purchase_order", (round * 50 + 1)..=(round * 50 + 50));
        last = backup(&site);
    }
    let mut names: Vec<PathBuf> = fs::read_dir(site.file("backups"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    names.sort();
    assert_eq!(names.len(), 2, "{names:?}");
    assert_eq!(names[1].file_name(), last.file_name());
    receiver.wait_for(200);
    daemon.stop();
    // Another site goes on with it, and sends what was yet to be sent then, and no order is missing.
    let told = restore(&site, &last, &["--yes"]);
    assert!(
        told.contains("Restored.") && told.ends_with("[exit 0]"),
        "{told}"
    );
    let told = site.told(&["check", "--deep"]);
    assert!(told.ends_with("[exit 0]"), "{told}");
    let daemon = site.start();
    site.enqueue("purchase_order", [999]);
    let arrived =
        receiver.wait_until(|arrived| arrived.iter().any(|arrived| arrived.orders().1 == [999]));
    let numbers: std::collections::BTreeSet<u64> = arrived
        .iter()
        .flat_map(|arrived| arrived.orders().1)
        .collect();
    assert_eq!(numbers.len(), 201);
    daemon.stop();
}

#[test]
fn a_backup_that_is_cut_off_leaves_the_others_alone() {
    for point in ["backup_ledger", "backup_queue", "backup_finished"] {
        let receiver = Receiver::ok();
        let site = Site::new(&format!("{EAGER}{}", one_by_one(&receiver)));
        site.enqueue("purchase_order", 1..=5);
        let first = backup(&site);
        let daemon = site.spawn(&[("FAILPOINT", point)]);
        daemon.wait_for_line(" runs");
        receiver.wait_for(5);
        let (status, _) = site.run(&["backup"]);
        assert!(!status.success(), "{point}");
        daemon.wait();
        let second = backup(&site);
        let entries = fs::read_dir(site.file("backups")).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let hidden = names.filter(|name| name.starts_with('.')).count();
        assert_eq!(hidden, 0, "{point}");
        assert!(first.join("queue.db").is_file() && second.join("ledger.db").is_file());
    }
}

/// Else the daemon could neither add to the folder nor rotate what is in it.
#[test]
fn what_root_backs_up_belongs_to_the_ledgers_owner() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let site = Site::new("[maintenance]\nbackup_dir = \"backups\"\n");
    std::os::unix::fs::chown(site.ledger(), Some(12_345), Some(12_346)).unwrap();
    let folder = backup(&site);
    for path in [
        folder.parent().unwrap(),
        &folder,
        &folder.join("ledger.db"),
        &folder.join("queue.db"),
    ] {
        let found = path.metadata().unwrap();
        assert_eq!(
            (found.uid(), found.gid()),
            (12_345, 12_346),
            "{}",
            path.display()
        );
    }
}

#[test]
fn restore_says_what_is_sent_again_and_what_is_missing() {
    let receiver = Receiver::ok();
    let site = Site::new(&format!(
        "[maintenance]\nbackup_dir = \"backups\"\n{}",
        one_by_one(&receiver)
    ));
    site.enqueue("purchase_order", 1..=3);
    let folder = backup(&site);
    let daemon = site.start();
    receiver.wait_for(3);
    site.enqueue("purchase_order", 4..=5);
    receiver.wait_for(5);
    let held = restore(&site, &folder, &["--yes"]);
    assert!(
        held.contains("is held by process") && held.ends_with("[exit 5]"),
        "{held}"
    );
    daemon.stop();
    let told = restore(&site, &folder, &[]);
    assert!(
        told.contains(
            "erp: 3 orders in 3 payloads were sent since, or may have been, and are sent again"
        ) && told.contains("2 orders were queued since (4 to 5) and are missing afterwards")
            && told.contains("say --yes")
            && told.ends_with("[exit 1]"),
        "{told}"
    );
    let told = restore(&site, &folder, &["--yes"]);
    assert!(told.ends_with("[exit 0]"), "{told}");
    let daemon = site.start();
    let arrived = receiver.wait_for(8);
    assert_eq!(arrived[7].summary(), "purchase_order 3");
    let status = site.told(&["status"]);
    assert!(!status.contains("not ended yet"), "{status}");
    let (_, log) = daemon.stop();
    let doubts = log.iter().find(|line| line.contains("were changed since"));
    assert_eq!(doubts, None, "the triggers of the copy vouch as before");
    assert_eq!(seqs(&site), [1, 2, 3]);
}

#[test]
fn a_copy_that_was_put_in_place_by_hand_is_noticed() {
    let receiver = Receiver::ok();
    let site = Site::new(&format!(
        "[maintenance]\nbackup_dir = \"backups\"\n{}",
        one_by_one(&receiver)
    ));
    site.enqueue("purchase_order", 1..=3);
    let folder = backup(&site);
    fs::copy(folder.join("queue.db"), site.queue()).unwrap();
    fs::copy(folder.join("ledger.db"), site.ledger()).unwrap();
    let told = site.standstill();
    assert!(
        told.contains("is a copy of 20") && told.contains("orderfeed restore FOLDER"),
        "{told}"
    );
    assert!(receiver.arrived().is_empty());
    let told = site.told(&["adopt-queue", "--resend-from", "2"]);
    assert!(told.ends_with("[exit 0]"), "{told}");
    let daemon = site.start();
    assert_eq!(receiver.wait_for(1)[0].summary(), "purchase_order 2");
    daemon.stop();
}

#[test]
fn check_deep_finds_an_order_that_is_gone() {
    let receiver = Receiver::ok();
    let site = Site::new(&one_by_one(&receiver));
    let daemon = site.start();
    site.enqueue("purchase_order", 1..=3);
    receiver.wait_for(3);
    daemon.stop();
    let queue = site.producer();
    queue
        .execute_batch("BEGIN; INSERT INTO prunings VALUES (2); DELETE FROM orders WHERE seq = 2; DELETE FROM prunings; COMMIT")
        .unwrap();
    drop(queue);
    let told = site.told(&["check", "--deep"]);
    assert!(
        told.contains("of payload pl_") && told.contains("order 2") && told.ends_with("[exit 5]"),
        "{told}"
    );
}

/// Before there is a webhook, all orders wait for the first one (D27).
#[test]
fn d27_nothing_is_pruned_before_the_first_webhook() {
    let receiver = Receiver::ok();
    let site = Site::new(EAGER);
    let daemon = site.start();
    site.enqueue("purchase_order", 1..=5);
    wait_for_prunes(&daemon, 4);
    assert_eq!(seqs(&site), [1, 2, 3, 4, 5]);
    site.configure(&format!("{EAGER}{}", one_by_one(&receiver)));
    daemon.reload();
    receiver.wait_for(5);
    wait_for_seqs(&site, &[5]);
    daemon.stop();
}

/// The next webhook is none of the first when all that were there are forgotten (D27).
#[test]
fn d27_a_webhook_after_a_forgotten_one_is_none_of_the_first() {
    let receiver = Receiver::ok();
    let site = Site::new(&format!("{EAGER}{}", one_by_one(&receiver)));
    let daemon = site.start();
    site.enqueue("purchase_order", 1..=3);
    receiver.wait_for(3);
    site.configure(EAGER);
    daemon.reload();
    daemon.wait_for_line("erp was removed from the configuration");
    site.enqueue("purchase_order", 4..=5);
    let later = |more: &str| format!("{EAGER}{}", receiver.webhook("later", more));
    site.configure(&later(""));
    daemon.reload();
    daemon.wait_for_line("later: held");
    site.configure(&later("start = \"now\"\n"));
    daemon.reload();
    site.enqueue("purchase_order", [6]);
    assert_eq!(receiver.wait_for(4)[3].summary(), "purchase_order 6");
    daemon.stop();
}

/// What is pruned comes back with an older copy of the queue, and belongs to whom it belonged.
#[test]
fn d25_what_was_pruned_can_be_sent_again_from_an_older_copy() {
    const NEVER: &str = "[maintenance]\nprune_at = \"off\"\n";
    let receiver = Receiver::ok();
    let triggers = |triggers: &str| one_by_one(&receiver) + &format!("triggers = [{triggers}]\n");
    let first = triggers("\"purchase_order\"");
    let then = triggers("\"purchase_order\", \"work_order\"");
    let site = Site::new(&format!("{NEVER}{first}"));
    let daemon = site.start();
    site.enqueue("purchase_order", 1..=3);
    receiver.wait_for(3);
    site.configure(&format!("{NEVER}{then}"));
    daemon.reload();
    site.enqueue("work_order", 4..=5);
    receiver.wait_for(5);
    daemon.stop();
    let older = site.file("older.db");
    fs::copy(site.queue(), &older).unwrap();
    site.configure(&format!("{EAGER}{then}"));
    let daemon = site.start();
    site.enqueue("purchase_order", [6]);
    receiver.wait_for(6);
    wait_for_seqs(&site, &[6]);
    wait_for_prunes(&daemon, 4);
    daemon.stop();
    fs::copy(&older, site.queue()).unwrap();
    let told = site.told(&["adopt-queue", "--resend-from", "1"]);
    assert!(told.ends_with("[exit 0]"), "{told}");
    let daemon = site.start();
    let arrived = receiver.wait_for(11);
    let again: Vec<String> = arrived[6..].iter().map(Arrived::summary).collect();
    assert_eq!(
        again,
        [
            "purchase_order 1",
            "purchase_order 2",
            "purchase_order 3",
            "work_order 4",
            "work_order 5"
        ]
    );
    daemon.stop();
}
