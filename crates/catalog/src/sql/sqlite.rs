//! A SQLite file that several processes use at once.
//!
//! The file keeps the journal mode that it has, which is the rollback journal unless someone chose another: it needs no
//! shared memory, so the file may lie on a network share with working locks, and copying the one file copies the catalog.
//! Every writing transaction takes the write lock when it begins (BEGIN IMMEDIATE), so that none can fail half-way for a
//! lock; within a process writers queue on a mutex, which is fair, and only processes compete for the file's lock.
//!
//! A program that keeps a reading statement open holds up every writer until it is done. Some versions of Java's SQLite
//! driver do so for as long as a `JdbcCatalog` is open.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use icefield_core::{Error, ErrorKind, Result};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool, SqlitePoolOptions, SqliteRow};
use sqlx::{Row as _, Sqlite};
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::database::{self, CommitError, Database, Row, Transaction, to_its_end};

/// How long SQLite itself waits for another process's lock before a statement fails.
const BUSY_TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(super) struct SqliteDatabase {
    path: PathBuf,
    pool: SqlitePool,
    writer: Arc<Mutex<()>>,
}

impl SqliteDatabase {
    /// Opens a file, and creates it and the folders above it where they are absent.
    pub(super) async fn open(path: &Path, max_connections: u32, timeout: Duration) -> Result<Self> {
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            private_folder().create(folder).await.map_err(|e| {
                Error::new(ErrorKind::Io, "the folder of the catalog's database can't be created")
                    .with("folder", folder.display())
                    .with_source(e)
            })?;
        }
        // SQLite takes an empty file for a new database, and gives its journals the rights that it has.
        let created = private_file().open(path).await.map(drop);
        if let Some(e) = created.err().filter(|e| e.kind() != std::io::ErrorKind::AlreadyExists) {
            let (why, kind) =
                ("the catalog's database can't be created; check its path and permissions", ErrorKind::Io);
            return Err(Error::new(kind, why).with("database", path.display()).with_source(e));
        }
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .foreign_keys(false)
            .busy_timeout(BUSY_TIMEOUT);
        let pool = SqlitePoolOptions::new()
            .max_connections(max_connections.max(1))
            .acquire_timeout(timeout)
            .idle_timeout(None)
            .max_lifetime(None)
            .connect_with(options)
            .await
            .map_err(|e| about(e, path))?;
        Ok(Self { path: path.to_path_buf(), pool, writer: Arc::default() })
    }
}

/// Makes folders that are absent, for this user alone.
fn private_folder() -> tokio::fs::DirBuilder {
    let mut folders = tokio::fs::DirBuilder::new();
    folders.recursive(true);
    #[cfg(unix)]
    folders.mode(0o700);
    folders
}

/// Makes a file that is absent, for this user alone.
fn private_file() -> tokio::fs::OpenOptions {
    let mut file = tokio::fs::OpenOptions::new();
    file.write(true).create_new(true);
    #[cfg(unix)]
    file.mode(0o600);
    file
}

#[async_trait]
impl Database for SqliteDatabase {
    async fn query(&self, sql: &str, args: &[&str]) -> Result<Vec<Row>> {
        let rows = bind(sql, args).fetch_all(&self.pool).await;
        rows.and_then(text).map_err(|e| about(e, &self.path))
    }

    async fn columns(&self, table: &str) -> Result<Vec<String>> {
        let rows = self.query("SELECT name FROM pragma_table_info($1)", &[table]).await?;
        Ok(rows.into_iter().flatten().flatten().collect())
    }

    async fn begin(&self, _lock: Option<&str>) -> Result<Box<dyn Transaction>> {
        let writer = self.writer.clone().lock_owned().await;
        let pool = self.pool.clone();
        let begin = async move { Ok((pool.begin_with("BEGIN IMMEDIATE").await?, writer)) };
        let (tx, writer) = to_its_end(begin).await.map_err(|e| about(e, &self.path))?;
        Ok(Box::new(SqliteTransaction { tx, path: self.path.clone(), writer }))
    }

