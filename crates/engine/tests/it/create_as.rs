//! `CREATE TABLE AS`, and writes that create their table: it comes with all its rows, or nothing is left of it.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Once};

use arrow::datatypes::DataType;
use datafusion::logical_expr::{ColumnarValue, Volatility, create_udf};
use futures::TryStreamExt;
use iceberg::spec::FormatVersion;
use icefield_core::catalog::{NamespaceIdent, TableCreation};
use icefield_core::commit::{Isolation, Transaction};
use icefield_core::evolve::{bucket, identity, partition_spec};
use icefield_core::format::iceberg_schema;
use icefield_core::storage::Storage;
use icefield_core::{Clock, ErrorKind, SystemClock};
use icefield_engine::ops::{DataFrameExt, TableOptions};
use icefield_engine::write::{WriteOptions, write_data_files};
use icefield_engine::{Session, from_datafusion};
use icefield_testkit::{
    CatalogKind, CommitFault, Engine, FakeClock, Fault, FaultyCatalog, FaultyStore, OpKind, Pick, Referee,
    content_hash, every_fault, referee_schema,
};

use crate::scan_support::{rows, run};
use crate::write_support::{Lake, content, data_files, random};

const QUERY: &str = "CREATE TABLE db.made AS SELECT column1 AS id, column2 AS city \
                     FROM (VALUES (1, 'x'), (2, NULL), (3, 'z'))";
const ROWS: [&str; 3] = ["1|x", "2|NULL", "3|z"];

/// What creates the table with its rows.
#[derive(Debug, Clone, Copy)]
enum By {
    Statement,
    /// A batch that has a key.
    Append,
}

impl By {
    const ALL: [Self; 2] = [Self::Statement, Self::Append];
}

/// A session on a store and a catalog that fail on demand, with the namespace `db`.
struct World {
    store: FaultyStore,
    /// The whole of the store.
    storage: Storage,
    catalog: Arc<FaultyCatalog>,
    session: Session,
}

impl World {
    async fn new() -> Self {
        Self::of(CatalogKind::Pointers).await
    }

    async fn of(kind: CatalogKind) -> Self {
        static SEEDS: AtomicU64 = AtomicU64::new(1);
        let clock = FakeClock::new(SEEDS.fetch_add(1, Ordering::Relaxed));
        clock.set_ms(SystemClock.now_ms());
        let store = FaultyStore::in_memory();
        let storage = Storage::new().with_store("memory://w", Arc::new(store.clone())).unwrap();
        let catalog = kind.open("memory://w", Arc::new(store.clone()), clock.shared());
        catalog.create_namespace(&NamespaceIdent::new("db".to_string()), HashMap::new()).await.unwrap();
        let catalog = Arc::new(FaultyCatalog::new(catalog));
        let session = Session::builder().catalog(catalog.clone()).parallelism(2).build().unwrap();
        Self { store, storage, catalog, session }
    }

    async fn files(&self) -> BTreeSet<String> {
        let listed: Vec<_> = self.storage.list("memory://w").try_collect().await.unwrap();
        listed.into_iter().map(|entry| entry.location).collect()
    }

    async fn is_there(&self) -> bool {
        match self.session.table("db.made").await {
            Ok(_) => true,
            Err(e) if e.kind() == ErrorKind::NotFound => false,
            Err(e) => panic!("{e}"),
        }
    }

    async fn create(&self, by: By) -> icefield_core::Result<()> {
        match by {
            By::Statement => run(&self.session, QUERY).await,
            By::Append => {
                let rows = self.session.sql(QUERY.split_once(" AS ").unwrap().1).await?;
                let append = rows.append_to(&self.session, "db.made").create_with(|t| t);
                append.idempotency_key("batch").await.map(drop)
            }
        }
    }

