//! Tables with 10% of their rows deleted beside the same tables before, in the same run.
//!
//! `cargo bench --bench deletes [-- ROWS]`. Makes tables of 8 million rows (or as many as are asked) in files of a million,
//! deletes every tenth row, at random places, by position delete files (version 2) and by deletion vectors (version 3), and
//! reads both the table and its snapshot of before: whole, and three of its columns. Prints the ratios of the best times.

mod common;

use std::time::Instant;

use futures::TryStreamExt;
use icefield::{Session, Table};
use icefield_core::format::{ContentFile, WantedStatistics};
use icefield_engine::ops::DataFrameExt;
use icefield_testkit::deletes::{commit_deletes, deletion_vectors, position_deletes, unpartitioned};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use common::{batch, peak, reset_peak};

const BATCHES_A_FILE: usize = 122;
const ROUNDS: usize = 7;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let wanted = std::env::args().filter_map(|arg| arg.parse::<usize>().ok()).next().unwrap_or(8_000_000);
    let folder = tempfile::tempdir().unwrap();
    let session = Session::builder().parallelism(2).open(folder.path()).await.unwrap();
    let rows_a_file = BATCHES_A_FILE * batch(0).num_rows();
    let files = wanted.div_ceil(rows_a_file);
    println!("{files} files of {rows_a_file} rows, a tenth deleted, 2 cores");
    for (kind, version) in [("position deletes", 2), ("deletion vectors", 3)] {
        let name = format!("bench.v{version}");
        let clean = filled(&session, &name, version, files).await;
        let before = clean.core().metadata().current_snapshot_id().unwrap();
        delete_a_tenth(&session, &clean, version).await;
        let table = session.table(&name).await.unwrap();
        let clean = table.as_of(before).unwrap();
        for columns in [None, Some(["id", "price", "city"])] {
            let mut best = [f64::MAX; 2];
            let mut rows = [0; 2];
            let mut peaks = [0; 2];
            // The first round fills caches.
            for round in 0..=ROUNDS {
                for (run, table) in [&table, &clean].into_iter().enumerate() {
                    let idle = reset_peak();
                    let start = Instant::now();
                    rows[run] = read(table, columns).await;
                    if round > 0 {
                        best[run] = best[run].min(start.elapsed().as_secs_f64());
                    }
                    peaks[run] = peaks[run].max(peak().saturating_sub(idle));
                }
            }
            let share = 1.0 - rows[0] as f64 / rows[1] as f64;
            assert!((0.09..0.11).contains(&share), "{share} of the rows are deleted");
            println!(
                "{kind}, {}: {:.2} times the table without ({:.3} s and {:.3} s; at most 1.3 is asked); \
                 peak {} MiB above idle, without {} MiB",
                columns.map_or("all columns".to_string(), |columns| columns.join(", ")),
                best[0] / best[1],
                best[0],
                best[1],
                peaks[0] >> 20,
                peaks[1] >> 20
            );
        }
    }
}

/// A table of so many files.
async fn filled(session: &Session, name: &str, version: u8, files: usize) -> Table {
    for file in 0..files {
        let batches = (file * BATCHES_A_FILE..(file + 1) * BATCHES_A_FILE).map(|seed| batch(seed as u64));
        let rows = session.read_batches(batches.collect::<Vec<_>>()).unwrap();
        rows.append_to(session, name).create_with(|t| t.format_version(version)).await.unwrap();
    }
    session.table(name).await.unwrap()
}

/// Deletes each row with a chance of one in ten.
async fn delete_a_tenth(session: &Session, table: &Table, version: u8) {
    let mut random = StdRng::seed_from_u64(u64::from(version));
    let none = unpartitioned();
    let mut deletes: Vec<ContentFile> = Vec::new();
    for (at, (path, rows)) in files(session, table).await.iter().enumerate() {
        let gone: Vec<u64> = (0..*rows).filter(|_| random.random_bool(0.1)).collect();
        let name = format!("deletes-{at}");
        if version == 2 {
            let rows: Vec<(&str, i64)> = gone.iter().map(|row| (path.as_str(), *row as i64)).collect();
            deletes.push(position_deletes(table.core(), &name, &none, &rows).await);
        } else {
            deletes.extend(deletion_vectors(table.core(), &name, &none, &[(path, &gone)]).await);
        }
    }
    commit_deletes(&**session.catalog(), table.core(), deletes).await;
}

/// Paths and rows of a table's data files.
async fn files(session: &Session, table: &Table) -> Vec<(String, u64)> {
    use icefield_engine::scan::plan_files;
    let snapshot = table.core().metadata().current_snapshot().unwrap();
    let filter = icefield_core::filter::Filter::True;
    let (all, caches) = (WantedStatistics::All, session.scan_caches());
    let planned = plan_files(table.core(), snapshot, &filter, &all, caches).await.unwrap();
    planned.data.iter().map(|file| (file.path().to_string(), file.file.record_count())).collect()
}

/// Reads and drops the rows, and counts them.
async fn read(table: &Table, columns: Option<[&str; 3]>) -> usize {
    let frame = table.dataframe().await.unwrap();
    let frame = match columns {
        Some(columns) => frame.select_columns(&columns).unwrap(),
        None => frame,
    };
    let batches = frame.execute_stream().await.unwrap();
    batches.try_fold(0, |rows, batch| async move { Ok(rows + batch.num_rows()) }).await.unwrap()
}
