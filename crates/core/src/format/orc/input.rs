//! The bytes of a stream, decompressed chunk by chunk as they are read.

use std::io::Read;

use bytes::Bytes;

use crate::error::{Error, Result};
use crate::format::source::broken;

/// Writers' chunks are of 256 KiB; a length takes 23 bits.
const DEFAULT_CHUNK_BYTES: u64 = 256 << 10;
const MAX_CHUNK_BYTES: u64 = 8 << 20;

/// How far back Zstandard may refer, as a power of 2: a chunk at the most.
const ZSTD_WINDOW_LOG: u32 = MAX_CHUNK_BYTES.ilog2();

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    None,
    Zlib,
    Snappy,
    Lz4,
    Zstd,
}

/// How a file is compressed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Codec {
    kind: Kind,
    /// The most that a chunk may be, decompressed.
    chunk: u64,
}

impl Codec {
    pub(super) fn new(kind: u64, chunk: Option<u64>) -> Result<Self> {
        let kind = match kind {
            0 => Kind::None,
            1 => Kind::Zlib,
            2 => Kind::Snappy,
            4 => Kind::Lz4,
            5 => Kind::Zstd,
            other => {
                return Err(Error::unsupported(
                    "the file is compressed by a codec that can't be read; rewrite it with the engine that wrote it",
                )
                .with("codec", if other == 3 { "lzo".to_string() } else { other.to_string() }));
            }
        };
        let chunk = chunk.unwrap_or(DEFAULT_CHUNK_BYTES);
        if kind != Kind::None && chunk > MAX_CHUNK_BYTES {
            return Err(broken("its chunks are too large"));
        }
        Ok(Self { kind, chunk })
    }

    fn decompress(self, chunk: &[u8]) -> Result<Vec<u8>> {
        let failed = |e: std::io::Error| broken("a chunk can't be decompressed").with_source(e);
        let bounded = |reader: &mut dyn Read| {
            let mut out = Vec::new();
            let read = reader.take(self.chunk + 1).read_to_end(&mut out).map_err(failed)?;
            if read as u64 > self.chunk { Err(broken("a chunk is too large")) } else { Ok(out) }
        };
        match self.kind {
            Kind::None => Ok(chunk.to_vec()),
            Kind::Zlib => bounded(&mut flate2::read::DeflateDecoder::new(chunk)),
            Kind::Zstd => {
                let mut decoder = zstd::Decoder::new(chunk).map_err(failed)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG).map_err(failed)?;
                bounded(&mut decoder)
            }
            Kind::Snappy => {
                let length = snap::raw::decompress_len(chunk);
                match length {
                    Ok(length) if length as u64 <= self.chunk => {}
                    Ok(_) => return Err(broken("a chunk is too large")),
                    Err(e) => return Err(broken("a chunk can't be decompressed").with_source(e)),
                }
                let out = snap::raw::Decoder::new().decompress_vec(chunk);
                out.map_err(|e| broken("a chunk can't be decompressed").with_source(e))
            }
            Kind::Lz4 => {
                let most = usize::try_from(self.chunk).unwrap_or(usize::MAX);
                let out = lz4_flex::block::decompress(chunk, most);
                out.map_err(|e| broken("a chunk can't be decompressed").with_source(e))
            }
        }
    }
}

/// A stream that is read from front to back. A clone begins where the original is.
#[derive(Debug, Clone)]
pub(super) struct Input {
    codec: Codec,
    /// What is not decompressed yet.
    rest: Bytes,
    chunk: Bytes,
    at: usize,
}

impl Input {
    pub(super) fn new(codec: Codec, stream: Bytes) -> Self {
        Self { codec, rest: stream, chunk: Bytes::new(), at: 0 }
    }

    /// Everything, decompressed; refused over `most` bytes.
    pub(super) fn all(mut self, most: usize) -> Result<Vec<u8>> {
        let mut all = Vec::new();
        while self.fill()? {
            all.extend_from_slice(self.chunk.get(self.at..).unwrap_or_default());
            self.at = self.chunk.len();
            if all.len() > most {
                return Err(broken("its footer is too large"));
            }
        }
        Ok(all)
    }

    /// Whether there is another byte, which then is in the chunk.
    fn fill(&mut self) -> Result<bool> {
        while self.at >= self.chunk.len() {
            if self.rest.is_empty() {
                return Ok(false);
            }
            self.at = 0;
            self.chunk = if self.codec.kind == Kind::None {
                std::mem::take(&mut self.rest)
            } else {
                let Some(head) = self.rest.first_chunk::<3>() else { return Err(broken("it is cut short")) };
                let [low, middle, high] = *head;
                let head = u32::from_le_bytes([low, middle, high, 0]);
                let length = (head >> 1) as usize;
                let _ = self.rest.split_to(3);
                if length > self.rest.len() {
                    return Err(broken("it is cut short"));
                }
                let chunk = self.rest.split_to(length);
                // The lowest bit marks chunks that compression would have made longer.
                if head & 1 == 1 { chunk } else { self.codec.decompress(&chunk)?.into() }
            };
        }
        Ok(true)
    }

    pub(super) fn byte(&mut self) -> Result<u8> {
        if let Some(byte) = self.chunk.get(self.at) {
            self.at += 1;
            return Ok(*byte);
        }
        if !self.fill()? {
            return Err(broken("a column of it is cut short"));
        }
        self.byte()
    }

    /// Appends the next `length` bytes.
    pub(super) fn bytes(&mut self, mut length: usize, into: &mut Vec<u8>) -> Result<()> {
        while length > 0 {
            if !self.fill()? {
                return Err(broken("a column of it is cut short"));
            }
            let there = self.chunk.get(self.at..).unwrap_or_default();
            let taken = there.get(..length).unwrap_or(there);
            into.extend_from_slice(taken);
            self.at += taken.len();
            length -= taken.len();
        }
        Ok(())
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut array = [0; N];
        for byte in &mut array {
            *byte = self.byte()?;
        }
        Ok(array)
    }

    /// A number in groups of 7 bits, lowest first.
    pub(super) fn varint(&mut self) -> Result<u128> {
        let mut value = 0_u128;
        for at in 0..19 {
            let byte = self.byte()?;
            // The last group has room for two bits.
            if at == 18 && byte > 3 {
                break;
            }
            value |= u128::from(byte & 0x7f) << (7 * at);
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(broken("a number in it has no end"))
    }
}
