//! Archives' outcomes into tables: columns united, types settled, reports made.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use icefield_core::Error;
use icefield_core::storage::{FileEntry, Storage, file_name};

use crate::escape::{self, past};
use crate::infer::Candidates;
use crate::listed::{Errors, Listed};
use crate::manifest::Promised;
use crate::options::{Limits, Settings, TableOptions};
use crate::quarantine::{Level, Quarantine, Quarantined, Reason};
use crate::read::{Part, Projected, Projection};
use crate::report::{ColumnReport, HEADER_FILES, HeaderReport, Report, TableReport};
use crate::source::Archive;
use crate::stage::{Outcome, StagedFile, too_many_columns};
use crate::staging::Staging;
use crate::table::{Identity, IngestedTable, identity};

/// What is known so far, in whatever order archives end.
pub(crate) struct Merge {
    limits: Limits,
    tables: BTreeMap<String, Table>,
    pub(crate) quarantine: Quarantine,
    pub(crate) report: Report,
    /// Entries that no archive's own quarantine file holds.
    pub(crate) own: Vec<Quarantined>,
    quarantine_parts: BTreeMap<usize, Part>,
    /// The archives that files were taken of, by their places.
    archives: BTreeMap<usize, FileEntry>,
    listed: Listed,
    /// Of no table that is known.
    errors: Errors,
    /// Errors so far: those of one archive come one after the other.
    errors_seen: usize,
    files: u64,
    known_bytes: u64,
}

#[derive(Default)]
struct Table {
    report: TableReport,
    errors: Errors,
    headers: HashMap<Vec<String>, Header>,
    /// The number of archives that have files of it, and the first of them.
    archives: u64,
    first: Option<usize>,
}

/// The files that have one header.
#[derive(Default)]
struct Header {
    files: Vec<Taken>,
    /// The number of archives that have such files, and the last one counted.
    archives: u64,
    last: Option<usize>,
    rows: u64,
    columns: Vec<Column>,
}

/// A file that was taken: of which archive, and its number in it.
struct Taken {
    at: usize,
    number: usize,
    member: String,
    rows: u64,
    content: String,
    parts: Vec<Part>,
}

impl Header {
    /// The first of the files in the archives' order.
    fn place(&self) -> (usize, usize) {
        self.files.iter().map(Taken::place).min().unwrap_or((usize::MAX, usize::MAX))
    }
}

impl Taken {
    fn place(&self) -> (usize, usize) {
        (self.at, self.number)
    }
}

#[derive(Default, Clone, Copy)]
struct Column {
    nulls: u64,
    rows: u64,
    files: u64,
    candidates: Candidates,
}

impl Column {
    fn add(&mut self, other: &Self) {
        self.nulls += other.nulls;
        self.rows += other.rows;
        self.files += other.files;
        self.candidates.merge(other.candidates);
    }
}

