//! Every file that fuzzing starts from, valid and hostile ones, and damaged copies of them: no reader panics.

use std::path::Path;

use icefield_ingest::untrusted::KINDS;
use icefield_testkit::hostile_archives;

/// Reads a file, and damaged copies of it.
fn read_damaged(read: fn(&[u8]), bytes: &[u8], most: usize) {
    read(bytes);
    for at in (0..bytes.len()).step_by((bytes.len() / most).max(1)) {
        read(&bytes[..at]);
        for value in [0, 0x7f, 0xff, b'"', b'\n', bytes[at] ^ 1, bytes[at] ^ 0x80] {
            let mut damaged = bytes.to_vec();
            damaged[at] = value;
            read(&damaged);
        }
    }
}

#[test]
fn whatever_bytes_a_file_of_a_drop_has_no_reader_panics() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
    for (kind, read) in KINDS {
        let mut files = 0;
        for entry in std::fs::read_dir(corpus.join(kind)).expect("a folder of each kind") {
            files += 1;
            read_damaged(read, &std::fs::read(entry.unwrap().path()).unwrap(), 150);
        }
        assert!(files > 0, "{kind}");
    }
}

#[test]
fn no_reader_panics_over_hostile_files() {
    for hostile in hostile_archives(3, 66) {
        let suffix = hostile.name.rsplit('.').next().unwrap();
        let Some((_, read)) = KINDS.iter().find(|(kind, _)| suffix.starts_with(kind)) else { continue };
        read_damaged(*read, &hostile.bytes[..hostile.bytes.len().min(20_000)], 10);
    }
}
