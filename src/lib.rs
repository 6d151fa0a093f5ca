//! orderfeed delivers purchase, transfer and work orders from a local SQLite queue to HTTP
//! receivers: grouped by type, paced, retried, and never lost.
//!
//! # The life of one order
//!
//! ```text
//! row ──queue──▶ Order ──pick──▶ Payload ──encode──▶ bytes ──sender──▶ Outcome ──judge──▶ Verdict ──ledger──▶ rows
//!        IO              pure             pure                 IO                 pure               IO
//! ```
//!
//! A producer commits a row to `queue.db`. The daemon notices it ([`store::queue`]), and wakes
//! the lane of each webhook. A lane ([`daemon::lane`]) asks the pure core what is next
//! ([`feed::lane::next_step`]), and obeys: it *seals* waiting orders into a payload, which is
//! written to `ledger.db` ([`store::ledger`]) before anything leaves; it *sends* the payload
//! ([`sender`]) and has the outcome judged ([`feed::outcome::judge`]); it writes what came of it,
//! and in the same transaction seals the next payload, if that may follow at once; or it *waits*,
//! until a time or until woken.
//!
//! SQLite is the memory, a pure core decides, a thin shell obeys: so a restart is simply the
//! first turn.
//!
//! # Where to look
//!
//! | for | open |
//! | --- | --- |
//! | a rule of delivery (`D1` …) | [`feed`]: no IO, no clock; each rule's test names it |
//! | what is stored, and how | [`store`]: all SQL |
//! | what goes over the wire | [`sender`] |
//! | what happens when | [`daemon`] |
//! | what an operator can ask and do | [`admin`] |
//! | a key of the configuration | [`config`] |
//! | a command | [`cli`], one file each |
//!
//! Arrows point one way: `cli → daemon → admin → config → store | sender → feed`; a step may be skipped,
//! never reversed. [`clock`] is read by the outer ones alone, and `feed` knows nobody.

pub mod admin;
pub mod cli;
pub mod clock;
pub mod config;
pub mod daemon;
mod failpoint;
pub mod feed;
pub mod sender;
pub mod store;
pub mod telemetry;
