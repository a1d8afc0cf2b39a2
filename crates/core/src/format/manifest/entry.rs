//! Manifest entries off their Avro records, by the field ids of the specification.

use std::collections::HashMap;

use iceberg::spec::{
    DataContentType, DataFile, DataFileBuilder, DataFileFormat, Datum, Literal, PartitionSpec,
    PrimitiveLiteral, PrimitiveType, Schema as TableSchema, Struct, Type,
};

use crate::deletes::{DELETE_FILE_PATH_ID, DELETE_POS_ID};
use crate::error::{Error, Result};
use crate::format::avro::{Reader, Schema, unscaled};
use crate::format::source::broken;

/// The field id of a row's id.
const ROW_ID: i32 = 2_147_483_540;
/// The field id of the sequence number at which a row was last updated.
const LAST_UPDATED: i32 = 2_147_483_539;

/// An entry as it is written: nothing is inherited yet.
pub(super) struct Entry {
    /// 0: carried over, 1: added, 2: deleted.
    pub(super) status: i32,
    pub(super) snapshot_id: Option<i64>,
    pub(super) sequence_number: Option<i64>,
    pub(super) file_sequence_number: Option<i64>,
    pub(super) file: File,
}

/// What the columns and partition fields of a manifest's files are.
pub(super) struct Types<'a> {
    schema: &'a TableSchema,
    /// The partition fields by id, where their columns are known.
    partition: HashMap<i32, PrimitiveType>,
}

impl<'a> Types<'a> {
    pub(super) fn new(schema: &'a TableSchema, spec: &PartitionSpec) -> Self {
        let of = spec.partition_type(schema).ok();
        let fields = of.iter().flat_map(|of| of.fields());
        let partition = fields.filter_map(|field| match field.field_type.as_ref() {
            Type::Primitive(primitive) => Some((field.id, primitive.clone())),
            _ => None,
        });
        Self { schema, partition: partition.collect() }
    }

    /// The type of a column's bounds.
    fn of(&self, id: i32) -> Option<PrimitiveType> {
        match id {
            DELETE_FILE_PATH_ID => return Some(PrimitiveType::String),
            DELETE_POS_ID | ROW_ID | LAST_UPDATED => return Some(PrimitiveType::Long),
            _ => {}
        }
        match self.schema.field_by_id(id)?.field_type.as_ref() {
            Type::Primitive(primitive) => Some(primitive.clone()),
            _ => None,
        }
    }
}

