//! Where values come from: the built-in defaults, over them the file, over it the environment.
//!
//! This module layers and locates; it knows neither which keys exist nor what they may hold.
//! Every value of the environment is kept as the text it is: what it means is for its key to say.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use figment::providers::{Format, Toml};
use figment::value::{Dict, Map, Num, Value};
use figment::{Figment, Metadata, Profile, Provider, Source};
use toml_edit::{ImDocument, Item, TableLike};

use super::problem::{Errors, Place, Problem};

/// The built-in defaults, written as a configuration is.
pub(super) const DEFAULTS: &str = include_str!("defaults.toml");

/// What every variable's name that sets a key begins with.
const PREFIX: &str = "ORDERFEED_";

/// The variable that names the file, and so sets no key in it.
const FILE_VARIABLE: &str = "ORDERFEED_CONFIG";

/// All layers as one tree, and where each value in it comes from.
pub(super) struct Sources {
    /// The merged tree.
    root: Dict,
    layers: Figment,
    file: PathBuf,
    document: ImDocument<String>,
    environment: BTreeMap<OsString, OsString>,
    credentials: Option<PathBuf>,
}

impl Sources {
    /// Lays the file's text over the defaults, and the environment over both. What can't be laid
    /// over is in the list.
    pub(super) fn new(
        file: &Path,
        text: &str,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
        credentials: Option<&Path>,
    ) -> Result<(Self, Vec<Problem>), Errors> {
        let document = ImDocument::parse(text.to_owned())
            .map_err(|error| not_toml(file, text, error.message(), error.span()))?;
        let tree = |text: &str| {
            Toml::from_str::<Dict>(text)
                .map_err(|error| not_toml(file, text, error.message(), error.span()))
        };
        let mut layers = Figment::new()
            .merge(Layer {
                metadata: Metadata::named("defaults"),
                tree: tree(DEFAULTS)?,
            })
            .merge(Layer {
                metadata: Metadata::from("file", file),
                tree: tree(text)?,
            });

        let environment: BTreeMap<_, _> = environment.into_iter().collect();
        let mut problems = Vec::new();
        for (name, value) in &environment {
            match Variable::new(name, value) {
                Ok(None) => {}
                Ok(Some(variable)) if variable.hides_a_table_of(&document) => {
                    problems.push(variable.sets_no_table());
                }
                Ok(Some(variable)) => layers = layers.merge(variable.layer()),
                Err(problem) => problems.push(problem),
            }
        }
        let root = layers
            .find_value("")
            .ok()
            .and_then(Value::into_dict)
            .unwrap_or_default();
        let sources = Self {
            root,
            layers,
            file: file.to_owned(),
            document,
            environment,
            credentials: credentials.map(Path::to_owned),
        };
        Ok((sources, problems))
    }

    /// The merged tree.
    pub(super) fn root(&self) -> &Dict {
        &self.root
    }

    /// A path as it is meant: a relative one from the file's folder.
    pub(super) fn absolute(&self, path: &str) -> PathBuf {
        self.file
            .parent()
            .unwrap_or_else(|| Path::new(""))
            .join(path)
    }

    /// A variable of the environment.
    pub(super) fn variable(&self, name: &str) -> Option<&OsString> {
        self.environment.get(&OsString::from(name))
    }

    /// The folder of the service's credentials.
    pub(super) fn credentials(&self) -> Option<&Path> {
        self.credentials.as_deref()
    }

    /// The variable that a value comes from, if it comes from one.
    pub(super) fn variable_of(&self, value: &Value) -> Option<&str> {
        match self.layers.get_metadata(value.tag())?.source.as_ref()? {
            Source::Custom(name) => Some(name),
            _ => None,
        }
    }

    /// All variables that a value and what is below it come from.
    pub(super) fn variables_below<'a>(&'a self, value: &'a Value, found: &mut Vec<&'a str>) {
        match value {
            Value::Dict(_, dict) => dict
                .values()
                .for_each(|below| self.variables_below(below, found)),
            _ => found.extend(self.variable_of(value)),
        }
    }

    /// Where a value stands.
    pub(super) fn place(&self, path: &[Step], value: &Value) -> Place {
        match self.variable_of(value) {
            Some(name) => Place::Variable(name.to_owned()),
            None => self.place_in_file(path),
        }
    }

    /// The path's line in the file, or its nearest parent's.
    pub(super) fn place_in_file(&self, path: &[Step]) -> Place {
        let offset = locate(&self.document, path).0;
        Place::File {
            file: self.file.clone(),
            line: offset.map(|offset| position(self.document.raw(), offset).0),
            column: None,
        }
    }

    /// Whether the file says anything at this path.
    pub(super) fn is_in_file(&self, path: &[Step]) -> bool {
        locate(&self.document, path).1.is_some()
    }
}

