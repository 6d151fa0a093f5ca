//! `orderfeed demo`: it ends by itself, and its sums agree.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

#[test]
fn it_ends_by_itself_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_orderfeed"))
        .arg("demo")
        .env("TMPDIR", folder.path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let told = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(output.status.success(), "{told}");
    for expected in [
        "  purchase orders (PO)     240         240        240         11\n",
        "  transfer orders (TO)      90          90         90          4\n",
        "  work orders (WO)          60          60         60          3\n",
        "19 requests for 18 payloads: the refused one was sent twice, with the same id.\n",
        "Each of the 390 orders was delivered exactly once.\n",
    ] {
        assert!(told.contains(expected), "{expected:?} is not in:\n{told}");
    }
    for line in told.lines() {
        assert!(
            line.chars().count() <= 80 || line.contains("/orderfeed"),
            "wider than a terminal: {line}"
        );
    }
    assert!(!told.contains('\u{1b}'), "colour where no terminal is");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn ctrl_c_leaves_nothing_either() {
    let folder = tempfile::tempdir().unwrap();
    let mut demo = Command::new(env!("CARGO_BIN_EXE_orderfeed"))
        .arg("demo")
        .env("TMPDIR", folder.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(demo.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains(" pl_")));
    kill_process(Pid::from_child(&demo), Signal::INT).unwrap();
    assert!(lines.all(|line| !line.unwrap().contains("queued")));
    assert_eq!(demo.wait().unwrap().code(), Some(1));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}
