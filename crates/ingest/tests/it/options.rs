//! Settings that decide what is read, and how often it is tried.

use std::sync::Arc;
use std::time::Duration;

use icefield_core::storage::Storage;
use icefield_ingest::{Csv, Ingest, Level, ManifestUse, Reason};
use icefield_testkit::{FakeClock, Fault, FaultyStore, OpKind};
use object_store::ObjectStoreExt;

use crate::support::{Drop, PATTERN, rows, set_aside, tar_gz};

const A: (&str, &[u8]) = ("calendar_2024-06-22_1.csv", b"id,price\n1,10\n2,20\n");
const B: (&str, &[u8]) = ("calendar_2024-06-22_2.csv", b"id,price\n3,30\n");

#[tokio::test]
async fn an_archive_that_the_store_fails_to_give_is_tried_again_as_often_as_is_said() {
    for (failures, retries, is_read) in [(3, 3, true), (4, 3, false), (1, 0, false)] {
        let store = FaultyStore::in_memory();
        let storage = Storage::new().with_store("memory://drop", Arc::new(store.clone())).unwrap();
        for (name, member) in [("a.tar.gz", A), ("b.tar.gz", B)] {
            storage.write(&format!("memory://drop/in/{name}"), tar_gz(&[member])).await.unwrap();
        }
        let ingest = Ingest::from_url("memory://drop/in")
            .storage(storage)
            .clock(FakeClock::new(1).shared())
            .staging("memory://drop/staged")
            .pattern(PATTERN)
            .retries(retries);
        let mut left = failures;
        store.arm_when(move |op| {
            let fails = op.kind == OpKind::Get && op.path == "in/a.tar.gz" && left > 0;
            left -= usize::from(fails);
            fails.then_some(Fault::Fail)
        });
        let ingested = ingest.clone().await.unwrap();
        store.disarm();
        assert_eq!(store.count_of(OpKind::Get, "in/a.tar.gz"), retries as usize + 1, "{failures} failures");
        if is_read {
            assert_eq!(rows(&ingested, "calendar").await, ["1|10", "2|20", "3|30"]);
            assert!(ingested.quarantine.is_empty());
            continue;
        }
        assert_eq!(rows(&ingested, "calendar").await, ["3|30"], "the other archive is taken");
        let unreadable = (Level::Archive, "a.tar.gz".to_string(), None, None, Reason::Unreadable);
        assert_eq!(set_aside(&ingested), [unreadable]);
        assert_eq!(ingested.report.archives_taken, 1);
        let errors = &ingested.report.errors;
        assert!(errors[0].starts_with("archive a.tar.gz: could not be read and staged"), "{errors:?}");

        let again = ingest.await.unwrap();
        assert_eq!(again.report.archives_reused, 1, "only the other was staged");
        assert_eq!(rows(&again, "calendar").await, ["1|10", "2|20", "3|30"]);
        assert!(again.quarantine.is_empty());
    }
}

#[tokio::test]
async fn manifests_may_have_another_name() {
    let drop = Drop::new();
    let manifest =
        br#"{"archives": [{"name": "a.tar.gz", "rows": {"calendar": 2}}, {"name": "gone.tar.gz"}]}"#;
    drop.put("day/delivered.json", &manifest[..]).await;
    drop.put("day/a.tar.gz", tar_gz(&[A])).await;
    let ingested =
        drop.ingest().manifest_name("delivered.json").manifest(ManifestUse::Required).await.unwrap();
    assert_eq!(ingested.report.table("calendar").unwrap().rows_expected, Some(2));
    let missing = (Level::Archive, "gone.tar.gz".to_string(), None, None, Reason::Missing);
    assert_eq!(set_aside(&ingested), [missing]);

    let ingested = drop.ingest().await.unwrap();
    let unknown = (Level::Archive, "delivered.json".to_string(), None, None, Reason::UnknownFormat);
    assert_eq!(set_aside(&ingested), [unknown], "under its default name it is not one");
}

#[tokio::test]
async fn a_last_row_without_a_line_end_is_cut_where_one_is_required() {
    let drop = Drop::new();
    drop.put("calendar_2024-06-22_1.csv", "id,price\n1,10\n2,20").await;
    drop.put("calendar_2024-06-22_2.csv", "id,price\n3,30\n").await;
    let ingested = drop.ingest().await.unwrap();
    assert_eq!(rows(&ingested, "calendar").await, ["1|10", "2|20", "3|30"]);
    assert!(ingested.quarantine.is_empty());

    let csv = Csv { final_newline_required: true, ..Csv::default() };
    let ingested = drop.ingest().csv(csv).await.unwrap();
    assert_eq!(rows(&ingested, "calendar").await, ["1|10", "3|30"]);
    let [cut] = ingested.quarantine.items() else { panic!("{:?}", ingested.quarantine) };
    assert_eq!((cut.level, cut.line, cut.reason), (Level::Row, Some(3), Reason::CutRow));
    assert_eq!(cut.raw.as_deref(), Some("2,20"));
}

#[tokio::test]
async fn a_file_that_changes_while_it_is_read_is_left_to_the_next_run() {
    let store = FaultyStore::in_memory();
    let storage = Storage::new().with_store("memory://drop", Arc::new(store.clone())).unwrap();
    let name = "calendar_2024-06-22_1.csv";
    storage.write(&format!("memory://drop/in/{name}"), &b"id,price\n1,10\n"[..]).await.unwrap();
    let ingest = Ingest::from_url("memory://drop/in")
        .storage(storage)
        .staging("memory://drop/staged")
        .pattern(PATTERN);
    let (inner, mut is_new) = (store.inner().clone(), false);
    store.arm_when(move |op| {
        if op.kind == OpKind::Get && op.path.ends_with(".csv") && !std::mem::replace(&mut is_new, true) {
            // As many bytes as before, a moment later.
            std::thread::sleep(Duration::from_millis(5));
            let path = op.path.as_str().into();
            futures::executor::block_on(inner.put(&path, "id,price\n2,20\n".into())).unwrap();
        }
        None
    });
    let ingested = ingest.clone().await.unwrap();
    store.disarm();
    assert!(ingested.tables.is_empty());
    assert_eq!(set_aside(&ingested), [(Level::Archive, name.to_string(), None, None, Reason::Unreadable)]);
    assert_eq!(rows(&ingest.await.unwrap(), "calendar").await, ["2|20"]);
}
