//! `iceberg`'s own programs on our catalogs.

use std::collections::HashMap;
use std::sync::Arc;

use iceberg::Catalog as _;
use iceberg::spec::{DataContentType, DataFile, DataFileBuilder, DataFileFormat, Struct};
use iceberg::transaction::{ApplyTransactionAction, Transaction};
use icefield_core::catalog::{Catalog, IcebergCatalog, TableIdent};
use icefield_testkit::catalog_suite::{creation, namespace};

fn data_file(location: &str, name: &str, rows: u64) -> DataFile {
    DataFileBuilder::default()
        .content(DataContentType::Data)
        .file_path(format!("{location}/data/{name}.parquet"))
        .file_format(DataFileFormat::Parquet)
        .file_size_in_bytes(100)
        .record_count(rows)
        .partition(Struct::empty())
        .partition_spec_id(0)
        .build()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_of_iceberg_commits_through_our_catalog() {
    let folder = tempfile::tempdir().unwrap();
    let ours: Arc<dyn Catalog> = Arc::new(crate::sqlite::open(folder.path()).await);
    let theirs = IcebergCatalog::new(ours.clone());
    let ns = namespace(&["n"]);
    theirs.create_namespace(&ns, HashMap::from([("a".into(), "b".into())])).await.unwrap();
    let table = theirs.create_table(&ns, creation("t")).await.unwrap();

    // Both begin on the empty table: the second one is replayed on the first one's snapshot.
    for name in ["one", "two"] {
        let tx = Transaction::new(&table);
        let file = data_file(table.metadata().location(), name, 5);
        let append = tx.fast_append().add_data_files(vec![file]);
        append.apply(tx).unwrap().commit(&theirs).await.unwrap();
    }
    let loaded = ours.load_table(table.identifier()).await.unwrap();
    assert_eq!(loaded.metadata().snapshots().len(), 2);
    let summary = loaded.metadata().current_snapshot().unwrap().summary();
    assert_eq!(summary.additional_properties.get("total-records").map(String::as_str), Some("10"));

    // Their appends at the same time, against each other.
    let racing: Vec<_> = (0..4)
        .map(|task| {
            let (theirs, table) = (theirs.clone(), table.clone());
            tokio::spawn(async move {
                let tx = Transaction::new(&table);
                let file = data_file(table.metadata().location(), &format!("race-{task}"), 1);
                let append = tx.fast_append().add_data_files(vec![file]);
                append.apply(tx).unwrap().commit(&theirs).await.map(drop)
            })
        })
        .collect();
    for task in racing {
        task.await.unwrap().unwrap();
    }
    let loaded = ours.load_table(table.identifier()).await.unwrap();
    let summary = loaded.metadata().current_snapshot().unwrap().summary();
    assert_eq!(summary.additional_properties.get("total-records").map(String::as_str), Some("14"));
}

#[tokio::test]
async fn what_is_missing_is_missing_in_the_terms_of_iceberg() {
    use iceberg::ErrorKind::{NamespaceAlreadyExists, NamespaceNotFound, TableAlreadyExists, TableNotFound};
    let folder = tempfile::tempdir().unwrap();
    let catalog = IcebergCatalog::new(Arc::new(crate::sqlite::open(folder.path()).await));
    let (ns, absent) = (namespace(&["n"]), namespace(&["absent"]));
    catalog.create_namespace(&ns, HashMap::from([("a".into(), "1".into())])).await.unwrap();
    let table = catalog.create_table(&ns, creation("t")).await.unwrap();
    let no_table = TableIdent::new(ns.clone(), "absent".into());

    let created = catalog.create_namespace(&ns, HashMap::new()).await;
    assert_eq!(created.unwrap_err().kind(), NamespaceAlreadyExists);
    assert_eq!(catalog.get_namespace(&absent).await.unwrap_err().kind(), NamespaceNotFound);
    assert_eq!(catalog.create_table(&absent, creation("t")).await.unwrap_err().kind(), NamespaceNotFound);
    assert_eq!(catalog.create_table(&ns, creation("t")).await.unwrap_err().kind(), TableAlreadyExists);
    assert_eq!(catalog.load_table(&no_table).await.unwrap_err().kind(), TableNotFound);
    assert_eq!(catalog.rename_table(&no_table, table.identifier()).await.unwrap_err().kind(), TableNotFound);
    assert!(!catalog.table_exists(&no_table).await.unwrap());

    // Their update replaces every property.
    catalog.update_namespace(&ns, HashMap::from([("b".into(), "2".into())])).await.unwrap();
    let properties = catalog.get_namespace(&ns).await.unwrap().properties().clone();
    assert_eq!(properties, HashMap::from([("b".into(), "2".into())]));
}
