//! What must hold of a schema when all edits are applied to it.

use std::collections::{HashMap, HashSet};

use iceberg::spec::{PrimitiveType, Transform};

use super::draft::Draft;
use crate::error::{Error, Result};
use crate::evolve::tree::{Kind, Node};
use crate::format::foreign_kind;

impl Draft<'_> {
    /// Checks the schema as a whole.
    pub(super) fn check(&self) -> Result<()> {
        self.check_structs()?;
        self.check_identifiers()?;
        self.check_dropped()?;
        self.check_partition_names()
    }

    fn check_structs(&self) -> Result<()> {
        let empty = |fields: &[Node]| fields.is_empty();
        if empty(&self.tree.fields) && !empty(&self.before.fields) {
            return Err(Error::invalid_input("a table keeps at least one column; drop the table instead"));
        }
        let mut emptied = None;
        self.tree.walk(|node| {
            if matches!(&node.kind, Kind::Struct(fields) if empty(fields)) {
                let was_empty = self.before.get(node.id).is_some_and(|before| before.children().is_empty());
                if !was_empty {
                    emptied.get_or_insert(node.id);
                }
            }
        });
        match emptied {
            Some(id) => {
                Err(Error::invalid_input("a struct keeps at least one field; drop the struct itself instead")
                    .with("column", self.tree.name_of(id)))
            }
            None => Ok(()),
        }
    }

    fn check_identifiers(&self) -> Result<()> {
        let parents = self.tree.parents();
        for id in &self.identifiers {
            let Some(node) = self.tree.get(*id) else {
                return Err(Error::invalid_input(
                    "an identifier field can't be dropped; call set_identifier_fields without it in the same update",
                )
                .with("column", self.before.name_of(*id)));
            };
            let refuse = |why: &str| {
                Err(Error::invalid_input(format!(
                    "an identifier field {why}; change the column or call set_identifier_fields without it"
                ))
                .with("column", self.tree.name_of(*id)))
            };
            match &node.kind {
                Kind::Primitive(PrimitiveType::Float | PrimitiveType::Double) => {
                    return refuse("can't be a float or double");
                }
                Kind::Primitive(of) if foreign_kind(of).is_some() => {
                    return refuse("can't be a variant, geometry, geography or of an unknown type");
                }
                Kind::Primitive(_) => {}
                _ => return refuse("has a primitive type"),
            }
            if !node.required {
                return refuse("is required");
            }
            let mut at = *id;
            while let Some(parent) = parents.get(&at) {
                match self.tree.get(*parent) {
                    Some(node) if !matches!(node.kind, Kind::Struct(_)) => {
                        return refuse("can't lie in a list or map");
                    }
                    Some(node) if !node.required => return refuse("can't lie in an optional struct"),
                    _ => at = *parent,
                }
            }
        }
        Ok(())
    }

    /// Refuses to drop what partition specs and the sort order are made from.
    fn check_dropped(&self) -> Result<()> {
        let default_spec = self.metadata.default_partition_spec_id();
        let mut specs: Vec<_> = self.metadata.partition_specs_iter().collect();
        specs.sort_by_key(|spec| (spec.spec_id() != default_spec, spec.spec_id()));
        for id in self.dropped() {
            let column = || self.before.name_of(id);
            for spec in &specs {
                let current = spec.spec_id() == default_spec;
                let used = spec
                    .fields()
                    .iter()
                    // A void field's values are NULL, whatever becomes of its column.
                    .find(|field| field.source_id == id && field.transform != Transform::Void);
                let Some(field) = used else { continue };
                let remedy = if current {
                    "remove the field from the partition spec first"
                } else {
                    "rewrite the files of that spec, expire the snapshots that have them and remove the spec first"
                };
                return Err(Error::invalid_input(format!(
                    "the column can't be dropped: a partition spec is made from it; {remedy}"
                ))
                .with("column", column())
                .with("partition_field", &field.name)
                .with("spec", spec.spec_id()));
            }
            let order = self.metadata.default_sort_order();
            if order.fields.iter().any(|field| field.source_id == id) {
                return Err(Error::invalid_input(
                    "the column can't be dropped: the sort order is made from it; replace the sort order first",
                )
                .with("column", column())
                .with("sort_order", order.order_id));
            }
        }
        Ok(())
    }

    /// Refuses names that a partition field has, unless the field is the column's own identity.
    fn check_partition_names(&self) -> Result<()> {
        let before = self.before.names();
        let known: HashSet<&str> = self
            .metadata
            .schemas_iter()
            .flat_map(|schema| schema.field_id_to_name_map().values().map(String::as_str))
            .collect();
        let default_spec = self.metadata.default_partition_spec_id();
        let mut named: HashMap<String, i32> = HashMap::new();
        for (id, name) in self.tree.names() {
            if before.get(&id) != Some(&name) {
                named.insert(name, id);
            }
        }
        for spec in self.metadata.partition_specs_iter() {
            for field in spec.fields() {
                let Some(id) = named.get(&field.name) else { continue };
                let own = field.transform == Transform::Identity && field.source_id == *id;
                let current = spec.spec_id() == default_spec;
                // Iceberg Java loads no table with a spec, old or new, in which a field has another column's name.
                let anothers = field.source_id != *id;
                if anothers || (current && !own) || !known.contains(field.name.as_str()) {
                    return Err(Error::invalid_input(
                        "the name is a partition field's; choose another name, or rename the partition field first",
                    )
                    .with("column", &field.name)
                    .with("partition_field", &field.name)
                    .with("spec", spec.spec_id()));
                }
            }
        }
        Ok(())
    }
}
