use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::builder::{BinaryBuilder, StringBuilder};
use arrow_array::{
    ArrayRef, Date32Array, Decimal128Array, Float64Array, Int32Array, Int64Array, RecordBatch,
    TimestampMicrosecondArray,
};
use iceberg::spec::{
    FieldSummary, FormatVersion, Literal, ManifestContentType, NestedField, NestedFieldRef, PrimitiveLiteral,
    SortOrder, Struct, TableMetadataBuilder, Transform, UnboundPartitionSpec,
};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::file::properties::WriterProperties;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::format::value::datum;
use crate::format::{
    FileMetrics, MetricsConfig, MetricsMode, Partitioner, arrow_schema, data_file, data_file_metrics,
    parquet_schema, rows_by_partition,
};

const DECIMAL: PrimitiveType = PrimitiveType::Decimal { precision: 12, scale: 2 };

fn metadata(columns: &[PrimitiveType], fields: &[(i32, Transform)]) -> TableMetadata {
    let columns = columns.iter().enumerate().map(|(i, of)| {
        NestedFieldRef::new(NestedField::optional(
            i as i32 + 1,
            format!("c{}", i + 1),
            Type::Primitive(of.clone()),
        ))
    });
    let schema = Schema::builder().with_fields(columns).build().unwrap();
    let mut spec = UnboundPartitionSpec::builder();
    for (i, (source, transform)) in fields.iter().enumerate() {
        spec = spec.add_partition_field(*source, format!("p{i}"), *transform).unwrap();
    }
    let order = SortOrder::unsorted_order();
    TableMetadataBuilder::new(
        schema,
        spec.build(),
        order,
        "memory:///t".into(),
        FormatVersion::V2,
        HashMap::new(),
    )
    .unwrap()
    .build()
    .unwrap()
    .metadata
}

fn file(partition: Struct, metrics: FileMetrics) -> DataFile {
    data_file("memory:///t/f.parquet", 0, partition, 100, metrics, None).unwrap().file
}

/// A file of 10 rows with counts and bounds of column 1.
fn bounded(nulls: u64, nans: Option<u64>, bounds: Option<(Datum, Datum)>) -> DataFile {
    let mut metrics = FileMetrics { record_count: 10, ..FileMetrics::default() };
    metrics.value_counts.insert(1, 10);
    metrics.null_value_counts.insert(1, nulls);
    metrics.nan_value_counts.extend(nans.map(|nans| (1, nans)));
    if let Some((lower, upper)) = bounds {
        metrics.lower_bounds.insert(1, lower);
        metrics.upper_bounds.insert(1, upper);
    }
    file(Struct::empty(), metrics)
}

fn is(test: Test) -> Filter {
    Filter::Test(1, test)
}

fn not(filter: Filter) -> Filter {
    Filter::Not(Box::new(filter))
}

/// Whether a file might match, and whether all of it does.
fn says(metadata: &TableMetadata, filter: &Filter, file: &DataFile) -> (bool, bool) {
    let matcher = FileMatcher::new(filter, metadata).unwrap();
    (matcher.might_match(0, file), matcher.all_match(0, file))
}

const NONE: (bool, bool) = (false, false);
const SOME: (bool, bool) = (true, false);
const ALL: (bool, bool) = (true, true);

