//! Which snapshots and references an expiry removes: a pure function of metadata, time and rules, as Iceberg Java's
//! `RemoveSnapshots` has them.

use std::collections::{BTreeSet, HashSet};

use iceberg::spec::{SnapshotReference, SnapshotRetention, TableMetadata};
use icefield_core::table::{MAIN_BRANCH, ancestors, references};
use icefield_core::{Error, Result};

/// What the caller and the table's properties ask for. Times are milliseconds since the epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rules {
    /// The time from which ages are counted.
    pub(crate) now_ms: i64,
    /// Snapshots at or after this time stay, unless their branch says otherwise.
    pub(crate) cutoff_ms: i64,
    /// How many of a branch's newest snapshots stay, unless the branch says otherwise. At least 1.
    pub(crate) retain_last: usize,
    /// The age past which branches and tags other than `main` go, unless they say otherwise.
    pub(crate) max_ref_age_ms: i64,
    /// Snapshots that go whatever their age.
    pub(crate) snapshot_ids: BTreeSet<i64>,
}

/// What goes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Selection {
    /// Ids of snapshots, ascending.
    pub(crate) snapshots: Vec<i64>,
    /// Names of branches and tags, ascending.
    pub(crate) refs: Vec<String>,
}

/// What `rules` remove from `metadata`.
///
/// # Errors
/// [`InvalidInput`](icefield_core::ErrorKind::InvalidInput) when a snapshot named by id is the head of a branch or tag
/// that stays.
pub(crate) fn select(metadata: &TableMetadata, rules: &Rules) -> Result<Selection> {
    let (kept, removed): (Vec<_>, Vec<_>) = references(metadata)
        .into_iter()
        .partition(|(name, reference)| keeps_ref(metadata, rules, name, reference));

    let mut retained: HashSet<i64> = HashSet::new();
    let mut referenced: HashSet<i64> = HashSet::new();
    for (name, reference) in &kept {
        let head = reference.snapshot_id;
        if rules.snapshot_ids.contains(&head) {
            return Err(Error::invalid_input(
                "the snapshot is the head of a branch or tag that stays; drop that first, or leave the snapshot out",
            )
            .with("snapshot", head)
            .with("ref", name));
        }
        retained.insert(head);
        referenced.insert(head);
        if let SnapshotRetention::Branch { min_snapshots_to_keep, max_snapshot_age_ms, .. } =
            reference.retention
        {
            let at_least =
                min_snapshots_to_keep.map_or(rules.retain_last, |n| usize::try_from(n).unwrap_or(1)).max(1);
            let cutoff = max_snapshot_age_ms.map_or(rules.cutoff_ms, |age| rules.now_ms.saturating_sub(age));
            let history = ancestors(metadata, head).enumerate();
            let stays = history.take_while(|(i, s)| *i < at_least || s.timestamp_ms() >= cutoff);
            retained.extend(stays.map(|(_, s)| s.snapshot_id()));
            referenced.extend(ancestors(metadata, head).map(|s| s.snapshot_id()));
        }
    }
    // Snapshots on no branch or tag (staged, or rolled back from) have only their age to speak for them.
    let unreferenced = metadata.snapshots().filter(|s| !referenced.contains(&s.snapshot_id()));
    let young = unreferenced.filter(|s| s.timestamp_ms() >= rules.cutoff_ms).map(|s| s.snapshot_id());
    retained.extend(young);

    let goes = |id: &i64| rules.snapshot_ids.contains(id) || !retained.contains(id);
    let mut snapshots: Vec<i64> = metadata.snapshots().map(|s| s.snapshot_id()).filter(goes).collect();
    snapshots.sort_unstable();
    Ok(Selection { snapshots, refs: removed.into_iter().map(|(name, _)| name).collect() })
}

/// `main` always stays; others until they are too old. A reference to a snapshot that does not exist is invalid and goes.
fn keeps_ref(metadata: &TableMetadata, rules: &Rules, name: &str, reference: &SnapshotReference) -> bool {
    if name == MAIN_BRANCH {
        return true;
    }
    let own = match reference.retention {
        SnapshotRetention::Branch { max_ref_age_ms, .. } | SnapshotRetention::Tag { max_ref_age_ms } => {
            max_ref_age_ms
        }
    };
    let max_age = own.unwrap_or(rules.max_ref_age_ms);
    let head = metadata.snapshot_by_id(reference.snapshot_id);
    head.is_some_and(|s| rules.now_ms.saturating_sub(s.timestamp_ms()) <= max_age)
}

#[cfg(test)]
mod tests;
