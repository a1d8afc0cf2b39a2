//! Batches of any producer, made to fit the table's schema.
//!
//! Columns are matched by name at every level, reordered, and converted where nothing can be lost: wider numbers, another
//! time unit, another text or list representation. A column that the input lacks becomes its write default or NULL. What
//! does not fit is refused before a row is written where types alone tell, and with the first offending batch where values
//! do (NULL in a required column, nanoseconds that microseconds can't hold).

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Int32Array, ListArray, MapArray, RecordBatch, RecordBatchOptions, StructArray,
    make_array, new_null_array,
};
use arrow::buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{
    DataType, Date64Type, Decimal128Type, Field, FieldRef, Fields, Schema as ArrowSchema, SchemaRef, TimeUnit,
};
use iceberg::spec::{NestedFieldRef, PrimitiveType, Schema, Type};
use icefield_core::format::{arrow_schema, write_default};
use icefield_core::{Error, Result};

use super::literal::repeat_literal;

/// How the batches of one input become rows of the table.
#[derive(Debug)]
pub(crate) struct Conform {
    columns: Vec<Source>,
    fields: Vec<NestedFieldRef>,
    schema: SchemaRef,
}

/// Where a field's values come from.
#[derive(Debug)]
enum Source {
    Input(usize, Step),
    Default(ArrayRef),
    Null(DataType),
}

/// What is done with an input column.
#[derive(Debug)]
enum Step {
    Keep,
    Cast(DataType),
    /// Nanoseconds to microseconds (the target), refused where a value has more digits.
    ExactMicros(DataType),
    /// Milliseconds to days (the target), refused where a value has a time of day.
    ExactDays(DataType),
    /// To another representation first.
    Then(DataType, Box<Step>),
    Struct(Vec<Source>, Vec<NestedFieldRef>, Fields),
    List(Box<Step>, NestedFieldRef, FieldRef),
    Map(Box<Step>, Box<Step>, NestedFieldRef, FieldRef),
}

const MILLIS_A_DAY: i64 = 86_400_000;

/// Checks of values, not only of types: overflow is an error, never NULL.
const CHECKED: CastOptions<'static> =
    CastOptions { safe: false, format_options: arrow::util::display::FormatOptions::new() };

impl Conform {
    /// Plans the conversion of batches of `input` into rows of `table`.
    ///
    /// # Errors
    /// [`InvalidInput`](icefield_core::ErrorKind::InvalidInput) naming the column: one that the table does not have, one
    /// that it requires and the input lacks, a type that would lose values.
    pub(crate) fn new(input: &ArrowSchema, table: &Schema) -> Result<Self> {
        let target = arrow_schema(table)?;
        let fields = table.as_struct().fields();
        let (columns, types) = match_fields("", input.fields(), fields, target.fields())?;
        let schema =
            ArrowSchema::new_with_metadata(retype(target.fields(), types), target.metadata().clone());
        Ok(Self { columns, fields: fields.to_vec(), schema: Arc::new(schema) })
    }

    /// The schema of what [`Conform::apply`] gives: the table's, except that text and binary columns may stay in the
    /// representation in which they came.
    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Makes a batch fit.
    pub(crate) fn apply(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let rows = batch.num_rows();
        let columns = convert_fields("", &self.columns, &self.fields, batch.columns(), rows, None)?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(self.schema.clone(), columns, &options).map_err(|e| {
            Error::internal("a batch does not fit the schema that was made for it").with_source(e)
        })
    }
}

fn retype(fields: &Fields, types: Vec<DataType>) -> Fields {
    fields.iter().zip(types).map(|(field, data_type)| retyped(field, data_type)).collect()
}

fn retyped(field: &Field, data_type: DataType) -> FieldRef {
    Arc::new(field.clone().with_data_type(data_type))
}

fn join(parent: &str, name: &str) -> String {
    if parent.is_empty() { name.to_string() } else { format!("{parent}.{name}") }
}

