//! A lakehouse that a Rust service links.
//!
//! DataFrame transforms over DataFusion, tables in Apache Iceberg's format under them, and the maintenance that such
//! tables need as functions to call, all in the service's own process. Spark, Trino, DuckDB and PyIceberg read and write
//! the same tables beside it.
//!
//! Everything starts at a [`Session`]: [`Session::open`] makes or opens an embedded lakehouse in a folder, its builder takes
//! any catalog and store. DataFrames are DataFusion's own; [`DataFrameExt`] writes them to tables; a [`Table`] is one table at
//! one moment, with its history; [`maintenance`] keeps tables fast and small; [`ingest`] takes archives of CSV and JSON lines
//! apart; [`transform`] names units of work whose plans are checked before data is read.
//!
//! ```
//! use icefield::prelude::*;
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path();
//! let session = Session::open(path).await?;
//! let rates = session.sql("SELECT 1 AS listing_id, DATE '2024-06-22' AS date, 120.5 AS price").await?;
//! rates
//!     .append_to(&session, "hotel.rates")
//!     .create_with(|table| table.partition_by([month("date")]))
//!     .idempotency_key("boston/2024-06-22")
//!     .await?;
//!
//! let table = session.table("hotel.rates").await?;
//! assert_eq!(table.dataframe().await?.count().await?, 1);
//! # Ok(())
//! # }
//! ```

pub use {arrow, datafusion, object_store};

pub use icefield_core::catalog::{
    Catalog, IcebergCatalog, MemoryCatalog, NamespaceIdent, TableIdent, parse_ident,
};
pub use icefield_core::{AsOf, Clock, ConflictReason, Error, ErrorKind, Result, SystemClock};
pub use icefield_engine::ops::{DataFrameExt, WriteReport};
pub use icefield_engine::{
    IcebergTable, IntoAsOf, MetadataTable, Session, SessionBuilder, SharedMemoryPool, Snapshot, Table,
    configure, from_datafusion, to_datafusion,
};

pub use icefield_core::{storage, text};
pub use icefield_engine::{changes, transform};
pub use icefield_ingest as ingest;
pub use icefield_maintenance as maintenance;

/// Catalogs kept in databases.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub mod catalog {
    pub use icefield_catalog::sql;
}

/// What operations on tables are made of: their builders, to pass them around, and what these are given.
pub mod ops {
    pub use icefield_core::commit::Isolation;
    pub use icefield_core::filter::Filter;
    pub use icefield_core::table::SnapshotRetention;
    pub use icefield_engine::ops::{
        Alter, Append, CreateTable, IntoFilter, IntoTableSchema, Overwrite, Phases, Scan, TableOptions,
        UpdateSchema, UpdateSpec,
    };
    pub use icefield_engine::write::{WriteOptions, WriteProgress};
}

/// Schema, partition and sort order changes, and the types of columns.
pub mod evolve {
    pub use icefield_core::evolve::{
        ColumnPosition, FormatUpgrade, FormatVersion, Literal, LocationUpdate, MetadataEdit, NewColumn,
        PartitionTerm, PartitionUpdate, PropertiesUpdate, SchemaUpdate, SortOrderUpdate, SortTerm, Term,
        types,
    };
}

/// What most programs need: `use icefield::prelude::*`.
pub mod prelude {
    pub use datafusion::common::JoinType;
    pub use datafusion::functions_aggregate::expr_fn::{avg, count, count_distinct, max, min, sum};
    pub use datafusion::prelude::{DataFrame, Expr, cast, col, ident, lit, when};
    pub use icefield_core::evolve::{
        asc, bucket, day, desc, hour, identity, month, truncate, types, void, year,
    };

    pub use icefield_maintenance::TableMaintenance;

    pub use crate::{
        DataFrameExt, ErrorKind, MetadataTable, Result, Session, Table, maintenance, parse_ident,
    };
}
