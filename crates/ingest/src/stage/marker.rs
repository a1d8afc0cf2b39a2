//! The file that says that an archive is staged in full: nothing reads a part that no marker names.

use icefield_core::storage::{Storage, join};
use icefield_core::{Error, Result};
use object_store::ObjectStoreExt;

use super::outcome::{Outcome, Shape};
use crate::options::Limits;

const MARKER: &str = "_staged.json";

/// Reads a marker; `None` where there is none, or one that this version of the library did not write of this archive: then it
/// is read again.
pub(crate) async fn marker(
    storage: &Storage,
    folder: &str,
    archive: &str,
    limits: &Limits,
) -> Result<Option<Outcome>> {
    let at = storage.resolve(&join(folder, MARKER))?;
    let found = match at.store.get(&at.path).await {
        Err(object_store::Error::NotFound { .. }) => return Ok(None),
        found => found?,
    };
    // What is known and listed of an archive is bounded, and so are its words as JSON.
    let listed = 8_u64.saturating_mul(limits.archive_listed_bytes as u64);
    if found.meta.size > limits.archive_known_bytes.saturating_mul(4).saturating_add(listed) {
        return Ok(None);
    }
    let outcome: Option<Outcome> = serde_json::from_slice(&found.bytes().await?).ok();
    Ok(outcome.filter(|outcome| outcome.archive == archive && outcome.is_within(folder)))
}

impl Outcome {
    /// Whether all its parts are in a folder, and its parts fit each other.
    fn is_within(&self, folder: &str) -> bool {
        let own = |location: &str| {
            let name = location.strip_prefix(folder).and_then(|rest| rest.strip_prefix('/'));
            name.is_some_and(|name| !matches!(name, "" | "." | "..") && !name.contains('/'))
        };
        let parts = self.files.iter().flat_map(|file| &file.parts).chain(&self.quarantine);
        let fits = |shape: &Shape| {
            shape.nulls.len() == shape.header.len() && shape.candidates.len() == shape.header.len()
        };
        let mut rows = self.files.iter().map(|file| file.rows.checked_add(file.bad_rows));
        parts.map(|part| &*part.location).all(own)
            && self.shapes.iter().all(fits)
            && rows.try_fold(0_u64, |sum, rows| sum.checked_add(rows?)).is_some()
    }
}

/// Writes an archive's marker: from now on its parts count.
pub(crate) async fn mark(storage: &Storage, folder: &str, outcome: &Outcome) -> Result<()> {
    let bytes = serde_json::to_vec(outcome)
        .map_err(|e| Error::internal("an outcome that is no JSON").with_source(e))?;
    storage.write(&join(folder, MARKER), bytes).await
}
