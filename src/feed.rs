//! The pure core: every decision of orderfeed, as functions from values to values.
//!
//! Nothing in here does IO, reads a clock, rolls dice or is async; so nothing in here can fail
//! for a reason outside, and every rule can be tested by a table. `now` is passed in, what
//! follows is returned, and something else carries it out.
//!
//! Reading order: [`order`] (what enters), [`selection`] (whose it is), [`payload`] (how it is
//! batched and written), [`policy`] (the numbers), [`lane`] (what happens next), [`outcome`]
//! (what an attempt came to, and what follows from it),
//! [`errand`] (what an operator asks for).

#![deny(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::wildcard_enum_match_arm
)]

pub mod errand;
pub mod lane;
pub mod order;
pub mod outcome;
pub mod payload;
pub mod policy;
pub mod selection;
pub mod timestamp;
pub mod webhook;
