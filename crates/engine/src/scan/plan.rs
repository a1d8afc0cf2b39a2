//! Which files a scan reads: manifests and their entries, pruned by a filter.

use std::collections::HashSet;
use std::ops::Deref;
use std::sync::Arc;

use futures::TryStreamExt;
use iceberg::spec::{DataFileFormat, ManifestContentType, ManifestFile, Snapshot};
use icefield_core::filter::{FileMatcher, Filter};
use icefield_core::format::{
    ContentReader, LiveFile, ManifestReader, Room, WantedStatistics, load_admitted_manifests, load_bounded,
};
use icefield_core::{Error, Result, Table};

use super::ScanCaches;
use super::manifest::{CachedManifest, reduced};
use super::planning::{PlanningMemory, listed_bytes};

/// Statistics take some 250 bytes for each column of each file while files are planned. Of columns that don't decide which files
/// are read, so many of a file are decoded at least, and so many of all files together at most.
const LEAST_COLUMNS: usize = 12;
const MOST_COLUMNS_OF_FILES: usize = 128 << 10;

/// A file that a scan reads: an entry of a cached manifest, without a copy of it.
#[derive(Debug, Clone)]
pub struct PlannedFile {
    manifest: Arc<Held>,
    index: u32,
}

/// A manifest that a plan holds, and the memory that it has for it.
#[derive(Debug)]
struct Held {
    manifest: Arc<CachedManifest>,
    _memory: PlanningMemory,
}

/// The manifests of a snapshot, and the memory that a plan has for them.
pub(crate) struct ManifestList {
    manifests: Arc<Vec<ManifestFile>>,
    _memory: PlanningMemory,
}

impl Deref for ManifestList {
    type Target = [ManifestFile];

    fn deref(&self) -> &[ManifestFile] {
        &self.manifests
    }
}

impl PlannedFile {
    /// Files that a manifest does not list as live: those that it says were removed.
    pub(crate) fn all(files: Vec<LiveFile>) -> Vec<Self> {
        let places = 0..files.len() as u32;
        let manifest = Arc::new(CachedManifest::of_some(files, WantedStatistics::All));
        let manifest = Arc::new(Held { manifest, _memory: PlanningMemory::default() });
        places.map(|index| Self { manifest: manifest.clone(), index }).collect()
    }
}

impl Deref for PlannedFile {
    type Target = LiveFile;

