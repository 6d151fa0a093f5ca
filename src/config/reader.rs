//! Asks the layers for one key after the other, and so learns which keys exist.
//!
//! A key is known because it is asked for: there is no other list. What was never asked for is
//! unknown, and reported with the nearest known name. Reading goes on after a problem, so that
//! all of them are told at once.

use std::collections::{BTreeMap, BTreeSet};

use figment::value::{Dict, Value};

use super::problem::{Place, Problem};
use super::sources::{Given, Sources, Step, key_name};
use super::values::Read;

/// Collects what is wrong, and what was asked for.
pub(super) struct Reader<'a> {
    sources: &'a Sources,
    problems: Vec<Problem>,
    known: BTreeMap<Vec<String>, Known>,
    /// Variables that secrets are taken from: theirs are names, not keys.
    secret_variables: BTreeSet<String>,
}

/// What a known name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    /// A table of further keys.
    Section,
    /// A value.
    Key,
}

impl<'a> Reader<'a> {
    /// A reader to which everything is unknown yet.
    pub(super) fn new(sources: &'a Sources, problems: Vec<Problem>) -> Self {
        Self {
            sources,
            problems,
            known: BTreeMap::new(),
            secret_variables: BTreeSet::new(),
        }
    }

    /// The table at the path; an empty one if there is none.
    pub(super) fn section(&mut self, path: &[&str]) -> Section<'_, 'a> {
        let path: Vec<String> = path.iter().map(|&name| name.to_owned()).collect();
        self.known.insert(path.clone(), Known::Section);
        let value = value_at(self.sources.root(), &path);
        if let Some(value) = value.filter(|value| value.as_dict().is_none()) {
            let given = Given {
                sources: self.sources,
                path: steps(&path),
                value,
            };
            let allowed = format!("a table, {}", header(&path));
            self.problems.extend(given.refuse_collection(&allowed));
        }
        Section {
            reader: self,
            path,
            entries: value.and_then(Value::as_dict),
        }
    }

    /// Notes that something is wrong at the path, of which only the beginning need be there.
    fn complain(&mut self, path: &[String], what: &str) {
        let steps = steps(path);
        self.problems.push(Problem {
            place: self.place(path),
            message: format!("{}: {what}", key_name(&steps)),
        });
    }

    /// Where a value stands; of a table, or of what is missing in one: where the table does, and
    /// that is a variable only if the file has nothing of it.
    fn place(&self, path: &[String]) -> Place {
        let steps = steps(path);
        let root = self.sources.root();
        let there = (1..=path.len())
            .rev()
            .find_map(|length| Some((length, value_at(root, &path[..length])?)));
        let Some((length, value)) = there else {
            return self.sources.place_in_file(&steps);
        };
        if value.as_dict().is_none() {
            return self.sources.place(&steps, value);
        }
        let mut variables = Vec::new();
        self.sources.variables_below(value, &mut variables);
        match variables.first() {
            Some(name) if !self.sources.is_in_file(&steps[..length]) => {
                Place::Variable((*name).to_owned())
            }
            _ => self.sources.place_in_file(&steps),
        }
    }

    /// The keys that were asked for, in alphabetical order.
    pub(super) fn known_keys(&self) -> impl Iterator<Item = &[String]> {
        self.known
            .iter()
            .filter(|(_, known)| **known == Known::Key)
            .map(|(path, _)| path.as_slice())
    }

    /// What is wrong with what was asked for.
    pub(super) fn into_problems(self) -> Vec<Problem> {
        self.problems
    }

    /// All that is wrong, now that every key that exists has been asked for.
    pub(super) fn finish(mut self) -> Vec<Problem> {
        self.report_unknown(&mut Vec::new(), self.sources.root());
        self.problems
    }

    fn report_unknown(&mut self, path: &mut Vec<String>, entries: &Dict) {
        for (name, value) in entries {
            path.push(name.clone());
            match (self.known.get(path.as_slice()), value.as_dict()) {
                (Some(Known::Section), Some(below)) => self.report_unknown(path, below),
                (Some(_), _) => {}
                (None, _) => self.report_unknown_key(path, value),
            }
            path.pop();
        }
    }

    fn report_unknown_key(&mut self, path: &[String], value: &Value) {
        let steps = steps(path);
        let message = format!("{}: unknown key; {}", key_name(&steps), self.advice(path));
        let mut places = Vec::new();
        if self.sources.is_in_file(&steps) {
            places.push(self.sources.place_in_file(&steps));
        }
        let mut variables = Vec::new();
        self.sources.variables_below(value, &mut variables);
        places.extend(
            variables
                .into_iter()
                .filter(|&name| !self.secret_variables.contains(name))
                .map(|name| Place::Variable(name.to_owned())),
        );
        self.problems
            .extend(places.into_iter().map(|place| Problem {
                place,
                message: message.clone(),
            }));
    }

