//! A decoder for each column of a stripe.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::{ArrayRef, ListArray, MapArray, StructArray};
use arrow_buffer::{NullBuffer, NullBufferBuilder, OffsetBuffer};
use arrow_schema::{DataType, Field, TimeUnit};
use bytes::Bytes;

use super::input::{Codec, Input};
use super::proto::{Encoding, StripeFooter};
use super::rle::{Bits, Integers, Octets, Version};
use super::room::Room;
use super::types::{Kind, Node};
use crate::error::{Error, Result};
use crate::format::source::broken;
use crate::format::values::{Values, offset};

pub(super) const PRESENT: u64 = 0;
const DATA: u64 = 1;
const LENGTH: u64 = 2;
const DICTIONARY_DATA: u64 = 3;
const SECONDARY: u64 = 5;

/// What timestamps count from: 2015 in UTC, in seconds.
const EPOCH: i64 = 1_420_070_400;

/// The streams of a stripe, by column and kind.
#[derive(Debug)]
pub(super) struct Streams {
    pub(super) codec: Codec,
    pub(super) footer: StripeFooter,
    pub(super) bytes: HashMap<(usize, u64), Bytes>,
}

impl Streams {
    /// A stream; without bytes where the stripe has none, as writers do for columns that are all NULL.
    fn stream(&self, node: &Node, kind: u64) -> Input {
        let bytes = self.bytes.get(&(node.column, kind)).cloned().unwrap_or_default();
        Input::new(self.codec, bytes)
    }

    fn integers(&self, node: &Node, kind: u64, signed: bool) -> Result<Integers> {
        let version = match self.encoding(node)?.kind {
            0 | 1 => Version::V1,
            2 | 3 => Version::V2,
            _ => return Err(broken("a column of it is encoded in no known way")),
        };
        Ok(Integers::new(self.stream(node, kind), signed, version))
    }

    fn encoding(&self, node: &Node) -> Result<Encoding> {
        let encoding = self.footer.encodings.get(node.column).copied();
        encoding.ok_or_else(|| broken("a column of it has no encoding"))
    }
}

/// Reads the values of a column. A clone reads the same ones again.
#[derive(Debug, Clone)]
pub(super) struct Column {
    field: Arc<Field>,
    /// Which values there are; without it, all.
    present: Option<Bits>,
    decoder: Decoder,
}

#[derive(Debug, Clone)]
enum Decoder {
    Boolean(Bits),
    Byte(Octets),
    Integer(Integers),
    Float(Input),
    Double(Input),
    Bytes { lengths: Integers, data: Input, is_padded: bool },
    Dictionary { words: Arc<Words>, places: Integers },
    Timestamp { seconds: Integers, nanos: Integers },
    Decimal { digits: Input, scales: Integers },
    List { lengths: Integers, element: Box<Column> },
    Map { lengths: Integers, entries: Box<(Column, Column)> },
    Struct(Vec<Column>),
}

/// The values of a dictionary, one after the other.
#[derive(Debug)]
struct Words {
    data: Vec<u8>,
    ends: Vec<usize>,
}

impl Words {
    fn get(&self, at: usize) -> Option<&[u8]> {
        let start = match at.checked_sub(1) {
            Some(before) => *self.ends.get(before)?,
            None => 0,
        };
        self.data.get(start..*self.ends.get(at)?)
    }
}

