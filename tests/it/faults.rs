//! Every request of an append, an overwrite and a compaction made to fail in every way, through the whole library, on
//! catalogs of each kind.
//!
//! After each fault the table reads exactly as before or exactly as after, each snapshot that was there still reads as it
//! did, a second run with the same idempotency key leaves the operation applied once, and what the failed run left behind
//! is unreachable: orphan removal takes it and the table reads as it did.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use arrow::array::{ArrayRef, AsArray, BinaryArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use icefield_core::catalog::{Catalog, NamespaceIdent, parse_ident};
use icefield_core::evolve::identity;
use icefield_core::{AsOf, Clock, Result, SystemClock};
use icefield_engine::Session;
use icefield_engine::ops::DataFrameExt;
use icefield_maintenance as maintenance;
use icefield_testkit::{
    CatalogKind, CommitFault, FakeClock, Fault, FaultyCatalog, FaultyStore, OpKind, every_fault,
};
use object_store::memory::InMemory;
use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};

struct World {
    store: FaultyStore,
    catalog: Arc<FaultyCatalog>,
    session: Session,
}

/// A table that worlds start from: its files, where its metadata is, and the rows of its snapshots.
struct Origin {
    kind: CatalogKind,
    files: Arc<InMemory>,
    metadata_location: String,
    snapshots: Vec<(i64, Vec<i64>)>,
}

impl World {
    async fn open(kind: CatalogKind, files: Arc<InMemory>) -> Self {
        // Worlds share what they start from: an id must not come twice.
        static SEEDS: AtomicU64 = AtomicU64::new(1);
        let clock = FakeClock::new(SEEDS.fetch_add(1, Ordering::Relaxed));
        clock.set_ms(SystemClock.now_ms());
        let store = FaultyStore::new(files);
        let catalog = kind.open("memory://w", Arc::new(store.clone()), clock.shared());
        let namespace = NamespaceIdent::new("db".to_string());
        catalog.create_namespace(&namespace, HashMap::new()).await.unwrap();
        let catalog = Arc::new(FaultyCatalog::new(catalog));
        let session = Session::builder().catalog(catalog.clone()).parallelism(1).build().unwrap();
        Self { store, catalog, session }
    }

    async fn fork(origin: &Origin) -> Self {
        let world = Self::open(origin.kind, Arc::new(origin.files.fork())).await;
        let ident = parse_ident("db.t").unwrap();
        world.catalog.register_table(&ident, &origin.metadata_location).await.unwrap();
        world
    }

    async fn rows_as_of(&self, as_of: AsOf) -> Vec<i64> {
        let table = self.session.table("db.t").await.unwrap().as_of(as_of).unwrap();
        let batches = table.dataframe().await.unwrap().collect().await.unwrap();
        let ids = batches.iter().flat_map(|batch| {
            batch.column_by_name("id").unwrap().as_primitive::<Int64Type>().values().to_vec()
        });
        let mut ids: Vec<i64> = ids.collect();
        ids.sort_unstable();
        ids
    }

    async fn rows(&self) -> Vec<i64> {
        self.rows_as_of(AsOf::Current).await
    }

    /// The number of files of the current snapshot, by its summary.
    async fn files(&self) -> usize {
        let table = self.session.table("db.t").await.unwrap();
        let snapshot = table.core().metadata().current_snapshot().unwrap().clone();
        snapshot.summary().additional_properties["total-data-files"].parse().unwrap()
    }
}

fn batch(ids: std::ops::Range<i64>) -> RecordBatch {
    let part: Vec<_> = ids.clone().map(|id| if id % 2 == 0 { "even" } else { "odd" }).collect();
    let schema =
        Schema::new(vec![Field::new("id", DataType::Int64, true), Field::new("part", DataType::Utf8, true)]);
    let columns: Vec<arrow::array::ArrayRef> =
        vec![Arc::new(Int64Array::from_iter_values(ids)), Arc::new(StringArray::from(part))];
    RecordBatch::try_new(Arc::new(schema), columns).unwrap()
}

