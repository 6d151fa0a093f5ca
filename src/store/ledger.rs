//! `ledger.db`: where each webhook stands, what was sent, when, and with what answer.
//!
//! The daemon alone writes it, and holds it exclusively. A [`Commit`] is all that one turn of a
//! lane changes, and is written whole or not at all. Nothing here decides anything.

pub mod adopt;
pub mod chores;
pub mod configure;
pub mod errands;
pub mod history;
mod lookup;
pub mod prune;

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OptionalExtension, Row, TransactionBehavior, named_params, params};

use self::errands::{ErrandChange, Instruction};
use super::files::{self, Kind};
use super::queue::SetAside;
use super::{During, Error};
use crate::clock::{Clock, Reading, WallTime};
use crate::feed::lane::{Head, Lane, Place, Standing, Trouble};
use crate::feed::order::{OrderType, PerType, Seq};
use crate::feed::outcome::Phase;
use crate::feed::payload::{Members, Payload, PayloadId, PayloadState};
use crate::feed::selection::{Selection, Selections};
use crate::feed::timestamp::Timestamp;

/// How `ledger.db` is made and told from other files.
pub const KIND: Kind = Kind {
    name: "ledger",
    application_id: 0x6f66_6c65, // "ofle"
    schema_version: 1,
    schema: include_str!("ledger.sql"),
    mode: 0o600,
    exclusive: true,
    folder_mode: 0o700,
    // A commit changes a few short rows, and writes whole pages.
    page_bytes: 1_024,
};

/// Of a delivered payload's answer so many bytes are kept.
pub const ANSWER_BYTES_OF_SUCCESS: usize = 256;

/// Of a failed attempt's answer so many bytes are kept.
pub const ANSWER_BYTES_OF_FAILURE: usize = 2_048;

/// Makes a new, empty ledger that feeds from this queue.
pub fn create(
    path: &Path,
    ledger_id: &str,
    queue_id: &str,
    reading: &Reading,
) -> Result<(), Error> {
    files::create(KIND, path, |conn| {
        conn.execute(
            "INSERT INTO ledger (id, ledger_id, queue_id, created_at, clock_ms, boot_id, boottime_ms, wall_at)
             VALUES (1, ?1, ?2, ?3, ?3, ?4, ?5, ?3)",
            params![ledger_id, queue_id, reading.wall.0, reading.boot_id, reading.boottime_ms],
        )
        .map(drop)
    })
}

/// The open ledger; nobody else has it.
#[derive(Debug)]
pub struct Ledger {
    pub(super) conn: Connection,
    path: PathBuf,
    /// Another file under this name is another ledger.
    file: files::Identity,
    clock: Clock,
    /// How far the wall clock was ahead of the boot's when the clock was last written down;
    /// `None`: there was no room for that when the ledger was opened.
    ahead_ms: Option<i64>,
    ledger_id: String,
    queue_id: String,
    queue_generation: i64,
    last_sealed: Option<PayloadId>,
    /// For copies. Closed after the connection, as fields are dropped in their order.
    image: Arc<File>,
    /// Held locked for as long as the ledger is open.
    _lock: File,
}

/// A webhook's number in the ledger: it stays when the name changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WebhookId(pub i64);

/// All that one turn of a lane changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// Whose lane it is.
    pub webhook_id: WebhookId,
    /// The lane that follows.
    pub lane: Lane,
    /// What happens to payloads, in this order.
    pub changes: Vec<Change>,
    /// Orders to be parked.
    pub parked: Vec<(OrderType, Seq)>,
    /// Parked orders that are in a payload now.
    pub unparked: Vec<(OrderType, Seq)>,
    /// Rows that can't be delivered.
    pub set_aside: Vec<SetAside>,
    /// The newest order that was noticed.
    pub newest_noticed: Seq,
    /// When this is written.
    pub at: WallTime,
}

impl Commit {
    /// Nothing but where the lane stands.
    pub const fn new(webhook_id: WebhookId, lane: Lane, at: WallTime) -> Self {
        Self {
            webhook_id,
            lane,
            changes: Vec::new(),
            parked: Vec::new(),
            unparked: Vec::new(),
            set_aside: Vec::new(),
            newest_noticed: Seq::START,
            at,
        }
    }
}

/// What happens to a payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// It is sealed, and its first attempt begun.
    Sealed {
        /// What it is.
        payload: Payload,
        /// How far the lane had come with its type before.
        after: Seq,
    },
    /// A further attempt is begun.
    Begun(PayloadId, u32),
    /// An attempt was begun and not made.
    Withheld(PayloadId, u32),
    /// An attempt ended.
    Settled {
        /// At which payload.
        payload_id: PayloadId,
        /// What the payload is now.
        state: PayloadState,
        /// Why, in words, unless it is delivered.
        reason: Option<String>,
        /// The attempt.
        attempt: Attempt,
    },
    /// A lane did as it was told.
    Heeded(Instruction),
    /// A payload that a lane was busy with is given up; why.
    Discarded(PayloadId, String),
    /// Something becomes of an errand.
    Errand(PayloadId, ErrandChange),
}

