//! Damaged files: an error that names the file, never a panic, and a table that is as before once the file is back.

use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};

use futures::FutureExt;
use iceberg::spec::FormatVersion;
use icefield::prelude::*;
use icefield::{ErrorKind, Result};
use icefield_testkit::{Content, content_hash, everything_schema, random_batches};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

const NAME: &str = "db.t";

/// The kinds of files below a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Metadata,
    ManifestList,
    Manifest,
    Data,
}

/// Every file that reading the table takes.
fn files(folder: &Path) -> Vec<(Kind, PathBuf)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            match name.as_str() {
                _ if path.is_dir() => folders.push(path),
                name if name.ends_with(".metadata.json") => found.push((Kind::Metadata, path)),
                name if name.starts_with("snap-") => found.push((Kind::ManifestList, path)),
                name if name.ends_with(".avro") => found.push((Kind::Manifest, path)),
                name if name.ends_with(".parquet") => found.push((Kind::Data, path)),
                _ => {}
            }
        }
    }
    found.sort_by(|a, b| a.1.cmp(&b.1));
    found
}

/// Everything that the table holds, by a session that has not seen it before.
async fn read(folder: &Path) -> Result<Content> {
    let session = Session::builder().parallelism(2).open(folder).await?;
    let table = session.table(NAME).await?;
    let batches = table.dataframe().await?.collect().await.map_err(icefield_engine::from_datafusion)?;
    Ok(content_hash(&batches, table.core().schema()))
}

async fn append(folder: &Path, rows: usize) -> Result<()> {
    let session = Session::builder().parallelism(1).open(folder).await?;
    let schema = session.table(NAME).await?.core().schema().clone();
    session.read_batches(random_batches(1, &schema, 1, rows))?.append_to(&session, NAME).await.map(drop)
}

