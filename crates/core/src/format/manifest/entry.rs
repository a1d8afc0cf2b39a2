//! Manifest entries off their Avro records, by the field ids of the specification.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use iceberg::spec::{
    DataContentType, DataFile, DataFileBuilder, DataFileFormat, Datum, Literal, ManifestStatus,
    PrimitiveLiteral, PrimitiveType, Struct,
};

use super::types::{PartitionTypes, TableTypes};
use crate::error::{Error, Result};
use crate::format::avro::{Reader, Schema, unscaled};
use crate::format::source::broken;

/// The most bytes, and rows, that a file may claim to have: no store takes files of a petabyte. What goes by sizes and counts
/// (how files are cut up, what is read of them, sums) then stays within what can be had.
const MOST_OF_A_FILE: u64 = 1 << 50;

/// An entry as it is written: nothing is inherited yet.
pub(super) struct Entry {
    pub(super) status: ManifestStatus,
    pub(super) snapshot_id: Option<i64>,
    pub(super) sequence_number: Option<i64>,
    pub(super) file_sequence_number: Option<i64>,
    pub(super) file: File,
}

/// Where a file that a manifest names is, and its size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileLocation {
    /// Its content: data, or deletes of one kind.
    pub content: DataContentType,
    /// Its format.
    pub format: DataFileFormat,
    /// Its location.
    pub path: String,
    /// Its size in bytes.
    pub size: u64,
}

/// What is wanted of the statistics of files' columns. Whatever is not wanted is passed over as it is read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum WantedStatistics {
    /// Nothing.
    #[default]
    None,
    /// Sizes, counts and bounds of the columns with these ids, which ascend.
    Columns(Arc<[i32]>),
    /// Everything.
    All,
}

impl WantedStatistics {
    /// Sizes, counts and bounds of these columns.
    pub fn of(columns: impl IntoIterator<Item = i32>) -> Self {
        let ids: BTreeSet<i32> = columns.into_iter().collect();
        if ids.is_empty() { Self::None } else { Self::Columns(ids.into_iter().collect()) }
    }

    /// What either of two wants.
    pub fn or(&self, other: &Self) -> Self {
        match (self, other) {
            (Self::All, _) | (_, Self::All) => Self::All,
            (Self::None, wanted) | (wanted, Self::None) => wanted.clone(),
            (Self::Columns(some), Self::Columns(others)) => {
                Self::of(some.iter().chain(others.iter()).copied())
            }
        }
    }

    /// The same for so many columns at most: those of the lowest ids.
    pub fn lowest(&self, columns: usize) -> Self {
        match self {
            Self::Columns(ids) if ids.len() > columns => Self::of(ids.iter().copied().take(columns)),
            other => other.clone(),
        }
    }

    /// Whether this has all that the other wants.
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::All, _) | (_, Self::None) => true,
            (_, Self::All) | (Self::None, _) => false,
            (Self::Columns(held), Self::Columns(wanted)) => {
                wanted.iter().all(|id| held.binary_search(id).is_ok())
            }
        }
    }

    fn wants(&self, id: i32) -> bool {
        match self {
            Self::None => false,
            Self::Columns(ids) => ids.binary_search(&id).is_ok(),
            Self::All => true,
        }
    }

    /// For how many columns memory is taken at once.
    fn at_most(&self) -> usize {
        match self {
            Self::None => 0,
            Self::Columns(ids) => ids.len(),
            Self::All => usize::MAX,
        }
    }
}

/// How entries are read.
pub(super) struct Reading<'a> {
    pub(super) types: &'a TableTypes,
    pub(super) statistics: &'a WantedStatistics,
    /// The partition fields by id, with the types of their values where they are known.
    partition: HashMap<i32, (usize, Option<&'a PrimitiveType>)>,
    partition_fields: usize,
    /// Whether what only readers and writers of rows need is read too.
    pub(super) details: bool,
}

impl<'a> Reading<'a> {
    pub(super) fn new(
        types: &'a TableTypes,
        partition: Option<&'a PartitionTypes>,
        statistics: &'a WantedStatistics,
        details: bool,
    ) -> Self {
        let fields = partition.into_iter().flat_map(|of| of.spec().fields().iter().zip(of.types()));
        let fields = fields.enumerate().map(|(at, (field, of))| (field.field_id, (at, of.as_ref())));
        let partition_fields = partition.map_or(0, |of| of.types().len());
        Self { types, statistics, partition: fields.collect(), partition_fields, details }
    }
}

