//! [`MemoryCatalog`]: pointers in memory, metadata in any store. The reference implementation.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use super::{
    Catalog, CommitOutcome, CommitRequest, MetadataCache, NamespaceIdent, StagedMetadata, TableCreation,
    TableIdent, check_ident, check_namespace, check_requests, default_location, exists, lies_in,
    no_metadata_file, registered, stage_commit, stage_create,
};
use crate::clock::{Clock, SystemClock};
use crate::error::{Error, ErrorKind, Result};
use crate::storage::Storage;
use crate::table::Table;

/// A catalog that lives as long as the process: for tests, and for tables opened from their metadata files.
#[derive(Debug)]
pub struct MemoryCatalog {
    warehouse: String,
    storage: Storage,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    cache: MetadataCache,
}

#[derive(Debug, Default)]
struct State {
    namespaces: BTreeMap<Vec<String>, HashMap<String, String>>,
    tables: HashMap<TableIdent, String>,
}

impl MemoryCatalog {
    /// A catalog whose tables lie under `warehouse` (a URL), and elsewhere where the storage's files
    /// [may be](Storage::for_warehouse).
    pub fn new(warehouse: impl Into<String>, storage: Storage) -> Self {
        Self::with_clock(warehouse, storage, SystemClock::shared())
    }

