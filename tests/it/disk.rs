//! A disk of its own for a site: small, so that it can be filled, and one whose plug can be pulled.
//!
//! Needs root, a loop device, ext4 and, for the plug, Python; where one is missing [`Disk::mounted_at`] says which.

use std::fs;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// A file system in a file; unmounted when dropped.
pub(crate) struct Disk {
    image: PathBuf,
    mounted_at: PathBuf,
    _temporary: TempDir,
}

impl Disk {
    /// A new disk of so many MiB, mounted where there is no folder yet.
    pub(crate) fn mounted_at(path: &Path, mebibytes: u64) -> Result<Self, String> {
        let temporary = tempfile::tempdir().unwrap();
        let disk = Self {
            image: temporary.path().join("disk.img"),
            mounted_at: path.to_owned(),
            _temporary: temporary,
        };
        fs::create_dir(path).unwrap();
        let image = fs::File::create(&disk.image).unwrap();
        image.set_len(mebibytes << 20).unwrap();
        // Nothing is kept back for root, whom these tests run as.
        sh(
            "mkfs.ext4 -q -F -m 0 -e remount-ro -b 4096 \"$0\"",
            &[&disk.image],
        )?;
        disk.mount()?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o2770)).unwrap();
        Ok(disk)
    }

    pub(crate) fn mount(&self) -> Result<(), String> {
        sh(
            "mount -o loop \"$0\" \"$1\"",
            &[&self.image, &self.mounted_at],
        )
    }

    pub(crate) fn unmount(&self) -> Result<(), String> {
        sh("umount \"$0\"", &[&self.mounted_at])
    }

    /// `ro` or `rw`; no file on it may be open for writing.
    pub(crate) fn remount(&self, how: &str) -> Result<(), String> {
        sh(
            &format!("mount -o remount,{how} \"$0\""),
            &[&self.mounted_at],
        )
    }

    /// The kernel finds an error in the file system, and writes nothing to it any more.
    pub(crate) fn damage(&self) -> Result<(), String> {
        sh(
            "echo 1 >/sys/fs/ext4/$(basename $(findmnt -n -o SOURCE \"$0\"))/trigger_fs_error",
            &[&self.mounted_at],
        )
    }

    /// Mends what was damaged; nobody has anything open on it.
    pub(crate) fn mend(&self) -> Result<(), String> {
        self.unmount()?;
        // 1: errors were corrected.
        sh("e2fsck -fy \"$0\" || test $? = 1", &[&self.image])?;
        self.mount()
    }

    /// Leaves no room on it.
    pub(crate) fn fill(&self) {
        let mut filler = fs::File::options()
            .append(true)
            .create(true)
            .open(self.filler())
            .unwrap();
        let mut bytes_written = 1;
        while bytes_written > 0 {
            bytes_written = 0;
            for chunk in [vec![0; 1 << 16], vec![0; 1 << 10]] {
                let full = loop {
                    match filler.write(&chunk) {
                        Ok(written) => bytes_written += written,
                        Err(error) => break error,
                    }
                };
                assert_eq!(full.kind(), ErrorKind::StorageFull);
            }
            // Blocks of files that were removed may only be free now.
            filler.sync_all().unwrap();
        }
    }

    /// Gives the room back that [`Disk::fill`] took.
    pub(crate) fn make_room(&self) {
        fs::remove_file(self.filler()).unwrap();
    }

    fn filler(&self) -> PathBuf {
        self.mounted_at.join("filler")
    }

    /// From now on nothing reaches the disk any more, and what was not synced is gone.
    pub(crate) fn pull_the_plug(&self) -> Result<(), String> {
        // EXT4_IOC_SHUTDOWN, without flushing the journal.
        let ioctl = "import fcntl, os, struct, sys; fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x8004587d, struct.pack('I', 2))";
        sh(
            &format!("python3 -c \"{ioctl}\" \"$0\""),
            &[&self.mounted_at],
        )
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        drop(sh("umount -l \"$0\"", &[&self.mounted_at]));
    }
}

fn sh(script: &str, args: &[&Path]) -> Result<(), String> {
    let output = Command::new("sh")
        .arg("-c")
        .arg(script)
        .args(args)
        .output()
        .unwrap();
    if output.status.success() {
        return Ok(());
    }
    Err(format!(
        "{script}: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    ))
}
