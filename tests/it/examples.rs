//! The programs of docs/examples, as their readers run them: producers into a real queue, receivers of real
//! requests. A language that is missing skips its test.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use crate::producers::{available, piped, skip};
use crate::support::{OK, Receiver, Site};

/// What a program might change by accident.
const ORDER: &str = r#"{"TrackingNumber":"W-7","Note":"für 5 €, 'quoted' \"twice\"","Price":19.90,"Large":12345678901234567890123}"#;

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("docs/examples")
        .join(name)
}

/// A Node that has SQLite in it.
fn node() -> Option<String> {
    let node = std::env::var("NODE22").unwrap_or_else(|_| "node".to_owned());
    available(&node, &["-e", "require('node:sqlite')"]).then_some(node)
}

/// Runs a producer with an order on its standard input: whether it ended well, and what it printed.
fn run(mut program: Command, queue: &Path, key: &str, order: &str) -> (bool, String) {
    let (ended_well, told) = piped(program.arg(queue).args(["work_order", key]), order);
    (ended_well, told.trim_end().to_owned())
}

/// Everything that a producer is to do right.
#[track_caller]
fn check_producer(program: impl Fn() -> Command + Sync) {
    let receiver = Receiver::new(|_, _| OK);
    let site = Site::new(&receiver.webhook("erp", ""));
    let queue = site.queue();
    let (ended_well, told) = run(program(), &queue, "k-1", "{}");
    assert!(!ended_well && told.starts_with("not queued: "), "{told}");
    assert!(
        told.contains(
            "TrackingNumber: must be a member of the order itself, spelled without escapes"
        ),
        "{told}"
    );
    // Somebody else is writing, for a moment.
    let other = site.producer();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let first = thread::scope(|scope| {
        let first = scope.spawn(|| run(program(), &queue, "k-1", ORDER));
        thread::sleep(Duration::from_millis(500));
        other.execute_batch("COMMIT").unwrap();
        first.join().unwrap()
    });
    assert_eq!(first, (true, "queued".to_owned()));
    let again = run(program(), &queue, "k-1", ORDER);
    assert_eq!(again, (true, "was queued already".to_owned()));
    let _daemon = site.start();
    let arrived = receiver.wait_for(1);
    let expected = format!(r#"{{"DataType":"work_order","Data":[{ORDER}]}}"#);
    assert_eq!(String::from_utf8_lossy(&arrived[0].body), expected);

    let nowhere = site.file("nowhere.db");
    let (ended_well, told) = run(program(), &nowhere, "k-2", ORDER);
    assert!(!ended_well && told.starts_with("not queued: "), "{told}");
    assert!(!nowhere.exists(), "an empty file was made");
}

#[test]
fn the_python_producer() {
    if available("python3", &["-c", "import sqlite3"]) {
        check_producer(|| command("python3", &[&example("producer.py")]));
    }
}

#[test]
fn the_shells_producer() {
    if available("sqlite3", &["-version"]) {
        check_producer(|| Command::new(example("producer.sh")));
    }
}

#[test]
fn the_node_producer() {
    if let Some(node) = node() {
        check_producer(|| {
            command(
                &node,
                &[Path::new("--no-warnings"), &example("producer.mjs")],
            )
        });
    }
}

#[test]
fn the_java_producer() {
    let driver = Path::new("/usr/share/java/sqlite-jdbc.jar");
    if !driver.exists() {
        skip("there is no sqlite-jdbc for Java");
        return;
    }
    if available("javac", &["-version"]) {
        check_producer(|| {
            command(
                "java",
                &[Path::new("-cp"), driver, &example("Producer.java")],
            )
        });
    }
}

#[test]
fn the_csharp_producer() {
    if !available("mcs", &["--version"]) || !available("mono", &["--version"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("Producer.exe");
    let built = Command::new("mcs")
        .args([
            "-define:MONO",
            "-r:Mono.Data.Sqlite.dll",
            "-r:System.Data.dll",
        ])
        .arg(format!("-out:{}", program.display()))
        .arg(example("Producer.cs"))
        .output()
        .unwrap();
    assert!(
        built.status.success(),
        "{}",
        String::from_utf8_lossy(&built.stderr)
    );
    check_producer(|| command("mono", &[&program]));
}

fn command(program: &str, args: &[&Path]) -> Command {
    let mut command = Command::new(program);
    command.args(args);
    command
}

/// A receiver of the examples; it ends with the test.
struct Running {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Running {
    fn next(&mut self) -> String {
        self.lines.next().unwrap().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Everything that a receiver is to do right.
#[track_caller]
fn check_receiver(program: impl FnOnce(&Site) -> Command) {
    let site = Site::bare("");
    fs::create_dir(site.file("inbox")).unwrap();
    fs::write(
        site.file("secret"),
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n",
    )
    .unwrap();
    let mut child = program(&site).stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut receiver = Running { child, lines };
    let port = receiver.next().replace("listening on ", "");
    let url = format!("http://127.0.0.1:{port}/orders");
    site.configure(&format!(
        "[webhook.erp]\nurl = \"{url}\"\nsigning_secrets = [{{ file = \"secret\" }}]\n"
    ));
    site.initialise();
    let daemon = site.start();
    site.enqueue("purchase_order", 1..=2);
    let stored = receiver.next();
    let id = stored.split(' ').nth(1).unwrap().to_owned();
    assert_eq!(stored, format!("stored {id} 2"));
    daemon.wait_for_line("delivered 2");
    // The same once more, as after an answer that got lost.
    loop {
        let (status, told) = site.run(&["resend", &id]);
        if status.success() {
            break;
        }
        assert!(told.contains("in flight"), "{told}");
    }
    assert_eq!(receiver.next(), format!("known {id} 2"));

    // Somebody else, with a signature of his own.
    let body = r#"{"DataType":"purchase_order","Data":[]}"#;
    let mut request = format!(
        "POST /orders HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n",
        body.len()
    );
    let now = std::time::SystemTime::UNIX_EPOCH
        .elapsed()
        .unwrap()
        .as_secs();
    for header in [
        &format!("webhook-id: {id}"),
        &format!("webhook-timestamp: {now}"),
        "webhook-signature: v1,AAAA",
    ] {
        write!(request, "{header}\r\n").unwrap();
    }
    let mut stream = TcpStream::connect(("127.0.0.1", port.parse().unwrap())).unwrap();
    stream
        .write_all(format!("{request}\r\n{body}").as_bytes())
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
}

#[test]
fn the_python_receiver() {
    if available("python3", &["-c", "import sqlite3"]) {
        check_receiver(|site| {
            let mut command = command("python3", &[&example("receiver.py")]);
            command
                .arg("0")
                .arg(site.file("secret"))
                .arg(site.file("inbox/inbox.db"));
            command
        });
    }
}

#[test]
fn the_node_receiver() {
    if let Some(node) = node() {
        check_receiver(|site| {
            let mut command = command(&node, &[&example("receiver.mjs")]);
            command
                .arg("0")
                .arg(site.file("secret"))
                .arg(site.file("inbox"));
            command
        });
    }
}
