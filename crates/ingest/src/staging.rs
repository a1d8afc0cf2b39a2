//! The folder that holds what was read of archives until it is in tables.

use std::fmt;
use std::path::Path;

use futures::{StreamExt, TryStreamExt};
use icefield_core::storage::{FileEntry, Storage, file_name, join};
use icefield_core::{Clock, Error, ErrorKind, Result};
use sha2::{Digest, Sha256};

/// Raised whenever staged parts change their form, so that older ones are not taken up.
const VERSION: u32 = 5;

pub(crate) struct Staging {
    storage: Storage,
    location: String,
    /// A folder of our own below the system's temporary one, removed with this value.
    temporary: bool,
}

impl fmt::Debug for Staging {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Staging")
            .field("location", &self.location)
            .field("temporary", &self.temporary)
            .finish()
    }
}

impl Staging {
    /// The folder that is given, or a new one that is its owner's alone.
    pub(crate) fn new(storage: Storage, location: Option<String>, clock: &dyn Clock) -> Result<Self> {
        if let Some(location) = location {
            return Ok(Self { storage, location, temporary: false });
        }
        for _ in 0..TRIES {
            let name = format!("icefield-ingest-{}", clock.uuid().simple());
            let folder = std::env::temp_dir().join(name);
            match make_private(&folder) {
                // What another has put there is not taken for ours.
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(Error::from(error).with("folder", folder.display())),
                Ok(()) => {
                    let location = folder.to_string_lossy().into_owned();
                    return Ok(Self { storage, location, temporary: true });
                }
            }
        }
        Err(Error::new(ErrorKind::Io, "no new temporary folder can be made; give a staging folder"))
    }

    /// Takes what is directly in a folder of a temporary staging folder away from all but its owner. The staging folder itself
    /// is closed to others from the start, so that nobody sees a file before.
    pub(crate) fn keep_private(&self, folder: &str) {
        if !self.temporary {
            return;
        }
        if let Err(error) = close_to_others(Path::new(folder))
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(folder, %error, "permissions of staged files could not be set");
        }
    }

    pub(crate) fn location(&self) -> &str {
        &self.location
    }

    /// The folder of an archive: another one whenever the file, or what is made of it, is another.
    pub(crate) fn folder(&self, archive: &FileEntry, settings: &str) -> String {
        let mut hash = Sha256::new();
        hash.update(format!(
            "{VERSION}\n{}\n{}\n{}\n{settings}",
            archive.location, archive.size, archive.modified_ms
        ));
        let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' };
        let name: String = file_name(&archive.location).chars().map(plain).take(80).collect();
        join(&self.location, &format!("{name}-{}", hex(&hash.finalize()[..12])))
    }

    /// Deletes the folders of archives: markers first, so that what is left of them half-way is never taken up.
    pub(crate) async fn discard(&self, folders: &[String]) -> Result<()> {
        let mut rest = Vec::new();
        for folder in folders {
            let files: Vec<FileEntry> = self.storage.list(folder).try_collect().await?;
            let (markers, parts): (Vec<_>, Vec<_>) =
                files.into_iter().map(|f| f.location).partition(|f| f.ends_with(".json"));
            for marker in markers {
                self.storage.delete(&marker).await?;
            }
            rest.extend(parts);
        }
        let mut deletions = self.storage.delete_all(rest, 16);
        while let Some((_, outcome)) = deletions.next().await {
            outcome?;
        }
        Ok(())
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if self.temporary
            && let Err(error) = std::fs::remove_dir_all(&self.location)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(folder = self.location, %error, "a temporary staging folder could not be removed");
        }
    }
}

/// Names that are tried for a temporary folder.
const TRIES: usize = 16;

#[cfg(unix)]
fn make_private(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().mode(0o700).create(folder)
}

#[cfg(not(unix))]
fn make_private(folder: &Path) -> std::io::Result<()> {
    std::fs::create_dir(folder)
}

#[cfg(unix)]
fn close_to_others(folder: &Path) -> std::io::Result<()> {
    use std::fs::{Permissions, set_permissions};
    use std::os::unix::fs::PermissionsExt;
    set_permissions(folder, Permissions::from_mode(0o700))?;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let mode = if entry.file_type()?.is_dir() { 0o700 } else { 0o600 };
        set_permissions(entry.path(), Permissions::from_mode(mode))?;
    }
    Ok(())
}

#[cfg(not(unix))]
fn close_to_others(_: &Path) -> std::io::Result<()> {
    Ok(())
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
