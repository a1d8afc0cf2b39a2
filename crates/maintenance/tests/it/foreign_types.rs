//! Maintenance of tables with column types that the `iceberg` crate does not know.

use std::sync::Arc;

use icefield_core::ErrorKind;
use icefield_core::catalog::{Catalog, MemoryCatalog, parse_ident};
use icefield_engine::Session;
use icefield_maintenance as maintenance;
use icefield_testkit::ForeignTable;

#[tokio::test]
async fn snapshots_of_a_table_with_variants_expire_and_its_files_are_not_compacted() {
    let files = ForeignTable::copy("variants", |metadata| metadata);
    let catalog = Arc::new(MemoryCatalog::new("memory://w", files.storage.clone()));
    let session = Session::builder().catalog(catalog.clone()).build().unwrap();
    let ident = parse_ident("db.variants").unwrap();
    catalog.create_namespace(ident.namespace(), Default::default()).await.unwrap();
    catalog.register_table(&ident, &files.metadata_location).await.unwrap();
    let table = session.table("db.variants").await.unwrap();
    let before = files.json(table.core().metadata_location());

    let count = files.files();
    for compaction in [maintenance::compact(&table), maintenance::compact(&table).rewrite_all(true)] {
        let error = compaction.await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        assert!(error.to_string().contains("variant"), "{error}");
    }
    assert_eq!(files.files(), count);

    maintenance::expire_snapshots(&table).older_than(std::time::Duration::ZERO).retain_last(1).await.unwrap();
    let table = session.table("db.variants").await.unwrap();
    assert_eq!(table.core().metadata().snapshots().len(), 1);
    assert_eq!(files.json(table.core().metadata_location())["schemas"], before["schemas"]);
    assert_eq!(table.dataframe().await.unwrap().count().await.unwrap(), 16);
}
