//! What one order of the queue is, and what makes a row undeliverable.
//!
//! The queue is written by other people's programs. A row becomes an [`Order`] here or nowhere:
//! whoever holds one holds text that may be sent as it stands.

use std::fmt;
use std::ops::{Index, IndexMut};
use std::str::FromStr;

use serde::Deserialize;
use serde_json::value::RawValue;

/// One order: a row of the queue that can be delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// Its place in the queue.
    pub seq: Seq,
    /// What kind of order it is.
    pub order_type: OrderType,
    /// What happened to it.
    pub action: Action,
    /// The stored JSON, one object, without the blanks around it.
    pub body: String,
}

impl Order {
    /// The order in a row of the queue, or why it can't be delivered.
    ///
    /// Most of it the queue's triggers have refused already; this catches what no trigger can
    /// (text that is not UTF-8, lone surrogates) and what a tampered file holds.
    pub fn parse(
        seq: Seq,
        order_type: OrderType,
        action: &[u8],
        body: &[u8],
    ) -> Result<Self, Undeliverable> {
        Self::read(seq, order_type, action, body, |text| {
            tracking_number_of(text).map(drop)
        })
    }

    /// The same for a row that came past the queue's triggers, which saw to it that its body is
    /// one JSON object with a tracking number: only what no trigger can catch is looked for, in a
    /// tenth of the time.
    pub fn vouched(
        seq: Seq,
        order_type: OrderType,
        action: &[u8],
        body: &[u8],
    ) -> Result<Self, Undeliverable> {
        Self::read(seq, order_type, action, body, |_object| Ok(()))
    }

    fn read(
        seq: Seq,
        order_type: OrderType,
        action: &[u8],
        body: &[u8],
        check: impl FnOnce(&str) -> Result<(), Undeliverable>,
    ) -> Result<Self, Undeliverable> {
        let action = str::from_utf8(action)
            .ok()
            .and_then(|text| text.parse().ok())
            .ok_or_else(|| {
                Undeliverable("action: must be 1 to 64 of A-Z a-z 0-9 _ -".to_owned())
            })?;
        let text = str::from_utf8(body).map_err(|error| {
            Undeliverable(format!(
                "body: not UTF-8 text (byte {})",
                error.valid_up_to().saturating_add(1)
            ))
        })?;
        check(text)?;
        if let Some(at) = lone_surrogate(text) {
            return Err(Undeliverable(format!(
                "body: half of a surrogate pair at byte {}, which is no character",
                at.saturating_add(1)
            )));
        }
        Ok(Self {
            seq,
            order_type,
            action,
            body: text.trim_matches(JSON_BLANKS).to_owned(),
        })
    }

    /// Its tracking number, read from its JSON.
    pub fn tracking_number(&self) -> Result<TrackingNumber, Undeliverable> {
        tracking_number_of(&self.body)
    }
}

/// Why a row can't be delivered, for people: the column, then what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Undeliverable(pub String);

/// What JSON calls insignificant white space.
const JSON_BLANKS: [char; 4] = [' ', '\t', '\n', '\r'];

/// A place in the queue: given by the queue, contiguous, never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Seq(pub i64);

impl Seq {
    /// The place before the first order.
    pub const START: Self = Self(0);

    /// The place after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The place before this one.
    #[must_use]
    pub const fn before(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What kind of order a row is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OrderType {
    /// A purchase order (PO): goods bought from a supplier.
    PurchaseOrder,
    /// A transfer order (TO): goods moved between own locations.
    TransferOrder,
    /// A work order (WO): goods made in-house.
    WorkOrder,
}

impl OrderType {
    /// All of them, purchase orders first.
    pub const ALL: [Self; 3] = [Self::PurchaseOrder, Self::TransferOrder, Self::WorkOrder];

    /// The contract's word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PurchaseOrder => "purchase_order",
            Self::TransferOrder => "transfer_order",
            Self::WorkOrder => "work_order",
        }
    }
}

impl fmt::Display for OrderType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for OrderType {
    type Err = Undeliverable;

    fn from_str(text: &str) -> Result<Self, Undeliverable> {
        Self::ALL
            .into_iter()
            .find(|order_type| order_type.as_str() == text)
            .ok_or_else(|| {
                Undeliverable(
                    "order_type: must be purchase_order, transfer_order or work_order".to_owned(),
                )
            })
    }
}

/// One value for each order type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PerType<T>([T; 3]);

impl<T> PerType<T> {
    /// Made by asking for each order type in turn.
    pub fn from_fn(mut value: impl FnMut(OrderType) -> T) -> Self {
        Self(OrderType::ALL.map(&mut value))
    }

    /// Each order type with its value, purchase orders first.
    pub fn iter(&self) -> impl Iterator<Item = (OrderType, &T)> {
        OrderType::ALL.into_iter().zip(&self.0)
    }
}

impl<T> Index<OrderType> for PerType<T> {
    type Output = T;

    fn index(&self, order_type: OrderType) -> &T {
        &self.0[order_type as usize]
    }
}

impl<T> IndexMut<OrderType> for PerType<T> {
    fn index_mut(&mut self, order_type: OrderType) -> &mut T {
        &mut self.0[order_type as usize]
    }
}

/// What happened to an order: `submit`, or the producer's own word; 1 to 64 of `A-Z a-z 0-9 _ -`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Action(String);

impl Action {
    /// The action of an order that says nothing else.
    pub const SUBMIT: &'static str = "submit";

    /// The word itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is the default, `submit`.
    pub fn is_submit(&self) -> bool {
        self.0 == Self::SUBMIT
    }
}

