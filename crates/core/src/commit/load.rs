//! Work on manifests in their order, several at once and on all cores, within bounds of memory.

use std::collections::VecDeque;
use std::sync::Arc;

use futures::future::BoxFuture;
use iceberg::spec::{ManifestFile, TableMetadata};
use tokio::task::JoinHandle;

use crate::error::{Error, Result};
use crate::format::{ManifestContent, ManifestReader, WantedStatistics};
use crate::storage::Storage;

/// The most manifests at work at once.
const MOST: usize = 16;

/// The most bytes of manifest files at work at once, unless a single one has more. Decoded they take some times as much.
const MOST_BYTES: u64 = 16 << 20;

/// What is done to each manifest.
type Work<T> = Arc<dyn Fn(ManifestFile) -> BoxFuture<'static, Result<T>> + Send + Sync>;

/// Manifests that are worked on in tasks of their own, a few ahead of the one that is asked for.
pub(super) struct Loads<T> {
    waiting: VecDeque<ManifestFile>,
    running: VecDeque<Running<T>>,
    bytes: u64,
    work: Work<T>,
}

struct Running<T> {
    bytes: u64,
    task: JoinHandle<Result<T>>,
}

impl<T: Send + 'static> Loads<T> {
    pub(super) fn new<F>(
        manifests: impl IntoIterator<Item = ManifestFile>,
        work: impl Fn(ManifestFile) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Result<T>> + Send + 'static,
    {
        Self {
            waiting: manifests.into_iter().collect(),
            running: VecDeque::new(),
            bytes: 0,
            work: Arc::new(move |manifest| Box::pin(work(manifest))),
        }
    }

    /// What came of the next manifest; `None` after the last.
    pub(super) async fn next(&mut self) -> Result<Option<T>> {
        while let Some(manifest) = self.waiting.front() {
            let bytes = u64::try_from(manifest.manifest_length).unwrap_or_default();
            let full = self.running.len() >= MOST || self.bytes.saturating_add(bytes) > MOST_BYTES;
            if full && !self.running.is_empty() {
                break;
            }
            if let Some(manifest) = self.waiting.pop_front() {
                self.bytes = self.bytes.saturating_add(bytes);
                self.running.push_back(Running { bytes, task: tokio::spawn((self.work)(manifest)) });
            }
        }
        let Some(running) = self.running.front_mut() else { return Ok(None) };
        let outcome = (&mut running.task).await;
        self.bytes = self.bytes.saturating_sub(running.bytes);
        self.running.pop_front();
        match outcome {
            Ok(outcome) => outcome.map(Some),
            Err(e) => Err(Error::internal("reading a manifest was cut off").with_source(e)),
        }
    }
}

impl<T> Drop for Loads<T> {
    fn drop(&mut self) {
        self.running.iter().for_each(|running| running.task.abort());
    }
}

/// The contents of manifests, in order, with the statistics that are wanted.
pub(super) fn load_each(
    storage: &Storage,
    metadata: &TableMetadata,
    manifests: impl IntoIterator<Item = ManifestFile>,
    statistics: WantedStatistics,
) -> Loads<ManifestContent> {
    let reader = ManifestReader::new(storage, metadata);
    Loads::new(manifests, move |manifest| {
        let (reader, statistics) = (reader.clone(), statistics.clone());
        async move { reader.open(&manifest).await?.content_with(&statistics) }
    })
}

/// Loads manifests whole, in their order.
pub(super) async fn load_all(
    storage: &Storage,
    metadata: &TableMetadata,
    manifests: &[ManifestFile],
) -> Result<Vec<ManifestContent>> {
    let mut loads = load_each(storage, metadata, manifests.iter().cloned(), WantedStatistics::All);
    let mut contents = Vec::with_capacity(manifests.len());
    while let Some(content) = loads.next().await? {
        contents.push(content);
    }
    Ok(contents)
}