    /// What was probably meant by a key that is unknown.
    fn advice(&self, path: &[String]) -> String {
        let Some((name, parent)) = path.split_last() else {
            return String::new();
        };
        let name = folded(name);
        let siblings: Vec<&str> = self
            .known
            .keys()
            .filter_map(|known| known.split_last())
            .filter(|(_, of)| *of == parent)
            .map(|(sibling, _)| sibling.as_str())
            .collect();
        let distance = |sibling: &&str| strsim::damerau_levenshtein(&name, &folded(sibling));
        let nearest = siblings.iter().copied().min_by_key(distance);
        if let Some(nearest) = nearest
            && distance(&nearest) <= (name.chars().count() / 3).max(1)
        {
            return format!("did you mean {nearest:?}?");
        }
        let elsewhere: BTreeMap<String, &str> = self
            .known_keys()
            .filter_map(<[String]>::split_last)
            .filter(|(known, _)| folded(known) == name)
            .map(|(known, of)| (header(of), known.as_str()))
            .collect();
        if let Some(known) = elsewhere.values().next() {
            let tables: Vec<&str> = elsewhere.keys().map(String::as_str).collect();
            return format!("there is {known:?} in {}", tables.join(" and "));
        }
        format!("known here: {}", siblings.join(", "))
    }
}

/// One table, with the keys that it may hold.
pub(super) struct Section<'r, 'a> {
    reader: &'r mut Reader<'a>,
    path: Vec<String>,
    entries: Option<&'a Dict>,
}

impl<'a> Section<'_, 'a> {
    /// The table of this name in it.
    pub(super) fn section(&mut self, name: &str) -> Section<'_, 'a> {
        let path = self.path.iter().map(String::as_str);
        let path: Vec<&str> = path.chain([name]).collect();
        self.reader.section(&path)
    }

    /// The key's value; `None` if there is none, or something is wrong with it, which is then
    /// noted.
    pub(super) fn get<T>(&mut self, name: &str, read: impl Fn(&Given<'a>) -> Read<T>) -> Option<T> {
        let given = self.given(name)?;
        read(&given)
            .map_err(|problems| self.reader.problems.extend(problems))
            .ok()
    }

    /// As [`Self::get`], and its absence is a problem too.
    pub(super) fn require<T>(
        &mut self,
        name: &str,
        allowed: &str,
        read: impl Fn(&Given<'a>) -> Read<T>,
    ) -> Option<T> {
        if self.given(name).is_none() {
            self.complain(name, &format!("is missing; it must be {allowed}"));
            return None;
        }
        self.get(name, read)
    }

    /// The key's value as it stands.
    pub(super) fn given(&mut self, name: &str) -> Option<Given<'a>> {
        let mut path = self.path.clone();
        path.push(name.to_owned());
        let steps = steps(&path);
        self.reader.known.insert(path, Known::Key);
        Some(Given {
            sources: self.reader.sources,
            path: steps,
            value: self.entries?.get(name)?,
        })
    }

    /// The names in this table.
    pub(super) fn names(&self) -> Vec<String> {
        self.entries
            .map(|entries| entries.keys().cloned().collect())
            .unwrap_or_default()
    }

    /// Notes that something is wrong with a key, which need not be there.
    pub(super) fn complain(&mut self, name: &str, what: &str) {
        let mut path = self.path.clone();
        path.push(name.to_owned());
        self.reader.complain(&path, what);
    }

    /// Notes that something is wrong with the table itself.
    pub(super) fn complain_of_itself(&mut self, what: &str) {
        self.reader.complain(&self.path, what);
    }

    /// Notes that a secret is taken from the variable.
    pub(super) fn uses_variable(&mut self, name: &str) {
        self.reader.secret_variables.insert(name.to_owned());
    }
}

/// How a table begins in the file.
fn header(path: &[String]) -> String {
    match path {
        [webhook, rest @ ..] if webhook == "webhook" => {
            let below = rest.iter().skip(1).map(String::as_str);
            let names: Vec<&str> = [webhook.as_str(), "NAME"]
                .into_iter()
                .chain(below)
                .collect();
            format!("[{}]", names.join("."))
        }
        _ => format!("[{}]", path.join(".")),
    }
}

fn steps(path: &[String]) -> Vec<Step> {
    path.iter().cloned().map(Step::Key).collect()
}

fn value_at<'a>(root: &'a Dict, path: &[String]) -> Option<&'a Value> {
    let (last, parents) = path.split_last()?;
    let mut entries = root;
    for name in parents {
        entries = entries.get(name)?.as_dict()?;
    }
    entries.get(last)
}

/// A name without what people get wrong first: `PayloadMaxItems` is `payload_max_items`.
fn folded(name: &str) -> String {
    name.chars()
        .filter(|c| !matches!(c, '_' | '-'))
        .flat_map(char::to_lowercase)
        .collect()
}
