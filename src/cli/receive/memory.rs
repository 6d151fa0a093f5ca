//! What came before, as far as it is remembered: so that a repeat is told from an order that
//! comes once too often.
//!
//! A receiver may get a payload twice, under the same id with the same body. It never gets other
//! bytes under a known id. And an order that came comes under another id only if a header says
//! why, or with other content: then it is a later version.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

use super::arrival::Arrival;
use crate::cli::short;
use crate::feed::order::{Order, OrderType, PerType};
use crate::feed::payload::{PayloadId, checksum};

/// So many payloads are remembered, and
const PAYLOADS_MAX: usize = 100_000;

/// so many orders; the earliest are forgotten.
const ORDERS_MAX: usize = 1_000_000;

/// Of a payload so many orders are named that came before.
const NAMED_MAX: usize = 3;

/// What a request is, by what came before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Novelty {
    /// Its payload was not here before.
    New,
    /// Its payload was, and was refused.
    Again,
    /// Its payload was, and was taken.
    Repeat,
    /// Other bytes under the id of a payload that was here.
    OtherBody,
}

/// What came before.
#[derive(Debug)]
pub(super) struct Memory {
    payloads: Recent<PayloadId, Known>,
    /// By type, action, tracking number and content: the payload that brought it.
    versions: Recent<u64, PayloadId>,
    /// By type and tracking number.
    orders: Recent<u64, ()>,
    /// What was taken of each type.
    pub(super) taken: PerType<Count>,
}

/// Orders that were taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Count {
    /// All of them.
    pub(super) orders: u64,
    /// Those that differ in their tracking numbers.
    pub(super) distinct: u64,
}

#[derive(Debug)]
struct Known {
    checksum: u64,
    taken: bool,
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            payloads: Recent::new(PAYLOADS_MAX),
            versions: Recent::new(ORDERS_MAX),
            orders: Recent::new(ORDERS_MAX),
            taken: PerType::default(),
        }
    }
}

impl Memory {
    /// What this request is by what came before, and what is wrong with that. It is remembered.
    pub(super) fn meet(&mut self, arrival: &Arrival) -> (Novelty, Vec<String>) {
        let id = arrival.payload_id;
        let checksum = checksum(&arrival.body);
        if let Some(known) = self.payloads.get(&id) {
            return if known.checksum != checksum {
                let alarm = "this id came before with another body".to_owned();
                (Novelty::OtherBody, vec![alarm])
            } else if known.taken {
                (Novelty::Repeat, Vec::new())
            } else {
                (Novelty::Again, Vec::new())
            };
        }
        let known = Known {
            checksum,
            taken: false,
        };
        self.payloads.insert(id, known);
        (Novelty::New, self.meet_orders(arrival))
    }

    /// What is wrong with the orders of a new payload.
    fn meet_orders(&mut self, arrival: &Arrival) -> Vec<String> {
        let mut named = Vec::new();
        let mut others = 0_usize;
        for order in arrival.orders.iter().flatten() {
            let version = version(order);
            let before = self.versions.get(&version).copied();
            let explained = arrival.origin.is_some();
            if let Some(before) =
                before.filter(|&before| before != arrival.payload_id && !explained)
            {
                if named.len() < NAMED_MAX {
                    named.push(format!(
                        "{} {} came before, unchanged, in {before}",
                        short(order.order_type),
                        order.tracking_number
                    ));
                } else {
                    others += 1;
                }
            }
            self.versions.insert(version, arrival.payload_id);
        }
        if others > 0 {
            named.push(format!("and {others} more of its orders came before"));
        }
        named
    }

    /// Remembers that the payload was taken, and counts its orders.
    pub(super) fn take(&mut self, arrival: &Arrival) {
        match self.payloads.get_mut(&arrival.payload_id) {
            Some(known) if !known.taken => known.taken = true,
            _ => return,
        }
        for order in arrival.orders.iter().flatten() {
            let count = &mut self.taken[order.order_type];
            count.orders += 1;
            let identity = identity(order.order_type, order.tracking_number.as_str());
            if self.orders.get(&identity).is_none() {
                self.orders.insert(identity, ());
                count.distinct += 1;
            }
        }
    }

    /// Whether something was forgotten, so that repeats may have gone unnoticed.
    pub(super) fn is_incomplete(&self) -> bool {
        self.payloads.forgot || self.versions.forgot || self.orders.forgot
    }
}

