//! [`SessionBuilder`]: the components and limits of a session.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use datafusion::execution::SessionStateBuilder;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::{MemoryLimit, MemoryPool};
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::prelude::{SessionConfig, SessionContext};
use icefield_core::catalog::{Catalog, MemoryCatalog};
use icefield_core::storage::Storage;
use icefield_core::{Clock, Error, Result, SystemClock};

use super::catalog_adapter::{CatalogAdapter, DEFAULT_SCHEMA, Names};
use super::stores::StorageRegistry;
use super::{Inner, Session};
use crate::configure::configure;
use crate::error::from_datafusion;
use crate::lookup::Lookup;
use crate::memory::{SharedMemoryPool, default_budget, with_room_to_merge};
use crate::scan::ScanCaches;
use crate::sql::{SqlFunctions, TABLE_AT, TableAt};

/// How much of the memory budget the caches of manifests and footers may take.
pub(super) const CACHE_SHARE: usize = 8;
/// What they may take of a pool that other sessions share, whose caches are beside it too, in bytes.
const CACHE_OF_SHARED_POOL: usize = 128 << 20;

/// Builds a [`Session`].
#[derive(Default)]
pub struct SessionBuilder {
    pub(super) catalog: Option<Arc<dyn Catalog>>,
    pub(super) warehouse: Option<String>,
    pub(super) storage: Option<Storage>,
    storage_options: HashMap<String, String>,
    cache_bytes: Option<usize>,
    memory_budget: Option<usize>,
    memory_pool: Option<Arc<dyn MemoryPool>>,
    spill_folder: Option<PathBuf>,
    max_spill_bytes: Option<u64>,
    parallelism: Option<usize>,
    pub(super) clock: Option<Arc<dyn Clock>>,
    config: Option<SessionConfig>,
}

impl Session {
    /// Everything that can be set.
    pub fn builder() -> SessionBuilder {
        SessionBuilder::default()
    }
}

/// Without the values of storage options, which may be secrets.
impl fmt::Debug for SessionBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let options: BTreeSet<&String> = self.storage_options.keys().collect();
        f.debug_struct("SessionBuilder")
            .field("catalog", &self.catalog)
            .field("warehouse", &self.warehouse)
            .field("storage", &self.storage)
            .field("storage_options", &options)
            .field("memory_budget", &self.memory_budget)
            .field("parallelism", &self.parallelism)
            .finish_non_exhaustive()
    }
}

impl SessionBuilder {
    /// The catalog of the session's tables. Its storage and clock are the session's.
    pub fn catalog(mut self, catalog: Arc<dyn Catalog>) -> Self {
        self.catalog = Some(catalog);
        self
    }

    /// Where tables are created, as a URL or a local path, when no catalog is given.
    pub fn warehouse(mut self, url: impl Into<String>) -> Self {
        self.warehouse = Some(url.into());
        self
    }

    /// The stores, when no catalog is given.
    pub fn storage(mut self, storage: Storage) -> Self {
        self.storage = Some(storage);
        self
    }

    /// A setting of the stores, when neither a catalog nor a storage is given: `aws_region`, `aws_endpoint`,
    /// `azure_storage_account_name`, ...; [`Storage::with_options`] takes the same.
    pub fn storage_option(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.storage_options.insert(name.into(), value.into());
        self
    }

    /// The most that caches of manifests, footers and deletes may take, in bytes (default: an eighth of the memory
    /// budget, and 128 MiB at most where sessions share a pool).
    pub fn cache_bytes(mut self, bytes: usize) -> Self {
        self.cache_bytes = Some(bytes);
        self
    }

    /// The most that queries and writes may hold in memory together, in bytes. By default 60 % of the memory that the process
    /// may use, the machine's or its control group's, whichever is less, and 128 MiB at least; 1 GiB where the system does
    /// not tell. Sorts, aggregates and joins that pass it spill; what can't spill fails with
    /// [`ResourceExhausted`](icefield_core::ErrorKind::ResourceExhausted). Caches of manifests and footers take up to an
    /// eighth of it, beside it.
    pub fn memory_budget(mut self, bytes: usize) -> Self {
        self.memory_budget = Some(bytes);
        self
    }

    /// The memory pool of queries and writes, instead of one of the session's own: given to several sessions, it is one
    /// budget for all of them. [`memory_budget`](Self::memory_budget) then says nothing.
    ///
    /// ```
    /// use icefield_engine::{Session, SharedMemoryPool};
    ///
    /// # fn main() -> icefield_core::Result<()> {
    /// let pool = SharedMemoryPool::new(8 << 30);
    /// let tenants = ["a", "b"].map(|_| Session::builder().memory_pool(pool.clone()).build());
    /// # for tenant in tenants { assert_eq!(tenant?.memory_budget(), 8 << 30); }
    /// # Ok(())
    /// # }
    /// ```
    pub fn memory_pool(mut self, pool: Arc<dyn MemoryPool>) -> Self {
        self.memory_pool = Some(pool);
        self
    }

    /// The folder that takes spilled data (default: the system's temporary folder).
    pub fn spill_folder(mut self, path: impl Into<PathBuf>) -> Self {
        self.spill_folder = Some(path.into());
        self
    }

