//! Records as columns: a decoder for each field, and the Arrow fields that they become.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::{ArrayRef, ListArray, MapArray, StructArray};
use arrow_buffer::{NullBufferBuilder, OffsetBuffer};
use arrow_schema::{DataType, Field, FieldRef, Fields, TimeUnit};
use parquet::arrow::PARQUET_FIELD_ID_META_KEY;

use super::reader::{Reader, unscaled};
use super::schema::{self, Logical, Schema, Unit};
use crate::error::{Error, Result};
use crate::format::schema::{MAP_ENTRIES, UTC};
use crate::format::source::broken;
use crate::format::values::{Values, offset};

/// The most bytes that values of a fixed size may have: each row takes as many, NULL too.
const MAX_FIXED: usize = 1 << 20;

/// The Arrow field that a field of a record becomes.
///
/// # Errors
/// [`Unsupported`](crate::ErrorKind::Unsupported) naming the column, for what Iceberg has no type for.
pub(super) fn field(of: &schema::Field) -> Result<Field> {
    named(&of.name, of.id, &of.schema, &of.name)
}

fn named(name: &str, id: Option<i32>, schema: &Schema, column: &str) -> Result<Field> {
    let union = Union::of(schema).ok_or_else(|| foreign(column))?;
    let data_type = data_type(union.schema, column)?;
    let field = Field::new(name, data_type, union.null.is_some());
    Ok(match id {
        Some(id) => {
            field.with_metadata(HashMap::from([(PARQUET_FIELD_ID_META_KEY.to_string(), id.to_string())]))
        }
        None => field,
    })
}

fn foreign(column: &str) -> Error {
    Error::unsupported("a column of the file is of a type that Iceberg does not have").with("column", column)
}

fn data_type(schema: &Schema, column: &str) -> Result<DataType> {
    Ok(match schema {
        Schema::Boolean => DataType::Boolean,
        Schema::Int => DataType::Int32,
        Schema::Long => DataType::Int64,
        Schema::Float => DataType::Float32,
        Schema::Double => DataType::Float64,
        Schema::Bytes => DataType::Binary,
        Schema::String | Schema::Enum(_) => DataType::Utf8,
        Schema::Fixed(size) => match i32::try_from(*size) {
            Ok(length) if *size > 0 && *size <= MAX_FIXED => DataType::FixedSizeBinary(length),
            _ => return Err(foreign(column).with("bytes", size)),
        },
        Schema::Record(fields) => {
            let fields = fields.iter().map(|field| named(&field.name, field.id, &field.schema, column));
            DataType::Struct(fields.collect::<Result<_>>()?)
        }
        Schema::Array(items) => DataType::List(Arc::new(named("element", items.id, &items.schema, column)?)),
        Schema::Map(key, values) => {
            let key = named("key", *key, &Schema::String, column)?;
            map_type(key, named("value", values.id, &values.schema, column)?)
        }
        Schema::Logical(logical, schema) => logical_type(*logical, schema, column)?,
        // Of manifests only.
        Schema::Sized(_) => return Err(foreign(column)),
        Schema::Null | Schema::Union(_) => return Err(foreign(column)),
    })
}

fn map_type(key: Field, value: Field) -> DataType {
    let entries = DataType::Struct(Fields::from(vec![key, value]));
    DataType::Map(Arc::new(Field::new(MAP_ENTRIES, entries, false)), false)
}

fn logical_type(logical: Logical, schema: &Schema, column: &str) -> Result<DataType> {
    Ok(match logical {
        Logical::Date => DataType::Date32,
        Logical::TimeMillis | Logical::TimeMicros => DataType::Time64(TimeUnit::Microsecond),
        Logical::Timestamp { unit, utc } => {
            let zone = utc.then(|| UTC.into());
            DataType::Timestamp(
                match unit {
                    Unit::Millis | Unit::Micros => TimeUnit::Microsecond,
                    Unit::Nanos => TimeUnit::Nanosecond,
                },
                zone,
            )
        }
        Logical::Decimal { precision, scale } => DataType::Decimal128(precision, scale),
        Logical::Uuid => DataType::FixedSizeBinary(16),
        Logical::Map => {
            let [key, value] = entry(schema).ok_or_else(|| foreign(column))?;
            let key = named("key", key.id, &key.schema, column)?;
            map_type(key, named("value", value.id, &value.schema, column)?)
        }
    })
}

