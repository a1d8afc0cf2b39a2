//! Object stores: each does what a table needs of it, and a whole lakehouse lives on S3.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use icefield::catalog::sql::SqlCatalog;
use icefield::evolve::types;
use icefield::prelude::*;
use icefield::storage::Storage;
use icefield_testkit::{S3Server, content_hash, reference_read, store_suite};

#[tokio::test(flavor = "multi_thread")]
async fn memory_local_files_and_s3_do_what_a_table_needs_of_a_store() {
    store_suite(&Storage::new(), "memory://suite/root").await;
    let folder = tempfile::tempdir().unwrap();
    store_suite(&Storage::new(), &format!("file://{}", folder.path().display())).await;
    let Some(server) = S3Server::start().await else { return };
    store_suite(&server.storage(), &server.location("suite")).await;
    // s3a and s3n are Hadoop's names for the same.
    store_suite(&server.storage(), &server.location("suite-a").replace("s3://", "s3a://")).await;
}

/// A suite against a store that is not started here: `ICEFIELD_TEST_STORE` is a URL with an empty folder, its access comes
/// from the environment as [`Storage::new`] reads it. For GCS, Azure and other S3s.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_the_environment_names_does_what_a_table_needs_of_it() {
    match std::env::var("ICEFIELD_TEST_STORE") {
        Ok(root) => store_suite(&Storage::new(), &root).await,
        Err(_) => println!("skipped: ICEFIELD_TEST_STORE names no store"),
    }
}

fn rows(ids: std::ops::Range<i64>) -> RecordBatch {
    let names: Vec<String> = ids.clone().map(|id| format!("name {id}")).collect();
    RecordBatch::try_from_iter([
        ("id", Arc::new(Int64Array::from_iter_values(ids.clone())) as ArrayRef),
        ("part", Arc::new(Int64Array::from_iter_values(ids.map(|id| id % 3)))),
        ("name", Arc::new(StringArray::from(names))),
    ])
    .unwrap()
}

async fn count(session: &Session, query: &str) -> i64 {
    let batches = session.sql(query).await.unwrap().collect().await.unwrap();
    batches[0].column(0).as_any().downcast_ref::<Int64Array>().unwrap().value(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lakehouse_on_s3_is_written_evolved_travelled_and_maintained() {
    let Some(server) = S3Server::start().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let catalog = SqlCatalog::builder("lake")
        .sqlite(format!("{}/catalog.db", folder.path().display()))
        .warehouse(server.location("warehouse"))
        .storage(server.storage())
        .open()
        .await
        .unwrap();
    let session = Session::builder().catalog(Arc::new(catalog)).parallelism(2).build().unwrap();

    let frame = session.read_batches([rows(0..1000)]).unwrap();
    let first = frame.append_to(&session, "db.t").create_with(|t| t.partition_by([identity("part")])).await;
    let first = first.unwrap().snapshot_id.unwrap();

    // Eight at once.
    let appends = (1..=8).map(|writer| {
        let session = session.clone();
        async move {
            let frame = session.read_batches([rows(writer * 1000..(writer + 1) * 1000)]).unwrap();
            frame.append_to(&session, "db.t").idempotency_key(format!("batch {writer}")).await.unwrap()
        }
    });
    futures::future::join_all(appends).await;
    assert_eq!(count(&session, "SELECT count(*) FROM db.t").await, 9000);
    assert_eq!(count(&session, &format!("SELECT count(*) FROM db.t FOR VERSION AS OF {first}")).await, 1000);

    let table = session.table("db.t").await.unwrap();
    table.update_schema().rename_column("name", "title").add_column("note", types::string()).await.unwrap();
    session
        .sql("INSERT INTO db.t VALUES (9000, 0, 'last', 'a note')")
        .await
        .unwrap()
        .collect()
        .await
        .unwrap();
    let query = "SELECT id FROM db.t WHERE note IS NOT NULL AND title = 'last'";
    assert_eq!(count(&session, query).await, 9000);

    let table = session.table("db.t").await.unwrap();
    let before = table.dataframe().await.unwrap().collect().await.unwrap();
    let before = content_hash(&before, table.core().schema());
    let report = maintenance::compact(&table).await.unwrap();
    assert_eq!((report.input.files, report.output.files), (28, 3));
    let table = session.table("db.t").await.unwrap();
    let expired = maintenance::expire_snapshots(&table).older_than(std::time::Duration::ZERO).await.unwrap();
    assert!(expired.deleted_files() > 28, "{expired:?}");

    // A file that nobody names is found, and goes when it is old enough; files of the table stay.
    let table = session.table("db.t").await.unwrap();
    let stray = format!("{}/data/stray.parquet", table.core().metadata().location());
    server.storage().write(&stray, "left by a failed write").await.unwrap();
    let kept = maintenance::remove_orphan_files(&table).await.unwrap();
    assert!(kept.orphans.is_empty() && server.storage().exists(&stray).await.unwrap(), "{kept:?}");
    let removed = maintenance::remove_orphan_files(&table)
        .older_than(std::time::Duration::ZERO)
        .force(true)
        .await
        .unwrap();
    assert_eq!(removed.orphans.len(), 1, "{removed:?}");
    assert!(!server.storage().exists(&stray).await.unwrap());

    let after = table.dataframe().await.unwrap().collect().await.unwrap();
    assert_eq!(content_hash(&after, table.core().schema()), before);
    let plain = reference_read(table.core(), &icefield::AsOf::Current).await;
    assert_eq!(content_hash(&plain, table.core().schema()), before);
}
