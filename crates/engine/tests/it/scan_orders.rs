//! Sorted tables: a query that asks for their order gets it without a sort, and never rows in another order.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, Date32Array, Decimal128Array, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use arrow::compute::{SortColumn, SortOptions, concat_batches, lexsort_to_indices, take_record_batch};
use datafusion::datasource::physical_plan::FileScanConfig;
use datafusion::datasource::source::DataSourceExec;
use datafusion::physical_plan::{ExecutionPlan, displayable};
use iceberg::spec::{FormatVersion, Struct};
use icefield_core::AsOf;
use icefield_core::evolve::types::{date, decimal, double, int, long, optional, required, string, timestamp};
use icefield_core::evolve::{SortTerm, asc, desc};
use icefield_core::format::ContentFile;
use icefield_engine::ops::DataFrameExt;
use icefield_engine::{Session, Table};
use icefield_testkit::deletes::{
    commit_deletes, deletion_vectors, equality_deletes, position_deletes, unpartitioned,
};
use icefield_testkit::{everything_schema, reference_read};

use crate::scan_support::{rows, session, text_rows, write_file};
use crate::write_support::{batch, data_files, longs, random};

async fn plan(session: &Session, query: &str) -> String {
    let plan = session.sql(query).await.unwrap().create_physical_plan().await.unwrap();
    displayable(&*plan).indent(false).to_string()
}

/// Whether a query sorts.
async fn sorts(session: &Session, query: &str) -> bool {
    plan(session, query).await.contains("SortExec")
}

async fn append(session: &Session, name: &str, rows: RecordBatch) -> Table {
    let frame = session.read_batches(vec![rows]).unwrap();
    frame.append_to(session, name).await.unwrap().table
}

fn texts(values: impl IntoIterator<Item = Option<String>>) -> ArrayRef {
    Arc::new(values.into_iter().collect::<StringArray>())
}

/// Keys `keys` in some other order, each with a name.
fn keyed(keys: std::ops::Range<i64>) -> RecordBatch {
    let mut keys: Vec<i64> = keys.collect();
    keys.sort_by_key(|key| key * 7 % 11);
    let names = texts(keys.iter().map(|key| Some(format!("n{}", key % 5))));
    batch(vec![("k", longs(keys)), ("v", names)])
}

/// A table `ns.t` of `k` and `v`, sorted by `order`, with an append for each range of keys.
async fn sorted_table(
    session: &Session,
    order: impl IntoIterator<Item = SortTerm>,
    appends: &[std::ops::Range<i64>],
) -> Table {
    let columns = [optional("k", long()), optional("v", string())];
    let mut table = session.create_table("ns.t", columns).sort_by(order).await.unwrap();
    for keys in appends {
        table = append(session, "ns.t", keyed(keys.clone())).await;
    }
    table
}

fn first(count: i64, of: std::ops::Range<i64>) -> Vec<String> {
    of.take(count as usize).map(|key| key.to_string()).collect()
}

#[tokio::test]
async fn a_table_is_read_in_its_order_without_a_sort() {
    let session = session();
    let table = sorted_table(&session, [asc("k")], &[200..300, 0..100, 100..200]).await;
    assert!(data_files(table.core()).await.iter().all(|file| file.sort_order_id() == Some(1)));
    for query in [
        "SELECT k FROM ns.t ORDER BY k",
        "SELECT k FROM ns.t ORDER BY k NULLS FIRST",
        "SELECT k FROM ns.t WHERE v >= 'n' ORDER BY k",
        "SELECT k FROM (SELECT v, k AS k FROM ns.t) ORDER BY k",
    ] {
        assert!(!sorts(&session, query).await, "{query}: {}", plan(&session, query).await);
        assert_eq!(rows(&session, query).await, first(300, 0..300), "{query}");
    }
    let running = "SELECT k, count(*) OVER (ORDER BY k) FROM ns.t WHERE k < 3";
    assert!(!sorts(&session, running).await);
    assert_eq!(rows(&session, running).await, ["0|1", "1|2", "2|3"]);
    // What the order does not tell is sorted.
    for query in [
        "SELECT k FROM ns.t ORDER BY v, k",
        "SELECT k FROM ns.t ORDER BY k DESC",
        "SELECT k FROM ns.t ORDER BY k, v",
        "SELECT k FROM ns.t ORDER BY abs(k)",
    ] {
        assert!(sorts(&session, query).await, "{query}");
    }
    let last = rows(&session, "SELECT k FROM ns.t ORDER BY k DESC LIMIT 3").await;
    assert_eq!(last, ["299", "298", "297"]);
}

