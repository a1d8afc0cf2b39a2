//! [`SessionBuilder`]: the components and limits of a session.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;

use datafusion::execution::SessionStateBuilder;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::{FairSpillPool, TrackConsumersPool};
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;
use datafusion::prelude::{SessionConfig, SessionContext};
use icefield_core::catalog::{Catalog, MemoryCatalog};
use icefield_core::storage::Storage;
use icefield_core::{Clock, Result, SystemClock};

use super::stores::StorageRegistry;
use super::{Inner, Session, sql_catalog};
use crate::error::from_datafusion;
use crate::memory::with_room_to_merge;
use crate::scan::{ScanCaches, with_ordered_scans};
use crate::variant;

/// What queries may hold in memory unless another budget is given, in bytes.
const DEFAULT_MEMORY_BUDGET: usize = 1 << 30;
/// How much of the memory budget the caches of manifests and footers may take.
pub(super) const CACHE_SHARE: usize = 8;
/// The schema in which tables registered by hand are found without a prefix.
pub(super) const DEFAULT_SCHEMA: &str = "public";

/// Builds a [`Session`].
#[derive(Debug, Default)]
pub struct SessionBuilder {
    pub(super) catalog: Option<Arc<dyn Catalog>>,
    pub(super) warehouse: Option<String>,
    pub(super) storage: Option<Storage>,
    memory_budget: Option<usize>,
    spill_folder: Option<PathBuf>,
    max_spill_bytes: Option<u64>,
    parallelism: Option<usize>,
    pub(super) clock: Option<Arc<dyn Clock>>,
    config: Option<SessionConfig>,
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

    /// The most that queries and writes may hold in memory together, in bytes (default 1 GiB). Sorts, aggregates and
    /// joins that pass it spill; what can't spill fails with
    /// [`ResourceExhausted`](icefield_core::ErrorKind::ResourceExhausted).
    pub fn memory_budget(mut self, bytes: usize) -> Self {
        self.memory_budget = Some(bytes);
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
    /// [`InvalidInput`](icefield_core::ErrorKind::InvalidInput) when the spill folder can't be used.
    pub fn build(self) -> Result<Session> {
        let catalog = self.catalog.unwrap_or_else(|| {
            let warehouse = self.warehouse.unwrap_or_else(|| "memory://warehouse".to_string());
            let clock = self.clock.unwrap_or_else(SystemClock::shared);
            Arc::new(MemoryCatalog::with_clock(warehouse, self.storage.unwrap_or_default(), clock))
        });
        let memory_budget = self.memory_budget.unwrap_or(DEFAULT_MEMORY_BUDGET);
        let top = NonZeroUsize::new(5).unwrap_or(NonZeroUsize::MIN);
        let pool = TrackConsumersPool::new(FairSpillPool::new(memory_budget), top);
        let mode = match self.spill_folder {
            Some(folder) => DiskManagerMode::Directories(vec![folder]),
            None => DiskManagerMode::OsTmpDirectory,
        };
        let mut disk = DiskManagerBuilder::default().with_mode(mode);
        if let Some(bytes) = self.max_spill_bytes {
            disk.set_max_temp_directory_size(bytes);
        }
        let runtime = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(pool))
            .with_disk_manager_builder(disk)
            .with_object_store_registry(Arc::new(StorageRegistry::new(catalog.storage().clone())))
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
        let config = with_room_to_merge(config, memory_budget);
        let views = config.options().execution.parquet.schema_force_view_types;
        let state = SessionStateBuilder::new()
            .with_config(config)
            .with_runtime_env(runtime)
            .with_default_features()
            .with_physical_optimizer_rules(with_ordered_scans(PhysicalOptimizer::new().rules))
            .build();
        let context = SessionContext::new_with_state(state);
        variant::functions().into_iter().for_each(|function| context.register_udf(function));
        let caches = Arc::new(ScanCaches::new(memory_budget / CACHE_SHARE).with_view_types(views));
        let names = Arc::<sql_catalog::Names>::default();
        let inner = Arc::new_cyclic(|session| {
            let provider = sql_catalog::SqlCatalog::new(session.clone(), names.clone());
            context.register_catalog(catalog.name(), Arc::new(provider));
            Inner { context, catalog, caches, names, memory_budget }
        });
        Ok(Session::from_inner(inner))
    }
}
