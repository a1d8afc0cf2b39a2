//! Files by URL, on any object store.
//!
//! [`Storage`] finds the store for a URL and does the few things that a table format needs of it: read, write, write
//! only if absent, list, delete. It is the only user of `object_store`'s operations in this crate; what it hands out for
//! others (the store itself for Parquet scans and writers, an [`iceberg::io::FileIO`] for other crates) goes to the same
//! stores, so a store given by [`Storage::with_store`] sees every request of the library.
//!
//! Locations are Iceberg's: `scheme://authority/key`, the key raw, never percent-decoded, or an absolute local path.
//! Schemes: `file`, `memory`, `s3` (also `s3a`, `s3n`), `gs`, `az` (also `abfs`, `abfss`, `adl`, `azure`).

mod confinement;
mod credentials;
mod file_io;
mod location;
mod mapping;

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt, TryStreamExt};
use object_store::buffered::BufWriter;
use object_store::path::Path;
use object_store::{GetOptions, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};
use url::Url;

pub(crate) use location::is_relative;
pub use location::{check_location, file_name, join, same_location};

use crate::error::{Error, ErrorKind, Result};
use confinement::Confinement;
use location::Location;
use mapping::Mapping;

/// A file that [`Storage::list`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileEntry {
    /// The file's location, with the scheme and authority that were listed.
    pub location: String,
    /// Size in bytes.
    pub size: u64,
    /// Last modification, in milliseconds since the epoch, by the store's clock.
    pub modified_ms: i64,
}

/// Where a location's bytes are: a store and a path in it.
#[derive(Clone)]
pub struct Resolved {
    /// `scheme://authority`, without a path: what the store is registered under.
    pub base: Url,
    /// The store.
    pub store: Arc<dyn ObjectStore>,
    /// The path in the store.
    pub path: Path,
}

impl fmt::Debug for Resolved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A store's own Debug may show its credentials.
        let Self { base, store: _, path } = self;
        f.debug_struct("Resolved")
            .field("base", &base.as_str())
            .field("path", &path.as_ref())
            .finish_non_exhaustive()
    }
}

/// Files by URL. Cheap to clone; clones share their stores.
///
/// A catalog's tables name their files themselves. Where these may be is for the service to say, with
/// [`confined_to`](Self::confined_to); where it says nothing, a catalog [confines them](Self::for_warehouse) to its warehouse.
#[derive(Clone)]
pub struct Storage {
    inner: Arc<Inner>,
    mapping: Arc<Mapping>,
    confinement: Arc<Confinement>,
}

struct Inner {
    options: HashMap<String, String>,
    /// True if the machine's metadata service may be asked for credentials.
    of_machine: bool,
    stores: Mutex<HashMap<String, Arc<dyn ObjectStore>>>,
}

impl fmt::Debug for Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Options hold secrets: names only.
        f.debug_struct("Storage")
            .field("options", &self.inner.options.keys())
            .field("mapping", &self.mapping)
            .field("confinement", &self.confinement)
            .finish_non_exhaustive()
    }
}

impl Default for Storage {
    fn default() -> Self {
        Self::new()
    }
}

impl Storage {
    /// Stores found by URL scheme, configured by the environment (`AWS_*`, `GOOGLE_*`, `AZURE_*`). A store without
    /// credentials is refused, unless those of the machine [are wanted](Self::with_machine_credentials).
    pub fn new() -> Self {
        Self::with_options(HashMap::new())
    }

    /// As [`Storage::new`], with options that win over the environment: `object_store`'s names
    /// (`aws_endpoint`, ...) or Iceberg's (`s3.endpoint`, `s3.region`, `s3.access-key-id`, `s3.secret-access-key`,
    /// `s3.session-token`, `s3.path-style-access`).
    pub fn with_options(options: HashMap<String, String>) -> Self {
        let inner = Arc::new(Inner { options, of_machine: false, stores: Mutex::default() });
        Self { inner, mapping: Arc::default(), confinement: Arc::default() }
    }

