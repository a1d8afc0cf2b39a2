//! The memory that reading manifests takes, whatever lists claim.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::StreamExt;
use serde_json::json;

use super::*;
use crate::format::avro::{Compression, ContainerWriter, put_bytes, put_long};

/// A manifest of one file, with this much in it that nobody asks for.
fn padded(name: &str, padding: usize, compression: Compression) -> Vec<u8> {
    claiming(name, 3, 1, padding, compression)
}

/// A manifest of one file of which is claimed that it has so many rows and bytes.
fn claiming(name: &str, rows: i64, size: i64, padding: usize, compression: Compression) -> Vec<u8> {
    let field =
        |name: &str, id: i32, of: serde_json::Value| json!({"name": name, "type": of, "field-id": id});
    let file = [
        field("file_path", 100, json!("string")),
        field("file_format", 101, json!("string")),
        field("partition", 102, json!({"type": "record", "name": "r102", "fields": []})),
        field("record_count", 103, json!("long")),
        field("file_size_in_bytes", 104, json!("long")),
        json!({"name": "padding", "type": "bytes"}),
    ];
    let fields = [
        field("status", 0, json!("int")),
        field("data_file", 2, json!({"type": "record", "name": "r2", "fields": file})),
    ];
    let schema = json!({"type": "record", "name": "manifest_entry", "fields": fields}).to_string();
    let mut writer = ContainerWriter::new(schema, Vec::new(), compression, [1; 16]);
    let encode = |out: &mut Vec<u8>| {
        put_long(out, 1);
        put_bytes(out, format!("memory://w/{name}").as_bytes());
        put_bytes(out, b"PARQUET");
        put_long(out, rows);
        put_long(out, size);
        put_bytes(out, &vec![0; padding]);
        Ok(())
    };
    writer.record(encode).unwrap();
    writer.finish(None).unwrap()
}

/// Counts bytes as long as they are held.
struct Held(Vec<String>, usize, Arc<AtomicUsize>);

impl Drop for Held {
    fn drop(&mut self) {
        self.2.fetch_sub(self.1, Ordering::SeqCst);
    }
}

#[test]
fn files_larger_than_any_can_be_are_refused() {
    const MOST: i64 = 1 << 50;
    for (rows, size, is_taken) in [
        (MOST, MOST, true),
        (MOST + 1, 1, false),
        (1, MOST + 1, false),
        (1, i64::MAX, false),
        (i64::MAX, i64::MAX, false),
        (-1, 1, false),
    ] {
        let file = claiming("f", rows, size, 0, Compression::None).into();
        let manifest = Manifest::parse(file, None, unlisted("memory://w/m.avro".to_string(), 1)).unwrap();
        let read = manifest.locations(|file| assert_eq!(file.size, MOST as u64));
        assert_eq!(read.is_ok(), is_taken, "{rows} rows, {size} bytes");
        if let Err(error) = read {
            assert_eq!(error.kind(), crate::ErrorKind::DataInvalid);
            assert!(error.to_string().contains("memory://w/m.avro"), "{error}");
        }
    }
}

#[tokio::test]
async fn manifests_are_held_by_what_they_are_not_by_what_lists_say() {
    const MIB: usize = 1 << 20;
    let storage = Storage::new();
    let mut manifests = Vec::new();
    for n in 0..24 {
        let path = format!("memory://w/m{n}.avro");
        let bytes = padded(&n.to_string(), MIB, Compression::None);
        // Too little, nothing and less, and more than there is.
        let length = if n == 23 { i64::MAX } else { [1, 0, -1][n % 3] };
        storage.write(&path, bytes).await.unwrap();
        manifests.push(unlisted(path, length));
    }
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (counted, peak) = (now.clone(), most.clone());
    let mut read = ManifestReader::of_any_table(&storage).each(manifests, move |manifest| {
        let bytes = manifest.file().len();
        peak.fetch_max(counted.fetch_add(bytes, Ordering::SeqCst) + bytes, Ordering::SeqCst);
        let mut held = Held(Vec::new(), bytes, counted.clone());
        manifest.locations(|file| held.0.push(file.path))?;
        Ok(held)
    });
    let mut n = 0;
    while let Some(held) = read.next().await {
        assert_eq!(held.unwrap().0, [format!("memory://w/{n}")]);
        n += 1;
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    }
    assert_eq!((n, now.load(Ordering::SeqCst)), (24, 0));
    let most = most.load(Ordering::SeqCst);
    assert!(most < 3 * MIB, "{most} bytes");
}

#[tokio::test]
async fn a_block_that_is_much_larger_than_its_manifest_is_read_alone() {
    let storage = Storage::new();
    for compression in [Compression::Deflate(6), Compression::Zstandard(1), Compression::Snappy] {
        let bytes = padded("a", 6 << 20, compression);
        let path = "memory://w/m.avro".to_string();
        storage.write(&path, bytes.clone()).await.unwrap();
        let listed = unlisted(path, 1);
        let reader = ManifestReader::of_any_table(&storage);
        let paths = |manifest: &Manifest| {
            let mut paths = Vec::new();
            manifest.locations(|file| paths.push(file.path))?;
            Ok(paths)
        };
        let mut once = reader.each(vec![listed.clone(); 2], paths);
        while let Some(read) = once.next().await {
            assert_eq!(read.unwrap(), ["memory://w/a"], "{compression:?}");
        }
        let given = Arc::new(std::sync::Mutex::new(Vec::new()));
        let seen = given.clone();
        let bytes = Bytes::from(bytes);
        let loads = load_bounded(vec![listed.clone()], move |manifest, room| {
            seen.lock().unwrap().push(room == Room::MOST);
            let manifest = Manifest::of_types(bytes.clone(), TableTypes::default(), manifest, room);
            async move { paths(&manifest?) }
        });
        assert_eq!(loads.collect::<Vec<_>>().await.len(), 1);
        assert_eq!(*given.lock().unwrap(), [false, true], "{compression:?}");
    }
}
