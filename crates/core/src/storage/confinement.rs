//! [`Confinement`]: the places that locations may be in, whoever wrote them.
//!
//! Metadata names files by location, and a table's owner writes metadata. What a location may reach is the service's to say:
//! [`Storage::resolve`](super::Storage::resolve), which everything passes, refuses what lies elsewhere.
//!
//! **Text.** Scheme and authority are compared with aliases folded, keys part by part: `/lake` has `/lake/t`, not `/lakes`.
//! `..` is no part of a key, and nothing is percent-decoded: `%2e%2e` is a name like others.
//!
//! **Disk.** What is below a place may be a link that leads out of it. So the file, as the operating system knows it with all
//! links followed, must be within the place as well.

use std::fmt;
use std::path::{Component, Path, PathBuf};

use super::location::{Location, within};
use crate::error::{Error, Result};

/// Where locations may be.
#[derive(Clone, Default)]
pub(super) enum Confinement {
    /// Nothing was said: anywhere, until a catalog confines its tables to its warehouse.
    #[default]
    Unsaid,
    /// The service said so.
    Anywhere,
    Within(Vec<Place>),
}

#[derive(Clone)]
pub(super) struct Place {
    /// As it was given.
    text: String,
    base: String,
    key: String,
}

impl fmt::Debug for Confinement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsaid => f.write_str("Unsaid"),
            Self::Anywhere => f.write_str("Anywhere"),
            Self::Within(places) => f.debug_list().entries(places.iter().map(|place| &place.text)).finish(),
        }
    }
}

impl Confinement {
    pub(super) fn within(places: impl IntoIterator<Item = String>) -> Result<Self> {
        let place = |text: String| {
            let location = Location::parse(&text)?;
            // Checks that it is a path.
            location.path(&text)?;
            let (base, key) = (location.base(), location.plain_key().trim_end_matches('/').to_string());
            Ok(Place { base, key, text })
        };
        Ok(Self::Within(places.into_iter().map(place).collect::<Result<_>>()?))
    }

    /// The same, and these places too where places are named.
    pub(super) fn and(&self, more: impl IntoIterator<Item = String>) -> Result<Self> {
        match (self, Self::within(more)?) {
            (Self::Within(places), Self::Within(more)) => Ok(Self::Within([&places[..], &more].concat())),
            _ => Ok(self.clone()),
        }
    }

    /// The confinement of a catalog's tables: where nothing was said, its warehouse and `moved`, the places that files were
    /// moved to; where places were named, those and the warehouse.
    pub(super) fn of_tables(
        &self,
        warehouse: String,
        moved: impl IntoIterator<Item = String>,
    ) -> Result<Self> {
        match self {
            Self::Unsaid => Self::within(std::iter::once(warehouse).chain(moved)),
            said => said.and([warehouse]),
        }
    }

    /// Checks a location, as written and as it is looked for.
    pub(super) fn check(&self, location: &str, parsed: &Location<'_>) -> Result<()> {
        let Self::Within(places) = self else { return Ok(()) };
        let (base, key) = (parsed.base(), parsed.plain_key());
        let mut named =
            places.iter().filter(|place| place.base == base && within(&key, &place.key)).peekable();
        let is_named = named.peek().is_some();
        let is_there = is_named && (!parsed.is_local() || named.any(|place| is_on_disk(&key, &place.key)));
        if is_there {
            return Ok(());
        }
        let message = match is_named {
            true => {
                "a link leads to the location, out of the places that files may be in; give a way without links"
            }
            false => {
                "the location lies outside of the places that files may be in; where it is right, the service names its folder \
                 (Storage::confined_to)"
            }
        };
        let places: Vec<&str> = places.iter().map(|place| place.text.as_str()).collect();
        Err(Error::invalid_input(message).with("location", location).with("places", places.join(", ")))
    }
}

/// Tells whether a location is a folder's or below it, by its text and on the disk. Nothing is within a whole store.
pub(super) fn is_within(location: &str, folder: &str) -> bool {
    let (Ok(location), Ok(folder)) = (Location::parse(location), Location::parse(folder)) else {
        return false;
    };
    let (key, of) = (location.plain_key(), folder.plain_key());
    let of = of.trim_end_matches('/');
    let by_text =
        !of.is_empty() && location.base() == folder.base() && within(&key, of) && location.path("").is_ok();
    by_text && (!location.is_local() || is_on_disk(&key, of))
}

/// Whether a path, with links followed, is within a place with links followed: what leads to the place may be one.
fn is_on_disk(key: &str, place: &str) -> bool {
    let path = |key: &str| followed(&Path::new("/").join(key));
    path(key).zip(path(place)).is_some_and(|(path, place)| path.starts_with(place))
}

/// A path with links followed as far as it exists; `None` where that can't be told.
fn followed(path: &Path) -> Option<PathBuf> {
    let mut missing = Vec::new();
    let mut known = path;
    loop {
        match known.canonicalize() {
            Ok(found) => {
                let rest = missing.iter().rev();
                return Some(rest.fold(found, |path, name| path.join(name)));
            }
            // A link that leads nowhere exists itself.
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && known.symlink_metadata().is_err() => {
                let Some(Component::Normal(name)) = known.components().next_back() else { return None };
                missing.push(name);
                known = known.parent()?;
            }
            Err(_) => return None,
        }
    }
}
