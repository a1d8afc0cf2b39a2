//! Writes manifests anew, without files that leave a snapshot.

use iceberg::spec::{ManifestFile, TableMetadata};

use super::kept::{Filtered, Removed};
use super::manifests::{Entry, ManifestStore};
use crate::error::Result;
use crate::format::ManifestContent;

/// What is taken out of a table's manifests, for whom.
pub(super) struct Taking<'a> {
    pub(super) metadata: &'a TableMetadata,
    pub(super) snapshot_id: i64,
    /// The data sequence number of the files that come, unless it is the snapshot's own.
    pub(super) adds_at: Option<i64>,
    /// Whether delete files that are older than all data files go too.
    pub(super) drops_old_deletes: bool,
}

/// Writes a manifest anew without some of its files, in order: those that go are named as deleted.
pub(super) async fn take_out(
    taking: &Taking<'_>,
    manifest: &ManifestFile,
    content: ManifestContent,
    goes: Vec<bool>,
    store: &mut ManifestStore<'_>,
) -> Result<Filtered> {
    let mut removed = Vec::new();
    let mut entries = Vec::with_capacity(content.live.len());
    for (file, goes) in content.live.into_iter().zip(goes) {
        if goes {
            removed.push(Removed::from(&file));
            entries.push(Entry::Deleted(file));
        } else {
            entries.push(Entry::Existing(file));
        }
    }
    let (metadata, id, of) = (taking.metadata, taking.snapshot_id, manifest.content);
    let written = store.write(metadata, id, content.partition, of, entries).await?;
    Ok(Filtered { manifest: Some(written), removed })
}
