//! One request, read: whether it is what orderfeed sends, and what is in it.
//!
//! What arrives is foreign: every bound is held here, and what is wrong is named. Nothing is
//! remembered and no clock is read.

use std::io::Read;
use std::time::Duration;

use axum::http::{HeaderMap, StatusCode};
use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::feed::order::{Action, Order, OrderType, Seq, TrackingNumber};
use crate::feed::payload::PayloadId;
use crate::sender::secret::Secret;
use crate::sender::signature::{self, SignedHeaders, SigningSecret};

/// A body has so many bytes at most, compressed and not: the largest `payload_max_bytes`.
pub const BODY_BYTES_MAX: usize = 64 << 20;

/// A signature's time may be so far from now.
const SIGNED_WITHIN: Duration = Duration::from_mins(5);

/// A request that is what orderfeed sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrival {
    /// `webhook-id`
    pub payload_id: PayloadId,
    /// `orderfeed-attempt`
    pub attempt: Option<u32>,
    /// Type and action, as the body or the header `orderfeed-event` says.
    pub event: Option<(OrderType, Action)>,
    /// `orderfeed-resend-of` or `orderfeed-part-of`
    pub origin: Option<PayloadId>,
    /// Whether it is a test, without orders.
    pub is_test: bool,
    /// Its orders; `None` for a body of another format, in which they can't be told apart.
    pub orders: Option<Vec<(TrackingNumber, Order)>>,
    /// The body, uncompressed: valid JSON.
    pub body: Bytes,
}

/// What a sender must know to be let in.
#[derive(Debug, Default)]
pub struct Locks {
    /// The `authorization` header's value.
    pub authorization: Option<Secret>,
    /// One of these must have signed.
    pub signing_secrets: Vec<SigningSecret>,
}

/// Why a request is not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What it is answered with.
    pub status: StatusCode,
    /// What was wrong with it.
    pub message: String,
}

impl Refusal {
    /// A request that is answered so, for this reason.
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
        }
    }

    fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }
}

/// Reads a request; `now` is in seconds since 1970.
pub fn read(headers: &HeaderMap, body: Bytes, locks: &Locks, now: i64) -> Result<Arrival, Refusal> {
    admit(headers, locks)?;
    let body = uncompressed(headers, body)?;
    let payload_id = payload_id_in(headers, "webhook-id")?
        .ok_or_else(|| Refusal::bad("it has no webhook-id, the payload's id"))?;
    verify(headers, &body, locks, now)?;
    let is_test = match text(headers, "orderfeed-test")? {
        None => false,
        Some("1") => true,
        Some(_) => {
            return Err(Refusal::bad("orderfeed-test: must be 1, or left out"));
        }
    };
    let attempt = text(headers, "orderfeed-attempt")?
        .map(|text| {
            text.parse()
                .ok()
                .filter(|attempt| *attempt > 0)
                .ok_or_else(|| Refusal::bad("orderfeed-attempt: must be a number from 1"))
        })
        .transpose()?;
    let announced = text(headers, "orderfeed-event")?
        .map(|text| event(text, "orderfeed-event"))
        .transpose()?;
    let resend_of = payload_id_in(headers, "orderfeed-resend-of")?;
    let part_of = payload_id_in(headers, "orderfeed-part-of")?;
    let (said, orders) = match contents(&body)? {
        Some((event, orders)) => (Some(event), Some(orders)),
        None => (None, None),
    };
    if let (Some(announced), Some(said)) = (&announced, &said)
        && announced != said
    {
        return Err(Refusal::bad(format!(
            "orderfeed-event is {}.{}, and DataType says {}.{}",
            announced.0, announced.1, said.0, said.1
        )));
    }
    match orders.as_deref() {
        Some([]) if !is_test => {
            return Err(Refusal::bad(
                "Data: is empty, which only a test's may be (orderfeed-test: 1)",
            ));
        }
        Some([_, ..]) if is_test => {
            return Err(Refusal::bad(
                "Data: must be empty, for orderfeed-test says that it is a test",
            ));
        }
        _ => {}
    }
    Ok(Arrival {
        payload_id,
        attempt,
        event: said.or(announced),
        origin: resend_of.or(part_of),
        is_test,
        orders,
        body,
    })
}

