//! What an operator asks of the ledger: where webhooks stand, which payloads there are, and how
//! their attempts went. Nothing is written.
//!
//! Whoever asks waits on the lanes' thread, so each answer takes some milliseconds at most: counts
//! are cut, and lists come in pages.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use rusqlite::{OptionalExtension, Row, params};

use super::errands::NEVER_MS;
use super::{Ledger, WebhookId, lane_of, read_selections, unreadable};
use crate::clock::WallTime;
use crate::feed::lane::{Lane, Place};
use crate::feed::order::{OrderType, PerType, Seq};
use crate::feed::payload::{Members, PayloadId, PayloadState};
use crate::feed::selection::Selections;
use crate::feed::timestamp::Timestamp;
use crate::feed::webhook::WebhookName;
use crate::store::{During, Error};

/// Where a webhook stands, and how its last requests went.
#[derive(Debug, Clone)]
pub struct Standing {
    /// Its number.
    pub webhook_id: WebhookId,
    /// Its name.
    pub name: String,
    /// Where it stands.
    pub lane: Lane,
    /// What it subscribed to over time.
    pub selections: Selections,
    /// Since when the configuration does not have it.
    pub removed_at: Option<WallTime>,
    /// When its head's last attempt was begun.
    pub head_begun_at: Option<WallTime>,
    /// When a receiver last took a payload.
    pub last_success_at: Option<WallTime>,
    /// What went wrong last, and when.
    pub last_error: Option<(WallTime, String)>,
    /// Orders that were parked as it passed them (D25).
    pub parked: Count,
    /// Payloads that failed (D11).
    pub failed: Count,
}

impl Standing {
    /// That of a webhook which has done nothing yet.
    pub fn beginning(
        webhook_id: WebhookId,
        name: &WebhookName,
        places: PerType<Place>,
        selections: Selections,
    ) -> Self {
        Self {
            webhook_id,
            name: name.to_string(),
            lane: Lane {
                places,
                selections_version: selections.version(),
                ..Lane::default()
            },
            selections,
            removed_at: None,
            head_begun_at: None,
            last_success_at: None,
            last_error: None,
            parked: Count::default(),
            failed: Count::default(),
        }
    }
}

/// A count that is cut where it would take long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Count {
    /// How many, at least.
    pub count: u64,
    /// Whether there are more.
    pub more: bool,
}

impl Count {
    /// Nothing is counted beyond this.
    pub const MAX: u64 = 100_000;

    /// What was counted up to one more than [`Count::MAX`].
    pub fn cut(count: u64) -> Self {
        Self {
            count: count.min(Self::MAX),
            more: count > Self::MAX,
        }
    }

    /// Both together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let sum = Self::cut(self.count.saturating_add(other.count));
        Self {
            more: sum.more || self.more || other.more,
            ..sum
        }
    }
}

/// A payload's row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PayloadRow {
    /// Its id.
    pub id: PayloadId,
    /// Whose it is.
    pub webhook_id: WebhookId,
    /// The type of its orders.
    pub order_type: OrderType,
    /// Their action.
    pub action: String,
    /// What became of it.
    pub state: PayloadState,
    /// Why, in words.
    pub reason: Option<String>,
    /// How many orders it holds.
    pub items: u64,
    /// When it was sealed.
    pub created_at: WallTime,
    /// When it was delivered, failed or discarded.
    pub settled_at: Option<WallTime>,
    /// Requests begun with its id.
    pub attempts: u32,
    /// The payload that it sends again in part, or anew (D22).
    pub resend_of: Option<PayloadId>,
    /// Its resend that is not done yet (D20).
    pub resend: Option<ResendRow>,
}

/// A resend that is not done yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResendRow {
    /// Not before this; `None`: not before somebody says so.
    pub due: Option<Timestamp>,
    /// Its attempts that failed.
    pub counted: u32,
    /// Whether its request is under way.
    pub in_flight: bool,
}

/// An attempt that ended, as the ledger keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptRow {
    /// Counts the requests with the payload's id, from 1.
    pub number: u32,
    /// When it began.
    pub started_at: WallTime,
    /// How long it took, in milliseconds.
    pub duration_ms: Option<u64>,
    /// How far it came (D16).
    pub phase: Option<String>,
    /// What it came to: a name of [`super::AttemptOutcome`].
    pub outcome: String,
    /// The answer's status.
    pub status: Option<u16>,
    /// What went wrong, in words.
    pub error: Option<String>,
    /// The beginning of the answer's body.
    pub answer: Option<String>,
}

