//! What operators asked for: resends and tests that are not done, what lanes were told, and what
//! one must know of payloads to judge what is asked (D20 to D24).
//!
//! An operator's request is a row here before it is answered, so it outlives a crash. Whose lane
//! it is hears of it and takes it from here; nobody reaches into a lane.

use std::fmt;

use rusqlite::{Connection, OptionalExtension, Row, TransactionBehavior, params};

use super::history::state_of;
use super::{Attempt, Ledger, WebhookId, lookup, prune, read_payload, unreadable, write_attempt};
use crate::clock::WallTime;
use crate::feed::errand::{Errand, Load, Older, Told};
use crate::feed::order::{OrderType, Seq};
use crate::feed::payload::{Members, Payload, PayloadId, PayloadState};
use crate::feed::timestamp::Timestamp;
use crate::store::{During, Error};

/// What a lane is told, and is yet to heed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instruction {
    /// Its number; they are heeded in this order.
    pub id: i64,
    /// What it says.
    pub told: Told,
}

/// What operators ask of a lane.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Heard {
    /// What it is told, oldest first.
    pub instructions: Vec<Instruction>,
    /// The errand that is in flight, or else the one that is due first.
    pub errand: Option<Errand>,
}

/// What becomes of an errand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ErrandChange {
    /// An attempt is begun, the how many-th with its id.
    Begun(u32),
    /// An attempt was begun and not made; so many are left.
    Withheld(u32),
    /// An attempt ended.
    Settled(Attempt, ErrandEnd),
    /// It is not sent (any more); why, unless that is another payload's story.
    Dropped(Option<String>),
    /// A part or a copy that was never sent is made of fewer orders (D23).
    Reduced(Payload),
    /// What was sent before keeps its bytes, and is not sent any more, for this reason; this part of
    /// it is (D23).
    Parted(Payload, String),
}

/// What an errand's attempt came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ErrandEnd {
    /// The receiver took it.
    Delivered,
    /// It goes again, so; what went wrong.
    Again(Errand, String),
    /// Its attempts are used up; by what.
    Failed(String),
}

/// A payload, and all that decides whether it can be resent or discarded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Whose it is.
    pub webhook_id: WebhookId,
    /// What it is.
    pub payload: Payload,
    /// What became of it.
    pub state: PayloadState,
    /// Why, in words.
    pub reason: Option<String>,
    /// Requests begun with its id.
    pub attempts: u32,
    /// Whether its orders are those of the queue that is there.
    pub of_this_queue: bool,
    /// What it is a part or a copy of.
    pub resend_of: Option<PayloadId>,
    /// Whether its lane is busy with it, as its next payload.
    pub is_head: bool,
    /// A resend of it that is not done.
    pub resend: Option<Resend>,
}

/// A payload, or a part or a copy of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relative {
    /// Which.
    pub id: PayloadId,
    /// Its orders.
    pub members: Members,
    /// What became of it.
    pub state: PayloadState,
    /// Whether it is to be resent, and that is not done.
    pub waits: bool,
    /// Whether a request of that is in flight.
    pub in_flight: bool,
}

/// A resend that is not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resend {
    /// Not before this, on the ledger's clock; `None`: not before somebody says so.
    pub due: Option<Timestamp>,
    /// Whether a request of it is in flight.
    pub in_flight: bool,
    /// When it was asked for.
    pub asked_at: WallTime,
}

impl Relative {
    /// Whether it was delivered, or is on its way.
    pub fn goes(&self) -> bool {
        match self.state {
            PayloadState::Delivered | PayloadState::Pending | PayloadState::InFlight => true,
            PayloadState::Failed | PayloadState::Discarded => false,
        }
    }
}

impl Record {
    /// Whether a request with its id is in flight.
    pub fn is_in_flight(&self) -> bool {
        self.state == PayloadState::InFlight || self.resend.is_some_and(|resend| resend.in_flight)
    }
}

/// A resend to be accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Accepted {
    /// The whole payload, again, under its id.
    Whole {
        /// Whose it is.
        webhook_id: WebhookId,
        /// Which one.
        payload_id: PayloadId,
        /// What becomes of orders of which a later version was delivered (D23).
        older: Older,
    },
    /// A part or a copy, under an id of its own (D22).
    New {
        /// Whose it is.
        webhook_id: WebhookId,
        /// What it is.
        payload: Payload,
        /// The payload that it is made of.
        resend_of: PayloadId,
        /// As above.
        older: Older,
    },
}

