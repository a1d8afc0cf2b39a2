//! What reading costs: which requests a query makes, and how much of its files it reads.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use datafusion::physical_plan::display::DisplayableExecutionPlan;
use datafusion::physical_plan::metrics::MetricValue;
use datafusion::physical_plan::{ExecutionPlan, collect};
use iceberg::spec::Struct;
use icefield_core::evolve::types::{long, optional, string};
use icefield_core::evolve::{asc, identity};
use icefield_core::storage::Storage;
use icefield_engine::ops::DataFrameExt;
use icefield_engine::{Session, Table};
use icefield_testkit::deletes::{commit_deletes, position_deletes, unpartitioned};
use icefield_testkit::{FaultyStore, OpKind};

use crate::scan_support::{append_exact, rows, session, text_rows, write_file};
use crate::write_support::{batch, data_files, longs};

/// A session over a store that counts.
fn counting() -> (Session, FaultyStore) {
    let store = FaultyStore::in_memory();
    let storage = Storage::new().with_store("memory://warehouse", Arc::new(store.clone())).unwrap();
    (Session::builder().parallelism(2).storage(storage).build().unwrap(), store)
}

async fn append(session: &Session, name: &str, rows: RecordBatch) -> Table {
    session.read_batches(vec![rows]).unwrap().append_to(session, name).await.unwrap().table
}

/// Numbers that do not compress.
fn noise(count: i64) -> impl Iterator<Item = i64> {
    (0..count).map(|n| {
        n.wrapping_mul(0x9e37_79b9_7f4a_7c15_u64 as i64).rotate_left(17).wrapping_mul(0x5851_f42d_4c95_7f2d)
    })
}

/// The requests for data files since the store was reset.
fn for_data(store: &FaultyStore) -> usize {
    store.ops().iter().filter(|op| op.path.contains("/data/")).count()
}

fn for_metadata(store: &FaultyStore) -> Vec<String> {
    let paths = store.ops().into_iter().filter(|op| !op.path.contains("/data/"));
    paths.map(|op| op.path.rsplit('.').take(2).collect::<Vec<_>>().join(".")).collect()
}

/// A query's rows, and its plan once it has run.
async fn run(session: &Session, query: &str) -> (Vec<String>, Arc<dyn ExecutionPlan>) {
    let plan = session.sql(query).await.unwrap().create_physical_plan().await.unwrap();
    let rows = collect(plan.clone(), session.context().task_ctx()).await.unwrap();
    (text_rows(&rows), plan)
}

/// What the scans of a plan pruned and what they kept, by one of their means.
pub(crate) fn pruned(plan: &Arc<dyn ExecutionPlan>, by: &str) -> (usize, usize) {
    let own = plan.metrics().into_iter().flat_map(|metrics| metrics.iter().cloned().collect::<Vec<_>>());
    let own = own.filter_map(|metric| match metric.value() {
        MetricValue::PruningMetrics { name, pruning_metrics } if name == by => {
            Some((pruning_metrics.pruned(), pruning_metrics.matched()))
        }
        _ => None,
    });
    let below = plan.children().into_iter().map(|input| pruned(input, by)).collect::<Vec<_>>();
    own.chain(below).fold((0, 0), |sum, (gone, left)| (sum.0 + gone, sum.1 + left))
}

fn bytes_scanned(plan: &Arc<dyn ExecutionPlan>) -> usize {
    let own = plan.metrics().and_then(|metrics| metrics.sum_by_name("bytes_scanned"));
    let own = own.map_or(0, |value| value.as_usize());
    own + plan.children().into_iter().map(bytes_scanned).sum::<usize>()
}

