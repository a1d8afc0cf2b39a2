//! Subqueries that DataFusion would answer wrongly, and that nothing here mends: they are refused.
//!
//! DataFusion joins for a subquery that depends on the row, with the conditions on the row taken out of the subquery. That is
//! another query where something between counts, limits or looks at rows that these conditions would have left out.

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, DataFusionError, JoinType, Result};
use datafusion::logical_expr::expr::{Exists, InSubquery, SetComparison};
use datafusion::logical_expr::logical_plan::{FetchType, SkipType};
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, Subquery};
use icefield_core::Error;

use super::plans::{aggregate_of_all, schema_of_inputs};
use crate::error::to_datafusion;

/// Refuses subqueries that depend on the row in a way that is not kept.
pub(super) fn lost_dependences(node: &LogicalPlan) -> Result<()> {
    let schema = schema_of_inputs(node)?;
    each(node, |expr| match expr {
        Expr::Exists(Exists { subquery, .. }) => dependence(subquery, &schema, true),
        Expr::InSubquery(InSubquery { expr, subquery, .. })
        | Expr::SetComparison(SetComparison { expr, subquery, .. }) => {
            // It becomes a condition of the subquery, from where the column is two queries out.
            if expr.contains_outer() {
                return Err(refusal("a column of a query further out"));
            }
            dependence(subquery, &schema, false)
        }
        _ => Ok(()),
    })
}

/// Refuses what may be unknown where it does not stand in a filter: DataFusion does not run it there, or, where it makes a
/// filter of it, takes unknown for false.
pub(super) fn outside_of_filters(node: &LogicalPlan) -> Result<()> {
    let schema = schema_of_inputs(node)?;
    each(node, |expr| {
        let may_be_unknown = match expr {
            Expr::SetComparison(_) => true,
            Expr::InSubquery(of) => {
                let value = of.subquery.subquery.schema().fields().first();
                value.is_none_or(|value| value.is_nullable()) || of.expr.nullable(&schema)?
            }
            _ => false,
        };
        if !may_be_unknown {
            return Ok(());
        }
        let message = "IN, ANY and ALL of a subquery are for WHERE, HAVING and the conditions of inner joins; filter by it, or \
                       join the subquery";
        Err(to_datafusion(Error::unsupported(message).with("expression", expr)))
    })
}

fn each(node: &LogicalPlan, mut check: impl FnMut(&Expr) -> Result<()>) -> Result<()> {
    node.apply_expressions(|expr| {
        expr.apply(|expr| {
            check(expr)?;
            Ok(TreeNodeRecursion::Continue)
        })
    })?;
    Ok(())
}

fn refusal(what: &str) -> DataFusionError {
    let message = format!(
        "a subquery of IN, EXISTS, ANY or ALL that depends on the row can't have {what}; join instead, or make the subquery \
         independent of the row"
    );
    to_datafusion(Error::unsupported(message))
}

fn dependence(subquery: &Subquery, schema: &DFSchema, exists: bool) -> Result<()> {
    let refuse = |what: &str| Err(refusal(what));
    let depends = |plan: &LogicalPlan| !plan.all_out_ref_exprs().is_empty();
    for outer in subquery.subquery.all_out_ref_exprs() {
        if let Expr::OuterReferenceColumn(_, column) = outer
            && !schema.has_column(&column)
        {
            return refuse(&format!("a column of a query further out ({column})"));
        }
    }
    // The one row of an aggregate is compared with as a value, which DataFusion knows to keep.
    let one_row = if exists { None } else { aggregate_of_all(&subquery.subquery) };
    let plan = one_row.map_or(subquery.subquery.as_ref(), |aggregate| &aggregate.input);
    plan.apply(|plan| {
        match plan {
            LogicalPlan::Limit(limit) if depends(&limit.input) => {
                let at_least_one = matches!(limit.get_skip_type(), Ok(SkipType::Literal(0)))
                    && matches!(limit.get_fetch_type(), Ok(FetchType::Literal(Some(1..) | None)));
                if !exists || !at_least_one {
                    refuse("LIMIT or OFFSET")?;
                }
            }
            LogicalPlan::Aggregate(of) if of.group_expr.is_empty() && depends(&of.input) => {
                refuse("an aggregate without GROUP BY, unless its value is what is compared with")?;
            }
            LogicalPlan::Sort(of) if depends(&of.input) => refuse("ORDER BY")?,
            LogicalPlan::Union(of) if of.inputs.iter().any(|input| depends(input)) => refuse("UNION")?,
            LogicalPlan::Window(of) if depends(&of.input) => refuse("a window function")?,
            LogicalPlan::Join(join)
                if join.join_type != JoinType::Inner && (depends(&join.left) || depends(&join.right)) =>
            {
                refuse("INTERSECT, EXCEPT or an outer join over what depends on the row")?;
            }
            _ => {}
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(())
}
