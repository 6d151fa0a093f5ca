//! Named points at which a debug build can be told to die, for proving that it may die there.
//!
//! `FAILPOINT=sealed:3` kills the process, as SIGKILL does, when it comes to `sealed` for the
//! third time. Release builds know nothing of it.

/// Dies here, if `FAILPOINT` says so.
#[cfg(debug_assertions)]
pub(crate) fn reach(point: &str) {
    use std::sync::atomic::{AtomicU32, Ordering};
    static REACHED: AtomicU32 = AtomicU32::new(0);
    let Ok(setting) = std::env::var("FAILPOINT") else {
        return;
    };
    let (wanted, times) = setting.split_once(':').unwrap_or((&setting, "1"));
    if wanted == point && (REACHED.fetch_add(1, Ordering::Relaxed) + 1).to_string() == times {
        let killed =
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        unreachable!("a process may kill itself, and is gone then: {killed:?}");
    }
}

/// Does nothing in a release build.
#[cfg(not(debug_assertions))]
pub(crate) const fn reach(_point: &str) {}