#[test]
fn tests_against_counts_and_bounds() {
    let table = metadata(&[PrimitiveType::Int], &[]);
    let bounds = || Some((Datum::int(5), Datum::int(9)));
    let full = bounded(0, None, bounds());
    let nulls = bounded(3, None, bounds());
    let all_null = bounded(10, None, None);
    let one = bounded(0, None, Some((Datum::int(7), Datum::int(7))));
    let i = |value: i32| Datum::int(value);
    let cases = [
        // test, file without NULLs, with some, with NULLs only, with one value only
        (is(Test::IsNull), NONE, SOME, ALL, NONE),
        (is(Test::NotNull), ALL, SOME, NONE, ALL),
        (is(Test::Eq(i(4))), NONE, NONE, NONE, NONE),
        (is(Test::Eq(i(7))), SOME, SOME, NONE, ALL),
        (is(Test::NotEq(i(4))), ALL, SOME, NONE, ALL),
        (is(Test::NotEq(i(7))), SOME, SOME, NONE, NONE),
        (not(is(Test::Eq(i(4)))), ALL, SOME, NONE, ALL),
        (not(is(Test::NotEq(i(4)))), NONE, NONE, NONE, NONE),
        (is(Test::Lt(i(5))), NONE, NONE, NONE, NONE),
        (is(Test::LtEq(i(5))), SOME, SOME, NONE, NONE),
        (is(Test::Lt(i(10))), ALL, SOME, NONE, ALL),
        (is(Test::LtEq(i(9))), ALL, SOME, NONE, ALL),
        (is(Test::Gt(i(9))), NONE, NONE, NONE, NONE),
        (is(Test::GtEq(i(9))), SOME, SOME, NONE, NONE),
        (is(Test::GtEq(i(5))), ALL, SOME, NONE, ALL),
        (not(is(Test::GtEq(i(5)))), NONE, NONE, NONE, NONE),
        (is(Test::In(vec![i(1), i(4), i(10)])), NONE, NONE, NONE, NONE),
        (is(Test::In(vec![i(1), i(7)])), SOME, SOME, NONE, ALL),
        (is(Test::NotIn(vec![i(1), i(7)])), SOME, SOME, NONE, NONE),
        (is(Test::NotIn(vec![i(1), i(10)])), ALL, SOME, NONE, ALL),
        (is(Test::In(vec![])), NONE, NONE, NONE, NONE),
        (is(Test::IsNan), NONE, NONE, NONE, NONE),
        (is(Test::NotNan), ALL, ALL, ALL, ALL),
        (is(Test::Eq(Datum::long(7))), SOME, SOME, NONE, ALL),
        (Filter::Or(vec![is(Test::IsNull), is(Test::Gt(i(9)))]), NONE, SOME, ALL, NONE),
        (not(Filter::Or(vec![is(Test::IsNull), is(Test::Gt(i(9)))])), ALL, SOME, NONE, ALL),
        (Filter::And(vec![is(Test::Gt(i(1))), is(Test::Lt(i(3)))]), NONE, NONE, NONE, NONE),
        (Filter::And(vec![]), ALL, ALL, ALL, ALL),
        (Filter::Or(vec![]), NONE, NONE, NONE, NONE),
        (not(Filter::True), NONE, NONE, NONE, NONE),
    ];
    for (filter, expected_full, expected_nulls, expected_all_null, expected_one) in cases {
        assert_eq!(says(&table, &filter, &full), expected_full, "{filter:?} without NULLs");
        assert_eq!(says(&table, &filter, &nulls), expected_nulls, "{filter:?} with NULLs");
        assert_eq!(says(&table, &filter, &all_null), expected_all_null, "{filter:?} of NULLs");
        assert_eq!(says(&table, &filter, &one), expected_one, "{filter:?} of one value");
    }
}

#[test]
fn nan_is_nowhere_in_bounds_and_so_may_be_anywhere() {
    let table = metadata(&[PrimitiveType::Double], &[]);
    let bounds = || Some((Datum::double(1.0), Datum::double(2.0)));
    let (clean, unknown, some) =
        (bounded(0, Some(0), bounds()), bounded(0, None, bounds()), bounded(0, Some(2), bounds()));
    let all_nan = bounded(0, Some(10), None);
    let nan = || Datum::double(f64::NAN);
    let cases = [
        (is(Test::Gt(Datum::double(3.0))), NONE, SOME, SOME, SOME),
        (is(Test::Lt(Datum::double(3.0))), ALL, SOME, SOME, SOME),
        (is(Test::Eq(Datum::double(3.0))), NONE, NONE, NONE, NONE),
        (is(Test::NotEq(Datum::double(3.0))), ALL, SOME, SOME, SOME),
        (is(Test::IsNan), NONE, SOME, SOME, ALL),
        (is(Test::NotNan), ALL, SOME, SOME, NONE),
        (is(Test::Eq(nan())), NONE, SOME, SOME, ALL),
        (is(Test::In(vec![nan(), Datum::double(9.0)])), NONE, SOME, SOME, SOME),
    ];
    for (filter, expected_clean, expected_unknown, expected_some, expected_all) in cases {
        assert_eq!(says(&table, &filter, &clean), expected_clean, "{filter:?} without NaN");
        assert_eq!(says(&table, &filter, &unknown), expected_unknown, "{filter:?} with unknown NaN");
        assert_eq!(says(&table, &filter, &some), expected_some, "{filter:?} with NaN");
        assert_eq!(says(&table, &filter, &all_nan), expected_all, "{filter:?} of NaN");
    }
    let poisoned = bounded(0, Some(0), Some((Datum::double(1.0), nan())));
    assert_eq!(
        says(&table, &is(Test::Lt(Datum::double(0.0))), &poisoned),
        SOME,
        "the lower bound is not trusted either"
    );
    let zero = bounded(0, Some(0), Some((Datum::double(0.0), Datum::double(0.0))));
    for test in [Test::Lt(Datum::double(0.0)), Test::Eq(Datum::double(-0.0)), Test::NotEq(Datum::double(0.0))]
    {
        assert_eq!(says(&table, &is(test), &zero), SOME, "readers differ on the order of zeros");
    }
}

