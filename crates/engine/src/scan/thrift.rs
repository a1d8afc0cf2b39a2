//! Looks at Parquet's metadata before the Parquet library reads it, which takes memory for as many things as a list says that it
//! has, and goes down a schema by recursion: a footer of fifty bytes could end the process.
//!
//! What is looked at is only how things lie in Thrift's compact form: every list is as long as it says, nothing nests deeper than it
//! may, and a schema's groups have the children that they say.

use parquet::errors::{ParquetError, Result};

/// How deep the library's own structures nest, and more.
const MAX_DEPTH: usize = 32;
/// How deep the groups of a schema may nest. Writers go a few levels deep.
const MAX_SCHEMA_DEPTH: usize = 200;
/// The most elements of a schema, and row groups: each takes a hundred bytes before it is read.
const MAX_ELEMENTS: usize = 1 << 20;
/// The places of the schema and of the row groups in a footer.
const SCHEMA: i64 = 2;
const ROW_GROUPS: i64 = 4;
/// The place of the number of children in an element of a schema.
const CHILDREN: i64 = 5;

/// Types of fields and elements.
const TRUE: u8 = 1;
const FALSE: u8 = 2;
const BYTE: u8 = 3;
const I16: u8 = 4;
const I64: u8 = 6;
const DOUBLE: u8 = 7;
const BINARY: u8 = 8;
const LIST: u8 = 9;
const SET: u8 = 10;
const MAP: u8 = 11;
const STRUCT: u8 = 12;
const UUID: u8 = 13;

/// Checks a footer, without its length and magic.
///
/// # Errors
/// When the library can't read it safely.
pub(super) fn check_footer(footer: &[u8]) -> Result<()> {
    let mut reader = Reader { left: footer };
    reader.structure(MAX_DEPTH, &mut |reader, id, of| match (id, of) {
        (SCHEMA, LIST) => reader.schema().map(|()| true),
        (ROW_GROUPS, LIST) => {
            let (count, of) = reader.list()?;
            if count > MAX_ELEMENTS {
                return Err(broken("it has too many row groups"));
            }
            reader.elements(count, of, MAX_DEPTH).map(|()| true)
        }
        _ => Ok(false),
    })
}

/// Checks a structure that is not a footer, such as a column's page index.
///
/// # Errors
/// As [`check_footer`].
pub(super) fn check_structure(bytes: &[u8]) -> Result<()> {
    Reader { left: bytes }.structure(MAX_DEPTH, &mut |_, _, _| Ok(false))
}

fn broken(why: &str) -> ParquetError {
    ParquetError::General(format!("the file's metadata is none that can be read: {why}"))
}

fn cut_short() -> ParquetError {
    broken("it is cut short")
}

struct Reader<'a> {
    left: &'a [u8],
}

