use std::sync::Arc;

use arrow_array::{
    BinaryArray, Date32Array, Decimal128Array, FixedSizeBinaryArray, Float64Array, Int32Array, Int64Array,
    StringArray, StructArray, Time64MicrosecondArray, TimestampMicrosecondArray, TimestampNanosecondArray,
};
use iceberg::spec::{Datum, NestedFieldRef, UnboundPartitionSpec};

use super::transform::{transform_array, transform_value};
use super::*;
use crate::format::{arrow_schema, value::datum};

const MICROS_2017: i64 = 1_510_871_468_000_000; // 2017-11-16T22:31:08

fn buckets(array: impl Array + 'static) -> Vec<Option<i32>> {
    let bucket = transform_array(Transform::Bucket(i32::MAX as u32), &(Arc::new(array) as ArrayRef)).unwrap();
    bucket.as_primitive::<Int32Type>().iter().collect()
}

/// What `bucket[2147483647]` makes of a hash: the hash itself without its sign, but for the greatest.
fn hash(hash: i32) -> Option<i32> {
    Some((hash & i32::MAX) % i32::MAX)
}

#[test]
fn hashes_are_those_of_the_specifications_appendix_b() {
    assert_eq!(buckets(Int32Array::from(vec![Some(34), None])), [hash(2017239379), None]);
    assert_eq!(buckets(Int64Array::from(vec![34])), [hash(2017239379)]);
    let decimal = Decimal128Array::from(vec![1420]).with_precision_and_scale(9, 2).unwrap();
    assert_eq!(buckets(decimal), [hash(-500754589)]);
    assert_eq!(buckets(Date32Array::from(vec![17486])), [hash(-653330422)]);
    assert_eq!(buckets(Time64MicrosecondArray::from(vec![81_068_000_000])), [hash(-662762989)]);
    let micros = vec![MICROS_2017, MICROS_2017 + 1];
    assert_eq!(
        buckets(TimestampMicrosecondArray::from(micros.clone())),
        [hash(-2047944441), hash(-1207196810)]
    );
    let zoned = TimestampMicrosecondArray::from(micros).with_timezone("+00:00");
    assert_eq!(buckets(zoned), [hash(-2047944441), hash(-1207196810)]);
    let nanos = vec![MICROS_2017 * 1000, MICROS_2017 * 1000 + 1001];
    assert_eq!(buckets(TimestampNanosecondArray::from(nanos)), [hash(-2047944441), hash(-1207196810)]);
    assert_eq!(buckets(StringArray::from(vec!["iceberg"])), [hash(1210000089)]);
    let uuid = uuid::Uuid::parse_str("f79c3e09-677c-4bbd-a479-3f349cb785e7").unwrap();
    let uuids = FixedSizeBinaryArray::try_from_iter([uuid.as_bytes().to_vec()].into_iter()).unwrap();
    assert_eq!(buckets(uuids), [hash(1488055340)]);
    let fixed = FixedSizeBinaryArray::try_from_iter([vec![0_u8, 1, 2, 3]].into_iter()).unwrap();
    assert_eq!(buckets(fixed), [hash(-188683207)]);
    assert_eq!(buckets(BinaryArray::from_vec(vec![&[0, 1, 2, 3]])), [hash(-188683207)]);
}

fn ints(transform: Transform, array: impl Array + 'static) -> Vec<Option<i32>> {
    let result = transform_array(transform, &(Arc::new(array) as ArrayRef)).unwrap();
    match result.data_type() {
        DataType::Date32 => result.as_primitive::<Date32Type>().iter().collect(),
        _ => result.as_primitive::<Int32Type>().iter().collect(),
    }
}

#[test]
fn times_before_1970_round_down() {
    let micros = || {
        TimestampMicrosecondArray::from(vec![
            Some(-1),
            Some(0),
            None,
            Some(-86_400_000_000),
            Some(-86_400_000_001),
        ])
    };
    assert_eq!(ints(Transform::Year, micros()), [Some(-1), Some(0), None, Some(-1), Some(-1)]);
    assert_eq!(ints(Transform::Month, micros()), [Some(-1), Some(0), None, Some(-1), Some(-1)]);
    assert_eq!(ints(Transform::Day, micros()), [Some(-1), Some(0), None, Some(-1), Some(-2)]);
    assert_eq!(ints(Transform::Hour, micros()), [Some(-1), Some(0), None, Some(-24), Some(-25)]);
    let nanos = || TimestampNanosecondArray::from(vec![-1, 0, 3_600_000_000_000]);
    assert_eq!(ints(Transform::Hour, nanos()), [Some(-1), Some(0), Some(1)]);
    assert_eq!(ints(Transform::Day, nanos()), [Some(-1), Some(0), Some(0)]);
    // 1969-01-01, 1968-12-31, 1968-02-29, 2000-02-29, 2100-03-01
    let days = || Date32Array::from(vec![-365, -366, -672, 11016, 47541]);
    assert_eq!(ints(Transform::Year, days()), [-1, -2, -2, 30, 130].map(Some));
    assert_eq!(ints(Transform::Month, days()), [-12, -13, -23, 361, 1562].map(Some));
}

