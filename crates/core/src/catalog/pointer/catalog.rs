//! [`PointerCatalog`]: a [`Catalog`] over [`Pointers`].

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use iceberg::{NamespaceIdent, TableCreation, TableIdent};

use super::{Move, Pointers, Swapped, no_table};
use crate::catalog::cache::MetadataCache;
use crate::catalog::metadata_file::{created, no_metadata_file, registered};
use crate::catalog::{
    Catalog, CommitOutcome, CommitRequest, Guarantees, check_ident, check_namespace, default_location,
    exists, lies_in,
};
use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::storage::Storage;
use crate::table::Table;

/// Tables whose pointers are somewhere, and whose files are in one storage.
#[derive(Debug)]
pub struct PointerCatalog<P> {
    pub(super) pointers: P,
    warehouse: String,
    pub(super) storage: Storage,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) cache: MetadataCache,
}

impl<P: Pointers> PointerCatalog<P> {
    /// A catalog over pointers, whose tables lie under `warehouse` (a URL or an absolute path) unless they
    /// are given a location. `storage` reaches them, and nothing that they may not name
    /// ([`Storage::for_warehouse`]).
    pub fn new(pointers: P, warehouse: impl Into<String>, storage: Storage, clock: Arc<dyn Clock>) -> Self {
        Self { pointers, warehouse: warehouse.into(), storage, clock, cache: MetadataCache::default() }
    }

    /// The pointers.
    pub fn pointers(&self) -> &P {
        &self.pointers
    }

    /// The location that a new table of this name gets unless it is given one: the namespace's `location`
    /// property or `{warehouse}/{namespace}`, followed by its name, and by `-` and an id where another table
    /// lies there: one that had this name before it was renamed.
    pub(super) async fn new_location(&self, ident: &TableIdent) -> Result<String> {
        let properties = self.pointers.namespace_properties(ident.namespace()).await?;
        let location =
            default_location(&self.warehouse, ident, properties.get("location").map(String::as_str));
        let inside = format!("{location}/");
        let there = self.pointers.containing(&inside).await?;
        let is_used = there.iter().any(|(_, pointer)| pointer.starts_with(&inside));
        Ok(if is_used { format!("{location}-{}", self.clock.uuid()) } else { location })
    }

    async fn required(&self, ident: &TableIdent) -> Result<String> {
        self.pointers.get(ident).await?.ok_or_else(|| no_table(ident))
    }
}

/// A catalog of this make: what implements this is a [`Catalog`].
pub trait KeepsPointers: Debug + Send + Sync {
    /// Where the pointers are.
    type Pointers: Pointers;

    /// The catalog over them.
    fn pointer_catalog(&self) -> &PointerCatalog<Self::Pointers>;
}

impl<P: Pointers> KeepsPointers for PointerCatalog<P> {
    type Pointers = P;

    fn pointer_catalog(&self) -> &PointerCatalog<P> {
        self
    }
}

#[async_trait]
impl<C: KeepsPointers> Catalog for C {
    fn name(&self) -> &str {
        self.pointer_catalog().pointers.name()
    }

    fn storage(&self) -> &Storage {
        &self.pointer_catalog().storage
    }

    fn clock(&self) -> &Arc<dyn Clock> {
        &self.pointer_catalog().clock
    }

    fn guarantees(&self) -> Guarantees {
        let several_tables = self.pointer_catalog().pointers.swaps_several();
        Guarantees { unchanged: true, several_tables, leaves_metadata_files: true }
    }

    async fn list_namespaces(&self, parent: Option<&NamespaceIdent>) -> Result<Vec<NamespaceIdent>> {
        self.pointer_catalog().pointers.list_namespaces(parent).await
    }

    async fn create_namespace(
        &self,
        namespace: &NamespaceIdent,
        properties: HashMap<String, String>,
    ) -> Result<()> {
        check_namespace(namespace)?;
        self.pointer_catalog().pointers.create_namespace(namespace, properties).await
    }