/// Which payloads are asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filter {
    /// Of this webhook.
    pub webhook_id: Option<WebhookId>,
    /// In this state.
    pub state: Option<PayloadState>,
    /// Of this order type.
    pub order_type: Option<OrderType>,
    /// Composed then or later.
    pub since: Option<WallTime>,
    /// Composed before.
    pub until: Option<WallTime>,
}

impl Filter {
    /// Whether the payload is one of those.
    pub fn passes(&self, row: &PayloadRow) -> bool {
        self.webhook_id
            .is_none_or(|wanted| wanted == row.webhook_id)
            && self.state.is_none_or(|wanted| wanted == row.state)
            && self
                .order_type
                .is_none_or(|wanted| wanted == row.order_type)
            && self.since.is_none_or(|since| row.created_at >= since)
            && self.until.is_none_or(|until| row.created_at < until)
    }
}

/// Some payloads, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Page {
    /// Those that were asked for.
    pub rows: Vec<PayloadRow>,
    /// The last one that was looked at; `None`: there are no others.
    pub next: Option<PayloadId>,
}

/// A row that was set aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetAsideRow {
    /// Its place in the queue.
    pub seq: Seq,
    /// Its order type, as it stands there.
    pub order_type: String,
    /// What is wrong with it.
    pub reason: String,
    /// When that was noticed.
    pub noticed_at: WallTime,
}

/// The columns of a [`PayloadRow`].
const PAYLOAD: &str = "payload_id,webhook_id,order_type,action,state,reason,items,created_at,settled_at,attempts,resend_of,
    (SELECT due_ms FROM errands WHERE errands.webhook_id = payloads.webhook_id AND errands.payload_id = payloads.payload_id),
    (SELECT counted FROM errands WHERE errands.webhook_id = payloads.webhook_id AND errands.payload_id = payloads.payload_id),
    (SELECT in_flight FROM errands WHERE errands.webhook_id = payloads.webhook_id AND errands.payload_id = payloads.payload_id)";

impl Ledger {
    /// Where each webhook stands that was ever configured, by number.
    pub fn standings(&self) -> Result<Vec<Standing>, Error> {
        self.read_standings()
            .during("reading where webhooks stand", &self.path)
    }

    fn read_standings(&self) -> rusqlite::Result<Vec<Standing>> {
        let mut statement = self.conn.prepare_cached(
            "SELECT webhook_id, name, removed_at, head_begun_at, last_success_at, last_error_at, last_error,
                (SELECT count(*) FROM (SELECT 1 FROM parked WHERE parked.webhook_id = webhooks.webhook_id LIMIT ?1)),
                (SELECT count(*) FROM (SELECT 1 FROM payloads WHERE payloads.webhook_id = webhooks.webhook_id AND state = 'failed' LIMIT ?1))
             FROM webhooks ORDER BY webhook_id",
        )?;
        let mut rows = statement.query([Count::MAX.cast_signed() + 1])?;
        let mut standings = Vec::new();
        while let Some(row) = rows.next()? {
            let webhook_id = WebhookId(row.get(0)?);
            let time = |column| {
                row.get::<_, Option<i64>>(column)
                    .map(|time| time.map(WallTime))
            };
            let last_error: Option<String> = row.get(6)?;
            let count = |column| {
                Ok::<_, rusqlite::Error>(Count::cut(row.get::<_, i64>(column)?.cast_unsigned()))
            };
            standings.push(Standing {
                webhook_id,
                name: row.get(1)?,
                lane: lane_of(&self.conn, webhook_id)?,
                selections: read_selections(&self.conn, webhook_id)?,
                removed_at: time(2)?,
                head_begun_at: time(3)?,
                last_success_at: time(4)?,
                last_error: time(5)?.zip(last_error),
                parked: count(7)?,
                failed: count(8)?,
            });
        }
        Ok(standings)
    }

    /// A payload's row.
    pub fn payload_row(&self, payload_id: PayloadId) -> Result<Option<PayloadRow>, Error> {
        self.conn
            .prepare_cached(&format!(
                "SELECT {PAYLOAD} FROM webhooks CROSS JOIN payloads USING (webhook_id)
                 WHERE order_type IN ('purchase_order', 'transfer_order', 'work_order') AND payload_id = ?1"
            ))
            .and_then(|mut statement| {
                statement
                    .query_row([payload_id.to_string()], read_payload_row)
                    .optional()
            })
            .during("reading a payload", &self.path)
    }

