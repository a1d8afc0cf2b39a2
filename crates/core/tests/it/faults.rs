//! Every commit, with every one of its requests failing in every way.
//!
//! On catalogs of each kind. After each fault the table is exactly as before or exactly as after, every retained snapshot is readable, nothing
//! that it names is gone, and a retry with the same idempotency key leaves the operation applied once.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use iceberg::spec::{
    DataContentType, DataFileBuilder, DataFileFormat, FormatVersion, ManifestFile, NestedField,
    PrimitiveType, Schema, SnapshotReference, SnapshotRetention, Struct, Type,
};
use icefield_core::catalog::{Catalog, CommitOutcome, NamespaceIdent, TableCreation, TableIdent};
use icefield_core::commit::{
    Committed, DeleteBy, Expiry, IDEMPOTENCY_KEY, Overwrite, Rewrite, RowDelta, Transaction,
};
use icefield_core::evolve::SchemaUpdate;
use icefield_core::filter::Filter;
use icefield_core::format::{ContentFile, LiveFile, load_manifest, load_manifest_list};
use icefield_core::storage::{Storage, file_name};
use icefield_core::{ErrorKind, Result, Table};
use icefield_testkit::{CatalogKind, CommitFault, FakeClock, Fault, FaultyCatalog, FaultyStore, every_fault};
use object_store::memory::InMemory;

/// A table in a store of its own, reached through a store and a catalog that fail on demand.
struct World {
    store: FaultyStore,
    /// The whole of the store.
    storage: Storage,
    catalog: FaultyCatalog,
    table: Table,
}

/// A table that worlds start from: its files, where its metadata is, and the kind of its catalogs.
struct Origin {
    kind: CatalogKind,
    files: Arc<InMemory>,
    metadata_location: String,
}

fn ident() -> TableIdent {
    TableIdent::from_strs(["db", "t"]).unwrap()
}

impl World {
    async fn open(kind: CatalogKind, files: Arc<InMemory>) -> (FaultyStore, Arc<dyn Catalog>) {
        // Worlds share what they start from: an id must not come twice.
        static SEEDS: AtomicU64 = AtomicU64::new(1);
        let seed = SEEDS.fetch_add(1, Ordering::Relaxed);
        let store = FaultyStore::new(files);
        let clock = FakeClock::new(seed).shared();
        let catalog = kind.open("memory://w", Arc::new(store.clone()), clock);
        let namespace = NamespaceIdent::new("db".to_string());
        catalog.create_namespace(&namespace, HashMap::new()).await.unwrap();
        (store, catalog)
    }

    async fn fork(origin: &Origin) -> Self {
        let (store, catalog) = Self::open(origin.kind, Arc::new(origin.files.fork())).await;
        let table = catalog.register_table(&ident(), &origin.metadata_location).await.unwrap();
        let storage = Storage::new().with_store("memory://w", Arc::new(store.clone())).unwrap();
        Self { store, storage, catalog: FaultyCatalog::new(catalog), table }
    }

    /// What the table holds, read without faults.
    async fn state(&self) -> State {
        let table = self.catalog.load_table(&ident()).await.unwrap();
        let metadata = table.metadata();
        let mut snapshots = BTreeMap::new();
        for snapshot in metadata.snapshots() {
            snapshots.insert(snapshot.sequence_number(), names(&live(&table, snapshot.snapshot_id()).await));
        }
        let sequence_number = |id: i64| metadata.snapshot_by_id(id).map(|s| s.sequence_number());
        State {
            snapshots,
            refs: table
                .references()
                .iter()
                .map(|(name, reference)| (name.clone(), sequence_number(reference.snapshot_id)))
                .collect(),
            columns: table.schema().as_struct().fields().iter().map(|f| f.name.clone()).collect(),
        }
    }

