//! How deep a statement is: what the parser, the planner and the optimizer go down into by recursion, and what some optimizer
//! rules take time for that grows much faster than the statement.
//!
//! A few kilobytes of `1 + 1 + 1 ...` would otherwise use up a thread's stack, which ends the process. The parser bounds brackets
//! itself, and neither chains of operators nor types. So a statement's tokens are weighed before they are parsed.
//!
//! A common table is planned anew wherever it is named: thirty that name the one before twice are a billion. So what names one weighs
//! as much as it does. And a filter that is moved below projections has their expressions in the place of its columns: thirty times
//! `n + n AS n` are a billion as well. So what would come of it is counted before the plan is optimized ([`check_plan`]).

use std::collections::HashMap;

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};
use icefield_core::{Error, Result};

use crate::error::from_datafusion;

/// What one table more to be joined, and one query more, weigh in operators.
const TABLE: usize = 5;
const QUERY: usize = 2;
/// How deep brackets, types, and explanations of explanations may be.
const MAX_DEPTH: usize = 48;
/// How much more than its operators a statement may weigh once common tables stand where they are named, and expressions where their
/// columns are.
const EXPANDED: usize = 20;
/// The tokens that there may be for each operator: planning takes time by the square of the columns.
const TOKENS: usize = 250;

/// Refuses a statement that weighs more than `most` operators, or that is too deep for the parser.
///
/// # Errors
/// [`InvalidInput`](icefield_core::ErrorKind::InvalidInput).
pub(super) fn check(query: &str, most: usize) -> Result<()> {
    // What can't be split into tokens is the parser's to refuse.
    let Ok(tokens) = Tokenizer::new(&GenericDialect {}, query).tokenize() else { return Ok(()) };
    let Weight { operators, expanded, depth } = Weight::of(&tokens);
    let too_much = |message: &str, found: usize, limit: usize| {
        Err(Error::invalid_input(message).with("found", found).with("limit", limit))
    };
    if depth > MAX_DEPTH {
        return too_much(
            "the statement has too many brackets or types inside each other, or too many explanations",
            depth,
            MAX_DEPTH,
        );
    }
    if operators > most {
        return too_much(
            "the statement has too many operators, tables and queries to be planned safely; write IN (...) for many comparisons and \
             VALUES for many rows, or raise the limit (SqlOptions::complexity_limit)",
            operators,
            most,
        );
    }
    let most_expanded = most.saturating_mul(EXPANDED);
    if expanded > most_expanded {
        return too_much(
            "the statement names its common tables (WITH) too often to be planned safely, each of which is planned wherever it is named, \
             or has a CUBE of too many columns; name them less often, or raise the limit (SqlOptions::complexity_limit)",
            expanded,
            most_expanded,
        );
    }
    let words = tokens.iter().filter(|token| !matches!(token, Token::Whitespace(_))).count();
    if words > most.saturating_mul(TOKENS) {
        return too_much(
            "the statement is too long to be planned safely; ask for fewer columns and values, or raise the limit \
             (SqlOptions::complexity_limit)",
            words,
            most.saturating_mul(TOKENS),
        );
    }
    Ok(())
}

/// Refuses a plan whose filters, joins and orders are of expressions that become too many once they stand where their columns are.
///
/// # Errors
/// [`InvalidInput`](icefield_core::ErrorKind::InvalidInput).
pub(super) fn check_plan(plan: &LogicalPlan, most: usize) -> Result<()> {
    if most == usize::MAX {
        return Ok(());
    }
    let most = most.saturating_mul(EXPANDED).saturating_mul(EXPANDED);
    let mut largest = 0;
    let visited = plan.apply_with_subqueries(|node| {
        // A column that is computed from computed ones is neither moved nor merged.
        if !matches!(node, LogicalPlan::Projection(_)) {
            let of: Vec<Vec<usize>> = node.inputs().into_iter().map(sizes).collect();
            node.apply_expressions(|expr| {
                largest = size(expr, node, &of).max(largest);
                Ok(TreeNodeRecursion::Continue)
            })?;
        }
        Ok(TreeNodeRecursion::Continue)
    });
    visited.map_err(from_datafusion)?;
    if largest <= most {
        return Ok(());
    }
    let message = "the statement's columns are computed of each other too many times to be filtered or sorted by safely; filter before \
                   they are computed, or raise the limit (SqlOptions::complexity_limit)";
    Err(Error::invalid_input(message).with("found", largest).with("limit", most))
}

