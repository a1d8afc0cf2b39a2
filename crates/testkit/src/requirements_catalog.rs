//! [`RequirementsCatalog`]: a catalog that keeps metadata, not pointers, as a REST server does.
//!
//! Its server writes every metadata file, with credentials of its own, and checks requirements; it knows no
//! "unchanged". It places new tables where it likes. What it lends for a table reaches that table's folders
//! alone, and expires. What goes wrong inside of it during a commit is a 5xx to its client: nobody knows what
//! became of the commit.
//!
//! Behind the server are the pointers of a [`MemoryCatalog`], which nothing of this shows. Like Iceberg's
//! reference implementation, the server drops branches and tags whose snapshot a commit removes.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use icefield_core::catalog::{
    Catalog, CommitOutcome, CommitRequest, Expect, FOLDER_PROPERTIES, Guarantees, MemoryCatalog,
    NamespaceIdent, TableCreation, TableIdent, TableUpdate, check_requests,
};
use icefield_core::storage::{Storage, join};
use icefield_core::{Clock, Error, ErrorKind, Result, Table};
use object_store::ObjectStore;

use crate::vended_store::{Issuer, VendedStore};

/// The kinds of catalogs that a test runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CatalogKind {
    /// A [`MemoryCatalog`].
    Pointers,
    /// A [`RequirementsCatalog`].
    Requirements,
}

impl CatalogKind {
    /// Every kind.
    pub const ALL: [Self; 2] = [Self::Pointers, Self::Requirements];

    /// A catalog of this kind, of tables in a store whose locations begin with `base` (`scheme://authority`).
    ///
    /// # Panics
    /// When `base` is not a location.
    pub fn open(self, base: &str, store: Arc<dyn ObjectStore>, clock: Arc<dyn Clock>) -> Arc<dyn Catalog> {
        match self {
            Self::Pointers => {
                let storage = Storage::new().with_store(base, store).expect("a location");
                Arc::new(MemoryCatalog::with_clock(base, storage, clock))
            }
            Self::Requirements => Arc::new(RequirementsCatalog::new(base, store, clock).expect("a location")),
        }
    }
}

/// A catalog whose commits state requirements, and whose tables each have a storage of their own.
#[derive(Debug)]
pub struct RequirementsCatalog {
    server: MemoryCatalog,
    /// `scheme://authority`: where all tables lie.
    base: String,
    store: Arc<dyn ObjectStore>,
    issuer: Arc<Issuer>,
    /// Reaches nothing.
    storage: Storage,
}

impl RequirementsCatalog {
    /// A catalog of tables in a store, whose locations begin with `base` (`scheme://authority`).
    pub fn new(base: &str, store: Arc<dyn ObjectStore>, clock: Arc<dyn Clock>) -> Result<Self> {
        let issuer = Arc::new(Issuer::new(clock.clone()));
        let none = VendedStore::new(store.clone(), issuer.clone(), Vec::new(), true);
        let storage = Storage::new().with_store(base, Arc::new(none))?.for_warehouse(base)?;
        let all = Storage::new().with_store(base, store.clone())?;
        let server = MemoryCatalog::with_clock(base, all, clock);
        Ok(Self { server, base: base.to_string(), store, issuer, storage })
    }

    /// The number of tokens for tables' storages were given out.
    pub fn tokens_issued(&self) -> u64 {
        self.issuer.issued()
    }

    /// A table's storage whose token is not renewed: as that of a client which keeps it for too long.
    ///
    /// # Errors
    /// Where a folder of the table is outside of the catalog.
    pub fn storage_without_renewal(&self, table: &Table) -> Result<Storage> {
        self.lend(table, false)
    }

    fn lend(&self, table: &Table, renews: bool) -> Result<Storage> {
        let (metadata, server) = (table.metadata(), self.server.storage());
        let named = FOLDER_PROPERTIES.into_iter().filter_map(|name| table.property(name));
        let metadata_folder = table.metadata_location().rsplit_once('/').map(|(folder, _)| folder);
        let mut folders = Vec::new();
        for folder in named.chain(metadata_folder).chain([metadata.location()]) {
            folders.push(server.resolve(folder.trim_end_matches('/'))?.path);
        }
        let store = VendedStore::new(self.store.clone(), self.issuer.clone(), folders, renews);
        Storage::new().with_store(&self.base, Arc::new(store))?.for_warehouse(&self.base)
    }

    /// The server's table, as its client has it.
    fn lent(&self, table: Table) -> Result<Table> {
        let storage = self.lend(&table, true)?;
        let (ident, metadata) = (table.ident().clone(), table.whole().clone());
        Ok(match table.is_new() {
            true => Table::staged(ident, metadata, storage),
            false => Table::new(ident, metadata, table.metadata_location().to_string(), storage),
        })
    }

