//! What leaves a table with the files that are taken out of it, and what summaries say of it.

use std::collections::HashMap;
use std::sync::Arc;

use iceberg::spec::{FormatVersion, Literal, NestedField, Schema, Struct};
use icefield_core::catalog::MemoryCatalog;
use icefield_core::commit::{DeleteBy, Expiry, Overwrite, Rewrite, Transaction};
use icefield_core::evolve::{PartitionUpdate, SchemaUpdate, identity, partition_spec, types};
use icefield_core::format::{ContentFile, load_manifest_list};
use icefield_core::{ErrorKind, SystemClock, Table};
use icefield_testkit::deletes::{commit_deletes, deletion_vectors};

use crate::support::{equality_deletes, file_in, live, names};

/// A table of `id` and `k`, partitioned by `k`.
async fn table(version: FormatVersion, properties: &[(&str, &str)]) -> (Arc<MemoryCatalog>, Table) {
    let fields = [NestedField::optional(1, "id", types::long()), NestedField::optional(2, "k", types::int())];
    let schema = Schema::builder().with_fields(fields.map(Into::into)).build().unwrap();
    let spec = partition_spec(&schema, [identity("k")]).unwrap();
    crate::support::table(SystemClock::shared(), version, schema, Some(spec), properties).await
}

fn file(name: &str, k: i32) -> ContentFile {
    file_in(name, 0, [Literal::int(k)])
}

async fn append(catalog: &MemoryCatalog, table: &Table, files: Vec<ContentFile>) -> Table {
    Transaction::new(table).append(files).commit(catalog).await.unwrap().table
}

fn summary(table: &Table) -> HashMap<String, String> {
    table.metadata().current_snapshot().unwrap().summary().additional_properties.clone()
}

async fn evolve(catalog: &MemoryCatalog, table: &Table, update: PartitionUpdate) -> Table {
    let change = Transaction::new(table).change(move |metadata| update.apply(metadata));
    change.commit(catalog).await.unwrap().table
}

#[tokio::test]
async fn a_table_that_lost_its_partitions_is_one_partition() {
    let (catalog, t) = table(FormatVersion::V2, &[]).await;
    let t = append(&catalog, &t, vec![file("a", 1), file("b", 2)]).await;
    let base = evolve(&catalog, &t, PartitionUpdate::new().clear()).await;
    let spec = base.metadata().default_partition_spec_id();
    let replace = |name: &str| Overwrite {
        delete: DeleteBy::Partitions(vec![(spec, Struct::empty())]),
        add: vec![file_in(name, spec, [])],
        reads: None,
    };
    let t = Transaction::new(&base).overwrite(replace("c")).commit(&*catalog).await.unwrap().table;
    assert_eq!(names(&t, "main").await, ["c"]);
    assert_eq!(summary(&t)["replace-partitions"], "true");
    // So it is for what came meanwhile.
    let late = Transaction::new(&base).overwrite(replace("d")).commit(&*catalog).await;
    assert_eq!(late.unwrap_err().kind(), ErrorKind::Conflict);
}

#[tokio::test]
async fn a_file_that_is_listed_twice_counts_once_when_it_goes() {
    let (catalog, t) = table(FormatVersion::V2, &[]).await;
    let t = append(&catalog, &t, vec![file("a", 1), file("b", 1)]).await;
    let t = append(&catalog, &t, vec![file("a", 1)]).await;
    let path = file("a", 1).file.file_path().to_string();
    let t = Transaction::new(&t).delete_files([path]).commit(&*catalog).await.unwrap().table;
    assert_eq!(names(&t, "main").await, ["b"]);
    let summary = summary(&t);
    assert_eq!((&*summary["deleted-data-files"], &*summary["deleted-records"]), ("1", "1"));
    assert_eq!(summary["deleted-duplicate-files"], "1");
}

