//! Metadata files of catalogs that keep only a pointer: naming, and writing a table's first one and the next.

use std::collections::HashSet;

use iceberg::spec::{FormatVersion, TableMetadata, TableMetadataBuilder};
use iceberg::{TableCreation, TableUpdate};

use super::void_fields::{self, Hidden};
use super::{CommitRequest, Expect, TableIdent, clocks};
use crate::clock::Clock;
use crate::error::{ConflictReason, Error, ErrorKind, Result};
use crate::format::members::settled;
use crate::format::{Metadata, first_foreign, metadata_file, parse_format_version, primitive_text};
use crate::storage::{Storage, file_name, is_relative, join};
use crate::table::Table;

/// A metadata file that is written and that no pointer names yet.
#[derive(Debug, Clone)]
pub(super) struct StagedMetadata {
    /// The table as it will be when the pointer moves.
    pub(super) table: Table,
    /// The location that the pointer must still hold, absent for a table to be created.
    pub(super) previous: Option<String>,
}

/// The error of a catalog whose pointer names a metadata file that is not there. Not `NotFound`: the table
/// exists.
pub(super) fn no_metadata_file(ident: &TableIdent, location: &str, source: Error) -> Error {
    Error::data_invalid(
        "the table's metadata file is missing; restore it, or drop the table and register an earlier one",
    )
    .with("table", ident)
    .with("file", location)
    .with_source(source)
}

/// Table properties that name folders of files: of data, of metadata, and of data by Iceberg's older names.
pub const FOLDER_PROPERTIES: [&str; 4] =
    ["write.data.path", "write.metadata.path", "write.object-storage.path", "write.folder-storage.path"];

/// A table of a catalog that is being registered: its metadata as the catalog has loaded it.
///
/// # Errors
/// [`ErrorKind::InvalidInput`] where its location, or a folder that its properties name, is not where the
/// storage's files [may be](Storage::confined_to).
pub(super) fn registered(
    storage: &Storage,
    ident: &TableIdent,
    metadata: Metadata,
    location: &str,
) -> Result<Table> {
    check_places(storage, &metadata).map_err(|error| error.with("table", ident))?;
    Ok(Table::new(ident.clone(), metadata, location.to_string(), storage.clone()))
}

/// The metadata that a table is created with, at its own location or the default one. Makes no request.
///
/// # Errors
/// As [`registered`]; [`ErrorKind::InvalidInput`] and [`ErrorKind::Unsupported`] for what can't be a table's
/// schema.
pub(super) fn created(
    storage: &Storage,
    clock: &dyn Clock,
    ident: &TableIdent,
    mut creation: TableCreation,
    default_location: String,
) -> Result<TableMetadata> {
    let location = creation.location.take().unwrap_or(default_location);
    if let Some((column, of)) = first_foreign(&creation.schema) {
        return Err(Error::unsupported(
            "tables with columns of this type are read, not created; create the table with another engine",
        )
        .with("table", ident)
        .with("column", column)
        .with("type", primitive_text(&of)));
    }
    if creation.schema.as_struct().fields().is_empty() {
        let message = "a table has one column at least; name its columns, or make it of rows that have some";
        return Err(Error::invalid_input(message).with("table", ident));
    }
    if let Some((id, _)) = creation
        .schema
        .field_id_to_name_map()
        .iter()
        .find(|(id, _)| creation.schema.field_by_id(**id).is_some_and(|field| field.name.is_empty()))
    {
        let message = "a column's name can't be empty; give it one, with an alias perhaps";
        return Err(Error::invalid_input(message).with("table", ident).with("field_id", id));
    }
    creation.location = Some(location.trim_end_matches('/').to_string());
    if let Some(version) = creation.properties.remove("format-version") {
        creation.format_version = parse_format_version(&version)?;
    }
    creation.schema = settled(creation.schema)?;
    let builder = TableMetadataBuilder::from_table_creation(creation)?.assign_uuid(clock.uuid());
    let metadata = builder.build()?.metadata;
    check_places(storage, &metadata).map_err(|error| error.with("table", ident))?;
    Ok(metadata)
}

/// Writes the first metadata file of a table: what updates make of the staged table.
pub(super) async fn write_created(
    storage: &Storage,
    clock: &dyn Clock,
    staged: &Table,
    updates: Vec<TableUpdate>,
) -> Result<StagedMetadata> {
    let metadata = match updates.is_empty() {
        true => staged.whole().clone(),
        // Nothing was the current metadata file before: the log has none.
        false => apply_to(staged.whole(), None, updates)?,
    };
    write(storage, clock, staged.ident().clone(), None, 0, metadata).await
}

