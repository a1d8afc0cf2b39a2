//! How a scan reads the bytes of Parquet files: through the table's own stores, with footers cached for the session.

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use bytes::Bytes;
use datafusion::common::{Result, exec_datafusion_err};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{ParquetFileMetrics, ParquetFileReaderFactory};
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use futures::future::BoxFuture;
use icefield_core::format::unreadable;
use icefield_core::storage::ends_before;
use object_store::ObjectStore;
use object_store::path::Path;
use parquet::arrow::ARROW_SCHEMA_META_KEY;
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::{AsyncFileReader, MetadataFetch, ParquetObjectReader};
use parquet::errors::ParquetError;
use parquet::file::metadata::{
    FileMetaData, FooterTail, KeyValue, PageIndexPolicy, ParquetMetaData, ParquetMetaDataBuilder,
    ParquetMetaDataReader, RowGroupMetaData,
};

use super::ScanCaches;
use super::adapter::FILE_KEY;
use super::footer::Footer;
use super::nulls::with_unknown_nulls;
use super::positions::{part, with_positions};
use super::thrift::{check_footer, check_structure};

/// How much of a file's end is read at first, in bytes: the footers of most files are shorter.
const FOOTER_BYTES: u64 = 64 * 1024;
/// Files of up to so many bytes are read whole with their footer. Object stores send them in a few milliseconds, and take tens
/// of them to answer another request.
const WHOLE_FILE_BYTES: u64 = 256 * 1024;
/// The most that a footer may be, in bytes.
const MAX_FOOTER_BYTES: u64 = 1 << 29;
/// What follows a footer: its length and the magic.
const AFTER_FOOTER: u64 = 8;

/// Where a scanned file is, attached to its `PartitionedFile`: one scan may read from several stores.
pub(super) struct FileLocation {
    pub(super) location: Arc<str>,
    /// Which of the files it is that the scan's facts are of.
    pub(super) place: usize,
    pub(super) store: Arc<dyn ObjectStore>,
    /// The bytes of the column of positions, once a footer that has it was handed out.
    pub(super) positions: OnceLock<Bytes>,
    /// The end of the file, while a reader holds it.
    tail: Mutex<Weak<Tail>>,
}

impl FileLocation {
    pub(super) fn new(location: &str, place: usize, store: Arc<dyn ObjectStore>) -> Self {
        Self { location: location.into(), place, store, positions: OnceLock::new(), tail: Mutex::default() }
    }

    /// The end of the file, if a reader has read it and is still there.
    pub(super) fn tail(&self) -> Option<Arc<Tail>> {
        self.tail.lock().unwrap_or_else(PoisonError::into_inner).upgrade()
    }

    fn hold(&self, tail: &Arc<Tail>) {
        *self.tail.lock().unwrap_or_else(PoisonError::into_inner) = Arc::downgrade(tail);
    }
}

/// The bytes at the end of a file that were read for its footer: pages that lie in them are not read again. Several readers
/// follow each other while a file is open (for deletes, for bloom filters, for pages) and share them.
pub(super) struct Tail {
    start: u64,
    bytes: Bytes,
}

impl Tail {
    fn part(&self, range: &Range<u64>) -> Option<Bytes> {
        part(&self.bytes, self.start, range)
    }
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
            .with_file_size(file.object_meta.size);
        let metrics = ParquetFileMetrics::new(partition, &at.location, metrics);
        let (size, caches, positions) = (file.object_meta.size, self.caches.clone(), self.positions);
        let tail = at.tail();
        let path = file.object_meta.location;
        let index_of = None;
        Ok(Box::new(Reader { inner, at, path, size, tail, metrics, caches, positions, index_of }))
    }
}

struct Reader {
    inner: ParquetObjectReader,
    at: Arc<FileLocation>,
    path: Path,
    size: u64,
    tail: Option<Arc<Tail>>,
    metrics: ParquetFileMetrics,
    caches: Arc<ScanCaches>,
    positions: bool,
    /// The footer that was handed out, and where in the file its page index begins, if it has one.
    index_of: Option<(u64, Arc<ParquetMetaData>)>,
}

