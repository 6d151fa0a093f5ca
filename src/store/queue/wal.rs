//! The queue's WAL: made durable before anything is built on it, and copied back into the file.
//!
//! Producers may commit without waiting for the disk, so the daemon syncs what they wrote. It
//! copies the WAL back long before a producer's own SQLite would.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::time::Duration;

use super::super::{During as _, Error, files};
use super::{Queue, Visible};

/// A WAL of so many pages (of 4 KiB) is made to begin anew.
const WAL_PAGES_MAX: i64 = 4_000;

/// To begin it anew it waits so long for producers and readers, and producers for it.
const RESTART_PATIENCE: Duration = Duration::from_millis(100);

/// Of a WAL that can't, and has so many pages, somebody should know.
const WAL_PAGES_TOLD: i64 = 8_000;

impl Queue {
    /// Copies the WAL back into the file, as far as nobody is in the way: now and then, and long
    /// before a producer's own SQLite (perhaps an old one) would do it, at 1,000 pages. Returns
    /// the WAL's pages if it goes on growing all the same, because somebody reads in it.
    pub fn checkpoint(&mut self) -> Result<Option<i64>, Error> {
        if !self.uncopied {
            return Ok(None);
        }
        // What would be copied from a WAL that is not on disk: after a power cut, what is left of
        // it would be taken for newer than the copies.
        self.sync(self.synced)?;
        let (_, pages) = self.copy_back("PRAGMA wal_checkpoint(PASSIVE)")?;
        self.uncopied = pages >= WAL_PAGES_MAX;
        if !self.uncopied {
            return Ok(None);
        }
        // Producers that commit without a pause leave it no moment to begin anew by itself.
        self.conn
            .busy_timeout(RESTART_PATIENCE)
            .during("copying the WAL back", &self.path)?;
        let copied = self.copy_back("PRAGMA wal_checkpoint(RESTART)");
        self.conn
            .busy_timeout(Self::PATIENCE)
            .during("copying the WAL back", &self.path)?;
        let (busy, pages) = copied?;
        self.uncopied = busy;
        Ok(Some(pages).filter(|&pages| busy && pages >= WAL_PAGES_TOLD))
    }

    /// Whether somebody was in the way, and how many pages the WAL has.
    fn copy_back(&mut self, how: &str) -> Result<(bool, i64), Error> {
        let copied = self
            .conn
            .query_row(how, [], |row| Ok((row.get(0)?, row.get(1)?)))
            .during("copying the WAL back", &self.path);
        // It syncs the WAL first.
        self.sync_failed |= copied.is_err();
        copied
    }

    /// Makes durable what was committed to the queue so far: at least what was just read.
    pub(super) fn sync(&mut self, newest: Visible) -> Result<(), Error> {
        let path = files::with_suffix(&self.path, "-wal");
        let wal = match self.wal.take() {
            Some(wal) => wal,
            None => {
                let wal = File::options()
                    .read(true)
                    .write(true)
                    .open(&path)
                    .during("opening it for syncing", &path)?;
                files::sync_folder(&path)?;
                wal
            }
        };
        let made_good = if self.sync_failed {
            self.write_again(&wal)
        } else {
            Ok(())
        };
        let synced = made_good.and_then(|()| wal.sync_data().during("syncing", &path));
        // Kept open: the kernel tells each open file once of what it could not write, and new
        // ones of nothing that it has told.
        self.wal = Some(wal);
        self.sync_failed = synced.is_err();
        synced.map(|()| self.synced = newest)
    }

    /// Writes all that the WAL holds to where it lies. A sync that succeeds after one that failed
    /// proves nothing: what could not be written counts as written from then on. Producers wait
    /// meanwhile.
    fn write_again(&mut self, wal: &File) -> Result<(), Error> {
        let path = files::with_suffix(&self.path, "-wal");
        let doing = "writing it again after a failed sync";
        self.conn
            .busy_timeout(Duration::ZERO)
            .during(doing, &path)?;
        let begun = self
            .conn
            .execute_batch("BEGIN IMMEDIATE")
            .during(doing, &path);
        self.conn
            .busy_timeout(Self::PATIENCE)
            .during(doing, &path)?;
        begun?;
        let written = rewrite(wal).during(doing, &path);
        self.conn.execute_batch("ROLLBACK").during(doing, &path)?;
        written
    }
}

/// Writes a file's bytes to where they are.
fn rewrite(file: &File) -> std::io::Result<()> {
    let mut bytes = vec![0; 1 << 20];
    let mut offset = 0;
    loop {
        let read = file.read_at(&mut bytes, offset)?;
        if read == 0 {
            return Ok(());
        }
        file.write_all_at(&bytes[..read], offset)?;
        offset += u64::try_from(read).unwrap_or(u64::MAX);
    }
}
