//! The clauses `[FOR] VERSION | TIMESTAMP AS OF` among a statement's tokens.
//!
//! The parser reads versions of tables in two spellings, and not all values. So each clause gets one of
//! these: `FOR SYSTEM_TIME AS OF` says a version, `TIMESTAMP AS OF` a time, and both take any expression. The
//! tokens keep their places, for messages. The table that an `INSERT` writes to has no version in the
//! parser's tree: there the clause is taken out, and kept beside it.

use datafusion::sql::sqlparser::keywords::{Keyword, RESERVED_FOR_COLUMN_ALIAS, RESERVED_FOR_TABLE_ALIAS};
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};
use icefield_core::{Error, Result};

/// Words that an expression follows: a `version AS of` after them is a column's.
const BEFORE_EXPRESSIONS: [Keyword; 17] = [
    Keyword::SELECT,
    Keyword::DISTINCT,
    Keyword::ALL,
    Keyword::NOT,
    Keyword::AND,
    Keyword::OR,
    Keyword::LIKE,
    Keyword::ILIKE,
    Keyword::BETWEEN,
    Keyword::FROM,
    Keyword::JOIN,
    Keyword::CASE,
    Keyword::WHEN,
    Keyword::THEN,
    Keyword::ELSE,
    Keyword::IN,
    Keyword::BY,
];

/// A statement's tokens with its clauses as the parser reads them.
#[derive(Debug)]
pub(super) struct Clauses {
    pub(super) tokens: Vec<TokenWithSpan>,
    /// The branch that an `INSERT` writes to.
    pub(super) branch: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Version,
    Time,
}

impl Clauses {
    /// Finds the clauses of a statement.
    ///
    /// # Errors
    /// [`InvalidInput`](icefield_core::ErrorKind::InvalidInput) for an `INSERT` into what is no branch.
    pub(super) fn find(tokens: Vec<TokenWithSpan>) -> Result<Self> {
        let tokens: Vec<_> =
            tokens.into_iter().filter(|token| !matches!(token.token, Token::Whitespace(_))).collect();
        let mut found = Self { tokens: Vec::with_capacity(tokens.len()), branch: None };
        let mut at = 0;
        while let Some(token) = tokens.get(at) {
            let clause = clause_at(&tokens, at).filter(|_| at > 0);
            let Some((kind, len)) = clause else {
                found.tokens.push(as_plain_word(token, tokens.get(at + 1)));
                at += 1;
                continue;
            };
            at += len;
            if is_written_to(&tokens, at - len - 1) {
                let (branch, len) = branch_at(&tokens, at, kind)?;
                found.branch = Some(branch);
                at += len;
                continue;
            }
            let words: &[&str] = match kind {
                Kind::Version => &["FOR", "SYSTEM_TIME", "AS", "OF"],
                Kind::Time => &["TIMESTAMP", "AS", "OF"],
            };
            let span = token.span;
            found.tokens.extend(words.iter().map(|word| TokenWithSpan::new(Token::make_keyword(word), span)));
        }
        Ok(found)
    }
}

fn keyword(token: Option<&TokenWithSpan>) -> Option<Keyword> {
    match &token?.token {
        Token::Word(word) if word.quote_style.is_none() => Some(word.keyword),
        _ => None,
    }
}

fn is_word(token: Option<&TokenWithSpan>, expected: &[&str]) -> bool {
    match token.map(|token| &token.token) {
        Some(Token::Word(word)) if word.quote_style.is_none() => {
            expected.iter().any(|expected| word.value.eq_ignore_ascii_case(expected))
        }
        _ => false,
    }
}

