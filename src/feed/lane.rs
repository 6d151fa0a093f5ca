//! A lane: where one webhook stands, and what it does next (D2 to D5, D9 to D13, D19, D21, D24).
//!
//! [`next_step`] is the only place that decides. What it says is carried out elsewhere; the
//! lane that follows is made here (`sealed`, `begun`, `settled`, …), written to the ledger, and
//! counts from the moment that this write is durable.

use std::time::Duration;

use super::errand::Errand;
use super::order::{OrderType, PerType, Seq};
use super::outcome::Verdict;
use super::payload::{Payload, PayloadId};
use super::policy::{Policy, Sequence};
use super::timestamp::Timestamp;

/// What a webhook does next; `errand` is the first of those that an operator asked for. It never
/// waits for a moment that has passed.
pub fn next_step(
    lane: &Lane,
    errand: Option<&Errand>,
    waiting: &Waiting,
    policy: &Policy,
    now: Timestamp,
) -> Step {
    let paced_until = lane
        .last_ended
        .map_or(now, |ended| ended + policy.payload_interval);
    // Before retries and new payloads, and whatever holds those up (D21).
    let errand_due = errand.and_then(|errand| {
        let unpaced = errand.unpaced();
        errand
            .due
            .map(|due| due.max(if unpaced { now } else { paced_until }))
    });
    if errand_due.is_some_and(|due| due <= now) {
        return Step::Run;
    }
    match own_step(lane, waiting, policy, paced_until, now) {
        Step::Wait(Wait { until, state }) => Step::Wait(Wait {
            until: until.into_iter().chain(errand_due).min(),
            state,
        }),
        // While a resend waits for its retry, it holds up nothing (D21).
        step @ (Step::Seal(_) | Step::Send | Step::Run) => step,
    }
}

/// What a webhook does next where no operator asks for anything.
fn own_step(
    lane: &Lane,
    waiting: &Waiting,
    policy: &Policy,
    paced_until: Timestamp,
    now: Timestamp,
) -> Step {
    let stands_still = |state| Step::Wait(Wait { until: None, state });
    match &lane.standing {
        Standing::Deactivated(_) => return stands_still(WebhookState::Deactivated),
        Standing::Held(Hold::Interrupted | Hold::Mismatch, _) => {
            return stands_still(WebhookState::Held);
        }
        Standing::Up | Standing::Down(_) | Standing::Held(Hold::Endpoint, _) => {}
    }
    if lane.paused.is_some() {
        return stands_still(WebhookState::Paused);
    }
    if !policy.active {
        return stands_still(WebhookState::Inactive);
    }
    if let Some(head) = &lane.head {
        // Later payloads wait behind it (D10).
        let due = lane
            .last_ended
            .map_or(now, |ended| ended + head.retry_wait)
            .max(paced_until);
        if due > now {
            let state = match &lane.standing {
                Standing::Down(_) => WebhookState::Down,
                Standing::Held(..) => WebhookState::Held,
                Standing::Up | Standing::Deactivated(_) => WebhookState::Retrying,
            };
            return Step::Wait(Wait {
                until: Some(due),
                state,
            });
        }
        return Step::Send;
    }
    match choose(lane, waiting, policy, now) {
        Choice::Nothing => stands_still(WebhookState::Idle),
        Choice::Linger(until) => Step::Wait(Wait {
            until: Some(until.max(paced_until)),
            state: WebhookState::Idle,
        }),
        // Never sealed ahead of its time: what waits may still change its precedence (D2).
        Choice::Ready(_) if paced_until > now => Step::Wait(Wait {
            until: Some(paced_until),
            state: WebhookState::Pacing,
        }),
        Choice::Ready(seal) => Step::Seal(seal),
    }
}

/// What a webhook does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Compose a payload and send it: its request may start at once.
    Seal(Seal),
    /// Send the pending payload.
    Send,
    /// Send what an operator asked for first.
    Run,
    /// Nothing, until then or until something changes.
    Wait(Wait),
}

/// Which payload is composed next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seal {
    /// The type of its orders.
    pub order_type: OrderType,
    /// Only orders before this one: with `sequence = "fifo"` a payload ends where the type
    /// changes (D2).
    pub before: Option<Seq>,
}

/// Until when nothing is sent, and what the webhook's state is called meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wait {
    /// `None`: until something changes. Always later than now.
    pub until: Option<Timestamp>,
    /// The contract's word for it.
    pub state: WebhookState,
}

/// A webhook's state, in the contract's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WebhookState {
    /// Nothing waits that may go.
    Idle,
    /// Something waits for the end of `payload_interval` (D4).
    Pacing,
    /// A payload waits for its retry (D9).
    Retrying,
    /// Held by `hold_on` (D13), by three interruptions (D19), or by a body that changed.
    Held,
    /// The endpoint's trouble used up a payload's attempts; its next payload is tried (D12).
    Down,
    /// Stopped until somebody resumes it (D13).
    Deactivated,
    /// `active = false` (D24).
    Inactive,
    /// An operator paused it (D24).
    Paused,
}

