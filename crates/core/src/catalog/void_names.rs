//! Void partition fields that are named like a column.
//!
//! Dropping an identity field from a table of version 1 leaves a void field in its place, and Iceberg Java lets that keep
//! the column's name. `iceberg`'s metadata builder refuses every change of such a table. So the fields go by another name
//! while the builder works.

use iceberg::TableUpdate;
use iceberg::spec::{TableMetadata, Transform};
use serde_json::Value;

use crate::error::{Error, Result};

/// What hidden names end in: no writer's field has such a name.
const MARK: &str = "\u{1f}void";

/// A copy of the metadata without such names; none where it has none.
pub(super) fn hide(metadata: &TableMetadata) -> Result<Option<TableMetadata>> {
    let mut fields = metadata.partition_specs_iter().flat_map(|spec| spec.fields());
    if !fields.any(|field| clashes(metadata, &field.name, field.transform)) {
        return Ok(None);
    }
    renamed(metadata, |name| {
        (!name.ends_with(MARK) && is_column(metadata, name)).then(|| format!("{name}{MARK}"))
    })
    .map(Some)
}

/// An update in the names that [`hide`] gives.
pub(super) fn hide_in(update: TableUpdate, metadata: &TableMetadata) -> Result<TableUpdate> {
    let TableUpdate::AddSpec { spec } = &update else { return Ok(update) };
    if !spec.fields().iter().any(|field| clashes(metadata, &field.name, field.transform)) {
        return Ok(update);
    }
    let mut json = serde_json::to_value(spec).map_err(no_json)?;
    let hidden = |name: &str| is_column(metadata, name).then(|| format!("{name}{MARK}"));
    rename_voids(&mut json["fields"], &hidden);
    Ok(TableUpdate::AddSpec { spec: serde_json::from_value(json).map_err(no_json)? })
}

/// The metadata with the names as they were.
pub(super) fn show(metadata: &TableMetadata) -> Result<TableMetadata> {
    renamed(metadata, |name| name.strip_suffix(MARK).map(str::to_string))
}

fn clashes(metadata: &TableMetadata, name: &str, transform: Transform) -> bool {
    transform == Transform::Void && is_column(metadata, name)
}

fn is_column(metadata: &TableMetadata, name: &str) -> bool {
    metadata.schemas_iter().any(|schema| schema.field_by_name(name).is_some())
}

/// A copy with void fields renamed. (The fields of a spec can't be set from outside; their JSON can.)
fn renamed(metadata: &TableMetadata, rename: impl Fn(&str) -> Option<String>) -> Result<TableMetadata> {
    let mut json = serde_json::to_value(metadata).map_err(no_json)?;
    // Version 1 has the fields of the current spec twice.
    if let Some(fields) = json.get_mut("partition-spec") {
        rename_voids(fields, &rename);
    }
    if let Some(specs) = json.get_mut("partition-specs").and_then(Value::as_array_mut) {
        specs.iter_mut().for_each(|spec| rename_voids(&mut spec["fields"], &rename));
    }
    serde_json::from_value(json).map_err(no_json)
}

fn rename_voids(fields: &mut Value, rename: &impl Fn(&str) -> Option<String>) {
    for field in fields.as_array_mut().into_iter().flatten() {
        let is_void = field.get("transform").and_then(Value::as_str) == Some("void");
        let name = field.get("name").and_then(Value::as_str).and_then(rename);
        if let (true, Some(name)) = (is_void, name) {
            field["name"] = Value::String(name);
        }
    }
}

fn no_json(error: serde_json::Error) -> Error {
    Error::internal("metadata is not as its own JSON says").with_source(error)
}
