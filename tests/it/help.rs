//! What `--help` says, of every command: a change of it is meant, and seen.

use std::process::{Command, Stdio};

/// What it prints, as on a terminal of this width.
fn help_at(columns: &str, command: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_orderfeed"))
        .args(command)
        .arg("--help")
        .env("COLUMNS", columns)
        .env_remove("ORDERFEED_CONFIG")
        // No terminal, whose width would count instead.
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn help(command: &[&str]) -> String {
    help_at("100", command)
}

/// The commands that a help lists.
fn listed(help: &str) -> Vec<&str> {
    help.lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.strip_prefix("  ")?.split(' ').next())
        .filter(|name| !name.is_empty())
        .collect()
}

#[test]
fn every_command_has_its_snapshot_here() {
    let here = include_str!("help.rs");
    let top = help(&[]);
    let mut commands: Vec<Vec<&str>> = listed(&top).into_iter().map(|name| vec![name]).collect();
    let below = help(&["webhooks"]);
    commands.extend(
        listed(&below)
            .into_iter()
            .map(|name| vec!["webhooks", name]),
    );
    for command in commands {
        let call = format!("help(&{command:?})");
        assert!(
            command.ends_with(&["help"]) || here.contains(&call),
            "no {call}"
        );
    }
}

#[test]
fn no_line_is_wider_than_the_terminal() {
    let top = help(&[]);
    for command in listed(&top).into_iter().filter(|name| *name != "help") {
        for columns in ["80", "100", "200"] {
            let width = columns.parse::<usize>().unwrap().min(100);
            for line in help_at(columns, &[command]).lines() {
                assert!(
                    line.chars().count() <= width,
                    "{command} at {columns}: {line}"
                );
            }
        }
    }
}

