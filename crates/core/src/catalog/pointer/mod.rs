//! Catalogs that keep pointers: for each table the location of its current metadata file, and nothing else of
//! it.
//!
//! [`Pointers`] is what differs from place to place: namespaces, and a compare-and-swap of strings.
//! [`PointerCatalog`] is what does not: staging tables, writing the next metadata file, the cache of parsed
//! files, checking where tables may lie, and settling swaps whose answer was lost.
//!
//! Deletes metadata files that a commit wrote, after an answer by which no pointer ever named them.
//! From an unknown answer on, nothing.

mod catalog;
mod commit;

use std::collections::HashMap;
use std::fmt::Debug;

use async_trait::async_trait;
use iceberg::{NamespaceIdent, TableIdent};

pub use catalog::{KeepsPointers, PointerCatalog};

use crate::error::{Error, Result};

/// Namespaces, and a pointer for each table. What is passing (locks, a broken connection) is tried again
/// inside.
///
/// # Cancel safety
/// A dropped future leaves the pointers as they were or as the call would have left them.
#[async_trait]
pub trait Pointers: Debug + Send + Sync {
    /// The catalog's name.
    fn name(&self) -> &str;

    /// True if [`swap`](Self::swap) takes several moves. Otherwise it is never asked for more than one.
    fn swaps_several(&self) -> bool;

    /// As [`Catalog::list_namespaces`](super::Catalog::list_namespaces).
    async fn list_namespaces(&self, parent: Option<&NamespaceIdent>) -> Result<Vec<NamespaceIdent>>;

    /// As [`Catalog::create_namespace`](super::Catalog::create_namespace), of a name that was checked.
    async fn create_namespace(
        &self,
        namespace: &NamespaceIdent,
        properties: HashMap<String, String>,
    ) -> Result<()>;

    /// As [`Catalog::namespace_properties`](super::Catalog::namespace_properties).
    async fn namespace_properties(&self, namespace: &NamespaceIdent) -> Result<HashMap<String, String>>;

    /// As [`Catalog::update_namespace`](super::Catalog::update_namespace), of keys that are either set or
    /// removed.
    async fn update_namespace(
        &self,
        namespace: &NamespaceIdent,
        set: HashMap<String, String>,
        remove: Vec<String>,
    ) -> Result<()>;

    /// As [`Catalog::drop_namespace`](super::Catalog::drop_namespace).
    async fn drop_namespace(&self, namespace: &NamespaceIdent) -> Result<()>;

    /// As [`Catalog::namespace_exists`](super::Catalog::namespace_exists).
    async fn namespace_exists(&self, namespace: &NamespaceIdent) -> Result<bool>;

    /// As [`Catalog::list_tables`](super::Catalog::list_tables).
    async fn list_tables(&self, namespace: &NamespaceIdent) -> Result<Vec<TableIdent>>;

    /// A table's pointer; `None` where there is no table of the name.
    async fn get(&self, ident: &TableIdent) -> Result<Option<String>>;

    /// The tables whose pointer contains a text, with their pointers. Others may be among them.
    async fn containing(&self, text: &str) -> Result<Vec<(TableIdent, String)>>;

    /// Makes every move, or none. Each table is named once.
    async fn swap(&self, moves: &[Move]) -> Swapped;

    /// Takes a table out.
    ///
    /// # Errors
    /// As [`Catalog::drop_table`](super::Catalog::drop_table).
    async fn remove(&self, ident: &TableIdent) -> Result<()>;

    /// Gives a table another name, which was checked and is not its own.
    ///
    /// # Errors
    /// As [`Catalog::rename_table`](super::Catalog::rename_table).
    async fn rename(&self, from: &TableIdent, to: &TableIdent) -> Result<()>;
}

/// One pointer's part of a [swap](Pointers::swap).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Move {
    /// The table.
    pub ident: TableIdent,
    /// Where the pointer must be. `None`: there is nothing of the name, and there is its namespace.
    pub from: Option<String>,
    /// Where it is to be.
    pub to: String,
}

/// How a [swap](Pointers::swap) ended.
#[derive(Debug)]
pub enum Swapped {
    /// Every pointer moved.
    Done,
    /// None moved, as one was not where it must be. The error's kind is
    /// [`Conflict`](crate::ErrorKind::Conflict), for a name that is taken
    /// [`AlreadyExists`](crate::ErrorKind::AlreadyExists): see [`lost`].
    Lost(Error),
    /// None moved, for another reason. [`NotFound`](crate::ErrorKind::NotFound) for a table or namespace that
    /// is not there.
    Failed(Error),
    /// The answer was lost, and the pointers don't tell. The error's kind is
    /// [`CommitStateUnknown`](crate::ErrorKind::CommitStateUnknown).
    Unknown(Error),
    /// The answer was lost, and by now these pointers are where others put them: after this swap, or instead
    /// of it.
    MovedOn(Error, Vec<(TableIdent, String)>),
}

/// The error of a [swap](Pointers::swap) that lost because of this move.
pub fn lost(of: &Move) -> Error {
    match of.from {
        None => super::exists(&of.ident),
        Some(_) => Error::conflict("another commit was first; reload the table and try again")
            .with("table", &of.ident),
    }
}

/// The error of a table that is not there.
pub fn no_table(ident: &TableIdent) -> Error {
    Error::not_found("no such table in this catalog").with("table", ident)
}

/// The error of a namespace that is not there.
pub fn no_namespace(namespace: &NamespaceIdent) -> Error {
    Error::not_found("no such namespace; create it first").with("namespace", namespace)
}
