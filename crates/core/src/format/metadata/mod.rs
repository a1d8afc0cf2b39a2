//! Metadata files: what is in them, as bytes and parsed.

mod kept;
mod prepare;
mod refs;
mod whole;

use std::io::Read;

use iceberg::spec::FormatVersion;

pub(crate) use prepare::inline_manifests;
pub(crate) use refs::of as references;
pub use whole::Metadata;

use crate::error::{Error, ErrorKind, Result};
use crate::storage::Storage;

/// The most that a metadata file may be, decompressed, in bytes. A snapshot takes one or two thousand.
const MAX_METADATA_BYTES: u64 = 128 << 20;
/// The most values, members and items that its JSON may have: each takes some hundred bytes of memory, and two in the file. A
/// snapshot has about thirty.
const MAX_METADATA_VALUES: usize = 4 << 20;

/// Reads and parses a metadata file, gzip or plain. One request.
///
/// # Errors
/// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) when there is none, [`ErrorKind::DataInvalid`](crate::ErrorKind::DataInvalid) naming the file when it can't be parsed.
pub async fn load_metadata(storage: &Storage, location: &str) -> Result<Metadata> {
    match load_metadata_unless(storage, location, None).await? {
        Some((metadata, _)) => Ok(metadata),
        None => Err(Error::internal("a file was not read for what nobody has").with("file", location)),
    }
}

/// The metadata of a file, and the tag of its content if its store gives one; `None` where the content is still that of `tag`.
///
/// # Errors
/// As [`load_metadata`].
pub(crate) async fn load_metadata_unless(
    storage: &Storage,
    location: &str,
    tag: Option<&str>,
) -> Result<Option<(Metadata, Option<String>)>> {
    let read = storage.read_unless(location, tag, MAX_METADATA_BYTES).await.map_err(|e| match e.kind() {
        ErrorKind::ResourceExhausted => too_large().with("file", location).with_source(e),
        ErrorKind::NotFound => e.reworded(|why| {
            format!(
                "the metadata file is missing: {why}; check its location, restore it, or use an earlier one"
            )
        }),
        _ => e,
    })?;
    let Some((bytes, tag)) = read else { return Ok(None) };
    Ok(Some((parse_metadata(&bytes).map_err(|e| e.with("file", location))?, tag)))
}

/// The metadata in a file's bytes, gzip or plain. Pure.
///
/// # Errors
/// As [`load_metadata`], without the file's location.
pub fn parse_metadata(file: &[u8]) -> Result<Metadata> {
    let json = if file.starts_with(&[0x1f, 0x8b]) {
        let mut plain = Vec::new();
        flate2::read::MultiGzDecoder::new(file)
            .take(MAX_METADATA_BYTES + 1)
            .read_to_end(&mut plain)
            .map_err(|e| {
                Error::data_invalid(
                    "the metadata file is not whole gzip; restore it or register an earlier one",
                )
                .with_source(e)
            })?;
        check_size(&plain)?;
        serde_json::from_slice(&plain)
    } else {
        check_size(file)?;
        serde_json::from_slice(file)
    };
    let json = json.map_err(|e| {
        Error::data_invalid(
            "the metadata file is not valid Iceberg table metadata; restore it or register an earlier one",
        )
        .with_source(e)
    })?;
    Metadata::from_json(json)
}

fn too_large() -> Error {
    Error::data_invalid(format!(
        "the metadata file is too large: {} MiB and {MAX_METADATA_VALUES} values are the most that is read; expire snapshots with the \
         engine that wrote it, or register an earlier one",
        MAX_METADATA_BYTES >> 20,
    ))
}

/// Refuses JSON that would take memory out of proportion, before it is parsed.
fn check_size(json: &[u8]) -> Result<()> {
    let fits = json.len() as u64 <= MAX_METADATA_BYTES && values(json) <= MAX_METADATA_VALUES;
    if fits { Ok(()) } else { Err(too_large()) }
}

/// About how many values JSON has: what separates and opens them, outside of texts.
fn values(json: &[u8]) -> usize {
    let (mut values, mut rest) = (0, json);
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        match byte {
            b',' | b':' | b'[' | b'{' => values += 1,
            b'"' => {
                // Up to the quote that ends it, or to the end of what is cut off.
                loop {
                    let at = memchr::memchr2(b'"', b'\\', rest).unwrap_or(rest.len());
                    let is_escape = rest.get(at) == Some(&b'\\');
                    rest = rest.get(at + if is_escape { 2 } else { 1 }..).unwrap_or_default();
                    if !is_escape {
                        break;
                    }
                }
            }
            _ => {}
        }
    }
    values
}

/// A metadata file's bytes, as `write.metadata.compression-codec` has them compressed, and what its name ends with. Pure.
///
/// # Errors
/// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) for another codec than none and gzip,
/// [`ErrorKind::ResourceExhausted`](crate::ErrorKind::ResourceExhausted) for more metadata than is read again.
pub(crate) fn metadata_file(metadata: &Metadata) -> Result<(Vec<u8>, &'static str)> {
    const CODEC: &str = "write.metadata.compression-codec";
    let codec = metadata.properties().get(CODEC).map(|codec| codec.to_ascii_lowercase());
    let json = serde_json::to_vec(&metadata.to_json()?)
        .map_err(|e| Error::internal("the metadata can't be serialised").with_source(e))?;
    check_size(&json).map_err(|_| {
        let message = "the table's metadata would be larger than what is read again; expire snapshots first";
        Error::new(ErrorKind::ResourceExhausted, message)
    })?;
    match codec.as_deref() {
        None | Some("none") => Ok((json, ".metadata.json")),
        Some("gzip") => Ok((compress(&json)?, ".gz.metadata.json")),
        Some(other) => Err(Error::invalid_input(format!("{CODEC} is none or gzip")).with("value", other)),
    }
}

