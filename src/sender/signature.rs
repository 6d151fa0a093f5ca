//! Standard Webhooks signatures: HMAC-SHA256 over id, timestamp and body, so that a receiver knows
//! who sent a request, and that nobody changed it on the way.
//!
//! Signs, and verifies as a receiver does. Knows nothing of HTTP, and reads no clock.

use std::fmt;
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use ring::hmac;
use zeroize::Zeroizing;

use super::secret::Secret;

/// A secret that sender and receiver share: `whsec_` and the base64 of 24 to 64 bytes.
///
/// Shown nowhere, wiped from memory when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct SigningSecret {
    text: Secret,
    key: Zeroizing<Vec<u8>>,
}

/// What a signing secret must be, for messages.
pub const ALLOWED: &str =
    "whsec_ and the base64 of 24 to 64 random bytes, which openssl rand -base64 32 makes";

const PREFIX: &str = "whsec_";
const KEY_BYTES_MIN: usize = 24;
const KEY_BYTES_MAX: usize = 64;

/// Why a text is no signing secret. Says nothing of what it holds but its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SigningSecretError {
    /// It begins otherwise.
    #[error("it does not begin with whsec_")]
    NoPrefix,
    /// What follows is something else.
    #[error(
        "what follows whsec_ is not base64 (A-Z a-z 0-9 + /, filled up with = to a multiple of 4)"
    )]
    NotBase64,
    /// Too few or too many bytes.
    #[error("it holds {0} bytes, not 24 to 64")]
    Length(usize),
}

impl SigningSecret {
    /// Reads what is configured.
    pub fn parse(text: &str) -> Result<Self, SigningSecretError> {
        let coded = text
            .strip_prefix(PREFIX)
            .ok_or(SigningSecretError::NoPrefix)?;
        let key = BASE64_STANDARD
            .decode(coded)
            .map(Zeroizing::new)
            .map_err(|_error| SigningSecretError::NotBase64)?;
        if !(KEY_BYTES_MIN..=KEY_BYTES_MAX).contains(&key.len()) {
            return Err(SigningSecretError::Length(key.len()));
        }
        Ok(Self {
            text: Secret::new(text.to_owned()),
            key,
        })
    }

    /// The secret as it was written, for finding it where it must be masked.
    pub fn text(&self) -> &Secret {
        &self.text
    }

    /// What follows the prefix: the key, as base64.
    pub(super) fn coded_key(&self) -> &str {
        &self.text.expose()[PREFIX.len()..]
    }

    fn hmac_key(&self) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, &self.key)
    }
}

impl fmt::Debug for SigningSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// The header `webhook-signature`: one signature for each secret, separated by a space.
///
/// `timestamp` is in seconds since 1970, `body` what it is before any compression.
pub fn sign(secrets: &[SigningSecret], id: &str, timestamp: i64, body: &[u8]) -> String {
    let signatures: Vec<String> = secrets
        .iter()
        .map(|secret| {
            let mut context = hmac::Context::with_key(&secret.hmac_key());
            context.update(format!("{id}.{timestamp}.").as_bytes());
            context.update(body);
            format!("{VERSION},{}", BASE64_STANDARD.encode(context.sign()))
        })
        .collect();
    signatures.join(" ")
}

/// The scheme's name in front of each signature.
const VERSION: &str = "v1";

/// What a signed request says of itself in its headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SignedHeaders<'a> {
    /// `webhook-id`
    pub id: &'a str,
    /// `webhook-timestamp`
    pub timestamp: &'a str,
    /// `webhook-signature`
    pub signature: &'a str,
}

/// Why a request is not to be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// The timestamp is missing or no number.
    #[error("webhook-timestamp is not a number of seconds since 1970")]
    NoTimestamp,
    /// It was signed too long ago.
    #[error("webhook-timestamp is {0} s old, which is too old")]
    TooOld(u64),
    /// It was signed in the future.
    #[error("webhook-timestamp is {0} s ahead of this clock, which is too far")]
    TooNew(u64),
    /// There is no signature of this scheme.
    #[error("webhook-signature holds no signature that begins with \"v1,\"")]
    NoSignature,
    /// None of the signatures was made with one of the secrets for just this id, timestamp and body.
    #[error("webhook-signature fits no secret with this id, timestamp and body")]
    WrongSignature,
}