#[tokio::test]
async fn vectors_go_with_their_files_and_summaries_tell() {
    let (catalog, t) = table(FormatVersion::V3, &[]).await;
    let t = append(&catalog, &t, vec![file("a", 1), file("b", 2)]).await;
    let data = live(&t, "main").await;
    let partition = |k: i32| (0, Struct::from_iter([Some(Literal::int(k))]));
    let mut t = t;
    for (file, k) in data.iter().zip([1, 2]) {
        let name = format!("vector{k}");
        let vector = deletion_vectors(&t, &name, &partition(k), &[(file.path(), &[0])]).await;
        t = commit_deletes(&*catalog, &t, vector).await;
    }
    let delete = DeleteBy::Partitions(vec![partition(1)]);
    let overwrite = Overwrite { delete, add: vec![file("c", 1)], reads: None };
    let t = Transaction::new(&t).overwrite(overwrite).commit(&*catalog).await.unwrap().table;
    let left = names(&t, "main").await;
    assert!(matches!(&left[..], [b, c, v] if b == "b" && c == "c" && v.starts_with("vector2")), "{left:?}");
    let summary = summary(&t);
    assert_eq!((&*summary["removed-dvs"], &*summary["removed-delete-files"]), ("1", "1"));
    assert_eq!(summary.get("removed-position-delete-files"), None);
}

#[tokio::test]
async fn deletes_that_are_older_than_all_data_go_with_the_next_commit() {
    let (catalog, t) = table(FormatVersion::V2, &[]).await;
    let mut t = append(&catalog, &t, vec![file("a", 1)]).await;
    for name in ["d1", "d2"] {
        t = commit_deletes(&*catalog, &t, vec![equality_deletes(name, 0, [Literal::int(1)])]).await;
    }
    t = append(&catalog, &t, vec![file("b", 2)]).await;
    assert_eq!(names(&t, "main").await, ["a", "b", "d1", "d2"], "they apply to a");
    let a = live(&t, "main").await[0].reference();
    let rewrite = Rewrite { delete: vec![a], add: vec![file("c", 1)], sequence_number: None };
    let t = Transaction::new(&t).rewrite_files(rewrite).commit(&*catalog).await.unwrap().table;
    assert_eq!(names(&t, "main").await, ["b", "c"]);
    assert_eq!(summary(&t)["removed-equality-delete-files"], "2");
}

#[tokio::test]
async fn deletes_stay_while_a_rewrite_keeps_the_number_that_they_are_above() {
    let (catalog, t) = table(FormatVersion::V2, &[]).await;
    let start = append(&catalog, &t, vec![file("a", 1)]).await;
    let t = commit_deletes(&*catalog, &start, vec![equality_deletes("d", 0, [Literal::int(1)])]).await;
    append(&catalog, &t, vec![file("b", 2)]).await;
    let a = live(&start, "main").await[0].reference();
    let number = Some(start.metadata().last_sequence_number());
    let rewrite = Rewrite { delete: vec![a], add: vec![file("c", 1)], sequence_number: number };
    let t = Transaction::new(&start).rewrite_files(rewrite).commit(&*catalog).await.unwrap().table;
    assert_eq!(names(&t, "main").await, ["b", "c", "d"]);
    let t = append(&catalog, &t, vec![file("e", 2)]).await;
    assert_eq!(names(&t, "main").await, ["b", "c", "d", "e"]);
}

#[tokio::test]
async fn manifests_of_deletes_are_merged_like_those_of_data() {
    let (catalog, t) = table(FormatVersion::V2, &[("commit.manifest.min-count-to-merge", "3")]).await;
    let mut t = append(&catalog, &t, vec![file("a", 1)]).await;
    let all = ["d0", "d1", "d2", "d3"];
    for name in all {
        t = commit_deletes(&*catalog, &t, vec![equality_deletes(name, 0, [Literal::int(1)])]).await;
    }
    let before: Vec<_> = live(&t, "main").await.into_iter().filter(|file| !file.is_data()).collect();
    let t = append(&catalog, &t, vec![file("b", 1)]).await;
    let listed = load_manifest_list(t.storage(), t.metadata().current_snapshot().unwrap()).await.unwrap();
    let deletes = listed.iter().filter(|m| m.content == iceberg::spec::ManifestContentType::Deletes);
    assert_eq!(deletes.count(), 1);
    let after: Vec<_> = live(&t, "main").await.into_iter().filter(|file| !file.is_data()).collect();
    assert_eq!(before, after, "each is what it was, and of the snapshot that it was of");
}

