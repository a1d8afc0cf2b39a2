//! [`Table`]: a table's metadata at one moment, immutable, and the ways to name one of its snapshots.

use std::fmt;
use std::sync::Arc;

use iceberg::TableIdent;
pub use iceberg::spec::SnapshotRetention;
use iceberg::spec::{
    SchemaRef, SnapshotLog, SnapshotRef, SnapshotReference, TableMetadata, TableMetadataRef,
};

use crate::error::{Error, Result};
use crate::format::{self, Metadata, load_metadata};
use crate::storage::{Storage, is_relative};

/// The branch that reads and writes use unless another is named.
pub const MAIN_BRANCH: &str = "main";

/// A table as one metadata file describes it. Cheap to clone; it never changes: a commit gives a new one.
#[derive(Clone)]
pub struct Table(Arc<Inner>);

struct Inner {
    ident: TableIdent,
    metadata: Metadata,
    metadata_location: String,
    storage: Storage,
    home: Home,
}

/// What knows of a table.
#[derive(PartialEq, Eq)]
enum Home {
    Catalog,
    /// No catalog: the table was opened from its metadata file.
    File,
    /// Nothing yet: see [`Catalog::stage_table`](crate::catalog::Catalog::stage_table).
    Nowhere,
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table")
            .field("ident", &self.0.ident.to_string())
            .field("metadata_location", &self.0.metadata_location)
            .finish_non_exhaustive()
    }
}

/// Which snapshot of a table.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum AsOf {
    /// The head of `main`.
    #[default]
    Current,
    /// A snapshot by its id.
    Snapshot(i64),
    /// The snapshot that was `main`'s head at a time, in milliseconds since the epoch.
    Timestamp(i64),
    /// The snapshot that a branch or tag names.
    Ref(String),
}

impl Table {
    /// A catalog's table from its parts. What a catalog loads it gives whole: typed metadata alone is for
    /// what was made here.
    pub fn new(
        ident: TableIdent,
        metadata: impl Into<Metadata>,
        metadata_location: String,
        storage: Storage,
    ) -> Self {
        Self::at(Home::Catalog, ident, metadata.into(), metadata_location, storage)
    }

    /// A table that its catalog has [staged](crate::catalog::Catalog::stage_table): uncommitted, without a
    /// metadata file.
    pub fn staged(ident: TableIdent, metadata: impl Into<Metadata>, storage: Storage) -> Self {
        Self::at(Home::Nowhere, ident, metadata.into(), String::new(), storage)
    }

    fn at(
        home: Home,
        ident: TableIdent,
        metadata: Metadata,
        metadata_location: String,
        storage: Storage,
    ) -> Self {
        let folder = metadata_location.rsplit_once("/metadata/").map(|(folder, _)| folder);
        let storage = match folder.or(metadata_location.rsplit_once('/').map(|(folder, _)| folder)) {
            // Elsewhere two tables of one process might have files of one name.
            Some(folder) if home == Home::File && is_relative(metadata.location()) => {
                storage.with_relative(metadata.location(), folder)
            }
            _ => storage,
        };
        Self(Arc::new(Inner { ident, metadata, metadata_location, storage, home }))
    }

    /// A table from its metadata file alone, plain or gzip and of any name, without a catalog and so
    /// read-only. Where the table's files were moved, `storage` says where to: see
    /// [`Storage::with_mappings`]. Relative locations are found from the folder in which the metadata file
    /// is, or its folder `metadata`. One request.
    ///
    /// # Errors
    /// As [`load_metadata`].
    pub async fn from_metadata_file(storage: Storage, ident: TableIdent, location: &str) -> Result<Self> {
        let metadata = load_metadata(&storage, location).await?;
        Ok(Self::at(Home::File, ident, metadata, location.to_string(), storage))
    }

    /// True for a table that is [staged](crate::catalog::Catalog::stage_table) and uncommitted: its first
    /// commit creates it.
    pub fn is_new(&self) -> bool {
        self.0.home == Home::Nowhere
    }

    /// Whether the table was opened by [`from_metadata_file`](Self::from_metadata_file): nothing can be
    /// committed to it.
    pub fn is_read_only(&self) -> bool {
        self.0.home == Home::File
    }

    /// Whether the table's own location is relative: names of its files are then other tables' too.
    pub fn is_relative(&self) -> bool {
        is_relative(self.metadata().location())
    }

    /// Whether a file lies in the table's own folder, below its location: one elsewhere may be others' too,
    /// whatever the table's metadata says of it.
    pub fn owns(&self, file: &str) -> bool {
        self.storage().is_within(file, self.metadata().location())
    }

    /// Refuses a table that has no catalog, before anything is changed.
    ///
    /// # Errors
    /// [`Unsupported`](crate::ErrorKind::Unsupported).
    pub fn require_catalog(&self) -> Result<()> {
        if self.0.home != Home::File {
            return Ok(());
        }
        Err(Error::unsupported(
            "the table was opened from its metadata file and is read-only; load it from its catalog, or register it in one",
        )
        .with("table", self.ident())
        .with("file", self.metadata_location()))
    }

