//! Tables whose metadata is as other writers leave it: defaults, names, locations, and tables that are broken.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch};
use futures::TryStreamExt;
use icefield_core::ErrorKind;
use icefield_core::catalog::MemoryCatalog;
use icefield_core::evolve::{Literal, NewColumn, identity, types};
use icefield_core::storage::{Storage, file_name};
use icefield_engine::ops::DataFrameExt;
use icefield_engine::{Session, Table};

use crate::scan_support::{append_batches, text_rows};

fn session(folder: &Path) -> Session {
    Session::builder().warehouse(format!("file://{}", folder.display())).parallelism(2).build().unwrap()
}

async fn rows(session: &Session, query: &str) -> Vec<String> {
    text_rows(&session.sql(query).await.unwrap().collect().await.unwrap())
}

async fn append(session: &Session, name: &str, query: &str) -> Table {
    let frame = session.sql(query).await.unwrap();
    frame.append_to(session, name).create_with(|t| t.property("format-version", "3")).await.unwrap();
    session.table(name).await.unwrap()
}

#[tokio::test]
async fn a_nanosecond_default_fills_rows_of_older_files() {
    let folder = tempfile::tempdir().unwrap();
    let session = session(folder.path());
    let table = append(&session, "db.t", "SELECT CAST(1 AS BIGINT) AS id").await;
    let column = NewColumn::new("at", types::timestamp_ns()).required().default(Literal::long(-1));
    let early = NewColumn::new("early", types::timestamptz()).default(Literal::timestamptz(-500_000));
    let table = table.update_schema().add_column_with(column).add_column_with(early).await.unwrap();
    table.set_properties([("a", "b")]).await.unwrap();
    // Another session reads what the file has.
    let location = session.table("db.t").await.unwrap().core().metadata_location().to_string();
    let other = Session::builder().build().unwrap().table_from_metadata_file(location).await.unwrap();
    let shown = text_rows(&other.dataframe().await.unwrap().collect().await.unwrap());
    assert_eq!(shown, ["1|1969-12-31T23:59:59.999999999|1969-12-31T23:59:59.500Z"]);
    // So do rows that leave the columns out.
    append(&session, "db.t", "SELECT CAST(2 AS BIGINT) AS id").await;
    session.sql("INSERT INTO db.t (id) VALUES (3)").await.unwrap().collect().await.unwrap();
    let count = "SELECT count(*) FROM db.t WHERE at < '1970-01-01' AND early < '1970-01-01'";
    assert_eq!(rows(&session, count).await, ["3"]);
}

#[tokio::test]
async fn a_number_is_a_snapshot_before_it_is_a_tag() {
    let folder = tempfile::tempdir().unwrap();
    let session = session(folder.path());
    let table = append(&session, "db.t", "SELECT CAST(1 AS BIGINT) AS id").await;
    let first = table.core().metadata().current_snapshot_id().unwrap();
    let table = append(&session, "db.t", "SELECT CAST(2 AS BIGINT) AS id").await;
    let table = table.create_tag("2024").await.unwrap();
    table.create_tag(first.to_string()).await.unwrap();
    assert_eq!(rows(&session, &format!("SELECT id FROM db.t FOR VERSION AS OF {first}")).await, ["1"]);
    assert_eq!(rows(&session, "SELECT count(*) FROM db.t FOR VERSION AS OF '2024'").await, ["2"]);
}

#[tokio::test]
async fn a_column_takes_no_name_of_another_columns_partition_field() {
    let folder = tempfile::tempdir().unwrap();
    let session = session(folder.path());
    let fields = vec![types::optional("id", types::long()), types::optional("p", types::string())];
    session.create_table("db.t", fields).partition_by([identity("p")]).await.unwrap();
    let table = append(&session, "db.t", "SELECT CAST(1 AS BIGINT) AS id, 'a' AS p").await;
    let table = table.update_spec().remove(identity("p")).await.unwrap();
    let table = table.update_schema().rename_column("p", "q").await.unwrap();
    let taken = table.update_schema().add_column("p", types::string()).await.unwrap_err();
    assert!(taken.to_string().contains("partition field"), "{taken}");
    let frame = session.sql("SELECT CAST(2 AS BIGINT) AS id, 'x' AS p").await.unwrap();
    assert!(frame.append_to(&session, "db.t").evolve_schema().await.is_err());
    assert_eq!(rows(&session, "SELECT id, q FROM db.t").await, ["1|a"]);
    table.update_schema().rename_column("q", "p").await.unwrap();
}

#[tokio::test]
async fn a_broken_table_hides_no_other_and_can_be_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let session = Session::builder().parallelism(2).open(folder.path()).await.unwrap();
    let table = append(&session, "db.bad", "SELECT CAST(1 AS BIGINT) AS id").await;
    append(&session, "db.good", "SELECT CAST(1 AS BIGINT) AS id").await;
    let metadata = format!("{}/metadata", table.core().metadata().location().trim_start_matches("file://"));
    drop(session);
    std::fs::remove_dir_all(metadata).unwrap();
    let session = Session::builder().parallelism(2).open(folder.path()).await.unwrap();
    assert_eq!(rows(&session, "SELECT id FROM db.good").await, ["1"]);
    let listed = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'db' ORDER BY 1";
    assert_eq!(rows(&session, listed).await, ["bad", "good"]);
    assert!(rows(&session, "SHOW TABLES").await.iter().any(|row| row.contains("good")));
    let error = session.sql("SELECT id FROM db.bad").await.unwrap_err();
    assert!(error.to_string().contains("metadata file is missing"), "{error}");
    session.sql("DROP TABLE db.bad").await.unwrap().collect().await.unwrap();
    assert_eq!(rows(&session, listed).await, ["good"]);
}

