//! [`PartitionUpdate`]: partition fields added, removed, renamed; and partition specs for new tables.
//!
//! Rules: Iceberg specification, Partitioning and Partition Evolution; Iceberg Java's `UpdatePartitionSpec`. Data that is there
//! keeps the spec it was written with; only what is written from then on has the new one.

use std::collections::HashSet;

use iceberg::spec::{
    FormatVersion, PartitionSpec, Schema, TableMetadata, Transform, Type, UnboundPartitionField,
    UnboundPartitionSpec,
};
use iceberg::{TableRequirement, TableUpdate};

use super::change::MetadataChange;
use super::tree::Tree;
use crate::error::{Error, Result};
use crate::format::{foreign_kind, primitive_text};

/// The id of a table's first partition field.
const FIRST_FIELD_ID: i32 = 1000;

/// A column and a transform of it: what partition and sort fields are made of. A column's name alone is its identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Term {
    /// The column's full name.
    pub column: String,
    /// What is done to its values.
    pub transform: Transform,
}

impl Term {
    /// A transform of a column.
    pub fn new(column: impl Into<String>, transform: Transform) -> Self {
        Self { column: column.into(), transform }
    }

    /// As a partition field with a name of its own.
    pub fn named(self, name: impl Into<String>) -> PartitionTerm {
        PartitionTerm { term: self, name: Some(name.into()) }
    }
}

impl<S: Into<String>> From<S> for Term {
    fn from(column: S) -> Self {
        Self::new(column, Transform::Identity)
    }
}

/// A [`Term`] as a partition field, with the name it is to have; by default `ts_day`, `id_bucket_16`, `name_trunc_4`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionTerm {
    term: Term,
    name: Option<String>,
}

impl<T: Into<Term>> From<T> for PartitionTerm {
    fn from(term: T) -> Self {
        Self { term: term.into(), name: None }
    }
}

/// A column's values as they are.
pub fn identity(column: impl Into<String>) -> Term {
    Term::new(column, Transform::Identity)
}

/// A hash of the values, modulo `buckets`.
pub fn bucket(column: impl Into<String>, buckets: u32) -> Term {
    Term::new(column, Transform::Bucket(buckets))
}

/// The first `width` characters of text or bytes of binary, or numbers rounded down to a multiple of `width`.
pub fn truncate(column: impl Into<String>, width: u32) -> Term {
    Term::new(column, Transform::Truncate(width))
}

/// Nothing: the field is NULL for all rows, and stands for one that was dropped.
pub fn void(column: impl Into<String>) -> Term {
    Term::new(column, Transform::Void)
}

/// The year of dates and timestamps.
pub fn year(column: impl Into<String>) -> Term {
    Term::new(column, Transform::Year)
}

/// The month of dates and timestamps.
pub fn month(column: impl Into<String>) -> Term {
    Term::new(column, Transform::Month)
}

/// The day of dates and timestamps.
pub fn day(column: impl Into<String>) -> Term {
    Term::new(column, Transform::Day)
}

/// The hour of timestamps.
pub fn hour(column: impl Into<String>) -> Term {
    Term::new(column, Transform::Hour)
}

/// One recorded edit.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Edit {
    Add(PartitionTerm),
    Remove(String),
    RemoveTerm(Term),
    Rename { field: String, to: String },
    Clear,
}

/// Edits of a table's default partition spec, recorded to be applied to any state of the table. Each edit sees the result of
/// those before it.
///
/// ```
/// use icefield_core::evolve::{PartitionUpdate, bucket, day, month};
///
/// let finer = PartitionUpdate::new().remove(month("ts")).add_field(day("ts")).add_field(bucket("id", 16).named("shard"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct PartitionUpdate {
    edits: Vec<Edit>,
    case_sensitive: bool,
}

impl Default for PartitionUpdate {
    fn default() -> Self {
        Self { edits: Vec::new(), case_sensitive: true }
    }
}

