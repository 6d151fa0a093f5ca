//! Which payloads carry an order: found without an index, in a time that does not grow with what
//! was sent before.
//!
//! The payloads of a webhook and order type lie in the order in which they were sealed, and each
//! says up to which order those before it had come. So a search by halves finds the one that
//! carries an order, in about thirty steps over a month. Orders that are elsewhere have a row of
//! their own (`strays`): they are few, and none of them is on the way of an ordinary delivery.

use rusqlite::{Connection, OptionalExtension, params};

use super::{Ledger, WebhookId, unreadable};
use crate::feed::order::{OrderType, Seq};
use crate::feed::payload::{Members, PayloadId};
use crate::feed::timestamp::Timestamp;
use crate::store::{During, Error};

impl Ledger {
    /// The payloads of a webhook that carry this order of the queue, oldest first; parts and
    /// copies that were made by resending included.
    pub fn payloads_with(
        &self,
        webhook_id: WebhookId,
        order_type: OrderType,
        seq: Seq,
    ) -> Result<Vec<PayloadId>, Error> {
        self.find(webhook_id, order_type, seq)
            .during("looking for an order's payloads", &self.path)
    }

    fn find(
        &self,
        webhook_id: WebhookId,
        order_type: OrderType,
        seq: Seq,
    ) -> rusqlite::Result<Vec<PayloadId>> {
        let mut found = self.strays(webhook_id, seq)?;
        let lane = Sealed {
            conn: &self.conn,
            webhook_id,
            order_type,
            queue_generation: self.queue_generation,
        };
        for (from, before) in self.epochs()? {
            found.extend(lane.carrying(seq, from, before)?);
        }
        found.sort();
        found.dedup();
        Ok(found)
    }

    /// Where the payloads lie that may carry orders after this one, strays apart: for each time in
    /// which this queue was fed from, from which id on, and before which.
    pub(super) fn payload_spans_after(
        &self,
        webhook_id: WebhookId,
        order_type: OrderType,
        seq: Seq,
    ) -> rusqlite::Result<Vec<(PayloadId, PayloadId)>> {
        let lane = Sealed {
            conn: &self.conn,
            webhook_id,
            order_type,
            queue_generation: self.queue_generation,
        };
        let mut spans = Vec::new();
        for (from, before) in self.epochs()? {
            if let Some(low) = lane.last_beginning_before(seq.next(), from, before)? {
                let first = PayloadId::first_of(Timestamp::from_ms(low));
                spans.push((first, PayloadId::first_of(before)));
            }
        }
        Ok(spans)
    }

    fn strays(&self, webhook_id: WebhookId, seq: Seq) -> rusqlite::Result<Vec<PayloadId>> {
        let mut statement = self.conn.prepare_cached(
            "SELECT payload_id FROM strays WHERE webhook_id = ?1 AND seq = ?2 ORDER BY payload_id",
        )?;
        let mut rows = statement.query(params![webhook_id.0, seq.0])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            found.push(payload_id_of(row)?);
        }
        Ok(found)
    }

    /// The spans of time in which this queue was fed from without going back in it.
    pub(super) fn epochs(&self) -> rusqlite::Result<Vec<(Timestamp, Timestamp)>> {
        let mut statement = self.conn.prepare_cached(
            "SELECT adopted_ms, queue_generation FROM adoptions ORDER BY adopted_ms",
        )?;
        let mut from = Some(Timestamp::default()).filter(|_| self.queue_generation == 1);
        let mut epochs = Vec::new();
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let adopted = Timestamp::from_ms(row.get(0)?);
            epochs.extend(from.map(|from| (from, adopted)));
            from = Some(adopted).filter(|_| row.get(1) == Ok(self.queue_generation));
        }
        epochs.extend(from.map(|from| (from, Timestamp::from_ms(ULID_MS_MAX))));
        Ok(epochs)
    }
}

/// The time in a ULID has 48 bits.
const ULID_MS_MAX: i64 = (1 << 48) - 1;

/// The payloads of a webhook and order type.
struct Sealed<'a> {
    conn: &'a Connection,
    webhook_id: WebhookId,
    order_type: OrderType,
    queue_generation: i64,
}

