//! The queue's triggers and the parser: an order for which `Rules` finds no fault is taken by the
//! triggers, and can be delivered as it then stands; one with a fault is refused by either; and
//! what the triggers take is the same order whether or not its JSON is read again.
//!
//! The input is a line with type and action, and the body.

#![no_main]

use std::cell::RefCell;

use libfuzzer_sys::fuzz_target;
use orderfeed::feed::order::{Order, OrderType, Seq};
use orderfeed::store::queue::NewOrder;
use orderfeed::store::queue::rules::Rules;
use rusqlite::Connection;

thread_local! {
    static JUDGES: RefCell<(Rules, Connection)> = RefCell::new(judges());
}

fn judges() -> (Rules, Connection) {
    let queue = Connection::open_in_memory().expect("memory");
    queue
        .execute_batch(include_str!("../../src/store/queue.sql"))
        .expect("the queue's schema");
    (Rules::new().expect("the rules"), queue)
}

fuzz_target!(|input: &[u8]| {
    let Some((head, body)) = str::from_utf8(input)
        .ok()
        .and_then(|text| text.split_once('\n'))
    else {
        return;
    };
    let (order_type, action) = match head.split_at_checked(1) {
        Some(("P", action)) => (OrderType::PurchaseOrder, action),
        Some(("T", action)) => (OrderType::TransferOrder, action),
        Some(("W", action)) => (OrderType::WorkOrder, action),
        _ => return,
    };
    let order = NewOrder {
        order_type,
        action: (!action.is_empty()).then(|| action.to_owned()),
        dedup_key: None,
        body: body.to_owned(),
    };
    JUDGES.with_borrow_mut(|(rules, queue)| {
        let refusal = rules.refusal(&order).expect("the rules can be asked");
        let transaction = queue.transaction().expect("a transaction");
        let inserted = transaction.execute(
            "INSERT INTO orders (order_type, action, body) VALUES (?1, coalesce(?2, 'submit'), ?3)",
            (order_type.as_str(), &order.action, &order.body),
        );
        let action = order.action.as_deref().unwrap_or("submit").as_bytes();
        let parsed = Order::parse(Seq(1), order_type, action, body.as_bytes());
        if inserted.is_ok() {
            let vouched = Order::vouched(Seq(1), order_type, action, body.as_bytes());
            assert_eq!(
                vouched.ok(),
                parsed.clone().ok(),
                "the triggers vouch for it"
            );
        }
        match &refusal {
            None => {
                inserted.expect("the triggers take it");
                let parsed = parsed.expect("it can be delivered");
                let found: String = transaction
                    .query_row("SELECT tracking_number FROM tracking_numbers", [], |row| {
                        row.get(0)
                    })
                    .expect("its tracking number");
                assert_eq!(
                    found,
                    parsed.tracking_number().expect("found before").as_str()
                );
            }
            Some(refusal) => {
                assert!(!refusal.is_empty());
                assert!(
                    inserted.is_err() || parsed.is_err(),
                    "refused for nothing: {refusal}"
                );
            }
        }
        // Rolled back when dropped.
        drop(transaction);
    });
});