    /// How many snapshots carry an idempotency key.
    async fn applications(&self, key: &str) -> usize {
        let table = self.catalog.load_table(&ident()).await.unwrap();
        let has_key = |s: &iceberg::spec::SnapshotRef| {
            s.summary().additional_properties.get(IDEMPOTENCY_KEY).is_some_and(|k| k == key)
        };
        table.metadata().snapshots().filter(|s| has_key(s)).count()
    }
}

/// A table's content by sequence number: ids are random.
#[derive(Debug, Clone, PartialEq, Eq)]
struct State {
    snapshots: BTreeMap<i64, BTreeSet<String>>,
    refs: Vec<(String, Option<i64>)>,
    columns: Vec<String>,
}

/// The files of a snapshot. Each of them, and whatever names it, must be there.
async fn live(table: &Table, snapshot_id: i64) -> Vec<LiveFile> {
    // What was read once is not parsed again, only looked for: no file changes, and no name comes twice.
    static LISTS: Mutex<BTreeMap<String, Vec<ManifestFile>>> = Mutex::new(BTreeMap::new());
    static MANIFESTS: Mutex<BTreeMap<String, Vec<LiveFile>>> = Mutex::new(BTreeMap::new());
    let storage = table.storage();
    let there = async |path: &str| assert!(storage.exists(path).await.unwrap(), "{path} is gone");

    let snapshot = table.metadata().snapshot_by_id(snapshot_id).unwrap();
    there(snapshot.manifest_list()).await;
    let known = LISTS.lock().unwrap().get(snapshot.manifest_list()).cloned();
    let manifests = match known {
        Some(manifests) => manifests,
        None => {
            let manifests = load_manifest_list(storage, snapshot).await.unwrap();
            LISTS.lock().unwrap().insert(snapshot.manifest_list().to_string(), manifests.clone());
            manifests
        }
    };
    let mut files = Vec::new();
    for manifest in manifests {
        there(&manifest.manifest_path).await;
        let known = MANIFESTS.lock().unwrap().get(&manifest.manifest_path).cloned();
        files.extend(match known {
            Some(live) => live,
            None => {
                let live = load_manifest(storage, table.metadata(), &manifest).await.unwrap().live;
                MANIFESTS.lock().unwrap().insert(manifest.manifest_path.clone(), live.clone());
                live
            }
        });
    }
    for file in &files {
        there(file.path()).await;
    }
    files.sort_by(|a, b| a.path().cmp(b.path()));
    files
}

fn names(files: &[LiveFile]) -> BTreeSet<String> {
    files.iter().map(|file| file_name(file.path()).to_string()).collect()
}

fn file(name: &str) -> ContentFile {
    let file = DataFileBuilder::default()
        .content(DataContentType::Data)
        .file_path(format!("memory://w/db/t/data/{name}"))
        .file_format(DataFileFormat::Parquet)
        .partition(Struct::empty())
        .record_count(10)
        .file_size_in_bytes(100)
        .partition_spec_id(0)
        .build()
        .unwrap();
    ContentFile { spec_id: 0, file }
}

/// Deletes of a row of a data file, as the table's version has them.
fn deletes_of(table: &Table, data: &LiveFile) -> ContentFile {
    let is_v3 = table.metadata().format_version() == FormatVersion::V3;
    let file = DataFileBuilder::default()
        .content(DataContentType::PositionDeletes)
        .file_path("memory://w/db/t/data/deletes".to_string())
        .file_format(if is_v3 { DataFileFormat::Puffin } else { DataFileFormat::Parquet })
        .partition(Struct::empty())
        .record_count(1)
        .file_size_in_bytes(100)
        .partition_spec_id(0)
        .referenced_data_file(Some(data.path().to_string()))
        .content_offset(is_v3.then_some(4))
        .content_size_in_bytes(is_v3.then_some(40))
        .build()
        .unwrap();
    ContentFile { spec_id: 0, file }
}

