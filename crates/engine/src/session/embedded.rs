//! The embedded lakehouse: a folder with a SQLite catalog and the tables' files.

use std::path::Path;
use std::sync::Arc;

use icefield_catalog::sql::SqlCatalog;
use icefield_core::{Error, ErrorKind, Result, SystemClock};

use super::{Session, SessionBuilder};

/// The name of the catalog, in its database and in SQL.
const NAME: &str = "icefield";

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
        let warehouse = self.warehouse.take().unwrap_or_else(|| format!("file://{folder}"));
        let clock = self.clock.take().unwrap_or_else(SystemClock::shared);
        let storage = self.storage.take().unwrap_or_default();
        let catalog = SqlCatalog::builder(NAME)
            .sqlite(format!("{folder}/catalog.db"))
            .warehouse(warehouse)
            .storage(storage)
            .clock(clock)
            .open()
            .await?;
        self.catalog = Some(Arc::new(catalog));
        self.build()
    }
}
