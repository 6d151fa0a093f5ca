//! All that the lanes share: the two real files, the clocks, the settings, and who watches.
//!
//! [`World::open`], [`World::configure`] and [`World::publish`] do what the daemon does at its
//! start and at a reload, in that order.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use orderfeed::clock::{Clock, WallTime};
use orderfeed::daemon::lane::Settings;
use orderfeed::feed::errand::Told;
use orderfeed::feed::lane::Wait;
use orderfeed::feed::order::Seq;
use orderfeed::feed::outcome::Outcome;
use orderfeed::feed::payload::Payload;
use orderfeed::feed::selection::Selections;
use orderfeed::feed::timestamp::Timestamp;
use orderfeed::sender::{Report, Request};
use orderfeed::store::ledger::configure::{Configured, Registered};
use orderfeed::store::ledger::errands::Superseded;
use orderfeed::store::ledger::{self, Commit, Ledger, WebhookId};
use orderfeed::store::queue::Queue;
use rustix::time::{ClockId, clock_gettime};

use crate::administrator::{Administrator, Hook};
use crate::clock::Clocks;
use crate::dice::Dice;
use crate::oracle::{Oracle, Stats};
use crate::producer::{Extent, LEDGER_ID, Producers, QUEUE_ID};
use crate::receiver::{Fare, Receivers};

pub(crate) struct World {
    pub(crate) clocks: Clocks,
    pub(crate) dice: Dice,
    pub(crate) producers: Producers,
    pub(crate) receivers: Receivers,
    pub(crate) administrator: Administrator,
    pub(crate) oracle: Oracle,
    life: Option<Life>,
    queue_path: PathBuf,
    ledger_path: PathBuf,
}

/// One run of the daemon.
pub(crate) struct Life {
    pub(crate) queue: Queue,
    pub(crate) ledger: Ledger,
    /// How far the ledger's clock is ahead of the boot's.
    clock_ahead_ms: i64,
    /// Counts the looks that noticed something: what wakes the lanes.
    pub(crate) looks: u64,
    /// Counts what operators asked for.
    pub(crate) asked: u64,
    pub(crate) stopping: bool,
    /// While webhooks are registered, nothing new is noticed.
    pub(crate) held: bool,
    /// What the queue was told that webhooks subscribe to.
    subscribed: BTreeMap<WebhookId, Rc<Hook>>,
    pub(crate) berths: BTreeMap<WebhookId, Berth>,
}

/// What one lane's shell holds.
pub(crate) struct Berth {
    pub(crate) settings: Option<Arc<Settings>>,
    pub(crate) settings_changes: u64,
    /// All settings that it was given, with what they were made of.
    given: Vec<(Arc<Settings>, Rc<Hook>)>,
    pub(crate) blocked: Blocked,
}

/// What a lane waits for.
#[derive(Debug, Clone)]
pub(crate) enum Blocked {
    No,
    /// As `Shell::wait` says.
    Until {
        until: Option<Timestamp>,
        looks_seen: u64,
        settings_seen: u64,
        heard: u64,
    },
    /// A request is under way.
    Posting(Posting),
}

#[derive(Debug, Clone)]
pub(crate) struct Posting {
    request: Request,
    /// What it was started with.
    hook: Rc<Hook>,
    fare: Fare,
    began_ms: i64,
}

/// What the configuration came to in the ledger, on its way to the lanes.
pub(crate) struct Applied {
    hooks: Vec<Hook>,
    registered: BTreeMap<WebhookId, Settings>,
    /// What each of them subscribes to, and what that was made of.
    selections: BTreeMap<WebhookId, (Selections, Rc<Hook>)>,
}

impl World {
    pub(crate) fn new(folder: &Path, mut dice: Dice) -> Self {
        let queue_path = folder.join("queue.db");
        let ledger_path = folder.join("ledger.db");
        let clocks = Clocks::new();
        let producers = Producers::new(&queue_path);
        ledger::create(&ledger_path, LEDGER_ID, QUEUE_ID, &clocks.reading()).expect("a ledger");
        Self {
            clocks,
            producers,
            receivers: Receivers::default(),
            administrator: Administrator::new(&mut dice),
            oracle: Oracle::default(),
            life: None,
            dice,
            queue_path,
            ledger_path,
        }
    }

