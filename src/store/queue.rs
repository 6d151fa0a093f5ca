//! `queue.db`: what producers wrote, read in the order in which it entered.
//!
//! Other people's programs write this file, so its rows are foreign until they are parsed. The
//! daemon only reads it, but for one row that says which ledger feeds from it, and deletes what is done with ([`prune`]). Nothing here
//! decides what is sent; nothing here is remembered that the files do not hold, but for when an
//! order was noticed.

mod glance;
pub mod prune;
pub mod reader;
pub mod rules;
mod wal;

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, Row, TransactionBehavior, params};

use super::files::{self, Kind};
use super::ledger::WebhookId;
use super::{During, Error};
use crate::feed::lane::{First, Place, Progress, Seal, Waiting};
use crate::feed::order::{Action, Order, OrderType, PerType, Seq, Undeliverable};
use crate::feed::payload::{self, Batch, Members, Payload, PayloadId, Picked};
use crate::feed::policy::Policy;
use crate::feed::selection::{Fate, Selections};
use crate::feed::timestamp::Timestamp;
pub use glance::{Glance, Glimpse};

/// How `queue.db` is made and told from other files.
pub const KIND: Kind = Kind {
    name: "queue",
    application_id: 0x6f66_7175, // "ofqu"
    schema_version: 1,
    schema: include_str!("queue.sql"),
    mode: 0o660,
    exclusive: false,
    folder_mode: 0o2770,
    page_bytes: 4_096,
};

/// Rows read in one go at most, so that a filter that passes little holds up nobody else.
const ROWS_MAX: usize = 4_096;

/// Bytes of orders read in one go at most, beyond the last order.
const BYTES_MAX: usize = 16 * 1024 * 1024;

/// Looks remembered, for telling when an order was noticed.
const LOOKS_MAX: usize = 256;

/// A withdrawal waits so long for producers.
const WITHDRAW_PATIENCE: Duration = Duration::from_millis(500);

/// Makes a new, empty queue.
pub fn create(path: &Path, queue_id: &str) -> Result<(), Error> {
    files::create(KIND, path, |conn| {
        conn.execute(
            "INSERT INTO queue (id, queue_id, created_at) VALUES (1, ?1, strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))",
            [queue_id],
        )
        .map(drop)
    })
}

/// The open queue.
#[derive(Debug)]
pub struct Queue {
    pub(super) conn: Connection,
    path: PathBuf,
    /// Another file under this name is another queue.
    file: files::Identity,
    /// The `-wal`, for syncing it; opening it drops no locks of SQLite's, as opening the
    /// database file would.
    wal: Option<File>,
    /// Whether a sync of the `-wal` failed, and was not made good yet.
    sync_failed: bool,
    /// SQLite's `data_version` at the last look: it changes when others commit.
    data_version: Option<i64>,
    visible: Visible,
    /// What the file held when it was last synced.
    synced: Visible,
    /// The last looks that found new orders: the newest order then, and when.
    looks: VecDeque<(Seq, Timestamp)>,
    /// What each webhook subscribed to.
    selections: BTreeMap<WebhookId, Selections>,
    /// While this is so nothing new is noticed: what webhooks subscribe to is being changed.
    held: bool,
    /// Whether the WAL may hold what is not copied back yet.
    uncopied: bool,
    /// The `schema_version` of a queue as it is made.
    made: i64,
    /// See [`Queue::is_vouched`].
    vouched: bool,
}

/// What was seen and synced at the last look; nothing beyond it is built on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Visible {
    seq: Seq,
    withdrawal: i64,
}

/// Which ledger feeds from the queue, and how far it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Which queue this is; given when it was made.
    pub queue_id: String,
    /// The ledger that feeds from it; `None` before the first did.
    pub ledger_id: Option<String>,
    /// A payload that this ledger sealed, not long ago.
    pub last_payload_id: Option<PayloadId>,
}

