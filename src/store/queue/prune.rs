//! Deleting what is done with, for good, and finding out what is not.
//!
//! Producers share the queue's write lock, so each transaction is short, and done again later where
//! a producer is in the way. What may go is not decided here.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rusqlite::{OptionalExtension as _, TransactionBehavior, params};

use super::{Met, Queue, is_busy};
use crate::feed::order::{OrderType, Seq};
use crate::feed::selection::Selections;
use crate::store::{During, Error};

/// Orders in one transaction, at most.
const SLICE: usize = 500;

/// A transaction deletes no further order after so long.
const SLICE_PATIENCE: Duration = Duration::from_millis(5);

/// A producer is waited for so long.
const PRODUCER_PATIENCE: Duration = Duration::from_millis(200);

/// How far a search for the first order that a webhook is yet to be sent has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Search {
    /// It is this one.
    Found(Seq),
    /// None up to this one; there are others behind it.
    NoneUpTo(Seq),
    /// There is none.
    Nothing,
}

/// What one transaction deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slice {
    /// The orders that are gone.
    pub deleted: Vec<Seq>,
    /// All that may go up to this one is gone; `None`: all of it.
    pub done_up_to: Option<Seq>,
}

impl Queue {
    /// Searches some rows of a type between two seqs (neither included) for one that a webhook is
    /// yet to be sent, or has yet to park (D25) or to set aside.
    pub fn first_unpassed(
        &mut self,
        order_type: OrderType,
        after: Seq,
        before: Seq,
        selections: &Selections,
    ) -> Result<Search, Error> {
        self.visible = self.newest()?;
        let (mut found, mut last) = (None, after);
        let all = self.each_row(order_type, after, before, |row| {
            last = row.seq;
            let unpassed = match row.meet(selections) {
                Met::Leaves(_) | Met::Parks => true,
                Met::SetAside(_) => selections.covers(order_type),
                Met::Passes => false,
            };
            found = unpassed.then_some(last);
            !unpassed
        })?;
        Ok(match found {
            Some(seq) => Search::Found(seq),
            None if all => Search::Nothing,
            None => Search::NoneUpTo(last),
        })
    }

    /// How many orders there are after one and up to another.
    pub fn count_between(&self, after: Seq, up_to: Seq) -> Result<u64, Error> {
        self.conn
            .prepare_cached("SELECT count(*) FROM orders WHERE seq > ?1 AND seq <= ?2")
            .and_then(|mut statement| {
                statement.query_row([after.0, up_to.0], |row| row.get::<_, i64>(0))
            })
            .map(i64::cast_unsigned)
            .during("counting orders", &self.path)
    }

    /// Those of these orders that are no longer there.
    pub fn gone(&self, seqs: &[Seq]) -> Result<Vec<Seq>, Error> {
        let gone = || -> rusqlite::Result<_> {
            let mut statement = self
                .conn
                .prepare_cached("SELECT 1 FROM orders WHERE seq = ?1")?;
            let mut gone = Vec::new();
            for &seq in seqs {
                if !statement.exists([seq.0])? {
                    gone.push(seq);
                }
            }
            Ok(gone)
        };
        gone().during("looking for orders", &self.path)
    }

    /// Deletes some orders after one and up to another, with all that belongs to them, in one
    /// transaction; `None` if a producer was in the way. It leaves those that are `kept`, those of
    /// `aside` that are not withdrawn, and the newest order and withdrawal: by these one tells
    /// that the queue is not an older copy.
    pub fn prune(
        &mut self,
        after: Seq,
        up_to: Seq,
        kept: &BTreeSet<Seq>,
        aside: &BTreeSet<Seq>,
    ) -> Result<Option<Slice>, Error> {
        self.refuse_replaced()?;
        let doing = "pruning";
        let candidates = self.candidates(after, up_to).during(doing, &self.path)?;
        let done_up_to = (candidates.len() == SLICE)
            .then(|| candidates.last().copied())
            .flatten();
        let mut going = Vec::new();
        for seq in candidates {
            let stays = kept.contains(&seq)
                || aside.contains(&seq) && !self.is_withdrawn(seq).during(doing, &self.path)?;
            if !stays {
                going.push(seq);
            }
        }
        let mut slice = Slice {
            deleted: Vec::new(),
            done_up_to,
        };
        if going.is_empty() {
            return Ok(Some(slice));
        }
        self.conn
            .busy_timeout(PRODUCER_PATIENCE)
            .during(doing, &self.path)?;
        let deleted = self.delete(&going, up_to);
        self.conn
            .busy_timeout(Self::PATIENCE)
            .during(doing, &self.path)?;
        match deleted {
            Ok(deleted) => {
                if deleted < going.len() {
                    going.truncate(deleted);
                    slice.done_up_to = going.last().copied();
                }
                slice.deleted = going;
                self.uncopied = true;
                Ok(Some(slice))
            }
            Err(error) if is_busy(&error) => Ok(None),
            Err(error) => Err(error).during(doing, &self.path),
        }
    }

