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

#[tokio::test]
async fn files_that_were_moved_are_found_under_their_old_names() {
    let plain = Storage::new();
    let moved = [
        ("memory://old/w", "memory://new/a"),
        ("memory://old/w/t/data/", "memory://new/b/"),
        ("/was/here", "memory://new/local"),
    ];
    let storage = plain.with_mappings(moved).unwrap();
    for (location, at) in [
        ("memory://old/w/t/metadata/x", "memory://new/a/t/metadata/x"),
        ("memory://old/w", "memory://new/a"),
        ("memory://old/w/t/data/p=1/y", "memory://new/b/p=1/y"),
        ("memory://old/w/t/database/y", "memory://new/a/t/database/y"),
        ("memory://old/ww/z", "memory://old/ww/z"),
        ("memory://other/w/z", "memory://other/w/z"),
        ("file:/was/here/q", "memory://new/local/q"),
        ("file:///was/here/q", "memory://new/local/q"),
        ("/was/hereafter", "/was/hereafter"),
    ] {
        assert_eq!(storage.mapped(location), at, "{location}");
        assert_eq!(plain.mapped(location), location);
    }
    plain.write("memory://new/b/p=1/y", "bytes").await.unwrap();
    assert_eq!(storage.read("memory://old/w/t/data/p=1/y").await.unwrap(), "bytes");
    let listed: Vec<FileEntry> = storage.list("memory://old/w/t/data").try_collect().await.unwrap();
    assert_eq!(listed[0].location, "memory://old/w/t/data/p=1/y");
    for twice in
        [[("/a", "/b"), ("file:///a/", "/c")], [("a", "/b"), ("a/", "/d")], [("/a", "b"), ("/c", "/d")]]
    {
        assert_eq!(plain.with_mappings(twice).unwrap_err().kind(), ErrorKind::InvalidInput);
    }
    // One place by two names, moved to one place, is said twice and not refused.
    let said_twice = [("file:/a", "/b"), ("/a/", "file:///b/"), ("s3://k/x", "/y"), ("s3a://k/x", "/y")];
    let storage = plain.with_mappings(said_twice).unwrap();
    assert_eq!(storage.mapped("/a/c"), "/b/c");
    assert_eq!(storage.mapped("s3n://k/x/z"), "/y/z");
}

#[tokio::test]
async fn relative_locations_are_found_by_their_beginning() {
    let plain = Storage::new();
    let storage = plain.with_mappings([("data/lake", "memory://w/a"), ("data/", "memory://w/b")]).unwrap();
    for (location, at) in [
        ("data/lake/t/x", "memory://w/a/t/x"),
        ("data/lakes/t/x", "memory://w/b/lakes/t/x"),
        ("data", "memory://w/b"),
        ("datum/x", "datum/x"),
        ("/data/lake/t", "/data/lake/t"),
        ("memory://w/data/lake", "memory://w/data/lake"),
    ] {
        assert_eq!(storage.mapped(location), at, "{location}");
    }
    plain.write("memory://w/a/t/x", "bytes").await.unwrap();
    assert_eq!(storage.read("data/lake/t/x").await.unwrap(), "bytes");
    let listed: Vec<FileEntry> = storage.list("data/lake").try_collect().await.unwrap();
    assert_eq!(listed[0].location, "data/lake/t/x");
    assert_eq!(storage.read("datum/x").await.unwrap_err().kind(), ErrorKind::InvalidInput);
    // A table's own folder comes after what was said, and before all else.
    let own = storage.with_relative("data/lake/t", "memory://w/c");
    assert_eq!(own.mapped("data/lake/t/x"), "memory://w/a/t/x");
    let own = plain.with_relative("made/t/", "memory://w/c");
    assert_eq!(own.mapped("made/t/x"), "memory://w/c/x");
    assert_eq!(own.mapped("x/y"), "memory://w/c/x/y");
}

