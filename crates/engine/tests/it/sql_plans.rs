//! Statements as plans: what happens when they are planned, explained and run, and what is filled in between.

use std::collections::HashMap;

use datafusion::common::ScalarValue;
use icefield_core::ErrorKind;
use icefield_engine::{Session, from_datafusion};

use crate::scan_support::{rows, run};

async fn session() -> Session {
    let session = Session::builder().parallelism(2).build().unwrap();
    run(&session, "CREATE TABLE db.t AS SELECT 1 AS id, 'a' AS name").await.unwrap();
    session.table("db.t").await.unwrap().create_tag("first").await.unwrap();
    run(&session, "INSERT INTO db.t VALUES (2, 'b')").await.unwrap();
    session
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_the_catalog_waits_until_it_is_run() {
    let session = session().await;
    for (statement, before, after) in [
        ("CREATE NAMESPACE n", "0", "1"),
        ("CREATE TABLE n.made AS SELECT 7 AS x", "0", "1"),
        ("ALTER TABLE n.made RENAME COLUMN x TO y", "x", "y"),
        ("CREATE OR REPLACE TABLE n.made (z INT)", "y", "z"),
        ("DROP TABLE n.made", "1", "0"),
        ("DROP NAMESPACE n", "1", "0"),
    ] {
        let seen = async || {
            let shown = match statement {
                _ if statement.contains("NAMESPACE") => rows(&session, "SHOW NAMESPACES LIKE 'n'").await,
                _ if before.parse::<i32>().is_err() => {
                    return rows(&session, "SHOW COLUMNS IN n.made").await.join(",");
                }
                _ => rows(&session, "SHOW TABLES IN n").await,
            };
            shown.len().to_string()
        };
        let planned = session.sql(statement).await.unwrap();
        run(&session, &format!("EXPLAIN {statement}")).await.unwrap();
        let explained = planned.clone().explain(true, false).unwrap().collect().await.unwrap();
        assert!(!explained.is_empty());
        assert_eq!(seen().await, before, "{statement}");
        planned.collect().await.unwrap();
        assert_eq!(seen().await, after, "{statement}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_is_filled_in_when_its_value_is_known() {
    let session = session().await;
    let first = session.table("db.t").await.unwrap().core().history()[0].snapshot_id;
    let query = "SELECT old.id, now.name FROM db.t FOR VERSION AS OF $1 old JOIN db.t now ON old.id = now.id \
                 WHERE now.id <= $2 ORDER BY 1";
    for (version, expected) in [
        (ScalarValue::from("first"), 1),
        (ScalarValue::from("main"), 2),
        (ScalarValue::from(first), 1),
        (ScalarValue::Utf8View(Some("first".to_string())), 1),
    ] {
        let frame = session.sql(query).await.unwrap();
        let filled = frame.with_param_values(vec![version.clone(), ScalarValue::from(9_i64)]).unwrap();
        assert_eq!(filled.count().await.unwrap(), expected, "{version}");
    }
    // By name, in a subquery, and in what is written.
    let named = "SELECT id FROM db.t WHERE id NOT IN (SELECT id FROM db.t TIMESTAMP AS OF $at)";
    let frame = session.sql(named).await.unwrap();
    let at = HashMap::from([("at", ScalarValue::from("2100-01-01"))]);
    assert_eq!(frame.with_param_values(at).unwrap().count().await.unwrap(), 0);
    let insert =
        session.sql("INSERT INTO db.t SELECT id + 10, name FROM db.t VERSION AS OF $1").await.unwrap();
    insert.with_param_values(vec![ScalarValue::from("first")]).unwrap().collect().await.unwrap();
    assert_eq!(rows(&session, "SELECT id FROM db.t ORDER BY id").await, ["1", "2", "11"]);
    let create = session.sql("CREATE TABLE db.u AS SELECT * FROM db.t WHERE id > $1").await.unwrap();
    create.with_param_values(vec![ScalarValue::from(2_i64)]).unwrap().collect().await.unwrap();
    assert_eq!(rows(&session, "SELECT id FROM db.u").await, ["11"]);

    for (values, kind, says) in [
        (vec![ScalarValue::from("nope"), ScalarValue::from(9_i64)], ErrorKind::NotFound, "nope"),
        (vec![ScalarValue::from(1.5), ScalarValue::from(9_i64)], ErrorKind::InvalidInput, "in quotes"),
    ] {
        let frame = session.sql(query).await.unwrap().with_param_values(values).unwrap();
        let error = from_datafusion(frame.collect().await.unwrap_err());
        assert!(error.kind() == kind && error.to_string().contains(says), "{error}");
    }
    let open = from_datafusion(session.sql(query).await.unwrap().collect().await.unwrap_err());
    assert!(open.to_string().contains("with_param_values"), "{open}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_overwrite_sees_what_its_filled_in_version_was_read_from() {
    let session = session().await;
    let frame = session.sql("SELECT * FROM db.t VERSION AS OF $1").await.unwrap();
    let frame = frame.with_param_values(vec![ScalarValue::from("first")]).unwrap();
    run(&session, "INSERT INTO db.t VALUES (3, 'c')").await.unwrap();
    use icefield_engine::ops::DataFrameExt;
    let error = frame.overwrite(&session, "db.t").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    assert_eq!(rows(&session, "SELECT count(*) FROM db.t").await, ["3"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn plans_name_tables_as_statements_do() {
    let session = session().await;
    for query in [
        "SELECT id FROM db.t FOR VERSION AS OF 'first'",
        "SELECT id FROM db.t FOR TIMESTAMP AS OF now()",
        "SELECT id FROM table_at('db.t', 'first')",
        "SELECT id FROM appends('db.t', NULL, 'main')",
        "SELECT id FROM db.t FOR VERSION AS OF $1",
    ] {
        let plan = session.sql(query).await.unwrap().into_unoptimized_plan().display_indent().to_string();
        assert!(plan.contains("TableScan: db.t"), "{query}: {plan}");
        assert!(!plan.contains('@') && !plan.contains("relation"), "{query}: {plan}");
    }
    let insert = session.sql("INSERT INTO db.t FOR VERSION AS OF 'first' VALUES (1, 'x')").await.unwrap();
    let plan = insert.into_unoptimized_plan().display_indent().to_string();
    assert!(
        plan.contains("[db.t]") || plan.contains("table=db.t") || plan.contains("table_name=db.t"),
        "{plan}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_is_replaced_with_its_history_by_one_commit() {
    let session = session().await;
    let before = session.table("db.t").await.unwrap();
    let properties = "ALTER TABLE db.t SET TBLPROPERTIES ('owner' = 'me')";
    run(&session, properties).await.unwrap();
    let replace = "CREATE OR REPLACE TABLE db.t PARTITIONED BY (id) AS SELECT id, id * 2 AS twice FROM db.t";
    run(&session, replace).await.unwrap();
    let after = session.table("db.t").await.unwrap();
    let (old, new) = (before.core().metadata(), after.core().metadata());
    assert_eq!(old.uuid(), new.uuid());
    assert_eq!(new.snapshots().len(), old.snapshots().len() + 1);
    assert_eq!(new.properties().get("owner").map(String::as_str), Some("me"));
    // No id is given twice, not even to a column of the same name.
    let ids =
        |of: &iceberg::spec::TableMetadata, name: &str| of.current_schema().field_id_by_name(name).unwrap();
    assert!(ids(new, "id") > old.last_column_id());
    assert_eq!(rows(&session, "SELECT id, twice FROM db.t ORDER BY id").await, ["1|2", "2|4"]);
    assert_eq!(rows(&session, "SELECT name FROM db.t VERSION AS OF 'first'").await, ["a"]);
    assert_eq!(rows(&session, "SHOW PARTITIONS db.t").await.len(), 2);
}
