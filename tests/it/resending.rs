//! What an operator does to payloads, as the receiver and the ledger see it (D20 to D24).

use std::sync::Arc;
use std::time::Instant;

use insta::assert_snapshot;
use serde_json::{Value, json};

use crate::admin::Asked;
use crate::support::{Answer, Gate, PATIENCE, Receiver, Site};

/// Asks until what was sent before is recorded: a receiver knows of it a moment earlier.
fn resend(site: &Site, ask: &Value) -> (u16, Value) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = Asked(site).post("/v1/resend", ask);
        let too_early = ["in_flight", "waiting", "changed"]
            .iter()
            .any(|code| answer.1["error"]["code"] == *code);
        if !too_early || Instant::now() >= deadline {
            return answer;
        }
    }
}

/// Waits until it is recorded what came of a payload.
fn wait_until_settled(site: &Site, id: &str) {
    let path = format!("/v1/payloads/{id}");
    let deadline = Instant::now() + PATIENCE;
    while Asked(site).get(&path).1["state"] == "in_flight" {
        assert!(Instant::now() < deadline, "{id} stays in flight");
    }
}

/// The code of a refusal.
fn refusal((status, answer): &(u16, Value)) -> String {
    format!(
        "{status} {}",
        answer["error"]["code"].as_str().unwrap_or("?")
    )
}

fn one_failed(order_type: &str) -> (Receiver, Site) {
    let receiver = Receiver::new(|index, _| Answer::Status(if index == 1 { 500 } else { 200 }, ""));
    let site = Site::new(&receiver.webhook("erp", "retry_attempts = 0"));
    site.enqueue(order_type, 1..=1);
    (receiver, site)
}

#[test]
fn d22_a_whole_payload_keeps_its_id_and_a_part_or_a_copy_names_the_original() {
    let receiver = Receiver::ok();
    let site = Site::new(&receiver.webhook("erp", ""));
    site.enqueue("purchase_order", 1..=2);
    let _daemon = site.start();
    let first = receiver.wait_for(1).remove(0);
    let id = first.header("webhook-id").to_owned();
    for (ask, attempt, resend_of, orders) in [
        (json!({ "payload_id": id }), "2", "", vec![1, 2]),
        (
            json!({ "payload_id": id, "tracking_number": 2 }),
            "1",
            id.as_str(),
            vec![2],
        ),
        (
            json!({ "payload_id": id, "as_new": true }),
            "1",
            id.as_str(),
            vec![1, 2],
        ),
    ] {
        let before = receiver.arrived().len();
        let dry = resend(&site, &json!({ "payload_id": id, "dry_run": true }));
        assert_eq!((dry.0, receiver.arrived().len()), (200, before), "{dry:?}");
        let (status, answer) = resend(&site, &ask);
        assert_eq!(status, 200, "{answer}");
        let arrived = receiver.wait_for(before + 1).remove(before);
        let sent_as = answer["resends"][0]["payload_id"].as_str();
        assert_eq!(Some(arrived.header("webhook-id")), sent_as);
        assert_eq!(arrived.header("webhook-id") == id, resend_of.is_empty());
        assert_eq!(arrived.header("orderfeed-attempt"), attempt);
        let named = if resend_of.is_empty() {
            None
        } else {
            Some(resend_of)
        };
        assert_eq!(answer["resends"][0]["resend_of"].as_str(), named);
        assert!(named.is_none() || arrived.header("orderfeed-resend-of") == resend_of);
        assert_eq!(arrived.orders().1, orders);
    }
}

/// D20: for a pending payload it means: now instead of at its due time.
#[test]
fn d20_a_pending_payload_goes_now_and_only_once() {
    let receiver = Receiver::new(|index, _| Answer::Status(if index == 1 { 500 } else { 200 }, ""));
    let site = Site::new(&receiver.webhook("erp", "retry_gap = \"1h\""));
    site.enqueue("purchase_order", 1..=1);
    let daemon = site.start();
    daemon.wait_for_line("next attempt at");
    let (status, answer) = resend(&site, &json!({ "tracking_number": "1" }));
    assert_eq!(
        (status, &answer["resends"][0]["state"]),
        (200, &json!("pending")),
        "{answer}"
    );
    daemon.wait_for_line("delivered 1 purchase_order");
    let (_, log) = daemon.stop();
    assert_eq!(receiver.arrived().len(), 2, "{log:?}");
    assert_snapshot!(site.ledger_rows("SELECT state, attempts FROM payloads"), @"delivered 2");
    assert_snapshot!(site.ledger_rows("SELECT count(*) FROM errands"), @"0");
}

