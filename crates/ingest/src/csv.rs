//! CSV into rows: quoted fields, doubled quotes, line ends within quotes, `\n`, `\r\n` and `\r`.
//!
//! Unlike a general CSV reader this one tells an empty field from an empty string, knows each row's line, and sets aside
//! any row that is not as wide as the header, is cut by the end of the file or passes a limit, and goes on with the next.
//! Lines with nothing on them are no rows.
//!
//! A stray quote at a field's start takes what follows into its field, up to the next quote. Where that is more than
//! [`Limits::field_lines`] away, no field is meant: only the quote's own line is set aside. Where it is nearer, nothing tells
//! the rows between from a field's text, and they are set aside as one row, with the line that it begins on.

use std::io::{self, Read};

use memchr::memchr;

use crate::escape::past;
use crate::options::{Csv, Limits};
use crate::quarantine::Reason;
use crate::rows::{BadRow, Chunk, RowAt, Span, shown};

/// Bytes split at once: their fields' index stays in the second-level cache.
const CHUNK_BYTES: usize = 256 << 10;
/// Rows split at once.
const CHUNK_ROWS: usize = 8192;

pub(crate) struct Splitter<'a> {
    reader: &'a mut dyn Read,
    buffer: Vec<u8>,
    /// The bytes of the buffer that hold data, of which those before `at` are done with.
    filled: usize,
    at: usize,
    end_of_file: bool,
    begun: bool,
    line: u64,
    quote: u8,
    ends_field: [bool; 256],
    delimiter: u8,
    final_newline_required: bool,
    limits: &'a Limits,
    fields: Vec<Span>,
    rows: Vec<RowAt>,
}

enum Found {
    /// A row: its fields' number, its end, the start of the next, the lines it covers.
    Row { count: usize, end: usize, next: usize, lines: u64, terminated: bool, fault: Option<Reason> },
    /// The buffer ends before the row does.
    Partial,
}

impl<'a> Splitter<'a> {
    pub(crate) fn new(reader: &'a mut dyn Read, csv: &Csv, delimiter: u8, limits: &'a Limits) -> Self {
        let mut ends_field = [false; 256];
        for b in [delimiter, b'\n', b'\r'] {
            ends_field[usize::from(b)] = true;
        }
        Self {
            reader,
            buffer: vec![0; CHUNK_BYTES.min(limits.row_bytes)],
            filled: 0,
            at: 0,
            end_of_file: false,
            begun: false,
            line: 1,
            quote: csv.quote,
            ends_field,
            delimiter,
            final_newline_required: csv.final_newline_required,
            limits,
            fields: Vec::new(),
            rows: Vec::new(),
        }
    }

    /// The next rows of `width` fields, to be read with [`Splitter::chunk`]; `false` at the end. Rows of another width, or
    /// with another fault, go to `bad`.
    pub(crate) fn next(&mut self, width: usize, bad: &mut Vec<BadRow>) -> io::Result<bool> {
        self.split(Some(width), CHUNK_ROWS, bad)
    }

    /// The header's row, of any width up to the limit on columns: `false` when there is none.
    pub(crate) fn header(&mut self, bad: &mut Vec<BadRow>) -> io::Result<bool> {
        self.split(None, 1, bad)
    }