#[tokio::test]
async fn two_slashes_are_one_on_a_disk_and_two_in_a_key() {
    let folder = tempfile::tempdir().unwrap();
    let storage = Storage::new();
    let at = format!("file://{}/t", folder.path().display());
    storage.write(&format!("{at}/a/b"), "disk").await.unwrap();
    for doubled in ["a//b", "//a/b", "/a///b"] {
        let location = format!("{at}/{doubled}");
        assert_eq!(storage.read(&location).await.unwrap(), "disk", "{location}");
        assert!(same_location(&location, &format!("{at}/a/b")));
    }
    storage.write("memory://w/t/a/b", "one").await.unwrap();
    storage.write("memory://w/t/a//b", "two").await.unwrap();
    assert_eq!(storage.read("memory://w/t/a/b").await.unwrap(), "one");
    assert_eq!(storage.read("memory://w/t/a//b").await.unwrap(), "two");
    assert!(!same_location("s3://w/t/a//b", "s3://w/t/a/b"));
    assert_eq!(storage.resolve("memory://w//t").unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(storage.resolve("memory://w/t//../x").unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[tokio::test]
async fn a_range_beyond_the_end_of_a_file_is_no_failure_in_passing() {
    let folder = tempfile::tempdir().unwrap();
    for root in ["memory://bucket".to_string(), folder.path().display().to_string()] {
        let (storage, file) = (Storage::new(), join(&root, "file"));
        storage.write(&file, "").await.unwrap();
        let error = storage.read_range(&file, 0..9).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DataInvalid, "{error}");
        assert!(error.to_string().contains(&file), "{error}");
        let missing = storage.read_range(&join(&root, "none"), 0..9).await.unwrap_err();
        assert_eq!(missing.kind(), ErrorKind::NotFound, "{missing}");
    }
}

#[tokio::test]
async fn a_file_where_a_folder_is_to_be_is_no_failure_in_passing() {
    let folder = tempfile::tempdir().unwrap();
    let storage = Storage::new();
    let file = format!("{}/file", folder.path().display());
    storage.write(&file, "x").await.unwrap();
    let below = join(&file, "metadata/y");
    let mut upload = storage.writer(&below).unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut upload, b"rows").await.unwrap();
    let uploaded = tokio::io::AsyncWriteExt::shutdown(&mut upload).await.map_err(Error::from);
    for error in [storage.write(&below, "y").await.unwrap_err(), uploaded.unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::Io, "{error}");
        assert!(!error.is_retryable() && error.message().contains("move away the file"), "{error}");
    }
}

#[test]
fn what_lies_outside_of_the_named_places_is_refused() {
    let stores = Storage::new().with_machine_credentials(true);
    let storage = stores.confined_to(["s3://lake/w", "memory://m", "gs://b/x/"]).unwrap();
    for (location, fine) in [
        ("s3://lake/w", true),
        ("s3://lake/w/t/x", true),
        ("s3a://lake/w/t/x", true),
        ("s3://lake/w2/t/x", false),
        ("s3://lake/x", false),
        ("s3://lake", false),
        ("s3://other/w/x", false),
        ("s3://lake@other/w/x", false),
        ("gs://lake/w/x", false),
        ("s3://lake/w/../x", false),
        ("s3://lake/w/%2e%2e/x", true),
        ("s3://lake//w/x", false),
        ("memory://m/x", true),
        ("memory://mm/x", false),
        ("gs://b/x/y", true),
        ("gs://b/xy", false),
        ("/etc/passwd", false),
        ("file:///etc/passwd", false),
        ("file:/etc/passwd", false),
    ] {
        let resolved = storage.resolve(location);
        assert_eq!(resolved.is_ok(), fine, "{location}: {:?}", resolved.err());
        if let Err(error) = resolved {
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{location}");
        }
    }
    assert!(storage.unconfined().resolve("/etc/passwd").is_ok());
    // Where a place is mapped, that counts where it is looked for.
    let moved = storage.with_mappings([("s3://old/w", "s3://lake/w"), ("s3://lake/w/t", "/etc")]).unwrap();
    assert!(moved.resolve("s3://old/w/x").is_ok());
    assert!(moved.resolve("s3://lake/w/t/passwd").is_err());
}

