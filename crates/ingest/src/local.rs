//! Drops on a local disk, which whoever may write to the folder fills with what he likes: links and special files are set
//! aside, and never opened.
//!
//! The walk asks what each entry is without following it. Between the walk and the reading an entry can become another, so
//! that a file is opened folder by folder below the caller's own, no step of which may be a link, and what was opened is
//! looked at again. The caller's own folder may be reached by links.

use std::fs::{File, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use icefield_core::storage::{FileEntry, Storage, join};
use icefield_core::{Error, ErrorKind};

use crate::archive::Failure;
use crate::escape::{may_be_in_a_path, past};
use crate::first::First;
use crate::options::Limits;
use crate::quarantine::Reason;

/// Bytes of a path below the caller's folder: what object stores allow.
const PATH_BYTES: usize = 1024;

/// What is in a folder, by location.
#[derive(Debug)]
pub(crate) struct Listing {
    pub(crate) files: First<(FileEntry, Option<Local>)>,
    /// What is neither a plain file nor a folder.
    pub(crate) aside: First<(Reason, String)>,
}

impl Listing {
    /// A listing of at most so many files, and as many others.
    pub(crate) fn new(most: usize) -> Self {
        Self { files: First::new(most), aside: First::new(most) }
    }
}

/// A file below a folder that the caller names, or that file itself where there is no path.
#[derive(Debug, Clone)]
pub(crate) struct Local {
    root: Arc<Path>,
    /// Names, parted by slashes.
    path: String,
}

/// The place on the local disk that a source is, where it is one.
pub(crate) fn root(storage: &Storage, source: &str) -> Option<PathBuf> {
    let at = storage.resolve(source).ok().filter(|at| cfg!(unix) && at.base.scheme() == "file")?;
    let path = Path::new("/").join(at.path.as_ref());
    path.exists().then_some(path)
}

/// Lists a folder and its subfolders, or a file, and tells the number of files and others that were seen. Blocks. Those whose
/// names are `hidden` are passed over.
pub(crate) fn list(
    root: &Path,
    source: &str,
    hidden: &dyn Fn(&str) -> bool,
    limits: &Limits,
    listing: &mut Listing,
) -> io::Result<u64> {
    let about = std::fs::metadata(root)?;
    let root: Arc<Path> = root.into();
    if !about.is_dir() {
        let local = Local { root, path: String::new() };
        match flaw(&about, limits) {
            None => listing.files.put(source.to_string(), (entry(source, &about), Some(local))),
            Some(flaw) => listing.aside.put(source.to_string(), flaw),
        }
        return Ok(1);
    }
    let mut seen = 0;
    let mut folders = vec![(String::new(), source.to_string())];
    while let Some((path, location)) = folders.pop() {
        // What can't be read is set aside, unless it is what the caller names.
        let entries = match std::fs::read_dir(root.join(&path)) {
            Err(error) if !path.is_empty() => {
                listing.aside.put(location, (Reason::Unreadable, error.to_string()));
                continue;
            }
            entries => entries?,
        };
        for found in entries {
            let found = match found {
                Err(error) if !path.is_empty() => {
                    listing.aside.put(location.clone(), (Reason::Unreadable, error.to_string()));
                    break;
                }
                found => found?,
            };
            let name = found.file_name();
            let shown = name.to_string_lossy();
            let location = join(&location, &shown);
            let Ok(kind) = found.file_type() else { continue };
            if !kind.is_dir() {
                seen += 1;
            }
            if !kind.is_dir() && hidden(&shown) {
                continue;
            }
            let mut aside =
                |reason, why: &str| listing.aside.put(location.clone(), (reason, why.to_string()));
            let Some(name) = name.to_str().filter(|name| name.chars().all(may_be_in_a_path)) else {
                aside(Reason::UnsafePath, "the name is no text, or has characters that are not shown");
                continue;
            };
            let path = if path.is_empty() { name.to_string() } else { format!("{path}/{name}") };
            if path.len() > PATH_BYTES {
                aside(Reason::UnsafePath, &format!("the path is longer than {PATH_BYTES} bytes"));
            } else if kind.is_symlink() {
                aside(Reason::Link, "a symbolic link");
            } else if kind.is_dir() {
                if folders.len() < limits.run_archives {
                    folders.push((path, location));
                } else {
                    listing.files.left += 1;
                }
            } else if !is_upload(name)
                && let Ok(about) = found.metadata()
            {
                match flaw(&about, limits) {
                    None => {
                        let local = Local { root: root.clone(), path };
                        listing.files.put(location.clone(), (entry(&location, &about), Some(local)));
                    }
                    Some((reason, why)) => aside(reason, &why),
                }
            }
        }
    }
    Ok(seen)
}

/// Why a file is not one to read, by what the system says of it.
fn flaw(about: &Metadata, limits: &Limits) -> Option<(Reason, String)> {
    if !about.is_file() {
        return Some((Reason::NotAFile, "not a plain file".into()));
    }
    #[cfg(unix)]
    {
        // Holes cost their writer nothing. A file system that compresses stores files in less than their size, too.
        let stored = std::os::unix::fs::MetadataExt::blocks(about).saturating_mul(512);
        if about.len() > limits.ratio_floor_bytes && about.len() / limits.ratio.max(1) > stored {
            let what = format!("a sparse file: {} bytes, of which {stored} are stored", about.len());
            return Some((Reason::NotAFile, past(&what, "ratio", limits.ratio)));
        }
    }
    None
}

/// Whether a file is one that the store has not finished writing.
fn is_upload(name: &str) -> bool {
    name.rsplit_once('#').is_some_and(|(_, n)| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}

pub(crate) fn entry(location: &str, about: &Metadata) -> FileEntry {
    let modified_ms = about.modified().map_or(0, |at| DateTime::<Utc>::from(at).timestamp_millis());
    FileEntry { location: location.to_string(), size: about.len(), modified_ms }
}

impl Local {
    /// A file beside this one, which is the caller's own.
    pub(crate) fn sibling(&self, name: &str) -> Option<(PathBuf, Self)> {
        let folder = self.root.parent().filter(|_| self.path.is_empty())?;
        let local = Self { root: folder.into(), path: name.to_string() };
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
        if self.path.is_empty() {
            return Ok(File::from(open(&*self.root, file, Mode::empty())?));
        }
        let mut at = open(&*self.root, folder, Mode::empty())?;
        let mut steps = self.path.split('/').peekable();
        while let Some(step) = steps.next() {
            let kind = if steps.peek().is_some() { folder } else { file };
            at = openat(&at, step, kind | OFlags::NOFOLLOW, Mode::empty())?;
        }
        Ok(File::from(at))
    }

    #[cfg(not(unix))]
    fn descend(&self) -> io::Result<File> {
        File::open(self.path.split('/').fold(self.root.to_path_buf(), |path, step| path.join(step)))
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
        let mut listing = Listing::new(9);
        list(&drop, "/drop", &|_| false, &Limits::default(), &mut listing).unwrap();
        let [(entry, Some(local))] = &listing.files.kept.values().collect::<Vec<_>>()[..] else {
            panic!("{listing:?}")
        };
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
