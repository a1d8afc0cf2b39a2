//! Finds the delete files that apply to no data file, and takes them out of manifests.
//!
//! **What goes.** Entries of delete files in manifests; the files themselves stay for time travel until expiry.
//!
//! **Why no row comes back.** What applies to what is decided by [`DeleteIndex`], as for scans, over every data file of the
//! snapshot that the commit builds on. A data file that others add later has a newer sequence number than the deletes that are
//! there, or replaces files that these apply to.

use std::collections::HashSet;

use futures::TryStreamExt;
use iceberg::spec::{ManifestContentType, ManifestFile, TableMetadata};

use super::kept::identity;
use super::manifests::ManifestStore;
use super::summary::SummaryCounts;
use super::take_out::{Taking, take_out};
use crate::deletes::DeleteIndex;
use crate::error::Result;
use crate::format::{LiveFile, ManifestReader, WantedStatistics};

/// Takes every dangling delete file out. Gives the manifests that stay and the number of delete files that went.
pub(super) async fn remove(
    metadata: &TableMetadata,
    manifests: Vec<ManifestFile>,
    snapshot_id: i64,
    counts: &mut SummaryCounts,
    store: &mut ManifestStore<'_>,
) -> Result<(Vec<ManifestFile>, usize)> {
    let (deletes, data): (Vec<ManifestFile>, Vec<ManifestFile>) =
        manifests.into_iter().partition(|manifest| manifest.content == ManifestContentType::Deletes);
    let reader = ManifestReader::new(store.storage(), metadata);
    let contents: Vec<_> = reader.each(deletes.clone(), |manifest| manifest.content()).try_collect().await?;
    let files: Vec<&LiveFile> = contents.iter().flat_map(|content| &content.live).collect();
    let mut dangling: HashSet<_> = files.iter().copied().map(identity).collect();
    if !dangling.is_empty() {
        let keys = WantedStatistics::of(files.iter().filter_map(|file| file.file.equality_ids()).flatten());
        let index = DeleteIndex::new(files, metadata)?;
        let mut loads = reader.each(data.clone(), move |manifest| manifest.content_with(&keys));
        while let Some(content) = loads.try_next().await? {
            for file in &content.live {
                let applied = index.of(file);
                let all = applied.vector.iter().chain(&applied.positions).chain(&applied.equality);
                all.for_each(|delete| {
                    dangling.remove(&identity(delete));
                });
            }
        }
    }
    let taking = Taking { metadata, snapshot_id, adds_at: None, drops_old_deletes: false };
    let mut kept = data;
    for (manifest, content) in deletes.into_iter().zip(contents) {
        let goes: Vec<bool> = content.live.iter().map(|file| dangling.contains(&identity(file))).collect();
        if !goes.contains(&true) {
            kept.push(manifest);
            continue;
        }
        let filtered = take_out(&taking, &manifest, content, goes, store).await?;
        filtered.removed.iter().for_each(|file| counts.remove(file));
        kept.extend(filtered.manifest);
    }
    Ok((kept, dangling.len()))
}
