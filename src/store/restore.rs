//! Going back to a copy of both files (see [`super::backup`]): what that means, and doing it.
//!
//! Nothing is overwritten: the files that are replaced stay beside, under another name. Whoever does
//! this holds the ledger's lock, so no daemon has either file.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags, params};

use super::backup::{self, LEDGER, QUEUE};
use super::files::{self, Kind};
use super::{During, Error, ledger, queue};
use crate::clock::WallTime;
use crate::feed::payload::Members;

/// What going back to a copy means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// When the copy was made.
    pub copied_at: WallTime,
    /// For each webhook, orders that were sent since, or may have been: they are sent again.
    pub again: Vec<Again>,
    /// Orders that were queued since: how many, the first and the last.
    pub missing: Option<Missing>,
    /// Orders that were withdrawn since: they are sent, unless they were already.
    pub withdrawn: u64,
    /// Why not all of that is known.
    pub unknown: Vec<String>,
}

/// How many orders, the first, and the last.
pub type Missing = (u64, i64, i64);

/// Orders that a webhook is sent again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Again {
    /// The webhook.
    pub webhook: String,
    /// So many orders.
    pub orders: u64,
    /// In so many payloads.
    pub payloads: u64,
}

/// Says what going back to the copy in a folder means for the files in use.
pub fn plan(folder: &Path, queue: &Path, ledger: &Path) -> Result<Plan, Error> {
    let (then_queue, then_ledger) = (folder.join(QUEUE), folder.join(LEDGER));
    let copy = open_copy(ledger::KIND, &then_ledger)?;
    let queue_copy = open_copy(queue::KIND, &then_queue)?;
    let copied_at: Option<i64> = copy
        .query_row("SELECT copied_at FROM ledger", [], |row| row.get(0))
        .during("reading when it was copied", &then_ledger)?;
    let copied_at = copied_at.ok_or_else(|| Error::Foreign {
        path: then_ledger.clone(),
        what: "is no copy that `orderfeed backup` made; give the folder of one".to_owned(),
    })?;
    let last = |sql: &str| queue_copy.query_row(sql, [], |row| row.get::<_, i64>(0));
    let newest =
        last("SELECT coalesce(max(seq), 0) FROM orders").during("reading the copy", &then_queue)?;
    let withdrawal = last("SELECT coalesce(max(withdrawal), 0) FROM withdrawals")
        .during("reading the copy", &then_queue)?;
    let mut plan = Plan {
        copied_at: WallTime(copied_at),
        again: Vec::new(),
        missing: None,
        withdrawn: 0,
        unknown: Vec::new(),
    };
    match open_in_use(ledger::KIND, ledger)
        .and_then(|now| again(&now, &copy, newest).during("comparing", ledger))
    {
        Ok(again) => plan.again = again,
        Err(error) => plan.unknown.push(format!(
            "what was delivered since {} is not known, and all of it is sent again: {error}",
            plan.copied_at
        )),
    }
    match open_in_use(queue::KIND, queue)
        .and_then(|now| queued_since(&now, newest, withdrawal).during("comparing", queue))
    {
        Ok((missing, withdrawn)) => (plan.missing, plan.withdrawn) = (missing, withdrawn),
        Err(error) => plan.unknown.push(format!(
            "what was queued since {} is not known, and is missing: {error}",
            plan.copied_at
        )),
    }
    Ok(plan)
}

/// Puts the copy in the place of the files in use, which are kept beside; returns where.
pub fn carry_out(
    folder: &Path,
    queue: &Path,
    ledger: &Path,
    at: WallTime,
) -> Result<Vec<PathBuf>, Error> {
    let pairs = [
        (queue::KIND, folder.join(QUEUE), queue),
        (ledger::KIND, folder.join(LEDGER), ledger),
    ];
    // What may fail comes first.
    for (kind, copy, place) in &pairs {
        let fresh = files::with_suffix(place, ".restoring");
        bring(*kind, copy, &fresh, place)?;
    }
    backup::release(&files::with_suffix(ledger, ".restoring"))?;
    let aside = format!(".replaced-{at}").replace(':', "-");
    let mut kept = Vec::new();
    for (_, _, place) in &pairs {
        // Were this cut off, the next start says what is missing, and this can be done again.
        // Of a file without its WAL nobody would notice what it lacks.
        for suffix in ["", "-wal", "-shm"] {
            let from = files::with_suffix(place, suffix);
            if from.exists() {
                let to = files::with_suffix(&files::with_suffix(place, &aside), suffix);
                fs::rename(&from, &to).during("putting it aside", &from)?;
                if suffix.is_empty() {
                    kept.push(to);
                }
            }
        }
        let fresh = files::with_suffix(place, ".restoring");
        fs::rename(&fresh, place).during("putting the copy in its place", place)?;
        files::sync_folder(place)?;
    }
    Ok(kept)
}