impl Column {
    /// The decoder of a column in a stripe. Dictionaries are read into `room`.
    pub(super) fn new(node: &Node, streams: &Streams, room: &mut Room) -> Result<Self> {
        let stream = |kind| streams.stream(node, kind);
        let integers = |kind, signed| streams.integers(node, kind, signed);
        let mut child = |at| match node.children.get(at) {
            Some(child) => Self::new(child, streams, room),
            None => Err(Error::internal("a column lacks a part")),
        };
        let decoder = match node.kind {
            Kind::Boolean => Decoder::Boolean(Bits::new(stream(DATA))),
            Kind::Byte => Decoder::Byte(Octets::new(stream(DATA))),
            Kind::Integer => Decoder::Integer(integers(DATA, true)?),
            Kind::Float => Decoder::Float(stream(DATA)),
            Kind::Double => Decoder::Double(stream(DATA)),
            Kind::Bytes { .. } if matches!(streams.encoding(node)?.kind, 1 | 3) => {
                dictionary(node, streams, room)?
            }
            Kind::Bytes { is_padded } => {
                Decoder::Bytes { lengths: integers(LENGTH, false)?, data: stream(DATA), is_padded }
            }
            Kind::Timestamp { utc } => {
                let zone = streams.footer.writer_zone.as_str();
                if !utc && !matches!(zone, "" | "UTC" | "GMT" | "Etc/UTC" | "Z") {
                    return Err(Error::unsupported(
                        "the file has local timestamps of another time zone than UTC; rewrite it with the engine that wrote it",
                    )
                    .with("column", node.field.name())
                    .with("zone", zone));
                }
                Decoder::Timestamp { seconds: integers(DATA, true)?, nanos: integers(SECONDARY, false)? }
            }
            Kind::Decimal => Decoder::Decimal { digits: stream(DATA), scales: integers(SECONDARY, true)? },
            Kind::List => Decoder::List { lengths: integers(LENGTH, false)?, element: Box::new(child(0)?) },
            Kind::Map => {
                Decoder::Map { lengths: integers(LENGTH, false)?, entries: Box::new((child(0)?, child(1)?)) }
            }
            Kind::Struct => Decoder::Struct((0..node.children.len()).map(child).collect::<Result<_>>()?),
        };
        let present = streams.bytes.contains_key(&(node.column, PRESENT)).then(|| Bits::new(stream(PRESENT)));
        Ok(Self { field: node.field.clone(), present, decoder })
    }

    /// The next `rows` values, in `room`. Where `parent`, which is as long, has none, none is stored.
    ///
    /// # Errors
    /// After one the column is good for nothing.
    pub(super) fn read(
        &mut self,
        rows: usize,
        parent: Option<&NullBuffer>,
        room: &mut Room,
    ) -> Result<ArrayRef> {
        let of = self.field.data_type();
        // A length says how many values a list has, and NULLs of a fixed size take as much as values do.
        room.take(rows, width(of))?;
        let nulls = match &mut self.present {
            Some(present) => {
                let mut there = NullBufferBuilder::new(0);
                for row in 0..rows {
                    there.append(parent.is_none_or(|parent| parent.is_valid(row)) && present.next()?);
                }
                there.finish()
            }
            None => parent.cloned(),
        };
        let is_there = |row: usize| nulls.as_ref().is_none_or(|nulls| nulls.is_valid(row));
        let inconsistent = |e| broken("its values contradict its types").with_source(e);
        match (&mut self.decoder, of) {
            (Decoder::Struct(columns), DataType::Struct(fields)) => {
                if fields.is_empty() {
                    return Ok(Arc::new(StructArray::new_empty_fields(rows, nulls)));
                }
                let columns = columns.iter_mut().map(|column| column.read(rows, nulls.as_ref(), room));
                let columns = columns.collect::<Result<_>>()?;
                Ok(Arc::new(StructArray::try_new(fields.clone(), columns, nulls).map_err(inconsistent)?))
            }
            (Decoder::List { lengths, element }, DataType::List(field)) => {
                let (offsets, total) = offsets(lengths, rows, is_there, room)?;
                let values = element.read(total, None, room)?;
                let list = ListArray::try_new(field.clone(), offsets, values, nulls);
                Ok(Arc::new(list.map_err(inconsistent)?))
            }
            (Decoder::Map { lengths, entries }, DataType::Map(field, _)) => {
                let (offsets, total) = offsets(lengths, rows, is_there, room)?;
                let columns = vec![entries.0.read(total, None, room)?, entries.1.read(total, None, room)?];
                let DataType::Struct(fields) = field.data_type() else {
                    return Err(Error::internal("a map without entries"));
                };
                let entries = StructArray::try_new(fields.clone(), columns, None).map_err(inconsistent)?;
                let map = MapArray::try_new(field.clone(), offsets, entries, nulls, false);
                Ok(Arc::new(map.map_err(inconsistent)?))
            }
            (decoder, of) => {
                let mut values =
                    Values::new(of).ok_or_else(|| Error::internal("a column of no type").with("type", of))?;
                for row in 0..rows {
                    if is_there(row) {
                        decoder.next(&mut values, of, room)?;
                    } else {
                        values.push_null();
                    }
                }
                values.finish(of, nulls)
            }
        }
    }
}

