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
      backup       Copy queue and ledger to the folder for backups; deliveries go on meanwhile
      restore      Go back to a backup; says first which orders are sent again and which are missing,
                   and asks
      adopt-queue  Go on with a queue that was replaced or restored, or with a new ledger
      resend       Send a payload again, an order of it, the latest payload of an order, or all that
                   failed
      discard      Give a payload up: it is not sent any more, and what waits behind it goes on
      withdraw     Take an order back from every webhook for which it is not yet in a payload
      test         Send a webhook one test request a trigger: without orders, and marked as a test
      pause        Pause a webhook: its orders wait until `orderfeed resume`, also over restarts
      resume       Let a webhook go on that was paused, deactivated or held
      retry-now    Let a webhook try again now, not when its retry is due
      reload       Let the daemon read its configuration again: all of it, or nothing if something is
                   wrong
      status       Show what goes on: what waits, where each webhook stands and why, and what happens
                   next
      trace        Tell an order's whole story: what became of it for each webhook, or why it has not
                   gone yet
      payloads     List payloads, newest first
      show         Show a payload with each of its attempts, or the bytes that it is made of
      reconcile    Account for every order of the queue, for each webhook; one that is missing is an
                   error
      tail         Show what happens as it happens, until Ctrl-C: orders noticed, payloads, attempts,
                   webhooks
      completions  Print what makes a shell complete commands, webhooks and payload ids
      man          Print the manual page of orderfeed, or of one of its commands
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
          --deep           Also read all of queue and ledger: whether they are sound, and agree; the
                           daemon must be stopped
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

    A daemon that stands still because of it goes on at once; without one, the next start does. Orders
    that were delivered before, and are sent again by this, get new payload ids.

    Usage: orderfeed adopt-queue [OPTIONS] <--resend-from <SEQ>|--all-new>

    Options:
          --config <FILE>
              The configuration file [default: $ORDERFEED_CONFIG, or /etc/orderfeed/config.toml]

          --resend-from <SEQ>
              Send the orders from this seq on

          --all-new
              Send all orders in the file

          --json
              Print JSON, as the admin socket answers

      -h, --help
              Print help (see a summary with '-h')
    ");
}

