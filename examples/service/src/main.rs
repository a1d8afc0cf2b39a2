//! A service that keeps a shop's events: `cargo run -p icefield-example-service`.
//!
//! With `DATABASE_URL` and `WAREHOUSE` its catalog is in PostgreSQL and its files are on the warehouse's store; without them
//! both are in `./shop`. Each batch of events is appended once, whatever the network does; a mart is made of them, looked at on
//! a branch and published; upkeep runs beside the writes; a report goes out as CSV.

use std::sync::Arc;
use std::time::Duration;

use icefield::arrow::array::{AsArray, StringArray};
use icefield::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use icefield::datafusion::dataframe::DataFrameWriteOptions;
use icefield::datafusion::logical_expr::{ColumnarValue, ScalarUDF, Volatility, create_udf};
use icefield::prelude::*;
use icefield::transform::{Transform, column};

const EVENTS: &str = "shop.events";
const MART: &str = "shop.revenue";

#[tokio::main]
async fn main() -> Result<()> {
    let session = match (std::env::var("DATABASE_URL"), std::env::var("WAREHOUSE")) {
        (Ok(database), Ok(warehouse)) => {
            Session::builder().warehouse(warehouse).memory_budget(1 << 30).postgres(database).await?
        }
        _ => Session::builder().memory_budget(1 << 30).open("./shop").await?,
    };
    serve(&session, "./shop-report.csv").await
}

async fn serve(session: &Session, report: &str) -> Result<()> {
    session.register_udf(country());

    // Batches come in, one of them twice; upkeep runs beside the writes.
    take(session, "batch-1", &events(&[(1, "DE-1", 20), (2, "FR-1", 5)])).await?;
    let upkeep = tokio::spawn(keep_up(session.clone()));
    take(session, "batch-2", &events(&[(3, "DE-2", 7)])).await?;
    take(session, "batch-2", &events(&[(3, "DE-2", 7)])).await?;

    // A partner sends a column that is new: the table gets it.
    let coupons = "{\"id\": 4, \"customer\": \"FR-2\", \"cents\": 3, \"at\": \"2024-06-23T08:00:00Z\", \"coupon\": \"SUMMER\"}";
    let mut fields = event_schema().fields().to_vec();
    fields.push(Arc::new(Field::new("coupon", DataType::Utf8, true)));
    let rows = session.read_json_lines(coupons, Arc::new(Schema::new(fields)))?;
    rows.append_to(session, EVENTS).evolve_schema().idempotency_key("batch-3").await?;
    println!("{}", upkeep.await.unwrap_or_else(|e| Err(icefield::Error::internal(e.to_string())))?);

    // The mart: made on a branch, looked at, published.
    publish(session).await?;

    // As it was before the last batch.
    let events = session.table(EVENTS).await?;
    let history = events.history()?;
    let before = history.get(1).map_or(0, |snapshot| snapshot.id);
    let then = events.scan().at(before).await?.count().await?;
    println!("{then} events before the last batch, {} now", events.dataframe().await?.count().await?);

    // CSV for those who read mail.
    let rows = session.sql("SELECT country, cents FROM shop.revenue ORDER BY country").await?;
    rows.write_csv(report, DataFrameWriteOptions::new().with_single_file_output(true), None).await?;
    Ok(())
}

