//! Where tables are registered: the [`Catalog`] trait, and [`MemoryCatalog`] as its reference implementation.
//!
//! A catalog keeps namespaces and tables. Some keep for each table a pointer, the location of its current
//! metadata file: [`mod@pointer`] makes a catalog of any place where strings can be compared and swapped. Others
//! keep the metadata itself, behind a service that writes the files. [`Catalog::guarantees`] says what a
//! catalog can do, [`Expect`] what a commit asks of it. Only the commit module calls [`Catalog::commit`];
//! everything else that a commit needs (manifests, validation, retries) is settled before and after it.

mod bridge;
mod cache;
mod clocks;
mod memory;
mod metadata_file;
pub mod pointer;
mod request;
mod void_fields;

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
pub use iceberg::{NamespaceIdent, TableCreation, TableIdent, TableRequirement, TableUpdate};

use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::storage::{Storage, join, same_location};
use crate::table::Table;

pub use bridge::IcebergCatalog;
pub use memory::{MemoryCatalog, MemoryPointers};
pub use metadata_file::FOLDER_PROPERTIES;
pub(crate) use metadata_file::apply_updates;
pub use request::{CommitOutcome, CommitRequest, Expect, Guarantees, check_requests};

/// Namespaces and tables by name.
///
/// # Cancel safety
/// A dropped future leaves the catalog as it was or as the call would have left it, and at most files that
/// nothing names.
#[async_trait]
pub trait Catalog: Debug + Send + Sync {
    /// The catalog's name, as users registered it.
    fn name(&self) -> &str;

    /// The stores that the service configured for this catalog, for files that are no table's. A table's
    /// files are reached by [`Table::storage`]: a catalog may lend credentials for each table.
    fn storage(&self) -> &Storage;

    /// The source of time and ids.
    fn clock(&self) -> &Arc<dyn Clock>;

    /// The catalog's promises beyond those of all catalogs.
    fn guarantees(&self) -> Guarantees;

    /// The namespaces directly under `parent`, or the top-level ones.
    async fn list_namespaces(&self, parent: Option<&NamespaceIdent>) -> Result<Vec<NamespaceIdent>>;

    /// Creates a namespace, and the namespaces above it that do not exist.
    ///
    /// # Errors
    /// [`AlreadyExists`](crate::ErrorKind::AlreadyExists); [`InvalidInput`](crate::ErrorKind::InvalidInput)
    /// for a name that [`check_namespace`] refuses.
    async fn create_namespace(
        &self,
        namespace: &NamespaceIdent,
        properties: HashMap<String, String>,
    ) -> Result<()>;

    /// A namespace's properties.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound).
    async fn namespace_properties(&self, namespace: &NamespaceIdent) -> Result<HashMap<String, String>>;

    /// Sets and removes properties of a namespace.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound); [`InvalidInput`](crate::ErrorKind::InvalidInput) for a key
    /// that is both set and removed.
    async fn update_namespace(
        &self,
        namespace: &NamespaceIdent,
        set: HashMap<String, String>,
        remove: Vec<String>,
    ) -> Result<()>;

    /// Drops an empty namespace.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) while tables or namespaces are in it.
    async fn drop_namespace(&self, namespace: &NamespaceIdent) -> Result<()>;

    /// The tables directly in a namespace, by name.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound) for the namespace.
    async fn list_tables(&self, namespace: &NamespaceIdent) -> Result<Vec<TableIdent>>;

    /// An uncommitted table: its id and location are settled, and its storage reaches that location, so that
    /// data files can be written. Nothing is visible. The first [`Transaction`](crate::commit::Transaction)
    /// that is committed to it creates it, together with what the transaction adds. The location is the
    /// catalog's to choose unless it is given.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound) for the namespace,
    /// [`AlreadyExists`](crate::ErrorKind::AlreadyExists), [`InvalidInput`](crate::ErrorKind::InvalidInput)
    /// for a name that [`check_ident`] refuses. A name that is free now may be taken by the time of the
    /// commit.
    async fn stage_table(&self, namespace: &NamespaceIdent, creation: TableCreation) -> Result<Table>;

    /// Creates an empty table.
    ///
    /// # Errors
    /// As [`Catalog::stage_table`]; [`CommitStateUnknown`](crate::ErrorKind::CommitStateUnknown) where an
    /// answer was lost: the table may be there.
    async fn create_table(&self, namespace: &NamespaceIdent, creation: TableCreation) -> Result<Table> {
        let staged = self.stage_table(namespace, creation).await?;
        let (ident, expect) = (staged.ident().clone(), Expect::Absent(staged));
        match self.commit(vec![CommitRequest { ident, expect, updates: Vec::new() }]).await {
            CommitOutcome::Done(mut tables) => {
                tables.pop().ok_or_else(|| Error::internal("a commit gave no table"))
            }
            CommitOutcome::Conflict(e) | CommitOutcome::Failed(e) | CommitOutcome::Unknown(e) => Err(e),
        }
    }

    /// Loads a table's current metadata. One look at the pointer and, unless that is cached, one read.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound) for a table that the catalog does not have;
    /// [`DataInvalid`](crate::ErrorKind::DataInvalid) for one whose metadata file is missing or corrupt.
    async fn load_table(&self, ident: &TableIdent) -> Result<Table>;

    /// Takes a table out of the catalog. Its files stay, for [`Catalog::register_table`] or for deletion.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound); [`CommitStateUnknown`](crate::ErrorKind::CommitStateUnknown)
    /// where an answer was lost and the name has other metadata by now: it may be another table's, which is
    /// left alone.
    async fn drop_table(&self, ident: &TableIdent) -> Result<()>;

