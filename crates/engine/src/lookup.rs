//! [`Lookup`]: finds the tables of a catalog by their names, and makes table providers of them.
//!
//! What DataFusion calls for a table while it plans (its catalog, table functions) is part of a session's context, and so
//! can't hold the session: it holds this.

use std::sync::Arc;

use datafusion::catalog::TableProvider;
use icefield_core::catalog::{Catalog, TableIdent};
use icefield_core::{AsOf, ErrorKind, Result, Table};

use crate::metadata_tables::{MetadataTable, metadata_provider};
use crate::provider::IcebergTable;
use crate::scan::ScanCaches;

/// A catalog, and the caches that scans of its tables share. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Lookup {
    catalog: Arc<dyn Catalog>,
    caches: Arc<ScanCaches>,
}

impl Lookup {
    pub(crate) fn new(catalog: Arc<dyn Catalog>, caches: Arc<ScanCaches>) -> Self {
        Self { catalog, caches }
    }

    pub(crate) fn catalog(&self) -> &Arc<dyn Catalog> {
        &self.catalog
    }

    pub(crate) fn caches(&self) -> &Arc<ScanCaches> {
        &self.caches
    }

    /// The table that a name means, and what is asked about it: of `t$files` the table `t`, unless one has this very name.
    /// One look at the catalog, or two.
    pub(crate) async fn find(&self, ident: &TableIdent) -> Result<Option<(Table, Option<MetadataTable>)>> {
        if let Some(table) = self.load(ident).await? {
            return Ok(Some((table, None)));
        }
        let Some((table, about)) = MetadataTable::split(ident.name()) else { return Ok(None) };
        let ident = TableIdent::new(ident.namespace().clone(), table.to_string());
        Ok(self.load(&ident).await?.map(|table| (table, Some(about))))
    }

    async fn load(&self, ident: &TableIdent) -> Result<Option<Table>> {
        match self.catalog.load_table(ident).await {
            Ok(table) => Ok(Some(table)),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// A table at a snapshot. Makes no request.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) when the table has no such snapshot.
    pub(crate) fn table(&self, table: &Table, as_of: AsOf) -> Result<IcebergTable> {
        table.snapshot_as_of(&as_of)?;
        IcebergTable::of_catalog(table, as_of, self.caches.clone(), self.catalog.clone())
    }

    /// A table at a snapshot, or a table about it. Makes no request.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) when the table has no such snapshot;
    /// [`InvalidInput`](ErrorKind::InvalidInput) for a table about all snapshots as of one.
    pub(crate) fn provider(
        &self,
        table: &Table,
        as_of: AsOf,
        about: Option<MetadataTable>,
    ) -> Result<Arc<dyn TableProvider>> {
        let Some(about) = about else { return Ok(Arc::new(self.table(table, as_of)?)) };
        table.snapshot_as_of(&as_of)?;
        metadata_provider(table, as_of, self.caches.clone(), about)
    }
}
