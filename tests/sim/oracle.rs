//! The oracle: what must hold, worked out from the contract alone.
//!
//! It knows every order that was committed, what was noticed of it and when, what every
//! configuration said, and every request and answer. From these it works out what each webhook
//! may do, and fails the run where the lane does otherwise. It keeps no cursors and shares no
//! code with what it judges: an order waits, for it, if it belongs to the webhook, is selected,
//! and is in no payload.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use orderfeed::clock::WallTime;
use orderfeed::feed::errand::{Older, Told};
use orderfeed::feed::lane::{Seal, Wait};
use orderfeed::feed::order::{OrderType, Seq};
use orderfeed::feed::outcome::Outcome;
use orderfeed::feed::payload::{Payload, PayloadId, PayloadState};
use orderfeed::feed::policy::{Policy, RetryAttempts, Sequence};
use orderfeed::feed::timestamp::Timestamp;
use orderfeed::feed::webhook::WebhookName;
use orderfeed::sender::Request;
use orderfeed::store::ledger::configure::{Registered, Start};
use orderfeed::store::ledger::errands::{ErrandChange, ErrandEnd};
use orderfeed::store::ledger::{Attempt, AttemptOutcome, Change, Commit, WebhookId};
use orderfeed::store::queue::Pick;

use crate::administrator::{Hook, Select, rules};
use crate::clock::Clocks;
use crate::producer::{Extent, Producers, SimOrder};
use crate::pruner::RETENTION;

/// How often what happened: a simulation in which nothing goes wrong proves nothing.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stats {
    pub(crate) counts: BTreeMap<&'static str, u64>,
}

impl Stats {
    pub(crate) fn count(&mut self, what: &'static str) {
        self.add(what, 1);
    }

    pub(crate) fn add(&mut self, what: &'static str, times: u64) {
        *self.counts.entry(what).or_default() += times;
    }
}

/// D19: so many interruptions in a row hold the webhook.
const INTERRUPTIONS_MAX: u32 = 3;

#[derive(Debug, Default)]
pub(crate) struct Oracle {
    pub(crate) stats: Stats,
    hooks: BTreeMap<WebhookId, Model>,
    by_name: BTreeMap<String, WebhookId>,
    /// Those that the configuration has.
    present: Vec<WebhookId>,
    pub(crate) payloads: BTreeMap<PayloadId, Sent>,
    noticed: Extent,
    /// When each order was noticed by the daemon that runs, by its place in the queue.
    noticed_at: Vec<Timestamp>,
    /// When it was first noticed by any.
    first_noticed_at: Vec<Timestamp>,
    clock: LedgerClock,
}

/// What the oracle saw of the ledger's clock when the ledger was last opened.
#[derive(Debug, Default)]
struct LedgerClock {
    boot_id: String,
    /// How far it was ahead of true time.
    ahead_ms: i64,
    wall: Option<(WallTime, i64)>,
}

/// A payload that was sealed.
#[derive(Debug)]
pub(crate) struct Sent {
    pub(crate) webhook_id: WebhookId,
    pub(crate) state: PayloadState,
    pub(crate) numbers: Vec<i64>,
    pub(crate) posts: u32,
    seqs: Vec<i64>,
    resend_of: Option<PayloadId>,
    /// Requests begun with its id.
    requests: u32,
}

impl Sent {
    /// Whether the ledger need not know it any more, which has pruned orders up to this one.
    pub(crate) fn is_pruned(&self, up_to: Seq) -> bool {
        self.seqs.iter().all(|&seq| seq <= up_to.0)
    }
}

/// What the oracle knows of a webhook.
#[derive(Debug, Default)]
struct Model {
    /// Orders after this one may be its own (D27).
    start_after: i64,
    /// Since when, at the latest, the configuration does not have it.
    absent_since: Option<Timestamp>,
    /// Its place was given up: it was removed long ago (D27).
    forgotten: bool,
    /// From which seq on which selection was in force (D25).
    epochs: Vec<(i64, Select)>,
    /// Each of its orders that is in a payload.
    carried: BTreeMap<i64, PayloadId>,
    parked: Vec<i64>,
    /// Parts and copies, which carry orders a second time (D22).
    copies: Vec<PayloadId>,
    /// What it was told and is yet to heed.
    told: Vec<Told>,
    /// Where it stands, if what is unrecorded is recorded.
    course: Course,
    unrecorded: Option<Unrecorded>,
    /// When its last request ended, in true time.
    ended_ms: Option<i64>,
    /// So much the ledger's clock jumped ahead since then: over a reboot, only the wall clock
    /// tells how long it took.
    forgiven_ms: i64,
    /// Payloads sealed; and of each type, which of them was the last (D2, `rotate`).
    seals: u64,
    turns: [u64; 3],
    /// What was noticed when it last looked for what waits.
    seen: Extent,
    /// What it must seal next, as it was decided.
    due_members: Option<(OrderType, Vec<i64>)>,
}

/// Where a webhook stands.
#[derive(Debug, Clone, Default)]
struct Course {
    head: Option<HeadModel>,
    health: Health,
    failing_since: Option<Timestamp>,
    /// When its last request ended, on the ledger's clock.
    ended: Option<Timestamp>,
    /// By an operator (D24).
    paused: bool,
    /// What is to be resent.
    errands: BTreeMap<PayloadId, ErrandModel>,
}

/// A resend that is not done.
#[derive(Debug, Clone)]
struct ErrandModel {
    requests: u32,
    counted: u32,
    interruptions: u32,
    /// Not before this; `None`: not before somebody says so.
    due: Option<Timestamp>,
    older: Older,
    in_flight: bool,
    attempt: AttemptModel,
}

/// At once.
const NOW: Option<Timestamp> = Some(Timestamp::from_ms(0));

/// What came of an attempt, and must be recorded next; a crash before that forgets it.
#[derive(Debug)]
struct Unrecorded {
    payload_id: PayloadId,
    number: u32,
    outcome: AttemptOutcome,
    state: PayloadState,
    before: Course,
}

#[derive(Debug, Clone)]
struct HeadModel {
    id: PayloadId,
    event: String,
    body: String,
    requests: u32,
    counted: u32,
    interruptions: u32,
    wait: Duration,
    /// Whether the ledger says that an attempt was begun.
    in_flight: bool,
    attempt: AttemptModel,
}

#[derive(Debug, Clone, PartialEq)]
enum AttemptModel {
    NotMade,
    UnderWay,
    Ended,
    CutOff,
}

/// What the contract makes of an answer.
#[derive(Debug, Clone, PartialEq)]
struct Judged {
    state: PayloadState,
    outcome: AttemptOutcome,
    counted: bool,
    wait: Duration,
    health: Health,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Health {
    #[default]
    Up,
    Down,
    /// Held by `hold_on`: it is tried.
    Held,
    /// Held by three interruptions: it is not.
    Interrupted,
    Deactivated,
}

impl Health {
    const fn sends(self) -> bool {
        matches!(self, Self::Up | Self::Down | Self::Held)
    }
}

impl Course {
    /// Another request than the head's ended: that paces, and puts off no retry (D4, D21).
    fn ran(&mut self, now: Timestamp) {
        if let (Some(head), Some(ended)) = (&mut self.head, self.ended) {
            head.wait = (ended + head.wait) - now;
        }
        self.ended = Some(now);
    }
}

impl Model {
    /// D25 to D27: whether the order is the webhook's, by what was in force when it was queued.
    fn owns(&self, seq: i64, order: &SimOrder) -> bool {
        let in_force = self.epochs.iter().rev().find(|(from, _)| *from <= seq);
        seq > self.start_after
            && !order.broken
            && in_force.is_some_and(|(_, select)| select.selects(order))
    }