/// An attempt that ended: one HTTP request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// Counts every request with this payload id, from 1.
    pub number: u32,
    /// When it began; `None`: when it was recorded to begin.
    pub started_at: Option<WallTime>,
    /// How long it took, to the answer's status or the failure.
    pub duration: Option<Duration>,
    /// How far it came (D16); `None` if nobody knows.
    pub phase: Option<Phase>,
    /// What it came to.
    pub outcome: AttemptOutcome,
    /// The answer's status.
    pub status: Option<u16>,
    /// What went wrong, in words.
    pub error: Option<String>,
    /// The beginning of the answer's body.
    pub answer: Option<String>,
}

/// What an attempt came to, as the ledger keeps it (D16, D19).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttemptOutcome {
    /// The receiver took it.
    Delivered,
    /// It certainly changed nothing: nothing was sent, or the receiver refused it.
    Failed,
    /// Something was sent, and no answer came: nobody knows.
    Unknown,
    /// Cut off by a crash or a stop: nobody knows.
    Interrupted,
}

impl AttemptOutcome {
    /// Its name in the ledger.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
            Self::Interrupted => "interrupted",
        }
    }
}

impl Ledger {
    /// Opens the ledger for this process alone.
    pub fn open(path: &Path, reading: &Reading) -> Result<Self, Error> {
        files::look_at(path)?;
        let lock = lock(path)?;
        // Before SQLite has it: see `chores::Image`.
        // What is wrong is told below.
        let image = File::open(path).ok().map(Arc::new);
        let conn = files::open(KIND, path)?;
        let Some(image) = image else {
            return Err(Error::Missing(path.to_owned()));
        };
        // The WAL keeps its size when it starts over: room in which outcomes can be written
        // when the disk is full.
        conn.pragma_update_and_check(None, "journal_size_limit", WAL_BYTES_KEPT, |_| Ok(()))
            .during("opening", path)?;
        autocheckpoint(&conn).during("opening", path)?;
        let file = files::identity(path)?;
        let mut ledger = conn
            .query_row(
                "SELECT ledger_id, queue_id, queue_generation FROM ledger WHERE id = 1",
                [],
                |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
            )
            .optional()
            .during("reading which ledger it is", path)?
            .ok_or_else(|| Error::Foreign {
                path: path.to_owned(),
                what: "is damaged: it does not say which ledger it is; restore it".to_owned(),
            })
            .map(|(ledger_id, queue_id, queue_generation)| Self {
                conn,
                path: path.to_owned(),
                file,
                clock: Clock::showing(Timestamp::default(), reading),
                ahead_ms: None,
                ledger_id,
                queue_id,
                queue_generation,
                last_sealed: None,
                image,
                _lock: lock,
            })?;
        ledger
            .read_clock(reading)
            .during("reading its clock", path)?;
        match ledger.write_clock(reading) {
            // What was written down last will do, until there is room.
            Err(error) if error.is_full() => Ok(ledger),
            written => written.map(|()| ledger),
        }
    }

