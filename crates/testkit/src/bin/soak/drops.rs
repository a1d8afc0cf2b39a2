//! A whole drop: one damaged archive beside a good one, which must arrive whole.

use std::sync::OnceLock;

use futures::TryStreamExt;
use icefield_core::storage::Storage;
use icefield_ingest::{Ingest, Limits};
use tokio::runtime::Runtime;

/// Small, so that a small input passes them.
fn limits() -> Limits {
    let mut limits =
        Limits { ratio_floor_bytes: 1 << 20, members: 100, row_bytes: 64 << 10, ..Limits::default() };
    (limits.columns, limits.table_columns, limits.tables) = (100, 200, 10);
    limits
}

fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
    })
}

/// Ingests the bytes under a name that says what they seem to be.
pub(crate) fn archive(bytes: &[u8]) {
    let suffix = match bytes {
        [0x1F, 0x8B, ..] => "tar.gz",
        [b'P', b'K', ..] => "zip",
        [b'{', ..] => "jsonl",
        _ if bytes.get(257..262) == Some(b"ustar") => "tar",
        _ => "csv",
    };
    runtime().block_on(async {
        let storage = Storage::new();
        let good = "id,price\n1,10\n2,20\n";
        let files = [
            (format!("evil_2024-06-22_1.{suffix}"), bytes.to_vec()),
            ("good_2024-06-22_1.csv".into(), good.into()),
        ];
        for (name, bytes) in files {
            storage.write(&format!("memory://drop/in/{name}"), bytes).await.expect("memory takes it");
        }
        let ingest = Ingest::from_url("memory://drop/in")
            .storage(storage)
            .staging("memory://drop/staged")
            .pattern("{table}_{date}_{batch}.csv")
            .pattern("{table}_{date}_{batch}.jsonl")
            .limits(limits())
            .parallelism(1);
        let ingested = ingest.await.expect("no archive stops a run");
        let good = ingested.table("good").expect("the good archive's table");
        assert!(good.rows() >= 2, "{}", ingested.report);
        for table in &ingested.tables {
            let batches: Vec<_> = table.read().try_collect().await.expect("what was taken is read");
            assert_eq!(batches.iter().map(|batch| batch.num_rows() as u64).sum::<u64>(), table.rows());
        }
        for item in ingested.quarantine.items() {
            let told = item.to_string();
            assert!(!told.contains(char::is_control) && !item.detail.contains("panic"), "{told}");
        }
        let report = ingested.report.to_string();
        assert!(report.lines().all(|line| !line.contains(char::is_control)));
    });
}
