//! Manifest lists off their Avro records, by the field ids of the specification, and into them.

use iceberg::spec::{FieldSummary, FormatVersion, ManifestContentType, ManifestFile};
use serde_json::{Value, json};

use super::entry::text;
use super::header::{optional, required};
use super::write::sync;
use crate::error::{Error, ErrorKind, Result};
use crate::format::avro::{
    Compression, Container, ContainerWriter, Reader, Schema, put_array, put_bytes, put_long, put_optional,
};
use crate::format::source::broken;

/// The most that a list's file, a block of it decompressed, and what its entries take in memory may be, in bytes: a million
/// manifests.
pub(super) const MAX_LIST_BYTES: u64 = 512 << 20;
const MAX_LIST_BLOCK_BYTES: u64 = 128 << 20;
/// The most partition fields of an entry: no spec has so many.
const MAX_SUMMARIES: usize = 1 << 12;

/// The manifests that a manifest list's file names, of whatever format version. Pure.
///
/// # Errors
/// As [`load_manifest_list`](super::load_manifest_list), without the file's location.
pub fn parse_manifest_list(file: &[u8]) -> Result<Vec<ManifestFile>> {
    parse_within(file, MAX_LIST_BYTES, &mut |_| Ok(()))
}

/// As [`parse_manifest_list`], with a word of the caller's on each manifest before the next is read.
pub(super) fn parse_admitted(
    file: &[u8],
    admit: &mut (dyn FnMut(&ManifestFile) -> Result<()> + Send),
) -> Result<Vec<ManifestFile>> {
    parse_within(file, MAX_LIST_BYTES, admit)
}

fn parse_within(
    file: &[u8],
    most: u64,
    admit: &mut (dyn FnMut(&ManifestFile) -> Result<()> + Send),
) -> Result<Vec<ManifestFile>> {
    let (mut manifests, mut held, mut refused) = (Vec::new(), 0_u64, None);
    let mut entry = |reader: &mut Reader<'_>, schema: &Schema| {
        let manifest = manifest(reader, schema)?;
        held = held.saturating_add(in_memory(&manifest));
        if held > most {
            return Err(broken("it names more manifests than fit in memory"));
        }
        if let Err(error) = admit(&manifest) {
            refused = Some(error);
            return Err(broken("it was not admitted"));
        }
        manifests.push(manifest);
        Ok(())
    };
    let read = Container::open(file)?.layout.records(file, MAX_LIST_BLOCK_BYTES, &mut entry);
    if let Some(error) = refused {
        return Err(error);
    }
    read.map_err(|e| match e.kind() {
        ErrorKind::ResourceExhausted => broken("a block of it is too large").with_source(e),
        _ => e,
    })?;
    Ok(manifests)
}

/// About what an entry takes in memory, in bytes.
fn in_memory(manifest: &ManifestFile) -> u64 {
    let summary = |of: &FieldSummary| {
        let bounds = of.lower_bound.iter().chain(&of.upper_bound);
        size_of_val(of) + bounds.map(|bound| bound.len()).sum::<usize>()
    };
    let summaries: usize = manifest.partitions.iter().flatten().map(summary).sum();
    let key = manifest.key_metadata.as_ref().map_or(0, Vec::len);
    (size_of_val(manifest) + manifest.manifest_path.len() + key + summaries) as u64
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
        if summaries.len() == MAX_SUMMARIES {
            return Err(broken("an entry has more partition fields than a spec may have"));
        }
        summaries.push(FieldSummary { contains_null, contains_nan, lower_bound, upper_bound });
        Ok(())
    })?;
    Ok(summaries)
}

/// What a manifest list says of its snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ManifestListHead {
    /// The table's format version.
    pub version: FormatVersion,
    /// The snapshot's id.
    pub snapshot_id: i64,
    /// The id of the snapshot before it.
    pub parent_snapshot_id: Option<i64>,
    /// The snapshot's sequence number, which manifests and files without one have.
    pub sequence_number: i64,
    /// On v3 the id of the first row that the snapshot adds.
    pub first_row_id: u64,
}

