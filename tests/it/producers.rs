//! The queue as other people's programs meet it: Python's sqlite3 module, the sqlite3 shell, and SQLite 3.26.0, the
//! oldest that is promised to work. Each is given the statements of `queue_rules`, and must say the same.
//!
//! A tool that is missing skips its tests, and says so; with `CI=true` in the environment it fails them.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use orderfeed::feed::order::{Order, OrderType, Seq, Undeliverable};
use rusqlite::Connection;

use crate::queue_rules::{
    BEFORE, REFUSED, SCHEMA, TAKEN, contents, insert, queue_file, ways_around,
};

const INSERT: &str = r#"INSERT INTO orders (order_type, body) VALUES ('work_order', '{"TrackingNumber": "W-4", "Note": "für Köln"}')"#;

/// Runs statements that NUL characters separate, and prints what the program for SQLite 3.26.0 prints: the version,
/// then `ok` or the message of each.
const PYTHON: &str = r#"
import sqlite3, sys
queue = sqlite3.connect(sys.argv[1], isolation_level=None)
queue.execute("PRAGMA busy_timeout=5000")
queue.execute("PRAGMA synchronous=FULL")
queue.execute("PRAGMA wal_autocheckpoint=0")
print(sqlite3.sqlite_version)
for statement in sys.stdin.buffer.read().decode("utf-8").split("\0"):
    try:
        queue.execute(statement)
        print("ok")
    except sqlite3.Error as error:
        print(error)
"#;

/// Inserts one order as a Python program would, with bound values. `Err` has the exception's text.
pub(crate) fn python_insert(queue: &Path, order_type: &str, body: &str) -> Result<(), String> {
    let script = r#"
import sqlite3, sys
queue = sqlite3.connect(sys.argv[1])
queue.execute("PRAGMA busy_timeout=5000")
queue.execute("PRAGMA synchronous=FULL")
queue.execute("PRAGMA wal_autocheckpoint=0")
try:
    with queue:
        queue.execute("INSERT INTO orders (order_type, body) VALUES (?, ?)", sys.argv[2:4])
except sqlite3.Error as error:
    sys.exit(str(error))
"#;
    finish(
        Command::new("python3")
            .args(["-c", script])
            .arg(queue)
            .args([order_type, body]),
    )
}

/// Runs one statement with the sqlite3 shell. `Err` has what it printed.
pub(crate) fn shell_insert(queue: &Path, statement: &str) -> Result<(), String> {
    finish(
        Command::new("sqlite3")
            .args(["-batch", "-init", "/dev/null"])
            .args(["-cmd", ".timeout 5000", "-cmd", "PRAGMA synchronous=FULL"])
            .args([
                "-cmd",
                ".output /dev/null",
                "-cmd",
                "PRAGMA wal_autocheckpoint=0",
            ])
            .arg(queue)
            .arg(statement),
    )
}

/// Runs statements with SQLite 3.26.0: `ok` or the message for each. `None` where it can't be built.
pub(crate) fn sqlite326_run(queue: &Path, statements: &[String]) -> Option<Vec<String>> {
    Some(lines_of(Command::new(sqlite326()?).arg(queue), statements).1)
}

/// `None`, and a line that says so, where the program is missing.
pub(crate) fn python_run(queue: &Path, statements: &[String]) -> Option<Vec<String>> {
    available("python3", &["-c", "import sqlite3"]).then(|| {
        lines_of(
            Command::new("python3").args(["-c", PYTHON]).arg(queue),
            statements,
        )
        .1
    })
}

#[test]
fn python_reads_the_same_refusals() {
    let (_folder, queue) = queue_file();
    let Some(answers) = python_run(&queue, &statements()) else {
        return;
    };
    assert_same_refusals(&queue, &answers);
    python_insert(
        &queue,
        "work_order",
        r#"{"TrackingNumber": "W-4", "Note": "für Köln"}"#,
    )
    .unwrap();
    assert_eq!(newest(&queue), (4, "W-4".to_owned()));
    assert_eq!(
        python_insert(&queue, "work_order", "{}").unwrap_err(),
        "TrackingNumber: must be a member of the order itself, spelled without escapes"
    );
}

