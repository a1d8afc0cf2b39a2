//! What an ingest found: a summary for each table, with a score.

use std::collections::HashSet;
use std::fmt;

use icefield_core::Result;
use icefield_core::storage::Storage;
use serde::{Deserialize, Serialize};

use crate::escape::{Plain, plain};

/// Errors that a table's report keeps in words; further ones are counted.
pub(crate) const ERRORS: usize = 100;

/// Files of one header that a table's report keeps by name; further ones are counted.
pub(crate) const HEADER_FILES: usize = 100;

/// The report of a run.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Report {
    /// One for each table, by name.
    pub tables: Vec<TableReport>,
    /// Archives that manifests promise and that are there, and those that are there without a manifest's word.
    pub archives_expected: u64,
    /// Archives that are there.
    pub archives_received: u64,
    /// Archives that were read to their end.
    pub archives_taken: u64,
    /// Of these, archives that an earlier run had staged, and that this one did not read.
    pub archives_reused: u64,
    /// Files that are there and that no manifest of their folder names; taken none the less.
    pub archives_unlisted: Vec<String>,
    /// Folders left for a later run: they have no manifest, and [`crate::ManifestUse::Required`] was chosen.
    pub incomplete_folders: Vec<String>,
    /// Members passed over by [`crate::Ingest::ignore`].
    pub members_ignored: u64,
    /// Members passed over because they hold nothing of a table: what systems leave in archives beside the files, such as
    /// `._x.csv` and `__MACOSX/` of macOS, `.DS_Store`, `Thumbs.db`.
    #[serde(default)]
    pub members_skipped: u64,
    /// Archives, members and rows that were set aside. All of them are in [`Quarantine::read`](crate::Quarantine::read).
    #[serde(default)]
    pub set_aside: u64,
    /// Those of them that [`Quarantine::items`](crate::Quarantine::items) lists: the first of each archive, and of all archives
    /// the first 10,000.
    #[serde(default)]
    pub set_aside_listed: u64,
    /// Compressed bytes of the archives that were taken.
    pub bytes: u64,
    /// Their bytes, decompressed.
    pub bytes_decompressed: u64,
    /// Milliseconds that the run took.
    pub elapsed_ms: u64,
    /// What went wrong and belongs to no table that is known, the first 100 in words.
    pub errors: Vec<String>,
    /// How much more went wrong of that kind.
    #[serde(default)]
    pub errors_more: u64,
}

/// The report of one table.
///
/// It displays as the lines of `summary.txt`:
///
/// ```text
/// Table: calendar
/// - Total files: 1342
/// - Merged rows: 98012
/// - Header consistent: NO
/// - Null ratio: 17.2%
/// - Missing fields: ['adjusted_price']
/// - Quarantined: 3 files, 17 rows
/// - Score: 84
/// - Error: archive albany_2024-11-05_fault-truncated.tar.gz: unexpected end of gzip stream
/// ```
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TableReport {
    /// The table's name.
    pub table: String,
    /// Files that manifests promise; `None` without a manifest.
    pub files_expected: Option<u64>,
    /// Files that were taken.
    pub files: u64,
    /// Files that were set aside, those of archives that were set aside included.
    pub files_quarantined: u64,
    /// Rows that manifests promise; `None` without a manifest.
    pub rows_expected: Option<u64>,
    /// Rows that were taken.
    pub rows: u64,
    /// Rows that were set aside.
    pub rows_quarantined: u64,
    /// The headers that the files have, the most common first: those after it name the files that differ from most.
    pub headers: Vec<HeaderReport>,
    /// Columns that should be in every file and are missing from some: the given ones, or else those of the most common header.
    pub missing_fields: Vec<String>,
    /// Columns of some files beyond those.
    pub additional_fields: Vec<String>,
    /// The columns of the united table.
    pub columns: Vec<ColumnReport>,
    /// What went wrong, the first 100 in words.
    pub errors: Vec<String>,
    /// How much more went wrong.
    pub errors_more: u64,
}

