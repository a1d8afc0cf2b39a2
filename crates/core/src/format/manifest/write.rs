//! [`ManifestWriter`]: manifests as Iceberg's specification has them, in Avro.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use iceberg::spec::{
    DataContentType, DataFile, Datum, FormatVersion, Literal, ManifestContentType, ManifestFile,
    ManifestStatus, PrimitiveLiteral, PrimitiveType, TableMetadata,
};

use super::exact::{EXACT_ENTRIES, Places};
use super::header::{avro_names, entry_schema, header};
use super::summary::Summary;
use super::types::PartitionTypes;
use super::widen::{decimal_bytes, decimal_length, widen};
use crate::config::Properties;
use crate::error::{Error, Result};
use crate::format::avro::{Compression, ContainerWriter, put_array, put_bytes, put_long, put_optional};
use crate::format::{LiveFile, foreign_kind, primitive_text};

/// Stands for the number of the commit that a manifest is written for, until the manifest list has it.
const UNASSIGNED: i64 = -1;

/// What Iceberg Java says a data file's blocks are of, where version 1 wants a word on it.
const BLOCK_SIZE: i64 = 64 << 20;

/// Writes a manifest of files of one partition spec, in memory.
///
/// Partition values of narrower types than the column has by now are widened. Column statistics, split offsets, key metadata,
/// sort orders and row ids are kept as they are.
#[derive(Debug)]
pub struct ManifestWriter {
    location: String,
    version: FormatVersion,
    content: ManifestContentType,
    snapshot_id: i64,
    partition: PartitionTypes,
    avro: ContainerWriter,
    /// The places of entries that say what their files hold.
    exact: Places,
    /// Files and rows by status.
    counts: [(u32, u64); 3],
    min_sequence_number: Option<i64>,
    summaries: Vec<Summary>,
}

impl ManifestWriter {
    /// A manifest at `location`, which a snapshot of this id adds to the table. Compressed as the table's property
    /// `write.manifest.compression-codec` says, by default with gzip.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for a property of no such value,
    /// [`Unsupported`](crate::ErrorKind::Unsupported) for partition fields of a type that manifests can't hold and for delete
    /// manifests of format version 1.
    pub fn new(
        metadata: &TableMetadata,
        partition: PartitionTypes,
        content: ManifestContentType,
        snapshot_id: i64,
        location: String,
    ) -> Result<Self> {
        let version = metadata.format_version();
        if version == FormatVersion::V1 && content == ManifestContentType::Deletes {
            return Err(Error::unsupported(
                "format version 1 has no delete files; raise the table's format version",
            ));
        }
        check_types(&partition)?;
        let compression = Compression::of_manifests(&Properties::new(metadata.properties()))?;
        let names = avro_names(partition.spec());
        let schema = entry_schema(version, &names, &partition).to_string();
        let header = header(version, content, &names, &partition)?;
        let sync = sync(&(snapshot_id, &location));
        Ok(Self {
            exact: Places::default(),
            avro: ContainerWriter::new(schema, header, compression, sync),
            summaries: partition.types().iter().map(|of| Summary::new(of.clone())).collect(),
            location,
            version,
            content,
            snapshot_id,
            partition,
            counts: [(0, 0); 3],
            min_sequence_number: None,
        })
    }

    /// Adds a new file. Its data sequence number is the commit's unless it is given; `exact` is as for
    /// [`LiveFile::exact`].
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for a file that the manifest can't hold; the manifest is as it was.
    pub fn add(&mut self, file: &DataFile, sequence_number: Option<i64>, exact: bool) -> Result<()> {
        let numbers = (sequence_number, None);
        self.write(ManifestStatus::Added, self.snapshot_id, numbers, file, exact)
    }

    /// Adds a file that the table holds already and that stays.
    ///
    /// # Errors
    /// As [`add`](Self::add).
    pub fn keep(&mut self, file: &LiveFile) -> Result<()> {
        let numbers = (Some(file.sequence_number), Some(file.file_sequence_number));
        self.write(ManifestStatus::Existing, file.snapshot_id, numbers, &file.file, file.exact)
    }

