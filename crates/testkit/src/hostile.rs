//! Archives of partners who mean harm: bombs, floods, lies about sizes and counts, names that are none. Tar and zip are written
//! byte by byte, as no careful writer writes them.

use std::io::Write;

use flate2::{Compression, Crc};
use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};

/// An archive, or a plain file, that is not to be taken whole.
#[derive(Debug, Clone)]
pub struct HostileArchive {
    /// The file's name, unique among those of one call.
    pub name: String,
    /// Its bytes, a few kilobytes of them.
    pub bytes: Vec<u8>,
    /// What is hostile in it: one of [`HOSTILE_KINDS`].
    pub kind: &'static str,
}

type Make = fn(&mut StdRng) -> (&'static str, Vec<u8>);

/// Every kind of hostile archive: what it is called, and what makes one.
pub const HOSTILE_KINDS: [(&str, Make); 40] = [
    ("bomb", |r| (".tar.gz", gz(&tar(&[(file("evil", 1), lines(r, 3 << 20))])))),
    ("nested bomb", nested),
    ("nested bomb in zip", |r| {
        let inner = gz(&lines(r, 3 << 20));
        (".zip", zip(&[(file("evil", 1) + ".gz", inner)]).bytes)
    }),
    ("zstd bomb", |r| (".csv.zst", zstd_of_one_byte(0x58, r.random_range(40..90), b'\n'))),
    ("zstd window of half a gigabyte", |_| (".csv.zst", zstd_of_one_byte(0x98, 2, b'7'))),
    ("zstd frames of nothing", |r| {
        let frames = b"\x50\x2A\x4D\x18\0\0\0\0".repeat(r.random_range(20_000..40_000));
        (".tar.gz", gz(&tar(&[(file("evil", 1) + ".zst", frames)])))
    }),
    ("gzip members of nothing", |r| {
        let members = gz(b"").repeat(r.random_range(10_000..20_000));
        (".tar.gz", gz(&tar(&[(file("evil", 1) + ".gz", members)])))
    }),
    ("zip folder that has bytes", |_| (".zip", zip(&[(file("evil", 1) + "/", b"id\n1\n".to_vec())]).bytes)),
    ("names that look the same", |r| {
        let unseen =
            ["\u{200b}", "\u{2060}", "\u{ad}", "\u{feff}", "\u{e0041}", "\u{3164}"][r.random_range(0..6)];
        (".tar", tar(&[(file(&format!("cal{unseen}endar"), 1), b"id\n1\n".to_vec())]))
    }),
    ("columns that no other file has", |r| {
        let wide = |f: u32| (file("evil", f), names(&format!("c{f}_"), 120));
        (".tar.gz", gz(&tar(&(0..r.random_range(30..40)).map(wide).collect::<Vec<_>>())))
    }),
    ("too many columns", |r| (".csv", names("c", r.random_range(500..900)))),
    ("too many tables", |r| {
        let table = |t: u32| (file(&format!("evil{t}"), 1), b"id\n1\n".to_vec());
        (".tar.gz", gz(&tar(&(0..r.random_range(100..200)).map(table).collect::<Vec<_>>())))
    }),
    ("tables of no plain name", |r| {
        let bad = ["a'; DROP TABLE x; --", "\u{202e}calendar", "a.b", "a b", "$snapshots", "\u{2028}x"];
        (".tar", tar(&[(file(bad[r.random_range(0..bad.len())], 1), b"id\n1\n".to_vec())]))
    }),
    ("paths that leave the folder", |r| {
        let bad = ["../", "/etc/", "a/../../", "..\\", "C:\\", "\u{1b}[2J", "\r", "\u{2066}", "a\u{85}"];
        (
            ".tar",
            tar(&[(bad[r.random_range(0..bad.len())].to_string() + &file("evil", 1), b"id\n1\n".to_vec())]),
        )
    }),
    ("links and devices", |r| {
        let kind = b"123467S"[r.random_range(0..7)];
        (".tar", [entry(kind, &file("evil", 1), b""), tar(&[])].concat())
    }),
    ("long column names", |r| {
        (".csv", format!("{},b\n1,2\n", "x".repeat(r.random_range(2_000..9_000))).into_bytes())
    }),
    ("the same column name twice, of control characters", |r| {
        let name = "\u{7f}é".repeat(r.random_range(100..10_000));
        (".csv", format!("{name},{name}\n1,2\n").into_bytes())
    }),
    ("empty objects after a wide one", |r| {
        let keys: Vec<String> = (0..100).map(|k| format!("\"k{k}\":1")).collect();
        let text = format!("{{{}}}\n{}", keys.join(","), "{}\n".repeat(r.random_range(200_000..300_000)));
        (".jsonl.gz", gz(text.as_bytes()))
    }),
    ("more keys than columns", |r| {
        (".jsonl", format!("{{{}}}\n", vec!["\"a\":1"; r.random_range(1_000..2_000)].join(",")).into_bytes())
    }),
    ("a new key in each line", |r| {
        let line = |k: u32| format!("{{\"k{k}\":1}}\n");
        (".jsonl", (0..r.random_range(300..400)).map(line).collect::<String>().into_bytes())
    }),
    ("open objects", |r| (".jsonl", "{\"a\":[".repeat(r.random_range(1_000..9_000)).into_bytes())),
    ("cut", |r| {
        let whole = gz(&tar(&[(file("evil", 1), noise(r, 5_000))]));
        (".tar.gz", whole[..r.random_range(20..whole.len() - 10)].to_vec())
    }),
    ("a wrong checksum", |r| {
        let mut whole = gz(&tar(&[(file("evil", 1), noise(r, 500))]));
        let at = whole.len() - 6;
        whole[at] ^= r.random_range(1..=255);
        (".tar.gz", whole)
    }),
    ("a size of exabytes", |r| {
        let mut bytes = tar(&[(file("evil", 1), noise(r, 600))]);
        bytes[124..136].copy_from_slice(&[0x80, 0, 0, 0, 0x10, 0, 0, 0, 0, 0, 0, 0]);
        checksum(&mut bytes);
        (".tar", bytes)
    }),
    ("a size in an extended header", |r| {
        let record = format!("{} size=18446744073709551615\n", 29);
        (".tar", [entry(b'x', "x", record.as_bytes()), tar(&[(file("evil", 1), noise(r, 600))])].concat())
    }),
    ("an extended header of a gigabyte", |_| {
        let mut header = entry(b'x', "x", b"");
        header[124..136].copy_from_slice(b"10000000000\0");
        checksum(&mut header);
        (".tar", header)
    }),
    ("bad rows without end", |r| {
        let rows = "x\n".repeat(r.random_range(60_000..90_000));
        (".tar.gz", gz(&tar(&[(file("evil", 1), format!("a,b\n{rows}").into_bytes())])))
    }),
    ("members without end", |r| {
        let members = r.random_range(2_100..2_500);
        let member = |m: u32| (file("evil", m), b"id\n1\n".to_vec());
        (".tar.gz", gz(&tar(&(0..members).map(member).collect::<Vec<_>>())))
    }),
    ("headers without end", |r| {
        let header = entry(b'L', "x", b"name\0").repeat(r.random_range(2_100..2_500));
        (".tar.gz", gz(&[header, tar(&[])].concat()))
    }),
    ("no text", |r| {
        let mut bytes = vec![0; r.random_range(100..9_000)];
        r.fill_bytes(&mut bytes);
        bytes[..4].copy_from_slice(&[0xFF, b'\n', 0, 0xFF]);
        (".csv", bytes)
    }),
    ("an open quote", |r| {
        (".csv", format!("a,b\n1,\"{}", "2,3\n".repeat(r.random_range(10..900))).into_bytes())
    }),
    ("a row of two megabytes", |r| {
        let row = "x".repeat(r.random_range(2 << 20..3 << 20));
        (".csv.gz", gz(format!("a,b\n1,{row}\n{}\n", noise_text(r, 20_000)).as_bytes()))
    }),
    ("zip records that disagree", |r| {
        let mut zip = zip(&(0..20).map(|m| (file("evil", m), b"id\n1\n".to_vec())).collect::<Vec<_>>());
        zip.announce([0, 1, 19, 21, 0xFFFE][r.random_range(0..5)]);
        (".zip", zip.bytes)
    }),
    ("zip with two counts", |r| {
        let zip = zip(&(0..20).map(|m| (file("evil", m), b"id\n1\n".to_vec())).collect::<Vec<_>>());
        (".zip", zip.with_two_counts([1, 2_000_000, u64::MAX][r.random_range(0..3)]))
    }),
    ("zip with one path twice", |_| {
        (".zip", zip(&[(file("evil", 1), b"id\n1\n".to_vec()), (file("evil", 1), b"id\n2\n".to_vec())]).bytes)
    }),
    ("zip whose members are one", |r| {
        // Every entry of the directory stands for the one member.
        let mut zip = zip(&[(file("evil", 1), lines(r, 1 << 20))]);
        zip.repeat(20);
        (".zip", zip.bytes)
    }),
    ("zip within a zip's comment", |_| {
        let inner = zip(&[(file("evil", 1), b"id\n1\n".to_vec())]).bytes;
        let mut outer = zip(&[(file("evil", 2), b"id\n1\n".to_vec())]).bytes;
        let at = outer.len() - 2;
        outer[at..].copy_from_slice(&(inner.len() as u16).to_le_bytes());
        (".zip", [outer, inner].concat())
    }),
    ("zip directory of nothing", |r| {
        let mut bytes = vec![0; r.random_range(0..2_000)];
        bytes.extend_from_slice(b"PK\x05\x06\0\0\0\0\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\0\0");
        (".zip", bytes)
    }),
    ("anything at all", |r| {
        let mut bytes = vec![0; r.random_range(1..4_000)];
        r.fill_bytes(&mut bytes);
        ([".tar.gz", ".zip", ".tar", ".tgz"][r.random_range(0..4)], bytes)
    }),
    ("half a character at the end", |r| {
        let mut text: Vec<u8> = format!("id\n{}", "1\n".repeat(r.random_range(1..90)))
            .encode_utf16()
            .flat_map(u16::to_le_bytes)
            .collect();
        text.extend_from_slice(&[b'7', 0, 0x00, 0xD8, b'1']);
        (".csv", text)
    }),
];

/// Hostile archives of every kind in turn, from a seed. Plain files among them go to the table `evil` by
/// `{table}_{date}_{batch}` and the suffix; no file of theirs names another partner's table.
pub fn hostile_archives(seed: u64, count: usize) -> Vec<HostileArchive> {
    let mut chance = StdRng::seed_from_u64(seed);
    let make = |(at, (kind, make)): (usize, &(&'static str, Make))| {
        let (suffix, bytes) = make(&mut chance);
        HostileArchive { name: format!("evil_2024-06-22_{at:04}{suffix}"), bytes, kind }
    };
    HOSTILE_KINDS.iter().cycle().take(count).enumerate().map(make).collect()
}

/// Members that are no bombs each, but together.
fn nested(chance: &mut StdRng) -> (&'static str, Vec<u8>) {
    let member = gz(&lines(chance, 900 << 10));
    let members: Vec<_> = (0..20).map(|m| (file("evil", m) + ".gz", member.clone())).collect();
    (".tar.gz", gz(&tar(&members)))
}

fn file(table: &str, number: u32) -> String {
    format!("{table}_2024-06-22_{number}.csv")
}

fn names(prefix: &str, count: u32) -> Vec<u8> {
    let names: Vec<String> = (0..count).map(|c| format!("{prefix}{c}")).collect();
    format!("{}\n{}\n", names.join(","), vec!["1"; count as usize].join(",")).into_bytes()
}

fn lines(chance: &mut StdRng, bytes: usize) -> Vec<u8> {
    let line: &[u8] = [&b"\n"[..], b"7\n", b"1,2,3,4\n"][chance.random_range(0..3)];
    [&b"id\n"[..], &line.repeat(bytes / line.len())].concat()
}

fn noise_text(chance: &mut StdRng, bytes: usize) -> String {
    (0..bytes).map(|_| char::from(chance.random_range(b'a'..=b'z'))).collect()
}

fn noise(chance: &mut StdRng, rows: usize) -> Vec<u8> {
    let row = |_| format!("{}\n", chance.random::<u64>());
    format!("id\n{}", (0..rows).map(row).collect::<String>()).into_bytes()
}

fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).and_then(|()| encoder.finish()).expect("memory takes it")
}