impl Sealed<'_> {
    /// Those of a span of time that carry an order, strays apart.
    fn carrying(
        &self,
        seq: Seq,
        from: Timestamp,
        before: Timestamp,
    ) -> rusqlite::Result<Vec<PayloadId>> {
        let Some(low) = self.last_beginning_before(seq, from, before)? else {
            return Ok(Vec::new());
        };
        // Or it is in one of the next, if another one of that has come further.
        let next = self.first_since(Timestamp::from_ms(low + 1), before)?;
        let until = next.map_or(low, |(payload_id, _)| payload_id.made_at().ms());
        self.among(
            seq,
            Timestamp::from_ms(low),
            Timestamp::from_ms(until + 1).min(before),
        )
    }

    /// The last millisecond in a span of time whose payloads begin before an order; the first that
    /// has any payloads, if none do; `None` if there are none.
    fn last_beginning_before(
        &self,
        seq: Seq,
        from: Timestamp,
        before: Timestamp,
    ) -> rusqlite::Result<Option<i64>> {
        let Some((first, _)) = self.first_since(from, before)? else {
            return Ok(None);
        };
        // Payloads of the same millisecond are in no order; those of an earlier one came earlier.
        // Sought is the last millisecond whose payloads begin before this order.
        let (mut low, mut high) = (first.made_at().ms(), self.last_ms(before)?);
        while low < high {
            let middle = low + (high - low) / 2 + 1;
            match self.first_since(Timestamp::from_ms(middle), before)? {
                Some((payload_id, after)) if after < seq => low = payload_id.made_at().ms(),
                Some(_) | None => high = middle - 1,
            }
        }
        Ok(Some(low))
    }

    /// The first payload that was sealed in a span of time, and how far those before it had come.
    fn first_since(
        &self,
        from: Timestamp,
        before: Timestamp,
    ) -> rusqlite::Result<Option<(PayloadId, Seq)>> {
        self.conn
            .prepare_cached(
                "SELECT payload_id, after_seq FROM payloads
                 WHERE webhook_id = ?1 AND order_type = ?2 AND payload_id >= ?3 AND payload_id < ?4
                 ORDER BY payload_id LIMIT 1",
            )?
            .query_row(self.span(from, before), |row| {
                Ok((payload_id_of(row)?, Seq(row.get(1)?)))
            })
            .optional()
    }

    /// When the last one was sealed.
    fn last_ms(&self, before: Timestamp) -> rusqlite::Result<i64> {
        self.conn
            .prepare_cached(
                "SELECT payload_id FROM payloads
                 WHERE webhook_id = ?1 AND order_type = ?2 AND payload_id >= ?3 AND payload_id < ?4
                 ORDER BY payload_id DESC LIMIT 1",
            )?
            .query_row(self.span(Timestamp::default(), before), |row| {
                Ok(payload_id_of(row)?.made_at().ms())
            })
    }

    /// Those of a span of time that hold the order.
    fn among(
        &self,
        seq: Seq,
        from: Timestamp,
        before: Timestamp,
    ) -> rusqlite::Result<Vec<PayloadId>> {
        let mut statement = self.conn.prepare_cached(
            "SELECT payload_id, members, queue_generation FROM payloads
             WHERE webhook_id = ?1 AND order_type = ?2 AND payload_id >= ?3 AND payload_id < ?4",
        )?;
        let mut rows = statement.query(self.span(from, before))?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            if row.get::<_, i64>(2)? != self.queue_generation {
                // Its orders were lost, and others may have their places.
                continue;
            }
            let members = Members::from_bytes(row.get_ref(1)?.as_blob()?)
                .ok_or_else(|| unreadable("members", "these bytes"))?;
            if members.contains(seq) {
                found.push(payload_id_of(row)?);
            }
        }
        Ok(found)
    }

    fn span(&self, from: Timestamp, before: Timestamp) -> impl rusqlite::Params {
        (
            self.webhook_id.0,
            self.order_type.as_str(),
            PayloadId::first_of(from).to_string(),
            PayloadId::first_of(before).to_string(),
        )
    }
}

pub(super) fn payload_id_of(row: &rusqlite::Row<'_>) -> rusqlite::Result<PayloadId> {
    let text = row.get_ref(0)?.as_str()?;
    text.parse().map_err(|_| unreadable("payload_id", text))
}

/// Notes an order in a payload in which one would not look for it.
pub(super) fn write_stray(
    conn: &Connection,
    webhook_id: WebhookId,
    seq: Seq,
    payload_id: &str,
) -> rusqlite::Result<()> {
    conn.prepare_cached(
        "INSERT OR IGNORE INTO strays (webhook_id, seq, payload_id) VALUES (?1, ?2, ?3)",
    )?
    .execute(params![webhook_id.0, seq.0, payload_id])
    .map(drop)
}