    /// The seqs of what waits: the webhook's own, selected now, in no payload, not taken back.
    fn waiting(&self, select: &Select, noticed: Extent, producers: &Producers) -> Vec<i64> {
        let orders = &producers.orders()[..noticed.orders];
        (1..)
            .zip(orders)
            .filter(|(seq, order)| {
                self.owns(*seq, order)
                    && select.selects(order)
                    && !self.carried.contains_key(&order.number)
                    && !producers.is_withdrawn(*seq, noticed)
            })
            .map(|(seq, _)| seq)
            .collect()
    }
}

fn order_of(producers: &Producers, seq: i64) -> &SimOrder {
    producers.order(Seq(seq)).expect("an order of the queue")
}

/// The contract's section 4, written down anew.
fn body_of(orders: &[&SimOrder]) -> (String, String) {
    let first = orders[0];
    let event = format!("{}.{}", first.order_type, first.action);
    let data_type = match first.action {
        "submit" => first.order_type.to_string(),
        _ => event.clone(),
    };
    let bodies: Vec<&str> = orders.iter().map(|order| order.body.as_str()).collect();
    let body = format!(
        "{{\"DataType\":\"{data_type}\",\"Data\":[{}]}}",
        bodies.join(",")
    );
    (event, body)
}

/// D1: as many of these as fit into one payload: of the first one's type and action, until one
/// does not fit.
fn fill(waiting: &[i64], policy: &Policy, producers: &Producers) -> Vec<i64> {
    let mut taken: Vec<i64> = Vec::new();
    let mut orders: Vec<&SimOrder> = Vec::new();
    for &seq in waiting {
        let order = order_of(producers, seq);
        orders.push(order);
        let fits = orders.len() == 1
            || (orders.len() <= policy.payload_max_items
                && order.action == orders[0].action
                && body_of(&orders).1.len() <= policy.payload_max_bytes);
        if !fits {
            break;
        }
        taken.push(seq);
    }
    taken
}

impl Oracle {
    fn model(&mut self, webhook_id: WebhookId) -> &mut Model {
        self.hooks
            .get_mut(&webhook_id)
            .expect("a registered webhook")
    }

    // The daemon's life.

    /// The ledger was opened, and its clock set: it is exact within a boot; over a reboot it goes
    /// by the wall clock, and never back (D4).
    pub(crate) fn opened(&mut self, now: Timestamp, clocks: &Clocks) {
        let reading = clocks.reading();
        let ahead_ms = now.ms() - clocks.true_ms();
        if let Some((wall, true_ms)) = self.clock.wall {
            let gained_ms = ahead_ms - self.clock.ahead_ms;
            if reading.boot_id == self.clock.boot_id {
                assert_eq!(
                    gained_ms, 0,
                    "D4: the ledger's clock is steady within a boot"
                );
            } else if gained_ms > 0 {
                let wrong_ms = (reading.wall.0 - wall.0) - (clocks.true_ms() - true_ms);
                assert!(
                    gained_ms <= wrong_ms.max(0),
                    "D4: the ledger's clock gained {gained_ms} ms over a reboot, and the wall clock {wrong_ms} ms"
                );
                self.stats.count("clock jumped ahead over a reboot");
                for model in self.hooks.values_mut() {
                    model.forgiven_ms += gained_ms;
                }
            }
        }
        self.clock = LedgerClock {
            boot_id: reading.boot_id,
            ahead_ms,
            wall: Some((reading.wall, clocks.true_ms())),
        };
        self.noticed = Extent::default();
        self.noticed_at.clear();
    }

    /// The daemon looked, and this is what the queue held.
    pub(crate) fn noticed(&mut self, extent: Extent, now: Timestamp) {
        self.noticed = extent;
        self.noticed_at.resize(extent.orders, now);
        if self.first_noticed_at.len() < extent.orders {
            self.first_noticed_at.resize(extent.orders, now);
        }
    }

    pub(crate) const fn has_noticed(&self) -> Extent {
        self.noticed
    }

    /// The webhook's lane was loaded: an attempt that a crash cut off is interrupted, its outcome
    /// unknown, and not counted; the third in a row holds the webhook (D19).
    pub(crate) fn begins(&mut self, webhook_id: WebhookId, now: Timestamp) {
        let model = self.model(webhook_id);
        let before = model.course.clone();
        let errands = model.course.errands.iter_mut();
        for (id, errand) in errands.filter(|(_, errand)| errand.in_flight) {
            errand.in_flight = false;
            errand.interruptions += 1;
            errand.due = NOW.filter(|_| errand.interruptions < INTERRUPTIONS_MAX);
            if errand.due.is_none() && model.course.health.sends() {
                model.course.health = Health::Interrupted;
            }
            model.unrecorded = Some(Unrecorded {
                payload_id: *id,
                number: errand.requests,
                outcome: AttemptOutcome::Interrupted,
                state: PayloadState::Pending,
                before: before.clone(),
            });
        }
        if model.unrecorded.is_some() {
            return model.course.ran(now);
        }
        let Some(head) = model.course.head.as_mut().filter(|head| head.in_flight) else {
            return;
        };
        head.in_flight = false;
        head.attempt = AttemptModel::Ended;
        head.interruptions += 1;
        head.wait = Duration::ZERO;
        model.unrecorded = Some(Unrecorded {
            payload_id: head.id,
            number: head.requests,
            outcome: AttemptOutcome::Interrupted,
            state: PayloadState::Pending,
            before,
        });
        if head.interruptions >= INTERRUPTIONS_MAX {
            let id = head.id;
            if model.course.health.sends() {
                model.course.health = Health::Interrupted;
            }
            if model.course.health == Health::Interrupted {
                model.course.errands.remove(&id);
            }
        }
        // It was over by now; when, nobody knows.
        model.course.ended = Some(now);
    }

    /// The daemon was cut off by a crash.
    pub(crate) fn cut_off(&mut self, true_ms: i64) {
        for model in self.hooks.values_mut() {
            if let Some(unrecorded) = model.unrecorded.take() {
                self.stats.count("cut off before the outcome was recorded");
                model.course = unrecorded.before;
            }
            let head = model.course.head.iter_mut();
            let head = head
                .filter(|head| head.in_flight)
                .map(|head| &mut head.attempt);
            let errands = model.course.errands.values_mut();
            let errands = errands
                .filter(|errand| errand.in_flight)
                .map(|errand| &mut errand.attempt);
            for attempt in head.chain(errands) {
                if *attempt == AttemptModel::UnderWay {
                    model.ended_ms = Some(true_ms);
                    model.forgiven_ms = 0;
                    self.stats.count("cut off in flight");
                }
                *attempt = AttemptModel::CutOff;
            }
        }
    }

    /// The daemon ended by itself: nothing is left in flight, nothing unrecorded.
    pub(crate) fn stopped(&self, lanes: impl Iterator<Item = WebhookId>) {
        for webhook_id in lanes {
            let model = &self.hooks[&webhook_id];
            let in_flight = model
                .course
                .head
                .as_ref()
                .is_some_and(|head| head.in_flight)
                || model.course.errands.values().any(|errand| errand.in_flight);
            assert!(
                !in_flight && model.unrecorded.is_none(),
                "a stop left a request of {webhook_id:?} unsettled"
            );
        }
    }

    /// D18: what a power cut took was built on by nobody.
    pub(crate) fn lost(&mut self, lost: &[SimOrder]) {
        if !lost.is_empty() {
            self.stats.count("power cut lost orders");
        }
        for order in lost {
            for model in self.hooks.values() {
                assert!(
                    !model.carried.contains_key(&order.number),
                    "D18: order {} is in a payload, and was not safe from a power cut",
                    order.number
                );
            }
        }
    }

    // Pruning.

