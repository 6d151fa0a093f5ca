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
    out
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
    receivers[2].wait_for(2);
    receivers[3].wait_for(2);
    receivers[1].wait_for(1);
    for line in [
        "gone: deactivated",
        "slow: delivered",
        "retries: payload",
        "ok: delivered",
    ] {
        daemon.wait_for_line(line);
    }
    // Each outcome is recorded before the next line.
    let settled = || {
        let status = json(&site, &["webhooks", "list", "--json"]);
        let webhooks = status["webhooks"].as_array().unwrap();
        let of = |name: &str| {
            webhooks
                .iter()
                .find(|webhook| webhook["name"] == name)
                .unwrap()
                .clone()
        };
        of("refuses")["failed"] == 2 && of("ok")["waiting"] == 0 && of("ok")["payload_id"].is_null()
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
    assert_snapshot!(told(&met.site, &["trace", "1"]), @"");
    assert_snapshot!(told(&met.site, &["trace", "A/2"]), @"");
    assert_snapshot!(told(&met.site, &["trace", "4711"]), @"");
    met.gate.open();
    met.daemon.stop();
    assert_snapshot!(told(&met.site, &["trace", "A/2"]), @"");
}

#[test]
fn what_goes_on_at_a_glance() {
    let met = met();
    assert_snapshot!(told(&met.site, &["status"]), @"");
    assert_snapshot!(told(&met.site, &["webhooks", "show", "lingers"]), @"");
    assert_snapshot!(told(&met.site, &["webhooks", "show", "nobody"]), @"");
    let status = json(&met.site, &["status", "--json"]);
    assert_eq!(status["queue"]["waiting"]["purchase_order"]["count"], 2);
    assert!(!status.to_string().contains("s3cr3t"), "{status}");
    met.gate.open();
}

#[test]
fn each_order_is_accounted_for_and_a_lost_one_is_an_error() {
    let met = met();
    assert_snapshot!(told(&met.site, &["reconcile"]), @"");
    met.gate.open();
    met.daemon.stop();
    assert_snapshot!(told(&met.site, &["reconcile", "--since", "1h"]), @"");
    let ledger = rusqlite::Connection::open(met.site.ledger()).unwrap();
    let lost = "DELETE FROM payloads WHERE webhook_id = (SELECT webhook_id FROM webhooks WHERE name = 'ok')
        AND payload_id = (SELECT min(payload_id) FROM payloads AS p JOIN webhooks AS w USING (webhook_id) WHERE name = 'ok')";
    assert_eq!(ledger.execute(lost, []).unwrap(), 1);
    drop(ledger);
    assert_snapshot!(told(&met.site, &["reconcile"]), @"");
    assert_snapshot!(told(&met.site, &["trace", "1"]).lines().find(|line| line.starts_with("  ok")).unwrap_or_default(), @"");
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
    assert_snapshot!(told(&site, &["trace", "1"]), @"");
    assert_snapshot!(told(&site, &["trace", "3"]), @"");
    assert_snapshot!(told(&site, &["reconcile"]), @"");
    assert_snapshot!(told(&site, &["status"]), @"");
}

#[test]
fn payloads_are_listed_and_shown() {
    let met = met();
    assert_snapshot!(told(&met.site, &["payloads", "--state", "failed"]), @"");
    assert_snapshot!(told(&met.site, &["payloads", "--tracking-number", "1", "--webhook", "ok"]), @"");
    assert_snapshot!(told(&met.site, &["payloads", "--until", "1h"]), @"");
    assert_snapshot!(told(&met.site, &["payloads", "--webhook", "nobody"]), @"");
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
    assert_snapshot!(told(&met.site, &["show", id]), @"");
    assert_snapshot!(told(&met.site, &["show", id, "--body"]), @"");
    assert_snapshot!(told(&met.site, &["show", "pl_01M82E75EWT1K6JWPSMAYBQ9EZ"]), @"");
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
    assert_snapshot!(line(&site), @"");
    let daemon = site.start();
    assert_snapshot!(line(&site), @"");
    site.enqueue("work_order", 1..=1);
    daemon.wait_for_line("failed");
    while !line(&site).contains("failed=1") {
        std::thread::yield_now();
    }
    assert_snapshot!(line(&site), @"");
    std::fs::write(site.config(), "[queue]\npath = 1\n").unwrap();
    assert_snapshot!(line(&site), @"");
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
    assert_snapshot!(told(&site, &["status"]), @"");
    site.start().stop();
    site.configure("[webhook.mes]\nurl = \"http://127.0.0.1:9/\"\nactive = false\n");
    assert_snapshot!(told(&site, &["status"]), @"");
    assert_snapshot!(told(&site, &["trace", "1"]), @"");
}