/// What tells an order's content from another's.
fn version(order: &Order) -> u64 {
    let (order_type, action) = (order.order_type, &order.action);
    checksum(format!("{order_type}.{action} {}", order.body).as_bytes())
}

fn identity(order_type: OrderType, tracking_number: &str) -> u64 {
    checksum(format!("{order_type} {tracking_number}").as_bytes())
}

/// The latest of many.
#[derive(Debug)]
struct Recent<K, V> {
    values: HashMap<K, V>,
    /// The keys as they came.
    keys: VecDeque<K>,
    max: usize,
    forgot: bool,
}

impl<K: Copy + Eq + Hash, V> Recent<K, V> {
    fn new(max: usize) -> Self {
        Self {
            values: HashMap::new(),
            keys: VecDeque::new(),
            max,
            forgot: false,
        }
    }

    fn get(&self, key: &K) -> Option<&V> {
        self.values.get(key)
    }

    fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.values.get_mut(key)
    }

    fn insert(&mut self, key: K, value: V) {
        if self.values.insert(key, value).is_some() {
            return;
        }
        self.keys.push_back(key);
        if self.keys.len() > self.max
            && let Some(earliest) = self.keys.pop_front()
        {
            self.values.remove(&earliest);
            self.forgot = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::feed::timestamp::Timestamp;

    fn id(number: u8) -> PayloadId {
        PayloadId::new(Timestamp::from_ms(1_763_000_000_000), [number; 10])
    }

    fn arrival(number: u8, action: &str, orders: &[&str]) -> Arrival {
        let parse = |body: &&str| {
            let parsed = Order::parse(
                crate::feed::order::Seq(1),
                OrderType::WorkOrder,
                action.as_bytes(),
                body.as_bytes(),
            );
            parsed.expect("an order")
        };
        Arrival {
            payload_id: id(number),
            attempt: None,
            event: None,
            origin: None,
            is_test: false,
            orders: Some(orders.iter().map(parse).collect()),
            body: Bytes::from(orders.join(",")),
        }
    }

    const A: &str = r#"{"TrackingNumber":1}"#;
    const A_CHANGED: &str = r#"{"TrackingNumber":1,"Qty":2}"#;

    #[test]
    fn a_payload_may_come_again_with_the_same_bytes_alone() {
        let mut memory = Memory::default();
        let first = arrival(1, "submit", &[A]);
        assert_eq!(memory.meet(&first), (Novelty::New, vec![]));
        assert_eq!(memory.meet(&first), (Novelty::Again, vec![]));
        memory.take(&first);
        assert_eq!(memory.meet(&first), (Novelty::Repeat, vec![]));
        memory.take(&first);
        let count = Count {
            orders: 1,
            distinct: 1,
        };
        assert_eq!(memory.taken[OrderType::WorkOrder], count);
        let alarm = "this id came before with another body".to_owned();
        assert_eq!(
            memory.meet(&arrival(1, "submit", &[A_CHANGED])),
            (Novelty::OtherBody, vec![alarm])
        );
    }

    #[test]
    fn an_order_comes_again_only_changed_or_with_a_reason() {
        let mut memory = Memory::default();
        let mut check = |arrival: &Arrival, alarms: &[String]| {
            assert_eq!(memory.meet(arrival), (Novelty::New, alarms.to_vec()));
            memory.take(arrival);
        };
        check(&arrival(1, "submit", &[A, A]), &[]);
        check(&arrival(2, "submit", &[A_CHANGED]), &[]);
        check(&arrival(3, "update", &[A]), &[]);
        let resent = Arrival {
            origin: Some(id(1)),
            ..arrival(4, "submit", &[A])
        };
        check(&resent, &[]);
        let alarm = |number, before| format!("WO {number} came before, unchanged, in {before}");
        check(&arrival(5, "submit", &[A]), &[alarm(1, id(4))]);
        let count = Count {
            orders: 6,
            distinct: 1,
        };
        assert_eq!(memory.taken[OrderType::WorkOrder], count);
    }

    #[test]
    fn the_earliest_are_forgotten() {
        let mut recent = Recent::new(2);
        for number in [1, 2, 2, 3] {
            recent.insert(number, ());
        }
        assert_eq!(recent.values.len(), 2);
        assert!(recent.get(&1).is_none() && recent.get(&3).is_some() && recent.forgot);
    }
}
