//! Append: rows are added.

use std::fmt;
use std::future::IntoFuture;

use datafusion::dataframe::DataFrame;
use futures::future::BoxFuture;
use icefield_core::Result;

use super::report::WriteReport;
use super::stage::{Spec, Target, run, write_methods};
use crate::session::Session;

/// Adds a DataFrame's rows to a table. Appends never conflict with each other. One that evolves the schema while another does is
/// written again, with the columns that there are then; only where that happens twenty times in a row is it a
/// [`Conflict`](icefield_core::ErrorKind::Conflict).
///
/// # Errors
/// - [`NotFound`](icefield_core::ErrorKind::NotFound): no such table, and [`create_with`](Self::create_with) was not said;
/// - [`InvalidInput`](icefield_core::ErrorKind::InvalidInput): a column does not fit; the message names it and the remedy;
/// - [`CommitStateUnknown`](icefield_core::ErrorKind::CommitStateUnknown): the catalog's answer was lost; append again with
///   the same idempotency key.
///
/// After any but the last, the table is what it was: absent, if the write was to create it.
///
/// # Cancel safety
/// Dropped, the append is done or not done, and leaves at most unreachable files.
#[must_use = "nothing happens before .await"]
pub struct Append {
    spec: Spec,
    fast: bool,
}

impl Append {
    pub(super) fn new(frame: DataFrame, session: Session, table: Target) -> Self {
        Self { spec: Spec::new(frame, session, table), fast: false }
    }

    /// Merges no manifests on the way: the cheapest commit, for many small ones.
    pub fn fast(mut self) -> Self {
        self.fast = true;
        self
    }
}

write_methods!(Append);

impl fmt::Debug for Append {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Append").field("table", &self.spec.target).finish_non_exhaustive()
    }
}

impl IntoFuture for Append {
    type Output = Result<WriteReport>;
    type IntoFuture = BoxFuture<'static, Result<WriteReport>>;

    fn into_future(self) -> Self::IntoFuture {
        let Self { spec, fast } = self;
        let keyed = spec.key.is_some();
        Box::pin(async move {
            run(spec, &move |transaction, table, written| {
                // An empty batch leaves its key, so that it stays the batch that was applied.
                if written.files.is_empty() && !keyed {
                    return Ok(table.is_new().then_some(transaction));
                }
                let files = written.files.clone();
                Ok(Some(if fast { transaction.fast_append(files) } else { transaction.append(files) }))
            })
            .await
        })
    }
}
