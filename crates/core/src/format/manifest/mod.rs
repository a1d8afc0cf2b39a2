//! Reading manifest lists and manifests, with everything that entries inherit filled in.

mod entry;
mod exact;
mod list;

use std::borrow::Cow;
use std::sync::Arc;

use iceberg::spec::{ManifestContentType, ManifestFile, PartitionSpec, Schema, SchemaRef, Snapshot};
use serde_json::Value;

use super::LiveFile;
use super::avro::Container;
use super::foreign;
use super::metadata::inline_manifests;
use super::source::{broken, unreadable};
use crate::error::{Error, Result};
use crate::storage::{Storage, check_location};

use entry::{Entry, Types};
pub(crate) use exact::Places;
pub use list::parse_manifest_list;

/// An entry's status: the manifest's snapshot added the file.
const ADDED: i32 = 1;
/// The manifest's snapshot took the file away.
const DELETED: i32 = 2;
/// The header's entry with the places of the entries that are [exact](LiveFile::exact).
const EXACT_ENTRIES: &str = "icefield.exact-entries";

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

/// The manifests of a snapshot. One request; one a manifest where the metadata file lists them.
///
/// # Errors
/// [`DataInvalid`](crate::ErrorKind::DataInvalid) naming the file when it can't be parsed.
pub async fn load_manifest_list(storage: &Storage, snapshot: &Snapshot) -> Result<Vec<ManifestFile>> {
    let location = snapshot.manifest_list();
    if let Some(manifests) = inline_manifests(location) {
        let mut files = Vec::with_capacity(manifests.len());
        for location in manifests {
            files.push(inline_manifest(storage, snapshot, location).await?);
        }
        return Ok(files);
    }
    let bytes = storage.read(location).await.map_err(|e| unreadable(e, location))?;
    let manifests = parse_manifest_list(&bytes)
        .map_err(|e| e.with("file", location).with("snapshot", snapshot.snapshot_id()))?;
    for manifest in &manifests {
        check_location(&manifest.manifest_path).map_err(|e| no_location(e, location))?;
    }
    Ok(manifests)
}

/// Whether a snapshot of version 1 has no manifest list: its manifests are listed in the metadata file.
pub fn lists_manifests_itself(snapshot: &Snapshot) -> bool {
    inline_manifests(snapshot.manifest_list()).is_some()
}

/// What a manifest list would say of a manifest that the metadata file names.
async fn inline_manifest(storage: &Storage, snapshot: &Snapshot, location: String) -> Result<ManifestFile> {
    let bytes = storage.read(&location).await.map_err(|e| unreadable(e, &location))?;
    let container = Container::open(&bytes).map_err(|e| e.with("file", &location))?;
    let spec_id = container.metadata.get(b"partition-spec-id".as_slice());
    let spec_id = spec_id.and_then(|id| std::str::from_utf8(id).ok()?.parse().ok()).unwrap_or_default();
    Ok(ManifestFile {
        manifest_length: bytes.len() as i64,
        manifest_path: location,
        partition_spec_id: spec_id,
        content: ManifestContentType::Data,
        sequence_number: 0,
        min_sequence_number: 0,
        added_snapshot_id: snapshot.snapshot_id(),
        added_files_count: None,
        existing_files_count: None,
        deleted_files_count: None,
        added_rows_count: None,
        existing_rows_count: None,
        deleted_rows_count: None,
        partitions: None,
        key_metadata: None,
        first_row_id: None,
    })
}

/// A manifest's content. One request.
///
/// # Errors
/// [`DataInvalid`](crate::ErrorKind::DataInvalid) naming the file when it can't be parsed.
pub async fn load_manifest(storage: &Storage, manifest: &ManifestFile) -> Result<ManifestContent> {
    let location = manifest.manifest_path.as_str();
    let bytes = storage.read(location).await.map_err(|e| unreadable(e, location))?;
    parse_manifest(&bytes, manifest).map_err(|e| e.with("file", location))
}

