//! Partition transforms, of single values and of whole arrays, by the Iceberg specification ("Partition Transforms" and
//! appendix B for hashes). Values before 1970 round down, as the specification has it.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowPrimitiveType, Date32Type, Decimal128Type, Int32Type, Int64Type, Time64MicrosecondType,
    TimestampMicrosecondType, TimestampNanosecondType,
};
use arrow_array::{
    Array, ArrayRef, BinaryArray, BinaryViewArray, Int32Array, LargeBinaryArray, LargeStringArray,
    PrimitiveArray, StringArray, StringViewArray, new_null_array,
};
use arrow_schema::{DataType, TimeUnit};
use iceberg::spec::{PrimitiveLiteral, PrimitiveType, Transform};

use crate::error::{Error, Result};

const MICROS_PER_HOUR: i64 = 3_600_000_000;
const HOURS_PER_DAY: i64 = 24;

/// A value's transform; `None` where the transform is not defined for the type, and for what is always NULL.
pub(crate) fn transform_value(
    transform: Transform,
    of: &PrimitiveType,
    value: &PrimitiveLiteral,
) -> Option<PrimitiveLiteral> {
    use PrimitiveLiteral as L;
    Some(match transform {
        Transform::Identity => value.clone(),
        Transform::Bucket(buckets) => L::Int(bucket_of(hash_value(of, value)?, buckets)?),
        Transform::Truncate(0) => return None,
        Transform::Truncate(width) => match (of, value) {
            (PrimitiveType::Int, L::Int(value)) => {
                L::Int(i32::try_from(truncated(i128::from(*value), width)).ok()?)
            }
            (PrimitiveType::Long, L::Long(value)) => {
                L::Long(i64::try_from(truncated(i128::from(*value), width)).ok()?)
            }
            (PrimitiveType::Decimal { .. }, L::Int128(value)) => L::Int128(truncated_decimal(*value, width)?),
            (PrimitiveType::String, L::String(value)) => L::String(first_points(value, width).to_string()),
            (PrimitiveType::Binary, L::Binary(value)) => L::Binary(first_bytes(value, width).to_vec()),
            _ => return None,
        },
        Transform::Year => L::Int(years(days(of, value)?)?),
        Transform::Month => L::Int(months(days(of, value)?)?),
        Transform::Day => L::Int(i32::try_from(days(of, value)?).ok()?),
        Transform::Hour => match (of, value) {
            (PrimitiveType::Date, _) => return None,
            _ => L::Int(i32::try_from(hours(micros(of, value)?)).ok()?),
        },
        Transform::Void | Transform::Unknown => return None,
    })
}

