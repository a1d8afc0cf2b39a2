//! The Iceberg table format without a query engine: files on object stores, metadata, snapshots, commits.
//!
//! Data flows one way. A [`catalog`] keeps, for each table, the location of its current metadata file; [`Table`] is that
//! metadata at one moment, immutable; [`mod@format`] reads and writes what hangs below it (manifest lists, manifests, column
//! statistics); [`deletes`] tells which rows of data files are gone; [`evolve`] makes schema, partition and property changes as pure functions; [`commit`] turns actions into
//! the next snapshot and publishes it. Row data is read and written above this crate.

pub mod catalog;
mod clock;
pub mod commit;
pub mod config;
#[cfg(feature = "datafusion")]
pub mod datafusion;
pub mod deletes;
mod error;
pub mod evolve;
pub mod filter;
pub mod format;
pub mod storage;
pub mod table;
pub mod text;

pub use clock::{Backoff, Clock, SystemClock, serialize_seconds};
pub use error::{ConflictReason, Error, ErrorKind, Result, refusal};
pub use table::{AsOf, Table};
