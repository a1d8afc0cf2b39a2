//! Changes of a table's metadata as pure functions: metadata in, updates and requirements out.

use iceberg::spec::FormatVersion;

use crate::error::{Error, Result};

/// `1`, `2` or `3` as a format version.
///
/// # Errors
/// [`InvalidInput`](crate::ErrorKind::InvalidInput) for anything else.
pub fn parse_format_version(text: &str) -> Result<FormatVersion> {
    match text.trim() {
        "1" => Ok(FormatVersion::V1),
        "2" => Ok(FormatVersion::V2),
        "3" => Ok(FormatVersion::V3),
        other => Err(Error::invalid_input("format-version is 1, 2 or 3").with("value", other)),
    }
}

/// What a change of metadata is made of: updates to send to the catalog and what must still hold when they arrive.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct MetadataChange {
    /// The updates, in the order in which they apply. Empty when there is nothing to change.
    pub updates: Vec<iceberg::TableUpdate>,
    /// What must hold of the table for the updates to be right. Empty when `updates` is.
    pub requirements: Vec<iceberg::TableRequirement>,
}
