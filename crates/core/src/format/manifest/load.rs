//! [`ManifestReader`]: a table's manifests off its store, several at once, as far as memory goes.

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use iceberg::spec::{ManifestFile, TableMetadata};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::types::TableTypes;
use super::{Manifest, unreadable};
use crate::error::{Error, Result};
use crate::storage::Storage;

/// The most requests at once.
const CONCURRENCY: usize = 32;
/// About what manifests that are read at once, and what became of them before it is taken, may hold together, in bytes.
const MEMORY: usize = 64 << 20;
/// For each byte of a manifest about so many are held while it is worked on. Compressed ones are five to eight times as long
/// when they are not, and a visitor keeps some of that.
const HELD_PER_BYTE: usize = 8;
/// The unit of what is held, in bytes.
const UNIT: usize = 1 << 10;

/// Reads the manifests of a table. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ManifestReader {
    storage: Storage,
    types: TableTypes,
}

impl ManifestReader {
    /// A reader of a table's manifests.
    pub fn new(storage: &Storage, metadata: &TableMetadata) -> Self {
        Self { storage: storage.clone(), types: TableTypes::new(metadata) }
    }

    /// A reader of manifests of no known table: for [`Manifest::locations`].
    pub fn of_any_table(storage: &Storage) -> Self {
        Self { storage: storage.clone(), types: TableTypes::default() }
    }

    /// Reads a manifest's file. One request.
    ///
    /// # Errors
    /// [`DataInvalid`](crate::ErrorKind::DataInvalid) naming the file when it is no manifest.
    pub async fn open(&self, manifest: &ManifestFile) -> Result<Manifest> {
        let location = manifest.manifest_path.as_str();
        let file = self.storage.read(location).await.map_err(|e| unreadable(e, location))?;
        self.open_held(file, manifest)
    }

    /// A manifest whose file is in memory.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_held(&self, file: Bytes, manifest: &ManifestFile) -> Result<Manifest> {
        Manifest::of_types(file, self.types.clone(), manifest.clone())
    }

    /// What `work` makes of each manifest, in their order. Manifests are read ahead as far as their lengths allow, and each
    /// is worked on in a task of its own.
    pub fn each<T, W>(&self, manifests: Vec<ManifestFile>, work: W) -> BoxStream<'static, Result<T>>
    where
        T: Send + 'static,
        W: Fn(&Manifest) -> Result<T> + Clone + Send + Sync + 'static,
    {
        let reader = self.clone();
        load_bounded(manifests, move |manifest| {
            let (reader, work) = (reader.clone(), work.clone());
            async move {
                let manifest = reader.open(&manifest).await?;
                work(&manifest)
            }
        })
    }
}

/// What `load` makes of each manifest, in their order, several at once, each in a task of its own. How many follows from their
/// lengths: what is read at once, and not taken yet, is bounded in bytes.
pub fn load_bounded<T, F>(
    manifests: Vec<ManifestFile>,
    load: impl Fn(ManifestFile) -> F + Send + 'static,
) -> BoxStream<'static, Result<T>>
where
    T: Send + 'static,
    F: Future<Output = Result<T>> + Send + 'static,
{
    let room = Arc::new(Semaphore::new(MEMORY / UNIT));
    // One after the other waits for room, so that the first of those that are read always has it.
    let admitted = stream::iter(manifests).then(move |manifest| {
        let room = room.clone();
        async move {
            let length = usize::try_from(manifest.manifest_length).unwrap_or_default();
            let units = (length.saturating_mul(HELD_PER_BYTE) / UNIT).clamp(1, MEMORY / UNIT);
            let held = room.acquire_many_owned(units as u32).await;
            held.map(|held| (manifest, held)).map_err(|e| Error::internal("room is gone").with_source(e))
        }
    });
    let loads = admitted.map(move |admitted| {
        let load = admitted.map(|(manifest, held)| (load(manifest), held));
        async move {
            let (load, held) = load?;
            Ok((in_task(load).await?, held))
        }
    });
    // What was made is held until it is taken.
    loads.buffered(CONCURRENCY).map_ok(|(made, _)| made).boxed()
}

/// Runs a future in a task of its own, which ends when the caller does, if there is a runtime that has tasks.
async fn in_task<T: Send + 'static>(work: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
    if tokio::runtime::Handle::try_current().is_err() {
        return work.await;
    }
    let mut tasks = JoinSet::new();
    tasks.spawn(work);
    match tasks.join_next().await {
        Some(Ok(done)) => done,
        Some(Err(e)) => Err(Error::internal("reading a manifest did not finish").with_source(e)),
        None => Err(Error::internal("reading a manifest did not begin")),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use iceberg::spec::ManifestContentType;

    use super::*;

    fn manifest(n: usize, length: i64) -> ManifestFile {
        ManifestFile {
            manifest_path: n.to_string(),
            manifest_length: length,
            partition_spec_id: 0,
            content: ManifestContentType::Data,
            sequence_number: 1,
            min_sequence_number: 1,
            added_snapshot_id: 1,
            added_files_count: None,
            existing_files_count: None,
            deleted_files_count: None,
            added_rows_count: None,
            existing_rows_count: None,
            deleted_rows_count: None,
            partitions: None,
            key_metadata: None,
            first_row_id: None,
        }
    }

    #[tokio::test]
    async fn what_is_read_ahead_is_bounded_in_bytes() {
        /// Counts what is held as long as it is.
        struct Held(String, i64, Arc<AtomicI64>);

        impl Drop for Held {
            fn drop(&mut self) {
                self.2.fetch_sub(self.1, Ordering::SeqCst);
            }
        }

        const MIB: i64 = 1 << 20;
        // One is larger than all that may be held, and comes alone.
        let lengths = [1, 3, MIB, 2 * MIB, 2 * MIB, 3 * MIB, 100 * MIB, MIB, 1, 1, -1];
        let manifests = (0..).zip(lengths).map(|(n, length)| manifest(n, length)).collect();
        let (now, most) = (Arc::new(AtomicI64::new(0)), Arc::new(AtomicI64::new(0)));
        let (counted, peak) = (now.clone(), most.clone());
        let mut loads = load_bounded(manifests, move |manifest| {
            let (now, most) = (counted.clone(), peak.clone());
            async move {
                let length = manifest.manifest_length.max(0);
                let held = now.fetch_add(length, Ordering::SeqCst) + length;
                if length < 100 * MIB {
                    most.fetch_max(held, Ordering::SeqCst);
                }
                tokio::task::yield_now().await;
                match manifest.manifest_length {
                    -1 => Err(Error::data_invalid("broken")),
                    _ => Ok(Held(manifest.manifest_path, length, now)),
                }
            }
        });
        let mut seen = Vec::new();
        while let Some(held) = loads.next().await {
            seen.push(held.map_or_else(|e| e.kind().to_string(), |held| held.0.clone()));
        }
        assert_eq!(seen.len(), 11);
        assert_eq!(seen[..10], (0..10).map(|n| n.to_string()).collect::<Vec<_>>());
        assert!(most.load(Ordering::SeqCst) <= 8 * MIB, "{most:?} of {} held", MEMORY / HELD_PER_BYTE);
        assert_eq!(now.load(Ordering::SeqCst), 0);
    }
}
