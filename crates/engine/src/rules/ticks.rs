//! Values that are counted (integers, decimals, dates, timestamps) as one kind of number, and what maps one count to
//! another without changing the order.

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::ScalarValue;

const SECONDS_PER_DAY: i128 = 86_400;
pub(crate) const NANOS_PER_SECOND: i128 = 1_000_000_000;
pub(crate) const NANOS_PER_DAY: i128 = SECONDS_PER_DAY * NANOS_PER_SECOND;

/// Ticks of a time unit in a second.
pub(crate) fn per_second(unit: TimeUnit) -> i128 {
    match unit {
        TimeUnit::Second => 1,
        TimeUnit::Millisecond => 1_000,
        TimeUnit::Microsecond => 1_000_000,
        TimeUnit::Nanosecond => NANOS_PER_SECOND,
    }
}

pub(crate) fn per_day(unit: TimeUnit) -> i128 {
    SECONDS_PER_DAY * per_second(unit)
}

/// The seconds east of Greenwich of a zone that is always the same: none of a named one, whose clocks may change.
pub(crate) fn fixed_offset(zone: Option<&str>) -> Option<i128> {
    let zone = match zone {
        None => return Some(0),
        Some(zone) => zone,
    };
    if ["UTC", "Z"].iter().any(|utc| zone.eq_ignore_ascii_case(utc)) {
        return Some(0);
    }
    let (sign, digits) = match zone.as_bytes().split_first()? {
        (b'+', rest) => (1, rest),
        (b'-', rest) => (-1, rest),
        _ => return None,
    };
    let digits: Vec<u8> = match digits {
        [a, b, b':', c, d] => vec![*a, *b, *c, *d],
        [a, b, c, d] => vec![*a, *b, *c, *d],
        [a, b] => vec![*a, *b, b'0', b'0'],
        _ => return None,
    };
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let value = |at: usize| digits.get(at).map_or(0, |digit| i128::from(digit - b'0'));
    let minutes = (value(0) * 10 + value(1)) * 60 + value(2) * 10 + value(3);
    (minutes < 24 * 60).then_some(sign * minutes * 60)
}

/// The count of a value; of a decimal its digits, whatever its scale. Nothing of NULL and of what is not counted.
pub(crate) fn ticks(value: &ScalarValue) -> Option<i128> {
    use ScalarValue as S;
    Some(match value {
        S::Int8(Some(v)) => i128::from(*v),
        S::Int16(Some(v)) => i128::from(*v),
        S::Int32(Some(v)) | S::Date32(Some(v)) => i128::from(*v),
        S::Int64(Some(v)) => i128::from(*v),
        S::UInt8(Some(v)) => i128::from(*v),
        S::UInt16(Some(v)) => i128::from(*v),
        S::UInt32(Some(v)) => i128::from(*v),
        S::UInt64(Some(v)) => i128::from(*v),
        S::Decimal128(Some(v), _, _) => *v,
        S::TimestampSecond(Some(v), _)
        | S::TimestampMillisecond(Some(v), _)
        | S::TimestampMicrosecond(Some(v), _)
        | S::TimestampNanosecond(Some(v), _) => i128::from(*v),
        _ => return None,
    })
}

/// The value of a type that has this count, if there is one.
pub(crate) fn value_of(count: i128, of: &DataType) -> Option<ScalarValue> {
    use ScalarValue as S;
    let long = || i64::try_from(count).ok();
    Some(match of {
        DataType::Int8 => S::Int8(Some(i8::try_from(count).ok()?)),
        DataType::Int16 => S::Int16(Some(i16::try_from(count).ok()?)),
        DataType::Int32 => S::Int32(Some(i32::try_from(count).ok()?)),
        DataType::Int64 => S::Int64(Some(long()?)),
        DataType::UInt8 => S::UInt8(Some(u8::try_from(count).ok()?)),
        DataType::UInt16 => S::UInt16(Some(u16::try_from(count).ok()?)),
        DataType::UInt32 => S::UInt32(Some(u32::try_from(count).ok()?)),
        DataType::UInt64 => S::UInt64(Some(u64::try_from(count).ok()?)),
        DataType::Date32 => S::Date32(Some(i32::try_from(count).ok()?)),
        DataType::Decimal128(precision, scale) => {
            let fits = count.unsigned_abs() < 10_u128.checked_pow(u32::from(*precision))?;
            fits.then_some(S::Decimal128(Some(count), *precision, *scale))?
        }
        DataType::Timestamp(unit, zone) => {
            let (count, zone) = (Some(long()?), zone.clone());
            match unit {
                TimeUnit::Second => S::TimestampSecond(count, zone),
                TimeUnit::Millisecond => S::TimestampMillisecond(count, zone),
                TimeUnit::Microsecond => S::TimestampMicrosecond(count, zone),
                TimeUnit::Nanosecond => S::TimestampNanosecond(count, zone),
            }
        }
        _ => return None,
    })
}