/// Matches an input's fields by name to the table's: where each comes from, and the type that it will have.
fn match_fields(
    parent: &str,
    input: &Fields,
    fields: &[NestedFieldRef],
    arrow: &Fields,
) -> Result<(Vec<Source>, Vec<DataType>)> {
    let mut seen = HashSet::new();
    for field in input {
        let path = join(parent, field.name());
        if !seen.insert(field.name()) {
            return Err(Error::invalid_input("the input has two columns of this name; rename one")
                .with("column", path));
        }
        if !fields.iter().any(|known| known.name == *field.name()) {
            let message = "the table has no such column; drop it from the input, rename it, or let the write evolve the schema";
            return Err(Error::invalid_input(message).with("column", path).with("type", field.data_type()));
        }
    }
    let mut sources = Vec::with_capacity(fields.len());
    let mut types = Vec::with_capacity(fields.len());
    for (field, arrow) in fields.iter().zip(arrow) {
        let path = join(parent, &field.name);
        let (source, data_type) = match input.find(&field.name) {
            Some((at, given)) => {
                let (step, data_type) = plan(&path, given.data_type(), &field.field_type, arrow.data_type())?;
                (Source::Input(at, step), data_type)
            }
            None => (absent(&path, field, arrow)?, arrow.data_type().clone()),
        };
        sources.push(source);
        types.push(data_type);
    }
    Ok((sources, types))
}

fn absent(path: &str, field: &NestedFieldRef, arrow: &Field) -> Result<Source> {
    if let Some(default) = write_default(field)? {
        let value = repeat_literal(&default, &field.field_type, arrow.data_type(), 1)
            .map_err(|e| e.with("column", path))?;
        return Ok(Source::Default(value));
    }
    if field.required {
        let message = "the input lacks a required column; add it to the input, or make the column optional";
        return Err(Error::invalid_input(message).with("column", path).with("type", &*field.field_type));
    }
    Ok(Source::Null(arrow.data_type().clone()))
}

/// The step from an input type to a table type, and the type that it gives.
fn plan(path: &str, from: &DataType, to: &Type, arrow: &DataType) -> Result<(Step, DataType)> {
    let unfit = || {
        let message =
            "the input's type does not fit the column's; cast the column, or change the table's schema";
        Err(Error::invalid_input(message)
            .with("column", path)
            .with("input type", from)
            .with("column type", type_name(to)))
    };
    match from {
        DataType::Null => return Ok((Step::Cast(arrow.clone()), arrow.clone())),
        DataType::Dictionary(_, value) => return plan_then(path, value, to, arrow),
        DataType::RunEndEncoded(_, values) => return plan_then(path, values.data_type(), to, arrow),
        _ => {}
    }
    match to {
        Type::Primitive(primitive) => plan_primitive(from, primitive, arrow).map_or_else(unfit, Ok),
        Type::Struct(to) => {
            let (DataType::Struct(input), DataType::Struct(fields)) = (from, arrow) else { return unfit() };
            let (sources, types) = match_fields(path, input, to.fields(), fields)?;
            let fields = retype(fields, types);
            let data_type = DataType::Struct(fields.clone());
            Ok((Step::Struct(sources, to.fields().to_vec(), fields), data_type))
        }
        Type::List(to) => {
            let DataType::List(field) = arrow else { return unfit() };
            match from {
                DataType::List(element) => {
                    let path = join(path, "element");
                    let (step, data_type) =
                        plan(&path, element.data_type(), &to.element_field.field_type, field.data_type())?;
                    let field = retyped(field, data_type);
                    let data_type = DataType::List(field.clone());
                    Ok((Step::List(Box::new(step), to.element_field.clone(), field), data_type))
                }
                DataType::LargeList(element)
                | DataType::FixedSizeList(element, _)
                | DataType::ListView(element)
                | DataType::LargeListView(element) => {
                    plan_then(path, &DataType::List(element.clone()), &Type::List(to.clone()), arrow)
                }
                _ => unfit(),
            }
        }
        Type::Map(to) => {
            let (DataType::Map(input, _), DataType::Map(entries, ordered)) = (from, arrow) else {
                return unfit();
            };
            let (DataType::Struct(input), DataType::Struct(fields)) =
                (input.data_type(), entries.data_type())
            else {
                return unfit();
            };
            let ([key_in, value_in], [key_out, value_out]) = (&input[..], &fields[..]) else {
                return unfit();
            };
            let (key_path, value_path) = (join(path, "key"), join(path, "value"));
            let (key, key_type) =
                plan(&key_path, key_in.data_type(), &to.key_field.field_type, key_out.data_type())?;
            let (value, value_type) =
                plan(&value_path, value_in.data_type(), &to.value_field.field_type, value_out.data_type())?;
            let entries = retyped(entries, DataType::Struct(retype(fields, vec![key_type, value_type])));
            let data_type = DataType::Map(entries.clone(), *ordered);
            Ok((Step::Map(Box::new(key), Box::new(value), to.value_field.clone(), entries), data_type))
        }
    }
}

