//! From a statement's text to its tree.

use datafusion::common::config::{Dialect as DialectName, SqlParserOptions};
use datafusion::common::{DataFusionError, plan_datafusion_err};
use datafusion::sql::parser::{DFParserBuilder, Statement};
use datafusion::sql::sqlparser::dialect::{Dialect, dialect_from_str};
use datafusion::sql::sqlparser::parser::ParserError;
use datafusion::sql::sqlparser::tokenizer::Tokenizer;
use icefield_core::{Error, Result};

use super::clause::Clauses;
use super::cursor::Cursor;
use super::dialect::VersionedDialect;
use super::statement::{OwnStatement, several};
use crate::error::from_datafusion;
use crate::session::Session;

/// A statement as it was written.
#[derive(Debug)]
pub(super) enum Parsed {
    /// One about the catalog.
    Own(OwnStatement),
    /// One of DataFusion's.
    Plain {
        statement: Statement,
        /// The branch that an `INSERT` writes to.
        branch: Option<String>,
    },
}

/// Parses one statement.
///
/// # Errors
/// [`InvalidInput`](icefield_core::ErrorKind::InvalidInput) with the place;
/// [`Unsupported`](icefield_core::ErrorKind::Unsupported) for several statements.
pub(super) fn parse(query: &str, session: &Session, options: &SqlParserOptions) -> Result<Parsed> {
    let dialect = dialect(options.dialect)?;
    let tokens = Tokenizer::new(&*dialect, query)
        .tokenize_with_location()
        .map_err(|e| from_datafusion(DataFusionError::from(ParserError::from(e))))?;
    let Clauses { tokens, branch } = Clauses::find(tokens)?;
    let mut parser = DFParserBuilder::new(tokens)
        .with_dialect(&*dialect)
        .with_recursion_limit(options.recursion_limit)
        .build()
        .map_err(from_datafusion)?;
    let mut cursor = Cursor::new(&mut parser.parser, options.enable_ident_normalization);
    if let Some(own) = OwnStatement::parse(&mut cursor, session)? {
        return Ok(Parsed::Own(own));
    }
    let mut statements = parser.parse_statements().map_err(from_datafusion)?;
    let Some(statement) = statements.pop_front() else {
        return Err(Error::invalid_input("there is no statement in the text"));
    };
    if !statements.is_empty() {
        return Err(several());
    }
    Ok(Parsed::Plain { statement, branch })
}

/// The dialect of a session: the library's own where it says nothing else.
fn dialect(name: DialectName) -> Result<Box<dyn Dialect>> {
    if name == DialectName::Generic {
        return Ok(Box::new(VersionedDialect));
    }
    dialect_from_str(name).ok_or_else(|| from_datafusion(plan_datafusion_err!("no such SQL dialect: {name}")))
}
