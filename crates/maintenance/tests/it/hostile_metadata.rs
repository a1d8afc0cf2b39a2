//! Random hostile metadata: whatever files of a store a table's metadata names, and whatever is done with the table, nothing
//! happens to files that are not the table's. Every failure names its seed; `ICEFIELD_SEEDS` is how many are tried.
//!
//! Half of the tables are in a catalog of their own, whose warehouse is the table's folder: no request leaves that. The others are
//! in a catalog with a neighbour, and may name the neighbour's files: its rows and all of its files stay as they are.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use iceberg::spec::{
    DataContentType, DataFileBuilder, DataFileFormat, FormatVersion, ManifestContentType, Struct,
};
use icefield_core::catalog::{Catalog, FOLDER_PROPERTIES, MemoryCatalog, NamespaceIdent, parse_ident};
use icefield_core::format::{
    ManifestListHead, ManifestWriter, PartitionTypes, load_manifest_list, parse_metadata, write_manifest_list,
};
use icefield_core::storage::Storage;
use icefield_core::{Error, Result};
use icefield_engine::ops::DataFrameExt;
use icefield_engine::{Session, from_datafusion};
use icefield_maintenance::{compact, expire_snapshots, purge_table, remove_orphan_files};
use icefield_testkit::{FakeClock, FaultyStore, OpKind};
use object_store::memory::InMemory;
use serde_json::{Value, json};

use crate::histories::Random;

const OWN: &str = "memory://w/lake/db/own";
const NEXT: &str = "memory://w/lake/db/next";
/// Files that are no table's.
const OTHERS: [&str; 4] = [
    "memory://w/lake/prod.sqlite",
    "memory://w/keys/id",
    "memory://w/lake/db/own2/data/x.parquet",
    "memory://other/precious",
];
const OPERATIONS: [&str; 7] = ["scan", "append", "compact", "expire", "orphans", "append", "purge"];

/// Two tables of some rows, `own` and `next`, and where their metadata is.
struct Base {
    memory: InMemory,
    own: String,
    next: String,
}

fn storage(memory: Arc<FaultyStore>, other: Arc<FaultyStore>) -> Storage {
    let storage = Storage::new().with_store("memory://w", memory).unwrap();
    storage.with_store("memory://other", other).unwrap()
}

async fn base(version: u8) -> Base {
    let memory = Arc::new(InMemory::new());
    let store = FaultyStore::new(memory.clone());
    let storage = storage(Arc::new(store), Arc::new(FaultyStore::in_memory()));
    let session = Session::builder().storage(storage).warehouse("memory://w/lake").parallelism(1);
    let session = session.build().unwrap();
    let mut pointers = Vec::new();
    for name in ["own", "next"] {
        for ids in ["(1, 'a'), (2, 'b')", "(3, 'c')", "(4, NULL)"] {
            let rows = format!("SELECT column1 AS id, column2 AS name FROM (VALUES {ids})");
            let frame = session.sql(&rows).await.unwrap();
            let append = frame.append_to(&session, format!("db.{name}")).fast();
            append.create_with(|t| t.format_version(version)).await.unwrap();
        }
        let table = session.table(&format!("db.{name}")).await.unwrap();
        pointers.push(table.core().metadata_location().to_string());
    }
    for file in OTHERS.iter().filter(|file| file.starts_with("memory://w/")) {
        session.catalog().storage().unconfined().write(file, "precious").await.unwrap();
    }
    let [own, next] = pointers.try_into().unwrap();
    Base { memory: memory.fork(), own, next }
}

/// One table under attack.
struct Case {
    seed: u64,
    random: Random,
    /// Whether the table is alone in its catalog.
    alone: bool,
    store: FaultyStore,
    other: FaultyStore,
    /// Sees everything, and its requests don't count.
    free: Storage,
    session: Session,
    log: Vec<String>,
}

impl Case {
    async fn new(seed: u64, base: &Base) -> Self {
        let memory = Arc::new(base.memory.fork());
        let (store, other) = (FaultyStore::new(memory.clone()), FaultyStore::in_memory());
        let free = Storage::new().with_store("memory://w", memory).unwrap();
        let free = free.with_store("memory://other", other.inner().clone()).unwrap();
        free.write(OTHERS[3], "precious").await.unwrap();
        let alone = seed.is_multiple_of(2);
        let warehouse = if alone { OWN } else { "memory://w/lake" };
        let watched = storage(Arc::new(store.clone()), Arc::new(other.clone()));
        let catalog = Arc::new(MemoryCatalog::new(warehouse, watched));
        let namespace = NamespaceIdent::new("db".to_string());
        catalog.create_namespace(&namespace, Default::default()).await.unwrap();
        if !alone {
            catalog.register_table(&parse_ident("db.next").unwrap(), &base.next).await.unwrap();
        }
        let session = Session::builder().catalog(catalog).parallelism(1).build().unwrap();
        let random = Random(FakeClock::new(seed));
        Self { seed, random, alone, store, other, free, session, log: Vec::new() }
    }

