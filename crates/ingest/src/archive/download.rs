//! An archive's bytes on a blocking thread: from front to back, or by ranges.

use std::fs::File;
use std::io::{self, BufRead, Read, Seek, SeekFrom};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::{Buf, Bytes};
use futures::StreamExt;
use icefield_core::storage::Storage;
use icefield_core::{Error, ErrorKind, Result};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::failure::Failure;
use crate::escape::past;
use crate::options::Limits;
use crate::quarantine::Reason;

/// Chunks that may wait between the store and the decoder.
const CHUNKS_AHEAD: usize = 16;
/// Bytes that one ranged read asks for.
const RANGE_BYTES: u64 = 1 << 20;
/// How often an archive is read, at most: members in another order than the directory's take a range each.
const TIMES_OVER: u64 = 8;
/// Bytes that are read of a local file at once.
const LOCAL_BYTES: usize = 256 << 10;

/// Counts of an archive that is being read, the limits on them, and its run's wish to stop; shared between threads.
#[derive(Debug, Clone)]
pub(crate) struct Watch(Arc<Counts>);

#[derive(Debug)]
struct Counts {
    limits: Limits,
    /// The archive's size, where its bytes may be read more than once.
    size: Option<u64>,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    fields: AtomicU64,
    run: Arc<RunCounts>,
}

/// Counts of all archives of a run.
#[derive(Debug, Default)]
pub(crate) struct RunCounts {
    pub(crate) bytes_in: AtomicU64,
    pub(crate) bytes_out: AtomicU64,
    members: AtomicU64,
    pub(crate) cancelled: AtomicBool,
}

impl Watch {
    pub(crate) fn new(run: Arc<RunCounts>, limits: &Limits, size: Option<u64>) -> Self {
        let zero = AtomicU64::default;
        let (bytes_in, bytes_out, fields) = (zero(), zero(), zero());
        Self(Arc::new(Counts { limits: limits.clone(), size, bytes_in, bytes_out, fields, run }))
    }

    /// Compressed bytes that were read.
    pub(crate) fn bytes_in(&self) -> u64 {
        self.0.bytes_in.load(Ordering::Relaxed)
    }

    /// Decompressed bytes.
    pub(crate) fn bytes_out(&self) -> u64 {
        self.0.bytes_out.load(Ordering::Relaxed)
    }

    fn compressed(&self) -> u64 {
        self.0.size.unwrap_or_else(|| self.bytes_in()).max(1)
    }

    pub(crate) fn put_in(&self, n: u64) {
        self.0.bytes_in.fetch_add(n, Ordering::Relaxed);
        self.0.run.bytes_in.fetch_add(n, Ordering::Relaxed);
    }

    /// Counts decompressed bytes, of the archive or of a codec within it. They are held to the ratio where any codec made them.
    pub(crate) fn put_out(&self, n: u64, is_decoded: bool) -> Result<(), Failure> {
        let limits = &self.0.limits;
        let out = self.0.bytes_out.fetch_add(n, Ordering::Relaxed).saturating_add(n);
        let of_run = self.0.run.bytes_out.fetch_add(n, Ordering::Relaxed).saturating_add(n);
        if out > limits.archive_bytes {
            let detail = past("decompressed bytes of the archive", "archive_bytes", limits.archive_bytes);
            return Err(Failure::Archive(Reason::TooManyBytes, detail));
        }
        if of_run > limits.run_bytes {
            return Err(Failure::Run(past("decompressed bytes of the run", "run_bytes", limits.run_bytes)));
        }
        if is_decoded && out > limits.ratio_floor_bytes && out / limits.ratio.max(1) > self.compressed() {
            let detail = past("decompressed bytes for each compressed one", "ratio", limits.ratio);
            return Err(Failure::Archive(Reason::RatioExceeded, detail));
        }
        Ok(())
    }

    /// Counts fields that are parsed and written: those that a line lacks cost as much as others, and have no bytes.
    pub(crate) fn put_fields(&self, n: u64) -> Result<(), Failure> {
        let limits = &self.0.limits;
        let fields = self.0.fields.fetch_add(n, Ordering::Relaxed).saturating_add(n);
        if fields > limits.ratio_floor_bytes && fields / limits.field_ratio.max(1) > self.compressed() {
            let detail = past("fields for each compressed byte", "field_ratio", limits.field_ratio);
            return Err(Failure::Archive(Reason::RatioExceeded, detail));
        }
        Ok(())
    }

    pub(crate) fn put_member(&self) -> Result<(), Failure> {
        let most = self.0.limits.run_members;
        if self.0.run.members.fetch_add(1, Ordering::Relaxed) >= most {
            return Err(Failure::Run(past("members of the run", "run_members", most)));
        }
        Ok(())
    }

    /// Whether the run still wants the archive.
    pub(crate) fn check(&self) -> io::Result<()> {
        if self.0.run.cancelled.load(Ordering::Relaxed) { Err(Failure::Cancelled.into()) } else { Ok(()) }
    }
}

/// A file's bytes from front to back: one request, read ahead by a few chunks. Ends with an error unless as many bytes came
/// as the file has.
pub(crate) struct Download {
    chunks: Chunks,
    current: Bytes,
    expected: u64,
    watch: Watch,
    location: String,
}

enum Chunks {
    Store(mpsc::Receiver<Result<Bytes>>),
    Local(File),
}

impl Chunks {
    /// The next bytes; `None` at the end.
    fn next(&mut self) -> Option<Result<Bytes>> {
        match self {
            Self::Store(chunks) => chunks.blocking_recv(),
            Self::Local(file) => {
                let mut chunk = vec![0; LOCAL_BYTES];
                let read = loop {
                    match file.read(&mut chunk) {
                        Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                        read => break read,
                    }
                };
                match read {
                    Ok(0) => None,
                    Ok(n) => {
                        chunk.truncate(n);
                        Some(Ok(Bytes::from(chunk)))
                    }
                    Err(error) => Some(Err(error.into())),
                }
            }
        }
    }
}

