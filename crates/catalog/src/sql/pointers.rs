//! [`SqlPointers`]: namespaces and table pointers as rows.
//!
//! Every change is one transaction. Those that change what exists take turns; swaps of pointers take their
//! rows' locks only.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use icefield_core::catalog::pointer::{Move, Pointers, Swapped, no_namespace, no_table};
use icefield_core::catalog::{NamespaceIdent, TableIdent, check_namespace};
use icefield_core::{Backoff, Clock, Error, ErrorKind, Result};

use super::database::{CommitError, Database, Row, Transaction};
use super::statements::{self, Statements};

/// How often a database operation is tried before its transient error is the caller's.
pub(super) const ATTEMPTS: u32 = 6;
/// After this many milliseconds it is not tried again: what waited for locks or connections so long is down,
/// not busy.
pub(super) const PATIENCE_MS: i64 = 60_000;
pub(super) const BACKOFF: Backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(5));

/// The pointers of a [`SqlCatalog`](super::SqlCatalog).
#[derive(Debug)]
pub struct SqlPointers {
    pub(super) name: String,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) database: Box<dyn Database>,
    pub(super) statements: Statements,
}

/// A namespace as the tables have it. Levels with dots are refused: they would read back as two.
pub(super) fn encode(namespace: &NamespaceIdent) -> Result<String> {
    check_namespace(namespace)?;
    Ok(namespace.as_ref().join("."))
}

impl SqlPointers {
    /// The location of a table's current metadata file.
    pub(super) async fn pointer(&self, ident: &TableIdent) -> Result<Option<String>> {
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

    /// Runs `operation` until it gives something other than a passing failure. Its argument says whether an
    /// earlier try may have committed: then finding the work done is success.
    pub(super) async fn retry<T, F: Future<Output = Result<T>>>(
        &self,
        operation: impl Fn(bool) -> F,
    ) -> Result<T> {
        let started = self.clock.now_ms();
        let mut lost = None;
        for attempt in 0.. {
            let error = match operation(lost.is_some()).await {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            let passing = error.is_retryable() || error.is_commit_state_unknown();
            if !passing {
                // An unknown outcome stays unknown, whatever failed after it.
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
            self.clock.sleep(BACKOFF.wait(attempt + 1, &*self.clock)).await;
        }
        Err(Error::internal("a retry loop ended"))
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

    /// Looks at what a name has before it is dropped or renamed, its row locked: no commit moves the pointer in
    /// between.
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
    pub(super) async fn begin_exclusive(&self) -> Result<Box<dyn Transaction>> {
        self.database.begin(Some(&self.name)).await
    }
}

/// The rows that a name had before the first try whose answer was lost. Once that may have come through, another row
/// of the name may be a table that somebody created since: it stays.
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

/// The find of a look at a name.
enum Found {
    Nothing,
    /// The rows that the first try saw, or this is the first.
    Same,
    Other,
}

fn exists(ident: &TableIdent) -> Error {
    Error::new(ErrorKind::AlreadyExists, "a table or view of this name exists").with("table", ident)
}

/// The error of a name when the answer to a change of it was lost and somebody else has changed it since.
fn unclear(ident: &TableIdent) -> Error {
    Error::new(
        ErrorKind::CommitStateUnknown,
        "the catalog's database did not say whether it committed, and the name has another commit's or another table's \
         metadata by now; look before you try again",
    )
    .with("table", ident)
}

#[async_trait]
impl Pointers for SqlPointers {
    fn name(&self) -> &str {
        &self.name
    }

    fn swaps_several(&self) -> bool {
        true
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

    async fn namespace_exists(&self, namespace: &NamespaceIdent) -> Result<bool> {
        self.has_namespace(namespace).await
    }

    async fn list_tables(&self, namespace: &NamespaceIdent) -> Result<Vec<TableIdent>> {
        let encoded = encode(namespace)?;
        let args = [self.name.as_str(), &encoded];
        let rows = self.retry(|_| self.database.query(&self.statements.list, &args)).await?;
        let mut names: Vec<String> = rows.into_iter().flatten().flatten().collect();
        if names.is_empty() && !self.has_namespace(namespace).await? {
            return Err(no_namespace(namespace));
        }
        names.sort_unstable(); // databases sort by locale
        Ok(names.into_iter().map(|name| TableIdent::new(namespace.clone(), name)).collect())
    }

    async fn get(&self, ident: &TableIdent) -> Result<Option<String>> {
        self.pointer(ident).await
    }

    async fn containing(&self, text: &str) -> Result<Vec<(TableIdent, String)>> {
        let args = [self.name.as_str(), text];
        let rows = self.retry(|_| self.database.query(statements::POINTERS_WITH, &args)).await?;
        let tables = rows.into_iter().filter_map(|row| match <[_; 3]>::try_from(row) {
            Ok([Some(namespace), Some(name), Some(pointer)]) => {
                let namespace = NamespaceIdent::from_vec(namespace.split('.').map(str::to_string).collect());
                Some((TableIdent::new(namespace.ok()?, name), pointer))
            }
            _ => None,
        });
        Ok(tables.collect())
    }

    async fn swap(&self, moves: &[Move]) -> Swapped {
        self.swap_all(moves).await
    }

    async fn remove(&self, ident: &TableIdent) -> Result<()> {
        let seen = Seen::default();
        self.retry(|lost| self.drop_once(ident, lost, &seen)).await
    }

    async fn rename(&self, from: &TableIdent, to: &TableIdent) -> Result<()> {
        let seen = Seen::default();
        self.retry(|lost| self.rename_once(from, to, lost, &seen)).await
    }
}