    /// Adds a file that goes with this manifest's snapshot.
    ///
    /// # Errors
    /// As [`add`](Self::add).
    pub fn delete(&mut self, file: &LiveFile) -> Result<()> {
        let numbers = (Some(file.sequence_number), Some(file.file_sequence_number));
        self.write(ManifestStatus::Deleted, self.snapshot_id, numbers, &file.file, file.exact)
    }

    /// How many files it names so far.
    pub fn files(&self) -> usize {
        self.counts.iter().map(|(files, _)| *files as usize).sum()
    }

    /// About how long it is so far, in bytes.
    pub fn length(&self) -> usize {
        self.avro.length()
    }

    /// The manifest's file, and its entry for a manifest list, which has no sequence number yet.
    ///
    /// # Errors
    /// [`Internal`](crate::ErrorKind::Internal) when compression fails.
    pub fn finish(self) -> Result<(Vec<u8>, ManifestFile)> {
        let exact = (!self.exact.is_empty()).then(|| (EXACT_ENTRIES, self.exact.to_string()));
        let file = self.avro.finish(exact)?;
        let [existing, added, deleted] = self.counts;
        let partitions = self.summaries.into_iter().map(Summary::finish).collect::<Result<_>>()?;
        let entry = ManifestFile {
            manifest_path: self.location,
            manifest_length: file.len() as i64,
            partition_spec_id: self.partition.spec().spec_id(),
            content: self.content,
            sequence_number: UNASSIGNED,
            min_sequence_number: self.min_sequence_number.unwrap_or(UNASSIGNED),
            added_snapshot_id: self.snapshot_id,
            added_files_count: Some(added.0),
            existing_files_count: Some(existing.0),
            deleted_files_count: Some(deleted.0),
            added_rows_count: Some(added.1),
            existing_rows_count: Some(existing.1),
            deleted_rows_count: Some(deleted.1),
            partitions: Some(partitions),
            key_metadata: None,
            first_row_id: None,
        };
        Ok((file, entry))
    }

    fn write(
        &mut self,
        status: ManifestStatus,
        snapshot_id: i64,
        (sequence_number, file_sequence_number): (Option<i64>, Option<i64>),
        file: &DataFile,
        exact: bool,
    ) -> Result<()> {
        let is_data = file.content_type() == DataContentType::Data;
        if is_data != (self.content == ManifestContentType::Data) {
            return Err(invalid("a manifest holds either data files or delete files", file));
        }
        let values = partition_values(&self.partition, file)?;
        let row_count = signed(file.record_count(), file)?;
        let version = self.version;
        self.avro.record(|out| {
            put_long(out, status as i64);
            if version == FormatVersion::V1 {
                put_long(out, snapshot_id);
            } else {
                put_optional(out, Some(snapshot_id), put_long);
                put_optional(out, sequence_number, put_long);
                put_optional(out, file_sequence_number, put_long);
            }
            put_file(out, version, file, &values, row_count)
        })?;
        if exact {
            self.exact.push(self.files() as u64);
        }
        if let Some((files, rows)) = self.counts.get_mut(status as usize) {
            *files = files.saturating_add(1);
            *rows = rows.saturating_add(file.record_count());
        }
        if let (true, Some(number)) = (status != ManifestStatus::Deleted, sequence_number) {
            self.min_sequence_number =
                Some(self.min_sequence_number.map_or(number, |least| least.min(number)));
        }
        for (summary, (_, value)) in self.summaries.iter_mut().zip(values) {
            summary.add(value);
        }
        Ok(())
    }
}

fn invalid(message: &str, file: &DataFile) -> Error {
    Error::invalid_input(message).with("file", file.file_path())
}

