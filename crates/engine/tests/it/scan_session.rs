//! Sessions: the embedded catalog, SQL over all tables, time travel, budgets.

use std::io::Read;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Int64Type};
use datafusion::dataframe::{DataFrame, DataFrameWriteOptions};
use datafusion::prelude::col;
use flate2::read::GzEncoder;
use iceberg::spec::{
    FormatVersion, Literal, NestedField, PrimitiveType, Schema, Struct, Transform, Type, UnboundPartitionSpec,
};
use icefield_core::ErrorKind;
use icefield_core::storage::Storage;
use icefield_engine::{Session, Table};
use icefield_testkit::{FaultyStore, OpKind};

use crate::scan_support::{
    append, append_batches, append_exact, create, partition, rows, run, session, write_file,
};

fn schema() -> Schema {
    let of = |primitive| Type::Primitive(primitive);
    Schema::builder()
        .with_fields(vec![
            NestedField::optional(1, "id", of(PrimitiveType::Long)).into(),
            NestedField::optional(2, "city", of(PrimitiveType::String)).into(),
        ])
        .build()
        .unwrap()
}

fn by_city() -> UnboundPartitionSpec {
    UnboundPartitionSpec::builder().add_partition_field(2, "city", Transform::Identity).unwrap().build()
}

fn batch(ids: &[i64], city: Option<&str>) -> RecordBatch {
    RecordBatch::try_from_iter([
        ("id", Arc::new(Int64Array::from(ids.to_vec())) as ArrayRef),
        ("city", Arc::new(StringArray::from(vec![city; ids.len()]))),
    ])
    .unwrap()
}

async fn two_snapshots(session: &Session) -> (Table, i64, i64) {
    let table = create(session, "t", schema(), FormatVersion::V2, None).await;
    let file =
        async |table: &Table, name: &str, rows| vec![write_file(table, name, &[rows], Struct::empty()).await];
    let table = append_exact(&table, file(&table, "a", batch(&[1, 2], Some("x"))).await).await;
    let first = table.core().metadata().current_snapshot().unwrap().clone();
    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    let table = append_exact(&table, file(&table, "b", batch(&[3], Some("y"))).await).await;
    (table, first.snapshot_id(), first.timestamp_ms())
}

#[tokio::test]
async fn an_embedded_lakehouse_is_there_when_it_is_opened_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new/ware house");
    {
        let session = Session::open(&path).await.unwrap();
        let table = create(&session, "t", schema(), FormatVersion::V2, None).await;
        append_batches(&table, "a", &[batch(&[1, 2, 3], Some("x"))]).await;
    }
    assert!(path.join("catalog.db").exists());
    let session = Session::open(&path).await.unwrap();
    assert_eq!(rows(&session, "SELECT sum(id) FROM ns.t").await, ["6"]);
    assert_eq!(rows(&session, "SELECT id FROM icefield.ns.t ORDER BY id").await, ["1", "2", "3"]);
}

