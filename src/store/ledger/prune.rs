//! What is done with, for good: which orders no webhook needs any more, and the rows about them.
//!
//! All orders before a horizon go together, so that what is left tells the whole story of each
//! tracking number (D23). The horizon is written down here ([`Ledger::mark_pruned`]) before the
//! queue deletes anything, and from then on no order before it is sent, by anybody: so whatever is
//! deleted next can be deleted at any later time. Nothing here deletes in the queue.
//!
//! Age is told by [`Ledger::milestone`], on the ledger's clock. The rows go in slices: the lanes
//! wait meanwhile.

use std::collections::BTreeSet;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension as _, Row, TransactionBehavior, params};

use super::lookup::payload_id_of;
use super::{Ledger, WebhookId, read_selections, unreadable};
use crate::clock::WallTime;
use crate::feed::lane::Place;
use crate::feed::order::{OrderType, PerType, Seq};
use crate::feed::payload::{Members, PayloadId, PayloadState};
use crate::feed::selection::Selections;
use crate::feed::timestamp::Timestamp;
use crate::store::{During, Error};

/// Milestones lie at least so far apart, or a fraction of what is retained.
const MILESTONE_GAP: Duration = Duration::from_hours(1);

/// Rows looked at, or deleted, while the lanes wait.
const SLICE: i64 = 200;

/// A moment long enough ago: what was done with by then may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    /// The newest order that was noticed then.
    pub newest: Seq,
    /// When that was, on the ledger's clock.
    pub at: Timestamp,
    /// What the wall clock showed.
    pub wall: WallTime,
}

/// A webhook, as far as pruning goes.
#[derive(Debug, Clone)]
pub struct Claimant {
    /// Its number.
    pub webhook_id: WebhookId,
    /// Its name.
    pub name: String,
    /// How far it has come.
    pub places: PerType<Place>,
    /// What it subscribed to over time.
    pub selections: Selections,
    /// Its first parked order (D25).
    pub parked: Option<Seq>,
}

/// The first order that a payload still needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Needed {
    /// The order.
    pub seq: Seq,
    /// The payload.
    pub payload_id: PayloadId,
    /// What became of it.
    pub state: PayloadState,
    /// When that was; or when it was sealed.
    pub since: WallTime,
}

/// What was found among some payloads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Walk {
    /// The first that is needed.
    Needed(Needed),
    /// None; there are others after this one.
    Further(PayloadId),
    /// None.
    End,
}

impl Ledger {
    /// Orders up to this one are done with: they are deleted, or about to be.
    pub fn pruned_up_to(&self) -> Result<Seq, Error> {
        pruned_up_to(&self.conn).during("reading what was pruned", &self.path)
    }

    /// Notes which order is the newest by now, unless that was done a short time ago.
    pub fn milestone(
        &mut self,
        newest: Seq,
        now: Timestamp,
        wall: WallTime,
        retention: Duration,
    ) -> Result<(), Error> {
        let gap = MILESTONE_GAP.min(retention / 24);
        let note = || -> rusqlite::Result<()> {
            let last: Option<i64> =
                self.conn
                    .query_row("SELECT max(noticed_ms) FROM milestones", [], |row| {
                        row.get(0)
                    })?;
            if last.is_some_and(|last| now < Timestamp::from_ms(last) + gap) {
                return Ok(());
            }
            self.conn
                .execute(
                    "INSERT OR IGNORE INTO milestones (noticed_ms, noticed_at, newest_seq) VALUES (?1, ?2, ?3)",
                    params![now.ms(), wall.0, newest.0],
                )
                .map(drop)
        };
        note().during("noting the newest order", &self.path)
    }

    /// The latest known moment that lies at least so far back, if there is one; earlier ones are
    /// forgotten.
    pub fn cut(&mut self, now: Timestamp, retention: Duration) -> Result<Option<Cut>, Error> {
        let retained_ms = i64::try_from(retention.as_millis()).unwrap_or(i64::MAX);
        let read = || -> rusqlite::Result<_> {
            let cut = self
                .conn
                .query_row(
                    "SELECT noticed_ms, noticed_at, newest_seq FROM milestones WHERE noticed_ms <= ?1
                     ORDER BY noticed_ms DESC LIMIT 1",
                    [now.ms().saturating_sub(retained_ms)],
                    |row| {
                        Ok(Cut {
                            at: Timestamp::from_ms(row.get(0)?),
                            wall: WallTime(row.get(1)?),
                            newest: Seq(row.get(2)?),
                        })
                    },
                )
                .optional()?;
            if let Some(cut) = cut {
                self.conn.execute(
                    "DELETE FROM milestones WHERE noticed_ms < ?1",
                    [cut.at.ms()],
                )?;
            }
            Ok(cut)
        };
        read().during("reading how old orders are", &self.path)
    }

