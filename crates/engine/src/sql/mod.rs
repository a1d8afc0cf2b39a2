//! SQL over the catalog's tables.
//!
//! A statement is parsed once, into a tree with places: by [`statement`] where it is about the catalog (a
//! file for each family of statements), else by DataFusion's parser in a dialect of ours ([`parser`]). What
//! DataFusion's planner does not know of tables, their versions and the functions over their snapshots, is
//! resolved from the tree before it plans ([`relations`]). What changes the catalog is a plan as any other
//! ([`command`]): it can be explained and limited, and happens when it is run.

mod alter;
mod clause;
mod columns;
mod command;
mod constant;
mod cursor;
mod describe;
mod dialect;
mod functions;
mod input;
mod names;
mod namespaces;
mod parser;
mod placeholder;
mod refused;
mod relations;
mod show;
mod statement;
mod table_at;
mod tables;
mod terms;
mod times;
mod types;
mod udf;

use std::sync::Arc;

use datafusion::common::DataFusionError;
use datafusion::dataframe::DataFrame;
use datafusion::execution::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::{DdlStatement, LogicalPlan, LogicalPlanBuilder};
use datafusion::prelude::SessionContext;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::Statement as SqlStatement;
use icefield_core::Result;

use crate::error::from_datafusion;
use crate::insert;
use crate::session::{Session, SqlOptions};
use command::{CommandPlanner, is_command};
use names::Listing;
use parser::Parsed;
use relations::Relations;
use statement::{Own, OwnStatement};

pub(crate) use placeholder::{OpenVersion, ResolveVersions};
pub(crate) use table_at::{TABLE_AT, TableAt};
pub(crate) use times::parse_timestamp_ms;
pub(crate) use udf::SqlFunctions;

impl Session {
    /// Plans a SQL statement. Its tables are the catalog's (`namespace.table`), as they are now, and those
    /// registered in the context.
    ///
    /// A table may be followed by `FOR VERSION AS OF` a snapshot id, branch or tag, or `FOR TIMESTAMP AS OF`
    /// a time. `db.t$files` is what `db.t` has for files, and so on for every
    /// [`MetadataTable`](crate::MetadataTable). `appends('db.t', from, to)` are the rows that were appended
    /// between two snapshots, as
    /// [`Table::appended_between`](crate::Table::appended_between) says, `changes('db.t', from, to)` all that
    /// was inserted and deleted, as [`Table::changes_between`](crate::Table::changes_between) does; each
    /// snapshot is a snapshot id, a branch, a tag or a time.
    ///
    /// `CREATE TABLE`, `CREATE TABLE AS`, `ALTER TABLE`, `DROP TABLE`, `CREATE NAMESPACE` and `DROP
    /// NAMESPACE` change the catalog when the DataFrame is run (`collect`), as `INSERT` does, and not before.
    /// The guide on SQL has their grammar, which is Spark's. `CREATE TABLE AS` is one commit: the table
    /// appears with all its rows, or not at all; only its namespace, made where it is absent, stays. `DROP
    /// TABLE` keeps the table's files. `SHOW` and `DESCRIBE` look when they are planned.
    ///
    /// `INSERT INTO` and `INSERT OVERWRITE` write to a table, or after `FOR VERSION AS OF 'branch'` to a
    /// branch. Values become the column's where nothing of them is lost (`1.0` is a long, `1.7` is refused),
    /// unless the query casts them itself. An `INSERT OVERWRITE` that reads the table conflicts with what
    /// others committed since, as
    /// [`Overwrite`](crate::ops::Overwrite) says.
    ///
    /// Views, external tables, functions and settings are the session's, and have names without a namespace:
    /// what makes them is DataFusion's, and done at once.
    ///
    /// The statement may do what the session may, files of its stores included: statements that others write
    /// are for
    /// [`sql_with`](Self::sql_with). The keys `datafusion.runtime.*` can't be set, nor reset: they would
    /// change the budget of all of the session's queries.
    ///
    /// # Errors
    /// [`InvalidInput`](icefield_core::ErrorKind::InvalidInput) for what can't be parsed or planned, with its
    /// place, and for values that an expression or a column does not take;
    /// [`NotFound`](icefield_core::ErrorKind::NotFound) for a table that is not there. Running it:
    /// [`AlreadyExists`](icefield_core::ErrorKind::AlreadyExists) for a table that is there, also one that
    /// was created while the query of `CREATE TABLE AS` ran;
    /// [`CommitStateUnknown`](icefield_core::ErrorKind::CommitStateUnknown) where the catalog's answer was
    /// lost: the table may be there, whole, and nothing was deleted.
    pub async fn sql(&self, query: &str) -> Result<DataFrame> {
        self.sql_with(query, SqlOptions::new()).await
    }

