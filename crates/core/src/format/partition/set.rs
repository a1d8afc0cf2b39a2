//! Partitions, and which manifests may list files of them.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};

use iceberg::spec::{
    Datum, FieldSummary, Literal, ManifestFile, PartitionField, PrimitiveType, Struct, TableMetadata,
    Transform,
};

use super::{PartitionKey, PartitionKeys};
use crate::format::claims::is_contradiction;
use crate::format::value::{compare, datum};

/// A set of partition values, each of a spec.
#[derive(Debug, Clone, Default)]
pub(crate) struct PartitionSet {
    keys: HashSet<(i32, PartitionKey)>,
    table: PartitionKeys,
    specs: HashMap<i32, OfSpec>,
}

#[derive(Debug, Clone)]
struct OfSpec {
    /// The types of its fields' values, where they are known.
    types: Vec<Option<PrimitiveType>>,
    partitions: Vec<Vec<Value>>,
}

/// A value as it is held against a manifest's summaries.
#[derive(Debug, Clone)]
enum Value {
    Null,
    Known(Datum),
    /// Not to be compared: it may be anywhere.
    Unknown,
}

impl PartitionSet {
    pub(crate) fn new<'a>(
        partitions: impl IntoIterator<Item = (i32, &'a Struct)>,
        metadata: &TableMetadata,
    ) -> Self {
        let mut set = Self { table: PartitionKeys::new(metadata), ..Self::default() };
        for (spec_id, partition) in partitions {
            if !set.keys.insert(set.table.key(spec_id, partition)) {
                continue;
            }
            let of = set
                .specs
                .entry(spec_id)
                .or_insert_with(|| OfSpec { types: field_types(spec_id, metadata), partitions: Vec::new() });
            let values = partition.fields().iter().zip(&of.types);
            let values = values.enumerate().map(|(at, (value, of))| match set.table.is_lost(spec_id, at) {
                true => Value::Unknown,
                false => Value::new(value.as_ref(), of.as_ref()),
            });
            of.partitions.push(values.collect());
        }
        set
    }

    /// Whether a partition is, or may be, one of them, in whatever width its values were written.
    pub(crate) fn contains(&self, spec_id: i32, partition: &Struct) -> bool {
        self.keys.contains(&self.table.key(spec_id, partition))
    }

    /// Whether a manifest may list a file of one of them: false only if it lists none. Goes by its spec and its summaries.
    pub(crate) fn might_be_in(&self, manifest: &ManifestFile) -> bool {
        let Some(of) = self.specs.get(&manifest.partition_spec_id) else { return false };
        let summaries = manifest.partitions.as_deref().unwrap_or_default();
        let summaries: Vec<Summary<'_>> =
            summaries.iter().zip(&of.types).map(|(summary, of)| Summary::new(summary, of.as_ref())).collect();
        let might = |values: &Vec<Value>| {
            values.iter().zip(&summaries).all(|(value, summary)| summary.might_hold(value))
        };
        of.partitions.iter().any(might)
    }
}

impl Value {
    fn new(value: Option<&Literal>, of: Option<&PrimitiveType>) -> Self {
        match (value, of) {
            (None, _) => Self::Null,
            (Some(Literal::Primitive(value)), Some(of)) => {
                datum(of, value).map_or(Self::Unknown, Self::Known)
            }
            _ => Self::Unknown,
        }
    }
}

/// What a manifest says of one partition field, parsed once for all partitions that are looked for.
struct Summary<'a> {
    summary: &'a FieldSummary,
    lower: Option<Datum>,
    upper: Option<Datum>,
}

impl<'a> Summary<'a> {
    fn new(summary: &'a FieldSummary, of: Option<&PrimitiveType>) -> Self {
        let bound = |bytes: &[u8]| Datum::try_from_bytes(bytes, of?.clone()).ok();
        let lower = summary.lower_bound.as_ref().and_then(|bytes| bound(bytes));
        let upper = summary.upper_bound.as_ref().and_then(|bytes| bound(bytes));
        match lower.as_ref().zip(upper.as_ref()).is_some_and(|(lower, upper)| is_contradiction(lower, upper))
        {
            true => Self { summary, lower: None, upper: None },
            false => Self { summary, lower, upper },
        }
    }

    fn might_hold(&self, value: &Value) -> bool {
        let value = match value {
            Value::Null => return self.summary.contains_null,
            Value::Unknown => return true,
            Value::Known(value) if value.is_nan() => return self.summary.contains_nan != Some(false),
            Value::Known(value) => value,
        };
        self.lower.as_ref().and_then(|lower| compare(value, lower)) != Some(Ordering::Less)
            && self.upper.as_ref().and_then(|upper| compare(value, upper)) != Some(Ordering::Greater)
    }
}

fn field_types(spec_id: i32, metadata: &TableMetadata) -> Vec<Option<PrimitiveType>> {
    let spec = metadata.partition_spec_by_id(spec_id);
    spec.iter().flat_map(|spec| spec.fields()).map(|field| result_type(field, metadata)).collect()
}

/// The type of a field's partition values, as the newest schema with its source column has it; `None` where the transform is
/// not known here.
fn result_type(field: &PartitionField, metadata: &TableMetadata) -> Option<PrimitiveType> {
    if field.transform == Transform::Unknown {
        return None;
    }
    let mut others: Vec<_> = metadata.schemas_iter().collect();
    others.sort_by_key(|schema| std::cmp::Reverse(schema.schema_id()));
    let mut schemas = std::iter::once(metadata.current_schema()).chain(others);
    let source = schemas.find_map(|schema| schema.field_by_id(field.source_id))?;
    field.transform.result_type(&source.field_type).ok()?.as_primitive_type().cloned()
}