impl Merge {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            listed: Listed::new(limits.listed_bytes),
            limits: limits.clone(),
            tables: BTreeMap::new(),
            quarantine: Quarantine::default(),
            report: Report::default(),
            own: Vec::new(),
            quarantine_parts: BTreeMap::new(),
            archives: BTreeMap::new(),
            errors: Errors::default(),
            errors_seen: 0,
            files: 0,
            known_bytes: 0,
        }
    }

    /// Rows taken so far.
    pub(crate) fn rows(&self) -> u64 {
        self.tables.values().map(|t| t.report.rows).sum()
    }

    fn table(&mut self, name: &str) -> &mut Table {
        self.tables.entry(name.to_string()).or_insert_with(|| Table {
            report: TableReport { table: name.to_string(), ..TableReport::default() },
            ..Table::default()
        })
    }

    fn expect(&mut self, promised: &Promised) {
        for (table, rows) in &promised.rows {
            let report = &mut self.table(table).report;
            let rows_expected = report.rows_expected.get_or_insert(0);
            *rows_expected = rows_expected.saturating_add(*rows);
            let files_expected = report.files_expected.get_or_insert(0);
            *files_expected = files_expected.saturating_add(promised.files_of_a_table());
        }
    }

    /// An archive that was read, whatever came of it.
    pub(crate) fn outcome(&mut self, at: usize, archive: &Archive, outcome: Outcome, reused: bool) {
        let files = self.files.saturating_add(outcome.files.len() as u64);
        let known_bytes = self.known_bytes.saturating_add(outcome.known_bytes);
        let past_limit = if files > self.limits.run_files {
            Some(past("files of the run", "run_files", self.limits.run_files))
        } else if known_bytes > self.limits.run_known_bytes {
            Some(past("bytes to be known of the run's files", "run_known_bytes", self.limits.run_known_bytes))
        } else {
            None
        };
        if let Some(detail) = past_limit {
            let (location, promised) = (&archive.entry.location, archive.promised.as_ref());
            return self.not_read(at, location, promised, Reason::RunLimit, detail);
        }
        (self.files, self.known_bytes) = (files, known_bytes);
        if let Some(promised) = &archive.promised {
            self.expect(promised);
        }
        let promised = archive.promised.as_ref();
        let name = file_name(&outcome.archive).to_string();
        let mut seen: BTreeSet<String> = outcome.files.iter().map(|f| f.table.clone()).collect();
        seen.extend(promised.iter().flat_map(|p| p.rows.keys().cloned()));
        for (level, reason, n) in &outcome.counts {
            self.quarantine.count_up(*level, *reason, *n);
        }
        let of_no_table = |item: &&Quarantined| item.level == Level::Member && item.table.is_none();
        let listed = outcome.listed.iter().filter(of_no_table).count() as u64;
        let unlisted = outcome.refused.saturating_sub(listed);
        if let [table] = Vec::from_iter(&seen)[..] {
            self.table(table).report.files_quarantined += outcome.refused;
        }
        if unlisted > 0 {
            self.errors_of(&seen, |errors| errors.put_more(unlisted));
        }
        if outcome.broken.is_none() {
            self.unlisted_files(&outcome);
        }
        for item in outcome.listed.iter().filter(|item| item.level != Level::Row) {
            match &item.table {
                Some(table) => self.error(at, &BTreeSet::from([table.clone()]), item.to_string()),
                None => self.error(at, &seen, item.to_string()),
            }
        }
        self.report.archives_received += 1;
        self.report.members_ignored += outcome.ignored;
        self.report.members_skipped += outcome.skipped;
        if reused {
            self.report.archives_reused += 1;
        }
        match &outcome.broken {
            None => {
                self.report.archives_taken += 1;
                self.report.bytes += archive.entry.size;
                self.report.bytes_decompressed += outcome.bytes;
                self.compare(at, &name, promised, &outcome);
            }
            Some(_) => {
                // Files that were never reached are counted as the manifest has them.
                for table in &seen {
                    let read = outcome.files.iter().any(|f| f.table == *table);
                    if !read {
                        self.table(table).report.files_quarantined += 1;
                    }
                }
            }
        }
        if let Some(part) = outcome.quarantine {
            self.quarantine_parts.insert(at, part);
        }
        for (number, item) in outcome.listed.into_iter().enumerate() {
            self.listed.put(at, number, item);
        }
        let of_tables: BTreeSet<&str> = outcome.shapes.iter().map(|shape| shape.table.as_str()).collect();
        for name in of_tables {
            let table = self.table(name);
            table.archives += 1;
            table.first = Some(table.first.map_or(at, |first| first.min(at)));
        }
        for shape in &outcome.shapes {
            let headers = &mut self.table(&shape.table).headers;
            if !headers.contains_key(&shape.header) {
                headers.insert(shape.header.clone(), Header::default());
            }
            let Some(header) = headers.get_mut(&shape.header) else { continue };
            header.columns.resize(shape.nulls.len(), Column::default());
            for ((column, nulls), candidates) in
                header.columns.iter_mut().zip(&shape.nulls).zip(&shape.candidates)
            {
                column.nulls += nulls;
                column.candidates.merge(*candidates);
            }
        }
        for (number, file) in outcome.files.into_iter().enumerate() {
            let shape = file.shape.and_then(|shape| outcome.shapes.get(shape));
            self.file(at, archive, number, shape.map(|shape| &shape.header[..]), file);
        }
    }

    /// Counts the files of each table that were set aside and that the archive's list has no room for.
    fn unlisted_files(&mut self, outcome: &Outcome) {
        let mut unlisted: BTreeMap<&str, u64> = BTreeMap::new();
        for file in outcome.files.iter().filter(|file| !file.taken) {
            *unlisted.entry(&file.table).or_default() += 1;
        }
        let listed = outcome.listed.iter().filter(|item| item.level == Level::Member);
        for table in listed.filter_map(|item| item.table.as_deref()) {
            unlisted.entry(table).and_modify(|n| *n = n.saturating_sub(1));
        }
        for (table, n) in unlisted {
            self.table(table).errors.put_more(n);
        }
    }

    fn error(&mut self, at: usize, tables: &BTreeSet<String>, error: String) {
        let error = escape::plain(&error);
        self.errors_seen += 1;
        let number = self.errors_seen;
        self.errors_of(tables, |errors| errors.put(at, number, error.clone()));
    }

    /// The errors of each of some tables; without any, those of no table.
    fn errors_of(&mut self, tables: &BTreeSet<String>, mut put: impl FnMut(&mut Errors)) {
        if tables.is_empty() {
            put(&mut self.errors);
        }
        for table in tables {
            put(&mut self.table(table).errors);
        }
    }

    fn file(
        &mut self,
        at: usize,
        from: &Archive,
        number: usize,
        header: Option<&[String]>,
        file: StagedFile,
    ) {
        let table = self.table(&file.table);
        table.report.rows_quarantined += file.bad_rows;
        let Some(header) = header.and_then(|header| table.headers.get_mut(header)) else {
            table.report.files_quarantined += 1;
            return;
        };
        table.report.files += 1;
        table.report.rows += file.rows;
        header.rows += file.rows;
        if header.last != Some(at) {
            (header.last, header.archives) = (Some(at), header.archives + 1);
        }
        for column in &mut header.columns {
            column.rows += file.rows;
            column.files += 1;
        }
        let StagedFile { member, rows, content, parts, .. } = file;
        header.files.push(Taken { at, number, member, rows, content, parts });
        self.archives.entry(at).or_insert_with(|| from.entry.clone());
    }

    /// Holds what came against what was promised.
    fn compare(&mut self, at: usize, name: &str, promised: Option<&Promised>, outcome: &Outcome) {
        let Some(promised) = promised else { return };
        let members =
            outcome.counts.iter().filter(|(level, ..)| *level == Level::Member).map(|(.., n)| n).sum::<u64>();
        let taken = outcome.files.iter().filter(|f| f.taken).count() as u64;
        if let Some(files) = promised.files
            && files != taken + members
        {
            let tables = promised.rows.keys().cloned().collect();
            let error = format!("archive {name}: {files} files promised, {} received", taken + members);
            self.error(at, &tables, error);
        }
        for (table, promised) in &promised.rows {
            let files = || outcome.files.iter().filter(|f| f.table == *table);
            let taken: u64 = files().map(|f| f.rows).sum();
            let bad: u64 = files().map(|f| f.bad_rows).sum();
            if *promised != taken && *promised != taken + bad && files().all(|f| f.taken) {
                let error =
                    format!("archive {name}: {promised} rows promised, {taken} received, {bad} quarantined");
                self.error(at, &BTreeSet::from([table.clone()]), error);
            }
        }
    }

    /// An archive, or something in its place, that could not be read at all.
    pub(crate) fn not_read(
        &mut self,
        at: usize,
        location: &str,
        promised: Option<&Promised>,
        reason: Reason,
        detail: String,
    ) {
        let detail = escape::detail(detail);
        let mut tables = BTreeSet::new();
        if let Some(promised) = promised {
            self.expect(promised);
            tables.extend(promised.rows.keys().cloned());
        }
        if reason != Reason::Missing {
            self.report.archives_received += 1;
            for table in &tables {
                let report = &mut self.table(table).report;
                let files = promised.map_or(1, Promised::files_of_a_table);
                report.files_quarantined = report.files_quarantined.saturating_add(files);
            }
        }
        let item = Quarantined {
            level: Level::Archive,
            archive: location.to_string(),
            member: None,
            table: None,
            line: None,
            reason,
            detail,
            raw: None,
        };
        self.quarantine.count_up(Level::Archive, reason, 1);
        self.error(at, &tables, item.to_string());
        self.listed.put(at, 0, item.clone());
        self.own.push(item);
    }

    /// Holds the run's tables, and each table's columns, to their limits: what the most archives have comes first, so that one
    /// archive does not push out what all others have.
    pub(crate) fn settle(&mut self, settings: &Settings) {
        let mut names: Vec<_> = self.tables.iter().collect();
        names.sort_by_key(|(name, table)| {
            (
                !settings.names(name),
                std::cmp::Reverse(table.archives),
                table.first.unwrap_or(usize::MAX),
                *name,
            )
        });
        let refused: Vec<String> =
            names.into_iter().skip(self.limits.tables).map(|(name, _)| name.clone()).collect();
        let detail = past("tables of the run", "tables", self.limits.tables);
        for name in refused {
            let Some(table) = self.tables.remove(&name) else { continue };
            let (errors, more) = table.errors.into_parts();
            self.errors.put_more(errors.len() as u64 + more);
            for file in table.headers.into_values().flat_map(|header| header.files) {
                self.refuse(file, &name, Reason::TooManyTables, &detail);
            }
        }
        let detail = too_many_columns(self.limits.table_columns);
        for name in Vec::from_iter(self.tables.keys().cloned()) {
            let Some(table) = self.tables.get_mut(&name) else { continue };
            let options = settings.tables.get(&name);
            let mut known: HashSet<String> = options
                .iter()
                .flat_map(|options| options.given())
                .map(|field| field.name().clone())
                .collect();
            let mut headers: Vec<_> = std::mem::take(&mut table.headers).into_iter().collect();
            headers.sort_by_key(|(_, header)| (std::cmp::Reverse(header.archives), header.place()));
            let mut refused = Vec::new();
            for (names, header) in headers {
                let new = names.iter().filter(|name| !known.contains(*name)).count();
                if new > 0 && known.len() + new > self.limits.table_columns {
                    table.report.files = table.report.files.saturating_sub(header.files.len() as u64);
                    table.report.files_quarantined += header.files.len() as u64;
                    table.report.rows = table.report.rows.saturating_sub(header.rows);
                    refused.extend(header.files);
                } else {
                    known.extend(names.iter().cloned());
                    table.headers.insert(names, header);
                }
            }
            refused.sort_by_key(Taken::place);
            for file in refused {
                self.refuse(file, &name, Reason::TooManyColumns, &detail);
            }
        }
    }

    /// Sets aside a file that was staged.
    fn refuse(&mut self, file: Taken, table: &str, reason: Reason, detail: &str) {
        let archive = self.archives.get(&file.at).map(|entry| entry.location.clone()).unwrap_or_default();
        let item = Quarantined {
            level: Level::Member,
            archive,
            member: Some(file.member),
            table: Some(table.to_string()),
            line: None,
            reason,
            detail: detail.to_string(),
            raw: None,
        };
        let tables = if self.tables.contains_key(table) {
            BTreeSet::from([table.to_string()])
        } else {
            BTreeSet::new()
        };
        self.quarantine.count_up(Level::Member, reason, 1);
        self.error(file.at, &tables, item.to_string());
        // Behind what the archive lists itself.
        self.listed.put(file.at, usize::MAX / 2 + file.number, item.clone());
        self.own.push(item);
    }

    /// The tables, once all is known. A column of the given types stays as it is staged, another is cast to its inferred type.
    pub(crate) fn finish(
        mut self,
        settings: &Settings,
        storage: &Storage,
        staging: &Arc<Staging>,
    ) -> (Vec<IngestedTable>, Quarantine, Report) {
        let (errors, more) = self.errors.into_parts();
        self.report.errors.extend(errors);
        self.report.errors_more += more;
        self.quarantine.storage = storage.clone();
        self.quarantine.staging = Some(staging.clone());
        self.quarantine.parts.extend(self.quarantine_parts.into_values());
        self.quarantine.listed = self.listed.into_items();
        self.report.set_aside = self.quarantine.counts.values().sum();
        self.report.set_aside_listed = self.quarantine.listed.len() as u64;
        let mut tables = Vec::new();
        for (name, mut table) in self.tables {
            (table.report.errors, table.report.errors_more) = std::mem::take(&mut table.errors).into_parts();
            let unset = TableOptions::default();
            let options = settings.tables.get(&name).unwrap_or(&unset);
            let (projection, report) =
                table.united(options, settings.source_column.as_deref(), &self.archives);
            if report.files > 0 {
                let (identity, parts) = table.of_archives(&name, &self.archives);
                tables.push(IngestedTable {
                    identity,
                    parts,
                    projection: Arc::new(projection),
                    name,
                    storage: storage.clone(),
                    staging: staging.clone(),
                });
            }
            self.report.tables.push(report);
        }
        (tables, self.quarantine, self.report)
    }
}