impl Reader {
    /// The bytes of a range beyond the file's end.
    fn position_bytes(&self, range: &Range<u64>) -> Option<Bytes> {
        part(self.at.positions.get()?, self.size, range)
    }

    fn tail_bytes(&self, range: &Range<u64>) -> Option<Bytes> {
        self.tail.as_ref()?.part(range)
    }

    /// Bytes of the file, of which those of a page index were looked at: who reads one decodes it.
    fn checked(&self, range: Range<u64>, bytes: Bytes) -> parquet::errors::Result<Bytes> {
        if let Some((begin, footer)) = &self.index_of
            && range.end > *begin
        {
            check_index(footer, &range, &bytes)?;
        }
        Ok(bytes)
    }

    /// The footer as it is handed out, from the cache or from the file.
    async fn footer(&mut self) -> parquet::errors::Result<Arc<ParquetMetaData>> {
        let caches = self.caches.clone();
        let cached = |with_positions| caches.footers.get(&key(&self.at.location, self.size, with_positions));
        if self.positions
            && let Some(footer) = cached(true)
        {
            self.at.positions.get_or_init(|| footer.positions.clone());
            return Ok(footer.metadata.clone());
        }
        let plain = match cached(false) {
            Some(footer) => footer.metadata.clone(),
            None => {
                let metadata = self.load_footer().await?;
                self.keep(prepared(metadata, &self.at.location)?, Bytes::new(), false)
            }
        };
        if !self.positions {
            return Ok(plain);
        }
        let plain = self.with_page_index(plain).await;
        let (metadata, bytes) = with_positions(&plain, self.size)?;
        self.at.positions.get_or_init(|| bytes.clone());
        Ok(self.keep(metadata, bytes, true))
    }

    /// Keeps a footer for later readers of the file, whatever scan they are of: all that it has is the file's own.
    fn keep(
        &self,
        metadata: ParquetMetaData,
        positions: Bytes,
        with_positions: bool,
    ) -> Arc<ParquetMetaData> {
        let metadata = Arc::new(metadata);
        let bytes = metadata.memory_size() + positions.len();
        let footer = Arc::new(Footer { metadata: metadata.clone(), positions });
        self.caches.footers.put(&key(&self.at.location, self.size, with_positions), footer, bytes);
        metadata
    }

    /// A footer with the file's page index, if it has one: who reads it for a footer that has the column of positions, which is
    /// in no index of the file's, finds none.
    async fn with_page_index(&mut self, plain: Arc<ParquetMetaData>) -> Arc<ParquetMetaData> {
        if plain.offset_index().is_some() || first_of_page_index(&plain).is_none() {
            return plain;
        }
        let mut stored =
            Stored { inner: &mut self.inner, tail: self.tail.as_deref(), index_of: Some(&plain) };
        let mut with_index = ParquetMetaDataReader::new_with_metadata(plain.as_ref().clone())
            .with_page_index_policy(PageIndexPolicy::Optional);
        match with_index.load_page_index(&mut stored).await {
            Ok(()) => with_index.finish().map_or(plain.clone(), Arc::new),
            Err(_) => plain.clone(),
        }
    }

    /// Reads the footer, and the page index with it where that costs no request.
    async fn load_footer(&mut self) -> parquet::errors::Result<ParquetMetaData> {
        let start = if self.size <= WHOLE_FILE_BYTES { 0 } else { self.size - FOOTER_BYTES };
        if self.tail.is_none() && self.size > 0 {
            let read = self.inner.get_bytes(start..self.size).await;
            let is_shorter = match &read {
                Ok(bytes) => bytes.len() as u64 != self.size - start,
                Err(ParquetError::External(e)) => match e.downcast_ref() {
                    Some(error) => ends_before(&*self.at.store, &self.path, self.size, error).await,
                    None => false,
                },
                Err(_) => false,
            };
            if is_shorter {
                return Err(ParquetError::EOF("the file is shorter than its metadata says".to_string()));
            }
            let bytes = read?;
            let tail = Arc::new(Tail { start, bytes });
            self.at.hold(&tail);
            self.tail = Some(tail);
        }
        let mut stored = Stored { inner: &mut self.inner, tail: self.tail.as_deref(), index_of: None };
        let footer = read_footer(&mut stored, self.size).await?;
        stored.index_of = Some(&footer);
        let first = first_of_page_index(&footer).and_then(|first| u64::try_from(first).ok());
        if first.is_none_or(|first| first < start) {
            return Ok(footer);
        }
        let mut with_index = ParquetMetaDataReader::new_with_metadata(footer.clone())
            .with_page_index_policy(PageIndexPolicy::Optional);
        // An index that can't be read is no reason to read no file: who needs it asks again.
        match with_index.load_page_index(&mut stored).await {
            Ok(()) => with_index.finish(),
            Err(_) => Ok(footer),
        }
    }
}

