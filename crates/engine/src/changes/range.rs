//! From two snapshots to those between them.

use iceberg::spec::SnapshotRef;
use icefield_core::{AsOf, Error, Result, Table};

/// A snapshot's id. One that is named by its id need not be there any more.
fn id(table: &Table, as_of: &AsOf) -> Result<i64> {
    if let AsOf::Snapshot(id) = as_of {
        return Ok(*id);
    }
    let snapshot = table.snapshot_as_of(as_of)?;
    snapshot.map(|snapshot| snapshot.snapshot_id()).ok_or_else(|| {
        Error::not_found("the table has no snapshot yet; write to it first").with("table", table.ident())
    })
}

/// The snapshots after `from` and up to `to`, oldest first.
pub(super) fn between(table: &Table, from: &AsOf, to: &AsOf) -> Result<Vec<SnapshotRef>> {
    let (from, to) = (id(table, from)?, id(table, to)?);
    table.snapshot_as_of(&AsOf::Snapshot(to))?;
    let mut between = Vec::new();
    let mut reached = from == to;
    if !reached {
        for snapshot in table.ancestors(to) {
            between.push(snapshot.clone());
            reached = snapshot.parent_snapshot_id() == Some(from);
            if reached {
                break;
            }
        }
    }
    if !reached {
        return Err(Error::invalid_input(
            "the first snapshot is not an ancestor of the last, or those between them have expired; see the table's history",
        )
        .with("table", table.ident())
        .with("from", from)
        .with("to", to));
    }
    between.reverse();
    Ok(between)
}
