//! `IN` and `NOT IN` of subqueries, where NULL makes them unknown.
//!
//! DataFusion joins for them. For `NOT IN` it has a join that knows of NULL, but lets filters that it makes of the one side's
//! keys take rows, NULL among them, from the other; below OR and NOT its joins know true and false alone. Here they are made
//! of EXISTS, which is never unknown.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, ExprSchema, Result, ScalarValue, TableReference};
use datafusion::config::ConfigOptions;
use datafusion::functions_aggregate::expr_fn::count;
use datafusion::logical_expr::expr::InSubquery;
use datafusion::logical_expr::logical_plan::Filter;
use datafusion::logical_expr::{
    BinaryExpr, Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, Operator, exists, lit, not_exists,
    scalar_subquery, when,
};
use datafusion::optimizer::AnalyzerRule;

use super::schema_of_inputs;

/// What a subquery's column is called where it is compared: it may be of the same table as what it is compared with.
const MEMBER: &str = "__icefield_member";

/// Rewrites memberships in subqueries that may be unknown and where that is not the same as false.
#[derive(Debug)]
pub(super) struct UnknownIsUnknown;

impl AnalyzerRule for UnknownIsUnknown {
    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        plan.transform_up_with_subqueries(|plan| {
            let LogicalPlan::Filter(Filter { predicate, input, .. }) = &plan else {
                return Ok(Transformed::no(plan));
            };
            if share_a_table(predicate, input)? {
                return Ok(Transformed::no(plan));
            }
            let schema = schema_of_inputs(&plan)?;
            match rewritten(predicate, &schema)? {
                Some(predicate) => {
                    Ok(Transformed::yes(LogicalPlan::Filter(Filter::try_new(predicate, input.clone())?)))
                }
                None => Ok(Transformed::no(plan)),
            }
        })
        .data()
    }

    fn name(&self) -> &str {
        "unknown_memberships"
    }
}

/// Whether a subquery of a condition reads a table that the rows come from, too. DataFusion confuses the two when such a
/// subquery is one of EXISTS.
fn share_a_table(condition: &Expr, input: &LogicalPlan) -> Result<bool> {
    let own = tables(input)?;
    condition.exists(|expr| match expr {
        Expr::InSubquery(of) => Ok(!own.is_disjoint(&tables(&of.subquery.subquery)?)),
        _ => Ok(false),
    })
}

fn tables(plan: &LogicalPlan) -> Result<HashSet<TableReference>> {
    let mut found = HashSet::new();
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            found.insert(scan.table_name.clone());
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(found)
}

/// A condition of which only what is true counts; `None` where nothing needs to change.
fn rewritten(condition: &Expr, schema: &DFSchema) -> Result<Option<Expr>> {
    match condition {
        Expr::BinaryExpr(BinaryExpr { left, op: op @ (Operator::And | Operator::Or), right }) => {
            let (new_left, new_right) = (rewritten(left, schema)?, rewritten(right, schema)?);
            if new_left.is_none() && new_right.is_none() {
                return Ok(None);
            }
            let side = |new: Option<Expr>, old: &Expr| Box::new(new.unwrap_or_else(|| old.clone()));
            let (left, right) = (side(new_left, left), side(new_right, right));
            Ok(Some(Expr::BinaryExpr(BinaryExpr { left, op: *op, right })))
        }
        Expr::InSubquery(InSubquery { negated: false, .. }) => Ok(None),
        Expr::InSubquery(of) => absent(of, schema),
        Expr::Not(inner) => match inner.as_ref() {
            Expr::InSubquery(of) if of.negated => {
                Ok(Some(Expr::InSubquery(InSubquery { negated: false, ..of.clone() })))
            }
            Expr::InSubquery(of) => absent(of, schema),
            _ => anywhere(condition, schema),
        },
        _ => anywhere(condition, schema),
    }
}

/// Rewrites memberships wherever they are, to true, false or unknown.
fn anywhere(condition: &Expr, schema: &DFSchema) -> Result<Option<Expr>> {
    let rewritten = condition.clone().transform_down(|expr| match &expr {
        Expr::InSubquery(of) => match membership(of, schema)? {
            Some(membership) => Ok(Transformed::yes(membership)),
            None => Ok(Transformed::no(expr)),
        },
        _ => Ok(Transformed::no(expr)),
    })?;
    Ok(rewritten.transformed.then_some(rewritten.data))
}

