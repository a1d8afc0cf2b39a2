//! [`DeleteFiles`]: data files are removed, by location.

use iceberg::spec::Operation;

use super::{Effect, Moment, SnapshotAction};
use crate::commit::removal::Removal;
use crate::error::Result;

/// Removes data files. That each is still there is checked when it is taken out.
#[derive(Debug)]
pub(in crate::commit) struct DeleteFiles {
    pub(in crate::commit) paths: Vec<String>,
}

impl SnapshotAction for DeleteFiles {
    fn effect(&self, _: &Moment<'_>) -> Result<Effect> {
        let remove = Removal::Paths(self.paths.iter().cloned().collect(), None);
        Ok(Effect { remove, ..Effect::new(Operation::Delete) })
    }
}
