//! Tables whose metadata names files that are not theirs: nothing outside of a table's folder is deleted for it.

use std::collections::BTreeSet;

use futures::TryStreamExt;
use iceberg::spec::FormatVersion;
use icefield_core::catalog::{Catalog, TableIdent};
use icefield_core::storage::Storage;
use icefield_core::{ErrorKind, Table};
use icefield_maintenance::{ExpireSnapshots, FileKind, Purge, RemoveOrphanFiles, days};
use serde_json::{Value, json};

use crate::world::{World, check, litter};

const HOSTILE: &str = "memory://w/db/hostile";

/// What else lies in the store, outside of the hostile table's folder.
const OTHERS: [&str; 3] = ["memory://w/keys/id", "memory://w/db/hostile2/data/x", "memory://w/prod.sqlite"];

async fn files(storage: &Storage, but: &str) -> BTreeSet<String> {
    let listed: Vec<_> = storage.list("memory://w").try_collect().await.unwrap();
    listed.into_iter().map(|file| file.location).filter(|file| !file.starts_with(but)).collect()
}

/// A table of three snapshots at [`HOSTILE`] whose owner has put what he likes into its metadata.
async fn hostile(world: &World, change: impl FnOnce(&mut Value)) -> Table {
    for file in OTHERS {
        world.storage.write(file, "precious").await.unwrap();
    }
    world.append(&["a"]).await;
    let mut own = world.fork().await;
    own.ident = ident("own");
    own.create("own", Some(HOSTILE), FormatVersion::V2, &[]).await;
    for name in ["x", "y", "z"] {
        let path = format!("{HOSTILE}/data/{name}.parquet");
        own.storage.write(&path, name.to_string()).await.unwrap();
        let file = crate::world::content_file(&path);
        own.commit(|t| t.fast_append(vec![file])).await;
    }
    // The copy's store is its own: what it wrote comes over.
    let table = own.table().await;
    for file in own.storage.list(HOSTILE).try_collect::<Vec<_>>().await.unwrap() {
        let bytes = own.storage.read(&file.location).await.unwrap();
        world.storage.write(&file.location, bytes).await.unwrap();
    }
    let mut metadata: Value =
        serde_json::from_slice(&world.storage.read(table.metadata_location()).await.unwrap()).unwrap();
    change(&mut metadata);
    let location = format!("{HOSTILE}/metadata/00009-7fa4eb01-4bd3-4a1c-8ee1-000000000000.metadata.json");
    world.storage.write(&location, metadata.to_string()).await.unwrap();
    world.catalog.register_table(&ident("hostile"), &location).await.unwrap()
}

/// Statistics of the oldest snapshot, in a file.
fn statistics(metadata: &Value, path: &str) -> Value {
    json!([{"snapshot-id": metadata["snapshots"][0]["snapshot-id"], "statistics-path": path,
        "file-size-in-bytes": 1, "file-footer-size-in-bytes": 1, "blob-metadata": []}])
}

fn ident(name: &str) -> TableIdent {
    TableIdent::from_strs(["db", name]).unwrap()
}

#[tokio::test]
async fn an_expiry_deletes_no_file_outside_of_its_table() {
    let world = World::new().await;
    let victim = world.append(&["b"]).await;
    let list = world.table().await.metadata().snapshot_by_id(victim).unwrap().manifest_list().to_string();
    let table = hostile(&world, |metadata| {
        metadata["statistics"] = statistics(metadata, OTHERS[0]);
        metadata["partition-statistics"] = statistics(metadata, OTHERS[1]);
        // A snapshot whose list is the neighbour's.
        metadata["snapshots"][1]["manifest-list"] = json!(list);
    })
    .await;
    let before = files(&world.storage, HOSTILE).await;
    world.later();
    let expiry = || ExpireSnapshots::new(table.clone(), world.shared_catalog()).older_than(days(0));
    let planned = expiry().dry_run(true).await.unwrap();
    let report = expiry().await.unwrap();
    assert_eq!(report.snapshots.len(), 2);
    assert_eq!(files(&world.storage, HOSTILE).await, before);
    check(&world.table().await).await.unwrap();
    for report in [planned, report] {
        assert_eq!(report.outside[&FileKind::Statistics].files, 2, "{report}");
        assert_eq!(report.outside[&FileKind::ManifestList].files, 1, "{report}");
        assert!(report.files[&FileKind::ManifestList].files == 1, "its own goes: {report}");
    }
}