    /// Deletes the withdrawals of orders that are gone, but for the newest.
    pub fn prune_withdrawals(&mut self, up_to: Seq) -> Result<bool, Error> {
        let doing = "pruning withdrawals";
        self.conn
            .busy_timeout(PRODUCER_PATIENCE)
            .during(doing, &self.path)?;
        let pruned = self.delete_withdrawals(up_to);
        self.conn
            .busy_timeout(Self::PATIENCE)
            .during(doing, &self.path)?;
        match pruned {
            Ok(()) => Ok(true),
            Err(error) if is_busy(&error) => Ok(false),
            Err(error) => Err(error).during(doing, &self.path),
        }
    }

    fn candidates(&self, after: Seq, up_to: Seq) -> rusqlite::Result<Vec<Seq>> {
        self.conn
            .prepare_cached(
                "SELECT seq FROM orders WHERE seq > ?1 AND seq <= ?2 AND seq < (SELECT max(seq) FROM orders)
                 ORDER BY seq LIMIT ?3",
            )?
            .query_map(
                params![after.0, up_to.0, i64::try_from(SLICE).unwrap_or(i64::MAX)],
                |row| row.get(0).map(Seq),
            )?
            .collect()
    }

    fn is_withdrawn(&self, seq: Seq) -> rusqlite::Result<bool> {
        self.conn
            .prepare_cached("SELECT 1 FROM withdrawals WHERE seq = ?1")?
            .exists([seq.0])
    }

    /// Deletes the first of these orders, as many as time allows, and returns how many.
    fn delete(&mut self, going: &[Seq], up_to: Seq) -> rusqlite::Result<usize> {
        let begun = Instant::now();
        let transaction = self
            .conn
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut deleted = 0;
        {
            transaction
                .prepare_cached("INSERT INTO prunings (up_to) VALUES (?1)")?
                .execute([up_to.0])?;
            // As the queue's trigger found it when the order was queued.
            let mut number = transaction.prepare_cached(
                "DELETE FROM tracking_numbers WHERE seq = ?1
                    AND order_type = (SELECT order_type FROM orders WHERE seq = ?1)
                    AND tracking_number = (SELECT CAST(json_extract(body, '$.TrackingNumber') AS TEXT)
                        FROM orders WHERE seq = ?1 AND json_valid(body))",
            )?;
            let mut withdrawal = transaction.prepare_cached(
                "DELETE FROM withdrawals WHERE seq = ?1 AND withdrawal < (SELECT max(withdrawal) FROM withdrawals)",
            )?;
            let mut order = transaction.prepare_cached("DELETE FROM orders WHERE seq = ?1")?;
            for &Seq(seq) in going {
                number.execute([seq])?;
                withdrawal.execute([seq])?;
                order.execute([seq])?;
                deleted += 1;
                if begun.elapsed() > SLICE_PATIENCE {
                    break;
                }
            }
            transaction
                .prepare_cached("DELETE FROM prunings")?
                .execute([])?;
        }
        transaction.commit()?;
        Ok(deleted)
    }

    fn delete_withdrawals(&mut self, up_to: Seq) -> rusqlite::Result<()> {
        const LEFT: &str = "FROM withdrawals WHERE seq <= ?1 AND withdrawal < (SELECT max(withdrawal) FROM withdrawals)
            AND NOT EXISTS (SELECT 1 FROM orders WHERE orders.seq = withdrawals.seq)";
        let left = self
            .conn
            .prepare_cached(&format!("SELECT 1 {LEFT} LIMIT 1"))?
            .query_row([up_to.0], |_| Ok(()))
            .optional()?;
        if left.is_none() {
            return Ok(());
        }
        let transaction = self
            .conn
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute("INSERT INTO prunings (up_to) VALUES (?1)", [up_to.0])?;
        transaction.execute(&format!("DELETE {LEFT}"), [up_to.0])?;
        transaction.execute("DELETE FROM prunings", [])?;
        transaction.commit()
    }
}
