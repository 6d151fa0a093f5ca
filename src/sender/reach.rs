//! Whether an endpoint can be reached: name, connection and TLS, through its proxy if it has one,
//! and nothing sent over it.

use std::sync::Arc;

use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::mask::Mask;
use super::{Endpoint, tls, words};

/// Opens a connection and closes it again; says what was reached, or what went wrong.
pub async fn reach(endpoint: &Endpoint) -> Result<String, String> {
    let connecting = tokio::time::timeout(endpoint.timeout, connect(endpoint));
    connecting
        .await
        .unwrap_or_else(|_elapsed| Err("no connection within the timeout".to_owned()))
}

async fn connect(endpoint: &Endpoint) -> Result<String, String> {
    let host = endpoint.url.host_str().unwrap_or_default();
    let name = host.trim_matches(['[', ']']);
    let port = endpoint.url.port_or_known_default().unwrap_or_default();
    let encrypted = endpoint.url.scheme() == "https";
    let (mut stream, by_way_of) = match &endpoint.proxy {
        None => {
            let stream = TcpStream::connect((name, port))
                .await
                .map_err(|error| words::of(&error))?;
            (stream, "")
        }
        Some(proxy) => {
            let stream = proxy.connect().await;
            let stream = stream.map_err(|error| format!("the proxy can't be reached: {error}"))?;
            (stream, " (the proxy)")
        }
    };
    let address = stream.peer_addr().map_err(|error| words::of(&error))?;
    if !encrypted {
        return Ok(format!("{address}{by_way_of}, without TLS"));
    }
    if let Some(proxy) = &endpoint.proxy {
        let opened = proxy.open_tunnel(&mut stream, host, port).await;
        opened.map_err(|what| {
            let what = Mask::new(endpoint).apply(&what);
            format!("the proxy {address} does not connect to {host}:{port}: {what}")
        })?;
    }
    let config = tls::config(&endpoint.tls).map_err(|error| words::of(&error))?;
    let name = ServerName::try_from(name.to_owned()).map_err(|error| words::of(&error))?;
    let stream = TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
        .map_err(|error| words::of(&error))?;
    let version = stream.get_ref().1.protocol_version();
    let version = version.and_then(|version| version.as_str());
    Ok(format!(
        "{address}{by_way_of}, {}",
        version.unwrap_or("TLS")
    ))
}
