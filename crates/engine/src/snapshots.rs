//! A table's name, place, properties and snapshots, for code that looks at them one by one. As rows they are in the
//! [metadata tables](crate::MetadataTable).

use std::collections::HashMap;

use arrow::datatypes::SchemaRef;
use iceberg::spec::{SnapshotRef, SnapshotReference};
use icefield_core::Result;
use icefield_core::format::arrow_schema;

use crate::table::Table;

/// One state of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Snapshot {
    /// Its id, for [`Table::as_of`].
    pub id: i64,
    /// The snapshot that it was made from; it may have expired.
    pub parent_id: Option<i64>,
    /// Its place in the order of the table's commits; 0 in tables of version 1.
    pub sequence_number: i64,
    /// When it was committed, in milliseconds since 1970-01-01T00:00:00Z.
    pub committed_at_ms: i64,
    /// `append`, `overwrite`, `delete` or `replace`.
    pub operation: String,
    /// Its changes in the words of the format: `added-records`, `total-data-files`, ...
    pub summary: HashMap<String, String>,
}

impl From<&SnapshotRef> for Snapshot {
    fn from(of: &SnapshotRef) -> Self {
        let summary = of.summary();
        Self {
            id: of.snapshot_id(),
            parent_id: of.parent_snapshot_id(),
            sequence_number: of.sequence_number(),
            committed_at_ms: of.timestamp_ms(),
            operation: summary.operation.as_str().to_string(),
            summary: summary.additional_properties.clone(),
        }
    }
}

impl Table {
    /// The table's dotted name.
    pub fn name(&self) -> String {
        self.ident().to_string()
    }

    /// The folder of the table's files.
    pub fn location(&self) -> &str {
        self.core().metadata().location()
    }

    /// The table's properties.
    pub fn properties(&self) -> &HashMap<String, String> {
        self.core().metadata().properties()
    }

    /// The columns of the snapshot that is read.
    ///
    /// # Errors
    /// [`Unsupported`](icefield_core::ErrorKind::Unsupported) for a column of a type that Arrow does not have.
    pub fn schema(&self) -> Result<SchemaRef> {
        arrow_schema(&*self.core().schema_as_of(self.snapshot())?)
    }

    /// All snapshots that have not expired, of every branch, oldest first.
    pub fn snapshots(&self) -> Vec<Snapshot> {
        let mut snapshots: Vec<Snapshot> = self.core().metadata().snapshots().map(Snapshot::from).collect();
        snapshots.sort_by_key(|snapshot| (snapshot.sequence_number, snapshot.committed_at_ms, snapshot.id));
        snapshots
    }

    /// The snapshots that the one that is read came from, itself first.
    ///
    /// # Errors
    /// [`NotFound`](icefield_core::ErrorKind::NotFound) when the snapshot that is read is not there any more.
    pub fn history(&self) -> Result<Vec<Snapshot>> {
        let head = self.core().snapshot_as_of(self.snapshot())?;
        let history =
            head.map(|head| self.core().ancestors(head.snapshot_id()).map(Snapshot::from).collect());
        Ok(history.unwrap_or_default())
    }

    /// The branches and tags, by name.
    pub fn references(&self) -> &[(String, SnapshotReference)] {
        self.core().references()
    }
}
