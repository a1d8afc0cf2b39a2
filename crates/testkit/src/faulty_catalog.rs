//! [`FaultyCatalog`]: any catalog, with the answers of its commits lost or refused on demand.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use futures::future::BoxFuture;
use iceberg::spec::{Snapshot, SnapshotReference, SnapshotRetention};
use icefield_core::catalog::{
    Catalog, CommitOutcome, CommitRequest, Expect, Guarantees, NamespaceIdent, TableCreation, TableIdent,
    TableUpdate,
};
use icefield_core::storage::Storage;
use icefield_core::{Clock, Error, ErrorKind, Result, Table};

/// The fate of one commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommitFault {
    /// It goes through.
    None,
    /// Nothing is done, and the catalog says so: it will not do it.
    Fail,
    /// Nothing is done: another writer was first. To a creation: a table of the name is there.
    Conflict,
    /// As [`CommitFault::Conflict`], and so it was: the other writer's commit has no files, and the tables show it.
    LostRace,
    /// As [`CommitFault::Conflict`], but that is the answer to a second delivery: the first one is late, and
    /// [`FaultyCatalog::deliver_late`] lets it arrive.
    LateConflict,
    /// It is done, and the answer is lost.
    LostAnswer,
    /// It is done, but something on the way asks a second time, and that answer comes back: another writer was first.
    Repeated,
    /// Nothing is done, and nobody knows: the request was lost.
    LostRequest,
    /// As [`CommitFault::LostRequest`], but the request is only late: [`FaultyCatalog::deliver_late`] lets it arrive.
    Late,
}

/// A catalog whose next commits meet the faults that were queued, in order; later ones go through. Its own
/// [`create_table`](Catalog::create_table) meets none.
pub struct FaultyCatalog {
    inner: Arc<dyn Catalog>,
    faults: Mutex<VecDeque<CommitFault>>,
    late: Mutex<Vec<Vec<CommitRequest>>>,
    meanwhile: Mutex<Option<BoxFuture<'static, ()>>>,
    gone: Arc<AtomicBool>,
}

