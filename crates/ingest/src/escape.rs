//! Text from outside as people are shown it: in reports, messages and logs.
//!
//! Partners choose the names of archives, members, tables and columns. None of them may begin a line, move the cursor of a
//! terminal or turn the order of what is read around.

use std::fmt::Display;

pub(crate) use icefield_core::text::{Plain, is_plain};

/// Bytes of a message that are kept.
const DETAIL_BYTES: usize = 256;

/// Whether a path may have a character: those that people write, the joiners of Persian and what emoji are made of among them, which are
/// escaped where the path is shown.
pub(crate) fn may_be_in_a_path(c: char) -> bool {
    is_plain(c) || matches!(c, '\u{200c}' | '\u{200d}' | '\u{fe0f}')
}

/// As [`Plain`].
pub(crate) fn plain(text: &str) -> String {
    Plain(text).to_string()
}

/// A message as it is kept: escaped, and cut, as names and values in it are as long as a file has them.
pub(crate) fn detail(mut text: String) -> String {
    // What is cut off needs no escapes.
    cut(&mut text, DETAIL_BYTES);
    let mut text = plain(&text);
    cut(&mut text, DETAIL_BYTES);
    text
}

/// Cuts a text to at most `limit` bytes, between characters.
pub(crate) fn cut(text: &mut String, limit: usize) {
    if text.len() > limit {
        let end = (0..=limit).rev().find(|&at| text.is_char_boundary(at)).unwrap_or_default();
        text.truncate(end);
        text.push('…');
    }
}

/// What passed a limit, in words that name the limit.
pub(crate) fn past(what: &str, limit: &str, value: impl Display) -> String {
    format!("{what}: the limit {limit} is {value}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_begins_a_line_or_turns_one_around() {
        let marks = ["\n", "\r", "\u{85}", "\u{2028}", "\u{2029}", "\u{1b}[2J", "\0", "\u{7f}", "\u{9b}"];
        let turns = ["\u{61c}", "\u{200e}", "\u{200f}", "\u{202a}", "\u{202e}", "\u{2066}", "\u{2069}"];
        let unseen = [
            "\u{200b}",
            "\u{200d}",
            "\u{2060}",
            "\u{feff}",
            "\u{ad}",
            "\u{e0041}",
            "\u{3164}",
            "\u{fff9}",
            "\u{fe00}",
        ];
        for hostile in marks.into_iter().chain(turns).chain(unseen) {
            let shown = plain(&format!("a{hostile}b"));
            assert!(shown.starts_with("a\\u{") && shown.chars().all(is_plain), "{shown}");
        }
        for harmless in ["données/é.csv", "日本", "a b\\n'\"", "👍🏽", "ש"] {
            assert_eq!(plain(harmless), harmless);
        }
        let long = detail("\u{1b}".repeat(10_000));
        assert!(long.len() <= DETAIL_BYTES + '…'.len_utf8() && long.ends_with('…'), "{}", long.len());
    }
}