/// A partitioned table of 3 appends.
async fn origin(kind: CatalogKind) -> Origin {
    let files = Arc::new(InMemory::new());
    let world = World::open(kind, files.clone()).await;
    let mut snapshots = Vec::new();
    for ids in [0..10, 10..20, 20..30] {
        let all = (0..ids.end).collect();
        let rows = world.session.read_batches([batch(ids)]).unwrap();
        rows.append_to(&world.session, "db.t")
            .create_with(|table| table.partition_by([identity("part")]))
            .await
            .unwrap();
        let table = world.session.table("db.t").await.unwrap();
        snapshots.push((table.core().metadata().current_snapshot_id().unwrap(), all));
    }
    let metadata_location = world.session.table("db.t").await.unwrap().core().metadata_location().to_string();
    Origin { kind, files, metadata_location, snapshots }
}

/// Rows of 10 MiB, however they are encoded: more than an upload holds back.
static LARGE: LazyLock<RecordBatch> = LazyLock::new(|| {
    let mut rng = StdRng::seed_from_u64(7);
    let mut blob = || {
        let mut bytes = vec![0; 64 << 10];
        rng.fill_bytes(&mut bytes);
        bytes
    };
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(30..190));
    let blobs: ArrayRef = Arc::new(BinaryArray::from_iter_values((30..190).map(|_| blob())));
    RecordBatch::try_from_iter([("id", ids), ("blob", blobs)]).unwrap()
});

/// A table for those rows, with a few of them.
async fn origin_of_large(kind: CatalogKind) -> Origin {
    let files = Arc::new(InMemory::new());
    let world = World::open(kind, files.clone()).await;
    let rows = world.session.read_batches([LARGE.slice(0, 3)]).unwrap();
    rows.append_to(&world.session, "db.t")
        .create_with(|table| table.property("write.parquet.compression-codec", "uncompressed"))
        .await
        .unwrap();
    let table = world.session.table("db.t").await.unwrap();
    let metadata = table.core().metadata();
    let snapshots = vec![(metadata.current_snapshot_id().unwrap(), (30..33).collect())];
    Origin { kind, files, metadata_location: table.core().metadata_location().to_string(), snapshots }
}

async fn append_large(session: Session) -> Result<()> {
    let rows = session.read_batches([LARGE.clone()])?;
    rows.append_to(&session, "db.t").idempotency_key("batch-7").await.map(drop)
}

async fn append(session: Session) -> Result<()> {
    let rows = session.read_batches([batch(30..40)])?;
    rows.append_to(&session, "db.t").idempotency_key("batch-7").await.map(drop)
}

async fn overwrite(session: Session) -> Result<()> {
    let rows = session.read_batches([batch(40..45)])?;
    rows.overwrite(&session, "db.t").idempotency_key("batch-7").await.map(drop)
}

async fn compact(session: Session) -> Result<()> {
    let table = session.table("db.t").await?;
    maintenance::compact(&table).min_input_files(2).await.map(drop)
}

