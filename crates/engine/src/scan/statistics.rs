//! [`FileFacts`]: what manifests say of a scan's files, column by column, and what becomes of it.
//!
//! There are three uses, and each believes no more than it has to:
//! - **Pruning** of files while a query runs (dynamic filters, `ORDER BY .. LIMIT`) wants bounds that values keep to, which is
//!   what the format promises. DataFusion asks for bounds that are marked exact, and marked so they are, a file at a time.
//! - **Values without reading**: `MIN` and `MAX` are taken from bounds only of files whose entries are known to be
//!   [exact](LiveFile::exact), and a column is a constant only in such a file or where it is the partition's value. Bounds of
//!   strings may be cut short, those of floating point leave out NaN and blur the sign of zero, and ORC keeps timestamps in
//!   milliseconds: these are never taken for values.
//! - **Estimates** for the optimizer take what there is.
//!
//! Facts are held as columns of values, a few bytes for each file and column, and become a file's `Statistics` when the
//! file is opened: as such they would take hundreds of bytes each, for every file and column until the query ends.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanBufferBuilder, UInt64Array};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::{DataType, Field};
use datafusion::common::stats::Precision;
use datafusion::common::{ColumnStatistics, ScalarValue, Statistics};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation};
use iceberg::spec::{DataFileFormat, Datum, Literal, PartitionSpec, PrimitiveType, Transform, Type};
use icefield_core::format::{LiveFile, claims, foreign_kind};
use icefield_core::{Error, ErrorKind, Result, Table};

use super::file::ScanFile;
use super::metadata_columns::is_metadata;
use super::schema::{ReadSchema, field_id};
use super::sizes::decoded_bytes;
use super::value::scalar;
use crate::error::from_datafusion;

/// About what the plan of a scan holds of a file beside its facts, in bytes.
const BYTES_PER_FILE: usize = 640;

/// What is known of the columns of a scan's files. Files go by their place among these.
#[derive(Debug, Default)]
pub(super) struct FileFacts {
    rows: Vec<u64>,
    columns: Vec<ColumnFacts>,
    /// What the session's memory pool gave for them, and for the plan of the files.
    _memory: Option<MemoryReservation>,
}

#[derive(Debug, Default)]
struct ColumnFacts {
    nulls: Option<UInt64Array>,
    least: Option<ArrayRef>,
    most: Option<ArrayRef>,
    /// In which files both bounds are values that the file has.
    held: Option<BooleanBuffer>,
    /// Whether bounds order values as DataFusion does, so that it may prune by them.
    prunes: bool,
}

/// What is known of a column of one file.
#[derive(Debug, Default)]
struct Fact {
    nulls: Option<u64>,
    least: Option<ScalarValue>,
    most: Option<ScalarValue>,
    held: bool,
}

impl FileFacts {
    /// The facts of files, for the columns of `schema`, and the memory for the plan of a scan of them.
    ///
    /// # Errors
    /// [`ResourceExhausted`](ErrorKind::ResourceExhausted) when the session's memory does not suffice.
    pub(super) fn new(
        table: &Table,
        schema: &ReadSchema,
        files: &[&LiveFile],
        pool: &Arc<dyn MemoryPool>,
    ) -> Result<Self> {
        let identities = Identities::new(table);
        let columns = schema.arrow.fields().iter().map(|field| {
            // A row may have a value of its own for metadata columns, but not in every file. Bounds of types that only the format
            // knows can't be compared.
            let id = field_id(field).filter(|id| !is_metadata(*id) && !is_foreign(schema, *id));
            match id {
                Some(id) if !field.data_type().is_nested() && !field.data_type().is_null() => {
                    let of = identities.of_column(schema, id);
                    column(field, files.iter().map(|live| of.fact(live, id, field)))
                }
                _ => Ok(ColumnFacts::default()),
            }
        });
        let columns = columns.collect::<Result<Vec<_>>>()?;
        let paths: usize = files.iter().map(|live| 2 * live.path().len()).sum();
        let bytes =
            columns.iter().map(ColumnFacts::bytes).sum::<usize>() + paths + files.len() * BYTES_PER_FILE;
        let memory = MemoryConsumer::new(format!("plan of {}", table.ident())).register(pool);
        memory.try_grow(bytes).map_err(|e| {
            Error::new(
                ErrorKind::ResourceExhausted,
                "the plan of the table's files doesn't fit into the session's memory; compact the table, name fewer columns, or give the session a larger memory budget",
            )
            .with("table", table.ident())
            .with("files", files.len())
            .with("bytes", bytes)
            .with_source(e)
        })?;
        let rows = files.iter().map(|live| live.file.record_count()).collect();
        Ok(Self { rows, columns, _memory: Some(memory) })
    }

