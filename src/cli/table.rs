//! How answers look: tables that fit the terminal, times with their age, colour on a terminal only.

use std::io::{self, IsTerminal};
use std::time::Duration;

use chrono::{DateTime, FixedOffset, Local, Offset, TimeZone, Utc};
use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, Table, Width};

use crate::clock::WallTime;
use crate::feed::order::OrderType;

/// For whom it is shown, and when.
#[derive(Debug, Clone, Copy)]
pub(super) struct View {
    now: WallTime,
    zone: fn(WallTime) -> FixedOffset,
    /// The terminal's, in characters; `None`: what is shown goes elsewhere, and is not cut.
    width: Option<u16>,
    has_colour: bool,
}

impl View {
    /// Standard output, at this moment.
    pub(super) fn stdout(now: WallTime) -> Self {
        let is_terminal = io::stdout().is_terminal();
        let columns = std::env::var("COLUMNS")
            .ok()
            .and_then(|text| text.parse().ok());
        let terminal = || {
            let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
            Some(size.ws_col).filter(|&columns| columns > 0)
        };
        Self {
            now,
            zone: local,
            width: if is_terminal {
                columns.or_else(terminal)
            } else {
                None
            },
            has_colour: is_terminal && std::env::var_os("NO_COLOR").is_none(),
        }
    }

    /// One that shows the same everywhere.
    #[cfg(test)]
    pub(super) fn fixed(now: WallTime, width: Option<u16>) -> Self {
        Self {
            now,
            zone: |_| FixedOffset::east_opt(3_600).expect("an hour"),
            width,
            has_colour: false,
        }
    }

    /// A time on the local clock, with its age: `14:05:12 (3 min ago)`.
    pub(super) fn time(&self, time: WallTime) -> String {
        format!("{} ({})", self.clock(time), self.age(time))
    }

    /// The same, where there may be none.
    pub(super) fn maybe(&self, time: Option<WallTime>) -> String {
        time.map_or_else(|| "-".to_owned(), |time| self.time(time))
    }

    /// A time on the local clock; with the date, unless that is today's.
    pub(super) fn clock(&self, time: WallTime) -> String {
        let local = |time: WallTime| {
            let utc = DateTime::<Utc>::from_timestamp_millis(time.0).unwrap_or_default();
            utc.with_timezone(&(self.zone)(time))
        };
        let (time, today) = (local(time), local(self.now));
        let format = if time.date_naive() == today.date_naive() {
            "%H:%M:%S"
        } else {
            "%Y-%m-%d %H:%M:%S"
        };
        time.format(format).to_string()
    }

    fn age(&self, time: WallTime) -> String {
        let ms = time.0.abs_diff(self.now.0);
        let span = span(Duration::from_millis(ms));
        if ms < 1_000 {
            "now".to_owned()
        } else if time > self.now {
            format!("in {span}")
        } else {
            format!("{span} ago")
        }
    }

    /// A table, a line a row unless the terminal is too narrow: then texts go on below, and where
    /// words would be broken (ids, states), each row is a list. Columns of numbers are named.
    pub(super) fn table(
        &self,
        header: &[&str],
        numbers: &[usize],
        rows: Vec<Vec<String>>,
    ) -> String {
        let words: Vec<usize> = (0..header.len())
            .map(|column| {
                let cells = rows.iter().filter_map(|row| row.get(column));
                let texts = cells.map(String::as_str).chain([header[column]]);
                texts.map(longest_word).max().unwrap_or_default()
            })
            .collect();
        let least: usize = words.iter().map(|word| word + GAP).sum();
        if self.width.is_some_and(|width| least > usize::from(width)) {
            return self.list(header, &rows);
        }
        let mut table = Table::new();
        table.load_style(comfy_table::presets::NOTHING);
        match self.width {
            Some(width) => {
                table.set_content_arrangement(ContentArrangement::Dynamic);
                table.set_width(width);
            }
            None => {
                table.set_content_arrangement(ContentArrangement::Disabled);
            }
        }
        table.set_header(header.iter().copied());
        table.add_rows(rows);
        for (index, column) in table.column_iter_mut().enumerate() {
            column.set_padding((0, 2));
            let least = u16::try_from(words[index] + GAP).unwrap_or(u16::MAX);
            column.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(least)));
            if numbers.contains(&index) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        let mut text = String::new();
        for line in table.lines() {
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }

