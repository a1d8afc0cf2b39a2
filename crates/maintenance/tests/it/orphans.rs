//! Orphan removal: what goes, and everything that keeps a file back.

use iceberg::spec::FormatVersion;
use icefield_core::ErrorKind;
use icefield_core::catalog::{Catalog, TableUpdate};
use icefield_core::commit::Transaction;
use icefield_maintenance::{KeptReason, PrefixMismatch, days, hours, minutes};
use icefield_testkit::CommitFault;

use crate::world::{World, content_file, litter};

const TABLE: &str = "memory://w/db/t";

#[tokio::test]
async fn what_nothing_names_goes_and_everything_else_stays() {
    for version in [FormatVersion::V1, FormatVersion::V2, FormatVersion::V3] {
        let w = World::with(version, &[]).await;
        w.append(&["a"]).await;
        w.replace(&["a"], &["b"]).await;
        let whole = w.stored().await;
        litter(&w.storage, TABLE, &["data/x.parquet", "data/p=1/y.parquet", "metadata/z.avro", "z"]).await;

        let dry = w.remove_orphans().await.dry_run(true).await.unwrap();
        assert_eq!(dry.orphans.len(), 4, "{version:?}");
        assert_eq!((dry.deleted.files, w.stored().await.len()), (0, whole.len() + 4));

        let report = w.remove_orphans().await.await.unwrap();
        assert_eq!(report.orphans, dry.orphans);
        assert_eq!((report.deleted.files, report.deleted.bytes), (4, 24));
        assert_eq!(report.reachable.files, whole.len() as u64);
        assert_eq!(w.stored().await, whole);
        w.assert_whole().await;
    }
}

#[tokio::test]
async fn what_failed_operations_left_behind_goes() {
    let w = World::new().await;
    w.append(&["a"]).await;
    let whole = w.stored().await;
    let files = w.files(&["lost"]).await;
    w.catalog.queue([CommitFault::LostRequest]);
    let failed = Transaction::new(&w.table().await).append(files).commit(&*w.catalog).await;
    assert!(failed.unwrap_err().is_commit_state_unknown());
    let left: Vec<_> = w.stored().await.difference(&whole).cloned().collect();
    assert_eq!(left.len(), 3, "a data file, a manifest and a manifest list: {left:?}");
    let report = w.remove_orphans().await.await.unwrap();
    assert_eq!(report.deleted.files, 3);
    assert_eq!(w.stored().await, whole);
    w.assert_whole().await;
}

/// iceberg#4194, amoro#2925: files that a running write had yet to commit were deleted.
#[tokio::test]
async fn a_file_stays_until_it_is_old_by_the_stores_own_clock() {
    let w = World::new().await;
    w.append(&["a"]).await;
    litter(&w.storage, TABLE, &["data/old"]).await;
    let cutoff = w.store_now_ms().await;
    let files = w.files(&["running"]).await;
    w.later();
    let report = w.remove_orphans().await.older_than_ms(cutoff).await.unwrap();
    assert_eq!(report.deleted.files, 1);
    let kept: Vec<_> = report.kept.iter().map(|f| (f.location.as_str(), f.reason.clone())).collect();
    assert_eq!(kept, [("memory://w/db/t/data/running.parquet", KeptReason::TooYoung)]);
    w.commit(|t| t.append(files)).await;
    w.assert_whole().await;
}

#[tokio::test]
async fn an_age_under_a_day_is_refused_unless_it_is_forced() {
    let w = World::new().await;
    w.append(&["a"]).await;
    litter(&w.storage, TABLE, &["data/x"]).await;
    let error = w.remove_orphans().await.older_than(hours(23)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("force"), "{error}");
    w.remove_orphans().await.older_than(hours(24)).dry_run(true).await.unwrap();
    let report = w.remove_orphans().await.older_than(minutes(1)).force(true).await.unwrap();
    assert_eq!(report.deleted.files, 1);
}

#[tokio::test]
async fn a_table_whose_files_may_be_shared_is_refused() {
    let w = World::with(FormatVersion::V2, &[("gc.enabled", "false")]).await;
    litter(&w.storage, TABLE, &["data/x"]).await;
    let error = w.remove_orphans().await.await.unwrap_err();
    assert!(error.to_string().contains("gc.enabled"), "{error}");
    assert!(w.storage.exists("memory://w/db/t/data/x").await.unwrap());
}

