//! The configuration: what is accepted keeps within what is documented, what is not says why.
//!
//! The input is a configuration; after a line with `---`, variables of the environment.

#![no_main]

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use orderfeed::config::Config;

fuzz_target!(|text: &str| {
    // A secret may come from a file: not from any of this machine's.
    if text.contains("file") {
        return;
    }
    let (text, variables) = text.split_once("\n---\n").unwrap_or((text, ""));
    let environment = || {
        let variables = variables.lines().filter_map(|line| line.split_once('='));
        variables.map(|(name, value)| (OsString::from(name), OsString::from(value)))
    };
    let file = Path::new("/etc/orderfeed/config.toml");
    let read = || Config::read(file, text, environment(), None);
    match read() {
        Err(errors) => {
            let mut any = false;
            for error in errors.iter() {
                any = true;
                assert!(!error.to_string().is_empty());
            }
            assert!(any, "refused, and nobody says why");
            let again = read().expect_err("the same text");
            assert_eq!(errors.to_string(), again.to_string());
        }
        Ok(config) => {
            assert_eq!(read().ok().as_ref(), Some(&config));
            assert_ne!(config.queue.path, config.ledger.path);
            let minute = Duration::from_secs(60);
            assert!((Duration::from_millis(10)..=minute).contains(&config.queue.poll_interval));
            for webhook in &config.webhooks {
                let policy = &webhook.policy;
                assert!((1..=10_000).contains(&policy.payload_max_items));
                assert!((1 << 10..=64 << 20).contains(&policy.payload_max_bytes));
                assert!(!webhook.endpoint.timeout.is_zero());
                let url = &webhook.endpoint.url;
                assert!(
                    url.username().is_empty() && url.password().is_none(),
                    "{url}"
                );
                assert!(url.has_host());
                let loopback = url.host_str().is_some_and(|host| {
                    let ip = host.trim_matches(['[', ']']).parse::<IpAddr>();
                    host == "localhost"
                        || host.ends_with(".localhost")
                        || ip.is_ok_and(|ip| ip.is_loopback())
                });
                let plain_allowed =
                    loopback || text.contains("allow_http") || variables.contains("HTTP");
                assert!(
                    url.scheme() == "https" || url.scheme() == "http" && plain_allowed,
                    "{url}"
                );
            }
        }
    }
});
