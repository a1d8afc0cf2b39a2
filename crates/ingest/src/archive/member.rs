//! [`Members`]: what takes an archive's members, each under a path that stays in the archive's folder.

use std::io::{self, Read};

use super::failure::Failure;
use crate::escape::{may_be_in_a_path, past, plain};
use crate::options::Limits;
use crate::quarantine::Reason;
use crate::rows::shown;

/// What takes an archive's members.
pub(crate) trait Members {
    /// A plain file. What is not read of `data` is passed over. Errors of `data` carry a [`Failure`].
    fn member(&mut self, path: &str, data: &mut dyn Read) -> Result<(), Failure>;

    /// A member that is not for reading.
    fn refused(&mut self, path: String, reason: Reason, detail: String) -> Result<(), Failure>;
}

/// A member's path as text, or why it can't be used: parts joined by single slashes, none of them `..`.
fn safe_path(raw: &[u8]) -> Result<String, String> {
    let Ok(path) = std::str::from_utf8(raw) else { return Err("the path is not UTF-8 text".into()) };
    if path.len() > 4096 {
        return Err("the path is longer than 4096 bytes".into());
    }
    if path.starts_with(['/', '\\']) || path.as_bytes().get(1) == Some(&b':') {
        return Err("the path is absolute".into());
    }
    if !path.chars().all(may_be_in_a_path) {
        return Err("the path holds control characters, line ends, marks of direction or characters that are not seen".into());
    }
    let parts = || path.split(['/', '\\']);
    if parts().any(|part| part == "..") {
        return Err("the path leaves the archive's folder".into());
    }
    let parts: Vec<&str> = parts().filter(|part| !part.is_empty() && *part != ".").collect();
    if parts.is_empty() { Err("the path is empty".into()) } else { Ok(parts.join("/")) }
}

/// Gives a member on, under its path or as refused.
pub(super) fn give(raw_path: &[u8], data: &mut dyn Read, members: &mut dyn Members) -> Result<(), Failure> {
    match safe_path(raw_path) {
        Ok(path) => members.member(&path, data),
        Err(why) => members.refused(shown_path(raw_path), Reason::UnsafePath, why),
    }
}

pub(super) fn shown_path(raw: &[u8]) -> String {
    plain(&shown(raw, 1024))
}

pub(super) fn too_many(limits: &Limits) -> Failure {
    Failure::Archive(Reason::TooManyMembers, past("members of the archive", "members", limits.members))
}

/// Reads to the end: what follows the last member is checked too.
pub(super) fn drain(data: &mut dyn Read) -> Result<(), Failure> {
    io::copy(data, &mut io::sink())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_within_the_folder() {
        assert_eq!(safe_path(b"./a//b.csv"), Ok("a/b.csv".to_string()));
        assert_eq!(safe_path("données/é.csv".as_bytes()), Ok("données/é.csv".to_string()));
        // Persian words and families of emoji have joiners.
        assert!(safe_path("می\u{200c}خواهم/👩\u{200d}👧.csv".as_bytes()).is_ok());
        for bad in [
            &b"../a.csv"[..],
            b"a/../b",
            b"a\\..\\b",
            b"/etc/x",
            b"\\x",
            b"C:\\x",
            b"",
            b".",
            b"a\xff",
            b"a\0b",
            b"a\x1b[2Jb",
            b"a\rb",
            "a\u{202e}b".as_bytes(),
            "a\u{2028}b".as_bytes(),
            "a\u{200b}b".as_bytes(),
        ] {
            assert!(safe_path(bad).is_err(), "{bad:?}");
        }
    }
}
