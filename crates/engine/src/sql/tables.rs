//! `CREATE TABLE`, `CREATE TABLE AS`, `CREATE OR REPLACE TABLE` and `DROP TABLE`, of the catalog's tables.

use std::collections::HashSet;
use std::fmt;

use datafusion::sql::sqlparser::ast::Query;
use datafusion::sql::sqlparser::tokenizer::Token;
use iceberg::spec::{FormatVersion, NestedFieldRef};
use icefield_core::catalog::TableIdent;
use icefield_core::{Error, ErrorKind, Result};

use super::columns::{Column, unique};
use super::cursor::Cursor;
use super::input::Input;
use super::names::named_table;
use super::terms::{parse_sort_terms, parse_term};
use crate::looks::Looks;
use crate::ops::{TableOptions, create_as, replace};
use crate::session::Session;

/// `CREATE [OR REPLACE] TABLE [IF NOT EXISTS] a.t (columns) [clauses] [AS query]`
#[derive(Debug, Clone)]
pub(super) struct CreateTable {
    ident: TableIdent,
    or_replace: bool,
    if_not_exists: bool,
    columns: Vec<Column>,
    options: TableOptions,
    has_query: bool,
}

/// `DROP TABLE [IF EXISTS] a.t, a.u`
#[derive(Debug, Clone)]
pub(super) struct DropTables {
    tables: Vec<TableIdent>,
    if_exists: bool,
}

/// Reads a table's name; a table of the catalog is named `namespace.table`.
pub(super) fn parse_table(cursor: &mut Cursor<'_, '_>, session: &Session) -> Result<TableIdent> {
    let name = cursor.object()?;
    named_table(&name, session)?.ok_or_else(|| {
        let message = "a table of the catalog is named namespace.table; the session's own have names without a namespace";
        Error::invalid_input(message).with("table", name)
    })
}

/// Reads a statement after `CREATE [OR REPLACE] TABLE`, and the query after `AS`.
///
/// # Errors
/// [`Unsupported`](icefield_core::ErrorKind::Unsupported) and
/// [`InvalidInput`](icefield_core::ErrorKind::InvalidInput) for what no table keeps.
pub(super) fn parse_create(
    cursor: &mut Cursor<'_, '_>,
    session: &Session,
    or_replace: bool,
) -> Result<(CreateTable, Option<Box<Query>>)> {
    let if_not_exists = cursor.take(&["IF", "NOT", "EXISTS"]);
    if or_replace && if_not_exists {
        return Err(Error::invalid_input(
            "a table is replaced, or created where it is absent; leave one out",
        ));
    }
    let ident = parse_table(cursor, session)?;
    let (mut columns, mut keys) = (Vec::new(), Vec::new());
    if cursor.is_token(&Token::LParen) && !is_query(cursor) {
        cursor.bracketed(|cursor| {
            if cursor.take(&["PRIMARY", "KEY"]) {
                keys.extend(cursor.bracketed(Cursor::name)?);
            } else if cursor.is_next(&["UNIQUE"]) {
                return Err(unique());
            } else if cursor.is_next(&["CONSTRAINT"]) || cursor.is_next(&["FOREIGN", "KEY"]) {
                return Err(Error::unsupported(
                    "no table keeps constraints; leave it out, or declare a PRIMARY KEY",
                ));
            } else {
                columns.push(Column::parse(cursor)?);
            }
            Ok(())
        })?;
    }
    keys.extend(columns.iter().filter(|column| column.is_key).map(|column| column.path.clone()));
    let mut options = parse_clauses(cursor)?;
    if !keys.is_empty() {
        options = options.identifier(keys);
    }
    let query = match cursor.take(&["AS"]) || is_query(cursor) {
        true => Some(cursor.query()?),
        false => None,
    };
    match (&query, columns.is_empty()) {
        (Some(_), false) => {
            let message =
                "a table has the columns of its query; leave the list of columns out, and cast in the query";
            return Err(Error::unsupported(message).with("table", ident));
        }
        (None, true) => return cursor.wrong("columns, or AS and a query"),
        _ => {}
    }
    let has_query = query.is_some();
    let create = CreateTable { ident, or_replace, if_not_exists, columns, options, has_query };
    Ok((create, query))
}

fn is_query(cursor: &mut Cursor<'_, '_>) -> bool {
    let first = usize::from(cursor.is_token(&Token::LParen));
    cursor.is_at(first, &["SELECT", "WITH", "VALUES"])
}

