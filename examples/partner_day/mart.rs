//! The mart: nightly price and occupancy by city and month.

use std::error::Error;

use datafusion::arrow::datatypes::DataType;
use datafusion::functions::expr_fn::date_trunc;
use datafusion::functions_aggregate::expr_fn::{avg, count, sum};
use icefield::prelude::*;
use icefield::transform::{Transform, column};

use crate::drops::Drop;
use crate::load::CALENDAR;

const NIGHTLY: &str = "marts.nightly";

/// The tag that keeps the mart as it was before a drop, whatever expires.
fn before_tag(drop: &Drop) -> String {
    format!("before-{}-{}", drop.city, drop.date)
}

/// Nights on offer by city and month: how many, at what price, and how many of them are taken.
fn nightly() -> Transform {
    let calendar = [
        column("city", DataType::Utf8),
        column("date", DataType::Date32),
        column("available", DataType::Boolean),
        column("price", DataType::Decimal128(12, 2)),
    ];
    let nightly = [
        column("city", DataType::Utf8),
        column("month", DataType::Date32),
        column("nights", DataType::Int64),
        column("price", DataType::Float64),
        column("occupancy", DataType::Float64),
    ];
    Transform::new(NIGHTLY, |inputs| {
        let taken = when(col("available"), lit(0i64)).otherwise(lit(1i64))?;
        let month = cast(date_trunc(lit("month"), col("date")), DataType::Date32);
        inputs
            .get(CALENDAR)?
            .aggregate(
                vec![col("city"), month.alias("month")],
                vec![
                    count(lit(1i64)).alias("nights"),
                    avg(cast(col("price"), DataType::Float64)).alias("price"),
                    sum(taken).alias("taken"),
                ],
            )?
            .with_column(
                "occupancy",
                cast(col("taken"), DataType::Float64) / cast(col("nights"), DataType::Float64),
            )?
            .drop_columns(&["taken"])
    })
    .input(CALENDAR, calendar)
    .output(nightly)
}

/// Keeps the mart as it is before a drop comes into the calendar.
pub(crate) async fn keep_before(session: &Session, drop: &Drop) -> Result<(), Box<dyn Error>> {
    let is_first = !session.catalog().table_exists(&parse_ident(CALENDAR)?).await?;
    if is_first || drop.is_in(session, CALENDAR).await? {
        return Ok(());
    }
    refresh(session, &format!("before {}", drop.name())).await?;
    let (mart, tag) = (session.table(NIGHTLY).await?, before_tag(drop));
    let kept = mart.core().metadata().snapshot_for_ref(&tag).map(|snapshot| snapshot.snapshot_id());
    if kept.is_some() && kept == mart.core().metadata().current_snapshot_id() {
        return Ok(());
    }
    // An earlier run could not take the drop, and others came since.
    let mart = if kept.is_some() { mart.remove_ref(tag.as_str()).await? } else { mart };
    mart.create_tag(tag).await?;
    Ok(())
}

/// Computes the mart anew from the calendar as it is, once for each state of the calendar.
pub(crate) async fn refresh(session: &Session, when: &str) -> Result<(), Box<dyn Error>> {
    let calendar = session.table(CALENDAR).await?;
    let source = calendar.core().metadata().current_snapshot_id().unwrap_or_default();
    let frame = nightly().plan([(CALENDAR, calendar.dataframe().await?)])?;
    let written = frame
        .overwrite(session, NIGHTLY)
        .dynamic_partitions()
        .create_with(|new| new.sort_by([asc("city"), asc("month")]))
        .idempotency_key(format!("nightly of {source}"))
        .await?;
    if written.already_applied {
        println!("  {NIGHTLY} {when}: computed already");
    } else {
        println!("  {NIGHTLY} {when}: {} rows", written.rows);
    }
    Ok(())
}

/// Shows what a drop changed, by time travel.
pub(crate) async fn compare(session: &Session, drop: &Drop) -> Result<(), Box<dyn Error>> {
    let (mart, tag) = (session.table(NIGHTLY).await?, before_tag(drop));
    if mart.core().metadata().snapshot_for_ref(&tag).is_none() {
        return Ok(());
    }
    let by_city = "SELECT city, count(*) AS months, sum(nights) AS nights, round(avg(price), 2) AS price, \
                   round(avg(occupancy), 3) AS occupancy FROM";
    let before = (format!("before {}", drop.name()), format!("{NIGHTLY} FOR VERSION AS OF '{tag}'"));
    for (title, table) in [before, ("now".to_string(), NIGHTLY.to_string())] {
        println!("  {title}:");
        session.sql(&format!("{by_city} {table} GROUP BY city ORDER BY city")).await?.show().await?;
    }
    Ok(())
}