/// An order of which a later version was delivered (D23).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Superseded {
    /// The order.
    pub seq: Seq,
    /// Its tracking number.
    pub tracking_number: String,
    /// The later version.
    pub by_seq: Seq,
    /// The delivered payload that carried it.
    pub by_payload: PayloadId,
}

impl fmt::Display for Superseded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "order {} was delivered in a later version since, in payload {}",
            self.tracking_number, self.by_payload
        )
    }
}

/// As `due_ms`: not before somebody says so.
pub(super) const NEVER_MS: i64 = i64::MAX;

/// As `due_ms`: before those that wait for the interval.
const AT_ONCE_MS: i64 = -1;

impl Ledger {
    /// What operators ask of a lane.
    pub fn heard(&self, webhook_id: WebhookId) -> Result<Heard, Error> {
        Ok(Heard {
            instructions: self.instructions(webhook_id)?,
            errand: self.first_errand(webhook_id)?,
        })
    }

    /// The errand of a lane that is in flight, or else the one that is due first.
    pub fn first_errand(&self, webhook_id: WebhookId) -> Result<Option<Errand>, Error> {
        next_errand(&self.conn, webhook_id).during("reading what was asked for", &self.path)
    }

    /// Webhooks with a payload that is pending or to be resent, whether or not the configuration has
    /// them.
    pub fn unsettled(&self) -> Result<Vec<WebhookId>, Error> {
        self.conn
            .prepare(
                "SELECT webhook_id FROM webhooks WHERE head_payload_id IS NOT NULL
                    OR EXISTS (SELECT 1 FROM errands WHERE errands.webhook_id = webhooks.webhook_id)",
            )
            .and_then(|mut statement| {
                statement
                    .query_map([], |row| row.get(0).map(WebhookId))?
                    .collect()
            })
            .during("reading what is not settled", &self.path)
    }

    /// What a webhook was told and is yet to heed, oldest first.
    pub fn instructions(&self, webhook_id: WebhookId) -> Result<Vec<Instruction>, Error> {
        instructions(&self.conn, webhook_id).during("reading what was told", &self.path)
    }

    /// Keeps what a lane is told until it has heeded it.
    pub fn tell(&mut self, webhook_id: WebhookId, told: &Told, at: WallTime) -> Result<(), Error> {
        let (payload_id, words) = match told {
            Told::Pause { by } => (None, Some(by)),
            Told::Resume | Told::RetryNow => (None, None),
            Told::Discard { payload_id, reason } => (Some(payload_id.to_string()), Some(reason)),
        };
        self.conn
            .execute(
                "INSERT INTO instructions (webhook_id, told, payload_id, words, told_at) VALUES (?1, ?2, ?3, ?4, ?5)",
                params![webhook_id.0, word_of(told), payload_id, words, at.0],
            )
            .map(drop)
            .during("telling a webhook", &self.path)
    }

    /// Keeps resends until they are done: all of them, or none. One that waits already goes as
    /// soon as it can, and is no second one.
    pub fn accept(&mut self, resends: &[Accepted], at: WallTime) -> Result<(), Error> {
        let generation = self.queue_generation;
        let accept = |conn: &mut Connection| -> rusqlite::Result<bool> {
            let transaction = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
            for resend in resends {
                write_resend(&transaction, generation, resend, at)?;
            }
            if prune::needs_pruned(&transaction)? {
                return Ok(false);
            }
            transaction.commit()?;
            Ok(true)
        };
        if accept(&mut self.conn).during("keeping resends", &self.path)? {
            return Ok(());
        }
        Err(Error::Disagree(
            "the orders of a payload were pruned just now; nothing is resent".to_owned(),
        ))
    }

    /// Keeps tests until they are done.
    pub fn accept_tests(
        &mut self,
        webhook_id: WebhookId,
        tests: &[(PayloadId, String)],
        unpaced: bool,
        at: WallTime,
    ) -> Result<(), Error> {
        let accept = |conn: &mut Connection| {
            let transaction = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
            for (payload_id, test_of) in tests {
                transaction
                    .prepare_cached(
                        "INSERT INTO errands (webhook_id, payload_id, test_of, unpaced, asked_at, due_ms, counted, interruptions, in_flight)
                         VALUES (?1, ?2, ?3, ?4, ?5, ?6, 0, 0, 0)",
                    )?
                    .execute(params![
                        webhook_id.0,
                        payload_id.to_string(),
                        test_of,
                        unpaced,
                        at.0,
                        if unpaced { AT_ONCE_MS } else { 0 }
                    ])?;
            }
            transaction.commit()
        };
        accept(&mut self.conn).during("keeping tests", &self.path)
    }

