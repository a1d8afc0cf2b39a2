//! Text in the encodings that files come in, as UTF-8.
//!
//! UTF-8 passes as it is. UTF-16 and UTF-32 are decoded, whether a byte order mark says so or the first bytes leave no doubt:
//! most of the units are ASCII, and none is a control character that no text has. A unit that is no character becomes a byte
//! that no UTF-8 text has, so that its row alone is set aside; so does what is left at the end when it is no whole unit. All
//! other text passes as it is too: whoever reads it finds out that it is no UTF-8.

use std::io::{self, Read};

/// Bytes that an encoding is told by, at most.
const HEAD: usize = 4096;
/// Bytes that are decoded at once.
const CHUNK: usize = 16 << 10;
/// What no UTF-8 text has.
const INVALID: u8 = 0xFF;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encoding {
    /// UTF-8, or something that is not decoded.
    Plain,
    Utf16 {
        little: bool,
    },
    Utf32 {
        little: bool,
    },
}

impl Encoding {
    fn unit(self) -> usize {
        match self {
            Self::Plain => 1,
            Self::Utf16 { .. } => 2,
            Self::Utf32 { .. } => 4,
        }
    }

    fn of(head: &[u8]) -> Self {
        match head {
            // Before UTF-16's mark, with which it begins. A text in UTF-16 has no U+0000 behind its mark.
            [0xFF, 0xFE, 0, 0, ..] => return Self::Utf32 { little: true },
            [0, 0, 0xFE, 0xFF, ..] => return Self::Utf32 { little: false },
            [0xFF, 0xFE, ..] => return Self::Utf16 { little: true },
            [0xFE, 0xFF, ..] => return Self::Utf16 { little: false },
            _ if memchr::memchr(0, head).is_none() => return Self::Plain,
            _ => {}
        }
        let unmarked = [
            Self::Utf32 { little: true },
            Self::Utf32 { little: false },
            Self::Utf16 { little: true },
            Self::Utf16 { little: false },
        ];
        unmarked.into_iter().find(|encoding| encoding.fits(head)).unwrap_or(Self::Plain)
    }

    /// Whether there is no doubt that a text is in this encoding.
    fn fits(self, head: &[u8]) -> bool {
        let (mut ascii, mut units) = (0, 0);
        for unit in head.chunks_exact(self.unit()) {
            let unit = self.value(unit);
            let is_control = unit < 0x20 && !matches!(unit, 0x09 | 0x0A | 0x0D);
            if is_control || unit > 0x10_FFFF {
                return false;
            }
            ascii += usize::from(unit < 0x7F);
            units += 1;
        }
        units >= 2 && ascii * 2 >= units
    }

    fn value(self, unit: &[u8]) -> u32 {
        let is_little = matches!(self, Self::Utf16 { little: true } | Self::Utf32 { little: true });
        let add = |value: u32, byte: &u8| value << 8 | u32::from(*byte);
        if is_little { unit.iter().rev().fold(0, add) } else { unit.iter().fold(0, add) }
    }
}

/// A file's bytes as UTF-8, where they are text in an encoding that is known.
pub(crate) struct Text<'a> {
    inner: &'a mut dyn Read,
    encoding: Encoding,
    /// Bytes to be decoded: less than a unit, but for the head.
    raw: Vec<u8>,
    /// A first half of a character of UTF-16.
    high: Option<u32>,
    /// Bytes to be given, of which those before `at` were.
    out: Vec<u8>,
    at: usize,
    is_ended: bool,
}

impl<'a> Text<'a> {
    /// Reads the first bytes.
    pub(crate) fn new(inner: &'a mut dyn Read) -> io::Result<Self> {
        let mut head = Vec::with_capacity(HEAD);
        (&mut *inner).take(HEAD as u64).read_to_end(&mut head)?;
        let encoding = Encoding::of(&head);
        let mut this =
            Self { inner, encoding, raw: head, high: None, out: Vec::new(), at: 0, is_ended: false };
        if encoding == Encoding::Plain {
            this.out = std::mem::take(&mut this.raw);
        } else {
            this.decode();
        }
        Ok(this)
    }

