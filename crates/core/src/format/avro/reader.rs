//! Values off the front of some bytes.

use super::schema::{Field, Schema};
use crate::error::Result;
use crate::format::source::broken;

/// How deep values may nest.
const MAX_DEPTH: usize = 64;
/// For how many items memory is taken before they are read.
const MAX_AHEAD: usize = 1024;

/// Bytes that are read from the front.
#[derive(Debug)]
pub(in crate::format) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    /// How many bytes are left.
    pub(super) fn left(&self) -> usize {
        self.rest.len()
    }

    pub(super) fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or_else(|| broken("it is cut short"))?;
        self.rest = rest;
        Ok(taken)
    }

    /// A zigzag varint.
    fn varint(&mut self) -> Result<i64> {
        let mut value = 0_u64;
        for (at, byte) in self.rest.iter().take(10).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * at);
            if byte & 0x80 == 0 {
                self.rest = self.rest.get(at + 1..).unwrap_or_default();
                return Ok((value >> 1) as i64 ^ -((value & 1) as i64));
            }
        }
        Err(broken("a number in it has no end"))
    }

    pub(super) fn length(&mut self) -> Result<usize> {
        usize::try_from(self.varint()?).map_err(|_| broken("a length in it is negative"))
    }

    pub(super) fn bytes(&mut self) -> Result<&'a [u8]> {
        let length = self.length()?;
        self.take(length)
    }

    /// Bytes that must be so many.
    fn sized(&mut self, size: usize) -> Result<&'a [u8]> {
        let bytes = self.bytes()?;
        if bytes.len() == size { Ok(bytes) } else { Err(broken("a fixed value in it has another length")) }
    }

    /// How many items the array or map ahead seems to have: a hint for how much memory to take, which no bytes can make large.
    pub(in crate::format) fn items_ahead(&self) -> usize {
        let count = Self { rest: self.rest }.varint().unwrap_or_default();
        usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX).min(self.left() / 2).min(MAX_AHEAD)
    }

    /// The items of an array or map, block by block.
    pub(super) fn blocks(&mut self, mut item: impl FnMut(&mut Self) -> Result<()>) -> Result<()> {
        loop {
            let count = self.varint()?;
            if count == 0 {
                return Ok(());
            }
            if count < 0 {
                self.varint()?; // the block's size in bytes, for those who skip
            }
            for _ in 0..count.unsigned_abs() {
                // An item takes a byte at least (Iceberg has no arrays of nulls), or a count could keep this busy for ever.
                if self.is_at_end() {
                    return Err(broken("it is cut short"));
                }
                item(self)?;
            }
        }
    }

    /// Passes over the items of an array or map: whole blocks, where they say how long they are.
    fn skip_blocks(&mut self, mut item: impl FnMut(&mut Self) -> Result<()>) -> Result<()> {
        loop {
            let count = self.varint()?;
            match count {
                0 => return Ok(()),
                ..0 => {
                    let size = self.length()?;
                    self.take(size)?;
                }
                _ => {
                    for _ in 0..count {
                        if self.is_at_end() {
                            return Err(broken("it is cut short"));
                        }
                        item(self)?;
                    }
                }
            }
        }
    }

    /// The fields of a record, in the file's order. `field` takes the value of one that it knows, by its id, and says so; others
    /// are skipped.
    pub(in crate::format) fn record(
        &mut self,
        schema: &Schema,
        mut field: impl FnMut(&mut Self, i32, &Schema) -> Result<bool>,
    ) -> Result<()> {
        let Schema::Record(fields) = schema.plain() else { return Err(broken("a record of it is none")) };
        for Field { id, schema, .. } in fields.iter() {
            let taken = match id {
                Some(id) => field(self, *id, schema)?,
                None => false,
            };
            if !taken {
                self.skip(schema, 0)?;
            }
        }
        Ok(())
    }

    /// A value that may be null, read by `read` in the schema that it has where it is not.
    pub(in crate::format) fn optional<T>(
        &mut self,
        schema: &Schema,
        read: impl FnOnce(&mut Self, &Schema) -> Result<T>,
    ) -> Result<Option<T>> {
        let schema = match schema {
            Schema::Union(branches) => {
                let branch = self.length()?;
                branches.get(branch).ok_or_else(|| broken("a union in it has no such branch"))?
            }
            other => other,
        };
        match schema {
            Schema::Null => Ok(None),
            schema => read(self, schema).map(Some),
        }
    }

    pub(in crate::format) fn long(&mut self, schema: &Schema) -> Result<i64> {
        match schema.plain() {
            Schema::Int | Schema::Long => self.varint(),
            _ => Err(broken("a number in it is of another type")),
        }
    }

    pub(in crate::format) fn int(&mut self, schema: &Schema) -> Result<i32> {
        i32::try_from(self.long(schema)?).map_err(|_| broken("a number in it is too large"))
    }

    pub(in crate::format) fn boolean(&mut self, schema: &Schema) -> Result<bool> {
        match schema.plain() {
            Schema::Boolean => Ok(self.take(1)? != [0]),
            _ => Err(broken("a boolean in it is of another type")),
        }
    }

    pub(in crate::format) fn float(&mut self, schema: &Schema) -> Result<f32> {
        match (schema.plain(), self.take(4)?.first_chunk()) {
            (Schema::Float, Some(bytes)) => Ok(f32::from_le_bytes(*bytes)),
            _ => Err(broken("a float in it is of another type")),
        }
    }

    pub(in crate::format) fn double(&mut self, schema: &Schema) -> Result<f64> {
        match (schema.plain(), self.take(8)?.first_chunk()) {
            (Schema::Double, Some(bytes)) => Ok(f64::from_le_bytes(*bytes)),
            _ => Err(broken("a double in it is of another type")),
        }
    }

    /// Bytes, a fixed value, or the bytes of a string.
    pub(in crate::format) fn binary(&mut self, schema: &Schema) -> Result<&'a [u8]> {
        match schema.plain() {
            Schema::Bytes | Schema::String => self.bytes(),
            Schema::Fixed(size) => self.take(*size),
            Schema::Sized(size) => self.sized(*size),
            _ => Err(broken("bytes in it are of another type")),
        }
    }

    pub(in crate::format) fn text(&mut self, schema: &Schema) -> Result<&'a str> {
        let bytes = self.binary(schema)?;
        std::str::from_utf8(bytes).map_err(|e| broken("a text in it is not UTF-8").with_source(e))
    }

    /// Passes over a value.
    pub(in crate::format) fn pass(&mut self, schema: &Schema) -> Result<()> {
        self.skip(schema, 0)
    }

    /// The items of an array.
    pub(in crate::format) fn array(
        &mut self,
        schema: &Schema,
        mut item: impl FnMut(&mut Self, &Schema) -> Result<()>,
    ) -> Result<()> {
        let Schema::Array(items) = schema.plain() else { return Err(broken("a list in it is none")) };
        self.blocks(|reader| item(reader, &items.schema))
    }

    pub(super) fn skip(&mut self, schema: &Schema, depth: usize) -> Result<()> {
        if depth > MAX_DEPTH {
            return Err(broken("a value in it nests too deep"));
        }
        match schema {
            Schema::Null => Ok(()),
            Schema::Boolean => self.take(1).map(drop),
            Schema::Int | Schema::Long | Schema::Enum(_) => self.varint().map(drop),
            Schema::Float => self.take(4).map(drop),
            Schema::Double => self.take(8).map(drop),
            Schema::Bytes | Schema::String => self.bytes().map(drop),
            Schema::Fixed(size) => self.take(*size).map(drop),
            Schema::Sized(size) => self.sized(*size).map(drop),
            Schema::Record(fields) => fields.iter().try_for_each(|field| self.skip(&field.schema, depth + 1)),
            Schema::Array(items) => self.skip_blocks(|reader| reader.skip(&items.schema, depth + 1)),
            Schema::Map(_, values) => self.skip_blocks(|reader| {
                reader.bytes()?;
                reader.skip(&values.schema, depth + 1)
            }),
            Schema::Logical(_, schema) => self.skip(schema, depth),
            Schema::Union(_) => {
                self.optional(schema, |reader, schema| reader.skip(schema, depth + 1)).map(drop)
            }
        }
    }
}

/// A decimal's digits: big-endian two's complement of up to 16 bytes.
pub(in crate::format) fn unscaled(bytes: &[u8]) -> Option<i128> {
    let negative = bytes.first().is_some_and(|first| first & 0x80 != 0);
    let mut whole = [if negative { 0xff } else { 0 }; 16];
    let start = whole.len().checked_sub(bytes.len())?;
    whole.get_mut(start..)?.copy_from_slice(bytes);
    Some(i128::from_be_bytes(whole))
}