    /// A webhook's tests that are not done: their ids, and what they are for.
    pub fn tests(&self, webhook_id: WebhookId) -> Result<Vec<(PayloadId, String)>, Error> {
        self.conn
            .prepare_cached(
                "SELECT payload_id, test_of FROM errands WHERE webhook_id = ?1 AND test_of IS NOT NULL ORDER BY payload_id",
            )
            .and_then(|mut statement| {
                statement
                    .query_map([webhook_id.0], |row| Ok((lookup::payload_id_of(row)?, row.get(1)?)))?
                    .collect()
            })
            .during("reading tests", &self.path)
    }

    /// Lets tests go although the interval is not over.
    pub fn unpace_tests(&mut self, webhook_id: WebhookId) -> Result<(), Error> {
        self.conn
            .execute(
                "UPDATE errands SET unpaced = 1, due_ms = ?2 WHERE webhook_id = ?1 AND test_of IS NOT NULL AND in_flight = 0",
                params![webhook_id.0, AT_ONCE_MS],
            )
            .map(drop)
            .during("keeping tests", &self.path)
    }

    /// Tests that nobody waits for any more, because the daemon that was asked for them ended.
    pub fn forget_tests(&mut self) -> Result<(), Error> {
        self.conn
            .execute(
                "DELETE FROM errands WHERE test_of IS NOT NULL AND in_flight = 0",
                [],
            )
            .map(drop)
            .during("forgetting tests", &self.path)
    }

    /// What there is to know of a payload; `None` if the ledger does not know it.
    pub fn record_of(&self, payload_id: PayloadId) -> Result<Option<Record>, Error> {
        self.conn
            .prepare_cached(
                "SELECT payloads.*, head_payload_id IS payloads.payload_id AS is_head,
                    due_ms, in_flight, asked_at
                 FROM webhooks CROSS JOIN payloads USING (webhook_id)
                    LEFT JOIN errands USING (webhook_id, payload_id)
                 WHERE order_type IN ('purchase_order', 'transfer_order', 'work_order') AND payloads.payload_id = ?1",
            )
            .and_then(|mut statement| {
                statement
                    .query_row([payload_id.to_string()], |row| read_record(row, self.queue_generation))
                    .optional()
            })
            .during("reading a payload", &self.path)
    }

    /// A webhook's failed payloads that failed within a span, oldest first, at most `limit`.
    pub fn failed(
        &self,
        webhook_id: WebhookId,
        order_type: Option<OrderType>,
        (since, until): (Option<WallTime>, Option<WallTime>),
        limit: usize,
    ) -> Result<Vec<PayloadId>, Error> {
        self.conn
            .prepare_cached(
                "SELECT payload_id FROM payloads INDEXED BY payloads_failed
                 WHERE webhook_id = ?1 AND state = 'failed' AND (?2 IS NULL OR order_type = ?2)
                    AND (?3 IS NULL OR settled_at >= ?3) AND (?4 IS NULL OR settled_at < ?4)
                 ORDER BY payload_id LIMIT ?5",
            )
            .and_then(|mut statement| {
                statement
                    .query_map(
                        params![
                            webhook_id.0,
                            order_type.map(OrderType::as_str),
                            since.map(|at| at.0),
                            until.map(|at| at.0),
                            i64::try_from(limit).unwrap_or(i64::MAX)
                        ],
                        lookup::payload_id_of,
                    )?
                    .collect()
            })
            .during("looking for failed payloads", &self.path)
    }

    /// What a payload was made of in the end: what it is a part or a copy of, what that is one of,
    /// and so on.
    pub fn origin_of(&self, record: &Record) -> Result<PayloadId, Error> {
        let mut origin = record.payload.id;
        let mut above = record.resend_of;
        while let Some(id) = above {
            origin = id;
            above = self.record_of(id)?.and_then(|record| record.resend_of);
        }
        Ok(origin)
    }

    /// What was made of a payload in the end (see [`Ledger::origin_of`]), itself first: its parts
    /// and copies, and those of these.
    pub fn family_of(
        &self,
        webhook_id: WebhookId,
        origin: PayloadId,
    ) -> Result<Vec<Relative>, Error> {
        family(&self.conn, webhook_id, origin).during("looking for resends", &self.path)
    }