/// A file's bytes: its end as held, the rest from the store.
struct Stored<'a> {
    inner: &'a mut ParquetObjectReader,
    tail: Option<&'a Tail>,
    /// The footer whose page index is read.
    index_of: Option<&'a ParquetMetaData>,
}

impl Stored<'_> {
    async fn get(&mut self, range: Range<u64>) -> parquet::errors::Result<Bytes> {
        let bytes = match self.tail.and_then(|tail| tail.part(&range)) {
            Some(bytes) => bytes,
            None => self.inner.get_bytes(range.clone()).await?,
        };
        if let Some(footer) = self.index_of {
            check_index(footer, &range, &bytes)?;
        }
        Ok(bytes)
    }
}

/// Reads a footer, which was looked at before it is decoded.
async fn read_footer(stored: &mut Stored<'_>, size: u64) -> parquet::errors::Result<ParquetMetaData> {
    let cut_short = || ParquetError::EOF("the file is too short for a Parquet file".to_string());
    let end = size.checked_sub(AFTER_FOOTER).ok_or_else(cut_short)?;
    let last = stored.get(end..size).await?;
    let last = last.first_chunk().ok_or_else(cut_short)?;
    let last = FooterTail::try_new(last)?;
    let length = last.metadata_length() as u64;
    if last.is_encrypted_footer() {
        return Err(ParquetError::NYI("encrypted Parquet files can't be read".to_string()));
    }
    if length > MAX_FOOTER_BYTES {
        return Err(ParquetError::General("the file's metadata is too long".to_string()));
    }
    let footer = stored.get(end.checked_sub(length).ok_or_else(cut_short)?..end).await?;
    check_footer(&footer)?;
    ParquetMetaDataReader::decode_metadata(&footer)
}

/// Looks at the page indexes that lie in a range of the file, before they are decoded.
fn check_index(footer: &ParquetMetaData, range: &Range<u64>, bytes: &Bytes) -> parquet::errors::Result<()> {
    let place = |offset: Option<i64>, length: Option<i32>| {
        let start = u64::try_from(offset?).ok()?;
        Some(start..start.checked_add(u64::try_from(length?).ok()?)?)
    };
    for column in footer.row_groups().iter().flat_map(RowGroupMetaData::columns) {
        for index in [
            place(column.column_index_offset(), column.column_index_length()),
            place(column.offset_index_offset(), column.offset_index_length()),
        ] {
            if let Some(index) =
                index.filter(|index| !index.is_empty()).and_then(|index| part(bytes, range.start, &index))
            {
                check_structure(&index)?;
            }
        }
    }
    Ok(())
}

impl MetadataFetch for &mut Stored<'_> {
    fn fetch(&mut self, range: Range<u64>) -> BoxFuture<'_, parquet::errors::Result<Bytes>> {
        Box::pin(self.get(range))
    }
}

/// Where the page index begins: it lies between the last page and the footer.
fn first_of_page_index(footer: &ParquetMetaData) -> Option<i64> {
    let columns = footer.row_groups().iter().flat_map(RowGroupMetaData::columns);
    columns.flat_map(|column| [column.column_index_offset(), column.offset_index_offset()]).flatten().min()
}

