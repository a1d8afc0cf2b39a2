//! Times and versions as text, and the SQL clauses `FOR VERSION AS OF` and `FOR TIMESTAMP AS OF`.
//!
//! DataFusion's planner has no place for these clauses. So a table with one is renamed, before parsing, to a name that
//! holds the version, and the catalog that is asked for the name takes it apart again.

use chrono::{DateTime, NaiveDate, NaiveDateTime};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::keywords::{Keyword, RESERVED_FOR_TABLE_ALIAS};
use datafusion::sql::sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer, Word};
use icefield_core::{AsOf, Error, Result, Table};

const VERSION: &str = "@version=";
const TIMESTAMP: &str = "@timestamp=";

/// A time as milliseconds since the epoch: RFC 3339, a date and time in UTC, a date (its first moment in UTC), or the
/// milliseconds themselves.
///
/// # Errors
/// [`InvalidInput`](icefield_core::ErrorKind::InvalidInput) for anything else.
pub(crate) fn parse_timestamp_ms(text: &str) -> Result<i64> {
    let text = text.trim();
    if let Ok(ms) = text.parse::<i64>() {
        return Ok(ms);
    }
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Ok(time.timestamp_millis());
    }
    for form in ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M"] {
        if let Ok(time) = NaiveDateTime::parse_from_str(text, form) {
            return Ok(time.and_utc().timestamp_millis());
        }
    }
    for form in ["%Y-%m-%d %H:%M:%S%.f%:z", "%Y-%m-%d %H:%M:%S%.f %z"] {
        if let Ok(time) = DateTime::parse_from_str(text, form) {
            return Ok(time.timestamp_millis());
        }
    }
    if let Ok(date) = NaiveDate::parse_from_str(text, "%Y-%m-%d")
        && let Some(time) = date.and_hms_opt(0, 0, 0)
    {
        return Ok(time.and_utc().timestamp_millis());
    }
    Err(Error::invalid_input(
        "not a time: use 2024-06-30T00:00:00Z, 2024-06-30 00:00:00 (UTC), 2024-06-30 or milliseconds since 1970",
    )
    .with("value", text))
}

/// A table's name in SQL without the version that [`rewrite`] put into it, and that version.
pub(super) fn versioned(name: &str) -> Option<(&str, &str, bool)> {
    for (marker, is_time) in [(VERSION, false), (TIMESTAMP, true)] {
        if let Some((table, value)) = name.split_once(marker) {
            return Some((table, value, is_time));
        }
    }
    None
}

/// The snapshot that a version or time in SQL means: a time, or a snapshot id, a branch or a tag.
pub(super) fn resolve(table: &Table, value: &str, is_time: bool) -> Result<AsOf> {
    if is_time {
        return parse_timestamp_ms(value).map(AsOf::Timestamp);
    }
    let name = value.strip_prefix('\'').unwrap_or(value);
    let is_ref = table.references().iter().any(|(known, _)| known == name);
    match name.parse() {
        // A number is an id, as in Iceberg's own engines, unless no snapshot has it.
        Ok(id) if !is_ref || (name == value && table.metadata().snapshot_by_id(id).is_some()) => {
            Ok(AsOf::Snapshot(id))
        }
        _ => Ok(AsOf::Ref(name.to_string())),
    }
}

