//! One payload → one POST → one [`Outcome`] (contract, section 4).
//!
//! The sender never retries, never sleeps, and decides nothing: it says how far the attempt came
//! and what was answered. It follows no redirect and uses no proxy of the environment. What
//! an answer holds is read up to a bound, and cleared of secrets before anybody else sees it.

pub mod reach;
pub mod secret;
pub mod signature;
mod tls;
mod unsent;
mod watch;
mod words;

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use reqwest::header::{
    AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER, USER_AGENT,
};
use reqwest::redirect;
use url::{Host, Url};

use crate::clock::WallTime;
use crate::feed::outcome::{Outcome, Phase};
use crate::feed::payload::PayloadId;
use secret::Secret;
use watch::{Progress, WatchedBody, WatchedResolver};

/// Where a webhook's requests go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The receiver's address.
    pub url: Url,
    /// The `authorization` header's value.
    pub authorization: Option<Secret>,
    /// From connecting to the answer's status (D7).
    pub timeout: Duration,
}

/// One attempt's request.
#[derive(Debug, Clone)]
pub struct Request {
    /// `webhook-id`: the same over retries.
    pub payload_id: PayloadId,
    /// `orderfeed-event`: order type and action.
    pub event: String,
    /// `orderfeed-attempt`: counts every request with this id.
    pub attempt: u32,
    /// The payload's bytes.
    pub body: Bytes,
}

/// What is told of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// What the wire said.
    pub outcome: Outcome,
    /// What went wrong, in words, if there was no answer.
    pub error: Option<String>,
    /// The beginning of the answer's body, if there was an answer.
    pub answer: Option<String>,
    /// When it began.
    pub started_at: WallTime,
    /// How long it took, to the answer's status or the failure.
    pub duration: Duration,
}

/// Of an answer's body so many bytes are read (D8).
const ANSWER_BYTES_MAX: usize = 16 * 1024;

/// For so long an answer's body is read (D8).
const ANSWER_READ_MAX: Duration = Duration::from_secs(2);

/// Connections are kept no longer than receivers keep theirs: a request on one that is just
/// being closed has an unknown outcome.
const IDLE_CONNECTION_MAX: Duration = Duration::from_secs(1);

/// A receiver may take nothing of a request for as long as `timeout` allows, which is an hour at
/// most; the client would close the connection after 30 s.
const STALLED_CONNECTION_MAX: Duration = Duration::from_hours(1);

/// What sends one webhook's requests, one after another.
#[derive(Debug)]
pub struct Sender {
    client: reqwest::Client,
    progress: Arc<Progress>,
}

