//! Delete files that apply to nothing, and those that seem so.

use std::sync::Arc;

use iceberg::spec::{FormatVersion, Literal, NestedField, Schema};
use icefield_core::catalog::MemoryCatalog;
use icefield_core::commit::{Rewrite, Transaction};
use icefield_core::evolve::{PartitionUpdate, SchemaUpdate, identity, partition_spec, types};
use icefield_core::{SystemClock, Table};
use icefield_testkit::deletes::commit_deletes;

use crate::support::{equality_deletes, file_in, live, names};

/// A table of `id` and `k`, partitioned by `k`, with a file of partition 5.
async fn table() -> (Arc<MemoryCatalog>, Table) {
    let fields = [NestedField::optional(1, "id", types::long()), NestedField::optional(2, "k", types::int())];
    let schema = Schema::builder().with_fields(fields.map(Into::into)).build().unwrap();
    let spec = partition_spec(&schema, [identity("k")]).unwrap();
    let made = crate::support::table(SystemClock::shared(), FormatVersion::V2, schema, Some(spec), &[]).await;
    let append = Transaction::new(&made.1).append(vec![file_in("a", 0, [Literal::int(5)])]);
    let t = append.commit(&*made.0).await.unwrap().table;
    (made.0, t)
}

async fn rewrite(catalog: &MemoryCatalog, table: &Table, from: &str, to: &str) -> Table {
    let live = live(table, "main").await;
    let delete = live.iter().filter(|f| f.path().ends_with(from)).map(Into::into).collect();
    let add = vec![file_in(to, 0, [Literal::int(5)])];
    let rewrite = Rewrite { delete, add, sequence_number: None };
    Transaction::new(table).rewrite_files(rewrite).commit(catalog).await.unwrap().table
}

#[tokio::test]
async fn what_dangles_is_looked_for_in_the_table_as_it_is() {
    let (catalog, t) = table().await;
    let stale = commit_deletes(&*catalog, &t, vec![equality_deletes("d", 0, [Literal::int(5)])]).await;
    rewrite(&catalog, &stale, "/a", "b").await;
    // In the table that this began with, the deletes still apply.
    let done = Transaction::new(&stale).remove_dangling_deletes().commit(&*catalog).await.unwrap();
    assert_eq!(names(&done.table, "main").await, ["b"]);
    let summary = &done.table.metadata().current_snapshot().unwrap().summary().additional_properties;
    assert_eq!(summary["removed-delete-files"], "1");
}

#[tokio::test]
async fn deletes_stay_while_they_apply_to_a_file_whatever_its_spec_and_width() {
    let (catalog, t) = table().await;
    let widen = SchemaUpdate::new().promote_column("k", types::long());
    let t = Transaction::new(&t).change(move |m| widen.apply(m)).commit(&*catalog).await.unwrap().table;
    let clear = PartitionUpdate::new().clear();
    let t = Transaction::new(&t).change(move |m| clear.apply(m)).commit(&*catalog).await.unwrap().table;
    // Of the file's partition in its new width, of no partition, and of another.
    let deletes = vec![
        equality_deletes("d", 0, [Literal::long(5)]),
        equality_deletes("global", 1, []),
        equality_deletes("other", 0, [Literal::long(6)]),
    ];
    let t = commit_deletes(&*catalog, &t, deletes).await;
    let t = Transaction::new(&t).remove_dangling_deletes().commit(&*catalog).await.unwrap().table;
    assert_eq!(names(&t, "main").await, ["a", "d", "global"]);
    let again = Transaction::new(&t).remove_dangling_deletes().commit(&*catalog).await.unwrap();
    assert_eq!(again.snapshot_id, None);
}
