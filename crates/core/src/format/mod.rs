//! The files of a table: metadata, manifest lists, manifests and what they name.

mod avro;
pub mod claims;
mod content;
pub(crate) mod foreign;
mod manifest;
pub(crate) mod members;
mod metadata;
mod metrics;
mod orc;
pub(crate) mod partition;
mod schema;
mod source;
pub(crate) mod value;
mod values;

use iceberg::spec::{DataContentType, DataFile, Struct};

pub use content::ContentReader;
pub(crate) use foreign::has_stand_ins;
pub use foreign::{
    ForeignKind, VARIANT_EXTENSION, first_foreign, foreign_kind, primitive_text, variant_fields,
};
pub use manifest::{
    ManifestContent, lists_manifests_itself, load_manifest, load_manifest_list, parse_manifest,
    parse_manifest_list,
};
pub(crate) use manifest::{Places, finished};
pub use members::{column_doc, initial_default, write_default};
pub use metadata::{Metadata, load_metadata, parse_format_version, parse_metadata};
pub(crate) use metadata::{metadata_file, references};
pub use metrics::{FileMetrics, MetricsConfig, MetricsMode, data_file, data_file_metrics};
pub use partition::{Partitioner, human_partition_value, rows_by_partition, transform_array};
pub use schema::{UTC, arrow_field, arrow_schema, iceberg_schema, iceberg_type, parquet_schema};
pub use source::{Rows, unreadable};

/// A data or delete file with the partition spec that its partition value is of. (`iceberg`'s [`DataFile`] knows its
/// spec but does not tell.)
#[derive(Debug, Clone, PartialEq)]
pub struct ContentFile {
    /// The id of the file's partition spec.
    pub spec_id: i32,
    /// Path, format, partition, sizes, statistics.
    pub file: DataFile,
}

/// A file that a snapshot holds, with what its manifest entry says of it. Inherited values are filled in.
#[derive(Debug, Clone, PartialEq)]
pub struct LiveFile {
    /// The id of the file's partition spec.
    pub spec_id: i32,
    /// Path, format, partition, sizes, statistics; on v3 with its first row id.
    pub file: DataFile,
    /// The snapshot that added the file.
    pub snapshot_id: i64,
    /// The data sequence number: deletes apply to data files of lower (position deletes: or equal) numbers.
    pub sequence_number: i64,
    /// The sequence number of the snapshot that added the file.
    pub file_sequence_number: i64,
    /// Whether the entry is known to say what the file holds, and not only what the file keeps to: its whole bounds are values
    /// of the file, and the file's rows are in the sort order that it names. This library's manifests say so of files that
    /// its own writer made ([`Transaction::exact_files`](crate::commit::Transaction::exact_files)); others' say nothing.
    pub exact: bool,
}

/// Names a file of a snapshot, without what its entry says of its rows: what a commit needs to take the file out.
#[derive(Debug, Clone, PartialEq)]
pub struct FileRef {
    /// The file's location.
    pub path: String,
    /// Where in it a deletion vector begins, in bytes: several share a file.
    pub content_offset: Option<i64>,
    /// The id of the file's partition spec.
    pub spec_id: i32,
    /// The file's partition value, by which the manifests that may list it are known.
    pub partition: Struct,
}

impl From<&LiveFile> for FileRef {
    fn from(file: &LiveFile) -> Self {
        Self {
            path: file.path().to_string(),
            content_offset: file.file.content_offset(),
            spec_id: file.spec_id,
            partition: file.file.partition().clone(),
        }
    }
}

impl LiveFile {
    /// The file's name in a commit.
    pub fn reference(&self) -> FileRef {
        self.into()
    }

    /// The file's location.
    pub fn path(&self) -> &str {
        self.file.file_path()
    }

    /// Whether this is a data file, not a delete file.
    pub fn is_data(&self) -> bool {
        self.file.content_type() == DataContentType::Data
    }

    /// The file with its spec, without its history.
    pub fn content_file(&self) -> ContentFile {
        ContentFile { spec_id: self.spec_id, file: self.file.clone() }
    }
}