/// The counts that a map takes to one count: from `first` to before `end`. Where there are none the two are equal, and what
/// is mapped below that count is below them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Preimage {
    pub(crate) first: i128,
    pub(crate) end: i128,
}

/// How a cast maps counts. None of them changes the order of two values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Times(i128),
    /// Divided, and cut towards zero.
    Cut(i128),
    /// Divided, and rounded to the nearest; halves away from zero.
    Round(i128),
    /// Divided, and rounded down.
    Floor(i128),
}

/// A cast of counts: `before` is added, then the step done, then `after` added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Map {
    before: i128,
    step: Step,
    after: i128,
    /// Whether every value of the one type becomes one of the other, so that the cast never fails.
    total: bool,
}

impl Map {
    fn of(step: Step, total: bool) -> Self {
        Self { before: 0, step, after: 0, total }
    }

    /// The map of a cast that Arrow does, if it is one that keeps the order.
    pub(crate) fn of_cast(from: &DataType, to: &DataType) -> Option<Self> {
        use DataType as D;
        let power = |of: i8| 10_i128.checked_pow(u32::try_from(of).ok()?);
        Some(match (from, to) {
            (D::Timestamp(unit, zone), D::Date32) => {
                let before = fixed_offset(zone.as_deref())?.checked_mul(per_second(*unit))?;
                Self { before, ..Self::of(Step::Floor(per_day(*unit)), true) }
            }
            (D::Date32, D::Timestamp(unit, None)) => Self::of(Step::Times(per_day(*unit)), false),
            (D::Timestamp(from_unit, from_zone), D::Timestamp(unit, zone)) => {
                // Of a time without a zone the clock stays; of one with a zone, the instant.
                let after = match (from_zone, zone) {
                    (None, Some(zone)) => -fixed_offset(Some(zone))?.checked_mul(per_second(*unit))?,
                    _ => 0,
                };
                let (fine, coarse) = (per_second(*from_unit), per_second(*unit));
                let (step, total) = match fine > coarse {
                    true => (Step::Cut(fine / coarse), true),
                    false => (Step::Times(coarse / fine), coarse == fine),
                };
                Self { after, ..Self::of(step, total && after == 0) }
            }
            (D::Timestamp(..), D::Int64)
            | (D::Int64, D::Timestamp(..))
            | (D::Date32, D::Int32 | D::Int64)
            | (D::Int32, D::Date32) => Self::of(Step::Times(1), true),
            (D::Decimal128(p, s), D::Decimal128(q, t)) => {
                let (whole, new_whole) = (i32::from(*p) - i32::from(*s), i32::from(*q) - i32::from(*t));
                match s > t {
                    // Rounding may carry into one digit more.
                    true => Self::of(Step::Round(power(s - t)?), new_whole > whole),
                    false => Self::of(Step::Times(power(t - s)?), new_whole >= whole),
                }
            }
            (D::Decimal128(_, s), to) if to.is_integer() => Self::of(Step::Cut(power(*s)?), false),
            (from, D::Decimal128(q, t)) if from.is_integer() => {
                let total = i32::from(*q) - i32::from(*t) >= digits(from);
                Self::of(Step::Times(power(*t)?), total)
            }
            (from, to) if from.is_integer() && to.is_integer() => {
                let ((low, high), (to_low, to_high)) = (range(from)?, range(to)?);
                Self::of(Step::Times(1), to_low <= low && high <= to_high)
            }
            _ => return None,
        })
    }

    /// Whether no two values become one and none is lost: a comparison of the results is one of the values.
    pub(crate) fn keeps_all(self) -> bool {
        self.total && self.before == 0 && self.after == 0 && matches!(self.step, Step::Times(_))
    }

    /// Whether every value has a result.
    pub(crate) fn is_total(self) -> bool {
        self.total
    }

    /// What becomes this count.
    pub(crate) fn preimage(self, of: i128) -> Option<Preimage> {
        let of = of.checked_sub(self.after)?;
        let (first, end) = match self.step {
            Step::Times(1) => (of, of.checked_add(1)?),
            Step::Times(by) => {
                let below = of.div_euclid(by);
                if of.rem_euclid(by) == 0 { (below, below + 1) } else { (below + 1, below + 1) }
            }
            Step::Cut(1) | Step::Round(1) => (of, of.checked_add(1)?),
            Step::Cut(by) => {
                let scaled = of.checked_mul(by)?;
                match of.signum() {
                    1 => (scaled, scaled.checked_add(by)?),
                    -1 => (scaled.checked_sub(by)?.checked_add(1)?, scaled + 1),
                    _ => (1 - by, by),
                }
            }
            Step::Round(by) => {
                let (scaled, half) = (of.checked_mul(by)?, by / 2);
                let (low, high) = (scaled.checked_sub(half)?, scaled.checked_add(half)?);
                match of.signum() {
                    1 => (low, high),
                    -1 => (low.checked_add(1)?, high.checked_add(1)?),
                    _ => (low + 1, high),
                }
            }
            Step::Floor(by) => {
                let scaled = of.checked_mul(by)?;
                (scaled, scaled.checked_add(by)?)
            }
        };
        Some(Preimage { first: first.checked_sub(self.before)?, end: end.checked_sub(self.before)? })
    }
}