#[test]
fn d20_one_that_is_on_its_way_is_not_sent_beside() {
    let gate = Arc::new(Gate::default());
    let held = Arc::clone(&gate);
    let receiver = Receiver::new(move |_, _| Answer::Gated(Arc::clone(&held), 200));
    let site = Site::new(&receiver.webhook("erp", ""));
    site.enqueue("purchase_order", 1..=1);
    let _daemon = site.start();
    let id = receiver.wait_for(1)[0].header("webhook-id").to_owned();
    let refused = Asked(&site).post("/v1/resend", &json!({ "payload_id": id }));
    assert_eq!(refusal(&refused), "409 in_flight");
    let path = format!("/v1/payloads/{id}/discard");
    let refused = Asked(&site).post(&path, &json!({ "reason": "why not" }));
    assert_eq!(refusal(&refused), "409 in_flight");
    gate.open();
    wait_until_settled(&site, &id);
    let refused = Asked(&site).post(&path, &json!({ "reason": "why not" }));
    assert_eq!(refusal(&refused), "409 delivered");
}

/// D24: a pause that is given while a request is in flight is told before that has ended.
#[test]
fn d24_a_pause_during_a_request_is_told_at_once() {
    let gate = Arc::new(Gate::default());
    let held = Arc::clone(&gate);
    let receiver = Receiver::new(move |_, _| Answer::Gated(Arc::clone(&held), 200));
    let site = Site::new(&receiver.webhook("erp", ""));
    site.enqueue("purchase_order", 1..=1);
    let _daemon = site.start();
    let id = receiver.wait_for(1)[0].header("webhook-id").to_owned();
    let (status, answer) = Asked(&site).post("/v1/webhooks/erp/pause", &json!({}));
    assert_eq!((status, &answer["done"]), (200, &json!(false)), "{answer}");
    let (_, webhook) = Asked(&site).get("/v1/webhooks/erp");
    let reason = webhook["reason"].as_str().unwrap();
    assert_eq!(webhook["state"], "sending");
    assert!(
        reason.contains("is under way, attempt 1; paused by ")
            && reason.ends_with(", from when its request in flight has ended"),
        "{reason}"
    );
    gate.open();
    wait_until_settled(&site, &id);
}

#[test]
fn d21_a_resend_goes_while_the_webhook_is_paused_and_new_orders_wait() {
    let (receiver, site) = one_failed("purchase_order");
    let daemon = site.start();
    daemon.wait_for_line("failed for good");
    let (status, answer) = Asked(&site).post("/v1/webhooks/erp/pause", &json!({}));
    assert_eq!((status, &answer["done"]), (200, &json!(true)), "{answer}");
    site.enqueue("purchase_order", 2..=2);
    let (status, answer) = resend(&site, &json!({ "state": "failed" }));
    assert_eq!(status, 200, "{answer}");
    assert_eq!(receiver.wait_for(2)[1].orders().1, [1]);
    // It survives a restart.
    daemon.wait_for_line("was taken");
    daemon.stop();
    let daemon = site.start();
    daemon.wait_for_line("its orders wait until `orderfeed resume erp`");
    let (status, answer) = Asked(&site).post("/v1/webhooks/erp/resume", &json!({}));
    assert_eq!(status, 200, "{answer}");
    assert_eq!(receiver.wait_for(3)[2].orders().1, [2]);
}

