//! Which archives there are, and which were promised.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::PathBuf;

use bytes::Bytes;
use futures::TryStreamExt;
use icefield_core::storage::{FileEntry, Storage, file_name, join};
use icefield_core::{Error, ErrorKind, Result};

use crate::archive::{Failure, Format, is_system_name};
use crate::escape::{detail, past};
use crate::local::{self, Listing, Local};
use crate::manifest::{Manifest, Promised};
use crate::options::{ManifestUse, Settings};
use crate::quarantine::Reason;

/// An archive that is there.
#[derive(Debug, Clone)]
pub(crate) struct Archive {
    pub(crate) entry: FileEntry,
    /// On a local disk: how it is opened.
    pub(crate) local: Option<Local>,
    pub(crate) format: Format,
    pub(crate) promised: Option<Promised>,
}

/// What the sources hold.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// In the order of their locations.
    pub(crate) archives: Vec<Archive>,
    /// Promised archives that are not there, under the location that they should have.
    pub(crate) missing: Vec<(String, Promised)>,
    /// Files of no known format.
    pub(crate) unknown: Vec<FileEntry>,
    /// What is neither file nor folder, with its location.
    pub(crate) aside: Vec<(String, Reason, String)>,
    /// Archives that the manifest of their folder does not name.
    pub(crate) unlisted: Vec<String>,
    pub(crate) incomplete: Vec<String>,
    pub(crate) errors: Vec<String>,
}

/// Lists sources: folders, or single files. One listing request for each thousand files, and one read for each manifest.
pub(crate) async fn find(
    storage: &Storage,
    sources: &[String],
    manifest_name: &str,
    manifest_use: ManifestUse,
    settings: &Settings,
) -> Result<Found> {
    let mut found = Found::default();
    let mut files: BTreeMap<String, (FileEntry, Option<Local>)> = BTreeMap::new();
    let mut single = BTreeSet::new();
    for source in sources {
        let source = source.trim_end_matches('/');
        if let Some(root) = local::root(storage, source) {
            let (listing, is_single) =
                of_disk(root, source, manifest_name).await.map_err(|e| e.with("source", source))?;
            if is_single {
                single.insert(folder_of(source).to_string());
            }
            let hidden = |location: &str| {
                let name = file_name(location);
                name != manifest_name && (name.starts_with(['_', '.']) || is_system_name(name))
            };
            found.aside.extend(listing.aside.into_iter().filter(|(location, ..)| !hidden(location)));
            files.extend(listing.files.into_iter().map(|(f, local)| (f.location.clone(), (f, Some(local)))));
            continue;
        }
        let mut listed: Vec<FileEntry> = storage.list(source).try_collect().await?;
        if listed.is_empty() {
            // A single file; it is found in its folder's listing, which tells when it last changed.
            let folder = folder_of(source);
            let mut siblings: Vec<FileEntry> = storage.list(folder).try_collect().await?;
            siblings.retain(|f| f.location == source || f.location == join(folder, manifest_name));
            if !siblings.iter().any(|f| f.location == source) {
                return Err(Error::not_found("there is nothing to ingest here; check the location")
                    .with("source", source));
            }
            single.insert(folder.to_string());
            listed = siblings;
        }
        files.extend(listed.into_iter().map(|f| (f.location.clone(), (f, None))));
    }

    let mut manifests: BTreeMap<String, Option<Manifest>> = BTreeMap::new();
    if manifest_use != ManifestUse::Ignored {
        let mut names_left = settings.limits.manifest_names;
        for (location, (entry, local)) in files.iter().filter(|(l, _)| file_name(l) == manifest_name) {
            let manifest = match read(storage, entry, local.as_ref(), settings.limits.manifest_bytes).await {
                Ok(bytes) => Manifest::parse(&bytes, settings, names_left),
                Err(e) if e.kind() == ErrorKind::NotFound => continue,
                Err(e) if e.kind() == ErrorKind::DataInvalid => Err(e),
                Err(e) => return Err(e),
            };
            let manifest = match manifest {
                Ok((manifest, odd)) => {
                    names_left -= manifest.archives().len();
                    if odd > 0 {
                        found.errors.push(detail(format!(
                            "{odd} of the manifest's promises are left out: of names of no file in its folder, or of tables that \
                             there can't be (manifest: {location})"
                        )));
                    }
                    Some(manifest)
                }
                Err(e) => {
                    found.errors.push(detail(e.with("manifest", location).to_string()));
                    None
                }
            };
            manifests.insert(folder_of(location).to_string(), manifest);
        }
    }
    let mut incomplete = BTreeSet::new();
    for (location, (entry, local)) in &files {
        let (folder, name) = (folder_of(location), file_name(location));
        if name == manifest_name || name.starts_with(['_', '.']) || is_system_name(name) {
            continue;
        }
        let manifest = manifests.get(folder).and_then(Option::as_ref);
        if manifest.is_none() && manifest_use == ManifestUse::Required {
            incomplete.insert(folder.to_string());
            continue;
        }
        let Some(format) = Format::of(name) else {
            found.unknown.push(entry.clone());
            continue;
        };
        let promised = manifest.and_then(|m| m.promised(name)).cloned();
        if manifest.is_some() && promised.is_none() {
            found.unlisted.push(location.clone());
        }
        found.archives.push(Archive { entry: entry.clone(), local: local.clone(), format, promised });
    }
    for (folder, manifest) in &manifests {
        if single.contains(folder) {
            continue;
        }
        for promised in manifest.iter().flat_map(Manifest::archives) {
            let location = join(folder, &promised.name);
            if !files.contains_key(&location) {
                found.missing.push((location, promised.clone()));
            }
        }
    }
    found.incomplete = incomplete.into_iter().collect();
    Ok(found)
}