    /// Takes room on the disk for what is yet to be recorded, in the file and in its WAL: outcomes
    /// can then be recorded when the disk is full, and a WAL that is overwritten in place costs
    /// less to sync than one that grows.
    pub fn reserve(&mut self) -> Result<(), Error> {
        self.conn
            .execute_batch("CREATE TABLE IF NOT EXISTS reserve (filler BLOB)")
            .and_then(|()| {
                self.conn.execute(
                    "INSERT INTO reserve (filler) VALUES (zeroblob(?1))",
                    [WAL_BYTES_KEPT],
                )
            })
            .and_then(|_| self.conn.execute_batch("DROP TABLE reserve"))
            .and_then(|()| {
                self.conn
                    .query_row("PRAGMA wal_checkpoint(RESTART)", [], |_| Ok(()))
            })
            .during("reserving room", &self.path)
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The ledger's clock.
    pub const fn clock(&self) -> Clock {
        self.clock
    }

    /// Which ledger this is.
    pub fn ledger_id(&self) -> &str {
        &self.ledger_id
    }

    /// The queue that it feeds from.
    pub fn queue_id(&self) -> &str {
        &self.queue_id
    }

    /// Writes what the turns of some lanes changed, in one durable transaction: all of it, or
    /// nothing.
    pub fn record(&mut self, commits: &[Commit]) -> Result<(), Error> {
        // What is written into a file that has no name any more is gone at the next start.
        files::refuse_replaced(&self.conn, &self.path, self.file)?;
        let generation = self.queue_generation;
        let transaction = self
            .conn
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .during("recording", &self.path)?;
        for commit in commits {
            write(&transaction, generation, commit).during("recording", &self.path)?;
        }
        transaction.commit().during("recording", &self.path)?;
        let sealed = commits
            .iter()
            .flat_map(|commit| &commit.changes)
            .filter_map(|change| match change {
                Change::Sealed { payload, .. } => Some(payload.id),
                Change::Begun(..)
                | Change::Withheld(..)
                | Change::Settled { .. }
                | Change::Heeded(_)
                | Change::Discarded(..)
                | Change::Errand(..) => None,
            });
        self.last_sealed = sealed.chain(self.last_sealed).max();
        Ok(())
    }

    /// The newest payload that was sealed since the ledger was opened.
    pub const fn last_sealed(&self) -> Option<PayloadId> {
        self.last_sealed
    }

    /// Where a webhook stands.
    pub fn lane(&self, webhook_id: WebhookId) -> Result<Lane, Error> {
        lane_of(&self.conn, webhook_id).during("reading where a webhook stands", &self.path)
    }

    /// What a webhook subscribed to over time.
    pub fn selections(&self, webhook_id: WebhookId) -> Result<Selections, Error> {
        read_selections(&self.conn, webhook_id).during("reading selections", &self.path)
    }

    /// A webhook's parked orders of a type after this one, oldest first.
    pub fn parked_after(
        &self,
        webhook_id: WebhookId,
        order_type: OrderType,
        after: Seq,
        limit: usize,
    ) -> Result<Vec<Seq>, Error> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.conn
            .prepare_cached(
                "SELECT seq FROM parked WHERE webhook_id = ?1 AND order_type = ?2 AND seq > ?3 ORDER BY seq LIMIT ?4",
            )
            .and_then(|mut statement| {
                statement
                    .query_map(params![webhook_id.0, order_type.as_str(), after.0, limit], |row| {
                        row.get(0).map(Seq)
                    })?
                    .collect()
            })
            .during("reading parked orders", &self.path)
    }

    /// How many orders are parked for a webhook, of those that it has looked at.
    pub fn parked(&self, webhook_id: WebhookId) -> Result<u64, Error> {
        self.conn
            .query_row(
                "SELECT count(*) FROM parked WHERE webhook_id = ?1",
                [webhook_id.0],
                |row| row.get::<_, i64>(0),
            )
            .map(i64::cast_unsigned)
            .during("counting parked orders", &self.path)
    }

    /// Forgets a webhook's parked orders (D25): those it passed over, and of order types that it
    /// no longer selects all up to `newest`. Returns how many of the former there were.
    pub fn drop_parked(&mut self, webhook_id: WebhookId, newest: Seq) -> Result<u64, Error> {
        let selections = self.selections(webhook_id)?;
        let mut lane = self.lane(webhook_id)?;
        let transaction = self
            .conn
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .during("dropping parked orders", &self.path)?;
        let mut dropped = 0;
        for order_type in OrderType::ALL {
            let place = &mut lane.places[order_type];
            let covered = selections.covers(order_type);
            // Those beyond are yet to be looked at: they may be selected again.
            let up_to = place.unpark.filter(|_| covered).unwrap_or(Seq(i64::MAX));
            dropped += transaction
                .execute(
                    "DELETE FROM parked WHERE webhook_id = ?1 AND order_type = ?2 AND seq <= ?3",
                    params![webhook_id.0, order_type.as_str(), up_to.0],
                )
                .during("dropping parked orders", &self.path)?;
            if !covered {
                place.cursor = place.cursor.max(newest);
            }
            transaction
                .execute(
                    "INSERT OR REPLACE INTO dropped (webhook_id, order_type, up_to) VALUES (?1, ?2, ?3)",
                    params![webhook_id.0, order_type.as_str(), up_to.min(place.cursor).0],
                )
                .during("dropping parked orders", &self.path)?;
        }
        let noted = Noted {
            newest_noticed: newest,
            ..Noted::default()
        };
        write_lane(&transaction, webhook_id, &lane, &noted)
            .and_then(|()| transaction.commit())
            .during("dropping parked orders", &self.path)?;
        Ok(u64::try_from(dropped).unwrap_or(u64::MAX))
    }

    /// Whether it knows the payload, or may have known it and pruned it since.
    pub fn has_known(&self, payload_id: PayloadId) -> Result<bool, Error> {
        let forgotten_ms: i64 = self
            .conn
            .query_row("SELECT forgotten_ms FROM ledger WHERE id = 1", [], |row| {
                row.get(0)
            })
            .during("reading what was pruned", &self.path)?;
        Ok(payload_id.made_at().ms() <= forgotten_ms || self.payload(payload_id)?.is_some())
    }