/// One way to damage a file's bytes.
fn damage(rng: &mut StdRng, bytes: &[u8], others: &[Vec<u8>]) -> (String, Vec<u8>) {
    let mut damaged = bytes.to_vec();
    let at = rng.random_range(0..bytes.len());
    match rng.random_range(0..12) {
        0 => ("emptied".to_string(), Vec::new()),
        1 => (format!("cut at {at}"), bytes[..at].to_vec()),
        2 => ("another file's content".to_string(), others[rng.random_range(0..others.len())].clone()),
        3 => ("text".to_string(), b"<html>404 not found</html>".to_vec()),
        4 => {
            let end = (at + rng.random_range(1..64)).min(bytes.len());
            damaged[at..end].fill(0);
            (format!("zeros from {at} to {end}"), damaged)
        }
        5 => {
            damaged.splice(at..at, (0..9).map(|_| rng.random::<u8>()).collect::<Vec<_>>());
            (format!("bytes put in at {at}"), damaged)
        }
        _ => {
            let bit = rng.random_range(0..8);
            damaged[at] ^= 1 << bit;
            (format!("bit {bit} of byte {at} flipped"), damaged)
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_file_is_an_error_that_names_it_and_never_a_panic() {
    let rounds = std::env::var("ICEFIELD_DAMAGES").ok().and_then(|n| n.parse().ok()).unwrap_or(60);
    let folder = tempfile::tempdir().unwrap();
    let session = Session::builder().parallelism(2).open(folder.path()).await.unwrap();
    let schema = everything_schema(FormatVersion::V2);
    let table = session.create_table(NAME, schema).partition_by([bucket("id", 2)]).await.unwrap();
    for seed in 0..2 {
        let rows = random_batches(seed, table.core().schema(), 1, 30);
        session.read_batches(rows).unwrap().append_to(&session, NAME).await.unwrap();
    }
    drop(session);
    let whole = read(folder.path()).await.unwrap();
    let all = files(folder.path());
    let current = session_metadata(folder.path()).await;
    let mut rng = StdRng::seed_from_u64(7);
    let (mut refused, mut unharmed) = (0, 0);
    for kind in [Kind::Metadata, Kind::ManifestList, Kind::Manifest, Kind::Data] {
        let mut named: Vec<&PathBuf> =
            all.iter().filter(|(of, _)| *of == kind).map(|(_, path)| path).collect();
        match kind {
            // Only the current ones are read.
            Kind::Metadata => named.retain(|path| **path == current.0),
            Kind::ManifestList => named.retain(|path| **path == current.1),
            _ => {}
        }
        let others: Vec<Vec<u8>> =
            all.iter().filter(|(of, _)| *of != kind).map(|(_, path)| std::fs::read(path).unwrap()).collect();
        for round in 0..rounds {
            let path = named[round % named.len()];
            let bytes = std::fs::read(path).unwrap();
            let (what, damaged) = damage(&mut rng, &bytes, &others);
            std::fs::write(path, &damaged).unwrap();
            let about = format!("{kind:?} {what}, {}", path.display());
            let outcome = AssertUnwindSafe(read(folder.path())).catch_unwind().await;
            let outcome = outcome.unwrap_or_else(|_| panic!("a panic: {about}"));
            match outcome {
                Err(error) => {
                    let text = format!("{error:?}");
                    assert!(!text.contains("panicked"), "{about}: {text}");
                    match error.kind() {
                        ErrorKind::DataInvalid | ErrorKind::NotFound => {
                            assert!(error.message().contains("restore"), "{about}: {text}");
                        }
                        // Where a name or a type was hit, it may be none that this version knows.
                        ErrorKind::InvalidInput | ErrorKind::Unsupported => {}
                        _ => panic!("{about}: {text}"),
                    }
                    let names_it = text.contains(&*path.file_name().unwrap().to_string_lossy());
                    // A name that was hit is another file's.
                    let names_another =
                        error.context().any(|(key, _)| ["file", "location", "column"].contains(&key));
                    assert!(names_it || (kind != Kind::Data && names_another), "{about}: {text}");
                    refused += 1;
                }
                // A flipped bit may fall where nothing is read, or into a value: pages have no checksums.
                Ok(content) if kind == Kind::Data => drop(content),
                Ok(_) => unharmed += 1,
            }
            std::fs::write(path, &bytes).unwrap();
        }
        assert_eq!(read(folder.path()).await.unwrap(), whole, "after {kind:?}");
    }
    println!("{refused} refused, {unharmed} of metadata unharmed");
    assert!(refused > rounds * 2, "{refused}");
}

/// The current metadata file and manifest list.
async fn session_metadata(folder: &Path) -> (PathBuf, PathBuf) {
    let session = Session::builder().open(folder).await.unwrap();
    let table = session.table(NAME).await.unwrap();
    let list = table.core().metadata().current_snapshot().unwrap().manifest_list().to_string();
    let local = |location: &str| PathBuf::from(location.trim_start_matches("file://"));
    (local(table.core().metadata_location()), local(&list))
}

/// A table with one file of each kind that reading it takes, and these.
async fn one_of_each(folder: &Path) -> [(Kind, PathBuf); 4] {
    let session = Session::builder().parallelism(1).open(folder).await.unwrap();
    session.create_table(NAME, everything_schema(FormatVersion::V2)).await.unwrap();
    append(folder, 10).await.unwrap();
    let (metadata, list) = session_metadata(folder).await;
    let all = files(folder);
    let only = |kind| all.iter().find(|(of, _)| *of == kind).unwrap().1.clone();
    [
        (Kind::Metadata, metadata),
        (Kind::ManifestList, list),
        (Kind::Manifest, only(Kind::Manifest)),
        (Kind::Data, only(Kind::Data)),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_missing_or_broken_is_told_with_what_to_do_about_it() {
    let folder = tempfile::tempdir().unwrap();
    for (kind, path) in one_of_each(folder.path()).await {
        let bytes = std::fs::read(&path).unwrap();
        let half = &bytes[..bytes.len() / 2];
        for damaged in [None, Some(&b""[..]), Some(half), Some(&b"<html>404 not found</html>"[..])] {
            match damaged {
                None => std::fs::remove_file(&path).unwrap(),
                Some(damaged) => std::fs::write(&path, damaged).unwrap(),
            }
            let error = read(folder.path()).await.unwrap_err();
            let about = format!("{kind:?}, {damaged:?}: {error:?}");
            // A table whose metadata file is gone is still there.
            let expected = match damaged {
                None if kind != Kind::Metadata => ErrorKind::NotFound,
                _ => ErrorKind::DataInvalid,
            };
            assert_eq!(error.kind(), expected, "{about}");
            let files: Vec<&str> =
                error.context().filter(|(key, _)| *key == "file").map(|(_, file)| file).collect();
            assert!(matches!(files[..], [file] if file.ends_with(path.to_str().unwrap())), "{about}");
            assert!(error.message().contains("restore"), "{about}");
            assert_eq!(error.message().matches("restore").count(), 1, "{about}");
        }
        std::fs::write(&path, &bytes).unwrap();
        read(folder.path()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_to_a_damaged_table_fails_or_goes_through_and_is_never_half_there() {
    let folder = tempfile::tempdir().unwrap();
    let session = Session::builder().parallelism(2).open(folder.path()).await.unwrap();
    let schema = everything_schema(FormatVersion::V2);
    session.create_table(NAME, schema).await.unwrap();
    drop(session);
    append(folder.path(), 10).await.unwrap();
    for (number, missing) in [false, true].into_iter().enumerate() {
        let (metadata, list) = session_metadata(folder.path()).await;
        for path in [metadata, list] {
            let before = read(folder.path()).await.unwrap();
            let bytes = std::fs::read(&path).unwrap();
            match missing {
                true => std::fs::remove_file(&path).unwrap(),
                false => std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap(),
            }
            let error = append(folder.path(), 5 + number).await.unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::DataInvalid | ErrorKind::NotFound), "{error:?}");
            assert!(error.to_string().contains(&*path.file_name().unwrap().to_string_lossy()), "{error}");
            std::fs::write(&path, &bytes).unwrap();
            assert_eq!(read(folder.path()).await.unwrap(), before);
        }
        append(folder.path(), 5).await.unwrap();
        assert_eq!(read(folder.path()).await.unwrap().rows, 15 + 5 * number as u64);
    }
}
