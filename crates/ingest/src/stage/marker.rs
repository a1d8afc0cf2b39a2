//! The file that says that an archive is staged in full: nothing reads a part that no marker names.

use icefield_core::storage::{Storage, join};
use icefield_core::{Error, Result};

use super::Outcome;

const MARKER: &str = "_staged.json";

/// Reads a marker; `None` where there is none, or one of another version of the library.
pub(crate) async fn marker(storage: &Storage, folder: &str) -> Result<Option<Outcome>> {
    match storage.read(&join(folder, MARKER)).await {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
        Err(e) if e.kind() == icefield_core::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// Writes an archive's marker: from now on its parts count.
pub(crate) async fn mark(storage: &Storage, folder: &str, outcome: &Outcome) -> Result<()> {
    let bytes = serde_json::to_vec(outcome)
        .map_err(|e| Error::internal("an outcome that is no JSON").with_source(e))?;
    storage.write(&join(folder, MARKER), bytes).await
}