#[test]
fn the_shell_reads_the_same_refusals() {
    if !available("sqlite3", &["-version"]) {
        return;
    }
    let (_folder, queue) = queue_file();
    let before = contents(&Connection::open(&queue).unwrap());
    for (statement, message) in REFUSED {
        // The shell adds its own words before and after.
        let answer = shell_insert(&queue, statement).expect_err(statement);
        assert!(
            answer.contains(message),
            "{statement}\nis answered {answer}"
        );
    }
    assert_eq!(contents(&Connection::open(&queue).unwrap()), before);
    shell_insert(&queue, INSERT).unwrap();
    assert_eq!(newest(&queue), (4, "W-4".to_owned()));
}

#[test]
fn sqlite_3_26_reads_the_same_refusals() {
    let (_folder, queue) = queue_file();
    let Some(answers) = sqlite326_run(&queue, &statements()) else {
        return;
    };
    assert_same_refusals(&queue, &answers);
}

#[test]
fn python_finds_the_same_tracking_numbers() {
    let (_folder, queue) = queue_file();
    if let Some(answers) = python_run(&queue, &inserts()) {
        assert_same_tracking_numbers(&queue, &answers);
    }
}

#[test]
fn sqlite_3_26_finds_the_same_tracking_numbers() {
    let (_folder, queue) = queue_file();
    if let Some(answers) = sqlite326_run(&queue, &inserts()) {
        assert_same_tracking_numbers(&queue, &answers);
    }
}

#[test]
fn sqlite_3_26_inserts_into_a_queue_in_wal_mode() {
    let Some(program) = sqlite326() else { return };
    let (_folder, queue) = queue_file();
    // Held open, as the daemon holds it.
    let daemon = Connection::open(&queue).unwrap();
    let mode: String = daemon
        .query_row("PRAGMA journal_mode", [], |row| row.get(0))
        .unwrap();
    assert_eq!(mode, "wal");

    let (version, answers) = lines_of(Command::new(program).arg(&queue), &[INSERT.to_owned()]);
    assert_eq!(
        (version.as_str(), answers),
        ("3.26.0", vec!["ok".to_owned()])
    );
    assert_eq!(newest(&queue), (4, "W-4".to_owned()));
    let integrity: String = daemon
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .unwrap();
    assert_eq!(integrity, "ok");
}

#[test]
fn sqlite_3_26_could_have_made_the_queue() {
    let folder = tempfile::TempDir::new().unwrap();
    let queue = folder.path().join("queue.db");
    let Some(answers) = sqlite326_run(&queue, &[format!("BEGIN; {SCHEMA}; COMMIT; {BEFORE}")])
    else {
        return;
    };
    assert_eq!(answers, ["ok"]);
    assert_eq!(newest(&queue), (3, "3".to_owned()));
}

/// Every statement that is refused, and every way around it.
fn statements() -> Vec<String> {
    REFUSED
        .iter()
        .flat_map(|(statement, _)| ways_around(statement))
        .collect()
}

/// Every order that is taken.
fn inserts() -> Vec<String> {
    TAKEN.iter().map(|(body, _)| insert(body)).collect()
}

fn assert_same_tracking_numbers(queue: &Path, answers: &[String]) {
    for ((body, _), answer) in TAKEN.iter().zip(answers) {
        assert_eq!(answer, "ok", "{body}");
    }
    let queue = Connection::open(queue).unwrap();
    let mut rows = queue
        .prepare("SELECT tracking_number FROM tracking_numbers WHERE seq > 3 ORDER BY seq")
        .unwrap();
    let found: Vec<String> = rows
        .query_map([], |row| row.get(0))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    let expected: Vec<_> = TAKEN
        .iter()
        .map(|(_, tracking_number)| *tracking_number)
        .collect();
    assert_eq!(found, expected);
}

