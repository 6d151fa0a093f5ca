//! Where the admin socket's thread hands over what it is asked, and the lanes' thread takes it.
//!
//! The ledger belongs to the lanes' thread, so whatever needs it is a job that is done there:
//! short, or in slices with yields between, as every lane waits meanwhile.

use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::{broadcast, mpsc, oneshot, watch};

use super::api::{self, Error, act};
use super::meters::Meters;
use crate::clock::{Clock, WallTime};
use crate::config::{Config, Grant};
use crate::feed::order::PerType;
use crate::store::ledger::Ledger;
use crate::store::worker::{LedgerHandle, QueueHandle};

/// So many jobs wait for the lanes' thread at most, and so many are under way there; whoever has
/// one more waits.
pub const JOBS_MAX: usize = 32;

/// So many events are kept for those who read them; who is further behind misses some.
pub const EVENTS_MAX: usize = 1_024;

/// Something that is done on the lanes' thread.
pub type Task<T> = Pin<Box<dyn Future<Output = T>>>;

type Job = Box<dyn FnOnce(Rc<dyn Operator>) -> Task<()> + Send>;

/// What the daemon can be asked and told, on the lanes' thread.
pub trait Operator {
    /// What questions are answered from; an error while there is nothing to answer from.
    fn ground(&self) -> Result<Ground, Error>;
    /// Does something with the ledger alone, also while there is nothing else to answer from.
    fn with_ledger(&self, job: Box<dyn FnOnce(&mut Ledger)>) -> Result<(), Error> {
        job(&mut self.ground()?.ledger.get());
        Ok(())
    }
    /// The configuration that is in force, and since when the daemon delivers by it.
    fn config(&self) -> Result<(Arc<Config>, Option<WallTime>), Error> {
        let ground = self.ground()?;
        Ok((ground.config, Some(ground.started_at)))
    }
    /// Whether all is well.
    fn health(&self) -> Task<Result<api::Health, Error>>;
    /// Sends payloads again.
    fn resend(&self, _ask: act::Resend) -> Task<Result<act::Resends, Error>> {
        refuse(self.ground())
    }
    /// Gives a payload up.
    fn discard(
        &self,
        _payload_id: String,
        _ask: act::Discard,
    ) -> Task<Result<act::Discarded, Error>> {
        refuse(self.ground())
    }
    /// Lets a webhook send nothing of its own; `by` says who wants that.
    fn pause(&self, _webhook: String, _by: String) -> Task<Result<act::Told, Error>> {
        refuse(self.ground())
    }
    /// Lets it go on.
    fn resume(&self, _webhook: String) -> Task<Result<act::Told, Error>> {
        refuse(self.ground())
    }
    /// Lets it try again at once.
    fn retry_now(&self, _webhook: String) -> Task<Result<act::Told, Error>> {
        refuse(self.ground())
    }
    /// Tests it.
    fn test(&self, _webhook: String, _ask: act::Test) -> Task<Result<act::Tests, Error>> {
        refuse(self.ground())
    }
    /// Takes an order back, if it is of a type that is granted.
    fn withdraw(
        &self,
        _tracking_number: String,
        _ask: act::Withdraw,
        _granted: PerType<bool>,
    ) -> Task<Result<act::Withdrawn, Error>> {
        refuse(self.ground())
    }
    /// Copies both files.
    fn back_up(&self) -> Task<Result<api::BackedUp, Error>> {
        refuse(self.ground())
    }
    /// Reads the configuration again; with `dry_run`, only says what would become of it.
    fn reload(&self, dry_run: bool) -> Task<Result<api::Reloaded, Error>>;
    /// Goes on with a queue that is not the one that the ledger knows.
    fn adopt_queue(&self, asked: api::AdoptQueue) -> Task<Result<api::Adopted, Error>>;
}

