//! Checks of the files that an action adds, before anything is written: known specs, nothing twice, and the
//! delete files that the table's format version has.

use std::collections::HashSet;

use iceberg::spec::{DataContentType, FormatVersion, TableMetadata};

use crate::deletes::is_vector;
use crate::error::{ConflictReason, Error, Result};
use crate::format::ContentFile;

/// Checks new files: data files and delete files.
///
/// # Errors
/// [`InvalidInput`](crate::ErrorKind::InvalidInput) and [`Unsupported`](crate::ErrorKind::Unsupported) for
/// files that the table can't have; [`Conflict`](crate::ErrorKind::Conflict) where it could have had them
/// when they were made.
pub(super) fn check_added(
    metadata: &TableMetadata,
    base: &TableMetadata,
    data: &[ContentFile],
    deletes: &[ContentFile],
) -> Result<()> {
    let mut seen: HashSet<(&str, Option<i64>)> = HashSet::with_capacity(data.len() + deletes.len());
    let mut with_vectors = HashSet::new();
    for ContentFile { spec_id, file } in data.iter().chain(deletes) {
        let path = file.file_path();
        check_spec(metadata, base, *spec_id).map_err(|error| error.with("file", path))?;
        if !seen.insert((path, file.content_offset())) {
            return Err(Error::invalid_input("a file is added twice").with("file", path));
        }
    }
    if let Some(delete) = data.iter().find(|file| file.file.content_type() != DataContentType::Data) {
        return Err(Error::unsupported("delete files can't be added as data files; add them by a row delta")
            .with("file", delete.file.file_path()));
    }
    for ContentFile { file, .. } in deletes {
        let about = |error: Error| error.with("file", file.file_path());
        let refused = |message: &str| Err(about(Error::invalid_input(message)));
        check_version(metadata, base, is_vector(file), file.content_type()).map_err(about)?;
        match file.content_type() {
            DataContentType::Data => return refused("a data file is added as a delete file"),
            DataContentType::EqualityDeletes if file.equality_ids().is_none_or(|ids| ids.is_empty()) => {
                return refused("an equality delete file says by which columns it deletes");
            }
            DataContentType::PositionDeletes if is_vector(file) => {
                let Some(of) = file.referenced_data_file() else {
                    return refused("a deletion vector names its data file");
                };
                let is_placed = |number: Option<i64>| number.is_some_and(|number| number >= 0);
                if !is_placed(file.content_offset()) || !is_placed(file.content_size_in_bytes()) {
                    return refused("a deletion vector says where in its file it is");
                }
                if !with_vectors.insert(of.clone()) {
                    let message = "a data file has one deletion vector; unite the positions of both";
                    return Err(about(Error::invalid_input(message)).with("data_file", of));
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// Checks that a table of its format version has such delete files.
fn check_version(
    metadata: &TableMetadata,
    base: &TableMetadata,
    is_vector: bool,
    of: DataContentType,
) -> Result<()> {
    let version = metadata.format_version();
    let by_position = of == DataContentType::PositionDeletes;
    let message = match version {
        FormatVersion::V1 => {
            "a table of format version 1 has no row-level deletes; upgrade it to version 2 or 3, or rewrite the data files"
        }
        FormatVersion::V2 if is_vector => {
            "a table of format version 2 has no deletion vectors; write position delete files, or upgrade it to version 3"
        }
        FormatVersion::V3 if by_position && !is_vector => {
            "a table of format version 3 gets no new position delete files; write a deletion vector for each data file"
        }
        _ => return Ok(()),
    };
    if version != base.format_version() {
        let message = format!("the table was upgraded by another commit: {message}; run the operation again");
        return Err(Error::conflict(message).because(ConflictReason::FormatChanged));
    }
    Err(Error::unsupported(message).with("format_version", version as u8))
}

/// Checks that a partition spec is the one that it was: the id of one that was removed is given out again.
pub(super) fn check_spec(metadata: &TableMetadata, base: &TableMetadata, spec_id: i32) -> Result<()> {
    let changed = |message: &str| Error::conflict(message).because(ConflictReason::SpecChanged);
    let error = match (metadata.partition_spec_by_id(spec_id), base.partition_spec_by_id(spec_id)) {
        (Some(now), Some(then)) if now != then => changed(
            "the partition spec was removed by another commit, and its id is another spec's now; run the operation again",
        ),
        (Some(_), _) => return Ok(()),
        (None, Some(_)) => {
            changed("the partition spec was removed by another commit; run the operation again")
        }
        (None, None) => Error::invalid_input("the partition spec is not one of the table's"),
    };
    Err(error.with("spec", spec_id))
}
