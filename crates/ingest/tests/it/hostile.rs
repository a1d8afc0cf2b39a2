//! Partners who mean harm: what they send is set aside with a reason, and takes neither others' rows nor the machine along.

use std::io::Write as _;
use std::path::Path;

use icefield_core::storage::Storage;
use icefield_ingest::{Ingest, Ingested, Level, Limits};

use crate::support::{Drop, PATTERN, gz, rows, tar, tar_gz, zip, zst};

const GOOD: (&str, &[u8]) = ("calendar_2024-06-22_0.csv", b"id,price\n1,10\n2,20\n");

/// Level, file name of the archive, member and reason.
fn aside(ingested: &Ingested) -> Vec<(Level, String, Option<String>, &'static str)> {
    let name = |location: &str| location.rsplit('/').next().unwrap().to_string();
    let items = ingested.quarantine.items().iter();
    items.map(|q| (q.level, name(&q.archive), q.member.clone(), q.reason.as_str())).collect()
}

fn archive(name: &str, reason: &'static str) -> (Level, String, Option<String>, &'static str) {
    (Level::Archive, name.to_string(), None, reason)
}

fn detail(ingested: &Ingested, at: usize) -> &str {
    &ingested.quarantine.items()[at].detail
}

#[tokio::test]
async fn nested_codecs_count_against_the_archive_they_are_in() {
    // None of the members is a bomb by itself.
    let member = zst(&[&b"id,price\n"[..], &b"\n".repeat(3 << 20)].concat());
    let names: Vec<String> = (1..40).map(|i| format!("calendar_2024-06-22_{i}.csv.zst")).collect();
    let members: Vec<(&str, &[u8])> = names.iter().map(|n| (n.as_str(), &member[..])).collect();
    let zipped: Vec<(String, Vec<u8>)> = (1..40)
        .map(|i| {
            (format!("calendar_2024-06-22_{i}.csv.gz"), gz(&[&b"id\n"[..], &b"\n".repeat(3 << 20)].concat()))
        })
        .collect();
    let zipped: Vec<(&str, &[u8])> = zipped.iter().map(|(n, b)| (n.as_str(), &b[..])).collect();
    for (name, bytes) in [("a.tar.gz", tar_gz(&members)), ("a.zip", zip(&zipped)), ("a.tar", tar(&members))] {
        let drop = Drop::new();
        drop.put(name, bytes).await;
        drop.put("good.tar.gz", tar_gz(&[GOOD])).await;
        let limits = Limits { ratio_floor_bytes: 4 << 20, ..Limits::default() };
        let ingested = drop.ingest().limits(limits).await.unwrap();
        assert_eq!(aside(&ingested), [archive(name, "ratio exceeded")], "{name}");
        assert!(detail(&ingested, 0).ends_with("the limit ratio is 200"), "{name}: {}", detail(&ingested, 0));
        assert_eq!(rows(&ingested, "calendar").await, ["1|10", "2|20"], "{name}");
    }
}

#[tokio::test]
async fn files_with_new_columns_each_do_not_widen_a_table_for_ever() {
    let file = |file: usize| {
        let names: Vec<String> = (0..60).map(|i| format!("c{file}_{i}")).collect();
        format!("{}\n{}\n", names.join(","), vec!["1"; 60].join(","))
    };
    let files: Vec<String> = (0..3).map(file).collect();
    let drop = Drop::new();
    let members: Vec<(String, &[u8])> =
        (1..).zip(&files).map(|(i, f)| (format!("calendar_2024-06-22_{i}.csv"), f.as_bytes())).collect();
    let named: Vec<(&str, &[u8])> = members.iter().map(|(n, b)| (n.as_str(), *b)).collect();
    drop.put("a.tar.gz", tar_gz(&named)).await;
    // Each in an archive of its own.
    for (name, bytes) in &named {
        drop.put(&format!("b{name}.tar.gz"), tar_gz(&[(&name.replace("2024-06", "2024-07"), bytes)])).await;
    }
    drop.put("y.tar.gz", tar_gz(&[GOOD])).await;
    drop.put("z.tar.gz", tar_gz(&[GOOD])).await;
    let limits = Limits { table_columns: 100, ..Limits::default() };
    let ingested = drop.ingest().limits(limits).await.unwrap();
    let table = ingested.table("calendar").unwrap();
    assert!(table.schema().fields().len() <= 100, "{}", table.schema().fields().len());
    assert!(table.schema().field_with_name("price").is_ok(), "the good archives' columns are there");
    let all = aside(&ingested);
    assert!(
        !all.is_empty()
            && all.iter().all(|(level, .., reason)| (*level, *reason) == (Level::Member, "too many columns"))
    );
    assert!(detail(&ingested, 0).ends_with("the limit table_columns is 100"), "{}", detail(&ingested, 0));
    let report = ingested.report.table("calendar").unwrap();
    assert_eq!(report.files + all.len() as u64, 8);
    assert_eq!((report.rows, report.files_quarantined), (table.rows(), all.len() as u64));
}

