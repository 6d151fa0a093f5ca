//! What systemd is told of the daemon: that it is ready, alive, how it fares, and that it ends.
//!
//! The watchdog is fed by progress, not by a timer. A lane says, whenever it begins something, by
//! when it will have come further ([`Pulse`]); one that waits is as far as it can be. The daemon's
//! own loop feeds it, after the queue's thread and the ledger have answered. So whatever hangs, a
//! thread, a store or one lane, has the daemon restarted. A store that *refuses* is no such thing:
//! it is asked again, and a restart would not mend it.
//!
//! Where nobody listens (no `NOTIFY_SOCKET`), nothing is told, and nothing is counted.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::rc::{Rc, Weak};
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::Instant;
use tracing::{error, info, warn};

use super::shell::Shared;
use crate::clock::{Clock, WallTime};
use crate::feed::lane::{Place, Wait, WebhookState};
use crate::feed::order::{OrderType, PerType};
use crate::feed::timestamp::Timestamp;
use crate::feed::webhook::WebhookName;
use crate::store;
use crate::store::ledger::WebhookId;
use crate::store::queue::Queue;

/// Whether systemd waits for the daemon to be ready, which includes its admin socket.
pub fn is_awaited() -> bool {
    std::env::var_os("NOTIFY_SOCKET").is_some()
}

/// The daemon's line to systemd.
#[derive(Clone, Debug)]
pub(super) struct Notifier(Rc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// Whether anybody listens.
    heard: bool,
    /// After so long without a sign of life, systemd restarts the daemon; `None`: never.
    watchdog: Option<Duration>,
    fed: Cell<Option<Instant>>,
    lanes: RefCell<Vec<(WebhookId, Weak<Cell<Doing>>)>>,
    /// The lane that was last found to hang.
    hangs: Cell<Option<WebhookId>>,
    /// What waited for each lane, when it stood so.
    waiting: RefCell<BTreeMap<WebhookId, (Stand, Waiting)>>,
    status: RefCell<String>,
    status_at: Cell<Option<Instant>>,
}

impl Notifier {
    /// As the environment says.
    pub(super) fn from_environment() -> Self {
        let heard = is_awaited();
        Self(Rc::new(Inner {
            heard,
            watchdog: sd_notify::watchdog_enabled().filter(|_| heard),
            ..Inner::default()
        }))
    }

    /// How a lane shows that it lives.
    pub(super) fn pulse(&self, webhook_id: WebhookId) -> Pulse {
        let patience = self.0.watchdog.unwrap_or(PATIENCE_UNWATCHED) / 2;
        let doing = Rc::new(Cell::new(Doing::Works(Instant::now() + patience)));
        let mut lanes = self.0.lanes.borrow_mut();
        lanes.retain(|(_, lane)| lane.strong_count() > 0);
        lanes.push((webhook_id, Rc::downgrade(&doing)));
        Pulse { doing, patience }
    }

    /// Both files are open and sound, the admin socket listens, and every webhook has its lane:
    /// `systemctl start` returns, and what is ordered after the daemon starts.
    pub(super) fn ready(&self) {
        self.send(&[NotifyState::Ready]);
        self.0.fed.set(Some(Instant::now()));
    }

    /// Both files are open and the admin socket listens, and more is not to come before somebody acts.
    pub(super) fn stands_still(&self) {
        self.ready();
        self.say(STANDS_STILL);
    }

    /// Something is in the way that may pass, so the start takes longer. To be called every second
    /// or so, until it is ready.
    pub(super) fn not_yet(&self, why: &str) {
        self.say(&why.replace('\n', "; "));
        let extended = u32::try_from(START_EXTENSION.as_micros()).unwrap_or(u32::MAX);
        self.send(&[NotifyState::ExtendTimeoutUsec(extended)]);
    }

    /// Feeds the watchdog, if all lanes come on. To be called every second or so, by whoever has just
    /// had answers of the queue's thread and the ledger.
    pub(super) fn alive(&self) {
        let Some(limit) = self.0.watchdog else { return };
        let now = Instant::now();
        let hangs = self.lanes().into_iter().find_map(|(webhook_id, doing)| {
            let due = doing.due()?;
            (due < now).then_some(webhook_id)
        });
        let hung = self.0.hangs.replace(hangs);
        match (hung, hangs) {
            (None, Some(WebhookId(lane))) => error!(
                lane,
                "a lane has not come on for {}; unless it does, systemd restarts the daemon",
                humantime::format_duration(limit / 2)
            ),
            (Some(_), None) => info!("all lanes come on again"),
            (None, None) | (Some(_), Some(_)) => {}
        }
        let long_ago = |fed: Instant| now - fed >= limit / 4;
        if hangs.is_none() && self.0.fed.get().is_none_or(long_ago) {
            self.send(&[NotifyState::Watchdog]);
            self.0.fed.set(Some(now));
        }
    }

