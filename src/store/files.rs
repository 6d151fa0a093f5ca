//! What the two files have in common: how they are made and opened, what marks them as ours,
//! and who may reach them.

use std::fmt;
use std::fs::{self, DirBuilder, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use super::{During, Error};

/// Below this a race in WAL mode can lose commits.
const SQLITE_VERSION_MIN: i32 = 3_051_003;

/// One of the two files: what marks it, and who may reach it.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    /// What it is called in messages.
    pub name: &'static str,
    /// SQLite's `application_id`.
    pub application_id: i32,
    /// SQLite's `user_version`: the version of the schema.
    pub schema_version: i32,
    /// The statements that make it.
    pub schema: &'static str,
    /// Its mode, which its `-wal` and `-shm` inherit.
    pub mode: u32,
    /// Whether one process has it at a time; it then needs no memory shared with others.
    pub exclusive: bool,
    /// The mode of a folder that is made for it.
    pub folder_mode: u32,
    /// The size of its pages, in bytes, when it is made.
    pub page_bytes: u32,
}

/// Makes the file and, if need be, its folder; `fill` writes the first rows. All or nothing:
/// it takes its name only when it is whole.
pub fn create(
    kind: Kind,
    path: &Path,
    fill: impl FnOnce(&Connection) -> rusqlite::Result<()>,
) -> Result<(), Error> {
    if path.exists() {
        return Err(Error::Exists(path.to_owned()));
    }
    for suffix in ["-wal", "-journal"] {
        let left = with_suffix(path, suffix);
        if left.exists() {
            return Err(foreign(
                &left,
                format!(
                    "is what a {} that is gone left behind, and would be mistaken for the new one's; put {} back beside it, or move it away",
                    kind.name,
                    path.display()
                ),
            ));
        }
    }
    let folder = folder_of(path);
    let missing: Vec<_> = folder
        .ancestors()
        .take_while(|above| !above.exists())
        .collect();
    if !missing.is_empty() {
        DirBuilder::new()
            .recursive(true)
            .mode(kind.folder_mode)
            .create(&folder)
            .map_err(|source| unmakeable(&folder, "making the folder", source))?;
        // The umask took its share.
        set_mode(&folder, kind.folder_mode)?;
        for made in missing {
            sync_folder(made)?;
        }
    }
    let unfinished = path.with_added_extension("new");
    remove_leftovers(&unfinished)?;
    // The mode comes first: what SQLite puts beside the file inherits it.
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(kind.mode)
        .open(&unfinished)
        .map_err(|source| unmakeable(&unfinished, "making the file", source))?;
    set_mode(&unfinished, kind.mode)?;
    {
        let mut conn = connect(kind, &unfinished)?;
        conn.pragma_update(None, "page_size", kind.page_bytes)
            .during("making the tables", &unfinished)?;
        let transaction = conn
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .during("making the tables", &unfinished)?;
        transaction
            .execute_batch(kind.schema)
            .and_then(|()| fill(&transaction))
            .and_then(|()| transaction.pragma_update(None, "application_id", kind.application_id))
            .and_then(|()| transaction.pragma_update(None, "user_version", kind.schema_version))
            .during("making the tables", &unfinished)?;
        transaction
            .commit()
            .during("making the tables", &unfinished)?;
        conn.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))
            .during("switching to WAL mode", &unfinished)?;
    }
    fs::rename(&unfinished, path).during("naming the file", path)?;
    sync_folder(path)
}

/// Why a file or folder can't be made.
fn unmakeable(path: &Path, doing: &'static str, source: std::io::Error) -> Error {
    if source.kind() == std::io::ErrorKind::PermissionDenied {
        let me = rustix::process::geteuid().as_raw();
        return not_permitted(
            path,
            &format!(
                "user {me} may not make it here; run this as the daemon's user, and give that user the folder"
            ),
        );
    }
    Error::Io {
        path: path.to_owned(),
        doing,
        source,
    }
}