    /// A request as the server takes it.
    async fn received(&self, mut request: CommitRequest) -> Result<CommitRequest> {
        if let Expect::Absent(staged) = &request.expect {
            let (ident, metadata) = (staged.ident().clone(), staged.whole().clone());
            request.expect = Expect::Absent(Table::staged(ident, metadata, self.server.storage().clone()));
            return Ok(request);
        }
        let removed: Vec<i64> = request.updates.iter().flat_map(removed).copied().collect();
        if !removed.is_empty() {
            let table = self.server.load_table(&request.ident).await?;
            let gone = table.references().iter().filter(|(_, of)| removed.contains(&of.snapshot_id));
            let drops: Vec<_> =
                gone.map(|(name, _)| TableUpdate::RemoveSnapshotRef { ref_name: name.clone() }).collect();
            request.updates.splice(..0, drops);
        }
        Ok(request)
    }
}

fn removed(update: &TableUpdate) -> &[i64] {
    match update {
        TableUpdate::RemoveSnapshots { snapshot_ids } => snapshot_ids,
        _ => &[],
    }
}

/// An answer of the kind 5xx to a commit.
fn server_error(source: Error) -> CommitOutcome {
    let message = "the server failed, before or after it committed; look at the table's history";
    CommitOutcome::Unknown(Error::new(ErrorKind::CommitStateUnknown, message).with_source(source))
}

#[async_trait]
impl Catalog for RequirementsCatalog {
    fn name(&self) -> &str {
        "requirements"
    }

    fn storage(&self) -> &Storage {
        &self.storage
    }

    fn clock(&self) -> &Arc<dyn Clock> {
        self.server.clock()
    }

    fn guarantees(&self) -> Guarantees {
        Guarantees::default()
    }

    async fn list_namespaces(&self, parent: Option<&NamespaceIdent>) -> Result<Vec<NamespaceIdent>> {
        self.server.list_namespaces(parent).await
    }

    async fn create_namespace(
        &self,
        namespace: &NamespaceIdent,
        properties: HashMap<String, String>,
    ) -> Result<()> {
        self.server.create_namespace(namespace, properties).await
    }

    async fn namespace_properties(&self, namespace: &NamespaceIdent) -> Result<HashMap<String, String>> {
        self.server.namespace_properties(namespace).await
    }

    async fn update_namespace(
        &self,
        namespace: &NamespaceIdent,
        set: HashMap<String, String>,
        remove: Vec<String>,
    ) -> Result<()> {
        self.server.update_namespace(namespace, set, remove).await
    }

    async fn drop_namespace(&self, namespace: &NamespaceIdent) -> Result<()> {
        self.server.drop_namespace(namespace).await
    }

    async fn list_tables(&self, namespace: &NamespaceIdent) -> Result<Vec<TableIdent>> {
        self.server.list_tables(namespace).await
    }

    async fn stage_table(&self, namespace: &NamespaceIdent, mut creation: TableCreation) -> Result<Table> {
        if creation.location.is_none() {
            creation.location = Some(join(&self.base, &self.clock().uuid().simple().to_string()));
        }
        self.lent(self.server.stage_table(namespace, creation).await?)
    }

    async fn load_table(&self, ident: &TableIdent) -> Result<Table> {
        self.lent(self.server.load_table(ident).await?)
    }

    async fn drop_table(&self, ident: &TableIdent) -> Result<()> {
        self.server.drop_table(ident).await
    }

    async fn rename_table(&self, from: &TableIdent, to: &TableIdent) -> Result<()> {
        self.server.rename_table(from, to).await
    }

    async fn register_table(&self, ident: &TableIdent, metadata_location: &str) -> Result<Table> {
        self.lent(self.server.register_table(ident, metadata_location).await?)
    }

    async fn commit(&self, requests: Vec<CommitRequest>) -> CommitOutcome {
        if let Err(e) = check_requests(&requests, self.guarantees()) {
            return CommitOutcome::Failed(e);
        }
        let mut received = Vec::with_capacity(1);
        for request in requests {
            match self.received(request).await {
                Ok(request) => received.push(request),
                Err(e) if e.is_retryable() => return server_error(e),
                Err(e) => return CommitOutcome::Failed(e),
            }
        }
        match self.server.commit(received).await {
            CommitOutcome::Done(tables) => {
                let lent: Result<Vec<Table>> = tables.into_iter().map(|table| self.lent(table)).collect();
                lent.map_or_else(server_error, CommitOutcome::Done)
            }
            CommitOutcome::Failed(e) if e.is_retryable() => server_error(e),
            other => other,
        }
    }
}
