//! What a store holds in the folders of a table, and what becomes of each file.

use std::collections::hash_map::Entry as Slot;
use std::collections::{BTreeSet, HashMap};

use iceberg::spec::TableMetadata;
use icefield_core::storage::{FileEntry, Storage, file_name};

use super::report::{KeptFile, KeptReason, OrphanFile};
use super::roots::Neighbours;
use crate::common::FileCount;
use crate::identity::{Equal, Prefix, key};
use crate::paths::{Folders, KeyHash, Path};

/// What the table's metadata says of a file, from the least to the most.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    Unreached,
    /// It names the same path on another store.
    Mismatch(Box<str>),
    ReachedByPrevious,
    Reached,
}

/// A listed file. There may be millions: what many have in common is held once, in the [`Listing`].
#[derive(Debug)]
struct Entry {
    path: Path,
    prefix: u32,
    bytes: u64,
    modified_ms: i64,
    /// Why it stays even when nothing reaches it.
    hold: Option<Box<KeptReason>>,
    state: State,
}

/// The listed files by [`key`].
#[derive(Debug)]
pub(super) struct Listing {
    entries: HashMap<KeyHash, Entry>,
    /// Files whose key another one has too: of the same path on another store.
    more: Vec<(KeyHash, Entry)>,
    folders: Folders,
    prefixes: Vec<Prefix>,
    equal: Equal,
    cutoff_ms: i64,
    /// Names of partition fields that look like hidden files.
    visible: BTreeSet<String>,
    pub(super) listed: FileCount,
}

impl Sorted {
    /// Keeps what was listed through a link that leads out of the folders.
    pub(super) fn keep_behind_links(&mut self, storage: &Storage, roots: &[String]) {
        let is_there = |file: &OrphanFile| roots.iter().any(|root| storage.is_within(&file.location, root));
        let (orphans, behind) = std::mem::take(&mut self.orphans).into_iter().partition(is_there);
        self.orphans = orphans;
        let behind: Vec<OrphanFile> = behind;
        self.kept.extend(behind.into_iter().map(|OrphanFile { location, bytes, modified_ms }| KeptFile {
            location,
            bytes,
            modified_ms,
            reason: KeptReason::Link,
        }));
        self.kept.sort_by(|a, b| a.location.cmp(&b.location));
    }
}

/// Whose metadata names a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    Current,
    Previous,
}

/// What is to be done.
#[derive(Debug, Default)]
pub(super) struct Sorted {
    pub(super) orphans: Vec<OrphanFile>,
    pub(super) kept: Vec<KeptFile>,
    pub(super) reachable: FileCount,
}

impl Listing {
    pub(super) fn new(metadata: &TableMetadata, equal: Equal, cutoff_ms: i64) -> Self {
        let fields =
            metadata.partition_specs_iter().flat_map(|spec| spec.fields()).map(|field| field.name.clone());
        let visible = fields.filter(|name| name.starts_with(['_', '.'])).collect();
        Self {
            entries: HashMap::new(),
            more: Vec::new(),
            folders: Folders::default(),
            prefixes: Vec::new(),
            equal,
            cutoff_ms,
            visible,
            listed: FileCount::default(),
        }
    }

    /// Adds a file that was listed in `root`.
    pub(super) fn add(&mut self, root: &str, file: FileEntry, neighbours: &Neighbours) {
        self.listed.add(file.size);
        let hold = self.hold(root, &file, neighbours);
        let entry = Entry {
            path: self.folders.path(&file.location),
            prefix: self.prefix(&file.location),
            bytes: file.size,
            modified_ms: file.modified_ms,
            hold: hold.map(Box::new),
            state: State::Unreached,
        };
        match self.entries.entry(KeyHash::of(&file.location)) {
            Slot::Vacant(slot) => {
                slot.insert(entry);
            }
            Slot::Occupied(slot) => self.more.push((*slot.key(), entry)),
        }
    }

