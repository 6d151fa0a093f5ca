//! What happens, told to the journal, or on standard error: for people, or as JSON.
//!
//! The journal gets it natively where standard error leads there and the format is `auto`: with the priority,
//! and each value as a field of its own (`ORDERFEED_WEBHOOK=erp`). Where it does not answer at the start, it gets
//! lines instead; where it goes away later, what is told meanwhile is lost. Where it hangs, so does whoever tells it
//! something, once the socket's buffer is full.
//!
//! A line stands alone: the time, the level unless it is `info`, a sentence, then its values as
//! `key=value`. A sentence of several lines is set in from the second on. Spans are not shown;
//! what a line needs to be understood is in the line. Nothing is filtered by content: who logs
//! leaves secrets and bodies out.

use std::fmt;
use std::io::{self, IsTerminal};
use std::sync::OnceLock;

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_journald::{Priority, PriorityMappings};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::{FmtContext, Layer};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer as _, Registry, reload};

use crate::config::{LogConfig, LogFormat};

/// What is told, and where; another one takes its place when the configuration is reloaded.
type Told = Box<dyn tracing_subscriber::Layer<Registry> + Send + Sync>;

static HANDLE: OnceLock<reload::Handle<Told, Registry>> = OnceLock::new();

/// Begins to tell what happens, until the process ends. Only the first call counts.
pub fn init(log: &LogConfig) {
    let (told, handle) = reload::Layer::new(told(log));
    if tracing_subscriber::registry().with(told).try_init().is_ok() {
        HANDLE.get_or_init(|| handle);
    }
}

/// Goes on as another configuration says.
pub fn change(log: &LogConfig) {
    if let Some(handle) = HANDLE.get() {
        handle
            .reload(told(log))
            .expect("the subscriber is there until the process ends, and nothing panics in it");
    }
}

fn told(log: &LogConfig) -> Told {
    let others = LevelFilter::from_level(log.level.min(Level::WARN));
    let targets = Targets::new()
        .with_default(others)
        .with_target(env!("CARGO_CRATE_NAME"), log.level);
    let journal = (log.format == LogFormat::Auto && is_journal())
        .then(tracing_journald::layer)
        .and_then(Result::ok);
    if let Some(journal) = journal {
        let journal = journal
            .with_syslog_identifier(env!("CARGO_PKG_NAME").to_owned())
            .with_field_prefix(Some("ORDERFEED".to_owned()))
            .with_priority_mappings(PriorityMappings {
                error: Priority::Error,
                warn: Priority::Warning,
                info: Priority::Informational,
                debug: Priority::Debug,
                trace: Priority::Debug,
            });
        return targets.and_then(journal).boxed();
    }
    let layer = Layer::default().with_writer(io::stderr);
    let lines = match log.format {
        LogFormat::Auto => Lines::for_stderr(),
        LogFormat::Pretty => Lines::on_terminal(),
        LogFormat::Json => {
            let layer = layer
                .json()
                .flatten_event(true)
                .with_current_span(false)
                .with_span_list(false);
            return targets.and_then(layer).boxed();
        }
    };
    let layer = layer.with_ansi(lines.colour).event_format(lines);
    targets.and_then(layer).boxed()
}

/// What ends the program, for standard error: where that leads to the journal, with its priority.
pub fn as_error(text: &str) -> String {
    if is_journal() {
        format!("<3>{}", text.replace('\n', "\n<3>"))
    } else {
        text.to_owned()
    }
}

/// Events as lines for people.
#[derive(Debug, Clone, Copy)]
struct Lines {
    colour: bool,
    /// What time it is; `None` where the reader adds it.
    clock: Option<fn() -> String>,
    /// Whether each line begins with its priority in the journal, `<4>`, which it takes off.
    priority: bool,
}

impl Lines {
    fn for_stderr() -> Self {
        if io::stderr().is_terminal() {
            // See no-color.org.
            let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
            return Self {
                colour: !no_colour,
                ..Self::on_terminal()
            };
        }
        let journal = is_journal();
        Self {
            colour: false,
            clock: (!journal).then_some(local_time),
            priority: journal,
        }
    }

    fn on_terminal() -> Self {
        Self {
            colour: true,
            clock: Some(local_time),
            priority: false,
        }
    }

    fn paint(self, f: &mut Writer<'_>, colour: &str, text: &str) -> fmt::Result {
        if self.colour {
            write!(f, "\x1b[{colour}m{text}\x1b[0m")
        } else {
            f.write_str(text)
        }
    }
}

