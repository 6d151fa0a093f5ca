//! What came before, as far as it is remembered: so that a repeat is told from an order that
//! comes once too often.
//!
//! A receiver may get a payload twice, under the same id with the same body. It never gets other
//! bytes under a known id. And an order that was taken comes under another id only if a header
//! says why, or with other content: then it is a later version. Within a payload it stands once.

use std::collections::{HashMap, HashSet, VecDeque};
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
    /// By type, action, tracking number and content: the payload with which it was taken.
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
    /// What this request is by what came before. It is remembered.
    pub(super) fn meet(&mut self, arrival: &Arrival) -> Novelty {
        let id = arrival.payload_id;
        let checksum = checksum(&arrival.body);
        if let Some(known) = self.payloads.get(&id) {
            return if known.checksum != checksum {
                Novelty::OtherBody
            } else if known.taken {
                Novelty::Repeat
            } else {
                Novelty::Again
            };
        }
        let known = Known {
            checksum,
            taken: false,
        };
        self.payloads.insert(id, known);
        Novelty::New
    }

    /// What is wrong with the orders of a payload that is taken for the first time.
    fn meet_orders(&mut self, arrival: &Arrival) -> Vec<String> {
        let mut named = Vec::new();
        let mut others = 0_usize;
        let mut within = HashSet::new();
        for (tracking_number, order) in arrival.orders.iter().flatten() {
            let version = version(order);
            let before = self.versions.get(&version).copied();
            let explained = arrival.origin.is_some();
            let wrong = if within.insert(version) {
                before
                    .filter(|&before| before != arrival.payload_id && !explained)
                    .map(|before| format!("came before, unchanged, in {before}"))
            } else {
                Some("stands twice in it, unchanged".to_owned())
            };
            if let Some(wrong) = wrong {
                if named.len() < NAMED_MAX {
                    let order_type = short(order.order_type);
                    named.push(format!("{order_type} {tracking_number} {wrong}"));
                } else {
                    others += 1;
                }
            }
            self.versions.insert(version, arrival.payload_id);
        }
        if others > 0 {
            named.push(format!("and {others} more of its orders, likewise"));
        }
        named
    }

    /// Remembers that the payload was taken, and counts its orders. What is wrong with them; what
    /// was refused is no order that came.
    pub(super) fn take(&mut self, arrival: &Arrival) -> Vec<String> {
        match self.payloads.get_mut(&arrival.payload_id) {
            Some(known) if !known.taken => known.taken = true,
            _ => return Vec::new(),
        }
        let wrong = self.meet_orders(arrival);
        for (tracking_number, order) in arrival.orders.iter().flatten() {
            let count = &mut self.taken[order.order_type];
            count.orders += 1;
            let identity = identity(order.order_type, tracking_number.as_str());
            if self.orders.get(&identity).is_none() {
                self.orders.insert(identity, ());
                count.distinct += 1;
            }
        }
        wrong
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
            let order = parsed.expect("an order");
            (order.tracking_number().expect("its number"), order)
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

    const NOTHING: [String; 0] = [];
    const A: &str = r#"{"TrackingNumber":1}"#;
    const A_CHANGED: &str = r#"{"TrackingNumber":1,"Qty":2}"#;

    #[test]
    fn a_payload_may_come_again_with_the_same_bytes_alone() {
        let mut memory = Memory::default();
        let first = arrival(1, "submit", &[A]);
        assert_eq!(memory.meet(&first), Novelty::New);
        assert_eq!(memory.meet(&first), Novelty::Again);
        assert_eq!(memory.take(&first), NOTHING);
        assert_eq!(memory.meet(&first), Novelty::Repeat);
        assert_eq!(memory.take(&first), NOTHING);
        let count = Count {
            orders: 1,
            distinct: 1,
        };
        assert_eq!(memory.taken[OrderType::WorkOrder], count);
        assert_eq!(
            memory.meet(&arrival(1, "submit", &[A_CHANGED])),
            Novelty::OtherBody
        );
    }

    #[test]
    fn an_order_comes_again_only_changed_or_with_a_reason() {
        let mut memory = Memory::default();
        let mut check = |arrival: &Arrival, alarms: &[String]| {
            assert_eq!(memory.meet(arrival), Novelty::New);
            assert_eq!(memory.take(arrival), alarms);
        };
        check(&arrival(1, "submit", &[A]), &[]);
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
            orders: 5,
            distinct: 1,
        };
        assert_eq!(memory.taken[OrderType::WorkOrder], count);
    }

    #[test]
    fn what_was_refused_may_be_queued_again() {
        let mut memory = Memory::default();
        let refused = arrival(1, "submit", &[A]);
        assert_eq!(memory.meet(&refused), Novelty::New);
        let queued_again = arrival(2, "submit", &[A]);
        assert_eq!(memory.meet(&queued_again), Novelty::New);
        assert_eq!(memory.take(&queued_again), NOTHING);
        // And now the first one comes once too often.
        assert_eq!(memory.meet(&refused), Novelty::Again);
        let alarm = format!("WO 1 came before, unchanged, in {}", id(2));
        assert_eq!(memory.take(&refused), [alarm]);
    }

    #[test]
    fn an_order_stands_once_in_a_payload() {
        let mut memory = Memory::default();
        let twice = "WO 1 stands twice in it, unchanged".to_owned();
        let check = |memory: &mut Memory, arrival: &Arrival, alarms: &[String]| {
            assert_eq!(memory.meet(arrival), Novelty::New);
            assert_eq!(memory.take(arrival), alarms);
        };
        let both = arrival(1, "submit", &[A, A_CHANGED, A]);
        check(&mut memory, &both, std::slice::from_ref(&twice));
        let resent = Arrival {
            origin: Some(id(1)),
            ..arrival(2, "submit", &[A; 6])
        };
        let more = "and 2 more of its orders, likewise".to_owned();
        let alarms = [twice.clone(), twice.clone(), twice, more];
        check(&mut memory, &resent, &alarms);
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
