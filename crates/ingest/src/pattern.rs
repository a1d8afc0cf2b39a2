//! Which table a member belongs to, by its name.

use std::collections::BTreeMap;

use icefield_core::{Error, Result};

/// A member name's pattern, such as `{table}_{date}_{batch}.csv`.
///
/// A placeholder `{name}` stands for one or more characters other than `/`. `{table}` takes as many as it can; any other
/// placeholder takes none of the character that follows it in the pattern, and `{date}` only `2024-06-22` or `20240622`.
/// `*` stands for any characters other than `/`, none included. A pattern with a `/` is held against the member's whole
/// path, one without against its last component.
///
/// ```
/// use icefield_ingest::Pattern;
///
/// let pattern = Pattern::parse("{table}_{date}_{batch}.csv").unwrap();
/// let fields = pattern.matches("drop/room_rates_2024-06-22_00017.csv").unwrap();
/// assert_eq!(fields["table"], "room_rates");
/// assert_eq!(fields["batch"], "00017");
/// assert!(pattern.matches("README.md").is_none());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    pieces: Vec<Piece>,
    whole_path: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Literal(String),
    Any,
    Field(String),
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// [`icefield_core::ErrorKind::InvalidInput`] for a brace that is not closed, an empty or doubled name, or two
    /// placeholders with nothing between them.
    pub fn parse(text: &str) -> Result<Self> {
        let invalid = |why: &str| {
            Error::invalid_input(format!("not a member pattern: {why}; an example is {{table}}_{{date}}.csv"))
                .with("pattern", text)
        };
        let mut pieces: Vec<Piece> = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let piece = if let Some(tail) = rest.strip_prefix('{') {
                let (name, tail) = tail.split_once('}').ok_or_else(|| invalid("a brace is not closed"))?;
                if name.is_empty() || !name.chars().all(|c| c.is_alphanumeric() || c == '_') {
                    return Err(invalid("a placeholder's name is letters, digits and underscores"));
                }
                if pieces.iter().any(|p| matches!(p, Piece::Field(other) if other == name)) {
                    return Err(invalid("a placeholder occurs twice"));
                }
                rest = tail;
                Piece::Field(name.to_string())
            } else if let Some(tail) = rest.strip_prefix('*') {
                rest = tail;
                Piece::Any
            } else {
                let end = rest.find(['{', '*']).unwrap_or(rest.len());
                let (literal, tail) = rest.split_at(end);
                rest = tail;
                Piece::Literal(literal.to_string())
            };
            let open = |p: &Piece| !matches!(p, Piece::Literal(_));
            if open(&piece) && pieces.last().is_some_and(open) {
                return Err(invalid("two placeholders follow each other with nothing between them"));
            }
            pieces.push(piece);
        }
        if pieces.is_empty() {
            return Err(invalid("it is empty"));
        }
        Ok(Self { text: text.to_string(), whole_path: text.contains('/'), pieces })
    }

    /// The pattern as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The placeholders' values for a member's path, or `None` when it does not match.
    pub fn matches(&self, path: &str) -> Option<BTreeMap<String, String>> {
        let name = if self.whole_path { path } else { path.rsplit('/').next().unwrap_or(path) };
        let mut fields = BTreeMap::new();
        matched(&self.pieces, name, &mut fields).then_some(fields)
    }

    /// Whether the pattern names the table itself.
    pub(crate) fn names_table(&self) -> bool {
        self.pieces.iter().any(|p| matches!(p, Piece::Field(name) if name == "table"))
    }
}

fn matched(pieces: &[Piece], text: &str, fields: &mut BTreeMap<String, String>) -> bool {
    let Some((piece, rest)) = pieces.split_first() else { return text.is_empty() };
    match piece {
        Piece::Literal(literal) => text.strip_prefix(literal).is_some_and(|tail| matched(rest, tail, fields)),
        Piece::Any => ends(text, None).any(|end| matched(rest, &text[end..], fields)),
        Piece::Field(name) => {
            let stop = match rest.first() {
                Some(Piece::Literal(literal)) if name != "table" => literal.chars().next(),
                _ => None,
            };
            let lengths: Vec<usize> = ends(text, stop).filter(|&end| end > 0).collect();
            lengths.into_iter().rev().any(|end| {
                let value = &text[..end];
                if name == "date" && !is_date(value) {
                    return false;
                }
                let took = matched(rest, &text[end..], fields);
                if took {
                    fields.insert(name.clone(), value.to_string());
                }
                took
            })
        }
    }
}

/// The ends that a placeholder may have, shortest first.
fn ends(text: &str, stop: Option<char>) -> impl Iterator<Item = usize> + '_ {
    let limit = text.find(|c| c == '/' || Some(c) == stop).unwrap_or(text.len());
    text.char_indices().map(|(at, _)| at).chain([text.len()]).take_while(move |&at| at <= limit)
}

fn is_date(text: &str) -> bool {
    let digits = |part: &str, n: usize| part.len() == n && part.bytes().all(|b| b.is_ascii_digit());
    digits(text, 8)
        || (text.len() == 10
            && text.is_ascii()
            && digits(&text[..4], 4)
            && digits(&text[5..7], 2)
            && digits(&text[8..], 2)
            && text.as_bytes()[4] == b'-'
            && text.as_bytes()[7] == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_or_not() {
        let cases: &[(&str, &str, Option<&str>)] = &[
            ("{table}_{date}_{batch}.csv", "calendar_2024-11-05_00000.csv", Some("calendar")),
            ("{table}_{date}_{batch}.csv", "a/b/room_rates_20241105_cut-row.csv", Some("room_rates")),
            ("{table}_{date}_{batch}.csv", "calendar_tomorrow_1.csv", None),
            ("{table}_{date}_{batch}.csv", "calendar_2024-11-05_1.jsonl", None),
            ("{table}_{date}_{batch}.csv", "calendar_2024-11-05_a_b.csv", Some("calendar")),
            ("{table}.csv", "été.csv", Some("été")),
            ("{date}/{table}.*", "2024-11-05/rates.csv", Some("rates")),
            ("{date}/{table}.*", "x/2024-11-05/rates.csv", None),
            ("*-{table}.csv", "x-rates.csv", Some("rates")),
            ("{table}.csv", ".csv", None),
        ];
        for (pattern, name, table) in cases {
            let got = Pattern::parse(pattern).unwrap().matches(name);
            assert_eq!(got.as_ref().map(|f| f["table"].as_str()), *table, "{pattern} against {name}");
        }
    }

    #[test]
    fn a_pattern_that_cannot_be_read_says_why() {
        for bad in ["", "{table", "{}", "{a}{b}", "{a}_{a}", "{a}*", "{a b}"] {
            let error = Pattern::parse(bad).unwrap_err();
            assert_eq!(error.kind(), icefield_core::ErrorKind::InvalidInput, "{bad}");
        }
    }
}
