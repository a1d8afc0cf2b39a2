//! Tables of every type, and rows for them: the values that break readers and writers are among them.
//!
//! Nulls at every level, NaN and -0.0, text longer than a truncated bound and longer than 64 bytes, text whose last
//! character can't be incremented, times before 1970, decimals of every physical type, empty lists and maps.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, FixedSizeBinaryArray, Float32Array,
    Float64Array, Int32Array, Int64Array, ListArray, MapArray, RecordBatch, StringArray, StructArray,
    Time64MicrosecondArray, TimestampMicrosecondArray, TimestampNanosecondArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Fields};
use iceberg::spec::{
    FormatVersion, ListType, MapType, NestedField, NestedFieldRef, PrimitiveType, Schema, StructType, Type,
};
use icefield_core::format::{arrow_field, arrow_schema};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// A schema with every type of a format version; nanosecond times from v3 on. `id` is required and unique, all else is
/// optional.
pub fn everything_schema(version: FormatVersion) -> Schema {
    use PrimitiveType as P;
    let mut fields = primitive_columns();
    if version >= FormatVersion::V3 {
        fields.push(("t_timestamp_ns", P::TimestampNs.into()));
        fields.push(("t_timestamptz_ns", P::TimestamptzNs.into()));
    }
    fields.extend(nested_columns());
    // Times below a list are in a column of their own: the Python referees print those in another form.
    let times = Shape::List(Box::new(Shape::Of(P::Timestamp)));
    fields.push(("n_times", times));
    Ids(0).schema(fields)
}

/// As [`everything_schema`] without what one of the referees reads or prints in a form of its own (UUIDs, nested times,
/// nanosecond times with a zone, lists and maps of structs, whose nulls PyIceberg takes for empty ones): every engine
/// agrees on its content.
pub fn referee_schema(version: FormatVersion) -> Schema {
    let mut fields = primitive_columns();
    fields.retain(|(name, _)| *name != "t_uuid");
    if version >= FormatVersion::V3 {
        fields.push(("t_timestamp_ns", PrimitiveType::TimestampNs.into()));
    }
    let of_structs = ["n_structs", "n_map_of_structs"];
    fields.extend(nested_columns().into_iter().filter(|(name, _)| !of_structs.contains(name)));
    Ids(0).schema(fields)
}

