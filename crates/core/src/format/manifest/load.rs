//! [`ManifestReader`]: a table's manifests off its store, several at once, as far as memory goes.

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use iceberg::spec::{ManifestFile, TableMetadata};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::read::Manifest;
use super::room::{MEMORY, Room, UNIT};
use super::types::TableTypes;
use crate::error::{Error, ErrorKind, Result};
use crate::format::source::{broken, unreadable};
use crate::storage::Storage;

/// The most requests at once.
const CONCURRENCY: usize = 32;
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
        self.open_within(manifest, Room::MOST).await
    }

    /// Reads a manifest's file where there is room for it. One request.
    ///
    /// # Errors
    /// As [`open`](Self::open); [`ResourceExhausted`](ErrorKind::ResourceExhausted) for a file that is longer, and from the
    /// manifest's own functions for one with a larger block.
    pub async fn open_within(&self, manifest: &ManifestFile, room: Room) -> Result<Manifest> {
        let location = manifest.manifest_path.as_str();
        let read = self.storage.read_within(location, room.file).await;
        let file = read.map_err(|e| match e.kind() {
            ErrorKind::ResourceExhausted if room == Room::MOST => broken("it is too long").with_source(e),
            _ => e,
        });
        let file = file.map_err(|e| unreadable(e, location))?;
        Manifest::of_types(file, self.types.clone(), manifest.clone(), room)
    }

    /// A manifest whose file is in memory.
    ///
    /// # Errors
    /// As [`open_within`](Self::open_within).
    pub fn open_held(&self, file: Bytes, manifest: &ManifestFile, room: Room) -> Result<Manifest> {
        Manifest::of_types(file, self.types.clone(), manifest.clone(), room)
    }

    /// What `work` makes of each manifest, in their order. Manifests are read ahead as far as their lengths allow, and each
    /// is worked on in a task of its own.
    pub fn each<T, W>(&self, manifests: Vec<ManifestFile>, work: W) -> BoxStream<'static, Result<T>>
    where
        T: Send + 'static,
        W: Fn(&Manifest) -> Result<T> + Clone + Send + Sync + 'static,
    {
        let reader = self.clone();
        load_bounded(manifests, move |manifest, room| {
            let (reader, work) = (reader.clone(), work.clone());
            async move {
                let manifest = reader.open_within(&manifest, room).await?;
                work(&manifest)
            }
        })
    }
}

/// What `load` makes of each manifest, in their order, several at once, each in a task of its own. How many follows from their
/// lengths: what is read at once, and not taken yet, is bounded in bytes.
///
/// A manifest's list may claim any length. `load` gets the room that there is for a manifest of that one; where it finds no place
/// in it ([`ResourceExhausted`](ErrorKind::ResourceExhausted)) it runs again, with all room, once the manifest is the next to be
/// taken: no two such are held at once.
pub fn load_bounded<T, F>(
    manifests: Vec<ManifestFile>,
    load: impl Fn(ManifestFile, Room) -> F + Clone + Send + 'static,
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
            let (granted, units) = Room::of(usize::try_from(manifest.manifest_length).unwrap_or_default());
            let held = room.acquire_many_owned(units as u32).await;
            let held = held.map_err(|e| Error::internal("room is gone").with_source(e))?;
            Ok::<_, Error>((manifest, granted, held))
        }
    });
    let again = load.clone();
    let loads = admitted.map(move |admitted| {
        let load =
            admitted.map(|(manifest, granted, held)| (load(manifest.clone(), granted), manifest, held));
        async move {
            let (load, manifest, held) = load?;
            Ok::<_, Error>((in_task(load).await, manifest, held))
        }
    });
    // What was made is held until it is taken.
    let taken = loads.buffered(CONCURRENCY).and_then(move |(made, manifest, _held)| {
        let again = match &made {
            Err(e) if e.kind() == ErrorKind::ResourceExhausted => Some(again(manifest, Room::MOST)),
            _ => None,
        };
        async move {
            match again {
                Some(again) => in_task(again).await,
                None => made,
            }
        }
    });
    taken.boxed()
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

    use super::super::unlisted;
    use super::*;
    use crate::format::manifest::room::HELD_PER_BYTE;

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
        let manifests =
            (0..).zip(lengths).map(|(n, length): (usize, i64)| unlisted(n.to_string(), length)).collect();
        let (now, most) = (Arc::new(AtomicI64::new(0)), Arc::new(AtomicI64::new(0)));
        let (counted, peak) = (now.clone(), most.clone());
        let mut loads = load_bounded(manifests, move |manifest, _| {
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
