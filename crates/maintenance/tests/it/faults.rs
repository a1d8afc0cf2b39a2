//! Every request of an expiry and of an orphan removal made to fail in every way, on catalogs of each kind: afterwards the table is as before or as
//! after, everything that it needs is there, and doing it again completes it.

use futures::FutureExt;
use iceberg::spec::FormatVersion;
use icefield_maintenance::days;
use icefield_testkit::{CatalogKind, Fault, every_fault};

use crate::world::{World, litter};

async fn history(kind: CatalogKind) -> World {
    let w = World::of(kind, FormatVersion::V2, &[]).await;
    let first = w.append(&["a"]).await;
    w.tag("t", first).await;
    w.append(&["b"]).await;
    w.replace(&["b"], &["c"]).await;
    w
}

#[tokio::test]
async fn whatever_request_of_an_expiry_fails_the_table_stays_whole_and_a_second_run_completes() {
    for kind in CatalogKind::ALL {
        let before = history(kind).await;
        let points = every_fault(&Fault::ALL, async |point| {
            let w = before.fork().await;
            let expiry = w.expire().await.older_than(days(0));
            w.store.arm(point);
            let outcome = expiry.await;
            let fired = w.store.disarm();
            w.assert_whole().await;
            let snapshots = w.table().await.metadata().snapshots().len();
            match &outcome {
                Ok(report) => assert_eq!((report.snapshots.len(), snapshots), (1, 2), "{point:?}"),
                Err(e) if e.is_commit_state_unknown() => assert!([2, 3].contains(&snapshots), "{point:?}"),
                Err(e) => assert_eq!(snapshots, 3, "{point:?} {e}"),
            }
            w.expire().await.older_than(days(0)).await.unwrap();
            assert_eq!(w.table().await.metadata().snapshots().len(), 2, "{point:?}");
            w.assert_whole().await;
            fired.is_some()
        })
        .boxed_local()
        .await;
        println!("{kind:?}: {points} faults");
    }
}

#[tokio::test]
async fn whatever_request_of_an_orphan_removal_fails_the_table_stays_whole_and_a_second_run_completes() {
    for kind in CatalogKind::ALL {
        let before = history(kind).await;
        let points = every_fault(&Fault::ALL, async |point| {
            let w = before.fork().await;
            let whole = w.stored().await;
            litter(&w.storage, "memory://w/db/t", &["data/x", "metadata/y", "z"]).await;
            let removal = w.remove_orphans().await;
            w.store.arm(point);
            let outcome = removal.await;
            let fired = w.store.disarm();
            assert!(w.stored().await.is_superset(&whole), "{point:?}");
            w.assert_whole().await;
            if let Ok(report) = outcome {
                assert_eq!(report.orphans.len(), 3, "{point:?}");
            }
            w.remove_orphans().await.await.unwrap();
            assert_eq!(w.stored().await, whole, "{point:?}");
            fired.is_some()
        })
        .boxed_local()
        .await;
        println!("{kind:?}: {points} faults");
    }
}
