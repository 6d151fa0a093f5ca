//! What arrives at a receiver, and how (contract, sections 3 and 4).

use std::sync::Arc;
use std::time::{Duration, Instant};

use insta::assert_snapshot;

use crate::producers::{available, python_insert, shell_insert};
use crate::support::{Answer, Arrived, Gate, OK, Receiver, Site};

/// A purchase order as planning systems write it: seventeen header fields, two lines; numbers,
/// blanks and the order of members are the producer's own.
const SAMPLE_ORDER: &str = r#"{
  "TrackingNumber": 123,
  "ShippingLocation": "ABC",
  "ReceivingLocation": "LF500",
  "ReleaseDate": "2024-05-21",
  "RequestedDeliveryDate": "2024-06-21",
  "SubmittedBy": "planner@example.com",
  "Documentation": "Comments \"quoted\", \u00fc and ü",
  "ContactName": "John Doe",
  "ContactEmail": "",
  "ShipMethod": "land",
  "Address1": "123 Any St",
  "Address2": null,
  "Address3": null,
  "City": "Chicago",
  "State": "IL",
  "PostalCode": "60601",
  "Country": "US",
  "LineItems": [
    {"ItemCode": "938939", "Quantity": 10.500, "UnitPrice": 1e2, "Big": 12345678901234567890.10},
    {"ItemCode": "938940", "Quantity": 0, "UnitPrice": -0.0, "Note": null}
  ]
}"#;