    /// The most that may be spilled at once, in bytes (default 100 GB).
    pub fn max_spill_bytes(mut self, bytes: u64) -> Self {
        self.max_spill_bytes = Some(bytes);
        self
    }

    /// How many partitions a query runs in (default: the number of cores).
    pub fn parallelism(mut self, partitions: usize) -> Self {
        self.parallelism = Some(partitions);
        self
    }

    /// The source of time, ids and chance, when no catalog is given.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = Some(clock);
        self
    }

    /// DataFusion's own settings. What this builder sets wins over them.
    pub fn config(mut self, config: SessionConfig) -> Self {
        self.config = Some(config);
        self
    }

    /// The session. Without a catalog its tables are kept in memory, under the warehouse when one is given: for tests
    /// and for what need not outlive the process.
    ///
    /// # Errors
    /// [`InvalidInput`](icefield_core::ErrorKind::InvalidInput) for a relative warehouse, and when the spill folder can't be used.
    pub fn build(mut self) -> Result<Session> {
        let catalog = match self.catalog.take() {
            Some(_) if !self.storage_options.is_empty() => {
                return Err(Error::invalid_input(
                    "a catalog is given, which has its own storage: give it the options of the stores too",
                ));
            }
            Some(catalog) => catalog,
            None => {
                let storage = self.own_storage()?;
                let warehouse = self.warehouse.unwrap_or_else(|| "memory://warehouse".to_string());
                let own = warehouse.trim_end_matches('/');
                storage.for_warehouse(own).and_then(|storage| storage.resolve(own)).map_err(|e| {
                    Error::invalid_input("the warehouse is a URL or an absolute path; tables keep the places of their files in full")
                        .with("warehouse", &warehouse)
                        .with_source(e)
                })?;
                let clock = self.clock.unwrap_or_else(SystemClock::shared);
                Arc::new(MemoryCatalog::with_clock(warehouse, storage, clock))
            }
        };
        let shared = self.memory_pool.is_some();
        let own = self.memory_budget;
        let pool =
            self.memory_pool.unwrap_or_else(|| SharedMemoryPool::new(own.unwrap_or_else(default_budget)));
        let memory_budget = match pool.memory_limit() {
            MemoryLimit::Finite(bytes) => bytes,
            MemoryLimit::Infinite | MemoryLimit::Unknown => usize::MAX,
        };
        let cache = memory_budget / CACHE_SHARE;
        let cache = if shared { cache.min(CACHE_OF_SHARED_POOL) } else { cache };
        let cache = self.cache_bytes.unwrap_or(cache);
        let mode = match self.spill_folder {
            Some(folder) => DiskManagerMode::Directories(vec![folder]),
            None => DiskManagerMode::OsTmpDirectory,
        };
        let mut disk = DiskManagerBuilder::default().with_mode(mode);
        if let Some(bytes) = self.max_spill_bytes {
            disk.set_max_temp_directory_size(bytes);
        }
        let runtime = RuntimeEnvBuilder::new()
            .with_memory_pool(pool.clone())
            .with_disk_manager_builder(disk)
            .with_object_store_registry(Arc::new(StorageRegistry::new(catalog.storage())))
            .build_arc()
            .map_err(from_datafusion)?;

        let mut config = self
            .config
            .unwrap_or_default()
            .with_create_default_catalog_and_schema(false)
            .with_default_catalog_and_schema(catalog.name(), DEFAULT_SCHEMA)
            .with_information_schema(true);
        if let Some(partitions) = self.parallelism {
            config = config.with_target_partitions(partitions.max(1));
        }
        let mut config = with_room_to_merge(config, memory_budget);
        config.options_mut().sql_parser.collect_spans = true;
        let views = config.options().execution.parquet.schema_force_view_types;
        let state =
            SessionStateBuilder::new().with_config(config).with_runtime_env(runtime).with_default_features();
        let state = configure(state).with_function_factory(Some(Arc::new(SqlFunctions))).build();
        let context = SessionContext::new_with_state(state);
        let caches = Arc::new(ScanCaches::new(cache).with_view_types(views).with_memory_pool(pool));
        let lookup = Lookup::new(catalog, caches);
        let names = Arc::<Names>::default();
        let adapter = CatalogAdapter::new(lookup.clone(), names.clone());
        context.register_catalog(lookup.catalog().name(), Arc::new(adapter));
        context.register_udtf(TABLE_AT, Arc::new(TableAt::new(lookup.clone())));
        Ok(Session(Arc::new(Inner { context, lookup, names, memory_budget })))
    }

    /// The stores of the catalog that the builder makes.
    pub(super) fn own_storage(&mut self) -> Result<Storage> {
        let options = std::mem::take(&mut self.storage_options);
        match self.storage.take() {
            None => Ok(Storage::with_options(options)),
            Some(storage) if options.is_empty() => Ok(storage),
            Some(_) => Err(Error::invalid_input(
                "a storage is given and options of one; give the options to the storage (Storage::with_options)",
            )),
        }
    }
}
