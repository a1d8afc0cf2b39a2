//! What partition values say of the column that they were made of.
//!
//! A partition value stands for a range of its source column: all rows of the partition are in it. So a filter on the column
//! is tested against that range, and no filter needs to be rewritten to partition values.

use std::borrow::Cow;

use iceberg::spec::{Datum, FieldSummary, Literal, PrimitiveLiteral, PrimitiveType, Transform};

use super::facts::{Facts, Share, is_float};
use crate::format::claims::is_contradiction;
use crate::format::partition::transform::{days_from_civil, next_string};
use crate::format::value::datum;

const MICROS_PER_HOUR: i64 = 3_600_000_000;

/// A partition field of one spec, over the column that it is made of.
#[derive(Debug, Clone)]
pub(super) struct PartitionColumn {
    /// Where the field's value is in a partition value.
    pub index: usize,
    pub source_id: i32,
    pub source: PrimitiveType,
    pub transform: Transform,
    pub result: PrimitiveType,
}

impl PartitionColumn {
    /// What one file's partition value says; the value is `None` where the partition value has no such field.
    pub(super) fn facts_of_value(&self, value: Option<&Option<Literal>>) -> Facts<'static> {
        let nothing = Facts::default();
        match (self.transform, value) {
            (Transform::Void | Transform::Unknown, _) | (_, None) => nothing,
            (_, Some(None)) => Facts { nulls: Share::All, nans: Share::None, ..nothing },
            (_, Some(Some(Literal::Primitive(value)))) => match datum(&self.result, value) {
                Ok(value) if value.is_nan() => Facts { nulls: Share::None, nans: Share::All, ..nothing },
                Ok(value) => {
                    let range = self.range(Some(&value), Some(&value));
                    Facts { nulls: Share::None, nans: Share::None, ..range }
                }
                Err(_) => nothing,
            },
            (_, Some(Some(_))) => nothing,
        }
    }

    /// What a manifest's summary says of all its files' partition values.
    pub(super) fn facts_of_summary(&self, summary: &FieldSummary) -> Facts<'static> {
        if matches!(self.transform, Transform::Void | Transform::Unknown) {
            return Facts::default();
        }
        let decode = |bytes: Option<&[u8]>| {
            bytes.map(|bytes| Datum::try_from_bytes(bytes, self.result.clone())).transpose()
        };
        let lower = decode(summary.lower_bound.as_ref().map(|bytes| bytes.as_slice()));
        let upper = decode(summary.upper_bound.as_ref().map(|bytes| bytes.as_slice()));
        let (Ok(lower), Ok(upper)) = (lower, upper) else {
            return Facts::default();
        };
        let nans = match summary.contains_nan {
            _ if !is_float(&self.result) => Share::None,
            Some(false) => Share::None,
            _ => Share::Unknown,
        };
        let nulls = match (summary.contains_null, &lower, &upper, nans) {
            (false, _, _, _) => Share::None,
            (true, None, None, Share::None) => Share::All,
            _ => Share::Unknown,
        };
        let is_nan = |bound: &Option<Datum>| bound.as_ref().is_some_and(Datum::is_nan);
        let contradicts = lower.as_ref().zip(upper.as_ref()).is_some_and(|(l, u)| is_contradiction(l, u));
        let range = if is_nan(&lower) || is_nan(&upper) || contradicts {
            Facts::default()
        } else {
            self.range(lower.as_ref(), upper.as_ref())
        };
        Facts { nulls, nans, ..range }
    }

    /// The source values whose partition values are from `lower` to `upper`.
    fn range(&self, lower: Option<&Datum>, upper: Option<&Datum>) -> Facts<'static> {
        match self.transform {
            Transform::Identity => {
                Facts { lower: owned(lower.cloned()), upper: owned(upper.cloned()), ..Facts::default() }
            }
            Transform::Bucket(buckets) => match (lower.map(Datum::literal), upper.map(Datum::literal)) {
                (Some(PrimitiveLiteral::Int(least)), Some(PrimitiveLiteral::Int(greatest))) => {
                    Facts { bucket: Some((buckets, *least, *greatest)), ..Facts::default() }
                }
                _ => Facts::default(),
            },
            Transform::Truncate(width) => {
                let last = upper.and_then(|value| self.last_truncated(value, width));
                let prefix = match (lower, upper) {
                    (Some(lower), Some(upper)) if lower == upper => match lower.literal() {
                        PrimitiveLiteral::String(text) => Some(text.clone()),
                        _ => None,
                    },
                    _ => None,
                };
                Facts { lower: owned(lower.cloned()), upper: owned(last), prefix, ..Facts::default() }
            }
            Transform::Year | Transform::Month | Transform::Day | Transform::Hour => {
                let ordinal = |value: &Datum| match value.literal() {
                    PrimitiveLiteral::Int(value) => Some(i64::from(*value)),
                    _ => None,
                };
                let first = lower.and_then(ordinal).and_then(|from| {
                    // Some writers rounded times before 1970 up, to the unit after the one that they are in.
                    let exact = self.transform == Transform::Day && self.source == PrimitiveType::Date;
                    self.start(if from <= 0 && !exact { from - 1 } else { from })
                });
                let last = upper.and_then(ordinal).and_then(|to| self.start(to + 1)?.checked_sub(1));
                let value = |of: i64| {
                    let literal = match self.source {
                        PrimitiveType::Date => PrimitiveLiteral::Int(i32::try_from(of).ok()?),
                        _ => PrimitiveLiteral::Long(of),
                    };
                    datum(&self.source, &literal).ok()
                };
                Facts {
                    lower: owned(first.and_then(value)),
                    upper: owned(last.and_then(value)),
                    ..Facts::default()
                }
            }
            Transform::Void | Transform::Unknown => Facts::default(),
        }
    }

    /// The greatest value that truncates to this one, or one above it.
    fn last_truncated(&self, value: &Datum, width: u32) -> Option<Datum> {
        use PrimitiveLiteral as L;
        let more = i64::from(width.checked_sub(1)?);
        let literal = match value.literal() {
            L::Int(value) => L::Int(i32::try_from(i64::from(*value) + more).unwrap_or(i32::MAX)),
            L::Long(value) => L::Long(value.saturating_add(more)),
            L::Int128(value) => L::Int128(value.saturating_add(more.into())),
            // A shorter string is whole.
            L::String(text) if text.chars().nth(more as usize).is_none() => L::String(text.clone()),
            L::String(text) => L::String(next_string(text)?),
            L::Binary(bytes) if (bytes.len() as i64) <= more => L::Binary(bytes.clone()),
            L::Binary(bytes) => {
                let mut above = bytes.clone();
                loop {
                    if let Some(next) = above.pop()?.checked_add(1) {
                        above.push(next);
                        break L::Binary(above);
                    }
                }
            }
            _ => return None,
        };
        datum(&self.result, &literal).ok()
    }

    /// The first source value of a year, month, day or hour, counted from 1970.
    fn start(&self, ordinal: i64) -> Option<i64> {
        let micros = match self.transform {
            Transform::Hour => ordinal.checked_mul(MICROS_PER_HOUR)?,
            transform => {
                let days = match transform {
                    Transform::Year => days_from_civil(1970 + ordinal, 1),
                    Transform::Month => {
                        days_from_civil(1970 + ordinal.div_euclid(12), ordinal.rem_euclid(12) as u32 + 1)
                    }
                    _ => ordinal,
                };
                if self.source == PrimitiveType::Date {
                    return Some(days);
                }
                days.checked_mul(24 * MICROS_PER_HOUR)?
            }
        };
        match self.source {
            PrimitiveType::Timestamp | PrimitiveType::Timestamptz => Some(micros),
            PrimitiveType::TimestampNs | PrimitiveType::TimestamptzNs => micros.checked_mul(1000),
            _ => None,
        }
    }
}

fn owned(value: Option<Datum>) -> Option<Cow<'static, Datum>> {
    value.map(Cow::Owned)
}
