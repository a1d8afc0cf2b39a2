//! `SHOW` and `DESCRIBE` of the catalog, in the columns that Spark has.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch, StringArray};
use datafusion::catalog::MemTable;
use datafusion::dataframe::DataFrame;
use datafusion::datasource::provider_as_source;
use datafusion::execution::SessionState;
use datafusion::logical_expr::{LogicalPlanBuilder, UNNAMED_TABLE};
use icefield_core::catalog::{NamespaceIdent, TableIdent};
use icefield_core::{Error, Result};

use super::cursor::Cursor;
use super::describe;
use super::namespaces::parse_namespace;
use super::tables::parse_table;
use crate::error::from_datafusion;
use crate::metadata_tables::partition_names;
use crate::session::{DEFAULT_SCHEMA, Session};

/// A statement that shows something of the catalog.
#[derive(Debug, Clone)]
pub(super) enum Show {
    Namespaces { parent: Option<NamespaceIdent>, like: Option<String> },
    Tables { namespace: Option<NamespaceIdent>, like: Option<String> },
    Columns(TableIdent),
    Partitions(TableIdent),
    Properties { table: TableIdent, name: Option<String> },
    Create(TableIdent),
    Describe { table: TableIdent, extended: bool },
}

/// The words for several namespaces in statements.
pub(super) const NAMESPACES: [&str; 3] = ["NAMESPACES", "SCHEMAS", "DATABASES"];

impl Show {
    /// Reads a statement after `SHOW`.
    pub(super) fn parse(cursor: &mut Cursor<'_, '_>, session: &Session) -> Result<Self> {
        let catalog = session.catalog().name();
        if cursor.take_one(&NAMESPACES).is_some() {
            let (parent, like) = (parse_in(cursor, catalog)?, parse_like(cursor)?);
            return Ok(Self::Namespaces { parent, like });
        }
        if cursor.take(&["TABLES"]) {
            let (namespace, like) = (parse_in(cursor, catalog)?, parse_like(cursor)?);
            return Ok(Self::Tables { namespace, like });
        }
        if cursor.take(&["COLUMNS"]) {
            if cursor.take_one(&["IN", "FROM"]).is_none() {
                return cursor.wrong("IN and a table");
            }
            return Ok(Self::Columns(parse_table(cursor, session)?));
        }
        if cursor.take(&["PARTITIONS"]) {
            return Ok(Self::Partitions(parse_table(cursor, session)?));
        }
        if cursor.take(&["TBLPROPERTIES"]) {
            let table = parse_table(cursor, session)?;
            let name = match cursor.is_end() {
                true => None,
                false => cursor.bracketed(Cursor::property_name)?.pop(),
            };
            return Ok(Self::Properties { table, name });
        }
        cursor.expect(&["CREATE", "TABLE"])?;
        Ok(Self::Create(parse_table(cursor, session)?))
    }

    /// Reads a statement after `DESCRIBE`.
    pub(super) fn parse_describe(cursor: &mut Cursor<'_, '_>, session: &Session) -> Result<Self> {
        cursor.take(&["TABLE"]);
        let extended = cursor.take_one(&["EXTENDED", "FORMATTED"]).is_some();
        Ok(Self::Describe { table: parse_table(cursor, session)?, extended })
    }

    /// What is shown, as it is now.
    ///
    /// # Errors
    /// [`NotFound`](icefield_core::ErrorKind::NotFound) for a table or namespace that is not there.
    pub(super) async fn frame(&self, session: &Session, state: SessionState) -> Result<DataFrame> {
        let batch = self.batch(session).await?;
        let table = MemTable::try_new(batch.schema(), vec![vec![batch]]).map_err(from_datafusion)?;
        let plan = LogicalPlanBuilder::scan(UNNAMED_TABLE, provider_as_source(Arc::new(table)), None);
        let plan = plan.and_then(LogicalPlanBuilder::build).map_err(from_datafusion)?;
        Ok(DataFrame::new(state, plan))
    }

    async fn batch(&self, session: &Session) -> Result<RecordBatch> {
        match self {
            Self::Namespaces { parent, like } => namespaces(session, parent.as_ref(), like.as_deref()).await,
            Self::Tables { namespace, like } => tables(session, namespace.as_ref(), like.as_deref()).await,
            Self::Columns(table) => {
                let table = session.load(table).await?;
                let names = table.core().schema().as_struct().fields().iter();
                texts(&["col_name"], names.map(|field| [Some(field.name.clone())]))
            }
            Self::Partitions(table) => {
                let table = session.load(table).await?;
                if table.core().metadata().default_partition_spec().is_unpartitioned() {
                    return Err(
                        Error::invalid_input("the table is not partitioned").with("table", table.ident())
                    );
                }
                let names = partition_names(table.core()).await?;
                texts(&["partition"], names.into_iter().map(|name| [Some(name)]))
            }
            Self::Properties { table, name } => {
                let table = session.load(table).await?;
                let properties = describe::properties(table.core());
                if let Some(name) = name {
                    let value = properties
                        .get(name)
                        .cloned()
                        .unwrap_or_else(|| format!("Table {} does not have property: {name}", table.ident()));
                    return texts(&["key", "value"], [[Some(name.clone()), Some(value)]]);
                }
                texts(
                    &["key", "value"],
                    properties.into_iter().map(|(name, value)| [Some(name), Some(value)]),
                )
            }
            Self::Create(table) => {
                let table = session.load(table).await?;
                texts(&["createtab_stmt"], [[Some(describe::statement(table.core())?)]])
            }
            Self::Describe { table, extended } => {
                let table = session.load(table).await?;
                let rows = describe::rows(table.core(), session.catalog().name(), *extended);
                texts(&["col_name", "data_type", "comment"], rows)
            }
        }
    }
}