#[test]
fn a_calendar_day_is_the_one_that_chrono_says() {
    let first = chrono::NaiveDate::from_ymd_opt(-4800, 1, 1).unwrap();
    let epoch = chrono::NaiveDate::from_ymd_opt(1970, 1, 1).unwrap();
    for date in first.iter_days().step_by(17).take(200_000) {
        use chrono::Datelike;
        let days = (date - epoch).num_days();
        assert_eq!(super::transform::civil(days), (i64::from(date.year()), date.month(), date.day()));
    }
}

#[test]
fn truncation_goes_down_and_counts_code_points_or_bytes() {
    assert_eq!(
        ints(Transform::Truncate(10), Int32Array::from(vec![1, -1, -10, 10, 19])),
        [0, -10, -10, 10, 10].map(Some)
    );
    let decimals: ArrayRef = Arc::new(
        Decimal128Array::from(vec![Some(1065), Some(-1), None]).with_precision_and_scale(9, 2).unwrap(),
    );
    let truncated = transform_array(Transform::Truncate(50), &decimals).unwrap();
    assert_eq!(truncated.data_type(), &DataType::Decimal128(9, 2));
    assert_eq!(
        truncated.as_primitive::<Decimal128Type>().iter().collect::<Vec<_>>(),
        [Some(1050), Some(-50), None]
    );
    let strings: ArrayRef = Arc::new(StringArray::from(vec![Some("é🧊xy"), Some("é"), None]));
    let truncated = transform_array(Transform::Truncate(2), &strings).unwrap();
    assert_eq!(truncated.as_string::<i32>().iter().collect::<Vec<_>>(), [Some("é🧊"), Some("é"), None]);
    let bytes: ArrayRef = Arc::new(BinaryArray::from_vec(vec![&[1, 2, 3], &[1]]));
    let truncated = transform_array(Transform::Truncate(2), &bytes).unwrap();
    assert_eq!(truncated.as_binary::<i32>().iter().flatten().collect::<Vec<_>>(), [&[1_u8, 2][..], &[1]]);
    let least: ArrayRef = Arc::new(Int32Array::from(vec![i32::MIN]));
    assert!(transform_array(Transform::Truncate(10), &least).is_err(), "the result does not fit");
}

#[test]
fn a_transform_of_one_value_is_that_of_an_array() {
    let uuid = uuid::Uuid::from_u128(u128::MAX - 5);
    let cases: Vec<(PrimitiveType, Datum, ArrayRef)> = vec![
        (PrimitiveType::Int, Datum::int(-34), Arc::new(Int32Array::from(vec![-34]))),
        (PrimitiveType::Long, Datum::long(-34), Arc::new(Int64Array::from(vec![-34]))),
        (PrimitiveType::Date, Datum::date(-400), Arc::new(Date32Array::from(vec![-400]))),
        (
            PrimitiveType::Timestamp,
            Datum::timestamp_micros(-MICROS_2017),
            Arc::new(TimestampMicrosecondArray::from(vec![-MICROS_2017])),
        ),
        (
            PrimitiveType::TimestampNs,
            Datum::timestamp_nanos(-1001),
            Arc::new(TimestampNanosecondArray::from(vec![-1001])),
        ),
        (PrimitiveType::String, Datum::string("ünicorn"), Arc::new(StringArray::from(vec!["ünicorn"]))),
        (PrimitiveType::Binary, Datum::binary([9, 8, 7]), Arc::new(BinaryArray::from_vec(vec![&[9, 8, 7]]))),
        (
            PrimitiveType::Uuid,
            Datum::uuid(uuid),
            Arc::new(FixedSizeBinaryArray::try_from_iter([uuid.as_bytes().to_vec()].into_iter()).unwrap()),
        ),
        (
            PrimitiveType::Decimal { precision: 20, scale: 3 },
            datum(&PrimitiveType::Decimal { precision: 20, scale: 3 }, &PrimitiveLiteral::Int128(-129))
                .unwrap(),
            Arc::new(Decimal128Array::from(vec![-129]).with_precision_and_scale(20, 3).unwrap()),
        ),
    ];
    use Transform as F;
    for (of, value, array) in cases {
        for transform in
            [F::Identity, F::Bucket(7), F::Truncate(2), F::Year, F::Month, F::Day, F::Hour, F::Void]
        {
            let Ok(result) = transform.result_type(&Type::Primitive(of.clone())) else {
                assert_eq!(transform_value(transform, &of, value.literal()), None, "{transform} of {of}");
                continue;
            };
            let Type::Primitive(result) = result else { panic!() };
            let from_array = literal_at(&transform_array(transform, &array).unwrap(), 0, &result).unwrap();
            assert_eq!(transform_value(transform, &of, value.literal()), from_array, "{transform} of {of}");
        }
    }
}

