//! How far a scan trusts what others wrote about their files, and what it remembers of them.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use datafusion::common::stats::Precision;
use datafusion::physical_plan::joins::HashJoinExec;
use datafusion::physical_plan::{ExecutionPlan, collect};
use datafusion::prelude::{col, lit};
use iceberg::spec::{DataContentType, DataFileBuilder, DataFileFormat, Datum, NestedFieldRef, Struct};
use icefield_core::ErrorKind;
use icefield_core::evolve::asc;
use icefield_core::evolve::types::{double, long, optional, string};
use icefield_core::format::ContentFile;
use icefield_core::storage::Storage;
use icefield_engine::ops::DataFrameExt;
use icefield_engine::{Session, Table};
use icefield_testkit::{FaultyStore, OpKind};
use parquet::file::metadata::{ParquetMetaDataReader, ParquetMetaDataWriter};
use parquet::file::statistics::Statistics;

use crate::scan_orders::with_order;
use crate::scan_requests::pruned;
use crate::scan_support::{append, rows, session, text_rows, write_claiming, write_file};
use crate::write_support::{batch, data_files, longs};

fn some_longs(values: &[Option<i64>]) -> ArrayRef {
    Arc::new(Int64Array::from(values.to_vec()))
}

fn texts(values: impl IntoIterator<Item = String>) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(values))
}

/// A session over a store that counts, and the requests for data files since the store was reset.
fn counting() -> (Session, FaultyStore) {
    let store = FaultyStore::in_memory();
    let storage = Storage::new().with_store("memory://warehouse", Arc::new(store.clone())).unwrap();
    (Session::builder().parallelism(1).storage(storage).build().unwrap(), store)
}

fn reads_of_data(store: &FaultyStore) -> usize {
    let is_read = |kind: OpKind| matches!(kind, OpKind::Get | OpKind::GetRanges);
    store.ops().iter().filter(|op| op.path.contains("/data/") && is_read(op.kind)).count()
}

#[tokio::test]
async fn bounds_that_are_upside_down_hide_no_row() {
    let session = session();
    let table = session.create_table("ns.t", [optional("id", long())]).await.unwrap();
    let ids = batch(vec![("id", longs([10, 20, 30]))]);
    let file = write_claiming(&table, "a", &[ids], Struct::empty(), |metrics| {
        metrics.lower_bounds.insert(1, Datum::long(30_i64));
        metrics.upper_bounds.insert(1, Datum::long(10_i64));
    })
    .await;
    append(&table, vec![file]).await;
    for (query, expected) in [
        ("SELECT id FROM ns.t WHERE id = 20", vec!["20"]),
        ("SELECT id FROM ns.t WHERE id > 15 ORDER BY id", vec!["20", "30"]),
        ("SELECT id FROM ns.t WHERE id BETWEEN 5 AND 25 ORDER BY id", vec!["10", "20"]),
        ("SELECT id FROM ns.t ORDER BY id DESC LIMIT 1", vec!["30"]),
        ("SELECT min(id), max(id), count(*) FROM ns.t", vec!["10|30|3"]),
    ] {
        assert_eq!(rows(&session, query).await, expected, "{query}");
    }
}

