//! One archive into staged Parquet parts.
//!
//! A member's rows count once it has ended, so that one that turns out bad leaves nothing behind, and an archive's parts count
//! once its marker is written, after its last byte was read: nothing reads a part that no marker names. Parts have fixed names
//! below a folder that the archive's name, size, time of change and the settings decide; a run that was cut off is simply run
//! again and writes the same files.

mod aside;
mod known;
mod marker;
mod outcome;
mod part;
mod parts;

use std::collections::HashSet;
use std::hash::Hasher;
use std::io::Read;

use arrow::datatypes::{DataType, Field, FieldRef};
use icefield_core::storage::Storage;
use icefield_core::{Error, Result};
use sha2::{Digest, Sha256};
use tokio::runtime::Handle;
use twox_hash::XxHash64;

use crate::archive::{self, Codec, Failure, Members, Watch, is_litter, nested, split_codec};
use crate::columns::{Column, Flaw, arrays};
use crate::csv::Splitter;
use crate::escape::{self, past};
use crate::infer::Candidates;
use crate::json::Objects;
use crate::options::{Settings, TableOptions};
use crate::quarantine::{self, Level, Quarantine, Quarantined, Reason};
use crate::read::Part;
use crate::rows::{BadRow, Chunk, shortened, shown};
use crate::text::Text;
use aside::{Aside, Place};
pub(crate) use known::too_many_columns;
use known::{FileColumns, Known};
pub(crate) use marker::{mark, marker};
pub(crate) use outcome::{Outcome, StagedFile};
use part::PartWriter;
use parts::{MemberRows, Parts};

/// Fields whose cost one bad row has.
const BAD_ROW_FIELDS: u64 = 64;

/// Takes an archive's members to parts.
pub(crate) struct Stager<'a> {
    settings: &'a Settings,
    place: Place<'a>,
    watch: Watch,
    outcome: Outcome,
    aside: Aside,
    /// Hashes of the members' paths.
    paths: HashSet<[u8; 16]>,
    known: Known<'a>,
    parts: Parts<'a>,
    /// The rows that the member being read lost.
    bad_rows: u64,
}

impl<'a> Stager<'a> {
    pub(crate) fn new(
        settings: &'a Settings,
        storage: &'a Storage,
        handle: &'a Handle,
        folder: &'a str,
        archive: &'a str,
        watch: Watch,
    ) -> Self {
        let name = settings.source_column.as_ref().map(|_| icefield_core::storage::file_name(archive));
        Self {
            settings,
            place: Place { storage, handle, folder },
            parts: Parts::new(storage, handle, folder, name, watch.clone()),
            watch,
            outcome: Outcome { archive: archive.to_string(), ..Outcome::default() },
            aside: Aside::new(settings.limits.archive_listed_bytes),
            paths: HashSet::new(),
            known: Known::new(settings),
            bad_rows: 0,
        }
    }

    /// The outcome of an archive that was read to its end.
    pub(crate) fn complete(mut self) -> Result<Outcome, Failure> {
        self.parts.write_all_waiting()?;
        self.list_parts()?;
        let written = self.aside.close(&self.place)?;
        self.outcome.counts = written.counts;
        self.outcome.listed = written.listed;
        self.outcome.quarantine = written.part;
        self.outcome.bytes = self.watch.bytes_out();
        self.known.finish(&mut self.outcome);
        Ok(self.outcome)
    }

    /// Lists the shared parts that were written at the first of their files.
    fn list_parts(&mut self) -> Result<(), Failure> {
        for (at, part) in self.parts.take_written() {
            self.known.keep_part(&part);
            match self.outcome.files.get_mut(at) {
                Some(file) => file.parts.push(part),
                None => return Err(Error::internal("a part of no file").into()),
            }
        }
        Ok(())
    }

