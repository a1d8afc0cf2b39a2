//! Where a range of snapshots begins.

use icefield_core::{AsOf, Result, Table};

use crate::as_of::IntoAsOf;

/// Where a range of snapshots begins.
#[derive(Debug, Clone)]
pub enum Start {
    /// Before the table's first snapshot.
    Beginning,
    /// After this one.
    After(AsOf),
}

/// Before a table's first snapshot: `table.appended_between(Beginning, "main")`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Beginning;

/// What a range of snapshots can begin with: whatever names a snapshot, which is not part of the range, or [`Beginning`].
pub trait IntoStart {
    /// Where the range begins.
    fn into_start(self, table: &Table) -> Result<Start>;
}

impl<T: IntoAsOf> IntoStart for T {
    fn into_start(self, table: &Table) -> Result<Start> {
        self.into_as_of(table).map(Start::After)
    }
}

impl IntoStart for Start {
    fn into_start(self, _: &Table) -> Result<Start> {
        Ok(self)
    }
}

impl IntoStart for Beginning {
    fn into_start(self, _: &Table) -> Result<Start> {
        Ok(Start::Beginning)
    }
}
