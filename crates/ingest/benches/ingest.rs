//! Ingest beside `gzip -dc | wc -c` of the same archives: decompressed bytes a second, and peak memory.
//!
//! `cargo bench -p icefield-ingest --bench ingest -- [DROP]`: DROP is a folder of `.tar.gz` archives with
//! `{table}_{date}_{batch}.csv` members, such as `../shared/data/cut-drops` cuts; by default one is made up. CSV is parsed with
//! given types and written as zstd Parquet, by a runtime of two threads.
//!
//! With `--hostile` it takes a hundred hostile archives beside them, and prints the time beside that of the good ones alone, and
//! which kinds take most of it.

use std::error::Error;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use arrow::datatypes::{DataType, Field, Schema};
use icefield_ingest::{Conversion, Ingest};
use icefield_testkit::{HostileArchive, hostile_archives};

const ROUNDS: usize = 3;

fn main() -> Result<(), Box<dyn Error>> {
    let given = std::env::args().skip(1).find(|a| !a.starts_with('-'));
    let made = tempfile::tempdir()?;
    let drop = match &given {
        Some(drop) => PathBuf::from(drop),
        None => {
            make_up(made.path())?;
            made.path().to_path_buf()
        }
    };
    let mut archives = Vec::new();
    find(&drop, &mut archives)?;
    archives.retain(|a| !a.to_string_lossy().contains("fault"));
    let compressed: u64 = archives.iter().map(|a| a.metadata().map_or(0, |m| m.len())).sum();
    println!("{} archives, {:.1} MB compressed", archives.len(), compressed as f64 / 1e6);

    if std::env::args().any(|arg| arg == "--hostile") {
        return among_hostile_ones(&drop, &archives);
    }
    let idle = peak_memory();
    let (mut best_gzip, mut best_ingest) = (0.0_f64, 0.0_f64);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    for round in 1..=ROUNDS {
        let (bytes, seconds) = gzip(&archives)?;
        let floor = bytes as f64 / seconds / 1e6;
        let started = Instant::now();
        let ingested = runtime.block_on(ingest(&drop))?;
        let seconds = started.elapsed().as_secs_f64();
        let report = &ingested.report;
        let speed = report.bytes_decompressed as f64 / seconds / 1e6;
        let rows: u64 = report.tables.iter().map(|t| t.rows).sum();
        println!(
            "round {round}: gzip -dc | wc -c {floor:.0} MB/s; ingest {speed:.0} MB/s of {rows} rows, {} set aside; ratio {:.2}",
            ingested.quarantine.counts().values().sum::<u64>(),
            speed / floor
        );
        best_gzip = best_gzip.max(floor);
        best_ingest = best_ingest.max(speed);
    }
    println!("best against best: ratio {:.2}", best_ingest / best_gzip);
    println!(
        "peak memory beyond the idle process: {:.0} MiB",
        peak_memory().saturating_sub(idle) as f64 / 1024.0
    );
    Ok(())
}

/// Ingest of good archives alone, and among a hundred hostile ones, in turns.
fn among_hostile_ones(drop: &Path, good: &[PathBuf]) -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let seconds = |folder: &Path| -> Result<(f64, u64), Box<dyn Error>> {
        let started = Instant::now();
        let ingested = runtime.block_on(ingest(folder))?;
        let rows =
            ingested.report.tables.iter().filter(|t| !t.table.starts_with("evil")).map(|t| t.rows).sum();
        Ok((started.elapsed().as_secs_f64(), rows))
    };
    let put = |folder: &Path, hostile: &[HostileArchive]| -> std::io::Result<()> {
        hostile.iter().try_for_each(|archive| std::fs::write(folder.join(&archive.name), &archive.bytes))
    };
    let hostile = hostile_archives(1, 100);
    let both = tempfile::tempdir()?;
    for (at, archive) in good.iter().enumerate() {
        let name = archive.file_name().ok_or("an archive has no name")?.to_string_lossy().into_owned();
        std::fs::copy(archive, both.path().join(format!("{at:05}_{name}")))?;
    }
    put(both.path(), &hostile)?;
    let (mut alone, mut among) = (f64::MAX, f64::MAX);
    for round in 1..=ROUNDS {
        let ((one, rows), (other, rows_among)) = (seconds(drop)?, seconds(both.path())?);
        println!(
            "round {round}: alone {one:.2} s, {rows} rows; among hostile ones {other:.2} s, {rows_among} rows"
        );
        (alone, among) = (alone.min(one), among.min(other));
    }
    println!("best against best: {:.2} of the time of the good ones alone (2 is asked)", among / alone);
    let mut kinds: Vec<(f64, &str)> = Vec::new();
    for archive in &hostile {
        if !kinds.iter().any(|(_, kind)| *kind == archive.kind) {
            let folder = tempfile::tempdir()?;
            put(folder.path(), std::slice::from_ref(archive))?;
            kinds.push((seconds(folder.path())?.0, archive.kind));
        }
    }
    kinds.sort_by(|a, b| b.0.total_cmp(&a.0));
    for (of, kind) in kinds.iter().take(12) {
        println!("  {of:.2} s: {kind}");
    }
    Ok(())
}

