//! Maintenance of every table that the example writes.

use std::error::Error;
use std::time::Duration;

use icefield::prelude::*;
use icefield::{NamespaceIdent, TableIdent};

use crate::show::Bar;

/// The tables, by name: those that partners' files named, what was set aside, and the mart.
pub(crate) async fn tables(session: &Session) -> Result<Vec<TableIdent>, Box<dyn Error>> {
    let mut tables = Vec::new();
    for namespace in ["rooms", "marts"] {
        let namespace = NamespaceIdent::new(namespace.to_string());
        if session.catalog().namespace_exists(&namespace).await? {
            let mut of_it = session.catalog().list_tables(&namespace).await?;
            of_it.sort_by_key(TableIdent::to_string);
            tables.extend(of_it);
        }
    }
    Ok(tables)
}

/// Small files become large ones, old snapshots go, and files that nothing names.
pub(crate) async fn maintain(session: &Session, ident: &TableIdent) -> Result<(), Box<dyn Error>> {
    let bar = Bar::counts(&ident.to_string());
    let maintained = actions(session, ident, &bar).await;
    bar.finish();
    println!("{ident}");
    for report in maintained? {
        println!("  {report}");
    }
    Ok(())
}

async fn actions(session: &Session, ident: &TableIdent, bar: &Bar) -> Result<[String; 3], Box<dyn Error>> {
    let progress = || {
        let bar = bar.clone();
        move |at: maintenance::Progress| bar.at(at.done, at.total)
    };
    let table = session.load(ident).await?;
    let compacted = maintenance::compact(&table).min_input_files(2).on_progress(progress()).await?;
    let table = table.refresh().await?;
    let expiry = maintenance::expire_snapshots(&table).older_than(Duration::ZERO).retain_last(3);
    let expired = expiry.on_progress(progress()).await?;
    let orphans = maintenance::remove_orphan_files(&table).on_progress(progress()).await?;
    Ok([compacted.to_string(), expired.to_string(), orphans.to_string()])
}
