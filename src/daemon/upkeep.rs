//! The daemon's chores: pruning and backups, one at a time, each when it is due or asked for.
//!
//! A cron job says each second that it may be time; what is due is found out here, by what the
//! ledger says of the last time, so that a chore that was missed is made up for. Deliveries wait for
//! none of this.

use std::cell::RefCell;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio_cron_scheduler::{Job, JobScheduler, JobSchedulerError};
use tracing::{error, info, warn};

use super::prune::{self, Stores};
use super::shell::Shared;
use crate::admin::api;
use crate::clock::WallTime;
use crate::config::{Config, Schedule};
use crate::failpoint;
use crate::feed::order::Seq;
use crate::feed::timestamp::Timestamp;
use crate::store::backup::{self, Backup, Draft};
use crate::store::ledger::Ledger;
use crate::store::ledger::chores::Chore;
use crate::store::queue::Queue;
use crate::store::worker::QueueHandle;
use crate::store::{self};

/// When chores are looked after: each second.
const EACH_SECOND: &str = "* * * * * *";

/// After a slice of work others go first for so long.
const REST: Duration = Duration::from_millis(10);

/// Somebody asks for a backup now.
pub(super) type AskedBackup = oneshot::Sender<Result<api::BackedUp, api::Error>>;

/// Who does the chores.
pub(super) struct Upkeep {
    pub(super) shared: Shared,
    pub(super) config: watch::Receiver<Arc<Config>>,
    pub(super) asked: mpsc::Receiver<AskedBackup>,
}

impl Upkeep {
    /// Does what is due, for as long as the daemon runs.
    pub(super) async fn run(mut self) {
        let (signal, mut signals) = mpsc::channel(1);
        let _scheduler = match schedule(signal.clone()).await {
            Ok(scheduler) => Some(scheduler),
            Err(error) => {
                error!(
                    "chores can't be scheduled: {error}; nothing is pruned, and no backup is made but when somebody asks"
                );
                None
            }
        };
        let mut begun = Chore::ALL.map(|chore| self.last_begun(chore));
        loop {
            tokio::select! {
                Some(()) = signals.recv() => {
                    for (chore, begun) in Chore::ALL.into_iter().zip(&mut begun) {
                        self.do_if_due(chore, begun).await;
                    }
                }
                Some(reply) = self.asked.recv() => {
                    let done = self.back_up().await;
                    let done = done.map(api::BackedUp::from).map_err(api::Error::from);
                    drop(reply.send(done));
                }
                else => return,
            }
        }
    }

    /// Does a chore, if it came since it was last begun.
    async fn do_if_due(&self, chore: Chore, begun: &mut WallTime) {
        let config = Arc::clone(&self.config.borrow());
        let schedule: Option<&Schedule> = match chore {
            Chore::Prune => config.maintenance.prune_at.as_ref(),
            Chore::Backup => config.maintenance.backup_at.as_ref(),
        };
        let now = WallTime::now();
        let Some(schedule) = schedule else {
            *begun = now;
            return;
        };
        // Were the clock set back, it would be put off until that time comes again.
        *begun = now.min(*begun);
        if !schedule.is_due(*begun, now) {
            return;
        }
        *begun = now;
        match chore {
            Chore::Prune => self.prune().await,
            Chore::Backup => drop(self.back_up().await),
        }
    }

    /// When a chore was begun last, by an earlier run of the daemon; now, if it never was.
    fn last_begun(&self, chore: Chore) -> WallTime {
        let course = self.shared.ledger.get().chore(chore).ok().flatten();
        course.map_or_else(WallTime::now, |course| course.begun_at)
    }

    fn begin(&self, chore: Chore) {
        let begun = self.shared.ledger.get().begin_chore(chore, WallTime::now());
        if let Err(error) = begun {
            warn!("{error}; it is done all the same");
        }
    }

    fn end(&self, chore: Chore, done: Result<&str, &str>) {
        let ended = self
            .shared
            .ledger
            .get()
            .end_chore(chore, WallTime::now(), done);
        if let Err(error) = ended {
            warn!("{error}; `orderfeed status` does not know that it ended");
        }
    }

    async fn prune(&self) {
        self.begin(Chore::Prune);
        let retention = self.config.borrow().maintenance.retention;
        let pruned = match PruneStores::open(&self.shared).await {
            Ok(stores) => prune::prune(&stores, retention).await,
            Err(error) => Err(error),
        };
        match pruned {
            Ok(pruned) => {
                for name in &pruned.webhooks {
                    warn!(webhook = %name, "{name} was removed from the configuration longer than maintenance.retention ago: its place is given up");
                }
                let words = pruned.to_string();
                info!(
                    orders = pruned.orders,
                    payloads = pruned.payloads,
                    "pruned: {words}"
                );
                self.end(Chore::Prune, Ok(&words));
            }
            Err(error) => {
                let error = error.to_string();
                error!("not all could be pruned: {error}; it goes on the next time");
                self.end(Chore::Prune, Err(&error));
            }
        }
    }