fn parse_clauses(cursor: &mut Cursor<'_, '_>) -> Result<TableOptions> {
    let mut options = TableOptions::new();
    let mut seen = HashSet::new();
    loop {
        let clauses: [(&str, &[&str]); 6] = [
            ("USING", &["USING"]),
            ("PARTITIONED BY", &["PARTITIONED", "BY"]),
            ("WRITE ORDERED BY", &["WRITE", "ORDERED", "BY"]),
            ("TBLPROPERTIES", &["TBLPROPERTIES"]),
            ("COMMENT", &["COMMENT"]),
            ("LOCATION", &["LOCATION"]),
        ];
        let Some((clause, _)) = clauses.iter().find(|(_, words)| cursor.take(words)) else {
            return Ok(options);
        };
        if !seen.insert(*clause) {
            return Err(Error::invalid_input("a clause is said once").with("clause", clause));
        }
        options = match *clause {
            "USING" => {
                let format = cursor.name()?;
                if !format.eq_ignore_ascii_case("iceberg") {
                    let message = "tables of the catalog are Iceberg tables; leave USING out, or write CREATE EXTERNAL TABLE with a \
                                   name without a namespace for files";
                    return Err(Error::unsupported(message).with("format", format));
                }
                options
            }
            "PARTITIONED BY" => {
                let terms = cursor.bracketed(|cursor| {
                    let term = parse_term(cursor)?;
                    // Hive declares a column here, with its type.
                    if !cursor.is_token(&Token::Comma) && !cursor.is_token(&Token::RParen) {
                        let message = "PARTITIONED BY takes columns of the table, and transforms of them; declare the column, with its \
                                       type, among the others";
                        return Err(Error::unsupported(message).with("column", term.column));
                    }
                    Ok(term)
                });
                options.partition_by(terms?)
            }
            "WRITE ORDERED BY" => options.sort_by(parse_sort_terms(cursor)?),
            "TBLPROPERTIES" => options.properties(cursor.properties()?),
            "COMMENT" => options.property("comment", cursor.text()?),
            _ => options.location(cursor.text()?),
        };
    }
}

/// Reads a statement after `DROP TABLE`.
///
/// # Errors
/// [`Unsupported`](icefield_core::ErrorKind::Unsupported) for `PURGE`.
pub(super) fn parse_drop(cursor: &mut Cursor<'_, '_>, session: &Session) -> Result<DropTables> {
    let if_exists = cursor.take(&["IF", "EXISTS"]);
    let tables = cursor.list(|cursor| parse_table(cursor, session))?;
    if cursor.take(&["PURGE"]) {
        let message = "DROP TABLE ... PURGE is not there in SQL; purge the table with the maintenance function purge_table";
        return Err(Error::unsupported(message));
    }
    Ok(DropTables { tables, if_exists })
}

impl CreateTable {
    /// Creates the table, with the rows of its query.
    pub(super) async fn run(&self, session: &Session, input: Option<Input>) -> Result<()> {
        let ident = &self.ident;
        if self.if_not_exists && session.catalog().table_exists(ident).await? {
            return Ok(());
        }
        if ident.name().contains('.') {
            let message = "a new table's name has no dots; its namespace stands before it";
            return Err(Error::invalid_input(message).with("table", ident.name()));
        }
        let created = self.create(session, input).await;
        match created {
            Err(e)
                if self.if_not_exists
                    && e.kind() == ErrorKind::AlreadyExists
                    && session.catalog().table_exists(ident).await? =>
            {
                Ok(())
            }
            other => other,
        }
    }

    async fn create(&self, session: &Session, input: Option<Input>) -> Result<()> {
        let (ident, options) = (&self.ident, &self.options);
        let replaces = self.or_replace && session.catalog().table_exists(ident).await?;
        let Some(Input { plan, context, looks }) = input else {
            let fields = self.fields(session)?;
            if replaces {
                return replace(session, ident, fields.into(), options, None, &Looks::default()).await;
            }
            let name = format!("{}.{}", ident.namespace().as_ref().join("."), ident.name());
            return session.create_table(name, fields).options(options.clone()).await.map(drop);
        };
        match replaces {
            true => {
                let schema = plan.schema();
                replace(session, ident, schema.into(), options, Some((plan, context)), &looks).await
            }
            false => create_as(session, ident, options, (plan, context)).await,
        }
    }

    fn fields(&self, session: &Session) -> Result<Vec<NestedFieldRef>> {
        if let Some(column) = self.columns.iter().find(|column| column.default.is_some())
            && self.options.version()? < FormatVersion::V3
        {
            let message = "a column's DEFAULT needs format version 3; say TBLPROPERTIES ('format-version' = '3'), or leave it out";
            return Err(Error::unsupported(message).with("column", &column.path));
        }
        let state = session.context().state();
        let clock = &**session.catalog().clock();
        self.columns.iter().map(|column| column.field(&state, clock)).collect()
    }
}

impl DropTables {
    /// Drops the tables, whatever state they are in, and none where one is missing. Their files stay.
    pub(super) async fn run(&self, session: &Session) -> Result<()> {
        for ident in self.tables.iter().filter(|_| !self.if_exists) {
            if !session.catalog().table_exists(ident).await? {
                return Err(Error::not_found("no such table; none was dropped").with("table", ident));
            }
        }
        for ident in &self.tables {
            match session.catalog().drop_table(ident).await {
                Err(e) if e.kind() == ErrorKind::NotFound && self.if_exists => {}
                dropped => dropped?,
            }
        }
        Ok(())
    }
}

impl fmt::Display for CreateTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let replace = if self.or_replace { "OR REPLACE " } else { "" };
        let query = if self.has_query { " AS" } else { "" };
        write!(f, "CREATE {replace}TABLE {}{query}", self.ident)
    }
}

impl fmt::Display for DropTables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tables = self.tables.iter().map(ToString::to_string).collect::<Vec<_>>();
        write!(f, "DROP TABLE {}", tables.join(", "))
    }
}
