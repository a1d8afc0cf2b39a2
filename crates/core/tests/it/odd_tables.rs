//! Tables in a state that this library would not have brought them into.

use std::time::Duration;

use iceberg::spec::{FormatVersion, NestedField, Schema};
use icefield_core::catalog::{Catalog, MemoryCatalog, TableIdent};
use icefield_core::commit::{DeleteBy, Expiry, Overwrite, Transaction, is_applied};
use icefield_core::evolve::{PropertiesUpdate, types};
use icefield_core::filter::Filter;
use icefield_core::format::load_manifest_list;
use icefield_core::{AsOf, Clock, ErrorKind, SystemClock, Table};
use icefield_testkit::FakeClock;
use serde_json::json;

use crate::support::{append, file, names, table, tag_at};

fn schema() -> Schema {
    Schema::builder().with_fields([NestedField::optional(1, "id", types::long()).into()]).build().unwrap()
}

async fn set(
    catalog: &MemoryCatalog,
    table: &Table,
    name: &str,
    value: &str,
) -> icefield_core::Result<Table> {
    let update = PropertiesUpdate::new().set(name, value);
    let change = Transaction::new(table).change(move |metadata| update.apply(metadata));
    Ok(change.commit(catalog).await?.table)
}

#[tokio::test]
async fn a_writer_whose_clock_is_an_hour_ahead_does_not_lock_the_others_out() {
    let clock = FakeClock::new(1);
    clock.set_ms(SystemClock.now_ms());
    clock.advance(Duration::from_secs(3600));
    let (catalog, t) = table(clock.shared(), FormatVersion::V2, schema(), None, &[]).await;
    let (t, first) = append(&catalog, &t, "main", "a").await;
    let (t, second) = append(&catalog, &t, "main", "b").await;
    // The clocks are right again, or those of another writer are.
    clock.set_ms(SystemClock.now_ms());
    let t = set(&catalog, &t, "owner", "rates").await.unwrap();
    tokio::time::sleep(Duration::from_millis(3)).await;
    let t = Transaction::new(&t).set_ref("v1", tag_at(second)).commit(&*catalog).await.unwrap().table;
    let t = Transaction::new(&t).rollback_to(first).commit(&*catalog).await.unwrap().table;
    let (t, third) = append(&catalog, &t, "main", "c").await;
    assert_eq!(names(&t, "main").await, ["a", "c"]);
    // Time runs on in the table, and tells what it was like.
    let times: Vec<i64> = t.metadata().history().iter().map(|entry| entry.timestamp_ms()).collect();
    assert!(times.is_sorted() && t.metadata().last_updated_ms() >= times[times.len() - 1], "{times:?}");
    let then = |ms: i64| t.snapshot_as_of(&AsOf::Timestamp(ms)).unwrap().unwrap().snapshot_id();
    assert_eq!(then(t.metadata().snapshot_by_id(second).unwrap().timestamp_ms()), second);
    assert_eq!(then(t.metadata().last_updated_ms()), third);
    let log: Vec<i64> = t.metadata().metadata_log().iter().map(|entry| entry.timestamp_ms).collect();
    assert!(log.is_sorted(), "{log:?}");

    let expire = move |_: &_| Ok(Expiry { snapshots: vec![first], ..Expiry::default() });
    let t = Transaction::new(&t).expire_snapshots(expire).commit(&*catalog).await.unwrap().table;
    assert_eq!(t.metadata().snapshots().len(), 2);
    assert_eq!(t.property("owner"), Some("rates"));
    catalog.load_table(t.ident()).await.unwrap();
}

#[tokio::test]
async fn tags_outlive_a_clock_that_was_an_hour_ahead() {
    for version in [FormatVersion::V1, FormatVersion::V2] {
        let clock = FakeClock::new(1);
        clock.set_ms(SystemClock.now_ms());
        clock.advance(Duration::from_secs(3600));
        let (catalog, t) = table(clock.shared(), version, schema(), None, &[]).await;
        let (t, first) = append(&catalog, &t, "main", "a").await;
        let t = Transaction::new(&t).set_ref("v1", tag_at(first)).commit(&*catalog).await.unwrap().table;
        clock.set_ms(SystemClock.now_ms());
        let (t, _) = append(&catalog, &t, "main", "b").await;
        assert!(t.reference("v1").is_some(), "{version}");
        assert!(catalog.load_table(t.ident()).await.unwrap().reference("v1").is_some(), "{version}");
    }
}

#[tokio::test]
async fn a_property_that_stops_commits_can_be_mended() {
    for name in ["commit.retry.num-retries", "commit.status-check.min-wait-ms"] {
        let (catalog, t) =
            table(SystemClock::shared(), FormatVersion::V2, schema(), None, &[(name, "many")]).await;
        let error = Transaction::new(&t).append(vec![file("a")]).commit(&*catalog).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains(name), "{error}");
        let t = set(&catalog, &t, name, "7").await.unwrap();
        append(&catalog, &t, "main", "a").await;
    }
}