/// One step from a value to one below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// To a table's key.
    Key(String),
    /// To a list's item, from 0.
    Item(usize),
}

/// The key as people write it; a list's items go by the list's name.
pub(super) fn key_name(path: &[Step]) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let names: Vec<String> = path
        .iter()
        .filter_map(|step| match step {
            Step::Key(name) if !name.is_empty() && name.chars().all(bare) => Some(name.clone()),
            Step::Key(name) => Some(format!("{name:?}")),
            Step::Item(_) => None,
        })
        .collect();
    names.join(".")
}

/// A value of the merged tree, and where it stands.
#[derive(Clone)]
pub(super) struct Given<'a> {
    /// Where all values come from.
    pub(super) sources: &'a Sources,
    /// The way to the value.
    pub(super) path: Vec<Step>,
    /// The value.
    pub(super) value: &'a Value,
}

impl<'a> Given<'a> {
    /// Whether it comes from the environment, and so is text whatever is meant.
    fn is_variable(&self) -> bool {
        self.sources.variable_of(self.value).is_some()
    }

    /// The text, if it is one.
    pub(super) fn text(&self) -> Option<&'a str> {
        self.value.as_str()
    }

    /// The whole number, if it is one.
    pub(super) fn whole(&self) -> Option<i128> {
        match self.value {
            Value::String(_, text) if self.is_variable() => text.parse().ok(),
            Value::Num(_, Num::F32(_) | Num::F64(_)) => None,
            Value::Num(_, number) => number
                .to_i128()
                .or_else(|| number.to_u128().and_then(|number| number.try_into().ok())),
            _ => None,
        }
    }

    /// Whether it is on or off, if it is a switch.
    pub(super) fn switch(&self) -> Option<bool> {
        match self.value {
            Value::String(_, text) if self.is_variable() => text.parse().ok(),
            value => value.to_bool(),
        }
    }

    /// The list's items, if it is one.
    pub(super) fn items(&self) -> Option<Vec<Self>> {
        let items = self.value.as_array()?.iter().enumerate();
        Some(
            items
                .map(|(index, value)| self.below(Step::Item(index), value))
                .collect(),
        )
    }

    /// The table's keys with their values, if it is one.
    pub(super) fn entries(&self) -> Option<Vec<(&'a str, Self)>> {
        let entries = self.value.as_dict()?.iter();
        Some(
            entries
                .map(|(name, value)| (name.as_str(), self.below(Step::Key(name.clone()), value)))
                .collect(),
        )
    }

    fn below(&self, step: Step, value: &'a Value) -> Self {
        let mut path = self.path.clone();
        path.push(step);
        Self {
            path,
            value,
            ..*self
        }
    }

    /// The value in words, not too many.
    pub(super) fn shown(&self) -> String {
        match self.value {
            Value::String(_, text) => quoted(text),
            Value::Bool(_, switch) => switch.to_string(),
            Value::Num(_, Num::F64(number)) => format!("{number:?}"),
            Value::Num(..) => self
                .whole()
                .map_or_else(|| "a number".to_owned(), |number| number.to_string()),
            Value::Dict(_, dict) if dict.keys().any(|key| key.starts_with("$__toml")) => {
                "a date or time".to_owned()
            }
            Value::Array(..) => "a list".to_owned(),
            Value::Dict(..) | Value::Char(..) | Value::Empty(..) => "a table".to_owned(),
        }
    }

    /// That it is not what is allowed. Lists and tables can't be given by a variable at all.
    pub(super) fn refuse(&self, allowed: &str) -> Vec<Problem> {
        self.refuse_shown(&self.shown(), allowed)
    }

    /// As [`Self::refuse`], with other words for what was found.
    pub(super) fn refuse_shown(&self, found: &str, allowed: &str) -> Vec<Problem> {
        self.complain(&format!("found {found}, allowed is {allowed}"))
    }

    /// That it can't be given by a variable, if it was; else as [`Self::refuse`].
    pub(super) fn refuse_collection(&self, allowed: &str) -> Vec<Problem> {
        if self.is_variable() {
            self.complain("a variable can't set a list or a table; set it in the file")
        } else {
            self.refuse(allowed)
        }
    }

    /// As [`Self::refuse_collection`], where it may be a secret in the wrong place.
    pub(super) fn refuse_secret_collection(&self, allowed: &str) -> Vec<Problem> {
        if self.is_variable() {
            self.refuse_collection(allowed)
        } else {
            self.refuse_shown("something else that is not shown", allowed)
        }
    }

    /// That something is wrong with it.
    pub(super) fn complain(&self, what: &str) -> Vec<Problem> {
        vec![Problem {
            place: self.sources.place(&self.path, self.value),
            message: format!("{}: {what}", key_name(&self.path)),
        }]
    }
}

