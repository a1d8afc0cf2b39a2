//! Row-level deletes: which delete files apply to which data files, what a deletion vector says, and the
//! writers of position delete files and deletion vectors.
//!
//! The rules are those of the specification's "Scan Planning". A delete applies to a data file when
//! - a **deletion vector** names it, and is no older: it stands for all position deletes of the file;
//! - a **position delete file** is of the same spec and partition, or holds positions of this file alone, and is no older;
//! - an **equality delete file** is of the same spec and partition, or of an unpartitioned spec, and is newer.
//!
//! A partition is the same one after its column was widened, and after it was dropped as far as can be known: see
//! `PartitionKeys`.
//!
//! "Older" and "newer" go by data sequence number. Deletes of which bounds say that they name no row of a file are left out.
//! Bounds of paths that contradict themselves say nothing, and an upper one may be a path that was cut short and not raised.

mod keys;
mod manifests;
mod position_writer;
mod vector;
mod vector_writer;

use std::collections::{BTreeSet, HashMap};
use std::ops::Deref;

use iceberg::spec::{DataContentType, DataFile, DataFileFormat, TableMetadata};

use crate::error::{Error, Result};
use crate::format::partition::{PartitionKey, PartitionKeys};
use crate::format::{LiveFile, path_bounds};

pub use crate::format::{DELETE_FILE_PATH_ID, DELETE_POS_ID};
use keys::might_share_key;
pub use manifests::might_apply_to_manifest;
pub use position_writer::PositionDeleteWriter;
pub use roaring::RoaringTreemap;
pub use vector::{load_deletion_vector, parse_deletion_vector};
pub use vector_writer::DeletionVectorWriter;

/// The delete files of a snapshot, by what they apply to. Holds the caller's entries, however it keeps them.
#[derive(Debug)]
pub struct DeleteIndex<F> {
    files: Vec<F>,
    keys: PartitionKeys,
    vectors: HashMap<String, usize>,
    /// Position deletes of one data file each.
    by_path: HashMap<String, Vec<usize>>,
    /// How long the paths among these are that only bounds tell: each may be the beginning of one.
    cut_at: BTreeSet<usize>,
    positions: HashMap<(i32, PartitionKey), Vec<usize>>,
    equality: HashMap<(i32, PartitionKey), Vec<usize>>,
    global: Vec<usize>,
}

/// The deletes that apply to one data file.
#[derive(Debug)]
pub struct FileDeletes<'a, F> {
    /// The deletion vector. With it there are no `positions`.
    pub vector: Option<&'a F>,
    /// Position delete files, which may hold positions of other data files too.
    pub positions: Vec<&'a F>,
    /// Equality delete files.
    pub equality: Vec<&'a F>,
}

impl<F> FileDeletes<'_, F> {
    /// Whether no row of the file is deleted.
    pub fn is_empty(&self) -> bool {
        self.vector.is_none() && self.positions.is_empty() && self.equality.is_empty()
    }
}