/// A declared order keeps the partitions of a scan from sharing their files, so it is declared only for who wants it.
#[tokio::test]
async fn queries_that_want_no_order_are_planned_as_those_of_an_unsorted_table() {
    let session = session();
    sorted_table(&session, [asc("k")], &[0..100, 100..200, 150..300]).await;
    for query in [
        "SELECT k FROM ns.t",
        "SELECT k, count(*) FROM ns.t GROUP BY k",
        "SELECT count(*) FROM ns.t AS a JOIN ns.t AS b ON a.k = b.k",
        "SELECT k FROM ns.t WHERE v = 'n1'",
        "SELECT v, count(*) OVER (PARTITION BY v ORDER BY k) FROM ns.t",
    ] {
        let plan = plan(&session, query).await;
        assert!(!plan.contains("output_ordering"), "{query}: {plan}");
    }
    let plan = plan(&session, "SELECT k FROM ns.t").await;
    assert!(plan.contains("2 groups"), "{plan}");
}

#[tokio::test]
async fn files_that_overlap_are_merged_until_there_are_too_many() {
    let session = session();
    let appends: Vec<_> = (0..8).map(|n| n * 10..n * 10 + 100).collect();
    sorted_table(&session, [asc("k")], &appends).await;
    let mut expected: Vec<i64> = appends.iter().cloned().flatten().collect();
    expected.sort_unstable();
    let expected: Vec<String> = expected.iter().map(i64::to_string).collect();
    for query in ["SELECT k FROM ns.t ORDER BY k", "SELECT k FROM ns.t ORDER BY k LIMIT 35"] {
        let plan = plan(&session, query).await;
        assert!(plan.contains("SortPreservingMergeExec") && !plan.contains("SortExec"), "{plan}");
        assert!(plan.contains("8 groups"), "{plan}");
        let found = rows(&session, query).await;
        assert_eq!(found, expected[..found.len()], "{query}");
    }
    assert_eq!(rows(&session, "SELECT k FROM ns.t ORDER BY k LIMIT 35").await.len(), 35);

    append(&session, "ns.t", keyed(0..500)).await;
    let plan = plan(&session, "SELECT k FROM ns.t ORDER BY k").await;
    assert!(plan.contains("SortExec"), "nine at once are sorted: {plan}");
    let found = rows(&session, "SELECT k FROM ns.t WHERE k >= 498 OR k < 1 ORDER BY k").await;
    assert_eq!(found, ["0", "0", "498", "499"]);
}

/// Whether the scans of a plan let no partition take another's files.
fn keeps_order(plan: &Arc<dyn ExecutionPlan>) -> bool {
    match plan.downcast_ref::<DataSourceExec>() {
        Some(scan) => scan.data_source().downcast_ref::<FileScanConfig>().unwrap().preserve_order,
        None => plan.children().into_iter().all(keeps_order),
    }
}

