//! Whether an endpoint can be reached: name, connection and TLS, and nothing sent over it.

use std::sync::Arc;

use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::{Endpoint, tls, words};

/// Opens a connection and closes it again; says what was reached, or what went wrong.
pub async fn reach(endpoint: &Endpoint) -> Result<String, String> {
    let connecting = tokio::time::timeout(endpoint.timeout, connect(endpoint));
    connecting
        .await
        .unwrap_or_else(|_elapsed| Err("no connection within the timeout".to_owned()))
}

async fn connect(endpoint: &Endpoint) -> Result<String, String> {
    let host = endpoint
        .url
        .host_str()
        .unwrap_or_default()
        .trim_matches(['[', ']']);
    let port = endpoint.url.port_or_known_default().unwrap_or_default();
    let stream = TcpStream::connect((host, port))
        .await
        .map_err(|error| words::of(&error))?;
    let address = stream.peer_addr().map_err(|error| words::of(&error))?;
    if endpoint.url.scheme() != "https" {
        return Ok(format!("{address}, without TLS"));
    }
    let config = tls::config().map_err(|error| words::of(&error))?;
    let name = ServerName::try_from(host.to_owned()).map_err(|error| words::of(&error))?;
    let stream = TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
        .map_err(|error| words::of(&error))?;
    let version = stream.get_ref().1.protocol_version();
    Ok(format!(
        "{address}, {}",
        version
            .and_then(|version| version.as_str())
            .unwrap_or("TLS")
    ))
}
