use std::sync::Arc;

use arrow_array::builder::{Int32Builder, ListBuilder};
use arrow_array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, FixedSizeBinaryArray, Float32Array,
    Float64Array, Int32Array, Int64Array, RecordBatch, StringArray, StructArray, Time64MicrosecondArray,
    TimestampMicrosecondArray, TimestampMillisecondArray, TimestampNanosecondArray, UInt32Array,
};
use bytes::Bytes;
use iceberg::spec::{ListType, NestedField, NestedFieldRef, PrimitiveLiteral, StructType};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::Compression;
use parquet::file::metadata::ParquetMetaDataReader;
use parquet::file::properties::{WriterProperties, WriterPropertiesBuilder};

use super::*;
use crate::format::value::{compare, datum};
use crate::format::{arrow_schema, parquet_schema};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::cmp::Ordering;

fn schema_of(columns: &[(&str, PrimitiveType)]) -> Schema {
    let fields = columns.iter().enumerate().map(|(i, (name, of))| {
        NestedFieldRef::new(NestedField::optional(i as i32 + 1, *name, Type::Primitive(of.clone())))
    });
    Schema::builder().with_fields(fields).build().unwrap()
}

/// Writes batches, each a row group of its own, and gives the metadata as the writer returned it and as a reader finds it.
fn write(
    schema: &Schema,
    groups: &[Vec<ArrayRef>],
    properties: impl FnOnce(WriterPropertiesBuilder) -> WriterPropertiesBuilder,
) -> [ParquetMetaData; 2] {
    let arrow = arrow_schema(schema).unwrap();
    let properties =
        properties(WriterProperties::builder().set_compression(Compression::UNCOMPRESSED)).build();
    let options = ArrowWriterOptions::new()
        .with_properties(properties)
        .with_parquet_schema(parquet_schema(schema).unwrap())
        .with_skip_arrow_metadata(true);
    let mut file = Vec::new();
    let mut writer = ArrowWriter::try_new_with_options(&mut file, arrow.clone(), options).unwrap();
    for columns in groups {
        writer.write(&RecordBatch::try_new(arrow.clone(), columns.clone()).unwrap()).unwrap();
        writer.flush().unwrap();
    }
    let written = writer.close().unwrap();
    let read = ParquetMetaDataReader::new().parse_and_finish(&Bytes::from(file)).unwrap();
    [written, read]
}

fn metrics_of(
    schema: &Schema,
    groups: &[Vec<ArrayRef>],
    mode: MetricsMode,
    nans: &[(i32, u64)],
) -> FileMetrics {
    let nans = nans.iter().copied().collect();
    let [written, read] = write(schema, groups, |properties| properties)
        .map(|metadata| data_file_metrics(&metadata, schema, &MetricsConfig::all(mode), &nans).unwrap());
    assert_eq!(written, read, "the writer's metadata and the footer say the same");
    written
}

const DEFAULT: MetricsMode = MetricsMode::Truncate(16);

