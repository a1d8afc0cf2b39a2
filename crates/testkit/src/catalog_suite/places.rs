//! Pointer catalogs must refuse tables of places that are not its warehouse's. A part of
//! [`super::pointer`].

use std::collections::HashMap;

use futures::TryStreamExt;
use icefield_core::catalog::{
    Catalog, CommitOutcome, FOLDER_PROPERTIES, NamespaceIdent, TableIdent, TableUpdate,
};
use icefield_core::storage::join;
use icefield_core::{Error, ErrorKind};
use serde_json::{Value, json};

use super::steps::{creation, set_property};

/// Where no table of the catalog may have files, whose warehouse is another place.
const ELSEWHERE: &str = "memory://elsewhere/t";

fn refused(error: &Error) {
    let said = error.kind() == ErrorKind::InvalidInput && error.to_string().contains(ELSEWHERE);
    assert!(said, "{error}");
}

/// Creates, registers and commits what lies elsewhere, in a namespace that nobody has.
pub(super) async fn what_lies_outside_of_the_warehouse_is_no_tables(
    catalog: &dyn Catalog,
    ns: NamespaceIdent,
) {
    let table = catalog.create_table(&ns, creation("t")).await.unwrap();
    let (own, new) =
        (table.metadata().location().to_string(), TableIdent::new(ns.clone(), "new".to_string()));
    // What the service itself may do.
    let free = catalog.storage().unconfined();

    let mut away = creation("new");
    away.location = Some(ELSEWHERE.to_string());
    refused(&catalog.create_table(&ns, away).await.unwrap_err());
    for property in FOLDER_PROPERTIES {
        let mut away = creation("new");
        away.properties = HashMap::from([(property.to_string(), ELSEWHERE.to_string())]);
        refused(&catalog.create_table(&ns, away).await.unwrap_err());
    }

    let bytes = free.read(table.metadata_location()).await.unwrap();
    let file = join(ELSEWHERE, "metadata/00000-a.metadata.json");
    free.write(&file, bytes.clone()).await.unwrap();
    refused(&catalog.register_table(&new, &file).await.unwrap_err());
    let metadata: Value = serde_json::from_slice(&bytes).unwrap();
    let inside = join(&own, "metadata/00001-b.metadata.json");
    let mut changed = vec![metadata.clone()];
    changed[0]["location"] = json!(ELSEWHERE);
    for property in FOLDER_PROPERTIES {
        let mut other = metadata.clone();
        other["properties"] = json!({ property: ELSEWHERE });
        changed.push(other);
    }
    for (number, metadata) in changed.into_iter().enumerate() {
        let inside = inside.replace("00001-b", &format!("00001-{number}"));
        free.write(&inside, metadata.to_string()).await.unwrap();
        refused(&catalog.register_table(&new, &inside).await.unwrap_err());
    }
    assert!(!catalog.table_exists(&new).await.unwrap());

    let mut requests: Vec<_> =
        FOLDER_PROPERTIES.iter().map(|property| set_property(&table, property, ELSEWHERE)).collect();
    let mut moved = set_property(&table, "a", "b");
    moved.updates = vec![TableUpdate::SetLocation { location: ELSEWHERE.to_string() }];
    requests.push(moved);
    for request in requests {
        match catalog.commit(vec![request]).await {
            CommitOutcome::Failed(error) => refused(&error),
            other => panic!("expected a failure: {other:?}"),
        }
    }
    let now = catalog.load_table(table.ident()).await.unwrap();
    assert_eq!(now.metadata_location(), table.metadata_location());
    let there: Vec<_> = free.list(ELSEWHERE).try_collect().await.unwrap();
    assert_eq!(there.len(), 1, "{there:?}");
    free.delete(&file).await.unwrap();
}
