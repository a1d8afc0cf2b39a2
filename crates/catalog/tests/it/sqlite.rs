//! The catalog in a SQLite file.

use std::sync::Arc;

use icefield_catalog::sql::SqlCatalog;
use icefield_core::storage::Storage;
use icefield_testkit::catalog_suite;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_passes_the_suite() {
    let folder = tempfile::tempdir().unwrap();
    let warehouse = format!("file://{}", folder.path().join("warehouse").display());
    let path = folder.path().join("new folder/catalog.db");
    let catalog = SqlCatalog::sqlite("lake", path, warehouse, Storage::new()).await.unwrap();
    catalog_suite::run(Arc::new(catalog)).await;
}
