//! What a sender says a drop holds: `_manifest.json`.
//!
//! `{"archives": [{"name": "a.tar.gz", "files": 2, "rows": {"calendar": 38690}}]}`, in the archives' folder; other keys are
//! left alone. A sender writes it last, as the sign that the drop is complete.

use std::collections::{BTreeMap, HashMap};

use icefield_core::{Error, Result};
use serde::Deserialize;

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
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self> {
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
        let mut manifest = Self::default();
        for promised in written.archives {
            // Of an archive that is promised twice the first promise counts.
            if !manifest.by_name.contains_key(&promised.name) {
                manifest.by_name.insert(promised.name.clone(), manifest.archives.len());
                manifest.archives.push(promised);
            }
        }
        Ok(manifest)
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

impl Promised {
    /// Files of each table, as far as the manifest tells: one where there are as many as tables, all where there is one table.
    pub(crate) fn files_of_a_table(&self) -> u64 {
        match (self.rows.len() as u64, self.files) {
            (1, Some(files)) => files,
            _ => 1,
        }
    }
}