/// What picking the next payload found.
#[derive(Debug)]
pub struct Pick {
    /// The payload to be; `None` if the rows that were read hold nothing to send.
    pub picked: Option<Picked>,
    /// How far it came.
    pub progress: Progress,
    /// Orders to be parked (D25).
    pub parked: Vec<Seq>,
    /// Parked orders that are in `picked` now, or were withdrawn since.
    pub unparked: Vec<Seq>,
    /// Rows that can't be delivered.
    pub set_aside: Vec<SetAside>,
    /// As [`Scan::selections_version`].
    pub selections_version: Option<u64>,
}

/// What looking for a webhook's orders found.
#[derive(Debug)]
pub struct Scan {
    /// What waits.
    pub waiting: Waiting,
    /// How far it came with each type.
    pub progress: PerType<Progress>,
    /// Orders to be parked (D25).
    pub parked: Vec<(OrderType, Seq)>,
    /// Parked orders that were withdrawn since.
    pub unparked: Vec<(OrderType, Seq)>,
    /// Rows that can't be delivered.
    pub set_aside: Vec<SetAside>,
    /// Rows that were passed over.
    pub rows_passed: usize,
    /// Whether more must be read before one can tell what waits.
    pub unread: bool,
    /// The newest order that was noticed then.
    pub newest_noticed: Seq,
    /// Which change made the webhook's selections what they are; `None` if it has none.
    pub selections_version: Option<u64>,
}

/// How many orders of a type a webhook has before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Survey {
    /// Those that it would send.
    pub waiting: u64,
    /// Those that it collected and no longer selects (D25).
    pub parked: u64,
    /// Whether all rows were looked at.
    pub complete: bool,
}

/// A row that can't be delivered, to anyone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetAside {
    /// Its place in the queue.
    pub seq: Seq,
    /// Its order type.
    pub order_type: OrderType,
    /// What is wrong with it.
    pub reason: String,
}

/// The versions of an order that a payload holds (D23).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Its tracking number.
    pub tracking_number: String,
    /// Where in the queue they are, oldest first.
    pub seqs: Vec<Seq>,
}

/// An order that is to be queued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewOrder {
    /// Its type.
    pub order_type: OrderType,
    /// What happened to it, if not `submit`.
    pub action: Option<String>,
    /// Refused if the queue has it already.
    pub dedup_key: Option<String>,
    /// The order's JSON.
    pub body: String,
}

/// Queues one order; see [`NewOrder::values`].
const INSERT: &str = "INSERT INTO orders (order_type, action, dedup_key, body) VALUES (?1, coalesce(?2, 'submit'), ?3, ?4)";

impl NewOrder {
    fn values(&self) -> impl rusqlite::Params + '_ {
        (
            self.order_type.as_str(),
            &self.action,
            &self.dedup_key,
            &self.body,
        )
    }
}

impl Queue {
    /// Opens the queue; sees nothing in it before the first [`Queue::look`].
    pub fn open(path: &Path) -> Result<Self, Error> {
        let conn = files::open(KIND, path)?;
        // Only the daemon's looks decide when the WAL is copied back.
        conn.pragma_update(None, "wal_autocheckpoint", 0)
            .and_then(|()| conn.busy_timeout(Self::PATIENCE))
            .during("opening", path)?;
        let made = made(&conn, path)?;
        let queue = Self {
            conn,
            path: path.to_owned(),
            file: files::identity(path)?,
            wal: None,
            sync_failed: false,
            data_version: None,
            visible: Visible::default(),
            synced: Visible::default(),
            looks: VecDeque::new(),
            selections: BTreeMap::new(),
            held: false,
            uncopied: true,
            vouched: made.is_some(),
            made: made.unwrap_or_default(),
        };
        queue.identity()?;
        Ok(queue)
    }

