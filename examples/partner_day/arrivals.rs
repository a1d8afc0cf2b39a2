//! The log of arrivals: a row for each archive of a delivery. Archives come over the day, and a service writes down each as it
//! comes: many small commits, which maintenance makes one file and few snapshots of.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;

use datafusion::functions::string::expr_fn::split_part;
use icefield::arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use icefield::arrow::compute::cast;
use icefield::arrow::datatypes::{DataType, Int64Type};
use icefield::ingest::Ingested;
use icefield::prelude::*;

use crate::drops::{Delivery, Drop};
use crate::load::SOURCE;
use crate::show::Totals;

pub(crate) const ARRIVALS: &str = "rooms.arrivals";

/// Commits for one drop, about: thousands of archives are not written down one by one.
const COMMITS: usize = 8;

/// Writes down the archives of a delivery, and the rows that were taken of each.
pub(crate) async fn log(
    session: &Session,
    drop: &Drop,
    delivery: &Delivery,
    ingested: &Ingested,
    totals: &mut Totals,
) -> Result<(), Box<dyn Error>> {
    let archives = delivery.files.iter().filter(|file| !file.starts_with('_'));
    let mut rows: BTreeMap<&str, i64> = archives.map(|archive| (archive.as_str(), 0)).collect();
    for table in &ingested.tables {
        let archive = split_part(ident(SOURCE), lit("/"), lit(1_i64)).alias("archive");
        let taken = table.dataframe(session.context())?.aggregate(vec![archive], vec![count(lit(1))])?;
        for batch in taken.collect().await? {
            let (archives, counts) =
                (cast(batch.column(0), &DataType::Utf8)?, batch.column(1).as_primitive::<Int64Type>());
            for (archive, count) in archives.as_string::<i32>().iter().flatten().zip(counts.values()) {
                if let Some(rows) = rows.get_mut(archive) {
                    *rows += count;
                }
            }
        }
    }
    let rows: Vec<(&str, i64)> = rows.into_iter().collect();
    for (number, some) in rows.chunks((rows.len() / COMMITS).max(1)).enumerate() {
        let columns: [(&str, ArrayRef); 2] = [
            ("archive", Arc::new(StringArray::from_iter_values(some.iter().map(|(archive, _)| archive)))),
            ("rows", Arc::new(Int64Array::from_iter_values(some.iter().map(|(_, rows)| *rows)))),
        ];
        let arrived = drop.mark(session.read_batches([RecordBatch::try_from_iter(columns)?])?)?;
        let written = arrived
            .append_to(session, ARRIVALS)
            .create_with(|new| new)
            .idempotency_key(format!("{}/arrivals/{}/{number}", drop.name(), delivery.id))
            .await?;
        totals.add(&written);
    }
    println!("    {ARRIVALS}: {} archives", rows.len());
    Ok(())
}