const DIM: &str = "2";

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _context: &FmtContext<'_, S, N>,
        mut f: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let level = *event.metadata().level();
        let (priority, colour) = match level {
            Level::ERROR => (3, "31"),
            Level::WARN => (4, "33"),
            Level::INFO => (6, "0"),
            _ => (7, DIM),
        };
        let prefix = if self.priority {
            format!("<{priority}>")
        } else {
            String::new()
        };
        f.write_str(&prefix)?;
        if let Some(clock) = self.clock {
            self.paint(&mut f, DIM, &clock())?;
            f.write_char(' ')?;
        }
        if level != Level::INFO {
            self.paint(&mut f, colour, level.as_str())?;
            f.write_char(' ')?;
        }
        let mut values = Values::default();
        event.record(&mut values);
        for (index, line) in values.message.lines().enumerate() {
            if index > 0 {
                // Set in, so that it does not pass for a line of its own.
                write!(f, "\n{prefix}    ")?;
            }
            f.write_str(&on_one_line(line))?;
        }
        for (index, (name, value)) in values.others.iter().enumerate() {
            if index > 0 || !values.message.is_empty() {
                f.write_char(' ')?;
            }
            self.paint(&mut f, DIM, &format!("{name}="))?;
            f.write_str(value)?;
        }
        writeln!(f)
    }
}

/// An event's sentence, and its values as text.
#[derive(Default)]
struct Values {
    message: String,
    others: Vec<(&'static str, String)>,
}

impl Visit for Values {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, &format!("{value:?}"));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.add(field, &value.to_string());
    }
}

impl Values {
    fn add(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            value.clone_into(&mut self.message);
        } else if value.is_empty() || value.contains([' ', '"']) {
            self.others.push((
                field.name(),
                format!("\"{}\"", on_one_line(value).replace('"', "\\\"")),
            ));
        } else {
            self.others.push((field.name(), on_one_line(value)));
        }
    }
}

/// Control characters written as escapes: no receiver's answer can forge a line or paint one.
fn on_one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            line.extend(c.escape_default());
        } else {
            line.push(c);
        }
    }
    line
}

fn local_time() -> String {
    chrono::Local::now().format("%H:%M:%S").to_string()
}

/// Whether standard error leads to the journal: the variable alone is inherited by programs
/// whose standard error was led elsewhere.
fn is_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else {
        return false;
    };
    rustix::fs::fstat(io::stderr())
        .is_ok_and(|stat| stream == format!("{}:{}", stat.st_dev, stat.st_ino))
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("a lock").write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn check(lines: Lines, tell: impl FnOnce(), expected: &str) {
        let written = Written::default();
        let to = written.clone();
        let layer = Layer::default()
            .event_format(lines)
            .with_ansi(lines.colour)
            .with_writer(move || to.clone());
        let subscriber = tracing_subscriber::registry().with(layer);
        tracing::subscriber::with_default(subscriber, tell);
        let bytes = written.0.lock().expect("a lock").clone();
        assert_eq!(String::from_utf8(bytes).expect("text"), expected);
    }

    const PLAIN: Lines = Lines {
        colour: false,
        clock: Some(noon),
        priority: false,
    };

    fn noon() -> String {
        "12:00:00".to_owned()
    }

    #[test]
    fn a_line_stands_alone() {
        let tell =
            || tracing::info!(webhook = "erp", items = 3, took = ?Some(1), "payload delivered");
        check(
            PLAIN,
            tell,
            "12:00:00 payload delivered webhook=erp items=3 took=Some(1)\n",
        );
        let tell = || tracing::warn!(answer = "not \"now\"", empty = "", "payload refused");
        check(
            PLAIN,
            tell,
            "12:00:00 WARN payload refused answer=\"not \\\"now\\\"\" empty=\"\"\n",
        );
    }

    #[test]
    fn the_journal_gets_priorities_and_no_times() {
        let journal = Lines {
            clock: None,
            priority: true,
            ..PLAIN
        };
        check(
            journal,
            || tracing::error!("the disk is full"),
            "<3>ERROR the disk is full\n",
        );
        check(journal, || tracing::info!("ready"), "<6>ready\n");
        check(journal, || tracing::debug!(n = 1), "<7>DEBUG n=1\n");
    }

    #[test]
    fn a_terminal_gets_colour() {
        let terminal = Lines {
            colour: true,
            ..PLAIN
        };
        check(
            terminal,
            || tracing::warn!(webhook = "erp", "held"),
            "\x1b[2m12:00:00\x1b[0m \x1b[33mWARN\x1b[0m held \x1b[2mwebhook=\x1b[0merp\n",
        );
    }

    #[test]
    fn what_others_sent_forges_no_line() {
        check(
            PLAIN,
            || tracing::info!(answer = "a\n12:00:00 \x1b[31mforged", "answered"),
            "12:00:00 answered answer=\"a\\n12:00:00 \\u{1b}[31mforged\"\n",
        );
    }

    #[test]
    fn a_message_of_several_lines_stays_together() {
        let tell = || tracing::error!("not reloaded:\nqueue.path: \x07\nledger.path");
        check(
            PLAIN,
            tell,
            "12:00:00 ERROR not reloaded:\n    queue.path: \\u{7}\n    ledger.path\n",
        );
        let journal = Lines {
            clock: None,
            priority: true,
            ..PLAIN
        };
        check(
            journal,
            tell,
            "<3>ERROR not reloaded:\n<3>    queue.path: \\u{7}\n<3>    ledger.path\n",
        );
    }

    #[test]
    fn a_second_init_changes_nothing() {
        let log = LogConfig {
            level: Level::ERROR,
            format: LogFormat::Json,
        };
        init(&log);
        init(&log);
    }
}
