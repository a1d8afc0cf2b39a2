//! Whether an action still holds after what others committed: one pure rule over footprints (Iceberg Java's validations).

use std::collections::HashSet;

use iceberg::spec::{DataContentType, ManifestContentType, ManifestFile, Operation, Struct, TableMetadata};

use crate::deletes::{DELETE_FILE_PATH_ID, is_vector};
use crate::error::{ConflictReason as Reason, Error, Result};
use crate::filter::{FileMatcher, Filter};
use crate::format::partition::{PartitionKey, PartitionKeys, PartitionSet};
use crate::format::{ContentFile, FileRef, LiveFile, WantedStatistics, path_bounds};

/// The concurrent commits that an action tolerates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Isolation {
    /// The outcome is as if operations had run one after the other: rows that another commit added where this one read
    /// are a conflict.
    #[default]
    Serializable,
    /// What was read has not been changed or removed. Rows that others added meanwhile stay, unless they are in what is
    /// replaced by filter or by partition: they go with the rest of it.
    Snapshot,
}

/// What an action relied on when it was computed.
#[derive(Debug)]
pub struct Footprint {
    /// The rows that it read or replaces.
    pub reads: Reads,
    /// The rows that its new ones were made of, beyond `reads`: none of them may have been removed or deleted.
    pub input: Option<Filter>,
    /// The data files that it replaces: each must still be there.
    pub replaces: Vec<FileRef>,
    /// The data files of which it deletes rows: each must still be there, and may not have got another
    /// deletion vector.
    pub references: Vec<FileRef>,
    /// True if it adds deletion vectors: each stands for all position deletes of its data file.
    pub vectors: bool,
    /// True if its new rows were made of rows of `references` and of those that match `reads`: none of them
    /// may have been deleted.
    pub updates: bool,
    /// The partitions that its new files are in: spec ids and partition values.
    pub adds: HashSet<(i32, Struct)>,
    /// The data sequence number of the new files, unless it is the commit's own: that which the action started from, so that
    /// equality deletes committed since apply to them by their partitions.
    pub sequence_number: Option<i64>,
    /// What it tolerates.
    pub isolation: Isolation,
}

impl Footprint {
    /// The footprint of an action that read `reads` and replaces files by others.
    pub(super) fn new(
        reads: Reads,
        replaces: &[FileRef],
        adds: &[ContentFile],
        isolation: Isolation,
    ) -> Self {
        Self {
            reads,
            input: None,
            replaces: replaces.to_vec(),
            references: Vec::new(),
            vectors: false,
            updates: false,
            adds: adds.iter().map(|f| (f.spec_id, f.file.partition().clone())).collect(),
            sequence_number: None,
            isolation,
        }
    }
}

/// Rows that an action read or replaces.
#[derive(Debug)]
pub enum Reads {
    /// None: appends, and what reads just the files that it replaces or deletes rows of.
    Nothing,
    /// Those that match.
    Matching(Filter),
    /// Those that match, replaced by filter: a file removed meanwhile that may match is a conflict too.
    Replaced(Filter),
    /// Those of partitions, replaced: spec ids and partition values.
    Partitions(Vec<(i32, Struct)>),
}

/// What one snapshot changed, or a part of that.
#[derive(Debug)]
pub struct Change {
    /// The snapshot.
    pub snapshot_id: i64,
    /// Its operation.
    pub operation: Operation,
    /// Data and delete files that it added.
    pub added: Vec<LiveFile>,
    /// Data and delete files that it removed.
    pub removed: Vec<LiveFile>,
}

/// A footprint made ready to be held against any number of changes: each costs as much as it has files.
#[derive(Debug)]
pub struct Validator<'a> {
    footprint: &'a Footprint,
    metadata: &'a TableMetadata,
    reads: ReadRows,
    input: Option<FileMatcher>,
    replaced: DataFiles<'a>,
    /// Of which rows are deleted.
    referenced: DataFiles<'a>,
    keys: PartitionKeys,
    added_partitions: HashSet<(i32, PartitionKey)>,
    /// Whether rows may move from one spec to another: rows that stay in theirs stay in their partitions.
    moves_rows: bool,
}

