//! A catalog to which another process commits at the worst moment: after a commit's requirements were stated, and before
//! the pointer moves.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use icefield_core::catalog::{
    Catalog, CommitOutcome, CommitRequest, Expect, Guarantees, NamespaceIdent, TableCreation, TableIdent,
    TableUpdate,
};
use icefield_core::storage::Storage;
use icefield_core::{Clock, ErrorKind, Result, Table};
use icefield_maintenance::{ExpireSnapshots, Purge, days};

use crate::world::World;

#[derive(Debug)]
struct Racing {
    inner: Arc<dyn Catalog>,
    first: Mutex<Option<CommitRequest>>,
    raced: AtomicBool,
    /// The look at the table before which another process drops it and creates one of the same name; 0 for none.
    replaced_at_load: AtomicUsize,
    loads: AtomicUsize,
}

impl Racing {
    fn new(inner: Arc<dyn Catalog>) -> Self {
        Self {
            inner,
            first: Mutex::new(None),
            raced: AtomicBool::new(false),
            replaced_at_load: AtomicUsize::new(0),
            loads: AtomicUsize::new(0),
        }
    }
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

    fn guarantees(&self) -> Guarantees {
        self.inner.guarantees()
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

    async fn stage_table(&self, namespace: &NamespaceIdent, creation: TableCreation) -> Result<Table> {
        self.inner.stage_table(namespace, creation).await
    }

    async fn create_table(&self, namespace: &NamespaceIdent, creation: TableCreation) -> Result<Table> {
        self.inner.create_table(namespace, creation).await
    }

    async fn load_table(&self, ident: &TableIdent) -> Result<Table> {
        if self.loads.fetch_add(1, Ordering::SeqCst) + 1 == self.replaced_at_load.load(Ordering::SeqCst) {
            let schema = self.inner.load_table(ident).await?.schema().as_ref().clone();
            self.inner.drop_table(ident).await?;
            let creation = TableCreation::builder().name(ident.name().to_string()).schema(schema).build();
            self.inner.create_table(ident.namespace(), creation).await?;
        }
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
        expect: Expect::Requirements(Vec::new()),
        updates: vec![TableUpdate::SetSnapshotRef { ref_name: "late".to_string(), reference }],
    };
    let racing = Arc::new(Racing { first: Mutex::new(Some(tag)), ..Racing::new(w.shared_catalog()) });
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

#[tokio::test]
async fn a_table_that_took_the_name_during_a_purge_is_not_dropped() {
    let w = World::new().await;
    w.append(&["a"]).await;
    let purged = w.table().await;
    let before = w.stored().await;
    let racing = Arc::new(Racing::new(w.shared_catalog()));
    racing.replaced_at_load.store(2, Ordering::SeqCst);
    let purge = Purge::new(purged.clone(), racing).check_other_tables(false);
    assert_eq!(purge.await.unwrap_err().kind(), ErrorKind::Conflict);
    let now = w.table().await;
    assert_ne!(now.metadata().uuid(), purged.metadata().uuid());
    assert!(w.stored().await.is_superset(&before), "nothing was deleted");

    // It was another one before the purge began.
    let purge = Purge::new(purged, w.shared_catalog());
    assert_eq!(purge.await.unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(w.table().await.metadata().uuid(), now.metadata().uuid());
}

#[tokio::test]
async fn two_expiries_at_once_delete_what_one_would() {
    let w = World::new().await;
    for name in ["a", "b", "c"] {
        w.append(&[name]).await;
    }
    w.replace(&["a", "b"], &["d"]).await;
    w.later();
    let table = w.table().await;
    let expiry = || {
        let expiry = ExpireSnapshots::new(table.clone(), w.shared_catalog());
        expiry.older_than(days(0))
    };
    let (one, other) = futures::join!(expiry().into_future(), expiry().into_future());
    let (one, other) = (one.unwrap(), other.unwrap());
    assert_eq!(one.snapshots.len() + other.snapshots.len(), 3, "each snapshot goes once");
    assert!(one.failures.is_empty() && other.failures.is_empty());
    assert_eq!(w.stored_data().await, ["c", "d"]);
    w.assert_whole().await;
}
