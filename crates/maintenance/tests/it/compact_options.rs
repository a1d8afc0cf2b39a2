//! What compactions can be told through their builder, and what they make of deletes and overwrites that come in between.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use datafusion::prelude::{col, lit};
use iceberg::spec::Datum;
use icefield_core::catalog::MemoryCatalog;
use icefield_core::evolve::identity;
use icefield_core::filter::{Filter, Test};
use icefield_core::storage::{Storage, file_name};
use icefield_core::{AsOf, ErrorKind};
use icefield_engine::Table;
use icefield_engine::ops::DataFrameExt;
use icefield_maintenance::{JobOrder, compact};
use icefield_testkit::deletes::{commit_deletes, equality_deletes, unpartitioned};
use icefield_testkit::{Fault, FaultyStore, OpKind};

use crate::compact::{Lake, NAME, ids};
use crate::world::live_files;

/// Deletes rows of the table by their `id`, in all partitions.
async fn delete_ids(lake: &Lake, ids: &[i64]) {
    let table = lake.table().await;
    let keys: ArrayRef = Arc::new(Int64Array::from(ids.to_vec()));
    let keys = RecordBatch::try_from_iter([("id", keys)]).unwrap();
    let deletes = equality_deletes(table.core(), "e", &unpartitioned(), &[1], &[("id", 1)], &keys).await;
    commit_deletes(&*lake.catalog, table.core(), vec![deletes]).await;
}

async fn specs(table: &Table) -> BTreeSet<i32> {
    live_files(table.core(), "main").await.iter().map(|file| file.spec_id).collect()
}

#[tokio::test]
async fn rows_that_are_deleted_by_key_while_they_are_rewritten_stay_deleted() {
    for version in [2, 3] {
        let left: Vec<i64> = (0..60).filter(|id| ![3, 25].contains(id)).collect();
        // The new file is as old as what was read: the deletes apply to it.
        let lake = Lake::six_files(version).await;
        let table = lake.table().await;
        let plan = compact(&table).plan().await.unwrap();
        delete_ids(&lake, &[3, 25]).await;
        let report = compact(&table).use_starting_sequence_number(true).run(plan).await.unwrap();
        assert_eq!((report.input.files, report.rows), (6, 60), "version {version}");
        assert_eq!((lake.files().await, lake.delete_files().await), (2, 1), "version {version}");
        assert_eq!(lake.ids().await, left, "version {version}");

        // A new file of the commit's own age would bring the rows back.
        let lake = Lake::six_files(version).await;
        let table = lake.table().await;
        let plan = compact(&table).plan().await.unwrap();
        delete_ids(&lake, &[3, 25]).await;
        let stored = lake.stored_data().await;
        let error = compact(&table).use_starting_sequence_number(false).run(plan).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict, "version {version}: {error}");
        assert_eq!(lake.ids().await, left, "version {version}");
        assert_eq!(lake.stored_data().await, stored, "what was written for nothing was deleted");
        // Begun again, it reads the deletes.
        let report = compact(&table).use_starting_sequence_number(false).await.unwrap();
        assert_eq!(report.rows, 58, "version {version}");
        assert_eq!(lake.ids().await, left, "version {version}");
    }
}

#[tokio::test]
async fn an_overwrite_of_a_file_that_is_being_rewritten_wins() {
    let lake = Lake::six_files(2).await;
    let table = lake.table().await;
    let plan = compact(&table).plan().await.unwrap();
    let first_ten = Filter::Test(1, Test::Lt(Datum::long(10)));
    lake.rows(0..3).overwrite(&lake.session, NAME).filter(first_ten).await.unwrap();
    let left: Vec<i64> = (0..3).chain(10..60).collect();
    let stored = lake.stored_data().await;
    let error = compact(&table).run(plan).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    assert_eq!(lake.ids().await, left);
    assert_eq!(lake.stored_data().await, stored, "what was written for nothing was deleted");
    assert_eq!(compact(&table).await.unwrap().rows, 53);
    assert_eq!(lake.ids().await, left);
}

#[tokio::test]
async fn files_are_rewritten_to_the_partition_spec_that_is_asked_for() {
    let lake = Lake::six_files(2).await;
    lake.table().await.update_spec().add_field(identity("part")).await.unwrap();
    for (spec, files) in [(0, 1), (1, 3), (0, 1)] {
        let report = compact(&lake.table().await).output_spec_id(spec).rewrite_all(true).await.unwrap();
        assert_eq!((report.rows, lake.files().await), (60, files), "spec {spec}: {report}");
        assert_eq!(specs(&lake.table().await).await, [spec].into(), "spec {spec}");
        assert_eq!(lake.ids().await, (0..60).collect::<Vec<_>>(), "spec {spec}");
    }
    let error = compact(&lake.table().await).output_spec_id(7).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
}

