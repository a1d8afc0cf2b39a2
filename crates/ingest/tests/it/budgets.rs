//! Each limit on an archive and on a run: what passes it is set aside with a reason that names it, and all else arrives.

use std::ops::Range;
use std::sync::Arc;

use futures::stream::BoxStream;
use icefield_core::storage::Storage;
use icefield_ingest::{Ingest, Ingested, Level, Limits};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult,
};

use crate::support::{Drop, PATTERN, gz, rows, tar, tar_gz, zip};

const GOOD: (&str, &[u8]) = ("calendar_2024-06-22_0.csv", b"id,price\n1,10\n2,20\n");

fn set(change: impl FnOnce(&mut Limits)) -> Limits {
    let mut limits = Limits::default();
    change(&mut limits);
    limits
}

fn files(n: usize, table: &str) -> Vec<(String, Vec<u8>)> {
    (1..=n)
        .map(|i| (format!("{table}_2024-06-22_{i}.csv"), format!("id,price\n{i},7\n").into_bytes()))
        .collect()
}

fn named(files: &[(String, Vec<u8>)]) -> Vec<(&str, &[u8])> {
    files.iter().map(|(name, bytes)| (name.as_str(), &bytes[..])).collect()
}

/// The reasons of archives that were set aside, with their details.
fn archives(ingested: &Ingested) -> Vec<(String, &'static str, String)> {
    let items = ingested.quarantine.items().iter().filter(|item| item.level == Level::Archive);
    let name = |location: &str| location.rsplit('/').next().unwrap().to_string();
    items.map(|item| (name(&item.archive), item.reason.as_str(), item.detail.clone())).collect()
}

#[tokio::test]
async fn limits_of_an_archive_set_it_aside_alone() {
    let many = files(40, "calendar");
    let long: Vec<(String, Vec<u8>)> = many
        .iter()
        .map(|(name, bytes)| (name.clone(), [&bytes[..], &b"8,9\n".repeat(500)].concat()))
        .collect();
    let wide: Vec<(String, Vec<u8>)> = (1..=40)
        .map(|i| (format!("calendar_2024-06-22_{i}.csv"), format!("a{i},b{i}\n1,2\n").into_bytes()))
        .collect();
    let tables: Vec<(String, Vec<u8>)> = (1..=9).flat_map(|i| files(1, &format!("t{i}"))).collect();
    type Case<'a> = (&'a str, &'a [(String, Vec<u8>)], Limits, &'a str, &'a str);
    let cases: Vec<Case<'_>> = vec![
        ("bytes", &long, set(|l| l.archive_bytes = 10_000), "too many bytes", "archive_bytes is 10000"),
        ("files", &many, set(|l| l.archive_files = 39), "too many files", "archive_files is 39"),
        ("members", &many, set(|l| l.members = 39), "too many members", "members is 39"),
        ("tables", &tables, set(|l| l.archive_tables = 8), "too many tables", "archive_tables is 8"),
        (
            "headers",
            &wide,
            set(|l| l.archive_known_bytes = 20_000),
            "too many files",
            "archive_known_bytes is 20000",
        ),
    ];
    for (name, members, limits, reason, limit) in cases {
        let drop = Drop::new();
        drop.put("a.tar", tar(&named(members))).await;
        drop.put("b.zip", zip(&named(members))).await;
        drop.put("z.tar.gz", tar_gz(&[GOOD])).await;
        let ingested = drop.ingest().limits(limits).await.unwrap();
        let aside = archives(&ingested);
        assert_eq!(
            aside.iter().map(|a| (a.0.as_str(), a.1)).collect::<Vec<_>>(),
            [("a.tar", reason), ("b.zip", reason)],
            "{name}: {aside:?}"
        );
        assert!(aside.iter().all(|a| a.2.ends_with(limit)), "{name}: {aside:?}");
        assert_eq!(rows(&ingested, "calendar").await, ["1|10", "2|20"], "{name}");
        assert_eq!(ingested.tables.len(), 1, "{name}");
    }
}