/// The clause that begins at a token, and how many tokens it has before its value.
fn clause_at(tokens: &[TokenWithSpan], start: usize) -> Option<(Kind, usize)> {
    let is_for = is_word(tokens.get(start), &["FOR"]);
    let at = start + usize::from(is_for);
    let kind = if is_word(tokens.get(at), &["VERSION", "SYSTEM_VERSION"]) {
        Kind::Version
    } else if is_word(tokens.get(at), &["TIMESTAMP", "SYSTEM_TIME"]) {
        Kind::Time
    } else {
        return None;
    };
    if !is_word(tokens.get(at + 1), &["AS"]) || !is_word(tokens.get(at + 2), &["OF"]) {
        return None;
    }
    // Without FOR it could be a column `version` with the alias `of`.
    let is_clause = is_name(tokens, start.checked_sub(1)?) && (is_for || begins_value(tokens.get(at + 3)));
    is_clause.then_some((kind, at + 3 - start))
}

/// True if a token is the last of a table's name.
fn is_name(tokens: &[TokenWithSpan], at: usize) -> bool {
    let Some(Token::Word(word)) = tokens.get(at).map(|token| &token.token) else { return false };
    let qualified =
        at.checked_sub(1).and_then(|before| tokens.get(before)).is_some_and(|t| t.token == Token::Period);
    qualified
        || word.quote_style.is_some()
        || word.keyword == Keyword::NoKeyword
        || !(RESERVED_FOR_COLUMN_ALIAS.contains(&word.keyword)
            || RESERVED_FOR_TABLE_ALIAS.contains(&word.keyword)
            || BEFORE_EXPRESSIONS.contains(&word.keyword))
}

fn begins_value(token: Option<&TokenWithSpan>) -> bool {
    match token.map(|token| &token.token) {
        Some(Token::Word(word)) => {
            word.quote_style.is_some()
                || !(RESERVED_FOR_COLUMN_ALIAS.contains(&word.keyword)
                    || RESERVED_FOR_TABLE_ALIAS.contains(&word.keyword)
                    || word.keyword == Keyword::FROM)
        }
        Some(
            Token::Number(..)
            | Token::SingleQuotedString(_)
            | Token::EscapedStringLiteral(_)
            | Token::Placeholder(_)
            | Token::Minus
            | Token::Plus
            | Token::LParen,
        ) => true,
        _ => false,
    }
}

/// True if the table whose name ends at a token is one that an `INSERT` writes to.
fn is_written_to(tokens: &[TokenWithSpan], last: usize) -> bool {
    let mut first = last;
    while first >= 2 && tokens.get(first - 1).is_some_and(|t| t.token == Token::Period) {
        first -= 2;
    }
    let before = |back: usize| keyword(first.checked_sub(back).and_then(|at| tokens.get(at)));
    let verb = if before(1) == Some(Keyword::TABLE) { before(2) } else { before(1) };
    let back = if before(1) == Some(Keyword::TABLE) { 3 } else { 2 };
    match verb {
        Some(Keyword::OVERWRITE) => true,
        // SELECT ... INTO names a new table.
        Some(Keyword::INTO) => {
            matches!(before(back), Some(Keyword::INSERT | Keyword::REPLACE | Keyword::OVERWRITE))
        }
        _ => false,
    }
}

/// The branch at a token, and how many tokens it has.
fn branch_at(tokens: &[TokenWithSpan], at: usize, kind: Kind) -> Result<(String, usize)> {
    let refused = || {
        let error = Error::invalid_input(
            "an earlier snapshot can't be inserted into; insert into the table, or into a branch in quotes: INSERT INTO t FOR \
             VERSION AS OF 'branch'",
        );
        let place = tokens.get(at).map(|token| token.span.start);
        match place {
            Some(place) => error.with("at", format!("line {}, column {}", place.line, place.column)),
            None => error,
        }
    };
    match tokens.get(at).map(|token| &token.token) {
        Some(Token::SingleQuotedString(name)) if kind == Kind::Version => Ok((name.clone(), 1)),
        _ => Err(refused()),
    }
}

/// The parser would take an alias `changes`, `before` or `at` for a version that this library does not have.
fn as_plain_word(token: &TokenWithSpan, next: Option<&TokenWithSpan>) -> TokenWithSpan {
    let mut token = token.clone();
    if let Token::Word(word) = &mut token.token {
        let is_plain = match word.keyword {
            Keyword::CHANGES | Keyword::BEFORE => true,
            Keyword::AT => keyword(next) != Some(Keyword::TIME),
            _ => false,
        };
        if is_plain {
            word.keyword = Keyword::NoKeyword;
        }
    }
    token
}