    /// A payload as it was sealed.
    pub fn payload(&self, payload_id: PayloadId) -> Result<Option<Payload>, Error> {
        self.conn
            .prepare_cached(
                "SELECT payloads.* FROM webhooks CROSS JOIN payloads USING (webhook_id)
                 WHERE order_type IN ('purchase_order', 'transfer_order', 'work_order') AND payload_id = ?1",
            )
            .and_then(|mut statement| {
                statement
                    .query_row([payload_id.to_string()], read_payload)
                    .optional()
            })
            .during("reading a payload", &self.path)
    }

    /// Writes down where the clock stands, if the wall clock was set since that was last done:
    /// over a reboot, time goes on by the wall clock.
    pub fn keep_clock(&mut self, reading: &Reading) -> Result<(), Error> {
        let is_kept = |ahead_ms| reading.ahead_ms().abs_diff(ahead_ms) < CLOCK_DRIFT_MS_MAX;
        if self.ahead_ms.is_some_and(is_kept) {
            return Ok(());
        }
        self.write_clock(reading)
    }

    /// The clock goes on where it stood: exactly within a boot, and by the wall clock over a
    /// reboot, but never backwards.
    fn read_clock(&mut self, reading: &Reading) -> rusqlite::Result<()> {
        let (clock_ms, boot_id, boottime_ms, wall_at): (i64, String, i64, i64) =
            self.conn.query_row(
                "SELECT clock_ms, boot_id, boottime_ms, wall_at FROM ledger WHERE id = 1",
                [],
                |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)),
            )?;
        let same_boot = !boot_id.is_empty() && boot_id == reading.boot_id;
        let now_ms = if same_boot {
            clock_ms.saturating_add(reading.boottime_ms - boottime_ms)
        } else {
            let passed_ms = reading.wall.0.saturating_sub(wall_at).max(0);
            clock_ms.saturating_add(passed_ms).max(self.latest_ms()?)
        };
        self.clock = Clock::showing(Timestamp::from_ms(now_ms), reading);
        Ok(())
    }

    /// The latest time that is written down: of what happened, and in payload ids, which sort by
    /// it.
    fn latest_ms(&self) -> rusqlite::Result<i64> {
        let latest_ms: i64 = self.conn.query_row(
            "SELECT max(
                coalesce((SELECT max(max(coalesce(last_ended_ms, 0), coalesce(failing_since_ms, 0), coalesce(standing_since_ms, 0))) FROM webhooks), 0),
                coalesce((SELECT max(adopted_ms) FROM adoptions), 0),
                coalesce((SELECT max(noticed_ms) FROM milestones), 0))",
            [],
            |row| row.get(0),
        )?;
        let last_sealed: Option<String> =
            self.conn
                .query_row("SELECT max(last_payload_id) FROM webhooks", [], |row| {
                    row.get(0)
                })?;
        let last_sealed: Option<PayloadId> = last_sealed.and_then(|text| text.parse().ok());
        let sealed_ms = last_sealed.map_or(0, |payload_id| payload_id.made_at().ms());
        Ok(latest_ms.max(sealed_ms))
    }

    fn write_clock(&mut self, reading: &Reading) -> Result<(), Error> {
        let now = self.clock.at(reading);
        self.conn
            .execute(
                "UPDATE ledger SET clock_ms = ?1, boot_id = ?2, boottime_ms = ?3, wall_at = ?4 WHERE id = 1",
                params![now.ms(), reading.boot_id, reading.boottime_ms, reading.wall.0],
            )
            .during("keeping its clock", &self.path)?;
        self.ahead_ms = Some(reading.ahead_ms());
        Ok(())
    }
}

/// By so much the wall clock may differ from what was written down.
const CLOCK_DRIFT_MS_MAX: u64 = 1_000;

/// The WAL keeps this much of its size when it starts over.
const WAL_BYTES_KEPT: i64 = 4 * 1024 * 1024;

/// The WAL starts over well before it outgrows what is kept of it, whatever the size of the ledger's pages.
fn autocheckpoint(conn: &Connection) -> rusqlite::Result<()> {
    let page_bytes: i64 = conn.pragma_query_value(None, "page_size", |row| row.get(0))?;
    conn.pragma_update(None, "wal_autocheckpoint", WAL_BYTES_KEPT / 2 / page_bytes)
}

/// The lock is tried for so long.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);