    /// An order is gone from the queue: nobody needed it any more.
    pub(crate) fn pruned(
        &mut self,
        seq: i64,
        set_aside: bool,
        now: Timestamp,
        producers: &Producers,
    ) {
        self.stats.count("pruned orders");
        let order = order_of(producers, seq);
        let place = usize::try_from(seq - 1).expect("a place");
        let noticed = self.first_noticed_at[place];
        assert!(
            now - noticed >= RETENTION,
            "order {seq} is pruned {:?} after it was noticed",
            now - noticed
        );
        let withdrawn = producers.is_withdrawn(seq, producers.extent());
        assert!(
            withdrawn || !set_aside,
            "order {seq} was set aside, and is pruned"
        );
        for (webhook_id, model) in self.hooks.iter().filter(|(_, model)| !model.forgotten) {
            assert!(
                model.carried.contains_key(&order.number) || withdrawn || !model.owns(seq, order),
                "D18: order {seq} is pruned, and was never sent to {webhook_id:?}"
            );
        }
        for (id, sent) in self
            .payloads
            .iter()
            .filter(|(_, sent)| sent.seqs.contains(&seq))
        {
            if self.hooks[&sent.webhook_id].forgotten {
                continue;
            }
            assert!(
                matches!(
                    sent.state,
                    PayloadState::Delivered | PayloadState::Discarded
                ),
                "D11: order {seq} is pruned, and {id} is {:?}",
                sent.state
            );
            assert!(
                now - id.made_at() >= RETENTION,
                "order {seq} of {id} is pruned early"
            );
            let errands = &self.hooks[&sent.webhook_id].course.errands;
            assert!(
                !errands.contains_key(id),
                "D20: order {seq} is pruned, and {id} is to be resent"
            );
        }
    }

    /// These webhooks still have a place in the ledger.
    pub(crate) fn remain(&mut self, known: impl Iterator<Item = WebhookId>, now: Timestamp) {
        let known: Vec<WebhookId> = known.collect();
        for (webhook_id, model) in &mut self.hooks {
            if model.forgotten || known.contains(webhook_id) {
                continue;
            }
            let absent = model.absent_since.map(|since| now - since);
            assert!(
                absent.is_some_and(|absent| absent >= RETENTION),
                "D27: {webhook_id:?} lost its place, absent for {absent:?}"
            );
            let failed =
                |sent: &&Sent| sent.webhook_id == *webhook_id && sent.state == PayloadState::Failed;
            assert!(
                model.course.head.is_none()
                    && model.course.errands.is_empty()
                    && !self.payloads.values().any(|sent| failed(&sent)),
                "D11: {webhook_id:?} lost its place with a payload that is not done"
            );
            model.forgotten = true;
            self.by_name.retain(|_, id| id != webhook_id);
            self.stats.count("webhooks forgotten");
        }
    }

    // What operators ask for.

    pub(crate) fn told(&mut self, webhook_id: WebhookId, told: Told) {
        self.model(webhook_id).told.push(told);
    }

    /// The lane did as it was told, which it was in this order.
    fn heeded(&mut self, webhook_id: WebhookId, heeded: &Told) {
        self.assert_recorded(webhook_id);
        let model = self.model(webhook_id);
        assert_eq!(model.told.first(), Some(heeded), "what it was told first");
        model.told.remove(0);
        let course = &mut model.course;
        let in_flight = course.head.as_ref().is_some_and(|head| head.in_flight);
        assert!(!in_flight, "nothing is heeded while a request is in flight");
        match heeded {
            Told::Pause { .. } => {
                course.paused = true;
                self.stats.count("paused");
            }
            Told::Discard { .. } => {}
            Told::Resume | Told::RetryNow => {
                if let Some(head) = &mut course.head {
                    head.interruptions = 0;
                    head.wait = Duration::ZERO;
                }
                let is_resumed = *heeded == Told::Resume;
                for errand in course.errands.values_mut() {
                    if errand.due.is_none() || !is_resumed {
                        errand.interruptions = if errand.due == NOW {
                            errand.interruptions
                        } else {
                            0
                        };
                        errand.due = NOW;
                    }
                }
                if is_resumed {
                    course.paused = false;
                    course.failing_since = None;
                }
                if is_resumed || course.health == Health::Interrupted {
                    course.health = Health::Up;
                }
                self.stats.count("resumed");
            }
        }
    }

    /// A payload that no lane is busy with was given up.
    pub(crate) fn discarded(&mut self, webhook_id: WebhookId, payload_id: PayloadId) {
        self.stats.count("discarded");
        let model = self.model(webhook_id);
        model.course.errands.remove(&payload_id);
        if let Some(unrecorded) = &mut model.unrecorded {
            unrecorded.before.errands.remove(&payload_id);
        }
        self.sent(payload_id).state = PayloadState::Discarded;
    }

    fn sent(&mut self, payload_id: PayloadId) -> &mut Sent {
        self.payloads.get_mut(&payload_id).expect("a payload")
    }

    /// D22: a part or a copy was made.
    pub(crate) fn copied(
        &mut self,
        webhook_id: WebhookId,
        payload_id: PayloadId,
        resend_of: PayloadId,
        seqs: &[i64],
        producers: &Producers,
    ) {
        let numbers = seqs.iter().map(|&seq| order_of(producers, seq).number);
        let sent = Sent {
            webhook_id,
            state: PayloadState::Pending,
            numbers: numbers.collect(),
            posts: 0,
            seqs: seqs.to_vec(),
            resend_of: Some(resend_of),
            requests: 0,
        };
        self.payloads.insert(payload_id, sent);
        self.model(webhook_id).copies.push(payload_id);
        self.stats.count("parts and copies");
    }

    /// D20: a resend was accepted; of one that waits already there is no second.
    pub(crate) fn accepts_resend(
        &mut self,
        webhook_id: WebhookId,
        payload_id: PayloadId,
        older: Older,
        is_head: bool,
    ) {
        self.stats.count("resends");
        if is_head {
            self.stats.count("resends of what is pending");
        }
        let errand = ErrandModel {
            requests: self.sent(payload_id).requests,
            counted: 0,
            interruptions: 0,
            due: NOW,
            older,
            in_flight: false,
            attempt: AttemptModel::NotMade,
        };
        let model = self.model(webhook_id);
        let before = model
            .unrecorded
            .as_mut()
            .map(|unrecorded| &mut unrecorded.before);
        for course in before.into_iter().chain([&mut model.course]) {
            let known = course
                .errands
                .entry(payload_id)
                .or_insert_with(|| errand.clone());
            known.due = NOW;
            known.interruptions = 0;
            known.older = known.older.max(older);
        }
    }

    /// D23: whether a later version of one of these orders was delivered to the webhook, apart from
    /// those among them.
    pub(crate) fn is_superseded(
        &self,
        webhook_id: WebhookId,
        seqs: &[i64],
        producers: &Producers,
    ) -> bool {
        self.up_to_date(webhook_id, seqs, producers).len() < seqs.len()
    }

    /// The others.
    fn up_to_date(&self, webhook_id: WebhookId, seqs: &[i64], producers: &Producers) -> Vec<i64> {
        let version = |seq: i64| {
            let order = order_of(producers, seq);
            (order.order_type, order.tracking)
        };
        let delivered = self
            .payloads
            .values()
            .filter(|sent| sent.webhook_id == webhook_id && sent.state == PayloadState::Delivered);
        let delivered: Vec<i64> = delivered.flat_map(|sent| sent.seqs.clone()).collect();
        let is_up_to_date = |seq: &i64| {
            let overwrites = |later: &i64| {
                later > seq && !seqs.contains(later) && version(*later) == version(*seq)
            };
            !delivered.iter().any(overwrites)
        };
        seqs.iter().copied().filter(is_up_to_date).collect()
    }

    /// D21: what an operator asked for goes before anything else.
    fn assert_nothing_asked(&self, webhook_id: WebhookId) {
        let errands = &self.hooks[&webhook_id].course.errands;
        let first = errands.iter().find(|(_, errand)| errand.due == NOW);
        assert!(first.is_none(), "D21: a resend goes first: {first:?}");
    }