/// Data files, as removals and delete files are held against them.
#[derive(Debug)]
struct DataFiles<'a> {
    paths: HashSet<&'a str>,
    in_order: Vec<&'a str>,
    /// Their partitions: as manifests are held against them, and delete files.
    set: PartitionSet,
    partitions: HashSet<(i32, PartitionKey)>,
}

impl<'a> DataFiles<'a> {
    fn new(files: &'a [FileRef], keys: &PartitionKeys, metadata: &TableMetadata) -> Self {
        let paths: HashSet<&str> = files.iter().map(|file| file.path.as_str()).collect();
        let mut in_order: Vec<&str> = paths.iter().copied().collect();
        in_order.sort_unstable();
        Self {
            paths,
            in_order,
            set: PartitionSet::new(files.iter().map(|file| (file.spec_id, &file.partition)), metadata),
            partitions: files.iter().map(|file| keys.key(file.spec_id, &file.partition)).collect(),
        }
    }

    fn has(&self, file: &LiveFile) -> bool {
        self.paths.contains(file.path())
    }

    fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }
}

/// What was read, as files are held against it.
#[derive(Debug)]
enum ReadRows {
    Nothing,
    Matching(FileMatcher),
    Partitions(PartitionSet),
}

impl ReadRows {
    fn touches(&self, file: &LiveFile) -> bool {
        match self {
            Self::Nothing => false,
            Self::Matching(matcher) => matcher.might_match(file.spec_id, &file.file),
            Self::Partitions(set) => set.contains(file.spec_id, file.file.partition()),
        }
    }

    fn might_touch(&self, manifest: &ManifestFile) -> bool {
        match self {
            Self::Nothing => false,
            Self::Matching(matcher) => matcher.might_match_manifest(manifest),
            Self::Partitions(set) => set.might_be_in(manifest),
        }
    }
}

impl<'a> Validator<'a> {
    /// A validator on a table's metadata.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for a filter that is none of the table's.
    pub fn new(footprint: &'a Footprint, metadata: &'a TableMetadata) -> Result<Self> {
        let reads = match &footprint.reads {
            Reads::Nothing => ReadRows::Nothing,
            Reads::Matching(filter) | Reads::Replaced(filter) => {
                ReadRows::Matching(FileMatcher::new(filter, metadata)?)
            }
            Reads::Partitions(partitions) => {
                let partitions = partitions.iter().map(|(spec_id, value)| (*spec_id, value));
                ReadRows::Partitions(PartitionSet::new(partitions, metadata))
            }
        };
        let keys = PartitionKeys::new(metadata);
        let added = footprint.adds.iter().map(|(spec_id, _)| *spec_id);
        let mut specs = footprint.replaces.iter().map(|file| file.spec_id).chain(added);
        Ok(Self {
            reads,
            input: footprint.input.as_ref().map(|filter| FileMatcher::new(filter, metadata)).transpose()?,
            replaced: DataFiles::new(&footprint.replaces, &keys, metadata),
            referenced: DataFiles::new(&footprint.references, &keys, metadata),
            added_partitions: footprint
                .adds
                .iter()
                .map(|(spec_id, value)| keys.key(*spec_id, value))
                .collect(),
            keys,
            moves_rows: specs.next().is_some_and(|first| specs.any(|other| other != first)),
            footprint,
            metadata,
        })
    }

    /// The statistics of files that checks go by: those of columns that were read, and the paths that position deletes are of.
    pub(super) fn statistics(&self) -> WantedStatistics {
        let mut statistics = WantedStatistics::of([DELETE_FILE_PATH_ID]);
        if let ReadRows::Matching(matcher) = &self.reads {
            statistics = statistics.or(&matcher.statistics());
        }
        match &self.input {
            Some(matcher) => statistics.or(&matcher.statistics()),
            None => statistics,
        }
    }

    /// Whether a snapshot of this operation can be a conflict at all.
    pub fn concerns(&self, operation: &Operation) -> bool {
        self.minds_added_rows(operation) || self.minds_removals(operation)
    }

