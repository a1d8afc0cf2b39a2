use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use iceberg::spec::{
    DataContentType, DataFileBuilder, DataFileFormat, FormatVersion, NestedField, PrimitiveType, Schema,
    SnapshotReference, SnapshotRetention, Struct, Type,
};
use iceberg::{NamespaceIdent, TableCreation, TableUpdate};

use super::*;
use crate::ErrorKind;
use crate::catalog::{Catalog, MemoryCatalog};
use crate::format::{LiveFile, load_manifest, load_manifest_list};
use crate::storage::Storage;

async fn table(version: FormatVersion, properties: &[(&str, &str)]) -> (Arc<MemoryCatalog>, Table) {
    let catalog = Arc::new(MemoryCatalog::new("memory://w", Storage::new()));
    let namespace = NamespaceIdent::new("db".to_string());
    catalog.create_namespace(&namespace, HashMap::new()).await.unwrap();
    let schema = Schema::builder()
        .with_fields([NestedField::optional(1, "id", Type::Primitive(PrimitiveType::Long)).into()])
        .build()
        .unwrap();
    let creation = TableCreation::builder()
        .name("t".to_string())
        .schema(schema)
        .format_version(version)
        .properties(properties.iter().map(|(k, v)| (k.to_string(), v.to_string())))
        .build();
    let table = catalog.create_table(&namespace, creation).await.unwrap();
    (catalog, table)
}

fn file(name: &str, rows: u64) -> ContentFile {
    let file = DataFileBuilder::default()
        .content(DataContentType::Data)
        .file_path(format!("memory://w/db/t/data/{name}.parquet"))
        .file_format(DataFileFormat::Parquet)
        .partition(Struct::empty())
        .record_count(rows)
        .file_size_in_bytes(rows * 10)
        .partition_spec_id(0)
        .build()
        .unwrap();
    ContentFile { spec_id: 0, file }
}

async fn live(table: &Table, branch: &str) -> Vec<LiveFile> {
    let Some(snapshot) = table.metadata().snapshot_for_ref(branch) else { return Vec::new() };
    let mut files = Vec::new();
    for manifest in load_manifest_list(table.storage(), snapshot).await.unwrap() {
        files.extend(load_manifest(table.storage(), table.metadata(), &manifest).await.unwrap().live);
    }
    files.sort_by(|a, b| a.path().cmp(b.path()));
    files
}

async fn names(table: &Table) -> Vec<String> {
    let name = |f: &LiveFile| f.path().rsplit('/').next().unwrap().trim_end_matches(".parquet").to_string();
    live(table, "main").await.iter().map(name).collect()
}

#[tokio::test]
async fn appends_overwrites_and_deletes_make_the_snapshots_that_they_say() {
    for version in [FormatVersion::V1, FormatVersion::V2, FormatVersion::V3] {
        let (catalog, table) = table(version, &[]).await;
        let done = Transaction::new(&table)
            .append(vec![file("a", 3), file("b", 4)])
            .commit(&*catalog)
            .await
            .unwrap();
        assert_eq!(done.attempts, 1);
        let done =
            Transaction::new(&done.table).fast_append(vec![file("c", 5)]).commit(&*catalog).await.unwrap();
        assert_eq!(names(&done.table).await, ["a", "b", "c"], "{version:?}");
        let summary = &done.table.metadata().current_snapshot().unwrap().summary().additional_properties;
        assert_eq!(summary["added-records"], "5");
        assert_eq!(summary["total-records"], "12");
        assert_eq!(summary["total-data-files"], "3");

        let files = live(&done.table, "main").await;
        let overwrite = Overwrite {
            delete: DeleteBy::Files(vec![files[0].reference()]),
            add: vec![file("d", 2)],
            reads: None,
        };
        let done = Transaction::new(&done.table).overwrite(overwrite).commit(&*catalog).await.unwrap();
        assert_eq!(names(&done.table).await, ["b", "c", "d"]);
        let gone = files[1].path().to_string();
        let done = Transaction::new(&done.table).delete_files([gone]).commit(&*catalog).await.unwrap();
        assert_eq!(names(&done.table).await, ["c", "d"]);
        let summary = &done.table.metadata().current_snapshot().unwrap().summary().additional_properties;
        assert_eq!(summary["total-records"], "7");
        assert_eq!(done.table.metadata().snapshots().len(), 4);
    }
}

