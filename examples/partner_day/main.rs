//! A partner's day: archives in, tables that other engines read, a mart out, history, maintenance.
//!
//!     cargo run --release --example partner_day                              # the small real sample in examples/data
//!     cargo run --release --example partner_day -- DIR --warehouse DIR       # any drop; tables kept in DIR
//!
//! A drop is a folder of archives with a `_manifest.json`, written last by the partner: `DIR/{city}/{date}/`. Drops are taken
//! in the order of their dates. Every step may be stopped at any moment and run again: staged archives are taken up where
//! they are, and what was committed is known by its idempotency key and not committed twice. Archives may come late, or again:
//! see `load`. What fails stops nothing else; the run goes on, says so at the end, and exits with 1.

mod arrivals;
mod drops;
mod load;
mod maintain;
mod mart;
mod show;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use icefield::prelude::*;

use show::{Failures, Totals};

struct Args {
    drop: PathBuf,
    warehouse: PathBuf,
}

fn sample() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("examples/data")
}

impl Args {
    fn is_sample(&self) -> bool {
        let (drop, sample) = (self.drop.canonicalize().ok(), sample().canonicalize().ok());
        drop.is_some() && drop == sample
    }
}

fn args() -> Result<Args, Box<dyn Error>> {
    let mut drop = None;
    let mut warehouse = None;
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--warehouse" => {
                warehouse = Some(PathBuf::from(words.next().ok_or("--warehouse takes a folder")?))
            }
            "--help" | "-h" => return Err("usage: partner_day [DROP_DIR] [--warehouse DIR]".into()),
            _ if word.starts_with("--") => return Err(format!("unknown option {word}").into()),
            _ if drop.is_none() => drop = Some(PathBuf::from(word)),
            _ => return Err(format!("one drop folder, not also {word}").into()),
        }
    }
    let warehouse = match warehouse {
        Some(folder) => folder,
        None => tempfile::Builder::new().prefix("partner_day-").tempdir()?.keep(),
    };
    Ok(Args { drop: drop.unwrap_or_else(sample), warehouse })
}

#[tokio::main]
async fn main() -> Result<ExitCode, Box<dyn Error>> {
    let args = args()?;
    let drops = drops::find(&args.drop)?;
    let Some(last) = drops.last() else {
        return Err(format!("no drop (a folder with _manifest.json) under {}", args.drop.display()).into());
    };
    println!("{} drops under {}; tables in {}", drops.len(), args.drop.display(), args.warehouse.display());
    let session = Session::open(&args.warehouse).await?;
    let (mut totals, mut failures) = (Totals::default(), Failures::default());

    show::step("Archives to tables");
    for drop in &drops {
        // The mart as it was the evening before the last drop.
        if drop == last && drops.len() > 1 {
            let kept = mart::keep_before(&session, drop).await;
            if failures.note(&format!("the mart before {}", drop.name()), kept).is_none() {
                // Once the drop is taken, the mart before it could not be kept any more.
                continue;
            }
        }
        let loaded = load::load(&session, drop, &args.warehouse, &mut totals, &mut failures).await;
        failures.note(&drop.name(), loaded);
    }

    show::step("The mart");
    failures.note("the mart", mart::refresh(&session, "now").await);
    failures.note("the mart's history", mart::compare(&session, last).await);

    let tables = maintain::tables(&session).await?;
    show::step("Maintenance");
    if args.is_sample() {
        failures.note("the crash that is shown", maintain::crash(&session, load::CALENDAR).await);
    }
    for table in &tables {
        let maintained = maintain::maintain(&session, table).await;
        if let Some(done) = failures.note(&format!("maintenance of {table}"), maintained) {
            totals.maintained(&done);
        }
    }

    show::step("In all");
    for table in &tables {
        let loaded = session.load(table).await.map_err(Box::from);
        if let Some(table) = failures.note(&table.to_string(), loaded) {
            totals.table(&table);
        }
    }
    totals.print();
    Ok(failures.exit())
}
