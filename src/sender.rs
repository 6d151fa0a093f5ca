//! One payload → one POST → one [`Outcome`] (contract, section 4).
//!
//! The sender never retries, never sleeps, and decides nothing: it says how far the attempt came
//! and what was answered. It follows no redirect and uses no proxy of the environment. It opens no
//! file: certificates and keys come with the [`Endpoint`]. What an answer holds is read up to a
//! bound, and cleared of secrets before anybody else sees it.

pub mod content;
pub mod headers;
pub mod mask;
pub mod proxy;
pub mod reach;
pub mod secret;
pub mod signature;
pub mod tls;
mod unsent;
mod watch;
mod words;

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use reqwest::header::{
    AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER,
    USER_AGENT,
};
use reqwest::redirect;
use url::{Host, Url};

use crate::clock::WallTime;
use crate::feed::outcome::{Outcome, Phase};
use crate::feed::payload::PayloadId;
use content::{Compression, Preparation};
use headers::Header;
use mask::Mask;
use proxy::Proxy;
use secret::Secret;
use signature::SigningSecret;
use tls::Tls;
use watch::{Progress, WatchedBody, WatchedResolver};

/// Where a webhook's requests go, and with what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The receiver's address.
    pub url: Url,
    /// From connecting to the answer's status (D7).
    pub timeout: Duration,
    /// The `authorization` header's value.
    pub authorization: Option<Secret>,
    /// Further headers.
    pub headers: Vec<Header>,
    /// With what the requests are signed: with each of them; with none, they are not.
    pub signing_secrets: Vec<SigningSecret>,
    /// How the body is sent.
    pub compression: Compression,
    /// Whom it trusts, and who it says it is.
    pub tls: Tls,
    /// Through which proxy.
    pub proxy: Option<Proxy>,
}

impl Endpoint {
    /// One with nothing but its address.
    pub fn new(url: Url) -> Self {
        Self {
            url,
            timeout: TIMEOUT,
            authorization: None,
            headers: Vec::new(),
            signing_secrets: Vec::new(),
            compression: Compression::default(),
            tls: Tls::default(),
            proxy: None,
        }
    }
}

impl Endpoint {
    /// Its address for people, with secrets masked.
    pub fn shown_url(&self) -> String {
        Mask::new(self).apply(self.url.as_str())
    }
}

/// The default of [`Endpoint::timeout`].
const TIMEOUT: Duration = Duration::from_secs(90);

/// One attempt's request.
#[derive(Debug, Clone)]
pub struct Request {
    /// `webhook-id`: the same over retries.
    pub payload_id: PayloadId,
    /// `orderfeed-event`: order type and action.
    pub event: String,
    /// `orderfeed-attempt`: counts every request with this id.
    pub attempt: u32,
    /// `orderfeed-resend-of`: the payload that this is a part or a copy of (D22).
    pub resend_of: Option<PayloadId>,
    /// `orderfeed-test`: it holds no order.
    pub test: bool,
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

/// A receiver may take nothing of a request for as long as `timeout` allows; the client would close
/// the connection after 30 s, and does so where nobody waits for it any more.
const STALLED_CONNECTION_MIN: Duration = Duration::from_secs(30);

/// What sends one webhook's requests, one after another. All that is the same for each of them is
/// made once.
#[derive(Debug)]
pub struct Sender {
    client: reqwest::Client,
    progress: Arc<Progress>,
    url: Url,
    /// The receiver's address, or its proxy's.
    connects_to: Url,
    timeout: Duration,
    headers: HeaderMap,
    preparation: Preparation,
    mask: Mask,
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
    /// They are read now, and not again.
    pub fn new(endpoint: &Endpoint) -> Result<Self, SetUpError> {
        let progress = Arc::new(Progress::default());
        let tls = match endpoint.url.scheme() {
            "https" => tls::watched_config(&endpoint.tls, Arc::clone(&progress))?,
            _ => tls::no_config()?,
        };
        let mut client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .http1_only()
            .redirect(redirect::Policy::none())
            .retry(reqwest::retry::never())
            .no_proxy()
            .referer(false)
            .dns_resolver(WatchedResolver::new(Arc::clone(&progress)))
            .pool_idle_timeout(IDLE_CONNECTION_MAX)
            .pool_max_idle_per_host(1)
            .tcp_user_timeout(endpoint.timeout.max(STALLED_CONNECTION_MIN));
        if let Some(proxy) = &endpoint.proxy {
            let mut through = reqwest::Proxy::all(proxy.url.clone())?;
            if let Some(header) = proxy.authorization() {
                through = through.custom_http_auth(header_value(header));
            }
            client = client.proxy(through);
        }
        Ok(Self {
            client: client.build()?,
            progress,
            url: endpoint.url.clone(),
            connects_to: match &endpoint.proxy {
                Some(proxy) => proxy.url.clone(),
                None => endpoint.url.clone(),
            },
            timeout: endpoint.timeout,
            headers: standing_headers(endpoint),
            preparation: Preparation {
                compression: endpoint.compression,
                signing_secrets: endpoint.signing_secrets.clone().into(),
            },
            mask: Mask::new(endpoint),
        })
    }