#[tokio::test]
async fn files_that_stay_keep_their_snapshot_sequence_number_and_row_ids() {
    let (catalog, t) = table(FormatVersion::V3, &[("commit.manifest.min-count-to-merge", "2")]).await;
    let t =
        Transaction::new(&t).append(vec![file("a", 3), file("b", 4)]).commit(&*catalog).await.unwrap().table;
    let t = Transaction::new(&t).append(vec![file("c", 5)]).commit(&*catalog).await.unwrap().table;
    let before = live(&t, "main").await;
    assert_eq!(before.iter().map(|f| f.file.first_row_id()).collect::<Vec<_>>(), [Some(0), Some(3), Some(7)]);
    let manifests = load_manifest_list(t.storage(), t.metadata().current_snapshot().unwrap()).await.unwrap();
    assert_eq!(manifests.len(), 1, "two manifests were merged");

    // a is compacted into d: b and c move to a manifest of this snapshot and stay what they were.
    let start = t.metadata().last_sequence_number();
    let rewrite = Rewrite {
        delete: vec![before[0].reference()],
        add: vec![file("d", 3)],
        sequence_number: Some(start),
    };
    let t = Transaction::new(&t).rewrite_files(rewrite).commit(&*catalog).await.unwrap().table;
    let after = live(&t, "main").await;
    assert_eq!(names(&t).await, ["b", "c", "d"]);
    assert_eq!(after[..2], before[1..]);
    assert_eq!(after[2].sequence_number, start);
    assert_eq!(after[2].file_sequence_number, start + 1);
    let t = Transaction::new(&t).append(vec![file("e", 1)]).commit(&*catalog).await.unwrap().table;
    let ids: BTreeSet<i64> = live(&t, "main").await.iter().filter_map(|f| f.file.first_row_id()).collect();
    assert_eq!(ids.len(), 4, "no two files share a first row id");
}

#[tokio::test]
async fn a_lost_race_is_replayed_on_the_new_state() {
    let (catalog, t) = table(FormatVersion::V2, &[]).await;
    let other = Transaction::new(&t).append(vec![file("a", 1)]).commit(&*catalog).await.unwrap();
    assert_eq!(other.attempts, 1);
    // Both began with the empty table.
    let late = Transaction::new(&t).append(vec![file("b", 1)]).commit(&*catalog).await.unwrap();
    assert_eq!(late.attempts, 2);
    assert_eq!(names(&late.table).await, ["a", "b"]);
    // The try that lost left nothing behind.
    use futures::TryStreamExt;
    let listed: Vec<_> = catalog.storage().list("memory://w/db/t/metadata").try_collect().await.unwrap();
    let avro: BTreeSet<String> =
        listed.into_iter().map(|f| f.location).filter(|l| l.ends_with(".avro")).collect();
    let mut reachable = BTreeSet::new();
    for snapshot in late.table.metadata().snapshots() {
        reachable.insert(snapshot.manifest_list().to_string());
        for manifest in load_manifest_list(late.table.storage(), snapshot).await.unwrap() {
            reachable.insert(manifest.manifest_path);
        }
    }
    assert_eq!(avro, reachable);
}