#[test]
fn strings_by_their_start() {
    let table = metadata(&[PrimitiveType::String], &[]);
    let of = |lower: &str, upper: &str| bounded(0, None, Some((Datum::string(lower), Datum::string(upper))));
    let starts = |start: &str| is(Test::StartsWith(start.into()));
    let cases = [
        ("b", "d", "a", NONE),
        ("b", "d", "b", SOME),
        ("b", "d", "e", NONE),
        ("ba", "bz", "b", ALL),
        ("ba", "bz", "bc", SOME),
        ("ba", "c", "b", SOME),
        ("bb", "d", "ba", NONE),
        ("b", "ba", "bb", NONE),
        ("b", "d", "", ALL),
    ];
    for (lower, upper, start, expected) in cases {
        assert_eq!(says(&table, &starts(start), &of(lower, upper)), expected, "{start} in {lower}..{upper}");
        let opposite = (!expected.1, !expected.0);
        assert_eq!(
            says(&table, &not(starts(start)), &of(lower, upper)),
            opposite,
            "not {start} in {lower}..{upper}"
        );
    }
}

#[test]
fn a_column_that_the_metrics_lack_is_never_a_reason() {
    let table = metadata(&[PrimitiveType::Int, PrimitiveType::Int], &[]);
    let file = bounded(0, None, Some((Datum::int(5), Datum::int(9))));
    for test in
        [Test::IsNull, Test::NotNull, Test::Eq(Datum::int(1)), Test::Lt(Datum::int(0)), Test::NotIn(vec![])]
    {
        assert_eq!(says(&table, &Filter::Test(2, test.clone()), &file), SOME, "{test:?}");
    }
    let error = FileMatcher::new(&Filter::Test(9, Test::IsNull), &table).unwrap_err();
    assert_eq!(error.kind(), crate::ErrorKind::InvalidInput);
    assert!(FileMatcher::new(&Filter::Test(1, Test::Eq(Datum::string("5"))), &table).is_err());
    assert!(FileMatcher::new(&Filter::Test(1, Test::StartsWith("5".into())), &table).is_err());
}

#[test]
fn partition_values_decide_what_they_can() {
    use PrimitiveType as T;
    use Transform as F;
    let day = |text: &str| Datum::timestamp_from_str(format!("{text}T00:00:00.000000")).unwrap();
    let int = |value: i32| Some(Literal::int(value));
    type Case = (T, F, Option<Literal>, Test, (bool, bool));
    let cases: Vec<Case> = vec![
        (T::Int, F::Identity, int(5), Test::Eq(Datum::int(5)), ALL),
        (T::Int, F::Identity, int(5), Test::Eq(Datum::int(6)), NONE),
        (T::Int, F::Identity, None, Test::IsNull, ALL),
        (T::Int, F::Identity, None, Test::NotEq(Datum::int(6)), NONE),
        (T::Int, F::Void, None, Test::NotNull, SOME),
        (T::Int, F::Truncate(10), int(-10), Test::Eq(Datum::int(-1)), SOME),
        (T::Int, F::Truncate(10), int(-10), Test::Lt(Datum::int(0)), ALL),
        (T::Int, F::Truncate(10), int(-10), Test::GtEq(Datum::int(0)), NONE),
        (T::Int, F::Bucket(16), int(3), Test::Eq(Datum::int(34)), SOME),
        (T::Int, F::Bucket(16), int(4), Test::Eq(Datum::int(34)), NONE),
        (T::Int, F::Bucket(16), int(4), Test::Eq(Datum::long(34)), NONE),
        (T::Int, F::Bucket(16), int(4), Test::NotEq(Datum::int(34)), SOME),
        (T::Int, F::Bucket(16), int(4), Test::NotNull, ALL),
        (T::String, F::Truncate(2), Some(Literal::string("ab")), Test::StartsWith("a".into()), ALL),
        (T::String, F::Truncate(2), Some(Literal::string("ab")), Test::StartsWith("abc".into()), SOME),
        (T::String, F::Truncate(2), Some(Literal::string("ab")), Test::StartsWith("ac".into()), NONE),
        (T::String, F::Truncate(2), Some(Literal::string("ab")), Test::Eq(Datum::string("abz")), SOME),
        (T::String, F::Truncate(2), Some(Literal::string("ab")), Test::Eq(Datum::string("b")), NONE),
        (T::String, F::Truncate(2), Some(Literal::string("ab")), Test::NotEq(Datum::string("ac")), ALL),
        (T::String, F::Truncate(2), Some(Literal::string("a")), Test::Eq(Datum::string("a")), ALL),
        (T::Timestamp, F::Day, int(1), Test::GtEq(day("1970-01-02")), ALL),
        (T::Timestamp, F::Day, int(1), Test::GtEq(day("1970-01-03")), NONE),
        (T::Timestamp, F::Day, int(1), Test::Lt(day("1970-01-03")), ALL),
        (T::Timestamp, F::Year, int(1), Test::Lt(day("1971-06-01")), SOME),
        (T::Timestamp, F::Month, int(14), Test::Gt(day("1971-04-01")), NONE),
        (T::Timestamp, F::Hour, int(24), Test::GtEq(day("1970-01-02")), ALL),
        // Before 1970 the value may be one too high.
        (T::Timestamp, F::Day, int(0), Test::Lt(day("1970-01-01")), SOME),
        (T::Timestamp, F::Day, int(-1), Test::GtEq(day("1969-12-31")), SOME),
        (T::Timestamp, F::Day, int(-1), Test::GtEq(day("1969-12-30")), ALL),
        (T::Timestamp, F::Day, int(-1), Test::GtEq(day("1970-01-01")), NONE),
        (T::Timestamp, F::Month, int(0), Test::Lt(day("1969-12-01")), NONE),
        (T::Date, F::Day, int(-1), Test::GtEq(Datum::date(-1)), ALL),
        (T::Date, F::Month, int(-1), Test::Lt(Datum::date(-31)), SOME),
    ];
    for (of, transform, value, test, expected) in cases {
        let table = metadata(std::slice::from_ref(&of), &[(1, transform)]);
        let file = file(
            Struct::from_iter([value.clone()]),
            FileMetrics { record_count: 10, ..FileMetrics::default() },
        );
        let name = format!("{transform} = {value:?}, {test:?}");
        assert_eq!(says(&table, &is(test.clone()), &file), expected, "{name}");
        let decided = FileMatcher::new(&is(test), &table).unwrap().partition_decides(0, &file);
        let expected = match expected {
            ALL => Some(true),
            NONE => Some(false),
            _ => None,
        };
        assert_eq!(decided, expected, "{name}");
    }
}

