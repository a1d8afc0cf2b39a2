//! Single values as arrays and arrays' values as literals: write defaults, partition values.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Date32Array, Decimal128Array, FixedSizeBinaryArray,
    Float32Array, Float64Array, Int32Array, Int64Array, StringArray, StructArray, Time64MicrosecondArray,
    TimestampMicrosecondArray, TimestampNanosecondArray, new_null_array,
};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int32Type, Int64Type,
    Time64MicrosecondType, TimeUnit, TimestampMicrosecondType, TimestampNanosecondType,
};
use iceberg::spec::{Literal, PrimitiveLiteral, PrimitiveType, Type};
use icefield_core::{Error, Result};
use uuid::Uuid;

/// A literal of a type, `rows` times.
pub(crate) fn repeat_literal(value: &Literal, of: &Type, arrow: &DataType, rows: usize) -> Result<ArrayRef> {
    let unfit = || {
        Error::data_invalid("the table's metadata has a default that is not of its column's type")
            .with("type", of)
    };
    match (of, value) {
        (Type::Primitive(_), Literal::Primitive(primitive)) => {
            repeat_primitive(primitive, arrow, rows).ok_or_else(unfit)?.map_err(Error::from)
        }
        (Type::Struct(fields), Literal::Struct(values)) => {
            let DataType::Struct(arrow_fields) = arrow else { return Err(unfit()) };
            if values.fields().len() != fields.fields().len() {
                return Err(unfit());
            }
            let mut columns = Vec::with_capacity(arrow_fields.len());
            for ((field, arrow), value) in fields.fields().iter().zip(arrow_fields).zip(values.iter()) {
                columns.push(match value {
                    Some(value) => repeat_literal(value, &field.field_type, arrow.data_type(), rows)?,
                    None => new_null_array(arrow.data_type(), rows),
                });
            }
            Ok(Arc::new(StructArray::try_new_with_length(arrow_fields.clone(), columns, None, rows)?))
        }
        _ => Err(Error::unsupported(
            "default values of lists and maps are not written; give the column values",
        )
        .with("type", of)),
    }
}

fn repeat_primitive(
    value: &PrimitiveLiteral,
    arrow: &DataType,
    rows: usize,
) -> Option<Result<ArrayRef, arrow::error::ArrowError>> {
    use PrimitiveLiteral as L;
    let array: ArrayRef = match (arrow, value) {
        (DataType::Boolean, L::Boolean(v)) => Arc::new(BooleanArray::from(vec![*v; rows])),
        (DataType::Int32, L::Int(v)) => Arc::new(Int32Array::from_value(*v, rows)),
        (DataType::Int64, L::Long(v)) => Arc::new(Int64Array::from_value(*v, rows)),
        // A default that is older than the column's promotion.
        (DataType::Int64, L::Int(v)) => Arc::new(Int64Array::from_value((*v).into(), rows)),
        (DataType::Float32, L::Float(v)) => Arc::new(Float32Array::from_value(v.0, rows)),
        (DataType::Float64, L::Double(v)) => Arc::new(Float64Array::from_value(v.0, rows)),
        (DataType::Float64, L::Float(v)) => Arc::new(Float64Array::from_value(v.0.into(), rows)),
        (DataType::Date32, L::Int(v)) => Arc::new(Date32Array::from_value(*v, rows)),
        (DataType::Time64(TimeUnit::Microsecond), L::Long(v)) => {
            Arc::new(Time64MicrosecondArray::from_value(*v, rows))
        }
        (DataType::Timestamp(TimeUnit::Microsecond, zone), L::Long(v)) => {
            Arc::new(TimestampMicrosecondArray::from_value(*v, rows).with_timezone_opt(zone.clone()))
        }
        (DataType::Timestamp(TimeUnit::Nanosecond, zone), L::Long(v)) => {
            Arc::new(TimestampNanosecondArray::from_value(*v, rows).with_timezone_opt(zone.clone()))
        }
        (DataType::Decimal128(precision, scale), L::Int128(v)) => {
            let array = Decimal128Array::from_value(*v, rows).with_precision_and_scale(*precision, *scale);
            return Some(array.map(|array| Arc::new(array) as ArrayRef));
        }
        (DataType::Utf8, L::String(v)) => Arc::new(StringArray::from_iter_values(vec![v; rows])),
        (DataType::Binary, L::Binary(v)) => Arc::new(BinaryArray::from_iter_values(vec![v; rows])),
        (DataType::FixedSizeBinary(size), L::Binary(v)) => return Some(fixed(v, *size, rows)),
        (DataType::FixedSizeBinary(16), L::UInt128(v)) => return Some(fixed(&v.to_be_bytes(), 16, rows)),
        _ => return None,
    };
    Some(Ok(array))
}

