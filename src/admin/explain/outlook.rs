//! What waits, counted so that it takes no longer the more there is.
//!
//! Orders of a type that a webhook takes whole are counted by the queue's index, from the newest
//! downwards and for all webhooks together, as far as [`Count::MAX`]. Where an action or a filter
//! makes the difference orders have to be read: the oldest ones, once for all webhooks.

use std::collections::{BTreeMap, BTreeSet};

use super::{Ground, Now};
use crate::admin::api::{Error, explain as api};
use crate::feed::lane::{First, Waiting};
use crate::feed::order::{OrderType, PerType, Seq};
use crate::feed::selection::{Fate, Selections};
use crate::store;
use crate::store::ledger::history::{Count, Standing};
use crate::store::queue::reader::Reader;

/// So many orders of a type are read, where they have to be.
const READ_MAX: usize = 2_000;

/// And no more bytes of them than this, and what the last one has beyond it.
const READ_BYTES_MAX: usize = 4 * 1024 * 1024;

/// So many rows of a type are counted, withdrawn ones included.
const ROWS_MAX: u64 = 3 * Count::MAX;

/// No round of counting is smaller.
const ROUND_MIN: u64 = 10_000;

/// So many rows that were set aside are left out of what is counted, the oldest.
pub(super) const ASIDE_MAX: usize = 1_000;

/// Rows that were set aside, and that some webhook has not passed yet: for none of them they wait.
#[derive(Debug, Default)]
pub(super) struct Aside(PerType<BTreeSet<Seq>>);

impl Aside {
    pub(super) fn new(rows: &[(Seq, String)]) -> Self {
        Self(PerType::from_fn(|order_type| {
            let of_type = rows.iter().filter(|row| row.1 == order_type.as_str());
            of_type.map(|row| row.0).collect()
        }))
    }

    /// How many lie after one order and up to another, withdrawn ones left out.
    fn within(
        &self,
        queue: &Reader,
        order_type: OrderType,
        after: Seq,
        up_to: Seq,
    ) -> Result<u64, store::Error> {
        let mut count = 0;
        for seq in self.0[order_type].range(after.next()..=up_to) {
            count += u64::from(queue.withdrawn(seq.before(), *seq)?.is_empty());
        }
        Ok(count)
    }

    /// The oldest order of a type after one and up to another that waits, and when it was queued.
    fn first(
        &self,
        queue: &Reader,
        order_type: OrderType,
        mut after: Seq,
        up_to: Seq,
    ) -> Result<Option<(Seq, String)>, store::Error> {
        loop {
            match queue.first(order_type, after, up_to)? {
                Some((seq, _)) if self.0[order_type].contains(&seq) => after = seq,
                found => return Ok(found),
            }
        }
    }
}

/// What waits for all webhooks.
#[derive(Debug, Default)]
pub(super) struct Overview {
    /// For each webhook, in the order in which they were given.
    pub(super) outlooks: Vec<Outlook>,
    /// By order type, what waits for any of them.
    pub(super) waiting: BTreeMap<OrderType, WaitingForAny>,
    /// Orders that none of them takes.
    pub(super) unclaimed: Count,
}

/// What waits of an order type, for any webhook.
#[derive(Debug, Default)]
pub(super) struct WaitingForAny {
    pub(super) count: Count,
    /// When the oldest was queued, as its producer says.
    pub(super) oldest_at: Option<String>,
}

/// What waits for one webhook.
#[derive(Debug, Clone, Default)]
pub(super) struct Outlook {
    /// Orders that it would send.
    pub(super) waiting: Count,
    /// Orders that it would park, or leave parked, when it meets them.
    pub(super) parked: Count,
    /// The oldest of each type that it would send, when that was queued, and how many there are.
    firsts: PerType<Option<(Seq, String, u64)>>,
}