impl AsyncFileReader for Reader {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, parquet::errors::Result<Bytes>> {
        if let Some(bytes) = self.position_bytes(&range) {
            return Box::pin(async move { Ok(bytes) });
        }
        self.metrics.bytes_scanned.add((range.end - range.start) as usize);
        if let Some(bytes) = self.tail_bytes(&range) {
            let checked = self.checked(range, bytes).map_err(|e| about(e, &self.at.location));
            return Box::pin(async move { checked });
        }
        Box::pin(async move {
            let read = self.inner.get_bytes(range.clone()).await;
            let checked = read.and_then(|bytes| self.checked(range, bytes));
            checked.map_err(|e| about(e, &self.at.location))
        })
    }

    fn get_byte_ranges(
        &mut self,
        ranges: Vec<Range<u64>>,
    ) -> BoxFuture<'_, parquet::errors::Result<Vec<Bytes>>> {
        let mut scanned = 0;
        let held = |range: &Range<u64>| {
            let made_up = self.position_bytes(range);
            if made_up.is_none() {
                scanned += range.end - range.start;
            }
            made_up.or_else(|| self.tail_bytes(range))
        };
        let held: Vec<Option<Bytes>> = ranges.iter().map(held).collect();
        self.metrics.bytes_scanned.add(scanned as usize);
        let stored = ranges.into_iter().zip(&held).filter(|(_, held)| held.is_none());
        let stored: Vec<Range<u64>> = stored.map(|(range, _)| range).collect();
        Box::pin(async move {
            let read = match stored.is_empty() {
                true => Vec::new(),
                false => self.inner.get_byte_ranges(stored).await.map_err(|e| about(e, &self.at.location))?,
            };
            let mut read = read.into_iter();
            Ok(held.into_iter().filter_map(|bytes| bytes.or_else(|| read.next())).collect())
        })
    }

    fn get_metadata<'a>(
        &'a mut self,
        _: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, parquet::errors::Result<Arc<ParquetMetaData>>> {
        Box::pin(async move {
            let footer = self.footer().await.map_err(|e| about(e, &self.at.location))?;
            let begin = first_of_page_index(&footer).and_then(|first| u64::try_from(first).ok());
            self.index_of = begin.map(|begin| (begin, footer.clone()));
            Ok(footer)
        })
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.metrics.scan_efficiency_ratio.add_part(self.metrics.bytes_scanned.value());
        self.metrics.scan_efficiency_ratio.set_total(self.size as usize);
    }
}

/// What the session's cache knows a footer by. The size is in it because positions lie where the file ends, and what is said
/// of that may be wrong.
fn key(location: &str, size: u64, with_positions: bool) -> String {
    format!("{size} {} {location}", if with_positions { "positions" } else { "plain" })
}

/// A footer without the writer's Arrow schema, which hides field ids and prefers types of its own, and with the file's
/// location for the adapter. Counts of NULLs that it lacks are unknown, for DataFusion as well.
fn prepared(footer: ParquetMetaData, location: &str) -> parquet::errors::Result<ParquetMetaData> {
    let file = footer.file_metadata();
    let kept = file.key_value_metadata().into_iter().flatten();
    let mut pairs: Vec<KeyValue> = kept.filter(|pair| pair.key != ARROW_SCHEMA_META_KEY).cloned().collect();
    pairs.push(KeyValue::new(FILE_KEY.to_string(), location.to_string()));
    let file = FileMetaData::new(
        file.version(),
        file.num_rows(),
        file.created_by().map(str::to_string),
        Some(pairs),
        file.schema_descr_ptr(),
        file.column_orders().cloned(),
    );
    let mut old = footer.into_builder();
    let groups = old.take_row_groups().into_iter().map(with_unknown_nulls);
    let groups = groups.collect::<parquet::errors::Result<_>>()?;
    let mut new = ParquetMetaDataBuilder::new(file).set_row_groups(groups);
    new = new.set_column_index(old.take_column_index());
    Ok(new.set_offset_index(old.take_offset_index()).build())
}

fn about(error: ParquetError, location: &str) -> ParquetError {
    ParquetError::External(Box::new(unreadable(error.into(), location)))
}
