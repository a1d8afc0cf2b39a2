//! Opening a [`SqlCatalog`]: its components, and its tables where the database has none yet.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use icefield_core::catalog::pointer::PointerCatalog;
use icefield_core::storage::Storage;
use icefield_core::{Clock, Error, ErrorKind, Result, SystemClock};

use super::SqlCatalog;
use super::database::{CommitError, Database};
use super::pointers::SqlPointers;
use super::statements::{self, Statements};

/// Opens a [`SqlCatalog`].
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use icefield_catalog::sql::SqlCatalog;
/// use icefield_core::catalog::{Catalog, NamespaceIdent};
///
/// let folder = tempfile::tempdir()?;
/// let catalog = SqlCatalog::builder("lake")
///     .sqlite(folder.path().join("catalog.db"))
///     .warehouse(format!("file://{}", folder.path().display()))
///     .open()
///     .await?;
/// let hotel = NamespaceIdent::new("hotel".to_string());
/// catalog.create_namespace(&hotel, Default::default()).await?;
/// assert_eq!(catalog.list_namespaces(None).await?, [hotel]);
/// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
/// ```
#[must_use = "a builder does nothing until it is opened"]
pub struct SqlCatalogBuilder {
    name: String,
    place: Option<Place>,
    warehouse: Option<String>,
    storage: Option<Storage>,
    clock: Option<Arc<dyn Clock>>,
    max_connections: Option<u32>,
    connect_timeout: Option<Duration>,
}

enum Place {
    Sqlite(PathBuf),
    Postgres(String),
}

impl fmt::Debug for SqlCatalogBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The URL may hold a password.
        f.debug_struct("SqlCatalogBuilder")
            .field("name", &self.name)
            .field("warehouse", &self.warehouse)
            .finish_non_exhaustive()
    }
}

impl SqlCatalog {
    /// A builder of a catalog that is called `name` in its database. Catalogs of other names in the same
    /// database are strangers to it.
    pub fn builder(name: impl Into<String>) -> SqlCatalogBuilder {
        SqlCatalogBuilder::new(name.into())
    }

    /// A catalog in a SQLite file, created where it is absent, whose tables lie under `warehouse` (a URL or
    /// an absolute path).
    ///
    /// # Errors
    /// [`Io`](icefield_core::ErrorKind::Io) when the file can't be opened,
    /// [`DataInvalid`](icefield_core::ErrorKind::DataInvalid) when it is no SQLite file.
    #[cfg(feature = "sqlite")]
    pub async fn sqlite(
        name: impl Into<String>,
        path: impl Into<std::path::PathBuf>,
        warehouse: impl Into<String>,
        storage: Storage,
    ) -> Result<Self> {
        Self::builder(name).sqlite(path).warehouse(warehouse).storage(storage).open().await
    }

    /// A catalog in a PostgreSQL database (`postgresql://user:password@host:5432/database`), whose tables lie
    /// under `warehouse` (a URL or an absolute path).
    ///
    /// # Errors
    /// [`Transient`](icefield_core::ErrorKind::Transient) when the server does not answer,
    /// [`InvalidInput`](icefield_core::ErrorKind::InvalidInput) when it refuses the user or has no such
    /// database.
    #[cfg(feature = "postgres")]
    pub async fn postgres(
        name: impl Into<String>,
        url: impl Into<String>,
        warehouse: impl Into<String>,
        storage: Storage,
    ) -> Result<Self> {
        Self::builder(name).postgres(url).warehouse(warehouse).storage(storage).open().await
    }
}

impl SqlCatalogBuilder {
    pub(super) fn new(name: String) -> Self {
        Self {
            name,
            place: None,
            warehouse: None,
            storage: None,
            clock: None,
            max_connections: None,
            connect_timeout: None,
        }
    }

    /// Keeps the catalog in a SQLite file. The file and the folders above it are created where they are absent, for this user alone
    /// (0600 and 0700): whoever may write the file says what the tables are.
    pub fn sqlite(mut self, path: impl Into<PathBuf>) -> Self {
        self.place = Some(Place::Sqlite(path.into()));
        self
    }

    /// Keeps the catalog in a PostgreSQL database, by its URL. Its parameters `sslmode` (by default `prefer`: encrypted where the
    /// server can) and `sslrootcert` say how the connection is encrypted and the server known, as in libpq. `prefer` and `require`
    /// take any server for the right one: wherever others might be on the way, ask for `sslmode=verify-full`.
    pub fn postgres(mut self, url: impl Into<String>) -> Self {
        self.place = Some(Place::Postgres(url.into()));
        self
    }

    /// Where the catalog is, as PyIceberg's `uri` has it: `sqlite:///relative/path`, `sqlite:////absolute/path`,
    /// `postgresql://user:password@host:5432/database`, a driver's name (`postgresql+psycopg2`) being ignored.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for another scheme.
    pub fn uri(self, uri: &str) -> Result<Self> {
        let (scheme, rest) = uri.split_once("://").unwrap_or_default();
        match scheme.split('+').next().unwrap_or_default() {
            "sqlite" => match rest.strip_prefix('/') {
                Some(path) if !path.is_empty() => Ok(self.sqlite(path)),
                // Not shown: what is meant for another database may hold a password.
                _ => Err(Error::invalid_input("a SQLite catalog's URI is sqlite:///path")),
            },
            "postgres" | "postgresql" => Ok(self.postgres(format!("postgresql://{rest}"))),
            _ => Err(Error::invalid_input("a SQL catalog's URI begins with sqlite: or postgresql:")
                .with("scheme", scheme)),
        }
    }

