//! [`FaultyStore`]: any object store, with its requests recorded and one of them made to fail.
//!
//! Requests are numbered from 0 since the store was last armed. A scenario arms the store with a [`FaultPoint`], runs the
//! operation under test, disarms it and looks at what is there; [`every_fault`] repeats that for each request that the
//! operation makes, so that no point is left out. Where an operation makes requests concurrently, their numbers change
//! from run to run: the enumeration still meets as many points as there are requests.

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions,
    Result, UploadPart,
};

/// What a request does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum OpKind {
    /// Writes an object whole, conditionally or not.
    Put,
    /// Begins a multipart upload.
    StartUpload,
    /// Uploads a part.
    PutPart,
    /// Ends a multipart upload: the object becomes visible.
    Complete,
    /// Gives a multipart upload up.
    Abort,
    /// Reads an object or a range of it.
    Get,
    /// Reads several ranges.
    GetRanges,
    /// Asks for an object's size and times.
    Head,
    /// Deletes an object.
    Delete,
    /// Lists objects.
    List,
    /// Copies an object.
    Copy,
    /// Renames an object.
    Rename,
}

/// A request that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Op {
    /// Its number since the store was armed, from 0.
    pub number: usize,
    /// What it does.
    pub kind: OpKind,
    /// The object's path, or the prefix that was listed.
    pub path: String,
}

/// What goes wrong with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// An error; nothing was done.
    Fail,
    /// It was done, but the answer is lost: an error.
    FailAfter,
    /// The answer comes late.
    Delay(Duration),
    /// A read or listing ends with an error half-way; a write is lost half-way: nothing is visible, and an error.
    CutShort,
    /// The store goes away: this request and all later ones fail, undone, until the store is disarmed.
    Down,
    /// The process is cut off after this request: it is done, its answer and all later requests fail.
    DownAfter,
}

impl Fault {
    /// Every way to fail; delays last a millisecond.
    pub const ALL: [Fault; 6] = [
        Fault::Fail,
        Fault::FailAfter,
        Fault::Delay(Duration::from_millis(1)),
        Fault::CutShort,
        Fault::Down,
        Fault::DownAfter,
    ];
}

/// Which request fails, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FaultPoint {
    /// The request's number since the store was armed, from 0.
    pub number: usize,
    /// What goes wrong.
    pub fault: Fault,
}

type Plan = Box<dyn FnMut(&Op) -> Option<Fault> + Send>;

/// An object store that records its requests and fails some on demand. Clones share their plan and record.
#[derive(Clone)]
pub struct FaultyStore {
    inner: Arc<dyn ObjectStore>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    plan: Option<Plan>,
    down: bool,
    ops: Vec<Op>,
    fired: Option<Op>,
}

impl fmt::Debug for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultyStore").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl fmt::Display for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FaultyStore({})", self.inner)
    }
}

impl FaultyStore {
    /// Wraps a store. Nothing fails until it is armed.
    pub fn new(inner: Arc<dyn ObjectStore>) -> Self {
        Self { inner, state: Arc::default() }
    }

    /// An empty store in memory, wrapped.
    pub fn in_memory() -> Self {
        Self::new(Arc::new(object_store::memory::InMemory::new()))
    }

    /// The store underneath: its requests neither fail nor count.
    pub fn inner(&self) -> &Arc<dyn ObjectStore> {
        &self.inner
    }

    /// Starts counting at 0 again, and makes one request fail.
    pub fn arm(&self, point: FaultPoint) {
        self.arm_when(move |op| (op.number == point.number).then_some(point.fault));
    }

    /// Starts counting at 0 again, and asks `plan` about every request.
    pub fn arm_when(&self, plan: impl FnMut(&Op) -> Option<Fault> + Send + 'static) {
        *self.state() = State { plan: Some(Box::new(plan)), ..State::default() };
    }

    /// Nothing fails any more; counting goes on. Gives the first request that was made to fail.
    pub fn disarm(&self) -> Option<Op> {
        let mut state = self.state();
        state.plan = None;
        state.down = false;
        state.fired.take()
    }

    /// Forgets the requests so far, and starts counting at 0 again.
    pub fn reset(&self) {
        *self.state() = State::default();
    }

    /// The requests since the store was made, armed or reset.
    pub fn ops(&self) -> Vec<Op> {
        self.state().ops.clone()
    }

    /// How many requests there were.
    pub fn total(&self) -> usize {
        self.state().ops.len()
    }

    /// How many requests of a kind there were.
    pub fn count(&self, kind: OpKind) -> usize {
        self.state().ops.iter().filter(|op| op.kind == kind).count()
    }

    /// How many requests of a kind there were for paths that contain `part`.
    pub fn count_of(&self, kind: OpKind, part: &str) -> usize {
        self.state().ops.iter().filter(|op| op.kind == kind && op.path.contains(part)).count()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self, kind: OpKind, path: &str) -> Option<Fault> {
        let mut state = self.state();
        let op = Op { number: state.ops.len(), kind, path: path.to_string() };
        state.ops.push(op.clone());
        if state.down {
            return Some(Fault::Down);
        }
        let fault = state.plan.as_mut().and_then(|plan| plan(&op));
        if let Some(fault) = fault {
            state.down = matches!(fault, Fault::Down | Fault::DownAfter);
            state.fired.get_or_insert(op);
        }
        fault
    }

