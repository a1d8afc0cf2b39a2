//! [`Append`]: data files are added.

use iceberg::spec::Operation;

use super::{Effect, Moment, SnapshotAction};
use crate::error::Result;
use crate::format::ContentFile;

/// Adds data files. An append without files is a snapshot too.
#[derive(Debug)]
pub(in crate::commit) struct Append {
    pub(in crate::commit) files: Vec<ContentFile>,
    /// True if small manifests are merged on the way.
    pub(in crate::commit) merge: bool,
}

impl SnapshotAction for Append {
    fn effect(&self, _: &Moment<'_>) -> Result<Effect> {
        Ok(Effect {
            add: self.files.clone(),
            merge: self.merge,
            may_be_empty: true,
            ..Effect::new(Operation::Append)
        })
    }

    fn is_long(&self) -> bool {
        false
    }
}
