//! What the keys may hold: each kind of value reads what was given, or says what is allowed.
//!
//! A kind knows nothing of keys, tables or layers. What several keys must agree on is judged in
//! `config` itself; secrets are in `secrets`.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use url::{Host, Url};

use super::problem::Problem;
use super::sources::{Given, quoted};
use crate::feed::policy::{HoldOn, RetryAttempts, StatusPattern, SuccessStatus};
use crate::feed::selection::{Filter, Trigger};
use crate::feed::webhook::WebhookName;

/// What came of reading a value.
pub(super) type Read<T> = Result<T, Vec<Problem>>;

/// What an url must be, for messages.
pub(super) const URL: &str = "a url such as \"https://erp.example.com/orders\"";

const TRIGGERS: &str = "a list of order types and actions, such as [\"purchase_order\", \"work_order.update\", \"*.destroy\"]";
const FILTER: &str = "a table of fields with lists of values, such as { Site = [\"10\", \"20\"] }";
const HOLD_ON: &str = "a list of \"dns\", \"connect\", \"tls\", \"timeout\", \"3xx\", \"4xx\", \"5xx\" and numbers from 200 to 599";
const SUCCESS_STATUS: &str =
    "a list of \"2xx\", \"3xx\", \"4xx\", \"5xx\" and numbers from 200 to 599, or \"any\" alone";

/// `true` or `false`.
pub(super) fn switch(given: &Given<'_>) -> Read<bool> {
    given.switch().ok_or_else(|| given.refuse("true or false"))
}

/// One of these words.
pub(super) fn one_of<T: Copy>(
    words: &'static [(&'static str, T)],
) -> impl Fn(&Given<'_>) -> Read<T> {
    move |given| {
        let found = words.iter().find(|(word, _)| given.text() == Some(*word));
        found.map(|(_, meaning)| *meaning).ok_or_else(|| {
            let words: Vec<String> = words.iter().map(|(word, _)| format!("{word:?}")).collect();
            given.refuse(&format!("one of {}", words.join(", ")))
        })
    }
}

/// A whole number.
pub(super) fn whole(range: RangeInclusive<u32>) -> impl Fn(&Given<'_>) -> Read<u32> {
    move |given| number_in(given, &range).ok_or_else(|| given.refuse(&whole_allowed(&range)))
}

/// A whole number, or `"unlimited"`.
pub(super) fn attempts(range: RangeInclusive<u32>) -> impl Fn(&Given<'_>) -> Read<RetryAttempts> {
    move |given| match given.text() {
        Some("unlimited") => Ok(RetryAttempts::Unlimited),
        _ => number_in(given, &range)
            .map(RetryAttempts::Times)
            .ok_or_else(|| given.refuse(&format!("{} or \"unlimited\"", whole_allowed(&range)))),
    }
}

fn number_in(given: &Given<'_>, range: &RangeInclusive<u32>) -> Option<u32> {
    let number = u32::try_from(given.whole()?).ok()?;
    range.contains(&number).then_some(number)
}

fn whole_allowed(range: &RangeInclusive<u32>) -> String {
    format!("a whole number from {} to {}", range.start(), range.end())
}

/// A duration with a unit.
pub(super) fn duration(range: RangeInclusive<Duration>) -> impl Fn(&Given<'_>) -> Read<Duration> {
    move |given| duration_in(given, &range).ok_or_else(|| given.refuse(&duration_allowed(&range)))
}

/// A duration with a unit, or `"off"`.
pub(super) fn duration_or_off(
    range: RangeInclusive<Duration>,
) -> impl Fn(&Given<'_>) -> Read<Option<Duration>> {
    move |given| match given.text() {
        Some("off") => Ok(None),
        _ => duration_in(given, &range)
            .map(Some)
            .ok_or_else(|| given.refuse(&format!("{}, or \"off\"", duration_allowed(&range)))),
    }
}