/// An array's transform, in the shape of the transform's result type.
///
/// # Errors
/// [`Unsupported`](crate::ErrorKind::Unsupported) when the transform is not defined for the array's type or is not known;
/// [`DataInvalid`](crate::ErrorKind::DataInvalid) when a result does not fit its type.
pub fn transform_array(transform: Transform, array: &ArrayRef) -> Result<ArrayRef> {
    use DataType as D;
    let undefined = || {
        Error::unsupported(
            "the partition transform is not defined for the column's type; change the partition spec",
        )
        .with("transform", transform)
        .with("type", array.data_type())
    };
    match transform {
        Transform::Identity => Ok(array.clone()),
        Transform::Void => Ok(new_null_array(array.data_type(), array.len())),
        Transform::Unknown => Err(undefined()),
        Transform::Bucket(0) | Transform::Truncate(0) => Err(undefined()),
        Transform::Bucket(buckets) => bucket_array(array, buckets).ok_or_else(undefined),
        Transform::Truncate(width) => match array.data_type() {
            D::Int32 => map::<Int32Type, Int32Type>(array, |value| {
                i32::try_from(truncated(i64::from(value).into(), width)).ok()
            }),
            D::Int64 => {
                map::<Int64Type, Int64Type>(array, |value| i64::try_from(truncated(value.into(), width)).ok())
            }
            D::Decimal128(precision, scale) => {
                let values = array.as_primitive::<Decimal128Type>().try_unary::<_, Decimal128Type, Error>(
                    |value| truncated_decimal(value, width).ok_or_else(too_large),
                )?;
                Ok(Arc::new(values.with_precision_and_scale(*precision, *scale)?))
            }
            _ => truncate_bytes(array, width).ok_or_else(undefined),
        },
        Transform::Year | Transform::Month | Transform::Day | Transform::Hour => {
            let of_days = |days: i64| match transform {
                Transform::Year => years(days),
                Transform::Month => months(days),
                _ => i32::try_from(days).ok(),
            };
            let of_micros = |micros: i64| match transform {
                Transform::Hour => i32::try_from(hours(micros)).ok(),
                _ => of_days(hours(micros).div_euclid(HOURS_PER_DAY)),
            };
            let whole = match array.data_type() {
                D::Date32 if transform != Transform::Hour => {
                    map::<Date32Type, Int32Type>(array, |days| of_days(i64::from(days)))?
                }
                D::Timestamp(TimeUnit::Microsecond, _) => {
                    map::<TimestampMicrosecondType, Int32Type>(array, of_micros)?
                }
                D::Timestamp(TimeUnit::Nanosecond, _) => {
                    map::<TimestampNanosecondType, Int32Type>(array, |nanos| {
                        of_micros(nanos.div_euclid(1000))
                    })?
                }
                _ => return Err(undefined()),
            };
            Ok(match transform {
                Transform::Day => {
                    Arc::new(whole.as_primitive::<Int32Type>().reinterpret_cast::<Date32Type>())
                }
                _ => whole,
            })
        }
    }
}

fn map<I: ArrowPrimitiveType, O: ArrowPrimitiveType>(
    array: &ArrayRef,
    f: impl Fn(I::Native) -> Option<O::Native>,
) -> Result<ArrayRef> {
    let result: PrimitiveArray<O> =
        array.as_primitive::<I>().try_unary::<_, O, Error>(|value| f(value).ok_or_else(too_large))?;
    Ok(Arc::new(result))
}

fn too_large() -> Error {
    Error::data_invalid("a value's partition transform does not fit its type; correct the value")
}

fn bucket_array(array: &ArrayRef, buckets: u32) -> Option<ArrayRef> {
    use DataType as D;
    // A count beyond 31 bits is as good as none.
    let count = i32::try_from(buckets).ok().filter(|count| *count > 0)?;
    let bucket = |hash: i32| (hash & i32::MAX) % count;
    let long = |value: i64| bucket(hash_long(value));
    let bytes = |value: &[u8]| bucket(murmur3(value));
    let result: Int32Array = match array.data_type() {
        D::Int32 => array.as_primitive::<Int32Type>().unary(|value| long(value.into())),
        D::Date32 => array.as_primitive::<Date32Type>().unary(|value| long(value.into())),
        D::Int64 => array.as_primitive::<Int64Type>().unary(long),
        D::Time64(TimeUnit::Microsecond) => array.as_primitive::<Time64MicrosecondType>().unary(long),
        D::Timestamp(TimeUnit::Microsecond, _) => {
            array.as_primitive::<TimestampMicrosecondType>().unary(long)
        }
        D::Timestamp(TimeUnit::Nanosecond, _) => {
            array.as_primitive::<TimestampNanosecondType>().unary(|nanos| long(nanos.div_euclid(1000)))
        }
        D::Decimal128(_, _) => {
            array.as_primitive::<Decimal128Type>().unary(|value| bucket(hash_decimal(value)))
        }
        D::Utf8 => array.as_string::<i32>().iter().map(|v| v.map(|v| bytes(v.as_bytes()))).collect(),
        D::LargeUtf8 => array.as_string::<i64>().iter().map(|v| v.map(|v| bytes(v.as_bytes()))).collect(),
        D::Utf8View => array.as_string_view().iter().map(|v| v.map(|v| bytes(v.as_bytes()))).collect(),
        D::Binary => array.as_binary::<i32>().iter().map(|v| v.map(bytes)).collect(),
        D::LargeBinary => array.as_binary::<i64>().iter().map(|v| v.map(bytes)).collect(),
        D::BinaryView => array.as_binary_view().iter().map(|v| v.map(bytes)).collect(),
        D::FixedSizeBinary(_) => array.as_fixed_size_binary().iter().map(|v| v.map(bytes)).collect(),
        _ => return None,
    };
    Some(Arc::new(result))
}