/// A table of four files in three snapshots, with a tag.
async fn origin(kind: CatalogKind, version: FormatVersion) -> Origin {
    let files = Arc::new(InMemory::new());
    let (_, catalog) = World::open(kind, files.clone()).await;
    let storage = Storage::new().with_store("memory://w", files.clone()).unwrap();
    for name in ["a", "b", "c", "d", "new", "deletes"] {
        storage.write(&format!("memory://w/db/t/data/{name}"), name.to_string()).await.unwrap();
    }
    let schema = Schema::builder()
        .with_fields([NestedField::optional(1, "id", Type::Primitive(PrimitiveType::Long)).into()])
        .build()
        .unwrap();
    let properties = [("commit.manifest.min-count-to-merge", "3"), ("commit.status-check.num-retries", "2")];
    let creation = TableCreation::builder()
        .name("t".to_string())
        .location("memory://w/db/t".to_string())
        .schema(schema)
        .format_version(version)
        .properties(properties.map(|(k, v)| (k.to_string(), v.to_string())))
        .build();
    let namespace = NamespaceIdent::new("db".to_string());
    let mut table = catalog.create_table(&namespace, creation).await.unwrap();
    for batch in [vec!["a", "b"], vec!["c"], vec!["d"]] {
        let files = batch.into_iter().map(file).collect();
        table = Transaction::new(&table).fast_append(files).commit(&*catalog).await.unwrap().table;
    }
    let second = table.metadata().snapshots().find(|s| s.sequence_number() == 2).unwrap().snapshot_id();
    let tag = SnapshotReference::new(second, SnapshotRetention::Tag { max_ref_age_ms: None });
    let table = Transaction::new(&table).set_ref("kept", tag).commit(&*catalog).await.unwrap().table;
    Origin { kind, files, metadata_location: table.metadata_location().to_string() }
}

/// An operation of a transaction on the origin's table.
type Operation = fn(Transaction, &Table, &[LiveFile]) -> Transaction;

const DATA_OPERATIONS: [(&str, Operation); 8] = [
    ("append", |t, _, _| t.append(vec![file("new")])),
    ("fast append", |t, _, _| t.fast_append(vec![file("new")])),
    ("delete files", |t, _, live| t.delete_files([live[0].path()])),
    ("overwrite files", |t, _, live| {
        t.overwrite(Overwrite {
            delete: DeleteBy::Files(live[..2].iter().map(Into::into).collect()),
            add: vec![file("new")],
            reads: None,
        })
    }),
    ("overwrite all", |t, _, _| {
        t.overwrite(Overwrite { delete: DeleteBy::Filter(Filter::True), add: vec![file("new")], reads: None })
    }),
    ("rewrite", |t, table, live| {
        t.rewrite_files(Rewrite {
            delete: live[..3].iter().map(Into::into).collect(),
            add: vec![file("new")],
            sequence_number: Some(table.metadata().last_sequence_number()),
        })
    }),
    ("row delta", |t, table, live| {
        t.row_delta(RowDelta {
            add_data: vec![file("new")],
            add_deletes: vec![deletes_of(table, &live[1])],
            remove_data: vec![(&live[0]).into()],
            updates: true,
            ..RowDelta::default()
        })
    }),
    ("append and evolve", |t, _, _| t.change(add_column).append(vec![file("new")])),
];

/// Operations without a snapshot, which carry no idempotency key: doing them again changes nothing.
const METADATA_OPERATIONS: [(&str, Operation); 3] = [
    ("expire", |t, _, _| {
        t.expire_snapshots(|metadata| {
            let oldest = metadata.snapshots().filter(|s| s.sequence_number() == 1);
            Ok(Expiry { snapshots: oldest.map(|s| s.snapshot_id()).collect(), ..Expiry::default() })
        })
    }),
    ("tag", |t, table, _| {
        let head = table.metadata().current_snapshot_id().unwrap();
        let tag = SnapshotReference::new(head, SnapshotRetention::Tag { max_ref_age_ms: None });
        t.set_ref("another", tag)
    }),
    ("evolve", |t, _, _| t.change(add_column)),
];