    /// A file's statistics as it is opened, for pruning and constants; none where nothing is known of any file.
    pub(super) fn opened(&self, place: usize) -> Option<Arc<Statistics>> {
        let rows = *self.rows.get(place)?;
        let columns = self.columns.iter().map(|column| column.statistics(place)).collect();
        Some(Arc::new(statistics(rows, columns)))
    }

    /// A file's statistics with these columns alone: what is asked of it where files are put in order.
    pub(super) fn of_columns(&self, place: usize, columns: &[usize]) -> Option<Arc<Statistics>> {
        let rows = *self.rows.get(place)?;
        let last = columns.iter().copied().max()?;
        let of_column = |at: usize| match (columns.contains(&at), self.columns.get(at)) {
            (true, Some(column)) => column.statistics(place),
            _ => ColumnStatistics::new_unknown(),
        };
        Some(Arc::new(statistics(rows, (0..=last).map(of_column).collect())))
    }

    /// Where a column's values are in a file at the least, or at the most.
    pub(super) fn bound(&self, place: usize, column: usize, most: bool) -> Option<ScalarValue> {
        let column = self.columns.get(column)?;
        value_at(if most { &column.most } else { &column.least }, place)
    }

    /// The value of a column of which a file holds one. It is how files that were added from elsewhere have their partitions'
    /// values; DataFusion's Parquet scans do the same with the statistics of an opened file.
    pub(super) fn constant(&self, place: usize, column: usize, of: &DataType) -> Option<ScalarValue> {
        let (rows, column) = (*self.rows.get(place)?, self.columns.get(column)?);
        let nulls = column.nulls_of(place)?;
        if nulls == rows {
            return ScalarValue::try_new_null(of).ok();
        }
        let value = value_at(&column.least, place)?;
        let is_one = nulls == 0 && column.is_held(place) && value_at(&column.most, place)? == value;
        is_one.then_some(value)
    }

    /// The statistics of some of the files together, as far as deletes leave them, for the optimizer.
    pub(super) fn total(&self, schema: &ReadSchema, files: &[&ScanFile<'_>]) -> Statistics {
        let (mut rows, mut exact_rows) = (0_u64, true);
        for file in files {
            let all = file.live.file.record_count();
            let left = file.deletes.rows_left(all);
            exact_rows &= left.is_some();
            rows = rows.saturating_add(left.unwrap_or(all));
        }
        let untouched = files.iter().all(|file| file.deletes.is_empty());
        let mut sum = Statistics {
            num_rows: precision(Some(rows as usize), exact_rows),
            total_byte_size: Precision::Absent,
            column_statistics: Vec::with_capacity(schema.arrow.fields().len()),
        };
        let (mut bytes, mut known) = (0_u64, true);
        for (at, field) in schema.arrow.fields().iter().enumerate() {
            let mut statistics = match self.columns.get(at) {
                Some(column) => column.total(&self.rows, files, untouched),
                None => ColumnStatistics::new_unknown(),
            };
            match decoded_bytes(schema, field, rows, files.iter().map(|file| file.live)) {
                Some(of_column) => {
                    statistics.byte_size = Precision::Inexact(of_column as usize);
                    bytes = bytes.saturating_add(of_column);
                }
                None => known = false,
            }
            sum.column_statistics.push(statistics);
        }
        if known {
            sum.total_byte_size = Precision::Inexact(bytes as usize);
        }
        sum
    }
}

fn statistics(rows: u64, columns: Vec<ColumnStatistics>) -> Statistics {
    Statistics {
        num_rows: Precision::Exact(rows as usize),
        total_byte_size: Precision::Absent,
        column_statistics: columns,
    }
}

impl ColumnFacts {
    fn nulls_of(&self, place: usize) -> Option<u64> {
        let nulls = self.nulls.as_ref()?;
        (place < nulls.len() && nulls.is_valid(place)).then(|| nulls.value(place))
    }

    fn is_held(&self, place: usize) -> bool {
        self.held.as_ref().is_some_and(|held| place < held.len() && held.value(place))
    }

    fn statistics(&self, place: usize) -> ColumnStatistics {
        let mut statistics = ColumnStatistics::new_unknown();
        let (least, most) = (value_at(&self.least, place), value_at(&self.most, place));
        // One value without NULLs DataFusion takes for the column: the file, not its bounds, is to say which.
        let looks_constant = least.is_some() && least == most && !self.is_held(place);
        statistics.null_count = precision(self.nulls_of(place).map(|nulls| nulls as usize), !looks_constant);
        statistics.min_value = precision(least, self.prunes);
        statistics.max_value = precision(most, self.prunes);
        statistics
    }

