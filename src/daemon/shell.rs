//! The world of one lane: the stores, the clock, the sender, and what wakes it.
//!
//! Where the queue or the ledger refuses for a while (a full disk, a lock), this waits and tries
//! again, and the lane knows nothing of it; meanwhile it sends nothing.

use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{oneshot, watch};
use tokio::time::sleep;
use tracing::{error, info};

use super::ahead::{self, Ahead, AheadPick, Basis};
use super::lane::{Halt, Settings, Shell};
use super::notify::{Notifier, Pulse};
use super::superseded::Known;
use super::tell::Teller;
use crate::admin::api::Event;
use crate::admin::meters::{Meters, WebhookMeters};
use crate::clock::{self, Clock, WallTime};
use crate::failpoint;
use crate::feed::lane::{Lane, Place, Seal, Wait};
use crate::feed::order::{OrderType, PerType, Seq};
use crate::feed::payload::{Members, Payload, PayloadState};
use crate::feed::timestamp::Timestamp;
use crate::sender::{Report, Request, Sender};
use crate::store::ledger::errands::{ErrandChange, ErrandEnd, Heard, Superseded};
use crate::store::ledger::{Change, Commit, WebhookId};
use crate::store::queue::{Glance, Pick, Queue, Scan};
use crate::store::worker::{LedgerHandle, QueueHandle};
use crate::store::{self};

/// A store that refuses is asked again after this.
const STORE_RETRY_GAP: Duration = Duration::from_secs(1);

/// A stop waits so long for a store that refuses; an outcome that could not be recorded by
/// then counts as interrupted at the next start.
const STORE_PATIENCE_AT_STOP: Duration = Duration::from_secs(10);

/// Nobody sleeps longer in one go: timers stand still while the machine is suspended.
const SLEEP_MAX: Duration = Duration::from_secs(10);

/// What all lanes share.
#[derive(Clone, Debug)]
pub(super) struct Shared {
    /// Closed before the queue: were both closed at the same moment, each would take the other for
    /// one that stays, and the WAL would be left behind.
    pub(super) glance: Rc<Glance>,
    pub(super) queue: QueueHandle,
    pub(super) ledger: LedgerHandle,
    pub(super) clock: Clock,
    /// Counts the looks that found something, and changes of what webhooks subscribe to.
    pub(super) noticed: watch::Sender<u64>,
    /// Counts what operators asked for: that wakes the lanes.
    pub(super) asked: watch::Sender<u64>,
    /// Counts what became of it: that wakes whoever waits for that.
    pub(super) done: watch::Sender<u64>,
    /// Whether no further request is to be started, because the daemon ends.
    pub(super) stopping: watch::Receiver<bool>,
    /// Who reads what happens.
    pub(super) teller: Teller,
    /// Where it is counted.
    pub(super) meters: Meters,
    /// Whether the daemon was told to end: that counts at once, before it gets to it.
    pub(super) told_to_stop: watch::Receiver<bool>,
    /// What systemd is told.
    pub(super) notifier: Notifier,
}

impl Shared {
    /// Looks for what was committed to the queue, and wakes the lanes if there is anything.
    pub(super) async fn look(&self) -> Result<(), store::Error> {
        let clock = self.clock;
        let noticed = self.noticed.clone();
        let teller = self.teller.clone();
        self.queue
            .call(move |queue| {
                let newest = queue.newest_noticed();
                if queue.look(clock.now())? {
                    noticed.send_modify(|looks| *looks += 1);
                    let newest_seq = queue.newest_noticed();
                    if newest_seq > newest {
                        teller.tell(|at| Event::Orders {
                            at,
                            newest_seq: newest_seq.0,
                        });
                    }
                }
                Ok(())
            })
            .await
    }

    /// The same, and costs next to nothing where nobody committed since the last one.
    pub(super) async fn look_again(&self) -> Result<(), store::Error> {
        let glimpse = self.glance.glimpse();
        if self.glance.is_known(glimpse) {
            return Ok(());
        }
        self.look().await?;
        self.glance.remember(glimpse);
        Ok(())
    }