    /// The webhooks that the ledger knows, as far as pruning goes.
    pub fn claimants(&self) -> Result<Vec<Claimant>, Error> {
        let mut claimants = Vec::new();
        for (webhook_id, name) in self.webhooks()? {
            let parked = || {
                let mut parked = None;
                for order_type in OrderType::ALL {
                    let first: Option<i64> = self
                        .conn
                        .prepare_cached(
                            "SELECT min(seq) FROM parked WHERE webhook_id = ?1 AND order_type = ?2",
                        )?
                        .query_row(params![webhook_id.0, order_type.as_str()], |row| row.get(0))?;
                    parked = parked.into_iter().chain(first.map(Seq)).min();
                }
                Ok::<_, rusqlite::Error>((parked, read_selections(&self.conn, webhook_id)?))
            };
            let (parked, selections) = parked().during("reading parked orders", &self.path)?;
            claimants.push(Claimant {
                webhook_id,
                name,
                places: self.lane(webhook_id)?.places,
                selections,
                parked,
            });
        }
        Ok(claimants)
    }

    /// Where the payloads of this queue begin: for each time in which it was fed from.
    pub fn payload_spans(&self) -> Result<Vec<(PayloadId, PayloadId)>, Error> {
        let epochs = self.epochs().during("reading payloads", &self.path)?;
        let first_of = |(from, before)| (PayloadId::first_of(from), PayloadId::first_of(before));
        Ok(epochs.into_iter().map(first_of).collect())
    }

    /// Looks among some payloads of a webhook and order type, in the order in which they were
    /// sealed and after the first of these ids, for the first that is needed. Those after it hold later orders, strays apart.
    pub fn first_needed(
        &self,
        webhook_id: WebhookId,
        order_type: OrderType,
        (from, before): (PayloadId, PayloadId),
        cut: Cut,
    ) -> Result<Walk, Error> {
        let walk = || -> rusqlite::Result<_> {
            let mut statement = self.conn.prepare_cached(&format!(
                "SELECT payload_id, {DONE}, queue_generation FROM payloads
                 WHERE webhook_id = ?1 AND order_type = ?2 AND payload_id > ?3 AND payload_id < ?4 ORDER BY payload_id LIMIT ?5"
            ))?;
            let mut rows = statement.query(params![
                webhook_id.0,
                order_type.as_str(),
                from.to_string(),
                before.to_string(),
                SLICE
            ])?;
            let (mut read, mut last) = (0, None);
            while let Some(row) = rows.next()? {
                let id = payload_id_of(row)?;
                read += 1;
                last = Some(id);
                let is_ours = row.get::<_, i64>(2)? == self.queue_generation;
                let is_done = row.get(1)? && id.made_at() <= cut.at;
                if is_ours && !is_done {
                    return Ok((Some(id), read, last));
                }
            }
            Ok((None, read, last))
        };
        let (found, read, last) = walk().during("looking for payloads", &self.path)?;
        match (found, last) {
            (Some(id), _) => {
                let needed = self.needed_since(webhook_id, order_type, id, cut);
                needed
                    .during("looking for payloads", &self.path)
                    .map(Walk::Needed)
            }
            (None, Some(last)) if read >= SLICE => Ok(Walk::Further(last)),
            (None, _) => Ok(Walk::End),
        }
    }