/// What an interrupted [`create`] left behind.
fn remove_leftovers(unfinished: &Path) -> Result<(), Error> {
    for suffix in ["", "-wal", "-shm", "-journal"] {
        let leftover = with_suffix(unfinished, suffix);
        if leftover.exists() {
            fs::remove_file(&leftover).during("removing what was left unfinished", &leftover)?;
        }
    }
    Ok(())
}

/// Opens the file and makes sure that it is ours, of this version, and may be written.
pub fn open(kind: Kind, path: &Path) -> Result<Connection, Error> {
    refuse_old_sqlite(path)?;
    let metadata = look_at(path)?;
    if !metadata.is_file() {
        return Err(foreign(
            path,
            "is no file; check the path in the configuration".to_owned(),
        ));
    }
    if metadata.len() == 0 {
        return Err(foreign(
            path,
            format!(
                "is empty (made by user {}), and no {}: somebody opened it before `orderfeed init` made it; remove it and run `orderfeed init`",
                metadata.uid(),
                kind.name
            ),
        ));
    }
    refuse_network_file_system(path)?;
    refuse_read_only(path)?;
    if let Some(what) = unwritable(path, &metadata) {
        return Err(not_permitted(path, &what));
    }
    let no_sqlite = || {
        foreign(
            path,
            format!(
                "is no SQLite file, and so no {}; restore it, or move it away and run `orderfeed init`",
                kind.name
            ),
        )
    };
    let is_no_sqlite = |error: &Error| matches!(error, Error::Sqlite { source, .. } if source.sqlite_error_code() == Some(rusqlite::ErrorCode::NotADatabase));
    let conn = connect(kind, path).map_err(|error| {
        if is_no_sqlite(&error) {
            no_sqlite()
        } else {
            error
        }
    })?;
    let number = |pragma| {
        conn.pragma_query_value(None, pragma, |row| row.get::<_, i32>(0))
            .during("opening", path)
    };
    if number("application_id")? != kind.application_id {
        return Err(foreign(
            path,
            format!(
                "is a SQLite file of something else, and no {} of orderfeed; check the path in the configuration",
                kind.name
            ),
        ));
    }
    let version = number("user_version")?;
    if version != kind.schema_version {
        return Err(foreign(
            path,
            format!(
                "is a {} of schema version {version}, and this orderfeed knows only version {}; use the orderfeed that made it",
                kind.name, kind.schema_version
            ),
        ));
    }
    // Somebody may have switched it for a tool of theirs; nothing here works without.
    let journal_mode = conn
        .pragma_update_and_check(None, "journal_mode", "wal", |row| row.get::<_, String>(0))
        .during("switching to WAL mode", path)?;
    if journal_mode != "wal" {
        return Err(foreign(
            path,
            format!(
                "is in journal mode {journal_mode}, and can't be switched to WAL; close what else has it open"
            ),
        ));
    }
    Ok(conn)
}

/// What the file system says of the file; an error if it is not there, or not to be seen.
pub fn look_at(path: &Path) -> Result<fs::Metadata, Error> {
    fs::metadata(path).map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => Error::Missing(path.to_owned()),
        std::io::ErrorKind::PermissionDenied => {
            not_permitted(path, "this user may not look into its folder")
        }
        _ => Error::Io {
            path: path.to_owned(),
            doing: "looking at it",
            source,
        },
    })
}

fn connect(kind: Kind, path: &Path) -> Result<Connection, Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags).during("opening", path)?;
    if kind.exclusive {
        // Before anything is read: no other process gets in.
        conn.pragma_update_and_check(None, "locking_mode", "exclusive", |_| Ok(()))
            .during("opening", path)?;
    }
    // What is committed is on disk; other connections keep to their own word.
    conn.pragma_update(None, "synchronous", "full")
        .during("opening", path)?;
    conn.set_prepared_statement_cache_capacity(64);
    // Else SQLite plans a statement anew for each value that its range is bound to.
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)
        .during("opening", path)?;
    Ok(conn)
}

