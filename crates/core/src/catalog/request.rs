//! The requests and outcomes of a catalog's commit, and a catalog's guarantees.

use std::collections::HashSet;

use iceberg::spec::MAIN_BRANCH;
use iceberg::{TableIdent, TableRequirement, TableUpdate};

use crate::error::{Error, Result};
use crate::table::Table;

/// One table's part of a commit: what is expected of the table, and what changes.
#[derive(Debug, Clone)]
pub struct CommitRequest {
    /// The table.
    pub ident: TableIdent,
    /// The state that the updates rely on, else the outcome is [`CommitOutcome::Conflict`].
    pub expect: Expect,
    /// The changes, in order.
    pub updates: Vec<TableUpdate>,
}

/// The state in which a commit expects a table.
#[derive(Debug, Clone)]
pub enum Expect {
    /// The catalog has nothing of this name. The table, of
    /// [`Catalog::stage_table`](super::Catalog::stage_table), is created with the updates applied to it. A
    /// name that is taken is a conflict with an error of the kind
    /// [`AlreadyExists`](crate::ErrorKind::AlreadyExists).
    Absent(Table),
    /// The current metadata file is at this location: the updates were worked out from the whole of the
    /// metadata. For catalogs that [guarantee](Guarantees::unchanged) it; [`Expect::whole`] finds the next
    /// best for others.
    Unchanged(String),
    /// Each of these holds of the current metadata. The updates are applied to what others made of the table
    /// meanwhile.
    Requirements(Vec<TableRequirement>),
}

impl Expect {
    /// Expects a table to be as it was loaded, as far as the catalog can tell: that its metadata file is the
    /// same, or that all requirements hold which can be stated of it. These don't cover a branch or tag that
    /// others made meanwhile, and properties that they set.
    pub fn whole(table: &Table, guarantees: Guarantees) -> Self {
        if guarantees.unchanged {
            return Self::Unchanged(table.metadata_location().to_string());
        }
        let metadata = table.metadata();
        let mut requirements = vec![
            TableRequirement::UuidMatch { uuid: metadata.uuid() },
            TableRequirement::CurrentSchemaIdMatch { current_schema_id: metadata.current_schema_id() },
            TableRequirement::LastAssignedFieldIdMatch { last_assigned_field_id: metadata.last_column_id() },
            TableRequirement::DefaultSpecIdMatch { default_spec_id: metadata.default_partition_spec_id() },
            TableRequirement::LastAssignedPartitionIdMatch {
                last_assigned_partition_id: metadata.last_partition_id(),
            },
            TableRequirement::DefaultSortOrderIdMatch {
                default_sort_order_id: metadata.default_sort_order_id(),
            },
        ];
        let heads = table.references().iter();
        let heads = heads.map(|(name, reference)| (name.clone(), Some(reference.snapshot_id)));
        let no_main = table.reference(MAIN_BRANCH).is_none().then(|| (MAIN_BRANCH.to_string(), None));
        requirements.extend(
            heads
                .chain(no_main)
                .map(|(name, snapshot_id)| TableRequirement::RefSnapshotIdMatch { r#ref: name, snapshot_id }),
        );
        Self::Requirements(requirements)
    }
}

/// The outcome of a commit. There is no fourth case: a catalog that cannot tell answers
/// [`CommitOutcome::Unknown`].
#[derive(Debug)]
pub enum CommitOutcome {
    /// The changes are made. The new tables, in the order of the requests.
    Done(Vec<Table>),
    /// Nothing changed: an expectation did not hold, or another writer was first. Reload, validate and try
    /// again.
    Conflict(Error),
    /// Nothing changed. Trying again won't help (no such table, no permission, an update that can't be
    /// applied) unless the error [is retryable](Error::is_retryable): the catalog or a store did not answer
    /// before anything was published.
    Failed(Error),
    /// The answer was lost. The commit may have happened: delete nothing, look at the table's history.
    Unknown(Error),
}

/// A catalog's promises beyond those of all catalogs. By default none.
///
/// ```
/// use icefield_core::catalog::Guarantees;
///
/// let mut guarantees = Guarantees::default();
/// guarantees.unchanged = true;
/// assert!(!guarantees.several_tables);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Guarantees {
    /// [`Expect::Unchanged`] is checked in the same step as the change is made. Without it a commit that
    /// needs the whole table unchanged states requirements instead, and a catalog fails a request that asks
    /// for it.
    pub unchanged: bool,
    /// A commit of several requests changes all of their tables or none. Without it such a commit fails, and
    /// changes nothing.
    pub several_tables: bool,
    /// Earlier metadata files are for whoever commits to delete, where the table's properties ask for that.
    /// Without it they are the catalog's.
    pub leaves_metadata_files: bool,
}

/// Checks the requests of one commit before anything is written: that they name each table once (the second
/// would undo the first), and ask for nothing that the catalog does not [guarantee](Guarantees).
///
/// # Errors
/// [`InvalidInput`](crate::ErrorKind::InvalidInput), [`Unsupported`](crate::ErrorKind::Unsupported).
pub fn check_requests(requests: &[CommitRequest], guarantees: Guarantees) -> Result<()> {
    let mut seen = HashSet::new();
    if let Some(twice) = requests.iter().find(|request| !seen.insert(&request.ident)) {
        let message = "a commit names each table once; join its updates in one request";
        return Err(Error::invalid_input(message).with("table", &twice.ident));
    }
    if requests.len() > 1 && !guarantees.several_tables {
        let message = "this catalog can't commit to several tables at once; commit to one after the other";
        return Err(Error::unsupported(message).with("tables", requests.len()));
    }
    for request in requests {
        match &request.expect {
            Expect::Unchanged(_) if !guarantees.unchanged => {
                let message = "this catalog can't require unchanged metadata; state requirements";
                return Err(Error::unsupported(message).with("table", &request.ident));
            }
            Expect::Absent(staged) if !staged.is_new() || *staged.ident() != request.ident => {
                let message = "a table is created from what stage_table gave for its name";
                return Err(Error::invalid_input(message).with("table", &request.ident));
            }
            _ => {}
        }
    }
    Ok(())
}
