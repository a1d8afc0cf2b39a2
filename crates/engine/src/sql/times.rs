//! Times and versions as texts and as values of expressions, and the snapshots that they mean.

use chrono::{DateTime, NaiveDate, NaiveDateTime};
use datafusion::common::ScalarValue;
use icefield_core::{AsOf, Error, Result, Table};

/// The last second of the year 9999. A bare number above it counts milliseconds, most likely.
const LAST_SECOND: i64 = 253_402_300_799;

/// A time as milliseconds since the epoch: RFC 3339, a date and time in UTC, a date (its first moment in
/// UTC), or seconds since the epoch, as Spark has them.
///
/// # Errors
/// [`InvalidInput`](icefield_core::ErrorKind::InvalidInput) for anything else.
pub(crate) fn parse_timestamp_ms(text: &str) -> Result<i64> {
    let text = text.trim();
    if let Ok(seconds) = text.parse::<i64>() {
        return seconds_to_ms(seconds);
    }
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Ok(time.timestamp_millis());
    }
    for form in ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M"] {
        if let Ok(time) = NaiveDateTime::parse_from_str(text, form) {
            return Ok(time.and_utc().timestamp_millis());
        }
    }
    for form in ["%Y-%m-%d %H:%M:%S%.f%:z", "%Y-%m-%d %H:%M:%S%.f %z"] {
        if let Ok(time) = DateTime::parse_from_str(text, form) {
            return Ok(time.timestamp_millis());
        }
    }
    if let Ok(date) = NaiveDate::parse_from_str(text, "%Y-%m-%d")
        && let Some(time) = date.and_hms_opt(0, 0, 0)
    {
        return Ok(time.and_utc().timestamp_millis());
    }
    Err(Error::invalid_input(
        "not a time: use 2024-06-30T00:00:00Z, 2024-06-30 00:00:00 (UTC), 2024-06-30 or seconds since 1970",
    )
    .with("value", text))
}

fn seconds_to_ms(seconds: i64) -> Result<i64> {
    if seconds > LAST_SECOND {
        let message = "a bare number is a time in seconds since 1970, and this one is after the year 9999; divide milliseconds \
                       by 1000, or write the time as 2024-06-30T00:00:00Z";
        return Err(Error::invalid_input(message).with("value", seconds));
    }
    seconds.checked_mul(1000).ok_or_else(|| no_time(&seconds.to_string()))
}

fn no_time(value: &str) -> Error {
    let message = "FOR TIMESTAMP AS OF takes a time, a date, a text such as '2024-06-30T00:00:00Z', or seconds since 1970";
    Error::invalid_input(message).with("value", value)
}

/// The snapshot that the value of a time means.
///
/// # Errors
/// [`InvalidInput`](icefield_core::ErrorKind::InvalidInput) for what is no time.
pub(super) fn time_of(value: &ScalarValue) -> Result<AsOf> {
    use ScalarValue as Value;
    let ms = match value {
        Value::Utf8(Some(text)) | Value::LargeUtf8(Some(text)) | Value::Utf8View(Some(text)) => {
            parse_timestamp_ms(text)?
        }
        Value::TimestampSecond(Some(seconds), _) => {
            seconds.checked_mul(1000).ok_or_else(|| no_time(&value.to_string()))?
        }
        Value::TimestampMillisecond(Some(ms), _) => *ms,
        Value::TimestampMicrosecond(Some(micros), _) => micros.div_euclid(1000),
        Value::TimestampNanosecond(Some(nanos), _) => nanos.div_euclid(1_000_000),
        Value::Date32(Some(days)) => i64::from(*days) * 86_400_000,
        Value::Date64(Some(ms)) => *ms,
        Value::Float32(_) | Value::Float64(_) | Value::Decimal128(..) | Value::Decimal256(..) => {
            match value.cast_to(&arrow::datatypes::DataType::Float64) {
                Ok(Value::Float64(Some(seconds))) if seconds.abs() <= LAST_SECOND as f64 => {
                    (seconds * 1000.0).floor() as i64
                }
                _ => return Err(no_time(&value.to_string())),
            }
        }
        other => match whole(other) {
            Some(seconds) => seconds_to_ms(seconds)?,
            None => return Err(no_time(&value.to_string())),
        },
    };
    Ok(AsOf::Timestamp(ms))
}

