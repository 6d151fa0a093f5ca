//! The admin socket: who may do what there, what it answers, and what it bears (contract, section 6).
//!
//! - here: callers, their roles, what is refused, the socket's file, limits
//! - `described`: each call's real answer against `docs/openapi.json`
//! - `commands`: the commands that ask over the socket

mod commands;
mod described;

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Command, Stdio};

use insta::assert_snapshot;
use serde_json::{Value, json};

use crate::producers::skip;
use crate::support::{Daemon, PATIENCE, Receiver, Site};

/// A site whose admin socket is asked.
pub(crate) struct Asked<'a>(pub(crate) &'a Site);

impl Asked<'_> {
    pub(crate) fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(self.0.file("admin.sock")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// The bytes of a request, and of its answer.
    pub(crate) fn raw(&self, request: &[u8]) -> String {
        let mut stream = self.connect();
        // It may be refused before it is all sent.
        drop(stream.write_all(request));
        let mut answer = Vec::new();
        drop(stream.read_to_end(&mut answer));
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// The status and the body of a call's answer.
    pub(crate) fn call(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        let answer = self.raw(request.as_bytes());
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, serde_json::from_str(body).unwrap_or(Value::Null))
    }

    pub(crate) fn get(&self, path: &str) -> (u16, Value) {
        self.call("GET", path, "")
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        self.call("POST", path, &body.to_string())
    }

    /// A refusal in a line.
    fn refusal(&self, method: &str, path: &str, body: &str) -> String {
        let (status, answer) = self.call(method, path, body);
        let error = &answer["error"];
        let text = |name: &str| error[name].as_str().unwrap_or("?").to_owned();
        format!("{status} {}: {}", text("code"), text("message"))
    }
}

