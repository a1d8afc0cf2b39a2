//! Conversions that give each value whole, or fail.
//!
//! A value is converted and back: what does not come back as it was, the column can't hold. Text is read twice, once more
//! finely than the column needs. A binary fraction of double precision is whole in single precision where its shortest decimal
//! form is the same in both: 0.1 is, 16777217 is not.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float32Array, Float64Array};
use arrow::compute::kernels::cmp::distinct;
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, FieldRef, Float32Type, Float64Type, TimeUnit};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::common::{Result, exec_err, internal_err};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use icefield_core::Error;

use crate::error::to_datafusion;

/// Overflow is an error.
const CHECKED: CastOptions<'static> = CastOptions { safe: false, format_options: FormatOptions::new() };
/// What can't be converted becomes NULL.
const TRIED: CastOptions<'static> = CastOptions { safe: true, format_options: FormatOptions::new() };

/// The value of an expression as a column of a table has it, or an error where it would be another value there.
pub(super) fn exactly(expr: Expr, to: &FieldRef, column: &str) -> Expr {
    let function = Exactly {
        to: to.data_type().clone(),
        column: column.to_string(),
        signature: Signature::any(1, Volatility::Immutable),
    };
    ScalarUDF::new_from_impl(function).call(vec![expr])
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Exactly {
    to: DataType,
    column: String,
    signature: Signature,
}

impl ScalarUDFImpl for Exactly {
    fn name(&self) -> &str {
        "exactly"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.to.clone())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let [from] = args.arg_fields else { return internal_err!("one value is converted at a time") };
        if !is_meant(from.data_type(), &self.to) {
            let message = "values of this type are not turned into the column's by an INSERT; convert them in the query";
            return Err(to_datafusion(self.refused(message, from.data_type())));
        }
        Ok(Arc::new(Field::new(self.name(), self.to.clone(), from.is_nullable())))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [value] = &args.args[..] else { return internal_err!("one value is converted at a time") };
        // A constant that is nested would lose the metadata of its type's fields.
        let is_constant = matches!(value, ColumnarValue::Scalar(_)) && !self.to.is_nested();
        let given = value.to_array(if is_constant { 1 } else { args.number_rows })?;
        let (converted, lost) = converted(&given, &self.to)?;
        if let Some(row) = lost {
            let options = FormatOptions::new();
            let shown = ArrayFormatter::try_new(&given, &options).map(|shown| shown.value(row).to_string());
            let message = match (given.data_type(), &self.to) {
                (DataType::Timestamp(TimeUnit::Nanosecond, _), DataType::Timestamp(..)) => {
                    "a timestamp has digits below a microsecond, which the column can't hold; truncate it with \
                     date_trunc('microsecond', ...), or use a timestamp_ns column of a version 3 table"
                }
                _ => {
                    "the column can't hold a value of the query as it is; round or cast it there, or change the column's type"
                }
            };
            let refused = self.refused(message, given.data_type());
            return Err(to_datafusion(refused.with("value", shown.unwrap_or_default())));
        }
        match is_constant {
            true => {
                Ok(ColumnarValue::Scalar(datafusion::common::ScalarValue::try_from_array(&converted, 0)?))
            }
            false => Ok(ColumnarValue::Array(converted)),
        }
    }
}

impl Exactly {
    fn refused(&self, message: &str, from: &DataType) -> Error {
        let error = Error::invalid_input(message).with("column", &self.column);
        error.with("input type", from).with("column type", &self.to)
    }
}

/// Whether a conversion is one that somebody who writes no cast can mean. Numbers are no moments, and nothing is a truth value
/// but one.
fn is_meant(from: &DataType, to: &DataType) -> bool {
    use DataType as D;
    let is_text = |of: &D| matches!(of, D::Utf8 | D::LargeUtf8 | D::Utf8View);
    let is_moment = |of: &D| of.is_temporal() && !matches!(of, D::Duration(_) | D::Interval(_));
    match (from, to) {
        (D::Dictionary(_, from), to) => is_meant(from, to),
        (D::RunEndEncoded(_, from), to) => is_meant(from.data_type(), to),
        (from, to) if from == to || from == &D::Null || is_text(from) || is_text(to) => true,
        (D::Boolean, _) | (_, D::Boolean) => false,
        // A local time of another zone than UTC is another moment without its zone.
        (D::Timestamp(_, Some(zone)), D::Timestamp(_, None) | D::Date32 | D::Date64) => is_utc(zone),
        (from, to) => !is_moment(from) && !is_moment(to) || is_moment(from) && is_moment(to),
    }
}

fn is_utc(zone: &str) -> bool {
    matches!(zone, "+00:00" | "UTC" | "Z" | "+00" | "Etc/UTC")
}