    /// Which ledger feeds from it.
    pub fn identity(&self) -> Result<Identity, Error> {
        self.conn
            .query_row(
                "SELECT queue_id, ledger_id, last_payload_id FROM queue WHERE id = 1",
                [],
                |row| {
                    Ok(Identity {
                        queue_id: row.get(0)?,
                        ledger_id: row.get(1)?,
                        last_payload_id: row
                            .get::<_, Option<String>>(2)?
                            .and_then(|text| text.parse().ok()),
                    })
                },
            )
            .during("reading whose it is", &self.path)
    }

    /// Says which ledger feeds from it, and how far that came. Waits no longer than `patience`
    /// for a producer's lock; `false` if it was not had.
    pub fn mark(
        &mut self,
        ledger_id: &str,
        last_payload_id: Option<PayloadId>,
        patience: Duration,
    ) -> Result<bool, Error> {
        self.refuse_replaced()?;
        let marked = self.conn.busy_timeout(patience).and_then(|()| {
            let transaction = self
                .conn
                .transaction_with_behavior(TransactionBehavior::Immediate)?;
            transaction.execute(
                "UPDATE queue SET ledger_id = ?1, last_payload_id = ?2 WHERE id = 1",
                params![ledger_id, last_payload_id.map(|id| id.to_string())],
            )?;
            transaction.commit()
        });
        self.conn
            .busy_timeout(Self::PATIENCE)
            .during("marking it", &self.path)?;
        match marked {
            Ok(()) => Ok(true),
            Err(error) if is_busy(&error) => Ok(false),
            Err(error) => Err(error).during("marking it", &self.path),
        }
    }

    /// Notices what was committed since the last look; `true` if anything was. What it noticed
    /// is on disk when it returns: a producer may have committed without waiting for the disk,
    /// and were the power cut, its seqs would be given again to other orders, which a ledger
    /// that had moved on would skip (D18).
    pub fn look(&mut self, now: Timestamp) -> Result<bool, Error> {
        if self.held {
            return Ok(false);
        }
        // Orders would go into the other file, and none from there would leave.
        self.refuse_replaced()?;
        let version = self
            .conn
            .prepare_cached("PRAGMA data_version")
            .and_then(|mut statement| statement.query_row([], |row| row.get(0)))
            .during("looking for commits", &self.path)?;
        if self.data_version == Some(version) {
            return Ok(false);
        }
        let newest = self.newest()?;
        self.sync(newest)?;
        self.data_version = Some(version);
        if newest.seq > self.visible.seq || self.looks.is_empty() {
            self.looks.push_back((newest.seq, now));
            if self.looks.len() > LOOKS_MAX
                && let Some((_, oldest)) = self.looks.pop_front()
                && let Some((_, at)) = self.looks.front_mut()
            {
                // What was noticed a little later counts as noticed then, too.
                *at = oldest;
            }
        }
        let changed = newest != self.visible;
        self.visible = newest;
        self.uncopied = true;
        Ok(changed)
    }

    /// Nothing but the connection.
    pub fn into_connection(self) -> Connection {
        self.conn
    }