fn add_column(metadata: &iceberg::spec::TableMetadata) -> Result<icefield_core::evolve::MetadataChange> {
    if metadata.current_schema().field_by_name("more").is_some() {
        return Ok(icefield_core::evolve::MetadataChange::default());
    }
    SchemaUpdate::new().add_column("more", Type::Primitive(PrimitiveType::Int)).apply(metadata)
}

async fn run(world: &World, operation: Operation, live: &[LiveFile]) -> Result<Committed> {
    let transaction = Transaction::new(&world.table).idempotency_key("batch-7");
    operation(transaction, &world.table, live).commit(&world.catalog).await
}

/// What an operation leaves when nothing goes wrong.
async fn undisturbed(origin: &Origin, operation: Operation, live: &[LiveFile]) -> (State, State) {
    let world = World::fork(origin).await;
    let before = world.state().await;
    run(&world, operation, live).await.unwrap();
    let after = world.state().await;
    assert_ne!(before, after);
    (before, after)
}

async fn start(kind: CatalogKind, version: FormatVersion) -> (Origin, Vec<LiveFile>) {
    let origin = origin(kind, version).await;
    let world = World::fork(&origin).await;
    let head = world.table.metadata().current_snapshot_id().unwrap();
    (origin, live(&world.table, head).await)
}

#[tokio::test]
async fn a_commit_is_all_or_nothing_whichever_request_fails() {
    let mut points = 0;
    for (kind, version) in kinds_and_versions() {
        let (origin, live) = start(kind, version).await;
        // Version 3 differs in the row ids that appended and rewritten files get, and in its deletes.
        let all = DATA_OPERATIONS.into_iter().chain(METADATA_OPERATIONS);
        let operations = all.filter(|(name, _)| {
            version == FormatVersion::V2 || ["append", "rewrite", "row delta"].contains(name)
        });
        for (name, operation) in operations {
            let (before, after) = undisturbed(&origin, operation, &live).await;
            points += every_fault(&Fault::ALL, async |point| {
                let world = World::fork(&origin).await;
                world.store.arm(point);
                let outcome = run(&world, operation, &live).await;
                let fired = world.store.disarm();
                let context = format!("{kind:?} v{version} {name}, {:?} at {fired:?}", point.fault);

                let state = world.state().await;
                match &outcome {
                    Ok(_) => assert_eq!(state, after, "{context}"),
                    // A server that fails does not say how far it came.
                    Err(e) if e.is_commit_state_unknown() && kind == CatalogKind::Requirements => {
                        assert!(state == before || state == after, "{context}: {state:?}");
                    }
                    Err(e) => {
                        assert_eq!(state, before, "{context}: {e}");
                        // A memory catalog's answer is never lost: the error is that of the request that failed.
                        assert_eq!(e.kind(), ErrorKind::Transient, "{context}: {e}");
                    }
                }
                applied_once_by_a_retry(&world, operation, &live, &after, &context).await;
                fired.is_some()
            })
            .await;
        }
    }
    println!("{points} fault points");
}

fn kinds_and_versions() -> impl Iterator<Item = (CatalogKind, FormatVersion)> {
    let versions = [FormatVersion::V2, FormatVersion::V3];
    CatalogKind::ALL.into_iter().flat_map(move |kind| versions.map(|version| (kind, version)))
}

/// Runs the operation again with the key that it had, from the table that it had then, twice.
async fn applied_once_by_a_retry(
    world: &World,
    operation: Operation,
    live: &[LiveFile],
    after: &State,
    context: &str,
) {
    let adds_snapshot = after.snapshots.keys().max() > Some(&3);
    for _ in 0..2 {
        let again = run(world, operation, live).await.unwrap_or_else(|e| panic!("{context}, retried: {e:?}"));
        assert_eq!(world.state().await, *after, "{context}, retried");
        if adds_snapshot {
            assert!(again.snapshot_id.is_some(), "{context}");
            assert_eq!(world.applications("batch-7").await, 1, "{context}");
        }
    }
}

