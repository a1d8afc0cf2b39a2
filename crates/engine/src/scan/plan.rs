//! Which files a scan reads: manifests and their entries, pruned by a filter.

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::Arc;

use datafusion::common::runtime::SpawnedTask;
use futures::{StreamExt, TryStreamExt};
use iceberg::spec::{
    DataFileFormat, Datum, ManifestContentType, ManifestFile, PrimitiveLiteral, Snapshot, Struct,
};
use icefield_core::filter::{FileMatcher, Filter};
use icefield_core::format::{ContentReader, LiveFile, load_manifest, load_manifest_list};
use icefield_core::{Error, Result, Table};

use super::ScanCaches;

/// How many manifests are read at once.
const MANIFESTS_AT_ONCE: usize = 16;

/// The live entries of a manifest as planning wants them: by partition value.
#[derive(Debug)]
pub(super) struct CachedManifest {
    live: Vec<LiveFile>,
    /// Places in `live` of the files of each partition value. All files of a manifest are of one spec.
    partitions: Vec<Vec<u32>>,
    /// About what this takes in memory.
    bytes: usize,
}

/// A file that a scan reads: an entry of a cached manifest, without a copy of it.
#[derive(Debug, Clone)]
pub struct PlannedFile {
    manifest: Arc<CachedManifest>,
    index: u32,
}

impl PlannedFile {
    /// Files that a manifest does not list as live: those that it says were removed.
    pub(crate) fn all(files: Vec<LiveFile>) -> Vec<Self> {
        let places = 0..files.len() as u32;
        let manifest = Arc::new(CachedManifest { live: files, partitions: Vec::new(), bytes: 0 });
        places.map(|index| Self { manifest: manifest.clone(), index }).collect()
    }
}

impl Deref for PlannedFile {
    type Target = LiveFile;

    fn deref(&self) -> &LiveFile {
        &self.manifest.live[self.index as usize]
    }
}

/// The files of a snapshot that may hold matching rows. They keep their manifests in memory: together about as much as
/// the cache may hold, and beyond that the entries that match.
#[derive(Debug, Clone, Default)]
pub struct PlannedFiles {
    /// Data files.
    pub data: Vec<PlannedFile>,
    /// Delete files that may apply to them.
    pub deletes: Vec<PlannedFile>,
}

/// The files of a snapshot that may hold rows that match `filter`, in the manifests' order.
///
/// # Cost
/// One request for the manifest list and one for each manifest that may hold matching files, 16 at once; none for those
/// that `caches` hold. Of each manifest, a test of each distinct partition value, and of each file whose partition value does
/// not decide.
///
/// # Errors
/// [`DataInvalid`](icefield_core::ErrorKind::DataInvalid) naming the manifest that can't be read.
pub async fn plan_files(
    table: &Table,
    snapshot: &Snapshot,
    filter: &Filter,
    caches: &Arc<ScanCaches>,
) -> Result<PlannedFiles> {
    let list = manifest_list(table, snapshot, caches).await?;
    files_of(table, list.iter(), filter, caches).await
}

/// The manifests of a snapshot.
pub(crate) async fn manifest_list(
    table: &Table,
    snapshot: &Snapshot,
    caches: &Arc<ScanCaches>,
) -> Result<Arc<Vec<ManifestFile>>> {
    let load = || load_manifest_list(table.storage(), snapshot);
    caches.lists.get_or_load(snapshot.manifest_list(), |list| list.len() * 600, load).await
}

