//! [`Table`]: a table of a session at one moment.

use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::common::TableReference;
use datafusion::dataframe::DataFrame;
use datafusion::datasource::provider_as_source;
use datafusion::logical_expr::LogicalPlanBuilder;
use icefield_core::catalog::{TableIdent, parse_ident};
use icefield_core::commit::is_applied;
use icefield_core::table::MAIN_BRANCH;
use icefield_core::{AsOf, Result, Table as CoreTable};

use crate::error::from_datafusion;
use crate::provider::IcebergTable;
use crate::scan::ScanCaches;
use crate::session::Session;

pub use crate::as_of::IntoAsOf;

/// A table of a session, as it was when it was loaded and, unless [`Table::as_of`] says otherwise, at its current
/// snapshot. Cheap to clone; it never changes: operations return the table as they left it.
#[derive(Debug, Clone)]
pub struct Table {
    session: Session,
    core: CoreTable,
    as_of: AsOf,
    caches: Arc<ScanCaches>,
}

impl Session {
    /// Loads a table by its dotted name: `namespace.table`. One look at the catalog.
    ///
    /// # Errors
    /// [`NotFound`](icefield_core::ErrorKind::NotFound).
    pub async fn table(&self, name: &str) -> Result<Table> {
        self.load(&parse_ident(name)?).await
    }

    /// Loads a table. One look at the catalog.
    pub async fn load(&self, ident: &TableIdent) -> Result<Table> {
        Ok(Table::new(self.clone(), self.catalog().load_table(ident).await?))
    }
}

impl Table {
    /// A table of a session from its metadata.
    pub fn new(session: Session, core: CoreTable) -> Self {
        let caches = session.scan_caches().clone();
        Self { session, core, as_of: AsOf::Current, caches }
    }

    /// The same table with caches of its own, for one whose locations may name other bytes than the session's do.
    pub(crate) fn with_caches(self, caches: ScanCaches) -> Self {
        let caches = caches.with_pool_of(self.session.scan_caches());
        Self { caches: Arc::new(caches), ..self }
    }

    /// The session.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// The table's metadata and history.
    pub fn core(&self) -> &CoreTable {
        &self.core
    }

    /// The table's name.
    pub fn ident(&self) -> &TableIdent {
        self.core.ident()
    }

    /// Which snapshot is read.
    pub fn snapshot(&self) -> &AsOf {
        &self.as_of
    }

    /// The same table at another snapshot: a snapshot id, a time (`"2024-06-30T00:00:00Z"`), or a branch or tag.
    ///
    /// # Errors
    /// [`NotFound`](icefield_core::ErrorKind::NotFound) for an id, branch or tag that the table does not have, and for a
    /// time before its first snapshot.
    pub fn as_of(&self, as_of: impl IntoAsOf) -> Result<Self> {
        let as_of = as_of.into_as_of(&self.core)?;
        self.core.snapshot_as_of(&as_of)?;
        Ok(Self { as_of, ..self.clone() })
    }

    /// Whether a write with this idempotency key is part of `main`, also when its snapshot has expired. A write with the key looks
    /// by itself; asking before spares the work of making its rows. Makes no request.
    pub fn has_applied(&self, key: &str) -> bool {
        is_applied(self.core.metadata(), MAIN_BRANCH, key).is_some()
    }

    /// The table as the catalog has it now. One look at the catalog.
    ///
    /// # Errors
    /// [`Unsupported`](icefield_core::ErrorKind::Unsupported) for a table that was opened from its metadata file.
    pub async fn refresh(&self) -> Result<Self> {
        self.core.require_catalog()?;
        let fresh = self.session.load(self.ident()).await?;
        Ok(Self { as_of: self.as_of.clone(), ..fresh })
    }

    pub(crate) fn caches(&self) -> &Arc<ScanCaches> {
        &self.caches
    }

    /// The table as DataFusion's `TableProvider`.
    ///
    /// # Errors
    /// [`Unsupported`](icefield_core::ErrorKind::Unsupported) for a column of a type that can't be carried.
    pub fn provider(&self) -> Result<Arc<IcebergTable>> {
        let (as_of, caches) = (self.as_of.clone(), self.caches.clone());
        IcebergTable::of_catalog(&self.core, as_of, caches, self.session.catalog().clone()).map(Arc::new)
    }

    /// The table's rows with metadata columns after its own: `_file` (location), `_pos` (position in the file, from 0),
    /// `_spec_id`, `_partition` (a struct of the fields of all partition specs, if there are any; NULL where a file's spec has
    /// them not), `_row_id` and `_last_updated_sequence_number` (version 3, else NULL). Nothing is read before the DataFrame
    /// runs.
    pub async fn dataframe_with_metadata_columns(&self) -> Result<DataFrame> {
        self.read(self.plain_provider()?.with_metadata_columns()?)
    }

    /// As [`dataframe_with_metadata_columns`](Self::dataframe_with_metadata_columns), and with the rows that are deleted while
    /// their files still hold them: the last column, `_deleted`, tells. What compaction rewrote or an overwrite replaced is
    /// not among these.
    ///
    /// # Cost
    /// Rows deleted by position are read alone, with the others of their pages; a file with equality deletes is read twice.
    ///
    /// # Errors
    /// [`Unsupported`](icefield_core::ErrorKind::Unsupported) for a table with a column `_deleted` of its own.
    pub async fn dataframe_with_deleted_rows(&self) -> Result<DataFrame> {
        self.read(self.plain_provider()?.with_metadata_columns()?.with_deleted_rows()?)
    }

    fn plain_provider(&self) -> Result<IcebergTable> {
        let provider = IcebergTable::new(&self.core, self.as_of.clone(), self.caches.clone())?;
        Ok(provider.registered_in(self.session.catalog().clone()))
    }

    fn read(&self, provider: IcebergTable) -> Result<DataFrame> {
        self.frame(Arc::new(provider))
    }

    /// The table's rows, in columns that the table's name qualifies: of two tables that are joined, `col("rates.id")` and
    /// `col("hotels.id")`. Joins of a table with itself take an [`alias`](DataFrame::alias). Nothing is read before the
    /// DataFrame runs.
    pub async fn dataframe(&self) -> Result<DataFrame> {
        self.frame(self.provider()?)
    }

    /// A DataFrame of a provider, qualified by the table's name.
    pub(crate) fn frame(&self, provider: Arc<dyn TableProvider>) -> Result<DataFrame> {
        let name = TableReference::bare(self.ident().name());
        let plan = LogicalPlanBuilder::scan(name, provider_as_source(provider), None);
        let plan = plan.and_then(LogicalPlanBuilder::build).map_err(from_datafusion)?;
        Ok(DataFrame::new(self.session.context().state(), plan))
    }
}