#[tokio::test]
async fn relative_locations_lie_beside_the_metadata_file() {
    let folder = tempfile::tempdir().unwrap();
    let here = format!("file://{}", folder.path().display());
    let storage = Storage::new().with_mappings([("data/lake", here.as_str())]).unwrap();
    let catalog = Arc::new(MemoryCatalog::new("data/lake", storage));
    let session = Session::builder().catalog(catalog).parallelism(2).build().unwrap();
    let table = append(&session, "db.t", "SELECT CAST(1 AS BIGINT) AS id").await;
    assert_eq!(table.core().metadata().location(), "data/lake/db/t");
    assert_eq!(rows(&session, "SELECT id FROM db.t").await, ["1"]);

    let name = file_name(table.core().metadata_location());
    let location = format!("{}/db/t/metadata/{name}", folder.path().display());
    let other = Session::builder().build().unwrap();
    let opened = other.table_from_metadata_file(&location).await.unwrap();
    assert_eq!(text_rows(&opened.dataframe().await.unwrap().collect().await.unwrap()), ["1"]);
    let moved = other.table_from_metadata_file(&location).moved("data/", "/nowhere").await.unwrap();
    let missing = moved.dataframe().await.unwrap().collect().await.unwrap_err();
    assert!(missing.to_string().contains("nowhere") || missing.to_string().contains("missing"), "{missing}");
    let moved = other.table_from_metadata_file(&location).moved("data/lake", here).await.unwrap();
    assert_eq!(text_rows(&moved.dataframe().await.unwrap().collect().await.unwrap()), ["1"]);
}

#[tokio::test]
async fn a_file_with_two_slashes_in_its_path_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let session = session(folder.path());
    session.create_table("db.t", vec![types::optional("id", types::long())]).await.unwrap();
    let table = session.table("db.t").await.unwrap();
    let ids = Int64Array::from(vec![1, 2, 3]);
    let batch = RecordBatch::try_from_iter([("id", Arc::new(ids) as _)]).unwrap();
    let table = append_batches(&table, "/084faaf5/a", &[batch]).await;
    assert_eq!(rows(&session, "SELECT id FROM db.t WHERE id >= 2 ORDER BY id").await, ["2", "3"]);
    let storage = table.core().storage();
    let listed: Vec<_> =
        storage.list(&format!("file://{}/db/t/data", folder.path().display())).try_collect().await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(
        storage.unconfined().read("file:///nowhere//x").await.unwrap_err().kind(),
        ErrorKind::NotFound
    );
}

#[tokio::test]
async fn rows_under_an_unknown_transform_are_read_and_shown() {
    let folder = tempfile::tempdir().unwrap();
    let session = session(folder.path());
    let fields = vec![types::optional("id", types::long()), types::optional("p", types::int())];
    session.create_table("db.t", fields).partition_by([identity("p")]).await.unwrap();
    let table = append(
        &session,
        "db.t",
        "SELECT CAST(n AS BIGINT) AS id, CAST(n % 2 - 1 AS INT) AS p FROM generate_series(1, 4) AS g(n)",
    );
    let location = table.await.core().metadata_location().to_string();
    let storage = session.catalog().storage();
    let text = String::from_utf8(storage.read(&location).await.unwrap().to_vec()).unwrap();
    let other = text.replace(
        "\"name\":\"p\",\"source-id\":2,\"transform\":\"identity\"",
        "\"name\":\"curve\",\"source-id\":2,\"transform\":\"zorder[3]\"",
    );
    assert_ne!(text, other);
    let location = location.replace("metadata.json", "other.metadata.json");
    storage.write(&location, other).await.unwrap();
    let ident = icefield_core::catalog::parse_ident("db.u").unwrap();
    session.catalog().register_table(&ident, &location).await.unwrap();
    assert_eq!(rows(&session, "SELECT id FROM db.u WHERE p = 0 ORDER BY id").await, ["1", "3"]);
    let shown = "SELECT partition['curve'] FROM db.\"u$files\" ORDER BY 1";
    assert_eq!(rows(&session, shown).await, ["-1", "0"]);
    assert_eq!(rows(&session, "SELECT added_data_files_count FROM db.\"u$manifests\"").await, ["2"]);
    let counts = "SELECT partition['curve'], record_count FROM db.\"u$partitions\" ORDER BY 1";
    assert_eq!(rows(&session, counts).await, ["-1|2", "0|2"]);
    assert_eq!(rows(&session, "SELECT count(*) FROM db.\"u$entries\"").await, ["2"]);
    let insert = session.sql("INSERT INTO db.u VALUES (7, 7)").await.unwrap().collect().await.unwrap_err();
    assert!(insert.to_string().contains("curve"), "{insert}");
}
