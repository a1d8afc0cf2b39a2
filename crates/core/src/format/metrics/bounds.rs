//! One column's bounds over the row groups of a Parquet file.

use std::cmp::Ordering;

use iceberg::spec::{Datum, PrimitiveLiteral, PrimitiveType};
use parquet::basic::{ConvertedType, LogicalType, TimeUnit};
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::statistics::Statistics;
use parquet::schema::types::ColumnDescriptor;

use super::MetricsMode;
use crate::error::Result;
use crate::format::partition::transform::next_string;
use crate::format::value::{compare, datum};

/// Above this many bytes a `fixed` value has a bound only in mode `full`: a cut one would not be of the type.
const MAX_FIXED: usize = 64;

/// A column chunk's NULLs, where they are known.
pub(super) fn null_count(chunk: &ColumnChunkMetaData) -> Option<u64> {
    match chunk.statistics().and_then(Statistics::null_count_opt) {
        Some(nulls) => Some(nulls),
        None if chunk.column_descr().max_def_level() == 0 => Some(0),
        None => None,
    }
}

/// The lower bound of a column's chunks. `nans` is the column's NaN count where a group without a minimum is known to hold
/// nothing but NULL and NaN.
pub(super) fn lower(
    chunks: &[&ColumnChunkMetaData],
    of: &PrimitiveType,
    mode: MetricsMode,
    nans: Option<u64>,
) -> Result<Option<Datum>> {
    let Some(least) = extreme(chunks, of, nans, Side::Lower)? else { return Ok(None) };
    Ok(match (mode, least.literal()) {
        (MetricsMode::Truncate(length), PrimitiveLiteral::String(text)) => {
            Some(Datum::string(prefix(text, length)))
        }
        (MetricsMode::Truncate(length), PrimitiveLiteral::Binary(bytes)) => match of {
            PrimitiveType::Fixed(_) => (bytes.len() <= MAX_FIXED).then_some(least),
            _ => Some(Datum::binary(bytes.iter().take(length).copied())),
        },
        _ => Some(least),
    })
}

/// The upper bound, as [`lower`].
pub(super) fn upper(
    chunks: &[&ColumnChunkMetaData],
    of: &PrimitiveType,
    mode: MetricsMode,
    nans: Option<u64>,
) -> Result<Option<Datum>> {
    let Some(most) = extreme(chunks, of, nans, Side::Upper)? else { return Ok(None) };
    Ok(match (mode, most.literal()) {
        (MetricsMode::Truncate(length), PrimitiveLiteral::String(text)) => {
            above_string(text, length).map(Datum::string)
        }
        (MetricsMode::Truncate(length), PrimitiveLiteral::Binary(bytes)) => match of {
            PrimitiveType::Fixed(_) => (bytes.len() <= MAX_FIXED).then_some(most),
            _ => above_bytes(bytes, length).map(Datum::binary),
        },
        _ => Some(most),
    })
}

#[derive(Clone, Copy, PartialEq)]
enum Side {
    Lower,
    Upper,
}

fn extreme(
    chunks: &[&ColumnChunkMetaData],
    of: &PrimitiveType,
    nans: Option<u64>,
    side: Side,
) -> Result<Option<Datum>> {
    let mut best: Option<Datum> = None;
    let mut only_nan = 0;
    for chunk in chunks {
        let values = u64::try_from(chunk.num_values()).unwrap_or(u64::MAX);
        if null_count(chunk).is_some_and(|nulls| nulls >= values) {
            continue;
        }
        let found =
            chunk.statistics().and_then(|statistics| stored(statistics, chunk.column_descr(), of, side));
        let Some(literal) = found else {
            // Either nothing but NaN, or a group of which nothing is known: then nothing is known of the column.
            let (Some(nans), Some(nulls), Some(statistics)) = (nans, null_count(chunk), chunk.statistics())
            else {
                return Ok(None);
            };
            only_nan += values - nulls;
            if has_either(statistics) || only_nan > nans {
                return Ok(None);
            }
            continue;
        };
        let value = datum(of, &literal)?;
        let wanted = if side == Side::Lower { Ordering::Less } else { Ordering::Greater };
        // Zeros don't compare; both are already the one that this side wants.
        if best.as_ref().is_none_or(|best| compare(&value, best) == Some(wanted)) {
            best = Some(value);
        }
    }
    Ok(best)
}

