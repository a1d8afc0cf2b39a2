//! Namespaces and tables of a session's catalog, by dotted names: listed, created, renamed and dropped.

use std::collections::HashMap;

use datafusion::logical_expr::ScalarUDF;
use icefield_core::catalog::{NamespaceIdent, TableIdent, parse_ident};
use icefield_core::{Error, Result};

use super::Session;

impl Session {
    /// The namespaces directly under `parent`, or the top-level ones.
    ///
    /// # Errors
    /// [`NotFound`](icefield_core::ErrorKind::NotFound) for a parent that there is not.
    pub async fn namespaces(&self, parent: Option<&str>) -> Result<Vec<NamespaceIdent>> {
        let parent = parent.map(parse_namespace).transpose()?;
        self.catalog().list_namespaces(parent.as_ref()).await
    }

    /// Creates a namespace, and the namespaces above it that are absent.
    ///
    /// # Errors
    /// [`AlreadyExists`](icefield_core::ErrorKind::AlreadyExists).
    pub async fn create_namespace(&self, name: &str) -> Result<()> {
        self.catalog().create_namespace(&parse_namespace(name)?, HashMap::new()).await
    }

    /// Drops an empty namespace.
    ///
    /// # Errors
    /// [`InvalidInput`](icefield_core::ErrorKind::InvalidInput) while tables or namespaces are in it.
    pub async fn drop_namespace(&self, name: &str) -> Result<()> {
        self.catalog().drop_namespace(&parse_namespace(name)?).await
    }

    /// The tables directly in a namespace, by name.
    ///
    /// # Errors
    /// [`NotFound`](icefield_core::ErrorKind::NotFound) for the namespace.
    pub async fn tables(&self, namespace: &str) -> Result<Vec<TableIdent>> {
        self.catalog().list_tables(&parse_namespace(namespace)?).await
    }

    /// True if the catalog has a table of this dotted name.
    pub async fn table_exists(&self, name: &str) -> Result<bool> {
        self.catalog().table_exists(&parse_ident(name)?).await
    }

    /// Takes a table out of the catalog. Its files stay, to be registered again or deleted: `maintenance::purge_table` drops a
    /// table with its files.
    ///
    /// # Errors
    /// [`NotFound`](icefield_core::ErrorKind::NotFound).
    pub async fn drop_table(&self, name: &str) -> Result<()> {
        self.catalog().drop_table(&parse_ident(name)?).await
    }

    /// Renames a table, to another namespace too. Its files stay where they are.
    ///
    /// # Errors
    /// [`NotFound`](icefield_core::ErrorKind::NotFound) for the table or the new namespace,
    /// [`AlreadyExists`](icefield_core::ErrorKind::AlreadyExists) for the new name.
    pub async fn rename_table(&self, from: &str, to: &str) -> Result<()> {
        self.catalog().rename_table(&parse_ident(from)?, &parse_ident(to)?).await
    }

    /// Makes a function known to SQL. One of the same name is replaced.
    pub fn register_udf(&self, function: ScalarUDF) {
        self.context().register_udf(function);
    }
}

/// A dotted name as a namespace: `a.b` is namespace `b` in `a`.
fn parse_namespace(name: &str) -> Result<NamespaceIdent> {
    let parts: Vec<String> = name.split('.').map(str::to_string).collect();
    if parts.iter().any(String::is_empty) {
        return Err(Error::invalid_input("a namespace's name has no empty parts").with("namespace", name));
    }
    Ok(NamespaceIdent::from_vec(parts)?)
}
