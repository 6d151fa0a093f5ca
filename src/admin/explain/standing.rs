//! Where a webhook stands, in words: its state, why, since when, and what happens next.

use crate::config::Webhook;
use crate::feed::errand::{Errand, Load};
use crate::feed::lane::{
    Head, Hold, Standing as LaneStanding, Step, Waiting, WebhookState, next_step,
};
use crate::feed::order::OrderType;
use crate::feed::policy::{Policy, RetryAttempts};
use crate::store::ledger::history::{PayloadRow, ResendRow, Standing};

use super::Now;
use crate::clock::WallTime;

/// What is told of where a webhook stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Told {
    /// The contract's word.
    pub(super) state: &'static str,
    /// Why, in words.
    pub(super) reason: Option<String>,
    /// Since when.
    pub(super) since: Option<WallTime>,
    /// What happens next, in words; when, it does not say.
    pub(super) next: String,
    /// When that is.
    pub(super) next_at: Option<WallTime>,
}

/// As a reason, it gives way to any other.
const NOTHING_WAITS: &str = "nothing waits";

/// Says where a webhook stands; `webhook` is its configuration, if it has any, and `errand` the
/// first of what operators asked of it.
pub(super) fn tell(
    webhook: Option<&Webhook>,
    standing: &Standing,
    head: Option<&PayloadRow>,
    errand: Option<&Errand>,
    waiting: &Waiting,
    is_running: bool,
    now: Now,
) -> Told {
    let Some(webhook) = webhook else {
        return Told {
            state: WebhookState::Inactive.as_str(),
            reason: Some(
                "it is not configured any more; it keeps its place, and goes on collecting"
                    .to_owned(),
            ),
            since: standing.removed_at,
            next: "nothing, until the configuration has it again".to_owned(),
            next_at: None,
        };
    };
    let told = of_configured(webhook, standing, head, waiting, is_running, now);
    let told = match errand {
        Some(errand) => with_errand(told, errand, webhook, standing, waiting, is_running, now),
        None => told,
    };
    if is_running {
        return told;
    }
    Told {
        next: "nothing, as no daemon runs".to_owned(),
        next_at: None,
        ..told
    }
}

fn of_configured(
    webhook: &Webhook,
    standing: &Standing,
    head_row: Option<&PayloadRow>,
    waiting: &Waiting,
    is_running: bool,
    now: Now,
) -> Told {
    let (lane, policy) = (&standing.lane, &webhook.policy);
    let name = &standing.name;
    let since_last = lane.last_ended.map(|ended| now.wall_at(ended));
    let what = head_row.map_or_else(String::new, payload_in_words);
    let reason_of_head = || head_row.and_then(|row| row.reason.clone());
    if let Some(head) = lane.head.as_ref().filter(|head| head.in_flight) {
        if !is_running {
            return Told {
                state: "retrying",
                reason: Some(format!(
                    "{what} was under way when the daemon ended: whether it arrived is unknown"
                )),
                since: standing.head_begun_at,
                next: format!("sends {what} again"),
                next_at: None,
            };
        }
        let reason = format!("{what} is under way, attempt {}", head.attempts);
        return sending(reason, webhook, standing);
    }
    let trouble = lane.standing.trouble();
    let reason = trouble.map(|trouble| trouble.reason.clone());
    let since = trouble.map(|trouble| now.wall_at(trouble.since));
    let step = next_step(lane, None, waiting, policy, now.clock);
    let (state, until) = match &step {
        Step::Wait(wait) => (wait.state, wait.until),
        // At this very moment; unless the webhook is in trouble, that has no name of its own.
        Step::Send | Step::Run => match lane.standing.state() {
            WebhookState::Idle => (WebhookState::Retrying, None),
            state => (state, None),
        },
        Step::Seal(_) => (lane.standing.state(), None),
    };
    // Also while nothing waits, or before the interval ends: what is wrong is what counts.
    let state = match (state, lane.standing.state()) {
        (WebhookState::Idle | WebhookState::Pacing, trouble) if trouble != WebhookState::Idle => {
            trouble
        }
        (state, _) => state,
    };
    let next_at = until.map(|until| now.wall_at(until));
    let retries = |counts| match &lane.head {
        Some(head) => format!("retries {what}, {}", attempt_in_words(head, policy, counts)),
        None => "tries the next payload".to_owned(),
    };
    match state {
        WebhookState::Retrying => Told {
            state: state.as_str(),
            reason: reason_of_head(),
            since: since_last,
            next: retries(true),
            next_at,
        },
        WebhookState::Down => Told {
            state: state.as_str(),
            reason,
            since,
            next: retries(false),
            next_at,
        },
        WebhookState::Held if matches!(lane.standing, LaneStanding::Held(Hold::Endpoint, _)) => {
            Told {
                state: state.as_str(),
                reason,
                since,
                next: retries(false),
                next_at,
            }
        }
        WebhookState::Held | WebhookState::Deactivated => Told {
            state: state.as_str(),
            reason,
            since,
            next: format!("nothing, until `orderfeed resume {name}`"),
            next_at: None,
        },
        WebhookState::Paused => Told {
            state: state.as_str(),
            reason: lane.paused.as_ref().map(|paused| paused.reason.clone()),
            since: lane.paused.as_ref().map(|paused| now.wall_at(paused.since)),
            next: format!("nothing, until `orderfeed resume {name}`; its orders wait"),
            next_at: None,
        },
        WebhookState::Inactive => Told {
            state: state.as_str(),
            reason: Some("its configuration says active = false".to_owned()),
            since: None,
            next: "nothing, until it is active again; its orders wait".to_owned(),
            next_at: None,
        },
        WebhookState::Pacing => Told {
            state: state.as_str(),
            reason: Some(format!(
                "payload_interval is {}",
                humantime::format_duration(policy.payload_interval)
            )),
            since: since_last,
            next: "sends the next payload".to_owned(),
            next_at,
        },
        WebhookState::Idle => match &step {
            Step::Wait(wait) if wait.until.is_some() => Told {
                state: state.as_str(),
                reason: Some(format!(
                    "payload_linger is {}: a payload may fill up",
                    humantime::format_duration(policy.payload_linger)
                )),
                since: since_last,
                next: "sends what waits".to_owned(),
                next_at,
            },
            Step::Wait(_) => Told {
                state: state.as_str(),
                reason: Some(NOTHING_WAITS.to_owned()),
                since: since_last,
                next: "sends the next order at once".to_owned(),
                next_at: None,
            },
            Step::Seal(_) | Step::Send | Step::Run => Told {
                state: state.as_str(),
                reason: None,
                since: since_last,
                next: "sends the next payload now".to_owned(),
                next_at: None,
            },
        },
    }
}

