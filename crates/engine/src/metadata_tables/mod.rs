//! Tables about a table: its snapshots, branches and tags, manifests, files and partitions, as Iceberg Java has them.
//!
//! In SQL `db.t$files` (`"db"."t$files"`), also `FOR VERSION AS OF`; from code [`Table::metadata_table`]. Names, columns, types
//! and their order are those of Java and Spark ("Inspecting tables"). Differences: maps of metrics that a file has empty are
//! NULL; `lower_bounds` and `upper_bounds` have the bytes of a widened column's bounds in its new type, and none of a column
//! that was dropped before the manifest was written; `row` of `position_deletes` is always NULL.
//!
//! Tables of files read one manifest after the other in each of the session's partitions and keep none of them, so that what
//! they need of memory is a manifest for each partition. A query that names few columns builds no others.

mod columns;
mod entries;
mod history;
mod kind;
mod manifests;
mod metrics;
mod partition;
mod partitions;
mod position_deletes;
mod provider;

use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::dataframe::DataFrame;
use icefield_core::Result;

use crate::error::from_datafusion;
use crate::table::Table;
pub use kind::MetadataTable;
pub(crate) use partitions::partition_names;
pub(crate) use provider::metadata_provider;

impl Table {
    /// A table about this one, as of the snapshot that this one reads. Nothing is read before the DataFrame runs.
    ///
    /// # Errors
    /// [`InvalidInput`](icefield_core::ErrorKind::InvalidInput) for one that is [of no
    /// snapshot](MetadataTable::is_of_a_snapshot) and a table at an earlier one.
    pub fn metadata_table(&self, about: MetadataTable) -> Result<DataFrame> {
        self.session().context().read_table(self.metadata_provider(about)?).map_err(from_datafusion)
    }

    /// As [`metadata_table`](Self::metadata_table), as DataFusion's table provider.
    ///
    /// # Errors
    /// As [`metadata_table`](Self::metadata_table).
    pub fn metadata_provider(&self, about: MetadataTable) -> Result<Arc<dyn TableProvider>> {
        metadata_provider(self.core(), self.snapshot().clone(), self.caches().clone(), about)
    }
}
