//! [`DeletionVectorWriter`]: deletion vectors of any number of data files, in one Puffin file.

use std::collections::HashSet;

use iceberg::spec::{DataContentType, DataFileBuilder, DataFileFormat};
use roaring::RoaringTreemap;

use super::vector::{MAX_BLOB_BYTES, MAX_POSITION, serialize_deletion_vector};
use crate::error::{Error, ErrorKind, Result};
use crate::format::puffin::{BlobPlace, PuffinWriter};
use crate::format::{ContentFile, FileRef};
use crate::storage::Storage;

/// The type of a blob that is a deletion vector.
const BLOB_TYPE: &str = "deletion-vector-v1";
/// The field id of a row's position: the column that vectors are made of.
const POSITION_ID: i32 = 2_147_483_645;

/// Writes deletion vectors into one Puffin file, a blob for each data file.
///
/// A vector is serialised when it is added: in memory are the file so far, [`length`](Self::length) bytes,
/// and one vector. Callers begin another file at `write.delete.target-file-size-bytes`. Vectors of files that
/// are read together belong next to each other: add them in the order of the data files' paths.
///
/// ```
/// # use icefield_core::{deletes::{DeletionVectorWriter, RoaringTreemap}, format::FileRef, storage::Storage};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> icefield_core::Result<()> {
/// # let data = FileRef { path: "memory://w/a.parquet".to_string(), content_offset: None, spec_id: 0,
/// #     partition: iceberg::spec::Struct::empty() };
/// let mut writer = DeletionVectorWriter::new("memory://w/data/deletes.puffin");
/// writer.add(&data, RoaringTreemap::from_iter([3, 17]))?;
/// let deletes = writer.finish(&Storage::new()).await?;
/// assert_eq!(deletes[0].file.record_count(), 2);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct DeletionVectorWriter {
    location: String,
    puffin: PuffinWriter,
    written: Vec<(FileRef, u64, BlobPlace)>,
    paths: HashSet<String>,
}

impl DeletionVectorWriter {
    /// Begins a file at `location`, of which nothing is in the store before it is finished.
    pub fn new(location: impl Into<String>) -> Self {
        let (puffin, written, paths) = (PuffinWriter::new(), Vec::new(), HashSet::new());
        Self { location: location.into(), puffin, written, paths }
    }

    /// Adds the vector of a data file: the positions of all its deleted rows, those of an earlier vector and
    /// of position delete files among them, for which it stands.
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput) for a vector without positions or with one that no row has,
    /// and for a second one of the same data file; [`ResourceExhausted`](ErrorKind::ResourceExhausted) for
    /// one of over 1 GiB. What was added before stays.
    pub fn add(&mut self, data: &FileRef, deleted: RoaringTreemap) -> Result<()> {
        let about = |error: Error| error.with("data_file", &data.path);
        if deleted.max().is_none_or(|last| last > MAX_POSITION) {
            let message = "a deletion vector deletes at least one row, and none beyond position 2^63 - 1";
            return Err(about(Error::invalid_input(message)));
        }
        if self.paths.contains(&data.path) {
            let message = "a data file has one deletion vector; unite the positions before they are added";
            return Err(about(Error::invalid_input(message)));
        }
        let rows = deleted.len();
        let blob = serialize_deletion_vector(deleted)?;
        if blob.len() as u64 > MAX_BLOB_BYTES {
            let message = "the deletion vector is longer than readers take; rewrite the data file instead";
            return Err(about(Error::new(ErrorKind::ResourceExhausted, message)).with("bytes", blob.len()));
        }
        let properties = [("referenced-data-file", data.path.clone()), ("cardinality", rows.to_string())];
        let place = self.puffin.add(BLOB_TYPE, &[POSITION_ID], &blob, &properties);
        self.paths.insert(data.path.clone());
        self.written.push((data.clone(), rows, place));
        Ok(())
    }

    /// The file's length so far, in bytes: what the writer holds in memory.
    pub fn length(&self) -> usize {
        self.puffin.length()
    }

    /// Writes the file, unless no vector was added, and gives the vectors' entries, in the order in which
    /// they were added. One request.
    ///
    /// # Errors
    /// Those of the store. After one of them the file may be there or not.
    pub async fn finish(self, storage: &Storage) -> Result<Vec<ContentFile>> {
        let Self { location, puffin, written, .. } = self;
        if written.is_empty() {
            return Ok(Vec::new());
        }
        let bytes = puffin.finish()?;
        let size = bytes.len() as u64;
        storage.write(&location, bytes).await?;
        written.into_iter().map(|(data, rows, place)| entry(&location, size, data, rows, place)).collect()
    }
}

fn entry(location: &str, size: u64, data: FileRef, rows: u64, place: BlobPlace) -> Result<ContentFile> {
    let spec_id = data.spec_id;
    let file = DataFileBuilder::default()
        .content(DataContentType::PositionDeletes)
        .file_path(location.to_string())
        .file_format(DataFileFormat::Puffin)
        .partition(data.partition)
        .partition_spec_id(spec_id)
        .record_count(rows)
        .file_size_in_bytes(size)
        .referenced_data_file(Some(data.path))
        .content_offset(Some(place.offset as i64))
        .content_size_in_bytes(Some(place.length as i64))
        .build()
        .map_err(|e| Error::internal("a deletion vector's entry can't be built").with_source(e))?;
    Ok(ContentFile { spec_id, file })
}
