//! Single values: Iceberg's as DataFusion's and back.

use datafusion::common::ScalarValue;
use iceberg::spec::{Datum, PrimitiveLiteral, PrimitiveType};
use icefield_core::format::UTC;
use icefield_core::{Error, Result};

/// A literal of a primitive type as a scalar of the Arrow type that scans give it (strings and binary not as views).
///
/// # Errors
/// [`DataInvalid`](icefield_core::ErrorKind::DataInvalid) when the literal is not one of the type's.
pub(crate) fn scalar(of: &PrimitiveType, literal: &PrimitiveLiteral) -> Result<ScalarValue> {
    use PrimitiveLiteral as L;
    use PrimitiveType as T;
    let utc = || Some(UTC.into());
    Ok(match (of, literal) {
        (T::Boolean, L::Boolean(v)) => ScalarValue::Boolean(Some(*v)),
        (T::Int, L::Int(v)) => ScalarValue::Int32(Some(*v)),
        (T::Long, L::Long(v)) => ScalarValue::Int64(Some(*v)),
        (T::Long, L::Int(v)) => ScalarValue::Int64(Some(i64::from(*v))),
        (T::Float, L::Float(v)) => ScalarValue::Float32(Some(v.0)),
        (T::Double, L::Double(v)) => ScalarValue::Float64(Some(v.0)),
        (T::Double, L::Float(v)) => ScalarValue::Float64(Some(f64::from(v.0))),
        (T::Decimal { precision, scale }, L::Int128(v)) => {
            ScalarValue::Decimal128(Some(*v), *precision as u8, *scale as i8)
        }
        (T::Date, L::Int(v)) => ScalarValue::Date32(Some(*v)),
        (T::Time, L::Long(v)) => ScalarValue::Time64Microsecond(Some(*v)),
        (T::Timestamp, L::Long(v)) => ScalarValue::TimestampMicrosecond(Some(*v), None),
        (T::Timestamptz, L::Long(v)) => ScalarValue::TimestampMicrosecond(Some(*v), utc()),
        (T::TimestampNs, L::Long(v)) => ScalarValue::TimestampNanosecond(Some(*v), None),
        (T::TimestamptzNs, L::Long(v)) => ScalarValue::TimestampNanosecond(Some(*v), utc()),
        (T::String, L::String(v)) => ScalarValue::Utf8(Some(v.clone())),
        (T::Uuid, L::UInt128(v)) => ScalarValue::FixedSizeBinary(16, Some(v.to_be_bytes().to_vec())),
        (T::Fixed(length), L::Binary(v)) if v.len() as u64 == *length => {
            ScalarValue::FixedSizeBinary(v.len() as i32, Some(v.clone()))
        }
        (T::Binary, L::Binary(v)) => ScalarValue::Binary(Some(v.clone())),
        _ => {
            return Err(Error::data_invalid("a value in the table's metadata is not of its column's type")
                .with("type", of)
                .with("value", format!("{literal:?}")));
        }
    })
}

/// A scalar as a value of a column's type, where that loses nothing; `None` for NULL and for values outside the type.
pub(super) fn datum(value: &ScalarValue, of: &PrimitiveType) -> Option<Datum> {
    use PrimitiveType as T;
    let bytes = match of {
        T::Boolean => match value {
            ScalarValue::Boolean(Some(v)) => vec![u8::from(*v)],
            _ => return None,
        },
        T::Int => i32::try_from(integer(value)?).ok()?.to_le_bytes().to_vec(),
        T::Long => i64::try_from(integer(value)?).ok()?.to_le_bytes().to_vec(),
        T::Float => match value {
            ScalarValue::Float32(Some(v)) => v.to_le_bytes().to_vec(),
            _ => return None,
        },
        T::Double => match value {
            ScalarValue::Float64(Some(v)) => v.to_le_bytes().to_vec(),
            ScalarValue::Float32(Some(v)) => f64::from(*v).to_le_bytes().to_vec(),
            _ => return None,
        },
        T::Decimal { precision, scale } => {
            let unscaled = match value {
                ScalarValue::Decimal128(Some(v), _, s) => {
                    let up = u32::try_from(i32::try_from(*scale).ok()? - i32::from(*s)).ok()?;
                    v.checked_mul(10_i128.checked_pow(up)?)?
                }
                _ => integer(value)?.checked_mul(10_i128.checked_pow(*scale)?)?,
            };
            if unscaled.unsigned_abs() >= 10_u128.checked_pow(*precision)? {
                return None;
            }
            unscaled.to_be_bytes().to_vec()
        }
        T::Date => match value {
            ScalarValue::Date32(Some(v)) => v.to_le_bytes().to_vec(),
            _ => return None,
        },
        T::Time => match value {
            ScalarValue::Time64Microsecond(Some(v)) => v.to_le_bytes().to_vec(),
            _ => return None,
        },
        T::Timestamp | T::Timestamptz | T::TimestampNs | T::TimestamptzNs => {
            let (nanos, zoned) = timestamp_nanos(value)?;
            if zoned != matches!(of, T::Timestamptz | T::TimestamptzNs) {
                return None;
            }
            let unit = if matches!(of, T::Timestamp | T::Timestamptz) { 1_000 } else { 1 };
            if nanos % unit != 0 {
                return None;
            }
            i64::try_from(nanos / unit).ok()?.to_le_bytes().to_vec()
        }
        T::String => value.try_as_str()??.as_bytes().to_vec(),
        T::Uuid => match value {
            ScalarValue::FixedSizeBinary(16, Some(v)) => v.clone(),
            _ => return None,
        },
        T::Fixed(length) => match value {
            ScalarValue::FixedSizeBinary(_, Some(v)) if v.len() as u64 == *length => v.clone(),
            _ => return None,
        },
        T::Binary => match value {
            ScalarValue::Binary(Some(v))
            | ScalarValue::LargeBinary(Some(v))
            | ScalarValue::BinaryView(Some(v))
            | ScalarValue::FixedSizeBinary(_, Some(v)) => v.clone(),
            _ => return None,
        },
    };
    Datum::try_from_bytes(&bytes, of.clone()).ok()
}

