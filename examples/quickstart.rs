//! The first screen of the README: `cargo run --release --example quickstart`.
//!
//! A few room rates go into a table, a column is renamed, the table is read as it was before, and maintained.

use icefield::prelude::*;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let session = Session::open(folder.path()).await?;

    // Any DataFrame will do; this one reads a CSV file.
    let csv = folder.path().join("rates.csv");
    std::fs::write(
        &csv,
        "listing_id,date,available,price\n\
         1,2024-06-22,t,120.50\n1,2024-06-23,f,120.50\n2,2024-06-22,t,80.00\n2,2024-07-01,t,95.00\n",
    )?;
    let rates = session.read_csv(&csv.display().to_string()).await?;

    let written = rates
        .filter(col("available").eq(lit("t")))?
        .append_to(&session, "hotel.rates")
        .create_with(|table| table.partition_by([month("date")]).sort_by([asc("listing_id")]))
        .evolve_schema()
        .idempotency_key("boston/2024-06-22")
        .await?;
    println!("{} rows in {} files", written.rows, written.files);

    let table = session.table("hotel.rates").await?;
    let before = table.core().metadata().current_snapshot_id().ok_or("no snapshot")?;
    table.update_schema().rename_column("price", "nightly_price").await?;

    session
        .sql("SELECT listing_id, avg(nightly_price) AS price FROM hotel.rates GROUP BY listing_id")
        .await?
        .show()
        .await?;
    println!("as it was, with the column's old name:");
    table.as_of(before)?.dataframe().await?.show().await?;

    let table = session.table("hotel.rates").await?;
    println!("{}", maintenance::compact(&table).await?);
    println!("{}", maintenance::expire_snapshots(&table).retain_last(10).await?);
    println!("{}", maintenance::remove_orphan_files(&table).dry_run(true).await?);
    Ok(())
}
