//! From a transaction's actions to the updates and requirements of a catalog's commit, with the manifests written.

use std::collections::{HashMap, HashSet};

use futures::StreamExt;
use iceberg::spec::TableMetadata;
use iceberg::{TableRequirement, TableUpdate};

use super::actions::{Action, Start};
use super::kept::Kept;
use super::manifests::ManifestStore;
use super::{Transaction, snapshot};
use crate::catalog::{Catalog, apply_updates};
use crate::error::Result;
use crate::storage::Storage;
use crate::table::{Table, references};

/// What actions come to: the manifests are written, nothing names them yet.
pub(super) struct Staged {
    pub(super) updates: Vec<TableUpdate>,
    pub(super) requirements: Vec<TableRequirement>,
    /// Whether the updates hold for the metadata that they were made for alone: the lists of expired keys that they set follow
    /// from all its snapshots and references and from the lists before; and nothing but its files keeps a partition spec that
    /// is not the default one, nor its id.
    pub(super) of_whole_table: bool,
    pub(super) snapshot_id: Option<i64>,
    /// The manifest lists of the new snapshots, and what these name.
    pub(super) named: HashSet<String>,
}

/// Applies the actions one after the other, each to the metadata that the one before leaves.
pub(super) async fn stage(
    transaction: &Transaction,
    current: &Table,
    catalog: &dyn Catalog,
    kept: &mut Vec<Kept>,
    store: &mut ManifestStore<'_>,
) -> Result<Staged> {
    let mut metadata = current.metadata().clone();
    kept.resize_with(transaction.actions.len(), Kept::default);
    let mut staged = Staged {
        updates: Vec::new(),
        requirements: vec![TableRequirement::UuidMatch { uuid: metadata.uuid() }],
        of_whole_table: false,
        snapshot_id: None,
        named: HashSet::new(),
    };
    // Where this transaction has set branches: later actions begin there.
    let mut set = HashMap::new();
    for (action, kept) in transaction.actions.iter().zip(kept) {
        let updates = match action {
            Action::Snapshot { branch, isolation, start, action } => {
                require_ref(&mut staged.requirements, current.metadata(), branch);
                require_schema_and_spec(&mut staged.requirements, current.metadata());
                // To ask metadata for its references takes time that grows with its history; the table has asked once.
                let changed = (!staged.updates.is_empty()).then(|| references(&metadata));
                let context = snapshot::Context {
                    metadata: &metadata,
                    references: changed.as_deref().unwrap_or(current.references()),
                    base: transaction.base.metadata(),
                    start: match (start, set.get(branch)) {
                        (Start::Table, Some(snapshot_id)) => Start::Set(*snapshot_id),
                        (start, _) => *start,
                    },
                    branch,
                    isolation: *isolation,
                    summary: &transaction.summary,
                    clock: &**catalog.clock(),
                };
                match snapshot::produce(context, &**action, kept, store).await? {
                    Some(produced) => {
                        let is_known = |id: &i32| is_known_by_its_id(*id, current.metadata());
                        staged.of_whole_table |= !produced.specs.iter().all(is_known);
                        staged.snapshot_id = Some(produced.snapshot_id);
                        staged.named.extend(produced.named);
                        produced.updates
                    }
                    None => Vec::new(),
                }
            }
            Action::Metadata(action) => {
                let effect = action.effect(&metadata, current)?;
                for name in &effect.refs {
                    require_ref(&mut staged.requirements, current.metadata(), name);
                }
                for requirement in effect.requirements {
                    // What an earlier action of this transaction changed can't be required of the catalog's state.
                    if requirement.check(Some(current.metadata())).is_ok()
                        && !staged.requirements.contains(&requirement)
                    {
                        staged.requirements.push(requirement);
                    }
                }
                staged.of_whole_table |= effect.of_whole_table;
                set.extend(effect.sets);
                effect.updates
            }
        };
        if !updates.is_empty() {
            metadata = apply_updates(&metadata, Some(current.metadata_location()), updates.iter().cloned())?;
            staged.updates.extend(updates);
        }
    }
    Ok(staged)
}

/// Requires the schema and partition spec that new snapshots and their files are of to be current still: once they are not,
/// nothing else would keep them in the metadata.
fn require_schema_and_spec(requirements: &mut Vec<TableRequirement>, metadata: &TableMetadata) {
    let (current_schema_id, default_spec_id) =
        (metadata.current_schema_id(), metadata.default_partition_spec_id());
    for requirement in [
        TableRequirement::CurrentSchemaIdMatch { current_schema_id },
        TableRequirement::DefaultSpecIdMatch { default_spec_id },
    ] {
        if !requirements.contains(&requirement) {
            requirements.push(requirement);
        }
    }
}

/// Tells whether the requirement of the default spec's id keeps this spec: it is the default one, and the id can't become another
/// spec's. New specs have ids above all others, so that those of lower ones are not given out again.
fn is_known_by_its_id(spec_id: i32, metadata: &TableMetadata) -> bool {
    let mut specs = metadata.partition_specs_iter();
    spec_id == metadata.default_partition_spec_id() && specs.all(|spec| spec.spec_id() >= spec_id)
}

/// Requires a branch or tag to be where it was.
fn require_ref(requirements: &mut Vec<TableRequirement>, metadata: &TableMetadata, name: &str) {
    let snapshot_id = metadata.snapshot_for_ref(name).map(|s| s.snapshot_id());
    let requirement = TableRequirement::RefSnapshotIdMatch { r#ref: name.to_string(), snapshot_id };
    if !requirements.contains(&requirement) {
        requirements.push(requirement);
    }
}

/// Deletes what a commit has written and nothing names. Where it is in doubt whether something does, nothing.
pub(super) async fn discard(storage: &Storage, written: Vec<String>, doubt: bool) {
    if doubt || written.is_empty() {
        return;
    }
    let mut deletions = storage.delete_all(written, 8);
    while let Some((file, outcome)) = deletions.next().await {
        if let Err(error) = outcome {
            // Unreachable from any metadata: orphan removal finds it.
            tracing::warn!(file, %error, "a metadata file of a failed commit could not be deleted");
        }
    }
}
