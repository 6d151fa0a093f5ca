//! The daemon: a lane for each webhook, what wakes them, signals and reload.
//!
//! All of it runs on one thread, beside one that reads the queue. It decides nothing about
//! deliveries: that is `feed`'s, carried out by [`lane`].

pub mod ahead;
mod front;
pub mod lane;
mod notify;
mod operator;
pub mod prune;
mod shell;
mod standstill;
mod superseded;
mod tell;
mod upkeep;
mod wake;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{broadcast, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{error, info, warn};

use crate::admin::api;
use crate::admin::desk::Inbox;
use crate::admin::meters::Refusal;
use crate::clock::{Reading, WallTime};
use crate::config::{Config, Grant};
use crate::feed::lane::Place;
use crate::feed::order::{OrderType, PerType, Seq};
use crate::feed::payload::PayloadId;
use crate::feed::selection::Selections;
use crate::feed::webhook::WebhookName;
use crate::sender::{Sender, SetUpError};
use crate::store::ledger::configure::Registered;
use crate::store::ledger::{Ledger, WebhookId};
use crate::store::queue::{Queue, Survey};
use crate::store::worker::{LedgerHandle, QueueHandle};
use crate::store::{self, files};
use crate::telemetry;
use front::{Front, Reload};
use lane::{Halt, Settings};
pub use notify::is_awaited;
use notify::{Kept, Notifier};
use shell::{Gear, LaneShell, Shared};
use tell::Teller;
use upkeep::Upkeep;

/// The queue is told this often, at most, how far the ledger came.
const MARK_GAP: Duration = Duration::from_secs(10);

/// The last time, a producer is waited for: an older copy of the ledger is told by this mark.
const MARK_PATIENCE_AT_END: Duration = Duration::from_secs(2);

/// What runs.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Chores are looked after this often.
const CHORE_GAP: Duration = Duration::from_secs(1);

/// A running daemon's reins.
#[derive(Debug)]
pub struct Reins {
    /// `true` starts no further request, lets those in flight finish, and ends the daemon.
    pub stop: watch::Receiver<bool>,
    /// Each new value is a configuration to go on with.
    pub reload: watch::Receiver<Arc<Config>>,
    /// What is asked over the admin socket, if there is one.
    pub inbox: Option<Inbox>,
}

/// Both files, open.
#[derive(Debug)]
pub struct Stores {
    queue: Queue,
    ledger: Ledger,
}

impl Stores {
    /// Opens the ledger, then the queue, and makes sure that they agree.
    pub fn open(queue: &Path, ledger: &Path) -> Result<Self, store::Error> {
        let stores = Self::open_both(queue, ledger)?;
        stores.agree()?;
        Ok(stores)
    }

    /// Opens the ledger, then the queue.
    pub fn open_both(queue: &Path, ledger: &Path) -> Result<Self, store::Error> {
        let mut ledger = Ledger::open(ledger, &Reading::take())?;
        ledger.forget_tests()?;
        let mut queue = Queue::open(queue)?;
        queue.look(ledger.clock().now())?;
        Ok(Self { queue, ledger })
    }

    /// An error unless they belong together.
    fn agree(&self) -> Result<(), store::Error> {
        self.ledger.agree_with(&self.queue)
    }