/// The key and the value of an array of records that is a map.
fn entry(schema: &Schema) -> Option<[&schema::Field; 2]> {
    let Schema::Array(items) = schema else { return None };
    match items.schema.plain() {
        Schema::Record(fields) => match fields.as_slice() {
            [key, value] => Some([key, value]),
            _ => None,
        },
        _ => None,
    }
}

/// A type and, where it is a union with null, the branches.
struct Union<'a> {
    schema: &'a Schema,
    null: Option<usize>,
    /// The branch of values; `None` where it is no union.
    value: Option<usize>,
}

impl<'a> Union<'a> {
    fn of(schema: &'a Schema) -> Option<Self> {
        let Schema::Union(branches) = schema else {
            return Some(Self { schema, null: None, value: None });
        };
        let is_null = |branch: &Schema| matches!(branch, Schema::Null);
        let value = branches.iter().position(|branch| !is_null(branch))?;
        let null = branches.iter().position(is_null);
        let known = 1 + usize::from(null.is_some());
        (branches.len() == known).then(|| Self { schema: &branches[value], null, value: Some(value) })
    }
}

/// Reads the values of a field, and keeps them until the batch is full.
#[derive(Debug)]
pub(super) struct Column {
    schema: Schema,
    data_type: DataType,
    null: Option<usize>,
    value: Option<usize>,
    there: NullBufferBuilder,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Plain(Values),
    Struct(Vec<Column>),
    List(Vec<i32>, Box<Column>),
    Map(Vec<i32>, Box<(Column, Column)>),
}

impl Column {
    /// Of a schema that became an Arrow field of this type.
    pub(super) fn new(schema: &Schema, data_type: &DataType) -> Result<Self> {
        let inconsistent = || Error::internal("an Avro type and its Arrow type differ");
        let union = Union::of(schema).ok_or_else(inconsistent)?;
        let kind = match (union.schema, data_type) {
            (Schema::Record(of), DataType::Struct(fields)) => {
                let columns =
                    of.iter().zip(fields).map(|(of, field)| Self::new(&of.schema, field.data_type()));
                Kind::Struct(columns.collect::<Result<_>>()?)
            }
            (Schema::Array(items), DataType::List(field)) => {
                Kind::List(vec![0], Box::new(Self::new(&items.schema, field.data_type())?))
            }
            (Schema::Map(..) | Schema::Logical(Logical::Map, _), DataType::Map(entries, _)) => {
                let DataType::Struct(fields) = entries.data_type() else { return Err(inconsistent()) };
                let [key, value] = fields.as_ref() else { return Err(inconsistent()) };
                let (keys, values) = match union.schema {
                    Schema::Map(_, values) => (&Schema::String, &values.schema),
                    schema => {
                        let [key, value] = entry(schema.plain()).ok_or_else(inconsistent)?;
                        (&key.schema, &value.schema)
                    }
                };
                let keys = Self::new(keys, key.data_type())?;
                Kind::Map(vec![0], Box::new((keys, Self::new(values, value.data_type())?)))
            }
            (_, of) => Kind::Plain(Values::new(of).ok_or_else(inconsistent)?),
        };
        let (null, value) = (union.null, union.value);
        let schema = union.schema.clone();
        let there = NullBufferBuilder::new(0);
        Ok(Self { schema, data_type: data_type.clone(), null, value, there, kind })
    }

    /// Reads one value.
    pub(super) fn read(&mut self, reader: &mut Reader<'_>) -> Result<()> {
        if self.value.is_some() {
            let branch = Some(reader.length()?);
            if branch == self.null {
                self.push_null();
                return Ok(());
            }
            if branch != self.value {
                return Err(broken("a union in it has no such branch"));
            }
        }
        match &mut self.kind {
            Kind::Plain(values) => read_plain(values, &self.schema, reader)?,
            Kind::Struct(columns) => columns.iter_mut().try_for_each(|column| column.read(reader))?,
            Kind::List(offsets, items) => {
                reader.blocks(|reader| items.read(reader))?;
                offsets.push(offset(items.there.len())?);
            }
            Kind::Map(offsets, entries) => {
                let (keys, values) = &mut **entries;
                reader.blocks(|reader| {
                    keys.read(reader)?;
                    values.read(reader)
                })?;
                offsets.push(offset(keys.there.len())?);
            }
        }
        self.there.append_non_null();
        Ok(())
    }

