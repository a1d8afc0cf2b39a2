//! Overwrite: rows are replaced, whole files at a time.

use std::fmt;
use std::future::IntoFuture;
use std::sync::Arc;

use datafusion::dataframe::DataFrame;
use futures::future::BoxFuture;
use iceberg::spec::Struct;
use icefield_core::Result;
use icefield_core::commit::{DeleteBy, Overwrite as Replace};
use icefield_core::filter::Filter;

use super::filter::IntoFilter;
use super::report::WriteReport;
use super::stage::{Spec, Target, run, write_methods};
use crate::looks::Look;
use crate::session::Session;
use crate::table::Table;
use crate::write::WrittenFiles;

/// Replaces rows of a table by a DataFrame's: all of them, unless [`filter`](Self::filter) or
/// [`dynamic_partitions`](Self::dynamic_partitions) was said. One commit: readers see the rows before or the rows after.
///
/// Rows that were read from the table itself are replaced as they were read: what others committed since the oldest look at the
/// table that the DataFrame holds is a conflict, not lost. A look is a [`Table`] as it was loaded; SQL looks when the statement is
/// planned. Reading an earlier snapshot (`table.as_of("tag")`) to restore it is as fresh a look as the table that it was asked of,
/// and a [table of a metadata file](Session::table_from_metadata_file) is none. For rows in memory say
/// [`based_on`](Self::based_on). Without any look, the overwrite is validated from the moment that it begins.
///
/// # Errors
/// As [`Append`](super::Append), and
/// - [`InvalidInput`](icefield_core::ErrorKind::InvalidInput) naming the file of which only some rows match the filter, or a row
///   among those written that does not;
/// - [`Conflict`](icefield_core::ErrorKind::Conflict) when others changed the replaced rows meanwhile, or, under serializable
///   isolation, added such rows.
///
/// # Cancel safety
/// Dropped, the overwrite is done or not done, and leaves at most unreachable files.
#[must_use = "nothing happens before .await"]
pub struct Overwrite {
    spec: Spec,
    replaced: Replaced,
}

enum Replaced {
    Matching(Arc<dyn IntoFilter>),
    Partitions,
}

impl Overwrite {
    pub(super) fn new(frame: DataFrame, session: Session, table: Target) -> Self {
        let spec = Spec { replaces: true, ..Spec::new(frame, session, table) };
        Self { spec, replaced: Replaced::Matching(Arc::new(Filter::True)) }
    }

    /// Replaces the rows that match, by rows that match: others among those written are an error, since the same overwrite again
    /// would not replace them. Files hold rows that match, or rows that do not: one that holds both is an error, so the condition
    /// is best on partition columns.
    pub fn filter(mut self, filter: impl IntoFilter) -> Self {
        let filter: Arc<dyn IntoFilter> = Arc::new(filter);
        self.spec.filter = Some(filter.clone());
        self.replaced = Replaced::Matching(filter);
        self
    }

    /// Says that the rows were made from this table as it was then: the overwrite conflicts with what was committed since.
    ///
    /// A DataFrame over a table tells by itself, through views, joins, subqueries and cached transforms. This is for rows whose
    /// plan no longer names the table: collected and changed in code, or kept by [`DataFrame::cache`].
    pub fn based_on(mut self, table: &Table) -> Self {
        let catalog = table.session().catalog().clone();
        self.spec.made_from.add(Look::new(table.core(), table.snapshot(), Some(catalog)));
        self
    }

    /// Replaces the partitions that have rows among those written; a table without partitions as a whole. Nothing is replaced
    /// when nothing is written.
    pub fn dynamic_partitions(mut self) -> Self {
        self.spec.filter = None;
        self.replaced = Replaced::Partitions;
        self
    }
}

write_methods!(Overwrite);

impl fmt::Debug for Overwrite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Overwrite").field("table", &self.spec.target).finish_non_exhaustive()
    }
}

impl IntoFuture for Overwrite {
    type Output = Result<WriteReport>;
    type IntoFuture = BoxFuture<'static, Result<WriteReport>>;

    fn into_future(self) -> Self::IntoFuture {
        let Self { spec, replaced } = self;
        let keyed = spec.key.is_some();
        let session = spec.session.clone();
        Box::pin(async move {
            run(spec, &move |transaction, table, written| {
                let delete = match &replaced {
                    Replaced::Matching(filter) => DeleteBy::Filter(filter.to_filter(&session, table)?),
                    Replaced::Partitions if written.files.is_empty() && !keyed => {
                        return Ok(table.is_new().then_some(transaction));
                    }
                    Replaced::Partitions => DeleteBy::Partitions(partitions(written)),
                };
                let replace = Replace { delete, add: written.files.clone(), reads: None };
                Ok(Some(transaction.overwrite(replace)))
            })
            .await
        })
    }
}

fn partitions(written: &WrittenFiles) -> Vec<(i32, Struct)> {
    let mut partitions: Vec<(i32, Struct)> = Vec::new();
    let mut seen = std::collections::HashSet::new();
    for file in &written.files {
        let partition = (file.spec_id, file.file.partition().clone());
        if seen.insert(partition.clone()) {
            partitions.push(partition);
        }
    }
    partitions
}
