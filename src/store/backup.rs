//! Copies of both files that belong together: the ledger's first, then the queue's, so that the
//! queue's copy holds every order that the ledger's knows of.
//!
//! A copy is a folder, which takes its name when it is whole, checked and on disk. The ledger in it
//! says that it is a copy, so that nobody takes it for the one in use: [`release`] makes it that.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rusqlite::backup::{Backup as Copying, StepResult};
use rusqlite::{Connection, OpenFlags, params};

use super::ledger::chores::Image;
use super::queue::Queue;
use super::{During, Error, files};
use crate::clock::WallTime;

/// The ledger's name in a copy.
pub const LEDGER: &str = "ledger.db";

/// The queue's name in a copy.
pub const QUEUE: &str = "queue.db";

/// How the folders' names begin.
const PREFIX: &str = "orderfeed-";

/// Pages of the queue that are copied at once.
const STEP_PAGES: std::ffi::c_int = 1_024;

/// A copy that is being made; what is there of it vanishes unless it is finished.
#[derive(Debug)]
pub struct Draft {
    unfinished: PathBuf,
    folder: PathBuf,
    at: WallTime,
}

impl Draft {
    /// Begins a copy in a folder of copies, which is made if need be.
    pub fn begin(dir: &Path, at: WallTime) -> Result<Self, Error> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .during("making the folder for backups", dir)?;
        let name = format!("{PREFIX}{at}").replace(':', "-");
        let unfinished = dir.join(format!(".{name}.unfinished"));
        // What others left that were cut off.
        for entry in fs::read_dir(dir).during("reading the folder for backups", dir)? {
            let path = entry.during("reading the folder for backups", dir)?.path();
            let name = path
                .file_name()
                .and_then(|name| name.to_str())
                .unwrap_or_default();
            if name.starts_with(&format!(".{PREFIX}")) && name.ends_with(".unfinished") {
                fs::remove_dir_all(&path).during("removing an unfinished backup", &path)?;
            }
        }
        DirBuilder::new()
            .mode(0o700)
            .create(&unfinished)
            .during("making the backup's folder", &unfinished)?;
        Ok(Self {
            unfinished,
            folder: dir.join(name),
            at,
        })
    }

    /// Copies the ledger's file, which must not change meanwhile.
    pub fn copy_ledger(&self, image: &Image) -> Result<(), Error> {
        let path = self.unfinished.join(LEDGER);
        let doing = "copying the ledger";
        let mut copy = new_file(&path)?;
        let mut bytes = vec![0; 1 << 20];
        let mut offset = 0;
        while offset < image.bytes {
            let left = usize::try_from(image.bytes - offset).unwrap_or(usize::MAX);
            let wanted = left.min(bytes.len());
            image
                .file
                .read_exact_at(&mut bytes[..wanted], offset)
                .and_then(|()| copy.write_all(&bytes[..wanted]))
                .during(doing, &path)?;
            offset += wanted as u64;
        }
        Ok(())
    }

    /// Copies the queue as it is at this moment. Producers go on writing meanwhile.
    pub fn copy_queue(&self, queue: &Path) -> Result<(), Error> {
        let path = self.unfinished.join(QUEUE);
        let doing = "copying the queue";
        drop(new_file(&path)?);
        let source = Queue::open(queue)?.into_connection();
        // One moment for all steps: else each commit of a producer makes it begin anew.
        source
            .execute_batch("BEGIN; SELECT count(*) FROM queue")
            .during(doing, queue)?;
        let mut copy = Connection::open(&path).during(doing, &path)?;
        copy.pragma_update(None, "synchronous", "off")
            .during(doing, &path)?;
        let copying = Copying::new(&source, &mut copy).during(doing, &path)?;
        loop {
            match copying.step(STEP_PAGES).during(doing, &path)? {
                StepResult::Done => break,
                StepResult::More => {}
                _ => std::thread::sleep(std::time::Duration::from_millis(50)),
            }
        }
        drop(copying);
        // SQLite counts it up in the copy, whose triggers would no longer vouch for its orders.
        let schema_version: i64 = source
            .pragma_query_value(None, "schema_version", |row| row.get(0))
            .during(doing, queue)?;
        copy.pragma_update(None, "schema_version", schema_version)
            .during(doing, &path)?;
        Ok(())
    }

    /// Makes the two belong together, checks them, and gives the copy its name.
    pub fn finish(self) -> Result<Backup, Error> {
        let (ledger, queue) = (self.unfinished.join(LEDGER), self.unfinished.join(QUEUE));
        let last_payload_id = {
            let conn = Connection::open(&ledger).during("marking the copy", &ledger)?;
            // By this copy, it is made.
            let ended =
                "UPDATE chores SET ended_at = ?1, success_at = ?1, words = ?2, failure = NULL
                 WHERE chore = 'backup' AND ended_at IS NULL";
            conn.execute("UPDATE ledger SET copied_at = ?1 WHERE id = 1", [self.at.0])
                .and_then(|_| {
                    conn.execute(ended, params![self.at.0, self.folder.to_string_lossy()])
                })
                .and_then(|_| {
                    conn.query_row("SELECT max(last_payload_id) FROM webhooks", [], |row| {
                        row.get::<_, Option<String>>(0)
                    })
                })
                .during("marking the copy", &ledger)?
        };
        {
            // The ledger's copy knows of no later one.
            let conn = Connection::open(&queue).during("marking the copy", &queue)?;
            conn.execute(
                "UPDATE queue SET last_payload_id = ?1 WHERE id = 1",
                params![last_payload_id],
            )
            .during("marking the copy", &queue)?;
        }
        let mut bytes = 0;
        for path in [&ledger, &queue] {
            check(path)?;
            let file = File::open(path).during("syncing the copy", path)?;
            file.sync_all().during("syncing the copy", path)?;
            bytes += file.metadata().during("syncing the copy", path)?.len();
        }
        files::sync_folder(&ledger)?;
        fs::rename(&self.unfinished, &self.folder).during("naming the backup", &self.folder)?;
        files::sync_folder(&self.folder)?;
        Ok(Backup {
            folder: self.folder.clone(),
            bytes,
        })
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // Of a finished one nothing is there under this name.
        drop(fs::remove_dir_all(&self.unfinished));
    }
}

