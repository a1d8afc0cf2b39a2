//! The values that table properties can have: whoever sets a value that no write could use is told, not whoever writes next.
//!
//! Properties that this library does not read are another's, and have whatever value.

use std::collections::HashMap;

use crate::config::Properties;
use crate::error::{Error, Result};
use crate::format::MetricsMode;

/// What a property's value is.
#[derive(Debug, Clone, Copy)]
enum Form {
    Bytes,
    /// A number above 0.
    Count,
    /// A number from 0.
    Number,
    Millis,
    Flag,
    OneOf(&'static [&'static str]),
    Level,
    Probability,
    Metrics,
}

pub(super) const CODEC: &str = "write.parquet.compression-codec";
pub(super) const LEVEL: &str = "write.parquet.compression-level";
const CODECS: &[&str] = &["zstd", "snappy", "gzip", "lz4", "lz4_raw", "brotli", "uncompressed", "none"];

/// Properties by name; a name that ends in a dot stands for those of columns.
const KNOWN: &[(&str, Form)] = &[
    ("write.format.default", Form::OneOf(&["parquet", "avro", "orc"])),
    ("write.target-file-size-bytes", Form::Bytes),
    ("write.delete.target-file-size-bytes", Form::Bytes),
    (CODEC, Form::OneOf(CODECS)),
    (LEVEL, Form::Level),
    ("write.parquet.row-group-size-bytes", Form::Bytes),
    ("write.parquet.page-size-bytes", Form::Bytes),
    ("write.parquet.page-row-limit", Form::Count),
    ("write.parquet.dict-size-bytes", Form::Bytes),
    ("write.parquet.bloom-filter-enabled.column.", Form::Flag),
    ("write.parquet.bloom-filter-fpp.column.", Form::Probability),
    ("write.parquet.bloom-filter-ndv.column.", Form::Number),
    ("write.parquet.bloom-filter-max-bytes", Form::Bytes),
    ("write.distribution-mode", Form::OneOf(&["none", "hash", "range"])),
    ("write.delete.mode", Form::OneOf(&["copy-on-write", "merge-on-read"])),
    ("write.update.mode", Form::OneOf(&["copy-on-write", "merge-on-read"])),
    ("write.merge.mode", Form::OneOf(&["copy-on-write", "merge-on-read"])),
    ("write.delete.isolation-level", Form::OneOf(&["serializable", "snapshot"])),
    ("write.update.isolation-level", Form::OneOf(&["serializable", "snapshot"])),
    ("write.merge.isolation-level", Form::OneOf(&["serializable", "snapshot"])),
    ("write.delete.granularity", Form::OneOf(&["file", "partition"])),
    ("write.wap.enabled", Form::Flag),
    ("write.object-storage.enabled", Form::Flag),
    ("write.object-storage.partitioned-paths", Form::Flag),
    ("write.metadata.metrics.default", Form::Metrics),
    ("write.metadata.metrics.column.", Form::Metrics),
    ("write.metadata.metrics.max-inferred-column-defaults", Form::Number),
    ("write.metadata.compression-codec", Form::OneOf(&["none", "gzip"])),
    ("write.metadata.previous-versions-max", Form::Number),
    ("write.metadata.delete-after-commit.enabled", Form::Flag),
    ("commit.retry.num-retries", Form::Number),
    ("commit.retry.min-wait-ms", Form::Millis),
    ("commit.retry.max-wait-ms", Form::Millis),
    ("commit.retry.total-timeout-ms", Form::Millis),
    ("commit.status-check.num-retries", Form::Number),
    ("commit.status-check.min-wait-ms", Form::Millis),
    ("commit.status-check.max-wait-ms", Form::Millis),
    ("commit.manifest.target-size-bytes", Form::Bytes),
    ("commit.manifest.min-count-to-merge", Form::Number),
    ("commit.manifest-merge.enabled", Form::Flag),
    ("history.expire.max-snapshot-age-ms", Form::Millis),
    ("history.expire.min-snapshots-to-keep", Form::Number),
    ("history.expire.max-ref-age-ms", Form::Millis),
    ("gc.enabled", Form::Flag),
];

