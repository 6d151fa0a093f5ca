//! A disk without room: the ledger's, and the queue's.

use crate::admin::Asked;
use std::sync::Arc;

use super::{SMALL, all_arrive_in_one_payload_each, ledger_on_a_disk, queue_on_a_disk, said};
use crate::support::{Answer, Gate, OK, Receiver};

/// The WAL keeps its size when it begins anew: there the outcomes go that come in while no room
/// is left, and the deliveries that still fit.
#[test]
fn outcomes_are_recorded_in_the_room_that_the_ledger_keeps() {
    let gate = Arc::new(Gate::default());
    let held = Arc::clone(&gate);
    let receiver = Receiver::new(move |_, request| {
        let (_, orders) = request.orders();
        match orders[0] {
            1_000 => Answer::Gated(Arc::clone(&held), 200),
            _ => OK,
        }
    });
    let Some((site, disk)) = ledger_on_a_disk(&receiver.webhook("erp", SMALL)) else {
        return;
    };
    let daemon = site.start();
    // More than the WAL takes before it begins anew.
    site.enqueue("purchase_order", 1..=800);
    all_arrive_in_one_payload_each(&receiver, 1..=800);
    site.enqueue("purchase_order", [1_000]);
    receiver.wait_until(|arrived| arrived.last().unwrap().orders().1 == [1_000]);
    disk.fill();
    gate.open();
    site.enqueue("purchase_order", [1_001]);
    all_arrive_in_one_payload_each(&receiver, [1_000, 1_001]);
    // What comes after it is sealed only when its outcome is on disk.
    site.enqueue("purchase_order", [1_002]);
    all_arrive_in_one_payload_each(&receiver, [1_002]);
    let log = daemon.log();
    daemon.kill();
    assert_eq!(said(&log, "ERROR"), [""; 0]);
    disk.make_room();
    assert_eq!(
        site.ledger_rows("SELECT outcome, number, count(*) FROM attempts GROUP BY 1, 2")
            .lines()
            .count(),
        1,
        "all were delivered by their first request"
    );
}

/// With the room that is reserved outcomes are recorded on a full disk, too. When that is used up,
/// nothing leaves that can't be written down; when there is room, all goes on by itself.
#[test]
fn a_full_disk_of_the_ledgers_is_waited_for() {
    // As much of each answer as is kept.
    let answer: &str = String::leak(format!("\n\n{}", "a".repeat(2_048)));
    let receiver = Receiver::new(move |_, _| Answer::Status(400, answer));
    let Some((site, disk)) =
        ledger_on_a_disk(&receiver.webhook("erp", &format!("{SMALL}\nretry_attempts = 0")))
    else {
        return;
    };
    let daemon = site.start();
    site.enqueue("purchase_order", 1..=2);
    all_arrive_in_one_payload_each(&receiver, 1..=2);
    disk.fill();
    site.enqueue("purchase_order", 3..=5_000);
    daemon.wait_for_line("is full");
    let stuck = receiver.arrived().len();
    assert!((1_000..4_000).contains(&stuck), "{stuck}");
    let (status, answer) = Asked(&site).get("/v1/health");
    let message = answer["error"]["message"].as_str().unwrap_or_default();
    assert!(status == 503 && message.contains("is full"), "{answer}");
    disk.make_room();
    all_arrive_in_one_payload_each(&receiver, 1..=5_000);
    assert_eq!(Asked(&site).get("/v1/health").0, 200);
    let (status, log) = daemon.stop();
    assert!(status.success());
    assert_eq!(
        said(&log, "ledger.db"),
        [format!(
            "ERROR {}: recording: database or disk is full; no room is left on its disk (or in a quota): make room there; nothing is sent until this is mended, and it is tried again every second",
            site.ledger().display()
        )]
    );
    assert_eq!(
        said(&log, "the store is back"),
        ["the store is back, and all goes on"]
    );
}

/// Also one that starts then, after a crash or in order.
#[test]
fn a_full_disk_of_the_ledgers_is_waited_for_at_the_start() {
    for crashed in [false, true] {
        let receiver = Receiver::ok();
        let Some((site, disk)) = ledger_on_a_disk(&receiver.webhook("erp", SMALL)) else {
            return;
        };
        let daemon = site.start();
        site.enqueue("purchase_order", 1..=2);
        all_arrive_in_one_payload_each(&receiver, 1..=2);
        if crashed {
            daemon.kill();
        } else {
            daemon.stop();
        }
        site.enqueue("purchase_order", 3..=600);
        disk.fill();
        let told = site.told(&["check"]);
        assert!(
            told.contains("erp: 598 purchase_order to be sent"),
            "{told}"
        );
        assert!(told.ends_with("[exit 0]"), "{told}");
        disk.fill();
        let daemon = site.spawn(&[]);
        daemon.wait_for_line("nothing is sent until this is mended");
        disk.make_room();
        all_arrive_in_one_payload_each(&receiver, 1..=600);
        let (status, log) = daemon.stop();
        assert!(status.success(), "{log:?}");
        assert_eq!(
            said(&log, "ERROR"),
            [format!(
                "ERROR {}: registering webhooks: database or disk is full; no room is left on its disk (or in a quota): make room there; nothing is sent until this is mended, and it is tried again every second",
                site.ledger().display()
            )]
        );
    }
}

/// Without room for what SQLite keeps beside it nobody can open the queue: it is told which disk is
/// full, and a restart (systemd's, after exit 1) goes on.
#[test]
fn a_full_disk_of_the_queues_is_told_at_the_start() {
    let receiver = Receiver::ok();
    let Some((site, disk)) = queue_on_a_disk(&receiver.webhook("erp", SMALL)) else {
        return;
    };
    site.enqueue("purchase_order", 1..=5);
    disk.fill();
    for command in ["run", "check"] {
        let told = site.told(&[command]);
        let told = told.trim_start_matches("./config.toml is valid\n");
        assert_eq!(
            told,
            "orderfeed: ./q/queue.db: opening: disk I/O error; no room is left on its disk (or in a quota): make room there\n[exit 1]"
        );
    }
    disk.make_room();
    let _daemon = site.start();
    all_arrive_in_one_payload_each(&receiver, 1..=5);
}
