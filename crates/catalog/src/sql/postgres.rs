//! A PostgreSQL database that many processes use at once.
//!
//! Transactions are READ COMMITTED whatever the server's default is: the pointer's compare-and-swap is one UPDATE, whose
//! row lock makes the second writer wait and then see the first one's pointer. What needs more than one statement to be
//! decided (creating and dropping namespaces, creating tables in them) excludes others by an advisory lock.

use std::str::FromStr;
use std::time::Duration;

use async_trait::async_trait;
use icefield_core::{Error, ErrorKind, Result};
use sqlx::postgres::{PgConnectOptions, PgDatabaseError, PgPool, PgPoolOptions, PgRow, PgSeverity};
use sqlx::{Executor, Postgres, Row as _};

use super::database::{self, CommitError, Database, Row, Transaction, to_its_end};

/// How long one statement may take before the connection is taken for lost.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(60);
/// Waits for other transactions' locks end before the statement's time does, so that they are told apart.
const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SET LOCAL lock_timeout = '30s'";

#[derive(Debug)]
pub(super) struct PostgresDatabase {
    /// `host/database`, for messages: the URL holds a password.
    place: String,
    timeout: Duration,
    pool: PgPool,
}

impl PostgresDatabase {
    /// Connects to a server by URL.
    pub(super) async fn open(url: &str, max_connections: u32, timeout: Duration) -> Result<Self> {
        let options = PgConnectOptions::from_str(url).map_err(|_| {
            // The cause might quote the password.
            Error::invalid_input(
                "not a PostgreSQL URL; it has the form postgresql://user:password@host:5432/database",
            )
        })?;
        let place = format!("{}/{}", options.get_host(), options.get_database().unwrap_or_default());
        let pool = PgPoolOptions::new()
            .max_connections(max_connections.max(1))
            .acquire_timeout(timeout)
            .connect_lazy_with(options.application_name("icefield"));
        let this = Self { place, timeout, pool };
        // One connection at once: a wrong URL shows here, not at the first table.
        this.query("SELECT 'connected'", &[]).await?;
        Ok(this)
    }

    fn about(&self, error: sqlx::Error) -> Error {
        about(error, &self.place)
    }
}

#[async_trait]
impl Database for PostgresDatabase {
    async fn query(&self, sql: &str, args: &[&str]) -> Result<Vec<Row>> {
        let rows = in_time(bind(sql, args).fetch_all(&self.pool), self.timeout + STATEMENT_TIMEOUT).await;
        rows.and_then(text).map_err(|e| self.about(e))
    }

    async fn columns(&self, table: &str) -> Result<Vec<String>> {
        let sql = "SELECT attname::text FROM pg_attribute \
                   WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped";
        Ok(self.query(sql, &[table]).await?.into_iter().flatten().flatten().collect())
    }

    async fn begin(&self, lock: Option<&str>) -> Result<Box<dyn Transaction>> {
        let (pool, limit) = (self.pool.clone(), self.timeout + STATEMENT_TIMEOUT);
        let begin = async move { in_time(pool.begin_with(BEGIN), limit).await };
        let tx = to_its_end(begin).await.map_err(|e| self.about(e))?;
        let mut tx = Box::new(PostgresTransaction { tx, place: self.place.clone() });
        if let Some(lock) = lock {
            let sql = "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))::text";
            tx.query(sql, &[&format!("icefield catalog {lock}")]).await?;
        }
        Ok(tx)
    }

    async fn close(&self) {
        self.pool.close().await;
    }
}

struct PostgresTransaction {
    tx: sqlx::Transaction<'static, Postgres>,
    place: String,
}

#[async_trait]
impl Transaction for PostgresTransaction {
    async fn query(&mut self, sql: &str, args: &[&str]) -> Result<Vec<Row>> {
        let rows = in_time(bind(sql, args).fetch_all(&mut *self.tx), STATEMENT_TIMEOUT).await;
        rows.and_then(text).map_err(|e| about(e, &self.place))
    }