#[tokio::test]
async fn no_group_is_larger_than_the_largest_size_of_one() {
    let lake = Lake::six_files(2).await;
    let files = live_files(lake.table().await.core(), "main").await;
    let largest = files.iter().map(|file| file.file.file_size_in_bytes()).max().unwrap();
    let of_two = || async { compact(&lake.table().await).max_file_group_size(2 * largest) };
    let plan = of_two().await.min_input_files(2).plan().await.unwrap();
    let groups: Vec<_> = plan.groups.iter().map(|group| group.files.len()).collect();
    assert_eq!(groups, [2, 2, 2]);
    assert!(plan.groups.iter().all(|group| group.bytes <= 2 * largest), "{plan}");
    // None has five.
    assert_eq!(of_two().await.plan().await.unwrap().groups.len(), 0);
    let report = of_two().await.min_input_files(2).await.unwrap();
    assert_eq!((report.groups, report.output.files, lake.files().await), (3, 3, 3), "{report}");
    assert_eq!(lake.ids().await, (0..60).collect::<Vec<_>>());
    let error = of_two().await.max_file_group_size(0).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
}

/// A table with three partitions: of 2 large files, 3 small ones and 4 in between.
async fn three_partitions(lake: &Lake) {
    lake.create(|t| t.partition_by([identity("part")])).await;
    let all = lake.table().await;
    let first: Vec<String> =
        live_files(all.core(), "main").await.iter().map(|file| file.path().to_string()).collect();
    all.delete_files(first).await.unwrap();
    for (part, files, rows) in [(0_i64, 2, 6000), (1, 3, 3), (2, 4, 300)] {
        for n in 0..files {
            let ids = lake.rows(n * rows..n * rows + rows);
            ids.filter(col("part").eq(lit(part))).unwrap().append_to(&lake.session, NAME).await.unwrap();
        }
    }
}

#[tokio::test]
async fn groups_are_committed_in_the_order_that_is_asked_for() {
    for (order, expected) in [
        (JobOrder::FilesAsc, ["2", "3", "4"]),
        (JobOrder::FilesDesc, ["4", "3", "2"]),
        (JobOrder::BytesAsc, ["3", "4", "2"]),
        (JobOrder::BytesDesc, ["2", "4", "3"]),
    ] {
        let lake = Lake::new().await;
        three_partitions(&lake).await;
        let before = lake.ids().await;
        let one_at_a_time = compact(&lake.table().await).rewrite_all(true).max_concurrent_groups(1);
        let report = one_at_a_time.partial_progress(3).job_order(order).await.unwrap();
        let table = lake.table().await;
        let replaced: Vec<&str> = report
            .snapshot_ids
            .iter()
            .map(|id| table.core().metadata().snapshot_by_id(*id).unwrap())
            .map(|snapshot| snapshot.summary().additional_properties["deleted-data-files"].as_str())
            .collect();
        assert_eq!(replaced, expected, "{order:?}");
        assert_eq!(lake.ids().await, before, "{order:?}");
    }
}

#[tokio::test]
async fn as_many_groups_are_begun_at_once_as_was_said() {
    for (at_once, begun) in [(1, 1), (2, 2), (5, 3)] {
        let store = FaultyStore::in_memory();
        let storage = Storage::new().with_store("memory://w", Arc::new(store.clone())).unwrap();
        let catalog = MemoryCatalog::new("memory://w", storage.clone());
        let lake = Lake::on(Arc::new(catalog), storage).await;
        three_partitions(&lake).await;
        let table = lake.table().await;
        let compaction = compact(&table).rewrite_all(true).max_concurrent_groups(at_once);
        let plan = compaction.plan().await.unwrap();
        // Nothing is begun once a group has failed.
        let damaged = plan.groups[0].files[0].path();
        lake.storage.write(damaged, "damaged").await.unwrap();
        let files: Vec<Vec<String>> = plan
            .groups
            .iter()
            .map(|group| group.files.iter().map(|file| file_name(file.path()).to_string()).collect())
            .collect();
        store.reset();
        // The others take long: the damaged one fails before any of them is done.
        let damaged = file_name(damaged).to_string();
        store.arm_when(move |op| {
            let reads = matches!(op.kind, OpKind::Get | OpKind::GetRanges) && !op.path.ends_with(&damaged);
            reads.then_some(Fault::Delay(Duration::from_millis(300)))
        });
        compaction.run(plan).await.unwrap_err();
        let was_read = |file: &String| {
            [OpKind::Get, OpKind::GetRanges].iter().any(|kind| store.count_of(*kind, file) > 0)
        };
        let read = files.iter().filter(|group| group.iter().any(was_read)).count();
        assert_eq!(read, begun, "{at_once} at once");
    }
}

#[tokio::test]
async fn a_branch_is_compacted_and_main_is_left_alone() {
    let lake = Lake::six_files(2).await;
    lake.table().await.create_branch("audit").await.unwrap();
    lake.rows(60..70).append_to(&lake.session, NAME).branch("audit").await.unwrap();
    let report = compact(&lake.table().await).branch("audit").await.unwrap();
    assert_eq!((report.input.files, report.rows), (7, 70), "{report}");
    let table = lake.table().await;
    assert_eq!(live_files(table.core(), "audit").await.len(), 1);
    assert_eq!(live_files(table.core(), "main").await.len(), 6);
    assert_eq!(lake.ids().await, (0..60).collect::<Vec<_>>());
    let audit = table.as_of(AsOf::Ref("audit".to_string())).unwrap();
    assert_eq!(ids(&audit).await, (0..70).collect::<Vec<_>>());
    let error = compact(&table).branch("nowhere").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
}
