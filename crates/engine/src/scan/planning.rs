//! [`PlanningMemory`]: what planning a scan holds of manifests and their lists, taken from the session's memory pool.
//!
//! A manifest of a few kilobytes may say of millions of files what it likes. What its entries become is counted as they are
//! decoded, so that too many are an error, not the end of the process.

use datafusion::execution::memory_pool::MemoryReservation;
use iceberg::spec::{FieldSummary, ManifestFile};
use icefield_core::{Error, ErrorKind, Result};

/// What is counted is taken in steps of so many bytes.
const STEP: usize = 256 << 10;

/// Memory that planning took for something, until it is dropped. Without a pool it only counts.
#[derive(Debug, Default)]
pub(super) struct PlanningMemory {
    pool: Option<MemoryReservation>,
    /// What was counted since the last step.
    counted: usize,
}

impl PlanningMemory {
    pub(super) fn new(pool: Option<MemoryReservation>) -> Self {
        Self { pool, counted: 0 }
    }

    /// Memory for something else of the same plan.
    pub(super) fn another(&self) -> Self {
        Self::new(self.pool.as_ref().map(MemoryReservation::new_empty))
    }

    /// Takes so many bytes more, now or with the next step.
    ///
    /// # Errors
    /// [`ResourceExhausted`](ErrorKind::ResourceExhausted) when the session has no more.
    pub(super) fn add(&mut self, bytes: usize) -> Result<()> {
        self.counted = self.counted.saturating_add(bytes);
        if self.counted < STEP {
            return Ok(());
        }
        let bytes = std::mem::take(&mut self.counted);
        self.pool.as_ref().map_or(Ok(()), |pool| pool.try_grow(bytes).map_err(exhausted))
    }

    /// Holds so many bytes from now on, whatever was counted.
    ///
    /// # Errors
    /// As [`add`](Self::add).
    pub(super) fn hold(&mut self, bytes: usize) -> Result<()> {
        self.counted = 0;
        self.pool.as_ref().map_or(Ok(()), |pool| pool.try_resize(bytes).map_err(exhausted))
    }
}

fn exhausted(error: datafusion::common::DataFusionError) -> Error {
    Error::new(
        ErrorKind::ResourceExhausted,
        "what the table's manifests say of its files doesn't fit into the session's memory; compact the table, name fewer \
         columns, or give the session a larger memory budget",
    )
    .with_source(error)
}

/// About what a manifest list's entry takes in memory.
pub(super) fn listed_bytes(manifest: &ManifestFile) -> usize {
    let bound = |summary: &FieldSummary| {
        let bounds = [&summary.lower_bound, &summary.upper_bound].into_iter().flatten();
        size_of::<FieldSummary>() + bounds.map(|bytes| bytes.len()).sum::<usize>()
    };
    let summaries: usize = manifest.partitions.iter().flatten().map(bound).sum();
    let key = manifest.key_metadata.as_ref().map_or(0, |key| key.len());
    size_of::<ManifestFile>() + manifest.manifest_path.len() + summaries + key
}