#[tokio::test]
async fn flags_may_be_written_in_any_case() {
    let properties = [
        ("commit.manifest-merge.enabled", "TRUE"),
        ("write.metadata.delete-after-commit.enabled", "True"),
        ("write.metadata.previous-versions-max", "1"),
    ];
    let (catalog, t) = table(SystemClock::shared(), FormatVersion::V2, schema(), None, &properties).await;
    let created = t.metadata_location().to_string();
    let (t, _) = append(&catalog, &t, "main", "a").await;
    let (t, _) = append(&catalog, &t, "main", "b").await;
    assert!(!t.storage().exists(&created).await.unwrap(), "it has left the log");
}

#[tokio::test]
async fn manifests_that_the_metadata_file_lists_are_read_and_kept() {
    let (catalog, t) = table(SystemClock::shared(), FormatVersion::V1, schema(), None, &[]).await;
    let (t, _) = append(&catalog, &t, "main", "a").await;
    let (t, first) = append(&catalog, &t, "main", "b").await;
    // As the first writers had it: no snapshot has a list.
    let file = t.storage().read(t.metadata_location()).await.unwrap();
    let mut metadata: serde_json::Value = serde_json::from_slice(&file).unwrap();
    for snapshot in metadata["snapshots"].as_array_mut().unwrap() {
        let id = snapshot["snapshot-id"].as_i64().unwrap();
        let listed = load_manifest_list(t.storage(), t.metadata().snapshot_by_id(id).unwrap()).await.unwrap();
        let manifests: Vec<_> = listed.into_iter().map(|manifest| manifest.manifest_path).collect();
        let snapshot = snapshot.as_object_mut().unwrap();
        snapshot.remove("manifest-list");
        snapshot.insert("manifests".to_string(), manifests.into());
    }
    let location = "memory://w/db/t/metadata/00009-7fa4eb01-4bd3-4a1c-8ee1-000000000000.metadata.json";
    t.storage().write(location, serde_json::to_vec(&metadata).unwrap()).await.unwrap();
    let ident = TableIdent::from_strs(["db", "old"]).unwrap();
    let t = catalog.register_table(&ident, location).await.unwrap();
    assert_eq!(names(&t, "main").await, ["a", "b"]);
    let (t, _) = append(&catalog, &t, "main", "c").await;
    assert_eq!(names(&t, "main").await, ["a", "b", "c"]);
    let replace = Transaction::new(&t).delete_files(["memory://w/db/t/data/a"]);
    let t = replace.commit(&*catalog).await.unwrap().table;
    assert_eq!(names(&t, "main").await, ["b", "c"]);
    let t = Transaction::new(&t).rollback_to(first).commit(&*catalog).await.unwrap().table;
    assert_eq!(names(&t, "main").await, ["a", "b"]);
}

#[tokio::test]
async fn the_newest_keys_stay_within_a_mebibyte() {
    let (catalog, mut t) = table(SystemClock::shared(), FormatVersion::V2, schema(), None, &[]).await;
    let key = |n: usize| format!("{n}{}", "k".repeat(200_000));
    for n in 0..8 {
        let append = Transaction::new(&t).idempotency_key(key(n)).append(vec![file(&n.to_string())]);
        t = append.commit(&*catalog).await.unwrap().table;
    }
    let head = t.metadata().current_snapshot_id();
    let older: Vec<i64> = t.metadata().snapshots().map(|s| s.snapshot_id()).collect();
    let older: Vec<i64> = older.into_iter().filter(|id| Some(*id) != head).collect();
    let expire = move |_: &_| Ok(Expiry { snapshots: older.clone(), ..Expiry::default() });
    let t = Transaction::new(&t).expire_snapshots(expire).commit(&*catalog).await.unwrap().table;
    assert!(t.property("icefield.idempotency.expired-keys.main").unwrap().len() <= 1 << 20);
    // Five of the seven fit.
    let applied: Vec<bool> = (0..8).map(|n| is_applied(t.metadata(), "main", &key(n)).is_some()).collect();
    assert_eq!(applied, [false, false, true, true, true, true, true, true]);
}

