//! Writers share the rows, the cores, the memory and the way to the store: few rows are one file, nothing waits for ever,
//! what is dropped leaves no upload behind.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arrow::array::{AsArray, BinaryArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use datafusion::catalog::streaming::StreamingTable;
use datafusion::dataframe::DataFrame;
use datafusion::execution::memory_pool::{MemoryLimit, MemoryPool, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use datafusion::prelude::JoinType;
use futures::{StreamExt, TryStreamExt, stream};
use icefield_core::catalog::{Catalog, MemoryCatalog};
use icefield_core::storage::Storage;
use icefield_engine::ops::partitioning::{asc, bucket, identity};
use icefield_engine::ops::{DataFrameExt, TableOptions};
use icefield_engine::write::WriteOptions;
use icefield_engine::{Session, SharedMemoryPool};
use icefield_testkit::{Fault, FaultyStore, OpKind};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::write_support::{batch, data_files, longs, rows_of};

type Batches = datafusion::common::Result<RecordBatch>;
type Make = dyn Fn(usize) -> SendableRecordBatchStream + Send + Sync;

/// A source whose partitions are made by a function of their number.
struct Part {
    number: usize,
    schema: SchemaRef,
    make: Arc<Make>,
}

impl fmt::Debug for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Part({})", self.number)
    }
}

impl PartitionStream for Part {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        (self.make)(self.number)
    }
}

pub(crate) fn source<S>(
    session: &Session,
    schema: &SchemaRef,
    partitions: usize,
    make: impl Fn(usize) -> S + Send + Sync + 'static,
) -> DataFrame
where
    S: stream::Stream<Item = Batches> + Send + 'static,
{
    let of = schema.clone();
    let make: Arc<Make> = Arc::new(move |number| -> SendableRecordBatchStream {
        Box::pin(RecordBatchStreamAdapter::new(of.clone(), make(number)))
    });
    let part = |number| Arc::new(Part { number, schema: schema.clone(), make: make.clone() }) as _;
    let table = StreamingTable::try_new(schema.clone(), (0..partitions).map(part).collect()).unwrap();
    session.context().read_table(Arc::new(table)).unwrap()
}

/// A store that fails on demand, and a session over it.
struct World {
    store: FaultyStore,
    session: Session,
}

impl World {
    fn new(parallelism: usize) -> Self {
        Self::with_budget(parallelism, 1 << 30)
    }

    fn with_budget(parallelism: usize, bytes: usize) -> Self {
        let store = FaultyStore::in_memory();
        let storage = Storage::new().with_store("memory://w", Arc::new(store.clone())).unwrap();
        let catalog: Arc<dyn Catalog> = Arc::new(MemoryCatalog::new("memory://w", storage));
        let session = Session::builder().catalog(catalog).parallelism(parallelism).memory_budget(bytes);
        Self { store, session: session.build().unwrap() }
    }

    fn reserved(&self) -> usize {
        self.session.context().runtime_env().memory_pool.reserved()
    }

    async fn data_files(&self) -> Vec<String> {
        let storage = self.session.catalog().storage();
        let listed: Vec<_> = storage.list("memory://w").try_collect().await.unwrap();
        listed.into_iter().map(|entry| entry.location).filter(|file| file.ends_with(".parquet")).collect()
    }

    fn uploads(&self) -> (usize, usize) {
        let ended = self.store.count(OpKind::Complete) + self.store.count(OpKind::Abort);
        (self.store.count(OpKind::StartUpload), ended)
    }
}

async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), future).await.expect("nothing hangs")
}