    /// A connection of its own for telling whether others committed.
    pub fn glance(&self) -> Result<Glance, Error> {
        Glance::open(&self.path)
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the triggers vouch for every order that was noticed: neither they nor the tables
    /// were changed since the queue was made. Else each order is checked anew, which is slower.
    pub const fn is_vouched(&self) -> bool {
        self.vouched
    }

    /// The newest order that was noticed.
    pub fn newest_noticed(&self) -> Seq {
        self.visible.seq
    }

    /// The newest order and the newest withdrawal that are certainly on disk: what a power cut
    /// leaves, which the simulation's goes by.
    pub fn synced(&self) -> (Seq, i64) {
        (self.synced.seq, self.synced.withdrawal)
    }

    /// Notices nothing new until [`Queue::subscribe`], and returns the newest order that was
    /// noticed: what webhooks subscribe to may change from the next one on, and nobody reads that
    /// one by what they subscribed to before (D25).
    pub const fn hold(&mut self) -> Seq {
        self.held = true;
        self.visible.seq
    }

    /// Ends a [`Queue::hold`]. From now on this is what webhooks subscribed to, if it changed.
    pub fn subscribe(&mut self, selections: Option<BTreeMap<WebhookId, Selections>>) {
        if let Some(selections) = selections {
            self.selections = selections;
        }
        self.held = false;
    }

    /// What waits for a webhook: of each order type, the oldest order that it may send now. Rows
    /// before it lead nowhere, and are passed over. `parked` are, for each type, the first of its
    /// parked orders after [`Place::unpark`], at most [`Queue::PARKED_MAX`] of them.
    pub fn waiting(
        &self,
        webhook_id: WebhookId,
        places: &PerType<Place>,
        parked: &PerType<Vec<Seq>>,
        policy: &Policy,
    ) -> Result<Scan, Error> {
        let mut scan = Scan {
            waiting: Waiting::default(),
            progress: PerType::from_fn(|order_type| places[order_type].progress()),
            parked: Vec::new(),
            unparked: Vec::new(),
            set_aside: Vec::new(),
            rows_passed: 0,
            unread: false,
            newest_noticed: self.visible.seq,
            selections_version: None,
        };
        let Some(selections) = self.selections.get(&webhook_id) else {
            return Ok(scan);
        };
        scan.selections_version = Some(selections.version());
        for order_type in OrderType::ALL {
            if selections.covers(order_type) {
                let parked = &parked[order_type];
                let first = self.first(order_type, parked, selections, policy, &mut scan)?;
                scan.waiting.0[order_type] = first;
            }
        }
        Ok(scan)
    }

    fn first(
        &self,
        order_type: OrderType,
        parked: &[Seq],
        selections: &Selections,
        policy: &Policy,
        scan: &mut Scan,
    ) -> Result<Option<First>, Error> {
        let progress = &mut scan.progress[order_type];
        if progress.unpark.is_some() {
            for &seq in parked {
                match self.row(order_type, seq)?.map(|row| row.meet(selections)) {
                    Some(Met::Leaves(_)) => {
                        // It has waited long enough: it does not linger.
                        let noticed = self.noticed(seq);
                        return Ok(Some(First {
                            seq,
                            noticed,
                            full: true,
                        }));
                    }
                    Some(Met::Parks | Met::SetAside(_)) => {}
                    Some(Met::Passes) | None => scan.unparked.push((order_type, seq)),
                }
                progress.unpark = Some(seq);
            }
            if parked.len() >= Self::PARKED_MAX {
                scan.unread = true;
                return Ok(None);
            }
            progress.unpark = None;
        }
        let lingers = !policy.payload_linger.is_zero();
        let mut batch = Batch::new(order_type, policy);
        let mut first: Option<First> = None;
        let end = self.visible.seq.next();
        let all_read = self.each_row(order_type, progress.cursor, end, |row| {
            let seq = row.seq;
            match (row.meet(selections), &mut first) {
                (Met::Leaves(order), first) => {
                    let noticed = self.noticed(seq);
                    let first = first.get_or_insert(First {
                        seq,
                        noticed,
                        full: false,
                    });
                    first.full = !batch.offer(&order) || batch.is_full();
                    // Whether a whole payload waits matters to lingering alone.
                    return lingers && !first.full;
                }
                // Picking the first one will meet those behind it.
                (Met::Parks | Met::SetAside(_) | Met::Passes, Some(_)) => return true,
                (Met::Parks, None) => scan.parked.push((order_type, seq)),
                (Met::SetAside(reason), None) => {
                    scan.set_aside.push(SetAside {
                        seq,
                        order_type,
                        reason,
                    });
                }
                (Met::Passes, None) => {}
            }
            progress.cursor = seq;
            scan.rows_passed += 1;
            true
        })?;
        match &mut first {
            Some(first) => {
                progress.cursor = first.seq.before();
                first.full |= !all_read;
            }
            None if all_read => progress.cursor = progress.cursor.max(self.visible.seq),
            None => scan.unread = true,
        }
        Ok(first)
    }

    /// Picks the orders of the webhook's next payload (D1), none beyond `newest`: what came after
    /// the decision to seal may precede it. `parked` as with [`Queue::waiting`].
    pub fn pick(
        &self,
        webhook_id: WebhookId,
        seal: Seal,
        place: Place,
        parked: &[Seq],
        newest: Seq,
        policy: &Policy,
    ) -> Result<Pick, Error> {
        let order_type = seal.order_type;
        let mut batch = Batch::new(order_type, policy);
        let mut pick = Pick {
            picked: None,
            progress: place.progress(),
            parked: Vec::new(),
            unparked: Vec::new(),
            set_aside: Vec::new(),
            selections_version: None,
        };
        let Some(selections) = self.selections.get(&webhook_id) else {
            return Ok(pick);
        };
        pick.selections_version = Some(selections.version());
        let end = newest.next();
        let end = seal.before.map_or(end, |before| before.min(end));
        if place.unpark.is_some() {
            let mut all_read = parked.len() < Self::PARKED_MAX;
            for &seq in parked {
                if seq >= end {
                    all_read = false;
                    break;
                }
                match self.row(order_type, seq)?.map(|row| row.meet(selections)) {
                    Some(Met::Leaves(order)) => {
                        if !batch.offer(&order) {
                            all_read = false;
                            break;
                        }
                        pick.unparked.push(seq);
                    }
                    Some(Met::Parks | Met::SetAside(_)) => {}
                    Some(Met::Passes) | None => pick.unparked.push(seq),
                }
                pick.progress.unpark = Some(seq);
            }
            if all_read {
                pick.progress.unpark = None;
            }
        }
        if pick.progress.unpark.is_none() {
            let all_read = self.each_row(order_type, place.cursor, end, |row| {
                let seq = row.seq;
                match row.meet(selections) {
                    Met::Leaves(order) if !batch.offer(&order) => return false,
                    Met::Leaves(_) | Met::Passes => {}
                    Met::Parks => pick.parked.push(seq),
                    Met::SetAside(reason) => {
                        pick.set_aside.push(SetAside {
                            seq,
                            order_type,
                            reason,
                        });
                    }
                }
                pick.progress.cursor = seq;
                !batch.is_full()
            })?;
            if all_read {
                pick.progress.cursor = pick.progress.cursor.max(end.before());
            }
        }
        pick.picked = batch.close();
        Ok(pick)
    }

    /// Counts a webhook's orders of a type after its cursor, by what becomes of them now; at most
    /// `limit` rows are looked at.
    pub fn survey(
        &self,
        order_type: OrderType,
        after: Seq,
        selections: &Selections,
        limit: u64,
    ) -> Result<Survey, Error> {
        let mut survey = Survey {
            complete: true,
            ..Survey::default()
        };
        let mut rows_read = 0;
        let mut after = after;
        loop {
            let before = rows_read;
            self.each_row(order_type, after, self.visible.seq.next(), |row| {
                rows_read += 1;
                after = row.seq;
                if let Ok(order) = row.order
                    && !row.withdrawn
                {
                    match selections.fate(&order) {
                        Fate::Send => survey.waiting += 1,
                        Fate::Park => survey.parked += 1,
                        Fate::Pass => {}
                    }
                }
                rows_read < limit
            })?;
            if rows_read == before {
                return Ok(survey);
            }
            if rows_read >= limit {
                return Ok(Survey {
                    complete: false,
                    ..survey
                });
            }
        }
    }

    /// As many parked orders as [`Queue::pick`] takes at once.
    pub const PARKED_MAX: usize = 1_000;

    /// The payload's bytes, made again from its orders; an error in words if they are not the
    /// bytes that were sealed.
    pub fn body(&self, payload: &Payload) -> Result<Result<Bytes, String>, Error> {
        if payload.encoding != payload::ENCODING {
            return Ok(Err(format!(
                "payload {} was encoded by version {}, which this orderfeed does not have",
                payload.id, payload.encoding
            )));
        }
        let body = match self.encode(payload.order_type, &payload.action, &payload.members)? {
            Ok(body) => body,
            Err(what) => return Ok(Err(what)),
        };
        if payload::checksum(&body) == payload.checksum {
            Ok(Ok(body))
        } else {
            Ok(Err(format!(
                "the orders of payload {} are not what they were when it was sealed",
                payload.id
            )))
        }
    }

    /// A payload's orders by tracking number; without those that can't be read.
    pub fn held(&self, order_type: OrderType, members: &Members) -> Result<Vec<Held>, Error> {
        let mut held: BTreeMap<String, Vec<Seq>> = BTreeMap::new();
        for &seq in members.seqs() {
            let row = self.row(order_type, seq)?;
            if let Some(Ok(order)) = row.map(|row| row.order)
                && let Ok(tracking_number) = order.tracking_number()
            {
                let seqs = held.entry(tracking_number.to_string()).or_default();
                seqs.push(seq);
            }
        }
        let held = held.into_iter().map(|(tracking_number, seqs)| Held {
            tracking_number,
            seqs,
        });
        Ok(held.collect())
    }

    /// The orders of a tracking number and type between two seqs (the first not included), newest
    /// first.
    pub fn versions(
        &self,
        tracking_number: &str,
        order_type: OrderType,
        after: Seq,
        newest: Seq,
    ) -> Result<Vec<Seq>, Error> {
        self.conn
            .prepare_cached(
                "SELECT seq FROM tracking_numbers WHERE tracking_number = ?1 AND order_type = ?2 AND seq > ?3 AND seq <= ?4
                 ORDER BY seq DESC",
            )
            .and_then(|mut statement| {
                statement
                    .query_map(
                        params![tracking_number, order_type.as_str(), after.0, newest.0],
                        |row| row.get(0).map(Seq),
                    )?
                    .collect()
            })
            .during("looking for an order's versions", &self.path)
    }

    /// The bytes of some of a payload's orders, encoded as the payload was; an error in words if
    /// they can't be had.
    pub fn encode(
        &self,
        order_type: OrderType,
        action: &Action,
        members: &Members,
    ) -> Result<Result<Bytes, String>, Error> {
        let mut bodies = Vec::with_capacity(members.seqs().len());
        for &seq in members.seqs() {
            match self.row(order_type, seq)?.map(|row| row.order) {
                Some(Ok(order)) => bodies.push(order.body),
                Some(Err(error)) => {
                    return Ok(Err(format!("order {seq} is no order any more: {error}")));
                }
                None => return Ok(Err(format!("order {seq} is no longer in the queue"))),
            }
        }
        let bodies = bodies.iter().map(String::as_str);
        Ok(Ok(payload::encode(order_type, action, bodies)))
    }

    /// Withdraws those of these orders that are not withdrawn yet, and returns them; `None` if a
    /// producer held the queue meanwhile. Lanes wait for this thread, so it is tried but briefly.
    pub fn withdraw(&mut self, seqs: &[Seq]) -> Result<Option<Vec<Seq>>, Error> {
        self.refuse_replaced()?;
        let withdrawn = self.conn.busy_timeout(WITHDRAW_PATIENCE).and_then(|()| {
            let transaction = self
                .conn
                .transaction_with_behavior(TransactionBehavior::Immediate)?;
            let mut withdrawn = Vec::new();
            for &seq in seqs {
                let rows = transaction
                    .prepare_cached(
                        "INSERT INTO withdrawals (seq) SELECT ?1 WHERE NOT EXISTS (SELECT 1 FROM withdrawals WHERE seq = ?1)",
                    )?
                    .execute([seq.0])?;
                withdrawn.extend((rows > 0).then_some(seq));
            }
            transaction.commit()?;
            Ok(withdrawn)
        });
        self.conn
            .busy_timeout(Self::PATIENCE)
            .during("withdrawing orders", &self.path)?;
        match withdrawn {
            Ok(withdrawn) => {
                self.uncopied = true;
                // One's own commits don't change the version that tells of others'.
                self.data_version = None;
                Ok(Some(withdrawn))
            }
            Err(error) if is_busy(&error) => Ok(None),
            Err(error) => Err(error).during("withdrawing orders", &self.path),
        }
    }

    /// Queues the orders in one transaction: all, or none. They get seqs without a gap; the last
    /// one's is returned. The error names which of them the queue refused.
    pub fn enqueue(&mut self, orders: &[NewOrder]) -> Result<Seq, (usize, Error)> {
        let path = &self.path;
        let failed = |source| Error::Sqlite {
            path: path.clone(),
            doing: "queueing orders",
            hint: files::Hint::about(path, &source),
            source,
        };
        let transaction = self
            .conn
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(|error| (0, failed(error)))?;
        {
            let mut insert = transaction
                .prepare_cached(INSERT)
                .map_err(|error| (0, failed(error)))?;
            for (index, order) in orders.iter().enumerate() {
                insert
                    .execute(order.values())
                    .map_err(|error| (index, failed(error)))?;
            }
        }
        let last = Seq(transaction.last_insert_rowid());
        transaction.commit().map_err(|error| (0, failed(error)))?;
        self.uncopied = true;
        Ok(last)
    }

    /// How long a writer waits for other producers.
    pub const PATIENCE: Duration = Duration::from_secs(30);

    /// What there is; with it comes whether the triggers still vouch for it.
    fn newest(&mut self) -> Result<Visible, Error> {
        let (visible, schema_version) = self
            .conn
            .prepare_cached(
                "SELECT (SELECT coalesce(max(seq), 0) FROM orders), (SELECT coalesce(max(withdrawal), 0) FROM withdrawals),
                        (SELECT schema_version FROM pragma_schema_version)",
            )
            .and_then(|mut statement| {
                statement.query_row([], |row| {
                    let visible = Visible { seq: Seq(row.get(0)?), withdrawal: row.get(1)? };
                    Ok((visible, row.get::<_, i64>(2)?))
                })
            })
            .during("looking for orders", &self.path)?;
        self.vouched &= schema_version == self.made;
        Ok(visible)
    }

    /// An error if other programs that open the queue by its name no longer meet this one; nor if
    /// they open its WAL.
    fn refuse_replaced(&self) -> Result<(), Error> {
        files::refuse_replaced(&self.conn, &self.path, self.file)?;
        let Some(wal) = &self.wal else {
            return Ok(());
        };
        let path = files::with_suffix(&self.path, "-wal");
        let metadata = wal.metadata().during("looking at it", &path)?;
        files::refuse_replaced(&self.conn, &path, (metadata.dev(), metadata.ino()))
    }

    /// When an order was noticed: at the first remembered look that saw it.
    fn noticed(&self, seq: Seq) -> Timestamp {
        let index = self.looks.partition_point(|&(newest, _)| newest < seq);
        self.looks
            .get(index)
            .map_or_else(Timestamp::default, |&(_, at)| at)
    }

    /// Reads the rows of a type between two seqs (neither included), oldest first, until `take`
    /// has enough, at most [`ROWS_MAX`] or [`BYTES_MAX`]; `true` if there are no others.
    fn each_row(
        &self,
        order_type: OrderType,
        after: Seq,
        before: Seq,
        mut take: impl FnMut(OrderRow) -> bool,
    ) -> Result<bool, Error> {
        self.conn
            .prepare_cached(
                "SELECT seq, action, body, EXISTS (SELECT 1 FROM withdrawals WHERE withdrawals.seq = orders.seq AND withdrawal <= ?4)
                 FROM orders WHERE order_type = ?1 AND seq > ?2 AND seq < ?3 ORDER BY seq LIMIT ?5",
            )
            .and_then(|mut statement| {
                let limit = i64::try_from(ROWS_MAX).unwrap_or(i64::MAX);
                let mut rows = statement.query(params![
                    order_type.as_str(), after.0, before.0, self.visible.withdrawal, limit
                ])?;
                let (mut rows_read, mut bytes_read) = (0, 0);
                while let Some(row) = rows.next()? {
                    rows_read += 1;
                    bytes_read += row.get_ref(2)?.as_bytes().map_or(0, <[u8]>::len);
                    if !take(self.parse(order_type, row)?) || bytes_read > BYTES_MAX {
                        return Ok(false);
                    }
                }
                Ok(rows_read < limit)
            })
            .during("reading orders", &self.path)
    }

    fn row(&self, order_type: OrderType, seq: Seq) -> Result<Option<OrderRow>, Error> {
        self.conn
            .prepare_cached(
                "SELECT seq, action, body, EXISTS (SELECT 1 FROM withdrawals WHERE withdrawals.seq = orders.seq AND withdrawal <= ?3)
                 FROM orders WHERE seq = ?1 AND order_type = ?2",
            )
            .and_then(|mut statement| {
                statement
                    .query_row(params![seq.0, order_type.as_str(), self.visible.withdrawal], |row| {
                        self.parse(order_type, row)
                    })
                    .optional()
            })
            .during("reading an order", &self.path)
    }

    fn parse(&self, order_type: OrderType, row: &Row<'_>) -> rusqlite::Result<OrderRow> {
        let seq = Seq(row.get(0)?);
        let text = |column: usize| {
            let value = row.get_ref(column)?;
            Ok::<_, rusqlite::Error>(value.as_bytes().unwrap_or_default())
        };
        let parse = if self.vouched {
            Order::vouched
        } else {
            Order::parse
        };
        Ok(OrderRow {
            seq,
            withdrawn: row.get(3)?,
            order: parse(seq, order_type, text(1)?, text(2)?),
        })
    }
}

/// The `schema_version` of a queue as it is made, if this one's tables and triggers are still
/// those: each change counts it up, so that as long as it is the same no order came around the
/// triggers. Whoever goes further out of their way than that may write any order anyhow.
fn made(queue: &Connection, path: &Path) -> Result<Option<i64>, Error> {
    const SCHEMA: &str = "SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY name";
    let schema = |conn: &Connection| {
        let version = conn.pragma_query_value(None, "schema_version", |row| row.get(0))?;
        let mut statement = conn.prepare(SCHEMA)?;
        let rows = statement.query_map([], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
        })?;
        let rows: Vec<(String, String, String, Option<String>)> = rows.collect::<Result<_, _>>()?;
        Ok::<_, rusqlite::Error>((version, rows))
    };
    let as_made = || {
        let conn = Connection::open_in_memory()?;
        conn.execute_batch(KIND.schema)?;
        schema(&conn)
    };
    let as_made = as_made().during("asking for its schema", path)?;
    let found = schema(queue).during("reading its schema", path)?;
    Ok((found == as_made).then_some(as_made.0))
}

/// What becomes of a row that a lane meets.
enum Met {
    /// It leaves.
    Leaves(Order),
    /// It is parked (D25).
    Parks,
    /// It can't be delivered; why.
    SetAside(String),
    /// It is withdrawn, or not this webhook's.
    Passes,
}

/// A row of the queue, parsed if it can be.
struct OrderRow {
    seq: Seq,
    withdrawn: bool,
    order: Result<Order, Undeliverable>,
}

impl OrderRow {
    fn meet(self, selections: &Selections) -> Met {
        match self.order {
            _ if self.withdrawn => Met::Passes,
            Err(Undeliverable(reason)) => Met::SetAside(reason),
            Ok(order) => match selections.fate(&order) {
                Fate::Send => Met::Leaves(order),
                Fate::Park => Met::Parks,
                Fate::Pass => Met::Passes,
            },
        }
    }
}

fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(rusqlite::ErrorCode::DatabaseBusy | rusqlite::ErrorCode::DatabaseLocked)
    )
}
