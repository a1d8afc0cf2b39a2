//! Operations on tables: what a caller says, made of scan, write and commit, one builder each.
//!
//! Builders are consumed by `.await`, do nothing before it, and give a report or the table as they left it. A dropped future
//! leaves the operation done or not done, and at most unreachable files.
//!
//! - [`DataFrameExt`]: [`append_to`](DataFrameExt::append_to) and [`overwrite`](DataFrameExt::overwrite) write a DataFrame;
//! - [`Table::scan`](crate::Table::scan) reads some of a table;
//! - [`Session::create_table`](crate::Session::create_table) and [`TableOptions`];
//! - on [`Table`]: schema, partition spec, sort order and properties ([`UpdateSchema`], [`UpdateSpec`],
//!   [`Alter`]), branches, tags and rollback.

mod alter;
mod append;
mod create;
mod create_as;
mod filter;
mod matching;
mod overwrite;
mod refs;
mod report;
mod scan;
mod stage;

use datafusion::dataframe::DataFrame;

pub use alter::{Alter, UpdateSchema, UpdateSpec};
pub use append::Append;
pub use create::{CreateTable, IntoTableSchema, TableOptions};
pub(crate) use create_as::{create_as, replace};
pub use filter::IntoFilter;
pub use overwrite::Overwrite;
pub use report::{Phases, WriteReport};
pub use scan::Scan;

use crate::session::Session;
use crate::table::Table;
use stage::Target;

/// Partition and sort terms for [`TableOptions`]: `month("date")`, `bucket("id", 16)`, `asc("x")`.
pub mod partitioning {
    pub use icefield_core::evolve::{
        PartitionTerm, SortTerm, Term, asc, bucket, day, desc, hour, identity, month, truncate, void, year,
    };
}

/// DataFrames into tables.
pub trait DataFrameExt {
    /// Adds the rows to a table, named `namespace.table`. See [`Append`].
    fn append_to(self, session: &Session, table: impl Into<String>) -> Append;

    /// Replaces rows of a table by these: all of them, those of a filter, or those of the partitions that are written. See
    /// [`Overwrite`].
    fn overwrite(self, session: &Session, table: impl Into<String>) -> Overwrite;
}

impl DataFrameExt for DataFrame {
    fn append_to(self, session: &Session, table: impl Into<String>) -> Append {
        Append::new(self, session.clone(), Target::Named(table.into()))
    }

    fn overwrite(self, session: &Session, table: impl Into<String>) -> Overwrite {
        Overwrite::new(self, session.clone(), Target::Named(table.into()))
    }
}

impl Table {
    /// Adds rows to the table. See [`Append`].
    pub fn append(&self, rows: DataFrame) -> Append {
        Append::new(rows, self.session().clone(), Target::Known(self.ident().clone()))
    }

    /// Replaces rows of the table, which are those that this handle shows: what was committed since is a conflict. See
    /// [`Overwrite`].
    pub fn overwrite(&self, rows: DataFrame) -> Overwrite {
        Overwrite::new(rows, self.session().clone(), Target::Known(self.ident().clone())).based_on(self)
    }
}
