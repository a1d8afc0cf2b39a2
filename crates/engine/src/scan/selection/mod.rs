//! Rows of data files chosen by their position, as deletes say: how a scan reads just these.
//!
//! Whoever plans a scan gives a file a [`RowChoice`]; [`morselizer`] asks it when the file is opened, and has DataFusion's Parquet
//! source skip rows, or drops them from what that reads. Files in other formats are read without them.

mod access;
mod masked;
mod morsels;
mod rows;

pub(super) use morsels::morselizer;
pub(super) use rows::{RowChoice, Selected};