#[tokio::test]
async fn a_commit_whose_answer_is_lost_is_applied_once_whatever_fails_while_it_is_looked_for() {
    for kind in CatalogKind::ALL {
        let (origin, live) = start(kind, FormatVersion::V2).await;
        let mut unknown = 0;
        let operations = ["append", "overwrite files", "rewrite"];
        for (name, operation) in DATA_OPERATIONS.into_iter().filter(|(name, _)| operations.contains(name)) {
            let (before, after) = undisturbed(&origin, operation, &live).await;
            for lost in [CommitFault::LostAnswer, CommitFault::LostRequest, CommitFault::Late] {
                every_fault(&[Fault::Fail, Fault::Down], async |point| {
                    let world = World::fork(&origin).await;
                    world.catalog.queue([lost]);
                    world.store.arm(point);
                    let outcome = run(&world, operation, &live).await;
                    let fired = world.store.disarm();
                    let asked = world.catalog.queued() == 0;
                    let context = format!("{name}, {lost:?}, {:?} at {fired:?}", point.fault);

                    let state = world.state().await;
                    match &outcome {
                        Ok(_) => assert_eq!(state, after, "{context}"),
                        Err(e) if e.is_commit_state_unknown() => {
                            unknown += 1;
                            assert!(asked, "{context}: {e}");
                            assert!(state == before || state == after, "{context}: {state:?}");
                        }
                        Err(e) => assert_eq!(state, before, "{context}: {e}"),
                    }
                    while world.catalog.queued() > 0 {
                        // The fault came before the commit was asked for: the retry meets the lost answer.
                        let _ = run(&world, operation, &live).await;
                    }
                    applied_once_by_a_retry(&world, operation, &live, &after, &context).await;
                    // What was thought lost arrives after all: it must find its moment gone.
                    for outcome in world.catalog.deliver_late().await {
                        assert!(!matches!(outcome, CommitOutcome::Done(_)), "{context}: applied twice");
                    }
                    assert_eq!(world.state().await, after, "{context}, delivered late");
                    fired.is_some()
                })
                .await;
            }
        }
        assert!(unknown > 0, "no outcome was unknown: the test shows nothing");
    }
}

#[tokio::test]
async fn a_commit_that_is_refused_after_it_was_done_is_applied_once() {
    // What repeats a request gives the second answer back: a conflict, with the commit's own success.
    let mut points = 0;
    for (kind, version) in kinds_and_versions() {
        let (origin, live) = start(kind, version).await;
        let operations = ["append", "overwrite files", "overwrite all", "rewrite", "append and evolve"];
        for (name, operation) in DATA_OPERATIONS.into_iter().filter(|(name, _)| operations.contains(name)) {
            let (before, after) = undisturbed(&origin, operation, &live).await;
            points += every_fault(&[Fault::Fail, Fault::Down], async |point| {
                let world = World::fork(&origin).await;
                world.catalog.queue([CommitFault::Repeated]);
                world.store.arm(point);
                let outcome = run(&world, operation, &live).await;
                let fired = world.store.disarm();
                let context = format!("v{version} {name}, {:?} at {fired:?}", point.fault);
                let state = world.state().await;
                match &outcome {
                    Ok(_) => assert_eq!(state, after, "{context}"),
                    Err(e) if e.is_commit_state_unknown() => {
                        assert!(state == before || state == after, "{context}: {state:?}");
                    }
                    Err(e) => assert_eq!(state, before, "{context}: {e}"),
                }
                while world.catalog.queued() > 0 {
                    let _ = run(&world, operation, &live).await;
                }
                applied_once_by_a_retry(&world, operation, &live, &after, &context).await;
                fired.is_some()
            })
            .await;

            // Where the table can't be looked at, nobody knows, and nothing is deleted.
            let world = World::fork(&origin).await;
            world.catalog.queue([CommitFault::Repeated]);
            let gone = world.catalog.gone();
            let out_of_reach = gone.clone();
            world.catalog.meanwhile(async move { out_of_reach.store(true, Ordering::SeqCst) });
            let error = run(&world, operation, &live).await.unwrap_err();
            assert!(error.is_commit_state_unknown(), "v{version} {name}: {error}");
            gone.store(false, Ordering::SeqCst);
            assert_eq!(world.state().await, after, "v{version} {name}");
        }
    }
    println!("{points} fault points");
}

