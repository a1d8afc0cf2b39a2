//! What could not be taken, set aside with its source and reason: archives, members, rows.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Builder, RecordBatch, StringBuilder};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use futures::stream::BoxStream;
use icefield_core::Result;
use icefield_core::storage::Storage;
use serde::{Deserialize, Serialize};

use crate::escape::Plain;
use crate::read::{self, Part};
use crate::staging::Staging;

/// What was set aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// A whole archive: none of it was taken (or, when so chosen, none after the break).
    Archive,
    /// One file of an archive.
    Member,
    /// One row of a file.
    Row,
}

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident = $text:literal,)+) => {
        /// Why something was set aside.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        #[non_exhaustive]
        pub enum Reason {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Reason {
            /// The reason in words, as the quarantine table has it.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)+
                }
            }
        }
    };
}

reasons! {
    /// The archive ends before its end.
    Truncated = "truncated",
    /// The archive's or the member's compressed bytes are damaged.
    Corrupt = "corrupt",
    /// The manifest promises the archive; it is not there.
    Missing = "missing",
    /// The store did not give the archive, retries included.
    Unreadable = "unreadable",
    /// Not an archive or a file of a kind that is known by its name.
    UnknownFormat = "unknown format",
    /// More decompressed bytes for a compressed one than the limit: a bomb.
    RatioExceeded = "ratio exceeded",
    /// More members than the limit.
    TooManyMembers = "too many members",
    /// More decompressed bytes than the limit on an archive.
    TooManyBytes = "too many bytes",
    /// More files of tables than the limit on an archive, or more to be known of them than it allows.
    TooManyFiles = "too many files",
    /// More tables than the limit on an archive, or than a run has room for.
    TooManyTables = "too many tables",
    /// More columns of a table, of all its files, than the limit.
    TooManyColumns = "too many columns",
    /// The run came to one of its own limits before it had the archive: no fault of the archive's. Rows of a run that lacks
    /// an archive are another batch: as with [`Reason::Unreadable`], run again, or with higher limits, before they are applied.
    RunLimit = "limit of the run",
    /// A path leaves its folder, is absolute, no text, or has characters that are not shown.
    UnsafePath = "unsafe path",
    /// A member, or a file or folder beside the archives, is a link. None is followed.
    Link = "link",
    /// A member, or a file beside the archives, is a device, a pipe, a socket, sparse, or encrypted.
    NotAFile = "not a plain file",
    /// A member's name matches no pattern.
    NoPattern = "no pattern",
    /// A member's table is none that there may be ([`crate::Ingest::tables`]), or its name is no plain one.
    TableName = "table name",
    /// A member's path occurs twice in its archive.
    DuplicateMember = "duplicate member",
    /// A member has more bytes than the limit.
    MemberTooLarge = "member too large",
    /// A file has no header: it is empty.
    NoHeader = "no header",
    /// A file's header can't be used: a name twice, too many columns, a quote that is not closed.
    BadHeader = "bad header",
    /// A column's name has more bytes than the limit.
    NameTooLong = "name too long",
    /// A file lacks a column that the given schema requires.
    MissingColumn = "missing column",
    /// Bytes that are not UTF-8 text.
    NotUtf8 = "not utf-8",
    /// NUL bytes, which no text has: a damaged file, a binary one, or text in an encoding that the file does not tell.
    NotText = "not text",
    /// A row has more fields than the header.
    TooManyFields = "too many fields",
    /// A row has fewer fields than the header.
    TooFewFields = "too few fields",
    /// The file ends in the middle of the row.
    CutRow = "cut row",
    /// Text follows a closing quote.
    BadQuote = "bad quote",
    /// A quote is not closed within as many lines as a field may have.
    OpenQuote = "open quote",
    /// A field has more bytes than the limit.
    FieldTooLarge = "field too large",
    /// A row has more bytes than the limit.
    RowTooLarge = "row too large",
    /// A value does not parse as its column's type.
    BadValue = "bad value",
    /// A required column is empty.
    NullValue = "null value",
    /// A line is not a JSON object.
    BadJson = "bad json",
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One archive, member or row that was set aside.
///
/// It displays as one line, whatever is in it; `archive` and `raw` are as they came, and are not for a terminal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Quarantined {
    /// What it is.
    pub level: Level,
    /// The archive's location.
    pub archive: String,
    /// The member's path in the archive; for a plain file its name.
    pub member: Option<String>,
    /// The table that it would have gone to, where that is known.
    pub table: Option<String>,
    /// The line on which the row starts, from 1, the header being 1.
    pub line: Option<u64>,
    /// Why.
    pub reason: Reason,
    /// Why, in particular: one line of at most 256 bytes and an ellipsis. Where a limit was passed it names it and its value.
    pub detail: String,
    /// The row as it was written, cut at [`crate::Limits::raw_bytes`], bytes that are not UTF-8 replaced.
    pub raw: Option<String>,
}

