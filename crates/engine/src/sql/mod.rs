//! SQL over the catalog's tables.
//!
//! A statement is parsed once, into a tree with places: [`parser`]. What DataFusion's planner does not know of its tables, their
//! versions and the functions over their snapshots, is resolved from the tree before it plans: [`relations`].

mod clause;
mod constant;
mod dialect;
mod functions;
mod names;
mod parser;
mod placeholder;
mod relations;
mod statement;
mod times;

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef, Schema as ArrowSchema, TimeUnit};
use datafusion::common::{Constraint, DataFusionError, SchemaReference};
use datafusion::dataframe::DataFrame;
use datafusion::execution::SessionState;
use datafusion::logical_expr::{CreateMemoryTable, DdlStatement, LogicalPlan, LogicalPlanBuilder};
use datafusion::prelude::SessionContext;
use iceberg::spec::{FormatVersion, Schema};
use icefield_core::catalog::{NamespaceIdent, TableIdent};
use icefield_core::format::iceberg_schema;
use icefield_core::{Error, ErrorKind, Result};

use crate::error::from_datafusion;
use crate::insert;
use crate::ops::{DataFrameExt, TableOptions};
use crate::session::{Session, SqlOptions};
use names::{Listing, catalog_table};
use parser::Parsed;
use relations::Relations;

pub(crate) use placeholder::{OpenVersion, ResolveVersions};
pub(crate) use times::parse_timestamp_ms;

