//! What an operator asks of the queue, over a connection of its own: the lanes' reader is never
//! held up by it.
//!
//! It sees what is committed, whether or not the daemon has noticed it yet, and writes nothing.
//! No answer leaves a transaction open, so the WAL is never pinned for long.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use rusqlite::{OptionalExtension, Row, params};

use super::Queue;
use crate::feed::order::{Order, OrderType, Seq, Undeliverable};
use crate::feed::payload::Payload;
use crate::store::{During, Error};

/// A reader of the queue.
#[derive(Debug)]
pub struct Reader(Queue);

/// A row of the queue, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueuedOrder {
    /// Its place.
    pub seq: Seq,
    /// Its type.
    pub order_type: OrderType,
    /// Its action, as it stands there.
    pub action: String,
    /// When it was queued, as its producer says.
    pub queued_at: String,
    /// When its producer took it back.
    pub withdrawn_at: Option<String>,
    /// The order; or why it can't be delivered.
    pub order: Result<Order, Undeliverable>,
}

/// A reader waits so long for a producer that closes or mends the file.
const PATIENCE: Duration = Duration::from_secs(2);

/// The columns of a [`QueuedOrder`].
const ORDER: &str = "orders.seq,order_type,action,queued_at,withdrawn_at,body";

impl Reader {
    /// Opens the queue.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let queue = Queue::open(path)?;
        queue
            .conn
            .pragma_update(None, "query_only", true)
            .and_then(|()| queue.conn.busy_timeout(PATIENCE))
            .during("opening", path)?;
        let mut reader = Self(queue);
        reader.look()?;
        Ok(reader)
    }

    /// Sees what was committed since.
    pub fn look(&mut self) -> Result<(), Error> {
        self.0.visible = self.0.newest()?;
        Ok(())
    }

    /// The newest order.
    pub const fn newest(&self) -> Seq {
        self.0.visible.seq
    }

    /// The oldest order; `None`: there are none.
    pub fn oldest(&self) -> Result<Option<Seq>, Error> {
        let sql = "SELECT min(seq) FROM orders";
        let oldest =
            self.0.conn.prepare_cached(sql).and_then(|mut statement| {
                statement.query_row([], |row| row.get::<_, Option<i64>>(0))
            });
        Ok(oldest.during("reading orders", &self.0.path)?.map(Seq))
    }

    /// Counts the orders of a type after one and up to another, withdrawn ones included; no further
    /// than to `limit`.
    pub fn count(
        &self,
        order_type: OrderType,
        after: Seq,
        up_to: Seq,
        limit: u64,
    ) -> Result<u64, Error> {
        // By the index alone: no order is read.
        self.count_by(
            "SELECT count(*) FROM (SELECT 1 FROM orders INDEXED BY orders_by_type
             WHERE order_type = ?1 AND seq > ?2 AND seq <= ?3 LIMIT ?4)",
            order_type,
            (after, up_to),
            limit,
        )
    }

    /// The same, from the newest downwards; and the oldest one that was counted.
    pub fn count_newest(
        &self,
        order_type: OrderType,
        after: Seq,
        up_to: Seq,
        limit: u64,
    ) -> Result<(u64, Seq), Error> {
        let up_to = up_to.min(self.newest());
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.0
            .conn
            .prepare_cached(
                "SELECT count(*), coalesce(min(seq), ?2) FROM (SELECT seq FROM orders INDEXED BY orders_by_type
                 WHERE order_type = ?1 AND seq > ?2 AND seq <= ?3 ORDER BY seq DESC LIMIT ?4)",
            )
            .and_then(|mut statement| {
                statement.query_row(
                    params![order_type.as_str(), after.0, up_to.0, limit],
                    |row| Ok((row.get::<_, i64>(0)?.cast_unsigned(), Seq(row.get(1)?))),
                )
            })
            .during("counting orders", &self.0.path)
    }

    /// Counts the withdrawn ones among them.
    pub fn count_withdrawn(
        &self,
        order_type: OrderType,
        after: Seq,
        up_to: Seq,
        limit: u64,
    ) -> Result<u64, Error> {
        self.count_by(
            "SELECT count(*) FROM (SELECT 1 FROM withdrawals CROSS JOIN orders INDEXED BY orders_by_type USING (seq)
             WHERE order_type = ?1 AND withdrawals.seq > ?2 AND withdrawals.seq <= ?3 LIMIT ?4)",
            order_type,
            (after, up_to),
            limit,
        )
    }

    fn count_by(
        &self,
        sql: &str,
        order_type: OrderType,
        (after, up_to): (Seq, Seq),
        limit: u64,
    ) -> Result<u64, Error> {
        let up_to = up_to.min(self.newest());
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.0
            .conn
            .prepare_cached(sql)
            .and_then(|mut statement| {
                statement.query_row(
                    params![order_type.as_str(), after.0, up_to.0, limit],
                    |row| row.get::<_, i64>(0),
                )
            })
            .map(i64::cast_unsigned)
            .during("counting orders", &self.0.path)
    }

    /// The oldest order of a type after one and up to another that is not withdrawn: its place, and
    /// when it was queued.
    pub fn first(
        &self,
        order_type: OrderType,
        after: Seq,
        up_to: Seq,
    ) -> Result<Option<(Seq, String)>, Error> {
        self.0
            .conn
            .prepare_cached(
                "SELECT seq, queued_at FROM orders WHERE order_type = ?1 AND seq > ?2 AND seq <= ?3
                    AND NOT EXISTS (SELECT 1 FROM withdrawals WHERE withdrawals.seq = orders.seq)
                 ORDER BY seq LIMIT 1",
            )
            .and_then(|mut statement| {
                let up_to = up_to.min(self.newest());
                statement
                    .query_row(params![order_type.as_str(), after.0, up_to.0], |row| {
                        Ok((Seq(row.get(0)?), row.get(1)?))
                    })
                    .optional()
            })
            .during("reading orders", &self.0.path)
    }

    /// Reads the orders of a type after one, oldest first, that can be delivered and are not
    /// withdrawn: among so many rows, or so many bytes of them; and the last row that was read, if
    /// there are more.
    pub fn each_order(
        &self,
        order_type: OrderType,
        after: Seq,
        (rows_max, bytes_max): (usize, usize),
        mut meet: impl FnMut(Order),
    ) -> Result<Option<Seq>, Error> {
        let (mut rows, mut bytes) = (0, 0);
        let mut last = after;
        loop {
            let all = self
                .0
                .each_row(order_type, last, self.newest().next(), |row| {
                    rows += 1;
                    last = row.seq;
                    if let Ok(order) = row.order {
                        bytes += order.body.len();
                        if !row.withdrawn {
                            meet(order);
                        }
                    }
                    rows < rows_max && bytes < bytes_max
                })?;
            if all {
                return Ok(None);
            }
            if rows >= rows_max || bytes >= bytes_max {
                return Ok(Some(last));
            }
        }
    }

    /// The orders with a tracking number, newest first.
    pub fn with_tracking_number(
        &self,
        tracking_number: &str,
        limit: usize,
    ) -> Result<Vec<QueuedOrder>, Error> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.0
            .conn
            .prepare_cached(&format!(
                "SELECT {ORDER} FROM (SELECT seq FROM tracking_numbers WHERE tracking_number = ?1 ORDER BY seq DESC LIMIT ?2)
                 CROSS JOIN orders USING (seq) LEFT JOIN withdrawals USING (seq) ORDER BY orders.seq DESC"
            ))
            .and_then(|mut statement| {
                statement
                    .query_map(params![tracking_number, limit], read_queued)?
                    .collect()
            })
            .during("looking for a tracking number", &self.0.path)
    }

    /// Where orders with a tracking number stand, and of which type they are, newest first; only
    /// those before a place.
    pub fn places_of(
        &self,
        tracking_number: &str,
        before: Seq,
        limit: usize,
    ) -> Result<Vec<(Seq, OrderType)>, Error> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.0
            .conn
            .prepare_cached(
                "SELECT orders.seq, order_type FROM (SELECT seq FROM tracking_numbers
                    WHERE tracking_number = ?1 AND seq < ?2 ORDER BY seq DESC LIMIT ?3)
                 CROSS JOIN orders USING (seq) ORDER BY orders.seq DESC",
            )
            .and_then(|mut statement| {
                statement
                    .query_map(params![tracking_number, before.0, limit], |row| {
                        Ok((Seq(row.get(0)?), order_type_of(row, 1)?))
                    })?
                    .collect()
            })
            .during("looking for a tracking number", &self.0.path)
    }

    /// An order by its place.
    pub fn order(&self, seq: Seq) -> Result<Option<QueuedOrder>, Error> {
        self.0
            .conn
            .prepare_cached(&format!(
                "SELECT {ORDER} FROM orders LEFT JOIN withdrawals USING (seq) WHERE orders.seq = ?1"
            ))
            .and_then(|mut statement| statement.query_row([seq.0], read_queued).optional())
            .during("reading an order", &self.0.path)
    }

    /// The places of the orders of a type after one and up to another, oldest first.
    pub fn seqs(
        &self,
        order_type: OrderType,
        after: Seq,
        up_to: Seq,
        limit: usize,
    ) -> Result<Vec<Seq>, Error> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.0
            .conn
            .prepare_cached(
                "SELECT seq FROM orders INDEXED BY orders_by_type
                 WHERE order_type = ?1 AND seq > ?2 AND seq <= ?3 ORDER BY seq LIMIT ?4",
            )
            .and_then(|mut statement| {
                statement
                    .query_map(
                        params![order_type.as_str(), after.0, up_to.0, limit],
                        |row| row.get(0).map(Seq),
                    )?
                    .collect()
            })
            .during("reading orders", &self.0.path)
    }

    /// The withdrawn orders after one and up to another.
    pub fn withdrawn(&self, after: Seq, up_to: Seq) -> Result<Vec<Seq>, Error> {
        self.0
            .conn
            .prepare_cached("SELECT seq FROM withdrawals WHERE seq > ?1 AND seq <= ?2 ORDER BY seq")
            .and_then(|mut statement| {
                statement
                    .query_map([after.0, up_to.0], |row| row.get(0).map(Seq))?
                    .collect()
            })
            .during("reading withdrawals", &self.0.path)
    }

    /// How many rows there are after one and up to another, all types together.
    pub fn rows(&self, after: Seq, up_to: Seq) -> Result<u64, Error> {
        self.0
            .conn
            .prepare_cached("SELECT count(*) FROM orders WHERE seq > ?1 AND seq <= ?2")
            .and_then(|mut statement| {
                statement.query_row([after.0, up_to.0], |row| row.get::<_, i64>(0))
            })
            .map(i64::cast_unsigned)
            .during("counting orders", &self.0.path)
    }

    /// The last order that was queued before this time (RFC 3339, UTC, milliseconds). Found by
    /// halves: producers who set `queued_at` themselves may have mixed it up.
    pub fn last_before(&self, queued_at: &str) -> Result<Seq, Error> {
        let mut statement = self
            .0
            .conn
            .prepare_cached(
                "SELECT seq, queued_at FROM orders WHERE seq >= ?1 ORDER BY seq LIMIT 1",
            )
            .during("reading orders", &self.0.path)?;
        let (mut low, mut high) = (0, self.newest().0);
        while low < high {
            // All up to `low` are before it; those after `high` are not.
            let middle = low + (high - low + 1) / 2;
            let found: Option<(i64, String)> = statement
                .query_row([middle], |row| Ok((row.get(0)?, row.get(1)?)))
                .optional()
                .during("reading orders", &self.0.path)?;
            match found {
                Some((seq, found)) if found.as_str() < queued_at => low = seq.min(high),
                Some(_) | None => high = middle - 1,
            }
        }
        Ok(Seq(low))
    }

    /// The payload's bytes, made again from its orders; or why they can't be.
    pub fn body(&self, payload: &Payload) -> Result<Result<Bytes, String>, Error> {
        self.0.body(payload)
    }
}

fn order_type_of(row: &Row<'_>, column: usize) -> rusqlite::Result<OrderType> {
    let order_type: String = row.get(column)?;
    order_type.parse().map_err(|error: Undeliverable| {
        rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, error.into())
    })
}

fn read_queued(row: &Row<'_>) -> rusqlite::Result<QueuedOrder> {
    let seq = Seq(row.get(0)?);
    let order_type = order_type_of(row, 1)?;
    let action = row.get_ref(2)?.as_bytes().unwrap_or_default();
    let body = row.get_ref(5)?.as_bytes().unwrap_or_default();
    Ok(QueuedOrder {
        seq,
        order_type,
        action: String::from_utf8_lossy(action).into_owned(),
        queued_at: row.get(3)?,
        withdrawn_at: row.get(4)?,
        order: Order::parse(seq, order_type, action, body),
    })
}
