//! Memory: the pool that sessions share out, its default size, and what a sort sets aside of it.

mod machine;
mod pool;

use std::path::Path;

use datafusion::prelude::SessionConfig;

pub use pool::SharedMemoryPool;

/// How much of the machine's memory a session's pool has unless told otherwise, in percent.
const DEFAULT_PERCENT: u64 = 60;
/// The least that a session's pool has unless told otherwise, in bytes.
const LEAST: usize = 128 << 20;
/// What it has where the system does not tell how much memory there is, in bytes.
const UNKNOWN: usize = 1 << 30;

/// What queries and writes may hold in memory unless a budget is given, in bytes: 60 % of what this process may use, be that
/// the machine's memory or its control group's, and 128 MiB at least.
pub(crate) fn default_budget() -> usize {
    let Some(bytes) = machine::memory(Path::new("/")) else { return UNKNOWN };
    let share = bytes / 100 * DEFAULT_PERCENT;
    usize::try_from(share).unwrap_or(usize::MAX).max(LEAST)
}

/// The configuration, under which a small memory budget of `limit` bytes does not refuse to sort at all: what each sort sets
/// aside for merging its spilled runs (10 MB, unless configured) has to fit.
pub(crate) fn with_room_to_merge(config: SessionConfig, limit: usize) -> SessionConfig {
    let aside = limit / (8 * config.target_partitions().max(1));
    if config.options().execution.sort_spill_reservation_bytes <= aside {
        return config;
    }
    config.with_sort_spill_reservation_bytes(aside)
}
