//! [`PuffinWriter`]: Puffin files, which hold blobs (deletion vectors, sketches) and describe them in a
//! footer.
//!
//! A file is the magic bytes, the blobs one after the other, and the footer: the magic bytes, a description
//! in JSON, its length and flags (4 bytes each, little-endian), and the magic bytes again. Blobs and footer
//! are not compressed here. (`iceberg` writes such files as well, and does not tell where in them its blobs
//! are.)

use serde_json::{Map, Value, json};

use crate::error::{Error, Result};

const MAGIC: &[u8; 4] = b"PFA1";
/// No flag is set: the footer is not compressed.
const FLAGS: [u8; 4] = [0; 4];
const CREATED_BY: &str = concat!("icefield ", env!("CARGO_PKG_VERSION"));

/// Writes a Puffin file, in memory.
#[derive(Debug)]
pub(crate) struct PuffinWriter {
    bytes: Vec<u8>,
    blobs: Vec<Value>,
}

/// The place of a blob in its file, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BlobPlace {
    pub(crate) offset: u64,
    pub(crate) length: u64,
}

impl PuffinWriter {
    pub(crate) fn new() -> Self {
        Self { bytes: MAGIC.to_vec(), blobs: Vec::new() }
    }

    /// Adds a blob of a type, made of these columns. Its snapshot and sequence number are those of the
    /// snapshot that adds the file.
    pub(crate) fn add(
        &mut self,
        of: &str,
        columns: &[i32],
        blob: &[u8],
        properties: &[(&str, String)],
    ) -> BlobPlace {
        let place = BlobPlace { offset: self.bytes.len() as u64, length: blob.len() as u64 };
        let properties: Map<String, Value> =
            properties.iter().map(|(key, value)| (key.to_string(), value.as_str().into())).collect();
        self.blobs.push(json!({
            "type": of,
            "fields": columns,
            "snapshot-id": -1,
            "sequence-number": -1,
            "offset": place.offset,
            "length": place.length,
            "properties": properties,
        }));
        self.bytes.extend_from_slice(blob);
        place
    }

    /// The file's length so far, in bytes, without the footer.
    pub(crate) fn length(&self) -> usize {
        self.bytes.len()
    }

    /// The file.
    ///
    /// # Errors
    /// [`ResourceExhausted`](crate::ErrorKind::ResourceExhausted) for a footer of 2 GiB.
    pub(crate) fn finish(self) -> Result<Vec<u8>> {
        let Self { mut bytes, blobs } = self;
        let footer = json!({"blobs": blobs, "properties": {"created-by": CREATED_BY}}).to_string();
        let length = i32::try_from(footer.len()).map_err(|_| {
            let message = "a Puffin file has too many blobs; write several files";
            Error::new(crate::error::ErrorKind::ResourceExhausted, message)
        })?;
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(footer.as_bytes());
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&FLAGS);
        bytes.extend_from_slice(MAGIC);
        Ok(bytes)
    }
}
