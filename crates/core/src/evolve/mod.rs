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

use std::mem::{Discriminant, discriminant};

use iceberg::spec::TableMetadata;
use iceberg::{TableRequirement, TableUpdate};

use crate::catalog;
use crate::error::Result;

pub use iceberg::spec::{FormatVersion, Literal};
pub use partition::{
    PartitionTerm, PartitionUpdate, Term, bucket, day, hour, identity, month, partition_spec, truncate, void,
    year,
};
pub use properties::{FormatUpgrade, LocationUpdate, PropertiesUpdate};
pub use property_values::check_property_values;
pub use schema::{ColumnPosition, NewColumn, SchemaUpdate};
pub use sort::{SortOrderUpdate, SortTerm, asc, desc, sort_order};

/// What a change of metadata is made of: updates to send to the catalog and what must still hold when they arrive.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct MetadataChange {
    /// The updates, in the order in which they apply. Empty when there is nothing to change.
    pub updates: Vec<TableUpdate>,
    /// What must hold of the table for the updates to be right. Empty when `updates` is.
    pub requirements: Vec<TableRequirement>,
}

impl MetadataChange {
    /// Whether there is nothing to commit.
    pub fn is_empty(&self) -> bool {
        self.updates.is_empty()
    }

    /// This change followed by `next`, which was worked out against the metadata that this one leaves.
    ///
    /// A requirement of a kind that is already there is left out: the first one states what the table must be before
    /// either change, a later one what it is in between.
    pub fn then(mut self, next: Self) -> Self {
        let kinds: Vec<Discriminant<TableRequirement>> = self.requirements.iter().map(discriminant).collect();
        let reference = |requirement: &TableRequirement| {
            matches!(requirement, TableRequirement::RefSnapshotIdMatch { .. })
        };
        for requirement in next.requirements {
            if reference(&requirement) || !kinds.contains(&discriminant(&requirement)) {
                self.requirements.push(requirement);
            }
        }
        self.updates.extend(next.updates);
        self
    }

    /// A change that is known to apply, or the error that the catalog would give.
    fn checked(
        metadata: &TableMetadata,
        updates: Vec<TableUpdate>,
        mut requirements: Vec<TableRequirement>,
    ) -> Result<Self> {
        if updates.is_empty() {
            return Ok(Self::default());
        }
        apply_updates(metadata, &updates)?;
        requirements.insert(0, TableRequirement::UuidMatch { uuid: metadata.uuid() });
        Ok(Self { updates, requirements })
    }
}

/// The metadata that updates make of `metadata`. Pure but for the new metadata's last-updated time.
///
/// # Errors
/// What `iceberg`'s metadata builder refuses.
pub fn apply_updates(metadata: &TableMetadata, updates: &[TableUpdate]) -> Result<TableMetadata> {
    catalog::apply_updates(metadata, None, updates.iter().cloned())
}

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
