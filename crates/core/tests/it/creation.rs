//! Tables that are created by their first commit, with whatever goes wrong on the way.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::TryStreamExt;
use iceberg::spec::{FormatVersion, Literal, NestedField, Schema};
use icefield_core::catalog::{Catalog, CommitOutcome, NamespaceIdent, TableCreation, TableIdent};
use icefield_core::commit::{Committed, Transaction};
use icefield_core::evolve::{identity, partition_spec, types};
use icefield_core::storage::Storage;
use icefield_core::{ErrorKind, Result, Table};
use icefield_testkit::{CatalogKind, CommitFault, FakeClock, Fault, FaultyCatalog, FaultyStore, every_fault};

use crate::support::{file_in, names};

struct World {
    store: FaultyStore,
    /// The whole of the store.
    storage: Storage,
    catalog: FaultyCatalog,
    ident: TableIdent,
}

impl World {
    async fn new() -> Self {
        Self::of(CatalogKind::Pointers).await
    }

    async fn of(kind: CatalogKind) -> Self {
        static SEEDS: AtomicU64 = AtomicU64::new(1);
        let clock = FakeClock::new(SEEDS.fetch_add(1, Ordering::Relaxed));
        let store = FaultyStore::in_memory();
        let storage = Storage::new().with_store("memory://w", Arc::new(store.clone())).unwrap();
        let catalog = kind.open("memory://w", Arc::new(store.clone()), clock.shared());
        let ident = TableIdent::from_strs(["db", "t"]).unwrap();
        catalog.create_namespace(ident.namespace(), HashMap::new()).await.unwrap();
        Self { store, storage, catalog: FaultyCatalog::new(catalog), ident }
    }

    async fn new_table(&self, version: FormatVersion) -> Table {
        self.catalog.stage_table(self.ident.namespace(), creation(version)).await.unwrap()
    }

    async fn create(&self, table: &Table) -> Result<Committed> {
        let files = vec![file_in("a", 0, [Literal::int(5)]), file_in("b", 0, [Literal::int(6)])];
        Transaction::new(table).append(files).commit(&self.catalog).await
    }

    async fn files(&self) -> BTreeSet<String> {
        let listed: Vec<_> = self.storage.list("memory://w").try_collect().await.unwrap();
        listed.into_iter().map(|entry| entry.location).collect()
    }

    /// The table is whole, with one snapshot and nothing before it.
    async fn assert_whole(&self, context: &str) {
        let table = self.catalog.load_table(&self.ident).await.unwrap();
        let metadata = table.metadata();
        assert_eq!(names(&table, "main").await, ["a", "b"], "{context}");
        assert_eq!((metadata.snapshots().len(), metadata.history().len()), (1, 1), "{context}");
        assert!(metadata.metadata_log().is_empty(), "{context}: {:?}", metadata.metadata_log());
        let snapshot = metadata.current_snapshot().unwrap();
        assert_eq!((snapshot.parent_snapshot_id(), snapshot.sequence_number()), (None, 1), "{context}");
        if metadata.format_version() == FormatVersion::V3 {
            assert_eq!((snapshot.first_row_id(), metadata.next_row_id()), (Some(0), 2), "{context}");
        }
    }
}

/// Of `id` and `k`, partitioned by `k`.
fn creation(version: FormatVersion) -> TableCreation {
    let fields = [NestedField::optional(1, "id", types::long()), NestedField::optional(2, "k", types::int())];
    let schema = Schema::builder().with_fields(fields.map(Into::into)).build().unwrap();
    let spec = partition_spec(&schema, [identity("k")]).unwrap();
    TableCreation::builder()
        .name("t".to_string())
        .schema(schema)
        .partition_spec(spec)
        .format_version(version)
        .properties([("owner".to_string(), "me".to_string())])
        .build()
}

