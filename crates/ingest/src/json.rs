//! JSON lines into rows: one object a line, its members the columns.
//!
//! A string is its text, a number, boolean, object or array its JSON, as it was written; `null` and an absent key are NULL.
//! Columns may come at any line. The rows of a chunk that came before one are widened, so that lines with a new column each make
//! no chunk each.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::io::{self, Read};

use serde::de::IgnoredAny;

use crate::escape::past;
use crate::options::Limits;
use crate::quarantine::Reason;
use crate::rows::{BadRow, Chunk, RowAt, Span, shortened, shown};

const CHUNK_BYTES: usize = 256 << 10;
const CHUNK_ROWS: usize = 8192;
/// Fields of a chunk, those that rows lack included: a row of three bytes has as many as all columns that are known.
const CHUNK_FIELDS: usize = 256 << 10;

pub(crate) struct Objects<'a> {
    lines: Lines<'a>,
    limits: &'a Limits,
    columns: Vec<String>,
    places: HashMap<String, usize>,
    /// The chunk: each line as it was written, then its values.
    data: Vec<u8>,
    fields: Vec<Span>,
    /// Where each row's fields end, while the chunk is made.
    ends: Vec<usize>,
    rows: Vec<RowAt>,
    /// A line that was read and that the next chunk begins with.
    kept: Option<(u64, Vec<u8>)>,
}

impl<'a> Objects<'a> {
    pub(crate) fn new(reader: &'a mut dyn Read, limits: &'a Limits) -> Self {
        Self {
            lines: Lines {
                reader,
                buffer: vec![0; 64 << 10],
                filled: 0,
                at: 0,
                end_of_file: false,
                line: 1,
                ended_open: false,
            },
            limits,
            columns: Vec::new(),
            places: HashMap::new(),
            data: Vec::new(),
            fields: Vec::new(),
            ends: Vec::new(),
            rows: Vec::new(),
            kept: None,
        }
    }

    /// The columns of the last chunk. Later ones have these first, in this order.
    pub(crate) fn columns(&self) -> &[String] {
        &self.columns
    }

