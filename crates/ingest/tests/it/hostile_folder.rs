//! Folders of a local disk, and of stores, that whoever may write to them fills with what he likes.

use icefield_ingest::{Ingest, Ingested, Limits};

use crate::support::{Drop, PATTERN, rows, tar_gz};

const GOOD: (&str, &[u8]) = ("calendar_2024-06-22_0.csv", b"id,price\n1,10\n2,20\n");

/// File name, reason and detail of what was set aside.
fn aside(ingested: &Ingested) -> Vec<(String, &'static str, String)> {
    let name = |location: &str| location.rsplit('/').next().unwrap().to_string();
    let items = ingested.quarantine.items().iter();
    items.map(|item| (name(&item.archive), item.reason.as_str(), item.detail.clone())).collect()
}

#[tokio::test]
async fn files_beyond_the_limit_of_a_folder_are_counted() {
    let limits = Limits { run_archives: 3, ..Limits::default() };
    let names =
        ["z_2024-06-22_1.csv", "b_2024-06-22_1.csv", "a_2024-06-22_1.csv", "c.bad", "d_2024-06-22_1.csv"];
    let folder = tempfile::tempdir().unwrap();
    let drop = Drop::new();
    for name in names {
        std::fs::write(folder.path().join(name), "id\n1\n").unwrap();
        drop.put(name, "id\n1\n").await;
    }
    // What is left alone for its name has no place among them.
    std::fs::write(folder.path().join("_x"), "").unwrap();
    drop.put("_x", "").await;
    let local = Ingest::from_url(folder.path().to_str().unwrap()).pattern(PATTERN).limits(limits.clone());
    for ingest in [local, drop.ingest().limits(limits.clone())] {
        let ingested = ingest.await.unwrap();
        let tables: Vec<_> = ingested.tables.iter().map(|t| t.name()).collect();
        assert_eq!(tables, ["a", "b"]);
        let aside = aside(&ingested);
        assert_eq!((aside.len(), &*aside[0].0, aside[0].1), (2, "c.bad", "unknown format"), "{aside:?}");
        assert_eq!(aside[1].1, "limit of the run");
        assert_eq!(aside[1].2, "2 files, or what is none, are left out: the limit run_archives is 3");
    }
}

#[cfg(unix)]
#[tokio::test]
async fn links_without_end_are_listed_up_to_the_limit() {
    let folder = tempfile::tempdir().unwrap();
    for link in 0..50 {
        std::os::unix::fs::symlink("/etc/passwd", folder.path().join(format!("{link:02}.csv"))).unwrap();
    }
    std::fs::write(folder.path().join(GOOD.0), GOOD.1).unwrap();
    let limits = Limits { run_archives: 10, ..Limits::default() };
    let ingest = Ingest::from_url(folder.path().to_str().unwrap()).pattern(PATTERN).limits(limits);
    let ingested = ingest.await.unwrap();
    assert_eq!(rows(&ingested, "calendar").await, ["1|10", "2|20"]);
    let aside = aside(&ingested);
    assert_eq!(aside.iter().filter(|(_, reason, _)| *reason == "link").count(), 10);
    assert!(aside[10].2.starts_with("40 files"), "{aside:?}");
}

#[cfg(unix)]
#[tokio::test]
async fn a_sparse_file_is_not_read_and_takes_nobodys_bytes() {
    for size in [1 << 40, i64::MAX as u64] {
        let folder = tempfile::tempdir().unwrap();
        let mut made = 0;
        // Three of the largest size add up to more than a number holds.
        for n in 0..3 {
            let file = std::fs::File::create(folder.path().join(format!("evil_2024-06-22_{n}.csv"))).unwrap();
            made += usize::from(file.set_len(size).is_ok());
        }
        if made < 3 {
            println!("skipped: this file system has no files of {size} bytes");
            continue;
        }
        std::fs::write(folder.path().join(GOOD.0), GOOD.1).unwrap();
        let ingested = Ingest::from_url(folder.path().to_str().unwrap()).pattern(PATTERN).await.unwrap();
        assert_eq!(rows(&ingested, "calendar").await, ["1|10", "2|20"]);
        let aside = aside(&ingested);
        assert_eq!(aside.len(), 3, "{aside:?}");
        for (_, reason, detail) in aside {
            assert_eq!(reason, "not a plain file");
            assert!(
                detail.starts_with("a sparse file: ") && detail.ends_with("the limit ratio is 200"),
                "{detail}"
            );
        }
    }
}

