//! Expiry: what goes, what stays, and what others do meanwhile.

use std::sync::Arc;

use iceberg::spec::{
    FormatVersion, NestedField, PartitionStatisticsFile, PrimitiveType, Schema, StatisticsFile, Transform,
    Type, UnboundPartitionSpec,
};
use icefield_core::ErrorKind;
use icefield_core::catalog::TableUpdate;
use icefield_core::format::load_manifest_list;
use icefield_maintenance::{FileKind, days};
use icefield_testkit::CommitFault;

use crate::world::World;

#[tokio::test]
async fn old_snapshots_go_and_the_files_that_only_they_held() {
    for version in [FormatVersion::V1, FormatVersion::V2, FormatVersion::V3] {
        let w = World::with(version, &[]).await;
        let first = w.append(&["a", "b"]).await;
        let second = w.replace(&["a"], &["c"]).await;
        let third = w.append(&["d"]).await;

        let report = w.expire().await.older_than(days(0)).await.unwrap();
        assert_eq!(report.snapshots, sorted(vec![first, second]), "{version:?}");
        assert_eq!(report.files[&FileKind::Data].files, 1, "a is held by no snapshot that stays");
        assert_eq!(report.files[&FileKind::Data].bytes, 100);
        assert_eq!(report.files[&FileKind::ManifestList].files, 2);
        assert!(report.failures.is_empty() && report.cleanup_error.is_none());
        assert_eq!(w.stored_data().await, ["b", "c", "d"]);
        let table = w.table().await;
        assert_eq!(table.metadata().snapshots().map(|s| s.snapshot_id()).collect::<Vec<_>>(), [third]);
        w.assert_whole().await;
    }
}

#[tokio::test]
async fn the_defaults_are_five_days_and_one_snapshot_and_properties_change_them() {
    for (properties, age, young_from, kept) in [
        (&[][..], days(5), 3, 5),
        (&[("history.expire.max-snapshot-age-ms", "172800000")], days(2), 6, 2),
        (
            &[("history.expire.min-snapshots-to-keep", "7"), ("history.expire.max-snapshot-age-ms", "1")],
            days(9),
            7,
            7,
        ),
    ] {
        let w = World::with(FormatVersion::V2, properties).await;
        let mut ids = Vec::new();
        for name in ["a", "b", "c", "d", "e", "f", "g", "h"] {
            ids.push(w.append(&[name]).await);
        }
        w.after(ids[young_from], age).await;
        w.expire_now().await.await.unwrap();
        assert_eq!(w.table().await.metadata().snapshots().len(), kept, "{properties:?}");
        w.assert_whole().await;
    }
}

#[tokio::test]
async fn a_dry_run_tells_exactly_what_a_run_does() {
    let w = World::new().await;
    w.append(&["a"]).await;
    w.replace(&["a"], &["b"]).await;
    w.append(&["c"]).await;
    let before = w.stored().await;
    let dry = w.expire().await.older_than(days(0)).dry_run(true).await.unwrap();
    assert_eq!(w.stored().await, before);
    let run = w.expire().await.older_than(days(0)).await.unwrap();
    assert_eq!((dry.snapshots, dry.files), (run.snapshots, run.files));
    assert!(dry.dry_run && !run.dry_run);
}

#[tokio::test]
async fn with_nothing_to_expire_nothing_is_committed() {
    let w = World::new().await;
    w.append(&["a"]).await;
    let before = w.table().await.metadata_location().to_string();
    let report = w.expire().await.await.unwrap();
    assert_eq!((report.snapshots.len(), report.attempts), (0, 0));
    assert_eq!(w.table().await.metadata_location(), before);
}

/// iceberg#10982: a snapshot was expired whose deletes were of a file that an earlier, kept snapshot still holds.
#[tokio::test]
async fn expiring_a_snapshot_out_of_the_middle_keeps_what_an_earlier_one_holds() {
    let w = World::new().await;
    let first = w.append(&["a"]).await;
    let second = w.replace(&["a"], &[]).await;
    w.append(&["b"]).await;
    w.expire().await.older_than(days(30)).snapshot_ids([second]).await.unwrap();
    assert_eq!(w.stored_data().await, ["a", "b"]);
    assert!(w.table().await.metadata().snapshot_by_id(first).is_some());
    w.assert_whole().await;
}