#[tokio::test]
async fn files_of_a_spec_that_is_removed_meanwhile_do_not_land() {
    let (catalog, t) = table(FormatVersion::V2, &[]).await;
    // Nothing is written yet: whoever cleans up takes the spec away once it is not the default one.
    let stale = t.clone();
    let t = evolve(&catalog, &t, PartitionUpdate::new().add_field(identity("id"))).await;
    let clean = |t: &Table, specs: Vec<i32>, schemas: Vec<i32>| {
        let expiry = Expiry { specs, schemas, ..Expiry::default() };
        Transaction::new(t).expire_snapshots(move |_| Ok(expiry.clone()))
    };
    let t = clean(&t, vec![0], vec![]).commit(&*catalog).await.unwrap().table;
    let error = Transaction::new(&stale).append(vec![file("a", 1)]).commit(&*catalog).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");

    // Nor files of a spec that was no more the default one when they were written.
    let t = evolve(&catalog, &t, PartitionUpdate::new().clear()).await;
    let stale = t.clone();
    let t = clean(&t, vec![1], vec![]).commit(&*catalog).await.unwrap().table;
    let old = file_in("b", 1, [Literal::int(1), Literal::long(1)]);
    let error = Transaction::new(&stale).append(vec![old]).commit(&*catalog).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");

    // A schema is what it is now.
    let stale = t.clone();
    let update = SchemaUpdate::new().add_column("more", types::int());
    let t = Transaction::new(&t).change(move |metadata| update.apply(metadata)).commit(&*catalog).await;
    let old_schema = stale.metadata().current_schema_id();
    let t = clean(&t.unwrap().table, vec![], vec![old_schema]).commit(&*catalog).await.unwrap().table;
    assert!(t.metadata().schema_by_id(old_schema).is_none());
    let spec = t.metadata().default_partition_spec_id();
    let t = append(&catalog, &stale, vec![file_in("c", spec, [])]).await;
    let snapshot = t.metadata().current_snapshot().unwrap();
    assert!(snapshot.schema_id().is_some_and(|id| t.metadata().schema_by_id(id).is_some()));
}

#[tokio::test]
async fn a_spec_id_that_is_another_specs_by_now_conflicts() {
    let (catalog, t) = table(FormatVersion::V2, &[]).await;
    let stale = evolve(&catalog, &t, PartitionUpdate::new().add_field(identity("id"))).await;
    let old = stale.metadata().default_partition_spec_id();
    let t = evolve(&catalog, &stale, PartitionUpdate::new().remove_field("id")).await;
    let expiry = Expiry { specs: vec![old], ..Expiry::default() };
    let clean = Transaction::new(&t).expire_snapshots(move |_| Ok(expiry.clone()));
    let t = clean.commit(&*catalog).await.unwrap().table;
    let update = PartitionUpdate::new().remove_field("k").add_field(identity("id"));
    let t = evolve(&catalog, &t, update).await;
    assert_eq!(t.metadata().default_partition_spec_id(), old);

    let values = [Literal::int(1), Literal::long(1)];
    let append = Transaction::new(&stale).append(vec![file_in("a", old, values.clone())]);
    let delete = DeleteBy::Partitions(vec![(old, Struct::from_iter(values.map(Some)))]);
    let overwrite = Transaction::new(&stale).overwrite(Overwrite { delete, add: Vec::new(), reads: None });
    for transaction in [append, overwrite] {
        let error = transaction.commit(&*catalog).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    }
}
