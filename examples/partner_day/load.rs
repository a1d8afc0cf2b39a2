//! One drop into the tables: ingest, look at the report, write.
//!
//! A drop is a partition of every table. What is written are the rows of the archives that could be read to their end now, and
//! those that the table has of the drop's other archives: so an archive that comes late adds its rows, one that comes again
//! mended takes the place of what was taken of it, and one that can't be read any more leaves what was taken of it. Nothing is
//! there twice.
//!
//! Each write has a key that names the delivery, so that one that was stopped goes on where it was. The last write of a drop,
//! of what was set aside, is its receipt: a delivery with a receipt is not looked at again.

use std::collections::BTreeSet;
use std::error::Error;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::functions::expr_fn::split_part;
use datafusion::prelude::ident;
use icefield::WriteReport;
use icefield::evolve::SortTerm;
use icefield::ingest::{Conversion, Ingest, Ingested, IngestedTable, Level, Reason};
use icefield::prelude::*;
use icefield::storage::file_name;

use crate::arrivals::{self, ARRIVALS};
use crate::drops::{Delivery, Drop};
use crate::maintain;
use crate::show::{self, Failures, Totals};

pub(crate) const CALENDAR: &str = "rooms.calendar";
pub(crate) const QUARANTINE: &str = "rooms.quarantine";

/// Tables that no partner's file goes to.
const OURS: [&str; 2] = [ARRIVALS, QUARANTINE];

/// The column that names the archive and the file in it that a row is from.
pub(crate) const SOURCE: &str = "source_file";

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
        Field::new("neighbourhood_cleansed", DataType::Utf8, true),
        Field::new("latitude", DataType::Float64, true),
        Field::new("longitude", DataType::Float64, true),
        Field::new("property_type", DataType::Utf8, true),
        Field::new("room_type", DataType::Utf8, true),
        Field::new("accommodates", DataType::Int32, true),
        Field::new("bathrooms_text", DataType::Utf8, true),
        Field::new("bedrooms", DataType::Float64, true),
        Field::new("beds", DataType::Float64, true),
        Field::new("amenities", DataType::Utf8, true),
        Field::new("price", MONEY.data_type(), true),
        Field::new("minimum_nights", DataType::Int32, true),
        Field::new("number_of_reviews", DataType::Int32, true),
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

/// Takes a drop's archives, prints what came of them, and writes each table and what was set aside. A table that can't be
/// written stops no other; its rows stay staged for the next run.
pub(crate) async fn load(
    session: &Session,
    drop: &Drop,
    warehouse: &Path,
    totals: &mut Totals,
    failures: &mut Failures,
) -> Result<(), Box<dyn Error>> {
    // Before the archives are listed: one that comes meanwhile makes another delivery, which the next run takes.
    let delivery = drop.delivery()?;
    let warehouse = warehouse.canonicalize()?;
    let staging = warehouse.join("staging").join(&drop.city).join(&drop.date);
    let receipt = format!("{}/quarantine/{}", drop.name(), delivery.id);
    if session.catalog().table_exists(&parse_ident(QUARANTINE)?).await?
        && session.table(QUARANTINE).await?.has_applied(&receipt)
    {
        println!("  {} was here already", drop.name());
        return clear(&staging);
    }

    let ingested = ingest(drop, &staging).await?;
    print!("{}", show::indented(&ingested.report.to_string()));
    show::headers(&ingested.report);
    totals.ingested(&ingested.report);
    // What the store did not give may come the next time: in this same delivery, which would count as taken.
    let not_yet = |reason| matches!(reason, Reason::Unreadable | Reason::RunLimit);
    if let Some(item) = ingested.quarantine.items().iter().find(|item| not_yet(item.reason)) {
        return Err(format!("{item}; run again").into());
    }

    let read = read_to_the_end(&delivery, &ingested)?;
    let mut failed = Vec::new();
    for table in tables(session, &ingested).await? {
        let name = format!("rooms.{table}");
        let known = columns(session, &name).await?;
        let key = format!("{}/{table}/{}", drop.name(), delivery.id);
        let written = write(session, drop, ingested.table(&table), &name, &read, key).await;
        match failures.note(&format!("{} to {name}", drop.name()), written) {
            Some(Some(written)) => {
                totals.wrote(&name, &written);
                totals.evolved(&name, known, &written.table);
            }
            Some(None) => {}
            None => failed.push(table),
        }
    }
    let reports = format!("file://{}/reports/{}", warehouse.display(), drop.name());
    ingested.report.write(session.catalog().storage(), &reports).await?;
    arrivals::log(session, drop, &delivery, &ingested, totals).await?;
    let key = match failed.as_slice() {
        [] => receipt,
        failed => format!("{receipt} without {}", failed.join(", ")),
    };
    totals.wrote(QUARANTINE, &set_aside(session, drop, &ingested, key).await?);
    if failed.is_empty() { clear(&staging) } else { Ok(()) }
}

