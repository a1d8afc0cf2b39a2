//! Whether an action still holds after what others committed: one pure rule over footprints (Iceberg Java's validations).

use std::collections::{HashMap, HashSet};

use iceberg::spec::{DataContentType, Operation, Struct, TableMetadata};

use super::action::Isolation;
use crate::error::{Error, Result};
use crate::filter::{FileMatcher, Filter};
use crate::format::LiveFile;
use crate::format::partition::PartitionKey;

/// What an action relied on when it was computed.
#[derive(Debug)]
pub struct Footprint {
    /// The rows that it read or replaces.
    pub reads: Reads,
    /// The rows that its new ones were made of, beyond `reads`: none of them may have been removed or deleted.
    pub input: Option<Filter>,
    /// The data files that it replaces: each must still be there.
    pub replaces: Vec<LiveFile>,
    /// The partitions that its new files are in: spec ids and partition values.
    pub adds: HashSet<(i32, Struct)>,
    /// Whether the new files keep the sequence number that the action started from, so that equality deletes committed
    /// since apply to them by their partitions.
    pub keeps_sequence_number: bool,
    /// What it tolerates.
    pub isolation: Isolation,
}

/// Rows that an action read or replaces.
#[derive(Debug)]
pub enum Reads {
    /// None: appends, and rewrites, which read just the files that they replace.
    Nothing,
    /// Those that match.
    Matching(Filter),
    /// Those that match, replaced by filter: a file removed meanwhile that may match is a conflict too.
    Replaced(Filter),
    /// Those of partitions, replaced: spec ids and partition values.
    Partitions(Vec<(i32, Struct)>),
}

/// What one snapshot changed.
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

/// Checks an action against the changes committed since it was computed, oldest first.
///
/// # Errors
/// [`Conflict`](crate::ErrorKind::Conflict) naming the file, the snapshot and its operation.
pub fn validate(footprint: &Footprint, changes: &[Change], metadata: &TableMetadata) -> Result<()> {
    let matcher = match &footprint.reads {
        Reads::Matching(filter) | Reads::Replaced(filter) => Some(FileMatcher::new(filter, metadata)?),
        Reads::Nothing | Reads::Partitions(_) => None,
    };
    let input = footprint.input.as_ref().map(|filter| FileMatcher::new(filter, metadata)).transpose()?;
    let made_of =
        |file: &LiveFile| input.as_ref().is_some_and(|matcher| matcher.might_match(file.spec_id, &file.file));
    let read = match &footprint.reads {
        Reads::Partitions(partitions) => keys(partitions),
        _ => HashSet::new(),
    };
    let touches = |file: &LiveFile| match (&footprint.reads, &matcher) {
        (Reads::Nothing, _) => false,
        (Reads::Partitions(_), _) => read.contains(&key(file)),
        (_, Some(matcher)) => matcher.might_match(file.spec_id, &file.file),
        (_, None) => true,
    };
    let replaced: HashMap<&str, &LiveFile> = footprint.replaces.iter().map(|f| (f.path(), f)).collect();
    let replaces_what_it_reads = matches!(footprint.reads, Reads::Replaced(_) | Reads::Partitions(_));
    let added = keys(&footprint.adds);
    let mut specs = footprint.replaces.iter().map(|file| file.spec_id).chain(added.iter().map(|(id, _)| *id));
    // Rows that stay in their spec stay in their partitions.
    let moves_rows = specs.next().is_some_and(|first| specs.any(|other| other != first));

    for change in changes {
        let conflict = |message: &str, file: &LiveFile| {
            Error::conflict(format!("{message}; read the table again and run the operation again"))
                .with("file", file.path())
                .with("snapshot", change.snapshot_id)
                .with("operation", change.operation.as_str())
        };
        // What is rewritten is the same rows still.
        let changes_rows = change.operation != Operation::Replace;
        for file in &change.removed {
            if replaced.contains_key(file.path()) {
                return Err(conflict(
                    "a file that this operation replaces was removed by another commit",
                    file,
                ));
            }
            if replaces_what_it_reads && file.is_data() && touches(file) {
                return Err(conflict(
                    "a file was removed by another commit from what this operation replaces",
                    file,
                ));
            }
            if changes_rows && file.is_data() && made_of(file) {
                return Err(conflict(
                    "a file was removed by another commit from what this operation read",
                    file,
                ));
            }
        }
        for file in &change.added {
            if !file.is_data() {
                let mut applies = footprint.replaces.iter().any(|data| may_apply(file, data, metadata));
                let equality = file.file.content_type() == DataContentType::EqualityDeletes;
                if equality && footprint.keeps_sequence_number && !replaces_what_it_reads {
                    if !moves_rows || is_global(file, metadata) {
                        continue; // applies to the new files as it does to those that they replace
                    }
                    applies |= added.contains(&key(file));
                }
                // Only the partition of a delete file tells: its bounds are those of its keys or paths, not of the rows that
                // it deletes.
                let deletes_there = is_global(file, metadata) || touches(file);
                if applies || (replaces_what_it_reads && deletes_there) {
                    return Err(conflict(
                        "another commit deleted rows of what this operation replaces",
                        file,
                    ));
                }
                if changes_rows && (made_of(file) || (input.is_some() && is_global(file, metadata))) {
                    return Err(conflict("another commit deleted rows of what this operation read", file));
                }
                continue;
            }
            // A rewrite moves rows, it adds none.
            let adds_rows = matches!(change.operation, Operation::Append | Operation::Overwrite);
            if footprint.isolation == Isolation::Serializable && adds_rows && (touches(file) || made_of(file))
            {
                return Err(conflict("another commit added rows where this operation read", file));
            }
        }
    }
    Ok(())
}

/// Whether a delete file may delete rows of a data file. Errs on the side of yes.
fn may_apply(delete: &LiveFile, data: &LiveFile, metadata: &TableMetadata) -> bool {
    if let Some(target) = delete.file.referenced_data_file() {
        return target == data.path();
    }
    is_global(delete, metadata) || key(delete) == key(data)
}

/// Whether a delete file is of no partition.
fn is_global(delete: &LiveFile, metadata: &TableMetadata) -> bool {
    metadata.partition_spec_by_id(delete.spec_id).is_none_or(|spec| spec.is_unpartitioned())
}

fn key(file: &LiveFile) -> (i32, PartitionKey) {
    (file.spec_id, PartitionKey::new(file.file.partition()))
}

pub(super) fn keys<'a>(
    partitions: impl IntoIterator<Item = &'a (i32, Struct)>,
) -> HashSet<(i32, PartitionKey)> {
    partitions.into_iter().map(|(spec_id, value)| (*spec_id, PartitionKey::new(value))).collect()
}
