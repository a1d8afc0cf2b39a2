//! An operation that replaces rows conflicts with what its input has not seen.

use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::common::JoinType;
use datafusion::dataframe::{DataFrame, DataFrameWriteOptions};
use datafusion::logical_expr::dml::InsertOp;
use datafusion::prelude::{col, lit, scalar_subquery};
use icefield_core::ErrorKind;
use icefield_core::catalog::{Catalog, MemoryCatalog};
use icefield_core::commit::Isolation;
use icefield_core::evolve::identity;
use icefield_engine::ops::DataFrameExt;
use icefield_engine::transform::column;
use icefield_engine::{Pipeline, Session, Table, Transform};

use crate::write_support::sorted_rows as rows;

const CREATE: &str =
    "CREATE TABLE a.t AS SELECT column1 AS id, column2 AS city FROM (VALUES (1, 'x'), (2, 'y'))";

async fn lake() -> Session {
    let session = Session::builder().parallelism(2).build().unwrap();
    session.sql(CREATE).await.unwrap().collect().await.unwrap();
    session
}

/// Another writer's row.
async fn append(session: &Session) {
    session.sql("INSERT INTO a.t VALUES (9, 'new')").await.unwrap().collect().await.unwrap();
}

async fn table(session: &Session) -> Table {
    session.table("a.t").await.unwrap()
}

/// What is made of a look at the table, by whatever way.
async fn made(session: &Session, way: &str) -> DataFrame {
    let t = table(session).await.dataframe().await.unwrap();
    match way {
        "a filter" => t.filter(col("id").gt(lit(1_i64))).unwrap(),
        "an alias" => t.alias("other").unwrap().filter(col("other.id").gt(lit(1_i64))).unwrap(),
        "a query" => {
            session.sql("SELECT id, city FROM (SELECT * FROM a.t) WHERE id IN (SELECT 1)").await.unwrap()
        }
        "a condition alone" => session
            .sql("SELECT * FROM (VALUES (7, 'z')) v(id, city) WHERE EXISTS (SELECT 1 FROM a.t WHERE id = 1)")
            .await
            .unwrap(),
        "a scalar subquery" => {
            let least =
                t.clone().select(vec![col("id")]).unwrap().limit(0, Some(1)).unwrap().into_unoptimized_plan();
            let other = session.sql("SELECT 5 AS id, 'z' AS city").await.unwrap();
            other.with_column("id", scalar_subquery(std::sync::Arc::new(least))).unwrap()
        }
        "a union" => session.sql("SELECT 5 AS id, 'z' AS city").await.unwrap().union(t).unwrap(),
        "a join" => {
            let other = session.sql("SELECT 1 AS key").await.unwrap();
            let joined = t.join(other, JoinType::Inner, &["id"], &["key"], None).unwrap();
            joined.select(vec![col("id"), col("city")]).unwrap()
        }
        "a view" => {
            let _ = session.context().deregister_table("seen");
            session.context().register_table("seen", t.into_view()).unwrap();
            session.sql("SELECT * FROM seen").await.unwrap()
        }
        "a view of a view" => {
            let _ = session.context().deregister_table("seen");
            session.context().register_table("seen", t.into_view()).unwrap();
            session.sql("CREATE OR REPLACE VIEW again AS SELECT * FROM seen").await.unwrap();
            session.sql("SELECT * FROM again WHERE id = 1").await.unwrap()
        }
        "a common table expression" => session
            .sql("WITH v AS (SELECT * FROM a.t) SELECT v.id, w.city FROM v JOIN v w USING (id)")
            .await
            .unwrap(),
        "appends" => {
            let t = table(session).await;
            t.appended_between(icefield_engine::changes::Beginning, "main").await.unwrap()
        }
        "changes" => session.sql("SELECT id, city FROM changes('a.t', NULL, 'main')").await.unwrap(),
        "a cached transform" => {
            let columns = || {
                let types = [arrow::datatypes::DataType::Int64, arrow::datatypes::DataType::Utf8];
                ["id", "city"].into_iter().zip(types).map(|(name, of)| column(name, of)).collect::<Vec<_>>()
            };
            let one = Transform::new("one", |inputs| inputs.get("a.t")).input("a.t", columns()).cache();
            let two = Transform::new("two", |inputs| inputs.get("one")).input("one", columns()).cache();
            Pipeline::new(session).transform(one).transform(two).output("two").await.unwrap()
        }
        other => panic!("{other}"),
    }
}

const WAYS: [&str; 13] = [
    "a filter",
    "an alias",
    "a query",
    "a condition alone",
    "a scalar subquery",
    "a union",
    "a join",
    "a view",
    "a view of a view",
    "a common table expression",
    "appends",
    "changes",
    "a cached transform",
];