/// Why nothing can be sent.
#[derive(Debug, thiserror::Error)]
pub enum SetUpError {
    /// TLS can't be set up.
    #[error("TLS can't be set up: {0}")]
    Tls(#[from] rustls::Error),
    /// The HTTP client can't.
    #[error("HTTP can't be set up: {0}")]
    Http(#[from] reqwest::Error),
}

impl Sender {
    /// An error if TLS can't be set up, which is when the system's certificates can't be read.
    pub fn new() -> Result<Self, SetUpError> {
        let progress = Arc::new(Progress::default());
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls::watched_config(Arc::clone(&progress))?)
            .http1_only()
            .redirect(redirect::Policy::none())
            .retry(reqwest::retry::never())
            .no_proxy()
            .referer(false)
            .dns_resolver(WatchedResolver::new(Arc::clone(&progress)))
            .pool_idle_timeout(IDLE_CONNECTION_MAX)
            .pool_max_idle_per_host(1)
            .tcp_user_timeout(STALLED_CONNECTION_MAX)
            .build()?;
        Ok(Self { client, progress })
    }

    /// Sends one request and waits for its answer, no longer than the endpoint's `timeout`.
    pub async fn post(&self, endpoint: &Endpoint, request: Request) -> Report {
        let started_at = WallTime::now();
        let started = Instant::now();
        self.progress.set(Phase::Connect);
        let headers = headers(endpoint, &request, started_at);
        let body = reqwest::Body::wrap(WatchedBody::new(request.body, Arc::clone(&self.progress)));
        let sending = self
            .client
            .post(endpoint.url.clone())
            .headers(headers)
            .body(body)
            .send();
        // Kept until it is known how far it came: the connection closes when this is dropped.
        let mut sending = pin!(sending);
        let answered = tokio::time::timeout(endpoint.timeout, &mut sending).await;
        let duration = started.elapsed();
        let report = |outcome, error, answer| Report {
            outcome,
            error,
            answer,
            started_at,
            duration,
        };
        match answered {
            Err(_elapsed) => {
                let phase = match self.progress.get() {
                    Phase::Waiting if self.is_unsent(endpoint).await => Phase::Sending,
                    phase => phase,
                };
                let outcome = Outcome::TimedOut { phase };
                let error = format!(
                    "no answer within {} (timeout)",
                    humantime::format_duration(endpoint.timeout)
                );
                report(outcome, Some(error), None)
            }
            Ok(Err(error)) => {
                let phase = phase_of(&error, self.progress.get());
                report(Outcome::Broken { phase }, Some(words::of(&error)), None)
            }
            Ok(Ok(response)) => {
                let status = response.status().as_u16();
                let retry_after = retry_after(response.headers(), SystemTime::now());
                let answer = read_answer(response).await;
                let answer = masked(
                    &String::from_utf8_lossy(&answer),
                    endpoint.authorization.as_ref(),
                );
                report(
                    Outcome::Answered {
                        status,
                        retry_after,
                    },
                    None,
                    Some(answer),
                )
            }
        }
    }

    /// Whether some of what the connection took is still on this side.
    async fn is_unsent(&self, endpoint: &Endpoint) -> bool {
        let port = endpoint.url.port_or_known_default().unwrap_or_default();
        let addresses = match endpoint.url.host() {
            Some(Host::Ipv4(address)) => vec![address.into()],
            Some(Host::Ipv6(address)) => vec![address.into()],
            Some(Host::Domain(_)) | None => self.progress.addresses(),
        };
        let look = move || unsent::is_any(port, &addresses);
        tokio::task::spawn_blocking(look).await.unwrap_or(true)
    }
}

/// The request's headers, but for those that HTTP itself asks for.
fn headers(endpoint: &Endpoint, request: &Request, now: WallTime) -> HeaderMap {
    let text = |value: String| {
        HeaderValue::try_from(value).expect("ids, events and numbers are visible ASCII")
    };
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(
        USER_AGENT,
        HeaderValue::from_static(concat!("orderfeed/", env!("CARGO_PKG_VERSION"))),
    );
    if let Some(secret) = &endpoint.authorization {
        let mut value = HeaderValue::try_from(secret.expose())
            .expect("the configuration lets only header values pass");
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
    }
    headers.insert(
        HeaderName::from_static("webhook-id"),
        text(request.payload_id.to_string()),
    );
    headers.insert(
        HeaderName::from_static("webhook-timestamp"),
        text(now.unix_seconds().to_string()),
    );
    headers.insert(
        HeaderName::from_static("orderfeed-event"),
        text(request.event.clone()),
    );
    headers.insert(
        HeaderName::from_static("orderfeed-attempt"),
        text(request.attempt.to_string()),
    );
    headers
}

/// How far an attempt came that broke off.
fn phase_of(error: &reqwest::Error, reached: Phase) -> Phase {
    if error.is_connect() {
        reached
    } else {
        // It was connected, or a kept connection was used: nobody can say that nothing was sent.
        reached.max(Phase::Sending)
    }
}

/// How long the answer asks to wait, in seconds or until a date; garbage asks for nothing, and of
/// several the longest counts.
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let spans = headers.get_all(RETRY_AFTER).iter().filter_map(|value| {
        let text = value.to_str().ok()?.trim();
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            // More seconds than can be counted are as good as for ever.
            return Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
        }
        let date = httpdate::parse_http_date(text).ok()?;
        Some(date.duration_since(now).unwrap_or_default())
    });
    spans.max()
}

/// The beginning of the answer's body; whatever is wrong with it, the status was said.
async fn read_answer(mut response: reqwest::Response) -> Vec<u8> {
    let mut answer = Vec::new();
    let reading = async {
        while answer.len() < ANSWER_BYTES_MAX {
            match response.chunk().await {
                Ok(Some(chunk)) => answer.extend_from_slice(&chunk),
                Ok(None) | Err(_) => break,
            }
        }
    };
    // What was read until then is kept.
    drop(tokio::time::timeout(ANSWER_READ_MAX, reading).await);
    answer.truncate(ANSWER_BYTES_MAX);
    answer
}

/// The text without the secret, nor the parts of it that are long enough to tell; nor as JSON
/// writes them.
fn masked(text: &str, secret: Option<&Secret>) -> String {
    let Some(secret) = secret else {
        return text.to_owned();
    };
    let parts = secret
        .expose()
        .split_whitespace()
        .filter(|part| part.len() >= 8);
    let mut masked = text.to_owned();
    for part in std::iter::once(secret.expose()).chain(parts) {
        let as_json = part.replace('\\', "\\\\").replace('"', "\\\"");
        for written in [part, &as_json, &as_json.replace('/', "\\/")] {
            if !written.is_empty() {
                masked = masked.replace(written, "***");
            }
        }
    }
    masked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").expect("a date");
        for (value, expected) in [
            ("120", Some(120)),
            (" 0 ", Some(0)),
            ("Sun, 06 Nov 1994 08:50:37 GMT", Some(60)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
            ("18446744073709551615", Some(u64::MAX)),
            ("18446744073709551616", Some(u64::MAX)),
            ("-1", None),
            ("+1", None),
            ("soon", None),
            ("", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, HeaderValue::from_static(value));
            let found = retry_after(&headers, now).map(|span| span.as_secs());
            assert_eq!(found, expected, "{value:?}");
        }
    }

    #[test]
    fn an_echoed_secret_is_masked() {
        let secret = Secret::new("Bearer s3cr3t-token".to_owned());
        let text = "you sent Bearer s3cr3t-token, that is s3cr3t-token";
        assert_eq!(masked(text, Some(&secret)), "you sent ***, that is ***");
        assert_eq!(masked("Bearer", Some(&secret)), "Bearer");
        let secret = Secret::new("Basic a\"b/c==".to_owned());
        assert_eq!(
            masked(r#"{"sent":"Basic a\"b\/c=="}"#, Some(&secret)),
            r#"{"sent":"***"}"#
        );
    }
}
