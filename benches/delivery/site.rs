//! A queue of realistic orders, the daemon beside it, and what the kernel says of the daemon.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rusqlite::Connection;

use crate::order::order;

/// Queue and ledger, just made, and filled with purchase orders; copied for each run.
pub(crate) struct Pristine {
    folder: tempfile::TempDir,
}

impl Pristine {
    pub(crate) fn new(orders: u64) -> Self {
        let folder = folder();
        configure(folder.path(), "");
        let made = command(folder.path(), "init")
            .stderr(Stdio::null())
            .status()
            .expect("orderfeed init");
        assert!(made.success());
        let mut conn = Connection::open(folder.path().join("queue.db")).expect("the queue");
        fill(&mut conn, orders);
        conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
            .expect("all of it in one file");
        Self { folder }
    }

    /// A copy to be used up.
    pub(crate) fn site(&self) -> Site {
        let folder = folder();
        for file in ["queue.db", "ledger.db"] {
            let copy = folder.path().join(file);
            fs::copy(self.folder.path().join(file), &copy).expect("room for a copy");
            // What is still to be written back would be measured as ours.
            fs::File::open(&copy)
                .and_then(|file| file.sync_all())
                .expect("a disk");
        }
        Site { folder }
    }

    /// Uses up the original: for the queues that take a while to copy.
    pub(crate) fn into_site(self) -> Site {
        Site {
            folder: self.folder,
        }
    }
}

/// A folder with queue and ledger.
pub(crate) struct Site {
    folder: tempfile::TempDir,
}

impl Site {
    pub(crate) fn queue(&self) -> PathBuf {
        self.folder.path().join("queue.db")
    }

    pub(crate) fn ledger(&self) -> PathBuf {
        self.folder.path().join("ledger.db")
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("admin.sock")
    }

    /// Runs a command to its end; how long it took, and what it printed.
    pub(crate) fn time(&self, args: &[&str]) -> (Duration, String) {
        let begun = Instant::now();
        let output = command(self.folder.path(), args[0])
            .args(&args[1..])
            .stdout(Stdio::piped())
            .output()
            .expect("a command");
        let took = begun.elapsed();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}: {said}");
        (took, String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Where the bare limit keeps what it sent.
    pub(crate) fn limits_ledger(&self) -> PathBuf {
        self.folder.path().join("limit.db")
    }

    /// Starts the daemon with these webhooks.
    pub(crate) fn start(&self, webhooks: &str) -> Daemon {
        configure(self.folder.path(), webhooks);
        Daemon(
            command(self.folder.path(), "run")
                .stderr(log_file(self.folder.path()))
                .spawn()
                .expect("orderfeed run"),
        )
    }
}

/// The running daemon; killed when dropped.
pub(crate) struct Daemon(Child);

impl Daemon {
    /// CPU time that it used so far, its threads' together.
    pub(crate) fn cpu(&self) -> Duration {
        let tasks = format!("/proc/{}/task", self.0.id());
        let of_task = |task: fs::DirEntry| {
            // Nanoseconds on a CPU come first.
            let text = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
            let nanoseconds = text.split(' ').next().and_then(|text| text.parse().ok());
            Duration::from_nanos(nanoseconds.unwrap_or_default())
        };
        fs::read_dir(tasks)
            .expect("it runs")
            .map_while(Result::ok)
            .map(of_task)
            .sum()
    }

    /// The most memory that it held at any time, in bytes.
    pub(crate) fn memory_peak(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0.id())).expect("it runs");
        let kib = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))
            .and_then(|text| text.trim().trim_end_matches(" kB").parse::<u64>().ok());
        kib.expect("a peak") * 1024
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// One more order, as a producer queues it.
pub(crate) fn insert(conn: &Connection, number: u64) {
    conn.prepare_cached("INSERT INTO orders (order_type, body) VALUES ('purchase_order', ?1)")
        .and_then(|mut insert| insert.execute([order(number)]))
        .expect("an order that can be queued");
}

fn fill(conn: &mut Connection, orders: u64) {
    conn.pragma_update(None, "wal_autocheckpoint", 100_000)
        .expect("a setting");
    // In pieces, so that neither WAL nor cache grow without bound.
    for first in (1..=orders).step_by(100_000) {
        let transaction = conn.transaction().expect("a transaction");
        for number in first..=orders.min(first + 99_999) {
            insert(&transaction, number);
        }
        transaction.commit().expect("a commit");
    }
}

/// On a real disk: where the project is built.
fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder")
}

fn configure(folder: &Path, webhooks: &str) {
    let text = format!(
        "[queue]\npath = \"queue.db\"\n[ledger]\npath = \"ledger.db\"\n[admin]\nsocket = \"admin.sock\"\n{webhooks}"
    );
    fs::write(folder.join("config.toml"), text).expect("a configuration");
}

fn log_file(folder: &Path) -> fs::File {
    fs::File::create(folder.join("log")).expect("a log")
}

fn command(folder: &Path, name: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_orderfeed"));
    command
        .env_clear()
        .env("ORDERFEED_CONFIG", folder.join("config.toml"))
        .current_dir(folder)
        .arg(name)
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    command
}
