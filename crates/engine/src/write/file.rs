//! One data file while it is written: rows in, encoded columns in memory, row groups out to the store.
//!
//! A row group leaves column by column, so that its bytes are never in memory twice. The file becomes visible when it is
//! closed, whole; dropped before, it leaves nothing that a reader could see, and its upload is aborted.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use icefield_core::storage::Storage;
use icefield_core::{Error, Result};
use parquet::arrow::arrow_writer::{ArrowColumnWriter, ArrowRowGroupWriterFactory};
use parquet::file::metadata::ParquetMetaData;
use parquet::file::properties::WriterPropertiesPtr;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::SchemaDescriptor;
use tokio::sync::Semaphore;

use super::encode::ColumnEncoders;
use super::nan::NanCounter;
use super::upload::{Upload, Uploads};

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
    /// One permit for each core that encodes.
    pub(crate) cores: Arc<Semaphore>,
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
    rows_in_group: usize,
    upload: Upload,
    nans: NanCounter,
    /// Bytes of memory of the columns, and of the row group that they would make, when they were last looked at.
    columns_memory: usize,
    in_progress: usize,
}

/// A data file that was written.
pub(crate) struct ClosedFile {
    pub(crate) location: String,
    pub(crate) size: u64,
    pub(crate) metadata: ParquetMetaData,
    pub(crate) nans: NanCounter,
}

impl OpenFile {
    /// Begins a file. Makes no request.
    pub(crate) fn create(
        storage: &Storage,
        location: String,
        format: Arc<FileFormat>,
        uploads: &Uploads,
    ) -> Result<Self> {
        let upload = Upload::new(storage, &location, uploads.clone())?;
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
            rows_in_group: 0,
            upload,
            nans,
            columns_memory: 0,
            in_progress: 0,
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
        let encoded = self.columns.encode(batch, &self.format.cores).await;
        encoded.map_err(|e| self.about(e))?;
        self.look();
        self.nans.add(batch);
        self.rows_in_group += batch.num_rows();
        if self.rows_in_group >= self.format.row_group_rows || self.in_progress >= self.format.row_group_bytes
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
        let chunks = std::mem::take(&mut self.columns).close(&self.format.cores).await.map_err(about)?;
        let mut group = self.parquet.next_row_group().map_err(|e| about(e.into()))?;
        for chunk in chunks {
            chunk.append_to_row_group(&mut group).map_err(|e| about(e.into()))?;
            for bytes in self.sink.take_full() {
                self.upload.put(bytes).await.map_err(about)?;
            }
        }
        group.close().map_err(|e| about(e.into()))?;
        self.rows_in_group = 0;
        self.look();
        Ok(())
    }

    /// Waits until the store has what was sent to it.
    pub(crate) async fn drain(&mut self) -> Result<()> {
        self.upload.drain().await.map_err(|e| e.with("file", &self.location))
    }

    /// Writes what is left, and makes the file visible.
    pub(crate) async fn close(mut self) -> Result<ClosedFile> {
        self.flush_row_group().await?;
        let metadata = self.parquet.finish().map_err(|e| self.about(e.into()))?;
        let about = |e: Error| e.with("file", &self.location);
        for bytes in self.sink.take_all() {
            self.upload.put(bytes).await.map_err(about)?;
        }
        self.upload.finish().await.map_err(about)?;
        Ok(ClosedFile { location: self.location, size: self.sink.written(), metadata, nans: self.nans })
    }

    /// Gives the file up, and what was sent of it to the store.
    pub(crate) async fn abort(self) {
        self.upload.abort().await;
    }

    pub(crate) fn location(&self) -> &str {
        &self.location
    }

    /// Bytes of memory that the file holds: encoded columns, and what waits to be sent. Not what is on its way
    /// ([`Uploads::in_flight`]).
    pub(crate) fn memory(&self) -> usize {
        self.columns_memory + self.sink.waiting() + self.upload.buffered()
    }

    /// Bytes of memory that [`OpenFile::flush_row_group`] would free.
    pub(crate) fn in_progress_bytes(&self) -> usize {
        self.in_progress
    }

    /// The size in bytes that the file would have, closed now, without its footer.
    pub(crate) fn size(&self) -> u64 {
        self.sink.written() + self.in_progress as u64
    }

    /// Looks once at each column: there may be hundreds.
    fn look(&mut self) {
        self.columns_memory = self.columns.writers().map(ArrowColumnWriter::memory_size).sum();
        self.in_progress = self.columns.writers().map(ArrowColumnWriter::get_estimated_total_bytes).sum();
    }

    fn about(&self, error: Error) -> Error {
        error.with("file", &self.location)
    }
}

/// The size of the pieces in which bytes go from the Parquet writer to the upload.
const PIECE: usize = 1 << 20;

/// Bytes between the Parquet writer, which is synchronous, and the upload, which is not: pieces, so that nothing grows by
/// being copied.
#[derive(Debug, Clone, Default)]
struct Sink(Arc<Mutex<Pieces>>);

#[derive(Debug, Default)]
struct Pieces {
    full: Vec<Bytes>,
    last: Vec<u8>,
    written: u64,
}

impl Sink {
    fn pieces(&self) -> MutexGuard<'_, Pieces> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_full(&self) -> Vec<Bytes> {
        std::mem::take(&mut self.pieces().full)
    }

    fn take_all(&self) -> Vec<Bytes> {
        let mut pieces = self.pieces();
        let last = Bytes::from(std::mem::take(&mut pieces.last));
        let mut all = std::mem::take(&mut pieces.full);
        all.push(last);
        all
    }

    /// All bytes that ever went through.
    fn written(&self) -> u64 {
        self.pieces().written
    }

    /// Bytes of memory that are here.
    fn waiting(&self) -> usize {
        let pieces = self.pieces();
        pieces.full.iter().map(Bytes::len).sum::<usize>() + pieces.last.capacity()
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut pieces = self.pieces();
        let taken = bytes.get(..PIECE - pieces.last.len().min(PIECE)).unwrap_or(bytes);
        pieces.last.extend_from_slice(taken);
        pieces.written += taken.len() as u64;
        if pieces.last.len() >= PIECE {
            let full = std::mem::take(&mut pieces.last);
            pieces.full.push(full.into());
        }
        Ok(taken.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_any_sizes_come_out_in_order_in_pieces() {
        let mut sink = Sink::default();
        let bytes: Vec<u8> = (0..3 * PIECE + 5).map(|n| (n % 251) as u8).collect();
        let mut out = Vec::new();
        for (at, some) in bytes.chunks(PIECE * 2 / 3 + 1).enumerate() {
            sink.write_all(some).unwrap();
            if at % 2 == 0 {
                out.extend(sink.take_full());
            }
        }
        assert!(out.iter().all(|piece| piece.len() == PIECE));
        out.extend(sink.take_all());
        assert_eq!((out.concat(), sink.written(), sink.waiting()), (bytes.clone(), bytes.len() as u64, 0));
    }
}
