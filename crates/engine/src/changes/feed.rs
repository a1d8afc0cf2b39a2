//! [`Changes`]: which rows were inserted and deleted, snapshot by snapshot.

use std::future::IntoFuture;
use std::sync::Arc;

use datafusion::dataframe::DataFrame;
use datafusion::functions_aggregate::sum::sum_udaf;
use datafusion::functions_window::expr_fn::row_number;
use datafusion::logical_expr::expr::WindowFunction;
use datafusion::logical_expr::{ExprFunctionExt, when};
use datafusion::prelude::{Expr, ident, lit};
use futures::future::BoxFuture;
use iceberg::spec::{Operation, SnapshotRef};
use icefield_core::{Error, Result};

use super::comparable::comparable;
use super::files::{self, ChangedRows};
use super::provider::FileRows;
use crate::error::from_datafusion;
use crate::scan::ChosenRows;
use crate::table::Table;

/// The column that says what was done: `INSERT`, `DELETE`, `UPDATE_BEFORE` or `UPDATE_AFTER`.
pub const CHANGE_TYPE: &str = "_change_type";
/// The column that numbers the snapshots of a feed in the order in which they were committed, from 0.
pub const CHANGE_ORDINAL: &str = "_change_ordinal";
/// The column that says which snapshot it was.
pub const COMMIT_SNAPSHOT_ID: &str = "_commit_snapshot_id";

// Columns of the reckoning, which no table has.
const NUMBER: &str = "_icefield_number";
const BALANCE: &str = "_icefield_balance";
const DELETED: &str = "_icefield_deleted";
const INSERTED: &str = "_icefield_inserted";

/// A feed of changes: the table's columns and [`CHANGE_TYPE`], [`CHANGE_ORDINAL`], [`COMMIT_SNAPSHOT_ID`], as Spark's
/// `create_changelog_view` has them. `.await` gives the DataFrame, whose rows are in no order.
///
/// A row that is live in a snapshot and was not in the one before is an insert, one that was live and is no more a delete,
/// whether its file went or a position delete, a deletion vector or an equality delete came to apply to it (where Iceberg
/// Java's changelog scans refuse delete files). Compactions (`replace`) are passed over. A row that a rewrite of its file
/// carried over is both deleted and inserted by one snapshot: such pairs are left out, unless
/// [`keep_carried_over`](Self::keep_carried_over) was said. Maps are the same that have the same entries in the same order.
///
/// # Errors
/// - [`Expired`](icefield_core::ErrorKind::Expired) for a range whose first snapshot has expired, when the next removed files;
/// - [`InvalidInput`](icefield_core::ErrorKind::InvalidInput) for an identifier column that the table lacks.
///
/// # Cost
/// The manifest lists of the range and the manifests that its snapshots wrote; where these brought delete files or took some
/// away, the manifests of the partitions that these are of. Then, as the rows are read, the files that were added and removed;
/// of files with new position deletes just the rows that these name, with the others of their pages; and whole the files that
/// new equality deletes may apply to. Deleted positions and keys are held in the session's memory. Comparing rows sorts those
/// of snapshots that inserted and deleted some, spilling where the session's memory is short.
#[must_use = "nothing happens before .await"]
#[derive(Debug, Clone)]
pub struct Changes {
    table: Table,
    snapshots: Vec<SnapshotRef>,
    carried_over: bool,
    net: bool,
    identifier: Option<Vec<String>>,
}

impl Changes {
    pub(super) fn new(table: Table, snapshots: Vec<SnapshotRef>) -> Self {
        Self { table, snapshots, carried_over: false, net: false, identifier: None }
    }

    /// Leaves rows in that a snapshot deleted and inserted unchanged: nothing is compared.
    pub fn keep_carried_over(mut self) -> Self {
        self.carried_over = true;
        self
    }

    /// What is left in the end: a row inserted by one snapshot and deleted, unchanged, by another, or the other way about, is
    /// left out.
    pub fn net(mut self) -> Self {
        self.net = true;
        self
    }

    /// Makes the delete and the insert of one row by one snapshot an update: rows are the same that have the same values in
    /// these columns, by default those of the table's identifier. Where several rows of a snapshot have the same values, they
    /// stay deletes and inserts.
    pub fn updates_by(mut self, columns: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.identifier = Some(columns.into_iter().map(Into::into).collect());
        self
    }

    async fn feed(self) -> Result<DataFrame> {
        let mut feed: Option<DataFrame> = None;
        let mut compared: Option<DataFrame> = None;
        let mut ordinal = 0;
        for snapshot in &self.snapshots {
            if snapshot.summary().operation == Operation::Replace {
                continue;
            }
            let ChangedRows { inserted, deleted } =
                files::changed(self.table.core(), self.table.caches(), snapshot).await?;
            let both = !inserted.is_empty() && !deleted.is_empty();
            for (change, rows) in [("DELETE", deleted), ("INSERT", inserted)] {
                if rows.is_empty() {
                    continue;
                }
                let rows = self.rows(rows, change, ordinal, snapshot.snapshot_id())?;
                let into = if self.net || (both && !self.carried_over) { &mut compared } else { &mut feed };
                *into = Some(union(into.take(), rows)?);
            }
            ordinal += 1;
        }
        let compared = compared.map(|rows| self.without_pairs(rows)).transpose()?;
        let all = match (feed, compared) {
            (Some(feed), Some(compared)) => union(Some(feed), compared)?,
            (Some(one), None) | (None, Some(one)) => one,
            (None, None) => self.rows(ChosenRows::default(), "INSERT", 0, 0)?,
        };
        self.with_updates(all)
    }