    pub(crate) fn chunk(&self) -> Chunk<'_> {
        Chunk {
            data: &self.data,
            width: self.columns.len(),
            fields: &self.fields,
            rows: &self.rows,
            quote: 0,
            quoted_is_text: true,
        }
    }

    /// The next objects; `false` at the end. Lines that are no objects go to `bad`.
    pub(crate) fn next(&mut self, bad: &mut Vec<BadRow>) -> io::Result<bool> {
        self.data.clear();
        self.fields.clear();
        self.ends.clear();
        self.rows.clear();
        let bad_before = bad.len();
        let (mut counted, mut bad_bytes) = (bad_before, 0);
        while self.rows.len() < CHUNK_ROWS
            && self.rows.len() * self.columns.len() < CHUNK_FIELDS
            && self.data.len() < CHUNK_BYTES
            && bad.len() - bad_before < CHUNK_ROWS
            && bad_bytes < CHUNK_BYTES
        {
            bad_bytes += bad[counted..].iter().map(|row| row.detail.len() + row.raw.len()).sum::<usize>();
            counted = bad.len();
            let (line, text) = match self.kept.take() {
                Some(kept) => kept,
                None => match self.lines.next(self.limits, bad)? {
                    Some(line) => line,
                    None => break,
                },
            };
            let text = match std::str::from_utf8(&text) {
                Ok(text) => text,
                Err(_) => {
                    bad.push(self.bad(line, Reason::NotUtf8, "the line is not UTF-8 text", &text));
                    continue;
                }
            };
            let members = match object(text, self.limits.columns) {
                Ok(Some(members)) => members,
                Ok(None) => {
                    let detail = past("keys of the line", "columns", self.limits.columns);
                    bad.push(self.bad(line, Reason::TooManyFields, &detail, text.as_bytes()));
                    continue;
                }
                Err(detail) => {
                    let cut =
                        self.lines.ended_open && self.lines.end_of_file && self.lines.at == self.lines.filled;
                    let reason = if cut { Reason::CutRow } else { Reason::BadJson };
                    bad.push(self.bad(line, reason, &detail, text.as_bytes()));
                    continue;
                }
            };
            if members.is_empty() && self.columns.is_empty() {
                bad.push(self.bad(line, Reason::BadJson, "the object is empty", text.as_bytes()));
                continue;
            }
            let fresh = |key: &str| !self.places.contains_key(key);
            if members.iter().any(|(key, _)| fresh(key)) {
                if let Some((reason, detail)) = self.flaw(&members) {
                    // A line that is set aside has no say in what columns there are.
                    bad.push(self.bad(line, reason, &detail, text.as_bytes()));
                    continue;
                }
                let count = self.columns.len() + members.iter().filter(|(key, _)| fresh(key)).count();
                if count > self.limits.columns {
                    let detail =
                        past(&format!("{count} columns with this line's"), "columns", self.limits.columns);
                    bad.push(self.bad(line, Reason::TooManyFields, &detail, text.as_bytes()));
                    continue;
                }
                if !self.rows.is_empty() && (self.rows.len() + 1) * count > CHUNK_FIELDS {
                    self.kept = Some((line, text.as_bytes().to_vec()));
                    break;
                }
                for (key, _) in &members {
                    if !self.places.contains_key(key.as_ref()) {
                        self.places.insert(key.to_string(), self.columns.len());
                        self.columns.push(key.to_string());
                    }
                }
            }
            if let Err((reason, detail)) = self.take(line, text, &members) {
                bad.push(self.bad(line, reason, &detail, text.as_bytes()));
            }
        }
        self.widen();
        Ok(!self.rows.is_empty() || bad.len() > bad_before)
    }

    /// Gives the rows the columns that came after them, too.
    fn widen(&mut self) {
        let width = self.columns.len();
        if self.fields.len() == self.rows.len() * width {
            return;
        }
        let mut fields = Vec::with_capacity(self.rows.len() * width);
        let mut start = 0;
        for (row, end) in self.ends.iter().enumerate() {
            fields.extend_from_slice(&self.fields[start..*end]);
            fields.resize((row + 1) * width, Span::NULL);
            start = *end;
        }
        self.fields = fields;
    }

    fn take(
        &mut self,
        line: u64,
        text: &str,
        members: &[(Cow<'_, str>, &str)],
    ) -> Result<(), (Reason, String)> {
        let start = self.data.len();
        self.data.extend_from_slice(text.as_bytes());
        let end = self.data.len();
        let mark = self.fields.len();
        self.fields.resize(mark + self.columns.len(), Span::NULL);
        let mut taken = vec![false; self.columns.len()];
        for (key, value) in members {
            let Some(&place) = self.places.get(key.as_ref()) else { continue };
            let fault = if std::mem::replace(&mut taken[place], true) {
                Some(occurs_twice(key))
            } else if value.len() > self.limits.field_bytes {
                Some(too_large(self.limits))
            } else {
                None
            };
            if let Some(fault) = fault {
                self.fields.truncate(mark);
                self.data.truncate(start);
                return Err(fault);
            }
            let at = self.data.len();
            self.fields[mark + place] = if *value == "null" {
                Span::NULL
            } else if value.starts_with('"') {
                match serde_json::from_str::<Cow<'_, str>>(value) {
                    Ok(text) => self.data.extend_from_slice(text.as_bytes()),
                    Err(e) => {
                        self.fields.truncate(mark);
                        self.data.truncate(start);
                        return Err((Reason::BadJson, e.to_string()));
                    }
                }
                Span::quoted(at, self.data.len(), false)
            } else {
                self.data.extend_from_slice(value.as_bytes());
                Span::plain(at, self.data.len())
            };
        }
        self.rows.push(RowAt { start: start as u32, end: end as u32, line });
        self.ends.push(self.fields.len());
        Ok(())
    }

    /// What is wrong with an object's members, if anything.
    fn flaw(&self, members: &[(Cow<'_, str>, &str)]) -> Option<(Reason, String)> {
        let mut known = HashSet::with_capacity(members.len());
        members.iter().find_map(|(key, value)| {
            if !known.insert(key) {
                Some(occurs_twice(key))
            } else if key.contains('\0') {
                let key = shortened(key);
                Some((
                    Reason::BadJson,
                    format!("the key {key:?} has a NUL character, which no column's name may have"),
                ))
            } else if key.len() > self.limits.column_name_bytes {
                let detail = past("bytes of a key", "column_name_bytes", self.limits.column_name_bytes);
                Some((Reason::NameTooLong, detail))
            } else if value.len() > self.limits.field_bytes {
                Some(too_large(self.limits))
            } else if value.starts_with('"') {
                serde_json::from_str::<String>(value).err().map(|e| (Reason::BadJson, e.to_string()))
            } else {
                None
            }
        })
    }

    fn bad(&self, line: u64, reason: Reason, detail: &str, raw: &[u8]) -> BadRow {
        BadRow { line, reason, detail: detail.to_string(), raw: shown(raw, self.limits.raw_bytes) }
    }
}

fn occurs_twice(key: &str) -> (Reason, String) {
    (Reason::BadJson, format!("the key {:?} occurs twice", shortened(key)))
}

fn too_large(limits: &Limits) -> (Reason, String) {
    (Reason::FieldTooLarge, past("bytes of a field", "field_bytes", limits.field_bytes))
}

/// An object's keys and the text of its values.
type Members<'a> = Vec<(Cow<'a, str>, &'a str)>;

/// The members of an object. The whole is checked by the JSON parser first, so that what follows may
/// lean on its being well formed. `None` for one of more than `most` keys.
fn object(text: &str, most: usize) -> Result<Option<Members<'_>>, String> {
    serde_json::from_str::<IgnoredAny>(text).map_err(|e| e.to_string())?;
    let text = text.trim();
    let Some(mut rest) = text.strip_prefix('{').and_then(|t| t.strip_suffix('}')).map(str::trim_start) else {
        return Err("the line is JSON, but no object".into());
    };
    let mut members = Vec::new();
    while !rest.is_empty() {
        if members.len() == most {
            return Ok(None);
        }
        let (key, tail) = rest.split_at(value_end(rest.as_bytes()));
        let key = serde_json::from_str::<String>(key).map_err(|e| e.to_string())?;
        let tail = tail.trim_start().strip_prefix(':').unwrap_or_default().trim_start();
        let (value, tail) = tail.split_at(value_end(tail.as_bytes()));
        members.push((Cow::Owned(key), value.trim_end()));
        let tail = tail.trim_start();
        rest = tail.strip_prefix(',').unwrap_or(tail).trim_start();
    }
    Ok(Some(members))
}

/// Where the value that the text starts with ends.
fn value_end(text: &[u8]) -> usize {
    let (mut depth, mut quoted, mut at) = (0_usize, false, 0);
    while let Some(&b) = text.get(at) {
        match b {
            b'\\' if quoted => at += 1,
            b'"' => {
                quoted = !quoted;
                if !quoted && depth == 0 {
                    return at + 1;
                }
            }
            _ if quoted => {}
            b'{' | b'[' => depth += 1,
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return at + 1;
                }
            }
            b',' | b':' if depth == 0 => return at,
            _ => {}
        }
        at += 1;
    }
    text.len()
}