fn refuse_old_sqlite(path: &Path) -> Result<(), Error> {
    if rusqlite::version_number() >= SQLITE_VERSION_MIN {
        return Ok(());
    }
    Err(foreign(
        path,
        format!(
            "would be opened by SQLite {}, which can lose commits; 3.51.3 or later is needed",
            rusqlite::version()
        ),
    ))
}

/// WAL mode needs memory shared by all who have the file open.
fn refuse_network_file_system(path: &Path) -> Result<(), Error> {
    let Ok(statfs) = rustix::fs::statfs(path) else {
        return Ok(());
    };
    let name = match statfs.f_type {
        0x6969 => "NFS",
        0x517b => "SMB",
        0xff53_4d42 | 0xfe53_4d42 => "CIFS",
        0x0102_1997 => "9P",
        _ => return Ok(()),
    };
    Err(foreign(
        path,
        format!("lies on a network file system ({name}); use a local disk"),
    ))
}

/// A file system that is read-only for now is nobody's lack of a right.
fn refuse_read_only(path: &Path) -> Result<(), Error> {
    use rustix::fs::{Access, access};
    match access(path, Access::WRITE_OK) {
        Err(read_only @ rustix::io::Errno::ROFS) => {
            Err(std::io::Error::from(read_only)).during("opening", path)
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Why SQLite failed, where it only says that it did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hint {
    /// It said all that is known.
    Nothing,
    /// No room is left on the disk.
    Full,
    /// The file system is read-only.
    ReadOnly,
    /// This process has as many files open as it may.
    NoDescriptors,
    /// The disk refused.
    Failing,
}

impl Hint {
    /// What the system says at this moment.
    pub fn about(path: &Path, error: &rusqlite::Error) -> Self {
        use rusqlite::ErrorCode::{CannotOpen, DiskFull, ReadOnly, SystemIoFailure};
        use rustix::io::Errno;
        let Some(code @ (CannotOpen | DiskFull | ReadOnly | SystemIoFailure)) =
            error.sqlite_error_code()
        else {
            return Self::Nothing;
        };
        if code == DiskFull {
            return Self::Full;
        }
        // Not the file itself: closing it would drop SQLite's locks.
        let opened = fs::File::open("/dev/null");
        if let Some(Errno::MFILE | Errno::NFILE) =
            opened.err().as_ref().and_then(Errno::from_io_error)
        {
            return Self::NoDescriptors;
        }
        match rustix::fs::statvfs(folder_of(path)) {
            Ok(disk) if disk.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY) => {
                Self::ReadOnly
            }
            Ok(disk) if disk.f_bavail == 0 => Self::Full,
            Ok(_) | Err(_) if code == SystemIoFailure => Self::Failing,
            Ok(_) | Err(_) => Self::Nothing,
        }
    }
}

/// What it is, and what to do; to stand behind what SQLite says.
impl fmt::Display for Hint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nothing => "",
            Self::Full => "; no room is left on its disk (or in a quota): make room there",
            Self::ReadOnly => {
                "; its file system is mounted read-only: `dmesg` may say why; mount it read-write again"
            }
            Self::NoDescriptors => {
                "; no file descriptors are left: raise LimitNOFILE= of the service, or `ulimit -n`"
            }
            Self::Failing => {
                "; the disk may be failing: the kernel's log (`dmesg`) says more"
            }
        })
    }
}