#[tokio::test]
async fn what_lies_elsewhere_goes_on_request_but_not_a_neighbours() {
    let world = World::new().await;
    let neighbours = "memory://w/db/t/data/a.parquet";
    let table = hostile(&world, |metadata| {
        metadata["statistics"] = statistics(metadata, OTHERS[0]);
        metadata["partition-statistics"] = statistics(metadata, neighbours);
    })
    .await;
    world.later();
    let expiry = ExpireSnapshots::new(table, world.shared_catalog()).older_than(days(0));
    let report = expiry.allow_outside_table(true).await.unwrap();
    assert_eq!(report.outside[&FileKind::Statistics].files, 1, "{report}");
    assert!(!world.storage.exists(OTHERS[0]).await.unwrap());
    assert!(world.storage.exists(neighbours).await.unwrap());
}

#[tokio::test]
async fn a_purge_deletes_no_file_outside_of_its_table() {
    let world = World::new().await;
    let theirs = world.table().await;
    let table = hostile(&world, |metadata| {
        let log = |file: &str| json!({"metadata-file": file, "timestamp-ms": 1});
        // Another table's metadata, which names all that it has, and what is no metadata.
        metadata["metadata-log"] = json!([log(theirs.metadata_location()), log(OTHERS[1])]);
    })
    .await;
    world.storage.delete(OTHERS[1]).await.unwrap();
    let before = files(&world.storage, HOSTILE).await;
    let report = Purge::new(table, world.shared_catalog()).await.unwrap();
    assert_eq!(files(&world.storage, HOSTILE).await, before, "{report}");
    check(&world.table().await).await.unwrap();
    assert_eq!(report.outside[&FileKind::Metadata].files, 2, "{report}");
    // Of its own nothing is left but the metadata file that the log does not name any more.
    assert!(report.files[&FileKind::Data].files == 3, "{report}");
}

#[tokio::test]
async fn an_orphan_removal_follows_no_property() {
    let world = World::new().await;
    for property in ["write.data.path", "write.metadata.path", "write.object-storage.path"] {
        for place in ["memory://w", "memory://w/keys", "memory://w/db", "memory://w/db/t"] {
            let world = world.fork().await;
            let table = hostile(&world, |metadata| metadata["properties"][property] = json!(place)).await;
            litter(&world.storage, HOSTILE, &["litter"]).await;
            let before = files(&world.storage, HOSTILE).await;
            world.later();
            let removal = RemoveOrphanFiles::new(table, world.shared_catalog());
            let removed = removal.check_other_tables(false).await.unwrap();
            assert_eq!(files(&world.storage, HOSTILE).await, before, "{property} {place}: {removed}");
            assert!(!world.storage.exists(&format!("{HOSTILE}/litter")).await.unwrap());
        }
    }
}

#[tokio::test]
async fn a_whole_store_is_no_tables_folder() {
    let world = World::new().await;
    let table = hostile(&world, |metadata| metadata["location"] = json!("memory://w/")).await;
    let before = files(&world.storage, "nothing").await;
    world.later();
    let removal = || RemoveOrphanFiles::new(table.clone(), world.shared_catalog()).check_other_tables(false);
    for removal in [removal(), removal().location("memory://w").allow_outside_table(true)] {
        assert_eq!(removal.await.unwrap_err().kind(), ErrorKind::InvalidInput);
    }
    let purge = Purge::new(table.clone(), world.shared_catalog()).check_other_tables(false);
    let report = purge.await.unwrap();
    assert_eq!(report.files.values().map(|count| count.files).sum::<u64>(), 0, "{report}");
    assert_eq!(files(&world.storage, "nothing").await, before);
}

