//! What is printed of each request: a line for a person, or a JSON object a line.

use std::io::{self, IsTerminal, Write};
use std::net::SocketAddr;

use serde::Serialize;
use serde_json::value::RawValue;

use super::arrival::Arrival;
use super::memory::Memory;
use crate::cli::short;
use crate::clock::WallTime;

/// How it is printed.
#[derive(Debug)]
pub(super) struct Printer {
    json: bool,
    bodies: bool,
    colour: bool,
}

/// What is told of a request.
#[derive(Debug)]
pub(super) struct Told<'a> {
    pub(super) at: WallTime,
    /// What it is answered with.
    pub(super) status: u16,
    pub(super) verdict: Verdict,
    /// What was read of it, if it could be.
    pub(super) arrival: Option<&'a Arrival>,
    /// What is wrong.
    pub(super) wrong: &'a [String],
}

/// What a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Verdict {
    /// A payload that was not here before.
    New,
    /// One that was refused before.
    Again,
    /// One that was taken before.
    Repeat,
    /// A test, without orders.
    Test,
    /// It contradicts what came before.
    Alarm,
    /// It is not what orderfeed sends.
    Bad,
}

impl Verdict {
    const fn as_str(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Again => "again",
            Self::Repeat => "repeat",
            Self::Test => "test",
            Self::Alarm => "ALARM",
            Self::Bad => "bad",
        }
    }
}

/// What the requests came to.
#[derive(Debug, Default, Serialize)]
pub(super) struct Sums {
    pub(super) requests: u64,
    /// Payloads and tests that were taken.
    pub(super) taken: u64,
    /// Requests that were answered with another status than success, because that was asked for.
    pub(super) refused: u64,
    /// Requests with a payload that had been taken before.
    pub(super) repeats: u64,
    /// Requests that are not what orderfeed sends.
    pub(super) bad: u64,
    /// Requests that contradict what came before.
    pub(super) alarms: u64,
}

impl Printer {
    pub(super) fn new(json: bool, bodies: bool) -> Self {
        let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self {
            json,
            bodies,
            colour: io::stdout().is_terminal() && !no_colour,
        }
    }

    pub(super) fn introduce(&self, address: SocketAddr) -> io::Result<()> {
        let mut out = io::stdout().lock();
        let url = format!("http://{address}/");
        if self.json {
            return json_line(&mut out, &serde_json::json!({ "listening": url }));
        }
        writeln!(
            out,
            "Listening on {url}, any path, until Ctrl-C. To deliver here:\n\n    [webhook.try]\n    url = \"{url}\"\n"
        )?;
        writeln!(
            out,
            "    time  type            items  payload id                     try  answer"
        )
    }

    pub(super) fn tell(&self, told: &Told<'_>) -> io::Result<()> {
        let mut out = io::stdout().lock();
        if self.json {
            return json_line(&mut out, &Line::of(told, self.bodies));
        }
        let dash = || "-".to_owned();
        let arrival = told.arrival;
        let event = arrival.and_then(|arrival| arrival.event.as_ref());
        let event = event.map_or_else(dash, |(order_type, action)| {
            let action = if action.is_submit() {
                ""
            } else {
                action.as_str()
            };
            format!("{} {}", short(*order_type), cut(action, 12))
        });
        let orders = arrival.and_then(|arrival| arrival.orders.as_ref());
        let items = orders.map_or_else(dash, |orders| orders.len().to_string());
        let id = arrival.map_or_else(dash, |arrival| arrival.payload_id.to_string());
        let attempt = arrival.and_then(|arrival| arrival.attempt);
        let attempt = attempt.map_or_else(dash, |attempt| attempt.to_string());
        let verdict = told.verdict.as_str();
        let verdict = match told.verdict {
            Verdict::Alarm | Verdict::Bad if self.colour => format!("\x1b[31m{verdict}\x1b[0m"),
            _ => verdict.to_owned(),
        };
        writeln!(
            out,
            "{}  {event:<15} {items:>5}  {id:<29} {attempt:>4}  {} {verdict}",
            told.at.local(told.at),
            told.status
        )?;
        for wrong in told.wrong {
            writeln!(out, "          {}", printable(wrong))?;
        }
        let bodies = arrival.filter(|_| self.bodies);
        match bodies.map(|arrival| (&arrival.orders, &arrival.body)) {
            Some((Some(orders), _)) => {
                for (_, order) in orders {
                    writeln!(out, "          {}", printable(&order.body))?;
                }
                Ok(())
            }
            Some((None, body)) => {
                writeln!(
                    out,
                    "          {}",
                    printable(&String::from_utf8_lossy(body))
                )
            }
            None => Ok(()),
        }
    }

