//! Files leave a snapshot: the manifests that list them are found and written anew, the others carried over.
//!
//! **What is read.** Manifests whose partition summaries let them list what goes, each once a commit however often it is
//! tried: see [`Kept`].
//!
//! **What else goes.** Deletion vectors of data files that go (version 3 has them go together), and delete files that are
//! older than every data file that stays, which apply to none.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures::TryStreamExt;
use iceberg::spec::{
    DataContentType, FormatVersion, ManifestContentType, ManifestFile, ManifestStatus, TableMetadata,
};

use super::dangling;
use super::kept::{Filtered, Kept, Listed, Removed, listed};
use super::manifests::ManifestStore;
use super::summary::SummaryCounts;
use super::take_out::{Taking, take_out};
use crate::deletes::is_vector;
use crate::error::{ConflictReason, Error, Result};
use crate::filter::FileMatcher;
use crate::format::partition::PartitionSet;
use crate::format::{FileRef, LiveFile, ManifestReader, WantedStatistics};

/// Which files an action takes out.
pub(super) enum Removal {
    Nothing,
    /// These data files, each of which must be found; with their partitions, where these are known.
    Paths(HashSet<String>, Option<PartitionSet>),
    Partitions(PartitionSet),
    Matching(FileMatcher),
    /// Delete files that apply to nothing.
    DanglingDeletes,
}

impl Removal {
    pub(super) fn of_files(files: &[FileRef], metadata: &TableMetadata) -> Self {
        let partitions = files.iter().map(|file| (file.spec_id, &file.partition));
        let partitions = PartitionSet::new(partitions, metadata);
        Self::Paths(files.iter().map(|file| file.path.clone()).collect(), Some(partitions))
    }
}

/// Takes files out of manifests: those without any are carried over, the others written anew, in their place. Gives the
/// manifests that stay and the number of files that the removal named and that went.
pub(super) async fn remove(
    taking: &Taking<'_>,
    removal: Removal,
    manifests: Vec<ManifestFile>,
    kept: &mut Kept,
    counts: &mut SummaryCounts,
    store: &mut ManifestStore<'_>,
) -> Result<(Vec<ManifestFile>, usize)> {
    // Manifests that hold only files removed long ago have nothing to say any more.
    let manifests: Vec<ManifestFile> = manifests.into_iter().filter(has_live_files).collect();
    let choice = match removal {
        Removal::Nothing => None,
        Removal::DanglingDeletes => {
            return dangling::remove(taking.metadata, manifests, taking.snapshot_id, counts, store).await;
        }
        Removal::Paths(paths, partitions) => Some(Choice::Paths(paths, partitions)),
        Removal::Partitions(set) => Some(Choice::Partitions(set)),
        Removal::Matching(matcher) => Some(Choice::Matching(matcher)),
    };
    let mut gone: Vec<Removed> = Vec::new();
    let manifests = match choice.map(Arc::new) {
        None => manifests,
        Some(choice) => {
            let mut filtered = std::mem::take(&mut kept.filtered);
            let outcome = filter(taking, &choice, &manifests, &mut filtered, store).await;
            kept.filtered = filtered;
            outcome?;
            let manifests = replaced(manifests, &kept.filtered, &mut gone);
            if let Choice::Paths(paths, _) = &*choice {
                let found: HashSet<&str> = gone.iter().map(|file| file.identity.0.as_str()).collect();
                if let Some(missing) = paths.iter().find(|path| !found.contains(path.as_str())) {
                    return Err(Error::conflict(
                        "a file to be removed is not in the table: another commit removed it; read the table again and run \
                         the operation again",
                    )
                    .because(ConflictReason::FileRemoved)
                    .with("file", missing));
                }
            }
            manifests
        }
    };
    let removed = gone.len();
    let manifests = remove_deletes(taking, manifests, &mut gone, kept, store).await?;
    gone.iter().for_each(|file| counts.remove(file));
    Ok((manifests, removed))
}

/// Takes out the delete files that go with `gone`, and adds them to it.
async fn remove_deletes(
    taking: &Taking<'_>,
    manifests: Vec<ManifestFile>,
    gone: &mut Vec<Removed>,
    kept: &mut Kept,
    store: &mut ManifestStore<'_>,
) -> Result<Vec<ManifestFile>> {
    let metadata = taking.metadata;
    if manifests.iter().all(|manifest| manifest.content == ManifestContentType::Data) {
        return Ok(manifests);
    }
    let has_vectors = metadata.format_version() >= FormatVersion::V3;
    let with_vectors = gone.iter().filter(|_| has_vectors);
    let partitions = with_vectors.clone().map(|file| (file.spec_id, &file.partition));
    let choice = Choice::Deletes {
        of: with_vectors.map(|file| file.identity.0.clone()).collect(),
        partitions: PartitionSet::new(partitions, metadata),
        older_than: if taking.drops_old_deletes { oldest_data(taking, &manifests) } else { 0 },
    };
    let Choice::Deletes { of, older_than, .. } = &choice else { return Ok(manifests) };
    let wanted = (of.clone(), *older_than);
    if kept.deletes_for.as_ref() != Some(&wanted) {
        kept.filtered_deletes.clear();
        kept.deletes_for = Some(wanted);
    }
    let mut filtered = std::mem::take(&mut kept.filtered_deletes);
    let outcome = filter(taking, &Arc::new(choice), &manifests, &mut filtered, store).await;
    kept.filtered_deletes = filtered;
    outcome?;
    Ok(replaced(manifests, &kept.filtered_deletes, gone))
}