/// One header, and the files that have it.
///
/// It displays as one line: `2 files, a.tar.gz/1.csv, b.tar.gz/1.csv: id,price`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct HeaderReport {
    /// Its columns in order.
    pub columns: Vec<String>,
    /// Files that have it.
    pub files: u64,
    /// The first 100 of them, as `archive.tar.gz/member.csv`.
    pub names: Vec<String>,
}

/// One column of the united table.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ColumnReport {
    /// Its name.
    pub name: String,
    /// Its type, in Arrow's words.
    pub data_type: String,
    /// NULLs among the table's rows, those of files without the column included.
    pub nulls: u64,
    /// Their share of the rows, from 0 to 1.
    pub null_ratio: f64,
    /// Files that lack the column.
    pub files_missing: u64,
}

impl TableReport {
    /// Whether all files have the same columns in the same order.
    pub fn header_consistent(&self) -> bool {
        self.headers.len() <= 1
    }

    /// The share of NULLs among all values, from 0 to 1.
    pub fn null_ratio(&self) -> f64 {
        let nulls: u64 = self.columns.iter().map(|c| c.nulls).sum();
        share(nulls, self.rows.saturating_mul(self.columns.len() as u64), 0.0)
    }

    /// Files that came: taken or set aside.
    pub fn files_received(&self) -> u64 {
        self.files + self.files_quarantined
    }

    /// From 0, nothing usable came, to 100, all came and there is nothing to remark. The sum, rounded down, of
    ///
    /// - 40 times the files taken by the files that were expected (or that came, where those are more),
    /// - 30 times the rows taken by the rows that were expected (or that came, where those are more),
    /// - 15 times the share of files that have the columns of the given schema or, without one, of the most common header,
    ///   in whatever order,
    /// - 15 times the share of values that are not NULL.
    ///
    /// A table of which no file was taken scores 0.
    pub fn score(&self) -> u8 {
        if self.files == 0 {
            return 0;
        }
        let files = share(self.files, self.files_received().max(self.files_expected.unwrap_or(0)), 1.0);
        let came = self.rows + self.rows_quarantined;
        let rows = share(self.rows, came.max(self.rows_expected.unwrap_or(0)), 1.0);
        let complete = |header: &&HeaderReport| {
            let columns: HashSet<&String> = header.columns.iter().collect();
            let has = |name: &String| columns.contains(name);
            self.missing_fields.iter().all(has) && !self.additional_fields.iter().any(has)
        };
        let headers = self.headers.iter().filter(complete).map(|h| h.files).sum();
        let headers = share(headers, self.files, 1.0);
        let score = 40.0 * files + 30.0 * rows + 15.0 * headers + 15.0 * (1.0 - self.null_ratio());
        // Sums of exact shares may fall short of a whole number by rounding.
        (score + 1e-9).floor().clamp(0.0, 100.0) as u8
    }
}

fn share(part: u64, whole: u64, of_nothing: f64) -> f64 {
    if whole == 0 { of_nothing } else { part as f64 / whole as f64 }
}

impl fmt::Display for TableReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Table: {}", Plain(&self.table))?;
        writeln!(f, "- Total files: {}", self.files_received())?;
        writeln!(f, "- Merged rows: {}", self.rows)?;
        writeln!(f, "- Header consistent: {}", if self.header_consistent() { "YES" } else { "NO" })?;
        writeln!(f, "- Null ratio: {:.1}%", self.null_ratio() * 100.0)?;
        let missing: Vec<String> = self.missing_fields.iter().map(|name| quoted(name)).collect();
        writeln!(f, "- Missing fields: [{}]", missing.join(", "))?;
        writeln!(f, "- Quarantined: {} files, {} rows", self.files_quarantined, self.rows_quarantined)?;
        writeln!(f, "- Score: {}", self.score())?;
        for error in &self.errors {
            writeln!(f, "- Error: {}", Plain(error))?;
        }
        if self.errors_more > 0 {
            writeln!(f, "- Error: and {} more", self.errors_more)?;
        }
        Ok(())
    }
}

