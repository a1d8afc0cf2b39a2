use super::*;

fn varint(out: &mut Vec<u8>, value: i64) {
    let mut value = ((value << 1) ^ (value >> 63)) as u64;
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn blob(out: &mut Vec<u8>, bytes: &[u8]) {
    varint(out, bytes.len() as i64);
    out.extend_from_slice(bytes);
}

/// A file of one block of two records `{a: union of null and string, b: array of long}`.
fn file(codec: &str) -> Vec<u8> {
    let schema = br#"{"type":"record","name":"r","fields":[
        {"name":"skipped","type":{"type":"map","values":{"type":"fixed","name":"f","size":2}}},
        {"name":"a","field-id":1,"type":["string","null"]},
        {"name":"again","type":"f"},
        {"name":"b","field-id":2,"type":{"type":"array","items":"long"}}]}"#;
    let mut out = MAGIC.to_vec();
    varint(&mut out, -2); // a block of entries with its size
    varint(&mut out, 0);
    blob(&mut out, b"avro.schema");
    blob(&mut out, schema);
    blob(&mut out, b"avro.codec");
    blob(&mut out, codec.as_bytes());
    varint(&mut out, 0);
    out.extend_from_slice(&[7; 16]);
    let mut records = Vec::new();
    for text in [Some("x"), None] {
        varint(&mut records, 1);
        blob(&mut records, b"key");
        records.extend_from_slice(b"vv");
        varint(&mut records, 0);
        match text {
            Some(text) => {
                varint(&mut records, 0);
                blob(&mut records, text.as_bytes());
            }
            None => varint(&mut records, 1),
        }
        records.extend_from_slice(b"ff");
        varint(&mut records, 2);
        varint(&mut records, -5);
        varint(&mut records, i64::MAX);
        varint(&mut records, 0);
    }
    let block = match codec {
        "deflate" => {
            use std::io::Write;
            let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::default());
            encoder.write_all(&records).unwrap();
            encoder.finish().unwrap()
        }
        "zstandard" => zstd::encode_all(records.as_slice(), 0).unwrap(),
        "snappy" => {
            let mut block = snap::raw::Encoder::new().compress_vec(&records).unwrap();
            let mut crc = flate2::Crc::new();
            crc.update(&records);
            block.extend_from_slice(&crc.sum().to_be_bytes());
            block
        }
        _ => records,
    };
    varint(&mut out, 2);
    blob(&mut out, &block);
    out.extend_from_slice(&[7; 16]);
    out
}

fn read(file: &[u8]) -> Result<Vec<(Option<String>, Vec<i64>)>> {
    let mut rows = Vec::new();
    Container::open(file)?.layout.records(file, MAX_BLOCK_BYTES, |reader, schema| {
        let (mut text, mut numbers) = (None, Vec::new());
        reader.record(schema, |reader, id, schema| {
            match id {
                1 => text = reader.optional(schema, |r, s| r.text(s).map(str::to_string))?,
                _ => reader.array(schema, |r, s| {
                    numbers.push(r.long(s)?);
                    Ok(())
                })?,
            }
            Ok(true)
        })?;
        rows.push((text, numbers));
        Ok(())
    })?;
    Ok(rows)
}

#[test]
fn records_of_every_codec_are_read_and_what_is_not_asked_for_is_skipped() {
    for codec in ["null", "deflate", "snappy", "zstandard"] {
        let rows = read(&file(codec)).unwrap();
        let numbers = vec![-5, i64::MAX];
        assert_eq!(rows, [(Some("x".to_string()), numbers.clone()), (None, numbers)], "{codec}");
    }
    assert_eq!(read(&file("lzma")).unwrap_err().kind(), crate::ErrorKind::Unsupported);
}

#[test]
fn a_file_that_is_cut_short_anywhere_is_an_error() {
    for codec in ["null", "deflate", "snappy", "zstandard"] {
        let whole = file(codec);
        let header = whole.len() - whole.iter().rev().skip(16).position(|byte| *byte == 7).unwrap() - 16;
        for end in 0..whole.len() {
            // A file of no blocks is a file.
            if end != header {
                assert!(read(&whole[..end]).is_err(), "{codec}, {end} of {}", whole.len());
            }
        }
    }
}

#[test]
fn a_block_that_swells_and_a_count_without_end_are_refused() {
    let mut bomb = file("zstandard");
    let zeros = zstd::encode_all(std::io::repeat(0).take(MAX_BLOCK_BYTES + 10), 1).unwrap();
    let at = bomb.windows(16).position(|window| window == [7; 16]).unwrap() + 16;
    bomb.truncate(at);
    varint(&mut bomb, 1);
    blob(&mut bomb, &zeros);
    bomb.extend_from_slice(&[7; 16]);
    assert!(read(&bomb).unwrap_err().to_string().contains("too large"));

    let mut endless = file("null");
    endless.truncate(at - 5);
    varint(&mut endless, i64::MAX);
    blob(&mut endless, &[]);
    assert!(read(&endless).is_err());
}

#[test]
fn blocks_without_records_are_passed_over() {
    for codec in ["null", "deflate", "snappy", "zstandard"] {
        let whole = file(codec);
        let start = whole.windows(16).position(|window| window == [7; 16]).unwrap() + 16;
        let (header, block) = whole.split_at(start);
        let of_nothing = match codec {
            "deflate" => vec![3, 0],
            "zstandard" => zstd::encode_all(&[][..], 0).unwrap(),
            "snappy" => vec![0, 0, 0, 0, 0],
            _ => Vec::new(),
        };
        for nothing in [Vec::new(), of_nothing] {
            let mut empty = Vec::new();
            varint(&mut empty, 0);
            blob(&mut empty, &nothing);
            empty.extend_from_slice(&[7; 16]);
            let file = [header, &empty, block, &empty, block, &empty].concat();
            assert_eq!(read(&file).unwrap().len(), 4, "{codec} {nothing:?}");
            assert_eq!(read(&[header, &empty].concat()).unwrap().len(), 0, "{codec} {nothing:?}");
        }
    }
}
