//! Purging deletes what the table names, all of it and nothing else.

use std::sync::Arc;

use futures::TryStreamExt;
use iceberg::spec::FormatVersion;
use icefield_core::ErrorKind;
use icefield_core::catalog::{Catalog, TableIdent};
use icefield_core::format::load_manifest_list;
use icefield_core::storage::FileEntry;
use icefield_maintenance::{ExpireSnapshots, FileKind, Purge, iceberg_catalog};
use icefield_testkit::CatalogKind;

use crate::world::World;

async fn files(world: &World) -> Vec<String> {
    let mut found: Vec<FileEntry> = world.storage.list("memory://w/db").try_collect().await.unwrap();
    found.sort_by(|a, b| a.location.cmp(&b.location));
    found.into_iter().map(|file| file.location).collect()
}

#[tokio::test]
async fn a_purged_table_leaves_only_what_it_never_named() {
    for kind in CatalogKind::ALL {
        let world = World::of(kind, FormatVersion::V2, &[]).await;
        for n in 0..4 {
            world.append(&[&format!("f{n}")]).await;
        }
        world.replace(&["f1"], &[]).await;
        let expiry = ExpireSnapshots::new(world.table().await, world.catalog.clone());
        expiry.older_than_ms(i64::MAX).await.unwrap();
        let stray = "memory://w/db/t/data/stray.parquet";
        world.storage.write(stray, "nobody names it").await.unwrap();
        assert!(files(&world).await.len() > 8);

        let report = Purge::new(world.table().await, world.catalog.clone()).await.unwrap();
        assert!(report.failures.is_empty());
        assert_eq!(report.files[&FileKind::Data].files, 3, "{report}");
        assert_eq!(files(&world).await, [stray]);
        assert!(!world.catalog.table_exists(&world.ident).await.unwrap());
    }
}

#[tokio::test]
async fn files_that_other_tables_may_share_are_not_purged() {
    let world = World::with(FormatVersion::V2, &[("gc.enabled", "false")]).await;
    world.append(&["f"]).await;
    let before = files(&world).await;
    let error = Purge::new(world.table().await, world.catalog.clone()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert_eq!(files(&world).await, before);
    assert!(world.catalog.table_exists(&world.ident).await.unwrap());
}

#[tokio::test]
async fn a_table_that_can_not_be_read_whole_stays() {
    let world = World::new().await;
    world.append(&["f"]).await;
    let table = world.table().await;
    let list = table.metadata().current_snapshot().unwrap().manifest_list().to_string();
    world.storage.write(&list, "not a manifest list").await.unwrap();
    let error = Purge::new(table, world.catalog.clone()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DataInvalid);
    assert!(world.catalog.table_exists(&world.ident).await.unwrap());
}

#[tokio::test]
async fn a_purge_of_what_can_be_read_keeps_and_names_the_rest() {
    let world = World::new().await;
    for n in 0..4 {
        world.append(&[&format!("f{n}")]).await;
    }
    let table = world.table().await;
    let snapshots: Vec<_> =
        table.ancestors(table.metadata().current_snapshot_id().unwrap()).cloned().collect();
    let manifests = load_manifest_list(&world.storage, &snapshots[1]).await.unwrap();
    let of = |n: usize| manifests.iter().find(|m| m.added_snapshot_id == snapshots[n].snapshot_id()).unwrap();
    // One manifest is broken, one is missing, and one list is.
    let (broken, missing) = (of(1).manifest_path.clone(), of(2).manifest_path.clone());
    let lost = snapshots[3].manifest_list().to_string();
    let whole = world.storage.read(&broken).await.unwrap();
    let gone = world.storage.read(&missing).await.unwrap();
    world.storage.write(&broken, "not a manifest").await.unwrap();
    world.storage.delete(&missing).await.unwrap();
    world.storage.write(&lost, "not a manifest list").await.unwrap();
    let before = files(&world).await;

    let error = Purge::new(table.clone(), world.catalog.clone()).await.unwrap_err();
    assert!(error.to_string().contains("skip_unreadable"), "{error}");
    assert_eq!(files(&world).await, before);
    let purge = Purge::new(table.clone(), world.catalog.clone()).skip_unreadable(true);
    let report = purge.await.unwrap();
    let mut skipped: Vec<_> = report.unreadable.iter().map(|file| file.location.clone()).collect();
    skipped.sort();
    let mut expected = vec![broken.clone(), missing.clone(), lost.clone()];
    expected.sort();
    assert_eq!((skipped, report.failures.len()), (expected, 0), "{report}");
    assert_eq!(report.files[&FileKind::Data].files, 2, "{report}");
    assert!(report.to_string().contains(&broken), "{report}");
    assert_eq!(report.kept_metadata.as_deref(), Some(table.metadata_location()));
    assert!(!world.catalog.table_exists(&world.ident).await.unwrap());
    let left = files(&world).await;
    let mut kept = vec![broken.clone(), lost.clone(), table.metadata_location().to_string()];
    kept.extend(snapshots[..3].iter().map(|snapshot| snapshot.manifest_list().to_string()));
    kept.extend(before.iter().filter(|file| file.contains("/data/f1") || file.contains("/data/f2")).cloned());
    kept.sort();
    assert_eq!(left, kept);

    // With what was restored the rest goes.
    world.storage.write(&broken, whole).await.unwrap();
    world.storage.write(&missing, gone).await.unwrap();
    world.storage.delete(&lost).await.unwrap();
    let again = world.catalog.register_table(&world.ident, table.metadata_location()).await.unwrap();
    let report = Purge::new(again, world.catalog.clone()).skip_unreadable(true).await.unwrap();
    assert_eq!(report.files[&FileKind::Data].files, 2, "{report}");
}

#[tokio::test]
async fn crates_that_are_built_on_iceberg_purge_through_its_trait() {
    let world = World::new().await;
    world.append(&["f"]).await;
    let catalog: Arc<dyn Catalog> = world.catalog.clone();
    iceberg::Catalog::purge_table(&iceberg_catalog(catalog), &world.ident).await.unwrap();
    assert_eq!(files(&world).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_table_registered_under_two_names_is_not_purged_by_one() {
    let world = World::new().await;
    world.append(&["f"]).await;
    let table = world.table().await;
    let other = TableIdent::new(world.ident.namespace().clone(), "other".to_string());
    world.catalog.register_table(&other, table.metadata_location()).await.unwrap();
    let before = files(&world).await;
    let error = Purge::new(table.clone(), world.catalog.clone()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    assert_eq!(files(&world).await, before);
    assert!(world.catalog.table_exists(&world.ident).await.unwrap());

    world.catalog.drop_table(&other).await.unwrap();
    Purge::new(table, world.catalog.clone()).await.unwrap();
    assert_eq!(files(&world).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_report_says_so_where_sizes_are_not_known() {
    let world = World::new().await;
    for name in ["a", "b", "c"] {
        world.append(&[name]).await;
    }
    let expiry = ExpireSnapshots::new(world.table().await, world.catalog.clone());
    let report = expiry.older_than_ms(i64::MAX).await.unwrap();
    assert_eq!(report.files[&FileKind::ManifestList].unknown_sizes, 2);
    let shown = report.to_string();
    assert!(shown.contains("deleted 2 files (size unknown): 2 manifest lists"), "{shown}");
    let report = Purge::new(world.table().await, world.catalog.clone()).await.unwrap();
    let shown = report.to_string();
    assert!(shown.contains(" of unknown size)"), "{shown}");
}
