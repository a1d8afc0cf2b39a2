//! Caches bounded in bytes, shared by all scans of a session: manifests, manifest lists, positions of deleted rows and Parquet
//! footers.
//!
//! All that is cached is immutable by the table format: a location, once written, never holds other bytes. So entries are
//! never invalidated, only evicted, least recently used first.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool};
use iceberg::spec::ManifestFile;
use icefield_core::deletes::RoaringTreemap;
use icefield_core::{Result, Table};

use super::footer::Footer;
use super::manifest::CachedManifest;
use super::planning::PlanningMemory;

/// What the scans of a session keep between them.
#[derive(Debug)]
pub struct ScanCaches {
    /// Manifest lists by location and snapshot.
    pub(super) lists: ByteCache<Vec<ManifestFile>>,
    /// The live entries of manifests by location, and by all else that they are worked out from.
    pub(super) manifests: ByteCache<CachedManifest>,
    /// Parquet footers by location and size.
    pub(super) footers: ByteCache<Footer>,
    /// Positions of deleted rows by delete file and data file.
    pub(super) deletes: ByteCache<RoaringTreemap>,
    view_types: bool,
    /// What planning a scan holds is taken from.
    pool: Option<Arc<dyn MemoryPool>>,
}

impl ScanCaches {
    /// Caches that hold about `bytes` together: half for manifests, half for footers and deletes.
    pub fn new(bytes: usize) -> Self {
        Self {
            lists: ByteCache::new(bytes / 8),
            manifests: ByteCache::new(bytes / 8 * 3),
            footers: ByteCache::new(bytes / 8 * 3),
            deletes: ByteCache::new(bytes / 8),
            view_types: true,
            pool: None,
        }
    }

    /// Takes what planning a scan holds of manifests from this pool. Without one it is not bounded.
    pub fn with_memory_pool(mut self, pool: Arc<dyn MemoryPool>) -> Self {
        self.pool = Some(pool);
        self
    }

    /// The same caches, with the pool of others.
    pub(crate) fn with_pool_of(mut self, others: &Self) -> Self {
        self.pool = others.pool.clone();
        self
    }

    /// Memory for planning scans of a table.
    pub(super) fn planning(&self, table: &Table) -> PlanningMemory {
        let reservation = |pool: &Arc<dyn MemoryPool>| {
            MemoryConsumer::new(format!("planning of {}", table.ident())).register(pool)
        };
        PlanningMemory::new(self.pool.as_ref().map(reservation))
    }

    /// Whether scans produce strings and binary columns as view types (the default), which DataFusion filters and groups
    /// faster, or as plain ones.
    pub fn with_view_types(mut self, views: bool) -> Self {
        self.view_types = views;
        self
    }

    pub(crate) fn view_types(&self) -> bool {
        self.view_types
    }

    /// Bytes held now, as estimated.
    pub fn size_bytes(&self) -> usize {
        self.lists.size() + self.manifests.size() + self.footers.size() + self.deletes.size()
    }
}

/// Values by location, least recently used evicted first.
pub(super) struct ByteCache<V> {
    capacity: usize,
    state: Mutex<State<V>>,
}

struct State<V> {
    entries: HashMap<Arc<str>, Entry<V>>,
    /// Keys by last use: the first is the next to go.
    by_use: BTreeMap<u64, Arc<str>>,
    next_use: u64,
    size: usize,
}

struct Entry<V> {
    value: Arc<V>,
    bytes: usize,
    used: u64,
}

impl<V> fmt::Debug for ByteCache<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ByteCache").field("capacity", &self.capacity).field("size", &self.size()).finish()
    }
}

impl<V> ByteCache<V> {
    pub(super) fn new(capacity: usize) -> Self {
        let state = State { entries: HashMap::new(), by_use: BTreeMap::new(), next_use: 0, size: 0 };
        Self { capacity, state: Mutex::new(state) }
    }

    /// The most that is held, in bytes.
    pub(super) fn capacity(&self) -> usize {
        self.capacity
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State<V>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn size(&self) -> usize {
        self.state().size
    }

    pub(super) fn get(&self, key: &str) -> Option<Arc<V>> {
        let mut guard = self.state();
        let state = &mut *guard;
        let now = state.next_use;
        let (key, entry) = state.entries.get_key_value(key).map(|(key, _)| key.clone()).and_then(|key| {
            let entry = state.entries.get_mut(&key)?;
            Some((key, entry))
        })?;
        state.by_use.remove(&entry.used);
        entry.used = now;
        state.by_use.insert(now, key);
        state.next_use += 1;
        Some(entry.value.clone())
    }

    /// Keeps a value of an estimated size. One larger than the whole cache is not kept.
    pub(super) fn put(&self, key: &str, value: Arc<V>, bytes: usize) {
        if bytes > self.capacity {
            return;
        }
        let mut guard = self.state();
        let state = &mut *guard;
        let key: Arc<str> = key.into();
        let used = state.next_use;
        state.next_use += 1;
        if let Some(old) = state.entries.insert(key.clone(), Entry { value, bytes, used }) {
            state.by_use.remove(&old.used);
            state.size -= old.bytes;
        }
        state.by_use.insert(used, key);
        state.size += bytes;
        while state.size > self.capacity {
            let Some((_, oldest)) = state.by_use.pop_first() else { break };
            if let Some(gone) = state.entries.remove(&oldest) {
                state.size -= gone.bytes;
            }
        }
    }

    /// The cached value, or the loaded one. Two that miss at once both load.
    pub(super) async fn get_or_load<F>(
        &self,
        key: &str,
        bytes: impl FnOnce(&V) -> usize,
        load: impl FnOnce() -> F,
    ) -> Result<Arc<V>>
    where
        F: Future<Output = Result<V>>,
    {
        if let Some(value) = self.get(key) {
            return Ok(value);
        }
        let value = Arc::new(load().await?);
        self.put(key, value.clone(), bytes(&value));
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_goes_first_and_the_bound_holds() {
        let cache = ByteCache::new(100);
        for key in ["a", "b", "c"] {
            cache.put(key, Arc::new(key), 30);
        }
        assert!(cache.get("a").is_some());
        cache.put("d", Arc::new("d"), 30);
        assert!(cache.get("b").is_none());
        assert!(cache.get("a").is_some() && cache.get("c").is_some() && cache.get("d").is_some());
        cache.put("a", Arc::new("a"), 95);
        assert_eq!(cache.size(), 95);
        cache.put("whale", Arc::new("whale"), 101);
        assert!(cache.get("whale").is_none());
        assert_eq!(cache.size(), 95);
    }
}