    /// The table's name in its catalog.
    pub fn ident(&self) -> &TableIdent {
        &self.0.ident
    }

    /// The table's metadata.
    pub fn metadata(&self) -> &TableMetadata {
        &self.0.metadata
    }

    /// The table's metadata, shared.
    pub fn metadata_ref(&self) -> TableMetadataRef {
        self.0.metadata.typed().clone()
    }

    /// The table's metadata with all that its file has.
    pub fn whole(&self) -> &Metadata {
        &self.0.metadata
    }

    /// Where the metadata was read from; empty for [a new table](Self::is_new).
    pub fn metadata_location(&self) -> &str {
        &self.0.metadata_location
    }

    /// The stores of the table's files.
    pub fn storage(&self) -> &Storage {
        &self.0.storage
    }

    /// The current schema.
    pub fn schema(&self) -> &SchemaRef {
        self.0.metadata.current_schema()
    }

    /// A table property.
    pub fn property(&self, name: &str) -> Option<&str> {
        self.0.metadata.properties().get(name).map(String::as_str)
    }

    /// The snapshot that `as_of` names; `None` is a table or branch without a snapshot: it has no rows.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound) for an id, branch or tag that the table does not have, and
    /// for a time before its first snapshot.
    pub fn snapshot_as_of(&self, as_of: &AsOf) -> Result<Option<SnapshotRef>> {
        let metadata = self.metadata();
        match as_of {
            AsOf::Current => Ok(metadata.current_snapshot().cloned()),
            AsOf::Snapshot(id) => metadata.snapshot_by_id(*id).cloned().map(Some).ok_or_else(|| {
                Error::not_found("no such snapshot; it may have been expired, see the table's history")
                    .with("table", self.ident())
                    .with("snapshot", id)
            }),
            AsOf::Timestamp(ms) => {
                let entry = self.history().iter().rev().find(|entry| entry.timestamp_ms() <= *ms);
                let snapshot = entry.and_then(|entry| metadata.snapshot_by_id(entry.snapshot_id));
                snapshot.cloned().map(Some).ok_or_else(|| {
                    Error::not_found("the table has no snapshot as old as this time; see its history")
                        .with("table", self.ident())
                        .with("timestamp_ms", ms)
                })
            }
            AsOf::Ref(name) => {
                match self.reference(name).and_then(|head| metadata.snapshot_by_id(head.snapshot_id)) {
                    Some(snapshot) => Ok(Some(snapshot.clone())),
                    None if name == MAIN_BRANCH => Ok(None),
                    None => Err(Error::not_found("no such branch or tag; see the table's refs")
                        .with("table", self.ident())
                        .with("ref", name)),
                }
            }
        }
    }

    /// The schema in which a read as of `as_of` is: the snapshot's own for an id, a time or a tag, the
    /// table's current one for the current snapshot and for branches, which go on evolving (Iceberg Java's
    /// `SnapshotUtil.schemaFor`).
    pub fn schema_as_of(&self, as_of: &AsOf) -> Result<SchemaRef> {
        let snapshot = self.snapshot_as_of(as_of)?;
        let own = match as_of {
            AsOf::Current => false,
            AsOf::Ref(name) => self.is_tag(name),
            AsOf::Snapshot(_) | AsOf::Timestamp(_) => true,
        };
        match snapshot {
            Some(snapshot) if own => Ok(snapshot.schema(self.metadata())?),
            _ => Ok(self.schema().clone()),
        }
    }

    fn is_tag(&self, name: &str) -> bool {
        let is_tag = |of: &SnapshotReference| matches!(of.retention, SnapshotRetention::Tag { .. });
        self.reference(name).is_some_and(is_tag)
    }

    /// The branch or tag of a name.
    pub fn reference(&self, name: &str) -> Option<&SnapshotReference> {
        self.references().iter().find(|(ref_name, _)| ref_name == name).map(|(_, reference)| reference)
    }

    /// The table's branches and tags by name, sorted.
    pub fn references(&self) -> &[(String, SnapshotReference)] {
        self.0.metadata.references()
    }

    /// The snapshots that were `main`'s heads, and since when, the oldest first: the log of the table's
    /// metadata file.
    pub fn history(&self) -> &[SnapshotLog] {
        self.0.metadata.history()
    }

    /// The snapshots from `head` back to the first that the table still has, newest first.
    pub fn ancestors(&self, head: i64) -> impl Iterator<Item = &SnapshotRef> {
        ancestors(self.metadata(), head)
    }
}

/// The branches and tags of `metadata` by name, sorted.
pub fn references(metadata: &TableMetadata) -> Vec<(String, SnapshotReference)> {
    format::references(metadata)
}

/// The snapshots of `metadata` from `head` back to the first that it still has, newest first.
pub fn ancestors(metadata: &TableMetadata, head: i64) -> impl Iterator<Item = &SnapshotRef> {
    let first = metadata.snapshot_by_id(head);
    let limit = metadata.snapshots().len(); // parents that form a ring must not hang a reader
    std::iter::successors(first, |s| s.parent_snapshot_id().and_then(|p| metadata.snapshot_by_id(p)))
        .take(limit)
}