impl Download {
    /// The bytes of a file on the local disk.
    pub(crate) fn local(file: File, location: &str, size: u64, watch: Watch) -> Self {
        let (chunks, location) = (Chunks::Local(file), location.to_string());
        Self { chunks, current: Bytes::new(), expected: size, watch, location }
    }

    pub(crate) fn start(storage: &Storage, location: &str, size: u64, watch: Watch, handle: &Handle) -> Self {
        let (sender, chunks) = mpsc::channel(CHUNKS_AHEAD);
        let (storage, from) = (storage.clone(), location.to_string());
        // Ends by itself when the receiver is dropped.
        handle.spawn(async move {
            match storage.read_stream(&from).await {
                Ok(mut stream) => {
                    while let Some(chunk) = stream.next().await {
                        if sender.send(chunk).await.is_err() {
                            return;
                        }
                    }
                }
                Err(error) => drop(sender.send(Err(error)).await),
            }
        });
        let (chunks, location) = (Chunks::Store(chunks), location.to_string());
        Self { chunks, current: Bytes::new(), expected: size, watch, location }
    }

    pub(crate) fn watch(&self) -> Watch {
        self.watch.clone()
    }

    fn of_another_size(&self) -> Failure {
        let words = "the file's size is not the one that was listed; list it again";
        let error = Error::new(ErrorKind::Transient, words).with("file", &self.location);
        Failure::Storage(error.with("listed", self.expected).with("read", self.watch.bytes_in()))
    }
}

impl BufRead for Download {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.current.is_empty() {
            self.watch.check()?;
            match self.chunks.next() {
                Some(Ok(chunk)) => {
                    self.watch.put_in(chunk.len() as u64);
                    // One that grows while it is read may never end.
                    if self.watch.bytes_in() > self.expected {
                        return Err(self.of_another_size().into());
                    }
                    self.current = chunk;
                }
                Some(Err(error)) => return Err(Failure::Storage(error).into()),
                None if self.watch.bytes_in() != self.expected => return Err(self.of_another_size().into()),
                None => break,
            }
        }
        Ok(&self.current)
    }

    fn consume(&mut self, n: usize) {
        self.current.advance(n.min(self.current.len()));
    }
}

impl Read for Download {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let n = available.len().min(into.len());
        into[..n].copy_from_slice(&available[..n]);
        self.consume(n);
        Ok(n)
    }
}

/// A file's bytes by ranges, one block held at a time.
pub(crate) struct Ranges {
    storage: Storage,
    /// The file itself, on a local disk.
    local: Option<File>,
    location: String,
    size: u64,
    at: u64,
    block: Bytes,
    block_at: u64,
    watch: Watch,
    handle: Handle,
}

impl Ranges {
    pub(crate) fn new(
        storage: &Storage,
        location: &str,
        local: Option<File>,
        size: u64,
        watch: Watch,
        handle: &Handle,
    ) -> Self {
        Self {
            storage: storage.clone(),
            local,
            location: location.to_string(),
            size,
            at: 0,
            block: Bytes::new(),
            block_at: 0,
            watch,
            handle: handle.clone(),
        }
    }

    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    pub(crate) fn watch(&self) -> Watch {
        self.watch.clone()
    }
}

impl Read for Ranges {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.at >= self.size || into.is_empty() {
            return Ok(0);
        }
        let held = self.block_at..self.block_at + self.block.len() as u64;
        if !held.contains(&self.at) {
            self.watch.check()?;
            if self.watch.bytes_in() > self.size.saturating_mul(TIMES_OVER).saturating_add(64 * RANGE_BYTES) {
                let detail =
                    format!("its members overlap, or lie so that it is read {TIMES_OVER} times over");
                return Err(Failure::Archive(Reason::Corrupt, detail).into());
            }
            let range = self.at..self.size.min(self.at + RANGE_BYTES);
            self.block = match &mut self.local {
                Some(file) => {
                    let mut block = vec![0; (range.end - range.start) as usize];
                    file.seek(SeekFrom::Start(range.start))?;
                    file.read_exact(&mut block)?;
                    Bytes::from(block)
                }
                None => {
                    let read = self.storage.read_range(&self.location, range);
                    self.handle.block_on(read).map_err(Failure::Storage)?
                }
            };
            self.block_at = self.at;
            self.watch.put_in(self.block.len() as u64);
        }
        let from = (self.at - self.block_at) as usize;
        let available = self.block.get(from..).unwrap_or_default();
        let n = available.len().min(into.len());
        into[..n].copy_from_slice(&available[..n]);
        self.at += n as u64;
        Ok(n)
    }
}

impl Seek for Ranges {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let to = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.size.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at =
            to.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "a place before the file's start"))?;
        Ok(self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_grows_while_it_is_read_is_not_read_on() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().join("a.csv");
        std::fs::write(&at, vec![b'1'; 40 * LOCAL_BYTES]).unwrap();
        for listed in [0, 10, 2 * LOCAL_BYTES as u64] {
            let watch = Watch::new(Arc::default(), &Limits::default(), None);
            let file = File::open(&at).unwrap();
            let read = io::copy(&mut Download::local(file, "a.csv", listed, watch.clone()), &mut io::sink());
            let failure = Failure::from(read.unwrap_err());
            assert!(matches!(&failure, Failure::Storage(error) if error.is_retryable()), "{failure}");
            assert!(watch.bytes_in() <= listed + LOCAL_BYTES as u64, "{} of {listed}", watch.bytes_in());
        }
    }
}