/// Partitions of a merge with a limit may not share files, whatever the rule that pushed the limit made of it.
#[tokio::test]
async fn a_limit_over_a_merge_keeps_the_order_of_each_of_its_inputs() {
    let session = session();
    // Two chains of four files.
    let appends: Vec<_> = (0..8).map(|n| n * 50..n * 50 + 75).collect();
    sorted_table(&session, [asc("k")], &appends).await;
    let mut expected: Vec<i64> = appends.iter().cloned().flatten().collect();
    expected.sort_unstable();
    let expected: Vec<String> = expected.iter().map(i64::to_string).collect();
    for limit in [1, 80, 299, 555] {
        for filter in ["", "WHERE k >= 0 AND v > 'm'"] {
            let query = format!("SELECT k FROM ns.t {filter} ORDER BY k LIMIT {limit}");
            assert!(!sorts(&session, &query).await);
            let plan = session.sql(&query).await.unwrap().create_physical_plan().await.unwrap();
            assert!(keeps_order(&plan), "{query}");
            for _ in 0..4 {
                assert_eq!(rows(&session, &query).await, expected[..limit], "{query}");
            }
        }
    }
}

#[tokio::test]
async fn files_meet_in_one_value_only_where_no_later_key_can_tell_them_apart() {
    let session = session();
    let columns = [optional("k", long()), optional("v", long())];
    session.create_table("ns.t", columns).sort_by([asc("k"), desc("v")]).await.unwrap();
    // Each file ends with the value of `k` that the next one begins with.
    for n in 0..4_i64 {
        let keys: Vec<i64> = (0..20).map(|i| n * 10 + i / 2).chain([(n + 1) * 10]).collect();
        let values = keys.iter().enumerate().map(|(i, key)| key * 13 % 7 + i as i64 % 3);
        let values = longs(values.collect::<Vec<_>>());
        append(&session, "ns.t", batch(vec![("k", longs(keys)), ("v", values)])).await;
    }
    let by_one = plan(&session, "SELECT k FROM ns.t ORDER BY k LIMIT 100").await;
    assert!(by_one.contains("1 group"), "{by_one}");
    let query = "SELECT k, v FROM ns.t ORDER BY k, v DESC LIMIT 100";
    let by_two = plan(&session, query).await;
    assert!(by_two.contains("2 groups") && !by_two.contains("SortExec"), "{by_two}");
    let found = rows(&session, query).await;
    let mut pairs: Vec<(i64, i64)> = found
        .iter()
        .map(|row| row.split_once('|').unwrap())
        .map(|(k, v)| (k.parse().unwrap(), -v.parse::<i64>().unwrap()))
        .collect();
    assert!(pairs.is_sorted(), "{found:?}");
    pairs.dedup();
    assert_eq!(found.len(), 84);
}

#[tokio::test]
async fn nulls_lie_where_the_order_says_and_keep_files_apart() {
    let session = session();
    let columns = || [optional("k", long()), optional("v", string())];
    let with_null = |keys: std::ops::Range<i64>| {
        let rows = keyed(keys);
        let null: ArrayRef = Arc::new(Int64Array::from(vec![None, None]));
        let nulls = batch(vec![("k", null), ("v", texts([Some("null".to_string()), None]))]);
        concat_batches(&rows.schema(), [&rows, &nulls]).unwrap()
    };
    for (name, order, matching, other) in [
        ("ns.first", asc("k"), "NULLS FIRST", "NULLS LAST"),
        ("ns.last", asc("k").nulls_last(), "NULLS LAST", "NULLS FIRST"),
    ] {
        session.create_table(name, columns()).sort_by([order]).await.unwrap();
        for keys in [0..50, 50..100, 100..150] {
            append(&session, name, with_null(keys)).await;
        }
        let all = first(150, 0..150);
        let nulls = vec!["NULL".to_string(); 6];
        for order in [matching, other] {
            let query = format!("SELECT k FROM {name} ORDER BY k {order} LIMIT 1000");
            let plan = plan(&session, &query).await;
            assert_eq!(plan.contains("SortExec"), order == other, "{name} {order}: {plan}");
            // One after the other they would have NULLs in the middle.
            assert!(order == other || plan.contains("3 groups"), "{plan}");
            let expected = match order {
                "NULLS FIRST" => [nulls.clone(), all.clone()].concat(),
                _ => [all.clone(), nulls.clone()].concat(),
            };
            assert_eq!(rows(&session, &query).await, expected, "{name} {order}");
        }
        // Without NULLs among what is read, both are the same order; a file of NULLs alone has no bounds.
        let nulls: ArrayRef = Arc::new(Int64Array::from(vec![None; 3]));
        append(&session, name, batch(vec![("k", nulls)])).await;
        let query = format!("SELECT count(*) FROM (SELECT k FROM {name} ORDER BY k {matching})");
        assert_eq!(rows(&session, &query).await, ["159"]);
        let query = format!("SELECT k FROM {name} ORDER BY k {matching}");
        assert!(!sorts(&session, &query).await);
        let found = rows(&session, &query).await;
        let nulls = found.iter().filter(|key| *key == "NULL").count();
        assert_eq!(nulls, 9);
        let ends = if matching == "NULLS FIRST" { &found[..9] } else { &found[150..] };
        assert!(ends.iter().all(|key| key == "NULL"), "{found:?}");
    }
}

