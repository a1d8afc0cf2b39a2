//! The folder that holds what was read of archives until it is in tables.

use std::fmt;

use futures::{StreamExt, TryStreamExt};
use icefield_core::storage::{FileEntry, Storage, file_name, join};
use icefield_core::{Clock, Result};
use sha2::{Digest, Sha256};

/// Raised whenever staged parts change their form, so that older ones are not taken up.
const VERSION: u32 = 3;

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
    pub(crate) fn new(storage: Storage, location: Option<String>, clock: &dyn Clock) -> Self {
        let temporary = location.is_none();
        let location = location.unwrap_or_else(|| {
            let name = format!("icefield-ingest-{}", clock.uuid().simple());
            std::env::temp_dir().join(name).to_string_lossy().into_owned()
        });
        Self { storage, location, temporary }
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

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
