//! Whether anybody committed to the queue, told without its thread.

use std::cell::Cell;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::super::{During as _, Error};

/// Tells, without the queue's thread, whether anybody committed since the queue was last looked
/// at. It reads no row and waits for no disk, so whoever may not be held up can ask it.
#[derive(Debug)]
pub struct Glance {
    conn: Connection,
    known: Cell<Option<Glimpse>>,
}

/// SQLite's `data_version`, as a [`Glance`] sees it; `None` if it could not be had at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Glimpse(Option<i64>);

impl Glance {
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let conn = Connection::open_with_flags(path, flags)
            .and_then(|conn| conn.busy_timeout(Duration::ZERO).map(|()| conn))
            .during("opening", path)?;
        let known = Cell::new(None);
        Ok(Self { conn, known })
    }

    /// What is to be seen now.
    pub fn glimpse(&self) -> Glimpse {
        let version = self
            .conn
            .prepare_cached("PRAGMA data_version")
            .and_then(|mut statement| statement.query_row([], |row| row.get(0)));
        Glimpse(version.ok())
    }

    /// Whether the queue was looked at since it was so.
    pub fn is_known(&self, glimpse: Glimpse) -> bool {
        glimpse.0.is_some() && self.known.get() == Some(glimpse)
    }

    /// The queue was looked at, after the glimpse.
    pub fn remember(&self, glimpse: Glimpse) {
        self.known.set(Some(glimpse));
    }
}