fn parse_in(cursor: &mut Cursor<'_, '_>, catalog: &str) -> Result<Option<NamespaceIdent>> {
    match cursor.take_one(&["IN", "FROM"]) {
        Some(_) => parse_namespace(cursor, catalog).map(Some),
        None => Ok(None),
    }
}

fn parse_like(cursor: &mut Cursor<'_, '_>) -> Result<Option<String>> {
    match cursor.take(&["LIKE"]) || !cursor.is_end() {
        true => cursor.text().map(Some),
        false => Ok(None),
    }
}

async fn namespaces(
    session: &Session,
    parent: Option<&NamespaceIdent>,
    like: Option<&str>,
) -> Result<RecordBatch> {
    let listed = session.catalog().list_namespaces(parent).await?;
    let mut names: Vec<String> = listed.iter().map(|namespace| namespace.as_ref().join(".")).collect();
    names.retain(|name| like.is_none_or(|like| is_like(name, like)));
    names.sort();
    texts(&["namespace"], names.into_iter().map(|name| [Some(name)]))
}

/// The tables of a namespace, or of all of them and the session's own.
async fn tables(
    session: &Session,
    namespace: Option<&NamespaceIdent>,
    like: Option<&str>,
) -> Result<RecordBatch> {
    let catalog = session.catalog();
    let mut found = Vec::new();
    let mut open = match namespace {
        Some(namespace) => vec![namespace.clone()],
        None => catalog.list_namespaces(None).await?,
    };
    while let Some(of) = open.pop() {
        let tables = catalog.list_tables(&of).await?;
        let name = of.as_ref().join(".");
        found.extend(tables.iter().map(|table| (name.clone(), table.name().to_string(), false)));
        if namespace.is_none() {
            open.extend(catalog.list_namespaces(Some(&of)).await?);
        }
    }
    if namespace.is_none()
        && let Some(own) = session.context().catalog(catalog.name()).and_then(|of| of.schema(DEFAULT_SCHEMA))
    {
        let kept = own.table_names().into_iter();
        let known: Vec<_> = kept.map(|name| (String::new(), name, true)).collect();
        found.extend(known);
    }
    found.retain(|(_, name, _)| like.is_none_or(|like| is_like(name, like)));
    found.sort();
    let temporary: ArrayRef = Arc::new(BooleanArray::from_iter(found.iter().map(|(.., own)| Some(*own))));
    let column = |texts: Vec<&str>| Arc::new(StringArray::from(texts)) as ArrayRef;
    let namespaces = column(found.iter().map(|(namespace, ..)| namespace.as_str()).collect());
    let names = column(found.iter().map(|(_, name, _)| name.as_str()).collect());
    Ok(RecordBatch::try_from_iter([
        ("namespace", namespaces),
        ("tableName", names),
        ("isTemporary", temporary),
    ])?)
}

/// Rows of texts under names.
fn texts<const N: usize>(
    names: &[&str; N],
    rows: impl IntoIterator<Item = [Option<String>; N]>,
) -> Result<RecordBatch> {
    let rows: Vec<_> = rows.into_iter().collect();
    let columns = names.iter().enumerate().map(|(at, name)| {
        let texts = rows.iter().map(|row| row.get(at).and_then(Option::as_deref));
        (*name, Arc::new(StringArray::from_iter(texts)) as ArrayRef, true)
    });
    Ok(RecordBatch::try_from_iter_with_nullable(columns)?)
}

/// True if a name fits one of the patterns, with `*` or `%` for any text and `|` between them, whatever the
/// case.
fn is_like(name: &str, patterns: &str) -> bool {
    let name = name.to_lowercase();
    patterns.to_lowercase().split('|').any(|pattern| fits(&name, pattern.trim()))
}

fn fits(name: &str, pattern: &str) -> bool {
    let Some((first, rest)) = pattern.split_once(['*', '%']) else { return name == pattern };
    let Some(mut name) = name.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = rest.split(['*', '%']).collect();
    let Some(last) = parts.pop() else { return true };
    for part in parts {
        match name.find(part) {
            Some(at) => name = name.get(at + part.len()..).unwrap_or_default(),
            None => return false,
        }
    }
    name.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_patterns_with_stars_and_alternatives() {
        for (name, pattern, is) in [
            ("rates", "rates", true),
            ("Rates", "rATES", true),
            ("rates", "r*", true),
            ("rates", "%es", true),
            ("rates", "r*t*s", true),
            ("rates", "*", true),
            ("rates", "x|r*", true),
            ("rates", "rate", false),
            ("rates", "r*x", false),
            ("rates", "x*", false),
            ("ab", "ab*ab", false),
        ] {
            assert_eq!(is_like(name, pattern), is, "{name} LIKE {pattern}");
        }
    }
}
