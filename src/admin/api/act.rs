//! What an operator does, as it goes over the admin socket: resend, discard, pause, resume,
//! retry-now, test, withdraw.

use serde::{Deserialize, Deserializer, Serialize};

use crate::clock::WallTime;

/// `POST /v1/resend`: which payloads (D20), and how.
///
/// Either `payload_id`, with a `tracking_number` for a part of it; or a `tracking_number`; or
/// `state`, which must be `failed`, with a span.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Resend {
    /// This payload.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload_id: Option<String>,
    /// The latest payload that carried this order; or, with `payload_id`, this order of it.
    #[serde(
        skip_serializing_if = "Option::is_none",
        deserialize_with = "number_or_text"
    )]
    pub tracking_number: Option<String>,
    /// Only orders of this type.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub order_type: Option<String>,
    /// Only to this webhook.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook: Option<String>,
    /// `failed`: all that failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// Only what failed then or later; RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<WallTime>,
    /// Only what failed before; RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<WallTime>,
    /// With a new id, and made anew in the format of now (D22).
    pub as_new: bool,
    /// Also what would overwrite a later version that was delivered since (D23).
    pub force: bool,
    /// Without the orders of which a later version was delivered since (D23).
    pub skip_superseded: bool,
    /// Only say what would go where.
    pub dry_run: bool,
}

/// `POST /v1/resend`: what goes where.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resends {
    /// Whether nothing was done.
    pub dry_run: bool,
    /// What is sent.
    pub resends: Vec<Resending>,
    /// What is not, because a later version was delivered since (D23).
    pub superseded: Vec<Superseded>,
    /// Of all that failed: what is left out, because it is on its way already.
    pub under_way: Vec<String>,
    /// Of all that failed: what can't be sent again, because its orders are gone.
    pub gone: Vec<Gone>,
}

/// A payload whose orders are not in the queue any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gone {
    /// The payload.
    pub payload_id: String,
    /// What is known of its orders.
    pub reason: String,
}

/// A payload that is sent again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resending {
    /// Under which id; `null` for one that a dry run does not give.
    pub payload_id: Option<String>,
    /// The payload that it is a part or a copy of.
    pub resend_of: Option<String>,
    /// To which webhook.
    pub webhook: String,
    /// To which address; what may be secret in it is masked.
    pub url: String,
    /// The type of its orders.
    #[serde(rename = "type")]
    pub order_type: String,
    /// Their action.
    pub action: String,
    /// How many orders it holds.
    pub items: u64,
    /// What became of the payload so far.
    pub state: String,
    /// Whether that resend waited already: there is no second one.
    pub waits_already: bool,
    /// When it may go; `null`: at once, or behind others that were asked for before.
    pub next_at: Option<WallTime>,
}

/// An order that would overwrite a later version of it (D23).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Superseded {
    /// The payload that was to be sent again.
    pub payload_id: String,
    /// To which webhook.
    pub webhook: String,
    /// The order.
    pub tracking_number: String,
    /// Its place in the queue.
    pub seq: i64,
    /// The later version's.
    pub by_seq: i64,
    /// The payload in which that was delivered.
    pub by_payload_id: String,
}

/// `POST /v1/payloads/{payload_id}/discard`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Discard {
    /// Why; shown with the payload.
    pub reason: String,
}

/// `POST /v1/payloads/{payload_id}/discard`: what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Discarded {
    /// The payload.
    pub payload_id: String,
    /// Its webhook.
    pub webhook: String,
    /// What it is now.
    pub state: String,
    /// What that means, for people.
    pub message: String,
}

/// `POST /v1/webhooks/{name}/pause`, `/resume`, `/retry-now`: what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Told {
    /// The webhook.
    pub webhook: String,
    /// Whether it is so already; otherwise it is when the request in flight has ended.
    pub done: bool,
    /// What that means, for people.
    pub message: String,
}

/// `POST /v1/webhooks/{name}/test`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Test {
    /// Although the interval is not over (D4).
    pub now: bool,
}

/// `POST /v1/webhooks/{name}/test`: one request a trigger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tests {
    /// The webhook.
    pub webhook: String,
    /// When they were asked for.
    #[serde(rename = "startedAt")]
    pub started_at: WallTime,
    /// Requests that were made.
    #[serde(rename = "testsRun")]
    pub tests_run: u64,
    /// Those that were taken.
    #[serde(rename = "testsSucceeded")]
    pub tests_succeeded: u64,
    /// Those that were not.
    #[serde(rename = "testsFailed")]
    pub tests_failed: u64,
    /// Each of them.
    pub tests: Vec<TestRun>,
}

/// One test.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TestRun {
    /// The id of its request.
    pub payload_id: String,
    /// What it is for, as in `purchase_order.submit`.
    pub event: String,
    /// `succeeded`, `failed`, or `waiting`.
    pub state: String,
    /// When it began.
    pub started_at: Option<WallTime>,
    /// How long it took.
    pub duration_ms: Option<u64>,
    /// The answer's status.
    pub status: Option<u16>,
    /// What went wrong.
    pub error: Option<String>,
    /// The beginning of the answer's body.
    pub answer: Option<String>,
    /// Of one that waits: when it may go (D4).
    pub next_at: Option<WallTime>,
}

/// `POST /v1/orders/{tracking_number}/withdraw`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Withdraw {
    /// Of which type, where the number fits several.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub order_type: Option<String>,
}

/// `POST /v1/orders/{tracking_number}/withdraw`: what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Withdrawn {
    /// The order.
    pub tracking_number: String,
    /// Its type.
    #[serde(rename = "type")]
    pub order_type: String,
    /// Its places in the queue, one for each version, that are withdrawn now.
    pub seqs: Vec<i64>,
    /// The webhooks for which it came too late.
    pub too_late: Vec<TooLate>,
}

/// A webhook that has an order in a payload already.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TooLate {
    /// The webhook.
    pub webhook: String,
    /// The order's place in the queue.
    pub seq: i64,
    /// The payload.
    pub payload_id: String,
    /// What became of that.
    pub state: String,
}

/// A tracking number is text; who writes it as a number means the same.
fn number_or_text<'de, D: Deserializer<'de>>(given: D) -> Result<Option<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Given {
        Number(i64),
        Text(String),
    }
    let given = Option::<Given>::deserialize(given)?;
    Ok(given.map(|given| match given {
        Given::Number(number) => number.to_string(),
        Given::Text(text) => text,
    }))
}
