//! [`ChangeMetadata`]: schema, partition spec, sort order, properties and the like change.

use std::fmt;

use iceberg::spec::TableMetadata;

use super::{MetadataAction, MetadataEffect, Replayed};
use crate::error::Result;
use crate::evolve::MetadataChange;
use crate::table::Table;

/// A change of metadata, worked out anew at every try.
pub(in crate::commit) struct ChangeMetadata(pub(in crate::commit) Replayed<MetadataChange>);

impl fmt::Debug for ChangeMetadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ChangeMetadata")
    }
}

impl MetadataAction for ChangeMetadata {
    fn effect(&self, metadata: &TableMetadata, _: &Table) -> Result<MetadataEffect> {
        let MetadataChange { updates, requirements } = self.0(metadata)?;
        Ok(MetadataEffect { updates, requirements, ..MetadataEffect::default() })
    }

    fn is_change(&self) -> bool {
        true
    }
}
