//! Partition and sort terms: `month(d)`, `bucket(16, id)`, `truncate(4, s) DESC NULLS LAST`.

use datafusion::sql::sqlparser::tokenizer::Token;
use iceberg::spec::Transform;
use icefield_core::evolve::{SortTerm, Term, asc, desc};
use icefield_core::{Error, Result};

use super::cursor::Cursor;
use super::types::quoted_name;

/// Reads a term.
pub(super) fn parse_term(cursor: &mut Cursor<'_, '_>) -> Result<Term> {
    let is_call = cursor
        .ahead(|cursor| {
            cursor.name()?;
            cursor.expect_token(&Token::LParen)
        })
        .is_some();
    if !is_call {
        return Ok(Term::from(cursor.path()?));
    }
    let function = cursor.name()?.to_lowercase();
    cursor.expect_token(&Token::LParen)?;
    let term = match function.as_str() {
        "bucket" => {
            let (width, column) = width_and_column(cursor)?;
            Term::new(column, Transform::Bucket(width))
        }
        "truncate" | "trunc" => {
            let (width, column) = width_and_column(cursor)?;
            Term::new(column, Transform::Truncate(width))
        }
        name => {
            let transform = match name {
                "year" | "years" => Transform::Year,
                "month" | "months" => Transform::Month,
                "day" | "days" | "date" => Transform::Day,
                "hour" | "hours" | "date_hour" => Transform::Hour,
                "identity" => Transform::Identity,
                "void" => Transform::Void,
                _ => {
                    let message = "no such transform; there are year, month, day, hour, bucket(n, column) and truncate(n, column)";
                    return Err(Error::unsupported(message).with("transform", name));
                }
            };
            Term::new(cursor.path()?, transform)
        }
    };
    cursor.expect_token(&Token::RParen)?;
    Ok(term)
}

/// Spark takes either first.
fn width_and_column(cursor: &mut Cursor<'_, '_>) -> Result<(u32, String)> {
    if cursor.is_number() {
        let width = cursor.number()?;
        cursor.expect_token(&Token::Comma)?;
        return Ok((width, cursor.path()?));
    }
    let column = cursor.path()?;
    cursor.expect_token(&Token::Comma)?;
    Ok((cursor.number()?, column))
}

/// Reads a sort term.
pub(super) fn parse_sort_term(cursor: &mut Cursor<'_, '_>) -> Result<SortTerm> {
    let term = parse_term(cursor)?;
    let term = match cursor.take_one(&["ASC", "DESC"]) {
        Some("DESC") => desc(term),
        _ => asc(term),
    };
    Ok(if cursor.take(&["NULLS", "FIRST"]) {
        term.nulls_first()
    } else if cursor.take(&["NULLS", "LAST"]) {
        term.nulls_last()
    } else {
        term
    })
}

/// A list of sort terms, in brackets or without.
pub(super) fn parse_sort_terms(cursor: &mut Cursor<'_, '_>) -> Result<Vec<SortTerm>> {
    match cursor.is_token(&Token::LParen) {
        true => cursor.bracketed(parse_sort_term),
        false => cursor.list(parse_sort_term),
    }
}

/// A term as [`parse_term`] reads it.
pub(super) fn term_text(column: &str, transform: Transform) -> String {
    let column = column.split('.').map(quoted_name).collect::<Vec<_>>().join(".");
    match transform {
        Transform::Identity => column,
        Transform::Year => format!("years({column})"),
        Transform::Month => format!("months({column})"),
        Transform::Day => format!("days({column})"),
        Transform::Hour => format!("hours({column})"),
        Transform::Bucket(width) => format!("bucket({width}, {column})"),
        Transform::Truncate(width) => format!("truncate({width}, {column})"),
        other => format!("{other}({column})"),
    }
}