/// Where the lists of so many rows end, and how many elements they have together.
fn offsets(
    lengths: &mut Integers,
    rows: usize,
    is_there: impl Fn(usize) -> bool,
    room: &mut Room,
) -> Result<(OffsetBuffer<i32>, usize)> {
    let (mut offsets, mut total) = (vec![0], 0_usize);
    for row in 0..rows {
        if is_there(row) {
            let length = lengths.length()?;
            room.take(length, 1)?;
            total = total.checked_add(length).ok_or_else(|| broken("a list of it is too long"))?;
        }
        offsets.push(offset(total)?);
    }
    Ok((OffsetBuffer::new(offsets.into()), total))
}

/// What a value takes in an array, in bytes: itself or where it ends, and whether it is there.
fn width(of: &DataType) -> usize {
    1 + match of {
        DataType::FixedSizeBinary(size) => usize::try_from(*size).unwrap_or_default(),
        of => of.primitive_width().unwrap_or(size_of::<i32>()),
    }
}

/// Reads the dictionary of a column.
fn dictionary(node: &Node, streams: &Streams, room: &mut Room) -> Result<Decoder> {
    let is_padded = matches!(node.kind, Kind::Bytes { is_padded: true });
    let size = streams.encoding(node)?.dictionary_size;
    let mut lengths = streams.integers(node, LENGTH, false)?;
    let mut data = streams.stream(node, DICTIONARY_DATA);
    let mut words = Words { data: Vec::new(), ends: Vec::new() };
    for _ in 0..size {
        let length = lengths.length()?;
        room.take(1, length.saturating_add(size_of::<usize>()))?;
        text(&mut data, length, is_padded, &mut words.data)?;
        words.ends.push(words.data.len());
    }
    Ok(Decoder::Dictionary { words: Arc::new(words), places: streams.integers(node, DATA, false)? })
}

/// Appends a value, without the spaces that writers fill values of the type `char` up with.
fn text(data: &mut Input, length: usize, is_padded: bool, into: &mut Vec<u8>) -> Result<()> {
    let start = into.len();
    data.bytes(length, into)?;
    if is_padded {
        let value = into.get(start..).unwrap_or_default();
        let end = value.iter().rposition(|byte| *byte != b' ').map_or(start, |last| start + last + 1);
        into.truncate(end);
    }
    Ok(())
}

impl Decoder {
    /// Reads one value.
    fn next(&mut self, values: &mut Values, of: &DataType, room: &mut Room) -> Result<()> {
        match (self, values) {
            (Self::Boolean(bits), Values::Boolean(values)) => values.append(bits.next()?),
            (Self::Byte(bytes), Values::Int(values)) => values.push(i32::from(bytes.next()? as i8)),
            (Self::Integer(integers), Values::Int(values)) => {
                let value = i32::try_from(integers.next()?);
                values.push(value.map_err(|_| broken("a number in it is too large"))?);
            }
            (Self::Integer(integers), Values::Long(values)) => values.push(integers.next()?),
            (Self::Float(input), Values::Float(values)) => values.push(f32::from_le_bytes(input.array()?)),
            (Self::Double(input), Values::Double(values)) => values.push(f64::from_le_bytes(input.array()?)),
            (Self::Bytes { lengths, data, is_padded }, Values::Bytes(values)) => {
                let length = lengths.length()?;
                room.take(1, length)?;
                values.push_with(|into| text(data, length, *is_padded, into))?;
            }
            (Self::Bytes { lengths, data, .. }, Values::Fixed { size, data: into }) => {
                if lengths.length()? != *size {
                    return Err(of_another_length());
                }
                data.bytes(*size, into)?;
            }
            (Self::Dictionary { words, places }, Values::Bytes(values)) => {
                let value = words.get(places.length()?).ok_or_else(not_in_dictionary)?;
                room.take(1, value.len())?;
                values.push(value)?;
            }
            (Self::Dictionary { words, places }, Values::Fixed { size, data }) => {
                let value = words.get(places.length()?).ok_or_else(not_in_dictionary)?;
                if value.len() != *size {
                    return Err(of_another_length());
                }
                data.extend_from_slice(value);
            }
            (Self::Timestamp { seconds, nanos }, Values::Long(values)) => {
                let value = timestamp(seconds.next()?, nanos.next()?, of);
                values.push(value.ok_or_else(|| broken("a time in it is too far away"))?);
            }
            (Self::Decimal { digits, scales }, Values::Decimal(values)) => {
                let value = decimal(digits.varint()?, scales.next()?, of);
                values.push(value.ok_or_else(|| broken("a decimal in it has too many digits"))?);
            }
            _ => return Err(Error::internal("a column is of another type than its values").with("type", of)),
        }
        Ok(())
    }
}