    /// What the configuration would do: what waits for each of its webhooks, and for those that
    /// it no longer has. Nothing is registered.
    pub fn preview(self, config: &Config) -> Result<Vec<Preview>, store::Error> {
        let Self { queue, mut ledger } = self;
        let plan = plan(&mut ledger, queue.newest_noticed(), config)?;
        // Counting may take a while, in which a daemon may want to start.
        drop(ledger);
        count(&queue, plan)
    }
}

/// What the configuration would do, as far as the ledger can tell.
fn plan(
    ledger: &mut Ledger,
    newest: Seq,
    config: &Config,
) -> Result<Vec<(Preview, Selections)>, store::Error> {
    let registered = ledger.preview(&config.configured(), newest, WallTime::now())?;
    let known = ledger.webhooks()?;
    let mut previews = Vec::new();
    let mut kept = Vec::new();
    for webhook in &config.webhooks {
        let name = webhook.name.to_string();
        match registered.get(&webhook.name) {
            Some(Registered::Known(webhook_id, places, selections)) => {
                kept.push(*webhook_id);
                let standing = if webhook.policy.active {
                    PreviewStanding::Sends
                } else {
                    PreviewStanding::Inactive
                };
                let preview = if known.iter().any(|(known, _)| known == webhook_id) {
                    Preview::of(ledger, *webhook_id, name, standing)?
                } else {
                    let places = *places;
                    Preview {
                        places,
                        ..Preview::new(name, standing)
                    }
                };
                previews.push((preview, selections.clone()));
            }
            Some(Registered::NoStart { reason }) => {
                // At stake is what `start = "oldest"` would send.
                let selection = webhook.selection.clone();
                let preview = Preview::new(name, PreviewStanding::NoStart(reason.clone()));
                previews.push((preview, Selections::new(1, vec![(Seq::START, selection)])));
            }
            None => {}
        }
    }
    for (webhook_id, name) in known {
        if !kept.contains(&webhook_id) {
            let preview = Preview::of(ledger, webhook_id, name, PreviewStanding::Removed)?;
            previews.push((preview, ledger.selections(webhook_id)?));
        }
    }
    Ok(previews)
}

/// What of the queue's orders is meant by a plan.
fn count(queue: &Queue, plan: Vec<(Preview, Selections)>) -> Result<Vec<Preview>, store::Error> {
    let mut previews = Vec::new();
    for (mut preview, selections) in plan {
        for order_type in OrderType::ALL {
            let cursor = preview.places[order_type].cursor;
            let survey = queue.survey(order_type, cursor, &selections, SURVEY_MAX)?;
            preview.waiting[order_type] = survey;
            preview.parked += survey.parked;
        }
        previews.push(preview);
    }
    Ok(previews)
}

/// What a configuration means for one webhook.
#[derive(Debug, Clone)]
pub struct Preview {
    /// Its name.
    pub name: String,
    /// What becomes of what waits.
    pub standing: PreviewStanding,
    /// What waits for it, by order type.
    pub waiting: PerType<Survey>,
    /// What it collected and does not select (D25).
    pub parked: u64,
    /// The orders of the payload that it is busy with.
    pub pending: usize,
    /// What is wrong with it, if anything: its standing, and why.
    pub trouble: Option<String>,
    /// How far it has come.
    places: PerType<Place>,
}

impl Preview {
    fn new(name: String, standing: PreviewStanding) -> Self {
        Self {
            name,
            standing,
            waiting: PerType::default(),
            parked: 0,
            pending: 0,
            trouble: None,
            places: PerType::default(),
        }
    }