/// iceberg#13568: with several references, manifests of a kept branch were taken for those of nobody.
#[tokio::test]
async fn what_a_branch_or_tag_holds_stays_though_main_has_moved_on() {
    let w = World::new().await;
    let first = w.append(&["a"]).await;
    w.branch("audit", first).await;
    let audit = w.append_to("audit", &["x"]).await;
    let second = w.replace(&["a"], &["b"]).await;
    w.tag("month-end", second).await;
    w.replace(&["b"], &["c"]).await;
    let report = w.expire().await.older_than(days(0)).await.unwrap();
    assert_eq!(report.snapshots, [first]);
    assert_eq!(w.stored_data().await, ["a", "b", "c", "x"]);
    assert!(w.table().await.metadata().snapshot_by_id(audit).is_some());
    w.assert_whole().await;
}

#[tokio::test]
async fn a_tag_of_version_1_outlives_an_expiry() {
    let w = World::with(FormatVersion::V1, &[]).await;
    let first = w.append(&["a", "b"]).await;
    w.tag("eoy", first).await;
    let second = w.replace(&["a"], &["c"]).await;
    w.append(&["d"]).await;
    // Whoever reads the file sees the tag.
    let w = w.fork().await;
    let report = w.expire().await.older_than(days(0)).await.unwrap();
    assert_eq!(report.snapshots, [second]);
    let table = w.table().await;
    assert_eq!(table.reference("eoy").unwrap().snapshot_id, first);
    assert_eq!(w.stored_data().await, ["a", "b", "c", "d"]);
    w.assert_whole().await;
    let upgrade = TableUpdate::UpgradeFormatVersion { format_version: FormatVersion::V2 };
    assert_eq!(w.change(vec![upgrade]).await.reference("eoy").unwrap().snapshot_id, first);
}

#[tokio::test]
async fn a_branch_and_a_tag_that_are_too_old_go_with_their_files() {
    let w = World::with(FormatVersion::V2, &[("history.expire.max-ref-age-ms", "172800000")]).await;
    let first = w.append(&["a"]).await;
    w.branch("old", first).await;
    w.append_to("old", &["x"]).await;
    w.tag("older", first).await;
    let second = w.replace(&["a"], &["b"]).await;
    w.append(&["c"]).await;
    w.tag("fresh", second).await;
    w.after(second, days(2)).await;
    let report = w.expire_now().await.older_than(days(0)).await.unwrap();
    assert_eq!(report.refs, ["old", "older"]);
    assert_eq!(w.stored_data().await, ["b", "c"]);
    let table = w.table().await;
    let names: Vec<_> = table.references().iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["fresh", "main"]);
    w.assert_whole().await;
}

#[tokio::test]
async fn a_snapshot_that_main_was_rolled_back_from_goes_with_its_files_when_it_is_old() {
    let w = World::new().await;
    let first = w.append(&["a"]).await;
    let second = w.append(&["b"]).await;
    w.commit(|t| t.rollback_to(first)).await;
    let report = w.expire().await.older_than(days(0)).await.unwrap();
    assert_eq!(report.snapshots, [second]);
    assert_eq!(w.stored_data().await, ["a"]);
    w.assert_whole().await;
}

