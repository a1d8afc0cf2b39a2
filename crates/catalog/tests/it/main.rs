//! The catalogs, against the suite that all of them pass, other programs that share their tables, and faults.

mod bridge;
mod interop;
mod postgres;
mod proxy;
mod requirements;
mod sqlite;

use std::sync::Arc;

use icefield_core::catalog::MemoryCatalog;
use icefield_core::storage::Storage;
use icefield_testkit::catalog_suite;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_memory_catalog_passes_the_suite() {
    catalog_suite::run(Arc::new(MemoryCatalog::new("memory://lake/warehouse", Storage::new()))).await;
}