/// A manifest list's file, and the first row id that was not given out. Manifests of data files that have no first row id
/// are given one on v3, with room for all of their rows.
///
/// # Errors
/// [`InvalidInput`](crate::ErrorKind::InvalidInput) for a manifest without sequence number that is another snapshot's, and,
/// from v2 on, for one without the numbers of its files and rows;
/// [`ResourceExhausted`](crate::ErrorKind::ResourceExhausted) for more manifests than are read again.
pub fn write_manifest_list(
    head: &ManifestListHead,
    manifests: impl IntoIterator<Item = ManifestFile>,
) -> Result<(Vec<u8>, u64)> {
    let or_null = |id: Option<i64>| id.map_or("null".to_string(), |id| id.to_string());
    let mut header = vec![
        ("snapshot-id", head.snapshot_id.to_string()),
        ("parent-snapshot-id", or_null(head.parent_snapshot_id)),
        ("format-version", (head.version as u8).to_string()),
    ];
    if head.version >= FormatVersion::V2 {
        header.push(("sequence-number", head.sequence_number.to_string()));
    }
    if head.version >= FormatVersion::V3 {
        header.push(("first-row-id", head.first_row_id.to_string()));
    }
    let (schema, sync) = (list_schema(head.version).to_string(), sync(&(head.snapshot_id, "list")));
    let mut writer = ContainerWriter::new(schema, header, Compression::default(), sync);
    let (mut next_row_id, mut held) = (head.first_row_id, 0_u64);
    for mut manifest in manifests {
        held = held.saturating_add(in_memory(&manifest));
        if held > MAX_LIST_BYTES {
            let message = "the snapshot would have more manifests than are read again; merge them first";
            return Err(Error::new(ErrorKind::ResourceExhausted, message));
        }
        let wrong = |message: &str, manifest: &ManifestFile| {
            Error::invalid_input(message).with("manifest", &manifest.manifest_path)
        };
        let unassigned = manifest.sequence_number < 0 || manifest.min_sequence_number < 0;
        if unassigned && manifest.added_snapshot_id != head.snapshot_id {
            return Err(wrong("a manifest of another snapshot has no sequence number", &manifest));
        }
        for number in [&mut manifest.sequence_number, &mut manifest.min_sequence_number] {
            if *number < 0 {
                *number = head.sequence_number;
            }
        }
        if manifest.content == ManifestContentType::Deletes {
            if head.version == FormatVersion::V1 {
                return Err(wrong("format version 1 has no manifests of delete files", &manifest));
            }
            manifest.first_row_id = None;
        } else if head.version >= FormatVersion::V3 && manifest.first_row_id.is_none() {
            let rows = manifest.existing_rows_count.zip(manifest.added_rows_count);
            let rows = rows.and_then(|(existing, added)| existing.checked_add(added));
            manifest.first_row_id = Some(next_row_id);
            next_row_id = rows.and_then(|rows| next_row_id.checked_add(rows)).ok_or_else(|| {
                wrong("a manifest does not say how many rows it has, or they are too many", &manifest)
            })?;
        }
        writer.record(|out| put_manifest(out, head.version, &manifest))?;
    }
    Ok((writer.finish(None)?, next_row_id))
}

fn put_manifest(out: &mut Vec<u8>, version: FormatVersion, manifest: &ManifestFile) -> Result<()> {
    let about = |message: &str| Error::invalid_input(message).with("manifest", &manifest.manifest_path);
    let signed = |n: u64| i64::try_from(n).map_err(|_| about("a number of a manifest has over 63 bits"));
    put_bytes(out, manifest.manifest_path.as_bytes());
    put_long(out, manifest.manifest_length);
    put_long(out, manifest.partition_spec_id.into());
    if version >= FormatVersion::V2 {
        put_long(out, manifest.content as i64);
        put_long(out, manifest.sequence_number);
        put_long(out, manifest.min_sequence_number);
    }
    put_long(out, manifest.added_snapshot_id);
    let files = [manifest.added_files_count, manifest.existing_files_count, manifest.deleted_files_count];
    let rows = [manifest.added_rows_count, manifest.existing_rows_count, manifest.deleted_rows_count];
    let counts = files.into_iter().map(|count| count.map(u64::from)).chain(rows);
    for count in counts {
        let count = count.map(signed).transpose()?;
        match version {
            FormatVersion::V1 => put_optional(out, count, put_long),
            _ => put_long(
                out,
                count.ok_or_else(|| about("a manifest does not say how many files and rows it has"))?,
            ),
        }
    }
    put_optional_summaries(out, manifest.partitions.as_deref())?;
    put_optional(out, manifest.key_metadata.as_deref(), put_bytes);
    if version >= FormatVersion::V3 {
        put_optional(out, manifest.first_row_id.map(signed).transpose()?, put_long);
    }
    Ok(())
}

fn put_optional_summaries(out: &mut Vec<u8>, summaries: Option<&[FieldSummary]>) -> Result<()> {
    let Some(summaries) = summaries else {
        put_long(out, 0);
        return Ok(());
    };
    put_long(out, 1);
    put_array(out, summaries.len(), |out| {
        for summary in summaries {
            out.push(u8::from(summary.contains_null));
            put_optional(out, summary.contains_nan, |out, nan| out.push(u8::from(nan)));
            put_optional(out, summary.lower_bound.as_deref(), |out, bound| put_bytes(out, bound));
            put_optional(out, summary.upper_bound.as_deref(), |out, bound| put_bytes(out, bound));
        }
        Ok(())
    })
}

