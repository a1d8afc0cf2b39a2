//! `INSERT` statements as this library means them: values are converted only where nothing of them is lost, and what the rows
//! were made from is known when they are committed.
//!
//! DataFusion's planner casts the columns of an insert's query, and the values of `VALUES`, to the types of the table: `1.7`
//! becomes 1, a time of day goes. Before anything is optimized, the rule of this module puts [`exact`] conversions in the
//! place of these casts. Casts that the query itself says stay what they are.

mod exact;

use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::datasource::{DefaultTableSource, provider_as_source};
use datafusion::logical_expr::dml::WriteOp;
use datafusion::logical_expr::{DmlStatement, Expr, LogicalPlan, Projection, Values};
use datafusion::optimizer::AnalyzerRule;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{CastKind, Expr as SqlExpr, SetExpr, Statement as SqlStatement};

use crate::looks::Looks;
use crate::scan::IcebergTable;

/// The rule, for the front of the analyzer.
#[derive(Debug)]
pub(crate) struct ExactInserts;

impl AnalyzerRule for ExactInserts {
    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        plan.transform_down(|node| match node {
            LogicalPlan::Dml(insert) if matches!(insert.op, WriteOp::Insert(_)) => {
                let Some(table) = target(&insert) else {
                    return Ok(Transformed::no(LogicalPlan::Dml(insert)));
                };
                let looks = Looks::of(&insert.input)?;
                let input = exact_input(insert.input.as_ref().clone())?;
                let target = provider_as_source(Arc::new(table.made_from(looks)) as Arc<dyn TableProvider>);
                let insert = DmlStatement::new(insert.table_name, target, insert.op, Arc::new(input));
                Ok(Transformed::new(LogicalPlan::Dml(insert), true, TreeNodeRecursion::Jump))
            }
            other => Ok(Transformed::no(other)),
        })
        .map(|plan| plan.data)
    }

    fn name(&self) -> &str {
        "exact_inserts"
    }
}

fn target(insert: &DmlStatement) -> Option<&IcebergTable> {
    insert.target.downcast_ref::<DefaultTableSource>()?.table_provider.downcast_ref::<IcebergTable>()
}

/// The planner's casts are those of columns in the topmost projection, and those of `VALUES`, wherever they stand.
fn exact_input(input: LogicalPlan) -> Result<LogicalPlan> {
    let input = input.transform_up_with_subqueries(|node| match node {
        LogicalPlan::Values(values) => {
            let schema = values.schema;
            let row = |row: Vec<Expr>| -> Result<Vec<Expr>> {
                let columns = schema.fields().iter().map(|field| field.name().as_str());
                row.into_iter()
                    .zip(columns)
                    .map(|(value, column)| exact_cast(value, column, &|_| true))
                    .collect()
            };
            let rows = values.values.into_iter().map(row).collect::<Result<_>>()?;
            Ok(Transformed::yes(LogicalPlan::Values(Values { schema: schema.clone(), values: rows })))
        }
        other => Ok(Transformed::no(other)),
    })?;
    let LogicalPlan::Projection(projection) = input.data else { return Ok(input.data) };
    let exprs = projection.expr.into_iter().map(|expr| match expr {
        Expr::Alias(mut alias) => {
            let column = alias.name.clone();
            *alias.expr = exact_cast(*alias.expr, &column, &|inner| matches!(inner, Expr::Column(_)))?;
            Ok(Expr::Alias(alias))
        }
        other => Ok(other),
    });
    Ok(LogicalPlan::Projection(Projection::try_new(exprs.collect::<Result<_>>()?, projection.input)?))
}

/// An exact conversion in the place of a cast of what `is_planners` says.
fn exact_cast(expr: Expr, column: &str, is_planners: &dyn Fn(&Expr) -> bool) -> Result<Expr> {
    match expr {
        Expr::Cast(cast) if is_planners(&cast.expr) => Ok(exact::exactly(*cast.expr, &cast.field, column)),
        other => Ok(other),
    }
}

/// Says the casts that stand in an insert's `VALUES` twice, so that the inner ones are told from those that the planner adds.
pub(crate) fn keep_own_casts(statement: &mut Statement) {
    let insert = match statement {
        Statement::Statement(statement) => statement,
        Statement::Explain(explain) => return keep_own_casts(&mut explain.statement),
        _ => return,
    };
    let SqlStatement::Insert(insert) = &mut **insert else { return };
    let Some(SetExpr::Values(values)) = insert.source.as_mut().map(|query| query.body.as_mut()) else {
        return;
    };
    for value in values.rows.iter_mut().flat_map(|row| row.content.iter_mut()) {
        if let SqlExpr::Cast {
            kind: CastKind::Cast | CastKind::DoubleColon, data_type, array, format, ..
        } = value
        {
            let (data_type, array, format) = (data_type.clone(), *array, format.clone());
            let own = std::mem::replace(value, SqlExpr::value(datafusion::sql::sqlparser::ast::Value::Null));
            *value = SqlExpr::Cast { kind: CastKind::Cast, expr: Box::new(own), data_type, array, format };
        }
    }
}
