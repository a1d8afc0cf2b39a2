//! Many writers on one table, tasks and processes, with maintenance beside them the whole time.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use datafusion::arrow::array::{Int64Array, RecordBatch};
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use icefield::prelude::*;

const TABLE: &str = "db.events";
const ROWS: i64 = 10;

/// Set for a process that only writes: the warehouse's folder and the writer's number.
const WRITER: &str = "ICEFIELD_TEST_WRITER";

async fn append(session: &Session, writer: i64, batch: i64) {
    let first = (writer * 1000 + batch) * ROWS;
    let schema = Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, true)]));
    let ids = Int64Array::from_iter_values(first..first + ROWS);
    let batch_rows = RecordBatch::try_new(schema, vec![Arc::new(ids)]).unwrap();
    session
        .read_batches([batch_rows])
        .unwrap()
        .append_to(session, TABLE)
        .create_with(|table| table)
        .idempotency_key(format!("{writer}/{batch}"))
        .await
        .unwrap_or_else(|e| panic!("writer {writer}, batch {batch}: {e:?}"));
}

async fn ids(session: &Session) -> Vec<i64> {
    let frame = session.sql(&format!("SELECT id FROM {TABLE} ORDER BY id")).await.unwrap();
    let batches = frame.collect().await.unwrap();
    let column = |batch: &RecordBatch| {
        batch.column(0).as_any().downcast_ref::<Int64Array>().unwrap().values().to_vec()
    };
    batches.iter().flat_map(column).collect()
}

fn expected(writers: i64, batches: i64) -> Vec<i64> {
    let of = |writer: i64| {
        (0..batches).flat_map(move |b| ((writer * 1000 + b) * ROWS)..((writer * 1000 + b + 1) * ROWS))
    };
    let all: BTreeSet<i64> = (0..writers).flat_map(of).collect();
    all.into_iter().collect()
}

/// Compaction, expiry and orphan removal, over and over, until told to stop; and every snapshot that is retained reads.
async fn maintain(session: Session, stop: Arc<AtomicBool>) {
    while !stop.load(Ordering::Relaxed) {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let Ok(table) = session.table(TABLE).await else { continue };
        match maintenance::compact(&table).min_input_files(2).await {
            Ok(_) => {}
            Err(e) if e.kind() == icefield::ErrorKind::Conflict => {}
            Err(e) => panic!("compaction: {e:?}"),
        }
        let table = session.table(TABLE).await.unwrap();
        maintenance::expire_snapshots(&table).older_than(Duration::ZERO).retain_last(4).await.unwrap();
        let table = session.table(TABLE).await.unwrap();
        maintenance::remove_orphan_files(&table).await.unwrap();
        let snapshots: Vec<i64> = table.core().metadata().snapshots().map(|s| s.snapshot_id()).collect();
        for id in snapshots {
            let read = async { Ok::<_, icefield::Error>(table.as_of(id)?.dataframe().await?.count().await) };
            if let Ok(Ok(rows)) = read.await {
                assert_eq!(rows as i64 % ROWS, 0, "a snapshot has whole batches");
                continue;
            }
            // Only one that has been expired meanwhile may fail to read.
            let now = session.table(TABLE).await.unwrap();
            assert!(
                now.core().metadata().snapshot_by_id(id).is_none(),
                "snapshot {id} is retained and does not read"
            );
        }
    }
}

async fn check(folder: &Path, writers: i64, batches: i64) {
    let session = Session::open(folder).await.unwrap();
    assert_eq!(ids(&session).await, expected(writers, batches));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sixteen_tasks_append_beside_maintenance_and_no_row_is_lost_or_doubled() {
    let folder = tempfile::tempdir().unwrap();
    let session = Session::open(folder.path()).await.unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let maintenance = tokio::spawn(maintain(session.clone(), stop.clone()));
    let writers = (0..16).map(|writer| {
        let session = session.clone();
        tokio::spawn(async move {
            for batch in 0..3 {
                append(&session, writer, batch).await;
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    stop.store(true, Ordering::Relaxed);
    maintenance.await.unwrap();
    check(folder.path(), 16, 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_processes_append_beside_maintenance_and_no_row_is_lost_or_doubled() {
    if let Ok(writer) = std::env::var(WRITER) {
        let (folder, number) = writer.rsplit_once('#').unwrap();
        let session = Session::open(folder).await.unwrap();
        for batch in 0..5 {
            append(&session, number.parse().unwrap(), batch).await;
        }
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let session = Session::open(folder.path()).await.unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let maintenance = tokio::spawn(maintain(session.clone(), stop.clone()));
    let this = std::env::current_exe().unwrap();
    let processes: Vec<_> = (0..4)
        .map(|number| {
            Command::new(&this)
                .args([
                    "--exact",
                    "concurrency::four_processes_append_beside_maintenance_and_no_row_is_lost_or_doubled",
                ])
                .arg("--nocapture")
                .env(WRITER, format!("{}#{number}", folder.path().display()))
                .spawn()
                .unwrap()
        })
        .collect();
    for mut process in processes {
        let status = tokio::task::spawn_blocking(move || process.wait()).await.unwrap().unwrap();
        assert!(status.success());
    }
    stop.store(true, Ordering::Relaxed);
    maintenance.await.unwrap();
    check(folder.path(), 4, 5).await;
}