#[tokio::test]
async fn only_what_every_engine_sorts_alike_is_an_order() {
    let session = session();
    let schema = everything_schema(FormatVersion::V3);
    let names: Vec<String> = schema.as_struct().fields().iter().map(|field| field.name.clone()).collect();
    let mut ordered = Vec::new();
    for name in names.iter().filter(|name| name.starts_with("t_")) {
        let table = format!("ns.by_{name}");
        session
            .create_table(&table, schema.clone())
            .format_version(3)
            .sort_by([asc(name.as_str())])
            .await
            .unwrap();
        let rows_of = random(5, &schema, 1, 200).remove(0);
        append(&session, &table, rows_of).await;
        let query = format!("SELECT {name} FROM {table} ORDER BY {name} NULLS FIRST");
        if !sorts(&session, &query).await {
            ordered.push(name.as_str());
        }
    }
    ordered.sort_unstable();
    let expected = [
        "t_boolean",
        "t_date",
        "t_decimal18",
        "t_decimal38",
        "t_decimal9",
        "t_int",
        "t_long",
        "t_string",
        "t_time",
        "t_timestamp",
        "t_timestamp_ns",
        "t_timestamptz",
        "t_timestamptz_ns",
    ];
    assert_eq!(ordered, expected);
}

#[tokio::test]
async fn long_texts_are_told_apart_by_no_more_than_their_bounds() {
    let session = session();
    session.create_table("ns.t", [optional("v", string())]).sort_by([asc("v")]).await.unwrap();
    // Bounds keep sixteen characters: the first two files seem to overlap, the third does not.
    let common = "x".repeat(40);
    for tails in [["a", "b"], ["c", "\u{10ffff}"], ["\u{ffff}", "d"]] {
        let lead = if tails[1] == "d" { "y" } else { "" };
        let texts = texts(tails.map(|tail| Some(format!("{lead}{common}{tail}"))));
        append(&session, "ns.t", batch(vec![("v", texts)])).await;
    }
    let query = "SELECT v FROM ns.t ORDER BY v LIMIT 10";
    let plan = plan(&session, query).await;
    assert!(plan.contains("2 groups") && !plan.contains("SortExec"), "{plan}");
    let found = rows(&session, query).await;
    assert!(found.is_sorted() && found.len() == 6, "{found:?}");
}