impl<F: Deref<Target = LiveFile>> DeleteIndex<F> {
    /// An index of all delete files of a snapshot that a scan may meet.
    ///
    /// # Errors
    /// [`DataInvalid`](crate::ErrorKind::DataInvalid) for a deletion vector that does not name its data file, for a second one
    /// of the same data file, and for an equality delete file without columns.
    pub fn new(deletes: impl IntoIterator<Item = F>, metadata: &TableMetadata) -> Result<Self> {
        let mut index = Self {
            files: deletes.into_iter().collect(),
            keys: PartitionKeys::new(metadata),
            vectors: HashMap::new(),
            by_path: HashMap::new(),
            cut_at: BTreeSet::new(),
            positions: HashMap::new(),
            equality: HashMap::new(),
            global: Vec::new(),
        };
        for (at, delete) in index.files.iter().enumerate() {
            let file = &delete.file;
            let invalid = |message: &str| {
                Error::data_invalid(format!("{message}; roll back to a snapshot without it"))
                    .with("file", file.file_path())
            };
            let partition = || index.keys.key(delete.spec_id, file.partition());
            match file.content_type() {
                DataContentType::Data => return Err(invalid("a data file is listed among the deletes")),
                DataContentType::PositionDeletes if is_vector(file) => {
                    let path = file
                        .referenced_data_file()
                        .ok_or_else(|| invalid("a deletion vector does not say which data file it is of"))?;
                    if let Some(other) = index.vectors.insert(path, at) {
                        let other = index.files.get(other).map(|f| f.path().to_string()).unwrap_or_default();
                        return Err(invalid("a data file has two deletion vectors").with("other", other));
                    }
                }
                DataContentType::PositionDeletes => match only_path(file) {
                    Some(path) => {
                        if file.referenced_data_file().is_none() {
                            index.cut_at.insert(path.len());
                        }
                        index.by_path.entry(path).or_default().push(at);
                    }
                    None => index.positions.entry(partition()).or_default().push(at),
                },
                DataContentType::EqualityDeletes => {
                    if file.equality_ids().is_none_or(|ids| ids.is_empty()) {
                        return Err(invalid("an equality delete file does not say by which columns"));
                    }
                    let spec = metadata.partition_spec_by_id(delete.spec_id);
                    if spec.is_some_and(|spec| spec.is_unpartitioned()) {
                        index.global.push(at);
                    } else {
                        index.equality.entry(partition()).or_default().push(at);
                    }
                }
            }
        }
        Ok(index)
    }

    /// Whether there are no deletes at all.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// The deletes that apply to a data file.
    pub fn of(&self, data: &LiveFile) -> FileDeletes<'_, F> {
        let mut found = FileDeletes { vector: None, positions: Vec::new(), equality: Vec::new() };
        if self.files.is_empty() {
            return found;
        }
        let get = |at: &usize| self.files.get(*at);
        let key = self.keys.key(data.spec_id, data.file.partition());
        let in_partition =
            |delete: &&F| self.keys.may_be_same(data.spec_id, delete.file.partition(), data.file.partition());
        let vector = self.vectors.get(data.path()).and_then(get);
        found.vector = vector.filter(|delete| delete.sequence_number >= data.sequence_number);
        if found.vector.is_none() {
            let path = data.path();
            let cut = self.cut_at.range(..path.len()).filter_map(|length| path.get(..*length));
            let by_path = cut.chain([path]).filter_map(|path| self.by_path.get(path)).flatten();
            let by_partition = self.positions.get(&key).into_iter().flatten();
            let by_partition = by_partition.filter_map(get).filter(in_partition);
            let positions = by_path.filter_map(get).chain(by_partition);
            found.positions =
                positions.filter(|delete| delete.sequence_number >= data.sequence_number).collect();
            found.positions.retain(|delete| may_hold_path(&delete.file, data.path()));
        }
        let scoped = self.equality.get(&key).into_iter().flatten().filter_map(get).filter(in_partition);
        let equality = self.global.iter().filter_map(get).chain(scoped);
        let is_newer = |delete: &&F| delete.sequence_number > data.sequence_number;
        found.equality = equality.filter(is_newer).filter(|f| might_share_key(&f.file, &data.file)).collect();
        found
    }
}

/// Whether a delete file is a deletion vector.
pub fn is_vector(file: &DataFile) -> bool {
    file.file_format() == DataFileFormat::Puffin
}

/// The one data file that a position delete file is of, when its metadata tells. Where bounds alone tell it may be just the
/// beginning of the path: some writers cut bounds and leave the upper one as it is then.
pub fn only_path(file: &DataFile) -> Option<String> {
    if let Some(path) = file.referenced_data_file() {
        return Some(path);
    }
    let (lower, upper) = path_bounds(file)?;
    (lower == upper).then(|| lower.to_string())
}

/// True if a position delete file may hold positions of a data file, as far as the bounds of its paths tell.
pub(crate) fn may_hold_path(file: &DataFile, path: &str) -> bool {
    path_bounds(file).is_none_or(|(lower, upper)| lower <= path && (path <= upper || path.starts_with(upper)))
}

#[cfg(test)]
mod tests;