fn duration_in(given: &Given<'_>, range: &RangeInclusive<Duration>) -> Option<Duration> {
    let text = given.text()?;
    // A bare "0" has no unit: who writes it for one key writes "15" for the next.
    let has_unit = text.contains(|c: char| c.is_ascii_alphabetic());
    let duration = humantime::parse_duration(text).ok().filter(|_| has_unit)?;
    range.contains(&duration).then_some(duration)
}

fn duration_allowed(range: &RangeInclusive<Duration>) -> String {
    format!(
        "a duration with a unit (\"5s\", \"15m\") from {} to {}",
        in_one_unit(*range.start()),
        in_one_unit(*range.end())
    )
}

/// A duration in the largest unit that fits it exactly: `7d`, `90s`.
fn in_one_unit(duration: Duration) -> String {
    let ms = duration.as_millis();
    let units = [
        (86_400_000, "d"),
        (3_600_000, "h"),
        (60_000, "m"),
        (1000, "s"),
    ];
    let fits = |(unit, _): &&(u128, &str)| ms.is_multiple_of(*unit) && ms > 0;
    match units.iter().find(fits) {
        Some((unit, name)) => format!("{}{name}", ms / unit),
        None if ms == 0 => "0s".to_owned(),
        None => format!("{ms}ms"),
    }
}

/// Bytes: with a unit, or a whole number.
pub(super) fn size(range: RangeInclusive<usize>) -> impl Fn(&Given<'_>) -> Read<usize> {
    move |given| {
        let bytes = match given.whole() {
            Some(bytes) => usize::try_from(bytes).ok(),
            None => given.text().and_then(parse_size),
        };
        bytes.filter(|bytes| range.contains(bytes)).ok_or_else(|| {
            given.refuse(&format!(
                "a size (\"64KiB\", \"1MiB\", or a number of bytes) from {} to {}",
                size_name(*range.start()),
                size_name(*range.end())
            ))
        })
    }
}

const SIZE_UNITS: [(&str, usize); 7] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1000),
    ("B", 1),
];

/// `64KiB` or `64 KiB`: a whole number and a unit.
fn parse_size(text: &str) -> Option<usize> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
    let is_unit = |(name, _): &&(&str, usize)| name.eq_ignore_ascii_case(unit.trim_start());
    let (_, bytes) = SIZE_UNITS.iter().find(is_unit)?;
    number.parse::<usize>().ok()?.checked_mul(*bytes)
}

fn size_name(bytes: usize) -> String {
    let binary = &SIZE_UNITS[..3];
    match binary.iter().find(|(_, unit)| bytes.is_multiple_of(*unit)) {
        Some((name, unit)) => format!("{}{name}", bytes / unit),
        None => format!("{bytes}B"),
    }
}

/// A file's path; a relative one is taken from the configuration file's folder.
pub(super) fn path(given: &Given<'_>) -> Read<PathBuf> {
    given
        .text()
        .filter(|text| !text.is_empty() && !text.contains('\0'))
        .map(|text| given.sources.absolute(text))
        .ok_or_else(|| given.refuse("a file's path, absolute or from this file's folder"))
}

/// A socket's path, which the system allows to be only so long.
pub(super) fn socket(given: &Given<'_>) -> Read<PathBuf> {
    let path = path(given)?;
    if path.as_os_str().len() > SOCKET_PATH_MAX {
        return Err(given.refuse(&format!(
            "a socket's path of at most {SOCKET_PATH_MAX} bytes in full, such as \"/run/orderfeed/admin.sock\""
        )));
    }
    Ok(path)
}

/// The system's limit is 107; a name beside it is needed while the socket is made.
const SOCKET_PATH_MAX: usize = 100;

/// Another webhook's name.
pub(super) fn webhook_name(given: &Given<'_>) -> Read<WebhookName> {
    given
        .text()
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| given.refuse(&format!("the name of a webhook: {}", WebhookName::ALLOWED)))
}