#[tokio::test]
async fn files_without_an_order_or_of_an_unknown_one_are_sorted() {
    let session = session();
    let table = sorted_table(&session, [asc("k")], std::slice::from_ref(&(0..100))).await;
    assert!(!sorts(&session, "SELECT k FROM ns.t ORDER BY k").await);
    for id in [None, Some(0), Some(7)] {
        let name = format!("other-{id:?}");
        let file = write_file(&table, &name, &[keyed(100..200)], Struct::empty()).await;
        let file = with_order(file, id);
        let table = crate::scan_support::append(&session.table("ns.t").await.unwrap(), vec![file]).await;
        let query = "SELECT k FROM ns.t ORDER BY k";
        assert!(sorts(&session, query).await, "{id:?}");
        let found: Vec<i64> = rows(&session, query).await.iter().map(|key| key.parse().unwrap()).collect();
        assert!(found.is_sorted() && found.len() == 200, "{id:?}");
        let added = data_files(table.core()).await;
        let added = added.iter().find(|file| file.file_path().contains("other")).unwrap();
        table.delete_files([added.file_path()]).await.unwrap();
    }
}

/// The same file, said to be sorted by another order.
pub(crate) fn with_order(file: ContentFile, id: Option<i32>) -> ContentFile {
    let of = file.file;
    let mut builder = iceberg::spec::DataFileBuilder::default();
    builder
        .content(of.content_type())
        .file_path(of.file_path().to_string())
        .file_format(of.file_format())
        .partition(of.partition().clone())
        .partition_spec_id(file.spec_id)
        .record_count(of.record_count())
        .file_size_in_bytes(of.file_size_in_bytes())
        .value_counts(of.value_counts().clone())
        .null_value_counts(of.null_value_counts().clone())
        .lower_bounds(of.lower_bounds().clone())
        .upper_bounds(of.upper_bounds().clone());
    if let Some(id) = id {
        builder.sort_order_id(id);
    }
    ContentFile { spec_id: file.spec_id, file: builder.build().unwrap() }
}

#[tokio::test]
async fn an_order_that_evolves_is_what_the_old_and_the_new_have_in_common() {
    let session = session();
    let columns = [required("k", int()), optional("v", string())];
    let table = session.create_table("ns.t", columns).sort_by([asc("k"), asc("v")]).await.unwrap();
    let ints = |keys: std::ops::Range<i32>| {
        let values = texts(keys.clone().map(|key| Some(format!("v{}", key % 3))));
        batch(vec![("k", Arc::new(Int32Array::from_iter_values(keys.rev())) as ArrayRef), ("v", values)])
    };
    append(&session, "ns.t", ints(0..50)).await;
    let query = "SELECT number FROM ns.t ORDER BY number";
    let evolve = table.update_schema().rename_column("k", "number").promote_column("number", long());
    let table = evolve.add_column("w", long()).await.unwrap();
    assert!(!sorts(&session, query).await, "renamed and promoted");
    let by_both = "SELECT number, v FROM ns.t ORDER BY number NULLS FIRST, v NULLS FIRST";
    assert!(!sorts(&session, by_both).await);

    let table = table.update_sort_order([asc("number"), desc("w"), asc("v")]).await.unwrap();
    let longer = |keys: std::ops::Range<i64>| {
        let count = (keys.end - keys.start) as usize;
        let w: ArrayRef =
            Arc::new(Int64Array::from_iter((0..count).map(|n| (n % 4 > 0).then_some(n as i64))));
        let v = texts((0..count).map(|_| Some("same".to_string())));
        batch(vec![("number", longs(keys.rev())), ("v", v), ("w", w)])
    };
    append(&session, "ns.t", longer(25..75)).await;
    assert!(!sorts(&session, query).await, "both begin with the number");
    assert!(sorts(&session, by_both).await);
    let expected: Vec<i64> = {
        let mut all: Vec<i64> = (0..50).chain(25..75).collect();
        all.sort_unstable();
        all
    };
    let found = rows(&session, query).await;
    assert_eq!(found, expected.iter().map(i64::to_string).collect::<Vec<_>>());

    let table = table.update_sort_order([desc("number")]).await.unwrap();
    append(&session, "ns.t", longer(200..210)).await;
    assert!(sorts(&session, query).await, "nothing in common");
    let found = rows(&session, query).await;
    assert!(found.len() == 110 && found[..4] == ["0", "1", "2", "3"], "{found:?}");
    // Files of the new order alone.
    let only = "SELECT number FROM ns.t WHERE number >= 200 ORDER BY number DESC";
    assert!(!sorts(&session, only).await, "{}", plan(&session, only).await);
    table.update_schema().drop_column("v").await.unwrap();
    assert_eq!(rows(&session, query).await.len(), 110);
}

