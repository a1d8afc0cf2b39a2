//! Every file that fuzzing started from or stumbled on (`fuzz/corpus`), and damaged copies of it: no reader panics.

use std::path::Path;

use icefield_testkit::untrusted::KINDS;

#[test]
fn whatever_bytes_a_file_of_metadata_has_no_reader_panics() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
    for (kind, read) in KINDS {
        let mut files = 0;
        for entry in std::fs::read_dir(corpus.join(kind)).expect("a folder of each kind") {
            let bytes = std::fs::read(entry.unwrap().path()).unwrap();
            files += 1;
            read(&bytes);
            for at in places(bytes.len()) {
                read(&bytes[..at]);
                for value in [0, 0x7f, 0x80, 0xff, bytes[at] ^ 1, bytes[at] ^ 0x80] {
                    let mut damaged = bytes.clone();
                    damaged[at] = value;
                    read(&damaged);
                }
            }
        }
        assert!(files > 0, "{kind}");
    }
}

/// At most 200 places of a file, spread over it.
fn places(len: usize) -> impl Iterator<Item = usize> {
    (0..len).step_by((len / 200).max(1))
}
