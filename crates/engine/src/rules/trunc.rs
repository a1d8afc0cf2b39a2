//! `date_trunc` over the whole range of a timestamp's type, and the times that it takes to a literal.
//!
//! DataFusion's goes through nanoseconds, so that it fails before 1677 and after 2262, and rounds single values before 1970
//! up. It still serves zones whose clocks change, and times of a day.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, PrimitiveArray};
use arrow::datatypes::{
    ArrowTimestampType, DataType, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType,
};
use arrow::error::ArrowError;
use datafusion::common::{Result, ScalarValue};
use datafusion::functions::datetime::date_trunc;
use datafusion::logical_expr::sort_properties::{ExprProperties, SortProperties};
use datafusion::logical_expr::{ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl};

use super::ticks::{Preimage, fixed_offset, per_day, per_second, ticks};

/// DataFusion's function under its own name, mended.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct DateTrunc {
    inner: Arc<ScalarUDF>,
}

impl DateTrunc {
    pub(super) fn new() -> Self {
        Self { inner: date_trunc() }
    }

    /// The times, in ticks of their type, that are truncated to a value.
    pub(crate) fn preimage_of(part: &Expr, of: &DataType, value: &ScalarValue) -> Option<Preimage> {
        let Expr::Literal(part, _) = part else { return None };
        let period = Period::parse(part.try_as_str()??)?;
        if value.data_type() != *of {
            return None;
        }
        let (unit, offset) = unit_and_offset(of)?;
        period.preimage(ticks(value)?, unit, offset)
    }
}

fn unit_and_offset(of: &DataType) -> Option<(TimeUnit, i128)> {
    let DataType::Timestamp(unit, zone) = of else { return None };
    Some((*unit, fixed_offset(zone.as_deref())?.checked_mul(per_second(*unit))?))
}

impl ScalarUDFImpl for DateTrunc {
    as_inner!();

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [ColumnarValue::Scalar(part), of] = args.args.as_slice() else {
            return self.inner.invoke_with_args(args);
        };
        let period = part.try_as_str().flatten().and_then(Period::parse);
        let (Some(period), Some((unit, offset))) = (period, unit_and_offset(&of.data_type())) else {
            return self.inner.invoke_with_args(args);
        };
        Ok(match of {
            ColumnarValue::Array(array) => ColumnarValue::Array(truncated(array, period, unit, offset)?),
            ColumnarValue::Scalar(value) => {
                let array = truncated(&value.to_array()?, period, unit, offset)?;
                ColumnarValue::Scalar(ScalarValue::try_from_array(&array, 0)?)
            }
        })
    }

    fn output_ordering(&self, inputs: &[ExprProperties]) -> Result<SortProperties> {
        self.inner.output_ordering(inputs)
    }
}

fn truncated(array: &ArrayRef, period: Period, unit: TimeUnit, offset: i128) -> Result<ArrayRef> {
    Ok(match unit {
        TimeUnit::Second => each::<TimestampSecondType>(array, period, offset)?,
        TimeUnit::Millisecond => each::<TimestampMillisecondType>(array, period, offset)?,
        TimeUnit::Microsecond => each::<TimestampMicrosecondType>(array, period, offset)?,
        TimeUnit::Nanosecond => each::<TimestampNanosecondType>(array, period, offset)?,
    })
}

fn each<T: ArrowTimestampType>(
    array: &ArrayRef,
    period: Period,
    offset: i128,
) -> Result<ArrayRef, ArrowError> {
    let array = array.as_primitive::<T>();
    let made: PrimitiveArray<T> = array.try_unary(|value| {
        let start = period.start(i128::from(value) + offset, T::UNIT) - offset;
        i64::try_from(start).map_err(|_| {
            ArrowError::ComputeError(format!("the start of the period of timestamp {value} is out of range"))
        })
    })?;
    Ok(Arc::new(made.with_data_type(array.data_type().clone())))
}

/// What a time is truncated to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Period {
    /// A part of a second: so many of them are one.
    Parts(i128),
    /// So many seconds.
    Seconds(i128),
    Week,
    Months(i128),
}

impl Period {
    fn parse(name: &str) -> Option<Self> {
        Some(match name.to_ascii_lowercase().as_str() {
            "microsecond" => Self::Parts(1_000_000),
            "millisecond" => Self::Parts(1_000),
            "second" => Self::Seconds(1),
            "minute" => Self::Seconds(60),
            "hour" => Self::Seconds(3_600),
            "day" => Self::Seconds(86_400),
            "week" => Self::Week,
            "month" => Self::Months(1),
            "quarter" => Self::Months(3),
            "year" => Self::Months(12),
            _ => return None,
        })
    }