/// The table with its column 1 of another type in its newest schema.
fn retyped(metadata: TableMetadata, to: PrimitiveType) -> TableMetadata {
    let schema = Schema::builder()
        .with_fields([NestedField::optional(1, "c1", Type::Primitive(to)).into()])
        .build()
        .unwrap();
    let mut builder = metadata.into_builder(None).add_schema(schema).unwrap();
    builder = builder.set_current_schema(-1).unwrap();
    builder.build().unwrap().metadata
}

#[test]
fn bounds_and_partitions_of_before_a_promotion_serve_after_it() {
    let table = retyped(metadata(&[PrimitiveType::Int], &[(1, Transform::Bucket(16))]), PrimitiveType::Long);
    let mut old = bounded(0, None, Some((Datum::int(30), Datum::int(40))));
    assert_eq!(says(&table, &is(Test::Gt(Datum::long(1_i64 << 40))), &old), NONE);
    assert_eq!(says(&table, &is(Test::Lt(Datum::long(41))), &old), ALL);
    let in_bucket = |bucket: i32| {
        let metrics = FileMetrics { record_count: 1, ..FileMetrics::default() };
        file(Struct::from_iter([Some(Literal::int(bucket))]), metrics)
    };
    old = in_bucket(3);
    assert_eq!(says(&table, &is(Test::Eq(Datum::long(34))), &old), SOME);
    assert_eq!(says(&table, &is(Test::Eq(Datum::long(34))), &in_bucket(4)), NONE);

    let table =
        retyped(metadata(&[PrimitiveType::Date], &[(1, Transform::Bucket(16))]), PrimitiveType::Timestamp);
    for bucket in 0..16 {
        let test = is(Test::Eq(Datum::timestamp_micros(86_400_000_000)));
        assert_eq!(
            says(&table, &test, &in_bucket(bucket)),
            SOME,
            "dates hash to other buckets than timestamps"
        );
    }
    let dates = bounded(0, None, Some((Datum::date(0), Datum::date(1))));
    assert_eq!(says(&table, &is(Test::Gt(Datum::timestamp_micros(i64::MAX))), &dates), SOME);
}

#[test]
fn a_column_that_was_dropped_is_still_known_to_old_files_and_specs() {
    let old = metadata(&[PrimitiveType::Int, PrimitiveType::Int], &[]);
    let table = retyped(old, PrimitiveType::Int);
    assert!(table.current_schema().field_by_id(2).is_none());
    let mut metrics = FileMetrics { record_count: 1, ..FileMetrics::default() };
    metrics.lower_bounds.insert(2, Datum::int(5));
    let file = file(Struct::empty(), metrics);
    assert_eq!(says(&table, &Filter::Test(2, Test::Lt(Datum::int(5))), &file), NONE);
}

