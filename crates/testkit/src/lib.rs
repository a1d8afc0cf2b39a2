//! What the tests of every crate share: stores and catalogs that fail on demand, a clock that tests hold, data of every
//! type, and other engines' reading of the tables that a test wrote. Not published.
//!
//! - [`FaultyStore`] counts requests and fails one of them; [`every_fault`] runs a scenario once for each request that it
//!   makes. [`FaultyCatalog`] does the same to the answers of commits.
//! - [`RequirementsCatalog`] keeps metadata where other catalogs keep pointers, and lends each table a storage of its own.
//! - [`FakeClock`] stands still until it is moved, and gives the same ids for the same seed.
//! - [`everything_schema`] and [`random_batches`] are tables of every type; [`content_hash`] is the text form in which
//!   the referees compare rows.
//! - [`catalog_suite`] is what catalogs must do, [`store_suite()`] what every object store must; [`S3Server`] is a real one,
//!   and [`PostgresServer`] a real database.
//! - [`reference_read`] reads a table in the plainest way, for the scan to agree with.
//! - [`ReferenceTables`] are tables that Iceberg Java and Spark wrote; [`spark_sql`] runs Spark.
//! - [`ForeignTable`] is one with column types that the `iceberg` crate does not know.
//! - [`KEPT_TABLES`] are tables in Avro and ORC that Iceberg Java wrote once, kept in this crate.
//! - [`deletes`] writes delete files of every kind by hand.
//! - [`hostile_archives`] are what partners who mean harm send.
//! - [`untrusted`] is what is done with files that nobody vouches for.
//! - [`Referee`] asks Iceberg Java, DuckDB and PyIceberg what a table holds.

pub mod catalog_suite;
mod clock;
mod content;
mod data;
pub mod deletes;
mod faulty_catalog;
mod faulty_store;
mod foreign;
mod hostile;
mod kept_tables;
mod postgres;
mod referee;
mod reference;
mod reference_tables;
mod requirements_catalog;
mod s3;
mod store_suite;
pub mod untrusted;
mod vended_store;

pub use clock::FakeClock;
pub use content::{Content, content_hash};
pub use data::{everything_schema, random_batch, random_batches, referee_schema};
pub use faulty_catalog::{CommitFault, FaultyCatalog};
pub use faulty_store::{Fault, FaultPoint, FaultyStore, Op, OpKind, every_fault};
pub use foreign::ForeignTable;
pub use hostile::{HOSTILE_KINDS, HostileArchive, hostile_archives};
pub use kept_tables::{KEPT_TABLES, KEPT_TABLES_WERE_AT, kept_table};
pub use postgres::PostgresServer;
pub use referee::{Engine, Outcome, Pick, Referee};
pub use reference::reference_read;
pub use reference_tables::{Expected, ReferenceTables, newest_metadata, spark_sql};
pub use requirements_catalog::{CatalogKind, RequirementsCatalog};
pub use s3::S3Server;
pub use store_suite::store_suite;