impl WebhookState {
    /// The contract's word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Pacing => "pacing",
            Self::Retrying => "retrying",
            Self::Held => "held",
            Self::Down => "down",
            Self::Deactivated => "deactivated",
            Self::Inactive => "inactive",
            Self::Paused => "paused",
        }
    }
}

/// Where a webhook stands: all that its decisions rest on, but for what waits in the queue.
///
/// The ledger holds it; in memory it is what the last commit made of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Lane {
    /// How far it has come with each order type.
    pub places: PerType<Place>,
    /// How many payloads it sealed: the count by which types take turns (D2, `rotate`).
    pub seals: u64,
    /// The payload that was sealed and is neither delivered nor failed.
    pub head: Option<Head>,
    /// When the last request ended (D4).
    pub last_ended: Option<Timestamp>,
    /// Whether it is well.
    pub standing: Standing,
    /// Who paused it, and since when (D24).
    pub paused: Option<Trouble>,
    /// When the first attempt failed since the last success (D13).
    pub failing_since: Option<Timestamp>,
    /// The version of the selections that it goes by (D25).
    pub selections_version: u64,
}

/// How far a lane has come with one order type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Place {
    /// The last order that was looked at: all up to it are in a payload, parked, set aside,
    /// withdrawn, or were never this webhook's.
    pub cursor: Seq,
    /// Parked orders after this one may be selected again and are yet to be looked at (D25);
    /// `None` if there are none.
    pub unpark: Option<Seq>,
    /// The value of [`Lane::seals`] when a payload of this type was last sealed; 0 before.
    pub sealed_last: u64,
}

impl Place {
    /// How far it has come.
    pub const fn progress(&self) -> Progress {
        Progress {
            cursor: self.cursor,
            unpark: self.unpark,
        }
    }
}

/// The payload that a lane is busy with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// What it is.
    pub payload: Payload,
    /// Requests begun with its id.
    pub attempts: u32,
    /// Those that count against `retry_attempts` (D9, D12, D13, D19).
    pub counted: u32,
    /// Attempts in a row that were cut off by a crash or a stop (D19).
    pub interruptions: u32,
    /// How long after the last request's end it goes again, as it was judged then.
    pub retry_wait: Duration,
    /// Whether an attempt was begun and is not settled.
    pub in_flight: bool,
}

/// Whether a webhook is well.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Standing {
    /// It is, or a retry will show.
    #[default]
    Up,
    /// The endpoint's trouble used up a payload's attempts (D12). A success ends it, and any
    /// answer that is not the endpoint's trouble.
    Down(Trouble),
    /// It is held; what ends it depends on why.
    Held(Hold, Trouble),
    /// It sends nothing until it is resumed (D13).
    Deactivated(Trouble),
}

impl Head {
    /// A payload of one order, for tables of tests.
    #[cfg(test)]
    pub(super) fn example() -> Self {
        Self {
            payload: Payload {
                id: PayloadId::new(Timestamp::from_ms(1), [1; 10]),
                order_type: OrderType::PurchaseOrder,
                action: super::order::Action::default(),
                members: super::payload::Members::new(vec![Seq(1)]).expect("one"),
                encoding: super::payload::ENCODING,
                checksum: 1,
            },
            attempts: 1,
            counted: 0,
            interruptions: 0,
            retry_wait: Duration::ZERO,
            in_flight: true,
        }
    }
}

impl Standing {
    /// Its name in the ledger.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down(_) => "down",
            Self::Held(hold, _) => hold.as_str(),
            Self::Deactivated(_) => "deactivated",
        }
    }

    /// The state that it means while nothing else decides.
    pub const fn state(&self) -> WebhookState {
        match self {
            Self::Up => WebhookState::Idle,
            Self::Down(_) => WebhookState::Down,
            Self::Held(..) => WebhookState::Held,
            Self::Deactivated(_) => WebhookState::Deactivated,
        }
    }

    /// Whether it sends nothing of its own until somebody says so; no answer ends that.
    pub const fn is_lasting(&self) -> bool {
        match self {
            Self::Up | Self::Down(_) | Self::Held(Hold::Endpoint, _) => false,
            Self::Held(Hold::Interrupted | Hold::Mismatch, _) | Self::Deactivated(_) => true,
        }
    }

    /// What is wrong, unless nothing is.
    pub const fn trouble(&self) -> Option<&Trouble> {
        match self {
            Self::Up => None,
            Self::Down(trouble) | Self::Held(_, trouble) | Self::Deactivated(trouble) => {
                Some(trouble)
            }
        }
    }

    /// The reverse of [`Standing::as_str`]; `None` for a name that it did not give.
    pub fn from_parts(name: &str, trouble: Trouble) -> Option<Self> {
        Some(match name {
            "up" => Self::Up,
            "down" => Self::Down(trouble),
            "held" => Self::Held(Hold::Endpoint, trouble),
            "held_interrupted" => Self::Held(Hold::Interrupted, trouble),
            "held_mismatch" => Self::Held(Hold::Mismatch, trouble),
            "deactivated" => Self::Deactivated(trouble),
            _ => return None,
        })
    }
}

