//! Zip archives, read by ranges: their directory is at their end.

use std::cell::Cell;
use std::collections::HashSet;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::rc::Rc;

use zip::ZipArchive;
use zip::result::ZipError;

use super::download::{Ranges, Watch};
use super::failure::Failure;
use super::member::{Members, give, shown_path, too_many};
use crate::escape::past;
use crate::options::Limits;
use crate::quarantine::Reason;

/// Bytes of a directory, at most: the library holds it in memory, several times over.
const DIRECTORY_BYTES: u64 = 32 << 20;

/// What a zip archive is read from.
pub(crate) trait Source: Read + Seek {
    /// The archive's size.
    fn size(&self) -> u64;
    fn watch(&self) -> Watch;
}

impl Source for Ranges {
    fn size(&self) -> u64 {
        Ranges::size(self)
    }

    fn watch(&self) -> Watch {
        Ranges::watch(self)
    }
}

/// Reads every member of a zip archive.
///
/// The library finds the end records in its own way, and tries others where one does not suit it. So the directory is found
/// and walked here first, and an archive whose records don't agree with it is refused; the library then sees nothing before the
/// directory until it has read that.
pub(crate) fn walk(
    mut source: impl Source,
    limits: &Limits,
    members: &mut dyn Members,
) -> Result<(), Failure> {
    let directory = Directory::find(&mut source)?;
    if directory.entries > limits.members {
        return Err(too_many(limits));
    }
    let repeated = directory.repeated(&mut source)?;
    let watch = source.watch();
    let hidden = Rc::new(Cell::new(directory.start));
    let view = View { inner: source, at: 0, hidden: hidden.clone() };
    let mut archive = ZipArchive::new(view).map_err(failed)?;
    hidden.set(0);
    let known = archive.len() as u64;
    if archive.central_directory_start() != directory.start
        || known.saturating_add(repeated.len() as u64) != directory.entries
    {
        // One of two members whose names come to the same would vanish in silence.
        return Err(corrupt("its directory can be read in two ways"));
    }
    // Of members with one path the archive keeps the last: the others must not vanish in silence.
    for path in repeated.into_iter().filter(|path| !path.ends_with(b"/")) {
        let detail = "the path occurs twice in the archive; the last one is read".to_string();
        members.refused(shown_path(&path), Reason::DuplicateMember, detail)?;
    }
    for index in 0..archive.len() {
        let raw_name = {
            let member = archive.by_index_raw(index).map_err(failed)?;
            let path = member.name_raw().to_vec();
            if member.is_dir() && member.size() == 0 {
                continue;
            }
            let special =
                member.unix_mode().map(|mode| mode & 0o170_000).filter(|kind| !matches!(kind, 0 | 0o100_000));
            let refused = if member.is_dir() {
                Some((Reason::NotAFile, "a folder that has bytes of its own".to_string()))
            } else if member.is_symlink() {
                Some((Reason::Link, "a symbolic link".to_string()))
            } else if special.is_some() {
                Some((Reason::NotAFile, "not a plain file".to_string()))
            } else if member.encrypted() {
                Some((Reason::NotAFile, "encrypted".to_string()))
            } else if member.size() > limits.member_bytes {
                let what = format!("{} bytes", member.size());
                let detail = past(&what, "member_bytes", limits.member_bytes);
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
        let mut member = Member { inner: member, watch: watch.clone() };
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
        io::ErrorKind::UnexpectedEof => truncated().into(),
        _ => Failure::Archive(Reason::Corrupt, format!("corrupt zip archive: {error}")).into(),
    }
}

fn corrupt(detail: &str) -> Failure {
    Failure::Archive(Reason::Corrupt, format!("corrupt zip archive: {detail}"))
}

fn truncated() -> Failure {
    Failure::Archive(Reason::Truncated, "unexpected end of zip archive".into())
}

/// Where the directory is, by the end records (PKWARE's APPNOTE, 4.3.12 to 4.3.16).
#[derive(Debug, Clone, Copy)]
struct Directory {
    start: u64,
    end: u64,
    entries: u64,
}

impl Directory {
    fn find(source: &mut impl Source) -> Result<Self, Failure> {
        const END: usize = 22;
        let size = source.size();
        let tail = size.min(END as u64 + 65_535 + LARGE_END + LOCATOR);
        let mut bytes = vec![0; usize::try_from(tail).unwrap_or(usize::MAX)];
        let tail_at = size - tail;
        read_at(source, tail_at, &mut bytes)?;
        let last = bytes.len().checked_sub(END).ok_or_else(truncated)?;
        let at = (0..=last).rev().find(|&at| bytes[at..].starts_with(b"PK\x05\x06")).ok_or_else(truncated)?;
        // Another end record whose comment ends with the file, too: to other readers this is another archive.
        let ends_file = |other: usize| {
            let comment = number(&bytes, other + 20, 2);
            bytes[other..].starts_with(b"PK\x05\x06")
                && comment.is_some_and(|comment| tail_at + (other + END) as u64 + comment == size)
        };
        if (0..at).any(ends_file) {
            return Err(corrupt("it has two end records"));
        }
        let record = &bytes[at..];
        let field = |at: usize, len: usize| number(record, at, len).ok_or_else(truncated);
        let end_at = tail_at + at as u64;
        if end_at + END as u64 + field(20, 2)? > size {
            return Err(corrupt("its end record has a comment that goes beyond its end"));
        }
        let (disks, here, entries) = (field(4, 4)?, field(8, 2)?, field(10, 2)?);
        let (directory_size, offset) = (field(12, 4)?, field(16, 4)?);
        let locator_at = end_at.checked_sub(LOCATOR);
        let mut locator = [0; LOCATOR as usize];
        if let Some(locator_at) = locator_at {
            read_at(source, locator_at, &mut locator)?;
        }
        let is_large = entries == 0xFFFF || offset == 0xFFFF_FFFF;
        let directory = match locator_at.filter(|_| is_large && locator.starts_with(b"PK\x06\x07")) {
            Some(locator_at) => {
                let large = Self::find_large(source, &locator, locator_at)?;
                let agree = |small: u64, most: u64, large: u64| small == most || small == large;
                if !agree(entries, 0xFFFF, large.entries)
                    || !agree(here, 0xFFFF, large.entries)
                    || !agree(offset, 0xFFFF_FFFF, large.start)
                    || !agree(directory_size, 0xFFFF_FFFF, large.end - large.start)
                {
                    return Err(corrupt("its two end records disagree"));
                }
                large
            }
            None => {
                if disks != 0 || here != entries {
                    return Err(corrupt("it is one of several parts"));
                }
                // What was put before the archive moves the directory, not the end record's word of it.
                let start = end_at.checked_sub(directory_size).filter(|start| *start >= offset);
                let start = start.ok_or_else(|| corrupt("its directory is not where its end record says"))?;
                Self { start, end: end_at, entries }
            }
        };
        if directory.end - directory.start > DIRECTORY_BYTES {
            return Err(corrupt("its directory has more than 32 MiB"));
        }
        Ok(directory)
    }

    /// By the end record of zip64, which stands right before the locator that names its place.
    fn find_large(source: &mut impl Source, locator: &[u8], locator_at: u64) -> Result<Self, Failure> {
        let wrong = || corrupt("its zip64 end record is not where its locator says");
        let place = number(locator, 8, 8).ok_or_else(wrong)?;
        let length = locator_at.checked_sub(place).filter(|length| *length >= LARGE_END).ok_or_else(wrong)?;
        let mut record = [0; LARGE_END as usize];
        read_at(source, place, &mut record)?;
        let field = |at: usize, len: usize| number(&record, at, len).ok_or_else(wrong);
        if !record.starts_with(b"PK\x06\x06") || field(4, 8)?.checked_add(12) != Some(length) {
            return Err(wrong());
        }
        let (here, entries, size, start) = (field(24, 8)?, field(32, 8)?, field(40, 8)?, field(48, 8)?);
        if field(16, 8)? != 0 || here != entries {
            return Err(corrupt("it is one of several parts"));
        }
        if start.checked_add(size) != Some(place) {
            return Err(corrupt("its directory is not where its end record says"));
        }
        Ok(Self { start, end: place, entries })
    }

    /// Walks the directory, which must have just the entries that were announced: the paths that it has more than once, once
    /// for each time too many.
    fn repeated(&self, source: &mut impl Source) -> Result<Vec<Vec<u8>>, Failure> {
        const HEADER: usize = 46;
        source.seek(SeekFrom::Start(self.start))?;
        let mut directory = BufReader::with_capacity(64 << 10, source.take(self.end - self.start));
        let (mut known, mut repeated) = (HashSet::new(), Vec::new());
        let wrong = || corrupt("its directory has other entries than its end record says");
        let mut left = self.end - self.start;
        for _ in 0..self.entries {
            let mut header = [0; HEADER];
            directory.read_exact(&mut header).map_err(|e| of_directory(e, wrong))?;
            if !header.starts_with(b"PK\x01\x02") {
                return Err(wrong());
            }
            let length = |at: usize| u16::from_le_bytes([header[at], header[at + 1]]);
            let mut path = vec![0; usize::from(length(28))];
            directory.read_exact(&mut path).map_err(|e| of_directory(e, wrong))?;
            let rest = u64::from(length(30)) + u64::from(length(32));
            if io::copy(&mut (&mut directory).take(rest), &mut io::sink())? < rest {
                return Err(wrong());
            }
            left = left.saturating_sub(HEADER as u64 + path.len() as u64 + rest);
            if known.contains(&path) {
                repeated.push(path);
            } else {
                known.insert(path);
            }
        }
        if left == 0 { Ok(repeated) } else { Err(wrong()) }
    }
}

/// Bytes of zip64's end record, without what may follow in it, and of the locator that names its place.
const LARGE_END: u64 = 56;
const LOCATOR: u64 = 20;

fn number(bytes: &[u8], at: usize, len: usize) -> Option<u64> {
    let field = bytes.get(at..at.checked_add(len)?)?;
    Some(field.iter().rev().fold(0, |n, b| n << 8 | u64::from(*b)))
}

fn read_at(source: &mut impl Source, at: u64, into: &mut [u8]) -> Result<(), Failure> {
    source.seek(SeekFrom::Start(at))?;
    Ok(source.read_exact(into).map_err(of_io)?)
}

fn of_directory(error: io::Error, wrong: impl Fn() -> Failure) -> Failure {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => wrong(),
        _ => of_io(error).into(),
    }
}

/// The archive as the library sees it: zeros before the directory, until that was read.
struct View<S> {
    inner: S,
    at: u64,
    hidden: Rc<Cell<u64>>,
}

impl<S: Source> Read for View<S> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let hidden = self.hidden.get().saturating_sub(self.at);
        let n = if hidden > 0 {
            let n = into.len().min(usize::try_from(hidden).unwrap_or(usize::MAX));
            into[..n].fill(0);
            n
        } else {
            self.inner.seek(SeekFrom::Start(self.at))?;
            self.inner.read(into)?
        };
        self.at += n as u64;
        Ok(n)
    }
}

impl<S: Source> Seek for View<S> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let to = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.inner.size().checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at =
            to.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "a place before the file's start"))?;
        Ok(self.at)
    }
}

/// A member's bytes, held to the limits on the archive's.
struct Member<R> {
    inner: R,
    watch: Watch,
}

impl<R: Read> Read for Member<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(into).map_err(of_io)?;
        self.watch.put_out(n as u64, true)?;
        Ok(n)
    }
}
