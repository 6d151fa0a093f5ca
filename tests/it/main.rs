//! orderfeed from outside: the real binary, real files, real HTTP, real signals.
//!
//! - `queue_rules`: what the queue takes and refuses, whoever writes it
//! - `producers`: the same, by Python, by the `sqlite3` shell, and by SQLite 3.26.0
//! - `enqueue`: files of orders, good and bad, into the queue
//! - `demo`: the README's first command
//! - `help`: what every command says of itself
//! - `delivery`: what arrives at a receiver, and how
//! - `examples`: the programs of docs/examples, in their languages
//! - `explain`: what goes on, why, and what happens next, as it is told
//! - `bad_receivers`: what becomes of an order when the receiver misbehaves
//! - `admin`: the admin socket, and the commands that ask over it
//! - `receive`: the receiver to try things with
//! - `request`: signatures, compression, further headers, certificates, proxies
//! - `resending`: what an operator does to payloads: resend, discard, pause, test, withdraw
//! - `monitoring`: metrics, health, alerts, and what the log tells programs
//! - `stopping`: SIGTERM, SIGKILL at every point, and that nothing is lost
//! - `reloading`: SIGHUP, webhooks that come and go
//! - `regressions`: what went wrong once
//! - `starting`: files that are missing, foreign, older, or held
//! - `faults`: disks that are full, fail, or are read-only, clocks that jump, files that others hold
//! - `upkeep`: pruning, backups, going back to one, and whether the files are sound
//! - `power_cut`: what is left when the power goes

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(
    clippy::print_stdout,
    reason = "what a test measured, shown with --nocapture"
)]

mod admin;
mod bad_receivers;
mod delivery;
mod demo;
mod disk;
mod enqueue;
mod examples;
mod explain;
mod faults;
mod help;
mod monitoring;
mod notify;
mod power_cut;
mod producers;
mod queue_rules;
mod receive;
mod regressions;
mod reloading;
mod request;
mod resending;
mod starting;
mod stopping;
mod support;
mod upkeep;
