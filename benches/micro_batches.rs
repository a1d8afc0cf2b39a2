//! Many appends of five rows each: what the last ones cost beside the first ones, and what metadata is left.
//!
//! `cargo bench --bench micro_batches [-- APPENDS [upkeep]]`: 10,000 by default, to a table on local files with the embedded
//! catalog. With `upkeep` the table is looked after as `icefield::maintenance::upkeep` does it, and keeps 100 snapshots.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use icefield::maintenance::{days, upkeep};
use icefield::prelude::*;

const NAME: &str = "bench.clicks";
const SHOWN: usize = 100;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    let appends = arguments.iter().find_map(|arg| arg.parse().ok()).unwrap_or(10_000);
    let looks_after = arguments.iter().any(|arg| arg == "upkeep");
    let folder = tempfile::tempdir().unwrap();
    let session = Session::open(folder.path()).await.unwrap();
    let mut times = Vec::with_capacity(appends);
    let mut upkeeps = Vec::with_capacity(appends);
    // Other work on the machine does not count here.
    let mut cores = Vec::with_capacity(appends + 1);
    println!("{appends} appends of 5 rows{}", if looks_after { ", with upkeep" } else { "" });
    for n in 0..appends as i64 {
        cores.push(cpu_seconds());
        let started = Instant::now();
        let rows = session.read_batches([batch(n)]).unwrap();
        let written = rows.append_to(&session, NAME).create_with(|new| new).await.unwrap();
        times.push(started.elapsed());
        if looks_after {
            let started = Instant::now();
            upkeep(&written.table).older_than(days(0)).await.unwrap();
            upkeeps.push(started.elapsed());
        }
        if (n as usize + 1).is_multiple_of((appends / 10).max(SHOWN)) {
            let snapshots = written.table.core().metadata().snapshots().len();
            println!(
                "{:>6}: {:.1} ms an append, {snapshots} snapshots, {}",
                n + 1,
                mean(&times[times.len().saturating_sub(SHOWN)..]),
                left(folder.path())
            );
        }
    }
    // The first one creates the table.
    let first = mean(&times[1..times.len().min(SHOWN + 1)]);
    let last = mean(&times[times.len().saturating_sub(SHOWN)..]);
    println!("first {SHOWN}: {first:.1} ms; last {SHOWN}: {last:.1} ms; ratio {:.2}", last / first);
    cores.push(cpu_seconds());
    let of = |some: &[f64]| (some[some.len() - 1] - some[0]) * 1e3 / (some.len() - 1) as f64;
    let (first, last) = (of(&cores[1..SHOWN + 2]), of(&cores[cores.len() - SHOWN - 1..]));
    println!(
        "time of cores, upkeep included: first {SHOWN}: {first:.1} ms; last {SHOWN}: {last:.1} ms; ratio {:.2}",
        last / first
    );
    if looks_after {
        println!("upkeep: {:.1} ms an append, all in all", mean(&upkeeps));
    }
    let started = Instant::now();
    let count = session.table(NAME).await.unwrap().dataframe().await.unwrap().count().await.unwrap();
    println!("{count} rows counted in {:.0} ms", started.elapsed().as_secs_f64() * 1e3);
    assert_eq!(count, appends * 5);
}

fn batch(n: i64) -> RecordBatch {
    let ids = n * 5..n * 5 + 5;
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("id", Arc::new(Int64Array::from_iter_values(ids.clone()))),
        ("page", Arc::new(StringArray::from_iter_values(ids.clone().map(|id| format!("/rooms/{id}"))))),
        ("price", Arc::new(Float64Array::from_iter_values(ids.map(|id| id as f64 / 100.0)))),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

fn mean(times: &[Duration]) -> f64 {
    times.iter().sum::<Duration>().as_secs_f64() * 1e3 / times.len().max(1) as f64
}

/// The files that metadata is in, and those of data.
fn left(folder: &Path) -> String {
    let (mut files, mut bytes, mut newest, mut data) = (0, 0, 0, 0);
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap()) {
            let (path, about) = (entry.path(), entry.metadata().unwrap());
            let is = |suffix: &str| path.to_string_lossy().ends_with(suffix);
            if about.is_dir() {
                folders.push(path);
            } else if is(".parquet") {
                data += 1;
            } else if is(".metadata.json") || is(".avro") {
                files += 1;
                bytes += about.len();
                newest = newest.max(if is(".metadata.json") { about.len() } else { 0 });
            }
        }
    }
    format!(
        "{files} metadata files of {:.1} MB, the largest {newest} B; {data} data files",
        bytes as f64 / 1e6
    )
}

/// The time that cores have spent on this process, in seconds, to a hundredth.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // After the name, which may have spaces: user time is the 12th field, system time the 13th, in ticks of 10 ms.
    let fields = stat.rsplit(") ").next().unwrap_or_default().split(' ').skip(11).take(2);
    fields.filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}
