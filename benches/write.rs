//! Appends beside DataFusion's own `write_parquet` of the same batches with the same codec, in the same run.
//!
//! `cargo bench --bench write [-- MILLION_ROWS]`. Prints rows and megabytes (of Arrow data) a second, the ratio to
//! DataFusion's best, and the peak of resident memory beyond the idle process's.

use std::sync::Arc;
use std::time::Instant;

use arrow::array::{
    ArrayRef, BooleanArray, Date32Array, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use datafusion::config::TableParquetOptions;
use datafusion::dataframe::DataFrameWriteOptions;
use datafusion::datasource::MemTable;
use datafusion::prelude::DataFrame;
use icefield_engine::Session;
use icefield_engine::ops::DataFrameExt;
use icefield_engine::ops::partitioning::identity;

const BUDGET: usize = 256 << 20;
const ROUNDS: usize = 3;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let millions = std::env::args().filter_map(|arg| arg.parse::<usize>().ok()).next().unwrap_or(2);
    let rows = millions * 1_000_000;
    let folder = tempfile::tempdir().unwrap();
    let session = Session::builder().memory_budget(BUDGET).parallelism(2).open(folder.path()).await.unwrap();
    let partitions: Vec<Vec<RecordBatch>> =
        (0..2).map(|part| (0..rows / 8192 / 2).map(|n| batch((2 * n + part) as u64)).collect()).collect();
    let bytes: usize = partitions.iter().flatten().map(RecordBatch::get_array_memory_size).sum();
    let rows: usize = partitions.iter().flatten().map(RecordBatch::num_rows).sum();
    println!(
        "{rows} rows, {} MB of Arrow data, 2 cores, zstd level 3, budget {} MiB",
        bytes / 1_000_000,
        BUDGET >> 20
    );
    let schema = partitions[0][0].schema();
    let input = Arc::new(MemTable::try_new(schema, partitions).unwrap());
    session.context().register_table("input", input).unwrap();
    let frame = || async { session.context().table("input").await.unwrap() };

    let runs = [
        ("datafusion, unpartitioned", None),
        ("icefield, unpartitioned", Some(false)),
        ("datafusion, 100 partitions", None),
        ("icefield, 100 partitions", Some(true)),
    ];
    let mut best = [f64::MAX; 4];
    let mut peaks = [0_u64; 4];
    for round in 0..ROUNDS {
        for (run, (name, ours)) in runs.into_iter().enumerate() {
            let idle = reset_peak();
            let start = Instant::now();
            match ours {
                None => write_parquet(frame().await, folder.path(), round, run == 2).await,
                Some(partitioned) => append(&session, frame().await, round, partitioned).await,
            }
            let seconds = start.elapsed().as_secs_f64();
            best[run] = best[run].min(seconds);
            peaks[run] = peaks[run].max(peak().saturating_sub(idle));
            println!("  round {round}: {name}: {seconds:.2} s");
        }
    }
    for (run, (name, _)) in runs.into_iter().enumerate() {
        let (per_second, ratio) = (rows as f64 / best[run] / 1e6, best[0] / best[run]);
        println!(
            "{name:27} {per_second:6.2} Mrows/s {:6.0} MB/s  {ratio:.2} of datafusion's unpartitioned, peak {} MiB",
            bytes as f64 / best[run] / 1e6,
            peaks[run] >> 20,
        );
    }
    println!("unpartitioned: {:.2} (0.9 is asked)", best[0] / best[1]);
    println!(
        "100 partitions: {:.2} of datafusion's own with 100 partitions (0.7 is asked)",
        best[2] / best[3]
    );
}

async fn write_parquet(frame: DataFrame, folder: &std::path::Path, round: usize, partitioned: bool) {
    let path = folder.join(format!("datafusion-{round}-{partitioned}"));
    let mut parquet = TableParquetOptions::new();
    parquet.global.compression = Some("zstd(3)".to_string());
    let mut options = DataFrameWriteOptions::new();
    if partitioned {
        options = options.with_partition_by(vec!["part".to_string()]);
    }
    frame.write_parquet(&format!("{}/", path.display()), options, Some(parquet)).await.unwrap();
    std::fs::remove_dir_all(path).unwrap();
}

async fn append(session: &Session, frame: DataFrame, round: usize, partitioned: bool) {
    let name = format!("bench.t_{round}_{partitioned}");
    let write = frame.append_to(session, &name);
    let write = write.create_with(|t| if partitioned { t.partition_by([identity("part")]) } else { t });
    let report = write.await.unwrap();
    let location = report.table.core().metadata().location().trim_start_matches("file://").to_string();
    std::fs::remove_dir_all(location).unwrap();
}

/// Calendar rows: ids, few and many distinct texts, prices, times.
fn batch(seed: u64) -> RecordBatch {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let rows = 8192;
    let mut random = |below: u64| (0..rows).map(|_| next() % below).collect::<Vec<u64>>();
    let text = |values: Vec<u64>, prefix: &str| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(values.into_iter().map(|v| format!("{prefix}{v}"))))
    };
    let base = seed as i64 * rows as i64;
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("id", Arc::new(Int64Array::from_iter_values(base..base + rows as i64))),
        ("part", Arc::new(Int32Array::from_iter_values(random(100).into_iter().map(|v| v as i32)))),
        ("listing", Arc::new(Int64Array::from_iter_values(random(50_000).into_iter().map(|v| v as i64)))),
        ("date", Arc::new(Date32Array::from_iter_values(random(365).into_iter().map(|v| 19_000 + v as i32)))),
        ("city", text(random(30), "city number ")),
        ("name", text(random(1 << 40), "a listing with the name ")),
        (
            "price",
            Arc::new(Float64Array::from_iter_values(random(100_000).into_iter().map(|v| v as f64 / 100.0))),
        ),
        ("available", Arc::new(BooleanArray::from_iter(random(2).into_iter().map(|v| Some(v == 1))))),
        (
            "seen",
            Arc::new(TimestampMicrosecondArray::from_iter_values(
                random(1 << 50).into_iter().map(|v| v as i64),
            )),
        ),
        (
            "nights",
            Arc::new(Int32Array::from_iter(random(30).into_iter().map(|v| (v > 3).then_some(v as i32)))),
        ),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

/// Sets the peak of resident memory back to what it is now, in bytes, and gives that. 0 where the system does not tell.
fn reset_peak() -> u64 {
    let _ = std::fs::write("/proc/self/clear_refs", "5");
    peak()
}

/// The peak of resident memory, in bytes.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or_default() * 1024
}