    fn deref(&self) -> &LiveFile {
        &self.manifest.manifest.live[self.index as usize]
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

/// The files of a snapshot that may hold rows that match `filter`, in the manifests' order, with the statistics of the columns
/// that the filter tests and of those that `statistics` names; they may have others' too. Of many columns of many files those of
/// the lowest ids have statistics, and those that the table is sorted by.
///
/// # Cost
/// One request for the manifest list and one for each manifest that may hold matching files, as many at once as memory goes;
/// none for those that `caches` hold. Manifests of delete files are read first. Of each manifest, a test of each distinct
/// partition value, and of each file whose partition value does not decide.
///
/// # Errors
/// [`DataInvalid`](icefield_core::ErrorKind::DataInvalid) naming the manifest that can't be read;
/// [`ResourceExhausted`](icefield_core::ErrorKind::ResourceExhausted) where the pool of `caches` has no memory for what the plan holds.
pub async fn plan_files(
    table: &Table,
    snapshot: &Snapshot,
    filter: &Filter,
    statistics: &WantedStatistics,
    caches: &Arc<ScanCaches>,
) -> Result<PlannedFiles> {
    let list = manifest_list(table, snapshot, caches).await?;
    files_of(table, list.iter(), filter, statistics, caches).await
}

/// The manifests of a snapshot.
///
/// # Errors
/// As [`plan_files`].
pub(crate) async fn manifest_list(
    table: &Table,
    snapshot: &Snapshot,
    caches: &Arc<ScanCaches>,
) -> Result<ManifestList> {
    let bytes = |list: &Vec<ManifestFile>| list.iter().map(listed_bytes).sum::<usize>();
    // A snapshot without a list of its own gives its id to manifests that have none.
    let key = format!("{} {}", snapshot.snapshot_id(), snapshot.manifest_list());
    let mut memory = caches.planning(table);
    let manifests = match caches.lists.get(&key) {
        Some(list) => list,
        None => {
            let mut loading = memory.another();
            let mut admit = |manifest: &ManifestFile| loading.add(listed_bytes(manifest));
            let list = Arc::new(load_admitted_manifests(table.storage(), snapshot, &mut admit).await?);
            caches.lists.put(&key, list.clone(), bytes(&list));
            list
        }
    };
    // Those that are planned from are copied.
    memory.hold(2 * bytes(&manifests))?;
    Ok(ManifestList { manifests, _memory: memory })
}

/// The files of manifests that may hold rows that match `filter`, as [`plan_files`] has them.
pub(crate) async fn files_of(
    table: &Table,
    manifests: impl IntoIterator<Item = &ManifestFile>,
    filter: &Filter,
    statistics: &WantedStatistics,
    caches: &Arc<ScanCaches>,
) -> Result<PlannedFiles> {
    let planner = Planner {
        reader: ManifestReader::new(table.storage(), table.metadata()),
        matcher: Arc::new(FileMatcher::new(filter, table.metadata())?),
        caches: caches.clone(),
        memory: Arc::new(caches.planning(table)),
        of: facts_of(table).into(),
    };
    let wanted =
        manifests.into_iter().filter(|m| may_hold_files(m) && planner.matcher.might_match_manifest(m));
    let (data, deletes): (Vec<_>, Vec<_>) =
        wanted.cloned().partition(|manifest| manifest.content == ManifestContentType::Data);
    // Those of delete files tell by which columns they delete, and have few.
    let deletes = planner.plan(deletes, &WantedStatistics::All).await?;
    let keys = deletes.iter().flat_map(|delete| delete.file.equality_ids().unwrap_or_default());
    let mut columns: HashSet<i32> = keys.collect();
    collect_columns(filter, &mut columns);
    columns.extend(sorted_columns(table).filter(|id| statistics.covers(&WantedStatistics::of([*id]))));
    let statistics = statistics.lowest(columns_of(&data)).or(&WantedStatistics::of(columns));
    let data = planner.plan(data, &statistics).await?;
    Ok(PlannedFiles { data, deletes })
}

/// How many columns' statistics there is memory for in the files of these manifests.
fn columns_of(manifests: &[ManifestFile]) -> usize {
    let counts = manifests.iter().flat_map(|m| [m.added_files_count, m.existing_files_count]);
    let files = counts.flatten().fold(0_usize, |sum, count| sum.saturating_add(count as usize));
    (MOST_COLUMNS_OF_FILES / files.max(1)).max(LEAST_COLUMNS)
}

/// The columns that the table's rows are sorted by.
fn sorted_columns(table: &Table) -> impl Iterator<Item = i32> {
    table.metadata().default_sort_order().fields.iter().map(|field| field.source_id)
}

/// The columns that a filter tests.
fn collect_columns(filter: &Filter, into: &mut HashSet<i32>) {
    match filter {
        Filter::True | Filter::False => {}
        Filter::And(all) | Filter::Or(all) => all.iter().for_each(|filter| collect_columns(filter, into)),
        Filter::Not(filter) => collect_columns(filter, into),
        Filter::Test(id, _) => {
            into.insert(*id);
        }
    }
}

/// Whether a manifest may hold live files. Version 1 need not say.
fn may_hold_files(manifest: &ManifestFile) -> bool {
    manifest.added_files_count != Some(0) || manifest.existing_files_count != Some(0)
}

/// What planning goes by.
#[derive(Clone)]
struct Planner {
    reader: ManifestReader,
    matcher: Arc<FileMatcher>,
    caches: Arc<ScanCaches>,
    /// What other memory of the plan is made from.
    memory: Arc<PlanningMemory>,
    /// Whose types the entries are read by.
    of: Arc<str>,
}

impl Planner {
    /// The files of manifests of one kind that match.
    async fn plan(
        &self,
        manifests: Vec<ManifestFile>,
        statistics: &WantedStatistics,
    ) -> Result<Vec<PlannedFile>> {
        let (planner, statistics) = (self.clone(), statistics.clone());
        let mut matching = load_bounded(manifests, move |manifest, room| {
            let (planner, statistics) = (planner.clone(), statistics.clone());
            async move {
                let (manifest, memory) = planner.manifest(&manifest, statistics, room).await?;
                let places = manifest.matching(&planner.matcher);
                Ok::<_, Error>((manifest, memory, places))
            }
        });
        let (mut planned, mut held) = (Vec::new(), 0);
        while let Some((manifest, mut memory, places)) = matching.try_next().await? {
            if places.is_empty() {
                continue;
            }
            held += manifest.bytes;
            // Manifests that the cache can't keep beside the others would be kept for the few entries that match.
            let (manifest, places) = match held > self.caches.manifests.capacity() {
                true => reduced(manifest, places),
                false => (manifest, places),
            };
            memory.hold(manifest.bytes)?;
            let manifest = Arc::new(Held { manifest, _memory: memory });
            planned.extend(places.into_iter().map(|index| PlannedFile { manifest: manifest.clone(), index }));
        }
        Ok(planned)
    }

    /// A manifest with these statistics at least, and the memory for it.
    async fn manifest(
        &self,
        listed: &ManifestFile,
        mut statistics: WantedStatistics,
        room: Room,
    ) -> Result<(Arc<CachedManifest>, PlanningMemory)> {
        let key = format!("{} {}", inherited_from(listed), self.of);
        let mut memory = self.memory.another();
        let opened = match self.caches.manifests.get(&key) {
            Some(cached) => {
                if cached.statistics.covers(&statistics) {
                    memory.hold(cached.bytes)?;
                    return Ok((cached, memory));
                }
                // Who wanted the others will want them again.
                statistics = statistics.or(&cached.statistics);
                self.reader.open_held(cached.file.clone(), listed, room)?
            }
            None => self.reader.open_within(listed, room).await?,
        };
        let manifest = Arc::new(CachedManifest::read(&opened, statistics, &mut memory)?);
        memory.hold(manifest.bytes)?;
        self.caches.manifests.put(&key, manifest.clone(), manifest.bytes);
        Ok((manifest, memory))
    }
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

/// Whose schemas and specs the entries of a manifest are read by, which another table that names the manifest may have others of:
/// the catalog's table of a name, or a metadata file that is read without a catalog.
fn facts_of(table: &Table) -> String {
    match table.is_read_only() {
        true => format!("{} {}", table.metadata().uuid(), table.metadata_location()),
        false => format!("{} {}", table.metadata().uuid(), table.ident()),
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
