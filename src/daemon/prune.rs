//! Pruning: what is done with and older than `maintenance.retention` goes, in queue and ledger.
//!
//! The course, which may be cut off anywhere and is gone through from the beginning next time:
//! find the horizon; mark it in the ledger; delete the orders before it in the queue; delete what
//! the ledger knows of them. It is written once, over [`Stores`]: the daemon's, or the simulation's.
//! It is never in a hurry: a producer or a lane goes first.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::clock::WallTime;
use crate::feed::order::{OrderType, Seq};
use crate::feed::payload::{PayloadId, PayloadState};
use crate::feed::timestamp::Timestamp;
use crate::store::Error;
use crate::store::ledger::Ledger;
use crate::store::ledger::prune::{Claimant, Cut, Walk};
use crate::store::queue::Queue;
use crate::store::queue::prune::Search;

/// Both files, for whoever prunes them.
pub trait Stores {
    /// Now, on the ledger's clock.
    fn now(&self) -> Timestamp;
    /// What the wall clock shows.
    fn wall(&self) -> WallTime;
    /// The newest order that was noticed.
    fn newest_noticed(&self) -> impl Future<Output = Result<Seq, Error>>;
    /// Does something short with the ledger; lanes wait meanwhile.
    fn ledger<T: 'static>(
        &self,
        job: impl FnOnce(&mut Ledger) -> Result<T, Error> + 'static,
    ) -> impl Future<Output = Result<T, Error>>;
    /// Does something with the queue, which no lane waits for.
    fn queue<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Queue) -> Result<T, Error> + Send + 'static,
    ) -> impl Future<Output = Result<T, Error>>;
    /// Lets others go first, after a slice of work.
    fn rest(&self, point: &'static str) -> impl Future<Output = ()>;
}

/// What pruning did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pruned {
    /// Orders that were deleted.
    pub orders: u64,
    /// Payloads that were deleted.
    pub payloads: u64,
    /// Webhooks that were removed long ago, and whose places were given up (D27).
    pub webhooks: Vec<String>,
    /// Who keeps older orders than the retention asks for, if anybody does.
    pub keeper: Option<Keeper>,
}

/// Who keeps orders that would otherwise go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keeper {
    /// Who, and by what.
    pub who: String,
    /// So many orders.
    pub orders: u64,
}

/// What was done, in a sentence.
impl std::fmt::Display for Pruned {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} orders and {} payloads were deleted",
            self.orders, self.payloads
        )?;
        if !self.webhooks.is_empty() {
            write!(f, "; forgotten: {}", self.webhooks.join(", "))?;
        }
        match &self.keeper {
            Some(Keeper { who, orders }) => write!(f, "; {who} keeps {orders} older orders"),
            None => Ok(()),
        }
    }
}

/// Prunes.
pub async fn prune(stores: &impl Stores, retention: Duration) -> Result<Pruned, Error> {
    let mut pruned = Pruned::default();
    let newest = stores.newest_noticed().await?;
    let (now, wall) = (stores.now(), stores.wall());
    let cut = stores
        .ledger(move |ledger| {
            ledger.milestone(newest, now, wall, retention)?;
            ledger.cut(now, retention)
        })
        .await?;
    let Some(cut) = cut else {
        return Ok(pruned);
    };
    stores.rest("prune_begun").await;
    pruned.webhooks = stores
        .ledger(move |ledger| ledger.forget_removed(cut, now))
        .await?;
    while stores.ledger(Ledger::forget_orphans).await? {
        stores.rest("prune_orphans").await;
    }
    let claimants = stores.ledger(|ledger| ledger.claimants()).await?;
    if stores
        .ledger(|ledger| ledger.awaits_first_webhooks())
        .await?
    {
        return Ok(pruned);
    }
    let (horizon, keeper) = horizon(stores, &claimants, cut).await?;
    if let Some(who) = keeper {
        let (after, up_to) = (horizon.before(), cut.newest);
        let orders = stores
            .queue(move |queue| queue.count_between(after, up_to))
            .await?;
        pruned.keeper = (orders > 0).then_some(Keeper { who, orders });
    }
    let up_to = horizon.before();
    // If it is not marked, somebody came in between: next time.
    stores
        .ledger(move |ledger| ledger.mark_pruned(up_to, &claimants))
        .await?;
    stores.rest("prune_marked").await;
    pruned.orders = delete_orders(stores).await?;
    stores.rest("prune_deleted").await;
    pruned.payloads = forget(stores, cut).await?;
    Ok(pruned)
}