impl fmt::Debug for FaultyCatalog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultyCatalog").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl FaultyCatalog {
    /// Wraps a catalog. Nothing fails until faults are queued.
    pub fn new(inner: Arc<dyn Catalog>) -> Self {
        Self {
            inner,
            faults: Mutex::default(),
            late: Mutex::default(),
            meanwhile: Mutex::default(),
            gone: Arc::default(),
        }
    }

    /// Whether the catalog is out of reach: no table can be loaded while this is set.
    pub fn gone(&self) -> Arc<AtomicBool> {
        self.gone.clone()
    }

    /// The catalog underneath.
    pub fn inner(&self) -> &Arc<dyn Catalog> {
        &self.inner
    }

    /// Queues what the next commits meet.
    pub fn queue(&self, faults: impl IntoIterator<Item = CommitFault>) {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).extend(faults);
    }

    /// Lets the requests that were late arrive, in order.
    pub async fn deliver_late(&self) -> Vec<CommitOutcome> {
        let late = std::mem::take(&mut *self.late.lock().unwrap_or_else(PoisonError::into_inner));
        let mut outcomes = Vec::new();
        for requests in late {
            outcomes.push(self.inner.commit(requests).await);
        }
        outcomes
    }

    fn next(&self) -> CommitFault {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).pop_front().unwrap_or(CommitFault::None)
    }

    /// Adds a snapshot without changes to `main`, which has some.
    async fn be_first(&self, requests: &[CommitRequest]) -> CommitOutcome {
        for CommitRequest { ident, expect, .. } in requests {
            if matches!(expect, Expect::Absent(_)) {
                return CommitOutcome::Conflict(was_first(requests));
            }
            let table = self.inner.load_table(ident).await.expect("a table");
            let metadata = table.metadata();
            let head = metadata.current_snapshot().expect("a table with rows");
            let id = head.snapshot_id().wrapping_add(1);
            let snapshot = Snapshot::builder()
                .with_snapshot_id(id)
                .with_parent_snapshot_id(Some(head.snapshot_id()))
                .with_sequence_number(metadata.next_sequence_number())
                .with_timestamp_ms(metadata.last_updated_ms())
                .with_manifest_list(head.manifest_list())
                .with_summary(head.summary().clone())
                .build();
            let reference = SnapshotReference::new(id, SnapshotRetention::branch(None, None, None));
            let updates = vec![
                TableUpdate::AddSnapshot { snapshot },
                TableUpdate::SetSnapshotRef { ref_name: "main".to_string(), reference },
            ];
            let (ident, expect) = (ident.clone(), Expect::Requirements(Vec::new()));
            let theirs = CommitRequest { ident, expect, updates };
            match self.inner.commit(vec![theirs]).await {
                CommitOutcome::Done(_) => {}
                other => return other,
            }
        }
        CommitOutcome::Conflict(was_first(requests))
    }

    fn delay(&self, late: Vec<CommitRequest>) {
        self.late.lock().unwrap_or_else(PoisonError::into_inner).push(late);
    }

    async fn others(&self) {
        let work = self.meanwhile.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(work) = work {
            work.await;
        }
    }

    /// What others do between the next commit whose answer is lost and the writer's first look at what became of it.
    pub fn meanwhile(&self, work: impl Future<Output = ()> + Send + 'static) {
        *self.meanwhile.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::pin(work));
    }

    /// How many queued faults no commit has met yet.
    pub fn queued(&self) -> usize {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

#[async_trait]
impl Catalog for FaultyCatalog {
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

    async fn create_namespace(
        &self,
        namespace: &NamespaceIdent,
        properties: HashMap<String, String>,
    ) -> Result<()> {
        self.inner.create_namespace(namespace, properties).await
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

    async fn is_shared(&self, folder: &str, ident: &TableIdent) -> Result<bool> {
        self.inner.is_shared(folder, ident).await
    }

    async fn create_table(&self, namespace: &NamespaceIdent, creation: TableCreation) -> Result<Table> {
        self.inner.create_table(namespace, creation).await
    }

    async fn load_table(&self, ident: &TableIdent) -> Result<Table> {
        if self.gone.load(Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::Transient, "injected fault: the catalog is out of reach"));
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
        match self.next() {
            CommitFault::None => self.inner.commit(requests).await,
            CommitFault::Fail => CommitOutcome::Failed(refused()),
            CommitFault::Conflict => CommitOutcome::Conflict(was_first(&requests)),
            CommitFault::LostRace => self.be_first(&requests).await,
            CommitFault::LateConflict => {
                let error = was_first(&requests);
                self.delay(requests);
                CommitOutcome::Conflict(error)
            }
            CommitFault::Repeated => match self.inner.commit(requests.clone()).await {
                CommitOutcome::Done(_) => {
                    self.others().await;
                    match self.inner.commit(requests).await {
                        CommitOutcome::Done(tables) => CommitOutcome::Done(tables), // it changes nothing twice
                        CommitOutcome::Unknown(e) => CommitOutcome::Unknown(e),
                        CommitOutcome::Conflict(e) | CommitOutcome::Failed(e) => CommitOutcome::Conflict(e),
                    }
                }
                other => other,
            },
            CommitFault::LostRequest => CommitOutcome::Unknown(lost()),
            CommitFault::Late => {
                self.delay(requests);
                CommitOutcome::Unknown(lost())
            }
            CommitFault::LostAnswer => match self.inner.commit(requests).await {
                CommitOutcome::Done(_) => {
                    self.others().await;
                    CommitOutcome::Unknown(lost())
                }
                other => other,
            },
        }
    }
}

/// The error of requests that lost to another writer's.
fn was_first(requests: &[CommitRequest]) -> Error {
    match requests.iter().any(|request| matches!(request.expect, Expect::Absent(_))) {
        true => Error::new(ErrorKind::AlreadyExists, "injected fault: another table was first"),
        false => Error::conflict("injected fault: another commit was first"),
    }
}

fn refused() -> Error {
    Error::new(ErrorKind::Io, "injected fault: refused")
}

fn lost() -> Error {
    Error::new(ErrorKind::CommitStateUnknown, "injected fault: the answer is lost")
}
