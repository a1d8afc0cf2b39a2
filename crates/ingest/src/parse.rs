//! Values from text, without allocation. `None` is "does not parse": nothing is rounded, clamped or guessed.

use std::str::FromStr;

use crate::options::Conversion;

/// An integer: an optional sign and digits.
#[inline]
pub(crate) fn integer(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text.first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    if digits.is_empty() {
        return None;
    }
    if digits.len() <= 18 {
        let mut value = 0_i64;
        for &b in digits {
            let digit = b.wrapping_sub(b'0');
            if digit > 9 {
                return None;
            }
            value = value * 10 + i64::from(digit);
        }
        return Some(if negative { -value } else { value });
    }
    let mut value = 0_i64; // counted downwards: the most negative number has no positive twin
    for &b in digits {
        let digit = b.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value.checked_mul(10)?.checked_sub(i64::from(digit))?;
    }
    if negative { Some(value) } else { value.checked_neg() }
}

/// A floating-point number as Rust reads it, `NaN` and `inf` included; a number beyond the type's range is not infinity.
#[inline]
pub(crate) fn float<F: FromStr + Into<f64> + Copy>(text: &[u8]) -> Option<F> {
    let value: F = std::str::from_utf8(text).ok()?.parse().ok()?;
    let beyond = value.into().is_infinite() && text.iter().any(u8::is_ascii_digit);
    (!beyond).then_some(value)
}

/// A boolean: true, t, yes, y, 1 and their opposites, in any case.
pub(crate) fn boolean(text: &[u8]) -> Option<bool> {
    let is = |words: &[&str]| words.iter().any(|w| text.eq_ignore_ascii_case(w.as_bytes()));
    match text {
        b"t" | b"1" => Some(true),
        b"f" | b"0" => Some(false),
        _ if is(&["true", "t", "yes", "y"]) => Some(true),
        _ if is(&["false", "f", "no", "n"]) => Some(false),
        _ => None,
    }
}

#[inline]
fn two(text: &[u8]) -> Option<u32> {
    let (a, b) = (text[0].wrapping_sub(b'0'), text[1].wrapping_sub(b'0'));
    (a <= 9 && b <= 9).then(|| u32::from(a) * 10 + u32::from(b))
}

/// A date, `2024-06-22`, as days since 1970-01-01. Years 0001 to 9999.
#[inline]
pub(crate) fn date(text: &[u8]) -> Option<i32> {
    if text.len() != 10 || text[4] != b'-' || text[7] != b'-' {
        return None;
    }
    let year = two(&text[..2])? * 100 + two(&text[2..4])?;
    let (month, day) = (two(&text[5..7])?, two(&text[8..])?);
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let days = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 => 28 + u32::from(leap),
        _ => return None,
    };
    if year == 0 || day == 0 || day > days {
        return None;
    }
    Some(days_from_civil(year as i32, month as i32, day as i32))
}

/// Days since 1970-01-01 in the proleptic Gregorian calendar, for years of 0 and later: the year starts in March, so that
/// the leap day is its last.
fn days_from_civil(year: i32, month: i32, day: i32) -> i32 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let month = (month + 9) % 12;
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// A point in time, or one on a calendar when it has no offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Timestamp {
    /// Seconds since 1970-01-01T00:00:00, the offset taken off.
    pub(crate) seconds: i64,
    pub(crate) nanos: u32,
    /// Seconds east of UTC, where the text says so.
    pub(crate) offset: Option<i32>,
}

