//! [`IcebergCatalog`]: any [`Catalog`] as an `iceberg::Catalog`, for crates that are built on the `iceberg` crate.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use iceberg::{Namespace, NamespaceIdent, Runtime, TableCommit, TableCreation, TableIdent};

use super::{Catalog, CommitOutcome, CommitRequest};
use crate::table::Table;

/// A catalog of ours behind `iceberg`'s trait. What is committed through it is not validated beyond its requirements:
/// `iceberg`'s own transactions only append.
#[derive(Debug, Clone)]
pub struct IcebergCatalog(Arc<dyn Catalog>);

impl IcebergCatalog {
    /// Wraps a catalog.
    pub fn new(catalog: Arc<dyn Catalog>) -> Self {
        Self(catalog)
    }
}

fn theirs(table: Table) -> iceberg::Result<iceberg::table::Table> {
    iceberg::table::Table::builder()
        .file_io(table.storage().file_io())
        .metadata_location(table.metadata_location())
        .metadata(table.metadata_ref())
        .identifier(table.ident().clone())
        .runtime(Runtime::try_current()?)
        .build()
}

#[async_trait]
impl iceberg::Catalog for IcebergCatalog {
    async fn list_namespaces(&self, parent: Option<&NamespaceIdent>) -> iceberg::Result<Vec<NamespaceIdent>> {
        Ok(self.0.list_namespaces(parent).await?)
    }

    async fn create_namespace(
        &self,
        namespace: &NamespaceIdent,
        properties: HashMap<String, String>,
    ) -> iceberg::Result<Namespace> {
        self.0.create_namespace(namespace, properties.clone()).await?;
        Ok(Namespace::with_properties(namespace.clone(), properties))
    }

    async fn get_namespace(&self, namespace: &NamespaceIdent) -> iceberg::Result<Namespace> {
        let properties = self.0.namespace_properties(namespace).await?;
        Ok(Namespace::with_properties(namespace.clone(), properties))
    }

    async fn namespace_exists(&self, namespace: &NamespaceIdent) -> iceberg::Result<bool> {
        Ok(self.0.namespace_exists(namespace).await?)
    }

    async fn update_namespace(
        &self,
        namespace: &NamespaceIdent,
        properties: HashMap<String, String>,
    ) -> iceberg::Result<()> {
        // iceberg's form replaces all properties.
        let old = self.0.namespace_properties(namespace).await?;
        let remove = old.into_keys().filter(|key| !properties.contains_key(key)).collect();
        Ok(self.0.update_namespace(namespace, properties, remove).await?)
    }

    async fn drop_namespace(&self, namespace: &NamespaceIdent) -> iceberg::Result<()> {
        Ok(self.0.drop_namespace(namespace).await?)
    }

    async fn list_tables(&self, namespace: &NamespaceIdent) -> iceberg::Result<Vec<TableIdent>> {
        Ok(self.0.list_tables(namespace).await?)
    }

    async fn create_table(
        &self,
        namespace: &NamespaceIdent,
        creation: TableCreation,
    ) -> iceberg::Result<iceberg::table::Table> {
        theirs(self.0.create_table(namespace, creation).await?)
    }

    async fn load_table(&self, table: &TableIdent) -> iceberg::Result<iceberg::table::Table> {
        theirs(self.0.load_table(table).await?)
    }

    async fn drop_table(&self, table: &TableIdent) -> iceberg::Result<()> {
        Ok(self.0.drop_table(table).await?)
    }

    async fn purge_table(&self, table: &TableIdent) -> iceberg::Result<()> {
        Err(crate::Error::unsupported(
            "purging goes through the maintenance crate; drop_table keeps the files",
        )
        .with("table", table)
        .into())
    }

    async fn table_exists(&self, table: &TableIdent) -> iceberg::Result<bool> {
        Ok(self.0.table_exists(table).await?)
    }

    async fn rename_table(&self, src: &TableIdent, dest: &TableIdent) -> iceberg::Result<()> {
        Ok(self.0.rename_table(src, dest).await?)
    }

    async fn register_table(
        &self,
        table: &TableIdent,
        metadata_location: String,
    ) -> iceberg::Result<iceberg::table::Table> {
        theirs(self.0.register_table(table, &metadata_location).await?)
    }

    async fn update_table(&self, mut commit: TableCommit) -> iceberg::Result<iceberg::table::Table> {
        let request = CommitRequest {
            ident: commit.identifier().clone(),
            requirements: commit.take_requirements(),
            updates: commit.take_updates(),
        };
        match self.0.commit(vec![request]).await {
            CommitOutcome::Done(mut tables) => match tables.pop() {
                Some(table) => theirs(table),
                None => Err(crate::Error::internal("a commit gave no table").into()),
            },
            CommitOutcome::Conflict(e) => Err(iceberg::Error::from(e).with_retryable(true)),
            CommitOutcome::Failed(e) | CommitOutcome::Unknown(e) => Err(e.into()),
        }
    }
}
