//! Inputs: the corpus as it is, then damaged copies of its files.

use flate2::read::GzDecoder;
use icefield_testkit::{HOSTILE_KINDS, hostile_archives};
use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};
use std::io::Read;

use crate::corpus_folder;

/// Bytes of an input, at most, and of most inputs of text: many small ones find more than a few large ones.
const MOST: usize = 256 << 10;
const MOSTLY: usize = 8 << 10;

/// Files to start from, in an order that does not depend on the machine.
pub(crate) struct Corpus {
    name: String,
    files: Vec<Vec<u8>>,
}

impl Corpus {
    /// The files of `fuzz/corpus`, and the hostile archives that the name's reader takes.
    pub(crate) fn of(name: &str) -> Self {
        // A drop's archives are of all kinds.
        let folders: &[&str] = if name == "drop" { &["tar", "zip", "csv", "json"] } else { &[name] };
        let mut files = Vec::new();
        for folder in folders {
            let folder = corpus_folder(folder);
            let entries = std::fs::read_dir(&folder)
                .unwrap_or_else(|error| panic!("the corpus {} can't be listed: {error}", folder.display()));
            let mut paths: Vec<_> =
                entries.map(|entry| entry.expect("an entry of the corpus").path()).collect();
            paths.sort();
            files.extend(paths.iter().map(|path| std::fs::read(path).expect("a file of the corpus")));
        }
        for hostile in hostile_archives(3, 2 * HOSTILE_KINDS.len()) {
            let (kind, bytes) = match hostile.name.strip_suffix(".gz") {
                _ if name == "drop" => ("drop", hostile.bytes),
                None => (hostile.name.rsplit('.').next().unwrap_or_default(), hostile.bytes),
                Some(inner) => {
                    let mut bytes = Vec::new();
                    // A bomb's beginning is as good as all of it.
                    let _ = GzDecoder::new(&hostile.bytes[..]).take(MOST as u64 / 4).read_to_end(&mut bytes);
                    (inner.rsplit('.').next().unwrap_or_default(), bytes)
                }
            };
            if kind.starts_with(name) {
                files.push(bytes[..bytes.len().min(MOST)].to_vec());
            }
        }
        assert!(!files.is_empty(), "nothing to start from: {name}");
        Self { name: name.to_string(), files }
    }

    pub(crate) fn len(&self) -> u64 {
        self.files.len() as u64
    }
}

/// Input `number` of a seed.
pub(crate) fn input(corpus: &Corpus, seed: u64, number: u64) -> Vec<u8> {
    if let Some(file) = usize::try_from(number).ok().and_then(|at| corpus.files.get(at)) {
        return file.clone();
    }
    let chance = &mut StdRng::seed_from_u64(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ number);
    let is_text = matches!(&*corpus.name, "csv" | "json" | "drop");
    let most = if is_text && !chance.random_ratio(1, 64) { MOSTLY } else { MOST };
    let file = pick(chance, &corpus.files);
    let mut bytes = file[..file.len().min(most)].to_vec();
    for _ in 0..1_u32 << chance.random_range(0..5) {
        damage(chance, &mut bytes, corpus, most);
        bytes.truncate(most);
    }
    // A reader that checks a sum first would see nothing of what lies behind it.
    if chance.random() {
        mend(&corpus.name, &mut bytes);
    }
    bytes
}

/// What formats are made of.
const TOKENS: [&[u8]; 40] = [
    b"\n",
    b"\r\n",
    b"\r",
    b"\"",
    b"\"\"",
    b",",
    b"\t",
    b"\0",
    b"\xFF",
    b"\xEF\xBB\xBF",
    b"\xFF\xFE",
    b"\xFE\xFF\0\0",
    b"{",
    b"}",
    b"[",
    b"]",
    b":",
    b"null",
    b"\\u0000",
    b"\\ud800",
    b"\\",
    b"{\"a\":",
    b"-",
    b"1e999",
    b"2024-02-29T24:00:60Z",
    b"PK\x01\x02",
    b"PK\x03\x04",
    b"PK\x05\x06",
    b"PK\x06\x06",
    b"PK\x06\x07",
    b"PAR1",
    b"PFA1",
    b"Obj\x01",
    b"ORC",
    b"ustar\0",
    b"../",
    b"29 size=18446744073709551615\n",
    b"\x1f\x8b\x08\0\0\0\0\0",
    b"\x28\xb5\x2f\xfd",
    b"\x50\x2a\x4d\x18\0\0\0\0",
];

/// Where arithmetic goes wrong.
const NUMBERS: [u64; 16] = [
    0,
    1,
    2,
    0x7F,
    0x80,
    0xFF,
    0x100,
    0x7FFF,
    0xFFFF,
    0x1_0000,
    0x7FFF_FFFF,
    0x8000_0000,
    0xFFFF_FFFF,
    0x7FFF_FFFF_FFFF_FFFF,
    0x8000_0000_0000_0000,
    u64::MAX,
];

