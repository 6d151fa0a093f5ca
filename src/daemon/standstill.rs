//! What the daemon does while queue and ledger do not belong together: it sends nothing, says on
//! the admin socket what it found, and goes on when somebody adopts the queue (contract, section 2).
//! What needs the ledger alone is answered: which payloads there are, and what became of them.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::{Notify, watch};
use tracing::{error, info};

use super::notify::Notifier;
use super::{CHORE_GAP, Stores, ticks};
use crate::admin::api::{self, Error};
use crate::admin::desk::{Ground, Inbox, Operator, Task};
use crate::clock::WallTime;
use crate::config::Config;
use crate::store::ledger::Ledger;

/// Stands still until the queue is adopted; `None` if it is told to stop before.
pub(super) async fn wait(
    stores: Stores,
    found: String,
    config: Arc<Config>,
    inbox: &mut Inbox,
    stop: &mut watch::Receiver<bool>,
    notifier: &Notifier,
) -> Option<Stores> {
    error!("{found}\nThe daemon stands still until then; it answers on the admin socket.");
    let standstill = Rc::new(Standstill {
        stores: Rc::new(RefCell::new(Some(stores))),
        found,
        config,
        adopted: Rc::new(Notify::new()),
    });
    let adopted = Rc::clone(&standstill.adopted);
    let mut stopped = false;
    // Whoever is to adopt it needs the socket, so this is a service that has started.
    notifier.stands_still();
    let mut chores = ticks(CHORE_GAP);
    let until = async {
        loop {
            tokio::select! {
                _ = stop.changed() => {
                    notifier.stopping();
                    stopped = true;
                    break;
                }
                () = adopted.notified() => break,
                _ = chores.tick() => notifier.alive(),
            }
        }
    };
    inbox
        .serve(Rc::clone(&standstill) as Rc<dyn Operator>, until)
        .await;
    let stores = standstill.stores.borrow_mut().take();
    stores.filter(|_| !stopped)
}

struct Standstill {
    /// `None` while they are being adopted.
    stores: Rc<RefCell<Option<Stores>>>,
    found: String,
    config: Arc<Config>,
    adopted: Rc<Notify>,
}

impl Standstill {
    fn mismatch(&self) -> Error {
        Error::unavailable("queue_mismatch", &self.found)
    }

    fn refuse<T: 'static>(&self) -> Task<Result<T, Error>> {
        let error = self.mismatch();
        Box::pin(async move { Err(error) })
    }
}

impl Operator for Standstill {
    fn ground(&self) -> Result<Ground, Error> {
        Err(self.mismatch())
    }

    fn with_ledger(&self, job: Box<dyn FnOnce(&mut Ledger)>) -> Result<(), Error> {
        let mut stores = self.stores.borrow_mut();
        let stores = stores.as_mut().ok_or_else(|| self.mismatch())?;
        job(&mut stores.ledger);
        Ok(())
    }

    /// As if no daemon ran: nothing is sent.
    fn config(&self) -> Result<(Arc<Config>, Option<WallTime>), Error> {
        Ok((Arc::clone(&self.config), None))
    }

    fn health(&self) -> Task<Result<api::Health, Error>> {
        self.refuse()
    }

    fn reload(&self, _dry_run: bool) -> Task<Result<api::Reloaded, Error>> {
        self.refuse()
    }

    fn adopt_queue(&self, asked: api::AdoptQueue) -> Task<Result<api::Adopted, Error>> {
        let (place, adopted) = (Rc::clone(&self.stores), Rc::clone(&self.adopted));
        Box::pin(async move {
            let meant = asked.meant()?;
            let Some(mut stores) = place.borrow_mut().take() else {
                return Err(Error::conflict(
                    "busy",
                    "the queue is being adopted already",
                ));
            };
            // Elsewhere: a producer may have to be waited for.
            let adopting = tokio::task::spawn_blocking(move || {
                let Stores { queue, ledger } = &mut stores;
                let now = ledger.clock().now();
                let adoption = queue.look(now).map_err(Error::from).and_then(|_| {
                    meant.check(queue).map_err(Error::invalid)?;
                    Ok(ledger.adopt(queue, meant, WallTime::now())?)
                });
                (stores, adoption)
            });
            let (stores, adoption) = adopting
                .await
                .expect("nothing in there panics, and nobody cancels it");
            let answer = adoption
                .map(|adoption| api::Adopted::new(adoption, &stores.queue, stores.ledger.path()));
            *place.borrow_mut() = Some(stores);
            let answer = answer?;
            info!("the queue is adopted, and all goes on");
            adopted.notify_one();
            Ok(answer)
        })
    }
}
