//! Every kind of archive, in parallel, and again after a stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::future::BoxFuture;
use icefield_core::storage::Storage;
use icefield_core::{Clock, SystemClock};
use icefield_ingest::{Ingest, ManifestUse, Reason};

use crate::support::{Drop, PATTERN, batches, columns, gz, rows, set_aside, tar, tar_gz, zip, zst};

const A: (&str, &[u8]) = ("calendar_2024-06-22_1.csv", b"id,price\n1,10\n2,20\n");
const B: (&str, &[u8]) = ("calendar_2024-06-22_2.csv", b"id,price\n3,30\n");

#[tokio::test]
async fn every_kind_of_archive_gives_the_same_rows() {
    let kinds: Vec<(&str, Vec<u8>)> = vec![
        ("a.tar", tar(&[A, B])),
        ("a.tar.gz", tar_gz(&[A, B])),
        ("a.tgz", tar_gz(&[A, B])),
        ("a.tar.zst", zst(&tar(&[A, B]))),
        ("a.zip", zip(&[A, B])),
    ];
    for (name, bytes) in kinds {
        let drop = Drop::new();
        drop.put(name, bytes).await;
        let ingested = drop.ingest().await.unwrap();
        assert_eq!(rows(&ingested, "calendar").await, ["1|10", "2|20", "3|30"], "{name}");
        assert!(ingested.quarantine.is_empty(), "{name}");
        assert_eq!(ingested.report.table("calendar").unwrap().score(), 100, "{name}");
    }
}

#[tokio::test]
async fn gzip_comes_in_several_members_and_with_zeros_behind() {
    let drop = Drop::new();
    let halves = [gz(b"id,price\n1,10\n2"), gz(b",20\n")].concat();
    drop.put("calendar_2024-06-22_1.csv.gz", [halves.clone(), vec![0; 100_000]].concat()).await;
    drop.put("a.tar.gz", [tar_gz(&[B]), vec![0; 512]].concat()).await;
    drop.put("calendar_2024-06-22_3.csv.gz", [halves.clone(), vec![0; 10], b"x".to_vec()].concat()).await;
    drop.put("calendar_2024-06-22_4.csv.gz", [halves, vec![0x1f, 0x8b]].concat()).await;
    let ingested = drop.ingest().await.unwrap();
    assert_eq!(rows(&ingested, "calendar").await, ["3|30", "1|10", "2|20"]);
    let aside: Vec<_> = set_aside(&ingested).into_iter().map(|aside| (aside.1, aside.4)).collect();
    let expected = [("3", Reason::Truncated), ("4", Reason::Truncated)];
    assert_eq!(aside, expected.map(|(n, reason)| (format!("calendar_2024-06-22_{n}.csv.gz"), reason)));
}

#[tokio::test]
async fn plain_files_go_to_tables_by_name() {
    let drop = Drop::new();
    drop.put("2024/calendar_2024-06-22_1.csv", A.1).await;
    drop.put("2024/calendar_2024-06-22_2.csv.gz", gz(B.1)).await;
    drop.put("2024/events_2024-06-22_1.csv.zst", zst(b"id\n7\n")).await;
    let ingested = drop.ingest().source_column("_source").await.unwrap();
    let expected = [
        "1|10|calendar_2024-06-22_1.csv",
        "2|20|calendar_2024-06-22_1.csv",
        "3|30|calendar_2024-06-22_2.csv.gz",
    ];
    assert_eq!(rows(&ingested, "calendar").await, expected);
    assert_eq!(rows(&ingested, "events").await, ["7|events_2024-06-22_1.csv.zst"]);

    let one =
        Ingest::from_url("memory://drop/in/2024/calendar_2024-06-22_2.csv.gz").storage(drop.storage.clone());
    let ingested = one.clone().table("rates").await.unwrap();
    assert_eq!(rows(&ingested, "rates").await, ["3|30"]);
    let ingested = one.await.unwrap();
    assert_eq!(
        ingested.tables[0].name(),
        "calendar_2024-06-22_2",
        "without a pattern, the name less its suffix"
    );
}

