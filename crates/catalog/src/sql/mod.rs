//! [`SqlCatalog`]: namespaces and table pointers in a SQLite file or a PostgreSQL database.
//!
//! The tables `iceberg_tables` and `iceberg_namespace_properties` are laid out as Iceberg Java's `JdbcCatalog` (V1) and
//! PyIceberg's `SqlCatalog` have them: catalogs of the same name in the same database see the same tables, and may write
//! at the same time. Databases of the older layout, without `iceberg_type`, are used as they are.
//!
//! A commit is one database transaction that swaps every pointer where it still holds the location that the commit is
//! based on. An error before COMMIT was sent changed nothing. After it, the catalog asks the database where the pointers
//! are; only when that gives no answer is the outcome [`CommitOutcome::Unknown`].
//!
//! # Errors
//! Locks, deadlocks and broken connections are retried inside; what comes through is
//! [`Transient`](icefield_core::ErrorKind::Transient), or, where a change may have been made,
//! [`CommitStateUnknown`](icefield_core::ErrorKind::CommitStateUnknown).

mod builder;
mod commit;
mod database;
mod namespace;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "sqlite")]
mod sqlite;
mod statements;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use icefield_core::catalog::{
    Catalog, CommitOutcome, CommitRequest, MetadataCache, NamespaceIdent, StagedMetadata, TableCreation,
    TableIdent, check_ident, default_location, lies_in, no_metadata_file, registered, stage_create,
};
use icefield_core::storage::Storage;
use icefield_core::{Clock, Error, ErrorKind, Result, Table};

pub use builder::SqlCatalogBuilder;
use database::{CommitError, Database, Row, Transaction};
use namespace::encode;
use statements::Statements;

/// How often a database operation is tried before its transient error is the caller's.
const ATTEMPTS: u32 = 6;
/// After this many milliseconds it is not tried again: what waited for locks or connections so long is down, not busy.
const PATIENCE_MS: i64 = 60_000;

/// A catalog in a SQL database. Share it in an `Arc`; it holds a pool of connections.
#[derive(Debug)]
pub struct SqlCatalog {
    name: String,
    warehouse: String,
    storage: Storage,
    clock: Arc<dyn Clock>,
    database: Box<dyn Database>,
    statements: Statements,
    cache: MetadataCache,
}

impl SqlCatalog {
    /// A builder of a catalog that is called `name` in its database. Catalogs of other names in the same database are
    /// strangers to it.
    pub fn builder(name: impl Into<String>) -> SqlCatalogBuilder {
        SqlCatalogBuilder::new(name.into())
    }

    /// A catalog in a SQLite file, created where it is absent, whose tables lie under `warehouse` (a URL or an absolute
    /// path).
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when the file can't be opened, [`ErrorKind::DataInvalid`] when it is no SQLite file.
    #[cfg(feature = "sqlite")]
    pub async fn sqlite(
        name: impl Into<String>,
        path: impl Into<std::path::PathBuf>,
        warehouse: impl Into<String>,
        storage: Storage,
    ) -> Result<Self> {
        Self::builder(name).sqlite(path).warehouse(warehouse).storage(storage).open().await
    }

    /// A catalog in a PostgreSQL database (`postgresql://user:password@host:5432/database`), whose tables lie under
    /// `warehouse` (a URL or an absolute path).
    ///
    /// # Errors
    /// [`ErrorKind::Transient`] when the server does not answer, [`ErrorKind::InvalidInput`] when it refuses the user or
    /// has no such database.
    #[cfg(feature = "postgres")]
    pub async fn postgres(
        name: impl Into<String>,
        url: impl Into<String>,
        warehouse: impl Into<String>,
        storage: Storage,
    ) -> Result<Self> {
        Self::builder(name).postgres(url).warehouse(warehouse).storage(storage).open().await
    }

    /// Closes the connections. Calls after it fail. Dropping the catalog closes them too, without waiting for it.
    pub async fn close(&self) {
        self.database.close().await;
    }

    /// The location of a table's current metadata file.
    async fn pointer(&self, ident: &TableIdent) -> Result<Option<String>> {
        let namespace = encode(ident.namespace())?;
        let args = [self.name.as_str(), &namespace, ident.name()];
        let rows = self.retry(|_| self.database.query(&self.statements.pointer, &args)).await?;
        match rows.into_iter().next().map(|row| row.into_iter().next().flatten()) {
            None => Ok(None),
            Some(Some(location)) => Ok(Some(location)),
            Some(None) => Err(Error::data_invalid(
                "the catalog has no metadata location for this table; drop it and register its metadata file",
            )
            .with("table", ident)),
        }
    }

