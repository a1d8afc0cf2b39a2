//! Compaction of real Parquet files, read back through the session.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::Int64Type;
use datafusion::dataframe::DataFrame;
use datafusion::physical_plan::displayable;
use futures::TryStreamExt;
use iceberg::spec::{Datum, FormatVersion, Operation};
use icefield_core::ErrorKind;
use icefield_core::catalog::{Catalog, MemoryCatalog, NamespaceIdent};
use icefield_core::evolve::{asc, identity};
use icefield_core::filter::{Filter, Test};
use icefield_core::storage::Storage;
use icefield_engine::ops::{DataFrameExt, TableOptions};
use icefield_engine::{Session, Table};
use icefield_maintenance::{MIB, Reason, Strategy, compact, days, expire_snapshots, remove_orphan_files};
use icefield_testkit::deletes::{
    commit_deletes, deletion_vectors, equality_deletes, position_deletes, unpartitioned,
};
use icefield_testkit::{CommitFault, FaultyCatalog};

use crate::world::{check, live_files};

pub(crate) const NAME: &str = "db.t";

pub(crate) struct Lake {
    pub(crate) session: Session,
    pub(crate) catalog: Arc<FaultyCatalog>,
    pub(crate) storage: Storage,
}

impl Lake {
    pub(crate) async fn new() -> Self {
        let storage = Storage::new();
        let catalog: Arc<dyn Catalog> = Arc::new(MemoryCatalog::new("memory://w", storage.clone()));
        Self::on(catalog, storage).await
    }

    pub(crate) async fn on(catalog: Arc<dyn Catalog>, storage: Storage) -> Self {
        let catalog = Arc::new(FaultyCatalog::new(catalog));
        let namespace = NamespaceIdent::new("db".to_string());
        catalog.create_namespace(&namespace, Default::default()).await.unwrap();
        let session = Session::builder().catalog(catalog.clone()).parallelism(2).build().unwrap();
        Self { session, catalog, storage }
    }

    pub(crate) fn rows(&self, ids: std::ops::Range<i64>) -> DataFrame {
        let names = StringArray::from_iter_values(ids.clone().map(|id| format!("name of {id}")));
        let groups = Int64Array::from_iter_values(ids.clone().map(|id| id % 3));
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("id", Arc::new(Int64Array::from_iter_values(ids))),
            ("name", Arc::new(names)),
            ("part", Arc::new(groups)),
        ];
        self.session.context().read_batch(RecordBatch::try_from_iter(columns).unwrap()).unwrap()
    }

    pub(crate) async fn create(&self, options: impl FnOnce(TableOptions) -> TableOptions) {
        self.rows(0..10).append_to(&self.session, NAME).create_with(options).await.unwrap();
    }

    pub(crate) async fn append(&self, ids: std::ops::Range<i64>) {
        self.rows(ids).append_to(&self.session, NAME).await.unwrap();
    }

    /// A table of ten rows in each of six files.
    pub(crate) async fn six_files(version: u8) -> Self {
        let lake = Self::new().await;
        lake.create(|t| t.format_version(version)).await;
        for n in 1..6 {
            lake.append(n * 10..n * 10 + 10).await;
        }
        lake
    }

    pub(crate) async fn table(&self) -> Table {
        self.session.table(NAME).await.unwrap()
    }

    pub(crate) async fn ids(&self) -> Vec<i64> {
        ids(&self.table().await).await
    }

    pub(crate) async fn files(&self) -> usize {
        live_files(self.table().await.core(), "main").await.len()
    }

    pub(crate) async fn delete_files(&self) -> u64 {
        let files = live_files(self.table().await.core(), "main").await;
        files.iter().filter(|file| !file.is_data()).count() as u64
    }

    /// Data files in the store, named by a snapshot or not.
    pub(crate) async fn stored_data(&self) -> usize {
        let files: Vec<_> = self.storage.list("memory://w").try_collect().await.unwrap();
        files.iter().filter(|file| file.location.ends_with(".parquet")).count()
    }
}