    /// Nothing goes wrong, and whatever waits goes at once.
    pub(crate) fn make_steady(&mut self) {
        self.receivers.heal();
        self.administrator.mend();
        for hook in &mut self.administrator.hooks {
            hook.policy.payload_interval = Duration::ZERO;
            hook.policy.payload_linger = Duration::ZERO;
        }
        self.producers.make_no_mistakes();
    }

    /// How large queue and ledger are, in bytes, while the daemon is down.
    pub(crate) fn file_sizes(&self) -> [u64; 2] {
        [&self.queue_path, &self.ledger_path]
            .map(|path| std::fs::metadata(path).expect("the file").len())
    }

    pub(crate) fn life(&self) -> &Life {
        self.life.as_ref().expect("the daemon runs")
    }

    pub(crate) fn life_mut(&mut self) -> &mut Life {
        self.life.as_mut().expect("the daemon runs")
    }

    pub(crate) const fn is_running(&self) -> bool {
        self.life.is_some()
    }

    pub(crate) fn berth(&self, webhook_id: WebhookId) -> &Berth {
        &self.life().berths[&webhook_id]
    }

    pub(crate) fn berth_mut(&mut self, webhook_id: WebhookId) -> &mut Berth {
        let berths = &mut self.life_mut().berths;
        berths.get_mut(&webhook_id).expect("the lane's berth")
    }

    pub(crate) fn stats(&mut self) -> &mut Stats {
        &mut self.oracle.stats
    }

    /// Now, on the ledger's clock.
    pub(crate) fn now(&self) -> Timestamp {
        Timestamp::from_ms(self.clocks.boottime_ms() + self.life().clock_ahead_ms)
    }

    /// A line of the story, for who replays a seed.
    pub(crate) fn tell(&self, webhook_id: Option<WebhookId>, event: &str) {
        let who = webhook_id.map_or_else(|| "-".to_owned(), |id| format!("w{}", id.0));
        trace::tell(self.clocks.true_ms(), &who, event);
    }

    /// Opens both files, as `daemon::Stores::open` does.
    pub(crate) fn open(&mut self) {
        let reading = self.clocks.reading();
        let ledger = Ledger::open(&self.ledger_path, &reading).expect("the ledger opens");
        let queue = Queue::open(&self.queue_path).expect("the queue opens");
        let clock_ahead_ms = ahead_ms(ledger.clock());
        self.life = Some(Life {
            queue,
            ledger,
            clock_ahead_ms,
            looks: 0,
            asked: 0,
            stopping: false,
            held: false,
            subscribed: BTreeMap::new(),
            berths: BTreeMap::new(),
        });
        let now = self.now();
        self.oracle.opened(now, &self.clocks);
        self.look();
        let life = self.life();
        life.ledger
            .agree_with(&life.queue)
            .expect("queue and ledger belong together");
        self.tell(
            None,
            &format!("the daemon starts, ledger clock {}", now.ms()),
        );
    }

    /// Notices what was committed, and wakes the lanes if anything was.
    pub(crate) fn look(&mut self) {
        let now = self.now();
        let life = self.life_mut();
        let before = life.queue.newest_noticed();
        if life.queue.look(now).expect("a look") {
            life.looks += 1;
        }
        let newest = life.queue.newest_noticed();
        if life.held {
            assert_eq!(
                newest, before,
                "D25: nothing new is noticed while webhooks are registered"
            );
            return;
        }
        let (seq, withdrawals) = life.queue.synced();
        let count = |number| usize::try_from(number).expect("a count");
        self.producers.synced(Extent {
            orders: count(seq.0),
            withdrawals: count(withdrawals),
        });
        let extent = self.producers.extent();
        assert_eq!(
            count(newest.0),
            extent.orders,
            "a look notices all that was committed"
        );
        self.oracle.noticed(extent, now);
    }

    /// Whether the queue holds what the daemon has not noticed.
    pub(crate) fn has_unnoticed(&self) -> bool {
        self.oracle.has_noticed() != self.producers.extent()
    }

    /// Registering begins, as in `daemon::Lanes::register`.
    pub(crate) fn hold(&mut self) {
        self.look();
        let life = self.life_mut();
        life.held = true;
        life.queue.hold();
    }

