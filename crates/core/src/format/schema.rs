//! Schemas: Iceberg's, Arrow's and Parquet's forms of the same columns.
//!
//! [`arrow_schema()`] is what scans produce and writers expect; [`parquet_schema`] is what data files have;
//! [`iceberg_schema`] makes a new table's schema of whatever a query or a reader produced. Every field of the first two,
//! list elements, map keys and map values among them, carries its Iceberg field id: columns are found by id, never by
//! position or name. A type that one side lacks is an error that names the column. Converting values is the engine's.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_schema::{DataType, Field, FieldRef, Fields, Schema as ArrowSchema, SchemaRef, TimeUnit};
use iceberg::spec::{
    FormatVersion, ListType, MapType, NestedField, NestedFieldRef, PrimitiveType, Schema, StructType, Type,
};
use parquet::arrow::PARQUET_FIELD_ID_META_KEY;
use parquet::basic::{LogicalType, Repetition, TimeUnit as ParquetUnit, Type as Physical};
use parquet::schema::types::{SchemaDescriptor, Type as ParquetType};

use super::foreign::{self, foreign_kind, primitive_text};
use super::members;
use crate::error::{Error, Result};

/// The time zone of Arrow timestamps that are instants.
pub const UTC: &str = "+00:00";

/// The key of a column's comment in an Arrow field's metadata, as PyIceberg has it.
const DOC_KEY: &str = "doc";
/// Arrow's own marks for types that it stores as others.
const EXTENSION_NAME_KEY: &str = "ARROW:extension:name";
const EXTENSION_METADATA_KEY: &str = "ARROW:extension:metadata";
const UUID_EXTENSION: &str = "arrow.uuid";

/// The name of the field of a map's entries.
pub(super) const MAP_ENTRIES: &str = "key_value";

/// The Arrow schema of a table's rows, with the field id of every field at every level in its metadata under
/// [`PARQUET_FIELD_ID_META_KEY`].
///
/// Strings are `Utf8`, binary `Binary`, uuid and fixed `FixedSizeBinary`, decimals `Decimal128`, timestamps with a zone
/// are of zone [`UTC`]. Of the types that `iceberg` does not know (see [`foreign_kind`]) unknown is `Null`, a variant a struct
/// of the binary fields `metadata` and `value`, marked as Arrow's extension type, and geometry and geography are `Binary`,
/// marked as GeoArrow's WKB.
///
/// # Errors
/// [`Unsupported`](crate::ErrorKind::Unsupported) naming the column: a decimal of more than 38 digits, a fixed of more
/// than 2 GiB, a type of which nothing is known.
pub fn arrow_schema(schema: &Schema) -> Result<SchemaRef> {
    let fields = arrow_fields(schema.as_struct(), "")?;
    Ok(Arc::new(ArrowSchema::new(fields)))
}

/// The Arrow field of one column, as [`arrow_schema()`] has it.
///
/// # Errors
/// As [`arrow_schema()`].
pub fn arrow_field(field: &NestedField) -> Result<Field> {
    field_at(field, "")
}

fn arrow_fields(fields: &StructType, parent: &str) -> Result<Fields> {
    fields.fields().iter().map(|field| field_at(field, parent)).collect()
}

fn field_at(field: &NestedField, parent: &str) -> Result<Field> {
    let path = join(parent, &field.name);
    let data_type = arrow_type(&field.field_type, &path)?;
    let nullable = !field.required || data_type == DataType::Null;
    let mut metadata = HashMap::from([(PARQUET_FIELD_ID_META_KEY.to_string(), field.id.to_string())]);
    if let Type::Primitive(of) = field.field_type.as_ref()
        && let Some((name, own)) = foreign::extension(of)
    {
        metadata.insert(EXTENSION_NAME_KEY.to_string(), name.to_string());
        metadata.insert(EXTENSION_METADATA_KEY.to_string(), own);
    }
    Ok(Field::new(&field.name, data_type, nullable).with_metadata(metadata))
}

