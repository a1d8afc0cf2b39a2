//! Reading manifest lists and manifests, with everything that entries inherit filled in.

use iceberg::spec::{
    DataContentType, DataFile, DataFileBuilder, Manifest, ManifestContentType, ManifestFile, ManifestList,
    ManifestStatus, PartitionSpec, SchemaRef, Snapshot, TableMetadata,
};

use super::LiveFile;
use super::void_names::without_void_names;
use crate::error::{Error, Result};
use crate::storage::{Storage, check_location};

/// A manifest's content. Entries are split by status; [`LiveFile`]s of both kinds have their inherited values.
#[derive(Debug, Clone)]
pub struct ManifestContent {
    /// The schema that the manifest was written with, which is that of its bounds and of its partition source columns.
    pub schema: SchemaRef,
    /// The partition spec that all its files are of.
    pub spec: PartitionSpec,
    /// Files that the snapshot holds: added or carried over.
    pub live: Vec<LiveFile>,
    /// Whether each of `live` was added by the manifest's own snapshot.
    pub added: Vec<bool>,
    /// Files that the manifest's snapshot took away; `snapshot_id` is that snapshot.
    pub deleted: Vec<LiveFile>,
}

/// The manifests of a snapshot. One request.
///
/// # Errors
/// [`DataInvalid`](crate::ErrorKind::DataInvalid) naming the file when it can't be parsed.
pub async fn load_manifest_list(
    storage: &Storage,
    metadata: &TableMetadata,
    snapshot: &Snapshot,
) -> Result<Vec<ManifestFile>> {
    let location = snapshot.manifest_list();
    if location.is_empty() {
        return Err(Error::unsupported(
            "a version 1 snapshot that lists its manifests in the metadata file can't be read; rewrite it with the engine that made it",
        )
        .with("snapshot", snapshot.snapshot_id()));
    }
    let bytes = storage.read(location).await?;
    let invalid = |e: iceberg::Error| {
        Error::data_invalid(
            "the manifest list can't be read; restore the file, or roll back to an earlier snapshot",
        )
        .with("file", location)
        .with("snapshot", snapshot.snapshot_id())
        .with_source(e)
    };
    let list = guarded(|| ManifestList::parse_with_version(&bytes, metadata.format_version()));
    // A table that was upgraded still has lists in the form of the version that they were written with.
    let list = match list {
        Err(first) => {
            let older = [iceberg::spec::FormatVersion::V2, iceberg::spec::FormatVersion::V1]
                .into_iter()
                .filter(|version| *version < metadata.format_version())
                .find_map(|version| guarded(|| ManifestList::parse_with_version(&bytes, version)).ok());
            older.ok_or_else(|| invalid(first))?
        }
        Ok(list) => list,
    };
    let manifests: Vec<ManifestFile> = list.consume_entries().into_iter().collect();
    for manifest in &manifests {
        check_location(&manifest.manifest_path).map_err(|e| no_location(e, location))?;
    }
    Ok(manifests)
}