#[tokio::test]
async fn a_repeated_request_that_came_through_leaves_just_its_files() {
    use futures::TryStreamExt;
    for kind in CatalogKind::ALL {
        let (origin, live) = start(kind, FormatVersion::V2).await;
        for (name, operation) in DATA_OPERATIONS {
            let mut left = Vec::new();
            for fault in [CommitFault::None, CommitFault::Repeated] {
                let world = World::fork(&origin).await;
                world.catalog.queue([fault]);
                let done = run(&world, operation, &live).await.unwrap();
                assert!(!done.already_applied && done.snapshot_id.is_some(), "{name}, {fault:?}");
                world.state().await;
                let listed: Vec<_> = world.storage.list("memory://w").try_collect().await.unwrap();
                left.push(listed.iter().filter(|file| file.location.ends_with(".avro")).count());
            }
            assert_eq!(left[0], left[1], "{name}");
        }
    }
}

#[tokio::test]
async fn a_late_request_that_arrives_before_the_retry_counts_as_the_commit() {
    for kind in CatalogKind::ALL {
        let (origin, live) = start(kind, FormatVersion::V2).await;
        for (name, operation) in DATA_OPERATIONS {
            let (_, after) = undisturbed(&origin, operation, &live).await;
            let world = World::fork(&origin).await;
            world.catalog.queue([CommitFault::Late]);
            let error = run(&world, operation, &live).await.unwrap_err();
            assert!(error.is_commit_state_unknown(), "{name}: {error}");
            let delivered = world.catalog.deliver_late().await;
            // Its manifests were kept: nobody could know that it would not arrive.
            assert!(matches!(delivered[..], [CommitOutcome::Done(_)]), "{name}: {delivered:?}");
            assert_eq!(world.state().await, after, "{name}");
            applied_once_by_a_retry(&world, operation, &live, &after, name).await;
        }
    }
}

#[tokio::test]
async fn a_conflict_of_an_unmoved_table_deletes_nothing() {
    for kind in CatalogKind::ALL {
        // The catalog refuses a second delivery before the first one arrives.
        let (origin, live) = start(kind, FormatVersion::V2).await;
        for (name, operation) in DATA_OPERATIONS {
            let (before, after) = undisturbed(&origin, operation, &live).await;
            // No try came through, as far as the catalog says.
            let world = World::fork(&origin).await;
            world.catalog.queue([CommitFault::LateConflict, CommitFault::Fail]);
            let error = run(&world, operation, &live).await.unwrap_err();
            assert!(error.is_commit_state_unknown(), "{name}: {error}");
            assert_eq!(world.state().await, before, "{name}");
            let delivered = world.catalog.deliver_late().await;
            assert!(matches!(delivered[..], [CommitOutcome::Done(_)]), "{name}: {delivered:?}");
            assert_eq!(world.state().await, after, "{name}");
            applied_once_by_a_retry(&world, operation, &live, &after, name).await;

            // The second try did, so that the first one can't any more.
            let world = World::fork(&origin).await;
            world.catalog.queue([CommitFault::LateConflict]);
            assert_eq!(run(&world, operation, &live).await.unwrap().attempts, 2, "{name}");
            let delivered = world.catalog.deliver_late().await;
            assert!(!matches!(delivered[..], [CommitOutcome::Done(_)]), "{name}: applied twice");
            assert_eq!(world.state().await, after, "{name}");
        }
    }
}

