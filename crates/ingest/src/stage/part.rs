//! A Parquet file that is written from a blocking thread.

use std::io::{self, Write};
use std::pin::Pin;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use icefield_core::Result;
use icefield_core::storage::Storage;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::runtime::Handle;

use crate::archive::Failure;
use crate::read::Part;

/// Encoded bytes of a row group: what an open part holds in memory, at most.
const ROW_GROUP_BYTES: usize = 16 << 20;
/// Columns from which on a part has neither dictionaries nor Zstandard: what these hold for each column, from its first value on,
/// is a hundred kilobytes.
const MANY_COLUMNS: usize = 256;

pub(super) struct PartWriter {
    writer: ArrowWriter<Upload>,
    location: String,
    rows: u64,
}

impl PartWriter {
    pub(super) fn open(
        storage: &Storage,
        handle: &Handle,
        location: String,
        schema: SchemaRef,
    ) -> Result<Self> {
        let is_wide = schema.fields().len() >= MANY_COLUMNS;
        let compression =
            if is_wide { Compression::LZ4_RAW } else { Compression::ZSTD(ZstdLevel::try_new(1)?) };
        let properties = WriterProperties::builder()
            .set_compression(compression)
            .set_statistics_enabled(EnabledStatistics::Chunk)
            .set_offset_index_disabled(true)
            .set_dictionary_enabled(!is_wide)
            .set_max_row_group_bytes(Some(ROW_GROUP_BYTES))
            .build();
        let upload = Upload { inner: Box::pin(storage.writer(&location)?), handle: handle.clone() };
        let writer = ArrowWriter::try_new(upload, schema, Some(properties))?;
        Ok(Self { writer, location, rows: 0 })
    }

    pub(super) fn write(&mut self, batch: &RecordBatch) -> Result<(), Failure> {
        self.rows += batch.num_rows() as u64;
        self.writer.write(batch).map_err(failed)?;
        // What a row group takes in memory is more than its encoded bytes where it has many columns.
        if self.writer.memory_size() > 2 * ROW_GROUP_BYTES {
            self.writer.flush().map_err(failed)?;
        }
        Ok(())
    }

    pub(super) fn close(mut self) -> Result<Part, Failure> {
        self.writer.finish().map_err(failed)?;
        let size = self.writer.bytes_written() as u64;
        let upload = self.writer.inner_mut();
        let handle = upload.handle.clone();
        handle.block_on(upload.inner.shutdown())?;
        Ok(Part { location: self.location, size, rows: self.rows })
    }
}

fn failed(error: parquet::errors::ParquetError) -> Failure {
    use parquet::errors::ParquetError;
    match error {
        ParquetError::External(source) => match source.downcast::<io::Error>() {
            Ok(error) => Failure::from(*error),
            Err(source) => Failure::Storage(ParquetError::External(source).into()),
        },
        other => Failure::Storage(other.into()),
    }
}

/// The store's writer, from a blocking thread.
struct Upload {
    inner: Pin<Box<dyn AsyncWrite + Send>>,
    handle: Handle,
}

impl Write for Upload {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.handle.block_on(self.inner.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
