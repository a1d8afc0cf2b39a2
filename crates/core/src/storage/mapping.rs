//! [`Mapping`]: where the files of a table that was moved are looked for.

use std::borrow::Cow;
use std::fmt;

use super::location::{Location, is_relative, same_location};
use crate::error::{Error, Result};

/// Pairs of location prefixes, the longest first.
#[derive(Default, Clone)]
pub(super) struct Mapping {
    moved: Vec<Moved>,
    /// The folder that other relative locations are in.
    relative_to: Option<String>,
}

#[derive(Clone)]
struct Moved {
    from: Origin,
    /// As it was given.
    text: String,
    to: String,
}

#[derive(Clone)]
enum Origin {
    /// A place in a store, however it is written.
    Place { base: String, key: String },
    /// A relative location.
    Text,
}

impl fmt::Debug for Mapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.moved.iter().map(|moved| (&moved.text, &moved.to))).finish()
    }
}

impl Mapping {
    pub(super) fn new(moved: impl Iterator<Item = (String, String)>) -> Result<Self> {
        let mut pairs = Vec::<Moved>::new();
        for (from, to) in moved {
            let text = trimmed(&from);
            Location::parse(&to)?;
            let to = trimmed(&to);
            let from = match Location::parse(&text) {
                _ if text.is_empty() && !from.is_empty() => Origin::root(),
                _ if is_relative(&text) => Origin::Text,
                parsed => {
                    let parsed = parsed?;
                    Origin::Place { base: parsed.base(), key: parsed.key.trim_matches('/').to_string() }
                }
            };
            match pairs.iter().find(|other| other.text == text || same_location(&other.text, &text)) {
                Some(other) if same_location(&other.to, &to) => {}
                Some(_) => {
                    let message = "a location is moved to two places; say one";
                    return Err(Error::invalid_input(message).with("location", text));
                }
                None => pairs.push(Moved { from, text, to }),
            }
        }
        let mut mapping = Self { moved: pairs, relative_to: None };
        mapping.sort();
        Ok(mapping)
    }

    /// The same, and the relative locations of a table that lies in `folder` and calls that `name`.
    pub(super) fn relative(&self, name: &str, folder: &str) -> Self {
        let (mut mapping, text) = (self.clone(), trimmed(name));
        if is_relative(&text) && !mapping.moved.iter().any(|moved| starts(&text, &moved.text).is_some()) {
            mapping.moved.push(Moved { from: Origin::Text, text, to: folder.to_string() });
            mapping.sort();
        }
        mapping.relative_to = Some(folder.to_string());
        mapping
    }

    fn sort(&mut self) {
        self.moved.sort_by_key(|moved| {
            std::cmp::Reverse(match &moved.from {
                Origin::Place { key, .. } => key.len(),
                Origin::Text => moved.text.len(),
            })
        });
    }

    /// Where files were moved to.
    pub(super) fn targets(&self) -> impl Iterator<Item = String> {
        self.moved.iter().map(|moved| moved.to.clone())
    }

    pub(super) fn apply<'a>(&self, location: &'a str) -> Cow<'a, str> {
        if self.moved.is_empty() && self.relative_to.is_none() {
            return Cow::Borrowed(location);
        }
        if is_relative(location) {
            let found = self.moved.iter().filter(|moved| matches!(moved.from, Origin::Text));
            let found = found.filter_map(|moved| Some((&moved.to, starts(location, &moved.text)?))).next();
            let found = found.or(self.relative_to.as_ref().map(|folder| (folder, location)));
            return found.map_or(Cow::Borrowed(location), |(to, rest)| Cow::Owned(joined(to, rest)));
        }
        let Ok(parsed) = Location::parse(location) else { return Cow::Borrowed(location) };
        let (own, path) = (parsed.base(), parsed.key.trim_start_matches('/'));
        let found = self.moved.iter().find_map(|moved| match &moved.from {
            Origin::Place { base, key } if *base == own => Some((&moved.to, starts(path, key)?)),
            _ => None,
        });
        found.map_or(Cow::Borrowed(location), |(to, rest)| Cow::Owned(joined(to, rest)))
    }
}

impl Origin {
    fn root() -> Self {
        Self::Place { base: "file://".to_string(), key: String::new() }
    }
}

fn trimmed(location: &str) -> String {
    location.trim_end_matches('/').to_string()
}

fn joined(folder: &str, rest: &str) -> String {
    if rest.is_empty() { folder.to_string() } else { format!("{folder}/{rest}") }
}

/// What follows a prefix that ends with a whole part of the path.
fn starts<'a>(path: &'a str, prefix: &str) -> Option<&'a str> {
    let rest = path.strip_prefix(prefix)?;
    let on_a_boundary = prefix.is_empty() || rest.is_empty() || rest.starts_with('/');
    on_a_boundary.then(|| rest.trim_start_matches('/'))
}
