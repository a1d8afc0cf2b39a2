//! The peak of resident memory of full scans of a table and of one of ten times its files, under the same budget; of planning
//! 10,000 files of 100 columns; and of a write with 64 partitions, whose row groups have the configured size.
//!
//! `cargo bench --bench memory [-- WAREHOUSE TABLE]`. Reads the rows of a table of that lakehouse (such as
//! `examples/partner_day` leaves), or 10.9 million of its own, into a table; scans it whole; adds the same rows nine times more,
//! and scans it again. Prints what each scan takes beyond the idle process. `-- planning` plans alone.
//!
//! `cargo bench --bench memory -- --write [MILLION_ROWS]` writes 400 million rows in a plan of 64 partitions within 4 GiB to tables
//! that ask for a size of row groups, and prints the peak and the sizes of the row groups: those that are not the last of their
//! file, and how many are too small. 64 partition values have an open file each, so they ask for a quarter of the size.

mod common;

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::catalog::streaming::StreamingTable;
use datafusion::dataframe::DataFrame;
use datafusion::datasource::MemTable;
use datafusion::error::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use futures::TryStreamExt;
use iceberg::spec::{DataContentType, DataFileBuilder, DataFileFormat, Datum, Struct};
use icefield::Session;
use icefield_core::commit::Transaction;
use icefield_core::evolve::types;
use icefield_core::format::ContentFile;
use icefield_engine::ops::DataFrameExt;
use icefield_engine::ops::partitioning::bucket;
use parquet::file::reader::{FileReader, SerializedFileReader};

use common::{batch, peak, reset_peak};

const BUDGET: usize = 128 << 20;
const ROWS: usize = 10_900_000;
const NAME: &str = "bench.rows";
const PLANNED: &str = "bench.planned";
const FILES: i64 = 10_000;
const COLUMNS: i32 = 100;
/// What a process of this benchmark is asked to do by its first argument.
const PLANNING: &str = "planning";
const WRITE_ENTRIES: &str = "write-entries";

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let write = std::env::args().any(|arg| arg == "--write");
    let arguments: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    if write {
        return write_row_groups(arguments.first().and_then(|millions| millions.parse().ok()).unwrap_or(400))
            .await;
    }
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [WRITE_ENTRIES, folder] => return write_entries(Path::new(folder)).await,
        [PLANNING] => return planning().await,
        _ => planning().await,
    }
    let folder = tempfile::tempdir().unwrap();
    println!("full scans, 2 cores, budget {} MiB", BUDGET >> 20);
    let mut peaks = Vec::new();
    for more in [1, 9] {
        {
            let session = open(folder.path()).await;
            let source = Source::open(&arguments).await;
            for _ in 0..more {
                source.rows(&session).await.append_to(&session, NAME).create_with(|t| t).await.unwrap();
            }
        }
        // A session of its own, so that its caches are empty.
        let session = open(folder.path()).await;
        let table = session.table(NAME).await.unwrap();
        let summary = &table.core().metadata().current_snapshot().unwrap().summary().additional_properties;
        let files = summary["total-data-files"].clone();
        let bytes = summary["total-files-size"].parse::<u64>().unwrap();
        let idle = reset_peak();
        let rows = scan(table.dataframe().await.unwrap()).await;
        let above = peak().saturating_sub(idle);
        println!(
            "{rows} rows in {files} files, {} MB: peak {} MiB above idle",
            bytes / 1_000_000,
            above >> 20
        );
        peaks.push(above);
    }
    println!(
        "ten times the files: {:.2} of the memory (no more is asked)",
        peaks[1] as f64 / peaks[0] as f64
    );
}

/// Writes rows, made as they are asked for, in as many partitions as a machine of 64 cores has.
async fn write_row_groups(millions: u64) {
    const PARTITIONS: u64 = 64;
    const BUDGET: usize = 4 << 30;
    let folder = tempfile::tempdir().unwrap();
    let session = Session::builder().memory_budget(BUDGET).parallelism(64).open(folder.path()).await.unwrap();
    let batches = (millions * 1_000_000).div_ceil(PARTITIONS * batch(0).num_rows() as u64);
    let schema = batch(0).schema();
    for (name, partitions, row_group) in [
        ("unpartitioned", 0, 128_i64 << 20),
        ("one partition", 1, 128 << 20),
        ("64 partition values", 64, 32 << 20),
    ] {
        let part =
            |part| Arc::new(Rows { schema: schema.clone(), part, batches }) as Arc<dyn PartitionStream>;
        let table = StreamingTable::try_new(schema.clone(), (0..PARTITIONS).map(part).collect()).unwrap();
        let frame = session.context().read_table(Arc::new(table)).unwrap();
        let idle = reset_peak();
        let write = frame.append_to(&session, format!("bench.groups_{partitions}"));
        let write = write.create_with(|t| {
            let t = t.property("write.parquet.row-group-size-bytes", row_group.to_string());
            match partitions {
                0 => t,
                many => t.partition_by([bucket("id", many)]),
            }
        });
        let report = write.await.unwrap();
        let above = peak().saturating_sub(idle);
        let (mut sizes, mut files) = (Vec::new(), 0);
        let data = report.table.core().metadata().location().trim_start_matches("file://").to_string();
        for file in parquet_files(data.as_ref()) {
            let reader = SerializedFileReader::new(std::fs::File::open(file).unwrap()).unwrap();
            let groups = reader.metadata().row_groups();
            sizes.extend(groups.iter().rev().skip(1).map(|group| group.compressed_size()));
            files += 1;
        }
        let small = sizes.iter().filter(|size| **size < row_group / 10 * 9).count();
        let mean = (sizes.iter().sum::<i64>() / (sizes.len().max(1) as i64)) >> 20;
        println!(
            "{} rows, {name}: peak {} MiB above idle; {files} files, {} row groups before the last of a file, {mean} MiB each, \
             {small} of them under 90 % of {} MiB",
            report.rows,
            above >> 20,
            sizes.len(),
            row_group >> 20,
        );
        std::fs::remove_dir_all(data).unwrap();
    }
}

