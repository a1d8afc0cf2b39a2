//! Catalogs hold of metadata files what the files have.

use std::collections::HashMap;
use std::sync::Arc;

use icefield_core::Table;
use icefield_core::catalog::{Catalog, MemoryCatalog, NamespaceIdent, parse_ident};
use icefield_core::storage::Storage;
use icefield_testkit::{FaultyStore, OpKind};
use serde_json::Value;

use crate::metadata::file;

/// A table of `v2-minimal` with an owner.
fn owned_by(owner: &str) -> String {
    let mut json = file("v2-minimal");
    json["properties"] = serde_json::json!({ "owner": owner });
    json.to_string()
}

async fn registered(storage: Storage, location: &str) -> (MemoryCatalog, Table) {
    let catalog = MemoryCatalog::new("memory://w", storage);
    catalog.create_namespace(&NamespaceIdent::new("db".to_string()), HashMap::new()).await.unwrap();
    catalog.storage().write(location, owned_by("one")).await.unwrap();
    let table = catalog.register_table(&parse_ident("db.t").unwrap(), location).await.unwrap();
    (catalog, table)
}

#[tokio::test]
async fn a_metadata_file_of_a_fixed_name_is_read_again_once_it_changed() {
    let folder = tempfile::tempdir().unwrap();
    let on_disk = format!("{}/v3.metadata.json", folder.path().display());
    for location in ["memory://w/db/t/metadata/v3.metadata.json", &on_disk] {
        let (catalog, table) = registered(Storage::new().unconfined(), location).await;
        catalog.storage().write(location, owned_by("two")).await.unwrap();
        let now = catalog.load_table(table.ident()).await.unwrap();
        assert_eq!(now.property("owner"), Some("two"), "{location}");
        catalog.storage().delete(location).await.unwrap();
        catalog.load_table(table.ident()).await.unwrap_err();
    }
}

#[tokio::test]
async fn an_unchanged_metadata_file_is_parsed_once_whatever_its_name() {
    let unique = "00003-2f3eb7a7-3a5c-4a4d-a4f4-8f7c6a7a2d11.metadata.json";
    for (name, requests) in [("v3.metadata.json", 1), (unique, 0), ("00003-a-b.metadata.json", 1)] {
        let store = FaultyStore::in_memory();
        let storage = Storage::new().with_store("memory://w", Arc::new(store.clone())).unwrap();
        let (catalog, table) = registered(storage, &format!("memory://w/db/t/metadata/{name}")).await;
        store.reset();
        let now = catalog.load_table(table.ident()).await.unwrap();
        assert!(Arc::ptr_eq(&now.metadata_ref(), &table.metadata_ref()), "{name}");
        assert_eq!((store.total(), store.count(OpKind::Get)), (requests, requests), "{name}");
        // The table as a commit left it is held as well.
        let updates = crate::metadata::set("a", "b");
        let changed = crate::metadata::commit(&catalog, &now, vec![updates]).await;
        store.reset();
        let now = catalog.load_table(table.ident()).await.unwrap();
        assert!(Arc::ptr_eq(&now.metadata_ref(), &changed.metadata_ref()), "{name}");
        assert_eq!(store.total(), 0, "{name}");
    }
}

#[tokio::test]
async fn a_table_that_is_registered_again_is_what_its_file_has_now() {
    let location = "memory://w/db/t/metadata/00003-2f3eb7a7-3a5c-4a4d-a4f4-8f7c6a7a2d11.metadata.json";
    let (catalog, table) = registered(Storage::new(), location).await;
    catalog.drop_table(table.ident()).await.unwrap();
    // Restored from an older copy, perhaps.
    catalog.storage().write(location, owned_by("two")).await.unwrap();
    let table = catalog.register_table(table.ident(), location).await.unwrap();
    assert_eq!(table.property("owner"), Some("two"));
    let file: Value = serde_json::from_str(&owned_by("two")).unwrap();
    let loaded = catalog.load_table(table.ident()).await.unwrap().whole().to_json().unwrap();
    assert_eq!(loaded["properties"], file["properties"]);
}
