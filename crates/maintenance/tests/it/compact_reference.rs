//! Compaction of tables that the reference implementation wrote, with every kind of delete.

use std::sync::Arc;

use icefield_core::catalog::{Catalog, MemoryCatalog, NamespaceIdent, parse_ident};
use icefield_core::storage::Storage;
use icefield_engine::Session;
use icefield_maintenance::compact;
use icefield_testkit::{Pick, Referee, ReferenceTables, content_hash, newest_metadata};

#[tokio::test]
async fn compaction_keeps_the_rows_of_the_reference_implementations_tables() {
    let Some(tables) = ReferenceTables::make() else { return };
    let of_main: Vec<_> = tables.expected().into_iter().filter(|line| line.reference == "main").collect();
    assert!(!of_main.is_empty());
    for line in of_main {
        let metadata = newest_metadata(&tables.table(&line.table)).unwrap();
        let catalog = MemoryCatalog::new("memory://w", Storage::new().unconfined());
        let namespace = NamespaceIdent::new("db".to_string());
        catalog.create_namespace(&namespace, Default::default()).await.unwrap();
        let name = format!("db.{}", line.table);
        let location = format!("file://{}", metadata.display());
        catalog.register_table(&parse_ident(&name).unwrap(), &location).await.unwrap();
        let session = Session::builder().catalog(Arc::new(catalog)).parallelism(2).build().unwrap();

        let report = compact(&session.table(&name).await.unwrap()).rewrite_all(true).await.unwrap();
        assert!(report.input.files > 0, "{line:?}");
        let table = session.table(&name).await.unwrap();
        let batches = table.dataframe().await.unwrap().collect().await.unwrap();
        let content = content_hash(&batches, table.core().schema());
        assert_eq!(content.to_string(), line.content, "{line:?}");
        assert_eq!(report.rows, content.rows, "{line:?}");
        let read = Referee::new().check(table.core().metadata_location(), Pick::Current, &content).await;
        eprintln!("{}: {report}; {read:?}", line.table);
    }
}