impl PartitionUpdate {
    /// No edits; columns' names are case-sensitive.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether no edit was recorded.
    pub fn is_empty(&self) -> bool {
        self.edits.is_empty()
    }

    /// Whether names of columns match by case. Those of partition fields always do.
    pub fn case_sensitive(mut self, case_sensitive: bool) -> Self {
        self.case_sensitive = case_sensitive;
        self
    }

    /// Adds a field at the end: a column, or a transform of one. A field of the same column and transform that an earlier spec
    /// had gets its id and name back.
    pub fn add_field(self, term: impl Into<PartitionTerm>) -> Self {
        self.edit(Edit::Add(term.into()))
    }

    /// Removes a field by name. In format version 1 its place stays, with the void transform.
    pub fn remove_field(self, name: impl Into<String>) -> Self {
        self.edit(Edit::Remove(name.into()))
    }

    /// Removes a field by its column and transform.
    pub fn remove(self, term: impl Into<Term>) -> Self {
        self.edit(Edit::RemoveTerm(term.into()))
    }

    /// Renames a field.
    pub fn rename_field(self, field: impl Into<String>, to: impl Into<String>) -> Self {
        self.edit(Edit::Rename { field: field.into(), to: to.into() })
    }

    /// Removes all fields, so that those added next are all there are.
    pub fn clear(self) -> Self {
        self.edit(Edit::Clear)
    }

    fn edit(mut self, edit: Edit) -> Self {
        self.edits.push(edit);
        self
    }

    /// Works the edits out against `metadata`. A spec that the table has already is used again.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) that names the column or field, when it is missing, there already, of a
    /// type that the transform does not take, or its name is taken.
    pub fn apply(&self, metadata: &TableMetadata) -> Result<MetadataChange> {
        let mut draft = Draft::new(metadata, self.case_sensitive)?;
        for edit in &self.edits {
            draft.edit(edit)?;
        }
        draft.finish()
    }
}

/// A partition spec for a new table.
///
/// # Errors
/// As [`PartitionUpdate::apply`].
pub fn partition_spec(
    schema: &Schema,
    terms: impl IntoIterator<Item = impl Into<PartitionTerm>>,
) -> Result<UnboundPartitionSpec> {
    let mut draft = Draft {
        metadata: None,
        schema,
        columns: Tree::new(schema.as_struct().fields(), 0, true),
        version: FormatVersion::V2,
        fields: Vec::new(),
    };
    for term in terms {
        draft.add(&term.into())?;
    }
    let fields = draft.fields.iter().map(|field| field.unbound(None));
    Ok(UnboundPartitionSpec::builder().add_partition_fields(fields)?.build())
}

/// The column's id, after checking that it is there and that the transform takes it.
pub(super) fn resolve(schema: &Schema, columns: &Tree, term: &Term) -> Result<i32> {
    let refuse = |message: &str| {
        Err(Error::invalid_input(message).with("column", &term.column).with("transform", term.transform))
    };
    let Some(target) = columns.find(&term.column)? else {
        return refuse("the table has no such column");
    };
    let Some(field) = schema.field_by_id(target.id) else {
        return refuse("the table has no such column");
    };
    if matches!(term.transform, Transform::Bucket(0) | Transform::Truncate(0)) {
        return refuse("the number of buckets or the width is at least 1");
    }
    if matches!(term.transform, Transform::Unknown) {
        return refuse("the transform is unknown");
    }
    if !field.field_type.is_primitive() {
        return refuse(
            "only columns of primitive types are partitioned or sorted by; name a field of the struct",
        );
    }
    if let Type::Primitive(of) = field.field_type.as_ref()
        && foreign_kind(of).is_some()
    {
        return Err(Error::invalid_input("columns of this type are not partitioned or sorted by")
            .with("column", &term.column)
            .with("type", primitive_text(of))
            .with("transform", term.transform));
    }
    if schema.accessor_by_field_id(target.id).is_none() {
        return refuse("a column inside a list or map has no single value in a row; choose another column");
    }
    if term.transform.result_type(&field.field_type).is_err() {
        return Err(Error::invalid_input(
            "the transform does not take the column's type: bucket takes all but boolean, float and double; truncate int, \
             long, decimal, string and binary; year, month and day dates and timestamps; hour timestamps",
        )
        .with("column", &term.column)
        .with("type", &field.field_type)
        .with("transform", term.transform));
    }
    Ok(target.id)
}

