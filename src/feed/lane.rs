//! A lane: where one webhook stands, and what it does next (D2 to D5, D9 to D13, D19, D24).
//!
//! [`next_step`] is the only place that decides. What it says is carried out elsewhere; the
//! lane that follows is made here (`sealed`, `begun`, `settled`, …), written to the ledger, and
//! counts from the moment that this write is durable.

use std::time::Duration;

use super::order::{OrderType, PerType, Seq};
use super::outcome::Verdict;
use super::payload::Payload;
use super::policy::{Policy, Sequence};
use super::timestamp::Timestamp;

/// What a webhook does next. It never waits for a moment that has passed.
pub fn next_step(lane: &Lane, waiting: &Waiting, policy: &Policy, now: Timestamp) -> Step {
    let stands_still = |state| Step::Wait(Wait { until: None, state });
    match &lane.standing {
        Standing::Deactivated(_) => return stands_still(WebhookState::Deactivated),
        Standing::Held(Hold::Interrupted | Hold::Mismatch, _) => {
            return stands_still(WebhookState::Held);
        }
        Standing::Up | Standing::Down(_) | Standing::Held(Hold::Endpoint, _) => {}
    }
    if !policy.active {
        return stands_still(WebhookState::Inactive);
    }
    let paced_until = lane
        .last_ended
        .map_or(now, |ended| ended + policy.payload_interval);
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
                id: super::payload::PayloadId::new(Timestamp::from_ms(1), [1; 10]),
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

    /// The lane whose next payload is sealed, and its first attempt begun.
    #[must_use]
    pub fn sealed(&self, payload: Payload, progress: Progress) -> Self {
        let order_type = payload.order_type;
        let mut lane = self.looked(order_type, progress);
        lane.seals = lane.seals.saturating_add(1);
        lane.places[order_type].sealed_last = lane.seals;
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
        if interruptions >= INTERRUPTIONS_MAX {
            let reason = format!(
                "{interruptions} attempts in a row at the same payload were cut off by a crash or a stop"
            );
            lane.standing = Standing::Held(Hold::Interrupted, Trouble { reason, since: now });
        }
        lane
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
        lane.failing_since = None;
        lane
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
    /// Whether lingering would add nothing: a whole payload waits. Also set where more rows
    /// must be read before one can tell what waits; a [`Step::Seal`] reads them.
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
    let firsts = || {
        waiting
            .0
            .iter()
            .filter_map(|(order_type, first)| first.map(|first| (order_type, first)))
    };
    let lingers_until = |first: &First| {
        let until = first.noticed + policy.payload_linger;
        (!first.full && until > now).then_some(until)
    };
    let oldest = |(_, first): &(OrderType, First)| first.seq;
    if policy.sequence == Sequence::Fifo {
        let Some((order_type, first)) = firsts().min_by_key(oldest) else {
            return Choice::Nothing;
        };
        // Where another type waits behind it, its payload can't grow any more.
        let before = firsts()
            .map(|(_, first)| first.seq)
            .filter(|&seq| seq > first.seq)
            .min();
        return match lingers_until(&first).filter(|_| before.is_none()) {
            Some(until) => Choice::Linger(until),
            None => Choice::Ready(Seal { order_type, before }),
        };
    }
    let ready = || firsts().filter(|(_, first)| lingers_until(first).is_none());
    let next = match policy.sequence {
        Sequence::PoFirst => ready()
            .min_by_key(|&(order_type, first)| (order_type != OrderType::PurchaseOrder, first.seq)),
        Sequence::Rotate => ready()
            .min_by_key(|&(order_type, first)| (lane.places[order_type].sealed_last, first.seq)),
        Sequence::Fifo => ready().min_by_key(oldest),
    };
    match next {
        Some((order_type, _)) => Choice::Ready(Seal {
            order_type,
            before: None,
        }),
        None => firsts()
            .filter_map(|(_, first)| lingers_until(&first))
            .min()
            .map_or(Choice::Nothing, Choice::Linger),
    }
}
