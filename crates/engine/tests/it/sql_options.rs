//! Statements that others write: what they may do, and what they may take.

use std::time::{Duration, Instant};

use datafusion::execution::memory_pool::MemoryLimit;
use icefield_core::ErrorKind;
use icefield_engine::session::SqlOptions;
use icefield_engine::{Session, from_datafusion};

use crate::scan_support::text_rows;
use crate::write_support::Lake;

/// A table `db.t` of two rows, each of a commit of its own.
async fn lake() -> Lake {
    let lake = Lake::open().await;
    for statement in [
        "CREATE SCHEMA db",
        "CREATE TABLE db.t (id BIGINT)",
        "INSERT INTO db.t VALUES (1)",
        "INSERT INTO db.t VALUES (2)",
    ] {
        lake.session.sql(statement).await.unwrap().collect().await.unwrap();
    }
    lake
}

async fn rows(session: &Session, query: &str, options: SqlOptions) -> icefield_core::Result<Vec<String>> {
    let batches = session.sql_with(query, options).await?.collect().await.map_err(from_datafusion)?;
    Ok(text_rows(&batches))
}

async fn unchanged(lake: &Lake) {
    let shown = rows(&lake.session, "SELECT id FROM db.t ORDER BY id", SqlOptions::new()).await.unwrap();
    assert_eq!(shown, ["1", "2"]);
    let tables = "SELECT table_schema || '.' || table_name FROM information_schema.tables \
                  WHERE table_schema <> 'information_schema'";
    assert_eq!(rows(&lake.session, tables, SqlOptions::new()).await.unwrap(), ["db.t"]);
    let pool = lake.session.context().runtime_env().memory_pool.clone();
    assert!(matches!(pool.memory_limit(), MemoryLimit::Finite(of) if of == lake.session.memory_budget()));
}