/// The snapshot that the value of a version means: a number is a snapshot's id, a text a branch or tag.
/// Either is the other where the table has just that.
///
/// # Errors
/// [`InvalidInput`](icefield_core::ErrorKind::InvalidInput) for another value.
pub(super) fn version_of(table: &Table, value: &ScalarValue) -> Result<AsOf> {
    let (id, name) = match text(value) {
        Some(name) => (name.parse().ok(), name.to_string()),
        None => match whole(value) {
            Some(id) => (Some(id), id.to_string()),
            None => {
                let message = "FOR VERSION AS OF takes a snapshot id, or a branch or tag in quotes";
                return Err(Error::invalid_input(message).with("value", value));
            }
        },
    };
    let is_ref = table.reference(&name).is_some();
    Ok(match id {
        Some(id) if !is_ref || (text(value).is_none() && table.metadata().snapshot_by_id(id).is_some()) => {
            AsOf::Snapshot(id)
        }
        _ => AsOf::Ref(name),
    })
}

/// The text of a value, if it is one.
pub(super) fn text(value: &ScalarValue) -> Option<&str> {
    value.try_as_str().flatten()
}

/// The whole number of a value, if it is one of 64 bits.
pub(super) fn whole(value: &ScalarValue) -> Option<i64> {
    use ScalarValue as Value;
    match value {
        Value::Int8(number) => number.map(i64::from),
        Value::Int16(number) => number.map(i64::from),
        Value::Int32(number) => number.map(i64::from),
        Value::Int64(number) => *number,
        Value::UInt8(number) => number.map(i64::from),
        Value::UInt16(number) => number.map(i64::from),
        Value::UInt32(number) => number.map(i64::from),
        Value::UInt64(number) => number.and_then(|number| i64::try_from(number).ok()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_every_form() {
        for text in [
            "2024-06-30T00:00:00Z",
            "2024-06-30T02:00:00+02:00",
            "2024-06-30 00:00:00",
            "2024-06-30 00:00:00.000",
            "2024-06-30 02:00:00+02:00",
            "2024-06-30",
            "1719705600",
        ] {
            assert_eq!(parse_timestamp_ms(text).unwrap(), 1_719_705_600_000, "{text}");
        }
        assert!(parse_timestamp_ms("yesterday").is_err());
        assert_eq!(parse_timestamp_ms("1969-12-31T23:59:59.999Z").unwrap(), -1);
        let error = parse_timestamp_ms("1719705600000").unwrap_err();
        assert!(error.to_string().contains("divide milliseconds by 1000"), "{error}");
    }

    #[test]
    fn times_are_values_of_every_type_that_has_them() {
        use ScalarValue as Value;
        for value in [
            Value::from("2024-06-30T00:00:00Z"),
            Value::Utf8View(Some("1719705600".into())),
            Value::Int64(Some(1_719_705_600)),
            Value::Float64(Some(1_719_705_600.000_4)),
            Value::Decimal128(Some(1_719_705_600_000), 20, 3),
            Value::TimestampSecond(Some(1_719_705_600), None),
            Value::TimestampMicrosecond(Some(1_719_705_600_000_999), Some("UTC".into())),
            Value::TimestampNanosecond(Some(1_719_705_600_000_999_999), None),
            Value::Date32(Some(19_904)),
        ] {
            assert_eq!(time_of(&value).unwrap(), AsOf::Timestamp(1_719_705_600_000), "{value:?}");
        }
        assert_eq!(time_of(&Value::TimestampNanosecond(Some(-1), None)).unwrap(), AsOf::Timestamp(-1));
        for value in [
            Value::Null,
            Value::Utf8(None),
            Value::Boolean(Some(true)),
            Value::Int64(Some(1_719_705_600_000)),
            Value::Int64(Some(i64::MIN)),
            Value::TimestampSecond(Some(i64::MAX), None),
            Value::Float64(Some(f64::NAN)),
        ] {
            assert!(time_of(&value).is_err(), "{value:?}");
        }
    }
}
