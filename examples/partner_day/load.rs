//! One drop into the tables: ingest, look at the report, append.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use icefield::evolve::SortTerm;
use icefield::ingest::{Conversion, Ingest, Reason};
use icefield::prelude::*;

use crate::drops::Drop;
use crate::show::{self, Totals};

pub(crate) const CALENDAR: &str = "rooms.calendar";
pub(crate) const LISTINGS: &str = "rooms.listings";

const MONEY: Conversion = Conversion::Money { precision: 12, scale: 2 };

/// What partners have always sent. What they begin to send is taken as it comes.
fn calendar() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("listing_id", DataType::Int64, false),
        Field::new("date", DataType::Date32, false),
        Field::new("available", DataType::Boolean, true),
        Field::new("price", MONEY.data_type(), true),
        Field::new("adjusted_price", MONEY.data_type(), true),
        Field::new("minimum_nights", DataType::Int32, true),
        Field::new("maximum_nights", DataType::Int32, true),
    ]))
}

fn listings() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("last_scraped", DataType::Date32, true),
        Field::new("name", DataType::Utf8, true),
        Field::new("latitude", DataType::Float64, true),
        Field::new("longitude", DataType::Float64, true),
        Field::new("bathrooms_text", DataType::Utf8, true),
        Field::new("bedrooms", DataType::Float64, true),
        Field::new("beds", DataType::Float64, true),
        Field::new("price", MONEY.data_type(), true),
        Field::new("review_scores_rating", DataType::Float64, true),
    ]))
}

/// Readers ask for a room, so that its rows lie together. What else partners send lies as it comes.
fn sorted_by(table: &str) -> Option<SortTerm> {
    match table {
        "calendar" => Some(asc("listing_id")),
        "listings" => Some(asc("id")),
        _ => None,
    }
}

/// Takes a drop's archives, prints what came of them, and appends each table under the drop's key.
pub(crate) async fn load(
    session: &Session,
    drop: &Drop,
    warehouse: &Path,
    totals: &mut Totals,
) -> Result<(), Box<dyn Error>> {
    let staging = warehouse.canonicalize()?.join("staging").join(&drop.city).join(&drop.date);
    let bar = show::Bar::new(&drop.name());
    let ingested = Ingest::from_url(format!("file://{}", drop.folder.display()))
        .staging(format!("file://{}", staging.display()))
        .pattern("{table}_{date}_{batch}.csv")
        .schema("calendar", calendar())
        .alias("calendar", "is_available", "available")
        .convert("calendar", "price", MONEY)
        .convert("calendar", "adjusted_price", MONEY)
        .schema("listings", listings())
        .convert("listings", "price", MONEY)
        .progress(bar.callback())
        .await?;
    bar.finish();
    print!("{}", show::indented(&ingested.report.to_string()));
    totals.ingested(&ingested.report);
    // What the store did not give may come the next time: under the drop's key it would never be taken.
    if let Some(item) = ingested.quarantine.items().iter().find(|item| item.reason == Reason::Unreadable) {
        return Err(format!("{}: {item}; run again", drop.name()).into());
    }

    for table in &ingested.tables {
        let name = &format!("rooms.{}", table.name());
        let frame = table
            .dataframe(session.context())?
            .with_column("city", lit(drop.city.as_str()))?
            .with_column("scraped", cast(lit(drop.date.as_str()), DataType::Date32))?;
        let written = frame
            .append_to(session, name)
            .create_with(|new| new.partition_by([identity("city")]).sort_by(sorted_by(table.name())))
            .evolve_schema()
            .idempotency_key(format!("{}/{}", drop.name(), table.name()))
            .await?;
        totals.wrote(&written);
        if written.already_applied {
            println!("    {name}: {} was here already", drop.name());
        } else {
            println!("    {name}: {} rows in {} files", written.rows, written.files);
        }
    }
    ingested.report.write(session.catalog().storage(), &format!("file://{}", staging.display())).await?;
    ingested.discard().await?;
    Ok(())
}
