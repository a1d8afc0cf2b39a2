//! What is shown while it runs, and at the end.

use std::error::Error;
use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use icefield::WriteReport;
use icefield::ingest::Report;
use icefield::prelude::*;
use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressStyle};

use crate::maintain::Done;

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

/// How far something is, on standard error: a bar on a terminal, a line now and then elsewhere.
#[derive(Clone)]
pub(crate) struct Bar {
    name: String,
    /// Absent where there is no terminal.
    bar: Option<ProgressBar>,
    of_bytes: bool,
    plain: Arc<Mutex<Plain>>,
}

/// What a line is to say.
struct Plain {
    done: u64,
    of: Option<u64>,
    last: Instant,
    shown: bool,
}

const LINES_EVERY: Duration = Duration::from_secs(5);

impl Bar {
    pub(crate) fn bytes(name: &str) -> Self {
        Self::new(name, true, "  {msg:24} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec}")
    }

    /// Of rows, or files.
    pub(crate) fn counts(name: &str) -> Self {
        Self::new(name, false, "  {msg:24} {wide_bar} {human_pos}/{human_len}")
    }

    fn new(name: &str, of_bytes: bool, template: &str) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(0).with_message(name.to_string());
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style);
            }
            bar
        });
        let plain = Plain { done: 0, of: None, last: Instant::now(), shown: false };
        Self { name: name.to_string(), bar, of_bytes, plain: Arc::new(Mutex::new(plain)) }
    }

    pub(crate) fn at(&self, done: u64, of: Option<u64>) {
        if let Some(bar) = &self.bar {
            bar.set_length(of.unwrap_or(done));
            bar.set_position(done);
            return;
        }
        let Ok(mut plain) = self.plain.lock() else { return };
        (plain.done, plain.of) = (done, of);
        if plain.last.elapsed() >= LINES_EVERY {
            (plain.last, plain.shown) = (Instant::now(), true);
            self.line(&plain);
        }
    }

    fn line(&self, plain: &Plain) {
        let amount = |n| if self.of_bytes { HumanBytes(n).to_string() } else { HumanCount(n).to_string() };
        let of = plain.of.map(|of| format!(" of {}", amount(of))).unwrap_or_default();
        eprintln!("  {}: {}{of}", self.name, amount(plain.done));
    }

    pub(crate) fn finish(self) {
        match &self.bar {
            Some(bar) => bar.finish_and_clear(),
            None => {
                // What was over at once needs no line.
                if let Ok(plain) = self.plain.lock()
                    && plain.shown
                {
                    self.line(&plain);
                }
            }
        }
    }
}

/// The names of a table's columns.
pub(crate) fn columns(table: &Table) -> Vec<String> {
    table.core().schema().as_struct().fields().iter().map(|field| field.name.clone()).collect()
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
    columns_evolved: u64,
    maintained: Done,
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
            columns_evolved: 0,
            maintained: Done::default(),
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
        self.add(report);
    }

    pub(crate) fn add(&mut self, report: &WriteReport) {
        self.rows_written += report.rows;
        self.files_written += report.files;
        self.bytes_written += report.bytes;
    }

    /// Shows the columns that a write brought to a table that was there before.
    pub(crate) fn evolved(&mut self, name: &str, known: Option<Vec<String>>, table: &Table) {
        let Some(known) = known else { return };
        for column in columns(table).into_iter().filter(|column| !known.contains(column)) {
            // Partners name columns.
            println!("    {name}: new column {}", column.escape_debug());
            self.columns_evolved += 1;
        }
    }

    pub(crate) fn maintained(&mut self, done: &Done) {
        self.maintained.add(done);
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
        println!("evolved: {} columns added to tables that were there", self.columns_evolved);
        println!("maintained: {}", self.maintained);
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
