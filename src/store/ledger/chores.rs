//! How the daemon's chores went, and the ledger's own part of a backup.

use std::fs::File;
use std::sync::Arc;

use rusqlite::{OptionalExtension as _, params};

use super::{Ledger, autocheckpoint};
use crate::clock::WallTime;
use crate::store::{During, Error};

/// What the daemon does for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chore {
    /// Deletes what is done with.
    Prune,
    /// Copies both files.
    Backup,
}

impl Chore {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Prune, Self::Backup];

    /// Its name in the ledger.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Prune => "prune",
            Self::Backup => "backup",
        }
    }
}

/// How a chore went last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Course {
    /// When it began.
    pub begun_at: WallTime,
    /// When it ended; `None`: it is under way, or was cut off.
    pub ended_at: Option<WallTime>,
    /// When it last succeeded.
    pub success_at: Option<WallTime>,
    /// What it did when it last succeeded.
    pub words: Option<String>,
    /// Why it failed; `None`: it did not.
    pub failure: Option<String>,
}

/// The ledger's file, which does not change until [`Ledger::end_copy`].
#[derive(Debug, Clone)]
pub struct Image {
    /// To be read only; it was opened before SQLite opened the ledger, and is closed after it:
    /// closing one that is opened in between would drop SQLite's locks.
    pub file: Arc<File>,
    /// So many bytes of it.
    pub bytes: u64,
}

impl Ledger {
    /// How a chore went last; `None`: it never began.
    pub fn chore(&self, chore: Chore) -> Result<Option<Course>, Error> {
        self.conn
            .prepare_cached(
                "SELECT begun_at, ended_at, success_at, words, failure FROM chores WHERE chore = ?1",
            )
            .and_then(|mut statement| {
                statement
                    .query_row([chore.as_str()], |row| {
                        Ok(Course {
                            begun_at: WallTime(row.get(0)?),
                            ended_at: row.get::<_, Option<i64>>(1)?.map(WallTime),
                            success_at: row.get::<_, Option<i64>>(2)?.map(WallTime),
                            words: row.get(3)?,
                            failure: row.get(4)?,
                        })
                    })
                    .optional()
            })
            .during("reading how a chore went", &self.path)
    }

    /// A chore begins.
    pub fn begin_chore(&mut self, chore: Chore, at: WallTime) -> Result<(), Error> {
        self.conn
            .execute(
                "INSERT INTO chores (chore, begun_at) VALUES (?1, ?2)
                 ON CONFLICT DO UPDATE SET begun_at = ?2, ended_at = NULL",
                params![chore.as_str(), at.0],
            )
            .map(drop)
            .during("noting a chore", &self.path)
    }

    /// A chore ended: what it did, or why it failed.
    pub fn end_chore(
        &mut self,
        chore: Chore,
        at: WallTime,
        done: Result<&str, &str>,
    ) -> Result<(), Error> {
        self.conn
            .execute(
                "UPDATE chores SET ended_at = ?2, failure = ?4,
                    success_at = CASE WHEN ?3 IS NULL THEN success_at ELSE ?2 END, words = coalesce(?3, words)
                 WHERE chore = ?1",
                params![chore.as_str(), at.0, done.ok(), done.err()],
            )
            .map(drop)
            .during("noting a chore", &self.path)
    }

    /// When this file was copied from a ledger in use; `None`: it is no copy.
    pub fn copied_at(&self) -> Result<Option<WallTime>, Error> {
        self.conn
            .query_row("SELECT copied_at FROM ledger WHERE id = 1", [], |row| {
                row.get::<_, Option<i64>>(0).map(|at| at.map(WallTime))
            })
            .during("reading whether it is a copy", &self.path)
    }

    /// Brings all that is recorded into the file, and from then on nothing: until
    /// [`Ledger::end_copy`] its WAL only grows, and whoever copies the file has the ledger of this
    /// moment. A copy by SQLite's own means would need the connection over many turns of the
    /// lanes, which use it themselves.
    pub fn begin_copy(&mut self) -> Result<Image, Error> {
        let doing = "bringing its WAL into the file";
        self.conn
            .pragma_update(None, "wal_autocheckpoint", 0)
            .during(doing, &self.path)?;
        let (busy, log, copied): (bool, i64, i64) = self
            .conn
            .query_row("PRAGMA wal_checkpoint(FULL)", [], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            })
            .during(doing, &self.path)?;
        let bytes = self
            .conn
            .query_row(
                "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size",
                [],
                |row| row.get::<_, i64>(0),
            )
            .during(doing, &self.path)?;
        if busy || log != copied {
            self.end_copy()?;
            return Err(Error::Disagree(format!(
                "{}: not all of its WAL could be brought into the file ({copied} of {log} pages)",
                self.path.display()
            )));
        }
        Ok(Image {
            file: Arc::clone(&self.image),
            bytes: bytes.cast_unsigned(),
        })
    }

    /// The file may change again.
    pub fn end_copy(&mut self) -> Result<(), Error> {
        autocheckpoint(&self.conn).during("letting its WAL start over", &self.path)
    }
}
