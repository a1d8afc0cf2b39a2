//! What manifests say of files, as statistics for the optimizer.
//!
//! Row counts and NULL counts are exact. Bounds are exact for types that writers store whole; those of strings and binary
//! may be cut short, and those of floating point leave NaN out and may blur the sign of zero, so they are inexact, as are those
//! of timestamps in ORC files, which that format keeps in milliseconds.

use std::collections::HashMap;

use arrow::datatypes::{DataType, Field, TimeUnit};
use datafusion::common::stats::Precision;
use datafusion::common::{ColumnStatistics, ScalarValue, Statistics};
use iceberg::spec::{DataFileFormat, Datum, Literal, PartitionSpec, PrimitiveType, Transform, Type};
use icefield_core::Table;
use icefield_core::format::{LiveFile, foreign_kind};

use super::metadata_columns::is_metadata;
use super::schema::{ReadSchema, field_id};
use super::value::scalar;

/// Makes statistics of a scan's files, for the columns that the scan uses.
pub(super) struct FileStatistics<'a> {
    schema: &'a ReadSchema,
    /// For each column whether it is used, and its id.
    used: Vec<Option<i32>>,
    /// For each spec, the identity-partitioned columns: their place in the schema and in the partition value.
    identities: HashMap<i32, Vec<(usize, usize, PrimitiveType)>>,
}

impl<'a> FileStatistics<'a> {
    pub(super) fn new(table: &Table, schema: &'a ReadSchema, is_used: impl Fn(usize) -> bool) -> Self {
        let used: Vec<Option<i32>> = schema
            .arrow
            .fields()
            .iter()
            .enumerate()
            .map(|(index, field)| {
                // A row may have a value of its own for them, but not in every file.
                let id = field_id(field).filter(|_| is_used(index));
                // Bounds of types that only the format knows can't be compared.
                id.filter(|id| !is_metadata(*id) && !is_foreign(schema, *id))
            })
            .collect();
        let specs = table.metadata().partition_specs_iter();
        let identities = specs.map(|spec| (spec.spec_id(), identities(spec, schema, &used))).collect();
        Self { schema, used, identities }
    }

    /// A file's statistics.
    pub(super) fn of(&self, live: &LiveFile) -> Statistics {
        let file = &live.file;
        let rows = file.record_count();
        let fields = self.schema.arrow.fields();
        let mut columns: Vec<ColumnStatistics> = self
            .used
            .iter()
            .zip(fields)
            .map(|(id, field)| match id {
                Some(id) if !field.data_type().is_nested() => column(live, *id, field, rows),
                _ => ColumnStatistics::new_unknown(),
            })
            .collect();
        for (at, place, of) in self.identities.get(&live.spec_id).into_iter().flatten() {
            let (Some(column), Some(field)) = (columns.get_mut(*at), fields.get(*at)) else { continue };
            let Some(value) = file.partition().fields().get(*place) else { continue };
            if let Some(constant) = identity(value.as_ref(), of, field, rows) {
                *column = constant;
            }
        }
        Statistics {
            num_rows: Precision::Exact(rows as usize),
            total_byte_size: Precision::Inexact(file.file_size_in_bytes() as usize),
            column_statistics: columns,
        }
    }
}

fn is_foreign(schema: &ReadSchema, id: i32) -> bool {
    match schema.iceberg.field_by_id(id).map(|field| field.field_type.as_ref()) {
        Some(Type::Primitive(of)) => foreign_kind(of).is_some(),
        _ => false,
    }
}

fn identities(
    spec: &PartitionSpec,
    schema: &ReadSchema,
    used: &[Option<i32>],
) -> Vec<(usize, usize, PrimitiveType)> {
    let fields = spec.fields().iter().enumerate();
    let identities = fields.filter(|(_, field)| field.transform == Transform::Identity);
    identities
        .filter_map(|(place, field)| match schema.iceberg.field_by_id(field.source_id)?.field_type.as_ref() {
            Type::Primitive(of) => Some((field.source_id, place, of.clone())),
            _ => None,
        })
        // A column may be there twice: as itself, and hidden as a key of deletes.
        .flat_map(|(source, place, of)| {
            let columns = used.iter().enumerate().filter(move |(_, id)| **id == Some(source));
            columns.map(move |(at, _)| (at, place, of.clone()))
        })
        .collect()
}

/// A column of which a file holds one value, that of its partition. The reader takes the value from here, whether the
/// file has the column or (as files that were added from elsewhere) has not.
fn identity(
    value: Option<&Literal>,
    of: &PrimitiveType,
    field: &Field,
    rows: u64,
) -> Option<ColumnStatistics> {
    let mut statistics = ColumnStatistics::new_unknown();
    match value {
        None => statistics.null_count = Precision::Exact(rows as usize),
        Some(Literal::Primitive(literal)) => {
            let value = as_column(scalar(of, literal).ok()?, field)?;
            statistics.null_count = Precision::Exact(0);
            statistics.min_value = Precision::Exact(value.clone());
            statistics.max_value = Precision::Exact(value);
        }
        Some(_) => return None,
    }
    Some(statistics)
}

