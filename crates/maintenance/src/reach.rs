//! What a table's metadata reaches: manifest lists, manifests, data and delete files, statistics.
//!
//! Both expiry and orphan removal delete what is *not* reached, so the rules here err on the side of reaching. A file that
//! a kept snapshot needs and that can't be read stops the walk with an error: nobody deletes on half a picture. Only what
//! earlier metadata files name may be missing ([`Missing::Skip`]), since expiry has deleted it rightly, and only what is to be
//! deleted itself may be broken ([`Missing::SkipUnreadable`]), since there is just less to delete then.
//!
//! A snapshot reaches the files that are *live* in it. An entry that marks a file as deleted reaches nothing: the file is
//! needed by the snapshots that still hold it, and they say so themselves.

use std::collections::{HashMap, HashSet};
use std::fmt;

use futures::FutureExt;
use futures::stream::{self, StreamExt};
use iceberg::spec::{
    DataContentType, DataFileFormat, ManifestContentType, ManifestFile, SnapshotRef, TableMetadata,
};
use icefield_core::format::{ManifestReader, lists_manifests_itself, load_manifest_list};
use icefield_core::storage::Storage;
use icefield_core::{Error, ErrorKind, Result, Table};
use serde::Serialize;

use crate::identity;
use crate::paths::KeyHash;

/// Manifest lists and metadata files that are read at once.
pub(crate) const READ_CONCURRENCY: usize = 8;

/// The kinds of files that make up a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[non_exhaustive]
pub enum FileKind {
    /// A data file.
    Data,
    /// A position delete file.
    PositionDeletes,
    /// An equality delete file.
    EqualityDeletes,
    /// A Puffin file with deletion vectors.
    DeletionVectors,
    /// A manifest.
    Manifest,
    /// A snapshot's list of manifests.
    ManifestList,
    /// A file of table or partition statistics.
    Statistics,
    /// A metadata file.
    Metadata,
}

impl fmt::Display for FileKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Data => "data files",
            Self::PositionDeletes => "position delete files",
            Self::EqualityDeletes => "equality delete files",
            Self::DeletionVectors => "deletion vector files",
            Self::Manifest => "manifests",
            Self::ManifestList => "manifest lists",
            Self::Statistics => "statistics files",
            Self::Metadata => "metadata files",
        })
    }
}

/// What to do about a file of metadata that does not exist, or that is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Missing {
    /// The table needs it: an error.
    Fail,
    /// It belonged to a snapshot that has been expired: it reaches nothing.
    Skip,
    /// It belongs to a snapshot that goes, and so does one that is there and can't be parsed: whatever it reaches is not
    /// among what is deleted.
    SkipUnreadable,
}

/// The manifests of some snapshots, each once, by [`identity::key`].
#[derive(Debug, Default)]
pub(crate) struct Manifests(pub(crate) HashMap<String, ManifestFile>);

impl Manifests {
    /// Reads the manifest lists of `snapshots`. One request each.
    pub(crate) async fn of(
        storage: &Storage,
        snapshots: impl IntoIterator<Item = SnapshotRef>,
        missing: Missing,
    ) -> Result<Self> {
        Self::of_readable(storage, snapshots, |_, error| excused(error, missing)).await
    }

    /// The same, but for lists whose error is `excused`.
    pub(crate) async fn of_readable(
        storage: &Storage,
        snapshots: impl IntoIterator<Item = SnapshotRef>,
        mut excused: impl FnMut(&SnapshotRef, Error) -> Result<()>,
    ) -> Result<Self> {
        let mut seen = HashSet::new();
        let lists: Vec<SnapshotRef> =
            snapshots.into_iter().filter(|s| seen.insert(identity::key(s.manifest_list()))).collect();
        let mut loads = stream::iter(lists)
            .map(|snapshot| async move { (load_manifest_list(storage, &snapshot).await, snapshot) }.boxed())
            .buffer_unordered(READ_CONCURRENCY);
        let mut manifests = HashMap::new();
        while let Some((list, snapshot)) = loads.next().await {
            match list {
                Err(error) => excused(&snapshot, error)?,
                Ok(list) => {
                    for manifest in list {
                        manifests.entry(identity::key(&manifest.manifest_path)).or_insert(manifest);
                    }
                }
            }
        }
        Ok(Self(manifests))
    }

    /// Calls `visit` for each live file of the manifests that `want` chooses. One request a manifest.
    pub(crate) async fn visit_live(
        &self,
        storage: &Storage,
        missing: Missing,
        want: impl Fn(&str, &ManifestFile) -> bool,
        visit: impl FnMut(FileKind, &str, u64),
    ) -> Result<()> {
        self.visit_readable(storage, want, |_, error| excused(error, missing), visit).await
    }

