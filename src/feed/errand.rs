//! What an operator asks of a lane: errands, which are requests beside its own payloads (resends
//! and tests, D20 to D23), and what it is told to do (D24).
//!
//! An errand goes before the lane's own payloads, whatever holds those up; it paces like any other
//! request, and its own retries hold up nothing. What its attempts came to is never held against
//! the webhook: a resend that succeeds shows that the receiver is well, and one that fails shows
//! nothing that the lane's own payloads would not show.

use super::lane::{INTERRUPTIONS_MAX, Standing};
use super::order::{Action, OrderType};
use super::outcome::{Outcome, RETRY_AFTER_MAX, Verdict, succeeded};
use super::payload::{Payload, PayloadId};
use super::policy::Policy;
use super::timestamp::Timestamp;

/// How the reason begins of a payload whose resend was dropped before any attempt.
pub const NOT_RESENT: &str = "not resent: ";

/// A request that an operator asked for, until it is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Errand {
    /// What is sent.
    pub load: Load,
    /// Its attempts that count against `retry_attempts` (D9).
    pub counted: u32,
    /// Attempts in a row that were cut off by a crash or a stop (D19).
    pub interruptions: u32,
    /// Not before this; `None`: not before somebody says so.
    pub due: Option<Timestamp>,
    /// Whether an attempt was begun and is not settled.
    pub in_flight: bool,
}

/// What becomes of a resend's orders of which a later version was delivered since (D23), as it was
/// asked for. It holds until the resend is done; asked for again, the later of these words counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Older {
    /// Nothing of it goes.
    #[default]
    Refused,
    /// The others go without them (`skip_superseded`).
    LeftOut,
    /// They go all the same (`force`).
    Sent,
}

/// What an errand sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Load {
    /// A payload, again; or a part or a copy of one, for the first time (D22).
    Resend {
        /// What it is.
        payload: Payload,
        /// The payload that it is a part or a copy of.
        resend_of: Option<PayloadId>,
        /// Requests begun with its id.
        attempts: u32,
        /// What becomes of orders of which a later version was delivered (D23).
        older: Older,
    },
    /// A test: no order, and nothing is tried again.
    Test {
        /// The id of its request.
        id: PayloadId,
        /// The order type that it is for.
        order_type: OrderType,
        /// The action that it is for.
        action: Action,
        /// Whether it goes although the interval is not over.
        unpaced: bool,
    },
}

impl Errand {
    /// A resend that was just asked for.
    pub const fn resend(
        payload: Payload,
        resend_of: Option<PayloadId>,
        attempts: u32,
        older: Older,
    ) -> Self {
        Self {
            load: Load::Resend {
                payload,
                resend_of,
                attempts,
                older,
            },
            counted: 0,
            interruptions: 0,
            due: Some(Timestamp::from_ms(0)),
            in_flight: false,
        }
    }

    /// The id that its request has.
    pub const fn payload_id(&self) -> PayloadId {
        match &self.load {
            Load::Resend { payload, .. } => payload.id,
            Load::Test { id, .. } => *id,
        }
    }

    /// Requests begun with that id.
    pub const fn attempts(&self) -> u32 {
        match &self.load {
            Load::Resend { attempts, .. } => *attempts,
            Load::Test { .. } => self.in_flight as u32,
        }
    }

    /// Whether it goes although the interval is not over.
    pub const fn unpaced(&self) -> bool {
        matches!(&self.load, Load::Test { unpaced: true, .. })
    }

    /// The errand whose next attempt is begun.
    #[must_use]
    pub fn begun(&self) -> Self {
        self.with_attempts(true, |attempts| attempts.saturating_add(1))
    }

    /// The errand whose attempt was begun, and then not made: a stop came first.
    #[must_use]
    pub fn withheld(&self) -> Self {
        self.with_attempts(false, |attempts| attempts.saturating_sub(1))
    }

    /// The errand that goes again after this verdict; `None` if it is done.
    #[must_use]
    pub fn settled(&self, verdict: &Verdict, ended: Timestamp) -> Option<Self> {
        match verdict {
            Verdict::Retry { wait, .. } => Some(Self {
                counted: self.counted.saturating_add(1),
                interruptions: 0,
                due: Some(ended + *wait),
                in_flight: false,
                ..self.clone()
            }),
            Verdict::Delivered | Verdict::Failed { .. } | Verdict::Deactivated(_) => None,
        }
    }