    /// Says in words how the webhooks fare, every few seconds at most.
    pub(super) async fn tell_status(&self, shared: &Shared, webhooks: Vec<(WebhookName, Kept)>) {
        let now = Instant::now();
        let lately = |at: Instant| now - at < STATUS_GAP;
        if !self.0.heard || self.0.status_at.get().is_some_and(lately) {
            return;
        }
        self.0.status_at.set(Some(now));
        let mut fares = Vec::new();
        for (name, kept) in webhooks {
            // What goes wrong here goes wrong elsewhere as well, where it is told.
            let Ok(fare) = self.fare(shared, name, kept).await else {
                return;
            };
            fares.push(fare);
        }
        self.say(&words(&fares));
    }

    async fn fare(
        &self,
        shared: &Shared,
        name: WebhookName,
        kept: Kept,
    ) -> Result<Fare, store::Error> {
        let Kept::Lane(webhook_id) = kept else {
            let state = WebhookState::Held;
            return Ok(Fare::new(name, state, None));
        };
        let lane = shared.ledger.get().lane(webhook_id)?;
        let stand = (*shared.noticed.borrow(), lane.places);
        let known = self.0.waiting.borrow().get(&webhook_id).copied();
        let (waiting, or_more) = match known {
            Some((at, waiting)) if at == stand => waiting,
            _ => {
                let waiting = count(shared, webhook_id, lane.places).await?;
                let mut known = self.0.waiting.borrow_mut();
                known.insert(webhook_id, (stand, waiting));
                waiting
            }
        };
        let pending = lane
            .head
            .map_or(0, |head| head.payload.members.seqs().len());
        let doing = self.lanes().into_iter().find(|(id, _)| *id == webhook_id);
        let (state, until) = match doing {
            Some((_, Doing::Waits(wait))) => (wait.state, wait.until),
            Some((_, Doing::Works(_) | Doing::Requests(_))) | None => (WebhookState::Idle, None),
        };
        let until = until.map(|until| wall_time_of(until, shared.clock));
        Ok(Fare {
            waiting: waiting + pending as u64,
            or_more,
            ..Fare::new(name, state, until)
        })
    }

    /// No further request is started; those in flight may take as long as they are allowed to.
    pub(super) fn stopping(&self) {
        let now = Instant::now();
        let in_flight: Vec<Duration> = self
            .lanes()
            .into_iter()
            .filter_map(|(_, doing)| match doing {
                Doing::Requests(until) => Some(until.saturating_duration_since(now)),
                Doing::Works(_) | Doing::Waits(_) => None,
            })
            .collect();
        let status = match in_flight.len() {
            0 => "stopping".to_owned(),
            1 => "stopping: a request in flight may finish".to_owned(),
            requests => format!("stopping: {requests} requests in flight may finish"),
        };
        let longest = in_flight.into_iter().max().unwrap_or_default();
        let extended = u32::try_from((longest + RECORDING_MAX).as_micros()).unwrap_or(u32::MAX);
        self.send(&[
            NotifyState::Stopping,
            NotifyState::Status(&status),
            NotifyState::ExtendTimeoutUsec(extended),
        ]);
    }

    fn say(&self, status: &str) {
        if *self.0.status.borrow() != status {
            self.send(&[NotifyState::Status(status)]);
            status.clone_into(&mut self.0.status.borrow_mut());
        }
    }

    fn lanes(&self) -> Vec<(WebhookId, Doing)> {
        let lanes = self.0.lanes.borrow();
        let alive = lanes
            .iter()
            .filter_map(|(id, lane)| Some((*id, lane.upgrade()?.get())));
        alive.collect()
    }