    /// Payloads older than `after`, newest first: at most `limit` of those that were asked for,
    /// among so many that are looked at.
    pub fn payload_page(
        &self,
        filter: &Filter,
        after: Option<PayloadId>,
        limit: usize,
        looked_at_max: usize,
    ) -> Result<Page, Error> {
        self.read_payload_page(filter, after, limit, looked_at_max)
            .during("listing payloads", &self.path)
    }

    fn read_payload_page(
        &self,
        filter: &Filter,
        after: Option<PayloadId>,
        limit: usize,
        looked_at_max: usize,
    ) -> rusqlite::Result<Page> {
        // The failed ones have an index of their own; all others are met on the way.
        let index = match filter.state {
            Some(PayloadState::Failed) => "INDEXED BY payloads_failed",
            Some(_) | None => "NOT INDEXED",
        };
        let failed = match filter.state {
            Some(PayloadState::Failed) => "state = 'failed' AND",
            Some(_) | None => "",
        };
        let sql = format!(
            "SELECT {PAYLOAD} FROM payloads {index} WHERE {failed} webhook_id = ?1 AND order_type = ?2 AND payload_id < ?3 AND created_at < ?4
             ORDER BY payload_id DESC"
        );
        let mut lanes = Vec::new();
        for webhook_id in self.webhook_ids()? {
            for order_type in OrderType::ALL {
                let of_webhook = filter.webhook_id.is_none_or(|wanted| wanted == webhook_id);
                if of_webhook && filter.order_type.is_none_or(|wanted| wanted == order_type) {
                    lanes.push((webhook_id, order_type, self.conn.prepare(&sql)?));
                }
            }
        }
        let mut streams = Vec::new();
        let mut newest = BinaryHeap::new();
        for (index, (webhook_id, order_type, statement)) in lanes.iter_mut().enumerate() {
            let before = self.first_made_after(*webhook_id, *order_type, filter.until)?;
            let before = before.into_iter().chain(after).min();
            // Beyond all ids stands `q`.
            let before = before.map_or_else(|| "q".to_owned(), |id| id.to_string());
            let until = filter.until.map_or(i64::MAX, |until| until.0);
            let mut rows =
                statement.query(params![webhook_id.0, order_type.as_str(), before, until])?;
            if let Some(row) = rows.next()? {
                newest.push(Newest(read_payload_row(row)?, index));
            }
            streams.push(rows);
        }
        let mut page = Page::default();
        for _ in 0..looked_at_max {
            let Some(Newest(row, index)) = newest.pop() else {
                return Ok(Page { next: None, ..page });
            };
            let too_old =
                |since: WallTime| row.created_at.0 < since.0.saturating_sub(CLOCK_SET_MS_MAX);
            if filter.since.is_some_and(too_old) {
                // And so are all others of this one.
                continue;
            }
            if let Some(next) = streams[index].next()? {
                newest.push(Newest(read_payload_row(next)?, index));
            }
            page.next = Some(row.id);
            if filter.passes(&row) {
                page.rows.push(row);
                if page.rows.len() >= limit {
                    break;
                }
            }
        }
        if newest.is_empty() {
            page.next = None;
        }
        Ok(page)
    }