    fn errand(
        &mut self,
        webhook_id: WebhookId,
        payload_id: PayloadId,
        change: &ErrandChange,
        stopping: bool,
        now: Timestamp,
        producers: &Producers,
    ) {
        match change {
            ErrandChange::Begun(requests) => {
                self.assert_recorded(webhook_id);
                self.assert_sendable(webhook_id, payload_id, producers);
                let stands_still = self.stands_still(webhook_id);
                let course = &mut self.model(webhook_id).course;
                let head = course.head.as_ref();
                assert!(
                    head.is_none_or(|head| !head.in_flight && head.id != payload_id),
                    "D4, D20: {head:?}"
                );
                let errand = course.errands.get_mut(&payload_id);
                let errand = errand.expect("D20: nobody asked for it");
                assert!(
                    errand.due.is_some_and(|due| due <= now),
                    "D9: before its time: {errand:?}"
                );
                assert!(!errand.in_flight, "D19: begun twice");
                assert_eq!(*requests, errand.requests + 1, "attempts are counted");
                errand.requests = *requests;
                errand.in_flight = true;
                errand.attempt = AttemptModel::NotMade;
                self.sent(payload_id).requests = *requests;
                if stands_still {
                    self.stats.count("resends while it stands still");
                }
            }
            ErrandChange::Withheld(requests) => {
                assert!(stopping, "nothing is withheld but at a stop");
                let errands = &mut self.model(webhook_id).course.errands;
                let errand = errands.get_mut(&payload_id).expect("an errand");
                assert_eq!(errand.attempt, AttemptModel::NotMade, "it was made");
                errand.requests -= 1;
                errand.in_flight = false;
                assert_eq!(*requests, errand.requests, "attempts are counted");
                self.sent(payload_id).requests = *requests;
            }
            ErrandChange::Settled(attempt, end) => {
                let model = self.model(webhook_id);
                let Some(due) = model.unrecorded.take() else {
                    panic!("a resend is settled that has not ended: {attempt:?}");
                };
                let state = match end {
                    ErrandEnd::Delivered => PayloadState::Delivered,
                    ErrandEnd::Again(..) => PayloadState::Pending,
                    ErrandEnd::Failed(_) => PayloadState::Failed,
                };
                assert_eq!(
                    (payload_id, attempt.number, attempt.outcome, state),
                    (due.payload_id, due.number, due.outcome, due.state),
                    "D7, D9, D19, D21: what came of a resend"
                );
                if let ErrandEnd::Again(again, _) = end {
                    let known = &model.course.errands[&payload_id];
                    assert_eq!(
                        (again.due, again.counted, again.interruptions),
                        (known.due, known.counted, known.interruptions),
                        "D9, D19, D21: when a resend goes again"
                    );
                }
                self.resend_ended(payload_id, state);
                if state == PayloadState::Delivered {
                    self.settle_family(webhook_id, payload_id);
                }
                self.stats.count(match (state, attempt.outcome) {
                    (_, AttemptOutcome::Interrupted) => "resends interrupted",
                    (PayloadState::Delivered, _) => "resends taken",
                    (PayloadState::Failed, _) => "resends in vain",
                    _ => "resends to be retried",
                });
            }
            // That of the head: it was made, or held.
            ErrandChange::Dropped(None) => {
                let known = self
                    .model(webhook_id)
                    .course
                    .errands
                    .contains_key(&payload_id);
                let is_head = self.hooks[&webhook_id].course.head.as_ref();
                if known && is_head.is_some_and(|head| head.id == payload_id) {
                    // Superseded: it goes on as its lane's own payload.
                    self.drop_superseded(webhook_id, payload_id, producers);
                } else {
                    assert!(!known, "D20: a resend is forgotten");
                }
            }
            ErrandChange::Dropped(Some(_)) => {
                self.drop_superseded(webhook_id, payload_id, producers);
                self.resend_ended(payload_id, PayloadState::Failed);
            }
            ErrandChange::Reduced(payload) => {
                let left = self.assert_leaves_out(webhook_id, payload_id, payload, producers);
                let numbers = left.iter().map(|&seq| order_of(producers, seq).number);
                let numbers = numbers.collect();
                let sent = self.sent(payload_id);
                assert_eq!((sent.posts, sent.requests), (0, 0), "D22: other bytes");
                (sent.seqs, sent.numbers) = (left, numbers);
                self.stats
                    .count("never sent, and goes without older versions");
            }
            ErrandChange::Parted(part, _) => {
                let left = self.assert_leaves_out(webhook_id, payload_id, part, producers);
                self.model(webhook_id).course.errands.remove(&payload_id);
                self.resend_ended(payload_id, PayloadState::Failed);
                self.copied(webhook_id, part.id, payload_id, &left, producers);
                self.accepts_resend(webhook_id, part.id, Older::LeftOut, false);
                self.stats.count("a part goes without older versions");
            }
        }
    }

    fn drop_superseded(
        &mut self,
        webhook_id: WebhookId,
        payload_id: PayloadId,
        producers: &Producers,
    ) {
        let seqs = self.payloads[&payload_id].seqs.clone();
        let superseded = self.is_superseded(webhook_id, &seqs, producers);
        let errand = self.model(webhook_id).course.errands.remove(&payload_id);
        let errand = errand.expect("an errand");
        assert!(
            superseded && errand.older != Older::Sent,
            "D23: dropped for nothing"
        );
        let is_head = self.hooks[&webhook_id].course.head.as_ref();
        let is_head = is_head.is_some_and(|head| head.id == payload_id);
        let left = self.up_to_date(webhook_id, &seqs, producers);
        assert!(
            errand.older == Older::Refused || is_head || left.is_empty(),
            "D23: {left:?} could go"
        );
        self.stats.count("superseded when about to be sent");
    }

    /// D23: it goes on with those of its orders that overwrite nothing, as somebody wanted; which
    /// these are.
    fn assert_leaves_out(
        &mut self,
        webhook_id: WebhookId,
        payload_id: PayloadId,
        others: &Payload,
        producers: &Producers,
    ) -> Vec<i64> {
        let errand = &self.hooks[&webhook_id].course.errands[&payload_id];
        assert_eq!(errand.older, Older::LeftOut, "D23: nobody wanted that");
        let seqs = &self.payloads[&payload_id].seqs;
        let left = self.up_to_date(webhook_id, seqs, producers);
        assert!(left.len() < seqs.len(), "D23: nothing is to be left out");
        let others: Vec<i64> = others.members.seqs().iter().map(|seq| seq.0).collect();
        assert_eq!(others, left, "D23: what goes on");
        left
    }

    /// D23, when about to be sent.
    fn assert_sendable(&self, webhook_id: WebhookId, payload_id: PayloadId, producers: &Producers) {
        let Some(errand) = self.hooks[&webhook_id].course.errands.get(&payload_id) else {
            return;
        };
        let seqs = &self.payloads[&payload_id].seqs;
        assert!(
            errand.older == Older::Sent || !self.is_superseded(webhook_id, seqs, producers),
            "D23: {payload_id} overwrites what was delivered since"
        );
    }

    /// D11: what failed is settled when all its orders were delivered since under other ids.
    fn settle_family(&mut self, webhook_id: WebhookId, delivered: PayloadId) {
        let origin_of = |mut id: PayloadId| {
            while let Some(above) = self.payloads[&id].resend_of {
                id = above;
            }
            id
        };
        let origin = origin_of(delivered);
        let family: Vec<PayloadId> = self
            .payloads
            .iter()
            .filter(|(id, sent)| sent.webhook_id == webhook_id && origin_of(**id) == origin)
            .map(|(id, _)| *id)
            .collect();
        let errands = &self.hooks[&webhook_id].course.errands;
        let waits = |id: &PayloadId| errands.contains_key(id);
        let is = |id: PayloadId, state| self.payloads[&id].state == state;
        let failed = family
            .iter()
            .filter(|id| is(**id, PayloadState::Failed) && !waits(id));
        let settled: Vec<PayloadId> = failed
            .filter(|&&one| {
                let since = |other: &&PayloadId| {
                    is(**other, PayloadState::Delivered) && (**other > one || **other == delivered)
                };
                let since: Vec<_> = family.iter().filter(since).collect();
                let holds = |seq: &i64| since.iter().any(|id| self.payloads[id].seqs.contains(seq));
                self.payloads[&one].seqs.iter().all(holds)
            })
            .copied()
            .collect();
        for id in settled {
            self.sent(id).state = PayloadState::Discarded;
            self.stats.count("failed, and delivered under other ids");
        }
    }