#[tokio::test]
async fn a_small_file_is_one_request_footer_and_rows_together() {
    let (session, store) = counting();
    session.create_table("ns.t", [optional("k", long()), optional("v", string())]).await.unwrap();
    let names: ArrayRef = Arc::new((0..5000).map(|n| Some(format!("n{}", n % 100))).collect::<StringArray>());
    for _ in 0..2 {
        append(&session, "ns.t", batch(vec![("k", longs(noise(5000))), ("v", names.clone())])).await;
    }
    store.reset();
    for query in [
        "SELECT count(*), count(DISTINCT k) FROM ns.t WHERE v = 'n7'",
        "SELECT count(*), count(DISTINCT k) FROM ns.t WHERE v = 'n8'",
        "SELECT count(k + 1), count(DISTINCT k) / 50 FROM ns.t WHERE k >= 0 OR k < 0",
    ] {
        store.reset();
        let found = rows(&session, query).await;
        assert!(["100|50", "10000|100"].contains(&found[0].as_str()), "{found:?}");
        assert_eq!(for_data(&store), 2, "one a file: {query}: {:?}", store.ops());
    }
}

#[tokio::test]
async fn a_small_file_with_deletes_is_one_request_beside_theirs() {
    let (session, store) = counting();
    session.create_table("ns.t", [optional("k", long())]).await.unwrap();
    let table = append(&session, "ns.t", batch(vec![("k", longs(0..5000))])).await;
    let file = data_files(table.core()).await.remove(0);
    let deleted: Vec<(&str, i64)> = (0..100).map(|row| (file.file_path(), row * 7)).collect();
    let deletes = position_deletes(table.core(), "d", &unpartitioned(), &deleted).await;
    commit_deletes(&**session.catalog(), table.core(), vec![deletes]).await;
    store.reset();
    assert_eq!(rows(&session, "SELECT count(k), min(k) FROM ns.t WHERE k % 7 = 0").await, ["615|700"]);
    assert_eq!(for_data(&store), 2, "{:?}", store.ops());
    // The deletes are in the session's cache.
    store.reset();
    assert_eq!(rows(&session, "SELECT count(k), min(k) FROM ns.t WHERE k % 5 = 0").await, ["980|5"]);
    assert_eq!(for_data(&store), 1, "{:?}", store.ops());
}

#[tokio::test]
async fn pages_that_came_with_the_footer_are_not_read_again() {
    let (session, store) = counting();
    session.create_table("ns.t", [optional("large", long()), optional("small", long())]).await.unwrap();
    let rows_of =
        batch(vec![("large", longs(noise(200_000))), ("small", longs((0..200_000).map(|n| n / 50_000)))]);
    let table = append(&session, "ns.t", rows_of).await;
    assert!(data_files(table.core()).await[0].file_size_in_bytes() > 1 << 20);
    for (query, requests) in [
        ("SELECT sum(small) FROM ns.t", 1),
        // The footer is in the session's cache.
        ("SELECT sum(small) FROM ns.t", 1),
        ("SELECT count(DISTINCT large) FROM ns.t", 1),
        // One for both columns.
        ("SELECT count(DISTINCT large), sum(small) FROM ns.t", 1),
    ] {
        store.reset();
        rows(&session, query).await;
        assert_eq!(for_data(&store), requests, "{query}: {:?}", store.ops());
    }
    let fresh = Session::builder().catalog(session.catalog().clone()).parallelism(2).build().unwrap();
    store.reset();
    rows(&fresh, "SELECT count(DISTINCT large), sum(small) FROM ns.t").await;
    assert_eq!(for_data(&store), 2, "the end, and what it lacks: {:?}", store.ops());
}

#[tokio::test]
async fn a_second_query_of_an_unchanged_table_reads_no_metadata() {
    let (session, store) = counting();
    let create = session.create_table("ns.t", [optional("k", long())]);
    create.property("commit.manifest-merge.enabled", "false").await.unwrap();
    for n in 0..3 {
        append(&session, "ns.t", batch(vec![("k", longs(n * 10..n * 10 + 10))])).await;
    }
    let query = "SELECT sum(k) FROM ns.t";
    assert_eq!(rows(&session, query).await, ["435"]);
    store.reset();
    assert_eq!(rows(&session, query).await, ["435"]);
    assert_eq!(for_metadata(&store), [""; 0], "{:?}", store.ops());
    assert_eq!(for_data(&store), 3, "their rows, no footers: {:?}", store.ops());
}

