//! A schema while edits are applied to it: each edit's own rules, then those of the whole when all are done.

use std::collections::{BTreeSet, HashSet};

use iceberg::spec::{FormatVersion, Literal, PrimitiveType, Schema, TableMetadata, Type};
use iceberg::{TableRequirement, TableUpdate};

use super::{ColumnPosition, Edit, NewColumn, SchemaUpdate};
use crate::error::{Error, Result};
use crate::evolve::change::MetadataChange;
use crate::evolve::tree::{Kind, Node, Target, Tree};
use crate::evolve::{mapping, promote};
use crate::format::members::{self, KeptAs};
use crate::format::{foreign_kind, primitive_text};

/// The first format version that has defaults, nanoseconds and row lineage.
const V3: FormatVersion = FormatVersion::V3;

impl SchemaUpdate {
    /// The schema that the edits make of the current one, with its new id, or the current one when they change nothing.
    ///
    /// # Errors
    /// Those of [`apply`](Self::apply).
    pub fn preview(&self, metadata: &TableMetadata) -> Result<Schema> {
        self.draft(metadata)?.schema()
    }

    /// Works the edits out against `metadata`.
    ///
    /// The name mapping (`schema.name-mapping.default`) learns new names and columns; properties of single columns
    /// (`write.metadata.metrics.column.*`, Parquet's bloom filters and statistics) follow renames and go with dropped columns.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) that names the column, when a column is missing, a name taken, a type
    /// change no promotion, a dropped column in use, or a rule of the format broken.
    pub fn apply(&self, metadata: &TableMetadata) -> Result<MetadataChange> {
        self.draft(metadata)?.finish()
    }

    fn draft<'a>(&self, metadata: &'a TableMetadata) -> Result<Draft<'a>> {
        let mut draft = Draft::new(metadata, self.case_sensitive, self.allow_incompatible);
        for edit in &self.edits {
            draft.edit(edit)?;
        }
        Ok(draft)
    }
}

pub(in crate::evolve) struct Draft<'a> {
    pub(in crate::evolve) metadata: &'a TableMetadata,
    pub(in crate::evolve) tree: Tree,
    pub(super) before: Tree,
    pub(super) identifiers: BTreeSet<i32>,
    /// Ids of the columns that these edits added.
    added: HashSet<i32>,
    promoted: bool,
    allow_incompatible: bool,
}

impl<'a> Draft<'a> {
    pub(super) fn new(metadata: &'a TableMetadata, case_sensitive: bool, allow_incompatible: bool) -> Self {
        let schema = metadata.current_schema();
        let tree = Tree::new(schema.as_struct().fields(), metadata.last_column_id(), case_sensitive);
        Self {
            metadata,
            before: tree.clone(),
            tree,
            identifiers: schema.identifier_field_ids().collect(),
            added: HashSet::new(),
            promoted: false,
            allow_incompatible,
        }
    }

    pub(super) fn edit(&mut self, edit: &Edit) -> Result<()> {
        match edit {
            Edit::Add(column) => self.add(column),
            Edit::Drop(column) => self.drop_column(column),
            Edit::Rename { column, to } => self.rename(column, to),
            Edit::Move { column, to } => self.move_column(column, to),
            Edit::Promote { column, to } => self.promote(column, to),
            Edit::Optional(column) => self.set_required(column, false),
            Edit::Require(column) => self.set_required(column, true),
            Edit::Doc { column, doc } => {
                let target = self.changeable(column)?;
                refuse_fixed(&target, column, "documentation")?;
                self.tree.get_mut(target.id)?.doc = doc.clone();
                Ok(())
            }
            Edit::WriteDefault { column, value } => self.set_write_default(column, value.as_ref()),
            Edit::Identifier(columns) => {
                let targets = columns.iter().map(|column| Ok(self.find(column)?.id));
                self.identifiers = targets.collect::<Result<_>>()?;
                Ok(())
            }
            Edit::Union { schema, relax } => self.union(schema, *relax),
        }
    }

    /// A column by name.
    fn find(&self, column: &str) -> Result<Target> {
        self.tree.find(column)?.ok_or_else(|| {
            let mut names: Vec<String> = self.tree.names().into_values().collect();
            names.sort_by_key(|name| (!name.eq_ignore_ascii_case(column), name.clone()));
            let more = if names.len() > 20 { ", ..." } else { "" };
            names.truncate(20);
            Error::invalid_input(format!("the table has no such column; it has {}{more}", names.join(", ")))
                .with("column", column)
        })
    }