impl Outlook {
    /// The same for the core's decision. When the daemon noticed an order it alone knows: shortly
    /// after it was queued. A payload counts as full by its number of orders; that it is by their
    /// size, or because the action changes, shows only when they are read.
    pub(super) fn waiting_for(&self, payload_max_items: usize, now: Now) -> Waiting {
        Waiting(PerType::from_fn(|order_type| {
            let (seq, queued_at, count) = self.firsts[order_type].as_ref()?;
            let queued_at = queued_at.parse().unwrap_or(now.wall);
            Some(First {
                seq: *seq,
                noticed: now.clock_at(queued_at),
                full: *count >= u64::try_from(payload_max_items).unwrap_or(u64::MAX),
            })
        }))
    }

    /// How many of a type wait, at least.
    pub(super) fn of_type(&self, order_type: OrderType) -> u64 {
        self.firsts[order_type].as_ref().map_or(0, |first| first.2)
    }

    /// What waits of a type.
    pub(super) fn waiting_of(&self, order_type: OrderType) -> api::Waiting {
        let first = self.firsts[order_type].as_ref();
        api::Waiting {
            count: self.of_type(order_type),
            or_more: self.waiting.more,
            oldest_at: first.and_then(|(_, queued_at, _)| queued_at.parse().ok()),
        }
    }

    fn meet(
        &mut self,
        order_type: OrderType,
        seq: Seq,
        queued_at: impl FnOnce() -> String,
        count: Count,
    ) {
        self.waiting = self.waiting.and(count);
        let first = &mut self.firsts[order_type];
        match first {
            Some((known, _, counted)) if *known < seq => *counted += count.count,
            Some((.., counted)) => *first = Some((seq, queued_at(), *counted + count.count)),
            None => *first = Some((seq, queued_at(), count.count)),
        }
    }
}

/// What becomes of a webhook's orders of a type in a part of the queue: after one, and up to
/// another.
#[derive(Debug, Clone, Copy)]
struct Stretch {
    after: Seq,
    up_to: Seq,
    what: What,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    /// All of them wait.
    Waits,
    /// All of them are parked.
    Parked,
    /// They have to be read.
    Unread,
}

impl Overview {
    /// Counts what waits for these webhooks.
    pub(super) fn of(
        standings: &[Standing],
        aside: &Aside,
        ground: &Ground,
        queue: &mut Reader,
    ) -> Result<Self, Error> {
        queue.look()?;
        let mut overview = Self {
            outlooks: vec![Outlook::default(); standings.len()],
            ..Self::default()
        };
        let is_configured: Vec<bool> = standings
            .iter()
            .map(|standing| ground.webhook(&standing.name).is_some())
            .collect();
        for order_type in OrderType::ALL {
            overview.count(order_type, standings, aside, &is_configured, queue)?;
        }
        Ok(overview)
    }

    fn count(
        &mut self,
        order_type: OrderType,
        standings: &[Standing],
        aside: &Aside,
        is_configured: &[bool],
        queue: &Reader,
    ) -> Result<(), Error> {
        let newest = queue.newest();
        let stretches: Vec<Vec<Stretch>> = standings
            .iter()
            .map(|standing| {
                let after = standing.lane.places[order_type].cursor;
                stretches(&standing.selections, order_type, after, newest)
            })
            .collect();
        let bounds = stretches
            .iter()
            .flatten()
            .flat_map(|it| [it.after, it.up_to]);
        let counted = Counted::read(queue, order_type, bounds.collect(), newest, aside)?;
        let mut unread_after = None;
        // From here on all wait for one webhook or another.
        let mut all_wait_after = None;
        for (outlook, stretches) in self.outlooks.iter_mut().zip(&stretches) {
            for stretch in stretches {
                let count = counted.within(stretch.after, stretch.up_to);
                match stretch.what {
                    What::Waits => {
                        if let Some((seq, queued_at)) =
                            aside.first(queue, order_type, stretch.after, stretch.up_to)?
                        {
                            outlook.meet(order_type, seq, || queued_at, count);
                            let first = all_wait_after.get_or_insert(stretch.after);
                            *first = stretch.after.min(*first);
                        }
                    }
                    What::Parked => outlook.parked = outlook.parked.and(count),
                    What::Unread => {
                        let first = unread_after.get_or_insert(stretch.after);
                        *first = stretch.after.min(*first);
                    }
                }
            }
        }
        let mut any = WaitingForAny::default();
        if let Some(after) = all_wait_after {
            any.count = counted.within(after, newest);
            any.oldest_at = aside
                .first(queue, order_type, after, newest)?
                .map(|(_, at)| at);
        }
        if let Some(after) = unread_after {
            self.read(
                order_type,
                after,
                all_wait_after,
                standings,
                &stretches,
                &mut any,
                queue,
            )?;
        }
        if any.count.count > 0 || any.count.more {
            self.waiting.insert(order_type, any);
        }
        let takers = standings.iter().zip(is_configured);
        let takers = takers.filter(|(_, is_configured)| **is_configured);
        let unclaimed = never_covered(takers.map(|(standing, _)| &standing.selections), order_type);
        let oldest = queue.oldest()?.unwrap_or_default();
        for (first, last) in unclaimed {
            let (after, up_to) = (first.max(oldest).before(), last.min(newest));
            if after < up_to {
                let rows = queue.count(order_type, after, up_to, Count::MAX + 1)?;
                self.unclaimed = self.unclaimed.and(Count::cut(rows));
            }
        }
        Ok(())
    }

