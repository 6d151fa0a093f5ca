//! Stopping in good order and in none: whatever ends the daemon, nothing is lost, and at most
//! one payload a webhook is sent twice, with the same id and the same body (D18, D19).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use insta::assert_snapshot;

use crate::support::{Answer, Arrived, Gate, OK, Receiver, Site};

#[test]
fn sigterm_lets_the_request_in_flight_finish_and_starts_no_other() {
    let gate = Arc::new(Gate::default());
    let held = Arc::clone(&gate);
    let receiver = Receiver::new(move |_, _| Answer::Gated(Arc::clone(&held), 200));
    let site = Site::new(&receiver.webhook("erp", "payload_max_items = 1"));
    site.enqueue("purchase_order", 1..=2);
    let daemon = site.start();
    receiver.wait_for(1);
    daemon.signal(rustix::process::Signal::TERM);
    daemon.wait_for_line("stopping");
    gate.open();
    let (status, log) = daemon.wait();
    assert_eq!(status.code(), Some(0), "{log:?}");
    assert_eq!(receiver.arrived().len(), 1);
    assert_snapshot!(site.ledger_rows("SELECT state, items, attempts FROM payloads"), @"delivered 1 1");
    // The rest goes when it starts again.
    let _daemon = site.start();
    assert_eq!(receiver.wait_for(2)[1].summary(), "purchase_order 2");
}

#[test]
fn sigterm_ends_a_wait_for_a_retry_at_once() {
    let receiver = Receiver::new(|_, _| Answer::Status(500, ""));
    let site = Site::new(&receiver.webhook("erp", "retry_gap = \"1h\""));
    site.enqueue("purchase_order", 1..=1);
    let daemon = site.start();
    daemon.wait_for_line("next attempt at");
    let asked = Instant::now();
    let (status, log) = daemon.stop();
    assert_eq!(status.code(), Some(0), "{log:?}");
    assert!(asked.elapsed() < Duration::from_secs(10));
    assert_snapshot!(site.ledger_rows("SELECT state, reason, attempts FROM payloads"), @"pending answered 500 1");
}

/// D4, D9: what a lane waits for, it goes on waiting for after a restart.
#[test]
fn a_restart_shortens_no_interval() {
    let receiver = Receiver::ok();
    let site = Site::new(&receiver.webhook(
        "erp",
        "payload_max_items = 1\npayload_interval = \"1500ms\"",
    ));
    site.enqueue("purchase_order", 1..=2);
    let daemon = site.start();
    daemon.wait_for_line("delivered");
    daemon.kill();
    let _daemon = site.start();
    let arrived = receiver.wait_for(2);
    let between = arrived[1].at - arrived[0].at;
    assert!(between >= Duration::from_millis(1_500), "{between:?}");
}

/// Dies at a named point, and goes on: what the receiver saw, and what the ledger says.
fn die_at(point: &str) -> String {
    let receiver = Receiver::new(|number, _| {
        if number == 2 {
            Answer::Status(500, "")
        } else {
            OK
        }
    });
    let site = Site::new(&receiver.webhook("erp", "payload_max_items = 1\nretry_gap = \"50ms\""));
    site.enqueue("purchase_order", 1..=4);
    let (status, log) = site.spawn(&[("FAILPOINT", point)]).wait();
    assert_eq!(status.code(), None, "it did not die at {point}: {log:?}");
    let daemon = site.start();
    receiver.wait_until(|arrived| arrived.iter().any(|request| request.orders().1 == [4]));
    while daemon.log().iter().all(|line| !line.contains("delivered")) {
        std::thread::yield_now();
    }
    let (status, _) = daemon.stop();
    assert!(status.success());
    // One because of the refusal, one because of the crash.
    assert_conserved(&receiver, 1..=4, 2);
    let arrived: Vec<_> = receiver.arrived().iter().map(Arrived::summary).collect();
    let attempts = site.ledger_rows(
        "SELECT items, state, group_concat(outcome || coalesce(' ' || status, ''), ', ')
         FROM (SELECT * FROM attempts ORDER BY payload_id, number) JOIN payloads USING (payload_id)
         GROUP BY payload_id ORDER BY payload_id",
    );
    format!("{}\n{attempts}", arrived.join("; "))
}