/// The Avro schema of entries.
fn list_schema(version: FormatVersion) -> Value {
    let mut fields = vec![
        required("manifest_path", 500, json!("string")),
        required("manifest_length", 501, json!("long")),
        required("partition_spec_id", 502, json!("int")),
    ];
    if version >= FormatVersion::V2 {
        fields.push(required("content", 517, json!("int")));
        fields.push(required("sequence_number", 515, json!("long")));
        fields.push(required("min_sequence_number", 516, json!("long")));
    }
    fields.push(required("added_snapshot_id", 503, json!("long")));
    let count = if version == FormatVersion::V1 { optional } else { required };
    // Readers of version 1 alone know the counts by their first names.
    let files = if version == FormatVersion::V1 { "data_files" } else { "files" };
    for (at, what) in (504..).zip(["added", "existing", "deleted"]) {
        fields.push(count(&format!("{what}_{files}_count"), at, json!("int")));
    }
    for (at, what) in (512..).zip(["added", "existing", "deleted"]) {
        fields.push(count(&format!("{what}_rows_count"), at, json!("long")));
    }
    let summary = [
        required("contains_null", 509, json!("boolean")),
        optional("contains_nan", 518, json!("boolean")),
        optional("lower_bound", 510, json!("bytes")),
        optional("upper_bound", 511, json!("bytes")),
    ];
    let summary = json!({"type": "record", "name": "r508", "fields": summary});
    fields.push(optional("partitions", 507, json!({"type": "array", "items": summary, "element-id": 508})));
    fields.push(optional("key_metadata", 519, json!("bytes")));
    if version >= FormatVersion::V3 {
        fields.push(optional("first_row_id", 520, json!("long")));
    }
    json!({"type": "record", "name": "manifest_file", "fields": fields})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::manifest::unlisted;

    const HEAD: ManifestListHead = ManifestListHead {
        version: FormatVersion::V2,
        snapshot_id: 1,
        parent_snapshot_id: None,
        sequence_number: 1,
        first_row_id: 0,
    };

    fn listed(name: usize, summaries: usize) -> ManifestFile {
        let summary =
            FieldSummary { contains_null: false, contains_nan: None, lower_bound: None, upper_bound: None };
        ManifestFile {
            partitions: Some(vec![summary; summaries]),
            added_files_count: Some(0),
            existing_files_count: Some(0),
            deleted_files_count: Some(0),
            added_rows_count: Some(0),
            existing_rows_count: Some(0),
            deleted_rows_count: Some(0),
            ..unlisted(format!("memory://w/{name}"), 1)
        }
    }

    fn error(file: &[u8], most: u64) -> String {
        let error = parse_within(file, most, &mut |_| Ok(())).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DataInvalid, "{error}");
        error.to_string()
    }

    #[test]
    fn a_list_that_takes_much_memory_is_refused() {
        let (file, _) = write_manifest_list(&HEAD, (0..1_000).map(|name| listed(name, 100))).unwrap();
        let manifests = parse_within(&file, 16 << 20, &mut |_| Ok(())).unwrap();
        let held: u64 = manifests.iter().map(in_memory).sum();
        assert!(held > 1_000 * 100 * size_of::<FieldSummary>() as u64, "{held} of {} bytes", file.len());
        assert_eq!(parse_within(&file, held, &mut |_| Ok(())).unwrap().len(), 1_000);
        assert!(error(&file, held - 1).contains("than fit in memory"));
        let (file, _) = write_manifest_list(&HEAD, [listed(0, MAX_SUMMARIES)]).unwrap();
        assert_eq!(parse_manifest_list(&file).unwrap().len(), 1);
        let (file, _) = write_manifest_list(&HEAD, [listed(0, MAX_SUMMARIES + 1)]).unwrap();
        assert!(error(&file, MAX_LIST_BYTES).contains("partition fields"));
    }

    #[test]
    fn a_block_of_a_list_that_decompresses_to_much_is_refused() {
        let mut wide = listed(0, 0);
        wide.key_metadata = Some(vec![0; MAX_LIST_BLOCK_BYTES as usize]);
        let (file, _) = write_manifest_list(&HEAD, [wide]).unwrap();
        assert!(file.len() < 1 << 20, "{}", file.len());
        assert!(error(&file, MAX_LIST_BYTES).contains("a block of it is too large"));
    }
}