impl Default for Action {
    fn default() -> Self {
        Self(Self::SUBMIT.to_owned())
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for Action {
    type Err = Undeliverable;

    fn from_str(text: &str) -> Result<Self, Undeliverable> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        if (1..=64).contains(&text.len()) && text.bytes().all(allowed) {
            Ok(Self(text.to_owned()))
        } else {
            Err(Undeliverable(
                "action: must be 1 to 64 of A-Z a-z 0-9 _ -".to_owned(),
            ))
        }
    }
}

/// An order's `TrackingNumber`, compared as text; with the order type it tells orders apart.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrackingNumber(String);

impl TrackingNumber {
    /// The number as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TrackingNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// The member that an order must have.
#[derive(Deserialize)]
struct Identified<'a> {
    #[serde(rename = "TrackingNumber", borrow)]
    tracking_number: &'a RawValue,
}

/// The tracking number of an order's JSON; an error also if that is not one JSON object.
fn tracking_number_of(body: &str) -> Result<TrackingNumber, Undeliverable> {
    if !body.trim_start_matches(JSON_BLANKS).starts_with('{') {
        return Err(Undeliverable("body: must be one JSON object".to_owned()));
    }
    let identified: Identified<'_> =
        serde_json::from_str(body).map_err(|error| Undeliverable(format!("body: {error}")))?;
    let raw = identified.tracking_number.get();
    let text = if raw.starts_with('"') {
        serde_json::from_str::<String>(raw).ok().filter(|text| {
            let characters = text.chars().count();
            (1..=200).contains(&characters) && !text.chars().any(char::is_control)
        })
    } else {
        raw.parse::<i64>().ok().map(|number| number.to_string())
    };
    text.map(TrackingNumber).ok_or_else(|| {
        Undeliverable(
            "TrackingNumber: must be a 64-bit integer, or 1 to 200 characters without control characters"
                .to_owned(),
        )
    })
}

/// Where a `\uD800`–`\uDFFF` escape stands without its other half, if anywhere: JSON's grammar
/// lets it pass, and receivers' parsers do not. Expects valid JSON.
fn lone_surrogate(body: &str) -> Option<usize> {
    let escape_at = |at: usize| {
        let digits = body.get(at..)?.strip_prefix("\\u")?.get(..4)?;
        u16::from_str_radix(digits, 16).ok()
    };
    let mut at = 0_usize;
    while let Some(offset) = body.get(at..)?.find('\\') {
        let start = at.saturating_add(offset);
        at = match escape_at(start) {
            Some(0xD800..=0xDBFF) => match escape_at(start.saturating_add(6)) {
                Some(0xDC00..=0xDFFF) => start.saturating_add(12),
                _ => return Some(start),
            },
            Some(0xDC00..=0xDFFF) => return Some(start),
            Some(_) => start.saturating_add(6),
            None => start.saturating_add(2),
        };
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(body: &[u8], expected: &str) {
        let found = match Order::parse(Seq(1), OrderType::PurchaseOrder, b"submit", body) {
            Ok(order) => {
                let number = order.tracking_number().expect("it was found before");
                format!("{number} {}", order.body)
            }
            Err(error) => error.to_string(),
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn an_order_is_its_stored_text() {
        check(
            b" {\"a\": 12345678901234567890.10, \"TrackingNumber\": 7 }\n",
            "7 {\"a\": 12345678901234567890.10, \"TrackingNumber\": 7 }",
        );
        check(
            br#"{"TrackingNumber":"PO-\u00e4\ud83d\ude00"}"#,
            "PO-\u{e4}\u{1F600} {\"TrackingNumber\":\"PO-\\u00e4\\ud83d\\ude00\"}",
        );
        check(br#"{"TrackingNumber":-0}"#, r#"0 {"TrackingNumber":-0}"#);
    }

    #[test]
    fn what_no_trigger_can_catch_is_named() {
        check(
            b"{\"TrackingNumber\":1,\"x\":\"\xff\"}",
            "body: not UTF-8 text (byte 26)",
        );
        check(
            br#"{"TrackingNumber":1,"x":"\\\ud800"}"#,
            "body: half of a surrogate pair at byte 28, which is no character",
        );
        check(
            br#"{"TrackingNumber":1,"x":"\ude00\ud800"}"#,
            "body: half of a surrogate pair at byte 26, which is no character",
        );
        check(b"[1]", "body: must be one JSON object");
        check(
            b"{\"TrackingNumber\":1}\0",
            "body: trailing characters at line 1 column 21",
        );
        check(
            b"{}",
            "body: missing field `TrackingNumber` at line 1 column 2",
        );
        check(
            br#"{"TrackingNumber":1,"TrackingNumber":2}"#,
            "body: duplicate field `TrackingNumber` at line 1 column 36",
        );
    }

    #[test]
    fn a_tracking_number_is_a_64_bit_integer_or_a_short_text() {
        let refused = "TrackingNumber: must be a 64-bit integer, or 1 to 200 characters without control characters";
        for bad in [
            "9223372036854775808",
            "1.0",
            "1e3",
            "true",
            "null",
            "\"\"",
            "\"a\\u0000\"",
            "[1]",
        ] {
            check(format!("{{\"TrackingNumber\":{bad}}}").as_bytes(), refused);
        }
        let longest = "x".repeat(200);
        let body = format!("{{\"TrackingNumber\":\"{longest}\"}}");
        check(body.as_bytes(), &format!("{longest} {body}"));
        let body = format!("{{\"TrackingNumber\":\"{longest}x\"}}");
        check(body.as_bytes(), refused);
    }
}
