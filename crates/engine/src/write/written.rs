//! [`WrittenFiles`]: what a write gives back, for a commit to publish or for its writer to delete.

use icefield_core::Error;
use icefield_core::format::ContentFile;
use icefield_core::storage::Storage;

/// The files of one write, not yet part of any table.
#[derive(Debug, Clone)]
pub struct WrittenFiles {
    /// The files, with their partitions and metrics.
    pub files: Vec<ContentFile>,
    /// Their rows.
    pub rows: u64,
    /// Their bytes.
    pub bytes: u64,
    storage: Storage,
}

impl WrittenFiles {
    pub(super) fn new(files: Vec<ContentFile>, storage: Storage) -> Self {
        let rows = files.iter().map(|file| file.file.record_count()).sum();
        let bytes = files.iter().map(|file| file.file.file_size_in_bytes()).sum();
        Self { files, rows, bytes, storage }
    }

    /// Deletes the files, which no snapshot names. One that can't be deleted stays behind, unreachable, for orphan removal.
    pub async fn discard(&self) {
        let locations = self.files.iter().map(|file| file.file.file_path().to_string()).collect();
        self.storage.discard(locations).await;
    }

    /// Deletes the files after an error of the commit that was to publish them, unless a snapshot may name them: where the
    /// outcome is unknown.
    pub async fn discard_after(&self, error: &Error) {
        if !error.is_commit_state_unknown() {
            self.discard().await;
        }
    }
}
