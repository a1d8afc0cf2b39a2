//! [`RowDelta`]: rows are deleted by delete files, and data files added, in one snapshot.

use std::collections::HashMap;

use iceberg::spec::{DataContentType, Operation};

use super::{Effect, Moment, SnapshotAction};
use crate::commit::removal::{DeleteRemoval, Removal};
use crate::commit::validate::{Footprint, Reads};
use crate::deletes::{is_vector, may_hold_path};
use crate::error::{Error, Result};
use crate::filter::Filter;
use crate::format::{ContentFile, FileRef};

/// Deletes rows without rewriting the data files that hold them, and adds rows: a merge-on-read DELETE,
/// UPDATE or MERGE, and equality deletes of a stream.
///
/// On format version 2 rows are deleted by position delete files, from version 3 on by deletion vectors; both
/// have equality deletes, of which the rows of the same commit are no part. A data file has one vector: a new
/// one holds the positions of the one before, and of position delete files, and is added by the commit that
/// removes the one before.
///
/// Checked is, of commits since the snapshot that the operation read:
/// - the files that are removed and those of which rows are deleted must still be there, and must not have
///   got another deletion vector;
/// - no row of `remove_data` may have been deleted;
/// - with `updates` no row of `references`, and none that matches `reads`, may have been deleted;
/// - under [`Isolation::Serializable`](crate::commit::Isolation::Serializable) no data file that may match
///   `reads` may have been added.
///
/// Refused as [`InvalidInput`](crate::ErrorKind::InvalidInput) is a second vector of a data file, and the removal of
/// position deletes or a vector of a data file that stays, without others of it that are added: rows would come
/// back.
#[derive(Debug, Clone, Default)]
pub struct RowDelta {
    /// Data files added.
    pub add_data: Vec<ContentFile>,
    /// Delete files added: position deletes, deletion vectors, equality deletes.
    pub add_deletes: Vec<ContentFile>,
    /// Data files removed, of which no row is left. Their deletion vectors go with them.
    pub remove_data: Vec<FileRef>,
    /// Delete files removed: vectors that new ones replace, position deletes that were merged.
    pub remove_deletes: Vec<FileRef>,
    /// The data files of which rows are deleted by position. Those that entries of `add_deletes` refer to
    /// need not be said again: data files of vectors, and of position delete files that name one data file.
    pub references: Vec<FileRef>,
    /// The rows that the operation read to find its result, beside those of `references`. `None`: no others.
    pub reads: Option<Filter>,
    /// True if the new rows were made of rows that were read, as by UPDATE and MERGE: deletes of these would
    /// be lost.
    pub updates: bool,
}

impl RowDelta {
    /// The operation, by Iceberg Java's rules.
    fn operation(&self) -> Operation {
        match (self.add_data.is_empty(), self.add_deletes.is_empty(), self.remove_data.is_empty()) {
            (false, true, true) => Operation::Append,
            (true, false, _) => Operation::Delete,
            _ => Operation::Overwrite,
        }
    }

    /// Position delete files and deletion vectors that are added.
    fn position_deletes(&self) -> impl Iterator<Item = &ContentFile> {
        let by_position =
            |delete: &&ContentFile| delete.file.content_type() == DataContentType::PositionDeletes;
        self.add_deletes.iter().filter(by_position)
    }

    /// The data files of which rows are deleted: those that the caller names, and those that delete files
    /// name.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) where these contradict each other, or leave open
    /// which file is meant.
    fn references(&self) -> Result<Vec<FileRef>> {
        let mut references = self.references.clone();
        let mut named: HashMap<String, FileRef> =
            references.iter().map(|file| (file.path.clone(), file.clone())).collect();
        for delete in self.position_deletes() {
            let refused =
                |message: &str| Err(Error::invalid_input(message).with("file", delete.file.file_path()));
            let Some(path) = delete.file.referenced_data_file() else {
                if !self.references.iter().any(|file| may_hold_path(&delete.file, &file.path)) {
                    return refused("name the data files of which this position delete file deletes rows");
                }
                continue;
            };
            let of = FileRef {
                path: path.clone(),
                content_offset: None,
                spec_id: delete.spec_id,
                partition: delete.file.partition().clone(),
            };
            match named.get(&path) {
                Some(known) if (known.spec_id, &known.partition) != (of.spec_id, &of.partition) => {
                    return refused("a delete file of one data file is of that file's spec and partition");
                }
                Some(_) => {}
                None => {
                    named.insert(path, of.clone());
                    references.push(of);
                }
            }
        }
        if let Some(removed) = self.remove_data.iter().find(|file| named.contains_key(&file.path)) {
            let message = "a data file is removed of which the same commit deletes rows; only remove it";
            return Err(Error::invalid_input(message).with("file", &removed.path));
        }
        Ok(references)
    }
}

impl SnapshotAction for RowDelta {
    fn effect(&self, moment: &Moment<'_>) -> Result<Effect> {
        let references = self.references()?;
        let mut removal = DeleteRemoval {
            named: self.remove_deletes.iter().map(|file| (file.path.clone(), file.content_offset)).collect(),
            partitions: self
                .remove_deletes
                .iter()
                .map(|file| (file.spec_id, file.partition.clone()))
                .collect(),
            ..DeleteRemoval::default()
        };
        let mut vectors = false;
        for delete in self.position_deletes() {
            let rows = is_vector(&delete.file).then(|| delete.file.record_count());
            match delete.file.referenced_data_file() {
                Some(path) => drop(removal.renewed.insert(path, rows)),
                None => removal.renews_others = true,
            }
            if rows.is_some() {
                vectors = true;
                removal.partitions.push((delete.spec_id, delete.file.partition().clone()));
            }
        }
        let reads = self.reads.clone().map_or(Reads::Nothing, Reads::Matching);
        let footprint = Footprint {
            references,
            vectors,
            updates: self.updates,
            ..Footprint::new(reads, &self.remove_data, &self.add_data, moment.isolation)
        };
        let remove = match self.remove_data.is_empty() {
            true => Removal::Nothing,
            false => Removal::of_files(&self.remove_data, moment.metadata),
        };
        Ok(Effect {
            add: self.add_data.clone(),
            add_deletes: self.add_deletes.clone(),
            remove,
            remove_deletes: removal,
            footprint: Some(footprint),
            ..Effect::new(self.operation())
        })
    }
}