    /// The first of these orders of the queue that was delivered to the webhook, and in which
    /// payload.
    pub fn first_delivered(
        &self,
        webhook_id: WebhookId,
        order_type: OrderType,
        seqs: &[Seq],
    ) -> Result<Option<(Seq, PayloadId)>, Error> {
        for &seq in seqs {
            for payload_id in self.payloads_with(webhook_id, order_type, seq)? {
                if self.is_delivered(webhook_id, order_type, payload_id)? {
                    return Ok(Some((seq, payload_id)));
                }
            }
        }
        Ok(None)
    }

    fn is_delivered(
        &self,
        webhook_id: WebhookId,
        order_type: OrderType,
        payload_id: PayloadId,
    ) -> Result<bool, Error> {
        self.conn
            .prepare_cached(
                "SELECT state = 'delivered' FROM payloads WHERE webhook_id = ?1 AND order_type = ?2 AND payload_id = ?3",
            )
            .and_then(|mut statement| {
                let key = params![webhook_id.0, order_type.as_str(), payload_id.to_string()];
                statement.query_row(key, |row| row.get(0)).optional()
            })
            .map(Option::unwrap_or_default)
            .during("reading a payload", &self.path)
    }

    /// Gives up a payload that no lane is busy with, and its resend: `discarded`, unless it was
    /// delivered before.
    pub fn discard(
        &mut self,
        webhook_id: WebhookId,
        payload_id: PayloadId,
        reason: &str,
        at: WallTime,
    ) -> Result<(), Error> {
        let discard = |conn: &mut Connection| {
            let transaction = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
            discard(&transaction, webhook_id, payload_id, reason, at)?;
            transaction.commit()
        };
        discard(&mut self.conn).during("discarding a payload", &self.path)
    }

    /// An attempt that ended; `None` if there is none of that number.
    pub fn attempt_of(&self, payload_id: PayloadId, number: u32) -> Result<Option<Made>, Error> {
        self.conn
            .prepare_cached(
                "SELECT started_at, duration_ms, outcome, status, error, answer FROM attempts WHERE payload_id = ?1 AND number = ?2",
            )
            .and_then(|mut statement| {
                statement
                    .query_row(params![payload_id.to_string(), number], |row| {
                        Ok(Made {
                            started_at: WallTime(row.get(0)?),
                            duration_ms: row.get::<_, Option<i64>>(1)?.map(i64::cast_unsigned),
                            outcome: row.get(2)?,
                            status: row.get(3)?,
                            error: row.get(4)?,
                            answer: row.get(5)?,
                        })
                    })
                    .optional()
            })
            .during("reading an attempt", &self.path)
    }
}

/// An attempt that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// When it began.
    pub started_at: WallTime,
    /// How long it took.
    pub duration_ms: Option<u64>,
    /// A name of [`super::AttemptOutcome`].
    pub outcome: String,
    /// The answer's status.
    pub status: Option<u16>,
    /// What went wrong, in words.
    pub error: Option<String>,
    /// The beginning of the answer's body.
    pub answer: Option<String>,
}

const fn word_of(told: &Told) -> &'static str {
    match told {
        Told::Pause { .. } => "pause",
        Told::Resume => "resume",
        Told::RetryNow => "retry_now",
        Told::Discard { .. } => "discard",
    }
}

fn instructions(conn: &Connection, webhook_id: WebhookId) -> rusqlite::Result<Vec<Instruction>> {
    let mut statement = conn.prepare_cached(
        "SELECT payload_id, instruction_id, told, words FROM instructions WHERE webhook_id = ?1 ORDER BY instruction_id",
    )?;
    let read = |row: &Row<'_>| {
        let word: String = row.get(2)?;
        let words = || {
            row.get::<_, Option<String>>(3)
                .map(Option::unwrap_or_default)
        };
        let told = match word.as_str() {
            "pause" => Told::Pause { by: words()? },
            "resume" => Told::Resume,
            "retry_now" => Told::RetryNow,
            "discard" => Told::Discard {
                payload_id: lookup::payload_id_of(row)?,
                reason: words()?,
            },
            _ => return Err(unreadable("told", &word)),
        };
        Ok(Instruction {
            id: row.get(1)?,
            told,
        })
    };
    statement.query_map([webhook_id.0], read)?.collect()
}