/// Nothing can be done while there is nothing to do it with.
fn refuse<T: 'static>(ground: Result<Ground, Error>) -> Task<Result<T, Error>> {
    let refused = ground.err().unwrap_or_else(Error::stopping);
    Box::pin(async move { Err(refused) })
}

/// What questions are answered from, on the lanes' thread.
#[derive(Clone, Debug)]
pub struct Ground {
    /// The ledger; no borrow of it may last over an await.
    pub ledger: LedgerHandle,
    /// The queue, on its thread. Lanes wait for it: nothing long is done there.
    pub queue: QueueHandle,
    /// The ledger's clock.
    pub clock: Clock,
    /// The configuration that is in force.
    pub config: Arc<Config>,
    /// Since when the daemon runs.
    pub started_at: WallTime,
}

/// The admin thread's side.
#[derive(Clone)]
pub struct Desk {
    jobs: mpsc::Sender<Job>,
    events: broadcast::Sender<api::Event>,
    meters: Meters,
}

impl Desk {
    pub(super) const fn new(
        jobs: mpsc::Sender<Job>,
        events: broadcast::Sender<api::Event>,
        meters: Meters,
    ) -> Self {
        Self {
            jobs,
            events,
            meters,
        }
    }

    /// What was counted since the start.
    pub fn meters(&self) -> Meters {
        self.meters.clone()
    }

    /// What happens from now on.
    pub fn events(&self) -> broadcast::Receiver<api::Event> {
        self.events.subscribe()
    }

    /// Has something done on the lanes' thread, and waits for what comes of it. Once begun, it is
    /// done even if nobody waits any more.
    pub async fn ask<T: Send + 'static>(
        &self,
        job: impl AsyncFnOnce(Rc<dyn Operator>) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        let job: Job = Box::new(move |operator| {
            Box::pin(async move {
                let done = job(operator).await;
                drop(reply.send(done));
            })
        });
        self.jobs
            .send(job)
            .await
            .map_err(|_gone| Error::stopping())?;
        answer.await.map_err(|_gone| Error::stopping())?
    }
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Desk").finish_non_exhaustive()
    }
}

/// The lanes' thread's side.
pub struct Inbox {
    jobs: mpsc::Receiver<Job>,
    grants: watch::Sender<Arc<Vec<Grant>>>,
    events: broadcast::Sender<api::Event>,
    meters: Meters,
}

impl Inbox {
    pub(super) const fn new(
        jobs: mpsc::Receiver<Job>,
        grants: watch::Sender<Arc<Vec<Grant>>>,
        events: broadcast::Sender<api::Event>,
        meters: Meters,
    ) -> Self {
        Self {
            jobs,
            grants,
            events,
            meters,
        }
    }

    /// What happens is counted here.
    pub fn meters(&self) -> Meters {
        self.meters.clone()
    }

    /// What happens is told here.
    pub fn events(&self) -> broadcast::Sender<api::Event> {
        self.events.clone()
    }

    /// What is sent here holds from then on.
    pub fn grants(&self) -> watch::Sender<Arc<Vec<Grant>>> {
        self.grants.clone()
    }

    /// Has the operator do what is asked, until then; what is under way is finished. Runs on a
    /// `LocalSet`.
    pub async fn serve(&mut self, operator: Rc<dyn Operator>, until: impl Future<Output = ()>) {
        let mut until = std::pin::pin!(until);
        let mut under_way = tokio::task::JoinSet::new();
        loop {
            tokio::select! {
                Some(done) = under_way.join_next() => {
                    if let Err(panicked) = done && panicked.is_panic() {
                        std::panic::resume_unwind(panicked.into_panic());
                    }
                }
                job = self.jobs.recv(), if under_way.len() < JOBS_MAX => match job {
                    Some(job) => drop(under_way.spawn_local(job(Rc::clone(&operator)))),
                    None => break,
                },
                () = until.as_mut() => break,
            }
        }
        while under_way.join_next().await.is_some() {}
    }
}

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbox").finish_non_exhaustive()
    }
}
