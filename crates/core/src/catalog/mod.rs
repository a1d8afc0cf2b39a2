//! Where tables are registered: the [`Catalog`] trait, and [`MemoryCatalog`] as its reference implementation.
//!
//! A catalog keeps namespaces and, for each table, one pointer: the location of its current metadata file. A commit is a
//! compare-and-swap of that pointer. Only the commit module calls [`Catalog::commit`]; everything else that a commit
//! needs (manifests, validation, retries) is settled before and after it.

mod bridge;
mod cache;
mod clocks;
mod memory;
mod metadata_file;
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
pub use cache::MetadataCache;
pub use memory::MemoryCatalog;
pub use metadata_file::{
    FOLDER_PROPERTIES, StagedMetadata, no_metadata_file, registered, stage_commit, stage_create,
};
pub(crate) use metadata_file::{apply_updates, write_first};

/// One table's part of a commit: what must hold of its current metadata, and what changes.
#[derive(Debug, Clone)]
pub struct CommitRequest {
    /// The table.
    pub ident: TableIdent,
    /// The location of the metadata that must be current, where the updates were worked out from the whole of it, else the
    /// outcome is [`CommitOutcome::Conflict`]. Without it they are applied to what others made of the table meanwhile.
    pub base: Option<String>,
    /// What must hold of the current metadata, else the outcome is [`CommitOutcome::Conflict`].
    pub requirements: Vec<TableRequirement>,
    /// What changes, in order.
    pub updates: Vec<TableUpdate>,
}

/// What became of a commit. There is no fourth case: a catalog that cannot tell answers [`CommitOutcome::Unknown`].
#[derive(Debug)]
pub enum CommitOutcome {
    /// The pointers moved. The new tables, in the order of the requests.
    Done(Vec<Table>),
    /// Nothing changed: a requirement did not hold, or another writer was first. Reload, validate and try again.
    Conflict(Error),
    /// Nothing changed. Trying again won't help (no such table, no permission, an update that can't be applied) unless the
    /// error [is retryable](Error::is_retryable): the catalog or a store did not answer before anything was published.
    Failed(Error),
    /// The answer was lost. The commit may have happened: delete nothing, look at the table's history.
    Unknown(Error),
}

/// Namespaces and tables by name.
///
/// # Cancel safety
/// A dropped future leaves the catalog as it was or as the call would have left it, and at most files that nothing names.
#[async_trait]
pub trait Catalog: Debug + Send + Sync {
    /// The catalog's name, as users registered it.
    fn name(&self) -> &str;

    /// The stores that the service configured for this catalog, for files that are no table's. A table's files are reached by
    /// [`Table::storage`]: a catalog may lend credentials for each table.
    fn storage(&self) -> &Storage;

    /// The source of time and ids.
    fn clock(&self) -> &Arc<dyn Clock>;

    /// The namespaces directly under `parent`, or the top-level ones.
    async fn list_namespaces(&self, parent: Option<&NamespaceIdent>) -> Result<Vec<NamespaceIdent>>;

    /// Creates a namespace, and the namespaces above it that do not exist.
    ///
    /// # Errors
    /// [`AlreadyExists`](crate::ErrorKind::AlreadyExists); [`InvalidInput`](crate::ErrorKind::InvalidInput) for a name that
    /// [`check_namespace`] refuses.
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
    /// [`NotFound`](crate::ErrorKind::NotFound); [`InvalidInput`](crate::ErrorKind::InvalidInput) for a key that is both set
    /// and removed.
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

    /// The location that a new table of this name gets unless it is given one: the namespace's `location` property or
    /// `{warehouse}/{namespace}`, followed by its name, and by `-` and an id where another table of the catalog lies there: one
    /// that had this name before it was renamed.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound) for the namespace.
    async fn new_location(&self, ident: &TableIdent) -> Result<String>;

    /// Creates an empty table, at [`Catalog::new_location`] unless its location is given.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound) for the namespace, [`AlreadyExists`](crate::ErrorKind::AlreadyExists),
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for a name that [`check_ident`] refuses.
    async fn create_table(&self, namespace: &NamespaceIdent, creation: TableCreation) -> Result<Table>;

