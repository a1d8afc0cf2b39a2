//! [`IcebergCatalog`]: any [`Catalog`] as an `iceberg::Catalog`, for crates that are built on the `iceberg` crate.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use futures::future::BoxFuture;
use iceberg::{Namespace, NamespaceIdent, Runtime, TableCommit, TableCreation, TableIdent, TableUpdate};

use super::{Catalog, CommitOutcome, CommitRequest, Expect};
use crate::error::{Error, ErrorKind, Result};
use crate::format::members::carrying;
use crate::format::{first_foreign, primitive_text};
use crate::table::Table;

/// A catalog of ours behind `iceberg`'s trait. What is committed through it is not validated beyond its requirements:
/// `iceberg`'s own transactions only append. Tables with columns of types, or with defaults, that `iceberg` does not hold are
/// `Unsupported`; other members of columns that it does not know stay with them.
#[derive(Clone)]
pub struct IcebergCatalog {
    catalog: Arc<dyn Catalog>,
    purge: Option<PurgeTable>,
}

/// Takes a table out of its catalog and deletes its files.
type PurgeTable = Arc<dyn Fn(Table) -> BoxFuture<'static, Result<()>> + Send + Sync>;

impl fmt::Debug for IcebergCatalog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("IcebergCatalog").field(&self.catalog).finish()
    }
}

impl IcebergCatalog {
    /// Wraps a catalog. Its tables can be dropped but not purged: deleting files is maintenance, which gives a catalog that
    /// can with `icefield_maintenance::iceberg_catalog`.
    pub fn new(catalog: Arc<dyn Catalog>) -> Self {
        Self { catalog, purge: None }
    }

    /// Has tables purged so.
    pub fn with_purge(
        mut self,
        purge: impl Fn(Table) -> BoxFuture<'static, Result<()>> + Send + Sync + 'static,
    ) -> Self {
        self.purge = Some(Arc::new(purge));
        self
    }
}

impl IcebergCatalog {
    /// Gives the columns of schemas that a request adds what their descriptions carry here, and expects the table to be as it was
    /// when it was looked at for that.
    async fn complete(&self, request: &mut CommitRequest) -> Result<()> {
        if !request.updates.iter().any(|update| matches!(update, TableUpdate::AddSchema { .. })) {
            return Ok(());
        }
        let table = self.catalog.load_table(&request.ident).await?;
        let metadata = table.metadata();
        let mut schemas: Vec<_> = metadata.schemas_iter().collect();
        schemas.sort_by_key(|schema| {
            let id = schema.schema_id();
            (id != metadata.current_schema_id(), std::cmp::Reverse(id))
        });
        for update in &mut request.updates {
            if let TableUpdate::AddSchema { schema } = update {
                *schema = carrying(schema, |id| schemas.iter().find_map(|schema| schema.field_by_id(id)))?;
            }
        }
        let whole = Expect::whole(&table, self.catalog.guarantees());
        request.expect = match (std::mem::replace(&mut request.expect, whole.clone()), whole) {
            (Expect::Requirements(theirs), Expect::Requirements(ours)) => {
                Expect::Requirements([theirs, ours].concat())
            }
            (Expect::Requirements(theirs), whole) => {
                for requirement in theirs {
                    requirement.check(Some(metadata)).map_err(|e| {
                        Error::conflict(e.to_string()).with("table", table.ident()).with_source(e)
                    })?;
                }
                whole
            }
            (expect, _) => expect,
        };
        Ok(())
    }
}

/// An error in `iceberg`'s kinds, which tell tables and namespaces apart: code above matches on them.
fn their_error(error: Error) -> iceberg::Error {
    use iceberg::ErrorKind as Their;
    let about = error.context().map(|(key, _)| key).find(|key| ["table", "namespace", "file"].contains(key));
    let kind = match (error.kind(), about) {
        (ErrorKind::NotFound, Some("table")) => Their::TableNotFound,
        (ErrorKind::NotFound, Some("namespace")) => Their::NamespaceNotFound,
        (ErrorKind::AlreadyExists, Some("table")) => Their::TableAlreadyExists,
        (ErrorKind::AlreadyExists, Some("namespace")) => Their::NamespaceAlreadyExists,
        _ => return error.into(),
    };
    iceberg::Error::new(kind, error.to_string()).with_source(error)
}

fn theirs(table: Table) -> iceberg::Result<iceberg::table::Table> {
    // What stands in for these types in a schema must not come into files that `iceberg` writes by itself.
    let foreign = table.metadata().schemas_iter().find_map(|schema| first_foreign(schema));
    if let Some((column, of)) = foreign {
        return Err(Error::unsupported(
            "the iceberg crate does not know the type of a column; open the table through icefield",
        )
        .with("table", table.ident())
        .with("column", column)
        .with("type", primitive_text(&of))
        .into());
    }
    iceberg::table::Table::builder()
        .file_io(table.storage().file_io())
        .metadata_location(table.metadata_location())
        .metadata(table.whole().plain().map_err(|e| e.with("table", table.ident()))?)
        .identifier(table.ident().clone())
        .runtime(Runtime::try_current()?)
        .build()
}