/// A partition field while edits are applied.
#[derive(Debug, Clone)]
struct Field {
    /// The id it has had, absent for a new one.
    id: Option<i32>,
    source: i32,
    name: String,
    transform: Transform,
    /// Removed, but its place may have to stay.
    removed: bool,
    /// Whether the default spec had it.
    old: bool,
}

impl Field {
    fn unbound(&self, id: Option<i32>) -> UnboundPartitionField {
        UnboundPartitionField {
            source_id: self.source,
            field_id: id,
            name: self.name.clone(),
            transform: self.transform,
        }
    }

    fn live(&self) -> bool {
        !self.removed
    }
}

struct Draft<'a> {
    metadata: Option<&'a TableMetadata>,
    schema: &'a Schema,
    columns: Tree,
    version: FormatVersion,
    fields: Vec<Field>,
}

impl<'a> Draft<'a> {
    fn new(metadata: &'a TableMetadata, case_sensitive: bool) -> Result<Self> {
        let schema = metadata.current_schema().as_ref();
        let spec = metadata.default_partition_spec();
        if let Some(field) = spec.fields().iter().find(|field| field.transform == Transform::Unknown) {
            return Err(Error::unsupported(
                "the partition spec has a transform of a later Iceberg version; change it with a newer release",
            )
            .with("partition_field", &field.name));
        }
        let fields = spec.fields().iter().map(|field| Field {
            id: Some(field.field_id),
            source: field.source_id,
            name: field.name.clone(),
            transform: field.transform,
            removed: false,
            old: true,
        });
        Ok(Self {
            metadata: Some(metadata),
            schema,
            columns: Tree::new(schema.as_struct().fields(), 0, case_sensitive),
            version: metadata.format_version(),
            fields: fields.collect(),
        })
    }

    fn edit(&mut self, edit: &Edit) -> Result<()> {
        match edit {
            Edit::Add(term) => self.add(term),
            Edit::Remove(name) => {
                let found = self.fields.iter().position(|field| field.live() && field.name == *name);
                self.remove(found, name)
            }
            Edit::RemoveTerm(term) => {
                let source = resolve(self.schema, &self.columns, term)?;
                let found = self.live_like(source, term.transform);
                self.remove(found, &format!("{}({})", term.transform, term.column))
            }
            Edit::Rename { field, to } => self.rename(field, to),
            Edit::Clear => {
                self.fields.retain(|field| field.old);
                for field in &mut self.fields {
                    // Version 1 keeps void fields in their places.
                    field.removed = self.version >= FormatVersion::V2 || field.transform != Transform::Void;
                }
                Ok(())
            }
        }
    }

    fn live_like(&self, source: i32, transform: Transform) -> Option<usize> {
        self.fields.iter().position(|f| f.live() && f.source == source && f.transform == transform)
    }