    /// What a payload is after its resend: what was delivered stays that.
    fn resend_ended(&mut self, payload_id: PayloadId, state: PayloadState) {
        let sent = self.sent(payload_id);
        sent.state = match (sent.state, state) {
            (PayloadState::Delivered, _) | (_, PayloadState::Delivered) => PayloadState::Delivered,
            (_, PayloadState::Failed) => PayloadState::Failed,
            (before, _) => before,
        };
    }

    /// Whether a webhook sends nothing of its own until somebody says so, or holds what does not
    /// go before.
    pub(crate) fn stands_still(&self, webhook_id: WebhookId) -> bool {
        let Some(model) = self.hooks.get(&webhook_id) else {
            return false;
        };
        let course = &model.course;
        let pauses = |told: &Told| matches!(told, Told::Pause { .. });
        !course.health.sends()
            || course.paused
            || model.told.iter().any(pauses)
            || course.errands.values().any(|errand| errand.due.is_none())
    }

    // The configuration.

    /// D25, D27: who is new, and from which order on a selection is in force.
    pub(crate) fn configured(
        &mut self,
        hooks: &[Hook],
        newest: Seq,
        pruned_up_to: Seq,
        now: Timestamp,
        registered: &BTreeMap<WebhookName, Registered>,
    ) {
        // Also those that are forgotten were there before.
        let is_new = self.hooks.is_empty();
        for webhook_id in self.present.drain(..) {
            self.hooks
                .get_mut(&webhook_id)
                .expect("a registered webhook")
                .absent_since = Some(now);
        }
        for hook in hooks {
            let name: WebhookName = hook.name.parse().expect("a name");
            let known = self.by_name.get(&hook.name).copied().or_else(|| {
                let former = hook.renamed_from.as_ref()?;
                self.by_name.remove(former)
            });
            let start = match hook.renamed_from {
                Some(_) => None,
                None => hook.start.or_else(|| is_new.then_some(Start::Oldest)),
            };
            let webhook_id = match (&registered[&name], known, start) {
                (Registered::Known(found, ..), Some(webhook_id), _) => {
                    assert_eq!(*found, webhook_id, "D27: {name} goes on where it stood");
                    webhook_id
                }
                (Registered::Known(found, ..), None, Some(start)) => {
                    assert!(!self.hooks.contains_key(found), "D27: {name} is new");
                    let start_after = match start {
                        Start::Oldest => pruned_up_to.0,
                        Start::Now => newest.0,
                    };
                    let model = Model {
                        start_after,
                        epochs: vec![(start_after + 1, hook.select.clone())],
                        ..Model::default()
                    };
                    self.hooks.insert(*found, model);
                    *found
                }
                (Registered::NoStart { .. }, None, None) => {
                    self.stats.count("held for want of a start");
                    continue;
                }
                (found, ..) => panic!("D27: {name} must not be {found:?}"),
            };
            self.by_name.insert(hook.name.clone(), webhook_id);
            self.present.push(webhook_id);
            self.model(webhook_id).absent_since = None;
            let epochs = &mut self.model(webhook_id).epochs;
            if epochs
                .last()
                .is_none_or(|(_, select)| *select != hook.select)
            {
                epochs.push((newest.0 + 1, hook.select.clone()));
            }
        }
    }

    // Choosing.

    /// The lane looked for what waits.
    pub(crate) fn looked_for(&mut self, webhook_id: WebhookId) {
        let noticed = self.noticed;
        self.model(webhook_id).seen = noticed;
    }

    /// D2, D5: of what was seen, the type that goes next; or when something may.
    fn next_type(
        &self,
        model: &Model,
        hook: &Hook,
        now: Timestamp,
        producers: &Producers,
    ) -> Result<OrderType, Option<Timestamp>> {
        let policy = &hook.policy;
        let waiting = model.waiting(&hook.select, model.seen, producers);
        let type_of = |seq: i64| order_of(producers, seq).order_type;
        // Each type's waiting orders; with fifo only those before a change of type.
        let runs: Vec<Vec<i64>> = match policy.sequence {
            Sequence::Fifo => {
                let same = |seq: &&i64| type_of(**seq) == type_of(waiting[0]);
                let run: Vec<i64> = waiting.iter().take_while(same).copied().collect();
                vec![run]
            }
            Sequence::PoFirst | Sequence::Rotate => OrderType::ALL
                .iter()
                .map(|&order_type| {
                    let is_it = |seq: &&i64| type_of(**seq) == order_type;
                    waiting.iter().filter(is_it).copied().collect()
                })
                .collect(),
        };
        let mut ready = Vec::new();
        let mut earliest: Option<Timestamp> = None;
        for run in runs.iter().filter(|run| !run.is_empty()) {
            let filled = fill(run, policy, producers);
            let full = filled.len() >= policy.payload_max_items
                || filled.len() < run.len()
                || (policy.sequence == Sequence::Fifo && run.len() < waiting.len());
            // What returns from being parked has waited long enough.
            let returns = model.parked.contains(&run[0]);
            let index = usize::try_from(run[0] - 1).expect("an index");
            let until = self.noticed_at[index] + policy.payload_linger;
            if full || returns || until <= now {
                ready.push(run);
            } else {
                earliest = Some(earliest.map_or(until, |earliest| earliest.min(until)));
            }
        }
        let oldest_first = |run: &&&Vec<i64>| run[0];
        let next = match policy.sequence {
            Sequence::PoFirst => ready
                .iter()
                .find(|run| type_of(run[0]) == OrderType::PurchaseOrder)
                .or_else(|| ready.iter().min_by_key(oldest_first)),
            Sequence::Rotate => ready
                .iter()
                .min_by_key(|run| (model.turns[type_of(run[0]) as usize], run[0])),
            Sequence::Fifo => ready.first(),
        };
        next.map(|run| type_of(run[0])).ok_or(earliest)
    }

    /// The lane picked its next payload: the type that goes next, and as many of its orders as
    /// fit (D1, D2, D5, D10).
    pub(crate) fn picks(
        &mut self,
        webhook_id: WebhookId,
        hook: &Hook,
        (seal, pick): (Seal, &Pick),
        decided_at: Timestamp,
        producers: &Producers,
    ) {
        let model = &self.hooks[&webhook_id];
        assert!(
            model.course.head.is_none(),
            "D10: nothing overtakes a pending payload"
        );
        // What was noticed since it looked waits for the next look; what was withdrawn since, not.
        let noticed = Extent {
            withdrawals: self.noticed.withdrawals,
            ..model.seen
        };
        let waiting = model.waiting(&hook.select, noticed, producers);
        let is_it = |seq: &&i64| order_of(producers, **seq).order_type == seal.order_type;
        let mut of_type: Vec<i64> = waiting.iter().filter(is_it).copied().collect();
        if hook.policy.sequence == Sequence::Fifo {
            of_type = waiting.iter().take_while(is_it).copied().collect();
        }
        let found: Vec<i64> = match &pick.picked {
            Some(picked) => picked.members.seqs().iter().map(|seq| seq.0).collect(),
            None => Vec::new(),
        };
        if found.is_empty() {
            let members = fill(&of_type, &hook.policy, producers);
            assert!(
                members.is_empty(),
                "D25: {members:?} wait and were not found"
            );
            return;
        }
        // Composed only when its request may start at once (D2, D4, D24).
        assert!(hook.policy.active, "D24: inactive, and seals");
        assert!(!model.course.paused, "D24: paused, and seals");
        assert!(
            model.course.health.sends(),
            "D13, D19: {:?}, and seals",
            model.course.health
        );
        if let Some(ended) = model.course.ended {
            assert!(
                ended + hook.policy.payload_interval <= decided_at,
                "D2: sealed ahead of its interval"
            );
        }
        let due = self.next_type(model, hook, decided_at, producers);
        assert_eq!(
            due,
            Ok(seal.order_type),
            "D2, D5 ({:?}): waiting {waiting:?}",
            hook.policy.sequence
        );
        let members = fill(&of_type, &hook.policy, producers);
        assert_eq!(
            found, members,
            "D1, D2: as many as fit, in their order, of {waiting:?}"
        );
        if hook.policy.sequence == Sequence::Rotate {
            self.stats.count("turns of rotate");
        }
        if hook.policy.sequence == Sequence::PoFirst
            && seal.order_type == OrderType::PurchaseOrder
            && waiting[0] < members[0]
        {
            self.stats.count("purchase orders went first");
        }
        self.model(webhook_id).due_members = Some((seal.order_type, members));
    }