fn plan_then(path: &str, middle: &DataType, to: &Type, arrow: &DataType) -> Result<(Step, DataType)> {
    let (step, data_type) = plan(path, middle, to, arrow)?;
    Ok((Step::Then(middle.clone(), Box::new(step)), data_type))
}

/// Conversions that lose nothing, or that are checked value by value. `None` is for all others.
fn plan_primitive(from: &DataType, to: &PrimitiveType, arrow: &DataType) -> Option<(Step, DataType)> {
    use DataType as D;
    use PrimitiveType as P;
    if from == arrow {
        return Some((Step::Keep, arrow.clone()));
    }
    let fits = match (to, from) {
        (P::Int, D::Int8 | D::Int16 | D::UInt8 | D::UInt16) => true,
        // Unsigned counters (row_number) are checked: a value above the long's range is an error.
        (P::Long, D::Int8 | D::Int16 | D::Int32 | D::UInt8 | D::UInt16 | D::UInt32 | D::UInt64) => true,
        (P::Float, D::Float16) => true,
        (P::Double, D::Float16 | D::Float32) => true,
        (
            P::Decimal { precision, scale },
            D::Decimal32(p, s) | D::Decimal64(p, s) | D::Decimal128(p, s) | D::Decimal256(p, s),
        ) => {
            let (precision, scale, p, s) = (*precision as i64, *scale as i64, *p as i64, *s as i64);
            s <= scale && p - s <= precision - scale
        }
        (P::Date, D::Date64) => return Some((Step::ExactDays(arrow.clone()), arrow.clone())),
        (P::Time, D::Time32(_)) => true,
        (P::Timestamp, D::Timestamp(TimeUnit::Nanosecond, None))
        | (P::Timestamptz, D::Timestamp(TimeUnit::Nanosecond, Some(_))) => {
            return Some((Step::ExactMicros(arrow.clone()), arrow.clone()));
        }
        (P::Timestamp | P::TimestampNs, D::Timestamp(_, None)) => true,
        (P::Timestamptz | P::TimestamptzNs, D::Timestamp(_, Some(_))) => true,
        // Parquet takes any text or binary representation: no copy is made.
        (P::String, D::Utf8 | D::LargeUtf8 | D::Utf8View)
        | (P::Binary, D::Binary | D::LargeBinary | D::BinaryView) => return Some((Step::Keep, from.clone())),
        (P::Binary, D::FixedSizeBinary(_)) => true,
        _ => false,
    };
    fits.then(|| (Step::Cast(arrow.clone()), arrow.clone()))
}

fn type_name(to: &Type) -> String {
    match to {
        Type::Primitive(primitive) => primitive.to_string(),
        Type::Struct(_) => "struct".to_string(),
        Type::List(_) => "list".to_string(),
        Type::Map(_) => "map".to_string(),
    }
}

