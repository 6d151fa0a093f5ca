//! What an answer asks for: any bytes in `Retry-After` mean a span or nothing, and none holds up
//! a payload for more than a day.
//!
//! The input is the status's last digits, and the header's value.

#![no_main]

use std::time::{Duration, SystemTime};

use http::header::{HeaderMap, HeaderValue, RETRY_AFTER};
use libfuzzer_sys::fuzz_target;
use orderfeed::feed::lane::{Head, Lane};
use orderfeed::feed::order::{Action, OrderType, Seq};
use orderfeed::feed::outcome::{Outcome, RETRY_AFTER_MAX, Verdict, judge};
use orderfeed::feed::payload::{ENCODING, Members, Payload, PayloadId};
use orderfeed::feed::policy::Policy;
use orderfeed::feed::timestamp::Timestamp;
use orderfeed::sender::retry_after;

fuzz_target!(|input: (u16, Vec<u8>)| {
    let (status, value) = input;
    let status = status % 1_000;
    let Ok(value) = HeaderValue::from_bytes(&value) else {
        return;
    };
    let mut headers = HeaderMap::new();
    headers.insert(RETRY_AFTER, value.clone());
    // 2026-01-01
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600);
    let asked = retry_after(&headers, now);
    if let Ok(text) = value.to_str()
        && let text = text.trim()
        && let Ok(seconds) = text.parse::<u64>()
    {
        // Seconds are digits alone: Rust would read a sign, too.
        let expected = (!text.starts_with('+')).then(|| Duration::from_secs(seconds));
        assert_eq!(asked, expected);
    }
    let now = Timestamp::from_ms(1_767_225_600_000);
    let head = Head {
        payload: Payload {
            id: PayloadId::new(now, [1; 10]),
            order_type: OrderType::PurchaseOrder,
            action: Action::default(),
            members: Members::new(vec![Seq(1)]).expect("one"),
            encoding: ENCODING,
            checksum: 1,
        },
        attempts: 1,
        counted: 0,
        interruptions: 0,
        retry_wait: Duration::ZERO,
        in_flight: true,
    };
    let outcome = Outcome::Answered {
        status,
        retry_after: asked,
    };
    let policy = Policy::default();
    match judge(&outcome, &head, &Lane::default(), &policy, now) {
        Verdict::Delivered => assert!((200..300).contains(&status)),
        Verdict::Retry { wait, .. } => {
            assert!((policy.retry_gap..=RETRY_AFTER_MAX).contains(&wait));
            let expected = asked.unwrap_or_default().min(RETRY_AFTER_MAX);
            assert_eq!(wait, expected.max(policy.retry_gap));
        }
        Verdict::Deactivated(_) => assert_eq!(status, 410),
        Verdict::Failed { .. } => panic!("the first of four attempts uses up none"),
    }
});
