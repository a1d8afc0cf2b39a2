//! Append and overwrite as callers use them: created, evolved, applied once, side by side.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float32Array, Float64Array, Int32Array, RecordBatch, StringArray};
use futures::future::join_all;
use icefield_core::evolve::types::{int, long, optional, string};
use icefield_core::{ErrorKind, filter::Filter};
use icefield_engine::ops::DataFrameExt;
use icefield_engine::ops::partitioning::{asc, bucket, identity};
use icefield_testkit::{Pick, Referee};

use crate::write_support::{Lake, batch, content, data_files, longs};

fn text(values: &[&str]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_is_created_as_asked_on_the_first_append() {
    let lake = Lake::open().await;
    let rows = batch(vec![("id", longs([1, 2])), ("city", text(&["a", "b"]))]);
    let append = || lake.frame(std::slice::from_ref(&rows)).append_to(&lake.session, "a.b.rates");
    let missing = append().await.unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
    assert!(missing.to_string().contains("create_with"), "{missing}");
    let create = |append: icefield_engine::ops::Append| {
        append.create_with(|t| {
            t.partition_by([identity("city")])
                .sort_by([asc("id")])
                .property("owner", "me")
                .format_version(3)
                .identifier(["id"])
        })
    };
    let first = create(append()).await.unwrap();
    assert!(first.created);
    let metadata = first.table.core().metadata();
    assert_eq!(metadata.format_version(), iceberg::spec::FormatVersion::V3);
    assert_eq!(metadata.default_partition_spec().fields()[0].name, "city");
    assert_eq!(metadata.properties().get("owner").map(String::as_str), Some("me"));
    assert!(metadata.current_schema().field_by_name("id").unwrap().required);
    assert!(!metadata.current_schema().field_by_name("city").unwrap().required);
    let second = create(append()).await.unwrap();
    assert!(!second.created);
    assert_eq!(content(second.table.core()).await.rows, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_with_a_key_is_applied_once() {
    let lake = Lake::open().await;
    lake.session.create_table("once.t", [optional("id", long())]).await.unwrap();
    let append = |key: &str| {
        lake.frame(&[batch(vec![("id", longs([1]))])]).append_to(&lake.session, "once.t").idempotency_key(key)
    };
    let first = append("a").await.unwrap();
    assert!(!first.already_applied);
    let again = append("a").await.unwrap();
    assert!(again.already_applied);
    assert_eq!((again.rows, again.files, again.snapshot_id), (0, 0, first.snapshot_id));
    assert!(!append("b").await.unwrap().already_applied);
    let outcomes = join_all((0..6).map(|_| append("c").into_future())).await;
    let applied = outcomes.iter().filter(|outcome| !outcome.as_ref().unwrap().already_applied).count();
    assert_eq!(applied, 1);
    let table = lake.session.table("once.t").await.unwrap();
    assert_eq!(content(table.core()).await.rows, 3);
    assert!(table.has_applied("c") && !table.has_applied("d"));
    // An empty batch leaves its key too.
    let empty = RecordBatch::new_empty(batch(vec![("id", longs([1]))]).schema());
    let append = || lake.frame(std::slice::from_ref(&empty)).append_to(&lake.session, "once.t");
    assert_eq!(append().await.unwrap().snapshot_id, None);
    assert!(append().idempotency_key("d").await.unwrap().snapshot_id.is_some());
    assert!(append().idempotency_key("d").await.unwrap().already_applied);
}

#[tokio::test(flavor = "multi_thread")]
async fn sixteen_writers_append_to_one_table_and_no_row_is_lost_or_doubled() {
    let lake = Lake::open().await;
    let columns = [optional("id", long()), optional("name", string())];
    lake.session.create_table("busy.t", columns).partition_by([bucket("id", 3)]).await.unwrap();
    let writers = (0..16).map(|writer: i64| {
        let session = lake.session.clone();
        tokio::spawn(async move {
            for round in 0..3_i64 {
                let ids: Vec<i64> = (0..10).map(|i| writer * 1000 + round * 100 + i).collect();
                let names: Vec<String> = ids.iter().map(|id| format!("n{id}")).collect();
                let names: ArrayRef = Arc::new(StringArray::from(names));
                let rows = batch(vec![("id", longs(ids)), ("name", names)]);
                session.read_batches([rows]).unwrap().append_to(&session, "busy.t").await.unwrap();
            }
        })
    });
    for writer in join_all(writers).await {
        writer.unwrap();
    }
    let table = lake.session.table("busy.t").await.unwrap();
    let mut ids = Vec::new();
    for file in data_files(table.core()).await {
        for rows in crate::write_support::rows_of(table.core(), &file).await {
            let column = rows.column_by_name("id").unwrap();
            ids.extend(
                arrow::array::AsArray::as_primitive::<arrow::datatypes::Int64Type>(column).values().to_vec(),
            );
        }
    }
    ids.sort_unstable();
    let expected: Vec<i64> = (0..16)
        .flat_map(|w| (0..3).flat_map(move |r| (0..10).map(move |i| w * 1000 + r * 100 + i)))
        .collect();
    assert_eq!(ids, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_are_added_and_widened_with_the_rows_that_bring_them() {
    let lake = Lake::open().await;
    let columns = [optional("id", int()), optional("price", icefield_core::evolve::types::float())];
    lake.session.create_table("evolved.t", columns).await.unwrap();
    let old = batch(vec![
        ("id", Arc::new(Int32Array::from(vec![1])) as ArrayRef),
        ("price", Arc::new(Float32Array::from(vec![1.5])) as ArrayRef),
    ]);
    lake.frame(&[old]).append_to(&lake.session, "evolved.t").await.unwrap();
    let new = batch(vec![
        ("city", text(&["x"])),
        ("id", longs([1 << 40])),
        ("price", Arc::new(Float64Array::from(vec![2.5])) as ArrayRef),
    ]);
    let append = || lake.frame(std::slice::from_ref(&new)).append_to(&lake.session, "evolved.t");
    let before = lake.session.table("evolved.t").await.unwrap();
    assert_eq!(append().await.unwrap_err().kind(), ErrorKind::InvalidInput);
    let report = append().evolve_schema().await.unwrap();
    assert!(report.evolved);
    let schema = report.table.core().schema();
    assert_eq!(schema.field_by_name("id").unwrap().field_type.to_string(), "long");
    assert_eq!(schema.field_by_name("price").unwrap().field_type.to_string(), "double");
    assert!(schema.field_by_name("city").is_some());
    // One commit: schema and rows came together.
    let snapshots = |table: &icefield_engine::Table| table.core().metadata().snapshots().len();
    assert_eq!(snapshots(&report.table), snapshots(&before) + 1);
    assert!(!append().evolve_schema().await.unwrap().evolved);
    // What can't be united changes nothing.
    let unfit = batch(vec![("id", text(&["x"]))]);
    let error = lake.frame(&[unfit]).append_to(&lake.session, "evolved.t").evolve_schema().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_adds_no_more_columns_than_it_may() {
    let lake = Lake::open().await;
    let rows = |columns: usize| {
        let names: Vec<String> = (0..columns).map(|n| format!("c{n}")).collect();
        lake.frame(&[batch(names.iter().map(|name| (name.as_str(), longs([1]))).collect())])
    };
    lake.session.create_table("wide.t", [optional("c0", long())]).await.unwrap();
    let before = lake.session.table("wide.t").await.unwrap();
    let data = lake.folder.path().join("wide/t/data");
    let refused = [
        rows(102).append_to(&lake.session, "wide.t").evolve_schema().await,
        rows(102).overwrite(&lake.session, "wide.t").evolve_schema().await,
        rows(8000).append_to(&lake.session, "wide.t").evolve_schema().await,
        rows(4).append_to(&lake.session, "wide.t").evolve_schema().max_new_columns(2).await,
    ];
    for refused in refused {
        let error = refused.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        assert!(error.to_string().contains("max_new_columns"), "{error}");
    }
    // Fields inside others count, too.
    let fields: Vec<String> = (0..101).map(|n| format!("'f{n}', {n}")).collect();
    let nested = lake.session.sql(&format!("SELECT named_struct({}) AS s", fields.join(", "))).await.unwrap();
    nested.append_to(&lake.session, "wide.t").evolve_schema().await.unwrap_err();
    let after = lake.session.table("wide.t").await.unwrap();
    assert_eq!(after.core().metadata_location(), before.core().metadata_location());
    assert!(!data.exists() || std::fs::read_dir(&data).unwrap().count() == 0, "nothing was written");

    rows(101).append_to(&lake.session, "wide.t").evolve_schema().await.unwrap();
    let more =
        rows(400).append_to(&lake.session, "wide.t").evolve_schema().max_new_columns(299).await.unwrap();
    assert_eq!(more.table.core().schema().as_struct().fields().len(), 400);
    // A table that the write creates has the columns of its rows.
    rows(300).append_to(&lake.session, "wide.u").create_with(|t| t).evolve_schema().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_that_evolve_at_once_keep_their_own_columns() {
    let lake = Lake::open().await;
    lake.session.create_table("evolving.t", [optional("id", long())]).await.unwrap();
    let writers = (0..4_i64).map(|writer| {
        let session = lake.session.clone();
        tokio::spawn(async move {
            let column = format!("c{writer}");
            let rows = batch(vec![("id", longs([writer])), (column.as_str(), longs([writer * 10]))]);
            let frame = session.read_batches([rows]).unwrap();
            frame.append_to(&session, "evolving.t").evolve_schema().await.unwrap();
        })
    });
    for writer in join_all(writers).await {
        writer.unwrap();
    }
    let table = lake.session.table("evolving.t").await.unwrap();
    let schema = table.core().schema();
    for file in data_files(table.core()).await {
        for column in 0..4_i64 {
            let id = schema.field_id_by_name(&format!("c{column}")).unwrap();
            if let Some(low) = file.lower_bounds().get(&id) {
                assert_eq!(low, &iceberg::spec::Datum::long(column * 10));
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_overwrite_replaces_all_or_its_partitions() {
    let lake = Lake::open().await;
    let columns = [optional("id", long()), optional("city", string())];
    lake.session.create_table("over.t", columns).partition_by([identity("city")]).await.unwrap();
    let rows = |id: i64, city: &str| batch(vec![("id", longs([id])), ("city", text(&[city]))]);
    let start = [rows(1, "a"), rows(2, "b"), rows(3, "c")];
    lake.frame(&start).append_to(&lake.session, "over.t").await.unwrap();
    let dynamic =
        lake.frame(&[rows(20, "b"), rows(40, "d")]).overwrite(&lake.session, "over.t").dynamic_partitions();
    let report = dynamic.await.unwrap();
    let mut ids: Vec<i64> = Vec::new();
    for file in data_files(report.table.core()).await {
        for rows in crate::write_support::rows_of(report.table.core(), &file).await {
            let column = rows.column_by_name("id").unwrap();
            ids.extend(
                arrow::array::AsArray::as_primitive::<arrow::datatypes::Int64Type>(column).values().to_vec(),
            );
        }
    }
    ids.sort_unstable();
    assert_eq!(ids, [1, 3, 20, 40]);
    let all = lake.frame(&[rows(5, "e")]).overwrite(&lake.session, "over.t").await.unwrap();
    assert_eq!(content(all.table.core()).await.rows, 1);
    let none =
        lake.frame(&[rows(6, "f")]).overwrite(&lake.session, "over.t").filter(Filter::False).await.unwrap();
    let now = content(none.table.core()).await;
    assert_eq!(now.rows, 2);
    let _ = Referee::new().check(none.table.core().metadata_location(), Pick::Current, &now).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn branches_tags_and_metadata_change_through_the_table() {
    use icefield_engine::ops::partitioning::month;
    let lake = Lake::open().await;
    let columns = [optional("id", long()), optional("on", icefield_core::evolve::types::date())];
    let table = lake.session.create_table("alter.t", columns).await.unwrap();
    assert_eq!(table.create_branch("early").await.unwrap_err().kind(), ErrorKind::InvalidInput);
    let one =
        lake.frame(&[batch(vec![("id", longs([1]))])]).append_to(&lake.session, "alter.t").await.unwrap();
    let table = one.table.create_branch("audit").await.unwrap();
    let table = table.create_tag("first").await.unwrap();
    assert_eq!(table.create_tag("first").await.unwrap_err().kind(), ErrorKind::AlreadyExists);
    let on_branch =
        lake.frame(&[batch(vec![("id", longs([2]))])]).append_to(&lake.session, "alter.t").branch("audit");
    let report = on_branch.await.unwrap();
    assert_eq!(content(report.table.core()).await.rows, 1, "main did not move");
    let nowhere =
        lake.frame(&[batch(vec![("id", longs([2]))])]).append_to(&lake.session, "alter.t").branch("nope");
    assert_eq!(nowhere.await.unwrap_err().kind(), ErrorKind::NotFound);
    let two =
        lake.frame(&[batch(vec![("id", longs([3]))])]).append_to(&lake.session, "alter.t").await.unwrap();
    assert_eq!(content(two.table.core()).await.rows, 2);
    let back = two.table.rollback_to(one.snapshot_id.unwrap()).await.unwrap();
    assert_eq!(content(back.core()).await.rows, 1);

    let table = back.update_schema().rename_column("id", "key").add_column("note", string()).await.unwrap();
    let table = table.update_spec().add_field(month("on")).await.unwrap();
    let table = table.update_sort_order([asc("key")]).await.unwrap();
    let table = table.set_properties([("owner", "us")]).await.unwrap();
    let table = table.upgrade_format_version(3).await.unwrap();
    let table = table.remove_ref("first").await.unwrap();
    let metadata = table.core().metadata();
    assert_eq!(metadata.current_schema().field_by_name("key").unwrap().id, 1);
    assert_eq!(metadata.default_partition_spec().fields()[0].name, "on_month");
    assert!(!metadata.default_sort_order().is_unsorted());
    assert!(metadata.snapshot_for_ref("first").is_none() && metadata.snapshot_for_ref("audit").is_some());
    let days: ArrayRef = Arc::new(arrow::array::Date32Array::from(vec![Some(-1), None]));
    let rows = batch(vec![("key", longs([7, 8])), ("on", days)]);
    let report = lake.frame(&[rows]).append_to(&lake.session, "alter.t").await.unwrap();
    assert_eq!(report.files, 2);
    let files = data_files(report.table.core()).await;
    let paths = files.iter().map(|file| file.file_path()).collect::<Vec<_>>().join(" ");
    assert!(paths.contains("/on_month=1969-12/") && paths.contains("/on_month=null/"), "{paths}");
    let gone = report.table.delete_files(files.iter().map(|file| file.file_path())).await.unwrap();
    assert!(data_files(gone.core()).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_overwrite_by_filter_takes_whole_files_only() {
    use datafusion::prelude::{col, lit};
    let lake = Lake::open().await;
    let columns = [optional("id", int()), optional("city", string())];
    lake.session.create_table("where.t", columns).partition_by([identity("city")]).await.unwrap();
    let rows = |ids: &[i32], city: &str| {
        let ids: ArrayRef = Arc::new(Int32Array::from(ids.to_vec()));
        let cities = vec![city; ids.len()];
        batch(vec![("id", ids), ("city", text(&cities))])
    };
    lake.frame(&[rows(&[1, 2], "a"), rows(&[3, 4], "b")]).append_to(&lake.session, "where.t").await.unwrap();
    let overwrite =
        |filter| lake.frame(&[rows(&[9], "b")]).overwrite(&lake.session, "where.t").filter(filter);
    // The literal is wider than the column: types are settled as in a query.
    let error = overwrite(col("id").gt(lit(3_i64))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    assert!(error.to_string().contains("city=b"), "{error}");
    let error = overwrite((col("id") % lit(2)).eq(lit(0))).await.unwrap_err();
    assert!(error.to_string().contains("condition"), "{error}");
    let report = overwrite(col("city").eq(lit("b"))).await.unwrap();
    let frame = report.table.dataframe().await.unwrap();
    let sum =
        frame.aggregate(vec![], vec![datafusion::functions_aggregate::expr_fn::sum(col("id"))]).unwrap();
    let sum = sum.collect().await.unwrap();
    assert_eq!(
        arrow::array::AsArray::as_primitive::<arrow::datatypes::Int64Type>(sum[0].column(0)).value(0),
        12
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_column_that_is_dropped_while_it_is_widened_comes_again_with_its_values() {
    let lake = Lake::open().await;
    let table =
        lake.session.create_table("dropped.t", [optional("id", long()), optional("a", int())]).await.unwrap();
    let once = std::sync::Once::new();
    let dropper = move |_: &icefield_engine::write::WriteProgress| {
        once.call_once(|| {
            let drop = table.update_schema().drop_column("a").into_future();
            let runtime = tokio::runtime::Handle::current();
            tokio::task::block_in_place(|| runtime.block_on(drop)).unwrap();
        });
    };
    let rows = batch(vec![("id", longs([1])), ("a", longs([1 << 40]))]);
    let append = lake.frame(&[rows]).append_to(&lake.session, "dropped.t").evolve_schema();
    let report = append.on_progress(dropper).await.unwrap();
    assert_eq!(report.table.core().schema().field_id_by_name("a"), Some(3));
    let read = report.table.dataframe().await.unwrap().collect().await.unwrap();
    let column = read[0].column_by_name("a").unwrap();
    assert_eq!(
        arrow::array::AsArray::as_primitive::<arrow::datatypes::Int64Type>(column),
        &arrow::array::Int64Array::from(vec![1 << 40])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_is_the_same_one_after_its_column_was_widened() {
    let lake = Lake::open().await;
    let floats = |values: Vec<f32>| Arc::new(Float32Array::from(values)) as ArrayRef;
    let columns = [optional("n", int()), optional("f", icefield_core::evolve::types::float())];
    let create = lake.session.create_table("wide.t", columns).partition_by([identity("n"), identity("f")]);
    let table = create.await.unwrap();
    let ints = Arc::new(Int32Array::from(vec![1, 2, 2, 2])) as ArrayRef;
    let old = batch(vec![("n", ints), ("f", floats(vec![0.1, 0.1, 0.0, -0.0]))]);
    lake.frame(&[old]).append_to(&lake.session, "wide.t").await.unwrap();
    let double = icefield_core::evolve::types::double();
    let widen = table.update_schema().promote_column("n", long()).promote_column("f", double);
    widen.await.unwrap();
    let doubles = Arc::new(Float64Array::from(vec![f64::from(0.1_f32), 0.0])) as ArrayRef;
    let new = batch(vec![("n", longs([2, 2])), ("f", doubles)]);
    let overwrite = lake.frame(&[new]).overwrite(&lake.session, "wide.t").dynamic_partitions();
    let report = overwrite.await.unwrap();
    // One file for each of the four partitions: 1 and 0.1, 2 and 0.1, 2 and 0, 2 and the other zero.
    assert_eq!(data_files(report.table.core()).await.len(), 4);
    assert_eq!(content(report.table.core()).await.rows, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_created_table_keeps_its_last_metadata_files_only() {
    let lake = Lake::open().await;
    let append = |name: &'static str, most: Option<&'static str>| {
        let rows = lake.frame(&[batch(vec![("id", longs([1]))])]);
        rows.append_to(&lake.session, name).create_with(move |new| match most {
            Some(most) => new.property("write.metadata.previous-versions-max", most),
            None => new.property("write.metadata.delete-after-commit.enabled", "false"),
        })
    };
    for _ in 0..8 {
        append("a.few", Some("3")).await.unwrap();
        append("a.all", None).await.unwrap();
    }
    for (name, files) in [("few", 4), ("all", 8)] {
        let folder = lake.folder.path().join("a").join(name).join("metadata");
        let names = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
        let is_metadata = |name: &std::ffi::OsStr| name.to_string_lossy().ends_with(".metadata.json");
        let kept = names.filter(|entry| is_metadata(&entry.as_ref().unwrap().file_name())).count();
        assert_eq!(kept, files, "{name}");
    }
    let created = lake.session.create_table("a.t", [optional("id", long())]).await.unwrap();
    assert_eq!(created.core().property("write.metadata.delete-after-commit.enabled"), Some("true"));
    assert_eq!(created.core().property("write.metadata.previous-versions-max"), Some("100"));
}

#[tokio::test(flavor = "multi_thread")]
async fn appends_that_add_columns_at_the_same_time_all_succeed() {
    let lake = Lake::open().await;
    let append = |writer: i64| {
        let rows = batch(vec![("id", longs([writer])), (format!("c{writer}").as_str(), longs([writer]))]);
        lake.frame(&[rows])
            .append_to(&lake.session, "many.t")
            .create_with(|t| t)
            .evolve_schema()
            .into_future()
    };
    for outcome in join_all((0..8).map(append)).await {
        outcome.unwrap();
    }
    let table = lake.session.table("many.t").await.unwrap();
    assert_eq!(table.core().schema().as_struct().fields().len(), 9);
    let counts =
        crate::scan_support::rows(&lake.session, "SELECT count(*), count(c0), sum(c7) FROM many.t").await;
    assert_eq!(counts, ["8|1|7"]);
}
