//! Partition values of rows: which partition each row of a batch belongs to, and that partition's value and path.

mod key;
mod path;
mod set;
pub(crate) mod transform;

use std::collections::HashMap;
use std::hash::Hash;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowPrimitiveType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int32Type, Int64Type,
    Time64MicrosecondType, TimestampMicrosecondType, TimestampNanosecondType,
};
use arrow_array::{Array, ArrayRef, RecordBatch, make_array};
use arrow_buffer::NullBuffer;
use arrow_schema::{DataType, TimeUnit};
use iceberg::spec::{
    Literal, NestedField, PartitionSpec, PrimitiveLiteral, PrimitiveType, Schema, Struct, StructType,
    Transform, Type,
};

use crate::error::{Error, Result};

pub(crate) use key::{PartitionKey, PartitionKeys};
pub use path::human as human_partition_value;
pub(crate) use set::PartitionSet;
pub use transform::transform_array;

/// Sorts rows into the partitions of one spec. Partitions are numbered from 0 in the order in which they are met, for the
/// partitioner's whole life.
///
/// ```
/// # use std::sync::Arc;
/// # use icefield_core::format::{Partitioner, arrow_schema};
/// # use iceberg::spec::*;
/// # use arrow_array::{RecordBatch, Int32Array};
/// let schema = Schema::builder()
///     .with_fields([NestedField::optional(1, "day", Type::Primitive(PrimitiveType::Date)).into()])
///     .build()?;
/// let spec = PartitionSpec::builder(schema.clone()).add_partition_field("day", "month", Transform::Month)?.build()?;
/// let days = arrow_array::Date32Array::from(vec![Some(0), Some(-1), None, Some(30)]);
/// let batch = RecordBatch::try_new(arrow_schema(&schema)?, vec![Arc::new(days)])?;
///
/// let mut partitioner = Partitioner::new(&spec, &schema)?;
/// assert_eq!(partitioner.assign(&batch)?, [0, 1, 2, 0]);
/// let paths: Vec<String> = partitioner.values().iter().map(|value| partitioner.path(value)).collect();
/// assert_eq!(paths, ["month=1970-01", "month=1969-12", "month=null"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Partitioner {
    spec_id: i32,
    fields: Vec<Field>,
    numbers: HashMap<Vec<u8>, u32>,
    values: Vec<Struct>,
}

#[derive(Debug, Clone)]
struct Field {
    name: String,
    /// The source column's position in the schema, and then within each struct.
    source: Vec<usize>,
    transform: Transform,
    result: PrimitiveType,
}

impl Partitioner {
    /// A partitioner for a spec over batches of a schema.
    ///
    /// # Errors
    /// [`Unsupported`](crate::ErrorKind::Unsupported) when a transform is unknown or its column is in a list or map;
    /// [`DataInvalid`](crate::ErrorKind::DataInvalid) when the schema lacks the column of a transform other than `void`, or
    /// the transform is not defined for it.
    pub fn new(spec: &PartitionSpec, schema: &Schema) -> Result<Self> {
        let mut fields = Vec::with_capacity(spec.fields().len());
        for field in spec.fields() {
            let about = |e: Error| {
                e.with("partition field", &field.name)
                    .with("transform", field.transform)
                    .with("spec", spec.spec_id())
            };
            let source = position(schema.as_struct(), field.source_id);
            let (source, column) = match (source, field.transform) {
                (Some(found), _) => found,
                // A dropped field of format version 1, of a column that may be dropped too.
                (None, Transform::Void) => {
                    fields.push(Field {
                        name: field.name.clone(),
                        source: Vec::new(),
                        transform: Transform::Void,
                        result: PrimitiveType::Int,
                    });
                    continue;
                }
                (None, _) => {
                    let message = "the partition field's column is not in the schema, or is inside a list or map; change the partition spec";
                    return Err(about(Error::data_invalid(message)));
                }
            };
            if field.transform == Transform::Unknown {
                let message = "rows can't be partitioned by a transform that this version does not know; change the partition spec";
                return Err(about(Error::unsupported(message)));
            }
            let Type::Primitive(result) =
                field.transform.result_type(&column.field_type).map_err(|e| about(e.into()))?
            else {
                return Err(about(Error::data_invalid(
                    "a partition field's column is a primitive one; change the spec",
                )));
            };
            fields.push(Field { name: field.name.clone(), source, transform: field.transform, result });
        }
        Ok(Self { spec_id: spec.spec_id(), fields, numbers: HashMap::new(), values: Vec::new() })
    }