fn column(live: &LiveFile, id: i32, field: &Field, rows: u64) -> ColumnStatistics {
    let file = &live.file;
    let mut statistics = ColumnStatistics::new_unknown();
    // A count of NULLs that does not fit the values was made by a writer that counted something else.
    let nulls = file.null_value_counts().get(&id).copied();
    let values = file.value_counts().get(&id).copied();
    if let Some(nulls) = nulls.filter(|nulls| *nulls <= rows && values.is_none_or(|values| values == rows)) {
        statistics.null_count = Precision::Exact(nulls as usize);
    }
    let is_orc = file.file_format() == DataFileFormat::Orc;
    let is_rounded = is_orc && matches!(field.data_type(), DataType::Timestamp(..));
    // Iceberg Java (1.10) gives these in microseconds.
    let is_wrong = is_orc && matches!(field.data_type(), DataType::Timestamp(TimeUnit::Nanosecond, _));
    let is_exact = stored_whole(field.data_type()) && !is_rounded;
    let bound = |datum: Option<&Datum>| {
        let Some(datum) = datum.filter(|_| !is_wrong) else { return Precision::Absent };
        let value = scalar(datum.data_type(), datum.literal()).ok().and_then(|value| as_column(value, field));
        match value {
            Some(value) if is_exact => Precision::Exact(value),
            Some(value) => Precision::Inexact(value),
            None => Precision::Absent,
        }
    };
    statistics.min_value = bound(file.lower_bounds().get(&id));
    statistics.max_value = bound(file.upper_bounds().get(&id));
    if field.data_type().is_floating() {
        // NaN is above every bound, and writers do not agree on the sign of a zero bound.
        if file.nan_value_counts().get(&id) == Some(&0) {
            statistics.min_value =
                statistics.min_value.map(|v| if is_zero(&v) { signed_zero(&v, true) } else { v });
            statistics.max_value =
                statistics.max_value.map(|v| if is_zero(&v) { signed_zero(&v, false) } else { v });
        } else {
            statistics.min_value = Precision::Absent;
            statistics.max_value = Precision::Absent;
        }
    }
    statistics
}

fn is_zero(value: &ScalarValue) -> bool {
    match value {
        ScalarValue::Float32(Some(v)) => *v == 0.0,
        ScalarValue::Float64(Some(v)) => *v == 0.0,
        _ => false,
    }
}

fn signed_zero(like: &ScalarValue, negative: bool) -> ScalarValue {
    match like {
        ScalarValue::Float32(_) => ScalarValue::Float32(Some(if negative { -0.0 } else { 0.0 })),
        _ => ScalarValue::Float64(Some(if negative { -0.0 } else { 0.0 })),
    }
}

/// A value in a column's own type, or nothing where that would lose something.
fn as_column(value: ScalarValue, field: &Field) -> Option<ScalarValue> {
    if value.data_type() == *field.data_type() { Some(value) } else { value.cast_to(field.data_type()).ok() }
}

/// Whether bounds of this type are values that a file holds.
fn stored_whole(of: &DataType) -> bool {
    matches!(
        of,
        DataType::Boolean
            | DataType::Int32
            | DataType::Int64
            | DataType::Date32
            | DataType::Time64(_)
            | DataType::Timestamp(..)
            | DataType::Decimal128(..)
    )
}

/// The statistics of all files together.
pub(super) fn total<'a>(columns: usize, files: impl IntoIterator<Item = &'a Statistics>) -> Statistics {
    let mut sum = Statistics {
        num_rows: Precision::Exact(0),
        total_byte_size: Precision::Exact(0),
        column_statistics: vec![
            ColumnStatistics {
                null_count: Precision::Exact(0),
                ..ColumnStatistics::new_unknown()
            };
            columns
        ],
    };
    // Whether a column's bounds are begun: files of NULLs alone have none, and change none.
    let mut begun = vec![false; columns];
    for file in files {
        sum.num_rows = sum.num_rows.add(&file.num_rows);
        sum.total_byte_size = sum.total_byte_size.add(&file.total_byte_size);
        for ((column, other), begun) in
            sum.column_statistics.iter_mut().zip(&file.column_statistics).zip(&mut begun)
        {
            column.null_count = column.null_count.add(&other.null_count);
            if other.null_count.is_exact() == Some(true) && other.null_count == file.num_rows {
                continue;
            }
            if *begun {
                column.min_value = column.min_value.min(&other.min_value);
                column.max_value = column.max_value.max(&other.max_value);
            } else {
                *begun = true;
                column.min_value = other.min_value.clone();
                column.max_value = other.max_value.clone();
            }
        }
    }
    sum.column_statistics.iter_mut().for_each(drop_endless_bounds);
    sum
}

/// Drops bounds that span all of 64 bits: DataFusion counts the values between them in 64 bits, and overflows.
fn drop_endless_bounds(column: &mut ColumnStatistics) {
    if let (Some(min), Some(max)) = (column.min_value.get_value(), column.max_value.get_value())
        && max.distance(min) == Some(usize::MAX)
    {
        column.min_value = Precision::Absent;
        column.max_value = Precision::Absent;
    }
}
