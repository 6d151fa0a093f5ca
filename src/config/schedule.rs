//! When a chore is due: a cron expression, in local time.

use std::fmt;

use chrono::{DateTime, Local, Utc};
use croner::Cron;
use croner::parser::{CronParser, Seconds};

use super::sources::Given;
use super::values::Read;
use crate::clock::WallTime;

const ALLOWED: &str = "a cron expression in local time, such as \"30 3 * * *\" (minute, hour, day, month, day of the week; a sixth field before them means seconds), or \"off\"";

/// When a chore is due.
#[derive(Clone, PartialEq)]
pub struct Schedule {
    text: String,
    cron: Cron,
}

impl Schedule {
    /// Reads a cron expression; an error in words.
    pub fn parse(text: &str, now: WallTime) -> Result<Self, String> {
        let cron = CronParser::builder()
            .seconds(Seconds::Optional)
            .build()
            .parse(text)
            .map_err(|error| error.to_string())?;
        let schedule = Self {
            text: text.to_owned(),
            cron,
        };
        match schedule.next_after(now) {
            Some(_) => Ok(schedule),
            None => Err("it never comes".to_owned()),
        }
    }

    /// When it is due next after a moment; `None`: never.
    pub fn next_after(&self, moment: WallTime) -> Option<WallTime> {
        let local = DateTime::<Utc>::from_timestamp_millis(moment.0)?.with_timezone(&Local);
        let next = self.cron.find_next_occurrence(&local, false).ok()?;
        Some(WallTime(next.timestamp_millis()))
    }

    /// Whether it came after one moment, and not after the other.
    pub fn is_due(&self, after: WallTime, now: WallTime) -> bool {
        self.next_after(after).is_some_and(|next| next <= now)
    }
}

/// As it was written.
impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
    }
}

/// A cron expression, or `"off"`.
pub(super) fn schedule_or_off(given: &Given<'_>) -> Read<Option<Schedule>> {
    match given.text() {
        Some("off") => Ok(None),
        Some(text) => Schedule::parse(text, WallTime::now())
            .map(Some)
            .map_err(|why| given.refuse(&format!("{ALLOWED} ({})", why.trim_end_matches('.')))),
        None => Err(given.refuse(ALLOWED)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> WallTime {
        let local = chrono::NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S")
            .expect("a time")
            .and_local_timezone(Local)
            .earliest()
            .expect("it is there");
        WallTime(local.timestamp_millis())
    }

    #[test]
    fn a_chore_is_due_once_each_time_it_comes() {
        let nightly = Schedule::parse("30 3 * * *", WallTime(0)).expect("it is one");
        for (after, now, due) in [
            ("2026-03-01 03:00:00", "2026-03-01 03:29:59", false),
            ("2026-03-01 03:29:59", "2026-03-01 03:30:00", true),
            ("2026-03-01 03:30:00", "2026-03-01 03:30:01", false),
            // The daemon was down for days.
            ("2026-03-01 03:30:00", "2026-03-09 12:00:00", true),
            // The clock was set back.
            ("2026-03-09 12:00:00", "2026-03-01 03:30:00", false),
        ] {
            assert_eq!(nightly.is_due(at(after), at(now)), due, "{after} to {now}");
        }
    }

    #[test]
    fn what_never_comes_is_no_schedule() {
        for text in ["0 3 31 2 *", "61 * * * *", "tomorrow", "* * *"] {
            assert!(
                Schedule::parse(text, at("2026-03-01 00:00:00")).is_err(),
                "{text}"
            );
        }
        assert!(Schedule::parse("*/10 * * * * *", at("2026-03-01 00:00:00")).is_ok());
    }
}
