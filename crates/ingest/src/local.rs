//! Drops on a local disk, which whoever may write to the folder fills with what he likes: links and special files are set
//! aside, and never opened.
//!
//! The walk asks what each entry is without following it. Between the walk and the reading an entry can become another, so
//! that a file is opened folder by folder below the caller's own, no step of which may be a link, and what was opened is
//! looked at again. The caller's own folder may be reached by links.

use std::fs::{File, Metadata};
use std::io;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use icefield_core::storage::{FileEntry, Storage, join};
use icefield_core::{Error, ErrorKind};

use crate::archive::Failure;
use crate::escape::is_plain;
use crate::quarantine::Reason;

/// What is in a folder.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    pub(crate) files: Vec<(FileEntry, Local)>,
    /// Locations of what is neither a plain file nor a folder.
    pub(crate) aside: Vec<(String, Reason, String)>,
}

/// A file below a folder that the caller names, or that file itself where there are no steps.
#[derive(Debug, Clone)]
pub(crate) struct Local {
    root: PathBuf,
    steps: Vec<String>,
}

/// The place on the local disk that a source is, where it is one.
pub(crate) fn root(storage: &Storage, source: &str) -> Option<PathBuf> {
    let at = storage.resolve(source).ok().filter(|at| cfg!(unix) && at.base.scheme() == "file")?;
    let path = Path::new("/").join(at.path.as_ref());
    path.exists().then_some(path)
}

/// Lists a folder and its subfolders, or a file. Blocks.
pub(crate) fn list(root: &Path, source: &str) -> io::Result<Listing> {
    let mut listing = Listing::default();
    let about = std::fs::metadata(root)?;
    if !about.is_dir() {
        let local = Local { root: root.to_path_buf(), steps: Vec::new() };
        if about.is_file() {
            listing.files.push((entry(source, &about), local));
        } else {
            listing.aside.push((source.to_string(), Reason::NotAFile, "not a plain file".into()));
        }
        return Ok(listing);
    }
    let mut folders = vec![(Vec::<String>::new(), source.to_string())];
    while let Some((steps, location)) = folders.pop() {
        let folder = steps.iter().fold(root.to_path_buf(), |folder, step| folder.join(step));
        // What can't be read is set aside, unless it is what the caller names.
        let entries = match std::fs::read_dir(&folder) {
            Err(error) if !steps.is_empty() => {
                listing.aside.push((location, Reason::Unreadable, error.to_string()));
                continue;
            }
            entries => entries?,
        };
        for found in entries {
            let found = found?;
            let name = found.file_name();
            let shown = name.to_string_lossy();
            let location = join(&location, &shown);
            let mut aside =
                |reason, why: &str| listing.aside.push((location.clone(), reason, why.to_string()));
            let Ok(kind) = found.file_type() else { continue };
            let Some(name) = name.to_str().filter(|name| name.chars().all(is_plain)) else {
                aside(Reason::UnsafePath, "the name is no text, or has characters that are not shown");
                continue;
            };
            let steps: Vec<String> = steps.iter().cloned().chain([name.to_string()]).collect();
            if kind.is_symlink() {
                aside(Reason::Link, "a symbolic link");
            } else if kind.is_dir() {
                folders.push((steps, location));
            } else if !kind.is_file() {
                aside(Reason::NotAFile, "not a plain file");
            } else if !is_upload(name)
                && let Ok(about) = found.metadata()
            {
                listing.files.push((entry(&location, &about), Local { root: root.to_path_buf(), steps }));
            }
        }
    }
    Ok(listing)
}