/// Copies a file beside its place, with the rights of what is there, or of its folder.
fn bring(kind: Kind, copy: &Path, fresh: &Path, place: &Path) -> Result<(), Error> {
    let doing = "bringing the copy beside its place";
    for suffix in ["", "-wal", "-shm"] {
        let left = files::with_suffix(fresh, suffix);
        if left.exists() {
            fs::remove_file(&left).during("removing what was left unfinished", &left)?;
        }
    }
    fs::copy(copy, fresh).during(doing, fresh)?;
    fs::set_permissions(fresh, fs::Permissions::from_mode(kind.mode)).during(doing, fresh)?;
    let folder = files::folder_of(place);
    let owner = fs::metadata(place)
        .or_else(|_| fs::metadata(&folder))
        .during(doing, place)?;
    let own = fs::metadata(fresh).during(doing, fresh)?;
    if (own.uid(), own.gid()) != (owner.uid(), owner.gid()) {
        std::os::unix::fs::chown(fresh, Some(owner.uid()), Some(owner.gid()))
            .during(doing, fresh)?;
    }
    backup::check(fresh)?;
    File::open(fresh)
        .and_then(|file| file.sync_all())
        .during(doing, fresh)
}

/// A file of a copy, which nobody changes.
pub(super) fn open_copy(kind: Kind, path: &Path) -> Result<Connection, Error> {
    files::look_at(path)?;
    let uri = format!(
        "file:{}?immutable=1",
        path.display()
            .to_string()
            .replace('%', "%25")
            .replace('?', "%3f")
            .replace('#', "%23")
    );
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_URI
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(uri, flags).during("opening", path)?;
    of_kind(kind, conn, path)
}

/// A file in use, as far as it can be read.
fn open_in_use(kind: Kind, path: &Path) -> Result<Connection, Error> {
    files::look_at(path)?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags).during("opening", path)?;
    of_kind(kind, conn, path)
}

fn of_kind(kind: Kind, conn: Connection, path: &Path) -> Result<Connection, Error> {
    let number = |pragma| {
        conn.pragma_query_value(None, pragma, |row| row.get::<_, i32>(0))
            .during("opening", path)
    };
    let found = (number("application_id")?, number("user_version")?);
    if found == (kind.application_id, kind.schema_version) {
        return Ok(conn);
    }
    Err(Error::Foreign {
        path: path.to_owned(),
        what: format!("is no {} of this orderfeed", kind.name),
    })
}

/// What was sent since the copy was made, or may have been, of the orders that are in it.
fn again(now: &Connection, then: &Connection, newest: i64) -> rusqlite::Result<Vec<Again>> {
    let mut all = Vec::new();
    let mut webhooks = now.prepare("SELECT webhook_id, name FROM webhooks ORDER BY name")?;
    let webhooks = webhooks
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<Vec<(i64, String)>>>()?;
    for (webhook_id, webhook) in webhooks {
        let mut sum = Again {
            webhook,
            orders: 0,
            payloads: 0,
        };
        let last: Option<String> = then.query_row(
            "SELECT max(payload_id) FROM payloads WHERE webhook_id = ?1",
            [webhook_id],
            |row| row.get(0),
        )?;
        let mut pending =
            then.prepare("SELECT payload_id, attempts FROM payloads WHERE webhook_id = ?1 AND state IN ('pending', 'in_flight')")?;
        let pending = pending
            .query_map([webhook_id], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<rusqlite::Result<Vec<(String, i64)>>>()?;
        let mut count = |members: &[u8]| {
            let members = Members::from_bytes(members);
            let seqs = members.iter().flat_map(Members::seqs);
            let orders = seqs.filter(|seq| seq.0 <= newest).count() as u64;
            sum.orders += orders;
            sum.payloads += u64::from(orders > 0);
        };
        let mut sealed = now.prepare(
            "SELECT members FROM payloads WHERE webhook_id = ?1 AND payload_id > ?2 AND attempts > 0 AND resend_of IS NULL",
        )?;
        let mut rows = sealed.query(params![webhook_id, last.unwrap_or_default()])?;
        while let Some(row) = rows.next()? {
            count(row.get_ref(0)?.as_blob()?);
        }
        for (id, attempts) in pending {
            let mut tried = now.prepare_cached(
                "SELECT members FROM payloads WHERE webhook_id = ?1 AND payload_id = ?2 AND (attempts > ?3 OR state = 'delivered')",
            )?;
            let mut rows = tried.query(params![webhook_id, id, attempts])?;
            while let Some(row) = rows.next()? {
                count(row.get_ref(0)?.as_blob()?);
            }
        }
        if sum.orders > 0 {
            all.push(sum);
        }
    }
    Ok(all)
}

/// What was queued and withdrawn since.
fn queued_since(
    now: &Connection,
    newest: i64,
    withdrawal: i64,
) -> rusqlite::Result<(Option<Missing>, u64)> {
    let missing = now.query_row(
        "SELECT count(*), coalesce(min(seq), 0), coalesce(max(seq), 0) FROM orders WHERE seq > ?1",
        [newest],
        |row| {
            Ok((
                row.get::<_, i64>(0)?.cast_unsigned(),
                row.get(1)?,
                row.get(2)?,
            ))
        },
    )?;
    let withdrawn = now.query_row(
        "SELECT count(*) FROM withdrawals WHERE withdrawal > ?1 AND seq <= ?2",
        [withdrawal, newest],
        |row| row.get::<_, i64>(0),
    )?;
    Ok((
        Some(missing).filter(|missing| missing.0 > 0),
        withdrawn.cast_unsigned(),
    ))
}