    /// What the ledger says of a webhook.
    fn of(
        ledger: &Ledger,
        webhook_id: WebhookId,
        name: String,
        standing: PreviewStanding,
    ) -> Result<Self, store::Error> {
        let lane = ledger.lane(webhook_id)?;
        let trouble = lane.standing.trouble();
        Ok(Self {
            parked: ledger.parked(webhook_id)?,
            pending: lane
                .head
                .as_ref()
                .map_or(0, |head| head.payload.members.seqs().len()),
            trouble: trouble
                .map(|trouble| format!("{}: {}", lane.standing.state().as_str(), trouble.reason)),
            places: lane.places,
            ..Self::new(name, standing)
        })
    }
}

impl From<Preview> for api::Planned {
    fn from(preview: Preview) -> Self {
        let (becomes, reason) = match preview.standing {
            PreviewStanding::Sends => (api::Becomes::Sends, None),
            PreviewStanding::Inactive => (api::Becomes::Inactive, None),
            PreviewStanding::NoStart(reason) => (api::Becomes::Held, Some(reason)),
            PreviewStanding::Removed => (api::Becomes::Removed, None),
        };
        let waiting = preview.waiting.iter();
        let waiting = waiting.filter(|(_, survey)| survey.waiting > 0);
        Self {
            name: preview.name,
            becomes,
            reason,
            waiting: waiting
                .map(|(order_type, survey)| {
                    let count = api::Count {
                        count: survey.waiting,
                        or_more: !survey.complete,
                    };
                    (order_type.to_string(), count)
                })
                .collect(),
            parked: preview.parked,
            pending: preview.pending as u64,
            trouble: preview.trouble,
        }
    }
}

/// What becomes of what waits for a webhook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PreviewStanding {
    /// It is sent.
    Sends,
    /// It waits until the webhook is active (D24).
    Inactive,
    /// The webhook is held until it says where it begins; why, and what to do (D27).
    NoStart(String),
    /// It waits for the webhook's return: the configuration does not have it (D27).
    Removed,
}

/// A preview looks at so many rows of an order type at most.
const SURVEY_MAX: u64 = 100_000;

/// Runs until it is told to stop, or can't go on. The stores must have been opened by the paths
/// of the first configuration.
///
/// If queue and ledger do not belong together, nothing is sent until somebody adopts the queue over the
/// admin socket; without a socket that is an error.
pub async fn run(stores: Stores, mut reins: Reins) -> Result<(), store::Error> {
    let notifier = Notifier::from_environment();
    let stores = match (stores.agree(), &mut reins.inbox) {
        (Ok(()), _) => stores,
        (Err(store::Error::Disagree(found)), Some(inbox)) => {
            let config = Arc::clone(&reins.reload.borrow());
            let waited = standstill::wait(stores, found, config, inbox, &mut reins.stop, &notifier);
            let Some(stores) = waited.await else {
                return Ok(());
            };
            stores
        }
        (Err(error), _) => return Err(error),
    };
    let Stores { queue, mut ledger } = stores;
    if let Err(error) = ledger.reserve() {
        warn!(
            "{error}; should the disk be full, outcomes may not be recorded, and nothing is sent meanwhile"
        );
    }
    if !queue.is_vouched() {
        info!(
            "the queue's tables or triggers were changed since it was made (VACUUM and ANALYZE count): each order's JSON is checked once more before it is sent, which is slower"
        );
    }
    let clock = ledger.clock();
    let path = queue.path().to_owned();
    let ledger_path = ledger.path().to_owned();
    let glance = queue.glance()?;
    let (queue, queue_thread) = QueueHandle::spawn(queue).map_err(|source| store::Error::Io {
        path: path.clone(),
        doing: "starting a thread",
        source,
    })?;
    let (noticed, _) = watch::channel(0);
    let (asked, _) = watch::channel(0);
    let (done, _) = watch::channel(0);
    let (stop, stopping) = watch::channel(false);
    let events = reins.inbox.as_ref().map(Inbox::events);
    let meters = reins.inbox.as_ref().map(Inbox::meters);
    let shared = Shared {
        teller: Teller(events.unwrap_or_else(|| broadcast::channel(1).0)),
        meters: meters.unwrap_or_default(),
        glance: Rc::new(glance),
        queue,
        ledger: LedgerHandle::new(ledger),
        clock,
        noticed,
        asked,
        done,
        stopping,
        told_to_stop: reins.stop.clone(),
        notifier,
    };
    let woken = shared.clone();
    let wal = files::with_suffix(&path, "-wal");
    let waking =
        tokio::task::spawn_local(async move { wake::look_when_written(woken, &wal).await });
    let config = Arc::clone(&reins.reload.borrow_and_update());
    let (in_force, config_in_force) = watch::channel(Arc::clone(&config));
    let (asked, reloads) = mpsc::channel(1);
    let mut lanes = Lanes {
        shared: shared.clone(),
        stop,
        ledger_path,
        running: BTreeMap::new(),
        tasks: JoinSet::new(),
        in_force,
        grants: reins.inbox.as_ref().map(Inbox::grants),
        reloads,
    };
    let (asked_backup, asked_backups) = mpsc::channel(1);
    let upkeep = Upkeep {
        shared: shared.clone(),
        config: config_in_force.clone(),
        asked: asked_backups,
    };
    let front = Front::new(shared, config_in_force, asked, asked_backup);
    let mut serving = JoinSet::new();
    match reins.inbox.take() {
        Some(mut inbox) => {
            let front = Rc::new(front);
            serving.spawn_local(async move { inbox.serve(front, std::future::pending()).await });
        }
        // It has handles of the stores, which are closed when the last of these is gone.
        None => drop(front),
    }
    let lasting = match lanes.begin(&config, &mut reins.stop).await {
        Ok(true) => {
            // The admin socket listens since before the files were looked at.
            lanes.shared.notifier.ready();
            info!(version = VERSION, "orderfeed {VERSION} runs");
            let upkeep = tokio::task::spawn_local(upkeep.run());
            let ended = lanes.govern(config, &mut reins).await;
            upkeep.abort();
            drop(upkeep.await);
            ended
        }
        Ok(false) => None,
        Err(error) => Some(error),
    };
    waking.abort();
    drop(waking.await);
    let ended = lanes.finish(lasting).await;
    serving.shutdown().await;
    // All handles are gone: both files are closed, and no WAL is left behind that could be
    // mistaken for another file's.
    if let Err(panicked) = queue_thread.join() {
        std::panic::resume_unwind(panicked);
    }
    ended
}