    /// Reads orders of which some webhook's selection can't be told otherwise.
    #[expect(clippy::too_many_arguments, reason = "all of it is this type's own")]
    fn read(
        &mut self,
        order_type: OrderType,
        after: Seq,
        all_wait_after: Option<Seq>,
        standings: &[Standing],
        stretches: &[Vec<Stretch>],
        any: &mut WaitingForAny,
        queue: &Reader,
    ) -> Result<(), store::Error> {
        let mut oldest = None;
        let one = Count {
            count: 1,
            more: false,
        };
        let outlooks = &mut self.outlooks;
        let mut unclaimed = 0;
        let unread = queue.each_order(order_type, after, (READ_MAX, READ_BYTES_MAX), |order| {
            let mut is_wanted = all_wait_after.is_some_and(|after| order.seq > after);
            let counted_elsewhere = is_wanted;
            let mut belongs = is_wanted;
            for ((outlook, standing), stretches) in
                outlooks.iter_mut().zip(standings).zip(stretches)
            {
                let unread = stretches.iter().any(|it| {
                    it.what == What::Unread && it.after < order.seq && order.seq <= it.up_to
                });
                match standing.selections.fate(&order) {
                    Fate::Send | Fate::Park if !unread => belongs = true,
                    Fate::Send => {
                        // When it was queued is read once it is known to be the first.
                        outlook.meet(order_type, order.seq, String::new, one);
                        (is_wanted, belongs) = (true, true);
                    }
                    Fate::Park => {
                        outlook.parked = outlook.parked.and(one);
                        belongs = true;
                    }
                    Fate::Pass => {}
                }
            }
            if is_wanted && !counted_elsewhere {
                oldest.get_or_insert(order.seq);
                any.count = any.count.and(one);
            }
            unclaimed += u64::from(!belongs);
        })?;
        self.unclaimed = self.unclaimed.and(Count::cut(unclaimed));
        if unread.is_some() {
            let more = Count {
                count: 0,
                more: true,
            };
            for (outlook, stretches) in self.outlooks.iter_mut().zip(stretches) {
                if stretches.iter().any(|it| it.what == What::Unread) {
                    outlook.waiting = outlook.waiting.and(more);
                }
            }
            any.count.more |= all_wait_after.is_none();
        }
        for outlook in &mut self.outlooks {
            if let Some((seq, queued_at, _)) = &mut outlook.firsts[order_type]
                && queued_at.is_empty()
            {
                *queued_at = queued_at_of(queue, *seq)?;
            }
        }
        if let Some(seq) = oldest {
            let queued_at = queued_at_of(queue, seq)?;
            any.oldest_at = any.oldest_at.take().into_iter().chain([queued_at]).min();
        }
        Ok(())
    }
}

fn queued_at_of(queue: &Reader, seq: Seq) -> Result<String, store::Error> {
    let order = queue.order(seq)?;
    Ok(order.map_or_else(String::new, |order| order.queued_at))
}

