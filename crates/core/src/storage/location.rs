//! Locations as text: their parts, joining, and comparing those that differ only in form.

use std::borrow::Cow;

use object_store::path::{Path, PathPart};

use crate::error::{Error, Result};

/// The parts of a location, borrowed from it.
pub(super) struct Location<'a> {
    scheme: &'a str,
    authority: &'a str,
    /// Whether the location named its scheme (`file:///a`) or is a bare path (`/a`).
    written: bool,
    pub(super) key: &'a str,
}

impl<'a> Location<'a> {
    pub(super) fn parse(location: &'a str) -> Result<Self> {
        if location.starts_with('/') {
            return Ok(Self { scheme: "file", authority: "", written: false, key: location });
        }
        let invalid = || {
            Error::invalid_input("not a location: use scheme://authority/path or an absolute path")
                .with("location", location)
        };
        let (scheme, rest) = location.split_once(':').ok_or_else(invalid)?;
        if scheme.is_empty() || !scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c)) {
            return Err(invalid());
        }
        let (authority, key) = match rest.strip_prefix("//") {
            Some(rest) => rest.split_at(rest.find('/').unwrap_or(rest.len())),
            None => ("", rest), // Hadoop's file:/a/b
        };
        if !authority.chars().all(|c| c.is_ascii_alphanumeric() || "._-@:[]%$".contains(c)) {
            return Err(invalid());
        }
        Ok(Self { scheme, authority, written: true, key })
    }

    /// The path in the store. Slashes that follow each other are one on a disk, and part of the key on an object store.
    pub(super) fn path(&self, location: &str) -> Result<Path> {
        let unusable = || Error::invalid_input("not a usable path").with("location", location);
        let key = self.key.strip_prefix('/').unwrap_or(self.key);
        let key = key.strip_suffix('/').unwrap_or(key);
        if !key.contains("//") {
            return Path::parse(self.key).map_err(|e| unusable().with_source(e));
        }
        let on_disk = self.scheme == "file";
        let mut path = Path::default();
        for segment in key.split('/').filter(|segment| !on_disk || !segment.is_empty()) {
            if segment.is_empty() && path.is_root() {
                return Err(unusable());
            }
            path = path.join(PathPart::parse(segment).map_err(|e| unusable().with_source(e))?);
        }
        Ok(path)
    }

    /// Whether it is on a local disk.
    pub(super) fn is_local(&self) -> bool {
        self.scheme == "file"
    }

    /// The key as it is compared.
    pub(super) fn plain_key(&self) -> Cow<'a, str> {
        let key = self.key.trim_start_matches('/');
        if self.scheme != "file" || !key.contains("//") {
            return Cow::Borrowed(key);
        }
        Cow::Owned(key.split('/').filter(|segment| !segment.is_empty()).collect::<Vec<_>>().join("/"))
    }

    /// What stores are kept under: scheme aliases folded.
    pub(super) fn base(&self) -> String {
        format!("{}://{}", canonical_scheme(self.scheme), self.authority)
    }

    /// The base in the form in which this location was written, so that a listing's paths join onto it.
    pub(super) fn written_base(&self) -> String {
        if self.written { format!("{}://{}", self.scheme, self.authority) } else { String::new() }
    }
}

fn canonical_scheme(scheme: &str) -> &str {
    match scheme {
        "s3a" | "s3n" => "s3",
        other => other,
    }
}

/// Whether this is a location at all, of whatever store, or relative to a table's folder.
///
/// # Errors
/// [`InvalidInput`](crate::ErrorKind::InvalidInput) when it is not.
pub fn check_location(location: &str) -> Result<()> {
    if is_relative(location) { Ok(()) } else { Location::parse(location).map(drop) }
}

/// Whether a location names neither a store nor a place from the root on.
pub(crate) fn is_relative(location: &str) -> bool {
    let first = location.split('/').next().unwrap_or_default();
    !first.is_empty() && !first.contains(':') && !location.contains(char::is_control)
}

/// `base` and `path` with one slash between them.
pub fn join(base: &str, path: &str) -> String {
    format!("{}/{}", base.trim_end_matches('/'), path.trim_start_matches('/'))
}

/// Whether a key is a folder's, or one below it.
pub(super) fn within(key: &str, folder: &str) -> bool {
    let rest = key.strip_prefix(folder);
    rest.is_some_and(|rest| folder.is_empty() || rest.is_empty() || rest.starts_with('/'))
}

/// What follows a location's last slash.
pub fn file_name(location: &str) -> &str {
    location.rsplit_once('/').map_or(location, |(_, name)| name)
}

/// Whether two locations name the same file, whatever form each is written in: `s3a` for `s3`, `/a` or `file:/a` for
/// `file:///a`.
pub fn same_location(a: &str, b: &str) -> bool {
    if a == b {
        return true;
    }
    match (Location::parse(a), Location::parse(b)) {
        (Ok(a), Ok(b)) => {
            canonical_scheme(a.scheme) == canonical_scheme(b.scheme)
                && a.authority == b.authority
                && a.plain_key() == b.plain_key()
        }
        _ => false,
    }
}

/// An option in `object_store`'s names: Iceberg's names translated, others passed on.
pub(super) fn store_option(key: &str, value: &str) -> Vec<(String, String)> {
    let pair = |key: &str, value: &str| (key.to_string(), value.to_string());
    match key {
        "s3.endpoint" => {
            let mut options = vec![pair("aws_endpoint", value)];
            if value.starts_with("http://") {
                options.push(pair("aws_allow_http", "true"));
            }
            options
        }
        "s3.region" | "client.region" => vec![pair("aws_region", value)],
        "s3.access-key-id" => vec![pair("aws_access_key_id", value)],
        "s3.secret-access-key" => vec![pair("aws_secret_access_key", value)],
        "s3.session-token" => vec![pair("aws_session_token", value)],
        "s3.path-style-access" => {
            vec![pair("aws_virtual_hosted_style_request", if value == "true" { "false" } else { "true" })]
        }
        _ => vec![pair(key, value)],
    }
}
