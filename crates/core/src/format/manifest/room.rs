//! [`Room`]: how much memory the reading of a manifest may take, and all that are read at once.

use crate::format::avro::MAX_BLOCK_BYTES;

/// About what manifests that are read at once, and what became of them before it is taken, may hold together, in bytes.
pub(super) const MEMORY: usize = 64 << 20;
/// For each byte of a manifest about so many are held while it is worked on. Compressed ones are five to eight times as long
/// when they are not, and a visitor keeps some of that.
pub(super) const HELD_PER_BYTE: usize = 8;
/// The unit of what is held, in bytes.
pub(super) const UNIT: usize = 1 << 10;
/// Any manifest may hold so much, whatever length its list claims, and any block of one, in bytes.
const ANY: usize = 64 << 10;
const ANY_BLOCK: u64 = 4 << 20;
/// The most that a manifest's file may be, in bytes.
pub(super) const MAX_FILE_BYTES: u64 = 1 << 30;

/// How much memory the reading of one manifest may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// For its file.
    pub(super) file: u64,
    /// For a block of it, decompressed.
    pub(super) block: u64,
}

impl Room {
    /// As much as any manifest gets.
    pub const MOST: Self = Self { file: MAX_FILE_BYTES, block: MAX_BLOCK_BYTES };

    /// The room for a manifest of a length that its list claims, and its units.
    pub(super) fn of(claimed: usize) -> (Self, usize) {
        let held = claimed.saturating_mul(HELD_PER_BYTE).clamp(ANY, MEMORY);
        let file = (held / HELD_PER_BYTE).max(claimed.min(MEMORY)) as u64;
        (Self { file, block: ANY_BLOCK.max(held as u64) }, held / UNIT)
    }
}