    async fn close(&self) {
        self.pool.close().await;
    }
}

struct SqliteTransaction {
    // Before the guard: what drops first rolls back first.
    tx: sqlx::Transaction<'static, Sqlite>,
    path: PathBuf,
    writer: OwnedMutexGuard<()>,
}

#[async_trait]
impl Transaction for SqliteTransaction {
    async fn query(&mut self, sql: &str, args: &[&str]) -> Result<Vec<Row>> {
        let rows = bind(sql, args).fetch_all(&mut *self.tx).await;
        rows.and_then(text).map_err(|e| about(e, &self.path))
    }

    async fn execute(&mut self, sql: &str, args: &[&str]) -> Result<u64> {
        let done = bind(sql, args).execute(&mut *self.tx).await;
        done.map(|done| done.rows_affected()).map_err(|e| about(e, &self.path))
    }

    async fn commit(self: Box<Self>) -> Result<(), CommitError> {
        let Self { tx, path, writer } = *self;
        let commit = async move {
            let committed = tx.commit().await;
            drop(writer);
            committed
        };
        to_its_end(commit).await.map_err(|e| {
            // SQLite keeps a transaction open whose COMMIT found the file busy; `sqlx` then rolls it back.
            let busy = primary_code(&e) == Some(BUSY);
            let error = about(e, &path);
            if busy { CommitError::NotCommitted(error) } else { CommitError::Unknown(error) }
        })
    }

    async fn rollback(self: Box<Self>) {
        let Self { tx, writer, .. } = *self;
        let rollback = async move {
            let rolled_back = tx.rollback().await;
            drop(writer);
            rolled_back
        };
        let _ = to_its_end(rollback).await;
    }
}

fn bind<'q>(
    sql: &'q str,
    args: &[&'q str],
) -> sqlx::query::Query<'q, Sqlite, sqlx::sqlite::SqliteArguments<'q>> {
    args.iter().fold(sqlx::query(sql), |query, arg| query.bind(*arg))
}

fn text(rows: Vec<SqliteRow>) -> sqlx::Result<Vec<Row>> {
    rows.iter().map(|row| (0..row.len()).map(|i| row.try_get(i)).collect()).collect()
}

// Primary result codes: https://www.sqlite.org/rescode.html
const PERMISSION: i32 = 3;
const BUSY: i32 = 5;
const LOCKED: i32 = 6;
const READ_ONLY: i32 = 8;
const IO: i32 = 10;
const CORRUPT: i32 = 11;
const FULL: i32 = 13;
const CANNOT_OPEN: i32 = 14;
const PROTOCOL: i32 = 15;
const NOT_A_DATABASE: i32 = 26;

fn primary_code(error: &sqlx::Error) -> Option<i32> {
    let code = error.as_database_error()?.code()?.parse::<i32>().ok()?;
    Some(code & 0xff) // extended codes hold the primary one in their lowest byte
}

fn about(error: sqlx::Error, path: &Path) -> Error {
    let code = primary_code(&error);
    database::error(error, |answer| match code {
        _ if answer.is_unique_violation() => (ErrorKind::AlreadyExists, "the row exists"),
        Some(BUSY | LOCKED | PROTOCOL) => {
            (ErrorKind::Transient, "another process kept the catalog's database locked; try again")
        }
        Some(READ_ONLY | PERMISSION | CANNOT_OPEN) => (
            ErrorKind::Io,
            "the catalog's database can't be opened or written; check its path and permissions",
        ),
        Some(IO | FULL) => (
            ErrorKind::Io,
            "the catalog's database could not be read or written; check the disk and its space",
        ),
        Some(CORRUPT | NOT_A_DATABASE) => (
            ErrorKind::DataInvalid,
            "the catalog's database is corrupt or no SQLite file; restore it from a backup",
        ),
        _ => (ErrorKind::Internal, "the catalog's database refused a statement; see the cause"),
    })
    .with("database", path.display())
}
