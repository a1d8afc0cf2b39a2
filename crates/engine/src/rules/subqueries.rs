//! `IN`, `ANY` and `ALL` of subqueries, where NULL makes them unknown.
//!
//! DataFusion joins for them. For `NOT IN` it has a join that knows of NULL, but lets filters that it makes of the one side's
//! keys take rows, NULL among them, from the other; below OR and NOT its joins know true and false alone; for ANY and ALL it
//! takes columns of the two sides that have the same name for one. Here they are made of EXISTS, which is never unknown, over a
//! column that has a name of its own. What is compared with one row's value is compared with that.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, ExprSchema, JoinType, Result, ScalarValue};
use datafusion::config::ConfigOptions;
use datafusion::functions_aggregate::expr_fn::count;
use datafusion::logical_expr::expr::{InSubquery, SetComparison, SetQuantifier};
use datafusion::logical_expr::logical_plan::Filter;
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{
    BinaryExpr, Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, Operator, Subquery, binary_expr,
    exists, lit, not_exists, scalar_subquery, when,
};
use datafusion::optimizer::AnalyzerRule;

use super::plans::{aggregate_of_all, schema_of_inputs};
use super::refused;

/// What a subquery's column is called where it is compared: it may be of the same table as what it is compared with.
const MEMBER: &str = "__icefield_member";

/// Rewrites memberships in subqueries that may be unknown and where that is not the same as false.
#[derive(Debug)]
pub(super) struct UnknownIsUnknown;

impl AnalyzerRule for UnknownIsUnknown {
    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        plan.transform_up_with_subqueries(|plan| {
            let plan = filter_over_join(plan)?;
            refused::lost_dependences(&plan.data)?;
            plan.transform_data(|plan| {
                let LogicalPlan::Filter(Filter { predicate, input, .. }) = &plan else {
                    refused::outside_of_filters(&plan)?;
                    return Ok(Transformed::no(plan));
                };
                let schema = schema_of_inputs(&plan)?;
                Ok(match rewritten(predicate, &schema, false)? {
                    Some(predicate) => {
                        Transformed::yes(LogicalPlan::Filter(Filter::try_new(predicate, input.clone())?))
                    }
                    None => Transformed::no(plan),
                })
            })
        })
        .data()
    }

    fn name(&self) -> &str {
        "unknown_memberships"
    }
}

/// Takes subqueries out of the condition of an inner join, into a filter over it.
fn filter_over_join(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    let LogicalPlan::Join(mut join) = plan else { return Ok(Transformed::no(plan)) };
    let condition = join.filter.take_if(|_| join.join_type == JoinType::Inner);
    let (subqueries, others): (Vec<_>, Vec<_>) =
        condition.map(split_conjunction_owned).unwrap_or_default().into_iter().partition(has_subquery);
    join.filter = join.filter.or(conjunction(others));
    Ok(match conjunction(subqueries) {
        Some(predicate) => {
            let join = Arc::new(LogicalPlan::Join(join));
            Transformed::yes(LogicalPlan::Filter(Filter::try_new(predicate, join)?))
        }
        None => Transformed::no(LogicalPlan::Join(join)),
    })
}

fn has_subquery(expr: &Expr) -> bool {
    let found = expr
        .exists(|expr| Ok(matches!(expr, Expr::InSubquery(_) | Expr::SetComparison(_) | Expr::Exists(_))));
    found.unwrap_or(false)
}

/// A condition of which only what is true counts; `None` where nothing needs to change. `inside`: whether it is part of
/// another one.
fn rewritten(condition: &Expr, schema: &DFSchema, inside: bool) -> Result<Option<Expr>> {
    match condition {
        Expr::BinaryExpr(BinaryExpr { left, op: op @ (Operator::And | Operator::Or), right }) => {
            let inside = inside || *op == Operator::Or;
            let (new_left, new_right) = (rewritten(left, schema, inside)?, rewritten(right, schema, inside)?);
            if new_left.is_none() && new_right.is_none() {
                return Ok(None);
            }
            let side = |new: Option<Expr>, old: &Expr| Box::new(new.unwrap_or_else(|| old.clone()));
            let (left, right) = (side(new_left, left), side(new_right, right));
            Ok(Some(Expr::BinaryExpr(BinaryExpr { left, op: *op, right })))
        }
        Expr::InSubquery(of) => there(of, schema, inside),
        Expr::Not(inner) => match inner.as_ref() {
            Expr::InSubquery(of) => there(&negated(of), schema, inside),
            Expr::SetComparison(of) => match as_membership(of) {
                Some(of) => {
                    there(&negated(&of), schema, inside).map(|new| new.or(Some(in_query(negated(&of)))))
                }
                None => anywhere(condition, schema),
            },
            _ => anywhere(condition, schema),
        },
        Expr::SetComparison(of) => match as_membership(of) {
            Some(of) => there(&of, schema, inside).map(|new| new.or(Some(in_query(of)))),
            None => anywhere(condition, schema),
        },
        _ => anywhere(condition, schema),
    }
}

