//! A row of the queue: what becomes an order travels as valid JSON, and says the same after it.
//!
//! The input is a line with type and action, and the body.

#![no_main]

use std::collections::HashMap;

use libfuzzer_sys::fuzz_target;
use orderfeed::feed::order::{Order, OrderType, Seq};
use orderfeed::feed::payload::{checksum, encode};
use serde_json::Value;
use serde_json::value::RawValue;

fuzz_target!(|input: &[u8]| {
    let Some(at) = input.iter().position(|&byte| byte == b'\n') else {
        return;
    };
    let (head, body) = (&input[..at], &input[at + 1..]);
    let (order_type, action) = match head {
        [b'P', action @ ..] => (OrderType::PurchaseOrder, action),
        [b'T', action @ ..] => (OrderType::TransferOrder, action),
        [_, action @ ..] => (OrderType::WorkOrder, action),
        [] => return,
    };
    let parse = |body: &[u8]| Order::parse(Seq(1), order_type, action, body);
    let order = match parse(body) {
        Ok(order) => order,
        Err(error) => {
            assert!(!error.0.is_empty());
            return;
        }
    };
    assert_eq!(
        parse(order.body.as_bytes()).as_ref(),
        Ok(&order),
        "read twice"
    );
    let number = order.tracking_number().expect("it was found before");
    let number = number.as_str();
    assert!((1..=200).contains(&number.chars().count()));
    assert!(!number.chars().any(char::is_control));

    // The whole tree, strings and all, as a receiver's parser sees it.
    match serde_json::from_str::<Value>(&order.body) {
        Ok(value) => assert_eq!(text(&value["TrackingNumber"]), number),
        // These are limits of the parser, and no fault of the order.
        Err(error) => {
            let words = error.to_string();
            let limit = ["number out of range", "recursion limit exceeded"]
                .iter()
                .any(|limit| words.starts_with(limit));
            assert!(limit, "{error}");
        }
    }

    let bytes = encode(order_type, &order.action, [&*order.body, &*order.body]);
    let again = encode(order_type, &order.action, [&*order.body, &*order.body]);
    assert_eq!(checksum(&bytes), checksum(&again));
    let payload: HashMap<&str, &RawValue> =
        serde_json::from_slice(&bytes).expect("a payload is valid JSON");
    let event = if order.action.is_submit() {
        order_type.to_string()
    } else {
        format!("{order_type}.{}", order.action)
    };
    assert_eq!(payload["DataType"].get(), format!("\"{event}\""));
    let data: Vec<&RawValue> = serde_json::from_str(payload["Data"].get()).expect("orders");
    assert_eq!(data.len(), 2);
    for one in data {
        assert_eq!(one.get(), order.body);
    }
});

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        // -0 is 0, as the queue has it.
        Value::Number(number) if number.as_f64() == Some(0.0) => "0".to_owned(),
        other => other.to_string(),
    }
}
