//! Whether both files are sound, and say the same: every page, and every order that the ledger needs.
//!
//! It takes as long as reading both files does. Nothing is changed.

use rusqlite::{Connection, params};

use super::ledger::Ledger;
use super::queue::Queue;
use super::{During, Error};
use crate::feed::order::{OrderType, Seq};
use crate::feed::payload::{Members, PayloadId};

/// Of what is wrong so much is told.
const PROBLEMS_MAX: usize = 20;

/// Payloads that are looked at before it is told how far it came.
const STEP: i64 = 10_000;

/// What SQLite finds wrong in a file.
pub(super) fn integrity(conn: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut statement = conn.prepare(&format!("PRAGMA integrity_check({PROBLEMS_MAX})"))?;
    let found: Vec<String> = statement
        .query_map([], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    Ok(found.into_iter().filter(|found| found != "ok").collect())
}

/// What is wrong with the queue by itself.
pub fn queue(queue: &Queue) -> Result<Vec<String>, Error> {
    let look = || -> rusqlite::Result<Vec<String>> {
        let mut problems = integrity(&queue.conn)?;
        if !problems.is_empty() {
            return Ok(problems);
        }
        let count = |sql: &str| queue.conn.query_row(sql, [], |row| row.get::<_, i64>(0));
        let lacking = count(
            "SELECT count(*) FROM orders WHERE json_valid(body) AND NOT EXISTS (SELECT 1 FROM tracking_numbers
                WHERE tracking_number = CAST(json_extract(body, '$.TrackingNumber') AS TEXT)
                    AND tracking_numbers.order_type = orders.order_type AND tracking_numbers.seq = orders.seq)",
        )?;
        if lacking > 0 {
            problems.push(format!(
                "{lacking} orders are not found by their tracking number"
            ));
        }
        if count("SELECT count(*) FROM prunings")? > 0 {
            problems.push("somebody let orders be deleted (a row in prunings)".to_owned());
        }
        Ok(problems)
    };
    look().during("checking it", queue.path())
}

/// What is wrong with the ledger by itself.
pub fn ledger(ledger: &Ledger) -> Result<Vec<String>, Error> {
    integrity(&ledger.conn).during("checking it", ledger.path())
}

/// What the two say differently; `tell` hears how many payloads were looked at, now and then.
pub fn both(
    ledger: &Ledger,
    queue: &Queue,
    mut tell: impl FnMut(u64),
) -> Result<Vec<String>, Error> {
    let mut problems = Vec::new();
    let newest = queue.newest_noticed();
    let pruned_up_to = ledger.pruned_up_to()?;
    let mut looked_at = 0;
    for (webhook_id, name) in ledger.webhooks()? {
        let lane = ledger.lane(webhook_id)?;
        for order_type in OrderType::ALL {
            let cursor = lane.places[order_type].cursor;
            if cursor > newest {
                problems.push(format!(
                    "{name} has come to {order_type} {cursor}, and the queue ends at {newest}"
                ));
            }
            let mut after = String::new();
            loop {
                let (found, last) = slice(ledger, (webhook_id.0, order_type), &after, |row| {
                    one(queue, ledger, pruned_up_to, &row)
                })?;
                looked_at += found.0;
                problems.extend(found.1.into_iter().map(|what| format!("{name}: {what}")));
                problems.truncate(PROBLEMS_MAX);
                tell(looked_at);
                match last {
                    Some(last) => after = last,
                    None => break,
                }
            }
        }
    }
    Ok(problems)
}

/// A payload, as far as it matters here.
struct Row {
    id: PayloadId,
    members: Vec<u8>,
    is_needed: bool,
}

type Found = (u64, Vec<String>);

fn slice(
    ledger: &Ledger,
    (webhook_id, order_type): (i64, OrderType),
    after: &str,
    look: impl Fn(Row) -> Result<Option<String>, Error>,
) -> Result<(Found, Option<String>), Error> {
    let read = || -> rusqlite::Result<Vec<(String, Row)>> {
        ledger
            .conn
            .prepare_cached(
                "SELECT payload_id, members, state IN ('pending', 'in_flight', 'failed')
                    OR payload_id = (SELECT last_payload_id FROM webhooks WHERE webhooks.webhook_id = payloads.webhook_id)
                    OR EXISTS (SELECT 1 FROM errands WHERE errands.payload_id = payloads.payload_id)
                 FROM payloads WHERE webhook_id = ?1 AND order_type = ?2 AND payload_id > ?3
                    AND queue_generation = (SELECT queue_generation FROM ledger) ORDER BY payload_id LIMIT ?4",
            )?
            .query_map(params![webhook_id, order_type.as_str(), after, STEP], |row| {
                let id: String = row.get(0)?;
                let parsed = id.parse().map_err(|_| {
                    rusqlite::Error::InvalidColumnType(0, id.clone(), rusqlite::types::Type::Text)
                })?;
                Ok((
                    id,
                    Row {
                        id: parsed,
                        members: row.get(1)?,
                        is_needed: row.get(2)?,
                    },
                ))
            })?
            .collect()
    };
    let rows = read().during("reading payloads", ledger.path())?;
    let more = i64::try_from(rows.len()).is_ok_and(|rows| rows >= STEP);
    let mut found: Found = (rows.len() as u64, Vec::new());
    let last = rows.last().map(|(id, _)| id.clone()).filter(|_| more);
    for (_, row) in rows {
        found.1.extend(look(row)?);
    }
    Ok((found, last))
}

/// What is wrong with a payload, if anything.
fn one(
    queue: &Queue,
    ledger: &Ledger,
    pruned_up_to: Seq,
    row: &Row,
) -> Result<Option<String>, Error> {
    let id = row.id;
    if row.is_needed {
        // All of it is there, and makes the same bytes.
        let payload = ledger.payload(id)?;
        let body = payload.map(|payload| queue.body(&payload)).transpose()?;
        return Ok(body.and_then(Result::err));
    }
    let Some(members) = Members::from_bytes(&row.members) else {
        return Ok(Some(format!("the orders of payload {id} can't be read")));
    };
    let kept: Vec<Seq> = members
        .seqs()
        .iter()
        .copied()
        .filter(|&seq| seq > pruned_up_to)
        .collect();
    let gone = queue.gone(&kept)?;
    Ok(gone
        .first()
        .map(|seq| format!("order {seq} of payload {id} is no longer in the queue")))
}
