//! [`PropertiesUpdate`], [`FormatUpgrade`], [`LocationUpdate`]: what is not columns, partitions or order.

use std::collections::{BTreeMap, HashMap};

use iceberg::TableUpdate;
use iceberg::spec::{FormatVersion, TableMetadata, TableProperties};

use super::change::MetadataChange;
use super::property_values::{CODEC, LEVEL, check_value};
use crate::error::{Error, Result};
use crate::format::parse_format_version;

const FORMAT_VERSION: &str = TableProperties::PROPERTY_FORMAT_VERSION;

/// Properties to set and remove. Setting `format-version` upgrades the table; other names that stand for the table's own
/// state, such as `uuid` and `current-schema`, are refused. Of several edits of one property the last counts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[must_use]
pub struct PropertiesUpdate {
    edits: BTreeMap<String, Option<String>>,
}

impl PropertiesUpdate {
    /// No edits.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether no edit was recorded.
    pub fn is_empty(&self) -> bool {
        self.edits.is_empty()
    }

    /// Sets a property.
    pub fn set(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.edits.insert(name.into(), Some(value.into()));
        self
    }

    /// Sets properties.
    pub fn set_all<N: Into<String>, V: Into<String>>(
        self,
        properties: impl IntoIterator<Item = (N, V)>,
    ) -> Self {
        properties.into_iter().fold(self, |update, (name, value)| update.set(name, value))
    }

    /// Removes a property, if it is there.
    pub fn remove(mut self, name: impl Into<String>) -> Self {
        self.edits.insert(name.into(), None);
        self
    }

    /// Works the edits out against `metadata`: values that are as wanted make no update.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for a reserved property, a lower format version, and a value that no write
    /// or maintenance could use.
    pub fn apply(&self, metadata: &TableMetadata) -> Result<MetadataChange> {
        let mut upgrade = MetadataChange::default();
        let (mut set, mut remove) = (HashMap::new(), Vec::new());
        let known = metadata.properties();
        for (name, value) in &self.edits {
            match value {
                Some(version) if name == FORMAT_VERSION => {
                    upgrade = FormatUpgrade::to(parse_format_version(version)?).apply(metadata)?;
                }
                _ if name.is_empty() => {
                    return Err(Error::invalid_input("a property's name can't be empty"));
                }
                _ if TableProperties::RESERVED_PROPERTIES.contains(&name.as_str()) => {
                    return Err(Error::invalid_input(
                        "the property stands for the table's own state and can't be set or removed; use the operation that \
                         changes that state",
                    )
                    .with("property", name));
                }
                Some(value) if known.get(name) != Some(value) => {
                    set.insert(name.clone(), value.clone());
                }
                None if known.contains_key(name) => remove.push(name.clone()),
                _ => {}
            }
        }
        let mut after = known.clone();
        after.extend(set.clone());
        remove.iter().for_each(|name| {
            after.remove(name);
        });
        // A level is one of the codec's, whichever of the two is set.
        let level = after.get(LEVEL).filter(|_| set.contains_key(CODEC)).map(|level| (LEVEL, level));
        let checked = set.iter().map(|(name, value)| (name.as_str(), value)).chain(level);
        for (name, value) in checked {
            check_value(name, value, &after)?;
        }
        let mut updates = Vec::new();
        if !set.is_empty() {
            updates.push(TableUpdate::SetProperties { updates: set });
        }
        if !remove.is_empty() {
            updates.push(TableUpdate::RemoveProperties { removals: remove });
        }
        let properties = MetadataChange::checked(metadata, updates, Vec::new())?;
        Ok(upgrade.then(properties))
    }
}

/// A higher format version for a table. There is no way back.
///
/// Data and snapshots that are there stay as they are: version 2 brings row-level deletes, version 3 deletion vectors, row
/// lineage, defaults and nanoseconds. Rows written before version 3 get row ids with the first commit after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct FormatUpgrade {
    version: FormatVersion,
}

impl FormatUpgrade {
    /// Upgrades to a version.
    pub fn to(version: FormatVersion) -> Self {
        Self { version }
    }

    /// Works the upgrade out against `metadata`; nothing to do for a table that has the version.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for a lower version than the table's.
    pub fn apply(&self, metadata: &TableMetadata) -> Result<MetadataChange> {
        let current = metadata.format_version();
        if self.version < current {
            return Err(Error::invalid_input(
                "a table's format version can't be lowered; copy the rows to a new table of that version",
            )
            .with("format_version", current)
            .with("wanted", self.version));
        }
        if self.version == current {
            return Ok(MetadataChange::default());
        }
        let upgrade = TableUpdate::UpgradeFormatVersion { format_version: self.version };
        MetadataChange::checked(metadata, vec![upgrade], Vec::new())
    }
}

/// Another base location for a table's new files. Files that are there stay where they are.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct LocationUpdate {
    location: String,
}

impl LocationUpdate {
    /// The new base location, `s3://bucket/path` or an absolute path.
    pub fn to(location: impl Into<String>) -> Self {
        Self { location: location.into() }
    }

    /// Works the change out against `metadata`.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for what is neither URL nor absolute path.
    pub fn apply(&self, metadata: &TableMetadata) -> Result<MetadataChange> {
        let location = self.location.trim_end_matches('/');
        let absolute =
            location.starts_with('/') || location.split_once(":/").is_some_and(|(s, _)| !s.is_empty());
        if !absolute {
            return Err(Error::invalid_input(
                "a table's location is scheme://authority/path or an absolute path",
            )
            .with("location", &self.location));
        }
        if location == metadata.location() {
            return Ok(MetadataChange::default());
        }
        let location = location.to_string();
        MetadataChange::checked(metadata, vec![TableUpdate::SetLocation { location }], Vec::new())
    }
}