/// Whether a file is one that the store has not finished writing.
fn is_upload(name: &str) -> bool {
    name.rsplit_once('#').is_some_and(|(_, n)| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}

fn entry(location: &str, about: &Metadata) -> FileEntry {
    let modified_ms = about.modified().map_or(0, |at| DateTime::<Utc>::from(at).timestamp_millis());
    FileEntry { location: location.to_string(), size: about.len(), modified_ms }
}

impl Local {
    /// A file beside this one, which is the caller's own.
    pub(crate) fn sibling(&self, name: &str) -> Option<(PathBuf, Self)> {
        let folder = self.root.parent().filter(|_| self.steps.is_empty())?;
        let local = Self { root: folder.to_path_buf(), steps: vec![name.to_string()] };
        Some((folder.join(name), local))
    }

    /// Opens the file that was listed. Blocks, but not on what other processes do or don't write.
    pub(crate) fn open(&self, listed: &FileEntry) -> Result<File, Failure> {
        let file = self.descend().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Failure::Storage(changed(listed)),
            _ if is_link(&error) => Failure::Archive(Reason::Link, "a symbolic link".into()),
            _ => Failure::Storage(Error::from(error).with("file", &listed.location)),
        })?;
        let about = file.metadata()?;
        if !about.is_file() {
            return Err(Failure::Archive(Reason::NotAFile, "not a plain file".into()));
        }
        if entry(&listed.location, &about) != *listed {
            return Err(Failure::Storage(changed(listed)));
        }
        Ok(file)
    }

    #[cfg(unix)]
    fn descend(&self) -> io::Result<File> {
        use rustix::fs::{Mode, OFlags, open, openat};
        let (folder, file) = (OFlags::DIRECTORY | OFlags::CLOEXEC, OFlags::NONBLOCK | OFlags::CLOEXEC);
        let Some((name, folders)) = self.steps.split_last() else {
            return Ok(File::from(open(&self.root, file, Mode::empty())?));
        };
        let mut at = open(&self.root, folder, Mode::empty())?;
        for step in folders {
            at = openat(&at, step.as_str(), folder | OFlags::NOFOLLOW, Mode::empty())?;
        }
        Ok(File::from(openat(&at, name.as_str(), file | OFlags::NOFOLLOW, Mode::empty())?))
    }

    #[cfg(not(unix))]
    fn descend(&self) -> io::Result<File> {
        File::open(self.steps.iter().fold(self.root.clone(), |path, step| path.join(step)))
    }
}

/// Whether a step was a link: systems say so as "too many links" or "no folder".
fn is_link(error: &io::Error) -> bool {
    #[cfg(unix)]
    {
        use rustix::io::Errno;
        let links = [Errno::LOOP, Errno::NOTDIR, Errno::MLINK];
        error.raw_os_error().is_some_and(|code| links.iter().any(|link| link.raw_os_error() == code))
    }
    #[cfg(not(unix))]
    {
        let _ = error;
        false
    }
}

fn changed(listed: &FileEntry) -> Error {
    Error::new(ErrorKind::Io, "the file changed while it was read; run again").with("file", &listed.location)
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_file_that_became_a_link_after_the_walk_is_not_opened() {
        let folder = tempfile::tempdir().unwrap();
        let (secret, drop) = (folder.path().join("secret"), folder.path().join("drop"));
        for place in [&secret, &drop.join("a")] {
            std::fs::create_dir_all(place).unwrap();
            std::fs::write(place.join("x.csv"), "id\n1\n").unwrap();
        }
        let listing = list(&drop, "/drop").unwrap();
        let [(entry, local)] = &listing.files[..] else { panic!("{listing:?}") };
        assert!(local.open(entry).is_ok());

        std::fs::remove_file(drop.join("a/x.csv")).unwrap();
        symlink(secret.join("x.csv"), drop.join("a/x.csv")).unwrap();
        assert!(matches!(local.open(entry), Err(Failure::Archive(Reason::Link, _))));

        // So it is with a folder on the way.
        std::fs::remove_dir_all(drop.join("a")).unwrap();
        symlink(&secret, drop.join("a")).unwrap();
        assert!(matches!(local.open(entry), Err(Failure::Archive(Reason::Link, _))));

        // Another file in its place is another delivery.
        std::fs::remove_file(drop.join("a")).unwrap();
        std::fs::create_dir(drop.join("a")).unwrap();
        std::fs::write(drop.join("a/x.csv"), "id\n1\n2\n").unwrap();
        assert!(matches!(local.open(entry), Err(Failure::Storage(_))));
    }
}