#[test]
fn resume() {
    insta::assert_snapshot!(help(&["resume"]), @"
    Let a webhook go on that was paused, deactivated or held

    Usage: orderfeed resume [OPTIONS] <NAME>

    Arguments:
      <NAME>  The webhook's name

    Options:
          --config <FILE>  The configuration file [default: $ORDERFEED_CONFIG, or
                           /etc/orderfeed/config.toml]
          --json           Print JSON, as the admin socket answers
      -h, --help           Print help
    ");
}

#[test]
fn webhooks() {
    insta::assert_snapshot!(help(&["webhooks"]), @"
    What can be done to webhooks beside configuring them

    Usage: orderfeed webhooks [OPTIONS] <COMMAND>

    Commands:
      list         List the webhooks: where each stands and why, and what happens next
      show         Show one webhook
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

#[test]
fn status() {
    insta::assert_snapshot!(help(&["status"]), @"
    Show what goes on: what waits, where each webhook stands and why, and what happens next

    Without a daemon it looks into the files.

    Usage: orderfeed status [OPTIONS]

    Options:
          --check
              Print one line for Nagios and its like, and end with their codes: 0 ok, 1 warning, 2
              critical, 3 unknown

          --config <FILE>
              The configuration file [default: $ORDERFEED_CONFIG, or /etc/orderfeed/config.toml]

          --json
              Print JSON, as the admin socket answers

      -h, --help
              Print help (see a summary with '-h')
    ");
}

#[test]
fn trace() {
    insta::assert_snapshot!(help(&["trace"]), @"
    Tell an order's whole story: what became of it for each webhook, or why it has not gone yet

    Without a daemon it looks into the files.

    Usage: orderfeed trace [OPTIONS] <TRACKING_NUMBER>

    Arguments:
      <TRACKING_NUMBER>
              The order's TrackingNumber

    Options:
          --config <FILE>
              The configuration file [default: $ORDERFEED_CONFIG, or /etc/orderfeed/config.toml]

          --json
              Print JSON, as the admin socket answers

      -h, --help
              Print help (see a summary with '-h')
    ");
}

#[test]
fn payloads() {
    insta::assert_snapshot!(help(&["payloads"]), @r#"
    List payloads, newest first

    Without a daemon it looks into the files. Times are how long ago ("2h"), local ("2026-01-31 14:05"),
    or UTC ("2026-01-31T13:05:00Z").

    Usage: orderfeed payloads [OPTIONS]

    Options:
          --config <FILE>
              The configuration file [default: $ORDERFEED_CONFIG, or /etc/orderfeed/config.toml]

          --webhook <NAME>
              Only this webhook's

          --state <STATE>
              Only those in this state: pending, `in_flight`, delivered, failed, discarded

          --type <ORDER_TYPE>
              Only of this order type

          --tracking-number <N>
              Only those with an order of this tracking number

          --since <TIME>
              Only those composed since

          --until <TIME>
              Only those composed before

          --limit <LIMIT>
              So many at most
              
              [default: 50]

          --after <PAYLOAD_ID>
              Only those older than this one, as the last line says

          --json
              Print JSON, as the admin socket answers

      -h, --help
              Print help (see a summary with '-h')
    "#);
}

#[test]
fn show() {
    insta::assert_snapshot!(help(&["show"]), @"
    Show a payload with each of its attempts, or the bytes that it is made of

    Without a daemon it looks into the files.

    Usage: orderfeed show [OPTIONS] <PAYLOAD_ID>

    Arguments:
      <PAYLOAD_ID>
              The payload's id: `pl_` and 26 characters

    Options:
          --body
              Print the body, byte for byte as it is sent (before it is compressed), and nothing else

          --config <FILE>
              The configuration file [default: $ORDERFEED_CONFIG, or /etc/orderfeed/config.toml]

          --json
              Print JSON, as the admin socket answers

      -h, --help
              Print help (see a summary with '-h')
    ");
}

#[test]
fn reconcile() {
    insta::assert_snapshot!(help(&["reconcile"]), @r#"
    Account for every order of the queue, for each webhook; one that is missing is an error

    Without a daemon it looks into the files; none can start meanwhile.

    Usage: orderfeed reconcile [OPTIONS]

    Options:
          --config <FILE>
              The configuration file [default: $ORDERFEED_CONFIG, or /etc/orderfeed/config.toml]

          --since <TIME>
              Only orders that were queued since: how long ago ("2h"), local ("2026-01-31 14:05"), or
              UTC

          --json
              Print JSON

      -h, --help
              Print help (see a summary with '-h')
    "#);
}

#[test]
fn webhooks_list() {
    insta::assert_snapshot!(help(&["webhooks", "list"]), @"
    List the webhooks: where each stands and why, and what happens next

    Without a daemon it looks into the files.

    Usage: orderfeed webhooks list [OPTIONS]

    Options:
          --config <FILE>
              The configuration file [default: $ORDERFEED_CONFIG, or /etc/orderfeed/config.toml]

          --json
              Print JSON, as the admin socket answers

      -h, --help
              Print help (see a summary with '-h')
    ");
}

#[test]
fn webhooks_show() {
    insta::assert_snapshot!(help(&["webhooks", "show"]), @"
    Show one webhook

    Without a daemon it looks into the files.

    Usage: orderfeed webhooks show [OPTIONS] <NAME>

    Arguments:
      <NAME>
              The webhook's name

    Options:
          --config <FILE>
              The configuration file [default: $ORDERFEED_CONFIG, or /etc/orderfeed/config.toml]

          --json
              Print JSON, as the admin socket answers

      -h, --help
              Print help (see a summary with '-h')
    ");
}

#[test]
fn resend() {
    insta::assert_snapshot!(help(&["resend"]), @"
    Send a payload again, an order of it, the latest payload of an order, or all that failed

    Usage: orderfeed resend [OPTIONS] <PAYLOAD_ID|--tracking-number <N>|--failed>

    Arguments:
      [PAYLOAD_ID]  This payload; with --tracking-number, only that order of it

    Options:
          --config <FILE>        The configuration file [default: $ORDERFEED_CONFIG, or
                                 /etc/orderfeed/config.toml]
          --tracking-number <N>  The latest payload that carried this order
          --failed               All payloads that failed
          --since <TIME>         Of those, the ones that failed since: 2h (ago), or 2026-01-31T23:59:59Z
          --until <TIME>         Of those, the ones that failed before: 2h (ago), or
                                 2026-01-31T23:59:59Z
          --webhook <NAME>       Only to this webhook
          --type <TYPE>          Only orders of this type: purchase_order, transfer_order or work_order
          --as-new               Under a new id, and made anew: for when it was made wrongly, or the
                                 receiver drops repeated ids
          --force                Also orders of which a later version was delivered since, which they
                                 would overwrite
          --skip-superseded      Without the orders of which a later version was delivered since
          --dry-run              Only show what would go where
          --json                 Print JSON, as the admin socket answers
      -h, --help                 Print help
    ");
}

#[test]
fn discard() {
    insta::assert_snapshot!(help(&["discard"]), @"
    Give a payload up: it is not sent any more, and what waits behind it goes on

    Usage: orderfeed discard [OPTIONS] --reason <TEXT> <PAYLOAD_ID>

    Arguments:
      <PAYLOAD_ID>  The payload, neither in flight nor delivered

    Options:
          --config <FILE>  The configuration file [default: $ORDERFEED_CONFIG, or
                           /etc/orderfeed/config.toml]
          --reason <TEXT>  Why; it is shown with the payload
          --json           Print JSON, as the admin socket answers
      -h, --help           Print help
    ");
}

#[test]
fn withdraw() {
    insta::assert_snapshot!(help(&["withdraw"]), @"
    Take an order back from every webhook for which it is not yet in a payload

    Usage: orderfeed withdraw [OPTIONS] <TRACKING_NUMBER>

    Arguments:
      <TRACKING_NUMBER>  The order's tracking number

    Options:
          --config <FILE>  The configuration file [default: $ORDERFEED_CONFIG, or
                           /etc/orderfeed/config.toml]
          --type <TYPE>    Its type, where the number is that of several: purchase_order, transfer_order
                           or work_order
          --json           Print JSON, as the admin socket answers
      -h, --help           Print help
    ");
}

#[test]
fn test() {
    insta::assert_snapshot!(help(&["test"]), @"
    Send a webhook one test request a trigger: without orders, and marked as a test

    Usage: orderfeed test [OPTIONS] <NAME>

    Arguments:
      <NAME>  The webhook's name

    Options:
          --config <FILE>  The configuration file [default: $ORDERFEED_CONFIG, or
                           /etc/orderfeed/config.toml]
          --now            Without waiting until the webhook's pace allows it
          --json           Print JSON, as the admin socket answers
      -h, --help           Print help
    ");
}

#[test]
fn pause() {
    insta::assert_snapshot!(help(&["pause"]), @"
    Pause a webhook: its orders wait until `orderfeed resume`, also over restarts

    Usage: orderfeed pause [OPTIONS] <NAME>

    Arguments:
      <NAME>  The webhook's name

    Options:
          --config <FILE>  The configuration file [default: $ORDERFEED_CONFIG, or
                           /etc/orderfeed/config.toml]
          --json           Print JSON, as the admin socket answers
      -h, --help           Print help
    ");
}

#[test]
fn retry_now() {
    insta::assert_snapshot!(help(&["retry-now"]), @"
    Let a webhook try again now, not when its retry is due

    Usage: orderfeed retry-now [OPTIONS] <NAME>

    Arguments:
      <NAME>  The webhook's name

    Options:
          --config <FILE>  The configuration file [default: $ORDERFEED_CONFIG, or
                           /etc/orderfeed/config.toml]
          --json           Print JSON, as the admin socket answers
      -h, --help           Print help
    ");
}

#[test]
fn reload() {
    insta::assert_snapshot!(help(&["reload"]), @"
    Let the daemon read its configuration again: all of it, or nothing if something is wrong

    Usage: orderfeed reload [OPTIONS]

    Options:
          --config <FILE>  The configuration file [default: $ORDERFEED_CONFIG, or
                           /etc/orderfeed/config.toml]
          --dry-run        Only say what would become of it
          --json           Print JSON, as the admin socket answers
      -h, --help           Print help
    ");
}

#[test]
fn tail() {
    insta::assert_snapshot!(help(&["tail"]), @"
    Show what happens as it happens, until Ctrl-C: orders noticed, payloads, attempts, webhooks

    Usage: orderfeed tail [OPTIONS]

    Options:
          --config <FILE>  The configuration file [default: $ORDERFEED_CONFIG, or
                           /etc/orderfeed/config.toml]
          --json           Print one JSON object a line, as the admin socket sends them
      -h, --help           Print help
    ");
}

#[test]
fn completions() {
    insta::assert_snapshot!(help(&["completions"]), @"
    Print what makes a shell complete commands, webhooks and payload ids

    For bash, in ~/.bashrc: source <(orderfeed completions bash)

    Usage: orderfeed completions [OPTIONS] <SHELL>

    Arguments:
      <SHELL>
              bash, zsh, fish, elvish or powershell

    Options:
          --config <FILE>
              The configuration file [default: $ORDERFEED_CONFIG, or /etc/orderfeed/config.toml]

      -h, --help
              Print help (see a summary with '-h')
    ");
}

#[test]
fn man() {
    insta::assert_snapshot!(help(&["man"]), @"
    Print the manual page of orderfeed, or of one of its commands

    To read it: orderfeed man | man -l -

    Usage: orderfeed man [OPTIONS] [COMMAND]

    Arguments:
      [COMMAND]
              The command

    Options:
          --config <FILE>
              The configuration file [default: $ORDERFEED_CONFIG, or /etc/orderfeed/config.toml]

          --to <FOLDER>
              Write all pages into this folder instead: orderfeed.1, orderfeed-check.1, ...

      -h, --help
              Print help (see a summary with '-h')
    ");
}

#[test]
fn backup() {
    insta::assert_snapshot!(help(&["backup"]), @"
    Copy queue and ledger to the folder for backups; deliveries go on meanwhile

    `orderfeed restore FOLDER` goes back to it.

    Usage: orderfeed backup [OPTIONS]

    Options:
          --config <FILE>
              The configuration file [default: $ORDERFEED_CONFIG, or /etc/orderfeed/config.toml]

          --json
              Print JSON, as the admin socket answers

      -h, --help
              Print help (see a summary with '-h')
    ");
}

#[test]
fn restore() {
    insta::assert_snapshot!(help(&["restore"]), @"
    Go back to a backup; says first which orders are sent again and which are missing, and asks

    The daemon must be stopped, and so must programs that have the queue open: they would go on writing
    into the file that is replaced. That one and the ledger are kept beside the new ones.

    Usage: orderfeed restore [OPTIONS] <FOLDER>

    Arguments:
      <FOLDER>
              The backup's folder

    Options:
          --config <FILE>
              The configuration file [default: $ORDERFEED_CONFIG, or /etc/orderfeed/config.toml]

          --yes
              Do it without asking

      -h, --help
              Print help (see a summary with '-h')
    ");
}
