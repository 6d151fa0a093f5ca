//! D9: a `Retry-After` longer than the gap is honoured, up to 24 h; garbage is not.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use insta::assert_snapshot;

use super::{Bad, Trial};

#[test]
fn how_long_the_receiver_asks_to_wait() {
    let now = SystemTime::now();
    let date = |time| format!("Retry-After: {}\r\n", httpdate::fmt_http_date(time));
    let asks = [
        ("nothing", String::new()),
        ("seconds", "Retry-After: 7200\r\n".to_owned()),
        (
            "seconds, less than retry_gap",
            "Retry-After: 30\r\n".to_owned(),
        ),
        ("seconds, none", "Retry-After: 0\r\n".to_owned()),
        ("two days", "Retry-After: 172800\r\n".to_owned()),
        ("2^64", "Retry-After: 18446744073709551616\r\n".to_owned()),
        (
            "10^30",
            "Retry-After: 1000000000000000000000000000000\r\n".to_owned(),
        ),
        ("a date in two hours", date(now + Duration::from_hours(2))),
        (
            "a date in ten years",
            date(now + Duration::from_hours(24 * 3650)),
        ),
        ("a date that is past", date(now - Duration::from_hours(2))),
        (
            "a date in the old style",
            "Retry-After: Sunday, 06-Nov-94 08:49:37 GMT\r\n".to_owned(),
        ),
        (
            "a date that is none",
            "Retry-After: Mon, 31 Feb 2200 08:49:37 GMT\r\n".to_owned(),
        ),
        (
            "a time of another format",
            "Retry-After: 2200-01-01T00:00:00Z\r\n".to_owned(),
        ),
        ("a negative number", "Retry-After: -7200\r\n".to_owned()),
        ("a signed number", "Retry-After: +7200\r\n".to_owned()),
        ("a fraction", "Retry-After: 7200.5\r\n".to_owned()),
        ("a number with a unit", "Retry-After: 7200s\r\n".to_owned()),
        ("an empty one", "Retry-After:\r\n".to_owned()),
        ("not even text", "Retry-After: \u{ff}\r\n".to_owned()),
        (
            "two of them",
            "Retry-After: 7200\r\nRetry-After: 10800\r\n".to_owned(),
        ),
        (
            "garbage, and one",
            "Retry-After: soon\r\nRetry-After: 7200\r\n".to_owned(),
        ),
    ];
    let mut cases = Vec::new();
    for status in [429, 503] {
        for (label, header) in &asks {
            let answer = format!("HTTP/1.1 {status} X\r\n{header}content-length: 0\r\n\r\n");
            cases.push(Bad::answering(format!("{status}, {label}"), answer));
        }
    }
    let labels: Vec<_> = cases.iter().map(|case| case.label.clone()).collect();
    let (_, site) = Trial::default().run(&cases);
    let waits = site.ledger_rows(
        "SELECT head_retry_wait_ms FROM webhooks WHERE name <> 'good'
         ORDER BY CAST(substr(name, 5) AS INTEGER)",
    );
    let mut text = String::new();
    for (label, wait) in labels.iter().zip(waits.lines()) {
        // Of a date's span, part of a second has passed.
        let minutes = wait.parse::<u64>().unwrap().div_ceil(60_000);
        writeln!(text, "{label}: {minutes} min").unwrap();
    }
    let (of_429, of_503) = text.split_at(text.find("503").unwrap());
    assert_eq!(of_429.replace("429", "503"), of_503);
    assert_snapshot!(of_503, @"
    503, nothing: 60 min
    503, seconds: 120 min
    503, seconds, less than retry_gap: 60 min
    503, seconds, none: 60 min
    503, two days: 1440 min
    503, 2^64: 1440 min
    503, 10^30: 1440 min
    503, a date in two hours: 120 min
    503, a date in ten years: 1440 min
    503, a date that is past: 60 min
    503, a date in the old style: 60 min
    503, a date that is none: 60 min
    503, a time of another format: 60 min
    503, a negative number: 60 min
    503, a signed number: 60 min
    503, a fraction: 60 min
    503, a number with a unit: 60 min
    503, an empty one: 60 min
    503, not even text: 60 min
    503, two of them: 180 min
    503, garbage, and one: 120 min
    ");
}
