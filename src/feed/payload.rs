//! Payloads: which orders travel together (D1), under which id, and the bytes that they become.
//!
//! The bytes of the `orders` format are a pure function of the orders and of this code's
//! [`ENCODING`]; so they are not stored, and are made again for each attempt. The checksum that
//! was stored when the payload was sealed proves that they are the same.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;
use twox_hash::XxHash3_64;
use ulid::Ulid;

use super::order::{Action, Order, OrderType, Seq};
use super::policy::Policy;
use super::timestamp::Timestamp;

/// The version of [`encode`]: it is stored with each payload, and a payload is only ever made
/// again by the version that sealed it.
pub const ENCODING: u8 = 1;

/// A payload as it was sealed: what does not change while it is sent, retried and resent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload {
    /// Its id, the same over retries and whole resends.
    pub id: PayloadId,
    /// The type of all its orders.
    pub order_type: OrderType,
    /// The action of all its orders.
    pub action: Action,
    /// Its orders, in the order in which they entered the queue.
    pub members: Members,
    /// The version of the encoding that made its bytes.
    pub encoding: u8,
    /// The [`checksum`] of its bytes.
    pub checksum: u64,
}

/// A payload's id: `pl_` and a ULID, 26 characters that sort by time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PayloadId(Ulid);

impl PayloadId {
    /// A new id; `dice` must be random.
    pub fn new(now: Timestamp, dice: [u8; 10]) -> Self {
        let random = dice
            .iter()
            .fold(0_u128, |random, &byte| random << 8 | u128::from(byte));
        let ms = u64::try_from(now.ms()).unwrap_or(0);
        Self(Ulid::from_parts(ms, random))
    }
}

impl PayloadId {
    /// When it was made, on the ledger's clock.
    pub fn made_at(self) -> Timestamp {
        Timestamp::from_ms(i64::try_from(self.0.timestamp_ms()).unwrap_or(i64::MAX))
    }

    /// The first of all ids that could be made then.
    pub fn first_of(made_at: Timestamp) -> Self {
        Self::new(made_at, [0; 10])
    }
}

impl fmt::Display for PayloadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pl_{}", self.0)
    }
}

impl FromStr for PayloadId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.strip_prefix("pl_")
            .and_then(|ulid| Ulid::from_string(ulid).ok())
            .map(Self)
            .ok_or_else(|| {
                "must be pl_ and 26 characters, as in pl_01K0ABCDEFGHJKMNPQRSTVWXYZ".to_owned()
            })
    }
}

/// What becomes of a payload, in the order of its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PayloadState {
    /// It waits for its retry, or for the webhook to send again. A failed attempt brings it here.
    Pending,
    /// An attempt was begun and is not settled. Sealing brings it here, and each retry.
    InFlight,
    /// The receiver took it.
    Delivered,
    /// Its attempts are used up (D11), or its orders are gone.
    Failed,
    /// An operator gave it up.
    Discarded,
}

impl PayloadState {
    /// All of them, in the order of their life.
    pub const ALL: [Self; 5] = [
        Self::Pending,
        Self::InFlight,
        Self::Delivered,
        Self::Failed,
        Self::Discarded,
    ];

    /// The contract's word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::InFlight => "in_flight",
            Self::Delivered => "delivered",
            Self::Failed => "failed",
            Self::Discarded => "discarded",
        }
    }
}

/// The seqs of a payload's orders, ascending; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Members(Arc<[Seq]>);

impl Members {
    /// Ascending seqs; `None` if they are not, or are none.
    pub fn new(seqs: Vec<Seq>) -> Option<Self> {
        let ascending = seqs.windows(2).all(|pair| pair[0] < pair[1]);
        (ascending && !seqs.is_empty()).then(|| Self(seqs.into()))
    }

    /// The seqs, ascending.
    pub fn seqs(&self) -> &[Seq] {
        &self.0
    }

    /// Those of them that are to be kept; `None` if none are.
    #[must_use]
    pub fn only(&self, keep: impl Fn(Seq) -> bool) -> Option<Self> {
        let kept = self.0.iter().copied().filter(|&seq| keep(seq));
        Self::new(kept.collect())
    }

    /// The first one.
    pub fn first(&self) -> Seq {
        self.0.first().copied().unwrap_or_default()
    }

    /// The last one.
    pub fn last(&self) -> Seq {
        self.0.last().copied().unwrap_or_default()
    }

    /// Whether the order is one of them.
    pub fn contains(&self, seq: Seq) -> bool {
        self.0.binary_search(&seq).is_ok()
    }