    async fn required_pointer(&self, ident: &TableIdent) -> Result<String> {
        self.pointer(ident).await?.ok_or_else(|| no_table(ident))
    }

    /// Runs `operation` until it gives something other than a passing failure. Its argument says whether an earlier try
    /// may have committed: then finding the work done is success.
    async fn retry<T, F: Future<Output = Result<T>>>(&self, operation: impl Fn(bool) -> F) -> Result<T> {
        let started = self.clock.now_ms();
        let mut lost = None;
        for attempt in 0.. {
            let error = match operation(lost.is_some()).await {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            let passing = error.is_retryable() || error.is_commit_state_unknown();
            if !passing {
                // What is not known stays so, whatever failed after it.
                return Err(lost.unwrap_or(error));
            }
            let message = error.to_string();
            let error = if error.is_commit_state_unknown() {
                lost = Some(error);
                None
            } else {
                Some(error)
            };
            if attempt + 1 >= ATTEMPTS || self.clock.now_ms() - started > PATIENCE_MS {
                let internal = || Error::internal("a retry ended without an error");
                return Err(lost.or(error).unwrap_or_else(internal));
            }
            tracing::debug!(attempt, error = message, "catalog database operation failed in passing");
            self.clock.sleep(self.backoff(attempt)).await;
        }
        Err(Error::internal("a retry loop ended"))
    }

    /// 10 ms, doubled each time, and up to as much again by chance.
    fn backoff(&self, attempt: u32) -> Duration {
        let base = 10_u64 << attempt.min(8);
        Duration::from_millis(base + self.clock.random() % base)
    }

    async fn insert(&self, ident: &TableIdent, location: &str, lost: bool) -> Result<()> {
        let namespace = encode(ident.namespace())?;
        let mut tx = self.begin_exclusive().await?;
        self.require_namespace(&mut *tx, ident.namespace()).await?;
        let args = [self.name.as_str(), &namespace, ident.name(), location];
        match tx.execute(&self.statements.insert, &args).await {
            Ok(_) => tx.commit().await.map_err(CommitError::into_error),
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {
                tx.rollback().await;
                match lost {
                    false => Err(exists(ident)),
                    // By the try whose answer was lost.
                    true if self.pointer(ident).await?.as_deref() == Some(location) => Ok(()),
                    // By somebody else, or by that try, and committed to since.
                    true => Err(unclear(ident)),
                }
            }
            Err(e) => {
                tx.rollback().await;
                Err(e.with("table", ident))
            }
        }
    }

    async fn drop_once(&self, ident: &TableIdent, lost: bool, seen: &Seen) -> Result<()> {
        let namespace = encode(ident.namespace())?;
        let args = [self.name.as_str(), &namespace, ident.name()];
        let mut tx = self.begin_exclusive().await?;
        match self.look(&mut *tx, &args, lost, seen).await? {
            Found::Same => {}
            Found::Nothing => {
                tx.rollback().await;
                return if lost { Ok(()) } else { Err(no_table(ident)) };
            }
            Found::Other => {
                tx.rollback().await;
                return Err(unclear(ident));
            }
        }
        tx.execute(&self.statements.drop, &args).await?;
        tx.commit().await.map_err(CommitError::into_error)
    }

    async fn rename_once(&self, from: &TableIdent, to: &TableIdent, lost: bool, seen: &Seen) -> Result<()> {
        let (from_namespace, to_namespace) = (encode(from.namespace())?, encode(to.namespace())?);
        let mut tx = self.begin_exclusive().await?;
        let old = [self.name.as_str(), &from_namespace, from.name()];
        match self.look(&mut *tx, &old, lost, seen).await? {
            Found::Same => {}
            Found::Nothing => {
                let new = [self.name.as_str(), &to_namespace, to.name()];
                let moved = tx.query(&self.statements.pointer, &new).await?;
                tx.rollback().await;
                return match lost {
                    false => Err(no_table(from)),
                    true if seen.is(&moved) => Ok(()),
                    true => Err(unclear(to)),
                };
            }
            Found::Other => {
                tx.rollback().await;
                return Err(unclear(from));
            }
        }
        self.require_namespace(&mut *tx, to.namespace()).await?;
        let args = [self.name.as_str(), &from_namespace, from.name(), &to_namespace, to.name()];
        match tx.execute(&self.statements.rename, &args).await {
            Ok(_) => tx.commit().await.map_err(CommitError::into_error),
            Err(e) => {
                tx.rollback().await;
                Err(if e.kind() == ErrorKind::AlreadyExists { exists(to) } else { e.with("table", from) })
            }
        }
    }

    /// What a name has before it is dropped or renamed, its row locked: no commit moves the pointer in between.
    async fn look(&self, tx: &mut dyn Transaction, args: &[&str], lost: bool, seen: &Seen) -> Result<Found> {
        if tx.execute(&self.statements.touch, args).await? == 0 {
            return Ok(Found::Nothing);
        }
        let found = tx.query(&self.statements.pointer, args).await?;
        if !lost {
            seen.set(found);
            return Ok(Found::Same);
        }
        Ok(if seen.is(&found) { Found::Same } else { Found::Other })
    }

    /// A transaction that changes what exists: one at a time in this catalog.
    async fn begin_exclusive(&self) -> Result<Box<dyn Transaction>> {
        self.database.begin(Some(&self.name)).await
    }

    /// Deletes metadata files that no pointer ever named. What can't be deleted is left to orphan removal.
    async fn discard(&self, staged: &[StagedMetadata]) {
        for next in staged {
            let location = next.table.metadata_location();
            if let Err(error) = self.storage.delete(location).await {
                tracing::debug!(location, %error, "an unused metadata file stays behind");
            }
        }
    }
}

/// What a name had before the first try whose answer was lost. Once that may have come through, another row of the name may
/// be a table that somebody created since: it stays.
#[derive(Debug, Default)]
struct Seen(Mutex<Vec<Row>>);

impl Seen {
    fn set(&self, found: Vec<Row>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = found;
    }

