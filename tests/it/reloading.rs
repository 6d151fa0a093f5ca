//! SIGHUP: the configuration is read again, all of it or nothing (contract, section 5; D25, D27).

use insta::assert_snapshot;

use crate::support::{Answer, OK, Receiver, Site};

/// D9: also while a payload waits for its retry, which then goes to the url of the moment.
#[test]
fn a_waiting_retry_goes_to_the_new_url() {
    let broken = Receiver::new(|_, _| Answer::Status(500, ""));
    let mended = Receiver::ok();
    let site = Site::new(&broken.webhook("erp", "retry_gap = \"1s\""));
    site.enqueue("purchase_order", 1..=1);
    let daemon = site.start();
    daemon.wait_for_line("next attempt at");
    site.configure(&mended.webhook("erp", "retry_gap = \"1s\""));
    daemon.reload();
    let arrived = mended.wait_for(1);
    assert_eq!(
        arrived[0].header("webhook-id"),
        broken.arrived()[0].header("webhook-id")
    );
    assert_eq!(arrived[0].header("orderfeed-attempt"), "2");
}

#[test]
fn a_broken_file_changes_nothing_and_is_reported() {
    let receiver = Receiver::ok();
    let site = Site::new(&receiver.webhook("erp", ""));
    let daemon = site.start();
    site.configure(&receiver.webhook("erp", "retry_gapp = \"1s\"\npayload_max_items = 0"));
    daemon.reload();
    daemon.wait_for_line("the configuration is not reloaded, the old one holds");
    daemon.wait_for_line("retry_gapp");
    site.enqueue("purchase_order", 1..=1);
    receiver.wait_for(1);
}

/// Until the next start, whoever asks, counts or copies finds the files that are open.
#[test]
fn a_path_takes_effect_at_the_next_start() {
    let receiver = Receiver::ok();
    let site = Site::new(&receiver.webhook("erp", "active = false"));
    site.enqueue("purchase_order", 1..=3);
    let daemon = site.start();
    let file = std::fs::read_to_string(site.config()).unwrap();
    let elsewhere = file
        .replace("q/queue.db", "q/other.db")
        .replace("l/l", "l/o");
    std::fs::write(site.config(), elsewhere).unwrap();
    for _ in 0..2 {
        let told = site.told(&["reload"]);
        assert!(
            told.contains("queue.path takes effect at the next start"),
            "{told}"
        );
        assert!(
            told.contains("ledger.path takes effect at the next start"),
            "{told}"
        );
    }
    assert!(site.told(&["status"]).contains("3 purchase orders"));
    let told = site.told(&["backup"]);
    assert!(told.ends_with("[exit 0]"), "{told}");
    daemon.stop();
}

#[test]
fn what_is_logged_changes_at_once() {
    let receiver = Receiver::ok();
    let erp = receiver.webhook("erp", "");
    let site = Site::new(&erp);
    let daemon = site.start();
    for log in ["level = \"error\"", "format = \"json\""] {
        site.configure(&format!("{erp}[log]\n{log}\n"));
        let told = site.told(&["reload"]);
        assert!(told.ends_with("[exit 0]"), "{told}");
    }
    site.enqueue("purchase_order", 1..=1);
    daemon.wait_for_line("\"message\":\"erp: delivered 1 purchase_order");
    let (_, log) = daemon.stop();
    let reloads: Vec<_> = log
        .iter()
        .filter(|line| line.contains("is reloaded"))
        .collect();
    assert!(
        matches!(reloads.as_slice(), [json] if json.starts_with('{')),
        "{log:#?}"
    );
}

/// A request in flight is not cut off, also when its webhook is removed meanwhile; when that
/// returns, it goes on where it stood (D27).
#[test]
fn a_removed_webhook_keeps_its_place() {
    let gate = std::sync::Arc::new(crate::support::Gate::default());
    let held = std::sync::Arc::clone(&gate);
    let receiver = Receiver::new(move |number, _| match number {
        1 => Answer::Gated(std::sync::Arc::clone(&held), 200),
        _ => OK,
    });
    let other = Receiver::ok();
    let site = Site::new(&(receiver.webhook("erp", "") + &other.webhook("mes", "")));
    site.enqueue("purchase_order", 1..=1);
    let daemon = site.start();
    receiver.wait_for(1);
    site.configure(&other.webhook("mes", ""));
    daemon.reload();
    gate.open();
    daemon.wait_for_line("erp: delivered 1 purchase_order");
    site.enqueue("purchase_order", 2..=2);
    other.wait_until(|arrived| {
        arrived
            .iter()
            .any(|request| request.orders().1.contains(&2))
    });
    assert_eq!(receiver.arrived().len(), 1);
    site.configure(&(receiver.webhook("erp", "") + &other.webhook("mes", "")));
    daemon.reload();
    assert_eq!(receiver.wait_for(2)[1].summary(), "purchase_order 2");
}

