//! One data file while it is written: rows in, encoded columns in memory, row groups out to the store.
//!
//! A row group leaves column by column, so that its bytes are never in memory twice. The file becomes visible when it is
//! closed, whole; dropped before, it leaves nothing that a reader could see. Where there are fewer files to write than
//! cores to write them, the columns of a batch are encoded on several.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use icefield_core::storage::Storage;
use icefield_core::{Error, Result};
use object_store::buffered::BufWriter;
use parquet::arrow::arrow_writer::{ArrowColumnWriter, ArrowRowGroupWriterFactory};
use parquet::file::metadata::ParquetMetaData;
use parquet::file::properties::WriterPropertiesPtr;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::SchemaDescriptor;
use tokio::io::AsyncWriteExt;

use super::encode::ColumnEncoders;
use super::nan::NanCounter;

/// What an upload holds back in memory at most, in bytes, before it sends a part.
const UPLOAD_BUFFER: u64 = 8 << 20;

/// What all files of one write have in common.
#[derive(Debug)]
pub(crate) struct FileFormat {
    /// The Arrow schema of the batches.
    pub(crate) arrow: SchemaRef,
    pub(crate) parquet: SchemaDescriptor,
    pub(crate) properties: WriterPropertiesPtr,
    /// Encoded size in bytes at which a row group is closed.
    pub(crate) row_group_bytes: usize,
    /// Rows at which a row group is closed.
    pub(crate) row_group_rows: usize,
    pub(crate) nans: NanCounter,
}

/// A data file that is being written.
pub(crate) struct OpenFile {
    location: String,
    format: Arc<FileFormat>,
    sink: Sink,
    parquet: SerializedFileWriter<Sink>,
    factory: ArrowRowGroupWriterFactory,
    /// The columns of the row group in progress.
    columns: ColumnEncoders,
    /// How many tasks encode the columns of one batch.
    encoders: usize,
    rows_in_group: usize,
    upload: BufWriter,
    sent: u64,
    nans: NanCounter,
}

/// A data file that was written.
pub(crate) struct ClosedFile {
    pub(crate) location: String,
    pub(crate) size: u64,
    pub(crate) metadata: ParquetMetaData,
    pub(crate) nans: NanCounter,
}

impl OpenFile {
    /// Begins a file, each of whose batches is encoded on so many tasks. Makes no request.
    pub(crate) fn create(
        storage: &Storage,
        location: String,
        format: Arc<FileFormat>,
        encoders: usize,
    ) -> Result<Self> {
        let upload = storage.writer(&location)?;
        let sink = Sink::default();
        let root = format.parquet.root_schema_ptr();
        let begun = SerializedFileWriter::new(sink.clone(), root, format.properties.clone());
        let parquet = begun.map_err(|e| Error::from(e).with("file", &location))?;
        let factory = ArrowRowGroupWriterFactory::new(&parquet, format.arrow.clone());
        let nans = format.nans.fresh();
        Ok(Self {
            location,
            format,
            sink,
            parquet,
            factory,
            columns: ColumnEncoders::default(),
            encoders,
            rows_in_group: 0,
            upload,
            sent: 0,
            nans,
        })
    }

    /// Encodes a batch, and sends the row group in progress when it is full.
    pub(crate) async fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        if self.columns.is_empty() {
            let group = self.parquet.flushed_row_groups().len();
            let writers = self.factory.create_column_writers(group);
            let writers = writers.map_err(|e| self.about(e.into()))?;
            self.columns = ColumnEncoders::new(self.format.arrow.clone(), writers);
        }
        let encoded = self.columns.encode(batch, self.encoders).await;
        encoded.map_err(|e| self.about(e))?;
        self.nans.add(batch);
        self.rows_in_group += batch.num_rows();
        if self.rows_in_group >= self.format.row_group_rows
            || self.in_progress_bytes() >= self.format.row_group_bytes
        {
            self.flush_row_group().await?;
        }
        Ok(())
    }

    /// Closes the row group in progress and sends it.
    pub(crate) async fn flush_row_group(&mut self) -> Result<()> {
        if self.rows_in_group == 0 {
            return Ok(());
        }
        let about = |e: Error| e.with("file", &self.location);
        let mut group = self.parquet.next_row_group().map_err(|e| about(e.into()))?;
        for column in std::mem::take(&mut self.columns).into_writers() {
            let chunk = column.close().map_err(|e| about(e.into()))?;
            chunk.append_to_row_group(&mut group).map_err(|e| about(e.into()))?;
            send(&mut self.upload, &self.sink, &mut self.sent).await.map_err(about)?;
        }
        group.close().map_err(|e| about(e.into()))?;
        self.rows_in_group = 0;
        Ok(())
    }

    /// Writes what is left, and makes the file visible.
    pub(crate) async fn close(mut self) -> Result<ClosedFile> {
        self.flush_row_group().await?;
        let metadata = self.parquet.finish().map_err(|e| self.about(e.into()))?;
        let sent = send(&mut self.upload, &self.sink, &mut self.sent).await;
        sent.map_err(|e| self.about(e))?;
        let closed = self.upload.shutdown().await;
        closed.map_err(|e| self.about(e.into()))?;
        Ok(ClosedFile { location: self.location, size: self.sent, metadata, nans: self.nans })
    }

    /// Gives the file up, and what was sent of it to the store.
    pub(crate) async fn abort(mut self) {
        if self.sent >= UPLOAD_BUFFER
            && let Err(error) = self.upload.abort().await
        {
            tracing::debug!(file = self.location, %error, "an unfinished upload was not taken back");
        }
    }

    pub(crate) fn location(&self) -> &str {
        &self.location
    }

    /// Bytes of memory that the file holds: encoded columns, and what the upload has not sent.
    pub(crate) fn memory(&self) -> usize {
        let columns: usize = self.columns.writers().map(ArrowColumnWriter::memory_size).sum();
        columns + self.sent.min(UPLOAD_BUFFER) as usize
    }

    /// Bytes of memory that [`OpenFile::flush_row_group`] would free.
    pub(crate) fn in_progress_bytes(&self) -> usize {
        self.columns.writers().map(ArrowColumnWriter::get_estimated_total_bytes).sum()
    }

    /// The size in bytes that the file would have, closed now, without its footer.
    pub(crate) fn size(&self) -> u64 {
        self.sent + self.in_progress_bytes() as u64
    }

    fn about(&self, error: Error) -> Error {
        error.with("file", &self.location)
    }
}

/// Hands to the store what the Parquet writer put into the sink.
async fn send(upload: &mut BufWriter, sink: &Sink, sent: &mut u64) -> Result<()> {
    let bytes = sink.take();
    if bytes.is_empty() {
        return Ok(());
    }
    *sent += bytes.len() as u64;
    Ok(upload.put(bytes).await?)
}

/// Bytes between the Parquet writer, which is synchronous, and the upload, which is not.
#[derive(Debug, Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Sink {
    fn take(&self) -> Bytes {
        let mut buffer = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Bytes::from(std::mem::take(&mut *buffer))
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