#[test]
fn the_sample_order_goes_through_byte_for_byte() {
    let receiver = Receiver::ok();
    let site = Site::new(&receiver.webhook("erp", ""));
    site.producer()
        .execute(
            "INSERT INTO orders (order_type, body) VALUES ('purchase_order', ?1)",
            [SAMPLE_ORDER],
        )
        .unwrap();
    let _daemon = site.start();
    let arrived = receiver.wait_for(1);
    assert_eq!(
        arrived[0].text(),
        format!(r#"{{"DataType":"purchase_order","Data":[{SAMPLE_ORDER}]}}"#)
    );
}

#[test]
fn a_request_has_the_headers_of_the_contract_and_no_others() {
    let receiver = Receiver::ok();
    let site = Site::new(&receiver.webhook("erp", "authorization = \"Bearer s3cret\""));
    site.producer()
        .execute(
            "INSERT INTO orders (order_type, action, body) VALUES ('work_order', 'update', '{\"TrackingNumber\":\"W-1\"}')",
            [],
        )
        .unwrap();
    let _daemon = site.start();
    let arrived = &receiver.wait_for(1)[0];
    let mut head = arrived.head.clone();
    for changing in ["webhook-id", "webhook-timestamp", "host"] {
        let value = arrived.header(changing);
        assert_ne!(value, "", "{changing}");
        head = head.replace(value, "…");
    }
    let head = head
        .replace("\r\n", "\n")
        .replace(env!("CARGO_PKG_VERSION"), "VERSION");
    assert_snapshot!(head.trim_end(), @"
    POST /orders HTTP/1.1
    content-type: application/json
    user-agent: orderfeed/VERSION
    authorization: Bearer s3cret
    webhook-id: …
    webhook-timestamp: …
    orderfeed-event: work_order.update
    orderfeed-attempt: 1
    accept: */*
    host: …
    content-length: 66
    ");
    assert_snapshot!(arrived.text(), @r#"{"DataType":"work_order.update","Data":[{"TrackingNumber":"W-1"}]}"#);
}

/// D1, D2: grouped by type, purchase orders first, then by what entered first.
#[test]
fn orders_leave_in_batches_purchase_orders_first() {
    let receiver = Receiver::ok();
    let site = Site::new(&receiver.webhook("erp", "payload_max_items = 3"));
    site.enqueue("work_order", 1..=2);
    site.enqueue("transfer_order", 11..=14);
    site.enqueue("work_order", 3..=5);
    site.enqueue("purchase_order", 21..=24);
    let _daemon = site.start();
    let arrived = receiver.wait_for(6);
    let arrived: Vec<_> = arrived.iter().map(Arrived::summary).collect();
    assert_snapshot!(arrived.join("\n"), @"
    purchase_order 21,22,23
    purchase_order 24
    work_order 1,2,3
    transfer_order 11,12,13
    transfer_order 14
    work_order 4,5
    ");
}

/// D2: what is queued or withdrawn during a request counts for the next one, though what waited then may
/// have been read already.
#[test]
fn d2_a_purchase_order_queued_during_a_request_goes_next() {
    let gates = [(); 2].map(|()| Arc::new(Gate::default()));
    let held = gates.clone();
    let receiver = Receiver::new(move |number, _| match number {
        1 => Answer::Gated(Arc::clone(&held[0]), 200),
        3 => Answer::Gated(Arc::clone(&held[1]), 200),
        _ => OK,
    });
    let site = Site::new(&receiver.webhook("erp", "payload_max_items = 2"));
    site.enqueue("work_order", 1..=6);
    let daemon = site.start();
    receiver.wait_for(1);
    site.enqueue("purchase_order", [21]);
    site.producer()
        .execute("INSERT INTO withdrawals (seq) VALUES (3)", [])
        .unwrap();
    gates[0].open();
    receiver.wait_for(3);
    site.enqueue("purchase_order", [22]);
    gates[1].open();
    let arrived = receiver.wait_for(5);
    let arrived: Vec<_> = arrived.iter().map(Arrived::summary).collect();
    assert_snapshot!(arrived.join("\n"), @"
    work_order 1,2
    purchase_order 21
    work_order 4,5
    purchase_order 22
    work_order 6
    ");
    assert!(daemon.stop().0.success());
}

/// D9: the same payload id and the same body; D10: later payloads wait behind it.
#[test]
fn a_failed_payload_comes_again_with_the_same_id_and_body() {
    let receiver = Receiver::new(|number, _| match number {
        1 => Answer::Status(500, "\n\nout of order"),
        2 => Answer::HangUp,
        _ => OK,
    });
    let site = Site::new(&receiver.webhook("erp", "payload_max_items = 2\nretry_gap = \"50ms\""));
    site.enqueue("purchase_order", 1..=3);
    let daemon = site.start();
    let arrived = receiver.wait_for(4);
    let lines: Vec<_> = arrived
        .iter()
        .map(|request| {
            format!(
                "attempt {}: {}",
                request.header("orderfeed-attempt"),
                request.summary()
            )
        })
        .collect();
    assert_snapshot!(lines.join("\n"), @"
    attempt 1: purchase_order 1,2
    attempt 2: purchase_order 1,2
    attempt 3: purchase_order 1,2
    attempt 1: purchase_order 3
    ");
    assert_eq!(
        arrived[0].header("webhook-id"),
        arrived[2].header("webhook-id")
    );
    assert_ne!(
        arrived[0].header("webhook-id"),
        arrived[3].header("webhook-id")
    );
    assert_eq!(arrived[0].body, arrived[2].body);
    assert!(arrived[1].at - arrived[0].at >= Duration::from_millis(50));
    daemon.stop();
    let attempts =
        "SELECT number, phase, outcome, status, answer FROM attempts ORDER BY payload_id, number";
    assert_snapshot!(site.ledger_rows(attempts), @"
    1 answered failed 500 out of order
    2 waiting unknown - -
    3 answered delivered 200 
    1 answered delivered 200
    ");
}

#[test]
fn other_programs_enqueue_while_the_daemon_runs() {
    let receiver = Receiver::ok();
    let site = Site::new(&receiver.webhook("erp", ""));
    let _daemon = site.start();
    let arrives = |number| {
        receiver.wait_until(|arrived| {
            arrived
                .iter()
                .any(|request| request.orders().1.contains(&number))
        });
    };
    if available("sqlite3", &["-version"]) {
        let insert = "INSERT INTO orders (order_type, body) VALUES ('purchase_order', '{\"TrackingNumber\":1}')";
        shell_insert(&site.queue(), insert).unwrap();
        arrives(1);
    }
    if available("python3", &["--version"]) {
        python_insert(&site.queue(), "purchase_order", "{\"TrackingNumber\":2}").unwrap();
        arrives(2);
    }
}

/// A commit is noticed at once; the poll is the safety net.
#[test]
fn a_commit_is_noticed_without_the_poll() {
    let receiver = Receiver::ok();
    let site = Site::new("");
    site.configure_polling(&receiver.webhook("erp", ""), "1m");
    let _daemon = site.start();
    for number in 1..=20 {
        let committed = Instant::now();
        site.enqueue("purchase_order", number..=number);
        let requests = usize::try_from(number).unwrap();
        let arrived = receiver.wait_for(requests)[requests - 1].at - committed;
        assert!(
            arrived < Duration::from_secs(30),
            "{arrived:?}: that was the poll"
        );
    }
}

/// A producer that holds its write transaction open delays its own orders, and no delivery.
#[test]
fn an_open_transaction_delays_no_delivery() {
    let receiver = Receiver::ok();
    let site = Site::new(&receiver.webhook("erp", "payload_max_items = 1"));
    site.enqueue("purchase_order", 1..=3);
    let mut conn = site.producer();
    let transaction = conn
        .transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)
        .unwrap();
    transaction
        .execute("INSERT INTO orders (order_type, body) VALUES ('purchase_order', '{\"TrackingNumber\":4}')", [])
        .unwrap();
    // Also one that begins while it is held.
    let daemon = site.start();
    receiver.wait_for(3);
    transaction.commit().unwrap();
    receiver.wait_for(4);
    let (status, _) = daemon.stop();
    assert!(status.success());
    let delivered: Vec<_> = receiver.payload_ids_by_order().into_keys().collect();
    assert_eq!(delivered, [1, 2, 3, 4]);
}

/// D3: one that hangs delays no other.
#[test]
fn a_webhook_that_hangs_delays_no_other() {
    let gate = Arc::new(Gate::default());
    let held = Arc::clone(&gate);
    let slow = Receiver::new(move |_, _| Answer::Gated(Arc::clone(&held), 200));
    let fast = Receiver::ok();
    let site =
        Site::new(&(slow.webhook("slow", "") + &fast.webhook("fast", "payload_max_items = 1")));
    site.enqueue("purchase_order", 1..=20);
    let daemon = site.start();
    slow.wait_for(1);
    fast.wait_for(20);
    gate.open();
    daemon.wait_for_line("slow: delivered 20");
}

/// D8: the body of an answer can't hold up or fail a delivery.
#[test]
fn the_answers_body_holds_up_nothing() {
    let receiver = Receiver::new(|number, _| match number {
        // It announces more than it sends.
        1 => Answer::Bytes(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf".to_vec()),
        // It does not end.
        _ => Answer::Bytes([b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), vec![b'x'; 1_000_000]].concat()),
    });
    let site = Site::new(&receiver.webhook("erp", "payload_max_items = 1"));
    site.enqueue("purchase_order", 1..=2);
    let daemon = site.start();
    daemon.wait_for_line("erp: delivered 1 purchase_order");
    receiver.wait_for(2);
    while daemon
        .log()
        .iter()
        .filter(|line| line.contains("delivered 1 "))
        .count()
        < 2
    {
        std::thread::yield_now();
    }
    daemon.stop();
    let answers =
        "SELECT outcome, length(answer), substr(answer, 1, 5) FROM attempts ORDER BY payload_id";
    assert_snapshot!(site.ledger_rows(answers), @"
    delivered 4 half
    delivered 256 xxxxx
    ");
}

/// Of a success 256 bytes of the answer are kept, of a failure 2 KiB; never half a character.
#[test]
fn the_beginning_of_an_answer_is_kept() {
    let long: &'static str = format!("\n\n{}", "x\u{e9}".repeat(2_000)).leak();
    let receiver = Receiver::new(move |number, _| match number {
        1 => Answer::Status(500, long),
        _ => Answer::Status(200, long),
    });
    let site = Site::new(&receiver.webhook("erp", "retry_gap = \"10ms\""));
    site.enqueue("purchase_order", 1..=1);
    let daemon = site.start();
    daemon.wait_for_line("erp: delivered 1 purchase_order");
    daemon.stop();
    let answers = "SELECT status, length(CAST(answer AS BLOB)) FROM attempts ORDER BY number";
    assert_snapshot!(site.ledger_rows(answers), @"
    500 2047
    200 256
    ");
}

/// A receiver that echoes the secret does not bring it into ledger or log.
#[test]
fn an_echoed_secret_is_masked() {
    let receiver = Receiver::new(|_, _| {
        Answer::Status(400, "\n\nyou sent Bearer s3cret-token, which is wrong")
    });
    let site = Site::new(&receiver.webhook(
        "erp",
        "authorization = \"Bearer s3cret-token\"\nretry_attempts = 0",
    ));
    site.enqueue("purchase_order", 1..=1);
    let daemon = site.start();
    daemon.wait_for_line("failed for good");
    let (_, log) = daemon.stop();
    assert!(!log.join("\n").contains("s3cret"), "{log:?}");
    assert_snapshot!(site.ledger_rows("SELECT answer FROM attempts"), @"you sent ***, which is wrong");
}

/// What no trigger can catch is set aside, and holds up nothing.
#[test]
fn an_undeliverable_order_is_set_aside() {
    let receiver = Receiver::ok();
    let site = Site::new(&receiver.webhook("erp", ""));
    site.enqueue("purchase_order", 1..=1);
    site.producer()
        .execute(
            "INSERT INTO orders (order_type, body) VALUES ('purchase_order', '{\"TrackingNumber\":2,\"Note\":\"\\ud800\"}')",
            [],
        )
        .unwrap();
    site.producer()
        .execute(
            "INSERT INTO orders (order_type, body) VALUES ('purchase_order', CAST(X'7B22547261636B696E674E756D626572223A332C224E6F7465223A22FF227D' AS TEXT))",
            [],
        )
        .unwrap();
    site.enqueue("purchase_order", 4..=4);
    let daemon = site.start();
    assert_eq!(receiver.wait_for(1)[0].summary(), "purchase_order 1,4");
    daemon.wait_for_line("delivered 2");
    daemon.stop();
    assert_snapshot!(site.ledger_rows("SELECT seq, order_type, reason FROM set_aside"), @"
    2 purchase_order body: half of a surrogate pair at byte 29, which is no character
    3 purchase_order body: not UTF-8 text (byte 29)
    ");
}

/// A withdrawn order is in no payload that is sealed after its withdrawal.
#[test]
fn a_withdrawn_order_does_not_leave() {
    let receiver = Receiver::ok();
    let site = Site::new(&receiver.webhook("erp", ""));
    site.enqueue("purchase_order", 1..=3);
    site.producer()
        .execute("INSERT INTO withdrawals (seq) VALUES (2)", [])
        .unwrap();
    let _daemon = site.start();
    assert_eq!(receiver.wait_for(1)[0].summary(), "purchase_order 1,3");
}

/// D24: an inactive webhook's orders queue up, and are sent when it is active again.
#[test]
fn an_inactive_webhook_keeps_its_orders() {
    let receiver = Receiver::ok();
    let site = Site::new(&receiver.webhook("erp", "active = false"));
    site.enqueue("purchase_order", 1..=2);
    let daemon = site.start();
    daemon.wait_for_line("erp: inactive (active = false)");
    site.configure(&receiver.webhook("erp", ""));
    daemon.signal(rustix::process::Signal::HUP);
    assert_eq!(receiver.wait_for(1)[0].summary(), "purchase_order 1,2");
}

/// Orders are not read again that came past the triggers; whoever took those away, were it for a moment, is noticed.
#[test]
fn an_order_that_came_around_the_triggers_is_set_aside() {
    let receiver = Receiver::ok();
    let site = Site::new(&receiver.webhook("erp", ""));
    let daemon = site.start();
    let around = |body: &str| {
        let producer = site.producer();
        let trigger: String = producer
            .query_row(
                "SELECT sql FROM sqlite_schema WHERE name = 'orders_after_insert'",
                [],
                |row| row.get(0),
            )
            .unwrap();
        producer
            .execute_batch(&format!(
                "BEGIN; DROP TRIGGER orders_after_insert;
                 INSERT INTO orders (order_type, body) VALUES ('purchase_order', '{body}');
                 {trigger}; COMMIT"
            ))
            .unwrap();
    };
    site.enqueue("purchase_order", 1..=1);
    daemon.wait_for_line("erp: delivered 1 purchase_order");
    around("{\"TrackingNumber\":2");
    daemon.wait_for_line("order 2 can't be delivered and is set aside");
    daemon.stop();
    around("{\"TrackingNumber\":3,}");
    site.enqueue("purchase_order", 4..=4);
    let daemon = site.start();
    daemon.wait_for_line("the queue's tables or triggers were changed since it was made");
    daemon.wait_for_line("order 3 can't be delivered and is set aside");
    daemon.wait_for_line("erp: delivered 1 purchase_order");
    daemon.stop();
}

/// D2: however far the daemon has read ahead, a purchase order that was committed before a request's answer goes next;
/// what was read is not lost by that.
#[test]
fn d2_a_purchase_order_goes_before_what_was_read_ahead() {
    let gate = Arc::new(Gate::default());
    let held = Arc::clone(&gate);
    let receiver = Receiver::new(move |number, _| match number {
        5 => Answer::Gated(Arc::clone(&held), 200),
        _ => OK,
    });
    let site = Site::new(&receiver.webhook("erp", "payload_max_items = 1"));
    site.enqueue("work_order", 1..=40);
    let _daemon = site.start();
    receiver.wait_for(5);
    site.enqueue("purchase_order", 41..=42);
    gate.open();
    let arrived: Vec<_> = receiver.wait_for(42).iter().map(Arrived::summary).collect();
    let mut expected: Vec<_> = (1..=40)
        .map(|number| format!("work_order {number}"))
        .collect();
    let urgent = (41..=42).map(|number| format!("purchase_order {number}"));
    expected.splice(5..5, urgent);
    assert_eq!(arrived, expected);
}

/// D26: what was read ahead by another filter is read again.
#[test]
fn d26_a_filter_counts_at_once_also_for_what_was_read_ahead() {
    let gate = Arc::new(Gate::default());
    let held = Arc::clone(&gate);
    let receiver = Receiver::new(move |number, _| match number {
        5 => Answer::Gated(Arc::clone(&held), 200),
        _ => OK,
    });
    let webhook = receiver.webhook("erp", "payload_max_items = 1");
    let site = Site::new(&webhook);
    site.enqueue("work_order", 1..=20);
    let daemon = site.start();
    receiver.wait_for(5);
    site.configure(&receiver.webhook(
        "erp",
        "payload_max_items = 1\ntriggers = [\"purchase_order\"]",
    ));
    daemon.signal(rustix::process::Signal::HUP);
    daemon.wait_for_line("is reloaded");
    gate.open();
    site.enqueue("purchase_order", 21..=21);
    assert_eq!(receiver.wait_for(6)[5].summary(), "purchase_order 21");
}
