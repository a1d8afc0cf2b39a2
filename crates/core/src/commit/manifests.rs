//! Writing manifests: of new files, of a manifest from which files go, and of several manifests in one.

use std::collections::{BTreeMap, HashSet};

use futures::TryStreamExt;
use iceberg::spec::{ManifestContentType, ManifestFile, TableMetadata};

use super::kept::{Kept, Listed, listed};
use crate::config::Properties;
use crate::error::Result;
use crate::format::{
    ContentFile, LiveFile, ManifestContent, ManifestListHead, ManifestReader, ManifestWriter, PartitionTypes,
    write_manifest_list,
};
use crate::storage::{Storage, join};
use crate::table::Table;

/// The most files in one new manifest, so that a manifest stays near `commit.manifest.target-size-bytes`.
const MAX_ENTRIES: usize = 10_000;

/// An entry to write.
pub(super) enum Entry {
    /// A new file, with its data sequence number unless that is the commit's.
    Added { file: ContentFile, sequence_number: Option<i64>, exact: bool },
    /// A file that stays.
    Existing(LiveFile),
    /// A file that goes.
    Deleted(LiveFile),
}

/// Every file that a commit has begun to write, in all of its tries, so that what comes to nothing can be
/// taken back.
pub(super) struct Written {
    /// Names this commit's files: unique among all commits.
    prefix: String,
    files: Vec<String>,
}

impl Written {
    pub(super) fn new(prefix: impl Into<String>) -> Self {
        Self { prefix: prefix.into(), files: Vec::new() }
    }

    /// The files, but for those that are named.
    pub(super) fn but(&self, named: &HashSet<String>) -> Vec<String> {
        self.files.iter().filter(|file| !named.contains(*file)).cloned().collect()
    }
}

/// Writes the manifests of one try of a commit, with the storage of the table that it is applied to.
pub(super) struct ManifestStore<'a> {
    storage: &'a Storage,
    folder: String,
    /// True if the entries of new files are exact.
    exact: bool,
    written: &'a mut Written,
}

impl<'a> ManifestStore<'a> {
    /// A store for manifests that lie where `table`, as it is now, has its metadata. `exact` tells if the
    /// entries of new files are [exact](crate::format::LiveFile::exact).
    pub(super) fn new(table: &'a Table, written: &'a mut Written, exact: bool) -> Self {
        let metadata = table.metadata();
        let folder = match Properties::new(metadata.properties()).text("write.metadata.path") {
            Some(path) => path.trim_end_matches('/').to_string(),
            None => join(metadata.location(), "metadata"),
        };
        Self { storage: table.storage(), folder, exact, written }
    }

