//! What the readers of this crate do with bytes that nobody vouches for. Each function takes any bytes: it may find nothing in
//! them, but must not panic, hang, or take memory out of proportion to them. Fuzzers call these (see `fuzz/`), and so does a test
//! on damaged copies of every file of their corpus. Not part of the library's interface.

use std::io::{self, Cursor, Read, Seek, SeekFrom};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, TimeUnit};

use crate::archive::{Failure, Members, RunCounts, Source, Watch, walk_tar, walk_zip};
use crate::columns::{Column, arrays};
use crate::csv::Splitter;
use crate::escape::{is_plain, may_be_in_a_path};
use crate::infer::Candidates;
use crate::json::Objects;
use crate::options::{Conversion, Csv, Limits};
use crate::quarantine::Reason;
use crate::rows::{BadRow, Chunk};
use crate::text::Text;

/// What reads a file of a kind.
pub type Reader = fn(&[u8]);

/// A kind of file, by the name of its fuzz target and of its folder in the corpus, and what reads it.
pub const KINDS: [(&str, Reader); 4] = [("csv", csv), ("json", json), ("tar", tar), ("zip", zip)];

/// Small, so that an input of a few kilobytes passes them.
fn limits() -> Limits {
    let mut limits = Limits { ratio_floor_bytes: 1 << 20, members: 1_000, ..Limits::default() };
    (limits.row_bytes, limits.field_bytes, limits.columns, limits.field_lines) = (4 << 10, 1 << 10, 64, 16);
    limits
}

/// A CSV file, in whatever encoding, to columns.
pub fn csv(bytes: &[u8]) {
    let limits = limits();
    let mut bytes = bytes;
    let Ok(mut text) = Text::new(&mut bytes) else { return };
    let mut splitter = Splitter::new(&mut text, &Csv::default(), b',', &limits);
    let mut bad = Vec::new();
    if !splitter.header(&mut bad).is_ok_and(|found| found) || !bad.is_empty() {
        return;
    }
    let width = splitter.chunk(None).width;
    assert!((1..=limits.columns).contains(&width));
    let mut columns: Vec<Column> = (0..width).map(column).collect();
    while splitter.next(width, &mut bad).is_ok_and(|more| more) {
        look(&splitter.chunk(Some(width)), &mut columns, &mut bad, &limits);
    }
}

/// JSON lines to columns.
pub fn json(bytes: &[u8]) {
    let limits = limits();
    let mut bytes = bytes;
    let Ok(mut text) = Text::new(&mut bytes) else { return };
    let mut objects = Objects::new(&mut text, &limits);
    let (mut bad, mut columns) = (Vec::new(), Vec::new());
    while objects.next(&mut bad).is_ok_and(|more| more) {
        columns.extend((columns.len()..objects.columns().len()).map(column));
        assert!(columns.len() <= limits.columns);
        look(&objects.chunk(), &mut columns, &mut bad, &limits);
    }
}

/// The columns of a file by turns: some whose types are inferred, and one of each type that values are parsed as.
fn column(at: usize) -> Column {
    let utc = || Some("UTC".into());
    let money = Conversion::Money { precision: 12, scale: 2 };
    let date = Conversion::Date { format: "%d/%m/%Y".into() };
    let timestamp = Conversion::Timestamp { format: "%d/%m/%Y %H:%M:%S%.f%z".into() };
    let (to, conversion) = match at % 16 {
        0 => (DataType::Int64, None),
        2 => (money.data_type(), Some(money)),
        3 => (DataType::Date32, None),
        4 => (DataType::Timestamp(TimeUnit::Microsecond, None), None),
        6 => (DataType::Float64, None),
        7 => (DataType::Boolean, None),
        8 => (DataType::Time64(TimeUnit::Microsecond), None),
        9 => (DataType::Timestamp(TimeUnit::Nanosecond, utc()), None),
        10 => (DataType::Int8, None),
        11 => (date.data_type(), Some(date)),
        12 => (timestamp.data_type(), Some(timestamp)),
        13 => (DataType::Decimal128(38, 38), None),
        14 => (DataType::Timestamp(TimeUnit::Second, utc()), None),
        _ => (DataType::Utf8, None),
    };
    let candidates = (to == DataType::Utf8).then(Candidates::default);
    Column { field: Field::new(format!("c{at}"), to, true).into(), conversion, candidates, nulls: 0 }
}

/// Parses a chunk: every row is taken or set aside.
fn look(chunk: &Chunk<'_>, columns: &mut [Column], bad: &mut Vec<BadRow>, limits: &Limits) {
    for row in bad.drain(..) {
        assert!(row.line > 0 && row.raw.len() <= 3 * limits.raw_bytes, "{row:?}");
    }
    if chunk.rows.is_empty() || columns.is_empty() {
        return;
    }
    let mut flaws = Vec::new();
    let arrays = arrays(chunk, columns, &mut flaws).expect("a row that does not parse is a flaw");
    let taken = arrays.first().map_or(0, |array| array.len());
    assert_eq!(taken + flaws.len(), chunk.rows.len());
}

/// A tar archive.
pub fn tar(bytes: &[u8]) {
    let mut members = Seen::default();
    let _ = walk_tar(&mut { bytes }, &limits(), &mut members);
    members.check(bytes.len());
}

/// A zip archive.
pub fn zip(bytes: &[u8]) {
    let mut members = Seen::default();
    let watch = Watch::new(Arc::new(RunCounts::default()), &limits(), Some(bytes.len() as u64));
    let _ = walk_zip(Bytes { inner: Cursor::new(bytes), watch }, &limits(), &mut members);
    members.check(bytes.len());
}

/// What an archive was said to hold.
#[derive(Default)]
struct Seen {
    members: u64,
    bytes: u64,
}

impl Seen {
    fn check(&self, size: usize) {
        let limits = limits();
        // A zip may say that a path occurs twice and then hold it once more.
        assert!(self.members <= 2 * limits.members, "{} members", self.members);
        let most = limits.ratio_floor_bytes.max(limits.ratio * (size as u64 + 1)) + (64 << 10);
        assert!(self.bytes <= most, "{} bytes of {size}", self.bytes);
    }
}

impl Members for Seen {
    fn member(&mut self, path: &str, data: &mut dyn Read) -> Result<(), Failure> {
        assert!(
            path.chars().all(may_be_in_a_path)
                && path.split('/').all(|part| !matches!(part, "" | "." | "..")),
            "{path:?}"
        );
        self.members += 1;
        self.bytes += io::copy(data, &mut io::sink())?;
        Ok(())
    }

    fn refused(&mut self, path: String, _: Reason, detail: String) -> Result<(), Failure> {
        assert!(path.chars().all(is_plain) && !detail.is_empty());
        self.members += 1;
        Ok(())
    }
}

/// An archive in memory.
struct Bytes<'a> {
    inner: Cursor<&'a [u8]>,
    watch: Watch,
}

impl Read for Bytes<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.inner.read(into)
    }
}

impl Seek for Bytes<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.inner.seek(to)
    }
}

impl Source for Bytes<'_> {
    fn size(&self) -> u64 {
        self.inner.get_ref().len() as u64
    }

    fn watch(&self) -> Watch {
        self.watch.clone()
    }
}