    fn push_null(&mut self) {
        match &mut self.kind {
            Kind::Plain(values) => values.push_null(),
            Kind::Struct(columns) => columns.iter_mut().for_each(Self::push_null),
            Kind::List(offsets, _) | Kind::Map(offsets, _) => {
                offsets.push(offsets.last().copied().unwrap_or_default());
            }
        }
        self.there.append_null();
    }

    /// The values that were read, as an array. None are left.
    pub(super) fn take(&mut self) -> Result<ArrayRef> {
        let empty = Self::new(&self.schema, &self.data_type)?;
        let kind = std::mem::replace(&mut self.kind, empty.kind);
        let (rows, nulls) = (self.there.len(), self.there.finish());
        let inconsistent = |e| broken("its values contradict its schema").with_source(e);
        let array: ArrayRef = match (kind, &self.data_type) {
            (Kind::Plain(values), of) => values.finish(of, nulls)?,
            (Kind::Struct(_), DataType::Struct(fields)) if fields.is_empty() => {
                Arc::new(StructArray::new_empty_fields(rows, nulls))
            }
            (Kind::Struct(mut columns), DataType::Struct(fields)) => {
                let columns = columns.iter_mut().map(Self::take).collect::<Result<_>>()?;
                Arc::new(StructArray::try_new(fields.clone(), columns, nulls).map_err(inconsistent)?)
            }
            (Kind::List(offsets, mut items), DataType::List(field)) => {
                let offsets = OffsetBuffer::new(offsets.into());
                let list = ListArray::try_new(field.clone(), offsets, items.take()?, nulls);
                Arc::new(list.map_err(inconsistent)?)
            }
            (Kind::Map(offsets, mut entries), DataType::Map(field, _)) => {
                let columns = vec![entries.0.take()?, entries.1.take()?];
                Arc::new(map(field, offsets, columns, nulls).map_err(inconsistent)?)
            }
            _ => return Err(Error::internal("an Avro type and its Arrow type differ")),
        };
        Ok(array)
    }
}

fn map(
    field: &FieldRef,
    offsets: Vec<i32>,
    columns: Vec<ArrayRef>,
    nulls: Option<arrow_buffer::NullBuffer>,
) -> std::result::Result<MapArray, arrow_schema::ArrowError> {
    let fields = match field.data_type() {
        DataType::Struct(fields) => fields.clone(),
        _ => Fields::empty(),
    };
    let entries = StructArray::try_new(fields, columns, None)?;
    MapArray::try_new(field.clone(), OffsetBuffer::new(offsets.into()), entries, nulls, false)
}

fn read_plain(values: &mut Values, schema: &Schema, reader: &mut Reader<'_>) -> Result<()> {
    match values {
        Values::Boolean(values) => values.append(reader.boolean(schema)?),
        Values::Int(values) => values.push(reader.int(schema)?),
        Values::Long(values) => {
            let value = reader.long(schema)?;
            let factor = match schema {
                Schema::Logical(Logical::TimeMillis | Logical::Timestamp { unit: Unit::Millis, .. }, _) => {
                    1_000
                }
                _ => 1,
            };
            values.push(value.checked_mul(factor).ok_or_else(|| broken("a time in it is too far away"))?);
        }
        Values::Float(values) => values.push(reader.float(schema)?),
        Values::Double(values) => values.push(reader.double(schema)?),
        Values::Decimal(values) => {
            let digits = unscaled(reader.binary(schema)?);
            values.push(digits.ok_or_else(|| broken("a decimal in it is too long"))?);
        }
        Values::Bytes(values) => match schema {
            Schema::Enum(symbols) => {
                let symbol = symbols.get(reader.length()?);
                values.push(symbol.ok_or_else(|| broken("an enum in it has no such symbol"))?.as_bytes())?;
            }
            schema => values.push(reader.binary(schema)?)?,
        },
        Values::Fixed { data, .. } => data.extend_from_slice(reader.binary(schema)?),
    }
    Ok(())
}