    /// As [`sql`](Self::sql), for a statement that may do, and take, no more than the options say.
    ///
    /// ```no_run
    /// # async fn example(session: icefield_engine::Session, query: &str) -> icefield_core::Result<()> {
    /// use std::time::Duration;
    ///
    /// use icefield_engine::session::SqlOptions;
    ///
    /// let options = SqlOptions::read_only().memory_limit(1 << 30).timeout(Duration::from_secs(60));
    /// let frame = session.sql_with(query, options).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`sql`](Self::sql); [`InvalidInput`](icefield_core::ErrorKind::InvalidInput) for what is not allowed, before any of it is
    /// done; [`ResourceExhausted`](icefield_core::ErrorKind::ResourceExhausted) for what passes a limit, which the message names.
    pub async fn sql_with(&self, query: &str, options: SqlOptions) -> Result<DataFrame> {
        let clock = self.catalog().clock().clone();
        // Boxed: what is planned goes deep, and futures that hold others take their size from the stack.
        options.in_time(&clock, Box::pin(self.run(query, &options))).await
    }

    async fn run(&self, query: &str, options: &SqlOptions) -> Result<DataFrame> {
        options.check_complexity(query)?;
        let state = self.state_for(options);
        let (plan, state) = match parser::parse(query, self, &state.config_options().sql_parser)? {
            Parsed::Own(own) => Box::pin(self.plan_own(own, state)).await?,
            Parsed::Plain { statement, branch } => {
                Box::pin(self.plan_plain(statement, branch, state)).await?
            }
        };
        let check = |plan: &LogicalPlan| options.check_plan(plan, &is_command);
        options.check_plan_complexity(&plan)?;
        check(&plan)?;
        // Tables of the context are made under the limits; what changes the context itself is its own to do.
        let context = match &plan {
            LogicalPlan::Ddl(DdlStatement::CreateMemoryTable(_) | DdlStatement::CreateExternalTable(_)) => {
                SessionContext::new_with_state(state.clone())
            }
            _ => self.context().clone(),
        };
        let frame = context.execute_logical_plan(plan).await.map_err(from_datafusion)?;
        // A prepared statement may be another's.
        let (_, plan) = frame.into_parts();
        check(&plan)?;
        Ok(DataFrame::new(state, plan))
    }

    /// The context's state with a planner that knows commands, and with limits.
    fn state_for(&self, options: &SqlOptions) -> SessionState {
        let state = SessionStateBuilder::new_from_existing(self.context().state());
        let state = state.with_query_planner(Arc::new(CommandPlanner)).build();
        options.limit(state, self.catalog().clock())
    }

    /// Plans a statement about the catalog.
    async fn plan_own(&self, own: OwnStatement, state: SessionState) -> Result<(LogicalPlan, SessionState)> {
        let (plan, state) = match own.statement {
            Own::Show(show) => {
                let (state, plan) = show.frame(self, state).await?.into_parts();
                (plan, state)
            }
            Own::Command(command, None) => (command.plan(self, None), state),
            Own::Command(command, Some(query)) => {
                let query = Statement::Statement(Box::new(SqlStatement::Query(query)));
                let (rows, state) = self.plan_plain(query, None, state).await?;
                (command.plan(self, Some(rows)), state)
            }
        };
        let Some(explain) = own.explain else { return Ok((plan, state)) };
        let plan = LogicalPlanBuilder::from(plan).explain_option_format(explain);
        Ok((plan.and_then(LogicalPlanBuilder::build).map_err(from_datafusion)?, state))
    }

    /// Plans one of DataFusion's statements, over the catalog's tables.
    async fn plan_plain(
        &self,
        mut statement: Statement,
        branch: Option<String>,
        mut state: SessionState,
    ) -> Result<(LogicalPlan, SessionState)> {
        self.list_names(Listing::of(&statement)).await?;
        refused::refuse(&statement)?;
        if let Statement::Statement(statement) = &mut statement {
            udf::number_arguments(statement);
        }
        let relations = Relations::resolve(&mut statement, self, &state).await?;
        if !relations.is_empty() {
            state.register_relation_planner(Arc::new(relations)).map_err(from_datafusion)?;
        }
        let planned = Box::pin(insert::planned(&state, statement)).await;
        let plan = planned.map_err(|error| {
            let place = place(&error);
            let error = from_datafusion(error);
            match place {
                Some(place) => error.with("at", place),
                None => error,
            }
        })?;
        let plan = match branch {
            Some(branch) => insert::into_branch(plan, &branch)?,
            None => plan,
        };
        Ok((plan, state))
    }
}

/// The place in a query that an error is about.
fn place(error: &DataFusionError) -> Option<String> {
    let start = error.diagnostic()?.span?.start;
    Some(format!("line {}, column {}", start.line, start.column))
}
