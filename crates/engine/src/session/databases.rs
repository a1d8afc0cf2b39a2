//! Sessions over catalogs that are kept in databases: the embedded lakehouse in a folder, and PostgreSQL.

#[cfg(feature = "sqlite")]
use std::path::Path;
use std::sync::Arc;

use icefield_catalog::sql::{SqlCatalog, SqlCatalogBuilder};
#[cfg(feature = "sqlite")]
use icefield_core::{Error, ErrorKind};
use icefield_core::{Result, SystemClock};

use super::{Session, SessionBuilder};

/// The name of the catalog, in its database and in SQL.
const NAME: &str = "icefield";

#[cfg(feature = "sqlite")]
impl Session {
    /// Opens the embedded lakehouse in a local folder: a SQLite catalog in `catalog.db` and the tables' files beside it.
    /// Folder and catalog are created when they are absent.
    ///
    /// # Errors
    /// [`Io`](icefield_core::ErrorKind::Io) when the folder can't be created or the catalog can't be opened.
    pub async fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::builder().open(path).await
    }
}

impl SessionBuilder {
    /// The embedded lakehouse in a local folder; see [`Session::open`].
    #[cfg(feature = "sqlite")]
    pub async fn open(mut self, path: impl AsRef<Path>) -> Result<Session> {
        let path = path.as_ref();
        let failed = |e: std::io::Error| {
            Error::new(
                ErrorKind::Io,
                "the lakehouse's folder can't be created; check the path and its permissions",
            )
            .with("path", path.display())
            .with_source(e)
        };
        tokio::fs::create_dir_all(path).await.map_err(failed)?;
        let folder = tokio::fs::canonicalize(path).await.map_err(failed)?;
        let folder = folder.to_str().ok_or_else(|| {
            Error::invalid_input("the lakehouse's path must be UTF-8").with("path", path.display())
        })?;
        self.warehouse.get_or_insert_with(|| format!("file://{folder}"));
        self.in_database(|catalog| catalog.sqlite(format!("{folder}/catalog.db"))).await
    }

    /// A session over a catalog in a PostgreSQL database, which many processes share. The tables lie under the
    /// [warehouse](Self::warehouse), whose store takes its settings from [`storage_option`](Self::storage_option).
    ///
    /// ```no_run
    /// # async fn example() -> icefield_core::Result<()> {
    /// use icefield_engine::Session;
    ///
    /// let session = Session::builder()
    ///     .warehouse("s3://lake/warehouse")
    ///     .storage_option("aws_region", "eu-central-1")
    ///     .postgres("postgresql://service@db.internal/lake?sslmode=verify-full")
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Transient`](icefield_core::ErrorKind::Transient) when the server does not answer,
    /// [`InvalidInput`](icefield_core::ErrorKind::InvalidInput) when it refuses the user or has no such database, and where no
    /// warehouse is given.
    #[cfg(feature = "postgres")]
    pub async fn postgres(self, url: impl Into<String>) -> Result<Session> {
        let url = url.into();
        self.in_database(|catalog| catalog.postgres(url)).await
    }

    async fn in_database(
        mut self,
        place: impl FnOnce(SqlCatalogBuilder) -> SqlCatalogBuilder,
    ) -> Result<Session> {
        let storage = self.own_storage()?;
        let clock = self.clock.take().unwrap_or_else(SystemClock::shared);
        let mut catalog = place(SqlCatalog::builder(NAME)).storage(storage).clock(clock);
        if let Some(warehouse) = self.warehouse.take() {
            catalog = catalog.warehouse(warehouse);
        }
        self.catalog = Some(Arc::new(catalog.open().await?));
        self.build()
    }
}
