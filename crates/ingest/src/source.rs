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
    /// Files, and what is none, that the limit leaves out.
    pub(crate) left: u64,
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
    let hidden = |name: &str| is_hidden(name, manifest_name);
    let mut listing = Listing::new(settings.limits.run_archives);
    let mut single = BTreeSet::new();
    for source in sources {
        let source = source.trim_end_matches('/');
        if let Some(root) = local::root(storage, source) {
            let disk = OfDisk { root, source: source.to_string(), manifest_name: manifest_name.to_string() };
            let listed = disk.list(listing, settings).await.map_err(|e| e.with("source", source))?;
            listing = listed.0;
            if listed.1 {
                single.insert(folder_of(source).to_string());
            }
            continue;
        }
        let folder = folder_of(source);
        let (mut is_empty, mut is_there) = (true, false);
        let mut listed = storage.list(source);
        while let Some(file) = listed.try_next().await? {
            is_empty = false;
            if !hidden(file_name(&file.location)) {
                listing.files.put(file.location.clone(), (file, None));
            }
        }
        if is_empty {
            // A single file; it is found in its folder's listing, which tells when it last changed.
            let manifest = join(folder, manifest_name);
            let mut siblings = storage.list(folder);
            while let Some(file) = siblings.try_next().await? {
                is_there |= file.location == source;
                if file.location == source || file.location == manifest {
                    listing.files.put(file.location.clone(), (file, None));
                }
            }
            if !is_there {
                return Err(Error::not_found("there is nothing to ingest here; check the location")
                    .with("source", source));
            }
            single.insert(folder.to_string());
        }
    }
    found.left = listing.files.left.saturating_add(listing.aside.left);
    found.aside = listing.aside.kept.into_iter().map(|(at, (reason, why))| (at, reason, why)).collect();
    let files = listing.files.kept;

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
    for (folder, manifest) in manifests.iter().filter(|(folder, _)| !single.contains(*folder)) {
        for promised in manifest.iter().flat_map(Manifest::archives) {
            let location = join(folder, &promised.name);
            if !files.contains_key(&location) {
                found.missing.push((location, promised.clone()));
            }
        }
    }
    let mut incomplete = BTreeSet::new();
    for (location, (entry, local)) in files {
        let (folder, name) = (folder_of(&location), file_name(&location));
        if name == manifest_name || hidden(name) {
            continue;
        }
        let manifest = manifests.get(folder).and_then(Option::as_ref);
        if manifest.is_none() && manifest_use == ManifestUse::Required {
            incomplete.insert(folder.to_string());
            continue;
        }
        let Some(format) = Format::of(name) else {
            found.unknown.push(entry);
            continue;
        };
        let promised = manifest.and_then(|m| m.promised(name)).cloned();
        if manifest.is_some() && promised.is_none() {
            found.unlisted.push(location);
        }
        found.archives.push(Archive { entry, local, format, promised });
    }
    found.incomplete = incomplete.into_iter().collect();
    Ok(found)
}

/// A source on a local disk.
struct OfDisk {
    root: PathBuf,
    source: String,
    manifest_name: String,
}

impl OfDisk {
    /// Adds what it holds to a listing, and tells whether it is a single file, beside which its folder's manifest is listed.
    async fn list(self, mut listing: Listing, settings: &Settings) -> Result<(Listing, bool)> {
        let limits = settings.limits.clone();
        let list = move || -> std::io::Result<(Listing, bool, bool)> {
            let Self { root, source, manifest_name } = self;
            let is_single = !root.is_dir();
            let hidden = |name: &str| is_hidden(name, &manifest_name);
            let is_empty = local::list(&root, &source, &hidden, &limits, &mut listing)? == 0;
            let file = listing.files.kept.get(&source).filter(|_| is_single);
            if let Some((path, local)) = file.and_then(|(_, local)| local.as_ref()?.sibling(&manifest_name)) {
                let location = join(folder_of(&source), &manifest_name);
                if let Ok(about) = path.symlink_metadata()
                    && about.is_file()
                {
                    let entry = local::entry(&location, &about);
                    listing.files.put(location, (entry, Some(local)));
                }
            }
            Ok((listing, is_single, is_empty))
        };
        let listed = tokio::task::spawn_blocking(list).await;
        let (listing, is_single, is_empty) =
            listed.map_err(|e| Error::internal("listing the folder panicked").with_source(e))??;
        if is_empty {
            return Err(Error::not_found("there is nothing to ingest here; check the location"));
        }
        Ok((listing, is_single))
    }
}

/// Whether a file is left alone for its name.
fn is_hidden(name: &str, manifest_name: &str) -> bool {
    name != manifest_name && (name.starts_with(['_', '.']) || is_system_name(name))
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
        // Whoever may write to the folder may take its rights away, or write the file all the time: that stops nobody else.
        Error::data_invalid(format!(
            "the manifest can't be read ({failure}); its archives are taken without it"
        ))
    })
}

fn folder_of(location: &str) -> &str {
    location.rsplit_once('/').map_or("", |(folder, _)| folder)
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use crate::options::Limits;

    #[tokio::test]
    async fn a_manifest_that_is_written_all_the_time_fails_no_run() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().join("_manifest.json");
        std::fs::write(&at, "{}").unwrap();
        let mut listing = Listing::new(9);
        local::list(folder.path(), "/drop", &|_| false, &Limits::default(), &mut listing).unwrap();
        let Some((_, (entry, local))) = listing.files.kept.pop_first() else { panic!("{listing:?}") };
        let read = async || read(&Storage::new(), &entry, local.as_ref(), 100).await;
        assert_eq!(read().await.unwrap(), "{}");
        for change in ["{\"archives\": []}", ""] {
            std::fs::write(&at, change).unwrap();
            let error = read().await.unwrap_err();
            // Told in the report, as one that is no JSON is.
            assert_eq!(error.kind(), ErrorKind::DataInvalid, "{error}");
        }
        std::fs::remove_file(&at).unwrap();
        assert_eq!(read().await.unwrap_err().kind(), ErrorKind::DataInvalid);
    }
}
