//! Delete files that apply to no data file any more are taken out of the table.
//!
//! **What goes.** Entries of delete files in manifests; the files themselves stay for time travel until expiry.
//!
//! **Why no row comes back.** What applies to what is decided by [`DeleteIndex`], as for scans, over every data file of the
//! snapshot that the commit builds on. A data file that others add later has a newer sequence number than the deletes that are
//! there, or replaces files that these apply to.

use std::collections::HashSet;

use futures::TryStreamExt;
use iceberg::spec::{DataContentType, FormatVersion, ManifestContentType, ManifestFile, TableMetadata};

use super::manifests::{Entry, ManifestStore, load_all, load_each};
use super::summary::SummaryCounts;
use crate::deletes::{DeleteIndex, is_vector};
use crate::error::Result;
use crate::format::{LiveFile, ManifestContent};

/// What tells a delete file from others: deletion vectors share files.
type Identity = (String, Option<i64>);

fn identity(delete: &LiveFile) -> Identity {
    (delete.path().to_string(), delete.file.content_offset())
}

/// Takes every dangling delete file out. Gives the manifests that stay and the number of delete files that went.
pub(super) async fn remove(
    metadata: &TableMetadata,
    manifests: Vec<ManifestFile>,
    snapshot_id: i64,
    counts: &mut SummaryCounts,
    store: &mut ManifestStore<'_>,
) -> Result<(Vec<ManifestFile>, usize)> {
    let (deletes, mut kept) = by_content(manifests);
    let deletes = loaded(deletes, store).await?;
    let files: Vec<&LiveFile> = deletes.iter().flat_map(|(_, content)| &content.live).collect();
    let mut dangling: HashSet<Identity> = files.iter().copied().map(identity).collect();
    if !dangling.is_empty() {
        let index = DeleteIndex::new(files, metadata)?;
        let mut data = std::pin::pin!(load_each(store.storage(), &kept));
        while let Some(content) = data.try_next().await? {
            for file in &content.live {
                let applied = index.of(file);
                let all = applied.vector.iter().chain(&applied.positions).chain(&applied.equality);
                all.for_each(|delete| {
                    dangling.remove(&identity(delete));
                });
            }
        }
    }
    let dangles = |file: &LiveFile| dangling.contains(&identity(file));
    kept.extend(take_out(dangles, metadata, deletes, snapshot_id, counts, store).await?);
    Ok((kept, dangling.len()))
}

/// Takes out the deletion vectors of data files that go: version 3 has them go together.
pub(super) async fn remove_vectors_of(
    gone: &HashSet<String>,
    metadata: &TableMetadata,
    manifests: Vec<ManifestFile>,
    snapshot_id: i64,
    counts: &mut SummaryCounts,
    store: &mut ManifestStore<'_>,
) -> Result<Vec<ManifestFile>> {
    if gone.is_empty() || metadata.format_version() < FormatVersion::V3 {
        return Ok(manifests);
    }
    let (deletes, mut kept) = by_content(manifests);
    let dangles = |file: &LiveFile| {
        file.file.content_type() == DataContentType::PositionDeletes
            && is_vector(&file.file)
            && file.file.referenced_data_file().is_some_and(|path| gone.contains(&path))
    };
    let deletes = loaded(deletes, store).await?;
    kept.extend(take_out(dangles, metadata, deletes, snapshot_id, counts, store).await?);
    Ok(kept)
}

/// Manifests of delete files, and of data files.
fn by_content(manifests: Vec<ManifestFile>) -> (Vec<ManifestFile>, Vec<ManifestFile>) {
    manifests.into_iter().partition(|manifest| manifest.content == ManifestContentType::Deletes)
}

type Loaded = Vec<(ManifestFile, ManifestContent)>;

async fn loaded(manifests: Vec<ManifestFile>, store: &ManifestStore<'_>) -> Result<Loaded> {
    let contents = load_all(store.storage(), &manifests).await?;
    Ok(manifests.into_iter().zip(contents).collect())
}

/// Writes those manifests anew of which entries go.
async fn take_out(
    goes: impl Fn(&LiveFile) -> bool,
    metadata: &TableMetadata,
    deletes: Loaded,
    snapshot_id: i64,
    counts: &mut SummaryCounts,
    store: &mut ManifestStore<'_>,
) -> Result<Vec<ManifestFile>> {
    let mut kept = Vec::with_capacity(deletes.len());
    for (manifest, content) in deletes {
        if !content.live.iter().any(&goes) {
            kept.push(manifest);
            continue;
        }
        let entries = content.live.into_iter().map(|file| {
            if goes(&file) {
                counts.remove(file.spec_id, &file.file);
                Entry::Deleted(file)
            } else {
                Entry::Existing(file)
            }
        });
        let (entries, deletes) = (entries.collect(), ManifestContentType::Deletes);
        kept.push(
            store.write(metadata, snapshot_id, &content.schema, &content.spec, deletes, entries).await?,
        );
    }
    Ok(kept)
}
