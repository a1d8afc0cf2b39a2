//! [`Rewrite`]: data files are replaced by others that hold the same rows.

use iceberg::spec::Operation;

use super::{Effect, Moment, SnapshotAction};
use crate::commit::removal::Removal;
use crate::commit::validate::{Footprint, Isolation, Reads};
use crate::error::{Error, Result};
use crate::format::{ContentFile, FileRef};

/// Replaces data files by others that hold the same rows.
#[derive(Debug, Clone)]
pub struct Rewrite {
    /// The data files that go.
    pub delete: Vec<FileRef>,
    /// The data files that come.
    pub add: Vec<ContentFile>,
    /// The data sequence number of the new files. With that of the snapshot that was read, equality deletes that are
    /// committed meanwhile still apply to them. Those that don't apply to the new files as they did to the old ones, since
    /// these move to another partition spec, are a conflict.
    pub sequence_number: Option<i64>,
}

impl Rewrite {
    pub(in crate::commit) fn footprint(&self, isolation: Isolation) -> Footprint {
        Footprint {
            sequence_number: self.sequence_number,
            ..Footprint::new(Reads::Nothing, &self.delete, &self.add, isolation)
        }
    }
}

impl SnapshotAction for Rewrite {
    fn effect(&self, moment: &Moment<'_>) -> Result<Effect> {
        if self.delete.is_empty() {
            return Err(Error::invalid_input("a rewrite replaces at least one file"));
        }
        Ok(Effect {
            add: self.add.clone(),
            sequence_number: self.sequence_number,
            remove: Removal::of_files(&self.delete, moment.metadata),
            footprint: Some(self.footprint(moment.isolation)),
            ..Effect::new(Operation::Replace)
        })
    }
}