    /// The first order that is needed by this payload, or by others of the same millisecond, which
    /// are in no order.
    fn needed_since(
        &self,
        webhook_id: WebhookId,
        order_type: OrderType,
        first: PayloadId,
        cut: Cut,
    ) -> rusqlite::Result<Needed> {
        let next = PayloadId::first_of(Timestamp::from_ms(first.made_at().ms() + 1));
        let mut statement = self.conn.prepare_cached(&format!(
            "SELECT payload_id, {DONE}, members, state, coalesce(settled_at, created_at), queue_generation FROM payloads
             WHERE webhook_id = ?1 AND order_type = ?2 AND payload_id >= ?3 AND payload_id < ?4"
        ))?;
        let mut rows = statement.query(params![
            webhook_id.0,
            order_type.as_str(),
            first.to_string(),
            next.to_string()
        ])?;
        let mut needed: Option<Needed> = None;
        while let Some(row) = rows.next()? {
            let id = payload_id_of(row)?;
            let is_done: bool = row.get(1)?;
            if is_done && id.made_at() <= cut.at || row.get::<_, i64>(5)? != self.queue_generation {
                continue;
            }
            let found = read_needed(row, members_of(row, 2)?.first())?;
            if needed.as_ref().is_none_or(|known| found.seq < known.seq) {
                needed = Some(found);
            }
        }
        needed.ok_or_else(|| unreadable("payload_id", "none"))
    }

    /// The first order before a place that is in a payload that is needed, in which one would not
    /// look for it.
    pub fn first_needed_stray(
        &self,
        webhook_id: WebhookId,
        before: Seq,
        cut: Cut,
    ) -> Result<Option<Needed>, Error> {
        self.conn
            .prepare_cached(&format!(
                "SELECT payload_id, seq, members, state, coalesce(settled_at, created_at)
                 FROM strays CROSS JOIN payloads USING (webhook_id, payload_id)
                 WHERE webhook_id = ?1 AND seq < ?2 AND order_type IN ('purchase_order', 'transfer_order', 'work_order')
                    AND NOT ({DONE} AND payload_id < ?3)
                 ORDER BY seq LIMIT 1"
            ))
            .and_then(|mut statement| {
                let young = PayloadId::first_of(Timestamp::from_ms(cut.at.ms() + 1));
                statement
                    .query_row(params![webhook_id.0, before.0, young.to_string()], |row| {
                        read_needed(row, Seq(row.get(1)?))
                    })
                    .optional()
            })
            .during("looking for payloads", &self.path)
    }

    /// Writes down that the orders up to this one are done with; not if a resend was asked for
    /// meanwhile that needs one of them, or has failed since (D11), or a webhook has come, of which
    /// these claimants know nothing. From then on none of it can happen.
    pub fn mark_pruned(&mut self, up_to: Seq, claimants: &[Claimant]) -> Result<bool, Error> {
        let known: BTreeSet<i64> = claimants.iter().map(|known| known.webhook_id.0).collect();
        let mark = |conn: &mut Connection| -> rusqlite::Result<bool> {
            let transaction = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let all_known = transaction
                .prepare_cached("SELECT webhook_id FROM webhooks")?
                .query_map([], |row| row.get::<_, i64>(0))?
                .all(|id| id.is_ok_and(|id| known.contains(&id)));
            let needed = [
                first_order(&transaction, OF_ERRANDS)?,
                first_order(&transaction, OF_FAILED)?,
            ];
            if !all_known || needed.into_iter().flatten().any(|seq| seq <= up_to) {
                return Ok(false);
            }
            transaction.execute(
                "UPDATE ledger SET pruned_up_to = max(pruned_up_to, ?1) WHERE id = 1",
                [up_to.0],
            )?;
            transaction.commit()?;
            Ok(true)
        };
        mark(&mut self.conn).during("marking what is pruned", &self.path)
    }

    /// The orders of each webhook's last payload: they stay, as the proof that this queue is the one
    /// that the ledger knows.
    pub fn proofs(&self) -> Result<BTreeSet<Seq>, Error> {
        let (_, last_payloads) = self.traces().during("reading what was seen", &self.path)?;
        let mut proofs = BTreeSet::new();
        for id in last_payloads {
            if let Ok(id) = id.parse()
                && let Some(payload) = self.payload(id)?
            {
                proofs.extend(payload.members.seqs());
            }
        }
        Ok(proofs)
    }