    /// The parked orders that are to be looked at again, or the first of them.
    fn parked(
        &self,
        webhook_id: WebhookId,
        order_type: OrderType,
        place: &Place,
    ) -> Result<Vec<Seq>, store::Error> {
        let Some(after) = place.unpark else {
            return Ok(Vec::new());
        };
        self.ledger
            .get()
            .parked_after(webhook_id, order_type, after, Queue::PARKED_MAX)
    }
}

/// The world of one lane.
pub(super) struct LaneShell {
    webhook_id: WebhookId,
    shared: Shared,
    gear: watch::Receiver<Option<Gear>>,
    noticed: watch::Receiver<u64>,
    asked: watch::Receiver<u64>,
    /// What of it the lane has heard of.
    heard: u64,
    stopping: watch::Receiver<bool>,
    pulse: Pulse,
    /// What goes with the settings that were last asked for; `None` before there were any.
    sender: Option<Arc<Sender>>,
    /// What is being read ahead.
    reading: Option<Reading>,
    /// What was.
    ahead: Option<Ahead>,
    /// So many payloads are read ahead next time: more while it serves, one after it was in vain.
    ahead_max: usize,
    /// The next payload's orders, if they were read ahead.
    next: Option<AheadPick>,
    /// The webhook's state as it was last told.
    told: Option<&'static str>,
    /// What was found of later versions, as far as it is still so.
    known: Known,
    /// Where it counts, by the name that it has.
    meters: Option<WebhookMeters>,
}

/// Something that is being read ahead.
struct Reading {
    /// By what, and for a lane that stands where.
    basis: Basis,
    places: PerType<Place>,
    answer: oneshot::Receiver<Result<Ahead, store::Error>>,
}

/// What a lane is given by the configuration, all of it at once.
#[derive(Clone, Debug)]
pub(super) struct Gear {
    pub(super) settings: Arc<Settings>,
    pub(super) sender: Arc<Sender>,
}

impl LaneShell {
    pub(super) fn new(
        webhook_id: WebhookId,
        shared: Shared,
        gear: watch::Receiver<Option<Gear>>,
    ) -> Self {
        // Its counters are there, and 0, before anything happens.
        let meters = gear
            .borrow()
            .as_ref()
            .map(|gear| shared.meters.of(gear.settings.name.as_str()));
        Self {
            webhook_id,
            noticed: shared.noticed.subscribe(),
            asked: shared.asked.subscribe(),
            heard: 0,
            stopping: shared.stopping.clone(),
            pulse: shared.notifier.pulse(webhook_id),
            shared,
            gear,
            sender: None,
            reading: None,
            ahead: None,
            ahead_max: 1,
            next: None,
            told: None,
            known: Known::default(),
            meters,
        }
    }

    /// The webhook's name; empty once it is no longer configured.
    fn name(&self) -> String {
        let gear = self.gear.borrow();
        gear.as_ref()
            .map_or_else(String::new, |gear| gear.settings.name.to_string())
    }

    /// Counts what was recorded, unless the webhook is no longer configured.
    fn count(&mut self, commit: &Commit) {
        let gear = self.gear.borrow();
        let Some(name) = gear.as_ref().map(|gear| &gear.settings.name) else {
            return;
        };
        let known = self.meters.take();
        let known = known.filter(|meters| meters.webhook() == name.as_str());
        let meters = known.unwrap_or_else(|| self.shared.meters.of(name.as_str()));
        meters.count(commit, self.shared.clock.now());
        self.meters = Some(meters);
    }

    fn tell_state(&mut self, state: &'static str) {
        let is_configured = self.gear.borrow().is_some();
        if is_configured && self.told.replace(state) != Some(state) {
            self.shared.teller.tell(|at| Event::Webhook {
                at,
                webhook: self.name(),
                state: state.to_owned(),
            });
        }
    }

