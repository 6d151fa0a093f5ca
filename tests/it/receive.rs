//! `orderfeed receive`: what it shows of the daemon's requests, and of requests made by hand.

use std::fs;
use std::io::{BufRead, BufReader, Lines, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStdout, Stdio};

use flate2::Compression;
use flate2::write::GzEncoder;
use insta::assert_snapshot;
use orderfeed::sender::signature::{SigningSecret, sign};
use rustix::process::{Pid, Signal, kill_process};

use crate::support::Site;

/// The program at work; killed when dropped.
struct Receiving {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    url: String,
}

impl Receiving {
    fn start(site: &Site, args: &[&str]) -> Self {
        let mut child = site
            .command(&[&["receive", "--listen", "127.0.0.1:0"], args].concat())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let first = lines.next().unwrap().unwrap();
        let url = first.find("http://").unwrap();
        let end = first[url..]
            .find("/\"")
            .or_else(|| first[url..].find("/,"))
            .unwrap();
        let url = first[url..=url + end].to_owned();
        Self { child, lines, url }
    }

    fn webhook(&self, more: &str) -> String {
        format!("[webhook.erp]\nurl = \"{}orders\"\n{more}\n", self.url)
    }

    /// The next line that it prints.
    fn line(&mut self) -> String {
        self.lines.next().unwrap().unwrap()
    }

    fn terminate(&self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
    }

    /// What it still prints to its end, what it says on standard error, and its exit code.
    fn rest(mut self) -> String {
        let mut text: Vec<String> = self.lines.by_ref().map(Result::unwrap).collect();
        let mut error = String::new();
        let mut stderr = self.child.stderr.take().unwrap();
        stderr.read_to_string(&mut error).unwrap();
        text.extend(error.lines().map(str::to_owned));
        text.push(format!(
            "[exit {}]",
            self.child.wait().unwrap().code().unwrap()
        ));
        text.join("\n").replace(&self.url, "URL")
    }

    /// Sends these bytes, and returns the answer's status and body.
    fn send(&self, request: &[u8]) -> String {
        let address = self.url.trim_start_matches("http://").trim_end_matches('/');
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(request).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let status = answer.split(' ').nth(1).unwrap_or("none");
        let body = answer.split("\r\n\r\n").nth(1).unwrap_or_default();
        format!("{status} {}", body.trim_end())
    }

    fn post(&self, headers: &str, body: &[u8]) -> String {
        let length = body.len();
        let head = format!(
            "POST /orders HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n"
        );
        self.send(&[head.as_bytes(), body].concat())
    }
}

