//! TLS: whom a webhook trusts, who it says it is, and a watch on when a handshake begins.
//!
//! Reads PEM that it is given, and no files.

use std::fmt;
use std::sync::Arc;

use rustls::client::{
    ClientSessionMemoryCache, ClientSessionStore, Resumption, Tls12ClientSessionValue,
    Tls13ClientSessionValue,
};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::ParsedCertificate;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, NamedGroup, RootCertStore};
use rustls_platform_verifier::Verifier;

use super::watch::Progress;
use crate::feed::outcome::Phase;

/// `tls`: what a webhook's connections are made with beside the system's certificates.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tls {
    /// Further certificates of authorities that are trusted, beside the system's.
    pub authorities: Authorities,
    /// Who the daemon says it is, to a receiver that asks.
    pub identity: Option<Identity>,
}

/// Certificates of authorities.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Authorities(Vec<CertificateDer<'static>>);

/// A chain of certificates, the own one first.
#[derive(Clone, PartialEq, Eq)]
pub struct Chain(Vec<CertificateDer<'static>>);

/// A private key.
pub struct PrivateKey(PrivateKeyDer<'static>);

/// A certificate with its key.
#[derive(Clone)]
pub struct Identity(Arc<CertifiedKey>);

/// Why a PEM file is of no use; a sentence that goes on from the file's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PemError {
    /// There is none.
    #[error("holds no certificate (PEM, -----BEGIN CERTIFICATE-----)")]
    NoCertificate,
    /// There is one, and something is wrong with it.
    #[error("holds a certificate that can't be used: {0}")]
    Certificate(String),
    /// There is none.
    #[error("holds no private key (PEM, -----BEGIN PRIVATE KEY-----)")]
    NoKey,
    /// Nobody is there to type its password.
    #[error(
        "holds an encrypted private key; openssl pkey decrypts it, into a file that the daemon alone may read"
    )]
    EncryptedKey,
    /// There is one, and something is wrong with it.
    #[error("holds a private key that can't be used: {0}")]
    Key(String),
    /// The key belongs to another certificate.
    #[error("holds the private key of another certificate")]
    OtherKey,
}

impl Authorities {
    /// Reads the certificates of a PEM file, at least one.
    pub fn from_pem(pem: &[u8]) -> Result<Self, PemError> {
        let certificates = certificates(pem)?;
        let mut roots = RootCertStore::empty();
        for certificate in &certificates {
            roots
                .add(certificate.clone())
                .map_err(|error| PemError::Certificate(error.to_string()))?;
        }
        Ok(Self(certificates))
    }
}

impl Chain {
    /// Reads the certificates of a PEM file, at least one.
    pub fn from_pem(pem: &[u8]) -> Result<Self, PemError> {
        let certificates = certificates(pem)?;
        for certificate in &certificates {
            ParsedCertificate::try_from(certificate)
                .map_err(|error| PemError::Certificate(error.to_string()))?;
        }
        Ok(Self(certificates))
    }
}

impl PrivateKey {
    /// Reads the first private key of a PEM file. What is wrong with it is told in few words:
    /// nothing of the file is shown.
    pub fn from_pem(pem: &[u8]) -> Result<Self, PemError> {
        let encrypted = |marker: &[u8]| pem.windows(marker.len()).any(|found| found == marker);
        match PrivateKeyDer::from_pem_slice(pem) {
            Ok(key) => Ok(Self(key)),
            Err(_) if encrypted(b"BEGIN ENCRYPTED PRIVATE KEY") => Err(PemError::EncryptedKey),
            Err(pem::Error::NoItemsFound) => Err(PemError::NoKey),
            Err(_) => Err(PemError::Key("it is no whole PEM".to_owned())),
        }
    }
}

impl Identity {
    /// Puts a key to its certificate; an error is the key's.
    pub fn new(chain: Chain, key: PrivateKey) -> Result<Self, PemError> {
        use rustls::{Error, InconsistentKeys};
        CertifiedKey::from_der(chain.0, key.0, &provider())
            .map(|key| Self(Arc::new(key)))
            .map_err(|error| match error {
                Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => PemError::OtherKey,
                error => PemError::Key(error.to_string()),
            })
    }
}

/// A key goes with one certificate only.
impl PartialEq for Identity {
    fn eq(&self, other: &Self) -> bool {
        self.0.cert == other.0.cert
    }
}

impl Eq for Identity {}

impl fmt::Debug for Authorities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authorities({})", self.0.len())
    }
}

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Chain({})", self.0.len())
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", self.0.cert.len())
    }
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match certificates {
        Ok(certificates) if certificates.is_empty() => Err(PemError::NoCertificate),
        Ok(certificates) => Ok(certificates),
        Err(_) => Err(PemError::Certificate("it is no whole PEM".to_owned())),
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// What every TLS connection of a webhook is made with. Certificates are verified, always.
pub(super) fn config(tls: &Tls) -> Result<ClientConfig, rustls::Error> {
    let provider = provider();
    let extra_roots = tls.authorities.0.iter().cloned();
    let verifier = Verifier::new_with_extra_roots(extra_roots, Arc::clone(&provider))?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        // As dangerous as any verifier that is not named here; this one is the system's.
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match &tls.identity {
        Some(Identity(key)) => {
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(key))))
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// Where no TLS is spoken nobody is trusted: the system need not even have certificates.
pub(super) fn no_config() -> Result<ClientConfig, rustls::Error> {
    Ok(ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth())
}

/// As [`config`], and `progress` is told when a handshake begins (D16).
pub(super) fn watched_config(
    tls: &Tls,
    progress: Arc<Progress>,
) -> Result<ClientConfig, rustls::Error> {
    let mut config = config(tls)?;
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