async fn until(what: &str, is: impl Fn() -> bool) {
    for _ in 0..4000 {
        if is() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("never: {what}");
}

fn ids(part: usize, rows: usize) -> RecordBatch {
    let first = (part * 1_000_000) as i64;
    batch(vec![("id", longs(first..first + rows as i64)), ("part", longs((0..rows).map(|n| n as i64 % 3)))])
}

/// A megabyte that does not compress.
fn noise(seed: usize) -> RecordBatch {
    let mut state = (seed as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let rows = (0..16).map(|_| (0..8192).flat_map(|_| next()).collect::<Vec<u8>>());
    batch(vec![("bytes", Arc::new(BinaryArray::from_iter_values(rows)))])
}

type Shape = fn(TableOptions) -> TableOptions;

/// Tables whose rows are dealt to writers in each way that there is.
const SHAPES: [(&str, Shape); 5] = [
    ("as_they_come", |t| t),
    ("by_partition", |t| t.partition_by([identity("part")])),
    ("sorted", |t| t.sort_by([asc("id")])),
    ("sorted_partitions", |t| {
        t.partition_by([identity("part")]).sort_by([asc("id")]).property("write.distribution-mode", "hash")
    }),
    ("sorted_alone", |t| t.sort_by([asc("id")]).property("write.distribution-mode", "none")),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_small_result_of_many_partitions_is_one_file() {
    let world = World::new(16);
    let grouped = "SELECT value % 500 AS id, value % 500 % 3 AS part, count(*) AS n FROM generate_series(1, 20000) \
                   GROUP BY 1, 2";
    for (name, shape) in SHAPES {
        let frame = world.session.sql(grouped).await.unwrap();
        let write = frame.append_to(&world.session, format!("small.{name}")).create_with(shape);
        let report = soon(async { write.await }).await.unwrap();
        let partitions = if name.contains("partition") { 3 } else { 1 };
        assert_eq!((report.rows, report.files), (500, partitions), "{name}");
        // Nothing is nothing, and one row is one file.
        for (rows, filter) in [(0, "id > 500"), (1, "id = 7")] {
            let frame =
                world.session.sql(&format!("SELECT * FROM ({grouped}) WHERE {filter}")).await.unwrap();
            let write = frame.append_to(&world.session, format!("small.{name}"));
            let report = soon(async { write.await }).await.unwrap();
            assert_eq!((report.rows, report.files), (rows, rows), "{name}");
        }
    }
    assert_eq!(world.reserved(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_partition_of_a_source_is_read_from_the_start() {
    let world = World::new(4);
    let schema = ids(0, 1).schema();
    for (name, shape) in SHAPES {
        // Nobody has rows before all are asked for them, as partitions of a hash join.
        let all = Arc::new(tokio::sync::Barrier::new(9));
        let frame = source(&world.session, &schema, 9, move |part| {
            let all = all.clone();
            stream::once(async move {
                all.wait().await;
                Ok(ids(part, 100))
            })
        });
        let write = frame.append_to(&world.session, format!("all.{name}")).create_with(shape);
        let report = soon(async { write.await }).await.unwrap();
        assert_eq!(report.rows, 900, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rows_of_a_hash_join_are_written_on_its_own_runtime() {
    let world = World::new(4);
    let session = &world.session;
    for name in ["orders", "customers"] {
        for part in 0..4 {
            let frame = session.read_batches([ids(part, 2000)]).unwrap();
            frame.append_to(session, format!("join.{name}")).create_with(|t| t).await.unwrap();
        }
    }
    for (name, shape) in SHAPES {
        let orders = session.sql("SELECT id AS of, part FROM join.orders").await.unwrap();
        let customers = session.sql("SELECT id FROM join.customers").await.unwrap();
        let joined = orders.join(customers, JoinType::Inner, &["of"], &["id"], None).unwrap();
        let joined = joined.select_columns(&["id", "part"]).unwrap();
        let write = joined.append_to(session, format!("joined.{name}")).create_with(shape);
        let report = soon(async { write.await }).await.unwrap();
        assert_eq!(report.rows, 8000, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_partition_of_a_source_holds_no_other_back() {
    // Of partitions a writer gathers some rows first: here not many.
    let world = World::with_budget(4, 16 << 20);
    let schema = ids(0, 1).schema();
    for partitioned in [false, true] {
        // The first partition has rows only once all of the others' are encoded.
        let done = Arc::new(tokio::sync::Notify::new());
        let wait = done.clone();
        let frame = source(&world.session, &schema, 4, move |part| {
            let wait = wait.clone();
            let slow = stream::once(async move {
                wait.notified().await;
                Ok(ids(0, 10))
            });
            match part {
                0 => slow.boxed(),
                _ => stream::iter((0..25).map(move |n| Ok(ids(part * 100 + n, 1000)))).boxed(),
            }
        });
        let options = WriteOptions::new().progress(Arc::new(move |progress| {
            if progress.rows >= if partitioned { 20_000 } else { 75_000 } {
                done.notify_one();
            }
        }));
        let write = frame.append_to(&world.session, format!("slow.t{partitioned}")).write_options(options);
        let write = write.create_with(|t| if partitioned { t.partition_by([bucket("id", 2)]) } else { t });
        assert_eq!(soon(async { write.await }).await.unwrap().rows, 75_010);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_that_fails_stops_the_others_and_the_readers() {
    for (name, shape) in SHAPES {
        let world = World::new(4);
        let readers = Arc::new(());
        let reader = readers.clone();
        let failing = Arc::new(AtomicUsize::new(0));
        let seen = failing.clone();
        // The third file can't be written, while more rows come for as long as somebody takes them.
        world.store.arm_when(move |op| {
            let written = op.kind == OpKind::Put && op.path.ends_with(".parquet");
            (written && seen.fetch_add(1, Ordering::Relaxed) == 2).then_some(Fault::Fail)
        });
        // What is sorted has to end before it is written.
        let most = if name.starts_with("sorted") { 20 } else { usize::MAX };
        let schema = ids(0, 1).schema();
        let frame = source(&world.session, &schema, 8, move |part| {
            let reader = reader.clone();
            stream::unfold((0, reader), move |(n, reader)| async move {
                tokio::task::yield_now().await;
                (n < most).then(|| (Ok(ids(part * 10_000 + n, 2000)), (n + 1, reader)))
            })
        });
        let small = |t| shape(t).property("write.target-file-size-bytes", "20000");
        let write = frame.append_to(&world.session, "failing.t").create_with(small);
        let error = soon(async { write.await }).await.unwrap_err();
        assert!(error.to_string().contains("injected fault"), "{name}: {error:?}");
        assert!(failing.load(Ordering::Relaxed) > 2);
        until("the readers end", || Arc::strong_count(&readers) == 1 || most < usize::MAX).await;
        until("memory is given back", || world.reserved() == 0).await;
        assert_eq!(world.data_files().await, Vec::<String>::new(), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_panics_fails_the_write_and_leaves_no_file() {
    for (name, shape) in SHAPES {
        let world = World::new(4);
        let frame = source(&world.session, &ids(0, 1).schema(), 4, move |part| {
            stream::iter(0..10).map(move |n| {
                assert!(part != 2 || n < 5, "a source's own fault");
                Ok(ids(part * 100 + n, 1000))
            })
        });
        let small = |t| shape(t).property("write.target-file-size-bytes", "5000");
        let write = frame.append_to(&world.session, "panic.t").create_with(small);
        soon(async { write.await }).await.unwrap_err();
        until("memory is given back", || world.reserved() == 0).await;
        assert_eq!(world.data_files().await, Vec::<String>::new(), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_or_failed_write_aborts_its_uploads() {
    let plain = |t: TableOptions| {
        t.property("write.parquet.compression-codec", "uncompressed")
            .property("write.parquet.row-group-size-bytes", "4000000")
    };
    let schema = noise(0).schema();
    for fails in [false, true] {
        let world = World::new(2);
        let slow = |op: &icefield_testkit::Op| op.kind == OpKind::PutPart;
        world.store.arm_when(move |op| slow(op).then_some(Fault::Delay(Duration::from_millis(10))));
        let frame = source(&world.session, &schema, 2, move |part| {
            let broken = datafusion::error::DataFusionError::Execution("the source is gone".into());
            let rows = (0..).map(move |n| Ok(noise(part * 1000 + n)));
            match fails {
                true => stream::iter(rows.take(20).chain([Err(broken)])).boxed(),
                false => stream::iter(rows).boxed(),
            }
        });
        let write = frame.append_to(&world.session, "dropped.t").create_with(plain);
        let write = tokio::spawn(async move { write.await.map(drop) });
        if fails {
            soon(write).await.unwrap().unwrap_err();
        } else {
            until("parts are sent", || world.store.count(OpKind::PutPart) > 1).await;
            write.abort();
            let _ = soon(write).await;
        }
        assert!(world.uploads().0 > 0, "{:?}", world.store.ops());
        until("each upload is ended", || world.uploads().0 == world.uploads().1).await;
        until("memory is given back", || world.reserved() == 0).await;
        assert_eq!(world.data_files().await, Vec::<String>::new());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_row_is_written_once_and_sorted_files_are_sorted() {
    // Little room and small files: several writers, also of one partition.
    let world = World::with_budget(4, 8 << 20);
    for (name, shape) in SHAPES {
        let frame = source(&world.session, &ids(0, 1).schema(), 5, |part| {
            stream::iter((0..8).rev().map(move |n| Ok(ids(part * 8 + n, 1000))))
        });
        let small = |t| {
            shape(t)
                .property("write.target-file-size-bytes", "30000")
                .property("write.parquet.compression-codec", "uncompressed")
        };
        let write = frame.append_to(&world.session, format!("once.{name}")).create_with(small);
        let report = soon(async { write.await }).await.unwrap();
        assert!(report.rows == 40_000 && report.files > 3, "{name}: {report:?}");
        let mut all = Vec::new();
        for file in data_files(report.table.core()).await {
            let mut of = Vec::new();
            for rows in rows_of(report.table.core(), &file).await {
                of.extend_from_slice(rows["id"].as_primitive::<Int64Type>().values());
            }
            assert!(of.is_sorted() || !name.starts_with("sorted"), "{name}: {}", file.file_path());
            all.extend(of);
        }
        all.sort();
        let expected = (0..40).flat_map(|batch| batch * 1_000_000..batch * 1_000_000 + 1000);
        assert!(all.into_iter().eq(expected), "{name}");
    }
}

/// A pool that remembers the most that was held.
#[derive(Debug)]
struct Peak(Arc<SharedMemoryPool>, AtomicUsize);

impl fmt::Display for Peak {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl MemoryPool for Peak {
    fn name(&self) -> &str {
        "peak"
    }

    fn register(&self, consumer: &datafusion::execution::memory_pool::MemoryConsumer) {
        self.0.register(consumer);
    }

    fn unregister(&self, consumer: &datafusion::execution::memory_pool::MemoryConsumer) {
        self.0.unregister(consumer);
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        self.0.grow(reservation, additional);
        self.1.fetch_max(self.0.reserved(), Ordering::Relaxed);
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        self.0.shrink(reservation, shrink);
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> datafusion::common::Result<()> {
        self.0.try_grow(reservation, additional)?;
        self.1.fetch_max(self.0.reserved(), Ordering::Relaxed);
        Ok(())
    }

    fn reserved(&self) -> usize {
        self.0.reserved()
    }

    fn memory_limit(&self) -> MemoryLimit {
        self.0.memory_limit()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn row_groups_have_their_size_whatever_the_parallelism() {
    const LIMIT: usize = 16 << 20;
    const ROW_GROUP: usize = 128 << 10;
    for (name, shape) in SHAPES.into_iter().filter(|(name, _)| !name.starts_with("sorted")) {
        let pool = Arc::new(Peak(SharedMemoryPool::new(LIMIT), AtomicUsize::new(0)));
        let session = Session::builder().memory_pool(pool.clone()).parallelism(64).build().unwrap();
        assert_eq!(session.memory_budget(), LIMIT);
        let frame = source(&session, &ids(0, 1).schema(), 64, |part| {
            stream::iter((0..5).map(move |n| Ok(ids(part * 8 + n, 1000))))
        });
        let sized = |t| {
            shape(t)
                .property("write.parquet.row-group-size-bytes", ROW_GROUP.to_string())
                .property("write.parquet.compression-codec", "uncompressed")
        };
        let write = frame.append_to(&session, "sized.t").create_with(sized);
        let report = soon(async { write.await }).await.unwrap();
        assert_eq!(report.rows, 320_000);
        let table = report.table.core();
        let mut full = 0;
        for file in data_files(table).await {
            let bytes = table.storage().read(file.file_path()).await.unwrap();
            let metadata = ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap().metadata().clone();
            let sizes: Vec<i64> = metadata.row_groups().iter().map(|group| group.compressed_size()).collect();
            let (_, but_last) = sizes.split_last().unwrap();
            assert!(but_last.iter().all(|size| *size as usize > ROW_GROUP * 9 / 10), "{name}: {sizes:?}");
            full += but_last.len();
        }
        assert!(full > 8, "{name}: {full}");
        let peak = pool.1.load(Ordering::Relaxed);
        assert!(peak < LIMIT, "{name}: {peak}");
        assert_eq!(pool.reserved(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tiny_budget_takes_wide_rows_and_many_partitions() {
    let session = Session::builder().memory_budget(16 << 20).parallelism(64).build().unwrap();
    let wide = |part: usize| {
        let columns = (0..100).map(|column| {
            let values =
                (0..500).map(move |row| (part * 500 + row) as i64 * if column == 0 { 1 } else { 7919 });
            (format!("c{column}"), longs(values))
        });
        RecordBatch::try_from_iter(columns).unwrap()
    };
    let frame = source(&session, &wide(0).schema(), 16, move |part| stream::iter([Ok(wide(part))]));
    let write = frame.append_to(&session, "tiny.wide").create_with(|t| t.partition_by([bucket("c0", 5)]));
    let report = soon(async { write.await }).await.unwrap();
    assert_eq!((report.rows, report.files), (8000, 5));
    // More partitions than any writer has files open, in one batch.
    let many = session.read_batches([ids(0, 700)]).unwrap();
    let write = many.append_to(&session, "tiny.many").create_with(|t| t.partition_by([identity("id")]));
    let write = write.write_options(WriteOptions::new().max_open_files(4));
    let report = soon(async { write.await }).await.unwrap();
    assert_eq!((report.rows, report.files), (700, 700));
    assert_eq!(session.context().runtime_env().memory_pool.reserved(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_share_one_memory_pool() {
    let pool = SharedMemoryPool::new(64 << 20);
    let session = || Session::builder().memory_pool(pool.clone()).parallelism(2).build().unwrap();
    let (one, other) = (session(), session());
    let sort = "SELECT max(place) FROM (SELECT row_number() OVER (ORDER BY value * 7 % 1000003) AS place \
                FROM generate_series(1, 300000))";
    let mut running = one.sql(sort).await.unwrap().execute_stream().await.unwrap();
    let schema = Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, true)]));
    let rows = RecordBatch::try_new(schema, vec![Arc::new(Int64Array::from_iter_values(0..1000))]).unwrap();
    let frame = other.read_batches([rows]).unwrap();
    let (read, written) = soon(async {
        let write = frame.append_to(&other, "db.t").create_with(|t| t);
        tokio::join!(running.next(), async { write.await })
    })
    .await;
    assert_eq!((read.unwrap().unwrap().num_rows(), written.unwrap().rows), (1, 1000));
    drop(running);
    until("all is given back", || pool.reserved() == 0).await;
}
