//! Which type a column of text has, when every value of the whole table is of it.
//!
//! A [`Candidates`] is the set of types that all values so far can be read as. Sets of files are intersected, in any
//! order, so that the type is the table's and not the first file's. A type is only a candidate for a value when nothing
//! that a reader could care about is lost by it: `007`, `+49` and numbers beyond 64 bits stay text, as does `$5,150.00`.

use arrow::datatypes::{DataType, TimeUnit};
use serde::{Deserialize, Serialize};

use crate::parse;

const BOOLEAN: u8 = 1;
const INTEGER: u8 = 2;
const FLOAT: u8 = 4;
const DATE: u8 = 8;
const TIMESTAMP: u8 = 16;
const INSTANT: u8 = 32;
const ALL: u8 = 63;

/// The types that every value so far can be read as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Candidates {
    types: u8,
    /// Whether there was any value at all.
    seen: bool,
    /// Empty strings that are not NULL (quoted ones) among the values.
    empty: u64,
}

impl Default for Candidates {
    fn default() -> Self {
        Self { types: ALL, seen: false, empty: 0 }
    }
}

impl Candidates {
    /// Takes in a value that is not NULL; `text` when its source says that it is a string (JSON does).
    #[inline]
    pub(crate) fn observe(&mut self, value: &[u8], text: bool) {
        if value.is_empty() {
            self.empty += 1;
            return;
        }
        self.seen = true;
        if self.types != 0 {
            let types = classify(value);
            self.types &= if text { types & (DATE | TIMESTAMP | INSTANT) } else { types };
        }
    }

    /// What both have seen.
    pub(crate) fn merge(&mut self, other: Self) {
        self.types &= other.types;
        self.seen |= other.seen;
        self.empty += other.empty;
    }

    /// The narrowest candidate; text when there is none, or when there were no values to judge by.
    pub(crate) fn data_type(self) -> DataType {
        let has = |t: u8| self.seen && self.types & t != 0;
        if has(BOOLEAN) {
            DataType::Boolean
        } else if has(INTEGER) {
            DataType::Int64
        } else if has(FLOAT) {
            DataType::Float64
        } else if has(DATE) {
            DataType::Date32
        } else if has(TIMESTAMP) {
            DataType::Timestamp(TimeUnit::Microsecond, None)
        } else if has(INSTANT) {
            DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
        } else {
            DataType::Utf8
        }
    }

    /// Whether empty strings must become NULL before the column is cast to its type.
    pub(crate) fn empty_as_null(self) -> bool {
        self.empty > 0 && self.data_type() != DataType::Utf8
    }

    /// How many those are.
    pub(crate) fn empty_count(self) -> u64 {
        self.empty
    }
}

fn classify(value: &[u8]) -> u8 {
    match value[0] {
        b'0'..=b'9' | b'-' | b'.' => {}
        b't' | b'T' | b'f' | b'F' => {
            let is = |word: &str| value.eq_ignore_ascii_case(word.as_bytes());
            return if is("true") || is("false") { BOOLEAN } else { 0 };
        }
        _ => return 0,
    }
    if value.len() >= 10 && value[4] == b'-' {
        return classify_time(value);
    }
    let digits = value.strip_prefix(b"-").unwrap_or(value);
    if digits.iter().all(u8::is_ascii_digit) {
        let leading_zero = digits.first() == Some(&b'0') && (digits.len() > 1 || value.len() > 1);
        return match parse::integer(value) {
            Some(n) if !leading_zero => {
                INTEGER | if n.unsigned_abs() <= 1 << f64::MANTISSA_DIGITS { FLOAT } else { 0 }
            }
            _ => 0,
        };
    }
    if plain_float(digits) { FLOAT } else { 0 }
}

/// Digits with a point among or before them, and perhaps an exponent; no leading zeros but one.
fn plain_float(value: &[u8]) -> bool {
    let (mantissa, exponent) = match value.iter().position(|b| matches!(b, b'e' | b'E')) {
        Some(at) => (&value[..at], Some(&value[at + 1..])),
        None => (value, None),
    };
    let (whole, fraction) = match mantissa.iter().position(|&b| b == b'.') {
        Some(at) => (&mantissa[..at], Some(&mantissa[at + 1..])),
        None => (mantissa, None),
    };
    let digits = |part: &[u8]| part.iter().all(u8::is_ascii_digit);
    let whole_fits = digits(whole) && (whole.len() <= 1 || whole[0] != b'0') && whole.len() <= 15;
    let fraction_fits = fraction.is_none_or(|f| !f.is_empty() && digits(f));
    let exponent_fits = exponent.is_none_or(|e| {
        let e = e.strip_prefix(b"-").or(e.strip_prefix(b"+")).unwrap_or(e);
        !e.is_empty() && e.len() <= 3 && digits(e)
    });
    whole_fits
        && fraction_fits
        && exponent_fits
        && (!whole.is_empty() || fraction.is_some())
        && parse::float(value)
            .is_some_and(|v| keeps_digits(whole, fraction.unwrap_or_default(), exponent.is_some(), v))
}

