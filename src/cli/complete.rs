//! What a shell may complete: the commands, and, while the daemon runs, its webhooks and payloads.
//!
//! Where the daemon can't be asked there is nothing to propose, and nobody is told: a shell has no
//! place for it.

use std::ffi::OsStr;
use std::path::PathBuf;

use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};
use clap_complete::env::CompleteEnv;
use serde_json::Value;

use super::ConfigPlace;
use super::client::Client;

/// Set by the script that `orderfeed completions` prints.
pub(super) const VARIABLE: &str = "_ORDERFEED_COMPLETE";

/// Answers a shell that asks what could follow, and ends; returns if none does.
pub(super) fn answer_shell(command: impl Fn() -> clap::Command) {
    CompleteEnv::with_factory(command)
        .var(VARIABLE)
        .bin("orderfeed")
        .complete();
}

/// Completes webhooks' names.
pub(super) fn webhooks() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| {
        matching(
            current,
            &ask("/v1/webhooks"),
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
    // The engine does not say what else stands on the line.
    let args: Vec<_> = std::env::args_os().collect();
    let given = args.iter().position(|arg| arg == "--config");
    let given = given.and_then(|at| args.get(at + 1)).map(PathBuf::from);
    Client::new(&ConfigPlace(given))
        .ok()
        .filter(Client::is_running)
        .and_then(|client| client.get(path).ok())
        .unwrap_or_default()
}