    async fn back_up(&self) -> Result<Backup, store::Error> {
        self.begin(Chore::Backup);
        let done = self.make_backup().await;
        match &done {
            Ok(backup) => {
                let folder = backup.folder.display();
                info!(bytes = backup.bytes, "backed up to {folder}");
                self.end(Chore::Backup, Ok(&folder.to_string()));
            }
            Err(error) => {
                let error = error.to_string();
                error!("no backup was made: {error}; earlier ones are left as they are");
                self.end(Chore::Backup, Err(&error));
            }
        }
        done
    }

    async fn make_backup(&self) -> Result<Backup, store::Error> {
        let config = Arc::clone(&self.config.borrow());
        let queue: PathBuf = config.queue.path.clone();
        let (dir, keep) = (
            config.maintenance.backup_dir.clone(),
            config.maintenance.backup_keep,
        );
        let copying = CopyGuard(&self.shared);
        let image = self.shared.ledger.get().begin_copy()?;
        let at = WallTime::now();
        let draft = beside(move || {
            let draft = Draft::begin(&dir, at)?;
            draft.copy_ledger(&image)?;
            Ok(draft)
        })
        .await?;
        drop(copying);
        failpoint::reach("backup_ledger");
        let dir = config.maintenance.backup_dir.clone();
        beside(move || {
            draft.copy_queue(&queue)?;
            failpoint::reach("backup_queue");
            let backup = draft.finish()?;
            failpoint::reach("backup_finished");
            if let Err(error) = backup::rotate(&dir, keep, &backup.folder) {
                warn!("{error}; the backups grow in number");
            }
            Ok(backup)
        })
        .await
    }
}

/// Lets the ledger's file change again when it is dropped, also when the daemon ends meanwhile.
struct CopyGuard<'a>(&'a Shared);

impl Drop for CopyGuard<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.0.ledger.get().end_copy() {
            warn!("{error}; the ledger's WAL grows until the next start");
        }
    }
}

/// Does what takes a while on a thread beside.
async fn beside<T: Send + 'static>(
    job: impl FnOnce() -> Result<T, store::Error> + Send + 'static,
) -> Result<T, store::Error> {
    tokio::task::spawn_blocking(job)
        .await
        .expect("nothing in there panics, and nobody cancels it")
}

/// Says each second that it may be time.
async fn schedule(signal: mpsc::Sender<()>) -> Result<JobScheduler, JobSchedulerError> {
    let scheduler = JobScheduler::new().await?;
    let job = Job::new_async(EACH_SECOND, move |_, _| {
        let signal = signal.clone();
        Box::pin(async move {
            if signal.try_send(()).is_err() {
                // Busy: it hears of it the next time.
            }
        })
    })?;
    scheduler.add(job).await?;
    scheduler.start().await?;
    Ok(scheduler)
}

/// The daemon's stores, for pruning: the queue on a thread of its own.
struct PruneStores<'a> {
    shared: &'a Shared,
    queue: RefCell<Option<(QueueHandle, JoinHandle<()>)>>,
}

impl<'a> PruneStores<'a> {
    async fn open(shared: &'a Shared) -> Result<Self, store::Error> {
        let path = shared
            .queue
            .call(|queue| Ok(queue.path().to_owned()))
            .await?;
        let spawned = QueueHandle::spawn(Queue::open(&path)?);
        let spawned = spawned.map_err(|source| store::Error::Io {
            path,
            doing: "starting a thread",
            source,
        })?;
        Ok(Self {
            shared,
            queue: RefCell::new(Some(spawned)),
        })
    }
}

/// The thread has closed the queue when this is gone: whoever closes it last removes its WAL.
impl Drop for PruneStores<'_> {
    fn drop(&mut self) {
        if let Some((handle, thread)) = self.queue.borrow_mut().take() {
            drop(handle);
            drop(thread.join());
        }
    }
}

impl Stores for PruneStores<'_> {
    fn now(&self) -> Timestamp {
        self.shared.clock.now()
    }

    fn wall(&self) -> WallTime {
        WallTime::now()
    }

    async fn newest_noticed(&self) -> Result<Seq, store::Error> {
        self.shared
            .queue
            .call(|queue| Ok(queue.newest_noticed()))
            .await
    }

    async fn ledger<T: 'static>(
        &self,
        job: impl FnOnce(&mut Ledger) -> Result<T, store::Error> + 'static,
    ) -> Result<T, store::Error> {
        job(&mut self.shared.ledger.caught_up())
    }

    async fn queue<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Queue) -> Result<T, store::Error> + Send + 'static,
    ) -> Result<T, store::Error> {
        let queue = self.queue.borrow().as_ref().map(|(queue, _)| queue.clone());
        match queue {
            Some(queue) => queue.call(job).await,
            None => Err(store::Error::Stopped),
        }
    }

    async fn rest(&self, point: &'static str) {
        failpoint::reach(point);
        tokio::time::sleep(REST).await;
    }
}
