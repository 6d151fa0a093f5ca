//! What is asked over the admin socket, as the lanes' thread answers it.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};

use super::needs_restart;
use super::operator::Hand;
use super::shell::Shared;
use super::upkeep::AskedBackup;
use crate::admin::api::{self, Error, act};
use crate::admin::desk::{Ground, Operator, Task};
use crate::clock::WallTime;
use crate::config::Config;
use crate::feed::order::PerType;
use crate::store;
use crate::store::queue::Queue;

/// Somebody asks for another configuration.
#[derive(Debug)]
pub(super) struct Reload {
    pub(super) config: Arc<Config>,
    pub(super) reply: oneshot::Sender<Result<(), store::Error>>,
}

/// A running daemon's side of the admin socket.
pub(super) struct Front {
    shared: Shared,
    config: watch::Receiver<Arc<Config>>,
    reloads: mpsc::Sender<Reload>,
    backups: mpsc::Sender<AskedBackup>,
    started_at: WallTime,
}

impl Front {
    pub(super) fn new(
        shared: Shared,
        config: watch::Receiver<Arc<Config>>,
        reloads: mpsc::Sender<Reload>,
        backups: mpsc::Sender<AskedBackup>,
    ) -> Self {
        Self {
            shared,
            config,
            reloads,
            backups,
            started_at: WallTime::now(),
        }
    }

    fn hand(&self) -> Hand {
        Hand {
            shared: self.shared.clone(),
            config: self.config(),
        }
    }

    fn config(&self) -> Arc<Config> {
        Arc::clone(&self.config.borrow())
    }
}

impl Operator for Front {
    fn ground(&self) -> Result<Ground, Error> {
        Ok(Ground {
            ledger: self.shared.ledger.clone(),
            queue: self.shared.queue.clone(),
            clock: self.shared.clock,
            config: self.config(),
            started_at: self.started_at,
        })
    }

    fn health(&self) -> Task<Result<api::Health, Error>> {
        let (queue, meters) = (self.shared.queue.clone(), self.shared.meters.clone());
        Box::pin(async move {
            queue.call(|queue| queue.identity().map(drop)).await?;
            if let Some(what) = meters.refusing().into_iter().next() {
                return Err(Error::unavailable("store", what));
            }
            Ok(api::Health {
                status: "ok".to_owned(),
            })
        })
    }

    fn adopt_queue(&self, asked: api::AdoptQueue) -> Task<Result<api::Adopted, Error>> {
        let nothing = || {
            Error::conflict(
                "nothing_to_adopt",
                "queue and ledger belong together; there is nothing to adopt, and nothing was changed",
            )
        };
        Box::pin(async move { asked.meant().and_then(|_| Err(nothing())) })
    }

    fn resend(&self, ask: act::Resend) -> Task<Result<act::Resends, Error>> {
        let hand = self.hand();
        Box::pin(async move { hand.resend(&ask).await })
    }

    fn discard(
        &self,
        payload_id: String,
        ask: act::Discard,
    ) -> Task<Result<act::Discarded, Error>> {
        let hand = self.hand();
        Box::pin(async move { hand.discard(&payload_id, &ask).await })
    }

    fn pause(&self, webhook: String, by: String) -> Task<Result<act::Told, Error>> {
        let hand = self.hand();
        Box::pin(async move { hand.pause(&webhook, &by).await })
    }

    fn resume(&self, webhook: String) -> Task<Result<act::Told, Error>> {
        let hand = self.hand();
        Box::pin(async move { hand.resume(&webhook).await })
    }

    fn retry_now(&self, webhook: String) -> Task<Result<act::Told, Error>> {
        let hand = self.hand();
        Box::pin(async move { hand.retry_now(&webhook).await })
    }

    fn test(&self, webhook: String, ask: act::Test) -> Task<Result<act::Tests, Error>> {
        let hand = self.hand();
        Box::pin(async move { hand.test(&webhook, &ask).await })
    }

    fn withdraw(
        &self,
        tracking_number: String,
        ask: act::Withdraw,
        granted: PerType<bool>,
    ) -> Task<Result<act::Withdrawn, Error>> {
        let hand = self.hand();
        Box::pin(async move { hand.withdraw(&tracking_number, &ask, granted).await })
    }

    fn back_up(&self) -> Task<Result<api::BackedUp, Error>> {
        let backups = self.backups.clone();
        Box::pin(async move {
            let (reply, answer) = oneshot::channel();
            let gone = |()| Error::stopping();
            backups.send(reply).await.map_err(|_| gone(()))?;
            answer.await.map_err(|_| gone(()))?
        })
    }

    fn reload(&self, dry_run: bool) -> Task<Result<api::Reloaded, Error>> {
        let (old, reloads) = (self.config(), self.reloads.clone());
        let shared = self.shared.clone();
        Box::pin(async move {
            let file = old.file.clone();
            // Elsewhere: a file may lie on a disk that takes its time.
            let loaded = tokio::task::spawn_blocking(move || Config::load(&file)).await;
            let config = loaded
                .expect("nothing in there panics, and nobody cancels it")
                .map_err(|errors| Error::new(422, "bad_config", errors.to_string()))?;
            let config = Arc::new(config);
            let webhooks = if dry_run {
                plan_of(&shared, &config).await?
            } else {
                Vec::new()
            };
            let reloaded = api::Reloaded {
                reloaded: !dry_run,
                file: config.file.display().to_string(),
                notes: needs_restart(&old, &config),
                webhooks,
            };
            if !dry_run {
                let (reply, answer) = oneshot::channel();
                let asked = Reload { config, reply };
                let gone = |()| Error::stopping();
                reloads.send(asked).await.map_err(|_| gone(()))?;
                answer.await.map_err(|_| gone(()))??;
            }
            Ok(reloaded)
        })
    }
}

/// What the configuration would mean for each webhook.
async fn plan_of(shared: &Shared, config: &Config) -> Result<Vec<api::Planned>, store::Error> {
    let newest = shared
        .queue
        .call(|queue| Ok(queue.newest_noticed()))
        .await?;
    let plan = super::plan(&mut shared.ledger.get(), newest, config)?;
    // Counting may take a while: on a connection of its own, as the lanes wait for the other one.
    let path = shared
        .queue
        .call(|queue| Ok(queue.path().to_owned()))
        .await?;
    let now = shared.clock.now();
    let counted = tokio::task::spawn_blocking(move || {
        let mut queue = Queue::open(&path)?;
        queue.look(now)?;
        super::count(&queue, plan)
    });
    let previews = counted
        .await
        .expect("nothing in there panics, and nobody cancels it")?;
    Ok(previews.into_iter().map(api::Planned::from).collect())
}
