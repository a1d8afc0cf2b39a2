//! Avro object container files, in the two ways that they are read here, and as manifests are written ([`ContainerWriter`]).
//!
//! Manifests and manifest lists are in memory whole ([`Container`]). Their records are not turned into values of a general
//! kind: the caller visits the fields that it knows by their ids ([`Reader::record`]) and takes each in its own type; the
//! others are skipped. Data and delete files are streamed, and their records become Arrow ([`AvroFile`]). Nothing in a file is believed: every length is
//! checked against the bytes that are there, blocks decompress to a bounded size, and schemas nest to a bounded depth.

mod columns;
mod data;
mod reader;
mod schema;
mod writer;

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::Read;

use super::source::broken;
use crate::error::{Error, ErrorKind, Result};

pub(super) use data::AvroFile;
pub(super) use reader::{Reader, unscaled};
pub(super) use schema::Schema;
pub(super) use writer::{Compression, ContainerWriter, put_array, put_bytes, put_long, put_optional};

const MAGIC: &[u8] = b"Obj\x01";
const SYNC_BYTES: usize = 16;
/// The most that a block may be, decompressed, in bytes. Writers' blocks are of 64 KB or so; some write a file as one block.
pub(super) const MAX_BLOCK_BYTES: u64 = 1 << 29;
/// The most that the blocks of a file in memory may be together, decompressed, in bytes.
const MAX_BYTES: u64 = 1 << 30;

/// A container file's header, read.
pub(super) struct Container<'a> {
    /// The header's entries.
    pub(super) metadata: HashMap<&'a [u8], &'a [u8]>,
    /// How what follows is to be read.
    pub(super) layout: Layout,
}

/// How the records of a container file lie in it.
#[derive(Debug)]
pub(super) struct Layout {
    schema: Schema,
    codec: Codec,
    pub(super) sync: [u8; SYNC_BYTES],
    /// Where the header ends.
    pub(super) start: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Codec {
    Null,
    Deflate,
    Snappy,
    Zstandard,
}

impl<'a> Container<'a> {
    /// Reads the header of a file that is in memory whole.
    pub(super) fn open(file: &'a [u8]) -> Result<Self> {
        let rest = file.strip_prefix(MAGIC).ok_or_else(|| broken("it is no Avro file"))?;
        let mut reader = Reader::new(rest);
        let mut metadata = HashMap::new();
        reader.blocks(|reader| {
            let (key, value) = (reader.bytes()?, reader.bytes()?);
            metadata.insert(key, value);
            Ok(())
        })?;
        let sync = *reader.take(SYNC_BYTES)?.first_chunk().ok_or_else(|| broken("it is cut short"))?;
        let schema = metadata.get(b"avro.schema".as_slice()).ok_or_else(|| broken("it has no schema"))?;
        let codec = match metadata.get(b"avro.codec".as_slice()).copied() {
            None | Some(b"null" | b"") => Codec::Null,
            Some(b"deflate") => Codec::Deflate,
            Some(b"snappy") => Codec::Snappy,
            Some(b"zstandard") => Codec::Zstandard,
            Some(other) => {
                return Err(Error::unsupported("the file is compressed by a codec that can't be read")
                    .with("codec", String::from_utf8_lossy(other)));
            }
        };
        let layout =
            Layout { schema: Schema::parse(schema)?, codec, sync, start: file.len() - reader.left() };
        Ok(Self { metadata, layout })
    }
}

impl Layout {
    /// The schema of records.
    pub(super) fn schema(&self) -> &Schema {
        &self.schema
    }

    /// Reads fixed values with their lengths in front from now on, if that is how they lie in the file: see [`Schema::sized`].
    pub(super) fn settle_fixed(&mut self, file: &[u8], most: u64) {
        let Some(sized) = self.schema.sized() else { return };
        let plain = std::mem::replace(&mut self.schema, sized);
        // Lengths in the right places throughout, up to the end of each block, are no accident.
        if self.records(file, most, |reader, schema| reader.pass(schema)).is_err() {
            self.schema = plain;
        }
    }

    /// Calls `record` for each record of the file, with a reader that stands at its beginning and must be left at its end.
    /// One block is held decompressed at a time.
    ///
    /// # Errors
    /// [`ResourceExhausted`](ErrorKind::ResourceExhausted) for a block of more than `most` bytes.
    pub(super) fn records(
        &self,
        file: &[u8],
        most: u64,
        mut record: impl FnMut(&mut Reader<'_>, &Schema) -> Result<()>,
    ) -> Result<()> {
        let mut blocks = Reader::new(file.get(self.start..).unwrap_or_default());
        let mut total = 0_u64;
        while !blocks.is_at_end() {
            let count = blocks.length()?;
            let compressed = blocks.bytes()?;
            let most = most.min(MAX_BLOCK_BYTES);
            let block = self.codec.decompress(compressed, most)?.ok_or_else(|| match most {
                MAX_BLOCK_BYTES => broken("a block is too large"),
                most => {
                    Error::new(ErrorKind::ResourceExhausted, "a block of the file is larger than it may be")
                        .with("bytes", most)
                }
            })?;
            total = total.saturating_add(block.len() as u64);
            if total > MAX_BYTES {
                return Err(broken("its blocks are too large together"));
            }
            let mut reader = Reader::new(&block);
            for _ in 0..count {
                // A record takes a byte at least, or a count could keep this busy for ever.
                if reader.is_at_end() {
                    return Err(broken("a block has fewer records than it says"));
                }
                record(&mut reader, &self.schema)?;
            }
            if !reader.is_at_end() {
                return Err(broken("bytes follow the records of a block"));
            }
            if blocks.take(SYNC_BYTES)? != self.sync {
                return Err(broken("a block does not end where it says"));
            }
        }
        Ok(())
    }
}

impl Codec {
    /// A block's bytes; `None` where they are more than `most`.
    fn decompress<'b>(self, block: &'b [u8], most: u64) -> Result<Option<Cow<'b, [u8]>>> {
        let failed = |e: std::io::Error| broken("a block can't be decompressed").with_source(e);
        let bounded = |reader: &mut dyn Read| {
            let mut out = Vec::new();
            let read = reader.take(most + 1).read_to_end(&mut out).map_err(failed)?;
            Ok::<_, Error>((read as u64 <= most).then(|| out.into()))
        };
        match self {
            // Some writers leave a block of no records so, whatever the codec.
            _ if block.is_empty() => Ok(Some(block.into())),
            Self::Null => Ok((block.len() as u64 <= most).then(|| block.into())),
            Self::Deflate => bounded(&mut flate2::read::DeflateDecoder::new(block)),
            Self::Zstandard => bounded(&mut zstd::Decoder::new(block).map_err(failed)?),
            Self::Snappy => {
                let (data, checksum) =
                    block.split_last_chunk::<4>().ok_or_else(|| broken("a block is cut short"))?;
                let length = snap::raw::decompress_len(data)
                    .map_err(|e| broken("a block can't be decompressed").with_source(e))?;
                if length as u64 > most {
                    return Ok(None);
                }
                let out = snap::raw::Decoder::new().decompress_vec(data);
                let out = out.map_err(|e| broken("a block can't be decompressed").with_source(e))?;
                let mut crc = flate2::Crc::new();
                crc.update(&out);
                if crc.sum() != u32::from_be_bytes(*checksum) {
                    return Err(broken("a block's checksum is another one"));
                }
                Ok(Some(out.into()))
            }
        }
    }
}

#[cfg(test)]
mod tests;