fn partitioner(
    columns: &[(&str, PrimitiveType)],
    fields: &[(&str, &str, Transform)],
) -> (Partitioner, Schema) {
    let columns = columns.iter().enumerate().map(|(i, (name, of))| {
        NestedFieldRef::new(NestedField::optional(i as i32 + 1, *name, Type::Primitive(of.clone())))
    });
    let schema = Schema::builder().with_fields(columns).build().unwrap();
    let mut spec = PartitionSpec::builder(schema.clone());
    for (source, name, transform) in fields {
        spec = spec.add_partition_field(*source, *name, *transform).unwrap();
    }
    (Partitioner::new(&spec.build().unwrap(), &schema).unwrap(), schema)
}

#[test]
fn rows_are_sorted_into_partitions_that_keep_their_numbers() {
    let (mut partitioner, schema) = partitioner(
        &[("name", PrimitiveType::String), ("x", PrimitiveType::Double)],
        &[("name", "name", Transform::Identity), ("x", "x", Transform::Identity)],
    );
    let batch = |names: Vec<Option<&str>>, x: Vec<Option<f64>>| {
        let columns: Vec<ArrayRef> =
            vec![Arc::new(StringArray::from(names)), Arc::new(Float64Array::from(x))];
        RecordBatch::try_new(arrow_schema(&schema).unwrap(), columns).unwrap()
    };
    let first = batch(
        vec![Some("a"), None, Some("a"), Some("a"), None, Some("a")],
        vec![Some(0.0), None, Some(-0.0), Some(f64::NAN), None, Some(-f64::NAN)],
    );
    assert_eq!(partitioner.assign(&first).unwrap(), [0, 1, 2, 3, 1, 3]);
    let second = batch(vec![Some("b"), Some("a")], vec![Some(1.5), Some(0.0)]);
    let numbers = partitioner.assign(&second).unwrap();
    assert_eq!(numbers, [4, 0]);
    assert_eq!(rows_by_partition(&numbers), [(0, vec![1]), (4, vec![0])]);
    let paths: Vec<String> = partitioner.values().iter().map(|value| partitioner.path(value)).collect();
    assert_eq!(paths, ["name=a/x=0.0", "name=null/x=null", "name=a/x=-0.0", "name=a/x=NaN", "name=b/x=1.5"]);
    assert!(partitioner.assign(&batch(vec![], vec![])).unwrap().is_empty());
}

#[test]
fn a_table_without_partitions_has_one() {
    let (mut partitioner, schema) = partitioner(&[("n", PrimitiveType::Int)], &[]);
    let batch =
        RecordBatch::try_new(arrow_schema(&schema).unwrap(), vec![Arc::new(Int32Array::from(vec![1, 2]))])
            .unwrap();
    assert_eq!(partitioner.assign(&batch).unwrap(), [0, 0]);
    assert_eq!(partitioner.values(), [Struct::empty()]);
    assert_eq!(partitioner.path(&Struct::empty()), "");
}

