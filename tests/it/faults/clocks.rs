//! A wall clock that is set, a machine that was suspended, a process that stands still.

use std::fs;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use rustix::process::Signal;
use tempfile::NamedTempFile;

use super::all_arrive_in_one_payload_each;
use crate::producers::available;
use crate::support::{Answer, Arrived, Daemon, Gate, OK, Receiver, Site};

/// A wall clock of the daemon's own; all its other clocks are the machine's.
struct WallClock(NamedTempFile);

impl WallClock {
    fn new() -> Option<Self> {
        available("faketime", &["-f", "+0 s", "true"]).then(|| {
            let clock = Self(NamedTempFile::new().unwrap());
            clock.set("+0d");
            clock
        })
    }

    /// By so much it differs from the machine's.
    fn set(&self, offset: &str) {
        fs::write(self.0.path(), offset).unwrap();
    }

    fn start(&self, site: &Site) -> Daemon {
        site.start_with(&[
            ("LD_PRELOAD", "/usr/$LIB/faketime/libfaketime.so.1"),
            ("FAKETIME_TIMESTAMP_FILE", self.0.path().to_str().unwrap()),
            ("FAKETIME_NO_CACHE", "1"),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ])
    }
}

/// What the daemon's wall clock showed, in days from the machine's.
fn days_ahead(request: &Arrived) -> i64 {
    let shown: i64 = request.header("webhook-timestamp").trim().parse().unwrap();
    let real = std::time::SystemTime::UNIX_EPOCH
        .elapsed()
        .unwrap()
        .as_secs();
    (shown - real.cast_signed() + 43_200).div_euclid(86_400)
}

/// Where two requests follow each other after less than this, an interval was undercut: between
/// them lies at least the interval, but for how late the receiver took the first one.
fn is_kept(gap: Duration, requests: &[Arrived]) {
    for pair in requests.windows(2) {
        let passed = pair[1].at - pair[0].at;
        assert!(
            passed + Duration::from_millis(50) >= gap && passed < gap + Duration::from_secs(20),
            "{passed:?} between {pair:?}"
        );
    }
}

/// D4: an interval is neither shorter nor longer because the wall clock was set, while the daemon runs or
/// while it does not.
#[test]
fn d4_an_interval_is_kept_over_a_wall_clock_that_jumps() {
    let Some(wall_clock) = WallClock::new() else {
        return;
    };
    let receiver = Receiver::ok();
    let site =
        Site::new(&receiver.webhook("erp", "payload_max_items = 1\npayload_interval = \"500ms\""));
    site.enqueue("purchase_order", 1..=9);
    let mut seen = Vec::new();
    for (from, during) in [("+0d", "+1d"), ("-1d", "+0d"), ("+1d", "-1d")] {
        wall_clock.set(from);
        let daemon = wall_clock.start(&site);
        seen.push(days_ahead(
            receiver.wait_for(seen.len() + 1).last().unwrap(),
        ));
        wall_clock.set(during);
        seen.push(days_ahead(
            receiver.wait_for(seen.len() + 1).last().unwrap(),
        ));
        seen.push(days_ahead(
            receiver.wait_for(seen.len() + 1).last().unwrap(),
        ));
        assert!(daemon.stop().0.success());
    }
    // The clock did jump, both ways.
    assert!(seen.contains(&1) && seen.contains(&-1), "{seen:?}");
    is_kept(Duration::from_millis(500), &receiver.arrived());
    all_arrive_in_one_payload_each(&receiver, 1..=9);
}

/// D9: nor is a retry gap.
#[test]
fn d9_a_retry_gap_is_kept_over_a_wall_clock_that_jumps() {
    let Some(wall_clock) = WallClock::new() else {
        return;
    };
    for jump in ["+1d", "-1d"] {
        let receiver = Receiver::new(|number, _| match number {
            1..=3 => Answer::Status(500, ""),
            _ => OK,
        });
        wall_clock.set("+0d");
        let site = Site::new(&receiver.webhook("erp", "retry_gap = \"700ms\""));
        site.enqueue("purchase_order", 1..=2);
        let daemon = wall_clock.start(&site);
        receiver.wait_for(1);
        wall_clock.set(jump);
        receiver.wait_for(2);
        assert!(daemon.stop().0.success());
        wall_clock.set("+0d");
        let _daemon = wall_clock.start(&site);
        receiver.wait_for(3);
        wall_clock.set(jump);
        let arrived = receiver.wait_for(4);
        is_kept(Duration::from_millis(700), &arrived);
        all_arrive_in_one_payload_each(&receiver, 1..=2);
    }
}

/// The time for which a machine was suspended counts: what fell due meanwhile goes at once.
#[test]
fn a_suspended_machine_stretches_no_gap() {
    let unshare = ["--time", "--boottime", "3600", "--kill-child"];
    if !available("unshare", &[&unshare[..], &["true"]].concat()) {
        return;
    }
    let receiver = Receiver::new(|number, _| match number {
        1 => Answer::Status(500, ""),
        _ => OK,
    });
    let site = Site::new(&receiver.webhook("erp", "retry_gap = \"30m\""));
    site.enqueue("purchase_order", 1..=2);
    let daemon = site.start();
    daemon.wait_for_line("next attempt at");
    daemon.stop();
    // An hour later, by the boot's clock alone.
    let mut daemon = Command::new("unshare")
        .args(unshare)
        .arg(env!("CARGO_BIN_EXE_orderfeed"))
        .args(["run", "--config"])
        .arg(site.config())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    receiver.wait_for(2);
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    all_arrive_in_one_payload_each(&receiver, 1..=2);
}

/// A process that stands still during a request, for longer than its timeout, does not know whether
/// the answer came in time; the order is delivered, and in no second payload.
#[test]
fn a_process_that_stands_still_during_a_request_loses_nothing() {
    let gate = std::sync::Arc::new(Gate::default());
    let held = std::sync::Arc::clone(&gate);
    let receiver = Receiver::new(move |number, _| match number {
        1 => Answer::Gated(std::sync::Arc::clone(&held), 200),
        _ => OK,
    });
    let site = Site::new(&receiver.webhook("erp", "timeout = \"1s\"\nretry_gap = \"50ms\""));
    let daemon = site.start();
    site.enqueue("purchase_order", 1..=2);
    receiver.wait_for(1);
    daemon.freeze();
    gate.open();
    sleep(Duration::from_millis(1_500));
    daemon.signal(Signal::CONT);
    daemon.wait_for_line("delivered 2");
    site.enqueue("purchase_order", 3..=4);
    all_arrive_in_one_payload_each(&receiver, 1..=4);
    assert!(daemon.stop().0.success());
}

/// One that stands still while a retry falls due makes it when it goes on.
#[test]
fn a_process_that_stands_still_over_a_retry_makes_it_then() {
    let receiver = Receiver::new(|number, _| match number {
        1 => Answer::Status(500, ""),
        _ => OK,
    });
    let site = Site::new(&receiver.webhook("erp", "retry_gap = \"700ms\""));
    let daemon = site.start();
    site.enqueue("purchase_order", 1..=2);
    daemon.wait_for_line("next attempt at");
    daemon.freeze();
    sleep(Duration::from_secs(1));
    assert_eq!(receiver.arrived().len(), 1);
    daemon.signal(Signal::CONT);
    is_kept(Duration::from_millis(700), &receiver.wait_for(2));
    all_arrive_in_one_payload_each(&receiver, 1..=2);
}
