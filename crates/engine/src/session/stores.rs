//! The stores of [`Storage`] as DataFusion's registry, so that scans, readers and metadata share one set of stores.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use datafusion::common::Result;
use datafusion::execution::object_store::ObjectStoreRegistry;
use icefield_core::storage::Storage;
use object_store::ObjectStore;
use url::Url;

use crate::error::to_datafusion;

/// Finds stores through [`Storage`], after those that were registered by hand.
#[derive(Debug)]
pub(super) struct StorageRegistry {
    storage: Storage,
    registered: Mutex<HashMap<String, Arc<dyn ObjectStore>>>,
}

impl StorageRegistry {
    /// A registry of the same stores. Files that queries name are the caller's to choose; tables' were checked when they were
    /// planned.
    pub(super) fn new(storage: &Storage) -> Self {
        Self { storage: storage.unconfined(), registered: Mutex::default() }
    }

    fn registered(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<dyn ObjectStore>>> {
        self.registered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn base(url: &Url) -> String {
    format!("{}://{}", url.scheme(), url.authority())
}

impl ObjectStoreRegistry for StorageRegistry {
    fn register_store(&self, url: &Url, store: Arc<dyn ObjectStore>) -> Option<Arc<dyn ObjectStore>> {
        self.registered().insert(base(url), store)
    }

    fn get_store(&self, url: &Url) -> Result<Arc<dyn ObjectStore>> {
        let base = base(url);
        if let Some(store) = self.registered().get(&base) {
            return Ok(store.clone());
        }
        let resolved = self.storage.resolve(&format!("{base}/")).map_err(to_datafusion)?;
        Ok(resolved.store)
    }
}