fn arrow_type(of: &Type, path: &str) -> Result<DataType> {
    Ok(match of {
        Type::Primitive(primitive) => arrow_primitive(primitive, path)?,
        Type::Struct(fields) => DataType::Struct(arrow_fields(fields, path)?),
        Type::List(list) => DataType::List(Arc::new(field_at(&list.element_field, path)?)),
        Type::Map(map) => {
            let entries =
                Fields::from(vec![field_at(&map.key_field, path)?, field_at(&map.value_field, path)?]);
            DataType::Map(Arc::new(Field::new(MAP_ENTRIES, DataType::Struct(entries), false)), false)
        }
    })
}

fn arrow_primitive(of: &PrimitiveType, path: &str) -> Result<DataType> {
    let unsupported = |what: &str| {
        let of = primitive_text(of);
        Error::unsupported(format!("{what}; drop the column")).with("column", path).with("type", of)
    };
    if let Some(kind) = foreign_kind(of) {
        return foreign::arrow_type(kind).ok_or_else(|| {
            Error::unsupported("the column's type is not known here; read the other columns by name")
                .with("column", path)
                .with("type", primitive_text(of))
        });
    }
    Ok(match of {
        PrimitiveType::Boolean => DataType::Boolean,
        PrimitiveType::Int => DataType::Int32,
        PrimitiveType::Long => DataType::Int64,
        PrimitiveType::Float => DataType::Float32,
        PrimitiveType::Double => DataType::Float64,
        PrimitiveType::Decimal { precision, scale } => match (u8::try_from(*precision), i8::try_from(*scale))
        {
            (Ok(precision @ 1..=38), Ok(scale)) if scale >= 0 && scale as u8 <= precision => {
                DataType::Decimal128(precision, scale)
            }
            _ => return Err(unsupported("a decimal has 1 to 38 digits, of which its scale counts some")),
        },
        PrimitiveType::Date => DataType::Date32,
        PrimitiveType::Time => DataType::Time64(TimeUnit::Microsecond),
        PrimitiveType::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
        PrimitiveType::Timestamptz => DataType::Timestamp(TimeUnit::Microsecond, Some(UTC.into())),
        PrimitiveType::TimestampNs => DataType::Timestamp(TimeUnit::Nanosecond, None),
        PrimitiveType::TimestamptzNs => DataType::Timestamp(TimeUnit::Nanosecond, Some(UTC.into())),
        PrimitiveType::String => DataType::Utf8,
        PrimitiveType::Uuid => DataType::FixedSizeBinary(16),
        PrimitiveType::Fixed(length) => match i32::try_from(*length) {
            Ok(length) => DataType::FixedSizeBinary(length),
            Err(_) => return Err(unsupported("a fixed value of more than 2 GiB can't be held in memory")),
        },
        PrimitiveType::Binary => DataType::Binary,
    })
}

/// A new table's schema from the Arrow schema of its first rows. Ids are fresh, from 1, all fields of a level before
/// those inside them; ids in the Arrow schema's metadata are not looked at. The schema's id is 0.
///
/// Types are widened to the nearest that Iceberg has: 8- and 16-bit integers and their unsigned kin to `int`, 32-bit
/// unsigned ones to `long`, half floats to `float`, small decimals to their width, seconds and milliseconds to
/// microseconds. Any zone makes a timestamp an instant (`timestamptz`). A dictionary is its values' type. Nanoseconds
/// need format version 3. `FixedSizeBinary(16)` is a `uuid` where it is marked as Arrow's extension type of that name.
///
/// # Errors
/// [`Unsupported`](crate::ErrorKind::Unsupported) naming the column, its type and a remedy;
/// [`InvalidInput`](crate::ErrorKind::InvalidInput) when two columns have one name.
pub fn iceberg_schema(schema: &ArrowSchema, version: FormatVersion) -> Result<Schema> {
    let mut ids = 0;
    let fields = fresh_fields(schema.fields(), "", version, &mut ids)?;
    Schema::builder()
        .with_fields(fields)
        .build()
        .map_err(|e| Error::invalid_input(e.message().to_string()).with_source(e))
}

