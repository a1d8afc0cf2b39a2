//! What a commit asks of its store: manifests that can matter, each once however often the commit is tried.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use iceberg::spec::{FormatVersion, Literal, NestedField, Schema, Struct};
use icefield_core::catalog::{Catalog, MemoryCatalog, NamespaceIdent, TableCreation};
use icefield_core::commit::{DeleteBy, Overwrite, Rewrite, Transaction};
use icefield_core::evolve::{identity, partition_spec, types};
use icefield_core::format::{ContentFile, LiveFile};
use icefield_core::storage::Storage;
use icefield_core::{SystemClock, Table};
use icefield_testkit::{CommitFault, Fault, FaultyCatalog, FaultyStore, OpKind};

use crate::support::{file_in, live, names};

/// The partitions of the table, each in a manifest of its own.
const PARTITIONS: i32 = 20;

struct World {
    store: FaultyStore,
    catalog: Arc<FaultyCatalog>,
    table: Table,
}

fn file(name: &str, k: i32) -> ContentFile {
    file_in(name, 0, [Literal::int(k)])
}

fn replace(k: i32, name: &str) -> Overwrite {
    let partition = (0, Struct::from_iter([Some(Literal::int(k))]));
    Overwrite { delete: DeleteBy::Partitions(vec![partition]), add: vec![file(name, k)], reads: None }
}

impl World {
    /// A table with a manifest of two files for each partition.
    async fn new() -> Self {
        let store = FaultyStore::in_memory();
        let storage = Storage::new().with_store("memory://w", Arc::new(store.clone())).unwrap();
        let catalog = MemoryCatalog::with_clock("memory://w", storage, SystemClock::shared());
        let namespace = NamespaceIdent::new("db".to_string());
        catalog.create_namespace(&namespace, HashMap::new()).await.unwrap();
        let fields =
            [NestedField::optional(1, "id", types::long()), NestedField::optional(2, "k", types::int())];
        let schema = Schema::builder().with_fields(fields.map(Into::into)).build().unwrap();
        let spec = partition_spec(&schema, [identity("k")]).unwrap();
        let creation = TableCreation::builder()
            .name("t".to_string())
            .schema(schema)
            .partition_spec_opt(Some(spec))
            .format_version(FormatVersion::V2)
            .properties([("commit.retry.min-wait-ms".to_string(), "1".to_string())])
            .build();
        let mut table = catalog.create_table(&namespace, creation).await.unwrap();
        for k in 0..PARTITIONS {
            let files = vec![file(&format!("{k}a"), k), file(&format!("{k}b"), k)];
            table = Transaction::new(&table).fast_append(files).commit(&catalog).await.unwrap().table;
        }
        Self { store, catalog: Arc::new(FaultyCatalog::new(Arc::new(catalog))), table }
    }

    /// Others append to every partition but this one, each in a commit.
    async fn append_beside(&self, k: i32) {
        for other in (0..PARTITIONS).filter(|other| *other != k) {
            let table = self.catalog.inner().load_table(self.table.ident()).await.unwrap();
            let append = Transaction::new(&table).fast_append(vec![file(&format!("{other}c"), other)]);
            append.commit(&**self.catalog.inner()).await.unwrap();
        }
    }

    /// How many manifests, and how many manifest lists, were read.
    fn read(&self) -> (usize, usize) {
        let lists = self.store.count_of(OpKind::Get, "/snap-");
        (self.store.count_of(OpKind::Get, ".avro") - lists, lists)
    }

    async fn of(&self, k: i32) -> Vec<LiveFile> {
        let partition = Struct::from_iter([Some(Literal::int(k))]);
        let files = live(&self.table, "main").await;
        files.into_iter().filter(|file| *file.file.partition() == partition).collect()
    }
}

#[tokio::test]
async fn a_removal_reads_the_manifests_that_can_list_its_files() {
    for operation in ["overwrite", "files", "rewrite"] {
        let world = World::new().await;
        let files = world.of(3).await;
        let delete = || files.iter().map(LiveFile::reference).collect();
        world.append_beside(3).await;
        let transaction = Transaction::new(&world.table);
        let transaction = match operation {
            "overwrite" => transaction.overwrite(replace(3, "new")),
            "files" => transaction.overwrite(Overwrite {
                delete: DeleteBy::Files(delete()),
                add: vec![file("new", 3)],
                reads: None,
            }),
            _ => transaction.rewrite_files(Rewrite {
                delete: delete(),
                add: vec![file("new", 3)],
                sequence_number: None,
            }),
        };
        // It loses three races.
        world.catalog.queue([CommitFault::Conflict; 3]);
        world.store.reset();
        let done = transaction.commit(&*world.catalog).await.unwrap();
        let (manifests, lists) = world.read();
        assert_eq!(done.attempts, 4, "{operation}");
        assert_eq!(manifests, 1, "{operation}: of {PARTITIONS}, and as many that came meanwhile");
        // Each try reads the list of the head. Appends matter to what reads a partition alone, each once.
        let appends = if operation == "overwrite" { PARTITIONS as usize - 1 } else { 0 };
        assert_eq!(lists, 4 + appends, "{operation}");
        let names = names(&done.table, "main").await;
        assert_eq!(names.len() as i32, PARTITIONS * 3 - 2, "{operation}");
        assert!(names.contains(&"new".to_string()) && !names.contains(&"3a".to_string()), "{operation}");
        // No file is left of the tries that were lost.
        let written = world.store.count_of(OpKind::Put, ".avro");
        assert_eq!(world.store.count_of(OpKind::Delete, ".avro"), written - 3, "{operation}");
    }
}

#[tokio::test]
async fn a_rewrite_passes_over_what_was_removed_elsewhere() {
    let world = World::new().await;
    let delete = world.of(3).await.iter().map(LiveFile::reference).collect();
    let others = Transaction::new(&world.table).overwrite(replace(4, "theirs"));
    others.commit(&*world.catalog).await.unwrap();
    world.store.reset();
    let rewrite = Rewrite { delete, add: vec![file("new", 3)], sequence_number: None };
    Transaction::new(&world.table).rewrite_files(rewrite).commit(&*world.catalog).await.unwrap();
    assert_eq!(world.read(), (1, 2), "the partition's manifest; the lists of the head and of what is newer");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_append_does_not_wait_while_a_removal_reads() {
    let world = World::new().await;
    let ours = {
        let (table, catalog) = (world.table.clone(), world.catalog.clone());
        // Reading manifests takes long.
        world.store.arm_when(|op| {
            let manifest = op.kind == OpKind::Get && op.path.contains("-m0.avro");
            manifest.then_some(Fault::Delay(Duration::from_millis(300)))
        });
        tokio::spawn(
            async move { Transaction::new(&table).overwrite(replace(3, "new")).commit(&*catalog).await },
        )
    };
    while world.read().1 == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let append = Transaction::new(&world.table).fast_append(vec![file("beside", 4)]);
    append.commit(&*world.catalog).await.unwrap();
    assert!(!ours.is_finished(), "the append waited for it");
    let done = ours.await.unwrap().unwrap();
    let names = names(&done.table, "main").await;
    assert!(names.contains(&"new".to_string()) && names.contains(&"beside".to_string()));
    assert_eq!(names.len() as i32, PARTITIONS * 2);
}