#[tokio::test]
async fn a_new_table_appears_with_its_rows_or_not_at_all_whichever_request_fails() {
    let versions = [FormatVersion::V2, FormatVersion::V3];
    for (kind, version) in CatalogKind::ALL.into_iter().flat_map(|kind| versions.map(|of| (kind, of))) {
        let points = every_fault(&Fault::ALL, async |point| {
            let world = World::of(kind).await;
            let table = world.new_table(version).await;
            assert_eq!(world.files().await, BTreeSet::new(), "nothing is written before the commit");
            world.store.reset();
            world.store.arm(point);
            let outcome = world.create(&table).await;
            let fired = world.store.disarm();
            let context = format!("{kind:?} v{version} {:?} at {fired:?}", point.fault);
            let there = world.catalog.table_exists(&world.ident).await.unwrap();
            if let Err(error) = &outcome
                && error.is_commit_state_unknown()
            {
                // A server that fails does not say how far it came.
                assert_eq!(kind, CatalogKind::Requirements, "{context}: {error}");
                if !there {
                    world.create(&table).await.unwrap_or_else(|e| panic!("{context}, retried: {e:?}"));
                }
            } else if let Err(error) = outcome {
                assert_eq!(error.kind(), ErrorKind::Transient, "{context}: {error}");
                assert!(!world.catalog.table_exists(&world.ident).await.unwrap(), "{context}");
                if !matches!(point.fault, Fault::Down | Fault::DownAfter) {
                    assert_eq!(world.files().await, BTreeSet::new(), "{context}");
                }
                world.create(&table).await.unwrap_or_else(|e| panic!("{context}, retried: {e:?}"));
            }
            world.assert_whole(&context).await;
            fired.is_some()
        })
        .await;
        println!("{kind:?} v{version}: {points} fault points");
    }
}

#[tokio::test]
async fn a_creation_whose_answer_is_lost_is_looked_for_and_nothing_is_deleted() {
    let lost = [CommitFault::LostAnswer, CommitFault::LostRequest, CommitFault::Late, CommitFault::Repeated];
    for (kind, lost) in CatalogKind::ALL.into_iter().flat_map(|kind| lost.map(|lost| (kind, lost))) {
        every_fault(&[Fault::Fail, Fault::Down], async |point| {
            let world = World::of(kind).await;
            let table = world.new_table(FormatVersion::V2).await;
            world.catalog.queue([lost]);
            world.store.arm(point);
            let outcome = world.create(&table).await;
            let fired = world.store.disarm();
            let context = format!("{kind:?} {lost:?}, {:?} at {fired:?}", point.fault);
            let there = world.catalog.table_exists(&world.ident).await.unwrap();
            match outcome {
                Ok(_) => world.assert_whole(&context).await,
                Err(e) if e.is_commit_state_unknown() => {
                    assert!(world.files().await.iter().any(|f| f.ends_with(".avro")), "{context}");
                    let arrived = world.catalog.deliver_late().await;
                    if lost == CommitFault::Late {
                        assert!(matches!(arrived[..], [CommitOutcome::Done(_)]), "{context}: {arrived:?}");
                    }
                    if there || lost == CommitFault::Late {
                        // What is committed again may be what the table has: nobody is told that it can go.
                        let again = world.create(&table).await.unwrap_err();
                        assert!(again.is_commit_state_unknown(), "{context}: {again}");
                        world.assert_whole(&context).await;
                    }
                }
                Err(e) => assert!(!there, "{context}: {e}"),
            }
            fired.is_some()
        })
        .await;
    }
    // Where nothing else goes wrong, the table is found, whatever was committed to it since.
    let world = World::new().await;
    let table = world.new_table(FormatVersion::V2).await;
    world.catalog.queue([CommitFault::LostAnswer]);
    let (others, ident) = (world.catalog.inner().clone(), world.ident.clone());
    world.catalog.meanwhile(async move {
        let table = others.load_table(&ident).await.unwrap();
        let files = vec![file_in("c", 0, [Literal::int(7)])];
        Transaction::new(&table).append(files).commit(&*others).await.unwrap();
    });
    let done = world.create(&table).await.unwrap();
    assert!(done.snapshot_id.is_some() && done.table.metadata().snapshots().len() == 2);
}