#[tokio::test]
async fn an_idempotency_key_applies_once_even_after_its_snapshot_expired() {
    let (catalog, t) = table(FormatVersion::V2, &[]).await;
    let batch =
        |t: &Table| Transaction::new(t).append(vec![file("a", 1)]).idempotency_key("boston/2024-06-22");
    let first = batch(&t).commit(&*catalog).await.unwrap();
    let again = batch(&t).commit(&*catalog).await.unwrap();
    assert!(again.already_applied);
    assert_eq!(again.snapshot_id, first.snapshot_id);
    let t = Transaction::new(&again.table).append(vec![file("b", 1)]).commit(&*catalog).await.unwrap().table;
    let old = first.snapshot_id.unwrap();
    let expire = move |_: &_| Ok(Expiry { snapshots: vec![old], ..Expiry::default() });
    let t = Transaction::new(&t).expire_snapshots(expire).commit(&*catalog).await.unwrap().table;
    assert!(t.metadata().snapshot_by_id(old).is_none());
    let again = batch(&t).commit(&*catalog).await.unwrap();
    assert!(again.already_applied);
    assert_eq!(again.snapshot_id, None);
    assert_eq!(names(&again.table).await, ["a", "b"]);
}

#[tokio::test]
async fn a_rolled_back_batch_may_be_applied_again() {
    let (catalog, t) = table(FormatVersion::V2, &[]).await;
    let first = Transaction::new(&t).append(vec![file("a", 1)]).commit(&*catalog).await.unwrap();
    let batch = |t: &Table, name| Transaction::new(t).append(vec![file(name, 1)]).idempotency_key("k");
    let t = batch(&first.table, "b").commit(&*catalog).await.unwrap().table;
    let t =
        Transaction::new(&t).rollback_to(first.snapshot_id.unwrap()).commit(&*catalog).await.unwrap().table;
    assert_eq!(names(&t).await, ["a"]);
    let again = batch(&t, "c").commit(&*catalog).await.unwrap();
    assert!(!again.already_applied);
    assert_eq!(names(&again.table).await, ["a", "c"]);
}

#[tokio::test]
async fn an_overwrite_that_finds_nothing_to_do_leaves_its_key() {
    let (catalog, t) = table(FormatVersion::V2, &[]).await;
    let nothing = |t: &Table| {
        let delete = DeleteBy::Partitions(vec![(0, Struct::empty())]);
        Transaction::new(t).overwrite(Overwrite { delete, add: Vec::new(), reads: None })
    };
    let keyed = |t: &Table| nothing(t).idempotency_key("boston/2024-06-22");
    assert_eq!(nothing(&t).commit(&*catalog).await.unwrap().snapshot_id, None);
    assert!(keyed(&t).commit(&*catalog).await.unwrap().snapshot_id.is_some());
    // What comes later is not the batch's to replace.
    let t = catalog.load_table(t.ident()).await.unwrap();
    let t = Transaction::new(&t).append(vec![file("a", 1)]).commit(&*catalog).await.unwrap().table;
    let again = keyed(&t).commit(&*catalog).await.unwrap();
    assert!(again.already_applied);
    assert_eq!(names(&again.table).await, ["a"]);
}

#[tokio::test]
async fn replacing_what_another_commit_removed_is_a_conflict_that_says_so() {
    let (catalog, t) = table(FormatVersion::V2, &[]).await;
    let t =
        Transaction::new(&t).append(vec![file("a", 1), file("b", 1)]).commit(&*catalog).await.unwrap().table;
    let files = live(&t, "main").await;
    Transaction::new(&t).delete_files([files[0].path()]).commit(&*catalog).await.unwrap();
    let rewrite = Rewrite {
        delete: files.iter().map(Into::into).collect(),
        add: vec![file("ab", 2)],
        sequence_number: None,
    };
    let error = Transaction::new(&t).rewrite_files(rewrite).commit(&*catalog).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    let text = error.to_string();
    assert!(text.contains("a.parquet") && text.contains("operation: delete"), "{text}");
    assert_eq!(names(&catalog.load_table(t.ident()).await.unwrap()).await, ["b"]);
}