/// What is done with a field, by its place and type; false where it is passed over.
type Field<'f, 'a> = dyn FnMut(&mut Reader<'a>, i64, u8) -> Result<bool> + 'f;

impl<'a> Reader<'a> {
    fn byte(&mut self) -> Result<u8> {
        let (first, left) = self.left.split_first().ok_or_else(cut_short)?;
        self.left = left;
        Ok(*first)
    }

    fn skip(&mut self, bytes: usize) -> Result<()> {
        self.left = self.left.get(bytes..).ok_or_else(cut_short)?;
        Ok(())
    }

    fn number(&mut self) -> Result<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(broken("a number in it is too long"))
    }

    fn signed(&mut self) -> Result<i64> {
        let number = self.number()?;
        Ok((number >> 1) as i64 ^ -((number & 1) as i64))
    }

    /// A length in bytes, or a number of things that take a byte each at least.
    fn length(&mut self) -> Result<usize> {
        let length = usize::try_from(self.number()?).map_err(|_| cut_short())?;
        if length > self.left.len() { Err(cut_short()) } else { Ok(length) }
    }

    /// The number and the type of a list's elements.
    fn list(&mut self) -> Result<(usize, u8)> {
        let header = self.byte()?;
        let count = match header >> 4 {
            15 => self.length()?,
            count => usize::from(count),
        };
        if count > self.left.len() { Err(cut_short()) } else { Ok((count, header & 0x0f)) }
    }

    fn elements(&mut self, count: usize, of: u8, depth: usize) -> Result<()> {
        (0..count).try_for_each(|_| match of {
            // Among elements these take a byte.
            TRUE | FALSE => self.skip(1),
            of => self.value(of, depth),
        })
    }

    fn value(&mut self, of: u8, depth: usize) -> Result<()> {
        let depth = depth.checked_sub(1).ok_or_else(|| broken("it nests too deep"))?;
        match of {
            TRUE | FALSE => Ok(()),
            BYTE => self.skip(1),
            I16..=I64 => self.number().map(drop),
            DOUBLE => self.skip(8),
            UUID => self.skip(16),
            BINARY => {
                let length = self.length()?;
                self.skip(length)
            }
            LIST | SET => {
                let (count, of) = self.list()?;
                self.elements(count, of, depth)
            }
            MAP => {
                let count = self.length()?;
                let of = if count == 0 { 0 } else { self.byte()? };
                (0..count).try_for_each(|_| {
                    self.elements(1, of >> 4, depth)?;
                    self.elements(1, of & 0x0f, depth)
                })
            }
            STRUCT => self.structure(depth, &mut |_, _, _| Ok(false)),
            _ => Err(broken("it has a field of no known type")),
        }
    }

    fn structure(&mut self, depth: usize, field: &mut Field<'_, 'a>) -> Result<()> {
        let mut last = 0_i64;
        loop {
            let header = self.byte()?;
            if header == 0 {
                return Ok(());
            }
            last = match header >> 4 {
                0 => self.signed()?,
                ahead => last.saturating_add(ahead.into()),
            };
            let of = header & 0x0f;
            if !field(self, last, of)? {
                self.value(of, depth)?;
            }
        }
    }

    /// The elements of a schema, each group before its children.
    fn schema(&mut self) -> Result<()> {
        let (count, of) = self.list()?;
        if of != STRUCT {
            return Err(broken("its schema is none"));
        }
        if count > MAX_ELEMENTS {
            return Err(broken("its schema has too many columns"));
        }
        // How many children are still to come, of each group that is open.
        let mut open: Vec<usize> = Vec::new();
        for left in (0..count).rev() {
            let mut children = 0;
            self.structure(MAX_DEPTH, &mut |reader, id, of| match (id, of) {
                (CHILDREN, I16..=I64) => {
                    children = reader.signed()?;
                    Ok(true)
                }
                _ => Ok(false),
            })?;
            let children = usize::try_from(children).ok().filter(|children| *children <= left);
            let children =
                children.ok_or_else(|| broken("a group of its schema has more children than there are"))?;
            while open.last() == Some(&0) {
                open.pop();
            }
            if let Some(siblings) = open.last_mut() {
                *siblings -= 1;
            }
            if children > 0 {
                open.push(children);
            }
            if open.len() > MAX_SCHEMA_DEPTH {
                return Err(broken("its schema nests too deep"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, ListArray, RecordBatch, StringArray, StructArray};
    use arrow::datatypes::{Field, Int64Type};
    use parquet::arrow::ArrowWriter;
    use parquet::file::metadata::ParquetMetaDataReader;

    use super::*;

    /// The footers of files, and the page indexes of one.
    fn footers() -> Vec<Vec<u8>> {
        let numbers =
            Arc::new(Int64Array::from_iter((0..5000).map(|n| (n % 3 > 0).then_some(n)))) as ArrayRef;
        let texts = Arc::new(StringArray::from_iter_values((0..5000).map(|n| format!("{n}")))) as ArrayRef;
        let lists =
            ListArray::from_iter_primitive::<Int64Type, _, _>((0..5000).map(|n| Some(vec![Some(n); 2])));
        let inner = Arc::new(Field::new("n", numbers.data_type().clone(), true));
        let nested = StructArray::from(vec![(inner, numbers.clone())]);
        let columns =
            [("n", numbers), ("t", texts), ("l", Arc::new(lists) as ArrayRef), ("s", Arc::new(nested))];
        let batch =
            RecordBatch::try_from_iter_with_nullable(columns.map(|(name, of)| (name, of, true))).unwrap();
        let files = [0, 1, 5000].map(|rows| {
            let mut file = Vec::new();
            let mut writer = ArrowWriter::try_new(&mut file, batch.schema(), None).unwrap();
            writer.write(&batch.slice(0, rows)).unwrap();
            writer.close().unwrap();
            let end = file.len() - 8;
            let length = u32::from_le_bytes(file[end..end + 4].try_into().unwrap()) as usize;
            file[end - length..end].to_vec()
        });
        files.into()
    }

    #[test]
    fn footers_are_taken_and_those_cut_short_are_not() {
        for footer in footers() {
            check_footer(&footer).unwrap();
            for end in 0..footer.len() {
                check_footer(&footer[..end]).unwrap_err();
            }
        }
    }

    /// The library takes what was checked, whatever byte is another: it fails, or it does not, and goes on.
    #[test]
    fn a_footer_with_another_byte_is_refused_or_read_safely() {
        for footer in footers() {
            for at in 0..footer.len() {
                for byte in [0, 0x19, 0xfc, 0xff] {
                    let mut other = footer.clone();
                    other[at] = byte;
                    if check_footer(&other).is_ok() {
                        let _ = std::panic::catch_unwind(|| {
                            ParquetMetaDataReader::decode_metadata(&other).map(drop)
                        });
                    }
                }
            }
        }
    }

    #[test]
    fn lists_and_schemas_that_say_too_much_are_refused() {
        // The schema's list: of two thousand million elements.
        let long = [0x15, 2, 0x19, 0xfc, 0xff, 0xff, 0xff, 0xff, 0x07, 0, 0];
        check_footer(&long).unwrap_err();
        // An element is a repetition, a name and a number of children.
        let schema = |children: &[i32]| {
            let mut footer = vec![0x15, 2, 0x19, 0xfc];
            let number = |mut value: u32, footer: &mut Vec<u8>| {
                while value > 0x7f {
                    footer.push(value as u8 | 0x80);
                    value >>= 7;
                }
                footer.push(value as u8);
            };
            number(children.len() as u32, &mut footer);
            for children in children {
                footer.extend([0x35, 0, 0x18, 1, b'a', 0x15]);
                number((children << 1) as u32, &mut footer);
                footer.push(0);
            }
            footer.extend([0x16, 0, 0x19, 0x0c, 0]);
            footer
        };
        check_footer(&schema(&[2, 0, 1, 0])).unwrap();
        check_footer(&schema(&[1; 100])).unwrap_err();
        check_footer(&schema(&[i32::MAX >> 1, 0])).unwrap_err();
        let mut deep = vec![1; 100];
        deep.push(0);
        check_footer(&schema(&deep)).unwrap();
        deep.splice(0..0, vec![1; 100_000]);
        check_footer(&schema(&deep)).unwrap_err();
        // Structures in structures.
        check_structure(&[0x1c; 100_000]).unwrap_err();
        check_structure(&[0x19, 0x19, 0x19, 0x19]).unwrap_err();
        check_structure(&[0x1b, 0xff, 0xff, 0xff, 0xff, 0x0f, 0x88]).unwrap_err();
    }
}