#[cfg(test)]
mod tests {
    use datafusion::sql::sqlparser::tokenizer::Tokenizer;

    use super::*;
    use crate::sql::dialect::VersionedDialect;

    fn found(query: &str) -> Clauses {
        let tokens = Tokenizer::new(&VersionedDialect, query).tokenize_with_location().unwrap();
        Clauses::find(tokens).unwrap()
    }

    fn text(clauses: &Clauses) -> String {
        let words = clauses.tokens.iter().map(|token| token.token.to_string());
        words.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn clauses_after_tables_are_found_in_every_spelling() {
        for (query, expected) in [
            ("t FOR VERSION AS OF 1", "t FOR SYSTEM_TIME AS OF 1"),
            ("ns.t VERSION AS OF 'x' a", "ns . t FOR SYSTEM_TIME AS OF 'x' a"),
            ("t for system_version as of -1", "t FOR SYSTEM_TIME AS OF - 1"),
            ("\"My T\" FOR SYSTEM_TIME AS OF now()", "\"My T\" TIMESTAMP AS OF now ( )"),
            ("a.user TIMESTAMP AS OF $1", "a . user TIMESTAMP AS OF $1"),
            ("t FOR TIMESTAMP AS OF TIMESTAMP '2024'", "t TIMESTAMP AS OF TIMESTAMP '2024'"),
        ] {
            let clauses = found(&format!("SELECT 1 FROM {query}"));
            assert_eq!(text(&clauses), format!("SELECT 1 FROM {expected}"));
            assert_eq!(clauses.branch, None);
        }
    }

    #[test]
    fn columns_and_aliases_of_such_names_are_no_clauses() {
        for query in [
            "SELECT version AS of FROM t",
            "SELECT a , version AS of , b FROM t",
            "SELECT a LIKE version AS of FROM t",
            "SELECT timestamp AS of",
            "SELECT 'FOR VERSION AS OF 1'",
            "SELECT * FROM version AS of WHERE true",
            "SELECT * FROM version AS of ( a )",
            "SELECT * FROM t changes , u before , v at WHERE a AT TIME ZONE 'UTC'",
        ] {
            assert_eq!(text(&found(query)), query);
        }
    }

    #[test]
    fn the_branch_of_an_insert_is_taken_out() {
        for (query, expected) in [
            ("INSERT INTO ns.t FOR VERSION AS OF 'b' SELECT 1", "INSERT INTO ns . t SELECT 1"),
            (
                "EXPLAIN INSERT INTO TABLE c.ns.t VERSION AS OF 'b' (id) VALUES (1)",
                "EXPLAIN INSERT INTO TABLE c . ns . t ( id ) VALUES ( 1 )",
            ),
            ("INSERT OVERWRITE t VERSION AS OF 'b' SELECT * FROM t", "INSERT OVERWRITE t SELECT * FROM t"),
        ] {
            let clauses = found(query);
            assert_eq!((text(&clauses).as_str(), clauses.branch.as_deref()), (expected, Some("b")));
        }
        for value in ["17", "-1", "$1", "now()"] {
            let query = format!("INSERT INTO t FOR VERSION AS OF {value} VALUES (1)");
            let tokens = Tokenizer::new(&VersionedDialect, &query).tokenize_with_location().unwrap();
            assert!(Clauses::find(tokens).is_err(), "{query}");
        }
    }

    #[test]
    fn tokens_keep_their_places() {
        let clauses = found("SELECT *\n FROM t FOR VERSION AS OF 'x' WHERE nope");
        let last = clauses.tokens.iter().find(|token| token.token.to_string() == "nope").unwrap();
        assert_eq!((last.span.start.line, last.span.start.column), (2, 37));
    }
}