#[tokio::test]
async fn json_lines_and_compressed_members_are_read_too() {
    let drop = Drop::new();
    let lines = b"{\"id\": 1, \"at\": \"2024-06-22T10:00:00Z\"}\n{\"id\": 2, \"tags\": [1, {\"a\": \"b\"}], \"code\": \"007\"}\n{\"id\": 3, \"code\": \"12\"}\n";
    drop.put(
        "a.tar.gz",
        tar_gz(&[("events_2024-06-22_1.jsonl", lines), ("calendar_2024-06-22_1.csv.gz", &gz(A.1))]),
    )
    .await;
    let ingested = drop.ingest().pattern("{table}_{date}_{batch}.jsonl").await.unwrap();
    assert_eq!(rows(&ingested, "calendar").await, ["1|10", "2|20"]);
    let expected = ["1|2024-06-22T10:00:00Z|-|-", "2|-|[1, {\"a\": \"b\"}]|007", "3|-|-|12"];
    assert_eq!(rows(&ingested, "events").await, expected);
    let events = ingested.table("events").unwrap();
    assert_eq!(events.schema().field(0).data_type().to_string(), "Int64");
    assert_eq!(
        events.schema().field(3).data_type().to_string(),
        "Utf8",
        "a JSON string of digits is a string"
    );
}

#[tokio::test]
async fn a_second_run_takes_up_what_was_staged_and_reads_what_changed() {
    let drop = Drop::new();
    drop.put("a.tar.gz", tar_gz(&[A])).await;
    drop.put("b.tar.gz", tar_gz(&[B])).await;
    let first = drop.ingest().await.unwrap();
    assert_eq!(first.report.archives_reused, 0);
    let batch_id = first.table("calendar").unwrap().batch_id().to_string();

    let second = drop.ingest().await.unwrap();
    assert_eq!(second.report.archives_reused, 2);
    assert_eq!(rows(&second, "calendar").await, rows(&first, "calendar").await);
    assert_eq!(second.table("calendar").unwrap().batch_id(), batch_id);
    assert_eq!(second.report.tables, first.report.tables);

    drop.put("b.tar.gz", tar_gz(&[("calendar_2024-06-22_2.csv", b"id,price\n3,30\n4,40\n")])).await;
    let third = drop.ingest().await.unwrap();
    assert_eq!(third.report.archives_reused, 1);
    assert_eq!(rows(&third, "calendar").await, ["1|10", "2|20", "3|30", "4|40"]);
    assert_ne!(third.table("calendar").unwrap().batch_id(), batch_id);

    third.discard().await.unwrap();
    let fourth = drop.ingest().await.unwrap();
    assert_eq!(fourth.report.archives_reused, 0);
}

#[tokio::test]
async fn other_types_are_other_parts() {
    let drop = Drop::new();
    drop.put("a.tar.gz", tar_gz(&[A])).await;
    drop.ingest().await.unwrap();
    let schema = arrow::datatypes::Schema::new(vec![arrow::datatypes::Field::new(
        "id",
        arrow::datatypes::DataType::Int32,
        true,
    )]);
    let ingested = drop.ingest().schema("calendar", schema.into()).await.unwrap();
    assert_eq!(ingested.report.archives_reused, 0);
    let types = columns(ingested.table("calendar").unwrap());
    assert_eq!(types, [("id".to_string(), "Int32".to_string()), ("price".to_string(), "Int64".to_string())]);
}

#[tokio::test]
async fn without_a_staging_folder_nothing_is_left_behind() {
    let drop = Drop::new();
    drop.put("a.tar.gz", tar_gz(&[A])).await;
    let ingest = Ingest::from_url("memory://drop/in").storage(drop.storage.clone()).pattern(PATTERN);
    let ingested = ingest.await.unwrap();
    let table = ingested.table("calendar").unwrap().clone();
    let part = table.parts()[0].location.clone();
    std::mem::drop(ingested);
    assert_eq!(batches(&table).await.len(), 1, "a table keeps what it needs");
    std::mem::drop(table);
    assert!(!std::path::Path::new(&part).exists());
}

#[tokio::test]
async fn what_the_manifest_says_is_held_against_what_came() {
    let manifest = br#"{"partner": "x", "archives": [
        {"name": "a.tar.gz", "files": 2, "rows": {"calendar": 2}},
        {"name": "b.tar.gz", "files": 1, "rows": {"calendar": 9}},
        {"name": "gone.tar.gz", "files": 1, "rows": {"calendar": 5, "listings": 4}}]}"#;
    let drop = Drop::new();
    drop.put("day/_manifest.json", &manifest[..]).await;
    drop.put("day/a.tar.gz", tar_gz(&[A])).await;
    drop.put("day/b.tar.gz", tar_gz(&[B])).await;
    drop.put("day/extra.tar.gz", tar_gz(&[("calendar_2024-06-22_9.csv", b"id,price\n9,90\n")])).await;
    drop.put("other/c.tar.gz", tar_gz(&[("calendar_2024-06-22_8.csv", b"id,price\n8,80\n")])).await;
    let ingested = drop.ingest().await.unwrap();
    let report = ingested.report.table("calendar").unwrap();
    assert_eq!((report.files_expected, report.files), (Some(4), 4));
    assert_eq!((report.rows_expected, report.rows), (Some(16), 5));
    let expected = [
        "archive a.tar.gz: 2 files promised, 1 received",
        "archive b.tar.gz: 9 rows promised, 1 received, 0 quarantined",
        "archive gone.tar.gz: the manifest promises it, and it is not there",
    ];
    assert_eq!(report.errors, expected);
    assert_eq!(ingested.report.archives_unlisted, ["memory://drop/in/day/extra.tar.gz"]);
    assert_eq!(ingested.report.table("listings").unwrap().score(), 0);
    assert_eq!(set_aside(&ingested)[0].4, Reason::Missing);

    let ingested = drop.ingest().manifest(ManifestUse::Required).await.unwrap();
    assert_eq!(ingested.report.incomplete_folders, ["memory://drop/in/other"]);
    assert_eq!(ingested.table("calendar").unwrap().rows(), 4);
    let ingested = drop.ingest().manifest(ManifestUse::Ignored).await.unwrap();
    assert_eq!(ingested.report.table("calendar").unwrap().rows_expected, None);
}

