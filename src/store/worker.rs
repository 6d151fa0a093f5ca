//! A thread of its own for each of the two files, so that nothing asynchronous ever waits for a
//! disk or a lock.

use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread::{self, JoinHandle};

use tokio::sync::oneshot;

use super::Error;
use super::ledger::{Commit, Ledger};
use super::queue::Queue;

/// Jobs that wait for a thread, at most; who asks for one more waits.
const JOBS_MAX: usize = 1_024;

/// Commits that share a transaction, at most.
const SHARED_MAX: usize = 64;

/// The queue, on its thread.
#[derive(Clone, Debug)]
pub struct QueueHandle(SyncSender<Job<Queue>>);

/// The ledger, on its thread.
#[derive(Clone, Debug)]
pub struct LedgerHandle(SyncSender<LedgerJob>);

type Job<T> = Box<dyn FnOnce(&mut T) + Send>;

enum LedgerJob {
    Do(Job<Ledger>),
    Record(Box<Commit>, oneshot::Sender<Result<(), Error>>),
}

impl QueueHandle {
    /// Gives the queue to a thread, which ends, and closes it, when all handles are gone.
    pub fn spawn(mut queue: Queue) -> std::io::Result<(Self, JoinHandle<()>)> {
        let (sender, jobs) = sync_channel::<Job<Queue>>(JOBS_MAX);
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
        let (reply, answer) = oneshot::channel();
        let job: Job<Queue> = Box::new(move |queue| drop(reply.send(job(queue))));
        self.0.send(job).map_err(|_gone| Error::Stopped)?;
        answer.await.map_err(|_gone| Error::Stopped)?
    }
}

impl LedgerHandle {
    /// Gives the ledger to a thread, which ends, and closes it, when all handles are gone.
    pub fn spawn(mut ledger: Ledger) -> std::io::Result<(Self, JoinHandle<()>)> {
        let (sender, jobs) = sync_channel::<LedgerJob>(JOBS_MAX);
        let thread = thread::Builder::new()
            .name("ledger".to_owned())
            .spawn(move || serve(&mut ledger, &jobs))?;
        Ok((Self(sender), thread))
    }

    /// Does it on the ledger's thread.
    pub async fn call<R: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Ledger) -> Result<R, Error> + Send + 'static,
    ) -> Result<R, Error> {
        let (reply, answer) = oneshot::channel();
        let job: Job<Ledger> = Box::new(move |ledger| drop(reply.send(job(ledger))));
        self.0
            .send(LedgerJob::Do(job))
            .map_err(|_gone| Error::Stopped)?;
        answer.await.map_err(|_gone| Error::Stopped)?
    }

    /// Records a commit; lanes that are ready together share one transaction, and so one sync.
    pub async fn record(&self, commit: Commit) -> Result<(), Error> {
        let (reply, answer) = oneshot::channel();
        self.0
            .send(LedgerJob::Record(Box::new(commit), reply))
            .map_err(|_gone| Error::Stopped)?;
        answer.await.map_err(|_gone| Error::Stopped)?
    }
}

fn serve(ledger: &mut Ledger, jobs: &Receiver<LedgerJob>) {
    while let Ok(job) = jobs.recv() {
        let mut next = Some(job);
        while let Some(job) = next.take() {
            match job {
                LedgerJob::Do(job) => job(ledger),
                LedgerJob::Record(commit, reply) => {
                    let (mut commits, mut replies) = (vec![*commit], vec![reply]);
                    while commits.len() < SHARED_MAX {
                        match jobs.try_recv() {
                            Ok(LedgerJob::Record(commit, reply)) => {
                                commits.push(*commit);
                                replies.push(reply);
                            }
                            Ok(other) => {
                                next = Some(other);
                                break;
                            }
                            Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
                        }
                    }
                    record(ledger, &commits, replies);
                }
            }
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
