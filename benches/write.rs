//! Appends beside DataFusion's own `write_parquet` of the same batches with the same codec, in the same run, and appends to
//! one partition beside those without partitions.
//!
//! `cargo bench --bench write [-- MILLION_ROWS]`. Prints the peak of resident memory beyond the idle process's, rows and
//! megabytes (of Arrow data) a second, and the ratio to DataFusion's rate: of each round, and the median of the rounds'.
//! Likewise the ratio of one partition's rate to that without partitions.

mod common;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use arrow::array::RecordBatch;
use datafusion::config::TableParquetOptions;
use datafusion::dataframe::DataFrameWriteOptions;
use datafusion::datasource::MemTable;
use datafusion::prelude::{DataFrame, SessionConfig, SessionContext};
use icefield_engine::Session;
use icefield_engine::ops::DataFrameExt;
use icefield_engine::ops::partitioning::{bucket, identity};

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

    let run = async |layout: Layout, ours: bool, round: usize| {
        let (start, busy) = (Instant::now(), cpu_seconds());
        let written = match ours {
            false => write_parquet(frame(&theirs), folder.path(), round, layout).await,
            true => append(&session, frame(session.context()), round, layout).await,
        };
        let taken = Taken { seconds: start.elapsed().as_secs_f64(), cores: cpu_seconds() - busy };
        std::fs::remove_dir_all(written).unwrap();
        taken
    };

    // Memory first, and icefield before the other: what it takes beyond the idle process is its own.
    let idle = reset_peak();
    for (name, layout, ours) in [
        (OURS, Layout::Whole, true),
        (OURS, Layout::One, true),
        (OURS, Layout::Hundred, true),
        (THEIRS, Layout::Whole, false),
        (THEIRS, Layout::Hundred, false),
    ] {
        reset_peak();
        run(layout, ours, 0).await;
        println!("{}: peak {} MiB above idle", called(name, layout), peak().saturating_sub(idle) >> 20);
    }

    // What is compared is done one right after the other, and first in every second round: the machine's speed drifts.
    let mut ratios = [Vec::new(), Vec::new(), Vec::new()];
    let compared = [
        ((OURS, Layout::Whole), (THEIRS, Layout::Whole), 0.9),
        ((OURS, Layout::Hundred), (THEIRS, Layout::Hundred), 0.7),
        ((OURS, Layout::One), (OURS, Layout::Whole), 0.9),
    ];
    for round in 1..=ROUNDS {
        for (ratios, (measured, floor, _)) in ratios.iter_mut().zip(compared) {
            let measured_first = round % 2 == 1;
            let (first, second) = if measured_first { (measured, floor) } else { (floor, measured) };
            let one = run(first.1, first.0 == OURS, 2 * round).await;
            let other = run(second.1, second.0 == OURS, 2 * round + 1).await;
            for ((name, layout), taken) in [(first, &one), (second, &other)] {
                println!(
                    "  round {round}: {}: {:.2} s, {:.2} s of cores, {:.2} Mrows/s, {:.0} MB/s",
                    called(name, layout),
                    taken.seconds,
                    taken.cores,
                    rows as f64 / taken.seconds / 1e6,
                    bytes as f64 / taken.seconds / 1e6,
                );
            }
            let (ours, theirs) = if measured_first { (one, other) } else { (other, one) };
            ratios.push((theirs.seconds / ours.seconds, theirs.cores / ours.cores));
        }
    }
    for (of, (measured, floor, asked)) in ratios.iter().zip(compared) {
        let (low, median, high) = spread(of.iter().map(|ratio| ratio.0));
        println!(
            "{}: {median:.2} of the rate of {} in the median round, {low:.2} to {high:.2} ({asked} is asked); by the time of \
             cores {:.2}",
            called(measured.0, measured.1),
            called(floor.0, floor.1),
            spread(of.iter().map(|ratio| ratio.1)).1,
        );
    }
}

const OURS: &str = "icefield";
const THEIRS: &str = "datafusion";

/// The partitions that the rows are of.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Layout {
    Whole,
    One,
    Hundred,
}

struct Taken {
    seconds: f64,
    cores: f64,
}

fn called(name: &str, layout: Layout) -> String {
    let layout = match layout {
        Layout::Whole => "unpartitioned",
        Layout::One => "one partition",
        Layout::Hundred => "100 partitions",
    };
    format!("{name}, {layout}")
}

/// The lowest, the median and the highest.
fn spread(values: impl Iterator<Item = f64>) -> (f64, f64, f64) {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    (values[0], (values[middle] + values[values.len() - 1 - middle]) / 2.0, values[values.len() - 1])
}

/// Gives the folder that was written.
async fn write_parquet(frame: DataFrame, folder: &Path, round: usize, layout: Layout) -> PathBuf {
    let path = folder.join(format!("datafusion-{round}-{layout:?}"));
    let mut parquet = TableParquetOptions::new();
    parquet.global.compression = Some("zstd(3)".to_string());
    let mut options = DataFrameWriteOptions::new();
    if layout == Layout::Hundred {
        options = options.with_partition_by(vec!["part".to_string()]);
    }
    frame.write_parquet(&format!("{}/", path.display()), options, Some(parquet)).await.unwrap();
    path
}

/// Gives the folder that was written.
async fn append(session: &Session, frame: DataFrame, round: usize, layout: Layout) -> PathBuf {
    static NAMES: AtomicUsize = AtomicUsize::new(0);
    let name = format!("bench.t_{round}_{}", NAMES.fetch_add(1, Ordering::Relaxed));
    let write = frame.append_to(session, &name);
    let write = write.create_with(|t| match layout {
        Layout::Whole => t,
        Layout::One => t.partition_by([bucket("part", 1)]),
        Layout::Hundred => t.partition_by([identity("part")]),
    });
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