/// ducklake#815, iceberg#2131: locations with a trailing or doubled slash, or an escaped name, were not recognised.
#[tokio::test]
async fn a_live_file_is_recognised_however_its_location_is_spelled() {
    let w = World::new().await;
    w.create(
        "slash",
        Some("memory://w/db/slash/"),
        FormatVersion::V2,
        &[("write.data.path", "memory://w/db/slash/data/")],
    )
    .await;
    let ident = icefield_core::catalog::parse_ident("db.slash").unwrap();
    let spelled = [
        ("memory://w/db/slash/data/a.parquet", "memory://w/db/slash//data/a.parquet"),
        ("memory://w/db/slash/data/p=x%2Fy/b.parquet", "memory://w/db/slash/data/p=x%252Fy/b.parquet"),
        ("memory://w/db/slash/data/p=x y/c.parquet", "memory://w/db/slash/data/p=x%20y/c.parquet"),
        ("memory://w/db/slash/data/d.parquet", "/db/slash/data/d.parquet"),
    ];
    let mut files = Vec::new();
    for (stored, named) in spelled {
        w.storage.write(stored, "rows").await.unwrap();
        files.push(content_file(named));
    }
    let table = w.catalog.load_table(&ident).await.unwrap();
    Transaction::new(&table).append(files).commit(&*w.catalog).await.unwrap();
    litter(&w.storage, "memory://w/db/slash", &["data/x"]).await;
    w.later();
    let table = w.catalog.load_table(&ident).await.unwrap();
    let report = icefield_maintenance::RemoveOrphanFiles::new(table, w.shared_catalog()).await.unwrap();
    assert_eq!(report.deleted.files, 1, "{report}");
    for (stored, _) in spelled {
        assert!(w.storage.exists(stored).await.unwrap(), "{stored}");
    }
}

/// iceberg#4194 and what came of it: the metadata names files by another scheme or authority than the listing.
#[tokio::test]
async fn a_file_that_differs_in_scheme_or_authority_only_stops_everything_until_the_caller_decides() {
    let w = World::new().await;
    w.append(&["a"]).await;
    w.storage.write("memory://w/db/t/data/m.parquet", "rows").await.unwrap();
    w.commit(|t| t.append(vec![content_file("hdfs://nn1/db/t/data/m.parquet")])).await;
    litter(&w.storage, TABLE, &["data/x"]).await;
    let before = w.stored().await;
    let error = w.remove_orphans().await.await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("hdfs://nn1/db/t/data/m.parquet"), "{error}");
    assert_eq!(w.stored().await, before);

    let report =
        w.remove_orphans().await.prefix_mismatch(PrefixMismatch::Ignore).dry_run(true).await.unwrap();
    assert_eq!(report.orphans.len(), 1);
    assert!(
        matches!(&report.kept[0].reason, KeptReason::PrefixMismatch(named) if named.starts_with("hdfs://"))
    );
    let report =
        w.remove_orphans().await.prefix_mismatch(PrefixMismatch::Delete).dry_run(true).await.unwrap();
    assert_eq!(report.orphans.len(), 2);

    let report = w
        .remove_orphans()
        .await
        .equal_schemes("hdfs", "memory")
        .equal_authorities("nn1,nn2", "w")
        .await
        .unwrap();
    assert_eq!(report.deleted.files, 1);
    assert!(w.storage.exists("memory://w/db/t/data/m.parquet").await.unwrap());
}

#[tokio::test]
async fn what_an_earlier_metadata_file_reaches_stays_until_that_file_leaves_the_log() {
    let w = World::with(FormatVersion::V2, &[("write.metadata.previous-versions-max", "4")]).await;
    w.append(&["a"]).await;
    w.replace(&["a"], &["b"]).await;
    // An expiry that could not delete: what only the old snapshot held is still there.
    w.store.arm_when(|op| {
        (op.kind == icefield_testkit::OpKind::Delete).then_some(icefield_testkit::Fault::Fail)
    });
    let expired = w.expire().await.older_than(days(0)).await.unwrap();
    w.store.disarm();
    assert!(!expired.failures.is_empty(), "{expired}");
    let report = w.remove_orphans().await.await.unwrap();
    let kept: Vec<_> = report.kept.iter().filter(|f| f.reason == KeptReason::PreviousMetadata).collect();
    assert!(!kept.is_empty());
    assert_eq!(report.deleted.files, 0, "{report}");
    for name in ["c", "d", "e", "f", "g"] {
        w.append(&[name]).await;
    }
    let report = w.remove_orphans().await.await.unwrap();
    assert!(report.kept.is_empty(), "{report}");
    assert!(!w.stored_data().await.contains(&"a".to_string()));
    w.assert_whole().await;
}