    fn basis(&self, settings: &Arc<Settings>) -> Basis {
        Basis {
            noticed: *self.noticed.borrow(),
            settings: Arc::clone(settings),
        }
    }

    /// Has the queue's thread read what `lane` will ask for, as far as that is not done yet.
    fn read_ahead(&mut self, lane: &Lane, settings: &Arc<Settings>) {
        // With a pause before it, there is time enough then.
        if !settings.policy.payload_interval.is_zero() {
            return;
        }
        let basis = self.basis(settings);
        let reading = self.reading.take();
        match reading.map(|mut reading| (reading.answer.try_recv(), reading)) {
            Some((Ok(read), _)) => self.have_read(read),
            Some((Err(_not_yet), reading)) => self.reading = Some(reading),
            None => {}
        }
        let from = match (&self.ahead, &self.reading) {
            (Some(ahead), None) if ahead.serves(lane, &basis) => ahead.runs_short().cloned(),
            (Some(ahead), Some(_)) if ahead.serves(lane, &basis) => None,
            (_, Some(reading)) if (&reading.basis, reading.places) == (&basis, lane.places) => None,
            _ => {
                self.ahead = None;
                Some(lane.clone())
            }
        };
        if let Some(from) = from {
            self.begin_reading(from, basis);
        }
    }

    fn begin_reading(&mut self, lane: Lane, basis: Basis) {
        let (webhook_id, clock, places) = (self.webhook_id, self.shared.clock, lane.places);
        let (noticed, settings) = (self.shared.noticed.clone(), Arc::clone(&basis.settings));
        let payloads_max = self.ahead_max;
        let answer = self.shared.queue.begin(move |queue| {
            let noticed = *noticed.borrow();
            let basis = Basis { noticed, settings };
            Ahead::read(queue, webhook_id, lane, basis, payloads_max, clock.now())
        });
        // Where the queue's thread is gone, whoever needs it next says so.
        self.reading = answer.ok().map(|answer| Reading {
            basis,
            places,
            answer,
        });
    }

    /// Keeps what was read ahead; what went wrong is met again by whoever needs it.
    fn have_read(&mut self, read: Result<Ahead, store::Error>) {
        match (read, &mut self.ahead) {
            (Ok(read), Some(ahead)) => ahead.append(read),
            (Ok(read), ahead @ None) => *ahead = Some(read),
            (Err(_again), ahead) => *ahead = None,
        }
    }

    /// Asks the store until it does not refuse.
    async fn insist<T, F>(&mut self, ask: impl Fn(&Shared) -> F) -> Result<T, Halt>
    where
        F: Future<Output = Result<T, store::Error>>,
    {
        let mut refused = None;
        loop {
            self.pulse.works();
            match ask(&self.shared).await {
                Ok(value) => {
                    if refused.is_some() {
                        info!("the store is back, and all goes on");
                    }
                    return Ok(value);
                }
                Err(error) if error.is_lasting() => return Err(Halt::Store(error)),
                Err(error) => {
                    let now = self.now();
                    let (since, _refusal) = refused.get_or_insert_with(|| {
                        error!("{error}; nothing is sent until this is mended, and it is tried again every second");
                        (now, self.shared.meters.refuses(error.to_string()))
                    });
                    if self.stopping() && now - *since >= STORE_PATIENCE_AT_STOP {
                        return Err(Halt::Store(error));
                    }
                    sleep(STORE_RETRY_GAP).await;
                }
            }
        }
    }
}

impl Shell for LaneShell {
    fn now(&self) -> Timestamp {
        self.shared.clock.now()
    }

    fn wall(&self) -> WallTime {
        WallTime::now()
    }

    fn dice(&mut self) -> [u8; 10] {
        clock::dice()
    }

    fn settings(&mut self) -> Option<Arc<Settings>> {
        let Gear { settings, sender } = self.gear.borrow_and_update().clone()?;
        self.sender = Some(sender);
        Some(settings)
    }

