//! What becomes of a payload's bytes before they leave: compression, and the signature over what
//! they were before it.
//!
//! The same bytes make the same bytes, whenever it is done.

use std::fmt::Display;
use std::io::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use flate2::{Compression as Level, write::GzEncoder};

use super::signature::{self, SigningSecret};

/// `compression`: how a request's body is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    /// As it is.
    #[default]
    None,
    /// gzip, said in `content-encoding`.
    Gzip,
}

/// What is done to the bodies of one webhook.
#[derive(Debug, Clone)]
pub(super) struct Preparation {
    pub(super) compression: Compression,
    pub(super) signing_secrets: Arc<[SigningSecret]>,
}

/// A body as it leaves, and the header `webhook-signature` that goes with it.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) body: Bytes,
    pub(super) signature: Option<String>,
}

/// Larger bodies are compressed and signed on a thread beside, so that other webhooks do not wait.
const INLINE_BYTES_MAX: usize = 64 * 1024;

/// Measured with orders: the usual 6 takes more than twice as long, and saves a twenty-fifth.
const LEVEL: Level = Level::new(4);

impl Preparation {
    /// Makes the body ready to leave. `id` and `timestamp` are those of the request's headers.
    pub(super) async fn prepare(
        &self,
        id: impl Display + Send + 'static,
        timestamp: i64,
        body: Bytes,
    ) -> Prepared {
        let as_it_is = self.compression == Compression::None && self.signing_secrets.is_empty();
        if as_it_is || body.len() <= INLINE_BYTES_MAX {
            return self.prepare_here(&id, timestamp, body);
        }
        let this = self.clone();
        let work = tokio::task::spawn_blocking(move || this.prepare_here(&id, timestamp, body));
        work.await
            .expect("nothing in there panics, and nobody cancels it")
    }

    fn prepare_here(&self, id: &impl Display, timestamp: i64, body: Bytes) -> Prepared {
        let sign = || signature::sign(&self.signing_secrets, &id.to_string(), timestamp, &body);
        let signature = (!self.signing_secrets.is_empty()).then(sign);
        let body = match self.compression {
            Compression::None => body,
            Compression::Gzip => gzip(&body),
        };
        Prepared { body, signature }
    }
}

/// The header of gzip names neither a time nor a file, so that equal bytes stay equal.
fn gzip(body: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 4), LEVEL);
    encoder
        .write_all(body)
        .expect("memory takes whatever is written");
    let compressed = encoder.finish().expect("memory takes whatever is written");
    Bytes::from(compressed)
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use futures_util::poll;
    use tokio::runtime;

    use super::*;

    fn runtime() -> runtime::Runtime {
        let runtime = runtime::Builder::new_current_thread().build();
        runtime.expect("a runtime")
    }

    fn preparing(body: &str) -> impl Future<Output = Prepared> {
        let secret = SigningSecret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        let preparation = Preparation {
            compression: Compression::Gzip,
            signing_secrets: Arc::new([secret.expect("a secret")]),
        };
        let id = "msg_p5jXN8AQM9LWM0D4loKWxJek";
        let body = Bytes::from(body.to_owned());
        async move { preparation.prepare(id, 1_614_265_330, body).await }
    }

    fn prepare(body: &str) -> Prepared {
        runtime().block_on(preparing(body))
    }

    fn unpacked(body: &[u8]) -> String {
        let mut text = String::new();
        let read = flate2::read::GzDecoder::new(body).read_to_string(&mut text);
        read.expect("gzip");
        text
    }

    #[test]
    fn the_signature_is_over_what_was_not_compressed() {
        let body = r#"{"test": 2432232314}"#;
        let prepared = prepare(body);
        assert_eq!(
            prepared.signature.as_deref(),
            Some("v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=")
        );
        assert_eq!(unpacked(&prepared.body), body);
    }

    #[test]
    fn equal_bytes_stay_equal_inline_and_beside() {
        for length in [0, 1, INLINE_BYTES_MAX, INLINE_BYTES_MAX + 1] {
            let body = "{\"TrackingNumber\":123},".repeat(length / 23 + 1);
            let body = &body[..length];
            let (first, second) = (prepare(body), prepare(body));
            assert_eq!(first.body, second.body, "{length} bytes");
            assert_eq!(unpacked(&first.body), body, "{length} bytes");
            // Neither a time nor a name.
            assert_eq!(first.body[3..8], [0; 5], "{length} bytes");
        }
    }

    /// D3: whoever else is on the thread goes on meanwhile.
    #[test]
    fn a_large_body_holds_up_no_other_webhook() {
        let large = "{\"TrackingNumber\":123},".repeat(100_000);
        runtime().block_on(async {
            let mut preparing = Box::pin(preparing(&large));
            assert!(poll!(&mut preparing).is_pending(), "it was done here");
            assert_eq!(unpacked(&preparing.await.body), large);
            assert!(poll!(Box::pin(self::preparing("{}"))).is_ready());
        });
    }
}