    /// The outcome of an archive that could not be read to its end, for a fault of its own.
    pub(crate) fn broken(mut self, reason: Reason, detail: String) -> Result<Outcome, Failure> {
        if self.settings.broken == crate::BrokenArchive::Reject {
            self.aside = Aside::new(self.settings.limits.archive_listed_bytes);
            self.outcome.refused = 0;
            self.known.forget_shapes();
            self.parts.forget_waiting();
            self.list_parts()?;
            let parts =
                self.outcome.files.iter_mut().flat_map(|file| std::mem::take(&mut file.parts)).collect();
            self.parts.delete(parts)?;
            for file in &mut self.outcome.files {
                (file.taken, file.shape) = (false, None);
                (file.rows, file.bad_rows) = (0, 0);
            }
        }
        let detail = escape::detail(detail);
        self.outcome.broken = Some((reason, detail.clone()));
        self.put_aside(Level::Archive, None, None, None, reason, detail, None)?;
        self.complete()
    }

    #[allow(clippy::too_many_arguments)] // the quarantine's columns
    fn put_aside(
        &mut self,
        level: Level,
        member: Option<&str>,
        table: Option<&str>,
        line: Option<u64>,
        reason: Reason,
        detail: String,
        raw: Option<String>,
    ) -> Result<(), Failure> {
        let item = Quarantined {
            level,
            archive: self.outcome.archive.clone(),
            member: member.map(str::to_string),
            table: table.map(str::to_string),
            line,
            reason,
            detail,
            raw,
        };
        self.aside.put(&self.place, item)
    }