    /// Forgets that these rows were set aside: they are gone.
    pub fn forget_set_aside(&mut self, gone: &[Seq]) -> Result<(), Error> {
        let generation = self.queue_generation;
        let forget = |conn: &mut Connection| -> rusqlite::Result<_> {
            let transaction = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
            for seq in gone {
                transaction
                    .prepare_cached(
                        "DELETE FROM set_aside WHERE queue_generation = ?1 AND seq = ?2",
                    )?
                    .execute(params![generation, seq.0])?;
            }
            transaction.commit()
        };
        forget(&mut self.conn).during("forgetting what is pruned", &self.path)
    }

    /// Deletes some payloads of a webhook and order type of which nothing is needed any more, and
    /// their attempts. Returns how many there were, and where to go on.
    pub fn forget_payloads(
        &mut self,
        webhook_id: WebhookId,
        order_type: OrderType,
        from: PayloadId,
        cut: Cut,
    ) -> Result<(u64, Option<PayloadId>), Error> {
        let doing = "forgetting what is pruned";
        let epochs = self.epochs().during(doing, &self.path)?;
        // Cursors went back when the queue was adopted: only the last time is in order.
        let in_order = epochs
            .last()
            .map_or_else(Timestamp::default, |(from, _)| *from);
        let (mut read, mut next) = (0, None);
        let mut going = Vec::new();
        let mut find = || -> rusqlite::Result<()> {
            let up_to = pruned_up_to(&self.conn)?;
            let mut statement = self.conn.prepare_cached(&format!(
                "SELECT payload_id, {DONE}, members, after_seq, queue_generation, resend_of IS NOT NULL,
                    payload_id = (SELECT last_payload_id FROM webhooks WHERE webhooks.webhook_id = payloads.webhook_id)
                 FROM payloads WHERE webhook_id = ?1 AND order_type = ?2 AND payload_id > ?3 ORDER BY payload_id LIMIT ?4"
            ))?;
            let mut rows = statement.query(params![
                webhook_id.0,
                order_type.as_str(),
                from.to_string(),
                SLICE
            ])?;
            while let Some(row) = rows.next()? {
                let id = payload_id_of(row)?;
                let is_ours = row.get::<_, i64>(4)? == self.queue_generation;
                let after = Seq(row.get(3)?);
                if id.made_at() > cut.at || is_ours && after >= up_to && id.made_at() >= in_order {
                    next = None;
                    return Ok(());
                }
                read += 1;
                next = Some(id);
                let is_proof: Option<bool> = row.get(6)?;
                let members = members_of(row, 2)?;
                let is_done: bool = row.get(1)?;
                if is_done && is_proof != Some(true) && (!is_ours || members.last() <= up_to) {
                    let strays: bool = row.get(5)?;
                    going.push((id, members, strays, after));
                }
            }
            Ok(())
        };
        find().during(doing, &self.path)?;
        next = next.filter(|_| read >= SLICE);
        let delete = |conn: &mut Connection| -> rusqlite::Result<()> {
            let transaction = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
            for (id, members, is_copy, after) in &going {
                let seqs = members.seqs().iter();
                for seq in seqs.take_while(|&seq| *is_copy || seq <= after) {
                    transaction
                        .prepare_cached("DELETE FROM strays WHERE webhook_id = ?1 AND seq = ?2 AND payload_id = ?3")?
                        .execute(params![webhook_id.0, seq.0, id.to_string()])?;
                }
                delete_payload(&transaction, webhook_id, order_type, &id.to_string())?;
            }
            transaction.commit()
        };
        if !going.is_empty() {
            delete(&mut self.conn).during(doing, &self.path)?;
        }
        Ok((going.len() as u64, next))
    }