    /// As [`MemoryCatalog::new`], with a clock.
    pub fn with_clock(warehouse: impl Into<String>, storage: Storage, clock: Arc<dyn Clock>) -> Self {
        let warehouse = warehouse.into();
        // Below what is no location nothing lies.
        let confined = storage.for_warehouse(warehouse.trim_end_matches('/'));
        let storage = confined.unwrap_or_else(|_| storage.confined_to_nothing());
        Self { warehouse, storage, clock, state: Mutex::default(), cache: MetadataCache::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pointer(&self, ident: &TableIdent) -> Result<String> {
        self.state().tables.get(ident).cloned().ok_or_else(|| no_table(ident))
    }

    /// Moves every pointer, or none.
    fn swap(&self, staged: &[StagedMetadata]) -> Result<()> {
        let mut state = self.state();
        if let Some(lost) = staged.iter().find(|s| state.tables.get(s.table.ident()) != s.previous.as_ref()) {
            return Err(Error::conflict("another commit was first; reload the table and try again")
                .with("table", lost.table.ident()));
        }
        for next in staged {
            state.tables.insert(next.table.ident().clone(), next.table.metadata_location().to_string());
        }
        Ok(())
    }

    /// Deletes metadata files that no pointer ever named. What can't be deleted is left to orphan removal.
    async fn discard(&self, staged: &[StagedMetadata]) {
        for next in staged {
            let _ = self.storage.delete(next.table.metadata_location()).await;
        }
    }
}

fn no_table(ident: &TableIdent) -> Error {
    Error::not_found("no such table in this catalog").with("table", ident)
}

fn no_namespace(namespace: &NamespaceIdent) -> Error {
    Error::not_found("no such namespace; create it first").with("namespace", namespace)
}

impl State {
    fn require_namespace(&self, namespace: &NamespaceIdent) -> Result<()> {
        if self.namespaces.contains_key(namespace.as_ref()) { Ok(()) } else { Err(no_namespace(namespace)) }
    }

    fn insert(&mut self, ident: &TableIdent, location: &str) -> Result<()> {
        self.require_namespace(ident.namespace())?;
        if self.tables.contains_key(ident) {
            return Err(exists(ident));
        }
        self.tables.insert(ident.clone(), location.to_string());
        Ok(())
    }
}

#[async_trait]
impl Catalog for MemoryCatalog {
    fn name(&self) -> &str {
        "memory"
    }

    fn storage(&self) -> &Storage {
        &self.storage
    }

    fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    async fn list_namespaces(&self, parent: Option<&NamespaceIdent>) -> Result<Vec<NamespaceIdent>> {
        let prefix: &[String] = parent.map_or(&[], |p| p.as_ref());
        let state = self.state();
        if let Some(parent) = parent {
            state.require_namespace(parent)?;
        }
        let children =
            state.namespaces.keys().filter(|n| n.len() == prefix.len() + 1 && n.starts_with(prefix));
        children.map(|n| Ok(NamespaceIdent::from_vec(n.clone())?)).collect()
    }

    async fn create_namespace(
        &self,
        namespace: &NamespaceIdent,
        properties: HashMap<String, String>,
    ) -> Result<()> {
        check_namespace(namespace)?;
        let mut state = self.state();
        let key: &Vec<String> = namespace.as_ref();
        if state.namespaces.contains_key(key) {
            return Err(
                Error::new(ErrorKind::AlreadyExists, "the namespace exists").with("namespace", namespace)
            );
        }
        for depth in 1..key.len() {
            state.namespaces.entry(key.iter().take(depth).cloned().collect()).or_default();
        }
        state.namespaces.insert(key.clone(), properties);
        Ok(())
    }

    async fn namespace_properties(&self, namespace: &NamespaceIdent) -> Result<HashMap<String, String>> {
        let key: &Vec<String> = namespace.as_ref();
        self.state().namespaces.get(key).cloned().ok_or_else(|| no_namespace(namespace))
    }

    async fn update_namespace(
        &self,
        namespace: &NamespaceIdent,
        set: HashMap<String, String>,
        remove: Vec<String>,
    ) -> Result<()> {
        if let Some(key) = remove.iter().find(|key| set.contains_key(*key)) {
            return Err(Error::invalid_input("a property is either set or removed")
                .with("namespace", namespace)
                .with("property", key));
        }
        let mut state = self.state();
        let key: &Vec<String> = namespace.as_ref();
        let properties = state.namespaces.get_mut(key).ok_or_else(|| no_namespace(namespace))?;
        properties.retain(|key, _| !remove.contains(key));
        properties.extend(set);
        Ok(())
    }

    async fn drop_namespace(&self, namespace: &NamespaceIdent) -> Result<()> {
        let mut state = self.state();
        state.require_namespace(namespace)?;
        let key: &Vec<String> = namespace.as_ref();
        let holds_tables = state.tables.keys().any(|t| t.namespace() == namespace);
        if holds_tables || state.namespaces.keys().any(|n| n.len() > key.len() && n.starts_with(key)) {
            return Err(Error::invalid_input("the namespace is not empty; drop what is in it first")
                .with("namespace", namespace));
        }
        state.namespaces.remove(key);
        Ok(())
    }

    async fn list_tables(&self, namespace: &NamespaceIdent) -> Result<Vec<TableIdent>> {
        let state = self.state();
        state.require_namespace(namespace)?;
        let mut tables: Vec<_> =
            state.tables.keys().filter(|t| t.namespace() == namespace).cloned().collect();
        tables.sort_by(|a, b| a.name().cmp(b.name()));
        Ok(tables)
    }

    async fn new_location(&self, ident: &TableIdent) -> Result<String> {
        let properties = self.namespace_properties(ident.namespace()).await?;
        let location =
            default_location(&self.warehouse, ident, properties.get("location").map(String::as_str));
        let inside = format!("{location}/");
        let used = self.state().tables.values().any(|pointer| pointer.starts_with(&inside));
        Ok(if used { format!("{location}-{}", self.clock.uuid()) } else { location })
    }

    async fn is_shared(&self, folder: &str, ident: &TableIdent) -> Result<bool> {
        let state = self.state();
        Ok(state.tables.iter().any(|(other, pointer)| other != ident && lies_in(pointer, folder)))
    }

    async fn create_table(&self, namespace: &NamespaceIdent, creation: TableCreation) -> Result<Table> {
        let ident = TableIdent::new(namespace.clone(), creation.name.clone());
        check_ident(&ident)?;
        let location = self.new_location(&ident).await?;
        if self.table_exists(&ident).await? {
            return Err(exists(&ident));
        }
        let staged = stage_create(&self.storage, &*self.clock, namespace, creation, || location).await?;
        let inserted = self.state().insert(staged.table.ident(), staged.table.metadata_location());
        if let Err(e) = inserted {
            self.discard(&[staged]).await;
            return Err(e);
        }
        Ok(staged.table)
    }

    async fn load_table(&self, ident: &TableIdent) -> Result<Table> {
        let location = self.pointer(ident)?;
        let metadata = match self.cache.load(&self.storage, &location).await {
            Err(e) if e.kind() == ErrorKind::NotFound => return Err(no_metadata_file(ident, &location, e)),
            loaded => loaded?,
        };
        Ok(Table::new(ident.clone(), metadata, location, self.storage.clone()))
    }

    async fn table_exists(&self, ident: &TableIdent) -> Result<bool> {
        Ok(self.state().tables.contains_key(ident))
    }

    async fn drop_table(&self, ident: &TableIdent) -> Result<()> {
        self.state().tables.remove(ident).map(drop).ok_or_else(|| no_table(ident))
    }

    async fn rename_table(&self, from: &TableIdent, to: &TableIdent) -> Result<()> {
        check_ident(to)?;
        let mut state = self.state();
        let location = state.tables.get(from).cloned().ok_or_else(|| no_table(from))?;
        if from == to {
            return Ok(());
        }
        state.insert(to, &location)?;
        state.tables.remove(from);
        Ok(())
    }

    async fn register_table(&self, ident: &TableIdent, metadata_location: &str) -> Result<Table> {
        check_ident(ident)?;
        let metadata = self.cache.reload(&self.storage, metadata_location).await?;
        let table = registered(&self.storage, ident, metadata, metadata_location)?;
        self.state().insert(ident, metadata_location)?;
        Ok(table)
    }

    async fn commit(&self, requests: Vec<CommitRequest>) -> CommitOutcome {
        if let Err(e) = check_requests(&requests) {
            return CommitOutcome::Failed(e);
        }
        let mut staged = Vec::with_capacity(requests.len());
        for request in &requests {
            let next = match self.load_table(&request.ident).await {
                Ok(current) => stage_commit(&self.storage, &*self.clock, &current, request).await,
                Err(e) => Err(e),
            };
            match next {
                Ok(next) => staged.push(next),
                Err(e) => {
                    self.discard(&staged).await;
                    return match e.kind() {
                        ErrorKind::Conflict => CommitOutcome::Conflict(e),
                        _ => CommitOutcome::Failed(e),
                    };
                }
            }
        }
        match self.swap(&staged) {
            Ok(()) => {
                self.cache.published(&staged);
                CommitOutcome::Done(staged.into_iter().map(|next| next.table).collect())
            }
            Err(e) => {
                self.discard(&staged).await;
                CommitOutcome::Conflict(e)
            }
        }
    }
}
