//! What is refused at the door, and errors that say what the caller can do.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::JoinType::Inner;
use datafusion::prelude::{col, lit};
use icefield_core::ErrorKind;
use icefield_core::evolve::types::{long, optional};
use icefield_core::evolve::{PropertiesUpdate, identity};
use icefield_engine::Session;
use icefield_engine::ops::DataFrameExt;

use crate::scan_support::run;
use crate::write_support::sorted_rows as rows;
use crate::write_support::{Lake, batch, longs};

#[tokio::test(flavor = "multi_thread")]
async fn a_statements_mistake_is_the_callers_and_says_where() {
    use ErrorKind::{AlreadyExists, InvalidInput, NotFound, Unsupported};
    let lake = Lake::open().await;
    let session = &lake.session;
    session
        .sql("CREATE TABLE s.t AS SELECT 1 AS id, 'x' AS name, 0 AS zero")
        .await
        .unwrap()
        .collect()
        .await
        .unwrap();
    session.sql("CREATE VIEW v AS SELECT 1 AS one").await.unwrap();
    let mut wrong = Vec::new();
    for (sql, kind, says) in [
        ("SELEC 1", InvalidInput, "Line: 1"),
        ("SELECT id FROM", InvalidInput, "found: EOF"),
        ("SELECT nothing FROM s.t", InvalidInput, "at: line 1, column 8"),
        ("SELECT id\nFROM s.t\nWHERE nope = 1", InvalidInput, "at: line 3, column 7"),
        ("SELECT id FROM s.t a, s.t b", InvalidInput, "id"),
        ("SELECT nope(id) FROM s.t", InvalidInput, "nope"),
        ("SELECT id / 0 FROM s.t", InvalidInput, "NULLIF"),
        ("SELECT id / zero FROM s.t", InvalidInput, "NULLIF"),
        ("SELECT id FROM s.t WHERE id / zero > 1", InvalidInput, "NULLIF"),
        ("SELECT sum(id / zero) FROM s.t", InvalidInput, "NULLIF"),
        ("SELECT CAST(id * 1e30 AS INT) FROM s.t", InvalidInput, "TRY_CAST"),
        ("SELECT CAST('x' AS INT)", InvalidInput, "TRY_CAST"),
        ("SELECT CAST(name AS INT) FROM s.t", InvalidInput, "TRY_CAST"),
        ("SELECT * FROM s.t WHERE CAST(name AS INT) = 1", InvalidInput, "TRY_CAST"),
        ("SELECT TIMESTAMP '2024-01-01' > 'garbage'", InvalidInput, "garbage"),
        ("SELECT date_trunc('eon', TIMESTAMP '2024-01-01')", InvalidInput, "eon"),
        ("SELECT * FROM s.t WHERE id = $1", InvalidInput, "with_param_values"),
        ("SELECT * FROM s.nope", NotFound, "table: s.nope"),
        ("SELECT * FROM nope.t", NotFound, "table: nope.t"),
        ("SELECT * FROM nope", NotFound, "nope"),
        ("SELECT * FROM s.t JOIN s.gone USING (id)", NotFound, "table: s.gone"),
        ("SELECT * FROM s.nope FOR VERSION AS OF 'b'", NotFound, "s.nope"),
        ("INSERT INTO s.nope SELECT 1", NotFound, "table: s.nope"),
        ("DROP TABLE s.nope", NotFound, "nope"),
        ("DROP VIEW nope", NotFound, "nope"),
        ("CREATE VIEW v AS SELECT 2", AlreadyExists, "v"),
        ("CREATE TABLE s.t AS SELECT 2 AS id", AlreadyExists, "s.t"),
        ("CREATE SCHEMA s", AlreadyExists, "s"),
        ("EXECUTE nope(1)", NotFound, "nope"),
        ("INSERT INTO s.t SELECT 1", InvalidInput, "Column count"),
        ("INSERT INTO s.t (nope) SELECT 1", InvalidInput, "nope"),
        ("CREATE TABLE s.p (d DATE) PARTITIONED BY (nope)", InvalidInput, "nope"),
        ("CREATE TABLE s.p (x INT) PARTITIONED BY (d DATE)", Unsupported, "among the others"),
        ("ALTER TABLE s.t ADD COLUMN id INT", InvalidInput, "id"),
        ("DELETE FROM s.t WHERE id = 1", Unsupported, "overwrite"),
        ("UPDATE s.t SET id = 2", Unsupported, "overwrite"),
        ("MERGE INTO s.t USING s.t AS u ON t.id = u.id WHEN MATCHED THEN DELETE", Unsupported, "overwrite"),
        ("DROP TABLE s.t PURGE", Unsupported, "purge_table"),
        ("CREATE VIEW s.v AS SELECT 1", Unsupported, "without a namespace"),
        ("CREATE OR REPLACE VIEW s.v AS SELECT 1", Unsupported, "without a namespace"),
        ("SELECT * FROM s.t FOR TIMESTAMP AS OF id", InvalidInput, "in quotes"),
        ("SELECT * FROM s.t FOR TIMESTAMP AS OF 1719705600000", InvalidInput, "divide milliseconds"),
        ("SELECT * FROM s.t FOR VERSION AS OF $1", InvalidInput, "with_param_values"),
        ("SELECT * FROM s.t FOR VERSION AS OF audit", InvalidInput, "in quotes"),
    ] {
        let Err(error) = run(session, sql).await else {
            wrong.push(format!("{sql}: no error"));
            continue;
        };
        let text = error.to_string();
        if error.kind() != kind || !text.contains(says) || text.contains("damaged") || text.len() > 400 {
            wrong.push(format!("{sql}: {text}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(rows(session, "SELECT id FROM s.t").await, ["1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_table_hides_no_other_and_can_be_dropped() {
    let lake = Lake::open().await;
    let session = &lake.session;
    for name in ["whole", "broken"] {
        session
            .sql(&format!("CREATE TABLE s.{name} AS SELECT 1 AS id"))
            .await
            .unwrap()
            .collect()
            .await
            .unwrap();
    }
    let broken = session.table("s.broken").await.unwrap().core().metadata_location().to_string();
    std::fs::write(broken.strip_prefix("file://").unwrap_or(&broken), "no metadata").unwrap();
    // Another session, which has not read it before.
    let session = &Session::open(lake.folder.path()).await.unwrap();
    assert!(session.table("s.broken").await.is_err());
    let tables = rows(session, "SHOW TABLES").await;
    for name in ["whole", "broken"] {
        assert!(tables.iter().any(|row| *row == format!("s|{name}|false")), "{tables:?}");
    }
    let names = "SELECT table_name FROM information_schema.tables WHERE table_schema = 's' ORDER BY 1";
    assert_eq!(rows(session, names).await, ["broken", "whole"]);
    let columns = "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 's'";
    assert_eq!(rows(session, columns).await, ["whole|id"]);
    rows(session, "SELECT * FROM information_schema.views").await;
    rows(session, "SHOW COLUMNS FROM s.whole").await;
    run(session, "DROP TABLE s.broken").await.unwrap();
    assert_eq!(rows(session, names).await, ["whole"]);
    run(session, "DROP TABLE IF EXISTS s.broken").await.unwrap();
    assert_eq!(rows(session, "SELECT id FROM s.whole").await, ["1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_table_is_made_of_columns_that_it_could_not_keep() {
    let lake = Lake::open().await;
    let session = &lake.session;
    let empty = session.read_batches(Vec::<RecordBatch>::new()).unwrap();
    let unnamed = RecordBatch::try_from_iter([("", longs([1]))]).unwrap();
    let nested = Field::new_struct("s", vec![Field::new("", DataType::Int64, true)], true);
    let nested = RecordBatch::new_empty(Arc::new(Schema::new(vec![nested])));
    let twice = session.read_batches([RecordBatch::try_from_iter([("id", longs([1]))]).unwrap()]).unwrap();
    let twice =
        twice.clone().alias("a").unwrap().join(twice.alias("b").unwrap(), Inner, &["id"], &["id"], None);
    for (frame, says) in [
        (empty.clone(), "one column"),
        (session.read_batches([unnamed]).unwrap(), "can't be empty"),
        (session.read_batches([nested]).unwrap(), "can't be empty"),
        (twice.unwrap(), "two columns"),
    ] {
        for evolve in [false, true] {
            let append = frame.clone().append_to(session, "x.new").create_with(|t| t);
            let error = if evolve { append.evolve_schema().await } else { append.await }.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
            assert!(error.to_string().contains(says), "{error}");
        }
        assert!(session.table("x.new").await.is_err());
    }
    for fields in [vec![], vec![optional("", long())], vec![optional("a", long()), optional("a", long())]] {
        let error = session.create_table("x.new", fields).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    }
    // Batches without columns add nothing to a table that is there.
    let t = session.create_table("x.t", [optional("id", long())]).await.unwrap();
    assert_eq!(empty.append_to(session, "x.t").await.unwrap().rows, 0);
    // Values that no write could use.
    for (name, value) in
        [("write.target-file-size-bytes", "128MB"), ("write.parquet.compression-codec", "zip")]
    {
        let error = t.set_properties([(name, value)]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        assert!(error.to_string().contains(name) && error.to_string().contains(value), "{error}");
        let error = t.alter().edit(PropertiesUpdate::new().set(name, value)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        let error =
            session.create_table("x.p", [optional("id", long())]).property(name, value).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    }
    let error = Session::builder().warehouse("./here").build().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    for warehouse in ["memory://w/", "/tmp/somewhere", "file:///tmp/x"] {
        Session::builder().warehouse(warehouse).build().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_overwrite_refuses_rows_that_its_filter_would_not_replace() {
    let lake = Lake::open().await;
    let session = &lake.session;
    let row = |k: Option<&str>, n: i64| {
        let keys: ArrayRef = Arc::new(arrow::array::StringArray::from(vec![k]));
        let numbers: ArrayRef = Arc::new(Int64Array::from(vec![n]));
        session.read_batches([batch(vec![("k", keys), ("n", numbers)])]).unwrap()
    };
    row(Some("a"), 1)
        .append_to(session, "f.t")
        .create_with(|t| t.partition_by([identity("k")]))
        .await
        .unwrap();
    row(Some("b"), 2).append_to(session, "f.t").await.unwrap();
    let only_n = || session.read_batches([batch(vec![("n", longs([5]))])]).unwrap();
    for rows in
        [row(Some("q"), 3), row(None, 3), row(Some("b"), 3).union(row(Some("q"), 4)).unwrap(), only_n()]
    {
        let error = rows.overwrite(session, "f.t").filter(col("k").eq(lit("b"))).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        assert!(error.to_string().contains("filter: "), "{error}");
    }
    let error = row(Some("q"), 3).overwrite(session, "f.t").filter(col("k").eq(lit("b"))).await.unwrap_err();
    for part in ["first: k = q", "rows in the batch: 1"] {
        assert!(error.to_string().contains(part), "{error}");
    }
    let all = "SELECT k, n FROM f.t ORDER BY n";
    assert_eq!(rows(session, all).await, ["a|1", "b|2"]);
    row(Some("b"), 7)
        .overwrite(session, "f.t")
        .filter(col("k").in_list(vec![lit("b"), lit("c")], false))
        .await
        .unwrap();
    row(None, 8).overwrite(session, "f.t").filter(col("k").is_null()).await.unwrap();
    let none = row(Some("z"), 0).filter(lit(false)).unwrap();
    none.overwrite(session, "f.t").filter(col("k").eq(lit("a"))).await.unwrap();
    assert_eq!(rows(session, all).await, ["NULL|8", "b|7"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_are_joined_on_columns_of_one_name() {
    let lake = Lake::open().await;
    let session = &lake.session;
    session
        .sql("CREATE TABLE s.orders AS SELECT 1 AS id, 'pen' AS what")
        .await
        .unwrap()
        .collect()
        .await
        .unwrap();
    session
        .sql("CREATE TABLE s.prices AS SELECT 1 AS id, 2 AS price")
        .await
        .unwrap()
        .collect()
        .await
        .unwrap();
    let frame = async |name: &str| session.table(name).await.unwrap().dataframe().await.unwrap();
    let (orders, prices) = (frame("s.orders").await, frame("s.prices").await);
    let joined = orders.join(prices, Inner, &["id"], &["id"], None).unwrap();
    let joined = joined.select(vec![col("orders.id"), col("what"), col("prices.price")]).unwrap();
    joined.append_to(session, "s.joined").create_with(|t| t).await.unwrap();
    assert_eq!(rows(session, "SELECT id, what, price FROM s.joined").await, ["1|pen|2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn branches_move_forward_and_back_by_any_name() {
    let lake = Lake::open().await;
    let session = &lake.session;
    session.sql("CREATE TABLE s.t AS SELECT 1 AS id").await.unwrap().collect().await.unwrap();
    let t = session.table("s.t").await.unwrap();
    t.create_tag("first").await.unwrap();
    t.create_branch("audit").await.unwrap();
    run(session, "INSERT INTO s.t FOR VERSION AS OF 'audit' SELECT 2").await.unwrap();
    let t = session.table("s.t").await.unwrap();
    let back = t.rollback_to("audit").await.unwrap_err();
    assert!(back.to_string().contains("fast_forward"), "{back}");
    let published = t.fast_forward("main", "audit").await.unwrap();
    assert_eq!(rows(session, "SELECT id FROM s.t ORDER BY id").await, ["1", "2"]);
    published.fast_forward("main", "audit").await.unwrap();
    t.fast_forward("other", "first").await.unwrap();
    // The branch has a commit of its own now, whatever this look at it says.
    run(session, "INSERT INTO s.t SELECT 3").await.unwrap();
    for look in [&t, &published] {
        let error = look.fast_forward("main", "audit").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    }
    assert_eq!(rows(session, "SELECT id FROM s.t ORDER BY id").await, ["1", "2", "3"]);
    let t = session.table("s.t").await.unwrap();
    t.rollback_to("first").await.unwrap();
    assert_eq!(rows(session, "SELECT id FROM s.t").await, ["1"]);
    let missing = t.rollback_to(17).await.unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound, "{missing}");
    assert_eq!(t.fast_forward("main", "nope").await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_without_quotes_is_a_snapshots_id() {
    let lake = Lake::open().await;
    let session = &lake.session;
    session.sql("CREATE TABLE s.t AS SELECT 1 AS id").await.unwrap().collect().await.unwrap();
    let first = session.table("s.t").await.unwrap().core().metadata().current_snapshot_id().unwrap();
    run(session, "INSERT INTO s.t SELECT 2").await.unwrap();
    let t = session.table("s.t").await.unwrap();
    t.create_tag(first.to_string()).await.unwrap().create_tag("2024").await.unwrap();
    let count = |version: String| format!("SELECT count(*) FROM s.t FOR VERSION AS OF {version}");
    for (version, expected) in [
        (first.to_string(), "1"),
        (format!("'{first}'"), "2"),
        ("2024".to_string(), "2"),
        ("'2024'".to_string(), "2"),
    ] {
        assert_eq!(rows(session, &count(version.clone())).await, [expected], "{version}");
    }
    let error = run(session, &count("17".to_string())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    let error = run(session, &count("'17'".to_string())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
}
