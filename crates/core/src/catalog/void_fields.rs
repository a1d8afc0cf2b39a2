//! Void partition fields, hidden from `iceberg`'s metadata builder.
//!
//! In version 1 a partition field that is removed stays as a void one. Iceberg Java lets it keep the name of a column, lets two of
//! one column stay, and lets the column go. The builder refuses every change of such a table. So while it works each void
//! field has another name, and as its source a column of its own that no schema has.

use std::collections::HashMap;

use iceberg::TableUpdate;
use iceberg::spec::TableMetadata;
use iceberg::spec::Transform;
use serde_json::{Value, json};

use crate::error::{Error, Result};

/// Parts the name from the source's id in a hidden name. No writer's field has such a name.
const MARK: char = '\u{1f}';

/// The ids of the columns that stand in begin here, far above those that tables have and below those of metadata columns.
const FIRST: i64 = 2_000_000_000;

/// Whether a spec of the metadata has a void field, or one is added.
pub(super) fn any(metadata: &TableMetadata, updates: &[TableUpdate]) -> bool {
    let mut specs = metadata.partition_specs_iter();
    let added = |update: &TableUpdate| matches!(update, TableUpdate::AddSpec { spec } if spec.fields().iter().any(|f| f.transform == Transform::Void));
    specs.any(|spec| spec.fields().iter().any(|field| field.transform == Transform::Void))
        || updates.iter().any(added)
}

/// What was hidden.
pub(super) struct Hidden {
    /// The stand-ins by what is known of a void field: its id, or its name where it has none yet.
    columns: HashMap<String, i64>,
    /// The sources by the fields' ids.
    sources: HashMap<i64, i64>,
    last_column_id: i64,
}

impl Hidden {
    /// Hides the void fields of metadata as JSON.
    pub(super) fn hide(json: &mut Value, updates: &[TableUpdate]) -> Result<Self> {
        let last_column_id = json.get("last-column-id").and_then(Value::as_i64).unwrap_or_default();
        let mut hidden = Self { columns: HashMap::new(), sources: HashMap::new(), last_column_id };
        specs(json, |field| hidden.hide_field(field, false));
        for update in updates {
            if let TableUpdate::AddSpec { spec } = update {
                let mut spec = serde_json::to_value(spec).map_err(no_json)?;
                fields(spec.get_mut("fields"), |field| hidden.hide_field(field, true));
            }
        }
        schemas(json, |schema| hidden.add_columns(schema));
        Ok(hidden)
    }

    /// An update in terms of what is hidden.
    pub(super) fn update(&mut self, update: TableUpdate) -> Result<TableUpdate> {
        match update {
            TableUpdate::AddSchema { schema } => {
                let mut json = serde_json::to_value(schema).map_err(no_json)?;
                self.add_columns(&mut json);
                Ok(TableUpdate::AddSchema { schema: serde_json::from_value(json).map_err(no_json)? })
            }
            TableUpdate::AddSpec { spec } => {
                let mut json = serde_json::to_value(spec).map_err(no_json)?;
                fields(json.get_mut("fields"), |field| self.hide_field(field, true));
                Ok(TableUpdate::AddSpec { spec: serde_json::from_value(json).map_err(no_json)? })
            }
            other => Ok(other),
        }
    }

    /// Shows them again in what the builder made.
    pub(super) fn show(&self, json: &mut Value) {
        specs(json, |field| {
            let name = field.get("name").and_then(Value::as_str).and_then(|name| name.rsplit_once(MARK));
            let Some((name, source)) = name else { return };
            if let (name, Ok(source)) = (name.to_string(), source.parse::<i64>()) {
                field["name"] = name.into();
                field["source-id"] = source.into();
            }
        });
        let id = |field: &Value| field.get("id").and_then(Value::as_i64).unwrap_or_default();
        let ours = |id: i64| (FIRST..FIRST + self.columns.len() as i64).contains(&id);
        let mut highest = self.last_column_id;
        schemas(json, |schema| {
            if let Some(Value::Array(fields)) = schema.get_mut("fields") {
                fields.retain(|field| !ours(id(field)));
            }
            highest = highest.max(highest_id(schema));
        });
        json["last-column-id"] = highest.into();
    }

    /// Hides a field of the table's own, or of a spec to be added.
    fn hide_field(&mut self, field: &mut Value, added: bool) {
        if field.get("transform").and_then(Value::as_str) != Some("void") {
            return;
        }
        let name = field.get("name").and_then(Value::as_str).unwrap_or_default().to_string();
        if name.contains(MARK) {
            return;
        }
        let id = field.get("field-id").and_then(Value::as_i64);
        let mut source = field.get("source-id").and_then(Value::as_i64).unwrap_or_default();
        if let Some(id) = id {
            let known = *self.sources.entry(id).or_insert(source);
            // The table's own fields know columns that are gone.
            source = if added { known } else { source };
        }
        let key = id.map_or_else(|| name.clone(), |id| id.to_string());
        let next = FIRST + self.columns.len() as i64;
        let column = *self.columns.entry(key).or_insert(next);
        field["name"] = format!("{name}{MARK}{source}").into();
        field["source-id"] = column.into();
    }

    fn add_columns(&self, schema: &mut Value) {
        let mut ids: Vec<_> = self.columns.values().collect();
        ids.sort_unstable();
        if let Some(Value::Array(fields)) = schema.get_mut("fields") {
            let column =
                |id| json!({ "id": id, "name": format!("{MARK}{id}"), "required": false, "type": "int" });
            fields.extend(ids.into_iter().map(column));
        }
    }
}

fn fields(of: Option<&mut Value>, change: impl FnMut(&mut Value)) {
    of.and_then(Value::as_array_mut).into_iter().flatten().for_each(change);
}

/// Calls for every partition field. Version 1 has those of the current spec twice.
fn specs(json: &mut Value, mut change: impl FnMut(&mut Value)) {
    fields(json.get_mut("partition-spec"), &mut change);
    fields(json.get_mut("partition-specs"), |spec| fields(spec.get_mut("fields"), &mut change));
}

/// Calls for every schema. Version 1 has the current one twice.
fn schemas(json: &mut Value, mut change: impl FnMut(&mut Value)) {
    json.get_mut("schema").into_iter().for_each(&mut change);
    fields(json.get_mut("schemas"), &mut change);
}

/// The highest id of a column at any level.
fn highest_id(of: &Value) -> i64 {
    let own = ["id", "element-id", "key-id", "value-id"].iter();
    let own = own.filter_map(|id| of.get(*id).and_then(Value::as_i64)).max().unwrap_or_default();
    let parts = ["type", "element", "key", "value"].iter().filter_map(|part| of.get(*part));
    let inner = parts.chain(of.get("fields").and_then(Value::as_array).into_iter().flatten());
    inner.map(highest_id).max().unwrap_or_default().max(own)
}

fn no_json(error: serde_json::Error) -> Error {
    Error::internal("metadata is not as its own JSON says").with_source(error)
}