/// Lines, none of them held beyond the limit on rows.
struct Lines<'a> {
    reader: &'a mut dyn Read,
    buffer: Vec<u8>,
    filled: usize,
    at: usize,
    end_of_file: bool,
    line: u64,
    /// Whether no line end closed the last line.
    ended_open: bool,
}

impl Lines<'_> {
    /// The next line that has anything on it.
    fn next(&mut self, limits: &Limits, bad: &mut Vec<BadRow>) -> io::Result<Option<(u64, Vec<u8>)>> {
        loop {
            let mut text = Vec::new();
            let mut size = 0_usize;
            self.ended_open = true;
            while self.ended_open {
                if self.at == self.filled {
                    self.at = 0;
                    self.filled = loop {
                        match self.reader.read(&mut self.buffer) {
                            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                            read => break read?,
                        }
                    };
                    if self.filled == 0 {
                        self.end_of_file = true;
                        break;
                    }
                }
                let held = &self.buffer[self.at..self.filled];
                let end = memchr::memchr(b'\n', held);
                let part = &held[..end.unwrap_or(held.len())];
                let room = limits.row_bytes.saturating_sub(text.len());
                text.extend_from_slice(&part[..part.len().min(room)]);
                size += part.len();
                self.at += part.len() + usize::from(end.is_some());
                self.ended_open = end.is_none();
            }
            let line = self.line;
            if size == 0 && self.end_of_file && self.ended_open {
                return Ok(None);
            }
            self.line += 1;
            if line == 1 && text.starts_with(b"\xEF\xBB\xBF") {
                text.drain(..3);
            }
            if size > limits.row_bytes {
                let detail = past("bytes of the row", "row_bytes", limits.row_bytes);
                let raw = shown(&text, limits.raw_bytes);
                bad.push(BadRow { line, reason: Reason::RowTooLarge, detail, raw });
            } else if !text.trim_ascii().is_empty() {
                return Ok(Some((line, text)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &[u8], limits: &Limits) -> (Vec<Vec<String>>, Vec<(u64, Reason)>) {
        let mut reader = text;
        let mut objects = Objects::new(&mut reader, limits);
        let (mut rows, mut bad, mut scratch) = (Vec::new(), Vec::new(), Vec::new());
        while objects.next(&mut bad).unwrap() {
            let chunk = objects.chunk();
            for row in chunk.fields.chunks(chunk.width.max(1)) {
                let named = row.iter().zip(objects.columns()).filter_map(|(span, name)| {
                    let text = String::from_utf8(chunk.text(*span, &mut scratch)?.to_vec()).unwrap();
                    Some(format!("{name}={text}"))
                });
                rows.push(named.collect());
            }
        }
        (rows, bad.into_iter().map(|b| (b.line, b.reason)).collect())
    }

    #[test]
    fn columns_come_as_the_lines_bring_them() {
        let text = br#"{"id": 1, "name": "a, \"b\" \u00e9", "tags": ["x", {"y": "}"}]}

{"id": 12345678901234567890.10, "new": true, "name": null}
{}
{"id":""}
"#;
        let (rows, bad) = read(text, &Limits::default());
        assert!(bad.is_empty(), "{bad:?}");
        assert_eq!(rows[0], ["id=1", "name=a, \"b\" é", r#"tags=["x", {"y": "}"}]"#]);
        assert_eq!(rows[1], ["id=12345678901234567890.10", "new=true"]);
        assert_eq!(rows[2], [] as [&str; 0]);
        assert_eq!(rows[3], ["id="]);
    }

    #[test]
    fn rows_of_three_bytes_after_a_wide_one_come_in_small_chunks() {
        let keys: Vec<String> = (0..4_000).map(|k| format!("\"k{k}\":1")).collect();
        let text = format!("{{{}}}\n{}", keys.join(","), "{}\n".repeat(2_000));
        let (mut reader, limits, mut rows) = (text.as_bytes(), Limits::default(), 0);
        let mut objects = Objects::new(&mut reader, &limits);
        while objects.next(&mut Vec::new()).unwrap() {
            let chunk = objects.chunk();
            assert!(chunk.fields.len() < CHUNK_FIELDS + chunk.width, "{} fields", chunk.fields.len());
            assert_eq!(chunk.fields.len(), chunk.rows.len() * chunk.width);
            rows += chunk.rows.len();
        }
        assert_eq!(rows, 2_001);
    }

    #[test]
    fn lines_with_a_new_key_each_come_in_a_few_chunks() {
        let line = |k: usize| format!("{{\"k{k}\":{k},\"k0\":0}}\n");
        let text: String = (1..4_000).map(line).collect();
        let (mut reader, limits, mut rows, mut chunks) = (text.as_bytes(), Limits::default(), 0, 0);
        let mut objects = Objects::new(&mut reader, &limits);
        let mut scratch = Vec::new();
        while objects.next(&mut Vec::new()).unwrap() {
            let (chunk, columns) = (objects.chunk(), objects.columns());
            assert_eq!(chunk.fields.len(), chunk.rows.len() * chunk.width);
            assert!(chunk.fields.len() < CHUNK_FIELDS + chunk.width, "{} fields", chunk.fields.len());
            for row in chunk.fields.chunks(chunk.width) {
                rows += 1;
                let named = row.iter().zip(columns).filter(|(span, _)| !span.is_null());
                let values = named
                    .map(|(span, name)| (name.clone(), chunk.text(*span, &mut scratch).unwrap().to_vec()));
                let values: Vec<_> = values.collect();
                assert_eq!(values.len(), 2);
                assert!(values.contains(&("k0".into(), b"0".to_vec())));
                assert!(values.contains(&(format!("k{rows}"), rows.to_string().into_bytes())));
            }
            chunks += 1;
        }
        assert_eq!(rows, 3_999);
        assert!(chunks < 100, "{chunks} chunks");
    }

    #[test]
    fn a_line_that_is_set_aside_brings_no_columns() {
        let limits = Limits { field_bytes: 10, ..Limits::default() };
        let text = b"{\"a\":1}\n{\"b\":1,\"b\":2}\n{\"c\":\"0123456789\"}\n{\"d\":\"\\ud800\"}\n{\"e\":2}\n";
        let mut reader = &text[..];
        let mut objects = Objects::new(&mut reader, &limits);
        let mut bad = Vec::new();
        while objects.next(&mut bad).unwrap() {}
        assert_eq!(objects.columns(), ["a", "e"]);
        let bad: Vec<_> = bad.into_iter().map(|row| (row.line, row.reason)).collect();
        assert_eq!(bad, [(2, Reason::BadJson), (3, Reason::FieldTooLarge), (4, Reason::BadJson)]);
    }

    #[test]
    fn a_line_that_is_no_object_is_set_aside() {
        let limits = Limits { row_bytes: 1024, ..Limits::default() };
        let long = format!("{{\"a\":\"{}\"}}\n", "x".repeat(200_000));
        let text =
            [&b"[1]\n{\"a\":1,\"a\":2}\n{\"a\":\"\xff\"}\n"[..], long.as_bytes(), b"{\"a\":3}\n{\"a\":"]
                .concat();
        let (rows, bad) = read(&text, &limits);
        assert_eq!(rows, [["a=3"]]);
        let expected = [
            (1, Reason::BadJson),
            (2, Reason::BadJson),
            (3, Reason::NotUtf8),
            (4, Reason::RowTooLarge),
            (6, Reason::CutRow),
        ];
        assert_eq!(bad, expected);
    }
}