    /// The spec's id.
    pub fn spec_id(&self) -> i32 {
        self.spec_id
    }

    /// The values of the partitions met so far, by their numbers.
    pub fn values(&self) -> &[Struct] {
        &self.values
    }

    /// Each row's partition values, one array a partition field, NULL where the source is NULL or inside a NULL struct. The
    /// batch has the table's columns as [`arrow_schema`](super::arrow_schema) has them.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) when the batch lacks a column;
    /// [`Unsupported`](crate::ErrorKind::Unsupported) when a transform is not defined for it.
    pub fn columns(&self, batch: &RecordBatch) -> Result<Vec<ArrayRef>> {
        self.fields
            .iter()
            .map(|field| {
                if field.source.is_empty() {
                    return Ok(arrow_array::new_null_array(&DataType::Int32, batch.num_rows()));
                }
                let source = source_column(batch, &field.source).ok_or_else(|| {
                    Error::invalid_input("the batch lacks a column that the table is partitioned by; give it all columns of the schema")
                        .with("partition field", &field.name)
                })?;
                transform::transform_array(field.transform, &source).map_err(|e| e.with("partition field", &field.name))
            })
            .collect()
    }

    /// The number of each row's partition. The batch is as for [`columns`](Self::columns).
    ///
    /// # Errors
    /// As [`columns`](Self::columns).
    pub fn assign(&mut self, batch: &RecordBatch) -> Result<Vec<u32>> {
        let columns = self.columns(batch)?;
        let mut of_row = vec![0_u32; batch.num_rows()];
        let mut first_rows: Vec<usize> = if batch.num_rows() == 0 { Vec::new() } else { vec![0] };
        for column in &columns {
            let codes = codes(column)?;
            let mut combined = HashMap::new();
            first_rows.clear();
            let mut last: Option<((u32, u32), u32)> = None;
            for (row, (number, code)) in of_row.iter_mut().zip(&codes).enumerate() {
                let key = (*number, *code);
                *number = match last {
                    Some((known, number)) if known == key => number,
                    _ => *combined.entry(key).or_insert_with(|| {
                        first_rows.push(row);
                        first_rows.len() as u32 - 1
                    }),
                };
                last = Some((key, *number));
            }
        }
        let numbers =
            first_rows.into_iter().map(|row| self.number(&columns, row)).collect::<Result<Vec<u32>>>()?;
        for number in &mut of_row {
            *number = numbers[*number as usize];
        }
        Ok(of_row)
    }

    /// The partition's part of a data file's path, `name=value` parts joined by `/`, as Iceberg Java writes it: URL-encoded,
    /// dates and times readable, `null` for NULL. Empty for an unpartitioned spec.
    pub fn path(&self, value: &Struct) -> String {
        let parts: Vec<String> = self
            .fields
            .iter()
            .zip(value.iter())
            .map(|(field, value)| {
                let value = path::human(field.transform, &field.result, value);
                format!("{}={}", path::escape(&field.name), path::escape(&value))
            })
            .collect();
        parts.join("/")
    }

    fn number(&mut self, columns: &[ArrayRef], row: usize) -> Result<u32> {
        let mut key = Vec::new();
        let mut literals = Vec::with_capacity(columns.len());
        for (field, column) in self.fields.iter().zip(columns) {
            let literal = literal_at(column, row, &field.result)?;
            encode(literal.as_ref(), &mut key);
            literals.push(literal.map(Literal::Primitive));
        }
        if let Some(number) = self.numbers.get(&key) {
            return Ok(*number);
        }
        let number = self.values.len() as u32;
        self.numbers.insert(key, number);
        self.values.push(Struct::from_iter(literals));
        Ok(number)
    }
}

