//! What a shell may complete: the commands, webhooks, and, while the daemon runs, its payloads.
//!
//! Where nobody can be asked there is nothing to propose, and nobody is told: a shell has no
//! place for it.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};
use clap_complete::env::CompleteEnv;
use serde_json::Value;

use super::ConfigPlace;
use super::ask::Asked;
use super::client::Client;
use crate::admin::explain;
use crate::feed::order::OrderType;
use crate::feed::payload::PayloadState;

/// Set by the script that `orderfeed completions` prints.
pub(super) const VARIABLE: &str = "_ORDERFEED_COMPLETE";

/// Answers a shell that asks what could follow, and ends; returns if none does.
pub(super) fn answer_shell(command: impl Fn() -> clap::Command) {
    CompleteEnv::with_factory(command)
        .var(VARIABLE)
        .bin("orderfeed")
        .complete();
}

/// Completes webhooks' names; without a daemon, those in the ledger and the configuration.
pub(super) fn webhooks() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| {
        let found = match Asked::find(&place()) {
            Ok(Asked::Daemon(client)) => answer_of(&client, "/v1/webhooks"),
            Ok(Asked::Files(mut files)) => files
                .answer(explain::webhooks)
                .ok()
                .and_then(|found| serde_json::to_value(found).ok()),
            Err(_) => None,
        };
        matching(
            current,
            &found.unwrap_or_default(),
            "webhooks",
            "name",
            &["state", "reason"],
        )
    })
}

/// Completes payload ids: the newest ones.
pub(super) fn payloads() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| {
        let newest = ask("/v1/payloads?limit=100");
        matching(
            current,
            &newest,
            "payloads",
            "payload_id",
            &["webhook", "state", "created_at"],
        )
    })
}

/// Completes the states of payloads.
pub(super) fn states() -> ArgValueCompleter {
    words(PayloadState::ALL.map(PayloadState::as_str))
}

/// Completes order types.
pub(super) fn order_types() -> ArgValueCompleter {
    words(OrderType::ALL.map(OrderType::as_str))
}

fn words<const COUNT: usize>(words: [&'static str; COUNT]) -> ArgValueCompleter {
    ArgValueCompleter::new(move |current: &OsStr| {
        let begins = |word: &&str| {
            current
                .to_str()
                .is_some_and(|begun| word.starts_with(begun))
        };
        words
            .into_iter()
            .filter(begins)
            .map(CompletionCandidate::new)
            .collect()
    })
}

/// Those of a list of objects whose name begins so, with more of them as help.
fn matching(
    current: &OsStr,
    answer: &Value,
    list: &str,
    name: &str,
    help: &[&str],
) -> Vec<CompletionCandidate> {
    let Some(current) = current.to_str() else {
        return Vec::new();
    };
    let objects = answer[list].as_array().into_iter().flatten();
    objects
        .filter_map(|object| {
            let name = object[name]
                .as_str()
                .filter(|name| name.starts_with(current))?;
            let help: Vec<&str> = help
                .iter()
                .filter_map(|key| object[*key].as_str())
                .collect();
            Some(CompletionCandidate::new(name).help(Some(help.join(" ").into())))
        })
        .collect()
}

/// What the daemon answers, or nothing.
fn ask(path: &str) -> Value {
    Client::new(&place())
        .ok()
        .filter(Client::is_running)
        .and_then(|client| answer_of(&client, path))
        .unwrap_or_default()
}

fn answer_of(client: &Client, path: &str) -> Option<Value> {
    client.get(path).ok()
}

/// The engine does not say what else stands on the line.
fn place() -> ConfigPlace {
    let args: Vec<_> = std::env::args_os().collect();
    ConfigPlace(config_among(&args))
}

/// What `--config` says on a line that is not whole yet.
fn config_among(args: &[OsString]) -> Option<PathBuf> {
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        if arg == "--config" {
            return rest.next().map(PathBuf::from);
        }
        let joined = arg.to_str().and_then(|arg| arg.strip_prefix("--config="));
        if let Some(path) = joined {
            return Some(PathBuf::from(path));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_is_found_on_a_line_that_is_not_whole() {
        for (line, expected) in [
            ("orderfeed --config a.toml trace", Some("a.toml")),
            ("orderfeed trace --config=b.toml", Some("b.toml")),
            ("orderfeed trace --config", None),
            ("orderfeed trace", None),
        ] {
            let args: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            assert_eq!(config_among(&args), expected.map(PathBuf::from), "{line}");
        }
    }
}