#[test]
fn of_a_delete_file_only_the_partition_counts() {
    let table = metadata(&[PrimitiveType::Int, PrimitiveType::Int], &[(1, Transform::Identity)]);
    let mut builder = iceberg::spec::DataFileBuilder::default();
    let deletes = builder
        .content(DataContentType::EqualityDeletes)
        .file_path("memory:///t/d.parquet".into())
        .file_format(iceberg::spec::DataFileFormat::Parquet)
        .partition(Struct::from_iter([Some(Literal::int(1))]))
        .record_count(0)
        .file_size_in_bytes(1)
        .upper_bounds(HashMap::from([(2, Datum::int(5))]))
        .build()
        .unwrap();
    assert_eq!(says(&table, &Filter::Test(2, Test::Gt(Datum::int(7))), &deletes), SOME);
    assert_eq!(says(&table, &Filter::Test(1, Test::Gt(Datum::int(7))), &deletes), NONE);
}

// ---------------------------------------------------------------------------------------------------------------------
// Random tables against a plain interpreter of filters.

type Value = Option<PrimitiveLiteral>;

const COLUMNS: [PrimitiveType; 8] = [
    PrimitiveType::Int,
    PrimitiveType::Long,
    PrimitiveType::Double,
    PrimitiveType::String,
    PrimitiveType::Binary,
    PrimitiveType::Date,
    PrimitiveType::Timestamp,
    DECIMAL,
];

fn random_value(rng: &mut StdRng, of: &PrimitiveType) -> PrimitiveLiteral {
    use PrimitiveLiteral as L;
    use PrimitiveType as T;
    match of {
        T::Int => L::Int(rng.random_range(-25..25)),
        T::Long => L::Long(rng.random_range(-25..25) * 7),
        T::Double => {
            let special = [f64::NAN, -f64::NAN, 0.0, -0.0, f64::INFINITY, f64::NEG_INFINITY];
            let value = match rng.random_range(0..4) {
                0 => special[rng.random_range(0..special.len())],
                _ => f64::from(rng.random_range(-8..8)) / 2.0,
            };
            L::Double(value.into())
        }
        T::String => L::String(random_text(rng)),
        T::Binary => {
            let length = rng.random_range(0..20);
            L::Binary((0..length).map(|_| [0, 1, 254, 255][rng.random_range(0..4)]).collect())
        }
        T::Date => L::Int(rng.random_range(-800..800)),
        T::Timestamp => match rng.random_range(0..3) {
            0 => L::Long(rng.random_range(-100..100) * 3_600_000_000),
            _ => L::Long(rng.random_range(-80_000_000_000_000..80_000_000_000_000)),
        },
        _ => L::Int128(rng.random_range(-250..250)),
    }
}

/// Texts that differ late, cross the truncation edge in code points of one to four bytes, and end in the greatest ones.
fn random_text(rng: &mut StdRng) -> String {
    let points = ['a', 'b', 'é', '\u{D7FF}', '\u{FFFF}', '🧊', '\u{10FFFF}'];
    let base = ["", "a", "aaaaaaaaaaaaaa", "\u{10FFFF}\u{10FFFF}"][rng.random_range(0..4)];
    let mut text = base.to_string();
    let more = if rng.random_ratio(1, 8) { 40 } else { 4 };
    for _ in 0..rng.random_range(0..=more) {
        text.push(points[rng.random_range(0..points.len())]);
    }
    text
}

fn random_test(rng: &mut StdRng, of: &PrimitiveType) -> Test {
    let mut value = || datum(of, &random_value(rng, of)).unwrap();
    let (a, b, c) = (value(), value(), value());
    match rng.random_range(0..14) {
        0 => Test::IsNull,
        1 => Test::NotNull,
        2 => Test::IsNan,
        3 => Test::NotNan,
        4 => Test::Eq(a),
        5 => Test::NotEq(a),
        6 => Test::Lt(a),
        7 => Test::LtEq(a),
        8 => Test::Gt(a),
        9 => Test::GtEq(a),
        10 => Test::In([a, b, c].into_iter().take(rng.random_range(0..=3)).collect()),
        11 => Test::NotIn([a, b, c].into_iter().take(rng.random_range(0..=3)).collect()),
        _ if *of == PrimitiveType::String => {
            let length = rng.random_range(0..18);
            let start: String = random_text(rng).chars().take(length).collect();
            if rng.random() { Test::StartsWith(start) } else { Test::NotStartsWith(start) }
        }
        _ => Test::LtEq(a),
    }
}

fn random_filter(rng: &mut StdRng, depth: u32) -> Filter {
    match rng.random_range(0..if depth == 0 { 1 } else { 5 }) {
        2 => Filter::And((0..rng.random_range(0..3)).map(|_| random_filter(rng, depth - 1)).collect()),
        3 => Filter::Or((0..rng.random_range(0..3)).map(|_| random_filter(rng, depth - 1)).collect()),
        4 => not(random_filter(rng, depth - 1)),
        _ => {
            let column = rng.random_range(0..COLUMNS.len());
            Filter::Test(column as i32 + 1, random_test(rng, &COLUMNS[column]))
        }
    }
}