    /// A row is its first cell, and below it all others that are not empty, each after its name.
    fn list(&self, header: &[&str], rows: &[Vec<String>]) -> String {
        let width = self.width.map_or(usize::MAX, usize::from);
        let mut text = String::new();
        for row in rows {
            let cells = header.iter().zip(row);
            let named = cells.skip(1).filter(|(_, cell)| !cell.is_empty());
            let named: Vec<String> = named
                .map(|(name, cell)| format!("{} {cell}", name.to_lowercase()))
                .collect();
            text.push_str(row.first().map_or("", String::as_str));
            let mut column = usize::MAX;
            for (index, cell) in named.iter().enumerate() {
                let comma = if index + 1 < named.len() { "," } else { "" };
                let length = cell.chars().count() + comma.len();
                if column.saturating_add(1 + length) > width {
                    text.push_str("\n   ");
                    column = 3;
                }
                column += 1 + length;
                text.push(' ');
                text.push_str(cell);
                text.push_str(comma);
            }
            text.push('\n');
        }
        text
    }

    /// The text, with its telling words in colour.
    pub(super) fn paint(&self, text: &str) -> String {
        if !self.has_colour {
            return text.to_owned();
        }
        let mut painted = String::with_capacity(text.len());
        for word in text.split_inclusive(|c: char| !c.is_ascii_alphabetic() && c != '_') {
            let bare = word.trim_end_matches(|c: char| !c.is_ascii_alphabetic() && c != '_');
            match colour_of(bare) {
                Some(colour) => {
                    painted.push_str(colour);
                    painted.push_str(bare);
                    painted.push_str("\u{1b}[0m");
                    painted.push_str(&word[bare.len()..]);
                }
                None => painted.push_str(word),
            }
        }
        painted
    }
}

/// Between columns.
const GAP: usize = 2;

/// In characters. In a text of several words, a very long one may be broken.
fn longest_word(text: &str) -> usize {
    let words = text.split_whitespace().map(|word| word.chars().count());
    match words.clone().count() {
        0 | 1 => words.max().unwrap_or_default(),
        _ => words.max().unwrap_or_default().min(LONG_WORD),
    }
}

/// No id or state is longer.
const LONG_WORD: usize = 29;

fn colour_of(word: &str) -> Option<&'static str> {
    Some(match word {
        "failed" | "down" | "held" | "deactivated" | "missing" | "set_aside" => "\u{1b}[31m",
        "retrying" | "paused" | "pending" | "interrupted" | "unknown" | "discarded" | "parked" => {
            "\u{1b}[33m"
        }
        "delivered" => "\u{1b}[32m",
        _ => return None,
    })
}

/// What the clocks here show.
fn local(time: WallTime) -> FixedOffset {
    let utc = DateTime::<Utc>::from_timestamp_millis(time.0).unwrap_or_default();
    Local.offset_from_utc_datetime(&utc.naive_utc()).fix()
}

/// A span of time, roughly: `12 min`.
fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min", seconds / 60),
        3_600..172_800 => match seconds % 3_600 / 60 {
            0 => format!("{} h", seconds / 3_600),
            minutes => format!("{} h {minutes} min", seconds / 3_600),
        },
        _ => format!("{} days", seconds / 86_400),
    }
}

/// A number, and whether there are more.
pub(super) fn number(count: u64, or_more: bool) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (index, digit) in digits.char_indices() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if or_more { format!(">{text}") } else { text }
}

/// `1 purchase order`, `more than 100,000 purchase orders`.
pub(super) fn orders(count: u64, or_more: bool, order_type: &str) -> String {
    let what = match order_type.parse::<OrderType>() {
        Ok(order_type) => order_type.as_str().replace('_', " "),
        Err(_) => "order".to_owned(),
    };
    let plural = if count == 1 && !or_more { "" } else { "s" };
    let more = if or_more { "more than " } else { "" };
    format!("{more}{} {what}{plural}", number(count, false))
}

/// A text of somebody else's, which does nothing to a terminal, on one line.
pub(super) fn tame(text: &str) -> String {
    let mut tamed = String::with_capacity(text.len());
    for c in text.chars() {
        let moves = matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}' | '\u{feff}');
        match c {
            '\n' | '\t' => tamed.push(' '),
            '\r' => {}
            c if c.is_control() || moves => tamed.extend(c.escape_default()),
            c => tamed.push(c),
        }
    }
    tamed
}