    /// A file that the metadata may name, in some spelling, and some that are nowhere.
    fn any_file(&self, files: &[String]) -> String {
        let file = self.random.pick(files).unwrap();
        match self.random.below(10) {
            0 => file.replace("memory://w/lake/db/", "memory://w/lake/db/own/../"),
            1 => file.replace("memory://w/lake/db/", "memory://w/lake/db/own/%2e%2e/"),
            2 => file.replace("memory://w/lake/", "memory://w/lake//"),
            3 => file.replace("memory://", "MEMORY://"),
            4 => ["/etc/hostname", "s3://bucket/x", "../next/x", "memory://w", "", "file:///", "next"]
                [self.random.below(7)]
            .to_string(),
            _ => file,
        }
    }

    fn any_folder(&self) -> String {
        let metadata = format!("{NEXT}/metadata");
        let data = format!("{NEXT}/data");
        let folders = [
            NEXT,
            &data,
            &metadata,
            "memory://w/lake/db/own/..",
            "memory://w/lake/db/own/data",
            "memory://w/lake/db/own2/",
            "memory://w/lake/db",
            "memory://w/lake",
            "memory://w",
            "memory://w/keys",
            "memory://other",
            "s3a://bucket/x",
            "/",
        ];
        folders[self.random.below(folders.len())].to_string()
    }