/// How a reader orders floating-point values; the library's promises hold for both.
#[derive(Clone, Copy, Debug)]
enum Floats {
    /// As Arrow: by sign and bits, NaN at both ends, the zeros apart.
    Total,
    /// As Iceberg and Spark: one NaN above all, one zero.
    Iceberg,
}

fn order(a: &PrimitiveLiteral, b: &PrimitiveLiteral, floats: Floats) -> Ordering {
    match (a, b) {
        (PrimitiveLiteral::Double(a), PrimitiveLiteral::Double(b)) => match floats {
            Floats::Total => a.0.total_cmp(&b.0),
            Floats::Iceberg => a.cmp(b),
        },
        _ => a.partial_cmp(b).unwrap(),
    }
}

/// SQL's answer for a row: `None` is unknown.
fn interpret(filter: &Filter, row: &[Value], floats: Floats) -> Option<bool> {
    match filter {
        Filter::True => Some(true),
        Filter::False => Some(false),
        Filter::Not(filter) => interpret(filter, row, floats).map(|answer| !answer),
        Filter::And(filters) => {
            let answers: Vec<_> = filters.iter().map(|filter| interpret(filter, row, floats)).collect();
            if answers.contains(&Some(false)) {
                Some(false)
            } else if answers.contains(&None) {
                None
            } else {
                Some(true)
            }
        }
        Filter::Or(filters) => {
            let negated = Filter::And(filters.iter().cloned().map(not).collect());
            interpret(&negated, row, floats).map(|answer| !answer)
        }
        Filter::Test(id, test) => {
            let value = row[*id as usize - 1].as_ref();
            match (test, value) {
                (Test::IsNull, value) => return Some(value.is_none()),
                (Test::NotNull, value) => return Some(value.is_some()),
                (Test::IsNan, value) => return Some(value.is_some_and(PrimitiveLiteral::is_nan)),
                (Test::NotNan, value) => return Some(!value.is_some_and(PrimitiveLiteral::is_nan)),
                (Test::In(values), _) if values.is_empty() => return Some(false),
                (Test::NotIn(values), _) if values.is_empty() => return Some(true),
                _ => {}
            }
            let value = value?;
            let to = |other: &Datum| order(value, other.literal(), floats);
            let text = || match value {
                PrimitiveLiteral::String(text) => text.as_str(),
                other => panic!("{other:?}"),
            };
            Some(match test {
                Test::Eq(other) => to(other).is_eq(),
                Test::NotEq(other) => to(other).is_ne(),
                Test::Lt(other) => to(other).is_lt(),
                Test::LtEq(other) => to(other).is_le(),
                Test::Gt(other) => to(other).is_gt(),
                Test::GtEq(other) => to(other).is_ge(),
                Test::In(values) => values.iter().any(|other| to(other).is_eq()),
                Test::NotIn(values) => values.iter().all(|other| to(other).is_ne()),
                Test::StartsWith(start) => text().starts_with(start.as_str()),
                Test::NotStartsWith(start) => !text().starts_with(start.as_str()),
                _ => unreachable!(),
            })
        }
    }
}

fn column(of: &PrimitiveType, values: Vec<Value>) -> ArrayRef {
    use PrimitiveLiteral as L;
    macro_rules! collect {
        ($array:ty, $variant:ident) => {
            Arc::new(
                values
                    .iter()
                    .map(|value| match value {
                        Some(L::$variant(value)) => Some(*value),
                        _ => None,
                    })
                    .collect::<$array>(),
            )
        };
    }
    match of {
        PrimitiveType::Int => collect!(Int32Array, Int),
        PrimitiveType::Long => collect!(Int64Array, Long),
        PrimitiveType::Date => collect!(Date32Array, Int),
        PrimitiveType::Timestamp => collect!(TimestampMicrosecondArray, Long),
        PrimitiveType::Double => Arc::new(
            values
                .iter()
                .map(|value| match value {
                    Some(L::Double(value)) => Some(value.0),
                    _ => None,
                })
                .collect::<Float64Array>(),
        ),
        PrimitiveType::String => {
            let mut builder = StringBuilder::new();
            values.iter().for_each(|value| match value {
                Some(L::String(value)) => builder.append_value(value),
                _ => builder.append_null(),
            });
            Arc::new(builder.finish())
        }
        PrimitiveType::Binary => {
            let mut builder = BinaryBuilder::new();
            values.iter().for_each(|value| match value {
                Some(L::Binary(value)) => builder.append_value(value),
                _ => builder.append_null(),
            });
            Arc::new(builder.finish())
        }
        _ => {
            let decimals: Decimal128Array = collect!(Decimal128Array, Int128).as_ref().clone();
            Arc::new(decimals.with_precision_and_scale(12, 2).unwrap())
        }
    }
}

