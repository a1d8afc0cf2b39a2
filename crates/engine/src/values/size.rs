//! [`Size`]: how many bytes the values of a call can take, by its arguments.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Int64Type, IntervalMonthDayNanoType, IntervalUnit, TimeUnit};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::ColumnarValue;

/// Functions by what their values come of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Size {
    /// A text so many times.
    Repeat,
    /// A text of so many characters.
    Pad,
    /// A text with others in the place of its parts.
    Replace,
    /// The same, of what an expression matches.
    Match,
    /// A list of so many values.
    RepeatList,
    /// A list from a value to another.
    Series,
    /// A list, cut or filled.
    Resize,
    /// The values of a list as a text.
    JoinList,
    /// All arguments, one after the other.
    Sum,
    /// The same, with the first between them.
    SumWith,
}

impl Size {
    pub(super) fn of_function(name: &str) -> Option<Self> {
        Some(match name {
            "repeat" => Self::Repeat,
            "lpad" | "rpad" => Self::Pad,
            "replace" => Self::Replace,
            "regexp_replace" => Self::Match,
            "array_repeat" => Self::RepeatList,
            "range" | "generate_series" => Self::Series,
            "array_resize" => Self::Resize,
            "array_to_string" => Self::JoinList,
            "concat" | "array_concat" | "make_array" | "||" => Self::Sum,
            "concat_ws" => Self::SumWith,
            _ => return None,
        })
    }

    /// True if values are not larger than the arguments together.
    pub(super) fn is_sum(self) -> bool {
        matches!(self, Self::Sum | Self::SumWith)
    }

    /// The most that the values of so many rows can take, in bytes.
    pub(super) fn of(self, args: &[ColumnarValue], rows: usize) -> usize {
        let at = |at: usize| args.get(at);
        let total = |n: usize| at(n).map_or(0, |arg| of_value(arg, rows));
        let longest = |n: usize| at(n).map_or(0, longest);
        let most = |n: usize| at(n).map_or(0, most);
        match self {
            Self::Repeat => total(0).saturating_mul(most(1)),
            // A character takes four bytes at most.
            Self::Pad => most(1).saturating_mul(4).saturating_mul(rows),
            Self::Replace => {
                let places = (total(0) / shortest(at(1)).max(1)).saturating_add(rows);
                total(0).saturating_add(places.saturating_mul(longest(2)))
            }
            Self::Match => {
                // Groups that the replacement names are of what is matched.
                let each = longest(2).saturating_mul(2).saturating_add(1);
                total(0).saturating_add(rows).saturating_mul(each)
            }
            Self::RepeatList => {
                total(0).saturating_add(rows.saturating_mul(8)).saturating_mul(most(1).saturating_add(1))
            }
            Self::Series => series(args).saturating_mul(8).saturating_mul(rows),
            Self::Resize => {
                let each = at(2).map_or(0, |fill| of_value(fill, 1)).saturating_add(8);
                total(0).saturating_add(most(1).saturating_mul(each).saturating_mul(rows))
            }
            Self::JoinList => total(0).saturating_mul(longest(1).saturating_add(4)),
            Self::Sum => (0..args.len()).fold(0, |sum, n| sum.saturating_add(total(n))),
            Self::SumWith => {
                let between = longest(0).saturating_mul(args.len()).saturating_mul(rows);
                (1..args.len()).fold(between, |sum, n| sum.saturating_add(total(n)))
            }
        }
    }
}

/// So many rows of an argument.
pub(super) fn slice(value: &ColumnarValue, from: usize, rows: usize) -> ColumnarValue {
    match value {
        ColumnarValue::Array(array) => ColumnarValue::Array(array.slice(from, rows)),
        scalar => scalar.clone(),
    }
}

/// The bytes of an argument's values.
pub(super) fn of_value(value: &ColumnarValue, rows: usize) -> usize {
    match value {
        ColumnarValue::Array(array) => of_array(array),
        ColumnarValue::Scalar(scalar) => match scalar.try_as_str() {
            Some(text) => text.map_or(0, str::len).saturating_mul(rows),
            None => match scalar {
                ScalarValue::List(list) => of_array(&(list.clone() as ArrayRef)).saturating_mul(rows),
                _ => scalar.size().saturating_mul(rows),
            },
        },
    }
}