/// The lanes, by webhook.
struct Lanes {
    shared: Shared,
    /// `true` lets no lane start a further request.
    stop: watch::Sender<bool>,
    ledger_path: PathBuf,
    running: BTreeMap<WebhookId, watch::Sender<Option<Gear>>>,
    tasks: JoinSet<Halt>,
    /// The configuration that holds.
    in_force: watch::Sender<Arc<Config>>,
    /// What it grants to callers of the admin socket, if there is one.
    grants: Option<watch::Sender<Arc<Vec<Grant>>>>,
    /// Who asks over the admin socket for another configuration.
    reloads: mpsc::Receiver<Reload>,
}

impl Lanes {
    /// Gives every webhook its lane, and waits for that while a store refuses for a while; `false`
    /// if it was told to stop meanwhile.
    async fn begin(
        &mut self,
        config: &Config,
        stop: &mut watch::Receiver<bool>,
    ) -> Result<bool, store::Error> {
        let mut refused = None;
        loop {
            match self.apply(config).await {
                Ok(()) => return Ok(true),
                Err(error) if error.is_lasting() => return Err(error),
                Err(error) => {
                    self.shared.notifier.not_yet(&error.to_string());
                    // After a standstill the watchdog is there already.
                    self.shared.notifier.alive();
                    if refused.is_none() {
                        error!(
                            "{error}; nothing is sent until this is mended, and it is tried again every second"
                        );
                        refused = Some(self.shared.meters.refuses(error.to_string()));
                    }
                }
            }
            tokio::select! {
                _ = stop.changed() => return Ok(false),
                () = tokio::time::sleep(CHORE_GAP) => {}
            }
        }
    }