fn batch(schema: &Schema, rows: &[Vec<Value>]) -> RecordBatch {
    let columns = COLUMNS
        .iter()
        .enumerate()
        .map(|(i, of)| column(of, rows.iter().map(|row| row[i].clone()).collect()))
        .collect();
    RecordBatch::try_new(arrow_schema(schema).unwrap(), columns).unwrap()
}

/// Writes rows as a Parquet file of several row groups and gives its metrics.
fn written(rng: &mut StdRng, schema: &Schema, rows: &[Vec<Value>]) -> FileMetrics {
    let batch = batch(schema, rows);
    let properties =
        WriterProperties::builder().set_max_row_group_row_count(Some(rng.random_range(1..8))).build();
    let options = ArrowWriterOptions::new()
        .with_properties(properties)
        .with_parquet_schema(parquet_schema(schema).unwrap());
    let mut writer = ArrowWriter::try_new_with_options(Vec::new(), batch.schema(), options).unwrap();
    writer.write(&batch).unwrap();
    let parquet = writer.close().unwrap();
    let nans = rows.iter().filter(|row| row[2].as_ref().is_some_and(PrimitiveLiteral::is_nan)).count();
    let nans = if rng.random_ratio(1, 4) { HashMap::new() } else { HashMap::from([(3, nans as u64)]) };
    let modes = [MetricsMode::Truncate(1), MetricsMode::Truncate(16), MetricsMode::Full, MetricsMode::Counts];
    let mode = modes[rng.random_range(0..modes.len())];
    data_file_metrics(&parquet, schema, &MetricsConfig::all(mode), &nans).unwrap()
}

fn random_spec(rng: &mut StdRng) -> Vec<(i32, Transform)> {
    let mut fields = Vec::new();
    for (i, of) in COLUMNS.iter().enumerate() {
        if !rng.random_ratio(1, 4) {
            continue;
        }
        let transforms = [
            Transform::Identity,
            Transform::Bucket(3),
            Transform::Truncate(1),
            Transform::Truncate(10),
            Transform::Year,
            Transform::Month,
            Transform::Day,
            Transform::Hour,
            Transform::Void,
        ];
        let fitting: Vec<_> = transforms
            .into_iter()
            .filter(|transform| transform.result_type(&Type::Primitive(of.clone())).is_ok())
            .collect();
        fields.push((i as i32 + 1, fitting[rng.random_range(0..fitting.len())]));
    }
    fields
}

/// Some writers round times before 1970 up.
fn rounded_up(spec: &[(i32, Transform)], value: &Struct, rows: &[Vec<Value>]) -> Struct {
    let fields = spec.iter().zip(value.iter()).map(|((id, transform), value)| {
        let exact = |micros: i64, unit: i64| micros.rem_euclid(unit) == 0;
        let wrong = match (transform, value, &rows[0][*id as usize - 1]) {
            (
                Transform::Day,
                Some(Literal::Primitive(PrimitiveLiteral::Int(v))),
                Some(PrimitiveLiteral::Long(micros)),
            ) => (*micros < 0 && !exact(*micros, 86_400_000_000)).then_some(v + 1),
            (
                Transform::Hour,
                Some(Literal::Primitive(PrimitiveLiteral::Int(v))),
                Some(PrimitiveLiteral::Long(micros)),
            ) => (*micros < 0 && !exact(*micros, 3_600_000_000)).then_some(v + 1),
            (Transform::Year | Transform::Month, Some(Literal::Primitive(PrimitiveLiteral::Int(v))), _) => {
                (*v < 0).then_some(v + 1)
            }
            _ => None,
        };
        wrong.map(Literal::int).or_else(|| value.cloned())
    });
    Struct::from_iter(fields)
}

fn manifest(spec: &[(i32, Transform)], partitions: &[Struct]) -> ManifestFile {
    let summaries = spec.iter().enumerate().map(|(i, (id, transform))| {
        let result = transform.result_type(&Type::Primitive(COLUMNS[*id as usize - 1].clone())).unwrap();
        let Type::Primitive(result) = result else { panic!() };
        let values: Vec<&Option<Literal>> =
            partitions.iter().map(|partition| &partition.fields()[i]).collect();
        let mut numbers: Vec<PrimitiveLiteral> = values
            .iter()
            .filter_map(|value| value.as_ref()?.as_primitive_literal())
            .filter(|value| !value.is_nan())
            .collect();
        numbers.sort_by(|a, b| order(a, b, Floats::Total));
        let bytes =
            |value: Option<&PrimitiveLiteral>| value.map(|v| datum(&result, v).unwrap().to_bytes().unwrap());
        FieldSummary {
            contains_null: values.iter().any(|value| value.is_none()),
            contains_nan: Some(
                values.iter().filter_map(|v| v.as_ref()?.as_primitive_literal()).any(|value| value.is_nan()),
            ),
            lower_bound: bytes(numbers.first()),
            upper_bound: bytes(numbers.last()),
        }
    });
    ManifestFile {
        manifest_path: "memory:///t/m.avro".into(),
        manifest_length: 1,
        partition_spec_id: 0,
        content: ManifestContentType::Data,
        sequence_number: 1,
        min_sequence_number: 1,
        added_snapshot_id: 1,
        added_files_count: Some(1),
        existing_files_count: Some(0),
        deleted_files_count: Some(0),
        added_rows_count: Some(1),
        existing_rows_count: Some(0),
        deleted_rows_count: Some(0),
        partitions: Some(summaries.collect()),
        key_metadata: None,
        first_row_id: None,
    }
}

