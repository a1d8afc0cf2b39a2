//! A partner's day: archives in, tables that other engines read, a mart out, history, maintenance.
//!
//!     cargo run --release --example partner_day                              # the small real sample in examples/data
//!     cargo run --release --example partner_day -- DIR --warehouse DIR       # any drop; tables kept in DIR
//!
//! A drop is a folder of archives with a `_manifest.json`, written last by the partner: `DIR/{city}/{date}/`. Drops are taken
//! in the order of their dates. Every step may be stopped at any moment and run again: staged archives are taken up where
//! they are, and what was committed is known by its idempotency key and not committed twice.

mod drops;
mod load;
mod mart;
mod show;

use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

use icefield::prelude::*;

use show::Totals;

struct Args {
    drop: PathBuf,
    warehouse: PathBuf,
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
    let sample = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("examples/data");
    let warehouse = match warehouse {
        Some(folder) => folder,
        None => tempfile::Builder::new().prefix("partner_day-").tempdir()?.keep(),
    };
    Ok(Args { drop: drop.unwrap_or_else(sample), warehouse })
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let args = args()?;
    let drops = drops::find(&args.drop)?;
    let Some(last) = drops.last().cloned() else {
        return Err(format!("no drop (a folder with _manifest.json) under {}", args.drop.display()).into());
    };
    println!("{} drops under {}; tables in {}", drops.len(), args.drop.display(), args.warehouse.display());
    let session = Session::open(&args.warehouse).await?;
    let mut totals = Totals::default();

    show::step("Archives to tables");
    for drop in &drops {
        // The mart as it was the evening before the last drop.
        if *drop == last && drops.len() > 1 {
            mart::refresh(&session, "before the last drop").await?;
        }
        load::load(&session, drop, &args.warehouse, &mut totals).await?;
    }

    show::step("The mart");
    mart::refresh(&session, "after the last drop").await?;
    mart::compare(&session).await?;

    show::step("Maintenance");
    for name in [load::CALENDAR, load::LISTINGS, mart::NIGHTLY] {
        if !session.catalog().table_exists(&parse_ident(name)?).await? {
            continue;
        }
        let table = session.table(name).await?;
        println!("{name}");
        println!("  {}", maintenance::compact(&table).min_input_files(2).await?);
        let table = table.refresh().await?;
        println!(
            "  {}",
            maintenance::expire_snapshots(&table).older_than(Duration::ZERO).retain_last(3).await?
        );
        println!("  {}", maintenance::remove_orphan_files(&table).await?);
    }

    show::step("In all");
    for name in [load::CALENDAR, load::LISTINGS, mart::NIGHTLY] {
        if session.catalog().table_exists(&parse_ident(name)?).await? {
            totals.table(&session.table(name).await?);
        }
    }
    totals.print();
    Ok(())
}
