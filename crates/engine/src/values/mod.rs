//! [`BoundedValues`]: no function makes more of a batch than there is memory for.
//!
//! The memory pool counts what operators hold. A function makes its values before any operator has them, and some make gigabytes of
//! a few bytes: `repeat('x', 2000000000)`. So calls of these are put behind [`Bounded`], which knows beforehand how large the
//! values can be at most, and makes those of many rows a piece at a time. One row's values that pass the bound are an error
//! before there are any. Together the calls of a plan may make as much as the pool has, for each batch.

mod bounded;
mod size;

use std::fmt;
use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::config::ConfigOptions;
use datafusion::execution::memory_pool::{MemoryLimit, MemoryPool};
use datafusion::logical_expr::expr::{BinaryExpr, ScalarFunction};
use datafusion::logical_expr::{ColumnarValue, Expr, ExprSchemable, LogicalPlan, Operator, ScalarUDF};
use datafusion::optimizer::AnalyzerRule;

use crate::rules::each_expression;
use bounded::{Bounded, Joined};
use size::Size;

/// The part of the pool that one call may take at most.
const SHARE: usize = 4;
/// The least that it may, in bytes: values of a pool that small.
const LEAST: usize = 64 << 10;
/// How large a constant may be that a call of constants becomes while it is planned. What is larger is made anew for each batch,
/// whose rows are known then.
const FOLDED: usize = 64;
const FOLDED_OF_OWN: usize = 64 << 10;

/// The name of the rule, by which it is replaced.
pub(crate) const RULE: &str = "bound_values";

/// The rule that bounds the values which functions make.
pub(crate) struct BoundedValues {
    pool: Arc<dyn MemoryPool>,
    /// True if others than the service's own code write the statements: then sums are bounded too, which need many arguments, or
    /// many steps, to become large.
    of_others: bool,
}

impl fmt::Debug for BoundedValues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BoundedValues").field("of_others", &self.of_others).finish_non_exhaustive()
    }
}

impl BoundedValues {
    /// For the statements of a session.
    pub(crate) fn of_session(pool: Arc<dyn MemoryPool>) -> Self {
        Self { pool, of_others: false }
    }

    /// For statements with a limit of their own.
    pub(crate) fn of_query(pool: Arc<dyn MemoryPool>) -> Self {
        Self { pool, of_others: true }
    }

    fn size(&self, expr: &Expr) -> Option<Size> {
        match expr {
            Expr::ScalarFunction(call) => Size::of_function(call.func.name()),
            Expr::BinaryExpr(BinaryExpr { op: Operator::StringConcat, .. }) => Some(Size::Sum),
            _ => None,
        }
        .filter(|size| self.of_others || !size.is_sum())
    }

    /// The bytes that one of so many calls may make of a batch.
    fn room(&self, calls: usize) -> usize {
        match self.pool.memory_limit() {
            MemoryLimit::Finite(limit) => (limit / calls.max(SHARE)).max(LEAST),
            _ => usize::MAX,
        }
    }

    fn bounded(&self, expr: Expr, schema: &DFSchema, room: usize) -> Result<Transformed<Expr>> {
        let Some(size) = self.size(&expr) else { return Ok(Transformed::no(expr)) };
        let (func, args) = match expr {
            Expr::ScalarFunction(ScalarFunction { func, args }) => {
                // A plan may be looked at again, with more around it.
                let inner = func.inner().downcast_ref::<Bounded>().map(|bounded| bounded.inner().clone());
                (inner.unwrap_or(func), args)
            }
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
                let types = (left.get_type(schema), right.get_type(schema));
                let (Ok(of_left), Ok(of_right)) = types else {
                    return Ok(Transformed::no(Expr::BinaryExpr(BinaryExpr { left, op, right })));
                };
                if !Joined::takes(&of_left, &of_right) {
                    return Ok(Transformed::no(Expr::BinaryExpr(BinaryExpr { left, op, right })));
                }
                (Arc::new(ScalarUDF::new_from_impl(Joined::new())), vec![*left, *right])
            }
            expr => return Ok(Transformed::no(expr)),
        };
        let folds = !is_constant(&args) || self.is_small(size, &args);
        let bounded = Bounded::new(func, size, room, folds, self.pool.clone());
        Ok(Transformed::yes(ScalarUDF::new_from_impl(bounded).call(args)))
    }

    /// True if a call of constants becomes one that is small.
    fn is_small(&self, size: Size, args: &[Expr]) -> bool {
        let args: Option<Vec<_>> = args.iter().map(|arg| literal(arg).map(ColumnarValue::Scalar)).collect();
        let most = if self.of_others { FOLDED } else { FOLDED_OF_OWN };
        args.is_some_and(|args| size.of(&args, 1) <= most)
    }
}

fn is_constant(args: &[Expr]) -> bool {
    args.iter().all(|arg| arg.column_refs().is_empty() && !arg.contains_outer())
}

/// The value of a literal, through casts that make its type the function's.
fn literal(expr: &Expr) -> Option<ScalarValue> {
    match expr {
        Expr::Literal(value, _) => Some(value.clone()),
        Expr::Cast(cast) => literal(&cast.expr)?.cast_to(cast.field.data_type()).ok(),
        _ => None,
    }
}

impl AnalyzerRule for BoundedValues {
    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        let mut calls = 0;
        plan.apply_with_subqueries(|node| {
            node.apply_expressions(|expr| {
                expr.apply(|expr| {
                    calls += usize::from(self.size(expr).is_some());
                    Ok(TreeNodeRecursion::Continue)
                })
            })
        })?;
        if calls == 0 {
            return Ok(plan);
        }
        let room = self.room(calls);
        each_expression(plan, &|expr, schema| self.bounded(expr, schema, room))
    }

    fn name(&self) -> &str {
        RULE
    }
}