    /// Looks, marks and reloads until it is time to end; the error that ends it, if any.
    async fn govern(&mut self, mut config: Arc<Config>, reins: &mut Reins) -> Option<store::Error> {
        let mut poll = ticks(config.queue.poll_interval);
        let mut chores = ticks(CHORE_GAP);
        let mut mark = ticks(MARK_GAP);
        let mut marked = None;
        // What was said of it last, while the queue refuses.
        let mut refused: Option<(String, Refusal)> = None;
        let mut mark_refused = false;
        let mut chores_refused = false;
        let mut wal_pinned = false;
        loop {
            tokio::select! {
                _ = reins.stop.changed() => return None,
                Ok(()) = reins.reload.changed() => {
                    let next = Arc::clone(&reins.reload.borrow_and_update());
                    match self.reload(&config, &next).await {
                        Ok(next) => {
                            poll = ticks(next.queue.poll_interval);
                            config = next;
                        }
                        Err(error) if error.is_lasting() => return Some(error),
                        Err(error) => error!("{error}; the configuration is not reloaded, the old one holds"),
                    }
                }
                Some(Reload { config: next, reply }) = self.reloads.recv() => {
                    // Who asks waits for it, or has gone.
                    match self.reload(&config, &next).await {
                        Ok(next) => {
                            poll = ticks(next.queue.poll_interval);
                            config = next;
                            drop(reply.send(Ok(())));
                        }
                        Err(error) if error.is_lasting() => return Some(error),
                        Err(error) => drop(reply.send(Err(error))),
                    }
                }
                _ = poll.tick() => match self.shared.look().await {
                    Ok(()) => if refused.take().is_some() {
                        info!("the queue is back, and new orders are noticed");
                    },
                    Err(error) if error.is_lasting() => return Some(error),
                    Err(error) => {
                        let error = error.to_string();
                        if refused.as_ref().is_none_or(|(said, _)| *said != error) {
                            error!("{error}; new orders are not noticed until this is mended");
                            let refusal = self.shared.meters.refuses(error.clone());
                            refused = Some((error, refusal));
                        }
                    }
                },
                _ = chores.tick() => match self.chores(&config).await {
                    Ok(None) => (chores_refused, wal_pinned) = (false, false),
                    Ok(Some(pages)) => if !std::mem::replace(&mut wal_pinned, true) {
                        let mebibytes = pages / 256;
                        warn!("{}-wal has grown to {mebibytes} MiB, and grows on: a program reads the queue in a transaction that it does not end, or commits without a pause; deliveries go on, but find it (`fuser` names who has the file open)", config.queue.path.display());
                    },
                    Err(error) if !chores_refused => {
                        warn!("{error}; deliveries go on, and this is tried again every second");
                        chores_refused = true;
                    }
                    Err(_again) => {}
                },
                _ = mark.tick() => match self.mark(&mut marked, Duration::ZERO).await {
                    Ok(()) => mark_refused = false,
                    Err(error) if !mark_refused => {
                        warn!("{error}; the queue is not told how far the ledger came, and will be later");
                        mark_refused = true;
                    }
                    Err(_again) => {}
                },
                // A lane only ends by itself when a store is lastingly out of order.
                Some(ended) = self.tasks.join_next() => match ended {
                    Ok(Halt::Store(error)) => return Some(error),
                    Ok(Halt::Stopped) => {}
                    Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
                },
            }
        }
    }

    /// What can wait, and holds up nothing when it fails; the pages of a WAL that grows on.
    async fn chores(&self, config: &Config) -> Result<Option<i64>, store::Error> {
        let copied = self.shared.queue.call(Queue::checkpoint).await;
        let kept = self.shared.ledger.get().keep_clock(&Reading::take());
        // Both have answered, if only to refuse.
        self.shared.notifier.alive();
        let status = self
            .shared
            .notifier
            .tell_status(&self.shared, self.kept(config));
        status.await;
        kept.and(copied)
    }

    /// Which lane each configured webhook has.
    fn kept(&self, config: &Config) -> Vec<(WebhookName, Kept)> {
        let lane_of = |name: &WebhookName| {
            let is_named = |gear: &Option<Gear>| {
                gear.as_ref()
                    .is_some_and(|gear| gear.settings.name == *name)
            };
            let lane = self
                .running
                .iter()
                .find(|(_, gear)| is_named(&gear.borrow()));
            lane.map_or(Kept::Nowhere, |(webhook_id, _)| Kept::Lane(*webhook_id))
        };
        let names = config.webhooks.iter().map(|webhook| &webhook.name);
        names.map(|name| (name.clone(), lane_of(name))).collect()
    }

