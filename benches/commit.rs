//! Commits to a table of many manifests while another process appends to it, and the cost of commits as history grows.
//!
//! `cargo bench --bench commit [-- MANIFESTS [APPENDS]]`. Makes a table of 10,000 manifests (or as many as are asked) with ten
//! files each; only its metadata is there. Then one partition is overwritten and one is rewritten, while a process of its own
//! appends steadily to the others through a catalog of its own. Prints the manifests read in all tries against those that can
//! list files of the partition. Then the table takes a hundred appends: the last ten beside the first. After that a small table in
//! memory takes 2,000 (or as many as are asked).

use std::collections::HashMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use iceberg::spec::{
    DataContentType, DataFileBuilder, DataFileFormat, FormatVersion, Literal, ManifestListWriter,
    ManifestWriterBuilder, NestedField, Operation, Schema, Snapshot, SnapshotReference, SnapshotRetention,
    Struct, Summary,
};
use icefield_catalog::sql::SqlCatalog;
use icefield_core::catalog::{
    Catalog, CommitOutcome, CommitRequest, Expect, MemoryCatalog, NamespaceIdent, TableCreation, TableIdent,
    TableUpdate,
};
use icefield_core::commit::{Committed, DeleteBy, Overwrite, Rewrite, Transaction};
use icefield_core::evolve::{identity, partition_spec, types};
use icefield_core::format::{ContentFile, LiveFile, load_manifest, load_manifest_list};
use icefield_core::storage::Storage;
use icefield_core::{SystemClock, Table};
use icefield_testkit::{FaultyStore, OpKind};
use object_store::local::LocalFileSystem;

/// The number of the table's partitions. The manifests of each are next to each other.
const PARTITIONS: usize = 100;
const FILES_IN_MANIFEST: usize = 10;
/// The time between two appends of the other process.
const PAUSE: Duration = Duration::from_secs(1);

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let first = arguments.next();
    if first.as_deref() == Some("append") {
        let folder = arguments.next().expect("a folder");
        return append_steadily(Path::new(&folder)).await;
    }
    let number = |text: Option<String>, or: usize| text.and_then(|text| text.parse().ok()).unwrap_or(or);
    let manifests = number(first, 10_000);
    let appends = number(arguments.next(), 2_000);
    beside_appends(manifests).await;
    growing(appends).await;
}

/// Overwrites and rewrites a partition while another process appends.
async fn beside_appends(manifests: usize) {
    let folder = tempfile::tempdir().unwrap();
    let store = FaultyStore::new(Arc::new(LocalFileSystem::new()));
    let storage = Storage::new().with_store("file:///", Arc::new(store.clone())).unwrap();
    let catalog = open(folder.path(), storage).await;
    let started = Instant::now();
    let base = many_manifests(&catalog, folder.path(), manifests).await;
    let partitions = PARTITIONS.min(manifests);
    println!(
        "{manifests} manifests, {} files, {partitions} partitions; made in {:.1} s",
        manifests * FILES_IN_MANIFEST,
        started.elapsed().as_secs_f64()
    );
    let of_partition = manifests.div_ceil(partitions);
    let files = files_of(&base, 1).await;

    let mut other = Other::start(folder.path());
    let at_start = other.wait_for_append(&catalog, &base).await;
    for operation in ["overwrite", "rewrite"] {
        let transaction = Transaction::new(&base);
        let new = |k| vec![file(&base, &format!("{operation}-new"), k)];
        let transaction = match operation {
            "overwrite" => {
                let delete = DeleteBy::Partitions(vec![(0, partition(0))]);
                transaction.overwrite(Overwrite { delete, add: new(0), reads: None })
            }
            _ => {
                let delete = files.iter().map(LiveFile::reference).collect();
                transaction.rewrite_files(Rewrite { delete, add: new(1), sequence_number: None })
            }
        };
        store.reset();
        let started = Instant::now();
        let Committed { attempts, .. } = transaction.commit(&catalog).await.unwrap();
        let seconds = started.elapsed().as_secs_f64();
        let lists = store.count_of(OpKind::Get, "/snap-");
        let read = store.count_of(OpKind::Get, ".avro") - lists;
        println!(
            "{operation} of a partition: {attempts} tries, {seconds:.2} s; manifests read {read}, bound {of_partition}: ratio {:.2}; lists read {lists}",
            read as f64 / of_partition as f64
        );
    }
    let now = other.stop(&catalog, &base).await;
    println!("appends of the other process meanwhile: {}", now - at_start);
    let table = catalog.load_table(base.ident()).await.unwrap();
    append_each(&catalog, table, 100, 10).await;
}

