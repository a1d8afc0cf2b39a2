//! Changes of a table's metadata as pure functions: metadata in, updates and requirements out.
//!
//! A [`SchemaUpdate`], [`PartitionUpdate`], [`SortOrderUpdate`], [`PropertiesUpdate`], [`FormatUpgrade`] or
//! [`LocationUpdate`] records what is to change as plain data. Its `apply` works the change out against one state of a
//! table, so that a commit that lost a race applies the same edits again to what the winner left. [`MetadataEdit`] is any
//! of them; [`apply_all`] does several, one after the other, as one change.
//!
//! The rules are those of the Iceberg specification (Schema Evolution, Partition Evolution) and of Iceberg Java. Columns
//! are told apart by field id: an id, once given, is never given again, not even to a column of the same name. Edits that
//! readers of existing data could not honour are errors that name the column and what to do instead. No I/O happens here.

mod change;
mod mapping;
mod partition;
mod promote;
mod properties;
mod property_values;
mod schema;
mod sort;
mod tree;
/// Short names for column types: `string()`, `decimal(10, 2)`, `list(int())`.
pub mod types;
mod union;

#[cfg(test)]
mod tests;

use iceberg::spec::TableMetadata;

use crate::error::Result;

pub use change::{MetadataChange, apply_updates};
pub use iceberg::spec::{FormatVersion, Literal};
pub use partition::{
    PartitionTerm, PartitionUpdate, Term, bucket, day, hour, identity, month, partition_spec, truncate, void,
    year,
};
pub use properties::{FormatUpgrade, LocationUpdate, PropertiesUpdate};
pub use property_values::check_property_values;
pub use schema::{ColumnPosition, NewColumn, SchemaUpdate};
pub use sort::{SortOrderUpdate, SortTerm, asc, desc, sort_order};

/// Any of the changes of this module, as plain data.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum MetadataEdit {
    /// Columns.
    Schema(SchemaUpdate),
    /// Partition fields.
    Partition(PartitionUpdate),
    /// The sort order.
    SortOrder(SortOrderUpdate),
    /// Properties.
    Properties(PropertiesUpdate),
    /// The format version.
    Format(FormatUpgrade),
    /// The table's location.
    Location(LocationUpdate),
}

impl MetadataEdit {
    /// Works the change out against `metadata`.
    ///
    /// # Errors
    /// Those of the edit's own `apply`.
    pub fn apply(&self, metadata: &TableMetadata) -> Result<MetadataChange> {
        match self {
            Self::Schema(edit) => edit.apply(metadata),
            Self::Partition(edit) => edit.apply(metadata),
            Self::SortOrder(edit) => edit.apply(metadata),
            Self::Properties(edit) => edit.apply(metadata),
            Self::Format(edit) => edit.apply(metadata),
            Self::Location(edit) => edit.apply(metadata),
        }
    }
}

macro_rules! edit_from {
    ($($variant:ident($type:ty)),+ $(,)?) => {
        $(impl From<$type> for MetadataEdit {
            fn from(edit: $type) -> Self {
                Self::$variant(edit)
            }
        })+
    };
}

edit_from!(
    Schema(SchemaUpdate),
    Partition(PartitionUpdate),
    SortOrder(SortOrderUpdate),
    Properties(PropertiesUpdate),
    Format(FormatUpgrade),
    Location(LocationUpdate),
);

/// Works several edits out, each against what those before it leave, as one change.
///
/// # Errors
/// The first edit's that fails.
pub fn apply_all<'a>(
    metadata: &TableMetadata,
    edits: impl IntoIterator<Item = &'a MetadataEdit>,
) -> Result<MetadataChange> {
    let mut change = MetadataChange::default();
    let mut current = None;
    for edit in edits {
        let base = current.as_ref().unwrap_or(metadata);
        let next = edit.apply(base)?;
        if !next.is_empty() {
            current = Some(apply_updates(base, &next.updates)?);
            change = change.then(next);
        }
    }
    Ok(change)
}