    fn send(&self, states: &[NotifyState<'_>]) {
        if self.0.heard
            && let Err(error) = sd_notify::notify(states)
        {
            warn!("systemd can't be told how the daemon fares: {error}");
        }
    }
}

/// What counting depends on: the looks that found something, and how far the lane has come.
type Stand = (u64, PerType<Place>);

/// So many orders, and whether more than that.
type Waiting = (u64, bool);

/// Counts what waits for a lane. The orders themselves are read, which may be large.
async fn count(
    shared: &Shared,
    webhook_id: WebhookId,
    places: PerType<Place>,
) -> Result<Waiting, store::Error> {
    let selections = shared.ledger.get().selections(webhook_id)?;
    let count = move |queue: &mut Queue| {
        let (mut waiting, mut or_more) = (0, false);
        for order_type in OrderType::ALL {
            let cursor = places[order_type].cursor;
            let survey = queue.survey(order_type, cursor, &selections, WAITING_MAX)?;
            waiting += survey.waiting;
            or_more |= !survey.complete;
        }
        Ok((waiting, or_more))
    };
    shared.queue.call(count).await
}

/// How a lane shows that it comes on.
#[derive(Debug)]
pub(super) struct Pulse {
    doing: Rc<Cell<Doing>>,
    /// Nothing but a request takes longer.
    patience: Duration,
}

impl Pulse {
    /// It asks a store, or reckons.
    pub(super) fn works(&self) {
        self.doing.set(Doing::Works(self.until(Duration::ZERO)));
    }

    /// It sends a request, which may take so long.
    pub(super) fn requests(&self, timeout: Duration) {
        self.doing.set(Doing::Requests(self.until(timeout)));
    }

    /// It has nothing to do until then.
    pub(super) fn waits(&self, wait: Wait) {
        self.doing.set(Doing::Waits(wait));
    }

    fn until(&self, span: Duration) -> Instant {
        Instant::now() + span + self.patience
    }
}

/// What a lane is doing, and when it will have come further.
#[derive(Debug, Clone, Copy)]
enum Doing {
    Works(Instant),
    Requests(Instant),
    Waits(Wait),
}

impl Doing {
    const fn due(self) -> Option<Instant> {
        match self {
            Self::Works(due) | Self::Requests(due) => Some(due),
            Self::Waits(_) => None,
        }
    }
}

/// Whether a configured webhook has a lane.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kept {
    /// It has this one.
    Lane(WebhookId),
    /// It must say where it begins first (D27).
    Nowhere,
}

/// As patient as with a watchdog, where there is none.
const PATIENCE_UNWATCHED: Duration = Duration::from_mins(1);

/// The words are found this often, at most.
const STATUS_GAP: Duration = Duration::from_secs(5);

/// Orders of a type and webhook are counted so far, for a line that says how things stand.
const WAITING_MAX: u64 = 100;

/// Each time, the start may take so much longer.
const START_EXTENSION: Duration = Duration::from_secs(30);

/// What is said in a standstill (contract, section 2).
const STANDS_STILL: &str = "standing still: queue and ledger do not belong together, and nothing is sent until `orderfeed adopt-queue` says how to go on";

/// So many webhooks in trouble are named.
const NAMED_MAX: usize = 5;

/// What may pass at the end of a request in flight: the ledger's patience, and the queue's last mark.
const RECORDING_MAX: Duration = Duration::from_secs(15);

/// How one webhook fares.
#[derive(Debug)]
struct Fare {
    name: WebhookName,
    state: WebhookState,
    /// When it goes on by itself.
    until: Option<WallTime>,
    waiting: u64,
    /// Whether more than that wait.
    or_more: bool,
}

impl Fare {
    fn new(name: WebhookName, state: WebhookState, until: Option<WallTime>) -> Self {
        Self {
            name,
            state,
            until,
            waiting: 0,
            or_more: false,
        }
    }

    /// What a person should know of it, if anything.
    fn trouble(&self) -> Option<String> {
        let name = &self.name;
        let word = match self.state {
            WebhookState::Idle | WebhookState::Pacing => return None,
            WebhookState::Retrying => "",
            WebhookState::Held => "is held",
            WebhookState::Down => "is down",
            WebhookState::Deactivated => "is deactivated",
            WebhookState::Inactive => "is inactive",
            WebhookState::Paused => "is paused",
        };
        let retries = self
            .until
            .map(|until| format!("retries at {}", until.local(WallTime::now())));
        Some(match (word, retries) {
            (word, None) => format!("{name} {word}"),
            ("", Some(retries)) => format!("{name} {retries}"),
            (word, Some(retries)) => format!("{name} {word} and {retries}"),
        })
    }

    /// Whether it goes on without anybody doing something.
    fn delivers(&self) -> bool {
        match self.state {
            WebhookState::Idle
            | WebhookState::Pacing
            | WebhookState::Retrying
            | WebhookState::Down => true,
            WebhookState::Held => self.until.is_some(),
            WebhookState::Deactivated | WebhookState::Inactive | WebhookState::Paused => false,
        }
    }
}