    /// Where tables lie that are created without a location: a URL or an absolute path. Tables that name files elsewhere are
    /// refused, unless the [storage](Self::storage) says otherwise.
    pub fn warehouse(mut self, warehouse: impl Into<String>) -> Self {
        self.warehouse = Some(warehouse.into());
        self
    }

    /// The stores of the tables' files, and where these may be beside the warehouse ([`Storage::for_warehouse`]). By default those
    /// that [`Storage::new`] finds, and the warehouse alone.
    pub fn storage(mut self, storage: Storage) -> Self {
        self.storage = Some(storage);
        self
    }

    /// The source of time, ids and chance. By default the system's.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = Some(clock);
        self
    }

    /// The most connections that the catalog holds: by default 4 to a SQLite file, 10 to a PostgreSQL server.
    pub fn max_connections(mut self, connections: u32) -> Self {
        self.max_connections = Some(connections);
        self
    }

    /// How long a call waits for a connection, new or handed back by another call: by default 120 s for a SQLite file, whose
    /// connections also wait for other processes' locks, and 30 s for a PostgreSQL server.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = Some(timeout);
        self
    }

    /// Opens the catalog, and creates its two tables in a database that does not have them.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] without a database or a usable warehouse, [`ErrorKind::Unsupported`] for a database whose
    /// feature is off; those of the database.
    pub async fn open(self) -> Result<SqlCatalog> {
        let storage = self.storage.unwrap_or_default();
        let warehouse = self.warehouse.unwrap_or_default().trim_end_matches('/').to_string();
        let storage = storage.for_warehouse(&warehouse).and_then(|storage| {
            storage.resolve(&warehouse)?;
            Ok(storage)
        });
        let storage = storage.map_err(|e| {
            Error::invalid_input("give the catalog a warehouse: a URL or an absolute path")
                .with("warehouse", &warehouse)
                .with_source(e)
        })?;
        if self.name.is_empty() {
            return Err(Error::invalid_input("a catalog's name is not empty"));
        }
        let database: Box<dyn Database> = match self.place {
            #[cfg(feature = "sqlite")]
            Some(Place::Sqlite(path)) => {
                let connections = self.max_connections.unwrap_or(4);
                let timeout = self.connect_timeout.unwrap_or(Duration::from_secs(120));
                Box::new(super::sqlite::SqliteDatabase::open(&path, connections, timeout).await?)
            }
            #[cfg(feature = "postgres")]
            Some(Place::Postgres(url)) => {
                let connections = self.max_connections.unwrap_or(10);
                let timeout = self.connect_timeout.unwrap_or(Duration::from_secs(30));
                Box::new(super::postgres::PostgresDatabase::open(&url, connections, timeout).await?)
            }
            None => {
                return Err(Error::invalid_input(
                    "say where the catalog is: a SQLite file or a PostgreSQL URL",
                ));
            }
            #[cfg(not(feature = "sqlite"))]
            Some(Place::Sqlite(path)) => return Err(no_driver("sqlite").with("database", path.display())),
            #[cfg(not(feature = "postgres"))]
            Some(Place::Postgres(url)) => {
                drop(url); // not shown: it may hold a password
                return Err(no_driver("postgres"));
            }
        };
        let clock = self.clock.unwrap_or_else(SystemClock::shared);
        let (name, statements) = (self.name, Statements::new(true));
        let mut pointers = SqlPointers { name, clock: clock.clone(), database, statements };
        pointers.statements = pointers.retry(|_| prepare(&*pointers.database)).await?;
        Ok(SqlCatalog(PointerCatalog::new(pointers, warehouse, storage, clock)))
    }
}

#[cfg(not(all(feature = "sqlite", feature = "postgres")))]
fn no_driver(feature: &'static str) -> Error {
    Error::unsupported("this build has no driver for the catalog's database; enable its feature")
        .with("feature", feature)
}

/// Creates what is missing, and finds which layout the tables have.
async fn prepare(database: &dyn Database) -> Result<Statements> {
    let mut columns = database.columns(statements::TABLES).await?;
    if columns.is_empty() || database.columns(statements::NAMESPACES).await?.is_empty() {
        let created = create(database).await;
        match created {
            // Two that create at once on PostgreSQL: the second one finds the first one's.
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
            created => created?,
        }
        columns = database.columns(statements::TABLES).await?;
    }
    Ok(Statements::new(columns.iter().any(|column| column == "iceberg_type")))
}

async fn create(database: &dyn Database) -> Result<()> {
    let mut tx = database.begin(Some("tables")).await?;
    tx.execute(statements::CREATE_TABLES, &[]).await?;
    tx.execute(statements::CREATE_NAMESPACES, &[]).await?;
    tx.commit().await.map_err(CommitError::into_error)
}
