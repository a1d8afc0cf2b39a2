//! [`Source`]: the bytes of a file as the readers of formats ask for them, and what they give and say of it.

use std::ops::Range;
use std::sync::Arc;

use arrow_array::RecordBatch;
use bytes::{Bytes, BytesMut};

use crate::error::{Error, ErrorKind, Result};
use crate::storage::Storage;

/// How much of a file that is read from front to back is fetched at once, in bytes.
const WINDOW_BYTES: u64 = 4 << 20;

/// About how much of a file becomes one batch at most, in bytes.
pub(super) const BATCH_BYTES: u64 = 32 << 20;

/// Some rows of a file.
#[derive(Debug, Clone)]
pub struct Rows {
    /// The position of the first one in the file, from 0.
    pub first: u64,
    /// The rows.
    pub batch: RecordBatch,
}

/// The bytes of a file: from front to back, or in ranges.
#[derive(Debug)]
pub(super) struct Source {
    storage: Storage,
    location: Arc<str>,
    size: u64,
    /// Where what is not yet fetched begins.
    next: u64,
    /// What was fetched and is not yet taken.
    held: Bytes,
}

impl Source {
    pub(super) fn new(storage: &Storage, location: &str, size: u64) -> Self {
        Self { storage: storage.clone(), location: location.into(), size, next: 0, held: Bytes::new() }
    }

    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// How much is left, fetched or not.
    pub(super) fn left(&self) -> u64 {
        self.held.len() as u64 + (self.size - self.next)
    }

    /// The bytes that are next, `length` of them at least.
    pub(super) async fn peek(&mut self, length: u64) -> Result<&Bytes> {
        let held = self.held.len() as u64;
        if length > held {
            if length > self.left() {
                return Err(broken("it is cut short"));
            }
            let end = self.next.saturating_add(WINDOW_BYTES.max(length - held)).min(self.size);
            let fetched = self.range(self.next..end).await?;
            self.next = end;
            self.held = if self.held.is_empty() {
                fetched
            } else {
                let mut both = BytesMut::with_capacity(self.held.len() + fetched.len());
                both.extend_from_slice(&self.held);
                both.extend_from_slice(&fetched);
                both.freeze()
            };
        }
        Ok(&self.held)
    }

    /// Takes bytes that were peeked at.
    pub(super) fn take(&mut self, length: usize) -> Bytes {
        self.held.split_to(length.min(self.held.len()))
    }

    /// Takes all that is left, unread.
    pub(super) fn take_all(&mut self) {
        self.held = Bytes::new();
        self.next = self.size;
    }

    /// A range of bytes, wherever the front is.
    pub(super) async fn range(&self, range: Range<u64>) -> Result<Bytes> {
        if range.start > range.end || range.end > self.size {
            return Err(broken("it is cut short"));
        }
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        let length = range.end - range.start;
        let read = self.storage.read_range(&self.location, range).await;
        let bytes = read.map_err(|e| unreadable(e, &self.location))?;
        if bytes.len() as u64 != length {
            return Err(broken("it is shorter than its manifest says"));
        }
        Ok(bytes)
    }
}

const REMEDY: &str = "restore the file, or roll back to an earlier snapshot";

/// The error of a file that is not as its format has it; the caller says which file.
pub(super) fn broken(why: &str) -> Error {
    Error::data_invalid(format!("the file can't be read: {why}; {REMEDY}"))
}

/// The error of reading a file that a snapshot names, as a store or a decoder puts it, with the file's location and, where the
/// file is missing or broken, what to do about it.
pub fn unreadable(error: Error, location: &str) -> Error {
    let error = about(error, location);
    match error.kind() {
        ErrorKind::NotFound => error.reworded(|why| {
            format!(
                "the file is missing: {why}; {REMEDY}, or load the table again if this snapshot has expired"
            )
        }),
        ErrorKind::DataInvalid => error.reworded(|why| format!("the file can't be read: {why}; {REMEDY}")),
        _ => error,
    }
}

/// The error with the file's location, unless it has one.
pub(super) fn about(error: Error, location: &str) -> Error {
    let has_one = error.context().any(|(key, _)| key == "file");
    if has_one { error } else { error.with("file", location) }
}
