//! [`ReferenceTables`]: tables that the reference implementation wrote, with what it reads from them.
//!
//! The script `make-tables` that lies beside the [`Referee`](crate::Referee)'s writes them, in about a minute;
//! `ICEFIELD_REFERENCE_TABLES` names a folder where it has done so.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::referee::{home, script};

/// A folder of tables: `db/NAME`, and `expected.txt`.
#[derive(Debug)]
pub struct ReferenceTables {
    folder: PathBuf,
    _temporary: Option<TempDir>,
}

/// What the reference implementation reads from a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// The table's name.
    pub table: String,
    /// The branch or tag.
    pub reference: String,
    /// `rows=N hash=H`, as [`Content`](crate::Content) prints it. The columns are in the order of the snapshot's own schema.
    pub content: String,
}

impl ReferenceTables {
    /// The tables; `None`, with a notice, where nothing is there to write them.
    ///
    /// # Panics
    /// When the script fails.
    pub fn find() -> Option<Self> {
        if let Some(folder) = std::env::var_os("ICEFIELD_REFERENCE_TABLES").map(PathBuf::from)
            && folder.join("expected.txt").is_file()
        {
            return Some(Self { folder, _temporary: None });
        }
        Self::make()
    }

    /// Tables of one's own, to be written to; `None`, with a notice, where nothing is there to write them.
    ///
    /// # Panics
    /// When the script fails.
    pub fn make() -> Option<Self> {
        let make = tool("make-tables")?;
        let folder = tempfile::tempdir().expect("a temporary folder");
        let output = Command::new(&make).arg(folder.path()).output();
        let output = output.unwrap_or_else(|e| panic!("{} does not start: {e}", make.display()));
        assert!(output.status.success(), "no tables: {}", String::from_utf8_lossy(&output.stderr));
        Some(Self { folder: folder.path().to_path_buf(), _temporary: Some(folder) })
    }

    /// A table's folder.
    pub fn table(&self, name: &str) -> PathBuf {
        self.folder.join("db").join(name)
    }

    /// The warehouse of [`spark_sql`] in which the tables are `l.db.NAME`.
    pub fn warehouse(&self) -> &Path {
        &self.folder
    }

    /// What is to be read.
    pub fn expected(&self) -> Vec<Expected> {
        let text = std::fs::read_to_string(self.folder.join("expected.txt")).expect("expected.txt");
        let lines = text.lines().map(|line| {
            let (table, rest) = line.split_once(' ').expect("a table's name");
            let (reference, content) = rest.split_once(' ').expect("a branch or tag");
            let [table, reference, content] = [table, reference, content].map(str::to_string);
            Expected { table, reference, content }
        });
        lines.collect()
    }
}

/// The newest metadata file of a table's folder, by the version in its name.
pub fn newest_metadata(table: &Path) -> Option<PathBuf> {
    let files = std::fs::read_dir(table.join("metadata")).ok()?.flatten().map(|entry| entry.path());
    let metadata = files.filter(|path| path.to_string_lossy().ends_with(".metadata.json"));
    metadata.max_by_key(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        name.trim_start_matches('v').split(['-', '.']).next().and_then(|v| v.parse::<u64>().ok())
    })
}

/// Runs statements, separated by `;`, in Spark SQL with the reference implementation, on a local warehouse whose tables are
/// `l.NAMESPACE.TABLE`. Gives for each query its rows as printed, cells between `|`. `None`, with a notice, without Spark.
///
/// # Panics
/// When a statement fails.
pub fn spark_sql(warehouse: &Path, statements: &str) -> Option<Vec<Vec<String>>> {
    let spark = tool("spark-sql")?;
    let output = Command::new(&spark).arg("--warehouse").arg(warehouse).args(["-e", statements]).output();
    let output = output.unwrap_or_else(|e| panic!("{} does not start: {e}", spark.display()));
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{printed}\n{}", String::from_utf8_lossy(&output.stderr));
    let mut tables: Vec<Vec<String>> = Vec::new();
    // A frame is three rules with the header between the first two.
    let mut rules = 0;
    for line in printed.lines() {
        if line.starts_with("+-") || line == "++" {
            rules += 1;
            if rules % 3 == 1 {
                tables.push(Vec::new());
            }
        } else if rules % 3 == 2
            && let (Some(table), Some(row)) = (tables.last_mut(), line.strip_prefix('|'))
        {
            table.push(row.strip_suffix('|').unwrap_or(row).to_string());
        }
    }
    Some(tables)
}

/// A script of the referee's, if its Java engine is there.
fn tool(name: &str) -> Option<PathBuf> {
    let path = script().with_file_name(name);
    let java = home().is_some_and(|home| home.join("java/bin/python").exists());
    if path.is_file() && java {
        return Some(path);
    }
    eprintln!("skipped: {} or the Java engine that it needs is not there", path.display());
    None
}