#[tokio::test]
async fn tables_of_one_folder_expire_no_file_of_each_other() {
    let world = World::new().await;
    for name in ["a", "b", "c"] {
        world.append(&[name]).await;
    }
    let table = world.table().await;
    world.catalog.register_table(&ident("twin"), table.metadata_location()).await.unwrap();
    let before = files(&world.storage, "nothing").await;
    let error = world.expire().await.older_than(days(0)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    assert!(error.to_string().contains("twin"), "{error}");
    assert_eq!(files(&world.storage, "nothing").await, before);
}

#[cfg(unix)]
#[tokio::test]
async fn a_link_in_a_tables_folder_leads_to_no_deletion() {
    use std::sync::Arc;

    use arrow::datatypes::{DataType, Field, Schema as ArrowSchema};
    use icefield_engine::Session;

    let folder = tempfile::tempdir().unwrap();
    let precious = folder.path().join("precious");
    std::fs::create_dir_all(&precious).unwrap();
    std::fs::write(precious.join("id"), "key").unwrap();
    let lake = folder.path().join("lake");
    let session = Session::builder().warehouse(lake.display().to_string()).build().unwrap();
    let id = Field::new("id", DataType::Int64, true);
    let table = session.create_table("db.t", Arc::new(ArrowSchema::new(vec![id]))).await.unwrap();
    std::fs::create_dir_all(lake.join("db/t/data")).unwrap();
    std::os::unix::fs::symlink(&precious, lake.join("db/t/data/link")).unwrap();
    std::fs::write(lake.join("db/t/data/litter"), "x").unwrap();
    // Whatever the ticks of clocks, it is older than now.
    let litter = std::fs::File::options().write(true).open(lake.join("db/t/data/litter")).unwrap();
    litter.set_modified(std::time::UNIX_EPOCH).unwrap();
    let removal = icefield_maintenance::remove_orphan_files(&table).older_than(days(0)).force(true);
    let report = removal.await.unwrap();
    assert!(precious.join("id").exists(), "{report}");
    assert!(!lake.join("db/t/data/litter").exists(), "{report}");
}

/// The world's table with rows, and one whose owner says that it lies inside of it, or around.
async fn overlapping(world: &World, location: &str, change: impl FnOnce(&mut Value)) -> Table {
    for name in ["b", "c"] {
        world.append(&[name]).await;
    }
    hostile(world, |metadata| {
        metadata["location"] = json!(location);
        change(metadata);
    })
    .await
}

#[tokio::test]
async fn a_table_inside_anothers_folder_deletes_none_of_its_files() {
    for location in ["memory://w/db/t/data", "memory://w/db"] {
        let world = World::new().await;
        let theirs = "memory://w/db/t/data/a.parquet";
        let table = overlapping(&world, location, |metadata| {
            metadata["statistics"] = statistics(metadata, theirs);
            metadata["snapshots"][1]["manifest-list"] = metadata["snapshots"][2]["manifest-list"].clone();
        })
        .await;
        let own = format!("{location}/litter");
        world.storage.write(&own, "litter").await.unwrap();
        world.later();
        let expiry = ExpireSnapshots::new(table.clone(), world.shared_catalog()).older_than(days(0));
        let expired = expiry.await.unwrap();
        world.assert_whole().await;
        assert!(world.storage.exists(theirs).await.unwrap(), "{location}: {expired}");
        let removal = RemoveOrphanFiles::new(table.clone(), world.shared_catalog()).older_than(days(1));
        let removed = removal.await.unwrap();
        world.assert_whole().await;
        assert!(!world.storage.exists(&own).await.unwrap(), "{location}: {removed}");
        let purged = Purge::new(table, world.shared_catalog()).await.unwrap();
        world.assert_whole().await;
        assert!(world.storage.exists(theirs).await.unwrap(), "{location}: {purged}");
    }
}

#[tokio::test]
async fn a_table_in_anothers_folder_of_metadata_is_refused() {
    let world = World::new().await;
    let table = overlapping(&world, "memory://w/db/t/metadata", |_| {}).await;
    let before = files(&world.storage, "nothing").await;
    world.later();
    let expiry = ExpireSnapshots::new(table.clone(), world.shared_catalog()).older_than(days(0));
    let removal = RemoveOrphanFiles::new(table.clone(), world.shared_catalog());
    let purge = Purge::new(table, world.shared_catalog());
    for error in [expiry.await.unwrap_err(), removal.await.unwrap_err(), purge.await.unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    }
    assert_eq!(files(&world.storage, "nothing").await, before);
}

#[tokio::test]
async fn a_folder_below_anothers_is_not_emptied_on_request() {
    let world = World::new().await;
    let table = overlapping(&world, "memory://w/db", |_| {}).await;
    let before = files(&world.storage, "nothing").await;
    world.later();
    let removal = RemoveOrphanFiles::new(table, world.shared_catalog());
    let removed = removal.location("memory://w/db/t/data").await.unwrap();
    assert_eq!(files(&world.storage, "nothing").await, before, "{removed}");
}
