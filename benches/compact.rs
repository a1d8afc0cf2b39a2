//! Compaction of many small files beside DataFusion reading and writing the same files, in the same run.
//!
//! `cargo bench --bench compact [-- FILES]`. Makes a table of 2,000 files of about 100 KB (or as many as are asked), compacts
//! it, rolls it back and compacts it again. Prints megabytes (of small files) a second, the ratio of the best rounds, and the
//! peak of resident memory beyond the idle process's.

mod common;

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use datafusion::config::TableParquetOptions;
use datafusion::dataframe::DataFrameWriteOptions;
use datafusion::datasource::MemTable;
use datafusion::prelude::{ParquetReadOptions, SessionConfig, SessionContext};
use icefield::{Session, maintenance};
use icefield_engine::ops::DataFrameExt;

use common::{batch, peak, reset_peak};

const BUDGET: usize = 256 << 20;
/// Rows of about 100 KB once encoded.
const FILE_ROWS: usize = 3000;
const ROUNDS: usize = 4;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let wanted = std::env::args().filter_map(|arg| arg.parse::<usize>().ok()).next().unwrap_or(2000);
    let folder = tempfile::tempdir().unwrap();
    let session = Session::builder().memory_budget(BUDGET).parallelism(2).open(folder.path()).await.unwrap();
    let table = small_files(&session, wanted).await;
    let before = table.core().metadata().current_snapshot_id().unwrap();
    let data = format!("{}/data", table.core().metadata().location().trim_start_matches("file://"));
    let sizes: Vec<u64> =
        std::fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).collect();
    let bytes: u64 = sizes.iter().sum();
    println!(
        "{} files, {} MB, {} KB each, 2 cores, zstd level 3, budget {} MiB",
        sizes.len(),
        bytes / 1_000_000,
        bytes / 1000 / sizes.len() as u64,
        BUDGET >> 20
    );
    // What DataFusion is compared with has only the small files to read.
    let copy = folder.path().join("copy");
    std::fs::create_dir(&copy).unwrap();
    for entry in std::fs::read_dir(&data).unwrap() {
        let entry = entry.unwrap();
        std::fs::hard_link(entry.path(), copy.join(entry.file_name())).unwrap();
    }

    // icefield first: what its first round takes beyond the idle process is its own.
    const NAMES: [&str; 2] = ["icefield", "datafusion"];
    let (mut best, mut peaks) = ([f64::MAX; 2], [0_u64; 2]);
    let idle = reset_peak();
    for round in 0..ROUNDS {
        for (run, name) in NAMES.into_iter().enumerate() {
            reset_peak();
            let start = Instant::now();
            let files = match name {
                "datafusion" => rewrite(&copy, &folder.path().join(format!("datafusion-{round}"))).await,
                _ => {
                    let table = session.table("bench.small").await.unwrap();
                    let report = maintenance::compact(&table).await.unwrap();
                    assert_eq!(report.input.files, sizes.len() as u64);
                    report.output.files as usize
                }
            };
            let seconds = start.elapsed().as_secs_f64();
            best[run] = best[run].min(seconds);
            if round == 0 {
                peaks[run] = peak().saturating_sub(idle);
            }
            println!("  round {round}: {name}: {seconds:.2} s, into {files} files");
        }
        session.table("bench.small").await.unwrap().rollback_to(before).await.unwrap();
    }
    for (run, name) in NAMES.into_iter().enumerate() {
        println!(
            "{name:11} {:6.1} MB/s, peak {} MiB above idle",
            bytes as f64 / best[run] / 1e6,
            peaks[run] >> 20
        );
    }
    println!("compaction: {:.2} of reading and writing with DataFusion (0.8 is asked)", best[1] / best[0]);
}

/// A table of so many files.
async fn small_files(session: &Session, files: usize) -> icefield::Table {
    // Each slice of a batch is as much as makes a file; a writer closes its file after each.
    let slices: Vec<_> = (0..files.div_ceil(2) as u64)
        .flat_map(|seed| {
            let batch = batch(seed);
            [batch.slice(0, FILE_ROWS), batch.slice(FILE_ROWS, FILE_ROWS)]
        })
        .collect();
    let input = Arc::new(MemTable::try_new(slices[0].schema(), vec![slices]).unwrap());
    let frame = session.context().read_table(input).unwrap();
    let append = frame.append_to(session, "bench.small");
    let append = append.create_with(|t| t.property("write.target-file-size-bytes", "10000"));
    let table = append.await.unwrap().table;
    table.remove_properties(["write.target-file-size-bytes"]).await.unwrap()
}

/// Reads all files of a folder and writes their rows, with DataFusion alone. How many files that made.
async fn rewrite(from: &Path, to: &Path) -> usize {
    let config = SessionConfig::new().with_target_partitions(2);
    let context = SessionContext::new_with_config(config);
    let path = format!("{}/", from.display());
    let frame = context.read_parquet(path, ParquetReadOptions::default()).await.unwrap();
    let mut parquet = TableParquetOptions::new();
    parquet.global.compression = Some("zstd(3)".to_string());
    let target = format!("{}/", to.display());
    frame.write_parquet(&target, DataFrameWriteOptions::new(), Some(parquet)).await.unwrap();
    let files = std::fs::read_dir(to).unwrap().count();
    std::fs::remove_dir_all(to).unwrap();
    files
}