/// Why this process can't write the file, if it can't.
fn unwritable(path: &Path, metadata: &fs::Metadata) -> Option<String> {
    use rustix::fs::{Access, access};
    let me = rustix::process::geteuid().as_raw();
    let owner = if metadata.uid() == 0 {
        "root".to_owned()
    } else {
        format!("user {}", metadata.uid())
    };
    if access(path, Access::WRITE_OK | Access::READ_OK).is_err() {
        return Some(format!(
            "belongs to {owner}, mode {:04o}, and user {me} may not write it; was `orderfeed init` run by another user? chown it to the daemon's user, with its -wal and -shm",
            metadata.mode() & 0o7777
        ));
    }
    let folder = folder_of(path);
    if access(&folder, Access::WRITE_OK | Access::EXEC_OK).is_err() {
        return Some(format!(
            "user {me} may not write its folder {}, where SQLite keeps the -wal and -shm beside it; give the folder to the daemon's user or group",
            folder.display()
        ));
    }
    None
}

fn foreign(path: &Path, what: String) -> Error {
    Error::Foreign {
        path: path.to_owned(),
        what,
    }
}

fn not_permitted(path: &Path, what: &str) -> Error {
    Error::NotPermitted {
        path: path.to_owned(),
        what: what.to_owned(),
    }
}

fn set_mode(path: &Path, mode: u32) -> Result<(), Error> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).during("setting its mode", path)
}

/// Device and inode: which file a name stands for.
pub type Identity = (u64, u64);

/// Which file this name stands for.
pub fn identity(path: &Path) -> Result<Identity, Error> {
    let metadata = fs::metadata(path).during("looking at it", path)?;
    Ok((metadata.dev(), metadata.ino()))
}

/// An error if the name no longer stands for the file that was opened by it. Then the WAL is
/// emptied into the file that it belongs to: SQLite would take it for the other one's.
pub fn refuse_replaced(conn: &Connection, path: &Path, opened: Identity) -> Result<(), Error> {
    match identity(path) {
        Ok(found) if found == opened => return Ok(()),
        Ok(_) => {}
        Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {}
        // That says nothing of the file.
        Err(error) => return Err(error),
    }
    // Where somebody is in the way it stays; there is nothing more to be done about it from here.
    drop(conn.busy_timeout(std::time::Duration::from_secs(1)));
    drop(conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())));
    Err(foreign(
        path,
        "was replaced or removed while the daemon had it open; put the old file back, or start again and follow what is said then".to_owned(),
    ))
}

/// The folder that a file lies in.
pub fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// The file's path with something appended to its name, as SQLite does (`queue.db-wal`).
pub fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Makes a new file's name durable.
pub fn sync_folder(path: &Path) -> Result<(), Error> {
    let folder = folder_of(path);
    fs::File::open(&folder)
        .and_then(|folder| folder.sync_all())
        .during("syncing the folder", &folder)
}

/// What keeps producers of the folder's group from writing the queue, each with what to do; for
/// an administrator's eyes, as producers may well be the daemon's own user.
pub fn obstacles_for_producers(path: &Path) -> Vec<String> {
    let mut obstacles = Vec::new();
    let mode_of = |path: &Path| fs::metadata(path).map(|metadata| metadata.mode() & 0o7777);
    if let Ok(mode) = mode_of(path)
        && mode & 0o060 != 0o060
    {
        obstacles.push(format!(
            "{} has mode {mode:04o}: producers of its group can't write it; chmod 0660 it, with its -wal and -shm",
            path.display()
        ));
    }
    let folder = fs::canonicalize(folder_of(path)).unwrap_or_else(|_| folder_of(path));
    if let Ok(mode) = mode_of(&folder)
        && (mode & 0o030 != 0o030 || mode & 0o2000 == 0)
    {
        obstacles.push(format!(
            "{} has mode {mode:04o}: producers of its group can't write beside the queue, or leave files that others can't; chmod 2770 it",
            folder.display()
        ));
    }
    for above in folder.ancestors().skip(1) {
        if let Ok(mode) = mode_of(above)
            && mode & 0o011 == 0
        {
            obstacles.push(format!(
                "{} has mode {mode:04o}: producers can't pass through it to the queue; chmod it o+x, or lay the queue elsewhere",
                above.display()
            ));
        }
    }
    obstacles
}
