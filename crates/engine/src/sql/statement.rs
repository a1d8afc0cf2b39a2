//! Statements of this library's own among those of DataFusion's.

use datafusion::logical_expr::ExplainOption;
use datafusion::logical_expr::logical_plan::ExplainFormat;
use datafusion::sql::sqlparser::ast::Query;
use datafusion::sql::sqlparser::tokenizer::Token;
use icefield_core::{Error, Result};

use super::command::Command;
use super::cursor::Cursor;
use super::names::named_table;
use super::namespaces::{self, NAMESPACE};
use super::show::{NAMESPACES, Show};
use super::{alter, tables};
use crate::error::from_datafusion;
use crate::session::Session;

/// A statement about the catalog.
#[derive(Debug)]
pub(super) enum Own {
    /// With the query of `CREATE TABLE AS`.
    Command(Box<Command>, Option<Box<Query>>),
    Show(Show),
}

/// A statement about the catalog, and how it is to be explained, if it is.
#[derive(Debug)]
pub(super) struct OwnStatement {
    pub(super) statement: Own,
    pub(super) explain: Option<ExplainOption>,
}

impl OwnStatement {
    /// Reads a statement, if it is one about the catalog; else the cursor stays where it is.
    ///
    /// # Errors
    /// Those of each statement.
    pub(super) fn parse(cursor: &mut Cursor<'_, '_>, session: &Session) -> Result<Option<Self>> {
        let explained = cursor.ahead(|cursor| {
            parse_explain(cursor)?;
            Ok(Kind::of(cursor, session))
        });
        if let Some(Some(kind)) = explained {
            let explain = Some(parse_explain(cursor)?);
            return kind.parse(cursor, session).map(|statement| Some(Self { statement, explain }));
        }
        match Kind::of(cursor, session) {
            Some(kind) => {
                kind.parse(cursor, session).map(|statement| Some(Self { statement, explain: None }))
            }
            None => Ok(None),
        }
    }
}

/// `EXPLAIN [ANALYZE] [VERBOSE] [FORMAT name]`
fn parse_explain(cursor: &mut Cursor<'_, '_>) -> Result<ExplainOption> {
    cursor.expect(&["EXPLAIN"])?;
    let mut explain = ExplainOption::default();
    explain = explain.with_analyze(cursor.take(&["ANALYZE"])).with_verbose(cursor.take(&["VERBOSE"]));
    if cursor.take(&["FORMAT"]) {
        let name = cursor.name()?;
        let format: ExplainFormat = name.parse().map_err(from_datafusion)?;
        explain = explain.with_format(format);
    }
    Ok(explain)
}

/// The statements about the catalog, by how they begin.
#[derive(Debug, Clone, Copy)]
enum Kind {
    CreateTable,
    CreateNamespace,
    DropTable,
    DropNamespace,
    AlterTable,
    Show,
    Describe,
}

impl Kind {
    fn of(cursor: &mut Cursor<'_, '_>, session: &Session) -> Option<Self> {
        if cursor.is_next(&["CREATE"]) {
            return Self::of_create(cursor, session);
        }
        if cursor.is_next(&["DROP", "TABLE"]) {
            let named = cursor.ahead(|cursor| {
                cursor.expect(&["DROP", "TABLE"])?;
                cursor.take(&["IF", "EXISTS"]);
                is_catalogs(cursor, session)
            });
            return named.filter(|is| *is).map(|_| Self::DropTable);
        }
        if cursor.is_next(&["DROP"]) && cursor.is_at(1, &NAMESPACE) {
            return Some(Self::DropNamespace);
        }
        if cursor.is_next(&["ALTER", "TABLE"]) {
            return Some(Self::AlterTable);
        }
        if cursor.is_next(&["SHOW"]) {
            let alone =
                cursor.is_at(1, &NAMESPACES) || cursor.is_at(1, &["TABLES", "PARTITIONS", "TBLPROPERTIES"]);
            let named = |cursor: &mut Cursor<'_, '_>, words: &[&str]| {
                let named = cursor.ahead(|cursor| {
                    cursor.expect(words)?;
                    is_catalogs(cursor, session)
                });
                named == Some(true)
            };
            let is_own = alone
                || named(cursor, &["SHOW", "COLUMNS", "IN"])
                || named(cursor, &["SHOW", "COLUMNS", "FROM"])
                || named(cursor, &["SHOW", "CREATE", "TABLE"]);
            return is_own.then_some(Self::Show);
        }
        if cursor.is_at(0, &["DESCRIBE", "DESC"]) {
            let described = cursor.ahead(|cursor| {
                cursor.take_one(&["DESCRIBE", "DESC"]);
                cursor.take(&["TABLE"]);
                cursor.take_one(&["EXTENDED", "FORMATTED"]);
                Ok(is_catalogs(cursor, session)? && cursor.is_end())
            });
            return described.filter(|is| *is).map(|_| Self::Describe);
        }
        None
    }