#[tokio::test]
async fn a_table_is_read_as_of_ids_times_branches_and_tags() {
    let session = session();
    let (table, first, first_ms) = two_snapshots(&session).await;
    let count = "SELECT count(*) FROM ns.t";
    assert_eq!(rows(&session, count).await, ["3"]);
    for clause in [
        format!("FOR VERSION AS OF {first}"),
        format!("FOR VERSION AS OF '{first}'"),
        format!("VERSION AS OF {first}"),
        format!("FOR TIMESTAMP AS OF {}.{:03}", first_ms / 1000, first_ms % 1000),
        format!("FOR TIMESTAMP AS OF to_timestamp_millis({first_ms})"),
        format!("FOR SYSTEM_TIME AS OF CAST(to_timestamp_millis({first_ms}) AS VARCHAR)"),
    ] {
        assert_eq!(rows(&session, &format!("{count} {clause}")).await, ["2"], "{clause}");
    }
    assert_eq!(rows(&session, &format!("{count} FOR VERSION AS OF 'main'")).await, ["3"]);
    let join = format!(
        "SELECT t.id, old.id FROM ns.t LEFT JOIN ns.t FOR VERSION AS OF {first} old ON t.id = old.id ORDER BY t.id"
    );
    assert_eq!(rows(&session, &join).await, ["1|1", "2|2", "3|NULL"]);
    assert_eq!(
        rows(&session, &format!("SELECT max(t.id) FROM ns.t FOR VERSION AS OF {first} WHERE t.city = 'x'"))
            .await,
        ["2"]
    );
    let old = table.as_of(first).unwrap().dataframe().await.unwrap();
    assert_eq!(old.count().await.unwrap(), 2);
    assert_eq!(table.as_of("main").unwrap().dataframe().await.unwrap().count().await.unwrap(), 3);
    for (clause, kind) in [
        ("FOR VERSION AS OF 17", ErrorKind::NotFound),
        ("FOR VERSION AS OF 'nightly'", ErrorKind::NotFound),
        ("FOR TIMESTAMP AS OF '1970-01-01'", ErrorKind::NotFound),
        ("FOR TIMESTAMP AS OF 'yesterday'", ErrorKind::InvalidInput),
    ] {
        let error = session.sql(&format!("{count} {clause}")).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{clause}: {error}");
    }
    assert_eq!(table.as_of("nightly").unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn schemas_and_tables_are_listed_created_and_dropped_by_sql() {
    let session = session();
    session.sql("CREATE SCHEMA ns").await.unwrap().collect().await.unwrap();
    session.sql("CREATE SCHEMA IF NOT EXISTS ns").await.unwrap().collect().await.unwrap();
    assert_eq!(run(&session, "CREATE SCHEMA ns").await.unwrap_err().kind(), ErrorKind::AlreadyExists);
    create(&session, "t", schema(), FormatVersion::V2, None).await;
    let listed = "SELECT table_schema, table_name FROM information_schema.tables WHERE table_schema = 'ns'";
    assert_eq!(rows(&session, listed).await, ["ns|t"]);
    session.context().register_batch("mine", batch(&[9], None)).unwrap();
    assert_eq!(rows(&session, "SELECT id FROM mine").await, ["9"]);
    session.sql("DROP TABLE ns.t").await.unwrap().collect().await.unwrap();
    session.sql("DROP TABLE IF EXISTS ns.t").await.unwrap().collect().await.unwrap();
    let gone = session.sql("SELECT * FROM ns.t").await.unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::NotFound, "{gone}");
    session.sql("DROP SCHEMA ns").await.unwrap().collect().await.unwrap();
}

#[tokio::test]
async fn counts_come_from_metadata_and_a_second_query_reads_none() {
    let store = Arc::new(FaultyStore::in_memory());
    let storage = Storage::new().with_store("memory://warehouse", store.clone()).unwrap();
    let session = Session::builder().storage(storage).parallelism(2).build().unwrap();
    two_snapshots(&session).await;
    store.reset();
    assert_eq!(rows(&session, "SELECT count(*), min(id), max(id) FROM ns.t").await, ["3|1|3"]);
    assert_eq!(store.count_of(OpKind::Get, ".parquet"), 0);
    assert_eq!(rows(&session, "SELECT sum(id) FROM ns.t").await, ["6"]);
    let footers = store.count_of(OpKind::Get, ".parquet");
    store.reset();
    assert_eq!(rows(&session, "SELECT sum(id) FROM ns.t").await, ["6"]);
    assert_eq!(store.count_of(OpKind::Get, ".avro"), 0);
    assert_eq!(store.count_of(OpKind::Get, ".metadata.json"), 0);
    assert!(store.count_of(OpKind::Get, ".parquet") < footers, "{:?}", store.ops());
}

#[tokio::test]
async fn identity_partitions_decide_filters_and_give_values_that_files_lack() {
    let session = session();
    let table = create(&session, "t", schema(), FormatVersion::V2, Some(by_city())).await;
    let mut files = Vec::new();
    for (i, city) in [Some("x"), Some("y"), None].into_iter().enumerate() {
        let ids = [i as i64 * 10, i as i64 * 10 + 1];
        let value = partition(city.map(Literal::string));
        files.push(write_file(&table, &format!("f{i}"), &[batch(&ids, city)], value).await);
    }
    append(&table, files).await;
    for (filter, expected) in [
        ("city = 'x'", vec!["0", "1"]),
        ("city <> 'x'", vec!["10", "11"]),
        ("NOT city = 'x'", vec!["10", "11"]),
        ("city IS NULL", vec!["20", "21"]),
        ("city IN ('x', 'z') AND id > 0", vec!["1"]),
        ("city > 'x' OR city IS NULL", vec!["10", "11", "20", "21"]),
        ("city = 'nowhere'", vec![]),
        ("city LIKE 'y%'", vec!["10", "11"]),
    ] {
        let query = format!("SELECT id FROM ns.t WHERE {filter} ORDER BY id");
        assert_eq!(rows(&session, &query).await, expected, "{filter}");
    }
    let plan = rows(&session, "EXPLAIN SELECT id FROM ns.t WHERE city = 'x'").await.join("\n");
    assert!(!plan.contains("FilterExec"), "{plan}");
    assert_eq!(rows(&session, "SELECT id FROM ns.t WHERE city = 'y' LIMIT 1").await.len(), 1);
    assert_eq!(
        rows(&session, "SELECT city, count(*) FROM ns.t GROUP BY city ORDER BY city").await,
        ["x|2", "y|2", "NULL|2"]
    );
    assert_eq!(rows(&session, "SELECT count(*) FROM ns.t WHERE city = 'x'").await, ["2"]);
}

#[tokio::test]
async fn a_file_that_is_gone_or_corrupt_is_named() {
    let session = session();
    let (table, _, _) = two_snapshots(&session).await;
    let storage = table.core().storage();
    let file = format!("{}/data/a.parquet", table.core().metadata().location());
    storage.write(&file, vec![0_u8; 600]).await.unwrap();
    let failed = |error: icefield_core::Error, kind| {
        assert_eq!(error.kind(), kind, "{error:?}");
        assert!(error.to_string().contains("a.parquet"), "{error}");
    };
    let frame = || async { session.sql("SELECT sum(id) FROM ns.t").await.unwrap().collect().await };
    failed(icefield_engine::from_datafusion(frame().await.unwrap_err()), ErrorKind::DataInvalid);
    storage.delete(&file).await.unwrap();
    failed(icefield_engine::from_datafusion(frame().await.unwrap_err()), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_query_over_its_budget_spills_or_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let small = || Session::builder().memory_budget(4 << 20).spill_folder(folder.path()).parallelism(2);
    // An order that only a subquery asks for would be dropped by the optimizer.
    let sort = "SELECT max(place) FROM (SELECT row_number() OVER (ORDER BY value * 7 % 1000003) AS place \
                FROM generate_series(1, 2000000))";
    assert_eq!(rows(&small().build().unwrap(), sort).await, ["2000000"]);
    let session = small().max_spill_bytes(64 << 10).build().unwrap();
    let error = session.sql(sort).await.unwrap().collect().await.unwrap_err();
    let error = icefield_engine::from_datafusion(error);
    assert_eq!(error.kind(), ErrorKind::ResourceExhausted, "{error}");
}

#[tokio::test]
async fn tables_are_created_and_filled_by_sql() {
    let session = session();
    session.sql("CREATE SCHEMA ns").await.unwrap().collect().await.unwrap();
    session
        .sql("CREATE TABLE ns.made AS SELECT 1 AS id, 'x' AS city UNION ALL SELECT 2, NULL")
        .await
        .unwrap()
        .collect()
        .await
        .unwrap();
    assert_eq!(rows(&session, "SELECT * FROM ns.made ORDER BY id").await, ["1|x", "2|NULL"]);
    let again = run(&session, "CREATE TABLE ns.made AS SELECT 3 AS id").await.unwrap_err();
    assert_eq!(again.kind(), ErrorKind::AlreadyExists);
    session
        .sql("CREATE TABLE IF NOT EXISTS ns.made AS SELECT 3 AS id")
        .await
        .unwrap()
        .collect()
        .await
        .unwrap();
    session.sql("CREATE TABLE ns.empty (id BIGINT, city VARCHAR)").await.unwrap().collect().await.unwrap();
    assert_eq!(rows(&session, "SELECT count(*) FROM ns.empty").await, ["0"]);
    let inserted = rows(&session, "INSERT INTO ns.empty SELECT id, city FROM ns.made").await;
    assert_eq!(inserted, ["2"]);
    assert_eq!(rows(&session, "INSERT INTO ns.empty (city) VALUES ('z')").await, ["1"]);
    assert_eq!(
        rows(&session, "SELECT * FROM ns.empty ORDER BY id NULLS LAST").await,
        ["1|x", "2|NULL", "NULL|z"]
    );
    assert_eq!(rows(&session, "INSERT OVERWRITE ns.empty SELECT 9, 'nine'").await, ["1"]);
    assert_eq!(rows(&session, "SELECT * FROM ns.empty").await, ["9|nine"]);
    let table = session.table("ns.empty").await.unwrap();
    let first = table.core().metadata().history()[0].snapshot_id;
    let past = format!("INSERT INTO ns.\"empty@{first}\" VALUES (1, 'x')");
    let refused = session.sql(&past).await.unwrap().collect().await.unwrap_err();
    assert_eq!(icefield_engine::from_datafusion(refused).kind(), ErrorKind::InvalidInput);
}

#[tokio::test]
async fn an_insert_fills_write_defaults_where_columns_are_left_out() {
    let session = session();
    session.sql("CREATE SCHEMA ns").await.unwrap().collect().await.unwrap();
    let of = |primitive| Type::Primitive(primitive);
    let schema = Schema::builder()
        .with_fields(vec![
            NestedField::required(1, "id", of(PrimitiveType::Long)).into(),
            NestedField::required(2, "n", of(PrimitiveType::Int)).with_write_default(Literal::int(7)).into(),
            NestedField::optional(3, "city", of(PrimitiveType::String))
                .with_write_default(Literal::string("Oslo"))
                .into(),
            NestedField::optional(4, "day", of(PrimitiveType::Date))
                .with_write_default(Literal::date(0))
                .into(),
            NestedField::optional(5, "note", of(PrimitiveType::String)).into(),
        ])
        .build()
        .unwrap();
    session.create_table("ns.t", schema).format_version(3).await.unwrap();
    assert_eq!(rows(&session, "INSERT INTO ns.t (id) SELECT 1").await, ["1"]);
    assert_eq!(rows(&session, "INSERT INTO ns.t (city, id) VALUES (NULL, 2), ('Bergen', 3)").await, ["2"]);
    assert_eq!(
        rows(&session, "SELECT * FROM ns.t ORDER BY id").await,
        ["1|7|Oslo|1970-01-01|NULL", "2|7|NULL|1970-01-01|NULL", "3|7|Bergen|1970-01-01|NULL"]
    );
    // A required column without a default can't be left out.
    let inserted = match session.sql("INSERT INTO ns.t (n) VALUES (1)").await {
        Ok(frame) => frame.collect().await.map_err(icefield_engine::from_datafusion).map(drop),
        Err(error) => Err(error),
    };
    let error = inserted.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    assert!(error.to_string().contains("id"), "{error}");
    assert_eq!(rows(&session, "SELECT count(*) FROM ns.t").await, ["3"]);
}

#[tokio::test]
async fn what_a_statement_declares_is_kept_or_refused() {
    let session = session();
    session.sql("CREATE SCHEMA ns").await.unwrap().collect().await.unwrap();
    session
        .sql("CREATE TABLE ns.declared (id BIGINT, city VARCHAR NOT NULL, n INT, PRIMARY KEY (id))")
        .await
        .unwrap()
        .collect()
        .await
        .unwrap();
    let table = session.table("ns.declared").await.unwrap();
    let schema = table.core().schema();
    let required = |name: &str| schema.field_by_name(name).unwrap().required;
    assert_eq!(["id", "city", "n"].map(required), [true, true, false]);
    assert_eq!(schema.identifier_field_ids().collect::<Vec<_>>(), [schema.field_id_by_name("id").unwrap()]);
    let null =
        session.sql("INSERT INTO ns.declared SELECT 1, nullif('x', 'x'), 2").await.unwrap().collect().await;
    let error = icefield_engine::from_datafusion(null.unwrap_err());
    assert!(error.to_string().contains("city") || error.to_string().contains("non-nullable"), "{error}");
    assert_eq!(rows(&session, "INSERT INTO ns.declared (city, id) VALUES ('x', 1)").await, ["1"]);
    for (statement, word) in [
        ("CREATE TABLE ns.no (id BIGINT DEFAULT 5)", "DEFAULT"),
        ("CREATE TABLE ns.no (id BIGINT UNIQUE)", "UNIQUE"),
        ("CREATE TABLE ns.no (at TIMESTAMP)", "TIMESTAMP(6)"),
        ("CREATE TABLE ns.\"n.o\" (id BIGINT)", "dots"),
        ("CREATE TABLE ns.\"n.o\" AS SELECT 1 AS id", "dots"),
    ] {
        let error = run(&session, statement).await.unwrap_err();
        assert!(error.to_string().contains(word), "{statement}: {error}");
    }
    session.refresh_names().await.unwrap();
    let listed =
        "SELECT table_schema, table_name FROM information_schema.tables WHERE table_schema LIKE 'ns%'";
    assert_eq!(rows(&session, listed).await, ["ns|declared"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn quoted_line_ends_are_read_wherever_a_file_is_split() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = datafusion::prelude::SessionConfig::new();
    config.options_mut().optimizer.repartition_file_min_size = 1;
    let session = Session::builder().config(config).parallelism(7).build().unwrap();
    let path = folder.path().join("lines.csv").display().to_string();
    let plain = (0..1500).map(|i| format!("{i},one of {i}\n"));
    let quoted = (1500..3000).map(|i| format!("{i},\"one of {i}\nt,wo\nthree\"\n"));
    std::fs::write(&path, format!("id,text\n{}", plain.chain(quoted).collect::<String>())).unwrap();
    let read = session.read_csv(&path).await.unwrap().collect().await.unwrap();
    let mut seen = 0;
    for batch in &read {
        let ids = batch.column(0).as_primitive::<Int64Type>();
        let texts = arrow::compute::cast(batch.column(1), &DataType::Utf8).unwrap();
        for (id, text) in ids.values().iter().zip(texts.as_string::<i32>()) {
            let more = if *id < 1500 { "" } else { "\nt,wo\nthree" };
            assert_eq!(text, Some(format!("one of {id}{more}").as_str()));
            seen += 1;
        }
    }
    assert_eq!(seen, 3000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_is_read_whatever_its_files_end_in() {
    let folder = tempfile::tempdir().unwrap();
    let session = Session::builder().build().unwrap();
    let write = |path: &str, bytes: &[u8]| {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    };
    let gzip = |text: &str| {
        let mut bytes = Vec::new();
        GzEncoder::new(text.as_bytes(), flate2::Compression::fast()).read_to_end(&mut bytes).unwrap();
        bytes
    };
    write("lines/a.jsonl", b"{\"id\":1}\n{\"id\":2}\n");
    write("lines/b.jsonl", b"{\"id\":3,\"city\":\"x\"}\n");
    write("lines/_SUCCESS", b"");
    write("json/a.json", b"{\"id\":4}\n");
    write("packed/a.csv.gz", &gzip("id\n5\n"));
    write("packed/b.csv.gz", &gzip("id\n6\n"));
    write("mixed/a.csv", b"id\n7\n");
    write("mixed/a.csv.gz", &gzip("id\n8\n"));
    let path = |name: &str| folder.path().join(name).display().to_string();
    let ids = async |frame: DataFrame| {
        let sorted = frame.select_columns(&["id"]).unwrap().sort(vec![col("id").sort(true, true)]).unwrap();
        let batches = sorted.collect().await.unwrap();
        let values =
            batches.iter().flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec());
        values.collect::<Vec<i64>>()
    };
    assert_eq!(ids(session.read_json(&path("lines/")).await.unwrap()).await, [1, 2, 3]);
    assert_eq!(ids(session.read_json(&path("json")).await.unwrap()).await, [4]);
    assert_eq!(ids(session.read_csv(&path("packed/")).await.unwrap()).await, [5, 6]);
    assert_eq!(ids(session.read_csv(&path("mixed/*.gz")).await.unwrap()).await, [8]);
    // By URL, with a pattern, and folders whose slash was left out.
    let url = |name: &str| format!("file://{}", path(name));
    assert_eq!(ids(session.read_csv(&url("mixed/*.gz")).await.unwrap()).await, [8]);
    assert_eq!(ids(session.read_csv(&url("packed/[ab].csv.*")).await.unwrap()).await, [5, 6]);
    assert_eq!(ids(session.read_csv(&url("packed")).await.unwrap()).await, [5, 6]);
    for nothing in ["mixed/*.tsv", "nowhere", "nowhere/", "nowhere.csv"] {
        for asked in [path(nothing), url(nothing)] {
            let csv = session.read_csv(&asked).await.unwrap_err();
            let json = session.read_json(&asked).await.unwrap_err();
            let parquet = session.read_parquet(&asked).await.unwrap_err();
            for error in [csv, json, parquet] {
                assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
                assert!(error.to_string().contains(&format!("path: {asked}")), "{error}");
            }
        }
    }
    let mixed = session.read_csv(&path("mixed/")).await.unwrap_err();
    assert!(mixed.to_string().contains(".csv, .csv.gz"), "{mixed}");

    let rows = session.read_csv(&path("packed/")).await.unwrap();
    rows.write_parquet(&path("parquet/"), DataFrameWriteOptions::new(), None).await.unwrap();
    assert_eq!(ids(session.read_parquet(&path("parquet/")).await.unwrap()).await, [5, 6]);
}
