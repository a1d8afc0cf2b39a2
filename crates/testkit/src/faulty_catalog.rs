//! [`FaultyCatalog`]: any catalog, with the answers of its commits lost or refused on demand.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use futures::future::BoxFuture;
use icefield_core::catalog::{
    Catalog, CommitOutcome, CommitRequest, NamespaceIdent, TableCreation, TableIdent,
};
use icefield_core::storage::Storage;
use icefield_core::{Clock, Error, ErrorKind, Result, Table};

/// What becomes of one commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommitFault {
    /// It goes through.
    None,
    /// Nothing is done, and the catalog says so: it will not do it.
    Fail,
    /// Nothing is done: another writer was first.
    Conflict,
    /// It is done, and the answer is lost.
    LostAnswer,
    /// Nothing is done, and nobody knows: the request was lost.
    LostRequest,
    /// As [`CommitFault::LostRequest`], but the request is only late: [`FaultyCatalog::deliver_late`] lets it arrive.
    Late,
}

/// A catalog whose next commits meet the faults that were queued, in order; later ones go through.
pub struct FaultyCatalog {
    inner: Arc<dyn Catalog>,
    faults: Mutex<VecDeque<CommitFault>>,
    late: Mutex<Vec<Vec<CommitRequest>>>,
    meanwhile: Mutex<Option<BoxFuture<'static, ()>>>,
}

impl fmt::Debug for FaultyCatalog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultyCatalog").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl FaultyCatalog {
    /// Wraps a catalog. Nothing fails until faults are queued.
    pub fn new(inner: Arc<dyn Catalog>) -> Self {
        Self { inner, faults: Mutex::default(), late: Mutex::default(), meanwhile: Mutex::default() }
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
        let fault = self.faults.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        match fault.unwrap_or(CommitFault::None) {
            CommitFault::None => self.inner.commit(requests).await,
            CommitFault::Fail => CommitOutcome::Failed(Error::new(ErrorKind::Io, "injected fault: refused")),
            CommitFault::Conflict => {
                CommitOutcome::Conflict(Error::conflict("injected fault: another commit was first"))
            }
            CommitFault::LostRequest => CommitOutcome::Unknown(lost()),
            CommitFault::Late => {
                self.late.lock().unwrap_or_else(PoisonError::into_inner).push(requests);
                CommitOutcome::Unknown(lost())
            }
            CommitFault::LostAnswer => match self.inner.commit(requests).await {
                CommitOutcome::Done(_) => {
                    let work = self.meanwhile.lock().unwrap_or_else(PoisonError::into_inner).take();
                    if let Some(work) = work {
                        work.await;
                    }
                    CommitOutcome::Unknown(lost())
                }
                other => other,
            },
        }
    }
}

fn lost() -> Error {
    Error::new(ErrorKind::CommitStateUnknown, "injected fault: the answer is lost")
}
