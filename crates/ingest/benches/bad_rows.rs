//! Peak memory of a drop in which every row of every archive is bad, beside that of a tenth of it.
//!
//! `cargo bench -p icefield-ingest --bench bad_rows [-- ARCHIVES]`: 4,000 archives of 1,000 bad rows of some 500 bytes by default.
//! Wanted: at most 1.2 times the memory, whatever is set aside.

use std::error::Error;
use std::path::Path;

use icefield_ingest::{Ingest, Level};

const ROWS: usize = 1_000;

fn main() -> Result<(), Box<dyn Error>> {
    let archives = std::env::args().skip(1).find_map(|a| a.parse().ok()).unwrap_or(4_000_usize);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let mut peaks = Vec::new();
    for some in [archives / 10, archives] {
        let (drop, staging) = (tempfile::tempdir()?, tempfile::tempdir()?);
        make_up(drop.path(), some)?;
        let idle = reset_peak();
        let ingest = Ingest::from_url(drop.path().to_string_lossy())
            .staging(staging.path().to_string_lossy())
            .pattern("{table}_{date}_{batch}.csv")
            .parallelism(4);
        let ingested = runtime.block_on(async move { ingest.await })?;
        let above = peak().saturating_sub(idle);
        assert_eq!(ingested.quarantine.count(Level::Row), (some * ROWS) as u64);
        println!(
            "{some} archives: {} set aside, {} of them listed; peak {:.1} MiB above idle",
            ingested.report.set_aside,
            ingested.report.set_aside_listed,
            above as f64 / 1024.0
        );
        peaks.push(above as f64);
    }
    println!("ten times the archives: {:.2} of the memory", peaks[1] / peaks[0]);
    Ok(())
}

/// Archives of rows that are too short for their header.
fn make_up(folder: &Path, archives: usize) -> std::io::Result<()> {
    let mut text = b"listing_id,date,available,price\n".to_vec();
    for row in 0..ROWS {
        text.extend_from_slice(format!("{row},\"{}\"\n", "a price in a new form ".repeat(22)).as_bytes());
    }
    for archive in 0..archives {
        let gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        let mut tar = tar::Builder::new(gz);
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, format!("calendar_2024-01-01_{archive:05}.csv"), &text[..])?;
        std::fs::write(folder.join(format!("bad_{archive:05}.tar.gz")), tar.into_inner()?.finish()?)?;
    }
    Ok(())
}

/// Sets the peak of resident memory back to what it is now, in kibibytes, and gives that.
fn reset_peak() -> u64 {
    let _ = std::fs::write("/proc/self/clear_refs", "5");
    peak()
}

fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    line.and_then(|l| l.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}