/// Whether a reader gets the digits back. A double holds 15 of any number, and 17 tell each double from all others; more are
/// only kept when they are those of a double that was written out.
fn keeps_digits(whole: &[u8], fraction: &[u8], has_exponent: bool, value: f64) -> bool {
    let count = whole.len() + fraction.len();
    let digits = || whole.iter().chain(fraction);
    if value == 0.0 {
        return digits().all(|d| *d == b'0');
    }
    if count <= 17 {
        return true;
    }
    let leading = digits().take_while(|d| **d == b'0').count();
    let trailing = digits().rev().take_while(|d| **d == b'0').count();
    if count - leading - trailing <= 17 {
        return true;
    }
    let written = format!("{value:.*}", fraction.len());
    let rest = written.as_bytes().strip_suffix(fraction).and_then(|rest| rest.strip_suffix(b"."));
    !has_exponent && rest.is_some_and(|rest| rest == whole || (whole.is_empty() && rest == b"0"))
}

fn classify_time(value: &[u8]) -> u8 {
    if value.len() == 10 {
        return if parse::date(value).is_some() { DATE | TIMESTAMP } else { 0 };
    }
    match parse::timestamp(value) {
        // Iceberg's timestamps have microseconds: digits beyond them would be lost.
        Some(t) if t.nanos % 1000 == 0 && parse::written_in_full(value) => {
            if t.offset.is_some() {
                INSTANT
            } else {
                TIMESTAMP
            }
        }
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inferred(values: &[&str]) -> DataType {
        let mut types = Candidates::default();
        values.iter().for_each(|v| types.observe(v.as_bytes(), false));
        types.data_type()
    }

    #[test]
    fn a_type_is_inferred_only_when_it_loses_nothing() {
        let micros = |tz: Option<&str>| DataType::Timestamp(TimeUnit::Microsecond, tz.map(Into::into));
        let cases: &[(&[&str], DataType)] = &[
            (&[], DataType::Utf8),
            (&["1", "-5", "0"], DataType::Int64),
            (&["1", "2.5", "1e3", ".5", "-0"], DataType::Utf8),
            (&["1", "2.5", "1e3", ".5", "-0.0"], DataType::Float64),
            (&["1", "007"], DataType::Utf8),
            (&["+49"], DataType::Utf8),
            (&["9223372036854775807"], DataType::Int64),
            (&["9223372036854775808"], DataType::Utf8),
            (&["9223372036854775807", "0.5"], DataType::Utf8),
            (&["1e999"], DataType::Utf8),
            (&["1e-999"], DataType::Utf8),
            (&["0e-999", "0.0000000000000000000"], DataType::Float64),
            (
                &["0.10000000000000001", "1.50000000000000000000", "0.00000000000000000000123"],
                DataType::Float64,
            ),
            (&["0.10000000000000000555", ".10000000000000000555"], DataType::Float64),
            (&["0.12345678901234567890"], DataType::Utf8),
            (&["12345678901234.567890"], DataType::Utf8),
            (&["1.2345678901234567891e3"], DataType::Utf8),
            (&["$5,150.00", "7"], DataType::Utf8),
            (&["true", "FALSE"], DataType::Boolean),
            (&["t", "f"], DataType::Utf8),
            (&["true", "1"], DataType::Utf8),
            (&["2024-02-29", "1969-01-01"], DataType::Date32),
            (&["2023-02-29"], DataType::Utf8),
            (&["2024-02-29", "2024-02-29T10:00:00"], micros(None)),
            (&["2024-02-29 10:00:00.123456"], micros(None)),
            (&["2024-02-29 10:00:00.123456789"], DataType::Utf8),
            (&["2024-02-29T10:00:00Z", "2024-02-29T10:00:00+02:00"], micros(Some("UTC"))),
            (&["2024-02-29T10:00:00Z", "2024-02-29T10:00:00"], DataType::Utf8),
        ];
        for (values, expected) in cases {
            assert_eq!(inferred(values), *expected, "{values:?}");
        }
    }

    #[test]
    fn what_is_inferred_is_what_arrow_casts() {
        use arrow::array::{Array, ArrayRef, StringArray};
        use arrow::compute::{CastOptions, cast_with_options};
        use std::sync::Arc;
        let mut seed = 0x9E37_79B9_7F4A_7C15_u64;
        let mut next = |n: usize| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            (seed % n as u64) as usize
        };
        let seeds = [
            "2024-02-29T10:11:12.123456Z",
            "2024-02-29 00:00:00+05:30",
            "-12345.678e-12",
            "1969-12-31",
            "true",
            "0.5",
            "17",
        ];
        let alphabet = b"0123456789-+.:eETZ tfrualse";
        let mut taken = 0;
        for _ in 0..200_000 {
            let mut text = seeds[next(seeds.len())].as_bytes().to_vec();
            for _ in 0..next(4) {
                let at = next(text.len());
                match next(3) {
                    0 => text[at] = alphabet[next(alphabet.len())],
                    1 => text.insert(at, alphabet[next(alphabet.len())]),
                    _ if text.len() > 1 => drop(text.remove(at)),
                    _ => {}
                }
            }
            let text = String::from_utf8(text).unwrap();
            let mut types = Candidates::default();
            types.observe(text.as_bytes(), false);
            for bit in [BOOLEAN, INTEGER, FLOAT, DATE, TIMESTAMP, INSTANT] {
                if types.types & bit == 0 {
                    continue;
                }
                taken += 1;
                let to = Candidates { types: bit, ..types }.data_type();
                let array: ArrayRef = Arc::new(StringArray::from(vec![text.as_str()]));
                let cast = cast_with_options(&array, &to, &CastOptions { safe: true, ..Default::default() })
                    .unwrap();
                assert_eq!(cast.null_count(), 0, "{text} as {to}");
            }
        }
        assert!(taken > 10_000, "{taken}");
    }
}