fn fixed(value: &[u8], size: i32, rows: usize) -> Result<ArrayRef, arrow::error::ArrowError> {
    let array =
        FixedSizeBinaryArray::try_from_sparse_iter_with_size(vec![Some(value); rows].into_iter(), size)?;
    Ok(Arc::new(array))
}

/// The value of a row as a literal of a primitive type; `None` is NULL.
pub(crate) fn literal_at(array: &dyn Array, row: usize, of: &PrimitiveType) -> Result<Option<Literal>> {
    if array.is_null(row) {
        return Ok(None);
    }
    let literal = match (of, array.data_type()) {
        (PrimitiveType::Boolean, DataType::Boolean) => Literal::bool(array.as_boolean().value(row)),
        (PrimitiveType::Int, DataType::Int32) => Literal::int(array.as_primitive::<Int32Type>().value(row)),
        (PrimitiveType::Long, DataType::Int64) => Literal::long(array.as_primitive::<Int64Type>().value(row)),
        (PrimitiveType::Float, DataType::Float32) => {
            Literal::float(array.as_primitive::<Float32Type>().value(row))
        }
        (PrimitiveType::Double, DataType::Float64) => {
            Literal::double(array.as_primitive::<Float64Type>().value(row))
        }
        (PrimitiveType::Date, DataType::Date32) => {
            Literal::date(array.as_primitive::<Date32Type>().value(row))
        }
        (PrimitiveType::Time, DataType::Time64(TimeUnit::Microsecond)) => {
            Literal::long(array.as_primitive::<Time64MicrosecondType>().value(row))
        }
        (
            PrimitiveType::Timestamp | PrimitiveType::Timestamptz,
            DataType::Timestamp(TimeUnit::Microsecond, _),
        ) => Literal::long(array.as_primitive::<TimestampMicrosecondType>().value(row)),
        (
            PrimitiveType::TimestampNs | PrimitiveType::TimestamptzNs,
            DataType::Timestamp(TimeUnit::Nanosecond, _),
        ) => Literal::long(array.as_primitive::<TimestampNanosecondType>().value(row)),
        (PrimitiveType::Decimal { .. }, DataType::Decimal128(..)) => {
            Literal::decimal(array.as_primitive::<Decimal128Type>().value(row))
        }
        (PrimitiveType::String, DataType::Utf8) => Literal::string(array.as_string::<i32>().value(row)),
        (PrimitiveType::String, DataType::LargeUtf8) => Literal::string(array.as_string::<i64>().value(row)),
        (PrimitiveType::String, DataType::Utf8View) => Literal::string(array.as_string_view().value(row)),
        (PrimitiveType::Uuid, DataType::FixedSizeBinary(16)) => {
            let bytes = array.as_fixed_size_binary().value(row);
            Literal::uuid(Uuid::from_slice(bytes).unwrap_or_default())
        }
        (PrimitiveType::Fixed(_), DataType::FixedSizeBinary(_)) => {
            Literal::fixed(array.as_fixed_size_binary().value(row).iter().copied())
        }
        (PrimitiveType::Binary, DataType::Binary) => {
            Literal::binary(array.as_binary::<i32>().value(row).to_vec())
        }
        (PrimitiveType::Binary, DataType::LargeBinary) => {
            Literal::binary(array.as_binary::<i64>().value(row).to_vec())
        }
        (PrimitiveType::Binary, DataType::BinaryView) => {
            Literal::binary(array.as_binary_view().value(row).to_vec())
        }
        (_, DataType::Dictionary(_, value)) => {
            let plain = cast(&array.slice(row, 1), value)?;
            return literal_at(&plain, 0, of);
        }
        (_, found) => {
            return Err(Error::internal("an array is not of its column's type")
                .with("type", of)
                .with("array type", found));
        }
    };
    Ok(Some(literal))
}