/// Order types and actions, at least one.
pub(super) fn triggers(given: &Given<'_>) -> Read<Vec<Trigger>> {
    list_of(given, TRIGGERS, |item| {
        item.text().and_then(|text| Trigger::from_str(text).ok())
    })
    .and_then(|triggers| {
        if triggers.is_empty() {
            Err(given.refuse_shown("an empty list", TRIGGERS))
        } else {
            Ok(triggers)
        }
    })
}

/// Fields with the values of which each must have one.
pub(super) fn filter(given: &Given<'_>) -> Read<Filter> {
    let fields = given
        .entries()
        .ok_or_else(|| given.refuse_collection(FILTER))?;
    let mut filter = BTreeMap::new();
    let mut problems = Vec::new();
    for (name, values) in fields {
        const VALUES: &str = "a list of texts, whole numbers, true and false, at least one";
        match list_of(&values, VALUES, as_text) {
            Ok(texts) if texts.is_empty() => {
                problems.extend(values.refuse_shown("an empty list", VALUES));
            }
            Ok(texts) => {
                filter.insert(name.to_owned(), texts);
            }
            Err(found) => problems.extend(found),
        }
    }
    all_or_problems(Filter(filter), problems)
}

/// A scalar as the text that an order's field is compared with.
fn as_text(given: &Given<'_>) -> Option<String> {
    let number = || given.whole().map(|number| number.to_string());
    let switch = || given.switch().map(|switch| switch.to_string());
    given
        .text()
        .map(str::to_owned)
        .or_else(number)
        .or_else(switch)
}

/// What is the endpoint's fault from the first.
pub(super) fn hold_on(given: &Given<'_>) -> Read<Vec<HoldOn>> {
    list_of(given, HOLD_ON, |item| match item.text() {
        Some("dns") => Some(HoldOn::Dns),
        Some("connect") => Some(HoldOn::Connect),
        Some("tls") => Some(HoldOn::Tls),
        Some("timeout") => Some(HoldOn::Timeout),
        Some("2xx") => None,
        _ => status(item).map(HoldOn::Status),
    })
}

/// Which answers mean success.
pub(super) fn success_status(given: &Given<'_>) -> Read<SuccessStatus> {
    if given.text() == Some("any") {
        return Ok(SuccessStatus::Any);
    }
    if let Some([only]) = given.items().as_deref()
        && only.text() == Some("any")
    {
        return Ok(SuccessStatus::Any);
    }
    if given.text().is_some() {
        return Err(given.refuse(SUCCESS_STATUS));
    }
    let patterns = list_of(given, SUCCESS_STATUS, status)?;
    if patterns.is_empty() {
        return Err(given.refuse_shown("an empty list", SUCCESS_STATUS));
    }
    Ok(SuccessStatus::Of(patterns))
}

fn status(given: &Given<'_>) -> Option<StatusPattern> {
    match given.text() {
        Some("2xx") => Some(StatusPattern::Class(2)),
        Some("3xx") => Some(StatusPattern::Class(3)),
        Some("4xx") => Some(StatusPattern::Class(4)),
        Some("5xx") => Some(StatusPattern::Class(5)),
        Some(_) => None,
        None => u16::try_from(given.whole()?)
            .ok()
            .filter(|status| (200..=599).contains(status))
            .map(StatusPattern::Exactly),
    }
}

