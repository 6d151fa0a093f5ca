//! Virtual time: what a perfect observer's clock shows, and what the machine's clocks make of it.

use orderfeed::clock::{Reading, WallTime};

/// All clocks of the simulated machine.
#[derive(Debug)]
pub(crate) struct Clocks {
    /// Milliseconds that really passed; nobody in the machine can read this.
    true_ms: i64,
    boot: u32,
    booted_at_ms: i64,
    /// How far the wall clock is wrong.
    wall_ahead_ms: i64,
}

impl Clocks {
    pub(crate) const fn new() -> Self {
        Self {
            true_ms: 1_800_000_000_000,
            boot: 1,
            booted_at_ms: 1_799_999_000_000,
            wall_ahead_ms: 0,
        }
    }

    pub(crate) const fn true_ms(&self) -> i64 {
        self.true_ms
    }

    /// `CLOCK_BOOTTIME`: goes on while the machine is suspended, and begins again with a boot.
    pub(crate) const fn boottime_ms(&self) -> i64 {
        self.true_ms - self.booted_at_ms
    }

    pub(crate) const fn wall(&self) -> WallTime {
        WallTime(self.true_ms + self.wall_ahead_ms)
    }

    pub(crate) fn reading(&self) -> Reading {
        Reading {
            boot_id: format!("boot-{}", self.boot),
            boottime_ms: self.boottime_ms(),
            wall: self.wall(),
        }
    }

    pub(crate) fn advance(&mut self, ms: i64) {
        assert!(ms >= 0, "time does not run backwards");
        self.true_ms += ms;
    }

    /// Somebody sets the wall clock.
    pub(crate) const fn set_wall(&mut self, by_ms: i64) {
        self.wall_ahead_ms += by_ms;
    }

    pub(crate) fn reboot(&mut self, down_ms: i64) {
        self.advance(down_ms);
        self.boot += 1;
        self.booted_at_ms = self.true_ms - 5_000;
    }
}
