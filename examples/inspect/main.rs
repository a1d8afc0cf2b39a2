//! What a table is and holds, from its metadata file alone:
//!
//!     cargo run --release --example inspect -- METADATA.json [--snapshot ID | --ref NAME | --as-of TIME]
//!         [--map FROM=TO]... [--where SQL] [--columns a,b] [--hash]
//!
//! Prints schema, partition specs, sort orders, properties, snapshots, branches and tags, files by partition, and how many
//! rows there are. `--where` and `--columns` say which rows and columns are meant. `--hash` prints nothing but `rows=N hash=H`,
//! a hash over the rows whatever their order. `--map` says where files are that were moved. Nothing is written.

mod args;
mod report;
mod rows;

use std::error::Error;
use std::process::ExitCode;

use icefield::AsOf;
use icefield::prelude::*;

use args::{Args, Pick};

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("inspect: {}", error.to_string().replace('\n', " "));
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Box<dyn Error>> {
    let args = Args::parse(std::env::args().skip(1))?;
    let session = Session::builder().build()?;
    let open = session.table_from_metadata_file(&args.metadata);
    let table = args.moved.iter().fold(open, |open, (from, to)| open.moved(from, to)).await?;
    let table = picked(&table, &args.pick)?;
    if args.hash {
        println!("{}", rows::content(&table, &args).await?);
        return Ok(());
    }
    report::metadata(&table);
    report::files(&table).await?;
    println!("\nrows: {}", rows::count(&table, &args).await?);
    Ok(())
}

/// The table at the snapshot that is asked for. Of a branch other than `main` too the snapshot's own schema is meant.
fn picked(table: &Table, pick: &Pick) -> Result<Table, Box<dyn Error>> {
    Ok(match pick {
        Pick::Current => table.clone(),
        Pick::Snapshot(id) => table.as_of(*id)?,
        Pick::Time(time) => table.as_of(time.as_str())?,
        Pick::Ref(name) if name == "main" => table.clone(),
        Pick::Ref(name) => match table.core().snapshot_as_of(&AsOf::Ref(name.clone()))? {
            Some(snapshot) => table.as_of(snapshot.snapshot_id())?,
            None => table.clone(),
        },
    })
}
