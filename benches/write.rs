//! Appends beside DataFusion's own `write_parquet` of the same batches with the same codec, in the same run.
//!
//! `cargo bench --bench write [-- MILLION_ROWS]`. Prints the peak of resident memory beyond the idle process's, rows and
//! megabytes (of Arrow data) a second, and the ratio to DataFusion's rate: of each round, and the median of the rounds'.

mod common;

use std::path::{Path, PathBuf};
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
const ROUNDS: usize = 6;

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

    let run = async |partitioned: bool, ours: bool, round: usize| {
        let (start, busy) = (Instant::now(), cpu_seconds());
        let written = match ours {
            false => write_parquet(frame(&theirs), folder.path(), round, partitioned).await,
            true => append(&session, frame(session.context()), round, partitioned).await,
        };
        let taken = Taken { seconds: start.elapsed().as_secs_f64(), cores: cpu_seconds() - busy };
        std::fs::remove_dir_all(written).unwrap();
        taken
    };

    // Memory first, and icefield before the other: what it takes beyond the idle process is its own.
    let idle = reset_peak();
    for (name, partitioned, ours) in
        [(OURS, false, true), (OURS, true, true), (THEIRS, false, false), (THEIRS, true, false)]
    {
        reset_peak();
        run(partitioned, ours, 0).await;
        println!("{}: peak {} MiB above idle", called(name, partitioned), peak().saturating_sub(idle) >> 20);
    }

    // What is compared is done one right after the other, and first in every second round: the machine's speed drifts.
    let mut ratios = [Vec::new(), Vec::new()];
    for round in 1..=ROUNDS {
        for partitioned in [false, true] {
            let first = round % 2 == 1;
            let one = run(partitioned, first, round).await;
            let other = run(partitioned, !first, round).await;
            let (ours, theirs) = if first { (one, other) } else { (other, one) };
            for (name, taken) in [(OURS, &ours), (THEIRS, &theirs)] {
                println!(
                    "  round {round}: {}: {:.2} s, {:.2} s of cores, {:.2} Mrows/s, {:.0} MB/s",
                    called(name, partitioned),
                    taken.seconds,
                    taken.cores,
                    rows as f64 / taken.seconds / 1e6,
                    bytes as f64 / taken.seconds / 1e6,
                );
            }
            ratios[usize::from(partitioned)].push((theirs.seconds / ours.seconds, theirs.cores / ours.cores));
        }
    }
    for (partitioned, asked) in [(false, 0.9), (true, 0.7)] {
        let of = &ratios[usize::from(partitioned)];
        let (low, median, high) = spread(of.iter().map(|ratio| ratio.0));
        println!(
            "{}: {median:.2} of datafusion's rate in the median round, {low:.2} to {high:.2} ({asked} is asked); by the \
             time of cores {:.2}",
            called(OURS, partitioned),
            spread(of.iter().map(|ratio| ratio.1)).1,
        );
    }
}

const OURS: &str = "icefield";
const THEIRS: &str = "datafusion";

struct Taken {
    seconds: f64,
    cores: f64,
}

fn called(name: &str, partitioned: bool) -> String {
    format!("{name}, {}", if partitioned { "100 partitions" } else { "unpartitioned" })
}

/// The lowest, the median and the highest.
fn spread(values: impl Iterator<Item = f64>) -> (f64, f64, f64) {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    (values[0], (values[middle] + values[values.len() - 1 - middle]) / 2.0, values[values.len() - 1])
}

/// Gives the folder that was written.
async fn write_parquet(frame: DataFrame, folder: &Path, round: usize, partitioned: bool) -> PathBuf {
    let path = folder.join(format!("datafusion-{round}-{partitioned}"));
    let mut parquet = TableParquetOptions::new();
    parquet.global.compression = Some("zstd(3)".to_string());
    let mut options = DataFrameWriteOptions::new();
    if partitioned {
        options = options.with_partition_by(vec!["part".to_string()]);
    }
    frame.write_parquet(&format!("{}/", path.display()), options, Some(parquet)).await.unwrap();
    path
}

/// Gives the folder that was written.
async fn append(session: &Session, frame: DataFrame, round: usize, partitioned: bool) -> PathBuf {
    let name = format!("bench.t_{round}_{partitioned}");
    let write = frame.append_to(session, &name);
    let write = write.create_with(|t| if partitioned { t.partition_by([identity("part")]) } else { t });
    let report = write.await.unwrap();
    report.table.core().metadata().location().trim_start_matches("file://").into()
}

/// The time that cores have spent on this process, in seconds, to a hundredth.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // After the name, which may have spaces: user time is the 12th field, system time the 13th, in ticks of 10 ms.
    let fields = stat.rsplit(") ").next().unwrap_or_default().split(' ').skip(11).take(2);
    fields.filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}
