//! [`Ownership`]: which of the files that a table names may be deleted with its snapshots.
//!
//! A table's metadata is its owner's, and names what it likes: another table's files, or any file of the service. So a file
//! goes only where it lies below the table's own location, with links followed, and in the folder of no other table. Others
//! stay, and reports count them. A whole store is no table's folder.

use std::sync::Arc;

use icefield_core::catalog::Catalog;
use icefield_core::{Result, Table};

use crate::orphans::{Neighbours, Unloadable};

#[derive(Debug)]
pub(crate) struct Ownership {
    table: Table,
    neighbours: Neighbours,
    outside: bool,
}

/// What the caller said of other tables and of files elsewhere.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Elsewhere {
    pub(crate) check_other_tables: bool,
    pub(crate) allow_outside_table: bool,
}

impl Default for Elsewhere {
    fn default() -> Self {
        Self { check_other_tables: true, allow_outside_table: false }
    }
}

impl Ownership {
    /// Looks at the other tables of the catalog, unless that is off. One pointer each, and what metadata is not cached.
    ///
    /// # Errors
    /// [`InvalidInput`](icefield_core::ErrorKind::InvalidInput) where another table has the same folder.
    pub(crate) async fn of(
        catalog: &Arc<dyn Catalog>,
        table: &Table,
        elsewhere: Elsewhere,
        unloadable: Unloadable,
    ) -> Result<Self> {
        let neighbours = match elsewhere.check_other_tables {
            true => Neighbours::of(catalog, table, unloadable).await?,
            false => Neighbours::default(),
        };
        let location = table.metadata().location();
        neighbours.check(location)?;
        let neighbours = neighbours.beside(location);
        Ok(Self { table: table.clone(), neighbours, outside: elsewhere.allow_outside_table })
    }

    /// Whether a file may be deleted.
    pub(crate) fn may_go(&self, location: &str) -> bool {
        (self.outside || self.table.owns(location)) && self.neighbours.owner(location).is_none()
    }
}
