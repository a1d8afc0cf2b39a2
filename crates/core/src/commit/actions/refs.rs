//! Branches and tags: created, set, moved along history, dropped.

use iceberg::TableUpdate;
use iceberg::spec::{MAIN_BRANCH, SnapshotReference, TableMetadata};

use super::{MetadataAction, MetadataEffect};
use crate::commit::branch::branch_retention;
use crate::commit::history;
use crate::error::{Error, ErrorKind, Result};
use crate::table::{Table, ancestors, references};

/// Sets a branch or tag that need not exist.
#[derive(Debug)]
pub(in crate::commit) struct SetRef(pub(in crate::commit) String, pub(in crate::commit) SnapshotReference);

impl MetadataAction for SetRef {
    fn effect(&self, metadata: &TableMetadata, current: &Table) -> Result<MetadataEffect> {
        set(metadata, current, &self.0, &self.1)
    }
}

/// Makes a branch or tag that must not exist.
#[derive(Debug)]
pub(in crate::commit) struct CreateRef(pub(in crate::commit) String, pub(in crate::commit) SnapshotReference);

impl MetadataAction for CreateRef {
    fn effect(&self, metadata: &TableMetadata, current: &Table) -> Result<MetadataEffect> {
        let Self(name, reference) = self;
        if references(metadata).iter().any(|(other, _)| other == name) {
            return Err(Error::new(
                ErrorKind::AlreadyExists,
                "a branch or tag of this name exists; remove it, or choose another name",
            )
            .with("table", current.ident())
            .with("ref", name));
        }
        set(metadata, current, name, reference)
    }

    fn may_be_anothers(&self) -> bool {
        false // what is created is one's own
    }
}

/// Drops a branch or tag.
#[derive(Debug)]
pub(in crate::commit) struct RemoveRef(pub(in crate::commit) String);

impl MetadataAction for RemoveRef {
    fn effect(&self, metadata: &TableMetadata, current: &Table) -> Result<MetadataEffect> {
        let name = &self.0;
        if name == MAIN_BRANCH {
            return Err(Error::invalid_input("the branch main can't be dropped"));
        }
        if metadata.snapshot_for_ref(name).is_none() {
            return Err(Error::not_found("no such branch or tag; see the table's refs")
                .with("table", current.ident())
                .with("ref", name));
        }
        let mut updates = vec![TableUpdate::RemoveSnapshotRef { ref_name: name.clone() }];
        updates.extend(history::keys_of_ref(metadata, name, None));
        Ok(MetadataEffect { updates, refs: vec![name.clone()], ..MetadataEffect::default() })
    }
}

/// Makes an earlier snapshot of a branch its head again.
#[derive(Debug)]
pub(in crate::commit) struct Rollback {
    pub(in crate::commit) branch: String,
    pub(in crate::commit) snapshot_id: i64,
}

impl MetadataAction for Rollback {
    fn effect(&self, metadata: &TableMetadata, current: &Table) -> Result<MetadataEffect> {
        let Self { branch, snapshot_id } = self;
        let retention = branch_retention(&references(metadata), branch)?;
        let head = metadata.snapshot_for_ref(branch).map(|s| s.snapshot_id());
        let is_ancestor =
            head.is_some_and(|head| ancestors(metadata, head).any(|s| s.snapshot_id() == *snapshot_id));
        if !is_ancestor {
            return Err(Error::invalid_input(
                "only an ancestor of the branch's head can be rolled back to; move the branch to a descendant with fast_forward, \
                 or overwrite it with the rows of another snapshot",
            )
            .with("branch", branch)
            .with("snapshot", snapshot_id));
        }
        set(metadata, current, branch, &SnapshotReference::new(*snapshot_id, retention))
    }
}

/// Makes a descendant of a branch's head its head.
#[derive(Debug)]
pub(in crate::commit) struct FastForward {
    pub(in crate::commit) branch: String,
    pub(in crate::commit) snapshot_id: i64,
}

impl MetadataAction for FastForward {
    fn effect(&self, metadata: &TableMetadata, current: &Table) -> Result<MetadataEffect> {
        let Self { branch, snapshot_id } = self;
        let retention = branch_retention(&references(metadata), branch)?;
        if metadata.snapshot_by_id(*snapshot_id).is_none() {
            let missing = "no such snapshot; it may have expired";
            return Err(Error::not_found(missing).with("branch", branch).with("snapshot", snapshot_id));
        }
        let head = metadata.snapshot_for_ref(branch).map(|s| s.snapshot_id());
        let descends = head.is_none_or(|head| {
            ancestors(metadata, *snapshot_id).any(|ancestor| ancestor.snapshot_id() == head)
        });
        if !descends {
            return Err(Error::invalid_input(
                "the branch has commits that the snapshot does not descend from, which would be lost; make the other branch \
                 anew at the branch's head and write to it again",
            )
            .with("branch", branch)
            .with("snapshot", snapshot_id));
        }
        set(metadata, current, branch, &SnapshotReference::new(*snapshot_id, retention))
    }
}

/// Sets a branch or tag, with the expired keys of what it is made from. The updates hold for this metadata alone.
fn set(
    metadata: &TableMetadata,
    current: &Table,
    name: &str,
    reference: &SnapshotReference,
) -> Result<MetadataEffect> {
    if metadata.snapshot_by_id(reference.snapshot_id).is_none() {
        return Err(Error::not_found("no such snapshot; it may have been expired")
            .with("table", current.ident())
            .with("snapshot", reference.snapshot_id));
    }
    if name == MAIN_BRANCH && !reference.is_branch() {
        return Err(Error::invalid_input("main is a branch and can't become a tag"));
    }
    let mut updates =
        vec![TableUpdate::SetSnapshotRef { ref_name: name.to_string(), reference: reference.clone() }];
    updates.extend(history::keys_of_ref(metadata, name, Some(reference)));
    Ok(MetadataEffect {
        updates,
        refs: vec![name.to_string()],
        of_whole_table: true,
        sets: Some((name.to_string(), reference.snapshot_id)),
        ..MetadataEffect::default()
    })
}
