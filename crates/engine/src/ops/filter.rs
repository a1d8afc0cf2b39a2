//! [`IntoFilter`]: the rows that an operation is about, as a filter that files can be tested with.

use std::sync::Arc;

use datafusion::common::DFSchema;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::prelude::Expr;
use icefield_core::filter::Filter;
use icefield_core::format::arrow_schema;
use icefield_core::{Error, Result, Table as CoreTable};

use crate::error::from_datafusion;
use crate::rules::{with_exact_times, with_whole_casts};
use crate::scan::exact_filter;
use crate::session::Session;

/// What can say which rows are replaced.
pub trait IntoFilter: Send + Sync + 'static {
    /// The condition, on the columns of a table.
    ///
    /// # Errors
    /// [`InvalidInput`](icefield_core::ErrorKind::InvalidInput) when it is not one that files can be tested with.
    fn to_filter(&self, session: &Session, table: &CoreTable) -> Result<Filter>;
}

impl IntoFilter for Filter {
    fn to_filter(&self, _: &Session, _: &CoreTable) -> Result<Filter> {
        Ok(self.clone())
    }
}

/// A DataFusion expression: `col("city").eq(lit("Boston"))`.
impl IntoFilter for Expr {
    fn to_filter(&self, session: &Session, table: &CoreTable) -> Result<Filter> {
        let arrow = arrow_schema(table.schema())?;
        let columns = DFSchema::try_from(arrow.as_ref().clone()).map_err(from_datafusion)?.into();
        let context = SimplifyContext::builder()
            .with_schema(Arc::clone(&columns))
            .with_config_options(Arc::clone(session.context().state().config_options()))
            .build();
        let simplifier = ExprSimplifier::new(context);
        let typed = with_exact_times(self.clone(), &columns)
            .and_then(|expr| simplifier.coerce(expr, &columns))
            .and_then(|expr| simplifier.simplify(with_whole_casts(expr, &columns)?));
        exact_filter(&typed.map_err(from_datafusion)?, table.schema()).ok_or_else(|| {
            let message =
                "the condition is not one that whole files can be tested with; compare columns with values";
            Error::invalid_input(message).with("condition", self)
        })
    }
}
