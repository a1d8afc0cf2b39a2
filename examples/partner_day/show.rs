//! What is shown while it runs, and at the end.

use std::error::Error;
use std::process::ExitCode;
use std::time::Instant;

use icefield::WriteReport;
use icefield::ingest::Report;
use icefield::prelude::*;
use indicatif::{ProgressBar, ProgressStyle};

pub(crate) fn step(title: &str) {
    println!("\n== {title}");
}

pub(crate) fn indented(text: &str) -> String {
    text.lines().map(|line| format!("    {line}\n")).collect()
}

/// Shows which files of a table have another header than most.
pub(crate) fn headers(report: &Report) {
    for table in &report.tables {
        for header in table.headers.iter().skip(1) {
            println!("    {}: another header in {header}", table.table);
        }
    }
}

/// A bar on standard error: how far something is.
#[derive(Clone)]
pub(crate) struct Bar(ProgressBar);

impl Bar {
    pub(crate) fn bytes(name: &str) -> Self {
        Self::new(name, "  {msg:24} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec}")
    }

    /// Of rows, or files.
    pub(crate) fn counts(name: &str) -> Self {
        Self::new(name, "  {msg:24} {wide_bar} {human_pos}/{human_len}")
    }

    fn new(name: &str, template: &str) -> Self {
        let bar = ProgressBar::new(0).with_message(name.to_string());
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Self(bar)
    }

    pub(crate) fn at(&self, done: u64, of: Option<u64>) {
        self.0.set_length(of.unwrap_or(done));
        self.0.set_position(done);
    }

    pub(crate) fn finish(self) {
        self.0.finish_and_clear();
    }
}

/// What went wrong. It is shown at once, and decides how the process ends.
#[derive(Default)]
pub(crate) struct Failures(Vec<String>);

impl Failures {
    /// What came of `what`, unless it failed.
    pub(crate) fn note<T>(&mut self, what: &str, outcome: Result<T, Box<dyn Error>>) -> Option<T> {
        match outcome {
            Ok(done) => Some(done),
            Err(error) => {
                let failure = format!("{what}: {error}");
                eprintln!("  failed: {failure}");
                self.0.push(failure);
                None
            }
        }
    }

    pub(crate) fn exit(&self) -> ExitCode {
        if self.0.is_empty() {
            return ExitCode::SUCCESS;
        }
        eprintln!("\n{} failed; run again once this is mended:", self.0.len());
        self.0.iter().for_each(|failure| eprintln!("  {failure}"));
        ExitCode::FAILURE
    }
}

/// Counts of the whole run.
pub(crate) struct Totals {
    started: Instant,
    archive_bytes: u64,
    csv_bytes: u64,
    rows_written: u64,
    files_written: u64,
    bytes_written: u64,
    tables: Vec<(String, String, String, String)>,
}

impl Default for Totals {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            archive_bytes: 0,
            csv_bytes: 0,
            rows_written: 0,
            files_written: 0,
            bytes_written: 0,
            tables: Vec::new(),
        }
    }
}

impl Totals {
    pub(crate) fn ingested(&mut self, report: &Report) {
        self.archive_bytes += report.bytes;
        self.csv_bytes += report.bytes_decompressed;
    }

    pub(crate) fn wrote(&mut self, name: &str, report: &WriteReport) {
        if report.already_applied {
            println!("    {name}: was here already");
        } else {
            println!("    {name}: {} rows in {} files", report.rows, report.files);
        }
        self.rows_written += report.rows;
        self.files_written += report.files;
        self.bytes_written += report.bytes;
    }

    pub(crate) fn table(&mut self, table: &Table) {
        let summary =
            table.core().metadata().current_snapshot().map(|s| s.summary().additional_properties.clone());
        let total =
            |name: &str| summary.as_ref().and_then(|s| s.get(name).cloned()).unwrap_or_else(|| "0".into());
        self.tables.push((
            table.ident().to_string(),
            total("total-records"),
            total("total-data-files"),
            total("total-files-size"),
        ));
    }

    pub(crate) fn print(&self) {
        println!("{:<24} {:>12} {:>8} {:>14}", "table", "rows", "files", "bytes");
        for (name, rows, files, bytes) in &self.tables {
            println!("{name:<24} {rows:>12} {files:>8} {bytes:>14}");
        }
        let seconds = self.started.elapsed().as_secs_f64();
        println!(
            "\nwritten now: {} rows, {} files, {} bytes, from {:.1} MB of archives ({:.1} MB of CSV)",
            self.rows_written,
            self.files_written,
            self.bytes_written,
            megabytes(self.archive_bytes),
            megabytes(self.csv_bytes)
        );
        println!(
            "seconds: {seconds:.1}; {:.1} MB/s of CSV; peak memory: {}",
            megabytes(self.csv_bytes) / seconds,
            peak_memory()
        );
    }
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

/// The process's peak resident memory, where the system tells it.
fn peak_memory() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    peak.map_or("unknown".to_string(), |peak| peak.trim().to_string())
}
