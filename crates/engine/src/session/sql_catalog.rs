//! The catalog as DataFusion sees it. Tables are loaded when a query names them, so that each query reads fresh metadata.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};

use async_trait::async_trait;
use datafusion::catalog::{CatalogProvider, SchemaProvider, TableProvider};
use datafusion::common::{Result, exec_err};
use datafusion::datasource::TableType;
use icefield_core::catalog::TableIdent;
use icefield_core::{Error, ErrorKind};

use super::builder::DEFAULT_SCHEMA;
use super::{Inner, Session};
use crate::error::to_datafusion;
use crate::metadata_tables::MetadataTable;
use crate::table::Table;

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
pub(super) struct SqlCatalog {
    session: Weak<Inner>,
    names: Arc<Names>,
    registered: Registered,
}

impl SqlCatalog {
    pub(super) fn new(session: Weak<Inner>, names: Arc<Names>) -> Self {
        Self { session, names, registered: Registered::default() }
    }
}

impl fmt::Debug for SqlCatalog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqlCatalog").finish_non_exhaustive()
    }
}

impl CatalogProvider for SqlCatalog {
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
            session: self.session.clone(),
            names: self.names.clone(),
            registered: self.registered.clone(),
        }))
    }
}

struct Namespace {
    name: String,
    session: Weak<Inner>,
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

/// The table that a name means, and what is asked about it: of `t$files` the table `t`, unless one has this very name. A look at
/// the catalog, or two.
pub(crate) async fn find(
    session: &Session,
    ident: &TableIdent,
) -> icefield_core::Result<Option<(Table, Option<MetadataTable>)>> {
    if let Some(table) = load(session, ident).await? {
        return Ok(Some((table, None)));
    }
    let Some((table, about)) = MetadataTable::split(ident.name()) else { return Ok(None) };
    let ident = TableIdent::new(ident.namespace().clone(), table.to_string());
    Ok(load(session, &ident).await?.map(|table| (table, Some(about))))
}

async fn load(session: &Session, ident: &TableIdent) -> icefield_core::Result<Option<Table>> {
    match session.load(ident).await {
        Ok(table) => Ok(Some(table)),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

fn provider(table: &Table, about: Option<MetadataTable>) -> icefield_core::Result<Arc<dyn TableProvider>> {
    Ok(match about {
        Some(about) => table.metadata_provider(about)?,
        None => table.provider()?,
    })
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
        let Some(session) = self.session.upgrade().map(Session::from_inner) else {
            return exec_err!("the session of this catalog is closed");
        };
        let found = async {
            let Some(ident) = self.ident(name) else { return Ok(None) };
            if let Some((table, about)) = find(&session, &ident).await? {
                return provider(&table, about).map(Some);
            }
            // A table of this very name comes first, though it has an `@` in it.
            let Some((table, version)) = name.split_once('@') else { return Ok(None) };
            let Some(ident) = self.ident(table) else { return Ok(None) };
            match find(&session, &ident).await? {
                Some((table, about)) => provider(&table.as_of(version)?, about).map(Some),
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
