//! What a sender says a drop holds: `_manifest.json`.
//!
//! `{"archives": [{"name": "a.tar.gz", "files": 2, "rows": {"calendar": 38690}}]}`, in the archives' folder; other keys are
//! left alone. A sender writes it last, as the sign that the drop is complete.

use std::collections::{BTreeMap, HashMap};

use icefield_core::{Error, Result};
use serde::Deserialize;

use crate::escape::{may_be_in_a_path, past};
use crate::options::Settings;

/// A drop's manifest: the archives in its order, found by their names.
#[derive(Debug, Clone, Default)]
pub(crate) struct Manifest {
    archives: Vec<Promised>,
    by_name: HashMap<String, usize>,
}

/// An archive that a manifest promises.
#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct Promised {
    pub(crate) name: String,
    /// Files in it.
    pub(crate) files: Option<u64>,
    /// Rows by table.
    #[serde(default)]
    pub(crate) rows: BTreeMap<String, u64>,
}

impl Manifest {
    /// Reads a manifest that promises `most` archives, at most. What it promises of tables that there can't be is left out, and
    /// so is an archive whose name is none of a file in the manifest's folder; `odd` is the number of these.
    pub(crate) fn parse(bytes: &[u8], settings: &Settings, most: usize) -> Result<(Self, usize)> {
        #[derive(Deserialize)]
        struct Written {
            #[serde(default)]
            archives: Vec<Promised>,
        }
        let written: Written = serde_json::from_slice(bytes).map_err(|e| {
            Error::data_invalid(format!(
                "the manifest can't be read ({e}); its archives are taken without it"
            ))
        })?;
        let (mut manifest, mut odd) = (Self::default(), 0);
        if written.archives.len() > most {
            let what = past(
                "archives that the run's manifests promise",
                "manifest_names",
                settings.limits.manifest_names,
            );
            return Err(Error::data_invalid(format!("{what}; its archives are taken without it")));
        }
        for mut promised in written.archives {
            if !is_name(&promised.name) {
                odd += 1;
                continue;
            }
            let before = promised.rows.len();
            promised.rows.retain(|table, _| settings.refuses(table).is_none());
            if promised.rows.len() > settings.limits.archive_tables {
                promised.rows.clear();
            }
            odd += usize::from(promised.rows.len() < before);
            // Of an archive that is promised twice the first promise counts.
            if !manifest.by_name.contains_key(&promised.name) {
                manifest.by_name.insert(promised.name.clone(), manifest.archives.len());
                manifest.archives.push(promised);
            }
        }
        Ok((manifest, odd))
    }

    /// What is promised of an archive.
    pub(crate) fn promised(&self, name: &str) -> Option<&Promised> {
        self.archives.get(*self.by_name.get(name)?)
    }

    /// Every archive that is promised, once.
    pub(crate) fn archives(&self) -> &[Promised] {
        &self.archives
    }
}

/// Whether a name is one of a file in a folder.
fn is_name(name: &str) -> bool {
    !matches!(name, "" | "." | "..")
        && name.len() <= 1024
        && name.chars().all(|c| may_be_in_a_path(c) && !"/\\".contains(c))
}

impl Promised {
    /// Files of each table, as far as the manifest tells: one where there are as many as tables, all where there is one table.
    pub(crate) fn files_of_a_table(&self) -> u64 {
        match (self.rows.len() as u64, self.files) {
            (1, Some(files)) => files,
            _ => 1,
        }
    }
}