/// The files of manifests that may hold rows that match `filter`, in the manifests' order.
pub(crate) async fn files_of(
    table: &Table,
    manifests: impl IntoIterator<Item = &ManifestFile>,
    filter: &Filter,
    caches: &Arc<ScanCaches>,
) -> Result<PlannedFiles> {
    let matcher = Arc::new(FileMatcher::new(filter, table.metadata())?);
    let wanted = manifests.into_iter().filter(|m| may_hold_files(m) && matcher.might_match_manifest(m));
    let wanted: Vec<ManifestFile> = wanted.cloned().collect();
    let mut planned = PlannedFiles::default();
    let mut held = 0;
    let mut matching = futures::stream::iter(wanted)
        .map(|manifest| matching_files(table, manifest, &matcher, caches))
        .buffered(MANIFESTS_AT_ONCE);
    while let Some((kind, manifest, places)) = matching.try_next().await? {
        if places.is_empty() {
            continue;
        }
        held += manifest.bytes;
        // Manifests that the cache can't keep beside the others would be kept for the few entries that match.
        let (manifest, places) = match held > caches.manifests.capacity() {
            true => reduced(manifest, places),
            false => (manifest, places),
        };
        let files = places.into_iter().map(|index| PlannedFile { manifest: manifest.clone(), index });
        match kind {
            ManifestContentType::Data => planned.data.extend(files),
            ManifestContentType::Deletes => planned.deletes.extend(files),
        }
    }
    Ok(planned)
}

/// Whether a manifest may hold live files. Version 1 need not say.
fn may_hold_files(manifest: &ManifestFile) -> bool {
    manifest.added_files_count != Some(0) || manifest.existing_files_count != Some(0)
}

/// The files of a manifest that match, in a task of its own: decoding and matching are work for another core.
async fn matching_files(
    table: &Table,
    manifest: ManifestFile,
    matcher: &Arc<FileMatcher>,
    caches: &Arc<ScanCaches>,
) -> Result<(ManifestContentType, Arc<CachedManifest>, Vec<u32>)> {
    let kind = manifest.content;
    let (storage, matcher, caches) = (table.storage().clone(), matcher.clone(), caches.clone());
    let task = SpawnedTask::spawn(async move {
        let load = async || Ok(CachedManifest::new(load_manifest(&storage, &manifest).await?.live));
        let key = inherited_from(&manifest);
        let manifest = caches.manifests.get_or_load(&key, |manifest| manifest.bytes, load).await?;
        let places = manifest.matching(&matcher);
        Ok::<_, Error>((kind, manifest, places))
    });
    task.join().await.map_err(|e| Error::internal("reading a manifest did not finish").with_source(e))?
}

/// What the session's cache knows a manifest's entries by: its location, and all that entries inherit from the list that names
/// it. One list may say other than another: a table's first snapshot of version 3 gives row ids to manifests that had none.
fn inherited_from(manifest: &ManifestFile) -> String {
    format!(
        "{} {} {} {:?} {:?} {}",
        manifest.partition_spec_id,
        manifest.sequence_number,
        manifest.added_snapshot_id,
        manifest.first_row_id,
        manifest.content,
        manifest.manifest_path
    )
}

/// The entries at these places alone, unless they are most of the manifest.
fn reduced(manifest: Arc<CachedManifest>, places: Vec<u32>) -> (Arc<CachedManifest>, Vec<u32>) {
    if places.len() >= manifest.live.len() / 2 {
        return (manifest, places);
    }
    let live: Vec<LiveFile> =
        places.iter().filter_map(|place| manifest.live.get(*place as usize).cloned()).collect();
    let places = (0..).take(live.len()).collect();
    (Arc::new(CachedManifest { live, partitions: Vec::new(), bytes: 0 }), places)
}

impl CachedManifest {
    fn new(mut live: Vec<LiveFile>) -> Self {
        live.shrink_to_fit();
        let mut places: HashMap<&Struct, usize> = HashMap::new();
        let mut partitions: Vec<Vec<u32>> = Vec::new();
        for (index, file) in (0..).zip(&live) {
            let place = *places.entry(file.file.partition()).or_insert(partitions.len());
            match partitions.get_mut(place) {
                Some(files) => files.push(index),
                None => partitions.push(vec![index]),
            }
        }
        let mut manifest = Self { live, partitions, bytes: 0 };
        manifest.bytes = manifest.estimated_bytes();
        manifest
    }