fn signed(value: u64, file: &DataFile) -> Result<i64> {
    i64::try_from(value).map_err(|_| invalid("a number of a file's entry has over 63 bits", file))
}

/// Refuses a partition value of a type that `iceberg` does not know: manifests have their partitions' types in Avro.
fn check_types(partition: &PartitionTypes) -> Result<()> {
    let spec = partition.spec();
    for (field, of) in spec.fields().iter().zip(partition.types()) {
        if let Some(of) = of.as_ref().filter(|of| foreign_kind(of).is_some()) {
            return Err(Error::unsupported(
                "a table that is partitioned by a column of this type can't be committed to",
            )
            .with("partition_field", &field.name)
            .with("spec", spec.spec_id())
            .with("type", primitive_text(of)));
        }
    }
    Ok(())
}

/// A file's partition values in their fields' types.
fn partition_values<'a>(
    partition: &'a PartitionTypes,
    file: &'a DataFile,
) -> Result<Vec<(Option<&'a PrimitiveType>, Option<PrimitiveLiteral>)>> {
    let fields = partition.spec().fields();
    let values = file.partition().fields();
    if values.len() != fields.len() {
        return Err(invalid("a file's partition does not have as many values as its spec has fields", file)
            .with("expected", fields.len())
            .with("found", values.len()));
    }
    let typed = fields.iter().zip(partition.types()).zip(values).map(|((field, of), value)| {
        let Some(value) = value else { return Ok((of.as_ref(), None)) };
        let widened = match (value, of) {
            (Literal::Primitive(value), Some(of)) => widen(value, of),
            _ => None,
        };
        let widened = widened.ok_or_else(|| {
            let of = of.as_ref().map_or("none that a schema of the table has".to_string(), primitive_text);
            invalid("a file's partition value is not of its field's type", file)
                .with("partition_field", &field.name)
                .with("type", of)
        })?;
        Ok((of.as_ref(), Some(widened)))
    });
    typed.collect()
}

fn put_file(
    out: &mut Vec<u8>,
    version: FormatVersion,
    file: &DataFile,
    partition: &[(Option<&PrimitiveType>, Option<PrimitiveLiteral>)],
    row_count: i64,
) -> Result<()> {
    let content = file.content_type();
    if version >= FormatVersion::V2 {
        put_long(out, content as i64);
    }
    put_bytes(out, file.file_path().as_bytes());
    put_bytes(out, file.file_format().to_string().to_ascii_uppercase().as_bytes());
    for (of, value) in partition {
        // A field whose type nobody knows is a `null` without a union around it.
        if let Some(of) = of {
            put_optional(out, value.as_ref(), |out, value| put_value(out, of, value));
        }
    }
    put_long(out, row_count);
    put_long(out, signed(file.file_size_in_bytes(), file)?);
    if version == FormatVersion::V1 {
        put_long(out, BLOCK_SIZE);
    }
    let counts =
        [file.column_sizes(), file.value_counts(), file.null_value_counts(), file.nan_value_counts()];
    for counts in counts {
        put_map(out, counts, |out, count| {
            put_long(out, signed(*count, file)?);
            Ok(())
        })?;
    }
    for bounds in [file.lower_bounds(), file.upper_bounds()] {
        put_map(out, bounds, |out, bound: &Datum| {
            put_bytes(out, &bound.to_bytes()?);
            Ok(())
        })?;
    }
    put_optional(out, file.key_metadata(), put_bytes);
    put_list(out, file.split_offsets())?;
    if version >= FormatVersion::V2 {
        let ids = file.equality_ids();
        put_list(out, ids.as_deref())?;
    }
    put_optional(out, file.sort_order_id(), |out, id| put_long(out, id.into()));
    if version >= FormatVersion::V3 {
        let id = file.first_row_id().filter(|_| content == DataContentType::Data);
        put_optional(out, id, put_long);
    }
    if version >= FormatVersion::V2 {
        put_optional(out, file.referenced_data_file(), |out, path| put_bytes(out, path.as_bytes()));
    }
    if version >= FormatVersion::V3 {
        put_optional(out, file.content_offset(), put_long);
        put_optional(out, file.content_size_in_bytes(), put_long);
    }
    Ok(())
}