/// Takes the lock beside the ledger, or says who has it. The ledger's own locks would keep a
/// second daemon out as well, but tell nobody whose they are.
pub fn lock(path: &Path) -> Result<File, Error> {
    let lock_path = files::with_suffix(path, ".lock");
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&lock_path)
        .map_err(|source| match source.kind() {
            std::io::ErrorKind::PermissionDenied => Error::NotPermitted {
                path: lock_path.clone(),
                what: "this user may not write it; the ledger and its folder belong to the daemon's user alone".to_owned(),
            },
            _ => Error::Io { path: lock_path.clone(), doing: "locking the ledger", source },
        })?;
    // A command may have it for a moment.
    let mut tried = file.try_lock();
    let deadline = Instant::now() + LOCK_PATIENCE;
    while matches!(tried, Err(TryLockError::WouldBlock)) && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(50));
        tried = file.try_lock();
    }
    match tried {
        Ok(()) => {
            // An administrator's command must not leave a lock that the daemon can't open.
            if let (Ok(ledger), Ok(own)) = (std::fs::metadata(path), file.metadata())
                && own.uid() != ledger.uid()
            {
                std::os::unix::fs::fchown(&file, Some(ledger.uid()), Some(ledger.gid()))
                    .during("locking the ledger", &lock_path)?;
            }
            let holder = format!("process {}\n", std::process::id());
            let written = file
                .set_len(0)
                .and_then(|()| file.write_all(holder.as_bytes()));
            match written {
                // It is locked all the same, and only does not say by whom.
                Err(full) if full.kind() == std::io::ErrorKind::StorageFull => Ok(file),
                written => written
                    .map(|()| file)
                    .during("locking the ledger", &lock_path),
            }
        }
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            let read = file
                .rewind()
                .and_then(|()| file.read_to_string(&mut holder));
            let holder = match read {
                Ok(_) if !holder.trim().is_empty() => holder.trim().to_owned(),
                _ => "another process".to_owned(),
            };
            Err(Error::Held {
                path: path.to_owned(),
                holder,
            })
        }
        Err(TryLockError::Error(source)) => Err(source).during("locking the ledger", &lock_path),
    }
}

