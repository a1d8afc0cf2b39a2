//! `INSERT` statements as this library means them: values are converted only where nothing of them is lost, and what the rows
//! were made from is known when they are committed.
//!
//! DataFusion's planner casts the columns of an insert's query, and the values of `VALUES`, to the types of the table: `1.7`
//! becomes 1, a time of day goes. Before anything is optimized, the rule of this module puts [`exact`] conversions in the
//! place of these casts. Casts that the query itself says stay what they are.

mod exact;

use std::ops::ControlFlow;
use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, Result, internal_err};
use datafusion::datasource::{DefaultTableSource, provider_as_source};
use datafusion::execution::SessionState;
use datafusion::logical_expr::dml::WriteOp;
use datafusion::logical_expr::{DmlStatement, Expr, ExprSchemable, LogicalPlan, Projection, Values};
use datafusion::optimizer::AnalyzerRule;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{
    CastKind, Expr as SqlExpr, Query, SetExpr, Statement as SqlStatement, Value, VisitMut, VisitorMut,
};
use icefield_core::{AsOf, Error};

use crate::error::{from_datafusion, to_datafusion};
use crate::looks::looks_of;
use crate::provider::IcebergTable;

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
                let looks = looks_of(&insert.input)?;
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

/// Plans a statement, with `VALUES` inside an insert's query by themselves: the planner gives them the types of the table that is
/// inserted into, as if they were what is inserted.
pub(crate) async fn planned(state: &SessionState, mut statement: Statement) -> Result<LogicalPlan> {
    let own = KeepOwnCasts::in_statement(&mut statement);
    let Statement::Statement(sql) = &mut statement else { return state.statement_to_plan(statement).await };
    let SqlStatement::Insert(insert) = &mut **sql else { return state.statement_to_plan(statement).await };
    let Some(source) = insert.source.take_if(|query| own.has_values && !is_values(&query.body)) else {
        return state.statement_to_plan(statement).await;
    };
    let rows = state.statement_to_plan(Statement::Statement(Box::new(SqlStatement::Query(source)))).await?;
    let columns: Vec<String> = (0..rows.schema().fields().len()).map(|at| format!("NULL AS c{at}")).collect();
    let stand_in = format!("SELECT {}", columns.join(", "));
    let stand_in = state.sql_to_statement(&stand_in, &state.config().options().sql_parser.dialect)?;
    if let Statement::Statement(query) = stand_in
        && let SqlStatement::Query(query) = *query
    {
        insert.source = Some(query);
    }
    let LogicalPlan::Dml(insert) = state.statement_to_plan(statement).await? else {
        return internal_err!("an INSERT was planned as another statement");
    };
    let LogicalPlan::Projection(projection) = insert.input.as_ref() else {
        return internal_err!("an INSERT was planned without a projection");
    };
    let exprs = projection.expr.iter().map(|expr| in_place(expr.clone(), projection, &rows));
    let input = Projection::try_new(exprs.collect::<Result<_>>()?, Arc::new(rows.clone()))?;
    let input = Arc::new(LogicalPlan::Projection(input));
    Ok(LogicalPlan::Dml(DmlStatement::new(insert.table_name, insert.target, insert.op, input)))
}

/// The plan of an `INSERT`, into a branch of the table that it names.
///
/// # Errors
/// [`NotFound`](icefield_core::ErrorKind::NotFound) for a branch that the table does not have;
/// [`Unsupported`](icefield_core::ErrorKind::Unsupported) for what is no table of a catalog.
pub(crate) fn into_branch(plan: LogicalPlan, branch: &str) -> icefield_core::Result<LogicalPlan> {
    let into = |node| match node {
        LogicalPlan::Dml(insert) => {
            let Some(table) = target(&insert) else {
                let message = "only tables of the catalog have branches; insert without FOR VERSION AS OF";
                let error = Error::unsupported(message).with("table", &insert.table_name);
                return Err(to_datafusion(error));
            };
            let table = table.at(AsOf::Ref(branch.to_string())).map_err(to_datafusion)?;
            let target = provider_as_source(Arc::new(table) as Arc<dyn TableProvider>);
            let insert = DmlStatement::new(insert.table_name, target, insert.op, insert.input);
            Ok(Transformed::new(LogicalPlan::Dml(insert), true, TreeNodeRecursion::Jump))
        }
        other => Ok(Transformed::no(other)),
    };
    plan.transform_down(into).map(|plan| plan.data).map_err(from_datafusion)
}

/// An expression over the rows in the place of one over what stood in for them.
fn in_place(expr: Expr, over: &Projection, rows: &LogicalPlan) -> Result<Expr> {
    let column = |column: &Column| -> Result<Expr> {
        let at = over.input.schema().index_of_column(column)?;
        Ok(Expr::Column(Column::from(rows.schema().qualified_field(at))))
    };
    let replaced = expr.transform_down(|expr| {
        let new = match &expr {
            Expr::Cast(cast) if let Expr::Column(of) = cast.expr.as_ref() => {
                column(of)?.cast_to(cast.field.data_type(), rows.schema())?
            }
            Expr::Column(of) => column(of)?,
            _ => return Ok(Transformed::no(expr)),
        };
        Ok(Transformed::new(new, true, TreeNodeRecursion::Jump))
    });
    Ok(replaced?.data)
}

fn is_values(body: &SetExpr) -> bool {
    match body {
        SetExpr::Values(_) => true,
        SetExpr::Query(query) => is_values(&query.body),
        _ => false,
    }
}

/// Says the casts that stand in an insert's `VALUES` twice, so that the inner ones are told from those that the planner adds.
#[derive(Default)]
struct KeepOwnCasts {
    /// Whether there are `VALUES`.
    has_values: bool,
}

impl KeepOwnCasts {
    fn in_statement(statement: &mut Statement) -> Self {
        let mut this = Self::default();
        match statement {
            Statement::Statement(sql) => this.in_sql(sql),
            Statement::Explain(explain) => return Self::in_statement(&mut explain.statement),
            _ => {}
        }
        this
    }

    fn in_sql(&mut self, sql: &mut SqlStatement) {
        match sql {
            SqlStatement::Insert(insert) => {
                let _ = insert.source.visit(self);
            }
            SqlStatement::Prepare { statement, .. } | SqlStatement::Explain { statement, .. } => {
                self.in_sql(statement);
            }
            _ => {}
        }
    }

    fn in_body(&mut self, body: &mut SetExpr) {
        match body {
            SetExpr::SetOperation { left, right, .. } => {
                self.in_body(left);
                self.in_body(right);
            }
            SetExpr::Values(values) => {
                self.has_values = true;
                for value in values.rows.iter_mut().flat_map(|row| row.content.iter_mut()) {
                    say_twice(value);
                }
            }
            // Another query is visited by itself.
            _ => {}
        }
    }
}

impl VisitorMut for KeepOwnCasts {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        self.in_body(&mut query.body);
        ControlFlow::Continue(())
    }
}

fn say_twice(value: &mut SqlExpr) {
    match value {
        SqlExpr::Nested(inner) => say_twice(inner),
        SqlExpr::Cast { kind: CastKind::Cast | CastKind::DoubleColon, data_type, array, format, .. } => {
            let (data_type, array, format) = (data_type.clone(), *array, format.clone());
            let own = std::mem::replace(value, SqlExpr::value(Value::Null));
            *value = SqlExpr::Cast { kind: CastKind::Cast, expr: Box::new(own), data_type, array, format };
        }
        _ => {}
    }
}
