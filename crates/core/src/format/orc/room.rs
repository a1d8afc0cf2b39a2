//! How much memory decoded values may fill. A few bytes of a file can stand for any number of values.

use crate::error::{Error, Result};

/// What a batch may take, in bytes.
const BATCH_BYTES: u64 = 256 << 20;

/// What the dictionaries of a stripe may take together, in bytes.
const DICTIONARIES_BYTES: u64 = 512 << 20;

/// What is left of some memory.
#[derive(Debug)]
pub(super) struct Room {
    of: u64,
    /// `None` after more was asked for than there was.
    left: Option<u64>,
}

impl Room {
    pub(super) fn for_batch() -> Self {
        Self { of: BATCH_BYTES, left: Some(BATCH_BYTES) }
    }

    pub(super) fn for_dictionaries() -> Self {
        Self { of: DICTIONARIES_BYTES, left: Some(DICTIONARIES_BYTES) }
    }

    /// Takes room for so many values of so many bytes each.
    pub(super) fn take(&mut self, values: usize, bytes: usize) -> Result<()> {
        let taken = (values as u64).saturating_mul(bytes as u64);
        self.left = self.left.and_then(|left| left.checked_sub(taken));
        if self.left.is_some() {
            return Ok(());
        }
        Err(Error::unsupported(
            "a row of the file, or the dictionaries of a stripe of it, are too large to be read; \
             rewrite it with the engine that wrote it, in Parquet",
        )
        .with("limit", format!("{} MiB", self.of >> 20)))
    }

    /// Whether more was asked for than there was.
    pub(super) fn is_exceeded(&self) -> bool {
        self.left.is_none()
    }
}