impl Entry {
    pub(super) fn read(reader: &mut Reader<'_>, schema: &Schema, types: &Types<'_>) -> Result<Self> {
        let mut status = None;
        let (mut snapshot_id, mut sequence_number, mut file_sequence_number) = (None, None, None);
        let mut file = None;
        reader.record(schema, |reader, id, schema| {
            match id {
                0 => status = reader.optional(schema, Reader::int)?,
                1 => snapshot_id = reader.optional(schema, Reader::long)?,
                3 => sequence_number = reader.optional(schema, Reader::long)?,
                4 => file_sequence_number = reader.optional(schema, Reader::long)?,
                2 => file = reader.optional(schema, |reader, schema| File::read(reader, schema, types))?,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        match (status, file) {
            (Some(status @ 0..=2), Some(file)) => {
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
    partition: HashMap<i32, Literal>,
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
    fn read(reader: &mut Reader<'_>, schema: &Schema, types: &Types<'_>) -> Result<Self> {
        let mut file = Self::default();
        let unsigned = |value: Option<i64>| {
            value
                .and_then(|value| u64::try_from(value).ok())
                .ok_or_else(|| broken("a file in it has no size or no number of rows"))
        };
        reader.record(schema, |reader, id, schema| {
            match id {
                134 => file.content = reader.optional(schema, Reader::int)?.unwrap_or_default(),
                100 => file.path = reader.optional(schema, text)?.unwrap_or_default(),
                101 => file.format = reader.optional(schema, text)?.unwrap_or_default(),
                102 => {
                    let read = |reader: &mut Reader<'_>, schema: &Schema| {
                        partition(reader, schema, types, &mut file.partition)
                    };
                    reader.optional(schema, read)?;
                }
                103 => file.record_count = unsigned(reader.optional(schema, Reader::long)?)?,
                104 => file.size = unsigned(reader.optional(schema, Reader::long)?)?,
                108 => counts(reader, schema, (117, 118), &mut file.column_sizes)?,
                109 => counts(reader, schema, (119, 120), &mut file.value_counts)?,
                110 => counts(reader, schema, (121, 122), &mut file.null_counts)?,
                137 => counts(reader, schema, (138, 139), &mut file.nan_counts)?,
                125 => bounds(reader, schema, (126, 127), types, &mut file.lower_bounds)?,
                128 => bounds(reader, schema, (129, 130), types, &mut file.upper_bounds)?,
                131 => {
                    let read = |reader: &mut Reader<'_>, schema: &Schema| Ok(reader.binary(schema)?.to_vec());
                    file.key_metadata = reader.optional(schema, read)?;
                }
                132 => file.split_offsets = list(reader, schema, Reader::long)?,
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

    /// The file in `iceberg`'s form.
    pub(super) fn build(self, spec_id: i32, spec: &PartitionSpec) -> Result<DataFile> {
        let mut partition = self.partition;
        let values = spec.fields().iter().map(|field| partition.remove(&field.field_id));
        let format = self.format.to_ascii_lowercase().parse::<DataFileFormat>();
        let format = format.map_err(|e| broken("a file in it is of no known format").with_source(e))?;
        let content = match self.content {
            0 => DataContentType::Data,
            1 => DataContentType::PositionDeletes,
            2 => DataContentType::EqualityDeletes,
            _ => return Err(broken("a file in it is of no known kind")),
        };
        let mut builder = DataFileBuilder::default();
        builder
            .content(content)
            .file_path(self.path)
            .file_format(format)
            .partition(Struct::from_iter(values))
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
    into: &mut HashMap<i32, V>,
    mut value: impl FnMut(&mut Reader<'_>, &Schema, i32) -> Result<Option<V>>,
) -> Result<()> {
    let read = |reader: &mut Reader<'_>, schema: &Schema| {
        into.reserve(reader.items_ahead());
        reader.array(schema, |reader, schema| {
            // Writers put the key first.
            let mut key = None;
            reader.record(schema, |reader, id, schema| {
                if id == key_id {
                    key = reader.optional(schema, Reader::int)?;
                    return Ok(true);
                }
                let Some(key) = key.filter(|_| id == value_id) else { return Ok(false) };
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
    into: &mut HashMap<i32, u64>,
) -> Result<()> {
    pairs(reader, schema, ids, into, |reader, schema, _| Ok(u64::try_from(reader.long(schema)?).ok()))
}

/// Bounds of columns that are known. One that is none of its column's type says nothing, and is left out.
fn bounds(
    reader: &mut Reader<'_>,
    schema: &Schema,
    ids: (i32, i32),
    types: &Types<'_>,
    into: &mut HashMap<i32, Datum>,
) -> Result<()> {
    pairs(reader, schema, ids, into, |reader, schema, key| {
        let bytes = reader.binary(schema)?;
        Ok(types.of(key).and_then(|of| Datum::try_from_bytes(bytes, of).ok()))
    })
}

fn partition(
    reader: &mut Reader<'_>,
    schema: &Schema,
    types: &Types<'_>,
    into: &mut HashMap<i32, Literal>,
) -> Result<()> {
    reader.record(schema, |reader, id, schema| {
        let of = types.partition.get(&id);
        let value = reader.optional(schema, |reader, schema| literal(reader, schema, of))?;
        if let Some(value) = value {
            into.insert(id, Literal::Primitive(value));
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
        (Schema::Fixed(_) | Schema::Bytes, _) => PrimitiveLiteral::Binary(reader.binary(schema)?.to_vec()),
        _ => return Err(broken("a partition value in it is of no type that partitions have")),
    })
}
