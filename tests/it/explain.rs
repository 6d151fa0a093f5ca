//! What goes on, why, and what happens next, as the command line tells it: over the socket, and from
//! the files where no daemon runs.

use std::sync::Arc;

use insta::assert_snapshot;
use serde_json::Value;

use crate::support::{Answer, Daemon, Gate, OK, Receiver, Site};

/// What a command prints, with payload ids and times as the same words in every run.
fn told(site: &Site, args: &[&str]) -> String {
    steady(&site.told(args))
}

fn steady(text: &str) -> String {
    let mut ids: Vec<&str> = Vec::new();
    let mut out = String::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if rest.starts_with("pl_") && rest.len() >= 29 {
            let (id, after) = rest.split_at(29);
            let number = ids
                .iter()
                .position(|known| *known == id)
                .unwrap_or_else(|| {
                    ids.push(id);
                    ids.len() - 1
                });
            out += &format!("pl_{}", char::from(b'A' + u8::try_from(number).unwrap()));
            rest = after;
        } else if let Some(after) = after_time(rest) {
            out += "TIME";
            rest = after;
        } else if let Some(after) = after_span(rest) {
            out += "N ms";
            rest = after;
        } else {
            out.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    // How wide a column is depends on its times.
    let lines = out.lines().map(|line| {
        let indented = line.len() - line.trim_start().len();
        let words = line[indented..]
            .split("  ")
            .map(str::trim)
            .filter(|word| !word.is_empty());
        line[..indented].to_owned() + &words.collect::<Vec<_>>().join("  ")
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Behind `14:05:12 (3 min ago)`, if it begins so; with or without a date, and an age.
fn after_time(text: &str) -> Option<&str> {
    let shaped = |text: &str, shape: &str| {
        text.len() >= shape.len()
            && text
                .bytes()
                .zip(shape.bytes())
                .all(|(found, wanted)| match wanted {
                    b'0' => found.is_ascii_digit(),
                    _ => found == wanted,
                })
    };
    let text = if shaped(text, "0000-00-00 00:00:00") {
        &text[11..]
    } else {
        text
    };
    if !shaped(text, "00:00:00") {
        return None;
    }
    let rest = &text[8..];
    let aged = ["now)", "ago)"].iter().any(|end| {
        rest.split(')')
            .next()
            .is_some_and(|age| age.ends_with(&end[..3]))
    });
    if rest.starts_with(" (in ") || rest.starts_with(" (") && aged {
        return rest.split_once(')').map(|(_, after)| after);
    }
    Some(rest)
}

/// Behind `12 ms`, if it begins so.
fn after_span(text: &str) -> Option<&str> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    text[digits..].strip_prefix(" ms").filter(|_| digits > 0)
}

fn json(site: &Site, args: &[&str]) -> Value {
    let output = site.command(args).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn order(site: &Site, order_type: &str, body: &str) {
    let sql = "INSERT INTO orders (order_type, body) VALUES (?1, ?2)";
    site.producer().execute(sql, [order_type, body]).unwrap();
}

/// A site where two orders met receivers of every kind, and what waits for what.
struct Met {
    site: Site,
    daemon: Daemon,
    gate: Arc<Gate>,
    _receivers: Vec<Receiver>,
}

fn met() -> Met {
    let gate = Arc::new(Gate::default());
    let held = Arc::clone(&gate);
    let receivers = vec![
        Receiver::new(|_, _| Answer::Status(410, "\n\nno more")),
        Receiver::new(move |_, _| Answer::Gated(Arc::clone(&held), 200)),
        Receiver::ok(),
        Receiver::new(|_, _| {
            Answer::Status(422, "content-type: text/plain\n\n\u{1b}[2Jbad Site\n")
        }),
        Receiver::new(|_, _| Answer::Status(500, "\n\nbusy")),
        Receiver::ok(),
    ];
    let one = "payload_max_items = 1\n";
    let nowhere = "url = \"http://127.0.0.1:9/orders?key=s3cr3t-k3y\"\n";
    let webhooks = [
        receivers[0].webhook("gone", one),
        receivers[1].webhook("hangs", one),
        receivers[2].webhook("ok", one),
        receivers[3].webhook("refuses", &format!("{one}retry_attempts = 0")),
        receivers[4].webhook("retries", &format!("{one}retry_gap = \"1h\"")),
        receivers[5].webhook("slow", &format!("{one}payload_interval = \"1h\"")),
        format!(
            "[webhook.filters]\n{nowhere}filter = {{ Site = [\"10\", \"30\"] }}\nactive = false\n"
        ),
        format!("[webhook.lingers]\n{nowhere}payload_linger = \"1h\"\n"),
        format!("[webhook.off]\n{nowhere}active = false\n"),
        format!("[webhook.works]\n{nowhere}triggers = [\"work_order\", \"*.destroy\"]\n"),
    ];
    let site = Site::new(&webhooks.concat());
    order(
        &site,
        "purchase_order",
        r#"{"TrackingNumber":1,"Site":"20"}"#,
    );
    order(
        &site,
        "purchase_order",
        r#"{"TrackingNumber":"A/2","Site":"10"}"#,
    );
    let daemon = site.start();
    // Until each stands where it will stay.
    let settled = || {
        let found = json(&site, &["webhooks", "list", "--json"]);
        let webhooks = found["webhooks"].as_array().unwrap().iter();
        let states: Vec<&str> = webhooks
            .clone()
            .map(|webhook| webhook["state"].as_str().unwrap())
            .collect();
        let idle = webhooks
            .filter(|webhook| webhook["payload_id"].is_null())
            .count();
        let expected = [
            "inactive",
            "deactivated",
            "sending",
            "idle",
            "inactive",
            "idle",
            "idle",
            "retrying",
            "pacing",
            "idle",
        ];
        states.len() == expected.len()
            && states == expected
            && idle == 7
            && found.to_string().contains("\"failed\":2")
    };
    while !settled() {
        std::thread::yield_now();
    }
    Met {
        site,
        daemon,
        gate,
        _receivers: receivers,
    }
}

#[test]
fn an_orders_story_for_each_webhook() {
    let met = met();
    assert_snapshot!(told(&met.site, &["trace", "1"]), @r"
    Order 1: purchase_order.submit, number 1 in the queue, queued TIME
      filters: filtered: filters did not select it when it was queued: its filter wants Site to be one of: 10, 30; it is 20
      gone: pending: answered 410; next: nothing, until `orderfeed resume gone`
        pl_A with 1 purchase order, composed TIME: pending
          attempt 1 at TIME: failed, answered 410, after N ms: no more
      hangs: in_flight: pl_B (1 purchase order) is under way, attempt 1; next: its answer is due
        pl_B with 1 purchase order, composed TIME: in_flight
          attempt 1 at TIME: under way
      lingers: waiting: payload_linger is 1h: a payload may fill up; next: sends what waits, at TIME
      off: waiting: off is inactive: its configuration says active = false; next: nothing, until it is active again; its orders wait
      ok: delivered: delivered at the first attempt
        pl_C with 1 purchase order, composed TIME: delivered
          attempt 1 at TIME: delivered, answered 200, after N ms
      refuses: failed: its attempts are used up: answered 422; `orderfeed resend pl_D` sends it again
        pl_D with 1 purchase order, composed TIME: failed
          attempt 1 at TIME: failed, answered 422, after N ms: \u{1b}[2Jbad Site
      retries: pending: answered 500; next: retries pl_E (1 purchase order), attempt 2 of 4, at TIME
        pl_E with 1 purchase order, composed TIME: pending
          attempt 1 at TIME: failed, answered 500, after N ms: busy
      slow: delivered: delivered at the first attempt
        pl_F with 1 purchase order, composed TIME: delivered
          attempt 1 at TIME: delivered, answered 200, after N ms
      works: filtered: works did not select it when it was queued: its triggers (work_order, *.destroy) do not name purchase_order.submit
    [exit 0]
    ");
    assert_snapshot!(told(&met.site, &["trace", "A/2"]), @r"
    Order A/2: purchase_order.submit, number 2 in the queue, queued TIME
      filters: waiting: filters is inactive: its configuration says active = false; queued before it: 1 purchase order; next: nothing, until it is active again; its orders wait
      gone: waiting: it waits behind pl_A (1 purchase order), which is deactivated: answered 410; next: nothing, until `orderfeed resume gone`
      hangs: waiting: it waits behind pl_B (1 purchase order), which is under way; next: its answer is due, at TIME
      lingers: waiting: payload_linger is 1h: a payload may fill up; queued before it: 1 purchase order; next: sends what waits, at TIME
      off: waiting: off is inactive: its configuration says active = false; queued before it: 1 purchase order; next: nothing, until it is active again; its orders wait
      ok: delivered: delivered at the first attempt
        pl_C with 1 purchase order, composed TIME: delivered
          attempt 1 at TIME: delivered, answered 200, after N ms
      refuses: failed: its attempts are used up: answered 422; `orderfeed resend pl_D` sends it again
        pl_D with 1 purchase order, composed TIME: failed
          attempt 1 at TIME: failed, answered 422, after N ms: \u{1b}[2Jbad Site
      retries: waiting: it waits behind pl_E (1 purchase order), which is retrying: answered 500; next: retries pl_E (1 purchase order), attempt 2 of 4, at TIME
      slow: waiting: payload_interval is 1h; next: sends the next payload, at TIME
      works: filtered: works did not select it when it was queued: its triggers (work_order, *.destroy) do not name purchase_order.submit
    [exit 0]
    ");
    assert_snapshot!(told(&met.site, &["trace", "4711"]), @r#"
    orderfeed: no order in the queue has the tracking number "4711"; it was not queued, or was pruned
    [exit 1]
    "#);
    met.daemon.kill();
    assert_snapshot!(told(&met.site, &["trace", "A/2"]), @r"
    Order A/2: purchase_order.submit, number 2 in the queue, queued TIME
      filters: waiting: no daemon runs; filters is inactive: its configuration says active = false; queued before it: 1 purchase order
      gone: waiting: no daemon runs; it waits behind pl_A (1 purchase order), which is deactivated: answered 410
      hangs: waiting: no daemon runs; it waits behind pl_B (1 purchase order), which is retrying: pl_B (1 purchase order) was under way when the daemon ended: whether it arrived is unknown
      lingers: waiting: no daemon runs; queued before it: 1 purchase order
      off: waiting: no daemon runs; off is inactive: its configuration says active = false; queued before it: 1 purchase order
      ok: delivered: delivered at the first attempt
        pl_C with 1 purchase order, composed TIME: delivered
          attempt 1 at TIME: delivered, answered 200, after N ms
      refuses: failed: its attempts are used up: answered 422; `orderfeed resend pl_D` sends it again
        pl_D with 1 purchase order, composed TIME: failed
          attempt 1 at TIME: failed, answered 422, after N ms: \u{1b}[2Jbad Site
      retries: waiting: no daemon runs; it waits behind pl_E (1 purchase order), which is retrying: answered 500
      slow: waiting: no daemon runs
      works: filtered: works did not select it when it was queued: its triggers (work_order, *.destroy) do not name purchase_order.submit
    [exit 0]
    ");
}

#[test]
fn what_goes_on_at_a_glance() {
    let met = met();
    assert_snapshot!(told(&met.site, &["status"]), @"
    orderfeed 0.1.0 runs since TIME
    waiting:  2 purchase orders, the oldest since TIME

    WEBHOOK  STATE  SINCE  WAITING  PARKED  FAILED  LAST SUCCESS
    filters  inactive  -  1  0  0  -
    gone  deactivated  TIME  1  0  0  -
    hangs  sending  TIME  1  0  0  -
    lingers  idle  -  2  0  0  -
    off  inactive  -  2  0  0  -
    ok  idle  TIME  0  0  0  TIME
    refuses  idle  TIME  0  0  2  -
    retries  retrying  TIME  1  0  0  -
    slow  pacing  TIME  1  0  0  TIME
    works  idle  -  0  0  0  -

    filters: its configuration says active = false; next: nothing, until it is active again; its orders wait
    gone: answered 410; next: nothing, until `orderfeed resume gone`
        last error: answered 410, TIME
    hangs: pl_A (1 purchase order) is under way, attempt 1; next: its answer is due, at TIME
    lingers: payload_linger is 1h: a payload may fill up; next: sends what waits, at TIME
    off: its configuration says active = false; next: nothing, until it is active again; its orders wait
    ok: nothing waits; next: sends the next order at once
    refuses: nothing waits; next: sends the next order at once
        last error: answered 422, TIME
        failed payloads: `orderfeed payloads --webhook refuses --state failed`
    retries: answered 500; next: retries pl_B (1 purchase order), attempt 2 of 4, at TIME
        last error: answered 500, TIME
    slow: payload_interval is 1h; next: sends the next payload, at TIME
    works: nothing waits; next: sends the next order at once
    [exit 0]
    ");
    assert_snapshot!(told(&met.site, &["webhooks", "show", "lingers"]), @"
    webhook:  lingers
    url:  http://127.0.0.1:9/orders?key=***
    triggers:  purchase_order, transfer_order, work_order
    filter:  -
    state:  idle: payload_linger is 1h: a payload may fill up
    since:  -
    next:  sends what waits, at TIME
    waiting:  2
    parked:  0
    failed:  0
    last success: -
    last error:  -
    [exit 0]
    ");
    assert_snapshot!(told(&met.site, &["webhooks", "show", "nobody"]), @r#"
    orderfeed: there is no webhook "nobody"; there are: filters, gone, hangs, lingers, off, ok, refuses, retries, slow, works
    [exit 1]
    "#);
    let status = json(&met.site, &["status", "--json"]);
    assert_eq!(status["queue"]["waiting"]["purchase_order"]["count"], 2);
    assert!(!status.to_string().contains("s3cr3t"), "{status}");
    met.gate.open();
}

#[test]
fn each_order_is_accounted_for_and_a_lost_one_is_an_error() {
    let met = met();
    assert_snapshot!(told(&met.site, &["reconcile"]), @"
    2 orders in the queue, number 1 to 2

    WEBHOOK  DELIVERED  IN FLIGHT  PENDING  WAITING  FAILED  FILTERED  MISSING  SUM
    filters  0  0  0  1  0  1  0  2
    gone  0  0  1  1  0  0  0  2
    hangs  0  1  0  1  0  0  0  2
    lingers  0  0  0  2  0  0  0  2
    off  0  0  0  2  0  0  0  2
    ok  2  0  0  0  0  0  0  2
    refuses  0  0  0  0  2  0  0  2
    retries  0  0  1  1  0  0  0  2
    slow  1  0  0  1  0  0  0  2
    works  0  0  0  0  0  2  0  2
    [exit 0]
    ");
    met.daemon.kill();
    assert_snapshot!(told(&met.site, &["reconcile", "--since", "1h"]), @"
    2 orders in the queue, number 1 to 2

    WEBHOOK  DELIVERED  IN FLIGHT  PENDING  WAITING  FAILED  FILTERED  MISSING  SUM
    filters  0  0  0  1  0  1  0  2
    gone  0  0  1  1  0  0  0  2
    hangs  0  1  0  1  0  0  0  2
    lingers  0  0  0  2  0  0  0  2
    off  0  0  0  2  0  0  0  2
    ok  2  0  0  0  0  0  0  2
    refuses  0  0  0  0  2  0  0  2
    retries  0  0  1  1  0  0  0  2
    slow  1  0  0  1  0  0  0  2
    works  0  0  0  0  0  2  0  2
    [exit 0]
    ");
    let ledger = rusqlite::Connection::open(met.site.ledger()).unwrap();
    let lost = "DELETE FROM payloads WHERE webhook_id = (SELECT webhook_id FROM webhooks WHERE name = 'ok')
        AND payload_id = (SELECT min(payload_id) FROM payloads AS p JOIN webhooks AS w USING (webhook_id) WHERE name = 'ok')";
    assert_eq!(ledger.execute(lost, []).unwrap(), 1);
    drop(ledger);
    assert_snapshot!(told(&met.site, &["reconcile"]), @"
    2 orders in the queue, number 1 to 2

    WEBHOOK  DELIVERED  IN FLIGHT  PENDING  WAITING  FAILED  FILTERED  MISSING  SUM
    filters  0  0  0  1  0  1  0  2
    gone  0  0  1  1  0  0  0  2
    hangs  0  1  0  1  0  0  0  2
    lingers  0  0  0  2  0  0  0  2
    off  0  0  0  2  0  0  0  2
    ok  1  0  0  0  0  0  1  2
    refuses  0  0  0  0  2  0  0  2
    retries  0  0  1  1  0  0  0  2
    slow  1  0  0  1  0  0  0  2
    works  0  0  0  0  0  2  0  2

    ok: missing: 1
    orderfeed: the sums do not agree: orders are missing that no webhook has in a payload or in any other place; keep a copy of both files, `orderfeed trace` the orders named above, and queue them again
    [exit 1]
    ");
    assert_snapshot!(told(&met.site, &["trace", "1"]).lines().find(|line| line.starts_with("  ok")).unwrap_or_default(), @"  ok: missing: ok is past it, and it is in no payload: it is lost; keep both files, and queue it again");
}

/// D25, and what producers take back or can't be delivered; nothing of it ever leaves.
#[test]
fn what_is_left_out_says_why() {
    let webhook = "[webhook.erp]\nurl = \"http://127.0.0.1:9/\"\nactive = false\n";
    let site = Site::new(webhook);
    let daemon = site.start();
    order(
        &site,
        "purchase_order",
        r#"{"TrackingNumber":1,"Site":"20"}"#,
    );
    order(&site, "transfer_order", r#"{"TrackingNumber":2}"#);
    order(
        &site,
        "purchase_order",
        r#"{"TrackingNumber":3,"Text":"\ud800"}"#,
    );
    site.producer()
        .execute("INSERT INTO withdrawals (seq) VALUES (2)", [])
        .unwrap();
    // The reload takes effect from the next order on.
    site.configure(&format!(
        "{webhook}triggers = [\"purchase_order\"]\nfilter = {{ Site = [\"10\"] }}\n"
    ));
    daemon.reload();
    order(&site, "work_order", r#"{"TrackingNumber":4}"#);
    for (number, expected) in [
        ("1", "parked"),
        ("2", "withdrawn"),
        ("3", "set_aside"),
        ("4", "filtered"),
    ] {
        let story = json(&site, &["trace", number, "--json"]);
        assert_eq!(
            story["orders"][0]["webhooks"][0]["state"], expected,
            "{story:#}"
        );
    }
    assert_snapshot!(told(&site, &["trace", "1"]), @"
    Order 1: purchase_order.submit, number 1 in the queue, queued TIME
      erp: parked: erp collected it, and does not select it any more: its filter wants Site to be one of: 10; it is 20; it is sent when it is selected again
    [exit 0]
    ");
    assert_snapshot!(told(&site, &["trace", "3"]), @"
    Order 3: purchase_order.submit, number 3 in the queue, queued TIME
      can't be delivered to anyone: body: half of a surrogate pair at byte 29, which is no character
      erp: set_aside: it can't be delivered to anyone: body: half of a surrogate pair at byte 29, which is no character
    [exit 0]
    ");
    assert_snapshot!(told(&site, &["reconcile"]), @"
    4 orders in the queue, number 1 to 4

    WEBHOOK  PARKED  FILTERED  WITHDRAWN  SET ASIDE  MISSING  SUM
    erp  1  1  1  1  0  4
    [exit 0]
    ");
    assert_snapshot!(told(&site, &["status"]), @"
    orderfeed 0.1.0 runs since TIME
    waiting:  nothing
    unclaimed: 1, which no webhook takes
    set aside: 1, which can't be delivered to anyone; the newest: order 3: body: half of a surrogate pair at byte 29, which is no character

    WEBHOOK  STATE  SINCE  WAITING  PARKED  FAILED  LAST SUCCESS
    erp  inactive  -  0  1  0  -

    erp: its configuration says active = false; next: nothing, until it is active again; its orders wait
    [exit 0]
    ");
}

#[test]
fn payloads_are_listed_and_shown() {
    let met = met();
    assert_snapshot!(told(&met.site, &["payloads", "--state", "failed"]), @"
    PAYLOAD  WEBHOOK  EVENT  ORDERS  STATE  ATTEMPTS  COMPOSED  WHY
    pl_A  refuses  purchase_order.submit  1  failed  1  TIME  answered 422
    pl_B  refuses  purchase_order.submit  1  failed  1  TIME  answered 422
    [exit 0]
    ");
    assert_snapshot!(told(&met.site, &["payloads", "--tracking-number", "1", "--webhook", "ok"]), @"
    PAYLOAD  WEBHOOK  EVENT  ORDERS  STATE  ATTEMPTS  COMPOSED  WHY
    pl_A  ok  purchase_order.submit  1  delivered  1  TIME
    [exit 0]
    ");
    assert_snapshot!(told(&met.site, &["payloads", "--until", "1h"]), @"
    There are no such payloads.
    [exit 0]
    ");
    assert_snapshot!(told(&met.site, &["payloads", "--webhook", "nobody"]), @r#"
    orderfeed: there is no webhook "nobody"; there are: filters, gone, hangs, lingers, off, ok, refuses, retries, slow, works
    [exit 1]
    "#);
    let all = json(&met.site, &["payloads", "--json"]);
    let ids = |page: &Value| -> Vec<String> {
        let payloads = page["payloads"].as_array().unwrap().iter();
        payloads
            .map(|payload| payload["payload_id"].as_str().unwrap().to_owned())
            .collect()
    };
    let all = ids(&all);
    assert!(all.is_sorted_by(|one, next| one > next), "{all:?}");
    // Page by page they are the same.
    let mut paged = Vec::new();
    let mut page = json(&met.site, &["payloads", "--json", "--limit", "2"]);
    loop {
        paged.extend(ids(&page));
        let Some(next) = page["next"].as_str() else {
            break;
        };
        page = json(
            &met.site,
            &["payloads", "--json", "--limit", "2", "--after", next],
        );
    }
    assert_eq!(paged, all);
    let failed = json(&met.site, &["payloads", "--json", "--state", "failed"]);
    let id = &ids(&failed)[1];
    assert_snapshot!(told(&met.site, &["show", id]), @r"
    pl_A: 1 purchase order (purchase_order.submit) for refuses
      state:  failed: answered 422
      composed: TIME
      settled:  TIME
      attempt 1 at TIME: failed, answered 422, after N ms: \u{1b}[2Jbad Site
    [exit 0]
    ");
    assert_snapshot!(told(&met.site, &["show", id, "--body"]), @r#"{"DataType":"purchase_order","Data":[{"TrackingNumber":1,"Site":"20"}]}[exit 0]"#);
    assert_snapshot!(told(&met.site, &["show", "pl_01M82E75EWT1K6JWPSMAYBQ9EZ"]), @"
    orderfeed: the ledger knows no payload pl_A; `orderfeed payloads` lists those that there are
    [exit 1]
    ");
    met.gate.open();
}

#[test]
fn a_payloads_body_is_what_was_sent_byte_for_byte() {
    let receiver = Receiver::ok();
    let site = Site::new(&receiver.webhook("erp", "compression = \"none\""));
    order(
        &site,
        "work_order",
        " { \"TrackingNumber\" : 1, \"Price\": 1.50, \"Name\": \"M\u{fc}ller\" }\n",
    );
    let daemon = site.start();
    let arrived = receiver.wait_for(1).remove(0);
    let id = arrived.header("webhook-id");
    let body = |site: &Site| {
        site.command(&["show", id, "--body"])
            .output()
            .unwrap()
            .stdout
    };
    assert_eq!(body(&site), arrived.body);
    daemon.stop();
    assert_eq!(body(&site), arrived.body);
}

/// D20, D21: also while its webhook is paused, and where the daemon was killed meanwhile.
#[test]
fn a_resend_that_is_under_way_is_told_wherever_one_looks() {
    let gate = Arc::new(Gate::default());
    let held = Arc::clone(&gate);
    let receiver = Receiver::new(move |number, _| match number {
        1 => Answer::Status(400, ""),
        2 => Answer::Status(500, ""),
        _ => Answer::Gated(Arc::clone(&held), 200),
    });
    let site = Site::new(&receiver.webhook("erp", "retry_attempts = 1\nretry_gap = \"1h\""));
    site.enqueue("purchase_order", [1]);
    let daemon = site.start();
    let failed = loop {
        let failed = json(&site, &["payloads", "--json"]);
        if failed["payloads"][0]["state"] == "pending" && failed["payloads"][0]["attempts"] == 1 {
            break failed["payloads"][0]["payload_id"]
                .as_str()
                .unwrap()
                .to_owned();
        }
    };
    site.told(&["discard", &failed, "--reason", "wrong"]);
    site.told(&["pause", "erp"]);
    let line = |args: &[&str], word: &str| {
        let found = told(&site, args);
        found
            .lines()
            .filter(|line| line.contains(word))
            // Who paused it is another user elsewhere.
            .map(|line| {
                line.split_once("erp: paused by ")
                    .map_or(line, |(_, by)| by.split_once("; ").unwrap().1)
            })
            .collect::<Vec<_>>()
            .join("\n")
    };
    while json(&site, &["webhooks", "show", "erp", "--json"])["state"] != "paused" {
        std::thread::yield_now();
    }
    site.told(&["resend", &failed]);
    while !line(&["status"], "next:").contains("failed attempt") {
        std::thread::yield_now();
    }
    assert_snapshot!(line(&["status"], "next:"), @"the resend of pl_A (1 purchase order) waits for its retry, after a failed attempt; next: sends the resend of pl_A (1 purchase order), at TIME");
    site.told(&["resend", &failed]);
    receiver.wait_for(3);
    assert_snapshot!(line(&["status"], "next:"), @"erp: the resend of pl_A (1 purchase order) is under way, attempt 3; next: its answer is due, at TIME");
    assert_snapshot!(line(&["webhooks", "show", "erp"], "state:"), @"state:  sending: the resend of pl_A (1 purchase order) is under way, attempt 3");
    assert_snapshot!(line(&["show", &failed], "attempt"), @"
    attempt 1 at TIME: failed, answered 400, after N ms
    attempt 2 at TIME: failed, answered 500, after N ms
    attempt 3 at TIME: under way
    ");
    assert_snapshot!(line(&["trace", "1"], "attempt 3"), @"      attempt 3 at TIME: under way");
    daemon.kill();
    assert_snapshot!(line(&["status"], "next:"), @"the resend of pl_A (1 purchase order) was under way when the daemon ended: whether it arrived is unknown; next: nothing, as no daemon runs");
    assert_snapshot!(line(&["show", &failed], "attempt 3"), @"  attempt 3 at TIME: interrupted: unknown whether it arrived: cut off when the daemon ended: whether it arrived is unknown");
    gate.open();
}

/// D23: no resend is recommended that would be refused, and what was never tried used up nothing.
#[test]
fn a_superseded_order_is_not_recommended_to_be_resent() {
    let receiver =
        Receiver::new(|number, _| Answer::Status(if number <= 2 { 500 } else { 200 }, ""));
    let more = "retry_attempts = 0\npayload_max_items = 1";
    let site = Site::new(&receiver.webhook("erp", more));
    site.enqueue("purchase_order", [1]);
    let daemon = site.start();
    let settled = |state: &str, count: usize| loop {
        let found = json(&site, &["payloads", "--json", "--state", state]);
        let found = found["payloads"].as_array().unwrap();
        if found.len() == count {
            break found[0]["payload_id"].as_str().unwrap().to_owned();
        }
    };
    let failed = settled("failed", 1);
    let told = || {
        let told = told(&site, &["trace", "1"]);
        let lines = told.lines().filter(|line| line.starts_with("  erp:"));
        lines.collect::<Vec<_>>().join("\n")
    };
    assert_snapshot!(told(), @"  erp: failed: its attempts are used up: answered 500; `orderfeed resend pl_A` sends it again");
    site.enqueue("purchase_order", [2]);
    settled("failed", 2);
    site.enqueue("purchase_order", [1]);
    settled("delivered", 1);
    assert_snapshot!(told(), @"
    erp: failed: its attempts are used up: answered 500; a later version was delivered since
    erp: delivered: delivered at the first attempt
    ");
    daemon.stop();
    // As a resend that was asked for before is dropped when its turn comes.
    let ledger = rusqlite::Connection::open(site.ledger()).unwrap();
    let dropped = "UPDATE payloads SET reason = 'not resent: order 1 was delivered in a later version since' WHERE payload_id = ?1";
    assert_eq!(ledger.execute(dropped, [&failed]).unwrap(), 1);
    drop(ledger);
    assert_snapshot!(told(), @"
    erp: failed: not resent: order 1 was delivered in a later version since
    erp: delivered: delivered at the first attempt
    ");
}

/// A tracking number may be used again and again.
#[test]
fn all_payloads_of_a_tracking_number_are_listed() {
    let receiver = Receiver::ok();
    let site = Site::new(&receiver.webhook("erp", "payload_max_items = 100"));
    let queue = site.producer();
    let many = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2500)
        INSERT INTO orders (order_type, body) SELECT 'work_order', '{\"TrackingNumber\":7}' FROM n";
    assert_eq!(queue.execute(many, []).unwrap(), 2_500);
    let daemon = site.start();
    receiver.wait_for(25);
    daemon.stop();
    let page = |args: &[&str]| {
        let question = ["payloads", "--json", "--tracking-number", "7"];
        let page = json(&site, &[&question, args].concat());
        let payloads = page["payloads"].as_array().unwrap().iter();
        let ids: Vec<String> = payloads
            .map(|payload| payload["payload_id"].as_str().unwrap().to_owned())
            .collect();
        (ids, page["next"].as_str().map(str::to_owned))
    };
    let (all, next) = page(&[]);
    assert_eq!((all.len(), next), (25, None));
    let (first, next) = page(&["--limit", "20"]);
    let (second, end) = page(&["--limit", "20", "--after", &next.unwrap()]);
    assert_eq!(([first, second].concat(), end), (all, None));
}

#[test]
fn what_is_set_aside_or_withdrawn_does_not_wait() {
    let webhook = |more: &str| {
        format!("[webhook.erp]\nurl = \"http://127.0.0.1:9/\"\nactive = false\n{more}")
    };
    let site = Site::new(&webhook(""));
    let daemon = site.start();
    let bad = r#"{"TrackingNumber":1,"Text":"\ud800"}"#;
    order(&site, "purchase_order", bad);
    site.enqueue("purchase_order", 2..=4);
    let withdraw = "INSERT INTO withdrawals (seq) VALUES (3)";
    site.producer().execute(withdraw, []).unwrap();
    while json(&site, &["status", "--json"])["queue"]["set_aside"] != 1 {
        std::thread::yield_now();
    }
    let counts = || {
        let status = json(&site, &["status", "--json"]);
        let webhook = &status["webhooks"][0];
        let any = status["queue"]["waiting"]["purchase_order"]["count"].clone();
        [any, webhook["waiting"].clone(), webhook["parked"].clone()]
    };
    assert_eq!(counts(), [2, 2, 0]);
    site.configure(&webhook("triggers = [\"work_order\"]\n"));
    daemon.reload();
    assert_eq!(counts(), [Value::Null, 0.into(), 2.into()]);
}

/// Nagios and its like: 0 ok, 1 warning, 2 critical, 3 unknown, and one line with figures.
#[test]
fn monitoring_gets_its_line_and_its_code() {
    let failing = Receiver::new(|number, _| {
        if number == 1 {
            Answer::Status(400, "")
        } else {
            OK
        }
    });
    let site = Site::new(&failing.webhook("erp", "retry_attempts = 0"));
    let line = |site: &Site| steady(&site.told(&["status", "--check"]));
    assert_snapshot!(line(&site), @"
    ORDERFEED CRITICAL - no daemon runs | waiting=0 oldest=0s failed=0 parked=0 set_aside=0 unclaimed=0
    [exit 2]
    ");
    let daemon = site.start();
    assert_snapshot!(line(&site), @"
    ORDERFEED OK - all is well; webhooks: 1 | waiting=0 oldest=0s failed=0 parked=0 set_aside=0 unclaimed=0
    [exit 0]
    ");
    site.enqueue("work_order", 1..=1);
    daemon.wait_for_line("failed");
    while !line(&site).contains("failed=1") {
        std::thread::yield_now();
    }
    assert_snapshot!(line(&site), @"
    ORDERFEED WARNING - failed payloads of erp: 1 | waiting=0 oldest=0s failed=1 parked=0 set_aside=0 unclaimed=0
    [exit 1]
    ");
    daemon.freeze();
    assert_snapshot!(line(&site), @"
    ORDERFEED CRITICAL - the daemon at ./admin.sock broke off: it has not answered within 5 s; whether it did what was asked, its log tells
    [exit 2]
    ");
    daemon.signal(rustix::process::Signal::CONT);
    std::fs::write(site.config(), "[queue]\npath = 1\n").unwrap();
    assert_snapshot!(line(&site), @"
    ORDERFEED UNKNOWN - ./config.toml:2: queue.path: found 1, allowed is a file's path, absolute or from this file's folder
    [exit 3]
    ");
}

/// The answers are the same whoever gives them.
#[test]
fn without_a_daemon_the_files_say_the_same() {
    let receiver = Receiver::ok();
    let site = Site::new(&receiver.webhook("erp", ""));
    site.enqueue("purchase_order", 1..=3);
    let daemon = site.start();
    receiver.wait_until(|arrived| {
        arrived
            .iter()
            .map(|request| request.orders().1.len())
            .sum::<usize>()
            >= 3
    });
    let questions: [&[&str]; 4] = [
        &["payloads", "--json"],
        &["trace", "2", "--json"],
        &["reconcile", "--json"],
        &["trace", "3"],
    ];
    while json(&site, &["webhooks", "show", "erp", "--json"])["payload_id"].is_string() {
        std::thread::yield_now();
    }
    let ask = || questions.map(|question| steady(&site.told(question)));
    let by_socket = ask();
    daemon.stop();
    assert_eq!(ask(), by_socket);
}

/// D27: it has no place yet, and says what it needs.
#[test]
fn a_webhook_without_a_place_says_what_it_needs() {
    let site = Site::new("[webhook.erp]\nurl = \"http://127.0.0.1:9/\"\nactive = false\n");
    site.enqueue("work_order", 1..=1);
    assert_snapshot!(told(&site, &["status"]), @"
    No daemon runs: nothing is sent. `orderfeed run` or `systemctl start orderfeed` starts it.
    waiting:  1 work order, the oldest since TIME

    WEBHOOK  STATE  SINCE  WAITING  PARKED  FAILED  LAST SUCCESS
    erp  inactive  -  1  0  0  -

    erp: its configuration says active = false; next: nothing, as no daemon runs
    [exit 0]
    ");
    site.start().stop();
    site.configure("[webhook.mes]\nurl = \"http://127.0.0.1:9/\"\nactive = false\n");
    assert_snapshot!(told(&site, &["status"]), @r#"
    No daemon runs: nothing is sent. `orderfeed run` or `systemctl start orderfeed` starts it.
    waiting:  1 work order, the oldest since TIME
    unclaimed: 1, which no webhook takes

    WEBHOOK  STATE  SINCE  WAITING  PARKED  FAILED  LAST SUCCESS
    erp  inactive  -  1  0  0  -
    mes  held  -  0  0  0  -

    erp: it is not configured any more; it keeps its place, and goes on collecting; next: nothing, until the configuration has it again
    mes: webhook mes is new beside others, and must say where it begins: start = "oldest" sends it all orders in the queue (newest: 1), start = "now" those queued from now on, and renamed_from = "NAME" goes on where a removed webhook stood; next: nothing, until it has a place in the queue
    [exit 0]
    "#);
    assert_snapshot!(told(&site, &["trace", "1"]), @r#"
    Order 1: work_order.submit, number 1 in the queue, queued TIME
      erp: waiting: no daemon runs; erp is not configured any more
      mes: waiting: webhook mes is new beside others, and must say where it begins: start = "oldest" sends it all orders in the queue (newest: 1), start = "now" those queued from now on, and renamed_from = "NAME" goes on where a removed webhook stood
    [exit 0]
    "#);
}

/// The README's terminal session, run again: the commands that stand there behind `$`, and what they
/// print.
#[test]
fn the_readmes_session_is_true() {
    let readme = include_str!("../../README.md");
    let (_, part) = readme.split_once("## An order has not arrived\n").unwrap();
    let part = part.split("\n## ").next().unwrap();
    let session: Vec<&str> = part
        .lines()
        .filter_map(|line| line.strip_prefix("    "))
        .collect();
    let receiver = Receiver::new(|_, request| match request.header("authorization") {
        "Bearer new" => OK,
        _ => Answer::Status(401, "\n\nunknown token"),
    });
    let webhook = |token: &str| {
        receiver.webhook(
            "erp",
            &format!("retry_attempts = 0\nauthorization = \"Bearer {token}\""),
        )
    };
    let site = Site::new(&webhook("old"));
    site.enqueue("purchase_order", [4711]);
    let _daemon = site.start();
    let failed = loop {
        let failed = json(&site, &["payloads", "--json", "--state", "failed"]);
        if let Some(id) = failed["payloads"][0]["payload_id"].as_str() {
            break id.to_owned();
        }
    };
    let mut found = String::new();
    for line in session.iter().filter_map(|line| line.strip_prefix("$ ")) {
        let words = line.split(' ').map(|word| {
            if word.starts_with("pl_") {
                &failed
            } else {
                word
            }
        });
        found += &format!("$ {}\n", words.collect::<Vec<_>>().join(" "));
        match line.split(' ').collect::<Vec<_>>().as_slice() {
            ["sed", ..] => site.configure(&webhook("new")),
            ["orderfeed", args @ ..] => {
                let args = args.iter().map(|arg| {
                    if arg.starts_with("pl_") {
                        failed.as_str()
                    } else {
                        arg
                    }
                });
                let args: Vec<&str> = args.collect();
                let (status, output) = site.run(&args);
                assert!(status.success(), "{line}: {output}");
                found += &output.replace("./config.toml", "/etc/orderfeed/config.toml");
                if args[0] == "resend" {
                    receiver.wait_for(2);
                    while json(&site, &["payloads", "--json", "--state", "failed"])["payloads"][0]
                        .is_object()
                    {
                        std::thread::yield_now();
                    }
                }
            }
            _ => panic!("{line}"),
        }
        found.push('\n');
    }
    // The README's lines have blank ones between them only where they are cut by its words.
    let lines = |text: &str| -> Vec<String> {
        let text = steady(&text.replace(&receiver.address().to_string(), "127.0.0.1:8080"));
        let full = text.lines().filter(|line| !line.is_empty());
        full.map(str::to_owned).collect()
    };
    assert_eq!(lines(&session.join("\n")), lines(&found), "{found}");
}