#[tokio::test]
async fn limits_of_a_run_fault_no_archive_and_the_next_run_goes_on() {
    let cases: Vec<(&str, Limits, &str)> = vec![
        ("bytes", set(|l| l.run_bytes = 12_000), "run_bytes is 12000"),
        ("members", set(|l| l.run_members = 9), "run_members is 9"),
    ];
    for (name, limits, limit) in cases {
        let drop = Drop::new();
        for archive in 0..4 {
            drop.put(&format!("{archive}.tar.gz"), tar_gz(&named(&files(4, "calendar")))).await;
        }
        let mut taken = Vec::new();
        for _ in 0..4 {
            let ingested = drop.ingest().parallelism(1).limits(limits.clone()).await.unwrap();
            let aside = archives(&ingested);
            assert!(
                aside.iter().all(|a| a.1 == "limit of the run" && a.2.ends_with(limit)),
                "{name}: {aside:?}"
            );
            taken.push(ingested.report.archives_taken);
            assert_eq!(
                ingested.tables.first().map_or(0, |t| t.rows()),
                ingested.report.archives_taken * 4,
                "{name}"
            );
        }
        assert!(taken[0] < 4, "{name}: {taken:?}");
        assert_eq!(taken[3], 4, "{name}: {taken:?}");
    }
}

#[tokio::test]
async fn what_a_run_knows_of_files_is_bounded() {
    let cases: Vec<(Limits, &str)> = vec![
        (set(|l| l.run_files = 9), "run_files is 9"),
        (set(|l| l.run_known_bytes = 10_000), "run_known_bytes is 10000"),
    ];
    for (limits, limit) in cases {
        let drop = Drop::new();
        for archive in 0..4 {
            drop.put(&format!("{archive}.tar.gz"), tar_gz(&named(&files(4, "calendar")))).await;
        }
        for run in ["read", "taken up"] {
            let ingested = drop.ingest().parallelism(1).limits(limits.clone()).await.unwrap();
            let aside = archives(&ingested);
            assert!(!aside.is_empty() && aside.len() < 4, "{run}: {aside:?}");
            assert!(
                aside.iter().all(|a| a.1 == "limit of the run" && a.2.ends_with(limit)),
                "{run}: {aside:?}"
            );
            assert_eq!(ingested.table("calendar").unwrap().rows(), (4 - aside.len() as u64) * 4, "{run}");
        }
    }
}

#[tokio::test]
async fn one_archive_does_not_push_out_the_tables_of_all_others() {
    let drop = Drop::new();
    for hostile in 0..3 {
        let members: Vec<_> = (0..8).flat_map(|i| files(1, &format!("evil{hostile}_{i}"))).collect();
        drop.put(&format!("a{hostile}.tar.gz"), tar_gz(&named(&members))).await;
    }
    drop.put("y.tar.gz", tar_gz(&[GOOD])).await;
    drop.put("z.tar.gz", tar_gz(&[("calendar_2024-06-22_1.csv", b"id,price\n3,30\n")])).await;
    drop.put("rates_2024-06-22_1.csv", "id\n1\n").await;
    let schema = arrow::datatypes::Schema::new(vec![arrow::datatypes::Field::new(
        "id",
        arrow::datatypes::DataType::Int64,
        true,
    )]);
    let limits = set(|l| l.tables = 5);
    let ingested = drop.ingest().schema("rates", schema.into()).limits(limits).await.unwrap();
    let names: Vec<_> = ingested.tables.iter().map(|t| t.name()).collect();
    assert_eq!(names, ["calendar", "evil0_0", "evil0_1", "evil0_2", "rates"]);
    assert_eq!(rows(&ingested, "calendar").await, ["1|10", "2|20", "3|30"]);
    assert_eq!(ingested.quarantine.count(Level::Member), 21);
    assert!(
        ingested
            .quarantine
            .items()
            .iter()
            .all(|q| q.reason.as_str() == "too many tables" && q.detail.ends_with("the limit tables is 5"))
    );
    assert_eq!(ingested.report.tables.len(), 5);
    assert_eq!(ingested.report.errors.len() as u64 + ingested.report.errors_more, 21);
}