/// The Iceberg type of one Arrow field, for a column that is added to a table. Ids inside nested types count up from
/// the one after `last_id`, which is left at the last one used.
///
/// # Errors
/// As [`iceberg_schema`].
pub fn iceberg_type(field: &Field, version: FormatVersion, last_id: &mut i32) -> Result<Type> {
    fresh_type(field, field.name(), version, last_id)
}

fn fresh_fields(
    fields: &Fields,
    parent: &str,
    version: FormatVersion,
    last_id: &mut i32,
) -> Result<Vec<NestedFieldRef>> {
    let ids: Vec<i32> = fields.iter().map(|_| next(last_id)).collect();
    fields
        .iter()
        .zip(ids)
        .map(|(field, id)| {
            let field_type = fresh_type(field, &join(parent, field.name()), version, last_id)?;
            Ok(with_doc(NestedField::new(id, field.name(), field_type, !field.is_nullable()), field))
        })
        .collect()
}

fn next(last_id: &mut i32) -> i32 {
    *last_id += 1;
    *last_id
}

/// The format has descriptions of columns and of structs' fields only.
fn with_doc(nested: NestedField, arrow: &Field) -> NestedFieldRef {
    match arrow.metadata().get(DOC_KEY) {
        Some(doc) => nested.with_doc(members::text_doc(doc)).into(),
        None => nested.into(),
    }
}

fn fresh_type(field: &Field, path: &str, version: FormatVersion, last_id: &mut i32) -> Result<Type> {
    Ok(match field.data_type() {
        DataType::Struct(fields) => {
            Type::Struct(StructType::new(fresh_fields(fields, path, version, last_id)?))
        }
        DataType::List(element)
        | DataType::LargeList(element)
        | DataType::ListView(element)
        | DataType::LargeListView(element)
        | DataType::FixedSizeList(element, _) => {
            let id = next(last_id);
            let element_type = fresh_type(element, &join(path, "element"), version, last_id)?;
            let nested = NestedField::list_element(id, element_type, !element.is_nullable());
            Type::List(ListType::new(nested.into()))
        }
        DataType::Map(entries, _) => {
            let (key, value) = map_fields(entries)
                .ok_or_else(|| no_type(field, path, "its entries are not a struct of two fields"))?;
            let (key_id, value_id) = (next(last_id), next(last_id));
            let key_type = fresh_type(key, &join(path, "key"), version, last_id)?;
            let value_type = fresh_type(value, &join(path, "value"), version, last_id)?;
            Type::Map(MapType::new(
                NestedField::map_key_element(key_id, key_type).into(),
                NestedField::map_value_element(value_id, value_type, !value.is_nullable()).into(),
            ))
        }
        DataType::Dictionary(_, values) => {
            fresh_type(&field.clone().with_data_type(values.as_ref().clone()), path, version, last_id)?
        }
        DataType::RunEndEncoded(_, values) => {
            fresh_type(&field.clone().with_data_type(values.data_type().clone()), path, version, last_id)?
        }
        _ => Type::Primitive(fresh_primitive(field, path, version)?),
    })
}

fn map_fields(entries: &FieldRef) -> Option<(&FieldRef, &FieldRef)> {
    match entries.data_type() {
        DataType::Struct(fields) => match fields.as_ref() {
            [key, value] => Some((key, value)),
            _ => None,
        },
        _ => None,
    }
}

fn no_type(field: &Field, path: &str, why: &str) -> Error {
    Error::unsupported(format!("no Iceberg type holds this column's values: {why}"))
        .with("column", path)
        .with("type", field.data_type())
}