/// A query with its `[FOR] VERSION|TIMESTAMP AS OF value` clauses folded into the names of their tables.
pub(super) fn rewrite(query: &str) -> Result<String> {
    if !query.to_ascii_lowercase().contains("of") {
        return Ok(query.to_string());
    }
    // What can't be split into tokens is the parser's to refuse.
    let Ok(tokens) = Tokenizer::new(&GenericDialect {}, query).with_unescape(false).tokenize_with_location()
    else {
        return Ok(query.to_string());
    };
    let tokens: Vec<TokenWithSpan> =
        tokens.into_iter().filter(|t| !matches!(t.token, Token::Whitespace(_))).collect();
    let lines = Lines::new(query);
    let mut out = String::new();
    let mut copied = 0;
    let mut at = 1;
    while at < tokens.len() {
        let Some(clause) = clause_at(&tokens, at) else {
            if is_clause_of_another_value(&tokens, at) {
                return Err(Error::invalid_input(
                    "FOR VERSION AS OF takes a snapshot id, or a branch or tag in quotes; FOR TIMESTAMP AS OF a time in quotes, such \
                     as '2024-06-30T00:00:00Z'; both are read before the query is, and are no expressions",
                )
                .with("at", format!("line {}, column {}", tokens[at].span.start.line, tokens[at].span.start.column)));
            }
            at += 1;
            continue;
        };
        let name = &tokens[at - 1];
        let Token::Word(word) = &name.token else {
            at += 1;
            continue;
        };
        let (Some(start), Some(end)) =
            (lines.byte(name.span.start), tokens.get(clause.last).and_then(|t| lines.byte(t.span.end)))
        else {
            break;
        };
        let plain = plain_name(word);
        out.push_str(query.get(copied..start).unwrap_or_default());
        out.push_str(&quoted(&format!("{plain}{}{}", clause.marker, clause.value)));
        if !is_written_to(&tokens, at - 1) && !is_alias(tokens.get(clause.last + 1)) {
            out.push_str(&format!(" AS {}", quoted(&plain)));
        }
        copied = end;
        at = clause.last + 1;
    }
    out.push_str(query.get(copied..).unwrap_or_default());
    Ok(out)
}

/// Whether a clause starts at a token whose value is not one that is taken.
fn is_clause_of_another_value(tokens: &[TokenWithSpan], start: usize) -> bool {
    let words = [&["FOR"][..], &["VERSION", "SYSTEM_VERSION", "TIMESTAMP", "SYSTEM_TIME"], &["AS"], &["OF"]];
    let fits = words.iter().enumerate().all(|(at, words)| match tokens.get(start + at).map(|t| &t.token) {
        Some(Token::Word(word)) if word.quote_style.is_none() => {
            words.iter().any(|known| word.value.eq_ignore_ascii_case(known))
        }
        _ => false,
    });
    fits && tokens.get(start + words.len()).is_some()
}

/// Whether the table whose name ends at a token is one that an `INSERT` writes to, which has no alias.
fn is_written_to(tokens: &[TokenWithSpan], last: usize) -> bool {
    let mut first = last;
    while first >= 2 && tokens.get(first - 1).is_some_and(|t| t.token == Token::Period) {
        first -= 2;
    }
    let keyword = |back: usize| match first.checked_sub(back).and_then(|at| tokens.get(at)).map(|t| &t.token)
    {
        Some(Token::Word(word)) if word.quote_style.is_none() => Some(word.keyword),
        _ => None,
    };
    let before = if keyword(1) == Some(Keyword::TABLE) { keyword(2) } else { keyword(1) };
    matches!(before, Some(Keyword::INTO | Keyword::OVERWRITE))
}

struct Clause {
    marker: &'static str,
    value: String,
    /// The index of its last token.
    last: usize,
}

/// The clause that starts at a token, after a word.
fn clause_at(tokens: &[TokenWithSpan], start: usize) -> Option<Clause> {
    let word = |at: usize| match &tokens.get(at)?.token {
        Token::Word(word) if word.quote_style.is_none() => Some(word.value.to_ascii_uppercase()),
        _ => None,
    };
    let mut at = start;
    if word(at)? == "FOR" {
        at += 1;
    }
    let marker = match word(at)?.as_str() {
        "VERSION" | "SYSTEM_VERSION" => VERSION,
        "TIMESTAMP" | "SYSTEM_TIME" => TIMESTAMP,
        _ => return None,
    };
    if word(at + 1)? != "AS" || word(at + 2)? != "OF" {
        return None;
    }
    at += 3;
    // TIMESTAMP '...' and DATE '...'
    if matches!(word(at).as_deref(), Some("TIMESTAMP" | "DATE")) {
        at += 1;
    }
    let mut sign = "";
    if matches!(tokens.get(at)?.token, Token::Minus) {
        sign = "-";
        at += 1;
    }
    let value = match &tokens.get(at)?.token {
        Token::Number(number, _) => format!("{sign}{number}"),
        // A number in quotes is a name, and keeps one to be told from an id.
        Token::SingleQuotedString(text)
            if sign.is_empty() && marker == VERSION && text.parse::<i64>().is_ok() =>
        {
            format!("'{text}")
        }
        Token::SingleQuotedString(text) if sign.is_empty() => text.replace("''", "'"),
        _ => return None,
    };
    Some(Clause { marker, value, last: at })
}