    /// Tells the ledger of the configuration, as `daemon::Lanes::register` does then.
    pub(crate) fn configure(&mut self) -> Applied {
        let hooks = self.administrator.hooks.clone();
        let configured: Vec<Configured> = hooks.iter().map(Hook::configured).collect();
        let wall = self.clocks.wall();
        let life = self.life_mut();
        let newest = life.queue.newest_noticed();
        let registered = life
            .ledger
            .configure(&configured, newest, wall)
            .expect("the ledger takes the configuration");
        let pruned_up_to = life.ledger.pruned_up_to().expect("the ledger answers");
        let now = self.now();
        self.oracle
            .configured(&hooks, newest, pruned_up_to, now, &registered);
        let mut selections = BTreeMap::new();
        let mut settings = |hook: &Hook| {
            let name = hook.configured().name;
            match &registered[&name] {
                Registered::Known(webhook_id, _, known) => {
                    selections.insert(*webhook_id, (known.clone(), Rc::new(hook.clone())));
                    let settings = Settings {
                        name,
                        policy: hook.policy.clone(),
                    };
                    Some((*webhook_id, settings))
                }
                Registered::NoStart { .. } => None,
            }
        };
        let registered = hooks.iter().filter_map(&mut settings).collect();
        Applied {
            hooks,
            registered,
            selections,
        }
    }

    /// Tells the queue what webhooks subscribe to, as `daemon::Lanes::register` does at its end.
    pub(crate) fn subscribe(&mut self, applied: &Applied) {
        let life = self.life_mut();
        life.held = false;
        let selections = applied.selections.iter();
        let known = selections.map(|(webhook_id, (known, _))| (*webhook_id, known.clone()));
        life.queue.subscribe(Some(known.collect()));
        // What was read ahead by the old ones is not used any more.
        life.looks += 1;
        let selections = applied.selections.iter();
        life.subscribed = selections
            .map(|(webhook_id, (_, hook))| (*webhook_id, Rc::clone(hook)))
            .collect();
    }

    /// By what the queue selects for a webhook.
    pub(crate) fn subscribed(&self, webhook_id: WebhookId) -> Option<Rc<Hook>> {
        self.life().subscribed.get(&webhook_id).cloned()
    }

    /// The orders of a payload of which a later version was delivered (D23), as the daemon asks.
    pub(crate) fn superseded(
        &self,
        webhook_id: WebhookId,
        payload: &Payload,
        newest: Seq,
    ) -> Result<Vec<Superseded>, orderfeed::store::Error> {
        let life = self.life();
        let (order_type, members) = (payload.order_type, &payload.members);
        let mut found = Vec::new();
        for held in life.queue.held(order_type, members)? {
            let number = held.tracking_number;
            let mut versions = life
                .queue
                .versions(&number, order_type, held.seqs[0], newest)?;
            versions.retain(|version| !members.contains(*version));
            let by = life
                .ledger
                .first_delivered(webhook_id, order_type, &versions)?;
            let Some((by_seq, by_payload)) = by else {
                continue;
            };
            let older = held.seqs.into_iter().filter(|&seq| seq < by_seq);
            found.extend(older.map(|seq| Superseded {
                seq,
                tracking_number: number.clone(),
                by_seq,
                by_payload,
            }));
        }
        Ok(found)
    }

    /// Gives the lanes their settings, as `daemon::Lanes::apply` does then. Returns the webhooks
    /// that need a new lane.
    pub(crate) fn publish(&mut self, applied: Applied) -> Vec<WebhookId> {
        let mut given: BTreeMap<WebhookId, (Arc<Settings>, Rc<Hook>)> = BTreeMap::new();
        for (webhook_id, settings) in applied.registered {
            let is_it = |hook: &&Hook| hook.name == settings.name.as_str();
            let hook = applied.hooks.iter().find(is_it).expect("its hook").clone();
            given.insert(webhook_id, (Arc::new(settings), Rc::new(hook)));
        }
        let mut new = Vec::new();
        let life = self.life_mut();
        for (webhook_id, berth) in &mut life.berths {
            let next = given.remove(webhook_id);
            berth.settings_changes += 1;
            berth.settings = next.as_ref().map(|(settings, _)| Arc::clone(settings));
            berth.given.extend(next);
        }
        for (webhook_id, next) in given {
            let berth = Berth {
                settings: Some(Arc::clone(&next.0)),
                settings_changes: 0,
                given: vec![next],
                blocked: Blocked::No,
            };
            life.berths.insert(webhook_id, berth);
            new.push(webhook_id);
        }
        new
    }

