//! Properties that name columns, kept in step with a schema's changes: the name mapping and settings of single columns.

use std::collections::{HashMap, HashSet};

use iceberg::TableUpdate;
use iceberg::spec::{DEFAULT_SCHEMA_NAME_MAPPING, MappedField, NameMapping};

use super::tree::{Node, Tree};

/// What precedes a column's name in properties of single columns.
const COLUMN_PREFIXES: [&str; 3] = [
    "write.metadata.metrics.column.",
    "write.parquet.bloom-filter-enabled.column.",
    "write.parquet.stats-enabled.column.",
];

/// The property changes that follow from a schema's.
pub(super) fn property_updates(
    properties: &HashMap<String, String>,
    before: &Tree,
    after: &Tree,
) -> Vec<TableUpdate> {
    let (old_names, new_names) = (before.names(), after.names());
    let mut set = HashMap::new();
    let mut remove = Vec::new();
    if let Some(json) = properties.get(DEFAULT_SCHEMA_NAME_MAPPING) {
        match serde_json::from_str::<NameMapping>(json) {
            Ok(mapping) => {
                let updated = update_mapping(&mapping, before, after);
                if updated != mapping
                    && let Ok(json) = serde_json::to_string(&updated)
                {
                    set.insert(DEFAULT_SCHEMA_NAME_MAPPING.to_string(), json);
                }
            }
            // As Iceberg Java: a mapping that can't be read does not stand in a change's way.
            Err(e) => {
                tracing::warn!(error = %e, "the name mapping can't be parsed and stays as it is");
            }
        }
    }
    let ids: HashMap<&str, i32> = old_names.iter().map(|(id, name)| (name.as_str(), *id)).collect();
    for (key, value) in properties {
        let Some((prefix, column)) =
            COLUMN_PREFIXES.iter().find_map(|prefix| Some((*prefix, key.strip_prefix(prefix)?)))
        else {
            continue;
        };
        let Some(id) = ids.get(column) else { continue };
        match new_names.get(id) {
            Some(name) if name == column => {}
            Some(name) => {
                set.insert(format!("{prefix}{name}"), value.clone());
                remove.push(key.clone());
            }
            None => remove.push(key.clone()),
        }
    }
    // When columns swap names, a key that goes for one comes for the other.
    remove.retain(|key| !set.contains_key(key));
    remove.sort();
    let mut updates = Vec::new();
    if !set.is_empty() {
        updates.push(TableUpdate::SetProperties { updates: set });
    }
    if !remove.is_empty() {
        updates.push(TableUpdate::RemoveProperties { removals: remove });
    }
    updates
}

/// The mapping of columns to the names by which they are found in files without field ids.
struct Mapping {
    /// Own names of columns that have a new one.
    renamed: HashMap<i32, String>,
    /// New columns by the field around them.
    added: HashMap<Option<i32>, Vec<MappedField>>,
}

/// A mapping after a change: renamed columns keep their old names and gain the new one; new columns are mapped; a name that
/// another column of the struct takes leaves the one that had it.
fn update_mapping(mapping: &NameMapping, before: &Tree, after: &Tree) -> NameMapping {
    let mut old = HashMap::new();
    before.walk(|node| {
        old.insert(node.id, node.name.as_str());
    });
    let mut changes = Mapping { renamed: HashMap::new(), added: HashMap::new() };
    let parents = after.parents();
    after.walk(|node| match old.get(&node.id) {
        Some(name) if *name == node.name => {}
        Some(_) => {
            changes.renamed.insert(node.id, node.name.clone());
        }
        None => {
            let parent = parents.get(&node.id).copied();
            // Fields of a new column come with it.
            if parent.is_none_or(|parent| old.contains_key(&parent)) {
                changes.added.entry(parent).or_default().push(mapped(node));
            }
        }
    });
    let roots: Vec<&MappedField> = mapping.fields().iter().collect();
    NameMapping::new(changes.fields(&roots, None))
}

impl Mapping {
    fn fields(&self, fields: &[&MappedField], parent: Option<i32>) -> Vec<MappedField> {
        let added = self.added.get(&parent).map_or(&[][..], Vec::as_slice);
        let mut taken: HashMap<&str, i32> = HashMap::new();
        for field in fields {
            if let Some((id, name)) = field.field_id().and_then(|id| self.renamed.get_key_value(&id)) {
                taken.insert(name, *id);
            }
        }
        for field in added {
            taken.extend(field.names().iter().filter_map(|name| Some((name.as_str(), field.field_id()?))));
        }
        let mut out: Vec<MappedField> = Vec::with_capacity(fields.len() + added.len());
        for field in fields {
            let mut seen = HashSet::new();
            let own = field.field_id().and_then(|id| self.renamed.get(&id));
            let names = field.names().iter().chain(own);
            let names = names.filter(|name| {
                let other = taken.get(name.as_str()).is_some_and(|id| Some(*id) != field.field_id());
                !other && seen.insert(name.as_str())
            });
            let names: Vec<String> = names.cloned().collect();
            let nested: Vec<&MappedField> = field.fields().iter().map(AsRef::as_ref).collect();
            let nested = match field.field_id() {
                Some(id) => self.fields(&nested, Some(id)),
                None => nested.into_iter().cloned().collect(),
            };
            out.push(MappedField::new(field.field_id(), names, nested));
        }
        out.extend(added.iter().cloned());
        out
    }
}

fn mapped(node: &Node) -> MappedField {
    MappedField::new(Some(node.id), vec![node.name.clone()], node.children().iter().map(mapped).collect())
}