/// One line for `systemctl status`. An order that two webhooks are to get counts twice.
fn words(fares: &[Fare]) -> String {
    if fares.is_empty() {
        return "no webhook is configured: orders queue up, and nothing is sent".to_owned();
    }
    let delivering = fares.iter().filter(|fare| fare.delivers()).count();
    let all = fares.len();
    let s = if all == 1 { "" } else { "s" };
    let mut words = if delivering == all {
        format!("delivering to {all} webhook{s}")
    } else {
        format!("delivering to {delivering} of {all} webhook{s}")
    };
    let waiting: u64 = fares.iter().map(|fare| fare.waiting).sum();
    let more = fares.iter().any(|fare| fare.or_more);
    let _infallible = match (waiting, more) {
        (0, false) => write!(words, ", no order waits"),
        (1, false) => write!(words, ", 1 order waits"),
        (waiting, false) => write!(words, ", {waiting} orders wait"),
        (waiting, true) => write!(words, ", more than {waiting} orders wait"),
    };
    let troubles: Vec<String> = fares.iter().filter_map(Fare::trouble).collect();
    for trouble in troubles.iter().take(NAMED_MAX) {
        words.push_str(", ");
        words.push_str(trouble);
    }
    if let Some(more) = troubles.len().checked_sub(NAMED_MAX + 1) {
        let _infallible = write!(words, ", and {} more", more + 1);
    }
    words
}

fn wall_time_of(at: Timestamp, clock: Clock) -> WallTime {
    WallTime(WallTime::now().0 + at.ms() - clock.now().ms())
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;

    fn fare(name: &str, state: WebhookState, waiting: u64) -> Fare {
        let name = name.parse().expect("a name");
        Fare {
            waiting,
            ..Fare::new(name, state, None)
        }
    }

    #[test]
    fn it_says_how_the_webhooks_fare() {
        let lines = [
            words(&[]),
            words(&[fare("erp", WebhookState::Idle, 0)]),
            words(&[fare("erp", WebhookState::Pacing, 1)]),
            words(&[
                fare("erp", WebhookState::Idle, 7),
                fare("shop", WebhookState::Inactive, 5),
                fare("wms", WebhookState::Deactivated, 0),
            ]),
            words(&[Fare {
                or_more: true,
                ..fare("erp", WebhookState::Held, 100)
            }]),
            words(
                &["a", "b", "c", "d", "e", "f", "g"].map(|name| fare(name, WebhookState::Held, 0)),
            ),
        ];
        assert_snapshot!(lines.join("\n"), @"
        no webhook is configured: orders queue up, and nothing is sent
        delivering to 1 webhook, no order waits
        delivering to 1 webhook, 1 order waits
        delivering to 1 of 3 webhooks, 12 orders wait, shop is inactive, wms is deactivated
        delivering to 0 of 1 webhook, more than 100 orders wait, erp is held
        delivering to 0 of 7 webhooks, no order waits, a is held, b is held, c is held, d is held, e is held, and 2 more
        ");
    }

    #[test]
    fn a_lane_that_does_not_come_on_starves_the_watchdog() {
        let notifier = Notifier(Rc::new(Inner {
            watchdog: Some(Duration::from_mins(1)),
            ..Inner::default()
        }));
        let is_fed = || {
            notifier.0.fed.set(None);
            notifier.alive();
            notifier.0.fed.get().is_some()
        };
        let pulse = notifier.pulse(WebhookId(1));
        let other = notifier.pulse(WebhookId(2));
        assert!(is_fed());
        let past = Instant::now().checked_sub(Duration::from_millis(1));
        other
            .doing
            .set(Doing::Works(past.expect("a machine that runs")));
        assert!(!is_fed());
        other.requests(Duration::from_mins(10));
        assert!(is_fed());
        other.waits(Wait {
            until: None,
            state: WebhookState::Idle,
        });
        assert!(is_fed());
        pulse
            .doing
            .set(Doing::Works(past.expect("a machine that runs")));
        assert!(!is_fed());
        drop(pulse);
        assert!(is_fed(), "a lane that is gone hangs");
    }

    #[test]
    fn it_says_when_a_webhook_goes_on() {
        let now = WallTime::now();
        let at = now.local(now);
        let later = |state| Fare {
            until: Some(now),
            ..fare("erp", state, 3)
        };
        let said = |state| words(&[later(state)]).replace(&at, "14:05:00");
        let lines = [
            WebhookState::Retrying,
            WebhookState::Down,
            WebhookState::Held,
        ]
        .map(said);
        assert_snapshot!(lines.join("\n"), @"
        delivering to 1 webhook, 3 orders wait, erp retries at 14:05:00
        delivering to 1 webhook, 3 orders wait, erp is down and retries at 14:05:00
        delivering to 1 webhook, 3 orders wait, erp is held and retries at 14:05:00
        ");
    }
}
