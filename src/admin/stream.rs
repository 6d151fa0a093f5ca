//! `GET /v1/stream`: what happens, as server-sent events.
//!
//! Whoever reads too slowly is told how many events it missed; nothing waits for it.

use std::convert::Infallible;
use std::time::Duration;

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;
use tokio::time::timeout;

use super::api::Event;
use super::desk::Desk;

pub(super) const PATH: &str = "/v1/stream";

/// A line that means nothing is sent when so long nothing else was: so a reader that is gone is
/// noticed.
const SIGN_OF_LIFE_GAP: Duration = Duration::from_secs(15);

/// `true` when the server ends.
#[derive(Clone)]
pub(super) struct Until(pub(super) watch::Receiver<bool>);

pub(super) async fn stream(
    State(desk): State<Desk>,
    Extension(Until(stopping)): Extension<Until>,
) -> Response {
    let frames = stream::unfold(Some((desk.events(), stopping, true)), async |reading| {
        let (mut events, mut stopping, is_first) = reading?;
        if is_first {
            // So that the reader knows that nothing from now on is missing.
            return Some((": reading\n\n".to_owned(), Some((events, stopping, false))));
        }
        let next = timeout(SIGN_OF_LIFE_GAP, async {
            tokio::select! {
                event = events.recv() => match event {
                    Ok(event) => event,
                    Err(RecvError::Lagged(count)) => Event::Missed { count },
                    Err(RecvError::Closed) => Event::Stopping {},
                },
                _ = stopping.changed() => Event::Stopping {},
            }
        });
        match next.await {
            Err(_nothing) => Some((": alive\n\n".to_owned(), Some((events, stopping, false)))),
            Ok(event @ Event::Stopping {}) => Some((frame(&event), None)),
            Ok(event) => Some((frame(&event), Some((events, stopping, false)))),
        }
    });
    let frames =
        futures_util::StreamExt::map(frames, |frame| Ok::<_, Infallible>(Bytes::from(frame)));
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (headers, Body::from_stream(frames)).into_response()
}

/// An event as it goes over the wire: JSON has no line ends in it.
fn frame(event: &Event) -> String {
    let data = serde_json::to_string(event).expect("our types have text for keys");
    format!("event: {}\ndata: {data}\n\n", event.name())
}
