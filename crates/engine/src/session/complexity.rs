//! How deep a statement is: what the parser, the planner and the optimizer go down into by recursion, and what some optimizer
//! rules take time for that grows much faster than the statement.
//!
//! A few kilobytes of `1 + 1 + 1 ...` would otherwise use up a thread's stack, which ends the process. The parser bounds brackets
//! itself, and neither chains of operators nor types. So a statement's tokens are weighed before they are parsed.

use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};
use icefield_core::{Error, Result};

/// What one table more to be joined, and one query more, weigh in operators.
const TABLE: usize = 5;
const QUERY: usize = 2;
/// How deep brackets, types, and explanations of explanations may be.
const MAX_DEPTH: usize = 48;

/// Refuses a statement that weighs more than `most` operators, or that is too deep for the parser.
///
/// # Errors
/// [`InvalidInput`](icefield_core::ErrorKind::InvalidInput).
pub(super) fn check(query: &str, most: usize) -> Result<()> {
    // What can't be split into tokens is the parser's to refuse.
    let Ok(tokens) = Tokenizer::new(&GenericDialect {}, query).tokenize() else { return Ok(()) };
    let (weight, depth) = weigh(&tokens);
    if depth > MAX_DEPTH {
        let message =
            "the statement has too many brackets or types inside each other, or too many explanations";
        return Err(Error::invalid_input(message).with("depth", depth).with("limit", MAX_DEPTH));
    }
    if weight <= most {
        return Ok(());
    }
    let message = "the statement has too many operators, tables and queries to be planned safely; write IN (...) for many \
                   comparisons and VALUES for many rows, or raise the limit (SqlOptions::complexity_limit)";
    Err(Error::invalid_input(message).with("operators", weight).with("limit", most))
}

/// A statement's weight in operators, and how deep its brackets, types and `EXPLAIN`s may be.
fn weigh(tokens: &[Token]) -> (usize, usize) {
    let (mut weight, mut types, mut explains, mut brackets) = (0_usize, 0_usize, 0_usize, 0_usize);
    // Whether commas are between tables, for each bracket that is open.
    let mut in_from = vec![false];
    for (at, token) in tokens.iter().enumerate() {
        let set_from = |in_from: &mut Vec<bool>, is_from: bool| {
            if let Some(last) = in_from.last_mut() {
                *last = is_from;
            }
        };
        match token {
            Token::Word(word) if word.quote_style.is_none() => match word.keyword {
                Keyword::SELECT | Keyword::UNION | Keyword::EXCEPT | Keyword::INTERSECT => {
                    weight += QUERY;
                    set_from(&mut in_from, false);
                }
                Keyword::FROM => {
                    weight += 1;
                    set_from(&mut in_from, true);
                }
                Keyword::JOIN => weight += TABLE,
                Keyword::WHERE | Keyword::GROUP | Keyword::ORDER | Keyword::HAVING | Keyword::LIMIT => {
                    set_from(&mut in_from, false);
                }
                Keyword::EXPLAIN | Keyword::DESCRIBE | Keyword::DESC => explains += 1,
                Keyword::ARRAY | Keyword::MAP | Keyword::STRUCT
                    if matches!(next(tokens, at), Some(Token::Lt | Token::Neq | Token::LParen)) =>
                {
                    types += 1;
                }
                Keyword::AND
                | Keyword::OR
                | Keyword::XOR
                | Keyword::NOT
                | Keyword::IS
                | Keyword::LIKE
                | Keyword::ILIKE
                | Keyword::BETWEEN
                | Keyword::COLLATE
                | Keyword::AT
                | Keyword::DIV
                | Keyword::WHEN
                | Keyword::OVERLAPS
                | Keyword::SIMILAR
                | Keyword::OPERATOR => weight += 1,
                _ => {}
            },
            Token::Comma if in_from.last() == Some(&true) => weight += TABLE,
            Token::LParen => {
                in_from.push(false);
                brackets = brackets.max(in_from.len() - 1);
            }
            Token::RParen => {
                in_from.pop();
                if in_from.is_empty() {
                    in_from.push(false);
                }
            }
            Token::LBracket => weight += 1,
            Token::Comma
            | Token::Word(_)
            | Token::Number(..)
            | Token::Char(_)
            | Token::SingleQuotedString(_)
            | Token::DoubleQuotedString(_)
            | Token::Whitespace(_)
            | Token::Period
            | Token::SemiColon
            | Token::RBracket
            | Token::EOF => {}
            // Whatever else there is stands between operands, or before one.
            _ => weight += 1,
        }
    }
    (weight, types.max(explains).max(brackets))
}

/// The token after one, whitespace aside.
fn next(tokens: &[Token], at: usize) -> Option<&Token> {
    tokens.iter().skip(at + 1).find(|token| !matches!(token, Token::Whitespace(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_gone_down_into_weighs_and_lists_do_not() {
        let weight = |query: &str| weigh(&Tokenizer::new(&GenericDialect {}, query).tokenize().unwrap()).0;
        let many = |with: &str, one: &str| vec![one; 1000].join(with);
        for light in [
            format!("SELECT {} FROM t", many(", ", "a")),
            format!("SELECT a FROM t WHERE a IN ({})", many(", ", "7")),
            format!("VALUES {}", many(", ", "(1, 'a', 2.5, NULL)")),
            format!("INSERT INTO t (a) VALUES {}", many(", ", "(1)")),
            format!("SELECT '{}'", many(" + ", "1")),
            format!("SELECT 1 -- {}", many(" OR ", "a")),
        ] {
            assert!(weight(&light) < 20, "{} of {}", weight(&light), &light[..40]);
        }
        for heavy in [
            format!("SELECT {}", many(" + ", "1")),
            format!("SELECT a FROM t WHERE {}", many(" or ", "a")),
            format!("SELECT {}", many("||", "'a'")),
            format!("SELECT 1{}", "::BIGINT".repeat(1000)),
            format!("SELECT a{}", "[1]".repeat(1000)),
            format!("SELECT a{}", " IS NULL".repeat(1000)),
            format!("SELECT {}", many("->", "'a'")),
            format!("SELECT {}", many(" COLLATE ", "a")),
            format!("SELECT {}", many(" AT TIME ZONE ", "a")),
            many(" UNION ALL ", "SELECT 1"),
            format!("SELECT 1 FROM {}", many(", ", "t")),
            format!("SELECT 1 FROM {}", many(" NATURAL JOIN ", "t")),
            format!("SELECT 1 FROM (SELECT 1 FROM {})", many(", ", "t")),
            format!("WITH {} SELECT 1", many(", ", "a AS (SELECT 1)")),
        ] {
            assert!(weight(&heavy) >= 999, "{} of {}", weight(&heavy), &heavy[..40]);
        }
        for deep in ["ARRAY<", "EXPLAIN ", "STRUCT<a ", "MAP<INT, ", "NULLABLE(", "("] {
            assert!(check(&format!("{}1", deep.repeat(100)), usize::MAX).is_err(), "{deep}");
        }
    }
}
