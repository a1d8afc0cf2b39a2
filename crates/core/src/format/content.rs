//! [`ContentReader`]: the rows of data and delete files that are not Parquet, as Arrow.
//!
//! A file's schema is its own, with the Iceberg field id of every field at every level in its metadata, where the file has
//! ids; how its columns become a table's is the engine's to say. Nothing in a file is believed: lengths are checked against
//! the bytes that are there, and what a file says of itself reserves no memory.

use std::ops::Range;

use arrow_schema::SchemaRef;
use futures::StreamExt;
use futures::stream::{BoxStream, try_unfold};
use iceberg::spec::DataFileFormat;

use super::avro::AvroFile;
use super::orc::OrcFile;
use super::source::{Rows, Source, about};
use crate::error::{Error, Result};
use crate::storage::Storage;

/// An Avro or ORC file, its schema read.
#[derive(Debug)]
pub struct ContentReader {
    location: String,
    file: File,
}

#[derive(Debug)]
enum File {
    Avro(Box<AvroFile>),
    Orc(Box<OrcFile>),
}

impl ContentReader {
    /// Whether files of a format are read here.
    pub fn reads(format: DataFileFormat) -> bool {
        matches!(format, DataFileFormat::Avro | DataFileFormat::Orc)
    }

    /// Opens a file of `size` bytes.
    ///
    /// # Cost
    /// One request for an Avro file's first 4 MiB, or for an ORC file's last 64 KiB; a second one for a longer header or
    /// footer.
    ///
    /// # Errors
    /// [`DataInvalid`](crate::ErrorKind::DataInvalid) for a file that is broken,
    /// [`Unsupported`](crate::ErrorKind::Unsupported) for one of another format or with columns of types that Iceberg does
    /// not have. All errors name the file.
    pub async fn open(storage: &Storage, location: &str, size: u64, format: DataFileFormat) -> Result<Self> {
        let source = Source::new(storage, location, size);
        let file = match format {
            DataFileFormat::Avro => AvroFile::open(source).await.map(|file| File::Avro(Box::new(file))),
            DataFileFormat::Orc => OrcFile::open(source).await.map(|file| File::Orc(Box::new(file))),
            other => Err(Error::unsupported("files of this format hold no rows").with("format", other)),
        };
        let file = file.map_err(|e| about(e, location))?;
        Ok(Self { location: location.to_string(), file })
    }

    /// The file's columns.
    pub fn schema(&self) -> &SchemaRef {
        match &self.file {
            File::Avro(file) => file.schema(),
            File::Orc(file) => file.schema(),
        }
    }

    /// The rows, in batches of `batch_rows` at most, with the columns at these places of the schema, which ascend. `range`
    /// is of bytes: of an ORC file the stripes that begin in it are read, an Avro file whole where it begins at 0.
    ///
    /// # Cost
    /// A request for each 4 MiB of an Avro file; for each stripe of an ORC file one for its footer and one for each run of
    /// streams that are wanted. Held in memory are a block of an Avro file with 4 MiB beyond it, or the wanted streams of a
    /// stripe, compressed.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn rows(
        self,
        columns: Vec<usize>,
        range: Option<Range<u64>>,
        batch_rows: usize,
    ) -> Result<BoxStream<'static, Result<Rows>>> {
        let Self { location, mut file } = self;
        let selected = match &mut file {
            File::Avro(file) => file.select(&columns, range),
            File::Orc(file) => file.select(&columns, range),
        };
        selected.map_err(|e| about(e, &location))?;
        let rows = try_unfold((file, location), move |(mut file, location)| async move {
            let rows = match &mut file {
                File::Avro(file) => file.next(batch_rows.max(1)).await,
                File::Orc(file) => file.next(batch_rows.max(1)).await,
            };
            let rows = rows.map_err(|e| about(e, &location))?;
            Ok(rows.map(|rows| (rows, (file, location))))
        });
        Ok(rows.boxed())
    }
}
