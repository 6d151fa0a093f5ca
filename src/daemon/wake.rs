//! Noticing a commit to the queue at once.
//!
//! The kernel tells of a write to the queue's `-wal` some milliseconds *before* the commit is
//! visible, and of nothing after: woken by that alone, one sees every order only at the next
//! one. So each event is followed by a short burst of looks; and the poll, which knows nothing
//! of events, remains the safety net.

use std::io;
use std::path::Path;
use std::time::Duration;

use futures_util::StreamExt;
use inotify::{EventStream, Inotify, WatchMask};
use tokio::time::sleep;
use tracing::warn;

use super::shell::Shared;

/// When to look after an event: at once, and after each of these pauses. A commit becomes
/// visible some milliseconds after its bytes were written, or later on a slow disk.
const BURST: [Duration; 6] = [
    Duration::from_millis(1),
    Duration::from_millis(2),
    Duration::from_millis(4),
    Duration::from_millis(8),
    Duration::from_millis(16),
    Duration::from_millis(32),
];

/// Looks at the queue whenever its `-wal` is written to, for ever. Where the kernel can't tell
/// (any more), it says so and ends: orders are then noticed by the poll.
pub(super) async fn look_when_written(shared: Shared, wal: &Path) {
    let mut events = match watch(wal) {
        Ok(events) => events,
        Err(error) => {
            warn!(
                "{}: can't be watched ({error}); orders are noticed every queue.poll_interval",
                wal.display()
            );
            return;
        }
    };
    while let Some(Ok(_written)) = events.next().await {
        // What goes wrong here goes wrong for the poll as well, which tells of it.
        let mut pauses = BURST.into_iter();
        while shared.look_again().await.is_ok()
            && let Some(pause) = pauses.next()
        {
            tokio::select! {
                // Another commit has a burst of its own.
                Some(Ok(_written)) = events.next() => pauses = BURST.into_iter(),
                () = sleep(pause) => {}
            }
        }
    }
    warn!(
        "{}: can't be watched any more; orders are noticed every queue.poll_interval",
        wal.display()
    );
}

fn watch(wal: &Path) -> io::Result<EventStream<[u8; 1_024]>> {
    let inotify = Inotify::init()?;
    inotify.watches().add(wal, WatchMask::MODIFY)?;
    inotify.into_event_stream([0; 1_024])
}