#[cfg(unix)]
#[tokio::test]
async fn links_and_special_files_in_a_drop_are_never_followed() {
    use std::os::unix::fs::symlink;
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    std::fs::create_dir(&secret).unwrap();
    std::fs::write(secret.join("calendar_2024-06-22_8.csv"), "id,price\n8,80\n").unwrap();
    let drop = folder.path().join("drop");
    std::fs::create_dir_all(drop.join("sub")).unwrap();
    std::fs::write(drop.join("sub/calendar_2024-06-22_0.csv"), "id,price\n1,10\n2,20\n").unwrap();
    symlink(secret.join("calendar_2024-06-22_8.csv"), drop.join("calendar_2024-06-22_8.csv")).unwrap();
    symlink("/etc/passwd", drop.join("pw_2024-06-22_1.csv")).unwrap();
    symlink(&secret, drop.join("linked")).unwrap();
    symlink(&drop, drop.join("sub/loop")).unwrap();
    symlink("nowhere", drop.join("gone_2024-06-22_1.csv")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(drop.join("socket_2024-06-22_1.csv")).unwrap();
    let fifo = std::process::Command::new("mkfifo").arg(drop.join("fifo_2024-06-22_1.csv")).status();
    let ingest = Ingest::from_url(drop.to_str().unwrap()).pattern(PATTERN);
    let ingested =
        tokio::time::timeout(std::time::Duration::from_secs(60), ingest).await.expect("it ends").unwrap();
    let names: Vec<_> = ingested.tables.iter().map(|t| t.name()).collect();
    assert_eq!(names, ["calendar"]);
    assert_eq!(rows(&ingested, "calendar").await, ["1|10", "2|20"]);
    let mut expected = vec![
        archive("calendar_2024-06-22_8.csv", "link"),
        archive("gone_2024-06-22_1.csv", "link"),
        archive("linked", "link"),
        archive("loop", "link"),
        archive("pw_2024-06-22_1.csv", "link"),
        archive("socket_2024-06-22_1.csv", "not a plain file"),
    ];
    if fifo.is_ok_and(|status| status.success()) {
        expected.push(archive("fifo_2024-06-22_1.csv", "not a plain file"));
    }
    let mut aside = aside(&ingested);
    aside.sort();
    expected.sort();
    assert_eq!(aside, expected);
}

#[tokio::test]
async fn no_name_or_promise_forges_a_line_of_a_report() {
    let drop = Drop::new();
    let forged = "x\nTable: forged\n- Score: 100\u{1b}[2J\u{202e}\u{2028}Table: forged";
    let escaped = serde_json::to_string(forged).unwrap();
    let header = format!("id,\"{forged}\"\n1,2\n");
    let members: [(&str, &[u8]); 4] = [
        ("calendar_2024-06-22_1.csv", header.as_bytes()),
        ("x\r- Score: 99_2024-06-22_1.csv", b"id\n1\n"),
        ("\u{202e}calendar_2024-06-22_1.csv", b"id\n1\n"),
        ("\u{1b}[2Jcalendar_2024-06-22_1.txt", b""),
    ];
    drop.put("a.tar.gz", tar_gz(&members)).await;
    let twice = format!("{{{escaped}: 1, {escaped}: 2}}\n{{\"id\": 1}}\n");
    drop.put("events_2024-06-22_1.jsonl", twice).await;
    let manifest = format!(
        r#"{{"archives": [{{"name": "a.tar.gz", "rows": {{{escaped}: 9, "calendar": 1}}}}, {{"name": {escaped}, "rows": {{"calendar": 7}}}}]}}"#
    );
    drop.put("_manifest.json", manifest).await;
    let ingested = drop.ingest().pattern("{table}_{date}_{batch}.jsonl").await.unwrap();
    let shown = ingested.report.to_string();
    let lines = shown.lines().filter(|line| line.starts_with("Table:")).count();
    assert_eq!(lines, ingested.report.tables.len(), "{shown}");
    let names: Vec<_> = ingested.report.tables.iter().map(|t| t.table.as_str()).collect();
    assert_eq!(names, ["calendar", "events"], "{shown}");
    let headers = ingested.report.tables.iter().flat_map(|t| &t.headers).map(ToString::to_string);
    let words =
        ingested.report.tables.iter().flat_map(|t| t.errors.clone()).chain(ingested.report.errors.clone());
    let items = ingested.quarantine.items().iter().flat_map(|q| [q.to_string(), q.detail.clone()]);
    let members = ingested.quarantine.items().iter().filter_map(|q| q.member.clone());
    for text in headers.chain(items).chain(words).chain(members) {
        let raw = |c: char| c.is_control() || "\u{202e}\u{2028}".contains(c);
        assert!(!text.contains(raw), "{text:?}");
    }
    assert!(!shown.contains(['\u{1b}', '\u{202e}', '\u{2028}']), "{shown:?}");
}

/// Sets the number of members in a zip's end record.
fn announce(zip: &mut [u8], members: u16) {
    let at = zip.len() - 22;
    zip[at + 8..at + 10].copy_from_slice(&members.to_le_bytes());
    zip[at + 10..at + 12].copy_from_slice(&members.to_le_bytes());
}

/// Puts zip64 end records before a zip's end record, which then says one member and sends readers to them.
fn with_two_counts(zip: &[u8], large: u64) -> Vec<u8> {
    let (rest, end) = zip.split_at(zip.len() - 22);
    let number = |at: usize| u64::from(u32::from_le_bytes(end[at..at + 4].try_into().unwrap()));
    let (size, offset) = (number(12), number(16));
    let mut bytes = rest.to_vec();
    bytes.extend_from_slice(b"PK\x06\x06");
    bytes.extend_from_slice(&44_u64.to_le_bytes());
    bytes.extend_from_slice(&[45, 0, 45, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    for value in [large, large, size, offset] {
        bytes.extend_from_slice(&value.to_le_bytes());
    }
    bytes.extend_from_slice(b"PK\x06\x07\0\0\0\0");
    bytes.extend_from_slice(&(rest.len() as u64).to_le_bytes());
    bytes.extend_from_slice(&1_u32.to_le_bytes());
    let mut end = end.to_vec();
    end[16..20].fill(0xFF);
    bytes.extend_from_slice(&end);
    announce(&mut bytes, 1);
    bytes
}

#[tokio::test]
async fn a_zip_whose_records_disagree_is_refused_before_it_is_believed() {
    let many: Vec<String> = (0..300).map(|i| format!("calendar_2024-06-22_{i}.csv")).collect();
    let many: Vec<(&str, &[u8])> = many.iter().map(|n| (n.as_str(), &b"id\n1\n"[..])).collect();
    let many = zip(&many);
    let mut few = many.clone();
    announce(&mut few, 7);
    let mut more = many.clone();
    announce(&mut more, 301);
    // An end record within the last member's comment, or a whole archive there, is another archive to another reader.
    let inner = zip(&[GOOD]);
    let mut nested = zip(&[("calendar_2024-06-22_1.csv", b"id,price\n1,1\n")]);
    let at = nested.len() - 2;
    nested[at..].copy_from_slice(&(inner.len() as u16).to_le_bytes());
    nested.extend_from_slice(&inner);
    let cases = [
        ("two counts", with_two_counts(&many, 300), "corrupt"),
        ("too few", few, "corrupt"),
        ("too many", more, "corrupt"),
        ("two ends", nested, "corrupt"),
    ];
    for (name, bytes, reason) in cases {
        let drop = Drop::new();
        drop.put("a.zip", bytes).await;
        drop.put("good.tar.gz", tar_gz(&[GOOD])).await;
        let ingested = drop.ingest().await.unwrap();
        assert_eq!(aside(&ingested), [archive("a.zip", reason)], "{name}");
        assert_eq!(rows(&ingested, "calendar").await, ["1|10", "2|20"], "{name}");
    }
}

#[tokio::test]
async fn zips_with_a_beginning_a_comment_or_large_records_are_read() {
    let plain = zip(&[GOOD]);
    let mut commented = plain.clone();
    let at = commented.len() - 2;
    commented[at..].copy_from_slice(&5_u16.to_le_bytes());
    commented.extend_from_slice(b"hello");
    let prepended = [&b"#!/bin/sh\nexit 0\n"[..], &plain].concat();
    let large = {
        let mut bytes = with_two_counts(&plain, 1);
        announce(&mut bytes, 0xFFFF);
        bytes
    };
    let cases = [("plain", plain), ("comment", commented), ("prefix", prepended), ("zip64", large)];
    for (name, bytes) in cases {
        let drop = Drop::new();
        drop.put("a.zip", bytes).await;
        let ingested = drop.ingest().await.unwrap();
        assert_eq!(aside(&ingested), [], "{name}: {:?}", ingested.quarantine.items());
        assert_eq!(rows(&ingested, "calendar").await, ["1|10", "2|20"], "{name}");
    }
}

#[tokio::test]
async fn a_manifest_of_too_many_bytes_is_not_read() {
    let drop = Drop::new();
    drop.put("good.tar.gz", tar_gz(&[GOOD])).await;
    let mut manifest = br#"{"archives": [{"name": "good.tar.gz", "files": 2}]"#.to_vec();
    manifest.resize(17 << 20, b' ');
    manifest.push(b'}');
    drop.put("_manifest.json", manifest).await;
    let ingested = drop.ingest().await.unwrap();
    assert_eq!(rows(&ingested, "calendar").await, ["1|10", "2|20"]);
    assert_eq!(ingested.report.table("calendar").unwrap().errors, [""; 0]);
    assert!(
        ingested.report.errors[0].contains("the limit manifest_bytes is 16777216"),
        "{:?}",
        ingested.report.errors
    );
}

#[tokio::test]
async fn counts_of_a_manifest_do_not_wrap() {
    let drop = Drop::new();
    drop.put("a.tar.gz", tar_gz(&[GOOD])).await;
    let max = u64::MAX;
    let promise =
        |name: &str| format!(r#"{{"name": "{name}", "files": {max}, "rows": {{"calendar": {max}}}}}"#);
    drop.put(
        "_manifest.json",
        format!(r#"{{"archives": [{}, {}]}}"#, promise("a.tar.gz"), promise("b.tar.gz")),
    )
    .await;
    let ingested = drop.ingest().await.unwrap();
    let report = ingested.report.table("calendar").unwrap();
    assert_eq!((report.rows_expected, report.files_expected), (Some(max), Some(max)));
    assert!(report.score() < 100);
    assert_eq!(rows(&ingested, "calendar").await, ["1|10", "2|20"]);
}

#[tokio::test]
async fn a_manifest_does_not_name_what_lies_elsewhere() {
    let drop = Drop::new();
    drop.put("a.tar.gz", tar_gz(&[GOOD])).await;
    let names = ["../other/b.tar.gz", "x/b.tar.gz", "b\u{202e}.tar.gz", "", ".", "..", "b\\c.tar.gz"];
    let archives: Vec<_> =
        names.iter().chain(&["a.tar.gz"]).map(|n| serde_json::json!({ "name": n })).collect();
    drop.put("_manifest.json", serde_json::json!({ "archives": archives }).to_string()).await;
    let ingested = drop.ingest().await.unwrap();
    assert_eq!(aside(&ingested), []);
    assert_eq!(ingested.report.archives_expected, 1);
    assert_eq!(ingested.report.errors.len(), 1, "{:?}", ingested.report.errors);
}

#[tokio::test]
async fn a_partner_names_no_table_that_is_no_plain_name() {
    let hostile =
        ["a'; DROP TABLE x; --", "\u{202e}calendar", "a.b", "$snapshots", "ünïcode", "a--b", "-a", "\"q\""];
    let files: Vec<String> = hostile.iter().map(|table| format!("{table}_2024-06-22_1.csv")).collect();
    let mut members: Vec<(&str, &[u8])> = files.iter().map(|name| (name.as_str(), &b"id\n1\n"[..])).collect();
    members.push(GOOD);
    let drop = Drop::new();
    drop.put("a.tar.gz", tar_gz(&members)).await;
    let ingested = drop.ingest().await.unwrap();
    let names: Vec<_> = ingested.tables.iter().map(|t| t.name()).collect();
    assert_eq!(names, ["calendar"]);
    assert_eq!(ingested.quarantine.count(Level::Member), hostile.len() as u64);
    assert_eq!(rows(&ingested, "calendar").await, ["1|10", "2|20"]);
}

#[tokio::test]
async fn an_archive_that_names_hundreds_of_tables_is_set_aside() {
    let files: Vec<String> = (0..300).map(|i| format!("t{i}_2024-06-22_1.csv")).collect();
    let members: Vec<(&str, &[u8])> = files.iter().map(|name| (name.as_str(), &b"id\n1\n"[..])).collect();
    let drop = Drop::new();
    drop.put("a.tar.gz", tar_gz(&members)).await;
    drop.put("z.tar.gz", tar_gz(&[GOOD])).await;
    let ingested = drop.ingest().await.unwrap();
    assert_eq!(aside(&ingested), [archive("a.tar.gz", "too many tables")]);
    let names: Vec<_> = ingested.tables.iter().map(|t| t.name()).collect();
    assert_eq!(names, ["calendar"]);
    assert_eq!(rows(&ingested, "calendar").await, ["1|10", "2|20"]);
}

#[cfg(unix)]
#[tokio::test]
async fn a_temporary_staging_folder_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    let drop = Drop::new();
    drop.put("a.tar.gz", tar_gz(&[GOOD, ("x.txt", b"")])).await;
    drop.put("b.rar", "").await;
    let ingest = Ingest::from_url("memory://drop/in").storage(drop.storage.clone()).pattern(PATTERN);
    let ingested = ingest.await.unwrap();
    let part = Path::new(&ingested.table("calendar").unwrap().parts()[0].location);
    let folder = part.parent().and_then(Path::parent).unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(folder), 0o700);
    let (mut folders, mut files) = (vec![folder.to_path_buf()], 0);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                assert_eq!(mode(&path), 0o700, "{path:?}");
                folders.push(path);
            } else {
                assert_eq!(mode(&path), 0o600, "{path:?}");
                files += 1;
            }
        }
    }
    assert!(files >= 4, "settings, a part, a marker, two quarantines: {files}");
}