/// Refuses a property whose value can't be used. `all` are the properties that the table will have.
///
/// # Errors
/// [`InvalidInput`](crate::ErrorKind::InvalidInput) naming the property, its value and what it takes.
pub(crate) fn check_value(name: &str, value: &str, all: &HashMap<String, String>) -> Result<()> {
    let known = KNOWN.iter().find(|(known, _)| match known.ends_with('.') {
        true => name.starts_with(known),
        false => name == *known,
    });
    let Some((_, form)) = known else { return Ok(()) };
    let text = value.trim();
    let number = text.parse::<u64>().ok();
    let (fits, takes) = match form {
        Form::Bytes => {
            (fits_usize(number), "a number of bytes above 0, such as 134217728 for 128 MiB".to_string())
        }
        Form::Count => (fits_usize(number), "a number above 0".to_string()),
        Form::Number => (number.is_some_and(|n| u32::try_from(n).is_ok()), "a number from 0".to_string()),
        Form::Millis => (
            number.is_some_and(|n| i64::try_from(n).is_ok()),
            "a number of milliseconds, such as 60000 for a minute".to_string(),
        ),
        Form::Flag => {
            let is = |flag: &str| text.eq_ignore_ascii_case(flag);
            (is("true") || is("false"), "true or false".to_string())
        }
        Form::OneOf(values) => (
            values.iter().any(|known| text.eq_ignore_ascii_case(known)),
            format!("one of {}", values.join(", ")),
        ),
        Form::Level => {
            let codec = Properties::new(all).text(CODEC).unwrap_or("zstd").trim().to_ascii_lowercase();
            let levels = match codec.as_str() {
                "zstd" => 1..=22,
                "gzip" => 0..=9,
                "brotli" => 0..=11,
                // Codecs without levels take no notice.
                _ => i32::MIN..=i32::MAX,
            };
            let fits = text.parse::<i32>().is_ok_and(|level| levels.contains(&level));
            (fits, format!("a level of the codec {codec}, from {} to {}", levels.start(), levels.end()))
        }
        Form::Probability => (
            text.parse::<f64>().is_ok_and(|p| p > 0.0 && p < 1.0),
            "a probability between 0 and 1".to_string(),
        ),
        Form::Metrics => {
            (MetricsMode::parse(text).is_some(), "none, counts, truncate(16) or full".to_string())
        }
    };
    if fits {
        return Ok(());
    }
    let error = Error::invalid_input(format!("the table property can't have this value; it takes {takes}"));
    Err(error.with("property", name).with("value", value))
}

fn fits_usize(number: Option<u64>) -> bool {
    number.is_some_and(|number| number > 0 && usize::try_from(number).is_ok())
}

/// Refuses properties, those of a table to be created for the most part, among which is a value that can't be used. Properties
/// that this library does not read have whatever value.
///
/// # Errors
/// [`InvalidInput`](crate::ErrorKind::InvalidInput) naming the property, its value and what it takes.
pub fn check_property_values(properties: &HashMap<String, String>) -> Result<()> {
    properties.iter().try_for_each(|(name, value)| check_value(name, value, properties))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_no_write_could_use_is_refused_where_it_is_set() {
        for (name, good, bad) in [
            ("write.target-file-size-bytes", &["134217728", " 1 "][..], &["128MB", "0", "-1", ""][..]),
            (CODEC, &["zstd", "ZSTD", "uncompressed"], &["zip", ""]),
            (LEVEL, &["1", "22"], &["23", "0", "high"]),
            ("write.parquet.bloom-filter-enabled.column.id", &["true", "False"], &["yes"]),
            ("write.parquet.bloom-filter-fpp.column.id", &["0.01"], &["0", "1", "NaN"]),
            ("write.distribution-mode", &["hash"], &["sorted"]),
            ("write.metadata.metrics.column.a.b", &["truncate(8)", "none"], &["truncate", "some"]),
            ("commit.retry.num-retries", &["0", "4"], &["many", "99999999999"]),
            ("commit.retry.min-wait-ms", &["100"], &["1s"]),
            ("gc.enabled", &["false"], &["0"]),
            ("write.spark.fanout.enabled", &["whatever"], &[]),
            ("owner", &["me"], &[]),
        ] {
            for value in good {
                check_value(name, value, &HashMap::new()).unwrap();
            }
            for value in bad {
                let error = check_value(name, value, &HashMap::new()).unwrap_err();
                assert!(error.to_string().contains(&format!("property: {name}, value: {value}")), "{error}");
            }
        }
        let gzip = HashMap::from([(CODEC.to_string(), "gzip".to_string())]);
        assert!(check_value(LEVEL, "10", &gzip).is_err());
        assert!(check_value(LEVEL, "0", &gzip).is_ok());
    }
}