    /// A connection that brought no request.
    pub(super) fn tell_broken(&self, message: &str) -> io::Result<()> {
        let at = WallTime::now();
        let mut out = io::stdout().lock();
        if self.json {
            let line = serde_json::json!({ "at": at.to_string(), "broken": message });
            return json_line(&mut out, &line);
        }
        writeln!(out, "{}  {}", at.local(at), printable(message))
    }

    pub(super) fn sum_up(&self, sums: &Sums, memory: &Memory) -> io::Result<()> {
        let mut out = io::stdout().lock();
        if self.json {
            let orders: serde_json::Map<_, _> = memory
                .taken
                .iter()
                .map(|(order_type, count)| {
                    let count =
                        serde_json::json!({ "taken": count.orders, "distinct": count.distinct });
                    (order_type.to_string(), count)
                })
                .collect();
            return json_line(
                &mut out,
                &serde_json::json!({
                    "sums": sums, "orders": orders, "forgot_some": memory.is_incomplete()
                }),
            );
        }
        writeln!(
            out,
            "\nrequests: {}; taken: {}, refused as asked: {}, repeats: {}, bad: {}; alarms: {}",
            sums.requests, sums.taken, sums.refused, sums.repeats, sums.bad, sums.alarms
        )?;
        writeln!(out, "\n  {:<22}{:>9}{:>11}", "", "orders", "distinct")?;
        for (order_type, count) in memory.taken.iter() {
            let name = order_type.as_str().replace('_', " ");
            let name = format!("{name}s ({})", short(order_type));
            writeln!(out, "  {name:<22}{:>9}{:>11}", count.orders, count.distinct)?;
        }
        if memory.is_incomplete() {
            writeln!(
                out,
                "\nThe earliest were forgotten: what is distinct may be less, and repeats more."
            )?;
        }
        Ok(())
    }
}

/// A request as JSON.
#[derive(Serialize)]
struct Line<'a> {
    at: String,
    status: u16,
    verdict: Verdict,
    payload_id: Option<String>,
    #[serde(rename = "type")]
    order_type: Option<&'static str>,
    action: Option<&'a str>,
    items: Option<usize>,
    attempt: Option<u32>,
    /// What it says it is a resend or a part of.
    origin: Option<String>,
    bytes: Option<usize>,
    tracking_numbers: Option<Vec<&'a str>>,
    wrong: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<&'a RawValue>,
}

impl<'a> Line<'a> {
    fn of(told: &Told<'a>, bodies: bool) -> Self {
        let arrival = told.arrival;
        let event = arrival.and_then(|arrival| arrival.event.as_ref());
        let orders = arrival.and_then(|arrival| arrival.orders.as_ref());
        // A line break in it would end the line.
        let body = arrival.filter(|arrival| bodies && !arrival.body.contains(&b'\n'));
        Self {
            at: told.at.to_string(),
            status: told.status,
            verdict: told.verdict,
            payload_id: arrival.map(|arrival| arrival.payload_id.to_string()),
            order_type: event.map(|(order_type, _)| order_type.as_str()),
            action: event.map(|(_, action)| action.as_str()),
            items: orders.map(Vec::len),
            attempt: arrival.and_then(|arrival| arrival.attempt),
            origin: arrival.and_then(|arrival| Some(arrival.origin?.to_string())),
            bytes: arrival.map(|arrival| arrival.body.len()),
            tracking_numbers: orders
                .map(|orders| orders.iter().map(|(number, _)| number.as_str()).collect()),
            wrong: told.wrong,
            body: body.and_then(|arrival| serde_json::from_slice(&arrival.body).ok()),
        }
    }
}

fn json_line(out: &mut impl Write, line: &impl Serialize) -> io::Result<()> {
    let line = serde_json::to_string(line).map_err(io::Error::from)?;
    writeln!(out, "{line}")
}

/// The text with no character in it that a terminal obeys.
fn printable(text: &str) -> String {
    let shown = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().map(shown).collect()
}

/// The text, or its beginning and a mark that it goes on.
fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let begin: String = text.chars().take(width - 1).collect();
    format!("{begin}~")
}