    /// Ends all lanes, each after its request in flight.
    async fn finish(mut self, lasting: Option<store::Error>) -> Result<(), store::Error> {
        let mut lasting = lasting;
        self.stop.send_replace(true);
        self.shared.notifier.stopping();
        if let Some(error) = &lasting {
            error!("{error}; stopping: no further request is started, those in flight may finish");
        }
        if lasting
            .as_ref()
            .is_some_and(|error| error.path() == Some(&self.ledger_path))
        {
            // What is in flight can't be recorded: at the next start it counts as interrupted.
            self.tasks.shutdown().await;
        }
        while let Some(ended) = self.tasks.join_next().await {
            if let Ok(Halt::Store(error)) = ended {
                lasting.get_or_insert(error);
            }
        }
        if let Err(error) = self.mark(&mut None, MARK_PATIENCE_AT_END).await {
            warn!("{error}; the queue is not told how far the ledger came");
        }
        lasting.map_or(Ok(()), Err)
    }

    /// Goes on with another configuration, all of it or nothing; what is in force then.
    async fn reload(&mut self, old: &Config, new: &Config) -> Result<Arc<Config>, store::Error> {
        for note in needs_restart(old, new) {
            warn!("{note}; the rest is reloaded");
        }
        self.apply(new).await?;
        let mut in_force = new.clone();
        // Whoever looks into the files is to find those that are open.
        in_force.queue.path.clone_from(&old.queue.path);
        in_force.ledger.path.clone_from(&old.ledger.path);
        in_force.admin.socket.clone_from(&old.admin.socket);
        let in_force = Arc::new(in_force);
        self.in_force.send_replace(Arc::clone(&in_force));
        if let Some(grants) = &self.grants {
            grants.send_replace(Arc::new(new.admin.grants.clone()));
        }
        telemetry::change(&new.log);
        info!("the configuration {} is reloaded", new.file.display());
        Ok(in_force)
    }

    /// Gives every webhook its settings, and every new one a lane: all of it, or nothing.
    async fn apply(&mut self, config: &Config) -> Result<(), store::Error> {
        // What may fail comes first.
        let mut senders = senders(config).await?;
        let registered = self.register(config).await?;
        let mut gear: BTreeMap<WebhookId, Gear> = BTreeMap::new();
        for webhook in &config.webhooks {
            let sender = senders.remove(&webhook.name);
            match (registered.get(&webhook.name), sender) {
                (Some(Registered::Known(webhook_id, ..)), Some(sender)) => {
                    let settings = Arc::new(Settings {
                        name: webhook.name.clone(),
                        policy: webhook.policy.clone(),
                    });
                    gear.insert(*webhook_id, Gear { settings, sender });
                }
                (Some(Registered::NoStart { reason }), _) => {
                    error!(webhook = %webhook.name, "{}: held: {reason}", webhook.name);
                }
                (Some(Registered::Known(..)) | None, _) => {}
            }
        }
        // A request in flight goes on with what it began with; the next one takes the new.
        for (webhook_id, running) in &self.running {
            running.send_replace(gear.remove(webhook_id));
        }
        let mut gear: BTreeMap<_, _> = gear
            .into_iter()
            .map(|(id, gear)| (id, Some(gear)))
            .collect();
        for webhook_id in self.shared.ledger.get().unsettled()? {
            // Of one that was removed, what was cut off is settled all the same, and discards are heeded.
            if !self.running.contains_key(&webhook_id) {
                gear.entry(webhook_id).or_insert(None);
            }
        }
        for (webhook_id, gear) in gear {
            let (running, gear) = watch::channel(gear);
            let mut shell = LaneShell::new(webhook_id, self.shared.clone(), gear);
            self.running.insert(webhook_id, running);
            self.tasks
                .spawn_local(async move { lane::drive(webhook_id, &mut shell).await });
        }
        Ok(())
    }

