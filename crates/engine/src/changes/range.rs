//! From two snapshots to those between them.

use iceberg::spec::SnapshotRef;
use icefield_core::{AsOf, Error, ErrorKind, Result, Table};

use super::start::Start;

/// A snapshot's id. One that is named by its id need not be there any more.
fn id(table: &Table, as_of: &AsOf) -> Result<i64> {
    if let AsOf::Snapshot(id) = as_of {
        return Ok(*id);
    }
    let snapshot = match table.snapshot_as_of(as_of) {
        // Before the oldest snapshot that is left is no time before the first.
        Err(error) if matches!(as_of, AsOf::Timestamp(_)) && !is_whole(table) => {
            return Err(expired(table).with_source(error));
        }
        found => found?,
    };
    snapshot.map(|snapshot| snapshot.snapshot_id()).ok_or_else(|| {
        Error::not_found("the table has no snapshot yet; write to it first").with("table", table.ident())
    })
}

/// Whether the current snapshot's history goes back to the table's first.
fn is_whole(table: &Table) -> bool {
    let current = table.metadata().current_snapshot_id();
    let first = current.and_then(|current| table.ancestors(current).last());
    first.is_none_or(|first| first.parent_snapshot_id().is_none())
}

fn expired(table: &Table) -> Error {
    let message = "what came to the table after the first snapshot is not known any more, snapshots have expired; read the table \
                   as it is, and go on from its current snapshot";
    Error::new(ErrorKind::Expired, message).with("table", table.ident())
}

/// The snapshots after `from` and up to `to`, oldest first.
///
/// # Errors
/// [`Expired`](ErrorKind::Expired) when some of them may have; [`InvalidInput`](ErrorKind::InvalidInput) when `from` is no ancestor
/// of `to`.
pub(super) fn between(table: &Table, from: &Start, to: &AsOf) -> Result<Vec<SnapshotRef>> {
    let from = match from {
        Start::Beginning => None,
        Start::After(from) => Some(id(table, from)?),
    };
    if from.is_none() && matches!(to, AsOf::Current) && table.metadata().current_snapshot().is_none() {
        return Ok(Vec::new());
    }
    let to = id(table, to)?;
    table.snapshot_as_of(&AsOf::Snapshot(to))?;
    if from == Some(to) {
        return Ok(Vec::new());
    }
    let mut between = Vec::new();
    for snapshot in table.ancestors(to) {
        between.push(snapshot.clone());
        if snapshot.parent_snapshot_id() == from {
            between.reverse();
            return Ok(between);
        }
    }
    let first = between.last().and_then(|oldest| oldest.parent_snapshot_id());
    let Some(from) = from else { return Err(expired(table).with("to", to)) };
    let may_have_expired = first.is_some() && table.metadata().snapshot_by_id(from).is_none();
    let error = match may_have_expired {
        true => expired(table),
        false => {
            Error::invalid_input("the first snapshot is not an ancestor of the last; see the table's history")
                .with("table", table.ident())
        }
    };
    Err(error.with("from", from).with("to", to))
}
