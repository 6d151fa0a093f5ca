//! TLS: the system's certificates, the usual versions, and a watch on when it begins.

use std::sync::Arc;

use rustls::client::{
    ClientSessionMemoryCache, ClientSessionStore, Resumption, Tls12ClientSessionValue,
    Tls13ClientSessionValue,
};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, NamedGroup};
use rustls_platform_verifier::BuilderVerifierExt;

use super::watch::Progress;
use crate::feed::outcome::Phase;

/// What every TLS connection is made with. Certificates are verified, always.
pub(super) fn config() -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_platform_verifier()?
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// The same, and `progress` is told when a handshake begins (D16).
pub(super) fn watched_config(progress: Arc<Progress>) -> Result<ClientConfig, rustls::Error> {
    let mut config = config()?;
    config.resumption = Resumption::store(Arc::new(WatchedSessions {
        sessions: ClientSessionMemoryCache::new(SESSIONS_MAX),
        progress,
    }));
    Ok(config)
}

/// A webhook has one receiver, or a few behind one name.
const SESSIONS_MAX: usize = 8;

/// Remembered sessions. TLS asks for them first of all when a handshake begins, and says nothing
/// else to anyone at that point.
#[derive(Debug)]
struct WatchedSessions {
    sessions: ClientSessionMemoryCache,
    progress: Arc<Progress>,
}

impl ClientSessionStore for WatchedSessions {
    fn set_kx_hint(&self, server_name: ServerName<'static>, group: NamedGroup) {
        self.sessions.set_kx_hint(server_name, group);
    }

    fn kx_hint(&self, server_name: &ServerName<'_>) -> Option<NamedGroup> {
        self.progress.set(Phase::Tls);
        self.sessions.kx_hint(server_name)
    }

    fn set_tls12_session(&self, server_name: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.sessions.set_tls12_session(server_name, value);
    }

    fn tls12_session(&self, server_name: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.progress.set(Phase::Tls);
        self.sessions.tls12_session(server_name)
    }

    fn remove_tls12_session(&self, server_name: &ServerName<'static>) {
        self.sessions.remove_tls12_session(server_name);
    }

    fn insert_tls13_ticket(
        &self,
        server_name: ServerName<'static>,
        value: Tls13ClientSessionValue,
    ) {
        self.sessions.insert_tls13_ticket(server_name, value);
    }

    fn take_tls13_ticket(
        &self,
        server_name: &ServerName<'static>,
    ) -> Option<Tls13ClientSessionValue> {
        self.progress.set(Phase::Tls);
        self.sessions.take_tls13_ticket(server_name)
    }
}