    /// The errand whose attempt was cut off by a crash (D19): it goes again as soon as D4 allows,
    /// and after the third time in a row only when somebody says so. `None` for a test: nobody
    /// waits for its answer any more.
    #[must_use]
    pub fn interrupted(&self) -> Option<Self> {
        let interruptions = self.interruptions.saturating_add(1);
        let held = interruptions >= INTERRUPTIONS_MAX;
        let again = Self {
            interruptions,
            due: (!held).then_some(Timestamp::from_ms(0)),
            in_flight: false,
            ..self.clone()
        };
        matches!(self.load, Load::Resend { .. }).then_some(again)
    }

    fn with_attempts(&self, in_flight: bool, change: impl FnOnce(u32) -> u32) -> Self {
        let mut errand = Self {
            in_flight,
            ..self.clone()
        };
        if let Load::Resend { attempts, .. } = &mut errand.load {
            *attempts = change(*attempts);
        }
        errand
    }
}

/// What follows from an errand's attempt. Every failed one counts (D9); where the webhook stands
/// changes nothing, and is not changed.
pub fn judge_errand(
    outcome: &Outcome,
    errand: &Errand,
    standing: &Standing,
    policy: &Policy,
) -> Verdict {
    let standing = standing.clone();
    let counted = errand.counted.saturating_add(1);
    if succeeded(outcome, policy) {
        Verdict::Delivered
    } else if matches!(errand.load, Load::Resend { .. })
        && policy.retry_attempts.allow_after(counted)
    {
        Verdict::Retry {
            wait: policy
                .retry_gap
                .max(outcome.retry_after().min(RETRY_AFTER_MAX)),
            counted: true,
            standing,
        }
    } else {
        Verdict::Failed {
            reason: outcome.to_string(),
            standing,
        }
    }
}

/// Something that an operator tells a lane. It is kept until the lane has heeded it, which is when
/// no request is in flight.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// `pause`: nothing is sent until `resume` (D24).
    Pause {
        /// Who says so, for people.
        by: String,
    },
    /// `resume`: whatever held it is forgotten, but for `active = false`.
    Resume,
    /// `retry-now`: what waits for its retry goes as soon as D4 allows.
    RetryNow,
    /// `discard`: the payload that it is busy with is given up.
    Discard {
        /// Which one.
        payload_id: PayloadId,
        /// Why, for people.
        reason: String,
    },
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::lane::Head;
    use super::super::policy::RetryAttempts;
    use super::*;

    fn answered(status: u16) -> Outcome {
        Outcome::Answered {
            status,
            retry_after: Some(Duration::from_secs(90)),
        }
    }

    fn resend() -> Errand {
        Errand::resend(Head::example().payload, None, 4, Older::Refused)
    }

    /// D9, D21: every failed attempt counts, wherever the webhook stands, and `orderfeed-attempt`
    /// counts on.
    #[test]
    fn d21_a_resend_is_retried_like_any_other_and_changes_no_standing() {
        let policy = Policy {
            retry_attempts: RetryAttempts::Times(1),
            retry_gap: Duration::from_mins(1),
            ..Policy::default()
        };
        let standing = Standing::Deactivated(super::super::lane::Trouble::default());
        let first = resend().begun();
        assert_eq!((first.attempts(), first.in_flight), (5, true));
        let verdict = judge_errand(&answered(503), &first, &standing, &policy);
        let expected = Verdict::Retry {
            wait: Duration::from_secs(90),
            counted: true,
            standing: standing.clone(),
        };
        assert_eq!(verdict, expected);
        let again = first
            .settled(&verdict, Timestamp::from_ms(1_000))
            .expect("again");
        assert_eq!(
            (again.due, again.counted),
            (Some(Timestamp::from_ms(91_000)), 1)
        );
        let last = judge_errand(&answered(410), &again.begun(), &standing, &policy);
        let expected = Verdict::Failed {
            reason: "answered 410".to_owned(),
            standing,
        };
        assert_eq!(last, expected);
        assert_eq!(again.settled(&last, Timestamp::from_ms(2_000)), None);
    }

    /// D19: three in a row, and it waits for somebody.
    #[test]
    fn d19_an_interrupted_resend_goes_again_twice() {
        let at_once = Some(Timestamp::from_ms(0));
        let mut errand = resend();
        for due in [at_once, at_once, None] {
            errand = errand.begun().interrupted().expect("again");
            assert_eq!(
                (errand.due, errand.counted, errand.in_flight),
                (due, 0, false)
            );
        }
    }
}