fn next_errand(conn: &Connection, webhook_id: WebhookId) -> rusqlite::Result<Option<Errand>> {
    conn.prepare_cached(
        "SELECT errands.payload_id AS errand_id, test_of, unpaced, older, due_ms, counted, interruptions, in_flight, payloads.*
         FROM errands LEFT JOIN payloads ON payloads.webhook_id = errands.webhook_id
            AND order_type IN ('purchase_order', 'transfer_order', 'work_order') AND payloads.payload_id = errands.payload_id
         WHERE errands.webhook_id = ?1 ORDER BY in_flight DESC, due_ms, errands.payload_id LIMIT 1",
    )?
    .query_row([webhook_id.0], read_errand)
    .optional()
}

fn family(
    conn: &Connection,
    webhook_id: WebhookId,
    origin: PayloadId,
) -> rusqlite::Result<Vec<Relative>> {
    const RELATIVE: &str = "SELECT payload_id, state, members,
            (SELECT in_flight FROM errands WHERE errands.webhook_id = payloads.webhook_id AND errands.payload_id = payloads.payload_id)
         FROM payloads";
    let of_id = format!(
        "{RELATIVE} WHERE webhook_id = ?1 AND order_type IN ('purchase_order', 'transfer_order', 'work_order') AND payload_id = ?2"
    );
    let made_of_it =
        format!("{RELATIVE} INDEXED BY payloads_resent WHERE webhook_id = ?1 AND resend_of = ?2");
    let read = |sql: &str, id: PayloadId| {
        let mut statement = conn.prepare_cached(sql)?;
        let found = statement.query_map(params![webhook_id.0, id.to_string()], read_relative)?;
        found.collect::<rusqlite::Result<Vec<_>>>()
    };
    let mut family = read(&of_id, origin)?;
    let mut visited = 0;
    while let Some(relative) = family.get(visited) {
        let made = read(&made_of_it, relative.id)?;
        family.extend(made);
        visited += 1;
    }
    Ok(family)
}

/// Gives up what failed and whose orders were all delivered since, under other ids: as a part, a
/// copy, or in what it is itself a part or a copy of (D11). `delivered` just was.
fn settle_family(
    conn: &Connection,
    webhook_id: WebhookId,
    delivered: PayloadId,
    at: WallTime,
) -> rusqlite::Result<()> {
    let mut origin = delivered;
    let mut above = conn.prepare_cached(
        "SELECT resend_of FROM payloads
         WHERE webhook_id = ?1 AND order_type IN ('purchase_order', 'transfer_order', 'work_order') AND payload_id = ?2 AND resend_of IS NOT NULL",
    )?;
    let key = |id: PayloadId| (webhook_id.0, id.to_string());
    while let Some(id) = above
        .query_row(key(origin), lookup::payload_id_of)
        .optional()?
    {
        origin = id;
    }
    let family = family(conn, webhook_id, origin)?;
    let failed = |one: &&Relative| one.state == PayloadState::Failed && !one.waits;
    for one in family.iter().filter(failed) {
        let since = |other: &&Relative| {
            other.state == PayloadState::Delivered && (other.id > one.id || other.id == delivered)
        };
        let since: Vec<&Relative> = family.iter().filter(since).collect();
        let is_delivered = |seq| since.iter().any(|other| other.members.contains(seq));
        if one.members.only(|seq| !is_delivered(seq)).is_none() {
            let reason = match since.len() {
                0 | 1 => format!("all its orders were delivered since, in {delivered}"),
                _ => format!("all its orders were delivered since, the last in {delivered}"),
            };
            discard(conn, webhook_id, one.id, &reason, at)?;
        }
    }
    Ok(())
}

fn read_relative(row: &Row<'_>) -> rusqlite::Result<Relative> {
    let in_flight: Option<bool> = row.get(3)?;
    Ok(Relative {
        id: lookup::payload_id_of(row)?,
        members: Members::from_bytes(row.get_ref(2)?.as_blob()?)
            .ok_or_else(|| unreadable("members", "these bytes"))?,
        state: state_of(row.get_ref(1)?.as_str()?)?,
        waits: in_flight.is_some(),
        in_flight: in_flight.unwrap_or_default(),
    })
}