fn not_in_dictionary() -> Error {
    broken("a value in it is not in its dictionary")
}

fn of_another_length() -> Error {
    broken("a value of fixed length in it has another length")
}

/// The lowest 3 bits of `nanos` are how many zeros were left out, less one. Seconds were rounded towards zero, so that those
/// before 1970 with more than a millisecond are one too late; Arrow's writer has nanoseconds below 0 for them.
fn timestamp(seconds: i64, nanos: i64, of: &DataType) -> Option<i64> {
    let zeros = u32::try_from(nanos & 7).ok()?;
    let nanos = (nanos >> 3).checked_mul(if zeros == 0 { 1 } else { 10_i64.pow(zeros + 1) })?;
    if nanos.unsigned_abs() >= 1_000_000_000 {
        return None;
    }
    let seconds = seconds.checked_add(EPOCH)?;
    let seconds = if seconds < 0 && nanos > 999_999 { seconds - 1 } else { seconds };
    let nanos = i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
    i64::try_from(match of {
        DataType::Timestamp(TimeUnit::Nanosecond, _) => nanos,
        _ => nanos.div_euclid(1_000),
    })
    .ok()
}

/// Each value has a scale of its own, with which zeros at its end were left out.
fn decimal(digits: u128, scale: i64, of: &DataType) -> Option<i128> {
    let DataType::Decimal128(_, wanted) = of else { return None };
    let value = (digits >> 1) as i128 ^ -((digits & 1) as i128);
    let more = i64::from(*wanted).checked_sub(scale)?;
    let factor = 10_i128.checked_pow(u32::try_from(more.unsigned_abs()).ok()?)?;
    if more >= 0 { value.checked_mul(factor) } else { (value % factor == 0).then(|| value / factor) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_around_1970_are_those_that_were_written() {
        let micros = DataType::Timestamp(TimeUnit::Microsecond, None);
        // Seconds, nanoseconds as they are stored, and what they are.
        let cases = [
            (0, 0, 0),
            (0, 500_000_000 << 3, 500_000),
            (0, 5 << 3 | 7, 500_000),
            (1, 1_999 << 3, 1_000_001),
            // Rounded towards zero.
            (-1, 500_000_000 << 3, -1_500_000),
            // What has less than a millisecond was not.
            (-3, 1_000 << 3, -2_999_999),
            // Arrow's writer.
            (-1, (-500_000_000_i64) << 3, -1_500_000),
            (-1, (-5_i64) << 3 | 7, -1_500_000),
            (-1, (-1_i64) << 3, -1_000_001),
        ];
        for (seconds, nanos, expected) in cases {
            assert_eq!(timestamp(seconds - EPOCH, nanos, &micros), Some(expected), "{seconds} {nanos}");
        }
        for nanos in [1_000_000_000 << 3, (-1_000_000_000_i64) << 3, 10 << 3 | 7, i64::MAX, i64::MIN | 7] {
            assert_eq!(timestamp(0, nanos, &micros), None, "{nanos}");
        }
        assert_eq!(timestamp(i64::MAX, 0, &micros), None);
        assert_eq!(timestamp(i64::MAX / 1_000_000, 0, &micros), None);
    }

    #[test]
    fn decimals_have_the_scale_of_their_column() {
        let of = DataType::Decimal128(10, 2);
        for (digits, scale, expected) in [
            (15, 1, Some(-80)),
            (14, 0, Some(700)),
            (2_000, 4, Some(10)),
            (2_002, 4, None),
            (2, -1, Some(1_000)),
            (2, 41, None),
            (2, i64::MIN, None),
        ] {
            assert_eq!(decimal(digits, scale, &of), expected, "{digits} {scale}");
        }
    }
}