    /// A column that may change: not a map's key, whose values are told apart by it.
    fn changeable(&self, column: &str) -> Result<Target> {
        let target = self.find(column)?;
        if target.in_key {
            return Err(Error::invalid_input(
                "a map's key can't change; add a map column with the new key and drop this one",
            )
            .with("column", column));
        }
        Ok(target)
    }

    fn add(&mut self, column: &NewColumn) -> Result<()> {
        let parent = column.parent.as_deref().map(|parent| self.struct_of(parent)).transpose()?;
        let full = match parent {
            Some(id) => format!("{}.{}", self.tree.name_of(id), column.name),
            None => column.name.clone(),
        };
        self.check_name(parent, &column.name, None, &full)?;
        if column.required && column.default.is_none() && !self.allow_incompatible {
            return Err(Error::invalid_input(
                "a required column needs a default for the rows that are there; give a default (format version 3), make it \
                 optional, or call allow_incompatible() when the table has no rows",
            )
            .with("column", &full));
        }
        let mut node = Node {
            id: 0,
            name: column.name.clone(),
            required: column.required,
            doc: column.doc.clone(),
            initial_default: column.default.clone(),
            write_default: column.default.clone(),
            hidden: Default::default(),
            kind: Kind::of(&column.column_type),
        };
        self.insert(parent, &mut node, &full, column.position.as_ref())
    }

    /// Adds a node with new ids, after checking its types and defaults.
    pub(in crate::evolve) fn insert(
        &mut self,
        parent: Option<i32>,
        node: &mut Node,
        full: &str,
        position: Option<&ColumnPosition>,
    ) -> Result<()> {
        self.check_new(node, full)?;
        node.id = self.tree.next_id()?;
        self.tree.assign_ids(&mut node.kind)?;
        node.walk(&mut |at| {
            self.added.insert(at.id);
        });
        let index = {
            let siblings = self.tree.struct_mut(parent)?;
            match position {
                None => siblings.len(),
                Some(ColumnPosition::First) => 0,
                Some(ColumnPosition::Before(name)) => sibling(siblings, name, full)?,
                Some(ColumnPosition::After(name)) => sibling(siblings, name, full)? + 1,
            }
        };
        self.tree.struct_mut(parent)?.insert(index, node.clone());
        Ok(())
    }

    /// The struct that a parent's name means: itself, a list's element or a map's value.
    fn struct_of(&self, parent: &str) -> Result<i32> {
        let target = self.changeable(parent)?;
        let node =
            self.tree.get(target.id).ok_or_else(|| Error::internal("a field that was found is gone"))?;
        let inner = match &node.kind {
            Kind::List(element) => &element[0],
            Kind::Map(entry) => &entry[1],
            _ => node,
        };
        match &inner.kind {
            Kind::Struct(_) => Ok(inner.id),
            other => Err(Error::invalid_input(
                "columns can be added only to structs, and to lists and maps of structs; a column whose own name has a dot \
                 is added with NewColumn",
            )
            .with("column", parent)
            .with("type", other.describe())),
        }
    }

    /// Refuses a name that is empty or that a field beside it has; `own` is the field that is renamed.
    pub(in crate::evolve) fn check_name(
        &mut self,
        parent: Option<i32>,
        name: &str,
        own: Option<i32>,
        full: &str,
    ) -> Result<()> {
        if name.is_empty() {
            return Err(Error::invalid_input("a column's name can't be empty").with("column", full));
        }
        let tree = self.tree.clone();
        if let Some(other) =
            self.tree.struct_mut(parent)?.iter().find(|n| Some(n.id) != own && tree.same_name(&n.name, name))
        {
            return Err(Error::invalid_input(
                "the name is taken by another column; choose another name, or drop or rename that column first",
            )
            .with("column", full)
            .with("taken_by", &other.name));
        }
        Ok(())
    }