/// The other process: appends a file at a time to partitions that nobody else touches.
async fn append_steadily(folder: &Path) {
    let catalog = open(folder, Storage::new()).await;
    for n in 0.. {
        let table = catalog.load_table(&ident()).await.unwrap();
        let k = 2 + n % (PARTITIONS - 2);
        let append = Transaction::new(&table).append(vec![file(&table, &format!("other-{n}"), k)]);
        append.commit(&catalog).await.unwrap();
        tokio::time::sleep(PAUSE).await;
    }
}

struct Other(Child);

impl Other {
    fn start(folder: &Path) -> Self {
        let program = std::env::current_exe().unwrap();
        let mut command = Command::new(program);
        command.arg("append").arg(folder).stdin(Stdio::null());
        Self(command.spawn().unwrap())
    }

    async fn appended(catalog: &SqlCatalog, base: &Table) -> i64 {
        let number = |table: &Table| table.metadata().last_sequence_number();
        number(&catalog.load_table(base.ident()).await.unwrap()) - number(base)
    }

    async fn wait_for_append(&mut self, catalog: &SqlCatalog, base: &Table) -> i64 {
        loop {
            let appended = Self::appended(catalog, base).await;
            if appended > 0 {
                return appended;
            }
            assert!(self.0.try_wait().unwrap().is_none(), "the other process ended");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn stop(mut self, catalog: &SqlCatalog, base: &Table) -> i64 {
        assert!(self.0.try_wait().unwrap().is_none(), "the other process ended");
        self.0.kill().unwrap();
        self.0.wait().unwrap();
        Self::appended(catalog, base).await - 2 // but for ours
    }
}

/// A commit's cost as history grows.
async fn growing(appends: usize) {
    let catalog = MemoryCatalog::with_clock("memory://w", Storage::new(), SystemClock::shared());
    let table = create(&catalog).await;
    append_each(&catalog, table, appends, appends.min(100)).await;
}

/// Appends a file at a time. Prints what the last ones take beside the first.
async fn append_each(catalog: &dyn Catalog, mut table: Table, appends: usize, compared: usize) {
    let mut times = Vec::with_capacity(appends);
    for n in 0..appends {
        let append = Transaction::new(&table).append(vec![file(&table, &format!("{n}"), n % PARTITIONS)]);
        let started = Instant::now();
        table = append.commit(catalog).await.unwrap().table;
        times.push(started.elapsed().as_secs_f64());
    }
    let mean = |times: &[f64]| times.iter().sum::<f64>() / times.len() as f64 * 1000.0;
    let (first, last) = (mean(&times[..compared]), mean(&times[appends - compared..]));
    println!(
        "{appends} appends: the first {compared} take {first:.2} ms each, the last {last:.2} ms: ratio {:.2}",
        last / first
    );
}

async fn open(folder: &Path, storage: Storage) -> SqlCatalog {
    let warehouse = format!("file://{}", folder.display());
    SqlCatalog::sqlite("bench", folder.join("catalog.db"), warehouse, storage).await.unwrap()
}

fn ident() -> TableIdent {
    TableIdent::from_strs(["bench", "t"]).unwrap()
}

/// A table of `id` and `k`, partitioned by `k`.
async fn create(catalog: &dyn Catalog) -> Table {
    let namespace = NamespaceIdent::new("bench".to_string());
    catalog.create_namespace(&namespace, HashMap::new()).await.unwrap();
    let fields = [NestedField::optional(1, "id", types::long()), NestedField::optional(2, "k", types::int())];
    let schema = Schema::builder().with_fields(fields.map(Into::into)).build().unwrap();
    let spec = partition_spec(&schema, [identity("k")]).unwrap();
    let creation = TableCreation::builder()
        .name("t".to_string())
        .schema(schema)
        .partition_spec_opt(Some(spec))
        .format_version(FormatVersion::V2)
        .build();
    catalog.create_table(&namespace, creation).await.unwrap()
}

fn partition(k: usize) -> Struct {
    Struct::from_iter([Some(Literal::int(k as i32))])
}

fn file(table: &Table, name: &str, k: usize) -> ContentFile {
    let file = DataFileBuilder::default()
        .content(DataContentType::Data)
        .file_path(format!("{}/data/k={k}/{name}.parquet", table.metadata().location()))
        .file_format(DataFileFormat::Parquet)
        .partition(partition(k))
        .record_count(1000)
        .file_size_in_bytes(100_000)
        .partition_spec_id(0)
        .build()
        .unwrap();
    ContentFile { spec_id: 0, file }
}

async fn files_of(table: &Table, k: usize) -> Vec<LiveFile> {
    let mut files = Vec::new();
    let listed = load_manifest_list(table.storage(), table.metadata().current_snapshot().unwrap()).await;
    for manifest in listed.unwrap() {
        let of_k = format!("/m-{k}-");
        if manifest.manifest_path.contains(&of_k) {
            files.extend(load_manifest(table.storage(), table.metadata(), &manifest).await.unwrap().live);
        }
    }
    files
}

/// A table whose manifests are written one by one, and committed at once.
async fn many_manifests(catalog: &dyn Catalog, folder: &Path, manifests: usize) -> Table {
    let table = create(catalog).await;
    let metadata = table.metadata();
    // They stay as many as they are.
    let off = HashMap::from([("commit.manifest-merge.enabled".to_string(), "false".to_string())]);
    let (id, number) = (1, metadata.next_sequence_number());
    let (schema, spec) = (metadata.current_schema(), metadata.default_partition_spec());
    let metadata_folder = format!("{}/metadata", metadata.location());
    std::fs::create_dir_all(folder.join("bench/t/metadata")).unwrap();
    let each = manifests.div_ceil(PARTITIONS.min(manifests));
    let mut written = Vec::with_capacity(manifests);
    for n in 0..manifests {
        let k = n / each;
        let location = format!("{metadata_folder}/m-{k}-{n}.avro");
        let output = table.storage().file_io().new_output(location).unwrap();
        let builder = ManifestWriterBuilder::new(output, Some(id), schema.clone(), spec.as_ref().clone());
        let mut writer = builder.build_v2_data();
        for at in 0..FILES_IN_MANIFEST {
            writer.add_file(file(&table, &format!("{n}-{at}"), k).file, number).unwrap();
        }
        written.push(writer.write_manifest_file().await.unwrap());
    }
    let list = format!("{metadata_folder}/snap-{id}.avro");
    let output = table.storage().file_io().new_output(&list).unwrap().writer().await.unwrap();
    let mut writer = ManifestListWriter::v2(output, id, None, number);
    writer.add_manifests(written.into_iter()).unwrap();
    writer.close().await.unwrap();
    let snapshot = Snapshot::builder()
        .with_snapshot_id(id)
        .with_sequence_number(number)
        .with_timestamp_ms(metadata.last_updated_ms() + 1)
        .with_manifest_list(list)
        .with_summary(Summary { operation: Operation::Append, additional_properties: HashMap::new() })
        .with_schema_id(metadata.current_schema_id())
        .build();
    let retention = SnapshotRetention::Branch {
        min_snapshots_to_keep: None,
        max_snapshot_age_ms: None,
        max_ref_age_ms: None,
    };
    let request = CommitRequest {
        ident: table.ident().clone(),
        expect: Expect::Requirements(Vec::new()),
        updates: vec![
            TableUpdate::SetProperties { updates: off },
            TableUpdate::AddSnapshot { snapshot },
            TableUpdate::SetSnapshotRef {
                ref_name: "main".to_string(),
                reference: SnapshotReference::new(id, retention),
            },
        ],
    };
    match catalog.commit(vec![request]).await {
        CommitOutcome::Done(mut tables) => tables.remove(0),
        other => panic!("the table was not made: {other:?}"),
    }
}