#[tokio::test]
async fn an_earlier_metadata_file_that_is_gone_is_told_and_a_damaged_one_stops_everything() {
    let w = World::new().await;
    w.append(&["a"]).await;
    w.append(&["b"]).await;
    litter(&w.storage, TABLE, &["data/x"]).await;
    let table = w.table().await;
    let log = table.metadata().metadata_log();
    let (gone, damaged) = (&log[0].metadata_file, &log[1].metadata_file);
    w.storage.delete(gone).await.unwrap();
    let bytes = w.storage.read(damaged).await.unwrap();
    w.storage.write(damaged, "{").await.unwrap();
    let error = w.remove_orphans().await.await.unwrap_err();
    assert!(error.to_string().contains(damaged), "{error}");
    assert!(w.storage.exists("memory://w/db/t/data/x").await.unwrap());
    w.storage.write(damaged, bytes).await.unwrap();
    let report = w.remove_orphans().await.await.unwrap();
    assert_eq!(report.missing_metadata, [gone.as_str()]);
    assert_eq!(report.deleted.files, 1);
}

#[tokio::test]
async fn a_table_that_has_lost_a_file_is_not_cleaned() {
    let w = World::new().await;
    w.append(&["a"]).await;
    litter(&w.storage, TABLE, &["data/x"]).await;
    let list = w.table().await.metadata().current_snapshot().unwrap().manifest_list().to_string();
    w.storage.delete(&list).await.unwrap();
    assert_eq!(w.remove_orphans().await.await.unwrap_err().kind(), ErrorKind::NotFound);
    assert!(w.storage.exists("memory://w/db/t/data/x").await.unwrap());
}

#[tokio::test]
async fn hidden_files_and_the_version_hint_stay() {
    let w = World::new().await;
    w.append(&["a"]).await;
    let hidden = ["data/_SUCCESS", "data/_temporary/0/x", "data/.x.crc", "metadata/version-hint.text"];
    litter(&w.storage, TABLE, &hidden).await;
    let report = w.remove_orphans().await.await.unwrap();
    assert_eq!(report.deleted.files, 0, "{report}");
    let hint: Vec<_> = report.kept.iter().filter(|f| f.reason == KeptReason::VersionHint).collect();
    assert_eq!((report.kept.len(), hint.len()), (4, 1));
}

#[tokio::test]
async fn folders_that_properties_name_are_looked_through_on_request() {
    let w = World::with(
        FormatVersion::V2,
        &[("write.data.path", "memory://w/elsewhere"), ("write.metadata.path", "memory://w/meta/t")],
    )
    .await;
    w.append(&["a"]).await;
    litter(&w.storage, "memory://w/elsewhere", &["x"]).await;
    litter(&w.storage, "memory://w/meta/t", &["y"]).await;
    litter(&w.storage, TABLE, &["z"]).await;
    // Whoever may set properties chooses the folders: they are looked through where the caller says so.
    let report = w.remove_orphans().await.dry_run(true).await.unwrap();
    assert_eq!((&report.locations[..], report.orphans.len()), (&[TABLE.to_string()][..], 1));
    let report = w.remove_orphans().await.allow_outside_table(true).await.unwrap();
    assert_eq!(report.locations, [TABLE, "memory://w/elsewhere", "memory://w/meta/t"]);
    assert_eq!(report.deleted.files, 3);
    w.assert_whole().await;
}

#[tokio::test]
async fn a_folder_of_the_same_path_in_another_bucket_is_looked_through_on_request() {
    let w = World::with(FormatVersion::V2, &[("write.data.path", "memory://other/db/t")]).await;
    w.append(&["a"]).await;
    litter(&w.storage, "memory://other/db/t", &["x"]).await;
    litter(&w.storage, TABLE, &["y"]).await;
    let report = w.remove_orphans().await.allow_outside_table(true).await.unwrap();
    assert_eq!((report.locations.len(), report.deleted.files), (2, 2), "{report}");
    w.assert_whole().await;
}

