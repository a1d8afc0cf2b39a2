//! The log of arrivals: a row for each archive of a delivery. Archives come over the day, and a service writes down each as it
//! comes: many small commits, which maintenance makes one file and few snapshots of.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use icefield::ingest::{Ingested, IngestedTable};
use icefield::prelude::*;

use crate::drops::{Delivery, Drop};
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
    for part in ingested.tables.iter().flat_map(IngestedTable::parts) {
        let archive = part.source.split('/').next().unwrap_or_default();
        *rows.entry(archive).or_default() += i64::try_from(part.rows)?;
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
