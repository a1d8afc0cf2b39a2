//! What operations report.

use std::fmt;
use std::time::Duration;

use icefield_core::serialize_seconds;
use icefield_core::text::Plain;
use serde::{Serialize, Serializer};

use crate::table::Table;

/// What a write did. As `serde` writes it, its table is the name.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct WriteReport {
    /// The table after the write.
    #[serde(serialize_with = "serialize_name")]
    pub table: Table,
    /// Rows written.
    pub rows: u64,
    /// Data files written.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The snapshot that the write made, or the one that an earlier write with the same idempotency key had made. Absent
    /// when there was nothing to commit.
    pub snapshot_id: Option<i64>,
    /// An earlier write with the same idempotency key had done this: nothing was written.
    pub already_applied: bool,
    /// The table did not exist and was created.
    pub created: bool,
    /// Columns were added or widened.
    pub evolved: bool,
    /// How many times the commit was tried.
    pub attempts: u32,
    /// Where the time went.
    pub elapsed: Phases,
}

fn serialize_name<S: Serializer>(table: &Table, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&table.name())
}

impl fmt::Display for WriteReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let table = Plain(&self.table.name()).to_string();
        if self.already_applied {
            return write!(f, "{table}: applied before, nothing was written");
        }
        let did = if self.created { "created with" } else { "took" };
        write!(f, "{table}: {did} {} rows in {} files, {} bytes", self.rows, self.files, self.bytes)?;
        if self.evolved {
            f.write_str(", columns added or widened")?;
        }
        if let Some(snapshot) = self.snapshot_id {
            write!(f, "; snapshot {snapshot}")?;
        }
        if self.attempts > 1 {
            write!(f, " at the {}. try", self.attempts)?;
        }
        write!(f, "; {:.1?}", self.elapsed.total())
    }
}

/// Time by phase.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Phases {
    /// Loading or creating the table, and planning the input.
    #[serde(serialize_with = "serialize_seconds")]
    pub plan: Duration,
    /// Running the input and writing data files.
    #[serde(serialize_with = "serialize_seconds")]
    pub write: Duration,
    /// Committing.
    #[serde(serialize_with = "serialize_seconds")]
    pub commit: Duration,
}

impl Phases {
    /// All of it.
    pub fn total(&self) -> Duration {
        self.plan + self.write + self.commit
    }
}
