//! The proxy through which a webhook is reached, if it has one.
//!
//! To an `https://` url it opens a tunnel by CONNECT and sees nothing of what goes through; a
//! request to an `http://` url is handed to it as a whole. The environment's proxies are not used.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use percent_encoding::percent_decode_str;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use url::Url;

use super::secret::Secret;

/// What a proxy's url must be, for messages.
pub const ALLOWED: &str = "\"none\", or an http:// url of host and port, such as \"http://proxy.example.com:3128\" or \"http://user:password@proxy.example.com:3128\"";

/// A proxy that speaks HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proxy {
    /// Its address, without user and password.
    pub(super) url: Url,
    login: Option<Login>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Login {
    /// The header `proxy-authorization`.
    header: Secret,
    password: Secret,
}

impl Proxy {
    /// Reads what is configured; `None` if it is no proxy's url.
    pub fn parse(text: &str) -> Option<Self> {
        let mut url = Url::parse(text).ok()?;
        let only_host = matches!(url.path(), "" | "/")
            && url.query().is_none()
            && url.fragment().is_none()
            && url.has_host()
            && url.port() != Some(0);
        // `Url` tells no forgotten password from none.
        let user = text.rsplit_once('@').map_or("", |(user, _)| user);
        let only_host = only_host && !user.ends_with(':');
        if url.scheme() != "http" || !only_host || text.contains(char::is_whitespace) {
            return None;
        }
        let login = if url.username().is_empty() && url.password().is_none() {
            None
        } else {
            let decoded = |text| percent_decode_str(text).decode_utf8().ok();
            let user = decoded(url.username())?;
            let password = decoded(url.password().unwrap_or_default())?;
            let coded = BASE64_STANDARD.encode(format!("{user}:{password}"));
            Some(Login {
                header: Secret::new(format!("Basic {coded}")),
                password: Secret::new(password.into_owned()),
            })
        };
        url.set_username("").ok()?;
        url.set_password(None).ok()?;
        Some(Self { url, login })
    }

    /// The header `proxy-authorization`, if it wants one.
    pub(super) fn authorization(&self) -> Option<&Secret> {
        self.login.as_ref().map(|login| &login.header)
    }

    /// What must not be seen.
    pub(super) fn secrets(&self) -> impl Iterator<Item = &Secret> {
        let login = self.login.iter();
        login.flat_map(|login| [&login.header, &login.password])
    }

    /// A connection to the proxy itself.
    pub(super) async fn connect(&self) -> std::io::Result<TcpStream> {
        let host = self.url.host_str().unwrap_or_default();
        let port = self.url.port_or_known_default().unwrap_or_default();
        TcpStream::connect((host.trim_matches(['[', ']']), port)).await
    }

    /// Has the proxy connect to `host` (in brackets, if it is an IPv6 address) and `port`; what it
    /// says if it does not.
    pub(super) async fn open_tunnel(
        &self,
        stream: &mut TcpStream,
        host: &str,
        port: u16,
    ) -> Result<(), String> {
        let mut request = format!("CONNECT {host}:{port} HTTP/1.1\r\nhost: {host}:{port}\r\n");
        if let Some(header) = self.authorization() {
            request.push_str("proxy-authorization: ");
            request.push_str(header.expose());
            request.push_str("\r\n");
        }
        request.push_str("\r\n");
        let request = Secret::new(request);
        let in_words = |error: std::io::Error| error.to_string();
        let sent = stream.write_all(request.expose().as_bytes()).await;
        sent.map_err(in_words)?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            if head.len() >= ANSWER_HEAD_BYTES_MAX {
                return Err("its answer is no HTTP, or too long".to_owned());
            }
            head.push(stream.read_u8().await.map_err(in_words)?);
        }
        let head = String::from_utf8_lossy(&head);
        let status_line = head.lines().next().unwrap_or_default();
        match status_line.split(' ').nth(1) {
            Some("200") => Ok(()),
            _ => Err(format!("it answered {status_line:?}")),
        }
    }
}

/// The head of the answer to CONNECT is no longer.
const ANSWER_HEAD_BYTES_MAX: usize = 8 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_an_http_url_of_host_and_port() {
        for (text, expected) in [
            (
                "http://proxy.example.com:3128",
                Some(("http://proxy.example.com:3128/", None)),
            ),
            ("http://[::1]:8080/", Some(("http://[::1]:8080/", None))),
            ("http://proxy", Some(("http://proxy/", None))),
            (
                "http://me:pass%2Fword@proxy:3128",
                Some(("http://proxy:3128/", Some("Basic bWU6cGFzcy93b3Jk"))),
            ),
            (
                "http://me@proxy:3128",
                Some(("http://proxy:3128/", Some("Basic bWU6"))),
            ),
            ("https://proxy:3128", None),
            ("socks5://proxy:1080", None),
            ("http://proxy:3128/path", None),
            ("http://proxy:3128/?query", None),
            ("http://proxy:3128/#fragment", None),
            ("http://me:%ff@proxy:3128", None),
            ("http://", None),
            ("proxy:3128", None),
            ("http://proxy:0", None),
            ("http://me:@proxy:3128", None),
            (" http://proxy:3128", None),
            ("", None),
        ] {
            let proxy = Proxy::parse(text);
            let found = proxy.as_ref().map(|proxy| {
                let header = proxy.authorization().map(Secret::expose);
                (proxy.url.as_str(), header)
            });
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn a_password_is_not_shown() {
        let proxy = Proxy::parse("http://me:password@proxy:3128").expect("a proxy");
        assert!(!format!("{proxy:?}").contains("password@"));
        assert!(!format!("{proxy:?}").contains("bWU6"));
    }
}
