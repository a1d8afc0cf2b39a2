//! [`Session`]: a catalog, a DataFusion context over it, and the budgets of both.
//!
//! Every table of the catalog is a table in SQL, as `namespace.table`; readers make DataFrames of files and batches. The
//! session's memory pool bounds what queries and writes hold, its spill folder takes what does not fit.

mod builder;
mod catalog_adapter;
mod complexity;
mod contents;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod databases;
mod deadline;
mod held;
mod limited;
mod metadata_file;
mod options;
mod readers;
mod rows;
mod stores;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use datafusion::prelude::SessionContext;
use icefield_core::catalog::Catalog;

use crate::lookup::Lookup;
use crate::scan::ScanCaches;
use catalog_adapter::Names;

pub use builder::SessionBuilder;
pub(crate) use catalog_adapter::DEFAULT_SCHEMA;
pub use metadata_file::OpenMetadataFile;
pub use options::SqlOptions;

/// A catalog and a query engine over its tables. Cheap to clone; clones share everything.
#[derive(Clone)]
pub struct Session(Arc<Inner>);

struct Inner {
    context: SessionContext,
    lookup: Lookup,
    names: Arc<Names>,
    memory_budget: usize,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("catalog", self.catalog())
            .field("memory_budget", &self.0.memory_budget)
            .finish_non_exhaustive()
    }
}

impl Session {
    /// The DataFusion context. What is registered in it (tables, functions) is seen by [`Session::sql`].
    pub fn context(&self) -> &SessionContext {
        &self.0.context
    }

    /// The catalog.
    pub fn catalog(&self) -> &Arc<dyn Catalog> {
        self.0.lookup.catalog()
    }

    /// The most that queries and writes of this session hold in memory, in bytes.
    pub fn memory_budget(&self) -> usize {
        self.0.memory_budget
    }

    /// What this session's scans keep: manifests and file footers, bounded in bytes.
    pub fn scan_caches(&self) -> &Arc<ScanCaches> {
        self.0.lookup.caches()
    }

    /// What finds the catalog's tables for those that can't hold the session.
    pub(crate) fn lookup(&self) -> &Lookup {
        &self.0.lookup
    }

    /// Sets the names that the context has of namespaces, each with those of its tables.
    pub(crate) fn set_names(&self, names: BTreeMap<String, Vec<String>>) {
        self.0.names.set(names);
    }
}