/// What is wrong with a webhook, and since when.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Trouble {
    /// In words.
    pub reason: String,
    /// When it began.
    pub since: Timestamp,
}

/// Why a webhook is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// `hold_on` names what happened; the head payload is tried every `retry_gap` (D13).
    Endpoint,
    /// Three attempts in a row at the same payload were interrupted (D19); until resumed.
    Interrupted,
    /// The head payload's bytes can't be made again as they were; until resumed.
    Mismatch,
}

impl Hold {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Endpoint => "held",
            Self::Interrupted => "held_interrupted",
            Self::Mismatch => "held_mismatch",
        }
    }
}

/// So many interruptions in a row of the same payload hold the webhook (D19).
pub const INTERRUPTIONS_MAX: u32 = 3;

impl Lane {
    /// A webhook that begins after this order.
    pub fn starting_after(seq: Seq, selections_version: u64) -> Self {
        let place = Place {
            cursor: seq,
            ..Place::default()
        };
        Self {
            places: PerType::from_fn(|_| place),
            selections_version,
            ..Self::default()
        }
    }

    /// The lane that has looked so far, and found nothing to send.
    #[must_use]
    pub fn looked(&self, order_type: OrderType, progress: Progress) -> Self {
        let mut lane = self.clone();
        let place = &mut lane.places[order_type];
        place.cursor = progress.cursor;
        place.unpark = progress.unpark;
        lane
    }

    /// The lane that has come so far with a type by sealing a payload of it.
    #[must_use]
    pub fn passed(&self, order_type: OrderType, progress: Progress) -> Self {
        let mut lane = self.looked(order_type, progress);
        lane.seals = lane.seals.saturating_add(1);
        lane.places[order_type].sealed_last = lane.seals;
        lane
    }

    /// The lane whose next payload is sealed, and its first attempt begun.
    #[must_use]
    pub fn sealed(&self, payload: Payload, progress: Progress) -> Self {
        let mut lane = self.passed(payload.order_type, progress);
        lane.head = Some(Head {
            payload,
            attempts: 1,
            counted: 0,
            interruptions: 0,
            retry_wait: Duration::ZERO,
            in_flight: true,
        });
        lane
    }

    /// The lane whose head payload's next attempt is begun.
    #[must_use]
    pub fn begun(&self) -> Self {
        self.with_head(|head| {
            head.attempts = head.attempts.saturating_add(1);
            head.in_flight = true;
        })
    }

    /// The lane whose attempt was begun, and then not made: a stop came first. Nothing was sent.
    #[must_use]
    pub fn withheld(&self) -> Self {
        self.with_head(|head| {
            head.attempts = head.attempts.saturating_sub(1);
            head.in_flight = false;
        })
    }

    /// The lane whose attempt ended and was judged.
    #[must_use]
    pub fn settled(&self, verdict: &Verdict, ended: Timestamp) -> Self {
        let mut lane = self.with_head(|head| {
            head.in_flight = false;
            head.interruptions = 0;
        });
        lane.last_ended = Some(ended);
        lane.failing_since = lane.failing_since.or(Some(ended));
        match verdict {
            Verdict::Delivered => {
                lane.head = None;
                lane.standing = Standing::Up;
                lane.failing_since = None;
            }
            Verdict::Retry {
                wait,
                counted,
                standing,
            } => {
                if let Some(head) = &mut lane.head {
                    head.retry_wait = *wait;
                    head.counted = head.counted.saturating_add(u32::from(*counted));
                }
                lane.standing = standing.clone();
            }
            Verdict::Failed { standing, .. } => {
                lane.head = None;
                lane.standing = standing.clone();
            }
            Verdict::Deactivated(trouble) => {
                if let Some(head) = &mut lane.head {
                    head.retry_wait = Duration::ZERO;
                }
                lane.standing = Standing::Deactivated(trouble.clone());
            }
        }
        if self.standing.is_lasting() {
            // It was sent because somebody asked for it (D21).
            lane.standing = self.standing.clone();
        }
        lane
    }

    /// The lane beside which an errand's attempt ended: it paces, and puts off no retry (D21).
    #[must_use]
    pub fn ran(&self, ended: Timestamp) -> Self {
        let mut lane = self.with_head(|head| {
            if let Some(before) = self.last_ended {
                head.retry_wait = (before + head.retry_wait) - ended;
            }
        });
        lane.last_ended = Some(ended);
        lane
    }

