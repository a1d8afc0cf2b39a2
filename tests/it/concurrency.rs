//! Many writers on one table, tasks and processes, with maintenance beside them the whole time.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

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

/// The ids of all rows, ascending.
async fn ids(table: &Table) -> icefield::Result<Vec<i64>> {
    let batches = table.dataframe().await?.collect().await.map_err(icefield::from_datafusion)?;
    let column = |batch: &RecordBatch| {
        batch.column(0).as_any().downcast_ref::<Int64Array>().unwrap().values().to_vec()
    };
    let mut ids: Vec<i64> = batches.iter().flat_map(column).collect();
    ids.sort_unstable();
    Ok(ids)
}

fn expected(writers: i64, batches: i64) -> Vec<i64> {
    let of = |writer: i64| {
        (0..batches).flat_map(move |b| ((writer * 1000 + b) * ROWS)..((writer * 1000 + b + 1) * ROWS))
    };
    let all: BTreeSet<i64> = (0..writers).flat_map(of).collect();
    all.into_iter().collect()
}

/// Compaction, expiry and orphan removal, over and over, and once more when told to stop; and every snapshot that is
/// retained reads, from its data files. Each of them does something: files that were given up long ago lie about, too.
async fn maintain(session: Session, folder: PathBuf, stop: Arc<AtomicBool>) {
    let (mut compacted, mut expired, mut orphans) = (0, 0, 0);
    for round in 0.. {
        let last = stop.load(Ordering::Relaxed);
        let Ok(table) = session.table(TABLE).await else {
            assert!(!last, "the table is there");
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        give_up(&folder.join("db/events/data"), round);
        match maintenance::compact(&table).min_input_files(2).await {
            Ok(report) => compacted += report.groups,
            Err(e) if e.kind() == icefield::ErrorKind::Conflict => {}
            Err(e) => panic!("compaction: {e:?}"),
        }
        let table = session.table(TABLE).await.unwrap();
        let expiry = maintenance::expire_snapshots(&table).older_than(Duration::ZERO).retain_last(4);
        let report = expiry.await.unwrap();
        assert!(report.failures.is_empty() && report.cleanup_error.is_none(), "{report}");
        expired += report.snapshots.len();
        let table = session.table(TABLE).await.unwrap();
        let removal =
            maintenance::remove_orphan_files(&table).older_than(maintenance::minutes(10)).force(true);
        let report = removal.await.unwrap();
        assert!(report.failures.is_empty(), "{report}");
        orphans += report.deleted.files;

        // Nobody else expires: what the table retains now stays until the next round.
        let table = session.table(TABLE).await.unwrap();
        for snapshot in table.core().metadata().snapshots() {
            let id = snapshot.snapshot_id();
            let held =
                ids(&table.as_of(id).unwrap()).await.unwrap_or_else(|e| panic!("snapshot {id}: {e:?}"));
            let total = &snapshot.summary().additional_properties["total-records"];
            assert_eq!(held.len().to_string(), *total, "snapshot {id}");
            assert!(held.windows(2).all(|pair| pair[0] < pair[1]), "snapshot {id} has no row twice");
        }
        if last {
            break;
        }
    }
    assert!(compacted > 0 && expired > 0 && orphans > 0, "{compacted} {expired} {orphans}");
}

/// A file that a writer gave up an hour ago.
fn give_up(data: &Path, round: usize) {
    std::fs::create_dir_all(data).unwrap();
    let file = std::fs::File::create(data.join(format!("given-up-{round}.parquet"))).unwrap();
    #[allow(clippy::disallowed_methods)] // the file system's own clock
    file.set_modified(SystemTime::now() - Duration::from_secs(3600)).unwrap();
}

async fn check(folder: &Path, writers: i64, batches: i64) {
    let session = Session::open(folder).await.unwrap();
    assert_eq!(ids(&session.table(TABLE).await.unwrap()).await.unwrap(), expected(writers, batches));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sixteen_tasks_append_beside_maintenance_and_no_row_is_lost_or_doubled() {
    let folder = tempfile::tempdir().unwrap();
    let session = Session::open(folder.path()).await.unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let maintenance = tokio::spawn(maintain(session.clone(), folder.path().to_path_buf(), stop.clone()));
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
    let maintenance = tokio::spawn(maintain(session.clone(), folder.path().to_path_buf(), stop.clone()));
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