/// The rows of each partition among row-by-row partition numbers, ascending in both; the partitioner's other half.
///
/// ```
/// use icefield_core::format::rows_by_partition;
///
/// assert_eq!(rows_by_partition(&[3, 0, 3]), [(0, vec![1]), (3, vec![0, 2])]);
/// ```
pub fn rows_by_partition(numbers: &[u32]) -> Vec<(u32, Vec<u32>)> {
    let mut rows = std::collections::BTreeMap::<u32, Vec<u32>>::new();
    let mut from = 0;
    for run in numbers.chunk_by(|a, b| a == b) {
        let to = from + run.len() as u32;
        rows.entry(run[0]).or_default().extend(from..to);
        from = to;
    }
    rows.into_iter().collect()
}

/// A column's position at each level of structs, and the column.
fn position(fields: &StructType, id: i32) -> Option<(Vec<usize>, &NestedField)> {
    fields.fields().iter().enumerate().find_map(|(i, field)| {
        if field.id == id {
            return Some((vec![i], field.as_ref()));
        }
        let Type::Struct(inner) = field.field_type.as_ref() else { return None };
        let (mut path, found) = position(inner, id)?;
        path.insert(0, i);
        Some((path, found))
    })
}

/// A column of a batch, NULL where a struct around it is.
fn source_column(batch: &RecordBatch, path: &[usize]) -> Option<ArrayRef> {
    let (first, rest) = path.split_first()?;
    let mut column = batch.columns().get(*first)?.clone();
    let mut nulls: Option<NullBuffer> = None;
    for position in rest {
        nulls = NullBuffer::union(nulls.as_ref(), column.nulls());
        column = column.as_struct_opt()?.columns().get(*position)?.clone();
    }
    if nulls.is_none() {
        return Some(column);
    }
    let nulls = NullBuffer::union(nulls.as_ref(), column.nulls());
    Some(make_array(column.to_data().into_builder().nulls(nulls).build().ok()?))
}

/// A number for each row such that equal values, and only they, have equal numbers.
fn codes(column: &ArrayRef) -> Result<Vec<u32>> {
    use DataType as D;
    Ok(match column.data_type() {
        D::Boolean => distinct(column.as_boolean().iter()),
        D::Int32 => primitive_codes::<Int32Type>(column),
        D::Int64 => primitive_codes::<Int64Type>(column),
        D::Date32 => primitive_codes::<Date32Type>(column),
        D::Time64(TimeUnit::Microsecond) => primitive_codes::<Time64MicrosecondType>(column),
        D::Timestamp(TimeUnit::Microsecond, _) => primitive_codes::<TimestampMicrosecondType>(column),
        D::Timestamp(TimeUnit::Nanosecond, _) => primitive_codes::<TimestampNanosecondType>(column),
        D::Decimal128(_, _) => primitive_codes::<Decimal128Type>(column),
        // All NaNs are one partition, the two zeros are two: a reader may take a column's value from the partition's.
        D::Float32 => {
            distinct(column.as_primitive::<Float32Type>().iter().map(|v| v.map(|v| float_bits(v.into()))))
        }
        D::Float64 => distinct(column.as_primitive::<Float64Type>().iter().map(|v| v.map(float_bits))),
        D::Utf8 => distinct(column.as_string::<i32>().iter()),
        D::LargeUtf8 => distinct(column.as_string::<i64>().iter()),
        D::Utf8View => distinct(column.as_string_view().iter()),
        D::Binary => distinct(column.as_binary::<i32>().iter()),
        D::LargeBinary => distinct(column.as_binary::<i64>().iter()),
        D::BinaryView => distinct(column.as_binary_view().iter()),
        D::FixedSizeBinary(_) => distinct(column.as_fixed_size_binary().iter()),
        other => return Err(wrong_shape(other)),
    })
}

fn wrong_shape(found: &DataType) -> Error {
    Error::invalid_input(
        "a partition column is not in the table's Arrow form; cast the batch to the table's schema",
    )
    .with("type", found)
}

fn primitive_codes<T: ArrowPrimitiveType>(column: &ArrayRef) -> Vec<u32>
where
    T::Native: Hash + Eq,
{
    distinct(column.as_primitive::<T>().iter())
}

