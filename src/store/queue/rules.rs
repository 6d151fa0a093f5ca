//! The queue's rules, asked before anything is queued.
//!
//! They are what the queue's triggers say, and asking those is the only way to agree with them:
//! an order is inserted into an empty queue in memory, where nothing is ever committed. What
//! only the file knows (which dedup keys it holds) is not asked.

use std::path::Path;

use rusqlite::Connection;

use super::{INSERT, KIND, NewOrder};
use crate::feed::order::{Action, Order, Seq};
use crate::store::{During, Error};

/// After so many orders the queue in memory is emptied.
const ORDERS_MAX: usize = 1_000;

/// Tells which orders the queue would refuse.
#[derive(Debug)]
pub struct Rules {
    conn: Connection,
    orders: usize,
}

impl Rules {
    /// The rules of a new queue.
    pub fn new() -> Result<Self, Error> {
        let conn =
            Connection::open_in_memory().during("asking for its rules", Path::new(NOWHERE))?;
        let rules = Self { conn, orders: 0 };
        rules.execute(KIND.schema)?;
        rules.execute("BEGIN")?;
        Ok(rules)
    }

    /// Why the order can't be queued or would never be delivered, if so.
    pub fn refusal(&mut self, order: &NewOrder) -> Result<Option<String>, Error> {
        let action = order.action.as_deref().unwrap_or(Action::SUBMIT);
        let parsed = Order::parse(
            Seq::START,
            order.order_type,
            action.as_bytes(),
            order.body.as_bytes(),
        );
        if parsed.is_ok() && order.dedup_key.is_none() && is_plain(&order.body) {
            return Ok(None);
        }
        let parsed = parsed.err().map(|undeliverable| undeliverable.to_string());
        Ok(match (self.insert(order)?, parsed) {
            // The parser says more: where the JSON breaks off, or that it never began.
            (Some(message), Some(parsed)) if message == NOT_JSON => {
                match parsed.strip_prefix("body: ") {
                    Some(detail) if order.body.starts_with('{') => {
                        Some(format!("{message}: {detail}"))
                    }
                    _ => Some(parsed),
                }
            }
            (message, parsed) => message.or(parsed),
        })
    }

    /// What the queue's triggers say.
    fn insert(&mut self, order: &NewOrder) -> Result<Option<String>, Error> {
        if self.orders == ORDERS_MAX {
            self.execute("ROLLBACK; BEGIN")?;
            self.orders = 0;
        }
        self.orders += 1;
        let inserted = self
            .conn
            .prepare_cached(INSERT)
            .and_then(|mut insert| insert.execute(order.values()));
        match inserted {
            Ok(_) => Ok(None),
            Err(rusqlite::Error::SqliteFailure(error, Some(message)))
                if error.code == rusqlite::ErrorCode::ConstraintViolation =>
            {
                Ok(Some(message))
            }
            Err(error) => Err(error).during("asking for its rules", Path::new(NOWHERE)),
        }
    }

    fn execute(&self, statements: &str) -> Result<(), Error> {
        self.conn
            .execute_batch(statements)
            .during("asking for its rules", Path::new(NOWHERE))
    }
}

/// What the queue in memory is called in errors.
const NOWHERE: &str = "a queue in memory";

/// What the queue says of all that is no JSON.
const NOT_JSON: &str = "body: must be valid JSON";

/// Whether the triggers can find nothing in an order that its parser took. They can in one that
/// is too large or too deep, and in one with escaped ASCII letters, NULs or halves of surrogate
/// pairs. Asking them takes ten times as long as parsing, so that this is asked first.
fn is_plain(body: &str) -> bool {
    let escapes_any = || {
        body.match_indices("\\u").any(|(at, _)| {
            matches!(
                body.as_bytes()[at + 2..],
                [b'0', b'0', b'0' | b'4'..=b'7', ..] | [b'd' | b'D', ..]
            )
        })
    };
    let opens = |byte: &u8| matches!(byte, b'{' | b'[');
    body.len() <= PLAIN_BYTES_MAX
        && !escapes_any()
        && body.bytes().filter(|byte| opens(byte)).count() <= PLAIN_DEPTH_MAX
}

/// Far below what the queue takes (16 MiB), and what SQLite does (a depth of 1,000).
const PLAIN_BYTES_MAX: usize = 1 << 20;
const PLAIN_DEPTH_MAX: usize = 500;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::feed::order::OrderType;

    fn order(body: String) -> NewOrder {
        NewOrder {
            order_type: OrderType::WorkOrder,
            action: None,
            dedup_key: None,
            body,
        }
    }

    const NAMES: [&str; 6] = [
        "TrackingNumber",
        "TrackingNumber",
        r"Track\u0069ngNumber",
        r"\u0054rackingNumber",
        "a",
        r"\\u0041",
    ];

    const VALUES: [&str; 22] = [
        "1",
        "-0",
        "-9223372036854775808",
        "9223372036854775808",
        "1.0",
        "1e3",
        "1E400",
        "null",
        "\"\"",
        "\"x\"",
        "\"\u{7f}\"",
        "\"\u{85}\"",
        "\"\u{1F600}\u{fffe}\"",
        r#""a\nb""#,
        r#""\u0000""#,
        r#""\u00fc\/\\""#,
        r#""\ud83d\ude00""#,
        r#""\uDE00""#,
        r#""\\ud83d""#,
        r#"{"TrackingNumber":1}"#,
        r#"[{"TrackingNumber":1},[]]"#,
        r#""{\"TrackingNumber\":1}""#,
    ];

    proptest! {
        /// What is taken without asking the triggers, they take.
        #[test]
        fn the_short_way_agrees_with_the_triggers(
            members in prop::collection::vec((0..NAMES.len(), 0..VALUES.len()), 0..4),
            blank in prop::sample::select(vec!["", " ", "\t", "\r\n", "\u{a0}", "\u{b}"]),
        ) {
            let members: Vec<String> = members
                .into_iter()
                .map(|(name, value)| format!("\"{}\"{blank}:{}", NAMES[name], VALUES[value]))
                .collect();
            let order = order(format!("{blank}{{{}}}", members.join(",")));
            let mut rules = Rules::new().expect("rules");
            if rules.refusal(&order).expect("an answer").is_none() {
                prop_assert_eq!(rules.insert(&order).expect("an answer"), None);
            }
        }
    }

    #[test]
    fn the_queue_in_memory_does_not_grow() {
        let mut rules = Rules::new().expect("rules");
        let escaped = order(r#"{"TrackingNumber":1,"a":"\u0041"}"#.to_owned());
        for _ in 0..2 * ORDERS_MAX + 7 {
            assert_eq!(rules.refusal(&escaped).expect("an answer"), None);
        }
        let count: usize = rules
            .conn
            .query_row("SELECT count(*) FROM orders", [], |row| row.get(0))
            .map(|count: u32| count as usize)
            .expect("a count");
        assert_eq!(count, 7);
    }
}
