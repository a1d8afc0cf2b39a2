//! The one way in which written files become part of a table: append, overwrite, `INSERT`, `CREATE TABLE AS`, compaction and
//! row-level changes end here.
//!
//! What goes: the files of this write, after a commit that is known not to name them. After an unknown outcome nothing goes: a
//! snapshot may name them.

use icefield_core::Result;
use icefield_core::catalog::Catalog;
use icefield_core::commit::{Committed, Transaction};

use crate::write::WrittenFiles;

/// Commits a transaction that names files of some writes. Where it fails, or finds its idempotency key applied already, they are
/// deleted, unless the outcome is unknown.
///
/// # Errors
/// Those of [`Transaction::commit`].
///
/// # Cancel safety
/// Dropped, the commit is done or not done, and leaves at most unreachable files.
pub async fn publish(
    transaction: Transaction,
    catalog: &dyn Catalog,
    written: &[&WrittenFiles],
) -> Result<Committed> {
    let committed = transaction.commit(catalog).await;
    for files in written {
        match &committed {
            // Another commit with the key was first: no snapshot names these files.
            Ok(committed) if committed.already_applied => files.discard().await,
            Ok(_) => {}
            Err(error) => files.discard_after(error).await,
        }
    }
    committed
}
