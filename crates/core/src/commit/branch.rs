//! What commits ask of a branch: its retention settings, and what came to it since.

use iceberg::spec::{SnapshotRef, SnapshotReference, SnapshotRetention, TableMetadata};

use crate::error::{ConflictReason, Error, Result};
use crate::table::ancestors;

/// The retention settings of a branch, as they are or as a new branch has them.
///
/// # Errors
/// [`InvalidInput`](crate::ErrorKind::InvalidInput) for a tag, which stays where it is.
pub(super) fn branch_retention(
    references: &[(String, SnapshotReference)],
    branch: &str,
) -> Result<SnapshotRetention> {
    let reference = references.iter().find(|(name, _)| name == branch);
    match reference {
        Some((_, reference)) if !reference.is_branch() => Err(Error::invalid_input(
            "a tag stays on its snapshot and can't be committed to; commit to a branch, a new one at the tag's snapshot perhaps",
        )
        .with("tag", branch)),
        Some((_, reference)) => Ok(reference.retention.clone()),
        None => Ok(SnapshotRetention::branch(None, None, None)),
    }
}

/// The snapshots of a branch after `start`, oldest first.
///
/// # Errors
/// [`Conflict`](crate::ErrorKind::Conflict) when `start` is not part of the branch's history any more.
pub(super) fn since(metadata: &TableMetadata, branch: &str, start: Option<i64>) -> Result<Vec<SnapshotRef>> {
    let head = metadata.snapshot_for_ref(branch).map(|s| s.snapshot_id());
    let mut newer = Vec::new();
    let mut found = start.is_none() || head == start;
    if let Some(head) = head.filter(|_| head != start) {
        for snapshot in ancestors(metadata, head) {
            if Some(snapshot.snapshot_id()) == start {
                found = true;
                break;
            }
            newer.push(snapshot.clone());
        }
        let oldest_has_parent = newer.last().is_some_and(|s| s.parent_snapshot_id().is_some());
        if start.is_none() && oldest_has_parent {
            found = false; // what came first has been expired
        }
    }
    if !found {
        return Err(Error::conflict(
            "the snapshot that the operation was computed from is no longer in the branch's history (expired, or rolled \
             back past); read the table again and run the operation again",
        )
        .because(ConflictReason::BaseExpired)
        .with("branch", branch)
        .with("snapshot", start.map_or("none".to_string(), |id| id.to_string())));
    }
    newer.reverse();
    Ok(newer)
}