/// Text in quotes, cut where it grows long.
pub(super) fn quoted(text: &str) -> String {
    const LONGEST: usize = 100;
    if text.chars().count() <= LONGEST {
        format!("{text:?}")
    } else {
        let start: String = text.chars().take(LONGEST).collect();
        format!("{start:?}…")
    }
}

/// One variable that sets a key.
struct Variable {
    name: String,
    path: Vec<Step>,
    value: String,
}

impl Variable {
    /// `None` for those that are none of ours.
    fn new(name: &OsString, value: &OsString) -> Result<Option<Self>, Problem> {
        let shown = name.to_string_lossy();
        let Some(rest) = shown.strip_prefix(PREFIX) else {
            return Ok(None);
        };
        if shown == FILE_VARIABLE {
            return Ok(None);
        }
        let Some(value) = value.to_str() else {
            return Err(Problem {
                place: Place::Variable(shown.clone().into_owned()),
                message: "not UTF-8 text".to_owned(),
            });
        };
        let path = rest
            .to_lowercase()
            .split("__")
            .map(|part| Step::Key(part.to_owned()))
            .collect();
        Ok(Some(Self {
            name: shown.into_owned(),
            path,
            value: value.to_owned(),
        }))
    }

    /// Whether the file has a table of its own where this has a text.
    fn hides_a_table_of(&self, document: &ImDocument<String>) -> bool {
        locate(document, &self.path)
            .1
            .is_some_and(|item| item.is_table() || item.is_array_of_tables())
    }

    fn sets_no_table(self) -> Problem {
        Problem {
            message: format!(
                "{}: a variable can't set a list or a table; set it in the file",
                key_name(&self.path)
            ),
            place: Place::Variable(self.name),
        }
    }

    /// The tree with nothing but this value.
    fn layer(&self) -> Layer {
        let leaf = Value::from(self.value.clone());
        let tree = self.path.iter().rev().fold(leaf, |below, step| match step {
            Step::Key(name) => Value::from(Dict::from([(name.clone(), below)])),
            Step::Item(_) => below,
        });
        Layer {
            metadata: Metadata::named("environment variable")
                .source(Source::Custom(self.name.clone())),
            tree: tree.into_dict().unwrap_or_default(),
        }
    }
}

/// One layer of values, all from one source.
struct Layer {
    metadata: Metadata,
    tree: Dict,
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        self.metadata.clone()
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Map::from([(Profile::Default, self.tree.clone())]))
    }
}

/// The byte where the path, or its nearest parent, begins in the file; and what is there, if all
/// of the path is.
fn locate<'a>(
    document: &'a ImDocument<String>,
    path: &[Step],
) -> (Option<usize>, Option<&'a Item>) {
    let mut offset = None;
    let mut table: Option<&dyn TableLike> = Some(document.as_table());
    let mut item = Some(document.as_item());
    let mut array = None;
    for step in path {
        match step {
            Step::Key(name) => {
                let Some((key, below)) = table.and_then(|table| table.get_key_value(name)) else {
                    return (offset, None);
                };
                let span = key.span().or_else(|| below.span());
                offset = span.map(|span| span.start).or(offset);
                table = below.as_table_like();
                array = below.as_array();
                item = Some(below);
            }
            Step::Item(index) => {
                let below = array.and_then(|array| array.get(*index));
                let span = below.and_then(toml_edit::Value::span);
                return (span.map(|span| span.start).or(offset), item);
            }
        }
    }
    (offset, item)
}

/// A byte's line and column, from 1.
fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count().saturating_add(1);
    let line_start = before.rfind('\n').map_or(0, |at| at.saturating_add(1));
    let column = before.get(line_start..).unwrap_or("").chars().count();
    (line, column.saturating_add(1))
}

/// That the file is not TOML. The parser's own display quotes the line, which may hold a secret:
/// only its message is used.
fn not_toml(
    file: &Path,
    text: &str,
    message: &str,
    span: Option<std::ops::Range<usize>>,
) -> Errors {
    let position = span.map(|span| position(text, span.start));
    let message: Vec<&str> = message.lines().collect();
    Errors::from(Problem {
        place: Place::File {
            file: file.to_owned(),
            line: position.map(|(line, _)| line),
            column: position.map(|(_, column)| column),
        },
        message: format!("not TOML: {}", message.join(", ")),
    })
}