    fn add(&mut self, PartitionTerm { term, name }: &PartitionTerm) -> Result<()> {
        let source = resolve(self.schema, &self.columns, term)?;
        let alike = |field: &&Field| {
            field.live()
                && field.source == source
                && field.transform.dedup_name() == term.transform.dedup_name()
        };
        if let Some(field) = self.fields.iter().find(alike) {
            return Err(Error::invalid_input(
                "the table is partitioned by this already; remove that field first if it is to be replaced",
            )
            .with("column", &term.column)
            .with("transform", term.transform)
            .with("partition_field", &field.name));
        }
        let removed = self.fields.iter().position(|field| {
            field.removed && field.old && field.source == source && field.transform == term.transform
        });
        if let Some(at) = removed {
            let to = name.clone().unwrap_or_else(|| self.fields[at].name.clone());
            self.check_name(&to, source, term.transform)?;
            self.fields[at].removed = false;
            self.fields[at].name = to;
            return Ok(());
        }
        let earlier = self.earlier(source, term.transform, name.as_deref());
        let (id, name) = match (earlier, name) {
            (Some((id, name)), _) => (Some(id), name),
            (None, Some(name)) => (None, name.clone()),
            (None, None) => (None, self.default_name(source, term)),
        };
        self.check_name(&name, source, term.transform)?;
        self.fields.push(Field { id, source, name, transform: term.transform, removed: false, old: false });
        Ok(())
    }

    /// The id and name of an equal field of any spec, for which version 2 asks: partition values are found by field id.
    fn earlier(&self, source: i32, transform: Transform, name: Option<&str>) -> Option<(i32, String)> {
        let metadata = self.metadata.filter(|_| self.version >= FormatVersion::V2)?;
        let mut specs: Vec<_> = metadata.partition_specs_iter().collect();
        specs.sort_by_key(|spec| spec.spec_id());
        let used: HashSet<i32> = self.fields.iter().filter(|f| f.live()).filter_map(|f| f.id).collect();
        specs
            .iter()
            .flat_map(|spec| spec.fields())
            .find(|field| {
                field.source_id == source
                    && field.transform == transform
                    && name.is_none_or(|name| name == field.name)
                    && !used.contains(&field.field_id)
            })
            .map(|field| (field.field_id, field.name.clone()))
    }

    fn default_name(&self, source: i32, term: &Term) -> String {
        let column = self.schema.name_by_field_id(source).unwrap_or(&term.column);
        match term.transform {
            Transform::Bucket(n) => format!("{column}_bucket_{n}"),
            Transform::Truncate(width) => format!("{column}_trunc_{width}"),
            Transform::Year => format!("{column}_year"),
            Transform::Month => format!("{column}_month"),
            Transform::Day => format!("{column}_day"),
            Transform::Hour => format!("{column}_hour"),
            Transform::Void => format!("{column}_null"),
            Transform::Identity | Transform::Unknown => column.to_string(),
        }
    }

    /// Refuses a name that another field or a column has. A void field of version 1 gives way.
    fn check_name(&mut self, name: &str, source: i32, transform: Transform) -> Result<()> {
        if name.is_empty() {
            return Err(Error::invalid_input("a partition field's name can't be empty"));
        }
        if let Some(column) = self.schema.field_by_name(name)
            && !(transform == Transform::Identity && column.id == source)
        {
            return Err(Error::invalid_input(
                "a column has this name, which only a field of that column's identity may have; give the partition field \
                 another name with named(..)",
            )
            .with("partition_field", name));
        }
        if let Some(other) = self.fields.iter_mut().find(|field| field.live() && field.name == name) {
            match (other.transform, other.id) {
                (Transform::Void, Some(id)) => other.name = format!("{name}_{id}"),
                _ => {
                    return Err(Error::invalid_input(
                        "another partition field has this name; give the new one another name with named(..)",
                    )
                    .with("partition_field", name));
                }
            }
        }
        Ok(())
    }

    fn remove(&mut self, found: Option<usize>, what: &str) -> Result<()> {
        let field = found.and_then(|at| self.fields.get_mut(at));
        match field {
            Some(field) if field.transform == Transform::Void && self.version < FormatVersion::V2 => {
                Err(Error::invalid_input("the partition field is removed already; version 1 keeps its place")
                    .with("partition_field", what))
            }
            Some(field) => {
                field.removed = true;
                self.fields.retain(|field| field.old || field.live());
                Ok(())
            }
            None => {
                let names: Vec<&str> =
                    self.fields.iter().filter(|f| f.live()).map(|f| f.name.as_str()).collect();
                Err(Error::invalid_input(format!(
                    "the partition spec has no such field; it has [{}]",
                    names.join(", ")
                ))
                .with("partition_field", what))
            }
        }
    }

