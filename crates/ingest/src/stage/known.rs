//! What is kept of an archive's files in memory until the run's end, counted and held to limits.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::outcome::{Outcome, Shape, StagedFile};
use crate::archive::Failure;
use crate::columns::Column;
use crate::escape::past;
use crate::infer::Candidates;
use crate::options::Settings;
use crate::quarantine::Reason;
use crate::read::{Part, SOURCE};

/// A file's columns, as far as they were read.
#[derive(Default)]
pub(super) struct FileColumns {
    pub(super) header: Vec<String>,
    pub(super) columns: Vec<Column>,
}

/// Bytes that a file, and a column of a shape, take in memory beside their names.
const FILE_BYTES: u64 = 512;
const COLUMN_BYTES: u64 = 160;

/// The tables, columns and headers of an archive's files so far.
pub(super) struct Known<'a> {
    settings: &'a Settings,
    places: HashMap<(String, Vec<String>), usize>,
    /// The columns of each table.
    columns: BTreeMap<String, HashSet<String>>,
    files: u64,
    /// Bytes of memory that the files and their shapes take, about.
    bytes: u64,
    shapes: Vec<Shape>,
}

impl<'a> Known<'a> {
    pub(super) fn new(settings: &'a Settings) -> Self {
        let (places, columns) = (HashMap::new(), BTreeMap::new());
        Self { settings, places, columns, files: 0, bytes: 0, shapes: Vec::new() }
    }

    /// Counts a file of a table, before it is read.
    pub(super) fn admit_file(&mut self, table: &str) -> Result<(), Failure> {
        let limits = &self.settings.limits;
        self.columns.entry(table.to_string()).or_default();
        if self.columns.len() > limits.archive_tables {
            let detail =
                past("tables that the archive's files name", "archive_tables", limits.archive_tables);
            return Err(Failure::Archive(Reason::TooManyTables, detail));
        }
        if self.files >= limits.archive_files {
            let detail = past("files of the archive", "archive_files", limits.archive_files);
            return Err(Failure::Archive(Reason::TooManyFiles, detail));
        }
        self.files += 1;
        Ok(())
    }

    /// Counts a file's columns before any of its rows is staged.
    pub(super) fn admit(&mut self, table: &str, header: &[String], fresh: &[String]) -> Result<(), Failure> {
        let limits = &self.settings.limits;
        if fresh.iter().any(|name| name.len() > limits.column_name_bytes) {
            let detail = past("bytes of a column's name", "column_name_bytes", limits.column_name_bytes);
            return Err(Failure::Member(Reason::NameTooLong, detail));
        }
        if self.settings.source_column.is_some() && fresh.iter().any(|name| name == SOURCE) {
            let detail =
                format!("no column can be named {SOURCE:?}: staged rows have their archive and member there");
            return Err(Failure::Member(Reason::BadHeader, detail));
        }
        let known = self.columns.entry(table.to_string()).or_default();
        let new = fresh.iter().filter(|name| !known.contains(*name)).count();
        if known.len() + new > limits.table_columns {
            return Err(Failure::Member(Reason::TooManyColumns, too_many_columns(limits.table_columns)));
        }
        let names: usize = fresh.iter().filter(|name| known.insert(name.to_string())).map(String::len).sum();
        self.bytes += (names + new * size_of::<String>()) as u64;
        let key = (table.to_string(), header.to_vec());
        let more = if self.places.contains_key(&key) { 0 } else { shape_bytes(header) };
        self.check(more)
    }

    /// The place of what a file that was taken shares with others of its header.
    pub(super) fn shape(&mut self, table: &str, read: FileColumns) -> usize {
        let FileColumns { header, columns } = read;
        let key = (table.to_string(), header);
        let at = match self.places.get(&key) {
            Some(at) => *at,
            None => {
                let (table, header) = key.clone();
                self.bytes += shape_bytes(&header);
                let (nulls, candidates) = (vec![0; header.len()], vec![Candidates::default(); header.len()]);
                self.shapes.push(Shape { table, header, nulls, candidates });
                let at = self.shapes.len() - 1;
                self.places.insert(key, at);
                at
            }
        };
        if let Some(shape) = self.shapes.get_mut(at) {
            for ((nulls, candidates), column) in
                shape.nulls.iter_mut().zip(&mut shape.candidates).zip(columns)
            {
                *nulls += column.nulls;
                candidates.merge(column.candidates.unwrap_or_default());
            }
        }
        at
    }

    /// Counts what is kept of a file that was read.
    pub(super) fn keep(&mut self, file: &StagedFile) {
        let texts = file.member.len() + file.table.len();
        self.bytes += FILE_BYTES + texts as u64;
        file.parts.iter().for_each(|part| self.keep_part(part));
    }

    /// Counts what is kept of a part.
    pub(super) fn keep_part(&mut self, part: &Part) {
        self.bytes += (part.location.len() + size_of::<Part>()) as u64;
    }

    /// Holds what is kept, and so many bytes more, to the limit.
    pub(super) fn check(&self, more: u64) -> Result<(), Failure> {
        let most = self.settings.limits.archive_known_bytes;
        if self.bytes.saturating_add(more) > most {
            let detail = past("bytes to be known of the archive's files", "archive_known_bytes", most);
            return Err(Failure::Archive(Reason::TooManyFiles, detail));
        }
        Ok(())
    }

    /// Forgets the headers: no file of the archive is taken.
    pub(super) fn forget_shapes(&mut self) {
        self.shapes.clear();
    }

    pub(super) fn finish(self, outcome: &mut Outcome) {
        (outcome.shapes, outcome.known_bytes) = (self.shapes, self.bytes);
    }
}

/// Bytes that a shape takes in memory: its names are in what finds it, too.
fn shape_bytes(header: &[String]) -> u64 {
    let names: usize = header.iter().map(|name| 2 * name.len()).sum();
    names as u64 + COLUMN_BYTES * header.len() as u64
}

pub(crate) fn too_many_columns(limit: usize) -> String {
    past("columns of the table, of all its files", "table_columns", limit)
}
