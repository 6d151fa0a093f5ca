//! What an attempt came to, and what follows from it (D7, D9, D11 to D13, D16, D19).

use std::fmt;
use std::time::Duration;

use super::lane::{Head, Hold, Lane, Standing, Trouble};
use super::policy::{OnTimeout, Policy};
use super::timestamp::Timestamp;

/// What follows from an attempt: judged by the rules of this moment, never revised.
///
/// A pure function of what the wire said, where the webhook stands, and the policy.
pub fn judge(
    outcome: &Outcome,
    head: &Head,
    lane: &Lane,
    policy: &Policy,
    now: Timestamp,
) -> Verdict {
    if succeeded(outcome, policy) {
        return Verdict::Delivered;
    }
    let reason = outcome.to_string();
    let trouble = |since| Trouble {
        reason: reason.clone(),
        since,
    };
    let failing_for = now - lane.failing_since.unwrap_or(now);
    if outcome.status() == Some(GONE) {
        return Verdict::Deactivated(trouble(now));
    }
    if let Some(limit) = policy
        .deactivate_after
        .filter(|&limit| failing_for >= limit)
    {
        return Verdict::Deactivated(Trouble {
            reason: format!(
                "no success for {} (deactivate_after); last: {reason}",
                humantime::format_duration(limit)
            ),
            since: now,
        });
    }
    let wait = policy
        .retry_gap
        .max(outcome.retry_after().min(RETRY_AFTER_MAX));
    let endpoint = endpoints_trouble(outcome);
    if endpoint && let Standing::Down(down) = &lane.standing {
        // Also where `hold_on` names it: while the webhook is down, an outage costs no payload.
        let standing = Standing::Down(trouble(down.since));
        return Verdict::Retry {
            wait,
            counted: false,
            standing,
        };
    }
    if policy.hold_on.iter().any(|held| held.matches(outcome)) {
        let since = match &lane.standing {
            Standing::Held(Hold::Endpoint, held) => held.since,
            Standing::Up | Standing::Down(_) | Standing::Held(..) | Standing::Deactivated(_) => now,
        };
        let standing = Standing::Held(Hold::Endpoint, trouble(since));
        return Verdict::Retry {
            wait,
            counted: false,
            standing,
        };
    }
    if policy
        .retry_attempts
        .allow_after(head.counted.saturating_add(1))
    {
        let standing = Standing::Up;
        return Verdict::Retry {
            wait,
            counted: true,
            standing,
        };
    }
    let standing = if endpoint {
        Standing::Down(trouble(now))
    } else {
        Standing::Up
    };
    Verdict::Failed { standing, reason }
}

/// A `Retry-After` beyond this is cut to it (D9).
pub const RETRY_AFTER_MAX: Duration = Duration::from_hours(24);

/// The receiver says that it wants no more, ever (D13).
const GONE: u16 = 410;

/// Whether the outcome counts as a delivery (D7).
pub(super) fn succeeded(outcome: &Outcome, policy: &Policy) -> bool {
    match outcome {
        Outcome::Answered { status, .. } => policy.success_status.contains(*status),
        Outcome::TimedOut { phase } => {
            policy.on_timeout == OnTimeout::Delivered && *phase == Phase::Waiting
        }
        Outcome::Broken { .. } => false,
    }
}

/// Whether it was the endpoint's trouble and not the content's (D12).
fn endpoints_trouble(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Answered { status, .. } => matches!(
            status,
            300..=399 | 401 | 403 | 404 | 407 | 408 | 429 | 502 | 503 | 504
        ),
        Outcome::TimedOut { .. } | Outcome::Broken { .. } => true,
    }
}

/// What the wire said of one attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// There was an answer: its status, and how long it asks to wait before the next request.
    Answered {
        /// The HTTP status.
        status: u16,
        /// Its `Retry-After`, as a span from now.
        retry_after: Option<Duration>,
    },
    /// No answer within `timeout`.
    TimedOut {
        /// How far it came.
        phase: Phase,
    },
    /// Refused, not found, not trusted, cut off.
    Broken {
        /// How far it came.
        phase: Phase,
    },
}

impl Outcome {
    /// How far the attempt came (D16).
    pub const fn phase(&self) -> Phase {
        match self {
            Self::Answered { .. } => Phase::Answered,
            Self::TimedOut { phase } | Self::Broken { phase } => *phase,
        }
    }

