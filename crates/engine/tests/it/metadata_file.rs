//! Tables opened from their metadata files, where they were written and where they were moved to.

use std::path::Path;

use icefield_core::ErrorKind;
use icefield_engine::ops::DataFrameExt;
use icefield_engine::{Session, Table};

use crate::scan_support::text_rows;

/// A table of two snapshots under `folder`, with a metadata file of every kind of name.
async fn written(folder: &Path) -> (Session, Table, [String; 3]) {
    let warehouse = format!("file://{}", folder.display());
    let session = Session::builder().warehouse(warehouse).parallelism(2).build().unwrap();
    for ids in ["(1), (2)", "(3)"] {
        let rows = session.sql(&format!("SELECT column1 AS id FROM (VALUES {ids})")).await.unwrap();
        rows.append_to(&session, "db.t").create_with(|t| t).await.unwrap();
    }
    let table = session.table("db.t").await.unwrap();
    let plain = std::fs::read(table.core().metadata_location().trim_start_matches("file://")).unwrap();
    let gzip = {
        let compressed = table.set_properties([("write.metadata.compression-codec", "gzip")]).await.unwrap();
        std::fs::read(compressed.core().metadata_location().trim_start_matches("file://")).unwrap()
    };
    assert_eq!(gzip[..2], [0x1f, 0x8b]);
    let metadata = folder.join("db/t/metadata");
    let names = ["v3.metadata.json", "v4.metadata.json.gz", "v5.gz.metadata.json"];
    for (name, bytes) in names.iter().zip([&plain, &gzip, &gzip]) {
        std::fs::write(metadata.join(name), bytes).unwrap();
    }
    (session, table, names.map(str::to_string))
}

async fn ids(table: &Table) -> Vec<String> {
    let mut rows = text_rows(&table.dataframe().await.unwrap().collect().await.unwrap());
    rows.sort();
    rows
}

#[tokio::test]
async fn a_metadata_file_of_any_name_opens_without_its_catalog() {
    let folder = tempfile::tempdir().unwrap();
    let (_, table, names) = written(folder.path()).await;
    let elsewhere = Session::builder().build().unwrap();
    for name in names {
        let location = folder.path().join("db/t/metadata").join(name);
        let opened = elsewhere.table_from_metadata_file(location.to_str().unwrap()).await.unwrap();
        assert_eq!(opened.ident().to_string(), "db.t");
        assert_eq!(ids(&opened).await, ["1", "2", "3"]);
        let first = table.core().metadata().history()[0].snapshot_id;
        assert_eq!(ids(&opened.as_of(first).unwrap()).await, ["1", "2"]);
    }
    let missing = elsewhere.table_from_metadata_file("/nowhere/v1.metadata.json").await.unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_table_that_was_moved_is_read_where_it_is() {
    let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (session, _, _) = written(old.path()).await;
    // The manifests go to one place, the data to another.
    for (part, to) in [("metadata", "m"), ("data", "d")] {
        std::fs::rename(old.path().join("db/t").join(part), new.path().join(to)).unwrap();
    }
    let was = format!("file://{}/db/t", old.path().display());
    let opened = session
        .table_from_metadata_file(format!("{}/m/v3.metadata.json", new.path().display()))
        .moved(format!("{was}/metadata"), format!("{}/m", new.path().display()))
        .moved(was.as_str(), new.path().display().to_string())
        .moved(format!("{was}/data"), format!("{}/d", new.path().display()))
        .named("db.copy")
        .await
        .unwrap();
    assert_eq!(ids(&opened).await, ["1", "2", "3"]);
    assert_eq!(opened.core().metadata().location(), was);
    let unmapped = session.table_from_metadata_file(format!("{}/m/v3.metadata.json", new.path().display()));
    let lost = unmapped.await.unwrap().dataframe().await.unwrap().collect().await.unwrap_err();
    assert!(lost.to_string().contains(&was), "{lost}");
}

#[tokio::test]
async fn two_copies_of_one_table_do_not_see_each_others_bytes() {
    let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (session, table, _) = written(old.path()).await;
    assert_eq!(ids(&table).await, ["1", "2", "3"]);
    let lists = table.core().metadata().location().to_string();
    let metadata = table.core().metadata_location().to_string();
    // Where the copy should be, nothing is: what the session has cached of the original must not stand in for it.
    let copy =
        session.table_from_metadata_file(metadata).moved(lists, new.path().display().to_string()).await;
    assert_eq!(copy.unwrap_err().kind(), ErrorKind::NotFound);
    let location = table.core().metadata_location().trim_start_matches("file://").to_string();
    std::fs::copy(&location, new.path().join("v1.metadata.json")).unwrap();
    let copy = session
        .table_from_metadata_file(format!("{}/v1.metadata.json", new.path().display()))
        .moved(table.core().metadata().location(), new.path().display().to_string());
    assert!(copy.await.unwrap().dataframe().await.unwrap().collect().await.is_err());
}

#[tokio::test]
async fn a_table_without_a_catalog_refuses_every_change() {
    let folder = tempfile::tempdir().unwrap();
    let (session, table, _) = written(folder.path()).await;
    let opened = session.table_from_metadata_file(table.core().metadata_location()).await.unwrap();
    let rows = opened.dataframe().await.unwrap();
    session.context().register_table("opened", opened.provider().unwrap()).unwrap();
    let insert = session.sql("INSERT INTO opened VALUES (4)").await.unwrap().collect().await.unwrap_err();
    for error in [
        opened.refresh().await.unwrap_err(),
        opened.set_properties([("a", "b")]).await.unwrap_err(),
        opened.create_tag("x").await.unwrap_err(),
        opened.update_schema().drop_column("id").await.unwrap_err(),
        icefield_engine::from_datafusion(insert),
    ] {
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        assert!(error.to_string().contains("db.t"), "{error}");
    }
    assert_eq!(rows.count().await.unwrap(), 3);
}