#[tokio::test]
async fn least_and_greatest_values_come_from_files_or_entries_of_ours() {
    let (session, store) = counting();
    let columns = [optional("id", long()), optional("day", long()), optional("name", string())];
    let table = session.create_table("ns.t", columns).await.unwrap();
    let ids = |ids: [i64; 3]| {
        let names = texts(ids.iter().map(|id| format!("n{id}")));
        batch(vec![("id", longs(ids)), ("day", longs([7, 7, 7])), ("name", names)])
    };
    let own = session.read_batches(vec![ids([11, 12, 13])]).unwrap();
    own.append_to(&session, "ns.t").await.unwrap();
    store.reset();
    let query = "SELECT min(id), max(id), count(*), count(id), min(day) FROM ns.t";
    assert_eq!(rows(&session, query).await, ["11|13|3|3|7"]);
    assert_eq!(reads_of_data(&store), 0, "our writer's bounds are values of the file");

    // Bounds of another writer: values lie within them, and they need not be values.
    let file = write_claiming(&table, "a", &[ids([10, 15, 20])], Struct::empty(), |metrics| {
        metrics.lower_bounds.extend([(1, Datum::long(0_i64)), (2, Datum::long(0_i64))]);
        metrics.upper_bounds.extend([(1, Datum::long(1000_i64)), (2, Datum::long(1000_i64))]);
    })
    .await;
    append(&session.table("ns.t").await.unwrap(), vec![file]).await;
    for (query, expected) in [
        ("SELECT min(id), max(id), count(*), count(id), min(day) FROM ns.t", vec!["10|20|6|6|7"]),
        ("SELECT max(id) FROM ns.t WHERE id < 16", vec!["15"]),
        ("SELECT id FROM ns.t ORDER BY id DESC LIMIT 1", vec!["20"]),
        ("SELECT min(name), max(name) FROM ns.t", vec!["n10|n20"]),
    ] {
        assert_eq!(rows(&session, query).await, expected, "{query}");
    }
    store.reset();
    assert_eq!(rows(&session, "SELECT count(*), count(id) FROM ns.t").await, ["6|6"]);
    assert_eq!(rows(&session, "SELECT id FROM ns.t WHERE id > 1000").await, [""; 0]);
    assert_eq!(reads_of_data(&store), 0, "counts are from manifests, and loose bounds prune");
}

#[tokio::test]
async fn a_column_is_what_its_file_holds_though_its_bounds_meet() {
    let session = session();
    let table = session.create_table("ns.t", [optional("x", long())]).await.unwrap();
    let values = batch(vec![("x", longs([5, 6]))]);
    let file = write_claiming(&table, "a", &[values], Struct::empty(), |metrics| {
        metrics.lower_bounds.insert(1, Datum::long(5_i64));
        metrics.upper_bounds.insert(1, Datum::long(5_i64));
    })
    .await;
    append(&table, vec![file]).await;
    assert_eq!(rows(&session, "SELECT x FROM ns.t ORDER BY x").await, ["5", "6"]);
    assert_eq!(rows(&session, "SELECT min(x), max(x) FROM ns.t").await, ["5|6"]);
}

#[tokio::test]
async fn an_order_that_others_claim_is_not_taken_for_one() {
    let session = session();
    let create = session.create_table("ns.t", [optional("id", long())]).sort_by([asc("id")]);
    let mut table = create.await.unwrap();
    let order = table.core().metadata().default_sort_order_id() as i32;
    for (name, ids) in [("a", [30, 10, 20]), ("b", [60, 40, 50])] {
        let file = write_file(&table, name, &[batch(vec![("id", longs(ids))])], Struct::empty()).await;
        table = append(&table, vec![with_order(file, Some(order))]).await;
    }
    let all = ["10", "20", "30", "40", "50", "60"];
    assert_eq!(rows(&session, "SELECT id FROM ns.t ORDER BY id").await, all);
    assert_eq!(rows(&session, "SELECT id FROM ns.t ORDER BY id LIMIT 2").await, &all[..2]);
    assert_eq!(rows(&session, "SELECT id FROM ns.t WHERE id < 35 ORDER BY id").await, &all[..3]);
    let own = session.read_batches(vec![batch(vec![("id", longs([35, 5]))])]).unwrap();
    own.append_to(&session, "ns.t").await.unwrap();
    let merged = ["5", "10", "20", "30", "35", "40", "50", "60"];
    assert_eq!(rows(&session, "SELECT id FROM ns.t ORDER BY id").await, merged);
}

#[tokio::test]
async fn nulls_that_are_not_among_the_values_counted_are_still_some() {
    let session = session();
    let table = session.create_table("ns.t", [optional("x", long())]).await.unwrap();
    let values = batch(vec![("x", some_longs(&[Some(5), None, None, None]))]);
    let file = write_claiming(&table, "a", &[values], Struct::empty(), |metrics| {
        metrics.value_counts.insert(1, 1);
        metrics.null_value_counts.insert(1, 3);
    })
    .await;
    append(&table, vec![file]).await;
    let same = async || {
        for (query, expected) in [
            ("SELECT x FROM ns.t WHERE x = 5", vec!["5"]),
            ("SELECT x FROM ns.t WHERE x IS NOT NULL", vec!["5"]),
            ("SELECT count(*) FROM ns.t WHERE x IS NULL", vec!["3"]),
            ("SELECT count(x), count(*) FROM ns.t", vec!["1|4"]),
        ] {
            assert_eq!(rows(&session, query).await, expected, "{query}");
        }
    };
    same().await;
    let one = session.read_batches(vec![batch(vec![("x", longs([9]))])]).unwrap();
    let refused = one.overwrite(&session, "ns.t").filter(col("x").is_null()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidInput, "{refused}");
    same().await;
}