    /// Deletes some attempts of tests, which are in no payload's row; `None` behind the last.
    pub fn forget_tests_attempts(
        &mut self,
        from: PayloadId,
        cut: Cut,
    ) -> Result<Option<PayloadId>, Error> {
        let forget = |conn: &mut Connection| -> rusqlite::Result<_> {
            let ids: Vec<PayloadId> = conn
                .prepare_cached(
                    "SELECT DISTINCT payload_id FROM other_attempts WHERE payload_id > ?1 AND payload_id < ?2 ORDER BY payload_id LIMIT ?3",
                )?
                .query_map(
                    params![from.to_string(), PayloadId::first_of(cut.at).to_string(), SLICE],
                    payload_id_of,
                )?
                .collect::<rusqlite::Result<_>>()?;
            let mut orphans = Vec::new();
            {
                let mut known = conn.prepare_cached(
                    "SELECT 1 FROM webhooks CROSS JOIN payloads USING (webhook_id)
                     WHERE order_type IN ('purchase_order', 'transfer_order', 'work_order') AND payload_id = ?1",
                )?;
                let mut waits =
                    conn.prepare_cached("SELECT 1 FROM errands WHERE payload_id = ?1")?;
                for id in &ids {
                    let id = id.to_string();
                    if !known.exists([&id])? && !waits.exists([&id])? {
                        orphans.push(id);
                    }
                }
            }
            if !orphans.is_empty() {
                let transaction = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
                for id in orphans {
                    transaction
                        .prepare_cached("DELETE FROM other_attempts WHERE payload_id = ?1")?
                        .execute([id])?;
                }
                transaction.commit()?;
            }
            Ok(ids
                .last()
                .copied()
                .filter(|_| i64::try_from(ids.len()).is_ok_and(|read| read >= SLICE)))
        };
        forget(&mut self.conn).during("forgetting what is pruned", &self.path)
    }

    /// Gives up the places of webhooks that were removed so long ago (D27), unless they have a payload
    /// that somebody has yet to decide about (D11). Returns their names.
    pub fn forget_removed(&mut self, cut: Cut, now: Timestamp) -> Result<Vec<String>, Error> {
        let forget = |conn: &mut Connection| -> rusqlite::Result<_> {
            let transaction = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
            transaction.execute(
                "UPDATE ledger SET forgotten_ms = max(forgotten_ms, ?1) WHERE id = 1",
                [cut.at.ms()],
            )?;
            transaction.execute(
                "UPDATE webhooks SET removed_ms = ?1 WHERE removed_at IS NOT NULL AND removed_ms IS NULL",
                [now.ms()],
            )?;
            let gone: Vec<(i64, String)> = transaction
                .prepare_cached(
                    "SELECT webhook_id, name FROM webhooks WHERE removed_ms <= ?1 AND head_payload_id IS NULL
                        AND NOT EXISTS (SELECT 1 FROM errands WHERE errands.webhook_id = webhooks.webhook_id)
                        AND NOT EXISTS (SELECT 1 FROM payloads WHERE payloads.webhook_id = webhooks.webhook_id AND state = 'failed')",
                )?
                .query_map([cut.at.ms()], |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect::<rusqlite::Result<_>>()?;
            for (webhook_id, _) in &gone {
                for table in ["webhooks", "selections", "dropped", "instructions"] {
                    let sql = format!("DELETE FROM {table} WHERE webhook_id = ?1");
                    transaction.execute(&sql, [webhook_id])?;
                }
            }
            transaction.commit()?;
            Ok(gone.into_iter().map(|(_, name)| name).collect())
        };
        forget(&mut self.conn).during("forgetting removed webhooks", &self.path)
    }

    /// Deletes some of what webhooks left that are gone; `false` if nothing is left.
    pub fn forget_orphans(&mut self) -> Result<bool, Error> {
        let forget = |conn: &mut Connection| -> rusqlite::Result<_> {
            for table in ["parked", "strays"] {
                let Some(webhook_id) = orphan(conn, table)? else {
                    continue;
                };
                let sql = format!(
                    "DELETE FROM {table} WHERE webhook_id = ?1 AND seq IN
                        (SELECT seq FROM {table} WHERE webhook_id = ?1 LIMIT ?2)"
                );
                conn.execute(&sql, params![webhook_id, SLICE])?;
                return Ok(true);
            }
            let Some(webhook_id) = orphan(conn, "payloads")? else {
                return Ok(false);
            };
            let transaction = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let going: Vec<(String, OrderType)> = transaction
                .prepare_cached(
                    "SELECT payload_id, order_type FROM payloads WHERE webhook_id = ?1 LIMIT ?2",
                )?
                .query_map(params![webhook_id, SLICE], |row| {
                    let order_type: String = row.get(1)?;
                    let order_type = order_type
                        .parse()
                        .map_err(|_| unreadable("order_type", &order_type))?;
                    Ok((row.get(0)?, order_type))
                })?
                .collect::<rusqlite::Result<_>>()?;
            for (id, order_type) in going {
                delete_payload(&transaction, WebhookId(webhook_id), order_type, &id)?;
            }
            transaction.commit()?;
            Ok(true)
        };
        forget(&mut self.conn).during("forgetting removed webhooks", &self.path)
    }
}

/// Payloads that failed. As SQL.
const OF_FAILED: &str = "payloads WHERE state = 'failed'";

/// Whether a payload of the row is settled and will not be sent again, by all that one knows here;
/// how old it is, is told by its id besides. As SQL.
const DONE: &str = "(state IN ('delivered', 'discarded')
    AND settled_at <= (SELECT noticed_at FROM milestones ORDER BY noticed_ms LIMIT 1)
    AND NOT EXISTS (SELECT 1 FROM errands WHERE errands.webhook_id = payloads.webhook_id AND errands.payload_id = payloads.payload_id)
    AND NOT EXISTS (SELECT 1 FROM webhooks WHERE webhooks.webhook_id = payloads.webhook_id AND head_payload_id = payloads.payload_id))";

