//! [`Mapping`]: where the files of a table that was moved are looked for.

use std::borrow::Cow;
use std::fmt;

use super::location::{Location, same_location};
use crate::error::{Error, Result};

/// Pairs of location prefixes, the longest first.
#[derive(Default)]
pub(super) struct Mapping(Vec<Moved>);

struct Moved {
    base: String,
    key: String,
    to: String,
}

impl fmt::Debug for Mapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entries(self.0.iter().map(|moved| (format!("{}/{}", moved.base, moved.key), &moved.to)))
            .finish()
    }
}

impl Mapping {
    pub(super) fn new(moved: impl Iterator<Item = (String, String)>) -> Result<Self> {
        let (mut seen, mut pairs) = (Vec::<String>::new(), Vec::new());
        for (from, to) in moved {
            let from = from.trim_end_matches('/').to_string();
            Location::parse(&to)?;
            let parsed = Location::parse(&from)?;
            if seen.iter().any(|other| same_location(other, &from)) {
                return Err(
                    Error::invalid_input("a location is moved to two places; say one").with("location", from)
                );
            }
            let (base, key) = (parsed.base(), parsed.key.trim_matches('/').to_string());
            seen.push(from);
            pairs.push(Moved { base, key, to: to.trim_end_matches('/').to_string() });
        }
        pairs.sort_by_key(|moved| std::cmp::Reverse(moved.key.len()));
        Ok(Self(pairs))
    }

    pub(super) fn apply<'a>(&self, location: &'a str) -> Cow<'a, str> {
        if self.0.is_empty() {
            return Cow::Borrowed(location);
        }
        let Ok(parsed) = Location::parse(location) else { return Cow::Borrowed(location) };
        let (base, key) = (parsed.base(), parsed.key.trim_start_matches('/'));
        let found = self.0.iter().filter(|moved| moved.base == base).find_map(|moved| {
            let rest = key.strip_prefix(moved.key.as_str())?;
            let on_a_boundary = moved.key.is_empty() || rest.is_empty() || rest.starts_with('/');
            on_a_boundary.then_some((moved, rest.trim_start_matches('/')))
        });
        match found {
            Some((moved, "")) => Cow::Owned(moved.to.clone()),
            Some((moved, rest)) => Cow::Owned(format!("{}/{rest}", moved.to)),
            None => Cow::Borrowed(location),
        }
    }
}
