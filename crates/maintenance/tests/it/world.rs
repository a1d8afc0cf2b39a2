//! A table in memory whose clock the test holds, with data files of a few bytes: expiry and orphan removal look at what
//! names what, and never into a data file.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::TryStreamExt;
use iceberg::spec::{
    DataContentType, DataFileBuilder, DataFileFormat, FormatVersion, NestedField, PrimitiveType, Schema,
    SnapshotReference, SnapshotRetention, Struct, TableMetadata, Type,
};
use icefield_core::catalog::{
    Catalog, MemoryCatalog, NamespaceIdent, TableCreation, TableIdent, TableUpdate,
};
use icefield_core::commit::{DeleteBy, Overwrite, Transaction};
use icefield_core::evolve::MetadataChange;
use icefield_core::format::{ContentFile, LiveFile, load_manifest, load_manifest_list, load_metadata};
use icefield_core::storage::{Storage, join};
use icefield_core::{Clock, Result, SystemClock, Table};
use icefield_maintenance::{ExpireSnapshots, RemoveOrphanFiles, days};
use icefield_testkit::{CatalogKind, FakeClock, FaultyCatalog, FaultyStore};
use object_store::memory::InMemory;

pub(crate) struct World {
    kind: CatalogKind,
    memory: Arc<InMemory>,
    pub(crate) store: FaultyStore,
    pub(crate) storage: Storage,
    pub(crate) clock: FakeClock,
    pub(crate) catalog: Arc<FaultyCatalog>,
    pub(crate) ident: TableIdent,
}

impl World {
    /// A table `db.t` at `memory://w/db/t`.
    pub(crate) async fn new() -> Self {
        Self::with(FormatVersion::V2, &[]).await
    }

    pub(crate) async fn with(version: FormatVersion, properties: &[(&str, &str)]) -> Self {
        Self::of(CatalogKind::Pointers, version, properties).await
    }

    /// A table `db.t` at `memory://w/db/t`, in a catalog of this kind.
    pub(crate) async fn of(kind: CatalogKind, version: FormatVersion, properties: &[(&str, &str)]) -> Self {
        let world = Self::on(kind, InMemory::new()).await;
        world.create("t", Some("memory://w/db/t"), version, properties).await;
        world
    }

    /// A copy that goes its own way.
    pub(crate) async fn fork(&self) -> Self {
        let world = Self::on(self.kind, self.memory.fork()).await;
        world.catalog.register_table(&self.ident, self.table().await.metadata_location()).await.unwrap();
        world
    }

    async fn on(kind: CatalogKind, memory: InMemory) -> Self {
        let memory = Arc::new(memory);
        let store = FaultyStore::new(memory.clone());
        let storage = Storage::new().with_store("memory://w", Arc::new(store.clone())).unwrap();
        let storage = storage.confined_to(["memory://w", "memory://other"]).unwrap();
        // A copy must not give the ids again that the original gave.
        static SEED: AtomicU64 = AtomicU64::new(7);
        let clock = FakeClock::new(SEED.fetch_add(1, Ordering::Relaxed));
        let catalog: Arc<dyn Catalog> = match kind {
            CatalogKind::Pointers => {
                Arc::new(MemoryCatalog::with_clock("memory://w", storage.clone(), clock.shared()))
            }
            of => of.open("memory://w", Arc::new(store.clone()), clock.shared()),
        };
        let catalog = Arc::new(FaultyCatalog::new(catalog));
        let namespace = NamespaceIdent::new("db".to_string());
        catalog.create_namespace(&namespace, HashMap::new()).await.unwrap();
        let world = Self {
            kind,
            memory,
            store,
            storage,
            clock,
            catalog,
            ident: TableIdent::new(namespace, "t".to_string()),
        };
        world.present().await;
        world
    }

    pub(crate) async fn create(
        &self,
        name: &str,
        location: Option<&str>,
        version: FormatVersion,
        properties: &[(&str, &str)],
    ) -> Table {
        let schema = Schema::builder()
            .with_fields([NestedField::optional(1, "id", Type::Primitive(PrimitiveType::Long)).into()])
            .build()
            .unwrap();
        let creation = TableCreation::builder()
            .name(name.to_string())
            .location_opt(location.map(str::to_string))
            .schema(schema)
            .format_version(version)
            .properties(properties.iter().map(|(k, v)| (k.to_string(), v.to_string())))
            .build();
        self.catalog.create_table(self.ident.namespace(), creation).await.unwrap()
    }

