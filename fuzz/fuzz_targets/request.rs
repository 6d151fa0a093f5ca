//! A request at `orderfeed receive`: what is taken is a payload as orderfeed sends it; compressed
//! and signed it says the same; and without a signature it is not taken where one is expected.
//!
//! The input is header lines, an empty line, and the body.

#![no_main]

use std::io::Write;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use libfuzzer_sys::fuzz_target;
use orderfeed::cli::receive::arrival::{BODY_BYTES_MAX, Locks, read};
use orderfeed::sender::signature::{SigningSecret, sign};
use serde_json::value::RawValue;

const NOW: i64 = 1_767_225_600;

fuzz_target!(|input: &[u8]| {
    let at = input.windows(2).position(|pair| pair == b"\n\n");
    let (head, body) = at.map_or((&b""[..], input), |at| (&input[..at], &input[at + 2..]));
    let body = Bytes::copy_from_slice(body);
    let mut headers = HeaderMap::new();
    for line in head.split(|&byte| byte == b'\n') {
        let colon = line.iter().position(|&byte| byte == b':');
        let Some((name, value)) = colon.map(|at| (&line[..at], &line[at + 1..])) else {
            continue;
        };
        if let (Ok(name), Ok(value)) = (
            HeaderName::from_bytes(name),
            HeaderValue::from_bytes(value.trim_ascii()),
        ) {
            headers.append(name, value);
        }
    }
    let open = Locks::default();
    let arrival = match read(&headers, body.clone(), &open, NOW) {
        Ok(arrival) => arrival,
        Err(refusal) => {
            assert!(refusal.status.is_client_error() && !refusal.message.is_empty());
            return;
        }
    };
    assert_eq!(headers["webhook-id"], arrival.payload_id.to_string());
    assert!(arrival.body.len() <= BODY_BYTES_MAX);
    serde_json::from_slice::<&RawValue>(&arrival.body).expect("a body is valid JSON");
    for (_, order) in arrival.orders.iter().flatten() {
        let event = arrival.event.as_ref().expect("orders have a type");
        assert_eq!((order.order_type, &order.action), (event.0, &event.1));
    }

    let secret = SigningSecret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").expect("a secret");
    let locks = Locks {
        authorization: None,
        signing_secrets: vec![secret],
    };
    headers.remove("content-encoding");
    headers.remove("webhook-timestamp");
    headers.remove("webhook-signature");
    let unsigned = read(&headers, arrival.body.clone(), &locks, NOW);
    assert_eq!(unsigned.expect_err("unsigned").status.as_u16(), 401);

    let id = arrival.payload_id.to_string();
    let signature = sign(&locks.signing_secrets, &id, NOW, &arrival.body);
    headers.insert("webhook-timestamp", HeaderValue::from(NOW));
    headers.insert(
        "webhook-signature",
        HeaderValue::try_from(signature).expect("ASCII"),
    );
    headers.insert("content-encoding", HeaderValue::from_static("gzip"));
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(&arrival.body).expect("memory");
    let compressed = Bytes::from(encoder.finish().expect("memory"));
    let again = read(&headers, compressed, &locks, NOW);
    assert_eq!(again.as_ref(), Ok(&arrival));
});
