//! Secrets: where they are taken from, and that nothing about them is shown.
//!
//! The text itself, the file's, the variable's or the credential's content appears in no message
//! of this module, however wrong it is.

use std::fs::{File, OpenOptions};
use std::io::Read as _;
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use zeroize::Zeroizing;

use super::problem::Problem;
use super::sources::{Given, quoted};
use super::values::{Read, all_or_problems};
use crate::sender::headers::{self, Header, HeaderName};
use crate::sender::mask::TELLING_BYTES_MIN;
use crate::sender::proxy::{self, Proxy};
use crate::sender::secret::Secret;
use crate::sender::signature::{self, SigningSecret};

/// Bytes of a secret, at most.
const LONGEST: u64 = 16 * 1024;

const HEADERS: &str =
    "a table of headers with their values, such as { X-Api-Key = { file = \"/path\" } }";
const SIGNING_SECRETS: &str =
    "a list of secrets, such as [{ file = \"/path\" }] or [\"whsec_...\"]";
const SOURCES: &str =
    "the text itself, { file = \"/path\" }, { env = \"VARIABLE\" } or { credential = \"name\" }";

/// A header's value that is secret.
pub(super) fn header_value(given: &Given<'_>) -> Read<Secret> {
    let text = secret(given)?;
    let printable = text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    if text.is_empty() || !printable || text.trim() != text.as_str() {
        return Err(given.refuse_shown(
            "a value that is not shown",
            "one line of printable ASCII characters, without blanks at its ends",
        ));
    }
    Ok(Secret::new(text.as_str().to_owned()))
}

/// Further headers; none of their values is shown.
pub(super) fn headers(given: &Given<'_>) -> Read<Vec<Header>> {
    let entries = given
        .entries()
        .ok_or_else(|| given.refuse_secret_collection(HEADERS))?;
    let mut headers: Vec<Header> = Vec::new();
    let mut problems = Vec::new();
    for (name, value) in entries {
        match header(name, &value, &headers) {
            Ok(header) => headers.push(header),
            Err(found) => problems.extend(found),
        }
    }
    all_or_problems(headers, problems)
}

fn header(name: &str, value: &Given<'_>, others: &[Header]) -> Read<Header> {
    let Ok(name) = HeaderName::try_from(name) else {
        return Err(value.complain("is no header's name, which is of A-Z a-z 0-9 and -"));
    };
    if let Some(why) = headers::reserved(&name) {
        return Err(value.complain(&format!("can't be set here: {why}")));
    }
    if others.iter().any(|other| other.name == name) {
        return Err(value.complain("is there already; upper and lower case are the same"));
    }
    let written_here = value.text().is_some();
    let value = header_value(value)?;
    // A short word that is written for all to see is no secret, and may stand in any answer.
    let masked = !written_here || value.expose().len() >= TELLING_BYTES_MIN;
    Ok(Header {
        name,
        value,
        masked,
    })
}

/// Secrets to sign with, each `whsec_…`.
pub(super) fn signing_secrets(given: &Given<'_>) -> Read<Vec<SigningSecret>> {
    let items = given
        .items()
        .ok_or_else(|| given.refuse_secret_collection(SIGNING_SECRETS))?;
    let mut secrets = Vec::new();
    let mut problems = Vec::new();
    for item in items {
        match signing_secret(&item) {
            Ok(secret) => secrets.push(secret),
            Err(found) => problems.extend(found),
        }
    }
    all_or_problems(secrets, problems)
}

fn signing_secret(given: &Given<'_>) -> Read<SigningSecret> {
    SigningSecret::parse(&secret(given)?).map_err(|error| {
        let found = format!("a value that is not shown, and {error}");
        given.refuse_shown(&found, signature::ALLOWED)
    })
}

/// A proxy's url, which may hold a password; or `"none"`.
pub(super) fn proxy(given: &Given<'_>) -> Read<Option<Proxy>> {
    let text = secret(given)?;
    if text.as_str() == "none" {
        return Ok(None);
    }
    Proxy::parse(&text)
        .map(Some)
        .ok_or_else(|| given.refuse_shown("a value that is not shown", proxy::ALLOWED))
}

/// The variables that secrets are taken from, in a value that is one or holds some.
pub(super) fn variables_named<'a>(given: &Given<'a>) -> Vec<&'a str> {
    let below = |given: &Given<'a>| {
        let items = given.items().unwrap_or_default();
        let entries = given.entries().unwrap_or_default();
        let entries = entries.into_iter().map(|(_, value)| value);
        items.into_iter().chain(entries).collect::<Vec<_>>()
    };
    let named = |given: &Given<'a>| given.value.as_dict()?.get("env")?.as_str();
    let of_itself = named(given).into_iter();
    let of_what_is_below = below(given);
    of_itself
        .chain(of_what_is_below.iter().filter_map(named))
        .collect()
}

