//! Archives as streams of members: `.tar` with or without gzip or zstd, `.zip`, and plain files.
//!
//! [`walk`] reads an archive once, front to back, and gives each plain file in it to a [`Members`]; what is no plain file, or
//! has a path that leaves the folder, is named to it as refused. It returns without error only when the archive was read to
//! its end, checksums included. Nothing is held but one decoder's window. `zip` alone is read by its directory, at its end.

mod download;
mod failure;
mod litter;
mod member;
mod tar;
mod zip;

use std::cell::Cell;
use std::io::{self, BufRead, BufReader, Read};
use std::rc::Rc;

use flate2::bufread::GzDecoder;
use icefield_core::Error;

pub(crate) use download::{Download, Ranges, RunCounts, Watch};
pub(crate) use failure::Failure;
pub(crate) use litter::{holds_nothing_of_a_table, is_litter, is_system_name};
pub(crate) use member::Members;
use member::drain;

use crate::escape::past;
use crate::options::Limits;
use crate::quarantine::Reason;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Codec {
    None,
    Gzip,
    Zstd,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Tar(Codec),
    Zip,
    /// One file, and no folder around it.
    Plain(Codec),
}

impl Format {
    /// The format that a file's name says it has.
    pub(crate) fn of(name: &str) -> Option<Self> {
        let name = name.to_ascii_lowercase();
        let (stem, codec) = split_codec(&name);
        let ends = |suffixes: &[&str]| suffixes.iter().any(|s| stem.ends_with(s));
        if ends(&[".tar"]) {
            Some(Self::Tar(codec))
        } else if ends(&[".csv", ".tsv", ".jsonl", ".ndjson"]) {
            Some(Self::Plain(codec))
        } else if name.ends_with(".tgz") {
            Some(Self::Tar(Codec::Gzip))
        } else if name.ends_with(".tzst") {
            Some(Self::Tar(Codec::Zstd))
        } else {
            name.ends_with(".zip").then_some(Self::Zip)
        }
    }
}

impl Format {
    /// Whether reading to the end finds out that bytes are not those that were written.
    pub(crate) fn has_checksums(self) -> bool {
        // Zstandard's are optional.
        matches!(self, Self::Zip | Self::Tar(Codec::Gzip) | Self::Plain(Codec::Gzip))
    }
}

/// A name without its compression's suffix.
pub(crate) fn split_codec(name: &str) -> (&str, Codec) {
    let lower = name.to_ascii_lowercase();
    for (suffix, codec) in [(".gz", Codec::Gzip), (".zst", Codec::Zstd)] {
        if lower.ends_with(suffix) {
            return (&name[..name.len() - suffix.len()], codec);
        }
    }
    (name, Codec::None)
}

/// Reads an archive (not a zip: see [`walk_zip`]) to its end.
pub(crate) fn walk(
    format: Format,
    name: &str,
    source: Download,
    limits: &Limits,
    members: &mut dyn Members,
) -> Result<(), Failure> {
    match format {
        Format::Tar(codec) => {
            let bytes_in = source.watch();
            let data = decoded(source, codec, bytes_in.clone(), Failure::Archive)?;
            let data = Metered::new(data, codec, bytes_in);
            tar::walk(&mut BufReader::with_capacity(64 << 10, data), limits, members)
        }
        Format::Plain(codec) => {
            let bytes_in = source.watch();
            let data = decoded(source, codec, bytes_in.clone(), Failure::Archive)?;
            let mut data = Metered::new(data, codec, bytes_in);
            members.member(split_codec(name).0, &mut data)?;
            drain(&mut data)
        }
        Format::Zip => Err(Error::internal("a zip archive is read by ranges").into()),
    }
}

pub(crate) use tar::walk as walk_tar;
pub(crate) use zip::{Source, walk as walk_zip};

/// The decompressed bytes, any fault in them as the failure that `at` makes.
fn decoded<'a>(
    source: impl BufRead + 'a,
    codec: Codec,
    watch: Watch,
    at: fn(Reason, String) -> Failure,
) -> Result<Box<dyn Read + 'a>, Failure> {
    Ok(match codec {
        Codec::None => Box::new(source),
        Codec::Gzip => {
            let inner = Gunzip { member: Some(GzDecoder::new(source)), watch };
            Box::new(Checked { inner, what: "gzip", at })
        }
        Codec::Zstd => {
            let inner = zstd::stream::read::Decoder::with_buffer(source)?;
            Box::new(Checked { inner, what: "zstd", at })
        }
    })
}

/// Gzip members one after another, and zeros behind the last one, with which devices and tapes fill their blocks: `gzip`
/// passes over them too.
struct Gunzip<R: BufRead> {
    /// `None` at the end.
    member: Option<GzDecoder<R>>,
    watch: Watch,
}