#[tokio::test]
async fn progress_ends_at_the_whole() {
    let drop = Drop::new();
    for i in 0..20 {
        drop.put(&format!("{i}.tar.gz"), tar_gz(&[A, B])).await;
    }
    let (calls, last) = (Arc::new(AtomicU64::new(0)), Arc::new(std::sync::Mutex::new(None)));
    let (calls_in, last_in) = (calls.clone(), last.clone());
    let ingest = drop.ingest().parallelism(3).progress(move |p| {
        calls_in.fetch_add(1, Ordering::Relaxed);
        *last_in.lock().unwrap() = Some(p.clone());
    });
    let ingested = ingest.await.unwrap();
    let last = last.lock().unwrap().clone().unwrap();
    assert_eq!((last.archives, last.archives_done, last.rows), (20, 20, 60));
    assert_eq!(last.bytes, last.bytes_done);
    assert_eq!(last.bytes_decompressed, ingested.report.bytes_decompressed);
    assert!(calls.load(Ordering::Relaxed) >= 20);
}

#[tokio::test]
async fn a_batch_is_known_by_where_its_archives_are_and_what_is_in_them() {
    let batch_id = async |name: &str, text: &str| {
        let drop = Drop::new();
        drop.put(name, text).await;
        drop.ingest().await.unwrap().table("calendar").unwrap().batch_id().to_string()
    };
    let first = batch_id("monday/calendar_2024-06-22_1.csv", "id,price\n1,10\n").await;
    assert_eq!(batch_id("monday/calendar_2024-06-22_1.csv", "id,price\n1,10\n").await, first);
    let corrected = batch_id("monday/calendar_2024-06-22_1.csv", "id,price\n1,20\n").await;
    assert_ne!(corrected, first, "as many bytes and rows, and others");
    let next_day = batch_id("tuesday/calendar_2024-06-22_1.csv", "id,price\n1,10\n").await;
    assert_ne!(next_day, first, "the same again, on another day");
}

/// A clock whose ids a test knows before.
#[derive(Debug)]
struct Known(u64);

impl Clock for Known {
    fn now_ms(&self) -> i64 {
        SystemClock.now_ms()
    }

    fn random(&self) -> u64 {
        self.0
    }

    fn sleep(&self, duration: std::time::Duration) -> BoxFuture<'static, ()> {
        SystemClock.sleep(duration)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_dropped_takes_its_temporary_folder_along() {
    let storage = Storage::new();
    let text = format!("id,price\n{}", "1,10\n".repeat(10_000));
    let names: Vec<String> = (0..100).map(|i| format!("calendar_2024-06-22_{i}.csv")).collect();
    let members: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), text.as_bytes())).collect();
    storage.write("memory://drop/in/a.tar.gz", tar_gz(&members)).await.unwrap();
    let clock = Arc::new(Known(SystemClock.random()));
    let folder = std::env::temp_dir().join(format!("icefield-ingest-{}", clock.uuid().simple()));
    let ingest = Ingest::from_url("memory://drop/in").storage(storage).clock(clock).pattern(PATTERN);
    let run = tokio::spawn(ingest.into_future());
    let parts = |folder: &std::path::Path| {
        let below = std::fs::read_dir(folder).into_iter().flatten().flatten();
        below.filter(|entry| entry.path().is_dir()).count()
    };
    while parts(&folder) == 0 {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    run.abort();
    assert!(run.await.unwrap_err().is_cancelled());
    // The thread is still at it; then it ends, and leaves nothing.
    let mut waits = 0;
    while folder.exists() && waits < 600 {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        waits += 1;
    }
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    assert!(!folder.exists(), "{}", folder.display());
}