#[test]
fn dying_after_a_payload_was_sealed_and_before_it_left() {
    assert_snapshot!(die_at("sealed:1"), @"
    purchase_order 1; purchase_order 2; purchase_order 2; purchase_order 3; purchase_order 4
    1 delivered interrupted, delivered 200
    1 delivered failed 500, delivered 200
    1 delivered delivered 200
    1 delivered delivered 200
    ");
    assert_snapshot!(die_at("sealed:3"), @"
    purchase_order 1; purchase_order 2; purchase_order 2; purchase_order 3; purchase_order 4
    1 delivered delivered 200
    1 delivered failed 500, delivered 200
    1 delivered interrupted, delivered 200
    1 delivered delivered 200
    ");
}

#[test]
fn dying_after_a_retry_was_begun_and_before_it_left() {
    assert_snapshot!(die_at("begun:1"), @"
    purchase_order 1; purchase_order 2; purchase_order 2; purchase_order 3; purchase_order 4
    1 delivered delivered 200
    1 delivered failed 500, interrupted, delivered 200
    1 delivered delivered 200
    1 delivered delivered 200
    ");
}

#[test]
fn dying_after_the_answer_and_before_it_was_recorded() {
    assert_snapshot!(die_at("answered:1"), @"
    purchase_order 1; purchase_order 1; purchase_order 1; purchase_order 2; purchase_order 3; purchase_order 4
    1 delivered interrupted, failed 500, delivered 200
    1 delivered delivered 200
    1 delivered delivered 200
    1 delivered delivered 200
    ");
    assert_snapshot!(die_at("answered:2"), @"
    purchase_order 1; purchase_order 2; purchase_order 2; purchase_order 3; purchase_order 4
    1 delivered delivered 200
    1 delivered interrupted, delivered 200
    1 delivered delivered 200
    1 delivered delivered 200
    ");
}

#[test]
fn dying_after_an_outcome_was_recorded() {
    assert_snapshot!(die_at("settled:1"), @"
    purchase_order 1; purchase_order 2; purchase_order 2; purchase_order 3; purchase_order 4
    1 delivered delivered 200
    1 delivered failed 500, delivered 200
    1 delivered delivered 200
    1 delivered delivered 200
    ");
}

/// D19: three interruptions in a row hold the webhook, and say so; `resume` lets it go on.
#[test]
fn three_interruptions_hold_the_webhook() {
    let receiver = Receiver::ok();
    let site = Site::new(&receiver.webhook("erp", ""));
    site.enqueue("purchase_order", 1..=1);
    for point in ["sealed", "begun", "begun"] {
        site.spawn(&[("FAILPOINT", point)]).wait();
    }
    let daemon = site.start();
    daemon.wait_for_line("erp: held: 3 attempts in a row at the same payload were cut off");
    daemon.stop();
    assert_eq!(receiver.arrived().len(), 0);
    assert_snapshot!(site.told(&["resume", "erp"]), @"
    erp goes on when the daemon starts; it was held: 3 attempts in a row at the same payload were cut off by a crash or a stop
    [exit 0]
    ");
    let _daemon = site.start();
    assert_eq!(receiver.wait_for(1)[0].header("orderfeed-attempt"), "4");
}

/// Kills, while a producer goes on: every other time with a request in flight, else somewhere
/// between its start and the end of its work. After two kills it may finish: three would hold
/// the webhook.
///
/// `KILLS` says how often; the default is short.
#[test]
fn killed_again_and_again_it_loses_nothing() {
    let kills: u32 = std::env::var("KILLS")
        .ok()
        .and_then(|kills| kills.parse().ok())
        .unwrap_or(12);
    let silent = Arc::new(AtomicBool::new(false));
    let is_silent = Arc::clone(&silent);
    let receiver = Receiver::new(move |_, _| {
        if is_silent.load(Ordering::Relaxed) {
            Answer::Silence
        } else {
            OK
        }
    });
    let site = Site::new(&receiver.webhook("erp", "payload_max_items = 3"));
    let mut queued = 0_u64;
    let mut killed_in_flight = 0;
    for kill in 0..kills {
        let in_flight = kill % 2 == 0;
        let before = receiver.arrived().len();
        silent.store(in_flight, Ordering::Relaxed);
        let daemon = site.spawn(&[]);
        let orders = u64::from(kill % 5) + 1;
        site.enqueue("purchase_order", queued + 1..=queued + orders);
        queued += orders;
        if in_flight {
            receiver.wait_for(before + 1);
            killed_in_flight += 1;
        } else {
            std::thread::sleep(Duration::from_millis(u64::from(kill * 7 % 60)));
        }
        daemon.kill();
        silent.store(false, Ordering::Relaxed);
        if kill % 2 == 1 || kill + 1 == kills {
            let daemon = site.start();
            receiver.wait_until(|arrived| {
                let numbers: BTreeSet<_> = arrived
                    .iter()
                    .flat_map(|request| request.orders().1)
                    .collect();
                numbers.len() as u64 == queued
            });
            let (status, log) = daemon.stop();
            assert!(status.success(), "{log:?}");
        }
    }
    let repeats = assert_conserved(&receiver, 1..=queued, kills as usize);
    assert!(
        killed_in_flight * 3 >= kills,
        "{killed_in_flight} of {kills} kills had a request in flight"
    );
    assert!(
        repeats >= killed_in_flight as usize,
        "only {repeats} repeats: some kill did not bite"
    );
    println!(
        "{kills} kills, {killed_in_flight} with a request in flight; {queued} orders, none lost; {repeats} requests came twice"
    );
}

/// Conservation, from the receiver's side: every order arrived, each in one payload only; a
/// repeated id has the same body; no more repeats than there are reasons. Returns the repeats.
fn assert_conserved(
    receiver: &Receiver,
    orders: impl IntoIterator<Item = u64>,
    repeats_max: usize,
) -> usize {
    let ids_by_order = receiver.payload_ids_by_order();
    let expected: BTreeSet<_> = orders.into_iter().collect();
    assert_eq!(
        ids_by_order.keys().copied().collect::<BTreeSet<_>>(),
        expected
    );
    for (order, ids) in &ids_by_order {
        let distinct: BTreeSet<_> = ids.iter().collect();
        assert_eq!(
            distinct.len(),
            1,
            "order {order} is in several payloads: {ids:?}"
        );
    }
    let mut bodies = BTreeMap::<String, Vec<Vec<u8>>>::new();
    let mut repeats = 0;
    for request in receiver.arrived() {
        let bodies = bodies
            .entry(request.header("webhook-id").to_owned())
            .or_default();
        repeats += usize::from(bodies.contains(&request.body));
        bodies.push(request.body);
    }
    for (id, bodies) in &bodies {
        assert!(
            bodies.iter().all(|body| *body == bodies[0]),
            "{id} has several bodies"
        );
    }
    assert!(
        repeats <= repeats_max,
        "{repeats} repeats, and no more than {repeats_max} have a reason"
    );
    repeats
}