#[tokio::test]
async fn what_may_not_be_expired_is_refused_and_everything_stays() {
    let w = World::new().await;
    let first = w.append(&["a"]).await;
    let second = w.replace(&["a"], &["b"]).await;
    w.tag("t", first).await;
    let before = w.stored().await;
    for (id, word) in [(second, "main"), (first, "t")] {
        let error = w.expire().await.snapshot_ids([id]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains(word), "{error}");
    }
    assert_eq!(w.expire().await.snapshot_ids([1]).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(w.expire().await.retain_last(0).await.unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(w.stored().await, before);

    let w = World::with(FormatVersion::V2, &[("gc.enabled", "false")]).await;
    w.append(&["a"]).await;
    w.replace(&["a"], &["b"]).await;
    let error = w.expire().await.older_than(days(0)).await.unwrap_err();
    assert!(error.to_string().contains("gc.enabled"), "{error}");
    assert_eq!(w.stored_data().await, ["a", "b"]);
}

/// trino#19965: statistics files were taken for orphans.
#[tokio::test]
async fn statistics_go_with_their_snapshot_and_only_with_it() {
    let w = World::new().await;
    let first = w.append(&["a"]).await;
    let second = w.append(&["b"]).await;
    let mut paths = Vec::new();
    for id in [first, second] {
        let path = format!("memory://w/db/t/metadata/{id}.stats");
        w.storage.write(&path, "stats").await.unwrap();
        let statistics = StatisticsFile {
            snapshot_id: id,
            statistics_path: path.clone(),
            file_size_in_bytes: 5,
            file_footer_size_in_bytes: 1,
            key_metadata: None,
            blob_metadata: Vec::new(),
        };
        w.change(vec![TableUpdate::SetStatistics { statistics }]).await;
        paths.push(path);
    }
    w.remove_orphans().await.await.unwrap();
    assert!(w.storage.exists(&paths[0]).await.unwrap() && w.storage.exists(&paths[1]).await.unwrap());
    let report = w.expire().await.older_than(days(0)).await.unwrap();
    assert_eq!(report.files[&FileKind::Statistics].files, 1);
    assert!(!w.storage.exists(&paths[0]).await.unwrap() && w.storage.exists(&paths[1]).await.unwrap());
    assert!(w.table().await.metadata().statistics_for_snapshot(first).is_none());
    w.assert_whole().await;
}

#[tokio::test]
async fn partition_statistics_go_with_their_snapshot_and_only_with_it() {
    let w = World::new().await;
    let first = w.append(&["a"]).await;
    let second = w.append(&["b"]).await;
    let path = |id: i64| format!("memory://w/db/t/metadata/partition-stats-{id}.parquet");
    for id in [first, second] {
        w.storage.write(&path(id), "stats").await.unwrap();
        let partition_statistics =
            PartitionStatisticsFile { snapshot_id: id, statistics_path: path(id), file_size_in_bytes: 5 };
        w.change(vec![TableUpdate::SetPartitionStatistics { partition_statistics }]).await;
    }
    assert_eq!(w.remove_orphans().await.await.unwrap().deleted.files, 0);
    let report = w.expire().await.older_than(days(0)).await.unwrap();
    assert_eq!(report.files[&FileKind::Statistics].files, 1);
    assert!(!w.storage.exists(&path(first)).await.unwrap() && w.storage.exists(&path(second)).await.unwrap());
    assert_eq!(w.table().await.metadata().partition_statistics_iter().count(), 1);
}

#[tokio::test]
async fn a_table_that_wants_no_snapshot_kept_keeps_each_branch_s_head() {
    let w = World::with(FormatVersion::V2, &[("history.expire.min-snapshots-to-keep", "0")]).await;
    let first = w.append(&["a"]).await;
    w.append(&["b"]).await;
    let report = w.expire().await.await.unwrap();
    assert_eq!(report.snapshots, [first]);
    w.assert_whole().await;
}

#[tokio::test]
async fn specs_and_schemas_that_nothing_uses_go_when_so_asked() {
    let w = World::new().await;
    w.append(&["a"]).await;
    let column =
        |id, name: &str| NestedField::optional(id, name, Type::Primitive(PrimitiveType::Long)).into();
    let schema = Schema::builder().with_fields([column(1, "id"), column(2, "n")]).build().unwrap();
    w.change(vec![TableUpdate::AddSchema { schema }, TableUpdate::SetCurrentSchema { schema_id: -1 }]).await;
    w.append(&["b"]).await;
    for transform in [Transform::Identity, Transform::Bucket(4)] {
        let spec = UnboundPartitionSpec::builder().add_partition_field(1, "p", transform).unwrap().build();
        w.change(vec![TableUpdate::AddSpec { spec }, TableUpdate::SetDefaultSpec { spec_id: -1 }]).await;
    }
    let specs = |table: &icefield_core::Table| {
        let mut ids: Vec<_> = table.metadata().partition_specs_iter().map(|s| s.spec_id()).collect();
        ids.sort_unstable();
        ids
    };
    assert_eq!(specs(&w.table().await), [0, 1, 2]);
    let report = w.expire().await.older_than(days(0)).await.unwrap();
    assert_eq!((report.specs.len(), report.schemas.len()), (0, 0));
    let report = w.expire().await.older_than(days(0)).clean_expired_metadata(true).await.unwrap();
    assert_eq!((report.specs, report.schemas), (vec![1], vec![0]));
    assert_eq!(specs(&w.table().await), [0, 2], "files of spec 0 are still there");
    w.assert_whole().await;
}

/// iceberg#15050, #6778, #2932, duckdb-iceberg#1120: a commit that had succeeded was taken for a failure, or the other way
/// round, and files were deleted.
#[tokio::test]
async fn after_an_unknown_outcome_nothing_is_deleted() {
    let w = World::new().await;
    w.append(&["a"]).await;
    w.replace(&["a"], &["b"]).await;
    w.catalog.queue([CommitFault::LostRequest]);
    let error = w.expire().await.older_than(days(0)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::CommitStateUnknown);
    assert_eq!(w.stored_data().await, ["a", "b"]);
    w.assert_whole().await;
}

#[tokio::test]
async fn a_commit_whose_answer_was_lost_and_that_shows_in_the_table_is_done() {
    let w = World::new().await;
    w.append(&["a"]).await;
    w.replace(&["a"], &["b"]).await;
    w.catalog.queue([CommitFault::LostAnswer]);
    let report = w.expire().await.older_than(days(0)).await.unwrap();
    assert_eq!(report.snapshots.len(), 1);
    assert_eq!(w.stored_data().await, ["b"]);
    w.assert_whole().await;
}

#[tokio::test]
async fn a_commit_that_is_refused_leaves_every_file() {
    let w = World::new().await;
    w.append(&["a"]).await;
    w.replace(&["a"], &["b"]).await;
    w.catalog.queue([CommitFault::Fail]);
    w.expire().await.older_than(days(0)).await.unwrap_err();
    assert_eq!(w.stored_data().await, ["a", "b"]);
    assert_eq!(w.table().await.metadata().snapshots().len(), 2);
    // After a lost race it is tried again.
    w.catalog.queue([CommitFault::Conflict, CommitFault::Conflict]);
    let report = w.expire().await.older_than(days(0)).await.unwrap();
    assert_eq!(report.attempts, 3);
    assert_eq!(w.stored_data().await, ["b"]);
}

#[tokio::test]
async fn a_damaged_snapshot_that_stays_stops_expiry_before_anything_goes() {
    let w = World::new().await;
    w.append(&["a"]).await;
    w.append(&["b"]).await;
    w.replace(&["a"], &["c"]).await;
    let list = w.table().await.metadata().current_snapshot().unwrap().manifest_list().to_string();
    let bytes = w.storage.read(&list).await.unwrap();
    w.storage.write(&list, "not avro").await.unwrap();
    let before = w.stored().await;
    let error = w.expire().await.older_than(days(0)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DataInvalid);
    assert!(error.to_string().contains(&list), "{error}");
    assert_eq!(w.stored().await, before);
    assert_eq!(w.table().await.metadata().snapshots().len(), 3);
    w.storage.write(&list, bytes).await.unwrap();
    w.expire().await.older_than(days(0)).await.unwrap();
    w.assert_whole().await;
}

#[tokio::test]
async fn a_damaged_snapshot_that_goes_does_not_stop_expiry() {
    for damaged_list in [false, true] {
        let w = World::new().await;
        w.append(&["a"]).await;
        w.append(&["b"]).await;
        w.replace(&["a", "b"], &["c"]).await;
        let table = w.table().await;
        let snapshots = table.metadata().snapshots();
        let first = snapshots.min_by_key(|snapshot| snapshot.sequence_number()).unwrap();
        let manifests = load_manifest_list(&w.storage, first).await.unwrap();
        let damaged = match damaged_list {
            true => first.manifest_list(),
            false => manifests[0].manifest_path.as_str(),
        };
        w.storage.write(damaged, "not avro").await.unwrap();
        let report = w.expire().await.older_than(days(0)).await.unwrap();
        assert_eq!(report.snapshots.len(), 2, "{damaged_list}");
        assert_eq!(w.table().await.metadata().snapshots().len(), 1);
        // What others name still is deleted; what only the damaged file names is left, for the removal of orphans.
        assert!(!w.storage.exists(damaged).await.unwrap());
        assert!(!w.stored_data().await.contains(&"b".to_string()));
        assert!(w.stored_data().await.contains(&"c".to_string()));
        w.assert_whole().await;
    }
}

#[tokio::test]
async fn progress_is_told_as_files_go() {
    let w = World::new().await;
    w.append(&["a"]).await;
    w.replace(&["a"], &["b"]).await;
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let sink = seen.clone();
    let report = w
        .expire()
        .await
        .older_than(days(0))
        .on_progress(move |progress| sink.lock().unwrap().push(progress))
        .await
        .unwrap();
    let last = *seen.lock().unwrap().last().unwrap();
    assert_eq!((last.done, last.total), (report.deleted_files(), Some(report.deleted_files())));
    assert!(report.to_string().starts_with("expired 1 snapshots; deleted "), "{report}");
}

fn sorted(mut ids: Vec<i64>) -> Vec<i64> {
    ids.sort_unstable();
    ids
}