/// Checks a request against the current table and writes the next metadata file.
///
/// # Errors
/// [`ErrorKind::Conflict`] when what the request expects does not hold.
pub(super) async fn write_next(
    storage: &Storage,
    clock: &dyn Clock,
    current: &Table,
    request: &CommitRequest,
) -> Result<StagedMetadata> {
    let whole = current.whole();
    // The references of a table whose void fields hide them from the typed metadata show where those are
    // hidden.
    let hidden = (!whole.is_buildable() && void_fields::any(whole, &request.updates)).then(|| {
        let mut json = whole.to_json()?;
        Hidden::hide(&mut json, &[])?;
        Metadata::from_json(json)
    });
    let hidden = hidden.transpose()?;
    let seen = hidden.as_ref().map_or(current.metadata(), |hidden| hidden);
    let requirements: &[_] = match &request.expect {
        Expect::Requirements(requirements) => requirements,
        Expect::Unchanged(_) | Expect::Absent(_) => &[],
    };
    for requirement in requirements {
        requirement.check(Some(seen)).map_err(|e| {
            Error::new(ErrorKind::Conflict, e.to_string()).with("table", &request.ident).with_source(e)
        })?;
    }
    check_up_to_date(current, request)?;
    let metadata = apply_to(whole, Some(current.metadata_location()), request.updates.clone())?;
    check_references(whole, &metadata, request)?;
    let version = version_of(current.metadata_location()).map_or(1, |v| v + 1);
    let previous = Some(current.metadata_location().to_string());
    write(storage, clock, request.ident.clone(), previous, version, metadata).await
}

/// Rejects requests that were computed from stale metadata where no requirement covers the change: the
/// metadata is to be unchanged and is not, another branch's commit has taken the snapshot's sequence number
/// or row ids, or a snapshot or schema that the request names is gone.
fn check_up_to_date(current: &Table, request: &CommitRequest) -> Result<()> {
    let metadata = current.metadata();
    if let Expect::Unchanged(base) = &request.expect
        && base != current.metadata_location()
    {
        return Err(Error::conflict("another commit was first; reload the table and try again")
            .with("table", &request.ident)
            .with("base", base));
    }
    let mut added = HashSet::new();
    let adds_schema = request.updates.iter().any(|update| matches!(update, TableUpdate::AddSchema { .. }));
    let there = |id: &i64| metadata.snapshot_by_id(*id).is_some();
    for update in &request.updates {
        let (stale, snapshot_id) = match update {
            TableUpdate::AddSnapshot { snapshot } => {
                added.insert(snapshot.snapshot_id());
                let version = metadata.format_version();
                let numbered = version < FormatVersion::V2
                    || snapshot.sequence_number() > metadata.last_sequence_number();
                let has_schema =
                    snapshot.schema_id().is_none_or(|id| metadata.schema_by_id(id).is_some() || adds_schema);
                let has_rows = version < FormatVersion::V3
                    || snapshot.first_row_id().is_some_and(|id| id >= metadata.next_row_id());
                (!numbered || !has_rows || !has_schema, snapshot.snapshot_id())
            }
            TableUpdate::SetSnapshotRef { reference, .. } => {
                let id = reference.snapshot_id;
                (!added.contains(&id) && !there(&id), id)
            }
            TableUpdate::RemoveSnapshots { snapshot_ids } => {
                match snapshot_ids.iter().find(|id| !there(id)) {
                    Some(gone) => (true, *gone),
                    None => continue,
                }
            }
            _ => continue,
        };
        if stale {
            return Err(Error::conflict(
                "another commit changed the table's snapshots since the request was made; reload the table and try again",
            )
            .with("table", &request.ident)
            .with("snapshot", snapshot_id));
        }
    }
    Ok(())
}

/// Removing a snapshot makes `iceberg` drop every branch and tag that names it. A reference that the request
/// does not drop itself was made after the request was: the request is out of date.
fn check_references(before: &Metadata, after: &Metadata, request: &CommitRequest) -> Result<()> {
    if !request.updates.iter().any(|update| matches!(update, TableUpdate::RemoveSnapshots { .. })) {
        return Ok(());
    }
    let kept = after.references();
    for (name, reference) in before.references() {
        let dropped = request
            .updates
            .iter()
            .any(|update| matches!(update, TableUpdate::RemoveSnapshotRef { ref_name } if ref_name == name));
        if !dropped && !kept.iter().any(|(kept, _)| kept == name) {
            return Err(Error::conflict(
                "a snapshot to be removed has become a branch's or tag's; plan again",
            )
            .because(ConflictReason::ReferenceChanged)
            .with("table", &request.ident)
            .with("ref", name)
            .with("snapshot", reference.snapshot_id));
        }
    }
    Ok(())
}

/// The metadata that updates make of `metadata`. Pure but for the new metadata's last-updated time, which is
/// never before that of `metadata`.
pub(crate) fn apply_updates(
    metadata: &TableMetadata,
    location: Option<&str>,
    updates: impl IntoIterator<Item = TableUpdate>,
) -> Result<TableMetadata> {
    let changed = apply_to(&metadata.clone().into(), location, updates.into_iter().collect())?;
    Ok(changed.typed().as_ref().clone())
}