    pub(crate) async fn table(&self) -> Table {
        self.catalog.load_table(&self.ident).await.unwrap()
    }

    pub(crate) fn shared_catalog(&self) -> Arc<dyn Catalog> {
        self.catalog.clone()
    }

    /// Commits happen now, each at a time of its own: `iceberg` stamps metadata with the system's time and refuses
    /// snapshots that are ahead of it.
    pub(crate) async fn present(&self) {
        tokio::time::sleep(Duration::from_millis(3)).await;
        self.clock.set_ms(SystemClock.now_ms());
    }

    /// Sets the clock to ten days from now.
    pub(crate) fn later(&self) {
        self.clock.set_ms(SystemClock.now_ms());
        self.clock.advance(days(10));
    }

    /// Sets the clock to so long after a snapshot was made.
    pub(crate) async fn after(&self, snapshot_id: i64, age: Duration) {
        let table = self.table().await;
        self.clock.set_ms(table.metadata().snapshot_by_id(snapshot_id).unwrap().timestamp_ms());
        self.clock.advance(age);
    }

    /// An expiry ten days from now.
    pub(crate) async fn expire(&self) -> ExpireSnapshots {
        self.later();
        self.expire_now().await
    }

    /// An expiry at the time to which the clock is set.
    pub(crate) async fn expire_now(&self) -> ExpireSnapshots {
        ExpireSnapshots::new(self.table().await, self.shared_catalog())
    }

    /// An orphan removal ten days from now.
    pub(crate) async fn remove_orphans(&self) -> RemoveOrphanFiles {
        self.later();
        RemoveOrphanFiles::new(self.table().await, self.shared_catalog())
    }

    /// The time by the store's clock.
    pub(crate) async fn store_now_ms(&self) -> i64 {
        tokio::time::sleep(Duration::from_millis(3)).await;
        let probe = "memory://w/probe";
        self.storage.write(probe, "x").await.unwrap();
        let listed: Vec<_> = self.storage.list("memory://w").try_collect().await.unwrap();
        let now = listed.iter().find(|file| file.location == probe).unwrap().modified_ms;
        self.storage.delete(probe).await.unwrap();
        tokio::time::sleep(Duration::from_millis(3)).await;
        now
    }

    /// Writes data files and gives what to commit.
    pub(crate) async fn files(&self, names: &[&str]) -> Vec<ContentFile> {
        let mut files = Vec::new();
        for name in names {
            let path = format!("memory://w/db/t/data/{name}.parquet");
            self.storage.write(&path, format!("rows of {name}")).await.unwrap();
            files.push(content_file(&path));
        }
        files
    }

    pub(crate) async fn commit(&self, change: impl FnOnce(Transaction) -> Transaction) -> Table {
        self.present().await;
        change(Transaction::new(&self.table().await)).commit(&*self.catalog).await.unwrap().table
    }

    pub(crate) async fn change(&self, updates: Vec<TableUpdate>) -> Table {
        let change = MetadataChange { updates, requirements: Vec::new() };
        self.commit(|t| t.change(move |_| Ok(change.clone()))).await
    }

    /// Appends files; gives the id of the snapshot.
    pub(crate) async fn append(&self, names: &[&str]) -> i64 {
        self.append_to("main", names).await
    }

    pub(crate) async fn append_to(&self, branch: &str, names: &[&str]) -> i64 {
        let files = self.files(names).await;
        let table = self.commit(|t| t.on_branch(branch).append(files)).await;
        table.metadata().snapshot_for_ref(branch).unwrap().snapshot_id()
    }

    /// Replaces files by others; gives the id of the snapshot.
    pub(crate) async fn replace(&self, gone: &[&str], names: &[&str]) -> i64 {
        let add = self.files(names).await;
        let live = live_files(&self.table().await, "main").await;
        let delete: Vec<LiveFile> = live
            .into_iter()
            .filter(|f| gone.iter().any(|name| f.path().ends_with(&format!("/{name}.parquet"))))
            .collect();
        assert_eq!(delete.len(), gone.len());
        let overwrite =
            Overwrite { delete: DeleteBy::Files(delete.iter().map(Into::into).collect()), add, reads: None };
        let table = self.commit(|t| t.overwrite(overwrite)).await;
        table.metadata().current_snapshot_id().unwrap()
    }