    /// Whether stores for which no credentials are configured ask the machine that this process runs on for those of its role: the
    /// metadata service of an EC2 instance or of a virtual machine of Google's or Azure's. Default: off. Web identities, containers' and
    /// pods' credentials and workload identities, which the environment names, need no word; nor does a public bucket, for which
    /// the option `skip_signature` is `true`.
    ///
    /// ```
    /// use icefield_core::storage::Storage;
    ///
    /// // A service on an EC2 instance whose role may read and write the bucket.
    /// let storage = Storage::new().with_machine_credentials(true);
    /// # let _ = storage;
    /// ```
    pub fn with_machine_credentials(&self, of_machine: bool) -> Self {
        let stores = Mutex::new(self.stores().clone());
        let inner = Inner { options: self.inner.options.clone(), of_machine, stores };
        Self { inner: Arc::new(inner), ..self.clone() }
    }

    /// Uses `store` for every location under `base` (`scheme://authority`): a wrapped store, or one of a kind that URLs
    /// do not name.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] when `base` is not a location.
    pub fn with_store(self, base: &str, store: Arc<dyn ObjectStore>) -> Result<Self> {
        let key = Location::parse(base)?.base();
        self.stores().insert(key, store);
        Ok(self)
    }

    /// The same stores, for locations within these alone, each with all that is below it: every other is refused wherever one is
    /// resolved, before any request. On a local disk links are followed first, so that none leads out. Replaces what was said
    /// before.
    ///
    /// ```
    /// use icefield_core::storage::Storage;
    ///
    /// let storage = Storage::new().confined_to(["s3://lake/warehouse", "/srv/archive"])?;
    /// assert!(storage.resolve("/srv/archive/t/metadata/v1.metadata.json").is_ok());
    /// assert!(storage.resolve("/srv/archives/t").is_err());
    /// assert!(storage.resolve("/etc/passwd").is_err());
    /// # Ok::<(), icefield_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for what is no location.
    pub fn confined_to<T: Into<String>>(&self, places: impl IntoIterator<Item = T>) -> Result<Self> {
        let confinement = Confinement::within(places.into_iter().map(Into::into))?;
        Ok(Self { confinement: Arc::new(confinement), ..self.clone() })
    }

    /// The same stores, and these places too, where [places are named](Self::confined_to).
    ///
    /// # Errors
    /// As [`confined_to`](Self::confined_to).
    pub fn and_within<T: Into<String>>(&self, places: impl IntoIterator<Item = T>) -> Result<Self> {
        let confinement = self.confinement.and(places.into_iter().map(Into::into))?;
        Ok(Self { confinement: Arc::new(confinement), ..self.clone() })
    }

    /// The same stores, for the tables of a catalog. Where nothing was said of places, locations are confined to the warehouse and to
    /// where files were [moved](Self::with_mappings); where [places were named](Self::confined_to), to those and the warehouse.
    /// [`unconfined`](Self::unconfined) stores stay so. The catalogs of this library do this with the storage that they are
    /// given; others do it when they are opened.
    ///
    /// ```
    /// use icefield_core::storage::Storage;
    ///
    /// let storage = Storage::new().for_warehouse("/srv/lake")?;
    /// assert!(storage.resolve("/srv/lake/hotel/rates/data/a.parquet").is_ok());
    /// assert!(storage.resolve("/srv/backup/rates/data/a.parquet").is_err());
    /// # Ok::<(), icefield_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`confined_to`](Self::confined_to).
    pub fn for_warehouse(&self, warehouse: &str) -> Result<Self> {
        let warehouse = self.mapped(warehouse).into_owned();
        let confinement = self.confinement.of_tables(warehouse, self.mapping.targets())?;
        Ok(Self { confinement: Arc::new(confinement), ..self.clone() })
    }

    /// The same stores, for no location.
    pub(crate) fn confined_to_nothing(&self) -> Self {
        Self { confinement: Arc::new(Confinement::Within(Vec::new())), ..self.clone() }
    }

