//! The values of a column as a decoder finds them one by one, and the Arrow array that they become.

use std::sync::Arc;

use arrow_array::types::{
    Date32Type, Time64MicrosecondType, TimestampMicrosecondType, TimestampNanosecondType,
};
use arrow_array::{
    ArrayRef, BinaryArray, BooleanArray, Decimal128Array, FixedSizeBinaryArray, Float32Array, Float64Array,
    Int32Array, Int64Array, StringArray,
};
use arrow_buffer::{BooleanBufferBuilder, Buffer, NullBuffer, OffsetBuffer};
use arrow_schema::{DataType, TimeUnit};

use super::source::broken;
use crate::error::{Error, Result};

/// Values of a type that is not nested. Where there is none, some value stands in its place.
#[derive(Debug)]
pub(super) enum Values {
    Boolean(BooleanBufferBuilder),
    /// `Int32` and `Date32`.
    Int(Vec<i32>),
    /// `Int64`, times and timestamps.
    Long(Vec<i64>),
    Float(Vec<f32>),
    Double(Vec<f64>),
    Decimal(Vec<i128>),
    /// `Utf8` and `Binary`.
    Bytes(Bytes),
    Fixed {
        size: usize,
        data: Vec<u8>,
    },
}

/// Values of any length, one after the other.
#[derive(Debug)]
pub(super) struct Bytes {
    offsets: Vec<i32>,
    data: Vec<u8>,
}

impl Bytes {
    fn new() -> Self {
        Self { offsets: vec![0], data: Vec::new() }
    }

    /// Adds the value that `write` puts behind the others.
    pub(super) fn push_with(&mut self, write: impl FnOnce(&mut Vec<u8>) -> Result<()>) -> Result<()> {
        write(&mut self.data)?;
        self.offsets.push(offset(self.data.len())?);
        Ok(())
    }

    pub(super) fn push(&mut self, value: &[u8]) -> Result<()> {
        self.push_with(|data| {
            data.extend_from_slice(value);
            Ok(())
        })
    }
}

/// Where a value ends in what holds the values of a batch.
pub(super) fn offset(end: usize) -> Result<i32> {
    i32::try_from(end).map_err(|_| {
        Error::unsupported(
            "the values of a batch of rows take over 2 GiB; lower datafusion.execution.batch_size",
        )
    })
}

impl Values {
    /// No values yet; `None` for types that no file has them of.
    pub(super) fn new(of: &DataType) -> Option<Self> {
        Some(match of {
            DataType::Boolean => Self::Boolean(BooleanBufferBuilder::new(0)),
            DataType::Int32 | DataType::Date32 => Self::Int(Vec::new()),
            DataType::Int64
            | DataType::Time64(TimeUnit::Microsecond)
            | DataType::Timestamp(TimeUnit::Microsecond | TimeUnit::Nanosecond, _) => Self::Long(Vec::new()),
            DataType::Float32 => Self::Float(Vec::new()),
            DataType::Float64 => Self::Double(Vec::new()),
            DataType::Decimal128(..) => Self::Decimal(Vec::new()),
            DataType::Utf8 | DataType::Binary => Self::Bytes(Bytes::new()),
            DataType::FixedSizeBinary(size) if *size > 0 => {
                Self::Fixed { size: usize::try_from(*size).ok()?, data: Vec::new() }
            }
            _ => return None,
        })
    }

    pub(super) fn push_null(&mut self) {
        match self {
            Self::Boolean(values) => values.append(false),
            Self::Int(values) => values.push(0),
            Self::Long(values) => values.push(0),
            Self::Float(values) => values.push(0.0),
            Self::Double(values) => values.push(0.0),
            Self::Decimal(values) => values.push(0),
            Self::Bytes(values) => values.offsets.push(values.offsets.last().copied().unwrap_or_default()),
            Self::Fixed { size, data } => data.resize(data.len() + *size, 0),
        }
    }

    /// The array of type `of`, which is what these values were made for. `nulls` is as long as they are.
    pub(super) fn finish(self, of: &DataType, nulls: Option<NullBuffer>) -> Result<ArrayRef> {
        Ok(match (self, of) {
            (Self::Boolean(mut values), _) => Arc::new(BooleanArray::new(values.finish(), nulls)),
            (Self::Int(values), DataType::Date32) => {
                Arc::new(Int32Array::new(values.into(), nulls).reinterpret_cast::<Date32Type>())
            }
            (Self::Int(values), _) => Arc::new(Int32Array::new(values.into(), nulls)),
            (Self::Long(values), of) => longs(Int64Array::new(values.into(), nulls), of),
            (Self::Float(values), _) => Arc::new(Float32Array::new(values.into(), nulls)),
            (Self::Double(values), _) => Arc::new(Float64Array::new(values.into(), nulls)),
            (Self::Decimal(values), of) => {
                let DataType::Decimal128(precision, scale) = of else {
                    return Err(Error::internal("decimals became something else").with("type", of));
                };
                let array = Decimal128Array::new(values.into(), nulls);
                let array = array.with_precision_and_scale(*precision, *scale)?;
                let fits = array.validate_decimal_precision(*precision);
                fits.map_err(|e| broken("a decimal in it has too many digits").with_source(e))?;
                Arc::new(array)
            }
            (Self::Bytes(values), of) => {
                let (offsets, data) = (OffsetBuffer::new(values.offsets.into()), Buffer::from(values.data));
                match of {
                    DataType::Utf8 => {
                        let array = StringArray::try_new(offsets, data, nulls);
                        Arc::new(array.map_err(|e| broken("a text in it is not UTF-8").with_source(e))?)
                    }
                    _ => Arc::new(BinaryArray::try_new(offsets, data, nulls)?),
                }
            }
            (Self::Fixed { size, data }, _) => {
                let size = i32::try_from(size).map_err(|_| Error::internal("a fixed size has 32 bits"))?;
                Arc::new(FixedSizeBinaryArray::try_new(size, data.into(), nulls)?)
            }
        })
    }
}

fn longs(array: Int64Array, of: &DataType) -> ArrayRef {
    match of {
        DataType::Time64(_) => Arc::new(array.reinterpret_cast::<Time64MicrosecondType>()),
        DataType::Timestamp(TimeUnit::Nanosecond, zone) => {
            let array = array.reinterpret_cast::<TimestampNanosecondType>();
            Arc::new(array.with_timezone_opt(zone.clone()))
        }
        DataType::Timestamp(_, zone) => {
            let array = array.reinterpret_cast::<TimestampMicrosecondType>();
            Arc::new(array.with_timezone_opt(zone.clone()))
        }
        _ => Arc::new(array),
    }
}
