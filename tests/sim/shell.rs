//! The lane's world, simulated: the real queue and ledger, and a pause before and after each
//! thing done, so that anything can come between.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use orderfeed::clock::WallTime;
use orderfeed::daemon::ahead::{self, Ahead, AheadPick, Basis};
use orderfeed::daemon::lane::{Halt, Settings, Shell};
use orderfeed::feed::lane::{Lane, Place, Seal, Wait};
use orderfeed::feed::order::{OrderType, PerType, Seq};
use orderfeed::feed::payload::{Members, Payload};
use orderfeed::feed::timestamp::Timestamp;
use orderfeed::sender::{Report, Request};
use orderfeed::store::ledger::errands::{Heard, Superseded};
use orderfeed::store::ledger::{Commit, WebhookId};
use orderfeed::store::queue::{Pick, Queue, Scan};

use crate::administrator::Hook;
use crate::world::{Blocked, Life, World};

/// One lane's shell.
pub(crate) struct SimShell {
    webhook_id: WebhookId,
    world: Rc<RefCell<World>>,
    /// When the lane last asked for the time: the `now` of its decision.
    decided_at: Cell<Timestamp>,
    looks_seen: u64,
    settings_seen: u64,
    /// What operators asked for when the lane last heard of it.
    heard: u64,
    /// What selected when it was asked last what waits.
    selected_by: Option<Rc<Hook>>,
    ahead: Option<Ahead>,
    next: Option<AheadPick>,
}

impl SimShell {
    pub(crate) fn new(webhook_id: WebhookId, world: Rc<RefCell<World>>) -> Self {
        Self {
            webhook_id,
            world,
            decided_at: Cell::default(),
            looks_seen: 0,
            settings_seen: 0,
            heard: 0,
            selected_by: None,
            ahead: None,
            next: None,
        }
    }

    /// What the daemon's shell reads ahead by.
    fn basis(world: &World, settings: &Arc<Settings>) -> Basis {
        Basis {
            noticed: world.life().looks,
            settings: Arc::clone(settings),
        }
    }

    /// Does something that takes a while: others may come before it, and after it.
    async fn act<T>(&self, act: impl FnOnce(&mut World) -> T) -> T {
        pause().await;
        let done = act(&mut self.world.borrow_mut());
        pause().await;
        done
    }
}

impl Shell for SimShell {
    fn now(&self) -> Timestamp {
        let now = self.world.borrow().now();
        self.decided_at.set(now);
        now
    }

    fn wall(&self) -> WallTime {
        self.world.borrow().clocks.wall()
    }

    fn dice(&mut self) -> [u8; 10] {
        self.world.borrow_mut().dice.ten_bytes()
    }

    fn settings(&mut self) -> Option<Arc<Settings>> {
        let world = self.world.borrow();
        let berth = world.berth(self.webhook_id);
        self.settings_seen = berth.settings_changes;
        berth.settings.clone()
    }

    fn stopping(&self) -> bool {
        self.world.borrow().life().stopping
    }

    async fn load(&mut self) -> Result<Lane, Halt> {
        let webhook_id = self.webhook_id;
        let lane = self
            .act(|world| world.life().ledger.lane(webhook_id))
            .await
            .map_err(Halt::Store)?;
        let mut world = self.world.borrow_mut();
        let now = world.now();
        world.oracle.begins(webhook_id, now);
        Ok(lane)
    }

    async fn waiting(&mut self, lane: &Lane, settings: &Arc<Settings>) -> Result<Scan, Halt> {
        self.looks_seen = self.world.borrow().life().looks;
        let webhook_id = self.webhook_id;
        let mut ahead = self.ahead.take();
        let (scan, next, selected_by) = self
            .act(|world| {
                world.look();
                world.oracle.looked_for(webhook_id);
                let basis = Self::basis(world, settings);
                let read = ahead.as_mut().and_then(|ahead| ahead.take(lane, &basis));
                if let Some((scan, next)) = read {
                    world.stats().count("turns read ahead");
                    return Ok((scan, next, world.subscribed(webhook_id)));
                }
                if ahead.take().is_some() {
                    world.stats().count("turns read ahead in vain");
                }
                let life = world.life();
                let mut parked = PerType::default();
                for (order_type, place) in lane.places.iter() {
                    parked[order_type] = parked_of(life, webhook_id, order_type, place)?;
                }
                let (places, policy) = (&lane.places, &settings.policy);
                let scan = life.queue.waiting(webhook_id, places, &parked, policy)?;
                Ok((scan, None, world.subscribed(webhook_id)))
            })
            .await
            .map_err(Halt::Store)?;
        (self.ahead, self.next) = (ahead, next);
        self.selected_by = selected_by;
        Ok(scan)
    }

