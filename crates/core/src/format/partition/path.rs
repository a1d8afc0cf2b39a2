//! Partition values as text in file locations, character for character as Iceberg Java writes it.

use std::fmt::Write;

use iceberg::spec::{Literal, PrimitiveLiteral, PrimitiveType, Transform};

use super::transform::civil;

/// Java's `URLEncoder`: letters, digits and `.-*_` stay, a space becomes `+`, other UTF-8 bytes `%XX`.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'*' | b'_' => {
                escaped.push(char::from(byte))
            }
            b' ' => escaped.push('+'),
            other => {
                // Writing to a string can't fail.
                let _ = write!(escaped, "%{other:02X}");
            }
        }
    }
    escaped
}

/// A partition value for people, as Iceberg Java prints it: dates and times as such, binary in base 64, `null`. `of` is the
/// type that the transform gives.
pub fn human(transform: Transform, of: &PrimitiveType, value: Option<&Literal>) -> String {
    let value = match (transform, value) {
        (Transform::Void, _) | (_, None) => return "null".to_string(),
        (_, Some(Literal::Primitive(value))) => value,
        (_, Some(_)) => return "null".to_string(),
    };
    match (transform, value) {
        (Transform::Year, PrimitiveLiteral::Int(years)) => format!("{:04}", 1970 + i64::from(*years)),
        (Transform::Month, PrimitiveLiteral::Int(months)) => {
            format!("{:04}-{:02}", 1970 + i64::from(months.div_euclid(12)), months.rem_euclid(12) + 1)
        }
        (Transform::Day, PrimitiveLiteral::Int(days)) => day(i64::from(*days)),
        (Transform::Hour, PrimitiveLiteral::Int(hours)) => {
            format!("{}-{:02}", day(i64::from(hours.div_euclid(24))), hours.rem_euclid(24))
        }
        _ => of_type(of, value),
    }
}

fn of_type(of: &PrimitiveType, value: &PrimitiveLiteral) -> String {
    use PrimitiveLiteral as L;
    use PrimitiveType as T;
    match (of, value) {
        (T::Date, L::Int(days)) => day(i64::from(*days)),
        (T::Time, L::Long(micros)) => time(micros * 1000),
        (T::Timestamp, L::Long(micros)) => timestamp(i128::from(*micros) * 1000),
        (T::Timestamptz, L::Long(micros)) => timestamp(i128::from(*micros) * 1000) + "Z",
        (T::TimestampNs, L::Long(nanos)) => timestamp((*nanos).into()),
        (T::TimestamptzNs, L::Long(nanos)) => timestamp((*nanos).into()) + "Z",
        (T::Decimal { scale, .. }, L::Int128(value)) => decimal(*value, *scale),
        (_, L::Boolean(value)) => value.to_string(),
        (_, L::Int(value)) => value.to_string(),
        (_, L::Long(value)) => value.to_string(),
        (_, L::Float(value)) => float(value.0.into(), format!("{:e}", value.0)),
        (_, L::Double(value)) => float(value.0, format!("{:e}", value.0)),
        (_, L::String(value)) => value.clone(),
        (_, L::Binary(value)) => base64(value),
        (_, L::Int128(value)) => value.to_string(),
        (_, L::UInt128(value)) => uuid::Uuid::from_u128(*value).to_string(),
        (_, L::AboveMax | L::BelowMin) => "null".to_string(),
    }
}

fn day(days: i64) -> String {
    let (year, month, day) = civil(days);
    format!("{year:04}-{month:02}-{day:02}")
}

const NANOS_PER_DAY: i128 = 86_400_000_000_000;

/// As Java's `LocalDateTime` prints itself.
fn timestamp(nanos: i128) -> String {
    let (year, month, day) = civil(nanos.div_euclid(NANOS_PER_DAY) as i64);
    let sign = if year > 9999 { "+" } else { "" };
    let year = if year < 0 { format!("-{:04}", -year) } else { format!("{year:04}") };
    format!("{sign}{year}-{month:02}-{day:02}T{}", time(nanos.rem_euclid(NANOS_PER_DAY) as i64))
}

/// As Java's `LocalTime` prints itself: the shortest form that loses nothing, fractions in threes of digits.
fn time(nanos: i64) -> String {
    let (seconds, fraction) = (nanos.div_euclid(1_000_000_000), nanos.rem_euclid(1_000_000_000));
    let mut text = format!("{:02}:{:02}", seconds / 3600, seconds / 60 % 60);
    if seconds % 60 != 0 || fraction != 0 {
        let _ = write!(text, ":{:02}", seconds % 60);
    }
    let _ = match fraction {
        0 => Ok(()),
        _ if fraction % 1_000_000 == 0 => write!(text, ".{:03}", fraction / 1_000_000),
        _ if fraction % 1000 == 0 => write!(text, ".{:06}", fraction / 1000),
        _ => write!(text, ".{fraction:09}"),
    };
    text
}

/// As Java's `BigDecimal` prints itself: plain, but very small values with an exponent.
fn decimal(value: i128, scale: u32) -> String {
    let sign = if value < 0 { "-" } else { "" };
    let digits = value.unsigned_abs().to_string();
    let scale = scale as usize;
    if scale == 0 {
        return format!("{sign}{digits}");
    }
    let exponent = digits.len() as i64 - 1 - scale as i64;
    if exponent >= -6 {
        let padded = format!("{digits:0>width$}", width = scale + 1);
        let (whole, fraction) = padded.split_at(padded.len() - scale);
        return format!("{sign}{whole}.{fraction}");
    }
    let (first, rest) = digits.split_at(1);
    let point = if rest.is_empty() { "" } else { "." };
    format!("{sign}{first}{point}{rest}E{exponent}")
}

/// As Java's `Double` prints itself, from the shortest digits that tell the value apart.
fn float(value: f64, scientific: String) -> String {
    if value.is_nan() {
        return "NaN".to_string();
    }
    if value.is_infinite() {
        return if value < 0.0 { "-Infinity" } else { "Infinity" }.to_string();
    }
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if value != 0.0 && !(-3..7).contains(&exponent) {
        let point = if mantissa.contains('.') { "" } else { ".0" };
        return format!("{mantissa}{point}E{exponent}");
    }
    let (sign, unsigned) = match mantissa.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", mantissa),
    };
    let digits = unsigned.replace('.', "");
    if exponent < 0 {
        return format!("{sign}0.{}{digits}", "0".repeat((-exponent - 1) as usize));
    }
    let whole = exponent as usize + 1;
    let padded = format!("{digits:0<width$}", width = whole + 1);
    let (whole, fraction) = padded.split_at(whole);
    format!("{sign}{whole}.{fraction}")
}

/// Base 64 of RFC 4648 with padding.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let bits =
            chunk.iter().fold(0_u32, |bits, byte| (bits << 8) | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for i in 0..4 {
            if i <= chunk.len() {
                text.push(char::from(ALPHABET[(bits >> (18 - 6 * i)) as usize & 63]));
            } else {
                text.push('=');
            }
        }
    }
    text
}
