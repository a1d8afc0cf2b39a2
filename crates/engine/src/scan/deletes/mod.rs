//! Applying row-level deletes while data files are read.
//!
//! Which deletes apply to which file is decided at planning, from metadata alone. Delete files are read when the first data
//! file that they apply to is opened, once for all partitions of a scan, and are held in the session's memory pool.
//! - **Positions** (position delete files, deletion vectors) become row selections of the data file: [`positions`] reads
//!   them, and [`selection`](super::selection) reads the file by these.
//! - **Equality deletes** are looked up row by row above the source: [`equality`] holds the keys, [`exec`] drops the rows.
//!
//! The same machinery reads the other way about, just rows that are deleted: a [`Part`] says which rows of a file are read.

mod equality;
mod exec;
mod parts;
mod plan;
mod positions;
mod reader;

pub(super) use equality::EqualityDeletes;
pub(super) use exec::EqualityDeleteExec;
pub(crate) use parts::identity;
pub(super) use parts::{Applied, Part};
pub(super) use plan::ScanDeletes;
pub(crate) use positions::{NamedRow, named_rows};