/// Whether one of the signatures was made with one of the secrets, at most `tolerance` from `now`
/// (seconds since 1970). Signatures are compared in constant time.
pub fn verify(
    secrets: &[SigningSecret],
    headers: SignedHeaders<'_>,
    body: &[u8],
    now: i64,
    tolerance: Duration,
) -> Result<(), VerifyError> {
    let timestamp: i64 = headers
        .timestamp
        .parse()
        .map_err(|_error| VerifyError::NoTimestamp)?;
    let away = now.abs_diff(timestamp);
    if away > tolerance.as_secs() {
        return Err(if timestamp < now {
            VerifyError::TooOld(away)
        } else {
            VerifyError::TooNew(away)
        });
    }
    let signatures: Vec<&str> = headers
        .signature
        .split(' ')
        .filter_map(|signature| signature.strip_prefix(VERSION)?.strip_prefix(','))
        .collect();
    if signatures.is_empty() {
        return Err(VerifyError::NoSignature);
    }
    // The timestamp as it came: that is what was signed.
    let signed = [
        headers.id.as_bytes(),
        b".",
        headers.timestamp.as_bytes(),
        b".",
        body,
    ]
    .concat();
    let fits = |signature: &[u8]| {
        let made_with =
            |secret: &SigningSecret| hmac::verify(&secret.hmac_key(), &signed, signature).is_ok();
        secrets.iter().any(made_with)
    };
    let any_fits = signatures
        .iter()
        .filter_map(|signature| BASE64_STANDARD.decode(signature).ok())
        .any(|signature| fits(&signature));
    any_fits.then_some(()).ok_or(VerifyError::WrongSignature)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example that the Standard Webhooks libraries test themselves with.
    const PUBLISHED: (&str, &str, i64, &str, &str) = (
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        1_614_265_330,
        r#"{"test": 2432232314}"#,
        "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    );

    fn secret(text: &str) -> SigningSecret {
        SigningSecret::parse(text).expect("a signing secret")
    }

    #[test]
    fn signs_as_published() {
        let (text, id, timestamp, body, expected) = PUBLISHED;
        assert_eq!(
            sign(&[secret(text)], id, timestamp, body.as_bytes()),
            expected
        );
    }

    #[test]
    fn every_secret_signs() {
        let (text, id, timestamp, body, expected) = PUBLISHED;
        let other = format!("whsec_{}", BASE64_STANDARD.encode([7; 32]));
        let signature = sign(
            &[secret(&other), secret(text)],
            id,
            timestamp,
            body.as_bytes(),
        );
        assert_eq!(
            signature,
            format!("v1,YO/ulmd+VFtlnbodv7yLOOsS6RlBZ48h++gXZrGOpZo= {expected}")
        );
    }

    #[test]
    fn a_secret_is_whsec_and_24_to_64_bytes() {
        use SigningSecretError::{Length, NoPrefix, NotBase64};
        let of_bytes = |bytes: usize| format!("whsec_{}", BASE64_STANDARD.encode(vec![7; bytes]));
        for (text, expected) in [
            (of_bytes(24), Ok(())),
            (of_bytes(25), Ok(())),
            (of_bytes(64), Ok(())),
            (of_bytes(23), Err(Length(23))),
            (of_bytes(65), Err(Length(65))),
            ("whsec_".to_owned(), Err(Length(0))),
            (of_bytes(24).replace("whsec_", ""), Err(NoPrefix)),
            (of_bytes(24).to_uppercase(), Err(NoPrefix)),
            (of_bytes(25).replace('=', ""), Err(NotBase64)),
            (of_bytes(24).replace("Bw", "-_"), Err(NotBase64)),
            (format!("{}\n", of_bytes(24)), Err(NotBase64)),
            (String::new(), Err(NoPrefix)),
        ] {
            let found = SigningSecret::parse(&text).map(|_secret| ());
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn a_secret_is_not_shown() {
        let secret = secret(PUBLISHED.0);
        assert_eq!(format!("{secret:?}"), "***");
        assert_eq!(secret.text().expose(), PUBLISHED.0);
    }

    #[test]
    fn verifies_what_is_signed_and_nothing_else() {
        use VerifyError::{NoSignature, NoTimestamp, TooNew, TooOld, WrongSignature};
        let (text, id, now, body, good) = PUBLISHED;
        let other = "v1,YO/ulmd+VFtlnbodv7yLOOsS6RlBZ48h++gXZrGOpZo=";
        let both = format!("{other} v2,x {good}");
        let tolerance = Duration::from_mins(5);
        let check = |changed: &str, id, timestamp: &str, signature, body: &str, now, expected| {
            let headers = SignedHeaders {
                id,
                timestamp,
                signature,
            };
            let secrets = [secret(text)];
            let found = verify(&secrets, headers, body.as_bytes(), now, tolerance);
            assert_eq!(found, expected, "{changed}");
        };
        let at = now.to_string();
        check("nothing", id, &at, good, body, now, Ok(()));
        check("one of several", id, &at, &both, body, now, Ok(()));
        check("as late as may be", id, &at, good, body, now + 300, Ok(()));
        check("as early as may be", id, &at, good, body, now - 300, Ok(()));
        check("late", id, &at, good, body, now + 301, Err(TooOld(301)));
        check("early", id, &at, good, body, now - 301, Err(TooNew(301)));
        check("id", "msg", &at, good, body, now, Err(WrongSignature));
        check("body", id, &at, good, "{}", now, Err(WrongSignature));
        let later = (now + 1).to_string();
        check("time", id, &later, good, body, now, Err(WrongSignature));
        let zero = format!("0{at}");
        check("digits", id, &zero, good, body, now, Err(WrongSignature));
        check("no number", id, "soon", good, body, now, Err(NoTimestamp));
        check("no time", id, "", good, body, now, Err(NoTimestamp));
        check("scheme", id, &at, "v2,x", body, now, Err(NoSignature));
        check("no signature", id, &at, "", body, now, Err(NoSignature));
        check("secret", id, &at, other, body, now, Err(WrongSignature));
        let cut = &good[..good.len() - 4];
        check("cut off", id, &at, cut, body, now, Err(WrongSignature));
        check("empty", id, &at, "v1,", body, now, Err(WrongSignature));
    }

    #[test]
    fn verifies_with_any_of_the_secrets() {
        let (text, id, timestamp, body, good) = PUBLISHED;
        let other = format!("whsec_{}", BASE64_STANDARD.encode([7; 32]));
        let headers = SignedHeaders {
            id,
            timestamp: &timestamp.to_string(),
            signature: good,
        };
        let secrets = [secret(&other), secret(text)];
        assert_eq!(
            verify(
                &secrets,
                headers,
                body.as_bytes(),
                timestamp,
                Duration::ZERO
            ),
            Ok(())
        );
    }
}
