//! Tables whose latest change was stamped by a clock that is ahead of this one.
//!
//! `iceberg`'s metadata builder stamps a change that adds no snapshot with the system's time, and refuses it where that is
//! more than a minute before the table's last one. But clocks of writers differ, a table's history must not run backwards, and
//! no writer may lock the others out. So the builder works on a copy whose times are as much earlier as the clock is behind,
//! and what it makes is moved back.

use iceberg::TableUpdate;
use iceberg::spec::TableMetadata;
use serde_json::Value;

use crate::clock::{Clock, SystemClock};

/// By how many milliseconds the table's time is ahead of the one that the builder would give; 0 for updates that add a
/// snapshot, which has a time of its own.
pub(super) fn ahead_ms(metadata: &TableMetadata, updates: &[TableUpdate]) -> i64 {
    if updates.iter().any(|update| matches!(update, TableUpdate::AddSnapshot { .. })) {
        return 0;
    }
    match metadata.last_updated_ms().saturating_sub(SystemClock.now_ms()) {
        // A millisecond more, so that the change comes after the one before it.
        ahead if ahead > 0 => ahead.saturating_add(1),
        _ => 0,
    }
}

/// Moves the metadata's own time and its logs. Snapshots keep theirs.
pub(super) fn move_by(json: &mut Value, by_ms: i64) {
    let add = |time: Option<&mut Value>| {
        if let Some(time) = time
            && let Some(ms) = time.as_i64()
        {
            *time = Value::from(ms.saturating_add(by_ms));
        }
    };
    add(json.get_mut("last-updated-ms"));
    for log in ["snapshot-log", "metadata-log"] {
        let entries = json.get_mut(log).and_then(Value::as_array_mut);
        entries.into_iter().flatten().for_each(|entry| add(entry.get_mut("timestamp-ms")));
    }
}
