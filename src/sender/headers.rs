//! The headers that a webhook adds to its requests, and those that nobody can replace.

use reqwest::header;
pub use reqwest::header::HeaderName;

use super::secret::Secret;

/// A further header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Its name.
    pub name: HeaderName,
    /// Its value; a header's value, which is for who makes it to see to.
    pub value: Secret,
    /// Whether it is masked where a receiver echoes it: not where it is a word that stands in
    /// answers anyway.
    pub masked: bool,
}

/// Why a header can't be set by a webhook; `None` if it can.
pub fn reserved(name: &HeaderName) -> Option<&'static str> {
    if *name == header::AUTHORIZATION {
        return Some("the key authorization sets it");
    }
    if *name == header::PROXY_AUTHORIZATION {
        return Some("the key proxy sets it");
    }
    let own = [header::CONTENT_TYPE, header::USER_AGENT];
    let prefixes = ["webhook-", "orderfeed-"];
    if own.contains(name)
        || prefixes
            .iter()
            .any(|prefix| name.as_str().starts_with(prefix))
    {
        return Some("orderfeed sets it itself");
    }
    let of_http = [
        header::HOST,
        header::CONTENT_LENGTH,
        header::TRANSFER_ENCODING,
        header::CONTENT_ENCODING,
        header::CONNECTION,
        header::TE,
        header::TRAILER,
        header::UPGRADE,
        header::EXPECT,
        header::ACCEPT_ENCODING,
        HeaderName::from_static("keep-alive"),
        HeaderName::from_static("proxy-connection"),
    ];
    of_http
        .contains(name)
        .then_some("it belongs to HTTP itself, or says how the body is sent")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_contract_and_http_set_is_reserved() {
        for (name, expected) in [
            ("x-api-key", None),
            ("cookie", None),
            ("webhooks", None),
            ("authorization", Some("the key authorization sets it")),
            ("webhook-id", Some("orderfeed sets it itself")),
            ("orderfeed-anything", Some("orderfeed sets it itself")),
            ("user-agent", Some("orderfeed sets it itself")),
            (
                "host",
                Some("it belongs to HTTP itself, or says how the body is sent"),
            ),
        ] {
            assert_eq!(reserved(&HeaderName::from_static(name)), expected, "{name}");
        }
    }
}