    async fn execute(&mut self, sql: &str, args: &[&str]) -> Result<u64> {
        let done = in_time(self.tx.execute(bind(sql, args)), STATEMENT_TIMEOUT).await;
        done.map(|done| done.rows_affected()).map_err(|e| about(e, &self.place))
    }

    async fn commit(self: Box<Self>) -> Result<(), CommitError> {
        let Self { tx, place } = *self;
        to_its_end(in_time(tx.commit(), STATEMENT_TIMEOUT)).await.map_err(|e| {
            let rolled_back = rolled_back(&e);
            let error = about(e, &place);
            if rolled_back { CommitError::NotCommitted(error) } else { CommitError::Unknown(error) }
        })
    }

    async fn rollback(self: Box<Self>) {
        let _ = to_its_end(in_time(self.tx.rollback(), STATEMENT_TIMEOUT)).await;
    }
}

/// A server that is gone without closing the connection answers nothing for hours: an answer later than `limit` is an
/// i/o error.
async fn in_time<T>(work: impl Future<Output = sqlx::Result<T>>, limit: Duration) -> sqlx::Result<T> {
    tokio::time::timeout(limit, work).await.unwrap_or_else(|_| {
        let error = std::io::Error::new(std::io::ErrorKind::TimedOut, "the server did not answer in time");
        Err(sqlx::Error::Io(error))
    })
}

/// Whether a failed COMMIT says for certain that the transaction was rolled back: the server's answer that a constraint
/// (class 23) or a conflict (class 40, without 40003, "statement completion unknown") prevented it. Whatever ended the
/// session instead may have come after the commit was durable.
fn rolled_back(error: &sqlx::Error) -> bool {
    let Some(answer) = error.as_database_error().and_then(|e| e.try_downcast_ref::<PgDatabaseError>()) else {
        return false;
    };
    let code = answer.code();
    let refused = code.starts_with("23") || (code.starts_with("40") && code != "40003");
    refused && matches!(answer.severity(), PgSeverity::Error)
}

fn bind<'q>(sql: &'q str, args: &[&'q str]) -> sqlx::query::Query<'q, Postgres, sqlx::postgres::PgArguments> {
    args.iter().fold(sqlx::query(sql), |query, arg| query.bind(*arg))
}

fn text(rows: Vec<PgRow>) -> sqlx::Result<Vec<Row>> {
    rows.iter().map(|row| (0..row.len()).map(|i| row.try_get(i)).collect()).collect()
}

fn about(error: sqlx::Error, place: &str) -> Error {
    database::error(error, |answer| {
        if answer.is_unique_violation() {
            return (ErrorKind::AlreadyExists, "the row exists");
        }
        // https://www.postgresql.org/docs/current/errcodes-appendix.html
        match answer.code().unwrap_or_default().as_ref() {
            "40001" | "40P01" | "55P03" => {
                (ErrorKind::Transient, "another transaction of the catalog's database was in the way; try again")
            }
            "22001" => (
                ErrorKind::InvalidInput,
                "too long for the catalog's tables: names hold 255 characters, locations and property values 1000",
            ),
            "22021" | "22P05" => {
                (ErrorKind::InvalidInput, "the catalog's database can't store a character of a name or value")
            }
            "42501" => {
                (ErrorKind::Io, "the database user may not do this; grant it the rights on the catalog's tables")
            }
            "3D000" => (ErrorKind::InvalidInput, "the server has no such database; create it first"),
            "25006" => (ErrorKind::Io, "the server is read-only, a standby perhaps; connect to the primary"),
            code => match code.get(..2).unwrap_or_default() {
                "08" | "53" | "57" => {
                    (ErrorKind::Transient, "the catalog's database server is overloaded, stopping or starting; try again")
                }
                "28" => (ErrorKind::InvalidInput, "the server refused the user or password of the database URL"),
                "58" | "XX" => (ErrorKind::Io, "the catalog's database server failed; see its log"),
                _ => (ErrorKind::Internal, "the catalog's database refused a statement; see the cause"),
            },
        }
    })
    .with("database", place)
}