    /// The lane waits: never needlessly, never past the moment at which something may go (D5).
    pub(crate) fn waits(
        &mut self,
        webhook_id: WebhookId,
        hook: Option<&Hook>,
        wait: Wait,
        decided_at: Timestamp,
        producers: &Producers,
    ) {
        let model = &self.hooks[&webhook_id];
        assert!(
            model.unrecorded.is_none(),
            "D19: waits, and has not recorded what came of an attempt"
        );
        let Some(hook) = hook else { return };
        if let Some(until) = wait.until {
            assert!(until > decided_at, "a wait lies after now");
        }
        let after_end =
            |wait: Duration| model.course.ended.map_or(decided_at, |ended| ended + wait);
        let paced = after_end(hook.policy.payload_interval);
        let errands = model.course.errands.values();
        let asked = errands
            .filter_map(|errand| Some(errand.due?.max(paced)))
            .min();
        let stands_still =
            !hook.policy.active || model.course.paused || !model.course.health.sends();
        let earliest = match &model.course.head {
            _ if stands_still => {
                assert_eq!(wait.until, asked, "D13, D21, D24: waits for somebody");
                return;
            }
            Some(head) => Some(paced.max(after_end(head.wait))),
            None => match self.next_type(model, hook, decided_at, producers) {
                Ok(_) => Some(paced),
                Err(linger) => linger.map(|until| until.max(paced)),
            },
        };
        let earliest = earliest.into_iter().chain(asked).min();
        if let Some(earliest) = earliest {
            let what = format!("something may go at {earliest:?}; it is {decided_at:?}");
            assert!(earliest > decided_at, "D5: waits needlessly: {what}");
            assert!(
                wait.until.is_some_and(|until| until <= earliest),
                "D5: waits too long, until {:?}: {what}",
                wait.until
            );
        }
    }

    // Recording.

    /// The ledger holds it.
    pub(crate) fn recorded(
        &mut self,
        commit: &Commit,
        stopping: bool,
        now: Timestamp,
        producers: &Producers,
    ) {
        let webhook_id = commit.webhook_id;
        for change in &commit.changes {
            match change {
                Change::Sealed { payload, .. } => self.sealed(webhook_id, payload, producers),
                Change::Begun(payload_id, requests) => {
                    self.assert_recorded(webhook_id);
                    if self.hooks[&webhook_id]
                        .course
                        .errands
                        .contains_key(payload_id)
                    {
                        self.assert_sendable(webhook_id, *payload_id, producers);
                    } else {
                        self.assert_nothing_asked(webhook_id);
                    }
                    self.sent(*payload_id).requests = *requests;
                    let head = self.head(webhook_id, *payload_id);
                    assert!(!head.in_flight, "D19: begun twice");
                    assert_eq!(*requests, head.requests + 1, "attempts are counted");
                    head.requests = *requests;
                    head.in_flight = true;
                    head.attempt = AttemptModel::NotMade;
                }
                Change::Withheld(payload_id, requests) => {
                    assert!(stopping, "nothing is withheld but at a stop");
                    let head = self.head(webhook_id, *payload_id);
                    assert_eq!(head.attempt, AttemptModel::NotMade, "it was made");
                    head.requests -= 1;
                    assert_eq!(*requests, head.requests, "attempts are counted");
                    head.in_flight = false;
                    self.sent(*payload_id).requests = *requests;
                    self.stats.count("withheld at a stop");
                }
                Change::Settled {
                    payload_id,
                    state,
                    attempt,
                    ..
                } => self.settled(webhook_id, *payload_id, *state, attempt),
                Change::Heeded(instruction) => self.heeded(webhook_id, &instruction.told),
                Change::Discarded(payload_id, _) => {
                    self.head(webhook_id, *payload_id);
                    self.model(webhook_id).course.head = None;
                    self.discarded(webhook_id, *payload_id);
                }
                Change::Errand(payload_id, change) => {
                    self.errand(webhook_id, *payload_id, change, stopping, now, producers);
                }
            }
        }
        let (parked, unparked) = (commit.parked.len(), commit.unparked.len());
        self.stats
            .add("parked", u64::try_from(parked).expect("few"));
        self.stats
            .add("unparked", u64::try_from(unparked).expect("few"));
        let model = &self.hooks[&webhook_id];
        for (_, seq) in &commit.parked {
            let order = order_of(producers, seq.0);
            assert!(
                model.owns(seq.0, order),
                "D25: order {seq} is not the webhook's, and is parked"
            );
            let carried = model.carried.contains_key(&order.number);
            assert!(!carried, "D25: order {seq} is in a payload, and is parked");
        }
        for row in &commit.set_aside {
            let broken = order_of(producers, row.seq.0).broken;
            assert!(
                broken,
                "order {} can be delivered, and is set aside",
                row.seq
            );
            self.stats.count("set aside");
        }
        let model = self.model(webhook_id);
        model
            .parked
            .extend(commit.parked.iter().map(|(_, seq)| seq.0));
        for (_, seq) in &commit.unparked {
            model.parked.retain(|parked| *parked != seq.0);
        }
    }

    /// What came of an attempt is recorded before another begins.
    fn assert_recorded(&self, webhook_id: WebhookId) {
        let unrecorded = &self.hooks[&webhook_id].unrecorded;
        assert!(unrecorded.is_none(), "D19: not recorded: {unrecorded:?}");
    }

    fn head(&mut self, webhook_id: WebhookId, payload_id: PayloadId) -> &mut HeadModel {
        let head = self
            .model(webhook_id)
            .course
            .head
            .as_mut()
            .expect("a pending payload");
        assert_eq!(
            head.id, payload_id,
            "D9: the same payload goes again, with its id"
        );
        head
    }

    fn sealed(&mut self, webhook_id: WebhookId, payload: &Payload, producers: &Producers) {
        let seqs: Vec<i64> = payload.members.seqs().iter().map(|seq| seq.0).collect();
        assert!(
            !self.payloads.contains_key(&payload.id),
            "an id is given once"
        );
        self.assert_recorded(webhook_id);
        self.assert_nothing_asked(webhook_id);
        let model = self.model(webhook_id);
        let resends_wait = !model.course.errands.is_empty();
        assert!(
            model.course.head.is_none(),
            "D10: nothing overtakes a pending payload"
        );
        let due = model.due_members.take();
        assert_eq!(
            due,
            Some((payload.order_type, seqs.clone())),
            "what was picked is sealed"
        );
        let orders: Vec<&SimOrder> = seqs.iter().map(|&seq| order_of(producers, seq)).collect();
        for order in &orders {
            let before = model.carried.insert(order.number, payload.id);
            assert_eq!(
                before, None,
                "D18: order {} is in a payload already",
                order.number
            );
        }
        model.seals += 1;
        model.turns[payload.order_type as usize] = model.seals;
        let (event, body) = body_of(&orders);
        model.course.head = Some(HeadModel {
            id: payload.id,
            event,
            body,
            requests: 1,
            counted: 0,
            interruptions: 0,
            wait: Duration::ZERO,
            in_flight: true,
            attempt: AttemptModel::NotMade,
        });
        let sent = Sent {
            webhook_id,
            state: PayloadState::Pending,
            numbers: orders.iter().map(|order| order.number).collect(),
            posts: 0,
            seqs,
            resend_of: None,
            requests: 1,
        };
        self.payloads.insert(payload.id, sent);
        self.stats.count("payloads");
        if resends_wait {
            self.stats.count("payloads sent while a resend waits");
        }
    }