    /// Places of the files that may hold matching rows, in the manifest's order. A partition value is tested once, and
    /// decides for all its files or for none.
    fn matching(&self, matcher: &FileMatcher) -> Vec<u32> {
        let mut kept = Vec::new();
        for places in &self.partitions {
            let files = || places.iter().map(|place| (*place, &self.live[*place as usize]));
            let Some((_, first)) = files().next() else { continue };
            match matcher.partition_decides(first.spec_id, &first.file) {
                Some(false) => {}
                Some(true) => {
                    let files = files().filter(|(_, file)| !file.is_data() || file.file.record_count() > 0);
                    kept.extend(files.map(|(place, _)| place));
                }
                None => {
                    let files = files().filter(|(_, file)| matcher.might_match(file.spec_id, &file.file));
                    kept.extend(files.map(|(place, _)| place));
                }
            }
        }
        kept.sort_unstable();
        kept
    }

    /// About what this takes in memory: fixed parts, hash tables with their free places, and what is on the heap beyond.
    fn estimated_bytes(&self) -> usize {
        let entry = |live: &LiveFile| {
            let file = &live.file;
            let counts =
                [file.column_sizes(), file.value_counts(), file.null_value_counts(), file.nan_value_counts()];
            let bounds = [file.lower_bounds(), file.upper_bounds()];
            let texts: usize = bounds.iter().flat_map(|bounds| bounds.values()).map(heap_bytes).sum();
            size_of::<LiveFile>()
                + file.file_path().len()
                + size_of_val(file.partition().fields())
                + file.split_offsets().map_or(0, size_of_val)
                + counts.into_iter().map(table_bytes).sum::<usize>()
                + bounds.into_iter().map(table_bytes).sum::<usize>()
                + texts
        };
        let places: usize =
            self.partitions.iter().map(|places| size_of_val(places) + places.capacity() * 4).sum();
        size_of::<Self>() + places + self.live.iter().map(entry).sum::<usize>()
    }
}

fn table_bytes<V>(table: &HashMap<i32, V>) -> usize {
    // Seven of eight places may be taken; each has a byte of its own beside the entry.
    table.capacity() * 8 / 7 * (size_of::<(i32, V)>() + 1)
}

fn heap_bytes(bound: &Datum) -> usize {
    match bound.literal() {
        PrimitiveLiteral::String(text) => text.len(),
        PrimitiveLiteral::Binary(bytes) => bytes.len(),
        _ => 0,
    }
}

/// Whether a file is of a format that holds rows.
pub(super) fn check_format(file: &LiveFile) -> Result<()> {
    match file.file.file_format() {
        DataFileFormat::Parquet => Ok(()),
        format if ContentReader::reads(format) => Ok(()),
        other => Err(Error::unsupported(
            "files of this format can't be read; rewrite the file with the engine that wrote it",
        )
        .with("file", file.path())
        .with("format", other)),
    }
}

#[cfg(test)]
mod tests {
    use iceberg::spec::{DataContentType, DataFileBuilder};

    use super::*;

    fn manifest(files: i64) -> Arc<CachedManifest> {
        let live = (0..files).map(|n| {
            let file = DataFileBuilder::default()
                .content(DataContentType::Data)
                .file_path(format!("memory://warehouse/{n}.parquet"))
                .file_format(DataFileFormat::Parquet)
                .partition(Struct::empty())
                .record_count(1)
                .file_size_in_bytes(1)
                .build()
                .unwrap();
            LiveFile {
                snapshot_id: 1,
                sequence_number: 1,
                file_sequence_number: 1,
                spec_id: 0,
                exact: false,
                file,
            }
        });
        Arc::new(CachedManifest::new(live.collect()))
    }

    #[test]
    fn a_manifest_is_not_held_for_few_of_its_entries() {
        let paths = |manifest: &CachedManifest, places: &[u32]| -> Vec<String> {
            places.iter().map(|place| manifest.live[*place as usize].path().to_string()).collect()
        };
        for (places, held) in [(vec![3, 70], 2), (vec![99], 1), ((0..50).collect(), 100), (vec![], 0)] {
            let whole = manifest(100);
            let (kept, found) = reduced(whole.clone(), places.clone());
            assert_eq!(kept.live.len(), held);
            assert_eq!(paths(&kept, &found), paths(&whole, &places));
        }
    }
}
