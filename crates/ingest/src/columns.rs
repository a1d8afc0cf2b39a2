//! A chunk's columns as Arrow arrays: each column in one tight loop, rows with a value that does not parse marked.

use std::sync::Arc;

use arrow::array::types::{
    ArrowPrimitiveType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, Time64MicrosecondType, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType,
};
use arrow::array::{
    Array, ArrayRef, BooleanArray, BooleanBufferBuilder, NullBufferBuilder, PrimitiveArray, StringArray,
};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::compute::filter;
use arrow::datatypes::{DataType, FieldRef, TimeUnit};
use icefield_core::{Error, Result};

use crate::infer::Candidates;
use crate::options::Conversion;
use crate::parse;
use crate::quarantine::Reason;
use crate::rows::Chunk;

/// One column of a file: where it is in the rows, what it becomes, and what was seen of it.
#[derive(Debug, Clone)]
pub(crate) struct Column {
    pub(crate) field: FieldRef,
    pub(crate) conversion: Option<Conversion>,
    /// `None` where the type is given.
    pub(crate) candidates: Option<Candidates>,
    pub(crate) nulls: u64,
}

/// A row that has its fields but not its values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Flaw {
    pub(crate) row: usize,
    /// The column, after [`Reason::NotUtf8`] and [`Reason::NotText`], which concern the row.
    pub(crate) column: usize,
    pub(crate) reason: Reason,
}

/// The columns' arrays, without the rows that `flaws` names afterwards: one flaw a row, in the rows' order.
pub(crate) fn arrays(
    chunk: &Chunk<'_>,
    columns: &mut [Column],
    flaws: &mut Vec<Flaw>,
) -> Result<Vec<ArrayRef>> {
    flaws.clear();
    let not_text = rows_not_text(chunk);
    flaws.extend(not_text.iter().map(|&(row, reason)| Flaw { row, column: 0, reason }));
    let not_text: Vec<usize> = not_text.into_iter().map(|(row, _)| row).collect();
    let mut arrays = Vec::with_capacity(columns.len());
    for (at, column) in columns.iter().enumerate() {
        let array = array(chunk, at, column, &not_text, flaws)?;
        if !column.field.is_nullable()
            && let Some(nulls) = array.logical_nulls()
        {
            let missing = (0..array.len()).filter(|&row| nulls.is_null(row));
            flaws.extend(missing.map(|row| Flaw { row, column: at, reason: Reason::NullValue }));
        }
        arrays.push(array);
    }
    let mut keep = None;
    if !flaws.is_empty() {
        // A value that does not parse leaves a NULL behind: the first reason of a column is the true one.
        let is_value = |reason| !matches!(reason, Reason::NotUtf8 | Reason::NotText);
        flaws.sort_by_key(|f| (f.row, is_value(f.reason), f.column, f.reason));
        flaws.dedup_by_key(|f| f.row);
        let mut mask = BooleanBufferBuilder::new(chunk.rows.len());
        mask.append_n(chunk.rows.len(), true);
        flaws.iter().for_each(|f| mask.set_bit(f.row, false));
        let mask = BooleanArray::new(mask.finish(), None);
        for array in &mut arrays {
            *array = filter(array, &mask)?;
        }
        keep = Some(mask);
    }
    for (at, (column, array)) in columns.iter_mut().zip(&arrays).enumerate() {
        column.nulls += array.null_count() as u64;
        if let Some(candidates) = &mut column.candidates {
            observe(chunk, at, keep.as_ref(), candidates);
        }
    }
    Ok(arrays)
}

fn observe(chunk: &Chunk<'_>, at: usize, keep: Option<&BooleanArray>, candidates: &mut Candidates) {
    let mut scratch = Vec::new();
    for (row, span) in chunk.column(at).enumerate() {
        if keep.is_some_and(|k| !k.value(row)) {
            continue;
        }
        let text = chunk.quoted_is_text && span.is_quoted();
        if let Some(value) = chunk.text(span, &mut scratch) {
            candidates.observe(value, text);
        }
    }
}

/// The rows with bytes that are no UTF-8 text, or with NUL bytes, which no text has: holes that a crash left in a file, another
/// encoding. All of the chunk is looked at once: nearly always there are none.
fn rows_not_text(chunk: &Chunk<'_>) -> Vec<(usize, Reason)> {
    let (Some(first), Some(last)) = (chunk.rows.first(), chunk.rows.last()) else { return Vec::new() };
    let flaw = |bytes: &[u8]| {
        if std::str::from_utf8(bytes).is_err() {
            Some(Reason::NotUtf8)
        } else {
            memchr::memchr(0, bytes).map(|_| Reason::NotText)
        }
    };
    if flaw(&chunk.data[first.start as usize..last.end as usize]).is_none() {
        return Vec::new();
    }
    (0..chunk.rows.len()).filter_map(|row| Some((row, flaw(chunk.raw(row))?))).collect()
}

