//! The result: tables made of staged parts.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use futures::stream::BoxStream;
use icefield_core::Result;
use icefield_core::storage::{FileEntry, Storage};
use sha2::{Digest, Sha256};

use crate::quarantine::Quarantine;
use crate::read::{self, Part, Projection};
use crate::report::Report;
use crate::staging::{Staging, hex};

/// What an ingest brought in.
#[derive(Debug)]
#[non_exhaustive]
pub struct Ingested {
    /// The tables of which there is at least one file, by name.
    pub tables: Vec<IngestedTable>,
    /// What was set aside.
    pub quarantine: Quarantine,
    /// What was found.
    pub report: Report,
    pub(crate) staging: Arc<Staging>,
    pub(crate) folders: Vec<String>,
}

impl Ingested {
    /// A table by name.
    pub fn table(&self, name: &str) -> Option<&IngestedTable> {
        self.tables.iter().find(|t| t.name == name)
    }

    /// Deletes what this run staged or found staged, once it is no longer needed: the tables can't be read any more, and
    /// another run reads the archives anew. Where no staging folder was given this happens by itself when the last value of
    /// the run is dropped.
    ///
    /// Makes one listing and one deletion request a file. When dropped part-way, what is left is complete or is not looked at.
    pub async fn discard(self) -> Result<()> {
        self.staging.discard(&self.folders).await
    }
}

/// One table: the rows of all its files, columns united by name.
#[derive(Debug, Clone)]
pub struct IngestedTable {
    pub(crate) name: String,
    pub(crate) projection: Arc<Projection>,
    pub(crate) parts: Vec<Part>,
    pub(crate) identity: String,
    pub(crate) storage: Storage,
    /// Keeps a temporary staging folder.
    pub(crate) staging: Arc<Staging>,
}

impl IngestedTable {
    /// The table's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The columns: those of the given schema first, then the others as the files bring them.
    pub fn schema(&self) -> &SchemaRef {
        &self.projection.schema
    }

    /// Rows.
    pub fn rows(&self) -> u64 {
        self.parts.iter().map(|p| p.rows).sum()
    }

    /// The staged Parquet files. A column whose type was inferred is text in them, and absent where a file lacked it. Where the
    /// run has a source column, it is `__source` in them. Small files of one header share a part.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// A text that is the same whenever the same archives gave the same rows: a key under which to apply them once. An archive
    /// is the same when it is at the same place and has the same bytes in its files; a file of the same name in another folder
    /// is another one, whatever is in it. Rows of a run that lacks an archive are another batch than all of them: where the
    /// quarantine has [`Reason::Unreadable`](crate::Reason::Unreadable), run again before they are applied. An archive that comes
    /// late, or again, makes another batch, which has the rows of the others too: write it in the place of the batch before,
    /// not beside it.
    pub fn batch_id(&self) -> &str {
        &self.identity
    }

    /// The rows in batches, ordered by archive, member and line. One file is open at a time, of which one row group is held.
    pub fn read(&self) -> BoxStream<'static, Result<RecordBatch>> {
        read::parts(
            self.storage.clone(),
            self.parts.clone(),
            self.projection.clone(),
            Some(self.staging.clone()),
        )
    }
}

/// What a table's rows of one archive are known by: where the archive is, its size, and what was in each of its files.
#[derive(Debug, Clone)]
pub(crate) struct Identity(Sha256);

impl Identity {
    pub(crate) fn of(archive: &FileEntry) -> Self {
        Self(Sha256::new_with_prefix(format!("{}\t{}", archive.location, archive.size)))
    }

    /// Adds a file: its path, the rows that were taken of it, and a hash of its bytes.
    pub(crate) fn add(&mut self, member: &str, rows: u64, content: &str) {
        self.0.update(format!("\n{member}\t{rows}\t{content}"));
    }
}

/// The identity of a table's rows, from those of its archives.
pub(crate) fn identity(table: &str, archives: impl Iterator<Item = Identity>) -> String {
    let mut hash = Sha256::new_with_prefix(table);
    for Identity(archive) in archives {
        hash.update(archive.finalize());
    }
    hex(&hash.finalize()[..16])
}
