//! What is known of one column's values in a set of rows, and what that says of a test.
//!
//! Facts come from a file's counts and bounds, from its partition value, or from a manifest's summary of partition values.
//! What is not known is left open: [`Facts::might_match`] is then true and [`Facts::all_match`] false.

use std::borrow::Cow;
use std::cmp::Ordering;

use iceberg::spec::{DataFile, Datum, PrimitiveLiteral, PrimitiveType, Transform};

use super::Test;
use crate::format::claims;
use crate::format::partition::transform::transform_value;
use crate::format::value::compare;

/// How many of the values are of a kind: NULL, or NaN among those that are not NULL.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) enum Share {
    None,
    All,
    #[default]
    Unknown,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Facts<'a> {
    /// At most any value that is neither NULL nor NaN.
    pub lower: Option<Cow<'a, Datum>>,
    /// At least any value that is neither NULL nor NaN.
    pub upper: Option<Cow<'a, Datum>>,
    /// What every string that is not NULL starts with.
    pub prefix: Option<String>,
    /// The number of buckets, and the least and the greatest one that values are in.
    pub bucket: Option<(u32, i32, i32)>,
    pub nulls: Share,
    pub nans: Share,
}

impl<'a> Facts<'a> {
    /// What a data file's counts and bounds say of a column.
    pub(super) fn of_file(file: &'a DataFile, id: i32, of: &PrimitiveType) -> Self {
        let rows = file.record_count();
        let (nulls, nans) = (claims::null_count(file, id), claims::nan_count(file, id));
        let (lower, upper) = claims::bounds(file, id);
        Self {
            lower: lower.map(Cow::Borrowed),
            upper: upper.map(Cow::Borrowed),
            nulls: match nulls {
                Some(0) => Share::None,
                Some(nulls) if nulls == rows => Share::All,
                _ => Share::Unknown,
            },
            nans: match (nulls, nans) {
                _ if !is_float(of) => Share::None,
                (_, Some(0)) => Share::None,
                (nulls, Some(nans)) if nulls.unwrap_or_default().checked_add(nans) == Some(rows) => {
                    Share::All
                }
                _ => Share::Unknown,
            },
            ..Self::default()
        }
    }

    /// Whether a row may pass the test: false only if none can.
    pub(super) fn might_match(&self, test: &Test, of: &PrimitiveType) -> bool {
        let all_null = self.nulls == Share::All;
        match test {
            Test::IsNull => self.nulls != Share::None,
            Test::NotNull => !all_null,
            Test::IsNan => is_float(of) && !all_null && self.nans != Share::None,
            Test::NotNan => self.nans != Share::All || self.nulls != Share::None,
            // Of no value, this is true of NULL as well.
            Test::NotIn(none) if none.is_empty() => true,
            _ if all_null => false,
            Test::Eq(value) => self.might_equal(value, of),
            Test::In(values) => values.iter().any(|value| self.might_equal(value, of)),
            // Readers differ in where they put NaN, and Arrow puts it below or above by its sign.
            _ if self.nans != Share::None => true,
            Test::NotEq(value) => !self.all_equal(value),
            Test::NotIn(values) => !values.iter().any(|value| self.all_equal(value)),
            Test::Lt(value) => !matches!(self.lower_to(value), Some(Ordering::Greater | Ordering::Equal)),
            Test::LtEq(value) => self.lower_to(value) != Some(Ordering::Greater),
            Test::Gt(value) => !matches!(self.upper_to(value), Some(Ordering::Less | Ordering::Equal)),
            Test::GtEq(value) => self.upper_to(value) != Some(Ordering::Less),
            Test::StartsWith(start) => !self.all_outside(start),
            Test::NotStartsWith(start) => !self.all_start_with(start),
        }
    }