    /// Checks types, names and defaults of a column to be added, whose ids are not given yet.
    fn check_new(&self, node: &Node, full: &str) -> Result<()> {
        if let Kind::Primitive(primitive) = &node.kind {
            self.check_type(primitive, full)?;
        }
        for (value, which) in [(&node.initial_default, "initial"), (&node.write_default, "write")] {
            if let Some(value) = value {
                self.check_default(value, &node.kind, full, which)?;
            }
        }
        if matches!(&node.kind, Kind::Struct(fields) if fields.is_empty()) {
            return Err(Error::invalid_input("a struct needs at least one field").with("column", full));
        }
        let children = node.children();
        for (i, child) in children.iter().enumerate() {
            let name = format!("{full}.{}", child.name);
            if child.name.is_empty() {
                return Err(Error::invalid_input("a column's name can't be empty").with("column", name));
            }
            if children.iter().take(i).any(|other| self.tree.same_name(&other.name, &child.name)) {
                return Err(Error::invalid_input("two fields of a struct have the same name; rename one")
                    .with("column", name));
            }
            self.check_new(child, &name)?;
        }
        Ok(())
    }

    fn check_type(&self, primitive: &PrimitiveType, full: &str) -> Result<()> {
        if foreign_kind(primitive).is_some() {
            return Err(Error::unsupported(
                "columns of this type are read, not added; add the column with another engine",
            )
            .with("column", full)
            .with("type", primitive_text(primitive)));
        }
        match primitive {
            PrimitiveType::TimestampNs | PrimitiveType::TimestamptzNs
                if self.metadata.format_version() < V3 =>
            {
                Err(Error::invalid_input(
                    "nanoseconds need format version 3; upgrade the table or use microseconds (timestamp, timestamptz)",
                )
                .with("column", full)
                .with("type", primitive))
            }
            PrimitiveType::Decimal { precision, scale }
                if *precision == 0 || *precision > 38 || scale > precision =>
            {
                Err(Error::invalid_input("a decimal has 1 to 38 digits, of which at most all are its scale")
                    .with("column", full)
                    .with("type", primitive))
            }
            _ => Ok(()),
        }
    }

    /// Refuses a default that can't be had in this version, does not fit its column, or would not survive the metadata file.
    fn check_default(&self, value: &Literal, kind: &Kind, full: &str, which: &str) -> Result<()> {
        if self.metadata.format_version() < V3 {
            return Err(Error::invalid_input(
                "defaults need format version 3; upgrade the table's format version first",
            )
            .with("column", full));
        }
        let primitive = match kind {
            Kind::Primitive(primitive) if foreign_kind(primitive).is_none() => Some(primitive),
            _ => None,
        };
        let Some(primitive) = primitive else {
            return Err(Error::unsupported(
                "the default of a column of this type is null; where it is nested, give its fields defaults instead",
            )
            .with("column", full)
            .with("type", kind.describe()));
        };
        let column_type = Type::Primitive(primitive.clone());
        // Metadata files keep defaults as JSON, which has no NaN.
        match members::kept_as(value, &column_type) {
            KeptAs::Itself => Ok(()),
            KeptAs::Nothing => {
                Err(Error::invalid_input(format!("the {which} default does not fit the column's type"))
                    .with("column", full)
                    .with("type", primitive))
            }
            KeptAs::Other => Err(Error::unsupported(format!(
                "this {which} default can't be kept in table metadata; add the column without it and update the rows"
            ))
            .with("column", full)
            .with("type", primitive)),
        }
    }

    fn drop_column(&mut self, column: &str) -> Result<()> {
        let target = self.changeable(column)?;
        refuse_fixed(&target, column, "a part that can be dropped")?;
        self.tree.struct_mut(target.parent)?.retain(|node| node.id != target.id);
        Ok(())
    }

    fn rename(&mut self, column: &str, to: &str) -> Result<()> {
        let target = self.changeable(column)?;
        refuse_fixed(&target, column, "a name of its own")?;
        if target.parent.is_some() && to.contains('.') {
            return Err(Error::invalid_input(
                "a nested column's new name is its own name alone, without its parents'",
            )
            .with("column", column)
            .with("to", to));
        }
        self.check_name(target.parent, to, Some(target.id), to)?;
        self.tree.get_mut(target.id)?.name = to.to_string();
        Ok(())
    }