/// Appends a batch of JSON lines once, and again where nothing is lost by it.
async fn take(session: &Session, batch: &str, lines: &str) -> Result<()> {
    for attempt in 1.. {
        let rows = session.read_json_lines(lines, event_schema())?;
        let written = rows
            .append_to(session, EVENTS)
            .create_with(|table| table.partition_by([day("at")]).sort_by([asc("id")]))
            .idempotency_key(batch)
            .await;
        match written {
            Ok(report) => {
                println!("{batch}: {report}");
                return Ok(());
            }
            // The answer was lost, or the store or catalog failed in passing: with the key, again is safe.
            Err(error)
                if attempt < 5
                    && matches!(error.kind(), ErrorKind::CommitStateUnknown | ErrorKind::Transient) =>
            {
                println!("{batch}: again, because of {error}");
                tokio::time::sleep(Duration::from_millis(100 << attempt)).await;
            }
            // What the rows are is for whoever sent them; the service goes on.
            Err(error) if error.kind() == ErrorKind::InvalidInput => {
                println!("{batch}: refused: {error}");
                return Ok(());
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Compacts and expires when that is due.
async fn keep_up(session: Session) -> Result<String> {
    let done = session.table(EVENTS).await?.upkeep().await?;
    Ok(format!("upkeep: {done}"))
}

/// Replaces the mart by what the events are now, on a branch first.
async fn publish(session: &Session) -> Result<()> {
    let events = session.table(EVENTS).await?.dataframe().await?;
    let country = country().call(vec![cast(col("customer"), DataType::Utf8)]);
    let rows = revenue().plan([("events", events.with_column("country", country)?)])?;
    if !session.table_exists(MART).await? {
        rows.append_to(session, MART).create_with(|table| table).await?;
        return Ok(());
    }
    let mart = session.table(MART).await?.create_branch("audit").await?;
    rows.overwrite(session, MART).branch("audit").await?;
    let audited = mart.refresh().await?;
    let wrong = audited.scan().at("audit").filter(col("cents").lt(lit(0))).await?.count().await?;
    if wrong == 0 {
        audited.fast_forward("main", "audit").await?;
    }
    audited.refresh().await?.remove_ref("audit").await?;
    Ok(())
}

/// Cents by country.
fn revenue() -> Transform {
    let columns = || [column("country", DataType::Utf8), column("cents", DataType::Int64)];
    Transform::new("revenue", |inputs| {
        inputs.get("events")?.aggregate(vec![col("country")], vec![sum(col("cents")).alias("cents")])
    })
    .input("events", columns())
    .output(columns())
}

/// The part of a customer's name before the dash, in SQL and in transforms.
fn country() -> ScalarUDF {
    let of = |args: &[ColumnarValue]| {
        let names = ColumnarValue::values_to_arrays(args)?.remove(0);
        let before_dash = |name: Option<&str>| name.and_then(|name| name.split('-').next()).map(String::from);
        let countries: StringArray = names.as_string::<i32>().iter().map(before_dash).collect();
        Ok(ColumnarValue::Array(Arc::new(countries)))
    };
    create_udf("country", vec![DataType::Utf8], DataType::Utf8, Volatility::Immutable, Arc::new(of))
}

fn event_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("customer", DataType::Utf8, true),
        Field::new("cents", DataType::Int64, true),
        Field::new("at", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), true),
    ]))
}

fn events(of: &[(i64, &str, i64)]) -> String {
    let line = |(id, customer, cents): &(i64, &str, i64)| {
        format!(
            "{{\"id\": {id}, \"customer\": \"{customer}\", \"cents\": {cents}, \"at\": \"2024-06-22T10:00:00Z\"}}\n"
        )
    };
    of.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use icefield::datafusion::common::record_batch;

    use super::*;

    #[tokio::test]
    async fn revenue_is_summed_by_country() -> Result<()> {
        let session = Session::builder().build()?;
        let rows = session.read_batches([record_batch!(
            ("country", Utf8, vec!["DE", "FR", "DE"]),
            ("cents", Int64, vec![Some(20), Some(5), None])
        )?])?;
        let sums = revenue().plan([("events", rows)])?.sort_by(vec![col("country")])?.to_string().await?;
        assert!(sums.contains("| DE      | 20    |") && sums.contains("| FR      | 5     |"), "{sums}");
        Ok(())
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_batch_is_taken_once_and_the_mart_published() -> Result<()> {
        let folder = std::env::temp_dir().join(format!("icefield-service-{}", std::process::id()));
        let session = Session::open(&folder).await?;
        let report = folder.join("report.csv").display().to_string();
        serve(&session, &report).await?;
        // Again, as after a restart: all batches are there.
        serve(&session, &report).await?;
        assert_eq!(session.table(EVENTS).await?.dataframe().await?.count().await?, 4);
        let text = std::fs::read_to_string(&report).unwrap_or_default();
        assert_eq!(text, "country,cents\nDE,27\nFR,8\n");
        assert_eq!(session.table(MART).await?.references().len(), 1, "the branch is gone");
        std::fs::remove_dir_all(&folder).ok();
        Ok(())
    }
}
