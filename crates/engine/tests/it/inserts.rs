//! `INSERT`: values become the column's where nothing of them is lost.

use icefield_core::ErrorKind;
use icefield_core::evolve::types::{
    boolean, date, decimal, double, float, int, long, optional, string, timestamp, timestamptz,
};
use icefield_engine::{Session, from_datafusion};

use crate::write_support::sorted_rows as rows;

async fn lake() -> Session {
    let session = Session::builder().parallelism(2).build().unwrap();
    for (name, of) in [
        ("a_long", long()),
        ("a_int", int()),
        ("a_float", float()),
        ("a_double", double()),
        ("a_decimal", decimal(9, 2)),
        ("a_date", date()),
        ("a_timestamp", timestamp()),
        ("a_timestamptz", timestamptz()),
        ("a_string", string()),
        ("a_boolean", boolean()),
    ] {
        session.create_table(format!("a.{name}"), [optional("v", of)]).await.unwrap();
    }
    session
}

async fn run(session: &Session, sql: &str) -> icefield_core::Result<()> {
    session.sql(sql).await?.collect().await.map_err(from_datafusion).map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_insert_refuses_a_value_that_would_be_another() {
    let session = lake().await;
    let mut wrong = Vec::new();
    for (table, value) in [
        ("a_long", "1.7"),
        ("a_long", "CAST(2.9 AS DOUBLE)"),
        ("a_long", "true"),
        ("a_long", "9223372036854775808"),
        ("a_long", "TIMESTAMP '2024-01-01 00:00:00'"),
        ("a_long", "'1.7'"),
        ("a_int", "3000000000"),
        ("a_float", "16777217"),
        ("a_float", "CAST(16777217 AS DOUBLE)"),
        ("a_float", "'16777217'"),
        ("a_double", "9007199254740993"),
        ("a_decimal", "1.239"),
        ("a_decimal", "'1.239'"),
        ("a_decimal", "12345678.1"),
        ("a_date", "TIMESTAMP '2024-01-01 10:00:00'"),
        ("a_date", "'2024-01-01 10:00:00'"),
        ("a_date", "5"),
        ("a_timestamp", "TIMESTAMP '2024-01-01 10:00:00.123456789'"),
        ("a_timestamp", "'2024-01-01T10:00:00.123456789'"),
        ("a_timestamptz", "CAST('2024-01-01T10:00:00.123456789Z' AS TIMESTAMP WITH TIME ZONE)"),
        ("a_timestamp", "5"),
        ("a_boolean", "2"),
    ] {
        // As a constant, as a column, and where the planner has cast the constants itself.
        for sql in [
            format!("INSERT INTO a.{table} SELECT {value}"),
            format!("INSERT INTO a.{table} SELECT x FROM (SELECT {value} AS x UNION ALL SELECT NULL)"),
            format!("INSERT INTO a.{table} (v) VALUES (NULL), ({value})"),
            format!("INSERT OVERWRITE a.{table} SELECT {value}"),
        ] {
            match run(&session, &sql).await {
                Err(error) if error.kind() == ErrorKind::InvalidInput => {}
                other => wrong.push(format!("{sql}: {other:?}")),
            }
        }
        assert!(rows(&session, &format!("SELECT * FROM a.{table}")).await.is_empty(), "{table} {value}");
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let error = run(&session, "INSERT INTO a.a_long SELECT 1.7").await.unwrap_err();
    for part in ["column: v", "value: 1.7", "input type: Float64", "column type: Int64"] {
        assert!(error.to_string().contains(part), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_insert_takes_what_the_column_can_hold_whole() {
    let session = lake().await;
    for (table, value, expected) in [
        ("a_long", "1.0", "1"),
        ("a_long", "CAST(7 AS INT)", "7"),
        ("a_long", "'12'", "12"),
        ("a_int", "5", "5"),
        ("a_float", "0.1", "0.1"),
        ("a_float", "16777216", "16777216.0"),
        ("a_double", "3", "3.0"),
        ("a_double", "0.1", "0.1"),
        ("a_decimal", "1.5", "1.50"),
        ("a_decimal", "1.239e0 + 0.001", "1.24"),
        ("a_decimal", "12", "12.00"),
        ("a_date", "'2024-02-29'", "2024-02-29"),
        ("a_date", "DATE '1969-12-31'", "1969-12-31"),
        ("a_date", "TIMESTAMP '2024-01-01 00:00:00'", "2024-01-01"),
        ("a_timestamp", "'2024-01-01T10:00:00.123456'", "2024-01-01T10:00:00.123456"),
        ("a_timestamp", "TIMESTAMP '2024-01-01 10:00:00'", "2024-01-01T10:00:00"),
        ("a_timestamp", "DATE '2024-01-01'", "2024-01-01T00:00:00"),
        ("a_timestamp", "'9999-12-31T00:00:00'", "9999-12-31T00:00:00"),
        ("a_timestamptz", "'2024-01-01T10:00:00+02:00'", "2024-01-01T08:00:00Z"),
        ("a_timestamptz", "date_trunc('microsecond', now()) - now() + now()", ""),
        ("a_string", "5", "5"),
        ("a_string", "'text'", "text"),
        ("a_boolean", "true", "true"),
        ("a_boolean", "NULL", "NULL"),
    ] {
        if expected.is_empty() {
            continue;
        }
        for sql in [
            format!("INSERT OVERWRITE a.{table} SELECT {value}"),
            format!("INSERT OVERWRITE a.{table} SELECT x FROM (SELECT {value} AS x)"),
            format!("INSERT OVERWRITE a.{table} VALUES ({value})"),
        ] {
            run(&session, &sql).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
            assert_eq!(rows(&session, &format!("SELECT * FROM a.{table}")).await, [expected], "{sql}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cast_that_the_query_says_may_round() {
    let session = lake().await;
    for (table, value, expected) in [
        ("a_long", "CAST(1.7 AS BIGINT)", "1"),
        ("a_long", "1.7::bigint", "1"),
        ("a_long", "TRY_CAST('x' AS BIGINT)", "NULL"),
        ("a_decimal", "CAST(1.239 AS DECIMAL(9, 2))", "1.24"),
        ("a_date", "CAST(TIMESTAMP '2024-01-01 10:00:00' AS DATE)", "2024-01-01"),
        (
            "a_timestamp",
            "date_trunc('microsecond', TIMESTAMP '2024-01-01 10:00:00.123456789')",
            "2024-01-01T10:00:00.123456",
        ),
    ] {
        for sql in [
            format!("INSERT OVERWRITE a.{table} SELECT {value}"),
            format!("INSERT OVERWRITE a.{table} VALUES ({value})"),
        ] {
            run(&session, &sql).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
            assert_eq!(rows(&session, &format!("SELECT * FROM a.{table}")).await, [expected], "{sql}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn values_inside_a_query_have_types_of_their_own() {
    let session = lake().await;
    for (table, query, expected) in [
        ("a_double", "SELECT x / 2 FROM (VALUES (1)) AS v(x)", "0.0"),
        ("a_double", "(v) SELECT x / 2 FROM (VALUES (1)) AS v(x)", "0.0"),
        ("a_double", "WITH w AS (VALUES (1)) SELECT column1 / 2 FROM w", "0.0"),
        ("a_string", "SELECT x + 1 FROM (VALUES (10)) AS v(x)", "11"),
        ("a_long", "SELECT CAST(x * 2 AS BIGINT) FROM (VALUES (1.7)) AS v(x)", "3"),
        ("a_long", "SELECT x FROM (VALUES (CAST(1.7 AS BIGINT))) AS v(x)", "1"),
        ("a_long", "SELECT * FROM (VALUES ((1.7::bigint))) AS v", "1"),
        ("a_long", "VALUES ((CAST(1.7 AS BIGINT)))", "1"),
        ("a_long", "SELECT max(y) FROM (VALUES (1, 7), (2, 9)) AS v(x, y)", "9"),
        (
            "a_date",
            "SELECT CAST(x AS DATE) FROM (VALUES (TIMESTAMP '2024-01-01 10:00:00')) AS v(x)",
            "2024-01-01",
        ),
    ] {
        let sql = format!("INSERT OVERWRITE a.{table} {query}");
        run(&session, &sql).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
        assert_eq!(rows(&session, &format!("SELECT * FROM a.{table}")).await, [expected], "{sql}");
    }
    run(&session, "PREPARE cut AS INSERT OVERWRITE a.a_long VALUES (CAST(2.9 AS BIGINT))").await.unwrap();
    run(&session, "EXECUTE cut").await.unwrap();
    assert_eq!(rows(&session, "SELECT * FROM a.a_long").await, ["2"]);
    // What nobody has cast is not cut.
    for query in ["SELECT x FROM (VALUES (1.7)) AS v(x)", "SELECT x / 2 FROM (VALUES (1.0)) AS v(x)"] {
        let error = run(&session, &format!("INSERT INTO a.a_long {query}")).await.expect_err(query);
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{query}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nested_values_are_inserted_whole_or_not_at_all() {
    let session = Session::builder().build().unwrap();
    session
        .sql("CREATE TABLE a.n AS SELECT [CAST(1 AS BIGINT)] AS l, {'x': CAST(1 AS BIGINT)} AS s")
        .await
        .unwrap()
        .collect()
        .await
        .unwrap();
    run(&session, "INSERT INTO a.n SELECT [2, 3], {'x': 2.0}").await.unwrap();
    for sql in ["INSERT INTO a.n SELECT [2.5], {'x': 2}", "INSERT INTO a.n SELECT [2], {'x': 2.5}"] {
        let error = run(&session, sql).await.expect_err(sql);
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{sql}: {error}");
    }
    assert_eq!(rows(&session, "SELECT * FROM a.n").await, ["[1]|{x: 1}", "[2, 3]|{x: 2}"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prepared_insert_takes_values_as_others_do() {
    let session = lake().await;
    run(&session, "PREPARE put AS INSERT INTO a.a_long VALUES ($1)").await.unwrap();
    run(&session, "EXECUTE put(5)").await.unwrap();
    assert_eq!(rows(&session, "SELECT * FROM a.a_long").await, ["5"]);
    let bound = session.sql("INSERT INTO a.a_long SELECT $1").await.unwrap();
    let bound = bound.with_param_values(vec![datafusion::common::ScalarValue::Float64(Some(1.7))]).unwrap();
    let error = from_datafusion(bound.collect().await.unwrap_err());
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    assert_eq!(rows(&session, "SELECT * FROM a.a_long").await, ["5"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_branch_is_inserted_into_by_query_and_column_list() {
    let session = Session::builder().build().unwrap();
    session.sql("CREATE TABLE s.t AS SELECT 1 AS x, 'a' AS y").await.unwrap().collect().await.unwrap();
    session.table("s.t").await.unwrap().create_branch("audit").await.unwrap();
    for sql in [
        "INSERT INTO s.t FOR VERSION AS OF 'audit' SELECT 5, 'z'",
        "INSERT INTO s.t FOR VERSION AS OF 'audit' (y, x) SELECT 'q', x + 6 FROM s.t FOR VERSION AS OF 'audit' WHERE x = 5",
        "INSERT INTO s.t VERSION AS OF 'audit' VALUES (6, 'v')",
    ] {
        run(&session, sql).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
    }
    let audit = rows(&session, "SELECT * FROM s.t FOR VERSION AS OF 'audit'").await;
    assert_eq!(audit, ["11|q", "1|a", "5|z", "6|v"]);
    assert_eq!(rows(&session, "SELECT * FROM s.t").await, ["1|a"]);
}
