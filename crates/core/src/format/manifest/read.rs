//! [`Manifest`]: a manifest's entries, decoded as far as they are wanted.

use std::sync::Arc;

use bytes::Bytes;
use iceberg::spec::{
    ManifestContentType, ManifestFile, ManifestStatus, PartitionSpec, PrimitiveType, Schema, TableMetadata,
};
use serde_json::Value;

use super::entry::{Entry, File, FileLocation, Reading, WantedStatistics};
use super::exact::{EXACT_ENTRIES, Places};
use super::room::Room;
use super::types::{PartitionTypes, TableTypes};
use crate::error::Result;
use crate::format::avro::{Container, Layout, Schema as AvroSchema};
use crate::format::files::{FileEntry, LiveFile};
use crate::format::foreign;
use crate::format::position_deletes::{DELETE_FILE_PATH_ID, path_bounds};
use crate::format::source::{about, broken};
use crate::storage::check_location;

/// A manifest's content whole, with the statistics that were wanted. Entries are split by status; [`LiveFile`]s of both kinds have their
/// inherited values.
#[derive(Debug, Clone)]
pub struct ManifestContent {
    /// The partition spec that all its files are of, with its types.
    pub partition: PartitionTypes,
    /// Files that the snapshot holds: added or carried over.
    pub live: Vec<LiveFile>,
    /// For each of `live`, true if the manifest's own snapshot added it.
    pub added: Vec<bool>,
    /// Files that the manifest's snapshot took away; `snapshot_id` is that snapshot.
    pub deleted: Vec<LiveFile>,
}

/// A manifest's file in memory. Its entries are decoded each time that they are asked for, one after the other, and of them
/// what the caller wants.
#[derive(Debug)]
pub struct Manifest {
    file: Bytes,
    listed: ManifestFile,
    types: TableTypes,
    partition: Option<PartitionTypes>,
    /// Whether its header says that it is of format version 1, which has no sequence numbers.
    says_version_1: bool,
    exact: Places,
    layout: Layout,
    room: Room,
}

/// What an entry says of a file's history, inherited values filled in.
struct Inherited {
    snapshot_id: i64,
    sequence_number: i64,
    file_sequence_number: i64,
    exact: bool,
}

impl Manifest {
    /// A manifest's file, of a table of this metadata or of none that is known. Pure.
    ///
    /// # Errors
    /// [`DataInvalid`](crate::ErrorKind::DataInvalid) naming the file when it is no manifest.
    pub fn parse(file: Bytes, metadata: Option<&TableMetadata>, listed: ManifestFile) -> Result<Self> {
        Self::of_types(file, metadata.map(TableTypes::new).unwrap_or_default(), listed, Room::MOST)
    }

    pub(super) fn of_types(file: Bytes, types: TableTypes, listed: ManifestFile, room: Room) -> Result<Self> {
        let container = Container::open(&file).map_err(|e| about(e, &listed.manifest_path))?;
        let entry = |key: &str| container.metadata.get(key.as_bytes()).copied();
        let id = listed.partition_spec_id;
        let spec = types.spec(id).cloned().or_else(|| header_spec(entry, id).map(Arc::new));
        let says_version_1 = entry("format-version") == Some(b"1");
        let avro = |id: i32| partition_type(container.layout.schema(), id);
        let partition = spec.map(|spec| types.partition(spec, || header_schema(entry("schema")?), avro));
        let exact = entry(EXACT_ENTRIES).map(Places::parse).unwrap_or_default();
        // Iceberg Java's manifests have this entry, and no one else's.
        let is_of_java = container.metadata.contains_key(b"iceberg.schema".as_slice());
        let mut layout = container.layout;
        if is_of_java {
            layout.settle_fixed(&file, room.block);
        }
        Ok(Self { file, listed, types, partition, says_version_1, exact, layout, room })
    }

    /// Its file.
    pub fn file(&self) -> &Bytes {
        &self.file
    }

    /// What the manifest list says of it.
    pub fn listed(&self) -> &ManifestFile {
        &self.listed
    }

    /// The partition spec that all its files are of, with the types of their partition values.
    ///
    /// # Errors
    /// [`DataInvalid`](crate::ErrorKind::DataInvalid) when neither the table nor the manifest has the spec.
    pub fn partition(&self) -> Result<&PartitionTypes> {
        self.partition.as_ref().ok_or_else(|| {
            let error = broken("its partition spec is not one of the table's, and its header has none");
            about(error.with("spec", self.listed.partition_spec_id), &self.listed.manifest_path)
        })
    }