#[tokio::test]
async fn a_read_only_statement_changes_nothing() {
    let lake = lake().await;
    let out = tempfile::tempdir().unwrap();
    let to = out.path().join("out.csv");
    let to = to.display();
    let prepare = "PREPARE others AS INSERT INTO db.t VALUES (9)";
    lake.session.sql(prepare).await.unwrap().collect().await.unwrap();
    let statements = [
        format!("COPY (SELECT 1) TO '{to}'"),
        format!("copy db.t to '{to}' STORED AS CSV"),
        format!("EXPLAIN COPY (SELECT 1) TO '{to}'"),
        format!("EXPLAIN ANALYZE COPY (SELECT 1) TO '{to}'"),
        format!("EXPLAIN ANALYZE VERBOSE COPY db.t TO '{to}' STORED AS PARQUET"),
        format!("SELECT * FROM (COPY (SELECT 1) TO '{to}')"),
        format!("PREPARE p AS COPY (SELECT 1) TO '{to}'"),
        format!("SELECT 1; COPY (SELECT 1) TO '{to}'"),
        format!("CREATE EXTERNAL TABLE x (a TEXT) STORED AS CSV LOCATION '{to}'"),
        format!("/* SELECT */ CREATE UNBOUNDED EXTERNAL TABLE x (a TEXT) STORED AS CSV LOCATION '{to}'"),
        "CREATE EXTERNAL TABLE x (a TEXT) STORED AS CSV LOCATION '/etc/passwd'".to_string(),
    ];
    let more = [
        "CREATE TABLE db.u AS SELECT 1 AS a",
        "CREATE TABLE db.u (a BIGINT)",
        "CREATE TABLE IF NOT EXISTS db.t (a BIGINT)",
        "CREATE TABLE u AS SELECT 1 AS a",
        "EXPLAIN ANALYZE CREATE TABLE u AS SELECT 1 AS a",
        "CREATE VIEW v AS SELECT 1",
        "CREATE OR REPLACE VIEW v AS SELECT * FROM db.t",
        "CREATE SCHEMA s",
        "CREATE DATABASE d",
        "CREATE INDEX i ON db.t (id)",
        "CREATE FUNCTION f(BIGINT) RETURNS BIGINT RETURN $1 + 1",
        "DROP FUNCTION abs",
        "DROP TABLE db.t",
        "dRoP tAbLe IF EXISTS db.t, db.u",
        "DROP TABLE \"db\".\"t\"",
        "DROP VIEW IF EXISTS v",
        "DROP SCHEMA db CASCADE",
        "ALTER TABLE db.t ADD COLUMN a BIGINT",
        "ALTER TABLE db.t RENAME TO db.u",
        "ALTER TABLE db.t SET TBLPROPERTIES ('a' = 'b')",
        "ALTER TABLE db.t WRITE ORDERED BY id",
        "ALTER TABLE db.t ADD PARTITION FIELD bucket(4, id)",
        "EXPLAIN ALTER TABLE db.t DROP COLUMN id",
        "EXPLAIN ANALYZE ALTER TABLE db.t DROP COLUMN id",
        "EXPLAIN EXPLAIN ANALYZE DROP TABLE db.t",
        "CREATE OR REPLACE TABLE db.t (a BIGINT)",
        "CREATE OR REPLACE TABLE db.t AS SELECT 1 AS a",
        "EXPLAIN ANALYZE CREATE OR REPLACE TABLE db.t AS SELECT 1 AS a",
        "CREATE TABLE db.u AS (COPY (SELECT 1) TO '/tmp/out.csv')",
        "CREATE NAMESPACE s",
        "EXPLAIN ANALYZE CREATE NAMESPACE s",
        "DROP NAMESPACE db",
        "PREPARE p AS DROP TABLE db.t",
        "PREPARE p AS CREATE TABLE db.u (a BIGINT)",
        "CREATE TEMPORARY FUNCTION f(a BIGINT) RETURN a + 1",
        "SHOW TABLES; DROP TABLE db.t",
        "TRUNCATE TABLE db.t",
        "INSERT INTO db.t VALUES (9)",
        "INSERT OVERWRITE db.t VALUES (9)",
        "INSERT INTO db.t FOR VERSION AS OF 'main' VALUES (9)",
        "REPLACE INTO db.t VALUES (9)",
        "EXPLAIN INSERT INTO db.t VALUES (9)",
        "EXPLAIN ANALYZE INSERT INTO db.t VALUES (9)",
        "EXPLAIN EXPLAIN ANALYZE INSERT INTO db.t VALUES (9)",
        "DELETE FROM db.t",
        "UPDATE db.t SET id = 9",
        "MERGE INTO db.t USING db.t AS u ON db.t.id = u.id WHEN MATCHED THEN DELETE",
        "SELECT * INTO u FROM db.t",
        "WITH x AS (SELECT * FROM db.t) SELECT * INTO u FROM x",
        "WITH x AS (INSERT INTO db.t VALUES (9) RETURNING id) SELECT * FROM x",
        "WITH x AS (SELECT 9 AS id) INSERT INTO db.t SELECT id FROM x",
        "SELECT (INSERT INTO db.t VALUES (9))",
        "SELECT 1; DROP TABLE db.t",
        "SELECT 1; SELECT 2",
        ";DROP TABLE db.t",
        "SET datafusion.execution.target_partitions = 1",
        "SET datafusion.runtime.memory_limit = '1T'",
        "RESET datafusion.execution.batch_size",
        "SET TIME ZONE = '+01:00'",
        "PREPARE p AS INSERT INTO db.t VALUES (9)",
        "PREPARE p AS SELECT 1",
        "EXECUTE others",
        "DEALLOCATE others",
        "BEGIN",
        "START TRANSACTION",
        "COMMIT",
        "USE db",
        "ATTACH DATABASE 'x' AS y",
        "LOAD EXTENSION '/tmp/x.so'",
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM \"/etc/passwd\"",
        "SELECT * FROM `/etc/passwd`",
        "SELECT * FROM 'file:///etc/passwd.csv'",
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM parquet_metadata('/etc/passwd')",
        "TABLE '/etc/passwd'",
        "DESCRIBE '/etc/passwd'",
    ];
    for statement in statements.iter().map(String::as_str).chain(more) {
        let done = rows(&lake.session, statement, SqlOptions::read_only()).await;
        let error = done.map(|rows| panic!("{statement}: {rows:?}")).unwrap_err();
        let kinds = [ErrorKind::InvalidInput, ErrorKind::Unsupported, ErrorKind::NotFound];
        assert!(kinds.contains(&error.kind()), "{statement}: {error}");
    }
    assert_eq!(std::fs::read_dir(out.path()).unwrap().count(), 0);
    unchanged(&lake).await;
}

