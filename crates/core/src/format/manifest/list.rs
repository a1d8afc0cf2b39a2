//! Manifest lists off their Avro records, by the field ids of the specification.

use iceberg::spec::{FieldSummary, ManifestContentType, ManifestFile};

use super::entry::text;
use crate::error::Result;
use crate::format::avro::{Container, Reader, Schema};
use crate::format::source::broken;

/// The manifests that a manifest list's file names, of whatever format version. Pure.
///
/// # Errors
/// As [`load_manifest_list`](super::load_manifest_list), without the file's location.
pub fn parse_manifest_list(file: &[u8]) -> Result<Vec<ManifestFile>> {
    let mut manifests = Vec::new();
    Container::open(file)?.records(|reader, schema| {
        manifests.push(manifest(reader, schema)?);
        Ok(())
    })?;
    Ok(manifests)
}

fn manifest(reader: &mut Reader<'_>, schema: &Schema) -> Result<ManifestFile> {
    let (mut path, mut length, mut spec, mut snapshot) = (None, None, None, None);
    // Version 1 knows neither deletes nor sequence numbers.
    let mut content = 0;
    let (mut sequence_number, mut min_sequence_number) = (0, 0);
    let mut files = [None; 3];
    let mut rows = [None; 3];
    let (mut partitions, mut key_metadata, mut first_row_id) = (None, None, None);
    reader.record(schema, |reader, id, schema| {
        let count = |reader: &mut Reader<'_>| {
            Ok::<_, crate::Error>(reader.optional(schema, Reader::long)?.and_then(|n| u64::try_from(n).ok()))
        };
        match id {
            500 => path = reader.optional(schema, text)?,
            501 => length = reader.optional(schema, Reader::long)?,
            502 => spec = reader.optional(schema, Reader::int)?,
            517 => content = reader.optional(schema, Reader::int)?.unwrap_or_default(),
            515 => sequence_number = reader.optional(schema, Reader::long)?.unwrap_or_default(),
            516 => min_sequence_number = reader.optional(schema, Reader::long)?.unwrap_or_default(),
            503 => snapshot = reader.optional(schema, Reader::long)?,
            504 => files[0] = count(reader)?.and_then(|n| u32::try_from(n).ok()),
            505 => files[1] = count(reader)?.and_then(|n| u32::try_from(n).ok()),
            506 => files[2] = count(reader)?.and_then(|n| u32::try_from(n).ok()),
            512 => rows[0] = count(reader)?,
            513 => rows[1] = count(reader)?,
            514 => rows[2] = count(reader)?,
            507 => partitions = reader.optional(schema, summaries)?,
            519 => {
                let bytes = |reader: &mut Reader<'_>, schema: &Schema| Ok(reader.binary(schema)?.to_vec());
                key_metadata = reader.optional(schema, bytes)?;
            }
            520 => first_row_id = count(reader)?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    let (Some(manifest_path), Some(manifest_length), Some(partition_spec_id), Some(added_snapshot_id)) =
        (path, length, spec, snapshot)
    else {
        return Err(broken("an entry has no path, length, partition spec or snapshot"));
    };
    let content = match content {
        0 => ManifestContentType::Data,
        1 => ManifestContentType::Deletes,
        _ => return Err(broken("a manifest in it is of no known kind")),
    };
    Ok(ManifestFile {
        manifest_path,
        manifest_length,
        partition_spec_id,
        content,
        sequence_number,
        min_sequence_number,
        added_snapshot_id,
        added_files_count: files[0],
        existing_files_count: files[1],
        deleted_files_count: files[2],
        added_rows_count: rows[0],
        existing_rows_count: rows[1],
        deleted_rows_count: rows[2],
        partitions,
        key_metadata,
        first_row_id,
    })
}

fn summaries(reader: &mut Reader<'_>, schema: &Schema) -> Result<Vec<FieldSummary>> {
    let mut summaries = Vec::new();
    reader.array(schema, |reader, schema| {
        // Without a word on nulls there may be some.
        let (mut contains_null, mut contains_nan, mut lower, mut upper) = (true, None, None, None);
        let bytes = |reader: &mut Reader<'_>, schema: &Schema| Ok(reader.binary(schema)?.to_vec());
        reader.record(schema, |reader, id, schema| {
            match id {
                509 => contains_null = reader.optional(schema, Reader::boolean)?.unwrap_or(true),
                518 => contains_nan = reader.optional(schema, Reader::boolean)?,
                510 => lower = reader.optional(schema, bytes)?,
                511 => upper = reader.optional(schema, bytes)?,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        let (lower_bound, upper_bound) = (lower.map(Into::into), upper.map(Into::into));
        summaries.push(FieldSummary { contains_null, contains_nan, lower_bound, upper_bound });
        Ok(())
    })?;
    Ok(summaries)
}
