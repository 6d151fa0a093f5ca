//! The daemon's pruning (`daemon::prune`), over the simulated world: anything can come between
//! its steps, and it can end between any two.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use orderfeed::clock::WallTime;
use orderfeed::daemon::prune::{Stores, prune};
use orderfeed::feed::order::Seq;
use orderfeed::feed::timestamp::Timestamp;
use orderfeed::store::Error;
use orderfeed::store::ledger::Ledger;
use orderfeed::store::queue::Queue;

use crate::shell::pause;
use crate::world::World;

/// What was done with so long ago may go.
pub(crate) const RETENTION: Duration = Duration::from_secs(3);

/// Prunes, as the daemon does when it is time.
pub(crate) async fn run(world: Rc<RefCell<World>>) {
    let pruned = prune(&SimStores(Rc::clone(&world)), RETENTION).await;
    let pruned = pruned.expect("the stores answer");
    let mut world = world.borrow_mut();
    world.tell(None, &format!("pruned: {pruned}"));
    world.stats().count("pruned to the end");
}

struct SimStores(Rc<RefCell<World>>);

impl Stores for SimStores {
    fn now(&self) -> Timestamp {
        self.0.borrow().now()
    }

    fn wall(&self) -> WallTime {
        self.0.borrow().clocks.wall()
    }

    async fn newest_noticed(&self) -> Result<Seq, Error> {
        pause().await;
        Ok(self.0.borrow().life().queue.newest_noticed())
    }

    async fn ledger<T: 'static>(
        &self,
        job: impl FnOnce(&mut Ledger) -> Result<T, Error> + 'static,
    ) -> Result<T, Error> {
        pause().await;
        let mut world = self.0.borrow_mut();
        let done = job(&mut world.life_mut().ledger);
        let known = world.life().ledger.webhooks()?;
        let now = world.now();
        world
            .oracle
            .remain(known.into_iter().map(|(id, _)| id), now);
        done
    }

    async fn queue<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Queue) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        pause().await;
        let mut world = self.0.borrow_mut();
        // On a connection of its own.
        let mut queue = Queue::open(world.queue_path())?;
        let done = job(&mut queue);
        drop(queue);
        world.notice_pruned();
        done
    }

    async fn rest(&self, _point: &'static str) {
        pause().await;
    }
}
