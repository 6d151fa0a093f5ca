//! What the configuration's webhooks mean to the ledger: who is new, renamed, removed or back,
//! and from which order on a selection is in force (D25, D27).

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};

use super::{Ledger, Noted, WebhookId, lane_of, prune, read_selections, write_lane};
use crate::clock::WallTime;
use crate::feed::lane::{Lane, Place};
use crate::feed::order::{PerType, Seq};
use crate::feed::selection::{Selection, Selections};
use crate::feed::webhook::WebhookName;
use crate::store::{During, Error};

/// What the ledger needs to know of a configured webhook.
#[derive(Debug, Clone)]
pub struct Configured {
    /// Its name.
    pub name: WebhookName,
    /// Its triggers and filter.
    pub selection: Selection,
    /// Where it begins, if the ledger does not know it yet.
    pub start: Option<Start>,
    /// What it was called before.
    pub renamed_from: Option<WebhookName>,
}

/// Where a webhook begins that the ledger does not know yet (D27).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// `oldest`: with the oldest order in the queue.
    Oldest,
    /// `now`: with the next order that is queued.
    Now,
}

/// What became of a configured webhook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Registered {
    /// The ledger knows it: how far it has come, and what it subscribed to over time.
    Known(WebhookId, PerType<Place>, Selections),
    /// It must say where it begins, and is held until it does (D27).
    NoStart {
        /// Why, and what to do.
        reason: String,
    },
}

impl Ledger {
    /// Registers the configured webhooks, all of them or none. `newest` is the newest order in
    /// the queue: a changed selection is in force from the next one on.
    pub fn configure(
        &mut self,
        webhooks: &[Configured],
        newest: Seq,
        at: WallTime,
    ) -> Result<BTreeMap<WebhookName, Registered>, Error> {
        self.conn
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .and_then(|transaction| {
                let registered = configure(&transaction, webhooks, newest, at)?;
                transaction.commit()?;
                Ok(registered)
            })
            .during("registering webhooks", &self.path)
    }

    /// Whether the first webhooks are yet to come: they begin with the oldest order (D27).
    pub fn awaits_first_webhooks(&self) -> Result<bool, Error> {
        self.conn
            .query_row(&format!("SELECT {NO_WEBHOOK_YET}"), [], |row| row.get(0))
            .during("looking for webhooks", &self.path)
    }

    /// What [`Ledger::configure`] would do; nothing is written.
    pub fn preview(
        &mut self,
        webhooks: &[Configured],
        newest: Seq,
        at: WallTime,
    ) -> Result<BTreeMap<WebhookName, Registered>, Error> {
        self.conn
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .and_then(|transaction| {
                let registered = configure(&transaction, webhooks, newest, at)?;
                transaction.rollback()?;
                Ok(registered)
            })
            .during("looking at webhooks", &self.path)
    }
}

/// Whether there never was a webhook, not even one that was forgotten since. As SQL.
const NO_WEBHOOK_YET: &str = "NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = 'webhooks')";

fn configure(
    conn: &Connection,
    webhooks: &[Configured],
    newest: Seq,
    at: WallTime,
) -> rusqlite::Result<BTreeMap<WebhookName, Registered>> {
    let first_cursor = conn
        .query_row(
            &format!("SELECT first_cursor FROM ledger WHERE {NO_WEBHOOK_YET}"),
            [],
            |row| row.get(0).map(Seq),
        )
        .optional()?;
    let mut registered = BTreeMap::new();
    for webhook in webhooks {
        let known = match known_as(conn, &webhook.name)? {
            Some(webhook_id) => Ok(webhook_id),
            None => begin(conn, webhook, first_cursor, newest)?,
        };
        let registration = match known {
            Ok(webhook_id) => {
                // The queue can't be shorter than what is decided here by its length.
                conn.execute(
                    "UPDATE webhooks SET removed_at = NULL, removed_ms = NULL, newest_noticed = max(newest_noticed, ?2) WHERE webhook_id = ?1",
                    params![webhook_id.0, newest.0],
                )?;
                let selections = select(conn, webhook_id, &webhook.selection, newest.next())?;
                Registered::Known(webhook_id, lane_of(conn, webhook_id)?.places, selections)
            }
            Err(reason) => Registered::NoStart { reason },
        };
        registered.insert(webhook.name.clone(), registration);
    }
    // One that was removed keeps its place, and goes on collecting by its last selection: when
    // it returns, nothing that was queued meanwhile is missing (D27).
    let mut statement =
        conn.prepare("SELECT webhook_id, name FROM webhooks WHERE removed_at IS NULL")?;
    let present = statement
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<Vec<(i64, String)>>>()?;
    for (webhook_id, name) in present {
        if !registered
            .keys()
            .any(|configured| configured.as_str() == name)
        {
            conn.execute(
                "UPDATE webhooks SET removed_at = ?2 WHERE webhook_id = ?1",
                params![webhook_id, at.0],
            )?;
        }
    }
    Ok(registered)
}

