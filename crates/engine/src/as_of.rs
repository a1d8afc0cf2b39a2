//! [`IntoAsOf`]: what names a snapshot of a table.

use icefield_core::table::MAIN_BRANCH;
use icefield_core::{AsOf, Error, Result, Table};

use crate::sql::parse_timestamp_ms;

/// What names a snapshot of a table.
pub trait IntoAsOf {
    /// The snapshot that is meant.
    fn into_as_of(self, table: &Table) -> Result<AsOf>;
}

impl IntoAsOf for AsOf {
    fn into_as_of(self, _: &Table) -> Result<AsOf> {
        Ok(self)
    }
}

/// A snapshot id.
impl IntoAsOf for i64 {
    fn into_as_of(self, _: &Table) -> Result<AsOf> {
        Ok(AsOf::Snapshot(self))
    }
}

/// A branch or tag of the table, else a snapshot id that it has, else a time.
impl IntoAsOf for &str {
    fn into_as_of(self, table: &Table) -> Result<AsOf> {
        if table.metadata().snapshot_for_ref(self).is_some() || self == MAIN_BRANCH {
            return Ok(AsOf::Ref(self.to_string()));
        }
        if let Ok(id) = self.parse::<i64>()
            && table.metadata().snapshot_by_id(id).is_some()
        {
            return Ok(AsOf::Snapshot(id));
        }
        parse_timestamp_ms(self).map(AsOf::Timestamp).map_err(|_| {
            Error::not_found("no such branch, tag or snapshot, and not a time such as 2024-06-30T00:00:00Z")
                .with("table", table.ident())
                .with("as_of", self)
        })
    }
}

impl IntoAsOf for String {
    fn into_as_of(self, table: &Table) -> Result<AsOf> {
        self.as_str().into_as_of(table)
    }
}
