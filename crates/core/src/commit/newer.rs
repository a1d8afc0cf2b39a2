//! Holds against an action what others committed since it was computed.
//!
//! **What is read.** Manifest lists of the newer snapshots, and of the manifests that these added those that can list a conflict;
//! each snapshot once a commit, however often it is tried.

use std::collections::VecDeque;

use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use iceberg::spec::{ManifestFile, Operation, Snapshot, SnapshotRef, TableMetadata};

use super::COMMIT_ID;
use super::actions::Rewrite;
use super::branch::since;
use super::kept::Kept;
use super::validate::{Change, Footprint, Isolation, Validator};
use crate::error::{Error, Result};
use crate::format::{ManifestContent, ManifestReader, WantedStatistics, load_manifest_list};
use crate::storage::Storage;
use crate::table::Table;

/// How many manifest lists are read at once.
const LISTS: usize = 8;

/// Checks an action against what others committed since it was computed, each snapshot once a commit. `summary` is what this
/// writer puts into the summaries of its snapshots.
pub(super) async fn check_newer(
    metadata: &TableMetadata,
    summary: &[(String, String)],
    footprint: &Footprint,
    newer: Vec<SnapshotRef>,
    kept: &mut Kept,
    storage: &Storage,
) -> Result<()> {
    let validator = Validator::new(footprint, metadata)?;
    let mut commit_id = summary.iter().filter(|(key, _)| key == COMMIT_ID);
    let commit_id = commit_id.next().map(|(_, id)| id);
    // Snapshots that earlier actions of this transaction added are this writer's own.
    let is_own = |snapshot: &Snapshot| {
        commit_id.is_some() && snapshot.summary().additional_properties.get(COMMIT_ID) == commit_id
    };
    let unknown: Vec<SnapshotRef> = newer
        .into_iter()
        .filter(|snapshot| {
            !kept.validated.contains(&snapshot.snapshot_id())
                && validator.concerns(&snapshot.summary().operation)
                && !is_own(snapshot)
        })
        .collect();
    let concerns =
        |operation: &Operation, manifest: &ManifestFile| validator.concerns_manifest(operation, manifest);
    let statistics = validator.statistics();
    let mut changes = Changes::new(&unknown, concerns, statistics, storage, metadata).await?;
    while let Some(change) = changes.next().await? {
        validator.check(&change)?;
    }
    kept.validated.extend(unknown.iter().map(|snapshot| snapshot.snapshot_id()));
    Ok(())
}

/// For each of several rewrites what it conflicts with of that which came to a table since.
pub(super) async fn conflicts_of(
    base: &TableMetadata,
    current: &Table,
    branch: &str,
    isolation: Isolation,
    rewrites: &[Rewrite],
) -> Result<Vec<Option<Error>>> {
    let metadata = current.metadata();
    let start = base.snapshot_for_ref(branch).map(|s| s.snapshot_id());
    let newer = since(metadata, branch, start)?;
    let footprints: Vec<Footprint> = rewrites.iter().map(|rewrite| rewrite.footprint(isolation)).collect();
    let validators =
        footprints.iter().map(|footprint| Validator::new(footprint, metadata)).collect::<Result<Vec<_>>>()?;
    let concerns = |operation: &Operation, manifest: &ManifestFile| {
        validators.iter().any(|validator| validator.concerns_manifest(operation, manifest))
    };
    let statistics = validators.iter().map(|validator| validator.statistics());
    let statistics = statistics.reduce(|all, more| all.or(&more)).unwrap_or_default();
    let mut changes = Changes::new(&newer, concerns, statistics, current.storage(), metadata).await?;
    let mut conflicts: Vec<Option<Error>> = validators.iter().map(|_| None).collect();
    while let Some(change) = changes.next().await? {
        for (validator, conflict) in validators.iter().zip(&mut conflicts) {
            if conflict.is_none() {
                *conflict = validator.check(&change).err();
            }
        }
    }
    Ok(conflicts)
}

/// What snapshots changed, manifest by manifest, of those manifests that they added and that are of concern.
struct Changes {
    snapshots: VecDeque<SnapshotRef>,
    loads: BoxStream<'static, Result<ManifestContent>>,
}

impl Changes {
    /// With the statistics that are wanted of their files.
    async fn new(
        snapshots: &[SnapshotRef],
        concerns: impl Fn(&Operation, &ManifestFile) -> bool,
        statistics: WantedStatistics,
        storage: &Storage,
        metadata: &TableMetadata,
    ) -> Result<Self> {
        let mut lists = stream::iter(snapshots.to_vec())
            .map(|snapshot| async move {
                let manifests = load_manifest_list(storage, &snapshot).await?;
                Ok::<_, Error>((snapshot, manifests))
            })
            .buffered(LISTS);
        let (mut of, mut manifests) = (VecDeque::new(), Vec::new());
        while let Some((snapshot, list)) = lists.try_next().await? {
            for manifest in list {
                let own = manifest.added_snapshot_id == snapshot.snapshot_id();
                if own && concerns(&snapshot.summary().operation, &manifest) {
                    of.push_back(snapshot.clone());
                    manifests.push(manifest);
                }
            }
        }
        let reader = ManifestReader::new(storage, metadata);
        let loads = reader.each(manifests, move |manifest| manifest.content_with(&statistics));
        Ok(Self { snapshots: of, loads })
    }

    async fn next(&mut self) -> Result<Option<Change>> {
        let (Some(snapshot), Some(content)) = (self.snapshots.pop_front(), self.loads.try_next().await?)
        else {
            return Ok(None);
        };
        let id = snapshot.snapshot_id();
        let live = content.live.into_iter().zip(content.added);
        Ok(Some(Change {
            snapshot_id: id,
            operation: snapshot.summary().operation.clone(),
            added: live.filter(|(f, added)| *added && f.snapshot_id == id).map(|(f, _)| f).collect(),
            // The snapshot wrote the manifest: what is gone there it took out, though some writers leave the id of the snapshot
            // that had added it.
            removed: content.deleted,
        }))
    }
}