/// A file whose footer has no counts of NULLs, and no page index.
fn without_null_counts(file: &bytes::Bytes) -> Vec<u8> {
    let metadata = ParquetMetaDataReader::new().parse_and_finish(file).unwrap();
    let tail = file.len() - 8;
    let length = u32::from_le_bytes(file[tail..tail + 4].try_into().unwrap());
    let mut out = file[..tail - length as usize].to_vec();
    let mut builder = metadata.into_builder();
    let groups = builder.take_row_groups().into_iter().map(|group| {
        let mut group = group.into_builder();
        let columns = group.take_columns().into_iter().map(|column| {
            let Some(Statistics::Int64(of)) = column.statistics().cloned() else { panic!() };
            column
                .into_builder()
                .set_statistics(Statistics::int64(
                    of.min_opt().copied(),
                    of.max_opt().copied(),
                    None,
                    None,
                    false,
                ))
                .set_column_index_offset(None)
                .set_column_index_length(None)
                .set_offset_index_offset(None)
                .set_offset_index_length(None)
                .build()
                .unwrap()
        });
        let columns = columns.collect();
        group.set_column_metadata(columns).build().unwrap()
    });
    let metadata = builder.set_row_groups(groups.collect()).build();
    ParquetMetaDataWriter::new(&mut out, &metadata).finish().unwrap();
    out
}

#[tokio::test]
async fn nulls_that_a_footer_does_not_count_are_found() {
    let session = session();
    let table = session.create_table("ns.t", [optional("k", long())]).await.unwrap();
    // Row groups of 64 rows: the second has a NULL, the third is one row.
    let values = (0..129).map(|n| (n != 100).then_some(n));
    let keys: ArrayRef = Arc::new(values.collect::<Int64Array>());
    let whole = write_file(&table, "a", &[batch(vec![("k", keys)])], Struct::empty()).await;
    let storage = table.core().storage();
    let bytes = without_null_counts(&storage.read(whole.file.file_path()).await.unwrap());
    let location = whole.file.file_path().replace("a.parquet", "b.parquet");
    let size = bytes.len() as u64;
    storage.write(&location, bytes).await.unwrap();
    append(&table, vec![entry(location, 129, size)]).await;
    for (query, expected) in [
        ("SELECT count(*) FROM ns.t WHERE k IS NULL", vec!["1"]),
        ("SELECT k FROM ns.t WHERE k IS NULL OR k = 3 ORDER BY k", vec!["3", "NULL"]),
        ("SELECT count(k), count(*) FROM ns.t", vec!["128|129"]),
        ("SELECT k FROM ns.t ORDER BY k NULLS FIRST LIMIT 1", vec!["NULL"]),
        ("SELECT count(*) FROM ns.t WHERE k IS NOT DISTINCT FROM NULL", vec!["1"]),
        ("SELECT k FROM ns.t WHERE k IS NOT NULL AND k >= 128", vec!["128"]),
        ("SELECT count(*) FROM ns.t WHERE k < 10", vec!["10"]),
    ] {
        assert_eq!(rows(&session, query).await, expected, "{query}");
    }
}

/// The entry of a file of which nothing more is said.
fn entry(location: String, rows: u64, size: u64) -> ContentFile {
    let file = DataFileBuilder::default()
        .content(DataContentType::Data)
        .file_path(location)
        .file_format(DataFileFormat::Parquet)
        .partition(Struct::empty())
        .partition_spec_id(0)
        .record_count(rows)
        .file_size_in_bytes(size)
        .build()
        .unwrap();
    ContentFile { spec_id: 0, file }
}

fn numbers() -> RecordBatch {
    let x: ArrayRef = Arc::new(Float64Array::from(vec![1.0, f64::NAN, 3.0]));
    batch(vec![("id", longs([1, 2, 3])), ("x", x)])
}

