//! Partition values as they are compared: a column that was promoted has had two widths, and its values are one all the same.

use std::collections::HashMap;

use iceberg::spec::{Literal, PrimitiveLiteral, Struct, TableMetadata, Transform};

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

/// Partition values of a table as the scopes of deletes: which of them are one partition.
///
/// Values of fields whose column has left the table's schema are special. Whoever writes a manifest after that can't know their
/// type any more: Iceberg Java writes NULL for them (and reads NULL), where earlier releases did not if the transform has a type
/// of its own. So such a NULL may be any value: a delete file that was written before the column went and a data file's entry that was copied after
/// it, or the other way round, are of one partition. Two values that are both known are compared as ever.
#[derive(Debug, Clone, Default)]
pub(crate) struct PartitionKeys {
    /// For specs that have such fields, which they are.
    lost: HashMap<i32, Vec<bool>>,
}

impl PartitionKeys {
    pub(crate) fn new(metadata: &TableMetadata) -> Self {
        let schema = metadata.current_schema();
        let specs = metadata.partition_specs_iter().map(|spec| {
            let fields = spec.fields().iter().map(|field| {
                field.transform != Transform::Void && schema.field_by_id(field.source_id).is_none()
            });
            (spec.spec_id(), fields.collect::<Vec<bool>>())
        });
        Self { lost: specs.filter(|(_, lost)| lost.contains(&true)).collect() }
    }

    /// A key that two values share which [may be the same](Self::may_be_same).
    pub(crate) fn key(&self, spec_id: i32, partition: &Struct) -> (i32, PartitionKey) {
        let mut key = PartitionKey::new(partition);
        for (part, lost) in key.0.iter_mut().zip(self.lost.get(&spec_id).into_iter().flatten()) {
            if *lost {
                *part = None;
            }
        }
        (spec_id, key)
    }

    /// Whether a field of a spec is one whose NULL may be any value.
    pub(crate) fn is_lost(&self, spec_id: i32, place: usize) -> bool {
        self.lost.get(&spec_id).and_then(|lost| lost.get(place)) == Some(&true)
    }

    /// Whether two values of a spec that have the same key may be one partition.
    pub(crate) fn may_be_same(&self, spec_id: i32, a: &Struct, b: &Struct) -> bool {
        let Some(lost) = self.lost.get(&spec_id) else { return true };
        let (a, b) = (PartitionKey::new(a), PartitionKey::new(b));
        let mut parts = lost.iter().zip(a.0.iter().zip(&b.0));
        parts.all(|(lost, (a, b))| a == b || (*lost && (a.is_none() || b.is_none())))
    }
}

/// The bits of a float, all NaNs alike.
fn canonical(value: f64) -> u64 {
    if value.is_nan() { f64::NAN.to_bits() } else { value.to_bits() }
}