fn assert_same_refusals(queue: &Path, answers: &[String]) {
    let expected = REFUSED.iter().flat_map(|(statement, message)| {
        ways_around(statement)
            .into_iter()
            .map(move |way| (way, *message))
    });
    for ((statement, message), answer) in expected.zip(answers) {
        assert_eq!(answer, message, "{statement}");
    }
    let (_folder, fresh) = queue_file();
    let without_times = |path| {
        let text = contents(&Connection::open(path).unwrap());
        text.split('\'')
            .filter(|part| !part.ends_with('Z'))
            .collect::<String>()
    };
    assert_eq!(
        without_times(queue),
        without_times(&fresh),
        "a refused statement changed something"
    );
}

/// The newest order's seq and tracking number, as the daemon's SQLite reads them.
fn newest(queue: &Path) -> (i64, String) {
    Connection::open(queue)
        .unwrap()
        .query_row(
            "SELECT seq, tracking_number FROM orders JOIN tracking_numbers USING (seq) ORDER BY seq DESC LIMIT 1",
            [],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .unwrap()
}

/// The program that runs SQL with SQLite 3.26.0, built once.
fn sqlite326() -> Option<&'static Path> {
    static PROGRAM: OnceLock<Option<PathBuf>> = OnceLock::new();
    let program = PROGRAM.get_or_init(|| {
        let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sqlite326");
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("sqlite326");
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let build = Command::new(cargo)
            .args(["build", "--locked", "--quiet", "--manifest-path"])
            .arg(package.join("Cargo.toml"))
            .arg("--target-dir")
            .arg(&target)
            // Flags that are meant for the package under test, such as those of a coverage run.
            .env_remove("RUSTFLAGS")
            .env_remove("CARGO_ENCODED_RUSTFLAGS")
            .env_remove("CARGO_BUILD_TARGET")
            .output();
        match build {
            Ok(output) if output.status.success() => Some(target.join("debug/sqlite326")),
            Ok(output) => {
                skip(&format!(
                    "SQLite 3.26.0 can't be built: {}",
                    String::from_utf8_lossy(&output.stderr)
                ));
                None
            }
            Err(error) => {
                skip(&format!("SQLite 3.26.0 can't be built: {error}"));
                None
            }
        }
    });
    if program.is_none() {
        skip("SQLite 3.26.0 can't be built");
    }
    program.as_deref()
}

/// Whether the program can be run. Where it can't, says that the test is skipped.
pub(crate) fn available(program: &str, arguments: &[&str]) -> bool {
    let runs = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .is_ok_and(|output| output.status.success());
    if !runs {
        skip(&format!("{program} can't be run"));
    }
    runs
}

/// Says that a test is not run, and fails it where nothing may be skipped.
pub(crate) fn skip(reason: &str) {
    assert_ne!(
        std::env::var("CI").as_deref(),
        Ok("true"),
        "must not be skipped: {reason}"
    );
    // Past the test harness, which keeps what a passing test prints to itself.
    let line = format!("skipped: {reason}\n");
    std::io::stderr().write_all(line.as_bytes()).unwrap();
}

fn finish(command: &mut Command) -> Result<(), String> {
    let output = command.stdin(Stdio::null()).output().unwrap();
    if output.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&output.stderr)
        .trim_end()
        .to_owned())
}

/// Whether a program that is given a text ends well, and what it prints.
pub(crate) fn piped(command: &mut Command, text: &str) -> (bool, String) {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    let told = [output.stdout, output.stderr].concat();
    (
        output.status.success(),
        String::from_utf8_lossy(&told).into_owned(),
    )
}