    /// The same stores, for any location, in catalogs too: whoever writes a table's metadata then reads, writes and deletes with the
    /// rights of this process. For locations that the service itself names, and where all tables are its own.
    pub fn unconfined(&self) -> Self {
        Self { confinement: Arc::new(Confinement::Anywhere), ..self.clone() }
    }

    /// The same stores, and files that were moved: a location that begins with the first of a pair, in whatever form it is
    /// written (`file:/a` for `/a`), is looked for where the second of the pair has it. The longest of several that fit
    /// applies, and only whole parts of a path fit: `/a/b` moves `/a/b/c`, not `/a/bc`. The first may be relative, as locations of
    /// tables are that were made in a folder for tests: `data/lake`. Locations keep their names everywhere else. Replaces
    /// earlier mappings.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for what is not a location, and for one that is moved to two places.
    pub fn with_mappings<F: Into<String>, T: Into<String>>(
        &self,
        moved: impl IntoIterator<Item = (F, T)>,
    ) -> Result<Self> {
        let mapping = Mapping::new(moved.into_iter().map(|(from, to)| (from.into(), to.into())))?;
        Ok(Self { mapping: Arc::new(mapping), ..self.clone() })
    }

    /// The same stores, for a table whose locations are relative: `name` is what its metadata calls the folder that it lies in. Other
    /// relative locations are taken to be within that folder.
    pub(crate) fn with_relative(&self, name: &str, folder: &str) -> Self {
        Self { mapping: Arc::new(self.mapping.relative(name, folder)), ..self.clone() }
    }