    /// The lane of a webhook that took a resend: its receiver is well.
    #[must_use]
    pub fn recovered(&self) -> Self {
        let mut lane = self.clone();
        lane.failing_since = None;
        if !self.standing.is_lasting() {
            lane.standing = Standing::Up;
        }
        lane
    }

    /// The lane whose attempt was begun, and cut off by a crash (D19): its outcome is unknown,
    /// it is not counted, and it goes again as soon as D4 allows. When the request ended is
    /// unknown too; it was over by now.
    #[must_use]
    pub fn interrupted(&self, now: Timestamp) -> Self {
        let mut lane = self.with_head(|head| {
            head.in_flight = false;
            head.interruptions = head.interruptions.saturating_add(1);
            head.retry_wait = Duration::ZERO;
        });
        lane.last_ended = Some(now);
        let interruptions = lane.head.as_ref().map_or(0, |head| head.interruptions);
        lane.held_by(interruptions, now)
    }

    /// The lane beside which an errand's attempt was cut off, so often in a row by now (D19).
    #[must_use]
    pub fn ran_into(&self, interruptions: u32, now: Timestamp) -> Self {
        self.ran(now).held_by(interruptions, now)
    }

    fn held_by(self, interruptions: u32, now: Timestamp) -> Self {
        if interruptions < INTERRUPTIONS_MAX || self.standing.is_lasting() {
            return self;
        }
        let reason = format!(
            "{interruptions} attempts in a row at the same payload were cut off by a crash or a stop"
        );
        Self {
            standing: Standing::Held(Hold::Interrupted, Trouble { reason, since: now }),
            ..self
        }
    }

    /// The lane whose head payload's bytes can't be made again: other bytes are never sent
    /// under the same id.
    #[must_use]
    pub fn mismatched(&self, reason: String, now: Timestamp) -> Self {
        let mut lane = self.clone();
        lane.standing = Standing::Held(Hold::Mismatch, Trouble { reason, since: now });
        lane
    }

    /// The lane that an operator told to go on: whatever held it is forgotten, and the head
    /// payload goes as soon as D4 allows.
    #[must_use]
    pub fn resumed(&self) -> Self {
        let mut lane = self.with_head(|head| {
            head.interruptions = 0;
            head.retry_wait = Duration::ZERO;
        });
        lane.standing = Standing::Up;
        lane.paused = None;
        lane.failing_since = None;
        lane
    }

    /// The lane that an operator told to send nothing of its own (D24).
    #[must_use]
    pub fn paused(&self, by: String, now: Timestamp) -> Self {
        let mut lane = self.clone();
        lane.paused.get_or_insert(Trouble {
            reason: by,
            since: now,
        });
        lane
    }

    /// The lane that an operator told to try again at once: its payload goes as soon as D4 allows
    /// (D19).
    #[must_use]
    pub fn retried(&self) -> Self {
        let mut lane = self.with_head(|head| {
            head.interruptions = 0;
            head.retry_wait = Duration::ZERO;
        });
        if matches!(
            self.standing,
            Standing::Held(Hold::Interrupted | Hold::Mismatch, _)
        ) {
            lane.standing = Standing::Up;
        }
        lane
    }

    /// The lane whose payload an operator gave up; `None` if it is not busy with that one, or it
    /// is on its way.
    pub fn discarded(&self, payload_id: PayloadId) -> Option<Self> {
        let head = self.head.as_ref()?;
        (head.payload.id == payload_id && !head.in_flight).then(|| Self {
            head: None,
            ..self.clone()
        })
    }

    /// The lane whose selections changed: what is parked may be selected again (D25).
    #[must_use]
    pub fn reselected(&self, selections_version: u64) -> Self {
        let mut lane = self.clone();
        lane.selections_version = selections_version;
        for order_type in OrderType::ALL {
            lane.places[order_type].unpark = Some(Seq::START);
        }
        lane
    }

    fn with_head(&self, change: impl FnOnce(&mut Head)) -> Self {
        let mut lane = self.clone();
        if let Some(head) = &mut lane.head {
            change(head);
        }
        lane
    }
}

/// How far a look at one order type came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// As [`Place::cursor`].
    pub cursor: Seq,
    /// As [`Place::unpark`].
    pub unpark: Option<Seq>,
}

/// What waits in the queue for one webhook.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Waiting(pub PerType<Option<First>>);

/// The oldest order of a type that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct First {
    /// Its place in the queue.
    pub seq: Seq,
    /// When it was noticed (D5).
    pub noticed: Timestamp,
    /// Whether lingering would add nothing: a whole payload waits.
    pub full: bool,
}

/// What could go next.
enum Choice {
    Nothing,
    /// What waits may wait until then for its payload to fill (D5).
    Linger(Timestamp),
    Ready(Seal),
}