    async fn namespace_properties(&self, namespace: &NamespaceIdent) -> Result<HashMap<String, String>> {
        self.pointer_catalog().pointers.namespace_properties(namespace).await
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
        self.pointer_catalog().pointers.update_namespace(namespace, set, remove).await
    }

    async fn drop_namespace(&self, namespace: &NamespaceIdent) -> Result<()> {
        self.pointer_catalog().pointers.drop_namespace(namespace).await
    }

    async fn list_tables(&self, namespace: &NamespaceIdent) -> Result<Vec<TableIdent>> {
        self.pointer_catalog().pointers.list_tables(namespace).await
    }

    async fn stage_table(&self, namespace: &NamespaceIdent, creation: TableCreation) -> Result<Table> {
        let catalog = self.pointer_catalog();
        let ident = TableIdent::new(namespace.clone(), creation.name.clone());
        check_ident(&ident)?;
        let location = catalog.new_location(&ident).await?;
        if catalog.pointers.get(&ident).await?.is_some() {
            return Err(exists(&ident));
        }
        let metadata = created(&catalog.storage, &*catalog.clock, &ident, creation, location)?;
        Ok(Table::staged(ident, metadata, catalog.storage.clone()))
    }

    async fn load_table(&self, ident: &TableIdent) -> Result<Table> {
        let catalog = self.pointer_catalog();
        let mut location = catalog.required(ident).await?;
        loop {
            match catalog.cache.load(&catalog.storage, &location).await {
                Ok(metadata) => {
                    return Ok(Table::new(ident.clone(), metadata, location, catalog.storage.clone()));
                }
                Err(e) if e.kind() == ErrorKind::NotFound => {
                    // The file may have been cleaned up after the pointer moved on from it.
                    let now = catalog.required(ident).await?;
                    if now == location {
                        return Err(no_metadata_file(ident, &location, e));
                    }
                    location = now;
                }
                Err(e) => return Err(e.with("table", ident)),
            }
        }
    }

    async fn drop_table(&self, ident: &TableIdent) -> Result<()> {
        self.pointer_catalog().pointers.remove(ident).await
    }

    async fn rename_table(&self, from: &TableIdent, to: &TableIdent) -> Result<()> {
        let catalog = self.pointer_catalog();
        check_ident(to)?;
        if from == to {
            return catalog.required(from).await.map(drop);
        }
        catalog.pointers.rename(from, to).await
    }

    async fn register_table(&self, ident: &TableIdent, metadata_location: &str) -> Result<Table> {
        let catalog = self.pointer_catalog();
        check_ident(ident)?;
        let metadata = catalog.cache.reload(&catalog.storage, metadata_location).await?;
        let table = registered(&catalog.storage, ident, metadata, metadata_location)?;
        let to = metadata_location.to_string();
        match catalog.pointers.swap(&[Move { ident: ident.clone(), from: None, to }]).await {
            Swapped::Done => Ok(table),
            // One that has other metadata by now may have been registered by others.
            Swapped::Lost(e) | Swapped::Failed(e) | Swapped::Unknown(e) | Swapped::MovedOn(e, _) => Err(e),
        }
    }

    async fn commit(&self, requests: Vec<CommitRequest>) -> CommitOutcome {
        self.pointer_catalog().commit_all(requests, self.guarantees()).await
    }

    async fn is_shared(&self, folder: &str, ident: &TableIdent) -> Result<bool> {
        // The end of the folder as others write it too, so that few pointers come.
        let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
        let end = format!("{}/", parts.split_off(parts.len().saturating_sub(2)).join("/"));
        let there = self.pointer_catalog().pointers.containing(&end).await?;
        Ok(there.iter().any(|(other, pointer)| other != ident && lies_in(pointer, folder)))
    }

    async fn namespace_exists(&self, namespace: &NamespaceIdent) -> Result<bool> {
        self.pointer_catalog().pointers.namespace_exists(namespace).await
    }

    async fn table_exists(&self, ident: &TableIdent) -> Result<bool> {
        Ok(self.pointer_catalog().pointers.get(ident).await?.is_some())
    }
}
