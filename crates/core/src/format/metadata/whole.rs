//! [`Metadata`]: `iceberg`'s typed metadata, and with it all that a metadata file has besides.
//!
//! Every way in leads through [`Metadata::from_json`], every way out through [`Metadata::to_json`]: files, and what a catalog's
//! server answers. Between the two lie stand-ins ([`prepare`], `foreign`, `members`), which no JSON that leaves has, and what is
//! [`Kept`] to be put back.

use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use iceberg::TableUpdate;
use iceberg::spec::{FormatVersion, Schema, SnapshotLog, TableMetadata, TableMetadataRef};
use serde::Deserialize;
use serde_json::Value;

use super::kept::Kept;
use super::prepare;
use super::refs::{self, References};
use crate::error::{Error, Result};
use crate::format::{foreign, members};

/// A table's metadata: typed, and whole when it is written as JSON again. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Metadata {
    typed: TableMetadataRef,
    kept: Kept,
    references: Arc<OnceLock<References>>,
    /// Whether the typed metadata lacks branches and tags of the file: see [`refs::put`].
    lacks_references: bool,
    /// The file's log of `main`'s heads, where the typed metadata has more: putting branches into it logs them.
    history: Option<Arc<[SnapshotLog]>>,
}

impl Deref for Metadata {
    type Target = TableMetadata;

    fn deref(&self) -> &TableMetadata {
        &self.typed
    }
}

impl From<TableMetadata> for Metadata {
    fn from(typed: TableMetadata) -> Self {
        Arc::new(typed).into()
    }
}

impl From<TableMetadataRef> for Metadata {
    fn from(typed: TableMetadataRef) -> Self {
        let (kept, references) = (Kept::default(), Arc::default());
        Self { typed, kept, references, lacks_references: false, history: None }
    }
}

impl Metadata {
    /// The metadata that a JSON document has: all that Iceberg Java reads, of every version up to 3.
    ///
    /// # Errors
    /// [`DataInvalid`](crate::ErrorKind::DataInvalid) for what is no table metadata.
    pub fn from_json(mut json: Value) -> Result<Self> {
        let invalid = || {
            Error::data_invalid(
                "not valid Iceberg table metadata; restore the metadata file or register an earlier one",
            )
        };
        let mut parsed = match json.as_object_mut() {
            Some(object) => {
                prepare::complete(object);
                prepare::check_numbers(object)?;
                object.clone()
            }
            None => return Err(invalid()),
        };
        prepare::stand_in(&mut parsed)?;
        let parsed = Value::Object(parsed);
        let typed = TableMetadata::deserialize(&parsed).map_err(|e| invalid().with_source(e))?;
        let references = refs::in_json(&json, typed.current_snapshot_id())?;
        let (mut lacks_references, mut history) = (false, None);
        let typed = match typed.format_version() {
            FormatVersion::V1 => match refs::put(typed.clone(), &references)? {
                Some(with) => {
                    history = (with.history() != typed.history()).then(|| typed.history().into());
                    with
                }
                None => {
                    lacks_references = true;
                    typed
                }
            },
            _ => typed,
        };
        let kept = Kept::of(&json, &parsed, &written(&typed, &references)?);
        let references = Arc::new(OnceLock::from(references));
        Ok(Self { typed: Arc::new(typed), kept, references, lacks_references, history })
    }

    /// The metadata as JSON.
    ///
    /// # Errors
    /// [`Internal`](crate::ErrorKind::Internal) for typed metadata that can't be serialised.
    pub fn to_json(&self) -> Result<Value> {
        let mut json = written(&self.typed, self.references())?;
        self.kept.restore(&mut json);
        Ok(json)
    }

    /// The typed metadata.
    pub fn typed(&self) -> &TableMetadataRef {
        &self.typed
    }