fn compress(json: &[u8]) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    flate2::read::GzEncoder::new(json, flate2::Compression::default())
        .read_to_end(&mut out)
        .map_err(|e| Error::internal("gzip failed").with_source(e))?;
    Ok(out)
}

/// `1`, `2` or `3` as a format version.
///
/// # Errors
/// [`InvalidInput`](crate::ErrorKind::InvalidInput) for anything else.
pub fn parse_format_version(text: &str) -> Result<FormatVersion> {
    match text.trim() {
        "1" => Ok(FormatVersion::V1),
        "2" => Ok(FormatVersion::V2),
        "3" => Ok(FormatVersion::V3),
        other => Err(Error::invalid_input("format-version is 1, 2 or 3").with("value", other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn format_versions_are_parsed() {
        assert_eq!(parse_format_version(" 3 ").unwrap(), FormatVersion::V3);
        assert!(parse_format_version("4").unwrap_err().to_string().contains('4'));
    }

    #[test]
    fn values_of_json_are_counted_outside_of_its_texts() {
        for (json, expected) in [
            ("", 0),
            ("17", 0),
            (r#"{"a": [1, 2, {}], "b": ",:[{", "c\\": "\"\\", "d": "é,"}"#, 12),
            (r#"{"cut": "shor,"#, 2),
            (r#""\"#, 0),
        ] {
            assert_eq!(values(json.as_bytes()), expected, "{json}");
        }
    }

    #[tokio::test]
    async fn metadata_that_takes_much_memory_is_refused_unparsed() {
        let storage = Storage::new();
        let head = r#"{"format-version": 2, "x": ["#.to_string();
        let many = head.clone() + &"0,".repeat(MAX_METADATA_VALUES);
        let long = head + &" ".repeat(MAX_METADATA_BYTES as usize);
        for (name, json) in [("many", many), ("long", long)] {
            for (suffix, bytes) in [("gz", compress(json.as_bytes()).unwrap()), ("plain", json.into_bytes())]
            {
                let location = format!("memory://w/{name}.{suffix}.metadata.json");
                storage.write(&location, bytes).await.unwrap();
                let error = load_metadata(&storage, &location).await.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::DataInvalid, "{error}");
                assert!(
                    error.message().contains("too large") && error.to_string().contains(&location),
                    "{error}"
                );
            }
        }
    }

    #[test]
    fn times_and_numbers_that_no_table_gets_to_are_refused() {
        let metadata = |member: &str, value: i64| {
            let column = serde_json::json!({"id": 1, "name": "a", "type": "long", "required": false});
            let field =
                serde_json::json!({"field-id": 1000, "source-id": 1, "name": "a", "transform": "identity"});
            let mut json = serde_json::json!({
                "format-version": 2, "table-uuid": uuid::Uuid::nil(), "location": "memory://w/t", "last-sequence-number": 1,
                "last-updated-ms": 3, "last-column-id": 1, "current-schema-id": 0, "default-spec-id": 0,
                "schemas": [{"type": "struct", "schema-id": 0, "fields": [column]}],
                "partition-specs": [{"spec-id": 0, "fields": [field]}],
                "last-partition-id": 999, "default-sort-order-id": 0, "sort-orders": [{"order-id": 0, "fields": []}],
                "snapshot-log": [{"snapshot-id": 1, "timestamp-ms": 1}, {"snapshot-id": 1, "timestamp-ms": 2}],
            });
            *json.pointer_mut(member).unwrap() = value.into();
            parse_metadata(json.to_string().as_bytes()).map(drop)
        };
        for member in ["/last-updated-ms", "/last-sequence-number", "/snapshot-log/0/timestamp-ms"] {
            for value in [i64::MIN, i64::MAX] {
                let error = metadata(member, value).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::DataInvalid);
                assert!(error.to_string().contains(&value.to_string()), "{member}: {error}");
            }
        }
        metadata("/last-updated-ms", 1 << 53).unwrap();
        let ids = [
            "/last-partition-id",
            "/schemas/0/schema-id",
            "/partition-specs/0/spec-id",
            "/sort-orders/0/order-id",
        ];
        for member in ids {
            for value in [i64::from(i32::MAX), i64::MAX] {
                let error = metadata(member, value).unwrap_err();
                assert!(error.to_string().contains(&value.to_string()), "{member}: {error}");
            }
        }
        metadata("/last-partition-id", 1 << 30).unwrap();
    }

    #[tokio::test]
    async fn a_corrupt_metadata_file_is_an_error_that_names_it() {
        let storage = Storage::new();
        for (name, bytes) in [("a", &b"{\"format-version\":2"[..]), ("b", &[0x1f, 0x8b, 8, 0, 1][..])] {
            let location = format!("memory://w/{name}.metadata.json");
            storage.write(&location, bytes.to_vec()).await.unwrap();
            let error = load_metadata(&storage, &location).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::DataInvalid);
            assert!(error.to_string().contains(&location), "{error}");
        }
    }
}