fn convert_fields(
    parent: &str,
    sources: &[Source],
    fields: &[NestedFieldRef],
    input: &[ArrayRef],
    rows: usize,
    nulls: Option<&NullBuffer>,
) -> Result<Vec<ArrayRef>> {
    let mut columns = Vec::with_capacity(sources.len());
    for (source, field) in sources.iter().zip(fields) {
        let column = match source {
            Source::Input(at, step) => {
                let given = input.get(*at).ok_or_else(|| {
                    Error::internal("a batch has fewer columns than its schema")
                        .with("column", join(parent, &field.name))
                })?;
                step.apply(parent, &field.name, given, nulls)?
            }
            Source::Default(value) => repeat(value, rows)?,
            Source::Null(data_type) => new_null_array(data_type, rows),
        };
        check_required(parent, field, &column, nulls)?;
        columns.push(column);
    }
    Ok(columns)
}

fn repeat(value: &ArrayRef, rows: usize) -> Result<ArrayRef> {
    let zeros = arrow::array::UInt32Array::from(vec![0; rows]);
    Ok(arrow::compute::take(value, &zeros, None)?)
}

/// A required field has no NULL, other than below a parent that is NULL itself.
fn check_required(
    parent: &str,
    field: &NestedFieldRef,
    column: &ArrayRef,
    parents: Option<&NullBuffer>,
) -> Result<()> {
    if !field.required {
        return Ok(());
    }
    let own = column.logical_nulls();
    let absent = parents.map_or(0, NullBuffer::null_count);
    let nulls = NullBuffer::union(own.as_ref(), parents).map_or(0, |n| n.null_count()) - absent;
    if nulls == 0 {
        return Ok(());
    }
    let message =
        "a required column has NULL values; fill them, filter them out, or make the column optional";
    Err(Error::invalid_input(message)
        .with("column", join(parent, &field.name))
        .with("nulls in the batch", nulls))
}

impl Step {
    fn apply(
        &self,
        parent: &str,
        name: &str,
        array: &ArrayRef,
        parents: Option<&NullBuffer>,
    ) -> Result<ArrayRef> {
        let unfit = |e: arrow::error::ArrowError| {
            Error::invalid_input("a value does not fit the column's type; cast or filter it in the input")
                .with("column", join(parent, name))
                .with_source(e)
        };
        match self {
            Step::Keep => {
                // Arrow lets arrays hold decimals of more digits than they declare; in a file they would be other numbers.
                if let DataType::Decimal128(precision, _) = array.data_type() {
                    let array = masked(array, parents).map_err(unfit)?;
                    array
                        .as_primitive::<Decimal128Type>()
                        .validate_decimal_precision(*precision)
                        .map_err(unfit)?;
                }
                Ok(array.clone())
            }
            Step::Cast(to) => {
                cast_with_options(&masked(array, parents).map_err(unfit)?, to, &CHECKED).map_err(unfit)
            }
            Step::ExactMicros(to) => {
                let array = masked(array, parents).map_err(unfit)?;
                let nanos = array.as_primitive::<arrow::datatypes::TimestampNanosecondType>();
                if let Some(value) = nanos.iter().flatten().find(|value| value % 1000 != 0) {
                    let message = "a timestamp has digits below a microsecond, which the column can't hold; truncate it \
                                   (date_trunc('microsecond', ...)), or use a timestamp_ns column of a version 3 table";
                    return Err(Error::invalid_input(message)
                        .with("column", join(parent, name))
                        .with("nanoseconds since 1970", value));
                }
                cast_with_options(&array, to, &CHECKED).map_err(unfit)
            }
            Step::ExactDays(to) => {
                let array = masked(array, parents).map_err(unfit)?;
                let whole = |ms: i64| ms % MILLIS_A_DAY == 0 && i32::try_from(ms / MILLIS_A_DAY).is_ok();
                if let Some(value) =
                    array.as_primitive::<Date64Type>().iter().flatten().find(|ms| !whole(*ms))
                {
                    let message = "a date has a time of day, which the column can't hold, or is out of its range; truncate it \
                                   (date_trunc('day', ...)), or use a timestamp column";
                    return Err(Error::invalid_input(message)
                        .with("column", join(parent, name))
                        .with("milliseconds since 1970", value));
                }
                cast_with_options(&array, to, &CHECKED).map_err(unfit)
            }
            Step::Then(middle, next) => {
                let array = cast_with_options(array, middle, &CHECKED).map_err(unfit)?;
                next.apply(parent, name, &array, parents)
            }
            Step::Struct(sources, fields, arrow) => {
                let array = array.as_struct();
                let path = join(parent, name);
                let nulls = NullBuffer::union(array.nulls(), parents);
                let columns =
                    convert_fields(&path, sources, fields, array.columns(), array.len(), nulls.as_ref())?;
                let made = StructArray::try_new_with_length(arrow.clone(), columns, nulls, array.len())
                    .map_err(unfit)?;
                Ok(Arc::new(made))
            }
            Step::List(step, element, field) => {
                let array = array.as_list::<i32>();
                let path = join(parent, name);
                let nulls = NullBuffer::union(array.nulls(), parents);
                let (offsets, values) = compact(array.offsets(), array.values(), nulls.as_ref())?;
                let values = step.apply(&path, "element", &values, None)?;
                check_required(&path, element, &values, None)?;
                let made = ListArray::try_new(field.clone(), offsets, values, nulls).map_err(unfit)?;
                Ok(Arc::new(made))
            }
            Step::Map(key, value, value_field, entries) => {
                let array = array.as_map();
                let path = join(parent, name);
                let nulls = NullBuffer::union(array.nulls(), parents);
                let (offsets, keys) = compact(array.offsets(), array.keys(), nulls.as_ref())?;
                let (_, values) = compact(array.offsets(), array.values(), nulls.as_ref())?;
                let keys = key.apply(&path, "key", &keys, None)?;
                let values = value.apply(&path, "value", &values, None)?;
                check_required(&path, value_field, &values, None)?;
                let DataType::Struct(fields) = entries.data_type() else {
                    return Err(Error::internal("a map's entries are no struct").with("column", path));
                };
                let pairs = StructArray::try_new(fields.clone(), vec![keys, values], None).map_err(unfit)?;
                let made = MapArray::try_new(entries.clone(), offsets, pairs, nulls, false).map_err(unfit)?;
                Ok(Arc::new(made))
            }
        }
    }
}