    /// As the ledger keeps them: each seq's distance from the one before, 7 bits a byte, low
    /// bits first, the high bit set on all bytes of a number but its last (LEB128). A run of
    /// neighbours costs a byte an order.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.0.len().saturating_add(8));
        let mut previous = 0;
        for &Seq(seq) in self.0.iter() {
            let mut distance = seq.abs_diff(previous);
            while distance > 0x7f {
                bytes.push(0x80 | low_bits(distance));
                distance >>= 7;
            }
            bytes.push(low_bits(distance));
            previous = seq;
        }
        bytes
    }

    /// The reverse of [`Members::to_bytes`]; `None` for bytes that it did not make.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut seqs = Vec::with_capacity(bytes.len());
        let (mut previous, mut distance, mut shift) = (0_i64, 0_i64, 0_u32);
        for &byte in bytes {
            // High bits that are all zero are left out.
            if byte == 0 && shift > 0 {
                return None;
            }
            let bits = i64::from(byte & 0x7f);
            let shifted = bits
                .checked_shl(shift)
                .filter(|&shifted| shifted >> shift == bits)?;
            distance |= shifted;
            if byte & 0x80 == 0 {
                previous = previous.checked_add(distance)?;
                seqs.push(Seq(previous));
                (distance, shift) = (0, 0);
            } else {
                shift = shift.checked_add(7)?;
            }
        }
        if shift != 0 {
            return None;
        }
        Self::new(seqs)
    }
}

/// The lowest seven bits.
fn low_bits(number: u64) -> u8 {
    number.to_le_bytes()[0] & 0x7f
}

/// The orders that go into the next payload, while they are being picked (D1).
#[derive(Debug)]
pub struct Batch {
    order_type: OrderType,
    action: Option<Action>,
    seqs: Vec<Seq>,
    body: BodyWriter,
    items_max: usize,
    bytes_max: usize,
}

impl Batch {
    /// Nothing picked yet.
    pub fn new(order_type: OrderType, policy: &Policy) -> Self {
        Self {
            order_type,
            action: None,
            seqs: Vec::new(),
            body: BodyWriter::default(),
            items_max: policy.payload_max_items,
            bytes_max: policy.payload_max_bytes,
        }
    }

    /// Takes the order, unless it no longer fits: too many, too large (the first one always
    /// fits), or another action (D1). Orders are offered in the order of their seqs.
    pub fn offer(&mut self, order: &Order) -> bool {
        match &self.action {
            None => {
                self.body.open(self.order_type, &order.action);
                self.action = Some(order.action.clone());
            }
            Some(action) => {
                if *action != order.action
                    || self.seqs.len() >= self.items_max
                    || self.body.len_with(&order.body) > self.bytes_max
                {
                    return false;
                }
            }
        }
        self.body.push(&order.body);
        self.seqs.push(order.seq);
        true
    }

    /// Whether another order would find no room for its number.
    pub fn is_full(&self) -> bool {
        self.seqs.len() >= self.items_max
    }

    /// What was picked, if anything.
    pub fn close(self) -> Option<Picked> {
        let body = self.body.close();
        Some(Picked {
            order_type: self.order_type,
            action: self.action?,
            members: Members::new(self.seqs)?,
            checksum: checksum(&body),
            body,
        })
    }
}

/// A payload to be, before it has an id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picked {
    /// The type of all its orders.
    pub order_type: OrderType,
    /// The action of all its orders.
    pub action: Action,
    /// Its orders.
    pub members: Members,
    /// The [`checksum`] of its bytes.
    pub checksum: u64,
    /// Its bytes.
    pub body: Bytes,
}

impl Picked {
    /// The payload, now that it has an id; and its bytes.
    pub fn seal(self, id: PayloadId) -> (Payload, Bytes) {
        let payload = Payload {
            id,
            order_type: self.order_type,
            action: self.action,
            members: self.members,
            encoding: ENCODING,
            checksum: self.checksum,
        };
        (payload, self.body)
    }
}

/// The `orders` format (contract, section 4): `{"DataType":…,"Data":[…]}`, the orders' stored
/// JSON spliced in unchanged.
pub fn encode<'a>(
    order_type: OrderType,
    action: &Action,
    bodies: impl IntoIterator<Item = &'a str>,
) -> Bytes {
    let mut body = BodyWriter::default();
    body.open(order_type, action);
    for order in bodies {
        body.push(order);
    }
    body.close()
}

/// What tells two bodies apart: XXH3, 64 bits.
pub fn checksum(body: &[u8]) -> u64 {
    XxHash3_64::oneshot(body)
}

/// A body of the `orders` format, while it grows.
#[derive(Debug, Default)]
struct BodyWriter(Vec<u8>);

impl BodyWriter {
    const CLOSING: &str = "]}";

    fn open(&mut self, order_type: OrderType, action: &Action) {
        self.0.extend_from_slice(b"{\"DataType\":\"");
        self.0.extend_from_slice(order_type.as_str().as_bytes());
        if !action.is_submit() {
            self.0.push(b'.');
            self.0.extend_from_slice(action.as_str().as_bytes());
        }
        self.0.extend_from_slice(b"\",\"Data\":[");
    }