/// `2024-06-22`, or with `T` or a space and `10:11`, `10:11:12` or `10:11:12.123456789`, and then perhaps `Z` or an offset.
pub(crate) fn timestamp(text: &[u8]) -> Option<Timestamp> {
    let seconds = i64::from(date(text.get(..10)?)?) * 86_400;
    let mut rest = &text[10..];
    let mut at = Timestamp { seconds, nanos: 0, offset: None };
    if rest.is_empty() {
        return Some(at);
    }
    if !matches!(rest[0], b'T' | b' ') || rest.len() < 6 || rest[3] != b':' {
        return None;
    }
    let (hour, minute) = (two(&rest[1..3])?, two(&rest[4..6])?);
    rest = &rest[6..];
    let mut second = 0;
    if rest.first() == Some(&b':') {
        second = two(rest.get(1..3)?)?;
        rest = &rest[3..];
        if rest.first() == Some(&b'.') {
            let digits = rest[1..].iter().take_while(|b| b.is_ascii_digit()).count();
            if digits == 0 || digits > 9 {
                return None;
            }
            let value = rest[1..=digits].iter().fold(0, |n, b| n * 10 + u32::from(b - b'0'));
            at.nanos = value * 10_u32.pow(9 - digits as u32);
            rest = &rest[1 + digits..];
        }
    }
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    at.seconds += i64::from(hour * 3600 + minute * 60 + second);
    at.offset = match rest {
        b"" => None,
        b"Z" => Some(0),
        [sign @ (b'+' | b'-'), rest @ ..] => {
            let (hours, minutes) = match rest {
                [_, _] => (two(rest)?, 0),
                [_, _, _, _] => (two(&rest[..2])?, two(&rest[2..])?),
                [_, _, b':', _, _] => (two(&rest[..2])?, two(&rest[3..])?),
                _ => return None,
            };
            if hours > 23 || minutes > 59 {
                return None;
            }
            let east = (hours * 3600 + minutes * 60) as i32;
            Some(if *sign == b'-' { -east } else { east })
        }
        _ => return None,
    };
    at.seconds -= i64::from(at.offset.unwrap_or(0));
    Some(at)
}

/// A time of day, `10:11`, `10:11:12` or with up to six digits after the point, in microseconds since midnight.
pub(crate) fn time_micros(text: &[u8]) -> Option<i64> {
    let mut full = Vec::with_capacity(32);
    full.extend_from_slice(b"1970-01-01T");
    full.extend_from_slice(text);
    let at = timestamp(&full)?;
    at.offset.is_none().then(|| at.in_units(1_000_000)).flatten()
}

/// Whether a timestamp that parses is written in the form that every reader takes: seconds, and an offset as `Z` or `+00:00`.
pub(crate) fn written_in_full(text: &[u8]) -> bool {
    text.get(16) == Some(&b':')
        && match text.iter().skip(19).position(|b| matches!(b, b'+' | b'-')) {
            Some(at) => text.len() - (19 + at) == 6,
            None => true,
        }
}

impl Timestamp {
    /// In units of which there are `per_second`; `None` where that would round or overflow.
    #[inline]
    pub(crate) fn in_units(self, per_second: i64) -> Option<i64> {
        let nanos_per_unit = 1_000_000_000 / per_second;
        let nanos = i64::from(self.nanos);
        if nanos % nanos_per_unit != 0 {
            return None;
        }
        self.seconds.checked_mul(per_second)?.checked_add(nanos / nanos_per_unit)
    }
}

/// A decimal number as an integer of 10^-scale: a sign, digits, and perhaps a point and digits. Digits beyond the scale must
/// be zeros.
#[inline]
pub(crate) fn decimal(text: &[u8], precision: u8, scale: u8) -> Option<i128> {
    let (negative, digits) = match text.first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    unsigned_decimal(digits, precision, scale, false).map(|v| if negative { -v } else { v })
}