    /// Loads a table's current metadata. One look at the pointer and, unless that is cached, one read.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound) for a table that the catalog does not have;
    /// [`DataInvalid`](crate::ErrorKind::DataInvalid) for one whose metadata file is missing or corrupt.
    async fn load_table(&self, ident: &TableIdent) -> Result<Table>;

    /// Takes a table out of the catalog. Its files stay, for [`Catalog::register_table`] or for deletion.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound); [`CommitStateUnknown`](crate::ErrorKind::CommitStateUnknown) where an answer was
    /// lost and the name has other metadata by now: it may be another table's, which is left alone.
    async fn drop_table(&self, ident: &TableIdent) -> Result<()>;

    /// Renames a table, to another namespace too. Its files stay where they are. To its own name: nothing happens.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound) for the table or the new namespace,
    /// [`AlreadyExists`](crate::ErrorKind::AlreadyExists) for the new name;
    /// [`CommitStateUnknown`](crate::ErrorKind::CommitStateUnknown) where an answer was lost and one of the names has other
    /// metadata by now.
    async fn rename_table(&self, from: &TableIdent, to: &TableIdent) -> Result<()>;

    /// Registers a table by the location of its metadata file, if the catalog has none of this name.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound) for the file or the namespace,
    /// [`AlreadyExists`](crate::ErrorKind::AlreadyExists); [`CommitStateUnknown`](crate::ErrorKind::CommitStateUnknown) where an
    /// answer was lost: the table may be registered. After any other error it is not.
    async fn register_table(&self, ident: &TableIdent, metadata_location: &str) -> Result<Table>;

    /// Commits to several tables at once, all or nothing. Each table may be named once.
    async fn commit(&self, requests: Vec<CommitRequest>) -> CommitOutcome;

    /// True if the current metadata file of another table than `ident` lies in a folder, whatever form its location is written in.
    /// By default every table is loaded, to see.
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

    /// Whether a namespace exists.
    async fn namespace_exists(&self, namespace: &NamespaceIdent) -> Result<bool> {
        found(self.namespace_properties(namespace).await)
    }

    /// Whether a table exists.
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
    Error::new(ErrorKind::AlreadyExists, "the table exists; drop it, or choose another name")
        .with("table", ident)
}

/// A table to be, as [`Catalog::create_table`] would create it, which no catalog has yet. Nothing is written: data files are
/// written for it, and the first [`Transaction`](crate::commit::Transaction) that is committed creates it together with
/// what the transaction adds.
///
/// # Errors
/// As [`Catalog::create_table`]. A name that is free now may be taken by the time of the commit.
pub async fn new_table(
    catalog: &dyn Catalog,
    namespace: &NamespaceIdent,
    creation: TableCreation,
) -> Result<Table> {
    let ident = TableIdent::new(namespace.clone(), creation.name.clone());
    check_ident(&ident)?;
    if catalog.table_exists(&ident).await? {
        return Err(exists(&ident));
    }
    let location = catalog.new_location(&ident).await?;
    let metadata = metadata_file::created(&**catalog.clock(), &ident, creation, || location)?;
    Ok(Table::not_yet(ident, Arc::new(metadata), catalog.storage().clone()))
}

/// Checks that every level of a namespace can be stored and be part of a location: no level is empty or has a dot, a slash
/// or a control character.
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

/// Checks a table's namespace as [`check_namespace`] does, and its name: not empty, no slash or control character, not `.`
/// or `..`.
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

/// The location that a new table gets unless it is given one: under its namespace's `location` property, or under
/// `{warehouse}/{namespace}`.
pub fn default_location(warehouse: &str, ident: &TableIdent, namespace_location: Option<&str>) -> String {
    let folder = match namespace_location {
        Some(location) => location.to_string(),
        None => join(warehouse, &ident.namespace().as_ref().join("/")),
    };
    join(&folder, ident.name())
}

/// Fails when a commit names a table twice: the second request would undo the first.
///
/// # Errors
/// [`InvalidInput`](crate::ErrorKind::InvalidInput).
pub fn check_requests(requests: &[CommitRequest]) -> Result<()> {
    let mut seen = std::collections::HashSet::new();
    match requests.iter().find(|request| !seen.insert(&request.ident)) {
        Some(twice) => {
            Err(Error::invalid_input("a commit names each table once; join its updates in one request")
                .with("table", &twice.ident))
        }
        None => Ok(()),
    }
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