/// The content of a manifest's file. Pure.
///
/// # Errors
/// As [`load_manifest`], without the file's location.
pub fn parse_manifest(file: &[u8], manifest: &ManifestFile) -> Result<ManifestContent> {
    let container = Container::open(file)?;
    let (schema, spec) = header(&container, manifest.partition_spec_id)?;
    let types = Types::new(&schema, &spec);
    let version = container.metadata.get(b"format-version".as_slice()).copied();
    let version_1 = matches!(version, None | Some(b"1"));
    let mut content = ManifestContent {
        schema: schema.clone(),
        spec: spec.clone(),
        live: Vec::new(),
        added: Vec::new(),
        deleted: Vec::new(),
    };
    let exact =
        container.metadata.get(EXACT_ENTRIES.as_bytes()).copied().map(Places::parse).unwrap_or_default();
    let mut place = 0;
    let mut next_row_id = manifest.first_row_id.and_then(|id| i64::try_from(id).ok());
    container.records(|reader, avro| {
        let mut entry = Entry::read(reader, avro, &types)?;
        let (added, alive) = (entry.status == ADDED, entry.status != DELETED);
        // Only what the manifest's own snapshot added inherits. Version 1 has no sequence numbers: all are 0.
        let inherited = match version_1 {
            true => Some(0),
            false => (added || manifest.sequence_number == 0).then_some(manifest.sequence_number),
        };
        let sequence_number = entry.sequence_number.or(inherited);
        let file_sequence_number = entry.file_sequence_number.or(inherited).or(sequence_number);
        let (Some(sequence_number), Some(file_sequence_number)) = (sequence_number, file_sequence_number)
        else {
            return Err(broken("an entry that was carried over has no sequence number")
                .with("entry", &entry.file.path));
        };
        check_location(&entry.file.path)
            .map_err(|e| broken("a file is named by what is no location").with_source(e))?;
        // Row ids go on from the manifest's first (spec: "First Row ID Inheritance").
        if alive
            && manifest.content == ManifestContentType::Data
            && entry.file.first_row_id.is_none()
            && let Some(id) = next_row_id
        {
            entry.file.first_row_id = Some(id);
            next_row_id = i64::try_from(entry.file.record_count).ok().and_then(|rows| id.checked_add(rows));
        }
        let live = LiveFile {
            spec_id: manifest.partition_spec_id,
            snapshot_id: entry.snapshot_id.unwrap_or(manifest.added_snapshot_id),
            sequence_number,
            file_sequence_number,
            exact: exact.contains(place),
            file: entry.file.build(manifest.partition_spec_id, &spec)?,
        };
        place += 1;
        if alive {
            content.live.push(live);
            content.added.push(added);
        } else {
            content.deleted.push(live);
        }
        Ok(())
    })?;
    Ok(content)
}

/// The schema and partition spec that a manifest's header has.
fn header(container: &Container<'_>, spec_id: i32) -> Result<(SchemaRef, PartitionSpec)> {
    let entry = |key: &str| container.metadata.get(key.as_bytes()).copied();
    let json = |key: &str| {
        let text = entry(key).ok_or_else(|| broken(&format!("its header has no {key}")))?;
        serde_json::from_slice::<Value>(text)
            .map_err(|e| broken(&format!("its header's {key} is no JSON")).with_source(e))
    };
    let unfit =
        |what: &str, e: serde_json::Error| broken(&format!("its header's {what} is none")).with_source(e);
    let schema = match serde_json::from_slice::<Schema>(entry("schema").unwrap_or_default()) {
        Ok(schema) => schema,
        Err(_) => {
            let mut schema = json("schema")?;
            foreign::hide(&mut schema)?;
            serde_json::from_value(schema).map_err(|e| unfit("schema", e))?
        }
    };
    let mut spec = json("partition-spec")?;
    if spec.is_array() {
        let own_id =
            entry("partition-spec-id").and_then(|id| std::str::from_utf8(id).ok()?.parse::<i32>().ok());
        spec = serde_json::json!({ "spec-id": own_id.unwrap_or(spec_id), "fields": spec });
    }
    let spec: PartitionSpec = serde_json::from_value(spec).map_err(|e| unfit("partition spec", e))?;
    Ok((Arc::new(schema), spec))
}

/// A manifest's file as it is to be, of one that `iceberg` wrote: without the stand-ins in its schema for types that `iceberg`
/// does not know, and with the places of its exact entries.
///
/// # Errors
/// [`DataInvalid`](crate::ErrorKind::DataInvalid) when it is no manifest.
pub(crate) fn finished(file: &[u8], foreign_types: bool, exact: &Places) -> Result<Vec<u8>> {
    let mut file = Cow::Borrowed(file);
    if foreign_types {
        let container = Container::open(&file)?;
        let text =
            container.metadata.get(b"schema".as_slice()).ok_or_else(|| broken("its header has no schema"))?;
        let mut schema = serde_json::from_slice::<Value>(text)
            .map_err(|e| broken("its header's schema is no JSON").with_source(e))?;
        foreign::show(&mut schema);
        file = Cow::Owned(container.with_entry(b"schema", schema.to_string().as_bytes()));
    }
    if !exact.is_empty() {
        let places = exact.to_string();
        file = Cow::Owned(Container::open(&file)?.with_entry(EXACT_ENTRIES.as_bytes(), places.as_bytes()));
    }
    Ok(file.into_owned())
}

/// The error of a file that names another by what is no location.
fn no_location(error: Error, file: &str) -> Error {
    Error::data_invalid(
        "a file is named by what is no location; restore the file that names it, or roll back to an earlier snapshot",
    )
    .with("file", file)
    .with_source(error)
}

#[cfg(test)]
mod tests;
