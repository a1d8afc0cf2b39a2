//! Random tables against a plain interpreter of filters.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::builder::{BinaryBuilder, StringBuilder};
use arrow_array::{
    ArrayRef, Date32Array, Decimal128Array, Float64Array, Int32Array, Int64Array, RecordBatch,
    TimestampMicrosecondArray,
};
use iceberg::spec::{FieldSummary, Literal, ManifestContentType, PrimitiveLiteral, Struct, Transform};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::file::properties::WriterProperties;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::super::*;
use super::{DECIMAL, file, metadata, not};
use crate::format::value::datum;
use crate::format::{
    FileMetrics, MetricsConfig, MetricsMode, Partitioner, arrow_schema, data_file_metrics, parquet_schema,
    rows_by_partition,
};

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
