//! The bounds on what archives, and a run over all of them, may hold.

use serde::{Deserialize, Serialize};

/// What bounds memory and time, whatever partners send. What passes a limit is quarantined with a reason that names the
/// limit and its value, never a reason to stop.
///
/// Limits of one archive set it aside alone. Limits named `run_` are of all archives together: what passes one is set aside as
/// [`Reason::RunLimit`](crate::Reason::RunLimit) and is no fault of the archive; which ones are left out is a matter of which end
/// first. A later run with the same staging folder goes on after `run_bytes` and `run_members`, which bound work;
/// `run_archives`, `run_files` and `run_known_bytes` bound memory, and what passes them needs higher limits or a smaller drop.
///
/// [`Limits::tables`] and [`Limits::table_columns`] are of a run too. Which tables and headers are within them is decided by the
/// number of archives that have them, so that one archive does not push out what all others agree on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Decompressed bytes for one compressed byte of an archive, at most, once [`Limits::ratio_floor_bytes`] are decompressed.
    /// What a codec within the archive makes of a member counts too; such a member is also held to the ratio by itself. 200.
    pub ratio: u64,
    /// Decompressed bytes of an archive below which its ratio is not looked at: small files may well repeat. So many fields too,
    /// for [`Limits::field_ratio`]. 8 MiB.
    pub ratio_floor_bytes: u64,
    /// Fields (rows times columns, those that a JSON line lacks included) for one compressed byte of an archive. A new staged
    /// file counts as 16,384 and a hundred rows more, a bad row as 64, a gzip member behind another as 200. 400.
    pub field_ratio: u64,
    /// Files in the folders that a run reads, archives or not, and as many others that are set aside. Those whose locations come
    /// last are left out, and only counted. 100,000.
    pub run_archives: usize,
    /// Members of an archive, folders included. 100,000.
    pub members: u64,
    /// Members of all archives that a run reads, without folders. 10,000,000.
    pub run_members: u64,
    /// Decompressed bytes of one member. 64 GiB.
    pub member_bytes: u64,
    /// Decompressed bytes of one archive, what a codec within it makes of members included. 256 GiB.
    pub archive_bytes: u64,
    /// Decompressed bytes of all archives that a run reads. 4 TiB.
    pub run_bytes: u64,
    /// Files of tables in one archive. 20,000.
    pub archive_files: u64,
    /// Files of tables in all archives, staged earlier or now. 1,000,000.
    pub run_files: u64,
    /// Tables that the files of one archive name. 64.
    pub archive_tables: usize,
    /// Tables of a run. Those that the caller names come before others. 256.
    pub tables: usize,
    /// Bytes that are kept in memory of one archive's files until the run's end: paths, headers, counts. Some hundred bytes a file,
    /// and about 200 bytes a column of each header that differs. 32 MiB.
    pub archive_known_bytes: u64,
    /// The same, of all archives. 512 MiB.
    pub run_known_bytes: u64,
    /// Bytes of one field as it is written in its row, quotes included. 4 MiB.
    pub field_bytes: usize,
    /// Line ends within one quoted field of CSV. A quote that stays open for more is taken for a stray one: its row goes to the
    /// quarantine up to the end of the quote's line, and reading goes on with the next line. 1,000.
    pub field_lines: usize,
    /// Bytes of one row. A row is held in memory whole: the bound on what one archive being read needs. 16 MiB.
    pub row_bytes: usize,
    /// Columns of one file. 4,096.
    pub columns: usize,
    /// Columns of one table, of all its files. A file that would bring more is quarantined. 4,096.
    pub table_columns: usize,
    /// Bytes of a column's name. 1 KiB.
    pub column_name_bytes: usize,
    /// Bytes of a bad row's text that the quarantine keeps. 16 KiB.
    pub raw_bytes: usize,
    /// Bytes of what was set aside of one archive that are listed, beside what is stored. 1 MiB.
    pub archive_listed_bytes: usize,
    /// The same, of all archives. 16 MiB.
    pub listed_bytes: usize,
    /// Bytes of one manifest. One with more is not read. 16 MiB.
    pub manifest_bytes: u64,
    /// Archives that the manifests of a run promise, all together. 100,000.
    pub manifest_names: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            ratio: 200,
            ratio_floor_bytes: 8 << 20,
            field_ratio: 400,
            run_archives: 100_000,
            members: 100_000,
            run_members: 10_000_000,
            member_bytes: 64 << 30,
            archive_bytes: 256 << 30,
            run_bytes: 4 << 40,
            archive_files: 20_000,
            run_files: 1_000_000,
            archive_tables: 64,
            tables: 256,
            archive_known_bytes: 32 << 20,
            run_known_bytes: 512 << 20,
            field_bytes: 4 << 20,
            field_lines: 1000,
            row_bytes: 16 << 20,
            columns: 4096,
            table_columns: 4096,
            column_name_bytes: 1 << 10,
            raw_bytes: 16 << 10,
            archive_listed_bytes: 1 << 20,
            listed_bytes: 16 << 20,
            manifest_bytes: 16 << 20,
            manifest_names: 100_000,
        }
    }
}
