//! How a scan reads the bytes of Parquet files: through the table's own stores, with footers cached for the session.

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use datafusion::common::{Result, exec_datafusion_err};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{ParquetFileMetrics, ParquetFileReaderFactory};
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use futures::future::BoxFuture;
use object_store::ObjectStore;
use parquet::arrow::ARROW_SCHEMA_META_KEY;
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::{AsyncFileReader, ParquetObjectReader};
use parquet::errors::ParquetError;
use parquet::file::metadata::{FileMetaData, KeyValue, ParquetMetaData, ParquetMetaDataBuilder};

use super::ScanCaches;
use super::adapter::{FILE_KEY, NAN_KEY};
use super::positions::{part, with_positions};

/// How much of a file's end is read at first, in bytes: the footers of most files are shorter.
const FOOTER_BYTES: usize = 64 * 1024;

/// Where a scanned file is, attached to its `PartitionedFile`: one scan may read from several stores.
pub(super) struct FileLocation {
    pub(super) location: String,
    pub(super) store: Arc<dyn ObjectStore>,
    /// The ids of the floating-point columns that may hold NaN, as the adapter reads them.
    pub(super) may_be_nan: String,
    /// The bytes of the column of positions, once a footer that has it was handed out.
    pub(super) positions: OnceLock<Bytes>,
}

/// Opens the files of a scan.
pub(super) struct ReaderFactory {
    caches: Arc<ScanCaches>,
    positions: bool,
}

impl ReaderFactory {
    /// `positions` adds the column of positions to the files.
    pub(super) fn new(caches: Arc<ScanCaches>, positions: bool) -> Self {
        Self { caches, positions }
    }
}

impl fmt::Debug for ReaderFactory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReaderFactory").finish_non_exhaustive()
    }
}

impl ParquetFileReaderFactory for ReaderFactory {
    fn create_reader(
        &self,
        partition: usize,
        file: PartitionedFile,
        _: Option<usize>,
        metrics: &ExecutionPlanMetricsSet,
    ) -> Result<Box<dyn AsyncFileReader + Send>> {
        let at = file
            .extensions
            .get_arc::<FileLocation>()
            .ok_or_else(|| exec_datafusion_err!("a scanned file without a store"))?;
        let inner = ParquetObjectReader::new(at.store.clone(), file.object_meta.location.clone())
            .with_file_size(file.object_meta.size)
            .with_footer_size_hint(FOOTER_BYTES);
        let metrics = ParquetFileMetrics::new(partition, &at.location, metrics);
        let (size, caches, positions) = (file.object_meta.size, self.caches.clone(), self.positions);
        Ok(Box::new(Reader { inner, at, size, metrics, caches, positions }))
    }
}

struct Reader {
    inner: ParquetObjectReader,
    at: Arc<FileLocation>,
    size: u64,
    metrics: ParquetFileMetrics,
    caches: Arc<ScanCaches>,
    positions: bool,
}

impl Reader {
    /// The bytes of a range beyond the file's end.
    fn position_bytes(&self, range: &Range<u64>) -> Option<Bytes> {
        part(self.at.positions.get()?, self.size, range)
    }

    fn footer(&self, plain: Arc<ParquetMetaData>) -> parquet::errors::Result<Arc<ParquetMetaData>> {
        if !self.positions {
            return Ok(plain);
        }
        let (footer, bytes) = with_positions(&plain, self.size).map_err(|e| about(e, &self.at.location))?;
        self.at.positions.get_or_init(|| bytes);
        Ok(Arc::new(footer))
    }
}

impl AsyncFileReader for Reader {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, parquet::errors::Result<Bytes>> {
        if let Some(bytes) = self.position_bytes(&range) {
            return Box::pin(async move { Ok(bytes) });
        }
        self.metrics.bytes_scanned.add((range.end - range.start) as usize);
        Box::pin(async move { self.inner.get_bytes(range).await.map_err(|e| about(e, &self.at.location)) })
    }

    fn get_byte_ranges(
        &mut self,
        ranges: Vec<Range<u64>>,
    ) -> BoxFuture<'_, parquet::errors::Result<Vec<Bytes>>> {
        let made_up: Vec<Option<Bytes>> = ranges.iter().map(|range| self.position_bytes(range)).collect();
        let stored = ranges.into_iter().zip(&made_up).filter(|(_, made_up)| made_up.is_none());
        let stored: Vec<Range<u64>> = stored.map(|(range, _)| range).collect();
        let total: u64 = stored.iter().map(|range| range.end - range.start).sum();
        self.metrics.bytes_scanned.add(total as usize);
        Box::pin(async move {
            let read = match stored.is_empty() {
                true => Vec::new(),
                false => self.inner.get_byte_ranges(stored).await.map_err(|e| about(e, &self.at.location))?,
            };
            let mut read = read.into_iter();
            Ok(made_up.into_iter().filter_map(|bytes| bytes.or_else(|| read.next())).collect())
        })
    }

    fn get_metadata<'a>(
        &'a mut self,
        options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, parquet::errors::Result<Arc<ParquetMetaData>>> {
        Box::pin(async move {
            let location = &self.at.location;
            if let Some(footer) = self.caches.footers.get(location) {
                return self.footer(footer);
            }
            let footer = self.inner.get_metadata(options).await.map_err(|e| about(e, location))?;
            let footer = Arc::new(prepared(Arc::unwrap_or_clone(footer), &self.at));
            let bytes = footer.memory_size();
            self.caches.footers.put(location, footer.clone(), bytes);
            self.footer(footer)
        })
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.metrics.scan_efficiency_ratio.add_part(self.metrics.bytes_scanned.value());
        self.metrics.scan_efficiency_ratio.set_total(self.size as usize);
    }
}

/// A footer without the writer's Arrow schema, which hides field ids and prefers types of its own, and with what the
/// adapter is to know of the file.
fn prepared(footer: ParquetMetaData, at: &FileLocation) -> ParquetMetaData {
    let file = footer.file_metadata();
    let kept = file.key_value_metadata().into_iter().flatten();
    let mut pairs: Vec<KeyValue> = kept.filter(|pair| pair.key != ARROW_SCHEMA_META_KEY).cloned().collect();
    pairs.push(KeyValue::new(FILE_KEY.to_string(), at.location.clone()));
    pairs.push(KeyValue::new(NAN_KEY.to_string(), at.may_be_nan.clone()));
    let file = FileMetaData::new(
        file.version(),
        file.num_rows(),
        file.created_by().map(str::to_string),
        Some(pairs),
        file.schema_descr_ptr(),
        file.column_orders().cloned(),
    );
    let mut old = footer.into_builder();
    let mut new = ParquetMetaDataBuilder::new(file).set_row_groups(old.take_row_groups());
    new = new.set_column_index(old.take_column_index());
    new.set_offset_index(old.take_offset_index()).build()
}

fn about(error: ParquetError, location: &str) -> ParquetError {
    let error = icefield_core::Error::from(error).with("file", location);
    ParquetError::External(Box::new(error))
}
