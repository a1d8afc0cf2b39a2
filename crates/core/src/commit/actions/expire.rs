//! [`ExpireSnapshots`]: snapshots and references leave the metadata, and the specs and schemas that nothing uses any more.
//!
//! **What goes.** Entries of the metadata. Files are deleted by whoever expires, after the commit.
//!
//! **Why that is safe.** A snapshot that a kept branch or tag names is refused. The plan is worked out anew at every try, and
//! its outcome is published only where nothing was committed since.

use std::fmt;

use iceberg::TableUpdate;
use iceberg::spec::{MAIN_BRANCH, TableMetadata};

use super::{MetadataAction, MetadataEffect, Replayed};
use crate::commit::history;
use crate::error::{Error, Result};
use crate::table::{Table, references};

/// The snapshots, references, specs and schemas that an expiry removes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expiry {
    /// Snapshots, by id.
    pub snapshots: Vec<i64>,
    /// Branches and tags, by name.
    pub refs: Vec<String>,
    /// Partition specs that nothing uses any more, by id.
    pub specs: Vec<i32>,
    /// Schemas that nothing uses any more, by id.
    pub schemas: Vec<i32>,
}

/// Removes what its plan names.
pub(in crate::commit) struct ExpireSnapshots(pub(in crate::commit) Replayed<Expiry>);

impl fmt::Debug for ExpireSnapshots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ExpireSnapshots")
    }
}

impl MetadataAction for ExpireSnapshots {
    fn effect(&self, metadata: &TableMetadata, current: &Table) -> Result<MetadataEffect> {
        Ok(MetadataEffect {
            updates: updates(metadata, self.0(metadata)?)?,
            refs: references(current.metadata()).into_iter().map(|(name, _)| name).collect(),
            of_whole_table: true,
            ..MetadataEffect::default()
        })
    }

    fn may_be_anothers(&self) -> bool {
        false // what expired is told to whoever deletes the files
    }
}

/// The updates of an expiry. Refuses to remove what a kept branch or tag names: `iceberg` would drop the reference.
fn updates(metadata: &TableMetadata, expiry: Expiry) -> Result<Vec<TableUpdate>> {
    let mut updates = Vec::new();
    for name in &expiry.refs {
        if name == MAIN_BRANCH {
            return Err(Error::invalid_input("the branch main never expires"));
        }
        updates.push(TableUpdate::RemoveSnapshotRef { ref_name: name.clone() });
        updates.extend(history::keys_of_ref(metadata, name, None));
    }
    let snapshot_ids: Vec<i64> =
        expiry.snapshots.into_iter().filter(|id| metadata.snapshot_by_id(*id).is_some()).collect();
    for (name, reference) in references(metadata) {
        if !expiry.refs.contains(&name) && snapshot_ids.contains(&reference.snapshot_id) {
            return Err(Error::invalid_input(
                "a snapshot that a branch or tag names can't be expired; drop that first",
            )
            .with("snapshot", reference.snapshot_id)
            .with("ref", name));
        }
    }
    if !snapshot_ids.is_empty() {
        let keys = history::keep_keys(metadata, &snapshot_ids, &expiry.refs)?;
        if !keys.is_empty() {
            updates.push(TableUpdate::SetProperties { updates: keys });
        }
        updates.push(TableUpdate::RemoveSnapshots { snapshot_ids });
    }
    if !expiry.specs.is_empty() {
        updates.push(TableUpdate::RemovePartitionSpecs { spec_ids: expiry.specs });
    }
    if !expiry.schemas.is_empty() {
        updates.push(TableUpdate::RemoveSchemas { schema_ids: expiry.schemas });
    }
    Ok(updates)
}
