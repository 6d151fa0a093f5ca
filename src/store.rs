//! The two SQLite files. All SQL is in here, one named function a question.
//!
//! [`queue`] is written by other people's programs, and only read (and marked) by the daemon;
//! [`ledger`] is the daemon's alone. They have no common transaction: the queue is synced before
//! the ledger builds on what was seen in it. Everything here blocks; [`worker`] says who waits.

pub mod backup;
pub mod deep;
pub mod files;
pub mod ledger;
pub mod queue;
pub mod restore;
pub mod worker;

use std::path::{Path, PathBuf};

/// What can go wrong with the two files.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such file.
    #[error("{} does not exist; `orderfeed init` makes the queue and the ledger", .0.display())]
    Missing(PathBuf),
    /// It is there, and is not to be overwritten.
    #[error("{} exists already and is left as it is", .0.display())]
    Exists(PathBuf),
    /// It is not what its place says, or of another version.
    #[error("{}: {what}", .path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What it is instead, and what to do.
        what: String,
    },
    /// Owner, mode or folder are in the way.
    #[error("{}: {what}", .path.display())]
    NotPermitted {
        /// The file or folder.
        path: PathBuf,
        /// What is in the way, and what to do.
        what: String,
    },
    /// Another daemon has it.
    #[error("{} is held by {holder}; only one process may use a ledger at a time", .path.display())]
    Held {
        /// The ledger.
        path: PathBuf,
        /// The process that has it.
        holder: String,
    },
    /// Queue and ledger do not belong together (any more).
    #[error("{0}")]
    Disagree(String),
    /// SQLite refused.
    #[error("{}: {doing}: {source}{hint}", .path.display())]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// What was being done.
        doing: &'static str,
        /// What SQLite says.
        source: rusqlite::Error,
        /// What the system says, which SQLite leaves out.
        hint: files::Hint,
    },
    /// The file system refused.
    #[error("{}: {doing}: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was being done.
        doing: &'static str,
        /// What the system says.
        source: std::io::Error,
    },
    /// The thread that has the file is gone: it ended before this was done.
    #[error("the store has stopped")]
    Stopped,
}

impl Error {
    /// The file that is in trouble.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Missing(path)
            | Self::Exists(path)
            | Self::Foreign { path, .. }
            | Self::NotPermitted { path, .. }
            | Self::Held { path, .. }
            | Self::Sqlite { path, .. }
            | Self::Io { path, .. } => Some(path),
            Self::Disagree(_) | Self::Stopped => None,
        }
    }

    /// What the file's own rules said, if it is they that refused.
    pub fn refusal(&self) -> Option<&str> {
        match self {
            Self::Sqlite {
                source: rusqlite::Error::SqliteFailure(error, Some(message)),
                ..
            } if error.code == rusqlite::ErrorCode::ConstraintViolation => Some(message),
            _ => None,
        }
    }

    /// Whether there is no room left on a disk.
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Sqlite { source, .. } if source.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull))
    }

    /// Whether trying again can't help: the file is damaged, foreign, replaced, or held.
    pub fn is_lasting(&self) -> bool {
        match self {
            Self::Missing(_)
            | Self::Exists(_)
            | Self::Foreign { .. }
            | Self::NotPermitted { .. }
            | Self::Held { .. }
            | Self::Disagree(_)
            | Self::Stopped => true,
            Self::Sqlite { source, .. } => matches!(
                source.sqlite_error_code(),
                Some(rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase)
            ),
            Self::Io { .. } => false,
        }
    }
}

/// Says where and in doing what SQLite or the system refused.
trait During<T> {
    fn during(self, doing: &'static str, path: &Path) -> Result<T, Error>;
}

impl<T> During<T> for rusqlite::Result<T> {
    fn during(self, doing: &'static str, path: &Path) -> Result<T, Error> {
        self.map_err(|source| Error::Sqlite {
            path: path.to_owned(),
            doing,
            hint: files::Hint::about(path, &source),
            source,
        })
    }
}

impl<T> During<T> for std::io::Result<T> {
    fn during(self, doing: &'static str, path: &Path) -> Result<T, Error> {
        self.map_err(|source| Error::Io {
            path: path.to_owned(),
            doing,
            source,
        })
    }
}