/// Notes that cursors went back. By the seqs of another queue nothing is found any more.
pub(super) fn write_adoption(
    conn: &Connection,
    now: Timestamp,
    queue_generation: i64,
    same_queue: bool,
) -> rusqlite::Result<()> {
    conn.execute(
        "INSERT OR REPLACE INTO adoptions (adopted_ms, queue_generation) VALUES (?1, ?2)",
        params![now.ms(), queue_generation],
    )?;
    if !same_queue {
        conn.execute("DELETE FROM strays", [])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Reading, WallTime};
    use crate::feed::lane::Lane;
    use crate::feed::order::Action;
    use crate::feed::payload::{ENCODING, Payload};
    use crate::store::ledger::{self, Change, Commit};

    const WEBHOOK: WebhookId = WebhookId(1);

    struct Site {
        ledger: Ledger,
        _folder: tempfile::TempDir,
    }

    impl Site {
        fn new() -> Self {
            let folder = tempfile::tempdir().expect("a folder");
            let path = folder.path().join("ledger.db");
            let reading = Reading::take();
            ledger::create(&path, "ledger", "queue", &reading).expect("a ledger");
            let ledger = Ledger::open(&path, &reading).expect("it opens");
            ledger
                .conn
                .execute_batch(
                    "INSERT INTO webhooks (name, purchase_order_cursor, purchase_order_sealed_last, transfer_order_cursor,
                        transfer_order_sealed_last, work_order_cursor, work_order_sealed_last, seals, standing, selections_version)
                     VALUES ('erp', 0, 0, 0, 0, 0, 0, 0, 'up', 1)",
                )
                .expect("a webhook");
            Self {
                ledger,
                _folder: folder,
            }
        }

        /// Seals a payload at this millisecond, by a lane that had come so far.
        fn seal(&mut self, ms: i64, dice: u8, after: i64, seqs: &[i64]) -> PayloadId {
            let payload = Payload {
                id: PayloadId::new(Timestamp::from_ms(ms), [dice; 10]),
                order_type: OrderType::WorkOrder,
                action: Action::default(),
                members: Members::new(seqs.iter().copied().map(Seq).collect()).expect("ascending"),
                encoding: ENCODING,
                checksum: 1,
            };
            let id = payload.id;
            let mut commit = Commit::new(WEBHOOK, Lane::default(), WallTime(ms));
            commit.changes.push(Change::Sealed {
                payload,
                after: Seq(after),
            });
            self.ledger.record(&[commit]).expect("recorded");
            id
        }

        fn find(&self, seq: i64) -> Vec<PayloadId> {
            let found = self
                .ledger
                .payloads_with(WEBHOOK, OrderType::WorkOrder, Seq(seq));
            found.expect("found")
        }
    }

    #[test]
    fn each_order_is_found_in_its_payload() {
        let mut site = Site::new();
        let mut ids = Vec::new();
        for index in 0..200 {
            // Three in a millisecond, the later ones with lower ids; every third order is passed.
            let (ms, dice) = (
                1_000 + index / 3 * 7,
                200 - u8::try_from(index % 3).expect("few"),
            );
            let first = index * 3 + 1;
            ids.push(site.seal(ms, dice, index * 3, &[first, first + 1]));
        }
        for (index, id) in (0..).zip(&ids) {
            assert_eq!(site.find(index * 3 + 1), [*id], "order {}", index * 3 + 1);
            assert_eq!(site.find(index * 3 + 2), [*id]);
            assert_eq!(site.find(index * 3 + 3), []);
        }
        assert_eq!(site.find(0), []);
        assert_eq!(site.find(601), []);
    }

    #[test]
    fn d25_a_parked_order_is_found_where_it_went_when_it_returned() {
        let mut site = Site::new();
        let early = site.seal(1_000, 1, 0, &[1, 3]);
        let returned = site.seal(2_000, 1, 4, &[2, 4, 5]);
        let only_returned = site.seal(3_000, 1, 6, &[6]);
        let last = site.seal(4_000, 1, 6, &[7]);
        for (seq, expected) in [
            (1, early),
            (2, returned),
            (3, early),
            (4, returned),
            (5, returned),
            (6, only_returned),
            (7, last),
        ] {
            assert_eq!(site.find(seq), [expected], "order {seq}");
        }
    }

    #[test]
    fn an_order_that_adopt_queue_sent_again_is_found_in_both_payloads() {
        let mut site = Site::new();
        let before = site.seal(1_000, 1, 0, &[1, 2]);
        let adopt = |site: &Site, ms, generation, same_queue| {
            let now = Timestamp::from_ms(ms);
            write_adoption(&site.ledger.conn, now, generation, same_queue).expect("written");
        };
        adopt(&site, 1_500, 1, true);
        let again = site.seal(2_000, 1, 1, &[2, 3]);
        assert_eq!(site.find(1), [before]);
        assert_eq!(site.find(2), [before, again]);
        // Another queue's order of the same seq is another order.
        adopt(&site, 2_500, 2, false);
        site.ledger.queue_generation = 2;
        assert_eq!(site.find(2), []);
        let other = site.seal(3_000, 1, 0, &[2]);
        assert_eq!(site.find(2), [other]);
    }
}
