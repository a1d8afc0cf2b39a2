//! Compaction, expiry and orphan removal running beside writers the whole time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use icefield_catalog::sql::SqlCatalog;
use icefield_core::ErrorKind;
use icefield_core::storage::Storage;
use icefield_engine::ops::DataFrameExt;
use icefield_maintenance::{compact, days, expire_snapshots, hours, minutes, remove_orphan_files};

use crate::compact::{Lake, NAME, ids};
use crate::world::check;

const WRITERS: i64 = 16;
const APPENDS: i64 = 3;
const ROWS: i64 = 10;

async fn writers_and_maintenance(lake: Arc<Lake>, litter: impl Fn(usize)) -> (u64, u64, u64) {
    lake.rows(0..1).append_to(&lake.session, NAME).create_with(|t| t).await.unwrap();
    let done = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let lake = lake.clone();
            tokio::spawn(async move {
                for n in 0..APPENDS {
                    let first = 1 + (writer * APPENDS + n) * ROWS;
                    lake.append(first..first + ROWS).await;
                }
            })
        })
        .collect();
    let maintenance = {
        let (lake, done) = (lake.clone(), done.clone());
        async move {
            let (mut compacted, mut expired, mut orphans) = (0, 0, 0);
            for round in 0.. {
                let last = done.load(Ordering::SeqCst);
                litter(round);
                let table = lake.table().await;
                match compact(&table).min_input_files(3).partial_progress(2).await {
                    Ok(report) => compacted += report.groups,
                    Err(e) => assert_eq!(e.kind(), ErrorKind::Conflict, "{e:?}"),
                }
                let report = expire_snapshots(&table).older_than(days(0)).retain_last(2).await.unwrap();
                assert!(report.failures.is_empty() && report.cleanup_error.is_none(), "{report}");
                expired += report.snapshots.len() as u64;
                let report = remove_orphan_files(&table).older_than(minutes(10)).force(true).await.unwrap();
                assert!(report.failures.is_empty(), "{report}");
                orphans += report.deleted.files;

                // Nobody else expires: what the table retains now stays until the next round.
                let table = lake.table().await;
                check(table.core()).await.unwrap();
                for snapshot in table.core().metadata().snapshots() {
                    let held = ids(&table.as_of(snapshot.snapshot_id()).unwrap()).await.len();
                    let total = &snapshot.summary().additional_properties["total-records"];
                    assert_eq!(held.to_string(), *total, "snapshot {}", snapshot.snapshot_id());
                }
                if last {
                    break;
                }
            }
            (compacted, expired, orphans)
        }
    };
    let writers = async {
        for writer in writers {
            writer.await.unwrap();
        }
        done.store(true, Ordering::SeqCst);
    };
    let (counts, ()) = tokio::join!(maintenance, writers);
    let expected: Vec<i64> = (0..1 + WRITERS * APPENDS * ROWS).collect();
    assert_eq!(lake.ids().await, expected, "no row is lost, none is doubled");
    counts
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_is_lost_in_memory() {
    let lake = Arc::new(Lake::new().await);
    let (compacted, expired, _) = writers_and_maintenance(lake, |_| ()).await;
    assert!(compacted > 0 && expired > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_is_lost_on_sqlite_and_local_files_and_litter_goes() {
    let folder = tempfile::tempdir().unwrap();
    let warehouse = format!("file://{}/warehouse", folder.path().display());
    let storage = Storage::new();
    let catalog = SqlCatalog::builder("lake")
        .sqlite(folder.path().join("catalog.db"))
        .warehouse(&warehouse)
        .storage(storage.clone())
        .open()
        .await
        .unwrap();
    let lake = Arc::new(Lake::on(Arc::new(catalog), storage).await);
    let data = folder.path().join("warehouse/db/t/data");
    let litter = move |round: usize| {
        std::fs::create_dir_all(&data).unwrap();
        let file = std::fs::File::create(data.join(format!("litter-{round}.parquet"))).unwrap();
        // Some is old, and goes; some is young, and stays.
        let age: Duration = if round.is_multiple_of(2) { hours(1) } else { minutes(1) };
        #[allow(clippy::disallowed_methods)] // the file system's own clock
        file.set_modified(SystemTime::now() - age).unwrap();
    };
    let (compacted, expired, orphans) = writers_and_maintenance(lake, litter).await;
    assert!(compacted > 0 && expired > 0 && orphans > 0);
    let left = std::fs::read_dir(folder.path().join("warehouse/db/t/data")).unwrap();
    let litter = left.filter(|f| f.as_ref().unwrap().file_name().to_string_lossy().starts_with("litter-"));
    assert!(litter.count() >= 1);
}