fn truncate_bytes(array: &ArrayRef, width: u32) -> Option<ArrayRef> {
    use DataType as D;
    let text = |value: Option<&'_ str>| value.map(|value| first_points(value, width).to_string());
    let bytes = |value: Option<&'_ [u8]>| value.map(|value| first_bytes(value, width).to_vec());
    Some(match array.data_type() {
        D::Utf8 => Arc::new(array.as_string::<i32>().iter().map(text).collect::<StringArray>()),
        D::LargeUtf8 => Arc::new(array.as_string::<i64>().iter().map(text).collect::<LargeStringArray>()),
        D::Utf8View => Arc::new(array.as_string_view().iter().map(text).collect::<StringViewArray>()),
        D::Binary => Arc::new(array.as_binary::<i32>().iter().map(bytes).collect::<BinaryArray>()),
        D::LargeBinary => Arc::new(array.as_binary::<i64>().iter().map(bytes).collect::<LargeBinaryArray>()),
        D::BinaryView => Arc::new(array.as_binary_view().iter().map(bytes).collect::<BinaryViewArray>()),
        _ => return None,
    })
}

/// The greatest multiple of `width` that is at most `value`. (Of an `i64`, always within an `i128`.)
fn truncated(value: i128, width: u32) -> i128 {
    value - value.rem_euclid(i128::from(width))
}

fn truncated_decimal(value: i128, width: u32) -> Option<i128> {
    value.checked_sub(value.rem_euclid(i128::from(width)))
}

pub(crate) fn first_points(value: &str, width: u32) -> &str {
    match value.char_indices().nth(width as usize) {
        Some((end, _)) => &value[..end],
        None => value,
    }
}

fn first_bytes(value: &[u8], width: u32) -> &[u8] {
    value.get(..width as usize).unwrap_or(value)
}

fn micros(of: &PrimitiveType, value: &PrimitiveLiteral) -> Option<i64> {
    match (of, value) {
        (PrimitiveType::Timestamp | PrimitiveType::Timestamptz, PrimitiveLiteral::Long(micros)) => {
            Some(*micros)
        }
        (PrimitiveType::TimestampNs | PrimitiveType::TimestamptzNs, PrimitiveLiteral::Long(nanos)) => {
            Some(nanos.div_euclid(1000))
        }
        _ => None,
    }
}

fn days(of: &PrimitiveType, value: &PrimitiveLiteral) -> Option<i64> {
    match (of, value) {
        (PrimitiveType::Date, PrimitiveLiteral::Int(days)) => Some(i64::from(*days)),
        _ => Some(hours(micros(of, value)?).div_euclid(HOURS_PER_DAY)),
    }
}

fn hours(micros: i64) -> i64 {
    micros.div_euclid(MICROS_PER_HOUR)
}

fn years(days: i64) -> Option<i32> {
    i32::try_from(civil(days).0 - 1970).ok()
}

fn months(days: i64) -> Option<i32> {
    let (year, month, _) = civil(days);
    i32::try_from((year - 1970) * 12 + i64::from(month) - 1).ok()
}

/// Year, month (from 1) and day of the month (from 1) of a day since 1970, in the proleptic Gregorian calendar. Any day
/// that a timestamp reaches has one, unlike in libraries of dates.
pub(super) fn civil(days: i64) -> (i64, u32, u32) {
    // Eras of 400 years have 146,097 days; years begin in March, so that the leap day is the last.
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month as u32, day as u32)
}

