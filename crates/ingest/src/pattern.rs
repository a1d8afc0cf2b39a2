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
        let matching = Matching::of(&self.pieces, name);
        let mut fields = BTreeMap::new();
        let (mut rest, mut at) = (&self.pieces[..], 0);
        if !matching.fits(0, 0) {
            return None;
        }
        // Whatever is taken of the ends that fit, the rest of the pattern fits the rest of the name.
        while let Some((piece, after)) = rest.split_first() {
            let next = self.pieces.len() - after.len();
            let end = match piece {
                Piece::Literal(literal) => at + literal.len(),
                Piece::Any => ends(name, at, None).find(|end| matching.fits(next, *end))?,
                Piece::Field(field) => {
                    let fits = |end: &usize| matching.fits(next, *end) && field_fits(field, &name[at..*end]);
                    let end = ends(name, at, stop(field, after)).filter(fits).last()?;
                    fields.insert(field.clone(), name[at..end].to_string());
                    end
                }
            };
            (rest, at) = (after, end);
        }
        Some(fields)
    }

    /// Whether the pattern names the table itself.
    pub(crate) fn names_table(&self) -> bool {
        self.pieces.iter().any(|p| matches!(p, Piece::Field(name) if name == "table"))
    }
}

/// From which places of a name on its rest fits the rest of a pattern: worked out from the end, so that a name takes time by its
/// length, and none is tried again and again.
struct Matching {
    /// For each piece, and for the pattern's end, a place each of the name and its end.
    fits: Vec<Vec<bool>>,
}

impl Matching {
    fn of(pieces: &[Piece], text: &str) -> Self {
        let bytes = text.as_bytes();
        let mut last = vec![false; text.len() + 1];
        last[text.len()] = true;
        let mut fits = vec![last];
        for (i, piece) in pieces.iter().enumerate().rev() {
            let after = &fits[fits.len() - 1];
            let mut here = vec![false; text.len() + 1];
            match piece {
                Piece::Literal(literal) => {
                    for at in 0..=text.len() {
                        let end = at + literal.len();
                        here[at] = after.get(end) == Some(&true) && bytes[at..end] == *literal.as_bytes();
                    }
                }
                Piece::Any => {
                    for at in (0..=text.len()).rev() {
                        let goes_on = bytes.get(at).is_some_and(|b| *b != b'/') && here[at + 1];
                        here[at] = after[at] || goes_on;
                    }
                }
                Piece::Field(field) if field == "date" => {
                    let stop = stop(field, &pieces[i + 1..]);
                    let fits = |text: &str| is_date(text) && stop.is_none_or(|stop| !text.contains(stop));
                    for (at, place) in here.iter_mut().enumerate() {
                        *place = [8, 10].into_iter().any(|len| {
                            let end = at + len;
                            after.get(end) == Some(&true) && text.get(at..end).is_some_and(fits)
                        });
                    }
                }
                Piece::Field(field) => {
                    let stop = stop(field, &pieces[i + 1..]);
                    // Whether a place behind this one, with nothing between them that ends the field, goes on with the rest.
                    let mut goes_on = false;
                    for (at, c) in text.char_indices().rev() {
                        let end = at + c.len_utf8();
                        goes_on = c != '/' && Some(c) != stop && (goes_on || after[end]);
                        here[at] = goes_on;
                    }
                }
            }
            fits.push(here);
        }
        fits.reverse();
        Self { fits }
    }

    fn fits(&self, piece: usize, at: usize) -> bool {
        self.fits[piece][at]
    }
}

/// The character that a placeholder takes none of: the one that follows it in the pattern.
fn stop(field: &str, after: &[Piece]) -> Option<char> {
    match after.first() {
        Some(Piece::Literal(literal)) if field != "table" => literal.chars().next(),
        _ => None,
    }
}

/// Whether a placeholder takes such a text.
fn field_fits(field: &str, text: &str) -> bool {
    !text.is_empty() && (field != "date" || is_date(text))
}

/// The ends that a placeholder that begins at a place may have, shortest first.
fn ends(text: &str, at: usize, stop: Option<char>) -> impl Iterator<Item = usize> + '_ {
    let rest = &text[at..];
    let limit = rest.find(|c| c == '/' || Some(c) == stop).unwrap_or(rest.len());
    rest.char_indices()
        .map(move |(i, _)| at + i)
        .chain([text.len()])
        .take_while(move |end| *end <= at + limit)
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

    /// The plainest way: every end that a piece may have is tried.
    fn tried(pieces: &[Piece], text: &str, fields: &mut BTreeMap<String, String>) -> bool {
        let Some((piece, rest)) = pieces.split_first() else { return text.is_empty() };
        let field = match piece {
            Piece::Literal(literal) => {
                return text.strip_prefix(literal.as_str()).is_some_and(|tail| tried(rest, tail, fields));
            }
            Piece::Any => return ends(text, 0, None).any(|end| tried(rest, &text[end..], fields)),
            Piece::Field(field) => field,
        };
        let lengths: Vec<usize> = ends(text, 0, stop(field, rest)).collect();
        lengths.into_iter().rev().filter(|end| field_fits(field, &text[..*end])).any(|end| {
            let fits = tried(rest, &text[end..], fields);
            if fits {
                fields.insert(field.clone(), text[..end].to_string());
            }
            fits
        })
    }

    #[test]
    fn names_match_as_if_every_end_were_tried() {
        let patterns = [
            "*-{table}-*.csv",
            "{table}_{date}_{batch}.csv",
            "{date}-{x}-*",
            "*_{date}0*/{table}",
            "{a}é{b}-*",
            "{table}.{f}",
        ];
        let parts = ["a", "-", "_", "é", "/", ".csv", "2024-11-05", "20241105", "0", ".", "calendar"];
        let mut seed = 0x9E37_79B9_7F4A_7C15_u64;
        let mut next = |n: usize| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            (seed % n as u64) as usize
        };
        let mut matched = 0;
        for _ in 0..20_000 {
            let name: String = (0..next(9)).map(|_| parts[next(parts.len())]).collect();
            let pattern = Pattern::parse(patterns[next(patterns.len())]).unwrap();
            let text = if pattern.whole_path { &name[..] } else { name.rsplit('/').next().unwrap_or(&name) };
            let mut fields = BTreeMap::new();
            let expected = tried(&pattern.pieces, text, &mut fields).then_some(fields);
            matched += usize::from(expected.is_some());
            assert_eq!(pattern.matches(&name), expected, "{pattern:?} against {name}");
        }
        assert!(matched > 500, "{matched}");
    }

    #[test]
    fn a_long_name_that_nearly_matches_takes_no_more_time_than_a_short_one() {
        let pattern = Pattern::parse("*-*-{table}-*-{date}-*-{batch}-*.csv").unwrap();
        for name in ["-".repeat(4_000), "a-".repeat(2_000), "20240101-".repeat(440), "é-".repeat(1_300)] {
            assert_eq!(pattern.matches(&name), None);
        }
        let name = format!("{}20241105-x-1-y.csv", "a-".repeat(1_900));
        assert_eq!(pattern.matches(&name).unwrap()["date"], "20241105");
    }

    #[test]
    fn a_pattern_that_cannot_be_read_says_why() {
        for bad in ["", "{table", "{}", "{a}{b}", "{a}_{a}", "{a}*", "{a b}"] {
            let error = Pattern::parse(bad).unwrap_err();
            assert_eq!(error.kind(), icefield_core::ErrorKind::InvalidInput, "{bad}");
        }
    }
}
