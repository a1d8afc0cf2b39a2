//! Reading tables: planning from manifests, pruning, statistics, and the [`SnapshotScan`] that DataFusion scans.
//!
//! A scan's plan is DataFusion's own Parquet source over the files that the manifests leave, beside it a plan of our own
//! for those in Avro and ORC. Columns are found in files by
//! field id, so filters, row-group and page pruning and dynamic filters work on files of every earlier schema. Rows that
//! are deleted by position are never read; those deleted by equality are dropped above the source.

mod adapter;
mod by_file;
mod cache;
mod chosen;
mod decode;
mod deletes;
mod exec;
mod file;
mod filter;
mod footer;
mod hidden;
mod hidden_columns;
mod manifest;
mod metadata_columns;
mod morsel;
mod nulls;
mod order;
mod partition;
mod plan;
mod planning;
mod positions;
mod provider;
mod reader;
mod reshape;
mod schema;
mod selection;
mod sizes;
mod source;
mod split;
mod statistics;
mod thrift;
mod value;

pub use cache::ScanCaches;
pub(crate) use chosen::ChosenRows;
pub use chosen::scan_files;
pub(crate) use deletes::{NamedRow, identity, named_rows};
pub(crate) use filter::exact_filter;
pub(crate) use order::with_ordered_scans;
pub(crate) use partition::PartitionFields;
pub use plan::{PlannedFile, PlannedFiles, plan_files};
pub(crate) use plan::{files_of, manifest_list};
pub use provider::SnapshotScan;
pub(crate) use value::scalar;