    /// The own table's metadata as its owner likes it, in a file.
    async fn hostile(&mut self, base: &Base) -> String {
        let bytes = self.free.read(&base.own).await.unwrap();
        let parsed = parse_metadata(&bytes).unwrap();
        let mut metadata: Value = serde_json::from_slice(&bytes).unwrap();
        let listed: Vec<_> = self.free.list("memory://w").try_collect().await.unwrap();
        let mut files: Vec<String> = listed.into_iter().map(|file| file.location).collect();
        files.push(OTHERS[3].to_string());
        let theirs: Vec<String> = files.iter().filter(|file| !file.starts_with(OWN)).cloned().collect();
        // Mostly others' files, now and then all.
        let pool = if self.random.below(4) == 0 { files } else { theirs };
        let ids: Vec<i64> = parsed.snapshots().map(|snapshot| snapshot.snapshot_id()).collect();
        let which = |random: &Random| random.below(ids.len());
        for change in 0..=self.random.below(5) {
            let kind = self.random.below(14);
            self.log.push(format!("change {kind}"));
            match kind {
                0 => metadata["location"] = json!(self.any_folder()),
                1 => {
                    let property = FOLDER_PROPERTIES[self.random.below(FOLDER_PROPERTIES.len())];
                    metadata["properties"][property] = json!(self.any_folder());
                }
                2 => {
                    let lists: Vec<String> =
                        pool.iter().filter(|file| file.contains("snap-")).cloned().collect();
                    let list = self.any_file(if lists.is_empty() { &pool } else { &lists });
                    metadata["snapshots"][which(&self.random)]["manifest-list"] = json!(list);
                }
                3 | 4 => {
                    let name = ["statistics", "partition-statistics"][kind - 3];
                    let all = ids.iter().map(|id| {
                        json!({"snapshot-id": id, "statistics-path": self.any_file(&pool), "blob-metadata": [],
                            "file-size-in-bytes": 1, "file-footer-size-in-bytes": 1})
                    });
                    metadata[name] = all.collect();
                }
                5 => {
                    let log =
                        (0..6).map(|at| json!({"metadata-file": self.any_file(&pool), "timestamp-ms": at}));
                    metadata["metadata-log"] = log.collect();
                }
                6 | 7 => {
                    // A list whose manifests are others'.
                    let snapshot = parsed.snapshot_by_id(ids[which(&self.random)]).unwrap();
                    let mut manifests = load_manifest_list(&self.free, snapshot).await.unwrap();
                    for manifest in &mut manifests {
                        let named: Vec<String> =
                            pool.iter().filter(|file| file.ends_with(".avro")).cloned().collect();
                        manifest.manifest_path = self.any_file(if named.is_empty() { &pool } else { &named });
                        manifest.sequence_number = self.random.below(9) as i64;
                        manifest.min_sequence_number = 0;
                    }
                    let list = self.list(&parsed, change, manifests).await;
                    metadata["snapshots"][which(&self.random)]["manifest-list"] = json!(list);
                }
                8 | 9 => {
                    // A manifest whose files are others'.
                    let path = format!("{OWN}/metadata/hostile-{change}.avro");
                    let types = PartitionTypes::new(&parsed, 0).unwrap();
                    let of_data = parsed.format_version() == FormatVersion::V1 || kind == 8;
                    let (manifests, content) = match of_data {
                        true => (ManifestContentType::Data, DataContentType::Data),
                        false => (ManifestContentType::Deletes, DataContentType::PositionDeletes),
                    };
                    let mut writer =
                        ManifestWriter::new(&parsed, types, manifests, ids[0], path.clone()).unwrap();
                    for _ in 0..3 {
                        let named: Vec<String> =
                            pool.iter().filter(|file| file.ends_with(".parquet")).cloned().collect();
                        let file = self.any_file(&named);
                        let size = self.free.size(&file).await.unwrap_or(1_000);
                        let file = DataFileBuilder::default()
                            .content(content)
                            .file_path(file)
                            .file_format(DataFileFormat::Parquet)
                            .partition(Struct::empty())
                            .record_count(1)
                            .file_size_in_bytes(size)
                            .partition_spec_id(0)
                            .build()
                            .unwrap();
                        writer.add(&file, Some(1), false).unwrap();
                    }
                    let (bytes, manifest) = writer.finish().unwrap();
                    self.free.write(&path, bytes).await.unwrap();
                    let list = self.list(&parsed, change, vec![manifest]).await;
                    metadata["snapshots"][which(&self.random)]["manifest-list"] = json!(list);
                }
                10 => {
                    metadata["properties"]["write.metadata.delete-after-commit.enabled"] = json!("true");
                    metadata["properties"]["write.metadata.previous-versions-max"] = json!("1");
                }
                11 => {
                    // The neighbour's id: its metadata is walked as the table's own.
                    let next: Value =
                        serde_json::from_slice(&self.free.read(&base.next).await.unwrap()).unwrap();
                    metadata["table-uuid"] = next["table-uuid"].clone();
                    metadata["metadata-log"] = json!([{"metadata-file": base.next, "timestamp-ms": 1}]);
                }
                12 => {
                    let id = ids[which(&self.random)];
                    let kind = ["branch", "tag"][self.random.below(2)];
                    metadata["refs"]["other"] = json!({"snapshot-id": id, "type": kind});
                }
                _ => {
                    let id = ids[which(&self.random)];
                    metadata["current-snapshot-id"] = json!(id);
                    metadata["refs"]["main"] = json!({"snapshot-id": id, "type": "branch"});
                }
            }
        }
        if !self.alone && self.random.below(3) == 0 {
            // In the neighbour's folder, or around it.
            let place = ["/data", "/data", "/metadata", "/..", ""][self.random.below(5)];
            let place =
                if place == "/.." { "memory://w/lake/db".to_string() } else { format!("{NEXT}{place}") };
            self.log.push(format!("location {place}"));
            metadata["location"] = json!(place);
        }
        let folder = match self.random.below(4) {
            // In the neighbour's own folder of metadata.
            0 if !self.alone => format!("{NEXT}/metadata"),
            _ => format!("{OWN}/metadata"),
        };
        let location = format!("{folder}/00009-7fa4eb01-4bd3-4a1c-8ee1-000000000000.metadata.json");
        self.free.write(&location, metadata.to_string()).await.unwrap();
        location
    }

    async fn list(
        &self,
        metadata: &icefield_core::format::Metadata,
        change: usize,
        manifests: Vec<iceberg::spec::ManifestFile>,
    ) -> String {
        let head = ManifestListHead {
            version: metadata.format_version(),
            snapshot_id: manifests.first().map_or(1, |manifest| manifest.added_snapshot_id),
            parent_snapshot_id: None,
            sequence_number: 3,
            first_row_id: 0,
        };
        let (bytes, _) = write_manifest_list(&head, manifests).unwrap();
        let list = format!("{OWN}/metadata/snap-hostile-{change}.avro");
        self.free.write(&list, bytes).await.unwrap();
        list
    }