    /// Whether every row passes the test: true only if so.
    pub(super) fn all_match(&self, test: &Test, of: &PrimitiveType) -> bool {
        match test {
            Test::IsNull => self.nulls == Share::All,
            Test::NotNull => self.nulls == Share::None,
            Test::IsNan => is_float(of) && self.nulls == Share::None && self.nans == Share::All,
            Test::NotNan => self.nans == Share::None || self.nulls == Share::All,
            _ if self.nulls != Share::None => false,
            // NaN equals itself for every reader of the library, and all else is open.
            Test::Eq(value) if value.is_nan() => self.nans == Share::All,
            _ if self.nans != Share::None => false,
            Test::Eq(value) => self.all_equal(value),
            Test::In(values) => values.iter().any(|value| self.all_equal(value)),
            Test::NotEq(value) => self.excludes(value),
            Test::NotIn(values) => values.iter().all(|value| self.excludes(value)),
            Test::Lt(value) => self.upper_to(value) == Some(Ordering::Less),
            Test::LtEq(value) => matches!(self.upper_to(value), Some(Ordering::Less | Ordering::Equal)),
            Test::Gt(value) => self.lower_to(value) == Some(Ordering::Greater),
            Test::GtEq(value) => matches!(self.lower_to(value), Some(Ordering::Greater | Ordering::Equal)),
            Test::StartsWith(start) => self.all_start_with(start),
            Test::NotStartsWith(start) => self.all_outside(start),
        }
    }

    fn lower_to(&self, value: &Datum) -> Option<Ordering> {
        compare(self.lower.as_deref()?, value)
    }

    fn upper_to(&self, value: &Datum) -> Option<Ordering> {
        compare(self.upper.as_deref()?, value)
    }

    fn might_equal(&self, value: &Datum, of: &PrimitiveType) -> bool {
        if value.is_nan() {
            return self.nans != Share::None;
        }
        if self.nans == Share::All {
            return false;
        }
        if let Some((buckets, least, greatest)) = self.bucket
            && let Some(bucket) = bucket_of(value, of, buckets)
            && !(least..=greatest).contains(&bucket)
        {
            return false;
        }
        !self.out_of_bounds(value)
    }

    fn out_of_bounds(&self, value: &Datum) -> bool {
        if let (Some(prefix), PrimitiveLiteral::String(value)) = (&self.prefix, value.literal())
            && !value.starts_with(prefix)
        {
            return true;
        }
        self.lower_to(value) == Some(Ordering::Greater) || self.upper_to(value) == Some(Ordering::Less)
    }

    /// No value equals this one, and none is NaN.
    fn excludes(&self, value: &Datum) -> bool {
        !value.is_nan() && self.out_of_bounds(value)
    }

    fn all_equal(&self, value: &Datum) -> bool {
        self.lower_to(value) == Some(Ordering::Equal) && self.upper_to(value) == Some(Ordering::Equal)
    }

    /// Every string starts with this: what lies between two strings that do, does.
    fn all_start_with(&self, start: &str) -> bool {
        if start.is_empty() || self.prefix.as_ref().is_some_and(|prefix| prefix.starts_with(start)) {
            return true;
        }
        let starts = |bound: &Option<Cow<'_, Datum>>| text(bound).is_some_and(|text| text.starts_with(start));
        starts(&self.lower) && starts(&self.upper)
    }

    /// No string starts with this.
    fn all_outside(&self, start: &str) -> bool {
        let above = text(&self.lower).is_some_and(|lower| lower > start && !lower.starts_with(start));
        let below = text(&self.upper).is_some_and(|upper| upper < start);
        let apart = self
            .prefix
            .as_ref()
            .is_some_and(|prefix| !prefix.starts_with(start) && !start.starts_with(prefix));
        above || below || apart
    }
}

fn text<'a>(bound: &'a Option<Cow<'_, Datum>>) -> Option<&'a str> {
    match bound.as_deref()?.literal() {
        PrimitiveLiteral::String(text) => Some(text),
        _ => None,
    }
}

pub(super) fn is_float(of: &PrimitiveType) -> bool {
    matches!(of, PrimitiveType::Float | PrimitiveType::Double)
}

/// The bucket of a filter's value, which has to be of the column's own scale where it is a decimal.
fn bucket_of(value: &Datum, of: &PrimitiveType, buckets: u32) -> Option<i32> {
    match (value.data_type(), of) {
        (PrimitiveType::Decimal { scale: a, .. }, PrimitiveType::Decimal { scale: b, .. }) if a != b => {
            return None;
        }
        _ => {}
    }
    match transform_value(Transform::Bucket(buckets), value.data_type(), value.literal())? {
        PrimitiveLiteral::Int(bucket) => Some(bucket),
        _ => None,
    }
}