#[tokio::test]
async fn deletes_of_every_kind_leave_the_order() {
    let session = session();
    let table = sorted_table(&session, [asc("k")], &[0..100, 80..180]).await;
    let table = table.upgrade_format_version(2).await.unwrap_or(table);
    let paths: Vec<String> =
        data_files(table.core()).await.iter().map(|file| file.file_path().to_string()).collect();
    let none = unpartitioned();
    let positions: Vec<(&str, i64)> = (0..30).map(|n| (paths[0].as_str(), n * 3)).collect();
    let by_position = position_deletes(table.core(), "d1", &none, &positions).await;
    let keys = batch(vec![("k", longs([5, 90, 91, 150]))]);
    let by_key = equality_deletes(table.core(), "d2", &none, &[1], &[("k", 1)], &keys).await;
    let catalog = session.catalog().clone();
    let core = commit_deletes(&*catalog, table.core(), vec![by_position, by_key]).await;
    let plan = plan(&session, "SELECT k, v FROM ns.t ORDER BY k").await;
    assert!(plan.contains("EqualityDeleteExec") && !plan.contains("SortExec"), "{plan}");
    let mut expected = text_rows(&reference_read(&core, &AsOf::Current).await);
    expected.sort_by_key(|row| row.split('|').next().unwrap().parse::<i64>().unwrap());
    let keys = |rows: &[String]| -> Vec<String> {
        rows.iter().map(|row| row.split('|').next().unwrap().to_string()).collect()
    };
    for limit in [1, 40, 10_000] {
        let found = rows(&session, &format!("SELECT k, v FROM ns.t ORDER BY k LIMIT {limit}")).await;
        assert_eq!(keys(&found), keys(&expected[..expected.len().min(limit)]));
    }

    let table = session.table("ns.t").await.unwrap().upgrade_format_version(3).await.unwrap();
    let vectors = deletion_vectors(table.core(), "v", &none, &[(&paths[1], &[0, 1, 2, 50, 99])]).await;
    let core = commit_deletes(&*catalog, table.core(), vectors).await;
    let mut expected = keys(&text_rows(&reference_read(&core, &AsOf::Current).await));
    expected.sort_by_key(|key| key.parse::<i64>().unwrap());
    assert_eq!(rows(&session, "SELECT k FROM ns.t ORDER BY k").await, expected);
}

/// Chance without a clock.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }

    fn one_in(&mut self, sides: u64) -> bool {
        self.roll(sides) == 0
    }
}

const COLUMNS: [&str; 6] = ["i", "s", "d", "t", "e", "f"];

