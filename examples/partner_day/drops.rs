//! The drops of a folder: those with a manifest, by date.

use std::error::Error;
use std::path::{Path, PathBuf};

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
    let entries = std::fs::read_dir(root).map_err(|e| format!("{}: {e}", root.display()))?;
    let paths = entries.map(|entry| entry.map(|e| e.path())).collect::<Result<Vec<_>, _>>()?;
    Ok(paths.into_iter().filter(|path| path.is_dir()).collect())
}

fn name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}
