//! Deletion vectors: a bitmap of positions, as the blob `deletion-vector-v1` of a Puffin file has it.
//!
//! The blob: its length (of what follows without the checksum, 4 bytes, big-endian), the magic bytes, a 64-bit Roaring
//! bitmap in the portable form, a CRC-32 of magic and bitmap (4 bytes, big-endian).

use std::io::Cursor;

use roaring::RoaringTreemap;

use crate::error::{Error, ErrorKind, Result};
use crate::format::{LiveFile, unreadable};
use crate::storage::Storage;

const MAGIC: [u8; 4] = [0xd1, 0xd3, 0x39, 0x64];
/// Length, magic and checksum.
const FRAME_BYTES: usize = 12;
/// Positions are rows of a file: no file has more.
pub(super) const MAX_POSITION: u64 = i64::MAX as u64;
/// The largest blob that is read, in bytes: a vector of every second row of 8 billion.
pub(super) const MAX_BLOB_BYTES: u64 = 1 << 30;

/// The positions that a deletion vector deletes. One request for a range of its Puffin file.
///
/// # Errors
/// [`DataInvalid`](crate::ErrorKind::DataInvalid) naming the file when entry or blob is not as the specification has it.
pub async fn load_deletion_vector(storage: &Storage, delete: &LiveFile) -> Result<RoaringTreemap> {
    let file = &delete.file;
    let about = |e: Error| {
        let of = file.referenced_data_file().unwrap_or_default();
        e.with("file", file.file_path()).with("data_file", of)
    };
    let range = match (file.content_offset(), file.content_size_in_bytes()) {
        (Some(offset), Some(size)) => match (u64::try_from(offset), u64::try_from(size)) {
            (Ok(offset), Ok(size)) if size <= MAX_BLOB_BYTES => {
                offset.checked_add(size).map(|end| offset..end)
            }
            _ => None,
        },
        _ => None,
    };
    let range =
        range.ok_or_else(|| about(broken("its entry does not say where in the Puffin file it is")))?;
    let blob = storage.read_range(file.file_path(), range).await;
    let blob = blob.map_err(|e| unreadable(e, file.file_path()))?;
    let vector = parse_deletion_vector(&blob).map_err(about)?;
    if vector.len() != file.record_count() {
        return Err(about(broken("it does not delete as many rows as its entry says"))
            .with("rows", vector.len())
            .with("entry", file.record_count()));
    }
    Ok(vector)
}

/// The positions in a blob.
///
/// # Errors
/// As [`load_deletion_vector`].
pub fn parse_deletion_vector(blob: &[u8]) -> Result<RoaringTreemap> {
    let frame = blob.len().checked_sub(FRAME_BYTES);
    let (Some(_), Some((length, rest))) = (frame, blob.split_first_chunk::<4>()) else {
        return Err(broken("it is cut short"));
    };
    let Some((body, checksum)) = rest.split_last_chunk::<4>() else { return Err(broken("it is cut short")) };
    if u32::from_be_bytes(*length) as usize != body.len() {
        return Err(broken("its length is not what it says"));
    }
    let mut crc = flate2::Crc::new();
    crc.update(body);
    if crc.sum() != u32::from_be_bytes(*checksum) {
        return Err(broken("its checksum does not fit"));
    }
    let bitmap = body.strip_prefix(&MAGIC).ok_or_else(|| broken("it does not begin as one"))?;
    let mut cursor = Cursor::new(bitmap);
    let vector = RoaringTreemap::deserialize_from(&mut cursor)
        .map_err(|e| broken("its bitmap can't be read").with_source(e))?;
    if cursor.position() != bitmap.len() as u64 {
        return Err(broken("bytes follow its bitmap"));
    }
    if vector.max().is_some_and(|last| last > MAX_POSITION) {
        return Err(broken("it deletes rows that no file can have"));
    }
    Ok(vector)
}

/// The blob of a deletion vector. Runs of positions are stored as such.
///
/// # Errors
/// [`ResourceExhausted`](crate::ErrorKind::ResourceExhausted) for a vector of 4 GiB.
pub(super) fn serialize_deletion_vector(mut vector: RoaringTreemap) -> Result<Vec<u8>> {
    vector.optimize();
    let mut blob = Vec::with_capacity(FRAME_BYTES + vector.serialized_size());
    blob.extend_from_slice(&[0; 4]);
    blob.extend_from_slice(&MAGIC);
    vector
        .serialize_into(&mut blob)
        .map_err(|e| Error::internal("a deletion vector can't be written to memory").with_source(e))?;
    let length = u32::try_from(blob.len() - 4).map_err(|_| {
        let message = "the deletion vector is longer than readers take; rewrite the data file instead";
        Error::new(ErrorKind::ResourceExhausted, message)
    })?;
    let (head, body) = blob.split_at_mut(4);
    head.copy_from_slice(&length.to_be_bytes());
    let mut crc = flate2::Crc::new();
    crc.update(body);
    blob.extend_from_slice(&crc.sum().to_be_bytes());
    Ok(blob)
}

fn broken(why: &str) -> Error {
    Error::data_invalid(format!(
        "the deletion vector can't be read: {why}; restore the file, or roll back to an earlier snapshot"
    ))
}
