//! Single values: making [`Datum`]s of any type and comparing them.

use std::cmp::Ordering;

use iceberg::spec::{Datum, PrimitiveLiteral, PrimitiveType};

use crate::error::Result;

/// A value of a type. (`Datum`'s own constructors leave some types out.)
///
/// # Errors
/// [`DataInvalid`](crate::ErrorKind::DataInvalid) when the literal is not one of the type's.
pub(crate) fn datum(of: &PrimitiveType, literal: &PrimitiveLiteral) -> Result<Datum> {
    let bytes = match literal {
        PrimitiveLiteral::Boolean(value) => vec![u8::from(*value)],
        PrimitiveLiteral::Int(value) => value.to_le_bytes().to_vec(),
        PrimitiveLiteral::Long(value) => value.to_le_bytes().to_vec(),
        PrimitiveLiteral::Float(value) => value.to_le_bytes().to_vec(),
        PrimitiveLiteral::Double(value) => value.to_le_bytes().to_vec(),
        PrimitiveLiteral::String(value) => value.as_bytes().to_vec(),
        PrimitiveLiteral::Binary(value) => value.clone(),
        PrimitiveLiteral::Int128(value) => value.to_be_bytes().to_vec(),
        PrimitiveLiteral::UInt128(value) => value.to_be_bytes().to_vec(),
        PrimitiveLiteral::AboveMax | PrimitiveLiteral::BelowMin => Vec::new(),
    };
    Ok(Datum::try_from_bytes(&bytes, of.clone())?)
}

/// How two values of one column compare, where that is the same for every reader.
///
/// The column's type may have been widened between them: an `int` compares with a `long`, a `float` with a `double`, a
/// decimal with one of more digits. Nothing is said (`None`) of NaN, of the two zeros of floating point, which some readers
/// take for equal and others (Arrow among them) for ordered, and of types that have nothing to do with each other.
pub(crate) fn compare(a: &Datum, b: &Datum) -> Option<Ordering> {
    use PrimitiveLiteral as L;
    use PrimitiveType as T;
    let comparable = match (a.data_type(), b.data_type()) {
        (T::Int | T::Long, T::Int | T::Long) | (T::Float | T::Double, T::Float | T::Double) => true,
        (T::Decimal { .. }, T::Decimal { .. }) => true,
        (T::Fixed(_) | T::Binary, T::Fixed(_) | T::Binary) => true,
        (a, b) => a == b,
    };
    if !comparable {
        return None;
    }
    match (a.literal(), b.literal()) {
        (L::Boolean(a), L::Boolean(b)) => Some(a.cmp(b)),
        (L::Int(a), L::Int(b)) => Some(a.cmp(b)),
        (L::Int(a), L::Long(b)) => Some(i64::from(*a).cmp(b)),
        (L::Long(a), L::Int(b)) => Some(a.cmp(&i64::from(*b))),
        (L::Long(a), L::Long(b)) => Some(a.cmp(b)),
        (L::Float(a), L::Float(b)) => compare_floats(a.0.into(), b.0.into()),
        (L::Float(a), L::Double(b)) => compare_floats(a.0.into(), b.0),
        (L::Double(a), L::Float(b)) => compare_floats(a.0, b.0.into()),
        (L::Double(a), L::Double(b)) => compare_floats(a.0, b.0),
        (L::String(a), L::String(b)) => Some(a.cmp(b)),
        (L::Binary(a), L::Binary(b)) => Some(a.cmp(b)),
        (L::UInt128(a), L::UInt128(b)) => Some(a.cmp(b)),
        (L::Int128(x), L::Int128(y)) => compare_decimals(*x, scale(a)?, *y, scale(b)?),
        _ => None,
    }
}

fn compare_floats(a: f64, b: f64) -> Option<Ordering> {
    if a == 0.0 && b == 0.0 { None } else { a.partial_cmp(&b) }
}

fn scale(of: &Datum) -> Option<u32> {
    match of.data_type() {
        PrimitiveType::Decimal { scale, .. } => Some(*scale),
        _ => None,
    }
}

fn compare_decimals(a: i128, a_scale: u32, b: i128, b_scale: u32) -> Option<Ordering> {
    if a_scale == b_scale {
        return Some(a.cmp(&b));
    }
    let common = a_scale.max(b_scale);
    let raise = |value: i128, scale: u32| value.checked_mul(10_i128.checked_pow(common - scale)?);
    Some(raise(a, a_scale)?.cmp(&raise(b, b_scale)?))
}