    /// Reads a file of a table. What was staged of it goes when it fails.
    fn file(&mut self, path: &str, table: &str, data: &mut dyn Read, codec: Codec) -> Result<(), Failure> {
        self.bad_rows = 0;
        let settings = self.settings;
        let unset = TableOptions::default();
        let options = settings.tables.get(table).unwrap_or(&unset);
        let mut file = StagedFile {
            member: path.to_string(),
            table: table.to_string(),
            taken: false,
            shape: None,
            rows: 0,
            bad_rows: 0,
            content: String::new(),
            parts: Vec::new(),
        };
        let mut read = FileColumns::default();
        let mut rows = MemberRows::default();
        let run = || -> Result<(), Failure> {
            let inner: Box<dyn Read + '_> = if codec == Codec::None {
                Box::new(data)
            } else {
                nested(data, codec, self.watch.clone(), &settings.limits)?
            };
            let most = settings.limits.member_bytes;
            let mut data = Content { inner, out: 0, most, hash: XxHash64::with_seed(0) };
            let mut text = Text::new(&mut data)?;
            let lower = split_codec(path).0.to_ascii_lowercase();
            if lower.ends_with(".jsonl") || lower.ends_with(".ndjson") {
                self.json(&mut file, &mut read, &mut rows, options, &mut text)?;
            } else {
                let delimiter = if lower.ends_with(".tsv") { b'\t' } else { settings.csv.delimiter };
                self.csv(&mut file, &mut read, &mut rows, options, &mut text, delimiter)?;
            }
            file.content = format!("{:016x}", data.hash.finish());
            self.parts.share(table, self.outcome.files.len(), rows)
        };
        let ran = run();
        file.bad_rows = self.bad_rows;
        let result = match ran {
            Ok(()) => {
                file.taken = true;
                file.shape = Some(self.known.shape(table, read));
                Ok(())
            }
            Err(failure) => {
                self.parts.delete(std::mem::take(&mut file.parts))?;
                file.rows = 0;
                match failure {
                    Failure::Member(reason, detail) => {
                        self.put_aside(Level::Member, Some(path), Some(table), None, reason, detail, None)
                    }
                    other => Err(other),
                }
            }
        };
        self.known.keep(&file);
        self.outcome.files.push(file);
        result?;
        self.parts.bound_waiting()?;
        self.list_parts()?;
        self.known.check(0)
    }

    fn csv(
        &mut self,
        file: &mut StagedFile,
        read: &mut FileColumns,
        rows: &mut MemberRows,
        options: &TableOptions,
        data: &mut dyn Read,
        delimiter: u8,
    ) -> Result<(), Failure> {
        let settings = self.settings;
        let mut splitter = Splitter::new(data, &settings.csv, delimiter, &settings.limits);
        let mut bad = Vec::new();
        if !splitter.header(&mut bad)? {
            return Err(Failure::Member(Reason::NoHeader, "the file is empty: it has no header".into()));
        }
        if let Some(row) = bad.first() {
            return Err(Failure::Member(
                Reason::BadHeader,
                format!("the header can't be used: {}", row.detail),
            ));
        }
        read.header = header(&splitter.chunk(None), options)?;
        self.known.admit(&file.table, &read.header, &read.header)?;
        read.columns = columns(&read.header, options)?;
        let width = read.columns.len();
        while splitter.next(width, &mut bad)? {
            self.bad_rows(file, &mut bad)?;
            self.rows(file, &splitter.chunk(Some(width)), &mut read.columns, rows)?;
        }
        self.parts.close_many(file, rows)
    }

    fn json(
        &mut self,
        file: &mut StagedFile,
        read: &mut FileColumns,
        rows: &mut MemberRows,
        options: &TableOptions,
        data: &mut dyn Read,
    ) -> Result<(), Failure> {
        let mut objects = Objects::new(data, &self.settings.limits);
        let mut bad = Vec::new();
        let known = &mut read.columns;
        while objects.next(&mut bad)? {
            self.bad_rows(file, &mut bad)?;
            if known.len() < objects.columns().len() {
                // New columns: a part has one schema, so that another part begins.
                self.parts.close_own(file, rows)?;
                let fresh = objects.columns().iter().enumerate().skip(known.len());
                let names: Vec<String> = fresh.map(|(at, name)| named(name, at, options)).collect();
                read.header.extend(names.iter().cloned());
                self.known.admit(&file.table, &read.header, &names)?;
                for mut column in columns_of(&names, options) {
                    if known.iter().any(|c| c.field.name() == column.field.name()) {
                        let name = shortened(column.field.name());
                        let detail = format!("the column {name:?} occurs twice");
                        return Err(Failure::Member(Reason::BadHeader, detail));
                    }
                    column.nulls = file.rows;
                    known.push(column);
                }
            }
            let absent = |field: &&FieldRef| {
                !field.is_nullable() && known.iter().all(|column| column.field.name() != field.name())
            };
            match options.given().find(absent) {
                // It may come with a later line. Rows are not staged without it: their part would not have the column.
                Some(field) => self.rows_without(file, &objects.chunk(), field.name())?,
                None => self.rows(file, &objects.chunk(), known, rows)?,
            }
        }
        self.parts.close_many(file, rows)
    }

    /// Counts a row that is set aside. It is written with its archive, member and reason, whatever it has itself.
    fn bad_row(&mut self) -> Result<(), Failure> {
        self.bad_rows += 1;
        self.watch.put_fields(BAD_ROW_FIELDS)
    }

    fn bad_rows(&mut self, file: &StagedFile, bad: &mut Vec<BadRow>) -> Result<(), Failure> {
        for row in bad.drain(..) {
            self.bad_row()?;
            let (member, table) = (Some(file.member.as_str()), Some(file.table.as_str()));
            self.put_aside(Level::Row, member, table, Some(row.line), row.reason, row.detail, Some(row.raw))?;
        }
        Ok(())
    }

    /// Sets a chunk's rows aside: none of them has the required column.
    fn rows_without(&mut self, file: &StagedFile, chunk: &Chunk<'_>, column: &str) -> Result<(), Failure> {
        for (at, row) in chunk.rows.iter().enumerate() {
            self.bad_row()?;
            let (member, table) = (Some(file.member.as_str()), Some(file.table.as_str()));
            let raw = Some(shown(chunk.raw(at), self.settings.limits.raw_bytes));
            let (reason, detail) = (Reason::NullValue, required_is_empty(column));
            self.put_aside(Level::Row, member, table, Some(row.line), reason, detail, raw)?;
        }
        Ok(())
    }

    /// Writes a chunk's good rows and sets the others aside.
    fn rows(
        &mut self,
        file: &mut StagedFile,
        chunk: &Chunk<'_>,
        columns: &mut [Column],
        rows: &mut MemberRows,
    ) -> Result<(), Failure> {
        // One chunk of the store may hold a whole archive.
        self.watch.check()?;
        if chunk.rows.is_empty() {
            return Ok(());
        }
        self.watch.put_fields(chunk.fields.len() as u64)?;
        let mut flaws = Vec::new();
        let arrays = arrays(chunk, columns, &mut flaws)?;
        let (limit, mut scratch) = (self.settings.limits.raw_bytes, Vec::new());
        for flaw in &flaws {
            self.bad_row()?;
            let detail = described(chunk, columns, flaw, &mut scratch);
            let (member, table) = (Some(file.member.as_str()), Some(file.table.as_str()));
            let line = Some(chunk.rows[flaw.row].line);
            let raw = Some(shown(chunk.raw(flaw.row), limit));
            self.put_aside(Level::Row, member, table, line, flaw.reason, detail, raw)?;
        }
        let good = chunk.rows.len() - flaws.len();
        if good == 0 || columns.is_empty() {
            return Ok(());
        }
        self.parts.put_rows(file, rows, columns, arrays)
    }

    /// Passes over a member that a system left beside the files, unless it may be a file of the drop all the same.
    fn litter(&mut self, path: &str, data: &mut dyn Read) -> Result<(), Failure> {
        let mut head = Vec::new();
        let could_be_a_table = matches!(archive::Format::of(path), Some(archive::Format::Plain(_)));
        if could_be_a_table {
            data.take(4).read_to_end(&mut head)?;
        }
        if archive::holds_nothing_of_a_table(&head) {
            self.outcome.skipped += 1;
            return Ok(());
        }
        let detail = "the name is one that a system gives to a file of its own, and the content is none";
        self.refuse(path.to_string(), Reason::NoPattern, detail.into())
    }

    /// Sets a member aside whose table is not known.
    fn refuse(&mut self, path: String, reason: Reason, detail: String) -> Result<(), Failure> {
        self.outcome.refused += 1;
        self.put_aside(Level::Member, Some(&path), None, None, reason, detail, None)
    }
}