/// Lists a source on a local disk, and whether it is a single file, beside which its folder's manifest is listed.
async fn of_disk(root: PathBuf, source: &str, manifest_name: &str) -> Result<(Listing, bool)> {
    let (source, manifest_name) = (source.to_string(), manifest_name.to_string());
    let list = move || -> std::io::Result<(Listing, bool)> {
        let is_single = !root.is_dir();
        let mut listing = local::list(&root, &source)?;
        let manifest =
            listing.files.first().filter(|_| is_single).and_then(|(_, l)| l.sibling(&manifest_name));
        if let Some((path, local)) = manifest
            && path.symlink_metadata().is_ok_and(|about| about.is_file())
        {
            let beside = local::list(&path, &join(folder_of(&source), &manifest_name))?;
            listing.files.extend(beside.files.into_iter().map(|(entry, _)| (entry, local.clone())));
        }
        Ok((listing, is_single))
    };
    let listed = tokio::task::spawn_blocking(list).await;
    let listed = listed.map_err(|e| Error::internal("listing the folder panicked").with_source(e))??;
    if listed.0.files.is_empty() && listed.0.aside.is_empty() {
        return Err(Error::not_found("there is nothing to ingest here; check the location"));
    }
    Ok(listed)
}

/// Reads a file of at most so many bytes.
async fn read(storage: &Storage, entry: &FileEntry, local: Option<&Local>, most: u64) -> Result<Bytes> {
    if entry.size > most {
        let what = past(&format!("{} bytes", entry.size), "manifest_bytes", most);
        return Err(Error::data_invalid(format!(
            "the manifest is not read ({what}); its archives are taken without it"
        )));
    }
    let Some(local) = local.cloned() else {
        return match entry.size {
            0 => Ok(Bytes::new()),
            size => storage.read_range(&entry.location, 0..size).await,
        };
    };
    let entry = entry.clone();
    let open = move || -> Result<Bytes, Failure> {
        let mut bytes = Vec::new();
        local.open(&entry)?.take(entry.size).read_to_end(&mut bytes)?;
        Ok(bytes.into())
    };
    let read = tokio::task::spawn_blocking(open).await;
    read.map_err(|e| Error::internal("reading the manifest panicked").with_source(e))?.map_err(|failure| {
        match failure {
            Failure::Storage(error) => error,
            other => Error::data_invalid(other.to_string()),
        }
    })
}

fn folder_of(location: &str) -> &str {
    location.rsplit_once('/').map_or("", |(folder, _)| folder)
}