    /// What came of an attempt is recorded: what the contract makes of the answer, or, where a
    /// crash cut it off, `interrupted` (D19).
    fn settled(
        &mut self,
        webhook_id: WebhookId,
        payload_id: PayloadId,
        state: PayloadState,
        attempt: &Attempt,
    ) {
        let model = self.model(webhook_id);
        let Some(due) = model.unrecorded.take() else {
            panic!("an attempt is settled that has not ended: {attempt:?}");
        };
        assert_eq!(
            (payload_id, attempt.number, attempt.outcome, state),
            (due.payload_id, due.number, due.outcome, due.state),
            "D7, D9, D11, D19: what came of the attempt"
        );
        let (before, health) = (due.before.health, model.course.health);
        if let Some(sent) = self.payloads.get_mut(&payload_id) {
            sent.state = state;
        }
        if before != health {
            self.stats.count(match health {
                Health::Up => "well again",
                Health::Down => "down",
                Health::Held => "held",
                Health::Interrupted => "held after three interruptions",
                Health::Deactivated => "deactivated",
            });
        }
        self.stats.count(match (state, attempt.outcome) {
            (_, AttemptOutcome::Interrupted) => "interrupted",
            (PayloadState::Delivered, _) => "delivered",
            (PayloadState::Failed, _) => "failed",
            _ => "to be retried",
        });
    }

    // Sending.

    /// A request leaves: one that the ledger knows of, with the id and the bytes that it always
    /// had (D9, D19), and not before its time (D4).
    pub(crate) fn posts(
        &mut self,
        webhook_id: WebhookId,
        hook: &Rc<Hook>,
        request: &Request,
        true_ms: i64,
        producers: &Producers,
    ) {
        self.stats.count("requests");
        self.assert_recorded(webhook_id);
        let sent = &self.payloads[&request.payload_id];
        assert_eq!(request.resend_of, sent.resend_of, "orderfeed-resend-of");
        let model = self.model(webhook_id);
        let (health, ended_ms, forgiven_ms) =
            (model.course.health, model.ended_ms, model.forgiven_ms);
        let paused = model.course.paused;
        let errand = model.course.errands.get_mut(&request.payload_id);
        let is_asked = errand.is_some();
        if let Some(errand) = errand.filter(|errand| errand.in_flight) {
            assert_eq!(
                errand.attempt,
                AttemptModel::NotMade,
                "D4: one request at a time"
            );
            errand.attempt = AttemptModel::UnderWay;
            let requests = errand.requests;
            assert_eq!(
                request.attempt, requests,
                "orderfeed-attempt counts requests"
            );
            let sent = &self.payloads[&request.payload_id];
            let orders: Vec<&SimOrder> = sent
                .seqs
                .iter()
                .map(|&seq| order_of(producers, seq))
                .collect();
            let (event, body) = body_of(&orders);
            assert_eq!(request.event, event, "orderfeed-event");
            assert_eq!(request.body, body.as_bytes(), "D22: one id is one body");
            if let Some(ended_ms) = ended_ms {
                let passed_ms = true_ms - ended_ms + forgiven_ms;
                let passed = Duration::from_millis(u64::try_from(passed_ms).expect("later"));
                let interval = hook.policy.payload_interval;
                assert!(passed >= interval, "D4: a resend after {passed:?}");
            }
            self.sent(request.payload_id).posts += 1;
            return;
        }
        assert!(
            health.sends() || is_asked,
            "D13, D19: {health:?}, and sends"
        );
        assert!(hook.policy.active || is_asked, "D24: inactive, and sends");
        assert!(!paused || is_asked, "D24: paused, and sends");
        let head = self.head(webhook_id, request.payload_id);
        assert!(head.in_flight, "D19: sent before the ledger knew");
        assert_eq!(
            head.attempt,
            AttemptModel::NotMade,
            "D4: one request at a time"
        );
        head.attempt = AttemptModel::UnderWay;
        assert_eq!(
            request.attempt, head.requests,
            "orderfeed-attempt counts requests"
        );
        assert_eq!(request.event, head.event, "orderfeed-event");
        assert_eq!(request.body, head.body.as_bytes(), "D9: one id is one body");
        if let Some(ended_ms) = ended_ms {
            let passed_ms = u64::try_from(true_ms - ended_ms + forgiven_ms).expect("a later time");
            let passed = Duration::from_millis(passed_ms);
            let interval = hook.policy.payload_interval;
            assert!(
                passed >= interval,
                "D4: {passed:?} after the last request's end, not {interval:?}"
            );
            let wait = head.wait;
            assert!(
                passed >= wait || is_asked,
                "D9: goes again after {passed:?}, not {wait:?}"
            );
        }
        let sent = self
            .payloads
            .get_mut(&request.payload_id)
            .expect("a sealed payload");
        sent.posts += 1;
        if sent.posts > 1 {
            self.stats.count("sent again");
        }
    }

    /// A request reached its receiver, which had it so often before.
    pub(crate) fn arrived(&mut self, before: u32) {
        if before > 0 {
            self.stats.count("arrived again");
        }
    }

    /// A request ended; what must follow is worked out by the rules of this moment (D7, D9, D11 to
    /// D13), and compared with what is recorded.
    pub(crate) fn answered(
        &mut self,
        webhook_id: WebhookId,
        policy: &Policy,
        outcome: &Outcome,
        now: Timestamp,
        true_ms: i64,
    ) {
        let model = self.model(webhook_id);
        model.ended_ms = Some(true_ms);
        model.forgiven_ms = 0;
        let under_way = |(_, errand): &(&PayloadId, &ErrandModel)| {
            errand.attempt == AttemptModel::UnderWay && errand.in_flight
        };
        let errand = model.course.errands.iter().find(under_way);
        if let Some(payload_id) = errand.map(|(id, _)| *id) {
            return self.errand_answered(webhook_id, payload_id, policy, outcome, now);
        }
        let course = &model.course;
        let failing_for = now - course.failing_since.unwrap_or(now);
        let (health, counted) = (
            course.health,
            course.head.as_ref().map_or(0, |head| head.counted),
        );
        let asked = match outcome {
            Outcome::Answered { retry_after, .. } => retry_after.unwrap_or_default(),
            Outcome::TimedOut { .. } | Outcome::Broken { .. } => Duration::ZERO,
        };
        if asked > policy.retry_gap {
            self.stats.count("asked to wait longer");
        }
        let wait = policy.retry_gap.max(asked.min(Duration::from_hours(24)));
        let failed_as = match outcome {
            Outcome::Answered { .. } => AttemptOutcome::Failed,
            Outcome::TimedOut { phase } | Outcome::Broken { phase } => match phase.as_str() {
                "dns" | "connect" | "tls" => AttemptOutcome::Failed,
                _ => AttemptOutcome::Unknown,
            },
        };
        let pending = |counted, wait, health| Judged {
            state: PayloadState::Pending,
            outcome: failed_as,
            counted,
            wait,
            health,
        };
        let trouble = rules::is_endpoints_trouble(outcome);
        let allowed = match policy.retry_attempts {
            RetryAttempts::Times(times) => counted < times,
            RetryAttempts::Unlimited => true,
        };
        let too_long = policy
            .deactivate_after
            .is_some_and(|limit| failing_for >= limit);
        let judged = if rules::is_success(outcome, policy) {
            Judged {
                state: PayloadState::Delivered,
                outcome: AttemptOutcome::Delivered,
                counted: false,
                wait: Duration::ZERO,
                health: Health::Up,
            }
        } else if outcome.status() == Some(410) || too_long {
            pending(false, Duration::ZERO, Health::Deactivated)
        } else if health == Health::Down && trouble {
            self.stats.count("uncounted while down");
            pending(false, wait, Health::Down)
        } else if rules::is_held_for(outcome, policy) {
            pending(false, wait, Health::Held)
        } else if allowed {
            pending(true, wait, Health::Up)
        } else {
            Judged {
                state: PayloadState::Failed,
                outcome: failed_as,
                counted: true,
                wait: Duration::ZERO,
                health: if trouble { Health::Down } else { Health::Up },
            }
        };
        let course = &mut self.model(webhook_id).course;
        let before = course.clone();
        let head = course.head.as_mut().expect("a pending payload");
        assert_eq!(
            head.attempt,
            AttemptModel::UnderWay,
            "a request is answered once"
        );
        let (payload_id, number) = (head.id, head.requests);
        head.attempt = AttemptModel::Ended;
        head.in_flight = false;
        head.interruptions = 0;
        head.counted += u32::from(judged.counted);
        head.wait = judged.wait;
        course.ended = Some(now);
        if health.sends() {
            course.health = judged.health;
        }
        // Somebody may have asked for it: that is done.
        course.errands.remove(&payload_id);
        course.failing_since = match judged.state {
            PayloadState::Delivered => None,
            _ => course.failing_since.or(Some(now)),
        };
        if judged.state != PayloadState::Pending {
            course.head = None;
        }
        self.model(webhook_id).unrecorded = Some(Unrecorded {
            payload_id,
            number,
            outcome: judged.outcome,
            state: judged.state,
            before,
        });
    }