    fn is(&self, found: &[Row]) -> bool {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) == found
    }
}

/// What a look at a name finds.
enum Found {
    Nothing,
    /// What the first try saw, or this is the first.
    Same,
    Other,
}

fn no_table(ident: &TableIdent) -> Error {
    Error::not_found("no such table in this catalog").with("table", ident)
}

fn exists(ident: &TableIdent) -> Error {
    Error::new(ErrorKind::AlreadyExists, "a table or view of this name exists").with("table", ident)
}

/// What a name says when the answer to a change of it was lost and somebody else has changed it since.
fn unclear(ident: &TableIdent) -> Error {
    Error::new(
        ErrorKind::CommitStateUnknown,
        "the catalog's database did not say whether it committed, and the name has another commit's or another table's \
         metadata by now; look before you try again",
    )
    .with("table", ident)
}

#[async_trait]
impl Catalog for SqlCatalog {
    fn name(&self) -> &str {
        &self.name
    }

    fn storage(&self) -> &Storage {
        &self.storage
    }

    fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    async fn list_namespaces(&self, parent: Option<&NamespaceIdent>) -> Result<Vec<NamespaceIdent>> {
        self.children(parent).await
    }

    async fn create_namespace(
        &self,
        namespace: &NamespaceIdent,
        properties: HashMap<String, String>,
    ) -> Result<()> {
        self.retry(|lost| self.create_namespace_once(namespace, &properties, lost)).await
    }

    async fn namespace_properties(&self, namespace: &NamespaceIdent) -> Result<HashMap<String, String>> {
        self.properties(namespace).await
    }

    async fn update_namespace(
        &self,
        namespace: &NamespaceIdent,
        set: HashMap<String, String>,
        remove: Vec<String>,
    ) -> Result<()> {
        self.retry(|_| self.update_namespace_once(namespace, &set, &remove)).await
    }

    async fn drop_namespace(&self, namespace: &NamespaceIdent) -> Result<()> {
        self.retry(|lost| self.drop_namespace_once(namespace, lost)).await
    }

    async fn list_tables(&self, namespace: &NamespaceIdent) -> Result<Vec<TableIdent>> {
        let encoded = encode(namespace)?;
        let args = [self.name.as_str(), &encoded];
        let rows = self.retry(|_| self.database.query(&self.statements.list, &args)).await?;
        let mut names: Vec<String> = rows.into_iter().flatten().flatten().collect();
        if names.is_empty() && !self.namespace_exists(namespace).await? {
            return Err(namespace::no_namespace(namespace));
        }
        names.sort_unstable(); // databases sort by locale
        Ok(names.into_iter().map(|name| TableIdent::new(namespace.clone(), name)).collect())
    }