/// The converted values, and the first row whose value is another one then.
fn converted(given: &ArrayRef, to: &DataType) -> Result<(ArrayRef, Option<usize>)> {
    use DataType as D;
    let plain = match given.data_type() {
        D::Dictionary(_, values) => cast_with_options(given, values, &CHECKED)?,
        D::RunEndEncoded(_, values) => cast_with_options(given, values.data_type(), &CHECKED)?,
        _ => given.clone(),
    };
    let direct = cast(&plain, to, &CHECKED)?;
    let from = plain.data_type();
    if from == to || from == &D::Null {
        return Ok((direct, None));
    }
    let lost = match from {
        D::Utf8 | D::LargeUtf8 | D::Utf8View => match finer(to) {
            // Text that only the coarser type can be read from (a year beyond those that nanoseconds reach) has no such digits.
            Some(finer) => {
                let (fine, again) = (cast(&plain, &finer, &TRIED)?, cast(&direct, &finer, &TRIED)?);
                first_lost(&fine, &again)?
            }
            None => None,
        },
        _ if is_text(to) => None,
        from => first_lost(&plain, &cast(&direct, from, &TRIED)?)?,
    };
    Ok((direct, lost))
}

fn is_text(of: &DataType) -> bool {
    matches!(of, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

/// By name in structs, as DataFusion casts.
fn cast(array: &ArrayRef, to: &DataType, options: &CastOptions<'static>) -> Result<ArrayRef> {
    match ColumnarValue::Array(array.clone()).cast_to(to, Some(options))? {
        ColumnarValue::Array(array) => Ok(array),
        ColumnarValue::Scalar(_) => exec_err!("an array became a constant"),
    }
}

/// A type that shows what of a text the other leaves out.
fn finer(of: &DataType) -> Option<DataType> {
    use DataType as D;
    match of {
        D::Float32 => Some(D::Float64),
        D::Decimal32(..) | D::Decimal64(..) | D::Decimal128(..) => Some(D::Decimal256(76, 38)),
        D::Date32 => Some(D::Timestamp(TimeUnit::Microsecond, None)),
        D::Time32(_) | D::Time64(TimeUnit::Microsecond) => Some(D::Time64(TimeUnit::Nanosecond)),
        D::Timestamp(unit, zone) if *unit != TimeUnit::Nanosecond => {
            Some(D::Timestamp(TimeUnit::Nanosecond, zone.clone()))
        }
        _ => None,
    }
}

/// The first row that has a value in `given` and another, or none, in `back`.
fn first_lost(given: &ArrayRef, back: &ArrayRef) -> Result<Option<usize>> {
    use DataType as D;
    let differs = |row: usize, same: bool| given.is_valid(row) && (back.is_null(row) || !same);
    Ok(match given.data_type() {
        D::Float64 => {
            let (given, back) = (given.as_primitive::<Float64Type>(), back.as_primitive::<Float64Type>());
            (0..given.len()).find(|row| differs(*row, same_double(given, back, *row)))
        }
        D::Float32 => {
            let (given, back) = (given.as_primitive::<Float32Type>(), back.as_primitive::<Float32Type>());
            (0..given.len()).find(|row| differs(*row, same_float(given, back, *row)))
        }
        of if of.is_nested() => {
            if given.to_data() == back.to_data() {
                return Ok(None);
            }
            let mut found = None;
            for row in (0..given.len()).filter(|row| given.is_valid(*row)) {
                if back.is_null(row) || is_lost(&given.slice(row, 1), &back.slice(row, 1))? {
                    found = Some(row);
                    break;
                }
            }
            found
        }
        _ => distinct(given, back)?
            .iter()
            .enumerate()
            .find_map(|(row, lost)| (lost == Some(true) && given.is_valid(row)).then_some(row)),
    })
}

/// Whether of two arrays of one value that is nested the second has lost something.
fn is_lost(given: &ArrayRef, back: &ArrayRef) -> Result<bool> {
    let children = |of: &ArrayRef| -> Vec<ArrayRef> {
        match of.data_type() {
            DataType::Struct(_) => of.as_struct().columns().to_vec(),
            DataType::List(_) => vec![of.as_list::<i32>().value(0)],
            DataType::LargeList(_) => vec![of.as_list::<i64>().value(0)],
            DataType::FixedSizeList(..) => vec![of.as_fixed_size_list().value(0)],
            DataType::Map(..) => of.as_map().value(0).columns().to_vec(),
            _ => Vec::new(),
        }
    };
    let (given_children, back_children) = (children(given), children(back));
    if given_children.is_empty() || given_children.len() != back_children.len() {
        return Ok(given.to_data() != back.to_data());
    }
    for (given, back) in given_children.iter().zip(&back_children) {
        if given.len() != back.len() || first_lost(given, back)?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

fn same_double(given: &Float64Array, back: &Float64Array, row: usize) -> bool {
    let (given, back) = (given.value(row), back.value(row));
    let single = back as f32;
    given == back
        || (given.is_nan() && back.is_nan())
        || (f64::from(single) == back && given.to_string() == single.to_string())
}

fn same_float(given: &Float32Array, back: &Float32Array, row: usize) -> bool {
    let (given, back) = (given.value(row), back.value(row));
    given == back || (given.is_nan() && back.is_nan())
}