    fn prefix(&mut self, location: &str) -> u32 {
        let prefix = self.equal.split(location).0;
        let known = self.prefixes.iter().position(|known| *known == prefix);
        let at = known.unwrap_or_else(|| {
            self.prefixes.push(prefix);
            self.prefixes.len() - 1
        });
        u32::try_from(at).unwrap_or(u32::MAX)
    }

    fn hold(&self, root: &str, file: &FileEntry, neighbours: &Neighbours) -> Option<KeptReason> {
        if file_name(&file.location) == "version-hint.text" {
            return Some(KeptReason::VersionHint);
        }
        if let Some(table) = neighbours.owner(&file.location) {
            return Some(KeptReason::OtherTable(table.to_string()));
        }
        if self.is_hidden(root, &file.location) {
            return Some(KeptReason::Hidden);
        }
        (file.modified_ms >= self.cutoff_ms).then_some(KeptReason::TooYoung)
    }

    /// Whether a name on the way from `root` to the file begins with `_` or `.`: other programs keep their own files so.
    fn is_hidden(&self, root: &str, location: &str) -> bool {
        let (root, location) = (key(root), key(location));
        let below = location.strip_prefix(&root).unwrap_or(&location);
        below.split('/').any(|name| {
            let is_partition = || name.split_once('=').is_some_and(|(field, _)| self.visible.contains(field));
            name.starts_with(['_', '.']) && !is_partition()
        })
    }

    /// Notes that the table's metadata names `location`.
    pub(super) fn reach(&mut self, location: &str, by: By) {
        let (prefix, key) = (self.equal.split(location).0, KeyHash::of(location));
        let more = self.more.iter_mut().filter(|(of, _)| *of == key).map(|(_, entry)| entry);
        for entry in self.entries.get_mut(&key).into_iter().chain(more) {
            let covers = self.prefixes.get(entry.prefix as usize).is_none_or(|listed| prefix.covers(listed));
            let state = match (covers, by) {
                (true, By::Current) => State::Reached,
                (true, By::Previous) => State::ReachedByPrevious,
                (false, _) => State::Mismatch(location.into()),
            };
            if state > entry.state {
                entry.state = state;
            }
        }
    }

    /// Files that differ from one that the table names in scheme or authority only: both locations.
    pub(super) fn mismatches(&self) -> Vec<(String, &str)> {
        let mut all: Vec<(String, &str)> = self
            .all()
            .filter_map(|entry| match &entry.state {
                State::Mismatch(named) => Some((self.folders.location(&entry.path), &**named)),
                _ => None,
            })
            .collect();
        all.sort_unstable();
        all
    }

    fn all(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values().chain(self.more.iter().map(|(_, entry)| entry))
    }

    /// What goes and what stays, by location. `keep_mismatches` is what to do about [`Listing::mismatches`].
    pub(super) fn sort(self, keep_mismatches: bool) -> Sorted {
        let mut sorted = Sorted::default();
        let more = self.more.into_iter().map(|(_, entry)| entry);
        for entry in self.entries.into_values().chain(more) {
            let Entry { path, bytes, modified_ms, hold, state, .. } = entry;
            let reason = match (state, hold) {
                (State::Reached, _) => {
                    sorted.reachable.add(bytes);
                    continue;
                }
                (_, Some(hold)) => Some(*hold),
                (State::ReachedByPrevious, None) => Some(KeptReason::PreviousMetadata),
                (State::Mismatch(named), None) if keep_mismatches => {
                    Some(KeptReason::PrefixMismatch(named.into()))
                }
                (State::Mismatch(_) | State::Unreached, None) => None,
            };
            let location = self.folders.location(&path);
            match reason {
                Some(reason) => sorted.kept.push(KeptFile { location, bytes, modified_ms, reason }),
                None => sorted.orphans.push(OrphanFile { location, bytes, modified_ms }),
            }
        }
        sorted.orphans.sort_by(|a, b| a.location.cmp(&b.location));
        sorted.kept.sort_by(|a, b| a.location.cmp(&b.location));
        sorted
    }
}