/// A copy of both files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backup {
    /// Where it is.
    pub folder: PathBuf,
    /// How large it is.
    pub bytes: u64,
}

/// Removes the oldest copies, so that `keep` are left, the newest among them; returns those that are
/// gone.
pub fn rotate(dir: &Path, keep: usize, newest: &Path) -> Result<Vec<PathBuf>, Error> {
    let doing = "removing old backups";
    let mut backups = Vec::new();
    for entry in fs::read_dir(dir).during(doing, dir)? {
        let path = entry.during(doing, dir)?.path();
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        if is_ours(name) && path.join(LEDGER).is_file() && path.join(QUEUE).is_file() {
            backups.push(path);
        }
    }
    // Their names sort by time. One that seems to be of a later time than the newest was made before a
    // clock was set back.
    backups.sort_by_key(|path| (path.file_name() <= newest.file_name(), path.clone()));
    backups.truncate(backups.len().saturating_sub(keep));
    for path in &backups {
        fs::remove_dir_all(path).during(doing, path)?;
    }
    Ok(backups)
}

/// Whether a folder has a name that a copy is given: other names are other people's.
fn is_ours(name: &str) -> bool {
    name.strip_prefix(PREFIX).is_some_and(|at| {
        let digits = at.replace(|c: char| c.is_ascii_digit(), "0");
        digits == "0000-00-00T00-00-00.000Z"
    })
}

/// An error unless all that SQLite can check quickly is in order.
pub(super) fn check(path: &Path) -> Result<(), Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let found = Connection::open_with_flags(path, flags)
        .and_then(|conn| conn.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0)))
        .during("checking the copy", path)?;
    if found == "ok" {
        return Ok(());
    }
    Err(Error::Foreign {
        path: path.to_owned(),
        what: format!(
            "the copy is damaged, and so may be what it was made of: {found}; run `orderfeed check --deep`"
        ),
    })
}

/// Makes of a ledger's copy one that can be used.
pub fn release(ledger: &Path) -> Result<(), Error> {
    Connection::open(ledger)
        .and_then(|conn| conn.execute("UPDATE ledger SET copied_at = NULL WHERE id = 1", []))
        .map(drop)
        .during("making the copy usable", ledger)
}

/// Gives a file or folder to whom the ledger belongs to: what root copies by hand, the daemon rotates.
pub fn give_to_owner_of(ledger: &Path, path: &Path) -> Result<(), Error> {
    let doing = "giving it to the ledger's owner";
    let owner = fs::metadata(ledger).during(doing, ledger)?;
    let found = fs::metadata(path).during(doing, path)?;
    if (found.uid(), found.gid()) != (owner.uid(), owner.gid()) {
        std::os::unix::fs::chown(path, Some(owner.uid()), Some(owner.gid())).during(doing, path)?;
    }
    Ok(())
}

fn new_file(path: &Path) -> Result<File, Error> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .during("making the copy", path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_copies_stay_also_when_a_clock_was_set_back() {
        let dir = tempfile::tempdir().expect("a folder");
        let folder = |name: &str| dir.path().join(name);
        let names = [
            "orderfeed-2026-09-01T01-00-00.000Z",
            "orderfeed-2026-09-02T01-00-00.000Z",
            "orderfeed-2026-09-03T01-00-00.000Z",
            "orderfeed-2027-09-01T01-00-00.000Z",
            "orderfeed-2027-09-01T01-00-00.000Z (mine)",
        ];
        for name in names {
            fs::create_dir(folder(name)).expect("a folder");
            for file in [LEDGER, QUEUE] {
                fs::write(folder(name).join(file), "").expect("a file");
            }
        }
        let gone = rotate(dir.path(), 2, &folder(names[2])).expect("they can be removed");
        assert_eq!(gone, [folder(names[3]), folder(names[0])]);
        assert!(
            folder(names[1]).exists() && folder(names[2]).exists() && folder(names[4]).exists()
        );
    }
}
