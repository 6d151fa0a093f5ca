//! What is told of webhooks, payloads, attempts and orders (contract, section 6).
//!
//! Times are RFC 3339 UTC, spans are milliseconds. A count that would take long is cut: it then
//! says how many there are at least, and is named in `or_more`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::clock::WallTime;

/// `GET /v1/status`: what goes on, at a glance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Of the daemon that runs, or of the command that looked where none does.
    pub version: String,
    /// Since when the daemon runs; `null`: none does, and nothing is sent.
    pub started_at: Option<WallTime>,
    /// What time it was when this was told.
    pub now: WallTime,
    /// What waits.
    pub queue: QueueStatus,
    /// What the daemon does for itself.
    pub maintenance: Maintenance,
    /// The configured webhooks, and those that were configured once, by name.
    pub webhooks: Vec<Webhook>,
}

/// What the daemon does for itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Maintenance {
    /// Orders up to this one are deleted, but for a few that prove something; 0: none are.
    pub pruned_up_to: i64,
    /// How pruning and the backup went last, as far as they ever began.
    pub chores: Vec<Chore>,
}

/// How a chore went last.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Chore {
    /// `prune` or `backup`.
    pub chore: String,
    /// When it began.
    pub begun_at: WallTime,
    /// When it ended; `null`: it is under way, or was cut off.
    pub ended_at: Option<WallTime>,
    /// When it last succeeded.
    pub success_at: Option<WallTime>,
    /// What it did then: what was deleted and who keeps older orders, or the backup's folder.
    pub done: Option<String>,
    /// Why it failed; `null`: it did not.
    pub failure: Option<String>,
}

/// What the queue holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QueueStatus {
    /// By order type, the orders that are yet to be put into a payload for some webhook.
    pub waiting: BTreeMap<String, Waiting>,
    /// Rows that can't be delivered to anyone.
    pub set_aside: u64,
    /// The newest of those.
    pub set_aside_newest: Option<SetAside>,
    /// Orders that no webhook takes.
    pub unclaimed: u64,
    /// Which of these counts are only lower bounds.
    pub or_more: Vec<String>,
}

/// The orders of a type that wait.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Waiting {
    /// How many.
    pub count: u64,
    /// Whether there are more.
    pub or_more: bool,
    /// When the oldest was queued.
    pub oldest_at: Option<WallTime>,
}

/// A row of the queue that can't be delivered to anyone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SetAside {
    /// Its number in the queue.
    pub seq: i64,
    /// Its order type.
    #[serde(rename = "type")]
    pub order_type: String,
    /// What is wrong with it.
    pub reason: String,
    /// When that was noticed.
    pub noticed_at: WallTime,
}

/// `GET /v1/webhooks/{name}`: where one webhook stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Webhook {
    /// Its name.
    pub name: String,
    /// Where its requests go, with secrets masked; `null` if it is no longer configured.
    pub url: Option<String>,
    /// `active` of its configuration (D24).
    pub active: bool,
    /// What it subscribes to.
    pub triggers: Vec<String>,
    /// Its filter: for each field the values that pass (D26).
    pub filter: BTreeMap<String, Vec<String>>,
    /// The contract's word for where it stands.
    pub state: String,
    /// Why, in words; `null` if there is nothing to say.
    pub reason: Option<String>,
    /// Since when, if that is known.
    pub since: Option<WallTime>,
    /// What happens next, in words.
    pub next: String,
    /// When that is, if at a certain time.
    pub next_at: Option<WallTime>,
    /// The payload that it is busy with: later ones wait behind it (D10).
    pub payload_id: Option<String>,
    /// Orders that it is yet to put into a payload.
    pub waiting: u64,
    /// Orders that it collected and no longer selects (D25).
    pub parked: u64,
    /// Payloads that failed, and were neither resent nor discarded (D11).
    pub failed: u64,
    /// Which of these counts are only lower bounds.
    pub or_more: Vec<String>,
    /// When a receiver last took a payload.
    pub last_success_at: Option<WallTime>,
    /// What went wrong last.
    pub last_error: Option<String>,
    /// When that was.
    pub last_error_at: Option<WallTime>,
}

/// `GET /v1/payloads`: a page of them, newest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Payloads {
    /// Those of this page; there may be none, and others behind `next`.
    pub payloads: Vec<Payload>,
    /// To be given as `after` for the next page; `null` behind the last.
    pub next: Option<String>,
}