#[tokio::test]
async fn nan_is_found_before_a_drop_though_footers_were_read_after_it() {
    let session = session();
    session.create_table("ns.t", [optional("id", long()), optional("x", double())]).await.unwrap();
    session.read_batches(vec![numbers()]).unwrap().append_to(&session, "ns.t").await.unwrap();
    let table = session.table("ns.t").await.unwrap();
    let before = table.core().metadata().current_snapshot_id().unwrap();
    table.update_schema().drop_column("x").await.unwrap();
    assert_eq!(rows(&session, "SELECT sum(id) FROM ns.t WHERE id > 0").await, ["6"]);
    for filter in ["x > 5", "x >= 5", "x <> 1 AND x <> 3", "NOT (x < 5)"] {
        let query = format!("SELECT id FROM ns.t FOR VERSION AS OF {before} WHERE {filter}");
        assert_eq!(rows(&session, &query).await, ["2"], "{filter}");
    }
}

#[tokio::test]
async fn tables_over_one_file_know_it_each_by_their_own_metadata() {
    let session = session();
    let one = session.create_table("ns.one", [optional("id", long()), optional("x", double())]);
    let one = one.await.unwrap();
    // Says that it counted NaN, and found none: so does not the other.
    let file = write_claiming(&one, "a", &[numbers()], Struct::empty(), |metrics| {
        metrics.nan_value_counts.insert(2, 0);
        metrics.lower_bounds.clear();
        metrics.upper_bounds.clear();
    })
    .await;
    let (location, size) = (file.file.file_path().to_string(), file.file.file_size_in_bytes());
    append(&one, vec![file]).await;
    // The same columns by other names.
    let two = session.create_table("ns.two", [optional("a", long()), optional("b", double())]);
    append(&two.await.unwrap(), vec![entry(location.clone(), 3, size)]).await;
    // A longer file than it is, says a third.
    let three = session.create_table("ns.three", [optional("a", long()), optional("b", double())]);
    append(&three.await.unwrap(), vec![entry(location, 3, size + 1)]).await;
    for _ in 0..2 {
        assert_eq!(rows(&session, "SELECT id FROM ns.one WHERE x = 3 OR id = 1").await, ["1", "3"]);
        assert_eq!(rows(&session, "SELECT a FROM ns.two WHERE b > 5").await, ["2"]);
        let three = session.sql("SELECT a FROM ns.three WHERE b > 5").await.unwrap().collect().await;
        assert!(three.is_err(), "a file that is shorter than said, whoever read it before");
    }
}

#[tokio::test]
async fn row_ids_are_those_of_the_snapshot_that_is_read() {
    let session = session();
    let create = session.create_table("ns.t", [optional("id", long())]);
    create.format_version(2).await.unwrap();
    let add = async |ids: [i64; 2]| {
        let frame = session.read_batches(vec![batch(vec![("id", longs(ids))])]).unwrap();
        frame.append_to(&session, "ns.t").await.unwrap().table
    };
    let table = add([1, 2]).await;
    let old = table.core().metadata().current_snapshot_id().unwrap();
    let ids = async |table: &Table| {
        let frame = table.dataframe_with_metadata_columns().await.unwrap();
        let frame = frame.filter(col("id").lt(lit(3))).unwrap();
        let frame = frame.select(vec![col("id"), col("_row_id").is_not_null()]).unwrap();
        let mut rows = text_rows(&frame.collect().await.unwrap());
        rows.sort();
        rows
    };
    assert_eq!(ids(&table).await, ["1|false", "2|false"]);
    let table = table.upgrade_format_version(3).await.unwrap();
    drop(table);
    let table = add([3, 4]).await;
    // The manifest was read, and is cached, without row ids: the newer snapshot gives it some.
    assert_eq!(ids(&table).await, ["1|true", "2|true"]);
    let query = format!("SELECT sum(id) FROM ns.t FOR VERSION AS OF {old}");
    assert_eq!(rows(&session, &query).await, ["3"]);
}