fn read_errand(row: &Row<'_>) -> rusqlite::Result<Errand> {
    let load = match row.get::<_, Option<String>>("test_of")? {
        None => Load::Resend {
            payload: read_payload(row)?,
            resend_of: optional_id(row, "resend_of")?,
            attempts: row.get("attempts")?,
            older: older_of(row.get("older")?)?,
        },
        Some(test_of) => {
            let event = test_of.split_once('.').and_then(|(order_type, action)| {
                Some((order_type.parse().ok()?, action.parse().ok()?))
            });
            let (order_type, action) = event.ok_or_else(|| unreadable("test_of", &test_of))?;
            Load::Test {
                id: lookup::payload_id_of(row)?,
                order_type,
                action,
                unpaced: row.get("unpaced")?,
            }
        }
    };
    Ok(Errand {
        load,
        counted: row.get("counted")?,
        interruptions: row.get("interruptions")?,
        due: due_of(row.get("due_ms")?),
        in_flight: row.get("in_flight")?,
    })
}

const fn number_of(older: Older) -> u8 {
    match older {
        Older::Refused => 0,
        Older::LeftOut => 1,
        Older::Sent => 2,
    }
}

fn older_of(number: u8) -> rusqlite::Result<Older> {
    let all = [Older::Refused, Older::LeftOut, Older::Sent];
    let found = all.into_iter().find(|older| number_of(*older) == number);
    found.ok_or_else(|| unreadable("older", &number.to_string()))
}

fn read_record(row: &Row<'_>, queue_generation: i64) -> rusqlite::Result<Record> {
    let resend = match row.get::<_, Option<i64>>("due_ms")? {
        None => None,
        Some(due_ms) => Some(Resend {
            due: due_of(due_ms),
            in_flight: row.get("in_flight")?,
            asked_at: WallTime(row.get("asked_at")?),
        }),
    };
    Ok(Record {
        webhook_id: WebhookId(row.get("webhook_id")?),
        payload: read_payload(row)?,
        state: state_of(row.get_ref("state")?.as_str()?)?,
        reason: row.get("reason")?,
        attempts: row.get("attempts")?,
        of_this_queue: row.get::<_, i64>("queue_generation")? == queue_generation,
        resend_of: optional_id(row, "resend_of")?,
        is_head: row.get("is_head")?,
        resend,
    })
}

fn due_of(due_ms: i64) -> Option<Timestamp> {
    (due_ms != NEVER_MS).then_some(Timestamp::from_ms(due_ms))
}

fn optional_id(row: &Row<'_>, column: &'static str) -> rusqlite::Result<Option<PayloadId>> {
    let text: Option<String> = row.get(column)?;
    text.map(|text| text.parse().map_err(|_| unreadable(column, &text)))
        .transpose()
}

fn write_resend(
    conn: &Connection,
    queue_generation: i64,
    resend: &Accepted,
    at: WallTime,
) -> rusqlite::Result<()> {
    let (webhook_id, payload_id, older) = match resend {
        Accepted::Whole {
            webhook_id,
            payload_id,
            older,
        } => (*webhook_id, *payload_id, *older),
        Accepted::New {
            webhook_id,
            payload,
            resend_of,
            older,
        } => {
            write_new(conn, queue_generation, *webhook_id, payload, *resend_of, at)?;
            (*webhook_id, payload.id, *older)
        }
    };
    conn.prepare_cached(
        "INSERT INTO errands (webhook_id, payload_id, older, asked_at, due_ms, counted, interruptions, in_flight)
         VALUES (?1, ?2, ?3, ?4, 0, 0, 0, 0)
         ON CONFLICT DO UPDATE SET due_ms = 0, interruptions = 0, older = max(older, excluded.older) WHERE in_flight = 0",
    )?
    .execute(params![webhook_id.0, payload_id.to_string(), number_of(older), at.0])
    .map(drop)
}

/// A part or a copy, which is yet to be sent. It lies among the payloads that were sealed, at the
/// place that the lane has reached by now.
fn write_new(
    conn: &Connection,
    queue_generation: i64,
    webhook_id: WebhookId,
    payload: &Payload,
    resend_of: PayloadId,
    at: WallTime,
) -> rusqlite::Result<()> {
    let payload_id = payload.id.to_string();
    let cursor = format!(
        "SELECT {}_cursor FROM webhooks WHERE webhook_id = ?1",
        payload.order_type
    );
    let after: i64 = conn
        .prepare_cached(&cursor)?
        .query_row([webhook_id.0], |row| row.get(0))?;
    conn.prepare_cached(
        "INSERT OR REPLACE INTO payloads (webhook_id, order_type, payload_id, action, state, after_seq, resend_of, items, attempts, queue_generation, created_at, encoding, checksum, members)
         VALUES (?1, ?2, ?3, ?4, 'pending', ?5, ?6, ?7, 0, ?8, ?9, ?10, ?11, ?12)",
    )?
    .execute(params![
        webhook_id.0,
        payload.order_type.as_str(),
        payload_id,
        payload.action.as_str(),
        after,
        resend_of.to_string(),
        i64::try_from(payload.members.seqs().len()).unwrap_or(i64::MAX),
        queue_generation,
        at.0,
        payload.encoding,
        payload.checksum.cast_signed(),
        payload.members.to_bytes(),
    ])?;
    for &seq in payload.members.seqs() {
        lookup::write_stray(conn, webhook_id, seq, &payload_id)?;
    }
    // Ids sort by time, also after a reboot: the clock goes on behind this one.
    conn.prepare_cached(
        "UPDATE webhooks SET last_payload_id = max(coalesce(last_payload_id, ''), ?2) WHERE webhook_id = ?1",
    )?
    .execute(params![webhook_id.0, payload_id])
    .map(drop)
}

