//! When two locations name the same file.
//!
//! Deleting by comparing locations as text has lost tables: one list had `s3a://` where the other had `s3://`, a double or
//! trailing slash, `/a` for `file:/a`, or a percent sign on one side only. Here a location is split into a [`Prefix`]
//! (scheme and authority, which may be declared equal to others) and a key that is the same for every spelling of a path.
//! Where the rules err, two files count as one, and the one that might have gone stays.

use std::collections::HashMap;

use percent_encoding::percent_decode_str;

/// Scheme and authority of a location, in their canonical spelling. Either is empty where the location does not tell.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Prefix {
    scheme: String,
    authority: String,
}

impl Prefix {
    /// Whether a file of the table's metadata at this prefix is the listed file at `listed`: the parts that the metadata
    /// tells are equal. (A bare path is on whatever store it was listed on.)
    pub(crate) fn covers(&self, listed: &Self) -> bool {
        (self.scheme.is_empty() || self.scheme == listed.scheme)
            && (self.authority.is_empty() || self.authority == listed.authority)
    }
}

/// Which schemes and which authorities count as one.
#[derive(Debug, Clone)]
pub(crate) struct Equal {
    schemes: HashMap<String, String>,
    authorities: HashMap<String, String>,
}

impl Default for Equal {
    /// `s3a` and `s3n` are `s3`; so are the names of Azure's stores one.
    fn default() -> Self {
        let mut equal = Self { schemes: HashMap::new(), authorities: HashMap::new() };
        equal.schemes("s3a,s3n", "s3");
        equal.schemes("abfs,abfss,wasb,wasbs,adl,azure", "az");
        equal
    }
}

impl Equal {
    /// Counts each of `aliases`, separated by commas, as `scheme`.
    pub(crate) fn schemes(&mut self, aliases: &str, scheme: &str) {
        add(&mut self.schemes, aliases, scheme, str::to_ascii_lowercase);
    }

    /// Counts each of `aliases`, separated by commas, as `authority`.
    pub(crate) fn authorities(&mut self, aliases: &str, authority: &str) {
        add(&mut self.authorities, aliases, authority, str::to_string);
    }

    /// The parts of a location.
    pub(crate) fn split(&self, location: &str) -> (Prefix, String) {
        let (scheme, authority, path) = parts(location);
        let scheme = scheme.to_ascii_lowercase();
        let prefix = Prefix {
            scheme: self.schemes.get(&scheme).cloned().unwrap_or(scheme),
            authority: self.authorities.get(authority).cloned().unwrap_or_else(|| authority.to_string()),
        };
        (prefix, path_key(path))
    }

    /// Whether `location` is `folder` or lies in it, on the same store.
    pub(crate) fn is_within(&self, location: &str, folder: &str) -> bool {
        let store = |of: &str| {
            let Prefix { scheme, authority } = self.split(of).0;
            (if scheme.is_empty() { "file".to_string() } else { scheme }, authority)
        };
        is_within(location, folder) && store(location) == store(folder)
    }
}

fn add(to: &mut HashMap<String, String>, aliases: &str, name: &str, canonical: impl Fn(&str) -> String) {
    for alias in aliases.split(',').map(str::trim).filter(|alias| !alias.is_empty()) {
        to.insert(canonical(alias), canonical(name));
    }
}

/// The key of a location's path, whatever store it is on.
pub(crate) fn key(location: &str) -> String {
    path_key(parts(location).2)
}

/// Scheme, authority and path; the first two are empty where the location does not tell them.
fn parts(location: &str) -> (&str, &str, &str) {
    let Some((scheme, rest)) = location.split_once(':') else { return ("", "", location) };
    let is_scheme =
        !scheme.is_empty() && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
    if !is_scheme {
        return ("", "", location);
    }
    match rest.strip_prefix("//") {
        Some(rest) => {
            let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            (scheme, authority, path)
        }
        None => (scheme, "", rest),
    }
}

/// A path without empty segments, percent-decoded, so that both forms of an escaped name are one.
fn path_key(path: &str) -> String {
    let mut key = String::with_capacity(path.len());
    for segment in path.split('/').filter(|segment| !segment.is_empty()) {
        if !key.is_empty() {
            key.push('/');
        }
        key.push_str(segment);
    }
    // Decoding may uncover another escape; the name is decoded until nothing changes.
    while let Some(decoded) = percent_decoded(&key) {
        key = decoded;
    }
    key
}

/// The text with its escapes decoded once, unless it has none.
fn percent_decoded(text: &str) -> Option<String> {
    let decoded = percent_decode_str(text).decode_utf8_lossy();
    (decoded != text).then(|| decoded.into_owned())
}

/// Whether `location` is `folder` or lies in it, on whatever store.
pub(crate) fn is_within(location: &str, folder: &str) -> bool {
    let (location, folder) = (key(location), key(folder));
    folder.is_empty()
        || location == folder
        || location.strip_prefix(&folder).is_some_and(|r| r.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_one_key_in_all_its_spellings() {
        for (a, b) in [
            ("s3://b/t/data/x.parquet", "s3a://b/t/data/x.parquet"),
            ("s3://b/t//data/x.parquet", "s3://b/t/data/x.parquet"),
            ("/w/t/data/x", "file:///w/t/data/x"),
            ("file:/w/t/data/x", "file:///w/t/data/x"),
            ("s3://b/t/p=a%20b/x", "s3://b/t/p=a b/x"),
            ("s3://b/t/p=a%252Fb/x", "s3://b/t/p=a%2Fb/x"),
            ("hdfs://nn1:8020/t/x", "hdfs://nn2/t/x"),
        ] {
            assert_eq!(key(a), key(b));
        }
        assert_ne!(key("s3://b/t/x"), key("s3://b/t/y"));
    }

    #[test]
    fn prefixes_are_equal_only_where_they_are_known_to_be() {
        let mut equal = Equal::default();
        let covers = |equal: &Equal, a: &str, b: &str| equal.split(a).0.covers(&equal.split(b).0);
        assert!(covers(&equal, "s3a://b/x", "s3://b/x"));
        assert!(covers(&equal, "/x", "file:///x"));
        assert!(!covers(&equal, "s3://b/x", "s3://c/x"));
        assert!(!covers(&equal, "hdfs://nn1/x", "hdfs://nn2/x"));
        equal.authorities("nn1, nn2", "cluster");
        assert!(covers(&equal, "hdfs://nn1/x", "hdfs://nn2/x"));
        assert!(!covers(&equal, "gs://b/x", "s3://b/x"));
        equal.schemes("gs", "s3");
        assert!(covers(&equal, "gs://b/x", "s3://b/x"));
    }

    #[test]
    fn a_folder_holds_what_is_below_it_and_not_what_begins_alike() {
        assert!(is_within("s3://b/w/t/data", "s3a://b/w/t/"));
        assert!(is_within("/w/t", "file:///w/t"));
        assert!(!is_within("s3://b/w/t2/data", "s3://b/w/t"));
        assert!(is_within("s3://b/w/t/data", "s3://c/w/t"));
        let equal = Equal::default();
        assert!(equal.is_within("s3a://b/w/t/data", "s3://b/w/t"));
        assert!(equal.is_within("/w/t/data", "file:///w/t"));
        assert!(!equal.is_within("s3://b/w/t/data", "s3://c/w/t"));
        assert!(!equal.is_within("/w/t/data", "s3://b/w/t"));
    }
}