    /// A function `meanwhile` of a BIGINT, which runs a statement when it is first called.
    fn meanwhile(&self, statement: &'static str) {
        let (session, once) = (self.session.clone(), Once::new());
        let function = move |arguments: &[ColumnarValue]| {
            once.call_once(|| {
                let runtime = tokio::runtime::Handle::current();
                tokio::task::block_in_place(|| runtime.block_on(run(&session, statement))).unwrap();
            });
            Ok(arguments[0].clone())
        };
        let types = (vec![DataType::Int64], DataType::Int64);
        let udf = create_udf("meanwhile", types.0, types.1, Volatility::Volatile, Arc::new(function));
        self.session.context().register_udf(udf);
    }

    async fn assert_whole(&self, context: &str) {
        let table = self.session.table("db.made").await.unwrap();
        let metadata = table.core().metadata();
        assert_eq!((metadata.snapshots().len(), metadata.history().len()), (1, 1), "{context}");
        assert!(metadata.metadata_log().is_empty(), "{context}");
        assert_eq!(rows(&self.session, "SELECT * FROM db.made ORDER BY id").await, ROWS, "{context}");
    }
}

/// Every file under a folder but the catalog's own.
fn files_in(folder: &Path) -> Vec<String> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        match path.is_dir() {
            true => files.extend(files_in(&path)),
            false => files.push(path.display().to_string()),
        }
    }
    files.retain(|file| !file.contains("/catalog.db"));
    files
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_that_fails_leaves_no_table_and_no_file() {
    let lake = Lake::open().await;
    let world = World::new().await;
    // The row that can't be cast is the last of many, when the writer has begun.
    let query = "CREATE TABLE db.made AS SELECT 0 AS x UNION ALL SELECT CAST(CASE WHEN value = 300000 THEN 'a' ELSE \
                 CAST(value AS VARCHAR) END AS INT) AS x FROM generate_series(1, 300000)";
    for session in [&lake.session, &world.session] {
        let error = run(session, query).await.unwrap_err();
        assert!(error.to_string().contains("Cannot cast string 'a'"), "{error}");
        assert_eq!(session.table("db.made").await.unwrap_err().kind(), ErrorKind::NotFound);
    }
    assert_eq!(files_in(lake.folder.path()), Vec::<String>::new());
    assert_eq!(world.files().await, BTreeSet::new());
    let error = run(&lake.session, "CREATE TABLE db.half AS SELECT NULL AS x").await.unwrap_err();
    assert_eq!(lake.session.table("db.half").await.unwrap_err().kind(), ErrorKind::NotFound, "{error}");
    // The name is free.
    lake.session.sql("CREATE TABLE db.half AS SELECT 1 AS x").await.unwrap().collect().await.unwrap();
    assert_eq!(rows(&lake.session, "SELECT * FROM db.half").await, ["1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_taken_while_the_query_runs_stays_the_others() {
    for clause in ["", "IF NOT EXISTS "] {
        let world = World::new().await;
        world.meanwhile("CREATE TABLE db.made AS SELECT 7 AS theirs");
        let query = format!(
            "CREATE TABLE {clause}db.made AS SELECT meanwhile(value) AS x FROM generate_series(1, 9)"
        );
        match run(&world.session, &query).await {
            Ok(_) => assert_ne!(clause, ""),
            Err(e) => assert_eq!((clause, e.kind()), ("", ErrorKind::AlreadyExists), "{e}"),
        }
        assert_eq!(rows(&world.session, "SELECT * FROM db.made").await, ["7"]);
        let table = world.session.table("db.made").await.unwrap();
        assert_eq!(table.core().metadata().snapshots().len(), 1);
        // A data file, a manifest, a manifest list and a metadata file: those of the table that is there.
        let files = world.files().await;
        assert_eq!(files.len(), 4, "{files:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_creates_its_table_and_fails_leaves_none() {
    let world = World::new().await;
    let query = "SELECT CAST(CASE WHEN value = 300000 THEN 'a' ELSE CAST(value AS VARCHAR) END AS INT) AS x \
                 FROM generate_series(1, 300000)";
    let frame = || async { world.session.sql(query).await.unwrap() };
    // Files are small, so that some are closed before the row that can't be cast.
    let small = |t: TableOptions| t.property("write.target-file-size-bytes", "65536");
    frame().await.append_to(&world.session, "db.made").create_with(small).await.unwrap_err();
    let closed = world.store.count_of(OpKind::Put, ".parquet");
    assert!(closed > 1, "{:?}", world.store.ops());
    frame().await.overwrite(&world.session, "db.made").create_with(small).await.unwrap_err();
    assert!(world.store.count_of(OpKind::Put, ".parquet") > closed, "{:?}", world.store.ops());
    let missing = frame().await.append_to(&world.session, "db.made").create_with(small).branch("b").await;
    assert!(missing.unwrap_err().to_string().contains("no such branch"));
    assert!(!world.is_there().await);
    assert_eq!(world.files().await, BTreeSet::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_go_to_the_table_that_another_writer_created_while_they_were_written() {
    // An overwrite that is serializable would replace rows that it has not seen.
    let world = World::new().await;
    world.meanwhile("CREATE TABLE db.made AS SELECT CAST(7 AS BIGINT) AS x");
    let write = world.session.sql("SELECT meanwhile(value) AS x FROM generate_series(1, 2)").await.unwrap();
    let write = write.overwrite(&world.session, "db.made").create_with(|t| t);
    assert_eq!(write.await.unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(rows(&world.session, "SELECT * FROM db.made").await, ["7"]);
    assert_eq!(world.files().await.iter().filter(|file| file.ends_with(".parquet")).count(), 1);

    for dynamic in [false, true] {
        let world = World::new().await;
        world.meanwhile("CREATE TABLE db.made AS SELECT CAST(7 AS BIGINT) AS x");
        let rows_to_add = world.session.sql("SELECT meanwhile(value) AS x FROM generate_series(1, 2)").await;
        let rows_to_add = rows_to_add.unwrap();
        let report = match dynamic {
            false => rows_to_add.append_to(&world.session, "db.made").create_with(|t| t).await,
            true => {
                let write = rows_to_add.overwrite(&world.session, "db.made").dynamic_partitions();
                write.create_with(|t| t).isolation(Isolation::Snapshot).await
            }
        };
        let report = report.unwrap();
        assert!(!report.created && report.rows == 2, "{report:?}");
        let expected: &[&str] = if dynamic { &["1", "2"] } else { &["1", "2", "7"] };
        assert_eq!(rows(&world.session, "SELECT * FROM db.made ORDER BY x").await, expected);
        // What was written for the table that did not come to be is gone; what the overwrite replaced is kept by history.
        let data = world.files().await.into_iter().filter(|file| file.ends_with(".parquet"));
        let data: Vec<String> = data.collect();
        let live = data_files(report.table.core()).await.len();
        assert_eq!(data.len(), live + usize::from(dynamic), "{data:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_of_no_rows_creates_its_table() {
    let lake = Lake::open().await;
    let empty = lake.session.sql("SELECT 1 AS x WHERE false").await.unwrap();
    for (name, dynamic) in [("db.appended", None), ("db.whole", Some(false)), ("db.parts", Some(true))] {
        let report = match dynamic {
            None => empty.clone().append_to(&lake.session, name).create_with(|t| t).await,
            Some(false) => empty.clone().overwrite(&lake.session, name).create_with(|t| t).await,
            Some(true) => {
                let write = empty.clone().overwrite(&lake.session, name).dynamic_partitions();
                write.create_with(|t| t.partition_by([identity("x")])).await
            }
        };
        assert!(report.unwrap().created, "{name}");
        assert_eq!(
            lake.session.table(name).await.unwrap().dataframe().await.unwrap().count().await.unwrap(),
            0
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_request_of_a_creation_with_rows_fails_the_table_is_whole_or_absent() {
    for kind in CatalogKind::ALL {
        every_fault(&Fault::ALL, async |point| {
            let mut met = false;
            for by in By::ALL {
                let world = World::of(kind).await;
                world.store.arm(point);
                let outcome = world.create(by).await;
                let fired = world.store.disarm();
                let context = format!("{kind:?} {by:?}: {:?} at {fired:?}", point.fault);
                if let Err(error) = outcome {
                    assert!(!world.is_there().await, "{context}: {error}");
                    let unknown = error.is_commit_state_unknown();
                    // A server that fails does not say how far it came, and nothing is deleted.
                    assert!(!unknown || kind == CatalogKind::Requirements, "{context}: {error}");
                    if !unknown && !matches!(point.fault, Fault::Down | Fault::DownAfter) {
                        assert_eq!(world.files().await, BTreeSet::new(), "{context}");
                    }
                    world.create(by).await.unwrap_or_else(|e| panic!("{context}, again: {e:?}"));
                }
                world.assert_whole(&context).await;
                met |= fired.is_some();
            }
            met
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_leaves_the_table_whole_or_all_of_its_files() {
    for by in By::ALL {
        let world = World::new().await;
        world.catalog.queue([CommitFault::LostAnswer]);
        world.create(by).await.unwrap();
        world.assert_whole("the answer was lost").await;

        for (fault, arrives) in [(CommitFault::LostRequest, false), (CommitFault::Late, true)] {
            let world = World::new().await;
            world.catalog.queue([fault]);
            let error = world.create(by).await.unwrap_err();
            assert!(error.is_commit_state_unknown(), "{fault:?}: {error}");
            assert!(!world.is_there().await, "{fault:?}");
            let kept = world.files().await;
            for part in [".parquet", "-m0.avro", "/snap-"] {
                assert!(kept.iter().any(|file| file.contains(part)), "{fault:?}: no {part} in {kept:?}");
            }
            world.catalog.deliver_late().await;
            assert_eq!(world.is_there().await, arrives);
            // A batch with a key is sent again, and there once; a statement says that the table is there.
            let again = world.create(by).await;
            assert_eq!(again.is_ok(), !arrives || matches!(by, By::Append), "{by:?}: {again:?}");
            world.assert_whole(&format!("{fault:?}")).await;
            assert!(kept.is_subset(&world.files().await), "{fault:?}");
        }

        let world = World::new().await;
        world.catalog.queue([CommitFault::Fail]);
        world.create(by).await.unwrap_err();
        assert!(!world.is_there().await);
        assert_eq!(world.files().await, BTreeSet::new());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_without_rows_makes_an_empty_table() {
    let lake = Lake::open().await;
    lake.session
        .sql("CREATE TABLE db.t AS SELECT 1 AS id, 'x' AS city WHERE 1 = 0")
        .await
        .unwrap()
        .collect()
        .await
        .unwrap();
    let query = "CREATE TABLE db.u AS SELECT value AS id FROM generate_series(1, 9) WHERE value % 10 = 0";
    run(&lake.session, query).await.unwrap();
    for (name, columns) in [("db.t", 2), ("db.u", 1)] {
        let table = lake.session.table(name).await.unwrap();
        assert_eq!(table.core().metadata().snapshots().len(), 0, "{name}");
        assert_eq!(table.core().schema().as_struct().fields().len(), columns, "{name}");
        assert_eq!(rows(&lake.session, &format!("SELECT count(*) FROM {name}")).await, ["0"]);
    }
    // The tables are written to as others are.
    assert_eq!(rows(&lake.session, "INSERT INTO db.u SELECT 5").await, ["1"]);
    assert_eq!(rows(&lake.session, "SELECT * FROM db.u").await, ["5"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_reference_implementation_reads_tables_that_came_with_their_rows() {
    let lake = Lake::open().await;
    let referee = Referee::with_engines(&[Engine::Java]);
    let batches = random(3, &referee_schema(FormatVersion::V2), 2, 200);
    lake.session.context().register_table("source", lake.frame(&batches).into_view()).unwrap();
    lake.session.sql("CREATE TABLE db.v2 AS SELECT * FROM source").await.unwrap().collect().await.unwrap();
    let table = lake.session.table("db.v2").await.unwrap();
    let metadata = table.core().metadata();
    assert_eq!((metadata.format_version(), metadata.history().len()), (FormatVersion::V2, 1));
    let expected = content_hash(&batches, table.core().schema());
    assert_eq!(content(table.core()).await, expected);
    let _ = referee.check(table.core().metadata_location(), Pick::Current, &expected).await;
    // What is added later continues the history.
    assert_eq!(rows(&lake.session, "INSERT INTO db.v2 SELECT * FROM source").await, ["400"]);
    let table = lake.session.table("db.v2").await.unwrap();
    assert_eq!(table.core().metadata().history().len(), 2);
    let twice = content(table.core()).await;
    assert_eq!(twice.rows, 800);
    let _ = referee.check(table.core().metadata_location(), Pick::Current, &twice).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partitioned_table_of_version_3_comes_with_its_rows_and_their_ids() {
    let lake = Lake::open().await;
    let catalog = lake.session.catalog();
    let namespace = NamespaceIdent::new("db".to_string());
    catalog.create_namespace(&namespace, HashMap::new()).await.unwrap();
    let query = "SELECT value AS id, concat('city ', CAST(value % 3 AS VARCHAR)) AS city \
                 FROM generate_series(1, 90)";
    let frame = lake.session.sql(query).await.unwrap();
    let schema = iceberg_schema(frame.schema().as_arrow(), FormatVersion::V3).unwrap();
    let spec = partition_spec(&schema, [identity("city"), bucket("id", 2)]).unwrap();
    let creation = TableCreation::builder()
        .name("t".to_string())
        .schema(schema)
        .partition_spec(spec)
        .format_version(FormatVersion::V3)
        .build();
    let table = catalog.stage_table(&namespace, creation).await.unwrap();
    let batches = frame.clone().collect().await.unwrap();
    let context = Arc::new(frame.task_ctx());
    let plan = frame.create_physical_plan().await.unwrap();
    let written = write_data_files(&table, plan, context, &WriteOptions::new()).await.unwrap();
    assert_eq!(lake.session.table("db.t").await.unwrap_err().kind(), ErrorKind::NotFound);
    let done = Transaction::new(&table).append(written.files).commit(&**catalog).await.unwrap();

    let metadata = done.table.metadata();
    assert_eq!((metadata.history().len(), metadata.next_row_id()), (1, 90));
    assert_eq!(data_files(&done.table).await.len(), 6);
    let expected = content_hash(&batches, done.table.schema());
    assert_eq!(content(&done.table).await, expected);
    let ids = lake.session.table("db.t").await.unwrap().dataframe_with_metadata_columns().await;
    let ids = ids.unwrap().select_columns(&["_row_id"]).unwrap().distinct().unwrap();
    assert_eq!(ids.count().await.unwrap(), 90);
    let referee = Referee::with_engines(&[Engine::Java]);
    let _ = referee.check(done.table.metadata_location(), Pick::Current, &expected).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replacement_by_a_tables_own_rows_loses_no_commit() {
    const REPLACE: &str = "CREATE OR REPLACE TABLE db.t AS SELECT id, 'x' AS kind FROM db.t";
    let lake = Lake::open().await;
    let done = async |query: &str| lake.session.sql(query).await.unwrap().collect().await;
    done("CREATE TABLE db.t AS SELECT 1 AS id").await.unwrap();
    let replacement = lake.session.sql(REPLACE).await.unwrap();
    done("INSERT INTO db.t SELECT 2").await.unwrap();
    let error = from_datafusion(replacement.collect().await.unwrap_err());
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    assert_eq!(rows(&lake.session, "SELECT * FROM db.t ORDER BY id").await, ["1", "2"]);
    assert_eq!(data_files(lake.session.table("db.t").await.unwrap().core()).await.len(), 2);
    done(REPLACE).await.unwrap();
    assert_eq!(rows(&lake.session, "SELECT * FROM db.t ORDER BY id").await, ["1|x", "2|x"]);
}