/// While a request is under way.
fn sending(reason: String, webhook: &Webhook, standing: &Standing) -> Told {
    let timeout_ms = i64::try_from(webhook.endpoint.timeout.as_millis()).unwrap_or(i64::MAX);
    Told {
        state: "sending",
        reason: Some(reason),
        since: standing.head_begun_at,
        next: "its answer is due".to_owned(),
        next_at: standing
            .head_begun_at
            .map(|begun| WallTime(begun.0.saturating_add(timeout_ms))),
    }
}

/// Adds what an operator asked for to what the webhook does by itself.
fn with_errand(
    own: Told,
    errand: &Errand,
    webhook: &Webhook,
    standing: &Standing,
    waiting: &Waiting,
    is_running: bool,
    now: Now,
) -> Told {
    let what = errand_in_words(errand);
    let is_test = matches!(errand.load, Load::Test { .. });
    if !is_running && is_test {
        // Nobody waits for its answer any more.
        return own;
    }
    if is_running && errand.in_flight {
        let attempt = match &errand.load {
            Load::Resend { attempts, .. } => format!(", attempt {attempts}"),
            Load::Test { .. } => String::new(),
        };
        return sending(format!("{what} is under way{attempt}"), webhook, standing);
    }
    let row = ResendRow {
        due: errand.due,
        counted: errand.counted,
        in_flight: errand.in_flight,
    };
    let waits = super::resend_in_words(&what, row, is_running);
    let own_reason = own.reason.filter(|reason| reason != NOTHING_WAITS);
    let reasons: Vec<_> = own_reason.into_iter().chain([waits]).collect();
    let own = Told {
        reason: Some(reasons.join("; ")),
        ..own
    };
    let (lane, policy) = (&standing.lane, &webhook.policy);
    let own_step = next_step(lane, None, waiting, policy, now.clock);
    let step = next_step(lane, Some(errand), waiting, policy, now.clock);
    if lane.head.as_ref().is_some_and(|head| head.in_flight) || step == own_step {
        return own;
    }
    let next_at = match step {
        Step::Wait(wait) => wait.until.map(|until| now.wall_at(until)),
        Step::Seal(_) | Step::Send | Step::Run => None,
    };
    let next = match &own.next {
        stands_still if next_at.is_none() && stands_still.starts_with("nothing") => {
            format!("sends {what}; then {stands_still}")
        }
        _ => format!("sends {what}"),
    };
    Told {
        next,
        next_at,
        ..own
    }
}

fn errand_in_words(errand: &Errand) -> String {
    match &errand.load {
        Load::Resend {
            payload, resend_of, ..
        } => {
            let count = u64::try_from(payload.members.seqs().len()).unwrap_or(u64::MAX);
            let orders = orders_in_words(count, payload.order_type);
            match resend_of {
                None => format!("the resend of {} ({orders})", payload.id),
                Some(original) => {
                    format!("the resend of {original} as {} ({orders})", payload.id)
                }
            }
        }
        Load::Test {
            order_type, action, ..
        } => format!("the test of {order_type}.{action}"),
    }
}

/// `pl_… (100 purchase orders)`.
pub(super) fn payload_in_words(row: &PayloadRow) -> String {
    format!(
        "{} ({})",
        row.id,
        orders_in_words(row.items, row.order_type)
    )
}

/// `1 purchase order`, `100 purchase orders`.
pub(super) fn orders_in_words(count: u64, order_type: OrderType) -> String {
    let what = order_type.as_str().replace('_', " ");
    match count {
        1 => format!("1 {what}"),
        _ => format!("{count} {what}s"),
    }
}

/// `attempt 3 of 4`.
fn attempt_in_words(head: &Head, policy: &Policy, counts: bool) -> String {
    match policy.retry_attempts {
        RetryAttempts::Times(times) if counts => {
            let (next, all) = (head.counted.saturating_add(1), times.saturating_add(1));
            format!("attempt {next} of {all}")
        }
        RetryAttempts::Times(_) if !counts => format!(
            "attempt {}, which is not counted",
            head.attempts.saturating_add(1)
        ),
        RetryAttempts::Times(_) | RetryAttempts::Unlimited => {
            format!("attempt {}", head.attempts.saturating_add(1))
        }
    }
}