#[tokio::test]
async fn files_of_others_are_passed_over_by_text_once_the_first_rows_are_known() {
    let (session, store) = counting();
    let mut table = session.create_table("ns.t", [optional("s", string())]).await.unwrap();
    for n in (0..6).rev() {
        let names = texts((0..5).map(|i| format!("name {n}{i}")));
        let file = write_file(&table, &format!("f{n}"), &[batch(vec![("s", names)])], Struct::empty()).await;
        table = append(&table, vec![file]).await;
    }
    for (query, expected) in [
        ("SELECT s FROM ns.t ORDER BY s LIMIT 2", vec!["name 00", "name 01"]),
        ("SELECT s FROM ns.t ORDER BY s DESC LIMIT 2", vec!["name 54", "name 53"]),
    ] {
        store.reset();
        assert_eq!(rows(&session, query).await, expected, "{query}");
        assert_eq!(reads_of_data(&store), 1, "{query}: {:?}", store.ops());
    }
}

/// Entries of files that nobody reads, of these columns; each has all metrics.
fn entries(location: &str, files: i64, columns: i32, rows: u64, column_size: u64) -> Vec<ContentFile> {
    let of_file = |n: i64| {
        let ids = || 1..=columns;
        let file = DataFileBuilder::default()
            .content(DataContentType::Data)
            .file_path(format!("{location}/data/{n}.parquet"))
            .file_format(DataFileFormat::Parquet)
            .partition(Struct::empty())
            .partition_spec_id(0)
            .record_count(rows)
            .file_size_in_bytes(column_size * columns as u64)
            .column_sizes(ids().map(|id| (id, column_size)).collect())
            .value_counts(ids().map(|id| (id, rows)).collect())
            .null_value_counts(ids().map(|id| (id, 0)).collect())
            .lower_bounds(ids().map(|id| (id, Datum::long(n * 10))).collect())
            .upper_bounds(ids().map(|id| (id, Datum::long(n * 10 + 9))).collect())
            .build()
            .unwrap();
        ContentFile { spec_id: 0, file }
    };
    (0..files).map(of_file).collect()
}

fn long_columns(count: i32) -> Vec<NestedFieldRef> {
    (0..count).map(|n| optional(format!("c{n}"), long())).collect()
}

#[tokio::test]
async fn a_plan_holds_few_bytes_for_each_file_and_column_that_it_uses() {
    const FILES: usize = 500;
    let session = session();
    let table = session.create_table("ns.t", long_columns(100)).await.unwrap();
    let files = entries(table.core().metadata().location(), FILES as i64, 100, 10, 100);
    append(&table, files).await;
    let pool = session.context().runtime_env().memory_pool.clone();
    assert_eq!(pool.reserved(), 0);
    let held = async |query: &str| {
        let plan = session.sql(query).await.unwrap().create_physical_plan().await.unwrap();
        let held = pool.reserved();
        drop(plan);
        assert_eq!(pool.reserved(), 0, "what the plan held is given back: {query}");
        held
    };
    let count = held("SELECT count(*) FROM ns.t").await;
    assert_eq!(count, 0, "counts are known, and no file is read");
    let none = held("SELECT 1 FROM ns.t").await;
    assert!((FILES..FILES * 1000).contains(&none), "{none}");
    let two = held("SELECT c3 FROM ns.t WHERE c97 > 0").await;
    let all = held("SELECT * FROM ns.t").await;
    let a_column = (all - none) / 100 / FILES;
    assert!((24..40).contains(&a_column), "{a_column} bytes for a column of a file");
    assert!(two - none < 3 * FILES * a_column, "{two} bytes for two columns");

    // Of many columns of many files some have statistics: those that come first, that are filtered, that rows are sorted by.
    let many = session.create_table("ns.many", long_columns(100)).sort_by([asc("c70")]).await.unwrap();
    append(&many, entries(many.core().metadata().location(), 4 * FILES as i64, 100, 10, 100)).await;
    let plan = session.sql("SELECT * FROM ns.many WHERE c98 >= 0").await.unwrap();
    let plan = plan.create_physical_plan().await.unwrap();
    let mut scan = &plan;
    while let Some(input) = scan.children().into_iter().next() {
        scan = input;
    }
    let statistics = scan.partition_statistics(None).unwrap();
    let known = |at: &usize| statistics.column_statistics[*at].min_value != Precision::Absent;
    let known: Vec<usize> = (0..100).filter(known).collect();
    assert_eq!(known, (0..65).chain([70, 98]).collect::<Vec<_>>());

    let small = Session::builder().catalog(session.catalog().clone()).memory_budget(1 << 20).build().unwrap();
    let refused = small.sql("SELECT * FROM ns.t").await.unwrap().create_physical_plan().await.unwrap_err();
    assert!(refused.to_string().contains("name fewer columns"), "{refused}");
}

