//! The tables that a plan's rows come from, each as it was when it was looked at.
//!
//! An operation that replaces rows is validated from what its input read: a table handle is a look at a table, and whatever
//! was committed after the oldest look that an input holds, the input has not seen. The plan of a DataFrame names its tables,
//! whatever stands between (views, subqueries, joins, unions, aliases, cached transforms). A plan whose rows were copied into
//! memory does not: there the caller says what they were made from.

mod collect;

use std::sync::Arc;

use icefield_core::catalog::Catalog;
use icefield_core::table::MAIN_BRANCH;
use icefield_core::{AsOf, ConflictReason, Error, ErrorKind, Result, Table as CoreTable};

pub(crate) use collect::looks_of;

/// A table as somebody saw it.
#[derive(Debug, Clone)]
pub(crate) struct Look {
    table: CoreTable,
    /// The snapshot that is read, if there is one.
    snapshot: Option<i64>,
    /// Where the table is registered, if that is known: names are those of a catalog.
    catalog: Option<Arc<dyn Catalog>>,
}

impl Look {
    pub(crate) fn new(table: &CoreTable, as_of: &AsOf, catalog: Option<Arc<dyn Catalog>>) -> Self {
        let snapshot = table.snapshot_as_of(as_of).ok().flatten().map(|snapshot| snapshot.snapshot_id());
        Self { table: table.clone(), snapshot, catalog }
    }

    /// Whether the table still has its name where it is registered. One look at that catalog.
    async fn is_registered(&self) -> Result<bool> {
        let Some(catalog) = &self.catalog else { return Ok(false) };
        match catalog.load_table(self.table.ident()).await {
            Ok(now) => Ok(now.metadata().uuid() == self.table.metadata().uuid()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The last snapshot of a branch that the look shows. History that is read on purpose (an id, a tag, a time) is no older a
    /// look than the handle that it was read through. Where the branch is not there yet, it is what was read.
    fn head(&self, branch: &str) -> Option<i64> {
        let head = self.table.metadata().snapshot_for_ref(branch).map(|snapshot| snapshot.snapshot_id());
        if branch == MAIN_BRANCH { head } else { head.or(self.snapshot) }
    }
}

/// The looks that a plan holds, or that a caller told.
#[derive(Debug, Clone, Default)]
pub(crate) struct Looks(Vec<Look>);

impl FromIterator<Look> for Looks {
    fn from_iter<I: IntoIterator<Item = Look>>(looks: I) -> Self {
        Self(looks.into_iter().collect())
    }
}

impl Looks {
    pub(crate) fn add(&mut self, look: Look) {
        self.0.push(look);
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Look> {
        self.0.iter()
    }

    /// These and others.
    pub(crate) fn and(mut self, others: Self) -> Self {
        self.0.extend(others.0);
        self
    }

    /// The snapshot of a branch of `table` that an operation is validated from: the oldest that the looks at the table show,
    /// `Some(None)` where the branch had none. `None` without a look at the table. A table that was opened from a metadata
    /// file is history on purpose, and no look.
    ///
    /// # Errors
    /// [`Conflict`](icefield_core::ErrorKind::Conflict) for a look at another table, that had the name before. One that has the
    /// same name in another catalog is no such table.
    pub(crate) async fn start(&self, table: &CoreTable, branch: &str) -> Result<Option<Option<i64>>> {
        let uuid = table.metadata().uuid();
        let mut mine = Vec::new();
        for look in self.0.iter().filter(|look| !look.table.is_read_only()) {
            if look.table.metadata().uuid() == uuid {
                mine.push(look);
            } else if look.table.ident() == table.ident() && !look.is_registered().await? {
                let message = "the rows were read from a table that was dropped since, and created anew under the same name; load \
                               it again and run the operation again";
                return Err(Error::conflict(message)
                    .because(ConflictReason::TableReplaced)
                    .with("table", table.ident()));
            }
        }
        // A copy of the table that another catalog has taken elsewhere does not know what is committed here.
        let head = table.metadata().snapshot_for_ref(branch).map(|head| head.snapshot_id());
        let knows = |other: &&CoreTable| head.is_none_or(|id| other.metadata().snapshot_by_id(id).is_some());
        let looked_at = mine.iter().map(|look| &look.table).filter(knows);
        let newest = looked_at.chain([table]).max_by_key(|table| {
            let metadata = table.metadata();
            (metadata.last_sequence_number(), metadata.last_updated_ms())
        });
        let newest = newest.unwrap_or(table);
        let heads = mine.iter().map(|look| look.head(branch));
        Ok(heads.max_by_key(|head| age(newest, branch, *head)))
    }
}

/// How many snapshots a branch has since; what it has not is older than all.
fn age(table: &CoreTable, branch: &str, snapshot: Option<i64>) -> usize {
    let Some(head) = table.metadata().snapshot_for_ref(branch) else {
        return usize::from(snapshot.is_some());
    };
    let mut ids = table.ancestors(head.snapshot_id()).map(|ancestor| ancestor.snapshot_id());
    match snapshot {
        Some(id) => ids.position(|ancestor| ancestor == id).unwrap_or(usize::MAX),
        None => ids.count(),
    }
}