#[tokio::test]
async fn empty_objects_after_a_wide_one_do_not_multiply_work() {
    let keys: Vec<String> = (0..4_000).map(|i| format!("\"c{i}\":1")).collect();
    let mut text = format!("{{{}}}\n", keys.join(","));
    text.push_str(&"{}\n".repeat(100_000));
    let drop = Drop::new();
    drop.put("events_2024-06-22_1.jsonl.gz", gz(text.as_bytes())).await;
    drop.put("good.tar.gz", tar_gz(&[GOOD])).await;
    let limits = Limits { ratio_floor_bytes: 4 << 20, ..Limits::default() };
    let ingested = drop.ingest().pattern("{table}_{date}_{batch}.jsonl").limits(limits).await.unwrap();
    assert_eq!(aside(&ingested), [archive("events_2024-06-22_1.jsonl.gz", "ratio exceeded")]);
    assert_eq!(rows(&ingested, "calendar").await, ["1|10", "2|20"]);
}

#[tokio::test]
async fn a_name_of_a_column_is_bounded() {
    let long = "x".repeat(5_000);
    let drop = Drop::new();
    let header = format!("id,{long}\n1,2\n");
    drop.put("a.tar.gz", tar_gz(&[("calendar_2024-06-22_1.csv", header.as_bytes()), GOOD])).await;
    drop.put("events_2024-06-22_1.jsonl", format!("{{\"{long}\": 1}}\n{{\"id\": 1}}\n")).await;
    let ingested = drop.ingest().pattern("{table}_{date}_{batch}.jsonl").await.unwrap();
    let reasons: Vec<_> = aside(&ingested).into_iter().map(|(level, .., reason)| (level, reason)).collect();
    assert_eq!(reasons, [(Level::Member, "name too long"), (Level::Row, "name too long")]);
    assert_eq!(rows(&ingested, "calendar").await, ["1|10", "2|20"]);
    assert_eq!(rows(&ingested, "events").await, ["1"]);
}