#[tokio::test]
async fn a_name_that_was_taken_meanwhile_is_left_alone() {
    let world = World::new().await;
    let table = world.new_table(FormatVersion::V2).await;
    let other =
        world.catalog.create_table(world.ident.namespace(), creation(FormatVersion::V3)).await.unwrap();
    let files = world.files().await;
    let error = world.create(&table).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error}");
    assert_eq!(world.files().await, files);
    let found = world.catalog.load_table(&world.ident).await.unwrap();
    assert_eq!(found.metadata_location(), other.metadata_location());
    let again = world.catalog.stage_table(world.ident.namespace(), creation(FormatVersion::V2)).await;
    assert_eq!(again.unwrap_err().kind(), ErrorKind::AlreadyExists);

    // A refusal is as definite.
    world.catalog.drop_table(&world.ident).await.unwrap();
    world.catalog.queue([CommitFault::Fail]);
    world.create(&table).await.unwrap_err();
    assert_eq!(world.files().await, files);
}

#[tokio::test]
async fn a_name_that_is_taken_and_nobodys_is_not_known_to_be_anothers() {
    // The first delivery of the request is late.
    let world = World::new().await;
    let table = world.new_table(FormatVersion::V2).await;
    world.catalog.queue([CommitFault::LateConflict]);
    let error = world.create(&table).await.unwrap_err();
    assert!(error.is_commit_state_unknown(), "{error}");
    let arrived = world.catalog.deliver_late().await;
    assert!(matches!(arrived[..], [CommitOutcome::Done(_)]), "{arrived:?}");
    world.assert_whole("late").await;

    // It came through, and the table has another name by now.
    let world = World::new().await;
    let table = world.new_table(FormatVersion::V2).await;
    world.catalog.queue([CommitFault::Repeated]);
    let (others, ident) = (world.catalog.inner().clone(), world.ident.clone());
    let renamed = TableIdent::from_strs(["db", "renamed"]).unwrap();
    let to = renamed.clone();
    world.catalog.meanwhile(async move { others.rename_table(&ident, &to).await.unwrap() });
    let outcome = world.create(&table).await;
    let table = world.catalog.load_table(&renamed).await.unwrap();
    assert_eq!(names(&table, "main").await, ["a", "b"], "{outcome:?}");
}

#[tokio::test]
async fn a_folder_that_became_another_tables_meanwhile_is_not_shared() {
    let world = World::new().await;
    let table = world.new_table(FormatVersion::V2).await;
    world.catalog.create_table(world.ident.namespace(), creation(FormatVersion::V2)).await.unwrap();
    let renamed = TableIdent::from_strs(["db", "renamed"]).unwrap();
    world.catalog.rename_table(&world.ident, &renamed).await.unwrap();
    let files = world.files().await;
    assert_eq!(world.create(&table).await.unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(world.files().await, files);
    // A table that is planned now lies beside it, and keeps its place.
    let table = world.new_table(FormatVersion::V2).await;
    let created = world.create(&table).await.unwrap().table;
    assert_eq!(created.metadata().location(), table.metadata().location());
    assert!(created.metadata().location().starts_with("memory://w/db/t-"));
    world.assert_whole("beside").await;
}

#[tokio::test]
async fn a_new_table_without_rows_is_the_table_that_a_catalog_creates() {
    let world = World::new().await;
    for version in [FormatVersion::V1, FormatVersion::V2, FormatVersion::V3] {
        let table = world.new_table(version).await;
        assert!(table.is_new());
        let done = Transaction::new(&table).commit(&world.catalog).await.unwrap();
        assert!(done.snapshot_id.is_none() && !done.table.is_new());
        assert_eq!(done.table.metadata(), table.metadata());
        let by_catalog = {
            world.catalog.drop_table(&world.ident).await.unwrap();
            world.catalog.create_table(world.ident.namespace(), creation(version)).await.unwrap()
        };
        let (ours, theirs) = (done.table.metadata(), by_catalog.metadata());
        assert_eq!(ours.location(), theirs.location());
        assert_eq!(ours.properties(), theirs.properties());
        assert_eq!(ours.current_schema(), theirs.current_schema());
        assert_eq!(ours.default_partition_spec(), theirs.default_partition_spec());
        assert_eq!(ours.format_version(), theirs.format_version());
        world.catalog.drop_table(&world.ident).await.unwrap();
    }
    let nowhere = NamespaceIdent::new("nowhere".to_string());
    let error = world.catalog.stage_table(&nowhere, creation(FormatVersion::V2)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}