fn fresh_primitive(field: &Field, path: &str, version: FormatVersion) -> Result<PrimitiveType> {
    let nanos = || match version {
        FormatVersion::V3 => Ok(()),
        _ => Err(no_type(
            field,
            path,
            "nanoseconds need format version 3; cast the column to microseconds, or create the table with format-version 3",
        )),
    };
    Ok(match field.data_type() {
        DataType::Boolean => PrimitiveType::Boolean,
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::UInt8 | DataType::UInt16 => {
            PrimitiveType::Int
        }
        DataType::Int64 | DataType::UInt32 => PrimitiveType::Long,
        DataType::UInt64 => {
            return Err(no_type(
                field,
                path,
                "it may exceed 64 signed bits; cast it to a 64-bit signed integer or to decimal(20, 0)",
            ));
        }
        DataType::Float16 | DataType::Float32 => PrimitiveType::Float,
        DataType::Float64 => PrimitiveType::Double,
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale)
        | DataType::Decimal256(precision, scale) => {
            let why = "a decimal has at most 38 digits and a scale from 0 to their number; cast it to one that does";
            if !(1..=38).contains(precision) || *scale < 0 || *scale as u8 > *precision {
                return Err(no_type(field, path, why));
            }
            PrimitiveType::Decimal { precision: u32::from(*precision), scale: *scale as u32 }
        }
        DataType::Date32 | DataType::Date64 => PrimitiveType::Date,
        DataType::Time32(_) | DataType::Time64(TimeUnit::Microsecond) => PrimitiveType::Time,
        DataType::Time64(_) => {
            return Err(no_type(field, path, "a time of day has microseconds; cast it to them"));
        }
        DataType::Timestamp(TimeUnit::Nanosecond, zone) => {
            nanos()?;
            if zone.is_some() { PrimitiveType::TimestamptzNs } else { PrimitiveType::TimestampNs }
        }
        DataType::Timestamp(_, zone) => {
            if zone.is_some() {
                PrimitiveType::Timestamptz
            } else {
                PrimitiveType::Timestamp
            }
        }
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => PrimitiveType::String,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => PrimitiveType::Binary,
        DataType::FixedSizeBinary(16)
            if field.metadata().get(EXTENSION_NAME_KEY).is_some_and(|name| name == UUID_EXTENSION) =>
        {
            PrimitiveType::Uuid
        }
        DataType::FixedSizeBinary(length) if *length > 0 => PrimitiveType::Fixed(*length as u64),
        DataType::Null => {
            return Err(no_type(
                field,
                path,
                "it has no type, only NULLs; cast it to the type that it will have",
            ));
        }
        _ => return Err(no_type(field, path, "cast it to a type that Iceberg has, or leave it out")),
    })
}

/// The Parquet schema of a table's data files, exactly as the Iceberg specification maps types: `uuid` with its logical
/// type, decimals as INT32, INT64 or fixed bytes by precision, field ids on every field. Arrow's own conversion leaves the
/// first out, so a writer is to be given this one (`ArrowWriterOptions::with_parquet_schema`).
///
/// # Errors
/// [`Unsupported`](crate::ErrorKind::Unsupported) naming the column: what [`arrow_schema()`] refuses, and structs without
/// fields, which Parquet can't hold.
pub fn parquet_schema(schema: &Schema) -> Result<SchemaDescriptor> {
    let fields = parquet_fields(schema.as_struct(), "")?;
    let root = ParquetType::group_type_builder("table").with_fields(fields).build()?;
    Ok(SchemaDescriptor::new(Arc::new(root)))
}

fn parquet_fields(fields: &StructType, parent: &str) -> Result<Vec<Arc<ParquetType>>> {
    fields.fields().iter().map(|field| parquet_field(field, parent)).collect()
}