/// D11: what failed is settled when all its orders were delivered under other ids, and not before.
#[test]
fn d11_parts_that_were_delivered_settle_what_failed() {
    // The payload is refused, and a copy of it.
    let receiver = Receiver::new(|index, _| Answer::Status(if index <= 2 { 500 } else { 200 }, ""));
    let site = Site::new(&receiver.webhook("erp", "retry_attempts = 0"));
    site.enqueue("purchase_order", 1..=2);
    let daemon = site.start();
    let id = receiver.wait_for(1)[0].header("webhook-id").to_owned();
    wait_until_settled(&site, &id);
    let failed = || Asked(&site).get("/v1/webhooks/erp").1["failed"].clone();
    let mut last = String::new();
    for (more, expected) in [
        (json!({ "as_new": true }), 2),
        (json!({ "tracking_number": 1 }), 2),
        (json!({ "tracking_number": 2 }), 0),
    ] {
        let mut ask = json!({ "payload_id": id });
        ask.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        let (status, answer) = resend(&site, &ask);
        assert_eq!(status, 200, "{answer}");
        last = answer["resends"][0]["payload_id"]
            .as_str()
            .unwrap()
            .to_owned();
        wait_until_settled(&site, &last);
        assert_eq!(failed(), expected, "{ask}");
    }
    let (_, payload) = Asked(&site).get(&format!("/v1/payloads/{id}"));
    assert_eq!(payload["state"], "discarded", "{payload}");
    let reason = payload["reason"].as_str().unwrap().replace(&last, "LAST");
    assert_snapshot!(reason, @"all its orders were delivered since, the last in LAST");
    assert_snapshot!(site.told(&["resend", "--failed"]), @"
    nothing is sent again
    [exit 0]
    ");
    let (_, window) = Asked(&site).get("/v1/reconcile");
    let orders = &window["found"]["webhooks"][0]["orders"];
    assert_eq!(orders, &json!({ "delivered": 2 }), "{window}");
    daemon.stop();
}

/// D20: of all that failed, nothing goes again that went under another id since, and nothing twice.
#[test]
fn d20_all_failed_ones_are_resent_without_what_went_in_parts_and_copies() {
    // The payload, a copy of it and a part are refused; then a part is taken.
    let receiver = Receiver::new(|index, _| Answer::Status(if index <= 3 { 500 } else { 200 }, ""));
    let site = Site::new(&receiver.webhook("erp", "retry_attempts = 0"));
    site.enqueue("purchase_order", 1..=3);
    let _daemon = site.start();
    let id = receiver.wait_for(1)[0].header("webhook-id").to_owned();
    wait_until_settled(&site, &id);
    for ask in [
        json!({ "payload_id": id, "as_new": true }),
        json!({ "payload_id": id, "tracking_number": 2 }),
        json!({ "payload_id": id, "tracking_number": 1 }),
    ] {
        let (status, answer) = resend(&site, &ask);
        assert_eq!(status, 200, "{answer}");
        let made = answer["resends"][0]["payload_id"].as_str().unwrap();
        wait_until_settled(&site, made);
    }
    let (status, answer) = resend(&site, &json!({ "state": "failed" }));
    assert_eq!(
        (status, answer["resends"].as_array().unwrap().len()),
        (200, 1),
        "{answer}"
    );
    let last = &receiver.wait_for(5)[4];
    assert_eq!(
        (last.header("orderfeed-resend-of"), last.orders().1),
        (id.as_str(), vec![2, 3])
    );
    wait_until_settled(&site, last.header("webhook-id"));
    let (status, answer) = resend(&site, &json!({ "state": "failed" }));
    assert_eq!((status, &answer["resends"]), (200, &json!([])), "{answer}");
}

/// D20: asked for a second time, what is under way goes once.
#[test]
fn d20_of_all_that_failed_what_is_under_way_is_left_out_and_named() {
    let gate = Arc::new(Gate::default());
    let held = Arc::clone(&gate);
    let receiver = Receiver::new(move |index, _| match index {
        1 | 2 => Answer::Status(500, ""),
        _ => Answer::Gated(Arc::clone(&held), 200),
    });
    let site = Site::new(&receiver.webhook("erp", "retry_attempts = 0\npayload_max_items = 1"));
    site.enqueue("purchase_order", 1..=2);
    let daemon = site.start();
    let ids = [0, 1].map(|index| receiver.wait_for(2)[index].header("webhook-id").to_owned());
    for id in &ids {
        wait_until_settled(&site, id);
    }
    let failed = json!({ "state": "failed" });
    assert_eq!(resend(&site, &failed).0, 200);
    receiver.wait_for(3);
    let (status, answer) = Asked(&site).post("/v1/resend", &failed);
    assert_eq!((status, &answer["resends"]), (200, &json!([])), "{answer}");
    assert_eq!(answer["under_way"], json!(ids));
    let told = site.told(&["resend", "--failed"]).replace(&ids[0], "ONE");
    assert_snapshot!(told.replace(&ids[1], "OTHER"), @"
    ONE is left out: it is on its way already, whole or in part
    OTHER is left out: it is on its way already, whole or in part
    nothing is sent again
    [exit 0]
    ");
    gate.open();
    receiver.wait_for(4);
    for id in &ids {
        wait_until_settled(&site, id);
    }
    daemon.stop();
    assert_snapshot!(site.ledger_rows("SELECT state, attempts FROM payloads"), @"
    delivered 2
    delivered 2
    ");
}

/// D20: orders that are gone from the queue hold up none of the others that failed, and no orders that
/// have their places by now go for them.
#[test]
fn d20_what_failed_and_is_gone_from_the_queue_holds_up_no_resend() {
    let receiver = Receiver::new(|index, _| Answer::Status(if index <= 2 { 500 } else { 200 }, ""));
    let site = Site::new(&receiver.webhook("erp", "retry_attempts = 0"));
    site.enqueue("purchase_order", 1..=1);
    let daemon = site.start();
    daemon.wait_for_line("failed for good");
    daemon.stop();
    let copy = std::fs::read(site.queue()).unwrap();
    let daemon = site.start();
    site.enqueue("purchase_order", 2..=2);
    let gone = receiver.wait_for(2)[1].header("webhook-id").to_owned();
    wait_until_settled(&site, &gone);
    daemon.stop();
    // The queue is restored from the copy, and another order takes the place of the lost one.
    std::fs::write(site.queue(), copy).unwrap();
    assert!(site.run(&["adopt-queue", "--resend-from", "2"]).0.success());
    site.enqueue("purchase_order", 3..=3);
    let daemon = site.start();
    assert_eq!(receiver.wait_for(3)[2].orders().1, [3]);
    daemon.wait_for_line("delivered 1");
    let refused = resend(&site, &json!({ "payload_id": gone, "as_new": true }));
    assert_eq!(refusal(&refused), "409 gone");
    let (status, answer) = resend(&site, &json!({ "state": "failed" }));
    assert_eq!(status, 200, "{answer}");
    assert_eq!(receiver.wait_for(4)[3].orders().1, [1]);
    assert_eq!(answer["gone"][0]["payload_id"], gone.as_str(), "{answer}");
}

/// Of a webhook that the configuration does not have nobody heeds what it is told; what failed for it
/// can be discarded.
#[test]
fn a_removed_webhook_is_told_nothing_and_its_failed_payloads_can_be_discarded() {
    let (receiver, site) = one_failed("purchase_order");
    let daemon = site.start();
    daemon.wait_for_line("failed for good");
    let id = receiver.arrived()[0].header("webhook-id").to_owned();
    daemon.stop();
    site.configure("");
    let _daemon = site.start();
    for (path, body) in [
        ("/v1/webhooks/erp/pause", json!({})),
        ("/v1/webhooks/erp/resume", json!({})),
        ("/v1/webhooks/erp/retry-now", json!({})),
        ("/v1/webhooks/erp/test", json!({})),
        ("/v1/resend", json!({ "payload_id": id })),
        ("/v1/resend", json!({ "state": "failed", "webhook": "erp" })),
    ] {
        let refused = Asked(&site).post(path, &body);
        assert_eq!(refusal(&refused), "409 no_webhook", "{path}");
    }
    assert_snapshot!(site.told(&["pause", "erp"]), @"
    orderfeed: the configuration does not have erp any more, and nothing is sent to it; put it back and `orderfeed reload`, then ask again (`discard` needs no webhook)
    [exit 1]
    ");
    assert_snapshot!(site.told(&["discard", &id, "--reason", "sold"]), @"
    given up: it is not sent again, unless somebody resends it
    [exit 0]
    ");
    let (_, payload) = Asked(&site).get(&format!("/v1/payloads/{id}"));
    assert_eq!(payload["state"], "discarded", "{payload}");
}

/// So can what was on its way when the daemon was killed, before the webhook was removed.
#[test]
fn what_was_in_flight_to_a_webhook_that_was_removed_since_can_be_discarded() {
    let receiver = Receiver::ok();
    let site = Site::new(&receiver.webhook("erp", ""));
    site.enqueue("purchase_order", 1..=1);
    site.start_with(&[("FAILPOINT", "answered")]).wait();
    let id = receiver.arrived()[0].header("webhook-id").to_owned();
    site.configure("");
    let daemon = site.start();
    assert_snapshot!(site.told(&["discard", &id, "--reason", "sold"]), @"
    given up: it is not sent again, unless somebody resends it
    [exit 0]
    ");
    daemon.stop();
    assert_snapshot!(site.ledger_rows("SELECT state, outcome FROM payloads JOIN attempts USING (payload_id)"), @"discarded interrupted");
    assert_snapshot!(site.ledger_rows("SELECT head_payload_id, (SELECT count(*) FROM instructions) FROM webhooks"), @"- 0");
    assert_eq!(receiver.arrived().len(), 1);
}

/// D20: while one of a family waits, no other goes with the same orders.
#[test]
fn d20_of_a_payload_and_its_parts_one_goes_at_a_time() {
    let receiver = Receiver::new(|_, _| Answer::Status(500, ""));
    let site = Site::new(&receiver.webhook("erp", "retry_attempts = 0"));
    site.enqueue("purchase_order", 1..=2);
    let _daemon = site.start();
    let whole = receiver.wait_for(1)[0].header("webhook-id").to_owned();
    wait_until_settled(&site, &whole);
    let (_, answer) = resend(&site, &json!({ "payload_id": whole, "tracking_number": 1 }));
    let part = answer["resends"][0]["payload_id"]
        .as_str()
        .unwrap()
        .to_owned();
    wait_until_settled(&site, &part);
    // From here on what is resent waits for its retry.
    site.configure(&receiver.webhook("erp", "retry_attempts = 9\nretry_gap = \"1h\""));
    assert_eq!(Asked(&site).post("/v1/reload", &json!({})).0, 200);
    assert_eq!(resend(&site, &json!({ "payload_id": whole })).0, 200);
    receiver.wait_for(3);
    wait_until_settled(&site, &whole);
    let refused = Asked(&site).post("/v1/resend", &json!({ "payload_id": part }));
    assert_eq!(refusal(&refused), "409 waiting");
    let (status, answer) = resend(&site, &json!({ "state": "failed" }));
    assert_eq!((status, &answer["resends"]), (200, &json!([])), "{answer}");
}

/// D20: of those who ask for the same orders at the same moment one is heard, and they go once.
#[test]
fn d20_of_many_who_ask_at_once_for_the_same_orders_one_is_heard() {
    let receiver = Receiver::ok();
    let site = Site::new(&receiver.webhook("erp", "payload_interval = \"1h\""));
    site.enqueue("purchase_order", 1..=50);
    let daemon = site.start();
    let id = receiver.wait_for(1)[0].header("webhook-id").to_owned();
    wait_until_settled(&site, &id);
    let asks = [
        json!({ "payload_id": id, "as_new": true }),
        json!({ "payload_id": id, "tracking_number": 1 }),
        json!({ "payload_id": id }),
    ];
    std::thread::scope(|scope| {
        for ask in asks.iter().cycle().take(24) {
            scope.spawn(|| Asked(&site).post("/v1/resend", ask));
        }
    });
    daemon.stop();
    assert_snapshot!(site.ledger_rows("SELECT count(*) FROM errands"), @"1");
}

#[test]
fn d21_the_retries_of_a_resend_hold_up_nothing() {
    // The first payload and its resend are refused.
    let receiver = Receiver::new(|index, _| Answer::Status(if index <= 2 { 500 } else { 200 }, ""));
    let site = Site::new(&receiver.webhook("erp", "retry_attempts = 0"));
    site.enqueue("purchase_order", 1..=1);
    let daemon = site.start();
    daemon.wait_for_line("failed for good");
    site.configure(&receiver.webhook("erp", "retry_attempts = 1\nretry_gap = \"1h\""));
    daemon.reload();
    resend(&site, &json!({ "tracking_number": 1 }));
    daemon.wait_for_line("others go on meanwhile");
    site.enqueue("purchase_order", 2..=2);
    assert_eq!(receiver.wait_for(3)[2].orders().1, [2]);
    // Asked for again, the same one goes now.
    let (_, answer) = resend(&site, &json!({ "tracking_number": 1 }));
    assert_eq!(answer["resends"][0]["waits_already"], true, "{answer}");
    let arrived = receiver.wait_for(4);
    assert_eq!(arrived[3].header("orderfeed-attempt"), "3");
    daemon.wait_for_line("was taken");
    daemon.stop();
    assert_snapshot!(site.ledger_rows("SELECT state, attempts FROM payloads ORDER BY payload_id"), @"
    delivered 3
    delivered 1
    ");
}

#[test]
fn d23_an_old_version_overwrites_no_newer_one_unless_it_is_forced() {
    let receiver = Receiver::ok();
    let site = Site::new(&receiver.webhook("erp", ""));
    site.enqueue("purchase_order", 1..=2);
    let _daemon = site.start();
    let id = receiver.wait_for(1)[0].header("webhook-id").to_owned();
    site.enqueue("purchase_order", 1..=1);
    let newer = receiver.wait_for(2)[1].header("webhook-id").to_owned();
    wait_until_settled(&site, &newer);
    let refused = resend(&site, &json!({ "payload_id": id }));
    assert_eq!(refusal(&refused), "409 superseded");
    let (_, answer) = resend(&site, &json!({ "payload_id": id, "skip_superseded": true }));
    assert_eq!(answer["superseded"][0]["tracking_number"], "1", "{answer}");
    assert_eq!(receiver.wait_for(3)[2].orders().1, [2]);
    let (_, answer) = resend(&site, &json!({ "payload_id": id, "force": true }));
    assert_eq!(answer["resends"][0]["items"], 2, "{answer}");
    assert_eq!(receiver.wait_for(4)[3].orders().1, [1, 2]);
}

/// D23: what a resend was asked with holds for its retries too. What was sent keeps its bytes, so the
/// orders that may still go do so under an id of their own.
#[test]
fn d23_what_is_superseded_while_a_resend_waits_is_left_out_and_the_rest_goes_on() {
    // The payload and its resend are refused.
    let receiver = Receiver::new(|index, _| Answer::Status(if index <= 2 { 500 } else { 200 }, ""));
    let site = Site::new(&receiver.webhook("erp", "retry_attempts = 0"));
    site.enqueue("purchase_order", 1..=2);
    let daemon = site.start();
    daemon.wait_for_line("failed for good");
    site.configure(&receiver.webhook("erp", "retry_attempts = 9\nretry_gap = \"1h\""));
    daemon.reload();
    let id = receiver.arrived()[0].header("webhook-id").to_owned();
    let ask = json!({ "payload_id": id, "skip_superseded": true });
    assert_eq!(resend(&site, &ask).0, 200);
    daemon.wait_for_line("others go on meanwhile");
    site.enqueue("purchase_order", 1..=1);
    daemon.wait_for_line("delivered 1 purchase_order");
    assert_eq!(
        Asked(&site)
            .post("/v1/webhooks/erp/retry-now", &json!({}))
            .0,
        200
    );
    let part = receiver.wait_for(4).remove(3);
    assert_eq!(
        (part.header("orderfeed-resend-of"), part.orders().1),
        (id.as_str(), vec![2])
    );
    assert_ne!(part.header("webhook-id"), id);
    let (_, payload) = Asked(&site).get(&format!("/v1/payloads/{id}"));
    let reason = payload["reason"].as_str().unwrap();
    let expected = format!("its other orders go as {}", part.header("webhook-id"));
    assert!(
        reason.starts_with("not resent: order 1 was delivered in a later version since")
            && reason.ends_with(&expected),
        "{reason}"
    );
    daemon.wait_for_line("was taken");
    daemon.stop();
    assert_snapshot!(site.ledger_rows("SELECT state, items, attempts FROM payloads ORDER BY payload_id"), @"
    failed 2 2
    delivered 1 1
    delivered 1 1
    ");
    assert_snapshot!(site.ledger_rows("SELECT count(*) FROM errands"), @"0");
}

/// D23: a copy that was never sent keeps its id, and goes with fewer orders.
#[test]
fn d23_what_is_superseded_before_the_first_request_is_left_out_of_it() {
    let gate = Arc::new(Gate::default());
    let held = Arc::clone(&gate);
    let receiver = Receiver::new(move |index, _| match index {
        1 | 2 => Answer::Status(500, ""),
        3 => Answer::Gated(Arc::clone(&held), 200),
        _ => Answer::Status(200, ""),
    });
    let site = Site::new(&receiver.webhook("erp", "retry_attempts = 0"));
    let daemon = site.start();
    site.enqueue("purchase_order", 1..=2);
    let old = receiver.wait_for(1)[0].header("webhook-id").to_owned();
    wait_until_settled(&site, &old);
    site.enqueue("purchase_order", 1..=1);
    let new = receiver.wait_for(2)[1].header("webhook-id").to_owned();
    wait_until_settled(&site, &new);
    // Both are asked for before either can go, and the newer version goes first.
    site.enqueue("purchase_order", 9..=9);
    receiver.wait_for(3);
    let ask = json!({ "payload_id": old, "as_new": true, "skip_superseded": true });
    let (status, answer) = resend(&site, &ask);
    assert_eq!((status, &answer["resends"][0]["items"]), (200, &json!(2)));
    let copy = answer["resends"][0]["payload_id"].as_str().unwrap();
    assert_eq!(resend(&site, &json!({ "payload_id": new })).0, 200);
    gate.open();
    let arrived = receiver.wait_for(5);
    let sent = |index: usize| {
        let request = &arrived[index];
        (request.header("webhook-id"), request.orders().1)
    };
    assert_eq!(sent(3), (new.as_str(), vec![1]));
    assert_eq!(sent(4), (copy, vec![2]));
    wait_until_settled(&site, copy);
    daemon.stop();
    assert_snapshot!(site.ledger_rows("SELECT items, (SELECT count(*) FROM strays) FROM payloads WHERE resend_of IS NOT NULL"), @"1 1");
}

/// D23: an order with very many versions takes no longer than its versions are many.
#[test]
fn d23_thousands_of_versions_are_gone_through_once() {
    let receiver = Receiver::new(|_, _| Answer::Status(500, ""));
    let site = Site::new(&receiver.webhook("erp", "retry_attempts = 0"));
    site.enqueue("purchase_order", std::iter::repeat_n(1, 3_000));
    let _daemon = site.start();
    let last = receiver.wait_for(30)[29].header("webhook-id").to_owned();
    wait_until_settled(&site, &last);
    let began = Instant::now();
    let ask = json!({ "state": "failed", "dry_run": true });
    let (status, answer) = resend(&site, &ask);
    assert_eq!(
        (status, answer["resends"].as_array().unwrap().len()),
        (200, 30)
    );
    // Each version against each other takes longer than that.
    assert!(began.elapsed() < PATIENCE / 2, "{:?}", began.elapsed());
}

/// D19: an accepted resend survives a crash, and goes again with the same id and body.
#[test]
fn d19_a_resend_that_a_crash_cut_off_goes_again() {
    let (receiver, site) = one_failed("purchase_order");
    let daemon = site.start_with(&[("FAILPOINT", "resend_begun")]);
    daemon.wait_for_line("failed for good");
    let (_, answer) = Asked(&site).post("/v1/webhooks/erp/pause", &json!({}));
    assert_eq!(answer["done"], true, "{answer}");
    // It may be gone before it answers.
    let ask =
        "POST /v1/resend HTTP/1.1\r\nhost: x\r\ncontent-length: 18\r\n\r\n{\"state\":\"failed\"}";
    Asked(&site).raw(ask.as_bytes());
    daemon.wait();
    assert_eq!(receiver.arrived().len(), 1);
    let _daemon = site.start();
    let arrived = receiver.wait_for(2);
    assert_eq!(
        arrived[0].header("webhook-id"),
        arrived[1].header("webhook-id")
    );
    assert_eq!(arrived[0].body, arrived[1].body);
    assert_eq!(arrived[1].header("orderfeed-attempt"), "3");
}

#[test]
fn a_payload_in_the_way_is_discarded_and_the_next_one_goes() {
    let receiver = Receiver::new(|index, _| Answer::Status(if index == 1 { 500 } else { 200 }, ""));
    let site = Site::new(&receiver.webhook("erp", "retry_gap = \"1h\"\npayload_max_items = 1"));
    site.enqueue("purchase_order", 1..=2);
    let daemon = site.start();
    daemon.wait_for_line("next attempt at");
    let id = receiver.arrived()[0].header("webhook-id").to_owned();
    let path = format!("/v1/payloads/{id}/discard");
    let (status, answer) = Asked(&site).post(&path, &json!({ "reason": "typed wrongly" }));
    assert_eq!(
        (status, &answer["state"]),
        (200, &json!("discarded")),
        "{answer}"
    );
    assert_eq!(receiver.wait_for(2)[1].orders().1, [2]);
    let refused = Asked(&site).post(&path, &json!({ "reason": "typed wrongly" }));
    assert_eq!(refusal(&refused), "409 discarded");
    daemon.stop();
    assert_snapshot!(site.ledger_rows("SELECT state, reason FROM payloads WHERE state = 'discarded'"), @"discarded typed wrongly");
}

#[test]
fn d4_a_test_holds_no_order_and_paces() {
    let receiver = Receiver::ok();
    let more = "triggers = [\"work_order.update\"]\npayload_interval = \"1h\"";
    let site = Site::new(&receiver.webhook("erp", more));
    let _daemon = site.start();
    let (status, answer) = Asked(&site).post("/v1/webhooks/erp/test", &json!({}));
    assert_eq!(
        (status, &answer["testsSucceeded"]),
        (200, &json!(1)),
        "{answer}"
    );
    let arrived = receiver.wait_for(1).remove(0);
    assert_eq!(arrived.header("orderfeed-test"), "1");
    assert_eq!(arrived.header("orderfeed-event"), "work_order.update");
    assert_snapshot!(arrived.text(), @r#"{"DataType":"work_order.update","Data":[]}"#);
    // The next one may go in an hour, and says so; unless it must go now.
    let (_, answer) = Asked(&site).post("/v1/webhooks/erp/test", &json!({}));
    assert_eq!(answer["tests"][0]["state"], "waiting", "{answer}");
    assert!(answer["tests"][0]["next_at"].is_string(), "{answer}");
    let (_, answer) = Asked(&site).post("/v1/webhooks/erp/test", &json!({ "now": true }));
    assert_eq!(answer["testsRun"], 1, "{answer}");
    assert_eq!(receiver.arrived().len(), 2);
}

#[test]
fn a_withdrawal_says_for_whom_it_came_too_late() {
    let (early, late) = (Receiver::ok(), Receiver::ok());
    let webhooks = early.webhook("early", "") + &late.webhook("late", "active = false");
    let site = Site::new(&webhooks);
    site.enqueue("purchase_order", 1..=1);
    let daemon = site.start();
    daemon.wait_for_line("delivered 1 purchase_order");
    let path = "/v1/orders/1/withdraw";
    let (status, answer) = Asked(&site).post(path, &json!({}));
    assert_eq!((status, &answer["seqs"]), (200, &json!([1])), "{answer}");
    let too_late = answer["too_late"].as_array().unwrap();
    assert_eq!(
        (too_late.len(), &too_late[0]["webhook"]),
        (1, &json!("early")),
        "{answer}"
    );
    assert_eq!(
        refusal(&Asked(&site).post(path, &json!({}))),
        "409 withdrawn"
    );
}
