//! Tables as they were last loaded or committed, by their metadata file, which never changes: a table that nobody else commits to
//! is not read again for each look at it, and its history not parsed again for each commit.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use icefield_core::Table;
use icefield_core::catalog::TableIdent;

/// Tables that are kept, and what they weigh together: their snapshots are most of what they take in memory, about 1 KiB each.
const TABLES: usize = 64;
const WEIGHT: usize = 32_768;

/// The last tables, the newest first.
#[derive(Debug, Default)]
pub(super) struct Loaded(Mutex<VecDeque<Table>>);

impl Loaded {
    /// The table as the file at `location` has it, if that is kept.
    pub(super) fn get(&self, ident: &TableIdent, location: &str) -> Option<Table> {
        let mut tables = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = tables.iter().position(|t| t.metadata_location() == location && t.ident() == ident)?;
        let table = tables.remove(at)?;
        tables.push_front(table.clone());
        Some(table)
    }

    /// Keeps a table in the place of what it was before.
    pub(super) fn put(&self, table: &Table) {
        let mut tables = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tables.retain(|known| known.ident() != table.ident());
        tables.push_front(table.clone());
        // A single large table is kept all the same: it is the one that profits most.
        while tables.len() > 1 && (tables.len() > TABLES || tables.iter().map(weight).sum::<usize>() > WEIGHT)
        {
            tables.pop_back();
        }
    }
}

fn weight(table: &Table) -> usize {
    let metadata = table.metadata();
    1 + metadata.snapshots().len() + metadata.history().len() / 8
}
