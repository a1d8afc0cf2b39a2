//! Times and versions as text, and the SQL clauses `FOR VERSION AS OF` and `FOR TIMESTAMP AS OF`.

use chrono::{DateTime, NaiveDate, NaiveDateTime};
use icefield_core::{Error, Result};

/// A time as milliseconds since the epoch: RFC 3339, a date and time in UTC, a date (its first moment in UTC), or the
/// milliseconds themselves.
///
/// # Errors
/// [`InvalidInput`](icefield_core::ErrorKind::InvalidInput) for anything else.
pub(crate) fn parse_timestamp_ms(text: &str) -> Result<i64> {
    let text = text.trim();
    if let Ok(ms) = text.parse::<i64>() {
        return Ok(ms);
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
        "not a time: use 2024-06-30T00:00:00Z, 2024-06-30 00:00:00 (UTC), 2024-06-30 or milliseconds since 1970",
    )
    .with("value", text))
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
            "1719705600000",
        ] {
            assert_eq!(parse_timestamp_ms(text).unwrap(), 1_719_705_600_000, "{text}");
        }
        assert!(parse_timestamp_ms("yesterday").is_err());
        assert_eq!(parse_timestamp_ms("1969-12-31T23:59:59.999Z").unwrap(), -1);
    }
}
