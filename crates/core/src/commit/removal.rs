//! Files leave a snapshot: the manifests that list them are found and written anew, the others carried over.
//!
//! **What is read.** Manifests whose partition summaries let them list what goes, each once a commit however often it is
//! tried: see [`Kept`].
//!
//! **What else goes.** Deletion vectors of data files that go (version 3 has them go together), delete files
//! that an action names, and those that are older than every data file that stays, which apply to none.
//!
//! **Why no row comes back.** Position deletes of one data file go with it, or where others come in their
//! place.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures::TryStreamExt;
use iceberg::spec::{
    DataContentType, FormatVersion, ManifestContentType, ManifestFile, ManifestStatus, Struct, TableMetadata,
};

use super::dangling;
use super::kept::{Filtered, Kept, Listed, Removed, identity, listed};
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

/// The delete files that an action takes out, beside those that go with data files, and what comes in their
/// place.
#[derive(Default)]
pub(super) struct DeleteRemoval {
    /// These, each of which must be found: locations, and for deletion vectors where in the file they begin.
    pub(super) named: HashSet<(String, Option<i64>)>,
    /// The data files that get new position deletes, and how many rows a deletion vector among these deletes.
    pub(super) renewed: HashMap<String, Option<u64>>,
    /// True if there are new position deletes that don't say of which data file they are.
    pub(super) renews_others: bool,
    /// The partitions of what is named and of new vectors, with their specs.
    pub(super) partitions: Vec<(i32, Struct)>,
}

impl DeleteRemoval {
    /// Checks that the rows which position deletes of one data file delete stay deleted, and that the data
    /// file, which stays, has one vector at most.
    fn check(&self, delete: &LiveFile, data_file: &str, goes: bool) -> Result<()> {
        let rows = delete.file.record_count();
        let message = match (goes, self.renewed.get(data_file), is_vector(&delete.file)) {
            (false, Some(Some(_)), true) => {
                "a data file has a deletion vector already: unite its positions with the new ones, and remove it by the commit \
                 that adds the new one"
            }
            (true, Some(Some(new)), true) if *new < rows => {
                "a deletion vector deletes fewer rows than the one that it replaces: unite the positions of both"
            }
            (true, None, _) if !self.renews_others => {
                "deletes are removed of a data file that stays, so that its rows would come back: add deletes of the same rows, \
                 or remove the data file too; deletes that apply to nothing are removed as dangling ones"
            }
            _ => return Ok(()),
        };
        Err(Error::invalid_input(message).with("file", delete.path()).with("data_file", data_file))
    }
}

/// Takes files out of manifests: those without any are carried over, the others written anew, in their place. Gives the
/// manifests that stay and the number of files that the removal named and that went.
pub(super) async fn remove(
    taking: &Taking<'_>,
    removal: Removal,
    deletes: DeleteRemoval,
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
                    return Err(is_missing(missing));
                }
            }
            manifests
        }
    };
    let removed = gone.len() + deletes.named.len();
    let deletes = Arc::new(deletes);
    let manifests = remove_deletes(taking, deletes.clone(), manifests, &mut gone, kept, store).await?;
    if !deletes.named.is_empty() {
        let found: HashSet<&(String, Option<i64>)> = gone.iter().map(|file| &file.identity).collect();
        if let Some((missing, _)) = deletes.named.iter().find(|file| !found.contains(file)) {
            return Err(is_missing(missing));
        }
    }
    gone.iter().for_each(|file| counts.remove(file));
    Ok((manifests, removed))
}

fn is_missing(file: &str) -> Error {
    let message = "a file to be removed is not in the table: another commit removed it; read the table again and run the operation \
                   again";
    Error::conflict(message).because(ConflictReason::FileRemoved).with("file", file)
}

/// Takes out the delete files that are named and those that go with `gone`, and adds them to it.
async fn remove_deletes(
    taking: &Taking<'_>,
    deletes: Arc<DeleteRemoval>,
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
    let of_gone = gone.iter().filter(|_| has_vectors).map(|file| (file.spec_id, &file.partition));
    let partitions =
        deletes.partitions.iter().map(|(spec_id, partition)| (*spec_id, partition)).chain(of_gone);
    let choice = Choice::Deletes {
        of: gone.iter().map(|file| file.identity.0.clone()).collect(),
        partitions: PartitionSet::new(partitions, metadata),
        deletes,
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
    /// Vectors of these data files, which go, and deletes that are named, all in these partitions; and
    /// deletes below a sequence number.
    Deletes {
        of: HashSet<String>,
        deletes: Arc<DeleteRemoval>,
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
            Self::Deletes { of, deletes, older_than, .. } => {
                if (1..*older_than).contains(&file.sequence_number) {
                    return Ok(true);
                }
                let is_named = deletes.named.contains(&identity(file));
                let Some(data_file) = position_target(file) else { return Ok(is_named) };
                if of.contains(&data_file) {
                    return Ok(is_named || is_vector(&file.file));
                }
                deletes.check(file, &data_file, is_named)?;
                is_named
            }
        })
    }
}

/// The data file that position deletes or a vector say that they are of.
fn position_target(file: &LiveFile) -> Option<String> {
    let by_position = file.file.content_type() == DataContentType::PositionDeletes;
    by_position.then(|| file.file.referenced_data_file()).flatten()
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