/// Rows whose values repeat, overlap with other appends', and are NULL now and then.
fn some_rows(dice: &mut Dice, long_ids: bool) -> RecordBatch {
    let count = 1 + dice.roll(60) as usize;
    let (base, nulls) = (dice.roll(5) as i64 * 10, dice.one_in(2));
    let mut numbers = |spread: u64| -> Vec<Option<i64>> {
        (0..count)
            .map(|_| {
                let value = base + dice.roll(spread) as i64 - 5;
                (!(nulls && dice.one_in(9))).then_some(value)
            })
            .collect()
    };
    let (i, s, d, t, e, f) = (numbers(6), numbers(12), numbers(9), numbers(15), numbers(3), numbers(4));
    let text = |n: i64| match n % 4 {
        0 => format!("{}{n}", "common to many of them ".repeat(2)),
        1 => format!("\u{fffd}{n}"),
        2 => format!("\u{1f600}{n}"),
        _ => String::new(),
    };
    let i: ArrayRef = match long_ids {
        true => Arc::new(i.into_iter().collect::<Int64Array>()),
        false => Arc::new(i.into_iter().map(|i| i.map(|i| i as i32)).collect::<Int32Array>()),
    };
    let cents: Decimal128Array = d.into_iter().map(|d| d.map(i128::from)).collect();
    let floats =
        f.into_iter().map(|f| f.map(|f| [f64::NAN, -0.0, 0.0, f as f64][(f.rem_euclid(4)) as usize]));
    batch(vec![
        ("i", i),
        ("s", texts(s.into_iter().map(|s| s.map(text)))),
        ("d", Arc::new(cents.with_precision_and_scale(9, 2).unwrap())),
        ("t", Arc::new(t.into_iter().map(|t| t.map(|t| t - 20)).collect::<TimestampMicrosecondArray>())),
        ("e", Arc::new(e.into_iter().map(|e| e.map(|e| e as i32 - 10)).collect::<Date32Array>())),
        ("f", Arc::new(floats.collect::<Float64Array>())),
    ])
}

fn some_order(dice: &mut Dice) -> Vec<SortTerm> {
    let mut columns = COLUMNS.to_vec();
    (0..1 + dice.roll(3))
        .map(|_| {
            let column = columns.remove(dice.roll(columns.len() as u64) as usize);
            let term = if dice.one_in(3) { desc(column) } else { asc(column) };
            if dice.one_in(2) { term.nulls_first() } else { term.nulls_last() }
        })
        .collect()
}

/// What is asked: the table's own order or part of it, mostly.
fn some_request(dice: &mut Dice, table: &Table) -> Vec<(String, SortOptions)> {
    let metadata = table.core().metadata();
    let own = metadata.default_sort_order().fields.iter().map(|field| {
        let column = table.core().schema().field_by_id(field.source_id).unwrap().name.clone();
        let descending = field.direction == iceberg::spec::SortDirection::Descending;
        (column, SortOptions { descending, nulls_first: field.null_order == iceberg::spec::NullOrder::First })
    });
    let mut request: Vec<_> = own.take(1 + dice.roll(3) as usize).collect();
    if dice.one_in(4) {
        request.iter_mut().for_each(|(_, options)| options.nulls_first = !options.nulls_first);
    }
    if dice.one_in(6) {
        request.iter_mut().for_each(|(_, options)| options.descending = !options.descending);
    }
    let other = COLUMNS[dice.roll(6) as usize].to_string();
    if dice.one_in(6) && request.iter().all(|(column, _)| *column != other) {
        request.push((other, SortOptions::default()));
    }
    request
}