    /// The answer's status, if there was one.
    pub const fn status(&self) -> Option<u16> {
        match self {
            Self::Answered { status, .. } => Some(*status),
            Self::TimedOut { .. } | Self::Broken { .. } => None,
        }
    }

    /// How long the receiver asks to wait; zero if it does not.
    pub(super) fn retry_after(&self) -> Duration {
        match self {
            Self::Answered { retry_after, .. } => retry_after.unwrap_or_default(),
            Self::TimedOut { .. } | Self::Broken { .. } => Duration::ZERO,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answered { status, .. } => write!(f, "answered {status}"),
            Self::TimedOut { phase } => write!(f, "timed out while {}", phase.doing()),
            Self::Broken { phase } => write!(f, "broke off while {}", phase.doing()),
        }
    }
}

/// How far an attempt came (D16), in the order of its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Looking up the host's name.
    Dns,
    /// Opening the connection.
    Connect,
    /// Agreeing on TLS.
    Tls,
    /// The request was leaving: from here on the receiver may have seen it.
    Sending,
    /// The request had left in full, and no answer had begun.
    Waiting,
    /// The answer's status had arrived.
    Answered,
}

impl Phase {
    /// All of them, in the order of their life.
    pub const ALL: [Self; 6] = [
        Self::Dns,
        Self::Connect,
        Self::Tls,
        Self::Sending,
        Self::Waiting,
        Self::Answered,
    ];

    /// The contract's word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Sending => "sending",
            Self::Waiting => "waiting",
            Self::Answered => "answered",
        }
    }

    /// What was being done in it, for messages.
    const fn doing(self) -> &'static str {
        match self {
            Self::Dns => "looking up the host",
            Self::Connect => "connecting",
            Self::Tls => "agreeing on TLS",
            Self::Sending => "sending",
            Self::Waiting => "waiting for the answer",
            Self::Answered => "reading the answer",
        }
    }

    /// Whether the attempt certainly changed nothing at the receiver: it broke off before
    /// anything of the request was sent (D16).
    pub fn nothing_sent(self) -> bool {
        self < Self::Sending
    }
}

