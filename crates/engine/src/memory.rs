//! What a sort sets aside of a memory budget.

use datafusion::prelude::SessionConfig;

/// The configuration, under which a small memory budget of `limit` bytes does not refuse to sort at all: what each sort sets
/// aside for merging its spilled runs (10 MB, unless configured) has to fit.
pub(crate) fn with_room_to_merge(config: SessionConfig, limit: usize) -> SessionConfig {
    let aside = limit / (8 * config.target_partitions().max(1));
    if config.options().execution.sort_spill_reservation_bytes <= aside {
        return config;
    }
    config.with_sort_spill_reservation_bytes(aside)
}