    fn rename(&mut self, name: &str, to: &str) -> Result<()> {
        let Some(at) = self.fields.iter().position(|field| field.live() && field.name == name) else {
            return self.remove(None, name);
        };
        if name == to {
            return Ok(());
        }
        let Field { source, transform, .. } = self.fields[at];
        self.check_name(to, source, transform)?;
        self.fields[at].name = to.to_string();
        Ok(())
    }

    fn finish(mut self) -> Result<MetadataChange> {
        let Some(metadata) = self.metadata else { return Ok(MetadataChange::default()) };
        self.settle_removed()?;
        let mut last = metadata.last_partition_id().max(FIRST_FIELD_ID - 1);
        let mut fields = Vec::with_capacity(self.fields.len());
        for (position, field) in self.fields.iter().enumerate() {
            let id = match field.id {
                Some(id) => id,
                // Ids of version 1 are not stored everywhere: each spec counts from 1000.
                None if self.version < FormatVersion::V2 => FIRST_FIELD_ID + position as i32,
                None => {
                    last += 1;
                    last
                }
            };
            fields.push(field.unbound(Some(id)));
        }
        let same = |spec: &PartitionSpec| {
            spec.fields().len() == fields.len()
                && spec.fields().iter().zip(&fields).all(|(a, b)| {
                    a.source_id == b.source_id && a.transform == b.transform && a.name == b.name
                })
        };
        let current = metadata.default_partition_spec();
        if same(current) {
            return Ok(MetadataChange::default());
        }
        let mut requirements = vec![
            TableRequirement::DefaultSpecIdMatch { default_spec_id: current.spec_id() },
            // The columns must still be there.
            TableRequirement::CurrentSchemaIdMatch { current_schema_id: metadata.current_schema_id() },
        ];
        let known =
            metadata.partition_specs_iter().filter(|spec| same(spec)).map(|spec| spec.spec_id()).min();
        let updates = match known {
            Some(spec_id) => vec![TableUpdate::SetDefaultSpec { spec_id }],
            None => {
                let highest = metadata.partition_specs_iter().map(|spec| spec.spec_id()).max();
                // iceberg's builder refuses two void fields of one column, which version 1 keeps.
                let fields: Vec<UnboundPartitionField> = fields.into_iter().collect();
                let json = serde_json::json!({ "spec-id": highest.map_or(0, |id| id + 1), "fields": fields });
                let spec: UnboundPartitionSpec = serde_json::from_value(json).map_err(|e| {
                    Error::internal("a partition spec is not as its own JSON says").with_source(e)
                })?;
                requirements.push(TableRequirement::LastAssignedPartitionIdMatch {
                    last_assigned_partition_id: metadata.last_partition_id(),
                });
                vec![TableUpdate::AddSpec { spec }, TableUpdate::SetDefaultSpec { spec_id: -1 }]
            }
        };
        MetadataChange::checked(metadata, updates, requirements)
    }

    /// Drops removed fields, or in version 1 leaves void ones in their places.
    fn settle_removed(&mut self) -> Result<()> {
        if self.version >= FormatVersion::V2 {
            self.fields.retain(Field::live);
            return Ok(());
        }
        let live: HashSet<String> = self.fields.iter().filter(|f| f.live()).map(|f| f.name.clone()).collect();
        for field in self.fields.iter_mut().filter(|field| field.removed) {
            field.transform = Transform::Void;
            // iceberg takes no void field that has its column's name, as Java's does.
            if let (true, Some(id)) =
                (live.contains(&field.name) || self.schema.field_by_name(&field.name).is_some(), field.id)
            {
                field.name = format!("{}_{id}", field.name);
            }
        }
        Ok(())
    }
}
