//! Which files a scan reads: manifests and their entries, pruned by a filter.

use std::ops::Deref;
use std::sync::Arc;

use datafusion::common::runtime::SpawnedTask;
use futures::{StreamExt, TryStreamExt};
use iceberg::spec::{DataFileFormat, ManifestContentType, ManifestFile, Snapshot};
use icefield_core::filter::{FileMatcher, Filter};
use icefield_core::format::{LiveFile, ManifestContent, load_manifest, load_manifest_list};
use icefield_core::{Error, Result, Table};

use super::ScanCaches;

/// How many manifests are read at once.
const MANIFESTS_AT_ONCE: usize = 16;

/// An entry of a cached manifest, without a copy of it.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    manifest: Arc<ManifestContent>,
    index: usize,
}

impl Deref for Entry {
    type Target = LiveFile;

    fn deref(&self) -> &LiveFile {
        &self.manifest.live[self.index]
    }
}

/// The files of a snapshot that may hold matching rows.
#[derive(Debug, Clone, Default)]
pub struct PlannedFiles {
    /// Data files.
    pub data: Vec<LiveFile>,
    /// Delete files that may apply to them.
    pub deletes: Vec<LiveFile>,
}

/// As [`PlannedFiles`], without copies.
#[derive(Debug, Default)]
pub(super) struct PlannedEntries {
    pub(super) data: Vec<Entry>,
    pub(super) deletes: Vec<Entry>,
}

/// The files of a snapshot that may hold rows that match `filter`, in the manifests' order.
///
/// # Cost
/// One request for the manifest list and one for each manifest that may hold matching files, 16 at once; none for those
/// that `caches` hold.
///
/// # Errors
/// [`DataInvalid`](icefield_core::ErrorKind::DataInvalid) naming the manifest that can't be read.
pub async fn plan_files(
    table: &Table,
    snapshot: &Snapshot,
    filter: &Filter,
    caches: &Arc<ScanCaches>,
) -> Result<PlannedFiles> {
    let planned = plan_entries(table, snapshot, filter, caches).await?;
    let copy = |entries: Vec<Entry>| entries.iter().map(|entry| LiveFile::clone(entry)).collect();
    Ok(PlannedFiles { data: copy(planned.data), deletes: copy(planned.deletes) })
}

pub(super) async fn plan_entries(
    table: &Table,
    snapshot: &Snapshot,
    filter: &Filter,
    caches: &Arc<ScanCaches>,
) -> Result<PlannedEntries> {
    let matcher = FileMatcher::new(filter, table.metadata())?;
    let list = caches
        .lists
        .get_or_load(
            snapshot.manifest_list(),
            |list| list.len() * 600,
            || load_manifest_list(table.storage(), table.metadata(), snapshot),
        )
        .await?;
    let wanted: Vec<ManifestFile> =
        list.iter().filter(|m| may_hold_files(m) && matcher.might_match_manifest(m)).cloned().collect();
    let contents: Vec<(ManifestContentType, Arc<ManifestContent>)> = futures::stream::iter(wanted)
        .map(|manifest| load_cached(table, manifest, caches))
        .buffered(MANIFESTS_AT_ONCE)
        .try_collect()
        .await?;
    let mut planned = PlannedEntries::default();
    for (kind, manifest) in contents {
        let into = match kind {
            ManifestContentType::Data => &mut planned.data,
            ManifestContentType::Deletes => &mut planned.deletes,
        };
        for (index, live) in manifest.live.iter().enumerate() {
            if matcher.might_match(live.spec_id, &live.file) {
                into.push(Entry { manifest: manifest.clone(), index });
            }
        }
    }
    Ok(planned)
}

/// Whether a manifest may hold live files. Version 1 need not say.
fn may_hold_files(manifest: &ManifestFile) -> bool {
    manifest.added_files_count != Some(0) || manifest.existing_files_count != Some(0)
}

async fn load_cached(
    table: &Table,
    manifest: ManifestFile,
    caches: &Arc<ScanCaches>,
) -> Result<(ManifestContentType, Arc<ManifestContent>)> {
    let kind = manifest.content;
    if let Some(content) = caches.manifests.get(&manifest.manifest_path) {
        return Ok((kind, content));
    }
    // A task of its own: decoding Avro is work for another core.
    let (storage, caches) = (table.storage().clone(), caches.clone());
    let task = SpawnedTask::spawn(async move {
        let content = Arc::new(load_manifest(&storage, &manifest).await?);
        caches.manifests.put(&manifest.manifest_path, content.clone(), estimated_bytes(&content));
        Ok::<_, Error>(content)
    });
    let content = task
        .join()
        .await
        .map_err(|e| Error::internal("reading a manifest did not finish").with_source(e))??;
    Ok((kind, content))
}

/// About what a manifest's entries take in memory: fixed parts, and for each column's statistics a map entry.
fn estimated_bytes(content: &ManifestContent) -> usize {
    let entry = |live: &LiveFile| {
        let file = &live.file;
        let counts = file.column_sizes().len()
            + file.value_counts().len()
            + file.null_value_counts().len()
            + file.nan_value_counts().len();
        let bounds = file.lower_bounds().len() + file.upper_bounds().len();
        500 + file.file_path().len() + counts * 24 + bounds * 120
    };
    1_000 + content.live.iter().chain(&content.deleted).map(entry).sum::<usize>()
}

pub(super) fn check_format(file: &LiveFile) -> Result<()> {
    match file.file.file_format() {
        DataFileFormat::Parquet => Ok(()),
        other => Err(Error::unsupported(
            "only Parquet files can be read; rewrite the file with the engine that wrote it",
        )
        .with("file", file.path())
        .with("format", other)),
    }
}