/// What lies under a NULL parent is not data: it must not fail a check of values.
fn masked(array: &ArrayRef, parents: Option<&NullBuffer>) -> Result<ArrayRef, arrow::error::ArrowError> {
    let Some(parents) = parents.filter(|parents| parents.null_count() > 0) else { return Ok(array.clone()) };
    if array.data_type() == &DataType::Null {
        return Ok(array.clone());
    }
    let nulls = NullBuffer::union(array.nulls(), Some(parents));
    Ok(make_array(array.to_data().into_builder().nulls(nulls).build()?))
}

/// The values of the lists that are not NULL, and the offsets into them. What a NULL list's offsets reach is not data.
fn compact(
    offsets: &OffsetBuffer<i32>,
    values: &ArrayRef,
    nulls: Option<&NullBuffer>,
) -> Result<(OffsetBuffer<i32>, ArrayRef)> {
    let is_hidden = |row: usize| nulls.is_some_and(|nulls| nulls.is_null(row));
    let ranges = || offsets.windows(2).map(|ends| ends[0]..ends[1]).enumerate();
    if ranges().any(|(row, range)| is_hidden(row) && !range.is_empty()) {
        let kept = || ranges().map(|(row, range)| if is_hidden(row) { 0..0 } else { range });
        let offsets = OffsetBuffer::from_lengths(kept().map(|range| range.len()));
        let places = Int32Array::from_iter_values(kept().flatten());
        return Ok((offsets, arrow::compute::take(values, &places, None)?));
    }
    let (first, last) = match (offsets.first(), offsets.last()) {
        (Some(first), Some(last)) => (*first, *last),
        _ => (0, 0),
    };
    let values = values.slice(first as usize, (last - first) as usize);
    if first == 0 {
        return Ok((offsets.clone(), values));
    }
    let moved: ScalarBuffer<i32> = offsets.iter().map(|offset| offset - first).collect();
    Ok((OffsetBuffer::new(moved), values))
}

#[cfg(test)]
#[path = "conform_tests.rs"]
mod tests;