    /// Whether a manifest that a snapshot of this operation added can list a conflict: false only if it lists none.
    pub fn concerns_manifest(&self, operation: &Operation, manifest: &ManifestFile) -> bool {
        match manifest.content {
            ManifestContentType::Data => {
                let read = || {
                    self.reads.might_touch(manifest)
                        || self.input.as_ref().is_some_and(|input| input.might_match_manifest(manifest))
                };
                let removed = manifest.has_deleted_files() && self.minds_removals(operation);
                let added = manifest.has_added_files() && self.minds_added_rows(operation);
                let named =
                    || self.replaced.set.might_be_in(manifest) || self.referenced.set.might_be_in(manifest);
                (removed && named()) || ((removed || added) && read())
            }
            ManifestContentType::Deletes => {
                let relies = self.footprint.sequence_number.is_some() && manifest.has_deleted_files();
                (manifest.has_added_files() || relies) && self.minds_removals(operation)
            }
        }
    }

    /// Checks the action against a change committed since it was computed.
    ///
    /// # Errors
    /// [`Conflict`](crate::ErrorKind::Conflict) naming the file, the snapshot and its operation.
    pub fn check(&self, change: &Change) -> Result<()> {
        let conflict = |reason, message: &str, file: &LiveFile| {
            Err(Error::conflict(format!("{message}; read the table again and run the operation again"))
                .because(reason)
                .with("file", file.path())
                .with("snapshot", change.snapshot_id)
                .with("operation", change.operation.as_str()))
        };
        // What is rewritten is the same rows still.
        let changes_rows = change.operation != Operation::Replace;
        for file in &change.removed {
            if self.replaced.has(file) {
                let message = "a file that this operation replaces was removed by another commit";
                return conflict(Reason::FileRemoved, message, file);
            }
            if self.referenced.has(file) {
                let message = "a file of which this operation deletes rows was removed by another commit";
                return conflict(Reason::FileRemoved, message, file);
            }
            if self.relies_on(file) {
                let message =
                    "deletes that apply to the new files of this operation were replaced by another commit";
                return conflict(Reason::ConcurrentDelete, message, file);
            }
            if self.replaces_what_it_reads() && file.is_data() && self.reads.touches(file) {
                let message = "a file was removed by another commit from what this operation replaces";
                return conflict(Reason::ConcurrentDelete, message, file);
            }
            if changes_rows && file.is_data() && self.made_of(file) {
                let message = "a file was removed by another commit from what this operation read";
                return conflict(Reason::ConcurrentDelete, message, file);
            }
        }
        for file in &change.added {
            if file.is_data() {
                let adds_rows = self.minds_added_rows(&change.operation);
                if adds_rows && (self.reads.touches(file) || self.made_of(file)) {
                    let message = "another commit added rows where this operation read";
                    return conflict(Reason::ConcurrentAppend, message, file);
                }
                continue;
            }
            // Rewritten deletes delete what they did. A vector may have come instead of one that a new one must contain.
            if !changes_rows && !is_vector(&file.file) {
                continue;
            }
            if self.deletes_what_is_replaced(file) {
                let message = "another commit deleted rows of what this operation replaces";
                return conflict(Reason::ConcurrentDelete, message, file);
            }
            if self.excludes(file) {
                let message = "another commit deleted rows of a file of which this operation does";
                return conflict(Reason::ConcurrentDelete, message, file);
            }
            let of_input = self.input.is_some() && (self.made_of(file) || self.is_global(file));
            let of_reads = self.footprint.updates && self.may_delete_what_was_read(file);
            if changes_rows && (of_input || of_reads) {
                let message = "another commit deleted rows of what this operation read";
                return conflict(Reason::ConcurrentDelete, message, file);
            }
        }
        Ok(())
    }

    /// True if a delete file and those of this action can't both be right: there would be two deletion
    /// vectors of a data file, or one beside position deletes that it does not hold, or deleted rows would be
    /// updated.
    fn excludes(&self, file: &LiveFile) -> bool {
        let by_position = file.file.content_type() == DataContentType::PositionDeletes;
        let stands_alone = by_position && (self.footprint.vectors || is_vector(&file.file));
        (stands_alone || self.footprint.updates) && self.may_apply(file, &self.referenced)
    }