#[tokio::test]
async fn only_the_folder_that_is_named_is_looked_through() {
    let w = World::new().await;
    w.append(&["a"]).await;
    litter(&w.storage, TABLE, &["data/x", "data/p=1/y", "metadata/z"]).await;
    let report = w.remove_orphans().await.location("memory://w/db/t/data/p=1/").await.unwrap();
    assert_eq!(
        report.orphans.iter().map(|f| f.location.as_str()).collect::<Vec<_>>(),
        ["memory://w/db/t/data/p=1/y"]
    );
}

#[tokio::test]
async fn a_folder_that_is_not_the_tables_is_refused_unless_it_is_meant() {
    let w = World::new().await;
    w.append(&["a"]).await;
    litter(&w.storage, "memory://w/raw", &["x.csv"]).await;
    let elsewhere = "memory://other/db/t"; // the same path in another bucket
    litter(&w.storage, elsewhere, &["data/x"]).await;
    for location in ["memory://w/raw", "memory://w", "memory://w/db", "memory://w/db/t2", elsewhere, "/db/t"]
    {
        let error = w.remove_orphans().await.location(location).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{location}");
    }
    let report = w.remove_orphans().await.location("memory://w/raw").allow_outside_table(true).await.unwrap();
    assert_eq!(report.deleted.files, 1);
}

#[tokio::test]
async fn the_files_of_other_tables_stay_wherever_their_folders_are() {
    let w = World::new().await;
    w.append(&["a"]).await;
    w.create("inner", Some("memory://w/db/t/inner"), FormatVersion::V2, &[]).await;
    litter(&w.storage, TABLE, &["inner/data/x", "data/y"]).await;
    let report = w.remove_orphans().await.await.unwrap();
    assert_eq!(
        report.orphans.iter().map(|f| f.location.as_str()).collect::<Vec<_>>(),
        ["memory://w/db/t/data/y"]
    );
    assert!(report.kept.iter().all(|f| f.reason == KeptReason::OtherTable("db.inner".to_string())));

    // Two tables in one folder: nobody can tell whose the files are.
    w.create("twin", Some("memory://w/db/t/"), FormatVersion::V2, &[]).await;
    let error = w.remove_orphans().await.await.unwrap_err();
    assert!(error.to_string().contains("db.twin"), "{error}");
    w.remove_orphans().await.location("memory://w/db/t/data").dry_run(true).await.unwrap();
}

#[tokio::test]
async fn a_file_that_cannot_be_deleted_is_told_and_the_others_go() {
    let w = World::new().await;
    w.append(&["a"]).await;
    litter(&w.storage, TABLE, &["data/x", "data/y", "data/z"]).await;
    w.store.arm_when(|op| {
        let hit = op.kind == icefield_testkit::OpKind::Delete && op.path.ends_with("data/y");
        hit.then_some(icefield_testkit::Fault::Fail)
    });
    let report = w.remove_orphans().await.await.unwrap();
    w.store.disarm();
    assert_eq!((report.deleted.files, report.failures.len()), (2, 1));
    assert!(report.failures[0].location.ends_with("data/y"));
    assert_eq!(w.remove_orphans().await.await.unwrap().deleted.files, 1);
}

#[tokio::test]
async fn a_branch_s_and_a_tag_s_files_are_reachable() {
    let w = World::new().await;
    let first = w.append(&["a"]).await;
    w.branch("audit", first).await;
    w.append_to("audit", &["x"]).await;
    w.tag("t", first).await;
    w.replace(&["a"], &["b"]).await;
    let report = w.remove_orphans().await.await.unwrap();
    assert_eq!(report.deleted.files, 0, "{report}");
    w.assert_whole().await;
}

#[tokio::test]
async fn a_metadata_file_in_use_stays_when_the_log_is_cut_to_one() {
    let w = World::with(FormatVersion::V2, &[("write.metadata.previous-versions-max", "1")]).await;
    for name in ["a", "b", "c"] {
        w.append(&[name]).await;
    }
    w.change(vec![TableUpdate::SetProperties { updates: [("k".to_string(), "v".to_string())].into() }]).await;
    let report = w.remove_orphans().await.await.unwrap();
    let metadata: Vec<_> = w.stored().await.into_iter().filter(|f| f.ends_with(".metadata.json")).collect();
    assert_eq!(metadata.len(), 2, "the current one and the one before: {report}");
    w.assert_whole().await;
}
