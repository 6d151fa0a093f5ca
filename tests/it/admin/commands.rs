//! The commands that ask over the socket: what they print, and their exit codes (contract, section 7).

use std::io::Write;
use std::process::Stdio;

use insta::assert_snapshot;
use orderfeed::clock::Reading;
use orderfeed::store::ledger::Ledger;
use serde_json::{Value, json};

use super::Asked;
use crate::support::{Answer, Receiver, Site};

#[test]
fn without_a_daemon_it_says_so() {
    let site = Site::new("");
    assert_snapshot!(site.told(&["reload"]), @"
    orderfeed: the daemon can't be reached at ./admin.sock: there is no socket; does it run? (`systemctl status orderfeed`, or start it with `orderfeed run`)
    [exit 3]
    ");
    let daemon = site.start();
    daemon.kill();
    assert_snapshot!(site.told(&["tail"]), @"
    orderfeed: the daemon can't be reached at ./admin.sock: nobody answers there; does it run? (`systemctl status orderfeed`, or start it with `orderfeed run`)
    [exit 3]
    ");
}

#[test]
fn a_broken_file_fails_the_reload_with_all_that_is_wrong() {
    let receiver = Receiver::ok();
    let site = Site::new(&receiver.webhook("erp", ""));
    let daemon = site.start();
    assert_snapshot!(site.told(&["reload"]), @"
    ./config.toml is reloaded
    [exit 0]
    ");
    site.enqueue("purchase_order", 1..=1);
    receiver.wait_for(1);
    site.configure(&receiver.webhook("erp", "active = false"));
    assert_snapshot!(site.told(&["reload", "--dry-run"]), @"
    ./config.toml is valid
    erp: inactive; nothing waits
    [exit 0]
    ");
    // The old one holds: nothing was reloaded.
    site.enqueue("purchase_order", 2..=2);
    receiver.wait_for(2);
    site.configure(&receiver.webhook("erp", "retry_gapp = \"1s\"\npayload_max_items = 0"));
    assert_snapshot!(site.told(&["reload"]), @r#"
    orderfeed: ./config.toml:10: webhook.erp.retry_gapp: unknown key; did you mean "retry_gap"?
    ./config.toml:11: webhook.erp.payload_max_items: found 0, allowed is a whole number from 1 to 10000
    [exit 2]
    "#);
    let (status, answer) = Asked(&site).call("POST", "/v1/reload", "");
    assert_eq!(
        (status, &answer["error"]["code"]),
        (422, &"bad_config".into())
    );
    site.enqueue("purchase_order", 3..=3);
    receiver.wait_for(3);
    daemon.stop();
}

/// The socket is found by the configuration alone: neither its other keys nor its secrets count.
#[test]
fn a_broken_configuration_does_not_hide_the_socket() {
    let site = Site::new("");
    let _daemon = site.start();
    site.configure("[webhook.erp]\nurl = \"nowhere\"\nauthorization = { file = \"missing\" }\n");
    let told = site.told(&["reload"]);
    assert!(
        told.contains("webhook.erp.url") && told.ends_with("[exit 2]"),
        "{told}"
    );
}

#[test]
fn tail_shows_what_happens() {
    let receiver = Receiver::ok();
    let site = Site::new(&receiver.webhook("erp", ""));
    let daemon = site.start();
    let mut tail = site.command(&["tail", "--json"]);
    tail.stdout(Stdio::piped()).stderr(Stdio::null());
    let mut tail = tail.spawn().unwrap();
    let mut out = tail.stdout.take().unwrap();
    // It reads once something came.
    let mut seen = String::new();
    for number in 1.. {
        site.enqueue("purchase_order", number..=number);
        receiver.wait_for(usize::try_from(number).unwrap());
        if poll(&out) {
            break;
        }
    }
    super::read_until(&mut out, &mut seen, "\"outcome\":\"delivered\"");
    daemon.stop();
    super::read_until(&mut out, &mut seen, "{\"event\":\"stopping\"}");
    assert_eq!(tail.wait().unwrap().code(), Some(3));
}

/// What operators do is told, too, and what becomes of parts and copies.
#[test]
fn the_stream_tells_of_resends_and_discards() {
    let receiver = Receiver::new(|index, _| Answer::Status(if index <= 2 { 500 } else { 200 }, ""));
    let site = Site::new(&receiver.webhook("erp", "retry_attempts = 0"));
    let daemon = site.start();
    site.enqueue("purchase_order", 1..=1);
    daemon.wait_for_line("failed for good");
    let id = receiver.arrived()[0].header("webhook-id").to_owned();
    let mut stream = Asked(&site).connect();
    stream
        .write_all(b"GET /v1/stream HTTP/1.1\r\nhost: x\r\n\r\n")
        .unwrap();
    let mut seen = String::new();
    super::read_until(&mut stream, &mut seen, ": reading");
    let copy = json!({ "payload_id": id, "as_new": true });
    let mut ids = vec![id.clone()];
    for state in ["failed", "delivered"] {
        let (status, answer) = Asked(&site).post("/v1/resend", &copy);
        assert_eq!(status, 200, "{answer}");
        let copy = answer["resends"][0]["payload_id"].as_str().unwrap();
        ids.push(copy.to_owned());
        let wanted = format!("{copy}\",\"state\":\"{state}");
        super::read_until(&mut stream, &mut seen, &wanted);
        if state == "failed" {
            let path = format!("/v1/payloads/{copy}/discard");
            let reason = json!({ "reason": "sold" });
            assert_eq!(Asked(&site).post(&path, &reason).0, 200);
        }
    }
    let events = seen.lines().filter_map(|line| line.strip_prefix("data: "));
    let mut told = String::new();
    for event in events {
        let event: Value = serde_json::from_str(event).unwrap();
        let payload = ids.iter().position(|id| event["payload_id"] == id.as_str());
        // What became of the first one may be told before, or after.
        let Some(payload) = payload.filter(|&payload| payload > 0) else {
            continue;
        };
        let what = [&event["state"], &event["outcome"], &event["reason"]];
        let what: Vec<&str> = what.into_iter().filter_map(Value::as_str).collect();
        told += &format!("{payload} {}\n", what.join(" "));
    }
    assert_snapshot!(told, @"
    1 pending it is to be sent again
    1 in_flight
    1 failed
    1 failed answered 500
    1 discarded sold
    2 pending it is to be sent again
    2 in_flight
    2 delivered
    2 delivered
    ");
}

/// What operators type, one after the other: what they are told, and the exit codes.
#[test]
fn what_operators_do_and_what_is_refused() {
    let receiver = Receiver::new(|index, _| Answer::Status(if index == 1 { 500 } else { 200 }, ""));
    let site = Site::new(&receiver.webhook("erp", "retry_attempts = 0"));
    site.enqueue("purchase_order", 1..=1);
    let daemon = site.start();
    daemon.wait_for_line("failed for good");
    let id = receiver.arrived()[0].header("webhook-id").to_owned();
    let unknown = "pl_01K0ABCDEFGHJKMNPQRSTVWXYZ";
    let mut told = String::new();
    for args in [
        &["pause", "nobody"][..],
        &["pause", "erp"],
        &["pause", "erp"],
        &["retry-now", "erp"],
        &["resume", "erp"],
        &["resume", "erp"],
        &["retry-now", "erp"],
        &["test", "nobody"],
        &["withdraw", "4711"],
        &["withdraw", "1"],
        &["withdraw", "1"],
        &["resend"],
        &["resend", "--failed", "--force", "--skip-superseded"],
        &["resend", unknown],
        &["resend", "--tracking-number", "4711"],
        &["discard", &id],
        &["discard", unknown, "--reason", "sold"],
        &["discard", &id, "--reason", " "],
        &["discard", &id, "--reason", "sold"],
        &["discard", &id, "--reason", "sold"],
        &["resend", &id],
    ] {
        let (status, answer) = site.run(args);
        let first = answer.lines().next().unwrap_or_default();
        // Who runs the tests is told, and where the receiver is.
        let first = first.split("; it was paused by").next().unwrap_or_default();
        let first = first.replace(&receiver.url(), "URL");
        let code = status.code().unwrap();
        told += &format!("{} -> {code}: {first}\n", args.join(" "));
    }
    assert_snapshot!(told.replace(&id, "ID").replace(unknown, "UNKNOWN"), @r#"
    pause nobody -> 1: orderfeed: there is no webhook "nobody"; there are: erp
    pause erp -> 0: erp is paused; its orders wait until `orderfeed resume erp`, and only resends and tests go
    pause erp -> 1: orderfeed: erp is paused already
    retry-now erp -> 1: orderfeed: erp is paused, and retries nothing; `orderfeed resume erp` lets it go on
    resume erp -> 0: erp goes on
    resume erp -> 1: orderfeed: erp is neither paused, deactivated, held nor down
    retry-now erp -> 1: orderfeed: nothing waits for a retry at erp
    test nobody -> 1: orderfeed: there is no webhook "nobody"; there are: erp
    withdraw 4711 -> 1: orderfeed: there is no order 4711 in the queue
    withdraw 1 -> 0: purchase_order 1 is withdrawn
    withdraw 1 -> 1: orderfeed: order 1 was withdrawn before; nothing is left to do
    resend -> 2: error: the following required arguments were not provided:
    resend --failed --force --skip-superseded -> 2: error: the argument '--force' cannot be used with '--skip-superseded'
    resend UNKNOWN -> 1: orderfeed: there is no payload UNKNOWN; `orderfeed payloads` lists them
    resend --tracking-number 4711 -> 1: orderfeed: there is no order 4711 in the queue
    discard ID -> 2: error: the following required arguments were not provided:
    discard UNKNOWN --reason sold -> 1: orderfeed: there is no payload UNKNOWN; `orderfeed payloads` lists them
    discard ID --reason   -> 1: orderfeed: reason: say why, in at most 500 characters; it is shown with the payload
    discard ID --reason sold -> 0: given up: it is not sent again, unless somebody resends it
    discard ID --reason sold -> 1: orderfeed: payload ID is discarded already; there is nothing left to give up
    resend ID -> 0: erp: ID goes to URL again: 1 purchase_order.submit
    "#);
    let (status, tests) = site.run(&["test", "erp", "--json"]);
    let tests: Value = serde_json::from_str(&tests).unwrap();
    assert_eq!(
        (status.code(), &tests["testsSucceeded"]),
        (Some(0), &json!(3))
    );
    let events: Vec<_> = tests["tests"].as_array().unwrap().iter().collect();
    let events: Vec<_> = events
        .iter()
        .map(|test| test["event"].as_str().unwrap())
        .collect();
    assert_eq!(
        events,
        [
            "purchase_order.submit",
            "transfer_order.submit",
            "work_order.submit"
        ]
    );
}

/// What is no payload id is a mistake of whoever types it, for each command.
#[test]
fn what_is_no_payload_id_is_wrong_usage() {
    let site = Site::bare("");
    for args in [
        &["show", "pl_x"][..],
        &["resend", "pl_x"],
        &["discard", "pl_x", "--reason", "sold"],
        &["trace", ""],
        &["withdraw", ""],
    ] {
        assert_eq!(site.run(args).0.code(), Some(2), "{args:?}");
    }
}

/// Whoever asks while a daemon starts, and has no socket yet, waits a moment for it.
#[test]
fn a_question_waits_for_a_daemon_that_starts() {
    let site = Site::new("");
    // As a daemon holds it that starts.
    let held = Ledger::open(&site.ledger(), &Reading::take()).unwrap();
    let mut asks = site.command(&["status"]);
    asks.stdout(Stdio::piped()).stderr(Stdio::piped());
    let asks = asks.spawn().unwrap();
    drop(held);
    let _daemon = site.start();
    let answer = asks.wait_with_output().unwrap();
    assert_eq!(answer.status.code(), Some(0), "{answer:?}");
    let _held = {
        let other = Site::new("");
        let held = Ledger::open(&other.ledger(), &Reading::take()).unwrap();
        let told = other.told(&["status"]);
        let pid = std::process::id().to_string();
        assert_snapshot!(told.replace(&pid, "PID"), @"
        orderfeed: ./l/ledger.db is held by process PID; only one process may use a ledger at a time, and no daemon answers at its socket
        [exit 3]
        ");
        held
    };
}

/// Whether there is something to read.
fn poll(out: &impl std::os::fd::AsFd) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let mut watched = [PollFd::new(out, PollFlags::IN)];
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 50_000_000,
    };
    poll(&mut watched, Some(&now)).unwrap() > 0
}

#[test]
fn a_shell_is_told_the_webhooks_that_there_are() {
    let receiver = Receiver::ok();
    let site = Site::new(&(receiver.webhook("erp", "") + &receiver.webhook("mes", "")));
    let complete = |words: &[&str]| {
        let mut command = site.command(&["--", "orderfeed"]);
        command
            .args(words)
            .env("_ORDERFEED_COMPLETE", "fish")
            .env("_CLAP_COMPLETE_INDEX", words.len().to_string());
        let output = command.output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    // Nobody is there to ask: the configuration has them.
    assert!(complete(&["pause", ""]).contains("erp"));
    let _daemon = site.start();
    let proposed = complete(&["pause", ""]);
    assert!(
        proposed.contains("erp") && proposed.contains("mes"),
        "{proposed}"
    );
    assert!(!complete(&["pause", "m"]).contains("erp"));
    assert!(complete(&["retry"]).contains("retry-now"));
    assert!(complete(&["payloads", "--state", "f"]).contains("failed"));
    assert!(complete(&["resend", "--type", "w"]).contains("work_order"));
    let script = site.told(&["completions", "bash"]);
    assert!(script.contains("_ORDERFEED_COMPLETE=\"bash\""), "{script}");
}

#[test]
fn there_is_a_manual_page_for_each_command() {
    let site = Site::bare("");
    let page = site.told(&["man", "reload"]);
    assert!(page.contains(".TH orderfeed-reload 1"), "{page}");
    assert_snapshot!(site.told(&["man", "fly"]), @r#"
    orderfeed: there is no command "fly"; `orderfeed --help` lists them
    [exit 2]
    "#);
    assert_eq!(site.told(&["man", "--to", "."]), "[exit 0]");
    let help = site.told(&["--help"]);
    let commands = help
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.strip_prefix("  ")?.split(' ').next())
        .filter(|name| !name.is_empty() && *name != "help");
    for command in commands {
        assert!(
            site.file(&format!("orderfeed-{command}.1")).exists(),
            "{command}"
        );
    }
}
