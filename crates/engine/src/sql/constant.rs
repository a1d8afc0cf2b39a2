//! Expressions that are read before a statement is planned: versions, arguments of table functions, defaults
//! of columns.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, Result as DfResult, ScalarValue};
use datafusion::execution::SessionState;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::sql::sqlparser::ast::{Expr as SqlExpr, ExprWithAlias};
use icefield_core::{Clock, Error, Result};

/// A value that an expression stands for: the value, or an expression over placeholders that have none yet.
#[derive(Debug, Clone)]
pub(super) enum Constant {
    Value(ScalarValue),
    Open(Expr),
}

/// Reads an expression of a statement. `takes` says what is expected where it stands.
///
/// # Errors
/// [`InvalidInput`](icefield_core::ErrorKind::InvalidInput) for what is no constant.
pub(super) fn constant(
    expr: &SqlExpr,
    state: &SessionState,
    clock: &dyn Clock,
    takes: &str,
) -> Result<Constant> {
    let refused = || Error::invalid_input(takes).with("value", expr);
    let planned = ExprWithAlias { expr: expr.clone(), alias: None };
    let planned = state
        .create_logical_expr_from_sql_expr(planned, &DFSchema::empty())
        .map_err(|e| refused().with_source(e))?;
    if is_open(&planned) {
        return Ok(Constant::Open(planned));
    }
    let value = evaluate(planned, state.config_options(), clock).map_err(|e| refused().with_source(e))?;
    value.map(Constant::Value).ok_or_else(refused)
}

/// True if an expression has placeholders.
pub(super) fn is_open(expr: &Expr) -> bool {
    let mut open = false;
    let visited = expr.apply(|expr| {
        open |= matches!(expr, Expr::Placeholder(_));
        Ok(if open { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    visited.is_err() || open
}

/// The value of an expression without columns, as of now by the clock; none where it has no single one.
pub(super) fn evaluate(
    expr: Expr,
    config: &Arc<ConfigOptions>,
    clock: &dyn Clock,
) -> DfResult<Option<ScalarValue>> {
    let now: Option<DateTime<Utc>> = DateTime::from_timestamp_millis(clock.now_ms());
    let columns = DFSchema::empty();
    let context = SimplifyContext::builder()
        .with_schema(Arc::new(columns.clone()))
        .with_config_options(Arc::clone(config))
        .with_query_execution_start_time(now)
        .build();
    let simplifier = ExprSimplifier::new(context);
    let typed = simplifier.coerce(expr, &columns)?;
    match simplifier.simplify(typed)?.unalias() {
        Expr::Literal(value, _) => Ok(Some(value)),
        _ => Ok(None),
    }
}
