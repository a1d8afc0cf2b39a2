//! [`MetadataChange`]: what a catalog is asked to change of a table's metadata.

use std::mem::{Discriminant, discriminant};

use iceberg::spec::TableMetadata;
use iceberg::{TableRequirement, TableUpdate};

use crate::catalog;
use crate::error::Result;

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
    pub(super) fn checked(
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