    /// A payload that is certainly composed after a time on the wall clock, and not long after it;
    /// `None`: all others are older.
    fn first_made_after(
        &self,
        webhook_id: WebhookId,
        order_type: OrderType,
        wall: Option<WallTime>,
    ) -> rusqlite::Result<Option<PayloadId>> {
        let Some(wall) = wall else { return Ok(None) };
        let wall_ms = wall.0.saturating_add(CLOCK_SET_MS_MAX);
        let mut first_since = self.conn.prepare_cached(
            "SELECT payload_id, created_at FROM payloads WHERE webhook_id = ?1 AND order_type = ?2 AND payload_id >= ?3
             ORDER BY payload_id LIMIT 1",
        )?;
        // By halves over the time in the ids; it is the ledger's, and only sorts them.
        let (mut low, mut high) = (0_i64, 1_i64 << 48);
        let mut found = None;
        while low < high {
            let middle = low + (high - low) / 2;
            let from = PayloadId::first_of(Timestamp::from_ms(middle)).to_string();
            let first = first_since
                .query_row(params![webhook_id.0, order_type.as_str(), from], |row| {
                    Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?))
                })
                .optional()?;
            match first {
                Some((_, created_at)) if created_at < wall_ms => low = middle + 1,
                Some((id, _)) => {
                    found = Some(id);
                    high = middle;
                }
                None => high = middle,
            }
        }
        found
            .map(|id| id.parse().map_err(|_| unreadable("payload_id", &id)))
            .transpose()
    }

    fn webhook_ids(&self) -> rusqlite::Result<Vec<WebhookId>> {
        self.conn
            .prepare_cached("SELECT webhook_id FROM webhooks")?
            .query_map([], |row| row.get(0).map(WebhookId))?
            .collect()
    }

    /// Every attempt at a payload that ended, in their order; the newest, if there are very many.
    pub fn attempts(&self, payload_id: PayloadId) -> Result<Vec<AttemptRow>, Error> {
        self.conn
            .prepare_cached(
                "SELECT number, started_at, duration_ms, phase, outcome, status, error, answer FROM attempts
                 WHERE payload_id = ?1 ORDER BY number DESC LIMIT ?2",
            )
            .and_then(|mut statement| {
                let mut rows: Vec<AttemptRow> = statement
                    .query_map(params![payload_id.to_string(), ATTEMPTS_MAX], read_attempt)?
                    .collect::<rusqlite::Result<_>>()?;
                rows.reverse();
                Ok(rows)
            })
            .during("reading attempts", &self.path)
    }

    /// How many rows of the queue can't be delivered to anyone, and the newest of them.
    pub fn set_aside(&self) -> Result<(Count, Option<SetAsideRow>), Error> {
        let count = self
            .conn
            .prepare_cached("SELECT count(*) FROM (SELECT 1 FROM set_aside WHERE queue_generation = ?1 LIMIT ?2)")
            .and_then(|mut statement| {
                statement.query_row(params![self.queue_generation, Count::MAX.cast_signed() + 1], |row| {
                    row.get::<_, i64>(0)
                })
            });
        count
            .and_then(|count| {
                Ok((
                    Count::cut(count.cast_unsigned()),
                    self.newest_set_aside(Seq(i64::MAX))?,
                ))
            })
            .during("reading what was set aside", &self.path)
    }

    /// Why a row of the queue can't be delivered to anyone, if it was set aside.
    pub fn set_aside_at(&self, seq: Seq) -> Result<Option<SetAsideRow>, Error> {
        self.newest_set_aside(seq)
            .map(|newest| newest.filter(|row| row.seq == seq))
            .during("reading what was set aside", &self.path)
    }

    fn newest_set_aside(&self, up_to: Seq) -> rusqlite::Result<Option<SetAsideRow>> {
        self.conn
            .prepare_cached(
                "SELECT seq, order_type, reason, noticed_at FROM set_aside WHERE queue_generation = ?1 AND seq <= ?2
                 ORDER BY seq DESC LIMIT 1",
            )?
            .query_row(params![self.queue_generation, up_to.0], |row| {
                Ok(SetAsideRow {
                    seq: Seq(row.get(0)?),
                    order_type: row.get(1)?,
                    reason: row.get(2)?,
                    noticed_at: WallTime(row.get(3)?),
                })
            })
            .optional()
    }

    /// Whether the webhook has parked the order (D25).
    pub fn is_parked(
        &self,
        webhook_id: WebhookId,
        order_type: OrderType,
        seq: Seq,
    ) -> Result<bool, Error> {
        self.parked_after(webhook_id, order_type, seq.before(), 1)
            .map(|first| first == [seq])
    }

    /// Up to which order the webhooks of this ledger skipped all when it adopted its queue.
    pub fn first_cursor(&self) -> Result<Seq, Error> {
        self.conn
            .query_row("SELECT first_cursor FROM ledger WHERE id = 1", [], |row| {
                row.get(0).map(Seq)
            })
            .during("reading where it began", &self.path)
    }

    /// Where the payloads lie that carry a webhook's orders of a type after one: to be given to
    /// [`Ledger::carried`], one after another.
    pub fn spans_after(
        &self,
        webhook_id: WebhookId,
        order_type: OrderType,
        after: Seq,
    ) -> Result<Vec<Span>, Error> {
        self.payload_spans_after(webhook_id, order_type, after)
            .during("looking for payloads", &self.path)
            .map(|spans| {
                spans
                    .into_iter()
                    .map(|(from, before)| Span { from, before })
                    .collect()
            })
    }

    /// The orders in the first payloads of a span, with the state of each payload, and the rest of
    /// the span; `None`: the others hold only orders after `up_to`.
    pub fn carried(
        &self,
        webhook_id: WebhookId,
        order_type: OrderType,
        span: Span,
        up_to: Seq,
    ) -> Result<(Vec<Carried>, Option<Span>), Error> {
        let read = || -> rusqlite::Result<_> {
            let mut statement = self.conn.prepare_cached(
                "SELECT payload_id, after_seq, queue_generation, state, members FROM payloads
                 WHERE webhook_id = ?1 AND order_type = ?2 AND payload_id >= ?3 AND payload_id < ?4
                 ORDER BY payload_id LIMIT ?5",
            )?;
            let mut rows = statement.query(params![
                webhook_id.0,
                order_type.as_str(),
                span.from.to_string(),
                span.before.to_string(),
                CARRIED_MAX
            ])?;
            let mut found = Vec::new();
            let mut read = 0;
            let mut last = span.from;
            // Payloads of the same millisecond are in no order.
            let mut beyond = None;
            while let Some(row) = rows.next()? {
                let id = row.get_ref(0)?.as_str()?;
                let id: PayloadId = id.parse().map_err(|_| unreadable("payload_id", id))?;
                if beyond.is_some_and(|beyond| id.made_at() > beyond) {
                    return Ok((found, None));
                }
                if row.get::<_, i64>(1)? >= up_to.0 {
                    beyond = Some(id.made_at());
                }
                if row.get::<_, i64>(2)? == self.queue_generation {
                    let members = Members::from_bytes(row.get_ref(4)?.as_blob()?)
                        .ok_or_else(|| unreadable("members", "these bytes"))?;
                    found.push((state_of(row.get_ref(3)?.as_str()?)?, members));
                }
                read += 1;
                last = id;
            }
            let rest = (read >= CARRIED_MAX).then_some(Span {
                from: last,
                before: span.before,
            });
            Ok((found, rest))
        };
        read().during("reading payloads", &self.path)
    }

    /// Orders after one and up to another that are in payloads in which one would not look for them,
    /// and the state of each such payload.
    pub fn strays_between(
        &self,
        webhook_id: WebhookId,
        after: Seq,
        up_to: Seq,
        limit: usize,
    ) -> Result<Vec<(Seq, PayloadState)>, Error> {
        self.conn
            .prepare_cached(
                "SELECT seq, state FROM strays CROSS JOIN payloads USING (webhook_id, payload_id)
                 WHERE strays.webhook_id = ?1 AND seq > ?2 AND seq <= ?3
                    AND order_type IN ('purchase_order', 'transfer_order', 'work_order')
                 ORDER BY seq LIMIT ?4",
            )
            .and_then(|mut statement| {
                let limit = i64::try_from(limit).unwrap_or(i64::MAX);
                statement
                    .query_map(params![webhook_id.0, after.0, up_to.0, limit], |row| {
                        Ok((Seq(row.get(0)?), state_of(row.get_ref(1)?.as_str()?)?))
                    })?
                    .collect()
            })
            .during("reading payloads", &self.path)
    }

    /// Rows of the queue that were set aside, after one and up to another.
    pub fn set_aside_between(
        &self,
        after: Seq,
        up_to: Seq,
        limit: usize,
    ) -> Result<Vec<Seq>, Error> {
        self.conn
            .prepare_cached(
                "SELECT seq FROM set_aside WHERE queue_generation = ?1 AND seq > ?2 AND seq <= ?3 ORDER BY seq LIMIT ?4",
            )
            .and_then(|mut statement| {
                let limit = i64::try_from(limit).unwrap_or(i64::MAX);
                statement
                    .query_map(params![self.queue_generation, after.0, up_to.0, limit], |row| {
                        row.get(0).map(Seq)
                    })?
                    .collect()
            })
            .during("reading what was set aside", &self.path)
    }

    /// Rows of the queue that were set aside after one, oldest first, with the order types that
    /// stand there.
    pub fn set_aside_after(&self, after: Seq, limit: usize) -> Result<Vec<(Seq, String)>, Error> {
        self.conn
            .prepare_cached(
                "SELECT seq, order_type FROM set_aside WHERE queue_generation = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3",
            )
            .and_then(|mut statement| {
                let limit = i64::try_from(limit).unwrap_or(i64::MAX);
                statement
                    .query_map(params![self.queue_generation, after.0, limit], |row| {
                        Ok((Seq(row.get(0)?), row.get(1)?))
                    })?
                    .collect()
            })
            .during("reading what was set aside", &self.path)
    }

    /// Up to which order of a type somebody dropped what a webhook had parked (D25).
    pub fn dropped_up_to(
        &self,
        webhook_id: WebhookId,
        order_type: OrderType,
    ) -> Result<Seq, Error> {
        self.conn
            .prepare_cached(
                "SELECT max(up_to) FROM dropped WHERE webhook_id = ?1 AND order_type = ?2",
            )
            .and_then(|mut statement| {
                statement.query_row(params![webhook_id.0, order_type.as_str()], |row| {
                    row.get::<_, Option<i64>>(0)
                })
            })
            .map(|up_to| up_to.map_or(Seq::START, Seq))
            .during("reading what was dropped", &self.path)
    }
}