pub(super) fn pruned_up_to(conn: &Connection) -> rusqlite::Result<Seq> {
    conn.prepare_cached("SELECT pruned_up_to FROM ledger WHERE id = 1")?
        .query_row([], |row| row.get(0).map(Seq))
}

/// Payloads that are to be resent. As SQL.
const OF_ERRANDS: &str = "errands CROSS JOIN payloads USING (webhook_id, payload_id)
    WHERE order_type IN ('purchase_order', 'transfer_order', 'work_order')";

/// The first order in some payloads of this queue.
fn first_order(conn: &Connection, payloads: &str) -> rusqlite::Result<Option<Seq>> {
    let mut statement = conn.prepare_cached(&format!(
        "SELECT members FROM {payloads} AND queue_generation = (SELECT queue_generation FROM ledger)"
    ))?;
    let mut rows = statement.query([])?;
    let mut first = None;
    while let Some(row) = rows.next()? {
        let seq = members_of(row, 0)?.first();
        first = first.into_iter().chain([seq]).min();
    }
    Ok(first)
}

/// Whether a resend needs an order that is pruned.
pub(super) fn needs_pruned(conn: &Connection) -> rusqlite::Result<bool> {
    let (needed, up_to) = (first_order(conn, OF_ERRANDS)?, pruned_up_to(conn)?);
    Ok(needed.is_some_and(|seq| seq <= up_to))
}

fn delete_payload(
    conn: &Connection,
    webhook_id: WebhookId,
    order_type: OrderType,
    id: &str,
) -> rusqlite::Result<()> {
    conn.prepare_cached("DELETE FROM other_attempts WHERE payload_id = ?1")?
        .execute([id])?;
    conn.prepare_cached(
        "DELETE FROM payloads WHERE webhook_id = ?1 AND order_type = ?2 AND payload_id = ?3",
    )?
    .execute(params![webhook_id.0, order_type.as_str(), id])
    .map(drop)
}

/// A webhook that is gone, and has left rows in a table.
fn orphan(conn: &Connection, table: &str) -> rusqlite::Result<Option<i64>> {
    let mut after = i64::MIN;
    let sql = format!("SELECT min(webhook_id) FROM {table} WHERE webhook_id > ?1");
    while let Some(webhook_id) =
        conn.query_row(&sql, [after], |row| row.get::<_, Option<i64>>(0))?
    {
        let known = "SELECT 1 FROM webhooks WHERE webhook_id = ?1";
        if !conn.prepare_cached(known)?.exists([webhook_id])? {
            return Ok(Some(webhook_id));
        }
        after = webhook_id;
    }
    Ok(None)
}

fn members_of(row: &Row<'_>, column: usize) -> rusqlite::Result<Members> {
    Members::from_bytes(row.get_ref(column)?.as_blob()?)
        .ok_or_else(|| unreadable("members", "these bytes"))
}

/// From a row of `payload_id, _, _, state, since`.
fn read_needed(row: &Row<'_>, seq: Seq) -> rusqlite::Result<Needed> {
    let state: String = row.get(3)?;
    Ok(Needed {
        seq,
        payload_id: payload_id_of(row)?,
        state: PayloadState::ALL
            .into_iter()
            .find(|known| known.as_str() == state)
            .ok_or_else(|| unreadable("state", &state))?,
        since: WallTime(row.get(4)?),
    })
}