    fn move_column(&mut self, column: &str, to: &ColumnPosition) -> Result<()> {
        let target = self.changeable(column)?;
        refuse_fixed(&target, column, "a position that can change")?;
        let other = match to {
            ColumnPosition::First => None,
            ColumnPosition::Before(other) | ColumnPosition::After(other) => {
                let found = self.find(other)?;
                if found.id == target.id {
                    return Err(
                        Error::invalid_input("a column can't be moved beside itself").with("column", column)
                    );
                }
                if found.parent != target.parent {
                    return Err(Error::invalid_input("a column can be moved only within its own struct")
                        .with("column", column)
                        .with("beside", other));
                }
                Some(found.id)
            }
        };
        let siblings = self.tree.struct_mut(target.parent)?;
        let position = |siblings: &[Node], id: i32| siblings.iter().position(|node| node.id == id);
        let Some(from) = position(siblings, target.id) else {
            return Err(Error::internal("a field that was found is gone").with("column", column));
        };
        let node = siblings.remove(from);
        let at = match (to, other.and_then(|id| position(siblings, id))) {
            (ColumnPosition::Before(_), Some(at)) => at,
            (ColumnPosition::After(_), Some(at)) => at + 1,
            _ => 0,
        };
        siblings.insert(at, node);
        Ok(())
    }

    fn promote(&mut self, column: &str, to: &Type) -> Result<()> {
        let target = self.find(column)?;
        let to_kind = Kind::of(to);
        let node = self.tree.get_mut(target.id)?;
        if node.kind == to_kind {
            return Ok(());
        }
        match (&node.kind, to) {
            (Kind::Primitive(_), Type::Primitive(to)) => {
                let to = to.clone();
                self.promote_node(&target, column, &to)
            }
            (from, _) => Err(promote::refusal(
                column,
                &from.describe(),
                &to_kind.describe(),
                self.metadata.format_version(),
            )),
        }
    }

    /// Promotes a primitive column, or says why not.
    pub(in crate::evolve) fn promote_node(
        &mut self,
        target: &Target,
        column: &str,
        to: &PrimitiveType,
    ) -> Result<()> {
        let version = self.metadata.format_version();
        let Kind::Primitive(from) = self.tree.get_mut(target.id)?.kind.clone() else {
            return Err(Error::internal("only primitive types are promoted").with("column", column));
        };
        if !promote::is_promotion(&from, to, version) {
            return Err(promote::refusal(column, &primitive_text(&from), &primitive_text(to), version));
        }
        if target.in_key {
            return Err(Error::invalid_input("a map's key can't change; cast the keys to the table's type")
                .with("column", column)
                .with("from", &from)
                .with("to", to));
        }
        if from == PrimitiveType::Date && !self.allow_incompatible {
            return Err(Error::invalid_input(
                "the specification lets a date become a timestamp, but other engines fail on files that have it as a date; \
                 call allow_incompatible() when none of them reads the table, or add a column of the new type",
            )
            .with("column", column)
            .with("from", &from)
            .with("to", to));
        }
        promote::check_uses(self.metadata, target.id, column, &from, to)?;
        let node = self.tree.get_mut(target.id)?;
        for default in [&mut node.initial_default, &mut node.write_default].into_iter().flatten() {
            *default = promote::promote_literal(default, to).ok_or_else(|| {
                Error::invalid_input("the column's default has no value in the new type")
                    .with("column", column)
                    .with("to", to)
            })?;
        }
        node.kind = Kind::Primitive(to.clone());
        self.promoted = true;
        let node = node.clone();
        for (value, which) in [(&node.initial_default, "initial"), (&node.write_default, "write")] {
            if let Some(value) = value {
                self.check_default(value, &node.kind, column, which)?;
            }
        }
        Ok(())
    }

    pub(in crate::evolve) fn set_required(&mut self, column: &str, required: bool) -> Result<()> {
        let target = self.changeable(column)?;
        let added = self.added.contains(&target.id);
        let allowed = self.allow_incompatible;
        let node = self.tree.get_mut(target.id)?;
        let defaulted = added && node.initial_default.is_some();
        if required && !node.required && !allowed && !defaulted {
            return Err(Error::invalid_input(
                "rows that are there may have nulls in the column; call allow_incompatible() when you know that none has",
            )
            .with("column", column));
        }
        node.required = required;
        Ok(())
    }