/// The bytes of an array's values, without those of the array that it is a slice of.
pub(super) fn of_array(array: &ArrayRef) -> usize {
    let views = |views: &[u128]| -> usize { views.iter().map(|view| *view as u32 as usize).sum() };
    let between = |offsets: &[i32]| match (offsets.first(), offsets.last()) {
        (Some(first), Some(last)) => (*first as usize, (last - first) as usize),
        _ => (0, 0),
    };
    match array.data_type() {
        DataType::Utf8View => views(array.as_string_view().views()),
        DataType::BinaryView => views(array.as_binary_view().views()),
        DataType::Utf8 => between(array.as_string::<i32>().value_offsets()).1,
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            let (from, values) = between(list.value_offsets());
            of_array(&list.values().slice(from, values)) + array.len() * 4
        }
        _ => array.to_data().get_slice_memory_size().unwrap_or_else(|_| array.get_array_memory_size()),
    }
}

fn lengths(array: &ArrayRef) -> Option<Vec<usize>> {
    Some(match array.data_type() {
        DataType::Utf8 => array.as_string::<i32>().iter().map(|text| text.map_or(0, str::len)).collect(),
        DataType::LargeUtf8 => array.as_string::<i64>().iter().map(|text| text.map_or(0, str::len)).collect(),
        DataType::Utf8View => array.as_string_view().iter().map(|text| text.map_or(0, str::len)).collect(),
        _ => return None,
    })
}

/// The length of the longest text, in bytes.
fn longest(value: &ColumnarValue) -> usize {
    match value {
        ColumnarValue::Scalar(_) => of_value(value, 1),
        ColumnarValue::Array(array) => {
            lengths(array).map_or_else(|| of_array(array), |lengths| lengths.into_iter().max().unwrap_or(0))
        }
    }
}

/// The length of the shortest text, in bytes.
fn shortest(value: Option<&ColumnarValue>) -> usize {
    match value {
        Some(scalar @ ColumnarValue::Scalar(_)) => of_value(scalar, 1),
        Some(ColumnarValue::Array(array)) => {
            lengths(array).and_then(|all| all.into_iter().min()).unwrap_or(0)
        }
        None => 0,
    }
}

/// The least and the greatest number of an argument, or moment in nanoseconds.
fn range(value: &ColumnarValue) -> Option<(i128, i128)> {
    let array = match value {
        ColumnarValue::Array(array) => array.clone(),
        ColumnarValue::Scalar(scalar) => scalar.to_array().ok()?,
    };
    let nanos: i128 = match array.data_type() {
        DataType::Interval(IntervalUnit::MonthDayNano) => {
            let steps = array.as_primitive::<IntervalMonthDayNanoType>();
            let nanos = steps.iter().flatten().map(|step| {
                let days = i128::from(step.months) * 28 + i128::from(step.days);
                days * DAY + i128::from(step.nanoseconds)
            });
            let all: Vec<i128> = nanos.collect();
            return Some((*all.iter().min()?, *all.iter().max()?));
        }
        DataType::Date32 => DAY,
        DataType::Date64 | DataType::Timestamp(TimeUnit::Millisecond, _) => 1_000_000,
        DataType::Timestamp(TimeUnit::Second, _) => 1_000_000_000,
        DataType::Timestamp(TimeUnit::Microsecond, _) => 1_000,
        _ => 1,
    };
    let plain = match array.data_type() {
        // 32 bits are no 64 at once.
        DataType::Date32 => cast(&array, &DataType::Int32)?,
        _ => array,
    };
    let numbers = cast(&plain, &DataType::Int64)?;
    let numbers = numbers.as_primitive::<Int64Type>();
    let (least, most) = (arrow::compute::min(numbers)?, arrow::compute::max(numbers)?);
    Some((i128::from(least) * nanos, i128::from(most) * nanos))
}

const DAY: i128 = 86_400_000_000_000;

fn cast(array: &ArrayRef, to: &DataType) -> Option<ArrayRef> {
    cast_with_options(array, to, &CastOptions::default()).ok()
}

/// The greatest number of an argument; none is less than zero.
fn most(value: &ColumnarValue) -> usize {
    range(value).map_or(0, |(_, most)| usize::try_from(most.max(0)).unwrap_or(usize::MAX))
}

/// The most values that a list from a value to another has.
fn series(args: &[ColumnarValue]) -> usize {
    let of = |at: usize| args.get(at).and_then(range);
    let (start, stop) = match args {
        [_] => (Some((0, 0)), of(0)),
        _ => (of(0), of(1)),
    };
    let (Some(start), Some(stop)) = (start, stop) else { return 0 };
    let span = (stop.1 - start.0).max(start.1 - stop.0).max(0);
    // A step of a month and less than none of a day is as good as one of a unit.
    let step = match of(2) {
        Some((least, most)) if least > 0 || most < 0 => least.abs().min(most.abs()),
        _ => 1,
    };
    usize::try_from(span / step.max(1) + 1).unwrap_or(usize::MAX)
}