/// A list whose items are all what is allowed; each that is not is told.
fn list_of<T>(
    given: &Given<'_>,
    allowed: &str,
    read: impl Fn(&Given<'_>) -> Option<T>,
) -> Read<Vec<T>> {
    let items = given
        .items()
        .ok_or_else(|| given.refuse_collection(allowed))?;
    let mut values = Vec::new();
    let mut problems = Vec::new();
    for item in items {
        match read(&item) {
            Some(value) => values.push(value),
            None => problems.extend(item.refuse(allowed)),
        }
    }
    all_or_problems(values, problems)
}

pub(super) fn all_or_problems<T>(value: T, problems: Vec<Problem>) -> Read<T> {
    if problems.is_empty() {
        Ok(value)
    } else {
        Err(problems)
    }
}

/// Where a webhook's requests go: `http` or `https`, a host, and nothing that is a secret.
pub(super) fn url(given: &Given<'_>) -> Read<Url> {
    let Some(text) = given.text() else {
        return Err(given.refuse(URL));
    };
    let shown = quoted(&without_secrets(text));
    let blank = |c: char| c.is_whitespace() || c.is_control();
    let url = Url::parse(text)
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
        .filter(|_| !text.contains(blank))
        .ok_or_else(|| given.refuse_shown(&shown, URL))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(given.refuse_shown(
            &shown,
            "a url without user and password; the key authorization takes them",
        ));
    }
    if url.fragment().is_some() {
        return Err(given.refuse_shown(&shown, "a url without \"#\" and what follows it"));
    }
    Ok(url)
}

/// That the url is plain `http` to another machine.
pub(super) fn plain_http(given: &Given<'_>) -> Vec<Problem> {
    given.refuse_shown(
        &quoted(&without_secrets(given.text().unwrap_or_default())),
        "https://, http:// to this machine (127.0.0.0/8, ::1, localhost), or http:// with allow_http = true",
    )
}

/// Whether what is sent there stays on this machine.
pub(super) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// A url, also a broken one, without user and password, query and fragment.
fn without_secrets(url: &str) -> String {
    let (rest, query) = match url.find(['?', '#']) {
        Some(at) => (&url[..at], format!("{}***", &url[at..=at])),
        None => (url, String::new()),
    };
    // A password may hold a "?" or "#": then what stands before the "@" is cut off here too.
    match (rest.rfind('@'), url.contains('@')) {
        (Some(at), _) => {
            let start = rest.find("//").map_or(0, |slashes| slashes + 2).min(at);
            format!("{}***{}{query}", &rest[..start], &rest[at..])
        }
        (None, true) => {
            let start = rest.find("//").map_or(0, |slashes| slashes + 2);
            format!("{}***", &rest[..start])
        }
        (None, false) => format!("{rest}{query}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_shown_without_what_may_be_secret() {
        for (url, expected) in [
            ("https://example.com/a", "https://example.com/a"),
            ("https://me:key@example.com/a", "https://***@example.com/a"),
            ("me:key@example.com", "***@example.com"),
            (
                "https://example.com/a?code=key",
                "https://example.com/a?***",
            ),
            ("https://example.com/a#key", "https://example.com/a#***"),
            ("https://me:k?ey@example.com", "https://***"),
            ("https:/me:key@example.com", "***@example.com"),
            ("ht//me@x//y:key@example.com", "ht//***@example.com"),
        ] {
            assert_eq!(without_secrets(url), expected);
        }
    }

    #[test]
    fn sizes_have_units() {
        for (text, expected) in [
            ("1000B", Some(1000)),
            ("64KiB", Some(65_536)),
            ("64 kib", Some(65_536)),
            ("1MB", Some(1_000_000)),
            ("1MiB", Some(1_048_576)),
            ("1000", None),
            ("1.5MiB", None),
            ("MiB", None),
            ("99999999999999999999B", None),
            ("1Mi", None),
            ("", None),
        ] {
            assert_eq!(parse_size(text), expected, "{text}");
        }
    }

    #[test]
    fn bounds_are_named_in_one_unit() {
        for (ms, expected) in [
            (0, "0s"),
            (10, "10ms"),
            (1500, "1500ms"),
            (90_000, "90s"),
            (3_600_000, "1h"),
            (2_592_000_000, "30d"),
        ] {
            assert_eq!(in_one_unit(Duration::from_millis(ms)), expected);
        }
        assert_eq!(size_name(1024), "1KiB");
        assert_eq!(size_name(64 << 20), "64MiB");
    }
}
