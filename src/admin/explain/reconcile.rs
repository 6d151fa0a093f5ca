//! Every order of the queue, accounted for: for each webhook it is in a payload, waits, or is left
//! out for a reason. One that is in none is lost.
//!
//! It goes over the queue in windows, each of which is a question of its own: the queue's index says
//! which orders there are, and the ledger's payloads of that window which of them they carry.
//! What moves on meanwhile is met where it was or where it is: where a webhook has come to is read
//! first, then what is parked, and the payloads last.

use std::collections::BTreeMap;

use super::Source;
use crate::admin::api::Error;
use crate::admin::api::explain as api;
use crate::feed::order::{OrderType, PerType, Seq};
use crate::feed::payload::{Members, PayloadState};
use crate::feed::selection::{Fate, Selections};
use crate::store::ledger::WebhookId;
use crate::store::ledger::history::Standing;
use crate::store::queue::reader::Reader;

/// Orders in a window, at most.
pub const WINDOW: i64 = 50_000;

/// So many rows are read at once, while the lanes wait.
const SLICE: usize = 5_000;

/// So many missing orders are named.
const MISSING_MAX: usize = 20;

/// What is to be gone over: the orders after one, and up to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// After this one.
    pub after: Seq,
    /// Up to this one.
    pub up_to: Seq,
}

/// What there is to be gone over: all orders, or those that were queued since.
pub fn range(queue: &Reader, since: Option<&str>) -> Result<Range, Error> {
    let after = match (since, queue.oldest()?) {
        (Some(since), _) => queue.last_before(since)?,
        (None, Some(oldest)) => oldest.before(),
        (None, None) => queue.newest(),
    };
    Ok(Range {
        after,
        up_to: queue.newest(),
    })
}

/// Accounts for the first orders of a range, and says how far it came.
pub async fn next_window(
    source: &impl Source,
    queue: &mut Reader,
    range: Range,
) -> Result<api::ReconciledWindow, Error> {
    // Of what was pruned some orders may be there still, and no longer all of their payloads.
    let pruned_up_to = source.ask(|ledger| ledger.pruned_up_to()).await?;
    let range = Range {
        after: range.after.max(pruned_up_to).min(range.up_to),
        ..range
    };
    let up_to = Seq(range.after.0.saturating_add(WINDOW)).min(range.up_to);
    let first = Range { up_to, ..range };
    Ok(api::ReconciledWindow {
        after: range.after.0,
        up_to: range.up_to.0,
        done_up_to: up_to.0.max(range.after.0),
        found: window(source, queue, first).await?,
    })
}

/// Accounts for the orders of a window.
async fn window(
    source: &impl Source,
    queue: &mut Reader,
    range: Range,
) -> Result<api::Reconciliation, Error> {
    let standings = source.ask(|ledger| ledger.standings()).await?;
    let Range { after, up_to } = range;
    let set_aside = source
        .ask(move |ledger| ledger.set_aside_between(after, up_to, usize::MAX))
        .await?;
    let first_cursor = source.ask(|ledger| ledger.first_cursor()).await?;
    queue.look()?;
    let rows = queue.rows(after, up_to)?;
    let withdrawn = queue.withdrawn(after, up_to)?;
    let mut orders = PerType::default();
    for order_type in OrderType::ALL {
        orders[order_type] = queue.seqs(order_type, after, up_to, usize::MAX)?;
    }
    let mut accounts = Vec::new();
    for standing in &standings {
        let mut account = api::Account {
            webhook: standing.name.clone(),
            orders: BTreeMap::new(),
            missing: Vec::new(),
        };
        for (order_type, seqs) in orders.iter() {
            let parked = parked(source, standing, order_type, range).await?;
            let dropped = {
                let webhook_id = standing.webhook_id;
                source
                    .ask(move |ledger| ledger.dropped_up_to(webhook_id, order_type))
                    .await?
            };
            let mut fates = Fates::new(range);
            // After what is parked: one that returns meanwhile is met in either place.
            for (seq, state) in strays(source, standing.webhook_id, range).await? {
                fates.carry(seq, state);
            }
            carried(source, standing.webhook_id, order_type, range, &mut fates).await?;
            for &seq in seqs {
                let known = fates.of(seq);
                let fate = match known {
                    Some(state) => state.as_str(),
                    None => {
                        let case = Case {
                            selections: &standing.selections,
                            order_type,
                            seq,
                            is_met: seq <= standing.lane.places[order_type].cursor,
                            is_set_aside: set_aside.binary_search(&seq).is_ok(),
                            is_withdrawn: withdrawn.binary_search(&seq).is_ok(),
                            is_parked: parked.binary_search(&seq).is_ok(),
                            is_dropped: seq <= dropped,
                            is_passed: seq <= first_cursor,
                        };
                        case.fate(queue)?
                    }
                };
                *account.orders.entry(fate.to_owned()).or_default() += 1;
                if fate == MISSING && account.missing.len() < MISSING_MAX {
                    account.missing.push(seq.0);
                }
            }
        }
        accounts.push(account);
    }
    let sums_agree = accounts
        .iter()
        .all(|account| account.orders.values().sum::<u64>() == rows);
    let is_missing = accounts.iter().any(|account| !account.missing.is_empty());
    Ok(api::Reconciliation {
        first_seq: (rows > 0).then_some(after.next().0),
        last_seq: (rows > 0).then_some(up_to.0),
        orders: rows,
        webhooks: accounts,
        agrees: sums_agree && !is_missing,
    })
}