    /// The typed metadata for code that is built on `iceberg` alone: columns' descriptions are their texts.
    ///
    /// # Errors
    /// [`Unsupported`](crate::ErrorKind::Unsupported) for a column's default that `iceberg` does not hold.
    pub(crate) fn plain(&self) -> Result<TableMetadataRef> {
        if self.typed.schemas_iter().all(|schema| members::is_plain(schema)) {
            return Ok(self.typed.clone());
        }
        let unfit = |e| Error::internal("the metadata can't be serialised").with_source(e);
        let schema = |schema: &Schema| serde_json::to_value(members::plain(schema)?).map_err(unfit);
        let schemas = self.typed.schemas_iter().map(|of| schema(of)).collect::<Result<Vec<_>>>()?;
        let mut json = serde_json::to_value(&*self.typed).map_err(unfit)?;
        json["schemas"] = schemas.into();
        if json.get("schema").is_some() {
            json["schema"] = schema(self.typed.current_schema())?;
        }
        let typed = TableMetadata::deserialize(&json).map_err(unfit)?;
        match typed.format_version() {
            FormatVersion::V1 => Ok(Arc::new(refs::put(typed.clone(), self.references())?.unwrap_or(typed))),
            _ => Ok(Arc::new(typed)),
        }
    }

    /// The branches and tags by name, sorted.
    pub fn references(&self) -> &[(String, iceberg::spec::SnapshotReference)] {
        self.references.get_or_init(|| refs::of(&self.typed))
    }

    /// The snapshots that were `main`'s heads, and since when, the oldest first.
    pub fn history(&self) -> &[SnapshotLog] {
        self.history.as_deref().unwrap_or_else(|| self.typed.history())
    }

    /// About how many bytes it takes in memory.
    pub(crate) fn estimated_bytes(&self) -> usize {
        let of_snapshots: usize = self
            .typed
            .snapshots()
            .map(|snapshot| {
                let summary = snapshot.summary().additional_properties.iter();
                400 + snapshot.manifest_list().len()
                    + summary.map(|(k, v)| 64 + k.len() + v.len()).sum::<usize>()
            })
            .sum();
        let of_schemas: usize =
            self.typed.schemas_iter().map(|schema| 800 * schema.field_id_to_name_map().len()).sum();
        let properties: usize = self.typed.properties().iter().map(|(k, v)| 64 + k.len() + v.len()).sum();
        let of_logs = 64 * self.typed.history().len() + 200 * self.typed.metadata_log().len();
        1000 + of_snapshots + of_schemas + properties + of_logs + self.kept.estimated_bytes()
    }

    /// Whether the typed metadata has all that `iceberg`'s builder is to see.
    pub(crate) fn is_buildable(&self) -> bool {
        !self.lacks_references
    }

    /// What these updates made of it, given the typed metadata that they made of its own.
    pub(crate) fn changed(&self, typed: TableMetadata, updates: &[TableUpdate]) -> Self {
        Self { kept: self.kept.after(updates), ..Self::from(typed) }
    }
}

/// What typed metadata is as JSON, without stand-ins for types and with the references of every version.
fn written(
    typed: &TableMetadata,
    references: &[(String, iceberg::spec::SnapshotReference)],
) -> Result<Value> {
    let unfit = |e| Error::internal("the metadata can't be serialised").with_source(e);
    let mut json = serde_json::to_value(typed).map_err(unfit)?;
    let Value::Object(object) = &mut json else {
        return Err(Error::internal("the metadata is no JSON object"));
    };
    object.get_mut("schema").into_iter().for_each(foreign::show);
    let schemas = object.get_mut("schemas").and_then(Value::as_array_mut);
    schemas.into_iter().flatten().for_each(foreign::show);
    if typed.format_version() == FormatVersion::V1 && !references.is_empty() {
        let refs =
            references.iter().map(|(name, reference)| Ok((name.clone(), serde_json::to_value(reference)?)));
        let refs = refs.collect::<serde_json::Result<serde_json::Map<_, _>>>().map_err(unfit)?;
        object.insert("refs".to_string(), Value::Object(refs));
    }
    // The parser's word for a snapshot's own manifests is no location.
    let snapshots = object.get_mut("snapshots").and_then(Value::as_array_mut);
    for snapshot in snapshots.into_iter().flatten().filter_map(Value::as_object_mut) {
        let list = snapshot.get("manifest-list").and_then(Value::as_str);
        if let Some(manifests) = list.and_then(prepare::inline_manifests) {
            snapshot.remove("manifest-list");
            snapshot.insert("manifests".to_string(), manifests.into());
        }
    }
    prepare::sort(object);
    Ok(json)
}