fn negated(of: &InSubquery) -> InSubquery {
    InSubquery { negated: !of.negated, ..of.clone() }
}

fn in_query(of: InSubquery) -> Expr {
    Expr::InSubquery(of)
}

/// `= ANY` is `IN`, `<> ALL` is `NOT IN`.
fn as_membership(of: &SetComparison) -> Option<InSubquery> {
    let negated = match (of.op, &of.quantifier) {
        (Operator::Eq, SetQuantifier::Any) => false,
        (Operator::NotEq, SetQuantifier::All) => true,
        _ => return None,
    };
    Some(InSubquery { expr: of.expr.clone(), subquery: of.subquery.clone(), negated })
}

/// A membership where only what is true counts.
fn there(of: &InSubquery, schema: &DFSchema, inside: bool) -> Result<Option<Expr>> {
    if let Some(value) = one_value(&of.subquery) {
        return Ok(Some(compared(of, value)));
    }
    let Some(parts) = Parts::new(&of.expr, &of.subquery, schema)? else { return Ok(None) };
    match (of.negated, inside) {
        (true, _) => parts.absent().map(Some),
        (false, true) => Ok(Some(exists(parts.rows(parts.compared(Operator::Eq))?))),
        (false, false) => Ok(None),
    }
}

/// The value of a subquery that always has one row.
fn one_value(subquery: &Subquery) -> Option<Expr> {
    aggregate_of_all(&subquery.subquery).map(|_| scalar_subquery(subquery.subquery.clone()))
}

fn compared(of: &InSubquery, value: Expr) -> Expr {
    let is = of.expr.as_ref().clone();
    if of.negated { is.not_eq(value) } else { is.eq(value) }
}

/// Rewrites memberships and comparisons wherever they are, to true, false or unknown.
fn anywhere(condition: &Expr, schema: &DFSchema) -> Result<Option<Expr>> {
    let rewritten = condition.clone().transform_down(|expr| {
        let new = match &expr {
            Expr::InSubquery(of) => membership(of, schema)?,
            Expr::SetComparison(of) => match as_membership(of) {
                Some(of) => Some(membership(&of, schema)?.unwrap_or_else(|| in_query(of))),
                None => comparison(of, schema)?,
            },
            _ => None,
        };
        Ok(match new {
            // What it is made of has no memberships of this query any more.
            Some(new) => Transformed::new(new, true, TreeNodeRecursion::Jump),
            None => Transformed::no(expr),
        })
    })?;
    Ok(rewritten.transformed.then_some(rewritten.data))
}

/// The parts of a comparison with a subquery: that and its one column, what is compared, and the same as the subquery sees it.
struct Parts<'a> {
    subquery: &'a Subquery,
    column: Column,
    expr: &'a Expr,
    outer: Expr,
}

impl<'a> Parts<'a> {
    /// `None` where neither side may be NULL, so that nothing is unknown.
    fn new(expr: &'a Expr, subquery: &'a Subquery, schema: &DFSchema) -> Result<Option<Self>> {
        let (_, field) = subquery.subquery.schema().qualified_field(0);
        let may_be_unknown = field.is_nullable() || expr.nullable(schema)?;
        may_be_unknown.then(|| Self::of(expr, subquery, schema)).transpose()
    }

    fn of(expr: &'a Expr, subquery: &'a Subquery, schema: &DFSchema) -> Result<Self> {
        let (qualifier, field) = subquery.subquery.schema().qualified_field(0);
        let outer = expr.clone().transform(|expr| {
            Ok(match expr {
                Expr::Column(column) => {
                    let field = Arc::clone(schema.field_from_column(&column)?);
                    Transformed::yes(Expr::OuterReferenceColumn(field, column))
                }
                other => Transformed::no(other),
            })
        })?;
        let column = Column::new(qualifier.cloned(), field.name());
        Ok(Self { subquery, column, expr, outer: outer.data })
    }