    /// What these settings were made of.
    pub(crate) fn hook_of(&self, webhook_id: WebhookId, settings: &Settings) -> Rc<Hook> {
        let given = &self.berth(webhook_id).given;
        let same =
            |(candidate, _): &&(Arc<Settings>, _)| std::ptr::eq(&raw const **candidate, settings);
        let (_, hook) = given.iter().rfind(same).expect("settings that were given");
        Rc::clone(hook)
    }

    /// Whether the lane has something to do.
    pub(crate) fn is_awake(&self, webhook_id: WebhookId) -> bool {
        let life = self.life();
        let berth = &life.berths[&webhook_id];
        match &berth.blocked {
            Blocked::No => true,
            Blocked::Until {
                until,
                looks_seen,
                settings_seen,
                heard,
            } => {
                life.stopping
                    || life.looks != *looks_seen
                    || life.asked != *heard
                    || berth.settings_changes != *settings_seen
                    || until.is_some_and(|until| until <= self.now())
            }
            Blocked::Posting(posting) => posting.ends_ms() <= self.clocks.true_ms(),
        }
    }

    /// How long until some lane wakes by itself.
    pub(crate) fn sleep_ms(&self) -> Option<i64> {
        let (now, true_ms) = (self.now(), self.clocks.true_ms());
        let berths = self.life().berths.values();
        berths
            .filter_map(|berth| match &berth.blocked {
                Blocked::No => None,
                Blocked::Until { until, .. } => until.map(|until| until.ms() - now.ms()),
                Blocked::Posting(posting) => Some(posting.ends_ms() - true_ms),
            })
            .min()
    }

    pub(crate) fn recorded(&mut self, commit: &Commit) {
        let webhook_id = commit.webhook_id;
        let stopping = self.life().stopping;
        let now = self.now();
        self.oracle.recorded(commit, stopping, now, &self.producers);
        let lane = &commit.lane;
        let changes: Vec<String> = commit.changes.iter().map(trace::of_change).collect();
        self.tell(
            Some(webhook_id),
            &format!(
                "recorded {changes:?} parked {:?} unparked {:?}; {} cursors {:?}",
                commit.parked,
                commit.unparked,
                lane.standing.as_str(),
                lane.places
                    .iter()
                    .map(|(_, place)| (place.cursor.0, place.unpark.map(|seq| seq.0)))
                    .collect::<Vec<_>>(),
            ),
        );
    }

    pub(crate) fn begin_post(
        &mut self,
        webhook_id: WebhookId,
        settings: &Settings,
        request: &Request,
    ) {
        let fare = self.receivers.fare(webhook_id, &mut self.dice);
        self.tell(
            Some(webhook_id),
            &format!(
                "POST {} attempt {} ({}) -> {} in {} ms",
                request.payload_id,
                request.attempt,
                String::from_utf8_lossy(&request.body),
                fare.outcome,
                fare.ends_after_ms
            ),
        );
        let hook = self.hook_of(webhook_id, settings);
        self.oracle.posts(
            webhook_id,
            &hook,
            request,
            self.clocks.true_ms(),
            &self.producers,
        );
        let posting = Posting {
            request: request.clone(),
            hook,
            fare,
            began_ms: self.clocks.true_ms(),
        };
        self.berth_mut(webhook_id).blocked = Blocked::Posting(posting);
    }

