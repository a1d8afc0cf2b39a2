//! What happened to a table between two snapshots: rows appended, and every change of rows.
//!
//! - [`Table::appended_between`]: the rows that append snapshots added. In SQL `appends('db.t', from, to)`.
//! - [`Table::changes_between`]: rows inserted and deleted, snapshot by snapshot, as [`Changes`] says. In SQL
//!   `changes('db.t', from, to)`.
//!
//! Both read the files that snapshots added and removed, and of the others those that delete files apply to which came or
//! went: never the whole table. A range leaves its first snapshot out and
//! has its last in it, so that the last of one read is the first of the next.

mod comparable;
mod feed;
mod files;
mod provider;
mod range;
mod start;

use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::dataframe::DataFrame;
use iceberg::spec::Operation;
use icefield_core::{AsOf, Result};

use crate::as_of::IntoAsOf;
use crate::scan::ChosenRows;
use crate::table::Table;

pub use feed::{CHANGE_ORDINAL, CHANGE_TYPE, COMMIT_SNAPSHOT_ID, Changes};
pub(crate) use provider::FileRows;
pub use start::{Beginning, IntoStart, Start};

impl Table {
    /// The rows that append snapshots added after `from` and up to `to`, in the table's current schema: Iceberg Java's
    /// `IncrementalAppendScan`. Snapshots of other operations (overwrites, deletes, compactions) are passed over: rows that
    /// they added are not among these, and rows that they deleted are.
    ///
    /// # Cost
    /// The manifest list of each append in the range, and the manifests that it wrote.
    ///
    /// # Errors
    /// - [`Expired`](icefield_core::ErrorKind::Expired) when snapshots after `from` have expired: read the table as it is, and go
    ///   on from its current snapshot. `from` itself may be expired, when it is the parent of one that the table has;
    /// - [`InvalidInput`](icefield_core::ErrorKind::InvalidInput) when `from` is not an ancestor of `to`;
    /// - [`NotFound`](icefield_core::ErrorKind::NotFound) for a snapshot that the table does not have.
    pub async fn appended_between(&self, from: impl IntoStart, to: impl IntoAsOf) -> Result<DataFrame> {
        let (from, to) = (from.into_start(self.core())?, to.into_as_of(self.core())?);
        let provider = self.appends_provider(&from, &to).await?;
        self.frame(provider)
    }

    /// Every change of rows after `from` and up to `to`. See [`Changes`].
    ///
    /// # Errors
    /// As [`appended_between`](Self::appended_between).
    pub fn changes_between(&self, from: impl IntoStart, to: impl IntoAsOf) -> Result<Changes> {
        let (from, to) = (from.into_start(self.core())?, to.into_as_of(self.core())?);
        Ok(Changes::new(self.clone(), range::between(self.core(), &from, &to)?))
    }

    pub(crate) async fn appends_provider(&self, from: &Start, to: &AsOf) -> Result<Arc<dyn TableProvider>> {
        let mut added = Vec::new();
        for snapshot in range::between(self.core(), from, to)? {
            if snapshot.summary().operation == Operation::Append {
                added.extend(files::added(self.core(), self.caches(), &snapshot).await?);
            }
        }
        // No deletes: what was appended is asked for, whatever became of it.
        let rows = ChosenRows { whole: added, ..ChosenRows::default() };
        let catalog = self.session().catalog().clone();
        Ok(Arc::new(FileRows::new(self.core(), catalog, self.caches().clone(), rows)?))
    }
}
