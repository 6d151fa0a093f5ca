//! The only reader of clocks and of randomness.
//!
//! Two times are told apart. Decisions run on the ledger's clock ([`Timestamp`]): the boot's
//! clock, which counts suspends and is moved by nobody, carried over reboots by the ledger.
//! People read [`WallTime`], which may jump; nothing is decided by it.

use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;
use std::time::{SystemTime, UNIX_EPOCH};

use chrono::{DateTime, Local, SecondsFormat, Utc};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::feed::timestamp::Timestamp;

/// The ledger's clock, as this process reads it.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    /// What is added to the boot's clock.
    offset_ms: i64,
}

impl Clock {
    /// The clock that shows `now` at the moment of the reading.
    pub const fn showing(now: Timestamp, reading: &Reading) -> Self {
        Self {
            offset_ms: now.ms() - reading.boottime_ms,
        }
    }

    /// What it shows at the moment of the reading.
    pub const fn at(self, reading: &Reading) -> Timestamp {
        Timestamp::from_ms(reading.boottime_ms + self.offset_ms)
    }

    /// Now, on the ledger's clock.
    pub fn now(self) -> Timestamp {
        Timestamp::from_ms(boottime_ms() + self.offset_ms)
    }
}

/// One look at all clocks, from which the ledger's clock goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// Which boot; empty where the kernel does not tell, which then counts as another boot.
    pub boot_id: String,
    /// Milliseconds since that boot, suspends included.
    pub boottime_ms: i64,
    /// The wall clock.
    pub wall: WallTime,
}

impl Reading {
    /// The clocks of this moment.
    pub fn take() -> Self {
        // No process outlives its boot.
        static BOOT_ID: LazyLock<String> = LazyLock::new(|| {
            let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
            boot_id.unwrap_or_default().trim().to_owned()
        });
        Self {
            boot_id: BOOT_ID.clone(),
            boottime_ms: boottime_ms(),
            wall: WallTime::now(),
        }
    }
}

impl Reading {
    /// How far the wall clock is ahead of the boot's; it changes when the wall clock is set.
    pub const fn ahead_ms(&self) -> i64 {
        self.wall.0.saturating_sub(self.boottime_ms)
    }
}

fn boottime_ms() -> i64 {
    let boottime = clock_gettime(ClockId::Boottime);
    boottime.tv_sec * 1_000 + boottime.tv_nsec / 1_000_000
}

/// Wall time, UTC, in milliseconds: for people, in records and logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct WallTime(pub i64);

impl WallTime {
    /// The wall clock of this moment.
    pub fn now() -> Self {
        let since_1970 = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Self(i64::try_from(since_1970.as_millis()).unwrap_or(i64::MAX))
    }

    /// Seconds since 1970.
    pub const fn unix_seconds(self) -> i64 {
        self.0.div_euclid(1_000)
    }

    /// Hours, minutes and seconds in the local time zone; with the date, if it is not that of
    /// `today`.
    pub fn local(self, today: Self) -> String {
        let local = |time: Self| {
            DateTime::<Utc>::from_timestamp_millis(time.0)
                .unwrap_or_default()
                .with_timezone(&Local)
        };
        let (time, today) = (local(self), local(today));
        let format = if time.date_naive() == today.date_naive() {
            "%H:%M:%S"
        } else {
            "%Y-%m-%d %H:%M:%S"
        };
        time.format(format).to_string()
    }
}

/// RFC 3339, UTC, with milliseconds.
impl fmt::Display for WallTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = DateTime::<Utc>::from_timestamp_millis(self.0).unwrap_or_default();
        f.pad(&time.to_rfc3339_opts(SecondsFormat::Millis, true))
    }
}

/// As RFC 3339.
impl FromStr for WallTime {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        DateTime::parse_from_rfc3339(text)
            .map(|time| Self(time.timestamp_millis()))
            .map_err(|_not_so| "must be a time as in 2026-01-31T23:59:59Z".to_owned())
    }
}

impl Serialize for WallTime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for WallTime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

/// Random bytes, for ids that nobody else gives.
pub fn dice<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the kernel gives random bytes");
    bytes
}