/// A frame that asks for a window (RFC 8878, 3.1.1.1.2), of so many blocks of 128 KiB, each one byte again and again.
fn zstd_of_one_byte(window: u8, blocks: u32, byte: u8) -> Vec<u8> {
    let mut frame = vec![0x28, 0xB5, 0x2F, 0xFD, 0, window];
    for block in 1..=blocks {
        let header = (128 << 10) << 3 | 1 << 1 | u32::from(block == blocks);
        frame.extend_from_slice(&header.to_le_bytes()[..3]);
        frame.push(byte);
    }
    frame
}

fn checksum(header: &mut [u8]) {
    header[148..156].fill(b' ');
    let sum: u32 = header[..512].iter().map(|b| u32::from(*b)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

/// A tar's entry of some kind.
fn entry(kind: u8, name: &str, content: &[u8]) -> Vec<u8> {
    let mut header = vec![0; 512];
    let name = &name.as_bytes()[..name.len().min(100)];
    header[..name.len()].copy_from_slice(name);
    header[100..108].copy_from_slice(b"0000644\0");
    header[124..136].copy_from_slice(format!("{:011o}\0", content.len()).as_bytes());
    header[156] = kind;
    header[257..263].copy_from_slice(b"ustar\0");
    checksum(&mut header);
    header.extend_from_slice(content);
    header.resize(header.len().next_multiple_of(512), 0);
    header
}

fn tar(members: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut bytes: Vec<u8> = members.iter().flat_map(|(name, content)| entry(b'0', name, content)).collect();
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}

/// A zip, and where its directory is.
struct Zip {
    bytes: Vec<u8>,
    directory: usize,
    end: usize,
}

fn zip(members: &[(String, Vec<u8>)]) -> Zip {
    let (mut bytes, mut directory) = (Vec::new(), Vec::new());
    for (name, content) in members {
        let offset = bytes.len() as u32;
        let mut deflate = flate2::write::DeflateEncoder::new(Vec::new(), Compression::best());
        let packed = deflate.write_all(content).and_then(|()| deflate.finish()).expect("memory takes it");
        let mut crc = Crc::new();
        crc.update(content);
        let mut about = vec![20, 0, 0, 0, 8, 0, 0, 0, 0x21, 0];
        about.extend(
            [crc.sum(), packed.len() as u32, content.len() as u32].iter().flat_map(|n| n.to_le_bytes()),
        );
        about.extend((name.len() as u16).to_le_bytes());
        about.extend([0, 0]);
        bytes.extend([&b"PK\x03\x04"[..], &about, name.as_bytes(), &packed].concat());
        directory.extend(
            [&b"PK\x01\x02\x14\0"[..], &about, &[0; 10], &offset.to_le_bytes(), name.as_bytes()].concat(),
        );
    }
    let at = bytes.len();
    bytes.extend(&directory);
    let end = bytes.len();
    let mut zip = Zip { bytes, directory: at, end };
    zip.finish(members.len() as u16);
    zip
}

impl Zip {
    fn finish(&mut self, members: u16) {
        self.bytes.truncate(self.end);
        self.bytes.extend(b"PK\x05\x06\0\0\0\0");
        self.bytes.extend([members, members].iter().flat_map(|n| n.to_le_bytes()));
        let size = (self.end - self.directory) as u32;
        self.bytes.extend([size, self.directory as u32].iter().flat_map(|n| n.to_le_bytes()));
        self.bytes.extend([0, 0]);
    }

    fn announce(&mut self, members: u16) {
        self.finish(members);
    }

    /// The directory's entries, each of another name, so many times over.
    fn repeat(&mut self, times: u16) {
        let entry = self.bytes[self.directory..self.end].to_vec();
        self.bytes.truncate(self.directory);
        let name = entry.len() - 5;
        for n in 0..times {
            let mut entry = entry.clone();
            // The number before ".csv".
            entry[name] = b'A' + (n % 26) as u8;
            self.bytes.extend(entry);
        }
        self.end = self.bytes.len();
        self.finish(times);
    }

    /// With zip64's records, which the end record sends readers to, and that have another count.
    fn with_two_counts(mut self, large: u64) -> Vec<u8> {
        let (size, offset) = ((self.end - self.directory) as u64, self.directory as u64);
        self.bytes.truncate(self.end);
        self.bytes.extend(b"PK\x06\x06");
        self.bytes.extend(44_u64.to_le_bytes());
        self.bytes.extend([45, 0, 45, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        self.bytes.extend([large, large, size, offset].iter().flat_map(|n| n.to_le_bytes()));
        self.bytes.extend(b"PK\x06\x07\0\0\0\0");
        self.bytes.extend((self.end as u64).to_le_bytes());
        self.bytes.extend(b"\x01\0\0\0PK\x05\x06\0\0\0\0\x02\0\x02\0");
        self.bytes.extend((size as u32).to_le_bytes());
        self.bytes.extend([0xFF, 0xFF, 0xFF, 0xFF, 0, 0]);
        self.bytes
    }
}
