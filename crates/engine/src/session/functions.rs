//! The SQL table functions `appends('namespace.table', from, to)`, rows that were appended between two snapshots, and
//! `changes('namespace.table', from, to)`, every change of rows between them.
//!
//! DataFusion makes tables of functions where nothing can be awaited, and these load a table. So, as with versions, the call
//! becomes, before parsing, a name that the catalog takes apart again.

use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer};
use icefield_core::catalog::parse_ident;
use icefield_core::{AsOf, Result};

use super::time_travel::{Lines, is_alias, quoted};
use crate::changes::Start;
use crate::table::{IntoAsOf, Table};

/// A table function over two snapshots of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Function {
    Appends,
    Changes,
}

impl Function {
    const ALL: [Self; 2] = [Self::Appends, Self::Changes];

    fn as_str(self) -> &'static str {
        match self {
            Self::Appends => "appends",
            Self::Changes => "changes",
        }
    }

    /// What is between a table's name and the first snapshot.
    fn first_marker(self) -> String {
        format!("@{}-from=", self.as_str())
    }
}

/// What is between the two snapshots.
const TO: &str = "@to=";

/// What stands for the first snapshot where that is NULL. No reference has a name like it.
const BEGINNING: &str = "@beginning";

/// A call that [`rewrite`] made a name.
#[derive(Debug, PartialEq)]
pub(super) struct Call<'a> {
    function: Function,
    /// The table's name, without its namespace.
    pub(super) table: &'a str,
    from: &'a str,
    to: &'a str,
}

impl<'a> Call<'a> {
    /// Takes a name apart.
    pub(super) fn of(name: &'a str) -> Option<Self> {
        Function::ALL.into_iter().find_map(|function| {
            let (table, range) = name.split_once(&function.first_marker())?;
            let (from, to) = range.split_once(TO)?;
            Some(Self { function, table, from, to })
        })
    }

    /// The rows that the call stands for.
    pub(super) async fn provider(&self, table: &Table) -> Result<Arc<dyn TableProvider>> {
        let from = match self.from {
            BEGINNING => Start::Beginning,
            from => Start::After(argument(table, from)?),
        };
        let to = argument(table, self.to)?;
        match self.function {
            Function::Appends => table.appends_provider(&from, &to).await,
            Function::Changes => Ok(table.changes_between(from, to)?.await?.into_view()),
        }
    }
}

/// The snapshot that an argument means: a snapshot id, though it be expired, or a branch, a tag or a time.
fn argument(table: &Table, value: &str) -> Result<AsOf> {
    let table = table.core();
    match value.parse() {
        Ok(id) if table.metadata().snapshot_by_id(id).is_some() || table.reference(value).is_none() => {
            Ok(AsOf::Snapshot(id))
        }
        _ => value.into_as_of(table),
    }
}

/// A query with its calls folded into the names of tables.
///
/// # Errors
/// [`InvalidInput`](icefield_core::ErrorKind::InvalidInput) when the first argument is not `namespace.table`.
pub(super) fn rewrite(query: String) -> Result<String> {
    let lower = query.to_ascii_lowercase();
    if Function::ALL.iter().all(|function| !lower.contains(function.as_str())) {
        return Ok(query);
    }
    let Ok(tokens) = Tokenizer::new(&GenericDialect {}, &query).with_unescape(false).tokenize_with_location()
    else {
        return Ok(query);
    };
    let tokens: Vec<TokenWithSpan> =
        tokens.into_iter().filter(|t| !matches!(t.token, Token::Whitespace(_))).collect();
    let lines = Lines::new(&query);
    let (mut out, mut copied, mut at) = (String::new(), 0, 0);
    while at < tokens.len() {
        let Some(call) = call_at(&tokens, at) else {
            at += 1;
            continue;
        };
        let start = tokens.get(at).and_then(|t| lines.byte(t.span.start));
        let end = tokens.get(call.last).and_then(|t| lines.byte(t.span.end));
        let (Some(start), Some(end)) = (start, end) else { break };
        let ident = parse_ident(&call.table)?;
        let (namespace, name) = (ident.namespace().as_ref().join("."), ident.name());
        let first_marker = call.function.first_marker();
        out.push_str(query.get(copied..start).unwrap_or_default());
        out.push_str(&quoted(&namespace));
        out.push('.');
        out.push_str(&quoted(&format!("{name}{first_marker}{}{TO}{}", call.from, call.to)));
        if !is_alias(tokens.get(call.last + 1)) {
            out.push_str(&format!(" AS {}", quoted(name)));
        }
        copied = end;
        at = call.last + 1;
    }
    out.push_str(query.get(copied..).unwrap_or_default());
    Ok(out)
}

