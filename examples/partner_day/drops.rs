//! The drops of a folder: those with a manifest, by date.

use std::collections::BTreeSet;
use std::error::Error;
use std::fs::Metadata;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use datafusion::arrow::datatypes::DataType;
use icefield::prelude::*;

/// One partner's drop of one day.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Drop {
    pub(crate) date: String,
    pub(crate) city: String,
    pub(crate) folder: PathBuf,
}

impl Drop {
    pub(crate) fn name(&self) -> String {
        format!("{}/{}", self.city, self.date)
    }

    /// What the folder holds now.
    pub(crate) fn delivery(&self) -> Result<Delivery, Box<dyn Error>> {
        let (mut files, mut folders) = (Vec::new(), vec![self.folder.clone()]);
        let mut names = BTreeSet::new();
        while let Some(folder) = folders.pop() {
            for path in entries(&folder)? {
                // A link is a file here, which the ingest sets aside.
                let about = path.symlink_metadata()?;
                if about.is_dir() {
                    folders.push(path);
                    continue;
                }
                files.push((
                    path.strip_prefix(&self.folder)?.to_owned(),
                    about.len(),
                    about.modified()?,
                    changed(&about),
                ));
                // Rows name the archive that they are from by its name alone.
                if !names.insert(name(&path)) {
                    return Err(format!("two files are called {}; rename one", name(&path)).into());
                }
            }
        }
        files.sort();
        let mut hash = DefaultHasher::new();
        files.hash(&mut hash);
        Ok(Delivery { id: format!("{:016x}", hash.finish()), files: names })
    }

    /// The columns that say which drop a row is of.
    pub(crate) fn mark(&self, rows: DataFrame) -> Result<DataFrame, Box<dyn Error>> {
        for ours in ["city", "scraped"] {
            if rows.schema().has_column_with_unqualified_name(ours) {
                return Err(format!(
                    "the files have a column {ours}, which says here whose drop a row is of"
                )
                .into());
            }
        }
        Ok(rows.with_column("city", lit(self.city.as_str()))?.with_column("scraped", self.scraped())?)
    }

    /// The condition for the drop's rows: a partition of every table.
    pub(crate) fn rows(&self) -> Expr {
        col("city").eq(lit(self.city.as_str())).and(col("scraped").eq(self.scraped()))
    }

    fn scraped(&self) -> Expr {
        cast(lit(self.date.as_str()), DataType::Date32)
    }

    /// Whether a table has rows of the drop.
    pub(crate) async fn is_in(&self, session: &Session, table: &str) -> Result<bool, Box<dyn Error>> {
        if !session.catalog().table_exists(&parse_ident(table)?).await? {
            return Ok(false);
        }
        let rows = session.table(table).await?.dataframe().await?.filter(self.rows())?;
        Ok(rows.limit(0, Some(1))?.count().await? > 0)
    }
}

/// What a drop's folder holds at a moment.
pub(crate) struct Delivery {
    /// A few letters: others as soon as a file comes, goes or changes, which its size and times of change tell. Another release
    /// of Rust may give others too; the drop is then written anew, the same.
    pub(crate) id: String,
    /// The names of the files.
    pub(crate) files: BTreeSet<String>,
}

/// When a file was last changed in any way, in nanoseconds: also when it was put back with its old time of modification.
#[cfg(unix)]
fn changed(about: &Metadata) -> (i64, i64) {
    use std::os::unix::fs::MetadataExt;
    (about.ctime(), about.ctime_nsec())
}

#[cfg(not(unix))]
fn changed(_: &Metadata) -> (i64, i64) {
    (0, 0)
}

/// Every `{city}/{date}` folder that is complete: its manifest is there.
pub(crate) fn find(root: &Path) -> Result<Vec<Drop>, Box<dyn Error>> {
    let mut drops = Vec::new();
    for city in folders(root)? {
        for folder in folders(&city)? {
            if folder.join("_manifest.json").exists() {
                drops.push(Drop { date: name(&folder), city: name(&city), folder: folder.canonicalize()? });
            }
        }
    }
    drops.sort();
    Ok(drops)
}

fn folders(root: &Path) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    Ok(entries(root)?.into_iter().filter(|path| path.is_dir()).collect())
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let entries = std::fs::read_dir(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    Ok(entries.map(|entry| entry.map(|e| e.path())).collect::<Result<_, _>>()?)
}

fn name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}
