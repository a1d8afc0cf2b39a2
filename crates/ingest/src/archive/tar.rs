//! Tar archives. Headers are read by the `tar` crate; the walk is here, so that the long names and extended headers that
//! an archive announces are bounded, and so that an archive without its end is told from one that is whole.

use std::io::Read;

use tar::{EntryType, Header, PaxExtensions};

use super::failure::Failure;
use super::member::{Members, drain, give, shown_path, too_many};
use crate::escape::past;
use crate::options::Limits;
use crate::quarantine::Reason;

const BLOCK: u64 = 512;
/// Where a header says what kind of member it is.
const KIND: usize = 156;
/// Where the header of a sparse file in GNU's old form, and each further block of its map, says that another one follows.
const OLD_SPARSE_MORE: usize = 482;
const SPARSE_BLOCK_MORE: usize = 504;
const SUN_EXTENSION: u8 = b'X';
/// Entries that are no members: an archive's label, GNU's lists of a folder's files, Sun's lists of who may read a file.
const NO_MEMBERS: [u8; 3] = [b'V', b'D', b'A'];
/// Bytes of a long name or an extended header, at most.
const EXTENSION_BYTES: u64 = 1 << 20;

pub(crate) fn walk(data: &mut dyn Read, limits: &Limits, members: &mut dyn Members) -> Result<(), Failure> {
    let mut number = 0;
    let mut long_name: Option<Vec<u8>> = None;
    let mut pax: Option<Vec<u8>> = None;
    loop {
        let mut block = [0; BLOCK as usize];
        fill(data, &mut block)?;
        if block.iter().all(|b| *b == 0) {
            return drain(data);
        }
        let header = Header::from_byte_slice(&block);
        let sum = block[..148].iter().chain(&block[156..]).map(|b| u32::from(*b)).sum::<u32>() + 8 * 32;
        if header.cksum().ok() != Some(sum) {
            return Err(corrupt("a member's header has a wrong checksum"));
        }
        let mut size = header.entry_size().map_err(|_| corrupt("a member's header has no size"))?;
        let kind = header.entry_type();
        let old = block[KIND] == 0;
        number += 1;
        if number > limits.members {
            return Err(too_many(limits));
        }
        match kind {
            EntryType::GNULongName => {
                long_name = Some(extension(data, size)?);
                continue;
            }
            EntryType::XHeader => {
                pax = Some(extension(data, size)?);
                continue;
            }
            EntryType::GNULongLink | EntryType::XGlobalHeader => {
                extension(data, size)?;
                continue;
            }
            // Sun's extended headers have the standard's form.
            _ if block[KIND] == SUN_EXTENSION => {
                pax = Some(extension(data, size)?);
                continue;
            }
            _ if NO_MEMBERS.contains(&block[KIND]) => {
                (long_name, pax) = (None, None);
                skip(data, size)?;
                skip(data, (BLOCK - size % BLOCK) % BLOCK)?;
                continue;
            }
            _ => {}
        }
        let mut path = header.path_bytes().into_owned();
        if let Some(mut name) = long_name.take() {
            name.truncate(name.iter().position(|b| *b == 0).unwrap_or(name.len()));
            path = name;
        }
        let mut sparse = kind == EntryType::GNUSparse;
        // The map of a file with many holes goes on in blocks of its own, which the size does not count.
        let mut more = sparse && block[OLD_SPARSE_MORE] != 0;
        while more {
            fill(data, &mut block)?;
            more = block[SPARSE_BLOCK_MORE] != 0;
        }
        if let Some(pax) = pax.take() {
            for extension in PaxExtensions::new(&pax) {
                let extension = extension.map_err(|_| corrupt("an extended header can't be read"))?;
                match extension.key_bytes() {
                    b"path" => path = extension.value_bytes().to_vec(),
                    b"size" => {
                        let value = extension.value().ok().and_then(|v| v.parse().ok());
                        size = value.ok_or_else(|| corrupt("an extended header has no size"))?;
                    }
                    key if key.starts_with(b"GNU.sparse.") => sparse = true,
                    _ => {}
                }
            }
        }
        let kind = match kind {
            // The oldest archives have no kind for folders.
            EntryType::Regular if old && size == 0 && path.ends_with(b"/") => EntryType::Directory,
            kind => kind,
        };
        if !has_content(kind) {
            size = 0;
        }
        let mut member = Member { inner: data, left: size };
        let refuse = |reason, detail: &str| (reason, detail.to_string());
        let refused = match kind {
            _ if sparse => Some(refuse(Reason::NotAFile, "a sparse file")),
            EntryType::Regular | EntryType::Continuous => None,
            EntryType::Directory => continue,
            EntryType::Symlink => Some(refuse(Reason::Link, "a symbolic link")),
            EntryType::Link => Some(refuse(Reason::Link, "a hard link")),
            _ => Some(refuse(Reason::NotAFile, "not a plain file")),
        };
        match refused {
            Some((reason, detail)) => {
                members.refused(shown_path(&path), reason, detail)?;
            }
            None if size > limits.member_bytes => {
                let detail = past(&format!("{size} bytes"), "member_bytes", limits.member_bytes);
                members.refused(shown_path(&path), Reason::MemberTooLarge, detail)?;
            }
            None => give(&path, &mut member, members)?,
        }
        member.skip()?;
        skip(data, (BLOCK - size % BLOCK) % BLOCK)?;
    }
}

/// Whether a member of this kind has bytes after its header. Some writers give folders and links a size none the less, and
/// GNU's, Python's and Go's readers pass over it.
fn has_content(kind: EntryType) -> bool {
    use EntryType as T;
    !matches!(kind, T::Directory | T::Link | T::Symlink | T::Char | T::Block | T::Fifo)
}

fn corrupt(detail: &str) -> Failure {
    Failure::Archive(Reason::Corrupt, format!("corrupt tar archive: {detail}"))
}

fn truncated() -> Failure {
    Failure::Archive(Reason::Truncated, "unexpected end of tar archive".into())
}

fn fill(data: &mut dyn Read, block: &mut [u8]) -> Result<(), Failure> {
    data.read_exact(block).map_err(|e| match e.kind() {
        std::io::ErrorKind::UnexpectedEof => truncated(),
        _ => e.into(),
    })
}

fn skip(data: &mut dyn Read, bytes: u64) -> Result<(), Failure> {
    let skipped = std::io::copy(&mut data.take(bytes), &mut std::io::sink())?;
    if skipped < bytes { Err(truncated()) } else { Ok(()) }
}

/// The content of an entry that says something about the next one.
fn extension(data: &mut dyn Read, size: u64) -> Result<Vec<u8>, Failure> {
    if size > EXTENSION_BYTES {
        return Err(corrupt("a long name or extended header has more than 1 MiB"));
    }
    let mut content = vec![0; size as usize];
    fill(data, &mut content)?;
    skip(data, (BLOCK - size % BLOCK) % BLOCK)?;
    Ok(content)
}

/// A member's bytes; it never ends before its size without an error.
struct Member<'a> {
    inner: &'a mut dyn Read,
    left: u64,
}

impl Member<'_> {
    fn skip(&mut self) -> Result<(), Failure> {
        let left = std::mem::take(&mut self.left);
        skip(self.inner, left)
    }
}

impl Read for Member<'_> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(into.len());
        if most == 0 {
            return Ok(0);
        }
        let n = self.inner.read(&mut into[..most])?;
        if n == 0 {
            return Err(truncated().into());
        }
        self.left -= n as u64;
        Ok(n)
    }
}