/// The day since 1970 of a month's first day, by [`civil`]'s calendar.
pub(crate) fn days_from_civil(year: i64, month: u32) -> i64 {
    let (year, month) = (year - i64::from(month <= 2), i64::from(month));
    let year_of_era = year.rem_euclid(400);
    let from_march = if month > 2 { month - 3 } else { month + 9 };
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + (153 * from_march + 2) / 5;
    year.div_euclid(400) * 146_097 + day_of_era - 719_468
}

/// The least string above every string that starts with this one; nothing when there is none.
pub(crate) fn next_string(text: &str) -> Option<String> {
    let mut points: Vec<char> = text.chars().collect();
    while let Some(last) = points.pop() {
        let next = match last {
            // Surrogates are no code points.
            '\u{D7FF}' => Some('\u{E000}'),
            last => char::from_u32(u32::from(last) + 1),
        };
        if let Some(next) = next {
            points.push(next);
            return Some(points.into_iter().collect());
        }
    }
    None
}

fn bucket_of(hash: i32, buckets: u32) -> Option<i32> {
    let count = i32::try_from(buckets).ok().filter(|count| *count > 0)?;
    Some((hash & i32::MAX) % count)
}

/// The hash that buckets are taken of.
fn hash_value(of: &PrimitiveType, value: &PrimitiveLiteral) -> Option<i32> {
    use PrimitiveLiteral as L;
    use PrimitiveType as T;
    Some(match (of, value) {
        (T::Int | T::Date, L::Int(value)) => hash_long((*value).into()),
        (T::Long | T::Time, L::Long(value)) => hash_long(*value),
        (T::Timestamp | T::Timestamptz | T::TimestampNs | T::TimestamptzNs, _) => {
            hash_long(micros(of, value)?)
        }
        (T::Decimal { .. }, L::Int128(value)) => hash_decimal(*value),
        (T::String, L::String(value)) => murmur3(value.as_bytes()),
        (T::Uuid, L::UInt128(value)) => murmur3(&value.to_be_bytes()),
        (T::Fixed(_) | T::Binary, L::Binary(value)) => murmur3(value),
        _ => return None,
    })
}

fn hash_long(value: i64) -> i32 {
    murmur3(&value.to_le_bytes())
}

/// The hash of the shortest two's complement, big-endian.
fn hash_decimal(value: i128) -> i32 {
    let bytes = value.to_be_bytes();
    let sign = if value < 0 { 0xff } else { 0 };
    let spare =
        bytes.windows(2).take_while(|pair| pair[0] == sign && (pair[1] & 0x80) == (sign & 0x80)).count();
    murmur3(&bytes[spare..])
}

/// Murmur3's 32-bit x86 variant with seed 0.
fn murmur3(bytes: &[u8]) -> i32 {
    const C1: u32 = 0xcc9e_2d51;
    const C2: u32 = 0x1b87_3593;
    let scramble = |block: u32| block.wrapping_mul(C1).rotate_left(15).wrapping_mul(C2);
    let (blocks, rest) = bytes.as_chunks::<4>();
    let mut hash = 0_u32;
    for block in blocks {
        hash ^= scramble(u32::from_le_bytes(*block));
        hash = hash.rotate_left(13).wrapping_mul(5).wrapping_add(0xe654_6b64);
    }
    let tail = rest.iter().rev().fold(0_u32, |tail, byte| (tail << 8) | u32::from(*byte));
    hash ^= scramble(tail);
    hash ^= bytes.len() as u32;
    hash = (hash ^ (hash >> 16)).wrapping_mul(0x85eb_ca6b);
    hash = (hash ^ (hash >> 13)).wrapping_mul(0xc2b2_ae35);
    (hash ^ (hash >> 16)) as i32
}