#[tokio::test]
async fn tables_are_those_that_the_caller_lists() {
    let drop = Drop::new();
    let members: [(&str, &[u8]); 3] =
        [GOOD, ("été_2024-06-22_1.csv", b"id\n5\n"), ("passwd_2024-06-22_1.csv", b"id\n6\n")];
    drop.put("a.tar.gz", tar_gz(&members)).await;
    let ingested = drop.ingest().tables(["calendar", "été"]).await.unwrap();
    let names: Vec<_> = ingested.tables.iter().map(|t| t.name()).collect();
    assert_eq!(names, ["calendar", "été"]);
    let [item] = ingested.quarantine.items() else { panic!("{:?}", ingested.quarantine.items()) };
    assert_eq!(
        (item.reason.as_str(), item.member.as_deref()),
        ("table name", Some("passwd_2024-06-22_1.csv"))
    );
}

#[tokio::test]
async fn what_is_listed_of_bad_rows_is_bounded_in_bytes() {
    let drop = Drop::new();
    let row = "x".repeat(10_000);
    let text = format!("id,price\n1,10\n{}", format!("{row}\n").repeat(90));
    for archive in 0..6 {
        let name = format!("calendar_2024-06-22_{archive}.csv");
        drop.put(&format!("{archive}.tar.gz"), tar_gz(&[(&name, text.as_bytes())])).await;
    }
    let limits = set(|l| (l.archive_listed_bytes, l.listed_bytes) = (100_000, 250_000));
    let ingested = drop.ingest().limits(limits).await.unwrap();
    assert_eq!(ingested.quarantine.count(Level::Row), 540);
    let listed = ingested.quarantine.items();
    let bytes: usize = listed.iter().filter_map(|q| q.raw.as_ref()).map(String::len).sum();
    assert!((200_000..250_000).contains(&bytes), "{bytes}");
    assert_eq!(ingested.table("calendar").unwrap().rows(), 6);
}

