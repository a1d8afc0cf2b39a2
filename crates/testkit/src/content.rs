//! [`content_hash`]: a hash over rows, whatever their order, that the referee engines compute too.
//!
//! A row is its columns' texts joined by `|`; the hash is the sum, modulo 2^128, of the first 16 bytes of each row's
//! SHA-256. The text of a value: `~` for null, `true` and `false`, integers and days and microseconds (nanoseconds for
//! the nanosecond types) since the epoch in decimal, floats as the hexadecimal of their bits with -0.0 folded into 0.0
//! and every NaN into one, decimals in plain notation, UUIDs with dashes, bytes in hexadecimal, text with `\`, `|` and
//! line feeds escaped, `{a,b,}` for structs, `[a,b,]` for lists and `<k:v,k:v>` sorted for maps.

use std::fmt;

use arrow::array::{Array, ArrayRef, AsArray, GenericListArray, MapArray, OffsetSizeTrait, StructArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int64Type, TimeUnit};
use arrow::record_batch::RecordBatch;
use iceberg::spec::{PrimitiveType, Schema, Type};
use sha2::{Digest, Sha256};

/// How many rows there are, and what is in them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// Number of rows.
    pub rows: u64,
    /// The hash: 32 hexadecimal digits.
    pub hash: String,
}

impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rows={} hash={}", self.rows, self.hash)
    }
}

/// The content of batches whose columns, found by name at every level, are those of `schema`.
///
/// # Panics
/// When a column is missing or is not of its Iceberg type.
pub fn content_hash<'a>(batches: impl IntoIterator<Item = &'a RecordBatch>, schema: &Schema) -> Content {
    let (mut rows, mut total) = (0_u64, 0_u128);
    for batch in batches {
        let columns: Vec<Vec<String>> = schema
            .as_struct()
            .fields()
            .iter()
            .map(|field| {
                let column = batch.column_by_name(&field.name);
                let column = column.unwrap_or_else(|| panic!("no column {:?} in the batch", field.name));
                texts(column, &field.field_type)
            })
            .collect();
        for row in 0..batch.num_rows() {
            let mut hash = Sha256::new();
            for (i, column) in columns.iter().enumerate() {
                if i > 0 {
                    hash.update(b"|");
                }
                hash.update(column[row].as_bytes());
            }
            let digest = hash.finalize();
            let first: [u8; 16] = digest[..16].try_into().expect("SHA-256 has 32 bytes");
            total = total.wrapping_add(u128::from_be_bytes(first));
            rows += 1;
        }
    }
    Content { rows, hash: format!("{total:032x}") }
}

fn texts(array: &ArrayRef, field_type: &Type) -> Vec<String> {
    let mut texts = match field_type {
        Type::Primitive(primitive) => primitive_texts(array, primitive),
        Type::Struct(of) => {
            let array = array.as_any().downcast_ref::<StructArray>().expect("a struct array");
            let mut texts = vec!["{".to_string(); array.len()];
            for field in of.fields() {
                let child = array.column_by_name(&field.name);
                let child = child.unwrap_or_else(|| panic!("no field {:?} in the struct", field.name));
                for (text, value) in texts.iter_mut().zip(self::texts(child, &field.field_type)) {
                    text.push_str(&value);
                    text.push(',');
                }
            }
            texts.iter_mut().for_each(|text| text.push('}'));
            texts
        }
        Type::List(of) => match array.data_type() {
            DataType::LargeList(_) => list_texts(array.as_list::<i64>(), &of.element_field.field_type),
            _ => list_texts(array.as_list::<i32>(), &of.element_field.field_type),
        },
        Type::Map(of) => {
            let array = array.as_any().downcast_ref::<MapArray>().expect("a map array");
            let keys = self::texts(array.keys(), &of.key_field.field_type);
            let values = self::texts(array.values(), &of.value_field.field_type);
            array
                .offsets()
                .windows(2)
                .map(|range| {
                    let mut entries: Vec<_> = (range[0] as usize..range[1] as usize)
                        .map(|i| format!("{}:{}", keys[i], values[i]))
                        .collect();
                    entries.sort();
                    format!("<{}>", entries.join(","))
                })
                .collect()
        }
    };
    if let Some(nulls) = array.logical_nulls() {
        for (i, text) in texts.iter_mut().enumerate() {
            if nulls.is_null(i) {
                *text = "~".to_string();
            }
        }
    }
    texts
}

fn list_texts<O: OffsetSizeTrait>(array: &GenericListArray<O>, element: &Type) -> Vec<String> {
    let elements = texts(array.values(), element);
    let mut texts = Vec::with_capacity(array.len());
    for range in array.offsets().windows(2) {
        let mut text = "[".to_string();
        for element in &elements[range[0].as_usize()..range[1].as_usize()] {
            text.push_str(element);
            text.push(',');
        }
        text.push(']');
        texts.push(text);
    }
    texts
}