/// A part or a copy that was never sent holds fewer orders from now on.
fn write_fewer(
    conn: &Connection,
    webhook_id: WebhookId,
    payload: &Payload,
) -> rusqlite::Result<()> {
    let payload_id = payload.id.to_string();
    conn.prepare_cached(
        "UPDATE payloads SET items = ?4, checksum = ?5, members = ?6
         WHERE webhook_id = ?1 AND order_type = ?2 AND payload_id = ?3 AND attempts = 0 AND resend_of IS NOT NULL",
    )?
    .execute(params![
        webhook_id.0,
        payload.order_type.as_str(),
        payload_id,
        i64::try_from(payload.members.seqs().len()).unwrap_or(i64::MAX),
        payload.checksum.cast_signed(),
        payload.members.to_bytes(),
    ])?;
    conn.prepare_cached("DELETE FROM strays WHERE webhook_id = ?1 AND payload_id = ?2")?
        .execute(params![webhook_id.0, payload_id])?;
    for &seq in payload.members.seqs() {
        lookup::write_stray(conn, webhook_id, seq, &payload_id)?;
    }
    Ok(())
}

/// A lane did as it was told.
pub(super) fn heed(
    conn: &Connection,
    webhook_id: WebhookId,
    instruction: &Instruction,
) -> rusqlite::Result<()> {
    conn.prepare_cached("DELETE FROM instructions WHERE instruction_id = ?1")?
        .execute([instruction.id])?;
    let freed = match &instruction.told {
        Told::Pause { .. } | Told::Discard { .. } => return Ok(()),
        // Those that wait for somebody's word; and those that wait for their retry.
        Told::Resume => NEVER_MS,
        Told::RetryNow => 1,
    };
    conn.prepare_cached(
        "UPDATE errands SET due_ms = 0, interruptions = 0 WHERE webhook_id = ?1 AND in_flight = 0 AND due_ms >= ?2",
    )?
    .execute(params![webhook_id.0, freed])
    .map(drop)
}

/// A payload is given up, and its resend.
pub(super) fn discard(
    conn: &Connection,
    webhook_id: WebhookId,
    payload_id: PayloadId,
    reason: &str,
    at: WallTime,
) -> rusqlite::Result<()> {
    let payload_id = payload_id.to_string();
    done(conn, webhook_id, &payload_id)?;
    conn.prepare_cached(
        "UPDATE payloads SET state = 'discarded', reason = ?3, settled_at = ?4
         WHERE webhook_id = ?1 AND order_type IN ('purchase_order', 'transfer_order', 'work_order') AND payload_id = ?2
            AND state <> 'delivered'",
    )?
    .execute(params![webhook_id.0, payload_id, reason, at.0])
    .map(drop)
}