#[tokio::test]
async fn a_manifest_of_too_many_names_is_no_manifest() {
    let drop = Drop::new();
    drop.put("good.tar.gz", tar_gz(&[GOOD])).await;
    let names: Vec<String> = (0..30).map(|i| format!(r#"{{"name": "{i}.tar.gz"}}"#)).collect();
    drop.put("_manifest.json", format!(r#"{{"archives": [{}]}}"#, names.join(","))).await;
    let ingested = drop.ingest().limits(set(|l| l.manifest_names = 29)).await.unwrap();
    assert_eq!(rows(&ingested, "calendar").await, ["1|10", "2|20"]);
    assert!(ingested.quarantine.is_empty());
    assert!(
        ingested.report.errors[0].contains("the limit manifest_names is 29"),
        "{:?}",
        ingested.report.errors
    );
}

#[tokio::test]
async fn keys_of_one_line_are_not_held_beyond_the_columns() {
    let drop = Drop::new();
    let line = format!("{{{}}}\n", vec!["\"a\":1"; 5_000].join(","));
    drop.put("events_2024-06-22_1.jsonl", format!("{line}{{\"a\": 1}}\n")).await;
    let ingested = drop.ingest().pattern("{table}_{date}_{batch}.jsonl").await.unwrap();
    assert_eq!(rows(&ingested, "events").await, ["1"]);
    let item = &ingested.quarantine.items()[0];
    assert_eq!(
        (item.reason.as_str(), item.detail.as_str()),
        ("too many fields", "keys of the line: the limit columns is 4096")
    );
}

#[tokio::test]
async fn bad_rows_of_one_byte_cost_what_they_cost() {
    let drop = Drop::new();
    let text = format!("id,price\n{}", "x\n".repeat(60_000));
    drop.put("a.tar.gz", tar_gz(&[("calendar_2024-06-22_1.csv", text.as_bytes())])).await;
    drop.put("good.tar.gz", tar_gz(&[GOOD])).await;
    let ingested = drop.ingest().limits(set(|l| l.ratio_floor_bytes = 1 << 20)).await.unwrap();
    let aside = archives(&ingested);
    assert_eq!(
        (aside[0].1, aside[0].2.as_str()),
        ("ratio exceeded", "fields for each compressed byte: the limit field_ratio is 400")
    );
    assert_eq!(rows(&ingested, "calendar").await, ["1|10", "2|20"]);
}

/// A store whose reads of one file panic.
#[derive(Debug)]
struct Panics(InMemory);

impl std::fmt::Display for Panics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Panics")
    }
}

#[async_trait::async_trait]
impl ObjectStore for Panics {
    async fn put_opts(
        &self,
        at: &Path,
        payload: PutPayload,
        o: PutOptions,
    ) -> object_store::Result<PutResult> {
        self.0.put_opts(at, payload, o).await
    }

    async fn put_multipart_opts(
        &self,
        at: &Path,
        o: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.0.put_multipart_opts(at, o).await
    }

    async fn get_opts(&self, at: &Path, o: GetOptions) -> object_store::Result<GetResult> {
        assert!(!at.as_ref().ends_with("evil.zip") || o.head, "reading it panics");
        self.0.get_opts(at, o).await
    }

    async fn get_ranges(&self, at: &Path, ranges: &[Range<u64>]) -> object_store::Result<Vec<bytes::Bytes>> {
        self.0.get_ranges(at, ranges).await
    }

    fn delete_stream(
        &self,
        at: BoxStream<'static, object_store::Result<Path>>,
    ) -> BoxStream<'static, object_store::Result<Path>> {
        self.0.delete_stream(at)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.0.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        self.0.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, o: CopyOptions) -> object_store::Result<()> {
        self.0.copy_opts(from, to, o).await
    }
}

#[tokio::test]
async fn a_panic_over_one_archive_is_that_archives_fault() {
    let storage = Storage::new().with_store("memory://drop", Arc::new(Panics(InMemory::new()))).unwrap();
    for (name, bytes) in [("evil.zip", zip(&[GOOD])), ("good.tar.gz", tar_gz(&[GOOD]))] {
        storage.write(&format!("memory://drop/in/{name}"), bytes).await.unwrap();
    }
    for run in ["read", "taken up"] {
        let ingest =
            Ingest::from_url("memory://drop/in").storage(storage.clone()).staging("memory://drop/staged");
        let ingested = ingest.pattern(PATTERN).await.unwrap();
        let aside = archives(&ingested);
        assert_eq!(aside.len(), 1, "{run}: {aside:?}");
        assert_eq!((aside[0].0.as_str(), aside[0].1), ("evil.zip", "corrupt"), "{run}");
        assert_eq!(rows(&ingested, "calendar").await, ["1|10", "2|20"], "{run}");
        assert_eq!(ingested.report.archives_reused, if run == "read" { 0 } else { 2 });
    }
}

#[tokio::test]
async fn many_small_files_that_are_honest_are_taken() {
    let drop = Drop::new();
    let file = |i: u64| {
        let (listing, price) = (i * 7_919 % 1_000_003, i * 104_729 % 997);
        let text = format!("id,price,when\n{listing},{price},2024-06-{:02}\n", i % 28 + 1);
        (format!("calendar_2024-06-22_{i:05}.csv"), text.into_bytes())
    };
    let files: Vec<(String, Vec<u8>)> = (0..400).map(file).collect();
    drop.put("a.tar.gz", tar_gz(&named(&files))).await;
    // A floor that so many files pass, as 15,000 would pass that of the defaults.
    let ingested = drop.ingest().limits(set(|l| l.ratio_floor_bytes = 1 << 20)).await.unwrap();
    assert!(ingested.quarantine.is_empty(), "{:?}", archives(&ingested));
    assert_eq!(ingested.table("calendar").unwrap().rows(), 400);
}

#[tokio::test]
async fn gzip_members_of_nothing_cost_what_they_cost() {
    let members = gz(b"").repeat(20_000);
    let drop = Drop::new();
    drop.put("a.tar.gz", tar_gz(&[("calendar_2024-06-22_1.csv.gz", &members)])).await;
    drop.put("good.tar.gz", tar_gz(&[GOOD])).await;
    let ingested = drop.ingest().limits(set(|l| l.ratio_floor_bytes = 1 << 20)).await.unwrap();
    let aside = archives(&ingested);
    assert_eq!(
        (aside[0].1, aside[0].2.as_str()),
        ("ratio exceeded", "fields for each compressed byte: the limit field_ratio is 400")
    );
    assert_eq!(rows(&ingested, "calendar").await, ["1|10", "2|20"]);
}

#[tokio::test]
async fn gzip_members_of_a_line_each_are_taken() {
    let line = |i: u64| gz(format!("{},{}\n", i * 7_919 % 1_000_003, i * 104_729 % 997).as_bytes());
    let lines: Vec<u8> = (0..8_000).flat_map(line).collect();
    let drop = Drop::new();
    drop.put("calendar_2024-06-22_1.csv.gz", [gz(b"id,price\n"), lines].concat()).await;
    let ingested = drop.ingest().limits(set(|l| l.ratio_floor_bytes = 1 << 20)).await.unwrap();
    assert!(ingested.quarantine.is_empty(), "{:?}", archives(&ingested));
    assert_eq!(ingested.table("calendar").unwrap().rows(), 8_000);
}

#[tokio::test]
async fn lines_that_bring_a_key_each_make_no_part_each() {
    let drop = Drop::new();
    let text: String = (0..2_000).map(|key| format!("{{\"k{key}\":{key}}}\n")).collect();
    drop.put("events_2024-06-22_1.jsonl", text).await;
    let ingested = drop.ingest().pattern("{table}_{date}_{batch}.jsonl").await.unwrap();
    let events = ingested.table("events").unwrap();
    assert_eq!((events.rows(), events.schema().fields().len()), (2_000, 2_000));
    assert!(events.parts().len() < 40, "{} parts", events.parts().len());
    let nulls: Vec<u64> = ingested.report.tables[0].columns.iter().map(|column| column.nulls).collect();
    assert!(nulls.iter().all(|nulls| *nulls == 1_999), "{nulls:?}");
}

/// A frame of one block of `7`s that asks for a window of a power of two bytes (RFC 8878, 3.1.1.1.2).
fn zstd_frame(window_log: u8) -> Vec<u8> {
    let mut frame = vec![0x28, 0xB5, 0x2F, 0xFD, 0, (window_log - 10) << 3];
    let text = b"id,price\n1,10\n2,20\n";
    frame.extend_from_slice(&((text.len() as u32) << 3 | 1).to_le_bytes()[..3]);
    frame.extend_from_slice(text);
    frame
}

#[tokio::test]
async fn a_zstd_window_is_at_most_the_documented_one() {
    let name = format!("{}.zst", GOOD.0);
    for (window_log, is_taken) in [(10, true), (27, true), (28, false), (30, false), (41, false)] {
        let drop = Drop::new();
        let frame = zstd_frame(window_log);
        // Alone, and within another archive.
        drop.put(&name, frame.clone()).await;
        drop.put("x.tar.gz", tar_gz(&[(&name, &frame), ("calendar_2024-06-22_1.csv", b"id,price\n3,30\n")]))
            .await;
        let ingested = drop.ingest().await.unwrap();
        let taken = if is_taken { vec!["1|10", "2|20", "1|10", "2|20", "3|30"] } else { vec!["3|30"] };
        assert_eq!(rows(&ingested, "calendar").await, taken, "{window_log}");
        let reasons: Vec<_> =
            ingested.quarantine.items().iter().map(|q| (q.level, q.reason.as_str())).collect();
        let expected = [(Level::Archive, "corrupt"), (Level::Member, "corrupt")];
        assert_eq!(reasons, if is_taken { vec![] } else { expected.to_vec() }, "{window_log}");
    }
}