/// Types without ids.
enum Shape {
    Of(PrimitiveType),
    Struct(Vec<(&'static str, Shape)>),
    List(Box<Shape>),
    Map(PrimitiveType, Box<Shape>),
}

impl From<PrimitiveType> for Shape {
    fn from(primitive: PrimitiveType) -> Self {
        Self::Of(primitive)
    }
}

fn primitive_columns() -> Vec<(&'static str, Shape)> {
    use PrimitiveType as P;
    vec![
        ("id", P::Long.into()),
        ("t_boolean", P::Boolean.into()),
        ("t_int", P::Int.into()),
        ("t_long", P::Long.into()),
        ("t_float", P::Float.into()),
        ("t_double", P::Double.into()),
        ("t_decimal9", P::Decimal { precision: 9, scale: 2 }.into()),
        ("t_decimal18", P::Decimal { precision: 18, scale: 6 }.into()),
        ("t_decimal38", P::Decimal { precision: 38, scale: 10 }.into()),
        ("t_date", P::Date.into()),
        ("t_time", P::Time.into()),
        ("t_timestamp", P::Timestamp.into()),
        ("t_timestamptz", P::Timestamptz.into()),
        ("t_string", P::String.into()),
        ("t_uuid", P::Uuid.into()),
        ("t_fixed", P::Fixed(5).into()),
        ("t_binary", P::Binary.into()),
    ]
}

fn nested_columns() -> Vec<(&'static str, Shape)> {
    use PrimitiveType as P;
    let point = || Shape::Struct(vec![("x", P::Int.into()), ("y", P::Double.into())]);
    let inner =
        Shape::Struct(vec![("d", P::Decimal { precision: 12, scale: 3 }.into()), ("s", P::String.into())]);
    vec![
        ("n_struct", Shape::Struct(vec![("a", P::Int.into()), ("b", P::String.into()), ("deep", inner)])),
        ("n_list", Shape::List(Box::new(P::Int.into()))),
        ("n_structs", Shape::List(Box::new(point()))),
        ("n_lists", Shape::List(Box::new(Shape::List(Box::new(P::String.into()))))),
        ("n_map", Shape::Map(P::String, Box::new(P::Long.into()))),
        ("n_map_of_structs", Shape::Map(P::Int, Box::new(point()))),
    ]
}

struct Ids(i32);

impl Ids {
    fn next(&mut self) -> i32 {
        self.0 += 1;
        self.0
    }

    fn schema(mut self, columns: Vec<(&'static str, Shape)>) -> Schema {
        let mut fields = self.fields(columns);
        fields[0] = NestedField::required(1, "id", PrimitiveType::Long.into()).into();
        Schema::builder().with_fields(fields).build().expect("a valid schema")
    }

    /// Ids as a new table has them: a level's fields first, then what is below each.
    fn fields(&mut self, columns: Vec<(&'static str, Shape)>) -> Vec<NestedFieldRef> {
        let ids: Vec<i32> = columns.iter().map(|_| self.next()).collect();
        ids.into_iter()
            .zip(columns)
            .map(|(id, (name, shape))| NestedField::optional(id, name, self.field_type(shape)).into())
            .collect()
    }

    fn field_type(&mut self, shape: Shape) -> Type {
        match shape {
            Shape::Of(primitive) => primitive.into(),
            Shape::Struct(columns) => StructType::new(self.fields(columns)).into(),
            Shape::List(element) => {
                let id = self.next();
                let element = self.field_type(*element);
                ListType::new(NestedField::list_element(id, element, false).into()).into()
            }
            Shape::Map(key, value) => {
                let (key_id, value_id) = (self.next(), self.next());
                let value = self.field_type(*value);
                MapType::optional(key_id, key.into(), value_id, value).into()
            }
        }
    }
}

/// Batches of random rows of a schema, the same for the same seed. The first `Long` column that is required counts rows
/// from `seed * 1_000_000`; about one value in eight of an optional column is null, and the first row of the first batch
/// is null in all of them.
pub fn random_batches(seed: u64, schema: &Schema, batches: usize, rows: usize) -> Vec<RecordBatch> {
    let mut maker = Maker { rng: StdRng::seed_from_u64(seed), next_id: seed as i64 * 1_000_000, first: true };
    (0..batches).map(|_| maker.batch(schema, rows)).collect()
}

/// One batch; see [`random_batches`].
pub fn random_batch(seed: u64, schema: &Schema, rows: usize) -> RecordBatch {
    random_batches(seed, schema, 1, rows).remove(0)
}

struct Maker {
    rng: StdRng,
    next_id: i64,
    /// Whether the first row is still to come.
    first: bool,
}

impl Maker {
    fn batch(&mut self, schema: &Schema, rows: usize) -> RecordBatch {
        let fields = schema.as_struct().fields();
        let columns = fields.iter().map(|field| self.column(field, rows)).collect();
        self.first = false;
        let arrow = arrow_schema(schema).expect("Arrow has these types");
        RecordBatch::try_new(arrow, columns).expect("the columns fit their schema")
    }

    fn column(&mut self, field: &NestedFieldRef, rows: usize) -> ArrayRef {
        if field.required && *field.field_type == Type::Primitive(PrimitiveType::Long) {
            let ids = Int64Array::from_iter_values(self.next_id..self.next_id + rows as i64);
            self.next_id += rows as i64;
            return Arc::new(ids);
        }
        let mut valid: Vec<bool> =
            (0..rows).map(|_| field.required || !self.rng.random_ratio(1, 8)).collect();
        if self.first && !field.required && rows > 0 {
            valid[0] = false;
        }
        self.array(&field.field_type, &valid)
    }

    /// Values below a list or map: the rule of the first row does not hold for them.
    fn elements(&mut self, field: &NestedFieldRef, rows: usize) -> ArrayRef {
        let valid: Vec<bool> = (0..rows).map(|_| field.required || !self.rng.random_ratio(1, 8)).collect();
        self.array(&field.field_type, &valid)
    }

    fn array(&mut self, field_type: &Type, valid: &[bool]) -> ArrayRef {
        match field_type {
            Type::Primitive(primitive) => self.primitive(primitive, valid),
            Type::Struct(of) => {
                let arrays = of.fields().iter().map(|f| self.elements(f, valid.len())).collect();
                let nulls = Some(NullBuffer::from(valid.to_vec()));
                Arc::new(StructArray::new(arrow_fields(of.fields()), arrays, nulls))
            }
            Type::List(of) => {
                let DataType::List(element) = arrow_type(field_type) else { unreachable!("a list's type") };
                let offsets = self.lengths(valid);
                let count = *offsets.last().expect("offsets are never empty") as usize;
                let values = self.elements(&of.element_field, count);
                let nulls = Some(NullBuffer::from(valid.to_vec()));
                Arc::new(ListArray::new(element, offsets, values, nulls))
            }
            Type::Map(of) => {
                let DataType::Map(entry, sorted) = arrow_type(field_type) else {
                    unreachable!("a map's type")
                };
                let offsets = self.lengths(valid);
                let count = *offsets.last().expect("offsets are never empty") as usize;
                let keys = keys(&of.key_field.field_type, &offsets);
                let values = self.elements(&of.value_field, count);
                let DataType::Struct(fields) = entry.data_type() else { unreachable!("an entry's type") };
                let entries = StructArray::new(fields.clone(), vec![keys, values], None);
                let nulls = Some(NullBuffer::from(valid.to_vec()));
                Arc::new(MapArray::new(entry, offsets, entries, nulls, sorted))
            }
        }
    }

    /// Lists of 0 to 3 elements; of none where a list is null.
    fn lengths(&mut self, valid: &[bool]) -> OffsetBuffer<i32> {
        OffsetBuffer::from_lengths(valid.iter().map(|v| if *v { self.rng.random_range(0..4) } else { 0 }))
    }

    fn values<T>(&mut self, valid: &[bool], mut value: impl FnMut(&mut StdRng) -> T) -> Vec<Option<T>> {
        valid.iter().map(|v| v.then(|| value(&mut self.rng))).collect()
    }

    fn primitive(&mut self, primitive: &PrimitiveType, valid: &[bool]) -> ArrayRef {
        use PrimitiveType as P;
        match primitive {
            P::Boolean => Arc::new(BooleanArray::from(self.values(valid, |r| r.random_bool(0.5)))),
            P::Int => Arc::new(Int32Array::from(self.values(valid, |r| match r.random_range(0..8) {
                0 => i32::MIN,
                1 => i32::MAX,
                2 => 0,
                _ => r.random_range(-1000..1000),
            }))),
            P::Long => Arc::new(Int64Array::from(self.values(valid, |r| match r.random_range(0..8) {
                0 => i64::MIN,
                1 => i64::MAX,
                _ => r.random_range(-1_000_000..1_000_000),
            }))),
            P::Float => Arc::new(Float32Array::from(self.values(valid, |r| match r.random_range(0..10) {
                0 => f32::NAN,
                1 => -0.0,
                2 => 0.0,
                3 => f32::INFINITY,
                4 => f32::MIN_POSITIVE,
                _ => r.random_range(-1e6..1e6),
            }))),
            P::Double => Arc::new(Float64Array::from(self.values(valid, |r| match r.random_range(0..10) {
                0 => f64::NAN,
                1 => -0.0,
                2 => 0.0,
                3 => f64::NEG_INFINITY,
                4 => f64::MAX,
                _ => r.random_range(-1e12..1e12),
            }))),
            P::Decimal { precision, scale } => {
                let limit = 10_i128.pow(*precision) - 1;
                let values = self.values(valid, |r| match r.random_range(0..6) {
                    0 => limit,
                    1 => -limit,
                    2 => 0,
                    _ => r.random_range(-limit..=limit),
                });
                let array = Decimal128Array::from(values)
                    .with_precision_and_scale(*precision as u8, *scale as i8)
                    .expect("a decimal that fits");
                Arc::new(array)
            }
            P::Date => Arc::new(Date32Array::from(self.values(valid, |r| match r.random_range(0..6) {
                0 => -1,
                1 => 0,
                _ => r.random_range(-40_000..40_000),
            }))),
            P::Time => {
                let values = self.values(valid, |r| r.random_range(0..86_400_000_000_i64));
                Arc::new(Time64MicrosecondArray::from(values))
            }
            P::Timestamp => Arc::new(TimestampMicrosecondArray::from(self.values(valid, micros))),
            P::Timestamptz => {
                Arc::new(TimestampMicrosecondArray::from(self.values(valid, micros)).with_timezone("+00:00"))
            }
            P::TimestampNs => Arc::new(TimestampNanosecondArray::from(self.values(valid, nanos))),
            P::TimestamptzNs => {
                Arc::new(TimestampNanosecondArray::from(self.values(valid, nanos)).with_timezone("+00:00"))
            }
            P::String => Arc::new(StringArray::from(self.values(valid, text))),
            P::Uuid => self.fixed(16, valid),
            P::Fixed(size) => self.fixed(*size as i32, valid),
            P::Binary => {
                let values = self.values(valid, |r| {
                    let length = r.random_range(0..40);
                    if r.random_ratio(1, 6) { vec![0xff; length] } else { random_bytes(r, length) }
                });
                Arc::new(values.iter().map(Option::as_deref).collect::<BinaryArray>())
            }
        }
    }

    fn fixed(&mut self, size: i32, valid: &[bool]) -> ArrayRef {
        let values = self.values(valid, |r| random_bytes(r, size as usize));
        let array = FixedSizeBinaryArray::try_from_sparse_iter_with_size(values.into_iter(), size);
        Arc::new(array.expect("values of the given size"))
    }
}

fn random_bytes(rng: &mut StdRng, length: usize) -> Vec<u8> {
    (0..length).map(|_| rng.random()).collect()
}

fn micros(rng: &mut StdRng) -> i64 {
    match rng.random_range(0..6) {
        0 => -1,
        1 => 0,
        _ => rng.random_range(-2_000_000_000_000_000..4_000_000_000_000_000),
    }
}

fn nanos(rng: &mut StdRng) -> i64 {
    match rng.random_range(0..6) {
        0 => -1,
        1 => -999,
        _ => rng.random_range(-2_000_000_000_000_000_000..4_000_000_000_000_000_000),
    }
}

fn text(rng: &mut StdRng) -> String {
    match rng.random_range(0..10) {
        0 => String::new(),
        1 => "a|b\\c\nd".to_string(),
        2 => "\u{10FFFF}".repeat(rng.random_range(1..30)), // no character is greater: no upper bound by incrementing
        3 => format!("{}{}", "long text, ".repeat(8), rng.random_range(0..100)),
        4 => format!("çédille-ü-漢字-🙂-{}", rng.random_range(0..100)),
        _ => format!("v{}", rng.random_range(0..500)),
    }
}

/// Keys that are unique within each map.
fn keys(key_type: &Type, offsets: &OffsetBuffer<i32>) -> ArrayRef {
    let numbers = offsets.windows(2).flat_map(|range| 0..range[1] - range[0]);
    match key_type {
        Type::Primitive(PrimitiveType::Int) => Arc::new(numbers.collect::<Int32Array>()),
        Type::Primitive(PrimitiveType::String) => {
            let keys: Vec<_> = numbers.map(|n| format!("key {n}")).collect();
            Arc::new(StringArray::from(keys))
        }
        other => panic!("no random keys of type {other}"),
    }
}

fn arrow_fields(fields: &[NestedFieldRef]) -> Fields {
    fields.iter().map(|f| arrow_field(f).expect("Arrow has these types")).collect()
}

fn arrow_type(field_type: &Type) -> DataType {
    let field = NestedField::optional(0, "of any name", field_type.clone());
    arrow_field(&field).expect("Arrow has these types").data_type().clone()
}

#[cfg(test)]
mod tests {
    use arrow::array::Array;

    use super::*;

    #[test]
    fn a_seed_repeats_its_rows_and_the_first_row_is_null() {
        for version in [FormatVersion::V1, FormatVersion::V2, FormatVersion::V3] {
            let schema = everything_schema(version);
            let batches = random_batches(3, &schema, 3, 50);
            assert_eq!(batches, random_batches(3, &schema, 3, 50));
            assert_ne!(batches, random_batches(4, &schema, 3, 50));
            for column in &batches[0].columns()[1..] {
                assert!(column.is_null(0));
                assert!(column.null_count() < 50);
            }
            let ids: Vec<i64> = batches
                .iter()
                .flat_map(|b| {
                    let ids = b.column(0).as_any().downcast_ref::<Int64Array>();
                    ids.map(|ids| ids.values().to_vec()).unwrap_or_default()
                })
                .collect();
            assert_eq!(ids, (3_000_000..3_000_150).collect::<Vec<_>>());
        }
    }
}
