//! What is wrong with a configuration, for people: where, which key, what was found, what is
//! allowed.
//!
//! Nothing here holds a secret: what was found is put into words before it comes here.

use std::fmt;
use std::path::PathBuf;

/// Everything that is wrong with a configuration, in the order of the file, then of the
/// environment; displayed one a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Errors(Vec<Problem>);

impl Errors {
    /// Brings the problems into reading order.
    pub(super) fn new(mut problems: Vec<Problem>) -> Self {
        problems.sort_by(|left, right| left.place.cmp(&right.place));
        Self(problems)
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.0.iter()
    }
}

impl From<Problem> for Errors {
    fn from(problem: Problem) -> Self {
        Self(vec![problem])
    }
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            let line_end = if index == 0 { "" } else { "\n" };
            write!(f, "{line_end}{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Errors {}

/// One thing that is wrong: `config.toml:12: webhook.erp.retry_gap: found 15, allowed is …`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where it stands.
    pub place: Place,
    /// What is wrong with it, with its key in front where there is one.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)
    }
}

/// Where something stands that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// In the file.
    File {
        /// Which file.
        file: PathBuf,
        /// The line and the column, from 1, as far as known.
        line: Option<usize>,
        /// See `line`.
        column: Option<usize>,
    },
    /// In the environment variable of this name.
    Variable(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { file, line, column } => {
                write!(f, "{}", file.display())?;
                [line, column]
                    .into_iter()
                    .flatten()
                    .try_for_each(|number| write!(f, ":{number}"))
            }
            Self::Variable(name) => write!(f, "environment variable {name}"),
        }
    }
}