/// Both together.
pub fn add(sum: &mut api::Reconciliation, window: api::Reconciliation) {
    sum.first_seq = sum.first_seq.or(window.first_seq);
    sum.last_seq = window.last_seq.or(sum.last_seq);
    sum.orders += window.orders;
    sum.agrees &= window.agrees;
    for account in window.webhooks {
        match sum
            .webhooks
            .iter_mut()
            .find(|known| known.webhook == account.webhook)
        {
            None => sum.webhooks.push(account),
            Some(known) => {
                for (fate, count) in account.orders {
                    *known.orders.entry(fate).or_default() += count;
                }
                known.missing.extend(account.missing);
                known.missing.truncate(MISSING_MAX);
            }
        }
    }
}

/// Nothing yet.
pub const fn nothing() -> api::Reconciliation {
    api::Reconciliation {
        first_seq: None,
        last_seq: None,
        orders: 0,
        webhooks: Vec::new(),
        agrees: true,
    }
}

const MISSING: &str = "missing";

/// An order that no payload of a webhook carries.
struct Case<'a> {
    selections: &'a Selections,
    order_type: OrderType,
    seq: Seq,
    is_met: bool,
    is_set_aside: bool,
    is_withdrawn: bool,
    is_parked: bool,
    is_dropped: bool,
    is_passed: bool,
}

impl Case<'_> {
    fn fate(&self, queue: &Reader) -> Result<&'static str, Error> {
        if self.is_set_aside {
            return Ok("set_aside");
        }
        if self.is_withdrawn {
            return Ok("withdrawn");
        }
        Ok(match self.selected(queue)? {
            None => "set_aside",
            Some(Fate::Pass) => "filtered",
            Some(Fate::Send) if self.is_parked || !self.is_met => "waiting",
            Some(Fate::Park) if self.is_parked || !self.is_met => "parked",
            Some(Fate::Send | Fate::Park) if self.is_dropped => "dropped",
            Some(Fate::Send | Fate::Park) if self.is_passed => "filtered",
            Some(Fate::Send | Fate::Park) => MISSING,
        })
    }

    /// What the webhook's selections say; the order is read only where it makes a difference.
    /// `None`: it can't be delivered to anyone.
    fn selected(&self, queue: &Reader) -> Result<Option<Fate>, Error> {
        let (order_type, now) = (self.order_type, self.selections.current());
        match (self.selections.in_force_at(self.seq), now) {
            (Some(then), Some(now)) if then.takes_all(order_type) => {
                if now.takes_all(order_type) {
                    return Ok(Some(Fate::Send));
                }
                if !now.covers(order_type) {
                    return Ok(Some(Fate::Park));
                }
            }
            (Some(then), Some(_)) if then.covers(order_type) => {}
            (Some(_) | None, _) => return Ok(Some(Fate::Pass)),
        }
        Ok(match queue.order(self.seq)? {
            Some(row) => row.order.ok().map(|order| self.selections.fate(&order)),
            None => Some(Fate::Pass),
        })
    }
}

