//! Takes a webhook's secrets out of what its receiver answers.

use super::Endpoint;
use super::proxy::Proxy;
use super::secret::Secret;
use super::signature::SigningSecret;

/// What must not be seen in a text, in each way in which it may be written there.
#[derive(Debug, Clone, Default)]
pub(super) struct Mask(Vec<Secret>);

/// Shorter parts of a secret are words like any other.
pub const TELLING_BYTES_MIN: usize = 8;

impl Mask {
    /// Masks all that is secret of the endpoint.
    pub(super) fn new(endpoint: &Endpoint) -> Self {
        let mut mask = Self::default();
        let headers = endpoint.headers.iter().filter(|header| header.masked);
        endpoint
            .authorization
            .iter()
            .chain(headers.map(|header| &header.value))
            .chain(endpoint.signing_secrets.iter().map(SigningSecret::text))
            .chain(endpoint.proxy.iter().flat_map(Proxy::secrets))
            .for_each(|secret| mask.add(secret));
        for secret in &endpoint.signing_secrets {
            mask.add_written(secret.coded_key());
        }
        // What stands in a url's query may let in whoever knows it.
        let query = endpoint.url.query().unwrap_or_default();
        query
            .split('&')
            .filter_map(|pair| Some(pair.split_once('=')?.1))
            .filter(|value| value.len() >= TELLING_BYTES_MIN)
            .for_each(|value| mask.add_written(value));
        // A longer text first: what is left of it must not stay.
        mask.0
            .sort_by_key(|text| std::cmp::Reverse(text.expose().len()));
        mask
    }

    /// The secret, and the parts of it that are long enough to tell.
    fn add(&mut self, secret: &Secret) {
        let parts = secret
            .expose()
            .split_whitespace()
            .filter(|part| part.len() >= TELLING_BYTES_MIN);
        for part in std::iter::once(secret.expose()).chain(parts) {
            self.add_written(part);
        }
    }

    /// The text itself, and as JSON writes it.
    fn add_written(&mut self, text: &str) {
        let as_json = text.replace('\\', "\\\\").replace('"', "\\\"");
        let escaped = as_json.replace('/', "\\/");
        for written in [text.to_owned(), as_json, escaped] {
            let written = Secret::new(written);
            if !written.expose().is_empty() && !self.0.contains(&written) {
                self.0.push(written);
            }
        }
    }

    /// The text without them; at its end, where it may have been cut off, also without the
    /// beginning of one.
    pub(super) fn apply(&self, text: &str) -> String {
        let mut masked = text.to_owned();
        for secret in &self.0 {
            let secret = secret.expose();
            if masked.contains(secret) {
                masked = masked.replace(secret, "***");
            }
            let begins = |&end: &usize| {
                let beginning = secret.get(..end);
                beginning.is_some_and(|beginning| masked.ends_with(beginning))
            };
            if let Some(cut) = (TELLING_BYTES_MIN..secret.len()).rev().find(begins) {
                masked.truncate(masked.len() - cut);
                masked.push_str("***");
            }
        }
        masked
    }
}

#[cfg(test)]
mod tests {
    use super::super::headers::Header;
    use super::*;

    fn secret(text: &str) -> Secret {
        Secret::new(text.to_owned())
    }

    fn endpoint() -> Endpoint {
        Endpoint::new("https://example.com/".parse().expect("a url"))
    }

    #[track_caller]
    fn check(endpoint: &Endpoint, text: &str, expected: &str) {
        assert_eq!(Mask::new(endpoint).apply(text), expected);
    }

    #[test]
    fn an_authorization_is_masked_and_its_telling_parts() {
        let bearer = Endpoint {
            authorization: Some(secret("Bearer s3cr3t-token")),
            ..endpoint()
        };
        check(
            &bearer,
            "you sent Bearer s3cr3t-token, that is s3cr3t-token",
            "you sent ***, that is ***",
        );
        check(&bearer, "Bearer", "Bearer");
        let basic = Endpoint {
            authorization: Some(secret("Basic a\"b/c==")),
            ..endpoint()
        };
        check(&basic, r#"{"sent":"Basic a\"b\/c=="}"#, r#"{"sent":"***"}"#);
    }

    #[test]
    fn a_signing_secret_is_masked_with_and_without_its_prefix() {
        let text = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        let signed = Endpoint {
            signing_secrets: vec![SigningSecret::parse(text).expect("a secret")],
            ..endpoint()
        };
        check(&signed, &format!("it is {text}"), "it is ***");
        check(&signed, "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "***");
    }

    #[test]
    fn a_headers_value_is_masked_where_it_is_a_secret() {
        let header = |value: &str, masked| Header {
            name: reqwest::header::COOKIE,
            value: secret(value),
            masked,
        };
        let both = Endpoint {
            headers: vec![header("k3y", true), header("plant", false)],
            ..endpoint()
        };
        check(&both, "plant k3y", "plant ***");
    }

    #[test]
    fn what_a_urls_query_holds_is_masked() {
        let url = "https://example.com/x?plant=10&code=s3cr3t-code";
        check(
            &Endpoint::new(url.parse().expect("a url")),
            "Cannot POST /x?plant=10&code=s3cr3t-code",
            "Cannot POST /x?plant=10&code=***",
        );
    }

    #[test]
    fn the_beginning_of_a_secret_is_masked_where_the_text_ends() {
        let bearer = Endpoint {
            authorization: Some(secret("Bearer s3cr3t-token")),
            ..endpoint()
        };
        check(&bearer, "you sent Bearer s3cr3", "you sent ***");
        check(&bearer, "it is s3cr3t-to", "it is ***");
        check(&bearer, "it is s3cr3t-", "it is s3cr3t-");
        check(&bearer, "Bearer s3cr3 is wrong", "Bearer s3cr3 is wrong");
    }

    #[test]
    fn a_proxys_password_is_masked_in_all_its_forms() {
        let proxied = Endpoint {
            proxy: Some(Proxy::parse("http://me:pass%2Fword@proxy:3128").expect("a proxy")),
            ..endpoint()
        };
        // "me:pass/word"
        check(
            &proxied,
            "pass/word Basic bWU6cGFzcy93b3Jk bWU6cGFzcy93b3Jk",
            "*** *** ***",
        );
    }
}