    fn stopping(&self) -> bool {
        *self.stopping.borrow() || *self.shared.told_to_stop.borrow()
    }

    async fn load(&mut self) -> Result<Lane, Halt> {
        let webhook_id = self.webhook_id;
        self.insist(|shared| {
            let ledger = shared.ledger.clone();
            async move { ledger.get().lane(webhook_id) }
        })
        .await
    }

    async fn waiting(&mut self, lane: &Lane, settings: &Arc<Settings>) -> Result<Scan, Halt> {
        self.noticed.mark_unchanged();
        self.next = None;
        self.insist(|shared| {
            let shared = shared.clone();
            async move { shared.look_again().await }
        })
        .await?;
        let basis = self.basis(settings);
        let serves = |ahead: &Ahead| ahead.serves(lane, &basis);
        if !self.ahead.as_ref().is_some_and(serves)
            && let Some(reading) = self.reading.take()
            && let Ok(read) = reading.answer.await
        {
            self.have_read(read);
        }
        if let Some(ahead) = &mut self.ahead
            && let Some((scan, next)) = ahead.take(lane, &basis)
        {
            self.next = next;
            self.ahead_max = (self.ahead_max * 2).min(ahead::PAYLOADS_MAX);
            let from = ahead.runs_short().cloned();
            if let (Some(from), None) = (from, &self.reading) {
                self.begin_reading(from, basis);
            }
            return Ok(scan);
        }
        if self.ahead.take().is_some() {
            // Somebody commits all the while, and makes reading far ahead a waste.
            self.ahead_max = 1;
        }
        let webhook_id = self.webhook_id;
        let places = lane.places;
        self.insist(|shared| {
            let (shared, settings) = (shared.clone(), Arc::clone(settings));
            async move {
                let mut parked = PerType::default();
                for (order_type, place) in places.iter() {
                    parked[order_type] = shared.parked(webhook_id, order_type, place)?;
                }
                shared
                    .queue
                    .call(move |queue| {
                        queue.waiting(webhook_id, &places, &parked, &settings.policy)
                    })
                    .await
            }
        })
        .await
    }

    async fn pick(
        &mut self,
        seal: Seal,
        newest: Seq,
        lane: &Lane,
        settings: &Arc<Settings>,
    ) -> Result<Pick, Halt> {
        let webhook_id = self.webhook_id;
        let place = lane.places[seal.order_type];
        let basis = self.basis(settings);
        if let Some(next) = self.next.take()
            && let Some(pick) = next.take(seal, place, newest, &basis)
        {
            return Ok(pick);
        }
        self.insist(|shared| {
            let (shared, settings) = (shared.clone(), Arc::clone(settings));
            async move {
                let parked = shared.parked(webhook_id, seal.order_type, &place)?;
                shared
                    .queue
                    .call(move |queue| {
                        queue.pick(webhook_id, seal, place, &parked, newest, &settings.policy)
                    })
                    .await
            }
        })
        .await
    }

    async fn body(&mut self, payload: &Payload) -> Result<Result<Bytes, String>, Halt> {
        self.insist(|shared| {
            let (queue, payload) = (shared.queue.clone(), payload.clone());
            async move { queue.call(move |queue| queue.body(&payload)).await }
        })
        .await
    }