impl Table {
    /// What the rows are known by, and the parts that hold them, in the order of archives and members.
    fn of_archives(self, name: &str, archives: &BTreeMap<usize, FileEntry>) -> (String, Vec<Part>) {
        let mut files: Vec<Taken> = self.headers.into_values().flat_map(|header| header.files).collect();
        files.sort_by_key(Taken::place);
        let mut identities: Vec<Identity> = Vec::new();
        let (mut parts, mut last) = (Vec::new(), None);
        for file in files {
            let Some(entry) = archives.get(&file.at) else { continue };
            if last.replace(file.at) != Some(file.at) {
                identities.push(Identity::of(entry));
            }
            if let Some(identity) = identities.last_mut() {
                identity.add(&file.member, file.rows, &file.content);
            }
            parts.extend(file.parts);
        }
        (identity(name, identities.into_iter()), parts)
    }

    fn united(
        &self,
        options: &TableOptions,
        source_column: Option<&str>,
        archives: &BTreeMap<usize, FileEntry>,
    ) -> (Projection, TableReport) {
        let mut report = self.report.clone();
        let mut headers: Vec<_> =
            self.headers.iter().map(|(names, header)| (names, header, header.place())).collect();
        headers.sort_by_key(|(.., place)| *place);
        let mut names: Vec<&str> = options.given().map(|f| f.name().as_str()).collect();
        let given = names.len();
        let mut known: BTreeSet<&str> = names.iter().copied().collect();
        let mut seen: HashMap<&str, Column> = HashMap::new();
        for (header, about, _) in &headers {
            for (name, column) in header.iter().zip(&about.columns) {
                if known.insert(name) {
                    names.push(name);
                }
                seen.entry(name).or_default().add(column);
            }
        }
        headers.sort_by_key(|(_, header, place)| (std::cmp::Reverse(header.files.len()), *place));
        let reference: HashSet<&str> = match headers.first() {
            Some((header, ..)) if given == 0 => header.iter().map(String::as_str).collect(),
            _ => names[..given].iter().copied().collect(),
        };
        let (mut fields, mut columns) = (Vec::new(), Vec::new());
        for name in &names {
            let column = seen.get(*name).copied().unwrap_or_default();
            let (field, projected) = match options.field(name) {
                Some(field) => (field, Projected::Staged),
                None => {
                    let to = column.candidates.data_type();
                    let projected = if to == DataType::Utf8 {
                        Projected::Staged
                    } else {
                        Projected::Cast { empty_as_null: column.candidates.empty_as_null() }
                    };
                    (Field::new(*name, to, true).into(), projected)
                }
            };
            let mut nulls = column.nulls + report.rows.saturating_sub(column.rows);
            if projected == (Projected::Cast { empty_as_null: true }) {
                nulls += column.candidates.empty_count();
            }
            let files_missing = report.files.saturating_sub(column.files);
            if files_missing > 0 && reference.contains(name) {
                report.missing_fields.push(name.to_string());
            }
            if !reference.contains(name) {
                report.additional_fields.push(name.to_string());
            }
            report.columns.push(ColumnReport {
                name: name.to_string(),
                data_type: field.data_type().to_string(),
                nulls,
                null_ratio: if report.rows == 0 { 0.0 } else { nulls as f64 / report.rows as f64 },
                files_missing,
            });
            fields.push(field);
            columns.push(projected);
        }
        let described = |(columns, header, _): &(&Vec<String>, &Header, _)| {
            let mut files: Vec<&Taken> = header.files.iter().collect();
            files.sort_by_key(|file| file.place());
            let name = |file: &&Taken| {
                let archive = archives.get(&file.at).map_or("", |entry| file_name(&entry.location));
                let is_plain = archive.starts_with(&file.member);
                if is_plain { archive.to_string() } else { format!("{archive}/{}", file.member) }
            };
            HeaderReport {
                columns: columns.to_vec(),
                files: header.files.len() as u64,
                names: files.iter().take(HEADER_FILES).map(name).collect(),
            }
        };
        report.headers = headers.iter().map(described).collect();
        if let Some(name) = source_column.filter(|name| !known.contains(name)) {
            fields.push(Field::new(name, DataType::Utf8, false).into());
            columns.push(Projected::Source);
        }
        (Projection { schema: Schema::new(fields).into(), columns }, report)
    }
}

/// An archive's failure in the words of a report.
pub(crate) fn unreadable(error: &Error) -> String {
    format!("could not be read and staged: {error}")
}
