//! [`Ownership`]: which of the files that a table names may be deleted with its snapshots.
//!
//! A table's metadata is its owner's, and names what it likes: another table's files, or any file of the service. So a file
//! goes only where it lies below the table's own location, with links followed, and in the folder of no other table. Others
//! stay, and reports count them. A whole store is no table's folder.

use std::collections::HashMap;
use std::sync::Arc;

use icefield_core::catalog::Catalog;
use icefield_core::{Result, Table};

use crate::common::FileCounts;
use crate::orphans::{Neighbours, Unloadable};
use crate::paths::{Folders, KeyHash, Path};
use crate::reach::FileKind;

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

/// A file that metadata names.
#[derive(Debug)]
pub(crate) struct NamedFile {
    pub(crate) kind: FileKind,
    pub(crate) path: Path,
    /// Where metadata tells.
    pub(crate) bytes: Option<u64>,
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
        let location = table.metadata().location();
        let neighbours = match elsewhere.check_other_tables {
            true => Neighbours::of(catalog, table, &[location.to_string()], unloadable).await?,
            false => Neighbours::default(),
        };
        neighbours.check(location)?;
        Ok(Self { table: table.clone(), neighbours, outside: elsewhere.allow_outside_table })
    }

    /// Takes files that may not be deleted out of others, and counts them.
    pub(crate) fn keep_elsewhere(
        &self,
        files: &mut HashMap<KeyHash, NamedFile>,
        folders: &Folders,
    ) -> FileCounts {
        let mut kept = FileCounts::new();
        files.retain(|_, file| {
            let may_go = self.may_go(&folders.location(&file.path));
            if !may_go {
                kept.entry(file.kind).or_default().add_if_known(file.bytes);
            }
            may_go
        });
        kept
    }

    /// Whether a file may be deleted.
    pub(crate) fn may_go(&self, location: &str) -> bool {
        (self.outside || self.table.owns(location)) && self.neighbours.owner(location).is_none()
    }
}
