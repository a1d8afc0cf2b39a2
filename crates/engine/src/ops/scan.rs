//! Reading a table in one expression: which rows and columns, as of when.

use std::future::IntoFuture;

use datafusion::dataframe::DataFrame;
use datafusion::logical_expr::Expr;
use futures::FutureExt;
use futures::future::BoxFuture;
use icefield_core::{AsOf, Result};

use crate::as_of::IntoAsOf;
use crate::error::from_datafusion;
use crate::metadata_tables::MetadataTable;
use crate::table::Table;

/// A read of a table, which awaits to a DataFrame. Nothing is read before that runs; files that the filters exclude, and
/// columns that are not selected, are not read at all.
#[must_use = "nothing happens before .await"]
#[derive(Debug)]
pub struct Scan {
    table: Table,
    as_of: Option<Result<AsOf>>,
    columns: Option<Vec<String>>,
    filters: Vec<Expr>,
}

impl Scan {
    /// The columns, in this order (default: all).
    pub fn select<C: Into<String>>(mut self, columns: impl IntoIterator<Item = C>) -> Self {
        self.columns = Some(columns.into_iter().map(Into::into).collect());
        self
    }

    /// The rows for which this is true, beside what other filters ask. It may be of columns that are not selected.
    pub fn filter(mut self, filter: Expr) -> Self {
        self.filters.push(filter);
        self
    }

    /// A snapshot, a time, a branch or a tag (default: what the table reads).
    pub fn at(mut self, as_of: impl IntoAsOf) -> Self {
        self.as_of = Some(as_of.into_as_of(self.table.core()));
        self
    }

    async fn plan(self) -> Result<DataFrame> {
        let table = match self.as_of {
            Some(as_of) => self.table.as_of(as_of?)?,
            None => self.table,
        };
        let mut frame = table.dataframe().await?;
        for filter in self.filters {
            frame = frame.filter(filter).map_err(from_datafusion)?;
        }
        let Some(columns) = self.columns else { return Ok(frame) };
        let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
        frame.select_columns(&columns).map_err(from_datafusion)
    }
}

impl IntoFuture for Scan {
    type Output = Result<DataFrame>;
    type IntoFuture = BoxFuture<'static, Result<DataFrame>>;

    fn into_future(self) -> Self::IntoFuture {
        self.plan().boxed()
    }
}

impl Table {
    /// Reads some of the table: columns, rows, a version.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> icefield_core::Result<()> {
    /// use datafusion::prelude::{col, lit};
    /// use icefield_engine::ops::DataFrameExt;
    /// use icefield_engine::Session;
    ///
    /// let session = Session::builder().build()?;
    /// let rates = session.sql("SELECT 1 AS id, 80 AS price UNION ALL SELECT 2, 120").await?;
    /// let first = rates.append_to(&session, "shop.rates").create_with(|table| table).await?;
    /// let then = first.snapshot_id.unwrap_or_default();
    ///
    /// let dear = first.table.scan().select(["id"]).filter(col("price").gt(lit(100))).at(then).await?;
    /// assert_eq!(dear.count().await?, 1);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Awaiting it: [`InvalidInput`](icefield_core::ErrorKind::InvalidInput) for a column that the table does not have;
    /// [`NotFound`](icefield_core::ErrorKind::NotFound) for a version that it does not have.
    pub fn scan(&self) -> Scan {
        Scan { table: self.clone(), as_of: None, columns: None, filters: Vec::new() }
    }

    /// The data and delete files of the snapshot that the table reads, a row each, with their partitions and statistics:
    /// [`MetadataTable::Files`].
    ///
    /// # Errors
    /// As [`metadata_table`](Self::metadata_table).
    pub fn files(&self) -> Result<DataFrame> {
        self.metadata_table(MetadataTable::Files)
    }
}