/// A value of the type.
fn put_value(out: &mut Vec<u8>, of: &PrimitiveType, value: &PrimitiveLiteral) {
    match value {
        PrimitiveLiteral::Boolean(v) => out.push(u8::from(*v)),
        PrimitiveLiteral::Int(v) => put_long(out, i64::from(*v)),
        PrimitiveLiteral::Long(v) => put_long(out, *v),
        PrimitiveLiteral::Float(v) => out.extend(v.to_le_bytes()),
        PrimitiveLiteral::Double(v) => out.extend(v.to_le_bytes()),
        PrimitiveLiteral::String(v) => put_bytes(out, v.as_bytes()),
        PrimitiveLiteral::Binary(v) if matches!(of, PrimitiveType::Fixed(_)) => out.extend_from_slice(v),
        PrimitiveLiteral::Binary(v) => put_bytes(out, v),
        PrimitiveLiteral::UInt128(v) => out.extend(v.to_be_bytes()),
        PrimitiveLiteral::Int128(v) => {
            let length = match of {
                PrimitiveType::Decimal { precision, .. } => decimal_length(*precision),
                _ => 16,
            };
            out.extend(decimal_bytes(*v, length).unwrap_or_default());
        }
        PrimitiveLiteral::AboveMax | PrimitiveLiteral::BelowMin => {}
    }
}

/// A map by column id, in the order of ids; null where it is empty.
fn put_map<V>(
    out: &mut Vec<u8>,
    map: &HashMap<i32, V>,
    mut put: impl FnMut(&mut Vec<u8>, &V) -> Result<()>,
) -> Result<()> {
    if map.is_empty() {
        put_long(out, 0);
        return Ok(());
    }
    let mut pairs: Vec<(&i32, &V)> = map.iter().collect();
    pairs.sort_unstable_by_key(|(id, _)| **id);
    put_long(out, 1);
    put_array(out, pairs.len(), |out| {
        for (id, value) in pairs {
            put_long(out, i64::from(*id));
            put(out, value)?;
        }
        Ok(())
    })
}

fn put_list<N: Copy + Into<i64>>(out: &mut Vec<u8>, list: Option<&[N]>) -> Result<()> {
    let Some(list) = list else {
        put_long(out, 0);
        return Ok(());
    };
    put_long(out, 1);
    put_array(out, list.len(), |out| {
        list.iter().for_each(|number| put_long(out, (*number).into()));
        Ok(())
    })
}

/// What ends a file's blocks: bytes that are the same for the same file, and no others'.
pub(super) fn sync(of: &impl Hash) -> [u8; 16] {
    let half = |salt: u64| {
        let mut hasher = DefaultHasher::new();
        (salt, of).hash(&mut hasher);
        hasher.finish().to_be_bytes()
    };
    let mut sync = [0; 16];
    let (first, second) = sync.split_at_mut(8);
    first.copy_from_slice(&half(0x1ce));
    second.copy_from_slice(&half(0xf1e1d));
    sync
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decimal_takes_as_many_bytes_as_its_digits_need() {
        let lengths = [(1, 1), (2, 1), (3, 2), (4, 2), (5, 3), (9, 4), (10, 5), (18, 8), (19, 9), (38, 16)];
        for (precision, length) in lengths {
            assert_eq!(decimal_length(precision), length, "{precision}");
            let most = 10_i128.pow(precision) - 1;
            for value in [most, -most, 0, -1] {
                let bytes = decimal_bytes(value, length).unwrap();
                assert_eq!(crate::format::avro::unscaled(&bytes), Some(value));
            }
        }
        assert_eq!((decimal_bytes(128, 1), decimal_bytes(-129, 1)), (None, None));
    }
}