    fn of_create(cursor: &mut Cursor<'_, '_>, session: &Session) -> Option<Self> {
        if cursor.is_at(1, &NAMESPACE) {
            return Some(Self::CreateNamespace);
        }
        let named = cursor.ahead(|cursor| {
            cursor.expect(&["CREATE"])?;
            cursor.take(&["OR", "REPLACE"]);
            cursor.expect(&["TABLE"])?;
            cursor.take(&["IF", "NOT", "EXISTS"]);
            is_catalogs(cursor, session)
        });
        named.filter(|is| *is).map(|_| Self::CreateTable)
    }

    fn parse(self, cursor: &mut Cursor<'_, '_>, session: &Session) -> Result<Own> {
        let catalog = session.catalog().name();
        let command = |command| Own::Command(Box::new(command), None);
        let statement = match self {
            Self::CreateTable => {
                cursor.expect(&["CREATE"])?;
                let or_replace = cursor.take(&["OR", "REPLACE"]);
                cursor.expect(&["TABLE"])?;
                let (create, query) = tables::parse_create(cursor, session, or_replace)?;
                Own::Command(Box::new(Command::CreateTable(create)), query)
            }
            Self::CreateNamespace => {
                cursor.expect(&["CREATE"])?;
                cursor.take_one(&NAMESPACE);
                command(Command::CreateNamespace(namespaces::parse_create(cursor, catalog)?))
            }
            Self::DropTable => {
                cursor.expect(&["DROP", "TABLE"])?;
                command(Command::DropTables(tables::parse_drop(cursor, session)?))
            }
            Self::DropNamespace => {
                cursor.expect(&["DROP"])?;
                cursor.take_one(&NAMESPACE);
                command(Command::DropNamespace(namespaces::parse_drop(cursor, catalog)?))
            }
            Self::AlterTable => {
                cursor.expect(&["ALTER", "TABLE"])?;
                command(Command::AlterTable(alter::parse(cursor, session)?))
            }
            Self::Show => {
                cursor.expect(&["SHOW"])?;
                Own::Show(Show::parse(cursor, session)?)
            }
            Self::Describe => {
                cursor.take_one(&["DESCRIBE", "DESC"]);
                Own::Show(Show::parse_describe(cursor, session)?)
            }
        };
        if !cursor.is_end() {
            return cursor.wrong("end of statement");
        }
        while cursor.take_token(&Token::SemiColon) {}
        if cursor.is_token(&Token::EOF) { Ok(statement) } else { Err(several()) }
    }
}

/// True if the name that comes next is one of the catalog.
fn is_catalogs(cursor: &mut Cursor<'_, '_>, session: &Session) -> Result<bool> {
    let name = cursor.object()?;
    Ok(named_table(&name, session)?.is_some())
}

/// Refuses several statements in one text.
pub(super) fn several() -> Error {
    Error::unsupported("a text holds one statement; run several one after the other")
}
