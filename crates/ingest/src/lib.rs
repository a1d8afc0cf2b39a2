//! Archives of CSV and JSON lines into typed tables, nothing lost: bad archives, members and rows are quarantined.
//!
//! [`Ingest`] reads archives from any store in one streaming pass each, in parallel, and gives [`Ingested`]: a table for
//! each that member names speak of, the [`Quarantine`] with everything that could not be taken and why, and a [`Report`]
//! with a score for each table.
//!
//! Data flows one way. An archive is downloaded in chunks, decoded to members (`archive`), a member split into rows (`csv`,
//! `json`), chunks of rows parsed into Arrow columns (`columns`, `parse`) and written as a staged Parquet part (`stage`).
//! Columns without a given type are staged as text together with the set of types that all their values have (`infer`); only
//! when every archive is in does `merge` unite the columns and settle the types, which reading then applies as a cast that
//! can't fail.
//!
//! Nothing that partners send is trusted: `limits` bound it, `local` follows no link, `escape` is what their text passes before
//! people see it.
//!
//! Without its `dataframe` feature the crate needs no query engine.

mod archive;
mod columns;
mod csv;
#[cfg(feature = "dataframe")]
mod dataframe;
mod escape;
mod first;
mod infer;
mod ingest;
mod json;
mod limits;
mod listed;
mod local;
mod manifest;
mod merge;
mod options;
mod parse;
mod pattern;
mod quarantine;
mod read;
mod report;
mod rows;
mod source;
mod stage;
mod staging;
mod table;
mod text;
#[doc(hidden)]
pub mod untrusted;
mod work;

pub use ingest::{Ingest, Progress};
pub use limits::Limits;
pub use options::{BrokenArchive, Conversion, Csv, ManifestUse};
pub use pattern::Pattern;
pub use quarantine::{Level, Quarantine, Quarantined, Reason};
pub use read::Part;
pub use report::{ColumnReport, HeaderReport, Report, TableReport};
pub use table::{Ingested, IngestedTable};