/// The same of whole metadata.
fn apply_to(metadata: &Metadata, location: Option<&str>, updates: Vec<TableUpdate>) -> Result<Metadata> {
    let ahead = clocks::ahead_ms(metadata, &updates);
    let has_voids = void_fields::any(metadata, &updates);
    if ahead == 0 && !has_voids {
        if !metadata.is_buildable() {
            return Err(Error::unsupported(
                "the metadata contradicts itself, so that it can't be changed; mend the table with the engine that wrote it",
            ));
        }
        let changed = metadata.changed(build(metadata, location, updates.clone())?, &updates);
        // The typed metadata of another version has other parts of what a file says.
        let versions = (metadata.format_version(), changed.format_version());
        let same = versions.0 == versions.1 && versions.0 > FormatVersion::V1;
        return if same { Ok(changed) } else { Metadata::from_json(changed.to_json()?) };
    }
    let mut json = metadata.to_json()?;
    let mut hidden = has_voids.then(|| Hidden::hide(&mut json, &updates)).transpose()?;
    clocks::move_by(&mut json, -ahead);
    let copy = Metadata::from_json(json)?;
    let shown = updates.clone().into_iter().map(|update| match &mut hidden {
        Some(hidden) => hidden.update(update),
        None => Ok(update),
    });
    let built = build(&copy, location, shown.collect::<Result<Vec<_>>>()?)?;
    let mut json = copy.changed(built, &updates).to_json()?;
    clocks::move_by(&mut json, ahead);
    if let Some(hidden) = hidden {
        hidden.show(&mut json);
    }
    Metadata::from_json(json)
}

fn build(metadata: &Metadata, location: Option<&str>, updates: Vec<TableUpdate>) -> Result<TableMetadata> {
    let mut builder = metadata.typed().as_ref().clone().into_builder(location.map(str::to_string));
    for update in updates {
        let update = match update {
            TableUpdate::AddSchema { schema } => TableUpdate::AddSchema { schema: settled(schema)? },
            other => other,
        };
        builder = update.apply(builder)?;
    }
    Ok(builder.build()?.metadata)
}

async fn write(
    storage: &Storage,
    clock: &dyn Clock,
    ident: TableIdent,
    previous: Option<String>,
    version: u64,
    metadata: Metadata,
) -> Result<StagedMetadata> {
    let folder = match metadata.properties().get("write.metadata.path") {
        Some(path) => path.trim_end_matches('/').to_string(),
        None => join(metadata.location(), "metadata"),
    };
    check_places(storage, &metadata)?;
    let (bytes, suffix) = metadata_file(&metadata)?;
    let location = join(&folder, &format!("{version:05}-{}{suffix}", clock.uuid()));
    if let Err(error) = storage.write(&location, bytes).await {
        // It may have arrived. Nothing will ever name it.
        let _ = storage.delete(&location).await;
        return Err(error);
    }
    let table = Table::new(ident, metadata, location, storage.clone());
    Ok(StagedMetadata { table, previous })
}

/// Checks that a table's location and the folders that its properties name are where files may be.
///
/// # Errors
/// Those of [`Storage::resolve`].
fn check_places(storage: &Storage, metadata: &TableMetadata) -> Result<()> {
    let named = |property| Some((property, metadata.properties().get(property)?.as_str()));
    let places = FOLDER_PROPERTIES.into_iter().filter_map(named);
    for (what, place) in places.chain([("location", metadata.location())]) {
        if !is_relative(place) {
            storage.resolve(place.trim_end_matches('/')).map_err(|error| error.with("named by", what))?;
        }
    }
    Ok(())
}

/// The version in a metadata file's name: `00003-uuid.metadata.json` or Hadoop's `v3.metadata.json`.
fn version_of(location: &str) -> Option<u64> {
    let name = file_name(location);
    let digits = name.strip_prefix('v').unwrap_or(name);
    digits.split(['-', '.']).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::parse_metadata;

    #[test]
    fn versions_are_read_from_names_of_both_kinds() {
        assert_eq!(version_of("s3://b/t/metadata/00012-a-b.gz.metadata.json"), Some(12));
        assert_eq!(version_of("/t/metadata/v7.metadata.json"), Some(7));
        assert_eq!(version_of("/t/metadata/current.json"), None);
    }

    #[test]
    fn types_that_iceberg_does_not_know_survive_reading_changing_and_writing() {
        for (name, types) in [("variants", 5), ("shapes", 5)] {
            let files = icefield_testkit::ForeignTable::copy(name, |metadata| metadata);
            let before = files.json(&files.metadata_location);
            let metadata = parse_metadata(before.to_string().as_bytes()).unwrap();
            let updates = [TableUpdate::SetProperties { updates: [("a".into(), "b".into())].into() }];
            let changed = apply_to(&metadata, None, updates.into()).unwrap();
            for metadata in [metadata, changed] {
                let text = String::from_utf8(metadata_file(&metadata).unwrap().0).unwrap();
                let after = icefield_testkit::ForeignTable::parse(text.as_bytes());
                assert_eq!(after["schemas"], before["schemas"]);
                let found =
                    ["variant", "geometry", "geography", "unknown"].map(|of| text.matches(of).count());
                assert!(found.iter().sum::<usize>() >= types && !text.contains("fixed["), "{text}");
                // What was written is read as what it was.
                assert_eq!(parse_metadata(text.as_bytes()).unwrap().typed(), metadata.typed());
            }
        }
    }
}