    /// The rows that the last call found. `width` as it was given there; for the header, the header's.
    pub(crate) fn chunk(&self, width: Option<usize>) -> Chunk<'_> {
        Chunk {
            data: &self.buffer[..self.filled],
            width: width.unwrap_or(self.fields.len()),
            fields: &self.fields,
            rows: &self.rows,
            quote: self.quote,
            quoted_is_text: false,
        }
    }

    fn split(&mut self, width: Option<usize>, max_rows: usize, bad: &mut Vec<BadRow>) -> io::Result<bool> {
        self.fields.clear();
        self.rows.clear();
        let bad_before = bad.len();
        loop {
            let start = self.at;
            while self.at < self.filled
                && self.rows.len() < max_rows
                && bad.len() - bad_before < max_rows
                && self.at - start < CHUNK_BYTES
            {
                let mark = self.fields.len();
                let from = self.at;
                let Found::Row { count, end, next, lines, terminated, fault } =
                    self.scan(from, width.unwrap_or(self.limits.columns))
                else {
                    self.fields.truncate(mark);
                    break;
                };
                let line = self.line;
                self.line += lines;
                self.at = next;
                if from == end {
                    self.fields.truncate(mark);
                    continue;
                }
                let flaw = self.flaw(count, width, lines, terminated, fault);
                if let Some((reason, detail)) = flaw {
                    self.fields.truncate(mark);
                    let raw = shown(&self.buffer[from..end], self.limits.raw_bytes);
                    bad.push(BadRow { line, reason, detail, raw });
                } else {
                    self.rows.push(RowAt { start: from as u32, end: end as u32, line });
                }
            }
            if !self.rows.is_empty() || bad.len() > bad_before {
                return Ok(true);
            }
            if self.at == self.filled && self.end_of_file {
                return Ok(false);
            }
            if self.at == 0 && self.filled == self.buffer.len() && !self.end_of_file {
                if self.buffer.len() < self.limits.row_bytes {
                    let grown = (self.buffer.len() * 2).min(self.limits.row_bytes);
                    self.buffer.resize(grown, 0);
                } else {
                    bad.push(self.skip_row()?);
                    return Ok(true);
                }
            }
            self.fill()?;
        }
    }

    /// What is wrong with a row, if anything.
    fn flaw(
        &self,
        count: usize,
        width: Option<usize>,
        lines: u64,
        terminated: bool,
        fault: Option<Reason>,
    ) -> Option<(Reason, String)> {
        let detail = match fault {
            Some(Reason::CutRow) => not_closed(lines),
            Some(Reason::OpenQuote) => {
                format!("a quote is not closed within {} lines", self.limits.field_lines)
            }
            Some(Reason::BadQuote) => "text follows a closing quote".to_string(),
            Some(Reason::FieldTooLarge) => past("bytes of a field", "field_bytes", self.limits.field_bytes),
            Some(_) => String::new(),
            None => {
                let Some(width) = width else {
                    let most = self.limits.columns;
                    return (count > most).then(|| {
                        (Reason::TooManyFields, past(&format!("{count} columns"), "columns", most))
                    });
                };
                let (reason, why) = if !terminated && count < width {
                    (Reason::CutRow, "the file ends in the row: ")
                } else if count < width {
                    (Reason::TooFewFields, "")
                } else if count > width {
                    (Reason::TooManyFields, "")
                } else if !terminated && self.final_newline_required {
                    (Reason::CutRow, "no line end closes the last row: ")
                } else {
                    return None;
                };
                return Some((reason, format!("{why}{count} fields where the header has {width}")));
            }
        };
        fault.map(|reason| (reason, detail))
    }

    /// Finds one row's fields; pushes at most one more than `most` of them.
    fn scan(&mut self, from: usize, most: usize) -> Found {
        let data = &self.buffer[..self.filled];
        let (quote, ends_field) = (self.quote, &self.ends_field);
        let (mut at, mut lines, mut count) = (from, 1, 0);
        let mut fault = None;
        loop {
            let start = at;
            let span = if data.get(at) == Some(&quote) {
                // The row as it is when the quote turns out to be a stray one.
                let (count_here, lines_here) = (count + 1, lines);
                let stray = |to: usize| {
                    let end = past_line_ends(&data[start + 1..to], self.limits.field_lines)?;
                    let (end, next) = (start + 1 + end, start + 2 + end);
                    let end = if data[end - 1] == b'\r' { end - 1 } else { end };
                    let fault = Some(Reason::OpenQuote);
                    Some(Found::Row {
                        count: count_here,
                        end,
                        next,
                        lines: lines_here,
                        terminated: true,
                        fault,
                    })
                };
                let mut escaped = false;
                let mut seek = at + 1;
                let close = loop {
                    let Some(offset) = memchr(quote, &data[seek..]) else {
                        if let Some(row) = stray(data.len()) {
                            return row;
                        }
                        if !self.end_of_file {
                            return Found::Partial;
                        }
                        let end = data.len();
                        lines += line_ends(&data[start + 1..end]);
                        let fault = Some(Reason::CutRow);
                        return Found::Row {
                            count: count + 1,
                            end,
                            next: end,
                            lines,
                            terminated: false,
                            fault,
                        };
                    };
                    let found = seek + offset;
                    match data.get(found + 1) {
                        Some(next) if *next == quote => {
                            escaped = true;
                            seek = found + 2;
                        }
                        None if !self.end_of_file => return Found::Partial,
                        _ => break found,
                    }
                };
                if let Some(row) = stray(close) {
                    return row;
                }
                lines += line_ends(&data[start + 1..close]);
                at = close + 1;
                if data.get(at).is_some_and(|b| !ends_field[usize::from(*b)]) {
                    fault = fault.or(Some(Reason::BadQuote));
                    at += until(&data[at..], ends_field);
                }
                Span::quoted(start + 1, close, escaped)
            } else {
                at += until(&data[at..], ends_field);
                Span::plain(start, at)
            };
            if at - start > self.limits.field_bytes {
                fault = Some(Reason::FieldTooLarge);
            }
            count += 1;
            if count <= most {
                self.fields.push(span);
            }
            let (end, next, terminated) = match data.get(at) {
                Some(b) if *b == self.delimiter => {
                    at += 1;
                    continue;
                }
                None if !self.end_of_file => return Found::Partial,
                None => (at, at, false),
                Some(b'\n') => (at, at + 1, true),
                Some(_) => match data.get(at + 1) {
                    Some(b'\n') => (at, at + 2, true),
                    None if !self.end_of_file => return Found::Partial,
                    _ => (at, at + 1, true),
                },
            };
            return Found::Row { count, end, next, lines, terminated, fault };
        }
    }

    /// Moves what is left to the front and reads behind it.
    fn fill(&mut self) -> io::Result<()> {
        self.buffer.copy_within(self.at..self.filled, 0);
        self.filled -= self.at;
        self.at = 0;
        while self.filled < self.buffer.len() && !self.end_of_file {
            match self.reader.read(&mut self.buffer[self.filled..]) {
                Ok(0) => self.end_of_file = true,
                Ok(n) => self.filled += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        if !self.begun {
            self.begun = true;
            if self.buffer[..self.filled].starts_with(b"\xEF\xBB\xBF") {
                self.at = 3;
            }
        }
        Ok(())
    }

    /// Passes over a row that the buffer can't hold.
    fn skip_row(&mut self) -> io::Result<BadRow> {
        let raw = shown(&self.buffer[self.at..self.filled], self.limits.raw_bytes);
        let line = self.line;
        self.line += 1;
        let started = self.line;
        let (mut quoted, mut field_start, mut after_quote) = (false, true, false);
        'row: loop {
            while self.at < self.filled {
                let b = self.buffer[self.at];
                self.at += 1;
                if quoted {
                    if b == self.quote {
                        (quoted, after_quote) = (false, true);
                    } else if b == b'\n' {
                        self.line += 1;
                    }
                    continue;
                }
                match b {
                    b'\n' => break 'row,
                    b'\r' => {
                        if self.at == self.filled {
                            self.fill()?;
                        }
                        if self.buffer[..self.filled].get(self.at) == Some(&b'\n') {
                            self.at += 1;
                        }
                        break 'row;
                    }
                    // A quote opens at a field's start, and opens again right after one that closed: a doubled quote.
                    _ if b == self.quote && (field_start || after_quote) => quoted = true,
                    _ => {}
                }
                field_start = b == self.delimiter;
                after_quote = false;
            }
            if self.end_of_file {
                break;
            }
            self.fill()?;
        }
        let (reason, detail) = if quoted {
            (Reason::CutRow, not_closed(1 + self.line - started))
        } else {
            (Reason::RowTooLarge, past("bytes of the row", "row_bytes", self.limits.row_bytes))
        };
        Ok(BadRow { line, reason, detail, raw })
    }
}

/// The first line end, where there are more than `most`.
fn past_line_ends(data: &[u8], most: usize) -> Option<usize> {
    let mut ends = memchr::memchr_iter(b'\n', data);
    let first = ends.next()?;
    (most == 0 || ends.nth(most - 1).is_some()).then_some(first)
}

fn line_ends(data: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', data).count() as u64
}

/// A quote that is not closed takes all that follows along: how much that is tells a cut file from a stray quote.
fn not_closed(lines: u64) -> String {
    format!("a quote is not closed before the file's end, {lines} lines of it")
}

/// Bytes before the next one that ends a field.
#[inline(always)]
fn until(data: &[u8], ends_field: &[bool; 256]) -> usize {
    data.iter().position(|b| ends_field[usize::from(*b)]).unwrap_or(data.len())
}

#[cfg(test)]
mod tests;
