//! Compaction of tables whose files are Avro and ORC: what it writes is Parquet.

use std::path::Path;
use std::sync::Arc;

use icefield_core::catalog::{Catalog, MemoryCatalog, NamespaceIdent, parse_ident};
use icefield_core::storage::Storage;
use icefield_engine::Session;
use icefield_maintenance::compact;
use icefield_testkit::{KEPT_TABLES, KEPT_TABLES_WERE_AT, content_hash, kept_table, newest_metadata};

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[tokio::test]
async fn files_in_avro_and_orc_become_parquet_with_the_same_rows() {
    for (name, expected) in KEPT_TABLES {
        let folder = tempfile::tempdir().unwrap();
        for part in ["metadata", "data"] {
            copy(&kept_table(name).join(part), &folder.path().join(part));
        }
        let was = format!("{KEPT_TABLES_WERE_AT}/{name}");
        let moved = [(was, format!("file://{}", folder.path().display()))];
        let catalog = MemoryCatalog::new("memory://w", Storage::new().with_mappings(moved).unwrap());
        let namespace = NamespaceIdent::new("db".to_string());
        catalog.create_namespace(&namespace, Default::default()).await.unwrap();
        let ident = parse_ident("db.t").unwrap();
        let metadata = newest_metadata(folder.path()).unwrap();
        catalog.register_table(&ident, &format!("file://{}", metadata.display())).await.unwrap();
        let session = Session::builder().catalog(Arc::new(catalog)).parallelism(2).build().unwrap();

        let report = compact(&session.table("db.t").await.unwrap()).rewrite_all(true).await.unwrap();
        assert!(report.input.files > 0, "{name}");
        // Nothing of what was there before is needed any more.
        for entry in std::fs::read_dir(folder.path().join("data")).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|of| of == "avro" || of == "orc") {
                std::fs::remove_file(path).unwrap();
            }
        }
        let table = session.table("db.t").await.unwrap();
        let batches = table.dataframe().await.unwrap().collect().await.unwrap();
        let content = content_hash(&batches, table.core().schema());
        assert_eq!(content.to_string(), expected, "{name}");
        eprintln!("{name}: {report}");
    }
}
