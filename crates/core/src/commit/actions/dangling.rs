//! [`RemoveDanglingDeletes`]: delete files that apply to no data file any more are taken out of the table.

use iceberg::spec::Operation;

use super::{Effect, Moment, SnapshotAction};
use crate::commit::removal::Removal;
use crate::error::Result;

/// Removes the delete files that dangle. Which these are is found anew at every try.
#[derive(Debug)]
pub(in crate::commit) struct RemoveDanglingDeletes;

impl SnapshotAction for RemoveDanglingDeletes {
    fn effect(&self, _: &Moment<'_>) -> Result<Effect> {
        Ok(Effect { remove: Removal::DanglingDeletes, merge: false, ..Effect::new(Operation::Replace) })
    }
}