#[tokio::test]
async fn serializable_overwrites_see_added_rows_as_a_conflict_and_snapshot_isolation_does_not() {
    for (isolation, conflicts) in [(Isolation::Serializable, true), (Isolation::Snapshot, false)] {
        let (catalog, t) = table(FormatVersion::V2, &[]).await;
        let t = Transaction::new(&t).append(vec![file("a", 1)]).commit(&*catalog).await.unwrap().table;
        let files = live(&t, "main").await;
        Transaction::new(&t).append(vec![file("b", 1)]).commit(&*catalog).await.unwrap();
        let overwrite = Overwrite {
            delete: DeleteBy::Files(files.iter().map(Into::into).collect()),
            add: vec![file("c", 1)],
            reads: Some(crate::filter::Filter::True),
        };
        let outcome = Transaction::new(&t).isolation(isolation).overwrite(overwrite).commit(&*catalog).await;
        assert_eq!(outcome.is_err(), conflicts, "{isolation:?}");
        if let Ok(done) = outcome {
            assert_eq!(names(&done.table).await, ["b", "c"]);
        }
    }
}

#[tokio::test]
async fn overwriting_partitions_replaces_all_their_files() {
    let (catalog, t) = table(FormatVersion::V2, &[]).await;
    let t =
        Transaction::new(&t).append(vec![file("a", 1), file("b", 1)]).commit(&*catalog).await.unwrap().table;
    let overwrite = Overwrite {
        delete: DeleteBy::Partitions(vec![(0, Struct::empty())]),
        add: vec![file("c", 1)],
        reads: None,
    };
    let t = Transaction::new(&t).overwrite(overwrite).commit(&*catalog).await.unwrap().table;
    assert_eq!(names(&t).await, ["c"]);
}

#[tokio::test]
async fn several_actions_are_one_commit() {
    let (catalog, t) = table(FormatVersion::V2, &[]).await;
    let set = |_: &_| {
        let updates = HashMap::from([("owner".to_string(), "rates".to_string())]);
        Ok(MetadataChange { updates: vec![TableUpdate::SetProperties { updates }], requirements: Vec::new() })
    };
    let done = Transaction::new(&t)
        .append(vec![file("a", 1)])
        .append(vec![file("b", 1)])
        .change(set)
        .commit(&*catalog)
        .await
        .unwrap();
    assert_eq!(names(&done.table).await, ["a", "b"]);
    assert_eq!(done.table.property("owner"), Some("rates"));
    assert_eq!(done.table.metadata().metadata_log().len(), 1, "one metadata file came after the first");
}

#[tokio::test]
async fn metadata_files_that_leave_the_log_are_deleted_where_the_table_says_so() {
    for (enabled, gc, left) in [("true", "true", 3), ("false", "true", 6), ("true", "false", 6)] {
        let properties = [
            ("write.metadata.previous-versions-max", "2"),
            ("write.metadata.delete-after-commit.enabled", enabled),
            ("gc.enabled", gc),
        ];
        let (catalog, mut t) = table(FormatVersion::V2, &properties).await;
        for name in ["a", "b", "c", "d", "e"] {
            t = Transaction::new(&t).append(vec![file(name, 1)]).commit(&*catalog).await.unwrap().table;
        }
        use futures::TryStreamExt;
        let listed: Vec<_> = catalog.storage().list("memory://w/db/t/metadata").try_collect().await.unwrap();
        let files = listed.iter().filter(|f| f.location.ends_with(".metadata.json")).count();
        assert_eq!(files, left, "the current file and the two in its log");
        assert_eq!(names(&catalog.load_table(t.ident()).await.unwrap()).await.len(), 5);
    }
}

