//! Manifests: `manifests` and `all_manifests`.

use std::sync::Arc;

use iceberg::spec::{
    ByteBuf, Datum, FieldSummary, Literal, ManifestContentType, ManifestFile, Transform, Type,
};
use icefield_core::format::human_partition_value;
use icefield_core::{Error, Result, Table};

use super::columns::{Column, Columns};

/// A manifest, as a snapshot lists it.
pub(super) struct Listed {
    pub(super) manifest: ManifestFile,
    pub(super) snapshot_id: i64,
}

/// The columns of `manifests`, and with `all` those of `all_manifests`.
pub(super) fn manifests(table: &Table, all: bool) -> Columns<Listed> {
    let table = table.clone();
    let count = |name: &str, of: ManifestContentType, count: fn(&ManifestFile) -> Option<u32>| {
        Column::int(name, move |listed: &Listed| match listed.manifest.content == of {
            true => count(&listed.manifest).map(|n| n as i32),
            false => Some(0),
        })
    };
    use ManifestContentType::{Data, Deletes};
    let mut columns = vec![
        Column::int("content", |listed: &Listed| Some((listed.manifest.content == Deletes).into()))
            .required(),
        Column::string("path", |listed: &Listed| Some(listed.manifest.manifest_path.clone())).required(),
        Column::long("length", |listed: &Listed| Some(listed.manifest.manifest_length)).required(),
        Column::int("partition_spec_id", |listed: &Listed| Some(listed.manifest.partition_spec_id)),
        Column::long("added_snapshot_id", |listed: &Listed| Some(listed.manifest.added_snapshot_id)),
        count("added_data_files_count", Data, |m| m.added_files_count),
        count("existing_data_files_count", Data, |m| m.existing_files_count),
        count("deleted_data_files_count", Data, |m| m.deleted_files_count),
        count("added_delete_files_count", Deletes, |m| m.added_files_count),
        count("existing_delete_files_count", Deletes, |m| m.existing_files_count),
        count("deleted_delete_files_count", Deletes, |m| m.deleted_files_count),
        Column::list_of("partition_summaries", summaries(), move |listed: &Listed| {
            read_summaries(&table, &listed.manifest)
        }),
    ];
    if all {
        columns.push(
            Column::long("reference_snapshot_id", |listed: &Listed| Some(listed.snapshot_id)).required(),
        );
    }
    Columns::from(columns)
}

struct Summary {
    contains_null: bool,
    contains_nan: Option<bool>,
    lower: Option<String>,
    upper: Option<String>,
}

fn summaries() -> Columns<Arc<Summary>> {
    Columns::from(vec![
        Column::boolean("contains_null", |s: &Arc<Summary>| Some(s.contains_null)).required(),
        Column::boolean("contains_nan", |s: &Arc<Summary>| s.contains_nan),
        Column::string("lower_bound", |s: &Arc<Summary>| s.lower.clone()),
        Column::string("upper_bound", |s: &Arc<Summary>| s.upper.clone()),
    ])
}

fn read_summaries(table: &Table, manifest: &ManifestFile) -> Result<Vec<Arc<Summary>>> {
    let metadata = table.metadata();
    let Some(spec) = metadata.partition_spec_by_id(manifest.partition_spec_id) else { return Ok(Vec::new()) };
    let summaries = manifest.partitions.iter().flatten().zip(spec.fields());
    let read = summaries.map(|(summary, field)| {
        // A column that was dropped is in an earlier schema.
        let source = table
            .schema()
            .field_by_id(field.source_id)
            .or_else(|| metadata.schemas_iter().find_map(|schema| schema.field_by_id(field.source_id)));
        // The bounds of a transform that is not known here are of a type that only the manifest knows.
        let source = source.filter(|_| field.transform != Transform::Unknown);
        let of = source.and_then(|source| field.transform.result_type(&source.field_type).ok());
        let text = |bound: &Option<ByteBuf>| -> Result<Option<String>> {
            let Some(Type::Primitive(of)) = &of else { return Ok(None) };
            let value = match bound {
                Some(bytes) => Some(Datum::try_from_bytes(bytes, of.clone()).map_err(|e| {
                    Error::data_invalid("a partition bound of a manifest can't be read")
                        .with("file", &manifest.manifest_path)
                        .with_source(e)
                })?),
                None => None,
            };
            let value = value.map(|datum| Literal::Primitive(datum.literal().clone()));
            Ok(Some(human_partition_value(field.transform, of, value.as_ref())))
        };
        let FieldSummary { contains_null, contains_nan, lower_bound, upper_bound } = summary;
        Ok(Arc::new(Summary {
            contains_null: *contains_null,
            contains_nan: *contains_nan,
            lower: text(lower_bound)?,
            upper: text(upper_bound)?,
        }))
    });
    read.collect()
}