    /// Calls `visit` for each file in order, with the statistics that are wanted.
    ///
    /// # Errors
    /// [`DataInvalid`](crate::ErrorKind::DataInvalid) naming the manifest when it can't be parsed, and what `visit` fails with.
    pub fn files(
        &self,
        statistics: &WantedStatistics,
        mut visit: impl FnMut(ManifestStatus, LiveFile) -> Result<()>,
    ) -> Result<()> {
        let spec_id = self.partition()?.spec().spec_id();
        let how = Reading::new(&self.types, self.partition.as_ref(), statistics, true);
        self.each(&how, |status, entry, file| {
            let file = LiveFile {
                spec_id,
                snapshot_id: entry.snapshot_id,
                sequence_number: entry.sequence_number,
                file_sequence_number: entry.file_sequence_number,
                exact: entry.exact,
                file: file.build(spec_id)?,
            };
            visit(status, file)
        })
    }

    /// Calls `visit` for each file in order, without statistics.
    ///
    /// # Errors
    /// As [`files`](Self::files).
    pub fn entries(&self, mut visit: impl FnMut(ManifestStatus, FileEntry) -> Result<()>) -> Result<()> {
        let spec_id = self.partition()?.spec().spec_id();
        // A position delete file's bounds may say which data file it is of.
        let statistics = match self.listed.content {
            ManifestContentType::Data => WantedStatistics::None,
            ManifestContentType::Deletes => WantedStatistics::of([DELETE_FILE_PATH_ID]),
        };
        let how = Reading::new(&self.types, self.partition.as_ref(), &statistics, false);
        self.each(&how, |status, entry, file| {
            let file = file.build(spec_id)?;
            let path_bounds = path_bounds(&file).map(|(lower, upper)| (lower.to_string(), upper.to_string()));
            visit(
                status,
                FileEntry {
                    content: file.content_type(),
                    format: file.file_format(),
                    spec_id,
                    partition: file.partition().clone(),
                    record_count: file.record_count(),
                    size: file.file_size_in_bytes(),
                    first_row_id: file.first_row_id(),
                    referenced_data_file: file.referenced_data_file(),
                    path_bounds,
                    content_offset: file.content_offset(),
                    content_size: file.content_size_in_bytes(),
                    equality_ids: file.equality_ids(),
                    snapshot_id: entry.snapshot_id,
                    sequence_number: entry.sequence_number,
                    file_sequence_number: entry.file_sequence_number,
                    path: file.file_path().to_string(),
                },
            )
        })
    }

    /// Calls `visit` with where each live file is. The table need not be known for that.
    ///
    /// # Errors
    /// As [`files`](Self::files).
    pub fn locations(&self, mut visit: impl FnMut(FileLocation)) -> Result<()> {
        let how = Reading::new(&self.types, None, &WantedStatistics::None, false);
        let read = self.layout.records(&self.file, self.room.block, |reader, avro| {
            let entry = Entry::read(reader, avro, &how)?;
            check_path(&entry.file.path)?;
            if entry.status != ManifestStatus::Deleted {
                visit(entry.file.location()?);
            }
            Ok(())
        });
        read.map_err(|e| about(e, &self.listed.manifest_path))
    }

    /// How many files are carried over, added and taken away, and how many rows they have.
    ///
    /// # Errors
    /// As [`files`](Self::files).
    pub(crate) fn counts(&self) -> Result<[(u32, u64); 3]> {
        let mut counts = [(0_u32, 0_u64); 3];
        self.entries(|status, file| {
            if let Some((files, rows)) = counts.get_mut(status as usize) {
                *files = files.saturating_add(1);
                *rows = rows.saturating_add(file.record_count);
            }
            Ok(())
        })?;
        Ok(counts)
    }

    /// All of it.
    ///
    /// # Errors
    /// As [`files`](Self::files).
    pub fn content(&self) -> Result<ManifestContent> {
        self.content_with(&WantedStatistics::All)
    }

