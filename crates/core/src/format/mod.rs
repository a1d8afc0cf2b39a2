//! The files of a table: metadata, manifest lists, manifests and what they name.

mod avro;
pub mod claims;
mod content;
mod files;
pub(crate) mod foreign;
mod manifest;
pub(crate) mod members;
mod metadata;
mod metrics;
mod orc;
pub(crate) mod partition;
mod position_deletes;
pub(crate) mod puffin;
mod schema;
mod source;
pub(crate) mod value;
mod values;

pub use content::ContentReader;
pub use files::{ContentFile, FileEntry, FileRef, LiveFile};
pub use foreign::{
    ForeignKind, VARIANT_EXTENSION, first_foreign, foreign_kind, primitive_text, variant_fields,
};
pub use manifest::{
    FileLocation, Manifest, ManifestContent, ManifestListHead, ManifestReader, ManifestWriter,
    PartitionTypes, Room, WantedStatistics, lists_manifests_itself, load_admitted_manifests, load_bounded,
    load_manifest, load_manifest_list, parse_manifest_list, write_manifest_list,
};
pub use members::{column_doc, initial_default, text_doc, write_default};
pub use metadata::{Metadata, load_metadata, parse_format_version, parse_metadata};
pub(crate) use metadata::{load_metadata_unless, metadata_file, references};
pub use metrics::{FileMetrics, MetricsConfig, MetricsMode, data_file, data_file_metrics};
pub use partition::{Partitioner, human_partition_value, rows_by_partition, transform_array};
pub(crate) use position_deletes::path_bounds;
pub use position_deletes::{DELETE_FILE_PATH_ID, DELETE_POS_ID};
pub use schema::{UTC, arrow_field, arrow_schema, iceberg_schema, iceberg_type, parquet_schema};
pub use source::{Rows, unreadable};