/// A manifest's content. One request.
///
/// # Errors
/// [`DataInvalid`](crate::ErrorKind::DataInvalid) naming the file when it can't be parsed.
pub async fn load_manifest(storage: &Storage, manifest: &ManifestFile) -> Result<ManifestContent> {
    let location = manifest.manifest_path.as_str();
    let bytes = storage.read(location).await?;
    let invalid = |message: &str| {
        Error::data_invalid(format!("{message}; restore the file, or roll back to an earlier snapshot"))
            .with("file", location)
    };
    let parsed = guarded(|| Manifest::parse_avro(&without_void_names(&bytes)))
        .map_err(|e| invalid("the manifest can't be read").with_source(e))?;
    let (entries, metadata) = parsed.into_parts();
    let mut content = ManifestContent {
        schema: metadata.schema().clone(),
        spec: metadata.partition_spec().clone(),
        live: Vec::with_capacity(entries.len()),
        added: Vec::with_capacity(entries.len()),
        deleted: Vec::new(),
    };
    let mut next_row_id = manifest.first_row_id.map(|id| id as i64);
    for entry in entries {
        let added = entry.status() == ManifestStatus::Added;
        // Only what the manifest's own snapshot added inherits, and everything in a manifest of version 1.
        let inherited = (added || manifest.sequence_number == 0).then_some(manifest.sequence_number);
        let sequence_number = entry.sequence_number().or(inherited);
        let file_sequence_number = entry.file_sequence_number.or(inherited).or(sequence_number);
        let (Some(sequence_number), Some(file_sequence_number)) = (sequence_number, file_sequence_number)
        else {
            return Err(invalid("an entry that was carried over has no sequence number")
                .with("entry", entry.file_path()));
        };
        check_location(entry.file_path()).map_err(|e| no_location(e, location))?;
        let mut file = entry.data_file().clone();
        if entry.is_alive() && manifest.content == ManifestContentType::Data {
            file = with_first_row_id(file, manifest.partition_spec_id, &mut next_row_id)?;
        }
        let live = LiveFile {
            spec_id: manifest.partition_spec_id,
            snapshot_id: entry.snapshot_id().unwrap_or(manifest.added_snapshot_id),
            sequence_number,
            file_sequence_number,
            file,
        };
        if entry.is_alive() {
            content.live.push(live);
            content.added.push(added);
        } else {
            content.deleted.push(live);
        }
    }
    Ok(content)
}

/// The error of a file that names another by what is no location.
fn no_location(error: Error, file: &str) -> Error {
    Error::data_invalid(
        "a file is named by what is no location; restore the file that names it, or roll back to an earlier snapshot",
    )
    .with("file", file)
    .with_source(error)
}

/// The first row id that a data file inherits from its manifest (spec: "First Row ID Inheritance").
fn with_first_row_id(file: DataFile, spec_id: i32, next: &mut Option<i64>) -> Result<DataFile> {
    match (file.first_row_id(), *next) {
        (None, Some(id)) => {
            *next = Some(id + file.record_count() as i64);
            copy_file(&file, spec_id, Some(id))
        }
        _ => Ok(file),
    }
}

/// A copy of a file's metadata with another first row id. (`DataFile`'s fields can't be set from outside.)
pub(crate) fn copy_file(file: &DataFile, spec_id: i32, first_row_id: Option<i64>) -> Result<DataFile> {
    let mut builder = DataFileBuilder::default();
    builder
        .content(file.content_type())
        .file_path(file.file_path().to_string())
        .file_format(file.file_format())
        .partition(file.partition().clone())
        .record_count(file.record_count())
        .file_size_in_bytes(file.file_size_in_bytes())
        .column_sizes(file.column_sizes().clone())
        .value_counts(file.value_counts().clone())
        .null_value_counts(file.null_value_counts().clone())
        .nan_value_counts(file.nan_value_counts().clone())
        .lower_bounds(file.lower_bounds().clone())
        .upper_bounds(file.upper_bounds().clone())
        .key_metadata(file.key_metadata().map(<[u8]>::to_vec))
        .split_offsets(file.split_offsets().map(<[i64]>::to_vec))
        .equality_ids(file.equality_ids())
        .first_row_id(first_row_id)
        .partition_spec_id(spec_id)
        .referenced_data_file(file.referenced_data_file())
        .content_offset(file.content_offset())
        .content_size_in_bytes(file.content_size_in_bytes());
    if let Some(id) = file.sort_order_id() {
        builder.sort_order_id(id);
    }
    debug_assert!(file.content_type() == DataContentType::Data || first_row_id.is_none());
    builder.build().map_err(|e| Error::internal("a file's metadata can't be copied").with_source(e))
}

/// Runs a parser that may panic on bytes that break its assumptions, and gives that as an error.
fn guarded<T>(parse: impl FnOnce() -> iceberg::Result<T>) -> iceberg::Result<T> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(parse)).unwrap_or_else(|_| {
        Err(iceberg::Error::new(
            iceberg::ErrorKind::DataInvalid,
            "the file's content breaks the Avro schema's promises",
        ))
    })
}