    /// Where the period begins that a time is in.
    fn start(self, time: i128, unit: TimeUnit) -> i128 {
        match self {
            Self::Months(months) => {
                let month = month_of(time.div_euclid(per_day(unit)));
                first_day(month - month.rem_euclid(months)) * per_day(unit)
            }
            fixed => {
                let (length, first) = fixed.fixed(unit);
                (time - first).div_euclid(length) * length + first
            }
        }
    }

    /// Where the next period begins.
    fn next(self, start: i128, unit: TimeUnit) -> i128 {
        match self {
            Self::Months(months) => {
                first_day(month_of(start.div_euclid(per_day(unit))) + months) * per_day(unit)
            }
            fixed => start + fixed.fixed(unit).0,
        }
    }

    /// The length of a period that is always the same, in ticks, and where one begins.
    fn fixed(self, unit: TimeUnit) -> (i128, i128) {
        match self {
            Self::Parts(parts) => ((per_second(unit) / parts).max(1), 0),
            Self::Seconds(seconds) => (seconds * per_second(unit), 0),
            // 1970 began on a Thursday.
            Self::Week | Self::Months(_) => (7 * per_day(unit), -3 * per_day(unit)),
        }
    }

    fn preimage(self, value: i128, unit: TimeUnit, offset: i128) -> Option<Preimage> {
        let local = value + offset;
        let start = self.start(local, unit);
        let next = self.next(start, unit);
        let (first, end) = if start == local { (start, next) } else { (next, next) };
        Some(Preimage { first: first - offset, end: end - offset })
    }
}

/// The month that a day is in; both count from 1970.
fn month_of(day: i128) -> i128 {
    // Years from March on, so that the leap day is the last of them, in cycles of 400 years.
    let from_march_0000 = day + 719_468;
    let (era, day) = (from_march_0000.div_euclid(146_097), from_march_0000.rem_euclid(146_097));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    (era * 400 + year) * 12 + month + 2 - 1970 * 12
}

/// The first day of a month; both count from 1970.
fn first_day(month: i128) -> i128 {
    let from_march_0000 = month + 1970 * 12 - 2;
    let (years, month) = (from_march_0000.div_euclid(12), from_march_0000.rem_euclid(12));
    let (era, year) = (years.div_euclid(400), years.rem_euclid(400));
    era * 146_097 + 365 * year + year / 4 - year / 100 + (153 * month + 2) / 5 - 719_468
}

#[cfg(test)]
mod tests {
    use chrono::{Datelike, Days, NaiveDate};

    use super::*;

    #[test]
    fn months_are_those_of_the_calendar() {
        let first = NaiveDate::from_ymd_opt(1970, 1, 1).unwrap();
        for day in (-800_000_i64..3_000_000).step_by(13) {
            let date = match u64::try_from(day) {
                Ok(days) => first.checked_add_days(Days::new(days)).unwrap(),
                Err(_) => first.checked_sub_days(Days::new(day.unsigned_abs())).unwrap(),
            };
            let month = i128::from(date.year()) * 12 + i128::from(date.month0()) - 1970 * 12;
            assert_eq!(month_of(day.into()), month, "{date}");
            assert_eq!(first_day(month), i128::from(day) - i128::from(date.day0()), "{date}");
        }
    }

    #[test]
    fn a_time_is_truncated_down_and_between_its_periods_ends() {
        let day = per_day(TimeUnit::Microsecond);
        let periods = [
            "microsecond",
            "millisecond",
            "second",
            "minute",
            "hour",
            "day",
            "week",
            "month",
            "quarter",
            "year",
        ];
        for period in periods.map(|name| Period::parse(name).unwrap()) {
            for time in [-719_162 * day, -day - 1, -1, 0, 1, 59 * day, 2_932_896 * day - 1, 2_932_896 * day] {
                let start = period.start(time, TimeUnit::Microsecond);
                let next = period.next(start, TimeUnit::Microsecond);
                assert!(start <= time && time < next, "{period:?} of {time}");
                assert_eq!(period.start(next, TimeUnit::Microsecond), next, "{period:?} after {time}");
                assert_eq!(period.start(next - 1, TimeUnit::Microsecond), start, "{period:?} of {time}");
            }
        }
        assert_eq!(Period::Week.start(0, TimeUnit::Second), -3 * 86_400);
    }
}