fn admit(headers: &HeaderMap, locks: &Locks) -> Result<(), Refusal> {
    let Some(expected) = &locks.authorization else {
        return Ok(());
    };
    match headers.get("authorization") {
        Some(found) if found.as_bytes() == expected.expose().as_bytes() => Ok(()),
        Some(_) => Err(Refusal::new(
            StatusCode::UNAUTHORIZED,
            "authorization is another than expected",
        )),
        None => Err(Refusal::new(
            StatusCode::UNAUTHORIZED,
            "it has no authorization",
        )),
    }
}

fn verify(headers: &HeaderMap, body: &[u8], locks: &Locks, now: i64) -> Result<(), Refusal> {
    if locks.signing_secrets.is_empty() {
        return Ok(());
    }
    let signed = SignedHeaders {
        id: text(headers, "webhook-id")?.unwrap_or_default(),
        timestamp: text(headers, "webhook-timestamp")?.unwrap_or_default(),
        signature: text(headers, "webhook-signature")?.unwrap_or_default(),
    };
    signature::verify(&locks.signing_secrets, signed, body, now, SIGNED_WITHIN)
        .map_err(|error| Refusal::new(StatusCode::UNAUTHORIZED, error.to_string()))
}

/// The body as it was before compression.
fn uncompressed(headers: &HeaderMap, body: Bytes) -> Result<Bytes, Refusal> {
    match text(headers, "content-encoding")? {
        None | Some("identity") => Ok(body),
        Some("gzip") => {
            let mut whole = Vec::new();
            // One byte more, to tell that there is more.
            let bound = BODY_BYTES_MAX as u64 + 1;
            MultiGzDecoder::new(&*body)
                .take(bound)
                .read_to_end(&mut whole)
                .map_err(|error| Refusal::bad(format!("the body is no gzip: {error}")))?;
            if whole.len() > BODY_BYTES_MAX {
                return Err(too_large());
            }
            Ok(whole.into())
        }
        Some(_) => Err(Refusal::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "content-encoding: must be gzip, or left out",
        )),
    }
}

/// The answer to a body that is beyond [`BODY_BYTES_MAX`].
pub fn too_large() -> Refusal {
    let words = format!("the body is larger than {} MiB", BODY_BYTES_MAX >> 20);
    Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, words)
}

/// A header's value; an error if it is more than visible ASCII.
fn text<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, Refusal> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    if values.next().is_some() {
        return Err(Refusal::bad(format!("{name} stands there twice")));
    }
    first
        .map(|value| {
            value
                .to_str()
                .map_err(|_error| Refusal::bad(format!("{name}: must be visible ASCII")))
        })
        .transpose()
}

fn payload_id_in(headers: &HeaderMap, name: &str) -> Result<Option<PayloadId>, Refusal> {
    text(headers, name)?
        .map(|text| {
            text.parse::<PayloadId>()
                .ok()
                // Of the ways to write the same id, the one that orderfeed uses.
                .filter(|id| id.to_string() == text)
                .ok_or_else(|| Refusal::bad(format!("{name}: must be pl_ and 26 characters")))
        })
        .transpose()
}

/// `purchase_order`, or `purchase_order.update`.
fn event(word: &str, name: &str) -> Result<(OrderType, Action), Refusal> {
    let (order_type, action) = word.split_once('.').unwrap_or((word, Action::SUBMIT));
    match (order_type.parse(), action.parse()) {
        (Ok(order_type), Ok(action)) => Ok((order_type, action)),
        _ => Err(Refusal::bad(format!(
            "{name}: must be purchase_order, transfer_order or work_order, or one of them, a dot and an action"
        ))),
    }
}

/// The members that make a body one of the `orders` format.
#[derive(Deserialize)]
struct Payload<'a> {
    #[serde(rename = "DataType", borrow)]
    data_type: Option<&'a RawValue>,
    #[serde(rename = "Data", borrow)]
    data: Option<&'a RawValue>,
}

type Contents = ((OrderType, Action), Vec<(TrackingNumber, Order)>);