/// D27: a webhook that comes later must say where it begins.
#[test]
fn a_later_webhook_must_say_where_it_begins() {
    let erp = Receiver::ok();
    let mes = Receiver::ok();
    let site = Site::new(&erp.webhook("erp", ""));
    site.enqueue("purchase_order", 1..=2);
    let daemon = site.start();
    daemon.wait_for_line("delivered 2");
    site.configure(&(erp.webhook("erp", "") + &mes.webhook("mes", "")));
    daemon.reload();
    daemon.wait_for_line("mes: held: webhook mes is new beside others");
    site.configure(&(erp.webhook("erp", "") + &mes.webhook("mes", "start = \"now\"")));
    daemon.reload();
    erp.wait_for(1);
    site.enqueue("purchase_order", 3..=3);
    let all = mes.wait_until(|arrived| {
        arrived
            .iter()
            .any(|request| request.orders().1.contains(&3))
    });
    assert_eq!(all.len(), 1);
    // Else its request may be one that is not started any more.
    erp.wait_for(2);
    daemon.stop();
    site.configure(
        &(erp.webhook("erp", "")
            + &mes.webhook("plant", "renamed_from = \"mes\"")
            + &mes.webhook("late", "")),
    );
    assert_snapshot!(site.told(&["check"]), @r#"
    ./config.toml is valid
    erp: nothing waits
    late: held: webhook late is new beside others, and must say where it begins: start = "oldest" sends it all orders in the queue (newest: 3), start = "now" those queued from now on, and renamed_from = "NAME" goes on where a removed webhook stood; at stake: 3 purchase_order to be sent
    plant: nothing waits
    [exit 0]
    "#);
}

/// D25: what was collected and is no longer selected is parked, and goes when the selection
/// returns; what was queued while nothing selected it is never this webhook's.
#[test]
fn what_is_no_longer_selected_is_parked() {
    let receiver = Receiver::ok();
    let site = Site::new(&receiver.webhook("erp", "active = false"));
    let daemon = site.start();
    daemon.wait_for_line("inactive");
    site.enqueue("purchase_order", 1..=1);
    site.enqueue("work_order", 2..=2);
    daemon.stop();
    let only_purchase = "triggers = [\"purchase_order\"]";
    site.configure(&receiver.webhook("erp", only_purchase));
    let daemon = site.start();
    assert_eq!(receiver.wait_for(1)[0].summary(), "purchase_order 1");
    site.enqueue("work_order", 3..=3);
    site.enqueue("purchase_order", 4..=4);
    assert_eq!(receiver.wait_for(2)[1].summary(), "purchase_order 4");
    daemon.stop();
    assert_snapshot!(site.told(&["check"]), @"
    ./config.toml is valid
    erp: nothing waits; 1 parked (collected, and no longer selected)
    [exit 0]
    ");
    site.configure(&receiver.webhook("erp", ""));
    let daemon = site.start();
    assert_eq!(receiver.wait_for(3)[2].summary(), "work_order 2");
    daemon.stop();
    assert_eq!(receiver.arrived().len(), 3);
}

#[test]
fn parked_orders_can_be_dropped() {
    let receiver = Receiver::ok();
    let site = Site::new(&receiver.webhook("erp", "active = false"));
    site.start().stop();
    site.enqueue("work_order", 1..=2);
    site.configure(&receiver.webhook("erp", "triggers = [\"purchase_order\"]"));
    site.start().stop();
    assert_snapshot!(site.told(&["webhooks", "drop-parked", "erp"]), @"
    erp: 2 parked orders dropped
    [exit 0]
    ");
    site.configure(&receiver.webhook("erp", ""));
    let _daemon = site.start();
    site.enqueue("work_order", 3..=3);
    assert_eq!(receiver.wait_for(1)[0].summary(), "work_order 3");
}