/// Whether the token after a clause names the table anew.
pub(super) fn is_alias(token: Option<&TokenWithSpan>) -> bool {
    match token.map(|t| &t.token) {
        Some(Token::Word(word)) => {
            word.quote_style.is_some()
                || word.keyword == Keyword::AS
                || !RESERVED_FOR_TABLE_ALIAS.contains(&word.keyword)
        }
        _ => false,
    }
}

/// A name as the planner would read it: what is not quoted is lower case.
fn plain_name(word: &Word) -> String {
    match word.quote_style {
        Some(quote) => word.value.replace(&format!("{quote}{quote}"), &quote.to_string()),
        None => word.value.to_lowercase(),
    }
}

pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Finds bytes by line and column.
pub(super) struct Lines<'a> {
    text: &'a str,
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(i, _)| i + 1)).collect();
        Self { text, starts }
    }

    pub(super) fn byte(&self, at: Location) -> Option<usize> {
        let start = *self.starts.get(usize::try_from(at.line).ok()?.checked_sub(1)?)?;
        let columns = usize::try_from(at.column).ok()?.checked_sub(1)?;
        let line = self.text.get(start..)?;
        Some(start + line.char_indices().nth(columns).map_or(line.len(), |(i, _)| i))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_every_form() {
        for text in [
            "2024-06-30T00:00:00Z",
            "2024-06-30T02:00:00+02:00",
            "2024-06-30 00:00:00",
            "2024-06-30 00:00:00.000",
            "2024-06-30 02:00:00+02:00",
            "2024-06-30",
            "1719705600000",
        ] {
            assert_eq!(parse_timestamp_ms(text).unwrap(), 1_719_705_600_000, "{text}");
        }
        assert!(parse_timestamp_ms("yesterday").is_err());
        assert_eq!(parse_timestamp_ms("1969-12-31T23:59:59.999Z").unwrap(), -1);
    }

    #[test]
    fn clauses_become_part_of_the_name() {
        for (query, expected) in [
            (
                "SELECT * FROM ns.t FOR VERSION AS OF 123 WHERE x > 1",
                "SELECT * FROM ns.\"t@version=123\" AS \"t\" WHERE x > 1",
            ),
            (
                "SELECT * FROM ns.T for timestamp as of '2024-06-30T00:00:00Z' AS a, b",
                "SELECT * FROM ns.\"t@timestamp=2024-06-30T00:00:00Z\" AS a, b",
            ),
            (
                "SELECT 'é'\n FROM ns.\"My \"\"T\"\n  FOR SYSTEM_VERSION AS OF 'it''s' x",
                "SELECT 'é'\n FROM ns.\"My \"\"T@version=it's\" x",
            ),
            (
                "SELECT * FROM t VERSION AS OF -5 JOIN u FOR SYSTEM_TIME AS OF TIMESTAMP '2024-01-01' ON true",
                "SELECT * FROM \"t@version=-5\" AS \"t\" JOIN \"u@timestamp=2024-01-01\" AS \"u\" ON true",
            ),
            ("INSERT INTO ns.t FOR VERSION AS OF 'b' SELECT 1", "INSERT INTO ns.\"t@version=b\" SELECT 1"),
            (
                "insert into table c.ns.t FOR VERSION AS OF 'b' (id) SELECT id FROM t VERSION AS OF 'b'",
                "insert into table c.ns.\"t@version=b\" (id) SELECT id FROM \"t@version=b\" AS \"t\"",
            ),
            (
                "INSERT OVERWRITE t VERSION AS OF 'b' VALUES (1)",
                "INSERT OVERWRITE \"t@version=b\" VALUES (1)",
            ),
            ("SELECT * FROM t VERSION AS OF '12' a", "SELECT * FROM \"t@version='12\" a"),
            ("SELECT version AS of FROM t", "SELECT version AS of FROM t"),
            ("SELECT 'FOR VERSION AS OF 1'", "SELECT 'FOR VERSION AS OF 1'"),
            ("SELECT * FROM t FOR VERSION AS OF", "SELECT * FROM t FOR VERSION AS OF"),
            ("SELECT 'off", "SELECT 'off"),
        ] {
            assert_eq!(rewrite(query).unwrap(), expected);
        }
        assert_eq!(versioned("t@version=a@b"), Some(("t", "a@b", false)));
        assert_eq!(versioned("t"), None);
    }
}
