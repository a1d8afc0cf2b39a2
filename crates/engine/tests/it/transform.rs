//! Transforms: plans checked before data is read, connected by names, run once where they are cached.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray};
use arrow::datatypes::DataType;
use datafusion::common::plan_err;
use datafusion::functions_aggregate::expr_fn::{avg, count};
use datafusion::logical_expr::{ColumnarValue, Volatility, create_udf};
use datafusion::prelude::{col, lit};
use futures::stream;
use icefield_core::ErrorKind;
use icefield_engine::ops::DataFrameExt;
use icefield_engine::transform::column;
use icefield_engine::{Pipeline, Transform};

use crate::scan_support::{session, text_rows};
use crate::write_sharing::source;

fn rates() -> RecordBatch {
    RecordBatch::try_from_iter([
        ("city", Arc::new(StringArray::from(vec!["Boston", "Boston", "Albany"])) as ArrayRef),
        ("price", Arc::new(Float64Array::from(vec![Some(100.0), Some(200.0), None]))),
        ("note", Arc::new(StringArray::from(vec!["", "", ""]))),
    ])
    .unwrap()
}

fn prices() -> Transform {
    Transform::new("prices", |inputs| {
        inputs.get("rates")?.filter(col("price").is_not_null())?.select(vec![col("price"), col("city")])
    })
    .input("rates", [column("city", DataType::Utf8), column("price", DataType::Float64)])
    .output([column("city", DataType::Utf8), column("price", DataType::Float64)])
}

fn mart() -> Transform {
    Transform::new("mart", |inputs| {
        inputs.get("prices")?.aggregate(
            vec![col("city")],
            vec![avg(col("price")).alias("price"), count(lit(1)).alias("nights")],
        )
    })
    .input("prices", [column("city", DataType::Utf8), column("price", DataType::Float64)])
    .output([
        column("city", DataType::Utf8),
        column("nights", DataType::Int64),
        column("price", DataType::Float64),
    ])
}

#[tokio::test]
async fn a_transform_is_tested_with_plain_batches() {
    let session = session();
    let frame = session.read_batches([rates()]).unwrap();
    let planned = prices().plan([("rates", frame)]).unwrap();
    assert_eq!(text_rows(&planned.collect().await.unwrap()), ["Boston|100.0", "Boston|200.0"]);
}