/// Writes one turn's changes. It may be told again what is there already: a commit whose sync
/// failed is reported as failed, and may have reached the disk all the same.
///
/// What is written for each payload says `OR IGNORE` or `OR FAIL`: it spares SQLite the statement's own
/// journal (64 KiB taken and given back each time), which nobody needs where a failure undoes the transaction.
fn write(conn: &Connection, queue_generation: i64, commit: &Commit) -> rusqlite::Result<()> {
    let at = commit.at.0;
    let webhook_id = commit.webhook_id.0;
    let mut begun = false;
    let mut sealed = None;
    let mut last_success_at = None;
    let mut last_error = None;
    for change in &commit.changes {
        match change {
            Change::Sealed { payload, after } => {
                begun = true;
                let payload_id = payload.id.to_string();
                conn.prepare_cached(
                    "INSERT OR IGNORE INTO payloads (webhook_id, order_type, payload_id, action, state, after_seq, items, attempts, queue_generation, created_at, encoding, checksum, members)
                     VALUES (?1, ?2, ?3, ?4, 'in_flight', ?5, ?6, 1, ?7, ?8, ?9, ?10, ?11)",
                )?
                .execute(params![
                    webhook_id,
                    payload.order_type.as_str(),
                    payload_id,
                    payload.action.as_str(),
                    after.0,
                    i64::try_from(payload.members.seqs().len()).unwrap_or(i64::MAX),
                    queue_generation,
                    at,
                    payload.encoding,
                    payload.checksum.cast_signed(),
                    payload.members.to_bytes(),
                ])?;
                let strays = payload.members.seqs();
                for seq in strays.iter().take_while(|&seq| seq <= after) {
                    lookup::write_stray(conn, commit.webhook_id, *seq, &payload_id)?;
                }
                sealed = Some(payload_id);
            }
            Change::Begun(payload_id, attempts) => {
                begun = true;
                set_state(
                    conn,
                    commit.webhook_id,
                    *payload_id,
                    PayloadState::InFlight,
                    *attempts,
                )?;
            }
            Change::Withheld(payload_id, attempts) => {
                set_state(
                    conn,
                    commit.webhook_id,
                    *payload_id,
                    PayloadState::Pending,
                    *attempts,
                )?;
            }
            Change::Settled {
                payload_id,
                state,
                reason,
                attempt,
            } => {
                match attempt.outcome {
                    AttemptOutcome::Delivered => last_success_at = Some(commit.at),
                    AttemptOutcome::Failed
                    | AttemptOutcome::Unknown
                    | AttemptOutcome::Interrupted => {
                        last_error = Some(last_error_of(attempt, reason.as_deref()));
                    }
                }
                let first = first_that_delivered(attempt);
                if first.is_none() {
                    write_attempt(conn, commit.webhook_id, *payload_id, attempt, commit.at)?;
                }
                let settled_at = match state {
                    PayloadState::Pending | PayloadState::InFlight => None,
                    PayloadState::Delivered | PayloadState::Failed | PayloadState::Discarded => {
                        Some(at)
                    }
                };
                conn.prepare_cached(
                    "UPDATE OR FAIL payloads SET state = ?3, reason = ?4, settled_at = ?5, attempts = ?6,
                        first_started_at = coalesce(?7, first_started_at), first_duration_ms = coalesce(?8, first_duration_ms),
                        first_status = coalesce(?9, first_status), first_answer = coalesce(?10, first_answer)
                     WHERE webhook_id = ?1 AND order_type IN ('purchase_order', 'transfer_order', 'work_order') AND payload_id = ?2",
                )?
                .execute(params![
                    webhook_id,
                    payload_id.to_string(),
                    state.as_str(),
                    reason,
                    settled_at,
                    attempt.number,
                    first.map(|(started_at, _)| started_at.0),
                    first.and_then(|(_, first)| first.duration.map(span_ms)),
                    first.and_then(|(_, first)| first.status),
                    first.and_then(|(_, first)| first.answer.as_ref()),
                ])?;
            }
            Change::Heeded(instruction) => errands::heed(conn, commit.webhook_id, instruction)?,
            Change::Discarded(payload_id, reason) => {
                errands::discard(conn, commit.webhook_id, *payload_id, reason, commit.at)?;
            }
            Change::Errand(payload_id, change) => {
                begun |= matches!(change, ErrandChange::Begun(_));
                if let ErrandChange::Settled(attempt, _) = change {
                    match attempt.outcome {
                        AttemptOutcome::Delivered => last_success_at = Some(commit.at),
                        AttemptOutcome::Failed
                        | AttemptOutcome::Unknown
                        | AttemptOutcome::Interrupted => {
                            last_error = Some(last_error_of(attempt, None));
                        }
                    }
                }
                errands::write(
                    conn,
                    queue_generation,
                    commit.webhook_id,
                    *payload_id,
                    change,
                    commit.at,
                )?;
            }
        }
    }
    for (order_type, seq) in &commit.parked {
        conn.prepare_cached(
            "INSERT OR IGNORE INTO parked (webhook_id, order_type, seq) VALUES (?1, ?2, ?3)",
        )?
        .execute(params![webhook_id, order_type.as_str(), seq.0])?;
    }
    for (order_type, seq) in &commit.unparked {
        conn.prepare_cached(
            "DELETE FROM parked WHERE webhook_id = ?1 AND order_type = ?2 AND seq = ?3",
        )?
        .execute(params![webhook_id, order_type.as_str(), seq.0])?;
    }
    for row in &commit.set_aside {
        conn.prepare_cached(
            "INSERT OR IGNORE INTO set_aside (queue_generation, seq, order_type, reason, noticed_at) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![queue_generation, row.seq.0, row.order_type.as_str(), row.reason, at])?;
    }
    let noted = Noted {
        newest_noticed: commit.newest_noticed,
        sealed,
        begun_at: begun.then_some(commit.at),
        last_success_at,
        last_error: last_error.map(|what| (commit.at, what)),
    };
    write_lane(conn, commit.webhook_id, &commit.lane, &noted)
}

/// An attempt that stands in its payload's row, and when it was started: the first, if it was
/// answered and that delivered the payload.
fn first_that_delivered(attempt: &Attempt) -> Option<(WallTime, &Attempt)> {
    let usual = attempt.number == 1
        && attempt.outcome == AttemptOutcome::Delivered
        && attempt.phase == Some(Phase::Answered)
        && attempt.error.is_none();
    attempt.started_at.filter(|_| usual).zip(Some(attempt))
}

fn write_attempt(
    conn: &Connection,
    webhook_id: WebhookId,
    payload_id: PayloadId,
    attempt: &Attempt,
    at: WallTime,
) -> rusqlite::Result<()> {
    let started_at = match attempt.started_at {
        Some(started_at) => started_at.0,
        None => conn
            .prepare_cached(
                "SELECT coalesce(head_begun_at, ?2) FROM webhooks WHERE webhook_id = ?1",
            )?
            .query_row(params![webhook_id.0, at.0], |row| row.get(0))?,
    };
    conn.prepare_cached(
        "INSERT OR REPLACE INTO other_attempts (payload_id, number, started_at, duration_ms, phase, outcome, status, error, answer)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
    )?
    .execute(params![
        payload_id.to_string(),
        attempt.number,
        started_at,
        attempt.duration.map(span_ms),
        attempt.phase.map(Phase::as_str),
        attempt.outcome.as_str(),
        attempt.status,
        attempt.error,
        attempt.answer
    ])
    .map(drop)
}

/// What a webhook's row says beside where the lane stands; the default leaves it as it is.
#[derive(Default)]
struct Noted {
    newest_noticed: Seq,
    sealed: Option<String>,
    begun_at: Option<WallTime>,
    last_success_at: Option<WallTime>,
    last_error: Option<(WallTime, String)>,
}

/// Of what went wrong last so many bytes stand in the webhook's row, which is written all the time.
const LAST_ERROR_BYTES_MAX: usize = 200;

/// What went wrong, in a line.
fn last_error_of(attempt: &Attempt, reason: Option<&str>) -> String {
    let mut what = match (&attempt.error, attempt.status) {
        (Some(error), _) => error.clone(),
        (None, Some(status)) => format!("answered {status}"),
        (None, None) => reason.unwrap_or("no answer").to_owned(),
    };
    what.truncate(what.floor_char_boundary(LAST_ERROR_BYTES_MAX));
    what
}

fn set_state(
    conn: &Connection,
    webhook_id: WebhookId,
    payload_id: PayloadId,
    state: PayloadState,
    attempts: u32,
) -> rusqlite::Result<()> {
    conn.prepare_cached(
        "UPDATE payloads SET state = ?3, attempts = ?4
         WHERE webhook_id = ?1 AND order_type IN ('purchase_order', 'transfer_order', 'work_order') AND payload_id = ?2",
    )?
    .execute(params![webhook_id.0, payload_id.to_string(), state.as_str(), attempts])
    .map(drop)
}

/// Writes where a webhook stands.
fn write_lane(
    conn: &Connection,
    webhook_id: WebhookId,
    lane: &Lane,
    noted: &Noted,
) -> rusqlite::Result<()> {
    let place = |order_type| lane.places[order_type];
    let (po, to, wo) = (
        place(OrderType::PurchaseOrder),
        place(OrderType::TransferOrder),
        place(OrderType::WorkOrder),
    );
    let head = lane.head.as_ref();
    let trouble = lane.standing.trouble();
    conn.prepare_cached(
        "UPDATE webhooks SET
            purchase_order_cursor = :po_cursor, purchase_order_unpark = :po_unpark, purchase_order_sealed_last = :po_sealed_last,
            transfer_order_cursor = :to_cursor, transfer_order_unpark = :to_unpark, transfer_order_sealed_last = :to_sealed_last,
            work_order_cursor = :wo_cursor, work_order_unpark = :wo_unpark, work_order_sealed_last = :wo_sealed_last,
            seals = :seals, last_ended_ms = :last_ended_ms, failing_since_ms = :failing_since_ms, selections_version = :selections_version,
            paused_by = :paused_by, paused_since_ms = :paused_since_ms,
            standing = :standing, standing_reason = :standing_reason, standing_since_ms = :standing_since_ms,
            head_payload_id = :head_payload_id, head_attempts = :head_attempts, head_counted = :head_counted,
            head_interruptions = :head_interruptions, head_retry_wait_ms = :head_retry_wait_ms, head_in_flight = :head_in_flight,
            newest_noticed = max(newest_noticed, :newest_noticed), last_payload_id = coalesce(:sealed, last_payload_id),
            head_begun_at = coalesce(:begun_at, head_begun_at), last_success_at = coalesce(:last_success_at, last_success_at),
            last_error_at = coalesce(:last_error_at, last_error_at), last_error = coalesce(:last_error, last_error)
         WHERE webhook_id = :webhook_id",
    )?
    .execute(named_params! {
        ":webhook_id": webhook_id.0,
        ":po_cursor": po.cursor.0,
        ":po_unpark": po.unpark.map(|seq| seq.0),
        ":po_sealed_last": po.sealed_last.cast_signed(),
        ":to_cursor": to.cursor.0,
        ":to_unpark": to.unpark.map(|seq| seq.0),
        ":to_sealed_last": to.sealed_last.cast_signed(),
        ":wo_cursor": wo.cursor.0,
        ":wo_unpark": wo.unpark.map(|seq| seq.0),
        ":wo_sealed_last": wo.sealed_last.cast_signed(),
        ":seals": lane.seals.cast_signed(),
        ":last_ended_ms": lane.last_ended.map(Timestamp::ms),
        ":failing_since_ms": lane.failing_since.map(Timestamp::ms),
        ":selections_version": lane.selections_version.cast_signed(),
        ":paused_by": lane.paused.as_ref().map(|paused| &paused.reason),
        ":paused_since_ms": lane.paused.as_ref().map(|paused| paused.since.ms()),
        ":standing": lane.standing.as_str(),
        ":standing_reason": trouble.map(|trouble| &trouble.reason),
        ":standing_since_ms": trouble.map(|trouble| trouble.since.ms()),
        ":head_payload_id": head.map(|head| head.payload.id.to_string()),
        ":head_attempts": head.map(|head| head.attempts),
        ":head_counted": head.map(|head| head.counted),
        ":head_interruptions": head.map(|head| head.interruptions),
        ":head_retry_wait_ms": head.map(|head| span_ms(head.retry_wait)),
        ":head_in_flight": head.map(|head| head.in_flight),
        ":newest_noticed": noted.newest_noticed.0,
        ":sealed": noted.sealed,
        ":begun_at": noted.begun_at.map(|at| at.0),
        ":last_success_at": noted.last_success_at.map(|at| at.0),
        ":last_error_at": noted.last_error.as_ref().map(|(at, _)| at.0),
        ":last_error": noted.last_error.as_ref().map(|(_, what)| what),
    })
    .map(drop)
}

fn lane_of(conn: &Connection, webhook_id: WebhookId) -> rusqlite::Result<Lane> {
    conn.prepare_cached(
        "SELECT webhooks.*, payloads.payload_id, order_type, action, members, encoding, checksum
         FROM webhooks LEFT JOIN payloads ON payloads.webhook_id = webhooks.webhook_id
            AND order_type IN ('purchase_order', 'transfer_order', 'work_order') AND payload_id = head_payload_id
         WHERE webhooks.webhook_id = ?1",
    )?
    .query_row([webhook_id.0], read_lane)
}

/// A lane from a row of `webhooks.*` and its head's payload.
fn read_lane(row: &Row<'_>) -> rusqlite::Result<Lane> {
    let mut places = PerType::<Place>::default();
    for order_type in OrderType::ALL {
        let column = |name| format!("{order_type}_{name}");
        places[order_type] = Place {
            cursor: Seq(row.get(column("cursor").as_str())?),
            unpark: row
                .get::<_, Option<i64>>(column("unpark").as_str())?
                .map(Seq),
            sealed_last: row
                .get::<_, i64>(column("sealed_last").as_str())?
                .cast_unsigned(),
        };
    }
    let head = match row.get::<_, Option<String>>("head_payload_id")? {
        None => None,
        Some(_) => Some(Head {
            payload: read_payload(row)?,
            attempts: row.get("head_attempts")?,
            counted: row.get("head_counted")?,
            interruptions: row.get("head_interruptions")?,
            retry_wait: Duration::from_millis(
                row.get::<_, i64>("head_retry_wait_ms")?.cast_unsigned(),
            ),
            in_flight: row.get("head_in_flight")?,
        }),
    };
    let trouble = Trouble {
        reason: row
            .get::<_, Option<String>>("standing_reason")?
            .unwrap_or_default(),
        since: Timestamp::from_ms(
            row.get::<_, Option<i64>>("standing_since_ms")?
                .unwrap_or_default(),
        ),
    };
    let standing: String = row.get("standing")?;
    Ok(Lane {
        places,
        seals: row.get::<_, i64>("seals")?.cast_unsigned(),
        head,
        last_ended: row
            .get::<_, Option<i64>>("last_ended_ms")?
            .map(Timestamp::from_ms),
        standing: Standing::from_parts(&standing, trouble)
            .ok_or_else(|| unreadable("standing", &standing))?,
        paused: match row.get("paused_by")? {
            None => None,
            Some(reason) => Some(Trouble {
                reason,
                since: Timestamp::from_ms(row.get("paused_since_ms")?),
            }),
        },
        failing_since: row
            .get::<_, Option<i64>>("failing_since_ms")?
            .map(Timestamp::from_ms),
        selections_version: row.get::<_, i64>("selections_version")?.cast_unsigned(),
    })
}

/// A payload from a row that has its columns.
fn read_payload(row: &Row<'_>) -> rusqlite::Result<Payload> {
    fn parsed<T: std::str::FromStr>(row: &Row<'_>, column: &'static str) -> rusqlite::Result<T> {
        let text: String = row.get(column)?;
        text.parse().map_err(|_| unreadable(column, &text))
    }
    let members: Vec<u8> = row.get("members")?;
    Ok(Payload {
        id: parsed(row, "payload_id")?,
        order_type: parsed(row, "order_type")?,
        action: parsed(row, "action")?,
        members: Members::from_bytes(&members)
            .ok_or_else(|| unreadable("members", "these bytes"))?,
        encoding: row.get("encoding")?,
        checksum: row.get::<_, i64>("checksum")?.cast_unsigned(),
    })
}

fn read_selections(conn: &Connection, webhook_id: WebhookId) -> rusqlite::Result<Selections> {
    let mut version = 0;
    let mut epochs = Vec::new();
    let mut statement = conn.prepare_cached(
        "SELECT from_seq, version, selection FROM selections WHERE webhook_id = ?1 ORDER BY from_seq",
    )?;
    let mut rows = statement.query([webhook_id.0])?;
    while let Some(row) = rows.next()? {
        version = version.max(row.get::<_, i64>(1)?.cast_unsigned());
        let text: String = row.get(2)?;
        let selection: Selection = serde_json::from_str(&text)
            .map_err(|error| unreadable("selection", &error.to_string()))?;
        epochs.push((Seq(row.get(0)?), selection));
    }
    Ok(Selections::new(version, epochs))
}

/// A value in the ledger that this orderfeed never wrote.
fn unreadable(column: &str, found: &str) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(
        0,
        rusqlite::types::Type::Text,
        format!("{column}: can't read {found:?}").into(),
    )
}

fn span_ms(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}