    /// The rows of the subquery for which a condition on [`Parts::value`] holds.
    fn rows(&self, condition: Expr) -> Result<Arc<LogicalPlan>> {
        let subquery = self.subquery.subquery.as_ref().clone();
        let member = Expr::Column(self.column.clone()).alias(MEMBER);
        let members = LogicalPlanBuilder::from(subquery).project(vec![member])?;
        Ok(Arc::new(members.filter(condition)?.build()?))
    }

    fn value(&self) -> Expr {
        Expr::Column(Column::from_name(MEMBER))
    }

    fn compared(&self, op: Operator) -> Expr {
        binary_expr(self.outer.clone(), op, self.value())
    }

    /// 0 when the subquery has no row, 1 when none of its values is NULL, else 2. Nothing where it depends on the row.
    fn state(&self) -> Result<Option<Expr>> {
        if !self.subquery.outer_ref_columns.is_empty() {
            return Ok(None);
        }
        let (all, values) = (count(lit(1)), count(Expr::Column(self.column.clone())));
        let counted = LogicalPlanBuilder::from(self.subquery.subquery.as_ref().clone())
            .aggregate(Vec::<Expr>::new(), vec![all.alias("all_rows"), values.alias("all_values")])?;
        let (all, values) = (Column::from_name("all_rows"), Column::from_name("all_values"));
        let state = when(Expr::Column(all.clone()).eq(lit(0_i64)), lit(0_i64))
            .when(Expr::Column(all).eq(Expr::Column(values)), lit(1_i64))
            .otherwise(lit(2_i64))?;
        let plan = counted.project(vec![state.alias("state")])?.build()?;
        Ok(Some(scalar_subquery(Arc::new(plan))))
    }

    /// `NOT IN` where only what is true counts.
    fn absent(&self) -> Result<Expr> {
        let equal = self.compared(Operator::Eq);
        let Some(state) = self.state()? else {
            let unknown = equal.or(self.value().is_null()).or(self.outer.clone().is_null());
            return Ok(not_exists(self.rows(unknown)?));
        };
        let known = state.clone().eq(lit(1_i64)).and(self.expr.clone().is_not_null());
        let empty_or_known = state.eq(lit(0_i64)).or(known);
        Ok(not_exists(self.rows(equal)?).and(empty_or_known))
    }

    /// Whether the comparison with some value is unknown.
    fn is_unknown(&self) -> Result<Expr> {
        Ok(match self.state()? {
            Some(state) => {
                let has_null = state.clone().eq(lit(2_i64));
                has_null.or(state.not_eq(lit(0_i64)).and(self.expr.clone().is_null()))
            }
            None => exists(self.rows(self.value().is_null().or(self.outer.clone().is_null()))?),
        })
    }
}

fn unknown() -> Result<Expr> {
    Ok(lit(ScalarValue::try_from(&DataType::Boolean)?))
}

/// `IN` or `NOT IN`, true, false or unknown.
fn membership(of: &InSubquery, schema: &DFSchema) -> Result<Option<Expr>> {
    if let Some(value) = one_value(&of.subquery) {
        return Ok(Some(compared(of, value)));
    }
    let Some(parts) = Parts::new(&of.expr, &of.subquery, schema)? else { return Ok(None) };
    let found = exists(parts.rows(parts.compared(Operator::Eq))?);
    let is_in = when(found, lit(true)).when(parts.is_unknown()?, unknown()?).otherwise(lit(false))?;
    Ok(Some(if of.negated { Expr::Not(Box::new(is_in)) } else { is_in }))
}

/// A comparison with any or all values of a subquery, true, false or unknown.
fn comparison(of: &SetComparison, schema: &DFSchema) -> Result<Option<Expr>> {
    if let Some(value) = one_value(&of.subquery) {
        return Ok(Some(binary_expr(of.expr.as_ref().clone(), of.op, value)));
    }
    let parts = Parts::of(&of.expr, &of.subquery, schema)?;
    let (decided, decides) = match of.quantifier {
        SetQuantifier::Any => (parts.compared(of.op), true),
        SetQuantifier::All => (Expr::Not(Box::new(parts.compared(of.op))), false),
    };
    let found = exists(parts.rows(decided)?);
    let outcome = when(found, lit(decides)).when(parts.is_unknown()?, unknown()?).otherwise(lit(!decides))?;
    Ok(Some(outcome))
}
