//! Where Iceberg tables are registered.
//!
//! [`sql`] keeps namespaces and table pointers in a database: a SQLite file (feature `sqlite`), the embedded default, or
//! PostgreSQL (feature `postgres`). Each catalog implements [`icefield_core::catalog::Catalog`] and, wrapped in
//! [`icefield_core::catalog::IcebergCatalog`], `iceberg`'s own trait.

#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub mod sql;
