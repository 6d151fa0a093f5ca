//! Certificates that are not to be trusted, and handshakes that fail.

use std::io::{BufReader, Write};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use insta::assert_snapshot;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};
use rustls::pki_types::PrivateKeyDer;
use rustls::server::{ServerConfig, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConnection, StreamOwned, SupportedProtocolVersion};

use super::{Bad, Peer, Trial};
use crate::support::read_request;

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
const HTTPS: &str = "https://127.0.0.1";

/// D16: nothing of a request is sent to whom is not trusted.
#[test]
fn certificates_that_are_not_trusted() {
    let ca = Authority::new("the one that is trusted");
    let certified = |label: &str, change: &dyn Fn(&mut CertificateParams)| {
        let (chain, key) = ca.certify(change);
        serving(
            label,
            server(rustls::ALL_VERSIONS)
                .with_no_client_auth()
                .with_single_cert(chain, key)
                .unwrap(),
        )
    };
    let stranger = Authority::new("a stranger");
    let (chain, key) = stranger.certify(|_| {});
    let of_stranger = server(rustls::ALL_VERSIONS)
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let own_key = KeyPair::generate().unwrap();
    let own = CertificateParams::new(vec!["127.0.0.1".to_owned()])
        .unwrap()
        .self_signed(&own_key)
        .unwrap();
    let self_signed = server(rustls::ALL_VERSIONS)
        .with_no_client_auth()
        .with_single_cert(
            vec![own.der().clone()],
            PrivateKeyDer::try_from(own_key.serialize_der()).unwrap(),
        )
        .unwrap();
    let trial = Trial {
        trusted: Some(ca.pem()),
        ..Trial::default()
    };
    let (text, _) = trial.run(&[
        certified("in order", &|_| {}),
        certified("another name", &|params| {
            params.subject_alt_names = CertificateParams::new(vec!["erp.example.com".to_owned()])
                .unwrap()
                .subject_alt_names;
        }),
        certified("no name", &|params| params.subject_alt_names.clear()),
        certified("expired", &|params| {
            params.not_after = date_time_ymd(2020, 1, 1);
        }),
        certified("not yet valid", &|params| {
            params.not_before = date_time_ymd(2200, 1, 1);
        }),
        serving("of an authority that nobody knows", of_stranger),
        serving("self-signed", self_signed),
    ]);
    assert_snapshot!(without_times(&text), @r#"
    in order
        answered delivered 200 -
        delivered 1 purchase_order in … ms (answered 200)
    another name
        tls failed - the receiver's certificate is for other names than the url's: invalid peer certificate: certificate not valid for name "127.0.0.1"; certificate is only valid for DnsName("erp.example.com")
        WARN 1 purchase_order not delivered (broke off while agreeing on TLS: the receiver's certificate is for other names than the url's: invalid peer certificate: certificate not valid for name "127.0.0.1"; certificate is only valid for DnsName("erp.example.com")); next attempt at …
    no name
        tls failed - the receiver's certificate is for other names than the url's: invalid peer certificate: certificate not valid for name "127.0.0.1"; certificate is not valid for any names (according to its subjectAltName extension)
        WARN 1 purchase_order not delivered (broke off while agreeing on TLS: the receiver's certificate is for other names than the url's: invalid peer certificate: certificate not valid for name "127.0.0.1"; certificate is not valid for any names (according to its subjectAltName extension)); next attempt at …
    expired
        tls failed - the receiver's certificate has expired: invalid peer certificate: certificate expired: verification time … (UNIX), but certificate is not valid after … (… seconds ago)
        WARN 1 purchase_order not delivered (broke off while agreeing on TLS: the receiver's certificate has expired: invalid peer certificate: certificate expired: verification time … (UNIX), but certificate is not valid after … (… seconds ago)); next attempt at …
    not yet valid
        tls failed - the receiver's certificate is not valid yet, or the clock of this machine is wrong: invalid peer certificate: certificate not valid yet: verification time … (UNIX), but certificate is not valid before … (… seconds in future)
        WARN 1 purchase_order not delivered (broke off while agreeing on TLS: the receiver's certificate is not valid yet, or the clock of this machine is wrong: invalid peer certificate: certificate not valid yet: verification time … (UNIX), but certificate is not valid before … (… seconds in future)); next attempt at …
    of an authority that nobody knows
        tls failed - the receiver's certificate was issued by nobody whom this machine trusts; tls.ca_file adds an authority: invalid peer certificate: UnknownIssuer
        WARN 1 purchase_order not delivered (broke off while agreeing on TLS: the receiver's certificate was issued by nobody whom this machine trusts; tls.ca_file adds an authority: invalid peer certificate: UnknownIssuer); next attempt at …
    self-signed
        tls failed - the receiver's certificate was issued by nobody whom this machine trusts; tls.ca_file adds an authority: invalid peer certificate: UnknownIssuer
        WARN 1 purchase_order not delivered (broke off while agreeing on TLS: the receiver's certificate was issued by nobody whom this machine trusts; tls.ca_file adds an authority: invalid peer certificate: UnknownIssuer); next attempt at …
    "#);
}

#[test]
fn handshakes_that_fail() {
    let ca = Authority::new("the one that is trusted");
    let demanding = |versions: &[&'static SupportedProtocolVersion]| {
        let mut roots = RootCertStore::empty();
        roots.add(ca.certificate.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .unwrap();
        let (chain, key) = ca.certify(|_| {});
        server(versions)
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)
            .unwrap()
    };
    let says = |label: &str, bytes: &'static [u8]| {
        Bad::new(label, move |peer| {
            peer.until_something_comes();
            peer.meanwhile();
            peer.say(bytes);
            peer.until_closed();
        })
        .at(HTTPS)
    };
    let trial = Trial {
        trusted: Some(ca.pem()),
        ..Trial::default()
    };
    let (text, _) = trial.run(&[
        serving(
            "demands a client certificate, TLS 1.2",
            demanding(&[&rustls::version::TLS12]),
        ),
        serving(
            "demands a client certificate, TLS 1.3",
            demanding(&[&rustls::version::TLS13]),
        ),
        says("an alert: no such version", b"\x15\x03\x01\0\x02\x02\x46"),
        says("an alert: handshake failure", b"\x15\x03\x03\0\x02\x02\x28"),
        says(
            "a ServerHello of TLS 1.0",
            b"\x16\x03\x01\0\x2a\x02\0\0\x26\x03\x01thirty-two bytes that are random\0\0\x2f\0",
        ),
        says(
            "a ServerHello of TLS 1.1",
            b"\x16\x03\x02\0\x2a\x02\0\0\x26\x03\x02thirty-two bytes that are random\0\0\x2f\0",
        ),
        says(
            "plain HTTP",
            b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
        ),
        says(
            "a mail server's greeting",
            b"220 mail.example.com ESMTP\r\n",
        ),
        Bad::new("closes", |peer| {
            peer.until_something_comes();
            peer.meanwhile();
            peer.read_something();
        })
        .at(HTTPS),
        Bad::new("never goes on", Peer::until_closed)
            .at(HTTPS)
            .with("timeout = \"1s\""),
        Bad::new("drips", |peer| {
            peer.say(b"\x16\x03\x03\x40\0");
            peer.say_endlessly(b"\x02", Some(Duration::from_millis(20)));
        })
        .at(HTTPS)
        .with("timeout = \"1s\""),
        serving(
            "TLS where the url says http",
            demanding(rustls::ALL_VERSIONS),
        )
        .at("http://127.0.0.1"),
    ]);
    assert_snapshot!(without_times(&text), @"
    demands a client certificate, TLS 1.2
        tls failed - the receiver demands a client certificate: received fatal alert: CertificateRequired
        WARN 1 purchase_order not delivered (broke off while agreeing on TLS: the receiver demands a client certificate: received fatal alert: CertificateRequired); next attempt at …
    demands a client certificate, TLS 1.3
        waiting unknown - the receiver demands a client certificate: connection error: received fatal alert: CertificateRequired
        WARN 1 purchase_order not delivered (broke off while waiting for the answer: the receiver demands a client certificate: connection error: received fatal alert: CertificateRequired); next attempt at …
    an alert: no such version
        tls failed - the receiver speaks only versions of TLS that are too old; 1.2 or 1.3 is needed: received fatal alert: ProtocolVersion
        WARN 1 purchase_order not delivered (broke off while agreeing on TLS: the receiver speaks only versions of TLS that are too old; 1.2 or 1.3 is needed: received fatal alert: ProtocolVersion); next attempt at …
    an alert: handshake failure
        tls failed - the receiver refused TLS: received fatal alert: HandshakeFailure
        WARN 1 purchase_order not delivered (broke off while agreeing on TLS: the receiver refused TLS: received fatal alert: HandshakeFailure); next attempt at …
    a ServerHello of TLS 1.0
        tls failed - the receiver speaks only versions of TLS that are too old; 1.2 or 1.3 is needed: peer is incompatible: ServerDoesNotSupportTls12Or13
        WARN 1 purchase_order not delivered (broke off while agreeing on TLS: the receiver speaks only versions of TLS that are too old; 1.2 or 1.3 is needed: peer is incompatible: ServerDoesNotSupportTls12Or13); next attempt at …
    a ServerHello of TLS 1.1
        tls failed - the receiver speaks only versions of TLS that are too old; 1.2 or 1.3 is needed: peer is incompatible: ServerDoesNotSupportTls12Or13
        WARN 1 purchase_order not delivered (broke off while agreeing on TLS: the receiver speaks only versions of TLS that are too old; 1.2 or 1.3 is needed: peer is incompatible: ServerDoesNotSupportTls12Or13); next attempt at …
    plain HTTP
        tls failed - what the receiver speaks at this port is not TLS: received corrupt message of type InvalidContentType
        WARN 1 purchase_order not delivered (broke off while agreeing on TLS: what the receiver speaks at this port is not TLS: received corrupt message of type InvalidContentType); next attempt at …
    a mail server's greeting
        tls failed - what the receiver speaks at this port is not TLS: received corrupt message of type InvalidContentType
        WARN 1 purchase_order not delivered (broke off while agreeing on TLS: what the receiver speaks at this port is not TLS: received corrupt message of type InvalidContentType); next attempt at …
    closes
        tls failed - the receiver broke off the connection before it had answered: tls handshake eof
        WARN 1 purchase_order not delivered (broke off while agreeing on TLS: the receiver broke off the connection before it had answered: tls handshake eof); next attempt at …
    never goes on
        tls failed - no answer within 1s (timeout)
        WARN 1 purchase_order not delivered (timed out while agreeing on TLS: no answer within 1s (timeout)); next attempt at …
    drips
        tls failed - no answer within 1s (timeout)
        WARN 1 purchase_order not delivered (timed out while agreeing on TLS: no answer within 1s (timeout)); next attempt at …
    TLS where the url says http
        waiting unknown - what the receiver answered is not HTTP/1.1: invalid HTTP version parsed
        WARN 1 purchase_order not delivered (broke off while waiting for the answer: what the receiver answered is not HTTP/1.1: invalid HTTP version parsed); next attempt at …
    ");
}

/// A receiver that speaks TLS and takes all.
fn serving(label: &str, config: ServerConfig) -> Bad {
    let config = Arc::new(config);
    Bad::new(label, move |peer: &mut Peer| {
        peer.until_something_comes();
        peer.meanwhile();
        let mut server = ServerConnection::new(Arc::clone(&config)).unwrap();
        let mut stream = peer.stream.try_clone().unwrap();
        // The first flight is answered; then the request is waited for, too, if one comes: whoever is refused under
        // TLS 1.3 learns it only after it has sent.
        if server.read_tls(&mut stream).is_ok() {
            drop(server.process_new_packets());
            while server.wants_write() {
                server.write_tls(&mut stream).unwrap();
            }
        }
        if server.is_handshaking()
            && server.protocol_version() == Some(rustls::ProtocolVersion::TLSv1_3)
        {
            let mut seen = [0; 300];
            while stream
                .peek(&mut seen)
                .is_ok_and(|length| 0 < length && length < seen.len())
            {
                thread::sleep(Duration::from_millis(1));
            }
        }
        let mut reader = BufReader::new(StreamOwned::new(server, stream));
        if read_request(&mut reader).is_some() {
            reader.get_mut().write_all(OK.as_bytes()).unwrap();
        }
        peer.until_closed();
    })
    .at(HTTPS)
}

fn server(
    versions: &[&'static SupportedProtocolVersion],
) -> rustls::ConfigBuilder<ServerConfig, rustls::WantsVerifier> {
    ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
}

/// A certificate authority of the test's own.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: rustls::pki_types::CertificateDer<'static>,
    pem: String,
}

impl Authority {
    fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let certificate = params.self_signed(&key).unwrap();
        Self {
            certificate: certificate.der().clone(),
            pem: certificate.pem(),
            issuer: Issuer::new(params, key),
        }
    }

    fn pem(&self) -> String {
        self.pem.clone()
    }

    /// A certificate for the receivers' address, but for what is changed, and its key.
    fn certify(
        &self,
        change: impl Fn(&mut CertificateParams),
    ) -> (
        Vec<rustls::pki_types::CertificateDer<'static>>,
        PrivateKeyDer<'static>,
    ) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        change(&mut params);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (
            vec![certificate.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
    }
}

/// The text without the times of the test's run.
fn without_times(text: &str) -> String {
    let words = text.split_inclusive(' ').map(|word| {
        let digits = word.trim_matches([' ', ',', '(', ')']);
        if digits.len() >= 9 && digits.bytes().all(|byte| byte.is_ascii_digit()) {
            word.replace(digits, "…")
        } else {
            word.to_owned()
        }
    });
    words.collect()
}
