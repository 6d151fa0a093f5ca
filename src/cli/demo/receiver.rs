//! The demo's receiver: it tells what arrives, and refuses one request on purpose.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::feed::order::OrderType;

/// The request that is refused with 503.
const REFUSED: usize = 3;

/// One request, as the receiver saw it.
#[derive(Debug)]
pub(super) struct Arrival {
    pub(super) payload_id: String,
    pub(super) order_type: OrderType,
    pub(super) tracking_numbers: Vec<String>,
    pub(super) body: Bytes,
    pub(super) answer: StatusCode,
}

/// Answers requests at `/orders`, as long as somebody wants to know of them.
pub(super) async fn serve(listener: TcpListener, tell: mpsc::Sender<Arrival>) {
    let receiver = Receiver {
        requests: Arc::default(),
        tell,
    };
    let app = Router::new()
        .route("/orders", post(take))
        .with_state(receiver);
    // It never ends by itself, nor with an error.
    drop(axum::serve(listener, app).await);
}

#[derive(Clone)]
struct Receiver {
    requests: Arc<AtomicUsize>,
    tell: mpsc::Sender<Arrival>,
}

async fn take(
    State(receiver): State<Receiver>,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, &'static str) {
    let Some((order_type, tracking_numbers)) = read(&body) else {
        return (StatusCode::BAD_REQUEST, "no payload");
    };
    let request = receiver.requests.fetch_add(1, Ordering::Relaxed) + 1;
    let (answer, words) = if request == REFUSED {
        (StatusCode::SERVICE_UNAVAILABLE, "come back later")
    } else {
        (StatusCode::OK, "thank you")
    };
    let payload_id = headers
        .get("webhook-id")
        .and_then(|id| id.to_str().ok())
        .unwrap_or_default();
    let arrival = Arrival {
        payload_id: payload_id.to_owned(),
        order_type,
        tracking_numbers,
        body,
        answer,
    };
    match receiver.tell.send(arrival).await {
        Ok(()) => (answer, words),
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "the demo is over"),
    }
}

#[derive(Deserialize)]
struct Payload<'a> {
    #[serde(rename = "DataType")]
    data_type: &'a str,
    #[serde(rename = "Data", borrow)]
    data: Vec<Identified<'a>>,
}

#[derive(Deserialize)]
struct Identified<'a> {
    #[serde(rename = "TrackingNumber", borrow)]
    tracking_number: &'a RawValue,
}

/// The type and the tracking numbers of a payload.
fn read(body: &[u8]) -> Option<(OrderType, Vec<String>)> {
    let payload: Payload<'_> = serde_json::from_slice(body).ok()?;
    let order_type = payload.data_type.split('.').next()?.parse().ok()?;
    let number = |order: Identified<'_>| order.tracking_number.get().trim_matches('"').to_owned();
    Some((order_type, payload.data.into_iter().map(number).collect()))
}
