//! Secrets: where they are taken from, and that nothing about them is shown.
//!
//! The text itself, the file's, the variable's or the credential's content appears in no message
//! of this module, however wrong it is.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use zeroize::Zeroizing;

use super::problem::Problem;
use super::sources::{Given, quoted};
use super::values::Read;
use crate::sender::secret::Secret;

/// Bytes of a secret, at most.
const LONGEST: u64 = 16 * 1024;

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

/// The variable that the secret is taken from, if it is from one.
pub(super) fn variable_named<'a>(given: &Given<'a>) -> Option<&'a str> {
    given.value.as_dict()?.get("env")?.as_str()
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
        ("file", Some(path)) => {
            let path = given.sources.absolute(path);
            read_file(&path).map_err(|why| given.complain(&cant_be_read(&path, &why)))
        }
        ("env", Some(name)) => variable(given, name),
        ("credential", Some(name)) => credential(given, name),
        _ => Err(refuse(given)),
    }
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
    if name.is_empty() || name.contains('/') || name.starts_with('.') {
        return Err(given.complain("a credential's name is that of a file, without its folder"));
    }
    let Some(folder) = given.sources.credentials() else {
        return Err(given.complain(&format!(
            "the credential {} is only there when systemd runs the service ($CREDENTIALS_DIRECTORY is not set)",
            quoted(name)
        )));
    };
    let path = folder.join(name);
    read_file(&path).map_err(|why| {
        given.complain(&format!(
            "{}; is it in the unit's LoadCredential=?",
            cant_be_read(&path, &why)
        ))
    })
}

fn cant_be_read(path: &Path, why: &str) -> String {
    format!("the file {} can't be read: {why}", path.display())
}

/// A file's text without its line end.
fn read_file(path: &Path) -> Result<Zeroizing<String>, String> {
    let file = File::open(path).map_err(|error| error.to_string())?;
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