    /// Registers the webhooks. Meanwhile no new order is noticed, so that nobody reads one by what
    /// a webhook subscribed to before it was queued (D25).
    async fn register(
        &self,
        config: &Config,
    ) -> Result<BTreeMap<WebhookName, Registered>, store::Error> {
        self.shared.look().await?;
        let newest = self.shared.queue.call(|queue| Ok(queue.hold())).await?;
        let webhooks = config.configured();
        let registered = self
            .shared
            .ledger
            .get()
            .configure(&webhooks, newest, WallTime::now());
        let selections = registered.as_ref().ok().map(|registered| {
            let known = |registered: &Registered| match registered {
                Registered::Known(webhook_id, _, selections) => {
                    Some((*webhook_id, selections.clone()))
                }
                Registered::NoStart { .. } => None,
            };
            registered.values().filter_map(known).collect()
        });
        let noticed = self.shared.noticed.clone();
        let clock = self.shared.clock;
        let subscribe = move |queue: &mut Queue| {
            queue.subscribe(selections);
            // What was read ahead by the old ones is not used any more.
            noticed.send_modify(|count| *count += 1);
            // What was committed meanwhile, before anybody decides what goes first.
            queue.look(clock.now()).map(drop)
        };
        self.shared.queue.call(subscribe).await?;
        registered
    }

    /// Tells the queue how far the ledger came, unless a producer is writing all the while.
    async fn mark(
        &self,
        marked: &mut Option<PayloadId>,
        patience: Duration,
    ) -> Result<(), store::Error> {
        let (ledger_id, last_sealed) = {
            let ledger = self.shared.ledger.get();
            (ledger.ledger_id().to_owned(), ledger.last_sealed())
        };
        if last_sealed.is_none() || last_sealed == *marked {
            return Ok(());
        }
        let done = self
            .shared
            .queue
            .call(move |queue| queue.mark(&ledger_id, last_sealed, patience))
            .await?;
        if done {
            *marked = last_sealed;
        }
        Ok(())
    }
}

/// What of a configuration does not take effect before the next start, in words.
fn needs_restart(old: &Config, new: &Config) -> Vec<String> {
    let paths = [
        ("queue.path", &old.queue.path, &new.queue.path),
        ("ledger.path", &old.ledger.path, &new.ledger.path),
        ("admin.socket", &old.admin.socket, &new.admin.socket),
    ];
    paths
        .into_iter()
        .filter(|(_, old, new)| old != new)
        .map(|(key, ..)| format!("{key} takes effect at the next start"))
        .collect()
}

/// What sends, for each webhook. The system's certificates are read for each of those that need
/// them, which takes a while: on a thread beside, so that no lane waits for it.
async fn senders(config: &Config) -> Result<BTreeMap<WebhookName, Arc<Sender>>, store::Error> {
    let endpoints: Vec<_> = config
        .webhooks
        .iter()
        .map(|webhook| (webhook.name.clone(), webhook.endpoint.clone()))
        .collect();
    let make = move || {
        let sender = |(name, endpoint)| Ok((name, Arc::new(Sender::new(&endpoint)?)));
        endpoints.into_iter().map(sender).collect()
    };
    let made: Result<_, SetUpError> = tokio::task::spawn_blocking(make)
        .await
        .expect("nothing in there panics, and nobody cancels it");
    made.map_err(|source| store::Error::Io {
        path: config.file.clone(),
        doing: "setting up the connections",
        source: std::io::Error::other(source),
    })
}

fn ticks(period: Duration) -> tokio::time::Interval {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}
