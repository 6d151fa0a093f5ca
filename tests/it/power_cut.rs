//! What is left when the power goes: a file system of its own is shut down under the running
//! daemon, so that whatever was not synced is gone, and mounted again.
//!
//! Needs root, a loop device, ext4 and Python; where one is missing it says that it is skipped.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::producers::skip;
use crate::support::{OK, Receiver, Site};

/// A disk whose plug can be pulled.
struct Disk {
    image: PathBuf,
    mounted_at: PathBuf,
}

impl Disk {
    fn new(folder: &Path) -> Result<Self, String> {
        let disk = Self {
            image: folder.join("disk.img"),
            mounted_at: folder.join("disk"),
        };
        fs::create_dir(&disk.mounted_at).unwrap();
        fs::File::create(&disk.image)
            .unwrap()
            .set_len(64 << 20)
            .unwrap();
        sh("mkfs.ext4 -q -F \"$0\"", &[&disk.image])?;
        disk.mount()?;
        Ok(disk)
    }

    fn mount(&self) -> Result<(), String> {
        sh(
            "mount -o loop \"$0\" \"$1\"",
            &[&self.image, &self.mounted_at],
        )
    }

    /// From now on nothing reaches the disk any more, and what was not synced is gone.
    fn pull_the_plug(&self) -> Result<(), String> {
        // EXT4_IOC_SHUTDOWN, without flushing the journal.
        let ioctl = "import fcntl, os, struct, sys; fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x8004587d, struct.pack('I', 2))";
        sh(
            &format!("python3 -c \"{ioctl}\" \"$0\""),
            &[&self.mounted_at],
        )
    }

    fn unmount(&self) -> Result<(), String> {
        sh("umount \"$0\"", &[&self.mounted_at])
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

/// The producer commits with `synchronous=NORMAL`, which does not wait for the disk: after a cut
/// the queue may be shorter than what the producer, and the daemon, had seen. What the ledger
/// was built on must be there all the same; else seqs that are given again to other orders
/// would be skipped.
#[test]
fn a_power_cut_loses_nothing_that_was_built_on() {
    let folder = tempfile::tempdir().unwrap();
    let disk = match Disk::new(folder.path()) {
        Ok(disk) => disk,
        Err(why) => return skip(&format!("no disk to pull the plug of: {why}")),
    };
    let receiver = Receiver::new(|_, _| OK);
    let site = Site::within(
        &disk.mounted_at,
        &receiver.webhook("erp", "payload_max_items = 2\nretry_gap = \"50ms\""),
    );
    let mut next = 1;
    let mut lost = 0;
    for cut in 1..=4_usize {
        let daemon = site.start();
        let before = receiver.arrived().len();
        // It goes on committing until the disk is gone.
        let producer = site.producer();
        producer
            .pragma_update(None, "synchronous", "normal")
            .unwrap();
        producer
            .pragma_update(None, "wal_autocheckpoint", 0)
            .unwrap();
        let producing = std::thread::spawn(move || {
            let mut number = next;
            let sql = "INSERT INTO orders (order_type, body) VALUES ('purchase_order', ?1)";
            while producer
                .execute(sql, [format!("{{\"TrackingNumber\":{number}}}")])
                .is_ok()
            {
                number += 1;
            }
            number
        });
        receiver.wait_for(before + cut);
        // A machine without power sends nothing: what it does not do any more comes first.
        daemon.freeze();
        disk.pull_the_plug().unwrap();
        next = producing.join().unwrap();
        daemon.kill();
        disk.unmount().unwrap();
        disk.mount().unwrap();
        lost += next - 1 - u64::try_from(delivered_or_queued(&site, &receiver)).unwrap();
    }
    // Other orders take the places of those that were lost; all that is there arrives.
    site.enqueue("purchase_order", next..next + 5);
    let daemon = site.start();
    let queued = queued(&site);
    receiver.wait_until(|arrived| {
        let arrived: BTreeSet<_> = arrived
            .iter()
            .flat_map(|request| request.orders().1)
            .collect();
        arrived.is_superset(&queued)
    });
    let (status, log) = daemon.stop();
    assert!(status.success(), "{log:?}");
    for (number, ids) in receiver.payload_ids_by_order() {
        let distinct: BTreeSet<_> = ids.iter().collect();
        let seqs = seqs_of(&site, number);
        assert_eq!(
            distinct.len(),
            1,
            "order {number} (seqs {seqs:?}) left in several payloads"
        );
    }
    println!(
        "{lost} orders of a producer that did not wait for the disk were lost by 4 power cuts, none that was sent"
    );
}

/// Where the queue holds orders of this tracking number.
fn seqs_of(site: &Site, number: u64) -> Vec<i64> {
    let conn = site.producer();
    let mut statement = conn
        .prepare("SELECT seq FROM tracking_numbers WHERE tracking_number = ?1")
        .unwrap();
    let seqs = statement
        .query_map([number.to_string()], |row| row.get(0))
        .unwrap();
    seqs.map(Result::unwrap).collect()
}

/// The tracking numbers that are in the queue.
fn queued(site: &Site) -> BTreeSet<u64> {
    let conn = site.producer();
    let mut statement = conn
        .prepare("SELECT tracking_number FROM tracking_numbers")
        .unwrap();
    let numbers = statement
        .query_map([], |row| row.get::<_, String>(0))
        .unwrap();
    numbers
        .map(|number| number.unwrap().parse().unwrap())
        .collect()
}

fn delivered_or_queued(site: &Site, receiver: &Receiver) -> usize {
    let mut all = queued(site);
    for number in receiver.payload_ids_by_order().into_keys() {
        // What was sent was synced before, and so is still there.
        assert!(
            all.contains(&number),
            "order {number} was sent, and is not in the queue any more"
        );
        all.insert(number);
    }
    all.len()
}