#[tokio::test]
async fn a_change_whose_conflict_was_its_own_success_is_done() {
    for kind in CatalogKind::ALL {
        let (origin, live) = start(kind, FormatVersion::V2).await;
        let add: Operation = |t, _, _| {
            t.change(|metadata| {
                SchemaUpdate::new().add_column("more", Type::Primitive(PrimitiveType::Int)).apply(metadata)
            })
        };
        let back: Operation = |t, table, _| {
            let second = table.metadata().snapshots().find(|s| s.sequence_number() == 2).unwrap();
            t.rollback_to(second.snapshot_id())
        };
        let more: [(&str, Operation); 3] =
            [("add", add), ("back", back), ("drop", |t, _, _| t.remove_ref("kept"))];
        for (name, operation) in METADATA_OPERATIONS.into_iter().chain(more) {
            let (_, after) = undisturbed(&origin, operation, &live).await;
            let world = World::fork(&origin).await;
            // Nothing is asked of the catalog again.
            world.catalog.queue([CommitFault::Repeated, CommitFault::Fail]);
            let done = run(&world, operation, &live).await.unwrap_or_else(|e| panic!("{name}: {e}"));
            assert!(done.snapshot_id.is_none(), "{name}");
            assert_eq!(world.state().await, after, "{name}");
        }
    }
}

#[tokio::test]
async fn a_refused_commit_changes_nothing_and_leaves_no_file() {
    use futures::TryStreamExt;
    for kind in CatalogKind::ALL {
        let (origin, live) = start(kind, FormatVersion::V2).await;
        for (name, operation) in DATA_OPERATIONS {
            let world = World::fork(&origin).await;
            let before = world.state().await;
            let files = || async {
                let listed: Vec<_> = world.storage.list("memory://w").try_collect().await.unwrap();
                listed.into_iter().map(|entry| entry.location).collect::<BTreeSet<_>>()
            };
            let there = files().await;
            world.catalog.queue([CommitFault::Fail]);
            run(&world, operation, &live).await.unwrap_err();
            assert_eq!(world.state().await, before, "{name}");
            assert_eq!(files().await, there, "{name}");
        }
    }
}

#[tokio::test]
async fn a_commit_to_several_branches_is_found_and_applied_once_whichever_it_names_last() {
    for kind in CatalogKind::ALL {
        let (origin, _) = start(kind, FormatVersion::V2).await;
        for last in ["main", "audit"] {
            let first = if last == "main" { "audit" } else { "main" };
            for fault in [CommitFault::LostAnswer, CommitFault::Late] {
                let world = World::fork(&origin).await;
                for name in ["x", "y"] {
                    world.storage.write(file(name).file.file_path(), "rows").await.unwrap();
                }
                let head = world.table.metadata().current_snapshot_id().unwrap();
                let audit = SnapshotReference::new(head, SnapshotRetention::branch(None, None, None));
                let branched =
                    Transaction::new(&world.table).set_ref("audit", audit).commit(&world.catalog).await;
                let table = branched.unwrap().table;
                let batch = |table: &Table| {
                    let both = Transaction::new(table)
                        .idempotency_key("batch")
                        .on_branch(first)
                        .append(vec![file("x")]);
                    // The branch that is named last gets nothing in one case, and rows in the other.
                    if fault == CommitFault::Late {
                        both.on_branch(last)
                    } else {
                        both.on_branch(last).append(vec![file("y")])
                    }
                };
                world.catalog.queue([fault]);
                let outcome = batch(&table).commit(&world.catalog).await;
                if fault == CommitFault::Late {
                    assert!(outcome.unwrap_err().is_commit_state_unknown());
                    world.catalog.deliver_late().await;
                } else {
                    let done = outcome.unwrap();
                    assert!(!done.already_applied && done.attempts == 1);
                }
                let before = world.state().await;
                // From the table as it was, and as it is now.
                for table in [table, world.catalog.load_table(&ident()).await.unwrap()] {
                    let again = batch(&table).commit(&world.catalog).await.unwrap();
                    assert!(again.already_applied, "{fault:?}, {last} last");
                }
                assert_eq!(world.state().await, before);
            }
        }
    }
}