/// The columns of the request, sorted by Arrow's comparison rather than by DataFusion's.
fn by_hand(rows: &[RecordBatch], request: &[(String, SortOptions)]) -> Vec<String> {
    let all = concat_batches(&rows[0].schema(), rows).unwrap();
    let columns: Vec<SortColumn> = request
        .iter()
        .map(|(column, options)| SortColumn {
            values: all.column_by_name(column).unwrap().clone(),
            options: Some(*options),
        })
        .collect();
    let sorted = take_record_batch(&all, &lexsort_to_indices(&columns, None).unwrap()).unwrap();
    let wanted: Vec<usize> =
        request.iter().map(|(column, _)| sorted.schema().index_of(column).unwrap()).collect();
    text_rows(&[sorted.project(&wanted).unwrap()])
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_sorted_table_went_through_its_rows_come_in_the_order_asked_for() {
    let (mut unsorted, mut asked) = (0, 0);
    for seed in 0..8 {
        let mut dice = Dice(seed * 7919 + 1);
        let session = Session::builder().parallelism(1 + dice.roll(4) as usize).build().unwrap();
        let columns = [
            optional("i", int()),
            optional("s", string()),
            optional("d", decimal(9, 2)),
            optional("t", timestamp()),
            optional("e", date()),
            optional("f", double()),
        ];
        let order = some_order(&mut dice);
        let mut table = session.create_table("ns.t", columns).sort_by(order).await.unwrap();
        let mut long_ids = false;
        for step in 0..7 {
            let is_empty = table.core().metadata().current_snapshot().is_none();
            match dice.roll(8) {
                _ if is_empty => table = append(&session, "ns.t", some_rows(&mut dice, long_ids)).await,
                0 => {
                    let order = some_order(&mut dice);
                    table = table.update_sort_order(order).await.unwrap();
                }
                1 if !long_ids => {
                    table = table.update_schema().promote_column("i", long()).await.unwrap();
                    long_ids = true;
                }
                2 => {
                    let rows = some_rows(&mut dice, long_ids);
                    let keys = rows.project(&[0]).unwrap().slice(0, 1);
                    let ids = [("i", 1)];
                    let name = format!("e{step}");
                    let delete =
                        equality_deletes(table.core(), &name, &unpartitioned(), &[1], &ids, &keys).await;
                    let core = commit_deletes(&**session.catalog(), table.core(), vec![delete]).await;
                    table = Table::new(session.clone(), core);
                }
                3 => {
                    let files = data_files(table.core()).await;
                    let Some(file) = files.get(dice.roll(8) as usize) else { continue };
                    let rows: Vec<(&str, i64)> = (0..file.record_count() as i64)
                        .filter(|_| dice.one_in(3))
                        .map(|row| (file.file_path(), row))
                        .collect();
                    if rows.is_empty() {
                        continue;
                    }
                    let name = format!("p{step}");
                    let delete = position_deletes(table.core(), &name, &unpartitioned(), &rows).await;
                    let core = commit_deletes(&**session.catalog(), table.core(), vec![delete]).await;
                    table = Table::new(session.clone(), core);
                }
                _ => table = append(&session, "ns.t", some_rows(&mut dice, long_ids)).await,
            }
            let all = reference_read(table.core(), &AsOf::Current).await;
            if all.iter().all(|rows| rows.num_rows() == 0) {
                continue;
            }
            for _ in 0..4 {
                let request = some_request(&mut dice, &table);
                let keys: Vec<String> = request
                    .iter()
                    .map(|(column, options)| {
                        let direction = if options.descending { "DESC" } else { "ASC" };
                        let nulls = if options.nulls_first { "FIRST" } else { "LAST" };
                        format!("{column} {direction} NULLS {nulls}")
                    })
                    .collect();
                let columns: Vec<&str> = request.iter().map(|(column, _)| column.as_str()).collect();
                let expected = by_hand(&all, &request);
                let limit = if dice.one_in(2) { expected.len() } else { 1 + dice.roll(40) as usize };
                let query = format!(
                    "SELECT {} FROM ns.t ORDER BY {} LIMIT {limit}",
                    columns.join(", "),
                    keys.join(", ")
                );
                asked += 1;
                let plan = plan(&session, &query).await;
                unsorted += usize::from(!plan.contains("SortExec"));
                let expected = &expected[..expected.len().min(limit)];
                assert_eq!(rows(&session, &query).await, expected, "seed {seed}: {query}\n{plan}");
            }
        }
    }
    // So that it is not sorts alone that were compared.
    assert!(unsorted * 5 > asked, "{unsorted} of {asked} queries went without a sort");
}

#[tokio::test]
async fn an_order_of_a_transform_alone_is_none() {
    use icefield_engine::ops::partitioning::bucket;
    let session = session();
    let columns = [optional("k", long()), optional("v", string())];
    let order = [asc(bucket("k", 4)), asc("v")];
    session.create_table("ns.t", columns).sort_by(order).await.unwrap();
    let table = append(&session, "ns.t", keyed(0..100)).await;
    assert_eq!(data_files(table.core()).await[0].sort_order_id(), Some(1));
    assert!(sorts(&session, "SELECT v FROM ns.t ORDER BY v NULLS FIRST").await);
}
