//! What the metadata say, as text.

use std::collections::BTreeMap;
use std::error::Error;

use iceberg::spec::{DataContentType, NestedFieldRef, Type};
use icefield::prelude::*;
use icefield::text::Plain;
use icefield_core::filter::Filter;
use icefield_core::format::{LiveFile, WantedStatistics};
use icefield_engine::scan::plan_files;

pub(crate) fn metadata(table: &Table) {
    let metadata = table.core().metadata();
    println!("table {}, format version {}", Plain(&table.ident().to_string()), metadata.format_version());
    println!("uuid {}", metadata.uuid());
    println!("location {}", Plain(metadata.location()));

    let current = metadata.current_schema_id();
    for schema in sorted(metadata.schemas_iter(), |schema| schema.schema_id()) {
        let mark = if schema.schema_id() == current { ", current" } else { "" };
        println!("\nschema {}{mark}", schema.schema_id());
        fields(schema.as_struct().fields(), 1);
        let identifier: Vec<_> =
            schema.identifier_field_ids().filter_map(|id| schema.name_by_field_id(id)).collect();
        if !identifier.is_empty() {
            println!("  identified by {}", Plain(&identifier.join(", ")));
        }
    }
    for spec in sorted(metadata.partition_specs_iter(), |spec| spec.spec_id()) {
        let mark = if spec.spec_id() == metadata.default_partition_spec_id() { ", default" } else { "" };
        println!("\npartition spec {}{mark}", spec.spec_id());
        for field in spec.fields() {
            let source =
                metadata.schemas_iter().find_map(|s| s.name_by_field_id(field.source_id)).unwrap_or("?");
            println!(
                "  {}: {} of {} ({})",
                Plain(&field.name),
                field.transform,
                Plain(source),
                field.source_id
            );
        }
    }
    for order in sorted(metadata.sort_orders_iter(), |order| order.order_id) {
        let mark = if order.order_id == metadata.default_sort_order_id() { ", default" } else { "" };
        println!("\nsort order {}{mark}", order.order_id);
        order.fields.iter().for_each(|field| println!("  {field}"));
    }
    println!("\nproperties");
    for (name, value) in metadata.properties().iter().collect::<BTreeMap<_, _>>() {
        println!("  {} = {}", Plain(name), Plain(value));
    }
    println!("\nsnapshots");
    for snapshot in sorted(metadata.snapshots(), |s| (s.sequence_number(), s.timestamp_ms())) {
        let parent = snapshot.parent_snapshot_id().map_or("none".to_string(), |id| id.to_string());
        println!("  {} parent {parent} at {}", snapshot.snapshot_id(), time(snapshot.timestamp_ms()));
        println!("    operation = {}", snapshot.summary().operation.as_str());
        for (name, value) in snapshot.summary().additional_properties.iter().collect::<BTreeMap<_, _>>() {
            println!("    {} = {}", Plain(name), Plain(value));
        }
    }
    println!("\nrefs");
    for (name, reference) in table.core().references() {
        let kind = if reference.is_branch() { "branch" } else { "tag" };
        println!("  {}: {kind} {}", Plain(name), reference.snapshot_id);
    }
}

/// Files and bytes by partition, at the snapshot that is read.
pub(crate) async fn files(table: &Table) -> Result<(), Box<dyn Error>> {
    let core = table.core();
    let Some(snapshot) = core.snapshot_as_of(table.snapshot())? else {
        println!("\nno snapshot, no files");
        return Ok(());
    };
    println!("\nfiles of snapshot {}", snapshot.snapshot_id());
    let (all, caches) = (WantedStatistics::All, table.session().scan_caches());
    let planned = plan_files(core, &snapshot, &Filter::True, &all, caches).await?;
    let mut partitions = BTreeMap::<String, BTreeMap<&str, (usize, u64)>>::new();
    for live in planned.data.iter().chain(&planned.deletes) {
        let kind = match live.file.content_type() {
            DataContentType::Data => "data",
            DataContentType::PositionDeletes => "position deletes",
            DataContentType::EqualityDeletes => "equality deletes",
        };
        let partition = partitions.entry(partition(table, live)).or_default();
        let (files, bytes) = partition.entry(kind).or_default();
        *files += 1;
        *bytes += live.file.content_size_in_bytes().map_or(live.file.file_size_in_bytes(), |n| n as u64);
    }
    for (partition, kinds) in &partitions {
        let kinds = kinds.iter().map(|(kind, (files, bytes))| format!("{files} {kind} files, {bytes} bytes"));
        println!("  {}: {}", Plain(partition), kinds.collect::<Vec<_>>().join("; "));
    }
    Ok(())
}

fn partition(table: &Table, live: &LiveFile) -> String {
    let metadata = table.core().metadata();
    let spec = metadata.partition_spec_by_id(live.spec_id).filter(|spec| !spec.is_unpartitioned());
    let Some(spec) = spec else { return "unpartitioned".to_string() };
    let schema = metadata.schemas_iter().find(|schema| spec.partition_type(schema).is_ok());
    let path = schema.map(|schema| spec.partition_to_path(live.file.partition(), schema.clone()));
    format!("spec {} {}", live.spec_id, path.unwrap_or_default())
}

fn fields(of: &[NestedFieldRef], depth: usize) {
    for field in of {
        let kind = match field.field_type.as_ref() {
            Type::Primitive(primitive) => primitive.to_string(),
            Type::Struct(_) => "struct".to_string(),
            Type::List(_) => "list".to_string(),
            Type::Map(_) => "map".to_string(),
        };
        let required = if field.required { "required " } else { "" };
        let name = Plain(&field.name);
        println!("{:indent$}{}: {name}: {required}{kind}", "", field.id, indent = depth * 2);
        match field.field_type.as_ref() {
            Type::Primitive(_) => {}
            Type::Struct(inner) => fields(inner.fields(), depth + 1),
            Type::List(list) => fields(std::slice::from_ref(&list.element_field), depth + 1),
            Type::Map(map) => fields(&[map.key_field.clone(), map.value_field.clone()], depth + 1),
        }
    }
}

fn sorted<T, K: Ord>(of: impl Iterator<Item = T>, key: impl Fn(&T) -> K) -> Vec<T> {
    let mut all: Vec<T> = of.collect();
    all.sort_by_key(key);
    all
}

fn time(ms: i64) -> String {
    let array = arrow::array::TimestampMillisecondArray::from(vec![ms]).with_timezone_utc();
    arrow::util::display::array_value_to_string(&array, 0).unwrap_or_else(|_| format!("{ms} ms"))
}
