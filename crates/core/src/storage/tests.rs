use futures::TryStreamExt;

use super::*;

#[tokio::test]
async fn a_file_is_written_once_read_listed_and_deleted_on_memory_and_on_disk() {
    let folder = tempfile::tempdir().unwrap();
    for root in [
        "memory://bucket/w".to_string(),
        format!("file://{}", folder.path().display()),
        folder.path().display().to_string(),
    ] {
        let storage = Storage::new();
        let location = join(&root, "p=a%2Fb/x.bin");
        assert!(storage.write_if_absent(&location, "one").await.unwrap(), "{root}");
        assert!(!storage.write_if_absent(&location, "two").await.unwrap(), "{root}");
        assert_eq!(storage.read(&location).await.unwrap(), "one");
        assert_eq!(storage.read_range(&location, 1..3).await.unwrap(), "ne");
        assert_eq!(storage.size(&location).await.unwrap(), 3);
        let listed: Vec<FileEntry> = storage.list(&root).try_collect().await.unwrap();
        assert_eq!(listed.iter().map(|f| f.location.as_str()).collect::<Vec<_>>(), [location.as_str()]);
        storage.delete(&location).await.unwrap();
        storage.delete(&location).await.unwrap();
        assert!(!storage.exists(&location).await.unwrap());
        assert_eq!(storage.read(&location).await.unwrap_err().kind(), ErrorKind::NotFound);
    }
}

#[tokio::test]
async fn keys_are_raw_on_disk_too() {
    let folder = tempfile::tempdir().unwrap();
    let storage = Storage::new();
    storage.write(&format!("file://{}/a=%20 é/x", folder.path().display()), "x").await.unwrap();
    assert!(folder.path().join("a=%20 é").join("x").exists());
}

#[test]
fn what_is_no_location_is_refused_with_a_reason() {
    for bad in ["relative/path", "ftp://host/x", "memory://b/a/../x", ""] {
        let error = Storage::new().resolve(bad).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{bad}");
    }
}

#[test]
fn one_file_has_many_spellings() {
    for (a, b, same) in [
        ("s3://b/k", "s3a://b/k", true),
        ("/a/b", "file:///a/b", true),
        ("file:/a/b", "file:///a/b", true),
        ("s3://b/k", "s3://c/k", false),
        ("s3://b/k", "gs://b/k", false),
    ] {
        assert_eq!(same_location(a, b), same, "{a} {b}");
    }
}

#[tokio::test]
async fn the_iceberg_crate_reads_and_writes_through_it() {
    let storage = Storage::new();
    let io = storage.file_io();
    io.new_output("memory://b/x").unwrap().write(Bytes::from_static(b"hello")).await.unwrap();
    assert_eq!(storage.read("memory://b/x").await.unwrap(), "hello");
    assert_eq!(io.new_input("memory://b/x").unwrap().read().await.unwrap(), "hello");
    let missing = io.new_input("memory://b/none").unwrap().read().await.unwrap_err();
    assert_eq!(Error::from(missing).kind(), ErrorKind::NotFound);
}
