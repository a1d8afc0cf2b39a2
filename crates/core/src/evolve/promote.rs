//! Type promotion: which changes of a primitive type leave existing data readable, and what becomes of defaults.
//!
//! Iceberg specification, Schema Evolution, "Valid primitive type promotions".

use iceberg::spec::{
    FormatVersion, Literal, PrimitiveLiteral, PrimitiveType, TableMetadata, Transform, Type,
};

use crate::error::{Error, Result};

/// Whether values of `from` can be read as `to`.
pub(super) fn is_promotion(from: &PrimitiveType, to: &PrimitiveType, version: FormatVersion) -> bool {
    use PrimitiveType as P;
    match (from, to) {
        (P::Int, P::Long) | (P::Float, P::Double) => true,
        (P::Decimal { precision: p, scale: s }, P::Decimal { precision: wider, scale }) => {
            s == scale && p < wider && *wider <= 38
        }
        (P::Date, P::Timestamp | P::TimestampNs) => version >= FormatVersion::V3,
        _ => false,
    }
}

/// The error for a change of type that is not a promotion.
pub(super) fn refusal(column: &str, from: &str, to: &str, version: FormatVersion) -> Error {
    let (message, remedy) = match (from, to) {
        ("long", "int") | ("double", "float") => (
            "a column's type can't be narrowed: values that are already there may not fit",
            "keep the wider type, or add a column of the new type, fill it, and drop this one",
        ),
        ("date", "timestamp" | "timestamp_ns") if version < FormatVersion::V3 => (
            "a date becomes a timestamp only in format version 3",
            "upgrade the table's format version, or add a column of the new type",
        ),
        (a, b) if a.starts_with("decimal") && b.starts_with("decimal") => (
            "a decimal's precision can only grow, up to 38, and its scale can't change",
            "keep the type, or add a column of the new type, fill it, and drop this one",
        ),
        _ => (
            "a column's type can only be widened: int to long, float to double, decimal to more digits of the same scale",
            "cast the data to the column's type, or add a column of the new type",
        ),
    };
    Error::invalid_input(format!("{message}; {remedy}"))
        .with("column", column)
        .with("from", from)
        .with("to", to)
}

/// A default's value in the promoted type.
pub(super) fn promote_literal(literal: &Literal, to: &PrimitiveType) -> Option<Literal> {
    use PrimitiveLiteral as L;
    const MICROS_A_DAY: i64 = 86_400_000_000;
    let Literal::Primitive(value) = literal else { return None };
    let value = match (value, to) {
        (L::Int(value), PrimitiveType::Long) => L::Long(i64::from(*value)),
        (L::Float(value), PrimitiveType::Double) => L::Double(f64::from(value.0).into()),
        (L::Int128(value), PrimitiveType::Decimal { .. }) => L::Int128(*value),
        (L::Int(days), PrimitiveType::Timestamp) => L::Long(i64::from(*days).checked_mul(MICROS_A_DAY)?),
        (L::Int(days), PrimitiveType::TimestampNs) => {
            L::Long(i64::from(*days).checked_mul(MICROS_A_DAY)?.checked_mul(1000)?)
        }
        _ => return None,
    };
    Some(Literal::Primitive(value))
}

/// Refuses a promotion after which a partition field or the sort order would give other values, or none.
pub(super) fn check_uses(
    metadata: &TableMetadata,
    id: i32,
    column: &str,
    from: &PrimitiveType,
    to: &PrimitiveType,
) -> Result<()> {
    for spec in metadata.partition_specs_iter() {
        for field in spec.fields().iter().filter(|f| f.source_id == id) {
            let kept = match (from, field.transform) {
                (PrimitiveType::Date, transform) => {
                    matches!(transform, Transform::Year | Transform::Month | Transform::Day | Transform::Void)
                }
                (_, Transform::Unknown) => false,
                _ => true,
            };
            if !kept {
                return Err(Error::invalid_input(
                    "the promotion would change the values of a partition field; add a column of the new type instead",
                )
                .with("column", column)
                .with("from", from)
                .with("to", to)
                .with("partition_field", &field.name)
                .with("transform", field.transform));
            }
        }
    }
    let promoted = Type::Primitive(to.clone());
    for field in metadata.default_sort_order().fields.iter().filter(|f| f.source_id == id) {
        if field.transform.result_type(&promoted).is_err() {
            return Err(Error::invalid_input(
                "the sort order's transform does not take the new type; replace the sort order first",
            )
            .with("column", column)
            .with("to", to)
            .with("transform", field.transform));
        }
    }
    Ok(())
}