    /// True if a delete file may delete rows that match the filter of what was read.
    fn may_delete_what_was_read(&self, file: &LiveFile) -> bool {
        // Of a delete file only the partition tells.
        let read_any = !matches!(self.reads, ReadRows::Nothing);
        read_any && (self.is_global(file) || self.reads.touches(file))
    }

    /// Whether a delete file may delete rows that this action replaces, or does not carry over as they are deleted.
    fn deletes_what_is_replaced(&self, file: &LiveFile) -> bool {
        let mut applies = self.may_apply(file, &self.replaced);
        let equality = file.file.content_type() == DataContentType::EqualityDeletes;
        if equality && self.footprint.sequence_number.is_some() && !self.replaces_what_it_reads() {
            if !self.moves_rows || self.is_global(file) {
                return false; // applies to the new files as it does to those that they replace
            }
            applies |= self.added_partitions.contains(&self.key(file));
        }
        // Only the partition of a delete file tells: its bounds are those of its keys or paths, not of the rows that it
        // deletes.
        applies || (self.replaces_what_it_reads() && (self.is_global(file) || self.reads.touches(file)))
    }

    /// Tells whether a delete file that was removed came after the new files' sequence number, and may have deleted their rows: by
    /// positions that came instead it deletes those of the files that are replaced.
    fn relies_on(&self, file: &LiveFile) -> bool {
        let since = self.footprint.sequence_number.is_some_and(|number| file.sequence_number > number);
        let equality = file.file.content_type() == DataContentType::EqualityDeletes;
        let applies =
            || self.may_apply(file, &self.replaced) || self.added_partitions.contains(&self.key(file));
        since && equality && applies()
    }

    /// True if a delete file may delete rows of one of some data files. Errs on the side of yes.
    fn may_apply(&self, delete: &LiveFile, to: &DataFiles<'_>) -> bool {
        if to.is_empty() {
            return false;
        }
        if delete.file.content_type() == DataContentType::PositionDeletes {
            if let Some(path) = delete.file.referenced_data_file() {
                return to.paths.contains(path.as_str());
            }
            if let Some((lower, upper)) = path_bounds(&delete.file) {
                // The upper one may be the beginning of a path alone.
                let within = |path: &&&str| **path <= upper || path.starts_with(upper);
                let from = to.in_order.partition_point(|path| *path < lower);
                if to.in_order.get(from).filter(within).is_none() {
                    return false;
                }
                if lower == upper {
                    return true; // of one file, whatever its partition
                }
            }
        }
        self.is_global(delete) || to.partitions.contains(&self.key(delete))
    }

    /// What is the same for all files whose partitions may be one.
    fn key(&self, file: &LiveFile) -> (i32, PartitionKey) {
        self.keys.key(file.spec_id, file.file.partition())
    }

    /// Whether a delete file is of no partition.
    fn is_global(&self, delete: &LiveFile) -> bool {
        self.metadata.partition_spec_by_id(delete.spec_id).is_none_or(|spec| spec.is_unpartitioned())
    }

    fn made_of(&self, file: &LiveFile) -> bool {
        self.input.as_ref().is_some_and(|matcher| matcher.might_match(file.spec_id, &file.file))
    }

    fn replaces_what_it_reads(&self) -> bool {
        matches!(self.footprint.reads, Reads::Replaced(_) | Reads::Partitions(_))
    }

    /// Whether rows that a snapshot of this operation added can matter. A rewrite moves rows, it adds none.
    fn minds_added_rows(&self, operation: &Operation) -> bool {
        let reads = self.input.is_some() || !matches!(self.footprint.reads, Reads::Nothing);
        reads
            && self.footprint.isolation == Isolation::Serializable
            && matches!(operation, Operation::Append | Operation::Overwrite)
    }

    /// Whether files that a snapshot of this operation removed, or deletes that it added, can matter. An append has none.
    fn minds_removals(&self, operation: &Operation) -> bool {
        let names_files = !self.replaced.is_empty() || !self.referenced.is_empty();
        let minds =
            names_files || self.input.is_some() || self.footprint.updates || self.replaces_what_it_reads();
        minds && *operation != Operation::Append
    }
}
