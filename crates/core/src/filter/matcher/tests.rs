mod random;

use std::collections::HashMap;

use iceberg::spec::{
    FieldSummary, FormatVersion, Literal, ManifestContentType, NestedField, NestedFieldRef, SortOrder,
    Struct, TableMetadataBuilder, Transform, UnboundPartitionSpec,
};

use super::*;
use crate::format::{FileMetrics, data_file};

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

fn manifest(partitions: Vec<FieldSummary>) -> ManifestFile {
    ManifestFile {
        manifest_path: String::new(),
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
        partitions: Some(partitions),
        key_metadata: None,
        first_row_id: None,
    }
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
fn bounds_that_contradict_themselves_say_nothing() {
    let table = metadata(&[PrimitiveType::Long], &[(1, Transform::Identity)]);
    let upside_down = bounded(0, None, Some((Datum::long(30_i64), Datum::long(10_i64))));
    let value = || Datum::long(20_i64);
    for test in [Test::Eq(value()), Test::Gt(value()), Test::Lt(value()), Test::In(vec![value()])] {
        assert_eq!(says(&table, &is(test.clone()), &upside_down), SOME, "{test:?}");
    }
    for test in [Test::NotEq(value()), Test::NotIn(vec![value()]), Test::GtEq(Datum::long(10_i64))] {
        assert_eq!(says(&table, &is(test.clone()), &upside_down), SOME, "{test:?}");
    }
    // So do a manifest's summaries of partition values.
    let bound = |value: i64| Some(Datum::long(value).to_bytes().unwrap());
    let matcher = FileMatcher::new(&is(Test::Eq(value())), &table).unwrap();
    let might_match = |least, greatest| {
        let summary = FieldSummary {
            contains_null: false,
            contains_nan: None,
            lower_bound: bound(least),
            upper_bound: bound(greatest),
        };
        matcher.might_match_manifest(&manifest(vec![summary]))
    };
    assert!(might_match(30, 10) && might_match(10, 30));
    assert!(!might_match(21, 30));
}

#[test]
fn counts_are_held_against_the_rows_and_never_each_other() {
    let table = metadata(&[PrimitiveType::Double], &[]);
    // NULLs, NaNs and values that are counted, of 10 rows; what IS NULL, IS NOT NULL and IS NAN say then.
    let cases = [
        ((Some(10), None, Some(10)), ALL, NONE, NONE),
        ((Some(10), None, Some(0)), ALL, NONE, NONE),
        ((Some(7), None, Some(3)), SOME, SOME, SOME),
        ((Some(7), Some(3), Some(3)), SOME, SOME, SOME),
        ((Some(7), Some(2), Some(9)), SOME, SOME, SOME),
        ((Some(0), Some(10), Some(10)), NONE, ALL, ALL),
        ((None, Some(10), None), SOME, SOME, SOME),
        ((None, Some(0), None), SOME, SOME, NONE),
        // More than there are rows, or as negative as they came.
        ((Some(11), Some(11), Some(11)), SOME, SOME, SOME),
        ((Some(u64::MAX), Some(u64::MAX), Some(0)), SOME, SOME, SOME),
        ((Some(0), None, Some(0)), NONE, ALL, SOME),
    ];
    for ((nulls, nans, values), is_null, not_null, is_nan) in cases {
        let of = |count: Option<u64>| count.map(|count| (1, count)).into_iter().collect();
        let metrics = FileMetrics {
            record_count: 10,
            value_counts: of(values),
            null_value_counts: of(nulls),
            nan_value_counts: of(nans),
            ..FileMetrics::default()
        };
        let file = file(Struct::empty(), metrics);
        for (test, expected) in [(Test::IsNull, is_null), (Test::NotNull, not_null), (Test::IsNan, is_nan)] {
            let found = says(&table, &is(test.clone()), &file);
            assert_eq!(found, expected, "{test:?} with {nulls:?} NULLs, {nans:?} NaNs, {values:?} values");
        }
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