#[tokio::test]
async fn counts_and_extremes_are_read_from_metadata_where_nothing_is_deleted() {
    let (session, store) = counting();
    let columns = [optional("k", long()), optional("city", string())];
    session.create_table("ns.t", columns).partition_by([identity("city")]).await.unwrap();
    let cities: ArrayRef = Arc::new((0..90).map(|n| Some(["a", "b", "c"][n % 3])).collect::<StringArray>());
    let keys: ArrayRef = Arc::new(Int64Array::from_iter((0..90).map(|n| (n % 10 > 0).then_some(n))));
    let table = append(&session, "ns.t", batch(vec![("k", keys), ("city", cities)])).await;
    for (query, expected) in [
        ("SELECT count(*) FROM ns.t", "90"),
        ("SELECT count(*), count(k), min(k), max(k) FROM ns.t", "90|81|1|89"),
        ("SELECT count(*) FROM ns.t WHERE city = 'b'", "30"),
        ("SELECT count(*), count(k), min(k), max(k) FROM ns.t WHERE city IN ('b', 'x')", "30|27|1|88"),
        ("SELECT count(*) FROM ns.t WHERE city = 'b' AND city <> 'b'", "0"),
    ] {
        store.reset();
        assert_eq!(rows(&session, query).await, [expected], "{query}");
        assert_eq!(for_data(&store), 0, "{query}: {:?}", store.ops());
    }
    // A filter on rows needs rows.
    store.reset();
    assert_eq!(rows(&session, "SELECT count(*) FROM ns.t WHERE k < 50").await, ["45"]);
    assert!(for_data(&store) > 0);

    let file = data_files(table.core()).await.into_iter().find(|file| file.file_path().contains("city=b"));
    let file = file.unwrap();
    let of = (table.core().metadata().default_partition_spec_id(), file.partition().clone());
    let gone = [(file.file_path(), 0), (file.file_path(), 29)];
    let deletes = position_deletes(table.core(), "d", &of, &gone).await;
    commit_deletes(&**session.catalog(), table.core(), vec![deletes]).await;
    for (query, expected) in [
        ("SELECT count(*), count(k), min(k), max(k) FROM ns.t", "88|79|2|89"),
        ("SELECT count(*), count(k), min(k), max(k) FROM ns.t WHERE city = 'b'", "28|25|4|85"),
        ("SELECT count(*), count(k), min(k), max(k) FROM ns.t WHERE city = 'c'", "30|27|2|89"),
    ] {
        assert_eq!(rows(&session, query).await, [expected], "{query}");
    }
    store.reset();
    rows(&session, "SELECT count(*), min(k) FROM ns.t WHERE city = 'c'").await;
    assert_eq!(for_data(&store), 0, "of files without deletes: {:?}", store.ops());
    assert_eq!(store.count(OpKind::List), 0);
}

/// A table of one file of a hundred row groups, sorted by `k`.
async fn hundred_row_groups(session: &Session) -> Table {
    let columns = [optional("k", long()), optional("v", long())];
    let table = session.create_table("ns.t", columns).sort_by([asc("k")]).await.unwrap();
    let rows = batch(vec![("k", longs(0..6400)), ("v", longs(noise(6400)))]);
    let mut file = write_file(&table, "sorted", &[rows], Struct::empty()).await;
    file = crate::scan_orders::with_order(file, Some(1));
    append_exact(&table, vec![file]).await
}

#[tokio::test]
async fn a_point_of_a_sorted_key_is_looked_up_in_one_row_group() {
    let session = session();
    hundred_row_groups(&session).await;
    let (_, all) = run(&session, "SELECT k, v FROM ns.t WHERE v <> k").await;
    for (query, kept) in [
        ("SELECT v FROM ns.t WHERE k = 1234", 1),
        ("SELECT v FROM ns.t WHERE k IN (1234, 1240)", 1),
        ("SELECT v FROM ns.t WHERE k BETWEEN 1270 AND 1290", 2),
    ] {
        let (found, plan) = run(&session, query).await;
        assert!(!found.is_empty());
        assert_eq!(pruned(&plan, "row_groups_pruned_statistics"), (100 - kept, kept), "{query}");
        assert!(bytes_scanned(&plan) * 20 < bytes_scanned(&all), "{query}: {}", bytes_scanned(&plan));
    }
}