fn secret(given: &Given<'_>) -> Read<Zeroizing<String>> {
    if let Some(text) = given.text() {
        return Ok(Zeroizing::new(text.to_owned()));
    }
    let entries = given.entries().unwrap_or_default();
    let [(kind, from)] = entries.as_slice() else {
        return Err(refuse(given));
    };
    match (*kind, from.text()) {
        ("file" | "env" | "credential", Some(text)) if is_secret_itself(kind, text) => {
            Err(given.complain(&format!(
                "what follows {kind} = is the secret itself, which is not shown; write it alone, in quotes, or name where it is"
            )))
        }
        ("file", Some(path)) => {
            let path = given.sources.absolute(path);
            read_file(&path).map_err(|why| given.complain(&cant_be_read(&path, &why)))
        }
        ("env", Some(name)) => variable(given, name),
        ("credential", Some(name)) => credential(given, name),
        _ => Err(refuse(given)),
    }
}

/// Whether a secret stands where its place is to be named. A variable or a credential may well be
/// called `whsec_erp`.
fn is_secret_itself(kind: &str, text: &str) -> bool {
    text.starts_with("Bearer ")
        || text.starts_with("Basic ")
        || SigningSecret::parse(text).is_ok()
        || (kind == "file" && text.starts_with("whsec_"))
}

fn refuse(given: &Given<'_>) -> Vec<Problem> {
    given.refuse_shown("something else that is not shown", SOURCES)
}

fn variable(given: &Given<'_>, name: &str) -> Read<Zeroizing<String>> {
    // What is no name may be the secret itself, in the wrong place: it is not shown.
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    if name.is_empty() || !name.bytes().all(is_name) {
        return Err(given.complain("an environment variable's name is of A-Z a-z 0-9 _"));
    }
    let Some(value) = given.sources.variable(name) else {
        return Err(given.complain(&format!("the environment variable {name} is not set")));
    };
    value
        .to_str()
        .map(|value| Zeroizing::new(value.to_owned()))
        .ok_or_else(|| {
            given.complain(&format!(
                "the environment variable {name} is not UTF-8 text"
            ))
        })
}

fn credential(given: &Given<'_>, name: &str) -> Read<Zeroizing<String>> {
    let path = credential_path(given, name)?;
    read_file(&path).map_err(|why| {
        given.complain(&format!(
            "{}; is it in the unit's LoadCredential=?",
            cant_be_read(&path, &why)
        ))
    })
}

/// Where systemd puts the credential.
pub(super) fn credential_path(given: &Given<'_>, name: &str) -> Read<PathBuf> {
    if name.is_empty() || name.contains('/') || name.starts_with('.') {
        return Err(given.complain("a credential's name is that of a file, without its folder"));
    }
    let Some(folder) = given.sources.credentials() else {
        return Err(given.complain(&format!(
            "the credential {} is only there when systemd runs the service ($CREDENTIALS_DIRECTORY is not set)",
            quoted(name)
        )));
    };
    Ok(folder.join(name))
}

pub(super) fn cant_be_read(path: &Path, why: &str) -> String {
    format!("the file {} can't be read: {why}", path.display())
}

/// Opens a file; a pipe, which might never say anything, is none.
pub(super) fn open(path: &Path) -> Result<File, String> {
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path);
    let file = file.map_err(|error| error.to_string())?;
    match file.metadata() {
        Ok(about) if about.file_type().is_fifo() => Err("it is a pipe".to_owned()),
        Ok(_) => Ok(file),
        Err(error) => Err(error.to_string()),
    }
}

/// A file's text without its line end.
fn read_file(path: &Path) -> Result<Zeroizing<String>, String> {
    let file = open(path)?;
    let mut text = Zeroizing::new(String::with_capacity(1024));
    file.take(LONGEST + 1)
        .read_to_string(&mut text)
        .map_err(|error| error.to_string())?;
    if text.len() as u64 > LONGEST {
        return Err("it is longer than 16 KiB".to_owned());
    }
    let line = text.strip_suffix('\n').unwrap_or(&text);
    let line_length = line.strip_suffix('\r').unwrap_or(line).len();
    text.truncate(line_length);
    Ok(text)
}