fn array(
    chunk: &Chunk<'_>,
    at: usize,
    column: &Column,
    not_text: &[usize],
    flaws: &mut Vec<Flaw>,
) -> Result<ArrayRef> {
    use DataType as T;
    let mut of = Values { chunk, at, flaws };
    Ok(match (column.field.data_type(), &column.conversion) {
        (T::Utf8, _) => text(chunk, at, not_text)?,
        (T::Boolean, _) => of.boolean(),
        (T::Int8, _) => of.primitive::<Int8Type>(|t| parse::integer(t)?.try_into().ok()),
        (T::Int16, _) => of.primitive::<Int16Type>(|t| parse::integer(t)?.try_into().ok()),
        (T::Int32, _) => of.primitive::<Int32Type>(|t| parse::integer(t)?.try_into().ok()),
        (T::Int64, _) => of.primitive::<Int64Type>(parse::integer),
        (T::Float32, _) => of.primitive::<Float32Type>(parse::float),
        (T::Float64, _) => of.primitive::<Float64Type>(parse::float),
        (T::Decimal128(p, s), conversion) => {
            let (precision, scale) = (*p, *s as u8);
            let array = match conversion {
                Some(Conversion::Money { .. }) => {
                    of.primitives::<Decimal128Type>(|t| parse::money(t, precision, scale))
                }
                _ => of.primitives::<Decimal128Type>(|t| parse::decimal(t, precision, scale)),
            };
            Arc::new(array.with_precision_and_scale(*p, *s)?)
        }
        (T::Date32, Some(Conversion::Date { format })) => {
            of.primitive::<Date32Type>(|t| parse::formatted_date(t, format))
        }
        (T::Date32, _) => of.primitive::<Date32Type>(parse::date),
        (T::Time64(_), _) => of.primitive::<Time64MicrosecondType>(parse::time_micros),
        (T::Timestamp(unit, zone), conversion) => {
            let format = match conversion {
                Some(Conversion::Timestamp { format }) => Some(format.as_str()),
                _ => None,
            };
            of.timestamp(*unit, zone.clone(), format)
        }
        (other, _) => {
            return Err(Error::internal("a type that was not checked").with("type", other));
        }
    })
}

/// Reads one column of a chunk.
struct Values<'a> {
    chunk: &'a Chunk<'a>,
    at: usize,
    flaws: &'a mut Vec<Flaw>,
}

impl Values<'_> {
    fn primitive<T: ArrowPrimitiveType>(&mut self, parse: impl Fn(&[u8]) -> Option<T::Native>) -> ArrayRef {
        Arc::new(self.primitives::<T>(parse))
    }

    fn primitives<T: ArrowPrimitiveType>(
        &mut self,
        parse: impl Fn(&[u8]) -> Option<T::Native>,
    ) -> PrimitiveArray<T> {
        let rows = self.chunk.rows.len();
        let (mut values, mut valid) = (Vec::with_capacity(rows), Vec::with_capacity(rows));
        self.each(parse, |value| {
            valid.push(value.is_some());
            values.push(value.unwrap_or_default());
        });
        let nulls = valid.contains(&false).then(|| NullBuffer::from(valid));
        PrimitiveArray::new(ScalarBuffer::from(values), nulls)
    }

    fn boolean(&mut self) -> ArrayRef {
        let rows = self.chunk.rows.len();
        let (mut values, mut nulls) = (BooleanBufferBuilder::new(rows), NullBufferBuilder::new(rows));
        self.each(parse::boolean, |value| {
            nulls.append(value.is_some());
            values.append(value.unwrap_or_default());
        });
        Arc::new(BooleanArray::new(values.finish(), nulls.finish()))
    }

    fn timestamp(&mut self, unit: TimeUnit, zone: Option<Arc<str>>, format: Option<&str>) -> ArrayRef {
        let zoned = zone.is_some();
        let read = |per_second: i64| {
            move |text: &[u8]| {
                let at = match format {
                    Some(format) => parse::formatted_timestamp(text, format)?,
                    None => parse::timestamp(text)?,
                };
                // An offset has no place in a column without a zone; a time without one is taken as UTC.
                (zoned || at.offset.is_none()).then(|| at.in_units(per_second)).flatten()
            }
        };
        match unit {
            TimeUnit::Second => {
                Arc::new(self.primitives::<TimestampSecondType>(read(1)).with_timezone_opt(zone))
            }
            TimeUnit::Millisecond => {
                Arc::new(self.primitives::<TimestampMillisecondType>(read(1_000)).with_timezone_opt(zone))
            }
            TimeUnit::Microsecond => {
                Arc::new(self.primitives::<TimestampMicrosecondType>(read(1_000_000)).with_timezone_opt(zone))
            }
            TimeUnit::Nanosecond => {
                let read = read(1_000_000_000);
                Arc::new(self.primitives::<TimestampNanosecondType>(read).with_timezone_opt(zone))
            }
        }
    }

    /// Gives each row's value to `put`: `None` for an empty one, quoted or not, and for one that does not parse.
    #[inline(always)]
    fn each<V>(&mut self, parse: impl Fn(&[u8]) -> Option<V>, mut put: impl FnMut(Option<V>)) {
        let mut scratch = Vec::new();
        for (row, span) in self.chunk.column(self.at).enumerate() {
            let text = self.chunk.text(span, &mut scratch).map(<[u8]>::trim_ascii).filter(|t| !t.is_empty());
            let value = text.and_then(&parse);
            if text.is_some() && value.is_none() {
                self.flaws.push(Flaw { row, column: self.at, reason: Reason::BadValue });
            }
            put(value);
        }
    }
}