fn integer(value: &ScalarValue) -> Option<i128> {
    Some(match value {
        ScalarValue::Int8(Some(v)) => i128::from(*v),
        ScalarValue::Int16(Some(v)) => i128::from(*v),
        ScalarValue::Int32(Some(v)) => i128::from(*v),
        ScalarValue::Int64(Some(v)) => i128::from(*v),
        ScalarValue::UInt8(Some(v)) => i128::from(*v),
        ScalarValue::UInt16(Some(v)) => i128::from(*v),
        ScalarValue::UInt32(Some(v)) => i128::from(*v),
        ScalarValue::UInt64(Some(v)) => i128::from(*v),
        _ => return None,
    })
}

/// Nanoseconds since the epoch, and whether the timestamp is an instant.
fn timestamp_nanos(value: &ScalarValue) -> Option<(i128, bool)> {
    Some(match value {
        ScalarValue::TimestampSecond(Some(v), zone) => (i128::from(*v) * 1_000_000_000, zone.is_some()),
        ScalarValue::TimestampMillisecond(Some(v), zone) => (i128::from(*v) * 1_000_000, zone.is_some()),
        ScalarValue::TimestampMicrosecond(Some(v), zone) => (i128::from(*v) * 1_000, zone.is_some()),
        ScalarValue::TimestampNanosecond(Some(v), zone) => (i128::from(*v), zone.is_some()),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_translated_only_where_nothing_is_lost() {
        use PrimitiveType as T;
        let timestamp = |v| ScalarValue::TimestampNanosecond(Some(v), None);
        let decimal = T::Decimal { precision: 5, scale: 2 };
        let cases = [
            (ScalarValue::Int64(Some(7)), T::Int, Some(Datum::int(7))),
            (ScalarValue::Int64(Some(5_000_000_000)), T::Int, None),
            (ScalarValue::Int64(None), T::Int, None),
            (ScalarValue::Float64(Some(0.1)), T::Float, None),
            (timestamp(-1_000), T::Timestamp, Some(Datum::timestamp_micros(-1))),
            (timestamp(-1_001), T::Timestamp, None),
            (timestamp(-1_000), T::Timestamptz, None),
            (
                ScalarValue::TimestampSecond(Some(1), Some("+02:00".into())),
                T::Timestamptz,
                Some(Datum::timestamptz_micros(1_000_000)),
            ),
            (ScalarValue::Utf8View(Some("a".into())), T::String, Some(Datum::string("a"))),
            (ScalarValue::Decimal128(Some(1_000), 10, 2), decimal.clone(), {
                Datum::try_from_bytes(&1_000_i128.to_be_bytes(), decimal.clone()).ok()
            }),
            (ScalarValue::Decimal128(Some(15), 10, 1), decimal.clone(), {
                Datum::try_from_bytes(&150_i128.to_be_bytes(), decimal.clone()).ok()
            }),
            (ScalarValue::Decimal128(Some(1_234), 10, 3), decimal.clone(), None),
            (ScalarValue::Decimal128(Some(100_000), 10, 2), decimal.clone(), None),
        ];
        for (value, of, expected) in cases {
            assert_eq!(datum(&value, &of), expected, "{value} as {of}");
        }
    }

    #[test]
    fn a_datum_and_its_scalar_are_the_same_value() {
        use PrimitiveType as T;
        for (value, of) in [
            (ScalarValue::Boolean(Some(true)), T::Boolean),
            (ScalarValue::Date32(Some(-1)), T::Date),
            (ScalarValue::Time64Microsecond(Some(1)), T::Time),
            (ScalarValue::FixedSizeBinary(16, Some((0..16).collect())), T::Uuid),
            (ScalarValue::FixedSizeBinary(3, Some(vec![1, 2, 3])), T::Fixed(3)),
            (ScalarValue::Binary(Some(vec![0, 255])), T::Binary),
            (ScalarValue::Decimal128(Some(-5), 9, 2), T::Decimal { precision: 9, scale: 2 }),
        ] {
            let datum = datum(&value, &of).unwrap();
            assert_eq!(scalar(&of, datum.literal()).unwrap(), value);
        }
    }
}
