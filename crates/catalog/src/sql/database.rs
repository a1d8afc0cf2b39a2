//! What a SQL catalog asks of a database: text in, text out, transactions. One implementation per kind of database; the
//! statements are the same for all.

use std::fmt::Debug;

use async_trait::async_trait;
use icefield_core::{Error, ErrorKind, Result};

/// One row of text columns.
pub(super) type Row = Vec<Option<String>>;

/// A database and its pool of connections. Errors carry the kind that tells whether the same statement may succeed later.
#[async_trait]
pub(super) trait Database: Debug + Send + Sync {
    /// Runs one reading statement outside any transaction. Parameters are `$1`, `$2`, ...
    async fn query(&self, sql: &str, args: &[&str]) -> Result<Vec<Row>>;

    /// The names of a table's columns; none when there is no such table.
    async fn columns(&self, table: &str) -> Result<Vec<String>>;

    /// Opens a transaction that writes. `lock`, where given, is a name that only one transaction holds at a time, on
    /// databases where writers do not exclude each other anyway.
    async fn begin(&self, lock: Option<&str>) -> Result<Box<dyn Transaction>>;

    /// Closes every connection.
    async fn close(&self);
}

/// A transaction. Dropped, it is rolled back.
#[async_trait]
pub(super) trait Transaction: Send {
    /// Runs a reading statement.
    async fn query(&mut self, sql: &str, args: &[&str]) -> Result<Vec<Row>>;

    /// Runs a writing statement, and gives the number of rows that it changed.
    async fn execute(&mut self, sql: &str, args: &[&str]) -> Result<u64>;

    /// Commits.
    async fn commit(self: Box<Self>) -> Result<(), CommitError>;

    /// Rolls back. Failures don't matter: a connection that can't roll back is closed, which does it too.
    async fn rollback(self: Box<Self>);
}

/// Why COMMIT gave no success.
#[derive(Debug)]
pub(super) enum CommitError {
    /// The database said that it did not commit.
    NotCommitted(Error),
    /// It may have.
    Unknown(Error),
}

impl CommitError {
    /// The error that an operation reports when COMMIT ended so.
    pub(super) fn into_error(self) -> Error {
        match self {
            Self::NotCommitted(error) => error,
            Self::Unknown(error) => Error::new(
                ErrorKind::CommitStateUnknown,
                "the catalog's database did not say whether it committed; look before you try again",
            )
            .with_source(error),
        }
    }
}

/// The connection can't be encrypted, or the server is not known to be the one that is meant.
const NOT_SECURE: (ErrorKind, &str) = (
    ErrorKind::InvalidInput,
    "the connection to the catalog's database can't be secured by TLS as its URL asks; see the cause, and check the server's \
     certificate and name, sslrootcert and sslmode",
);

/// An error of `sqlx`, in our kinds. `of_database` judges what the database itself answered.
pub(super) fn error(
    error: sqlx::Error,
    of_database: impl FnOnce(&dyn sqlx::error::DatabaseError) -> (ErrorKind, &'static str),
) -> Error {
    use sqlx::Error as Their;
    let (kind, message) = match &error {
        Their::Tls(_) => NOT_SECURE,
        // How rustls says that a certificate or the server's answer is wrong: the next try would find the same.
        Their::Io(e) if e.kind() == std::io::ErrorKind::InvalidData && e.get_ref().is_some() => NOT_SECURE,
        Their::Database(answer) => of_database(answer.as_ref()),
        Their::Io(_) | Their::Protocol(_) | Their::WorkerCrashed | Their::BeginFailed => {
            (ErrorKind::Transient, "the connection to the catalog's database broke")
        }
        Their::PoolTimedOut => {
            (ErrorKind::Transient, "no connection to the catalog's database came free in time")
        }
        Their::Configuration(_) => {
            (ErrorKind::InvalidInput, "the catalog's database URL is wrong; see the cause")
        }
        Their::ColumnDecode { .. } | Their::Decode(_) | Their::ColumnIndexOutOfBounds { .. } => {
            (ErrorKind::DataInvalid, "a table of the catalog's database has a column of an unexpected type")
        }
        _ => (ErrorKind::Internal, "the catalog's database could not be used; see the cause"),
    };
    Error::new(kind, message).with("cause", &error).with_source(error)
}

/// Runs `work` to its end even when the caller's future is dropped. Beginning and ending a transaction go through here:
/// dropped between the database's answer and its own note of it, `sqlx` would hand a connection back to the pool with the
/// transaction, and its locks, still open.
pub(super) async fn to_its_end<T: Send + 'static>(
    work: impl Future<Output = sqlx::Result<T>> + Send + 'static,
) -> sqlx::Result<T> {
    tokio::spawn(work).await.unwrap_or_else(|_| Err(sqlx::Error::WorkerCrashed))
}
