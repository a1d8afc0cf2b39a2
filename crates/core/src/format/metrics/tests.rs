use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, StringArray};
use bytes::Bytes;
use iceberg::spec::{NestedField, NestedFieldRef};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::Compression;
use parquet::file::metadata::ParquetMetaDataReader;
use parquet::file::properties::{WriterProperties, WriterPropertiesBuilder};

use super::*;
use crate::format::{arrow_schema, parquet_schema};

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
