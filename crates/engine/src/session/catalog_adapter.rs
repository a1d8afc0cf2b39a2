//! The catalog as DataFusion sees it. Tables are loaded when a query names them, so that each query reads fresh metadata.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use async_trait::async_trait;
use datafusion::catalog::{CatalogProvider, SchemaProvider, TableProvider};
use datafusion::common::Result;
use datafusion::datasource::TableType;
use icefield_core::catalog::TableIdent;
use icefield_core::{AsOf, Error};

use crate::as_of::IntoAsOf;
use crate::error::to_datafusion;
use crate::lookup::Lookup;

/// The schema in which tables registered by hand are found without a prefix.
pub(crate) const DEFAULT_SCHEMA: &str = "public";

/// Names of namespaces and their tables, as last listed. DataFusion asks for them where nothing can be awaited.
#[derive(Debug, Default)]
pub(super) struct Names(RwLock<BTreeMap<String, Vec<String>>>);

impl Names {
    pub(super) fn set(&self, names: BTreeMap<String, Vec<String>>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = names;
    }

    fn schemas(&self) -> Vec<String> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }

    fn tables(&self, schema: &str) -> Vec<String> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(schema).cloned().unwrap_or_default()
    }
}

/// Tables by schema and name.
type Tables = HashMap<String, HashMap<String, Arc<dyn TableProvider>>>;
type Registered = Arc<Mutex<Tables>>;

/// A session's catalog: one schema a namespace, named with dots.
pub(super) struct CatalogAdapter {
    lookup: Lookup,
    names: Arc<Names>,
    registered: Registered,
}

impl CatalogAdapter {
    pub(super) fn new(lookup: Lookup, names: Arc<Names>) -> Self {
        Self { lookup, names, registered: Registered::default() }
    }
}

impl fmt::Debug for CatalogAdapter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CatalogAdapter").finish_non_exhaustive()
    }
}

impl CatalogProvider for CatalogAdapter {
    fn schema_names(&self) -> Vec<String> {
        let mut names = self.names.schemas();
        if !names.iter().any(|name| name == DEFAULT_SCHEMA) {
            names.push(DEFAULT_SCHEMA.to_string());
        }
        names
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        Some(Arc::new(Namespace {
            name: name.to_string(),
            lookup: self.lookup.clone(),
            names: self.names.clone(),
            registered: self.registered.clone(),
        }))
    }
}

struct Namespace {
    name: String,
    lookup: Lookup,
    names: Arc<Names>,
    registered: Registered,
}

impl fmt::Debug for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Namespace").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Namespace {
    fn registered(&self) -> MutexGuard<'_, Tables> {
        self.registered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ident(&self, table: &str) -> Option<TableIdent> {
        TableIdent::from_strs(self.name.split('.').chain([table])).ok()
    }

    fn registered_table(&self, name: &str) -> Option<Arc<dyn TableProvider>> {
        self.registered().get(&self.name)?.get(name).cloned()
    }
}

#[async_trait]
impl SchemaProvider for Namespace {
    fn table_names(&self) -> Vec<String> {
        let mut names = self.names.tables(&self.name);
        if let Some(registered) = self.registered().get(&self.name) {
            names.extend(registered.keys().cloned());
        }
        names
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        if let Some(table) = self.registered_table(name) {
            return Ok(Some(table));
        }
        let found = async {
            let Some(ident) = self.ident(name) else { return Ok(None) };
            if let Some((table, about)) = self.lookup.find(&ident).await? {
                return self.lookup.provider(&table, AsOf::Current, about).map(Some);
            }
            // A table of this very name comes first, though it has an `@` in it.
            let Some((table, version)) = name.split_once('@') else { return Ok(None) };
            let Some(ident) = self.ident(table) else { return Ok(None) };
            match self.lookup.find(&ident).await? {
                Some((table, about)) => {
                    let as_of = version.into_as_of(&table)?;
                    self.lookup.provider(&table, as_of, about).map(Some)
                }
                None => Ok(None),
            }
        };
        found.await.map_err(to_datafusion)
    }

    /// Without a look at the table, which may be broken, or slow to load.
    async fn table_type(&self, name: &str) -> Result<Option<TableType>> {
        if let Some(table) = self.registered_table(name) {
            return Ok(Some(table.table_type()));
        }
        Ok(self.names.tables(&self.name).iter().any(|known| known == name).then_some(TableType::Base))
    }

    fn register_table(
        &self,
        name: String,
        table: Arc<dyn TableProvider>,
    ) -> Result<Option<Arc<dyn TableProvider>>> {
        if self.name != DEFAULT_SCHEMA {
            let message = "views, external and other tables of a session have names without a namespace; the catalog's namespaces \
                           hold its tables alone";
            let refused = Error::unsupported(message).with("name", format!("{}.{name}", self.name));
            return Err(to_datafusion(refused));
        }
        Ok(self.registered().entry(self.name.clone()).or_default().insert(name, table))
    }

    fn deregister_table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        Ok(self.registered().get_mut(&self.name).and_then(|tables| tables.remove(name)))
    }

    fn table_exist(&self, name: &str) -> bool {
        self.registered_table(name).is_some() || self.names.tables(&self.name).iter().any(|n| n == name)
    }
}