/// Writes what becomes of an errand. A payload that was delivered, failed or discarded before stays
/// that until its resend is done; a part or a copy goes the way of any payload.
pub(super) fn write(
    conn: &Connection,
    queue_generation: i64,
    webhook_id: WebhookId,
    payload_id: PayloadId,
    change: &ErrandChange,
    at: WallTime,
) -> rusqlite::Result<()> {
    let id = payload_id.to_string();
    match change {
        ErrandChange::Begun(attempts) => {
            conn.prepare_cached(
                "UPDATE errands SET in_flight = 1 WHERE webhook_id = ?1 AND payload_id = ?2",
            )?
            .execute(params![webhook_id.0, id])?;
            conn.prepare_cached(
                "UPDATE payloads SET attempts = ?3, state = CASE state WHEN 'pending' THEN 'in_flight' ELSE state END
                 WHERE webhook_id = ?1 AND order_type IN ('purchase_order', 'transfer_order', 'work_order') AND payload_id = ?2",
            )?
            .execute(params![webhook_id.0, id, attempts])
            .map(drop)
        }
        ErrandChange::Withheld(attempts) => {
            conn.prepare_cached(
                "UPDATE errands SET in_flight = 0 WHERE webhook_id = ?1 AND payload_id = ?2",
            )?
            .execute(params![webhook_id.0, id])?;
            conn.prepare_cached(
                "UPDATE payloads SET attempts = ?3, state = CASE state WHEN 'in_flight' THEN 'pending' ELSE state END
                 WHERE webhook_id = ?1 AND order_type IN ('purchase_order', 'transfer_order', 'work_order') AND payload_id = ?2",
            )?
            .execute(params![webhook_id.0, id, attempts])
            .map(drop)
        }
        ErrandChange::Settled(attempt, end) => {
            write_attempt(conn, webhook_id, payload_id, attempt, at)?;
            match end {
                ErrandEnd::Delivered => {
                    done(conn, webhook_id, &id)?;
                    conn.prepare_cached(
                        "UPDATE payloads SET state = 'delivered', reason = NULL, settled_at = ?3
                         WHERE webhook_id = ?1 AND order_type IN ('purchase_order', 'transfer_order', 'work_order') AND payload_id = ?2",
                    )?
                    .execute(params![webhook_id.0, id, at.0])?;
                    settle_family(conn, webhook_id, payload_id, at)
                }
                ErrandEnd::Again(errand, reason) => {
                    let due_ms = errand.due.map_or(NEVER_MS, Timestamp::ms);
                    conn.prepare_cached(
                        "UPDATE errands SET in_flight = 0, due_ms = ?3, counted = ?4, interruptions = ?5
                         WHERE webhook_id = ?1 AND payload_id = ?2",
                    )?
                    .execute(params![
                        webhook_id.0,
                        id,
                        due_ms,
                        errand.counted,
                        errand.interruptions
                    ])?;
                    conn.prepare_cached(
                        "UPDATE payloads SET state = 'pending', reason = ?3
                         WHERE webhook_id = ?1 AND order_type IN ('purchase_order', 'transfer_order', 'work_order') AND payload_id = ?2
                            AND state = 'in_flight'",
                    )?
                    .execute(params![webhook_id.0, id, reason])
                    .map(drop)
                }
                ErrandEnd::Failed(reason) => in_vain(conn, webhook_id, &id, reason, at),
            }
        }
        ErrandChange::Dropped(None) => done(conn, webhook_id, &id),
        ErrandChange::Dropped(Some(reason)) => in_vain(conn, webhook_id, &id, reason, at),
        ErrandChange::Reduced(payload) => write_fewer(conn, webhook_id, payload),
        ErrandChange::Parted(part, reason) => {
            let accepted = Accepted::New {
                webhook_id,
                payload: part.clone(),
                resend_of: payload_id,
                older: Older::LeftOut,
            };
            write_resend(conn, queue_generation, &accepted, at)?;
            in_vain(conn, webhook_id, &id, reason, at)
        }
    }
}

/// A resend is over, and was not delivered: what was delivered before stays that, and shows why
/// the resend was in vain.
fn in_vain(
    conn: &Connection,
    webhook_id: WebhookId,
    payload_id: &str,
    reason: &str,
    at: WallTime,
) -> rusqlite::Result<()> {
    done(conn, webhook_id, payload_id)?;
    conn.prepare_cached(
        "UPDATE payloads SET
            state = CASE state WHEN 'delivered' THEN state ELSE 'failed' END,
            settled_at = CASE state WHEN 'delivered' THEN settled_at ELSE ?4 END,
            reason = CASE state WHEN 'delivered' THEN 'a later resend was in vain: ' || ?3 ELSE ?3 END
         WHERE webhook_id = ?1 AND order_type IN ('purchase_order', 'transfer_order', 'work_order') AND payload_id = ?2",
    )?
    .execute(params![webhook_id.0, payload_id, reason, at.0])
    .map(drop)
}

fn done(conn: &Connection, webhook_id: WebhookId, payload_id: &str) -> rusqlite::Result<()> {
    conn.prepare_cached("DELETE FROM errands WHERE webhook_id = ?1 AND payload_id = ?2")?
        .execute(params![webhook_id.0, payload_id])
        .map(drop)
}
