//! The bytes of one data file on their way to the store: whole in one request when they are few, otherwise in parts.
//!
//! A file is visible once [`Upload::finish`] is done, and not before. What a store keeps of an upload in parts that nobody
//! finishes is in no listing and is paid for, so an upload that is given up is aborted: by [`Upload::abort`], or when it is
//! dropped by a task that [`Drop`] leaves to the runtime. Only a process that ends meanwhile leaves one behind, for a lifecycle
//! rule of the store.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use icefield_core::storage::{Resolved, Storage};
use icefield_core::{Error, Result};
use object_store::{MultipartUpload, ObjectStoreExt, PutMultipartOptions, PutPayload, PutPayloadMut};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::{JoinError, JoinHandle, JoinSet};

/// The size of a part in bytes. A file of less is one request.
pub(crate) const PART: usize = 8 << 20;
/// How many parts of one file are on their way at once.
const PARTS_AT_ONCE: usize = 8;

/// What the uploads of one writer have in common.
#[derive(Debug, Clone)]
pub(crate) struct Uploads {
    /// One permit for each part that may be on its way at once, of all files of the write.
    parts: Arc<Semaphore>,
    /// The bytes of this writer that are on their way.
    in_flight: Arc<AtomicUsize>,
}

impl Uploads {
    /// The uploads of a writer, which shares the permits with others.
    pub(crate) fn new(parts: Arc<Semaphore>) -> Self {
        Self { parts, in_flight: Arc::default() }
    }

    /// Bytes of memory in parts on their way.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }
}

/// One file's upload.
pub(crate) struct Upload {
    at: Resolved,
    location: String,
    shared: Uploads,
    buffered: PutPayloadMut,
    starting: Option<Starting>,
    multipart: Option<Multipart>,
    runtime: Option<Handle>,
}

/// The request that begins an upload in parts.
type Starting = JoinHandle<object_store::Result<Box<dyn MultipartUpload>>>;

struct Multipart {
    upload: Box<dyn MultipartUpload>,
    parts: JoinSet<object_store::Result<()>>,
}

/// Bytes on their way, until dropped.
struct InFlight(Arc<AtomicUsize>, usize);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.fetch_sub(self.1, Ordering::Relaxed);
    }
}

impl Upload {
    /// Begins nothing yet.
    pub(crate) fn new(storage: &Storage, location: &str, shared: Uploads) -> Result<Self> {
        Ok(Self {
            at: storage.resolve(location)?,
            location: location.to_string(),
            shared,
            buffered: PutPayloadMut::new(),
            starting: None,
            multipart: None,
            runtime: Handle::try_current().ok(),
        })
    }

    /// Bytes of memory that wait to become a part.
    pub(crate) fn buffered(&self) -> usize {
        self.buffered.content_length()
    }

    /// Takes bytes, and sends the parts that they fill. Waits while too many are on their way.
    pub(crate) async fn put(&mut self, mut bytes: Bytes) -> Result<()> {
        while !bytes.is_empty() {
            let room = PART - self.buffered.content_length().min(PART);
            if bytes.len() < room {
                self.buffered.push(bytes);
                return Ok(());
            }
            self.buffered.push(bytes.split_to(room));
            self.send_part().await?;
        }
        Ok(())
    }

    async fn send_part(&mut self) -> Result<()> {
        self.begin().await?;
        self.settle(PARTS_AT_ONCE - 1).await?;
        let permit = self.shared.parts.clone().acquire_owned().await;
        let permit = permit.map_err(|e| Error::internal("uploads were closed").with_source(e))?;
        let Some(multipart) = &mut self.multipart else {
            return Err(Error::internal("an upload has not begun"));
        };
        let bytes = self.buffered.content_length();
        let part = multipart.upload.put_part(std::mem::take(&mut self.buffered).into());
        self.shared.in_flight.fetch_add(bytes, Ordering::Relaxed);
        let held = InFlight(self.shared.in_flight.clone(), bytes);
        multipart.parts.spawn(async move {
            let sent = part.await;
            drop((held, permit));
            sent
        });
        Ok(())
    }