#[tokio::test]
async fn a_metadata_log_deletes_no_file_outside_of_its_table() {
    let properties = [
        ("write.metadata.delete-after-commit.enabled", "true"),
        ("write.metadata.previous-versions-max", "1"),
    ];
    let (catalog, t) = table(SystemClock::shared(), FormatVersion::V2, schema(), None, &properties).await;
    let file = t.storage().read(t.metadata_location()).await.unwrap();
    let mut metadata: serde_json::Value = serde_json::from_slice(&file).unwrap();
    let own = "memory://w/db/t/metadata/00000-0.metadata.json";
    let others = ["memory://w/db/other/metadata/v1.metadata.json", "memory://w/db/t2/data/x", "memory://w/y"];
    let log = others.iter().chain([&own]).map(|file| json!({"metadata-file": file, "timestamp-ms": 1}));
    metadata["metadata-log"] = log.collect();
    for file in others.iter().chain([&own]) {
        t.storage().write(file, "whose").await.unwrap();
    }
    let location = "memory://w/db/t/metadata/00009-7fa4eb01-4bd3-4a1c-8ee1-000000000000.metadata.json";
    t.storage().write(location, serde_json::to_vec(&metadata).unwrap()).await.unwrap();
    // Alone in its folder.
    catalog.drop_table(t.ident()).await.unwrap();
    let ident = TableIdent::from_strs(["db", "hostile"]).unwrap();
    let mut t = catalog.register_table(&ident, location).await.unwrap();
    for name in ["a", "b", "c"] {
        t = append(&catalog, &t, "main", name).await.0;
    }
    assert!(!t.storage().exists(own).await.unwrap(), "its own are deleted");
    for file in others {
        assert!(t.storage().exists(file).await.unwrap(), "{file}");
    }
}

#[tokio::test]
async fn a_snapshot_that_does_not_tell_what_it_did_is_looked_into() {
    let (catalog, t) = table(SystemClock::shared(), FormatVersion::V1, schema(), None, &[]).await;
    let (t, _) = append(&catalog, &t, "main", "a").await;
    let (t, read) = append(&catalog, &t, "main", "b").await;
    let removal = Transaction::new(&t).delete_files(["memory://w/db/t/data/a"]);
    let t = removal.commit(&*catalog).await.unwrap().table;
    let file = t.storage().read(t.metadata_location()).await.unwrap();
    let mut metadata: serde_json::Value = serde_json::from_slice(&file).unwrap();
    for snapshot in metadata["snapshots"].as_array_mut().unwrap() {
        snapshot.as_object_mut().unwrap().remove("summary");
    }
    let location = "memory://w/db/t/metadata/00009-7fa4eb01-4bd3-4a1c-8ee1-000000000000.metadata.json";
    t.storage().write(location, serde_json::to_vec(&metadata).unwrap()).await.unwrap();
    let ident = TableIdent::from_strs(["db", "old"]).unwrap();
    let t = catalog.register_table(&ident, location).await.unwrap();
    let replace = Overwrite { delete: DeleteBy::Filter(Filter::True), add: vec![], reads: None };
    let late = Transaction::new(&t).based_on(read).overwrite(replace).commit(&*catalog).await;
    assert_eq!(late.unwrap_err().kind(), ErrorKind::Conflict);
}

#[tokio::test]
async fn a_log_deletes_no_metadata_of_a_table_in_the_same_folder() {
    let logged = [
        ("write.metadata.delete-after-commit.enabled", "true"),
        ("write.metadata.previous-versions-max", "1"),
    ];
    for place in ["memory://w/db/t", "memory://w/db/t/data", "memory://w/db"] {
        let (catalog, t) = table(SystemClock::shared(), FormatVersion::V2, schema(), None, &[]).await;
        let first = t.metadata_location().to_string();
        let (t, _) = append(&catalog, &t, "main", "a").await;
        let mut metadata: serde_json::Value =
            serde_json::from_slice(&t.storage().read(t.metadata_location()).await.unwrap()).unwrap();
        // What else the neighbour needs, and its own metadata, the one that the catalog names too.
        let data = "memory://w/db/t/data/a";
        let named = [first.as_str(), t.metadata_location(), data];
        t.storage().write(data, "rows").await.unwrap();
        let log = named.map(|file| json!({"metadata-file": file, "timestamp-ms": 1}));
        metadata["metadata-log"] = json!(log);
        metadata["location"] = json!(place);
        for (property, value) in logged {
            metadata["properties"][property] = json!(value);
        }
        // Whoever may write files puts the table's metadata beside the neighbour's.
        metadata["properties"]["write.metadata.path"] = json!("memory://w/db/t/metadata");
        let location = "memory://w/db/t/metadata/00009-7fa4eb01-4bd3-4a1c-8ee1-000000000000.metadata.json";
        t.storage().write(location, serde_json::to_vec(&metadata).unwrap()).await.unwrap();
        let ident = TableIdent::from_strs(["db", "hostile"]).unwrap();
        let mut hostile = catalog.register_table(&ident, location).await.unwrap();
        for name in ["x", "y", "z"] {
            hostile = append(&catalog, &hostile, "main", name).await.0;
        }
        for file in named {
            assert!(t.storage().exists(file).await.unwrap(), "{place}: {file}");
        }
        assert_eq!(names(&catalog.load_table(t.ident()).await.unwrap(), "main").await, ["a"]);
    }
}