fn parquet_field(field: &NestedField, parent: &str) -> Result<Arc<ParquetType>> {
    let path = join(parent, &field.name);
    let repetition = if field.required { Repetition::REQUIRED } else { Repetition::OPTIONAL };
    let group = |fields, logical| {
        ParquetType::group_type_builder(&field.name)
            .with_repetition(repetition)
            .with_id(Some(field.id))
            .with_logical_type(logical)
            .with_fields(fields)
            .build()
    };
    let repeated = |name: &str, fields| {
        ParquetType::group_type_builder(name)
            .with_repetition(Repetition::REPEATED)
            .with_fields(fields)
            .build()
            .map(Arc::new)
    };
    let built = match field.field_type.as_ref() {
        Type::Primitive(primitive) => parquet_primitive(field, primitive, repetition, &path)?,
        Type::Struct(fields) if fields.fields().is_empty() => {
            return Err(Error::unsupported(
                "Parquet can't hold a struct without fields; add one, or drop the column",
            )
            .with("column", path));
        }
        Type::Struct(fields) => group(parquet_fields(fields, &path)?, None)?,
        Type::List(list) => {
            let element = parquet_field(&list.element_field, &path)?;
            group(vec![repeated("list", vec![element])?], Some(LogicalType::List))?
        }
        Type::Map(map) => {
            let entry = vec![parquet_field(&map.key_field, &path)?, parquet_field(&map.value_field, &path)?];
            group(vec![repeated(MAP_ENTRIES, entry)?], Some(LogicalType::Map))?
        }
    };
    Ok(Arc::new(built))
}

fn parquet_primitive(
    field: &NestedField,
    of: &PrimitiveType,
    repetition: Repetition,
    path: &str,
) -> Result<ParquetType> {
    if foreign_kind(of).is_some() {
        return Err(Error::unsupported("columns of this type can't be written; write with another engine")
            .with("column", path)
            .with("type", primitive_text(of)));
    }
    // Refuses what Arrow can't hold, so that the casts below are of small numbers.
    arrow_primitive(of, path)?;
    let timestamp = |is_adjusted_to_u_t_c, unit| {
        (Physical::INT64, Some(LogicalType::Timestamp { is_adjusted_to_u_t_c, unit }))
    };
    let mut length = -1;
    let (physical, logical) = match of {
        PrimitiveType::Boolean => (Physical::BOOLEAN, None),
        PrimitiveType::Int => (Physical::INT32, None),
        PrimitiveType::Long => (Physical::INT64, None),
        PrimitiveType::Float => (Physical::FLOAT, None),
        PrimitiveType::Double => (Physical::DOUBLE, None),
        PrimitiveType::Decimal { precision, scale } => {
            let physical = match precision {
                ..=9 => Physical::INT32,
                10..=18 => Physical::INT64,
                _ => {
                    length = Type::decimal_required_bytes(*precision)? as i32;
                    Physical::FIXED_LEN_BYTE_ARRAY
                }
            };
            (physical, Some(LogicalType::Decimal { scale: *scale as i32, precision: *precision as i32 }))
        }
        PrimitiveType::Date => (Physical::INT32, Some(LogicalType::Date)),
        PrimitiveType::Time => (
            Physical::INT64,
            Some(LogicalType::Time { is_adjusted_to_u_t_c: false, unit: ParquetUnit::MICROS }),
        ),
        PrimitiveType::Timestamp => timestamp(false, ParquetUnit::MICROS),
        PrimitiveType::Timestamptz => timestamp(true, ParquetUnit::MICROS),
        PrimitiveType::TimestampNs => timestamp(false, ParquetUnit::NANOS),
        PrimitiveType::TimestamptzNs => timestamp(true, ParquetUnit::NANOS),
        PrimitiveType::String => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
        PrimitiveType::Uuid => {
            length = 16;
            (Physical::FIXED_LEN_BYTE_ARRAY, Some(LogicalType::Uuid))
        }
        PrimitiveType::Fixed(bytes) => {
            length = *bytes as i32;
            (Physical::FIXED_LEN_BYTE_ARRAY, None)
        }
        PrimitiveType::Binary => (Physical::BYTE_ARRAY, None),
    };
    let mut builder = ParquetType::primitive_type_builder(&field.name, physical)
        .with_repetition(repetition)
        .with_id(Some(field.id))
        .with_length(length)
        .with_logical_type(logical);
    if let PrimitiveType::Decimal { precision, scale } = of {
        builder = builder.with_precision(*precision as i32).with_scale(*scale as i32);
    }
    Ok(builder.build()?)
}

fn join(parent: &str, name: &str) -> String {
    if parent.is_empty() { name.to_string() } else { format!("{parent}.{name}") }
}

#[cfg(test)]
mod tests;