pub(crate) async fn ids(table: &Table) -> Vec<i64> {
    let batches = table.dataframe().await.unwrap().collect().await.unwrap();
    let column = |batch: &RecordBatch| batch.column(0).as_primitive::<Int64Type>().values().to_vec();
    let mut ids: Vec<i64> = batches.iter().flat_map(column).collect();
    ids.sort_unstable();
    ids
}

fn range(ids: std::ops::Range<i64>) -> Vec<i64> {
    ids.collect()
}

#[tokio::test]
async fn small_files_become_one_with_the_same_rows_and_history_still_reads() {
    for version in [1, 2, 3] {
        let lake = Lake::six_files(version).await;
        let before = lake.table().await;
        let report = compact(&before).await.unwrap();
        assert_eq!((report.groups, report.input.files, report.output.files, report.rows), (1, 6, 1, 60));
        assert_eq!(lake.ids().await, range(0..60), "version {version}");
        assert_eq!(lake.files().await, 1);
        assert_eq!(ids(&before).await, range(0..60));
        let table = lake.table().await;
        let snapshot = table.core().metadata().current_snapshot().unwrap();
        assert_eq!(snapshot.summary().operation, Operation::Replace);
        // There is nothing left to do.
        assert_eq!(compact(&table).await.unwrap().groups, 0);
    }
}

#[tokio::test]
async fn a_plan_is_shown_and_run_later() {
    let lake = Lake::six_files(2).await;
    let table = lake.table().await;
    let plan = compact(&table).target_file_size(MIB).plan().await.unwrap();
    assert_eq!((plan.groups.len(), plan.input().files, plan.groups[0].reason), (1, 6, Reason::EnoughFiles));
    let text = plan.to_string();
    assert!(text.starts_with("db.t: rewrite 6 of 6 data files") && text.contains("unpartitioned"), "{text}");
    assert_eq!(lake.files().await, 6);
    let report = compact(&table).target_file_size(MIB).run(plan).await.unwrap();
    assert_eq!(report.output.files, 1);
    assert_eq!(lake.ids().await, range(0..60));
}

#[tokio::test]
async fn partitions_stay_apart_and_files_of_an_older_spec_come_to_the_current_one() {
    let lake = Lake::new().await;
    lake.create(|t| t).await;
    lake.append(10..20).await;
    lake.table().await.update_spec().add_field(identity("part")).await.unwrap();
    for n in 2..5 {
        lake.append(n * 10..n * 10 + 10).await;
    }
    let plan = compact(&lake.table().await).min_input_files(2).plan().await.unwrap();
    let groups: Vec<_> = plan.groups.iter().map(|g| (g.partition.as_str(), g.files.len())).collect();
    let mut sorted = groups.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, [("", 2), ("part=0", 3), ("part=1", 3), ("part=2", 3)]);
    let report = compact(&lake.table().await).min_input_files(2).await.unwrap();
    assert_eq!((report.input.files, report.output.files), (11, 6));
    assert_eq!(lake.ids().await, range(0..50));
    let table = lake.table().await;
    let spec = table.core().metadata().default_partition_spec_id();
    assert!(live_files(table.core(), "main").await.iter().all(|file| file.spec_id == spec));
}

#[tokio::test]
async fn only_files_that_may_match_the_filter_are_rewritten() {
    let lake = Lake::six_files(2).await;
    let table = lake.table().await;
    let filter = Filter::Test(1, Test::Lt(iceberg::spec::Datum::long(30)));
    let report = compact(&table).filter(filter).min_input_files(2).await.unwrap();
    assert_eq!(report.input.files, 3);
    assert_eq!(lake.ids().await, range(0..60));
    assert_eq!(lake.files().await, 4);
}

#[tokio::test]
async fn too_large_a_file_is_split() {
    let lake = Lake::new().await;
    lake.create(|t| t.property("write.parquet.row-group-size-bytes", "65536")).await;
    lake.append(10..200_000).await;
    let size =
        live_files(lake.table().await.core(), "main").await.iter().map(|f| f.file.file_size_in_bytes()).max();
    let target = size.unwrap() / 4;
    let report = compact(&lake.table().await).target_file_size(target).await.unwrap();
    assert!(report.output.files >= 3, "{report}");
    assert_eq!(lake.ids().await, range(0..200_000));
    let again = compact(&lake.table().await).target_file_size(target).plan().await.unwrap();
    assert!(again.groups.iter().all(|g| g.reason != Reason::TooLarge), "{again}");
}