    async fn new_location(&self, ident: &TableIdent) -> Result<String> {
        let properties = self.namespace_properties(ident.namespace()).await?;
        let location =
            default_location(&self.warehouse, ident, properties.get("location").map(String::as_str));
        let inside = format!("{location}/");
        let args = [self.name.as_str(), &inside];
        let used = self.retry(|_| self.database.query(statements::LOCATION_IN_USE, &args)).await?;
        Ok(if used.is_empty() { location } else { format!("{location}-{}", self.clock.uuid()) })
    }

    async fn is_shared(&self, folder: &str, ident: &TableIdent) -> Result<bool> {
        // The end of the folder as others write it too, so that few rows come.
        let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
        let end = format!("{}/", parts.split_off(parts.len().saturating_sub(2)).join("/"));
        let args = [self.name.as_str(), &end];
        let rows = self.retry(|_| self.database.query(statements::POINTERS_WITH, &args)).await?;
        let own = [encode(ident.namespace())?, ident.name().to_string()];
        Ok(rows.iter().any(|row| match row.as_slice() {
            [Some(namespace), Some(name), Some(pointer)] => {
                (namespace, name) != (&own[0], &own[1]) && lies_in(pointer, folder)
            }
            _ => false,
        }))
    }

    async fn create_table(&self, namespace: &NamespaceIdent, creation: TableCreation) -> Result<Table> {
        let ident = TableIdent::new(namespace.clone(), creation.name.clone());
        check_ident(&ident)?;
        if self.pointer(&ident).await?.is_some() {
            return Err(exists(&ident));
        }
        let location = self.new_location(&ident).await?;
        let staged = stage_create(&self.storage, &*self.clock, namespace, creation, || location).await?;
        let metadata_location = staged.table.metadata_location();
        match self.retry(|lost| self.insert(&ident, metadata_location, lost)).await {
            Ok(()) => Ok(staged.table),
            Err(e) if e.is_commit_state_unknown() => Err(e.with("table", ident)),
            Err(e) => {
                self.discard(&[staged]).await;
                Err(e)
            }
        }
    }

    async fn load_table(&self, ident: &TableIdent) -> Result<Table> {
        let mut location = self.required_pointer(ident).await?;
        loop {
            match self.cache.load(&self.storage, &location).await {
                Ok(metadata) => {
                    return Ok(Table::new(ident.clone(), metadata, location, self.storage.clone()));
                }
                Err(e) if e.kind() == ErrorKind::NotFound => {
                    // The file may have been cleaned up after the pointer moved on from it.
                    let now = self.required_pointer(ident).await?;
                    if now == location {
                        return Err(no_metadata_file(ident, &location, e));
                    }
                    location = now;
                }
                Err(e) => return Err(e.with("table", ident)),
            }
        }
    }

    async fn drop_table(&self, ident: &TableIdent) -> Result<()> {
        let seen = Seen::default();
        self.retry(|lost| self.drop_once(ident, lost, &seen)).await
    }

    async fn rename_table(&self, from: &TableIdent, to: &TableIdent) -> Result<()> {
        check_ident(to)?;
        if from == to {
            return self.required_pointer(from).await.map(drop);
        }
        let seen = Seen::default();
        self.retry(|lost| self.rename_once(from, to, lost, &seen)).await
    }

    async fn register_table(&self, ident: &TableIdent, metadata_location: &str) -> Result<Table> {
        check_ident(ident)?;
        let metadata = self.cache.reload(&self.storage, metadata_location).await?;
        let table = registered(&self.storage, ident, metadata, metadata_location)?;
        self.retry(|lost| self.insert(ident, metadata_location, lost)).await?;
        Ok(table)
    }

    async fn commit(&self, requests: Vec<CommitRequest>) -> CommitOutcome {
        self.commit_all(requests).await
    }

    async fn table_exists(&self, ident: &TableIdent) -> Result<bool> {
        Ok(self.pointer(ident).await?.is_some())
    }

    async fn namespace_exists(&self, namespace: &NamespaceIdent) -> Result<bool> {
        self.has_namespace(namespace).await
    }
}