fn known_as(conn: &Connection, name: &WebhookName) -> rusqlite::Result<Option<WebhookId>> {
    conn.query_row(
        "SELECT webhook_id FROM webhooks WHERE name = ?1",
        [name.as_str()],
        |row| row.get(0),
    )
    .map(WebhookId)
    .optional()
}

/// Gives a place to a webhook that the ledger does not know by its name, or says why it can't.
fn begin(
    conn: &Connection,
    webhook: &Configured,
    first_cursor: Option<Seq>,
    newest: Seq,
) -> rusqlite::Result<Result<WebhookId, String>> {
    let name = &webhook.name;
    if let Some(former) = &webhook.renamed_from {
        let Some(webhook_id) = known_as(conn, former)? else {
            return Ok(Err(format!(
                "webhook {name} is renamed_from = \"{former}\", which was never delivered to; correct the name, or give start = \"oldest\" or \"now\" instead"
            )));
        };
        conn.execute(
            "UPDATE webhooks SET name = ?2 WHERE webhook_id = ?1",
            params![webhook_id.0, name.as_str()],
        )?;
        return Ok(Ok(webhook_id));
    }
    // The first webhooks of a new ledger begin with the oldest order; or, if that ledger adopted
    // a queue from which others were delivered, where it was told to.
    let cursor = match (webhook.start, first_cursor) {
        (Some(Start::Now), _) => newest,
        (Some(Start::Oldest) | None, Some(first_cursor)) => first_cursor,
        (Some(Start::Oldest), None) => Seq::START,
        (None, None) => {
            return Ok(Err(format!(
                "webhook {name} is new beside others, and must say where it begins: start = \"oldest\" sends it all orders in the queue (newest: {newest}), start = \"now\" those queued from now on, and renamed_from = \"NAME\" goes on where a removed webhook stood"
            )));
        }
    };
    // What is pruned is gone, or about to go.
    let cursor = cursor.max(prune::pruned_up_to(conn)?);
    conn.execute(
        "INSERT INTO webhooks (name, purchase_order_cursor, purchase_order_sealed_last, transfer_order_cursor,
            transfer_order_sealed_last, work_order_cursor, work_order_sealed_last, seals, standing, selections_version)
         VALUES (?1, 0, 0, 0, 0, 0, 0, 0, 'up', 1)",
        [name.as_str()],
    )?;
    let webhook_id = WebhookId(conn.last_insert_rowid());
    let lane = Lane::starting_after(cursor, 1);
    write_lane(conn, webhook_id, &lane, &Noted::default())?;
    select(conn, webhook_id, &webhook.selection, cursor.next())?;
    Ok(Ok(webhook_id))
}

/// Makes the selection the current one from this order on, if it is not already.
fn select(
    conn: &Connection,
    webhook_id: WebhookId,
    selection: &Selection,
    from: Seq,
) -> rusqlite::Result<Selections> {
    let selections = read_selections(conn, webhook_id)?;
    if selections.current() == Some(selection) {
        return Ok(selections);
    }
    let text = serde_json::to_string(selection)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
    conn.execute(
        "INSERT OR REPLACE INTO selections (webhook_id, from_seq, version, selection) VALUES (?1, ?2, ?3, ?4)",
        params![webhook_id.0, from.0, selections.version().saturating_add(1).cast_signed(), text],
    )?;
    read_selections(conn, webhook_id)
}