impl Quarantined {
    /// Bytes that it takes in memory, about.
    pub(crate) fn bytes(&self) -> usize {
        let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        let texts = text(&self.member) + text(&self.table) + text(&self.raw);
        size_of::<Self>() + self.archive.len() + self.detail.len() + texts
    }
}

impl fmt::Display for Quarantined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let archive = icefield_core::storage::file_name(&self.archive);
        write!(f, "archive {}: ", Plain(archive))?;
        if let Some(member) = &self.member {
            write!(f, "member {}: ", Plain(member))?;
        }
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        Plain(&self.detail).fmt(f)
    }
}

/// Everything that was set aside in a run: counts, the first ones as a list, and all of them as a table.
#[derive(Debug, Clone, Default)]
pub struct Quarantine {
    pub(crate) listed: Vec<Quarantined>,
    pub(crate) counts: BTreeMap<(Level, Reason), u64>,
    pub(crate) parts: Vec<Part>,
    pub(crate) storage: Storage,
    /// Keeps a temporary staging folder.
    pub(crate) staging: Option<Arc<Staging>>,
}

impl Quarantine {
    /// Archives, then members, then rows, each in the order of the archives: of each archive the first 1,000 members and 100
    /// rows, and of all of these the first 10,000, or as many as [`crate::Limits::listed_bytes`] has room for.
    /// The rest is in [`Quarantine::read`].
    pub fn items(&self) -> &[Quarantined] {
        &self.listed
    }

    /// How many there are of each level and reason.
    pub fn counts(&self) -> &BTreeMap<(Level, Reason), u64> {
        &self.counts
    }

    /// How many there are of a level.
    pub fn count(&self, level: Level) -> u64 {
        self.counts.iter().filter(|((l, _), _)| *l == level).map(|(_, n)| n).sum()
    }

    /// Whether nothing was set aside.
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// The quarantine's columns: level, archive, member, table, line, reason, detail, raw.
    pub fn schema() -> SchemaRef {
        let text = |name: &str, nullable| Field::new(name, DataType::Utf8, nullable);
        Arc::new(Schema::new(vec![
            text("level", false),
            text("archive", false),
            text("member", true),
            text("table", true),
            Field::new("line", DataType::Int64, true),
            text("reason", false),
            text("detail", false),
            text("raw", true),
        ]))
    }

    /// The staged Parquet files that hold the quarantine, all of [`Quarantine::schema`].
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// All of it, in batches, file after file.
    pub fn read(&self) -> BoxStream<'static, Result<RecordBatch>> {
        read::parts(self.storage.clone(), self.parts.clone(), Arc::new(read::AsStaged), self.staging.clone())
    }

    pub(crate) fn count_up(&mut self, level: Level, reason: Reason, n: u64) {
        *self.counts.entry((level, reason)).or_default() += n;
    }
}

/// A batch of the quarantine's columns.
pub(crate) fn batch(items: &[Quarantined]) -> Result<RecordBatch> {
    let text = || StringBuilder::with_capacity(items.len(), items.len() * 32);
    let (mut level, mut archive, mut member, mut table) = (text(), text(), text(), text());
    let (mut reason, mut detail, mut raw) = (text(), text(), text());
    let mut line = Int64Builder::with_capacity(items.len());
    for item in items {
        level.append_value(match item.level {
            Level::Archive => "archive",
            Level::Member => "member",
            Level::Row => "row",
        });
        archive.append_value(&item.archive);
        member.append_option(item.member.as_deref());
        table.append_option(item.table.as_deref());
        line.append_option(item.line.and_then(|l| i64::try_from(l).ok()));
        reason.append_value(item.reason.as_str());
        detail.append_value(&item.detail);
        raw.append_option(item.raw.as_deref());
    }
    let columns: Vec<ArrayRef> = vec![
        Arc::new(level.finish()),
        Arc::new(archive.finish()),
        Arc::new(member.finish()),
        Arc::new(table.finish()),
        Arc::new(line.finish()),
        Arc::new(reason.finish()),
        Arc::new(detail.finish()),
        Arc::new(raw.finish()),
    ];
    Ok(RecordBatch::try_new(Quarantine::schema(), columns)?)
}
