//! Partition values as the types of their fields have them, whatever a writer made of them.

use iceberg::spec::{PrimitiveLiteral, PrimitiveType};

/// A value as one of this type has it; `None` for one of another type.
pub(super) fn widen(value: &PrimitiveLiteral, of: &PrimitiveType) -> Option<PrimitiveLiteral> {
    use PrimitiveLiteral as L;
    use PrimitiveType as T;
    Some(match (of, value) {
        (T::Boolean, L::Boolean(_))
        | (T::Int | T::Date, L::Int(_))
        | (
            T::Long | T::Time | T::Timestamp | T::Timestamptz | T::TimestampNs | T::TimestamptzNs,
            L::Long(_),
        )
        | (T::Float, L::Float(_))
        | (T::Double, L::Double(_))
        | (T::String, L::String(_))
        | (T::Binary, L::Binary(_))
        | (T::Uuid, L::UInt128(_)) => value.clone(),
        (T::Long, L::Int(v)) => L::Long(i64::from(*v)),
        (T::Double, L::Float(v)) => L::Double(f64::from(v.0).into()),
        (T::Fixed(length), L::Binary(v)) if v.len() as u64 == *length => value.clone(),
        (T::Uuid, L::Binary(v)) => L::UInt128(u128::from_be_bytes(v.as_slice().try_into().ok()?)),
        (T::Decimal { precision, .. }, L::Int128(v)) => {
            decimal_bytes(*v, decimal_length(*precision))?;
            value.clone()
        }
        _ => return None,
    })
}

/// How many bytes the digits of a decimal take.
pub(super) fn decimal_length(precision: u32) -> usize {
    let most = 10_i128.checked_pow(precision).map_or(i128::MAX, |over| over - 1);
    (1..16).find(|length| most >> (8 * length - 1) == 0).unwrap_or(16)
}

/// Big-endian two's complement in so many bytes; `None` where it does not fit.
pub(super) fn decimal_bytes(value: i128, length: usize) -> Option<Vec<u8>> {
    let bytes = value.to_be_bytes();
    let (over, kept) = bytes.split_at(bytes.len().checked_sub(length)?);
    let sign = if value < 0 { 0xff } else { 0 };
    let fits =
        over.iter().all(|byte| *byte == sign) && kept.first().is_some_and(|b| (b & 0x80 != 0) == (value < 0));
    fits.then(|| kept.to_vec())
}