async fn ingest(drop: &Path) -> icefield_core::Result<icefield_ingest::Ingested> {
    let types = [
        ("listing_id", DataType::Int64),
        ("date", DataType::Date32),
        ("available", DataType::Utf8),
        ("minimum_nights", DataType::Int32),
        ("maximum_nights", DataType::Int64),
    ];
    let calendar = Schema::new(types.map(|(name, to)| Field::new(name, to, true)).to_vec());
    let texts =
        ["name", "neighbourhood_cleansed", "property_type", "room_type", "bathrooms_text", "amenities"];
    let numbers = ["latitude", "longitude", "bedrooms", "beds", "review_scores_rating", "accommodates"];
    let mut listings =
        vec![Field::new("id", DataType::Int64, true), Field::new("last_scraped", DataType::Date32, true)];
    listings.extend(texts.map(|name| Field::new(name, DataType::Utf8, true)));
    listings.extend(numbers.map(|name| Field::new(name, DataType::Float64, true)));
    let money = || Conversion::Money { precision: 18, scale: 2 };
    Ingest::from_url(drop.to_string_lossy())
        .pattern("{table}_{date}_{batch}.csv")
        .schema("calendar", Arc::new(calendar))
        .schema("listings", Arc::new(Schema::new(listings)))
        .convert("calendar", "price", money())
        .convert("calendar", "adjusted_price", money())
        .convert("listings", "price", money())
        .await
}

/// Decompressed bytes and seconds of `gzip -dc` over all archives, one process after another.
fn gzip(archives: &[PathBuf]) -> Result<(u64, f64), Box<dyn Error>> {
    let started = Instant::now();
    let mut gzip = Command::new("gzip").arg("-dc").args(archives).stdout(Stdio::piped()).spawn()?;
    let out = gzip.stdout.take().ok_or("gzip has no output")?;
    let count = Command::new("wc").arg("-c").stdin(out).output()?;
    gzip.wait()?;
    let seconds = started.elapsed().as_secs_f64();
    Ok((String::from_utf8(count.stdout)?.trim().parse()?, seconds))
}

fn find(folder: &Path, archives: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            find(&path, archives)?;
        } else if path.to_string_lossy().ends_with(".tar.gz") {
            archives.push(path);
        }
    }
    archives.sort();
    Ok(())
}

/// Kibibytes resident at most so far; 0 where the system does not tell.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    line.and_then(|l| l.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}

/// A drop like a partner's: 24 archives of a year's nightly rates.
fn make_up(folder: &Path) -> std::io::Result<()> {
    let mut seed = 1_u64;
    let mut next = |n: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % n
    };
    for batch in 0..24 {
        let mut text =
            b"listing_id,date,available,price,adjusted_price,minimum_nights,maximum_nights\n".to_vec();
        for listing in 0..200 {
            let id = 1_000_000 + next(90_000_000) + listing;
            let (mut price, nights) = (40 + next(900), 1 + next(30));
            for day in 0..365 {
                if next(9) == 0 {
                    price = 40 + next(1900);
                }
                let available = if next(3) == 0 { 't' } else { 'f' };
                let price = if price >= 1000 {
                    format!("\"${},{:03}.00\"", price / 1000, price % 1000)
                } else {
                    format!("${price}.00")
                };
                writeln!(
                    text,
                    "{id},2024-{:02}-{:02},{available},{price},,{nights},1125",
                    1 + day / 31,
                    1 + day % 28
                )?;
            }
        }
        let gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        let mut tar = tar::Builder::new(gz);
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, format!("calendar_2024-01-01_{batch:05}.csv"), &text[..])?;
        std::fs::write(folder.join(format!("made-up_{batch:05}.tar.gz")), tar.into_inner()?.finish()?)?;
    }
    Ok(())
}