#[tokio::test]
async fn a_read_only_statement_reads_whatever_there_is() {
    let lake = lake().await;
    let table = lake.session.table("db.t").await.unwrap();
    let first = table.core().history().first().unwrap().snapshot_id;
    let queries = [
        format!("SELECT id FROM db.t FOR VERSION AS OF {first}"),
        format!(
            "WITH x AS (SELECT * FROM db.t VERSION AS OF {first}) SELECT x.id FROM x JOIN db.t ON x.id = t.id"
        ),
        format!("SELECT id - 1 FROM appends('db.t', {first}, 'main')"),
        "SELECT count(*) - 1 FROM db.t$files".to_string(),
        "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'db'".to_string(),
        "VALUES (1)".to_string(),
        "(SELECT 1)".to_string(),
        "SELECT min(id) FROM (SELECT * FROM db.t UNION ALL SELECT 7)".to_string(),
    ];
    for query in &queries {
        assert_eq!(rows(&lake.session, query, SqlOptions::read_only()).await.unwrap(), ["1"], "{query}");
    }
    for query in [
        "EXPLAIN SELECT * FROM db.t",
        "EXPLAIN ANALYZE SELECT * FROM db.t",
        "DESCRIBE db.t",
        "SHOW TABLES",
        "SHOW COLUMNS FROM db.t",
        "SHOW NAMESPACES",
        "SHOW TBLPROPERTIES db.t",
        "SHOW CREATE TABLE db.t",
        "DESCRIBE TABLE EXTENDED db.t",
        "EXPLAIN DESCRIBE db.t",
        "SHOW ALL",
        "SHOW datafusion.execution.batch_size",
    ] {
        let shown = rows(&lake.session, query, SqlOptions::read_only()).await.unwrap();
        assert!(!shown.is_empty(), "{query}");
    }
}

#[tokio::test]
async fn what_is_switched_on_alone_is_all_that_can_be_done() {
    let lake = lake().await;
    let out = tempfile::tempdir().unwrap();
    let to = out.path().join("out.csv");
    let copy = format!("COPY (SELECT id FROM db.t) TO '{}'", to.display());
    let external = format!("CREATE EXTERNAL TABLE x STORED AS CSV LOCATION '{}'", to.display());
    let statements = [
        "CREATE TABLE db.new (id BIGINT)",
        "INSERT INTO db.new VALUES (9)",
        &copy,
        "SET datafusion.execution.batch_size = 1000",
        &external,
        "DROP TABLE db.new",
    ];
    let none = SqlOptions::read_only;
    let (ddl, dml) = (none().allow_ddl(true), none().allow_dml(true));
    let (files, settings) = (none().allow_files(true), none().allow_settings(true));
    let needed = [&ddl, &dml, &files, &settings, &ddl.clone().allow_files(true), &ddl];
    let others = [
        SqlOptions::new().allow_ddl(false),
        SqlOptions::new().allow_dml(false),
        SqlOptions::new().allow_files(false),
        SqlOptions::new().allow_settings(false),
        SqlOptions::new().allow_files(false),
        SqlOptions::new().allow_ddl(false),
    ];
    for ((statement, with), without) in statements.into_iter().zip(needed).zip(others) {
        let refused = rows(&lake.session, statement, without).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidInput, "{statement}: {refused}");
        assert!(refused.to_string().contains("not allowed here"), "{refused}");
        rows(&lake.session, statement, with.clone()).await.unwrap();
    }
    assert_eq!(std::fs::read_to_string(to).unwrap().lines().count(), 3);
    // What was prepared by one who may write is no way to write for one who may not.
    rows(&lake.session, "PREPARE p AS INSERT INTO db.t VALUES (9)", SqlOptions::new()).await.unwrap();
    let refused = rows(&lake.session, "EXECUTE p", settings).await.unwrap_err();
    assert!(refused.to_string().contains("DML"), "{refused}");
    rows(&lake.session, "DROP TABLE x", ddl).await.unwrap();
    unchanged(&lake).await;
}