#[cfg(unix)]
#[tokio::test]
async fn links_lead_to_no_file_outside_of_the_named_places() {
    use std::os::unix::fs::symlink;
    let folder = tempfile::tempdir().unwrap();
    let at = |path: &str| folder.path().join(path);
    let location = |path: &str| at(path).display().to_string();
    for path in ["w/t", "outside"] {
        std::fs::create_dir_all(at(path)).unwrap();
    }
    std::fs::write(at("outside/secret"), "secret").unwrap();
    std::fs::write(at("w/t/own"), "own").unwrap();
    symlink(at("outside"), at("w/folder")).unwrap();
    symlink(at("outside/secret"), at("w/t/file")).unwrap();
    symlink(at("outside/none"), at("w/t/dangling")).unwrap();
    symlink(at("w/t"), at("w/inside")).unwrap();
    symlink(at("w"), at("warehouse")).unwrap();
    for place in ["w", "warehouse"] {
        let storage = Storage::new().confined_to([location(place)]).unwrap();
        for path in ["folder/secret", "t/file", "t/dangling", "folder/new/file", "inside/file"] {
            let path = location(&format!("{place}/{path}"));
            assert_eq!(storage.read(&path).await.unwrap_err().kind(), ErrorKind::InvalidInput, "{path}");
            assert!(
                storage.write(&path, "x").await.is_err() && storage.delete(&path).await.is_err(),
                "{path}"
            );
        }
        for path in ["t/own", "inside/own"] {
            assert_eq!(storage.read(&location(&format!("{place}/{path}"))).await.unwrap(), "own", "{path}");
        }
        storage.write(&location(&format!("{place}/new/folder/file")), "new").await.unwrap();
    }
    assert_eq!(std::fs::read(at("outside/secret")).unwrap(), b"secret");
    assert_eq!(std::fs::read_dir(at("outside")).unwrap().count(), 1);
}

#[test]
fn a_catalogs_storage_is_confined_to_its_warehouse_unless_said() {
    let fine = |storage: &Storage, location: &str| storage.resolve(location).is_ok();
    let named = Storage::new().confined_to(["/srv/archive"]).unwrap();
    for (storage, archive, elsewhere) in
        [(Storage::new(), false, false), (named, true, false), (Storage::new().unconfined(), true, true)]
    {
        let of_tables = storage.for_warehouse("memory://lake/w").unwrap();
        assert!(fine(&of_tables, "memory://lake/w/t"), "{of_tables:?}");
        assert_eq!(fine(&of_tables, "/srv/archive/t"), archive, "{of_tables:?}");
        for location in ["/etc/passwd", "memory://lake/x", "memory://other/w/t", "memory://lake"] {
            assert_eq!(fine(&of_tables, location), elsewhere, "{of_tables:?} {location}");
        }
        // The one that was given is what it was, and another catalog's warehouse comes on top of what was said.
        assert_eq!(fine(&storage, "/srv/other"), !format!("{storage:?}").contains("/srv/archive"));
        assert!(fine(&of_tables.for_warehouse("memory://two").unwrap(), "memory://two/t"));
    }
    // Where the service said that files were moved, they may be.
    let moved = [("/was/lake", "memory://new/lake"), ("data/lake", "memory://new/relative")];
    let moved = Storage::new().with_mappings(moved).unwrap();
    let of_tables = moved.for_warehouse("/was/lake").unwrap();
    for location in ["/was/lake/t", "data/lake/t", "memory://new/relative/t"] {
        assert!(fine(&of_tables, location), "{location}");
    }
    assert!(!fine(&of_tables, "/was/t") && !fine(&of_tables, "memory://new/t"));
    assert_eq!(Storage::new().for_warehouse("relative").unwrap_err().kind(), ErrorKind::InvalidInput);
}