    /// How long a request may take until its answer's status.
    pub const fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Sends one request and waits for its answer, no longer than the endpoint's `timeout`.
    pub async fn post(&self, request: Request) -> Report {
        let started_at = WallTime::now();
        let mut headers = self.headers_of(&request, started_at);
        let prepared = self
            .preparation
            .prepare(request.payload_id, started_at.unix_seconds(), request.body)
            .await;
        if let Some(signature) = prepared.signature {
            headers.insert(WEBHOOK_SIGNATURE, visible_ascii(signature));
        }
        let started = Instant::now();
        self.progress.set(Phase::Connect);
        let body = WatchedBody::new(prepared.body, Arc::clone(&self.progress));
        let sending = self
            .client
            .post(self.url.clone())
            .headers(headers)
            .body(reqwest::Body::wrap(body))
            .send();
        // Kept until it is known how far it came: the connection closes when this is dropped.
        let mut sending = pin!(sending);
        let answered = tokio::time::timeout(self.timeout, &mut sending).await;
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
                    Phase::Waiting if self.is_unsent().await => Phase::Sending,
                    phase => phase,
                };
                let outcome = Outcome::TimedOut { phase };
                let error = format!(
                    "no answer within {} (timeout)",
                    humantime::format_duration(self.timeout)
                );
                report(outcome, Some(error), None)
            }
            Ok(Err(error)) => {
                let phase = phase_of(&error, self.progress.get());
                let error = self.mask.apply(&words::of(&error));
                report(Outcome::Broken { phase }, Some(error), None)
            }
            Ok(Ok(response)) => {
                let status = response.status().as_u16();
                let retry_after = retry_after(response.headers(), SystemTime::now());
                let answer = read_answer(response).await;
                let answer = self.mask.apply(&String::from_utf8_lossy(&answer));
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
    async fn is_unsent(&self) -> bool {
        let port = self.connects_to.port_or_known_default().unwrap_or_default();
        let addresses = match self.connects_to.host() {
            Some(Host::Ipv4(address)) => vec![address.into()],
            Some(Host::Ipv6(address)) => vec![address.into()],
            Some(Host::Domain(_)) | None => self.progress.addresses(),
        };
        let look = move || unsent::is_any(port, &addresses);
        tokio::task::spawn_blocking(look).await.unwrap_or(true)
    }

    /// A request's headers, but for its signature and those that HTTP itself asks for.
    fn headers_of(&self, request: &Request, now: WallTime) -> HeaderMap {
        let mut headers = self.headers.clone();
        headers.insert(WEBHOOK_ID, visible_ascii(request.payload_id.to_string()));
        headers.insert(
            WEBHOOK_TIMESTAMP,
            visible_ascii(now.unix_seconds().to_string()),
        );
        headers.insert(ORDERFEED_EVENT, visible_ascii(request.event.clone()));
        headers.insert(
            ORDERFEED_ATTEMPT,
            visible_ascii(request.attempt.to_string()),
        );
        if let Some(resend_of) = request.resend_of {
            headers.insert(ORDERFEED_RESEND_OF, visible_ascii(resend_of.to_string()));
        }
        if request.test {
            headers.insert(ORDERFEED_TEST, HeaderValue::from_static("1"));
        }
        headers
    }
}

const WEBHOOK_ID: HeaderName = HeaderName::from_static("webhook-id");
const WEBHOOK_TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const WEBHOOK_SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");
const ORDERFEED_EVENT: HeaderName = HeaderName::from_static("orderfeed-event");
const ORDERFEED_ATTEMPT: HeaderName = HeaderName::from_static("orderfeed-attempt");
const ORDERFEED_RESEND_OF: HeaderName = HeaderName::from_static("orderfeed-resend-of");
const ORDERFEED_TEST: HeaderName = HeaderName::from_static("orderfeed-test");

/// The headers that are the same for every request of a webhook.
fn standing_headers(endpoint: &Endpoint) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(
        USER_AGENT,
        HeaderValue::from_static(concat!("orderfeed/", env!("CARGO_PKG_VERSION"))),
    );
    if endpoint.compression == Compression::Gzip {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    if let Some(secret) = &endpoint.authorization {
        headers.insert(AUTHORIZATION, header_value(secret));
    }
    for header in &endpoint.headers {
        headers.insert(header.name.clone(), header_value(&header.value));
    }
    headers
}

fn header_value(secret: &Secret) -> HeaderValue {
    let mut value = HeaderValue::try_from(secret.expose())
        .expect("the configuration lets only header values pass");
    value.set_sensitive(true);
    value
}

fn visible_ascii(value: String) -> HeaderValue {
    HeaderValue::try_from(value).expect("ids, events, numbers and signatures are visible ASCII")
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
pub fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
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
}
