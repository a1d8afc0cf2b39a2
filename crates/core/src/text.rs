//! Text from outside as people are shown it: in errors, reports and logs.
//!
//! Partners and owners of tables choose the names of files, columns, branches and properties. None of them may begin a line, move the
//! cursor of a terminal or turn the order of what is read around.

use std::fmt::{self, Display, Write};

/// A text of others: what could pass for something else is written as `\u{1b}`.
///
/// ```
/// use icefield_core::text::Plain;
///
/// assert_eq!(Plain("a\nb").to_string(), "a\\u{a}b");
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Plain<'a>(pub &'a str);

impl Display for Plain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        while let Some((at, odd)) = rest.char_indices().find(|(_, c)| !is_plain(*c)) {
            let (before, after) = rest.split_at(at);
            write!(f, "{before}{}", odd.escape_unicode())?;
            rest = after.get(odd.len_utf8()..).unwrap_or_default();
        }
        f.write_str(rest)
    }
}

/// Whether a character stands for itself alone and is seen: no control character, line end, mark of the direction of text, or
/// one that shows as nothing, so that two names look the same.
pub fn is_plain(c: char) -> bool {
    !(c.is_control() || is_mark(c) || is_invisible(c))
}

/// Line ends, and marks of direction.
fn is_mark(c: char) -> bool {
    matches!(
        c,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    )
}

/// What has no width: joiners, fillers, tags, variants. Unicode calls most of them ignorable by default.
fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{ad}' | '\u{34f}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200d}' | '\u{2060}'..='\u{2065}' | '\u{206a}'..='\u{206f}' | '\u{2800}' | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}'
    )
}

/// Writes what is displayed as [`Plain`].
pub(crate) fn write_plain(f: &mut fmt::Formatter<'_>, of: impl Display) -> fmt::Result {
    struct Escaped<'a, 'b>(&'a mut fmt::Formatter<'b>);
    impl Write for Escaped<'_, '_> {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            write!(self.0, "{}", Plain(text))
        }
    }
    write!(Escaped(f), "{of}")
}
