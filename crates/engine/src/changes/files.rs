//! The data files that a snapshot added and removed.

use iceberg::spec::{ManifestContentType, SnapshotRef};
use icefield_core::format::{LiveFile, load_manifest, load_manifest_list};
use icefield_core::{Result, Table};

/// What a snapshot did to data files.
#[derive(Debug, Default)]
pub(super) struct ChangedFiles {
    pub(super) added: Vec<LiveFile>,
    pub(super) removed: Vec<LiveFile>,
    /// Whether the snapshot has delete files, its own or those of earlier ones.
    pub(super) has_deletes: bool,
}

/// Reads the manifests that a snapshot wrote itself.
pub(super) async fn changed(table: &Table, snapshot: &SnapshotRef) -> Result<ChangedFiles> {
    let id = snapshot.snapshot_id();
    let list = load_manifest_list(table.storage(), snapshot).await?;
    let mut changed = ChangedFiles::default();
    for manifest in &list {
        if manifest.content == ManifestContentType::Deletes {
            changed.has_deletes = true;
            continue;
        }
        if manifest.added_snapshot_id != id {
            continue;
        }
        let content = load_manifest(table.storage(), manifest).await?;
        let added = content
            .live
            .into_iter()
            .zip(content.added)
            .filter(|(live, added)| *added && live.snapshot_id == id);
        changed.added.extend(added.map(|(live, _)| live));
        changed.removed.extend(content.deleted.into_iter().filter(|live| live.snapshot_id == id));
    }
    Ok(changed)
}