    pub(crate) fn end_post(&mut self, webhook_id: WebhookId, started_at: WallTime) -> Report {
        let berth = self.berth_mut(webhook_id);
        let Blocked::Posting(posting) = std::mem::replace(&mut berth.blocked, Blocked::No) else {
            panic!("a request is under way");
        };
        let now = self.now();
        let true_ms = self.clocks.true_ms();
        self.receive(webhook_id, &posting);
        // What changed meanwhile counts, unless the webhook was removed.
        let berth = self.berth(webhook_id);
        let hook = match berth.settings {
            Some(_) => berth.current(),
            None => Rc::clone(&posting.hook),
        };
        self.oracle.answered(
            webhook_id,
            &hook.policy,
            &posting.fare.outcome,
            now,
            true_ms,
        );
        self.tell(Some(webhook_id), &posting.fare.outcome.to_string());
        let error = match &posting.fare.outcome {
            Outcome::Answered { .. } => None,
            Outcome::TimedOut { .. } | Outcome::Broken { .. } => Some("broken".to_owned()),
        };
        Report {
            answer: error.is_none().then(|| "answer".to_owned()),
            error,
            started_at,
            duration: Duration::from_millis((true_ms - posting.began_ms).unsigned_abs()),
            outcome: posting.fare.outcome,
        }
    }

    /// What of the request is at the receiver by now.
    fn receive(&mut self, webhook_id: WebhookId, posting: &Posting) {
        let passed_ms = self.clocks.true_ms() - posting.began_ms;
        if posting
            .fare
            .arrives_after_ms
            .is_some_and(|after| after <= passed_ms)
        {
            let payload_id = posting.request.payload_id;
            let before = self
                .receivers
                .take(webhook_id, payload_id, &posting.request.body);
            self.oracle.arrived(before);
        }
    }

    pub(crate) fn waits(
        &mut self,
        webhook_id: WebhookId,
        selected_by: Option<&Hook>,
        wait: Wait,
        decided_at: Timestamp,
    ) {
        let until = wait.until.map(Timestamp::ms);
        self.tell(
            Some(webhook_id),
            &format!("waits until {until:?}: {}", wait.state.as_str()),
        );
        // What it does not know yet wakes it at once.
        let (settings_seen, heard) = match self.berth(webhook_id).blocked {
            Blocked::Until {
                settings_seen,
                heard,
                ..
            } => (settings_seen, heard),
            Blocked::No | Blocked::Posting(_) => (0, 0),
        };
        let berth = self.berth(webhook_id);
        // One that was removed is about to be told so.
        let subscribed = self.life().subscribed.contains_key(&webhook_id);
        let news = self.life().asked != heard;
        if berth.settings_changes != settings_seen || !subscribed || news {
            return;
        }
        let current = berth.settings.is_some().then(|| berth.current());
        let hook = current.map(|hook| hook.selecting_as(selected_by));
        self.oracle
            .waits(webhook_id, hook.as_ref(), wait, decided_at, &self.producers);
    }

    /// The daemon says to the queue how far the ledger came, as `daemon::Lanes::mark` does.
    pub(crate) fn mark(&mut self) {
        let life = self.life_mut();
        let last_sealed = life.ledger.last_sealed();
        if last_sealed.is_none() {
            return;
        }
        let marked = life.queue.mark(LEDGER_ID, last_sealed, Duration::ZERO);
        assert!(
            marked.expect("the queue is there"),
            "no producer holds the queue"
        );
        self.producers.mark(last_sealed.map(|id| id.to_string()));
    }

    /// The daemon is gone, from one step to the next.
    pub(crate) fn cut_off(&mut self) {
        let true_ms = self.clocks.true_ms();
        let berths = std::mem::take(&mut self.life_mut().berths);
        for (webhook_id, berth) in berths {
            if let Blocked::Posting(posting) = berth.blocked {
                self.receive(webhook_id, &posting);
            }
        }
        self.oracle.cut_off(true_ms);
        self.life = None;
    }

    /// The machine is gone, and with it what the queue's producers did not wait for.
    pub(crate) fn lose_power(&mut self) {
        if self.is_running() {
            self.cut_off();
        }
        let lost = self.producers.lose_power(&mut self.dice);
        self.tell(None, &format!("power cut, {} orders are lost", lost.len()));
        self.oracle.lost(&lost);
        let down_ms = self.dice.one_of(&[1_000, 30_000, 600_000]);
        self.clocks.reboot(down_ms);
    }

    /// The daemon ended by itself, after all its lanes.
    pub(crate) fn close(&mut self) {
        self.oracle.stopped(self.life().berths.keys().copied());
        self.mark();
        self.life = None;
    }