#[async_trait]
impl iceberg::Catalog for IcebergCatalog {
    async fn list_namespaces(&self, parent: Option<&NamespaceIdent>) -> iceberg::Result<Vec<NamespaceIdent>> {
        self.catalog.list_namespaces(parent).await.map_err(their_error)
    }

    async fn create_namespace(
        &self,
        namespace: &NamespaceIdent,
        properties: HashMap<String, String>,
    ) -> iceberg::Result<Namespace> {
        self.catalog.create_namespace(namespace, properties.clone()).await.map_err(their_error)?;
        Ok(Namespace::with_properties(namespace.clone(), properties))
    }

    async fn get_namespace(&self, namespace: &NamespaceIdent) -> iceberg::Result<Namespace> {
        let properties = self.catalog.namespace_properties(namespace).await.map_err(their_error)?;
        Ok(Namespace::with_properties(namespace.clone(), properties))
    }

    async fn namespace_exists(&self, namespace: &NamespaceIdent) -> iceberg::Result<bool> {
        self.catalog.namespace_exists(namespace).await.map_err(their_error)
    }

    async fn update_namespace(
        &self,
        namespace: &NamespaceIdent,
        properties: HashMap<String, String>,
    ) -> iceberg::Result<()> {
        // iceberg's form replaces all properties.
        let old = self.catalog.namespace_properties(namespace).await.map_err(their_error)?;
        let remove = old.into_keys().filter(|key| !properties.contains_key(key)).collect();
        self.catalog.update_namespace(namespace, properties, remove).await.map_err(their_error)
    }

    async fn drop_namespace(&self, namespace: &NamespaceIdent) -> iceberg::Result<()> {
        self.catalog.drop_namespace(namespace).await.map_err(their_error)
    }

    async fn list_tables(&self, namespace: &NamespaceIdent) -> iceberg::Result<Vec<TableIdent>> {
        self.catalog.list_tables(namespace).await.map_err(their_error)
    }

    async fn create_table(
        &self,
        namespace: &NamespaceIdent,
        creation: TableCreation,
    ) -> iceberg::Result<iceberg::table::Table> {
        let mut creation = creation;
        creation.schema = carrying(&creation.schema, |_| None)?;
        theirs(self.catalog.create_table(namespace, creation).await.map_err(their_error)?)
    }

    async fn load_table(&self, table: &TableIdent) -> iceberg::Result<iceberg::table::Table> {
        theirs(self.catalog.load_table(table).await.map_err(their_error)?)
    }

    async fn drop_table(&self, table: &TableIdent) -> iceberg::Result<()> {
        self.catalog.drop_table(table).await.map_err(their_error)
    }

    async fn purge_table(&self, table: &TableIdent) -> iceberg::Result<()> {
        let Some(purge) = &self.purge else {
            return Err(Error::unsupported(
                "this catalog drops tables and keeps their files; purge with icefield_maintenance, whose iceberg_catalog can",
            )
            .with("table", table)
            .into());
        };
        let table = self.catalog.load_table(table).await.map_err(their_error)?;
        purge(table).await.map_err(their_error)
    }

    async fn table_exists(&self, table: &TableIdent) -> iceberg::Result<bool> {
        self.catalog.table_exists(table).await.map_err(their_error)
    }

    async fn rename_table(&self, src: &TableIdent, dest: &TableIdent) -> iceberg::Result<()> {
        self.catalog.rename_table(src, dest).await.map_err(their_error)
    }

    async fn register_table(
        &self,
        table: &TableIdent,
        metadata_location: String,
    ) -> iceberg::Result<iceberg::table::Table> {
        theirs(self.catalog.register_table(table, &metadata_location).await.map_err(their_error)?)
    }

    async fn update_table(&self, mut commit: TableCommit) -> iceberg::Result<iceberg::table::Table> {
        let mut request = CommitRequest {
            ident: commit.identifier().clone(),
            expect: Expect::Requirements(commit.take_requirements()),
            updates: commit.take_updates(),
        };
        match self.complete(&mut request).await {
            Err(e) if e.kind() == ErrorKind::Conflict => {
                return Err(iceberg::Error::from(e).with_retryable(true));
            }
            completed => completed.map_err(their_error)?,
        }
        match self.catalog.commit(vec![request]).await {
            CommitOutcome::Done(mut tables) => match tables.pop() {
                Some(table) => theirs(table),
                None => Err(crate::Error::internal("a commit gave no table").into()),
            },
            CommitOutcome::Conflict(e) => Err(iceberg::Error::from(e).with_retryable(true)),
            CommitOutcome::Failed(e) | CommitOutcome::Unknown(e) => Err(their_error(e)),
        }
    }
}