#[tokio::test]
async fn the_first_rows_of_a_sorted_file_are_read_without_the_others() {
    // With more partitions than files, DataFusion deals the batches out to filters, some ahead of what is asked for.
    let session = Session::builder().parallelism(1).build().unwrap();
    hundred_row_groups(&session).await;
    let (_, all) = run(&session, "SELECT k, v FROM ns.t WHERE v <> k").await;
    for (query, expected) in [
        ("SELECT k, v <> 5 FROM ns.t ORDER BY k LIMIT 2", ["0|true", "1|true"]),
        ("SELECT k, v <> 5 FROM ns.t WHERE k > 640 ORDER BY k LIMIT 2", ["641|true", "642|true"]),
    ] {
        let (found, plan) = run(&session, query).await;
        assert_eq!(found, expected, "{query}");
        let shown = DisplayableExecutionPlan::with_metrics(&*plan).indent(false).to_string();
        assert!(bytes_scanned(&plan) * 5 < bytes_scanned(&all), "{query}: {shown}");
    }
}

#[tokio::test]
async fn the_last_rows_of_a_sorted_table_are_read_without_the_files_that_come_first() {
    let (session, store) = counting();
    let columns = [optional("k", long()), optional("v", long())];
    session.create_table("ns.t", columns).sort_by([asc("k")]).await.unwrap();
    for n in 0..20 {
        let rows = batch(vec![("k", longs(n * 100..n * 100 + 120)), ("v", longs(noise(120)))]);
        append(&session, "ns.t", rows).await;
    }
    for (query, expected) in [
        ("SELECT k, v <> 5 FROM ns.t ORDER BY k LIMIT 2", ["0|true", "1|true"]),
        ("SELECT k, v <> 5 FROM ns.t ORDER BY k DESC LIMIT 2", ["2019|true", "2018|true"]),
    ] {
        store.reset();
        assert_eq!(rows(&session, query).await, expected, "{query}");
        assert!(for_data(&store) <= 6, "{query}: {} of 20 files", for_data(&store));
    }
}

#[tokio::test]
async fn bloom_filters_find_a_value_that_bounds_do_not_whatever_its_column_is_called() {
    let session = session();
    let columns = [optional("id", string()), optional("n", long())];
    let create = session.create_table("ns.t", columns);
    let create = create.property("write.parquet.bloom-filter-enabled.column.id", "true");
    let table = create.property("write.parquet.row-group-size-bytes", "20000").await.unwrap();
    let id = |n: i64| format!("{:016x}", n as u64);
    let ids: Vec<i64> = noise(20_000).collect();
    let batches = ids.chunks(1000).zip(0..).map(|(ids, at)| {
        let texts: ArrayRef = Arc::new(ids.iter().map(|n| Some(id(*n))).collect::<StringArray>());
        batch(vec![("id", texts), ("n", longs(at * 1000..(at + 1) * 1000))])
    });
    let frame = session.read_batches(batches.collect::<Vec<_>>()).unwrap();
    frame.append_to(&session, "ns.t").await.unwrap();
    let wanted = id(noise(20_000).nth(777).unwrap());
    let missing = id(noise(30_000).last().unwrap());
    let look_up = async |column: &str, id: &str| {
        let (found, plan) = run(&session, &format!("SELECT n FROM ns.t WHERE {column} = '{id}'")).await;
        (found, pruned(&plan, "row_groups_pruned_bloom_filter"))
    };
    for column in ["id", "key"] {
        if column == "key" {
            table.update_schema().rename_column("id", "key").add_column("id", string()).await.unwrap();
        }
        let (found, (gone, left)) = look_up(column, &wanted).await;
        assert_eq!(found, ["777"]);
        assert!(gone > 5 && left <= 2, "{column}: {gone} row groups pruned, {left} left");
        let (found, (gone, left)) = look_up(column, &missing).await;
        assert!(found.is_empty() && gone > 5 && left <= 1, "{column}: {gone} pruned, {left} left");
    }
    // The new column of the old name has nothing to do with the filters in the file.
    assert!(rows(&session, &format!("SELECT n FROM ns.t WHERE id = '{wanted}'")).await.is_empty());
    assert_eq!(rows(&session, "SELECT count(*) FROM ns.t WHERE id IS NULL").await, ["20000"]);
}
