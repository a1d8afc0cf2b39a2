//! Evolution, rule by rule. Every change is applied through `iceberg`'s metadata builder, and what comes of it is written to
//! JSON and read back.

use std::collections::HashMap;

use iceberg::spec::{
    FormatVersion, NestedField, Schema, SortOrder, TableMetadata, TableMetadataBuilder, Type,
};
use iceberg::{TableRequirement, TableUpdate};

use super::types::*;
use super::*;
use crate::error::ErrorKind;

mod mapping;
mod partition;
mod properties;
mod random;
mod schema;
mod sort;
mod union;

/// Columns that cover each rule: `id`, `name`, `price`, `amount`, `ts`, `day`, `point{lat,lon}`, `tags[]`, `stops[{at,note}]`,
/// `attributes{string: {value, unit}}`.
fn columns() -> Vec<iceberg::spec::NestedFieldRef> {
    let point = structure([required("lat", double()), optional("lon", double())]);
    let stop = structure([optional("at", timestamptz()), optional("note", string())]);
    let attribute = structure([optional("value", string()), optional("unit", int())]);
    let columns = [
        ("id", long(), true),
        ("name", string(), false),
        ("price", float(), false),
        ("amount", decimal(9, 2), false),
        ("ts", timestamptz(), false),
        ("day", date(), false),
        ("point", point, true),
        ("tags", list(string()), false),
        ("stops", list(stop), false),
        ("attributes", map(structure([required("code", int())]), attribute), false),
        ("quantity", int(), false),
    ];
    with_ids(columns.into_iter().map(|(name, ty, required)| NestedField::new(0, name, ty, required)))
}

fn with_ids(fields: impl IntoIterator<Item = NestedField>) -> Vec<iceberg::spec::NestedFieldRef> {
    let mut tree = tree::Tree::new(&[], 0, true);
    let mut kind = tree::Kind::Struct(fields.into_iter().map(|f| tree::Node::of(&f)).collect());
    tree.assign_ids(&mut kind).unwrap();
    match kind.to_type() {
        Type::Struct(fields) => fields.fields().to_vec(),
        _ => unreachable!(),
    }
}

fn schema() -> Schema {
    Schema::builder().with_fields(columns()).build().unwrap()
}

struct Fixture {
    version: FormatVersion,
    partition: Vec<PartitionTerm>,
    sort: Vec<SortTerm>,
    properties: HashMap<String, String>,
    identifiers: Vec<&'static str>,
}

impl Default for Fixture {
    fn default() -> Self {
        Self {
            version: FormatVersion::V2,
            partition: Vec::new(),
            sort: Vec::new(),
            properties: HashMap::new(),
            identifiers: Vec::new(),
        }
    }
}

impl Fixture {
    fn build(self) -> TableMetadata {
        let schema = schema();
        let ids: Vec<i32> = self.identifiers.iter().map(|n| schema.field_id_by_name(n).unwrap()).collect();
        let schema = schema.into_builder().with_identifier_field_ids(ids).build().unwrap();
        let spec = partition_spec(&schema, self.partition).unwrap();
        let order = sort_order(&schema, self.sort).unwrap();
        let location = "memory://w/t".to_string();
        TableMetadataBuilder::new(schema, spec, order, location, self.version, self.properties)
            .unwrap()
            .build()
            .unwrap()
            .metadata
    }
}

fn table() -> TableMetadata {
    Fixture::default().build()
}

fn v3() -> TableMetadata {
    Fixture { version: FormatVersion::V3, ..Fixture::default() }.build()
}

/// The metadata that a change makes, after its requirements were checked and the result went through JSON.
fn applied(metadata: &TableMetadata, change: &MetadataChange) -> TableMetadata {
    for requirement in &change.requirements {
        requirement.check(Some(metadata)).unwrap();
    }
    if !change.is_empty() {
        let uuid = TableRequirement::UuidMatch { uuid: metadata.uuid() };
        assert!(change.requirements.contains(&uuid));
    }
    let next = apply_updates(metadata, &change.updates).unwrap();
    let json = serde_json::to_string(&next).unwrap();
    let back: TableMetadata = serde_json::from_str(&json).unwrap();
    assert_eq!(back, next, "metadata that does not survive its file");
    back
}

fn evolve(metadata: &TableMetadata, edit: impl Into<MetadataEdit>) -> TableMetadata {
    let edit = edit.into();
    let change = edit.apply(metadata).unwrap_or_else(|e| panic!("{edit:?}: {e:?}"));
    applied(metadata, &change)
}