#[test]
fn random_files_against_random_filters_lose_no_row() {
    let (mut pruned, mut whole, mut decided, mut manifests) = (0, 0, 0, 0);
    for seed in 0..30 {
        let mut rng = StdRng::seed_from_u64(seed);
        let spec = random_spec(&mut rng);
        let metadata = metadata(&COLUMNS, &spec);
        let schema = metadata.current_schema();
        let rows: Vec<Vec<Value>> = (0..rng.random_range(1..40))
            .map(|_| {
                COLUMNS
                    .iter()
                    .map(|of| (!rng.random_ratio(1, 6)).then(|| random_value(&mut rng, of)))
                    .collect()
            })
            .collect();
        let mut partitioner = Partitioner::new(metadata.default_partition_spec(), schema).unwrap();
        let numbers = partitioner.assign(&batch(schema, &rows)).unwrap();
        let files: Vec<(DataFile, Vec<Vec<Value>>)> = rows_by_partition(&numbers)
            .into_iter()
            .map(|(number, members)| {
                let rows: Vec<_> = members.into_iter().map(|row| rows[row as usize].clone()).collect();
                let value = &partitioner.values()[number as usize];
                // One wrong value would put rows of two units in one partition; a file has those of one.
                let value = if seed % 3 == 0 { rounded_up(&spec, value, &rows) } else { value.clone() };
                let one_unit = seed % 3 != 0 || same_units(&spec, &rows);
                let value = if one_unit { value } else { partitioner.values()[number as usize].clone() };
                (file(value, written(&mut rng, schema, &rows)), rows)
            })
            .collect();
        let partitions: Vec<Struct> = files.iter().map(|(file, _)| file.partition().clone()).collect();
        let manifest = manifest(&spec, &partitions);
        for _ in 0..200 {
            let filter = random_filter(&mut rng, 2);
            let matcher = FileMatcher::new(&filter, &metadata).unwrap();
            let mut any = false;
            for (file, rows) in &files {
                for floats in [Floats::Total, Floats::Iceberg] {
                    let matching =
                        rows.iter().filter(|row| interpret(&filter, row, floats) == Some(true)).count();
                    any |= matching > 0;
                    let context =
                        || format!("seed {seed}, {floats:?}, {filter:?}\n{spec:?} {file:?}\n{rows:?}");
                    assert!(matching == 0 || matcher.might_match(0, file), "lost: {}", context());
                    assert!(matching == rows.len() || !matcher.all_match(0, file), "not all: {}", context());
                    match matcher.partition_decides(0, file) {
                        Some(true) => assert_eq!(matching, rows.len(), "{}", context()),
                        Some(false) => assert_eq!(matching, 0, "{}", context()),
                        None => {}
                    }
                }
                pruned += usize::from(!matcher.might_match(0, file));
                whole += usize::from(matcher.all_match(0, file));
                decided += usize::from(matcher.partition_decides(0, file).is_some());
            }
            assert!(!any || matcher.might_match_manifest(&manifest), "seed {seed}: {filter:?}\n{manifest:?}");
            manifests += usize::from(!matcher.might_match_manifest(&manifest));
        }
    }
    // What it says must be of use, too.
    assert!(
        pruned > 2_000 && whole > 2_000 && decided > 2_000 && manifests > 200,
        "{pruned} {whole} {decided} {manifests}"
    );
}

/// Whether a wrongly rounding writer would give all rows of the file one partition value as well.
fn same_units(spec: &[(i32, Transform)], rows: &[Vec<Value>]) -> bool {
    rows.iter().all(|row| spec.iter().all(|(id, _)| {
        let on_edge = |value: &Value| matches!(value, Some(PrimitiveLiteral::Long(micros)) if micros % 3_600_000_000 == 0);
        on_edge(&row[*id as usize - 1]) == on_edge(&rows[0][*id as usize - 1])
    }))
}