/// The operators that each column of a plan is, back to what is read.
fn sizes(plan: &LogicalPlan) -> Vec<usize> {
    let of: Vec<Vec<usize>> = plan.inputs().into_iter().map(sizes).collect();
    let fields = plan.schema().fields().len();
    match (plan, &of[..]) {
        (LogicalPlan::Projection(projection), _) => {
            projection.expr.iter().map(|expr| size(expr, plan, &of)).collect()
        }
        (LogicalPlan::Aggregate(aggregate), _) => {
            let groups = aggregate.group_expr.iter().map(|expr| size(expr, plan, &of));
            groups.chain(std::iter::repeat(1)).take(fields).collect()
        }
        (LogicalPlan::Window(_), [input]) => {
            input.iter().copied().chain(std::iter::repeat(1)).take(fields).collect()
        }
        (LogicalPlan::Join(_), [left, right]) if left.len() + right.len() == fields => {
            [&left[..], right].concat()
        }
        (_, [input]) if input.len() == fields => input.clone(),
        _ => vec![of.iter().flatten().copied().max().unwrap_or(1); fields],
    }
}

/// The operators that an expression of a plan's node is, its inputs' columns being so many each.
fn size(expr: &Expr, node: &LogicalPlan, of: &[Vec<usize>]) -> usize {
    let inputs = node.inputs();
    let mut sum = 0_usize;
    let visited = expr.apply(|expr| {
        let of_column = match expr {
            Expr::Column(column) => inputs.iter().zip(of).find_map(|(input, of)| {
                input.schema().maybe_index_of_column(column).and_then(|at| of.get(at).copied())
            }),
            _ => None,
        };
        sum = sum.saturating_add(of_column.unwrap_or(1));
        Ok(TreeNodeRecursion::Continue)
    });
    if visited.is_ok() { sum } else { usize::MAX }
}

/// The weight of a statement.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
struct Weight {
    /// Operators, and what counts as some.
    operators: usize,
    /// The same, with common tables wherever they are named, and all sets of a `CUBE`.
    expanded: usize,
    /// How deep brackets, types and `EXPLAIN`s may be.
    depth: usize,
}

/// A bracket that is open.
#[derive(Default)]
struct Bracket {
    /// True if commas are between tables.
    in_from: bool,
    /// The common table that it is the query of, and what the statement weighed before.
    table: Option<(String, usize)>,
    is_cube: bool,
    commas: usize,
}