    /// Every file but the own table's, with its bytes.
    async fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let mut files = BTreeMap::new();
        for store in ["memory://w", "memory://other"] {
            for file in self.free.list(store).try_collect::<Vec<_>>().await.unwrap() {
                if !file.location.starts_with(&format!("{OWN}/")) {
                    let bytes = self.free.read(&file.location).await.unwrap().to_vec();
                    files.insert(file.location, bytes);
                }
            }
        }
        files
    }

    async fn operate(&self, operation: &str) -> Result<()> {
        let table = self.session.table("db.own").await?;
        match operation {
            "scan" => drop(table.dataframe().await?.collect().await.map_err(from_datafusion)?),
            "append" => {
                let rows = self.session.sql("SELECT 9 AS id, 'z' AS name").await?;
                rows.append_to(&self.session, "db.own").await?;
            }
            "compact" => drop(compact(&table).rewrite_all(true).await?),
            "expire" => {
                let report = expire_snapshots(&table).older_than(Duration::ZERO).await?;
                if let Some(error) = report.cleanup_error {
                    return Err(error);
                }
            }
            "orphans" => {
                let removal = remove_orphan_files(&table).older_than(Duration::ZERO).force(true);
                drop(removal.await?);
            }
            "purge" => drop(purge_table(&table).await?),
            other => return Err(Error::invalid_input(format!("no such operation: {other}"))),
        }
        Ok(())
    }

    /// Runs all operations; gives those that were done.
    async fn run(mut self, base: &Base) -> BTreeSet<&'static str> {
        let location = self.hostile(base).await;
        // The hostile metadata itself, where it lies in the neighbour's folder.
        let before = self.files().await;
        let own = parse_ident("db.own").unwrap();
        self.store.reset();
        let registered = self.session.catalog().register_table(&own, &location).await;
        self.log.push(format!("register {location}: {:?}", registered.as_ref().err()));
        self.check(&before, None).await;
        let mut done = BTreeSet::new();
        let Ok(registered) = registered else { return done };
        done.insert("register");
        let folder = registered.metadata().location().trim_end_matches('/').to_string();
        for operation in OPERATIONS {
            if operation != "purge" && self.random.below(4) == 0 {
                continue;
            }
            // Files are older than the limit of an orphan removal.
            tokio::time::sleep(Duration::from_millis(2)).await;
            self.store.reset();
            let outcome = self.operate(operation).await;
            if outcome.is_ok() {
                done.insert(operation);
            }
            self.log.push(format!("{operation}: {:?}", outcome.err()));
            self.check(&before, Some(&folder)).await;
        }
        done
    }

    async fn check(&self, before: &BTreeMap<String, Vec<u8>>, folder: Option<&str>) {
        let story = || format!("seed {}: {}", self.seed, self.log.join("\n  "));
        assert_eq!(self.other.total(), 0, "{:?} {}", self.other.ops(), story());
        for op in self.store.ops() {
            let reads = matches!(op.kind, OpKind::Get | OpKind::GetRanges | OpKind::Head | OpKind::List);
            let within = |place: &str| op.path == place || op.path.starts_with(&format!("{place}/"));
            let fine = if self.alone { within("lake/db/own") } else { within("lake") };
            assert!(fine, "{op:?} {}", story());
            assert!(
                reads || !within("lake/db/next") || !before.contains_key(&format!("memory://w/{}", op.path)),
                "{op:?} {}",
                story()
            );
        }
        let now = self.files().await;
        for (file, bytes) in before {
            // What lies in the folder that the table says is its own goes, where it is no other table's.
            let is_next = file.starts_with(&format!("{NEXT}/")) && !file.contains("/00009-");
            let is_own = folder.is_some_and(|folder| file.starts_with(&format!("{folder}/"))) && !is_next;
            assert!(is_own || now.get(file) == Some(bytes), "{file} {}", story());
        }
        if !self.alone {
            let next = self.session.table("db.next").await.unwrap().dataframe().await.unwrap();
            let ids = next.sort_by(vec![datafusion::prelude::col("id")]).unwrap().collect().await.unwrap();
            let ids: Vec<i64> = ids
                .iter()
                .flat_map(|batch| {
                    let ids = batch.column(0).as_any().downcast_ref::<arrow::array::Int64Array>().unwrap();
                    ids.values().to_vec()
                })
                .collect();
            assert_eq!(ids, [1, 2, 3, 4], "{}", story());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_metadata_reaches_a_file_that_is_not_its_tables() {
    let first: u64 = std::env::var("ICEFIELD_SEED").ok().and_then(|n| n.parse().ok()).unwrap_or(0);
    let seeds: u64 = std::env::var("ICEFIELD_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(36);
    let bases = [base(1).await, base(2).await, base(3).await];
    let mut done = BTreeMap::<&str, usize>::new();
    for seed in first..first + seeds {
        eprintln!("seed {seed}");
        let base = &bases[seed as usize / 2 % 3];
        for operation in Case::new(seed, base).await.run(base).await {
            *done.entry(operation).or_default() += 1;
        }
    }
    eprintln!("{done:?}");
    // Most attacks end at once; those that don't are to have got as far as this.
    assert!(
        first > 0 || seeds < 36 || OPERATIONS.iter().all(|operation| done.contains_key(operation)),
        "{done:?}"
    );
}