    /// Where the bytes of a location are looked for: itself, unless [`with_mappings`](Self::with_mappings) says otherwise.
    pub fn mapped<'a>(&self, location: &'a str) -> Cow<'a, str> {
        self.mapping.apply(location)
    }

    /// Whether a location is a folder's, or below it, whatever form each is written in; on a local disk with links followed too.
    /// Nothing counts as within a whole store. Makes no request.
    pub fn is_within(&self, location: &str, folder: &str) -> bool {
        confinement::is_within(&self.mapped(location), &self.mapped(folder))
    }

    /// The store and path of a location. Makes no request.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for a scheme that is not known, a path that no store takes (`..`), what lies outside of
    /// the places that were [named](Self::confined_to), and a store without [credentials](Self::with_machine_credentials).
    pub fn resolve(&self, location: &str) -> Result<Resolved> {
        let mapped = self.mapped(location);
        let parsed = Location::parse(&mapped)?;
        let path = parsed.path(location)?;
        self.confinement.check(location, &parsed)?;
        let key = parsed.base();
        let base = Url::parse(&key).map_err(|e| {
            Error::invalid_input("not a usable URL").with("location", location).with_source(e)
        })?;
        let known = self.stores().get(&key).cloned();
        let store = match known {
            Some(store) => store,
            None => {
                let store = self.build(&base).map_err(|e| e.with("location", location))?;
                self.stores().entry(key).or_insert(store).clone()
            }
        };
        Ok(Resolved { base, store, path })
    }

    fn stores(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<dyn ObjectStore>>> {
        self.inner.stores.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn build(&self, base: &Url) -> Result<Arc<dyn ObjectStore>> {
        if base.scheme() == "memory" {
            return Ok(Arc::new(object_store::memory::InMemory::new()));
        }
        let environment = std::env::vars()
            .filter(|(key, _)| ["AWS_", "GOOGLE_", "AZURE_"].iter().any(|prefix| key.starts_with(prefix)))
            .map(|(key, value)| (key.to_ascii_lowercase(), value));
        let options = self.inner.options.iter().flat_map(|(key, value)| location::store_option(key, value));
        let options: Vec<_> = environment.chain(options).collect();
        if !self.inner.of_machine {
            credentials::require(base, &options)?;
        }
        match object_store::parse_url_opts(base, options) {
            Ok((store, _)) => Ok(Arc::from(store)),
            Err(e) => Err(Error::invalid_input(
                "no store for this URL: use file, memory, s3, gs or az, and check its credentials and region",
            )
            .with_source(e)),
        }
    }

    /// Reads a whole file. One request.
    pub async fn read(&self, location: &str) -> Result<Bytes> {
        let at = self.resolve(location)?;
        let get = async { at.store.get(&at.path).await?.bytes().await };
        get.await.map_err(|e| about(e, location))
    }

    /// Reads a whole file unless it is longer than `most` bytes. One request.
    ///
    /// # Errors
    /// [`ErrorKind::ResourceExhausted`] for one that is longer; nothing of it is read.
    pub(crate) async fn read_within(&self, location: &str, most: u64) -> Result<Bytes> {
        let at = self.resolve(location)?;
        let got = at.store.get(&at.path).await.map_err(|e| about(e, location))?;
        check_length(got.meta.size, most, location)?;
        got.bytes().await.map_err(|e| about(e, location))
    }

    /// Reads a whole file and the tag by which its store tells this content from others, if it gives one. `None` where the
    /// content is still that of `tag`. One request.
    ///
    /// # Errors
    /// As [`read_within`](Self::read_within).
    pub(crate) async fn read_unless(
        &self,
        location: &str,
        tag: Option<&str>,
        most: u64,
    ) -> Result<Option<(Bytes, Option<String>)>> {
        let at = self.resolve(location)?;
        let options = GetOptions { if_none_match: tag.map(str::to_string), ..GetOptions::default() };
        let got = match at.store.get_opts(&at.path, options).await {
            Err(object_store::Error::NotModified { .. }) if tag.is_some() => return Ok(None),
            got => got.map_err(|e| about(e, location))?,
        };
        check_length(got.meta.size, most, location)?;
        let tag = got.meta.e_tag.clone();
        Ok(Some((got.bytes().await.map_err(|e| about(e, location))?, tag)))
    }

    /// Reads a range of bytes. One request, and one more when it fails.
    ///
    /// # Errors
    /// [`ErrorKind::DataInvalid`] for a file that ends before the range.
    pub async fn read_range(&self, location: &str, range: Range<u64>) -> Result<Bytes> {
        let at = self.resolve(location)?;
        let end = range.end;
        match at.store.get_range(&at.path, range).await {
            Err(e) if ends_before(&*at.store, &at.path, end, &e).await => {
                let error = Error::data_invalid("the file is shorter than what is to be read of it");
                Err(error.with("file", location).with_source(e))
            }
            read => read.map_err(|e| about(e, location)),
        }
    }

    /// A file's content as a stream of chunks. One request, its body read as it is consumed.
    pub async fn read_stream(&self, location: &str) -> Result<BoxStream<'static, Result<Bytes>>> {
        let at = self.resolve(location)?;
        let got = at.store.get_opts(&at.path, GetOptions::default()).await.map_err(|e| about(e, location))?;
        let location = location.to_string();
        Ok(got.into_stream().map_err(move |e| about(e, &location)).boxed())
    }

    /// A file's size in bytes. One request.
    pub async fn size(&self, location: &str) -> Result<u64> {
        let at = self.resolve(location)?;
        Ok(at.store.head(&at.path).await.map_err(|e| about(e, location))?.size)
    }

    /// Whether a file exists. One request.
    pub async fn exists(&self, location: &str) -> Result<bool> {
        match self.size(location).await {
            Ok(_) => Ok(true),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Writes a file whole, replacing what was there: readers see the old bytes or the new, never a part. One request.
    pub async fn write(&self, location: &str, bytes: impl Into<Bytes>) -> Result<()> {
        let at = self.resolve(location)?;
        let payload = PutPayload::from(bytes.into());
        at.store.put(&at.path, payload).await.map(drop).map_err(|e| about(e, location))
    }

    /// Writes a file only where there is none: `true` when this call wrote it, `false` when it was there. One request.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] on a store without conditional writes.
    pub async fn write_if_absent(&self, location: &str, bytes: impl Into<Bytes>) -> Result<bool> {
        let at = self.resolve(location)?;
        let options = PutOptions::from(PutMode::Create);
        match at.store.put_opts(&at.path, PutPayload::from(bytes.into()), options).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {
                Ok(false)
            }
            Err(e) => Err(about(e, location)),
        }
    }

    /// A writer that streams a file: nothing is visible until it is shut down, and nothing when it is dropped before.
    pub fn writer(&self, location: &str) -> Result<BufWriter> {
        let at = self.resolve(location)?;
        Ok(BufWriter::with_capacity(at.store, at.path, 8 << 20))
    }

    /// Deletes a file; one that does not exist is no error. One request.
    pub async fn delete(&self, location: &str) -> Result<()> {
        let at = self.resolve(location)?;
        match at.store.delete(&at.path).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(e) => Err(about(e, location)),
        }
    }

    /// Deletes files of an operation that failed, which nothing names. One that can't be deleted stays behind, for the removal of
    /// orphan files, and is logged.
    pub async fn discard(&self, locations: Vec<String>) {
        let mut deletions = self.delete_all(locations, 8);
        while let Some((file, outcome)) = deletions.next().await {
            if let Err(error) = outcome {
                tracing::warn!(file, %error, "a file of a failed operation was not deleted");
            }
        }
    }

    /// Deletes files, `concurrency` at once, and gives each with its outcome, in no order.
    pub fn delete_all(
        &self,
        locations: Vec<String>,
        concurrency: usize,
    ) -> BoxStream<'_, (String, Result<()>)> {
        futures::stream::iter(locations)
            .map(move |location| async move {
                let outcome = self.delete(&location).await;
                (location, outcome)
            })
            .buffer_unordered(concurrency.max(1))
            .boxed()
    }

    /// Every file under a location, subfolders included, in no order. A location that does not exist holds no files.
    pub fn list(&self, location: &str) -> BoxStream<'static, Result<FileEntry>> {
        let at = match self.resolve(location) {
            Ok(at) => at,
            Err(e) => return futures::stream::once(async { Err(e) }).boxed(),
        };
        let base = Location::parse(location).map(|l| l.written_base()).unwrap_or_default();
        let (about_location, about_listed) = (location.to_string(), location.to_string());
        let moved = match self.mapped(location) {
            Cow::Borrowed(_) => None,
            Cow::Owned(_) => Some(at.path.clone()),
        };
        at.store
            .list(Some(&at.path))
            .map_ok(move |meta| FileEntry {
                location: match moved.as_ref().and_then(|moved| meta.location.prefix_match(moved)) {
                    Some(parts) => {
                        parts.fold(about_listed.clone(), |location, part| join(&location, part.as_ref()))
                    }
                    None => format!("{base}/{}", meta.location),
                },
                size: meta.size,
                modified_ms: meta.last_modified.timestamp_millis(),
            })
            .map_err(move |e| about(e, &about_location))
            .boxed()
    }
}

/// Whether a range up to `end` can't be read because the file ends before it: stores say so each in its own way, as of a
/// failure in passing. One request, where the store's error leaves it open.
pub async fn ends_before(
    store: &dyn ObjectStore,
    path: &Path,
    end: u64,
    error: &object_store::Error,
) -> bool {
    matches!(error, object_store::Error::Generic { .. })
        && store.head(path).await.is_ok_and(|found| found.size < end)
}

fn check_length(bytes: u64, most: u64, location: &str) -> Result<()> {
    if bytes <= most {
        return Ok(());
    }
    let longer = Error::new(ErrorKind::ResourceExhausted, "the file is longer than it may be");
    Err(longer.with("file", location).with("bytes", bytes).with("most", most))
}

fn about(error: object_store::Error, location: &str) -> Error {
    Error::from(error).with("file", location)
}

#[cfg(test)]
mod tests;
