//! Maintenance of every table that the example writes.

use std::error::Error;
use std::fmt;
use std::fs::File;
use std::time::{Duration, SystemTime};

use icefield::prelude::*;
use icefield::{NamespaceIdent, TableIdent};

use crate::show::Bar;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

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

/// What maintenance did.
#[derive(Default)]
pub(crate) struct Done {
    files_rewritten: u64,
    files_made: u64,
    rows_rewritten: u64,
    snapshots: u64,
    files_deleted: u64,
    orphans: u64,
}

impl Done {
    pub(crate) fn add(&mut self, other: &Self) {
        self.files_rewritten += other.files_rewritten;
        self.files_made += other.files_made;
        self.rows_rewritten += other.rows_rewritten;
        self.snapshots += other.snapshots;
        self.files_deleted += other.files_deleted;
        self.orphans += other.orphans;
    }
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} files with {} rows compacted to {}, {} snapshots expired with {} files, {} orphan files removed",
            self.files_rewritten,
            self.rows_rewritten,
            self.files_made,
            self.snapshots,
            self.files_deleted,
            self.orphans
        )
    }
}

/// Small files become large ones, old snapshots go, and files that nothing names.
pub(crate) async fn maintain(session: &Session, ident: &TableIdent) -> Result<Done, Box<dyn Error>> {
    let bar = Bar::counts(&ident.to_string());
    let maintained = actions(session, ident, &bar).await;
    bar.finish();
    println!("{ident}");
    let (reports, done) = maintained?;
    for report in reports {
        println!("  {report}");
    }
    Ok(done)
}

/// Leaves in a table's folder what a writer that crashed four days ago would have left: the beginning of a data file, which no
/// commit names. Done for the sample alone, so that a first run has an orphan to find.
pub(crate) async fn crash(session: &Session, name: &str) -> Result<(), Box<dyn Error>> {
    let table = session.table(name).await?;
    let folder = format!("{}/data", table.core().metadata().location());
    let location = format!("{folder}/of-a-writer-that-crashed.parquet");
    let mut bytes = b"PAR1".to_vec();
    bytes.resize(64 << 10, 0);
    table.core().storage().write(&location, bytes).await?;
    let path = location.trim_start_matches("file://");
    let now = Duration::from_millis(u64::try_from(session.catalog().clock().now_ms())?);
    let four_days_ago = SystemTime::UNIX_EPOCH + now - 4 * DAY;
    File::options().write(true).open(path)?.set_modified(four_days_ago)?;
    println!("  {name}: a writer crashed four days ago and left {location}");
    Ok(())
}

async fn actions(
    session: &Session,
    ident: &TableIdent,
    bar: &Bar,
) -> Result<([String; 3], Done), Box<dyn Error>> {
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
    let done = Done {
        files_rewritten: compacted.input.files,
        files_made: compacted.output.files,
        rows_rewritten: compacted.rows,
        snapshots: expired.snapshots.len() as u64,
        files_deleted: expired.deleted_files(),
        orphans: orphans.deleted.files,
    };
    Ok(([compacted.to_string(), expired.to_string(), orphans.to_string()], done))
}