impl Members for Stager<'_> {
    fn member(&mut self, path: &str, data: &mut dyn Read) -> Result<(), Failure> {
        self.watch.put_member()?;
        if is_litter(path) {
            return self.litter(path, data);
        }
        let hash = Sha256::digest(path);
        let mut key = [0; 16];
        key.copy_from_slice(&hash[..16]);
        if !self.paths.insert(key) {
            return self.refuse(
                path.to_string(),
                Reason::DuplicateMember,
                "the path occurs twice in the archive".into(),
            );
        }
        let settings = self.settings;
        let (plain, codec) = split_codec(path);
        let fields = settings.patterns.iter().find_map(|p| p.matches(plain).or_else(|| p.matches(path)));
        let known = matches!(archive::Format::of(path), Some(archive::Format::Plain(_)));
        let table = match (&settings.table, fields) {
            (Some(table), fields) if settings.patterns.is_empty() || fields.is_some() => Some(table.clone()),
            (_, fields) => fields.and_then(|mut f| f.remove("table")),
        };
        match table {
            Some(table) if known => match settings.refuses(&table) {
                Some(why) => self.refuse(path.to_string(), Reason::TableName, why.into()),
                None => {
                    self.known.admit_file(&table)?;
                    self.file(path, &table, data, codec)
                }
            },
            _ if settings.ignored.iter().any(|p| p.matches(path).is_some()) => {
                self.outcome.ignored += 1;
                Ok(())
            }
            Some(_) => self.refuse(
                path.to_string(),
                Reason::UnknownFormat,
                "the file is named neither .csv, .tsv, .jsonl nor .ndjson".into(),
            ),
            None => self.refuse(path.to_string(), Reason::NoPattern, "the name matches no pattern".into()),
        }
    }

    fn refused(&mut self, path: String, reason: Reason, detail: String) -> Result<(), Failure> {
        self.watch.put_member()?;
        self.refuse(path, reason, detail)
    }
}

