//! [`CachedManifest`]: a manifest's live entries as the session's cache has them.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use iceberg::spec::{Datum, ManifestStatus, PrimitiveLiteral, Struct};
use icefield_core::Result;
use icefield_core::filter::FileMatcher;
use icefield_core::format::{LiveFile, Manifest, WantedStatistics};

use super::planning::PlanningMemory;

/// The live entries of a manifest as planning wants them: by partition value.
///
/// Entries have the statistics that scans have wanted so far. The file is kept, compressed as it is, so that a scan that wants
/// others' finds them without a request. A scan takes entries for its own only where they have all that it wants.
#[derive(Debug)]
pub(super) struct CachedManifest {
    pub(super) file: Bytes,
    pub(super) live: Vec<LiveFile>,
    /// The statistics that entries have.
    pub(super) statistics: WantedStatistics,
    /// Places in `live` of the files of each partition value. All files of a manifest are of one spec.
    partitions: Vec<Vec<u32>>,
    /// About what this takes in memory.
    pub(super) bytes: usize,
}

/// The entries at these places alone, unless they are most of the manifest.
pub(super) fn reduced(manifest: Arc<CachedManifest>, places: Vec<u32>) -> (Arc<CachedManifest>, Vec<u32>) {
    if places.len() >= manifest.live.len() / 2 {
        return (manifest, places);
    }
    let live: Vec<LiveFile> =
        places.iter().filter_map(|place| manifest.live.get(*place as usize).cloned()).collect();
    let places = (0..).take(live.len()).collect();
    (Arc::new(CachedManifest::of_some(live, manifest.statistics.clone())), places)
}

impl CachedManifest {
    /// The live entries of a manifest, with some statistics; `memory` is what planning has for them.
    pub(super) fn read(
        manifest: &Manifest,
        statistics: WantedStatistics,
        memory: &mut PlanningMemory,
    ) -> Result<Self> {
        memory.add(manifest.file().len())?;
        let mut live = Vec::new();
        manifest.files(&statistics, |status, file| {
            if status != ManifestStatus::Deleted {
                memory.add(entry_bytes(&file))?;
                live.push(file);
            }
            Ok(())
        })?;
        Ok(Self::new(manifest.file().clone(), live, statistics))
    }

    /// Entries that are matched no more.
    pub(super) fn of_some(live: Vec<LiveFile>, statistics: WantedStatistics) -> Self {
        let bytes = live.iter().map(entry_bytes).sum();
        Self { file: Bytes::new(), live, statistics, partitions: Vec::new(), bytes }
    }

    fn new(file: Bytes, mut live: Vec<LiveFile>, statistics: WantedStatistics) -> Self {
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
        let mut manifest = Self { file, live, statistics, partitions, bytes: 0 };
        manifest.bytes = manifest.estimated_bytes();
        manifest
    }

    /// Places of the files that may hold matching rows, in the manifest's order. A partition value is tested once, and
    /// decides for all its files or for none.
    pub(super) fn matching(&self, matcher: &FileMatcher) -> Vec<u32> {
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

    /// About what this takes in memory.
    fn estimated_bytes(&self) -> usize {
        let places: usize =
            self.partitions.iter().map(|places| size_of_val(places) + places.capacity() * 4).sum();
        size_of::<Self>() + self.file.len() + places + self.live.iter().map(entry_bytes).sum::<usize>()
    }
}

/// About what an entry takes in memory: fixed parts, hash tables with their free places, and what is on the heap beyond.
fn entry_bytes(live: &LiveFile) -> usize {
    let file = &live.file;
    let counts =
        [file.column_sizes(), file.value_counts(), file.null_value_counts(), file.nan_value_counts()];
    let bounds = [file.lower_bounds(), file.upper_bounds()];
    let texts: usize = bounds.iter().flat_map(|bounds| bounds.values()).map(heap_bytes).sum();
    size_of::<LiveFile>()
        + file.file_path().len()
        + size_of_val(file.partition().fields())
        + file.split_offsets().map_or(0, size_of_val)
        + file.key_metadata().map_or(0, <[u8]>::len)
        + counts.into_iter().map(table_bytes).sum::<usize>()
        + bounds.into_iter().map(table_bytes).sum::<usize>()
        + texts
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

#[cfg(test)]
mod tests {
    use iceberg::spec::{DataContentType, DataFileBuilder, DataFileFormat};

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
        Arc::new(CachedManifest::new(Bytes::new(), live.collect(), WantedStatistics::None))
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