    /// Runs a request that does all or nothing.
    async fn whole<T>(
        &self,
        kind: OpKind,
        path: &str,
        request: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        match self.next(kind, path) {
            None => request.await,
            Some(Fault::Delay(by)) => {
                tokio::time::sleep(by).await;
                request.await
            }
            Some(Fault::Fail | Fault::CutShort | Fault::Down) => Err(injected(kind, path)),
            Some(Fault::FailAfter | Fault::DownAfter) => {
                request.await?;
                Err(injected(kind, path))
            }
        }
    }

    fn listing(
        &self,
        path: &str,
        entries: BoxStream<'static, Result<ObjectMeta>>,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        let fault = self.next(OpKind::List, path);
        let path = path.to_string();
        match fault {
            None => entries,
            Some(Fault::Delay(by)) => futures::stream::once(async move {
                tokio::time::sleep(by).await;
                entries
            })
            .flatten()
            .boxed(),
            // The half that came before the listing broke is delivered: whoever acts on it acts on half a listing.
            Some(Fault::CutShort) => futures::stream::once(async move {
                let all: Vec<_> = entries.collect().await;
                let half = all.len() / 2;
                let broken = Err(injected(OpKind::List, &path));
                futures::stream::iter(all.into_iter().take(half).chain([broken]))
            })
            .flatten()
            .boxed(),
            Some(_) => futures::stream::once(async move { Err(injected(OpKind::List, &path)) }).boxed(),
        }
    }
}

fn injected(kind: OpKind, path: &str) -> Error {
    Error::Generic { store: "FaultyStore", source: format!("injected fault: {kind:?} {path}").into() }
}

#[async_trait]
impl ObjectStore for FaultyStore {
    async fn put_opts(&self, path: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.whole(OpKind::Put, path.as_ref(), self.inner.put_opts(path, payload, options)).await
    }

    async fn put_multipart_opts(
        &self,
        path: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let start = self.inner.put_multipart_opts(path, options);
        let inner = self.whole(OpKind::StartUpload, path.as_ref(), start).await?;
        Ok(Box::new(Upload { inner, store: self.clone(), path: path.to_string() }))
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        let kind = if options.head { OpKind::Head } else { OpKind::Get };
        let fault = self.next(kind, path.as_ref());
        match fault {
            None => self.inner.get_opts(path, options).await,
            Some(Fault::Delay(by)) => {
                tokio::time::sleep(by).await;
                self.inner.get_opts(path, options).await
            }
            Some(Fault::CutShort) if kind == OpKind::Get => {
                let got = self.inner.get_opts(path, options).await?;
                let (meta, range, attributes) = (got.meta.clone(), got.range.clone(), got.attributes.clone());
                let bytes = got.bytes().await?;
                let half = bytes.slice(..bytes.len() / 2);
                let broken = Err(injected(kind, path.as_ref()));
                let payload = GetResultPayload::Stream(futures::stream::iter([Ok(half), broken]).boxed());
                Ok(GetResult { payload, meta, range, attributes })
            }
            Some(_) => Err(injected(kind, path.as_ref())),
        }
    }