/// `GET /v1/payloads/{payload_id}`: one payload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Payload {
    /// Its id.
    pub payload_id: String,
    /// Whose it is.
    pub webhook: String,
    /// The type of its orders.
    #[serde(rename = "type")]
    pub order_type: String,
    /// Their action.
    pub action: String,
    /// The contract's word for what became of it.
    pub state: String,
    /// Why, in words, unless it is delivered.
    pub reason: Option<String>,
    /// How many orders it holds.
    pub items: u64,
    /// When it was composed.
    pub created_at: WallTime,
    /// When it was delivered, failed or discarded.
    pub settled_at: Option<WallTime>,
    /// Requests that were begun with its id.
    pub attempts: u32,
    /// When it goes again, if at a certain time.
    pub next_at: Option<WallTime>,
    /// The payload that it repeats (D22).
    pub resend_of: Option<String>,
    /// The payload that it is a part of (D14).
    pub part_of: Option<String>,
}

/// `GET /v1/payloads/{payload_id}/attempts`: every request with its id.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Attempts {
    /// In their order.
    pub attempts: Vec<Attempt>,
}

/// One request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    /// Counts the requests with this payload id, from 1.
    pub number: u32,
    /// When it began.
    pub started_at: WallTime,
    /// How long it took, to the answer's status or the failure; `null` if nobody knows.
    pub duration_ms: Option<u64>,
    /// How far it came (D16); `null` if nobody knows.
    pub phase: Option<String>,
    /// `delivered`, `failed`, `unknown`, `interrupted`; or `in_flight`, while it is under way.
    pub outcome: String,
    /// The answer's status.
    pub status: Option<u16>,
    /// What went wrong, in words.
    pub error: Option<String>,
    /// The beginning of the answer's body, with secrets masked.
    pub answer: Option<String>,
}

/// `GET /v1/orders/{tracking_number}`: all that is known of the orders with this number.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Orders {
    /// As it was asked for.
    pub tracking_number: String,
    /// Each row of the queue that has it, in the order in which they were queued.
    pub orders: Vec<OrderStory>,
    /// Whether there are more rows than these, the newest.
    pub more: bool,
}

/// One row of the queue, and what became of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OrderStory {
    /// Its number in the queue.
    pub seq: i64,
    /// Its order type.
    #[serde(rename = "type")]
    pub order_type: String,
    /// What happened to the order.
    pub action: String,
    /// When it was queued, as its producer says.
    pub queued_at: String,
    /// When its producer took it back.
    pub withdrawn_at: Option<String>,
    /// Why it can't be delivered to anyone.
    pub set_aside: Option<String>,
    /// What became of it for each webhook.
    pub webhooks: Vec<WebhookStory>,
}

/// What became of one order for one webhook.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WebhookStory {
    /// Its name.
    pub webhook: String,
    /// `delivered`, `failed`, `discarded`, `pending`, `in_flight`, `waiting`, `parked`, `filtered`,
    /// `withdrawn`, `set_aside`, `dropped`, or `missing`.
    pub state: String,
    /// Why, and what happens next, in words.
    pub reason: String,
    /// When that is, if at a certain time.
    pub next_at: Option<WallTime>,
    /// The payloads that carried it, oldest first.
    pub payloads: Vec<StoryPayload>,
}

/// A payload that carried the order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StoryPayload {
    /// The payload.
    #[serde(flatten)]
    pub payload: Payload,
    /// Its requests, in their order.
    pub requests: Vec<Attempt>,
}

/// What `orderfeed reconcile` finds: for each webhook, every order of the queue.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reconciliation {
    /// The first and the last order that were accounted for; `null` if there were none.
    pub first_seq: Option<i64>,
    /// The last.
    pub last_seq: Option<i64>,
    /// How many there are.
    pub orders: u64,
    /// What became of them, for each webhook: the sums agree with `orders`.
    pub webhooks: Vec<Account>,
    /// Whether none is missing, and the sums agree.
    pub agrees: bool,
}

/// What became of the queue's orders for one webhook.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Account {
    /// Its name.
    pub webhook: String,
    /// Orders by what became of them: the words of [`WebhookStory::state`].
    pub orders: BTreeMap<String, u64>,
    /// The first of those that are missing: in no payload, and for no reason.
    pub missing: Vec<i64>,
}

/// `GET /v1/reconcile`: what was found in the first part of what is to be gone over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReconciledWindow {
    /// The orders after this one are to be gone over.
    pub after: i64,
    /// Up to this one.
    pub up_to: i64,
    /// Up to here it is done: to be given as `after` for the next part, unless this is `up_to`.
    pub done_up_to: i64,
    /// What was found.
    pub found: Reconciliation,
}

/// `GET /v1/webhooks`: all of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Webhooks {
    /// The configured ones, and those that were configured once, by name.
    pub webhooks: Vec<Webhook>,
}