#[tokio::test]
async fn rows_are_sorted_by_the_tables_order_and_without_one_sorting_is_refused() {
    let lake = Lake::six_files(2).await;
    let error = compact(&lake.table().await).strategy(Strategy::Sort).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    let error = compact(&lake.table().await).strategy(Strategy::ZOrder(vec!["id".into()])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    lake.table().await.update_sort_order([asc("part")]).await.unwrap();
    compact(&lake.table().await).strategy(Strategy::Sort).await.unwrap();
    let batches = lake.table().await.dataframe().await.unwrap().collect().await.unwrap();
    let parts: Vec<i64> =
        batches.iter().flat_map(|b| b.column(2).as_primitive::<Int64Type>().values().to_vec()).collect();
    assert!(parts.is_sorted() && parts.len() == 60);
    assert!(
        live_files(lake.table().await.core(), "main").await.iter().all(|f| f.file.sort_order_id() == Some(1))
    );
    // Who asks for the order gets it without a sort, of later files too.
    lake.append(60..90).await;
    let query = format!("SELECT part FROM {NAME} ORDER BY part");
    let plan = lake.session.sql(&query).await.unwrap().create_physical_plan().await.unwrap();
    let plan = displayable(&*plan).indent(false).to_string();
    assert!(!plan.contains("SortExec"), "{plan}");
    let batches = lake.session.sql(&query).await.unwrap().collect().await.unwrap();
    let parts: Vec<i64> =
        batches.iter().flat_map(|b| b.column(0).as_primitive::<Int64Type>().values().to_vec()).collect();
    assert!(parts.is_sorted() && parts.len() == 90);
}

#[tokio::test]
async fn an_append_that_comes_in_between_stays() {
    let lake = Lake::six_files(2).await;
    let table = lake.table().await;
    let plan = compact(&table).plan().await.unwrap();
    lake.append(60..70).await;
    compact(&table).run(plan).await.unwrap();
    assert_eq!(lake.ids().await, range(0..70));
    assert_eq!(lake.files().await, 2);
}

/// iceberg#4996, lance#6653, amoro#4290: a compaction lost a concurrent delete and brought rows back.
#[tokio::test]
async fn a_delete_that_comes_in_between_is_not_undone() {
    let lake = Lake::six_files(2).await;
    let table = lake.table().await;
    let plan = compact(&table).plan().await.unwrap();
    let gone = live_files(table.core(), "main").await[0].path().to_string();
    table.delete_files([gone]).await.unwrap();
    let left = lake.ids().await;
    assert_eq!(left.len(), 50);
    let stored = lake.stored_data().await;
    let error = compact(&table).run(plan).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert_eq!(lake.ids().await, left);
    assert_eq!(lake.stored_data().await, stored, "what was written for nothing was deleted");
    compact(&table).await.unwrap();
    assert_eq!(lake.ids().await, left);
}

#[tokio::test]
async fn with_partial_progress_a_group_that_conflicts_does_not_take_the_others_with_it() {
    for commits in [1, 3] {
        let lake = Lake::new().await;
        lake.create(|t| t.partition_by([identity("part")])).await;
        for n in 1..6 {
            lake.append(n * 10..n * 10 + 10).await;
        }
        let table = lake.table().await;
        let plan = compact(&table).partial_progress(commits).plan().await.unwrap();
        assert_eq!(plan.groups.len(), 3);
        let gone = plan.groups[1].files[0].path().to_string();
        table.delete_files([gone]).await.unwrap();
        let left = lake.ids().await;
        let report = compact(&table).partial_progress(commits).run(plan).await.unwrap();
        assert_eq!((report.groups, report.failures.len()), (2, 1), "{report}");
        assert_eq!(report.failures[0].error.kind(), ErrorKind::Conflict);
        assert_eq!(lake.ids().await, left);
        assert_eq!(lake.files().await, 2 + 5);
    }
}

#[tokio::test]
async fn groups_that_conflict_leave_the_others_one_commit() {
    let lake = Lake::new().await;
    lake.create(|t| t.partition_by([identity("part")])).await;
    for n in 1..6 {
        lake.append(n * 10..n * 10 + 10).await;
    }
    let table = lake.table().await;
    let plan = compact(&table).partial_progress(1).plan().await.unwrap();
    assert_eq!(plan.groups.len(), 3);
    let gone: Vec<String> = plan.groups[..2].iter().map(|group| group.files[0].path().to_string()).collect();
    table.delete_files(gone.clone()).await.unwrap();
    let left = lake.ids().await;
    let report = compact(&table).partial_progress(1).run(plan).await.unwrap();
    assert_eq!((report.groups, report.failures.len(), report.snapshot_ids.len()), (1, 2, 1), "{report}");
    for failure in &report.failures {
        let file = failure.error.context().find(|(key, _)| *key == "file").map(|(_, file)| file.to_string());
        assert!(file.is_some_and(|file| gone.contains(&file)), "each says which file it is about: {report}");
    }
    assert_eq!(lake.ids().await, left);
}

#[tokio::test]
async fn after_an_unknown_outcome_what_was_written_stays_and_after_a_refusal_it_goes() {
    let lake = Lake::six_files(2).await;
    let stored = lake.stored_data().await;
    lake.catalog.queue([CommitFault::Fail]);
    compact(&lake.table().await).await.unwrap_err();
    assert_eq!(lake.stored_data().await, stored);
    lake.catalog.queue([CommitFault::LostAnswer]);
    let report = compact(&lake.table().await).await.unwrap();
    assert_eq!(report.snapshot_ids.len(), 1);
    assert_eq!(lake.ids().await, range(0..60));
    check(lake.table().await.core()).await.unwrap();
}

#[tokio::test]
async fn a_damaged_file_stops_the_compaction_and_every_row_that_was_there_is() {
    let lake = Lake::six_files(2).await;
    let files = live_files(lake.table().await.core(), "main").await;
    let bytes = lake.storage.read(files[2].path()).await.unwrap();
    lake.storage.write(files[2].path(), bytes.slice(..bytes.len() - 9)).await.unwrap();
    let stored = lake.stored_data().await;
    compact(&lake.table().await).await.unwrap_err();
    assert_eq!(lake.stored_data().await, stored);
    lake.storage.write(files[2].path(), bytes).await.unwrap();
    compact(&lake.table().await).await.unwrap();
    assert_eq!(lake.ids().await, range(0..60));
}

#[tokio::test]
async fn rows_of_a_version_3_table_keep_their_ids_and_when_they_were_last_updated() {
    let lake = Lake::six_files(3).await;
    let before = lineage(&lake).await;
    assert_eq!(before.len(), 60);
    compact(&lake.table().await).await.unwrap();
    assert_eq!(lineage(&lake).await, before);
    // And again, now that files have lineage columns of their own beside some that have none.
    lake.append(60..70).await;
    let before = lineage(&lake).await;
    compact(&lake.table().await).min_input_files(2).await.unwrap();
    assert_eq!(lake.files().await, 1);
    assert_eq!(lineage(&lake).await, before);
    assert_eq!(lake.ids().await, range(0..70));
}

/// `id`, `_row_id` and `_last_updated_sequence_number` of every row, from the files and what they inherit.
async fn lineage(lake: &Lake) -> Vec<(i64, i64, i64)> {
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
    let mut rows = Vec::new();
    for file in live_files(lake.table().await.core(), "main").await {
        let bytes = lake.storage.read(file.path()).await.unwrap();
        let mut at = file.file.first_row_id().unwrap();
        for batch in ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap().build().unwrap() {
            let batch = batch.unwrap();
            let own = |name: &str, row: usize| {
                batch.column_by_name(name).map(|column| column.as_primitive::<Int64Type>().value(row))
            };
            for row in 0..batch.num_rows() {
                let row_id = own("_row_id", row).unwrap_or(at);
                let updated = own("_last_updated_sequence_number", row).unwrap_or(file.file_sequence_number);
                rows.push((own("id", row).unwrap(), row_id, updated));
                at += 1;
            }
        }
    }
    rows.sort_unstable();
    rows
}

#[tokio::test]
async fn after_compaction_and_expiry_only_the_new_file_is_left() {
    let lake = Lake::six_files(2).await;
    compact(&lake.table().await).await.unwrap();
    let report = expire_snapshots(&lake.table().await).older_than(days(0)).await.unwrap();
    assert_eq!(report.snapshots.len(), 6);
    assert_eq!(lake.stored_data().await, 1);
    let report = remove_orphan_files(&lake.table().await).dry_run(true).await.unwrap();
    assert_eq!(report.orphans.len(), 0);
    assert_eq!(lake.ids().await, range(0..60));
    assert_eq!(lake.table().await.core().metadata().format_version(), FormatVersion::V2);
}

/// Every kind of delete that a version has, on a table of a file of 10 rows and four of 100, and the rows that are left.
async fn with_deletes(lake: &Lake, version: u8) -> Vec<i64> {
    lake.create(|t| t.format_version(version)).await;
    for from in 1..5 {
        lake.append(from * 100..from * 100 + 100).await;
    }
    let table = lake.table().await;
    let files: Vec<String> =
        live_files(table.core(), "main").await.iter().map(|f| f.path().to_string()).collect();
    let none = unpartitioned();
    let mut deletes = match version {
        3 => {
            let rows: &[u64] = &[0, 1, 5];
            let vectors: Vec<(&str, &[u64])> = files.iter().map(|file| (file.as_str(), rows)).collect();
            deletion_vectors(table.core(), "v", &none, &vectors).await
        }
        _ => {
            let mut rows: Vec<(&str, i64)> = files.iter().map(|file| (file.as_str(), 1)).collect();
            rows.extend(files.iter().map(|file| (file.as_str(), 7)));
            vec![position_deletes(table.core(), "p", &none, &rows).await]
        }
    };
    let keys = Arc::new(Int64Array::from(vec![3, 250, 251, 9_999])) as ArrayRef;
    let keys = RecordBatch::try_from_iter([("id", keys)]).unwrap();
    deletes.push(equality_deletes(table.core(), "e", &none, &[1], &[("id", 1)], &keys).await);
    commit_deletes(&*lake.catalog, table.core(), deletes).await;
    let mut left = lake.ids().await;
    left.sort_unstable();
    left
}

#[tokio::test]
async fn deleted_rows_stay_deleted_and_the_others_stay() {
    for version in [2, 3] {
        let lake = Lake::new().await;
        let before = with_deletes(&lake, version).await;
        assert!(before.len() < 410 && before.len() > 380, "{}", before.len());
        let report = compact(&lake.table().await).await.unwrap();
        assert_eq!((report.input.files, report.rows), (5, before.len() as u64), "{version}");
        let mut after = lake.ids().await;
        after.sort_unstable();
        assert_eq!(after, before, "{version}");
        // What was deleted before the rewrite does not touch its rows again, nor what comes later.
        lake.append(250..252).await;
        assert_eq!(lake.ids().await.len(), before.len() + 2, "{version}");
        let again = compact(&lake.table().await).rewrite_all(true).await.unwrap();
        assert_eq!(again.rows, before.len() as u64 + 2, "{version}");
    }
}

#[tokio::test]
async fn a_file_with_many_deleted_rows_is_rewritten_alone() {
    let lake = Lake::new().await;
    lake.create(|t| t.format_version(3)).await;
    let table = lake.table().await;
    let file = live_files(table.core(), "main").await[0].path().to_string();
    for (rows, rewritten) in [(vec![1_u64], 0), (vec![1, 2, 3], 1)] {
        let fork = lake.table().await;
        // Planned against a table that has just this vector.
        let name = format!("v{}", rows.len());
        let deletes = deletion_vectors(fork.core(), &name, &unpartitioned(), &[(&file, &rows)]).await;
        let catalog = MemoryCatalog::new("memory://w", lake.storage.clone());
        let namespace = NamespaceIdent::new("db".to_string());
        catalog.create_namespace(&namespace, Default::default()).await.unwrap();
        catalog.register_table(fork.ident(), fork.core().metadata_location()).await.unwrap();
        commit_deletes(&catalog, fork.core(), deletes).await;
        let session = Session::builder().catalog(Arc::new(catalog)).parallelism(2).build().unwrap();
        let table = session.table(NAME).await.unwrap();
        let plan = compact(&table).min_file_size(0).plan().await.unwrap();
        assert_eq!(plan.groups.len(), rewritten, "{rows:?}: {plan}");
        assert!(plan.groups.iter().all(|group| group.reason == Reason::Deletes), "{plan}");
    }
}

#[tokio::test]
async fn a_vector_that_comes_in_between_is_a_conflict() {
    let lake = Lake::new().await;
    with_deletes(&lake, 3).await;
    let table = lake.table().await;
    let planned = compact(&table).plan().await.unwrap();
    let file = live_files(table.core(), "main").await[0].path().to_string();
    let vectors = deletion_vectors(table.core(), "late", &unpartitioned(), &[(&file, &[50])]).await;
    commit_deletes(&*lake.catalog, table.core(), vectors).await;
    let error = compact(&table).run(planned).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
}

#[tokio::test]
async fn deletes_that_apply_to_nothing_any_more_are_taken_out_and_no_row_comes_back() {
    for version in [2, 3] {
        let lake = Lake::new().await;
        with_deletes(&lake, version).await;
        // The first file is left as it is, and what applies to it stays.
        let others = Filter::Test(1, Test::GtEq(Datum::long(100)));
        let of_others = compact(&lake.table().await).filter(others).min_input_files(4);
        let report = of_others.remove_dangling_deletes(true).await.unwrap();
        assert_eq!(report.input.files, 4, "version {version}");
        let kept = lake.delete_files().await;
        assert_eq!((report.dangling_deletes, kept), (0, 2), "version {version}: {report}");
        assert_eq!(report.snapshot_ids.len(), 1, "nothing dangled, so nothing was committed");

        // Once they are older than all data, they go with any commit.
        compact(&lake.table().await).rewrite_all(true).await.unwrap();
        assert_eq!(lake.delete_files().await, 0, "version {version}");

        // Here they are as old as the last commit before the rewrite.
        let lake = Lake::new().await;
        let before = with_deletes(&lake, version).await;
        let anew = compact(&lake.table().await).rewrite_all(true).use_starting_sequence_number(false);
        let report = anew.await.unwrap();
        assert_eq!(report.dangling_deletes, 0, "not asked for");
        let left = lake.delete_files().await;
        assert!(left > 0, "version {version}");
        let report = compact(&lake.table().await).remove_dangling_deletes(true).await.unwrap();
        assert_eq!((report.input.files, report.dangling_deletes), (0, left), "version {version}");
        assert!(report.to_string().contains("dangling"), "{report}");
        assert_eq!(lake.delete_files().await, 0);
        let table = lake.table().await;
        let snapshot = table.core().metadata().current_snapshot().unwrap();
        assert_eq!(snapshot.summary().operation, Operation::Replace);
        let mut after = lake.ids().await;
        after.sort_unstable();
        assert_eq!(after, before, "version {version}");
        // What a run made dangle goes in the same run.
        let again = Lake::new().await;
        with_deletes(&again, version).await;
        let all = compact(&again.table().await).rewrite_all(true).remove_dangling_deletes(true);
        assert!(all.await.unwrap().dangling_deletes > 0, "version {version}");
        // Time travel still has them.
        let past = table.core().metadata().snapshot_by_id(snapshot.parent_snapshot_id().unwrap()).unwrap();
        let then = table.as_of(past.snapshot_id()).unwrap().dataframe().await.unwrap().count().await.unwrap();
        assert_eq!(then, before.len());
    }
}