/// A partition's rows, made as they are asked for.
#[derive(Debug)]
struct Rows {
    schema: SchemaRef,
    part: u64,
    batches: u64,
}

impl PartitionStream for Rows {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let first = self.part * self.batches;
        let rows = futures::stream::iter(
            (first..first + self.batches).map(|seed| Ok::<_, DataFusionError>(batch(seed))),
        );
        Box::pin(RecordBatchStreamAdapter::new(self.schema.clone(), rows))
    }
}

fn parquet_files(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        match entry.path() {
            path if path.is_dir() => files.extend(parquet_files(&path)),
            path if path.extension().is_some_and(|of| of == "parquet") => files.push(path),
            _ => {}
        }
    }
    files
}

/// The peaks of planning queries of a table of many files of many columns. Nobody reads the files, and there are none.
async fn planning() {
    let folder = tempfile::tempdir().unwrap();
    // In a process of its own, so that what it took is not at hand to those that are measured.
    let program = std::env::current_exe().unwrap();
    let status = Command::new(program).arg(WRITE_ENTRIES).arg(folder.path()).status().unwrap();
    assert!(status.success(), "the table could not be written");
    println!("planning {FILES} files of {COLUMNS} columns; 64 MiB for a few columns are asked");
    for columns in ["count(*)", "1", "c3", "*"] {
        let session = open(folder.path()).await;
        let query = format!("SELECT {columns} FROM {PLANNED}");
        let frame = session.sql(&query).await.unwrap();
        let idle = reset_peak();
        let plan = frame.create_physical_plan().await.unwrap();
        let above = peak().saturating_sub(idle);
        let reserved = session.context().runtime_env().memory_pool.reserved();
        println!("{query}: peak {} MiB above idle, the plan holds {} KiB", above >> 20, reserved >> 10);
        drop(plan);
    }
}

async fn write_entries(folder: &Path) {
    let session = open(folder).await;
    let columns: Vec<_> = (0..COLUMNS).map(|n| types::optional(format!("c{n}"), types::long())).collect();
    let table = session.create_table(PLANNED, columns).await.unwrap();
    let core = table.core();
    let ids = || 1..=COLUMNS;
    let entry = |n: i64| {
        let file = DataFileBuilder::default()
            .content(DataContentType::Data)
            .file_path(format!("{}/data/{n:08}.parquet", core.metadata().location()))
            .file_format(DataFileFormat::Parquet)
            .partition(Struct::empty())
            .record_count(1000)
            .file_size_in_bytes(1_000_000)
            .column_sizes(ids().map(|id| (id, 10_000)).collect())
            .value_counts(ids().map(|id| (id, 1000)).collect())
            .null_value_counts(ids().map(|id| (id, 0)).collect())
            .lower_bounds(ids().map(|id| (id, Datum::long(n * 1000))).collect())
            .upper_bounds(ids().map(|id| (id, Datum::long(n * 1000 + 999))).collect())
            .partition_spec_id(0)
            .build()
            .unwrap();
        ContentFile { spec_id: 0, file }
    };
    let append = Transaction::new(core).fast_append((0..FILES).map(entry).collect());
    append.commit(&**session.catalog()).await.unwrap();
}

async fn open(folder: &Path) -> Session {
    Session::builder().memory_budget(BUDGET).parallelism(2).open(folder).await.unwrap()
}

/// Where the rows come from.
enum Source {
    Own,
    Table(Session, String),
}

impl Source {
    async fn open(arguments: &[String]) -> Self {
        match arguments {
            [warehouse, table, ..] => Self::Table(Session::open(warehouse).await.unwrap(), table.clone()),
            _ => Self::Own,
        }
    }

    async fn rows(&self, session: &Session) -> DataFrame {
        match self {
            Self::Table(source, name) => {
                let table = source.table(name).await.unwrap();
                session.context().read_table(table.provider().unwrap()).unwrap()
            }
            Self::Own => {
                let batches = ROWS.div_ceil(batch(0).num_rows()) as u64;
                let batches: Vec<_> = (0..batches).map(batch).collect();
                let table = MemTable::try_new(batches[0].schema(), vec![batches]).unwrap();
                session.context().read_table(Arc::new(table)).unwrap()
            }
        }
    }
}

/// Reads and drops all rows, and counts them.
async fn scan(rows: DataFrame) -> usize {
    let batches = rows.execute_stream().await.unwrap();
    batches.try_fold(0, |rows, batch| async move { Ok(rows + batch.num_rows()) }).await.unwrap()
}
