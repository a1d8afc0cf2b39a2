//! The peak of resident memory of full scans of a table and of one of ten times its files, under the same budget.
//!
//! `cargo bench --bench memory [-- WAREHOUSE TABLE]`. Reads the rows of a table of that lakehouse (such as
//! `examples/partner_day` leaves), or 10.9 million of its own, into a table; scans it whole; adds the same rows nine times more,
//! and scans it again. Prints what each scan takes beyond the idle process.

mod common;

use std::sync::Arc;

use datafusion::dataframe::DataFrame;
use datafusion::datasource::MemTable;
use futures::TryStreamExt;
use icefield::Session;
use icefield_engine::ops::DataFrameExt;

use common::{batch, peak, reset_peak};

const BUDGET: usize = 128 << 20;
const ROWS: usize = 10_900_000;
const NAME: &str = "bench.rows";

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
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

async fn open(folder: &std::path::Path) -> Session {
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
