//! Who does the blocking: the queue has a thread of its own, the ledger is shared by the lanes.
//!
//! The queue is read while requests are in flight, so its reader is elsewhere. A commit to the
//! ledger is what a lane's next request waits for: done by the lanes' own thread it costs the sync
//! alone, where handing it over and back costs as much again.

use std::cell::{RefCell, RefMut};
use std::rc::Rc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use tokio::sync::oneshot;

use super::Error;
use super::ledger::{Commit, Ledger};
use super::queue::Queue;

/// Jobs that wait for the queue's thread, at most; who asks for one more waits.
const JOBS_MAX: usize = 1_024;

/// Commits that share a transaction, at most.
const SHARED_MAX: usize = 64;

/// The queue, on its thread.
#[derive(Clone, Debug)]
pub struct QueueHandle(SyncSender<Job>);

type Job = Box<dyn FnOnce(&mut Queue) + Send>;

impl QueueHandle {
    /// Gives the queue to a thread, which ends, and closes it, when all handles are gone.
    pub fn spawn(mut queue: Queue) -> std::io::Result<(Self, JoinHandle<()>)> {
        let (sender, jobs) = sync_channel::<Job>(JOBS_MAX);
        let thread = thread::Builder::new()
            .name("queue".to_owned())
            .spawn(move || {
                for job in jobs {
                    job(&mut queue);
                }
            })?;
        Ok((Self(sender), thread))
    }

    /// Does it on the queue's thread.
    pub async fn call<R: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Queue) -> Result<R, Error> + Send + 'static,
    ) -> Result<R, Error> {
        self.begin(job)?.await.map_err(|_gone| Error::Stopped)?
    }

    /// Has it done on the queue's thread; what comes of it can be asked for later.
    pub fn begin<R: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Queue) -> Result<R, Error> + Send + 'static,
    ) -> Result<oneshot::Receiver<Result<R, Error>>, Error> {
        let (reply, answer) = oneshot::channel();
        let job: Job = Box::new(move |queue| drop(reply.send(job(queue))));
        self.0.send(job).map_err(|_gone| Error::Stopped)?;
        Ok(answer)
    }
}

/// The ledger, shared by all on the lanes' thread; closed when all handles are gone.
#[derive(Clone, Debug)]
pub struct LedgerHandle(Rc<RefCell<Shared>>);

#[derive(Debug)]
struct Shared {
    ledger: Ledger,
    /// What is yet to be recorded, and who waits for it.
    waiting: Vec<(Commit, oneshot::Sender<Result<(), Error>>)>,
}

impl LedgerHandle {
    /// Shares the ledger.
    pub fn new(ledger: Ledger) -> Self {
        let waiting = Vec::new();
        Self(Rc::new(RefCell::new(Shared { ledger, waiting })))
    }

    /// The ledger itself; not to be kept over an await.
    pub fn get(&self) -> RefMut<'_, Ledger> {
        RefMut::map(self.0.borrow_mut(), |shared| &mut shared.ledger)
    }

    /// The ledger with all that lanes have to record up to now: what an operator asks is judged by
    /// what really is. Not to be kept over an await.
    pub fn caught_up(&self) -> RefMut<'_, Ledger> {
        self.0.borrow_mut().record_waiting();
        self.get()
    }

    /// Records a commit; lanes that are ready together share one transaction, and so one sync.
    pub async fn record(&self, commit: Commit) -> Result<(), Error> {
        let (reply, answer) = oneshot::channel();
        self.0.borrow_mut().waiting.push((commit, reply));
        // Whoever else is ready now adds to it; the first that goes on records all.
        tokio::task::yield_now().await;
        self.0.borrow_mut().record_waiting();
        answer.await.map_err(|_gone| Error::Stopped)?
    }
}

impl Shared {
    fn record_waiting(&mut self) {
        while !self.waiting.is_empty() {
            let count = self.waiting.len().min(SHARED_MAX);
            let (commits, replies): (Vec<_>, Vec<_>) = self.waiting.drain(..count).unzip();
            record(&mut self.ledger, &commits, replies);
        }
    }
}

/// Records all, or, if that fails, each by itself: what is wrong with one is not the others'
/// trouble.
fn record(
    ledger: &mut Ledger,
    commits: &[Commit],
    replies: Vec<oneshot::Sender<Result<(), Error>>>,
) {
    let together = ledger.record(commits);
    if together.is_ok() || commits.len() == 1 {
        let mut together = Some(together);
        for reply in replies {
            drop(reply.send(together.take().unwrap_or(Ok(()))));
        }
        return;
    }
    for (commit, reply) in commits.iter().zip(replies) {
        drop(reply.send(ledger.record(std::slice::from_ref(commit))));
    }
}