#[tokio::test(flavor = "multi_thread")]
async fn an_overwrite_conflicts_with_what_its_input_did_not_see() {
    for way in WAYS {
        let session = lake().await;
        let fresh = made(&session, way).await;
        fresh.overwrite(&session, "a.t").await.unwrap_or_else(|e| panic!("{way}: {e}"));
        let session = lake().await;
        let stale = made(&session, way).await;
        append(&session).await;
        let error = stale.clone().overwrite(&session, "a.t").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict, "{way}: {error}");
        assert_eq!(rows(&session, "SELECT * FROM a.t").await, ["1|x", "2|y", "9|new"], "{way}");
        // Neither what is added nor what goes to another table can lose it.
        stale.clone().append_to(&session, "a.t").await.unwrap();
        stale.overwrite(&session, "a.other").create_with(|t| t).await.unwrap();
        assert!(rows(&session, "SELECT * FROM a.t").await.contains(&"9|new".to_string()), "{way}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn insert_overwrite_conflicts_with_what_its_query_did_not_see() {
    let session = lake().await;
    let look = table(&session).await.dataframe().await.unwrap();
    session.context().register_table("seen", look.into_view()).unwrap();
    let planned = session.sql("INSERT OVERWRITE a.t SELECT * FROM a.t WHERE id = 1").await.unwrap();
    let explained = session.sql("EXPLAIN INSERT OVERWRITE a.t SELECT * FROM seen").await.unwrap();
    explained.collect().await.unwrap();
    append(&session).await;
    for statement in [planned, session.sql("INSERT OVERWRITE a.t SELECT * FROM seen").await.unwrap()] {
        let error = icefield_engine::from_datafusion(statement.collect().await.unwrap_err());
        assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    }
    let options = DataFrameWriteOptions::new().with_insert_operation(InsertOp::Overwrite);
    let frame = session.sql("SELECT * FROM seen").await.unwrap();
    let error = icefield_engine::from_datafusion(frame.write_table("a.t", options).await.unwrap_err());
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    let all = session.sql("INSERT INTO a.t SELECT * FROM seen WHERE id = 2").await.unwrap();
    all.collect().await.unwrap();
    assert_eq!(rows(&session, "SELECT * FROM a.t").await, ["1|x", "2|y", "2|y", "9|new"]);
    let fresh = session.sql("INSERT OVERWRITE a.t SELECT * FROM a.t WHERE id = 9").await.unwrap();
    fresh.collect().await.unwrap();
    assert_eq!(rows(&session, "SELECT * FROM a.t").await, ["9|new"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_looks_at_a_table_the_oldest_counts() {
    let session = lake().await;
    let old = table(&session).await.dataframe().await.unwrap();
    append(&session).await;
    let new = table(&session).await.dataframe().await.unwrap();
    for (one, other) in [(&old, &new), (&new, &old)] {
        let both = one.clone().union(other.clone()).unwrap();
        let error = both.overwrite(&session, "a.t").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    }
    new.overwrite(&session, "a.t").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_earlier_state_is_restored_unless_it_would_lose_a_commit() {
    let session = lake().await;
    table(&session).await.create_tag("before").await.unwrap();
    append(&session).await;
    let stale = table(&session).await;
    append(&session).await;
    let restore = async |table: &Table| {
        let before = table.as_of("before").unwrap().dataframe().await.unwrap();
        before.overwrite(&session, "a.t").await
    };
    let error = restore(&stale).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    restore(&table(&session).await).await.unwrap();
    assert_eq!(rows(&session, "SELECT * FROM a.t").await, ["1|x", "2|y"]);
    // In SQL the statement looks itself.
    append(&session).await;
    let sql = "INSERT OVERWRITE a.t SELECT * FROM a.t FOR VERSION AS OF 'before'";
    session.sql(sql).await.unwrap().collect().await.unwrap();
    assert_eq!(rows(&session, "SELECT * FROM a.t").await, ["1|x", "2|y"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_in_memory_are_based_on_the_table_that_is_said() {
    let session = lake().await;
    let seen = table(&session).await;
    let cached = seen.dataframe().await.unwrap().cache().await.unwrap();
    let batches: Vec<RecordBatch> = seen.dataframe().await.unwrap().collect().await.unwrap();
    append(&session).await;
    for frame in [cached, session.read_batches(batches.clone()).unwrap()] {
        let error = frame.overwrite(&session, "a.t").based_on(&seen).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    }
    let frame = session.read_batches(batches).unwrap();
    frame.overwrite(&session, "a.t").based_on(&table(&session).await).await.unwrap();
    assert_eq!(rows(&session, "SELECT * FROM a.t").await, ["1|x", "2|y"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_overwrite_of_a_branch_has_seen_it_as_its_input_did() {
    let session = lake().await;
    let before = table(&session).await;
    let after = before.create_branch("audit").await.unwrap();
    // A branch that is newer than the look begins at what was read.
    let frame = before.dataframe().await.unwrap();
    frame.clone().overwrite(&session, "a.t").branch("audit").await.unwrap();
    // From here on the branch has what neither look shows.
    let error = frame.overwrite(&session, "a.t").branch("audit").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    let main = after.dataframe().await.unwrap();
    let error = main.overwrite(&session, "a.t").branch("audit").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    // To read one branch and overwrite another is to have looked at both.
    let audit = table(&session).await.as_of("audit").unwrap().dataframe().await.unwrap();
    audit.clone().overwrite(&session, "a.t").await.unwrap();
    let error = audit.overwrite(&session, "a.t").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_a_table_that_was_dropped_replace_none_of_the_next() {
    let session = lake().await;
    let old = table(&session).await.dataframe().await.unwrap();
    session.sql("DROP TABLE a.t").await.unwrap().collect().await.unwrap();
    session.sql(CREATE).await.unwrap().collect().await.unwrap();
    let error = old.overwrite(&session, "a.t").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    assert!(error.to_string().contains("dropped"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_of_the_same_name_in_another_catalog_is_another() {
    for way in WAYS {
        let (here, there) = (lake().await, lake().await);
        made(&there, way).await.overwrite(&here, "a.t").await.unwrap_or_else(|e| panic!("{way}: {e}"));
        // Its own table it has not seen the row of, whatever else it is made from.
        let other = made(&there, way).await.select(vec![col("id"), col("city")]).unwrap();
        let own = made(&here, way).await.select(vec![col("id"), col("city")]).unwrap();
        append(&here).await;
        for both in [own.clone().union(other.clone()).unwrap(), other.union(own).unwrap()] {
            let error = both.overwrite(&here, "a.t").await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Conflict, "{way}: {error}");
        }
        assert!(rows(&here, "SELECT * FROM a.t").await.contains(&"9|new".to_string()), "{way}");
    }
    let (here, there) = (lake().await, lake().await);
    let with_columns = table(&there).await.dataframe_with_metadata_columns().await.unwrap();
    let of = with_columns.select(vec![col("id"), col("city")]).unwrap();
    of.overwrite(&here, "a.t").based_on(&table(&there).await).await.unwrap();
    here.context().register_table("theirs", table(&there).await.provider().unwrap()).unwrap();
    let sql = "INSERT OVERWRITE a.t SELECT * FROM theirs";
    here.sql(sql).await.unwrap().collect().await.unwrap();
    // One catalog, opened twice: the table that had the name is gone.
    let again = Session::builder().catalog(here.catalog().clone()).build().unwrap();
    let old = table(&again).await.dataframe().await.unwrap();
    here.sql("DROP TABLE a.t").await.unwrap().collect().await.unwrap();
    here.sql(CREATE).await.unwrap().collect().await.unwrap();
    let error = old.overwrite(&here, "a.t").await.unwrap_err();
    assert!(error.to_string().contains("dropped"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_in_another_catalog_hides_no_commit() {
    let here = lake().await;
    let copies = MemoryCatalog::new("memory://copies", here.catalog().storage().clone());
    let there = Session::builder().catalog(Arc::new(copies) as Arc<dyn Catalog>).build().unwrap();
    let t = table(&here).await;
    there.sql("CREATE SCHEMA a").await.unwrap().collect().await.unwrap();
    there.catalog().register_table(t.ident(), t.core().metadata_location()).await.unwrap();
    let old = t.dataframe().await.unwrap();
    append(&here).await;
    let new = table(&here).await.dataframe().await.unwrap();
    for _ in 0..3 {
        append(&there).await;
    }
    let copy = table(&there).await.dataframe().await.unwrap();
    for one in [&old, &new, &copy] {
        for two in [&old, &new, &copy] {
            let all = one.clone().union(two.clone()).unwrap().union(old.clone()).unwrap();
            let error = all.union(copy.clone()).unwrap().overwrite(&here, "a.t").await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
        }
    }
    assert_eq!(rows(&here, "SELECT * FROM a.t").await, ["1|x", "2|y", "9|new"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn under_snapshot_isolation_only_removals_are_unseen() {
    let session = lake().await;
    let look = table(&session).await.dataframe().await.unwrap();
    append(&session).await;
    let overwrite =
        |frame: &DataFrame| frame.clone().overwrite(&session, "a.t").isolation(Isolation::Snapshot);
    overwrite(&look).await.unwrap();
    let error = overwrite(&look).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_to_other_partitions_is_no_conflict() {
    let session = lake().await;
    let rows_of = table(&session).await.dataframe().await.unwrap();
    rows_of.append_to(&session, "a.p").create_with(|t| t.partition_by([identity("city")])).await.unwrap();
    let p = session.table("a.p").await.unwrap().dataframe().await.unwrap();
    let x = p.clone().filter(col("city").eq(lit("x"))).unwrap();
    let insert = "INSERT INTO a.p VALUES (9, 'y')";
    session.sql(insert).await.unwrap().collect().await.unwrap();
    x.clone().overwrite(&session, "a.p").filter(col("city").eq(lit("x"))).await.unwrap();
    let y = p.filter(col("city").eq(lit("y"))).unwrap();
    for overwrite in [
        y.clone().overwrite(&session, "a.p").filter(col("city").eq(lit("y"))),
        y.overwrite(&session, "a.p").dynamic_partitions(),
        x.overwrite(&session, "a.p").dynamic_partitions(),
    ] {
        let error = overwrite.await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    }
    assert_eq!(rows(&session, "SELECT * FROM a.p").await, ["1|x", "2|y", "9|y"]);
}