#[tokio::test]
async fn mistakes_are_found_before_data_is_read_and_name_transform_and_column() {
    let session = session();
    let rates = || session.read_batches([rates()]).unwrap();
    let input = [column("city", DataType::Utf8), column("price", DataType::Float64)];
    let cases = [
        (
            Transform::new("t", |i| i.get("rates")).input("rates", [column("cost", DataType::Float64)]),
            "column: cost",
        ),
        (
            Transform::new("t", |i| i.get("rates")).input("rates", [column("price", DataType::Utf8)]),
            "column: price",
        ),
        (Transform::new("t", |i| i.get("other")).input("rates", input.clone()), "other"),
        (Transform::new("t", |i| i.get("rates")).input("weather", input.clone()), "input: weather"),
        (
            Transform::new("t", |i| i.get("rates")?.select(vec![col("note")])).input("rates", input.clone()),
            "column: note",
        ),
        (
            Transform::new("t", |i| i.get("rates")?.filter(col("city").gt(lit(true))))
                .input("rates", input.clone()),
            "t",
        ),
        (
            Transform::new("t", |i| i.get("rates")).input("rates", input.clone()).output([input[0].clone()]),
            "column: price",
        ),
        (
            Transform::new("t", |i| i.get("rates"))
                .input("rates", input.clone())
                .output([input[0].clone(), column("price", DataType::Int64)]),
            "expected: Int64",
        ),
        (
            Transform::new("t", |i| i.get("rates"))
                .input("rates", input.clone())
                .output([input[0].clone(), input[1].clone().with_nullable(false)]),
            "may hold NULLs",
        ),
        (Transform::new("t", |_| plan_err!("no plan today")), "no plan today"),
    ];
    for (transform, expected) in cases {
        let error = transform.plan([("rates", rates())]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        let text = error.to_string();
        assert!(text.contains("transform: t") && text.contains(expected), "{expected}: {text}");
    }
}

#[tokio::test]
async fn transforms_compose_by_name_and_a_cached_one_runs_once() {
    let session = session();
    let runs = Arc::new(AtomicUsize::new(0));
    let counted = {
        let runs = runs.clone();
        let count = move |args: &[ColumnarValue]| {
            runs.fetch_add(1, Ordering::SeqCst);
            Ok(args[0].clone())
        };
        create_udf(
            "counted",
            vec![DataType::Float64],
            DataType::Float64,
            Volatility::Volatile,
            Arc::new(count),
        )
    };
    let prices = Transform::new("prices", move |inputs| {
        let frame = inputs.get("rates")?.filter(col("price").is_not_null())?;
        frame.select(vec![col("city"), counted.call(vec![col("price")]).alias("price")])
    })
    .input("rates", [column("city", DataType::Utf8), column("price", DataType::Float64)])
    .cache();
    let pipeline = Pipeline::new(&session)
        .frame("rates", session.read_batches([rates()]).unwrap())
        .transform(mart())
        .transform(prices);
    assert_eq!(pipeline.check().await.unwrap(), ["prices", "mart"]);
    assert_eq!(runs.load(Ordering::SeqCst), 0);
    for _ in 0..2 {
        let mart = pipeline.output("mart").await.unwrap();
        assert_eq!(text_rows(&mart.collect().await.unwrap()), ["Boston|2|150.0"]);
    }
    assert_eq!(runs.load(Ordering::SeqCst), 1);

    let circle = Pipeline::new(&session)
        .transform(Transform::new("a", |i| i.get("b")).input("b", []))
        .transform(Transform::new("b", |i| i.get("a")).input("a", []));
    assert!(circle.check().await.unwrap_err().to_string().contains("circle"));
    let missing = Pipeline::new(&session).transform(mart());
    let error = missing.check().await.unwrap_err();
    assert!(error.to_string().contains("input: prices"), "{error}");
    assert_eq!(prices_of(&session).await, ["Boston|2|150.0"]);
}

async fn prices_of(session: &icefield_engine::Session) -> Vec<String> {
    let pipeline = Pipeline::new(session)
        .frame("rates", session.read_batches([rates()]).unwrap())
        .transform(prices())
        .transform(mart());
    text_rows(&pipeline.output("mart").await.unwrap().collect().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cached_transform_over_a_join_of_several_files_ends() {
    let session = icefield_engine::Session::builder().parallelism(4).build().unwrap();
    for name in ["orders", "customers"] {
        for file in 0..4 {
            let rows = format!(
                "SELECT value AS id, 'a text that is longer than a view' AS {name}_note FROM range({}, {})",
                file * 50,
                file * 50 + 50
            );
            let rows = session.sql(&rows).await.unwrap();
            rows.append_to(&session, format!("j.{name}")).create_with(|t| t).await.unwrap();
        }
    }
    let note = |name: &str| [column("id", DataType::Int64), column(format!("{name}_note"), DataType::Utf8)];
    let enriched = Transform::new("enriched", |inputs| {
        let (orders, customers) = (inputs.get("j.orders")?, inputs.get("j.customers")?);
        let joined = orders.join(customers, datafusion::common::JoinType::Inner, &["id"], &["id"], None)?;
        joined.select(vec![col("j.orders.id"), col("customers_note")])
    })
    .input("j.orders", note("orders"))
    .input("j.customers", note("customers"))
    .cache();
    let other =
        Transform::new("other", |inputs| inputs.get("enriched")).input("enriched", note("customers")).cache();
    let pipeline = Pipeline::new(&session).transform(enriched).transform(other);
    // Two that are asked for at the same time share the one run.
    let both = async { tokio::join!(pipeline.output("enriched"), pipeline.output("other")) };
    let (enriched, other) = tokio::time::timeout(std::time::Duration::from_secs(60), both).await.unwrap();
    assert_eq!(enriched.unwrap().count().await.unwrap(), 200);
    assert_eq!(other.unwrap().count().await.unwrap(), 200);
}

/// A fault of DataFusion's, for whoever executes a plan's partitions himself. When this fails, take it out of docs/known-limits.md.
#[tokio::test(flavor = "multi_thread")]
async fn a_partition_of_a_join_waits_for_the_others() {
    let session = icefield_engine::Session::builder().parallelism(4).build().unwrap();
    for name in ["orders", "customers"] {
        for file in 0..4 {
            let rows = format!("SELECT value AS id FROM range({}, {})", file * 50, file * 50 + 50);
            let rows = session.sql(&rows).await.unwrap();
            rows.append_to(&session, format!("j.{name}")).create_with(|t| t).await.unwrap();
        }
    }
    let query = "SELECT o.id FROM j.orders o JOIN j.customers c ON o.id = c.id";
    let plan = session.sql(query).await.unwrap().create_physical_plan().await.unwrap();
    let alone =
        datafusion::physical_plan::common::collect(plan.execute(0, session.context().task_ctx()).unwrap());
    assert!(tokio::time::timeout(std::time::Duration::from_secs(1), alone).await.is_err());
    assert_eq!(session.sql(query).await.unwrap().count().await.unwrap(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn cached_rows_are_counted_once_and_given_back() {
    let session = icefield_engine::Session::builder().parallelism(4).memory_budget(64 << 20).build().unwrap();
    let pool = session.context().runtime_env().memory_pool.clone();
    let lake = &session;
    let text = |of: &'static str| {
        let rows = format!("SELECT value AS id, repeat('x', {of}) AS note FROM range(0, 20000)");
        async move { lake.sql(&rows).await.unwrap() }
    };
    let cached = |name: &str| {
        Transform::new(name, |inputs| inputs.get("rows"))
            .input("rows", [column("id", DataType::Int64), column("note", DataType::Utf8)])
            .cache()
    };
    let before = pool.reserved();
    {
        let pipeline = Pipeline::new(&session).frame("rows", text("100").await).transform(cached("small"));
        assert_eq!(pipeline.output("small").await.unwrap().count().await.unwrap(), 20_000);
        let held = pool.reserved() - before;
        assert!((2_000_000..8_000_000).contains(&held), "{held}");
    }
    assert_eq!(pool.reserved(), before);
    let pipeline = Pipeline::new(&session).frame("rows", text("10000").await).transform(cached("large"));
    let error = pipeline.output("large").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ResourceExhausted, "{error}");
    // What operators hold in tasks of their own goes a moment later.
    let given_back = async {
        while pool.reserved() != before {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), given_back).await.unwrap();
}

#[test]
fn a_cached_transform_that_was_cut_off_is_an_error() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let begun = Arc::new(AtomicUsize::new(0));
    let seen = begun.clone();
    let handle = runtime.handle().clone();
    let waiting = std::thread::spawn(move || {
        handle.block_on(async move {
            let session = session();
            let schema = rates().schema();
            let frame = source(&session, &schema, 2, move |part| {
                let seen = seen.clone();
                // The second partition has no end.
                stream::once(async move {
                    seen.fetch_add(1, Ordering::SeqCst);
                    if part == 1 {
                        std::future::pending::<()>().await;
                    }
                    Ok(rates())
                })
            });
            let input = [column("city", DataType::Utf8)];
            let cached = Transform::new("kept", |inputs| inputs.get("rates")).input("rates", input).cache();
            Pipeline::new(&session).frame("rates", frame).transform(cached).output("kept").await.map(drop)
        })
    });
    while begun.load(Ordering::SeqCst) < 2 {
        std::thread::yield_now();
    }
    runtime.shutdown_background();
    let error = waiting.join().unwrap().unwrap_err();
    assert!(error.to_string().contains("run the pipeline again"), "{error}");
}
