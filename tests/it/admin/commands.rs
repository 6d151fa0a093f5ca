//! The commands that ask over the socket: what they print, and their exit codes (contract, section 7).

use insta::assert_snapshot;

use super::Asked;
use crate::support::{Receiver, Site};

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
    tail.stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null());
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
