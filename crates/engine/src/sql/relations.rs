//! Tables at versions, and calls of table functions: found in a statement's tree, resolved where one can wait
//! for the catalog, and planned where one can't.
//!
//! A relation that is found is replaced in the tree by a number. The planner, which knows nothing of
//! versions, asks [`Relations`] for the relation of that number, and it is planned under the table's own
//! name.

use std::ops::ControlFlow;
use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::common::{Result as DfResult, ScalarValue, TableReference};
use datafusion::datasource::provider_as_source;
use datafusion::execution::SessionState;
use datafusion::logical_expr::planner::{
    PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning,
};
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder};
use datafusion::sql::parser::{CopyToSource, Statement};
use datafusion::sql::planner::object_name_to_table_reference;
use datafusion::sql::sqlparser::ast::{
    Expr as SqlExpr, FunctionArg, FunctionArgExpr, Ident, ObjectName, TableFactor, TableVersion, VisitMut,
    VisitorMut,
};
use icefield_core::{AsOf, Clock, Error, Result};

use super::constant::{Constant, constant};
use super::functions::Function;
use super::names::catalog_table;
use super::placeholder::OpenVersion;
use super::times::{time_of, version_of};
use crate::error::from_datafusion;
use crate::session::Session;

/// The prefix of the number of a relation. No name has it that anybody writes.
const NUMBERED: &str = "\u{1}relation ";

const TAKES_VERSION: &str =
    "FOR VERSION AS OF takes a snapshot id, or a branch or tag in quotes, or what is a constant of these";
const TAKES_TIME: &str = "FOR TIMESTAMP AS OF takes a time in quotes, such as '2024-06-30T00:00:00Z', seconds since 1970, or a \
                          constant expression such as now() - INTERVAL '1 day'";

/// A relation of a statement that the planner can't find by its name.
#[derive(Debug)]
enum Wanted {
    Version { name: ObjectName, version: Box<SqlExpr>, is_time: bool },
    Call { function: Function, arguments: Vec<SqlExpr> },
}

/// Finds what is wanted, and puts numbers in its place.
#[derive(Debug, Default)]
struct Finder {
    wanted: Vec<Wanted>,
}

impl VisitorMut for Finder {
    type Break = Error;

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<Error> {
        if let TableFactor::TableFunction { .. } = factor {
            let message = "TABLE(...) is not taken in FROM; call the table function by its name";
            return ControlFlow::Break(Error::unsupported(message));
        }
        let TableFactor::Table { name, alias, args, version, .. } = factor else {
            return ControlFlow::Continue(());
        };
        let wanted = match (version.take(), args) {
            (None, None) => return ControlFlow::Continue(()),
            (None, Some(arguments)) => {
                let Some(function) = Function::of(name) else { return ControlFlow::Continue(()) };
                let arguments = arguments.args.iter().map(|argument| match argument {
                    FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Ok(expr.clone()),
                    _ => Err(Error::invalid_input(function.usage())),
                });
                match arguments.collect() {
                    Ok(arguments) => Wanted::Call { function, arguments },
                    Err(error) => return ControlFlow::Break(error),
                }
            }
            (Some(_), Some(_)) => {
                let message = "a table function has no version; its arguments say which snapshots it reads";
                return ControlFlow::Break(Error::invalid_input(message).with("function", name));
            }
            (Some(version), None) => {
                let (version, is_time) = match version {
                    // So the clauses are spelled by the time that they are parsed.
                    TableVersion::ForSystemTimeAsOf(version) | TableVersion::VersionAsOf(version) => {
                        (version, false)
                    }
                    TableVersion::TimestampAsOf(time) => (time, true),
                    TableVersion::Function(_) | TableVersion::Changes { .. } => {
                        let message =
                            "versions of tables are said by FOR VERSION AS OF and FOR TIMESTAMP AS OF";
                        return ControlFlow::Break(Error::unsupported(message).with("table", name));
                    }
                };
                Wanted::Version { name: name.clone(), version: Box::new(version), is_time }
            }
        };
        let number = SqlExpr::Identifier(Ident::new(format!("{NUMBERED}{}", self.wanted.len())));
        *factor = TableFactor::TableFunction { expr: number, alias: alias.take() };
        self.wanted.push(wanted);
        ControlFlow::Continue(())
    }
}

