//! Branches, tags, rollback, and files that leave a table.

use iceberg::spec::{SnapshotReference, SnapshotRetention};
use icefield_core::commit::Transaction;
use icefield_core::{Error, Result};

use crate::table::{IntoAsOf, Table};

impl Table {
    /// Makes an ancestor of `main`'s snapshot the current one again: a snapshot id, a tag, or a time. Later snapshots stay until
    /// they expire, and what others commit at the same time is rolled back as well.
    ///
    /// # Errors
    /// [`NotFound`](icefield_core::ErrorKind::NotFound) for an id, tag or time that the table does not have;
    /// [`InvalidInput`](icefield_core::ErrorKind::InvalidInput) when it is no ancestor.
    pub async fn rollback_to(&self, to: impl IntoAsOf) -> Result<Self> {
        let snapshot = self.snapshot_id_of(to)?;
        self.commit(Transaction::new(self.core()).rollback_to(snapshot)).await
    }

    /// Moves a branch to a snapshot that descends from its head, a branch's for the most part: `fast_forward("main", "audit")`
    /// publishes what was written to `audit` since that was made of `main`. A branch that is absent is created. No commit of the
    /// branch is lost, whatever others commit at the same time.
    ///
    /// # Errors
    /// [`NotFound`](icefield_core::ErrorKind::NotFound) for a snapshot that the table does not have; [`InvalidInput`](icefield_core::ErrorKind::InvalidInput) when
    /// the branch has commits that the snapshot does not descend from.
    pub async fn fast_forward(&self, branch: impl Into<String>, to: impl IntoAsOf) -> Result<Self> {
        let snapshot = self.snapshot_id_of(to)?;
        self.commit(Transaction::new(self.core()).on_branch(branch).fast_forward_to(snapshot)).await
    }

    fn snapshot_id_of(&self, as_of: impl IntoAsOf) -> Result<i64> {
        let as_of = as_of.into_as_of(self.core())?;
        let snapshot = self.core().snapshot_as_of(&as_of)?;
        snapshot.map(|snapshot| snapshot.snapshot_id()).ok_or_else(|| {
            Error::not_found("the table has no snapshot yet; write to it first").with("table", self.ident())
        })
    }

    /// Creates a branch at the snapshot that this table reads.
    ///
    /// # Errors
    /// [`AlreadyExists`](icefield_core::ErrorKind::AlreadyExists) for a branch or tag of this name; [`InvalidInput`](icefield_core::ErrorKind::InvalidInput)
    /// for a table without snapshots.
    pub async fn create_branch(&self, name: impl Into<String>) -> Result<Self> {
        self.create_ref(name.into(), SnapshotRetention::branch(None, None, None)).await
    }

    /// Creates a tag at the snapshot that this table reads.
    ///
    /// # Errors
    /// As [`create_branch`](Self::create_branch).
    pub async fn create_tag(&self, name: impl Into<String>) -> Result<Self> {
        self.create_ref(name.into(), SnapshotRetention::Tag { max_ref_age_ms: None }).await
    }

    /// Creates a branch or tag at the snapshot that this table reads, with limits of its own for expiry.
    ///
    /// # Errors
    /// As [`create_branch`](Self::create_branch).
    pub async fn create_ref(&self, name: String, retention: SnapshotRetention) -> Result<Self> {
        let snapshot = self.core().snapshot_as_of(self.snapshot())?.ok_or_else(|| {
            Error::invalid_input(
                "the table has no snapshot that a branch or tag could name; write to it first",
            )
            .with("table", self.ident())
        })?;
        let reference = SnapshotReference::new(snapshot.snapshot_id(), retention);
        self.commit(Transaction::new(self.core()).create_ref(name, reference)).await
    }

    /// Drops a branch or tag.
    ///
    /// # Errors
    /// [`NotFound`](icefield_core::ErrorKind::NotFound); [`InvalidInput`](icefield_core::ErrorKind::InvalidInput) for `main`.
    pub async fn remove_ref(&self, name: impl Into<String>) -> Result<Self> {
        self.commit(Transaction::new(self.core()).remove_ref(name)).await
    }

    /// Takes data files out of the table, by location. The files themselves stay until the snapshots that name them expire.
    pub async fn delete_files(&self, paths: impl IntoIterator<Item = impl Into<String>>) -> Result<Self> {
        self.commit(Transaction::new(self.core()).delete_files(paths)).await
    }

    pub(super) async fn commit(&self, transaction: Transaction) -> Result<Self> {
        let committed = transaction.commit(&**self.session().catalog()).await?;
        Ok(Self::new(self.session().clone(), committed.table))
    }
}