fn text(chunk: &Chunk<'_>, at: usize, not_text: &[usize]) -> Result<ArrayRef> {
    let rows = chunk.rows.len();
    let (mut values, mut offsets) = (Vec::with_capacity(rows * 8), Vec::with_capacity(rows + 1));
    let (mut nulls, mut scratch) = (NullBufferBuilder::new(rows), Vec::new());
    offsets.push(0_i32);
    for (row, span) in chunk.column(at).enumerate() {
        let value = chunk.text(span, &mut scratch);
        let value = value.filter(|_| not_text.is_empty() || not_text.binary_search(&row).is_err());
        nulls.append(value.is_some() || span.is_quoted());
        values.extend_from_slice(value.unwrap_or_default());
        offsets.push(values.len() as i32);
    }
    let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
    Ok(Arc::new(StringArray::try_new(offsets, Buffer::from_vec(values), nulls.finish())?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::{Csv, Limits};
    use arrow::array::AsArray;
    use arrow::datatypes::Field;

    fn read(text: &str, fields: &[(&str, DataType, bool)]) -> (Vec<ArrayRef>, Vec<Flaw>) {
        let mut reader = text.as_bytes();
        let (csv, limits) = (Csv::default(), Limits::default());
        let mut splitter = crate::csv::Splitter::new(&mut reader, &csv, b',', &limits);
        let mut bad = Vec::new();
        assert!(splitter.next(fields.len(), &mut bad).unwrap());
        let mut columns: Vec<Column> = fields
            .iter()
            .map(|(name, to, nullable)| Column {
                field: Field::new(*name, to.clone(), *nullable).into(),
                conversion: None,
                candidates: None,
                nulls: 0,
            })
            .collect();
        let mut flaws = Vec::new();
        let chunk = splitter.chunk(Some(fields.len()));
        let arrays = arrays(&chunk, &mut columns, &mut flaws).unwrap();
        (arrays, flaws)
    }

    #[test]
    fn rows_whose_values_do_not_parse_are_left_out_of_every_column() {
        let text = "1,2024-01-01,a\nx,2024-01-02,b\n3,never,c\n,,\n\"\",\"\",\"\"\n 6 ,2024-01-06,f\n";
        let fields =
            [("n", DataType::Int32, true), ("d", DataType::Date32, true), ("t", DataType::Utf8, true)];
        let (arrays, flaws) = read(text, &fields);
        let n: Vec<_> = arrays[0].as_primitive::<Int32Type>().iter().collect();
        assert_eq!(n, [Some(1), None, None, Some(6)]);
        let t: Vec<_> = arrays[2].as_string::<i32>().iter().collect();
        assert_eq!(t, [Some("a"), None, Some(""), Some("f")]);
        let bad = |row, column| Flaw { row, column, reason: Reason::BadValue };
        assert_eq!(flaws, [bad(1, 0), bad(2, 1)]);
    }

    #[test]
    fn a_required_column_refuses_rows_without_a_value() {
        let (arrays, flaws) =
            read("1,a\n,b\nx,c\n", &[("n", DataType::Int64, false), ("t", DataType::Utf8, true)]);
        assert_eq!(arrays[1].as_string::<i32>().iter().flatten().collect::<Vec<_>>(), ["a"]);
        let flaw = |row, reason| Flaw { row, column: 0, reason };
        assert_eq!(flaws, [flaw(1, Reason::NullValue), flaw(2, Reason::BadValue)]);
    }

    #[test]
    fn integers_out_of_their_types_range_do_not_parse() {
        let (arrays, flaws) = read("127\n128\n-129\n", &[("n", DataType::Int8, true)]);
        assert_eq!(arrays[0].len(), 1);
        assert_eq!(flaws.len(), 2);
    }
}