#[tokio::test]
async fn a_folder_of_someone_elses_names_is_read_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let mut file = std::fs::File::create(folder.path().join(name)).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    };
    write("a\u{1b}[2J_2024-06-22_1.csv", "id\n1\n");
    write("100% sure #1_2024-06-22_1.csv", "id\n1\n");
    write("calendar_2024-06-22_0 (copy).csv", "id,price\n1,10\n2,20\n");
    let ingest = Ingest::from_url(folder.path().to_str().unwrap()).storage(Storage::new()).pattern(PATTERN);
    let ingested = ingest.await.unwrap();
    assert_eq!(rows(&ingested, "calendar").await, ["1|10", "2|20"]);
    assert_eq!(ingested.quarantine.items().len(), 2, "{:?}", ingested.quarantine.items());
    assert!(!ingested.report.to_string().contains('\u{1b}'));
}

#[tokio::test]
async fn a_zip_is_not_read_many_times_over() {
    // Members of a megabyte and more, which the directory has in no order that a reader can follow: each again and again.
    let noise: Vec<u8> = {
        let mut seed = 7_u64;
        let mut byte = || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            char::from(b'a' + (seed >> 60) as u8) as u8
        };
        (0..3 << 20).map(|_| byte()).collect()
    };
    let files: Vec<(String, Vec<u8>)> =
        (0..2).map(|i| (format!("calendar_2024-06-22_{i}.txt"), noise[i..].to_vec())).collect();
    let whole = zip(&[(&files[0].0, &files[0].1), (&files[1].0, &files[1].1)]);
    let directory = whole.windows(4).rposition(|w| w == b"PK\x05\x06").map(|end| {
        let number = |at: usize| u32::from_le_bytes(whole[at..at + 4].try_into().unwrap()) as usize;
        (number(end + 16), end)
    });
    let (start, end) = directory.unwrap();
    let entries = &whole[start..end];
    let (first, second) = entries.split_at(entries.len() / 2);
    let mut bytes = whole[..start].to_vec();
    for copy in 0..200_u8 {
        for entry in [first, second] {
            let mut entry = entry.to_vec();
            // Another name each time: "calendar" becomes as many others.
            entry[46] = b'A' + copy / 20;
            entry[47] = b'A' + copy % 20;
            bytes.extend(entry);
        }
    }
    let size = (bytes.len() - start) as u32;
    bytes.extend_from_slice(&whole[end..]);
    let at = bytes.len() - 22;
    bytes[at + 12..at + 16].copy_from_slice(&size.to_le_bytes());
    announce(&mut bytes, 400);
    let drop = Drop::new();
    drop.put("a.zip", bytes).await;
    drop.put("good.tar.gz", tar_gz(&[GOOD])).await;
    let ingested = drop.ingest().await.unwrap();
    assert_eq!(aside(&ingested), [archive("a.zip", "corrupt")], "{:?}", ingested.quarantine.items().first());
    assert!(detail(&ingested, 0).contains("8 times over"), "{}", detail(&ingested, 0));
    assert_eq!(rows(&ingested, "calendar").await, ["1|10", "2|20"]);
}