    /// Asks the store for an upload in parts. In a task of its own: whoever is dropped meanwhile still learns of it, to end it.
    async fn begin(&mut self) -> Result<()> {
        if self.multipart.is_some() {
            return Ok(());
        }
        let starting = self.starting.get_or_insert_with(|| {
            let (store, path) = (self.at.store.clone(), self.at.path.clone());
            tokio::spawn(async move { store.put_multipart_opts(&path, PutMultipartOptions::default()).await })
        });
        let begun = starting.await;
        self.starting = None;
        let upload = begun.map_err(ended_abnormally)??;
        self.multipart = Some(Multipart { upload, parts: JoinSet::new() });
        Ok(())
    }

    /// Waits until no more than so many parts are on their way, and learns what became of those that are not.
    async fn settle(&mut self, parts: usize) -> Result<()> {
        let Some(multipart) = &mut self.multipart else { return Ok(()) };
        while let Some(sent) = multipart.parts.try_join_next() {
            sent.map_err(ended_abnormally)??;
        }
        while multipart.parts.len() > parts {
            if let Some(sent) = multipart.parts.join_next().await {
                sent.map_err(ended_abnormally)??;
            }
        }
        Ok(())
    }

    /// Waits until nothing is on its way.
    pub(crate) async fn drain(&mut self) -> Result<()> {
        self.settle(0).await
    }

    /// Sends what is left, and makes the file visible. After an error the upload was given up.
    pub(crate) async fn finish(mut self) -> Result<()> {
        let outcome = self.try_finish().await;
        match outcome {
            // Nothing is left to end.
            Ok(()) => self.multipart = None,
            Err(_) => self.abort().await,
        }
        outcome
    }

    async fn try_finish(&mut self) -> Result<()> {
        if self.multipart.is_none() {
            let payload: PutPayload = std::mem::take(&mut self.buffered).into();
            self.at.store.put(&self.at.path, payload).await?;
            return Ok(());
        }
        if self.buffered.content_length() > 0 {
            self.send_part().await?;
        }
        self.settle(0).await?;
        if let Some(multipart) = &mut self.multipart {
            multipart.upload.complete().await?;
        }
        Ok(())
    }

    /// Gives the file up, and what was sent of it to the store.
    pub(crate) async fn abort(mut self) {
        if let Some(ending) = self.end() {
            // A task that panicked has told so.
            ending.await.ok();
        }
    }

    /// Ends what was begun, in a task of its own: whoever waits for it may be dropped, as the other writers of a write are
    /// where one fails.
    fn end(&mut self) -> Option<JoinHandle<()>> {
        let (starting, multipart) = (self.starting.take(), self.multipart.take());
        if starting.is_none() && multipart.is_none() {
            return None;
        }
        let location = std::mem::take(&mut self.location);
        let Some(runtime) = Handle::try_current().ok().or(self.runtime.take()) else {
            left_behind(&location, &"no runtime is there to end it");
            return None;
        };
        Some(runtime.spawn(give_up(starting, multipart, location)))
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        drop(self.end());
    }
}

async fn give_up(starting: Option<Starting>, multipart: Option<Multipart>, location: String) {
    if let Some(starting) = starting
        && let Ok(Ok(mut upload)) = starting.await
        && let Err(error) = upload.abort().await
    {
        left_behind(&location, &error);
    }
    if let Some(mut multipart) = multipart {
        // A part that arrives after the abort would stay.
        multipart.parts.shutdown().await;
        if let Err(error) = multipart.upload.abort().await {
            left_behind(&location, &error);
        }
    }
}

fn left_behind(file: &str, error: &dyn std::fmt::Display) {
    tracing::debug!(file, %error, "an unfinished upload was not taken back; a lifecycle rule of the store ends it");
}