impl Weight {
    fn of(tokens: &[Token]) -> Self {
        let mut weight = Self::default();
        let (mut types, mut explains, mut brackets) = (0_usize, 0_usize, 0_usize);
        let mut open = vec![Bracket::default()];
        let mut tables: HashMap<String, usize> = HashMap::new();
        for (at, token) in tokens.iter().enumerate() {
            if let Token::Word(word) = token
                && let Some(of_table) = tables.get(&word.value.to_lowercase())
                && !matches!(next(tokens, at), Some(Token::Period))
            {
                weight.expanded = weight.expanded.saturating_add(*of_table);
            }
            let set_from = |open: &mut Vec<Bracket>, is_from: bool| {
                if let Some(last) = open.last_mut() {
                    last.in_from = is_from;
                }
            };
            match token {
                Token::Word(word) if word.quote_style.is_none() => match word.keyword {
                    Keyword::SELECT | Keyword::UNION | Keyword::EXCEPT | Keyword::INTERSECT => {
                        weight.add(QUERY);
                        set_from(&mut open, false);
                    }
                    Keyword::TABLE => weight.add(QUERY),
                    Keyword::FROM => {
                        weight.add(1);
                        set_from(&mut open, true);
                    }
                    Keyword::JOIN => weight.add(TABLE),
                    Keyword::WHERE | Keyword::GROUP | Keyword::ORDER | Keyword::HAVING | Keyword::LIMIT => {
                        set_from(&mut open, false);
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
                    | Keyword::OPERATOR => weight.add(1),
                    _ => {}
                },
                Token::Comma => {
                    if let Some(last) = open.last_mut() {
                        last.commas += 1;
                        if last.in_from {
                            weight.add(TABLE);
                        }
                    }
                }
                Token::LParen => {
                    let before = previous(tokens, at).and_then(|at| tokens.get(at));
                    open.push(Bracket {
                        table: common_table(tokens, at).map(|name| (name, weight.expanded)),
                        is_cube: matches!(before, Some(Token::Word(word)) if word.keyword == Keyword::CUBE),
                        ..Bracket::default()
                    });
                    brackets = brackets.max(open.len() - 1);
                }
                Token::RParen => {
                    let closed = open.pop().unwrap_or_default();
                    if closed.is_cube {
                        let sets =
                            u32::try_from(closed.commas + 1).map_or(None, |of| 1_usize.checked_shl(of));
                        weight.expanded = weight.expanded.saturating_add(sets.unwrap_or(usize::MAX));
                    }
                    if let Some((name, before)) = closed.table {
                        let of_table = tables.entry(name).or_default();
                        *of_table = weight.expanded.saturating_sub(before).saturating_add(1).max(*of_table);
                    }
                    if open.is_empty() {
                        open.push(Bracket::default());
                    }
                }
                Token::LBracket => weight.add(1),
                Token::Word(_)
                | Token::Number(..)
                | Token::Char(_)
                | Token::SingleQuotedString(_)
                | Token::DoubleQuotedString(_)
                | Token::Whitespace(_)
                | Token::Period
                | Token::SemiColon
                | Token::RBracket
                | Token::EOF => {}
                // All else stands between operands, or before one.
                _ => weight.add(1),
            }
        }
        weight.depth = types.max(explains).max(brackets);
        weight
    }

    fn add(&mut self, operators: usize) {
        self.operators = self.operators.saturating_add(operators);
        self.expanded = self.expanded.saturating_add(operators);
    }
}

/// The name of the common table whose query begins with the bracket at a place: `name [(columns)] AS [[NOT] MATERIALIZED] (`.
fn common_table(tokens: &[Token], bracket: usize) -> Option<String> {
    let mut at = previous(tokens, bracket)?;
    let is = |at: usize, keyword: Keyword| matches!(tokens.get(at), Some(Token::Word(word)) if word.keyword == keyword);
    while is(at, Keyword::MATERIALIZED) || is(at, Keyword::NOT) {
        at = previous(tokens, at)?;
    }
    if !is(at, Keyword::AS) {
        return None;
    }
    at = previous(tokens, at)?;
    if matches!(tokens.get(at), Some(Token::RParen)) {
        while !matches!(tokens.get(at), Some(Token::LParen)) {
            at = previous(tokens, at)?;
        }
        at = previous(tokens, at)?;
    }
    match tokens.get(at)? {
        Token::Word(word) => Some(word.value.to_lowercase()),
        _ => None,
    }
}

/// The place of the token before one, whitespace aside.
fn previous(tokens: &[Token], at: usize) -> Option<usize> {
    (0..at).rev().find(|at| !matches!(tokens.get(*at), Some(Token::Whitespace(_))))
}

/// The token after one, whitespace aside.
fn next(tokens: &[Token], at: usize) -> Option<&Token> {
    tokens.iter().skip(at + 1).find(|token| !matches!(token, Token::Whitespace(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weigh(query: &str) -> Weight {
        Weight::of(&Tokenizer::new(&GenericDialect {}, query).tokenize().unwrap())
    }

    #[test]
    fn a_common_table_weighs_wherever_it_is_named() {
        let chain = |each: &str, many: usize| {
            let tables: Vec<String> = (1..many)
                .map(|n| format!("c{n} AS ({})", each.replace("$", &format!("c{}", n - 1))))
                .collect();
            format!("WITH c0 AS (SELECT 1 AS n), {} SELECT n FROM c{}", tables.join(", "), many - 1)
        };
        for each in [
            "SELECT a.n FROM $ a, $ b",
            "SELECT n FROM \"$\" UNION ALL SELECT n FROM $",
            "SELECT n FROM $ WHERE n IN (SELECT n FROM $)",
            "SELECT (SELECT n FROM $) AS n, (SELECT 1 FROM $) AS m",
            "VALUES ((TABLE $)), ((TABLE $))",
        ] {
            let query = chain(each, 20);
            assert!(weigh(&query).expanded > 1 << 20, "{query}");
            assert!(check(&query, 200).is_err(), "{query}");
            let named = query.replace(" AS (", " (n) AS NOT MATERIALIZED\n(");
            assert!(weigh(&named).expanded > 1 << 20, "{named}");
        }
        let once = chain("SELECT $.n, $.m, $.o FROM $", 20);
        assert!(weigh(&once).expanded < 1000, "{:?}", weigh(&once));
        assert!(weigh(&chain("TABLE $", 20)).operators >= 40);
        let recursive = "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r) SELECT n FROM r";
        assert!(weigh(recursive).expanded < 30);
    }

    #[test]
    fn a_cube_of_many_columns_and_a_long_statement_are_refused() {
        let columns: Vec<String> = (0..13).map(|n| format!("c{n}")).collect();
        let cube = |columns: &[String]| format!("SELECT 1 FROM t GROUP BY CUBE ({})", columns.join(", "));
        assert!(check(&cube(&columns), 200).is_err());
        check(&cube(&columns[..11]), 200).unwrap();
        check(&cube(&columns), usize::MAX).unwrap();
        let list = |many: usize| format!("SELECT {}", vec!["a"; many].join(", "));
        check(&list(20_000), 200).unwrap();
        assert!(check(&list(30_000), 200).is_err());
    }

    #[test]
    fn what_is_gone_down_into_weighs_and_lists_do_not() {
        let weight = |query: &str| weigh(query).operators;
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