fn pick<'a, T>(chance: &mut StdRng, of: &'a [T]) -> &'a T {
    &of[chance.random_range(0..of.len())]
}

/// A part of so many bytes: mostly a short one.
fn part(chance: &mut StdRng, len: usize) -> std::ops::Range<usize> {
    if len == 0 {
        return 0..0;
    }
    let start = chance.random_range(0..len);
    let most = (len - start).min(1 << chance.random_range(0..14));
    start..start + chance.random_range(0..=most)
}

fn damage(chance: &mut StdRng, bytes: &mut Vec<u8>, corpus: &Corpus, most: usize) {
    let len = bytes.len();
    let at = chance.random_range(0..=len);
    match chance.random_range(0..11) {
        0 if at < len => bytes[at] ^= 1 << chance.random_range(0..8),
        1 if at < len => bytes[at] = chance.random(),
        2 => {
            let width = 1 << chance.random_range(0..4);
            let number = pick(chance, &NUMBERS).wrapping_add(chance.random_range(0..3)).wrapping_sub(1);
            let number =
                if chance.random() { number.to_le_bytes() } else { number.swap_bytes().to_le_bytes() };
            let end = len.min(at + width);
            let from = if number[0] == 0 { 8 - (end - at) } else { 0 };
            bytes[at..end].copy_from_slice(&number[from..from + end - at]);
        }
        3 => drop(bytes.drain(part(chance, len))),
        4 => {
            let copy = bytes[part(chance, len)].to_vec();
            bytes.splice(at..at, copy);
        }
        5 => {
            let other = pick(chance, &corpus.files);
            let copy = other[part(chance, other.len())].to_vec();
            let end = if chance.random() { at } else { len.min(at + copy.len()) };
            bytes.splice(at..end, copy);
        }
        6 => {
            let mut noise = vec![0; chance.random_range(0..64)];
            chance.fill_bytes(&mut noise);
            bytes.splice(at..at, noise);
        }
        7 => {
            let token = *pick(chance, &TOKENS);
            let end = if chance.random() { at } else { len.min(at + token.len()) };
            bytes.splice(at..end, token.iter().copied());
        }
        // The same again and again.
        8 => {
            let copy = bytes[part(chance, len)].to_vec();
            let times = (1 << chance.random_range(0..12)).min(most / copy.len().max(1) + 1);
            bytes.splice(at..at, copy.repeat(times));
        }
        // A number that is written in digits.
        9 => {
            let is_digit = |b: &u8| b.is_ascii_digit();
            if let Some(start) = bytes[at..].iter().position(is_digit).map(|found| at + found) {
                let end = bytes[start..].iter().position(|b| !is_digit(b)).map_or(len, |more| start + more);
                let number = *pick(chance, &NUMBERS);
                let text = match chance.random_range(0..4) {
                    0 => format!("-{number}"),
                    1 => format!("{number:0width$o}", width = (end - start).min(1 << 10)),
                    2 => format!("{number}.{number}e{number}"),
                    _ => number.to_string(),
                };
                bytes.splice(start..end, text.into_bytes());
            }
        }
        _ => bytes.truncate(at),
    }
}

/// Makes sums and sizes of a file fit its content again.
fn mend(name: &str, bytes: &mut Vec<u8>) {
    if matches!(name, "tar" | "drop") {
        for header in bytes.chunks_exact_mut(512).filter(|block| block[257..].starts_with(b"ustar")) {
            header[148..156].fill(b' ');
            let sum: u32 = header.iter().map(|b| u32::from(*b)).sum();
            header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
    }
    if matches!(name, "zip" | "drop") {
        let find = |mark: &[u8]| bytes.windows(4).position(|window| window == mark);
        let (directory, end) = (find(b"PK\x01\x02"), find(b"PK\x05\x06"));
        if let (Some(directory), Some(end)) = (directory, end)
            && directory < end
            && end + 22 <= bytes.len()
        {
            let entries =
                bytes[directory..end].windows(4).filter(|window| *window == b"PK\x01\x02").count() as u16;
            bytes.truncate(end + 22);
            bytes[end + 8..end + 10].copy_from_slice(&entries.to_le_bytes());
            bytes[end + 10..end + 12].copy_from_slice(&entries.to_le_bytes());
            bytes[end + 12..end + 16].copy_from_slice(&((end - directory) as u32).to_le_bytes());
            bytes[end + 16..end + 20].copy_from_slice(&(directory as u32).to_le_bytes());
            bytes[end + 20..].fill(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_is_the_same_for_the_same_seed_and_number() {
        for name in ["zip", "tar", "json", "metadata"] {
            let corpus = Corpus::of(name);
            for number in [0, corpus.len(), corpus.len() + 100] {
                let made = input(&corpus, 7, number);
                assert!(made == input(&Corpus::of(name), 7, number) && made.len() <= MOST, "{name} {number}");
            }
            let of_seed = |seed| (0..20).map(|n| input(&corpus, seed, corpus.len() + n)).collect::<Vec<_>>();
            assert!(of_seed(7) != of_seed(8), "{name}");
        }
    }
}