fn ended_abnormally(error: JoinError) -> Error {
    Error::internal("an upload's task ended abnormally").with_source(error)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use icefield_testkit::{Fault, FaultyStore, OpKind};

    use super::*;

    fn upload(store: &FaultyStore, parts: usize) -> Upload {
        let storage = Storage::new().with_store("memory://up", Arc::new(store.clone())).unwrap();
        let shared = Uploads::new(Arc::new(Semaphore::new(parts)));
        Upload::new(&storage, "memory://up/file", shared).unwrap()
    }

    async fn put(upload: &mut Upload, bytes: usize) -> Result<()> {
        upload.put(Bytes::from(vec![7; bytes])).await
    }

    async fn length(store: &FaultyStore) -> Option<u64> {
        store.inner().head(&"file".into()).await.ok().map(|meta| meta.size)
    }

    /// Waits, for as long as a test may take, until the upload that was begun is aborted.
    async fn aborted(store: &FaultyStore) {
        for _ in 0..1000 {
            if store.count(OpKind::StartUpload) == store.count(OpKind::Abort) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("an upload was left behind: {:?}", store.ops());
    }

    #[tokio::test]
    async fn few_bytes_are_one_request_and_many_are_parts() {
        for bytes in [0, 1, PART - 1, PART, PART + 1, 3 * PART + 17] {
            let store = FaultyStore::in_memory();
            let mut upload = upload(&store, 2);
            let shared = upload.shared.clone();
            // In pieces that are no divisor of a part.
            for piece in vec![7_u8; bytes].chunks(1_000_003) {
                upload.put(Bytes::copy_from_slice(piece)).await.unwrap();
            }
            assert!(upload.buffered() < PART);
            upload.finish().await.unwrap();
            assert_eq!(length(&store).await, Some(bytes as u64));
            assert_eq!(store.count(OpKind::Put), usize::from(bytes < PART));
            assert_eq!(store.count(OpKind::PutPart), if bytes < PART { 0 } else { bytes.div_ceil(PART) });
            assert_eq!((shared.in_flight(), store.count(OpKind::Abort)), (0, 0));
        }
    }

    #[tokio::test]
    async fn parts_on_their_way_are_counted_and_bounded() {
        let store = FaultyStore::in_memory();
        store.arm_when(|op| (op.kind == OpKind::PutPart).then_some(Fault::Delay(Duration::from_millis(20))));
        let mut upload = upload(&store, 2);
        for _ in 0..6 {
            put(&mut upload, PART).await.unwrap();
            assert!(upload.shared.in_flight() <= 2 * PART);
        }
        assert!(upload.shared.in_flight() > 0);
        upload.drain().await.unwrap();
        assert_eq!(upload.shared.in_flight(), 0);
        upload.finish().await.unwrap();
        assert_eq!(length(&store).await, Some(6 * PART as u64));
    }

    #[tokio::test]
    async fn an_upload_that_is_dropped_at_any_request_is_aborted() {
        for slow in [OpKind::StartUpload, OpKind::PutPart, OpKind::Complete] {
            let store = FaultyStore::in_memory();
            store.arm_when(move |op| (op.kind == slow).then_some(Fault::Delay(Duration::from_millis(60))));
            let mut upload = upload(&store, 8);
            let shared = upload.shared.clone();
            let whole = async move {
                put(&mut upload, 2 * PART).await?;
                upload.finish().await
            };
            tokio::time::timeout(Duration::from_millis(20), whole).await.expect_err("it was to be dropped");
            aborted(&store).await;
            assert_eq!((store.count(OpKind::Abort), length(&store).await), (1, None), "{slow:?}");
            assert_eq!(shared.in_flight(), 0);
        }
    }

    #[tokio::test]
    async fn an_upload_is_aborted_though_nobody_waits_for_it() {
        let store = FaultyStore::in_memory();
        let slow = |op: &icefield_testkit::Op| op.kind == OpKind::StartUpload;
        store.arm_when(move |op| slow(op).then_some(Fault::Delay(Duration::from_millis(60))));
        let mut upload = upload(&store, 8);
        let begun = tokio::time::timeout(Duration::from_millis(10), put(&mut upload, PART)).await;
        begun.expect_err("it was to be dropped");
        let ended = tokio::time::timeout(Duration::from_millis(10), upload.abort()).await;
        ended.expect_err("it was to be dropped too");
        aborted(&store).await;
        assert_eq!((store.count(OpKind::Abort), length(&store).await), (1, None));
    }

    #[tokio::test]
    async fn an_upload_that_fails_at_any_request_is_aborted() {
        for failing in [OpKind::PutPart, OpKind::Complete] {
            let store = FaultyStore::in_memory();
            store.arm_when(move |op| (op.kind == failing).then_some(Fault::Fail));
            let mut upload = upload(&store, 8);
            put(&mut upload, PART).await.unwrap();
            upload.finish().await.unwrap_err();
            assert_eq!((store.count(OpKind::Abort), length(&store).await), (1, None), "{failing:?}");
        }
    }

    #[test]
    fn an_upload_that_is_dropped_outside_of_its_runtime_is_aborted() {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let store = FaultyStore::in_memory();
        let begun = runtime.block_on(async {
            let mut upload = upload(&store, 8);
            put(&mut upload, PART).await.unwrap();
            upload
        });
        drop(begun);
        runtime.block_on(aborted(&store));
    }
}
