//! [`Cursor`]: what the parsers of this library's own statements read a statement by.

use datafusion::common::DataFusionError;
use datafusion::sql::sqlparser::ast::{Expr as SqlExpr, Ident, ObjectName, Query};
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::Token;
use icefield_core::{Error, Result};

use crate::error::from_datafusion;

/// A place in a statement's tokens.
pub(super) struct Cursor<'a, 'b> {
    parser: &'a mut Parser<'b>,
    /// True if names that are not quoted become lower case.
    normalize: bool,
    /// Brackets `>` of a `>>` that are still to be taken.
    angles: usize,
}

impl<'a, 'b> Cursor<'a, 'b> {
    pub(super) fn new(parser: &'a mut Parser<'b>, normalize: bool) -> Self {
        Self { parser, normalize, angles: 0 }
    }

    /// True if the words come next, in any case and not quoted.
    pub(super) fn is_next(&self, words: &[&str]) -> bool {
        words.iter().enumerate().all(|(at, word)| self.is_at(at, &[word]))
    }

    /// True if one of the words is `at` tokens ahead.
    pub(super) fn is_at(&self, at: usize, words: &[&str]) -> bool {
        match &self.parser.peek_nth_token_ref(at).token {
            Token::Word(word) if word.quote_style.is_none() => {
                words.iter().any(|expected| word.value.eq_ignore_ascii_case(expected))
            }
            _ => false,
        }
    }

    /// Takes the words if they come next.
    pub(super) fn take(&mut self, words: &[&str]) -> bool {
        let next = self.is_next(words);
        if next {
            words.iter().for_each(|_| self.parser.advance_token());
        }
        next
    }

