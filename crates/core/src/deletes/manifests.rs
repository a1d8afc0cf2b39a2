//! Which manifests of data files a delete file bears on.

use std::cmp::Ordering;

use iceberg::spec::{
    DataContentType, Datum, FieldSummary, Literal, ManifestFile, PartitionField, PrimitiveType, TableMetadata,
};

use crate::format::LiveFile;
use crate::format::claims::is_contradiction;
use crate::format::value::{compare, datum};

/// Whether a manifest may list a data file that the delete file applies to: false only if it lists none. Goes by sequence
/// numbers, the partition spec and the manifest's summaries of partition values, and takes a deletion vector to be of its
/// data file's partition, as the specification wants it.
pub fn might_apply_to_manifest(delete: &LiveFile, manifest: &ManifestFile, metadata: &TableMetadata) -> bool {
    let by_keys = delete.file.content_type() == DataContentType::EqualityDeletes;
    let oldest = manifest.min_sequence_number;
    if oldest > delete.sequence_number || (by_keys && oldest == delete.sequence_number) {
        return false;
    }
    let Some(spec) = metadata.partition_spec_by_id(delete.spec_id) else { return true };
    if by_keys && spec.is_unpartitioned() {
        return true;
    }
    if manifest.partition_spec_id != delete.spec_id {
        return false;
    }
    let summaries = manifest.partitions.as_deref().unwrap_or_default();
    let values = delete.file.partition().fields();
    spec.fields()
        .iter()
        .zip(summaries)
        .zip(values)
        .all(|((field, summary), value)| might_hold(field, summary, value.as_ref(), metadata))
}

fn might_hold(
    field: &PartitionField,
    summary: &FieldSummary,
    value: Option<&Literal>,
    metadata: &TableMetadata,
) -> bool {
    let Some(value) = value else { return summary.contains_null };
    let (Literal::Primitive(value), Some(of)) = (value, result_type(field, metadata)) else { return true };
    let Ok(value) = datum(&of, value) else { return true };
    if value.is_nan() {
        return summary.contains_nan != Some(false);
    }
    let bound = |bytes: &[u8]| Datum::try_from_bytes(bytes, of.clone()).ok();
    let lower = summary.lower_bound.as_ref().and_then(|bytes| bound(bytes));
    let upper = summary.upper_bound.as_ref().and_then(|bytes| bound(bytes));
    if lower.as_ref().zip(upper.as_ref()).is_some_and(|(lower, upper)| is_contradiction(lower, upper)) {
        return true;
    }
    lower.and_then(|lower| compare(&value, &lower)) != Some(Ordering::Less)
        && upper.and_then(|upper| compare(&value, &upper)) != Some(Ordering::Greater)
}

/// The type of a field's partition values, as the newest schema with its source column has it.
fn result_type(field: &PartitionField, metadata: &TableMetadata) -> Option<PrimitiveType> {
    let mut others: Vec<_> = metadata.schemas_iter().collect();
    others.sort_by_key(|schema| std::cmp::Reverse(schema.schema_id()));
    let mut schemas = std::iter::once(metadata.current_schema()).chain(others);
    let source = schemas.find_map(|schema| schema.field_by_id(field.source_id))?;
    field.transform.result_type(&source.field_type).ok()?.as_primitive_type().cloned()
}