/// Type, action and orders; `None` for JSON of another format.
fn contents(body: &[u8]) -> Result<Option<Contents>, Refusal> {
    let not_json = |error| Refusal::bad(format!("the body is not JSON: {error}"));
    let whole: &RawValue = serde_json::from_slice(body).map_err(not_json)?;
    // An array would pass for the members in their order.
    if !whole.get().starts_with('{') {
        return Ok(None);
    }
    let payload: Payload<'_> = serde_json::from_str(whole.get())
        .map_err(|error| Refusal::bad(format!("the body is no payload: {error}")))?;
    let (Some(data_type), Some(data)) = (payload.data_type, payload.data) else {
        return Ok(None);
    };
    let data_type: String = serde_json::from_str(data_type.get())
        .map_err(|_error| Refusal::bad("DataType: must be text"))?;
    let (order_type, action) = event(&data_type, "DataType")?;
    let data: Vec<&RawValue> = serde_json::from_str(data.get())
        .map_err(|_error| Refusal::bad("Data: must be an array of orders"))?;
    let mut orders = Vec::with_capacity(data.len());
    for (seq, order) in (1..).zip(data) {
        let order = Order::parse(
            Seq(seq),
            order_type,
            action.as_str().as_bytes(),
            order.get().as_bytes(),
        )
        .and_then(|order| Ok((order.tracking_number()?, order)))
        .map_err(|error| Refusal::bad(format!("order {seq} of Data: {error}")))?;
        orders.push(order);
    }
    Ok(Some(((order_type, action), orders)))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use axum::http::{HeaderName, HeaderValue};
    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    const ID: &str = "pl_01K9WPVG010000000000000000";

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(
                HeaderName::from_bytes(name.as_bytes()).expect("a name"),
                HeaderValue::from_str(value).expect("a value"),
            );
        }
        headers
    }

    /// What is read, in a line; the payload's id is given.
    fn check(pairs: &[(&str, &str)], body: &[u8], expected: &str) {
        check_locked(pairs, body, &Locks::default(), expected);
    }

    fn check_locked(pairs: &[(&str, &str)], body: &[u8], locks: &Locks, expected: &str) {
        let mut all = vec![("webhook-id", ID)];
        all.extend(pairs);
        let body = Bytes::copy_from_slice(body);
        let found = match read(&headers(&all), body, locks, 1_614_265_330) {
            Ok(arrival) => {
                let event = arrival.event.map_or_else(
                    || "-".to_owned(),
                    |(kind, action)| format!("{kind}.{action}"),
                );
                let orders = arrival.orders.map_or_else(
                    || "-".to_owned(),
                    |orders| {
                        let numbers: Vec<_> =
                            orders.iter().map(|(number, _)| number.as_str()).collect();
                        numbers.join(",")
                    },
                );
                format!("{event} {orders}")
            }
            Err(refusal) => format!("{} {}", refusal.status.as_u16(), refusal.message),
        };
        assert_eq!(found, expected, "{all:?}");
    }

    fn gzip(body: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(body).expect("memory");
        encoder.finish().expect("memory")
    }

    const BODY: &[u8] =
        br#"{"DataType":"work_order.update","Data":[{"TrackingNumber":7},{"TrackingNumber":"W-8"}]}"#;

    #[test]
    fn a_payload_tells_its_orders() {
        check(&[], BODY, "work_order.update 7,W-8");
        check(
            &[("orderfeed-event", "work_order.update")],
            BODY,
            "work_order.update 7,W-8",
        );
        check(
            &[("orderfeed-test", "1")],
            br#"{"DataType":"work_order","Data":[]}"#,
            "work_order.submit ",
        );
    }

    #[test]
    fn another_format_is_taken_as_it_is() {
        check(
            &[("orderfeed-event", "work_order.update")],
            br#"{"project_name":"x","orders":[{"order_number":"123"}]}"#,
            "work_order.update -",
        );
        check(&[], br#"["work_order",[]]"#, "- -");
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (body, expected) in [
            (
                &b"{\"DataType\":"[..],
                "400 the body is not JSON: EOF while parsing a value at line 1 column 12",
            ),
            (
                b"",
                "400 the body is not JSON: EOF while parsing a value at line 1 column 0",
            ),
            (
                b"{\"a\":\"\xff\"}",
                "400 the body is not JSON: invalid unicode code point at line 1 column 7",
            ),
            (
                br#"{"DataType":"order","Data":[]}"#,
                "400 DataType: must be purchase_order, transfer_order or work_order, or one of them, a dot and an action",
            ),
            (br#"{"DataType":1,"Data":[]}"#, "400 DataType: must be text"),
            (
                br#"{"DataType":"work_order","Data":{}}"#,
                "400 Data: must be an array of orders",
            ),
            (
                br#"{"DataType":"work_order","Data":[{"TrackingNumber":1},{}]}"#,
                "400 order 2 of Data: body: missing field `TrackingNumber` at line 1 column 2",
            ),
            (
                br#"{"DataType":"work_order","Data":[]}"#,
                "400 Data: is empty, which only a test's may be (orderfeed-test: 1)",
            ),
            (
                br#"{"Data":[],"Data":[]}"#,
                "400 the body is no payload: duplicate field `Data` at line 1 column 17",
            ),
        ] {
            check(&[], body, expected);
        }
        for (pair, expected) in [
            (("webhook-id", ID), "400 webhook-id stands there twice"),
            (
                ("orderfeed-attempt", "first"),
                "400 orderfeed-attempt: must be a number from 1",
            ),
            (
                ("orderfeed-attempt", "0"),
                "400 orderfeed-attempt: must be a number from 1",
            ),
            (
                ("orderfeed-test", "0"),
                "400 orderfeed-test: must be 1, or left out",
            ),
            (
                ("orderfeed-test", "1"),
                "400 Data: must be empty, for orderfeed-test says that it is a test",
            ),
            (
                ("orderfeed-event", "work_order.submit"),
                "400 orderfeed-event is work_order.submit, and DataType says work_order.update",
            ),
            (
                ("orderfeed-resend-of", "pl_1"),
                "400 orderfeed-resend-of: must be pl_ and 26 characters",
            ),
            (
                ("content-encoding", "br"),
                "415 content-encoding: must be gzip, or left out",
            ),
            (
                ("content-encoding", "gzip"),
                "400 the body is no gzip: invalid gzip header",
            ),
        ] {
            check(&[pair], BODY, expected);
        }
        let no_id = read(
            &HeaderMap::new(),
            Bytes::from_static(BODY),
            &Locks::default(),
            0,
        );
        assert_eq!(
            no_id,
            Err(Refusal::bad("it has no webhook-id, the payload's id"))
        );
    }

    #[test]
    fn gzip_is_read_up_to_the_bound() {
        let encoded = [("content-encoding", "gzip")];
        check(&encoded, &gzip(BODY), "work_order.update 7,W-8");
        let whole = gzip(BODY);
        check(
            &encoded,
            &whole[..whole.len() - 1],
            "400 the body is no gzip: unexpected end of file",
        );
        let bomb = gzip(&vec![b' '; BODY_BYTES_MAX + 1]);
        assert!(bomb.len() < 100_000);
        check(&encoded, &bomb, "413 the body is larger than 64 MiB");
    }

    #[test]
    fn who_does_not_know_the_secrets_is_not_let_in() {
        let locks = Locks {
            authorization: Some(Secret::new("Bearer 1".to_owned())),
            signing_secrets: Vec::new(),
        };
        check_locked(&[], BODY, &locks, "401 it has no authorization");
        check_locked(
            &[("authorization", "Bearer 2")],
            BODY,
            &locks,
            "401 authorization is another than expected",
        );
        check_locked(
            &[("authorization", "Bearer 1")],
            BODY,
            &locks,
            "work_order.update 7,W-8",
        );
        let secret = SigningSecret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        let locks = Locks {
            authorization: None,
            signing_secrets: vec![secret.expect("a secret")],
        };
        let signed = |at: i64, body: &[u8]| signature::sign(&locks.signing_secrets, ID, at, body);
        let good = signed(1_614_265_330, BODY);
        let at = ("webhook-timestamp", "1614265330");
        check_locked(
            &[at, ("webhook-signature", &good)],
            BODY,
            &locks,
            "work_order.update 7,W-8",
        );
        // What is signed is the body before its compression.
        check_locked(
            &[
                at,
                ("webhook-signature", &good),
                ("content-encoding", "gzip"),
            ],
            &gzip(BODY),
            &locks,
            "work_order.update 7,W-8",
        );
        let other = signed(1_614_265_330, b"{}");
        check_locked(
            &[at, ("webhook-signature", &other)],
            BODY,
            &locks,
            "401 webhook-signature fits no secret with this id, timestamp and body",
        );
        check_locked(
            &[at],
            BODY,
            &locks,
            "401 webhook-signature holds no signature that begins with \"v1,\"",
        );
    }
}