/// What follows from an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The payload is done, and the webhook is well.
    Delivered,
    /// The same payload goes again (D9, D12, D13).
    Retry {
        /// How long after this attempt's end, at least.
        wait: Duration,
        /// Whether this attempt counts against `retry_attempts`.
        counted: bool,
        /// Where the webhook stands from now on.
        standing: Standing,
    },
    /// The attempts are used up; the webhook goes on with its next payload (D11, D12).
    Failed {
        /// What used them up, in words.
        reason: String,
        /// Where the webhook stands from now on.
        standing: Standing,
    },
    /// The webhook stops until somebody resumes it; its payload stays pending (D13).
    Deactivated(Trouble),
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::policy::{HoldOn, RetryAttempts, StatusPattern, SuccessStatus};
    use super::*;

    const NOW: Timestamp = Timestamp::from_ms(100_000_000);

    fn answered(status: u16) -> Outcome {
        Outcome::Answered {
            status,
            retry_after: None,
        }
    }

    fn policy(retries: u32) -> Policy {
        Policy {
            retry_attempts: RetryAttempts::Times(retries),
            retry_gap: Duration::from_mins(1),
            ..Policy::default()
        }
    }

    /// The verdict on a payload with so many counted attempts, in short.
    fn check(outcome: &Outcome, standing: Standing, counted: u32, policy: &Policy, expected: &str) {
        let head = Head {
            counted,
            ..Head::example()
        };
        let lane = Lane {
            standing,
            failing_since: Some(Timestamp::from_ms(NOW.ms() - 3_600_000)),
            ..Lane::default()
        };
        let found = match judge(outcome, &head, &lane, policy, NOW) {
            Verdict::Delivered => "delivered".to_owned(),
            Verdict::Retry {
                wait,
                counted,
                standing,
            } => {
                let counted = if counted { "counted" } else { "uncounted" };
                format!("retry {}s {counted} {}", wait.as_secs(), standing.as_str())
            }
            Verdict::Failed { standing, reason } => {
                format!("failed, {}: {reason}", standing.as_str())
            }
            Verdict::Deactivated(trouble) => format!("deactivated: {}", trouble.reason),
        };
        assert_eq!(found, expected, "{outcome:?}");
    }

    fn down() -> Standing {
        Standing::Down(Trouble {
            reason: "answered 503".to_owned(),
            since: NOW,
        })
    }

    #[test]
    fn d7_success_is_any_2xx_unless_told_otherwise() {
        let policy = policy(1);
        check(&answered(200), Standing::Up, 0, &policy, "delivered");
        check(&answered(299), Standing::Up, 0, &policy, "delivered");
        check(
            &answered(199),
            Standing::Up,
            0,
            &policy,
            "retry 60s counted up",
        );
        check(
            &answered(302),
            Standing::Up,
            0,
            &policy,
            "retry 60s counted up",
        );
        let only_200 = Policy {
            success_status: SuccessStatus::Of(vec![StatusPattern::Exactly(200)]),
            ..policy.clone()
        };
        check(
            &answered(204),
            Standing::Up,
            0,
            &only_200,
            "retry 60s counted up",
        );
        let any = Policy {
            success_status: SuccessStatus::Any,
            ..policy
        };
        check(&answered(500), Standing::Up, 0, &any, "delivered");
        check(&answered(410), Standing::Up, 0, &any, "delivered");
        check(
            &Outcome::Broken {
                phase: Phase::Waiting,
            },
            Standing::Up,
            0,
            &any,
            "retry 60s counted up",
        );
    }

    #[test]
    fn d7_on_timeout_delivered_needs_the_request_to_be_sent_in_full() {
        let policy = Policy {
            on_timeout: OnTimeout::Delivered,
            ..policy(1)
        };
        let timed_out = |phase| Outcome::TimedOut { phase };
        check(
            &timed_out(Phase::Waiting),
            Standing::Up,
            0,
            &policy,
            "delivered",
        );
        check(
            &timed_out(Phase::Sending),
            Standing::Up,
            0,
            &policy,
            "retry 60s counted up",
        );
        check(
            &timed_out(Phase::Connect),
            Standing::Up,
            0,
            &policy,
            "retry 60s counted up",
        );
        let broken = Outcome::Broken {
            phase: Phase::Waiting,
        };
        check(&broken, Standing::Up, 0, &policy, "retry 60s counted up");
    }

    #[test]
    fn d9_the_longer_of_gap_and_retry_after_counts_up_to_a_day() {
        let policy = policy(1);
        for (asked_secs, expected) in [
            (30, "retry 60s counted up"),
            (90, "retry 90s counted up"),
            (1_000_000, "retry 86400s counted up"),
        ] {
            let retry_after = Some(Duration::from_secs(asked_secs));
            let outcome = Outcome::Answered {
                status: 429,
                retry_after,
            };
            check(&outcome, Standing::Up, 0, &policy, expected);
        }
    }

    #[test]
    fn d11_used_up_attempts_fail_the_payload() {
        let policy = policy(2);
        check(
            &answered(500),
            Standing::Up,
            1,
            &policy,
            "retry 60s counted up",
        );
        check(
            &answered(500),
            Standing::Up,
            2,
            &policy,
            "failed, up: answered 500",
        );
        let none = Policy {
            retry_attempts: RetryAttempts::Times(0),
            ..policy.clone()
        };
        check(
            &answered(400),
            Standing::Up,
            0,
            &none,
            "failed, up: answered 400",
        );
        let unlimited = Policy {
            retry_attempts: RetryAttempts::Unlimited,
            ..policy
        };
        check(
            &answered(500),
            Standing::Up,
            1_000,
            &unlimited,
            "retry 60s counted up",
        );
    }

    #[test]
    fn d12_the_endpoints_trouble_brings_the_webhook_down() {
        let policy = policy(0);
        for status in [300, 399, 401, 403, 404, 407, 408, 429, 502, 503, 504] {
            let failed = format!("failed, down: answered {status}");
            check(&answered(status), Standing::Up, 0, &policy, &failed);
            check(
                &answered(status),
                down(),
                0,
                &policy,
                "retry 60s uncounted down",
            );
        }
        for status in [100, 400, 402, 405, 409, 413, 422, 500, 501, 505] {
            let failed = format!("failed, up: answered {status}");
            check(&answered(status), Standing::Up, 0, &policy, &failed);
            check(&answered(status), down(), 0, &policy, &failed);
        }
        let refused = Outcome::Broken {
            phase: Phase::Connect,
        };
        check(
            &refused,
            Standing::Up,
            0,
            &policy,
            "failed, down: broke off while connecting",
        );
        check(&refused, down(), 0, &policy, "retry 60s uncounted down");
        check(&answered(200), down(), 0, &policy, "delivered");
    }

    #[test]
    fn d13_what_is_held_is_not_counted() {
        let policy = Policy {
            hold_on: vec![HoldOn::Connect, HoldOn::Status(StatusPattern::Class(5))],
            ..policy(0)
        };
        let broken = |phase| Outcome::Broken { phase };
        check(
            &answered(500),
            Standing::Up,
            0,
            &policy,
            "retry 60s uncounted held",
        );
        check(
            &answered(500),
            down(),
            0,
            &policy,
            "retry 60s uncounted held",
        );
        check(
            &broken(Phase::Connect),
            Standing::Up,
            0,
            &policy,
            "retry 60s uncounted held",
        );
        // While it is down the endpoint's trouble leaves it down, whatever hold_on names.
        check(
            &answered(503),
            down(),
            0,
            &policy,
            "retry 60s uncounted down",
        );
        check(
            &broken(Phase::Dns),
            Standing::Up,
            0,
            &policy,
            "failed, down: broke off while looking up the host",
        );
        let held = Standing::Held(
            Hold::Endpoint,
            Trouble {
                reason: "answered 500".to_owned(),
                since: NOW,
            },
        );
        check(&answered(400), held, 0, &policy, "failed, up: answered 400");
    }

    #[test]
    fn d13_gone_and_long_failure_deactivate() {
        check(
            &answered(410),
            Standing::Up,
            0,
            &policy(3),
            "deactivated: answered 410",
        );
        let limit = |limit| Policy {
            deactivate_after: Some(limit),
            ..policy(3)
        };
        check(
            &answered(500),
            Standing::Up,
            0,
            &limit(Duration::from_hours(1)),
            "deactivated: no success for 1h (deactivate_after); last: answered 500",
        );
        check(
            &answered(500),
            Standing::Up,
            0,
            &limit(Duration::from_mins(61)),
            "retry 60s counted up",
        );
    }

    fn statuses() -> impl Strategy<Value = StatusPattern> {
        prop_oneof![
            (1..=5_u16).prop_map(StatusPattern::Class),
            (100..600_u16).prop_map(StatusPattern::Exactly),
        ]
    }

    fn any_outcome() -> impl Strategy<Value = Outcome> {
        let seconds = prop::option::of(0..200_000_u64);
        let phase = || prop::sample::select(Phase::ALL.to_vec());
        prop_oneof![
            (100..600_u16, seconds).prop_map(|(status, seconds)| Outcome::Answered {
                status,
                retry_after: seconds.map(Duration::from_secs),
            }),
            phase().prop_map(|phase| Outcome::TimedOut { phase }),
            phase().prop_map(|phase| Outcome::Broken { phase }),
        ]
    }

    fn any_policy() -> impl Strategy<Value = Policy> {
        let hold_on = prop_oneof![
            prop::sample::select(vec![
                HoldOn::Dns,
                HoldOn::Connect,
                HoldOn::Tls,
                HoldOn::Timeout
            ]),
            statuses().prop_map(HoldOn::Status),
        ];
        let times = prop_oneof![
            (0..5_u32).prop_map(RetryAttempts::Times),
            Just(RetryAttempts::Unlimited)
        ];
        let success = prop_oneof![
            Just(SuccessStatus::default()),
            Just(SuccessStatus::Any),
            prop::collection::vec(statuses(), 1..3).prop_map(SuccessStatus::Of),
        ];
        let held = prop::collection::vec(hold_on, 0..4);
        let hours = prop::option::of(1..4_u64);
        (times, 0..100_000_u64, held, hours, any::<bool>(), success).prop_map(
            |(retry_attempts, gap, hold_on, hours, late, success_status)| Policy {
                retry_attempts,
                retry_gap: Duration::from_secs(gap),
                hold_on,
                deactivate_after: hours.map(Duration::from_hours),
                on_timeout: if late {
                    OnTimeout::Delivered
                } else {
                    OnTimeout::Retry
                },
                success_status,
                ..Policy::default()
            },
        )
    }

    fn any_standing() -> impl Strategy<Value = Standing> {
        let trouble = || Trouble {
            reason: "answered 503".to_owned(),
            since: Timestamp::from_ms(1),
        };
        prop::sample::select(vec![
            Standing::Up,
            Standing::Down(trouble()),
            Standing::Held(Hold::Endpoint, trouble()),
        ])
    }

    proptest! {
        /// D9, D11: whatever happens, a payload makes at most `retry_attempts` and one counted
        /// attempts, and none after its end.
        #[test]
        fn d11_counted_attempts_are_bounded(
            outcomes in prop::collection::vec(any_outcome(), 1..30), policy in any_policy(),
            standing in any_standing(),
        ) {
            let mut lane = Lane { standing, ..Lane::default() };
            let mut head = Head::example();
            for outcome in outcomes {
                match judge(&outcome, &head, &lane, &policy, NOW) {
                    Verdict::Retry { counted, standing, wait } => {
                        head.counted += u32::from(counted);
                        prop_assert!(policy.retry_attempts.allow_after(head.counted));
                        prop_assert!(wait >= policy.retry_gap);
                        let asked = outcome.retry_after().min(RETRY_AFTER_MAX);
                        prop_assert_eq!(wait, asked.max(policy.retry_gap));
                        // What is not counted is the endpoint's: then it is down or held.
                        prop_assert_eq!(counted, standing == Standing::Up);
                        lane.standing = standing;
                    }
                    Verdict::Failed { .. } => {
                        prop_assert_ne!(policy.retry_attempts, RetryAttempts::Unlimited);
                        prop_assert!(!policy.retry_attempts.allow_after(head.counted + 1));
                        return Ok(());
                    }
                    Verdict::Delivered | Verdict::Deactivated(_) => return Ok(()),
                }
            }
        }

        /// D7: success depends on nothing but the outcome and the policy.
        #[test]
        fn d7_success_is_success_wherever_the_webhook_stands(
            outcome in any_outcome(), policy in any_policy(), standing in any_standing(),
            counted in 0..10_u32,
        ) {
            let head = Head { counted, ..Head::example() };
            let lane = Lane { standing, ..Lane::default() };
            let delivered = judge(&outcome, &head, &lane, &policy, NOW) == Verdict::Delivered;
            let late = outcome == Outcome::TimedOut { phase: Phase::Waiting }
                && policy.on_timeout == OnTimeout::Delivered;
            let answered = outcome.status().is_some_and(|status| policy.success_status.contains(status));
            prop_assert_eq!(delivered, late || answered);
        }

        /// D12: while the webhook is down, the endpoint's trouble costs no payload its place.
        #[test]
        fn d12_an_outage_fails_no_second_payload(
            outcome in any_outcome().prop_filter("the endpoint's", endpoints_trouble),
            policy in any_policy(), counted in 0..10_u32,
        ) {
            if succeeded(&outcome, &policy) {
                return Ok(());
            }
            let head = Head { counted, ..Head::example() };
            let lane = Lane { standing: down(), ..Lane::default() };
            let verdict = judge(&outcome, &head, &lane, &policy, NOW);
            let waits = matches!(
                verdict,
                Verdict::Retry { counted: false, standing: Standing::Down(_), .. }
            );
            prop_assert!(waits, "{verdict:?}");
        }

        /// D13: what `hold_on` names is never counted, and uses up nothing.
        #[test]
        fn d13_what_hold_on_names_uses_up_no_payload(
            outcome in any_outcome(), mut policy in any_policy(), standing in any_standing(),
            counted in 0..10_u32,
        ) {
            let named = match &outcome {
                Outcome::Answered { status, .. } => HoldOn::Status(StatusPattern::Exactly(*status)),
                Outcome::Broken { phase: Phase::Dns } => HoldOn::Dns,
                Outcome::Broken { phase: Phase::Connect } => HoldOn::Connect,
                Outcome::Broken { phase: Phase::Tls } => HoldOn::Tls,
                Outcome::TimedOut { .. } | Outcome::Broken { .. } => HoldOn::Timeout,
            };
            policy.hold_on.push(named);
            if !named.matches(&outcome) {
                // It broke off while the request was under way: that has no name.
                return Ok(());
            }
            let head = Head { counted, ..Head::example() };
            let lane = Lane { standing, ..Lane::default() };
            let verdict = judge(&outcome, &head, &lane, &policy, NOW);
            let uncounted = matches!(
                verdict,
                Verdict::Delivered | Verdict::Deactivated(_) | Verdict::Retry { counted: false, .. }
            );
            prop_assert!(uncounted, "{verdict:?}");
        }
    }
}
