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

/// The most that a decompressed metadata file may be, in bytes.
const MAX_METADATA_BYTES: u64 = 1 << 30;

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
    let read = storage.read_unless(location, tag).await.map_err(|e| match e.kind() {
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
        if plain.len() as u64 > MAX_METADATA_BYTES {
            return Err(Error::data_invalid("the metadata file decompresses to more than 1 GiB"));
        }
        serde_json::from_slice(&plain)
    } else {
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

/// A metadata file's bytes, as `write.metadata.compression-codec` has them compressed, and what its name ends with. Pure.
///
/// # Errors
/// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) for another codec than none and gzip.
pub(crate) fn metadata_file(metadata: &Metadata) -> Result<(Vec<u8>, &'static str)> {
    const CODEC: &str = "write.metadata.compression-codec";
    let codec = metadata.properties().get(CODEC).map(|codec| codec.to_ascii_lowercase());
    let json = serde_json::to_vec(&metadata.to_json()?)
        .map_err(|e| Error::internal("the metadata can't be serialised").with_source(e))?;
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
