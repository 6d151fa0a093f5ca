//! What broke an attempt off, in a sentence for whoever is woken by it, with the technical cause after it.
//!
//! Neither holds the url, whose query may be a secret.

use std::error::Error;
use std::io;

use rustls::{AlertDescription, CertificateError, PeerIncompatible};

/// What happened, and what the client said of it.
pub(super) fn of(error: &(dyn Error + 'static)) -> String {
    let causes: Vec<_> = std::iter::successors(Some(error), |&error| inner(error)).collect();
    let technical = technical(&causes);
    match causes.iter().rev().find_map(|cause| sentence(*cause)) {
        Some(sentence) => format!("{sentence}: {technical}"),
        None => technical,
    }
}

/// An error's cause; an I/O error's is what it was made of.
fn inner<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    match error
        .downcast_ref::<io::Error>()
        .and_then(io::Error::get_ref)
    {
        Some(inner) => Some(inner),
        None => error.source(),
    }
}

/// The causes' own words, but for the client's first ones, which say no more than that a request failed.
fn technical(causes: &[&(dyn Error + 'static)]) -> String {
    let is_client = |error: &(dyn Error + 'static)| {
        error.is::<reqwest::Error>() || error.to_string().starts_with("client error (")
    };
    let told_by_its_cause = |index: usize| {
        causes
            .get(index + 1)
            .is_some_and(|cause| cause.to_string() == causes[index].to_string())
    };
    let words: Vec<_> = causes
        .iter()
        .enumerate()
        .filter(|&(index, cause)| {
            !told_by_its_cause(index) && (index + 1 == causes.len() || !is_client(*cause))
        })
        .map(|(_, cause)| cause.to_string())
        .collect();
    words.join(": ")
}

/// What the cause means, if it is one of those that are met.
fn sentence(cause: &(dyn Error + 'static)) -> Option<&'static str> {
    if let Some(error) = cause.downcast_ref() {
        return tls(error);
    }
    if let Some(error) = cause.downcast_ref() {
        return http(error);
    }
    if let Some(error) = cause.downcast_ref() {
        return io(error);
    }
    tunnel(&cause.to_string())
}

/// The client says this of a proxy in words only.
fn tunnel(said: &str) -> Option<&'static str> {
    Some(match said {
        "tunnel error: unsuccessful" => {
            "the proxy does not connect to the receiver; `orderfeed check --connect` shows what the proxy says"
        }
        "tunnel error: proxy authorization required" => {
            "the proxy asks for user and password, or for others than those in `proxy`"
        }
        "tunnel error: failed to create underlying connection" => "the proxy can't be reached",
        _ => return None,
    })
}

fn tls(error: &rustls::Error) -> Option<&'static str> {
    Some(match error {
        rustls::Error::InvalidCertificate(error) => match error {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "the receiver's certificate has expired"
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "the receiver's certificate is not valid yet, or the clock of this machine is wrong"
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "the receiver's certificate is for other names than the url's"
            }
            CertificateError::UnknownIssuer => {
                "the receiver's certificate was issued by nobody whom this machine trusts; tls.ca_file adds an authority"
            }
            CertificateError::Revoked => "the receiver's certificate was revoked",
            _ => "the receiver's certificate can't be trusted",
        },
        rustls::Error::AlertReceived(AlertDescription::ProtocolVersion)
        | rustls::Error::PeerIncompatible(PeerIncompatible::ServerDoesNotSupportTls12Or13) => {
            "the receiver speaks only versions of TLS that are too old; 1.2 or 1.3 is needed"
        }
        rustls::Error::AlertReceived(AlertDescription::CertificateRequired) => {
            "the receiver demands a client certificate"
        }
        rustls::Error::AlertReceived(_) => "the receiver refused TLS",
        rustls::Error::InvalidMessage(_) => "what the receiver speaks at this port is not TLS",
        _ => return None,
    })
}

fn http(error: &hyper::Error) -> Option<&'static str> {
    Some(if error.is_incomplete_message() {
        "the receiver closed the connection before it had answered"
    } else if error.is_parse_too_large() {
        "the answer has too many or too long headers (over 100, or hundreds of KB), or an impossible length"
    } else if error.is_parse() {
        "what the receiver answered is not HTTP/1.1"
    } else {
        return None;
    })
}

fn io(error: &io::Error) -> Option<&'static str> {
    use io::ErrorKind as Kind;
    Some(match error.kind() {
        Kind::ConnectionRefused => "the receiver refused the connection: nothing listens there",
        Kind::ConnectionReset
        | Kind::ConnectionAborted
        | Kind::BrokenPipe
        | Kind::UnexpectedEof => "the receiver broke off the connection before it had answered",
        Kind::HostUnreachable | Kind::NetworkUnreachable => "there is no way to the receiver",
        Kind::TimedOut => "nothing is heard of the receiver",
        _ => return None,
    })
}