#[test]
fn what_can_not_be_meant_is_refused_with_what_to_do() {
    let site = Site::new("");
    let _daemon = site.start();
    let asked = Asked(&site);
    let large = format!("{{\"dry_run\": \"{}\"}}", "x".repeat(70_000));
    let refusals = [
        asked.refusal("GET", "/v1/nothing", ""),
        asked.refusal("DELETE", "/v1/health", ""),
        asked.refusal("PUT", "/v1/orders", ""),
        asked.refusal("POST", "/v1/reload", "{\"dry_run\":"),
        asked.refusal("POST", "/v1/reload", "{\"dryrun\": true}"),
        asked.refusal("POST", "/v1/reload", &large),
        asked.refusal("POST", "/v1/adopt-queue", "{}"),
        asked.refusal("POST", "/v1/adopt-queue", "{\"all_new\": true}"),
        asked.refusal("POST", "/v1/orders", "{\"type\": \"po\", \"order\": {}}"),
        asked.refusal("POST", "/v1/orders", "{\"order\": {}}"),
        asked.refusal(
            "POST",
            "/v1/orders",
            "[{\"type\": \"work_order\", \"order\": {\"TrackingNumber\": 1}}, {\"type\": \"work_order\", \"order\": {}}]",
        ),
        asked.refusal("GET", "/v1/webhooks/erp", ""),
        asked.refusal("GET", "/v1/payloads/pl_1", ""),
        asked.refusal("GET", "/v1/payloads?limit=0", ""),
        asked.refusal("GET", "/v1/orders/%ff", ""),
        asked.refusal("GET", "/v1/payloads/%ff/attempts", ""),
        asked.refusal("POST", "/v1/webhooks/%ff/pause", "{}"),
    ];
    assert_snapshot!(refusals.join("\n"), @r#"
    404 not_found: there is nothing at /v1/nothing; GET /v1/openapi.json describes what there is
    405 method_not_allowed: DELETE is not known here; allowed is GET
    405 method_not_allowed: PUT is not known here; allowed is POST
    400 bad_json: the body is not JSON: EOF while parsing a value at line 1 column 11
    422 invalid: the body is not what this call takes: unknown field `dryrun`, expected `dry_run` at line 1 column 9
    413 too_large: the body is larger than 64 KiB, which is the most that this call takes
    422 invalid: say either resend_from (the seq of an order, from 1) or all_new = true
    409 nothing_to_adopt: queue and ledger belong together; there is nothing to adopt, and nothing was changed
    422 invalid: type: must be purchase_order, transfer_order or work_order
    422 invalid: the body is not what this call takes: missing field `type` at line 1 column 13
    422 invalid: order 2 of the list: TrackingNumber: must be a member of the order itself, spelled without escapes; none was queued
    404 not_found: there is no webhook "erp"; there are none
    422 invalid: payload_id: must be pl_ and 26 characters, as in pl_01K0ABCDEFGHJKMNPQRSTVWXYZ; found "pl_1"
    422 invalid: limit: must be a number from 1 to 1000; found "0"
    400 bad_request: the path can't be read: Invalid URL: Invalid UTF-8 in `tracking_number`
    400 bad_request: the path can't be read: Invalid URL: Invalid UTF-8 in `payload_id`
    400 bad_request: the path can't be read: Invalid URL: Invalid UTF-8 in `name`
    "#);
    let (_, orders) = asked.get("/v1/orders/1");
    assert_eq!(
        orders["orders"].as_array().map_or(0, Vec::len),
        0,
        "none of the list was queued"
    );
}

/// As another user, with this group and no other: what `curl` gets.
fn as_user(site: &Site, uid: u32, gid: u32, method: &str, path: &str) -> Option<String> {
    sends_as(site, (uid, gid), method, path, "")
}

/// The same, with something to send.
fn sends_as(
    site: &Site,
    (uid, gid): (u32, u32),
    method: &str,
    path: &str,
    body: &str,
) -> Option<String> {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root || Command::new("setpriv").arg("--version").output().is_err() {
        skip("only root can call as another user, with setpriv of util-linux");
        return None;
    }
    if Command::new("curl").arg("--version").output().is_err() {
        skip("there is no curl");
        return None;
    }
    let folder = site.folder();
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
    let socket = site.file("admin.sock");
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o666)).unwrap();
    let output = Command::new("setpriv")
        .args([
            "--reuid",
            &uid.to_string(),
            "--regid",
            &gid.to_string(),
            "--clear-groups",
        ])
        .args(["curl", "-sS", "-X", method, "--unix-socket"])
        .arg(&socket)
        .args(["-w", " %{http_code}", "-o", "-", "-d", body])
        .arg(format!("http://localhost{path}"))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Some(text + &String::from_utf8_lossy(&output.stderr))
}

/// What `curl` gets, as its status alone.
fn status_for(site: &Site, uid: u32, gid: u32, method: &str, path: &str) -> Option<String> {
    let answer = as_user(site, uid, gid, method, path)?;
    answer.rsplit(' ').next().map(str::to_owned)
}

/// A user and a group that every system has; `games` is user 5 and in group 60 by the user database.
const NOBODY: u32 = 65_534;
const GAMES: (u32, u32) = (5, 60);

