//! Appends beside DataFusion's own `write_parquet` of the same batches with the same codec, in the same run.
//!
//! `cargo bench --bench write [-- MILLION_ROWS]`. Prints rows and megabytes (of Arrow data) a second, the ratio to
//! DataFusion's best, and the peak of resident memory beyond the idle process's.

mod common;

use std::sync::Arc;
use std::time::Instant;

use arrow::array::RecordBatch;
use datafusion::config::TableParquetOptions;
use datafusion::dataframe::DataFrameWriteOptions;
use datafusion::datasource::MemTable;
use datafusion::prelude::{DataFrame, SessionConfig, SessionContext};
use icefield_engine::Session;
use icefield_engine::ops::DataFrameExt;
use icefield_engine::ops::partitioning::identity;

use common::{batch, peak, reset_peak};

const BUDGET: usize = 256 << 20;
const ROUNDS: usize = 5;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let millions = std::env::args().filter_map(|arg| arg.parse::<usize>().ok()).next().unwrap_or(8);
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
    // DataFusion's own writer does not keep to a budget of 256 MiB with 100 partitions: it gets as much as it likes.
    let theirs = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(2));
    let frame = |context: &SessionContext| context.read_table(input.clone()).unwrap();

    // icefield first: what its first round takes beyond the idle process is its own.
    let runs = [
        ("icefield, unpartitioned", false, true),
        ("icefield, 100 partitions", true, true),
        ("datafusion, unpartitioned", false, false),
        ("datafusion, 100 partitions", true, false),
    ];
    let mut best = [f64::MAX; 4];
    let mut peaks = [0_u64; 4];
    let idle = reset_peak();
    for round in 0..ROUNDS {
        for (run, (name, partitioned, ours)) in runs.into_iter().enumerate() {
            reset_peak();
            let (start, busy) = (Instant::now(), cpu_seconds());
            match ours {
                false => write_parquet(frame(&theirs), folder.path(), round, partitioned).await,
                true => append(&session, frame(session.context()), round, partitioned).await,
            }
            let seconds = start.elapsed().as_secs_f64();
            best[run] = best[run].min(seconds);
            if round == 0 {
                peaks[run] = peak().saturating_sub(idle);
            }
            println!("  round {round}: {name}: {seconds:.2} s, {:.2} s of cores", cpu_seconds() - busy);
        }
    }
    for (run, (name, ..)) in runs.into_iter().enumerate() {
        println!(
            "{name:27} {:6.2} Mrows/s {:6.0} MB/s, peak {} MiB above idle",
            rows as f64 / best[run] / 1e6,
            bytes as f64 / best[run] / 1e6,
            peaks[run] >> 20,
        );
    }
    println!("unpartitioned: {:.2} of datafusion's (0.9 is asked)", best[2] / best[0]);
    println!(
        "100 partitions: {:.2} of datafusion's own with 100 partitions (0.7 is asked)",
        best[3] / best[1]
    );
    println!("100 partitions: {:.2} of datafusion's without partitions", best[2] / best[1]);
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

/// The time that cores have spent on this process, in seconds, to a hundredth.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // After the name, which may have spaces: user time is the 12th field, system time the 13th, in ticks of 10 ms.
    let fields = stat.rsplit(") ").next().unwrap_or_default().split(' ').skip(11).take(2);
    fields.filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}