    pub(crate) async fn tag(&self, name: &str, snapshot_id: i64) {
        let retention = SnapshotRetention::Tag { max_ref_age_ms: None };
        self.commit(|t| t.set_ref(name, SnapshotReference::new(snapshot_id, retention))).await;
    }

    pub(crate) async fn branch(&self, name: &str, snapshot_id: i64) {
        let retention = SnapshotRetention::branch(None, None, None);
        self.commit(|t| t.set_ref(name, SnapshotReference::new(snapshot_id, retention))).await;
    }

    /// Every file in the store, by the part of its location below the table.
    pub(crate) async fn stored(&self) -> BTreeSet<String> {
        let files: Vec<_> = self.storage.list("memory://w/db/t").try_collect().await.unwrap();
        files
            .into_iter()
            .map(|file| file.location.trim_start_matches("memory://w/db/t/").to_string())
            .collect()
    }

    /// The data files in the store, by name.
    pub(crate) async fn stored_data(&self) -> Vec<String> {
        let data = self.stored().await;
        let names = data.iter().filter_map(|path| path.strip_prefix("data/")?.strip_suffix(".parquet"));
        names.map(str::to_string).collect()
    }

    /// Whether every file that a snapshot of the table needs exists, and every earlier metadata file.
    pub(crate) async fn check(&self) -> Result<(), String> {
        check(&self.table().await).await
    }

    pub(crate) async fn assert_whole(&self) {
        self.check().await.unwrap();
    }
}

pub(crate) fn content_file(path: &str) -> ContentFile {
    let file = DataFileBuilder::default()
        .content(DataContentType::Data)
        .file_path(path.to_string())
        .file_format(DataFileFormat::Parquet)
        .partition(Struct::empty())
        .record_count(1)
        .file_size_in_bytes(100)
        .partition_spec_id(0)
        .build()
        .unwrap();
    ContentFile { spec_id: 0, file }
}

pub(crate) async fn live_files(table: &Table, reference: &str) -> Vec<LiveFile> {
    let Some(snapshot) = table.metadata().snapshot_for_ref(reference) else { return Vec::new() };
    let mut files = Vec::new();
    for manifest in load_manifest_list(table.storage(), snapshot).await.unwrap() {
        files.extend(load_manifest(table.storage(), table.metadata(), &manifest).await.unwrap().live);
    }
    files
}

pub(crate) async fn check(table: &Table) -> Result<(), String> {
    let needed = needed(table.storage(), table.metadata()).await.map_err(|e| e.to_string())?;
    for (file, whose) in needed {
        if !table.storage().exists(&file).await.map_err(|e| e.to_string())? {
            return Err(format!("{file} is gone, and {whose} needs it"));
        }
    }
    for earlier in table.metadata().metadata_log() {
        load_metadata(table.storage(), &earlier.metadata_file).await.map_err(|e| e.to_string())?;
    }
    Ok(())
}

/// Every file that a snapshot of `metadata` needs, and which. Written out here once more, in the plainest way, so that it
/// can't share a mistake with the code under test.
pub(crate) async fn needed(storage: &Storage, metadata: &TableMetadata) -> Result<BTreeMap<String, String>> {
    let mut files = BTreeMap::new();
    for snapshot in metadata.snapshots() {
        let whose = format!("snapshot {}", snapshot.snapshot_id());
        files.insert(snapshot.manifest_list().to_string(), whose.clone());
        for manifest in load_manifest_list(storage, snapshot).await? {
            for file in load_manifest(storage, metadata, &manifest).await?.live {
                files.insert(file.path().to_string(), whose.clone());
            }
            files.insert(manifest.manifest_path, whose.clone());
        }
    }
    for statistics in metadata.statistics_iter() {
        files.insert(statistics.statistics_path.clone(), "a statistics entry".to_string());
    }
    Ok(files)
}

/// Puts bytes where nothing names them.
pub(crate) async fn litter(storage: &Storage, folder: &str, names: &[&str]) {
    for name in names {
        storage.write(&join(folder, name), "litter").await.unwrap();
    }
}
