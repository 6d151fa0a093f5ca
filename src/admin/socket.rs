//! The socket's file: made safely, and removed only if it is still ours.
//!
//! It takes its name when it listens already and has its mode. A file of that name is replaced only
//! if it is a socket, and nobody answers there.

use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// A listening socket; its file goes when it is dropped.
#[derive(Debug)]
pub(super) struct Socket {
    pub(super) listener: UnixListener,
    path: PathBuf,
    file: Identity,
}

/// Device, inode and when it was made, in nanoseconds: an inode's number is given again.
type Identity = (u64, u64, i64, i64);

fn identity(about: &fs::Metadata) -> Identity {
    (about.dev(), about.ino(), about.mtime(), about.mtime_nsec())
}

impl Socket {
    /// Makes it; what is in the way is told in words.
    pub(super) fn bind(path: &Path) -> Result<Self, String> {
        let shown = path.display();
        match fs::symlink_metadata(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(format!("{shown}: {error}")),
            Ok(about) if !about.file_type().is_socket() => {
                return Err(format!(
                    "{shown} is there, and is no socket; it is left as it is: move it away, or set admin.socket"
                ));
            }
            Ok(_) => match UnixStream::connect(path) {
                // Nobody listens: left behind by a process that was killed.
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
                Err(error) => {
                    return Err(format!(
                        "{shown} is there, and it can't be told whether somebody answers: {error}; set admin.socket"
                    ));
                }
                Ok(_) => {
                    return Err(format!(
                        "somebody else answers at {shown}, perhaps another orderfeed; set admin.socket to another path for one of them"
                    ));
                }
            },
        }
        Self::make(path).map_err(|error| match error.kind() {
            ErrorKind::NotFound => format!(
                "{shown} can't be made: its folder does not exist; make it, or set admin.socket"
            ),
            _ => format!(
                "{shown} can't be made: {error}; let the daemon's user write its folder, or set admin.socket"
            ),
        })
    }

    fn make(path: &Path) -> io::Result<Self> {
        // Nobody can connect before it has its mode, and it is never there without listening.
        let beside = crate::store::files::with_suffix(path, &format!(".{}", std::process::id()));
        drop(fs::remove_file(&beside));
        let listener = UnixListener::bind(&beside)?;
        let named = fs::set_permissions(&beside, Permissions::from_mode(0o660))
            .and_then(|()| listener.set_nonblocking(true))
            .and_then(|()| fs::symlink_metadata(&beside))
            .and_then(|about| fs::rename(&beside, path).map(|()| identity(&about)));
        match named {
            Ok(file) => Ok(Self {
                listener,
                path: path.to_owned(),
                file,
            }),
            Err(error) => {
                drop(fs::remove_file(&beside));
                Err(error)
            }
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let is_ours =
            fs::symlink_metadata(&self.path).is_ok_and(|about| identity(&about) == self.file);
        if is_ours {
            drop(fs::remove_file(&self.path));
        }
    }
}