/// A call in a query.
struct Found {
    function: Function,
    table: String,
    from: String,
    to: String,
    /// The index of its last token.
    last: usize,
}

fn call_at(tokens: &[TokenWithSpan], start: usize) -> Option<Found> {
    let function = match &tokens.get(start)?.token {
        Token::Word(word) if word.quote_style.is_none() => {
            let named = |function: &Function| word.value.eq_ignore_ascii_case(function.as_str());
            Function::ALL.into_iter().find(named)?
        }
        _ => return None,
    };
    let mut rest = tokens.iter().enumerate().skip(start + 1);
    let mut next = || rest.next().map(|(at, token)| (at, &token.token));
    next().filter(|(_, token)| **token == Token::LParen)?;
    let (_, Token::SingleQuotedString(table)) = next()? else { return None };
    let mut values = Vec::new();
    for _ in 0..2 {
        next().filter(|(_, token)| **token == Token::Comma)?;
        values.push(match next()?.1 {
            Token::Number(number, _) => number.clone(),
            Token::SingleQuotedString(text) => text.replace("''", "'"),
            Token::Minus => match next()?.1 {
                Token::Number(number, _) => format!("-{number}"),
                _ => return None,
            },
            Token::Word(word) if word.keyword == Keyword::NULL && values.is_empty() => BEGINNING.to_string(),
            _ => return None,
        });
    }
    let (last, _) = next().filter(|(_, token)| **token == Token::RParen)?;
    let (to, from) = (values.pop()?, values.pop()?);
    Some(Found { function, table: table.replace("''", "'"), from, to, last })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_becomes_a_name_that_comes_apart_again() {
        for (query, expected) in [
            (
                "SELECT * FROM appends('a.b.t', 1, -2) WHERE x",
                "SELECT * FROM \"a.b\".\"t@appends-from=1@to=-2\" AS \"t\" WHERE x",
            ),
            (
                "SELECT 'é' FROM APPENDS ('n.t', 'it''s', '2024-01-01') a, u",
                "SELECT 'é' FROM \"n\".\"t@appends-from=it's@to=2024-01-01\" a, u",
            ),
            (
                "SELECT * FROM changes('n.t', 1, 2) JOIN Changes('n.u', 'a', 'b') AS u",
                "SELECT * FROM \"n\".\"t@changes-from=1@to=2\" AS \"t\" JOIN \"n\".\"u@changes-from=a@to=b\" AS u",
            ),
            ("SELECT 'appends(''n.t'', 1, 2)'", "SELECT 'appends(''n.t'', 1, 2)'"),
            ("SELECT appends FROM changes", "SELECT appends FROM changes"),
            ("SELECT * FROM appends('n.t', 1)", "SELECT * FROM appends('n.t', 1)"),
        ] {
            assert_eq!(rewrite(query.to_string()).unwrap(), expected);
        }
        let call = Call { function: Function::Changes, table: "t", from: "1", to: "2" };
        assert_eq!(Call::of("t@changes-from=1@to=2"), Some(call));
        assert_eq!(Call::of("t"), None);
        assert!(rewrite("SELECT * FROM appends('t', 1, 2)".to_string()).is_err());
    }
}