/// The join of a plan.
fn join_of(plan: &Arc<dyn ExecutionPlan>) -> Option<&HashJoinExec> {
    plan.downcast_ref::<HashJoinExec>().or_else(|| plan.children().into_iter().find_map(join_of))
}

#[tokio::test]
async fn a_join_holds_the_side_whose_columns_are_smaller_not_its_files() {
    let session = session();
    let facts = session.create_table("ns.facts", long_columns(2)).await.unwrap();
    // Ten million rows of two columns that compress well; a hundred thousand of wide rows, of which two columns are asked for.
    append(&facts, entries(facts.core().metadata().location(), 10, 2, 1_000_000, 1000)).await;
    let mut columns = vec![optional("id", long()), optional("name", string())];
    columns.extend((0..100).map(|n| optional(format!("c{n}"), string())));
    let wide = session.create_table("ns.wide", columns).await.unwrap();
    append(&wide, entries(wide.core().metadata().location(), 1, 102, 100_000, 400_000)).await;
    for query in [
        "SELECT w.name, f.c1 FROM ns.facts f JOIN ns.wide w ON f.c0 = w.id",
        "SELECT w.name, f.c1 FROM ns.wide w JOIN ns.facts f ON f.c0 = w.id",
    ] {
        let plan = session.sql(query).await.unwrap().create_physical_plan().await.unwrap();
        let join = join_of(&plan).expect("a hash join");
        let held = join.left().schema();
        assert!(held.column_with_name("name").is_some(), "{query} holds {held}");
    }
}

#[tokio::test]
async fn rows_with_positions_are_pruned_by_page_in_no_more_requests() {
    let (session, store) = counting();
    session.create_table("ns.t", [optional("k", long()), optional("noise", long())]).await.unwrap();
    let noise = (0..200_000_i64).map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15_u64 as i64).rotate_left(17));
    let sorted = batch(vec![("k", longs(0..200_000)), ("noise", longs(noise))]);
    session.read_batches(vec![sorted]).unwrap().append_to(&session, "ns.t").await.unwrap();
    let table = session.table("ns.t").await.unwrap();
    assert!(data_files(table.core()).await[0].file_size_in_bytes() > 1 << 20);
    let read = async |fresh: &Session, positions: bool| {
        let table = fresh.table("ns.t").await.unwrap();
        let frame = match positions {
            true => table.dataframe_with_metadata_columns().await.unwrap(),
            false => table.dataframe().await.unwrap(),
        };
        let frame = frame.filter(col("k").eq(lit(150_000))).unwrap();
        let columns = if positions { vec![col("noise"), col("_pos")] } else { vec![col("noise")] };
        let frame = frame.select(columns).unwrap();
        store.reset();
        let plan = frame.create_physical_plan().await.unwrap();
        let found = text_rows(&collect(plan.clone(), fresh.context().task_ctx()).await.unwrap());
        assert_eq!(found.len(), 1);
        assert!(!positions || found[0].ends_with("|150000"), "{found:?}");
        let (skipped, read) = pruned(&plan, "page_index_rows_pruned");
        assert!(skipped > 5 * read && read > 0, "{skipped} rows skipped by page, {read} read");
        reads_of_data(&store)
    };
    let fresh = || {
        let session = Session::builder().catalog(session.catalog().clone()).parallelism(1);
        session.build().unwrap()
    };
    let (plain, with_positions) = (fresh(), fresh());
    assert_eq!(read(&plain, false).await, read(&with_positions, true).await);
    // Footers and pages are in the caches of both, and a scan of one kind leaves the other's alone.
    assert_eq!(read(&plain, false).await, read(&with_positions, true).await);
    assert_eq!(read(&plain, true).await, read(&with_positions, false).await);
}