#[tokio::test]
async fn no_statement_changes_the_sessions_budget() {
    let lake = lake().await;
    for statement in [
        "SET datafusion.runtime.memory_limit = '1T'",
        "set DataFusion.Runtime.Memory_Limit = '1T'",
        "SET \"datafusion.runtime.memory_limit\" = '1T'",
        "SET \"datafusion\".\"runtime\".\"memory_limit\" TO '1T'",
        "SET datafusion.runtime.temp_directory = '/etc'",
        "SET datafusion.runtime.max_temp_directory_size = '1K'",
        "RESET datafusion.runtime.memory_limit",
        "RESET \"DATAFUSION\".runtime.temp_directory",
        "PREPARE p AS SET datafusion.runtime.memory_limit = '1T'",
        "SHOW \"datafusion.runtime.x' OR '1' = '1\"",
        "SHOW \"datafusion.runtime.x'; DROP TABLE db.t; --\"",
    ] {
        let error = lake.session.sql(statement).await.map(drop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{statement}: {error}");
    }
    let set = "SET datafusion.execution.batch_size = 1000";
    lake.session.sql(set).await.unwrap();
    assert_eq!(lake.session.context().state().config().batch_size(), 1000);
    unchanged(&lake).await;
}

const MIB: usize = 1 << 20;
/// Takes years.
const ENDLESS: &str = "SELECT sum(value % 7) AS s FROM generate_series(1, 1000000000000000)";

#[tokio::test(flavor = "multi_thread")]
async fn a_query_holds_no_more_memory_than_its_limit() {
    let session = Session::builder().parallelism(2).memory_budget(512 * MIB).build().unwrap();
    let join = "SELECT count(*) FROM generate_series(1, 10000000) AS a JOIN generate_series(1, 10000000) AS b \
                ON a.value = b.value";
    for query in [join.to_string(), format!("EXPLAIN ANALYZE {join}")] {
        let limited = SqlOptions::read_only().memory_limit(MIB);
        let error = rows(&session, &query, limited).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ResourceExhausted, "{error}");
        assert!(error.to_string().contains("SqlOptions::memory_limit"), "{error}");
    }
    for window in [
        "max(value) OVER ()",
        "ntile(4) OVER ()",
        "rank() OVER (ORDER BY value RANGE BETWEEN CURRENT ROW AND \
         UNBOUNDED FOLLOWING), last_value(value) OVER (ROWS BETWEEN 1 FOLLOWING AND UNBOUNDED FOLLOWING)",
    ] {
        let query = format!("SELECT {window} FROM generate_series(1, 3000000)");
        let error = rows(&session, &query, SqlOptions::read_only().memory_limit(16 * MIB))
            .await
            .map(drop)
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ResourceExhausted, "{query}: {error}");
        let query = format!("SELECT {window} FROM generate_series(1, 3000)");
        let limited = SqlOptions::read_only().memory_limit(16 * MIB);
        assert_eq!(rows(&session, &query, limited).await.unwrap().len(), 3000, "{query}");
    }
    // What fits is done, and a limit above the session's is none.
    let sort = "SELECT value FROM generate_series(1, 300000) ORDER BY value % 1000, value";
    for limit in [64 * MIB, usize::MAX] {
        let sorted = rows(&session, sort, SqlOptions::read_only().memory_limit(limit)).await.unwrap();
        assert_eq!((sorted.len(), sorted[0].as_str(), sorted[299_999].as_str()), (300_000, "1000", "299999"));
    }
    assert_eq!(session.context().runtime_env().memory_pool.reserved(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_function_makes_more_than_there_is_memory_for() {
    let lake = lake().await;
    let limited = || SqlOptions::read_only().memory_limit(16 * MIB);
    let common = |each: &str| {
        let more: Vec<String> =
            (1..12).map(|n| format!("c{n} AS (SELECT {each} AS n FROM c{})", n - 1)).collect();
        format!(
            "WITH c0 AS (SELECT CAST(id AS STRING) AS n FROM db.t), {} SELECT length(n) FROM c11",
            more.join(", ")
        )
    };
    let days = "date '0001-01-01', date '9999-01-01', interval '1 day'";
    for query in [
        "SELECT length(repeat('x', 2000000000))".to_string(),
        "SELECT length(repeat(CAST(id AS STRING), 2000000000)) FROM db.t".to_string(),
        "SELECT count(DISTINCT repeat('x', 100000)) FROM generate_series(1, 100000)".to_string(),
        "SELECT length(lpad('x', 2000000000)), 1".to_string(),
        "SELECT length(rpad(CAST(id AS STRING), 2000000000, 'ab')) FROM db.t".to_string(),
        "SELECT length(replace(repeat('a', 100000), 'a', repeat('b', 100000)))".to_string(),
        "SELECT length(regexp_replace(repeat('a', 100000), 'a', repeat('b', 100000), 'g'))".to_string(),
        "SELECT array_length(array_repeat(1, 1000000000))".to_string(),
        "SELECT array_length(array_resize([id], 1000000000, 2)) FROM db.t".to_string(),
        "SELECT array_length(range(1000000000))".to_string(),
        "SELECT array_length(generate_series(id, 1000000000)) FROM db.t".to_string(),
        format!("SELECT array_length(generate_series({days})) FROM generate_series(1, 10000)"),
        "SELECT length(array_to_string(range(1, 100000), repeat('x', 100000)))".to_string(),
        common("concat(n, n, n, n, n, n, n, n, n, n)"),
        common("concat_ws(n, n, n, n, n, n, n)"),
        common("n || n || n || n || n || n || n || n"),
    ] {
        let error = rows(&lake.session, &query, limited()).await.map(|_| panic!("{query}")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ResourceExhausted, "{query}: {error}");
        assert!(error.to_string().contains("SqlOptions::memory_limit"), "{query}: {error}");
    }
    // A session's own statements have its budget.
    let own = rows(&lake.session, "SELECT length(repeat('x', 100000000))", SqlOptions::new()).await.unwrap();
    assert_eq!(own, ["100000000"]);
    let small = Session::builder().memory_budget(16 * MIB).build().unwrap();
    let error = rows(&small, "SELECT repeat('x', 100000000)", SqlOptions::new()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ResourceExhausted, "{error}");
    assert_eq!(lake.session.context().runtime_env().memory_pool.reserved(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn bounded_functions_make_the_values_that_they_always_made() {
    let lake = lake().await;
    let text = "CAST(value % 100 AS STRING)";
    for values in [
        format!("repeat({text}, CAST(value % 50 AS INT))"),
        format!("repeat({text}, 2 - CAST(value % 7 AS INT))"),
        format!("lpad({text}, value % 400, 'aä')"),
        format!("rpad({text}, 400)"),
        format!("replace(repeat({text}, 30), '1', 'eleven')"),
        format!("replace({text}, '', '-')"),
        format!("regexp_replace(repeat({text}, 30), '([1-3])(.)', '\\2<\\1>', 'g')"),
        "array_to_string(array_repeat(value, value % 90), ', ')".to_string(),
        "array_to_string(range(value % 100, 200, 1 + value % 3), ',')".to_string(),
        "array_to_string(generate_series(5, value % 50 - 20, -2), ',')".to_string(),
        "array_length(array_resize([value, 2], value % 70, 3))".to_string(),
        format!("concat({text}, NULL, repeat({text}, 60))"),
        format!("concat_ws('-', {text}, NULL, repeat({text}, 60))"),
        format!("{text} || repeat({text}, 40) || NULLIF({text}, '7')"),
        "lpad('7', 3, '0') || concat('a', 1) || repeat('ab', 100)".to_string(),
        "array_to_string(generate_series(date '2020-01-01', date '2021-01-01', interval '1 month'), ',')"
            .to_string(),
    ] {
        let query = format!("SELECT {values} FROM generate_series(1, 10000) ORDER BY value");
        let own = rows(&lake.session, &query, SqlOptions::new()).await.unwrap();
        let limited = SqlOptions::read_only().memory_limit(24 * MIB);
        let bounded = rows(&lake.session, &query, limited).await.unwrap_or_else(|e| panic!("{query}: {e}"));
        assert!(bounded == own, "{query}");
        let plain = datafusion::prelude::SessionContext::new().sql(&query).await.unwrap();
        assert!(text_rows(&plain.collect().await.unwrap()) == own, "{query}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_ends_when_its_time_is_over() {
    let lake = lake().await;
    let limited = |options: SqlOptions| options.timeout(Duration::from_millis(200));
    let began = Instant::now();
    for query in [ENDLESS.to_string(), format!("EXPLAIN ANALYZE {ENDLESS}")] {
        let error = rows(&lake.session, &query, limited(SqlOptions::read_only())).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ResourceExhausted, "{error}");
        assert!(error.to_string().contains("SqlOptions::timeout"), "{error}");
    }
    // Joins that go through all pairs of rows before they give one.
    for join in [
        "FULL JOIN generate_series(1, 1000000000) AS b ON a.value < b.value",
        "JOIN generate_series(1, 1000000000) AS b ON a.value + b.value < 0",
        "JOIN generate_series(1, 1000000000) AS b ON a.value % 2 = b.value % 2 AND a.value + b.value < 0",
    ] {
        let query = format!("SELECT count(*) FROM generate_series(1, 300000) AS a {join}");
        let error = rows(&lake.session, &query, limited(SqlOptions::read_only())).await.unwrap_err();
        assert!(error.to_string().contains("SqlOptions::timeout"), "{error}");
    }
    for statement in [format!("CREATE TABLE db.u AS {ENDLESS}"), format!("CREATE TABLE u AS {ENDLESS}")] {
        let error = rows(&lake.session, &statement, limited(SqlOptions::new())).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ResourceExhausted, "{error}");
    }
    let insert = format!("INSERT INTO db.t {ENDLESS}");
    let error = rows(&lake.session, &insert, limited(SqlOptions::new())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ResourceExhausted, "{error}");
    // What is made of the DataFrame is limited as well, and each run has the time anew.
    let frame = lake.session.sql_with("SELECT id FROM db.t", limited(SqlOptions::read_only())).await.unwrap();
    for _ in 0..2 {
        tokio::time::sleep(Duration::from_millis(150)).await;
        assert_eq!(frame.clone().count().await.unwrap(), 2);
    }
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    unchanged(&lake).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_form_of_a_statement_brings_the_process_down() {
    let lake = lake().await;
    let chain = |with: &str, one: &str, count: usize| vec![one; count].join(with);
    // As much as is taken is planned and run on a stack of 2 MiB, without optimization of the code.
    for query in [
        format!("SELECT {}", chain(" + ", "1", 198)),
        format!("SELECT count(*) FROM db.t WHERE {}", chain(" OR ", "id = 7", 96)),
        format!("SELECT 1{}", "::BIGINT".repeat(190)),
        format!("SELECT count(*) FROM ({})", chain(" UNION ALL ", "SELECT 1", 48)),
        format!("SELECT count(*) FROM db.t WHERE id IN ({})", chain(", ", "7", 3000)),
    ] {
        rows(&lake.session, &query, SqlOptions::read_only()).await.unwrap();
    }
    let named_twice = |each: &str| {
        let more: Vec<String> =
            (1..24).map(|n| format!("c{n} AS ({})", each.replace('$', &format!("c{}", n - 1)))).collect();
        format!("WITH c0 AS (SELECT id AS n FROM db.t), {} SELECT n FROM c23", more.join(", "))
    };
    let tables: Vec<String> = (0..1000).map(|n| format!("db.t AS t{n}")).collect();
    let common: Vec<String> = (1..1000).map(|n| format!("c{n} AS (SELECT * FROM c{})", n - 1)).collect();
    for statement in [
        format!("SELECT {}", chain(" + ", "1", 3000)),
        format!("SELECT {}", chain(" || ", "'a'", 3000)),
        format!("SELECT id FROM db.t WHERE {}", chain(" OR ", "id = 7", 3000)),
        format!("SELECT 1{}", "::BIGINT".repeat(3000)),
        chain(" UNION ALL ", "SELECT 1", 3000),
        format!("SELECT 1 FROM {}", tables.join(", ")),
        format!("SELECT 1 FROM {}", tables.join(" CROSS JOIN ")),
        format!("WITH c0 AS (SELECT 1), {} SELECT * FROM c999", common.join(", ")),
        format!("SELECT CAST(NULL AS {}INT{})", "ARRAY<".repeat(1000), ">".repeat(1000)),
        format!("SELECT {}1{}", "(".repeat(20_000), ")".repeat(20_000)),
        format!("{}SELECT 1{}", "SELECT * FROM (".repeat(5_000), ")".repeat(5_000)),
        format!("{} SELECT 1", "EXPLAIN ".repeat(5_000)),
        format!("SELECT {} 1", "- ".repeat(5_000)),
        named_twice("SELECT n FROM $ UNION ALL SELECT n FROM $"),
        named_twice("SELECT n FROM $ WHERE n IN (SELECT n FROM $)"),
        named_twice("VALUES ((TABLE $)), ((TABLE $))"),
        format!("{} WHERE n > 5", named_twice("SELECT n + n AS n FROM $")),
        format!("{} ORDER BY n LIMIT 1", named_twice("SELECT n * n AS n FROM $")),
        format!("SELECT count(*) FROM db.t GROUP BY CUBE(id{})", ", id + 1".repeat(23)),
        format!("SELECT {} true", "NOT ".repeat(5_000)),
        "SELECT '".to_string(),
        "SELECT $$".to_string(),
        "\0".to_string(),
        "SELECT * FROM db.t FOR VERSION AS OF 99999999999999999999999".to_string(),
        "SELECT * FROM db.t FOR TIMESTAMP AS OF '-999999999-01-01'".to_string(),
        "SELECT * FROM appends('db.t', 99999999999999999999, -1)".to_string(),
    ] {
        let begin: String = statement.chars().take(60).collect();
        let done = rows(&lake.session, &statement, SqlOptions::read_only()).await;
        assert!(done.is_err(), "{begin}: {done:?}");
    }
    // What the parser itself goes down into is refused of everybody.
    for statement in ["EXPLAIN ".repeat(5_000), format!("SELECT CAST(1 AS {}", "ARRAY<".repeat(1000))] {
        lake.session.sql(&statement).await.unwrap_err();
    }
    unchanged(&lake).await;
}
