//! [`Overwrite`]: data files are replaced by others, by name, by partition or by filter.

use iceberg::spec::{Operation, Struct};

use super::{Effect, Moment, SnapshotAction};
use crate::commit::added::check_spec;
use crate::commit::removal::Removal;
use crate::commit::validate::{Footprint, Reads};
use crate::error::Result;
use crate::filter::{FileMatcher, Filter};
use crate::format::partition::PartitionSet;
use crate::format::{ContentFile, FileRef};

/// Summary property of a dynamic overwrite, which cherry-picking asks for.
const REPLACE_PARTITIONS: &str = "replace-partitions";

/// The data files that an [`Overwrite`] replaces.
#[derive(Debug, Clone)]
pub enum DeleteBy {
    /// These.
    Files(Vec<FileRef>),
    /// All files of these partitions, each with the id of its spec. The partition of a spec without partitions is the whole
    /// table, files of other specs too.
    Partitions(Vec<(i32, Struct)>),
    /// All files whose rows match. A file of which only some rows match is an error.
    Filter(Filter),
}

/// Replaces data files by others.
#[derive(Debug, Clone)]
pub struct Overwrite {
    /// The data files that go.
    pub delete: DeleteBy,
    /// The data files that come.
    pub add: Vec<ContentFile>,
    /// The rows that the operation read to find its result. Under
    /// [`Isolation::Serializable`](crate::commit::Isolation::Serializable) a file added meanwhile that may match is a conflict.
    ///
    /// The other kinds than [`DeleteBy::Files`] have read what they delete; with this they have read these rows as well, of
    /// which then none may have been removed or deleted meanwhile.
    pub reads: Option<Filter>,
}

impl SnapshotAction for Overwrite {
    fn effect(&self, moment: &Moment<'_>) -> Result<Effect> {
        let operation = if self.add.is_empty() { Operation::Delete } else { Operation::Overwrite };
        let footprint = |reads, replaces: &[FileRef], input| Footprint {
            input,
            ..Footprint::new(reads, replaces, &self.add, moment.isolation)
        };
        let mut effect = Effect { add: self.add.clone(), ..Effect::new(operation) };
        let whole = |(spec_id, _): &(i32, _)| {
            moment.metadata.partition_spec_by_id(*spec_id).is_some_and(|spec| spec.is_unpartitioned())
        };
        let filter = match &self.delete {
            DeleteBy::Files(files) => {
                let reads = self.reads.clone().map_or(Reads::Nothing, Reads::Matching);
                effect.remove = Removal::of_files(files, moment.metadata);
                effect.footprint = Some(footprint(reads, files, None));
                return Ok(effect);
            }
            DeleteBy::Partitions(partitions) => {
                effect.summary = vec![(REPLACE_PARTITIONS, true.to_string())];
                effect.specs = partitions.iter().map(|(spec_id, _)| *spec_id).collect();
                if !partitions.iter().any(whole) {
                    for spec_id in &effect.specs {
                        check_spec(moment.metadata, moment.base, *spec_id)?;
                    }
                    let set = partitions.iter().map(|(spec_id, value)| (*spec_id, value));
                    effect.remove = Removal::Partitions(PartitionSet::new(set, moment.metadata));
                    let reads = Reads::Partitions(partitions.clone());
                    effect.footprint = Some(footprint(reads, &[], self.reads.clone()));
                    return Ok(effect);
                }
                // The table has no partitions now: what it has of the specs of before is replaced as well.
                &Filter::True
            }
            DeleteBy::Filter(filter) => filter,
        };
        effect.remove = Removal::Matching(FileMatcher::new(filter, moment.metadata)?);
        effect.footprint = Some(footprint(Reads::Replaced(filter.clone()), &[], self.reads.clone()));
        Ok(effect)
    }
}