/// Gives the statements to a program, and returns its first line and all the others.
fn lines_of(command: &mut Command, statements: &[String]) -> (String, Vec<String>) {
    let mut child = command
        .env("PYTHONUTF8", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // These programs read everything before they print, so nothing can block.
    child
        .stdin
        .take()
        .unwrap()
        .write_all(statements.join("\0").as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", output.status);
    let text = String::from_utf8(output.stdout).unwrap();
    let mut lines = text.lines().map(str::to_owned);
    let first = lines.next().unwrap();
    let answers: Vec<_> = lines.collect();
    assert_eq!(
        answers.len(),
        statements.len(),
        "one answer for each statement"
    );
    (first, answers)
}

/// An order, and what is one or almost one: each of its bytes left out, replaced, or preceded by another.
fn near_orders() -> Vec<Vec<u8>> {
    const ORDER: &[u8] =
        br#"{"TrackingNumber":1,"a":[-0.50e+3, 10,true,null,"x\u00e4\ud83d\ude00\"\\/"],"b":{}}"#;
    const BYTES: &[u8] =
        b"\0\x01\t\n\r\x0b\x0c\x1f\x7f\x80\xa0\xc3\xef\xff !\"'()*+,-./019:AEN[\\]_abdefnux{|}";
    let mut orders = vec![ORDER.to_vec()];
    for at in 0..=ORDER.len() {
        let (before, after) = ORDER.split_at(at);
        let skipped = after.get(1..).unwrap_or_default();
        orders.push([before, skipped].concat());
        for byte in BYTES {
            orders.push([before, &[*byte], after].concat());
            orders.push([before, &[*byte], skipped].concat());
        }
    }
    orders
}

/// Orders that came past the triggers are not read again: whatever SQLite it was that ran them, it must have taken no
/// JSON that is none, but for what is looked for all the same.
fn assert_vouched_for(answers: &[String]) {
    let mut taken = 0;
    for (body, answer) in near_orders().iter().zip(answers) {
        if answer == "ok" {
            let read = |read: ReadOrder| read(Seq(1), OrderType::WorkOrder, b"submit", body);
            let text = String::from_utf8_lossy(body);
            assert_eq!(read(Order::vouched), read(Order::parse), "{text}");
            taken += 1;
        }
    }
    assert!(taken > 1_000, "{taken} were taken");
}

type ReadOrder = fn(Seq, OrderType, &[u8], &[u8]) -> Result<Order, Undeliverable>;

/// One statement for each of the orders.
fn near_inserts() -> Vec<String> {
    let statement = |body: Vec<u8>| {
        let hex: Vec<_> = body.iter().map(|byte| format!("{byte:02x}")).collect();
        insert(&format!("CAST(x'{}' AS TEXT)", hex.concat()))
    };
    near_orders().into_iter().map(statement).collect()
}

#[test]
fn the_own_sqlite_vouches_for_what_it_takes() {
    let (_folder, queue) = queue_file();
    let queue = Connection::open(queue).unwrap();
    queue.execute_batch("BEGIN").unwrap();
    let execute = |statement: &String| match queue.execute(statement, []) {
        Ok(_) => "ok".to_owned(),
        Err(error) => error.to_string(),
    };
    assert_vouched_for(&near_inserts().iter().map(execute).collect::<Vec<_>>());
}

#[test]
fn python_vouches_for_what_it_takes() {
    let (_folder, queue) = queue_file();
    let statements = [vec!["BEGIN".to_owned()], near_inserts()].concat();
    if let Some(answers) = python_run(&queue, &statements) {
        assert_vouched_for(&answers[1..]);
    }
}

#[test]
fn sqlite_3_26_vouches_for_what_it_takes() {
    let (_folder, queue) = queue_file();
    let statements = [vec!["BEGIN".to_owned()], near_inserts()].concat();
    if let Some(answers) = sqlite326_run(&queue, &statements) {
        assert_vouched_for(&answers[1..]);
    }
}