impl Session {
    /// Plans a SQL statement. Its tables are the catalog's (`namespace.table`), as they are now, and those registered in
    /// the context.
    ///
    /// A table may be followed by `FOR VERSION AS OF` a snapshot id, branch or tag, or `FOR TIMESTAMP AS OF` a time; see
    /// [`Table::as_of`](crate::Table::as_of) for their forms. `db.t$files` is what `db.t` has for files, and so on for every
    /// [`MetadataTable`](crate::MetadataTable). `appends('db.t', from, to)` are the rows that were appended between two
    /// snapshots, as [`Table::appended_between`](crate::Table::appended_between) says, `changes('db.t', from, to)` all that was
    /// inserted and deleted, as [`Table::changes_between`](crate::Table::changes_between) does; each snapshot is a snapshot id, a
    /// branch, a tag or a time. `CREATE SCHEMA`, `DROP SCHEMA`, `CREATE TABLE`, `CREATE TABLE AS` and `DROP TABLE` act on the
    /// catalog at once where they name a namespace, on the context where they do not. `NOT NULL` makes a column required,
    /// `PRIMARY KEY` makes identifier fields. `CREATE TABLE AS` runs its query first and is one commit: the table appears with
    /// all its rows, or not at all; only its namespace, made where it is absent, stays. `DROP TABLE` keeps the table's files.
    ///
    /// `INSERT INTO` and `INSERT OVERWRITE` write to a table, or after `FOR VERSION AS OF 'branch'` to a branch. Values become the
    /// column's where nothing of them is lost (`1.0` is a long, `1.7` is refused), unless the query casts them itself. An
    /// `INSERT OVERWRITE` that reads the table conflicts with what others committed since, as
    /// [`Overwrite`](crate::ops::Overwrite) says. Views and external tables are the session's: they have names without a namespace.
    ///
    /// The statement may do what the session may, files of its stores included: statements that others write are for
    /// [`sql_with`](Self::sql_with). The keys `datafusion.runtime.*` can't be set, nor reset: they would change the budget of all
    /// of the session's queries.
    ///
    /// # Errors
    /// [`InvalidInput`](icefield_core::ErrorKind::InvalidInput) for what can't be parsed or planned, with its place, and for values
    /// that an expression or a column does not take; [`NotFound`](icefield_core::ErrorKind::NotFound) for a table that is not there;
    /// [`AlreadyExists`](icefield_core::ErrorKind::AlreadyExists) for a table that is there, also one that was created while
    /// the query of `CREATE TABLE AS` ran; [`CommitStateUnknown`](icefield_core::ErrorKind::CommitStateUnknown) where the
    /// catalog's answer was lost: the table may be there, whole, and nothing was deleted.
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
        options.in_time(&clock, self.run(query, &options)).await
    }

    async fn run(&self, query: &str, options: &SqlOptions) -> Result<DataFrame> {
        options.check_complexity(query)?;
        let mut state = options.limit(self.context().state(), self.catalog().clock());
        let Parsed { mut statement, branch } = parser::parse(query, &state.config_options().sql_parser)?;
        self.list_names(Listing::of(&statement)).await?;
        statement::refuse(&statement)?;
        options.check_statement(&statement)?;
        let nothing = |state: &SessionState| -> Result<DataFrame> {
            let nothing = LogicalPlanBuilder::empty(false).build().map_err(from_datafusion)?;
            Ok(DataFrame::new(state.clone(), nothing))
        };
        if self.drop_tables(&statement).await? {
            return nothing(&state);
        }
        let relations = Relations::resolve(&mut statement, self, &state).await?;
        if !relations.is_empty() {
            state.register_relation_planner(Arc::new(relations)).map_err(from_datafusion)?;
        }
        let planned = insert::planned(&state, statement).await;
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
        options.check_plan_complexity(&plan)?;
        options.check_plan(&plan)?;
        if self.change_catalog(&plan, &state).await? {
            return nothing(&state);
        }
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
        options.check_plan(&plan)?;
        Ok(DataFrame::new(state, plan))
    }

    /// Does what a statement asks of the catalog; false when it asks nothing of it.
    async fn change_catalog(&self, plan: &LogicalPlan, state: &SessionState) -> Result<bool> {
        let LogicalPlan::Ddl(statement) = plan else { return Ok(false) };
        match statement {
            DdlStatement::CreateCatalogSchema(create) => {
                let namespace = namespace(&create.schema_name)?;
                match self.catalog().create_namespace(&namespace, HashMap::new()).await {
                    Err(e) if e.kind() == ErrorKind::AlreadyExists && create.if_not_exists => {}
                    other => other?,
                }
            }
            DdlStatement::DropCatalogSchema(drop) => {
                let name = match &drop.name {
                    SchemaReference::Bare { schema } | SchemaReference::Full { schema, .. } => schema,
                };
                match self.catalog().drop_namespace(&namespace(name)?).await {
                    Err(e) if e.kind() == ErrorKind::NotFound && drop.if_exists => {}
                    other => other?,
                }
            }
            DdlStatement::CreateMemoryTable(create) if !create.temporary => {
                let Some(ident) = catalog_table(&create.name, self)? else { return Ok(false) };
                self.create_table_as(&ident, create, state).await?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }
}

impl Session {
    async fn create_table_as(
        &self,
        ident: &TableIdent,
        create: &CreateMemoryTable,
        state: &SessionState,
    ) -> Result<()> {
        if create.or_replace {
            return Err(Error::unsupported("CREATE OR REPLACE TABLE is not there yet; drop the table first")
                .with("table", ident));
        }
        if create.if_not_exists && self.catalog().table_exists(ident).await? {
            return Ok(());
        }
        if ident.name().contains('.') {
            return Err(Error::invalid_input(
                "a new table's name has no dots; its namespace stands before it",
            )
            .with("table", ident.name()));
        }
        let name = format!("{}.{}", ident.namespace().as_ref().join("."), ident.name());
        let identifier = identifier(create)?;
        let created = if matches!(*create.input, LogicalPlan::EmptyRelation(_)) {
            let schema = declared_schema(create.input.schema().as_arrow())?;
            self.create_table(name, schema).identifier(identifier).await.map(drop)
        } else {
            let rows = DataFrame::new(state.clone(), create.input.as_ref().clone());
            rows.append_to(self, name).create(TableOptions::new().identifier(identifier)).await.map(drop)
        };
        match created {
            Err(e)
                if create.if_not_exists
                    && e.kind() == ErrorKind::AlreadyExists
                    && self.catalog().table_exists(ident).await? =>
            {
                Ok(())
            }
            other => other,
        }
    }
}

/// The columns of `CREATE TABLE` without a query: what is NOT NULL is required.
fn declared_schema(columns: &ArrowSchema) -> Result<Schema> {
    let is_nanos =
        |field: &&FieldRef| matches!(field.data_type(), DataType::Timestamp(TimeUnit::Nanosecond, _));
    if let Some(field) = columns.fields().iter().find(is_nanos) {
        return Err(Error::unsupported(
            "TIMESTAMP is of nanoseconds here, which the table can't hold; write TIMESTAMP(6)",
        )
        .with("column", field.name()));
    }
    iceberg_schema(columns, FormatVersion::V2)
}

/// The columns of the primary key, which are the identifier fields of the table: they are required, and nothing checks that
/// they are unique. What else a statement declares and no table keeps is refused rather than dropped in silence.
fn identifier(create: &CreateMemoryTable) -> Result<Vec<String>> {
    if let Some((column, _)) = create.column_defaults.first() {
        let message = "a column's DEFAULT is not taken from SQL; leave it out, and set a write default on a version 3 table";
        return Err(Error::unsupported(message).with("column", column));
    }
    let mut identifier = Vec::new();
    for constraint in create.constraints.iter() {
        let Constraint::PrimaryKey(columns) = constraint else {
            return Err(Error::unsupported("no table keeps UNIQUE; leave it out, or declare a PRIMARY KEY"));
        };
        let names = columns.iter().filter_map(|at| create.input.schema().fields().get(*at));
        identifier.extend(names.map(|field| field.name().clone()));
    }
    Ok(identifier)
}

/// The place in a query that an error is about.
fn place(error: &DataFusionError) -> Option<String> {
    let start = error.diagnostic()?.span?.start;
    Some(format!("line {}, column {}", start.line, start.column))
}

fn namespace(name: &str) -> Result<NamespaceIdent> {
    // A catalog's name before the namespace is the planner's, not the namespace's.
    Ok(NamespaceIdent::from_strs(name.split('.'))?)
}
