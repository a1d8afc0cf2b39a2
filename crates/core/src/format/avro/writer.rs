//! Writing Avro container files from records that the caller encodes.

use std::io::Write;

use flate2::write::DeflateEncoder;

use super::{MAGIC, SYNC_BYTES};
use crate::config::Properties;
use crate::error::{Error, Result};

/// Records are compressed once they take as many bytes.
const BLOCK_BYTES: usize = 64 << 10;

/// A codec that blocks are compressed by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::format) enum Compression {
    None,
    Deflate(u32),
    Snappy,
    Zstandard(i32),
}

impl Default for Compression {
    fn default() -> Self {
        Self::Deflate(6)
    }
}

impl Compression {
    /// What a table's properties ask of its manifests.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for a codec or level that there is not.
    pub(in crate::format) fn of_manifests(properties: &Properties<'_>) -> Result<Self> {
        const CODEC: &str = "write.manifest.compression-codec";
        let level: Option<i32> = properties.get("write.manifest.compression-level")?;
        let codec = properties.text(CODEC).unwrap_or("gzip").trim();
        Ok(match codec.to_ascii_lowercase().as_str() {
            "gzip" => match level {
                Some(level @ 0..=9) => Self::Deflate(level.unsigned_abs()),
                Some(level) => {
                    return Err(Error::invalid_input(
                        "gzip has levels from 0 to 9; change the table property",
                    )
                    .with("property", "write.manifest.compression-level")
                    .with("value", level));
                }
                None => Self::default(),
            },
            "zstd" => Self::Zstandard(level.unwrap_or(1)),
            "snappy" => Self::Snappy,
            "uncompressed" => Self::None,
            _ => {
                return Err(Error::invalid_input(
                    "manifests are compressed by gzip, zstd, snappy or not at all (uncompressed); change the table property",
                )
                .with("property", CODEC)
                .with("value", codec));
            }
        })
    }

    fn name(self) -> &'static str {
        match self {
            Self::None => "null",
            Self::Deflate(_) => "deflate",
            Self::Snappy => "snappy",
            Self::Zstandard(_) => "zstandard",
        }
    }

    fn compress(self, block: &[u8]) -> Result<Vec<u8>> {
        let failed = |e: std::io::Error| Error::internal("a block can't be compressed").with_source(e);
        match self {
            Self::None => Ok(block.to_vec()),
            Self::Deflate(level) => {
                let out = Vec::with_capacity(block.len() / 4);
                let mut encoder = DeflateEncoder::new(out, flate2::Compression::new(level));
                encoder.write_all(block).and_then(|()| encoder.finish()).map_err(failed)
            }
            Self::Snappy => {
                let out = snap::raw::Encoder::new().compress_vec(block);
                let mut out =
                    out.map_err(|e| Error::internal("a block can't be compressed").with_source(e))?;
                let mut crc = flate2::Crc::new();
                crc.update(block);
                out.extend(crc.sum().to_be_bytes());
                Ok(out)
            }
            Self::Zstandard(level) => zstd::bulk::compress(block, level).map_err(failed),
        }
    }
}

/// A container file that is written in memory.
#[derive(Debug)]
pub(in crate::format) struct ContainerWriter {
    header: Vec<(&'static str, String)>,
    /// Blocks that are done.
    out: Vec<u8>,
    compression: Compression,
    sync: [u8; SYNC_BYTES],
    block: Vec<u8>,
    records: i64,
}

impl ContainerWriter {
    /// A file with these entries in its header, beside the schema and the codec. `sync` is what ends each block: bytes that
    /// others would not come upon by chance.
    pub(in crate::format) fn new(
        schema: String,
        mut header: Vec<(&'static str, String)>,
        compression: Compression,
        sync: [u8; SYNC_BYTES],
    ) -> Self {
        header.push(("avro.schema", schema));
        header.push(("avro.codec", compression.name().to_string()));
        Self { header, out: Vec::new(), compression, sync, block: Vec::new(), records: 0 }
    }

    /// Adds the record that `encode` appends; nothing, where it fails.
    pub(in crate::format) fn record(
        &mut self,
        encode: impl FnOnce(&mut Vec<u8>) -> Result<()>,
    ) -> Result<()> {
        let before = self.block.len();
        if let Err(e) = encode(&mut self.block) {
            self.block.truncate(before);
            return Err(e);
        }
        self.records += 1;
        if self.block.len() >= BLOCK_BYTES { self.end_block() } else { Ok(()) }
    }

    /// How long the file is so far, about.
    pub(in crate::format) fn length(&self) -> usize {
        self.out.len() + self.block.len() / 4
    }

    fn end_block(&mut self) -> Result<()> {
        if self.records > 0 {
            let compressed = self.compression.compress(&self.block)?;
            put_long(&mut self.out, self.records);
            put_bytes(&mut self.out, &compressed);
            self.out.extend(self.sync);
            self.block.clear();
            self.records = 0;
        }
        Ok(())
    }

    /// The file, with one more entry in its header.
    pub(in crate::format) fn finish(mut self, entry: Option<(&'static str, String)>) -> Result<Vec<u8>> {
        self.end_block()?;
        self.header.extend(entry);
        let mut file = MAGIC.to_vec();
        put_long(&mut file, self.header.len() as i64);
        for (key, value) in &self.header {
            put_bytes(&mut file, key.as_bytes());
            put_bytes(&mut file, value.as_bytes());
        }
        put_long(&mut file, 0);
        file.extend(self.sync);
        file.extend_from_slice(&self.out);
        Ok(file)
    }
}

/// A whole number, as a zigzag varint.
pub(in crate::format) fn put_long(out: &mut Vec<u8>, value: i64) {
    let mut value = ((value << 1) ^ (value >> 63)) as u64;
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Bytes or a string, with their length.
pub(in crate::format) fn put_bytes(out: &mut Vec<u8>, value: &[u8]) {
    put_long(out, value.len() as i64);
    out.extend_from_slice(value);
}

/// A value that may be null, of a union whose first branch is `null`.
pub(in crate::format) fn put_optional<T>(
    out: &mut Vec<u8>,
    value: Option<T>,
    put: impl FnOnce(&mut Vec<u8>, T),
) {
    match value {
        None => put_long(out, 0),
        Some(value) => {
            put_long(out, 1);
            put(out, value);
        }
    }
}

/// The items of an array, as one block that says how long it is, so that readers can pass over it.
pub(in crate::format) fn put_array(
    out: &mut Vec<u8>,
    items: usize,
    put: impl FnOnce(&mut Vec<u8>) -> Result<()>,
) -> Result<()> {
    if items > 0 {
        let mut block = Vec::new();
        put(&mut block)?;
        put_long(out, -(items as i64));
        put_bytes(out, &block);
    }
    put_long(out, 0);
    Ok(())
}