    /// Takes one of the words, if it comes next.
    pub(super) fn take_one<'w>(&mut self, words: &[&'w str]) -> Option<&'w str> {
        words.iter().find(|word| self.take(&[word])).copied()
    }

    /// Takes the words, which must come next.
    pub(super) fn expect(&mut self, words: &[&str]) -> Result<()> {
        if self.take(words) { Ok(()) } else { self.wrong(&words.join(" ")) }
    }

    /// Takes a sign if it comes next.
    pub(super) fn take_token(&mut self, token: &Token) -> bool {
        self.parser.consume_token(token)
    }

    pub(super) fn expect_token(&mut self, token: &Token) -> Result<()> {
        if self.take_token(token) { Ok(()) } else { self.wrong(&token.to_string()) }
    }

    pub(super) fn is_token(&self, token: &Token) -> bool {
        self.parser.peek_token_ref().token == *token
    }

    /// The error of a token that is not the expected one.
    pub(super) fn wrong<T>(&self, expected: &str) -> Result<T> {
        self.parser.expected_ref(expected, self.parser.peek_token_ref()).map_err(syntax)
    }

    pub(super) fn is_end(&self) -> bool {
        matches!(self.parser.peek_token_ref().token, Token::EOF | Token::SemiColon)
    }

    /// A name of one part.
    pub(super) fn name(&mut self) -> Result<String> {
        let name = self.parser.parse_identifier().map_err(syntax)?;
        Ok(self.normalized(name))
    }

    fn normalized(&self, name: Ident) -> String {
        match name.quote_style {
            None if self.normalize => name.value.to_lowercase(),
            _ => name.value,
        }
    }

    /// A column, or a field inside one: `address.city`.
    pub(super) fn path(&mut self) -> Result<String> {
        let mut path = self.name()?;
        while self.take_token(&Token::Period) {
            path = format!("{path}.{}", self.name()?);
        }
        Ok(path)
    }

    /// The name of a table or namespace.
    pub(super) fn object(&mut self) -> Result<ObjectName> {
        self.parser.parse_object_name(false).map_err(syntax)
    }

    /// The parts of a name, dots inside of quotes as those between parts.
    pub(super) fn parts(&mut self) -> Result<Vec<String>> {
        let name = self.object()?;
        let mut parts = Vec::with_capacity(name.0.len());
        for part in name.0 {
            let Some(ident) = part.as_ident() else { return self.wrong("a name") };
            parts.extend(self.normalized(ident.clone()).split('.').map(str::to_string));
        }
        Ok(parts)
    }

    /// A text in quotes.
    pub(super) fn text(&mut self) -> Result<String> {
        match self.parser.peek_token_ref().token.clone() {
            Token::SingleQuotedString(text) | Token::EscapedStringLiteral(text) => {
                self.parser.advance_token();
                Ok(text)
            }
            _ => self.wrong("a text in quotes"),
        }
    }

    pub(super) fn number(&mut self) -> Result<u32> {
        match &self.parser.peek_token_ref().token {
            Token::Number(number, _) if let Ok(number) = number.parse() => {
                self.parser.advance_token();
                Ok(number)
            }
            _ => self.wrong("a whole number"),
        }
    }

    pub(super) fn is_number(&self) -> bool {
        matches!(self.parser.peek_token_ref().token, Token::Number(..))
    }

    pub(super) fn expr(&mut self) -> Result<SqlExpr> {
        self.parser.parse_expr().map_err(syntax)
    }

    pub(super) fn query(&mut self) -> Result<Box<Query>> {
        self.parser.parse_query().map_err(syntax)
    }

    /// Items with commas between them.
    pub(super) fn list<T>(&mut self, mut item: impl FnMut(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        let mut items = vec![item(self)?];
        while self.take_token(&Token::Comma) {
            items.push(item(self)?);
        }
        Ok(items)
    }

    /// A list in brackets.
    pub(super) fn bracketed<T>(&mut self, item: impl FnMut(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        self.expect_token(&Token::LParen)?;
        let items = self.list(item)?;
        self.expect_token(&Token::RParen)?;
        Ok(items)
    }

    /// The `>` that ends a type.
    pub(super) fn close_angle(&mut self) -> Result<()> {
        if self.angles > 0 {
            self.angles -= 1;
        } else if self.take_token(&Token::ShiftRight) {
            self.angles += 1;
        } else {
            self.expect_token(&Token::Gt)?;
        }
        Ok(())
    }

    /// `('name' = 'value', name.of.property = 1, ...)`
    pub(super) fn properties(&mut self) -> Result<Vec<(String, String)>> {
        self.bracketed(|cursor| {
            let name = cursor.property_name()?;
            cursor.take_token(&Token::Eq);
            let value = match cursor.parser.next_token().token {
                Token::SingleQuotedString(text) | Token::EscapedStringLiteral(text) => text,
                Token::Number(number, _) => number,
                Token::Minus => format!("-{}", cursor.number()?),
                Token::Word(word) if word.quote_style.is_none() => word.value,
                _ => {
                    cursor.parser.prev_token();
                    return cursor.wrong("a value in quotes");
                }
            };
            Ok((name, value))
        })
    }

    /// A property's name: in quotes, or words with dots and dashes between them.
    pub(super) fn property_name(&mut self) -> Result<String> {
        if let Token::SingleQuotedString(_) = self.parser.peek_token_ref().token {
            return self.text();
        }
        let mut name = self.parser.parse_identifier().map_err(syntax)?.value;
        loop {
            let sign = if self.take_token(&Token::Period) {
                '.'
            } else if self.take_token(&Token::Minus) {
                '-'
            } else {
                return Ok(name);
            };
            name.push(sign);
            name.push_str(&self.parser.parse_identifier().map_err(syntax)?.value);
        }
    }

    /// Looks ahead: gives the result of `look`; the cursor stays where it is.
    pub(super) fn ahead<T>(&mut self, look: impl FnOnce(&mut Self) -> Result<T>) -> Option<T> {
        let start = self.parser.index();
        let found = look(self);
        // Tokens are without whitespace: each step goes back by one.
        while self.parser.index() > start {
            self.parser.prev_token();
        }
        self.angles = 0;
        found.ok()
    }
}

fn syntax(error: ParserError) -> Error {
    from_datafusion(DataFusionError::from(error))
}