/// The lowest data sequence number of the data files that the snapshot will have. Deletes that are older apply to none of
/// them; nor to files that others add later, which have newer numbers or those of files that are still there.
fn oldest_data(taking: &Taking<'_>, manifests: &[ManifestFile]) -> i64 {
    let data = manifests.iter().filter(|m| m.content == ManifestContentType::Data && has_live_files(m));
    let oldest = data.map(|manifest| manifest.min_sequence_number).chain(taking.adds_at).min();
    oldest.unwrap_or_else(|| taking.metadata.last_sequence_number())
}

fn has_live_files(manifest: &ManifestFile) -> bool {
    manifest.has_added_files() || manifest.has_existing_files()
}

/// The manifests as they were filtered.
fn replaced(
    manifests: Vec<ManifestFile>,
    filtered: &HashMap<Listed, Filtered>,
    gone: &mut Vec<Removed>,
) -> Vec<ManifestFile> {
    let replace = |manifest: ManifestFile| match filtered.get(&listed(&manifest)) {
        Some(filtered) => {
            gone.extend(filtered.removed.iter().cloned());
            filtered.manifest.clone().unwrap_or(manifest)
        }
        None => manifest,
    };
    manifests.into_iter().map(replace).collect()
}

/// Which live files of a manifest go.
enum Choice {
    Paths(HashSet<String>, Option<PartitionSet>),
    Partitions(PartitionSet),
    Matching(FileMatcher),
    /// Vectors of these data files, which are in these partitions, and deletes below a sequence number.
    Deletes {
        of: HashSet<String>,
        partitions: PartitionSet,
        older_than: i64,
    },
}

impl Choice {
    /// Whether a manifest may list a file that goes: false only if it lists none.
    fn might_be_in(&self, manifest: &ManifestFile) -> bool {
        let is_data = manifest.content == ManifestContentType::Data;
        match self {
            Self::Paths(_, None) => is_data,
            Self::Paths(_, Some(partitions)) | Self::Partitions(partitions) => {
                is_data && partitions.might_be_in(manifest)
            }
            Self::Matching(matcher) => is_data && matcher.might_match_manifest(manifest),
            Self::Deletes { partitions, older_than, .. } => {
                !is_data && (manifest.min_sequence_number < *older_than || partitions.might_be_in(manifest))
            }
        }
    }

    /// The statistics that it goes by.
    fn statistics(&self) -> WantedStatistics {
        match self {
            Self::Matching(matcher) => matcher.statistics(),
            _ => WantedStatistics::None,
        }
    }

    fn takes(&self, file: &LiveFile) -> Result<bool> {
        Ok(match self {
            Self::Paths(paths, _) => paths.contains(file.path()),
            Self::Partitions(partitions) => partitions.contains(file.spec_id, file.file.partition()),
            Self::Matching(matcher) => {
                let matches = matcher.might_match(file.spec_id, &file.file);
                if matches && !matcher.all_match(file.spec_id, &file.file) {
                    return Err(Error::invalid_input(
                        "the filter may match only some rows of a file: overwrite by a filter on partition columns, or \
                         delete the rows instead",
                    )
                    .with("file", file.path()));
                }
                matches
            }
            Self::Deletes { of, older_than, .. } => {
                let is_old = (1..*older_than).contains(&file.sequence_number);
                is_old || vector_target(file).is_some_and(|path| of.contains(&path))
            }
        })
    }
}

fn vector_target(file: &LiveFile) -> Option<String> {
    let is_vector = file.file.content_type() == DataContentType::PositionDeletes && is_vector(&file.file);
    is_vector.then(|| file.file.referenced_data_file()).flatten()
}

/// Finds out what becomes of every manifest that may list a file that goes, unless that is known.
async fn filter(
    taking: &Taking<'_>,
    choice: &Arc<Choice>,
    manifests: &[ManifestFile],
    filtered: &mut HashMap<Listed, Filtered>,
    store: &mut ManifestStore<'_>,
) -> Result<()> {
    let unknown: Vec<ManifestFile> = manifests
        .iter()
        .filter(|manifest| !filtered.contains_key(&listed(manifest)) && choice.might_be_in(manifest))
        .cloned()
        .collect();
    let (reader, choice) = (ManifestReader::new(store.storage(), taking.metadata), choice.clone());
    let mut loads = reader.each(unknown.clone(), move |manifest| {
        let mut goes = Vec::new();
        manifest.files(&choice.statistics(), |status, file| {
            if status != ManifestStatus::Deleted {
                goes.push(choice.takes(&file)?);
            }
            Ok(())
        })?;
        let content = goes.contains(&true).then(|| manifest.content()).transpose()?;
        Ok(content.map(|content| (content, goes)))
    });
    for manifest in unknown {
        let found = loads.try_next().await?;
        let found = found.ok_or_else(|| Error::internal("fewer manifests were loaded than there are"))?;
        let outcome = match found {
            Some((content, goes)) => take_out(taking, &manifest, content, goes, store).await?,
            None => Filtered { manifest: None, removed: Vec::new() },
        };
        filtered.insert(listed(&manifest), outcome);
    }
    Ok(())
}
