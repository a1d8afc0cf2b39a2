//! `table_at`, the table at a snapshot, also in a plain DataFusion context over the session's catalog.
//!
//! [`Session::sql`](crate::Session::sql) resolves calls from a statement's tree, where it can wait for the
//! catalog. A plain context asks where nothing can be awaited: there the thread waits, which only a runtime
//! of several threads can spare one for.

use std::sync::Arc;

use datafusion::catalog::{TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::Expr;
use icefield_core::catalog::parse_ident;
use icefield_core::{AsOf, Error, Table};
use tokio::runtime::{Handle, RuntimeFlavor};

use super::times::{text, time_of, whole};
use crate::as_of::IntoAsOf;
use crate::error::to_datafusion;
use crate::lookup::Lookup;

/// The name of `table_at`.
pub(crate) const TABLE_AT: &str = "table_at";

/// How it is called.
pub(super) const USAGE: &str = "table_at takes a table, and a snapshot id, branch, tag or time: table_at('namespace.table', 'tag'), as constants";

/// A table at the snapshot that its second argument says.
pub(super) fn at(
    lookup: &Lookup,
    table: &Table,
    version: &ScalarValue,
) -> icefield_core::Result<Arc<dyn TableProvider>> {
    lookup.provider(table, snapshot(table, version)?, None)
}

/// The snapshot that an argument means: a snapshot id, though it be expired, or a branch, a tag or a time.
pub(super) fn snapshot(table: &Table, value: &ScalarValue) -> icefield_core::Result<AsOf> {
    let name = text(value).map(str::to_string).or_else(|| whole(value).map(|number| number.to_string()));
    let Some(name) = name else { return time_of(value) };
    match name.parse() {
        Ok(id) if table.metadata().snapshot_by_id(id).is_some() || table.reference(&name).is_none() => {
            Ok(AsOf::Snapshot(id))
        }
        _ => name.into_as_of(table),
    }
}

/// `table_at('db.t', version)`
pub(crate) struct TableAt {
    lookup: Lookup,
}

impl TableAt {
    pub(crate) fn new(lookup: Lookup) -> Self {
        Self { lookup }
    }

    async fn call(&self, arguments: &[ScalarValue]) -> icefield_core::Result<Arc<dyn TableProvider>> {
        let wrong = || Error::invalid_input(USAGE);
        let [table, version] = arguments else { return Err(wrong()) };
        let ident = parse_ident(text(table).ok_or_else(wrong)?)?;
        let table = self.lookup.catalog().load_table(&ident).await?;
        at(&self.lookup, &table, version)
    }
}

impl std::fmt::Debug for TableAt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(TABLE_AT)
    }
}

impl TableFunctionImpl for TableAt {
    fn call_with_args(&self, arguments: TableFunctionArgs<'_, '_>) -> Result<Arc<dyn TableProvider>> {
        let values = arguments.exprs().iter().map(|expr| match expr {
            Expr::Literal(value, _) => Ok(value.clone()),
            _ => Err(Error::invalid_input(USAGE).with("value", expr)),
        });
        let values = values.collect::<icefield_core::Result<Vec<_>>>().map_err(to_datafusion)?;
        let runtime =
            Handle::try_current().ok().filter(|of| of.runtime_flavor() == RuntimeFlavor::MultiThread);
        let Some(runtime) = runtime else {
            let message = "table_at takes a runtime of several threads in a plain context; use Session::sql, or a version in the \
                           table's name: \"db\".\"t@tag\"";
            return Err(to_datafusion(Error::unsupported(message)));
        };
        tokio::task::block_in_place(|| runtime.block_on(self.call(&values))).map_err(to_datafusion)
    }
}