    /// All of it, with the statistics that are wanted.
    ///
    /// # Errors
    /// As [`files`](Self::files).
    pub fn content_with(&self, statistics: &WantedStatistics) -> Result<ManifestContent> {
        let partition = self.partition()?.clone();
        let (mut live, mut added, mut deleted) = (Vec::new(), Vec::new(), Vec::new());
        self.files(statistics, |status, file| {
            match status {
                ManifestStatus::Deleted => deleted.push(file),
                status => {
                    live.push(file);
                    added.push(status == ManifestStatus::Added);
                }
            }
            Ok(())
        })?;
        Ok(ManifestContent { partition, live, added, deleted })
    }

    fn each(
        &self,
        how: &Reading<'_>,
        mut visit: impl FnMut(ManifestStatus, Inherited, File) -> Result<()>,
    ) -> Result<()> {
        let listed = &self.listed;
        let mut place = 0;
        let mut next_row_id = listed.first_row_id.and_then(|id| i64::try_from(id).ok());
        let read = self.layout.records(&self.file, self.room.block, |reader, avro| {
            let mut entry = Entry::read(reader, avro, how)?;
            check_path(&entry.file.path)?;
            // Deletes that are taken for data, or data for deletes, would be other rows.
            if entry.file.is_data() != (listed.content == ManifestContentType::Data) {
                let mixed = broken("a file in it is of another kind than the manifest's list says");
                return Err(mixed.with("entry", &entry.file.path));
            }
            // Row ids go on from the manifest's first (spec: "First Row ID Inheritance").
            if entry.status != ManifestStatus::Deleted
                && listed.content == ManifestContentType::Data
                && entry.file.first_row_id.is_none()
                && let Some(id) = next_row_id
            {
                entry.file.first_row_id = Some(id);
                next_row_id =
                    i64::try_from(entry.file.record_count).ok().and_then(|rows| id.checked_add(rows));
            }
            let inherited = self.inherited(&entry, place)?;
            place += 1;
            visit(entry.status, inherited, entry.file)
        });
        read.map_err(|e| about(e, &listed.manifest_path))
    }

    fn inherited(&self, entry: &Entry, place: u64) -> Result<Inherited> {
        let listed = &self.listed;
        let fallback = match entry.status {
            // Iceberg Java 0.11 to 0.14 left the numbers of what it deleted out. No delete is ever matched against these.
            ManifestStatus::Added | ManifestStatus::Deleted => Some(listed.sequence_number),
            // Only what the manifest's own snapshot added inherits. Version 1 has no sequence numbers: all are 0.
            ManifestStatus::Existing => (listed.sequence_number == 0 || self.says_version_1).then_some(0),
        };
        let sequence_number = entry.sequence_number.or(fallback);
        let file_sequence_number = entry.file_sequence_number.or(fallback).or(sequence_number);
        let (Some(sequence_number), Some(file_sequence_number)) = (sequence_number, file_sequence_number)
        else {
            return Err(broken("an entry that was carried over has no sequence number")
                .with("entry", &entry.file.path));
        };
        let snapshot_id = entry.snapshot_id.unwrap_or(listed.added_snapshot_id);
        let exact = self.exact.contains(place);
        Ok(Inherited { snapshot_id, sequence_number, file_sequence_number, exact })
    }
}

fn check_path(path: &str) -> Result<()> {
    check_location(path).map_err(|e| broken("a file is named by what is no location").with_source(e))
}

/// The schema that a manifest's header has, if it is one.
fn header_schema(text: &[u8]) -> Option<Schema> {
    if let Ok(schema) = serde_json::from_slice(text) {
        return Some(schema);
    }
    let mut schema: Value = serde_json::from_slice(text).ok()?;
    foreign::hide(&mut schema, &mut foreign::OfFile::of_known_table()).ok()?;
    serde_json::from_value(schema).ok()
}

/// The partition spec that a manifest's header has, if it is one.
fn header_spec<'a>(entry: impl Fn(&str) -> Option<&'a [u8]>, id: i32) -> Option<PartitionSpec> {
    let mut spec: Value = serde_json::from_slice(entry("partition-spec")?).ok()?;
    match spec.as_object_mut() {
        Some(spec) => drop(spec.insert("spec-id".to_string(), id.into())),
        None => spec = serde_json::json!({ "spec-id": id, "fields": spec }),
    }
    serde_json::from_value(spec).ok()
}

/// The type of a partition field's values by the Avro schema of a manifest's entries.
fn partition_type(entry: &AvroSchema, id: i32) -> Option<PrimitiveType> {
    entry.field(2)?.field(102)?.field(id)?.iceberg_type()
}