impl fmt::Display for HeaderReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let files = if self.files == 1 { "file" } else { "files" };
        write!(f, "{} {files}, {}", self.files, plain(&self.names.join(", ")))?;
        let unnamed = self.files.saturating_sub(self.names.len() as u64);
        if unnamed > 0 {
            write!(f, ", and {unnamed} more")?;
        }
        write!(f, ": {}", plain(&self.columns.join(",")))
    }
}

fn quoted(name: &str) -> String {
    format!("'{}'", Plain(&name.replace('\\', "\\\\").replace('\'', "\\'")))
}

impl Report {
    /// A table's report.
    pub fn table(&self, name: &str) -> Option<&TableReport> {
        self.tables.iter().find(|t| t.table == name)
    }

    /// The tables that score below a threshold: those to alert about.
    pub fn below(&self, score: u8) -> impl Iterator<Item = &TableReport> {
        self.tables.iter().filter(move |t| t.score() < score)
    }

    /// Writes the report as it displays, `summary.txt`, into a folder. One request.
    pub async fn write(&self, storage: &Storage, folder: &str) -> Result<()> {
        storage.write(&icefield_core::storage::join(folder, "summary.txt"), self.to_string()).await
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, table) in self.tables.iter().enumerate() {
            if i > 0 {
                writeln!(f)?;
            }
            write!(f, "{table}")?;
        }
        let apart = if self.tables.is_empty() { "" } else { "\n" };
        if !self.errors.is_empty() || self.errors_more > 0 {
            writeln!(f, "{apart}Of no table:")?;
            for error in &self.errors {
                writeln!(f, "- Error: {}", Plain(error))?;
            }
            if self.errors_more > 0 {
                writeln!(f, "- Error: and {} more", self.errors_more)?;
            }
        }
        let (all, listed) = (self.set_aside, self.set_aside_listed);
        if listed < all {
            writeln!(
                f,
                "{apart}Set aside: {all}, of which {listed} are listed; the quarantine's table has all"
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(name: &str, nulls: u64) -> ColumnReport {
        ColumnReport { name: name.into(), nulls, ..ColumnReport::default() }
    }

    fn header(columns: &[&str], files: u64) -> HeaderReport {
        let columns = columns.iter().map(|c| c.to_string()).collect();
        HeaderReport { columns, files, names: Vec::new() }
    }

    #[test]
    fn a_summary_has_the_agreed_form() {
        let report = TableReport {
            table: "calendar".into(),
            files: 8,
            files_quarantined: 2,
            rows: 90,
            rows_quarantined: 10,
            headers: vec![header(&["id", "price"], 6), header(&["id"], 2)],
            missing_fields: vec!["price".into()],
            columns: vec![column("id", 0), column("price", 36)],
            errors: vec!["archive a.tar.gz: unexpected end of gzip stream".into()],
            ..TableReport::default()
        };
        let expected = "Table: calendar\n- Total files: 10\n- Merged rows: 90\n- Header consistent: NO\n- Null ratio: 20.0%\n\
            - Missing fields: ['price']\n- Quarantined: 2 files, 10 rows\n- Score: 82\n\
            - Error: archive a.tar.gz: unexpected end of gzip stream\n";
        assert_eq!(report.to_string(), expected);
    }

    #[test]
    fn scores() {
        let full = TableReport {
            files: 3,
            rows: 10,
            headers: vec![header(&["a"], 3)],
            columns: vec![column("a", 0)],
            ..TableReport::default()
        };
        let cases = [
            ("nothing to remark", full.clone(), 100),
            ("nothing came", TableReport::default(), 0),
            ("a file is missing", TableReport { files_expected: Some(4), ..full.clone() }, 90),
            ("half the rows are missing", TableReport { rows_expected: Some(20), ..full.clone() }, 85),
            (
                "a row in a thousand is bad",
                TableReport { rows: 999, rows_quarantined: 1, ..full.clone() },
                99,
            ),
            ("all is NULL", TableReport { columns: vec![column("a", 10)], ..full.clone() }, 85),
            ("more came than was promised", TableReport { files_expected: Some(1), ..full }, 100),
        ];
        for (name, report, score) in cases {
            assert_eq!(report.score(), score, "{name}");
        }
    }
}
