//! Archives' outcomes into tables: columns united, types settled, reports made.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use icefield_core::Error;
use icefield_core::storage::{Storage, file_name};

use crate::infer::Candidates;
use crate::listed::{Errors, Listed};
use crate::manifest::Promised;
use crate::options::{Settings, TableOptions};
use crate::quarantine::{Level, Quarantine, Quarantined, Reason};
use crate::read::{Part, Projected, Projection};
use crate::report::{ColumnReport, HEADER_FILES, HeaderReport, Report, TableReport};
use crate::rows::cut;
use crate::source::Archive;
use crate::stage::{Outcome, StagedFile};
use crate::staging::Staging;
use crate::table::{Identity, IngestedTable, identity};

/// Bytes of a failure's words that are kept.
const DETAIL_BYTES: usize = 1024;

/// What is known so far, in whatever order archives end.
#[derive(Default)]
pub(crate) struct Merge {
    tables: BTreeMap<String, Table>,
    pub(crate) quarantine: Quarantine,
    pub(crate) report: Report,
    /// Entries that no archive's own quarantine file holds.
    pub(crate) own: Vec<Quarantined>,
    quarantine_parts: BTreeMap<usize, Part>,
    listed: Listed,
    /// Of no table that is known.
    errors: Errors,
    /// Errors so far: those of one archive come one after the other.
    errors_seen: usize,
}

#[derive(Default)]
struct Table {
    report: TableReport,
    errors: Errors,
    headers: HashMap<Vec<String>, Header>,
    columns: HashMap<String, Column>,
    /// By archive: the parts in their order.
    parts: BTreeMap<usize, Vec<Part>>,
    /// By archive: what the table's rows of it are known by.
    identities: BTreeMap<usize, Identity>,
}

/// The files that have one header.
#[derive(Default)]
struct Header {
    files: u64,
    /// The first of them in the archives' order, by their places in it.
    first: BTreeMap<usize, String>,
}

impl Header {
    fn place(&self) -> usize {
        self.first.keys().next().copied().unwrap_or(usize::MAX)
    }
}

#[derive(Default)]
struct Column {
    nulls: u64,
    rows: u64,
    files: u64,
    candidates: Candidates,
}

impl Merge {
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
        for (number, file) in outcome.files.into_iter().enumerate() {
            self.file(at, archive, number, &name, file);
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

    fn file(&mut self, at: usize, from: &Archive, number: usize, archive: &str, file: StagedFile) {
        let table = self.table(&file.table);
        table.report.rows_quarantined += file.bad_rows;
        if !file.taken {
            table.report.files_quarantined += 1;
            return;
        }
        table.report.files += 1;
        table.report.rows += file.rows;
        for (name, (nulls, candidates)) in file.header.iter().zip(file.nulls.iter().zip(&file.candidates)) {
            let column = table.columns.entry(name.clone()).or_default();
            column.nulls += nulls;
            column.rows += file.rows;
            column.files += 1;
            column.candidates.merge(candidates.unwrap_or_default());
        }
        // Archives end in any order: the names that are kept are the first in the archives' order.
        let place = at << 24 | number.min((1 << 24) - 1);
        let header = table.headers.entry(file.header).or_default();
        header.files += 1;
        let is_plain = archive.starts_with(&file.member);
        let name = if is_plain { archive.to_string() } else { format!("{archive}/{}", file.member) };
        header.first.insert(place, name);
        if header.first.len() > HEADER_FILES {
            header.first.pop_last();
        }
        let identity = table.identities.entry(at).or_insert_with(|| Identity::of(&from.entry));
        identity.add(&file.member, file.rows, &file.content);
        if !file.parts.is_empty() {
            table.parts.entry(at).or_default().extend(file.parts);
        }
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
        mut detail: String,
    ) {
        cut(&mut detail, DETAIL_BYTES);
        let mut tables = BTreeSet::new();
        if let Some(promised) = promised {
            self.expect(promised);
            tables.extend(promised.rows.keys().cloned());
        }
        if reason != Reason::Missing {
            self.report.archives_received += 1;
            for table in &tables {
                self.table(table).report.files_quarantined += promised.map_or(1, Promised::files_of_a_table);
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

    /// The tables, once all is known. A column of the given types stays as it is staged, another is cast to its inferred type.
    pub(crate) fn finish(
        mut self,
        settings: &Settings,
        source_column: Option<&str>,
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
            let had_files = table.report.files > 0;
            let (projection, report) = table.united(options, source_column);
            if had_files {
                tables.push(IngestedTable {
                    identity: identity(&name, table.identities.into_values()),
                    parts: table.parts.into_values().flatten().collect(),
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
    fn united(&self, options: &TableOptions, source_column: Option<&str>) -> (Projection, TableReport) {
        let mut report = self.report.clone();
        let mut headers: Vec<_> = self.headers.iter().collect();
        headers.sort_by_key(|(_, header)| header.place());
        let mut names: Vec<&str> = options.given().map(|f| f.name().as_str()).collect();
        let given = names.len();
        let mut known: BTreeSet<&str> = names.iter().copied().collect();
        for name in headers.iter().flat_map(|(header, _)| header.iter()) {
            if known.insert(name) {
                names.push(name);
            }
        }
        headers.sort_by_key(|(_, header)| (std::cmp::Reverse(header.files), header.place()));
        let reference: Vec<&str> = match headers.first() {
            Some((header, _)) if given == 0 => header.iter().map(String::as_str).collect(),
            _ => names[..given].to_vec(),
        };
        let unseen = Column::default();
        let (mut fields, mut columns) = (Vec::new(), Vec::new());
        for name in &names {
            let column = self.columns.get(*name).unwrap_or(&unseen);
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
            let files_missing = report.files - column.files;
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
        let described = |(columns, header): &(&Vec<String>, &Header)| HeaderReport {
            columns: columns.to_vec(),
            files: header.files,
            names: header.first.values().cloned().collect(),
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
