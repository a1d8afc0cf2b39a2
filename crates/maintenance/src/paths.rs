//! Many locations in little memory: a table's files share few folders, so that of each file only its name is held.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::identity::key;

/// Folders, each held once.
#[derive(Debug, Default)]
pub(crate) struct Folders {
    all: Vec<Box<str>>,
    numbers: HashMap<Box<str>, u32>,
}

/// A location in some [`Folders`].
#[derive(Debug, Clone)]
pub(crate) struct Path {
    folder: u32,
    name: Box<str>,
}

impl Folders {
    pub(crate) fn path(&mut self, location: &str) -> Path {
        // The folder keeps its slash: both together are the location as it is written.
        let (folder, name) = location.split_at(location.rfind('/').map_or(0, |at| at + 1));
        let folder = match self.numbers.get(folder) {
            Some(number) => *number,
            None => {
                let number = u32::try_from(self.all.len()).unwrap_or(u32::MAX);
                self.all.push(folder.into());
                self.numbers.insert(folder.into(), number);
                number
            }
        };
        Path { folder, name: name.into() }
    }

    pub(crate) fn location(&self, path: &Path) -> String {
        let folder = self.all.get(path.folder as usize).map_or("", |folder| folder);
        format!("{folder}{}", path.name)
    }
}

/// What stands for a location's [`key`]. Two files may share one, once in many billions: they count as one then, and the one that
/// might have gone stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct KeyHash(u64);

impl KeyHash {
    pub(crate) fn of(location: &str) -> Self {
        let mut hasher = DefaultHasher::new();
        key(location).hash(&mut hasher);
        Self(hasher.finish())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_comes_back_as_it_was_written() {
        let mut folders = Folders::default();
        let locations =
            ["s3://b/t/data/a.parquet", "s3://b/t/data//b", "a", "/a/", "", "file:/x/é%20 y.avro"];
        let paths: Vec<Path> = locations.iter().map(|location| folders.path(location)).collect();
        for (location, path) in locations.iter().zip(&paths) {
            assert_eq!(folders.location(path), *location);
        }
        assert_eq!(folders.path("s3://b/t/data/z").folder, paths[0].folder);
        assert_eq!(KeyHash::of("s3://b/t//a%20b"), KeyHash::of("s3://b/t/a b"));
        assert_ne!(KeyHash::of("s3://b/t/a"), KeyHash::of("s3://b/t/b"));
    }
}
