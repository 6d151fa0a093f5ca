//! What is left when the power goes: a file system of its own is shut down under the running
//! daemon, so that whatever was not synced is gone, and mounted again.
//!
//! Needs root, a loop device, ext4 and Python; where one is missing it says that it is skipped.

use std::collections::BTreeSet;

use crate::disk::Disk;
use crate::producers::skip;
use crate::support::{OK, Receiver, Site};

/// With all of their WALs they fit on the disk, and are delivered within the tests' patience.
const ORDERS_A_CUT_MAX: u64 = 1_000;

/// The producer commits with `synchronous=NORMAL`, which does not wait for the disk: after a cut
/// the queue may be shorter than what the producer, and the daemon, had seen. What the ledger
/// was built on must be there all the same; else seqs that are given again to other orders
/// would be skipped.
#[test]
fn a_power_cut_loses_nothing_that_was_built_on() {
    let folder = tempfile::tempdir().unwrap();
    let mounted_at = folder.path().join("disk");
    let disk = match Disk::mounted_at(&mounted_at, 256) {
        Ok(disk) => disk,
        Err(why) => return skip(&format!("no disk to pull the plug of: {why}")),
    };
    let receiver = Receiver::new(|_, _| OK);
    let site = Site::within(
        &mounted_at,
        &receiver.webhook("erp", "payload_max_items = 2\nretry_gap = \"50ms\""),
    );
    let mut next = 1;
    let mut lost = 0;
    for cut in 1..=4_usize {
        let daemon = site.start();
        let before = receiver.arrived().len();
        // It goes on committing until the disk is gone, or until that is plenty: the daemon may be slow.
        let producer = site.producer();
        producer
            .pragma_update(None, "synchronous", "normal")
            .unwrap();
        producer
            .pragma_update(None, "wal_autocheckpoint", 0)
            .unwrap();
        let producing = std::thread::spawn(move || {
            let mut number = next;
            let enough = next + ORDERS_A_CUT_MAX;
            let sql = "INSERT INTO orders (order_type, body) VALUES ('purchase_order', ?1)";
            while number < enough
                && producer
                    .execute(sql, [format!("{{\"TrackingNumber\":{number}}}")])
                    .is_ok()
            {
                number += 1;
            }
            number
        });
        receiver.wait_for(before + cut);
        // A machine without power sends nothing: what it does not do any more comes first. And a
        // sync that is under way while ext4 is shut down may return success, and what it synced be
        // gone: so does an fsync after each write of any program, in one cut of twenty. Who went
        // on after it, as no machine without power does, would send what no ledger knows.
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