/// The error of an edit that must fail, of kind invalid input, naming each of `parts`.
#[track_caller]
fn refused(metadata: &TableMetadata, edit: impl Into<MetadataEdit>, parts: &[&str]) -> String {
    let edit = edit.into();
    let error = match edit.apply(metadata) {
        Err(error) => error,
        Ok(change) => panic!("{edit:?} was allowed: {change:?}"),
    };
    assert!(matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported), "{error:?}");
    let text = error.to_string();
    for part in parts {
        assert!(text.contains(part), "no {part:?} in: {text}");
    }
    text
}

fn id(metadata: &TableMetadata, name: &str) -> i32 {
    metadata.current_schema().field_id_by_name(name).unwrap_or_else(|| panic!("no column {name}"))
}

fn field(metadata: &TableMetadata, name: &str) -> NestedField {
    metadata
        .current_schema()
        .field_by_name(name)
        .unwrap_or_else(|| panic!("no column {name}"))
        .as_ref()
        .clone()
}

fn has(metadata: &TableMetadata, name: &str) -> bool {
    metadata.current_schema().field_by_name(name).is_some()
}

/// Names of the fields of a struct, in order; of the table for the empty name.
fn order(metadata: &TableMetadata, of: &str) -> Vec<String> {
    let fields = if of.is_empty() {
        metadata.current_schema().as_struct().fields().to_vec()
    } else {
        match field(metadata, of).field_type.as_ref() {
            Type::Struct(fields) => fields.fields().to_vec(),
            other => panic!("{of} is {other}"),
        }
    };
    fields.iter().map(|field| field.name.clone()).collect()
}

fn spec(metadata: &TableMetadata) -> Vec<String> {
    let schema = metadata.current_schema();
    let spec = metadata.default_partition_spec();
    let name = |id| schema.name_by_field_id(id).unwrap_or("?").to_string();
    spec.fields()
        .iter()
        .map(|f| format!("{} {}={}({})", f.field_id, f.name, f.transform, name(f.source_id)))
        .collect()
}

fn unsorted() -> SortOrder {
    SortOrder::unsorted_order()
}

#[test]
fn several_edits_become_one_change_with_the_requirements_of_the_first_state() {
    let table = table();
    let edits: Vec<MetadataEdit> = vec![
        SchemaUpdate::new().add_column("city", string()).into(),
        PartitionUpdate::new().add_field("city").into(),
        SchemaUpdate::new().add_column("zip", string()).rename_column("city", "town").into(),
        PropertiesUpdate::new().set("a", "1").into(),
        SortOrderUpdate::new([asc("town")]).into(),
    ];
    let change = apply_all(&table, &edits).unwrap();
    let next = applied(&table, &change);
    assert_eq!(spec(&next), ["1000 city=identity(town)"]);
    assert_eq!(next.default_sort_order().fields.len(), 1);
    assert_eq!(next.properties()["a"], "1");
    assert!(has(&next, "zip"));
    let mut kinds: Vec<_> = change.requirements.iter().map(std::mem::discriminant).collect();
    kinds.dedup();
    assert_eq!(kinds.len(), change.requirements.len());
}

#[test]
fn no_edits_make_no_change() {
    let table = table();
    let edits: [MetadataEdit; 5] = [
        SchemaUpdate::new().into(),
        PartitionUpdate::new().into(),
        SortOrderUpdate::unsorted().into(),
        PropertiesUpdate::new().into(),
        FormatUpgrade::to(FormatVersion::V2).into(),
    ];
    for edit in &edits {
        assert_eq!(edit.apply(&table).unwrap(), MetadataChange::default(), "{edit:?}");
    }
    assert!(apply_all(&table, &edits).unwrap().is_empty());
}

#[test]
fn an_edit_applies_again_to_what_the_winner_of_a_race_left() {
    let base = table();
    let ours = SchemaUpdate::new().add_column("ours", string());
    let lost = ours.apply(&base).unwrap();
    let winner = evolve(&base, SchemaUpdate::new().add_column("theirs", string()));
    assert!(
        lost.requirements.iter().any(|r| r.check(Some(&winner)).is_err()),
        "a stale change must not pass"
    );
    let next = evolve(&winner, ours);
    assert_ne!(id(&next, "ours"), id(&next, "theirs"));
}
