//! [`MetadataCache`]: parsed metadata files, for catalogs that keep pointers.
//!
//! The pointer is not cached: the current file is asked for each time. Of the files, those whose names have a UUID are
//! written once, and what was parsed of one stays right. Other names are written again: `v3.metadata.json` by a table that was
//! made anew, or by one of two writers that raced. What is held of those is held with the tag of its content, which the store
//! is asked about at each load.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use uuid::Uuid;

use super::metadata_file::StagedMetadata;
use crate::error::{Error, Result};
use crate::format::{Metadata, load_metadata_unless};
use crate::storage::{Storage, file_name};

/// The most that a cache holds, in bytes, by an estimate of what the metadata takes in memory.
const MAX_BYTES: usize = 64 << 20;

/// Metadata by the location of its file, the least recently used given up first.
#[derive(Debug, Default)]
pub(super) struct MetadataCache(Mutex<Held>);

#[derive(Debug, Default)]
struct Held {
    files: HashMap<String, File>,
    bytes: usize,
    /// Counts uses.
    now: u64,
    /// When a file was last read anew.
    reloaded: u64,
}

#[derive(Debug)]
struct File {
    metadata: Metadata,
    /// The tag of the content that the metadata is of; none for a file that is written once.
    tag: Option<String>,
    bytes: usize,
    used: u64,
}

impl MetadataCache {
    /// The metadata of a file. No request for one that is held and whose name is unique; else one, which reads nothing where the
    /// content is that of what is held.
    ///
    /// # Errors
    /// As [`load_metadata`](crate::format::load_metadata).
    pub(super) async fn load(&self, storage: &Storage, location: &str) -> Result<Metadata> {
        let (held, began) = self.held().get(location);
        match held {
            Some((metadata, None)) => Ok(metadata),
            Some((metadata, Some(tag))) => match load_metadata_unless(storage, location, Some(&tag)).await? {
                None => Ok(metadata),
                Some((metadata, tag)) => Ok(self.hold(location, metadata, tag, began)),
            },
            None => self.read(storage, location, began).await,
        }
    }

    /// Reads a file anew, whatever is held of it. One request.
    ///
    /// # Errors
    /// As [`load_metadata`](crate::format::load_metadata).
    pub(super) async fn reload(&self, storage: &Storage, location: &str) -> Result<Metadata> {
        let began = self.held().forget(location);
        self.read(storage, location, began).await
    }

    /// Holds the metadata files that a commit has published.
    pub(super) fn published<'a>(&self, staged: impl IntoIterator<Item = &'a StagedMetadata>) {
        for next in staged {
            let now = self.held().tick();
            self.hold(next.table.metadata_location(), next.table.whole().clone(), None, now);
        }
    }

    async fn read(&self, storage: &Storage, location: &str, began: u64) -> Result<Metadata> {
        match load_metadata_unless(storage, location, None).await? {
            Some((metadata, tag)) => Ok(self.hold(location, metadata, tag, began)),
            None => Err(Error::internal("a file was not read for what nobody has").with("file", location)),
        }
    }

    /// Holds what was read since `began` where that will be known to be right, and gives it back.
    fn hold(&self, location: &str, metadata: Metadata, tag: Option<String>, began: u64) -> Metadata {
        let unique = is_unique(location);
        let mut held = self.held();
        // A read that began before another read the file anew may have what the file had before.
        if began >= held.reloaded && (unique || tag.is_some()) {
            held.insert(location, metadata.clone(), tag.filter(|_| !unique), MAX_BYTES);
        }
        metadata
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// True for a file whose name has a UUID, so that no other file has it.
fn is_unique(location: &str) -> bool {
    const LENGTH: usize = uuid::fmt::Hyphenated::LENGTH;
    let name = file_name(location).as_bytes();
    name.windows(LENGTH).any(|part| part.get(8) == Some(&b'-') && Uuid::try_parse_ascii(part).is_ok())
}

impl Held {
    fn tick(&mut self) -> u64 {
        self.now += 1;
        self.now
    }

    /// The metadata that is held of a file, with the tag of its content, and the time of the look.
    fn get(&mut self, location: &str) -> (Option<(Metadata, Option<String>)>, u64) {
        let now = self.tick();
        let file = self.files.get_mut(location).map(|file| {
            file.used = now;
            (file.metadata.clone(), file.tag.clone())
        });
        (file, now)
    }

    /// Forgets a file that is to be read anew from now on.
    fn forget(&mut self, location: &str) -> u64 {
        self.remove(location);
        self.reloaded = self.tick();
        self.reloaded
    }

    fn remove(&mut self, location: &str) {
        if let Some(file) = self.files.remove(location) {
            self.bytes -= file.bytes;
        }
    }

    fn insert(&mut self, location: &str, metadata: Metadata, tag: Option<String>, most: usize) {
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
        let used = self.tick();
        self.bytes += bytes;
        self.files.insert(location.to_string(), File { metadata, tag, bytes, used });
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
            held.insert(location, metadata.clone(), None, 2 * each);
        }
        assert!(held.get("a").0.is_some());
        held.insert("c", metadata.clone(), None, 2 * each);
        let mut is_held = |location| held.get(location).0.is_some();
        assert!(!is_held("b") && is_held("a") && is_held("c"));
        assert_eq!(held.bytes, 2 * each);
        held.insert("a", metadata.clone(), None, 2 * each);
        assert_eq!((held.files.len(), held.bytes), (2, 2 * each));
        held.insert("too large", metadata, None, each);
        assert_eq!(held.files.len(), 2);
    }

    #[tokio::test]
    async fn what_was_read_before_a_file_was_read_anew_is_not_held() {
        const FILE: &str = "memory://w/00001-2f3eb7a7-3a5c-4a4d-a4f4-8f7c6a7a2d11.metadata.json";
        let json = include_str!("../../tests/metadata/v2-minimal.json");
        let (storage, cache) = (Storage::new(), MetadataCache::default());
        storage.write(FILE, json).await.unwrap();
        let (_, began) = cache.held().get(FILE);
        let old = parse_metadata(json.as_bytes()).unwrap();
        let anew = cache.reload(&storage, FILE).await.unwrap();
        cache.hold(FILE, old, None, began);
        let held = cache.load(&storage, FILE).await.unwrap();
        assert!(std::sync::Arc::ptr_eq(held.typed(), anew.typed()));
        // Nor where it comes while the file is being read anew.
        let (_, began) = cache.held().get("other");
        cache.held().forget(FILE);
        cache.hold(FILE, held, None, began);
        assert!(cache.held().files.is_empty());
    }

    #[test]
    fn names_with_a_uuid_are_unique_and_no_others() {
        let id = "2f3eb7a7-3a5c-4a4d-a4f4-8f7c6a7a2d11";
        for name in
            [format!("s3://b/{id}"), format!("/t/00001-{id}.gz.metadata.json"), format!("m/{id}-m0.json")]
        {
            assert!(is_unique(&name), "{name}");
        }
        let short = id.replace('-', "");
        for name in
            [format!("s3://b/{id}/v1.metadata.json"), short, "v1.metadata.json".into(), id[..35].into()]
        {
            assert!(!is_unique(&name), "{name}");
        }
    }
}