/// Digits with a point; with `grouped`, commas may part groups of thousands (or of hundreds above them, as in India).
fn unsigned_decimal(text: &[u8], precision: u8, scale: u8, grouped: bool) -> Option<i128> {
    // Up to 18 digits fit into the shorter integer, which is several times faster.
    let (mut short, mut long) = (0_u64, 0_i128);
    let mut digits = 0_usize;
    let mut fraction: Option<u8> = None;
    let mut group: Option<usize> = None; // digits since the last comma
    for &b in text {
        match b {
            b'0'..=b'9' => {
                if let Some(taken) = fraction.as_mut() {
                    if *taken == scale {
                        if b != b'0' {
                            return None;
                        }
                        digits = digits.max(1);
                        continue;
                    }
                    *taken += 1;
                } else if let Some(group) = group.as_mut() {
                    *group += 1;
                }
                digits += 1;
                if digits <= 18 {
                    short = short * 10 + u64::from(b - b'0');
                } else {
                    let above = if digits == 19 { i128::from(short) } else { long };
                    long = above.checked_mul(10)?.checked_add(i128::from(b - b'0'))?;
                }
            }
            b'.' if fraction.is_none() => fraction = Some(0),
            b',' if grouped && fraction.is_none() => {
                let first = group.is_none();
                let size = group.unwrap_or(digits);
                if size == 0 || size > 3 || (!first && size < 2) {
                    return None;
                }
                group = Some(0);
            }
            _ => return None,
        }
    }
    if digits == 0 || group.is_some_and(|size| size != 3) {
        return None;
    }
    let value = if digits <= 18 { i128::from(short) } else { long };
    let missing = scale.saturating_sub(fraction.unwrap_or(0));
    let value = value.checked_mul(*POWERS_OF_TEN.get(usize::from(missing))?)?;
    (value < *POWERS_OF_TEN.get(usize::from(precision))?).then_some(value)
}

/// 10 to the power of the index.
const POWERS_OF_TEN: [i128; 39] = {
    let mut powers = [1; 39];
    let mut at = 1;
    while at < powers.len() {
        powers[at] = powers[at - 1] * 10;
        at += 1;
    }
    powers
};

/// An amount of money: a currency's symbol or code before or after it, commas between thousands, a minus sign or brackets.
pub(crate) fn money(text: &[u8], precision: u8, scale: u8) -> Option<i128> {
    // As nearly all amounts are written; the rules below would find the same.
    if let Some(amount @ [b'0'..=b'9', ..]) = text.strip_prefix(b"$")
        && let Some(value) = unsigned_decimal(amount, precision, scale, true)
    {
        return Some(value);
    }
    let text = std::str::from_utf8(text).ok()?.trim();
    let (bracketed, text) = match text.strip_prefix('(').and_then(|t| t.strip_suffix(')')) {
        Some(inner) => (true, inner.trim()),
        None => (false, text),
    };
    let (minus, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest.trim_start()),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    // Letters and signs of currencies: a dash of typographers is neither, and would be a minus sign lost.
    let symbol = |c: char| is_currency_sign(c) || (!c.is_ascii() && c.is_alphabetic());
    let start = text.find(|c: char| c.is_ascii_digit() || matches!(c, '.' | '-'))?;
    let end = text.rfind(|c: char| c.is_ascii_digit() || c == '.')? + 1;
    let (before, rest) = text.split_at(start);
    if end <= start {
        return None;
    }
    let (amount, after) = rest.split_at(end - start);
    // The point may end an abbreviation (`RS.500`) as well as begin a fraction.
    if amount.starts_with('.') && before.ends_with(char::is_alphabetic) {
        return None;
    }
    let (before, after) = (before.trim(), after.trim());
    let currency = |t: &str| {
        t.chars().all(symbol) || (t.len() <= 4 && t.chars().all(|c| c.is_ascii_uppercase() || c == '$'))
    };
    if !currency(before) || !currency(after) || (!before.is_empty() && !after.is_empty()) {
        return None;
    }
    let (inner_minus, amount) = match amount.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, amount),
    };
    if [bracketed, minus, inner_minus].iter().filter(|b| **b).count() > 1 {
        return None;
    }
    let value = unsigned_decimal(amount.as_bytes(), precision, scale, true)?;
    Some(if bracketed || minus || inner_minus { -value } else { value })
}

