//! A file for `orderfeed enqueue`: it is read the same twice, its orders stand where it says they
//! do, and a payload that is made of them is read as just those orders again.

#![no_main]

use std::io::{Seek, Write};
use std::path::Path;

use libfuzzer_sys::fuzz_target;
use orderfeed::cli::enqueue::source::{Broken, Header, Source, Spot};
use orderfeed::feed::order::{Action, Order, OrderType, Seq};
use orderfeed::feed::payload::encode;

type Read = (
    Vec<(Header, Spot, Result<String, String>)>,
    Option<(usize, String)>,
);

/// Everything that the file tells.
fn read(text: &[u8]) -> Read {
    let mut file = tempfile::NamedTempFile::new_in("/dev/shm").expect("a file");
    file.write_all(text).expect("room");
    file.rewind().expect("the beginning");
    let source = Source::open(file.path(), Path::new("/nowhere")).expect("a file");
    let mut entries = Vec::new();
    let read = source.each(|entry| {
        let text = entry.text.clone().map(str::to_owned);
        entries.push((entry.header.clone(), entry.spot, text));
        Ok::<_, ()>(())
    });
    let broken = match read {
        Ok(()) => None,
        Err(Broken::Input(line, message)) => Some((line, message)),
        Err(Broken::Io(error)) => panic!("{error}"),
        Err(Broken::Taker(())) => panic!("it takes all"),
    };
    assert!(!source.has_changed().expect("a file"));
    (entries, broken)
}

fuzz_target!(|input: &[u8]| {
    let (entries, broken) = read(input);
    assert_eq!(read(input), (entries.clone(), broken.clone()));
    let lines: Vec<&[u8]> = input.split(|&byte| byte == b'\n').collect();
    if let Some((line, message)) = &broken {
        assert!(
            (1..=lines.len()).contains(line) && !message.is_empty(),
            "{line}: {message}"
        );
    }
    let mut previous = 0;
    for (number, (_, spot, text)) in (1..).zip(&entries) {
        assert_eq!(spot.number, number);
        assert!((previous..=lines.len()).contains(&spot.line) && spot.line > 0);
        previous = spot.line;
        if let Ok(text) = text {
            let begin = text.lines().next().unwrap_or_default().as_bytes();
            let line = lines[spot.line - 1];
            assert!(
                line.windows(begin.len().max(1)).any(|part| part == begin),
                "order {number} does not begin on line {}",
                spot.line
            );
        }
    }

    // What can be delivered of it, as a payload.
    let action = Action::default();
    let orders: Vec<Order> = entries
        .iter()
        .filter_map(|(_, _, text)| text.as_ref().ok())
        .filter_map(|text| {
            let order_type = OrderType::WorkOrder;
            Order::parse(Seq(1), order_type, b"submit", text.as_bytes()).ok()
        })
        .collect();
    let bodies: Vec<&str> = orders.iter().map(|order| &*order.body).collect();
    let payload = encode(OrderType::WorkOrder, &action, bodies.iter().copied());
    let (again, broken) = read(&payload);
    assert_eq!(broken, None);
    let header = Header {
        order_type: Some(OrderType::WorkOrder),
        action: Some(action),
    };
    assert!(again.iter().all(|entry| entry.0 == header));
    let again: Vec<&str> = again
        .iter()
        .map(|entry| entry.2.as_deref().expect("an order"))
        .collect();
    assert_eq!(again, bodies);
});