fn has_either(statistics: &Statistics) -> bool {
    statistics.min_bytes_opt().is_some() || statistics.max_bytes_opt().is_some()
}

/// A chunk's minimum or maximum as a value of the column's type; `None` where it has none that can be relied on.
fn stored(
    statistics: &Statistics,
    column: &ColumnDescriptor,
    of: &PrimitiveType,
    side: Side,
) -> Option<PrimitiveLiteral> {
    use PrimitiveLiteral as L;
    use PrimitiveType as T;
    // The old fields were compared as signed bytes by some writers, and their NaNs are anyone's guess.
    if statistics.is_min_max_deprecated() {
        return None;
    }
    macro_rules! side {
        ($typed:expr) => {
            if side == Side::Lower { $typed.min_opt() } else { $typed.max_opt() }
        };
    }
    match (of, statistics) {
        (T::Boolean, Statistics::Boolean(typed)) => side!(typed).map(|value| L::Boolean(*value)),
        (T::Int, Statistics::Int32(typed)) if !is_unsigned(column, 32) => {
            side!(typed).map(|value| L::Int(*value))
        }
        (T::Date, Statistics::Int32(typed)) => side!(typed).map(|value| L::Int(*value)),
        (T::Long, Statistics::Int32(typed)) => side!(typed).map(|value| {
            L::Long(if is_unsigned(column, 32) { i64::from(*value as u32) } else { i64::from(*value) })
        }),
        (T::Long, Statistics::Int64(typed)) if !is_unsigned(column, 64) => {
            side!(typed).map(|value| L::Long(*value))
        }
        (T::Time, Statistics::Int32(typed)) if unit(column) == Some(TimeUnit::MILLIS) => {
            side!(typed).map(|value| L::Long(i64::from(*value) * 1000))
        }
        (T::Time | T::Timestamp | T::Timestamptz, Statistics::Int64(typed)) => match unit(column)? {
            TimeUnit::MICROS => side!(typed).map(|value| L::Long(*value)),
            TimeUnit::MILLIS => side!(typed)?.checked_mul(1000).map(L::Long),
            TimeUnit::NANOS => None,
        },
        (T::TimestampNs | T::TimestamptzNs, Statistics::Int64(typed)) => match unit(column)? {
            TimeUnit::NANOS => side!(typed).map(|value| L::Long(*value)),
            TimeUnit::MICROS | TimeUnit::MILLIS => None,
        },
        (T::Float, Statistics::Float(typed)) => {
            let value = zero_of(side, f64::from(*side!(typed)?))?;
            Some(L::Float((value as f32).into()))
        }
        (T::Double, Statistics::Float(typed)) => {
            zero_of(side, f64::from(*side!(typed)?)).map(|v| L::Double(v.into()))
        }
        (T::Double, Statistics::Double(typed)) => zero_of(side, *side!(typed)?).map(|v| L::Double(v.into())),
        (T::Decimal { scale, .. }, _) if i64::from(decimal_scale(column)?) != i64::from(*scale) => None,
        (T::Decimal { .. }, Statistics::Int32(typed)) => {
            side!(typed).map(|value| L::Int128(i128::from(*value)))
        }
        (T::Decimal { .. }, Statistics::Int64(typed)) => {
            side!(typed).map(|value| L::Int128(i128::from(*value)))
        }
        (T::Decimal { .. }, Statistics::FixedLenByteArray(_) | Statistics::ByteArray(_)) => {
            big_endian(bytes(statistics, side)?).map(L::Int128)
        }
        (T::String, Statistics::ByteArray(_)) => text(bytes(statistics, side)?, side).map(L::String),
        (T::Binary, Statistics::ByteArray(_) | Statistics::FixedLenByteArray(_)) => {
            Some(L::Binary(bytes(statistics, side)?.to_vec()))
        }
        (T::Fixed(length), Statistics::FixedLenByteArray(_)) => {
            let value = bytes(statistics, side)?;
            (value.len() as u64 == *length).then(|| L::Binary(value.to_vec()))
        }
        (T::Uuid, Statistics::FixedLenByteArray(_)) => {
            Some(L::UInt128(u128::from_be_bytes(bytes(statistics, side)?.try_into().ok()?)))
        }
        _ => None,
    }
}