#[test]
fn a_field_of_a_null_struct_is_in_the_null_partition() {
    let inner =
        StructType::new(vec![NestedField::required(2, "n", Type::Primitive(PrimitiveType::Int)).into()]);
    let schema = Schema::builder()
        .with_fields([NestedField::optional(1, "s", Type::Struct(inner)).into()])
        .build()
        .unwrap();
    let spec: UnboundPartitionSpec =
        UnboundPartitionSpec::builder().add_partition_field(2, "n", Transform::Identity).unwrap().build();
    let spec = spec.bind(schema.clone()).unwrap();
    let arrow = arrow_schema(&schema).unwrap();
    let DataType::Struct(fields) = arrow.field(0).data_type().clone() else { panic!() };
    let structs = StructArray::new(
        fields,
        vec![Arc::new(Int32Array::from(vec![7, 8]))],
        Some(NullBuffer::from(vec![true, false])),
    );
    let batch = RecordBatch::try_new(arrow, vec![Arc::new(structs)]).unwrap();
    let mut partitioner = Partitioner::new(&spec, &schema).unwrap();
    assert_eq!(partitioner.assign(&batch).unwrap(), [0, 1]);
    assert_eq!(partitioner.values()[1], Struct::from_iter([None]));
}

#[test]
fn paths_are_those_of_iceberg_java() {
    use PrimitiveLiteral as L;
    use PrimitiveType as T;
    use Transform as F;
    let uuid = uuid::Uuid::parse_str("f79c3e09-677c-4bbd-a479-3f349cb785e7").unwrap();
    let decimal = |scale| T::Decimal { precision: 38, scale };
    let cases: Vec<(F, T, L, &str)> = vec![
        (F::Identity, T::String, L::String("a b/c=ü*".into()), "a+b%2Fc%3D%C3%BC*"),
        (F::Identity, T::Boolean, L::Boolean(true), "true"),
        (F::Bucket(5), T::Int, L::Int(3), "3"),
        (F::Year, T::Int, L::Int(-1), "1969"),
        (F::Month, T::Int, L::Int(-1), "1969-12"),
        (F::Month, T::Int, L::Int(575), "2017-12"),
        (F::Day, T::Date, L::Int(-1), "1969-12-31"),
        (F::Hour, T::Int, L::Int(-1), "1969-12-31-23"),
        (F::Hour, T::Int, L::Int(420034), "2017-12-01-10"),
        (F::Identity, T::Date, L::Int(17501), "2017-12-01"),
        (F::Identity, T::Time, L::Long(36_775_038_194), "10%3A12%3A55.038194"),
        (F::Identity, T::Time, L::Long(0), "00%3A00"),
        (F::Identity, T::Timestamp, L::Long(1_512_123_175_038_194), "2017-12-01T10%3A12%3A55.038194"),
        (F::Identity, T::Timestamptz, L::Long(1_512_123_175_000_000), "2017-12-01T10%3A12%3A55Z"),
        (F::Identity, T::Timestamptz, L::Long(-1), "1969-12-31T23%3A59%3A59.999999Z"),
        (F::Identity, T::Timestamptz, L::Long(0), "1970-01-01T00%3A00Z"),
        (F::Identity, T::TimestampNs, L::Long(1_500_000_001), "1970-01-01T00%3A00%3A01.500000001"),
        (F::Identity, decimal(2), L::Int128(1420), "14.20"),
        (F::Identity, decimal(2), L::Int128(-5), "-0.05"),
        (F::Identity, decimal(0), L::Int128(-5), "-5"),
        (F::Identity, decimal(10), L::Int128(1), "1E-10"),
        (F::Identity, decimal(10), L::Int128(-123), "-1.23E-8"),
        (F::Identity, T::Double, L::Double(0.001.into()), "0.001"),
        (F::Identity, T::Double, L::Double(0.00012.into()), "1.2E-4"),
        (F::Identity, T::Double, L::Double(1234567.0.into()), "1234567.0"),
        (F::Identity, T::Double, L::Double(1e7.into()), "1.0E7"),
        (F::Identity, T::Float, L::Float((-12.25_f32).into()), "-12.25"),
        (F::Identity, T::Double, L::Double(f64::NEG_INFINITY.into()), "-Infinity"),
        (F::Identity, T::Uuid, L::UInt128(uuid.as_u128()), "f79c3e09-677c-4bbd-a479-3f349cb785e7"),
        (F::Identity, T::Binary, L::Binary(vec![0, 1, 2, 255]), "AAEC%2Fw%3D%3D"),
        (F::Truncate(3), T::Binary, L::Binary(vec![0, 1, 2]), "AAEC"),
    ];
    for (transform, of, value, expected) in cases {
        let text = path::escape(&path::human(transform, &of, Some(&Literal::Primitive(value))));
        assert_eq!(text, expected, "{transform} of {of}");
    }
    assert_eq!(path::human(F::Day, &T::Date, None), "null");
    assert_eq!(path::human(F::Void, &T::Date, Some(&Literal::date(1))), "null");
}
