//! What goes wrong around the daemon: it says so once, goes on by itself where it can, and loses nothing (D18).
//!
//! - `full_disk`: no room for the ledger, or for the queue
//! - `failing_disk`: syncs and writes that fail, and what is read-only
//! - `held_files`: locks, snapshots, files that are exchanged, SQLite versions of old
//! - `clocks`: a wall clock that is set, and a daemon that stands still
//!
//! `power_cut` has the power that goes, `starting` most of what is noticed at a start.

mod clocks;
mod failing_disk;
mod full_disk;
mod held_files;

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::NamedTempFile;

use crate::disk::Disk;
use crate::producers::{available, skip};
use crate::support::{Daemon, Receiver, Site};

/// What all of these webhooks have: small payloads, and no long wait.
const SMALL: &str = "payload_max_items = 2\nretry_gap = \"50ms\"";

/// A site whose ledger lies on a disk of its own, of 64 MiB.
fn ledger_on_a_disk(webhooks: &str) -> Option<(Site, Disk)> {
    on_a_disk(webhooks, Site::ledger)
}

/// A site whose queue lies on a disk of its own, of 64 MiB.
fn queue_on_a_disk(webhooks: &str) -> Option<(Site, Disk)> {
    on_a_disk(webhooks, Site::queue)
}

fn on_a_disk(webhooks: &str, which: impl Fn(&Site) -> PathBuf) -> Option<(Site, Disk)> {
    let site = Site::bare(webhooks);
    match Disk::mounted_at(which(&site).parent().unwrap(), 64) {
        Ok(disk) => {
            let (status, told) = site.run(&["init"]);
            assert!(status.success(), "{told}");
            Some((site, disk))
        }
        Err(why) => {
            skip(&format!("no disk of its own: {why}"));
            None
        }
    }
}

/// Waits until all of these orders arrived, and makes sure that none did in two payloads.
fn all_arrive_in_one_payload_each(receiver: &Receiver, orders: impl IntoIterator<Item = u64>) {
    let orders: BTreeSet<u64> = orders.into_iter().collect();
    receiver.wait_until(|arrived| {
        let arrived = arrived.iter().flat_map(|request| request.orders().1);
        arrived.collect::<BTreeSet<_>>().is_superset(&orders)
    });
    for (order, mut ids) in receiver.payload_ids_by_order() {
        ids.dedup();
        assert_eq!(ids.len(), 1, "order {order} left in {ids:?}");
    }
}

/// What SQLite calls the WAL of a file.
fn wal_of(path: PathBuf) -> PathBuf {
    let mut path = path.into_os_string();
    path.push("-wal");
    path.into()
}

/// The log's lines that hold this text, without time and fields.
fn said(log: &[String], text: &str) -> Vec<String> {
    let lines = log.iter().filter(|line| line.contains(text));
    lines
        .map(|line| line.split_once(' ').map_or(line.as_str(), |(_, line)| line))
        .map(|line| line.split(" webhook=").next().unwrap().to_owned())
        .collect()
}

/// Lets system calls of a running daemon fail, until dropped.
struct Fault {
    strace: Child,
    trace: NamedTempFile,
}

impl Fault {
    /// `injected` as with `strace --inject`; only calls about this file. `traced` are seen, too.
    /// `None` where strace can't.
    fn begin(daemon: &Daemon, path: &Path, traced: &str, injected: &str) -> Option<Self> {
        if !available("strace", &["-V"]) {
            return None;
        }
        let trace = NamedTempFile::new().unwrap();
        let mut strace = Command::new("strace")
            .args(["-f", "-p", &daemon.pid().to_string(), "-o"])
            .arg(trace.path())
            .args(["-e", &format!("trace={traced}")])
            .args(["-e", &format!("inject={injected}"), "-P"])
            .arg(path)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // It says when it has them all.
        let mut said = BufReader::new(strace.stderr.take().unwrap()).lines();
        let attached = said
            .by_ref()
            .map_while(Result::ok)
            .any(|line| line.contains(" attached"));
        thread::spawn(move || said.count());
        let fault = Self { strace, trace };
        if !attached {
            skip("strace can't attach to another process");
            return None;
        }
        Some(fault)
    }

    /// Ends it, and returns the calls that were seen.
    fn end(mut self) -> Vec<String> {
        self.let_go();
        let trace = fs::read_to_string(self.trace.path()).unwrap();
        trace.lines().map(str::to_owned).collect()
    }

    fn let_go(&mut self) {
        if let Ok(None) = self.strace.try_wait() {
            // It lets go of them, as it does not when it is killed.
            kill_process(Pid::from_child(&self.strace), Signal::TERM).unwrap();
            self.strace.wait().unwrap();
        }
    }
}

impl Drop for Fault {
    fn drop(&mut self) {
        self.let_go();
    }
}
