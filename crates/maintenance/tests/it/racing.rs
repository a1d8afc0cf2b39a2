//! A catalog to which another process commits at the worst moment: after a commit's requirements were stated, and before
//! the pointer moves.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use icefield_core::catalog::{
    Catalog, CommitOutcome, CommitRequest, NamespaceIdent, TableCreation, TableIdent, TableUpdate,
};
use icefield_core::storage::Storage;
use icefield_core::{Clock, Result, Table};
use icefield_maintenance::{ExpireSnapshots, days};

use crate::world::World;

#[derive(Debug)]
struct Racing {
    inner: Arc<dyn Catalog>,
    first: Mutex<Option<CommitRequest>>,
    raced: AtomicBool,
}

#[async_trait]
impl Catalog for Racing {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn storage(&self) -> &Storage {
        self.inner.storage()
    }

    fn clock(&self) -> &Arc<dyn Clock> {
        self.inner.clock()
    }

    async fn list_namespaces(&self, parent: Option<&NamespaceIdent>) -> Result<Vec<NamespaceIdent>> {
        self.inner.list_namespaces(parent).await
    }

    async fn create_namespace(&self, namespace: &NamespaceIdent, all: HashMap<String, String>) -> Result<()> {
        self.inner.create_namespace(namespace, all).await
    }

    async fn namespace_properties(&self, namespace: &NamespaceIdent) -> Result<HashMap<String, String>> {
        self.inner.namespace_properties(namespace).await
    }

    async fn update_namespace(
        &self,
        namespace: &NamespaceIdent,
        set: HashMap<String, String>,
        remove: Vec<String>,
    ) -> Result<()> {
        self.inner.update_namespace(namespace, set, remove).await
    }

    async fn drop_namespace(&self, namespace: &NamespaceIdent) -> Result<()> {
        self.inner.drop_namespace(namespace).await
    }

    async fn list_tables(&self, namespace: &NamespaceIdent) -> Result<Vec<TableIdent>> {
        self.inner.list_tables(namespace).await
    }

    async fn new_location(&self, ident: &TableIdent) -> Result<String> {
        self.inner.new_location(ident).await
    }

    async fn create_table(&self, namespace: &NamespaceIdent, creation: TableCreation) -> Result<Table> {
        self.inner.create_table(namespace, creation).await
    }

    async fn load_table(&self, ident: &TableIdent) -> Result<Table> {
        self.inner.load_table(ident).await
    }

    async fn drop_table(&self, ident: &TableIdent) -> Result<()> {
        self.inner.drop_table(ident).await
    }

    async fn rename_table(&self, from: &TableIdent, to: &TableIdent) -> Result<()> {
        self.inner.rename_table(from, to).await
    }

    async fn register_table(&self, ident: &TableIdent, metadata_location: &str) -> Result<Table> {
        self.inner.register_table(ident, metadata_location).await
    }

    async fn commit(&self, requests: Vec<CommitRequest>) -> CommitOutcome {
        let first = self.first.lock().unwrap().take();
        if let Some(first) = first {
            let outcome = self.inner.commit(vec![first]).await;
            self.raced.store(matches!(outcome, CommitOutcome::Done(_)), Ordering::SeqCst);
        }
        self.inner.commit(requests).await
    }
}

#[tokio::test]
async fn a_tag_that_is_set_on_an_expiring_snapshot_at_the_last_moment_is_kept() {
    let w = World::new().await;
    let first = w.append(&["a"]).await;
    w.replace(&["a"], &["b"]).await;
    let reference = serde_json::from_str(&format!(r#"{{"snapshot-id":{first},"type":"tag"}}"#)).unwrap();
    let tag = CommitRequest {
        ident: w.ident.clone(),
        base: None,
        requirements: Vec::new(),
        updates: vec![TableUpdate::SetSnapshotRef { ref_name: "late".to_string(), reference }],
    };
    let racing = Arc::new(Racing {
        inner: w.shared_catalog(),
        first: Mutex::new(Some(tag)),
        raced: AtomicBool::new(false),
    });
    w.later();
    let outcome = ExpireSnapshots::new(w.table().await, racing.clone()).older_than(days(0)).await;
    assert!(racing.raced.load(Ordering::SeqCst));
    assert_eq!(w.stored_data().await, ["a", "b"]);
    // The catalog refused, and the next try saw the tag.
    assert_eq!(outcome.unwrap().snapshots, Vec::<i64>::new());
    let table = w.table().await;
    assert_eq!(table.metadata().snapshot_for_ref("late").map(|s| s.snapshot_id()), Some(first));
    w.assert_whole().await;
}