    fn push(&mut self, order: &str) {
        if self.0.last() != Some(&b'[') {
            self.0.push(b',');
        }
        self.0.extend_from_slice(order.as_bytes());
    }

    /// The length that the closed body would have with this order, too.
    fn len_with(&self, order: &str) -> usize {
        [self.0.len(), 1, order.len(), Self::CLOSING.len()]
            .iter()
            .fold(0, |sum: usize, part| sum.saturating_add(*part))
    }

    fn close(mut self) -> Bytes {
        self.0.extend_from_slice(Self::CLOSING.as_bytes());
        self.0.into()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn order(seq: i64, action: &str, body: &str) -> Order {
        Order::parse(
            Seq(seq),
            OrderType::PurchaseOrder,
            action.as_bytes(),
            body.as_bytes(),
        )
        .expect("an order")
    }

    fn pick(policy: &Policy, orders: &[Order]) -> Picked {
        let mut batch = Batch::new(OrderType::PurchaseOrder, policy);
        for order in orders {
            if !batch.offer(order) {
                break;
            }
        }
        batch.close().expect("the first order always fits")
    }

    fn limits(payload_max_items: usize, payload_max_bytes: usize) -> Policy {
        Policy {
            payload_max_items,
            payload_max_bytes,
            ..Policy::default()
        }
    }

    #[test]
    fn the_stored_json_is_passed_on_byte_for_byte() {
        let orders = [
            order(1, "submit", "{\"TrackingNumber\": 123,\n \"Qty\": 1.50}"),
            order(
                2,
                "submit",
                r#"{"z":12345678901234567890,"TrackingNumber":124}"#,
            ),
        ];
        let picked = pick(&limits(100, 1_000), &orders);
        let expected = "{\"DataType\":\"purchase_order\",\"Data\":[{\"TrackingNumber\": 123,\n \"Qty\": 1.50},{\"z\":12345678901234567890,\"TrackingNumber\":124}]}";
        assert_eq!(picked.body, expected);
        let again = encode(
            picked.order_type,
            &picked.action,
            orders.iter().map(|order| order.body.as_str()),
        );
        assert_eq!(again, expected);
    }

    #[test]
    fn an_action_other_than_submit_is_part_of_the_data_type() {
        let picked = pick(
            &limits(1, 1),
            &[order(1, "update", r#"{"TrackingNumber":1}"#)],
        );
        assert_eq!(
            picked.body,
            r#"{"DataType":"purchase_order.update","Data":[{"TrackingNumber":1}]}"#
        );
    }

    #[test]
    fn d1_a_payload_ends_at_its_limits_and_where_the_action_changes() {
        let body = r#"{"TrackingNumber":1}"#;
        let two = [order(1, "submit", body), order(2, "submit", body)];
        let seqs = |policy: &Policy, orders: &[Order]| {
            pick(policy, orders)
                .members
                .seqs()
                .iter()
                .map(|seq| seq.0)
                .collect::<Vec<_>>()
        };
        let whole = pick(&limits(2, 1_000), &two).body.len();
        assert_eq!(seqs(&limits(2, whole), &two), [1, 2]);
        assert_eq!(seqs(&limits(2, whole - 1), &two), [1]);
        assert_eq!(seqs(&limits(1, whole), &two), [1]);
        // A single larger one travels alone.
        assert_eq!(seqs(&limits(2, 1), &two), [1]);
        let changed = [
            order(1, "submit", body),
            order(2, "update", body),
            order(3, "submit", body),
        ];
        assert_eq!(seqs(&limits(3, 1_000), &changed), [1]);
    }

    #[test]
    fn members_have_just_one_spelling() {
        let two = Members::new(vec![Seq(1), Seq(2)]);
        assert_eq!(Members::from_bytes(&[1, 1]), two);
        assert_eq!(Members::from_bytes(&[1, 0x81, 0]), None);
        assert_eq!(Members::from_bytes(&[0x80, 0]), None);
    }

    #[test]
    fn a_payload_id_sorts_by_time_and_reads_back() {
        let early = PayloadId::new(Timestamp::from_ms(1_763_000_000_000), [0xff; 10]);
        let late = PayloadId::new(Timestamp::from_ms(1_763_000_000_001), [0; 10]);
        assert!(early < late && early.to_string() < late.to_string());
        assert_eq!(late.to_string().parse(), Ok(late));
        assert_eq!(late.to_string().len(), 29);
        assert!("01K9WPVG01".parse::<PayloadId>().is_err());
    }

    /// Orders as producers queue them: the seqs ascend, with gaps; few actions, many sizes.
    fn orders() -> impl Strategy<Value = Vec<Order>> {
        let one = (1..4_i64, 0..3_usize, 0..40_usize, any::<i64>());
        prop::collection::vec(one, 1..40).prop_map(|rows| {
            let mut seq = 0;
            rows.into_iter()
                .map(|(gap, action, blanks, number)| {
                    seq += gap;
                    let action = ["submit", "update", "destroy"][action];
                    let blanks = " ".repeat(blanks);
                    let body = format!("{{\"TrackingNumber\":{blanks}{number}}}");
                    order(seq, action, &body)
                })
                .collect()
        })
    }

    /// One payload after another, until nothing is left.
    fn pick_all(policy: &Policy, orders: &[Order]) -> Vec<Picked> {
        let mut rest = orders;
        let mut all = Vec::new();
        while !rest.is_empty() {
            let picked = pick(policy, rest);
            rest = &rest[picked.members.seqs().len()..];
            all.push(picked);
        }
        all
    }

    /// A string as it may stand in an order: with escapes, and beyond ASCII.
    fn json_string() -> impl Strategy<Value = String> {
        any::<String>().prop_map(|text| serde_json::to_string(&text).expect("a string"))
    }

    proptest! {
        #[test]
        fn d1_nothing_is_lost_and_the_order_is_kept(
            orders in orders(), items_max in 1..10_usize, bytes_max in 1..500_usize,
        ) {
            let picked = pick_all(&limits(items_max, bytes_max), &orders);
            let seqs = picked.iter().flat_map(|picked| picked.members.seqs()).copied();
            let queued: Vec<Seq> = orders.iter().map(|order| order.seq).collect();
            prop_assert_eq!(seqs.collect::<Vec<_>>(), queued);
        }

        #[test]
        fn d1_a_payload_keeps_its_limits_and_is_as_full_as_they_let_it(
            orders in orders(), items_max in 1..10_usize, bytes_max in 1..500_usize,
        ) {
            let mut rest = &orders[..];
            for picked in pick_all(&limits(items_max, bytes_max), &orders) {
                let count = picked.members.seqs().len();
                let (taken, left) = rest.split_at(count);
                prop_assert!(count <= items_max);
                prop_assert!(count == 1 || picked.body.len() <= bytes_max);
                prop_assert!(taken.iter().all(|order| order.action == picked.action));
                if let Some(next) = left.first() {
                    let bodies = rest[..=count].iter().map(|order| &*order.body);
                    let with_next = encode(picked.order_type, &picked.action, bodies).len();
                    prop_assert!(
                        next.action != picked.action || count == items_max || with_next > bytes_max
                    );
                }
                rest = left;
            }
        }

        #[test]
        fn a_payload_is_made_again_byte_for_byte(orders in orders(), bytes_max in 1..2_000_usize) {
            let picked = pick(&limits(40, bytes_max), &orders);
            let members = &orders[..picked.members.seqs().len()];
            let bodies = members.iter().map(|order| &*order.body);
            let again = encode(picked.order_type, &picked.action, bodies);
            prop_assert_eq!(checksum(&again), picked.checksum);
            prop_assert_eq!(again, picked.body);
        }

        #[test]
        fn what_is_spliced_reads_as_the_same_values(
            strings in prop::collection::vec((json_string(), json_string()), 1..10),
        ) {
            let bodies: Vec<String> = strings
                .iter()
                .map(|(key, value)| format!("{{\"TrackingNumber\":1,{key}:[{value}, 1.50]}}"))
                .collect();
            let body = encode(
                OrderType::WorkOrder,
                &Action::default(),
                bodies.iter().map(String::as_str),
            );
            let body: serde_json::Value = serde_json::from_slice(&body).expect("valid JSON");
            let alone = |body: &String| -> serde_json::Value {
                serde_json::from_str(body).expect("valid JSON")
            };
            let expected: Vec<_> = bodies.iter().map(alone).collect();
            prop_assert_eq!(&body["DataType"], "work_order");
            prop_assert_eq!(&body["Data"], &serde_json::Value::from(expected));
        }

        #[test]
        fn members_read_back(mut seqs in prop::collection::vec(1..=i64::MAX, 1..50)) {
            seqs.sort_unstable();
            seqs.dedup();
            let members = Members::new(seqs.into_iter().map(Seq).collect()).expect("ascending");
            prop_assert_eq!(Members::from_bytes(&members.to_bytes()), Some(members));
        }

        #[test]
        fn foreign_bytes_are_no_members_or_ascend(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            if let Some(members) = Members::from_bytes(&bytes) {
                prop_assert_eq!(members.to_bytes(), bytes);
                prop_assert!(members.first() > Seq(-1) && members.first() <= members.last());
            }
        }
    }
}
