//! A point in time that cannot read a clock.

use std::ops::{Add, Sub};
use std::time::Duration;

/// Milliseconds on the ledger's clock.
///
/// That clock is steady: it goes on through restarts, reboots and suspends, and a wall clock
/// that is set forwards or backwards does not move it (see `clock` for how it is made). It
/// starts out near Unix time, but only differences mean anything; what people read is wall time,
/// and stands beside it in the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The point `ms` milliseconds on the ledger's clock.
    pub const fn from_ms(ms: i64) -> Self {
        Self(ms)
    }

    /// Milliseconds on the ledger's clock.
    pub const fn ms(self) -> i64 {
        self.0
    }
}

/// Milliseconds of a duration; what would overflow (292 million years) saturates.
fn whole_ms(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

impl Add<Duration> for Timestamp {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(whole_ms(duration)))
    }
}

/// How long ago: zero where the other point lies later.
impl Sub for Timestamp {
    type Output = Duration;

    fn sub(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}