    fn set_write_default(&mut self, column: &str, value: Option<&Literal>) -> Result<()> {
        let target = self.changeable(column)?;
        refuse_fixed(&target, column, "defaults")?;
        let node = self.tree.get_mut(target.id)?.clone();
        match value {
            Some(value) => self.check_default(value, &node.kind, column, "write")?,
            None if node.required && node.initial_default.is_some() => {
                return Err(Error::invalid_input(
                    "a required column with a default needs a write default too; make it optional first",
                )
                .with("column", column));
            }
            None => {}
        }
        self.tree.get_mut(target.id)?.write_default = value.cloned();
        Ok(())
    }

    /// The schema, after the rules that hold for it as a whole.
    pub(super) fn schema(&self) -> Result<Schema> {
        self.check()?;
        let fields: Vec<_> = self.tree.fields.iter().map(Node::to_field).collect();
        let build = |id: i32| {
            let builder = Schema::builder().with_schema_id(id).with_fields(fields.clone());
            builder.with_identifier_field_ids(self.identifiers.iter().copied()).build().map_err(|e| {
                Error::invalid_input(format!("the edits make no valid schema: {}", e.message()))
                    .with_source(e)
            })
        };
        let highest = self.metadata.schemas_iter().map(|schema| schema.schema_id()).max();
        let schema = build(highest.map_or(0, |id| id + 1))?;
        // An equal schema is used again. iceberg's own search for one compares identifier fields in no fixed order.
        let current = self.metadata.current_schema();
        let mut known: Vec<_> = self.metadata.schemas_iter().collect();
        known.sort_by_key(|known| (known.schema_id() != current.schema_id(), known.schema_id()));
        for known in known {
            let identifiers: BTreeSet<i32> = known.identifier_field_ids().collect();
            if known.as_struct() == schema.as_struct() && identifiers == self.identifiers {
                return build(known.schema_id());
            }
        }
        Ok(schema)
    }

    pub(super) fn finish(self) -> Result<MetadataChange> {
        let schema = self.schema()?;
        let metadata = self.metadata;
        let (mut updates, mut requirements) = (Vec::new(), Vec::new());
        let current = metadata.current_schema_id();
        if schema.schema_id() != current {
            let known = metadata.schema_by_id(schema.schema_id()).is_some();
            let schema_id = if known { schema.schema_id() } else { -1 };
            requirements.push(TableRequirement::CurrentSchemaIdMatch { current_schema_id: current });
            if !known {
                requirements.push(TableRequirement::LastAssignedFieldIdMatch {
                    last_assigned_field_id: metadata.last_column_id(),
                });
                updates.push(TableUpdate::AddSchema { schema });
            }
            updates.push(TableUpdate::SetCurrentSchema { schema_id });
            if self.promoted || self.dropped().next().is_some() {
                // Whether a column may go or widen depends on who uses it.
                requirements.push(TableRequirement::DefaultSpecIdMatch {
                    default_spec_id: metadata.default_partition_spec_id(),
                });
                requirements.push(TableRequirement::DefaultSortOrderIdMatch {
                    default_sort_order_id: metadata.default_sort_order().order_id,
                });
            }
        }
        updates.extend(mapping::property_updates(metadata.properties(), &self.before, &self.tree));
        MetadataChange::checked(metadata, updates, requirements)
    }

    /// Ids that were there and are gone.
    pub(super) fn dropped(&self) -> impl Iterator<Item = i32> {
        let mut now = HashSet::new();
        self.tree.walk(|node| {
            now.insert(node.id);
        });
        let mut dropped = Vec::new();
        self.before.walk(|node| {
            if !now.contains(&node.id) {
                dropped.push(node.id);
            }
        });
        dropped.into_iter()
    }
}

fn sibling(siblings: &[Node], name: &str, column: &str) -> Result<usize> {
    siblings.iter().position(|node| node.name == name).ok_or_else(|| {
        Error::invalid_input("the struct has no such column to put the new one beside")
            .with("column", column)
            .with("beside", name)
    })
}

fn refuse_fixed(target: &Target, column: &str, what: &str) -> Result<()> {
    if target.fixed {
        return Err(Error::invalid_input(format!(
            "a list's element and a map's key and value have no {what}"
        ))
        .with("column", column));
    }
    Ok(())
}
