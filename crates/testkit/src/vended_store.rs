//! [`VendedStore`]: an object store that reaches some folders only, with a token that expires.
//!
//! It is what a REST catalog lends for a table: the token is renewed by whoever holds the store, as soon as
//! it has expired, and the store behind it looks at each request's token and path.

use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use icefield_core::Clock;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result,
};

/// How long a token is good.
pub(crate) const TOKEN_LIFE: Duration = Duration::from_secs(15 * 60);

/// Who gives tokens out.
#[derive(Debug)]
pub(crate) struct Issuer {
    clock: Arc<dyn Clock>,
    issued: AtomicU64,
}

impl Issuer {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, issued: AtomicU64::new(0) }
    }

    pub(crate) fn issued(&self) -> u64 {
        self.issued.load(Ordering::SeqCst)
    }

    /// A token, as the time until which it is good.
    fn issue(&self) -> i64 {
        self.issued.fetch_add(1, Ordering::SeqCst);
        self.clock.now_ms() + i64::try_from(TOKEN_LIFE.as_millis()).unwrap_or(i64::MAX)
    }
}

/// A store within some folders.
#[derive(Clone)]
pub(crate) struct VendedStore {
    inner: Arc<dyn ObjectStore>,
    issuer: Arc<Issuer>,
    folders: Arc<[Path]>,
    token: Arc<Mutex<i64>>,
    renews: bool,
}

impl fmt::Debug for VendedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VendedStore").field("folders", &self.folders).finish_non_exhaustive()
    }
}

impl fmt::Display for VendedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VendedStore({})", self.inner)
    }
}

impl VendedStore {
    /// A store with a first token. One that does not renew it is of no use once it has expired.
    pub(crate) fn new(
        inner: Arc<dyn ObjectStore>,
        issuer: Arc<Issuer>,
        folders: Vec<Path>,
        renews: bool,
    ) -> Self {
        let token = Arc::new(Mutex::new(issuer.issue()));
        Self { inner, issuer, folders: folders.into(), token, renews }
    }

    fn allow(&self, path: &Path) -> Result<()> {
        let refused = |why: &str| {
            let source = format!("403: {why}").into();
            Err(Error::PermissionDenied { path: path.to_string(), source })
        };
        let mut token = self.token.lock().unwrap_or_else(PoisonError::into_inner);
        if *token <= self.issuer.clock.now_ms() {
            if !self.renews {
                return refused("the token has expired");
            }
            *token = self.issuer.issue();
        }
        match self.folders.iter().any(|folder| path.prefix_matches(folder)) {
            true => Ok(()),
            false => refused("the token is for other folders"),
        }
    }

    fn allow_listing(&self, prefix: Option<&Path>) -> Result<()> {
        self.allow(prefix.unwrap_or(&Path::default()))
    }
}

fn refused<T: Send + 'static>(error: Error) -> BoxStream<'static, Result<T>> {
    futures::stream::once(async { Err(error) }).boxed()
}

#[async_trait]
impl ObjectStore for VendedStore {
    async fn put_opts(&self, path: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.allow(path)?;
        self.inner.put_opts(path, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        path: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.allow(path)?;
        self.inner.put_multipart_opts(path, options).await
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        self.allow(path)?;
        self.inner.get_opts(path, options).await
    }

    async fn get_ranges(&self, path: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.allow(path)?;
        self.inner.get_ranges(path, ranges).await
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        paths
            .then(move |path| {
                let store = store.clone();
                async move {
                    let path = path?;
                    store.allow(&path)?;
                    store.inner.delete(&path).await?;
                    Ok(path)
                }
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.allow_listing(prefix) {
            Ok(()) => self.inner.list(prefix),
            Err(e) => refused(e),
        }
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.allow_listing(prefix) {
            Ok(()) => self.inner.list_with_offset(prefix, offset),
            Err(e) => refused(e),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.allow_listing(prefix)?;
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.allow(from)?;
        self.allow(to)?;
        self.inner.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.allow(from)?;
        self.allow(to)?;
        self.inner.rename_opts(from, to, options).await
    }
}