    /// The same, but for manifests whose error is `excused`.
    pub(crate) async fn visit_readable(
        &self,
        storage: &Storage,
        want: impl Fn(&str, &ManifestFile) -> bool,
        mut excused: impl FnMut(&ManifestFile, Error) -> Result<()>,
        mut visit: impl FnMut(FileKind, &str, u64),
    ) -> Result<()> {
        let chosen: Vec<ManifestFile> = self
            .0
            .iter()
            .filter(|(key, manifest)| want(key, manifest))
            .map(|(_, manifest)| manifest.clone())
            .collect();
        let mut loads = ManifestReader::of_any_table(storage).each(chosen.clone(), |manifest| {
            let mut files = Vec::new();
            manifest.locations(|file| files.push(file))?;
            Ok(files)
        });
        // One comes for each, in their order.
        for manifest in &chosen {
            match loads.next().await {
                Some(Ok(files)) => {
                    files
                        .iter()
                        .for_each(|file| visit(kind_of(file.content, file.format), &file.path, file.size));
                }
                Some(Err(error)) => excused(manifest, error)?,
                None => return Err(Error::internal("fewer manifests were read than asked for")),
            }
        }
        Ok(())
    }
}

/// Whether a manifest lists data files, not delete files.
pub(crate) fn is_of_data(manifest: &ManifestFile) -> bool {
    manifest.content == ManifestContentType::Data
}

/// The statistics files that `metadata` names: location and size.
pub(crate) fn statistics(metadata: &TableMetadata) -> Vec<(i64, String, u64)> {
    let table = metadata.statistics_iter().map(|s| (s.snapshot_id, &s.statistics_path, s.file_size_in_bytes));
    let partition = metadata
        .partition_statistics_iter()
        .map(|s| (s.snapshot_id, &s.statistics_path, s.file_size_in_bytes));
    table.chain(partition).map(|(id, path, size)| (id, path.clone(), size.max(0) as u64)).collect()
}

/// Every file that a table's current metadata file reaches, that file and the earlier ones that it names among them. One request for
/// each snapshot's manifest list and one for each manifest.
pub(crate) async fn reached_by(table: &Table) -> Result<HashSet<KeyHash>> {
    let (storage, metadata) = (table.storage(), table.metadata());
    let mut reached = HashSet::from([KeyHash::of(table.metadata_location())]);
    reached.extend(metadata.metadata_log().iter().map(|log| KeyHash::of(&log.metadata_file)));
    reached.extend(statistics(metadata).iter().map(|(_, location, _)| KeyHash::of(location)));
    let listed = metadata.snapshots().filter(|snapshot| !lists_manifests_itself(snapshot));
    reached.extend(listed.map(|snapshot| KeyHash::of(snapshot.manifest_list())));
    let manifests = Manifests::of(storage, metadata.snapshots().cloned(), Missing::Fail).await?;
    reached.extend(manifests.0.values().map(|manifest| KeyHash::of(&manifest.manifest_path)));
    let visit = |_, location: &str, _| {
        reached.insert(KeyHash::of(location));
    };
    manifests.visit_live(storage, Missing::Fail, |_, _| true, visit).await?;
    Ok(reached)
}

fn kind_of(content: DataContentType, format: DataFileFormat) -> FileKind {
    match (content, format) {
        (DataContentType::Data, _) => FileKind::Data,
        (DataContentType::EqualityDeletes, _) => FileKind::EqualityDeletes,
        (DataContentType::PositionDeletes, DataFileFormat::Puffin) => FileKind::DeletionVectors,
        (DataContentType::PositionDeletes, _) => FileKind::PositionDeletes,
    }
}

/// `None` for a file that does not exist or is broken, where that is allowed.
pub(crate) fn present<T>(loaded: Result<T>, missing: Missing) -> Result<Option<T>> {
    match loaded {
        Ok(value) => Ok(Some(value)),
        Err(error) => excused(error, missing).map(|()| None),
    }
}

/// Passes over a file that may be missing or broken as this error has it.
fn excused(error: Error, missing: Missing) -> Result<()> {
    match (missing, error.kind()) {
        (Missing::Skip | Missing::SkipUnreadable, ErrorKind::NotFound) => Ok(()),
        (Missing::SkipUnreadable, ErrorKind::DataInvalid | ErrorKind::Unsupported) => Ok(()),
        _ => Err(error),
    }
}