    async fn record(&mut self, commit: Commit) -> Result<(), Halt> {
        let point = match commit.changes.last() {
            Some(Change::Sealed { .. }) => "sealed",
            Some(Change::Begun(..)) => "begun",
            Some(Change::Withheld(..)) => "withheld",
            Some(Change::Settled { .. }) => "settled",
            Some(Change::Heeded(_) | Change::Discarded(..)) => "heeded",
            Some(Change::Errand(_, ErrandChange::Begun(_))) => "resend_begun",
            Some(Change::Errand(..)) => "resend_settled",
            None => "looked",
        };
        let is_asked_for =
            |change: &Change| matches!(change, Change::Heeded(_) | Change::Errand(..));
        let asked_for = commit.changes.iter().any(is_asked_for);
        self.insist(|shared| {
            let (ledger, commit) = (shared.ledger.clone(), commit.clone());
            async move { ledger.record(commit).await }
        })
        .await?;
        self.count(&commit);
        for change in &commit.changes {
            match change {
                Change::Settled {
                    payload_id,
                    state: PayloadState::Delivered,
                    ..
                }
                | Change::Errand(payload_id, ErrandChange::Settled(_, ErrandEnd::Delivered)) => {
                    self.known.delivered(*payload_id);
                }
                _ => {}
            }
        }
        let record_of = |id| self.shared.ledger.get().record_of(id).ok().flatten();
        self.shared
            .teller
            .tell_commit(&commit, || self.name(), record_of);
        if asked_for {
            self.shared.done.send_modify(|done| *done += 1);
        }
        failpoint::reach(point);
        Ok(())
    }

    async fn post(&mut self, settings: &Arc<Settings>, request: Request, next: &Lane) -> Report {
        self.tell_state("sending");
        self.read_ahead(next, settings);
        let sender = self.sender.clone();
        let sender = sender.expect("whoever has settings has been given the sender with them");
        self.pulse.requests(sender.timeout());
        let report = sender.post(request).await;
        self.pulse.works();
        failpoint::reach("answered");
        report
    }

    fn has_news(&self) -> bool {
        *self.asked.borrow() != self.heard
    }

    async fn hear(&mut self) -> Result<Heard, Halt> {
        let webhook_id = self.webhook_id;
        // Counted first: what is asked for while this reads is news again.
        self.heard = *self.asked.borrow();
        self.insist(|shared| {
            let ledger = shared.ledger.clone();
            async move { ledger.get().heard(webhook_id) }
        })
        .await
    }

    async fn encode(
        &mut self,
        payload: &Payload,
        members: &Members,
    ) -> Result<Result<Bytes, String>, Halt> {
        self.insist(|shared| {
            let (order_type, action) = (payload.order_type, payload.action.clone());
            let (queue, members) = (shared.queue.clone(), members.clone());
            let encode = move |queue: &mut Queue| queue.encode(order_type, &action, &members);
            async move { queue.call(encode).await }
        })
        .await
    }

    async fn superseded(
        &mut self,
        lane: &Lane,
        payload: &Payload,
    ) -> Result<Vec<Superseded>, Halt> {
        let webhook_id = self.webhook_id;
        let newest = lane.places[payload.order_type].cursor;
        let before = std::mem::take(&mut self.known);
        let found = self.insist(|shared| {
            let (shared, payload) = (shared.clone(), payload.clone());
            let mut known = before.clone();
            async move {
                let asked = known.superseded(&shared, webhook_id, &payload, newest);
                let superseded = asked.await?;
                Ok((known, superseded))
            }
        });
        let (known, superseded) = found.await?;
        self.known = known;
        Ok(superseded)
    }

    async fn wait(&mut self, wait: Wait) -> Result<(), Halt> {
        let heard = self.heard;
        let span = match wait.until {
            Some(until) => (until - self.now()).min(SLEEP_MAX),
            None => Duration::MAX,
        };
        (self.reading, self.ahead) = (None, None);
        self.tell_state(wait.state.as_str());
        self.pulse.waits(wait);
        // Where a sender is gone the daemon is ending, and `stopping` says so.
        tokio::select! {
            _ = self.gear.changed() => {}
            _ = self.noticed.changed() => {}
            _ = self.asked.wait_for(|asked| *asked != heard) => {}
            _ = self.stopping.changed() => {}
            () = sleep(span) => {}
        }
        self.pulse.works();
        Ok(())
    }
}

impl fmt::Debug for LaneShell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LaneShell")
            .field("webhook_id", &self.webhook_id)
            .finish_non_exhaustive()
    }
}