    /// An operator resumes what stands still, as `orderfeed resume` does while the daemon is
    /// stopped.
    pub(crate) fn resume(&mut self) {
        let reading = self.clocks.reading();
        let mut ledger = Ledger::open(&self.ledger_path, &reading).expect("the ledger opens");
        let now = Timestamp::from_ms(reading.boottime_ms + ahead_ms(ledger.clock()));
        self.oracle.opened(now, &self.clocks);
        for (webhook_id, name) in ledger.webhooks().expect("webhooks") {
            if self.oracle.stands_still(webhook_id) {
                let told = ledger.tell(webhook_id, &Told::Resume, reading.wall);
                told.expect("it is kept");
                self.oracle.told(webhook_id, Told::Resume);
                trace::tell(self.clocks.true_ms(), &name, "is told to resume");
            }
        }
    }

    /// What the pruning deleted was nobody's any more.
    pub(crate) fn notice_pruned(&mut self) {
        let gone = self.producers.notice_pruned();
        if gone.is_empty() {
            return;
        }
        self.tell(None, &format!("pruned {gone:?}"));
        let now = self.now();
        for seq in gone {
            let set_aside = self.life().ledger.set_aside_at(Seq(seq));
            let set_aside = set_aside.expect("the ledger answers").is_some();
            self.oracle.pruned(seq, set_aside, now, &self.producers);
        }
    }

    pub(crate) fn queue_path(&self) -> &Path {
        &self.queue_path
    }

    /// Both files, for the last word on them.
    pub(crate) fn ledger_path(&self) -> &Path {
        &self.ledger_path
    }
}

/// How far a ledger's clock is ahead of the boot's, as it was told of it. The clock itself reads
/// the real boot's clock, which only shows here how far apart the two are.
fn ahead_ms(clock: Clock) -> i64 {
    let boottime_ms = || {
        let boottime = clock_gettime(ClockId::Boottime);
        boottime.tv_sec * 1_000 + boottime.tv_nsec / 1_000_000
    };
    loop {
        let (before_ms, now, after_ms) = (boottime_ms(), clock.now(), boottime_ms());
        if before_ms == after_ms {
            return now.ms() - before_ms;
        }
    }
}

impl Berth {
    /// What it goes by: the settings given last.
    fn current(&self) -> Rc<Hook> {
        Rc::clone(&self.given.last().expect("settings").1)
    }
}

impl Posting {
    const fn ends_ms(&self) -> i64 {
        self.began_ms + self.fare.ends_after_ms
    }
}

/// The story of a run: its last lines are printed when it fails.
pub(crate) mod trace {
    use super::RefCell;
    use orderfeed::store::ledger::Change;

    /// So many lines are kept.
    const LINES_MAX: usize = 1_000;

    thread_local! {
        static LINES: RefCell<std::collections::VecDeque<String>> = RefCell::default();
    }

    pub(crate) fn tell(true_ms: i64, who: &str, event: &str) {
        LINES.with_borrow_mut(|lines| {
            if lines.len() >= LINES_MAX {
                lines.pop_front();
            }
            lines.push_back(format!("{true_ms} {who:>3} {event}"));
        });
    }

    /// All lines; it begins anew.
    pub(crate) fn take() -> Vec<String> {
        LINES.with_borrow_mut(|lines| lines.drain(..).collect())
    }

    pub(crate) fn of_change(change: &Change) -> String {
        match change {
            Change::Sealed { payload, .. } => format!(
                "sealed {} {}.{} {:?}",
                payload.id,
                payload.order_type,
                payload.action,
                payload
                    .members
                    .seqs()
                    .iter()
                    .map(|seq| seq.0)
                    .collect::<Vec<_>>()
            ),
            Change::Begun(_, attempts) => format!("begun {attempts}"),
            Change::Withheld(_, attempts) => format!("withheld, {attempts}"),
            Change::Settled { state, attempt, .. } => {
                format!("settled {} {}", attempt.outcome.as_str(), state.as_str())
            }
            Change::Heeded(instruction) => format!("heeded {:?}", instruction.told),
            Change::Discarded(payload_id, _) => format!("discarded {payload_id}"),
            Change::Errand(payload_id, change) => format!("errand {payload_id} {change:?}"),
        }
    }
}