impl Finder {
    fn look_into(&mut self, statement: &mut Statement) -> Result<()> {
        let flow = match statement {
            Statement::Statement(statement) => statement.visit(self),
            Statement::Explain(explain) => return self.look_into(&mut explain.statement),
            Statement::CopyTo(copy) => match &mut copy.source {
                CopyToSource::Query(query) => query.visit(self),
                CopyToSource::Relation(_) => ControlFlow::Continue(()),
            },
            Statement::CreateExternalTable(_) | Statement::Reset(_) => ControlFlow::Continue(()),
        };
        match flow {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(error) => Err(error),
        }
    }
}

/// The relations of a statement by their numbers.
#[derive(Debug)]
pub(super) struct Relations(Vec<LogicalPlan>);

impl Relations {
    /// Resolves what a statement's tree has of versions and table functions. A look at the catalog for each.
    ///
    /// # Errors
    /// [`NotFound`](icefield_core::ErrorKind::NotFound) for tables, snapshots, branches and tags that are not
    /// there;
    /// [`InvalidInput`](icefield_core::ErrorKind::InvalidInput) for versions and arguments that are not such.
    pub(super) async fn resolve(
        statement: &mut Statement,
        session: &Session,
        state: &SessionState,
    ) -> Result<Self> {
        let mut finder = Finder::default();
        finder.look_into(statement)?;
        let mut plans = Vec::with_capacity(finder.wanted.len());
        for wanted in &finder.wanted {
            plans.push(match wanted {
                Wanted::Version { name, version, is_time } => {
                    at_version(session, state, name, version, *is_time).await?
                }
                Wanted::Call { function, arguments } => {
                    let arguments = values(arguments, state, &**session.catalog().clock(), function.usage())?;
                    let (name, provider) = function.call(session, &arguments).await?;
                    scan(name, provider)?
                }
            });
        }
        Ok(Self(plans))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn scan(name: TableReference, provider: Arc<dyn TableProvider>) -> Result<LogicalPlan> {
    let plan = LogicalPlanBuilder::scan(name, provider_as_source(provider), None);
    plan.and_then(LogicalPlanBuilder::build).map_err(from_datafusion)
}

fn values(
    exprs: &[SqlExpr],
    state: &SessionState,
    clock: &dyn Clock,
    takes: &str,
) -> Result<Vec<ScalarValue>> {
    let values = exprs.iter().map(|expr| match constant(expr, state, clock, takes)? {
        Constant::Value(value) => Ok(value),
        Constant::Open(_) => Err(Error::invalid_input(takes).with("value", expr)),
    });
    values.collect()
}

async fn at_version(
    session: &Session,
    state: &SessionState,
    name: &ObjectName,
    version: &SqlExpr,
    is_time: bool,
) -> Result<LogicalPlan> {
    let normalize = state.config_options().sql_parser.enable_ident_normalization;
    let reference = object_name_to_table_reference(name.clone(), normalize).map_err(from_datafusion)?;
    let missing = || {
        let missing = Error::not_found("no such table; SHOW TABLES lists those that there are");
        missing.with("table", name)
    };
    let Some(ident) = catalog_table(&reference, session)? else {
        let message = "only tables of the catalog have versions; they are named namespace.table";
        return Err(Error::invalid_input(message).with("table", name));
    };
    let lookup = session.lookup();
    let (table, about) = lookup.find(&ident).await?.ok_or_else(missing)?;
    let clock = session.catalog().clock();
    let takes = if is_time { TAKES_TIME } else { TAKES_VERSION };
    let value = match constant(version, state, &**clock, takes)? {
        Constant::Value(value) => value,
        Constant::Open(version) => {
            if about.is_some() {
                let message =
                    "the version of a metadata table is no placeholder; write its value into the statement";
                return Err(Error::unsupported(message).with("table", name));
            }
            let table = lookup.table(&table, AsOf::Current)?;
            return OpenVersion::plan(reference, table, version, is_time, clock.clone())
                .map_err(from_datafusion);
        }
    };
    let as_of = if is_time { time_of(&value)? } else { version_of(&table, &value)? };
    scan(reference, lookup.provider(&table, as_of, about)?)
}

impl RelationPlanner for Relations {
    fn plan_relation(
        &self,
        relation: TableFactor,
        _: &mut dyn RelationPlannerContext,
    ) -> DfResult<RelationPlanning> {
        if let TableFactor::TableFunction { expr: SqlExpr::Identifier(number), alias } = &relation
            && let Some(number) = number.value.strip_prefix(NUMBERED)
            && let Some(plan) = number.parse::<usize>().ok().and_then(|number| self.0.get(number))
        {
            let planned = PlannedRelation::new(plan.clone(), alias.clone());
            return Ok(RelationPlanning::Planned(Box::new(planned)));
        }
        Ok(RelationPlanning::Original(Box::new(relation)))
    }
}
