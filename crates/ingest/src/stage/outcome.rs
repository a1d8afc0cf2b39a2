//! [`Outcome`]: what became of one archive, as its marker keeps it.

use serde::{Deserialize, Serialize};

use crate::infer::Candidates;
use crate::quarantine::{Level, Quarantined, Reason};
use crate::read::Part;

/// What became of one archive: its marker's content.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Outcome {
    pub(crate) archive: String,
    /// Why nothing, or not all, was taken.
    pub(crate) broken: Option<(Reason, String)>,
    pub(crate) files: Vec<StagedFile>,
    /// What files of one table and header have in common.
    pub(crate) shapes: Vec<Shape>,
    /// Bytes of memory that the files and their shapes take, about.
    pub(crate) known_bytes: u64,
    /// Members that were passed over because the settings say so.
    pub(crate) ignored: u64,
    /// Members that a system left beside the files: attributes, views of folders.
    pub(crate) skipped: u64,
    /// Members that were set aside before a table was known.
    pub(crate) refused: u64,
    pub(crate) counts: Vec<(Level, Reason, u64)>,
    pub(crate) listed: Vec<Quarantined>,
    pub(crate) quarantine: Option<Part>,
    /// Decompressed bytes.
    pub(crate) bytes: u64,
}

/// A member that was taken, or of which rows were set aside.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct StagedFile {
    pub(crate) member: String,
    pub(crate) table: String,
    /// Whether it was taken; when not, the quarantine has it.
    pub(crate) taken: bool,
    /// Its place in the outcome's shapes; `None` when it was not taken.
    pub(crate) shape: Option<usize>,
    pub(crate) rows: u64,
    pub(crate) bad_rows: u64,
    /// A hash of the bytes that its rows were read from.
    pub(crate) content: String,
    pub(crate) parts: Vec<Part>,
}

/// Files of one table that have the same header.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Shape {
    pub(crate) table: String,
    /// The columns' names as the table has them.
    pub(crate) header: Vec<String>,
    pub(crate) nulls: Vec<u64>,
    pub(crate) candidates: Vec<Candidates>,
}