/// The first order that has to stay, and who keeps it, unless it is just not old enough.
async fn horizon(
    stores: &impl Stores,
    claimants: &[Claimant],
    cut: Cut,
) -> Result<(Seq, Option<String>), Error> {
    let mut horizon = cut.newest.next();
    let mut keeper = None;
    for claimant in claimants {
        let (webhook_id, name) = (claimant.webhook_id, &claimant.name);
        if let Some(parked) = claimant.parked.filter(|&parked| parked < horizon) {
            (horizon, keeper) = (parked, Some(format!("{name}'s parked order {parked}")));
        }
        for order_type in OrderType::ALL {
            let waiting = first_unpassed(stores, claimant, order_type, horizon).await?;
            if let Some(waiting) = waiting {
                let who = format!("{name}'s waiting {order_type} {waiting}");
                (horizon, keeper) = (waiting, Some(who));
            }
        }
        let before = horizon;
        let stray = stores
            .ledger(move |ledger| ledger.first_needed_stray(webhook_id, before, cut))
            .await?;
        let mut needed = Vec::from_iter(stray);
        for order_type in OrderType::ALL {
            let spans = stores.ledger(|ledger| ledger.payload_spans()).await?;
            for (mut from, before) in spans {
                loop {
                    let walk = stores
                        .ledger(move |ledger| {
                            ledger.first_needed(webhook_id, order_type, (from, before), cut)
                        })
                        .await?;
                    match walk {
                        Walk::Needed(found) => needed.push(found),
                        Walk::Further(id) => {
                            from = id;
                            stores.rest("prune_walked").await;
                            continue;
                        }
                        Walk::End => {}
                    }
                    break;
                }
            }
        }
        let first = needed.into_iter().min_by_key(|found| found.seq);
        if let Some(found) = first.filter(|found| found.seq < horizon) {
            let (state, id, since) = (found.state.as_str(), found.payload_id, found.since);
            horizon = found.seq;
            keeper = match found.state {
                PayloadState::Pending | PayloadState::InFlight | PayloadState::Failed => {
                    Some(format!("{name}'s {state} payload {id} of {since}"))
                }
                // It is merely young.
                PayloadState::Delivered | PayloadState::Discarded => None,
            };
        }
    }
    Ok((horizon, keeper))
}

/// The first order of a type before a place that a webhook is yet to be sent.
async fn first_unpassed(
    stores: &impl Stores,
    claimant: &Claimant,
    order_type: OrderType,
    before: Seq,
) -> Result<Option<Seq>, Error> {
    let mut after = claimant.places[order_type].cursor;
    while after.next() < before {
        let selections = claimant.selections.clone();
        let search = stores
            .queue(move |queue| queue.first_unpassed(order_type, after, before, &selections))
            .await?;
        match search {
            Search::Found(seq) => return Ok(Some(seq)),
            Search::NoneUpTo(seq) => after = seq,
            Search::Nothing => return Ok(None),
        }
        stores.rest("prune_searched").await;
    }
    Ok(None)
}

/// Deletes in the queue all that is marked, and returns how many orders that were.
async fn delete_orders(stores: &impl Stores) -> Result<u64, Error> {
    let (up_to, kept, aside) = stores
        .ledger(|ledger| {
            let up_to = ledger.pruned_up_to()?;
            let aside = ledger.set_aside_between(Seq::START, up_to, usize::MAX)?;
            Ok((up_to, ledger.proofs()?, aside))
        })
        .await?;
    let set: BTreeSet<Seq> = aside.iter().copied().collect();
    let mut deleted = 0;
    let mut after = Seq::START;
    loop {
        let (kept, set) = (kept.clone(), set.clone());
        let slice = stores
            .queue(move |queue| queue.prune(after, up_to, &kept, &set))
            .await?;
        // Otherwise a producer was in the way.
        if let Some(slice) = slice {
            deleted += slice.deleted.len() as u64;
            match slice.done_up_to {
                Some(seq) => after = seq,
                None => break,
            }
        }
        stores.rest("prune_slice").await;
    }
    while !stores
        .queue(move |queue| queue.prune_withdrawals(up_to))
        .await?
    {
        stores.rest("prune_slice").await;
    }
    if !aside.is_empty() {
        let gone = stores.queue(move |queue| queue.gone(&aside)).await?;
        stores
            .ledger(move |ledger| ledger.forget_set_aside(&gone))
            .await?;
    }
    Ok(deleted)
}

/// Deletes what the ledger knows of what is deleted in the queue, and returns how many payloads that
/// were.
async fn forget(stores: &impl Stores, cut: Cut) -> Result<u64, Error> {
    let mut forgotten = 0;
    let first = PayloadId::first_of(Timestamp::default());
    for (webhook_id, _) in stores.ledger(|ledger| ledger.webhooks()).await? {
        for order_type in OrderType::ALL {
            let mut next = Some(first);
            while let Some(from) = next {
                let (payloads, further) = stores
                    .ledger(move |ledger| ledger.forget_payloads(webhook_id, order_type, from, cut))
                    .await?;
                forgotten += payloads;
                next = further;
                stores.rest("prune_forgot").await;
            }
        }
    }
    let mut next = Some(first);
    while let Some(from) = next {
        next = stores
            .ledger(move |ledger| ledger.forget_tests_attempts(from, cut))
            .await?;
        stores.rest("prune_forgot").await;
    }
    Ok(forgotten)
}
