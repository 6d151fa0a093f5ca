//! What a webhook is called.

use std::fmt;
use std::str::FromStr;

/// A webhook's name: `[a-z][a-z0-9_]{0,31}` without a double underscore, which separates the
/// parts of an environment variable's name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WebhookName(String);

impl WebhookName {
    /// What a name may be, for error messages.
    pub const ALLOWED: &'static str =
        "1 to 32 of a-z 0-9 _, beginning with a letter, without a double underscore";

    /// The name itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for WebhookName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        if text.len() <= 32
            && text.starts_with(|first: char| first.is_ascii_lowercase())
            && text.bytes().all(allowed)
            && !text.contains("__")
        {
            Ok(Self(text.to_owned()))
        } else {
            Err(Self::ALLOWED.to_owned())
        }
    }
}

impl fmt::Display for WebhookName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}
