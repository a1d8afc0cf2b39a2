//! LZ4 blocks (`lz4_Block_format.md`): literals and copies of what came before. The workspace has `lz4_flex` for Parquet,
//! with its unsafe decoder: these lines go when it is built with its feature `safe-decode`.

use crate::error::Result;
use crate::format::source::broken;

/// A block decompressed, of `most` bytes at most.
pub(super) fn decompress(mut block: &[u8], most: usize) -> Result<Vec<u8>> {
    let malformed = || broken("a chunk can't be decompressed");
    let mut out: Vec<u8> = Vec::new();
    loop {
        let (token, rest) = block.split_first().ok_or_else(malformed)?;
        block = rest;
        let literals = length(token >> 4, &mut block).ok_or_else(malformed)?;
        let (copied, rest) = block.split_at_checked(literals).ok_or_else(malformed)?;
        block = rest;
        if out.len().saturating_add(literals) > most {
            return Err(broken("a chunk is too large"));
        }
        out.extend_from_slice(copied);
        // The last sequence is of literals alone.
        if block.is_empty() {
            return Ok(out);
        }
        let (offset, rest) = block.split_first_chunk::<2>().ok_or_else(malformed)?;
        block = rest;
        let length = length(token & 15, &mut block).and_then(|length| length.checked_add(4));
        let length = length.ok_or_else(malformed)?;
        let offset = usize::from(u16::from_le_bytes(*offset));
        let from = out.len().checked_sub(offset).filter(|_| offset > 0).ok_or_else(malformed)?;
        if out.len().saturating_add(length) > most {
            return Err(broken("a chunk is too large"));
        }
        // What is copied may reach into the copy.
        for at in from..from + length {
            let byte = out.get(at).copied().ok_or_else(malformed)?;
            out.push(byte);
        }
    }
}

/// A length of 4 bits, which goes on in bytes where it is 15.
fn length(bits: u8, block: &mut &[u8]) -> Option<usize> {
    let mut length = usize::from(bits);
    if bits == 15 {
        loop {
            let (byte, rest) = block.split_first()?;
            *block = rest;
            length = length.checked_add(usize::from(*byte))?;
            if *byte < 255 {
                break;
            }
        }
    }
    Some(length)
}

#[cfg(test)]
mod tests {
    use super::decompress;

    #[test]
    fn copies_may_overlap_and_lengths_go_on() {
        // "ab", then 20 bytes from 2 before, then "c".
        let mut block = vec![0x2f, b'a', b'b', 2, 0, 1, 0x10, b'c'];
        assert_eq!(decompress(&block, 23).unwrap(), ["ab".repeat(11).as_bytes(), b"c"].concat());
        assert!(decompress(&block, 22).is_err(), "more than may come out");
        for end in [0, 1, 2, 4, 5, 6, 7] {
            assert!(decompress(&block[..end], 100).is_err(), "cut at {end}");
        }
        block[3] = 3;
        assert!(decompress(&block, 100).is_err(), "a copy from before the beginning");
    }
}
