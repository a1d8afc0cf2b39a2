//! The first screen of the README: `cargo run --release --example quickstart`.
//!
//! A few room rates go into a table, a column is renamed, the table is read as it was before, and maintained.

use icefield::prelude::*;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // A folder of its own, with something to read.
    let folder = tempfile::tempdir()?;
    std::env::set_current_dir(folder.path())?;
    std::fs::create_dir("rates")?;
    let header = "listing_id,date,available,price\n";
    std::fs::write("rates/1.csv", format!("{header}1,2024-06-22,t,120.50\n1,2024-06-23,f,120.50\n"))?;
    std::fs::write("rates/2.csv", format!("{header}2,2024-06-22,t,80.00\n2,2024-07-01,t,95.00\n"))?;

    // A SQLite catalog and local files, created when absent.
    let session = Session::open("./warehouse").await?;
    // A DataFusion DataFrame.
    let rates = session.read_csv("rates/*.csv").await?;

    // The table is created if absent, partitioned, and given new columns; the same batch again adds nothing.
    rates
        .filter(col("available").eq(lit("t")))?
        .append_to(&session, "hotel.rates")
        .create_with(|table| table.partition_by([month("date")]).sort_by([asc("listing_id")]))
        .evolve_schema()
        .idempotency_key("boston/2024-06-22")
        .await?;

    let table = session.table("hotel.rates").await?;
    let table = table.create_tag("first-batch").await?;
    table.update_schema().rename_column("price", "nightly_price").await?;

    // A tag, a snapshot's id or a time (`"2024-06-30T00:00:00Z"`): as it was then, with the column's old name.
    let table = session.table("hotel.rates").await?;
    let before = table.as_of("first-batch")?.dataframe().await?;

    maintenance::compact(&table).await?;
    maintenance::expire_snapshots(&table).retain_last(10).await?;
    maintenance::remove_orphan_files(&table).dry_run(true).await?;

    println!("as it was:");
    before.show().await?;
    println!("now:");
    let by_room =
        "SELECT listing_id, avg(nightly_price) AS nightly_price FROM hotel.rates GROUP BY listing_id";
    session.sql(by_room).await?.show().await?;
    Ok(())
}