/// The parts of a membership: its subquery and the one column of that, and what is looked for, as the subquery sees it.
struct Parts<'a> {
    of: &'a InSubquery,
    column: Column,
    outer: Expr,
}

impl<'a> Parts<'a> {
    /// `None` where neither side may be NULL, so that nothing is unknown.
    fn new(of: &'a InSubquery, schema: &DFSchema) -> Result<Option<Self>> {
        let inner = of.subquery.subquery.schema();
        let (qualifier, field) = inner.qualified_field(0);
        if !field.is_nullable() && !of.expr.nullable(schema)? {
            return Ok(None);
        }
        let outer = of.expr.as_ref().clone().transform(|expr| {
            Ok(match expr {
                Expr::Column(column) => {
                    let field = Arc::clone(schema.field_from_column(&column)?);
                    Transformed::yes(Expr::OuterReferenceColumn(field, column))
                }
                other => Transformed::no(other),
            })
        })?;
        let column = Column::new(qualifier.cloned(), field.name());
        Ok(Some(Self { of, column, outer: outer.data }))
    }

    /// The rows of the subquery for which a condition on [`Parts::value`] holds.
    fn rows(&self, condition: Expr) -> Result<Arc<LogicalPlan>> {
        let subquery = self.of.subquery.subquery.as_ref().clone();
        let member = Expr::Column(self.column.clone()).alias(MEMBER);
        let members = LogicalPlanBuilder::from(subquery).project(vec![member])?;
        Ok(Arc::new(members.filter(condition)?.build()?))
    }

    fn value(&self) -> Expr {
        Expr::Column(Column::from_name(MEMBER))
    }

    fn equal(&self) -> Expr {
        self.value().eq(self.outer.clone())
    }

    /// 0 when the subquery has no row, 1 when none of its values is NULL, else 2. Nothing where it depends on the row.
    fn state(&self) -> Result<Option<Expr>> {
        let subquery = &self.of.subquery;
        if !subquery.outer_ref_columns.is_empty() {
            return Ok(None);
        }
        let (all, values) = (count(lit(1)), count(Expr::Column(self.column.clone())));
        let counted = LogicalPlanBuilder::from(subquery.subquery.as_ref().clone())
            .aggregate(Vec::<Expr>::new(), vec![all.alias("all_rows"), values.alias("all_values")])?;
        let (all, values) = (Column::from_name("all_rows"), Column::from_name("all_values"));
        let state = when(Expr::Column(all.clone()).eq(lit(0_i64)), lit(0_i64))
            .when(Expr::Column(all).eq(Expr::Column(values)), lit(1_i64))
            .otherwise(lit(2_i64))?;
        let plan = counted.project(vec![state.alias("state")])?.build()?;
        Ok(Some(scalar_subquery(Arc::new(plan))))
    }
}

/// `NOT IN` where only what is true counts.
fn absent(of: &InSubquery, schema: &DFSchema) -> Result<Option<Expr>> {
    let Some(parts) = Parts::new(of, schema)? else { return Ok(None) };
    let Some(state) = parts.state()? else {
        let unknown = parts.equal().or(parts.value().is_null()).or(parts.outer.clone().is_null());
        return Ok(Some(not_exists(parts.rows(unknown)?)));
    };
    let known = state.clone().eq(lit(1_i64)).and(of.expr.as_ref().clone().is_not_null());
    let empty_or_known = state.eq(lit(0_i64)).or(known);
    Ok(Some(not_exists(parts.rows(parts.equal())?).and(empty_or_known)))
}

/// `IN` or `NOT IN`, true, false or unknown.
fn membership(of: &InSubquery, schema: &DFSchema) -> Result<Option<Expr>> {
    let Some(parts) = Parts::new(of, schema)? else { return Ok(None) };
    let found = exists(parts.rows(parts.equal())?);
    let unknown = match parts.state()? {
        Some(state) => {
            let has_null = state.clone().eq(lit(2_i64));
            has_null.or(state.not_eq(lit(0_i64)).and(of.expr.as_ref().clone().is_null()))
        }
        None => exists(parts.rows(parts.value().is_null().or(parts.outer.clone().is_null()))?),
    };
    let is_in = when(found, lit(true))
        .when(unknown, lit(ScalarValue::try_from(&DataType::Boolean)?))
        .otherwise(lit(false))?;
    Ok(Some(if of.negated { Expr::Not(Box::new(is_in)) } else { is_in }))
}