/// When somebody means by `--since`: a time, or how long ago.
pub(super) fn moment(text: &str, now: WallTime) -> Result<WallTime, String> {
    if let Ok(ago) = humantime::parse_duration(text) {
        let ago_ms = i64::try_from(ago.as_millis()).unwrap_or(i64::MAX);
        return Ok(WallTime(now.0.saturating_sub(ago_ms)));
    }
    if let Ok(time) = text.parse() {
        return Ok(time);
    }
    let formats = ["%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M:%S"];
    let local = formats
        .iter()
        .find_map(|format| chrono::NaiveDateTime::parse_from_str(text, format).ok())
        .or_else(|| {
            let date = chrono::NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?;
            date.and_hms_opt(0, 0, 0)
        });
    local
        .and_then(|local| Local.from_local_datetime(&local).earliest())
        .map(|time| WallTime(time.timestamp_millis()))
        .ok_or_else(|| {
            format!("{text:?} is no time; give how long ago (\"2h\", \"3d\"), \"2026-01-31 14:05\" (local), or \"2026-01-31T13:05:00Z\"")
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_their_age_beside_them() {
        let now: WallTime = "2026-11-22T13:05:12Z".parse().expect("a time");
        let view = View::fixed(now, None);
        let shown = |text: &str| view.time(text.parse().expect("a time"));
        assert_eq!(shown("2026-11-22T13:05:12.400Z"), "14:05:12 (now)");
        assert_eq!(shown("2026-11-22T13:02:00Z"), "14:02:00 (3 min ago)");
        assert_eq!(shown("2026-11-22T14:35:12Z"), "15:35:12 (in 1 h 30 min)");
        assert_eq!(
            shown("2026-11-18T23:30:00Z"),
            "2026-11-19 00:30:00 (3 days ago)"
        );
    }

    #[test]
    fn what_others_wrote_does_nothing_to_a_terminal() {
        assert_eq!(
            tame("busy\u{1b}[2J\r\nnow \u{202e}x"),
            "busy\\u{1b}[2J now \\u{202e}x"
        );
    }

    #[test]
    fn counts_say_when_they_were_cut() {
        assert_eq!(number(100_000, true), ">100,000");
        assert_eq!(orders(1, false, "work_order"), "1 work order");
        assert_eq!(
            orders(100_000, true, "purchase_order"),
            "more than 100,000 purchase orders"
        );
    }

    #[test]
    fn a_table_fits_the_terminal_and_is_whole_elsewhere() {
        let now = WallTime(0);
        let rows = || {
            vec![vec![
                "erp".to_owned(),
                "7".to_owned(),
                "retries it at once and for ever".to_owned(),
            ]]
        };
        let table = |width| View::fixed(now, width).table(&["WEBHOOK", "N", "NEXT"], &[1], rows());
        insta::assert_snapshot!(table(None), @"
        WEBHOOK  N  NEXT
        erp      7  retries it at once and for ever
        ");
        insta::assert_snapshot!(table(Some(30)), @"
        WEBHOOK  N  NEXT
        erp      7  retries it at
                    once and for
                    ever
        ");
    }

    #[test]
    fn ids_and_states_are_never_broken() {
        let rows = || {
            vec![vec![
                "pl_01M82E75EWT1K6JWPSMAYBQ9EZ".to_owned(),
                "erp".to_owned(),
                "delivered".to_owned(),
                "14:05:12 (3 min ago)".to_owned(),
                String::new(),
            ]]
        };
        let header = ["PAYLOAD", "WEBHOOK", "STATE", "COMPOSED", "WHY"];
        let table = |width| View::fixed(WallTime(0), Some(width)).table(&header, &[], rows());
        // The least: 29, 7, 9, 8 and 3, and the gaps.
        insta::assert_snapshot!(table(66), @"
        PAYLOAD                        WEBHOOK  STATE      COMPOSED  WHY
        pl_01M82E75EWT1K6JWPSMAYBQ9EZ  erp      delivered  14:05:12
                                                           (3 min
                                                           ago)
        ");
        insta::assert_snapshot!(table(65), @"
        pl_01M82E75EWT1K6JWPSMAYBQ9EZ
            webhook erp, state delivered, composed 14:05:12 (3 min ago)
        ");
        insta::assert_snapshot!(table(40), @"
        pl_01M82E75EWT1K6JWPSMAYBQ9EZ
            webhook erp, state delivered,
            composed 14:05:12 (3 min ago)
        ");
    }
}