    /// Takes whole units from `raw` to `out`.
    fn decode(&mut self) {
        self.out.clear();
        self.at = 0;
        let size = self.encoding.unit();
        let whole = self.raw.len() - self.raw.len() % size;
        for unit in self.raw[..whole].chunks_exact(size) {
            let unit = self.encoding.value(unit);
            let is_utf16 = size == 2;
            match (self.high.take(), unit) {
                (None, 0xD800..=0xDBFF) if is_utf16 => self.high = Some(unit),
                (Some(high), 0xDC00..=0xDFFF) => {
                    push(&mut self.out, 0x1_0000 + ((high - 0xD800) << 10) + (unit - 0xDC00));
                }
                (high, unit) => {
                    if high.is_some() {
                        self.out.push(INVALID);
                    }
                    if is_utf16 && (0xD800..=0xDBFF).contains(&unit) {
                        self.high = Some(unit);
                    } else {
                        push(&mut self.out, unit);
                    }
                }
            }
        }
        self.raw.drain(..whole);
    }
}

fn push(out: &mut Vec<u8>, value: u32) {
    match char::from_u32(value) {
        Some(c) => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        None => out.push(INVALID),
    }
}

impl Read for Text<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            let left = &self.out[self.at..];
            if !left.is_empty() || into.is_empty() {
                let n = left.len().min(into.len());
                into[..n].copy_from_slice(&left[..n]);
                self.at += n;
                return Ok(n);
            }
            if self.encoding == Encoding::Plain {
                return self.inner.read(into);
            }
            if self.is_ended {
                return Ok(0);
            }
            let kept = self.raw.len();
            self.raw.resize(kept + CHUNK, 0);
            let read = self.inner.read(&mut self.raw[kept..]);
            self.raw.truncate(kept + *read.as_ref().unwrap_or(&0));
            if read? > 0 {
                self.decode();
                continue;
            }
            self.is_ended = true;
            self.out.clear();
            self.at = 0;
            if kept > 0 || self.high.take().is_some() {
                self.out.push(INVALID);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Vec<u8> {
        let mut inner = bytes;
        let mut text = Vec::new();
        Text::new(&mut inner).unwrap().read_to_end(&mut text).unwrap();
        text
    }

    fn utf16(text: &str, little: bool) -> Vec<u8> {
        text.encode_utf16().flat_map(|u| if little { u.to_le_bytes() } else { u.to_be_bytes() }).collect()
    }

    fn utf32(text: &str, little: bool) -> Vec<u8> {
        let bytes = |c: char| if little { (c as u32).to_le_bytes() } else { (c as u32).to_be_bytes() };
        text.chars().flat_map(bytes).collect()
    }

    #[test]
    fn every_encoding_of_a_text_is_read_as_that_text() {
        let rows = "1,Zürich 😀,日本\r\n".repeat(5_000);
        for text in [format!("id,name,place\n{rows}"), format!("\u{feff}id,name,place\n{rows}")] {
            for little in [true, false] {
                assert!(read(&utf16(&text, little)) == text.as_bytes());
                assert!(read(&utf32(&text, little)) == text.as_bytes());
            }
            assert!(read(text.as_bytes()) == text.as_bytes());
        }
        let marked = "\u{feff}日本,東京\n1,2\n";
        assert_eq!(read(&utf16(marked, true)), marked.as_bytes());
    }

    #[test]
    fn what_is_no_character_becomes_no_text() {
        for little in [true, false] {
            let text = utf16("id,name\n1,a", little);
            let unit = |unit: u16| if little { unit.to_le_bytes() } else { unit.to_be_bytes() };
            let cut = [&text[..], b"x"].concat();
            assert_eq!(read(&cut), b"id,name\n1,a\xFF");
            for lone in [vec![0xD800], vec![0xDC00], vec![0xD800, 0xD800]] {
                let lone: Vec<u8> = lone.into_iter().flat_map(unit).collect();
                let expected = [&b"id,name\n1,a"[..], &vec![0xFF; lone.len() / 2], b"id,name\n1,a"].concat();
                assert_eq!(read(&[&text[..], &lone, &text].concat()), expected);
            }
        }
        let marked = utf32("\u{feff}id\n1\n", true);
        assert_eq!(read(&[&marked[..], &[0, 0, 0, 1]].concat()), b"\xEF\xBB\xBFid\n1\n\xFF");
    }

    #[test]
    fn other_bytes_pass_as_they_are() {
        for bytes in [
            &b"id,na\0me\n1,2\n"[..],
            b"\0\0\0\0\0\0\0\0",
            b"a\0",
            b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        ",
            b"id,caf\xe9\n",
            b"",
            b"\xEF\xBB\xBFid\n",
            "日本,東京\n".encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>().as_slice(),
        ] {
            assert_eq!(read(bytes), bytes);
        }
    }
}