    pub(super) fn storage(&self) -> &'a Storage {
        self.storage
    }

    pub(super) fn next_location(&mut self, name: impl FnOnce(&str, usize) -> String) -> String {
        let Written { prefix, files } = &mut *self.written;
        let location = join(&self.folder, &name(prefix, files.len()));
        files.push(location.clone());
        location
    }

    /// Manifests of new data files or of new delete files, one or more a partition spec.
    pub(super) async fn write_added(
        &mut self,
        metadata: &TableMetadata,
        snapshot_id: i64,
        content: ManifestContentType,
        files: Vec<ContentFile>,
        sequence_number: Option<i64>,
    ) -> Result<Vec<ManifestFile>> {
        let mut by_spec: BTreeMap<i32, Vec<ContentFile>> = BTreeMap::new();
        for file in files {
            by_spec.entry(file.spec_id).or_default().push(file);
        }
        let mut manifests = Vec::new();
        let exact = self.exact && content == ManifestContentType::Data;
        for (spec_id, files) in by_spec {
            let partition = PartitionTypes::new(metadata, spec_id)?;
            let mut files = files.into_iter().peekable();
            while files.peek().is_some() {
                let entries = files.by_ref().take(MAX_ENTRIES);
                let entries = entries.map(|file| Entry::Added { file, sequence_number, exact });
                manifests.push(
                    self.write(metadata, snapshot_id, partition.clone(), content, entries.collect()).await?,
                );
            }
        }
        Ok(manifests)
    }

    pub(super) async fn write(
        &mut self,
        metadata: &TableMetadata,
        snapshot_id: i64,
        partition: PartitionTypes,
        content: ManifestContentType,
        entries: Vec<Entry>,
    ) -> Result<ManifestFile> {
        let location = self.next_location(|prefix, n| format!("{prefix}-m{n}.avro"));
        let mut writer = ManifestWriter::new(metadata, partition, content, snapshot_id, location.clone())?;
        for entry in entries {
            match entry {
                Entry::Added { file, sequence_number, exact } => {
                    writer.add(&file.file, sequence_number, exact)?;
                }
                Entry::Existing(file) => writer.keep(&file)?,
                Entry::Deleted(file) => writer.delete(&file)?,
            }
        }
        let (file, manifest) = writer.finish()?;
        self.storage.write(&location, file).await?;
        Ok(manifest)
    }

    /// Writes a snapshot's manifest list. Gives its location, and the first row id that it did not give out.
    pub(super) async fn write_list(
        &mut self,
        head: &ManifestListHead,
        manifests: Vec<ManifestFile>,
    ) -> Result<(String, u64)> {
        let id = head.snapshot_id;
        let location = self.next_location(|prefix, n| format!("snap-{id}-{prefix}-{n}.avro"));
        let (file, next_row_id) = write_manifest_list(head, manifests)?;
        self.storage.write(&location, file).await?;
        Ok((location, next_row_id))
    }

    /// Merges small manifests of one spec and content, newest first as they are listed, into ones of about
    /// the target size. The newest bin is left alone until it holds `commit.manifest.min-count-to-merge`
    /// manifests.
    pub(super) async fn merge(
        &mut self,
        metadata: &TableMetadata,
        snapshot_id: i64,
        manifests: Vec<ManifestFile>,
        kept: &mut Kept,
    ) -> Result<Vec<ManifestFile>> {
        let properties = Properties::new(metadata.properties());
        if !properties.flag("commit.manifest-merge.enabled", true)? {
            return Ok(manifests);
        }
        let target: u64 = properties.get_or("commit.manifest.target-size-bytes", 8 << 20)?;
        let min_count: usize = properties.get_or("commit.manifest.min-count-to-merge", 100)?;

        let mut groups: BTreeMap<(bool, i32), Vec<ManifestFile>> = BTreeMap::new();
        for manifest in manifests {
            let is_data = manifest.content == ManifestContentType::Data;
            groups.entry((is_data, manifest.partition_spec_id)).or_default().push(manifest);
        }
        let mut out = Vec::new();
        for (_, group) in groups.into_iter().rev() {
            for (i, bin) in bins(group, target).into_iter().enumerate() {
                if bin.len() == 1 || (i == 0 && bin.len() < min_count) {
                    out.extend(bin);
                    continue;
                }
                let of: Vec<Listed> = bin.iter().map(listed).collect();
                let merged = match kept.merged.get(&of) {
                    Some(merged) => merged.clone(),
                    None => self.merge_bin(metadata, snapshot_id, bin).await?,
                };
                out.extend(merged.iter().cloned());
                kept.merged.insert(of, merged);
            }
        }
        Ok(out)
    }

    /// Merges manifests of one spec. Values of a column that was widened since become alike.
    async fn merge_bin(
        &mut self,
        metadata: &TableMetadata,
        snapshot_id: i64,
        bin: Vec<ManifestFile>,
    ) -> Result<Vec<ManifestFile>> {
        let loads =
            ManifestReader::new(self.storage, metadata).each(bin.clone(), |manifest| manifest.content());
        let contents: Vec<_> = loads.try_collect().await?;
        let of = bin.first().map_or(ManifestContentType::Data, |manifest| manifest.content);
        let Some(partition) = common_types(&contents) else {
            return Ok(bin); // what their values are of isn't known, so they can't be written as one
        };
        let group = bin.into_iter().zip(contents).collect();
        let entries = merged_entries(group, snapshot_id);
        Ok(vec![self.write(metadata, snapshot_id, partition, of, entries).await?])
    }
}

/// The types of which all partition values of some manifests of one spec are.
fn common_types(contents: &[ManifestContent]) -> Option<PartitionTypes> {
    let types = contents.iter().map(|content| content.partition.clone()).reduce(|all, of| all.or(&of))?;
    let mut files = contents.iter().flat_map(|content| content.live.iter().chain(&content.deleted));
    files.all(|file| types.hold(file.file.partition())).then_some(types)
}

/// The entries of several manifests as those of one.
fn merged_entries(group: Vec<(ManifestFile, ManifestContent)>, snapshot_id: i64) -> Vec<Entry> {
    let mut entries = Vec::new();
    for (manifest, content) in group {
        let own = manifest.added_snapshot_id == snapshot_id;
        for (file, added) in content.live.into_iter().zip(content.added) {
            entries.push(match own && added {
                // Its sequence number is this commit's, not known to the manifest yet, or was set by a
                // rewrite.
                true => {
                    let sequence_number = (file.sequence_number >= 0).then_some(file.sequence_number);
                    Entry::Added { file: file.content_file(), sequence_number, exact: file.exact }
                }
                false => Entry::Existing(file),
            });
        }
        if own {
            entries.extend(content.deleted.into_iter().map(Entry::Deleted));
        }
    }
    entries
}

/// Manifests packed from the oldest, so that the newest bin is the one that still grows. Bins come newest
/// first.
fn bins(manifests: Vec<ManifestFile>, target: u64) -> Vec<Vec<ManifestFile>> {
    let mut bins: Vec<Vec<ManifestFile>> = Vec::new();
    let mut size = 0_u64;
    for manifest in manifests.into_iter().rev() {
        let length = manifest.manifest_length.max(0) as u64;
        match bins.last_mut() {
            Some(bin) if size.saturating_add(length) <= target => bin.push(manifest),
            _ => {
                bins.push(vec![manifest]);
                size = 0;
            }
        }
        size = size.saturating_add(length);
    }
    for bin in &mut bins {
        bin.reverse();
    }
    bins.reverse();
    bins
}