#[test]
fn who_has_no_grant_may_do_nothing() {
    let site = Site::new("");
    let daemon = site.start();
    let Some(answer) = as_user(&site, NOBODY, NOBODY, "GET", "/v1/status") else {
        return;
    };
    assert_snapshot!(answer, @r#"{"error":{"code":"forbidden","message":"nobody may not do this: it takes the role viewer (or operator, or admin); an administrator grants it to a user or a group with [[admin.grant]] in the configuration"}} 403"#);
    let line = daemon.wait_for_line("refused with 403");
    let told = line.split_once("admin: ").unwrap().1;
    let (before, after) = told.split_once("pid ").unwrap();
    assert_eq!(before, "nobody (uid 65534, ");
    assert!(
        after.contains("): GET /v1/status: refused with 403: nobody may not do this"),
        "{after}"
    );
}

#[test]
fn each_role_may_do_what_it_says_and_no_more() {
    let site = Site::new("");
    let calls = [
        ("GET", "/v1/status"),
        ("POST", "/v1/orders"),
        ("POST", "/v1/webhooks/erp/pause"),
        ("POST", "/v1/reload"),
    ];
    let mut seen = String::new();
    for role in ["viewer", "producer", "operator", "admin"] {
        site.configure(&format!(
            "[[admin.grant]]\nuser = \"nobody\"\nrole = \"{role}\"\n"
        ));
        let daemon = site.start();
        seen.push_str(role);
        for (method, path) in calls {
            let Some(status) = status_for(&site, NOBODY, NOBODY, method, path) else {
                return;
            };
            // What is let through is refused for other reasons: there is no such webhook, and no order.
            seen.push_str(if status == "403" { " no" } else { " yes" });
        }
        seen.push('\n');
        daemon.stop();
    }
    assert_snapshot!(seen, @"
    viewer yes no no no
    producer no yes no no
    operator yes yes yes no
    admin yes yes yes yes
    ");
}

/// A grant may be for orders of some types alone.
#[test]
fn a_producer_queues_and_withdraws_only_what_is_granted() {
    let site = Site::new(
        "[[admin.grant]]\nuser = \"nobody\"\nrole = \"producer\"\norder_types = [\"purchase_order\"]\n",
    );
    let _daemon = site.start();
    let ask =
        |path, body: &Value| sends_as(&site, (NOBODY, NOBODY), "POST", path, &body.to_string());
    let order =
        |order_type, number| json!({ "type": order_type, "order": { "TrackingNumber": number } });
    let Some(taken) = ask("/v1/orders", &order("purchase_order", 1)) else {
        return;
    };
    assert!(taken.ends_with(" 201"), "{taken}");
    site.enqueue("work_order", 2..=2);
    let both = json!([order("purchase_order", 3), order("work_order", 3)]);
    let refused = ask("/v1/orders", &both).unwrap();
    assert_snapshot!(refused, @r#"{"error":{"code":"forbidden","message":"no grant of yours is for work_orders; an administrator adds them to its order_types, in [[admin.grant]] in the configuration"}} 403"#);
    let refused = ask("/v1/orders/2/withdraw", &json!({})).unwrap();
    assert!(refused.ends_with(" 403"), "{refused}");
    let withdrawn = ask("/v1/orders/1/withdraw", &json!({})).unwrap();
    assert!(withdrawn.ends_with(" 200"), "{withdrawn}");
}

/// A group counts when the caller runs with it, and also when the user database has the user in it;
/// a reload changes what is granted, also for the connections that are open.
#[test]
fn groups_count_and_grants_are_reloaded() {
    let site = Site::new("");
    let daemon = site.start();
    let status = |uid, gid| status_for(&site, uid, gid, "GET", "/v1/status");
    let Some(before) = status(GAMES.0, NOBODY) else {
        return;
    };
    assert_eq!(before, "403");
    site.configure("[[admin.grant]]\ngroup = \"games\"\nrole = \"viewer\"\n");
    daemon.reload();
    assert_eq!(status(GAMES.0, NOBODY).unwrap(), "200");
    assert_eq!(status(NOBODY, GAMES.1).unwrap(), "200");
    assert_eq!(status(NOBODY, NOBODY).unwrap(), "403");
    site.configure("");
    daemon.reload();
    assert_eq!(status(GAMES.0, GAMES.1).unwrap(), "403");
}

/// Nothing that a caller sends can look like a line of its own, nor move a terminal's cursor.
#[test]
fn no_caller_can_forge_a_line_of_the_log() {
    let site = Site::new("");
    let daemon = site.start();
    let asked = Asked(&site);
    asked.call("GET", "/v1/x%0aERROR%20forged", "");
    asked.raw(b"GET /v1/webhooks/a%0a09:00:00%20ERROR%20forged%1b[2J%e2%80%ae HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    let body = json!({ "\nERROR forged\u{1b}[2J": 1 });
    asked.post("/v1/reload", &body);
    asked.call("POST", "/v1/orders/a%0aERROR%20forged/withdraw", "{}");
    daemon.wait_for_line("/withdraw");
    for line in daemon.log() {
        let starts_as_ours = line.get(2..3) == Some(":") && line.get(5..6) == Some(":");
        assert!(starts_as_ours, "{line:?}");
        assert!(!line.contains(['\u{1b}', '\u{202e}', '\r']), "{line:?}");
    }
}

#[test]
fn a_change_is_told_with_who_made_it() {
    let site = Site::new("");
    let daemon = site.start();
    let order = json!({ "type": "work_order", "order": { "TrackingNumber": 7 } });
    assert_eq!(Asked(&site).post("/v1/orders", &order).0, 201);
    let line = daemon.wait_for_line("POST /v1/orders");
    let pid = std::process::id();
    let expected = format!("pid {pid}): POST /v1/orders: order 1 queued");
    assert!(line.contains(&expected), "{line}");
    // Who only looks leaves no line.
    Asked(&site).get("/v1/status");
    Asked(&site).post("/v1/orders", &order);
    daemon.wait_for_line("order 2 queued");
    assert!(!daemon.log().iter().any(|line| line.contains("/v1/status")));
}

#[test]
fn a_stale_socket_is_replaced_and_nothing_else() {
    let site = Site::new("");
    let socket = site.file("admin.sock");
    let daemon = site.start();
    let mode = fs::symlink_metadata(&socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    daemon.kill();
    assert!(socket.exists(), "a SIGKILL leaves it behind");
    let daemon = site.start();
    assert_eq!(Asked(&site).get("/v1/health").0, 200);
    daemon.stop();
    assert!(!socket.exists(), "it goes with the daemon");

    fs::write(&socket, "not a socket").unwrap();
    let daemon = site.start();
    let told = daemon.wait_for_line("there is no admin socket");
    assert!(
        told.contains("is there, and is no socket; it is left as it is"),
        "{told}"
    );
    daemon.stop();
    assert_eq!(fs::read_to_string(&socket).unwrap(), "not a socket");
    fs::remove_file(&socket).unwrap();

    let other = UnixListener::bind(&socket).unwrap();
    let daemon = site.start();
    daemon.wait_for_line("somebody else answers at");
    daemon.stop();
    drop(other);
    assert!(socket.exists(), "the other one's socket stays");

    let daemon = site.start();
    fs::remove_file(&socket).unwrap();
    let other = UnixListener::bind(&socket).unwrap();
    daemon.stop();
    assert!(socket.exists(), "it is not ours any more");
    drop(other);
}

/// One caller can't lock out another: of each user's connections only so many are taken.
#[test]
fn one_user_can_not_take_all_connections() {
    let site = Site::new("[[admin.grant]]\nuser = \"nobody\"\nrole = \"viewer\"\n");
    let daemon = site.start();
    let asked = Asked(&site);
    let held: Vec<UnixStream> = (0..16).map(|_| asked.connect()).collect();
    let refused = asked.raw(b"GET /v1/health HTTP/1.1\r\nhost: x\r\n\r\n");
    assert!(refused.starts_with("HTTP/1.1 503 "), "{refused}");
    let (head, body) = refused.split_once("\r\n\r\n").unwrap();
    assert!(
        head.contains(&format!("content-length: {}", body.len())),
        "{head}"
    );
    assert_eq!(
        serde_json::from_str::<Value>(body).unwrap()["error"]["code"],
        "too_many"
    );
    daemon.wait_for_line("connection refused: 16 of theirs are open");
    if let Some(status) = status_for(&site, NOBODY, NOBODY, "GET", "/v1/status") {
        assert_eq!(status, "200");
    }
    drop(held);
}

/// A command that is one too many is told so, and did nothing.
#[test]
fn a_command_that_is_refused_a_connection_says_so() {
    let site = Site::new("");
    let daemon = site.start();
    let held: Vec<UnixStream> = (0..16).map(|_| Asked(&site).connect()).collect();
    assert_snapshot!(site.told(&["reload"]), @"
    orderfeed: too many connections are open; end some of them (16 a user, 64 in all)
    [exit 3]
    ");
    drop(held);
    daemon.stop();
}

/// Who dawdles with what is to be queued holds up nobody else.
#[test]
fn slow_producers_hold_up_no_other() {
    let site = Site::new("");
    let _daemon = site.start();
    let slow: Vec<UnixStream> = (0..8)
        .map(|_| {
            let mut stream = Asked(&site).connect();
            let head = b"POST /v1/orders HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{";
            stream.write_all(head).unwrap();
            stream
        })
        .collect();
    let order = json!({ "type": "work_order", "order": { "TrackingNumber": 7 } });
    assert_eq!(Asked(&site).post("/v1/orders", &order).0, 201);
    drop(slow);
}

/// Who says nothing, or does not come to an end with it, is not kept.
#[test]
fn a_connection_that_asks_nothing_is_closed() {
    let site = Site::new("");
    let _daemon = site.start();
    let mut silent = Asked(&site).connect();
    let mut slow = Asked(&site).connect();
    slow.write_all(b"GET /v1/health HTTP/1.1\r\nhost:").unwrap();
    let mut answer = Vec::new();
    silent.read_to_end(&mut answer).unwrap();
    assert_eq!(String::from_utf8_lossy(&answer), "");
    slow.read_to_end(&mut answer).unwrap();
    assert!(
        !String::from_utf8_lossy(&answer).contains(" 200 "),
        "{answer:?}"
    );
}

#[test]
fn a_head_that_is_too_large_is_refused() {
    let site = Site::new("");
    let _daemon = site.start();
    let request = format!(
        "GET /v1/health HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n",
        "x".repeat(40_000)
    );
    let answer = Asked(&site).raw(request.as_bytes());
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
}

/// A queue that the ledger does not know: the daemon says so on the socket, sends nothing, and goes on
/// when it is adopted.
#[test]
fn a_daemon_that_stands_still_goes_on_when_the_queue_is_adopted() {
    let receiver = Receiver::ok();
    let site = Site::new(&receiver.webhook("erp", ""));
    site.enqueue("purchase_order", 1..=1);
    let daemon = site.start();
    daemon.wait_for_line("delivered 1");
    daemon.stop();
    replace_queue(&site);
    site.enqueue("purchase_order", 11..=12);
    let daemon = site.spawn(&[]);
    daemon.wait_for_line("stands still");
    let asked = Asked(&site);
    let health = asked.get("/v1/health");
    assert_eq!(
        (health.0, &health.1["error"]["code"]),
        (503, &json!("queue_mismatch"))
    );
    let message = health.1["error"]["message"].as_str().unwrap();
    assert!(message.contains("it was replaced"), "{message}");
    assert_eq!(asked.get("/v1/status").0, 503);
    // What the ledger alone knows is told.
    let (status, payloads) = asked.get("/v1/payloads");
    assert_eq!(status, 200, "{payloads}");
    let id = payloads["payloads"][0]["payload_id"].as_str().unwrap();
    assert_eq!(
        asked.get(&format!("/v1/payloads/{id}")).1["state"],
        "delivered"
    );
    let attempts = asked.get(&format!("/v1/payloads/{id}/attempts")).1;
    assert_eq!(
        attempts["attempts"][0]["outcome"], "delivered",
        "{attempts}"
    );
    for path in ["/v1/orders/1", "/v1/payloads?tracking_number=1"] {
        assert_eq!(asked.get(path).1["error"]["code"], "queue_mismatch");
    }
    let (status, line) = site.run(&["status", "--check"]);
    assert_eq!(status.code(), Some(2), "{line}");
    assert!(line.starts_with("ORDERFEED CRITICAL - "), "{line}");
    assert!(line.contains("it was replaced"), "{line}");
    assert_eq!(receiver.arrived().len(), 1);
    let told = site.told(&["adopt-queue", "--resend-from", "4"]);
    assert_snapshot!(told, @"
    orderfeed: there is no order 4 in the queue ./q/queue.db, whose newest is 2; say 3 to send none of them again, and all that are queued later
    [exit 1]
    ");
    let told = site.told(&["adopt-queue", "--all-new"]);
    assert_snapshot!(told, @"
    The ledger ./l/ledger.db goes on with the queue ./q/queue.db, with all orders in it; its newest order is 2.
    The daemon sends them.
    [exit 0]
    ");
    assert_eq!(receiver.wait_for(2)[1].summary(), "purchase_order 11,12");
    daemon.wait_for_line(" runs");
    assert_eq!(asked.get("/v1/health").0, 200);
}

/// SIGTERM ends a daemon that stands still, too.
#[test]
fn a_daemon_that_stands_still_can_be_stopped() {
    let site = Site::new("");
    site.start().stop();
    replace_queue(&site);
    let daemon = site.spawn(&[]);
    daemon.wait_for_line("stands still");
    assert_eq!(stopped(daemon), Some(0));
    assert!(!site.file("admin.sock").exists());
}

fn stopped(daemon: Daemon) -> Option<i32> {
    daemon.stop().0.code()
}

pub(crate) fn replace_queue(site: &Site) {
    for suffix in ["", "-wal", "-shm"] {
        let mut path = site.queue().into_os_string();
        path.push(suffix);
        drop(fs::remove_file(path));
    }
    site.initialise();
}

/// Whoever reads too slowly holds up nothing, and is told how many events it missed.
#[test]
fn a_slow_reader_of_the_stream_is_told_what_it_missed() {
    let receiver = Receiver::ok();
    let site = Site::new(&receiver.webhook("erp", "payload_max_items = 1"));
    let daemon = site.start();
    let mut stream = Asked(&site).connect();
    stream
        .write_all(b"GET /v1/stream HTTP/1.1\r\nhost: x\r\n\r\n")
        .unwrap();
    let mut seen = String::new();
    read_until(&mut stream, &mut seen, ": reading");
    site.enqueue("purchase_order", 1..=3_000);
    receiver.wait_for(3_000);
    read_until(&mut stream, &mut seen, "event: missed");
    daemon.signal(rustix::process::Signal::TERM);
    read_until(&mut stream, &mut seen, "event: stopping");
}

/// Reads on until that is there.
fn read_until(stream: &mut impl Read, seen: &mut String, wanted: &str) {
    let mut chunk = [0; 4_096];
    while !seen.contains(wanted) {
        let count = stream.read(&mut chunk).unwrap();
        assert_ne!(count, 0, "no {wanted:?} in {seen}");
        seen.push_str(&String::from_utf8_lossy(&chunk[..count]));
    }
}

/// The same by a program that people have.
#[test]
fn curl_can_ask() {
    if Command::new("curl").arg("--version").output().is_err() {
        skip("there is no curl");
        return;
    }
    let site = Site::new("");
    let _daemon = site.start();
    let curl = |args: &[&str]| {
        let output = Command::new("curl")
            .args(["-sS", "--unix-socket", "admin.sock"])
            .args(args)
            .current_dir(site.folder())
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(curl(&["http://localhost/v1/health"]), "{\"status\":\"ok\"}");
    let order =
        "{\"type\": \"work_order\", \"order\": {\"TrackingNumber\": \"A-1\", \"Cost\": 1.10}}";
    assert_eq!(
        curl(&["http://localhost/v1/orders", "-d", order]),
        "{\"orders\":[{\"seq\":1,\"type\":\"work_order\",\"tracking_number\":\"A-1\"}]}"
    );
    let stored: String = site
        .producer()
        .query_row("SELECT body FROM orders", [], |row| row.get(0))
        .unwrap();
    assert_eq!(stored, "{\"TrackingNumber\": \"A-1\", \"Cost\": 1.10}");
}
