//! What a manifest list says of the partition values in a manifest.

use std::cmp::Ordering;

use iceberg::spec::{FieldSummary, PrimitiveLiteral, PrimitiveType};

use crate::error::Result;
use crate::format::value::datum;

/// A partition field's values so far.
#[derive(Debug)]
pub(super) struct Summary {
    of: Option<PrimitiveType>,
    contains_null: bool,
    contains_nan: bool,
    range: Option<(PrimitiveLiteral, PrimitiveLiteral)>,
}

impl Summary {
    pub(super) fn new(of: Option<PrimitiveType>) -> Self {
        Self { of, contains_null: false, contains_nan: false, range: None }
    }

    /// Adds a value of the field's type.
    pub(super) fn add(&mut self, value: Option<PrimitiveLiteral>) {
        let Some(value) = value else {
            self.contains_null = true;
            return;
        };
        if is_nan(&value) {
            self.contains_nan = true;
            return;
        }
        match &mut self.range {
            None => self.range = Some((value.clone(), value)),
            Some((least, greatest)) => {
                if compare(&value, least) == Ordering::Less {
                    *least = value;
                } else if compare(&value, greatest) == Ordering::Greater {
                    *greatest = value;
                }
            }
        }
    }

    pub(super) fn finish(self) -> Result<FieldSummary> {
        let bounds = match (&self.of, &self.range) {
            (Some(of), Some((least, greatest))) => {
                let bytes = |value| Ok::<_, crate::Error>(datum(of, value)?.to_bytes()?);
                Some((bytes(least)?, bytes(greatest)?))
            }
            _ => None,
        };
        let (lower_bound, upper_bound) = bounds.unzip();
        let (contains_null, contains_nan) = (self.contains_null, Some(self.contains_nan));
        Ok(FieldSummary { contains_null, contains_nan, lower_bound, upper_bound })
    }
}

fn is_nan(value: &PrimitiveLiteral) -> bool {
    match value {
        PrimitiveLiteral::Float(v) => v.is_nan(),
        PrimitiveLiteral::Double(v) => v.is_nan(),
        _ => false,
    }
}

/// The order of two values of one type. The zeros of floating point are two, as in Java.
fn compare(a: &PrimitiveLiteral, b: &PrimitiveLiteral) -> Ordering {
    use PrimitiveLiteral as L;
    match (a, b) {
        (L::Boolean(a), L::Boolean(b)) => a.cmp(b),
        (L::Int(a), L::Int(b)) => a.cmp(b),
        (L::Long(a), L::Long(b)) => a.cmp(b),
        (L::Float(a), L::Float(b)) => a.0.total_cmp(&b.0),
        (L::Double(a), L::Double(b)) => a.0.total_cmp(&b.0),
        (L::String(a), L::String(b)) => a.cmp(b),
        (L::Binary(a), L::Binary(b)) => a.cmp(b),
        (L::Int128(a), L::Int128(b)) => a.cmp(b),
        (L::UInt128(a), L::UInt128(b)) => a.cmp(b),
        _ => Ordering::Equal,
    }
}