/// Deletes what is staged of a drop, by earlier runs that were stopped too.
fn clear(staging: &Path) -> Result<(), Box<dyn Error>> {
    match std::fs::remove_dir_all(staging) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

async fn ingest(drop: &Drop, staging: &Path) -> Result<Ingested, Box<dyn Error>> {
    let bar = show::Bar::bytes(&drop.name());
    let seen = bar.clone();
    let ingested = Ingest::from_url(format!("file://{}", drop.folder.display()))
        .staging(format!("file://{}", staging.display()))
        .pattern("{table}_{date}_{batch}.csv")
        .source_column(SOURCE)
        .schema("calendar", calendar())
        .alias("calendar", "is_available", "available")
        .convert("calendar", "price", MONEY)
        .convert("calendar", "adjusted_price", MONEY)
        .schema("listings", listings())
        .convert("listings", "price", MONEY)
        .progress(move |at| seen.at(at.bytes_done, Some(at.bytes)))
        .await;
    bar.finish();
    println!("  {}", drop.name());
    Ok(ingested?)
}

/// The archives that were read to their end: what else the table has of the drop is of others.
fn read_to_the_end(delivery: &Delivery, ingested: &Ingested) -> Result<Vec<String>, Box<dyn Error>> {
    let quarantine = &ingested.quarantine;
    let broken = quarantine.items().iter().filter(|item| item.level == Level::Archive);
    let broken: Vec<&str> = broken.map(|item| file_name(&item.archive)).collect();
    if (broken.len() as u64) < quarantine.count(Level::Archive) {
        return Err(
            "more archives are broken than are listed; something is wrong with the drop as a whole".into()
        );
    }
    Ok(delivery.files.iter().filter(|file| !broken.contains(&file.as_str())).cloned().collect())
}

/// The tables of the drop's files, and those that there are: an archive that came again may have no file of one any more.
async fn tables(session: &Session, ingested: &Ingested) -> Result<BTreeSet<String>, Box<dyn Error>> {
    let known = maintain::tables(session).await?.into_iter().filter(|table| {
        *table.namespace().as_ref() == ["rooms"] && !OURS.contains(&table.to_string().as_str())
    });
    let known: BTreeSet<String> = known.map(|table| table.name().to_string()).collect();
    Ok(known.into_iter().chain(ingested.tables.iter().map(|table| table.name().to_string())).collect())
}

/// The columns of a table, where there is one.
async fn columns(session: &Session, name: &str) -> Result<Option<Vec<String>>, Box<dyn Error>> {
    if !session.catalog().table_exists(&parse_ident(name)?).await? {
        return Ok(None);
    }
    Ok(Some(show::columns(&session.table(name).await?)))
}

/// Writes one table's part of the drop, unless there is none.
async fn write(
    session: &Session,
    drop: &Drop,
    table: Option<&IngestedTable>,
    name: &str,
    read: &[String],
    key: String,
) -> Result<Option<WriteReport>, Box<dyn Error>> {
    if OURS.contains(&name) {
        return Err("this name is the example's own; name the partner's table otherwise".into());
    }
    let taken = match table {
        Some(table) => {
            if table.schema().field_with_name(SOURCE).is_ok_and(|field| field.is_nullable()) {
                return Err(
                    format!("the files have a column {SOURCE}, which says here where a row is from").into()
                );
            }
            Some(drop.mark(table.dataframe(session.context())?)?)
        }
        None => None,
    };
    let kept = match drop.is_in(session, name).await? {
        true => Some(of_other_archives(session, drop, name, read).await?),
        false => None,
    };
    let rows = match (taken, kept) {
        (Some(taken), Some(kept)) => together(taken, kept)?,
        (Some(rows), None) | (None, Some(rows)) => rows,
        (None, None) => return Ok(None),
    };
    let bar = show::Bar::counts(name);
    let (seen, all) = (bar.clone(), table.map(IngestedTable::rows));
    let short = name.trim_start_matches("rooms.");
    let written = rows
        .overwrite(session, name)
        .filter(drop.rows())
        .create_with(|new| {
            new.partition_by([identity("city"), identity("scraped")]).sort_by(sorted_by(short))
        })
        .evolve_schema()
        .idempotency_key(key)
        .on_progress(move |at| seen.at(at.rows, all))
        .await;
    bar.finish();
    Ok(Some(written?))
}

/// The rows that a table has of the drop's other archives.
async fn of_other_archives(
    session: &Session,
    drop: &Drop,
    name: &str,
    read: &[String],
) -> Result<DataFrame, Box<dyn Error>> {
    let archive = split_part(col(SOURCE), lit("/"), lit(1_i64));
    let of_others = archive.in_list(read.iter().map(|name| lit(name.as_str())).collect(), true);
    Ok(session.table(name).await?.dataframe().await?.filter(drop.rows().and(of_others))?)
}

/// The rows just taken and those that were kept: a column whose type was inferred may have come out wider.
fn together(taken: DataFrame, kept: DataFrame) -> Result<DataFrame, Box<dyn Error>> {
    let types = taken.schema().as_arrow().clone();
    let columns = kept.schema().as_arrow().fields().iter().map(|field| {
        let column = ident(field.name());
        match types.field_with_name(field.name()) {
            Ok(now) if now.data_type() != field.data_type() => {
                cast(column, now.data_type().clone()).alias(field.name())
            }
            _ => column,
        }
    });
    let columns: Vec<Expr> = columns.collect();
    Ok(taken.union_by_name(kept.select(columns)?)?)
}

/// Writes what was set aside of the drop: which row of which file, and why.
async fn set_aside(
    session: &Session,
    drop: &Drop,
    ingested: &Ingested,
    key: String,
) -> Result<WriteReport, Box<dyn Error>> {
    let rows = drop.mark(ingested.quarantine.dataframe(session.context())?)?;
    let written = rows
        .overwrite(session, QUARANTINE)
        .filter(drop.rows())
        .create_with(|new| new.partition_by([identity("city"), identity("scraped")]))
        .idempotency_key(key)
        .await?;
    Ok(written)
}
