//! Files of a table as manifests name them: to be committed, live, or as far as planning wants them.

use iceberg::spec::{DataContentType, DataFile, DataFileFormat, Struct};

use super::position_deletes::path_bounds;

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
    /// True if the entry is known to say what the file holds, and not only what the file keeps to: its whole bounds are values
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

/// A file that a snapshot holds or took away, without its statistics: what tells it from others, and what deletes find it by.
#[derive(Debug, Clone, PartialEq)]
pub struct FileEntry {
    /// Its content: data, or deletes of one kind.
    pub content: DataContentType,
    /// Its location.
    pub path: String,
    /// Its format.
    pub format: DataFileFormat,
    /// The id of its partition spec.
    pub spec_id: i32,
    /// Its partition value.
    pub partition: Struct,
    /// The rows that it has, or that a deletion vector deletes.
    pub record_count: u64,
    /// Its size in bytes.
    pub size: u64,
    /// On v3 the id of its first row.
    pub first_row_id: Option<i64>,
    /// The one data file that position deletes or a deletion vector are of, when the entry names it.
    pub referenced_data_file: Option<String>,
    /// Between which paths the data files are that position deletes are of, as far as the entry's bounds can be believed. The
    /// upper one may be the beginning of a path.
    pub path_bounds: Option<(String, String)>,
    /// Where a deletion vector begins in its file: with the path it tells one from others.
    pub content_offset: Option<i64>,
    /// A deletion vector's length in bytes.
    pub content_size: Option<i64>,
    /// The columns by which equality deletes delete.
    pub equality_ids: Option<Vec<i32>>,
    /// The snapshot that added it, or that took it away.
    pub snapshot_id: i64,
    /// The data sequence number.
    pub sequence_number: i64,
    /// The sequence number of the snapshot that added it.
    pub file_sequence_number: i64,
}

impl FileEntry {
    /// True for a data file, false for a delete file.
    pub fn is_data(&self) -> bool {
        self.content == DataContentType::Data
    }

    /// True for a deletion vector.
    pub fn is_vector(&self) -> bool {
        self.content == DataContentType::PositionDeletes && self.format == DataFileFormat::Puffin
    }
}

impl From<&LiveFile> for FileEntry {
    fn from(live: &LiveFile) -> Self {
        let file = &live.file;
        Self {
            content: file.content_type(),
            path: file.file_path().to_string(),
            format: file.file_format(),
            spec_id: live.spec_id,
            partition: file.partition().clone(),
            record_count: file.record_count(),
            size: file.file_size_in_bytes(),
            first_row_id: file.first_row_id(),
            referenced_data_file: file.referenced_data_file(),
            path_bounds: path_bounds(file).map(|(lower, upper)| (lower.into(), upper.into())),
            content_offset: file.content_offset(),
            content_size: file.content_size_in_bytes(),
            equality_ids: file.equality_ids(),
            snapshot_id: live.snapshot_id,
            sequence_number: live.sequence_number,
            file_sequence_number: live.file_sequence_number,
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

    /// True for a data file, false for a delete file.
    pub fn is_data(&self) -> bool {
        self.file.content_type() == DataContentType::Data
    }

    /// The file with its spec, without its history.
    pub fn content_file(&self) -> ContentFile {
        ContentFile { spec_id: self.spec_id, file: self.file.clone() }
    }
}
