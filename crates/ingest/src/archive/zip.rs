//! Zip archives, read by ranges: their directory is at their end.

use std::collections::HashSet;
use std::io::{self, BufReader, Read, Seek, SeekFrom};

use zip::ZipArchive;
use zip::result::ZipError;

use super::{Failure, Members, Ranges, give, shown_path, too_many};
use crate::options::Limits;
use crate::quarantine::Reason;

/// Reads every member of a zip archive.
pub(crate) fn walk(mut source: Ranges, limits: &Limits, members: &mut dyn Members) -> Result<(), Failure> {
    // The directory is held in memory: look at what it announces first.
    let announced = announced(&mut source)?;
    if announced > limits.members {
        return Err(too_many(limits));
    }
    let size = source.size();
    let watch = source.watch();
    let directory = source.clone();
    let mut archive = ZipArchive::new(source).map_err(failed)?;
    let known = archive.len() as u64;
    if known > limits.members {
        return Err(too_many(limits));
    }
    if known < announced {
        // Of members with one path the archive keeps the last: the others must not vanish in silence.
        for path in repeated(directory, archive.central_directory_start(), announced)? {
            let detail = "the path occurs twice in the archive; the last one is read".to_string();
            members.refused(shown_path(&path), Reason::DuplicateMember, detail)?;
        }
    }
    let mut out = 0;
    for index in 0..archive.len() {
        let raw_name = {
            let member = archive.by_index_raw(index).map_err(failed)?;
            if member.is_dir() {
                continue;
            }
            let path = member.name_raw().to_vec();
            let special =
                member.unix_mode().map(|mode| mode & 0o170_000).filter(|kind| !matches!(kind, 0 | 0o100_000));
            let refused = if member.is_symlink() {
                Some((Reason::Link, "a symbolic link".to_string()))
            } else if special.is_some() {
                Some((Reason::NotAFile, "not a plain file".to_string()))
            } else if member.encrypted() {
                Some((Reason::NotAFile, "encrypted".to_string()))
            } else if member.size() > limits.member_bytes {
                let detail = format!("{} bytes; the limit is {}", member.size(), limits.member_bytes);
                Some((Reason::MemberTooLarge, detail))
            } else {
                None
            };
            if let Some((reason, detail)) = refused {
                members.refused(shown_path(&path), reason, detail)?;
                continue;
            }
            path
        };
        let member = match archive.by_index(index) {
            Ok(member) => member,
            Err(ZipError::UnsupportedArchive(why)) => {
                members.refused(shown_path(&raw_name), Reason::NotAFile, why.to_string())?;
                continue;
            }
            Err(error) => return Err(failed(error)),
        };
        let mut member = Member { inner: member, out: &mut out, limits, size, watch: watch.clone() };
        give(&raw_name, &mut member, members)?;
        io::copy(&mut member, &mut io::sink())?;
    }
    Ok(())
}

fn failed(error: ZipError) -> Failure {
    match error {
        ZipError::Io(error) => of_io(error).into(),
        other => Failure::Archive(Reason::Corrupt, format!("corrupt zip archive: {other}")),
    }
}

fn of_io(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::Interrupted => error,
        _ if error.get_ref().is_some_and(|e| e.is::<Failure>()) => error,
        io::ErrorKind::UnexpectedEof => {
            Failure::Archive(Reason::Truncated, "unexpected end of zip archive".into()).into()
        }
        _ => Failure::Archive(Reason::Corrupt, format!("corrupt zip archive: {error}")).into(),
    }
}

/// The number of members that the end of the archive announces (PKWARE's APPNOTE, 4.3.14 to 4.3.16).
fn announced(source: &mut Ranges) -> Result<u64, Failure> {
    const END: usize = 22;
    let size = source.size();
    let tail = size.min(END as u64 + 65_535);
    let mut bytes = vec![0; tail as usize];
    source.seek(SeekFrom::Start(size - tail))?;
    source.read_exact(&mut bytes)?;
    let truncated = || Failure::Archive(Reason::Truncated, "unexpected end of zip archive".into());
    let last = bytes.len().checked_sub(END).ok_or_else(truncated)?;
    let at = (0..=last).rev().find(|&at| bytes[at..].starts_with(b"PK\x05\x06")).ok_or_else(truncated)?;
    let number = |bytes: &[u8], at: usize, len: usize| -> Option<u64> {
        let field = bytes.get(at..at + len)?;
        Some(field.iter().rev().fold(0, |n, b| n << 8 | u64::from(*b)))
    };
    let count = number(&bytes, at + 10, 2).ok_or_else(truncated)?;
    if count < 0xFFFF {
        return Ok(count);
    }
    // A zip64 archive: a locator of 20 bytes stands before the end record and names the place of the larger one.
    let Some(locator) = at.checked_sub(20).filter(|&l| bytes[l..].starts_with(b"PK\x06\x07")) else {
        return Ok(count);
    };
    let place = number(&bytes, locator + 8, 8).ok_or_else(truncated)?;
    let mut record = [0; 40];
    if place.saturating_add(40) > size {
        return Err(truncated());
    }
    source.seek(SeekFrom::Start(place))?;
    source.read_exact(&mut record)?;
    number(&record, 32, 8).ok_or_else(truncated)
}

/// The paths that the directory holds more than once, once for each time too many (PKWARE's APPNOTE, 4.3.12).
fn repeated(mut directory: Ranges, start: u64, entries: u64) -> Result<Vec<Vec<u8>>, Failure> {
    const HEADER: usize = 46;
    directory.seek(SeekFrom::Start(start))?;
    let mut directory = BufReader::with_capacity(64 << 10, directory);
    let (mut known, mut repeated) = (HashSet::new(), Vec::new());
    for _ in 0..entries {
        let mut header = [0; HEADER];
        directory.read_exact(&mut header).map_err(of_io)?;
        if !header.starts_with(b"PK\x01\x02") {
            break;
        }
        let length = |at: usize| u16::from_le_bytes([header[at], header[at + 1]]);
        let mut path = vec![0; usize::from(length(28))];
        directory.read_exact(&mut path).map_err(of_io)?;
        let rest = u64::from(length(30)) + u64::from(length(32));
        io::copy(&mut (&mut directory).take(rest), &mut io::sink())?;
        if known.contains(&path) {
            repeated.push(path);
        } else {
            known.insert(path);
        }
    }
    repeated.retain(|path| !path.ends_with(b"/"));
    Ok(repeated)
}

/// A member's bytes, held to the limits on its size and on the whole archive's ratio.
struct Member<'a, R> {
    inner: R,
    out: &'a mut u64,
    limits: &'a Limits,
    size: u64,
    watch: super::Watch,
}

impl<R: Read> Read for Member<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(into).map_err(of_io)?;
        *self.out += n as u64;
        self.watch.put_out(n as u64);
        if *self.out > self.limits.ratio_floor_bytes && *self.out / self.limits.ratio.max(1) > self.size {
            let detail = format!("more than {} bytes for each compressed one", self.limits.ratio);
            return Err(Failure::Archive(Reason::RatioExceeded, detail).into());
        }
        Ok(n)
    }
}