/// Which of the waiting order types goes next (D2), if one is ready (D5).
fn choose(lane: &Lane, waiting: &Waiting, policy: &Policy, now: Timestamp) -> Choice {
    let firsts: Vec<(OrderType, First)> = waiting
        .0
        .iter()
        .filter_map(|(order_type, first)| first.map(|first| (order_type, first)))
        .collect();
    let lingers_until = |first: &First| {
        let until = first.noticed + policy.payload_linger;
        (!first.full && until > now).then_some(until)
    };
    match policy.sequence {
        Sequence::PoFirst => ranked(&firsts, lingers_until, |order_type, first| {
            (u64::from(order_type != OrderType::PurchaseOrder), first.seq)
        }),
        Sequence::Rotate => ranked(&firsts, lingers_until, |order_type, first| {
            (lane.places[order_type].sealed_last, first.seq)
        }),
        Sequence::Fifo => in_order(&firsts, lingers_until),
    }
}

/// Of the types that are ready the one of the lowest rank; others pass one that lingers.
fn ranked(
    firsts: &[(OrderType, First)],
    lingers_until: impl Fn(&First) -> Option<Timestamp>,
    rank: impl Fn(OrderType, &First) -> (u64, Seq),
) -> Choice {
    let next = firsts
        .iter()
        .filter(|(_, first)| lingers_until(first).is_none())
        .min_by_key(|(order_type, first)| rank(*order_type, first));
    match next {
        Some(&(order_type, _)) => Choice::Ready(Seal {
            order_type,
            before: None,
        }),
        None => firsts
            .iter()
            .filter_map(|(_, first)| lingers_until(first))
            .min()
            .map_or(Choice::Nothing, Choice::Linger),
    }
}

/// The oldest order of all, and those of its type until another type's: nothing passes it.
fn in_order(
    firsts: &[(OrderType, First)],
    lingers_until: impl Fn(&First) -> Option<Timestamp>,
) -> Choice {
    let Some(&(order_type, first)) = firsts.iter().min_by_key(|(_, first)| first.seq) else {
        return Choice::Nothing;
    };
    let others = firsts.iter().filter(|(other, _)| *other != order_type);
    let before = others.map(|(_, other)| other.seq).min();
    // Where another type waits behind it, its payload can't grow any more.
    match lingers_until(&first).filter(|_| before.is_none()) {
        Some(until) => Choice::Linger(until),
        None => Choice::Ready(Seal { order_type, before }),
    }
}

#[cfg(test)]
mod tests {
    use super::super::errand::Older;
    use super::super::policy::RetryAttempts;
    use super::*;