    async fn pick(
        &mut self,
        seal: Seal,
        newest: Seq,
        lane: &Lane,
        settings: &Arc<Settings>,
    ) -> Result<Pick, Halt> {
        let webhook_id = self.webhook_id;
        let decided_at = self.decided_at.get();
        let selected_by = self.selected_by.clone();
        let next = self.next.take();
        self.act(|world| {
            let life = world.life();
            let place = lane.places[seal.order_type];
            let basis = Self::basis(world, settings);
            let pick = match next.and_then(|next| next.take(seal, place, newest, &basis)) {
                Some(pick) => pick,
                None => {
                    let parked = parked_of(life, webhook_id, seal.order_type, &place)?;
                    let policy = &settings.policy;
                    life.queue
                        .pick(webhook_id, seal, place, &parked, newest, policy)?
                }
            };
            // One that was made by other selections than the decision is dropped.
            if pick.selections_version == Some(lane.selections_version) {
                let hook = world
                    .hook_of(webhook_id, settings)
                    .selecting_as(selected_by.as_deref());
                world.oracle.picks(
                    webhook_id,
                    &hook,
                    (seal, &pick),
                    decided_at,
                    &world.producers,
                );
            }
            Ok(pick)
        })
        .await
        .map_err(Halt::Store)
    }

    async fn body(&mut self, payload: &Payload) -> Result<Result<Bytes, String>, Halt> {
        let body = self
            .act(|world| world.life().queue.body(payload))
            .await
            .map_err(Halt::Store)?;
        assert!(
            body.is_ok(),
            "the bytes of {} are gone: {body:?}",
            payload.id
        );
        Ok(body)
    }

    /// Without a pause before it: what an operator asks for counts from the next commit on.
    async fn record(&mut self, commit: Commit) -> Result<(), Halt> {
        let webhook_id = self.webhook_id;
        let record = |world: &mut World| {
            let life = world.life_mut();
            life.ledger.record(std::slice::from_ref(&commit))?;
            let lane = life.ledger.lane(webhook_id)?;
            assert_eq!(lane, commit.lane, "memory and ledger differ");
            world.recorded(&commit);
            Ok(())
        };
        let recorded = record(&mut self.world.borrow_mut());
        pause().await;
        recorded.map_err(Halt::Store)
    }

    fn has_news(&self) -> bool {
        self.world.borrow().life().asked != self.heard
    }

    async fn hear(&mut self) -> Result<Heard, Halt> {
        let webhook_id = self.webhook_id;
        self.heard = self.world.borrow().life().asked;
        self.act(|world| world.life().ledger.heard(webhook_id))
            .await
            .map_err(Halt::Store)
    }

    async fn encode(
        &mut self,
        payload: &Payload,
        members: &Members,
    ) -> Result<Result<Bytes, String>, Halt> {
        let (order_type, action) = (payload.order_type, &payload.action);
        self.act(|world| world.life().queue.encode(order_type, action, members))
            .await
            .map_err(Halt::Store)
    }

    async fn superseded(
        &mut self,
        lane: &Lane,
        payload: &Payload,
    ) -> Result<Vec<Superseded>, Halt> {
        let webhook_id = self.webhook_id;
        let newest = lane.places[payload.order_type].cursor;
        self.act(|world| world.superseded(webhook_id, payload, newest))
            .await
            .map_err(Halt::Store)
    }

    async fn post(&mut self, settings: &Arc<Settings>, request: Request, next: &Lane) -> Report {
        let webhook_id = self.webhook_id;
        let started_at = self.wall();
        let mut ahead = self.ahead.take();
        self.act(|world| {
            world.begin_post(webhook_id, settings, &request);
            let basis = Self::basis(world, settings);
            let (life, now) = (world.life(), world.now());
            let max = ahead::PAYLOADS_MAX;
            let read =
                |lane| Ahead::read(&life.queue, webhook_id, lane, basis.clone(), max, now).ok();
            match &mut ahead {
                Some(ahead) if ahead.serves(next, &basis) => {
                    if let Some(later) = ahead.runs_short().cloned().and_then(read) {
                        ahead.append(later);
                    }
                }
                ahead => *ahead = read(next.clone()),
            }
        })
        .await;
        self.ahead = ahead;
        // Comes back when the answer is there.
        self.world.borrow_mut().end_post(webhook_id, started_at)
    }

    async fn wait(&mut self, wait: Wait) -> Result<(), Halt> {
        let webhook_id = self.webhook_id;
        let (looks_seen, settings_seen) = (self.looks_seen, self.settings_seen);
        let decided_at = self.decided_at.get();
        let selected_by = self.selected_by.clone();
        let blocked = Blocked::Until {
            until: wait.until,
            looks_seen,
            settings_seen,
            heard: self.heard,
        };
        self.act(|world| {
            world.berth_mut(webhook_id).blocked = blocked;
            world.waits(webhook_id, selected_by.as_deref(), wait, decided_at);
        })
        .await;
        let mut world = self.world.borrow_mut();
        world.berth_mut(webhook_id).blocked = Blocked::No;
        self.looks_seen = world.life().looks;
        Ok(())
    }
}

/// The parked orders that are to be looked at again, as the daemon's shell reads them.
fn parked_of(
    life: &Life,
    webhook_id: WebhookId,
    order_type: OrderType,
    place: &Place,
) -> Result<Vec<Seq>, orderfeed::store::Error> {
    place.unpark.map_or(Ok(Vec::new()), |after| {
        life.ledger
            .parked_after(webhook_id, order_type, after, Queue::PARKED_MAX)
    })
}

/// Gives way once.
pub(crate) fn pause() -> Pause {
    Pause { passed: false }
}

pub(crate) struct Pause {
    passed: bool,
}

impl Future for Pause {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<()> {
        if std::mem::replace(&mut self.passed, true) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }
}
