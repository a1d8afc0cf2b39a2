//! [`MetadataCache`]: parsed metadata files, for catalogs that keep pointers.
//!
//! A metadata file never changes, so what was parsed of one stays right. Which one is current is asked for each time:
//! the pointer is not cached.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::StagedMetadata;
use crate::error::Result;
use crate::format::{Metadata, load_metadata};
use crate::storage::Storage;

/// The most that a cache holds, in bytes, by an estimate of what the metadata takes in memory.
const MAX_BYTES: usize = 64 << 20;

/// Metadata by the location of its file, the least recently used given up first.
#[derive(Debug, Default)]
pub struct MetadataCache(Mutex<Held>);

#[derive(Debug, Default)]
struct Held {
    files: HashMap<String, File>,
    bytes: usize,
    /// Counts uses.
    now: u64,
}

#[derive(Debug)]
struct File {
    metadata: Metadata,
    bytes: usize,
    used: u64,
}

impl MetadataCache {
    /// The metadata of a file. No request for one that is held, else one.
    ///
    /// # Errors
    /// As [`load_metadata`].
    pub async fn load(&self, storage: &Storage, location: &str) -> Result<Metadata> {
        if let Some(metadata) = self.held().get(location) {
            return Ok(metadata);
        }
        let metadata = load_metadata(storage, location).await?;
        self.held().insert(location, metadata.clone(), MAX_BYTES);
        Ok(metadata)
    }

    /// Reads a file anew, whatever is held of it. One request.
    ///
    /// # Errors
    /// As [`load_metadata`].
    pub async fn reload(&self, storage: &Storage, location: &str) -> Result<Metadata> {
        self.held().remove(location);
        self.load(storage, location).await
    }

    /// Holds the metadata files that a commit has published.
    pub fn published<'a>(&self, staged: impl IntoIterator<Item = &'a StagedMetadata>) {
        let mut held = self.held();
        for next in staged {
            held.insert(next.table.metadata_location(), next.table.whole().clone(), MAX_BYTES);
        }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    fn get(&mut self, location: &str) -> Option<Metadata> {
        self.now += 1;
        let now = self.now;
        let file = self.files.get_mut(location)?;
        file.used = now;
        Some(file.metadata.clone())
    }

    fn remove(&mut self, location: &str) {
        if let Some(file) = self.files.remove(location) {
            self.bytes -= file.bytes;
        }
    }

    fn insert(&mut self, location: &str, metadata: Metadata, most: usize) {
        self.remove(location);
        let bytes = metadata.estimated_bytes() + location.len();
        if bytes > most {
            return;
        }
        while self.bytes + bytes > most {
            let oldest = self.files.iter().min_by_key(|(_, file)| file.used);
            let Some(oldest) = oldest.map(|(location, _)| location.clone()) else { break };
            self.remove(&oldest);
        }
        self.now += 1;
        self.bytes += bytes;
        self.files.insert(location.to_string(), File { metadata, bytes, used: self.now });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::parse_metadata;

    #[test]
    fn the_metadata_used_last_stays_within_the_bound() {
        let json = include_bytes!("../../tests/metadata/v2-minimal.json");
        let metadata = parse_metadata(json).unwrap();
        let each = metadata.estimated_bytes() + 1;
        let mut held = Held::default();
        for location in ["a", "b"] {
            held.insert(location, metadata.clone(), 2 * each);
        }
        assert!(held.get("a").is_some());
        held.insert("c", metadata.clone(), 2 * each);
        assert!(held.get("b").is_none() && held.get("a").is_some() && held.get("c").is_some());
        assert_eq!(held.bytes, 2 * each);
        held.insert("a", metadata.clone(), 2 * each);
        assert_eq!((held.files.len(), held.bytes), (2, 2 * each));
        held.insert("too large", metadata, each);
        assert_eq!(held.files.len(), 2);
    }
}
