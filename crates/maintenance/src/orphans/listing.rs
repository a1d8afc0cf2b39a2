//! What a store holds in the folders of a table, and what becomes of each file.

use std::collections::{BTreeSet, HashMap};

use iceberg::spec::TableMetadata;
use icefield_core::storage::{FileEntry, file_name};

use super::report::{KeptFile, KeptReason, OrphanFile};
use super::roots::Neighbours;
use crate::common::FileCount;
use crate::identity::{Equal, Prefix, key};

/// What the table's metadata says of a file, from the least to the most.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    Unreached,
    /// It names the same path on another store.
    Mismatch(String),
    ReachedByPrevious,
    Reached,
}

#[derive(Debug)]
struct Entry {
    location: String,
    prefix: Prefix,
    bytes: u64,
    modified_ms: i64,
    /// Why it stays even when nothing reaches it.
    hold: Option<KeptReason>,
    state: State,
}

/// The listed files by [`key`]. Files of the same path on several stores share a key.
#[derive(Debug)]
pub(super) struct Listing {
    entries: HashMap<String, Vec<Entry>>,
    equal: Equal,
    cutoff_ms: i64,
    /// Names of partition fields that look like hidden files.
    visible: BTreeSet<String>,
    pub(super) listed: FileCount,
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
        Self { entries: HashMap::new(), equal, cutoff_ms, visible, listed: FileCount::default() }
    }

    /// Adds a file that was listed in `root`.
    pub(super) fn add(&mut self, root: &str, file: FileEntry, neighbours: &Neighbours) {
        self.listed.add(file.size);
        let hold = self.hold(root, &file, neighbours);
        let (prefix, key) = self.equal.split(&file.location);
        self.entries.entry(key).or_default().push(Entry {
            location: file.location,
            prefix,
            bytes: file.size,
            modified_ms: file.modified_ms,
            hold,
            state: State::Unreached,
        });
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
        let (prefix, key) = self.equal.split(location);
        for entry in self.entries.get_mut(&key).into_iter().flatten() {
            let state = match (prefix.covers(&entry.prefix), by) {
                (true, By::Current) => State::Reached,
                (true, By::Previous) => State::ReachedByPrevious,
                (false, _) => State::Mismatch(location.to_string()),
            };
            if state > entry.state {
                entry.state = state;
            }
        }
    }

    /// Files that differ from one that the table names in scheme or authority only: both locations.
    pub(super) fn mismatches(&self) -> Vec<(&str, &str)> {
        let mut all: Vec<(&str, &str)> = self
            .entries
            .values()
            .flatten()
            .filter_map(|entry| match &entry.state {
                State::Mismatch(named) => Some((entry.location.as_str(), named.as_str())),
                _ => None,
            })
            .collect();
        all.sort_unstable();
        all
    }

    /// What goes and what stays, by location. `keep_mismatches` is what to do about [`Listing::mismatches`].
    pub(super) fn sort(self, keep_mismatches: bool) -> Sorted {
        let mut sorted = Sorted::default();
        for entry in self.entries.into_values().flatten() {
            let Entry { location, bytes, modified_ms, hold, state, .. } = entry;
            let reason = match (state, hold) {
                (State::Reached, _) => {
                    sorted.reachable.add(bytes);
                    continue;
                }
                (_, Some(hold)) => Some(hold),
                (State::ReachedByPrevious, None) => Some(KeptReason::PreviousMetadata),
                (State::Mismatch(named), None) if keep_mismatches => Some(KeptReason::PrefixMismatch(named)),
                (State::Mismatch(_) | State::Unreached, None) => None,
            };
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
