//! DataFusion over Iceberg tables.
//!
//! [`Session`] is where everything starts: it holds a catalog, a DataFusion context and the budgets of both. [`Table`] is
//! one of its tables at one moment. [`scan`] reads tables, [`transform`] names and checks what is made of them.

mod as_of;
pub mod changes;
mod configure;
mod error;
mod insert;
mod looks;
mod lookup;
mod memory;
mod metadata_tables;
pub mod ops;
mod provider;
mod publish;
mod rules;
pub mod scan;
pub mod session;
mod snapshots;
mod sql;
pub mod table;
pub mod transform;
mod values;
mod variant;
pub mod write;

pub use as_of::IntoAsOf;
pub use configure::configure;
pub use error::{from_datafusion, to_datafusion};
pub use memory::SharedMemoryPool;
pub use metadata_tables::MetadataTable;
pub use provider::IcebergTable;
pub use publish::publish;
pub use session::{Session, SessionBuilder};
pub use snapshots::Snapshot;
pub use table::Table;
pub use transform::{Pipeline, Transform};
