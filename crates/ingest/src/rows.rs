//! Rows as they were split, before they have types: spans of one buffer.

use crate::escape::cut;

/// Bytes of a column's name in a message.
const NAME_BYTES: usize = 96;

/// Where a field's text is in its chunk's buffer, and how it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    start: u32,
    /// The two highest bits are flags; chunks stay far below 2^30 bytes.
    end: u32,
}

const QUOTED: u32 = 1 << 31;
const ESCAPED: u32 = 1 << 30;
const END: u32 = ESCAPED - 1;

impl Span {
    /// A field that is there only in other rows.
    pub(crate) const NULL: Self = Self { start: 0, end: 0 };

    pub(crate) fn plain(start: usize, end: usize) -> Self {
        Self { start: start as u32, end: end as u32 }
    }

    pub(crate) fn quoted(start: usize, end: usize, escaped: bool) -> Self {
        Self { start: start as u32, end: end as u32 | QUOTED | if escaped { ESCAPED } else { 0 } }
    }

    fn range(self) -> std::ops::Range<usize> {
        self.start as usize..(self.end & END) as usize
    }

    pub(crate) fn is_quoted(self) -> bool {
        self.end & QUOTED != 0
    }

    /// Empty and not quoted.
    pub(crate) fn is_null(self) -> bool {
        self.start == self.end
    }
}

/// Where a row is: its bytes in the buffer, and the line on which it starts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RowAt {
    pub(crate) start: u32,
    pub(crate) end: u32,
    pub(crate) line: u64,
}

/// Some rows of a file, all of the same width.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Chunk<'a> {
    pub(crate) data: &'a [u8],
    pub(crate) width: usize,
    /// The rows' fields, row by row.
    pub(crate) fields: &'a [Span],
    pub(crate) rows: &'a [RowAt],
    pub(crate) quote: u8,
    /// Whether a quoted value is a string by its format, as in JSON, and not just protected, as in CSV.
    pub(crate) quoted_is_text: bool,
}

impl Chunk<'_> {
    /// A column's fields, row by row.
    pub(crate) fn column(&self, column: usize) -> impl ExactSizeIterator<Item = Span> + '_ {
        self.fields.iter().skip(column).step_by(self.width).copied()
    }

    /// A field's text, `None` for NULL; `scratch` holds it where doubled quotes had to be undone.
    #[inline(always)]
    pub(crate) fn text<'s>(&'s self, span: Span, scratch: &'s mut Vec<u8>) -> Option<&'s [u8]> {
        if span.is_null() {
            return None;
        }
        let text = &self.data[span.range()];
        Some(if span.end & ESCAPED == 0 { text } else { self.unescaped(text, scratch) })
    }

    #[cold]
    fn unescaped<'s>(&self, text: &[u8], scratch: &'s mut Vec<u8>) -> &'s [u8] {
        scratch.clear();
        let mut rest = text;
        while let Some(at) = memchr::memchr(self.quote, rest) {
            scratch.extend_from_slice(&rest[..=at]);
            rest = rest.get(at + 2..).unwrap_or_default();
        }
        scratch.extend_from_slice(rest);
        scratch
    }

    /// A row's text as it was written.
    pub(crate) fn raw(&self, row: usize) -> &[u8] {
        let at = self.rows[row];
        &self.data[at.start as usize..at.end as usize]
    }
}

/// A row that was split but can't be taken.
#[derive(Debug)]
pub(crate) struct BadRow {
    pub(crate) line: u64,
    pub(crate) reason: crate::Reason,
    pub(crate) detail: String,
    pub(crate) raw: String,
}

/// A column's name as messages have it: partners' names may be of any length.
pub(crate) fn shortened(name: &str) -> String {
    let mut name = shown(name.as_bytes(), NAME_BYTES + 4);
    cut(&mut name, NAME_BYTES);
    name
}

/// At most `limit` bytes as text, what is not UTF-8 replaced.
pub(crate) fn shown(bytes: &[u8], limit: usize) -> String {
    let cut = &bytes[..bytes.len().min(limit)];
    match std::str::from_utf8(cut) {
        Ok(text) => text.to_string(),
        // A character cut in half by the limit is left out rather than replaced.
        Err(e) if e.error_len().is_none() && cut.len() < bytes.len() => {
            String::from_utf8_lossy(&cut[..e.valid_up_to()]).into_owned()
        }
        Err(_) => String::from_utf8_lossy(cut).into_owned(),
    }
}