    const GAP: Duration = Duration::from_mins(1);

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_ms(seconds * 1_000)
    }

    /// What waits, written as `po 7` (noticed at 0 s), `po 7 full`, or `po 7 @30` (noticed at 30 s).
    fn waiting(text: &str) -> Waiting {
        let mut waiting = Waiting::default();
        for one in text.split(", ").filter(|one| !one.is_empty()) {
            let words: Vec<_> = one.split(' ').collect();
            let order_type = match words[0] {
                "po" => OrderType::PurchaseOrder,
                "to" => OrderType::TransferOrder,
                _ => OrderType::WorkOrder,
            };
            let noticed = words.iter().find_map(|word| word.strip_prefix('@'));
            waiting.0[order_type] = Some(First {
                seq: Seq(words[1].parse().expect("a seq")),
                noticed: at(noticed.map_or(0, |seconds| seconds.parse().expect("seconds"))),
                full: words.contains(&"full"),
            });
        }
        waiting
    }

    /// What is next, in short.
    fn next(lane: &Lane, text: &str, policy: &Policy, seconds: i64) -> String {
        match next_step(lane, None, &waiting(text), policy, at(seconds)) {
            Step::Seal(Seal {
                order_type,
                before: None,
            }) => format!("seal {order_type}"),
            Step::Seal(Seal {
                order_type,
                before: Some(before),
            }) => {
                format!("seal {order_type} before {before}")
            }
            Step::Send => "send".to_owned(),
            Step::Run => "run".to_owned(),
            Step::Wait(Wait { until: None, state }) => state.as_str().to_owned(),
            Step::Wait(Wait {
                until: Some(until),
                state,
            }) => {
                assert!(until > at(seconds), "a wait lies after now");
                format!("{} until {}", state.as_str(), until.ms() / 1_000)
            }
        }
    }

    fn sealed(lane: &Lane, order_type: OrderType) -> Lane {
        let payload = Payload {
            id: PayloadId::new(at(1), [7; 10]),
            order_type,
            ..Head::example().payload
        };
        lane.sealed(
            payload,
            Progress {
                cursor: Seq(1),
                unpark: None,
            },
        )
    }

    fn trouble() -> Trouble {
        Trouble {
            reason: "answered 503".to_owned(),
            since: at(0),
        }
    }

    #[test]
    fn d2_po_first_then_what_entered_first() {
        let policy = Policy::default();
        let lane = Lane::default();
        assert_eq!(next(&lane, "", &policy, 0), "idle");
        assert_eq!(
            next(&lane, "wo 1, to 2, po 3", &policy, 0),
            "seal purchase_order"
        );
        assert_eq!(next(&lane, "wo 1, to 2", &policy, 0), "seal work_order");
        assert_eq!(next(&lane, "wo 3, to 2", &policy, 0), "seal transfer_order");
    }

    #[test]
    fn d2_rotate_takes_the_type_that_went_longest_ago() {
        let policy = Policy {
            sequence: Sequence::Rotate,
            ..Policy::default()
        };
        let mut lane = Lane::default();
        let mut turns = Vec::new();
        for _ in 0..5 {
            let Step::Seal(seal) =
                next_step(&lane, None, &waiting("po 1, to 5, wo 3"), &policy, at(0))
            else {
                panic!("something waits");
            };
            turns.push(seal.order_type.as_str());
            lane = sealed(&lane, seal.order_type).settled(&Verdict::Delivered, at(0));
        }
        // Those that never went: as they entered.
        let expected = [
            "purchase_order",
            "work_order",
            "transfer_order",
            "purchase_order",
            "work_order",
        ];
        assert_eq!(turns, expected);
    }

    #[test]
    fn d2_fifo_ends_a_payload_where_the_type_changes() {
        let policy = Policy {
            sequence: Sequence::Fifo,
            ..Policy::default()
        };
        let lane = Lane::default();
        assert_eq!(
            next(&lane, "wo 1, po 4, to 9", &policy, 0),
            "seal work_order before 4"
        );
        assert_eq!(
            next(&lane, "wo 10, po 4, to 9", &policy, 0),
            "seal purchase_order before 9"
        );
        assert_eq!(next(&lane, "wo 10", &policy, 0), "seal work_order");
    }

    #[test]
    fn d4_requests_are_an_interval_apart_and_nothing_is_sealed_ahead() {
        let policy = Policy {
            payload_interval: GAP,
            ..Policy::default()
        };
        let lane = Lane {
            last_ended: Some(at(100)),
            ..Lane::default()
        };
        assert_eq!(next(&lane, "po 1", &policy, 159), "pacing until 160");
        assert_eq!(next(&lane, "po 1", &policy, 160), "seal purchase_order");
        assert_eq!(next(&lane, "", &policy, 101), "idle");
        // A retry is a request like any other.
        let policy = Policy {
            retry_gap: Duration::from_secs(1),
            ..policy
        };
        let verdict = Verdict::Retry {
            wait: policy.retry_gap,
            counted: true,
            standing: Standing::Up,
        };
        let lane = sealed(&lane, OrderType::PurchaseOrder).settled(&verdict, at(200));
        assert_eq!(next(&lane, "", &policy, 201), "retrying until 260");
        assert_eq!(next(&lane, "", &policy, 260), "send");
    }

    #[test]
    fn d5_a_lone_order_goes_at_once_unless_it_may_linger() {
        let lane = Lane::default();
        assert_eq!(
            next(&lane, "to 1", &Policy::default(), 0),
            "seal transfer_order"
        );
        let policy = Policy {
            payload_linger: GAP,
            ..Policy::default()
        };
        assert_eq!(next(&lane, "po 1 @10", &policy, 11), "idle until 70");
        assert_eq!(next(&lane, "po 1 @10", &policy, 70), "seal purchase_order");
        assert_eq!(
            next(&lane, "po 1 full @10", &policy, 11),
            "seal purchase_order"
        );
        // Others pass meanwhile.
        assert_eq!(
            next(&lane, "po 1 @10, wo 2 full @11", &policy, 11),
            "seal work_order"
        );
        assert_eq!(
            next(&lane, "po 1 @10, wo 2 @5", &policy, 11),
            "idle until 65"
        );
        // Strictly in order nothing passes, and what can't grow any more goes.
        let policy = Policy {
            sequence: Sequence::Fifo,
            ..policy
        };
        assert_eq!(next(&lane, "po 1 @10", &policy, 11), "idle until 70");
        assert_eq!(
            next(&lane, "po 1 @10, wo 2 @10", &policy, 11),
            "seal purchase_order before 2"
        );
    }

    /// D9, D10, D11: a failed payload goes again after the gap, the others wait behind it, and
    /// when its attempts are used up they go on.
    #[test]
    fn d10_later_payloads_wait_behind_a_retry() {
        let policy = Policy {
            retry_gap: GAP,
            retry_attempts: RetryAttempts::Times(1),
            ..Policy::default()
        };
        let verdict = Verdict::Retry {
            wait: GAP,
            counted: true,
            standing: Standing::Up,
        };
        let lane = sealed(&Lane::default(), OrderType::WorkOrder);
        assert_eq!(
            lane.head
                .as_ref()
                .map(|head| (head.attempts, head.in_flight)),
            Some((1, true))
        );
        let lane = lane.settled(&verdict, at(100));
        assert_eq!(next(&lane, "po 1", &policy, 101), "retrying until 160");
        assert_eq!(next(&lane, "po 1", &policy, 160), "send");
        let lane = lane.begun();
        assert_eq!(
            lane.head.as_ref().map(|head| (head.attempts, head.counted)),
            Some((2, 1))
        );
        let failed = Verdict::Failed {
            reason: "answered 500".to_owned(),
            standing: Standing::Up,
        };
        let lane = lane.settled(&failed, at(161));
        assert_eq!(next(&lane, "po 1", &policy, 161), "seal purchase_order");
    }

    #[test]
    fn d12_down_tries_the_next_payload_at_once_and_then_every_gap() {
        let policy = Policy {
            retry_gap: GAP,
            ..Policy::default()
        };
        let down = Standing::Down(trouble());
        let failed = Verdict::Failed {
            reason: "answered 503".to_owned(),
            standing: down.clone(),
        };
        let lane = sealed(&Lane::default(), OrderType::PurchaseOrder).settled(&failed, at(100));
        assert_eq!(next(&lane, "po 2", &policy, 100), "seal purchase_order");
        let again = Verdict::Retry {
            wait: GAP,
            counted: false,
            standing: down,
        };
        let lane = sealed(&lane, OrderType::PurchaseOrder).settled(&again, at(101));
        assert_eq!(next(&lane, "", &policy, 102), "down until 161");
        assert_eq!(lane.head.as_ref().map(|head| head.counted), Some(0));
        let lane = lane.begun().settled(&Verdict::Delivered, at(162));
        assert_eq!((lane.standing, lane.failing_since), (Standing::Up, None));
    }

    #[test]
    fn d13_a_deactivated_webhook_waits_until_it_is_resumed() {
        let policy = Policy::default();
        let lane = sealed(&Lane::default(), OrderType::PurchaseOrder)
            .settled(&Verdict::Deactivated(trouble()), at(100));
        assert_eq!(next(&lane, "", &policy, 1_000_000), "deactivated");
        let lane = lane.resumed();
        assert_eq!(next(&lane, "", &policy, 101), "send");
        assert_eq!(lane.failing_since, None);
    }

    #[test]
    fn d19_an_interrupted_attempt_is_not_counted_and_goes_again_as_soon_as_d4_allows() {
        let policy = Policy {
            payload_interval: GAP,
            ..Policy::default()
        };
        let lane = sealed(&Lane::default(), OrderType::PurchaseOrder).interrupted(at(500));
        assert_eq!(
            lane.head.as_ref().map(|head| (head.attempts, head.counted)),
            Some((1, 0))
        );
        assert_eq!(next(&lane, "", &policy, 501), "retrying until 560");
        let lane = lane
            .begun()
            .interrupted(at(600))
            .begun()
            .interrupted(at(700));
        assert_eq!(next(&lane, "", &policy, 1_000), "held");
        assert_eq!(next(&lane.resumed(), "", &policy, 1_000), "send");
    }

    #[test]
    fn d19_only_interruptions_in_a_row_hold() {
        let verdict = Verdict::Retry {
            wait: GAP,
            counted: true,
            standing: Standing::Up,
        };
        let lane = sealed(&Lane::default(), OrderType::PurchaseOrder)
            .interrupted(at(1))
            .begun()
            .interrupted(at(2))
            .begun()
            .settled(&verdict, at(3))
            .begun()
            .interrupted(at(4));
        assert_eq!(lane.standing, Standing::Up);
    }

    /// The step of a lane with an errand that is due then.
    fn next_with(lane: &Lane, due: Option<i64>, text: &str, policy: &Policy, now: i64) -> String {
        let errand = Errand {
            due: due.map(at),
            ..Errand::resend(Head::example().payload, None, 1, Older::Refused)
        };
        match next_step(lane, Some(&errand), &waiting(text), policy, at(now)) {
            Step::Run => "run".to_owned(),
            Step::Wait(Wait {
                until: Some(until),
                state,
            }) => format!("{} until {}", state.as_str(), until.ms() / 1_000),
            Step::Wait(Wait { until: None, state }) => state.as_str().to_owned(),
            Step::Seal(_) | Step::Send => next(lane, text, policy, now),
        }
    }

    /// D21: before retries and new payloads, whatever holds those up.
    #[test]
    fn d21_a_resend_goes_first_wherever_the_webhook_stands() {
        let busy = sealed(&Lane::default(), OrderType::PurchaseOrder).interrupted(at(0));
        let standings = [
            Standing::Up,
            Standing::Down(trouble()),
            Standing::Held(Hold::Endpoint, trouble()),
            Standing::Held(Hold::Interrupted, trouble()),
            Standing::Deactivated(trouble()),
        ];
        for standing in standings {
            for paused in [None, Some(trouble())] {
                let lane = Lane {
                    standing: standing.clone(),
                    paused,
                    ..busy.clone()
                };
                for active in [true, false] {
                    let policy = Policy {
                        active,
                        ..Policy::default()
                    };
                    assert_eq!(next_with(&lane, Some(0), "po 2", &policy, 100), "run");
                }
            }
        }
        let policy = Policy::default();
        assert_eq!(
            next_with(&Lane::default(), Some(0), "po 2", &policy, 100),
            "run"
        );
    }

    /// D4, D21: it paces; and while it waits for its retry, or for somebody, the others go on.
    #[test]
    fn d21_a_resend_paces_and_its_retries_hold_up_nothing() {
        let policy = Policy {
            payload_interval: GAP,
            ..Policy::default()
        };
        let lane = Lane {
            last_ended: Some(at(100)),
            ..Lane::default()
        };
        for (due, text, now, expected) in [
            (Some(0), "po 1", 159, "pacing until 160"),
            (Some(0), "", 159, "idle until 160"),
            (Some(0), "po 1", 160, "run"),
            (Some(500), "po 1", 160, "seal purchase_order"),
            (Some(500), "", 160, "idle until 500"),
            (None, "po 1", 160, "seal purchase_order"),
            (None, "", 160, "idle"),
        ] {
            assert_eq!(
                next_with(&lane, due, text, &policy, now),
                expected,
                "{due:?} at {now}"
            );
        }
        let paused = lane.paused("paused by root".to_owned(), at(1));
        assert_eq!(
            next_with(&paused, Some(500), "po 1", &policy, 160),
            "paused until 500"
        );
    }

    /// D21: an errand's request puts off no retry.
    #[test]
    fn d21_a_retry_goes_when_it_was_due_whatever_went_meanwhile() {
        let verdict = Verdict::Retry {
            wait: GAP,
            counted: true,
            standing: Standing::Up,
        };
        let policy = Policy::default();
        let lane = sealed(&Lane::default(), OrderType::PurchaseOrder).settled(&verdict, at(100));
        let lane = lane.ran(at(130));
        assert_eq!(next(&lane, "", &policy, 131), "retrying until 160");
        assert_eq!(next(&lane.ran(at(170)), "", &policy, 170), "send");
    }

    /// D21: what was sent by request wakes no webhook that only somebody can wake; but a receiver
    /// that takes a resend is well.
    #[test]
    fn d21_a_resend_ends_an_outage_and_resumes_nobody() {
        for (standing, after) in [
            (Standing::Down(trouble()), "up"),
            (Standing::Held(Hold::Endpoint, trouble()), "up"),
            (Standing::Deactivated(trouble()), "deactivated"),
            (
                Standing::Held(Hold::Interrupted, trouble()),
                "held_interrupted",
            ),
        ] {
            let lane = Lane {
                standing,
                ..sealed(&Lane::default(), OrderType::PurchaseOrder)
            };
            assert_eq!(lane.recovered().standing.as_str(), after);
            let delivered = lane.settled(&Verdict::Delivered, at(1));
            assert_eq!(delivered.standing.as_str(), after);
        }
    }

    #[test]
    fn d24_pause_holds_until_resume_and_retry_now_does_not_end_it() {
        let policy = Policy::default();
        let lane = Lane::default().paused("paused by root".to_owned(), at(1));
        assert_eq!(next(&lane, "po 1", &policy, 100), "paused");
        assert_eq!(next(&lane.retried(), "po 1", &policy, 100), "paused");
        assert_eq!(
            next(&lane.resumed(), "po 1", &policy, 100),
            "seal purchase_order"
        );
    }

    #[test]
    fn a_payload_is_discarded_unless_it_is_on_its_way() {
        let lane = sealed(&Lane::default(), OrderType::PurchaseOrder);
        let id = lane
            .head
            .as_ref()
            .map(|head| head.payload.id)
            .expect("a head");
        assert_eq!(lane.discarded(id), None);
        let lane = lane.interrupted(at(1));
        assert_eq!(lane.discarded(id).map(|lane| lane.head), Some(None));
        assert_eq!(lane.discarded(PayloadId::new(at(2), [9; 10])), None);
    }

    #[test]
    fn d24_an_inactive_webhook_sends_nothing() {
        let policy = Policy {
            active: false,
            ..Policy::default()
        };
        let lane = sealed(&Lane::default(), OrderType::PurchaseOrder).interrupted(at(1));
        assert_eq!(next(&lane, "", &policy, 100), "inactive");
        assert_eq!(next(&Lane::default(), "po 1", &policy, 100), "inactive");
    }
}