#[tokio::test]
async fn branches_and_tags_are_set_used_and_dropped() {
    let (catalog, t) = table(FormatVersion::V2, &[]).await;
    let t = Transaction::new(&t).append(vec![file("a", 1)]).commit(&*catalog).await.unwrap();
    let head = t.snapshot_id.unwrap();
    let branch = SnapshotReference::new(head, SnapshotRetention::branch(Some(3), None, None));
    let tag = SnapshotReference::new(head, SnapshotRetention::Tag { max_ref_age_ms: None });
    let t = Transaction::new(&t.table)
        .set_ref("audit", branch)
        .set_ref("v1", tag)
        .commit(&*catalog)
        .await
        .unwrap()
        .table;
    let t = Transaction::new(&t)
        .on_branch("audit")
        .append(vec![file("b", 1)])
        .commit(&*catalog)
        .await
        .unwrap()
        .table;
    assert_eq!(names(&t).await, ["a"]);
    assert_eq!(live(&t, "audit").await.len(), 2);
    let kept = t.references().iter().find(|(name, _)| name == "audit").unwrap().1.retention.clone();
    assert!(matches!(kept, SnapshotRetention::Branch { min_snapshots_to_keep: Some(3), .. }));
    let error = Transaction::new(&t)
        .on_branch("none")
        .append(vec![file("c", 1)])
        .commit(&*catalog)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let expire = move |_: &_| Ok(Expiry { snapshots: vec![head], ..Expiry::default() });
    let error = Transaction::new(&t).expire_snapshots(expire).commit(&*catalog).await.unwrap_err();
    assert!(error.to_string().contains("v1") || error.to_string().contains("main"), "{error}");
    let t = Transaction::new(&t).remove_ref("v1").commit(&*catalog).await.unwrap().table;
    assert_eq!(t.references().len(), 2);
}

#[tokio::test]
async fn a_starting_snapshot_that_expired_fails_validation() {
    let (catalog, t) = table(FormatVersion::V2, &[]).await;
    let start = Transaction::new(&t).append(vec![file("a", 1)]).commit(&*catalog).await.unwrap();
    let t = Transaction::new(&start.table).append(vec![file("b", 1)]).commit(&*catalog).await.unwrap().table;
    let old = start.snapshot_id.unwrap();
    let expire = move |_: &_| Ok(Expiry { snapshots: vec![old], ..Expiry::default() });
    Transaction::new(&t).expire_snapshots(expire).commit(&*catalog).await.unwrap();
    let files = live(&start.table, "main").await;
    let rewrite = Rewrite {
        delete: files.iter().map(Into::into).collect(),
        add: vec![file("c", 1)],
        sequence_number: None,
    };
    let error = Transaction::new(&start.table).rewrite_files(rewrite).commit(&*catalog).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.to_string().contains(&old.to_string()), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sixteen_tasks_append_and_nothing_is_lost_or_doubled() {
    let (catalog, t) = table(FormatVersion::V2, &[]).await;
    let tasks = (0..16).map(|task| {
        let (catalog, ident) = (catalog.clone(), t.ident().clone());
        tokio::spawn(async move {
            for n in 0..5 {
                let t = catalog.load_table(&ident).await.unwrap();
                Transaction::new(&t)
                    .append(vec![file(&format!("{task}-{n}"), 1)])
                    .commit(&*catalog)
                    .await
                    .unwrap();
            }
        })
    });
    futures::future::try_join_all(tasks).await.unwrap();
    let t = catalog.load_table(t.ident()).await.unwrap();
    let names: BTreeSet<String> = names(&t).await.into_iter().collect();
    assert_eq!(names.len(), 80);
    assert_eq!(live(&t, "main").await.len(), 80);
}

#[tokio::test]
async fn a_partition_of_the_wrong_arity_is_refused_before_anything_is_written() {
    let (catalog, t) = table(FormatVersion::V2, &[]).await;
    let mut wrong = file("a", 1);
    wrong.spec_id = 7;
    let error = Transaction::new(&t).append(vec![wrong]).commit(&*catalog).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    let error =
        Transaction::new(&t).append(vec![file("a", 1), file("a", 1)]).commit(&*catalog).await.unwrap_err();
    assert!(error.to_string().contains("twice"), "{error}");
}