/// What becomes of a webhook's orders of a type after its cursor, as far as it can be told without
/// reading them; those of which nothing becomes are left out.
fn stretches(
    selections: &Selections,
    order_type: OrderType,
    cursor: Seq,
    newest: Seq,
) -> Vec<Stretch> {
    let Some(now) = selections.current() else {
        return Vec::new();
    };
    let epochs = selections.epochs();
    let ends = epochs.iter().skip(1).map(|(from, _)| from.before());
    let mut found = Vec::new();
    for ((from, then), last) in epochs.iter().zip(ends.chain([newest])) {
        let (after, up_to) = (from.before().max(cursor), last.min(newest));
        if after >= up_to || !then.covers(order_type) {
            continue;
        }
        let what = if !then.takes_all(order_type) {
            What::Unread
        } else if now.takes_all(order_type) {
            What::Waits
        } else if !now.covers(order_type) {
            What::Parked
        } else {
            What::Unread
        };
        found.push(Stretch { after, up_to, what });
    }
    found
}

/// The parts of the queue, first and last order of each, in which no webhook subscribed to the type.
fn never_covered<'a>(
    all: impl Iterator<Item = &'a Selections>,
    order_type: OrderType,
) -> Vec<(Seq, Seq)> {
    let mut covered: Vec<(Seq, Seq)> = Vec::new();
    for selections in all {
        let epochs = selections.epochs();
        let ends = epochs.iter().skip(1).map(|(from, _)| from.before());
        for ((from, selection), last) in epochs.iter().zip(ends.chain([Seq(i64::MAX)])) {
            if selection.covers(order_type) {
                covered.push((*from, last));
            }
        }
    }
    covered.sort();
    let mut next = Seq::START.next();
    let mut gaps = Vec::new();
    for (from, last) in covered {
        if from > next {
            gaps.push((next, from.before()));
        }
        next = next.max(last.next());
    }
    gaps.push((next, Seq(i64::MAX)));
    gaps.retain(|(first, last)| first < last || (first == last && first.0 != i64::MAX));
    gaps
}

/// How many orders of a type lie between some bounds, without those that are withdrawn or set aside.
pub(super) struct Counted(Vec<(Seq, Seq, Count)>);

impl Counted {
    /// Counts from the last bound downwards, as far as [`Count::MAX`], among [`ROWS_MAX`] rows.
    pub(super) fn read(
        queue: &Reader,
        order_type: OrderType,
        bounds: BTreeSet<Seq>,
        newest: Seq,
        aside: &Aside,
    ) -> Result<Self, store::Error> {
        let mut parts = Vec::new();
        let (mut left, mut rows_left) = (Count::MAX + 1, ROWS_MAX);
        let mut up_to = newest;
        for after in bounds.into_iter().rev() {
            if after >= up_to {
                continue;
            }
            let mut count = Count::default();
            let mut last = up_to;
            while last > after {
                if left == 0 || rows_left == 0 {
                    count.more = true;
                    break;
                }
                let limit = left.max(ROUND_MIN).min(rows_left);
                let (rows, lowest) = queue.count_newest(order_type, after, last, limit)?;
                if rows == 0 {
                    break;
                }
                // Only among those that were counted.
                let before = lowest.before();
                let gone = queue.count_withdrawn(order_type, before, last, rows)?
                    + aside.within(queue, order_type, before, last)?;
                let waiting = rows.saturating_sub(gone);
                count.count += waiting;
                left = left.saturating_sub(waiting);
                rows_left -= rows;
                if rows < limit {
                    break;
                }
                last = before;
            }
            parts.push((after, up_to, count));
            up_to = after;
        }
        Ok(Self(parts))
    }

    /// Those after one bound and up to another.
    pub(super) fn within(&self, after: Seq, up_to: Seq) -> Count {
        let parts = self.0.iter();
        let within = parts.filter(|part| part.0 >= after && part.1 <= up_to);
        within.fold(Count::default(), |sum, part| sum.and(part.2))
    }
}
