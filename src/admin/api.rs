//! What goes over the admin socket, as server and command line share it.
//!
//! Times are RFC 3339 in UTC; what a caller may leave out is optional, and what it sends too much
//! is refused. `docs/openapi.json` describes the same for other programs.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::feed::order::Seq;
use crate::store::ledger::adopt::{self, Adopt, Adoption};
use crate::store::queue::Queue;

/// Why a call was refused, or failed.
#[derive(Debug, Clone, PartialEq)]
pub struct Error {
    /// The HTTP status.
    pub status: u16,
    /// One of a few words, for programs.
    pub code: String,
    /// What was wrong, and what to do, for people.
    pub message: String,
    /// What to choose from, where that is what is missing (409).
    pub candidates: Vec<Value>,
}

impl Error {
    /// An error with nothing to choose from.
    pub fn new(status: u16, code: &str, message: impl Into<String>) -> Self {
        Self {
            status,
            code: code.to_owned(),
            message: message.into(),
            candidates: Vec::new(),
        }
    }

    /// 404: what the call is about is not there.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(404, "not_found", message)
    }

    /// 409: things are not so that it could be done.
    pub fn conflict(code: &str, message: impl Into<String>) -> Self {
        Self::new(409, code, message)
    }

    /// 422: what was sent can't be meant.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(422, "invalid", message)
    }

    /// 503: not now.
    pub fn unavailable(code: &str, message: impl Into<String>) -> Self {
        Self::new(503, code, message)
    }

    /// 503: the daemon ends.
    pub fn stopping() -> Self {
        Self::unavailable("stopping", "the daemon is stopping")
    }

    /// As it goes over the socket.
    pub fn to_json(&self) -> Value {
        let mut error = serde_json::json!({ "code": self.code, "message": self.message });
        if !self.candidates.is_empty() {
            error["candidates"] = Value::Array(self.candidates.clone());
        }
        serde_json::json!({ "error": error })
    }

    /// What came over the socket; `None` if it is none of ours.
    pub fn from_json(status: u16, body: &[u8]) -> Option<Self> {
        let body: Value = serde_json::from_slice(body).ok()?;
        let error = body.get("error")?;
        let text = |name| error.get(name)?.as_str().map(str::to_owned);
        let candidates = error.get("candidates").and_then(Value::as_array);
        Some(Self {
            status,
            code: text("code")?,
            message: text("message")?,
            candidates: candidates.cloned().unwrap_or_default(),
        })
    }
}

impl From<crate::store::Error> for Error {
    fn from(error: crate::store::Error) -> Self {
        Self::unavailable("store", error.to_string())
    }
}

/// `GET /v1/health`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Health {
    /// `ok`; anything else is an error, with 503.
    pub status: String,
}

/// `POST /v1/reload`: what is asked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Reload {
    /// Only say what would become of it.
    pub dry_run: bool,
}

/// `POST /v1/reload`: what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reloaded {
    /// Whether it is in force now.
    pub reloaded: bool,
    /// The file that was read.
    pub file: String,
    /// What it needs a restart for, in words.
    pub notes: Vec<String>,
    /// With `dry_run`: what it means for each webhook.
    pub webhooks: Vec<Planned>,
}

/// What becomes of what waits for a webhook.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Becomes {
    /// It is sent.
    Sends,
    /// It waits until the webhook is active (D24).
    Inactive,
    /// The webhook is held until it says where it begins (D27).
    Held,
    /// It waits for the webhook's return: the configuration does not have it (D27).
    Removed,
}

/// What a configuration means for a webhook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Planned {
    /// The webhook's name.
    pub name: String,
    /// What becomes of what waits for it.
    pub becomes: Becomes,
    /// Why, where it is held.
    pub reason: Option<String>,
    /// What it would be sent, by order type, without those of which there is nothing.
    pub waiting: BTreeMap<String, Count>,
    /// What it collected and does not select.
    pub parked: u64,
    /// The orders of the payload that it is busy with.
    pub pending: u64,
    /// What is wrong with it, if anything: its standing, and why.
    pub trouble: Option<String>,
}

/// A number that may be cut short.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Count {
    /// So many.
    pub count: u64,
    /// There are more: nobody counted on.
    pub or_more: bool,
}

/// `POST /v1/adopt-queue`: what is asked; one of the two.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdoptQueue {
    /// Send the orders from this seq on.
    pub resend_from: Option<i64>,
    /// Send all orders in the file.
    pub all_new: bool,
}

impl AdoptQueue {
    /// As the ledger understands it.
    pub fn meant(self) -> Result<Adopt, Error> {
        match (self.resend_from, self.all_new) {
            (Some(seq), false) if seq > 0 => Ok(Adopt::ResendFrom(Seq(seq))),
            (None, true) => Ok(Adopt::AllNew),
            _ => Err(Error::invalid(
                "say either resend_from (the seq of an order, from 1) or all_new = true",
            )),
        }
    }
}

/// `POST /v1/adopt-queue`: what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Adopted {
    /// The queue's file.
    pub queue: String,
    /// The ledger's file.
    pub ledger: String,
    /// The newest order in the queue.
    pub newest_seq: i64,
    /// What it means for each webhook.
    pub webhooks: Vec<AdoptedWebhook>,
    /// Parked orders that are no longer parked.
    pub parked_forgotten: u64,
}

/// What the adoption of a queue means for a webhook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdoptedWebhook {
    /// Its name.
    pub name: String,
    /// What became of its pending payload, in words.
    pub pending: Option<String>,
    /// The first and the last seq of orders that are not sent again, though the ledger does not know
    /// whether they were sent.
    pub passed: Option<[i64; 2]>,
}

impl Adopted {
    /// What the adoption did, with the files that it is about.
    pub fn new(adoption: Adoption, queue: &Queue, ledger: &Path) -> Self {
        let webhook = |webhook: adopt::Adopted| AdoptedWebhook {
            name: webhook.name,
            pending: webhook.pending,
            passed: webhook.passed.map(|(first, last)| [first.0, last.0]),
        };
        Self {
            queue: queue.path().display().to_string(),
            ledger: ledger.display().to_string(),
            newest_seq: queue.newest_noticed().0,
            webhooks: adoption.webhooks.into_iter().map(webhook).collect(),
            parked_forgotten: adoption.parked_forgotten,
        }
    }
}
