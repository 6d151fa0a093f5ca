//! What goes over the admin socket, as server and command line share it.
//!
//! Times are RFC 3339 in UTC; what a caller may leave out is optional, and what it sends too much
//! is refused. `docs/openapi.json` describes the same for other programs.

use serde::{Deserialize, Serialize};
use serde_json::Value;

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
    /// What it means for each webhook.
    pub webhooks: Vec<Planned>,
}

/// What a configuration means for a webhook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Planned {
    /// The webhook's name.
    pub name: String,
    /// `sends`, `inactive`, `held` (it must say where it begins) or `removed`.
    pub becomes: String,
    /// Why, where it is held.
    pub reason: Option<String>,
    /// What it would be sent, by order type.
    pub waiting: std::collections::BTreeMap<String, Count>,
    /// What it collected and does not select.
    pub parked: u64,
    /// The orders of the payload that it is busy with.
    pub pending: u64,
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
