//! What goes over the admin socket, as server and command line share it.
//!
//! Times are RFC 3339 in UTC; what a caller may leave out is optional, and what it sends too much
//! is refused. `docs/openapi.json` describes the same for other programs.

pub mod act;
pub mod explain;

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::clock::WallTime;
use crate::feed::order::OrderType;
use crate::feed::order::Seq;
use crate::store::backup::Backup;
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

    /// 404: there is no webhook of this name, but there are these.
    pub fn no_webhook(name: &str, names: &[String]) -> Self {
        let there_are = if names.is_empty() {
            "there are none".to_owned()
        } else {
            format!("there are: {}", names.join(", "))
        };
        Self::not_found(format!("there is no webhook {name:?}; {there_are}"))
    }

    /// 403: nobody granted it for orders of this type.
    pub fn not_of_type(order_type: OrderType) -> Self {
        Self::new(
            403,
            "forbidden",
            format!(
                "no grant of yours is for {order_type}s; an administrator adds them to its order_types, in [[admin.grant]] in the configuration"
            ),
        )
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

/// `POST /v1/backup`: what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackedUp {
    /// The folder with both copies.
    pub folder: String,
    /// How large they are.
    pub bytes: u64,
}

impl From<Backup> for BackedUp {
    fn from(backup: Backup) -> Self {
        Self {
            folder: backup.folder.display().to_string(),
            bytes: backup.bytes,
        }
    }
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

/// `GET /v1/events`: the triggers one can subscribe to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Triggers {
    /// Each kind of trigger.
    pub triggers: Vec<TriggerKind>,
    /// The order types.
    pub types: Vec<String>,
    /// The action of an order that names none.
    pub default_action: String,
    /// What an action may be: a regular expression.
    pub action_pattern: String,
}

/// A kind of trigger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TriggerKind {
    /// The trigger; `ACTION` stands for any action.
    pub trigger: String,
    /// The orders that it means.
    pub orders: String,
}

/// An order for `POST /v1/orders`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewOrder<'a> {
    /// Its order type.
    #[serde(rename = "type")]
    pub order_type: String,
    /// What happened to it, if not `submit`.
    pub action: Option<String>,
    /// A second order with the same key is refused (409), so that a call can be repeated.
    pub dedup_key: Option<String>,
    /// The order itself, which is passed on as it stands.
    #[serde(borrow)]
    pub order: &'a RawValue,
}

/// `POST /v1/orders`: what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Enqueued {
    /// Each order, as they were sent.
    pub orders: Vec<EnqueuedOrder>,
}

/// An order that is in the queue now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnqueuedOrder {
    /// Its place in the queue.
    pub seq: i64,
    /// Its order type.
    #[serde(rename = "type")]
    pub order_type: String,
    /// Its tracking number, as text.
    pub tracking_number: String,
}

/// What happens, as `GET /v1/stream` tells it; the times are when it was written down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// Orders were noticed in the queue, up to this one.
    Orders {
        /// When.
        at: WallTime,
        /// The newest of them.
        newest_seq: i64,
    },
    /// A payload has another state.
    Payload {
        /// When.
        at: WallTime,
        /// The webhook it is for.
        webhook: String,
        /// Which.
        payload_id: String,
        /// Its state now.
        state: String,
        /// Why, unless it is delivered.
        reason: Option<String>,
        /// How many orders it has, when it is new.
        items: Option<u64>,
        /// Their order type, when it is new.
        #[serde(rename = "type")]
        order_type: Option<String>,
        /// What happened to them, when it is new.
        action: Option<String>,
    },
    /// An attempt ended.
    Attempt {
        /// When.
        at: WallTime,
        /// The webhook.
        webhook: String,
        /// The payload.
        payload_id: String,
        /// Counts the attempts at this payload, from 1.
        number: u32,
        /// How long it took, in milliseconds; unknown where it was cut off.
        duration_ms: Option<u64>,
        /// How far it came (D16).
        phase: Option<String>,
        /// What it came to.
        outcome: String,
        /// The answer's status.
        status: Option<u16>,
        /// What went wrong.
        error: Option<String>,
    },
    /// A webhook has another state.
    Webhook {
        /// When.
        at: WallTime,
        /// Which.
        webhook: String,
        /// Its state now.
        state: String,
    },
    /// So many events were not told, because they were read too slowly.
    Missed {
        /// So many.
        count: u64,
    },
    /// The daemon ends.
    Stopping {},
}

impl Event {
    /// Its name.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Orders { .. } => "orders",
            Self::Payload { .. } => "payload",
            Self::Attempt { .. } => "attempt",
            Self::Webhook { .. } => "webhook",
            Self::Missed { .. } => "missed",
            Self::Stopping {} => "stopping",
        }
    }
}