/// Fields whose cost a further gzip member has, be it empty.
const GZIP_MEMBER_FIELDS: u64 = 200;

impl<R: BufRead> Read for Gunzip<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if into.is_empty() {
            return Ok(0);
        }
        while let Some(member) = &mut self.member {
            let n = member.read(into)?;
            if n > 0 {
                return Ok(n);
            }
            // The rest may fail to come: then the next read finds this member at its end again.
            let rest = member.get_mut();
            let more = loop {
                let data = rest.fill_buf()?;
                let zeros = data.iter().take_while(|b| **b == 0).count();
                let (is_empty, is_zeros) = (data.is_empty(), zeros == data.len());
                rest.consume(zeros);
                if is_empty || !is_zeros {
                    break !is_empty;
                }
            };
            if more {
                self.watch.put_fields(GZIP_MEMBER_FIELDS)?;
            }
            self.member =
                self.member.take().filter(|_| more).map(|member| GzDecoder::new(member.into_inner()));
        }
        Ok(0)
    }
}

/// Says what a decoder's errors mean.
struct Checked<R> {
    inner: R,
    what: &'static str,
    at: fn(Reason, String) -> Failure,
}

impl<R: Read> Read for Checked<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.inner.read(into).map_err(|error| match error.kind() {
            io::ErrorKind::Interrupted => error,
            _ if error.get_ref().is_some_and(|e| e.is::<Failure>()) => error,
            io::ErrorKind::UnexpectedEof => {
                (self.at)(Reason::Truncated, format!("unexpected end of {} stream", self.what)).into()
            }
            _ => (self.at)(Reason::Corrupt, format!("corrupt {} stream: {error}", self.what)).into(),
        })
    }
}

/// Holds an archive's decoder to the limits on what comes of it.
struct Metered<R> {
    inner: R,
    is_decoded: bool,
    watch: Watch,
}

impl<R: Read> Metered<R> {
    fn new(inner: R, codec: Codec, watch: Watch) -> Self {
        Self { inner, is_decoded: codec != Codec::None, watch }
    }
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(into)?;
        self.watch.put_out(n as u64, self.is_decoded)?;
        Ok(n)
    }
}

/// A member decompressed within its archive: it is held to the ratio by itself, which is the member's fault alone, and what
/// comes of it counts as the archive's.
pub(crate) fn nested<'a>(
    data: &'a mut dyn Read,
    codec: Codec,
    watch: Watch,
    limits: &'a Limits,
) -> Result<Box<dyn Read + 'a>, Failure> {
    let bytes_in = Rc::new(Cell::new(0));
    let counted = Counted { inner: data, bytes: bytes_in.clone() };
    let inner = decoded(BufReader::with_capacity(64 << 10, counted), codec, watch.clone(), Failure::Member)?;
    Ok(Box::new(Nested { inner, bytes_in, out: 0, watch, limits }))
}

struct Nested<'a, R> {
    inner: R,
    bytes_in: Rc<Cell<u64>>,
    out: u64,
    watch: Watch,
    limits: &'a Limits,
}

impl<R: Read> Read for Nested<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(into)?;
        self.out += n as u64;
        let counted = self.watch.put_out(n as u64, true);
        let ratio = self.limits.ratio.max(1);
        if self.out > self.limits.ratio_floor_bytes && self.out / ratio > self.bytes_in.get().max(1) {
            let detail = past("decompressed bytes of the member for each compressed one", "ratio", ratio);
            return Err(Failure::Member(Reason::RatioExceeded, detail).into());
        }
        counted?;
        Ok(n)
    }
}

/// Counts the bytes that go into a codec within an archive.
struct Counted<'a> {
    inner: &'a mut dyn Read,
    bytes: Rc<Cell<u64>>,
}

impl Read for Counted<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(into)?;
        self.bytes.set(self.bytes.get() + n as u64);
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_known_by_name() {
        let cases = [
            ("a.tar.gz", Some(Format::Tar(Codec::Gzip))),
            ("a.TGZ", Some(Format::Tar(Codec::Gzip))),
            ("a.tar", Some(Format::Tar(Codec::None))),
            ("a.tar.zst", Some(Format::Tar(Codec::Zstd))),
            ("a.zip", Some(Format::Zip)),
            ("a.csv", Some(Format::Plain(Codec::None))),
            ("a.csv.gz", Some(Format::Plain(Codec::Gzip))),
            ("a.jsonl.zst", Some(Format::Plain(Codec::Zstd))),
            ("a.gz", None),
            ("a.parquet", None),
        ];
        for (name, format) in cases {
            assert_eq!(Format::of(name), format, "{name}");
        }
    }
}