    /// Renames a table, to another namespace too. Its files stay where they are. To its own name: nothing
    /// happens.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound) for the table or the new namespace,
    /// [`AlreadyExists`](crate::ErrorKind::AlreadyExists) for the new name;
    /// [`CommitStateUnknown`](crate::ErrorKind::CommitStateUnknown) where an answer was lost and one of the
    /// names has other metadata by now.
    async fn rename_table(&self, from: &TableIdent, to: &TableIdent) -> Result<()>;

    /// Registers a table by the location of its metadata file, if the catalog has none of this name.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound) for the file or the namespace,
    /// [`AlreadyExists`](crate::ErrorKind::AlreadyExists);
    /// [`CommitStateUnknown`](crate::ErrorKind::CommitStateUnknown) where an answer was lost: the table may
    /// be registered. After any other error it is not.
    async fn register_table(&self, ident: &TableIdent, metadata_location: &str) -> Result<Table>;

    /// Commits to several tables at once, all or nothing, where the catalog
    /// [can](Guarantees::several_tables). Each table may be named once. The error of an
    /// [unknown](CommitOutcome::Unknown) outcome is of the kind
    /// [`CommitStateUnknown`](crate::ErrorKind::CommitStateUnknown).
    async fn commit(&self, requests: Vec<CommitRequest>) -> CommitOutcome;

    /// True if the current metadata file of another table than `ident` lies in a folder, whatever form its
    /// location is written in. By default every table is loaded, to see.
    async fn is_shared(&self, folder: &str, ident: &TableIdent) -> Result<bool> {
        let mut namespaces: Vec<Option<NamespaceIdent>> = vec![None];
        while let Some(parent) = namespaces.pop() {
            if let Some(namespace) = &parent {
                for other in self.list_tables(namespace).await? {
                    if other != *ident && lies_in(self.load_table(&other).await?.metadata_location(), folder)
                    {
                        return Ok(true);
                    }
                }
            }
            namespaces.extend(self.list_namespaces(parent.as_ref()).await?.into_iter().map(Some));
        }
        Ok(false)
    }

    /// True if a namespace exists.
    async fn namespace_exists(&self, namespace: &NamespaceIdent) -> Result<bool> {
        found(self.namespace_properties(namespace).await)
    }

    /// True if a table exists.
    async fn table_exists(&self, ident: &TableIdent) -> Result<bool> {
        found(self.load_table(ident).await)
    }
}

/// True if a file lies in a folder, not in one below it, whatever form each is written in.
pub fn lies_in(file: &str, folder: &str) -> bool {
    let own = file.rsplit_once('/').map_or("", |(folder, _)| folder).trim_end_matches('/');
    same_location(own, folder.trim_end_matches('/'))
}

fn found<T>(result: Result<T>) -> Result<bool> {
    match result {
        Ok(_) => Ok(true),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    }
}

pub(crate) fn exists(ident: &TableIdent) -> Error {
    Error::new(
        ErrorKind::AlreadyExists,
        "a table or view of this name exists; drop it, or choose another name",
    )
    .with("table", ident)
}

/// Checks that every level of a namespace can be stored and be part of a location: no level is empty or has a
/// dot, a slash or a control character.
///
/// # Errors
/// [`InvalidInput`](crate::ErrorKind::InvalidInput).
pub fn check_namespace(namespace: &NamespaceIdent) -> Result<()> {
    let bad = |level: &String| {
        level.is_empty() || level.contains(['.', '/', '\\']) || level.contains(char::is_control)
    };
    if namespace.is_empty() || namespace.iter().any(bad) {
        return Err(Error::invalid_input(
            "a namespace's levels are not empty and have no dots, slashes and control characters",
        )
        .with("namespace", namespace));
    }
    Ok(())
}

/// Checks a table's namespace as [`check_namespace`] does, and its name: not empty, no slash or control
/// character, not `.` or `..`.
///
/// # Errors
/// [`InvalidInput`](crate::ErrorKind::InvalidInput).
pub fn check_ident(ident: &TableIdent) -> Result<()> {
    check_namespace(ident.namespace())?;
    let name = ident.name();
    if name.trim_matches('.').is_empty() || name.contains(['/', '\\']) || name.contains(char::is_control) {
        return Err(Error::invalid_input(
            "a table's name is not empty or only dots, and has no slashes and control characters",
        )
        .with("table", ident));
    }
    Ok(())
}

/// The location that a new table gets unless it is given one: under its namespace's `location` property, or
/// under `{warehouse}/{namespace}`.
pub fn default_location(warehouse: &str, ident: &TableIdent, namespace_location: Option<&str>) -> String {
    let folder = match namespace_location {
        Some(location) => location.to_string(),
        None => join(warehouse, &ident.namespace().as_ref().join("/")),
    };
    join(&folder, ident.name())
}

/// The namespace of a dotted name and the rest: `a.b.t` is table `t` in namespace `a.b`.
///
/// # Errors
/// [`InvalidInput`](crate::ErrorKind::InvalidInput) without a namespace or with an empty part.
pub fn parse_ident(name: &str) -> Result<TableIdent> {
    let parts: Vec<&str> = name.split('.').collect();
    if parts.len() < 2 || parts.iter().any(|part| part.is_empty()) {
        return Err(Error::invalid_input("a table is named namespace.table").with("table", name));
    }
    Ok(TableIdent::from_strs(parts)?)
}