/// A payload's state, and its orders.
pub type Carried = (PayloadState, Members);

/// Payloads that lie together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    from: PayloadId,
    before: PayloadId,
}

/// So many payloads are read at once.
const CARRIED_MAX: i64 = 1_000;

/// The row of a stream that is next; the newest one is the greatest.
struct Newest(PayloadRow, usize);

impl PartialEq for Newest {
    fn eq(&self, other: &Self) -> bool {
        self.0.id == other.0.id
    }
}

impl Eq for Newest {}

impl PartialOrd for Newest {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Newest {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.id.cmp(&other.0.id)
    }
}

/// Of a payload so many attempts are shown; `retry_attempts = "unlimited"` may make more.
const ATTEMPTS_MAX: i64 = 1_000;

/// Payloads lie in the order of the ledger's clock, which nobody sets, and lists are cut by the wall
/// clock's time. Where that was set back by more than this, a list may lack payloads of that moment.
const CLOCK_SET_MS_MAX: i64 = 60_000;

pub(super) fn state_of(text: &str) -> rusqlite::Result<PayloadState> {
    PayloadState::ALL
        .into_iter()
        .find(|state| state.as_str() == text)
        .ok_or_else(|| unreadable("state", text))
}

fn read_payload_row(row: &Row<'_>) -> rusqlite::Result<PayloadRow> {
    let id: String = row.get(0)?;
    let order_type: String = row.get(2)?;
    let state: String = row.get(4)?;
    Ok(PayloadRow {
        id: id.parse().map_err(|_| unreadable("payload_id", &id))?,
        webhook_id: WebhookId(row.get(1)?),
        order_type: order_type
            .parse()
            .map_err(|_| unreadable("order_type", &order_type))?,
        action: row.get(3)?,
        state: state_of(&state)?,
        reason: row.get(5)?,
        items: row.get::<_, i64>(6)?.cast_unsigned(),
        created_at: WallTime(row.get(7)?),
        settled_at: row.get::<_, Option<i64>>(8)?.map(WallTime),
        attempts: row.get(9)?,
        resend_of: match row.get::<_, Option<String>>(10)? {
            Some(text) => Some(text.parse().map_err(|_| unreadable("resend_of", &text))?),
            None => None,
        },
        resend: match row.get::<_, Option<i64>>(11)? {
            Some(due_ms) => Some(ResendRow {
                due: (due_ms != NEVER_MS).then_some(Timestamp::from_ms(due_ms)),
                counted: row.get(12)?,
                in_flight: row.get(13)?,
            }),
            None => None,
        },
    })
}

fn read_attempt(row: &Row<'_>) -> rusqlite::Result<AttemptRow> {
    Ok(AttemptRow {
        number: row.get(0)?,
        started_at: WallTime(row.get(1)?),
        duration_ms: row.get::<_, Option<i64>>(2)?.map(i64::cast_unsigned),
        phase: row.get(3)?,
        outcome: row.get(4)?,
        status: row.get(5)?,
        error: row.get(6)?,
        answer: row.get(7)?,
    })
}
