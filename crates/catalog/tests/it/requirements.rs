//! The catalog of the other kind, which tests of the whole library run on, against what is said of it.

use std::collections::HashMap;
use std::sync::Arc;

use icefield_core::catalog::{Catalog, CommitOutcome, CommitRequest, Expect};
use icefield_core::commit::Transaction;
use icefield_core::storage::join;
use icefield_core::{Clock, ErrorKind, SystemClock, Table};
use icefield_testkit::catalog_suite::{creation, namespace, set_property};
use icefield_testkit::{FakeClock, FaultyStore, RequirementsCatalog, catalog_suite};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_requirements_catalog_keeps_the_contract() {
    let (store, clock) = (FaultyStore::in_memory(), SystemClock::shared());
    let catalog = RequirementsCatalog::new("memory://w", Arc::new(store), clock).unwrap();
    catalog_suite::contract::run(Arc::new(catalog)).await;
}

async fn two_tables() -> (RequirementsCatalog, FakeClock, Table, Table) {
    let clock = FakeClock::new(5);
    clock.set_ms(SystemClock.now_ms());
    let store = Arc::new(FaultyStore::in_memory());
    let catalog = RequirementsCatalog::new("memory://w", store, clock.shared()).unwrap();
    let ns = namespace(&["n"]);
    catalog.create_namespace(&ns, HashMap::new()).await.unwrap();
    let a = catalog.create_table(&ns, creation("a")).await.unwrap();
    let b = catalog.create_table(&ns, creation("b")).await.unwrap();
    (catalog, clock, a, b)
}

#[tokio::test]
async fn a_tables_storage_reaches_no_other_tables_files() {
    let (catalog, _, a, b) = two_tables().await;
    let file = join(b.metadata().location(), "data/x");
    for storage in [a.storage(), catalog.storage()] {
        for error in [
            storage.read(b.metadata_location()).await.unwrap_err(),
            storage.write(&file, "x").await.unwrap_err(),
            storage.delete(b.metadata_location()).await.unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::Io, "{error}");
            assert!(error.to_string().contains("credentials"), "{error}");
        }
    }
    b.storage().read(b.metadata_location()).await.unwrap();
    catalog.storage().read(a.metadata_location()).await.unwrap_err();
}

#[tokio::test]
async fn a_table_that_was_loaded_long_ago_still_reads_and_commits() {
    let (catalog, clock, a, _) = two_tables().await;
    let kept = catalog.storage_without_renewal(&a).unwrap();
    kept.read(a.metadata_location()).await.unwrap();
    let issued = catalog.tokens_issued();
    clock.advance(std::time::Duration::from_secs(3600));
    let error = kept.read(a.metadata_location()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io, "{error}");
    a.storage().read(a.metadata_location()).await.unwrap();
    assert_eq!(catalog.tokens_issued(), issued + 1, "one that is good is not renewed");
    a.storage().read(a.metadata_location()).await.unwrap();
    assert_eq!(catalog.tokens_issued(), issued + 1);
    Transaction::new(&a).fast_append(Vec::new()).commit(&catalog).await.unwrap();
}

#[tokio::test]
async fn a_request_that_is_sent_again_is_a_conflict() {
    let (catalog, _, a, _) = two_tables().await;
    let request =
        CommitRequest { expect: Expect::whole(&a, catalog.guarantees()), ..set_property(&a, "x", "y") };
    let add_column = |metadata: &_| {
        let more = icefield_core::evolve::types::int();
        icefield_core::evolve::SchemaUpdate::new().add_column("more", more).apply(metadata)
    };
    let Expect::Requirements(requirements) = &request.expect else { panic!("{request:?}") };
    assert!(requirements.len() >= 7, "{requirements:?}");
    let changed = Transaction::new(&a).change(add_column).commit(&catalog).await.unwrap().table;
    // The requirements stated before no longer hold.
    let outcome = catalog.commit(vec![request]).await;
    assert!(matches!(outcome, CommitOutcome::Conflict(_)), "{outcome:?}");
    let loaded = catalog.load_table(a.ident()).await.unwrap();
    assert_eq!(loaded.metadata_location(), changed.metadata_location());
}

#[tokio::test]
async fn a_failure_of_the_server_leaves_the_outcome_unknown() {
    let clock = FakeClock::new(6);
    clock.set_ms(SystemClock.now_ms());
    let store = FaultyStore::in_memory();
    let catalog = RequirementsCatalog::new("memory://w", Arc::new(store.clone()), clock.shared()).unwrap();
    let ns = namespace(&["n"]);
    catalog.create_namespace(&ns, HashMap::new()).await.unwrap();
    let table = catalog.create_table(&ns, creation("t")).await.unwrap();
    store.arm(icefield_testkit::FaultPoint { number: 0, fault: icefield_testkit::Fault::Down });
    let outcome = catalog.commit(vec![set_property(&table, "a", "b")]).await;
    let CommitOutcome::Unknown(error) = outcome else { panic!("{outcome:?}") };
    assert!(error.is_commit_state_unknown(), "{error}");
    store.disarm();
    let outcome = catalog.commit(vec![set_property(&table, "a", "b")]).await;
    assert!(matches!(outcome, CommitOutcome::Done(_)), "{outcome:?}");
}
