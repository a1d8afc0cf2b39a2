//! Partition values as they are compared: a column that was promoted has had two widths, and its values are one all the same.

use iceberg::spec::{Literal, PrimitiveLiteral, Struct};

/// A partition value that compares alike whichever width it was written in.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct PartitionKey(Vec<Option<Part>>);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Part {
    Whole(i128),
    Float(u64),
    Text(String),
    Bytes(Vec<u8>),
}

impl PartitionKey {
    pub(crate) fn new(partition: &Struct) -> Self {
        let part = |value: &Literal| match value {
            Literal::Primitive(primitive) => Some(match primitive {
                PrimitiveLiteral::Boolean(v) => Part::Whole(i128::from(*v)),
                PrimitiveLiteral::Int(v) => Part::Whole(i128::from(*v)),
                PrimitiveLiteral::Long(v) => Part::Whole(i128::from(*v)),
                PrimitiveLiteral::Int128(v) => Part::Whole(*v),
                PrimitiveLiteral::Float(v) => Part::Float(canonical(f64::from(v.0))),
                PrimitiveLiteral::Double(v) => Part::Float(canonical(v.0)),
                PrimitiveLiteral::String(v) => Part::Text(v.clone()),
                PrimitiveLiteral::Binary(v) => Part::Bytes(v.clone()),
                PrimitiveLiteral::UInt128(v) => Part::Bytes(v.to_be_bytes().to_vec()),
                PrimitiveLiteral::AboveMax => Part::Text("above".to_string()),
                PrimitiveLiteral::BelowMin => Part::Text("below".to_string()),
            }),
            _ => None,
        };
        Self(partition.fields().iter().map(|value| value.as_ref().and_then(part)).collect())
    }
}

/// The bits of a float, all NaNs alike.
fn canonical(value: f64) -> u64 {
    if value.is_nan() { f64::NAN.to_bits() } else { value.to_bits() }
}
