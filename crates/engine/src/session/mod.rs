//! [`Session`]: a catalog, a DataFusion context over it, and the budgets of both.
//!
//! Every table of the catalog is a table in SQL, as `namespace.table`; readers make DataFrames of files and batches. The
//! session's memory pool bounds what queries and writes hold, its spill folder takes what does not fit.

mod builder;
mod complexity;
mod contents;
mod deadline;
#[cfg(feature = "sqlite")]
mod embedded;
mod held;
mod limited;
mod metadata_file;
mod options;
mod readers;
mod sql_catalog;
mod stores;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use datafusion::prelude::SessionContext;
use icefield_core::Result;
use icefield_core::catalog::{Catalog, TableIdent, parse_ident};

use crate::scan::ScanCaches;
use crate::table::Table;

pub(crate) use builder::DEFAULT_SCHEMA;
pub use builder::SessionBuilder;
pub use metadata_file::OpenMetadataFile;
pub use options::SqlOptions;
pub(crate) use sql_catalog::find;

/// A catalog and a query engine over its tables. Cheap to clone; clones share everything.
#[derive(Clone)]
pub struct Session(Arc<Inner>);

pub(crate) struct Inner {
    context: SessionContext,
    catalog: Arc<dyn Catalog>,
    caches: Arc<ScanCaches>,
    names: Arc<sql_catalog::Names>,
    memory_budget: usize,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("catalog", &self.0.catalog)
            .field("memory_budget", &self.0.memory_budget)
            .finish_non_exhaustive()
    }
}

impl Session {
    /// Everything that can be set.
    pub fn builder() -> SessionBuilder {
        SessionBuilder::default()
    }

    /// The DataFusion context. What is registered in it (tables, functions) is seen by [`Session::sql`].
    pub fn context(&self) -> &SessionContext {
        &self.0.context
    }

    /// The catalog.
    pub fn catalog(&self) -> &Arc<dyn Catalog> {
        &self.0.catalog
    }

    /// The most that queries and writes of this session hold in memory, in bytes.
    pub fn memory_budget(&self) -> usize {
        self.0.memory_budget
    }

    /// What this session's scans keep: manifests and file footers, bounded in bytes.
    pub fn scan_caches(&self) -> &Arc<ScanCaches> {
        &self.0.caches
    }

    /// Loads a table by its dotted name: `namespace.table`. One look at the catalog.
    ///
    /// # Errors
    /// [`NotFound`](icefield_core::ErrorKind::NotFound).
    pub async fn table(&self, name: &str) -> Result<Table> {
        self.load(&parse_ident(name)?).await
    }

    /// Loads a table. One look at the catalog.
    pub async fn load(&self, ident: &TableIdent) -> Result<Table> {
        Ok(Table::new(self.clone(), self.0.catalog.load_table(ident).await?))
    }

    /// Sets the names that the context has of namespaces, each with those of its tables.
    pub(crate) fn set_names(&self, names: BTreeMap<String, Vec<String>>) {
        self.0.names.set(names);
    }

    pub(crate) fn from_inner(inner: Arc<Inner>) -> Self {
        Self(inner)
    }
}
