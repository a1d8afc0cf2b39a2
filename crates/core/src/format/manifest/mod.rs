//! Manifest lists and manifests: reading them, with everything that entries inherit filled in, and writing them.
//!
//! What a manifest's header says is not believed where others say it: spec id and content come from the manifest list, specs
//! and schemas from the table's metadata. Writers leave the header's entries out, or put something else there.

mod entry;
mod exact;
mod header;
mod list;
mod load;
mod read;
mod room;
mod summary;
mod types;
mod widen;
mod write;

use bytes::Bytes;
use iceberg::spec::{ManifestContentType, ManifestFile, Snapshot, TableMetadata};

use super::avro::Container;
use super::metadata::inline_manifests;
use super::source::{broken, unreadable};
use crate::error::{Error, ErrorKind, Result};
use crate::storage::{Storage, check_location};

pub use entry::{FileLocation, WantedStatistics};
pub use list::{ManifestListHead, parse_manifest_list, write_manifest_list};
pub use load::{ManifestReader, load_bounded};
pub use read::{Manifest, ManifestContent};
pub use room::Room;
pub use types::PartitionTypes;
pub use write::ManifestWriter;

/// The manifests of a snapshot. One request; one a manifest where the metadata file lists them.
///
/// # Errors
/// [`DataInvalid`](crate::ErrorKind::DataInvalid) naming the file when it can't be parsed.
pub async fn load_manifest_list(storage: &Storage, snapshot: &Snapshot) -> Result<Vec<ManifestFile>> {
    load_admitted_manifests(storage, snapshot, &mut |_| Ok(())).await
}

/// As [`load_manifest_list`], for those who account for what they hold: `admit` is asked with each manifest before the next is
/// read.
///
/// # Errors
/// As [`load_manifest_list`], and what `admit` fails with.
pub async fn load_admitted_manifests(
    storage: &Storage,
    snapshot: &Snapshot,
    admit: &mut (dyn FnMut(&ManifestFile) -> Result<()> + Send),
) -> Result<Vec<ManifestFile>> {
    let location = snapshot.manifest_list();
    if let Some(manifests) = inline_manifests(location) {
        let mut files = Vec::new();
        for location in manifests {
            let manifest = inline_manifest(storage, snapshot, location).await?;
            admit(&manifest)?;
            files.push(manifest);
        }
        return Ok(files);
    }
    let bytes = read_within(storage, location, list::MAX_LIST_BYTES).await?;
    let manifests = list::parse_admitted(&bytes, admit)
        .map_err(|e| e.with("file", location).with("snapshot", snapshot.snapshot_id()))?;
    for manifest in &manifests {
        check_location(&manifest.manifest_path).map_err(|e| no_location(e, location))?;
    }
    Ok(manifests)
}

/// Reads a file that a snapshot names whole, unless it is longer than any of its kind. One request.
async fn read_within(storage: &Storage, location: &str, most: u64) -> Result<Bytes> {
    let read = storage.read_within(location, most).await.map_err(|e| match e.kind() {
        ErrorKind::ResourceExhausted => broken("it is too long").with_source(e),
        _ => e,
    });
    read.map_err(|e| unreadable(e, location))
}

/// Whether a snapshot of version 1 has no manifest list: its manifests are listed in the metadata file.
pub fn lists_manifests_itself(snapshot: &Snapshot) -> bool {
    inline_manifests(snapshot.manifest_list()).is_some()
}

/// What a manifest list would say of a manifest that the metadata file names.
async fn inline_manifest(storage: &Storage, snapshot: &Snapshot, location: String) -> Result<ManifestFile> {
    let bytes = read_within(storage, &location, room::MAX_FILE_BYTES).await?;
    let container = Container::open(&bytes).map_err(|e| e.with("file", &location))?;
    let spec_id = container.metadata.get(b"partition-spec-id".as_slice());
    let spec_id = spec_id.and_then(|id| std::str::from_utf8(id).ok()?.parse().ok()).unwrap_or_default();
    Ok(ManifestFile {
        partition_spec_id: spec_id,
        added_snapshot_id: snapshot.snapshot_id(),
        ..unlisted(location, bytes.len() as i64)
    })
}

/// A manifest of data files of which no list says more than where it is and how long.
fn unlisted(location: String, length: i64) -> ManifestFile {
    ManifestFile {
        manifest_path: location,
        manifest_length: length,
        partition_spec_id: 0,
        content: ManifestContentType::Data,
        sequence_number: 0,
        min_sequence_number: 0,
        added_snapshot_id: 0,
        added_files_count: None,
        existing_files_count: None,
        deleted_files_count: None,
        added_rows_count: None,
        existing_rows_count: None,
        deleted_rows_count: None,
        partitions: None,
        key_metadata: None,
        first_row_id: None,
    }
}

/// A manifest's content, of a table of this metadata. One request.
///
/// # Errors
/// [`DataInvalid`](crate::ErrorKind::DataInvalid) naming the file when it can't be parsed.
pub async fn load_manifest(
    storage: &Storage,
    metadata: &TableMetadata,
    manifest: &ManifestFile,
) -> Result<ManifestContent> {
    ManifestReader::new(storage, metadata).open(manifest).await?.content()
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