    fn total(&self, rows: &[u64], files: &[&ScanFile<'_>], untouched: bool) -> ColumnStatistics {
        let mut nulls = Some(0_u64);
        let (mut least, mut most) = (Extreme::default(), Extreme::default());
        for file in files {
            let of_file = self.nulls_of(file.place);
            nulls = nulls.zip(of_file).map(|(sum, of_file)| sum.saturating_add(of_file));
            // Files of NULLs alone have no bounds, and change none.
            if of_file.is_some() && of_file == rows.get(file.place).copied() {
                continue;
            }
            let held = self.is_held(file.place);
            least.add(value_at(&self.least, file.place), held, Ordering::Less);
            most.add(value_at(&self.most, file.place), held, Ordering::Greater);
        }
        let mut statistics = ColumnStatistics::new_unknown();
        statistics.null_count = precision(nulls.map(|nulls| nulls as usize), untouched);
        statistics.min_value = least.precision(untouched);
        statistics.max_value = most.precision(untouched);
        drop_endless_bounds(&mut statistics);
        statistics
    }

    fn bytes(&self) -> usize {
        let arrays = [&self.least, &self.most].into_iter().flatten();
        let bits = self.held.as_ref().map_or(0, |held| held.inner().capacity());
        let counts = self.nulls.as_ref().map_or(0, |nulls| nulls.get_array_memory_size());
        size_of::<Self>() + bits + counts + arrays.map(|array| array.get_array_memory_size()).sum::<usize>()
    }
}

/// The least or the greatest of files' bounds.
#[derive(Default)]
struct Extreme {
    value: Option<ScalarValue>,
    is_unknown: bool,
    is_bound: bool,
}

impl Extreme {
    fn add(&mut self, bound: Option<ScalarValue>, held: bool, wanted: Ordering) {
        let Some(bound) = bound else {
            self.is_unknown = true;
            return;
        };
        self.is_bound |= !held;
        if self.value.as_ref().is_none_or(|value| bound.partial_cmp(value) == Some(wanted)) {
            self.value = Some(bound);
        }
    }

    fn precision(self, exact: bool) -> Precision<ScalarValue> {
        precision(self.value.filter(|_| !self.is_unknown), exact && !self.is_bound)
    }
}

fn precision<T>(value: Option<T>, exact: bool) -> Precision<T>
where
    T: std::fmt::Debug + Clone + PartialEq + Eq + PartialOrd,
{
    match value {
        Some(value) if exact => Precision::Exact(value),
        Some(value) => Precision::Inexact(value),
        None => Precision::Absent,
    }
}

fn value_at(values: &Option<ArrayRef>, place: usize) -> Option<ScalarValue> {
    let values = values.as_ref()?;
    if place >= values.len() || values.is_null(place) {
        return None;
    }
    ScalarValue::try_from_array(values, place).ok()
}

/// A column's facts of all files.
fn column(field: &Field, facts: impl Iterator<Item = Fact>) -> Result<ColumnFacts> {
    let facts: Vec<Fact> = facts.collect();
    let null = ScalarValue::try_new_null(field.data_type()).map_err(from_datafusion)?;
    let values = |of: fn(&Fact) -> &Option<ScalarValue>| {
        if facts.iter().all(|fact| of(fact).is_none()) {
            return Ok(None);
        }
        let values = facts.iter().map(|fact| of(fact).clone().unwrap_or_else(|| null.clone()));
        ScalarValue::iter_to_array(values).map(Some).map_err(from_datafusion)
    };
    let (least, most) = (values(|fact| &fact.least)?, values(|fact| &fact.most)?);
    let nulls = facts.iter().any(|fact| fact.nulls.is_some());
    let nulls = nulls.then(|| facts.iter().map(|fact| fact.nulls).collect());
    let held = facts.iter().any(|fact| fact.held).then(|| {
        let mut held = BooleanBufferBuilder::new(facts.len());
        facts.iter().for_each(|fact| held.append(fact.held));
        held.finish()
    });
    let of = field.data_type();
    let prunes = is_stored_whole(of) || of.is_floating() || matches!(of, DataType::Utf8 | DataType::Utf8View);
    Ok(ColumnFacts { nulls, least, most, held, prunes })
}

/// The identity-partitioned columns of a table's specs.
struct Identities<'a>(HashMap<i32, &'a PartitionSpec>);

/// One column: its place in the partition values of each spec, and its type.
struct ColumnIdentities(HashMap<i32, (usize, PrimitiveType)>);

impl<'a> Identities<'a> {
    fn new(table: &'a Table) -> Self {
        Self(table.metadata().partition_specs_iter().map(|spec| (spec.spec_id(), spec.as_ref())).collect())
    }