impl Entry {
    pub(super) fn read(reader: &mut Reader<'_>, schema: &Schema, how: &Reading<'_>) -> Result<Self> {
        let mut status = None;
        let (mut snapshot_id, mut sequence_number, mut file_sequence_number) = (None, None, None);
        let mut file = None;
        reader.record(schema, |reader, id, schema| {
            match id {
                0 => status = reader.optional(schema, Reader::int)?,
                1 => snapshot_id = reader.optional(schema, Reader::long)?,
                3 => sequence_number = reader.optional(schema, Reader::long)?,
                4 => file_sequence_number = reader.optional(schema, Reader::long)?,
                2 => file = reader.optional(schema, |reader, schema| File::read(reader, schema, how))?,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        let status = match status {
            Some(0) => Some(ManifestStatus::Existing),
            Some(1) => Some(ManifestStatus::Added),
            Some(2) => Some(ManifestStatus::Deleted),
            _ => None,
        };
        match (status, file) {
            (Some(status), Some(file)) => {
                Ok(Self { status, snapshot_id, sequence_number, file_sequence_number, file })
            }
            _ => Err(broken("an entry has no status or no file")),
        }
    }
}

/// A file as its entry describes it.
#[derive(Default)]
pub(super) struct File {
    content: i32,
    pub(super) path: String,
    format: String,
    partition: Vec<Option<Literal>>,
    pub(super) record_count: u64,
    size: u64,
    column_sizes: HashMap<i32, u64>,
    value_counts: HashMap<i32, u64>,
    null_counts: HashMap<i32, u64>,
    nan_counts: HashMap<i32, u64>,
    lower_bounds: HashMap<i32, Datum>,
    upper_bounds: HashMap<i32, Datum>,
    key_metadata: Option<Vec<u8>>,
    split_offsets: Option<Vec<i64>>,
    equality_ids: Option<Vec<i32>>,
    sort_order_id: Option<i32>,
    pub(super) first_row_id: Option<i64>,
    referenced_data_file: Option<String>,
    content_offset: Option<i64>,
    content_size: Option<i64>,
}

impl File {
    fn read(reader: &mut Reader<'_>, schema: &Schema, how: &Reading<'_>) -> Result<Self> {
        let mut file = Self { partition: vec![None; how.partition_fields], ..Self::default() };
        let unsigned = |value: Option<i64>| {
            value
                .and_then(|value| u64::try_from(value).ok())
                .ok_or_else(|| broken("a file in it has no size or no number of rows"))
                .and_then(|value| match value {
                    0..=MOST_OF_A_FILE => Ok(value),
                    _ => Err(broken("a file in it is larger, or has more rows, than any can")
                        .with("claims", value)),
                })
        };
        reader.record(schema, |reader, id, schema| {
            match id {
                134 => file.content = reader.optional(schema, Reader::int)?.unwrap_or_default(),
                100 => file.path = reader.optional(schema, text)?.unwrap_or_default(),
                101 => file.format = reader.optional(schema, text)?.unwrap_or_default(),
                102 => {
                    let read = |reader: &mut Reader<'_>, schema: &Schema| {
                        partition(reader, schema, how, &mut file.partition)
                    };
                    reader.optional(schema, read)?;
                }
                103 => file.record_count = unsigned(reader.optional(schema, Reader::long)?)?,
                104 => file.size = unsigned(reader.optional(schema, Reader::long)?)?,
                108 => counts(reader, schema, (117, 118), how, &mut file.column_sizes)?,
                109 => counts(reader, schema, (119, 120), how, &mut file.value_counts)?,
                110 => counts(reader, schema, (121, 122), how, &mut file.null_counts)?,
                137 => counts(reader, schema, (138, 139), how, &mut file.nan_counts)?,
                125 => bounds(reader, schema, (126, 127), how, &mut file.lower_bounds)?,
                128 => bounds(reader, schema, (129, 130), how, &mut file.upper_bounds)?,
                131 if how.details => {
                    let read = |reader: &mut Reader<'_>, schema: &Schema| Ok(reader.binary(schema)?.to_vec());
                    file.key_metadata = reader.optional(schema, read)?;
                }
                132 if how.details => file.split_offsets = list(reader, schema, Reader::long)?,
                135 => file.equality_ids = list(reader, schema, Reader::int)?,
                140 => file.sort_order_id = reader.optional(schema, Reader::int)?,
                142 => file.first_row_id = reader.optional(schema, Reader::long)?,
                143 => file.referenced_data_file = reader.optional(schema, text)?,
                144 => file.content_offset = reader.optional(schema, Reader::long)?,
                145 => file.content_size = reader.optional(schema, Reader::long)?,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(file)
    }

    fn kind(&self) -> Result<(DataContentType, DataFileFormat)> {
        let content = match self.content {
            0 => DataContentType::Data,
            1 => DataContentType::PositionDeletes,
            2 => DataContentType::EqualityDeletes,
            _ => return Err(broken("a file in it is of no known kind")),
        };
        let format =
            [DataFileFormat::Parquet, DataFileFormat::Avro, DataFileFormat::Orc, DataFileFormat::Puffin]
                .into_iter()
                .find(|format| self.format.eq_ignore_ascii_case(&format.to_string()));
        Ok((content, format.ok_or_else(|| broken("a file in it is of no known format"))?))
    }

    /// True for a data file, false for a delete file.
    pub(super) fn is_data(&self) -> bool {
        self.content == 0
    }

    /// What an orphan's or an expired file's removal has to know.
    pub(super) fn location(self) -> Result<FileLocation> {
        let (content, format) = self.kind()?;
        Ok(FileLocation { content, format, path: self.path, size: self.size })
    }

    /// The file in `iceberg`'s form.
    pub(super) fn build(self, spec_id: i32) -> Result<DataFile> {
        let (content, format) = self.kind()?;
        let mut builder = DataFileBuilder::default();
        builder
            .content(content)
            .file_path(self.path)
            .file_format(format)
            .partition(Struct::from_iter(self.partition))
            .record_count(self.record_count)
            .file_size_in_bytes(self.size)
            .column_sizes(self.column_sizes)
            .value_counts(self.value_counts)
            .null_value_counts(self.null_counts)
            .nan_value_counts(self.nan_counts)
            .lower_bounds(self.lower_bounds)
            .upper_bounds(self.upper_bounds)
            .key_metadata(self.key_metadata)
            .split_offsets(self.split_offsets)
            .equality_ids(self.equality_ids)
            .first_row_id(self.first_row_id)
            .partition_spec_id(spec_id)
            .referenced_data_file(self.referenced_data_file)
            .content_offset(self.content_offset)
            .content_size_in_bytes(self.content_size);
        if let Some(id) = self.sort_order_id {
            builder.sort_order_id(id);
        }
        builder.build().map_err(|e| Error::internal("a file's metadata can't be put together").with_source(e))
    }
}

pub(super) fn text(reader: &mut Reader<'_>, schema: &Schema) -> Result<String> {
    reader.text(schema).map(str::to_string)
}

fn list<'a, T>(
    reader: &mut Reader<'a>,
    schema: &Schema,
    item: impl Fn(&mut Reader<'a>, &Schema) -> Result<T>,
) -> Result<Option<Vec<T>>> {
    reader.optional(schema, |reader, schema| {
        let mut items = Vec::new();
        reader.array(schema, |reader, schema| {
            items.push(item(reader, schema)?);
            Ok(())
        })?;
        Ok(items)
    })
}

/// A map by field id: an array of pairs, whose ids are given. Leaves out what has no `value`.
fn pairs<V>(
    reader: &mut Reader<'_>,
    schema: &Schema,
    (key_id, value_id): (i32, i32),
    wanted: &WantedStatistics,
    into: &mut HashMap<i32, V>,
    mut value: impl FnMut(&mut Reader<'_>, &Schema, i32) -> Result<Option<V>>,
) -> Result<()> {
    if *wanted == WantedStatistics::None {
        return reader.pass(schema);
    }
    let read = |reader: &mut Reader<'_>, schema: &Schema| {
        into.reserve(reader.items_ahead().min(wanted.at_most()));
        reader.array(schema, |reader, schema| {
            // Writers put the key first.
            let mut key = None;
            reader.record(schema, |reader, id, schema| {
                if id == key_id {
                    key = reader.optional(schema, Reader::int)?;
                    return Ok(true);
                }
                let Some(key) = key.filter(|key| id == value_id && wanted.wants(*key)) else {
                    return Ok(false);
                };
                let value = reader.optional(schema, |reader, schema| value(reader, schema, key))?;
                if let Some(value) = value.flatten() {
                    into.insert(key, value);
                }
                Ok(true)
            })
        })
    };
    reader.optional(schema, read).map(drop)
}

fn counts(
    reader: &mut Reader<'_>,
    schema: &Schema,
    ids: (i32, i32),
    how: &Reading<'_>,
    into: &mut HashMap<i32, u64>,
) -> Result<()> {
    let read = |reader: &mut Reader<'_>, schema: &Schema, _| Ok(u64::try_from(reader.long(schema)?).ok());
    pairs(reader, schema, ids, how.statistics, into, read)
}

/// Bounds of columns that are known. One that is none of its column's type says nothing, and is left out.
fn bounds(
    reader: &mut Reader<'_>,
    schema: &Schema,
    ids: (i32, i32),
    how: &Reading<'_>,
    into: &mut HashMap<i32, Datum>,
) -> Result<()> {
    pairs(reader, schema, ids, how.statistics, into, |reader, schema, key| {
        let bytes = reader.binary(schema)?;
        // Whoever writes the entry again keeps what it does not understand.
        let of = how
            .types
            .column(key)
            .or((*how.statistics == WantedStatistics::All).then_some(PrimitiveType::Binary));
        Ok(of.and_then(|of| Datum::try_from_bytes(bytes, of).ok()))
    })
}

fn partition(
    reader: &mut Reader<'_>,
    schema: &Schema,
    how: &Reading<'_>,
    into: &mut [Option<Literal>],
) -> Result<()> {
    reader.record(schema, |reader, id, schema| {
        let Some((at, of)) = how.partition.get(&id) else { return Ok(false) };
        let value = reader.optional(schema, |reader, schema| literal(reader, schema, *of))?;
        if let Some(place) = into.get_mut(*at) {
            *place = value.map(Literal::Primitive);
        }
        Ok(true)
    })
}

/// A partition value in the form that `iceberg` has for its type.
fn literal(reader: &mut Reader<'_>, schema: &Schema, of: Option<&PrimitiveType>) -> Result<PrimitiveLiteral> {
    use PrimitiveType as P;
    let schema = schema.plain();
    Ok(match (schema, of) {
        (Schema::Boolean, _) => PrimitiveLiteral::Boolean(reader.boolean(schema)?),
        (Schema::Int | Schema::Long, Some(P::Int | P::Date)) => PrimitiveLiteral::Int(reader.int(schema)?),
        (Schema::Int, None) => PrimitiveLiteral::Int(reader.int(schema)?),
        (Schema::Int | Schema::Long, _) => PrimitiveLiteral::Long(reader.long(schema)?),
        (Schema::Float, Some(P::Double)) => PrimitiveLiteral::Double(f64::from(reader.float(schema)?).into()),
        (Schema::Float, _) => PrimitiveLiteral::Float(reader.float(schema)?.into()),
        (Schema::Double, _) => PrimitiveLiteral::Double(reader.double(schema)?.into()),
        (Schema::Fixed(_) | Schema::Bytes, Some(P::Decimal { .. })) => {
            let unscaled = unscaled(reader.binary(schema)?);
            PrimitiveLiteral::Int128(unscaled.ok_or_else(|| broken("a decimal in it is too long"))?)
        }
        (Schema::Fixed(16), Some(P::Uuid)) => {
            let bytes = reader.binary(schema)?.first_chunk();
            PrimitiveLiteral::UInt128(u128::from_be_bytes(
                *bytes.ok_or_else(|| broken("a UUID in it is none"))?,
            ))
        }
        (Schema::String, _) => PrimitiveLiteral::String(text(reader, schema)?),
        (Schema::Fixed(_) | Schema::Sized(_) | Schema::Bytes, _) => {
            PrimitiveLiteral::Binary(reader.binary(schema)?.to_vec())
        }
        _ => return Err(broken("a partition value in it is of no type that partitions have")),
    })
}
