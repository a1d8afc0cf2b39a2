//! [`MetadataTable`]: which tables there are about a table.

use std::fmt;
use std::str::FromStr;

use icefield_core::{Error, Result};

/// A table about a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MetadataTable {
    /// Every snapshot that the table has.
    Snapshots,
    /// Which snapshot was current when.
    History,
    /// Branches and tags.
    Refs,
    /// The metadata files that the table still names, and its own.
    MetadataLogEntries,
    /// The manifests of a snapshot.
    Manifests,
    /// The data and delete files of a snapshot.
    Files,
    /// The data files of a snapshot.
    DataFiles,
    /// The delete files of a snapshot.
    DeleteFiles,
    /// The manifests' entries of a snapshot, those of removed files too.
    Entries,
    /// Files, rows and bytes of a snapshot by partition.
    Partitions,
    /// The rows that position delete files and deletion vectors of a snapshot name. Reads these files.
    PositionDeletes,
    /// The manifests of every snapshot, once for each snapshot that names them.
    AllManifests,
    /// The data and delete files of every snapshot. A file may be there more than once.
    AllFiles,
    /// The data files of every snapshot. A file may be there more than once.
    AllDataFiles,
    /// The delete files of every snapshot. A file may be there more than once.
    AllDeleteFiles,
    /// The entries of the manifests of every snapshot, each manifest once.
    AllEntries,
}

impl MetadataTable {
    /// Every table about a table.
    pub const ALL: [Self; 16] = [
        Self::Snapshots,
        Self::History,
        Self::Refs,
        Self::MetadataLogEntries,
        Self::Manifests,
        Self::Files,
        Self::DataFiles,
        Self::DeleteFiles,
        Self::Entries,
        Self::Partitions,
        Self::PositionDeletes,
        Self::AllManifests,
        Self::AllFiles,
        Self::AllDataFiles,
        Self::AllDeleteFiles,
        Self::AllEntries,
    ];

    /// Its name in SQL, after the table's and a `$`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Snapshots => "snapshots",
            Self::History => "history",
            Self::Refs => "refs",
            Self::MetadataLogEntries => "metadata_log_entries",
            Self::Manifests => "manifests",
            Self::Files => "files",
            Self::DataFiles => "data_files",
            Self::DeleteFiles => "delete_files",
            Self::Entries => "entries",
            Self::Partitions => "partitions",
            Self::PositionDeletes => "position_deletes",
            Self::AllManifests => "all_manifests",
            Self::AllFiles => "all_files",
            Self::AllDataFiles => "all_data_files",
            Self::AllDeleteFiles => "all_delete_files",
            Self::AllEntries => "all_entries",
        }
    }

    /// Whether it tells of one snapshot, so that it can be read as of an earlier one.
    pub fn is_of_a_snapshot(self) -> bool {
        matches!(
            self,
            Self::Manifests
                | Self::Files
                | Self::DataFiles
                | Self::DeleteFiles
                | Self::Entries
                | Self::Partitions
                | Self::PositionDeletes
        )
    }

    /// The table and what is asked about it, of a name such as `t$files`.
    pub(crate) fn split(name: &str) -> Option<(&str, Self)> {
        let (table, about) = name.rsplit_once('$')?;
        Some((table, about.parse().ok()?)).filter(|(table, _)| !table.is_empty())
    }
}

impl fmt::Display for MetadataTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for MetadataTable {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|table| table.as_str() == name).ok_or_else(|| {
            let known = Self::ALL.map(Self::as_str).join(", ");
            Error::invalid_input(format!("no such metadata table; there are {known}")).with("name", name)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_what_is_asked_about_which_table() {
        assert_eq!(MetadataTable::split("t$files"), Some(("t", MetadataTable::Files)));
        assert_eq!(MetadataTable::split("a$b$refs"), Some(("a$b", MetadataTable::Refs)));
        for name in ["t", "t$", "t$nothing", "$files"] {
            assert_eq!(MetadataTable::split(name), None, "{name}");
        }
        for about in MetadataTable::ALL {
            assert_eq!(about.as_str().parse::<MetadataTable>().unwrap(), about);
        }
    }
}