    fn rows(&self, rows: ChosenRows, change: &str, ordinal: i32, snapshot_id: i64) -> Result<DataFrame> {
        let (table, session) = (&self.table, self.table.session());
        let provider = FileRows::new(table.core(), session.catalog().clone(), table.caches().clone(), rows)?;
        let rows = session.context().read_table(Arc::new(provider)).map_err(from_datafusion)?;
        let mut columns: Vec<Expr> = rows.schema().fields().iter().map(|field| ident(field.name())).collect();
        columns.extend([
            lit(change).alias(CHANGE_TYPE),
            lit(ordinal).alias(CHANGE_ORDINAL),
            lit(snapshot_id).alias(COMMIT_SNAPSHOT_ID),
        ]);
        rows.select(columns).map_err(from_datafusion)
    }

    /// Leaves out, of equal rows, as many deletes as there are inserts, and these: of one snapshot, or of all when only the
    /// net change is asked for.
    fn without_pairs(&self, rows: DataFrame) -> Result<DataFrame> {
        let names = names(&rows);
        let own = rows.schema().fields().iter();
        let own = own.filter(|field| {
            ![CHANGE_TYPE, CHANGE_ORDINAL, COMMIT_SNAPSHOT_ID].contains(&field.name().as_str())
        });
        let mut same: Vec<Expr> =
            own.map(|field| comparable(ident(field.name()), field.data_type())).collect();
        if !self.net {
            same.push(ident(CHANGE_ORDINAL));
        }
        let mut of_a_kind = same.clone();
        of_a_kind.push(ident(CHANGE_TYPE));
        let number = row_number()
            .partition_by(of_a_kind)
            .order_by(vec![ident(CHANGE_ORDINAL).sort(true, false)])
            .build()
            .map_err(from_datafusion)?;
        same.push(ident(NUMBER));
        let balance = sum_over(sign()?, same)?;
        let numbered = rows.window(vec![number.alias(NUMBER)]).map_err(from_datafusion)?;
        let balanced = numbered.window(vec![balance.alias(BALANCE)]).map_err(from_datafusion)?;
        let left = balanced.filter(ident(BALANCE).not_eq(lit(0_i64))).map_err(from_datafusion)?;
        left.select(names.iter().map(ident)).map_err(from_datafusion)
    }

    fn with_updates(&self, rows: DataFrame) -> Result<DataFrame> {
        let Some(asked) = &self.identifier else { return Ok(rows) };
        let schema = self.table.core().schema();
        let mut columns = asked.clone();
        if columns.is_empty() {
            let ids = schema.identifier_field_ids();
            columns = ids.filter_map(|id| schema.name_by_field_id(id).map(str::to_string)).collect();
        }
        let unknown = columns.iter().find(|name| rows.schema().as_arrow().index_of(name).is_err());
        if columns.is_empty() || unknown.is_some() {
            return Err(Error::invalid_input(
                "updates are found by columns that identify a row; name some that the table has, at its top level",
            )
            .with("table", self.table.ident())
            .with("column", unknown.map_or("", String::as_str)));
        }
        let mut same: Vec<Expr> = columns.iter().map(ident).collect();
        same.push(ident(CHANGE_ORDINAL));
        let count = |change: &str, name: &str| -> Result<Expr> {
            let is = when(ident(CHANGE_TYPE).eq(lit(change)), lit(1_i64)).otherwise(lit(0_i64));
            Ok(sum_over(is.map_err(from_datafusion)?, same.clone())?.alias(name))
        };
        let names = names(&rows);
        let counted = rows.window(vec![count("DELETE", DELETED)?, count("INSERT", INSERTED)?]);
        let is_update = ident(DELETED).eq(lit(1_i64)).and(ident(INSERTED).eq(lit(1_i64)));
        let of = |change: &str| is_update.clone().and(ident(CHANGE_TYPE).eq(lit(change)));
        let change = when(of("DELETE"), lit("UPDATE_BEFORE"))
            .when(of("INSERT"), lit("UPDATE_AFTER"))
            .otherwise(ident(CHANGE_TYPE))
            .map_err(from_datafusion)?;
        let columns = names.iter().map(|name| match name.as_str() {
            CHANGE_TYPE => change.clone().alias(CHANGE_TYPE),
            name => ident(name),
        });
        counted.and_then(|counted| counted.select(columns)).map_err(from_datafusion)
    }
}

impl IntoFuture for Changes {
    type Output = Result<DataFrame>;
    type IntoFuture = BoxFuture<'static, Result<DataFrame>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.feed())
    }
}

/// 1 for an insert, -1 for a delete.
fn sign() -> Result<Expr> {
    when(ident(CHANGE_TYPE).eq(lit("INSERT")), lit(1_i64)).otherwise(lit(-1_i64)).map_err(from_datafusion)
}

/// The sum of a value over the rows that are equal in `same`.
fn sum_over(value: Expr, same: Vec<Expr>) -> Result<Expr> {
    let sum = Expr::from(WindowFunction::new(sum_udaf(), vec![value]));
    sum.partition_by(same).build().map_err(from_datafusion)
}

fn names(rows: &DataFrame) -> Vec<String> {
    rows.schema().fields().iter().map(|field| field.name().clone()).collect()
}

fn union(all: Option<DataFrame>, more: DataFrame) -> Result<DataFrame> {
    match all {
        Some(all) => all.union(more).map_err(from_datafusion),
        None => Ok(more),
    }
}