    async fn get_ranges(&self, path: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.whole(OpKind::GetRanges, path.as_ref(), self.inner.get_ranges(path, ranges)).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        locations
            .then(move |path| {
                let store = store.clone();
                async move {
                    let path = path?;
                    store.whole(OpKind::Delete, path.as_ref(), store.inner.delete(&path)).await?;
                    Ok(path)
                }
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.listing(prefix.map_or("", |p| p.as_ref()), self.inner.list(prefix))
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.listing(prefix.map_or("", |p| p.as_ref()), self.inner.list_with_offset(prefix, offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let path = prefix.map_or("", |p| p.as_ref());
        self.whole(OpKind::List, path, self.inner.list_with_delimiter(prefix)).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.whole(OpKind::Copy, to.as_ref(), self.inner.copy_opts(from, to, options)).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.whole(OpKind::Rename, to.as_ref(), self.inner.rename_opts(from, to, options)).await
    }
}

#[derive(Debug)]
struct Upload {
    inner: Box<dyn MultipartUpload>,
    store: FaultyStore,
    path: String,
}

#[async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        // Parts are numbered where they are handed over; the inner store orders them by the same call.
        let part = self.inner.put_part(data);
        let (store, path) = (self.store.clone(), self.path.clone());
        Box::pin(async move { store.whole(OpKind::PutPart, &path, part).await })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        self.store.clone().whole(OpKind::Complete, &self.path.clone(), self.inner.complete()).await
    }

    async fn abort(&mut self) -> Result<()> {
        self.store.clone().whole(OpKind::Abort, &self.path.clone(), self.inner.abort()).await
    }
}

/// Runs `scenario` for each of `faults` at request 0, 1, 2, ... until the request that was to fail is not reached any
/// more. A scenario builds its world anew, arms its store with the point, runs, disarms, checks, and answers whether the
/// fault fired (what [`FaultyStore::disarm`] gave). Gives the number of points that fired.
///
/// # Panics
/// When the first request of a fault is not reached: the scenario armed nothing.
pub async fn every_fault(faults: &[Fault], mut scenario: impl AsyncFnMut(FaultPoint) -> bool) -> usize {
    let mut fired = 0;
    for &fault in faults {
        let mut number = 0;
        while scenario(FaultPoint { number, fault }).await {
            number += 1;
        }
        assert!(number > 0, "{fault:?} never fired: the scenario makes no requests, or armed no store");
        fired += number;
    }
    fired
}

#[cfg(test)]
mod tests {
    use futures::TryStreamExt;
    use object_store::WriteMultipart;

    use super::*;

    async fn contents(store: &FaultyStore) -> Vec<(String, Bytes)> {
        let metas: Vec<_> = store.inner().list(None).try_collect().await.unwrap();
        let mut all = Vec::new();
        for meta in metas {
            let bytes = store.inner().get(&meta.location).await.unwrap().bytes().await.unwrap();
            all.push((meta.location.to_string(), bytes));
        }
        all.sort();
        all
    }

    async fn put(store: &FaultyStore, path: &str, text: &'static str) -> Result<PutResult> {
        store.put(&Path::from(path), PutPayload::from_static(text.as_bytes())).await
    }

    #[tokio::test]
    async fn the_request_of_the_given_number_fails_and_those_after_it_do_not() {
        let store = FaultyStore::in_memory();
        store.arm(FaultPoint { number: 1, fault: Fault::Fail });
        put(&store, "a", "1").await.unwrap();
        put(&store, "b", "2").await.unwrap_err();
        put(&store, "c", "3").await.unwrap();
        let fired = store.disarm().unwrap();
        assert_eq!((fired.number, fired.kind, fired.path.as_str()), (1, OpKind::Put, "b"));
        let names: Vec<_> = contents(&store).await.into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["a", "c"]);
    }

    #[tokio::test]
    async fn a_lost_answer_is_an_error_of_something_that_was_done() {
        let store = FaultyStore::in_memory();
        put(&store, "a", "1").await.unwrap();
        store.arm(FaultPoint { number: 0, fault: Fault::FailAfter });
        store.delete(&Path::from("a")).await.unwrap_err();
        assert!(contents(&store).await.is_empty());
    }

    #[tokio::test]
    async fn a_read_cut_short_gives_half_and_an_error() {
        let store = FaultyStore::in_memory();
        put(&store, "a", "0123456789").await.unwrap();
        store.arm(FaultPoint { number: 0, fault: Fault::CutShort });
        let mut stream = store.get(&Path::from("a")).await.unwrap().into_stream();
        assert_eq!(stream.try_next().await.unwrap().unwrap(), "01234");
        stream.try_next().await.unwrap_err();
        // The next read is whole.
        assert_eq!(store.get(&Path::from("a")).await.unwrap().bytes().await.unwrap(), "0123456789");
    }

    #[tokio::test]
    async fn a_listing_cut_short_gives_half_and_an_error() {
        let store = FaultyStore::in_memory();
        for path in ["p/1", "p/2", "p/3", "p/4"] {
            put(&store, path, "x").await.unwrap();
        }
        store.arm(FaultPoint { number: 0, fault: Fault::CutShort });
        let listed: Vec<_> = store.list(Some(&Path::from("p"))).collect().await;
        assert_eq!(listed.iter().filter(|entry| entry.is_ok()).count(), 2);
        assert!(listed.last().unwrap().is_err());
    }

    #[tokio::test]
    async fn a_store_that_is_down_stays_down_until_it_is_disarmed() {
        let store = FaultyStore::in_memory();
        store.arm(FaultPoint { number: 1, fault: Fault::DownAfter });
        put(&store, "a", "1").await.unwrap();
        put(&store, "b", "2").await.unwrap_err();
        put(&store, "c", "3").await.unwrap_err();
        store.disarm();
        put(&store, "d", "4").await.unwrap();
        let names: Vec<_> = contents(&store).await.into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["a", "b", "d"]);
    }

    #[tokio::test]
    async fn no_fault_leaves_half_an_upload_visible() {
        let body = vec![7_u8; 25];
        let fired = every_fault(&Fault::ALL, async |point| {
            let store = FaultyStore::in_memory();
            store.arm(point);
            let outcome = async {
                let upload = store.put_multipart(&Path::from("big")).await?;
                let mut writer = WriteMultipart::new_with_chunk_size(upload, 10);
                writer.write(&body);
                writer.finish().await
            }
            .await;
            let fired = store.disarm();
            let there = contents(&store).await;
            assert!(there.is_empty() || there[0].1 == body, "{point:?}");
            if outcome.is_ok() {
                assert_eq!(there.len(), 1, "{point:?}");
            }
            fired.is_some()
        })
        .await;
        // One start, three parts, one completion; a failed part is followed by an abort.
        assert!(fired >= 5 * Fault::ALL.len(), "{fired}");
    }
}