#[test]
fn orderfeed() {
    insta::assert_snapshot!(help(&[]), @"
    Delivers purchase, transfer and work orders from a local SQLite queue to HTTP receivers

    Usage: orderfeed [OPTIONS] <COMMAND>

    Commands:
      run          Deliver what is in the queue, and go on until stopped
      demo         Show how orders go from a queue to a receiver, in a temporary folder, in ten seconds
      init         Make the queue and the ledger where the configuration says; what exists is left as it
                   is
      check        Check the configuration, and say what it would do; nothing is sent
      enqueue      Queue the orders of files: all are checked before the first is queued
      receive      Receive orders and show them: a receiver to try things with
      adopt-queue  Go on with a queue that was replaced or restored, or with a new ledger
      resume       Let a webhook go on that was deactivated or held
      webhooks     What can be done to webhooks beside configuring them
      help         Print this message or the help of the given subcommand(s)

    Options:
          --config <FILE>  The configuration file [default: $ORDERFEED_CONFIG, or
                           /etc/orderfeed/config.toml]
      -h, --help           Print help
      -V, --version        Print version
    ");
}

#[test]
fn run() {
    insta::assert_snapshot!(help(&["run"]), @"
    Deliver what is in the queue, and go on until stopped

    SIGTERM and Ctrl-C start no further request, let those in flight finish, and end it. SIGHUP reads
    the configuration again.

    Usage: orderfeed run [OPTIONS]

    Options:
          --config <FILE>
              The configuration file [default: $ORDERFEED_CONFIG, or /etc/orderfeed/config.toml]

      -h, --help
              Print help (see a summary with '-h')
    ");
}

#[test]
fn demo() {
    insta::assert_snapshot!(help(&["demo"]), @"
    Show how orders go from a queue to a receiver, in a temporary folder, in ten seconds

    Usage: orderfeed demo [OPTIONS]

    Options:
          --config <FILE>  The configuration file [default: $ORDERFEED_CONFIG, or
                           /etc/orderfeed/config.toml]
          --keep           Go on until Ctrl-C, for queueing orders of one's own, and leave the files
      -h, --help           Print help
    ");
}

#[test]
fn init() {
    insta::assert_snapshot!(help(&["init"]), @"
    Make the queue and the ledger where the configuration says; what exists is left as it is

    Usage: orderfeed init [OPTIONS]

    Options:
          --config <FILE>  The configuration file [default: $ORDERFEED_CONFIG, or
                           /etc/orderfeed/config.toml]
      -h, --help           Print help
    ");
}

#[test]
fn check() {
    insta::assert_snapshot!(help(&["check"]), @"
    Check the configuration, and say what it would do; nothing is sent

    Usage: orderfeed check [OPTIONS]

    Options:
          --config <FILE>  The configuration file [default: $ORDERFEED_CONFIG, or
                           /etc/orderfeed/config.toml]
          --connect        Also open a connection to each webhook; nothing is sent over it
      -h, --help           Print help
    ");
}

#[test]
fn enqueue() {
    insta::assert_snapshot!(help(&["enqueue"]), @"
    Queue the orders of files: all are checked before the first is queued

    A file holds one order, an array of orders, one order a line (NDJSON), or a whole payload as a
    receiver gets it, which says the type and action itself. NDJSON may be of any length, a file of
    another kind has up to 1 GiB.

    Usage: orderfeed enqueue [OPTIONS] [FILE]...

    Arguments:
      [FILE]...
              Files of orders; - is standard input, which is also read if no file is named

    Options:
          --config <FILE>
              The configuration file [default: $ORDERFEED_CONFIG, or /etc/orderfeed/config.toml]

          --type <TYPE>
              The orders' type: purchase_order, transfer_order or work_order; a payload says it itself

          --action <ACTION>
              What happened to the orders, if not submit: create, update, destroy, ...

          --skip <N>
              Check all orders, but queue only those after the first N, counted over all files
              
              For going on where an earlier call was stopped, which says what N is.
              
              [default: 0]

          --queue <FILE>
              The queue's file; then no configuration is read, which may hold what producers must not
              see

      -h, --help
              Print help (see a summary with '-h')
    ");
}

#[test]
fn receive() {
    insta::assert_snapshot!(help(&["receive"]), @"
    Receive orders and show them: a receiver to try things with

    It takes what a webhook sends to it, on any path, until Ctrl-C, and sums up. A payload that comes
    twice with the same body is fine. Other bytes under a known payload id, and an order that comes
    again unchanged under another id for no stated reason, are alarms. It ends with 1 if there was an
    alarm, or a request that orderfeed would not send.

    Usage: orderfeed receive [OPTIONS]

    Options:
          --config <FILE>
              The configuration file [default: $ORDERFEED_CONFIG, or /etc/orderfeed/config.toml]

          --listen <ADDRESS:PORT>
              Where to listen; port 0 takes a free one, and the url is printed
              
              [default: 127.0.0.1:8080]

          --status <STATUS>
              Answer with this status
              
              [default: 200]

          --delay <DURATION>
              Answer only after so long: 2s, 500ms
              
              [default: 0s]

          --fail-every <N>
              Refuse every N-th request

          --fail-status <STATUS>
              The status with which every N-th request is refused
              
              [default: 503]

          --secret-file <FILE>
              Expect signatures by the secret in this file (whsec_...); several files: by any of them

          --authorization-file <FILE>
              Expect the header authorization to be what is in this file

          --bodies
              Print the orders, too

          --json
              Print one JSON object a line

          --write-to <FOLDER>
              Write each payload's body to a file in this folder, named by its id

          --count <N>
              End after so many requests

      -h, --help
              Print help (see a summary with '-h')
    ");
}

#[test]
fn adopt_queue() {
    insta::assert_snapshot!(help(&["adopt-queue"]), @"
    Go on with a queue that was replaced or restored, or with a new ledger

    The daemon must be stopped. Orders that were delivered before, and are sent again by this, get new
    payload ids.

    Usage: orderfeed adopt-queue [OPTIONS] <--resend-from <SEQ>|--all-new>

    Options:
          --config <FILE>
              The configuration file [default: $ORDERFEED_CONFIG, or /etc/orderfeed/config.toml]

          --resend-from <SEQ>
              Send the orders from this seq on

          --all-new
              Send all orders in the file

      -h, --help
              Print help (see a summary with '-h')
    ");
}

#[test]
fn resume() {
    insta::assert_snapshot!(help(&["resume"]), @"
    Let a webhook go on that was deactivated or held

    The daemon must be stopped.

    Usage: orderfeed resume [OPTIONS] <NAME>

    Arguments:
      <NAME>
              The webhook's name

    Options:
          --config <FILE>
              The configuration file [default: $ORDERFEED_CONFIG, or /etc/orderfeed/config.toml]

      -h, --help
              Print help (see a summary with '-h')
    ");
}

#[test]
fn webhooks() {
    insta::assert_snapshot!(help(&["webhooks"]), @"
    What can be done to webhooks beside configuring them

    Usage: orderfeed webhooks [OPTIONS] <COMMAND>

    Commands:
      drop-parked  Drop the orders that a webhook collected and no longer selects; it will never send
                   them
      help         Print this message or the help of the given subcommand(s)

    Options:
          --config <FILE>  The configuration file [default: $ORDERFEED_CONFIG, or
                           /etc/orderfeed/config.toml]
      -h, --help           Print help
    ");
}

#[test]
fn webhooks_drop_parked() {
    insta::assert_snapshot!(help(&["webhooks", "drop-parked"]), @"
    Drop the orders that a webhook collected and no longer selects; it will never send them

    The daemon must be stopped.

    Usage: orderfeed webhooks drop-parked [OPTIONS] <NAME>

    Arguments:
      <NAME>
              The webhook's name

    Options:
          --config <FILE>
              The configuration file [default: $ORDERFEED_CONFIG, or /etc/orderfeed/config.toml]

      -h, --help
              Print help (see a summary with '-h')
    ");
}