fn range(of: &DataType) -> Option<(i128, i128)> {
    Some(match of {
        DataType::Int8 => (i8::MIN.into(), i8::MAX.into()),
        DataType::Int16 => (i16::MIN.into(), i16::MAX.into()),
        DataType::Int32 => (i32::MIN.into(), i32::MAX.into()),
        DataType::Int64 => (i64::MIN.into(), i64::MAX.into()),
        DataType::UInt8 => (0, u8::MAX.into()),
        DataType::UInt16 => (0, u16::MAX.into()),
        DataType::UInt32 => (0, u32::MAX.into()),
        DataType::UInt64 => (0, u64::MAX.into()),
        _ => return None,
    })
}

/// How many digits the integers of a type have at most.
fn digits(of: &DataType) -> i32 {
    match of {
        DataType::Int8 | DataType::UInt8 => 3,
        DataType::Int16 | DataType::UInt16 => 5,
        DataType::Int32 | DataType::UInt32 => 10,
        DataType::Int64 => 19,
        _ => 20,
    }
}

#[cfg(test)]
mod tests {
    use arrow::compute::cast;

    use super::*;

    #[test]
    fn the_preimage_of_a_cast_is_what_arrow_casts_to_it() {
        use DataType as D;
        let micros = |zone: Option<&str>| D::Timestamp(TimeUnit::Microsecond, zone.map(Into::into));
        let day = 86_400_000_000_i128;
        let near = |points: &[i128], by: &[i128]| {
            let mut all: Vec<i128> =
                points.iter().flat_map(|point| by.iter().map(move |by| point + by)).collect();
            all.sort_unstable();
            all.dedup();
            all
        };
        let around = [-3, -2, -1, 0, 1, 2, 3];
        let times = near(&[-2 * day, -day, -1_000_000, 0, 1_000_000, day, -62_135_596_800_000_000], &around);
        let amounts = near(&[-15_000, -10_000, -5_050, -50, 0, 50, 5_050, 10_000], &around);
        let cases = [
            (micros(None), D::Date32, times.clone()),
            (micros(Some("+08:00")), D::Date32, near(&[-day, -day / 3, 0, day * 2 / 3], &around)),
            (micros(None), D::Timestamp(TimeUnit::Second, None), times.clone()),
            (micros(None), D::Timestamp(TimeUnit::Millisecond, Some("-05:30".into())), times),
            (D::Decimal128(20, 4), D::Decimal128(20, 2), amounts.clone()),
            (D::Decimal128(20, 2), D::Int64, amounts.clone()),
            (D::Decimal128(20, 2), D::Decimal128(22, 4), amounts.clone()),
            (D::Int32, D::Decimal128(14, 4), amounts.clone()),
            (D::Int64, D::Int32, amounts),
            (D::Date32, micros(None), near(&[-719_162, 0, 100], &around)),
        ];
        for (from, to, counts) in cases {
            let map = Map::of_cast(&from, &to).unwrap();
            let images: Vec<(i128, i128)> = counts
                .iter()
                .map(|count| {
                    let value = value_of(*count, &from).unwrap().to_array().unwrap();
                    let image = ScalarValue::try_from_array(&cast(&value, &to).unwrap(), 0).unwrap();
                    (*count, ticks(&image).unwrap())
                })
                .collect();
            // Each image, and what lies beside it and may be none.
            for target in images.iter().flat_map(|(_, image)| [image - 1, *image, image + 1]) {
                let Preimage { first, end } = map.preimage(target).unwrap();
                for (count, image) in &images {
                    let place = (*count < first, *count >= end);
                    let expected = (*image < target, *image > target);
                    assert_eq!(place, expected, "{from} to {to}: {count} becomes {image}; of {target}");
                }
            }
        }
    }

    #[test]
    fn only_zones_without_a_clock_change_have_an_offset() {
        assert_eq!(fixed_offset(Some("+08:00")), Some(8 * 3600));
        assert_eq!(fixed_offset(Some("-0530")), Some(-(5 * 3600 + 1800)));
        assert_eq!(fixed_offset(Some("UTC")), Some(0));
        assert_eq!(fixed_offset(None), Some(0));
        for zone in ["Europe/London", "+8", "+99:00", "+0é:00"] {
            assert_eq!(fixed_offset(Some(zone)), None, "{zone}");
        }
    }
}