fn strings(values: &[Option<&str>]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

#[test]
fn a_string_over_64_bytes_in_one_row_group_does_not_hide_the_others() {
    let schema = schema_of(&[("s", PrimitiveType::String)]);
    let long_low = "a".repeat(200);
    let long_high = "z".repeat(200);
    let groups = [
        vec![strings(&[Some("m"), None])],
        vec![strings(&[Some(&long_low), Some(&long_high)])],
        vec![strings(&[Some("n")])],
    ];
    let metrics = metrics_of(&schema, &groups, DEFAULT, &[]);
    assert_eq!(metrics.lower_bounds[&1], Datum::string("a".repeat(16)));
    assert_eq!(metrics.upper_bounds[&1], Datum::string("z".repeat(15) + "{"));
    assert_eq!((metrics.value_counts[&1], metrics.null_value_counts[&1], metrics.record_count), (5, 1, 5));
    assert_eq!(metrics.split_offsets.len(), 3);
    assert_eq!(metrics.split_offsets[0], 4);
}

#[test]
fn one_row_group_without_statistics_means_no_bound_at_all() {
    let schema = schema_of(&[("s", PrimitiveType::String)]);
    let groups = [vec![strings(&[Some("m")])], vec![strings(&[Some("n")])]];
    let [metadata, _] = write(&schema, &groups, |properties| properties);
    let mut builder = metadata.into_builder();
    let mut row_groups = builder.take_row_groups();
    let group = row_groups.pop().unwrap().into_builder();
    let column = metadata_without_statistics(&row_groups[0]);
    row_groups.push(group.set_column_metadata(vec![column]).build().unwrap());
    let metadata = builder.set_row_groups(row_groups).build();
    let metrics = data_file_metrics(&metadata, &schema, &MetricsConfig::default(), &HashMap::new()).unwrap();
    assert!(metrics.lower_bounds.is_empty() && metrics.upper_bounds.is_empty());
    assert!(metrics.null_value_counts.is_empty());
    assert_eq!(metrics.value_counts[&1], 2);
}

fn metadata_without_statistics(group: &parquet::file::metadata::RowGroupMetaData) -> ColumnChunkMetaData {
    group.column(0).clone().into_builder().clear_statistics().build().unwrap()
}

#[test]
fn every_type_has_the_bounds_of_its_values() {
    use PrimitiveType as T;
    let uuid = |value: u128| uuid::Uuid::from_u128(value);
    let fixed =
        |values: Vec<Vec<u8>>| Arc::new(FixedSizeBinaryArray::try_from_iter(values.into_iter()).unwrap());
    let of_decimal = |precision, scale, value: i128| {
        datum(&T::Decimal { precision, scale }, &PrimitiveLiteral::Int128(value)).unwrap()
    };
    let decimals = |precision: u8, scale: i8, values: Vec<i128>| -> ArrayRef {
        Arc::new(Decimal128Array::from(values).with_precision_and_scale(precision, scale).unwrap())
    };
    let big = 10_i128.pow(37);
    let cases: Vec<(T, ArrayRef, Datum, Datum)> = vec![
        (T::Boolean, Arc::new(BooleanArray::from(vec![true, false])), Datum::bool(false), Datum::bool(true)),
        (T::Int, Arc::new(Int32Array::from(vec![3, -3])), Datum::int(-3), Datum::int(3)),
        (T::Long, Arc::new(Int64Array::from(vec![i64::MIN, 3])), Datum::long(i64::MIN), Datum::long(3)),
        (T::Float, Arc::new(Float32Array::from(vec![1.5, -1.5])), Datum::float(-1.5), Datum::float(1.5)),
        (T::Double, Arc::new(Float64Array::from(vec![1.5, -1.5])), Datum::double(-1.5), Datum::double(1.5)),
        (T::Date, Arc::new(Date32Array::from(vec![-9, 9])), Datum::date(-9), Datum::date(9)),
        (
            T::Time,
            Arc::new(Time64MicrosecondArray::from(vec![0, 9])),
            Datum::time_micros(0).unwrap(),
            Datum::time_micros(9).unwrap(),
        ),
        (
            T::Timestamp,
            Arc::new(TimestampMicrosecondArray::from(vec![-1, 1])),
            Datum::timestamp_micros(-1),
            Datum::timestamp_micros(1),
        ),
        (
            T::Timestamptz,
            Arc::new(TimestampMicrosecondArray::from(vec![-1, 1]).with_timezone("+00:00")),
            Datum::timestamptz_micros(-1),
            Datum::timestamptz_micros(1),
        ),
        (
            T::TimestampNs,
            Arc::new(TimestampNanosecondArray::from(vec![-1, 1])),
            Datum::timestamp_nanos(-1),
            Datum::timestamp_nanos(1),
        ),
        (
            T::Uuid,
            fixed(vec![uuid(5).as_bytes().to_vec(), uuid(u128::MAX).as_bytes().to_vec()]),
            Datum::uuid(uuid(5)),
            Datum::uuid(uuid(u128::MAX)),
        ),
        (
            T::Fixed(2),
            fixed(vec![vec![1, 255], vec![255, 0]]),
            Datum::fixed([1, 255]),
            Datum::fixed([255, 0]),
        ),
        (
            T::Binary,
            Arc::new(BinaryArray::from_vec(vec![&[255; 70], &[1; 70]])),
            Datum::binary([1; 16]),
            Datum::binary([255; 70]),
        ),
        (
            T::Decimal { precision: 1, scale: 0 },
            decimals(1, 0, vec![-1, 5]),
            of_decimal(1, 0, -1),
            of_decimal(1, 0, 5),
        ),
        (
            T::Decimal { precision: 9, scale: 2 },
            decimals(9, 2, vec![-129, 128]),
            of_decimal(9, 2, -129),
            of_decimal(9, 2, 128),
        ),
        (
            T::Decimal { precision: 18, scale: 2 },
            decimals(18, 2, vec![-129, 128]),
            of_decimal(18, 2, -129),
            of_decimal(18, 2, 128),
        ),
        (
            T::Decimal { precision: 38, scale: 2 },
            decimals(38, 2, vec![-big, big, 0]),
            of_decimal(38, 2, -big),
            of_decimal(38, 2, big),
        ),
    ];
    for (of, values, lower, upper) in cases {
        let schema = schema_of(&[("c", of.clone())]);
        let metrics = metrics_of(&schema, &[vec![values]], DEFAULT, &[]);
        assert_eq!(metrics.lower_bounds.get(&1), Some(&lower), "{of}");
        if of == PrimitiveType::Binary {
            assert_eq!(metrics.upper_bounds.get(&1), None, "nothing of 16 bytes is above 70 of the greatest");
        } else {
            assert_eq!(metrics.upper_bounds.get(&1), Some(&upper), "{of}");
        }
        let back = Datum::try_from_bytes(&lower.to_bytes().unwrap(), of.clone()).unwrap();
        assert_eq!(back, lower, "{of} survives its form in manifests");
    }
}

#[test]
fn nan_and_zeros_widen_bounds_and_never_appear_in_them() {
    let schema = schema_of(&[("d", PrimitiveType::Double)]);
    let nan = f64::NAN;
    let group = |values: Vec<Option<f64>>| vec![Arc::new(Float64Array::from(values)) as ArrayRef];
    let bits = |datum: Option<&Datum>| match datum.map(Datum::literal) {
        Some(PrimitiveLiteral::Double(value)) => Some(value.0.to_bits()),
        _ => None,
    };
    /// Row groups, NaNs, and the bounds to be found.
    type Case = (Vec<Vec<Option<f64>>>, u64, Option<(f64, f64)>);
    let cases: Vec<Case> = vec![
        (vec![vec![Some(0.0)]], 0, Some((-0.0, 0.0))),
        (vec![vec![Some(-0.0)], vec![Some(0.0)]], 0, Some((-0.0, 0.0))),
        (vec![vec![Some(nan), Some(1.0)]], 1, Some((1.0, 1.0))),
        (vec![vec![Some(nan), None], vec![Some(1.0), Some(-nan)]], 2, Some((1.0, 1.0))),
        (vec![vec![Some(nan)], vec![None]], 1, None),
        (vec![vec![Some(nan)]], 1, None),
        (vec![vec![None]], 0, None),
        (vec![vec![None], vec![Some(2.0)]], 0, Some((2.0, 2.0))),
        (
            vec![vec![Some(f64::INFINITY), Some(f64::NEG_INFINITY)]],
            0,
            Some((f64::NEG_INFINITY, f64::INFINITY)),
        ),
    ];
    for (groups, nans, expected) in cases {
        let name = format!("{groups:?}");
        let groups: Vec<_> = groups.into_iter().map(group).collect();
        let metrics = metrics_of(&schema, &groups, DEFAULT, &[(1, nans)]);
        assert_eq!(metrics.nan_value_counts[&1], nans);
        let found = (bits(metrics.lower_bounds.get(&1)), bits(metrics.upper_bounds.get(&1)));
        let expected =
            (expected.map(|(lower, _)| lower.to_bits()), expected.map(|(_, upper)| upper.to_bits()));
        assert_eq!(found, expected, "{name}");
    }
    let uncounted = metrics_of(&schema, &[group(vec![Some(nan)]), group(vec![Some(1.0)])], DEFAULT, &[]);
    assert!(uncounted.lower_bounds.is_empty(), "the group without a minimum may hold anything");
    assert!(uncounted.nan_value_counts.is_empty());
}

#[test]
fn columns_in_structs_have_bounds_and_those_in_lists_only_counts() {
    let point =
        StructType::new(vec![NestedField::optional(2, "x", Type::Primitive(PrimitiveType::Int)).into()]);
    let list = ListType::new(NestedField::list_element(4, Type::Primitive(PrimitiveType::Int), false).into());
    let schema = Schema::builder()
        .with_fields([
            NestedField::optional(1, "point", Type::Struct(point)).into(),
            NestedField::optional(3, "list", Type::List(list)).into(),
        ])
        .build()
        .unwrap();
    let arrow = arrow_schema(&schema).unwrap();
    let arrow_schema::DataType::Struct(fields) = arrow.field(0).data_type().clone() else { panic!() };
    let arrow_schema::DataType::List(element) = arrow.field(1).data_type().clone() else { panic!() };
    let points = StructArray::new(
        fields,
        vec![Arc::new(Int32Array::from(vec![Some(1), Some(2), None]))],
        Some(vec![true, false, true].into()),
    );
    let mut lists = ListBuilder::new(Int32Builder::new()).with_field(element);
    lists.append_value([Some(1), None, Some(3)]);
    lists.append_null();
    lists.append_value([]);
    let metrics = metrics_of(&schema, &[vec![Arc::new(points), Arc::new(lists.finish())]], DEFAULT, &[]);
    assert_eq!(
        (metrics.value_counts[&2], metrics.null_value_counts[&2]),
        (3, 2),
        "a NULL struct's field is NULL"
    );
    assert_eq!((&metrics.lower_bounds[&2], &metrics.upper_bounds[&2]), (&Datum::int(1), &Datum::int(1)));
    assert_eq!(metrics.value_counts[&4], 5);
    assert!(!metrics.lower_bounds.contains_key(&4) && !metrics.upper_bounds.contains_key(&4));
    assert!(metrics.column_sizes[&4] > 0 && !metrics.column_sizes.contains_key(&1));
}

#[test]
fn modes_say_how_much_is_kept() {
    let schema = schema_of(&[("s", PrimitiveType::String)]);
    let groups = [vec![strings(&[Some("abc"), Some("abd"), None])]];
    let none = metrics_of(&schema, &groups, MetricsMode::None, &[]);
    assert!(none.value_counts.is_empty() && none.column_sizes[&1] > 0);
    let counts = metrics_of(&schema, &groups, MetricsMode::Counts, &[]);
    assert_eq!((counts.value_counts[&1], counts.null_value_counts[&1], counts.lower_bounds.len()), (3, 1, 0));
    let cut = metrics_of(&schema, &groups, MetricsMode::Truncate(2), &[]);
    assert_eq!((&cut.lower_bounds[&1], &cut.upper_bounds[&1]), (&Datum::string("ab"), &Datum::string("ac")));
    let full = metrics_of(&schema, &groups, MetricsMode::Full, &[]);
    assert_eq!(
        (&full.lower_bounds[&1], &full.upper_bounds[&1]),
        (&Datum::string("abc"), &Datum::string("abd"))
    );
}

#[test]
fn an_upper_bound_is_cut_to_the_next_string_or_not_at_all() {
    let schema = schema_of(&[("s", PrimitiveType::String)]);
    let cases = [
        ("ab", Some("ab")),
        ("abc", Some("ac")),
        ("a\u{10FFFF}c", Some("b")),
        ("\u{10FFFF}\u{10FFFF}c", None),
        ("a\u{D7FF}c", Some("a\u{E000}")),
        ("éü🧊", Some("éý")),
    ];
    for (value, expected) in cases {
        let metrics = metrics_of(&schema, &[vec![strings(&[Some(value)])]], MetricsMode::Truncate(2), &[]);
        assert_eq!(metrics.upper_bounds.get(&1).cloned(), expected.map(Datum::string), "{value}");
    }
}

#[test]
fn random_texts_and_bytes_lie_within_their_bounds() {
    let schema = schema_of(&[("s", PrimitiveType::String), ("b", PrimitiveType::Binary)]);
    let points = ['a', 'é', '\u{D7FF}', '\u{FFFF}', '🧊', '\u{10FFFF}'];
    for seed in 0..200 {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut texts = Vec::new();
        let mut all_bytes = Vec::new();
        let groups: Vec<Vec<ArrayRef>> = (0..rng.random_range(1..4))
            .map(|_| {
                let rows = rng.random_range(0..5);
                let group: Vec<Option<String>> = (0..rows)
                    .map(|_| {
                        let length = [0, 3, 15, 16, 17, 63, 64, 65, 200][rng.random_range(0..9)];
                        let point = points[rng.random_range(0..points.len())];
                        let mut text: String = std::iter::repeat_n(point, length).collect();
                        text.push(points[rng.random_range(0..points.len())]);
                        (!rng.random_ratio(1, 5)).then_some(text)
                    })
                    .collect();
                let bytes: Vec<Option<Vec<u8>>> = (0..rows)
                    .map(|_| {
                        let length = [0, 15, 16, 17, 63, 64, 65, 200][rng.random_range(0..8)];
                        let mut bytes = vec![[0, 7, 255][rng.random_range(0..3)]; length];
                        bytes.push(rng.random());
                        (!rng.random_ratio(1, 5)).then_some(bytes)
                    })
                    .collect();
                let arrays: Vec<ArrayRef> = vec![
                    Arc::new(group.iter().map(Option::as_deref).collect::<StringArray>()),
                    Arc::new(bytes.iter().map(Option::as_deref).collect::<BinaryArray>()),
                ];
                texts.extend(group.into_iter().flatten());
                all_bytes.extend(bytes.into_iter().flatten());
                arrays
            })
            .collect();
        for mode in [MetricsMode::Truncate(1), DEFAULT, MetricsMode::Truncate(100), MetricsMode::Full] {
            let metrics = metrics_of(&schema, &groups, mode, &[]);
            let values = texts.iter().map(|text| (1, Datum::string(text)));
            for (id, value) in values.chain(all_bytes.iter().map(|bytes| (2, Datum::binary(bytes.clone())))) {
                let lower = metrics.lower_bounds.get(&id).expect("a lower bound can always be cut");
                assert_ne!(compare(lower, &value), Some(Ordering::Greater), "seed {seed}, {mode:?}");
                if let Some(upper) = metrics.upper_bounds.get(&id) {
                    assert_ne!(compare(upper, &value), Some(Ordering::Less), "seed {seed}, {mode:?}");
                }
            }
        }
    }
}

#[test]
fn table_properties_choose_each_columns_mode() {
    let properties = |pairs: &[(&str, &str)]| -> HashMap<String, String> {
        pairs
            .iter()
            .map(|(key, value)| (format!("write.metadata.metrics.{key}"), (*value).to_string()))
            .collect()
    };
    let columns: Vec<(String, PrimitiveType)> =
        (0..4).map(|i| (format!("c{i}"), PrimitiveType::Int)).collect();
    let columns: Vec<(&str, PrimitiveType)> =
        columns.iter().map(|(name, of)| (name.as_str(), of.clone())).collect();
    let schema = schema_of(&columns);
    let modes = |pairs: &[(&str, &str)], sorted: &[i32]| {
        let config = MetricsConfig::new(&properties(pairs), &schema, sorted);
        [1, 2, 3, 4].map(|id| config.mode(id))
    };
    use MetricsMode::{Counts, Full, None, Truncate};
    let cut = Truncate(16);
    assert_eq!(modes(&[], &[]), [cut; 4]);
    assert_eq!(modes(&[("default", "Counts")], &[]), [Counts; 4]);
    assert_eq!(modes(&[("default", "nonsense")], &[]), [cut; 4]);
    assert_eq!(modes(&[("default", "none"), ("column.c1", "full")], &[3]), [None, Full, cut, None]);
    assert_eq!(modes(&[("default", "full"), ("column.c1", "truncate(0)")], &[3]), [Full; 4]);
    assert_eq!(modes(&[("max-inferred-column-defaults", "2")], &[4]), [cut, cut, None, cut]);
    assert_eq!(modes(&[("max-inferred-column-defaults", "4")], &[]), [cut; 4]);
}

#[test]
fn a_data_files_entry_has_its_metrics() {
    let schema = schema_of(&[("s", PrimitiveType::String)]);
    let metrics = metrics_of(&schema, &[vec![strings(&[Some("abc")])]], DEFAULT, &[]);
    let entry =
        data_file("memory:///t/a.parquet", 3, Struct::empty(), 1234, metrics.clone(), Some(2)).unwrap();
    assert_eq!(
        (entry.spec_id, entry.file.file_size_in_bytes(), entry.file.sort_order_id()),
        (3, 1234, Some(2))
    );
    assert_eq!(entry.file.lower_bounds(), &metrics.lower_bounds);
    assert_eq!(entry.file.split_offsets(), Some(&[4][..]));
}

/// The metrics of a file of one column that another writer made, with its own form of the table's type.
fn foreign(of: PrimitiveType, values: ArrayRef) -> FileMetrics {
    let schema = schema_of(&[("c", of)]);
    let id = HashMap::from([(parquet::arrow::PARQUET_FIELD_ID_META_KEY.to_string(), "1".to_string())]);
    let field = arrow_schema::Field::new("other name", values.data_type().clone(), true).with_metadata(id);
    let arrow = Arc::new(arrow_schema::Schema::new(vec![field]));
    let mut writer = ArrowWriter::try_new(Vec::new(), arrow.clone(), None).unwrap();
    writer.write(&RecordBatch::try_new(arrow, vec![values]).unwrap()).unwrap();
    let metadata = writer.close().unwrap();
    data_file_metrics(&metadata, &schema, &MetricsConfig::default(), &HashMap::new()).unwrap()
}

#[test]
fn files_of_other_writers_have_the_bounds_of_their_values_or_none() {
    use PrimitiveType as T;
    type Case = (T, ArrayRef, Option<(Datum, Datum)>);
    let cases: Vec<Case> = vec![
        (T::Long, Arc::new(Int32Array::from(vec![-1, 2])), Some((Datum::long(-1), Datum::long(2)))),
        (
            T::Long,
            Arc::new(UInt32Array::from(vec![1, u32::MAX])),
            Some((Datum::long(1), Datum::long(i64::from(u32::MAX)))),
        ),
        (T::Int, Arc::new(UInt32Array::from(vec![1, u32::MAX])), None),
        (T::Double, Arc::new(Float32Array::from(vec![0.5])), Some((Datum::double(0.5), Datum::double(0.5)))),
        (
            T::Timestamp,
            Arc::new(TimestampMillisecondArray::from(vec![-1, 2])),
            Some((Datum::timestamp_micros(-1000), Datum::timestamp_micros(2000))),
        ),
        (T::Timestamp, Arc::new(TimestampMillisecondArray::from(vec![i64::MAX])), None),
        (T::Timestamp, Arc::new(TimestampNanosecondArray::from(vec![1])), None),
        (T::Timestamp, Arc::new(Int64Array::from(vec![1])), None),
        (T::String, Arc::new(Int64Array::from(vec![1])), None),
        (
            T::Decimal { precision: 9, scale: 3 },
            Arc::new(Decimal128Array::from(vec![1]).with_precision_and_scale(9, 2).unwrap()),
            None,
        ),
        (T::Fixed(3), Arc::new(FixedSizeBinaryArray::try_from_iter([[1_u8, 2]].into_iter()).unwrap()), None),
    ];
    for (of, values, expected) in cases {
        let name = format!("{} as {of}", values.data_type());
        let metrics = foreign(of, values);
        let found = metrics.lower_bounds.get(&1).cloned().zip(metrics.upper_bounds.get(&1).cloned());
        assert_eq!(found, expected, "{name}");
        assert_eq!(metrics.null_value_counts[&1], 0, "{name}");
    }
}

#[test]
fn a_minimum_in_the_footers_deprecated_fields_is_not_believed() {
    use parquet::file::statistics::{Statistics, ValueStatistics};
    let schema = schema_of(&[("i", PrimitiveType::Int)]);
    let [metadata, _] =
        write(&schema, &[vec![Arc::new(Int32Array::from(vec![1, 2]))]], |properties| properties);
    let mut builder = metadata.into_builder();
    let group = builder.take_row_groups().pop().unwrap();
    let old = Statistics::Int32(ValueStatistics::new(Some(1), Some(2), None, Some(0), true));
    let column = group.column(0).clone().into_builder().set_statistics(old).build().unwrap();
    let group = group.into_builder().set_column_metadata(vec![column]).build().unwrap();
    let metadata = builder.set_row_groups(vec![group]).build();
    let metrics = data_file_metrics(&metadata, &schema, &MetricsConfig::default(), &HashMap::new()).unwrap();
    assert!(metrics.lower_bounds.is_empty() && metrics.upper_bounds.is_empty());
    assert_eq!(metrics.null_value_counts[&1], 0);
}