/// The texts of a column's values; what stands where a value is null is of no account.
fn primitive_texts(array: &ArrayRef, primitive: &PrimitiveType) -> Vec<String> {
    let to = |to: DataType| {
        cast(array, &to).unwrap_or_else(|e| panic!("{} is not of type {primitive}: {e}", array.data_type()))
    };
    let longs = |array: ArrayRef| -> Vec<i64> { array.as_primitive::<Int64Type>().values().to_vec() };
    match primitive {
        PrimitiveType::Boolean => {
            let array = array.as_boolean();
            (0..array.len()).map(|i| array.value(i).to_string()).collect()
        }
        PrimitiveType::Int | PrimitiveType::Long => {
            longs(to(DataType::Int64)).iter().map(i64::to_string).collect()
        }
        PrimitiveType::Float => {
            let array = to(DataType::Float32);
            array.as_primitive::<Float32Type>().values().iter().map(|v| float_text(*v)).collect()
        }
        PrimitiveType::Double => {
            let array = to(DataType::Float64);
            array.as_primitive::<Float64Type>().values().iter().map(|v| double_text(*v)).collect()
        }
        PrimitiveType::Decimal { precision, scale } => {
            let array = to(DataType::Decimal128(*precision as u8, *scale as i8));
            let array = array.as_primitive::<Decimal128Type>();
            array.values().iter().map(|v| decimal_text(*v, *scale as usize)).collect()
        }
        PrimitiveType::Date => {
            let array = to(DataType::Date32);
            array.as_primitive::<Date32Type>().values().iter().map(i32::to_string).collect()
        }
        PrimitiveType::Time => longs(
            cast(&to(DataType::Time64(TimeUnit::Microsecond)), &DataType::Int64).expect("times are longs"),
        )
        .iter()
        .map(i64::to_string)
        .collect(),
        PrimitiveType::Timestamp | PrimitiveType::Timestamptz => {
            instants(array, 1_000_000).iter().map(i128::to_string).collect()
        }
        PrimitiveType::TimestampNs | PrimitiveType::TimestamptzNs => {
            instants(array, 1_000_000_000).iter().map(i128::to_string).collect()
        }
        PrimitiveType::String => {
            let array = to(DataType::Utf8);
            let array = array.as_string::<i32>();
            (0..array.len())
                .map(|i| array.value(i).replace('\\', "\\\\").replace('|', "\\p").replace('\n', "\\n"))
                .collect()
        }
        PrimitiveType::Uuid => bytes(array).iter().map(|b| uuid_text(b)).collect(),
        PrimitiveType::Fixed(_) | PrimitiveType::Binary => bytes(array).iter().map(|b| hex(b)).collect(),
    }
}

/// Times since the epoch in units of which `per_second` make a second.
fn instants(array: &ArrayRef, per_second: i128) -> Vec<i128> {
    let DataType::Timestamp(unit, _) = array.data_type() else {
        panic!("{} is not a timestamp", array.data_type());
    };
    let theirs = match unit {
        TimeUnit::Second => 1,
        TimeUnit::Millisecond => 1_000,
        TimeUnit::Microsecond => 1_000_000,
        TimeUnit::Nanosecond => 1_000_000_000,
    };
    let raw = cast(array, &DataType::Int64).expect("timestamps are longs");
    raw.as_primitive::<Int64Type>()
        .values()
        .iter()
        .map(|v| (i128::from(*v) * per_second).div_euclid(theirs))
        .collect()
}

fn bytes(array: &ArrayRef) -> Vec<Vec<u8>> {
    if let DataType::FixedSizeBinary(_) = array.data_type() {
        let array = array.as_fixed_size_binary();
        return (0..array.len()).map(|i| array.value(i).to_vec()).collect();
    }
    let array = cast(array, &DataType::Binary).expect("a binary array");
    let array = array.as_binary::<i32>();
    (0..array.len()).map(|i| array.value(i).to_vec()).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn uuid_text(bytes: &[u8]) -> String {
    // Where the value is null its bytes may be of any length.
    bytes.try_into().map(|b| uuid::Uuid::from_bytes(b).to_string()).unwrap_or_default()
}

fn float_text(v: f32) -> String {
    let bits = if v.is_nan() { 0x7fc0_0000 } else { (v + 0.0).to_bits() };
    format!("{bits:08x}")
}

fn double_text(v: f64) -> String {
    let bits = if v.is_nan() { 0x7ff8_0000_0000_0000 } else { (v + 0.0).to_bits() };
    format!("{bits:016x}")
}

fn decimal_text(unscaled: i128, scale: usize) -> String {
    let sign = if unscaled < 0 { "-" } else { "" };
    let digits = format!("{:0>width$}", unscaled.unsigned_abs(), width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    if scale == 0 { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_those_of_the_referees() {
        let cases = [
            (decimal_text(5, 2), "0.05"),
            (decimal_text(-12345, 2), "-123.45"),
            (decimal_text(0, 3), "0.000"),
            (decimal_text(-7, 0), "-7"),
            (float_text(-0.0), "00000000"),
            (float_text(1.0), "3f800000"),
            (float_text(-f32::NAN), "7fc00000"),
            (double_text(-0.0), "0000000000000000"),
            (double_text(f64::NAN), "7ff8000000000000"),
            (double_text(-1.5), "bff8000000000000"),
            (uuid_text(&[0xab; 16]), "abababab-abab-abab-abab-abababababab"),
            (hex(&[0, 255]), "00ff"),
        ];
        for (got, want) in cases {
            assert_eq!(got, want);
        }
    }

    #[test]
    fn a_hash_does_not_depend_on_the_order_of_rows_but_on_every_value() {
        let schema = crate::everything_schema(iceberg::spec::FormatVersion::V2);
        let batch = crate::random_batch(1, &schema, 40);
        let halves = [batch.slice(20, 20), batch.slice(0, 20)];
        let whole = content_hash([&batch], &schema);
        assert_eq!(content_hash(&halves, &schema), whole);
        assert_eq!(whole.rows, 40);
        let other = crate::random_batch(2, &schema, 40);
        assert_ne!(content_hash([&other], &schema).hash, whole.hash);
    }
}