impl Drop for Receiving {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The text with each payload id as `pl_111…`, `pl_222…`, in the order of their appearance, and each
/// time as `hh:mm:ss`.
fn tamed(text: &str) -> String {
    let mut text = text.to_owned();
    let mut number = 0;
    while let Some(at) = text.find("pl_0") {
        number += 1;
        let id = text[at..at + 29].to_owned();
        text = text.replace(&id, &format!("pl_{}", number.to_string().repeat(26)));
    }
    let times = |line: &str| {
        let is_time = line.len() > 8 && line.as_bytes()[2] == b':' && line.as_bytes()[5] == b':';
        if is_time {
            format!("hh:mm:ss{}", &line[8..])
        } else {
            line.to_owned()
        }
    };
    let lines: Vec<_> = text.lines().map(times).collect();
    lines.join("\n")
}

const ID: &str = "pl_01K9WPVG010000000000000000";
const OTHER_ID: &str = "pl_01K9WPVG020000000000000000";
const BODY: &[u8] = br#"{"DataType":"work_order","Data":[{"TrackingNumber":7}]}"#;

fn with_id(id: &str) -> String {
    format!("webhook-id: {id}\r\n")
}

#[test]
fn what_the_daemon_sends_is_shown_as_a_table() {
    let site = Site::new("");
    let mut receiving = Receiving::start(&site, &["--fail-every", "2", "--count", "5", "--bodies"]);
    site.configure(&receiving.webhook("payload_max_items = 2\nretry_gap = \"10ms\""));
    site.enqueue("purchase_order", 1..=4);
    site.producer()
        .execute(
            "INSERT INTO orders (order_type, action, body) VALUES ('work_order', 'FULFILLED-in-part', '{\"TrackingNumber\":\"W\",\n\"Note\":\"\u{9b}31m\"}')",
            [],
        )
        .unwrap();
    let daemon = site.start();
    let mut head = Vec::new();
    while !head
        .last()
        .is_some_and(|line: &String| line.contains("payload id"))
    {
        head.push(receiving.line());
    }
    let url = receiving.url.clone();
    let text = format!("{}\n{}", head.join("\n"), receiving.rest());
    daemon.stop();
    let text = tamed(&text.replace(&url, "URL"));
    for line in text.lines() {
        assert!(line.chars().count() <= 80, "wider than a terminal: {line}");
    }
    assert_snapshot!(text, @r#"

        [webhook.try]
        url = "URL"

        time  type            items  payload id                     try  answer
    hh:mm:ss  PO                  2  pl_11111111111111111111111111    1  200 new
              {"TrackingNumber":1}
              {"TrackingNumber":2}
    hh:mm:ss  PO                  2  pl_22222222222222222222222222    1  503 new
              {"TrackingNumber":3}
              {"TrackingNumber":4}
    hh:mm:ss  PO                  2  pl_22222222222222222222222222    2  200 again
              {"TrackingNumber":3}
              {"TrackingNumber":4}
    hh:mm:ss  WO FULFILLED-i~     1  pl_33333333333333333333333333    1  503 new
              {"TrackingNumber":"W", "Note":" 31m"}
    hh:mm:ss  WO FULFILLED-i~     1  pl_33333333333333333333333333    2  200 again
              {"TrackingNumber":"W", "Note":" 31m"}

    requests: 5; taken: 3, refused as asked: 2, repeats: 0, bad: 0; alarms: 0

                               orders   distinct
      purchase orders (PO)          4          4
      transfer orders (TO)          0          0
      work orders (WO)              1          1
    [exit 0]
    "#);
}

#[test]
fn what_the_daemon_sends_is_shown_as_json() {
    let site = Site::new("");
    let receiving = Receiving::start(&site, &["--json", "--bodies", "--count", "1"]);
    site.configure(&receiving.webhook(""));
    site.enqueue("transfer_order", 1..=2);
    let daemon = site.start();
    let text = receiving.rest();
    daemon.stop();
    let at = text.find("\"at\":\"").unwrap() + 6;
    let text = text.replace(&text[at..at + 24], "AT");
    assert_snapshot!(tamed(&text), @r#"
    {"at":"AT","status":200,"verdict":"new","payload_id":"pl_11111111111111111111111111","type":"transfer_order","action":"submit","items":2,"attempt":1,"origin":null,"bytes":80,"tracking_numbers":["1","2"],"wrong":[],"body":{"DataType":"transfer_order","Data":[{"TrackingNumber":1},{"TrackingNumber":2}]}}
    {"forgot_some":false,"orders":{"purchase_order":{"distinct":0,"taken":0},"transfer_order":{"distinct":2,"taken":2},"work_order":{"distinct":0,"taken":0}},"sums":{"alarms":0,"bad":0,"refused":0,"repeats":0,"requests":1,"taken":1}}
    [exit 0]
    "#);
}

/// D7, D9: what was not answered in time had arrived all the same.
#[test]
fn a_late_answer_makes_a_repeat() {
    let site = Site::new("");
    let receiving = Receiving::start(&site, &["--json", "--delay", "1h", "--count", "2"]);
    site.configure(&receiving.webhook("timeout = \"100ms\"\nretry_gap = \"10ms\""));
    site.enqueue("purchase_order", 1..=1);
    let daemon = site.start();
    let text = receiving.rest();
    daemon.stop();
    let verdicts: Vec<_> = text
        .lines()
        .map(|line| line.split("\"verdict\":").nth(1))
        .collect();
    assert!(verdicts[0].unwrap().starts_with("\"new\""), "{text}");
    assert!(verdicts[1].unwrap().starts_with("\"repeat\""), "{text}");
    assert!(text.ends_with("[exit 0]"), "{text}");
}

#[test]
fn a_bad_request_is_told_to_both_sides() {
    let site = Site::bare("");
    let receiving = Receiving::start(&site, &[]);
    let id = with_id(ID);
    let answers = [
        receiving.send(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"),
        receiving.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
        receiving.send(b"POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 99999999999\r\n\r\n"),
        receiving.post("", BODY),
        receiving.post(&id, b"{"),
        receiving.post(&id.replace("01K9", "O1K9"), BODY),
        receiving.post(&format!("{id}content-encoding: br\r\n"), BODY),
        receiving.post(&format!("{id}orderfeed-event: work_order.\u{fc}\r\n"), BODY),
    ];
    assert_snapshot!(answers.join("\n"), @"
    405 GET: must be POST
    400 
    413 the body is larger than 64 MiB
    400 it has no webhook-id, the payload's id
    400 the body is not JSON: EOF while parsing an object at line 1 column 1
    400 webhook-id: must be pl_ and 26 characters
    415 content-encoding: must be gzip, or left out
    400 orderfeed-event: must be visible ASCII
    ");
    receiving.terminate();
    assert_snapshot!(tamed(&receiving.rest()), @r#"

        [webhook.try]
        url = "URL"

        time  type            items  payload id                     try  answer
    hh:mm:ss  -                   -  -                                -  405 bad
              GET: must be POST
    hh:mm:ss  no HTTP/1.1: invalid HTTP method parsed (does the url say https?)
    hh:mm:ss  -                   -  -                                -  413 bad
              the body is larger than 64 MiB
    hh:mm:ss  -                   -  -                                -  400 bad
              it has no webhook-id, the payload's id
    hh:mm:ss  -                   -  -                                -  400 bad
              the body is not JSON: EOF while parsing an object at line 1 column 1
    hh:mm:ss  -                   -  -                                -  400 bad
              webhook-id: must be pl_ and 26 characters
    hh:mm:ss  -                   -  -                                -  415 bad
              content-encoding: must be gzip, or left out
    hh:mm:ss  -                   -  -                                -  400 bad
              orderfeed-event: must be visible ASCII

    requests: 8; taken: 0, refused as asked: 0, repeats: 0, bad: 8; alarms: 0

                               orders   distinct
      purchase orders (PO)          0          0
      transfer orders (TO)          0          0
      work orders (WO)              0          0
    orderfeed: alarms: 0, bad requests: 8; each is told above
    [exit 1]
    "#);
}

#[test]
fn a_contradiction_is_an_alarm() {
    let site = Site::bare("");
    let receiving = Receiving::start(&site, &["--count", "6"]);
    let other_body = br#"{"DataType":"work_order","Data":[{"TrackingNumber":7,"Qty":1}]}"#;
    let third = with_id("pl_01K9WPVG030000000000000000");
    let fourth = with_id("pl_01K9WPVG040000000000000000");
    let answers = [
        receiving.post(&with_id(ID), BODY),
        receiving.post(&with_id(ID), BODY),
        receiving.post(&with_id(ID), other_body),
        receiving.post(&with_id(OTHER_ID), BODY),
        receiving.post(&third, other_body),
        receiving.post(&format!("{fourth}orderfeed-resend-of: {ID}\r\n"), BODY),
    ];
    assert_snapshot!(answers.join("\n"), @"
    200 taken
    200 taken
    409 this id came before with another body
    200 WO 7 came before, unchanged, in pl_01K9WPVG010000000000000000
    200 taken
    200 taken
    ");
    assert_snapshot!(tamed(&receiving.rest()), @r#"

        [webhook.try]
        url = "URL"

        time  type            items  payload id                     try  answer
    hh:mm:ss  WO                  1  pl_11111111111111111111111111    -  200 new
    hh:mm:ss  WO                  1  pl_11111111111111111111111111    -  200 repeat
    hh:mm:ss  WO                  1  pl_11111111111111111111111111    -  409 ALARM
              this id came before with another body
    hh:mm:ss  WO                  1  pl_22222222222222222222222222    -  200 ALARM
              WO 7 came before, unchanged, in pl_11111111111111111111111111
    hh:mm:ss  WO                  1  pl_33333333333333333333333333    -  200 new
    hh:mm:ss  WO                  1  pl_44444444444444444444444444    -  200 new

    requests: 6; taken: 4, refused as asked: 0, repeats: 1, bad: 0; alarms: 2

                               orders   distinct
      purchase orders (PO)          0          0
      transfer orders (TO)          0          0
      work orders (WO)              4          1
    orderfeed: alarms: 2, bad requests: 0; each is told above
    [exit 1]
    "#);
}

#[test]
fn an_order_that_was_refused_may_come_under_another_id() {
    let site = Site::new("");
    let receiving = Receiving::start(&site, &["--status", "400", "--count", "2"]);
    site.configure(&receiving.webhook("retry_attempts = 0\npayload_max_items = 1"));
    site.enqueue("work_order", [7, 7]);
    let daemon = site.start();
    let text = receiving.rest();
    daemon.stop();
    assert!(text.contains("taken: 0, refused as asked: 2,"), "{text}");
    assert!(text.contains("alarms: 0\n"), "{text}");
    assert!(text.ends_with("[exit 0]"), "{text}");
}

#[test]
fn an_order_that_stands_twice_in_a_payload_is_an_alarm() {
    let site = Site::new("");
    let receiving = Receiving::start(&site, &["--json", "--count", "1"]);
    site.configure(&receiving.webhook(""));
    site.enqueue("work_order", [7, 7]);
    let daemon = site.start();
    let text = receiving.rest();
    daemon.stop();
    let wrong = "\"wrong\":[\"WO 7 stands twice in it, unchanged\"]";
    assert!(text.contains(wrong), "{text}");
    assert!(text.ends_with("[exit 1]"), "{text}");
}

/// However many senders there are, what they send is read within bounds.
#[test]
fn large_bodies_wait_for_each_other() {
    let site = Site::bare("");
    let mut receiving = Receiving::start(&site, &["--json", "--count", "4"]);
    let address = receiving
        .url
        .trim_start_matches("http://")
        .trim_end_matches('/')
        .to_owned();
    let large = [ID, OTHER_ID].map(|id| {
        let mut stream = TcpStream::connect(&address).unwrap();
        let length = 64 << 20;
        write!(
            stream,
            "POST / HTTP/1.1\r\nhost: x\r\nwebhook-id: {id}\r\nexpect: 100-continue\r\ncontent-length: {length}\r\n\r\n"
        )
        .unwrap();
        // It asks for a body when it begins to read.
        let mut asks = [0; 25];
        stream.read_exact(&mut asks).unwrap();
        assert_eq!(&asks, b"HTTP/1.1 100 Continue\r\n\r\n");
        stream
    });
    let mut small = TcpStream::connect(&address).unwrap();
    let length = BODY.len();
    write!(
        small,
        "POST / HTTP/1.1\r\nhost: x\r\nwebhook-id: {ID}\r\ncontent-length: {length}\r\n\r\n"
    )
    .unwrap();
    small.write_all(BODY).unwrap();
    // What came later than the small one, and needs no room, is answered first.
    let get = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    assert_eq!(receiving.send(get), "405 GET: must be POST");
    assert!(receiving.line().contains("GET: must be POST"));
    drop(large);
    let text = [0; 3].map(|_| receiving.line()).join("\n");
    assert_eq!(
        text.matches("the body ended before its end").count(),
        2,
        "{text}"
    );
    assert_eq!(text.matches("\"verdict\":\"new\"").count(), 1, "{text}");
}

#[test]
fn signatures_are_verified_by_any_of_the_secrets() {
    let site = Site::bare("");
    let secrets = [[1; 32], [2; 32]].map(|key| {
        let text = format!(
            "whsec_{}",
            base64::Engine::encode(&base64::prelude::BASE64_STANDARD, key)
        );
        SigningSecret::parse(&text).unwrap()
    });
    let folder = site.config();
    let folder = folder.parent().unwrap();
    for (name, secret) in ["old", "new"].iter().zip(&secrets) {
        fs::write(folder.join(name), format!("{}\n", secret.text().expose())).unwrap();
    }
    fs::write(folder.join("authorization"), "Bearer 1\n").unwrap();
    let receiving = Receiving::start(
        &site,
        &[
            "--secret-file",
            "old",
            "--secret-file",
            "new",
            "--authorization-file",
            "authorization",
            "--count",
            "5",
        ],
    );
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let signed = |secret: &SigningSecret, at: u64| {
        let signature = sign(
            std::slice::from_ref(secret),
            ID,
            i64::try_from(at).unwrap(),
            BODY,
        );
        format!(
            "{}authorization: Bearer 1\r\nwebhook-timestamp: {at}\r\nwebhook-signature: {signature}\r\n",
            with_id(ID)
        )
    };
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(BODY).unwrap();
    let compressed = encoder.finish().unwrap();
    let good = signed(&secrets[1], now);
    let answers = [
        receiving.post(&signed(&secrets[0], now), BODY),
        receiving.post(&format!("{good}content-encoding: gzip\r\n"), &compressed),
        receiving.post(&good, b"{}"),
        receiving
            .post(&signed(&secrets[1], now - 9_000), BODY)
            .replace(|c: char| c.is_ascii_digit(), "9"),
        receiving.post(&good.replace("Bearer 1", "Bearer 2"), BODY),
    ];
    assert_snapshot!(answers.join("\n"), @"
    200 taken
    200 taken
    401 webhook-signature fits no secret with this id, timestamp and body
    999 webhook-timestamp is 9999 s old, which is too old
    401 authorization is another than expected
    ");
    let rest = receiving.rest();
    assert!(
        rest.ends_with("[exit 1]") && !rest.contains("Bearer") && !rest.contains("whsec"),
        "{rest}"
    );
}

#[test]
fn bodies_are_written_and_never_overwritten() {
    let site = Site::bare("");
    let args = ["--write-to", "got/here", "--count", "1"];
    let receiving = Receiving::start(&site, &args);
    assert_eq!(receiving.post(&with_id(ID), BODY), "200 taken");
    assert!(receiving.rest().ends_with("[exit 0]"));
    // Another run of it knows nothing but the folder.
    let receiving = Receiving::start(&site, &args);
    assert_eq!(receiving.post(&with_id(ID), BODY), "200 taken");
    drop(receiving);
    let receiving = Receiving::start(&site, &args);
    assert_eq!(
        receiving.post(&with_id(ID), b"{}"),
        format!("409 got/here/{ID}.json holds another body")
    );
    assert!(receiving.rest().ends_with("[exit 1]"));
    let folder = site.config().with_file_name("got").join("here");
    let names: Vec<_> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names, [format!("{ID}.json").as_str()]);
    assert_eq!(fs::read(folder.join(&names[0])).unwrap(), BODY);
}

/// What could not be written is refused, and written when it comes again.
#[test]
fn a_body_that_could_not_be_written_is_written_the_next_time() {
    let site = Site::bare("");
    let folder = site.config().with_file_name("got");
    let receiving = Receiving::start(&site, &["--write-to", "got"]);
    fs::remove_dir(&folder).unwrap();
    let refused = receiving.post(&with_id(ID), BODY);
    assert!(
        refused.starts_with("500 can't be written to got: "),
        "{refused}"
    );
    fs::create_dir(&folder).unwrap();
    assert_eq!(receiving.post(&with_id(ID), BODY), "200 taken");
    assert_eq!(fs::read(folder.join(format!("{ID}.json"))).unwrap(), BODY);
}

#[test]
fn wrong_arguments_are_refused() {
    let site = Site::bare("");
    fs::write(site.config().with_file_name("secret"), "whsec_1").unwrap();
    assert_snapshot!(site.told(&["receive", "--status", "99"]), @"
    error: invalid value '99' for '--status <STATUS>': must be an HTTP status from 200 to 599

    For more information, try '--help'.
    [exit 2]
    ");
    assert_snapshot!(site.told(&["receive", "--secret-file", "secret"]), @"
    orderfeed: secret: is no signing secret: what follows whsec_ is not base64 (A-Z a-z 0-9 + /, filled up with = to a multiple of 4)
    [exit 2]
    ");
    assert_snapshot!(site.told(&["receive", "--secret-file", "none"]), @"
    orderfeed: none: No such file or directory (os error 2)
    [exit 2]
    ");
    assert_snapshot!(site.told(&["receive", "--write-to", "secret"]), @"
    orderfeed: secret: File exists (os error 17)
    [exit 2]
    ");
    // A folder in which nobody makes files, whatever his rights.
    let told = site.told(&["receive", "--write-to", "/proc/self"]);
    assert!(told.starts_with("orderfeed: /proc/self: "), "{told}");
    assert!(told.ends_with("[exit 2]"), "{told}");
    assert_snapshot!(site.told(&["receive", "--listen", "localhost:8080"]), @"
    error: invalid value 'localhost:8080' for '--listen <ADDRESS:PORT>': must be an IP address and a port, such as 127.0.0.1:8080 or [::1]:8080

    For more information, try '--help'.
    [exit 2]
    ");
    let first = Receiving::start(&site, &[]);
    let address = first
        .url
        .trim_start_matches("http://")
        .trim_end_matches('/');
    let told = site.told(&["receive", "--listen", address]);
    assert_snapshot!(told.replace(address, "ADDRESS"), @"
    orderfeed: ADDRESS: Address already in use (os error 98); --listen names another address and port
    [exit 1]
    ");
}

/// The daemon's signature, compression and authorization are what the receiver expects.
#[test]
fn what_the_daemon_signs_and_compresses_is_understood() {
    let site = Site::new("");
    let secret = format!(
        "whsec_{}",
        base64::Engine::encode(&base64::prelude::BASE64_STANDARD, [1; 32])
    );
    fs::write(site.config().with_file_name("secret"), &secret).unwrap();
    fs::write(site.config().with_file_name("authorization"), "Bearer 1\n").unwrap();
    let args = [
        &["--secret-file", "secret", "--count", "1", "--json"][..],
        &["--authorization-file", "authorization"],
    ];
    let receiving = Receiving::start(&site, &args.concat());
    site.configure(&receiving.webhook(&format!(
        "signing_secrets = [\"{secret}\"]\ncompression = \"gzip\"\nauthorization = \"Bearer 1\""
    )));
    site.enqueue("purchase_order", 1..=1_000);
    let daemon = site.start();
    let text = receiving.rest();
    daemon.stop();
    assert!(text.contains("\"taken\":1"), "{text}");
    assert!(text.ends_with("[exit 0]"), "{text}");
}