/// The states of the payloads that carry the orders of a window: the best of them, where there are
/// several.
struct Fates {
    after: Seq,
    states: Vec<Option<PayloadState>>,
}

impl Fates {
    fn new(range: Range) -> Self {
        let orders = usize::try_from(range.up_to.0.saturating_sub(range.after.0));
        Self {
            after: range.after,
            states: vec![None; orders.unwrap_or_default()],
        }
    }

    fn index(&self, seq: Seq) -> Option<usize> {
        usize::try_from(seq.0.checked_sub(self.after.0)?.checked_sub(1)?).ok()
    }

    fn of(&self, seq: Seq) -> Option<PayloadState> {
        *self.states.get(self.index(seq)?)?
    }

    fn carry(&mut self, seq: Seq, state: PayloadState) {
        /// What was delivered stays so, whatever became of a copy; what is under way may be.
        const fn rank(state: PayloadState) -> u8 {
            match state {
                PayloadState::Delivered => 4,
                PayloadState::InFlight => 3,
                PayloadState::Pending => 2,
                PayloadState::Failed => 1,
                PayloadState::Discarded => 0,
            }
        }
        let known = self.index(seq).and_then(|index| self.states.get_mut(index));
        if let Some(known) = known
            && known.is_none_or(|known| rank(known) < rank(state))
        {
            *known = Some(state);
        }
    }

    fn carry_all(&mut self, payloads: &[(PayloadState, Members)]) {
        for (state, members) in payloads {
            for &seq in members.seqs() {
                self.carry(seq, *state);
            }
        }
    }
}

async fn carried(
    source: &impl Source,
    webhook_id: WebhookId,
    order_type: OrderType,
    range: Range,
    fates: &mut Fates,
) -> Result<(), Error> {
    let spans = source
        .ask(move |ledger| ledger.spans_after(webhook_id, order_type, range.after))
        .await?;
    for span in spans {
        let mut next = Some(span);
        while let Some(span) = next {
            let (payloads, rest) = source
                .ask(move |ledger| ledger.carried(webhook_id, order_type, span, range.up_to))
                .await?;
            fates.carry_all(&payloads);
            next = rest.filter(|rest| *rest != span);
        }
    }
    Ok(())
}

async fn strays(
    source: &impl Source,
    webhook_id: WebhookId,
    range: Range,
) -> Result<Vec<(Seq, PayloadState)>, Error> {
    let mut all: Vec<(Seq, PayloadState)> = Vec::new();
    let mut after = range.after;
    loop {
        let some = source
            .ask(move |ledger| ledger.strays_between(webhook_id, after, range.up_to, SLICE))
            .await?;
        let (found, last) = (some.len(), some.last().map(|(seq, _)| *seq));
        all.extend(some);
        match last {
            // Those of the last one may be cut in two; it is read again as a whole.
            Some(last) if found >= SLICE => after = last.before().max(after.next()),
            Some(_) | None => return Ok(all),
        }
    }
}

async fn parked(
    source: &impl Source,
    standing: &Standing,
    order_type: OrderType,
    range: Range,
) -> Result<Vec<Seq>, Error> {
    let webhook_id = standing.webhook_id;
    let mut all: Vec<Seq> = Vec::new();
    let mut after = range.after;
    loop {
        let some = source
            .ask(move |ledger| ledger.parked_after(webhook_id, order_type, after, SLICE))
            .await?;
        let found = some.len();
        all.extend(some.into_iter().take_while(|seq| *seq <= range.up_to));
        match all.last() {
            Some(&last) if found >= SLICE && last < range.up_to => after = last,
            Some(_) | None => return Ok(all),
        }
    }
}
