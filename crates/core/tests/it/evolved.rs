//! Commits to tables whose partitioning or columns have changed since their files were written.

use std::sync::Arc;

use iceberg::TableUpdate;
use iceberg::spec::{FormatVersion, Literal, NestedField, Schema, Struct};
use icefield_core::catalog::{Catalog, MemoryCatalog};
use icefield_core::commit::{DeleteBy, Overwrite, Rewrite, Transaction};
use icefield_core::evolve::{
    MetadataChange, MetadataEdit, PartitionUpdate, SchemaUpdate, identity, partition_spec, types,
};
use icefield_core::format::{ContentFile, load_manifest_list};
use icefield_core::{ErrorKind, SystemClock, Table};
use icefield_testkit::deletes::commit_deletes;

use crate::support::{equality_deletes, file_in, live, names};

/// A table of `id` and `k`, partitioned by `k` unless said otherwise. Manifests are merged as soon as there are two.
async fn table(partitioned: bool) -> (Arc<MemoryCatalog>, Table) {
    let fields = [NestedField::optional(1, "id", types::long()), NestedField::optional(2, "k", types::int())];
    let schema = Schema::builder().with_fields(fields.map(Into::into)).build().unwrap();
    let spec = partitioned.then(|| partition_spec(&schema, [identity("k")]).unwrap());
    let merging = [("commit.manifest.min-count-to-merge", "2")];
    crate::support::table(SystemClock::shared(), FormatVersion::V2, schema, spec, &merging).await
}

async fn edit(catalog: &MemoryCatalog, table: &Table, edit: impl Into<MetadataEdit>) -> Table {
    let edit = edit.into();
    let change = Transaction::new(table).change(move |metadata| edit.apply(metadata));
    change.commit(catalog).await.unwrap().table
}

async fn add(catalog: &MemoryCatalog, table: &Table, file: ContentFile) -> Table {
    Transaction::new(table).append(vec![file]).commit(catalog).await.unwrap().table
}

#[tokio::test]
async fn equality_deletes_of_one_spec_that_come_while_rows_move_to_another_are_a_conflict() {
    // From a partitioned spec to none, and the other way.
    for partitioned in [true, false] {
        let (catalog, t) = table(partitioned).await;
        let k = || Literal::int(5);
        let of = |spec: i32| (spec == i32::from(!partitioned)).then(k);
        let t = add(&catalog, &t, file_in("a", 0, of(0))).await;
        let update = match partitioned {
            true => PartitionUpdate::new().clear(),
            false => PartitionUpdate::new().add_field(identity("k")),
        };
        let t = edit(&catalog, &t, update).await;
        let start = t.metadata().current_snapshot().unwrap().sequence_number();
        let a = live(&t, "main").await;
        let partition = i32::from(!partitioned);
        commit_deletes(&*catalog, &t, vec![equality_deletes("d", partition, of(partition))]).await;

        let rewrite = |name: &str, spec: i32| Rewrite {
            delete: a.iter().map(Into::into).collect(),
            add: vec![file_in(name, spec, of(spec))],
            sequence_number: Some(start),
        };
        let moved = Transaction::new(&t).rewrite_files(rewrite("moved", 1)).commit(&*catalog).await;
        let error = moved.expect_err("the deletes apply to the old rows or to the new ones, not to both");
        assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
        // What stays where it was is deleted as before.
        let stays = Transaction::new(&t).rewrite_files(rewrite("stays", 0)).commit(&*catalog).await.unwrap();
        assert_eq!(names(&stays.table, "main").await, ["d", "stays"]);
    }
}

#[tokio::test]
async fn a_partition_is_the_same_one_after_its_column_was_widened() {
    let (catalog, t) = table(true).await;
    let t = add(&catalog, &t, file_in("a", 0, [Literal::int(5)])).await;
    let t = edit(&catalog, &t, SchemaUpdate::new().promote_column("k", types::long())).await;
    let a = live(&t, "main").await;

    // A delete of the partition in its new form applies to the file that has it in the old one.
    let deleted = commit_deletes(&*catalog, &t, vec![equality_deletes("d", 0, [Literal::long(5)])]).await;
    let rewrite = Rewrite {
        delete: a.iter().map(Into::into).collect(),
        add: vec![file_in("b", 0, [Literal::long(5)])],
        sequence_number: None,
    };
    let error = Transaction::new(&t).rewrite_files(rewrite).commit(&*catalog).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");

    // Replacing the partition replaces that file, and an append to it meanwhile conflicts.
    let overwrite = |name: &str| Overwrite {
        delete: DeleteBy::Partitions(vec![(0, Struct::from_iter([Some(Literal::long(5))]))]),
        add: vec![file_in(name, 0, [Literal::long(5)])],
        reads: None,
    };
    let t = Transaction::new(&deleted).overwrite(overwrite("c")).commit(&*catalog).await.unwrap().table;
    assert_eq!(names(&t, "main").await, ["c", "d"]);
}

#[tokio::test]
async fn manifests_are_merged_after_a_partition_column_was_widened() {
    let (catalog, t) = table(true).await;
    let t = add(&catalog, &t, file_in("a", 0, [Literal::int(5)])).await;
    let t = edit(&catalog, &t, SchemaUpdate::new().promote_column("k", types::long())).await;
    for name in ["b", "c", "d"] {
        add(&catalog, &catalog.load_table(t.ident()).await.unwrap(), file_in(name, 0, [Literal::long(5)]))
            .await;
    }
    let t = catalog.load_table(t.ident()).await.unwrap();
    assert_eq!(names(&t, "main").await, ["a", "b", "c", "d"]);
    let manifests = load_manifest_list(t.storage(), t.metadata().current_snapshot().unwrap()).await.unwrap();
    assert_eq!(manifests.len(), 1, "values of the old width are written in the new one");
    let long = Struct::from_iter([Some(Literal::long(5))]);
    assert!(live(&t, "main").await.iter().all(|file| *file.file.partition() == long));
}

#[tokio::test]
async fn manifests_are_merged_though_no_schema_has_their_partition_columns_any_more() {
    let (catalog, t) = table(true).await;
    let fast =
        |t: &Table, name: &str| Transaction::new(t).fast_append(vec![file_in(name, 0, [Literal::int(5)])]);
    let t = fast(&t, "a").commit(&*catalog).await.unwrap().table;
    let t = fast(&t, "b").commit(&*catalog).await.unwrap().table;
    let t = edit(&catalog, &t, PartitionUpdate::new().clear()).await;
    // As Iceberg Java drops such columns, and cleans up schemas that no snapshot has.
    let id = NestedField::optional(1, "id", types::long());
    let schema = Schema::builder().with_fields([id.into()]).build().unwrap();
    let updates = vec![
        TableUpdate::AddSchema { schema },
        TableUpdate::SetCurrentSchema { schema_id: -1 },
        TableUpdate::RemoveSchemas { schema_ids: vec![0] },
    ];
    let change = MetadataChange { updates, requirements: Vec::new() };
    let changed = Transaction::new(&t).change(move |_| Ok(change.clone())).commit(&*catalog).await.unwrap();
    let t = add(&catalog, &changed.table, file_in("c", 1, [])).await;
    assert_eq!(names(&t, "main").await, ["a", "b", "c"]);
}
