//! Which archives there are, and which were promised.

use std::collections::{BTreeMap, BTreeSet};

use futures::TryStreamExt;
use icefield_core::storage::{FileEntry, Storage, file_name, join};
use icefield_core::{Error, ErrorKind, Result};

use crate::archive::{Format, is_system_name};
use crate::manifest::{Manifest, Promised};
use crate::options::ManifestUse;

/// An archive that is there.
#[derive(Debug, Clone)]
pub(crate) struct Archive {
    pub(crate) entry: FileEntry,
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
) -> Result<Found> {
    let mut files: BTreeMap<String, FileEntry> = BTreeMap::new();
    let mut single = BTreeSet::new();
    for source in sources {
        let source = source.trim_end_matches('/');
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
        files.extend(listed.into_iter().map(|f| (f.location.clone(), f)));
    }

    let mut found = Found::default();
    let mut manifests: BTreeMap<String, Option<Manifest>> = BTreeMap::new();
    if manifest_use != ManifestUse::Ignored {
        for location in files.keys().filter(|l| file_name(l) == manifest_name) {
            let manifest = match storage.read(location).await {
                Ok(bytes) => Manifest::parse(&bytes),
                Err(e) if e.kind() == ErrorKind::NotFound => continue,
                Err(e) => return Err(e),
            };
            let manifest =
                manifest.map_err(|e| found.errors.push(e.with("manifest", location).to_string())).ok();
            manifests.insert(folder_of(location).to_string(), manifest);
        }
    }
    let mut incomplete = BTreeSet::new();
    for (location, entry) in &files {
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
        found.archives.push(Archive { entry: entry.clone(), format, promised });
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

fn folder_of(location: &str) -> &str {
    location.rsplit_once('/').map_or("", |(folder, _)| folder)
}
