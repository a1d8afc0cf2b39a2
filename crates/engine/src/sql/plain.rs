//! `table_at` in a plain DataFusion context over the session's catalog.
//!
//! [`Session::sql`](crate::Session::sql) resolves calls from a statement's tree, where it can wait for the
//! catalog. A plain context asks where nothing can be awaited: there the thread waits, which only a runtime
//! of several threads can spare one for.

use std::sync::{Arc, Weak};

use datafusion::catalog::{TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::{Result, exec_err};
use datafusion::logical_expr::Expr;
use icefield_core::Error;
use tokio::runtime::{Handle, RuntimeFlavor};

use super::functions::Function;
use crate::error::to_datafusion;
use crate::session::{Inner, Session};

/// The name of `table_at`.
pub(crate) const TABLE_AT: &str = "table_at";

/// `table_at('db.t', version)`
pub(crate) struct TableAt {
    session: Weak<Inner>,
}

impl TableAt {
    pub(crate) fn new(session: Weak<Inner>) -> Self {
        Self { session }
    }
}

impl std::fmt::Debug for TableAt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(TABLE_AT)
    }
}

impl TableFunctionImpl for TableAt {
    fn call_with_args(&self, arguments: TableFunctionArgs<'_, '_>) -> Result<Arc<dyn TableProvider>> {
        let Some(session) = self.session.upgrade().map(Session::from_inner) else {
            return exec_err!("the session of this function is closed");
        };
        let values = arguments.exprs().iter().map(|expr| match expr {
            Expr::Literal(value, _) => Ok(value.clone()),
            _ => Err(Error::invalid_input(Function::TableAt.usage()).with("value", expr)),
        });
        let values = values.collect::<icefield_core::Result<Vec<_>>>().map_err(to_datafusion)?;
        let runtime =
            Handle::try_current().ok().filter(|of| of.runtime_flavor() == RuntimeFlavor::MultiThread);
        let Some(runtime) = runtime else {
            let message = "table_at takes a runtime of several threads in a plain context; use Session::sql, or a version in the \
                           table's name: \"db\".\"t@tag\"";
            return Err(to_datafusion(Error::unsupported(message)));
        };
        let called =
            tokio::task::block_in_place(|| runtime.block_on(Function::TableAt.call(&session, &values)));
        called.map(|(_, provider)| provider).map_err(to_datafusion)
    }
}
