//! Tables that are partitioned by a transform that this library does not know.

use std::sync::Arc;

use iceberg::spec::{FormatVersion, Literal, NestedField, PrimitiveType, Schema, Struct, Type};
use icefield_core::catalog::{Catalog, MemoryCatalog, parse_ident};
use icefield_core::commit::{DeleteBy, Overwrite, Rewrite, Transaction};
use icefield_core::evolve::{PartitionUpdate, identity, partition_spec, types};
use icefield_core::filter::Filter;
use icefield_core::format::load_manifest_list;
use icefield_core::{SystemClock, Table};

use crate::metadata::written;
use crate::support::{file_in, live, names};

/// A table of three files, each in a manifest of its own but for two, whose partition values are of this type, by a transform
/// that nobody knows.
async fn table(
    version: FormatVersion,
    of: PrimitiveType,
    values: [Literal; 2],
    evolved: bool,
) -> (Arc<MemoryCatalog>, Table) {
    let fields =
        [NestedField::optional(1, "id", types::long()), NestedField::optional(2, "k", Type::Primitive(of))];
    let schema = Schema::builder().with_fields(fields.map(Into::into)).build().unwrap();
    let spec = partition_spec(&schema, [identity("k")]).unwrap();
    let properties = [("commit.manifest.min-count-to-merge", "2")];
    let (catalog, t) =
        crate::support::table(SystemClock::shared(), version, schema, Some(spec), &properties).await;
    let [one, two] = values;
    let files = vec![file_in("a", 0, [one.clone()]), file_in("b", 0, [two])];
    let t = Transaction::new(&t).fast_append(files).commit(&*catalog).await.unwrap().table;
    let t =
        Transaction::new(&t).fast_append(vec![file_in("c", 0, [one])]).commit(&*catalog).await.unwrap().table;
    let update = PartitionUpdate::new().clear();
    let change = Transaction::new(&t).change(move |metadata| update.apply(metadata));
    let t = if evolved { change.commit(&*catalog).await.unwrap().table } else { t };
    let mut json = written(&t).await;
    for fields in ["/partition-specs/0/fields", "/partition-spec"] {
        if let Some(fields) = json.pointer_mut(fields) {
            fields[0]["name"] = "curve".into();
            fields[0]["transform"] = "zorder[3]".into();
            // Of a column whose type says nothing of the values.
            fields[0]["source-id"] = 1.into();
        }
    }
    let location = "memory://w/db/t/metadata/v9.metadata.json";
    catalog.storage().write(location, json.to_string()).await.unwrap();
    let t = catalog.register_table(&parse_ident("db.u").unwrap(), location).await.unwrap();
    (catalog, t)
}

fn values() -> Vec<(PrimitiveType, [Literal; 2])> {
    use PrimitiveType as P;
    vec![
        (P::Int, [Literal::int(-7), Literal::int(1 << 30)]),
        (P::Long, [Literal::long(5), Literal::long(-1)]),
        (P::String, [Literal::string("x"), Literal::string("")]),
        (P::Boolean, [Literal::bool(true), Literal::bool(false)]),
        (P::Date, [Literal::date(-1), Literal::date(9)]),
        (P::Timestamptz, [Literal::timestamptz(-1), Literal::timestamptz(9)]),
        (P::Double, [Literal::double(0.5), Literal::double(-0.0)]),
        (P::Decimal { precision: 12, scale: 2 }, [Literal::decimal(-5), Literal::decimal(77)]),
        (P::Fixed(3), [Literal::fixed([1, 2, 3]), Literal::fixed([0, 0, 255])]),
        (P::Binary, [Literal::binary(vec![1]), Literal::binary(vec![])]),
        (P::Uuid, [Literal::uuid(uuid(1)), Literal::uuid(uuid(2))]),
    ]
}

fn uuid(n: u8) -> uuid::Uuid {
    uuid::Uuid::from_bytes([n; 16])
}

#[tokio::test]
async fn files_under_an_unknown_transform_keep_their_values() {
    for version in [FormatVersion::V1, FormatVersion::V2, FormatVersion::V3] {
        for (of, [one, two]) in values() {
            let (catalog, t) = table(version, of.clone(), [one.clone(), two.clone()], false).await;
            let partition = |value: &Literal| Struct::from_iter([Some(value.clone())]);
            let all = live(&t, "main").await;
            let partitions = |files: &[icefield_core::format::LiveFile]| {
                files.iter().map(|file| file.file.partition().clone()).collect::<Vec<_>>()
            };
            assert_eq!(
                partitions(&all),
                [partition(&one), partition(&two), partition(&one)],
                "{version} {of}"
            );
            // One of two that a manifest lists goes, and what stays is merged with the other manifest.
            let delete = Transaction::new(&t).delete_files([all[0].path().to_string()]);
            let t = delete.commit(&*catalog).await.unwrap().table;
            let left = live(&t, "main").await;
            assert_eq!(partitions(&left), [partition(&two), partition(&one)], "{version} {of}");
            // So it goes by a filter, and by a partition.
            let overwrite = Overwrite {
                delete: DeleteBy::Partitions(vec![(0, partition(&two))]),
                add: vec![],
                reads: None,
            };
            let t = Transaction::new(&t).overwrite(overwrite).commit(&*catalog).await.unwrap().table;
            assert_eq!(names(&t, "main").await, ["c"], "{version} {of}");
        }
    }
}

#[tokio::test]
async fn files_under_an_unknown_transform_are_compacted_into_another_spec() {
    let values = [Literal::int(1), Literal::int(2)];
    let (catalog, t) = table(FormatVersion::V2, PrimitiveType::Int, values, true).await;
    let spec = t.metadata().default_partition_spec_id();
    let all = live(&t, "main").await;
    let rewrite = Rewrite {
        delete: all[..2].iter().map(|file| file.reference()).collect(),
        add: vec![file_in("d", spec, [])],
        sequence_number: None,
    };
    let t = Transaction::new(&t).rewrite_files(rewrite).commit(&*catalog).await.unwrap().table;
    assert_eq!(names(&t, "main").await, ["c", "d"]);
    let manifests = load_manifest_list(t.storage(), t.metadata().current_snapshot().unwrap()).await.unwrap();
    assert!(manifests.iter().any(|manifest| manifest.partition_spec_id == 0));
    let everything = Overwrite { delete: DeleteBy::Filter(Filter::True), add: vec![], reads: None };
    let t = Transaction::new(&t).overwrite(everything).commit(&*catalog).await.unwrap().table;
    assert_eq!(names(&t, "main").await, [""; 0]);
    let append = Transaction::new(&t).append(vec![file_in("e", spec, [])]);
    let t = append.commit(&*catalog).await.unwrap().table;
    assert_eq!(names(&t, "main").await, ["e"]);
}