#[cfg(unix)]
#[tokio::test]
async fn folders_within_folders_are_read_as_deep_as_paths_go() {
    let folder = tempfile::tempdir().unwrap();
    let (mut at, mut depth) = (folder.path().to_path_buf(), 0);
    std::fs::write(at.join(GOOD.0), GOOD.1).unwrap();
    while depth < 700 {
        at.push("d");
        std::fs::create_dir(&at).unwrap();
        depth += 1;
        if depth == 300 {
            std::fs::write(at.join("deep_2024-06-22_1.csv"), "id\n1\n").unwrap();
        }
    }
    std::fs::write(at.join("deepest_2024-06-22_1.csv"), "id\n1\n").unwrap();
    let ingested = Ingest::from_url(folder.path().to_str().unwrap()).pattern(PATTERN).await.unwrap();
    let tables: Vec<_> = ingested.tables.iter().map(|t| t.name()).collect();
    assert_eq!(tables, ["calendar", "deep"]);
    let aside = aside(&ingested);
    assert_eq!(aside.len(), 1, "{aside:?}");
    assert_eq!((aside[0].1, &*aside[0].2), ("unsafe path", "the path is longer than 1024 bytes"));
}

#[tokio::test]
async fn a_marker_that_someone_else_wrote_is_not_believed() {
    type Lie = fn(&mut serde_json::Value);
    let lies: [(&str, Lie); 7] = [
        ("a part elsewhere", |m| {
            m["files"][0]["parts"][0]["location"] = "memory://drop/secret.parquet".into()
        }),
        ("a part by a way around", |m| {
            let at = m["files"][0]["parts"][0]["location"]
                .as_str()
                .unwrap()
                .replace("00000.parquet", "../x/00000.parquet");
            m["files"][0]["parts"][0]["location"] = at.into();
        }),
        ("a quarantine elsewhere", |m| m["quarantine"]["location"] = "memory://drop/secret.parquet".into()),
        ("rows without end", |m| {
            (m["files"][0]["rows"], m["files"][0]["bad_rows"]) = (u64::MAX.into(), 1.into())
        }),
        ("another archive", |m| m["archive"] = "memory://drop/in/b.tar.gz".into()),
        ("a shape that is none", |m| m["shapes"][0]["nulls"] = serde_json::json!([0])),
        ("no end", |m| m["ignored"] = "x".repeat(2 << 20).into()),
    ];
    for (name, lie) in lies {
        let drop = Drop::new();
        drop.put("a.tar.gz", tar_gz(&[GOOD, ("calendar_2024-06-22_1.csv", b"id,price\n3\n4,40\n")])).await;
        // What a marker can take is bounded by these.
        let limits =
            Limits { archive_known_bytes: 64 << 10, archive_listed_bytes: 64 << 10, ..Limits::default() };
        let ingest = || drop.ingest().limits(limits.clone());
        ingest().await.unwrap();
        let listed: Vec<_> =
            futures::TryStreamExt::try_collect(drop.storage.list("memory://drop/staged")).await.unwrap();
        let marker =
            listed.iter().map(|file| &file.location).find(|at| at.ends_with("_staged.json")).unwrap();
        let mut content = serde_json::from_slice(&drop.storage.read(marker).await.unwrap()).unwrap();
        lie(&mut content);
        drop.storage.write(marker, content.to_string()).await.unwrap();
        let ingested = ingest().await.unwrap();
        assert_eq!(ingested.report.archives_reused, 0, "{name}");
        assert_eq!(rows(&ingested, "calendar").await, ["1|10", "2|20", "4|40"], "{name}");
        assert_eq!(ingest().await.unwrap().report.archives_reused, 1, "{name}");
    }
}
