//! What a commit keeps from one of its tries to the next: what was validated, and manifests that are as good again.

use std::collections::{HashMap, HashSet};

use iceberg::spec::{DataContentType, DataFile, FormatVersion, ManifestFile, Struct, TableMetadata};

use crate::clock::Clock;
use crate::deletes::is_vector;
use crate::format::LiveFile;

/// What is kept of one action. Its manifests name the snapshot that they are of, which has the same id in every try.
#[derive(Debug, Default)]
pub(super) struct Kept {
    snapshot: Option<(i64, FormatVersion)>,
    /// Snapshots of others that are no conflict.
    pub(super) validated: HashSet<i64>,
    /// Manifests of data files as the action leaves them.
    pub(super) filtered: HashMap<Listed, Filtered>,
    /// Manifests of delete files, likewise, for `deletes_for`.
    pub(super) filtered_deletes: HashMap<Listed, Filtered>,
    pub(super) deletes_for: Option<(HashSet<String>, i64)>,
    /// Manifests of the files that come.
    pub(super) added: Option<Vec<ManifestFile>>,
    /// Merged manifests, by those that they were made of.
    pub(super) merged: HashMap<Vec<Listed>, Vec<ManifestFile>>,
}

/// A manifest as a list names it: its location, sequence numbers and first row id. Entries inherit from the list, so that the
/// same file in another list may say something else.
pub(super) type Listed = (String, i64, i64, Option<u64>);

pub(super) fn listed(manifest: &ManifestFile) -> Listed {
    let location = manifest.manifest_path.clone();
    (location, manifest.sequence_number, manifest.min_sequence_number, manifest.first_row_id)
}

impl Kept {
    /// The id of the action's snapshot. What is kept of another format version is forgotten.
    pub(super) fn snapshot_id(&mut self, metadata: &TableMetadata, clock: &dyn Clock) -> i64 {
        let version = metadata.format_version();
        match self.snapshot {
            Some((id, of)) if of == version && metadata.snapshot_by_id(id).is_none() => id,
            _ => {
                let id = new_snapshot_id(metadata, clock);
                *self = Self { snapshot: Some((id, version)), ..Self::default() };
                id
            }
        }
    }
}

fn new_snapshot_id(metadata: &TableMetadata, clock: &dyn Clock) -> i64 {
    loop {
        let id = (clock.random() >> 1) as i64;
        if id > 0 && metadata.snapshot_by_id(id).is_none() {
            return id;
        }
    }
}

/// What an action makes of a manifest.
#[derive(Debug, Clone)]
pub(super) struct Filtered {
    /// The manifest that has the others of its files; `None` where none of its files go and it stays itself.
    pub(super) manifest: Option<ManifestFile>,
    /// The files that go.
    pub(super) removed: Vec<Removed>,
}

/// A file that goes, as summaries count it.
#[derive(Debug, Clone)]
pub(super) struct Removed {
    /// Its location, and for a deletion vector where in the file it begins.
    pub(super) identity: (String, Option<i64>),
    pub(super) spec_id: i32,
    pub(super) partition: Struct,
    pub(super) content: DataContentType,
    pub(super) is_vector: bool,
    pub(super) records: u64,
    pub(super) bytes: u64,
}

impl From<&LiveFile> for Removed {
    fn from(file: &LiveFile) -> Self {
        Self {
            identity: identity(file),
            spec_id: file.spec_id,
            partition: file.file.partition().clone(),
            content: file.file.content_type(),
            is_vector: is_vector(&file.file),
            records: file.file.record_count(),
            bytes: content_size(&file.file),
        }
    }
}

/// The bytes of a file as summaries count them: a deletion vector's own, as it shares its file with others.
pub(super) fn content_size(file: &DataFile) -> u64 {
    let own = file.content_size_in_bytes().filter(|_| is_vector(file));
    own.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or_else(|| file.file_size_in_bytes())
}

/// What tells a delete file from others: deletion vectors share files.
pub(super) fn identity(file: &LiveFile) -> (String, Option<i64>) {
    (file.path().to_string(), file.file.content_offset())
}