/// Whether Unicode takes a character for a sign of a currency (its general category Sc).
fn is_currency_sign(c: char) -> bool {
    matches!(c,
        '$' | '\u{A2}'..='\u{A5}' | '\u{58F}' | '\u{60B}' | '\u{7FE}'..='\u{7FF}' | '\u{9F2}'..='\u{9F3}' | '\u{9FB}'
        | '\u{AF1}' | '\u{BF9}' | '\u{E3F}' | '\u{17DB}' | '\u{20A0}'..='\u{20CF}' | '\u{A838}' | '\u{FDFC}' | '\u{FE69}'
        | '\u{FF04}' | '\u{FFE0}'..='\u{FFE1}' | '\u{FFE5}'..='\u{FFE6}')
}

/// A date in a `strftime` format.
pub(crate) fn formatted_date(text: &[u8], format: &str) -> Option<i32> {
    use chrono::Datelike;
    let date = chrono::NaiveDate::parse_from_str(std::str::from_utf8(text).ok()?, format).ok()?;
    date.num_days_from_ce().checked_sub(719_163)
}

/// A timestamp in a `strftime` format, with an offset where the format has one.
pub(crate) fn formatted_timestamp(text: &[u8], format: &str) -> Option<Timestamp> {
    let text = std::str::from_utf8(text).ok()?;
    if Conversion::has_offset(format) {
        let at = chrono::DateTime::parse_from_str(text, format).ok()?;
        let offset = Some(at.offset().local_minus_utc());
        return Some(Timestamp { seconds: at.timestamp(), nanos: at.timestamp_subsec_nanos(), offset });
    }
    let at = chrono::NaiveDateTime::parse_from_str(text, format).ok()?.and_utc();
    Some(Timestamp { seconds: at.timestamp(), nanos: at.timestamp_subsec_nanos(), offset: None })
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::Datelike;

    #[test]
    fn integers() {
        for (text, expected) in [
            ("0", Some(0)),
            ("-12", Some(-12)),
            ("+7", Some(7)),
            ("007", Some(7)),
            ("9223372036854775807", Some(i64::MAX)),
            ("-9223372036854775808", Some(i64::MIN)),
            ("9223372036854775808", None),
            ("", None),
            ("-", None),
            ("1.0", None),
            ("1a", None),
            ("٣", None),
        ] {
            assert_eq!(integer(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn a_number_beyond_a_floats_range_is_not_infinity() {
        assert_eq!(float::<f64>(b"-inf"), Some(f64::NEG_INFINITY));
        assert_eq!(float::<f64>(b"1e308"), Some(1e308));
        assert_eq!(float::<f64>(b"1e309"), None);
        assert_eq!(float::<f32>(b"1e38"), Some(1e38));
        assert_eq!(float::<f32>(b"1e39"), None);
    }

    #[test]
    fn every_day_from_1_to_9999_is_as_chrono_counts_it() {
        let mut day = chrono::NaiveDate::from_ymd_opt(1, 1, 1).unwrap();
        while day.year() < 10_000 {
            let expected = day.num_days_from_ce() - 719_163;
            let text = format!("{:04}-{:02}-{:02}", day.year(), day.month(), day.day());
            assert_eq!(date(text.as_bytes()), Some(expected), "{text}");
            day = day + chrono::Days::new(1);
        }
        for bad in [
            "2023-02-29",
            "1900-02-29",
            "2024-13-01",
            "2024-00-01",
            "2024-01-00",
            "0000-01-01",
            "2024-1-01",
            "2024/01/01",
        ] {
            assert_eq!(date(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn timestamps() {
        let micros = |text: &str| timestamp(text.as_bytes()).and_then(|t| t.in_units(1_000_000));
        assert_eq!(micros("1970-01-01T00:00:01"), Some(1_000_000));
        assert_eq!(micros("1970-01-01 00:00:01.5"), Some(1_500_000));
        assert_eq!(micros("1969-12-31T23:59:59.999999Z"), Some(-1));
        assert_eq!(micros("1970-01-01T02:00:00+02:00"), Some(0));
        assert_eq!(micros("1970-01-01T00:00-0130"), Some(5_400_000_000));
        assert_eq!(micros("1970-01-01T00:00:00.1234567"), None, "rounding");
        for bad in [
            "1970-01-01T",
            "1970-01-01T1:00",
            "1970-01-01T24:00",
            "1970-01-01T00:00:60",
            "1970-01-01T00:00:00.",
            "1970-01-01T00:00:00X",
            "1970-01-01T00:00+1",
        ] {
            assert_eq!(timestamp(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn money_in_the_forms_that_partners_write() {
        for (text, cents) in [
            ("$70.00", Some(7000)),
            ("$5,150.00", Some(515_000)),
            ("-$5.5", Some(-550)),
            ("$-5", Some(-500)),
            ("($1,000.00)", Some(-100_000)),
            ("€ 12", Some(1200)),
            ("12.00 EUR", Some(1200)),
            ("US$3", Some(300)),
            ("₹1,00,000", Some(10_000_000)),
            ("1,50", None),
            ("1,5000", None),
            (",500", None),
            ("1.505", None),
            ("1.500", Some(150)),
            ("free", None),
            ("", None),
            ("$", None),
            ("-(5)", None),
            ("\u{2212}5.00", None), // a typographer's minus
            ("\u{2013}5", None),
            ("5\u{2212}", None),
            ("RS.500", None),
            ("$.50", Some(50)),
            ("500\u{5186}", Some(50_000)),
            ("\u{FFE5}5", Some(500)),
            ("1 2", None),
            ("$99999999.99", None),
        ] {
            assert_eq!(money(text.as_bytes(), 9, 2), cents, "{text}");
        }
    }

    /// Eighteen digits are the most that are read into the shorter integer.
    #[test]
    fn numbers_are_read_to_the_last_of_38_digits() {
        for digits in 1..=39_usize {
            let text = "9876543210".repeat(4)[..digits].to_string();
            let expected = text.parse::<i128>().ok().filter(|_| digits <= 38);
            assert_eq!(decimal(text.as_bytes(), 38, 0), expected, "{text}");
            assert_eq!(money(format!("${text}").as_bytes(), 38, 0), expected, "{text}");
            let cents = expected.filter(|_| digits <= 36).map(|value| value * 100 + 5);
            assert_eq!(money(format!("${text}.05").as_bytes(), 38, 2), cents, "{text}.05");
            assert_eq!(money(format!("{text}.0500 USD").as_bytes(), 38, 2), cents, "{text}.0500");
        }
    }

    #[test]
    fn decimals_are_never_rounded() {
        assert_eq!(decimal(b"12.3", 5, 2), Some(1230));
        assert_eq!(decimal(b"-0.05", 5, 2), Some(-5));
        assert_eq!(decimal(b"999.99", 5, 2), Some(99_999));
        assert_eq!(decimal(b"1000", 5, 2), None);
        assert_eq!(decimal(b"0.001", 5, 2), None);
        assert_eq!(decimal(b"1,000", 9, 2), None);
        assert_eq!(decimal(b"", 9, 2), None);
        assert_eq!(decimal(b".", 9, 2), None);
    }

    #[test]
    fn formats_of_the_callers() {
        assert_eq!(formatted_date(b"22/06/2024", "%d/%m/%Y"), date(b"2024-06-22"));
        assert_eq!(formatted_date(b"06/22/2024", "%d/%m/%Y"), None);
        let at = formatted_timestamp(b"22.06.2024 10:11", "%d.%m.%Y %H:%M").unwrap();
        assert_eq!(Some(at), timestamp(b"2024-06-22T10:11:00"));
        let at = formatted_timestamp(b"2024-06-22 10:11:00 +0200", "%Y-%m-%d %H:%M:%S %z").unwrap();
        assert_eq!(Some(at), timestamp(b"2024-06-22T10:11:00+02:00"));
    }
}
