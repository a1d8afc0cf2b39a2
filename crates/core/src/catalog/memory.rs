//! [`MemoryCatalog`]: pointers in memory, metadata in any store. The reference implementation.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use super::pointer::{KeepsPointers, Move, PointerCatalog, Pointers, Swapped, lost, no_namespace, no_table};
use super::{NamespaceIdent, TableIdent, exists};
use crate::clock::{Clock, SystemClock};
use crate::error::{Error, ErrorKind, Result};
use crate::storage::Storage;

/// A catalog that lives as long as the process: for tests, and for tables opened from their metadata files.
#[derive(Debug)]
pub struct MemoryCatalog(PointerCatalog<MemoryPointers>);

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
        Self(PointerCatalog::new(MemoryPointers::default(), warehouse, storage, clock))
    }
}

impl KeepsPointers for MemoryCatalog {
    type Pointers = MemoryPointers;

    fn pointer_catalog(&self) -> &PointerCatalog<MemoryPointers> {
        &self.0
    }
}

/// The pointers of a [`MemoryCatalog`].
#[derive(Debug, Default)]
pub struct MemoryPointers(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    namespaces: BTreeMap<Vec<String>, HashMap<String, String>>,
    tables: HashMap<TableIdent, String>,
}

impl MemoryPointers {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn require_namespace(&self, namespace: &NamespaceIdent) -> Result<()> {
        if self.namespaces.contains_key(namespace.as_ref()) { Ok(()) } else { Err(no_namespace(namespace)) }
    }
}

#[async_trait]
impl Pointers for MemoryPointers {
    fn name(&self) -> &str {
        "memory"
    }

    fn swaps_several(&self) -> bool {
        true
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

    async fn namespace_exists(&self, namespace: &NamespaceIdent) -> Result<bool> {
        Ok(self.state().require_namespace(namespace).is_ok())
    }

    async fn list_tables(&self, namespace: &NamespaceIdent) -> Result<Vec<TableIdent>> {
        let state = self.state();
        state.require_namespace(namespace)?;
        let mut tables: Vec<_> =
            state.tables.keys().filter(|t| t.namespace() == namespace).cloned().collect();
        tables.sort_by(|a, b| a.name().cmp(b.name()));
        Ok(tables)
    }

    async fn get(&self, ident: &TableIdent) -> Result<Option<String>> {
        Ok(self.state().tables.get(ident).cloned())
    }

    async fn containing(&self, text: &str) -> Result<Vec<(TableIdent, String)>> {
        let state = self.state();
        let tables = state.tables.iter().filter(|(_, pointer)| pointer.contains(text));
        Ok(tables.map(|(ident, pointer)| (ident.clone(), pointer.clone())).collect())
    }

    async fn swap(&self, moves: &[Move]) -> Swapped {
        let mut state = self.state();
        for of in moves {
            if of.from.is_none()
                && let Err(e) = state.require_namespace(of.ident.namespace())
            {
                return Swapped::Failed(e);
            }
            if state.tables.get(&of.ident) != of.from.as_ref() {
                return Swapped::Lost(lost(of));
            }
        }
        state.tables.extend(moves.iter().map(|of| (of.ident.clone(), of.to.clone())));
        Swapped::Done
    }

    async fn remove(&self, ident: &TableIdent) -> Result<()> {
        self.state().tables.remove(ident).map(drop).ok_or_else(|| no_table(ident))
    }

    async fn rename(&self, from: &TableIdent, to: &TableIdent) -> Result<()> {
        let mut state = self.state();
        let pointer = state.tables.get(from).cloned().ok_or_else(|| no_table(from))?;
        state.require_namespace(to.namespace())?;
        if state.tables.contains_key(to) {
            return Err(exists(to));
        }
        state.tables.remove(from);
        state.tables.insert(to.clone(), pointer);
        Ok(())
    }
}
