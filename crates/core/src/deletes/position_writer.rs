//! [`PositionDeleteWriter`]: position delete files in Parquet.

use std::iter::repeat_n;
use std::sync::Arc;

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow_schema::SchemaRef;
use iceberg::spec::{
    DataContentType, DataFileBuilder, DataFileFormat, NestedField, PrimitiveType, Schema, Type,
};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use parquet::schema::types::ColumnPath;
use roaring::RoaringTreemap;

use super::vector::MAX_POSITION;
use super::{DELETE_FILE_PATH_ID, DELETE_POS_ID};
use crate::error::{Error, Result};
use crate::format::{
    ContentFile, FileRef, MetricsConfig, MetricsMode, arrow_schema, data_file_metrics, parquet_schema,
};
use crate::storage::Storage;

/// Rows that are encoded at once.
const BATCH: usize = 8192;

/// Writes a position delete file: rows of a data file's path and a position, sorted by both.
///
/// All data files of one delete file are of one partition. With one data file its entry says which it is;
/// else its bounds say between which paths they are, whole, never cut short. In memory is the file so far,
/// [`length`](Self::length) bytes: callers begin another one at `write.delete.target-file-size-bytes`.
///
/// ```
/// # use icefield_core::{deletes::{PositionDeleteWriter, RoaringTreemap}, format::FileRef, storage::Storage};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> icefield_core::Result<()> {
/// # let data = FileRef { path: "memory://w/a.parquet".to_string(), content_offset: None, spec_id: 0,
/// #     partition: iceberg::spec::Struct::empty() };
/// let mut writer = PositionDeleteWriter::new("memory://w/data/deletes.parquet")?;
/// writer.add(&data, &RoaringTreemap::from_iter([3, 17]))?;
/// let deletes = writer.finish(&Storage::new()).await?.expect("rows were added");
/// assert_eq!(deletes.file.record_count(), 2);
/// assert_eq!(deletes.file.referenced_data_file().as_ref(), Some(&data.path));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct PositionDeleteWriter {
    location: String,
    schema: Schema,
    arrow: SchemaRef,
    parquet: ArrowWriter<Vec<u8>>,
    /// The first data file and the last one so far.
    files: Option<(FileRef, FileRef)>,
}

impl PositionDeleteWriter {
    /// Begins a file at `location`, of which nothing is in the store before it is finished. Compressed with
    /// zstd.
    ///
    /// # Errors
    /// [`Internal`](crate::ErrorKind::Internal) when Parquet takes no such schema.
    pub fn new(location: impl Into<String>) -> Result<Self> {
        Self::with_compression(location, Compression::ZSTD(ZstdLevel::default()))
    }

    /// As [`new`](Self::new), compressed in another way.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_compression(location: impl Into<String>, compression: Compression) -> Result<Self> {
        let schema = schema()?;
        let arrow = arrow_schema(&schema)?;
        let properties = WriterProperties::builder()
            .set_compression(compression)
            // Paths say which files are meant: readers compare whole ones.
            .set_statistics_truncate_length(None)
            .set_column_dictionary_enabled(ColumnPath::from("pos"), false)
            .build();
        let options = ArrowWriterOptions::new()
            .with_properties(properties)
            .with_parquet_schema(parquet_schema(&schema)?);
        let parquet = ArrowWriter::try_new_with_options(Vec::new(), arrow.clone(), options)?;
        Ok(Self { location: location.into(), schema, arrow, parquet, files: None })
    }

    /// Adds positions of deleted rows of a data file. Data files come in the order of their paths, by bytes,
    /// each once.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for a data file out of order or of another partition
    /// than those before, for one without positions, and for a position that no row has. What was added
    /// before stays.
    pub fn add(&mut self, data: &FileRef, deleted: &RoaringTreemap) -> Result<()> {
        let refused = |message: &str| Err(Error::invalid_input(message).with("data_file", &data.path));
        if deleted.max().is_none_or(|last| last > MAX_POSITION) {
            return refused("at least one row is deleted, and none beyond position 2^63 - 1");
        }
        if let Some((first, last)) = &self.files {
            if (first.spec_id, &first.partition) != (data.spec_id, &data.partition) {
                return refused("a position delete file is of one partition; begin another one");
            }
            if last.path >= data.path {
                return refused(
                    "a position delete file is sorted by path; add data files in that order, each once",
                );
            }
        }
        let mut positions = deleted.iter().map(|position| position as i64).peekable();
        while positions.peek().is_some() {
            let positions: Int64Array = positions.by_ref().take(BATCH).collect();
            let paths = StringArray::from_iter_values(repeat_n(&data.path, positions.values().len()));
            let columns: Vec<ArrayRef> = vec![Arc::new(paths), Arc::new(positions)];
            self.parquet.write(&RecordBatch::try_new(self.arrow.clone(), columns)?)?;
        }
        let first = self.files.take().map_or_else(|| data.clone(), |(first, _)| first);
        self.files = Some((first, data.clone()));
        Ok(())
    }

    /// About how long the file is so far, in bytes: what the writer holds in memory.
    pub fn length(&self) -> usize {
        self.parquet.bytes_written() + self.parquet.in_progress_size()
    }

    /// Writes the file and gives its entry; `None`, and no file, where nothing was added. One request.
    ///
    /// # Errors
    /// Those of the store. After one of them the file may be there or not.
    pub async fn finish(mut self, storage: &Storage) -> Result<Option<ContentFile>> {
        let Some((first, last)) = self.files else { return Ok(None) };
        let footer = self.parquet.finish()?;
        let bytes = std::mem::take(self.parquet.inner_mut()); // all of it: `finish` flushes
        let config = MetricsConfig::all(MetricsMode::Full);
        let metrics = data_file_metrics(&footer, &self.schema, &config, &Default::default())?;
        let size = bytes.len() as u64;
        storage.write(&self.location, bytes).await?;
        let of_one = first.path == last.path;
        let spec_id = first.spec_id;
        let file = DataFileBuilder::default()
            .content(DataContentType::PositionDeletes)
            .file_path(self.location)
            .file_format(DataFileFormat::Parquet)
            .partition(first.partition)
            .partition_spec_id(spec_id)
            .record_count(metrics.record_count)
            .file_size_in_bytes(size)
            .column_sizes(metrics.column_sizes)
            .lower_bounds(metrics.lower_bounds)
            .upper_bounds(metrics.upper_bounds)
            .split_offsets((!metrics.split_offsets.is_empty()).then_some(metrics.split_offsets))
            .referenced_data_file(of_one.then_some(first.path))
            .build()
            .map_err(|e| Error::internal("a delete file's entry can't be built").with_source(e))?;
        Ok(Some(ContentFile { spec_id, file }))
    }
}

/// The columns of position delete files.
fn schema() -> Result<Schema> {
    let path =
        NestedField::required(DELETE_FILE_PATH_ID, "file_path", Type::Primitive(PrimitiveType::String));
    let position = NestedField::required(DELETE_POS_ID, "pos", Type::Primitive(PrimitiveType::Long));
    Ok(Schema::builder().with_fields([path.into(), position.into()]).build()?)
}