/// Runs an operation with each of its requests failing in each way. Gives the kinds of requests that it made then.
async fn enumerate(
    name: &str,
    origin: Origin,
    operation: impl AsyncFn(Session) -> Result<()>,
) -> BTreeSet<OpKind> {
    let (name, mut kinds) = (format!("{name} on {:?}", origin.kind), BTreeSet::new());
    let world = World::fork(&origin).await;
    let before = (world.rows().await, world.files().await);
    operation(world.session.clone()).await.unwrap();
    let after = (world.rows().await, world.files().await);
    assert_ne!(before, after);

    let points = every_fault(&Fault::ALL, async |point| {
        let world = World::fork(&origin).await;
        world.store.arm(point);
        let outcome = operation(world.session.clone()).await;
        let fired = world.store.disarm();
        kinds.extend(world.store.ops().into_iter().map(|op| op.kind));
        let context = format!("{name}, {:?} at {fired:?}", point.fault);
        check(&world, &origin, &outcome, &before, &after, &context).await;

        for _ in 0..2 {
            operation(world.session.clone()).await.unwrap_or_else(|e| panic!("{context}, retried: {e:?}"));
            assert_eq!((world.rows().await, world.files().await), after, "{context}, retried");
        }
        // What the failed run left behind goes, and nothing else.
        let table = world.session.table("db.t").await.unwrap();
        let removal = maintenance::remove_orphan_files(&table).older_than(Duration::ZERO).force(true);
        removal.await.unwrap_or_else(|e| panic!("{context}, orphans: {e:?}"));
        check(&world, &origin, &Ok(()), &before, &after, &context).await;
        fired.is_some()
    })
    .await;
    println!("{name}: {points} fault points");

    for fault in [
        CommitFault::LostAnswer,
        CommitFault::LostRequest,
        CommitFault::Late,
        CommitFault::Conflict,
        CommitFault::LateConflict,
    ] {
        let world = World::fork(&origin).await;
        world.catalog.queue([fault]);
        let outcome = operation(world.session.clone()).await;
        let context = format!("{name}, {fault:?}");
        check(&world, &origin, &outcome, &before, &after, &context).await;
        operation(world.session.clone()).await.unwrap_or_else(|e| panic!("{context}, retried: {e:?}"));
        world.catalog.deliver_late().await;
        assert_eq!((world.rows().await, world.files().await), after, "{context}, delivered late");
    }
    kinds
}

type Reading = (Vec<i64>, usize);

async fn check(
    world: &World,
    origin: &Origin,
    outcome: &Result<()>,
    before: &Reading,
    after: &Reading,
    context: &str,
) {
    // Through a session of its own: nothing that the one of the operation remembers helps.
    let session = Session::builder().catalog(world.catalog.clone()).parallelism(1).build().unwrap();
    let fresh = World { store: world.store.clone(), catalog: world.catalog.clone(), session };
    let now = (fresh.rows().await, fresh.files().await);
    match outcome {
        Ok(()) => assert_eq!(now, *after, "{context}"),
        Err(e) if e.is_commit_state_unknown() => assert!(now == *before || now == *after, "{context}: {e}"),
        Err(e) => assert_eq!(now, *before, "{context}: {e}"),
    }
    for (snapshot_id, rows) in &origin.snapshots {
        let read = fresh.rows_as_of(AsOf::Snapshot(*snapshot_id)).await;
        assert_eq!(read, *rows, "{context}: snapshot {snapshot_id}");
    }
}

#[tokio::test]
async fn whatever_request_of_an_append_fails_it_is_applied_once_or_not_at_all() {
    for kind in CatalogKind::ALL {
        enumerate("append", origin(kind).await, append).await;
    }
}

#[tokio::test]
async fn whatever_part_of_a_large_file_fails_it_is_appended_once_or_not_at_all() {
    for kind in CatalogKind::ALL {
        let ops = enumerate("append of a large file", origin_of_large(kind).await, append_large).await;
        for op in [OpKind::StartUpload, OpKind::PutPart, OpKind::Complete, OpKind::Abort] {
            assert!(ops.contains(&op), "no {op:?} among {ops:?}");
        }
    }
}

#[tokio::test]
async fn whatever_request_of_an_overwrite_fails_it_is_applied_once_or_not_at_all() {
    for kind in CatalogKind::ALL {
        enumerate("overwrite", origin(kind).await, overwrite).await;
    }
}

#[tokio::test]
async fn whatever_request_of_a_compaction_fails_the_rows_stay() {
    for kind in CatalogKind::ALL {
        enumerate("compact", origin(kind).await, compact).await;
    }
}