fn distinct<V: Hash + Eq + Copy>(values: impl Iterator<Item = V>) -> Vec<u32> {
    let mut known: HashMap<V, u32> = HashMap::new();
    let mut last: Option<(V, u32)> = None;
    values
        .map(|value| {
            if let Some((same, code)) = last
                && same == value
            {
                return code;
            }
            let next = known.len() as u32;
            let code = *known.entry(value).or_insert(next);
            last = Some((value, code));
            code
        })
        .collect()
}

fn float_bits(value: f64) -> u64 {
    if value.is_nan() { f64::NAN.to_bits() } else { value.to_bits() }
}

fn literal_at(column: &ArrayRef, row: usize, of: &PrimitiveType) -> Result<Option<PrimitiveLiteral>> {
    use DataType as D;
    use PrimitiveLiteral as L;
    if column.is_null(row) {
        return Ok(None);
    }
    Ok(Some(match column.data_type() {
        D::Boolean => L::Boolean(column.as_boolean().value(row)),
        D::Int32 => L::Int(column.as_primitive::<Int32Type>().value(row)),
        D::Int64 => L::Long(column.as_primitive::<Int64Type>().value(row)),
        D::Date32 => L::Int(column.as_primitive::<Date32Type>().value(row)),
        D::Time64(TimeUnit::Microsecond) => {
            L::Long(column.as_primitive::<Time64MicrosecondType>().value(row))
        }
        D::Timestamp(TimeUnit::Microsecond, _) => {
            L::Long(column.as_primitive::<TimestampMicrosecondType>().value(row))
        }
        D::Timestamp(TimeUnit::Nanosecond, _) => {
            L::Long(column.as_primitive::<TimestampNanosecondType>().value(row))
        }
        D::Decimal128(_, _) => L::Int128(column.as_primitive::<Decimal128Type>().value(row)),
        D::Float32 => L::Float(column.as_primitive::<Float32Type>().value(row).into()),
        D::Float64 => L::Double(column.as_primitive::<Float64Type>().value(row).into()),
        D::Utf8 => L::String(column.as_string::<i32>().value(row).to_string()),
        D::LargeUtf8 => L::String(column.as_string::<i64>().value(row).to_string()),
        D::Utf8View => L::String(column.as_string_view().value(row).to_string()),
        D::Binary => L::Binary(column.as_binary::<i32>().value(row).to_vec()),
        D::LargeBinary => L::Binary(column.as_binary::<i64>().value(row).to_vec()),
        D::BinaryView => L::Binary(column.as_binary_view().value(row).to_vec()),
        D::FixedSizeBinary(_) => {
            let bytes = column.as_fixed_size_binary().value(row);
            match (of, <[u8; 16]>::try_from(bytes)) {
                (PrimitiveType::Uuid, Ok(bytes)) => L::UInt128(u128::from_be_bytes(bytes)),
                _ => L::Binary(bytes.to_vec()),
            }
        }
        other => return Err(wrong_shape(other)),
    }))
}

/// Appends a value so that equal keys are equal values and no others. (`PrimitiveLiteral` takes the two zeros for one.)
fn encode(value: Option<&PrimitiveLiteral>, key: &mut Vec<u8>) {
    use PrimitiveLiteral as L;
    let Some(value) = value else {
        key.push(0);
        return;
    };
    key.push(1);
    match value {
        L::Boolean(value) => key.push(u8::from(*value)),
        L::Int(value) => key.extend(value.to_be_bytes()),
        L::Long(value) => key.extend(value.to_be_bytes()),
        L::Float(value) => key.extend(float_bits(value.0.into()).to_be_bytes()),
        L::Double(value) => key.extend(float_bits(value.0).to_be_bytes()),
        L::Int128(value) => key.extend(value.to_be_bytes()),
        L::UInt128(value) => key.extend(value.to_be_bytes()),
        L::String(value) => encode_bytes(value.as_bytes(), key),
        L::Binary(value) => encode_bytes(value, key),
        L::AboveMax | L::BelowMin => {}
    }
}

fn encode_bytes(bytes: &[u8], key: &mut Vec<u8>) {
    key.extend((bytes.len() as u64).to_be_bytes());
    key.extend(bytes);
}

#[cfg(test)]
mod tests;