/// The header's names, as the table knows them.
fn header(chunk: &Chunk<'_>, options: &TableOptions) -> Result<Vec<String>, Failure> {
    let bad =
        |detail: String| Failure::Member(Reason::BadHeader, format!("the header can't be used: {detail}"));
    let mut names: Vec<String> = Vec::with_capacity(chunk.width);
    let mut known = HashSet::with_capacity(chunk.width);
    let mut scratch = Vec::new();
    for (at, span) in chunk.fields.iter().enumerate() {
        let text = chunk.text(*span, &mut scratch).unwrap_or_default();
        let Ok(text) = std::str::from_utf8(text) else {
            return Err(Failure::Member(Reason::NotUtf8, "the header is not UTF-8 text".into()));
        };
        if text.contains('\0') {
            let detail =
                "the header has NUL bytes: the file is no text, or text in an encoding that it does not tell";
            return Err(Failure::Member(Reason::NotText, detail.into()));
        }
        let name = named(text.trim(), at, options);
        if !known.insert(name.clone()) {
            return Err(bad(format!("the column {:?} occurs twice", shortened(&name))));
        }
        names.push(name);
    }
    Ok(names)
}

/// A column's name as the table has it; one without a name is called by its place.
fn named(written: &str, at: usize, options: &TableOptions) -> String {
    match written {
        "" => format!("column_{}", at + 1),
        name => options.name(name).to_string(),
    }
}

fn columns(names: &[String], options: &TableOptions) -> Result<Vec<Column>, Failure> {
    let required = options.given().find(|f| !f.is_nullable() && !names.contains(f.name()));
    if let Some(field) = required {
        let detail = format!("the required column {:?} is not in the file", field.name());
        return Err(Failure::Member(Reason::MissingColumn, detail));
    }
    Ok(columns_of(names, options))
}

fn columns_of(names: &[String], options: &TableOptions) -> Vec<Column> {
    let column = |name: &String| {
        let given = options.field(name);
        Column {
            candidates: given.is_none().then(Candidates::default),
            field: given.unwrap_or_else(|| Field::new(name, DataType::Utf8, true).into()),
            conversion: options.conversion(name).cloned(),
            nulls: 0,
        }
    };
    names.iter().map(column).collect()
}

fn required_is_empty(column: &str) -> String {
    format!("the required column {:?} is empty", shortened(column))
}

fn described(chunk: &Chunk<'_>, columns: &[Column], flaw: &Flaw, scratch: &mut Vec<u8>) -> String {
    let field = &columns[flaw.column].field;
    match flaw.reason {
        Reason::NotUtf8 => "the row is not UTF-8 text".to_string(),
        Reason::NotText => "the row has NUL bytes: it is damaged, or no text".to_string(),
        Reason::NullValue => required_is_empty(field.name()),
        _ => {
            let span = chunk.fields[flaw.row * chunk.width + flaw.column];
            let text = shown(chunk.text(span, scratch).unwrap_or_default(), 64);
            format!("{text:?} in column {:?} is no {}", shortened(field.name()), field.data_type())
        }
    }
}

/// A member's bytes as its rows are read from them: held to the limit on its size, and hashed.
struct Content<'a> {
    inner: Box<dyn Read + 'a>,
    out: u64,
    most: u64,
    hash: XxHash64,
}

impl Read for Content<'_> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let n = self.inner.read(into)?;
        self.out += n as u64;
        self.hash.write(&into[..n]);
        if self.out > self.most {
            let detail = past("decompressed bytes of the member", "member_bytes", self.most);
            return Err(Failure::Member(Reason::MemberTooLarge, detail).into());
        }
        Ok(n)
    }
}

/// Writes entries of the quarantine to a file of their own.
pub(crate) fn quarantine_file(
    storage: &Storage,
    handle: &Handle,
    location: String,
    items: &[Quarantined],
) -> Result<Part> {
    let write = || -> Result<Part, Failure> {
        let mut writer = PartWriter::open(storage, handle, location, Quarantine::schema())?;
        for some in items.chunks(1024) {
            writer.write(&quarantine::batch(some)?)?;
        }
        writer.close()
    };
    write().map_err(|failure| match failure {
        Failure::Storage(error) => error,
        other => Error::internal(other.to_string()),
    })
}