    /// A resend was answered: it counts, and goes again or not (D9); where the webhook stands
    /// changes only for the better (D21).
    fn errand_answered(
        &mut self,
        webhook_id: WebhookId,
        payload_id: PayloadId,
        policy: &Policy,
        outcome: &Outcome,
        now: Timestamp,
    ) {
        let course = &mut self.model(webhook_id).course;
        let before = course.clone();
        let errand = course.errands.get_mut(&payload_id).expect("an errand");
        errand.in_flight = false;
        errand.attempt = AttemptModel::Ended;
        errand.interruptions = 0;
        errand.counted += 1;
        let number = errand.requests;
        let asked = match outcome {
            Outcome::Answered { retry_after, .. } => retry_after.unwrap_or_default(),
            Outcome::TimedOut { .. } | Outcome::Broken { .. } => Duration::ZERO,
        };
        let wait = policy.retry_gap.max(asked.min(Duration::from_hours(24)));
        errand.due = Some(now + wait);
        let allowed = match policy.retry_attempts {
            RetryAttempts::Times(times) => errand.counted <= times,
            RetryAttempts::Unlimited => true,
        };
        let failed_as = match outcome {
            Outcome::Answered { .. } => AttemptOutcome::Failed,
            Outcome::TimedOut { phase } | Outcome::Broken { phase } => match phase.as_str() {
                "dns" | "connect" | "tls" => AttemptOutcome::Failed,
                _ => AttemptOutcome::Unknown,
            },
        };
        let (state, outcome) = if rules::is_success(outcome, policy) {
            course.failing_since = None;
            if course.health.sends() {
                course.health = Health::Up;
            }
            (PayloadState::Delivered, AttemptOutcome::Delivered)
        } else if allowed {
            (PayloadState::Pending, failed_as)
        } else {
            (PayloadState::Failed, failed_as)
        };
        if state != PayloadState::Pending {
            course.errands.remove(&payload_id);
        }
        course.ran(now);
        self.model(webhook_id).unrecorded = Some(Unrecorded {
            payload_id,
            number,
            outcome,
            state,
            before,
        });
    }

    // The end.

    /// Whether somebody must resume a webhook before its orders can go.
    pub(crate) fn needs_resuming(&self) -> bool {
        let mut present = self.present.iter();
        present.any(|&webhook_id| self.stands_still(webhook_id))
    }

    /// Conservation (D11, D18, D25): every order that is a webhook's is in one of its payloads, or
    /// was taken back, or is parked.
    pub(crate) fn conserved(&mut self, producers: &Producers) {
        let noticed = producers.extent();
        for webhook_id in &self.present {
            let model = &self.hooks[webhook_id];
            assert!(
                model.course.head.is_none(),
                "{webhook_id:?}: a payload is left pending"
            );
            let errands = &model.course.errands;
            assert!(errands.is_empty(), "D20: resends are left: {errands:?}");
            let current = model.epochs.last().map(|(_, select)| select);
            for (seq, order) in (1..).zip(producers.orders()) {
                let carried = model.carried.contains_key(&order.number);
                let owned = model.owns(seq, order);
                assert!(
                    owned || !carried,
                    "D25: {webhook_id:?} was sent order {seq}, which is not its own"
                );
                let selected = current.is_some_and(|select| select.selects(order));
                let withdrawn = producers.is_withdrawn(seq, noticed);
                assert!(
                    carried || !owned || withdrawn || !selected,
                    "D18: {webhook_id:?} never got order {seq}: {order:?}"
                );
                if owned && withdrawn && !carried {
                    self.stats.count("taken back in time");
                }
            }
            for (number, payload_id) in &model.carried {
                let known = producers
                    .orders()
                    .iter()
                    .any(|order| order.number == *number);
                assert!(known, "order {number} in {payload_id} was never queued");
                let sent = &self.payloads[payload_id];
                assert!(
                    sent.posts > 0 || sent.state == PayloadState::Discarded,
                    "{payload_id} was never sent"
                );
            }
        }
    }

    /// Of each webhook and order, the payloads that carry it.
    pub(crate) fn carried(
        &self,
        pruned_up_to: Seq,
        producers: &Producers,
    ) -> Vec<(WebhookId, Seq, OrderType, Vec<PayloadId>)> {
        let mut all = Vec::new();
        for &webhook_id in &self.present {
            let Model {
                carried, copies, ..
            } = &self.hooks[&webhook_id];
            for (seq, order) in (1..).zip(producers.orders()) {
                if seq <= pruned_up_to.0 {
                    continue;
                }
                let holds = |id: &&PayloadId| self.payloads[*id].seqs.contains(&seq);
                let copies = copies.iter().filter(holds);
                let mut payloads: Vec<PayloadId> = carried
                    .get(&order.number)
                    .into_iter()
                    .chain(copies)
                    .copied()
                    .collect();
                payloads.sort();
                all.push((webhook_id, Seq(seq), order.order_type, payloads));
            }
        }
        all
    }

    /// The seqs that a webhook must have set aside or parked: it looks at them all.
    pub(crate) fn left_lying(&self, webhook_id: WebhookId, producers: &Producers) -> Vec<i64> {
        let model = &self.hooks[&webhook_id];
        let current = model.epochs.last().map(|(_, select)| select);
        let noticed = producers.extent();
        (1..)
            .zip(producers.orders())
            .filter(|(seq, order)| {
                model.owns(*seq, order)
                    && !model.carried.contains_key(&order.number)
                    && !producers.is_withdrawn(*seq, noticed)
                    && current.is_some_and(|select| select.covers(order.order_type))
            })
            .map(|(seq, _)| seq)
            .collect()
    }

    /// The broken orders that the webhook came across: those of its types, from where it began.
    pub(crate) fn left_broken(&self, webhook_id: WebhookId, producers: &Producers) -> Vec<i64> {
        let model = &self.hooks[&webhook_id];
        let current = model.epochs.last().map(|(_, select)| select);
        let noticed = producers.extent();
        (1..)
            .zip(producers.orders())
            .filter(|(seq, order)| {
                let covered = current.is_some_and(|select| select.covers(order.order_type));
                let withdrawn = producers.is_withdrawn(*seq, noticed);
                order.broken
                    && covered
                    && !withdrawn
                    && !producers.is_pruned(*seq)
                    && *seq > model.start_after
            })
            .map(|(seq, _)| seq)
            .collect()
    }

    pub(crate) fn webhooks(&self) -> impl Iterator<Item = WebhookId> {
        self.present.iter().copied()
    }
}