fn bytes(statistics: &Statistics, side: Side) -> Option<&[u8]> {
    if side == Side::Lower { statistics.min_bytes_opt() } else { statistics.max_bytes_opt() }
}

/// The zero that is outermost on a side; nothing of NaN.
fn zero_of(side: Side, value: f64) -> Option<f64> {
    match value {
        value if value.is_nan() => None,
        0.0 if side == Side::Lower => Some(-0.0),
        0.0 => Some(0.0),
        value => Some(value),
    }
}

/// A writer may have cut a string within a code point: what is left before it is still below, but nothing above is known.
fn text(bytes: &[u8], side: Side) -> Option<String> {
    match (std::str::from_utf8(bytes), side) {
        (Ok(text), _) => Some(text.to_string()),
        (Err(e), Side::Lower) => std::str::from_utf8(bytes.get(..e.valid_up_to())?).ok().map(str::to_string),
        (Err(_), Side::Upper) => None,
    }
}

fn big_endian(bytes: &[u8]) -> Option<i128> {
    let negative = *bytes.first()? & 0x80 != 0;
    let mut padded = [if negative { 0xff } else { 0 }; 16];
    let (filler, value) = bytes.split_at(bytes.len().saturating_sub(16));
    // Longer than 16 bytes only with leading sign bytes.
    if filler.iter().any(|byte| *byte != padded[0])
        || (!filler.is_empty() && (value[0] & 0x80 != 0) != negative)
    {
        return None;
    }
    padded[16 - value.len()..].copy_from_slice(value);
    Some(i128::from_be_bytes(padded))
}

fn is_unsigned(column: &ColumnDescriptor, width: i8) -> bool {
    match column.logical_type_ref() {
        Some(LogicalType::Integer { bit_width, is_signed }) => !is_signed && *bit_width == width,
        _ => matches!(
            (column.converted_type(), width),
            (ConvertedType::UINT_32, 32) | (ConvertedType::UINT_64, 64)
        ),
    }
}

fn unit(column: &ColumnDescriptor) -> Option<TimeUnit> {
    match (column.logical_type_ref(), column.converted_type()) {
        (Some(LogicalType::Time { unit, .. } | LogicalType::Timestamp { unit, .. }), _) => Some(*unit),
        (_, ConvertedType::TIME_MILLIS | ConvertedType::TIMESTAMP_MILLIS) => Some(TimeUnit::MILLIS),
        (_, ConvertedType::TIME_MICROS | ConvertedType::TIMESTAMP_MICROS) => Some(TimeUnit::MICROS),
        _ => None,
    }
}

fn decimal_scale(column: &ColumnDescriptor) -> Option<i32> {
    match (column.logical_type_ref(), column.converted_type()) {
        (Some(LogicalType::Decimal { scale, .. }), _) => Some(*scale),
        (_, ConvertedType::DECIMAL) => Some(column.type_scale()),
        _ => None,
    }
}

/// The first so many code points.
fn prefix(text: &str, length: usize) -> &str {
    match text.char_indices().nth(length) {
        Some((end, _)) => &text[..end],
        None => text,
    }
}

/// A string of at most so many code points that is at least this one; nothing when there is none.
fn above_string(text: &str, length: usize) -> Option<String> {
    let cut = prefix(text, length);
    if cut.len() == text.len() {
        return Some(text.to_string());
    }
    next_string(cut)
}

/// As [`above_string`], of bytes.
fn above_bytes(value: &[u8], length: usize) -> Option<Vec<u8>> {
    if value.len() <= length {
        return Some(value.to_vec());
    }
    let mut cut = value.get(..length)?.to_vec();
    while let Some(last) = cut.pop() {
        if let Some(above) = last.checked_add(1) {
            cut.push(above);
            return Some(cut);
        }
    }
    None
}
