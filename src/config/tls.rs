//! `tls`: the files of certificates and keys, read when the configuration is.
//!
//! What stands in a file of a key appears in no message.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::reader::Section;
use super::secrets::{cant_be_read, credential_path, open};
use super::sources::Given;
use super::values::{self, Read};
use crate::sender::tls::{Authorities, Chain, Identity, PemError, PrivateKey, Tls};

/// A file of certificates or keys is no longer.
const LONGEST: u64 = 1 << 20;

const KEY: &str =
    "a file's path, absolute or from this file's folder, or { credential = \"name\" }";

/// What the section says, and where it says nothing, what `base` says. A certificate and its key
/// come from the same section.
pub(super) fn tls(section: &mut Section<'_, '_>, base: &Tls) -> Tls {
    let authorities = section.get("ca_file", |given| {
        read(given, &path(given)?, Authorities::from_pem)
    });
    let chain = section.get("client_certificate", |given| {
        read(given, &path(given)?, Chain::from_pem)
    });
    let key = section.get("client_key", |given| {
        let path = key_path(given)?;
        Ok((path.clone(), read(given, &path, PrivateKey::from_pem)?))
    });
    let given = |name, section: &mut Section<'_, '_>| section.given(name).is_some();
    let identity = match (
        given("client_certificate", section),
        given("client_key", section),
    ) {
        (false, false) => base.identity.clone(),
        (true, false) => {
            section.complain("client_key", "is missing; client_certificate needs it");
            None
        }
        (false, true) => {
            section.complain("client_certificate", "is missing; client_key needs it");
            None
        }
        (true, true) => match (chain, key) {
            (Some(chain), Some((path, key))) => match Identity::new(chain, key) {
                Ok(identity) => Some(identity),
                Err(error) => {
                    section.complain("client_key", &of_no_use(&path, &error));
                    None
                }
            },
            // What is wrong with them was told.
            _ => None,
        },
    };
    Tls {
        authorities: authorities.unwrap_or_else(|| base.authorities.clone()),
        identity,
    }
}

/// Where the key is: a path, or one of systemd's credentials.
fn key_path(given: &Given<'_>) -> Read<PathBuf> {
    let entries = given.entries().unwrap_or_default();
    match entries.as_slice() {
        [("credential", name)] => match name.text() {
            Some(name) => credential_path(given, name),
            None => Err(given.refuse(KEY)),
        },
        _ if given.text().is_none_or(str::is_empty) => Err(given.refuse(KEY)),
        _ => path(given),
    }
}

/// A file's path; what it should hold may stand there instead, and that may be a key.
fn path(given: &Given<'_>) -> Read<PathBuf> {
    if given.text().is_some_and(|text| text.contains("-----BEGIN")) {
        return Err(
            given.complain("holds PEM, which is not shown; write it to a file, and name that")
        );
    }
    values::path(given)
}

fn read<T>(
    given: &Given<'_>,
    path: &Path,
    parse: impl Fn(&[u8]) -> Result<T, PemError>,
) -> Read<T> {
    let pem = read_file(path).map_err(|why| given.complain(&cant_be_read(path, &why)))?;
    parse(&pem).map_err(|error| given.complain(&of_no_use(path, &error)))
}

fn of_no_use(path: &Path, error: &PemError) -> String {
    format!("the file {} {error}", path.display())
}

fn read_file(path: &Path) -> Result<Zeroizing<Vec<u8>>, String> {
    let file = open(path)?;
    let mut bytes = Zeroizing::new(Vec::with_capacity(8 * 1024));
    file.take(LONGEST + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| error.to_string())?;
    if bytes.len() as u64 > LONGEST {
        return Err("it is longer than 1 MiB".to_owned());
    }
    Ok(bytes)
}
