//! [`SqlCatalog`]: namespaces and table pointers in a SQLite file or a PostgreSQL database.
//!
//! The tables `iceberg_tables` and `iceberg_namespace_properties` are laid out as Iceberg Java's
//! `JdbcCatalog` (V1) and PyIceberg's `SqlCatalog` have them: catalogs of the same name in the same database
//! see the same tables, and may write at the same time. Databases of the older layout, without
//! `iceberg_type`, are used as they are.
//!
//! A commit is one database transaction that swaps every pointer where it still holds the location that the
//! commit is based on, and inserts those of new tables. An error before COMMIT was sent changed nothing.
//! After it, the catalog asks the database where the pointers are; only when that gives no answer is the
//! outcome [`CommitOutcome::Unknown`](icefield_core::catalog::CommitOutcome::Unknown).
//!
//! # Errors
//! Locks, deadlocks and broken connections are retried inside; what comes through is
//! [`Transient`](icefield_core::ErrorKind::Transient), or, where a change may have been made,
//! [`CommitStateUnknown`](icefield_core::ErrorKind::CommitStateUnknown).

mod builder;
mod database;
mod namespace;
mod pointers;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "sqlite")]
mod sqlite;
mod statements;
mod swap;

use icefield_core::catalog::pointer::{KeepsPointers, PointerCatalog};

pub use builder::SqlCatalogBuilder;
pub use pointers::SqlPointers;

/// A catalog in a SQL database. Share it in an `Arc`; it holds a pool of connections.
#[derive(Debug)]
pub struct SqlCatalog(PointerCatalog<SqlPointers>);

impl KeepsPointers for SqlCatalog {
    type Pointers = SqlPointers;

    fn pointer_catalog(&self) -> &PointerCatalog<SqlPointers> {
        &self.0
    }
}

impl SqlCatalog {
    /// Closes the connections. Calls after it fail. Dropping the catalog closes them too, without waiting for
    /// it.
    pub async fn close(&self) {
        self.0.pointers().database.close().await;
    }
}