    fn of_column(&self, schema: &ReadSchema, id: i32) -> ColumnIdentities {
        let of = match schema.iceberg.field_by_id(id).map(|field| field.field_type.as_ref()) {
            Some(Type::Primitive(of)) => of.clone(),
            _ => return ColumnIdentities(HashMap::new()),
        };
        let place = |spec: &PartitionSpec| {
            let is_identity = |field: &iceberg::spec::PartitionField| {
                field.transform == Transform::Identity && field.source_id == id
            };
            spec.fields().iter().position(is_identity)
        };
        let places = self.0.iter().filter_map(|(spec_id, spec)| Some((*spec_id, (place(spec)?, of.clone()))));
        ColumnIdentities(places.collect())
    }
}

impl ColumnIdentities {
    fn fact(&self, live: &LiveFile, id: i32, field: &Field) -> Fact {
        let of_partition = self.0.get(&live.spec_id).and_then(|(place, of)| {
            identity(
                live.file.partition().fields().get(*place)?.as_ref(),
                of,
                field,
                live.file.record_count(),
            )
        });
        of_partition.unwrap_or_else(|| of_entry(live, id, field))
    }
}

/// A column of which a file holds one value, that of its partition, whether the file has the column or (as files that were
/// added from elsewhere) has not.
fn identity(value: Option<&Literal>, of: &PrimitiveType, field: &Field, rows: u64) -> Option<Fact> {
    match value {
        None => Some(Fact { nulls: Some(rows), held: true, ..Fact::default() }),
        Some(Literal::Primitive(literal)) => {
            let value = as_column(scalar(of, literal).ok()?, field)?;
            Some(Fact { nulls: Some(0), least: Some(value.clone()), most: Some(value), held: true })
        }
        Some(_) => None,
    }
}

/// What a file's entry says of a column.
fn of_entry(live: &LiveFile, id: i32, field: &Field) -> Fact {
    let (file, of) = (&live.file, field.data_type());
    // A count of NULLs that does not fit the values was made by a writer that counted something else.
    let rows = file.record_count();
    let values = file.value_counts().get(&id).copied();
    let fits =
        |nulls: &u64| values.is_none_or(|values| values == rows || values.checked_add(*nulls) == Some(rows));
    let nulls = claims::null_count(file, id).filter(fits);
    let value = |bound: Option<&Datum>| as_column(scalar(bound?.data_type(), bound?.literal()).ok()?, field);
    let (lower, upper) = claims::bounds(file, id);
    let (mut least, mut most) = (value(lower), value(upper));
    if of.is_floating() {
        // NaN is above every bound, and writers do not agree on the sign of a zero bound.
        let numbers_only = claims::nan_count(file, id) == Some(0);
        least = least.filter(|_| numbers_only).map(|value| outermost_zero(value, true));
        most = most.filter(|_| numbers_only).map(|value| outermost_zero(value, false));
    }
    let is_rounded = file.file_format() != DataFileFormat::Parquet;
    Fact { nulls, least, most, held: live.exact && is_stored_whole(of) && !is_rounded }
}

fn is_foreign(schema: &ReadSchema, id: i32) -> bool {
    match schema.iceberg.field_by_id(id).map(|field| field.field_type.as_ref()) {
        Some(Type::Primitive(of)) => foreign_kind(of).is_some(),
        _ => false,
    }
}

fn outermost_zero(value: ScalarValue, negative: bool) -> ScalarValue {
    match value {
        ScalarValue::Float32(Some(0.0)) => ScalarValue::Float32(Some(if negative { -0.0 } else { 0.0 })),
        ScalarValue::Float64(Some(0.0)) => ScalarValue::Float64(Some(if negative { -0.0 } else { 0.0 })),
        other => other,
    }
}

/// A value in a column's own type, or nothing where that would lose something.
fn as_column(value: ScalarValue, field: &Field) -> Option<ScalarValue> {
    match (value, field.data_type()) {
        (ScalarValue::Utf8(text), DataType::Utf8View) => Some(ScalarValue::Utf8View(text)),
        (ScalarValue::Binary(bytes), DataType::BinaryView) => Some(ScalarValue::BinaryView(bytes)),
        (value, of) if value.data_type() == *of => Some(value),
        (value, of) => value.cast_to(of).ok().filter(|cast| !cast.is_null()),
    }
}

/// Whether writers store bounds of this type whole.
fn is_stored_whole(of: &DataType) -> bool {
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

/// Drops bounds that span all of 64 bits: DataFusion counts the values between them in 64 bits, and overflows.
fn drop_endless_bounds(column: &mut ColumnStatistics) {
    if let (Some(min), Some(max)) = (column.min_value.get_value(), column.max_value.get_value())
        && max.distance(min) == Some(usize::MAX)
    {
        column.min_value = Precision::Absent;
        column.max_value = Precision::Absent;
    }
}
