//! Names in statements: which are the catalog's, and what listing them takes.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use datafusion::common::TableReference;
use datafusion::sql::parser::{CopyToSource, Statement};
use datafusion::sql::planner::object_name_to_table_reference;
use datafusion::sql::sqlparser::ast::{ObjectName, Statement as SqlStatement, Visit, visit_relations};
use futures::StreamExt;
use icefield_core::catalog::TableIdent;
use icefield_core::{Error, Result};

use crate::error::from_datafusion;
use crate::session::{DEFAULT_SCHEMA, Session};

/// The number of tables that are loaded at a time to see whether they can be.
const LOADS: usize = 16;

/// The catalog's table that a name means, `None` for one of the context: without a namespace, or of another
/// catalog.
///
/// # Errors
/// [`InvalidInput`](icefield_core::ErrorKind::InvalidInput) for a namespace without a name.
pub(super) fn catalog_table(name: &TableReference, session: &Session) -> Result<Option<TableIdent>> {
    if name.catalog().is_some_and(|catalog| catalog != session.catalog().name()) {
        return Ok(None);
    }
    match name.schema() {
        None | Some(DEFAULT_SCHEMA | INFORMATION_SCHEMA) => Ok(None),
        Some("") => Err(Error::invalid_input("a table's namespace has a name")),
        Some(schema) => Ok(Some(TableIdent::from_strs(schema.split('.').chain([name.table()]))?)),
    }
}

/// As [`catalog_table`], of a name in a statement.
///
/// # Errors
/// As [`catalog_table`], and for names of more than three parts.
pub(super) fn named_table(name: &ObjectName, session: &Session) -> Result<Option<TableIdent>> {
    let normalize = session.context().state().config_options().sql_parser.enable_ident_normalization;
    let reference = object_name_to_table_reference(name.clone(), normalize).map_err(from_datafusion)?;
    catalog_table(&reference, session)
}

const INFORMATION_SCHEMA: &str = "information_schema";

/// The names that a statement asks for, of those that the context has of the catalog's tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Listing {
    None,
    /// Names alone.
    Names,
    /// The columns of all tables, too.
    Columns,
}

impl Listing {
    /// The names that a statement of DataFusion's asks for.
    pub(super) fn of(statement: &Statement) -> Self {
        match statement {
            Statement::Statement(statement) => match &**statement {
                SqlStatement::ShowColumns { .. }
                | SqlStatement::ShowCreate { .. }
                | SqlStatement::ShowViews { .. } => Self::Columns,
                SqlStatement::ShowTables { .. } => Self::Names,
                statement => Self::of_relations(statement),
            },
            Statement::Explain(explain) => Self::of(&explain.statement),
            Statement::CopyTo(copy) => match &copy.source {
                CopyToSource::Query(query) => Self::of_relations(&**query),
                CopyToSource::Relation(name) => Self::of_relation(name),
            },
            Statement::CreateExternalTable(_) | Statement::Reset(_) => Self::None,
        }
    }

    fn of_relations(tree: &impl Visit) -> Self {
        let mut asked = Self::None;
        let _ = visit_relations(tree, |name| {
            match Self::of_relation(name) {
                Self::None => {}
                more if asked != Self::Columns => asked = more,
                _ => {}
            }
            ControlFlow::<()>::Continue(())
        });
        asked
    }

    fn of_relation(name: &ObjectName) -> Self {
        let parts: Vec<&str> =
            name.0.iter().filter_map(|part| Some(part.as_ident()?.value.as_str())).collect();
        match &parts[..] {
            [.., schema, table] if schema.eq_ignore_ascii_case(INFORMATION_SCHEMA) => {
                let looks_inside = ["columns", "views"].iter().any(|of| table.eq_ignore_ascii_case(of));
                if looks_inside { Self::Columns } else { Self::Names }
            }
            _ => Self::None,
        }
    }
}

impl Session {
    /// Lists the catalog's namespaces and tables anew, for `information_schema`. [`Session::sql`] does it for
    /// queries that use them.
    pub async fn refresh_names(&self) -> Result<()> {
        self.list_names(Listing::Names).await
    }

    /// Lists names as a statement asks it; those of tables that can't be loaded are left out where columns
    /// are asked for.
    pub(super) async fn list_names(&self, asked: Listing) -> Result<()> {
        if asked == Listing::None {
            return Ok(());
        }
        let mut names = BTreeMap::new();
        let mut open = self.catalog().list_namespaces(None).await?;
        while let Some(namespace) = open.pop() {
            let tables = self.catalog().list_tables(&namespace).await?;
            open.extend(self.catalog().list_namespaces(Some(&namespace)).await?);
            let tables = match asked {
                Listing::Columns => self.loadable(tables).await,
                _ => tables,
            };
            names.insert(
                namespace.as_ref().join("."),
                tables.iter().map(|table| table.name().to_string()).collect(),
            );
        }
        self.set_names(names);
        Ok(())
    }

    /// The tables that can be loaded: one that is broken does not hide the others.
    async fn loadable(&self, tables: Vec<TableIdent>) -> Vec<TableIdent> {
        let loads = futures::stream::iter(tables).map(|ident| async move {
            match self.load(&ident).await.and_then(|table| table.provider()) {
                Ok(_) => Some(ident),
                Err(error) => {
                    tracing::warn!(table = %ident, %error, "a table that can't be loaded is left out of information_schema");
                    None
                }
            }
        });
        loads.buffered(LOADS).filter_map(std::future::ready).collect().await
    }
}
